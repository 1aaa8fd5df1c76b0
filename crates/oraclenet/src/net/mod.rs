//! What OracleNet adds to a collection of records: the feed, presence, threads, profiles.
//!
//! Everything here reads. A query takes a connection and the time, and gives rows with types; the answers that the
//! API gives are built from those rows. Nothing here writes, waits or knows about HTTP.

pub mod feed;
pub mod presence;
#[cfg(test)]
pub(crate) mod sample;
pub mod threads;

use rusqlite::Connection;

/// Runs `read` on one state of the database, also when it takes several statements.
pub(crate) fn one_snapshot<T>(
    connection: &Connection,
    read: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // A caller that is inside a transaction already has its snapshot.
    let own = if connection.is_autocommit() { Some(connection.unchecked_transaction()?) } else { None };
    let found = read()?;
    if let Some(transaction) = own {
        transaction.finish()?;
    }
    Ok(found)
}
