//! The closed set of ways in which a restore ends without a database, each with its exit code and its advice.

use crate::restore::output::OutputError;
use litekeep_core::restore::{self as plan, Nearest, v3};
use litekeep_formats::Epoch;
use litekeep_store::StoreError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// What the process exits with; the command's documentation shows this table.
pub mod exit {
    /// Restored, or skipped because the caller said so.
    pub const OK: u8 = 0;
    /// The local disk, or a wrong use.
    pub const FAILED: u8 = 1;
    /// Nothing was ever there.
    pub const EMPTY: u8 = 10;
    /// There was something, and no level holds data now.
    pub const WIPED: u8 = 11;
    /// Objects are missing or damaged.
    pub const DAMAGED: u8 = 12;
    /// Credentials, bucket or network.
    pub const UNREACHABLE: u8 = 13;
    /// Something stands where the database is to go.
    pub const OUTPUT: u8 = 14;
    /// The replica has no such TXID or time.
    pub const NOT_AVAILABLE: u8 = 15;
}

/// A restore that gave no database. Whatever stood at the target still does.
#[derive(Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// Listing worked, and nothing was ever there. The only outcome after which one may start fresh.
    Empty(Empty),
    /// An epoch was opened here, and no level holds data: it was deleted.
    Wiped {
        /// Where.
        location: String,
        /// The newest epoch that was opened.
        epoch: Epoch,
        /// v0.3 backups lie beside it.
        v3_beside: bool,
    },
    /// Objects are missing.
    Gap {
        /// Where.
        location: String,
        /// What is missing.
        missing: String,
        /// Where one can go instead.
        nearest: Nearest,
    },
    /// Objects are there and no good, and no way leads around them.
    Damaged {
        /// Where.
        location: String,
        /// Which object, and what is wrong with it.
        what: String,
        /// Where one can go instead.
        nearest: Nearest,
    },
    /// The wanted TXID or time is not there.
    NotAvailable {
        /// Where.
        location: String,
        /// Why, and where one can go instead.
        why: String,
        /// It was looked for in a v0.3 backup, whose files another command lists.
        v3: bool,
    },
    /// The store did not answer, or refused.
    Unreachable(Box<StoreError>),
    /// The replica changed under every attempt.
    Unsettled {
        /// How often it was tried.
        attempts: u32,
        /// What went away last.
        last: String,
    },
    /// Something stands at the target.
    OutputExists(Vec<PathBuf>),
    /// The target is open, or being restored, in another process.
    OutputBusy(String),
    /// The local disk.
    Local {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// How many bytes the database needs, where known.
        needed: Option<u64>,
        /// What came of it.
        cause: io::Error,
    },
    /// SQLite could not check or put aside a file.
    Sqlite(String),
}

/// See [`RestoreError::Empty`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Empty {
    /// Where.
    pub location: String,
    /// Paths near it that do hold a replica.
    pub neighbours: Vec<String>,
    /// How many files lie there in the layout of the other kind of store (R50).
    pub other_layout: usize,
    /// Somebody claimed an epoch here and never wrote: an unfinished first start.
    pub claimed: bool,
}

