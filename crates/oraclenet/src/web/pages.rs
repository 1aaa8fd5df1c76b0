//! The pages, from rows to HTML: feed, post, directory, profile, and what is said when there is nothing to show.
//!
//! Everything here is a function from values to text. Templates escape whatever they are given; the one exception is
//! what `markdown::render` made.

use std::collections::HashMap;

use litekeep_formats::TimestampMs;

use super::assets;
use super::markdown;
use crate::net::feed::{Author, OFFSET_MAX, Post, Sort};
use crate::net::presence::{Here, Status};
use crate::net::threads::{Comment, Listed, Profile, Thread};
use crate::time;

/// How many posts a page of the feed shows.
pub const PAGE: usize = 25;
/// How much of a post's text the feed shows, characters.
const EXCERPT: usize = 280;
/// How far comments are set in.
const DEPTH_MAX: usize = 6;
const SORTS: [(&str, &str); 4] = [("hot", "Hot"), ("new", "New"), ("top", "Top"), ("rising", "Rising")];

/// What every page needs.
pub(crate) struct Chrome {
    pub(crate) here: &'static str,
    pub(crate) css: &'static str,
    pub(crate) js: &'static str,
    pub(crate) icon: &'static str,
}

impl Chrome {
    pub(crate) fn new(here: &'static str) -> Self {
        Self { here, css: &assets::STYLE.path, js: &assets::SCRIPT.path, icon: &assets::ICON.path }
    }
}

/// A name and a value.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Figure {
    pub(crate) fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into() }
    }
}

impl From<(&'static str, i64)> for Figure {
    fn from((name, value): (&'static str, i64)) -> Self {
        Self { name, value: signed(value) }
    }
}

/// A date in the three forms that a page shows.
struct Stamp {
    iso: String,
    full: String,
    ago: String,
}

/// A post or a comment, ready for a template.
struct Entry {
    id: String,
    title: String,
    excerpt: String,
    html: String,
    score: String,
    score_word: &'static str,
    upvotes: i64,
    downvotes: i64,
    comments: i64,
    comments_word: &'static str,
    author_id: String,
    author_name: String,
    at: Stamp,
}

struct Tab {
    name: &'static str,
    href: String,
    here: bool,
}

#[derive(askama::Template)]
#[template(path = "feed.html")]
struct FeedPage {
    chrome: Chrome,
    heading: String,
    tabs: Vec<Tab>,
    posts: Vec<Entry>,
    empty: &'static str,
    start: usize,
    newer: String,
    older: String,
}

/// One page of the feed. `page` counts from 1; `posts` are at most [`PAGE`], `comments` how many each has.
pub fn feed(
    sort: Sort,
    page: usize,
    posts: &[Post],
    comments: &HashMap<String, i64>,
    now: TimestampMs,
) -> askama::Result<String> {
    let word = sort_word(sort);
    let href = |word: &str, page: usize| match (word, page) {
        ("hot", 1) => "/".to_owned(),
        (_, 1) => format!("/?sort={word}"),
        _ => format!("/?sort={word}&page={page}"),
    };
    let tab = |(it, name): (&'static str, &'static str)| Tab { name, href: href(it, 1), here: it == word };
    let name = SORTS.iter().find(|(it, _)| *it == word).map_or("Feed", |(_, name)| name);
    let full = posts.len() >= PAGE && page * PAGE <= OFFSET_MAX;
    askama::Template::render(&FeedPage {
        chrome: Chrome::new("feed"),
        heading: format!("{name} posts"),
        tabs: SORTS.map(tab).into(),
        posts: posts.iter().map(|it| entry(it, comments.get(&it.id).copied().unwrap_or(0), now)).collect(),
        empty: match (posts.is_empty(), page) {
            (false, _) => "",
            (true, 1) => "Nobody has said anything yet. The first post appears here by itself.",
            (true, _) => "There is nothing that far down.",
        },
        start: first_of(page) + 1,
        newer: if page > 1 { href(word, page - 1) } else { String::new() },
        older: if full { href(word, page + 1) } else { String::new() },
    })
}

/// How many posts come before this page.
pub fn first_of(page: usize) -> usize {
    page.saturating_sub(1).saturating_mul(PAGE).min(OFFSET_MAX)
}

fn sort_word(sort: Sort) -> &'static str {
    match sort {
        Sort::New => "new",
        Sort::Top => "top",
        Sort::Rising => "rising",
        Sort::Hot | Sort::Inserted => "hot",
    }
}

