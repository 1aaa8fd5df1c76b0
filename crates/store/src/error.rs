//! The one error of this crate: which operation, on which object, how often tried, and whose move it is.

use std::fmt;
use std::time::Duration;

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object is not there (the bucket is).
    NotFound,
    /// Passing trouble (timeout, reset, 5xx): trying again later may help.
    Retry,
    /// The store asked for less (429, 503 SlowDown): wait, then try again.
    Wait,
    /// Credentials, bucket, endpoint, permission, read-only or full disk: a person must change something.
    FixConfig,
    /// What came back is not what was stored (length, ETag, truncated answer).
    DataDamaged,
    /// The store can't do what was asked (create-only puts, for instance).
    Unsupported,
    /// The object is larger than the store, or what stands on the way to it, takes in one put.
    TooLarge,
    /// A broken promise of our own code.
    Bug,
}

/// The cause under a [`StoreError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A file system's answer.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Everything else, as text that holds no secret.
    #[error("{0}")]
    Text(String),
}

/// An operation on an object that did not succeed.
#[derive(Debug)]
pub struct StoreError {
    /// Whose move it is.
    pub kind: ErrorKind,
    /// The verb: `list`, `read`, `create`, `put`, `delete`, `head`, `upload`.
    pub operation: &'static str,
    /// The object or scope, with the store's location; no secrets.
    pub object: String,
    /// How often it was tried, 1 or more.
    pub attempts: u32,
    /// From the first try to the answer.
    pub elapsed: Duration,
    /// How long the store asked to be left alone.
    pub asked: Option<Duration>,
    /// What went wrong.
    pub cause: Failure,
}

impl StoreError {
    /// A first-try failure; the retry layer fills in the rest.
    pub fn new(kind: ErrorKind, operation: &'static str, object: impl Into<String>, cause: Failure) -> Self {
        Self {
            kind,
            operation,
            object: object.into(),
            attempts: 1,
            elapsed: Duration::ZERO,
            asked: None,
            cause,
        }
    }

    /// What happened to which object, without how often and how long it was tried: the same trouble has the same gist.
    pub fn gist(&self) -> String {
        format!("{} {}: {}", self.operation, self.object, self.cause)
    }

    /// Whether the object lies in a directory: then no keys, endpoint or network are in the way.
    pub fn is_of_directory(&self) -> bool {
        self.object.starts_with("file://")
    }

    /// See [`ErrorKind`].
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.gist())?;
        if let Some(asked) = self.asked {
            write!(f, "; the store asked to wait {:.0} s", asked.as_secs_f64())?;
        }
        if self.attempts > 1 {
            write!(f, " (tried {} times in {:.1} s)", self.attempts, self.elapsed.as_secs_f64())?;
        }
        Ok(())
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
