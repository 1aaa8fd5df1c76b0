//! Brings a database back from a replica: look, choose, plan, fetch, apply, verify, put in place.
//!
//! Ends in one of a closed set of ways: a [`Restored`] database, a [`Outcome::Skipped`] one because the caller said
//! so, or a [`RestoreError`]. Never writes to the replica, and never touches what stands at the target before the new
//! file is verified and durable.

mod apply;
mod ending;
mod error;
mod fetch;
mod image;
mod limits;
mod look;
mod output;
mod run;
mod v3;
mod verify;

#[cfg(test)]
pub(crate) mod forge;
#[cfg(test)]
mod tests;

pub use apply::Flaw;
pub use error::{Empty, RestoreError, exit};
pub use fetch::FetchError;
pub(crate) use limits::CHUNK_BYTES;
pub(crate) use limits::LOOKS;
pub use limits::PARALLELISM;
pub use look::{Look, catalog, header, look};
pub(crate) use look::{each, fill_holes, fill_in, generations, read_ahead};
pub use run::restore;
pub use verify::IntegrityCheck;

pub(crate) use apply::{check_header, key, neighbours};
pub(crate) use ending::{Unfinished, doubtful, ended, has_image, image, passed};
pub(crate) use fetch::{Budget, Object, Ranged, fetch};
pub(crate) use verify::immutable_uri;

use crate::files::Files;
use crate::local::RestoredRecord;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_core::restore::{LtxFile, Target};
use litekeep_formats::ltx::Seal;
use litekeep_formats::{Checksum, PageSize, TimestampMs, Txid};
use litekeep_store::{Key, Store, V3Generation};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a restore works with.
#[derive(Clone)]
pub struct RestoreEnv {
    /// The replica.
    pub store: Arc<dyn Store>,
    /// The local disk.
    pub files: Arc<dyn Files>,
    /// Age and duration.
    pub clock: Arc<dyn Clock>,
    /// The SQLite VFS that sees the same files; the default one for `None`.
    pub vfs: Option<String>,
}

/// What to restore, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file to make.
    pub output: PathBuf,
    /// Which state.
    pub target: Target,
    /// Restore this v0.3 generation, whatever else lies there.
    pub generation: Option<V3Generation>,
    /// Restore a v0.3 backup to the end of this WAL.
    pub v3_index: Option<u32>,
    /// Replace what stands at the target.
    pub force: bool,
    /// A database at the target is no error: leave it and say so.
    pub if_db_not_exists: bool,
    /// An empty replica is no error: say so.
    pub if_replica_exists: bool,
    /// Plan only; nothing is read but listings, nothing is written.
    pub dry_run: bool,
    /// How much SQLite checks.
    pub integrity: IntegrityCheck,
    /// Requests in flight, 64 at most; 1 works on the caller's thread alone, in a fixed order.
    pub parallelism: usize,
    /// The database's local state directory: the page checksums are written there for the replicator. `None` keeps
    /// none.
    pub state_dir: Option<PathBuf>,
    /// See [`Decisions::is_whole`]; tests put a wrong one here.
    pub is_whole: fn(Checksum, Checksum) -> bool,
}

impl Options {
    /// The newest state into `output`, replacing nothing.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self {
            output: output.into(),
            target: Target::Latest,
            generation: None,
            v3_index: None,
            force: false,
            if_db_not_exists: false,
            if_replica_exists: false,
            dry_run: false,
            integrity: IntegrityCheck::Auto,
            parallelism: PARALLELISM,
            state_dir: None,
            is_whole: Decisions::RIGHT.is_whole,
        }
    }
}

/// What happens, while it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// This is going to be restored.
    Planned(Planned),
    /// So much of the plan's bytes has been read and applied.
    Fetched {
        /// Bytes of objects.
        bytes: u64,
        /// Of all objects planned.
        total: u64,
    },
    /// Begun anew: objects went away or turned out bad.
    Replanning {
        /// What happened.
        why: String,
    },
    /// SQLite checks the file.
    Checking,
    /// The file takes its place.
    Placing,
}

