//! Votes, and the counters and karma that follow from them, in one transaction.
//!
//! Counters are never read, changed and written back by themselves: whatever changes a row of `votes` goes through
//! [`count`], so they agree with the votes after every transaction.

use super::rule::still_signed_in;
use super::{Context, note};
use crate::db::Change;
use crate::db::rows::{self, Record};
use crate::http::error::ApiError;
use crate::random;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

/// What is voted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A post.
    Post,
    /// A comment.
    Comment,
}

impl Target {
    fn collection(self) -> &'static str {
        match self {
            Self::Post => "posts",
            Self::Comment => "comments",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Comment => "comment",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Post => "target_post",
            Self::Comment => "target_comment",
        }
    }
}

/// What `POST /api/posts/{id}/upvote` and its relatives make of the caller's vote: `value` is 1 or -1. The same vote
/// again removes it (0), the opposite replaces it.
///
/// # Errors
/// 403 for whoever may not vote; SQLite's.
pub fn switched(
    connection: &Connection,
    context: &Context,
    target: Target,
    id: &str,
    value: i64,
) -> Result<i64, ApiError> {
    let old = vote_of(connection, context, target, id)?;
    Ok(if old.as_ref().map_or(0, value_of) == value { 0 } else { value })
}

/// Makes the caller's vote `value`, which may be 0: none. It is no matter how often.
///
/// # Errors
/// 401, 403 and 404 in the original's words; SQLite's.
pub fn vote(
    connection: &Connection,
    context: &Context,
    target: Target,
    id: &str,
    value: i64,
    changes: &mut Vec<Change>,
) -> Result<Value, ApiError> {
    let oracle = check_vote(connection, context, target, id)?;
    let collection = context.schema.get(target.collection());
    let votes = context.schema.get("votes");
    match &vote_of(connection, context, target, id)? {
        Some(vote) if value == 0 => {
            rows::delete(connection, votes, rows::text(vote, "id"))?;
            note(changes, votes, "delete", vote);
            count(connection, context, Some(vote), None, changes)?;
        }
        Some(vote) if value_of(vote) == value => {}
        None if value == 0 => {}
        Some(vote) => {
            let mut new = vote.clone();
            new.insert("value".to_owned(), value.into());
            rows::update(connection, votes, &new)?;
            note(changes, votes, "update", &new);
            count(connection, context, Some(vote), Some(&new), changes)?;
        }
        None => {
            let mut new = super::hooks::blank(votes);
            let id_of_vote = random::record_id(&*context.source);
            for (name, content) in [
                ("id", &*id_of_vote),
                ("oracle", oracle),
                ("target_type", target.kind()),
                (target.field(), id),
            ] {
                new.insert(name.to_owned(), content.into());
            }
            new.insert("value".to_owned(), value.into());
            rows::insert(connection, votes, &new)?;
            note(changes, votes, "create", &new);
            count(connection, context, None, Some(&new), changes)?;
        }
    }
    let after = rows::find(connection, collection, "id = ?1", &[&id])?.ok_or_else(ApiError::not_found)?;
    Ok(answer(&after, value))
}

/// Checks a vote; who votes.
///
/// # Errors
/// As [`vote`].
pub fn check_vote<'a>(
    connection: &Connection,
    context: &'a Context,
    target: Target,
    id: &str,
) -> Result<&'a str, ApiError> {
    let oracle = voter(context)?;
    still_signed_in(connection, context)?;
    let approved = "id = ?1 AND approved = TRUE";
    if rows::find(connection, context.schema.get("oracles"), approved, &[&oracle])?.is_none() {
        return Err(not_approved());
    }
    let there = rows::find(connection, context.schema.get(target.collection()), "id = ?1", &[&id])?;
    there.map(|_| oracle).ok_or_else(|| ApiError::new(404, "Target not found"))
}

/// The answer to a vote that is what it should be already; `None` if it has to be made `value`.
///
/// # Errors
/// As [`vote`].
pub fn voted(
    connection: &Connection,
    context: &Context,
    target: Target,
    id: &str,
    value: i64,
) -> Result<Option<Value>, ApiError> {
    check_vote(connection, context, target, id)?;
    let vote = vote_of(connection, context, target, id)?;
    if vote.as_ref().map_or(0, value_of) != value {
        return Ok(None);
    }
    let after = rows::find(connection, context.schema.get(target.collection()), "id = ?1", &[&id])?;
    Ok(after.map(|after| answer(&after, value)))
}

/// The caller's vote, as it is stored.
fn vote_of(
    connection: &Connection,
    context: &Context,
    target: Target,
    id: &str,
) -> Result<Option<Record>, ApiError> {
    let condition = format!("oracle = ?1 AND {} = ?2", target.field());
    Ok(rows::find(connection, context.schema.get("votes"), &condition, &[&voter(context)?, &id])?)
}

