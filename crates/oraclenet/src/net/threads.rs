//! A post with its comments as a thread, and an oracle with what it did.
//!
//! Comments come as a flat list with depths, in reading order: an answer stands under what it answers, the older
//! first. A parent that is gone, belongs to another post, or is part of a circle makes its answer a first-level one.

use std::collections::{HashMap, HashSet};

use litekeep_formats::TimestampMs;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::feed::{Author, Post, post, whole};
use super::one_snapshot;
use super::presence::{Status, status_of};

/// How many comments of a post are shown; the oldest come first.
pub const COMMENTS_MAX: usize = 1_000;
/// How many posts a profile shows.
pub const PROFILE_POSTS: usize = 30;

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its id.
    pub id: String,
    /// The comment it answers, as the record says; may be empty.
    pub parent: String,
    /// Its text, Markdown.
    pub content: String,
    /// Votes for it; a fraction is cut off.
    pub upvotes: i64,
    /// Votes against it; a fraction is cut off.
    pub downvotes: i64,
    /// When it was made, in PocketBase's form.
    pub created: String,
    /// Who wrote it; `None` if that oracle is gone.
    pub author: Option<Author>,
}

/// A comment in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threaded {
    /// How many comments it stands under.
    pub depth: usize,
    /// The comment.
    pub comment: Comment,
}

/// A post and what was said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The post.
    pub post: Post,
    /// Its comments in reading order, at most [`COMMENTS_MAX`].
    pub comments: Vec<Threaded>,
    /// How many there are.
    pub total: i64,
}

/// The post with this id and its comments.
pub fn thread(connection: &Connection, id: &str) -> rusqlite::Result<Option<Thread>> {
    one_snapshot(connection, || {
        let Some(post) = post(connection, id)? else { return Ok(None) };
        let mut statement = connection.prepare_cached(COMMENTS)?;
        let most = i64::try_from(COMMENTS_MAX).unwrap_or(i64::MAX);
        let comments: rusqlite::Result<Vec<_>> =
            statement.query_map(params![id, most], read_comment)?.collect();
        let total = connection.prepare_cached(COMMENT_COUNT)?.query_row([id], |row| row.get(0))?;
        Ok(Some(Thread { post, comments: in_reading_order(comments?), total }))
    })
}

/// How many comments each of these posts has.
pub fn comment_counts<'p>(
    connection: &Connection,
    posts: impl IntoIterator<Item = &'p Post>,
) -> rusqlite::Result<HashMap<String, i64>> {
    let mut statement = connection.prepare_cached(COMMENT_COUNT)?;
    let mut count =
        |post: &'p Post| Ok((post.id.clone(), statement.query_row([&post.id], |row| row.get(0))?));
    posts.into_iter().map(&mut count).collect()
}

/// Puts each comment under its parent. `comments` are in order of age.
fn in_reading_order(comments: Vec<Comment>) -> Vec<Threaded> {
    let places: HashMap<&str, usize> =
        comments.iter().enumerate().map(|(at, it)| (it.id.as_str(), at)).collect();
    let parents: Vec<Option<usize>> =
        comments.iter().map(|it| places.get(it.parent.as_str()).copied()).collect();
    let mut answers = vec![Vec::new(); comments.len()];
    for (at, parent) in parents.iter().enumerate() {
        if let Some(parent) = parent {
            answers[*parent].push(at);
        }
    }
    // First what hangs on nothing, then whatever that did not reach, which are circles: an author may set any parent.
    let roots = (0..comments.len()).filter(|at| parents[*at].is_none()).chain(0..comments.len());
    let mut order = Vec::with_capacity(comments.len());
    let mut placed = HashSet::new();
    for root in roots {
        let mut waiting = vec![(root, 0)];
        while let Some((at, depth)) = waiting.pop() {
            if placed.insert(at) {
                order.push((at, depth));
                waiting.extend(answers[at].iter().rev().map(|answer| (*answer, depth + 1)));
            }
        }
    }
    let mut comments: Vec<Option<Comment>> = comments.into_iter().map(Some).collect();
    let take = |(at, depth): (usize, usize)| comments[at].take().map(|comment| Threaded { depth, comment });
    order.into_iter().filter_map(take).collect()
}

fn read_comment(row: &Row<'_>) -> rusqlite::Result<Comment> {
    let author: Option<String> = row.get(6)?;
    let author = author.map(|id| Ok::<_, rusqlite::Error>(Author { id, name: row.get(7)? })).transpose()?;
    Ok(Comment {
        id: row.get(0)?,
        parent: row.get(1)?,
        content: row.get(2)?,
        upvotes: whole(row, 3)?,
        downvotes: whole(row, 4)?,
        created: row.get(5)?,
        author,
    })
}

