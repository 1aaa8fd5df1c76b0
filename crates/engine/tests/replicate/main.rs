//! The replicator with real files and real SQLite, against a replica in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

mod aside;
mod basics;
mod chores;
mod faults;
mod follow;
mod foreign;
mod idle;
mod locked;
mod node;
mod parking;
mod passed;
mod replica;
mod rig;
mod single_faults;
