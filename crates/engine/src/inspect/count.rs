//! A store that counts what it is asked and what it gives.

use bytes::Bytes;
use litekeep_formats::TimestampMs;
use litekeep_store::{Chunk, Created, Entry, Head, Key, Limits, Scope, Source, Store, StoreError, Upload};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Questions: listings, reads, looks at one object. A long listing counts once, though it takes a request for every
    /// thousand objects.
    pub requests: u64,
    /// Bytes of objects that came.
    pub bytes: u64,
}

pub(super) struct Counting {
    inner: Arc<dyn Store>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Counting {
    pub(super) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, requests: AtomicU64::default(), bytes: AtomicU64::default() }
    }

    pub(super) fn counted(&self) -> Counted {
        Counted { requests: self.requests.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    fn ask(&self, requests: u64) -> &dyn Store {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        &*self.inner
    }
}

impl Store for Counting {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        self.ask(1).list(scope)
    }

    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.ask(1).head(key)
    }

    fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Head>>, StoreError> {
        self.ask(keys.len() as u64).heads(keys)
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        let chunk = self.ask(1).read(key, range)?;
        self.bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        Ok(chunk)
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        self.ask(1).create(key, body, timestamp)
    }

    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        self.ask(1).create_from(key, source, timestamp)
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        self.ask(1).put(key, body, timestamp)
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        self.ask(1).upload(key, timestamp)
    }

    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.ask(keys.len() as u64).delete(keys)
    }

    fn neighbours(&self) -> Result<Vec<String>, StoreError> {
        self.ask(1).neighbours()
    }

    fn server_time(&self) -> Option<TimestampMs> {
        self.inner.server_time()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
