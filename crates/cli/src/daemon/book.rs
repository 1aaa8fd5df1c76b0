//! What is known of one replica from the answers that its store gave: requests, objects, trouble. It holds what was
//! answered, never what was tried, and asks nothing itself.

use super::verdict::Verdict;
use litekeep_core::restore::{Catalog, LtxFile, Point, points};
use litekeep_formats::ltx::Header;
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{Entry, ErrorKind, Key, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A kind of request, by Litestream's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// One object is written.
    Put,
    /// One object is read, whole or in part.
    Get,
    /// Objects are deleted.
    Delete,
    /// Objects are listed.
    List,
    /// One object's properties are asked for.
    Head,
}

impl Operation {
    /// As the metrics have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Delete => "DELETE",
            Self::List => "LIST",
            Self::Head => "HEAD",
        }
    }
}

/// What a request came to, as the metrics have it.
pub(crate) const fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not-found",
        ErrorKind::Retry => "unavailable",
        ErrorKind::Wait => "throttled",
        ErrorKind::FixConfig => "refused",
        ErrorKind::DataDamaged => "damaged",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::TooLarge => "too-large",
        ErrorKind::Bug => "bug",
    }
}

/// The upper bounds of the histogram of durations, seconds: Litestream's.
pub(crate) const BOUNDS: [(f64, &str); 9] = [
    (0.01, "0.01"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.5, "0.5"),
    (1.0, "1"),
    (5.0, "5"),
    (10.0, "10"),
    (30.0, "30"),
    (60.0, "60"),
];

/// All requests of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// How many came to what: `ok`, `exists`, or an error's [`code`].
    pub(crate) results: BTreeMap<&'static str, u64>,
    /// Bytes that were moved by those that succeeded.
    pub(crate) bytes: u64,
    /// How many took at most so long; the last one counts those that took longer than every bound.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    /// All of it together.
    pub(crate) time: Duration,
}

impl Tally {
    /// How many requests.
    pub(crate) fn count(&self) -> u64 {
        self.results.values().sum()
    }
}

/// An error that its store's next success of the same kind takes back.
#[derive(Debug, Clone)]
pub(crate) struct Setback {
    /// Whose move it is.
    pub(crate) kind: ErrorKind,
    /// What happened to which object.
    pub(crate) text: String,
}

/// The store was asked, and has a transaction; from what it has listed and taken it can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadBack {
    /// This machine's time.
    pub(crate) wall: TimestampMs,
    /// The same, on the clock that does not jump.
    pub(crate) boot: Duration,
    /// Which one.
    pub(crate) txid: Txid,
}

/// An object as it was last heard of.
#[derive(Debug, Clone, Copy)]
struct Object {
    size: u64,
    time: TimestampMs,
    /// When it was heard of, by the order of answers.
    heard: u64,
}

impl Object {
    /// Whether it can be a file: what is shorter than a header holds nothing, whatever its name says.
    fn can_be_a_file(&self) -> bool {
        self.size >= Header::LEN as u64
    }
}

#[derive(Debug, Clone, Default)]
struct Pages {
    objects: BTreeMap<(Level, TxidRange), Object>,
    tallies: BTreeMap<Operation, Tally>,
    setbacks: BTreeMap<Operation, Setback>,
    answers: u64,
    /// Objects that are being written.
    putting: usize,
    /// When the store last took a transaction.
    written: Option<TimestampMs>,
    /// When the newest transaction was last seen in the store, and which it was then.
    read_back: Option<ReadBack>,
    /// What the store took and does not have any more.
    lost: Option<String>,
    verdict: Option<Verdict>,
    verifications: Verifications,
    /// Why the last one could not be carried out.
    not_verified: Option<String>,
}

/// How many verifications of this process came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verifications {
    /// The replica is good.
    pub(crate) ok: u64,
    /// It is not.
    pub(crate) error: u64,
    /// Nobody knows: they could not be carried out.
    pub(crate) undone: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<Pages>);

/// Files of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LevelSize {
    /// How many.
    pub(crate) objects: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// What can be done with files of level 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Old enough, and compacted.
    pub(crate) eligible: u64,
    /// No higher level has them yet.
    pub(crate) not_compacted: u64,
    /// Compacted, and kept for a while.
    pub(crate) too_recent: u64,
}

/// An object that is being written.
pub(super) struct Putting(Arc<Book>);

impl Drop for Putting {
    fn drop(&mut self) {
        self.0.pages().putting -= 1;
    }
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The book of this moment: it stays as it is while this one is written on.
    pub(crate) fn copy(&self) -> Self {
        Self(Mutex::new(self.pages().clone()))
    }

