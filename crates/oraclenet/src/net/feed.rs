//! The feed: which posts come first, and how little of the table has to be read to know it.
//!
//! `new` and `top` are the order of an index. `hot` and `rising` change with every minute, so no index can hold
//! them; they are found by walking two indexes side by side (newest first, best first) until nothing unread can
//! outrank what was found. The score ranked by is the column `score`, which the server keeps as up minus down.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};

use litekeep_formats::TimestampMs;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, Rows, params};
use serde_json::{Value, json};

use super::one_snapshot;
use crate::time;

/// The greatest number of posts that one answer holds.
pub const LIMIT_MAX: usize = 100;
/// How many an answer holds when nothing usable was asked for.
pub const LIMIT_DEFAULT: usize = 25;
/// How far a feed may be paged through, in posts: the work of a ranking grows with it.
pub const OFFSET_MAX: usize = 10_000;

/// Rounding in `log10` and in a division is some 1e-16 of values below 1e6; a bound is trusted only beyond this.
const ROUNDING: f64 = 1e-9;
/// Hours that weigh as much as a factor of ten in votes.
const HOURS_PER_TENFOLD: f64 = 12.0;

/// The order of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// `sign(s) * log10(max(|s|, 1)) - age / 12 h`.
    Hot,
    /// The newest first.
    New,
    /// The highest score first.
    Top,
    /// Score for each hour of age: `s / (age + 1 h)`.
    Rising,
    /// What was asked for is no order: as the posts were inserted.
    Inserted,
}

impl Sort {
    /// The order that a `sort=` parameter asks for; an empty one asks for `hot`.
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "hot" => Self::Hot,
            "new" => Self::New,
            "top" => Self::Top,
            "rising" => Self::Rising,
            _ => Self::Inserted,
        }
    }
}

/// The number of posts that a `limit=` parameter asks for: 1 to 100, anything else is 25.
pub fn parse_limit(text: &str) -> usize {
    text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).unwrap_or(LIMIT_DEFAULT)
}

/// A post as a feed shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its text, Markdown.
    pub content: String,
    /// Votes for it; a fraction is cut off.
    pub upvotes: i64,
    /// Votes against it; a fraction is cut off.
    pub downvotes: i64,
    /// For minus against; a fraction is cut off.
    pub score: i64,
    /// When it was made, in PocketBase's form.
    pub created: String,
    /// Who wrote it; `None` if that oracle is gone.
    pub author: Option<Author>,
}

/// Who wrote something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The oracle's id.
    pub id: String,
    /// The oracle's name.
    pub name: String,
}

/// Posts `offset` to `offset + limit` of the feed. Equal posts: the newer first, then by id.
/// `limit` is at most [`LIMIT_MAX`], `offset` at most [`OFFSET_MAX`]; more is cut to that.
pub fn feed(
    connection: &Connection,
    sort: Sort,
    limit: usize,
    offset: usize,
    now: TimestampMs,
) -> rusqlite::Result<Vec<Post>> {
    let (limit, offset) = (limit.min(LIMIT_MAX), offset.min(OFFSET_MAX));
    one_snapshot(connection, || {
        let ids = match sort {
            Sort::New => ids_by(connection, NEW, limit, offset)?,
            Sort::Top => ids_by(connection, TOP, limit, offset)?,
            Sort::Inserted => ids_by(connection, INSERTED, limit, offset)?,
            Sort::Hot => ranked(hot(connection, limit + offset, now)?, offset),
            Sort::Rising => ranked(rising(connection, limit + offset, now)?, offset),
        };
        let found: rusqlite::Result<Vec<_>> = ids.iter().map(|id| post(connection, id)).collect();
        Ok(found?.into_iter().flatten().collect())
    })
}

/// One post.
pub fn post(connection: &Connection, id: &str) -> rusqlite::Result<Option<Post>> {
    connection.prepare_cached(POST)?.query_row([id], read_post).optional()
}

/// The answer to `GET /api/feed` and `GET /api/posts`; `sort` is what was asked for, whatever it was.
pub fn feed_json(sort: &str, posts: &[Post]) -> Value {
    let sort = if sort.is_empty() { "hot" } else { sort };
    let items: Vec<Value> = posts.iter().map(post_json).collect();
    json!({ "success": true, "sort": sort, "count": items.len(), "posts": items })
}

fn post_json(post: &Post) -> Value {
    let author = post.author.as_ref().map(|author| json!({ "id": author.id, "name": author.name }));
    json!({
        "id": post.id, "title": post.title, "content": post.content, "created": post.created, "author": author,
        "upvotes": post.upvotes, "downvotes": post.downvotes, "score": post.score,
    })
}

const POST: &str = "SELECT p.id, p.title, p.content, p.upvotes, p.downvotes, p.score, p.created, o.id, o.name
    FROM posts p LEFT JOIN oracles o ON o.id = p.author WHERE p.id = ?1";
