//! Listings of a bucket: pages put together, folders, and replicas in the neighbourhood.

use super::answer::parse_xml;
use super::client::Ask;
use super::{Setback, Shared};
use crate::layout;
use crate::{ErrorKind, times};
use litekeep_formats::TimestampMs;
use reqwest::Method;
use serde::Deserialize;

/// An object of a listing; its path is relative to the replica's.
pub(super) struct Object {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) modified: TimestampMs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    is_truncated: bool,
    next_continuation_token: Option<String>,
    #[serde(default)]
    contents: Vec<Content>,
    #[serde(default)]
    common_prefixes: Vec<Folder>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    key: String,
    size: u64,
    last_modified: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Folder {
    prefix: String,
}

/// How much of a folder listing is fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// All pages.
    All,
    /// The first page: enough for a hint.
    FirstPage,
}

/// Everything below a folder of the replica, or only what comes after a path in it.
pub(super) fn objects(shared: &Shared, folder: &str, after: Option<&str>) -> Result<Vec<Object>, Setback> {
    let prefix = shared.full(folder);
    let base = prefix.strip_suffix(folder).unwrap_or_default();
    let mut objects = Vec::new();
    let whole = Listed { prefix: &prefix, delimiter: None, after: after.map(|after| shared.full(after)) };
    pages(shared, &whole, Depth::All, |page| {
        for content in page.contents {
            let Some(path) = content.key.strip_prefix(base) else {
                return Err(damaged(format!("the listing of {prefix:?} holds a key outside of it")));
            };
            let Some(modified) = times::parse_rfc3339(&content.last_modified) else {
                return Err(damaged(format!("the listing of {prefix:?} holds a time that is none")));
            };
            objects.push(Object { path: path.into(), size: content.size, modified });
        }
        Ok(())
    })?;
    Ok(objects)
}

/// The names of the folders directly in a folder of the replica.
pub(super) fn folders(shared: &Shared, folder: &str, depth: Depth) -> Result<Vec<String>, Setback> {
    folders_of(shared, &shared.full(folder), depth)
}

fn folders_of(shared: &Shared, prefix: &str, depth: Depth) -> Result<Vec<String>, Setback> {
    let mut names = Vec::new();
    pages(shared, &Listed { prefix, delimiter: Some("/"), after: None }, depth, |page| {
        names.extend(page.common_prefixes.iter().filter_map(|folder| {
            Some(folder.prefix.strip_prefix(prefix)?.trim_end_matches('/').to_string())
        }));
        Ok(())
    })?;
    Ok(names)
}

/// What a listing is asked for.
struct Listed<'a> {
    prefix: &'a str,
    delimiter: Option<&'a str>,
    /// Keys up to this one are left out.
    after: Option<String>,
}

fn pages(
    shared: &Shared,
    listed: &Listed<'_>,
    depth: Depth,
    mut take: impl FnMut(Page) -> Result<(), Setback>,
) -> Result<(), Setback> {
    let mut token: Option<String> = None;
    loop {
        let mut ask = Ask::new(Method::GET, None).query("list-type", "2").query("prefix", listed.prefix);
        if let Some(delimiter) = listed.delimiter {
            ask = ask.query("delimiter", delimiter);
        }
        if let Some(after) = &listed.after {
            ask = ask.query("start-after", after);
        }
        if let Some(token) = &token {
            ask = ask.query("continuation-token", token);
        }
        let answer = shared.client.ask(ask).map_err(super::NoAnswer::setback)?;
        if !answer.is_success() {
            let setback = answer.setback();
            // A listing has no key that could be missing: it is the bucket, and that is never "empty" (R26b).
            let kind = if setback.kind == ErrorKind::NotFound { ErrorKind::FixConfig } else { setback.kind };
            return Err(Setback { kind, ..setback });
        }
        let page: Page = parse_xml(&answer.body, "ListBucketResult").ok_or_else(|| {
            Setback::new(ErrorKind::Retry, "the answer is no complete listing; is this an S3 endpoint?")
        })?;
        let (more, next) = (page.is_truncated, page.next_continuation_token.clone());
        take(page)?;
        match next {
            _ if !more || depth == Depth::FirstPage => return Ok(()),
            Some(next) if token.as_ref() != Some(&next) => token = Some(next),
            _ => return Err(damaged("a listing that says it goes on but not where".into())),
        }
    }
}

fn damaged(text: String) -> Setback {
    Setback::new(ErrorKind::DataDamaged, text)
}

/// The names of the folders below a prefix, as far as one page has them. Where we may not look, we have put nothing.
pub(super) fn names_if_allowed(shared: &Shared, prefix: &str) -> Result<Vec<String>, Setback> {
    match folders_of(shared, prefix, Depth::FirstPage) {
        Err(setback) if setback.kind == ErrorKind::FixConfig => Ok(Vec::new()),
        names => names,
    }
}

/// Whether a replica lies at a path as it is spelled; v0.3's at what the path means.
pub(super) fn is_replica(shared: &Shared, path: &str) -> Result<bool, Setback> {
    // At the bucket's top keys begin with a slash.
    let names = names_if_allowed(shared, &format!("{path}/"))?;
    let old = path.is_empty() && !names_if_allowed(shared, layout::V3)?.is_empty();
    Ok(old || layout::is_replica(names.iter().map(String::as_str)))
}

/// The first of these paths at which one lies.
pub(super) fn first_replica(shared: &Shared, paths: Vec<String>) -> Result<Option<String>, Setback> {
    for path in paths {
        if is_replica(shared, &path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Replicas beside, above and below this path; a bounded number of questions.
pub(super) fn neighbours(shared: &Shared) -> Result<Vec<String>, Setback> {
    let settings = shared.client.settings();
    let path = settings.path.clone();
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_string();
    let mut candidates = Vec::new();
    if !path.is_empty() {
        candidates.push(parent.clone());
        let prefix = if parent.is_empty() { String::new() } else { format!("{parent}/") };
        for name in names_if_allowed(shared, &prefix)? {
            candidates.push(format!("{prefix}{name}"));
        }
    }
    let below = if path.is_empty() { String::new() } else { format!("{path}/") };
    for name in names_if_allowed(shared, &below)? {
        candidates.push(format!("{below}{name}"));
    }
    candidates.retain(|candidate| *candidate != path);
    candidates.sort();
    candidates.dedup();
    candidates.truncate(layout::MAX_NEIGHBOURS_PROBED);
    let mut found = Vec::new();
    for candidate in candidates {
        if is_replica(shared, &candidate)? {
            found.push(settings.named(&candidate));
        }
        if found.len() == layout::MAX_NEIGHBOURS {
            break;
        }
    }
    Ok(found)
}
