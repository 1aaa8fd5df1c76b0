//! Which v0.3 generation, snapshot and WAL segments bring a database back.
//!
//! The generation is chosen as Litestream 0.3.13 does it (formats §4), which differs from 0.5's when an older
//! generation got later WAL. Everything that is missing is said: a first segment, a whole WAL, an offset (R41, R42).

use super::Nearest;
use alloc::vec::Vec;
use litekeep_formats::TimestampMs;

/// A snapshot: the database file when the shadow WAL had this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Which generation.
    pub generation: u64,
    /// The first WAL to apply on top.
    pub index: u32,
    /// Compressed bytes.
    pub size: u64,
    /// mtime or LastModified.
    pub time: TimestampMs,
}

/// A piece of one WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which WAL.
    pub index: u32,
    /// Where in that WAL it begins, bytes; more than 8 hex digits past 4 GiB (R40).
    pub offset: u64,
    /// Compressed bytes.
    pub size: u64,
    /// mtime or LastModified.
    pub time: TimestampMs,
}

/// Everything listed of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its name, as a number.
    pub id: u64,
    /// In any order.
    pub snapshots: Vec<Snapshot>,
    /// In any order.
    pub segments: Vec<Segment>,
}

impl Generation {
    /// The newest time of any of its files.
    pub fn updated(&self) -> Option<TimestampMs> {
        self.snapshots.iter().map(|s| s.time).chain(self.segments.iter().map(|s| s.time)).max()
    }
}

/// Where a restore is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The newest state.
    Latest,
    /// What had been uploaded at this time, inclusive.
    Timestamp(TimestampMs),
    /// The end of this WAL.
    Index(u32),
}

/// A snapshot and the WALs to apply on it, each as its segments in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The base.
    pub snapshot: Snapshot,
    /// One entry a WAL, ascending and without a hole; empty when the snapshot is all there is.
    pub wals: Vec<Vec<Segment>>,
}

impl Plan {
    /// Compressed bytes of all files.
    pub fn bytes(&self) -> u64 {
        let segments = self.wals.iter().flatten().map(|segment| segment.size);
        segments.fold(self.snapshot.size, u64::saturating_add)
    }

    /// The index of the last WAL applied.
    pub fn index(&self) -> u32 {
        self.wals.last().and_then(|wal| wal.first()).map_or(self.snapshot.index, |segment| segment.index)
    }

    /// The time of the newest file used.
    pub fn time(&self) -> TimestampMs {
        let last = self.wals.last().and_then(|wal| wal.last());
        last.map_or(self.snapshot.time, |segment| segment.time.max(self.snapshot.time))
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// No generation with a snapshot, or not the one that was asked for.
    #[error("no matching backups found: there is no v0.3 snapshot to begin with")]
    NoSnapshot,
    /// No snapshot is old enough.
    #[error("no v0.3 snapshot lies at or before the wanted point")]
    NothingBefore,
    /// A WAL does not begin at offset 0.
    #[error(
        "generation {generation:016x}: WAL {index:08x} begins at offset {offset:x}, its first segment is missing"
    )]
    FirstSegmentMissing {
        /// Which generation.
        generation: u64,
        /// Which WAL.
        index: u32,
        /// The first offset that is there.
        offset: u64,
    },
    /// A whole WAL is missing.
    #[error("generation {generation:016x}: WAL {missing:08x} is missing, WAL {found:08x} is there")]
    IndexMissing {
        /// Which generation.
        generation: u64,
        /// The WAL that should come next.
        missing: u32,
        /// The one that does.
        found: u32,
    },
    /// The wanted WAL is not there.
    #[error("generation {generation:016x} does not reach WAL {wanted:08x}; it ends at {last:08x}")]
    IndexNotAvailable {
        /// Which generation.
        generation: u64,
        /// What was asked for.
        wanted: u32,
        /// What there is.
        last: u32,
    },
}

impl NoPlan {
    /// Whether files are missing, as opposed to the wanted point never having been there.
    pub fn is_gap(&self) -> bool {
        matches!(self, Self::FirstSegmentMissing { .. } | Self::IndexMissing { .. })
    }

    /// v0.3 has no TXIDs to name.
    pub fn nearest(&self) -> Nearest {
        Nearest::default()
    }
}

/// The plan, from all generations or only the one named.
///
/// # Errors
/// [`NoPlan`].
pub fn plan(all: &[Generation], generation: Option<u64>, target: Target) -> Result<Plan, NoPlan> {
    let generation = choose(all, generation, target)?;
    let usable = |snapshot: &&Snapshot| match target {
        Target::Latest => true,
        Target::Timestamp(wanted) => snapshot.time <= wanted,
        Target::Index(wanted) => snapshot.index <= wanted,
    };
    let snapshot = generation.snapshots.iter().filter(usable).max_by_key(|s| (s.index, s.time));
    let snapshot = *snapshot.ok_or(NoPlan::NothingBefore)?;
    let plan = Plan { snapshot, wals: wals(generation, &snapshot, target)? };
    match target {
        Target::Index(wanted) if plan.index() != wanted => {
            Err(NoPlan::IndexNotAvailable { generation: generation.id, wanted, last: plan.index() })
        }
        _ => Ok(plan),
    }
}

/// The generation with the newest file; for a time, one that spans it goes before one that ended earlier.
fn choose(all: &[Generation], wanted: Option<u64>, target: Target) -> Result<&Generation, NoPlan> {
    let mut candidates = all
        .iter()
        .filter(|generation| wanted.is_none_or(|id| id == generation.id))
        .filter(|generation| !generation.snapshots.is_empty())
        .peekable();
    if candidates.peek().is_none() {
        return Err(NoPlan::NoSnapshot);
    }
    let Target::Timestamp(time) = target else {
        return candidates.max_by_key(|generation| generation.updated()).ok_or(NoPlan::NoSnapshot);
    };
    candidates
        .filter(|generation| generation.snapshots.iter().any(|snapshot| snapshot.time <= time))
        .max_by_key(|generation| {
            let updated = generation.updated();
            (updated.is_some_and(|updated| time <= updated), updated)
        })
        .ok_or(NoPlan::NothingBefore)
}

/// The segments from the snapshot on, up to the target, as whole WALs without a hole.
fn wals(generation: &Generation, snapshot: &Snapshot, target: Target) -> Result<Vec<Vec<Segment>>, NoPlan> {
    let mut segments: Vec<Segment> = generation.segments.clone();
    segments.retain(|segment| segment.index >= snapshot.index);
    segments.sort_by_key(|segment| (segment.index, segment.offset));
    let mut wals: Vec<Vec<Segment>> = Vec::new();
    let mut next = snapshot.index;
    for segment in segments {
        let past = match target {
            Target::Latest => false,
            Target::Timestamp(wanted) => segment.time > wanted,
            Target::Index(wanted) => segment.index > wanted,
        };
        if past {
            break;
        }
        if let Some(wal) = wals.last_mut()
            && segment.index.saturating_add(1) == next
        {
            wal.push(segment);
            continue;
        }
        if segment.index != next {
            return Err(NoPlan::IndexMissing {
                generation: generation.id,
                missing: next,
                found: segment.index,
            });
        }
        if segment.offset != 0 {
            return Err(NoPlan::FirstSegmentMissing {
                generation: generation.id,
                index: segment.index,
                offset: segment.offset,
            });
        }
        wals.push(alloc::vec![segment]);
        next = segment.index.saturating_add(1);
    }
    Ok(wals)
}

#[cfg(test)]
mod tests;
