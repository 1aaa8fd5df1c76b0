//! Every limit of the engine, with its unit. Tested at the value and one past it.

use core::time::Duration;

/// The largest slot, bytes: what one put carries in every store known. A transaction that needs a larger one goes to
/// level 9 as a stream, with the whole database, behind an empty slot that says so.
pub const SLOT_BYTES: u64 = 5 << 30;

/// The largest raw size (pages times page size, bytes) of a whole image that goes as a slot, which is there or is not,
/// whenever its machine dies. Larger ones go to level 9 as a stream: a slot is first built on the local disk, and while
/// that lasts nothing else is done.
pub const IMAGE_RAW_BYTES: u64 = 256 << 20;

/// A smaller image (raw, bytes) waits for room on a full disk. A larger one goes as a stream then.
pub const IMAGE_NEEDS_NO_ROOM: u64 = 64 << 20;

/// An LTX file without pages: header, end of pages, empty index and its size, trailer; bytes.
pub const BARE_BYTES: u64 = 100 + 6 + 1 + 8 + 16;

/// A slot of fewer bytes that is refused as too large is no reason to make slots smaller.
pub const LEAST_PUT_LIMIT: u64 = 1 << 20;

/// How much a comparison of pages may find and still stage on the local disk, bytes, raw; past it the whole image is
/// streamed, unless what was found is little beside that (an eighth).
pub const COMPARED_BYTES: u64 = 256 << 20;

/// How much WAL one slot takes when there are several commits to choose from, bytes; a soft limit at a commit.
pub const SYNC_WAL_BYTES: u64 = 64 << 20;

/// How much the local tail may hold before it is made a slot of its own, bytes.
pub const TAIL_BYTES: u64 = 64 << 20;

/// How much the slots behind the one that is being put may take on the local disk, bytes. Past it they are let go, and what
/// the bucket lacks is found later by comparing page checksums.
pub const STAGED_BYTES: u64 = 512 << 20;

/// How many slots may wait for their put.
pub const STAGED_SLOTS: usize = 1024;

/// How many durable slots are kept locally until their page checksums are flushed in one go.
pub const UNFLUSHED_SLOTS: usize = 16;

/// An epoch record's largest size, bytes.
pub const EPOCH_RECORD_BYTES: u64 = 4096;

/// How far an epoch record may lie above the newest slot's epoch before it counts as damaged.
pub const EPOCH_LEAP: u64 = 1_000_000;

/// The local state file's largest size, bytes.
pub const STATE_BYTES: u64 = 64 << 10;

/// How many contents that a file may have been brought forward to are remembered: one more for each crash in between
/// that found the replica further on.
pub const FORWARD_CONTENTS: usize = 64;

/// The safety net under file notification: how long an idle engine sleeps at most.
pub const IDLE_LOOK: Duration = Duration::from_secs(60);

/// After how long without a change a sidecar parks a database.
pub const PARK_AFTER: Duration = Duration::from_secs(60);

/// How many bytes of a database each second of being idle counts for: it is parked only once it was idle for longer than
/// this takes it, since the end of that may be a look at every page. Read a hundred times as fast, that is a hundredth.
pub const PARK_BYTES_A_SECOND: u64 = 2 << 20;

/// How long after a file event an unchanged WAL index is polled fast: the event comes before the commit is visible.
pub const EVENT_POLL: Duration = Duration::from_millis(15);

/// The first pause of that polling; each is half as long again, up to [`EVENT_POLL_MAX_PAUSE`].
pub const EVENT_POLL_PAUSE: Duration = Duration::from_micros(20);

/// See [`EVENT_POLL_PAUSE`].
pub const EVENT_POLL_MAX_PAUSE: Duration = Duration::from_millis(1);

/// How long a commit that is written but not yet visible (a slow fsync, a killed writer) is looked after.
pub const HIDDEN_COMMIT_WATCH: Duration = Duration::from_secs(60);

/// How long the database must have been quiet before the engine stands aside for a foreign checkpointer.
pub const QUIET: Duration = Duration::from_millis(20);

/// How long `BEGIN IMMEDIATE` is tried for a checkpoint before it is put off.
pub const WRITE_LOCK_TRIES: Duration = Duration::from_secs(2);

/// How old the only snapshot of an idle database may become before it is written anew: a provider's lifecycle rule
/// counts in whole days.
pub const SNAPSHOT_REFRESH: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The least time between two looks at what retention lets go.
pub const PRUNE_PAUSE: Duration = Duration::from_secs(15);

/// How long slots that may go wait for others to go with them (R62: a listing for each slot is more than a free tier
/// allows).
pub const PRUNE_GATHER: Duration = Duration::from_secs(5 * 60);

/// How many slots that may go are not left to gather: a listing's worth of work in halves.
pub const PRUNE_SLOTS: usize = 500;

/// The least time a slot stays in the bucket, by the store's clock, whatever the retention says (three times the
/// reuse horizon of the format).
pub const SLOT_MIN_AGE: Duration = Duration::from_secs(180);

/// How old a proof of the chain's end may be when the answer of a create arrives: a constant of the format, since the
/// least age of a slot counts on it.
pub const REUSE_HORIZON: Duration = Duration::from_secs(60);

/// How old the newest claim must be before anybody makes another: two busy servers take turns instead of fighting.
pub const TENURE: Duration = Duration::from_secs(2);

/// How long a newcomer waits for the closing records of those before it.
pub const HAND_OVER: Duration = Duration::from_secs(5);

/// The least time between two looks for a higher claim, of those that go along with puts or that somebody waits for.
pub const LOOK_PAUSE: Duration = Duration::from_millis(200);
