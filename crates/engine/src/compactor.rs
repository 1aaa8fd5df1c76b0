//! Moves the files of a level into the next, one bounded unit at a time.
//!
//! Holds nothing between units: what is done is what the bucket shows (R35). Never deletes anything, and never
//! touches slots; when to run is the caller's business.

use crate::merge::{Base, Inputs, Kind, Made, Merge, MergeError, merge_into};
use crate::restore::{self, Flaw};
use litekeep_core::compact::{Limits, Next, Unit, next_unit};
use litekeep_core::restore::{Catalog, LtxFile};
use litekeep_formats::ltx::PageEncoding;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{Store, StoreError};

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do for this level.
    Nothing,
    /// Merged files into one of the next level.
    Merged(Made),
    /// A whole image became a snapshot of level 9 instead (R36).
    Promoted(Made),
    /// These TXIDs are missing and no snapshot bridges them; a snapshot of the newest state heals it (R32).
    Hole(TxidRange),
}

/// Does the next unit from `from` upwards, if there is one. The listing must be fresh: the result is not in it.
///
/// # Errors
/// [`MergeError`]; nothing was made visible.
pub fn step(
    store: &dyn Store,
    catalog: &Catalog,
    from: Level,
    limits: Limits,
    encoding: PageEncoding,
) -> Result<Step, MergeError> {
    let mut bridged: Vec<Txid> = Vec::new();
    // Behind an announcement without its image come slots without pages, up to one that holds every page. Any other page
    // is laid over an image that was lost.
    let mut passing: Option<LtxFile> = None;
    loop {
        let mut unit = match next_unit(catalog, from, limits, &bridged) {
            Next::Nothing => return Ok(Step::Nothing),
            Next::Hole(hole) => return Ok(Step::Hole(hole)),
            Next::Unit(unit) => unit,
        };
        let mut inputs = Inputs::open(store, &unit.inputs)?;
        while let Some(kind) = inputs.first_kind() {
            let Some(file) = unit.inputs.first().copied() else { break };
            let snapshot = TxidRange::new(Txid::FIRST, file.range.max()).unwrap_or(file.range);
            let stands = catalog.contains(Level::SNAPSHOTS, snapshot);
            match kind {
                Kind::Image if !stands => return promote(store, file, encoding).map(Step::Promoted),
                Kind::Bare if passing.is_none() => break,
                Kind::Pages => match passing {
                    Some(announced) => {
                        let key = restore::key(&announced);
                        return Err(MergeError::Bad { key, what: Flaw::ContentElsewhere });
                    }
                    None => break,
                },
                Kind::Image => passing = None,
                Kind::Announces => passing = (!stands || inputs.first_was_passed()).then_some(file),
                Kind::Bare => {}
            }
            unit.inputs.remove(0);
            bridged.push(file.range.max());
            inputs.skip_first();
        }
        if unit.inputs.is_empty() {
            continue;
        }
        if let Some(at) = inputs.first_image() {
            unit.inputs.truncate(at);
            inputs.truncate(at);
        }
        let commit = commit_before(store, catalog, &unit)?;
        let merge = Merge::of(inputs, Base::State(commit))?;
        return merge_into(store, merge, unit.to, None, encoding).map(Step::Merged);
    }
}

/// A whole image as a snapshot of its position.
fn promote(store: &dyn Store, file: LtxFile, encoding: PageEncoding) -> Result<Made, MergeError> {
    let merge = Merge::open(store, &[file], Base::Nothing)?;
    let sealed = merge.sealed();
    merge_into(store, merge, Level::SNAPSHOTS, sealed, encoding)
}

/// The database's page count before a unit, from a file that ends right there.
fn commit_before(store: &dyn Store, catalog: &Catalog, unit: &Unit) -> Result<Option<u32>, StoreError> {
    let Some(end) = unit.inputs.first().and_then(|file| file.range.min().previous()) else {
        return Ok(Some(0));
    };
    match catalog.files().rev().find(|file| file.range.max() == end) {
        Some(file) => Ok(restore::header(store, file)?.map(|header| header.commit)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