impl RestoreError {
    /// See [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Empty(empty) if !empty.is_confirmed() => exit::DAMAGED,
            Self::Empty(_) => exit::EMPTY,
            Self::Wiped { .. } => exit::WIPED,
            Self::Gap { .. } | Self::Damaged { .. } => exit::DAMAGED,
            Self::NotAvailable { .. } => exit::NOT_AVAILABLE,
            Self::Unreachable(_) | Self::Unsettled { .. } => exit::UNREACHABLE,
            Self::OutputExists(_) | Self::OutputBusy(_) => exit::OUTPUT,
            Self::Local { .. } | Self::Sqlite(_) => exit::FAILED,
        }
    }

    /// What the user can do, in one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty(empty) => empty.hint(),
            Self::Wiped { v3_beside: true, .. } => {
                "nothing starts fresh over it; `-generation` restores the v0.3 backup beside it".into()
            }
            Self::Wiped { .. } => {
                "nothing starts fresh over it: bring the objects back (bucket versioning?), or \
                                   choose another path for a new replica"
                    .into()
            }
            Self::Gap { nearest, .. } | Self::Damaged { nearest, .. } => nearest.to_string(),
            Self::NotAvailable { v3: true, .. } => "list what there is with `litekeep wal`".into(),
            Self::NotAvailable { .. } => "list what there is with `litekeep ltx -level all`".into(),
            Self::Unreachable(error) => match error.kind() {
                litekeep_store::ErrorKind::FixConfig => {
                    "check the replica URL, the credentials and their permission to list and read".into()
                }
                _ => "try again; nothing was changed".into(),
            },
            Self::Unsettled { .. } => "retention runs faster than this restore; try again".into(),
            Self::OutputExists(_) => "choose another place with `-o`, or replace it with `-force`".into(),
            Self::OutputBusy(_) => "stop whatever has it open, then try again".into(),
            Self::Local { cause, needed, .. } if cause.kind() == io::ErrorKind::StorageFull => match needed {
                Some(bytes) => format!("the database needs {bytes} bytes beside the target"),
                None => "make room beside the target".into(),
            },
            Self::Local { .. } | Self::Sqlite(_) => "the target was left as it was".into(),
        }
    }

    /// The local disk's answer.
    pub(crate) fn local(operation: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Self {
        Self::Local { operation, path: path.into(), needed: None, cause }
    }

    pub(crate) fn output(target: &std::path::Path, error: OutputError) -> Self {
        match error {
            OutputError::Busy(_) | OutputError::InUse(_) => Self::OutputBusy(error.to_string()),
            OutputError::Unrest(_) => Self::Sqlite(error.to_string()),
            OutputError::Local(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                Self::OutputExists(vec![target.to_owned()])
            }
            OutputError::Local(cause) => Self::local("writing", target, cause),
        }
    }

    pub(crate) fn no_plan(location: String, error: plan::NoPlan) -> Self {
        match error {
            plan::NoPlan::Gap { missing, nearest } => Self::Gap {
                location,
                missing: format!("non-contiguous ltx files, none covers {missing}"),
                nearest,
            },
            plan::NoPlan::Empty => Self::Empty(Empty { location, ..Empty::default() }),
            plan::NoPlan::TxidNotAvailable { .. } | plan::NoPlan::TimeNotAvailable { .. } => {
                Self::NotAvailable { location, why: error.to_string(), v3: false }
            }
        }
    }

    pub(crate) fn no_v3_plan(location: String, error: v3::NoPlan) -> Self {
        if error.is_gap() {
            Self::Gap { location, missing: error.to_string(), nearest: Nearest::default() }
        } else {
            Self::NotAvailable { location, why: error.to_string(), v3: true }
        }
    }
}

impl Empty {
    /// Whether nothing was ever replicated here. Files that lie in the other kind of store's layout are a backup that
    /// cannot be read as it lies: nobody may start fresh beside them.
    pub fn is_confirmed(&self) -> bool {
        self.other_layout == 0
    }

    fn hint(&self) -> String {
        if self.other_layout > 0 {
            return format!(
                "{} LTX files lie here in the layout of the other kind of store (a bucket uses `0000/`, a directory \
                 `ltx/0/`): the tree was copied between the two and must be renamed level by level",
                self.other_layout
            );
        }
        if !self.neighbours.is_empty() {
            return format!("a replica lies at {}", self.neighbours.join(", "));
        }
        "no matching backup files available: nothing was ever replicated to this path".into()
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(empty) => write!(f, "no matching backups found at {}", empty.location),
            Self::Wiped { location, epoch, .. } => {
                write!(f, "{location} was wiped: epoch {epoch} was opened there, and no data is left")
            }
            Self::Gap { location, missing, .. } => {
                write!(f, "the replica at {location} has a gap: {missing}")
            }
            Self::Damaged { location, what, .. } => write!(f, "the replica at {location} is damaged: {what}"),
            Self::NotAvailable { location, why, .. } => write!(f, "{location}: {why}"),
            Self::Unreachable(error) => write!(f, "the replica cannot be reached: {error}"),
            Self::Unsettled { attempts, last } => {
                write!(f, "the replica changed under {attempts} attempts, last: {last}")
            }
            Self::OutputExists(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                write!(f, "cannot restore, output path already exists: {}", paths.join(", "))
            }
            Self::OutputBusy(what) | Self::Sqlite(what) => f.write_str(what),
            Self::Local { operation, path, cause, .. } => {
                write!(f, "{operation} {}: {cause}", path.display())
            }
        }
    }
}

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(&**error),
            Self::Local { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        Self::Unreachable(Box::new(error))
    }
}
