//! Realtime and batch, as HTTP.

use super::answer;
use super::error::ApiError;
use super::request::Incoming;
use super::state::AppState;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use std::sync::Arc;

type Answer = Result<Response<Body>, ApiError>;

/// `GET /api/realtime`
///
/// # Errors
/// 503: too many listen already.
pub fn connect(state: &AppState) -> Answer {
    let Some(client) = state.hub.connect() else {
        return Err(ApiError::unavailable("not_applied", "Too many are listening. Try again", 10));
    };
    let mut response = Response::new(Body::from_stream(client));
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
    let context = incoming.context(state).await?;
    let (client, topics) = crate::realtime::parse(&context.request.body)?;
    state.hub.subscribe(&client, topics, context.request.auth)?;
    Ok(answer::empty())
}

/// `POST /api/batch`
///
/// # Errors
/// 403: it is switched off.
pub async fn batch(state: &Arc<AppState>, incoming: Incoming) -> Answer {
    let _ = (state, incoming);
    Err(ApiError::forbidden("Batch requests are not allowed."))
}
