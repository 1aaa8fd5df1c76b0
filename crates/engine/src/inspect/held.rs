//! What a replica holds now, as far as its listing and the names past that tell: a few requests, and no file is read but
//! the newest one's ends. It proves no file's content; `verify` does.

use crate::restore;
use crate::survey;
use litekeep_core::restore::{Catalog, points};
use litekeep_formats::Txid;
use litekeep_formats::ltx::Header;
use litekeep_store::{Store, StoreError};

/// What a restore would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// The newest transaction that counts: of which there is a file, and no announcement of an image that never came.
    pub newest: Option<Txid>,
    /// The newest transaction that a restore reaches; less than the newest where objects are missing before that, or too
    /// small to be files.
    pub restorable: Option<Txid>,
}

/// Looks.
///
/// # Errors
/// The store's. A replica that is empty holds nothing.
pub fn held(store: &dyn Store) -> Result<Held, StoreError> {
    let catalog = survey::list_all(store)?;
    let ended = restore::ended(store, &catalog, 1)?;
    let counts = catalog.up_to(ended.at);
    let whole: Catalog = counts.files().filter(|file| file.size >= Header::LEN as u64).copied().collect();
    let reached = points(&whole).into_iter().filter(|point| point.restorable).map(|point| point.txid);
    let (newest, restorable) = (ended.at, reached.max());
    Ok(Held { newest, restorable })
}
