//! A store that keeps a [`Book`] of every answer. It changes nothing on the way.

use super::book::{Book, Cost, Operation, Putting};
use bytes::Bytes;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, TimestampMs};
use litekeep_store::{
    Chunk, Created, Entry, ErrorKind, Head, Key, Limits, Scope, Source, Store, StoreError, Upload,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// See the module's text.
pub(crate) struct Metered {
    inner: Arc<dyn Store>,
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
}

type Answer<T> = Result<T, StoreError>;

impl Metered {
    /// Every answer of `inner` is noted in `book`.
    pub(crate) fn new(inner: Arc<dyn Store>, book: Arc<Book>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, book, clock }
    }

    /// Asks, and notes how it went: `tell` names the result and the bytes of a good answer.
    fn ask<T>(
        &self,
        operation: Operation,
        ask: impl FnOnce(&dyn Store) -> Answer<T>,
        tell: impl FnOnce(&T) -> (&'static str, u64),
    ) -> Answer<T> {
        let began = self.clock.boot();
        let answer = ask(&*self.inner);
        let time = self.clock.boot().saturating_sub(began);
        match &answer {
            Ok(value) => {
                let (name, bytes) = tell(value);
                self.book.answered(operation, Ok(name), Cost { bytes, time });
            }
            Err(error) => self.book.answered(operation, Err(error), Cost { bytes: 0, time }),
        }
        answer
    }

    fn created(&self, key: &Key, size: u64, timestamp: TimestampMs, answer: &Answer<Created>) {
        if matches!(answer, Ok(Created::Yes)) {
            self.book.written(key, size, timestamp, self.clock.wall());
        }
    }
}

fn name_of(created: &Created, size: u64) -> (&'static str, u64) {
    match created {
        Created::Yes => ("ok", size),
        Created::Exists => ("exists", 0),
    }
}

fn len(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}

impl Store for Metered {
    fn list(&self, scope: &Scope) -> Answer<Vec<Entry>> {
        let since = self.book.answers();
        let entries = self.ask(Operation::List, |store| store.list(scope), |_| ("ok", 0))?;
        let lowest = match scope {
            Scope::Level(level) | Scope::From(level) => *level,
            _ => return Ok(entries),
        };
        let inside =
            |level: &Level| if let Scope::From(_) = scope { *level >= lowest } else { *level == lowest };
        Level::all().filter(inside).for_each(|level| self.book.listed(level, since, &entries));
        Ok(entries)
    }

    fn head(&self, key: &Key) -> Answer<Head> {
        self.ask(Operation::Head, |store| store.head(key), |_| ("ok", 0))
    }

    fn heads(&self, keys: &[Key]) -> Answer<Vec<Option<Head>>> {
        let began = self.clock.boot();
        let answer = self.inner.heads(keys);
        let time = self.clock.boot().saturating_sub(began);
        match &answer {
            // Several were under way at once; each is given its share of the time.
            Ok(heads) => {
                let each = time / u32::try_from(heads.len().max(1)).unwrap_or(u32::MAX);
                for head in heads {
                    let name = if head.is_some() { "ok" } else { super::book::code(ErrorKind::NotFound) };
                    self.book.answered(Operation::Head, Ok(name), Cost { bytes: 0, time: each });
                }
            }
            Err(error) => self.book.answered(Operation::Head, Err(error), Cost { bytes: 0, time }),
        }
        answer
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Answer<Chunk> {
        self.ask(Operation::Get, |store| store.read(key, range), |chunk| ("ok", len(&chunk.bytes)))
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Answer<Created> {
        let (size, _putting) = (len(&body), Book::put(&self.book));
        let create = |store: &dyn Store| store.create(key, body, timestamp);
        let answer = self.ask(Operation::Put, create, |created| name_of(created, size));
        self.created(key, size, timestamp, &answer);
        answer
    }

    fn create_from(&self, key: &Key, source: &Arc<dyn Source>, timestamp: TimestampMs) -> Answer<Created> {
        let (size, _putting) = (source.len(), Book::put(&self.book));
        let create = |store: &dyn Store| store.create_from(key, source, timestamp);
        let answer = self.ask(Operation::Put, create, |created| name_of(created, size));
        self.created(key, size, timestamp, &answer);
        answer
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Answer<()> {
        let (size, _putting) = (len(&body), Book::put(&self.book));
        self.ask(Operation::Put, |store| store.put(key, body, timestamp), |()| ("ok", size))?;
        self.book.written(key, size, timestamp, self.clock.wall());
        Ok(())
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Answer<Box<dyn Upload>> {
        let (began, putting) = (self.clock.boot(), Book::put(&self.book));
        let upload = self.inner.upload(key, timestamp).inspect_err(|error| {
            let time = self.clock.boot().saturating_sub(began);
            self.book.answered(Operation::Put, Err(error), Cost { bytes: 0, time });
        })?;
        let (book, clock) = (Arc::clone(&self.book), Arc::clone(&self.clock));
        let (key, bytes) = (*key, 0);
        Ok(Box::new(MeteredUpload { inner: upload, book, clock, key, timestamp, began, bytes, putting }))
    }

    fn delete(&self, keys: &[Key]) -> Answer<()> {
        self.ask(Operation::Delete, |store| store.delete(keys), |()| ("ok", 0))?;
        self.book.deleted(keys);
        Ok(())
    }

    fn for_chores(&self) -> Option<Arc<dyn Store>> {
        let inner = self.inner.for_chores()?;
        Some(Arc::new(Self::new(inner, Arc::clone(&self.book), Arc::clone(&self.clock))))
    }

    fn neighbours(&self) -> Answer<Vec<String>> {
        self.ask(Operation::List, |store| store.neighbours(), |_| ("ok", 0))
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

/// One large object counts as one request, however many parts it has.
struct MeteredUpload {
    inner: Box<dyn Upload>,
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
    key: Key,
    timestamp: TimestampMs,
    began: Duration,
    bytes: u64,
    putting: Putting,
}

impl MeteredUpload {
    fn failed(book: &Book, clock: &dyn Clock, began: Duration, error: &StoreError) {
        let time = clock.boot().saturating_sub(began);
        book.answered(Operation::Put, Err(error), Cost { bytes: 0, time });
    }
}

impl Upload for MeteredUpload {
    fn write(&mut self, bytes: &[u8]) -> Answer<()> {
        self.bytes += bytes.len() as u64;
        let written = self.inner.write(bytes);
        written.inspect_err(|error| Self::failed(&self.book, &*self.clock, self.began, error))
    }

    fn finish(self: Box<Self>) -> Answer<()> {
        let Self { inner, book, clock, key, timestamp, began, bytes, putting: _putting } = *self;
        inner.finish().inspect_err(|error| Self::failed(&book, &*clock, began, error))?;
        let time = clock.boot().saturating_sub(began);
        book.answered(Operation::Put, Ok("ok"), Cost { bytes, time });
        book.written(&key, bytes, timestamp, clock.wall());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::clock::SystemClock;
    use litekeep_formats::{Txid, TxidRange};
    use litekeep_store::memory::MemoryStore;

    #[test]
    fn an_object_is_being_written_until_it_is_there_or_given_up() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let book = Arc::new(Book::default());
        let inner = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let store = Metered::new(inner, Arc::clone(&book), clock);
        let begin = |number| {
            let range = Txid::new(number).and_then(|txid| TxidRange::new(txid, txid)).expect("a range");
            store.upload(&Key::Ltx(Level::SNAPSHOTS, range), TimestampMs(0)).expect("begun")
        };
        let (first, second) = (begin(1), begin(2));
        assert!(book.is_putting());
        first.finish().expect("there");
        assert!(book.is_putting(), "there is another");
        drop(second);
        assert!(!book.is_putting());
    }
}
