//! A replica in memory: for tests and the simulation. It never loses, delays or reorders anything by itself.

use crate::body::{self, Source};
use crate::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Store, StoreError, Upload, Version,
};
use bytes::Bytes;
use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    modified: TimestampMs,
    timestamp: TimestampMs,
    serial: u64,
}

#[derive(Debug, Default)]
struct Objects {
    by_key: BTreeMap<Key, Object>,
    serial: u64,
}

impl Objects {
    fn insert(&mut self, key: Key, body: Bytes, modified: TimestampMs, timestamp: TimestampMs) {
        self.serial += 1;
        let serial = self.serial;
        self.by_key.insert(key, Object { body, modified, timestamp, serial });
    }
}

/// A replica in memory; clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    objects: Arc<Mutex<Objects>>,
    clock: Arc<dyn Clock>,
    single_put: u64,
}

impl MemoryStore {
    /// An empty replica whose objects are dated by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Arc::default(), clock, single_put: 5 << 30 }
    }

    /// The same replica with another single-put limit, bytes.
    #[must_use]
    pub fn with_single_put(mut self, bytes: u64) -> Self {
        self.single_put = bytes;
        self
    }

    fn with<T>(&self, f: impl FnOnce(&mut Objects) -> T) -> T {
        f(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn missing(operation: &'static str, key: &Key) -> StoreError {
    StoreError::new(
        ErrorKind::NotFound,
        operation,
        format!("memory: {key}"),
        Failure::Text("no such object".into()),
    )
}

impl Store for MemoryStore {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        let inside = |key: &Key| match (scope, key) {
            (Scope::Level(level), Key::Ltx(at, _)) => level == at,
            (Scope::From(lowest), Key::Ltx(at, _)) => lowest <= at,
            (Scope::Epochs, Key::Epoch(..)) | (Scope::V3Snapshots, Key::V3Snapshot(..)) => true,
            (Scope::V3Wal(generation), Key::V3Wal(of, ..)) => generation == of,
            _ => false,
        };
        Ok(self.with(|objects| {
            objects
                .by_key
                .iter()
                .filter(|(key, _)| inside(key))
                .map(|(key, object)| Entry {
                    key: *key,
                    size: object.body.len() as u64,
                    modified: object.modified,
                    timestamp: Some(object.timestamp),
                })
                .collect()
        }))
    }

    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.with(|objects| {
            let object = objects.by_key.get(key).ok_or_else(|| missing("head", key))?;
            Ok(Head {
                size: object.body.len() as u64,
                modified: object.modified,
                timestamp: object.timestamp,
                version: Version(object.serial.to_string()),
            })
        })
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        self.with(|objects| {
            let object = objects.by_key.get(key).ok_or_else(|| missing("read", key))?;
            let total = object.body.len() as u64;
            let range = range.unwrap_or(0..total);
            let cut = |at: u64| usize::try_from(at.min(total)).unwrap_or(usize::MAX);
            let (start, end) = (cut(range.start), cut(range.end));
            Ok(Chunk {
                bytes: object.body.slice(start..end.max(start)),
                total,
                version: Version(object.serial.to_string()),
            })
        })
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        let now = self.clock.wall();
        Ok(self.with(|objects| {
            if objects.by_key.contains_key(key) {
                return Created::Exists;
            }
            objects.insert(*key, body, now, timestamp);
            Created::Yes
        }))
    }

    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        let body = body::read_all(&**source).map_err(|error| {
            StoreError::new(ErrorKind::Retry, "create", format!("memory: {key}"), Failure::Io(error))
        })?;
        self.create(key, body, timestamp)
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        let now = self.clock.wall();
        self.with(|objects| objects.insert(*key, body, now, timestamp));
        Ok(())
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(MemoryUpload { store: self.clone(), key: *key, timestamp, body: Vec::new() }))
    }

    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.with(|objects| {
            for key in keys {
                objects.by_key.remove(key);
            }
        });
        Ok(())
    }

    fn server_time(&self) -> Option<TimestampMs> {
        Some(self.clock.wall())
    }

    fn limits(&self) -> Limits {
        Limits { single_put: self.single_put }
    }

    fn location(&self) -> String {
        "memory".into()
    }
}

struct MemoryUpload {
    store: MemoryStore,
    key: Key,
    timestamp: TimestampMs,
    body: Vec<u8>,
}

impl Upload for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        self.store.put(&self.key, Bytes::from(self.body), self.timestamp)
    }
}