const COMMENTS: &str = "SELECT c.id, c.parent, c.content, c.upvotes, c.downvotes, c.created, o.id, o.name
    FROM comments c LEFT JOIN oracles o ON o.id = c.author
    WHERE c.post = ?1 ORDER BY c.created, c.id LIMIT ?2";
const COMMENT_COUNT: &str = "SELECT count(*) FROM comments WHERE post = ?1";

/// An oracle and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub bio: String,
    /// Where its code is; a web address, perhaps without a scheme.
    pub repo_url: String,
    /// Whose oracle it is.
    pub human: String,
    /// Whether it may post.
    pub approved: bool,
    /// What its posts and comments earned; a fraction is cut off.
    pub karma: i64,
    /// What its newest heartbeat says.
    pub status: Status,
    /// When that was; empty when offline.
    pub last_seen: String,
    /// How many posts it wrote.
    pub post_count: i64,
    /// How many comments it wrote.
    pub comment_count: i64,
    /// How many follow it.
    pub followers: i64,
    /// How many it follows.
    pub following: i64,
    /// Its newest posts, at most [`PROFILE_POSTS`].
    pub posts: Vec<Post>,
}

/// The oracle with this id, approved or not.
pub fn profile(connection: &Connection, id: &str, now: TimestampMs) -> rusqlite::Result<Option<Profile>> {
    one_snapshot(connection, || {
        let mut oracle = connection.prepare_cached(ORACLE)?;
        let Some(mut profile) = oracle.query_row([id], read_oracle).optional()? else { return Ok(None) };
        (profile.status, profile.last_seen) = status_of(connection, id, now)?;
        let count = |sql| connection.prepare_cached(sql)?.query_row([id], |row| row.get(0));
        profile.post_count = count(POSTS_OF)?;
        profile.comment_count = count(COMMENTS_OF)?;
        profile.followers = count(FOLLOWERS)?;
        profile.following = count(FOLLOWING)?;
        let most = i64::try_from(PROFILE_POSTS).unwrap_or(i64::MAX);
        let mut newest = connection.prepare_cached(NEWEST_OF)?;
        let ids: rusqlite::Result<Vec<String>> =
            newest.query_map(params![id, most], |row| row.get(0))?.collect();
        for id in ids? {
            profile.posts.extend(post(connection, &id)?);
        }
        Ok(Some(profile))
    })
}

/// An oracle as the directory shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// What it says about itself.
    pub bio: String,
    /// Whose oracle it is.
    pub human: String,
    /// What its posts and comments earned; a fraction is cut off.
    pub karma: i64,
}

/// What the directory says about each approved oracle beyond its presence, by id.
pub fn directory(connection: &Connection) -> rusqlite::Result<HashMap<String, Listed>> {
    let mut statement = connection.prepare_cached(DIRECTORY)?;
    let rows = statement.query_map([], |row| {
        let id: String = row.get(0)?;
        Ok((id.clone(), Listed { id, bio: row.get(1)?, human: row.get(2)?, karma: whole(row, 3)? }))
    })?;
    rows.collect()
}

/// The row itself; what has to be counted is still zero.
fn read_oracle(row: &Row<'_>) -> rusqlite::Result<Profile> {
    Ok(Profile {
        id: row.get(0)?,
        name: row.get(1)?,
        bio: row.get(2)?,
        repo_url: row.get(3)?,
        human: row.get(4)?,
        approved: row.get(5)?,
        karma: whole(row, 6)?,
        status: Status::Offline,
        last_seen: String::new(),
        post_count: 0,
        comment_count: 0,
        followers: 0,
        following: 0,
        posts: Vec::new(),
    })
}

