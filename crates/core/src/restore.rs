//! Which files bring a database back to a wanted point, and what to say when none do.
//!
//! Works on listings only: it never reads a file, so it cannot know what a header says. What the headers rule out
//! (damage, a slot whose content lies in level 9) the engine takes out with [`Catalog::without`] and asks again.
//!
//! A *restore point* is a TXID at which some file ends and that a contiguous set of files reaches from TXID 1. The set
//! of restore points is the one notion under everything here: plans, holes, nearest points, and the proof of retention.

mod catalog;
mod choice;
mod ending;
mod points;
pub mod v3;

pub use catalog::{Catalog, LtxFile};
pub use choice::{Choice, Sides, choose};
pub use ending::{Bare, Ending, ending};
pub use points::{ASK_AT_ONCE, Point, Search, hole_above, newest_before, points, restore_points};

use alloc::vec::Vec;
use core::fmt;
use litekeep_formats::{TimestampMs, Txid, TxidRange};

/// Where a restore is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The newest state.
    Latest,
    /// Exactly the state after this TXID.
    Txid(Txid),
    /// The newest restore point whose own time is strictly before this.
    Timestamp(TimestampMs),
}

/// The files to lay over each other, oldest first; the first one begins at TXID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Oldest first.
    pub files: Vec<LtxFile>,
    /// What they add up to.
    pub txid: Txid,
}

impl Plan {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// The restore points on either side of something that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nearest {
    /// The last one before it.
    pub before: Option<Txid>,
    /// The first one after it.
    pub after: Option<Txid>,
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.before, self.after) {
            (None, None) => f.write_str("nothing can be restored"),
            (Some(before), None) => write!(f, "the nearest restorable point is -txid {before}"),
            (None, Some(after)) => write!(f, "the nearest restorable point is -txid {after}"),
            (Some(before), Some(after)) => {
                write!(f, "the nearest restorable points are -txid {before} and -txid {after}")
            }
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// No file at all.
    #[error("the replica holds no LTX file")]
    Empty,
    /// Files are missing between what is there.
    #[error("non-contiguous ltx files: none covers {missing}; {nearest}")]
    Gap {
        /// The TXIDs that no file carries.
        missing: TxidRange,
        /// Where one can go instead.
        nearest: Nearest,
    },
    /// The wanted TXID is no restore point: it lies inside a compacted file, or past the newest one.
    #[error("transaction not available: {wanted}; {nearest}")]
    TxidNotAvailable {
        /// What was asked for.
        wanted: Txid,
        /// Where one can go instead.
        nearest: Nearest,
    },
    /// No restore point is older than the wanted time.
    #[error("timestamp does not exist: no restore point lies before it; {nearest}")]
    TimeNotAvailable {
        /// Where one can go instead.
        nearest: Nearest,
    },
}

/// The restore points next to `txid`, itself excluded.
pub fn nearest(catalog: &Catalog, txid: Txid) -> Nearest {
    let all = restore_points(catalog);
    Nearest {
        before: all.iter().rev().find(|point| **point < txid).copied(),
        after: all.iter().find(|point| **point > txid).copied(),
    }
}

/// The plan for the newest state.
///
/// # Errors
/// [`NoPlan::Empty`], or [`NoPlan::Gap`] when files lie beyond a hole: an older state is never passed off as the
/// newest (formats §3).
pub fn plan_latest(catalog: &Catalog) -> Result<Plan, NoPlan> {
    let newest = catalog.newest().ok_or(NoPlan::Empty)?;
    match restore_points(catalog).last() {
        Some(reached) if *reached == newest => plan_exact(catalog, newest),
        reached => Err(gap(catalog, reached.copied(), None)),
    }
}

