//! Which chore is due when: compaction of a level, a snapshot, retention.
//!
//! Everything follows from what the replica holds, never from when this process started (R38): a machine that restarts
//! every minute still gets its snapshots, and an idle database gets no chore at all (R11).

use crate::limits;
use crate::restore::{Catalog, LtxFile};
use crate::retain::Policy;
use alloc::vec::Vec;
use core::time::Duration;
use litekeep_formats::{Level, TimestampMs, Txid};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Move files of this level into the next.
    Compact(Level),
    /// Take a snapshot of the newest state.
    Snapshot,
    /// Write the newest snapshot anew, so that no lifecycle rule of the provider takes the only one (R37).
    Refresh,
    /// Look for what retention lets go.
    Prune,
}

/// When things are wanted.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The intervals of levels 1, 2, ...
    pub levels: Vec<Duration>,
    /// Between snapshots.
    pub snapshots: Duration,
    /// What to keep; `None` deletes nothing.
    pub policy: Option<Policy>,
    /// How long slots that may go wait for others to go with them.
    pub gather: Duration,
    /// Others have owned before. What they put may arrive late, in a name that is free again: after what is new a listing
    /// looks for that, also where nothing is to be deleted.
    pub shared: bool,
}

/// What was found to be of no use until the replica changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Levels whose newest file, with this TXID, had nothing to move.
    pub levels: Vec<(Level, Txid)>,
    /// Nothing could be deleted of a listing of so many files, at this time.
    pub pruned: Option<(usize, TimestampMs)>,
    /// Retention is not to look again before this, whatever is due: nothing else waits for that.
    pub no_prune_before: Option<TimestampMs>,
}

/// The next chore and when it is due, by the clock that dates the files; a time in the past means now.
pub fn next(catalog: &Catalog, schedule: &Schedule, settled: &Settled) -> Option<(Chore, TimestampMs)> {
    let compactions = schedule.levels.iter().zip(0u8..).filter_map(|(interval, level)| {
        let level = Level::new(level)?;
        compaction_due(catalog, level, *interval, settled).map(|due| (Chore::Compact(level), due))
    });
    let snapshot = snapshot_due(catalog, schedule.snapshots);
    let prune = schedule
        .policy
        .and_then(|policy| prune_due(catalog, &policy, schedule, settled))
        .map(|due| (Chore::Prune, due.max(settled.no_prune_before.unwrap_or(due))));
    compactions.chain(snapshot).chain(prune).min_by_key(|(_, due)| *due)
}

/// A level's turn comes one interval after the oldest file that the next level has not got.
fn compaction_due(
    catalog: &Catalog,
    from: Level,
    interval: Duration,
    settled: &Settled,
) -> Option<TimestampMs> {
    let to = Level::new(from.get() + 1)?;
    let done = catalog.level(to).iter().map(|file| file.range.max()).max();
    let sources = catalog.level(from);
    let newest = sources.iter().map(|file| file.range.max()).max()?;
    if settled.levels.contains(&(from, newest)) {
        return None;
    }
    let waiting = sources.iter().filter(|file| done.is_none_or(|done| file.range.min() > done));
    waiting.map(LtxFile::time).min().map(|oldest| after(oldest, interval))
}

fn snapshot_due(catalog: &Catalog, interval: Duration) -> Option<(Chore, TimestampMs)> {
    let newest = catalog.newest()?;
    let Some(last) = catalog.snapshots().iter().max_by_key(|file| file.range.max()) else {
        return Some((Chore::Snapshot, TimestampMs(i64::MIN)));
    };
    if last.range.max() < newest {
        return Some((Chore::Snapshot, after(last.time(), interval)));
    }
    Some((Chore::Refresh, after(last.modified, limits::SNAPSHOT_REFRESH)))
}

/// When retention has something worth a listing: slots that have gathered, or a window that has moved on.
fn prune_due(
    catalog: &Catalog,
    policy: &Policy,
    schedule: &Schedule,
    settled: &Settled,
) -> Option<TimestampMs> {
    let newest = catalog.level(Level::SLOTS).last().filter(|_| schedule.shared);
    let late = newest.map(|slot| after(born(slot), schedule.gather));
    match settled.pruned {
        // Time alone lets no more slots go, but the window moves on.
        Some((files, at)) if files == catalog.len() => window_due(catalog, policy, Some(at)),
        _ => slots_due(catalog, policy, schedule.gather)
            .into_iter()
            .chain(window_due(catalog, policy, None))
            .chain(late)
            .min(),
    }
}

