//! One replica, wherever it lies: typed names, a small set of verbs, one kind of error.
//!
//! The verbs block; an implementation over an async client brings its own runtime. This keeps the engine a plain
//! state machine over threads, and lets a simulation run every verb deterministically on one thread.
//!
//! [`ReplicaUrl`] and [`Settings`] say where a replica is, [`open`] opens it, [`Store`] is what can be done with it, and
//! [`conformance`] tests whether an implementation keeps that contract.
#![forbid(unsafe_code)]

pub mod body;
mod budget;
pub mod conformance;
pub mod directory;
pub mod disk;
pub mod error;
pub mod key;
pub mod layout;
pub mod location;
pub mod memory;
pub mod ping;
pub mod probe;
pub mod reader;
pub mod retry;
pub mod s3;
mod times;

pub use body::Source;
pub use error::{ErrorKind, Failure, StoreError};
pub use key::{EpochRecord, Key, Scope, V3Generation};
pub use location::{ReplicaUrl, Settings, open};

use bytes::Bytes;
use litekeep_formats::TimestampMs;
use std::ops::Range;
use std::sync::Arc;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its typed name.
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// mtime or LastModified, by the store's clock.
    pub modified: TimestampMs,
    /// The file's own time, where the listing tells it (directory: mtime; S3: `None`, ask [`Store::head`]).
    pub timestamp: Option<TimestampMs>,
}

/// What identifies one version of an object: the ETag, or length and mtime in a directory. Opaque: only compare it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub String);

/// An object's properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes.
    pub size: u64,
    /// mtime or LastModified, by the store's clock.
    pub modified: TimestampMs,
    /// The time given when it was written; `modified` where none was recorded or it does not parse.
    pub timestamp: TimestampMs,
    /// See [`Version`].
    pub version: Version,
}

/// A piece of an object.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The bytes of the range that was asked for, cut at the object's end.
    pub bytes: Bytes,
    /// The whole object's size, bytes.
    pub total: u64,
    /// The version this piece belongs to.
    pub version: Version,
}

/// The answer to a create-only put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there now and is ours.
    Yes,
    /// Something already had that name; nothing was changed.
    Exists,
}

/// What one request to the store can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest single put, bytes.
    pub single_put: u64,
}

/// A large object on its way up. Dropping it without [`Upload::finish`] leaves nothing behind.
pub trait Upload: Send {
    /// Appends bytes; may block while parts go up.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
    /// Makes the object visible, whole, replacing an older one of that name.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// One replica in one place. All names are relative to the replica's path.
///
/// Errors: [`StoreError`], whose [`ErrorKind`] says whose move it is. An implementation retries what may be retried
/// before it answers.
pub trait Store: Send + Sync {
    /// Everything in a scope, ascending by name, complete over all pages of the listing. A scope that was never
    /// written is empty, but a bucket or base directory that cannot be reached or read is an error.
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError>;

    /// Size, times and version. Error kind [`ErrorKind::NotFound`] where there is no such object.
    fn head(&self, key: &Key) -> Result<Head, StoreError>;

    /// [`Store::head`] of many objects at once, in their order; `None` for one that is not there. A remote store asks
    /// for several at a time: a restore to a point in time needs hundreds (R46).
    fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Head>>, StoreError> {
        let head = |key| match self.head(key) {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        keys.iter().map(head).collect()
    }

    /// `range` in bytes, or everything. A range that begins at or past the end gives no bytes, not an error.
    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError>;

    /// Creates an object that must not exist yet, durably, with `timestamp` as its own time. When the answer is
    /// lost the implementation reads back and compares before it answers.
    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError>;

    /// [`Store::create`] of what would be too large to lie in memory, up to [`Limits::single_put`]. One put all the
    /// same: the object is created whole, or not at all.
    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError>;

    /// Writes or replaces an object, durably.
    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError>;

    /// Begins a large object (multipart on S3, a temporary file in a directory).
    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError>;

    /// Deletes objects; those already gone are no error.
    fn delete(&self, keys: &[Key]) -> Result<(), StoreError>;

    /// The same replica for chores, whose requests all give way to others', whatever they are about: a compaction reads
    /// slots, and no acknowledgement waits for that. `None` where that makes no difference.
    fn for_chores(&self) -> Option<Arc<dyn Store>> {
        None
    }

    /// Paths beside, above and below this one that do hold a replica, for the message of an *empty* outcome: a wrong
    /// path is the usual cause. At most [`layout::MAX_NEIGHBOURS`], found with a bounded number of questions.
    fn neighbours(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// The store's own clock, from the newest answer it gave (`Date`; this machine's for a directory).
    fn server_time(&self) -> Option<TimestampMs>;

    /// See [`Limits`].
    fn limits(&self) -> Limits;

    /// Where this is, for people: `s3://bucket/path`, `file:///dir`, `memory`. No secrets.
    fn location(&self) -> String;
}
