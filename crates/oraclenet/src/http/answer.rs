//! Answers: JSON with a newline at its end, errors, and what a write came to.

use super::error::ApiError;
use super::request::Incoming;
use crate::db::{WriteError, Written};
use crate::records::pick;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use litekeep_formats::Txid;
use serde_json::Value;

/// The header that names the replica's transaction which holds what the answer says.
pub const TXID_HEADER: &str = "x-replicated-txid";

/// JSON.
pub fn json(status: u16, value: &Value) -> Response<Body> {
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 with those parts of an answer that the caller wants.
///
/// # Errors
/// 400: `fields` cannot be read.
pub fn picked(incoming: &Incoming, value: Value, page: bool) -> Result<Response<Body>, ApiError> {
    Ok(json(200, &pick(value, incoming.param("fields"), page)?))
}

/// 204.
pub fn empty() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// An error.
pub fn error(error: &ApiError) -> Response<Body> {
    let mut response = json(error.status, &error.body());
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Names the transaction that holds what the answer says.
pub fn replicated(mut response: Response<Body>, txid: Option<Txid>) -> Response<Body> {
    if let Some(value) = txid.and_then(|txid| HeaderValue::from_str(&txid.to_string()).ok()) {
        response.headers_mut().insert(TXID_HEADER, value);
    }
    response
}

/// What a write came to: its value and transaction, or why there is none.
///
/// # Errors
/// The write's own refusal; 503 with its outcome for one that is not known to be durable.
pub fn written<T>(result: Result<Written<T>, WriteError<ApiError>>) -> Result<Written<T>, ApiError> {
    result.map_err(not_written)
}

/// See [`written`].
pub fn not_written(error: WriteError<ApiError>) -> ApiError {
    match error {
        WriteError::Refused(error) => error,
        WriteError::NotApplied(why) => {
            ApiError::unavailable("not_applied", &format!("Nothing was changed: {why}. Try again"), 1)
        }
        WriteError::Unknown => ApiError::unavailable(
            "unknown",
            "It is not known whether the change will be kept: the replica does not have it yet. The same request may be \
             repeated here; another server does not know of it, so there a vote would switch again",
            2,
        ),
    }
}
