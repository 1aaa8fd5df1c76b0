//! What may be deleted, and the proof that everything promised can still be restored.
//!
//! Promised are: the newest state, every restore point of the retained window, and every slot that is younger than the
//! slots' own retention. The plan follows Litestream's rules (formats §3) where those keep the promise, and keeps more
//! where they do not: the newest snapshot *before* the window stays, because the window's beginning needs it, and one
//! more before that, because a running restore may hold it (R27).
//!
//! [`plan`] proposes, [`prove`] checks against the set of restore points alone, by another way than the proposal was
//! made. What is not proven is not deleted.

use crate::limits;
use crate::restore::{Catalog, LtxFile, restore_points};
use alloc::vec::Vec;
use core::time::Duration;
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};

/// What the user wants to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How far back every restore point stays.
    pub window: Duration,
    /// How long a slot stays once it is in level 1; `None` keeps slots for ever. (R39: an option of zero switches
    /// off, it does not mean "at once"; the settings turn it into `None`.)
    pub slots: Option<Duration>,
}

/// Why a file may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It lies wholly before what the window needs.
    BeforeWindow,
    /// A slot that level 1 (or the snapshot of its image) holds, old enough.
    Compacted,
    /// The same, and the store got it only after level 1 held its number: it came late, into a name that had been freed
    /// (docs/model.md, rule 9).
    CameLate,
    /// An image that others went on without: it never counted.
    NeverCounted,
}

/// One deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Which file.
    pub file: LtxFile,
    /// Why.
    pub reason: Reason,
}

/// What may go, in the order in which it is to go: a file before those that it builds on, so that whatever is left
/// after a crash in between can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Newest first.
    pub deletions: Vec<Deletion>,
    /// What must be restorable afterwards, ascending.
    pub promised: Vec<Txid>,
}

/// A restore point that the plan would lose: a defect of the plan, and the reason why nothing is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deleting would lose the restore point {0}")]
pub struct Lost(pub Txid);

/// Proposes deletions. `now` is the store's clock: ages are by when the store got a file.
pub fn plan(catalog: &Catalog, policy: &Policy, now: TimestampMs) -> Plan {
    let floor = floor(catalog, now, policy.window);
    let mut deletions: Vec<Deletion> = Vec::new();
    for level in Level::all() {
        let files = catalog.level(level);
        // The newest file of a level stays: it is where compaction goes on.
        let Some((_, older)) = files.split_last() else { continue };
        let before_window = |file: &&LtxFile| floor.is_some_and(|floor| file.range.max() < floor);
        deletions.extend(
            older
                .iter()
                .filter(before_window)
                .filter(|file| level != Level::SLOTS || is_old(file, policy, now))
                .map(|file| Deletion { file: *file, reason: Reason::BeforeWindow }),
        );
    }
    deletions.extend(compacted(catalog, policy, now, floor));
    keep_announced(catalog, &mut deletions);
    deletions.sort_by_key(|deletion| {
        let file = deletion.file;
        core::cmp::Reverse((file.range.max(), core::cmp::Reverse(file.level)))
    });
    let promised = promised(catalog, policy, now, floor);
    Plan { deletions, promised }
}

/// A slot without pages may stand for the image that ends with it: that stays for as long as the slot does.
fn keep_announced(catalog: &Catalog, deletions: &mut Vec<Deletion>) {
    let bare = |txid: Txid| {
        let slots = catalog.level(Level::SLOTS).iter();
        let mut bare = slots.filter(|slot| slot.size <= limits::BARE_BYTES);
        bare.any(|slot| slot.range == TxidRange::single(txid))
    };
    let going: Vec<(Level, TxidRange)> = deletions.iter().map(|deletion| deletion.file.id()).collect();
    deletions.retain(|deletion| {
        let (level, range) = deletion.file.id();
        let end = range.max();
        level != Level::SNAPSHOTS || !bare(end) || going.contains(&(Level::SLOTS, TxidRange::single(end)))
    });
}

/// Checks a plan against what is listed.
///
/// # Errors
/// The first promised point that would be lost.
pub fn prove(catalog: &Catalog, plan: &Plan) -> Result<(), Lost> {
    let gone: Vec<(Level, TxidRange)> = plan.deletions.iter().map(|deletion| deletion.file.id()).collect();
    let left = restore_points(&catalog.without(&gone));
    match plan.promised.iter().find(|point| left.binary_search(point).is_err()) {
        Some(lost) => Err(Lost(*lost)),
        None => Ok(()),
    }
}

