//! What is noted beside the local state for people to look at. Nothing is ever decided by it.

use crate::files::{self, Files};
use litekeep_core::limits;
use litekeep_formats::{TimestampMs, Txid};
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

/// The file that says which state an engine restored by itself: its transaction, the time by this machine's clock
/// (milliseconds), and the replica, with a space between them.
pub const RESTORED: &str = "restored";

/// The last restore from this replica that an engine made by itself, if a seal or SQLite's check vouched for it: which
/// transaction, and when. `dir` is the database's local state.
pub fn restored(files: &dyn Files, dir: &Path, replica: &str) -> Option<(Txid, TimestampMs)> {
    let text = files::read_small(files, &dir.join(RESTORED), limits::STATE_BYTES).ok().flatten()?;
    let text = String::from_utf8(text).ok()?;
    let mut words = text.splitn(3, ' ');
    let (txid, at) = (Txid::parse_hex(words.next()?)?, TimestampMs(words.next()?.parse().ok()?));
    (words.next()? == replica).then_some((txid, at))
}

pub(crate) fn note_restored(
    files: &dyn Files,
    dir: &Path,
    replica: &str,
    (txid, at): (Txid, TimestampMs),
) -> io::Result<()> {
    files::replace(files, &dir.join(RESTORED), format!("{txid} {} {replica}", at.0).as_bytes())
}

pub(crate) fn note_create_only(files: &dyn Files, dir: &Path, kept: bool) -> io::Result<()> {
    if create_only(files, dir) == Some(kept) {
        return Ok(());
    }
    let text: &[u8] = if kept { b"yes" } else { b"no" };
    files::replace(files, &dir.join(CREATE_ONLY), text)
}
