//! Many objects, read as one ordered stream of ranges by several threads, in bounded memory.
//!
//! The ranges of all objects form one queue. Workers fetch ahead of the consumer as far as the byte budget goes, so
//! ten thousand small files and one of a hundred gigabytes are equally quick, and neither takes more memory. Every
//! range must belong to the version of an object that its first range showed (R27): anything else is
//! [`FetchError::Changed`], never a mixture.

use crate::restore::limits;
use bytes::Bytes;
use litekeep_formats::source::ByteSource;
use litekeep_store::{Chunk, ErrorKind, Key, Store, StoreError, Version};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Why bytes of an object could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store's error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object is not the one that was listed or begun with.
    #[error("{key} was replaced while it was being read")]
    Changed {
        /// Which object.
        key: Key,
    },
    /// The reading was called off because of an earlier error.
    #[error("reading was called off")]
    CalledOff,
}

impl FetchError {
    /// Whether listing and planning again may help: the object is gone or another.
    pub(crate) fn is_moved(&self) -> bool {
        match self {
            Self::Store(error) => error.kind() == ErrorKind::NotFound,
            Self::Changed { .. } => true,
            Self::CalledOff => false,
        }
    }
}

/// One object to read from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Object {
    /// Its name.
    pub(crate) key: Key,
    /// Its size as listed, bytes.
    pub(crate) size: u64,
}

/// How much is fetched at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Requests in flight; 1 fetches on the caller's thread, one range after the other.
    pub(crate) parallelism: usize,
    /// The largest range, bytes.
    pub(crate) chunk: u64,
    /// Bytes asked for and not yet consumed.
    pub(crate) bytes: u64,
}

impl Budget {
    /// The usual one for this many requests at a time.
    pub(crate) fn of(parallelism: usize) -> Self {
        let parallelism = parallelism.clamp(1, limits::PARALLELISM_MAX);
        Self {
            parallelism,
            chunk: limits::CHUNK_BYTES,
            bytes: limits::CHUNK_BYTES * (parallelism as u64 + 1),
        }
    }
}

/// Reads `objects` in order; `consume` pulls from them through [`Fetched::open`].
pub(crate) fn fetch<T>(
    store: &dyn Store,
    objects: &[Object],
    budget: Budget,
    consume: impl FnOnce(&Fetched<'_>) -> T,
) -> T {
    let fetched = Fetched {
        store,
        objects,
        budget,
        queue: Mutex::new(Queue::default()),
        change: Condvar::new(),
        consumed: AtomicU64::new(0),
    };
    if budget.parallelism <= 1 {
        return consume(&fetched);
    }
    std::thread::scope(|scope| {
        for _ in 0..budget.parallelism {
            scope.spawn(|| fetched.work());
        }
        // Also when `consume` panics, or the workers would wait for ever.
        let _stop = CallOff(&fetched);
        consume(&fetched)
    })
}

struct CallOff<'a, 'b>(&'a Fetched<'b>);

impl Drop for CallOff<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().called_off = true;
        self.0.change.notify_all();
    }
}

/// A range of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    object: usize,
    offset: u64,
}

#[derive(Default)]
struct Queue {
    /// What is fetched next.
    next: Option<At>,
    /// Objects before this one are of no more interest.
    first: usize,
    /// Bytes of ranges asked for and not yet consumed.
    outstanding: u64,
    ready: BTreeMap<At, Result<Chunk, StoreError>>,
    called_off: bool,
}

/// The objects on their way. See [`fetch`].
pub(crate) struct Fetched<'a> {
    store: &'a dyn Store,
    objects: &'a [Object],
    budget: Budget,
    queue: Mutex<Queue>,
    change: Condvar,
    consumed: AtomicU64,
}