/// How long ago the store got a file.
fn age(file: &LtxFile, now: TimestampMs) -> Duration {
    // The later of the two times: neither a clock that was behind nor a file that was held up makes it older.
    let since = file.modified.max(file.time());
    Duration::from_millis(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0))
}

/// Whether a slot has stayed as long as it must.
fn is_old(slot: &LtxFile, policy: &Policy, now: TimestampMs) -> bool {
    policy.slots.is_some_and(|slots| age(slot, now) >= slots.max(limits::SLOT_MIN_AGE))
}

/// The end of the oldest snapshot that stays; nothing that ends before it is needed. `None` keeps everything.
pub fn floor(catalog: &Catalog, now: TimestampMs, window: Duration) -> Option<Txid> {
    let snapshots = catalog.snapshots();
    let outside = snapshots.iter().rposition(|file| age(file, now) >= window)?;
    // `outside` is what the window's beginning is restored from; the one before it may be in use.
    snapshots.get(outside.checked_sub(1)?).map(|file| file.range.max())
}

/// Slots that level 1 holds, in order, up to the first that must stay.
fn compacted(catalog: &Catalog, policy: &Policy, now: TimestampMs, floor: Option<Txid>) -> Vec<Deletion> {
    let slots = catalog.level(Level::SLOTS);
    let Some((newest, older)) = slots.split_last() else { return Vec::new() };
    let is_done = |slot: &LtxFile| slot == newest || is_old(slot, policy, now);
    older
        .iter()
        .take_while(|slot| is_old(slot, policy, now))
        .filter(|slot| floor.is_none_or(|floor| slot.range.max() >= floor))
        .filter(|slot| is_held(catalog, slot, &is_done))
        .map(|slot| {
            let reason = if came_late(catalog, slot) { Reason::CameLate } else { Reason::Compacted };
            Deletion { file: *slot, reason }
        })
        .collect()
}

/// Whether a merged file that covers a slot, or an image that ends with it, was there before it: what either is made of is
/// older. A slot that came later stands in a name that had been freed, and is no part of the chain.
pub fn came_late(catalog: &Catalog, slot: &LtxFile) -> bool {
    let range = slot.range;
    catalog.files().filter(|file| file.level != Level::SLOTS && file.modified < slot.modified).any(|file| {
        match file.level {
            Level::SNAPSHOTS => file.range.max() == range.max(),
            _ => file.range.min() <= range.min() && range.max() <= file.range.max(),
        }
    })
}

/// Whether level 1 covers a slot, or a snapshot stands for its end. The slots of one level 1 file go together: with
/// the first ones gone, the last ones could not be restored, though they are young.
fn is_held(catalog: &Catalog, slot: &LtxFile, is_done: &dyn Fn(&LtxFile) -> bool) -> bool {
    let slots = catalog.level(Level::SLOTS);
    let level_1 = Level::new(1).map_or(&[][..], |level| catalog.level(level));
    let covers =
        |file: &&LtxFile| file.range.min() <= slot.range.min() && slot.range.max() <= file.range.max();
    let all_done = |file: &LtxFile| {
        let start = slots.partition_point(|slot| slot.range.min() < file.range.min());
        let end = slots.partition_point(|slot| slot.range.min() <= file.range.max());
        slots[start..end].iter().all(is_done)
    };
    let at = level_1.partition_point(|file| file.range.min() <= slot.range.min());
    let mut covering = level_1[..at].iter().rev().filter(covers).peekable();
    if covering.peek().is_some() {
        return covering.any(all_done);
    }
    let passed = level_1.last().is_some_and(|file| file.range.max() >= slot.range.max());
    passed && catalog.snapshots().iter().any(|file| file.range.max() == slot.range.max())
}

/// What must be restorable afterwards: the newest state, what the levels hold from the window's base on, and the slots
/// that are not old enough.
fn promised(catalog: &Catalog, policy: &Policy, now: TimestampMs, floor: Option<Txid>) -> Vec<Txid> {
    let points = restore_points(catalog);
    let mut promised: Vec<Txid> = catalog
        .files()
        .filter(|file| floor.is_none_or(|floor| file.range.max() >= floor))
        .filter(|file| file.level != Level::SLOTS || !is_old(file, policy, now))
        .map(|file| file.range.max())
        .chain(points.last().copied())
        .filter(|point| points.binary_search(point).is_ok())
        .collect();
    promised.sort_unstable();
    promised.dedup();
    promised
}

#[cfg(test)]
mod tests;
