//! Continuous replication and restore for SQLite, as an embeddable library.
//!
//! | to | use |
//! |---|---|
//! | keep one database in a replica | [`keeper::Keeper`] |
//! | keep many, with a few threads for all | [`driver::Driver`], [`jobs::Pool`] |
//! | write on one of several machines at a time, and hand over | [`node::Node`] |
//! | bring a database back | [`restore::restore`] |
//! | follow a chain that somebody else writes | [`follow::Follower`] |
//! | look at a replica: is it whole, what does it cost | [`inspect`] |
//!
//! The names of objects and the stores are in `litekeep-store`, the clock's and the decisions' types in `litekeep-core`,
//! numbers and formats in `litekeep-formats`. Calls block; time, randomness, files and store are arguments
//! ([`replicator::Env`]). Errors are [`error::KeepError`], whose `kind` says whose move it is, and [`restore::RestoreError`].
//!
//! A standby, and a file that is brought forward, need SQLite's `dbpage` table. Build with it, as this repository's
//! `.cargo/config.toml` does: `LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB`.
//!
//! ```no_run
//! use litekeep::{clock, files, jobs, keeper::Keeper, replicator::Env, settings::Settings};
//! use litekeep_core::decisions::Decisions;
//! use litekeep_store::{ReplicaUrl, open};
//! use std::{path::Path, sync::Arc, time::Duration};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (clock, random) = (Arc::new(clock::SystemClock), Arc::new(clock::SystemRandom::default()));
//! let replica = ReplicaUrl::parse("s3://bucket/app")?.into_settings();
//! let replica = replica.with_environment(&|name| std::env::var(name).ok())?;
//! let env = Env {
//!     store: open(&replica, clock.clone(), random.clone())?,
//!     clock,
//!     random,
//!     files: Arc::new(files::RealFiles),
//!     vfs: None,
//!     spawner: Arc::new(jobs::Threads),
//!     decisions: Decisions::RIGHT,
//! };
//! let keeper = Keeper::start(env, Settings::default(), Path::new("app.db"))?;
//! // After a commit: the answer may go out once the replica has it.
//! keeper.sync(Duration::from_secs(10))?;
//! // At the end: the rest goes up.
//! keeper.stop(Duration::from_secs(30))?;
//! # Ok(())
//! # }
//! ```

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
