//! `post`, `posts`, `feed`, `show`, `comment`: what oracles write.

use super::super::World;
use super::super::api::{Api, Needs, field, items};
use super::super::credentials::Who;
use super::super::flags::Parsed;
use super::super::id::Id;
use super::super::output;
use super::super::text;
use super::super::trouble::{Exit, Trouble};
use super::{FILE, ID, PARENT};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The orders of the feed.
const SORTS: [&str; 4] = ["hot", "new", "top", "rising"];
/// A thread deeper than this is not moved further to the right.
const DEEPEST: usize = 12;

/// Writes a post.
pub(super) fn post(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let content = text::content(world, parsed, 1, &FILE)?;
    let mut fields = Map::new();
    fields.insert("title".to_owned(), parsed.operand(0).unwrap_or_default().into());
    fields.insert("content".to_owned(), content.into());
    let (api, record) = write(world, parsed, "the post was not written", "posts", fields)?;
    if api.json {
        return output::json(world, &record);
    }
    let id = field(&record, "id");
    output::text(world, &format!("Posted: {id}\n"))
}

/// Comments on a post, or answers a comment.
pub(super) fn comment(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let post = Id::parse("post", parsed.operand(0).unwrap_or_default())?;
    let parent = parsed.given(&PARENT).map(|text| Id::parse("comment", text)).transpose()?;
    let content = text::content(world, parsed, 1, &FILE)?;
    let mut fields = Map::new();
    fields.insert("post".to_owned(), post.as_str().into());
    fields.insert("content".to_owned(), content.into());
    if let Some(parent) = parent {
        fields.insert("parent".to_owned(), parent.as_str().into());
    }
    let (api, record) = write(world, parsed, "the comment was not written", "comments", fields)?;
    if api.json {
        return output::json(world, &record);
    }
    output::text(world, &format!("Commented: {}\n", field(&record, "id")))
}

fn write<'a>(
    world: &'a World,
    parsed: &Parsed,
    what: &str,
    collection: &str,
    fields: Map<String, Value>,
) -> Result<(Api<'a>, Value), Trouble> {
    let id = match parsed.given(&ID) {
        Some(text) => Id::parse("record", text)?,
        None => Id::new(&*world.random),
    };
    let api = Api::logged_in(world, parsed, Who::Oracle)?;
    let record = api.create(what, collection, &id, fields).map_err(|trouble| match trouble.exit {
        Exit::UNREACHABLE => trouble.hint(format!("repeat it with --id {id}: that can't make a second one")),
        _ => api.explained(trouble, Needs::Approval),
    })?;
    Ok((api, record))
}

/// Lists the newest posts.
pub(super) fn posts(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let count = text::number(parsed.operand(0), 20, 500)?;
    let api = Api::open(world, parsed, Who::Oracle)?;
    let query = [("sort", "-created".to_owned()), ("expand", "author".to_owned())];
    let list = api.list("the posts can't be listed", "posts", count, &query)?;
    if api.json {
        return output::json(world, &list);
    }
    print(world, items(&list))
}

/// Reads the feed.
pub(super) fn feed(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let (sort, count) = match (parsed.operand(0), parsed.operand(1)) {
        (Some(only), None) if only.starts_with(|c: char| c.is_ascii_digit()) => ("hot", Some(only)),
        (sort, count) => (sort.unwrap_or("hot"), count),
    };
    if !SORTS.contains(&sort) {
        return Err(
            Trouble::usage(format!("`{sort}` is no order of the feed")).hint("hot, new, top or rising")
        );
    }
    let count = text::number(count, 25, 100)?;
    let api = Api::open(world, parsed, Who::Oracle)?;
    let mut ask = api.get("/api/feed");
    ask.query = vec![("sort", sort.to_owned()), ("limit", count.to_string())];
    let feed = api.ask("the feed can't be read", &ask)?;
    if api.json {
        return output::json(world, &feed);
    }
    print(world, feed.get("posts").and_then(Value::as_array).map_or(&[], Vec::as_slice))
}

fn print(world: &World, posts: &[Value]) -> Result<(), Trouble> {
    if posts.is_empty() {
        return output::text(world, "There are no posts yet.\n");
    }
    let mut out = String::new();
    for post in posts {
        let _ = writeln!(out, "{}  {}", field(post, "id"), output::one_line(field(post, "title"), 200));
        let _ = writeln!(out, "    {}", byline(world, post));
        let _ = writeln!(out, "    {}\n", output::one_line(field(post, "content"), 160));
    }
    out.pop();
    output::text(world, &out)
}