// SQLite takes an index for an order only if it also narrows the search; so the date of the last post of the page is
// found first, and a condition that is always true names the first column where nothing else does.
const NEW: &str = "SELECT id FROM posts WHERE created >= coalesce(
        (SELECT created FROM posts ORDER BY created DESC LIMIT 1 OFFSET ?1 + ?2 - 1), '')
    ORDER BY created DESC, id LIMIT ?1 OFFSET ?2";
const TOP: &str =
    "SELECT id FROM posts WHERE score >= -9e999 ORDER BY score DESC, created DESC, id LIMIT ?1 OFFSET ?2";
const INSERTED: &str = "SELECT id FROM posts ORDER BY rowid LIMIT ?1 OFFSET ?2";

fn ids_by(connection: &Connection, sql: &str, limit: usize, offset: usize) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(params![size(limit), size(offset)], |row| row.get(0))?.collect()
}

/// A count for SQLite, which has no unsigned numbers.
fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn read_post(row: &Row<'_>) -> rusqlite::Result<Post> {
    let author: Option<String> = row.get(7)?;
    let author = author.map(|id| Ok::<_, rusqlite::Error>(Author { id, name: row.get(8)? })).transpose()?;
    Ok(Post {
        id: row.get(0)?,
        title: row.get(1)?,
        content: row.get(2)?,
        upvotes: whole(row, 3)?,
        downvotes: whole(row, 4)?,
        score: whole(row, 5)?,
        created: row.get(6)?,
        author,
    })
}

/// A number without its fraction: a vote may be 0.5.
pub(super) fn whole(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float cuts the fraction and saturates")]
    Ok(number(row, column)? as i64)
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<f64> {
    use rusqlite::types::ValueRef;
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 votes")]
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(value) => value as f64,
        ValueRef::Real(value) => value,
        _ => 0.0,
    })
}

// ---- Rankings that change with time.

/// What a ranking needs to know of a post.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    rank: f64,
    created: String,
    id: String,
}

impl Candidate {
    /// `Greater` comes first in the feed.
    fn compare(&self, other: &Self) -> Ordering {
        let newer = || self.created.cmp(&other.created);
        self.rank.total_cmp(&other.rank).then_with(newer).then_with(|| other.id.cmp(&self.id))
    }
}

/// A [`Candidate`] of which the least is on top of the heap.
#[derive(Debug, PartialEq)]
struct Least(Candidate);

impl Eq for Least {}
impl PartialOrd for Least {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Least {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.compare(&self.0)
    }
}

/// The best posts seen so far, no more than wanted.
struct Best {
    wanted: usize,
    heap: BinaryHeap<Least>,
    seen: HashSet<String>,
}

impl Best {
    fn new(wanted: usize) -> Self {
        Self { wanted, heap: BinaryHeap::new(), seen: HashSet::new() }
    }

    fn offer(&mut self, rank: f64, entry: Entry) {
        if !self.seen.insert(entry.id.clone()) {
            return;
        }
        self.heap.push(Least(Candidate { rank, created: entry.created, id: entry.id }));
        if self.heap.len() > self.wanted {
            self.heap.pop();
        }
    }

    /// Whether the list is full and nothing of a rank up to `bound` can enter it.
    fn is_settled(&self, bound: f64) -> bool {
        self.heap.len() >= self.wanted && self.heap.peek().is_none_or(|least| least.0.rank > bound + ROUNDING)
    }

    fn into_sorted(self) -> Vec<String> {
        self.heap.into_sorted_vec().into_iter().map(|least| least.0.id).collect()
    }
}

fn ranked(mut ids: Vec<String>, offset: usize) -> Vec<String> {
    ids.drain(..offset.min(ids.len()));
    ids
}

/// A line of an index.
struct Entry {
    id: String,
    score: f64,
    created: String,
}

fn entry(rows: &mut Rows<'_>) -> rusqlite::Result<Option<Entry>> {
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Entry { id: row.get(0)?, score: number(row, 1)?, created: row.get(2)? }))
}

/// Hours from `created` to `now`. An unset date is as old as time; one from a clock ahead of ours counts as new, so
/// that a wrong clock does not pin a post to the top.
fn age_hours(created: &str, now: TimestampMs) -> f64 {
    let created = time::parse(created).map_or(0, |at| at.timestamp_millis());
    #[expect(clippy::cast_precision_loss, reason = "2^53 milliseconds are 285,000 years")]
    let age = now.0.saturating_sub(created).max(0) as f64;
    age / 3_600_000.0
}

fn hot_rank(score: f64, age: f64) -> f64 {
    // Adding zero makes -0.0 a 0.0: a score of -1 and one of 0 rank the same.
    score.abs().max(1.0).log10().copysign(score) - age / HOURS_PER_TENFOLD + 0.0
}

