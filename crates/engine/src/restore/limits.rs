//! The limits of a restore, a merge and a snapshot, each with its unit.

use std::time::Duration;

/// One ranged read, bytes.
pub(crate) const CHUNK_BYTES: u64 = 4 << 20;

/// Requests in flight at most, whatever is asked for.
pub(crate) const PARALLELISM_MAX: usize = 64;

/// Requests in flight unless told otherwise (Litestream's `-parallelism`).
pub const PARALLELISM: usize = 8;

/// How often a restore lists and plans anew because objects went away under it (R27).
pub(crate) const PLANS: u32 = 8;

/// The pause before planning anew.
pub(crate) const REPLAN_PAUSE: Duration = Duration::from_millis(500);

/// How many looks must show that something is not there before it is said: listings are not made at one moment, and some lag (R60).
pub(crate) const LOOKS: u32 = 3;

/// How many missing slots are asked for by name, where a listing may lag (R60).
pub(crate) const ASK_BY_NAME: u64 = 64;

/// Contiguous pages gathered into one write, bytes.
pub(crate) const WRITE_BYTES: usize = 1 << 20;

/// What an unfinished transaction of a v0.3 WAL may take in memory before it goes to a file, bytes.
pub(crate) const PENDING_BYTES: usize = 16 << 20;

/// Pages in one block of the bitmap of written pages; a block is made when its first page is written, so that a
/// damaged header cannot make us allocate for pages that nobody has.
pub(crate) const BITMAP_BLOCK: u32 = 1 << 16;
