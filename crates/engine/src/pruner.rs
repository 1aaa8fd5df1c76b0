//! Deletes what retention lets go: list, plan, prove, delete.
//!
//! Runs only while the caller owns the replica (docs/model.md, rule 8). Ages are by the store's clock; without one, and
//! without a proof, nothing is deleted.

use crate::restore::{catalog, doubtful, image, passed};
use litekeep_core::restore::Catalog;
use litekeep_core::retain::{Deletion, Lost, Plan, Policy, Reason, plan, prove};
use litekeep_formats::{Level, TxidRange};
use litekeep_store::{Key, Store, StoreError};

/// How many objects go with one request (S3's limit).
const BATCH: usize = 1000;

/// Why nothing, or not everything, was deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The store's error. What was deleted before it stays deleted, and what is left can be restored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plan would lose a restore point that is promised.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// What a round would delete, as far as is known: a listing for nothing costs as much as one for something.
pub fn due(store: &dyn Store, known: &Catalog, policy: &Policy) -> Plan {
    store.server_time().map(|now| plan(known, policy, now)).unwrap_or_default()
}

/// What a round is about to delete, proven by what is listed now, which comes with it.
///
/// # Errors
/// [`PruneError`].
pub fn look(store: &dyn Store, policy: &Policy) -> Result<(Plan, Catalog), PruneError> {
    let listed = catalog(store)?;
    let Some(now) = store.server_time() else { return Ok((Plan::default(), listed)) };
    // The slots that tell may be about to go.
    let passed = passed(store, &doubtful(&listed))?.into_iter().filter_map(image);
    let passed: Vec<(Level, TxidRange)> = passed.map(|range| (Level::SNAPSHOTS, range)).collect();
    let counts = listed.without(&passed);
    let mut plan = plan(&counts, policy, now);
    prove(&counts, &plan)?;
    let never = listed.files().filter(|file| passed.contains(&file.id()));
    plan.deletions.splice(0..0, never.map(|file| Deletion { file: *file, reason: Reason::NeverCounted }));
    Ok((plan, listed))
}

/// Deletes what [`look`] has proven, in its order. Returns how many objects.
///
/// # Errors
/// The store's, at the first batch that fails.
pub fn carry_out(store: &dyn Store, plan: &Plan) -> Result<usize, PruneError> {
    let keys: Vec<Key> =
        plan.deletions.iter().map(|deletion| Key::Ltx(deletion.file.level, deletion.file.range)).collect();
    for batch in keys.chunks(BATCH) {
        store.delete(batch)?;
    }
    Ok(keys.len())
}

#[cfg(test)]
mod tests;