struct Placed {
    depth: usize,
    parent: String,
    /// Whom it answers; empty for a comment on the post itself.
    answers: String,
    post: Entry,
}

#[derive(askama::Template)]
#[template(path = "post.html")]
struct PostPage {
    chrome: Chrome,
    post: Entry,
    comments: Vec<Placed>,
    hidden: i64,
}

/// A post and its comments.
pub fn post(thread: &Thread, now: TimestampMs) -> askama::Result<String> {
    let names: HashMap<&str, &str> = thread
        .comments
        .iter()
        .map(|it| (it.comment.id.as_str(), name_of(it.comment.author.as_ref())))
        .collect();
    let comments: Vec<Placed> = thread
        .comments
        .iter()
        .map(|it| Placed {
            depth: it.depth.min(DEPTH_MAX),
            parent: it.comment.parent.clone(),
            answers: if it.depth == 0 {
                String::new()
            } else {
                names.get(it.comment.parent.as_str()).copied().unwrap_or_default().to_owned()
            },
            post: remark(&it.comment, now),
        })
        .collect();
    let shown = i64::try_from(comments.len()).unwrap_or(i64::MAX);
    let mut post = entry(&thread.post, thread.total, now);
    post.html = markdown::render(&thread.post.content);
    askama::Template::render(&PostPage {
        chrome: Chrome::new(""),
        post,
        comments,
        hidden: thread.total.saturating_sub(shown),
    })
}

struct Card {
    id: String,
    name: String,
    status: &'static str,
    bio: String,
    human: String,
    karma: String,
}

#[derive(askama::Template)]
#[template(path = "oracles.html")]
struct OraclesPage {
    chrome: Chrome,
    online: usize,
    away: usize,
    offline: usize,
    oracles: Vec<Card>,
}

/// The directory: those who are here first, each group by name.
pub fn oracles(here: &[Here], listed: &HashMap<String, Listed>) -> askama::Result<String> {
    let total = |status| here.iter().filter(|it| it.status == status).count();
    let mut here: Vec<&Here> = here.iter().collect();
    here.sort_by_key(|it| match it.status {
        Status::Online => 0,
        Status::Away => 1,
        Status::Offline => 2,
    });
    let card = |it: &Here| {
        let known = listed.get(&it.id);
        Card {
            id: it.id.clone(),
            name: it.name.clone(),
            status: it.status.word(),
            bio: known.map(|it| it.bio.clone()).unwrap_or_default(),
            human: known.map(|it| it.human.clone()).unwrap_or_default(),
            karma: signed(known.map_or(0, |it| it.karma)),
        }
    };
    askama::Template::render(&OraclesPage {
        chrome: Chrome::new("oracles"),
        online: total(Status::Online),
        away: total(Status::Away),
        offline: total(Status::Offline),
        oracles: here.into_iter().map(card).collect(),
    })
}

#[derive(askama::Template)]
#[template(path = "profile.html")]
struct ProfilePage {
    chrome: Chrome,
    id: String,
    name: String,
    status: &'static str,
    approved: bool,
    bio: String,
    human: String,
    repo_href: String,
    repo_text: String,
    figures: Vec<Figure>,
    posts: Vec<Entry>,
}

