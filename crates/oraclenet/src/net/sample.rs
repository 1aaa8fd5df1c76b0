//! A database in memory with the collections' tables and indexes, for the tests of the queries.

use litekeep_formats::TimestampMs;
use rusqlite::{Connection, params};

use crate::db::tables;
use crate::schema::{Schema, collections};
use crate::time;

/// 2026-02-01 12:00 UTC.
pub(crate) const NOON: TimestampMs = TimestampMs(1_769_947_200_000);

/// A new database, without rows.
pub(crate) fn database() -> Connection {
    let connection = Connection::open_in_memory().expect("SQLite opens");
    fill(&connection);
    connection
}

/// Makes the tables.
pub(crate) fn fill(connection: &Connection) {
    let schema = Schema::new(collections());
    tables::create(connection, &schema, "2026-02-01 00:00:00.000Z", 0).expect("the tables are made");
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
    let at = time::format(time::at(TimestampMs(NOON.0 - seconds * 1000)));
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
    time::format(time::at(TimestampMs(NOON.0 - minutes * 60_000)))
}

/// The steps of `EXPLAIN QUERY PLAN`.
pub(crate) fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(sql);
    let steps = statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>();
    steps.expect(sql)
}
