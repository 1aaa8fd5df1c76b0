//! What a replica holds: one look at its listings, and the few questions that listings leave open.

use crate::restore::limits;
use crate::survey::read_range;
use litekeep_core::restore::{
    Catalog, LtxFile, NoPlan, Point, Search, Target, newest_before, plan_latest, plan_txid, v3,
};
use litekeep_formats::ltx::Header;
use litekeep_formats::{Checksum, Epoch, Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{Entry, EpochRecord, ErrorKind, Key, Scope, Store, StoreError, V3Generation};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// One look.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// All LTX files.
    pub catalog: Catalog,
    /// The newest epoch that was opened or closed.
    pub opened: Option<Epoch>,
    /// Somebody claimed an epoch.
    pub claimed: bool,
    /// All v0.3 snapshots.
    pub v3_snapshots: Vec<v3::Snapshot>,
}

/// Lists everything but v0.3 WAL segments.
///
/// # Errors
/// The first one of any listing: a listing that fails is never taken for an empty one.
pub fn look(store: &dyn Store, parallelism: usize) -> Result<Look, StoreError> {
    let scopes = [Scope::From(Level::SLOTS), Scope::Epochs, Scope::V3Snapshots];
    let mut look = Look::default();
    let mut files = Vec::new();
    for entry in each(parallelism, &scopes, |scope| store.list(scope))?.into_iter().flatten() {
        match entry.key {
            Key::Ltx(..) => files.extend(ltx_file(&entry)),
            Key::Epoch(epoch, EpochRecord::Open | EpochRecord::Closed) => {
                look.opened = look.opened.max(Some(epoch));
                look.claimed = true;
            }
            Key::Epoch(_, EpochRecord::Claim) => look.claimed = true,
            Key::V3Snapshot(generation, index) => look.v3_snapshots.push(v3::Snapshot {
                generation: generation.0,
                index,
                size: entry.size,
                time: entry.modified,
            }),
            Key::V3Wal(..) => {}
        }
    }
    if files.is_empty() {
        files = each_level(store)?;
    }
    look.catalog = files.into_iter().collect();
    Ok(look)
}

/// All levels, as a catalogue. What is moved up and deleted while it is listed is found in one place or in both: levels
/// come in their order.
///
/// # Errors
/// The listing's.
pub fn catalog(store: &dyn Store) -> Result<Catalog, StoreError> {
    let files: Vec<LtxFile> = store.list(&Scope::From(Level::SLOTS))?.iter().filter_map(ltx_file).collect();
    Ok(if files.is_empty() { each_level(store)? } else { files }.into_iter().collect())
}

/// That nothing is there is not believed of one listing, which may lag (R60): each level is asked for.
fn each_level(store: &dyn Store) -> Result<Vec<LtxFile>, StoreError> {
    let mut files = Vec::new();
    for level in Level::all() {
        files.extend(store.list(&Scope::Level(level))?.iter().filter_map(ltx_file));
    }
    Ok(files)
}

fn ltx_file(entry: &Entry) -> Option<LtxFile> {
    let Key::Ltx(level, range) = entry.key else { return None };
    Some(LtxFile { level, range, size: entry.size, modified: entry.modified, timestamp: entry.timestamp })
}

/// The v0.3 generations of these snapshots with their WAL segments.
pub(crate) fn generations(
    store: &dyn Store,
    snapshots: &[v3::Snapshot],
    only: Option<V3Generation>,
    parallelism: usize,
) -> Result<Vec<v3::Generation>, StoreError> {
    let mut by_id: BTreeMap<u64, Vec<v3::Snapshot>> = BTreeMap::new();
    for snapshot in snapshots.iter().filter(|s| only.is_none_or(|only| only.0 == s.generation)) {
        by_id.entry(snapshot.generation).or_default().push(*snapshot);
    }
    let ids: Vec<u64> = by_id.keys().copied().collect();
    let lists = each(parallelism, &ids, |id| store.list(&Scope::V3Wal(V3Generation(*id))))?;
    let segment = |entry: &Entry| match entry.key {
        Key::V3Wal(_, index, offset) => {
            Some(v3::Segment { index, offset, size: entry.size, time: entry.modified })
        }
        _ => None,
    };
    Ok(by_id
        .into_iter()
        .zip(lists)
        .map(|((id, snapshots), segments)| v3::Generation {
            id,
            snapshots,
            segments: segments.iter().filter_map(segment).collect(),
        })
        .collect())
}

