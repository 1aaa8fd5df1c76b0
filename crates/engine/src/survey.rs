//! Looks at a replica before anything is written to it: what lies in every level, how its chain ends, who claimed it.

use crate::error::KeepError;
use crate::restore::{self, Unfinished};
use litekeep_core::limits;
use litekeep_core::lineage::RemoteTip;
use litekeep_core::ownership::EpochFacts;
use litekeep_core::restore::{Catalog, LtxFile, Target, plan_latest};
use litekeep_core::retain;
use litekeep_formats::ltx::{Header, Trailer, WalSpan};
use litekeep_formats::{Checksum, Epoch, Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{Chunk, EpochRecord, ErrorKind, Failure, Key, Scope, Store, StoreError};
use std::ops::Range;

/// How the chain stands to the newest transaction of a file that it has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ours {
    /// It holds it, or nobody asked.
    #[default]
    Held,
    /// Something else stands under its number, or it does not count.
    Other,
    /// Nothing stands there any more: it was merged, or never came.
    Gone,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Survey {
    pub(crate) catalog: Catalog,
    /// The newest state that counts.
    pub(crate) tip: Option<RemoteTip>,
    /// The newest name, where an image was announced past the tip and not finished.
    pub(crate) unfinished: Option<Unfinished>,
    pub(crate) epochs: EpochFacts,
    /// The newest state cannot be restored: an object is missing (R32).
    pub(crate) hole: bool,
    /// What became of the transaction that was asked for.
    pub(crate) ours: Ours,
}

/// Lists everything and reads the ends of the newest files; `ours` is the file's newest transaction and its slot.
pub(crate) fn survey(store: &dyn Store, ours: Option<(Txid, Checksum)>) -> Result<Survey, KeepError> {
    let catalog = list_all(store)?;
    let mut epochs = epoch_facts(store)?;
    let ended = restore::ended(store, &catalog, 1)?;
    let mut tip = match ended.at {
        Some(txid) => Some(read_tip(store, &catalog, txid)?.ok_or_else(|| moved(store))?),
        None => None,
    };
    if let (Some(tip), Some(last)) = (&mut tip, ended.unfinished) {
        // Whoever announced there was the last to own, or whoever fenced it.
        tip.epoch = tip.epoch.max(last.epoch);
    }
    let seals = [Level::SLOTS, Level::SNAPSHOTS]
        .iter()
        .filter_map(|level| catalog.level(*level).iter().max_by_key(|file| file.range.max()));
    for file in seals {
        let epoch = read_ends(store, file)?.and_then(|(header, _)| header.seal()).map(|seal| seal.epoch);
        epochs.newest_seal = epochs.newest_seal.max(epoch);
    }
    let bare = |tip: &RemoteTip| {
        let slot = catalog.level(Level::SLOTS).iter().find(|slot| slot.range.max() == tip.txid);
        // Without a seal there is no mark; a file of this size has no page.
        tip.epoch.is_none() && slot.is_some_and(|slot| slot.size <= limits::BARE_BYTES)
    };
    let without = tip.filter(bare).map(|tip| restore::has_image(store, tip.txid)).transpose()? == Some(false);
    let plan = plan_latest(&catalog.up_to(ended.at));
    let hole = ended.missing || without || (plan.is_err() && ended.at.is_some());
    let passed = ours.filter(|(txid, _)| tip.is_some_and(|tip| tip.txid > *txid));
    let ours =
        passed.map(|(txid, slot)| look_for(store, &catalog, txid, slot)).transpose()?.unwrap_or_default();
    Ok(Survey { catalog, tip, unfinished: ended.unfinished, epochs, hole, ours })
}

/// What became of a slot that was built here, where the chain went on past it (R24).
fn look_for(store: &dyn Store, catalog: &Catalog, txid: Txid, slot: Checksum) -> Result<Ours, KeepError> {
    let range = TxidRange::single(txid);
    let listed = catalog.level(Level::SLOTS).iter().find(|file| file.range == range);
    let file = LtxFile { level: Level::SLOTS, range, size: 0, modified: TimestampMs(0), timestamp: None };
    let Some((header, trailer)) = read_ends(store, &file)? else { return Ok(Ours::Gone) };
    let late = listed.is_some_and(|file| retain::came_late(catalog, file));
    let passed = || Ok::<_, KeepError>(!restore::passed(store, &[txid])?.is_empty());
    let counts = trailer.file == slot && !late && !(header.content_is_elsewhere() && passed()?);
    Ok(if counts { Ours::Held } else { Ours::Other })
}

/// What was listed went on while it was read.
fn moved(store: &dyn Store) -> StoreError {
    let what = Failure::Text("the newest file went away while it was read".to_owned());
    StoreError::new(ErrorKind::Retry, "read", store.location(), what)
}

/// The LTX files of all levels, and what a listing that lags does not show yet (R60).
pub(crate) fn list_all(store: &dyn Store) -> Result<Catalog, StoreError> {
    let mut catalog = restore::catalog(store)?;
    restore::fill_in(store, &mut catalog, Target::Latest)?;
    restore::read_ahead(store, &mut catalog)?;
    Ok(catalog)
}

/// The same, by someone who knows of files: what of them is not listed is asked for by its name before it counts as gone.
pub(crate) fn list_again(store: &dyn Store, known: &Catalog) -> Result<Catalog, StoreError> {
    let mut catalog = restore::catalog(store)?;
    let unlisted: Vec<LtxFile> =
        known.files().filter(|file| !catalog.contains(file.level, file.range)).copied().collect();
    for file in unlisted {
        match store.head(&Key::Ltx(file.level, file.range)) {
            Ok(_) => catalog.insert(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    restore::read_ahead(store, &mut catalog)?;
    Ok(catalog)
}

pub(crate) fn epoch_facts(store: &dyn Store) -> Result<EpochFacts, StoreError> {
    let mut facts = EpochFacts::default();
    for entry in store.list(&Scope::Epochs)? {
        if let Key::Epoch(epoch, record) = entry.key {
            facts.newest_record = facts.newest_record.max(Some(epoch));
            facts.any_opened |= record != EpochRecord::Claim;
        }
    }
    Ok(facts)
}

/// The file that ends the chain: the slot where it is there, else whatever covers that TXID.
pub(crate) fn read_tip(
    store: &dyn Store,
    catalog: &Catalog,
    txid: Txid,
) -> Result<Option<RemoteTip>, StoreError> {
    let mut ends: Vec<&LtxFile> = catalog.files().filter(|file| file.range.max() == txid).collect();
    ends.sort_by_key(|file| file.level);
    for file in ends {
        let Some((header, trailer)) = read_ends(store, file)? else { continue };
        let seal = header.seal();
        let is_slot = file.level == Level::SLOTS && file.range.min() == txid;
        return Ok(Some(RemoteTip {
            txid,
            slot: is_slot.then_some(trailer.file),
            database: seal.and_then(|seal| seal.database).or(trailer.post_apply),
            epoch: seal.map(|seal| seal.epoch),
            page_size: header.page_size,
            commit: header.commit,
            timestamp: header.timestamp,
            wal: if is_slot { header.wal } else { WalSpan::default() },
        }));
    }
    Ok(None)
}

/// Reads a range of an object. A transfer that ended early is one to try again: it says nothing of the object.
pub(crate) fn read_range(store: &dyn Store, key: &Key, range: Range<u64>) -> Result<Chunk, StoreError> {
    let chunk = store.read(key, Some(range.clone()))?;
    let (came, promised) = (chunk.bytes.len() as u64, range.end.min(chunk.total).saturating_sub(range.start));
    if came == promised {
        return Ok(chunk);
    }
    let what = Failure::Text(format!("{came} bytes came where {promised} were announced"));
    Err(StoreError::new(ErrorKind::Retry, "read", format!("{}: {key}", store.location()), what))
}

/// Header and trailer of a file; `None` if it is gone by now.
pub(crate) fn read_ends(store: &dyn Store, file: &LtxFile) -> Result<Option<(Header, Trailer)>, StoreError> {
    let key = Key::Ltx(file.level, file.range);
    let damaged = |what: &str| {
        StoreError::new(
            ErrorKind::DataDamaged,
            "read",
            format!("{}: {key}", store.location()),
            Failure::Text(what.to_owned()),
        )
    };
    let head = match read_range(store, &key, 0..Header::LEN as u64) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let header = Header::parse(&head.bytes).map_err(|error| damaged(&error.to_string()))?;
    let end = head.total;
    let begin = end.checked_sub(Trailer::LEN as u64).ok_or_else(|| damaged("shorter than its trailer"))?;
    let tail = match read_range(store, &key, begin..end) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let trailer = Trailer::parse(&tail.bytes, &header).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some((header, trailer)))
}

/// Who wrote a slot, as far as the bucket tells.
pub(crate) fn who_wrote(store: &dyn Store, txid: Txid) -> String {
    let file = LtxFile {
        level: Level::SLOTS,
        range: litekeep_formats::TxidRange::single(txid),
        size: 0,
        modified: litekeep_formats::TimestampMs(0),
        timestamp: None,
    };
    match read_ends(store, &file) {
        Ok(Some((header, _))) => match header.seal() {
            Some(seal) => format!("epoch {}, {}", seal.epoch, owner(store, seal.epoch)),
            None => "a file without a seal, as Litestream writes it".to_owned(),
        },
        Ok(None) => "the slot is gone again".to_owned(),
        Err(error) => format!("unknown ({error})"),
    }
}

fn owner(store: &dyn Store, epoch: Epoch) -> String {
    match crate::ownership::read_record(store, epoch, EpochRecord::Claim) {
        Ok(Some(claim)) => format!("owner {}", claim.owner),
        Ok(None) => "whose claim is gone".to_owned(),
        Err(error) => format!("whose claim cannot be read ({error})"),
    }
}