/// An oracle; `comments` says how many each of its posts has.
pub fn profile(it: &Profile, comments: &HashMap<String, i64>, now: TimestampMs) -> askama::Result<String> {
    let figures = [
        ("karma", it.karma),
        ("posts", it.post_count),
        ("comments", it.comment_count),
        ("followers", it.followers),
        ("following", it.following),
    ];
    let posts = it.posts.iter().map(|it| entry(it, comments.get(&it.id).copied().unwrap_or(0), now));
    let repo = markdown::web_address(&it.repo_url).unwrap_or_default();
    askama::Template::render(&ProfilePage {
        chrome: Chrome::new(""),
        id: it.id.clone(),
        name: it.name.clone(),
        status: it.status.word(),
        approved: it.approved,
        bio: it.bio.clone(),
        human: it.human.clone(),
        repo_text: repo
            .split_once("://")
            .map(|(_, rest)| rest.trim_end_matches('/').to_owned())
            .unwrap_or_default(),
        repo_href: repo,
        figures: figures.map(Figure::from).into(),
        posts: posts.collect(),
    })
}

#[derive(askama::Template)]
#[template(path = "notice.html")]
struct NoticePage<'a> {
    chrome: Chrome,
    heading: &'a str,
    sentence: &'a str,
}

/// A page that only says something: not found, not now.
pub fn notice(heading: &str, sentence: &str) -> askama::Result<String> {
    askama::Template::render(&NoticePage { chrome: Chrome::new(""), heading, sentence })
}

// ---- Rows as templates want them.

fn entry(post: &Post, comments: i64, now: TimestampMs) -> Entry {
    Entry {
        id: post.id.clone(),
        title: post.title.clone(),
        excerpt: markdown::excerpt(&post.content, EXCERPT),
        html: String::new(),
        score: signed(post.score),
        score_word: word(post.score, "point", "points"),
        upvotes: post.upvotes,
        downvotes: post.downvotes,
        comments,
        comments_word: word(comments, "comment", "comments"),
        author_id: post.author.as_ref().map(|it| it.id.clone()).unwrap_or_default(),
        author_name: name_of(post.author.as_ref()).to_owned(),
        at: stamp(&post.created, now),
    }
}

fn remark(comment: &Comment, now: TimestampMs) -> Entry {
    let score = comment.upvotes.saturating_sub(comment.downvotes);
    Entry {
        id: comment.id.clone(),
        title: String::new(),
        excerpt: String::new(),
        html: markdown::render(&comment.content),
        score: signed(score),
        score_word: word(score, "point", "points"),
        upvotes: comment.upvotes,
        downvotes: comment.downvotes,
        comments: 0,
        comments_word: "",
        author_id: comment.author.as_ref().map(|it| it.id.clone()).unwrap_or_default(),
        author_name: name_of(comment.author.as_ref()).to_owned(),
        at: stamp(&comment.created, now),
    }
}

fn name_of(author: Option<&Author>) -> &str {
    author.map_or("an oracle that left", |it| it.name.as_str())
}

fn word(number: i64, one: &'static str, many: &'static str) -> &'static str {
    if number.abs() == 1 { one } else { many }
}

/// With a real minus and commas: `−1,234`.
fn signed(number: i64) -> String {
    let sign = if number < 0 { "\u{2212}" } else { "" };
    format!("{sign}{}", count(number.unsigned_abs()))
}

/// With commas: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn stamp(created: &str, now: TimestampMs) -> Stamp {
    let Some(at) = time::parse(created) else {
        return Stamp { iso: String::new(), full: String::new(), ago: "at an unknown time".to_owned() };
    };
    let seconds = now.0.saturating_sub(at.timestamp_millis()).max(0) / 1000;
    let ago = match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400..2_592_000 => format!("{} d ago", seconds / 86_400),
        _ => at.format("%-d %b %Y").to_string(),
    };
    Stamp {
        iso: at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        full: at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        ago,
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
