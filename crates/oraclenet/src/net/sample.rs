//! A database in memory with the collections' tables and indexes, for the tests of the queries.

use litekeep_formats::TimestampMs;
use rusqlite::{Connection, params};

use crate::net::dates;
use crate::schema::{FieldKind, Index, collections};

/// 2026-02-01 12:00 UTC.
pub(crate) const NOON: TimestampMs = TimestampMs(1_769_947_200_000);

/// Tables and indexes as the schema names them, without rows.
pub(crate) fn database() -> Connection {
    let connection = Connection::open_in_memory().expect("SQLite opens");
    for collection in collections() {
        let columns: Vec<String> =
            collection.fields.iter().map(|field| column(field.name, &field.kind)).collect();
        let create = format!("CREATE TABLE `{}` ({})", collection.name, columns.join(", "));
        connection.execute(&create, []).expect(&create);
        for index in &collection.indexes {
            let create = index_sql(collection.name, index);
            connection.execute(&create, []).expect(&create);
        }
    }
    connection
}

fn column(name: &str, kind: &FieldKind) -> String {
    let kind = match kind {
        FieldKind::Id => "TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL",
        FieldKind::Bool => "BOOLEAN DEFAULT FALSE NOT NULL",
        FieldKind::Number { .. } => "NUMERIC DEFAULT 0 NOT NULL",
        _ => "TEXT DEFAULT '' NOT NULL",
    };
    format!("`{name}` {kind}")
}

fn index_sql(table: &str, index: &Index) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let columns = index.columns.join("`, `");
    let condition =
        if index.predicate.is_empty() { String::new() } else { format!(" WHERE {}", index.predicate) };
    format!("CREATE {unique}INDEX `{}` ON `{table}` (`{columns}`){condition}", index.name)
}

/// An oracle whose id is its name.
pub(crate) fn oracle(connection: &Connection, name: &str, approved: bool) {
    let sql = "INSERT INTO oracles (id, name, approved, tokenKey, email) VALUES (?1, ?1, ?2, ?1, ?1)";
    connection.execute(sql, params![name, approved]).expect(sql);
}

/// A post of `author`, this many minutes before noon.
pub(crate) fn post(connection: &Connection, id: &str, author: &str, minutes: i64, votes: (f64, f64)) {
    let sql = "INSERT INTO posts (id, title, content, author, created, updated, upvotes, downvotes, score)
        VALUES (?1, 'Title of ' || ?1, 'Content of ' || ?1, ?2, ?3, ?3, ?4, ?5, ?4 - ?5)";
    connection.execute(sql, params![id, author, before_noon(minutes), votes.0, votes.1]).expect(sql);
}

/// A comment, this many minutes before noon.
pub(crate) fn comment(connection: &Connection, id: &str, on: (&str, &str), author: &str, minutes: i64) {
    let sql = "INSERT INTO comments (id, post, parent, author, content, created, updated)
        VALUES (?1, ?2, ?3, ?4, 'Comment ' || ?1, ?5, ?5)";
    connection.execute(sql, params![id, on.0, on.1, author, before_noon(minutes)]).expect(sql);
}

/// A heartbeat, this many seconds before noon.
pub(crate) fn heartbeat(connection: &Connection, oracle: &str, status: &str, seconds: i64) {
    let at = dates::format(TimestampMs(NOON.0 - seconds * 1000));
    let sql = "INSERT INTO heartbeats (oracle, status, created, updated) VALUES (?1, ?2, ?3, ?3)";
    connection.execute(sql, params![oracle, status, at]).expect(sql);
}

/// `follower` follows `following`.
pub(crate) fn follow(connection: &Connection, follower: &str, following: &str) {
    let sql = "INSERT INTO connections (follower, following) VALUES (?1, ?2)";
    connection.execute(sql, params![follower, following]).expect(sql);
}

/// The date this many minutes before noon.
pub(crate) fn before_noon(minutes: i64) -> String {
    dates::format(TimestampMs(NOON.0 - minutes * 60_000))
}

/// The steps of `EXPLAIN QUERY PLAN`.
pub(crate) fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(sql);
    let steps = statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>();
    steps.expect(sql)
}