impl Fetched<'_> {
    /// A reader of one object. Objects are read in order; one that was begun may be left unfinished.
    pub(crate) fn open(&self, object: usize) -> ObjectReader<'_> {
        self.release_before(object);
        ObjectReader { fetched: self, object, offset: 0, current: Bytes::new(), version: None }
    }

    /// Bytes that readers have taken so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self, at: At) -> u64 {
        self.objects
            .get(at.object)
            .map_or(0, |object| object.size.saturating_sub(at.offset).min(self.budget.chunk))
    }

    /// The first range that is not empty at or behind `at`.
    fn settle(&self, mut at: At) -> Option<At> {
        while at.object < self.objects.len() {
            if self.len(at) > 0 {
                return Some(at);
            }
            at = At { object: at.object + 1, offset: 0 };
        }
        None
    }

    /// Takes the next range to fetch, if the budget has room for it.
    fn take(&self, queue: &mut Queue) -> Option<At> {
        let at = self.settle(queue.next.unwrap_or(At { object: 0, offset: 0 }))?;
        let len = self.len(at);
        if queue.outstanding > 0 && queue.outstanding + len > self.budget.bytes {
            return None;
        }
        queue.outstanding += len;
        queue.next = Some(At { object: at.object, offset: at.offset + len });
        Some(at)
    }

    fn read(&self, at: At) -> Result<Chunk, StoreError> {
        let key = &self.objects[at.object].key;
        self.store.read(key, Some(at.offset..at.offset + self.len(at)))
    }

    fn work(&self) {
        let mut queue = self.lock();
        while !queue.called_off {
            let Some(at) = self.take(&mut queue) else {
                if self.settle(queue.next.unwrap_or(At { object: 0, offset: 0 })).is_none() {
                    return;
                }
                queue = self.change.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let answer = self.read(at);
            queue = self.lock();
            if at.object < queue.first {
                queue.outstanding -= self.len(at); // nobody waits for it any more
            } else {
                queue.ready.insert(at, answer);
            }
            self.change.notify_all();
        }
    }

    /// Waits for a range, or fetches it here when there are no workers.
    fn wait(&self, at: At) -> Result<Chunk, FetchError> {
        if self.budget.parallelism <= 1 {
            return Ok(self.read(at)?);
        }
        let mut queue = self.lock();
        loop {
            if let Some(answer) = queue.ready.remove(&at) {
                queue.outstanding -= self.len(at);
                self.change.notify_all();
                return Ok(answer?);
            }
            if queue.called_off {
                return Err(FetchError::CalledOff);
            }
            queue = self.change.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Forgets what was fetched of earlier objects, and does not begin what was not.
    fn release_before(&self, object: usize) {
        let mut queue = self.lock();
        queue.first = queue.first.max(object);
        let start = At { object, offset: 0 };
        let kept = queue.ready.split_off(&start);
        let dropped = std::mem::replace(&mut queue.ready, kept);
        for at in dropped.keys() {
            queue.outstanding -= self.len(*at);
        }
        if queue.next.is_none_or(|next| next < start) {
            queue.next = Some(start);
        }
        self.change.notify_all();
    }
}

/// One object's bytes, front to back.
pub(crate) struct ObjectReader<'a> {
    fetched: &'a Fetched<'a>,
    object: usize,
    offset: u64,
    current: Bytes,
    version: Option<Version>,
}

impl ByteSource for ObjectReader<'_> {
    type Error = FetchError;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, FetchError> {
        let at = At { object: self.object, offset: self.offset };
        let object = self.fetched.objects[self.object];
        if self.current.is_empty() {
            let len = self.fetched.len(at);
            if len == 0 {
                return Ok(0);
            }
            let chunk = self.fetched.wait(at)?;
            let same = self.version.get_or_insert_with(|| chunk.version.clone()) == &chunk.version;
            if !same || chunk.total != object.size || chunk.bytes.len() as u64 != len {
                return Err(FetchError::Changed { key: object.key });
            }
            self.offset += len;
            self.current = chunk.bytes;
            self.fetched.consumed.fetch_add(len, Ordering::Relaxed);
        }
        let count = self.current.len().min(buf.len());
        buf[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Reads one object front to back, on the caller's thread, `window` bytes at a time: an input of a merge.
pub(crate) struct Ranged<'a> {
    store: &'a dyn Store,
    object: Object,
    window: u64,
    offset: u64,
    current: Bytes,
    version: Option<Version>,
}

impl<'a> Ranged<'a> {
    /// Nothing is read yet.
    pub(crate) fn new(store: &'a dyn Store, object: Object, window: u64) -> Self {
        Self { store, object, window: window.max(1), offset: 0, current: Bytes::new(), version: None }
    }

    /// Of an object whose front was read already, by its name alone.
    pub(crate) fn behind(store: &'a dyn Store, key: Key, front: Chunk, window: u64) -> Self {
        let object = Object { key, size: front.total };
        let (offset, version) = (front.bytes.len() as u64, Some(front.version));
        Self { store, object, window: window.max(1), offset, current: front.bytes, version }
    }
}

impl ByteSource for Ranged<'_> {
    type Error = FetchError;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, FetchError> {
        if self.current.is_empty() {
            let len = (self.object.size - self.offset).min(self.window);
            if len == 0 {
                return Ok(0);
            }
            let chunk = self.store.read(&self.object.key, Some(self.offset..self.offset + len))?;
            let same = self.version.get_or_insert_with(|| chunk.version.clone()) == &chunk.version;
            if !same || chunk.total != self.object.size || chunk.bytes.len() as u64 != len {
                return Err(FetchError::Changed { key: self.object.key });
            }
            self.offset += len;
            self.current = chunk.bytes;
        }
        let count = self.current.len().min(buf.len());
        buf[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
