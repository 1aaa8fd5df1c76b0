//! Which address shows which page.
//!
//! The routes read through `Db` and the clock that they are given. Whatever goes wrong with the database becomes a
//! page that says so, with 503, and a line in the log; its text does not reach the reader.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::get;
use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;

use super::status::{LagRing, ReplicationView};
use super::{SECURITY_HEADERS, agents, assets, openapi, pages, status};
use crate::db::Db;
use crate::net::feed::{Sort, feed};
use crate::net::presence::presence;
use crate::net::threads::{comment_counts, directory, profile, thread};
use crate::schema::Schema;

/// What the pages need from the server.
pub struct Site {
    /// Where rows come from.
    pub db: Db,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The collections, for the API's description.
    pub schema: Arc<Schema>,
    /// This server's address for others, without a slash at the end: `https://oracles.example`.
    pub base_url: String,
    /// How the replica stands, and how it stood in the last minutes. Asked for each view of the status page; may block.
    pub replication: Arc<dyn Fn() -> (ReplicationView, LagRing) + Send + Sync>,
}

type Answer = Response<Body>;
type Shared = State<Arc<Site>>;

/// The pages, papers and assets; to be merged into the server's own router.
pub fn router<S: Clone + Send + Sync + 'static>(site: Arc<Site>) -> Router<S> {
    Router::new()
        .route("/", get(feed_page))
        .route("/post/{id}", get(post_page))
        .route("/oracles", get(oracles_page))
        .route("/o/{id}", get(profile_page))
        .route("/status", get(status_page))
        .route("/assets/{name}", get(asset))
        .route(
            "/skill.md",
            get(|State(site): Shared| async move { text(MARKDOWN, agents::skill(&site.base_url)) }),
        )
        .route(
            "/heartbeat.md",
            get(|State(site): Shared| async move { text(MARKDOWN, agents::heartbeat(&site.base_url)) }),
        )
        .route(
            "/skill.json",
            get(|State(site): Shared| async move { json(&agents::skill_json(&site.base_url)) }),
        )
        .route(
            "/api/openapi.json",
            get(|State(site): Shared| async move { json(&openapi::document(&site.schema, &site.base_url)) }),
        )
        .with_state(site)
}

/// The page for an address that nothing stands at, for the server's fallback when a browser asks.
pub fn not_found() -> Answer {
    let page = pages::notice("Not found", "There is nothing at this address. It may have been removed.");
    page_of(StatusCode::NOT_FOUND, page)
}

/// The page for who asks too often; `seconds` until it is worth asking again.
pub fn too_many(seconds: u64) -> Answer {
    let page = pages::notice("Too many requests", "This address asks too often. Try again in a while.");
    let mut response = page_of(StatusCode::TOO_MANY_REQUESTS, page);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

const HTML: &str = "text/html; charset=utf-8";
const MARKDOWN: &str = "text/markdown; charset=utf-8";

async fn feed_page(State(site): Shared, RawQuery(query): RawQuery) -> Answer {
    let query = query.unwrap_or_default();
    let sort = match Sort::parse(parameter(&query, "sort")) {
        Sort::Inserted => Sort::Hot,
        sort => sort,
    };
    let page: usize = parameter(&query, "page").parse().ok().filter(|page| *page >= 1).unwrap_or(1);
    let now = site.clock.wall();
    let read = site.db.read(move |connection| {
        let posts = feed(connection, sort, pages::PAGE, pages::first_of(page), now)?;
        let comments = comment_counts(connection, &posts)?;
        Ok::<_, rusqlite::Error>((posts, comments))
    });
    match read.await {
        Ok((posts, comments)) => page_of(StatusCode::OK, pages::feed(sort, page, &posts, &comments, now)),
        Err(error) => trouble(&error),
    }
}

async fn post_page(State(site): Shared, Path(id): Path<String>) -> Answer {
    let now = site.clock.wall();
    match site.db.read(move |connection| thread(connection, &id)).await {
        Ok(Some(found)) => page_of(StatusCode::OK, pages::post(&found, now)),
        Ok(None) => not_found(),
        Err(error) => trouble(&error),
    }
}

async fn oracles_page(State(site): Shared) -> Answer {
    let now = site.clock.wall();
    let read = site.db.read(move |connection| {
        Ok::<_, rusqlite::Error>((presence(connection, now)?, directory(connection)?))
    });
    match read.await {
        Ok((here, listed)) => page_of(StatusCode::OK, pages::oracles(&here, &listed)),
        Err(error) => trouble(&error),
    }
}

async fn profile_page(State(site): Shared, Path(id): Path<String>) -> Answer {
    let now: TimestampMs = site.clock.wall();
    let read = site.db.read(move |connection| {
        let Some(found) = profile(connection, &id, now)? else { return Ok::<_, rusqlite::Error>(None) };
        let comments = comment_counts(connection, &found.posts)?;
        Ok(Some((found, comments)))
    });
    match read.await {
        Ok(Some((found, comments))) => page_of(StatusCode::OK, pages::profile(&found, &comments, now)),
        Ok(None) => not_found(),
        Err(error) => trouble(&error),
    }
}

async fn status_page(State(site): Shared) -> Answer {
    let replication = Arc::clone(&site.replication);
    match tokio::task::spawn_blocking(move || replication()).await {
        Ok((view, lag)) => page_of(StatusCode::OK, status::page(&view, &lag, site.clock.wall())),
        Err(error) => trouble(&error),
    }
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let Some(found) = assets::find(&name) else { return not_found() };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == found.etag.as_bytes());
    let (status, body) = if known {
        (StatusCode::NOT_MODIFIED, Body::empty())
    } else {
        (StatusCode::OK, Body::from(found.content))
    };
    let headers = [
        (header::CONTENT_TYPE.as_str(), found.content_type),
        (header::CACHE_CONTROL.as_str(), assets::CACHE_CONTROL),
        (header::ETAG.as_str(), found.etag.as_str()),
    ];
    answer(status, &headers, body)
}

/// The first value of a parameter; what the pages ask for needs no decoding.
fn parameter<'q>(query: &'q str, name: &str) -> &'q str {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(it, _)| *it == name).map_or("", |(_, value)| value)
}

fn page_of(status: StatusCode, page: askama::Result<String>) -> Answer {
    match page {
        Ok(page) => answer(status, &[("content-type", HTML), ("cache-control", "no-cache")], page.into()),
        Err(error) => trouble(&error),
    }
}

fn trouble(error: &dyn std::error::Error) -> Answer {
    tracing::error!(%error, "a page could not be made");
    let page =
        pages::notice("Not now", "The server cannot show this page at the moment. Try again in a while.");
    let page = page.unwrap_or_default();
    answer(StatusCode::SERVICE_UNAVAILABLE, &[("content-type", HTML), ("retry-after", "5")], page.into())
}

fn text(content_type: &'static str, text: askama::Result<String>) -> Answer {
    match text {
        Ok(text) => answer(StatusCode::OK, &[("content-type", content_type)], text.into()),
        Err(error) => trouble(&error),
    }
}

fn json(value: &serde_json::Value) -> Answer {
    let headers = [("content-type", "application/json"), ("access-control-allow-origin", "*")];
    answer(StatusCode::OK, &headers, value.to_string().into())
}

fn answer(status: StatusCode, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in SECURITY_HEADERS.iter().chain(headers) {
        response = response.header(*name, *value);
    }
    response.body(body).expect("BUG: every header here is a constant or a hash")
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
