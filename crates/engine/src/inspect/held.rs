//! What a replica holds now, as far as its listing and the names past that tell: a few requests, and no file is read but
//! the newest one's ends. It proves no file's content; `verify` does.

use crate::survey;
use litekeep_core::restore::points;
use litekeep_formats::Txid;
use litekeep_store::{Store, StoreError};

/// What a restore would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// The newest transaction of which there is a file.
    pub newest: Option<Txid>,
    /// The newest transaction that a restore reaches; less than the newest where objects are missing before that.
    pub restorable: Option<Txid>,
}

/// Looks.
///
/// # Errors
/// The store's. A replica that is empty holds nothing.
pub fn held(store: &dyn Store) -> Result<Held, StoreError> {
    let catalog = survey::list_all(store)?;
    let newest = catalog.newest();
    let hole = survey::has_hole(store, &catalog)?;
    // A slot whose content is a snapshot's that is not there is a point like any other to its listing.
    let reached = points(&catalog).into_iter().filter(|point| point.restorable).map(|point| point.txid);
    let restorable = reached.filter(|txid| !hole || Some(*txid) != newest).max();
    Ok(Held { newest, restorable })
}