/// Whether this chain is ours: an epoch was opened, or one of the newest files carries a seal.
pub(crate) fn is_sealed(store: &dyn Store, look: &Look) -> Result<bool, StoreError> {
    if look.opened.is_some() {
        return Ok(true);
    }
    let newest = [Level::SLOTS, Level::SNAPSHOTS].map(|level| look.catalog.level(level).last().copied());
    for file in newest.into_iter().flatten() {
        if header(store, &file)?.is_some_and(|header| header.seal().is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A file's header; `None` if it is gone or is no LTX file.
///
/// # Errors
/// The store's, but for an object that is not there.
pub fn header(store: &dyn Store, file: &LtxFile) -> Result<Option<Header>, StoreError> {
    match read_range(store, &Key::Ltx(file.level, file.range), 0..Header::LEN as u64) {
        Ok(chunk) => Ok(Header::parse(&chunk.bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks for slots by name in a small hole: a listing may lag behind (docs/model.md, rule 10; R60).
pub(crate) fn fill_in(store: &dyn Store, catalog: &mut Catalog, target: Target) -> Result<(), StoreError> {
    let plan = match target {
        Target::Latest => plan_latest(catalog),
        Target::Txid(wanted) => plan_txid(catalog, wanted),
        Target::Timestamp(_) => return Ok(()),
    };
    let missing = match (plan, target) {
        (Err(NoPlan::Gap { missing, .. }), Target::Txid(wanted)) => {
            missing.min().get()..=missing.max().min(wanted).get()
        }
        (Err(NoPlan::Gap { missing, .. }), _) => missing.min().get()..=missing.max().get(),
        (Err(NoPlan::TxidNotAvailable { wanted, nearest }), _) => {
            nearest.before.map_or(0, Txid::get) + 1..=wanted.get()
        }
        _ => return Ok(()),
    };
    if missing.end().saturating_sub(*missing.start()) >= limits::ASK_BY_NAME {
        return Ok(());
    }
    for txid in missing.filter_map(Txid::new) {
        if let Some(file) = slot(store, txid)? {
            catalog.insert(file);
        }
    }
    Ok(())
}

/// Asks by name for slots that a listing does not show, from the newest file down to the oldest slot that it does: a slot
/// may say that an image of level 9 does not count, and the listing may show that image alone (R60). Slots are removed from
/// the oldest on, so the first name that is not there ends a hole, and a listing that does not lag costs no question.
pub(crate) fn fill_holes(store: &dyn Store, catalog: &mut Catalog) -> Result<(), StoreError> {
    let mut listed: Vec<TxidRange> = catalog.level(Level::SLOTS).iter().map(|slot| slot.range).collect();
    let (mut next, mut left) = (catalog.newest(), limits::ASK_BY_NAME);
    while let Some(txid) = next.filter(|_| left > 0) {
        let below = listed.last().copied();
        next = match below.filter(|range| TxidRange::max(*range) >= txid) {
            Some(range) => {
                listed.pop();
                range.min().previous().filter(|_| !listed.is_empty())
            }
            None => {
                left -= 1;
                let found = slot(store, txid)?;
                found.into_iter().for_each(|file| catalog.insert(file));
                found.map_or(below.map(|range| range.max()), |_| txid.previous())
            }
        };
    }
    Ok(())
}

/// Asks for slots by name past the newest file that a listing shows. What was written after this began is nobody's
/// promise: without that bound, an owner that writes as fast as we ask would keep us here for ever.
pub(crate) fn read_ahead(store: &dyn Store, catalog: &mut Catalog) -> Result<(), StoreError> {
    // A store may count in whole seconds.
    let begun = store.server_time().map(|time| time.0.saturating_add(1000));
    // Also where nothing is listed at all: a chain that has just begun is neither empty nor wiped.
    let mut next = catalog.newest().map_or(Txid::FIRST, Txid::next);
    while let Some(file) = slot(store, next)? {
        catalog.insert(file);
        let later = begun.is_some_and(|begun| file.modified.0 > begun);
        if later || next.next() == next {
            break;
        }
        next = next.next();
    }
    Ok(())
}

fn slot(store: &dyn Store, txid: Txid) -> Result<Option<LtxFile>, StoreError> {
    by_name(store, Level::SLOTS, TxidRange::single(txid))
}

/// What the store has under a name, whatever listings show; `None` if nothing.
pub(crate) fn by_name(
    store: &dyn Store,
    level: Level,
    range: TxidRange,
) -> Result<Option<LtxFile>, StoreError> {
    match store.head(&Key::Ltx(level, range)) {
        Ok(head) => Ok(Some(LtxFile {
            level,
            range,
            size: head.size,
            modified: head.modified,
            timestamp: Some(head.timestamp),
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The newest of `points` before a time, asking the store for as few files' times as that takes (R46).
pub(crate) fn search(
    store: &dyn Store,
    points: &[Point],
    wanted: TimestampMs,
    parallelism: usize,
) -> Result<Option<usize>, StoreError> {
    let mut times: Vec<Option<TimestampMs>> = points.iter().map(|point| point.file.timestamp).collect();
    loop {
        let ask = match newest_before(&times, wanted) {
            Search::Newest(found) => return Ok(found),
            Search::Ask(ask) => ask,
        };
        let answers = each(parallelism, &ask, |at| {
            let file = &points[*at].file;
            match store.head(&Key::Ltx(file.level, file.range)) {
                Ok(head) => Ok(head.timestamp),
                // Gone meanwhile: the plan that needs it will be made anew.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(file.modified),
                Err(error) => Err(error),
            }
        })?;
        for (at, time) in ask.into_iter().zip(answers) {
            times[at] = Some(time);
        }
    }
}

/// Asks about each item, several at a time; answers in the items' order.
pub(crate) fn each<I: Sync, T: Send>(
    parallelism: usize,
    items: &[I],
    ask: impl Fn(&I) -> Result<T, StoreError> + Sync,
) -> Result<Vec<T>, StoreError> {
    if parallelism <= 1 || items.len() <= 1 {
        return items.iter().map(ask).collect();
    }
    let next = AtomicUsize::new(0);
    let answers: Mutex<BTreeMap<usize, Result<T, StoreError>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..parallelism.min(items.len()).min(limits::PARALLELISM_MAX) {
            scope.spawn(|| {
                while let Some((at, item)) = next_item(&next, items) {
                    let answer = ask(item);
                    if answer.is_err() {
                        next.store(items.len(), Ordering::Relaxed); // the others need not begin more
                    }
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(at, answer);
                }
            });
        }
    });
    answers.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

fn next_item<'a, I>(next: &AtomicUsize, items: &'a [I]) -> Option<(usize, &'a I)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

/// The checksum of a listed file, from its last bytes; `None` if it is not there (any more).
pub(crate) fn file_checksum(
    store: &dyn Store,
    catalog: &Catalog,
    level: Level,
    range: TxidRange,
) -> Result<Option<Checksum>, StoreError> {
    let Some(file) = catalog.level(level).iter().find(|file| file.range == range) else { return Ok(None) };
    match read_range(store, &Key::Ltx(level, range), file.size.saturating_sub(8)..file.size) {
        Ok(chunk) if chunk.total == file.size => {
            let field = chunk.bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            Ok(Checksum::from_stored(field))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
