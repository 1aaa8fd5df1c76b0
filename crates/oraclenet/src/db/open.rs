//! How connections are opened: the writer's and the readers'.
//!
//! The replication engine owns all checkpoints, so no connection of ours makes one, not even when it is closed.

use super::beats::Beat;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// How long a connection waits for another process's lock (`superuser upsert`, a foreign `sqlite3`).
const BUSY: Duration = Duration::from_secs(10);
/// The same of the connection that writes: well below the time of a hand-over, which waits for its transaction.
pub const WRITER_BUSY: Duration = Duration::from_secs(2);

/// The connection that writes. Opening it changes nothing of what the file says ([`use_wal`] does).
///
/// # Errors
/// SQLite's.
pub fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(WRITER_BUSY)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // The replica is what survives; the local disk only has to be consistent.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -16_000)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Puts the database into WAL mode, if it is not; that is a write.
///
/// # Errors
/// SQLite's.
pub fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    // To the end: the first step gives the mode, and only the last one commits it.
    let mut statement = connection.prepare("PRAGMA journal_mode=WAL")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// A connection for a look at a file of which nobody knows yet what it is, and whose. It changes nothing of what the
/// file says; it only does what every reader must, and takes back what a crash left half written.
///
/// # Errors
/// SQLite's; there has to be a file.
pub fn look(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A connection that reads. Its `heartbeats` is a view: the table, and what is in memory only ([`show_beats`]), where
/// that is newer: another server may have written a row since.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -16_000)?;
    connection.set_prepared_statement_cache_capacity(256);
    connection.execute_batch(
        "CREATE TEMP TABLE beats (id TEXT PRIMARY KEY, oracle TEXT UNIQUE, status TEXT, created TEXT, updated TEXT);
         CREATE TEMP VIEW heartbeats AS
           SELECT rowid AS rowid, id, oracle, status, created, updated FROM main.heartbeats AS row
             WHERE NOT EXISTS (SELECT 1 FROM temp.beats WHERE oracle = row.oracle AND created >= row.created)
           UNION ALL
           SELECT 4000000000000000 + rowid, id, oracle, status, created, updated FROM temp.beats AS beat
             WHERE NOT EXISTS (SELECT 1 FROM main.heartbeats WHERE oracle = beat.oracle AND created > beat.created);",
    )?;
    Ok(connection)
}

/// Lets a reader see these heartbeats as if they were rows. Two of one id, which [`super::Beats`] does not take, would
/// be one of them and not the end of all reading.
pub(super) fn show_beats(connection: &Connection, beats: &[Beat]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("DELETE FROM temp.beats", [])?;
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO temp.beats (id, oracle, status, created, updated) VALUES (?1, ?2, ?3, ?4, ?4)",
    )?;
    for beat in beats {
        insert.execute([&beat.id, &beat.oracle, &beat.status, &beat.created])?;
    }
    drop(insert);
    transaction.commit()
}