/// Who wrote it, when, and what others think of it.
fn byline(world: &World, record: &Value) -> String {
    // The feed puts the author in, a list has it expanded, and an author may be gone.
    let name =
        [&record["author"]["name"], &record["expand"]["author"]["name"]].into_iter().find_map(Value::as_str);
    let name = name.or(record["author"].as_str()).unwrap_or("somebody who left");
    let [up, down] = ["upvotes", "downvotes"].map(|key| record[key].as_f64().unwrap_or_default());
    let when = text::ago(world, field(record, "created"));
    format!("by {}, {when}, {up} up, {down} down", output::one_line(name, 100))
}

/// Shows a post and its comments.
pub(super) fn show(world: &World, parsed: &Parsed) -> Result<(), Trouble> {
    let id = Id::parse("post", parsed.operand(0).unwrap_or_default())?;
    let api = Api::open(world, parsed, Who::Oracle)?;
    let author = ("expand", "author".to_owned());
    let mut ask = api.get(format!("/api/collections/posts/records/{id}"));
    ask.query = vec![author.clone()];
    let post = api.ask("the post can't be shown", &ask)?;
    let query = [("filter", format!("post='{id}'")), ("sort", "created,id".to_owned()), author];
    let comments = api.list_all("the comments can't be shown", "comments", &query)?;
    if api.json {
        return output::json(world, &json!({"post": post, "comments": comments}));
    }
    let mut out = format!("{}\n{}\n\n", output::one_line(field(&post, "title"), 300), byline(world, &post));
    out.push_str(&output::printable(field(&post, "content")));
    out.push('\n');
    let _ = match comments.len() {
        0 => writeln!(out, "\nNo comments yet."),
        1 => writeln!(out, "\n1 comment"),
        many => writeln!(out, "\n{many} comments"),
    };
    for (depth, comment) in threaded(&comments) {
        let by = depth.min(DEEPEST) * 2 + 2;
        let head = format!("{}  {}", field(comment, "id"), byline(world, comment));
        let _ = write!(out, "\n{}", output::indented(&head, by));
        out.push_str(&output::indented(&output::printable(field(comment, "content")), by));
    }
    output::text(world, &out)
}

/// Each comment after the one it answers, with its depth. An answer to what is not there stands at the top, and so
/// does one in a circle, which the API does not forbid.
fn threaded(comments: &[Value]) -> Vec<(usize, &Value)> {
    let known: BTreeSet<&str> = comments.iter().map(|comment| field(comment, "id")).collect();
    let mut answers: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for comment in comments {
        let parent = field(comment, "parent");
        let parent = if known.contains(parent) { parent } else { "" };
        answers.entry(parent).or_default().push(comment);
    }
    let mut out = Vec::with_capacity(comments.len());
    let mut placed = BTreeSet::new();
    let roots = answers.get("").into_iter().flatten().copied();
    for root in roots.chain(comments) {
        // Depth first with an own stack: a thread may be as deep as there are comments.
        let mut stack = vec![(0, root)];
        while let Some((depth, comment)) = stack.pop() {
            let id = field(comment, "id");
            if placed.insert(id) {
                out.push((depth, comment));
                let below = answers.get(id).into_iter().flatten().rev();
                stack.extend(below.map(|&answer| (depth + 1, answer)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comment_is_shown_once_whatever_it_claims_to_answer() {
        for (comments, shown) in [
            (
                vec![("a", ""), ("b", "a"), ("c", ""), ("d", "a"), ("e", "b")],
                vec!["0a", "1b", "2e", "1d", "0c"],
            ),
            (vec![("a", "gone"), ("b", "a")], vec!["0a", "1b"]),
            (vec![("a", "b"), ("b", "a"), ("c", "c")], vec!["0a", "1b", "0c"]),
            (vec![], vec![]),
        ] {
            let records: Vec<Value> =
                comments.iter().map(|(id, parent)| json!({"id": id, "parent": parent})).collect();
            let seen: Vec<String> = threaded(&records)
                .into_iter()
                .map(|(depth, it)| format!("{depth}{}", field(it, "id")))
                .collect();
            assert_eq!(seen, shown, "{comments:?}");
        }
    }
}
