//! What a user may set. In brackets what [`Settings::default`] has: Litestream's values.

use crate::files::FileId;
use litekeep_core::ownership::Times;
use litekeep_formats::ltx::PageEncoding;
use std::time::Duration;

/// Settings of one database's replication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The least time between two slots (1 s); a lone commit after a pause goes at once.
    pub sync_interval: Duration,
    /// How often to look for changes where file notification does not work (1 s).
    pub monitor_interval: Duration,
    /// How many frames the WAL may hold before the engine checkpoints (1000).
    pub min_checkpoint_pages: u32,
    /// How often to checkpoint a WAL that is smaller (1 min); `None` never.
    pub checkpoint_interval: Option<Duration>,
    /// From how many frames on the WAL file is cut to nothing when the database is idle (121,359).
    pub truncate_pages: u32,
    /// The intervals of levels 1, 2, ...: at most 8 (30 s, 5 min, 1 h).
    pub levels: Vec<Duration>,
    /// How often to take a snapshot (24 h).
    pub snapshot_interval: Duration,
    /// How long snapshots are kept (24 h); the newest always is.
    pub snapshot_retention: Duration,
    /// How long slots are kept once they are compacted (5 min, and never less than 3); `None` forever.
    pub l0_retention: Option<Duration>,
    /// How long slots that may go wait for others to go with them (5 min): each round of retention costs a listing.
    pub gather: Duration,
    /// Whether anything is ever deleted from the replica (yes).
    pub retention: bool,
    /// The largest slot, bytes (5 GiB), if the store's own limit of one put is not smaller: a transaction that needs a larger
    /// one goes to level 9 as a stream, with the whole database.
    pub max_slot_bytes: u64,
    /// How much goes into one slot where there are several commits to choose from, bytes of pages, each counted once
    /// (64 MiB): a soft limit, at a commit.
    pub max_sync_wal_bytes: u64,
    /// How long the pauses between two tries become at most while a stop waits for the store (500 ms).
    pub shutdown_retry: Duration,
    /// How pages are written into LTX files.
    pub encoding: PageEncoding,
    /// Where the local state lies, if not in `.<file>-litekeep` beside the database.
    pub meta_path: Option<std::path::PathBuf>,
    /// After how long without a change a database is parked: its connections are closed until somebody writes again. A
    /// large one waits longer ([`PARK_BYTES_A_SECOND`](litekeep_core::limits::PARK_BYTES_A_SECOND)). `None` never.
    pub park_after: Option<Duration>,
    /// Never trust file notification.
    pub always_poll: bool,
    /// The times of the ownership protocol.
    pub times: Times,
    /// How often an idle owner looks for a claim above its own, to hand over; `None`: there is nobody to hand over to, and
    /// it looks only when it puts.
    pub look_every: Option<Duration>,
    /// The epoch's `open` record waits until the owner's handle confirms that its application is well; slots go up all the
    /// same.
    pub open_when_confirmed: bool,
    /// Requests in flight while a state is restored for a comparison (8; 64 at most); 1 works on one thread alone.
    pub restore_parallelism: usize,
    /// What the application's answers mean, for the epoch's records: people who compare two instances read it.
    pub durability: Durability,
    /// Refuse a store that does not create only; else a warning says that it protects from nobody.
    pub require_create_only: bool,
    /// A store that refuses at the start (keys, permissions, quota) is asked again until it does not; else that ends the
    /// start, because a person is still looking.
    pub outlast_refusal: bool,
    /// This file was put in the place of the one that the local state is about, under the eyes of whoever owned the replica
    /// until then: it goes on from there by a comparison of pages, as if it had been seen to come. Any other is a stranger.
    pub successor: Option<FileId>,
}

/// What an application tells its clients by an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is committed on this machine.
    Local,
    /// It is in the replica.
    Replicated,
}

impl Durability {
    /// As an epoch's record spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicated => "replicated",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(1),
            monitor_interval: Duration::from_secs(1),
            min_checkpoint_pages: 1000,
            checkpoint_interval: Some(Duration::from_secs(60)),
            truncate_pages: 121_359,
            levels: vec![Duration::from_secs(30), Duration::from_secs(5 * 60), Duration::from_secs(60 * 60)],
            snapshot_interval: Duration::from_secs(24 * 60 * 60),
            snapshot_retention: Duration::from_secs(24 * 60 * 60),
            l0_retention: Some(Duration::from_secs(5 * 60)),
            gather: litekeep_core::limits::PRUNE_GATHER,
            retention: true,
            max_slot_bytes: litekeep_core::limits::SLOT_BYTES,
            max_sync_wal_bytes: litekeep_core::limits::SYNC_WAL_BYTES,
            shutdown_retry: Duration::from_millis(500),
            encoding: PageEncoding::Block,
            meta_path: None,
            park_after: None,
            always_poll: false,
            times: Times::USUAL,
            look_every: None,
            open_when_confirmed: false,
            restore_parallelism: crate::restore::PARALLELISM,
            durability: Durability::Local,
            require_create_only: false,
            outlast_refusal: false,
            successor: None,
        }
    }
}
