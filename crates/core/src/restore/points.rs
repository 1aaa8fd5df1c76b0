//! Restore points: where they are, where the holes between them are, and which is the newest before a time.

use super::{Catalog, LtxFile};
use alloc::vec::Vec;
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};

/// Every TXID that can be restored exactly, ascending.
///
/// What a file can be laid over only grows with the state reached, so it is enough to look at the greatest point
/// below each file's end.
pub fn restore_points(catalog: &Catalog) -> Vec<Txid> {
    let mut ends: Vec<TxidRange> = catalog.files().map(|file| file.range).collect();
    ends.sort_by_key(|&range| (range.max(), range.min()));
    let mut found: Vec<Txid> = Vec::new();
    for range in ends {
        let below = match found.last() {
            Some(last) if *last == range.max() => continue,
            last => last.map_or(0, |txid| txid.get()),
        };
        if range.min().get() <= below + 1 {
            found.push(range.max());
        }
    }
    found
}

/// The TXIDs that no file carries directly above `reached`; `None` when nothing lies beyond a hole.
///
/// A TXID inside a compacted file is no restore point, yet nothing is missing there. A snapshot of level 9 bridges
/// nothing: it stands for its end alone.
pub fn hole_above(catalog: &Catalog, reached: Option<Txid>) -> Option<TxidRange> {
    clip(&holes(catalog), reached)
}

/// What lies between the files of the levels, ascending.
fn holes(catalog: &Catalog) -> Vec<TxidRange> {
    let mut ranges: Vec<TxidRange> = catalog
        .files()
        .filter(|file| file.level != Level::SNAPSHOTS || file.range.min() == file.range.max())
        .map(|file| file.range)
        .collect();
    ranges.sort_by_key(|&range| range.min());
    let mut found = Vec::new();
    let mut covered = 0;
    for range in ranges {
        if let (Some(first), Some(last)) = (Txid::new(covered + 1), range.min().previous()) {
            found.extend(TxidRange::new(first, last));
        }
        covered = covered.max(range.max().get().min(u64::MAX - 1));
    }
    found
}

/// The first hole that reaches above `reached`, without what lies at or below it.
fn clip(holes: &[TxidRange], reached: Option<Txid>) -> Option<TxidRange> {
    let Some(reached) = reached else { return holes.first().copied() };
    let hole = *holes[holes.partition_point(|&hole| hole.max() <= reached)..].first()?;
    TxidRange::new(hole.min().max(reached.next()), hole.max())
}

/// A candidate of a search by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Where a file ends.
    pub txid: Txid,
    /// The file whose time is the point's: the one of the lowest level, because a snapshot may bear the time of its
    /// making instead of its content's (formats §1.9).
    pub file: LtxFile,
    /// `false` for the first file past a hole: reaching it by time means that something is missing.
    pub restorable: bool,
}

/// All candidates of a search by time, ascending by TXID.
pub fn points(catalog: &Catalog) -> Vec<Point> {
    let restorable = restore_points(catalog);
    let mut by_end: Vec<&LtxFile> = catalog.files().collect();
    by_end.sort_by_key(|file| (file.range.max(), file.level));
    by_end.dedup_by_key(|file| file.range.max());
    let holes = holes(catalog);
    let mut found = Vec::new();
    let mut hole = clip(&holes, None);
    for file in by_end {
        let txid = file.range.max();
        if restorable.binary_search(&txid).is_ok() {
            found.push(Point { txid, file: *file, restorable: true });
            hole = clip(&holes, Some(txid));
        } else if hole.is_some_and(|hole| hole.max() < txid) {
            found.push(Point { txid, file: *file, restorable: false });
            hole = None;
        }
    }
    found
}

/// How many files' times are asked for in one go (R46: one question per object, one after the other, is a hang).
pub const ASK_AT_ONCE: usize = 256;

/// The next move of a search by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// Learn the times of these points (indexes), then ask again.
    Ask(Vec<usize>),
    /// The newest point before the time; `None` if there is none.
    Newest(Option<usize>),
}

/// Which point is the newest whose time is strictly before `wanted`, with what is known so far.
///
/// Up to [`ASK_AT_ONCE`] points all are asked, and the answer is exact whatever the times. Beyond, the points are
/// sampled and the interval after the last sample that passes is refined: exact where times do not go back, and
/// where a clock did go back, still a point before `wanted` whose successor is not.
pub fn newest_before(times: &[Option<TimestampMs>], wanted: TimestampMs) -> Search {
    let passes = |time: &Option<TimestampMs>| time.is_some_and(|time| time < wanted);
    let last = times.iter().rposition(passes);
    let low = last.map_or(0, |at| at + 1);
    let high = times[low..].iter().position(Option::is_some).map_or(times.len(), |at| low + at);
    let open = high - low;
    if open == 0 {
        return Search::Newest(last);
    }
    if open <= ASK_AT_ONCE {
        return Search::Ask((low..high).collect());
    }
    // Evenly spread, the last one always among them.
    Search::Ask((1..=ASK_AT_ONCE).map(|i| low + open * i / ASK_AT_ONCE - 1).collect())
}
