//! Why a database is not being replicated, and whose move it is.

use crate::local::LocalError;
use crate::slot::BuildError;
use litekeep_core::lineage::BesideReason;
use litekeep_formats::{Epoch, Txid};
use litekeep_store::{ErrorKind, StoreError};
use std::io;
use std::path::PathBuf;

/// An error of the engine. [`KeepError::kind`] tells the caller's duty.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The local state directory.
    #[error("{0}")]
    Local(#[from] LocalError),
    /// A local file.
    #[error("{what} {path}: {error}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The file system's answer.
        error: io::Error,
    },
    /// SQLite.
    #[error("database {path}: {error}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        error: rusqlite::Error,
    },
    /// A slot could not be built.
    #[error("cannot build transaction {txid}: {error}")]
    Build {
        /// Which one.
        txid: Txid,
        /// Why.
        error: String,
    },
    /// The local file is not on the replica's chain.
    #[error("{database} does not continue the replica {replica} (its newest transaction is {tip}): {reason}")]
    Beside {
        /// The local file.
        database: PathBuf,
        /// The replica.
        replica: String,
        /// Its newest transaction.
        tip: Txid,
        /// Which rule was met.
        reason: BesideReason,
    },
    /// The local file is an older state of the replica.
    #[error(
        "{database} is an older state of the replica {replica}: it ends at transaction {local}, the replica at {tip}"
    )]
    Behind {
        /// The local file.
        database: PathBuf,
        /// The replica.
        replica: String,
        /// The last transaction of the local file.
        local: Txid,
        /// The replica's newest.
        tip: Txid,
    },
    /// The replica once had an owner and now holds nothing, and the local file has no record of it.
    #[error("the replica {replica} was wiped: it had an owner (epoch {epoch}), and no level holds any data")]
    Wiped {
        /// The replica.
        replica: String,
        /// The newest epoch record.
        epoch: Epoch,
    },
    /// The replica's database has pages of another size than the local file, which cannot take them in place.
    #[error(
        "{database} has pages of {ours} bytes, the replica {replica} of {theirs} from transaction {txid} on"
    )]
    PageSize {
        /// The local file.
        database: PathBuf,
        /// The replica.
        replica: String,
        /// A transaction with the other size.
        txid: Txid,
        /// Bytes of a page of the local file.
        ours: u32,
        /// Bytes of a page of that transaction.
        theirs: u32,
    },
    /// The replica held the transaction that the local file is at, and holds nothing now; nobody ever owned it.
    #[error("the replica {replica} holds nothing any more; the local file is its transaction {txid}")]
    Emptied {
        /// The replica.
        replica: String,
        /// The local file's transaction.
        txid: Txid,
    },
    /// Somebody else writes to the replica.
    #[error("transaction {txid} of {replica} was written by somebody else: {by}")]
    Fenced {
        /// The name that was taken.
        txid: Txid,
        /// The replica.
        replica: String,
        /// What the taken slot and its epoch's record say.
        by: String,
    },
    /// An epoch record that cannot be true.
    #[error("the epoch record {epoch} of {replica} lies far above every slot: it is damaged")]
    EpochDamaged {
        /// Its number.
        epoch: Epoch,
        /// The replica.
        replica: String,
    },
    /// A stop ended before the tail was in the bucket.
    #[error("transactions {from} to {to} did not reach {replica} in time: {why}")]
    Unsent {
        /// First that is missing.
        from: Txid,
        /// Last that is missing.
        to: Txid,
        /// The replica.
        replica: String,
        /// The last trouble.
        why: String,
    },
    /// Changes that were committed could not be captured before the stop.
    #[error("the last changes of {database} were not captured before the stop: {why}")]
    Uncaptured {
        /// The database.
        database: PathBuf,
        /// The last trouble.
        why: String,
    },
    /// The database was removed before a stop.
    #[error(
        "the database {database} is gone; what was committed to it {} can't be read any more",
        .durable.map_or_else(|| "was never in the replica and".to_owned(), |txid| format!("after transaction {txid}"))
    )]
    Gone {
        /// The database.
        database: PathBuf,
        /// The newest transaction in the replica.
        durable: Option<Txid>,
    },
    /// It took longer than the caller allowed.
    #[error("not in the bucket after {0:.1} s")]
    Timeout(f64),
    /// This node does not own the replica (any more).
    #[error("this instance does not own the replica")]
    NotOwner,
    /// The store cannot create only, and nobody said that there is one writer.
    #[error(
        "{0} replaces objects that are to be created only: nothing would protect it from a second writer"
    )]
    NoCreateOnly(String),
    /// The application could not go on as an owner.
    #[error("{0}")]
    Application(String),
    /// Replication had ended before, by this error or because it was stopped.
    #[error("replication has ended{}", .0.as_ref().map_or_else(String::new, |error| format!(": {error}")))]
    Ended(Option<std::sync::Arc<KeepError>>),
    /// A job ended without an answer: a panic, or no thread to be had.
    #[error("the job `{0}` ended without an answer")]
    JobLost(&'static str),
}

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepErrorKind {
    /// Passing: the engine tries again by itself.
    Retry,
    /// A person must change something.
    FixConfig,
    /// The file and the chain don't fit, or something is damaged: a person must decide.
    DataDamaged,
    /// Another writer is at work.
    Fenced,
    /// A broken promise of our own code.
    Bug,
}

