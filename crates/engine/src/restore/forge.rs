//! Replicas for tests: sealed chains of made-up pages, a clock that only moves when told, and a store that meddles.

use bytes::Bytes;
use litekeep_core::env::Clock;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::{Encoder, Header, Marks, PageEncoding, Seal, WalSpan};
use litekeep_formats::{Checksum, Epoch, Level, PageNo, PageSize, TimestampMs, Txid, TxidRange};
use litekeep_store::memory::MemoryStore;
use litekeep_store::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Source, Store, StoreError, Upload,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A clock that moves when something sleeps, or when told.
#[derive(Debug, Default)]
pub(crate) struct StillClock(AtomicI64);

impl StillClock {
    /// At this time, ms.
    pub(crate) fn at(ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(ms)))
    }

    pub(crate) fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn wall(&self) -> TimestampMs {
        TimestampMs(self.0.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap_or(0))
    }

    fn sleep(&self, duration: Duration) {
        self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }
}

pub(crate) fn txid(id: u64) -> Txid {
    Txid::new(id).expect("not zero")
}

pub(crate) fn range(min: u64, max: u64) -> TxidRange {
    TxidRange::new(txid(min), txid(max)).expect("min <= max")
}

pub(crate) fn slot_key(id: u64) -> Key {
    Key::Ltx(Level::SLOTS, range(id, id))
}

pub(crate) fn level_key(level: u8, min: u64, max: u64) -> Key {
    Key::Ltx(Level::new(level).expect("0 to 9"), range(min, max))
}

/// A database of made-up pages and the sealed chain that it leaves in a store.
pub(crate) struct Chain {
    pub(crate) store: MemoryStore,
    pub(crate) clock: Arc<StillClock>,
    pub(crate) page_size: PageSize,
    pub(crate) epoch: Option<u64>,
    /// Whether seals state the database's checksum.
    pub(crate) states_database: bool,
    pub(crate) pages: BTreeMap<u32, Vec<u8>>,
    pub(crate) commit: u32,
    pub(crate) txid: u64,
    pub(crate) last: Option<Checksum>,
    /// The database after each slot.
    pub(crate) states: BTreeMap<u64, Vec<u8>>,
}

impl Chain {
    /// Nothing yet; pages of 512 bytes, sealed with epoch 1.
    pub(crate) fn new() -> Self {
        let clock = StillClock::at(1_000_000);
        Self {
            store: MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>),
            clock,
            page_size: PageSize::new(512).expect("a page size"),
            epoch: Some(1),
            states_database: true,
            pages: BTreeMap::new(),
            commit: 0,
            txid: 0,
            last: None,
            states: BTreeMap::new(),
        }
    }

    /// The rolling checksum of the database now.
    pub(crate) fn database(&self) -> Checksum {
        self.pages.iter().fold(Checksum::EMPTY, |sum, (number, data)| {
            sum.toggle(page_checksum(PageNo::new(*number).expect("not zero"), data))
        })
    }

    /// The database now, as a file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let size = self.page_size.bytes();
        let mut bytes = vec![0; self.commit as usize * size];
        for (number, data) in &self.pages {
            let at = (*number as usize - 1) * size;
            bytes[at..at + size].copy_from_slice(data);
        }
        bytes
    }

    pub(crate) fn header(&self, range: TxidRange, marks: Marks) -> Header {
        let mut header = Header {
            no_checksum: true,
            page_size: self.page_size,
            commit: self.commit,
            range,
            timestamp: self.clock.wall(),
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            reserved: [0; 20],
        };
        if let Some(epoch) = self.epoch.and_then(Epoch::new) {
            let database = self.states_database.then(|| self.database());
            let seal = Seal { epoch, database, predecessor: self.last, marks };
            header.set_seal(&seal);
        }
        header
    }

    /// Commits pages (number and fill byte), one second later, and puts the slot. Growth must be among them.
    pub(crate) fn slot(&mut self, commit: u32, changes: &[(u32, u8)]) -> u64 {
        self.change(commit, changes);
        let pages: Vec<u32> = changes.iter().map(|(number, _)| *number).collect();
        self.put_slot(&pages, Marks::NONE)
    }

    /// As [`Self::slot`], with every page.
    pub(crate) fn image(&mut self, commit: u32, changes: &[(u32, u8)]) -> u64 {
        self.change(commit, changes);
        let pages: Vec<u32> = self.pages.keys().copied().collect();
        self.put_slot(&pages, Marks::FULL_IMAGE)
    }

    /// Changes pages without a slot.
    pub(crate) fn change(&mut self, commit: u32, changes: &[(u32, u8)]) {
        self.commit = commit;
        for (number, fill) in changes {
            let mut data = vec![*fill; self.page_size.bytes()];
            data[..4].copy_from_slice(&number.to_be_bytes());
            self.pages.insert(*number, data);
        }
        self.pages.retain(|number, _| *number <= commit);
    }

    /// Puts the slot of what changed last.
    pub(crate) fn put_slot(&mut self, pages: &[u32], marks: Marks) -> u64 {
        self.txid += 1;
        self.clock.sleep(Duration::from_secs(1));
        let range = range(self.txid, self.txid);
        let (bytes, file) = self.file(&self.header(range, marks), pages);
        self.put(Key::Ltx(Level::SLOTS, range), bytes);
        self.last = Some(file);
        self.states.insert(self.txid, self.bytes());
        self.txid
    }

    /// A file of these pages.
    pub(crate) fn file(&self, header: &Header, pages: &[u32]) -> (Bytes, Checksum) {
        let mut out = Vec::new();
        let mut sorted = pages.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut encoder = Encoder::new(header, PageEncoding::Block, &mut out).expect("a legal header");
        for number in sorted {
            let page = PageNo::new(number).expect("not zero");
            encoder.page(page, &self.pages[&number], &mut out).expect("a legal page");
        }
        let trailer = encoder.finish(None, &mut out).expect("a legal file");
        (out.into(), trailer.file)
    }

    /// Puts a snapshot of the database now into level 9.
    pub(crate) fn snapshot(&mut self) {
        let mut header = self.header(range(1, self.txid), Marks::NONE);
        if let Some(mut seal) = header.seal() {
            seal.predecessor = None;
            header.set_seal(&seal);
        }
        let pages: Vec<u32> = self.pages.keys().copied().collect();
        let (bytes, _) = self.file(&header, &pages);
        self.put(Key::Ltx(Level::SNAPSHOTS, header.range), bytes);
    }

    pub(crate) fn put(&self, key: Key, bytes: Bytes) {
        self.store.put(&key, bytes, self.clock.wall()).expect("memory takes it");
    }

    pub(crate) fn object(&self, key: &Key) -> Bytes {
        self.store.read(key, None).expect("there").bytes
    }

    pub(crate) fn remove(&self, keys: &[Key]) {
        self.store.delete(keys).expect("memory deletes");
    }

    /// `count` slots on a database that grows and shrinks a little.
    pub(crate) fn run(&mut self, count: u64) {
        for _ in 0..count {
            let step = self.txid + 1;
            let fill = u8::try_from(step % 251).expect("small");
            let commit = match step % 7 {
                0 => (self.commit - 1).max(2),
                1 | 4 => self.commit + 2,
                _ => self.commit.max(1),
            };
            let mut changes = vec![(1, fill), (u32::try_from(step).expect("small") % commit + 1, fill)];
            changes.extend((self.commit + 1..=commit).map(|page| (page, fill)));
            self.slot(commit, &changes);
        }
    }
}

