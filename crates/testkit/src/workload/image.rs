//! Digests of a database as one of its connections sees it, committed or not.

use super::ledger::Content;
use crate::history::fold;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

/// Everything about a database.
pub(super) fn content(conn: &Connection) -> Result<Content> {
    let (exact, pages) = pages(conn)?;
    Ok(Content { exact: Some(exact), pages: Some(pages), rows: rows(conn)? })
}

/// What a transaction will leave, seen before it commits.
pub(super) fn prospect(conn: &Connection) -> Result<Content> {
    Ok(Content { exact: None, ..content(conn)? })
}

/// Digests of all pages: of every byte, and without the change counters that SQLite sets as it commits.
fn pages(conn: &Connection) -> Result<(u64, u64)> {
    let mut statement = conn.prepare_cached("SELECT pgno, data FROM sqlite_dbpage ORDER BY pgno")?;
    let mut rows = statement.query([])?;
    let (mut exact, mut without) = (0, 0);
    while let Some(row) = rows.next()? {
        let data = row.get_ref(1)?.as_blob()?;
        let digest = fold(0, data);
        exact = fold(exact, &digest.to_le_bytes());
        if row.get::<_, i64>(0)? == 1 && data.len() >= 100 {
            let mut first = data.to_vec();
            first[24..28].fill(0);
            first[92..100].fill(0);
            without = fold(without, &fold(0, &first).to_le_bytes());
        } else {
            without = fold(without, &digest.to_le_bytes());
        }
    }
    Ok((exact, without))
}

fn rows(conn: &Connection) -> Result<u64> {
    let mut tables =
        conn.prepare_cached("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name")?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    let mut digest = 0;
    for name in names {
        digest = fold(digest, name.as_bytes());
        let mut statement = conn.prepare(&format!("SELECT * FROM \"{name}\" ORDER BY 1"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                digest = match row.get_ref(column)? {
                    ValueRef::Null => fold(digest, &[0]),
                    ValueRef::Integer(value) => fold(digest, &value.to_le_bytes()),
                    ValueRef::Real(value) => fold(digest, &value.to_le_bytes()),
                    ValueRef::Text(value) | ValueRef::Blob(value) => fold(digest, value),
                };
            }
        }
    }
    Ok(digest)
}