/// A slot that may go waits for others to go with it, unless there are many.
fn slots_due(catalog: &Catalog, policy: &Policy, gather: Duration) -> Option<TimestampMs> {
    let keep = policy.slots?.max(limits::SLOT_MIN_AGE);
    // The newest file of a level stays, and slots go in their order.
    let (_, older) = catalog.level(Level::SLOTS).split_last()?;
    let gathered = after(born(older.first()?), keep.saturating_add(gather));
    let many = older.get(limits::PRUNE_SLOTS - 1).map(|slot| after(born(slot), keep));
    Some(many.map_or(gathered, |many| many.min(gathered)))
}

/// The window needs the newest snapshot before it, and one more stays: what ends before that one goes.
/// What came to be due after a round that found nothing is all that another one could find.
fn window_due(catalog: &Catalog, policy: &Policy, settled: Option<TimestampMs>) -> Option<TimestampMs> {
    let ends_before = |floor: Txid| {
        Level::all()
            .filter_map(|level| catalog.level(level).split_last())
            .any(|(_, older)| older.iter().any(|file| file.range.max() < floor))
    };
    let pairs = catalog.snapshots().windows(2);
    let due = pairs
        .filter(|pair| ends_before(pair[0].range.max()))
        .map(|pair| after(born(&pair[1]), policy.window))
        .filter(|due| settled.is_none_or(|at| *due > at));
    due.min()
}

/// What a file's age is counted from.
fn born(file: &LtxFile) -> TimestampMs {
    file.modified.max(file.time())
}

