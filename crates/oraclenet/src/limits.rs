//! Every limit of the server, with its unit.

use std::time::Duration;

/// Reading connections.
pub const READERS: usize = 4;
/// How long one read may take.
pub const READ_TIME: Duration = Duration::from_secs(10);
/// Writes that may wait for the writer.
pub const WRITE_QUEUE: usize = 1024;
/// Commits that may wait for the replica.
pub const GATE_WAITING: usize = 4096;
/// Writes that may wait until this server owns the replica.
pub const OWNERSHIP_WAITING: usize = 1024;
/// How often a write that waits asks again; far below [`litekeep::node::WISH`].
pub const ASK_AGAIN: Duration = Duration::from_secs(3);
/// How old a standby's last look may be when somebody reads.
pub const LOOK_AGE: Duration = Duration::from_millis(200);
/// How long a read waits for a look; then it is answered from what is here. A standby that is behind a busy owner, with
/// a store that takes 0.3 s for a request, comes to the end of the chain within two seconds; whoever looks for his own
/// post would rather wait for that than be told that it is not there. Far below what proxies and clients wait.
pub const LOOK_TIME: Duration = Duration::from_secs(5);
/// The same of a server that owns, as far as it knows, and a quarter of the time that a write waits at most: mostly it is
/// alone, and only its store is slow to say so.
pub const OWNER_LOOK_TIME: Duration = Duration::from_secs(2);
/// The pause between two looks while the store does not answer. Nobody waits for them.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Requests whose outcome was unknown to their senders, remembered so that a repeat is no second one.
pub const DOUBTS: usize = 10_000;
/// Oracles whose presence may wait in memory.
pub const BEATS: usize = 100_000;
/// The presence is written down at the latest after this long.
pub const BEATS_AT_LATEST: Duration = Duration::from_secs(60);
/// Bytes of a request's body. The longest record has 5,200 characters, and there are no uploads.
pub const BODY: usize = 1024 * 1024;
/// How long a body may take to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a head may take to arrive, and how long an idle connection is kept.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
pub const HEAD: usize = 64 * 1024;
/// Bytes of a path with its query.
pub const URI: usize = 16 * 1024;
/// Fields of a multipart form.
pub const FORM_FIELDS: usize = 500;
/// Related records that `expand` puts into one answer; each counts as often as it is shown.
pub const EXPANDED: usize = 10_000;
/// Open connections.
pub const CONNECTIONS: usize = 4096;
/// Password checks that may wait.
pub const PASSWORDS_WAITING: usize = 32;