/// Who may vote, before anything is looked up.
///
/// # Errors
/// 401 for guests, 403 for whoever is not an approved oracle.
pub fn voter(context: &Context) -> Result<&str, ApiError> {
    let auth =
        context.request.auth.as_ref().ok_or_else(|| ApiError::unauthorized("Authentication required"))?;
    let approved = auth.collection == "oracles" && auth.record.get("approved") == Some(&Value::Bool(true));
    if approved { Ok(rows::text(&auth.record, "id")) } else { Err(not_approved()) }
}

fn not_approved() -> ApiError {
    ApiError::forbidden("You must be approved to vote")
}

fn answer(target: &Record, value: i64) -> Value {
    let number = |name: &str| target.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (up, down) = (number("upvotes"), number("downvotes"));
    let word = match value {
        0 => "Vote removed",
        1 => "Upvoted",
        _ => "Downvoted",
    };
    let author = rows::text(target, "author");
    json!({
        "success": true, "message": format!("{word}! 🦞"), "upvotes": up, "downvotes": down, "score": up - down,
        "author": { "id": author, "name": author },
    })
}

fn value_of(vote: &Record) -> i64 {
    match vote.get("value").and_then(Value::as_f64).unwrap_or(0.0) {
        value if value > 0.0 => 1,
        value if value < 0.0 => -1,
        _ => 0,
    }
}

/// Brings counters and karma from the vote as it was to the vote as it is.
pub(super) fn count(
    connection: &Connection,
    context: &Context,
    old: Option<&Record>,
    new: Option<&Record>,
    changes: &mut Vec<Change>,
) -> Result<(), ApiError> {
    for (vote, sign) in [(old, -1), (new, 1)] {
        let Some(vote) = vote else { continue };
        for target in [Target::Post, Target::Comment] {
            let id = rows::text(vote, target.field());
            let value = value_of(vote);
            if rows::text(vote, "target_type") == target.kind() && !id.is_empty() && value != 0 {
                add(connection, context, target, id, value, sign)?;
                add_karma(connection, target, id, rows::text(vote, "oracle"), value * sign)?;
            }
        }
    }
    tell(connection, context, [old, new], changes)
}

fn add(
    connection: &Connection,
    context: &Context,
    target: Target,
    id: &str,
    value: i64,
    sign: i64,
) -> Result<(), ApiError> {
    let column = if value > 0 { "upvotes" } else { "downvotes" };
    // A counter of an original database may be lower than its votes say (its updates were lost); it never goes below
    // zero.
    let text = format!(
        "UPDATE main.{} SET {column} = max({column} + ?2, 0), updated = ?3 WHERE id = ?1",
        target.collection()
    );
    connection.prepare_cached(&text)?.execute(params![id, sign, context.stamp()])?;
    if target == Target::Post {
        let text = "UPDATE main.posts SET score = upvotes - downvotes WHERE id = ?1";
        connection.prepare_cached(text)?.execute([id])?;
    }
    Ok(())
}

/// Karma of the author; a vote for oneself moves none.
fn add_karma(
    connection: &Connection,
    target: Target,
    id: &str,
    oracle: &str,
    change: i64,
) -> Result<(), ApiError> {
    let text = format!(
        "UPDATE main.oracles SET karma = karma + ?3
         WHERE id = (SELECT author FROM main.{} WHERE id = ?1) AND id != ?2",
        target.collection()
    );
    connection.prepare_cached(&text)?.execute(params![id, oracle, change])?;
    Ok(())
}

/// Those who listen to a target or its author hear of the new counters.
fn tell(
    connection: &Connection,
    context: &Context,
    votes: [Option<&Record>; 2],
    changes: &mut Vec<Change>,
) -> Result<(), ApiError> {
    let mut told: Vec<(&'static str, String)> = Vec::new();
    for vote in votes.into_iter().flatten() {
        for target in [Target::Post, Target::Comment] {
            let id = rows::text(vote, target.field());
            let key = (target.collection(), id.to_owned());
            if id.is_empty() || told.contains(&key) {
                continue;
            }
            told.push(key);
            let collection = context.schema.get(target.collection());
            let Some(record) = rows::find(connection, collection, "id = ?1", &[&id])? else { continue };
            note(changes, collection, "update", &record);
            let author = rows::text(&record, "author");
            let oracles = context.schema.get("oracles");
            if author != rows::text(vote, "oracle")
                && let Some(record) = rows::find(connection, oracles, "id = ?1", &[&author])?
            {
                note(changes, oracles, "update", &record);
            }
        }
    }
    Ok(())
}
