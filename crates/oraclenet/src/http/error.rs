//! Errors as PocketBase answers them: `{"data":{..},"message":"..","status":N}`.

use crate::filter::FilterError;
use serde_json::{Map, Value, json};

/// What is wrong with each field, by name.
pub type FieldErrors = Map<String, Value>;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// For people; gets its capital letter and its final stop here.
    pub message: String,
    /// Details, mostly by field.
    pub data: Map<String, Value>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error with a message and nothing else.
    pub fn new(status: u16, message: &str) -> Self {
        Self { status, message: sentence(message), data: Map::new(), retry_after: None }
    }

    /// The same with details.
    #[must_use]
    pub fn with(mut self, data: FieldErrors) -> Self {
        self.data = data;
        self
    }

    /// 400 without details.
    pub fn bad_request(message: &str) -> Self {
        Self::new(400, message)
    }

    /// 400, for a request that cannot be read.
    pub fn unreadable() -> Self {
        Self::new(400, "Something went wrong while processing your request.")
    }

    /// 401.
    pub fn unauthorized(message: &str) -> Self {
        Self::new(401, message)
    }

    /// 403.
    pub fn forbidden(message: &str) -> Self {
        Self::new(403, message)
    }

    /// 403, for what only superusers may do.
    pub fn superusers_only() -> Self {
        Self::new(403, "Only superusers can perform this action.")
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::new(404, "The requested resource wasn't found.")
    }

    /// 429.
    pub fn too_many(retry_after: Option<u64>) -> Self {
        Self { retry_after, ..Self::new(429, "Too Many Requests.") }
    }

    /// 500. The cause goes to the log, not to the client.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed");
        Self::new(500, "Something went wrong while processing your request.")
    }

    /// 503: the write may be repeated. `outcome` is `unknown` or `not_applied`.
    pub fn unavailable(outcome: &str, message: &str, retry_after: u64) -> Self {
        let data = json!({ "outcome": outcome });
        let data = data.as_object().cloned().unwrap_or_default();
        Self { data, retry_after: Some(retry_after), ..Self::new(503, message) }
    }

    /// The answer's body.
    pub fn body(&self) -> Value {
        json!({ "data": self.data, "message": self.message, "status": self.status })
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => {
                // A client's filter that is too much work is the client's to change.
                tracing::warn!("a query was stopped: it took longer than {:?}", crate::limits::READ_TIME);
                Self::unreadable()
            }
            // What was begun is undone, so the same request may be made again.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                tracing::warn!(%error, "the database is locked by another program");
                Self::unavailable("not_applied", "The database is locked by another program. Try again", 1)
            }
            Some(ErrorCode::DiskFull) => {
                tracing::error!(%error, "the disk is full");
                Self::unavailable("not_applied", "The disk of the server is full", 30)
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        Self::new(error.status(), &error.message())
    }
}

/// One field's error.
pub fn field_error(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": sentence(message) })
}

/// One field's error with parameters.
pub fn field_error_with(code: &str, message: &str, params: Value) -> Value {
    json!({ "code": code, "message": sentence(message), "params": params })
}

/// A capital letter at the start and a stop at the end, as PocketBase does it.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let mut out: String = first.to_uppercase().chain(letters).collect();
    if !out.ends_with(['.', '?', '!']) {
        out.push('.');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sentences() {
        for (given, shown) in [
            ("not authenticated", "Not authenticated."),
            ("Cannot follow yourself", "Cannot follow yourself."),
            ("Really?", "Really?"),
            ("Done!", "Done!"),
            ("élan", "Élan."),
            ("", ""),
        ] {
            assert_eq!(ApiError::new(400, given).message, shown);
        }
    }

    #[test]
    fn an_error_has_three_keys_and_the_status_under_status() {
        let error = ApiError::not_found();
        let text = r#"{"data":{},"message":"The requested resource wasn't found.","status":404}"#;
        assert_eq!(error.body().to_string(), text);
    }
}