    /// Notes an answer; `bytes` were moved if it was a good one.
    pub(super) fn answered(
        &self,
        operation: Operation,
        result: Result<&'static str, &StoreError>,
        cost: Cost,
    ) {
        let mut pages = self.pages();
        pages.answers += 1;
        let tally = pages.tallies.entry(operation).or_default();
        let name = result.unwrap_or_else(|error| code(error.kind()));
        *tally.results.entry(name).or_default() += 1;
        let seconds = cost.time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|(bound, _)| seconds <= *bound).unwrap_or(BOUNDS.len());
        tally.buckets[bucket] += 1;
        tally.time += cost.time;
        match result {
            Ok(_) => {
                tally.bytes += cost.bytes;
                pages.setbacks.remove(&operation);
            }
            // Who is told that an object is not there may ask, and was not turned away: a permission that is back shows in
            // this where nobody reads what is there. Of an object that is damaged it says nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let damaged = |it: &Setback| it.kind == ErrorKind::DataDamaged;
                if !pages.setbacks.get(&operation).is_some_and(damaged) {
                    pages.setbacks.remove(&operation);
                }
            }
            // How a store's limits are found out.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::TooLarge) => {}
            Err(error) => {
                let setback = Setback { kind: error.kind(), text: error.to_string() };
                pages.setbacks.insert(operation, setback);
            }
        }
    }

    /// An object is being written until the guard is dropped.
    pub(super) fn put(book: &Arc<Self>) -> Putting {
        book.pages().putting += 1;
        Putting(Arc::clone(book))
    }

    /// Whether any object is being written now.
    pub(super) fn is_putting(&self) -> bool {
        self.pages().putting > 0
    }

    /// How many answers there were.
    pub(super) fn answers(&self) -> u64 {
        self.pages().answers
    }

    /// Notes a listing that was asked for after so many answers. What was heard of since stays.
    pub(super) fn listed(&self, level: Level, since: u64, entries: &[Entry]) {
        let mut pages = self.pages();
        pages.objects.retain(|(known, _), object| *known != level || object.heard > since);
        let heard = pages.answers;
        for entry in entries {
            if let Key::Ltx(of, range) = entry.key
                && of == level
            {
                let time = entry.timestamp.unwrap_or(entry.modified);
                let object = Object { size: entry.size, time, heard };
                pages.objects.entry((level, range)).or_insert(object);
            }
        }
    }

    /// Notes an object that is there now; `wall` is this machine's time.
    pub(super) fn written(&self, key: &Key, size: u64, time: TimestampMs, wall: TimestampMs) {
        let Key::Ltx(level, range) = *key else { return };
        let mut pages = self.pages();
        let heard = pages.answers;
        pages.objects.insert((level, range), Object { size, time, heard });
        pages.written = Some(wall);
    }

    /// Notes objects that are gone.
    pub(super) fn deleted(&self, keys: &[Key]) {
        let mut pages = self.pages();
        for key in keys {
            if let Key::Ltx(level, range) = *key {
                pages.objects.remove(&(level, range));
            }
        }
    }

    /// Notes that the store was asked for a transaction and has it: nothing is known to be lost.
    pub(super) fn read_back(&self, read_back: ReadBack) {
        let mut pages = self.pages();
        (pages.read_back, pages.lost) = (Some(read_back), None);
    }

    /// When that was last so.
    pub(crate) fn last_read_back(&self) -> Option<ReadBack> {
        self.pages().read_back
    }

    /// Notes that the store was asked and lacks what it had taken; `false` if something was known to be lost before.
    pub(super) fn lost(&self, what: &str) -> bool {
        self.pages().lost.replace(what.to_owned()).is_none()
    }

    /// What it lacks, as far as was last seen.
    pub(crate) fn what_is_lost(&self) -> Option<String> {
        self.pages().lost.clone()
    }

    /// Notes what the last verification that could be carried out came to.
    pub(super) fn verified(&self, verdict: Verdict) {
        let mut pages = self.pages();
        (pages.verdict, pages.not_verified) = (Some(verdict), None);
    }

    /// Notes a restore from this replica that was good, which the engine made by itself.
    pub(super) fn restored(&self, replica: &str, restored: (Txid, TimestampMs)) {
        let mut pages = self.pages();
        let before = pages.verdict.take().unwrap_or_else(|| Verdict::none(replica));
        pages.verdict = Some(before.with(restored));
    }

    /// Counts one that was carried out by this process.
    pub(super) fn count_verdict(&self, well: bool) {
        let counts = &mut self.pages().verifications;
        *if well { &mut counts.ok } else { &mut counts.error } += 1;
    }

    /// Notes that one could not be carried out, and why; `false` if the one before could not for the same reason.
    pub(super) fn not_verified(&self, why: &str) -> bool {
        let mut pages = self.pages();
        pages.verifications.undone += 1;
        pages.not_verified.replace(why.to_owned()).as_deref() != Some(why)
    }

    /// What the last one came to.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.pages().verdict.clone()
    }

    /// How many there were.
    pub(crate) fn verifications(&self) -> Verifications {
        self.pages().verifications
    }

    /// When the store last took something, or was seen to have the newest transaction.
    pub(crate) fn last_success(&self) -> Option<TimestampMs> {
        let pages = self.pages();
        pages.written.max(pages.read_back.map(|seen| seen.wall))
    }

    /// Requests by kind.
    pub(crate) fn tallies(&self) -> BTreeMap<Operation, Tally> {
        self.pages().tallies.clone()
    }

    /// Kinds of requests whose last answer was an error.
    pub(crate) fn setbacks(&self) -> Vec<(Operation, Setback)> {
        self.pages().setbacks.iter().map(|(operation, setback)| (*operation, setback.clone())).collect()
    }

    /// Why the store cannot be asked, as far as its answers tell: that it deletes nothing, say, is no reason.
    pub(crate) fn why_not_asked(&self) -> Option<String> {
        let pages = self.pages();
        let failed = pages.setbacks.iter().find(|(operation, _)| **operation != Operation::Delete);
        let silent = || (pages.answers == 0).then(|| "no answer so far".to_owned());
        failed.map(|(_, setback)| setback.text.clone()).or_else(silent)
    }

    /// A file that holds the newest transaction: of those, one of the lowest level.
    pub(super) fn newest(&self) -> Option<Key> {
        let pages = self.pages();
        let newest = pages
            .objects
            .iter()
            .filter(|(_, object)| object.can_be_a_file())
            .max_by_key(|((level, range), _)| (TxidRange::max(*range), std::cmp::Reverse(*level)));
        newest.map(|((level, range), _)| Key::Ltx(*level, *range))
    }

    /// What there is, by level; levels without a file are left out.
    pub(crate) fn levels(&self) -> BTreeMap<Level, LevelSize> {
        let mut levels: BTreeMap<Level, LevelSize> = BTreeMap::new();
        for ((level, _), object) in &self.pages().objects {
            let size = levels.entry(*level).or_default();
            size.objects += 1;
            size.bytes += object.size;
        }
        levels
    }

    /// The newest snapshot's time.
    pub(crate) fn last_snapshot(&self) -> Option<TimestampMs> {
        let pages = self.pages();
        let snapshots = pages.objects.iter().filter(|((level, _), _)| *level == Level::SNAPSHOTS);
        snapshots.max_by_key(|((_, range), _)| TxidRange::max(*range)).map(|(_, object)| object.time)
    }

    /// The times of the oldest and the newest state that a restore can bring back.
    pub(crate) fn restorable(&self) -> Option<(TimestampMs, TimestampMs)> {
        let points = self.restore_points();
        let mut times = points.iter().map(|point| point.file.time());
        let first = times.next()?;
        Some((first, times.next_back().unwrap_or(first)))
    }

    /// Whether a restore can bring back this transaction or a newer one.
    pub(super) fn restores(&self, txid: Txid) -> bool {
        self.restore_points().last().is_some_and(|point| point.txid >= txid)
    }

    fn restore_points(&self) -> Vec<Point> {
        let catalog: Catalog = self
            .pages()
            .objects
            .iter()
            .filter(|(_, object)| object.can_be_a_file())
            .map(|((level, range), object)| LtxFile {
                level: *level,
                range: *range,
                size: object.size,
                modified: object.time,
                timestamp: Some(object.time),
            })
            .collect();
        points(&catalog).into_iter().filter(|point| point.restorable).collect()
    }

    /// The files of level 0, by what retention makes of them at this time.
    pub(crate) fn slots(&self, kept: Option<Duration>, wall: TimestampMs) -> Slots {
        let pages = self.pages();
        let mut compacted = None;
        let mut slots = Slots::default();
        for (level, range) in pages.objects.keys() {
            if Level::new(1) == Some(*level) {
                compacted = compacted.max(Some(TxidRange::max(*range)));
            }
        }
        for ((level, range), object) in &pages.objects {
            if *level != Level::SLOTS {
                continue;
            }
            let age = wall.0.saturating_sub(object.time.0);
            let old = kept.is_some_and(|kept| u128::try_from(age).is_ok_and(|age| age >= kept.as_millis()));
            match (Some(TxidRange::max(*range)) <= compacted, old) {
                (false, _) => slots.not_compacted += 1,
                (true, true) => slots.eligible += 1,
                (true, false) => slots.too_recent += 1,
            }
        }
        slots
    }
}

