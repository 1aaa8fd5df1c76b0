//! Walks a replica's chain: every level whole, every file sound, every seal in its place.

use super::count::{Counted, Counting};
use super::gaps::{Carried, Gap, gaps};
use super::walk::{Seen, Told, walk};
use crate::files::RealFiles;
use crate::merge::went_on_without;
use crate::ownership;
use crate::restore::{self, Flaw, LOOKS, Look, Outcome, RestoreEnv, RestoreError, key, neighbours};
use litekeep_core::env::Clock;
use litekeep_core::restore::{Catalog, LtxFile, Target, nearest, plan_latest, restore_points};
use litekeep_core::retain::{self, Policy};
use litekeep_formats::{Checksum, Epoch, Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{EpochRecord, ErrorKind, Key, Scope, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The pause between two looks at a replica that seems to lack something.
const PAUSE: Duration = Duration::from_millis(500);

/// How to walk.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Requests in flight.
    pub parallelism: usize,
    /// What retention keeps: what lies before that may be half deleted.
    pub policy: Policy,
}

/// What kind of thing an issue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file is no good, or states what is not so.
    Damaged,
    /// Files are missing.
    Gap,
    /// A slot that does not go on from the one before it: another writer, or it was replaced.
    Foreign,
    /// A slot that came late into a name that had been freed: never a part of the chain, and retention removes it.
    Late,
    /// Files without a seal behind sealed ones: a Litestream wrote here.
    Unsealed,
    /// The newest transaction went to level 9 as an image that does not stand there yet: nobody was told that it is durable.
    Unfinished,
    /// v0.3 files beside the chain that are newer than its end.
    NewerV3,
}

impl Kind {
    /// Whether something that was promised cannot be had.
    pub fn is_damage(self) -> bool {
        matches!(self, Self::Damaged | Self::Gap | Self::Foreign)
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// What kind of thing.
    pub kind: Kind,
    /// The object, where it is about one.
    pub key: Option<Key>,
    /// What is wrong, in one sentence.
    pub what: String,
}

/// One level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelCheck {
    /// Which.
    pub level: Level,
    /// Files listed.
    pub files: usize,
    /// Bytes listed.
    pub bytes: u64,
    /// The first and the last TXID of any file.
    pub range: TxidRange,
    /// Files that were read to their end and are sound.
    pub sound: usize,
    /// Of these, those that carry a seal.
    pub sealed: usize,
    /// Files that are no good.
    pub bad: usize,
}

/// v0.3 files beside the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V3Beside {
    /// Snapshots, of all generations.
    pub snapshots: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The newest one's time.
    pub newest: Option<TimestampMs>,
}

/// What a walk found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Where.
    pub location: String,
    /// The levels that hold anything.
    pub levels: Vec<LevelCheck>,
    /// The greatest TXID.
    pub newest: Option<Txid>,
    /// The newest state that the sound files give.
    pub restorable: Option<Txid>,
    /// The newest file's own time.
    pub timestamp: Option<TimestampMs>,
    /// The database checksum that is sealed for `newest`.
    pub database: Option<Checksum>,
    /// The epoch of the newest seal.
    pub epoch: Option<Epoch>,
    /// See [`V3Beside`].
    pub v3: Option<V3Beside>,
    /// Everything that is wrong: damage first, then by level.
    pub issues: Vec<Issue>,
    /// Objects read.
    pub objects: usize,
    /// What that took.
    pub counted: Counted,
}

impl Verified {
    /// The first thing that is wrong and matters.
    pub fn damage(&self) -> Option<&Issue> {
        self.issues.iter().find(|issue| issue.kind.is_damage())
    }
}

