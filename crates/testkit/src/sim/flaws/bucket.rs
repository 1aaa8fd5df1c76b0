//! The bucket as a wrong engine takes it.

use super::BucketFlaw;
use bytes::Bytes;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Source, Store, StoreError, Upload,
};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// `inner` with a mistake in front of it; `clock` is the machine's.
pub(crate) fn bucket(inner: Arc<dyn Store>, flaw: BucketFlaw, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
    match flaw {
        BucketFlaw::None => inner,
        flaw => Arc::new(Mistaken { inner, flaw, clock, listed: Mutex::default() }),
    }
}

struct Mistaken {
    inner: Arc<dyn Store>,
    flaw: BucketFlaw,
    clock: Arc<dyn Clock>,
    /// The names of the last listing of each level, and which levels were listed.
    listed: Mutex<(BTreeSet<Key>, BTreeSet<Level>)>,
}

impl Mistaken {
    /// Refuses what the last listing did not show.
    fn look(&self, operation: &'static str, key: &Key) -> Result<(), StoreError> {
        let Key::Ltx(level, _) = key else { return Ok(()) };
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.flaw != BucketFlaw::ListIsTruth || !listed.1.contains(level) || listed.0.contains(key) {
            return Ok(());
        }
        let what = Failure::Text("not listed".to_owned());
        Err(StoreError::new(ErrorKind::NotFound, operation, key.to_string(), what))
    }

    fn created(&self, key: &Key, answer: Result<Created, StoreError>) -> Result<Created, StoreError> {
        self.know(key);
        let slot = matches!(key, Key::Ltx(Level::SLOTS, _));
        match (self.flaw, answer) {
            (BucketFlaw::RefusedIsMine, Ok(_)) if slot => Ok(Created::Yes),
            (BucketFlaw::SilenceIsConsent, Err(error)) if slot && error.kind() == ErrorKind::Retry => {
                Ok(Created::Yes)
            }
            (_, answer) => answer,
        }
    }

    /// It wrote it, so it knows it.
    fn know(&self, key: &Key) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).0.insert(*key);
    }

    /// Before a merged file goes up.
    fn clear_the_way(&self, key: &Key) -> Result<(), StoreError> {
        let Key::Ltx(level, range) = *key else { return Ok(()) };
        let from = level.get().checked_sub(1).and_then(Level::new);
        let Some(from) = from.filter(|_| level != Level::SNAPSHOTS) else { return Ok(()) };
        if self.flaw != BucketFlaw::DeletesSourcesFirst {
            return Ok(());
        }
        let entries = self.inner.list(&Scope::Level(from))?;
        let inside = |key: &Key| match *key {
            Key::Ltx(_, of) => range.min() <= of.min() && of.max() <= range.max(),
            _ => false,
        };
        let sources: Vec<Key> = entries.iter().map(|entry| entry.key).filter(inside).collect();
        self.inner.delete(&sources)
    }
}

impl Store for Mistaken {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        let entries = self.inner.list(scope)?;
        let inside = |level: &Level| match scope {
            Scope::Level(of) => of == level,
            Scope::From(lowest) => lowest <= level,
            _ => false,
        };
        let levels: Vec<Level> = Level::all().filter(inside).collect();
        if !levels.is_empty() {
            let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            listed.0.retain(|key| !matches!(key, Key::Ltx(of, _) if levels.contains(of)));
            listed.0.extend(entries.iter().map(|entry| entry.key));
            listed.1.extend(levels);
        }
        Ok(entries)
    }

    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.look("head", key)?;
        self.inner.head(key)
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        self.look("read", key)?;
        self.inner.read(key, range)
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        self.clear_the_way(key)?;
        self.created(key, self.inner.create(key, body, timestamp))
    }

    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        self.created(key, self.inner.create_from(key, source, timestamp))
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        self.know(key);
        self.inner.put(key, body, timestamp)
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        self.know(key);
        self.inner.upload(key, timestamp)
    }

    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let slot = |key: &Key| match *key {
            Key::Ltx(Level::SLOTS, range) => Some(range.max()),
            _ => None,
        };
        let next = keys.iter().filter_map(slot).max().map(Txid::next);
        let too_many = next
            .filter(|_| self.flaw == BucketFlaw::DeletesOneTooMany)
            .map(|txid| Key::Ltx(Level::SLOTS, TxidRange::single(txid)));
        self.inner.delete(&keys.iter().copied().chain(too_many).collect::<Vec<_>>())
    }

    fn server_time(&self) -> Option<TimestampMs> {
        match self.flaw {
            BucketFlaw::OwnClock => Some(self.clock.wall()),
            BucketFlaw::FreesTooSoon => {
                self.inner.server_time().map(|now| TimestampMs(now.0.saturating_add(180_000)))
            }
            _ => self.inner.server_time(),
        }
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