type Hook = Box<dyn Fn(&'static str, &str) -> Option<ErrorKind> + Send + Sync>;

/// A store with a hook before every verb, and counters.
pub(crate) struct Meddler {
    inner: MemoryStore,
    hook: Mutex<Option<Hook>>,
    hide_timestamps: bool,
    unlisted: Vec<Key>,
    pub(crate) heads: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) largest_read: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) most_in_flight: AtomicU64,
}

impl Meddler {
    pub(crate) fn new(inner: MemoryStore) -> Self {
        Self {
            inner,
            hook: Mutex::default(),
            hide_timestamps: false,
            unlisted: Vec::new(),
            heads: AtomicU64::default(),
            reads: AtomicU64::default(),
            largest_read: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            most_in_flight: AtomicU64::default(),
        }
    }

    /// Listings tell no file's own time, as on S3.
    pub(crate) fn like_s3(mut self) -> Self {
        self.hide_timestamps = true;
        self
    }

    /// Listings lag: they do not show these.
    pub(crate) fn without(mut self, unlisted: Vec<Key>) -> Self {
        self.unlisted = unlisted;
        self
    }

    /// Called with each verb and what it is about; an answer makes the verb fail.
    pub(crate) fn on(
        self,
        hook: impl Fn(&'static str, &str) -> Option<ErrorKind> + Send + Sync + 'static,
    ) -> Self {
        *self.hook.lock().expect("not poisoned") = Some(Box::new(hook));
        self
    }

    fn ask(&self, verb: &'static str, about: &str) -> Result<(), StoreError> {
        match self.hook.lock().expect("not poisoned").as_ref().and_then(|hook| hook(verb, about)) {
            Some(kind) => Err(StoreError::new(kind, verb, about, Failure::Text("meddled with".into()))),
            None => Ok(()),
        }
    }
}

impl Store for Meddler {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        self.ask("list", &format!("{scope:?}"))?;
        let mut entries = self.inner.list(scope)?;
        entries.retain(|entry| !self.unlisted.contains(&entry.key));
        if self.hide_timestamps {
            entries.iter_mut().for_each(|entry| entry.timestamp = None);
        }
        Ok(entries)
    }

    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.heads.fetch_add(1, Ordering::SeqCst);
        self.ask("head", &key.to_string())?;
        self.inner.head(key)
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        let len = range.as_ref().map_or(0, |range| range.end - range.start);
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.largest_read.fetch_max(len, Ordering::SeqCst);
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let answer = self.ask("read", &key.to_string()).and_then(|()| self.inner.read(key, range));
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        self.ask("create", &key.to_string())?;
        self.inner.create(key, body, timestamp)
    }

    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        self.ask("create", &key.to_string())?;
        self.inner.create_from(key, source, timestamp)
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        self.ask("put", &key.to_string())?;
        self.inner.put(key, body, timestamp)
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        self.ask("upload", &key.to_string())?;
        self.inner.upload(key, timestamp)
    }

    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        for key in keys {
            self.ask("delete", &key.to_string())?;
        }
        self.inner.delete(keys)
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