/// Walks a replica. `progress` gets the bytes read so far and those of all files.
///
/// # Errors
/// [`RestoreError`]: nothing is there, it was wiped, or the store does not answer. What is wrong with the replica itself
/// is an issue, not an error.
pub fn verify(
    store: Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, RestoreError> {
    let counting = Arc::new(Counting::new(store));
    let (look, gaps) = settled_look(&*counting, &**clock, options)?;
    let mut walker = Walker {
        look,
        issues: Vec::new(),
        told: Vec::new(),
        bad: Vec::new(),
        late: Vec::new(),
        unfit: Vec::new(),
        fresh: None,
    };
    if walker.look.catalog.is_empty() {
        refuse_nothing(&counting, clock, options)?;
    }
    let files: Vec<LtxFile> = walker.look.catalog.files().copied().collect();
    let total = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    let mut gone = Vec::new();
    let mut tell = |seen: Seen, bytes: u64| {
        walker.take(seen, &mut gone);
        progress(bytes, total);
    };
    walk(&*counting, &files, options.parallelism, &mut tell)?;
    walker.still_listed(&*counting, &gone)?;
    for gap in &gaps {
        walker.issue(Kind::Gap, None, gap_text(gap));
    }
    walker.seals();
    walker.elsewhere(&*counting)?;
    walker.ends(&*counting)?;
    walker.unsealed();
    walker.newer_v3();
    Ok(walker.finish(&counting))
}

/// A look that shows the same holes in a row is believed: listings are not of one moment, and retention goes on.
fn settled_look(
    store: &dyn Store,
    clock: &dyn Clock,
    options: &Options,
) -> Result<(Look, Vec<Gap>), RestoreError> {
    let mut looks = 1;
    loop {
        let mut look = restore::look(store, options.parallelism)?;
        restore::fill_in(store, &mut look.catalog, Target::Latest)?;
        restore::fill_holes(store, &mut look.catalog)?;
        restore::read_ahead(store, &mut look.catalog)?;
        let now = store.server_time().unwrap_or_else(|| clock.wall());
        let floor = retain::floor(&look.catalog, now, options.policy.window);
        let gaps = gaps(&look.catalog, floor);
        if gaps.is_empty() || looks >= LOOKS {
            return Ok((look, gaps));
        }
        looks += 1;
        clock.sleep(PAUSE);
    }
}

/// No LTX file: the very answer that a restore gives. A v0.3 backup alone is none of its errors.
fn refuse_nothing(
    counting: &Arc<Counting>,
    clock: &Arc<dyn Clock>,
    options: &Options,
) -> Result<(), RestoreError> {
    let env = RestoreEnv {
        store: Arc::clone(counting) as Arc<dyn Store>,
        files: Arc::new(RealFiles),
        clock: Arc::clone(clock),
        vfs: None,
    };
    let options = restore::Options {
        dry_run: true,
        parallelism: options.parallelism,
        ..restore::Options::new("litekeep-verify")
    };
    match restore::restore(&env, &options, &mut |_| {})? {
        Outcome::Planned(_) | Outcome::Restored(_) | Outcome::Skipped(_) => Ok(()),
    }
}

fn gap_text(gap: &Gap) -> String {
    let missing = match (gap.missing.min(), gap.missing.max()) {
        (min, max) if min == max => format!("transaction {min}"),
        _ => format!("transactions {}", gap.missing),
    };
    match (gap.level, gap.carried) {
        (Some(level), Carried::Lower) => {
            format!("level {level} lacks {missing}; lower levels have it all, so no state is lost yet")
        }
        (Some(level), Carried::Coarser) => format!(
            "level {level} lacks {missing}; other levels have it in larger steps: the states in between are lost"
        ),
        (Some(level), Carried::Nobody) => {
            format!("level {level} lacks {missing}, and so does every other: lost")
        }
        (None, _) => format!("no level holds {missing}: lost"),
    }
}

struct Walker {
    look: Look,
    issues: Vec<Issue>,
    /// Sound files, by level and range.
    told: Vec<Told>,
    bad: Vec<LtxFile>,
    late: Vec<TxidRange>,
    /// Sound files that no restore can lay over what lies below them.
    unfit: Vec<LtxFile>,
    /// What is listed now, if files went away while they were read.
    fresh: Option<Catalog>,
}

impl Walker {
    fn issue(&mut self, kind: Kind, file: Option<&LtxFile>, what: impl Into<String>) {
        self.issues.push(Issue { kind, key: file.map(key), what: what.into() });
    }

    fn damaged(&mut self, file: &LtxFile, what: impl Into<String>) {
        self.bad.push(*file);
        self.issue(Kind::Damaged, Some(file), what);
    }

    fn take(&mut self, seen: Seen, gone: &mut Vec<LtxFile>) {
        match seen {
            Seen::Whole(told) => self.told.push(told),
            Seen::Bad(file, flaw) => self.damaged(&file, flaw.to_string()),
            Seen::Short(file, text) => self.damaged(&file, text),
            Seen::Gone(file) => gone.push(file),
        }
    }

    /// What vanished while we read is retention's doing, if the listing does not show it any more.
    fn still_listed(&mut self, store: &dyn Store, gone: &[LtxFile]) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        let listed = restore::catalog(store)?;
        for file in gone {
            if listed.contains(file.level, file.range) {
                self.damaged(file, "it is listed and cannot be read: not found");
            }
        }
        let ids: Vec<_> = gone.iter().map(LtxFile::id).collect();
        self.look.catalog = self.look.catalog.without(&ids);
        self.fresh = Some(listed);
        Ok(())
    }

    /// Neighbours of a level, and the same TXID in different levels.
    fn seals(&mut self) {
        let told = std::mem::take(&mut self.told);
        for pair in told.windows(2) {
            let (older, newer) = (&pair[0], &pair[1]);
            if older.file.level != newer.file.level || older.file.range.max().next() != newer.file.range.min()
            {
                continue;
            }
            let fits = neighbours((&older.file, &older.header, &older.trailer), (&newer.file, &newer.header));
            let fits = fits.map_err(|flaw| flaw.to_string()).and_then(|()| checksummed(older, newer));
            if let Err(why) = fits {
                self.misfit(&told, older, newer, &why);
            }
        }
        self.lone_slots(&told);
        self.same_state(&told);
        self.told = told;
    }

    /// Two slots that are not of one chain: a late one in a freed name, or a foreign one.
    fn misfit(&mut self, told: &[Told], older: &Told, newer: &Told, why: &str) {
        if self.late.contains(&older.file.range) {
            return;
        }
        let late = [older, newer].into_iter().find(|slot| self.is_late(told, slot));
        match late.map(|slot| slot.file) {
            Some(file) => self.came_late(&file),
            None => {
                let text = format!("{}: {why}", key(&older.file));
                self.unfit.push(newer.file);
                self.issue(Kind::Foreign, Some(&newer.file), format!("it does not go on from {text}"));
            }
        }
    }

    fn came_late(&mut self, file: &LtxFile) {
        if !self.late.contains(&file.range) {
            self.late.push(file.range);
            let text = "it came late, into a name that was free again; it is not a part of the chain, and the next \
                        round of retention removes it";
            self.issue(Kind::Late, Some(file), text);
        }
    }

    /// A slot that level 1 covers and that is not what level 1 was made of. One that the next slot was built on is.
    fn is_late(&self, told: &[Told], slot: &Told) -> bool {
        let Some(cover) = self.cover(slot).filter(|_| !is_confirmed(told, slot)) else { return false };
        let same_end = told
            .iter()
            .find(|other| other.file.id() == cover.id() && cover.range.max() == slot.file.range.max());
        match (same_end.and_then(Told::database), slot.database()) {
            (Some(sealed), Some(stated)) => sealed != stated,
            _ => cover.modified < slot.file.modified,
        }
    }

    fn cover(&self, slot: &Told) -> Option<LtxFile> {
        if slot.file.level != Level::SLOTS {
            return None;
        }
        let range = slot.file.range;
        let level_1 = Level::new(1).map_or(&[][..], |level| self.look.catalog.level(level));
        level_1
            .iter()
            .find(|file| file.range.min() <= range.min() && range.max() <= file.range.max())
            .copied()
    }

    /// A covered slot that stands alone has no neighbour to fit: it came late if level 1 was there before it.
    fn lone_slots(&mut self, told: &[Told]) {
        let slots: Vec<&Told> = told.iter().filter(|told| told.file.level == Level::SLOTS).collect();
        for (at, slot) in slots.iter().enumerate() {
            let next = slots.get(at + 1).map(|next| next.file.range.min());
            let before = at.checked_sub(1).map(|before| slots[before].file.range.max());
            let alone = next.is_some_and(|next| next > slot.file.range.max().next())
                && before.is_none_or(|before| before.next() < slot.file.range.min());
            if alone && self.is_late(told, slot) {
                self.came_late(&slot.file);
            }
        }
    }

    /// Files of different levels that end alike must state the same database.
    fn same_state(&mut self, told: &[Told]) {
        let mut states: BTreeMap<Txid, (&Told, Checksum)> = BTreeMap::new();
        let mut differ = Vec::new();
        // Whom the next slot vouches for is right; else the highest level, whose pages were added up.
        let (confirmed, others): (Vec<&Told>, Vec<&Told>) =
            told.iter().rev().partition(|file| is_confirmed(told, file));
        for file in confirmed.into_iter().chain(others) {
            let Some(database) = file.database().filter(|_| !self.late.contains(&file.file.range)) else {
                continue;
            };
            match states.get(&file.file.range.max()) {
                Some((right, state)) if *state != database => differ.push((*file, right.file)),
                Some(_) => {}
                None => drop(states.insert(file.file.range.max(), (file, database))),
            }
        }
        for (wrong, right) in differ {
            if self.is_late(told, &wrong) {
                self.came_late(&wrong.file);
            } else {
                let text = format!("it states another database than {} does", key(&right));
                self.issue(Kind::Foreign, Some(&wrong.file), text);
                self.unfit.push(wrong.file);
            }
        }
    }

    /// Slots whose content lies in level 9 need it there, unless the chain went on without it.
    fn elsewhere(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let ended = restore::ended(store, &self.look.catalog, 1)?;
        if let Some(last) = ended.unfinished {
            let file =
                self.look.catalog.level(Level::SLOTS).iter().rev().find(|file| file.range.max() == last.txid);
            let text = "the content of an image is on the way to level 9, or its writer died on that way; the state \
                        before it is the newest";
            self.issue(Kind::Unfinished, file.copied().as_ref(), text);
            self.look.catalog = self.look.catalog.up_to(ended.at);
        }
        let lost: Vec<LtxFile> =
            self.told.iter().filter(|told| self.is_lost(told)).map(|told| told.file).collect();
        for file in lost {
            // A listing may lag.
            if !restore::has_image(store, file.range.max())? {
                self.damaged(&file, Flaw::ContentElsewhere.to_string());
            }
        }
        Ok(())
    }

    /// Whether this announces an image that was there, and is not any more.
    fn is_lost(&self, told: &Told) -> bool {
        let (end, catalog) = (told.file.range.max(), &self.look.catalog);
        let stands = |range| catalog.contains(Level::SNAPSHOTS, range);
        let counts = catalog.newest().is_some_and(|newest| end <= newest);
        if !counts || !announces(told) || restore::image(end).is_some_and(stands) {
            return false;
        }
        match self.told.iter().find(|behind| behind.file.range == TxidRange::single(end.next())) {
            Some(behind) => !went_on_without(&told.header, &behind.header, behind.file.size),
            // It was merged, behind a later image.
            None => catalog.snapshots().iter().all(|snapshot| snapshot.range.max() < end),
        }
    }

    /// A closed epoch names its last transaction: what lies below it was durable.
    fn ends(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let closed = store.list(&Scope::Epochs)?.into_iter().filter_map(|entry| match entry.key {
            Key::Epoch(epoch, EpochRecord::Closed) => Some(epoch),
            _ => None,
        });
        let Some(epoch) = closed.max() else { return Ok(()) };
        match ownership::read_record(store, epoch, EpochRecord::Closed) {
            Ok(Some(record)) => {
                let Some(last) =
                    Txid::new(record.txid).filter(|last| Some(*last) > self.look.catalog.newest())
                else {
                    return Ok(());
                };
                // It may have been written and closed since we looked.
                let newest = restore::catalog(store)?.newest();
                if Some(last) > newest {
                    let newest = newest.map_or_else(|| "none".to_owned(), |newest| newest.to_string());
                    let text = format!(
                        "epoch {epoch} was closed at transaction {last}, and the newest one here is {newest}: the end of \
                         the chain is missing"
                    );
                    self.issue(Kind::Gap, None, text);
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::DataDamaged => {
                let key = Some(Key::Epoch(epoch, EpochRecord::Closed));
                self.issues.push(Issue { kind: Kind::Damaged, key, what: error.cause.to_string() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn unsealed(&mut self) {
        let first_seal = self.told.iter().filter(|told| told.header.seal().is_some());
        let Some(sealed_to) = first_seal.map(|told| told.file.range.max()).min() else { return };
        let bare: Vec<LtxFile> = self
            .told
            .iter()
            .filter(|told| told.header.seal().is_none() && told.file.range.min() > sealed_to)
            .map(|told| told.file)
            .collect();
        if let Some(first) = bare.iter().min_by_key(|file| file.range.min()) {
            let text =
                format!("it is the first of {} files without a seal: a Litestream wrote here", bare.len());
            self.issue(Kind::Unsealed, Some(first), text);
        }
    }

    fn newer_v3(&mut self) {
        let newest = self.look.v3_snapshots.iter().max_by_key(|snapshot| snapshot.time);
        if let Some(snapshot) = newest
            && !self.look.catalog.is_empty()
            && Some(snapshot.time) > self.look.catalog.newest_time()
        {
            let key = Key::V3Snapshot(litekeep_store::V3Generation(snapshot.generation), snapshot.index);
            let what =
                "it is newer than the chain beside it: does an old Litestream still write here?".to_owned();
            self.issues.push(Issue { kind: Kind::NewerV3, key: Some(key), what });
        }
    }

    fn finish(mut self, counting: &Counting) -> Verified {
        let bad: Vec<_> = self.bad.iter().chain(&self.unfit).map(LtxFile::id).collect();
        let catalog = std::mem::take(&mut self.look.catalog);
        let newest = catalog.newest();
        let now = self.fresh.as_ref().unwrap_or(&catalog);
        // What came since we looked was not read.
        let restorable = restorable(&now.without(&bad)).min(newest);
        if self.issues.iter().all(|issue| !issue.kind.is_damage())
            && restorable != newest
            && let Some(newest) = newest
        {
            let text =
                format!("the newest state, {newest}, cannot be restored; {}", nearest(&catalog, newest));
            self.issue(Kind::Gap, None, text);
        }
        let last = self.told.iter().max_by_key(|told| (told.file.range.max(), told.header.seal().is_some()));
        self.issues.sort_by_key(|issue| (!issue.kind.is_damage(), issue.kind != Kind::Damaged));
        Verified {
            location: counting.location(),
            levels: Level::all()
                .filter_map(|level| level_check(level, &catalog, &self.told, &self.bad))
                .collect(),
            newest,
            restorable,
            timestamp: last.map(|told| told.header.timestamp),
            database: last.filter(|told| Some(told.file.range.max()) == newest).and_then(Told::database),
            epoch: self.told.iter().filter_map(|told| told.header.seal()).map(|seal| seal.epoch).max(),
            v3: v3_beside(&self.look),
            objects: self.told.len() + self.bad.len(),
            issues: self.issues,
            counted: counting.counted(),
        }
    }
}

/// Whether the slot after this one names it as the one that it was built on.
fn is_confirmed(told: &[Told], slot: &Told) -> bool {
    let next = (Level::SLOTS, TxidRange::single(slot.file.range.max().next()));
    let next = told.binary_search_by_key(&next, |told| told.file.id()).ok().map(|at| &told[at]);
    let predecessor = next.and_then(|next| next.header.seal()).and_then(|seal| seal.predecessor);
    slot.file.level == Level::SLOTS && predecessor == Some(slot.trailer.file)
}

/// The newest state that these files give.
fn restorable(good: &Catalog) -> Option<Txid> {
    plan_latest(good).map_or_else(|_| restore_points(good).last().copied(), |plan| Some(plan.txid))
}

/// Files that state both ends, as Litestream once wrote them: each begins with the database that the one before left.
fn checksummed(older: &Told, newer: &Told) -> Result<(), String> {
    match (older.trailer.post_apply, newer.header.pre_apply) {
        (Some(left), Some(begun)) if left != begun => {
            Err(format!("it leaves the database at {left}, the next one begins at {begun}"))
        }
        _ => Ok(()),
    }
}

fn level_check(level: Level, catalog: &Catalog, told: &[Told], bad: &[LtxFile]) -> Option<LevelCheck> {
    let files = catalog.level(level);
    let first = files.iter().map(|file| file.range.min()).min()?;
    let last = files.iter().map(|file| file.range.max()).max()?;
    let sound = || told.iter().filter(|told| told.file.level == level);
    Some(LevelCheck {
        level,
        files: files.len(),
        bytes: files.iter().map(|file| file.size).fold(0, u64::saturating_add),
        range: TxidRange::new(first, last)?,
        sound: sound().count(),
        sealed: sound().filter(|told| told.header.seal().is_some()).count(),
        bad: bad.iter().filter(|file| file.level == level).count(),
    })
}

fn v3_beside(look: &Look) -> Option<V3Beside> {
    let snapshots = &look.v3_snapshots;
    (!snapshots.is_empty()).then(|| V3Beside {
        snapshots: snapshots.len(),
        bytes: snapshots.iter().map(|snapshot| snapshot.size).fold(0, u64::saturating_add),
        newest: snapshots.iter().map(|snapshot| snapshot.time).max(),
    })
}

/// Whether it stands for an image in level 9.
fn announces(told: &Told) -> bool {
    told.file.level != Level::SNAPSHOTS && told.header.content_is_elsewhere()
}
