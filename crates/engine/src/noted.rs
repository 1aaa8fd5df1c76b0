//! What is noted beside the local state for people to look at. Nothing is ever decided by it.

use crate::files::{self, Files};
use litekeep_core::limits;
use std::io;
use std::path::Path;

/// The file that says whether the store kept its word to create only: `yes` or `no`.
pub const CREATE_ONLY: &str = "create-only";

/// Whether the replica's store was found to create only when the database was last taken up from here; `None` if that
/// is not known. `dir` is the database's local state.
pub fn create_only(files: &dyn Files, dir: &Path) -> Option<bool> {
    match files::read_small(files, &dir.join(CREATE_ONLY), limits::STATE_BYTES).ok().flatten()?.as_slice() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

pub(crate) fn note_create_only(files: &dyn Files, dir: &Path, kept: bool) -> io::Result<()> {
    if create_only(files, dir) == Some(kept) {
        return Ok(());
    }
    let text: &[u8] = if kept { b"yes" } else { b"no" };
    files::replace(files, &dir.join(CREATE_ONLY), text)
}