fn after(time: TimestampMs, wait: Duration) -> TimestampMs {
    TimestampMs(time.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::TxidRange;
    use std::vec;

    const SECOND: i64 = 1000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn file(level: u8, min: u64, max: u64, seconds: i64) -> LtxFile {
        let txid = |n| Txid::new(n).expect("not zero");
        LtxFile {
            level: Level::new(level).expect("a level"),
            range: TxidRange::new(txid(min), txid(max)).expect("a range"),
            size: 1,
            modified: TimestampMs(seconds * SECOND),
            timestamp: Some(TimestampMs(seconds * SECOND)),
        }
    }

    fn schedule() -> Schedule {
        let policy = Policy { window: DAY, slots: Some(Duration::from_secs(300)) };
        Schedule {
            levels: vec![Duration::from_secs(30), Duration::from_secs(300)],
            snapshots: DAY,
            policy: Some(policy),
            gather: limits::PRUNE_GATHER,
            shared: false,
        }
    }

    /// What it shows, what lies in the replica, what is due at which second.
    type Row<'a> = (&'a str, &'a [LtxFile], Option<(Chore, i64)>);

    fn check(files: &[LtxFile], settled: &Settled) -> Option<(Chore, i64)> {
        let catalog: Catalog = files.iter().copied().collect();
        next(&catalog, &schedule(), settled).map(|(chore, due)| (chore, due.0 / SECOND))
    }

    #[test]
    fn what_is_due_follows_from_the_replica_alone() {
        let none = Settled::default();
        let level = |n| Level::new(n).expect("a level");
        let rows: [Row<'_>; 7] = [
            ("nothing is there", &[], None),
            ("R38: no snapshot yet", &[file(0, 1, 1, 0)], Some((Chore::Snapshot, i64::MIN / SECOND))),
            ("R11: idle, nothing is due but the refresh", &[file(9, 1, 1, 7), file(0, 1, 1, 0)], {
                // Slot 1 is in no level, and only the caller knows that it is an image.
                Some((Chore::Compact(level(0)), 30))
            }),
            (
                "the oldest waiting slot sets the time",
                &[file(9, 1, 1, 0), file(1, 2, 4, 90), file(0, 5, 5, 100), file(0, 6, 6, 110)],
                { Some((Chore::Compact(level(0)), 130)) },
            ),
            (
                "everything is in level 1; level 2 is next",
                &[file(9, 1, 1, 0), file(1, 2, 4, 90), file(0, 4, 4, 90)],
                { Some((Chore::Compact(level(1)), 390)) },
            ),
            (
                "R38: an old snapshot, whatever was restarted",
                &[file(9, 1, 1, 0), file(2, 2, 9, 50), file(1, 2, 9, 50)],
                { Some((Chore::Snapshot, 86_400)) },
            ),
            (
                "slots that may go are looked at when others have gathered",
                &[
                    file(9, 1, 1, 0),
                    file(2, 2, 5, 50),
                    file(1, 2, 5, 50),
                    file(0, 4, 4, 90),
                    file(0, 5, 5, 95),
                ],
                Some((Chore::Prune, 690)),
            ),
        ];
        for (name, files, expected) in rows {
            assert_eq!(check(files, &none), expected, "{name}");
        }
    }

    #[test]
    fn what_is_settled_waits_for_a_change() {
        let first = Txid::FIRST;
        let settled = Settled { levels: vec![(Level::SLOTS, first)], ..Settled::default() };
        let idle = [file(9, 1, 1, 0), file(0, 1, 1, 0)];
        let refresh = i64::try_from(limits::SNAPSHOT_REFRESH.as_secs()).expect("small");
        assert_eq!(check(&idle, &settled), Some((Chore::Refresh, refresh)), "R37");
        let old = [file(9, 1, 5, 0), file(2, 2, 5, 0), file(1, 2, 5, 0), file(0, 4, 4, 0), file(0, 5, 5, 0)];
        assert_eq!(check(&old, &Settled::default()), Some((Chore::Prune, 600)));
        let settled = Settled { pruned: Some((old.len(), TimestampMs(i64::MAX))), ..Settled::default() };
        assert_eq!(check(&old, &settled), Some((Chore::Refresh, refresh)));
    }

    #[test]
    fn r62_retention_waits_for_more_to_go_and_nothing_waits_for_retention() {
        let slots = |count: u64| -> Vec<LtxFile> {
            let merged = [file(9, 1, 1, 0), file(2, 2, count, 0), file(1, 2, count, 0)];
            merged.into_iter().chain((1..=count).map(|n| file(0, n, n, 10))).collect()
        };
        let many = u64::try_from(limits::PRUNE_SLOTS).expect("small");
        let none = Settled::default();
        assert_eq!(check(&slots(many), &none), Some((Chore::Prune, 610)), "one less than many may go");
        assert_eq!(check(&slots(many + 1), &none), Some((Chore::Prune, 310)), "many");
        // A compaction that is due later than retention was comes first while that pauses.
        let mut files = slots(many + 1);
        files.push(file(0, many + 2, many + 2, 300));
        let paused = Settled { no_prune_before: Some(TimestampMs(345 * SECOND)), ..Settled::default() };
        let compact = Chore::Compact(Level::SLOTS);
        assert_eq!(check(&files, &none), Some((Chore::Prune, 310)));
        assert_eq!(check(&files, &paused), Some((compact, 330)));
    }

    #[test]
    fn r65_what_may_have_come_late_is_looked_for_after_what_is_new() {
        let files = [file(9, 1, 1, 0), file(0, 1, 1, 0), file(0, 2, 2, 50)];
        let catalog: Catalog = files.iter().copied().collect();
        let due = |shared, settled: &Settled| {
            let schedule = Schedule { shared, levels: Vec::new(), ..schedule() };
            next(&catalog, &schedule, settled).filter(|(chore, _)| *chore == Chore::Prune)
        };
        let gather = i64::try_from(limits::PRUNE_GATHER.as_secs()).expect("small");
        let none = Settled::default();
        assert_eq!(due(true, &none), Some((Chore::Prune, TimestampMs((50 + gather) * SECOND))));
        let looked = Settled { pruned: Some((files.len(), TimestampMs(i64::MAX))), ..Settled::default() };
        assert_eq!(due(true, &looked), None, "once");
        assert_ne!(due(false, &none), due(true, &none));
    }

    #[test]
    fn the_window_is_looked_at_when_its_second_snapshot_has_left_it_and_something_ends_before() {
        let none = Settled::default();
        let day = 86_400;
        let snapshots = [file(9, 1, 5, 0), file(9, 1, 9, 100), file(9, 1, 12, 200)];
        let top = [file(2, 2, 12, 0), file(1, 2, 12, 0), file(0, 12, 12, 0)];
        let files = |more: &[LtxFile]| snapshots.iter().chain(&top).chain(more).copied().collect::<Vec<_>>();
        assert_eq!(check(&files(&[]), &none), Some((Chore::Prune, day + 200)), "the first snapshot");
        assert_eq!(
            check(&files(&[file(1, 2, 4, 0), file(2, 2, 4, 0)]), &none),
            Some((Chore::Prune, day + 100))
        );
    }
}
