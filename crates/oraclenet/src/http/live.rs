//! Realtime and batch, as HTTP.

use super::error::ApiError;
use super::request::Incoming;
use super::state::AppState;
use super::{answer, query, records};
use crate::realtime::Subscribe;
use crate::records::{Batch, PasswordWork, Passwords};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use rusqlite::Connection;
use std::sync::Arc;

type Answer = Result<Response<Body>, ApiError>;

/// `GET /api/realtime`
///
/// # Errors
/// 503: too many listen already.
pub fn connect(state: &AppState) -> Answer {
    let Some((_, events)) = state.hub.connect() else {
        return Err(ApiError::unavailable("not_applied", "Too many are listening. Try again", 10));
    };
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// `POST /api/realtime`
///
/// # Errors
/// As [`crate::realtime::Hub::subscribe`].
pub async fn subscribe(state: &Arc<AppState>, mut incoming: Incoming) -> Answer {
    // Whatever is wrong with this body, PocketBase says no more than that.
    let unreadable = |error: ApiError| if error.status == 400 { ApiError::unreadable() } else { error };
    let context = incoming.context(state).await.map_err(unreadable)?;
    let asked = Subscribe::parse(&context.request.body)?;
    let client = asked.client_id.as_str().into();
    state.hub.subscribe(&client, &asked.subscriptions, context.request.auth.as_ref())?;
    Ok(answer::empty())
}

/// `POST /api/batch`: several changes in one transaction.
///
/// # Errors
/// 403: it is switched off. 400 with the first request that failed; 429 and 503.
pub async fn batch(state: &Arc<AppState>, mut incoming: Incoming) -> Answer {
    if !state.config.batch {
        return Err(ApiError::forbidden("Batch requests are not allowed."));
    }
    let context = incoming.context(state).await?;
    let batch = Arc::new(Batch::parse(&context.request.body, &context, query::parse)?);
    // What is in a batch counts as it would alone, or a batch would be the way around the limits.
    for collection in batch.creates() {
        incoming.limit(state, "", Some((collection, "create")))?;
    }
    let asked = Arc::clone(&batch);
    let work = state.db.read(move |connection| asked.password_work(connection)).await?;
    let mut known = Vec::with_capacity(work.len());
    for PasswordWork { collection, compare, .. } in &work {
        if compare.is_some() {
            incoming.limit(state, "", Some((collection, "auth")))?;
        }
    }
    for PasswordWork { request, hash, compare, .. } in work {
        let mut passwords = Passwords::default();
        if let Some(password) = hash {
            passwords.new_hash = records::hashed(state, password).await?;
        }
        if let Some((password, stored)) = compare {
            passwords.old_opened = records::opened_by(state, password, stored).await?;
        }
        known.push((request, passwords));
    }
    // Refused before anything is owned.
    let (checking, known) = (Arc::clone(&batch), Arc::new(known));
    let about = Arc::clone(&known);
    let check = move |connection: &Connection| checking.check(connection, &about);
    state.db.check(incoming.arrival, check).await.map_err(answer::not_written)?;
    let written = state.db.write(move |connection, changes| batch.run(connection, &known, changes)).await;
    let written = answer::written(written)?;
    records::committed(&incoming, written.value, written.txid)
}
