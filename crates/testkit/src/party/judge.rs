//! The history that a database tells, row by row.

use crate::history::fold;
use rusqlite::Connection;
use std::collections::BTreeSet;

/// The table that every member writes to.
pub(super) const TABLE: &str = "CREATE TABLE log (seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, digest INTEGER NOT NULL, \
    filler BLOB NOT NULL)";

/// What a line of history says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The rows' ids, in order.
    pub(super) ids: Vec<i64>,
}

/// The digest of a row behind another one.
fn digest(before: i64, id: i64) -> i64 {
    let bytes = [before.to_le_bytes(), id.to_le_bytes()].concat();
    i64::from_le_bytes(fold(0, &bytes).to_le_bytes())
}

/// Appends a row behind the last one.
pub(super) fn append(connection: &Connection, id: i64, filler: usize) -> rusqlite::Result<()> {
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    let last = transaction.query_row("SELECT seq, digest FROM log ORDER BY seq DESC LIMIT 1", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    let (seq, before) = match last {
        Err(rusqlite::Error::QueryReturnedNoRows) => (0, 0),
        other => other?,
    };
    transaction.execute(
        "INSERT INTO log VALUES (?1, ?2, ?3, zeroblob(?4))",
        (seq + 1, id, digest(before, id), i64::try_from(filler).unwrap_or(0)),
    )?;
    transaction.commit()
}

/// Reads a history.
///
/// # Errors
/// What cannot be, in words.
pub(super) fn read(connection: &Connection) -> Result<Line, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(text)?;
    if check != "ok" {
        return Err(format!("integrity_check: {check}"));
    }
    let mut statement = connection.prepare("SELECT seq, id, digest FROM log ORDER BY seq").map_err(text)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let rows: Vec<(i64, i64, i64)> = rows.and_then(Iterator::collect).map_err(text)?;
    let (mut line, mut before, mut seen) = (Line::default(), 0, BTreeSet::new());
    for (at, (seq, id, told)) in (1..).zip(rows) {
        if seq != at || told != digest(before, id) {
            return Err(format!(
                "row {seq} (id {id}) does not stand behind the row before it: a mix of histories"
            ));
        }
        if !seen.insert(id) {
            return Err(format!("id {id} stands there twice"));
        }
        before = told;
        line.ids.push(id);
    }
    Ok(line)
}