fn rising_rank(score: f64, age: f64) -> f64 {
    score / (age + 1.0)
}

const NEWEST: &str =
    "SELECT id, score, created FROM posts WHERE created >= '' ORDER BY created DESC LIMIT ?1";
const BEST: &str =
    "SELECT id, score, created FROM posts WHERE score >= -9e999 ORDER BY score DESC, created DESC LIMIT ?1";
const BEST_ABOVE: &str =
    "SELECT id, score, created FROM posts WHERE score > 0 ORDER BY score DESC, created DESC LIMIT ?1";
const ZEROS: &str = "SELECT id FROM posts WHERE score = 0 ORDER BY created DESC, id LIMIT ?1 OFFSET ?2";
const BEST_BELOW: &str =
    "SELECT id, score, created FROM posts WHERE score < 0 ORDER BY score DESC, created DESC LIMIT ?1";
const OLDEST: &str = "SELECT created FROM posts ORDER BY created LIMIT 1";

fn walk<'s>(statement: &'s mut CachedStatement<'_>) -> rusqlite::Result<Rows<'s>> {
    statement.query([i64::MAX])
}

/// The hottest posts.
///
/// Why stopping early is right: `hot` never falls when the score rises, and never falls when the post is newer. A
/// post that neither walk has met has at most the score where the walk by score stands, and is at most as new as
/// where the walk by date stands. So its rank is at most `hot` of those two, and once `wanted` posts lie above that
/// bound the rest cannot matter. (This is the threshold algorithm of Fagin, Lotem and Naor.) When either walk has
/// reached its end, every post was met.
fn hot(connection: &Connection, wanted: usize, now: TimestampMs) -> rusqlite::Result<Vec<String>> {
    let (mut newest, mut best) = (connection.prepare_cached(NEWEST)?, connection.prepare_cached(BEST)?);
    let (newest, best) = (walk(&mut newest)?, walk(&mut best)?);
    let found = Best::new(wanted);
    Ok(side_by_side(newest, best, found, now, hot_rank, |_| true)?.into_sorted())
}

/// The posts that rise fastest.
///
/// In three parts, because `s / (age + 1)` is above, at and below zero as the score is, so that the parts follow each
/// other. Above zero it behaves as `hot` does, and the same walk finds it. At zero all are equal and the newest come
/// first, which is the order of the index. Below zero the older ones come first: there the walk goes by score alone,
/// and what it has not met has at most `score / (age of the oldest post + 1)`.
fn rising(connection: &Connection, wanted: usize, now: TimestampMs) -> rusqlite::Result<Vec<String>> {
    let (mut newest, mut best) = (connection.prepare_cached(NEWEST)?, connection.prepare_cached(BEST_ABOVE)?);
    let (newest, best) = (walk(&mut newest)?, walk(&mut best)?);
    let found = Best::new(wanted);
    let above = |entry: &Entry| entry.score > 0.0;
    let mut ids = side_by_side(newest, best, found, now, rising_rank, above)?.into_sorted();
    if ids.len() < wanted {
        ids.extend(ids_by(connection, ZEROS, wanted - ids.len(), 0)?);
    }
    if ids.len() < wanted {
        ids.extend(sinking(connection, wanted - ids.len(), now)?);
    }
    Ok(ids)
}

/// Walks two indexes in turn until nothing unread can enter `found`. Only entries that `counts` are offered; the walk
/// by score meets no other.
fn side_by_side(
    mut newest: Rows<'_>,
    mut best: Rows<'_>,
    mut found: Best,
    now: TimestampMs,
    rank: fn(f64, f64) -> f64,
    counts: fn(&Entry) -> bool,
) -> rusqlite::Result<Best> {
    while let (Some(new), Some(good)) = (entry(&mut newest)?, entry(&mut best)?) {
        let bound = rank(good.score, age_hours(&new.created, now));
        for entry in [new, good].into_iter().filter(counts) {
            found.offer(rank(entry.score, age_hours(&entry.created, now)), entry);
        }
        if found.is_settled(bound) {
            break;
        }
    }
    Ok(found)
}

/// `rising` below zero.
fn sinking(connection: &Connection, wanted: usize, now: TimestampMs) -> rusqlite::Result<Vec<String>> {
    let oldest: Option<String> =
        connection.prepare_cached(OLDEST)?.query_row([], |row| row.get(0)).optional()?;
    let oldest = oldest.map_or(0.0, |created| age_hours(&created, now));
    let mut statement = connection.prepare_cached(BEST_BELOW)?;
    let mut rows = walk(&mut statement)?;
    let mut found = Best::new(wanted);
    while let Some(entry) = entry(&mut rows)? {
        let bound = rising_rank(entry.score, oldest);
        found.offer(rising_rank(entry.score, age_hours(&entry.created, now)), entry);
        if found.is_settled(bound) {
            break;
        }
    }
    Ok(found.into_sorted())
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