/// No room on the disk, or none left of what this user or this file may take.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl KeepError {
    /// See [`KeepErrorKind`].
    pub fn kind(&self) -> KeepErrorKind {
        match self {
            Self::Store(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::Retry | ErrorKind::Wait => KeepErrorKind::Retry,
                ErrorKind::FixConfig | ErrorKind::Unsupported | ErrorKind::TooLarge => {
                    KeepErrorKind::FixConfig
                }
                ErrorKind::DataDamaged => KeepErrorKind::DataDamaged,
                ErrorKind::Bug => KeepErrorKind::Bug,
            },
            Self::Local(_) | Self::NoCreateOnly(_) | Self::Application(_) => KeepErrorKind::FixConfig,
            Self::Io { .. }
            | Self::Sqlite { .. }
            | Self::Unsent { .. }
            | Self::Uncaptured { .. }
            | Self::Gone { .. }
            | Self::Timeout(_)
            | Self::NotOwner => KeepErrorKind::Retry,
            Self::Beside { .. }
            | Self::Behind { .. }
            | Self::Wiped { .. }
            | Self::PageSize { .. }
            | Self::Emptied { .. }
            | Self::EpochDamaged { .. } => KeepErrorKind::DataDamaged,
            Self::Fenced { .. } => KeepErrorKind::Fenced,
            Self::Build { .. } | Self::JobLost(_) => KeepErrorKind::Bug,
            Self::Ended(error) => error.as_ref().map_or(KeepErrorKind::Retry, |error| error.kind()),
        }
    }

    /// Whether a local disk has no room left.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { error, .. } => is_no_room(error),
            Self::Sqlite { error, .. } => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Local(LocalError::Io { error, .. }) => is_no_room(error),
            _ => false,
        }
    }

    /// What happened, without what differs from one try to the next: the same trouble has the same gist.
    pub(crate) fn gist(&self) -> String {
        match self {
            Self::Store(error) => error.gist(),
            other => other.to_string(),
        }
    }

    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Beside { .. } => {
                "to keep the replica's history, move the local file away and restore; to keep the local file, give it \
                 a replica path of its own"
            }
            Self::Behind { .. } => {
                "move the local file away, or bring it forward with `litekeep restore -force`"
            }
            Self::PageSize { .. } => "restore the database anew",
            Self::Emptied { .. } => "look for the data before you go on: the local file is a copy of it",
            Self::Wiped { .. } => {
                "if it was emptied on purpose, remove its `epochs/` objects too; else look for the data before you go on"
            }
            Self::Fenced { .. } => {
                "two writers share one replica path: stop one of them, then restore, or give each a path of its own"
            }
            Self::EpochDamaged { .. } => "look at that object; remove it if it is not litekeep's",
            Self::NoCreateOnly(_) => {
                "choose a store that honours If-None-Match (`litekeep doctor` tells), or say that there is one writer only"
            }
            Self::Gone { .. } => "`litekeep restore` brings back what the replica has",
            Self::Local(LocalError::Locked(_)) => "stop the other process first",
            _ => return None,
        })
    }

    /// Names a failed build.
    pub(crate) fn build(txid: Txid, error: &BuildError) -> Self {
        Self::Build { txid, error: error.to_string() }
    }
}