/// What a request took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Bytes that were moved.
    pub(super) bytes: u64,
    /// How long it took, tries and waits and all.
    pub(super) time: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_store::{Failure, StoreError};

    fn range(min: u64, max: u64) -> TxidRange {
        TxidRange::new(Txid::new(min).expect("a TXID"), Txid::new(max).expect("a TXID")).expect("a range")
    }

    fn ltx(level: u8, min: u64, max: u64) -> Key {
        Key::Ltx(Level::new(level).expect("a level"), range(min, max))
    }

    fn write(book: &Book, key: Key, time: i64) {
        book.written(&key, 100, TimestampMs(time), TimestampMs(time + 1));
    }

    #[test]
    fn a_setback_lasts_until_a_request_of_its_kind_succeeds() {
        let book = Book::default();
        let error = |kind| StoreError::new(kind, "delete", "x", Failure::Text("no".to_owned()));
        let denied = error(ErrorKind::FixConfig);
        book.answered(Operation::Delete, Err(&denied), Cost::default());
        book.answered(Operation::Put, Ok("ok"), Cost::default());
        book.answered(Operation::Head, Err(&error(ErrorKind::NotFound)), Cost::default());
        let kinds = |book: &Book| book.setbacks().iter().map(|(operation, _)| *operation).collect::<Vec<_>>();
        assert_eq!(kinds(&book), [Operation::Delete]);
        book.answered(Operation::Delete, Ok("ok"), Cost::default());
        assert_eq!(kinds(&book), []);
        // Whoever is told that an object is not there may ask; that says nothing of one that is damaged.
        for (kind, stays) in [
            (ErrorKind::FixConfig, false),
            (ErrorKind::Wait, false),
            (ErrorKind::Retry, false),
            (ErrorKind::DataDamaged, true),
        ] {
            book.answered(Operation::Get, Err(&error(kind)), Cost::default());
            assert_eq!(kinds(&book), [Operation::Get], "{kind:?}");
            book.answered(Operation::Get, Err(&error(ErrorKind::NotFound)), Cost::default());
            assert_eq!(!kinds(&book).is_empty(), stays, "{kind:?}");
        }
        assert_eq!(book.tallies()[&Operation::Delete].results, [("ok", 1), ("refused", 1)].into());
    }

    #[test]
    fn the_restorable_range_ends_at_a_hole() {
        let book = Book::default();
        assert_eq!(book.restorable(), None);
        write(&book, ltx(9, 1, 3), 30);
        write(&book, ltx(0, 4, 4), 40);
        write(&book, ltx(0, 5, 5), 50);
        write(&book, ltx(0, 7, 7), 70);
        assert_eq!(book.restorable(), Some((TimestampMs(30), TimestampMs(50))));
        assert_eq!(book.newest(), Some(ltx(0, 7, 7)));
        book.deleted(&[ltx(0, 5, 5)]);
        assert_eq!(book.restorable(), Some((TimestampMs(30), TimestampMs(40))));
        assert_eq!(book.last_snapshot(), Some(TimestampMs(30)));
    }

    #[test]
    fn a_listing_replaces_what_was_known_before_it_was_asked_for_and_nothing_newer() {
        let book = Book::default();
        write(&book, ltx(0, 1, 1), 10);
        let since = book.answers();
        book.answered(Operation::Put, Ok("ok"), Cost::default());
        write(&book, ltx(0, 3, 3), 30);
        let modified = TimestampMs(20);
        let entry = Entry { key: ltx(0, 2, 2), size: 7, modified, timestamp: None };
        book.listed(Level::SLOTS, since, &[entry]);
        assert_eq!(book.levels()[&Level::SLOTS], LevelSize { objects: 2, bytes: 107 });
        assert_eq!(book.newest(), Some(ltx(0, 3, 3)));
    }

    #[test]
    fn slots_are_told_apart_by_compaction_and_age() {
        let book = Book::default();
        for txid in 1..=4 {
            write(&book, ltx(0, txid, txid), i64::try_from(txid).expect("small") * 1000);
        }
        write(&book, ltx(1, 1, 3), 3000);
        let slots = |kept| book.slots(kept, TimestampMs(4500));
        let two = Some(Duration::from_millis(2500));
        assert_eq!(slots(two), Slots { eligible: 2, not_compacted: 1, too_recent: 1 });
        assert_eq!(slots(None), Slots { eligible: 0, not_compacted: 1, too_recent: 3 });
    }

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_pass() {
        let book = Book::default();
        for millis in [1, 10, 11, 60_000, 60_001] {
            let cost = Cost { bytes: 5, time: Duration::from_millis(millis) };
            book.answered(Operation::Get, Ok("ok"), cost);
        }
        let tally = &book.tallies()[&Operation::Get];
        assert_eq!(tally.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((tally.count(), tally.bytes), (5, 25));
    }
}