/// A plan, for people and for `-dry-run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Where from.
    pub location: String,
    /// Which kind.
    pub source: Source,
    /// The objects, in the order in which they are laid over each other, with their sizes.
    pub objects: Vec<(Key, u64)>,
    /// Their LTX entries (none for a v0.3 backup).
    pub files: Vec<LtxFile>,
    /// The state after them, for LTX.
    pub txid: Option<Txid>,
    /// Bytes of all objects.
    pub bytes: u64,
}

/// What a database came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An LTX chain, of ours or of Litestream 0.5.
    Ltx,
    /// A Litestream v0.3 backup.
    V3 {
        /// Its generation.
        generation: V3Generation,
        /// The last WAL applied.
        index: u32,
    },
}

/// How a restore that is no error ends.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A verified database stands at the target.
    Restored(Box<Restored>),
    /// Nothing was done, as asked for.
    Skipped(Skipped),
    /// The plan of a dry run.
    Planned(Planned),
}

/// See [`Outcome::Skipped`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skipped {
    /// `if_db_not_exists`: there is one.
    DatabaseExists(PathBuf),
    /// `if_replica_exists`: nothing was ever there.
    ReplicaEmpty(Empty),
}

/// What vouches for a restored database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// Its pages give the database checksum of the newest file's seal (or of its trailer).
    Sealed,
    /// There was no seal; SQLite's check found nothing.
    Checked,
    /// The caller declined a check: file checksums and completeness only.
    Unchecked,
}

/// Something worth telling about a restore that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// This object was no good; another way was taken to the same state.
    WentAround(String),
    /// So many of the files read carry no seal.
    Unsealed(usize),
    /// SQLite could not check these tables: they use collations, functions or modules of the application.
    NotCheckable(Vec<String>),
    /// v0.3 files beside this chain are newer than its end; somebody runs an old Litestream on this path.
    NewerV3 {
        /// Their newest time.
        time: TimestampMs,
    },
    /// What ends the chain is an image that was announced and not finished (its writer died on the way, or is still at
    /// it), up to this transaction. Nothing of it was ever confirmed; the state before it is the newest.
    Unfinished(Txid),
}

/// A database that was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Where it stands.
    pub output: PathBuf,
    /// What it came from.
    pub source: Source,
    /// The state's time.
    pub timestamp: TimestampMs,
    /// How old that is by this machine's clock.
    pub age: Duration,
    /// Bytes of objects read.
    pub bytes: u64,
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes of a page; `None` for an empty v0.3 database.
    pub page_size: Option<PageSize>,
    /// Pages of the database.
    pub pages: u32,
    /// How long it took.
    pub elapsed: Duration,
    /// What vouches for it.
    pub integrity: Integrity,
    /// What else is to be said.
    pub notes: Vec<Note>,
    /// Where on the chain it stands; `None` for a v0.3 backup.
    pub chain: Option<ChainEnd>,
    /// The page checksums, as the replicator keeps them, under a temporary name; `None` unless a state directory was
    /// given.
    pub sums: Option<PathBuf>,
}

impl Restored {
    /// What the replicator is to know, so that it goes on with the same chain; `None` for a v0.3 backup, and where
    /// no page checksums were kept. `replica` is the store's location.
    pub fn record(&self, replica: String) -> Option<RestoredRecord> {
        let chain = self.chain.as_ref()?;
        Some(RestoredRecord {
            replica,
            txid: chain.txid,
            newest: chain.newest,
            slot: chain.slot,
            database: chain.database,
            timestamp: chain.timestamp,
            commit: self.pages,
            page_size: self.page_size?,
            sums: self.sums.clone()?,
        })
    }

    /// The TXID, for LTX.
    pub fn txid(&self) -> Option<Txid> {
        self.chain.as_ref().map(|chain| chain.txid)
    }
}

/// Where on the chain a restored database stands: all that the replicator needs to go on without uploading anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainEnd {
    /// The state.
    pub txid: Txid,
    /// The newest transaction that counted in the replica then: more than `txid` where an earlier state was asked for.
    pub newest: Txid,
    /// That slot's file checksum, if the slot is still there.
    pub slot: Option<Checksum>,
    /// The newest file's seal.
    pub seal: Option<Seal>,
    /// The rolling database checksum, computed from the pages written.
    pub database: Checksum,
    /// The newest file's time.
    pub timestamp: TimestampMs,
}
