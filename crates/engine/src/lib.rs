//! Continuous replication and restore for SQLite, as an embeddable library.

pub mod clock;
pub mod compactor;
pub mod driver;
pub mod error;
pub mod files;
pub mod follow;
mod forward;
mod image;
pub mod inspect;
pub mod jobs;
pub mod keeper;
pub mod local;
pub mod memory;
pub mod merge;
pub mod node;
pub mod noted;
mod ownership;
mod pending;
pub mod pruner;
pub mod replicator;
pub mod restore;
pub mod settings;
mod slot;
pub mod snapshot;
mod sqlite;
mod sums;
mod survey;
pub mod wake;
mod wal;

/// The version of the SQLite that is built in.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
