//! Continuous replication and restore for SQLite, as an embeddable library.

pub mod clock;
pub mod files;
