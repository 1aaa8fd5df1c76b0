//! Snapshots of level 9, made from what lies in the bucket.
//!
//! Writers are not involved and the local file is not read. Before a snapshot becomes visible its pages are compared
//! with the sealed checksum of its position; one that does not give it is dropped (docs/model.md, rule 7).

use crate::merge::{Base, Made, Merge, MergeError, merge_into};
use litekeep_core::restore::{Catalog, LtxFile, NoPlan, plan_txid};
use litekeep_formats::ltx::PageEncoding;
use litekeep_formats::{Checksum, Level, Txid, TxidRange};
use litekeep_store::{Key, Store};

/// How many files are merged at once; more are done by way of a snapshot in between (R67).
const INPUTS: usize = 256;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The position cannot be reached.
    #[error(transparent)]
    NoPlan(#[from] NoPlan),
    /// The files could not be merged, or do not give what is sealed.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// It stands.
    Made(Made),
    /// One of this position stands already.
    There(Key),
}

/// Makes the snapshot of `at`, a durable position. `expected` is the database checksum of that position where the
/// caller knows it; otherwise the seal of the newest file counts, if there is one.
///
/// # Errors
/// [`SnapshotError`]; nothing was made visible.
pub fn snapshot(
    store: &dyn Store,
    catalog: &Catalog,
    at: Txid,
    expected: Option<Checksum>,
    encoding: PageEncoding,
) -> Result<Snapshot, SnapshotError> {
    snapshot_by(store, catalog, (at, expected), encoding, INPUTS)
}

fn snapshot_by(
    store: &dyn Store,
    catalog: &Catalog,
    (at, expected): (Txid, Option<Checksum>),
    encoding: PageEncoding,
    inputs: usize,
) -> Result<Snapshot, SnapshotError> {
    let range = TxidRange::new(Txid::FIRST, at).unwrap_or(TxidRange::single(at));
    if catalog.contains(Level::SNAPSHOTS, range) {
        return Ok(Snapshot::There(Key::Ltx(Level::SNAPSHOTS, range)));
    }
    let mut catalog = catalog.clone();
    loop {
        let plan = plan_txid(&catalog, at)?;
        if plan.files.len() <= inputs {
            return Ok(Snapshot::Made(make(store, &plan.files, expected, encoding)?));
        }
        let first = &plan.files[..inputs.max(2)];
        let made = make(store, first, None, encoding)?;
        let Key::Ltx(level, range) = made.key else { continue };
        catalog.insert(LtxFile { level, range, size: made.size, ..first[first.len() - 1] });
    }
}

fn make(
    store: &dyn Store,
    files: &[LtxFile],
    expected: Option<Checksum>,
    encoding: PageEncoding,
) -> Result<Made, MergeError> {
    let merge = Merge::open(store, files, Base::Nothing)?;
    let expected = expected.or(merge.sealed());
    merge_into(store, merge, Level::SNAPSHOTS, expected, encoding)
}

#[cfg(test)]
mod tests;