/// The plan that ends exactly at `wanted`.
///
/// # Errors
/// [`NoPlan`], telling a hole from a TXID that merely is no file's end.
pub fn plan_txid(catalog: &Catalog, wanted: Txid) -> Result<Plan, NoPlan> {
    let newest = catalog.newest().ok_or(NoPlan::Empty)?;
    let all = restore_points(catalog);
    if all.binary_search(&wanted).is_ok() {
        return plan_exact(catalog, wanted);
    }
    let below = all.iter().rev().find(|point| **point < wanted).copied();
    let above = all.iter().find(|point| **point > wanted).copied();
    if wanted <= newest
        && (below.is_some() || above.is_none())
        && let Some(missing) = hole_above(catalog, below)
        && missing.min() <= wanted
    {
        return Err(gap(catalog, below, above));
    }
    Err(NoPlan::TxidNotAvailable { wanted, nearest: Nearest { before: below, after: above } })
}

/// The plan for what a time search found (see [`points()`] and [`newest_before`]).
///
/// # Errors
/// [`NoPlan::TimeNotAvailable`] for `None`; [`NoPlan::Gap`] when the newest file before the wanted time lies beyond a
/// hole.
pub fn plan_point(catalog: &Catalog, found: Option<&Point>) -> Result<Plan, NoPlan> {
    let all = restore_points(catalog);
    match found {
        None if catalog.is_empty() => Err(NoPlan::Empty),
        None => {
            Err(NoPlan::TimeNotAvailable { nearest: Nearest { before: None, after: all.first().copied() } })
        }
        Some(point) if point.restorable => plan_exact(catalog, point.txid),
        Some(point) => {
            let below = all.iter().rev().find(|p| **p < point.txid).copied();
            let after = all.iter().find(|p| **p > point.txid).copied();
            match below {
                // What lies below the oldest restore point is what retention has left over, not a hole.
                None if after.is_some() => {
                    Err(NoPlan::TimeNotAvailable { nearest: Nearest { before: None, after } })
                }
                _ => Err(gap(catalog, below, after)),
            }
        }
    }
}

/// The hole above `below` as an error.
fn gap(catalog: &Catalog, below: Option<Txid>, after: Option<Txid>) -> NoPlan {
    match hole_above(catalog, below) {
        Some(missing) => NoPlan::Gap { missing, nearest: Nearest { before: below, after } },
        None => NoPlan::Empty,
    }
}

/// `txid` is a restore point: begin at the newest snapshot at or below it, then always take the file that reaches
/// furthest without passing it (ties: smaller min, higher level, earlier), as Litestream's planner does. A file that
/// begins at TXID 1 makes everything before it needless.
fn plan_exact(catalog: &Catalog, txid: Txid) -> Result<Plan, NoPlan> {
    let mut files: Vec<LtxFile> = Vec::new();
    if let Some(base) = catalog.snapshots().iter().rev().find(|file| file.range.max() <= txid) {
        files.push(*base);
    }
    let mut usable: Vec<&LtxFile> = catalog.files().filter(|file| file.range.max() <= txid).collect();
    usable.sort_by_key(|file| file.range.min());
    let mut usable = usable.into_iter().peekable();
    let mut best: Option<&LtxFile> = None;
    loop {
        let reached = files.last().map_or(0, |file| file.range.max().get());
        if reached >= txid.get() {
            break;
        }
        while let Some(file) = usable.next_if(|file| file.range.min().get() <= reached + 1) {
            if best.is_none_or(|best| further(file, best)) {
                best = Some(file);
            }
        }
        match best.take() {
            Some(file) if file.range.max().get() > reached => files.push(*file),
            _ => return Err(NoPlan::TxidNotAvailable { wanted: txid, nearest: nearest(catalog, txid) }),
        }
    }
    if let Some(base) = files.iter().rposition(|file| file.range.is_snapshot()) {
        files.drain(..base);
    }
    Ok(Plan { files, txid })
}

fn further(file: &LtxFile, than: &LtxFile) -> bool {
    let key = |f: &LtxFile| {
        (f.range.max(), core::cmp::Reverse(f.range.min()), f.level, core::cmp::Reverse(f.modified))
    };
    key(file) > key(than)
}

#[cfg(test)]
mod tests;