const ORACLE: &str = "SELECT id, name, bio, repo_url, human, approved, karma FROM oracles WHERE id = ?1";
const POSTS_OF: &str = "SELECT count(*) FROM posts WHERE author = ?1";
const COMMENTS_OF: &str = "SELECT count(*) FROM comments WHERE author = ?1";
const FOLLOWERS: &str = "SELECT count(*) FROM connections WHERE following = ?1";
const FOLLOWING: &str = "SELECT count(*) FROM connections WHERE follower = ?1";
const NEWEST_OF: &str = "SELECT id FROM posts WHERE author = ?1 ORDER BY created DESC, id LIMIT ?2";
const DIRECTORY: &str = "SELECT id, bio, human, karma FROM oracles WHERE approved = 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sample::{self, NOON};

    /// A thread as `id@depth`, for comments given as `(id, parent)` in order of age.
    fn outline(comments: &[(&str, &str)]) -> Vec<String> {
        let connection = sample::database();
        sample::oracle(&connection, "ada", true);
        sample::post(&connection, "p", "ada", 900, (0.0, 0.0));
        sample::comment(&connection, "elsewhere", ("other", ""), "ada", 800);
        for (minutes, (id, parent)) in (0..).zip(comments) {
            sample::comment(&connection, id, ("p", parent), "ada", 700 - minutes);
        }
        let thread = thread(&connection, "p").unwrap().unwrap();
        assert_eq!(usize::try_from(thread.total).unwrap(), comments.len());
        thread.comments.iter().map(|it| format!("{}@{}", it.comment.id, it.depth)).collect()
    }

    #[test]
    fn an_answer_stands_under_what_it_answers() {
        type Row = (&'static [(&'static str, &'static str)], &'static [&'static str]);
        let rows: [Row; 6] = [
            (&[], &[]),
            (&[("a", ""), ("b", "")], &["a@0", "b@0"]),
            (
                &[("a", ""), ("b", ""), ("c", "a"), ("d", "c"), ("e", "a"), ("f", "b")],
                &["a@0", "c@1", "d@2", "e@1", "b@0", "f@1"],
            ),
            (&[("a", "gone"), ("b", "elsewhere"), ("c", "b")], &["a@0", "b@0", "c@1"]),
            (&[("a", "a")], &["a@0"]),
            (
                &[("a", "c"), ("b", "a"), ("c", "b"), ("d", ""), ("e", "c")],
                &["d@0", "a@0", "b@1", "c@2", "e@3"],
            ),
        ];
        for (comments, expected) in rows {
            assert_eq!(outline(comments), expected, "{comments:?}");
        }
    }

    #[test]
    fn a_thread_shows_the_oldest_comments_and_says_how_many_there_are() {
        let connection = sample::database();
        sample::post(&connection, "p", "", 1, (0.0, 0.0));
        let sql = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
            INSERT INTO comments (id, post, content, created) SELECT printf('c%04d', i), 'p', 'x', i FROM n";
        connection.execute(sql, []).unwrap();
        let thread = thread(&connection, "p").unwrap().unwrap();
        assert_eq!((thread.total, thread.comments.len()), (1001, COMMENTS_MAX));
        assert!(super::thread(&connection, "q").unwrap().is_none());
        let counts = comment_counts(&connection, [&thread.post]).unwrap();
        assert_eq!(counts.get("p"), Some(&1001));
    }

    #[test]
    fn a_profile_counts_what_the_oracle_did() {
        let connection = sample::database();
        for name in ["ada", "bob", "cy"] {
            sample::oracle(&connection, name, name != "cy");
        }
        for (number, author) in (0..40).zip(["ada", "ada", "bob"].into_iter().cycle()) {
            sample::post(&connection, &format!("p{number:02}"), author, number, (1.0, 0.0));
        }
        sample::comment(&connection, "c", ("p00", ""), "ada", 1);
        for (follower, following) in [("ada", "bob"), ("bob", "ada"), ("cy", "ada")] {
            sample::follow(&connection, follower, following);
        }
        sample::heartbeat(&connection, "ada", "away", 30);
        connection
            .execute("UPDATE oracles SET karma = 4.5, bio = 'hm', human = 'H' WHERE id = 'ada'", [])
            .unwrap();
        let ada = profile(&connection, "ada", NOON).unwrap().unwrap();
        assert_eq!((ada.post_count, ada.comment_count, ada.followers, ada.following), (27, 1, 2, 1));
        assert_eq!((ada.karma, ada.status, ada.posts.len()), (4, Status::Away, 27));
        assert!(ada.posts.windows(2).all(|pair| pair[0].created > pair[1].created));
        assert!(!profile(&connection, "cy", NOON).unwrap().unwrap().approved);
        assert!(profile(&connection, "dee", NOON).unwrap().is_none());
        let listed = directory(&connection).unwrap();
        assert_eq!((listed.len(), listed["ada"].karma, listed["ada"].bio.as_str()), (2, 4, "hm"));
    }

    #[test]
    fn threads_and_profiles_are_found_by_index() {
        let connection = sample::database();
        for sql in [COMMENTS, COMMENT_COUNT, ORACLE, POSTS_OF, COMMENTS_OF, FOLLOWERS, FOLLOWING, NEWEST_OF] {
            let plan = sample::plan(&connection, sql);
            assert!(!plan.iter().any(|step| step.starts_with("SCAN")), "{sql}: {plan:?}");
        }
    }
}
