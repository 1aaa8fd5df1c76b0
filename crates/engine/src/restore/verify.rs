//! SQLite's own verdict on a file that carries no seal, or on any file if that is asked for.
//!
//! The file is opened as *immutable*: no lock, no `-wal`, no `-shm`, nothing left behind, and nothing changed.

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fmt::Write as _;
use std::path::Path;

/// How much SQLite is asked to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IntegrityCheck {
    /// A full check where there is no seal, none where there is one.
    #[default]
    Auto,
    /// None: file checksums and completeness only where there is no seal.
    None,
    /// `PRAGMA quick_check`.
    Quick,
    /// `PRAGMA integrity_check`.
    Full,
}

/// What SQLite found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing, but for these tables, which it could not check.
    Ok(Vec<String>),
    Damaged(String),
    Unable(rusqlite::Error),
}

/// Runs the check; only its first finding is told.
pub(crate) fn check(path: &Path, vfs: Option<&str>, quick: bool) -> Verdict {
    let verdict = open(path, vfs).and_then(|connection| {
        let pragma = if quick { "quick_check" } else { "integrity_check" };
        match ask(&connection, &format!("PRAGMA {pragma}(1)")) {
            // The schema uses a collation, function or module that only the application has: what does not need it
            // can still be checked, table by table.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => {
                table_by_table(&connection, pragma)
            }
            Ok(finding) => Ok(verdict(finding)),
            Err(error) => Err(error),
        }
    });
    match verdict {
        Ok(verdict) => verdict,
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Verdict::Damaged(error.to_string()),
            _ => Verdict::Unable(error),
        },
    }
}

fn verdict(finding: String) -> Verdict {
    if finding == "ok" { Verdict::Ok(Vec::new()) } else { Verdict::Damaged(finding) }
}

fn table_by_table(connection: &Connection, pragma: &str) -> rusqlite::Result<Verdict> {
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut skipped = Vec::new();
    for name in names {
        match ask(connection, &format!("PRAGMA {pragma}('{}')", name.replace('\'', "''"))) {
            Ok(finding) if finding == "ok" => {}
            Ok(finding) => return Ok(Verdict::Damaged(finding)),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => skipped.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(Verdict::Ok(skipped))
}

fn open(path: &Path, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let uri = immutable_uri(path);
    match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(uri, flags, vfs),
        None => Connection::open_with_flags(uri, flags),
    }
}

fn ask(connection: &Connection, pragma: &str) -> rusqlite::Result<String> {
    connection.query_row(pragma, [], |row| row.get(0))
}

pub(crate) fn immutable_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                uri.push(char::from(*byte))
            }
            _ => write!(uri, "%{byte:02x}").expect("BUG: writing to a string failed"),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wal_mode_database_is_checked_without_leaving_side_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("odd name?#%.db");
        let db = Connection::open(&path).expect("opens");
        db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)")
            .expect("written");
        drop(db);
        assert!(matches!(check(&path, None, false), Verdict::Ok(skipped) if skipped.is_empty()));
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("readable").collect();
        assert_eq!(names.len(), 1, "only the database: {names:?}");
    }

    #[test]
    fn damage_is_found_and_a_collation_of_the_application_is_not_taken_for_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db");
        let db = Connection::open(&path).expect("opens");
        db.execute_batch(
            "CREATE TABLE t(x TEXT COLLATE NOCASE); CREATE INDEX i ON t(x); INSERT INTO t VALUES('a'),('b');
             CREATE TABLE \"it's\"(x); CREATE INDEX j ON \"it's\"(x);",
        )
        .expect("made");
        for n in 0..500_usize {
            db.execute("INSERT INTO \"it's\" VALUES(?1)", [format!("{n:0n$}")]).expect("inserted");
        }
        db.execute_batch(
            "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql=replace(sql,'NOCASE','unknown_here')",
        )
        .expect("a collation that only the application knows");
        drop(db);
        assert!(matches!(check(&path, None, false), Verdict::Ok(skipped) if skipped == ["t"]));
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[4096 * 8..4096 * 9].fill(0x5a);
        std::fs::write(&path, bytes).expect("writable");
        assert!(matches!(check(&path, None, false), Verdict::Damaged(_)));
    }
}
