//! Every limit of the server, with its unit.

use std::time::Duration;

/// Reading connections.
pub const READERS: usize = 4;
/// Writes that may wait for the writer.
pub const WRITE_QUEUE: usize = 1024;
/// Oracles whose presence may wait in memory.
pub const BEATS: usize = 100_000;
/// The presence is written down at the latest after this long.
pub const BEATS_AT_LATEST: Duration = Duration::from_secs(60);
/// Bytes of a request's body (PocketBase's default).
pub const BODY: usize = 32 * 1024 * 1024;
