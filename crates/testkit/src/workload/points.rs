//! Which restore points a replica shows, for the judges: what its names say, without what its slots take back.
//!
//! A slot that announces an image is no state before a slot behind it, without pages, states the same database, or has
//! pages on top; nor are the slots without pages a state that went on without that image. Found out here by other means than
//! in the engine: from below, one slot at a time.

use litekeep::restore::header;
use litekeep_core::limits::BARE_BYTES;
use litekeep_core::restore::{Catalog, LtxFile, restore_points};
use litekeep_formats::ltx::{Header, Marks};
use litekeep_formats::{Level, Txid};
use litekeep_store::Store;
use std::collections::BTreeMap;

/// Ascending. A slot that cannot be read counts as what its name says.
pub(crate) fn advertised(store: &dyn Store, catalog: &Catalog) -> Vec<Txid> {
    let listed = catalog.level(Level::SLOTS);
    let bare: Vec<Txid> =
        listed.iter().filter(|file| file.size <= BARE_BYTES).map(|file| file.range.max()).collect();
    let matters =
        |txid: Txid| bare.contains(&txid) || txid.previous().is_some_and(|below| bare.contains(&below));
    let slots: BTreeMap<Txid, (LtxFile, Header)> = listed
        .iter()
        .filter(|file| matters(file.range.max()))
        .filter_map(|file| Some((file.range.max(), (*file, header(store, file).ok().flatten()?))))
        .collect();
    let marks = |header: &Header| header.seal().map_or(Marks::NONE, |seal| seal.marks);
    let database = |header: &Header| header.seal().and_then(|seal| seal.database);
    let mut taken_back = Vec::new();
    let mut passed = false;
    for (txid, (file, header)) in &slots {
        if marks(header).contains(Marks::CONTENT_IN_LEVEL_9) {
            let behind = slots.get(&txid.next());
            passed = match behind {
                Some((_, behind))
                    if marks(behind) != Marks::NONE && !marks(behind).contains(Marks::FENCE) =>
                {
                    true
                }
                Some((behind, _)) if behind.size > BARE_BYTES => false,
                Some((_, behind)) => database(behind) != database(header),
                // Merged or deleted, or the newest of all.
                None => {
                    !catalog.snapshots().iter().any(|image| image.range.max() == *txid)
                        || catalog.newest() == Some(*txid)
                }
            };
        } else if file.size > BARE_BYTES || marks(header).contains(Marks::FULL_IMAGE) {
            passed = false;
        }
        if passed {
            taken_back.push(*txid);
        }
    }
    restore_points(catalog).into_iter().filter(|point| !taken_back.contains(point)).collect()
}
