//! A disk that is full, a store that does not answer, answers that are lost.

use crate::rig::{LONG, Rig, insert, stopped, synced};
use bytes::Bytes;
use litekeep::clock::SystemClock;
use litekeep::error::KeepError;
use litekeep::files::{File, FileId, Files, Open, RealFiles};
use litekeep::keeper::Keeper;
use litekeep::replicator::{Health, Status};
use litekeep_core::env::Clock as _;
use litekeep_formats::ltx::Header;
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Source, Store, StoreError, Upload,
};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What the store does with the next writes.
pub(crate) const FINE: u32 = 0;
pub(crate) const DOWN: u32 = 1;
pub(crate) const LOSES_ANSWERS: u32 = 2;
const THROTTLES: u32 = 3;
/// It answers once the mood is another one.
pub(crate) const SILENT: u32 = 6;
/// It refuses one request and is silent to the next.
const REFUSES_ONE: u32 = 7;
/// A proxy before the store takes less than the store does.
pub(crate) const NARROW: u32 = 4;
const NARROW_BYTES: u64 = 1 << 20;
/// It becomes so once the answer to something that large is lost.
const LOSES_AND_NARROWS: u32 = 5;
/// Takes a closing record, and says so only later.
pub(crate) const HOLDS_THE_LAST_ANSWER: u32 = 8;

/// It takes everything but slots.
pub(crate) const TAKES_NO_SLOT: u32 = 9;

/// A store that fails on request.
struct Moody {
    inner: Arc<dyn Store>,
    mood: Arc<AtomicU32>,
    /// How often it was asked anything.
    asked: Arc<AtomicU32>,
    /// Done at each piece of a large object that goes up, and when one is refused as too large.
    meanwhile: Arc<dyn Fn() + Send + Sync>,
}

struct SlowUpload {
    inner: Box<dyn Upload>,
    mood: Arc<AtomicU32>,
    meanwhile: Arc<dyn Fn() + Send + Sync>,
}

impl Upload for SlowUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        (self.meanwhile)();
        self.inner.write(bytes)
    }
    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        (self.meanwhile)();
        refuse(&self.mood, "finish")?;
        self.inner.finish()
    }
}

impl Moody {
    fn refuse(&self, operation: &'static str) -> Result<(), StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        refuse(&self.mood, operation)
    }
}

fn refuse(mood: &AtomicU32, operation: &'static str) -> Result<(), StoreError> {
    while mood.load(Ordering::SeqCst) == SILENT {
        std::thread::yield_now();
    }
    let one = mood.compare_exchange(REFUSES_ONE, SILENT, Ordering::SeqCst, Ordering::SeqCst);
    let kind = match one.unwrap_or_else(|other| other) {
        REFUSES_ONE | DOWN => ErrorKind::Retry,
        THROTTLES => ErrorKind::Wait,
        _ => return Ok(()),
    };
    Err(StoreError::new(kind, operation, "moody", Failure::Text("not now".into())))
}

impl Store for Moody {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        self.refuse("list")?;
        self.inner.list(scope)
    }
    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.refuse("head")?;
        self.inner.head(key)
    }
    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        self.refuse("read")?;
        self.inner.read(key, range)
    }
    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        let source: Arc<dyn Source> = Arc::new(body);
        self.create_from(key, &source, timestamp)
    }
    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        self.refuse("create")?;
        if self.mood.load(Ordering::SeqCst) == NARROW && source.len() > NARROW_BYTES {
            (self.meanwhile)();
            let cause = Failure::Text("413".into());
            return Err(StoreError::new(ErrorKind::TooLarge, "create", "moody", cause));
        }
        if self.mood.load(Ordering::SeqCst) == TAKES_NO_SLOT && matches!(key, Key::Ltx(Level::SLOTS, _)) {
            let cause = Failure::Text("not now".into());
            return Err(StoreError::new(ErrorKind::Retry, "create", "moody", cause));
        }
        let created = self.inner.create_from(key, source, timestamp)?;
        let is_last = matches!(key, Key::Epoch(_, litekeep_store::EpochRecord::Closed));
        while is_last && self.mood.load(Ordering::SeqCst) == HOLDS_THE_LAST_ANSWER {
            std::thread::yield_now();
        }
        let then =
            |mood, next| self.mood.compare_exchange(mood, next, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if then(LOSES_ANSWERS, FINE) || (source.len() > NARROW_BYTES && then(LOSES_AND_NARROWS, NARROW)) {
            return Err(StoreError::new(
                ErrorKind::Retry,
                "create",
                "moody",
                Failure::Text("connection reset".into()),
            ));
        }
        Ok(created)
    }
    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        self.refuse("put")?;
        self.inner.put(key, body, timestamp)
    }
    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        self.refuse("upload")?;
        let inner = self.inner.upload(key, timestamp)?;
        let (mood, meanwhile) = (Arc::clone(&self.mood), Arc::clone(&self.meanwhile));
        Ok(Box::new(SlowUpload { inner, mood, meanwhile }))
    }
    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.refuse("delete")?;
        self.inner.delete(keys)
    }
    fn neighbours(&self) -> Result<Vec<String>, StoreError> {
        self.inner.neighbours()
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

/// A rig that does something once the store is narrow, and refuses a slot as too large.
pub(crate) fn narrow(refused: impl Fn() + Send + Sync + 'static) -> (Rig, Arc<AtomicU32>) {
    let (rig, mood) = (Rig::new(), Arc::new(AtomicU32::new(FINE)));
    let is_narrow = Arc::clone(&mood);
    let meanwhile = Arc::new(move || {
        if is_narrow.load(Ordering::SeqCst) == NARROW {
            refused();
        }
    });
    let (inner, asked) = (Arc::clone(&rig.store), Arc::default());
    let store = Arc::new(Moody { inner, mood: Arc::clone(&mood), asked, meanwhile });
    (Rig { store, ..rig }, mood)
}

pub(crate) fn moody() -> (Rig, Arc<AtomicU32>) {
    let (rig, mood, _) = counted();
    (rig, mood)
}

/// The same, with how often the store was asked anything.
pub(crate) fn counted() -> (Rig, Arc<AtomicU32>, Arc<AtomicU32>) {
    let rig = Rig::new();
    let (store, mood, asked) = moody_way(&rig.store);
    (Rig { store, ..rig }, mood, asked)
}

/// A way to a store that fails on request, and counts the requests.
pub(crate) fn moody_way(to: &Arc<dyn Store>) -> (Arc<dyn Store>, Arc<AtomicU32>, Arc<AtomicU32>) {
    let (mood, asked) = (Arc::new(AtomicU32::new(FINE)), Arc::new(AtomicU32::new(0)));
    let moody = Moody {
        inner: Arc::clone(to),
        mood: Arc::clone(&mood),
        asked: Arc::clone(&asked),
        meanwhile: Arc::new(|| {}),
    };
    (Arc::new(moody), mood, asked)
}

/// Waits for a state that the engine reaches by itself.
pub(crate) fn wait_for(keeper: &Keeper, what: &str, seen: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if seen() {
            return;
        }
        keeper.poke();
        std::thread::yield_now();
        // A short timed wait on the engine's own condition variable, not a blind sleep.
        let _ = keeper.sync(Duration::from_millis(1));
    }
    panic!("{what}: never seen, {:?}", keeper.status());
}

#[test]
fn r58_r66_an_outage_is_bridged_its_backlog_shares_slots_and_nothing_counts_too_early() {
    let (rig, mood) = moody();
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    synced(&keeper);
    let before = keeper.status().durable;
    mood.store(DOWN, Ordering::SeqCst);
    for _ in 0..200 {
        insert(&app, 20);
    }
    wait_for(&keeper, "trouble is reported", || keeper.status().health == Health::Troubled);
    assert_eq!(keeper.status().durable, before, "R66: nothing counts that the store has not confirmed");
    assert_eq!(keeper.status().syncs.failures, 0, "a put that fails is no sync's failure");
    mood.store(FINE, Ordering::SeqCst);
    let after = synced(&keeper);
    let slots = after.get() - before.map_or(0, Txid::get);
    assert!(slots <= 3, "R58: {slots} slots for one backlog");
    assert_eq!(keeper.status().health, Health::Good);
    let status = stopped(keeper);
    assert_eq!((status.breaks, status.images), (0, 1));
    rig.assert_restores();
}

/// Waits without asking for anything: a question would have a slot built.
#[allow(clippy::disallowed_methods, reason = "a test's deadline")]
fn watch<T>(keeper: &Keeper, what: &str, seen: impl Fn(&Status) -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + LONG;
    loop {
        let status = keeper.status();
        if let Some(seen) = seen(&status) {
            return seen;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: never seen, {status:?}");
        std::thread::yield_now();
    }
}

#[test]
fn the_oldest_change_that_the_replica_lacks_tells_since_when_it_is_behind() {
    let (mut rig, mood) = moody();
    rig.settings.sync_interval = Duration::from_secs(3600);
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    synced(&keeper);
    let has_all = |status: &Status| status.behind_since.is_none().then_some(());
    watch(&keeper, "nothing is missing", has_all);

    insert(&app, 1);
    let first = watch(&keeper, "a change that is in no slot counts", |status| status.behind_since);
    assert_eq!(keeper.status().built, keeper.status().durable);
    mood.store(DOWN, Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| synced(&keeper));
        let built = watch(&keeper, "a slot waits", |it| it.built.filter(|built| Some(*built) > it.durable));
        assert_eq!(keeper.status().behind_since, Some(first), "the slot is as old as its oldest change");
        insert(&app, 1);
        mood.store(FINE, Ordering::SeqCst);
        watch(&keeper, "the slot is durable", |it| (it.durable >= Some(built)).then_some(()));
        watch(&keeper, "the next one is younger", |it| (it.behind_since > Some(first)).then_some(()));
    });
    synced(&keeper);
    watch(&keeper, "nothing is missing", has_all);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn trouble_with_a_file_that_is_gone_for_good_has_passed() {
    let rig = Rig::new();
    insert(&rig.app(), 100);
    let keeper = rig.keep();
    let durable = synced(&keeper);
    for suffix in ["-wal", "-shm", ""] {
        std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix)).unwrap();
    }
    // What nobody can open as a database.
    std::fs::create_dir(rig.path()).unwrap();
    watch(&keeper, "trouble", |status| status.trouble.clone().and(status.behind_since));
    std::fs::remove_dir(rig.path()).unwrap();
    let has_all = |status: &Status| status.trouble.is_none() && status.behind_since.is_none();
    let status = watch(&keeper, "nothing is missing", |status| has_all(status).then(|| status.clone()));
    assert_eq!((status.built, status.durable), (Some(durable), Some(durable)));
}

#[test]
fn a_create_whose_answer_was_lost_is_found_to_be_ours() {
    let (rig, mood) = moody();
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    let mut last = synced(&keeper);
    for _ in 0..3 {
        insert(&app, 1);
        mood.store(LOSES_ANSWERS, Ordering::SeqCst);
        let next = synced(&keeper);
        assert!(next > last);
        last = next;
    }
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r55_a_stop_that_cannot_send_names_what_is_missing_and_the_next_start_sends_it() {
    for mood_now in [DOWN, THROTTLES] {
        let (rig, mood) = moody();
        let app = rig.app();
        insert(&app, 100);
        let keeper = rig.keep();
        let last = synced(&keeper);
        mood.store(mood_now, Ordering::SeqCst);
        insert(&app, 7);
        let error = keeper.stop(Duration::from_millis(300)).unwrap_err();
        let KeepError::Unsent { from, to, .. } = &*error else { panic!("{error}") };
        assert_eq!((*from, *to), (last.next(), last.next()), "{error}");
        mood.store(FINE, Ordering::SeqCst);
        let keeper = rig.keep();
        assert_eq!(synced(&keeper), last.next());
        stopped(keeper);
        rig.assert_restores();
    }
}

#[test]
fn r55_a_stop_waits_out_a_store_that_throttles_for_a_while() {
    let (rig, mood) = moody();
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    let last = synced(&keeper);
    mood.store(THROTTLES, Ordering::SeqCst);
    insert(&app, 7);
    wait_for(&keeper, "it was refused", || keeper.status().health == Health::Troubled);
    keeper.begin_stop(LONG);
    mood.store(FINE, Ordering::SeqCst);
    assert_eq!(keeper.stop(LONG).unwrap(), Some(last.next()));
    rig.assert_restores();
}

#[test]
fn r55_a_stop_ends_in_its_time_while_a_look_at_the_replica_is_under_way() {
    let (rig, mood, asked) = counted();
    insert(&rig.app(), 1);
    mood.store(SILENT, Ordering::SeqCst);
    let keeper = rig.keep();
    wait_for(&keeper, "a look is under way", || asked.load(Ordering::SeqCst) > 0);
    let began = SystemClock.boot();
    keeper.begin_stop(Duration::from_secs(2));
    // It is heard while that look is under way; the look fails then, and another one begins.
    let _ = keeper.sync(Duration::from_millis(200));
    mood.store(REFUSES_ONE, Ordering::SeqCst);
    let error = keeper.stop(Duration::from_secs(2)).unwrap_err();
    let took = SystemClock.boot() - began;
    mood.store(DOWN, Ordering::SeqCst);
    assert!(matches!(*error, KeepError::Uncaptured { .. }), "{error}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_stop_after_the_database_was_removed_says_that_and_waits_for_nothing() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    drop(app);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix));
    }
    let began = SystemClock.boot();
    let error = keeper.stop(LONG).unwrap_err();
    let took = SystemClock.boot() - began;
    assert!(matches!(&*error, KeepError::Gone { durable, .. } if *durable == Some(last)), "{error}");
    assert!(
        error.to_string().ends_with(&format!("after transaction {last} can't be read any more")),
        "{error}"
    );
    assert!(took < LONG / 2, "{took:?}");
}

/// A disk on which writing into the local state directory may fail for want of space: with 1 always, with more past
/// so many bytes of a file.
#[derive(Clone)]
struct Tight {
    full: Arc<AtomicU32>,
}

struct TightFile {
    inner: Arc<dyn File>,
    full: Arc<AtomicU32>,
}

impl File for TightFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let full = self.full.load(Ordering::SeqCst);
        if full == 1 || (full > 1 && offset + buf.len() as u64 > u64::from(full)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}

impl Files for Tight {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(TightFile { inner: RealFiles.open(path, how)?, full: Arc::clone(&self.full) }))
    }
    fn id(&self, path: &Path) -> io::Result<Option<FileId>> {
        RealFiles.id(path)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        RealFiles.len(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFiles.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.sync_dir(path)
    }
}

#[test]
fn r57_a_full_disk_pauses_replication_says_so_and_heals() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 100);
    let full = Arc::new(AtomicU32::new(0));
    let mut env = rig.env();
    env.files = Arc::new(Tight { full: Arc::clone(&full) });
    let keeper = Keeper::start(env, rig.settings.clone(), &rig.path()).unwrap();
    let last = synced(&keeper);
    assert_eq!(keeper.status().syncs.failures, 0);
    full.store(1, Ordering::SeqCst);
    for _ in 0..50 {
        insert(&app, 20);
    }
    wait_for(&keeper, "the full disk is reported", || keeper.status().health == Health::Troubled);
    let trouble = keeper.status().trouble.unwrap().to_string();
    assert!(trouble.contains(".app.db-litekeep"), "{trouble}");
    let syncs = keeper.status().syncs;
    assert!(syncs.failures >= 1 && syncs.count > syncs.failures, "{syncs:?}");
    insert(&app, 20);
    full.store(0, Ordering::SeqCst);
    assert!(synced(&keeper) > last);
    let status = stopped(keeper);
    assert_eq!(status.images, 1, "the difference was shipped, not the whole");
    rig.assert_restores();
}

#[test]
fn r57_a_large_image_that_the_disk_has_no_room_for_goes_up_as_a_stream() {
    const ROOM: u32 = 200_000;
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    for _ in 0..70 {
        app.execute("INSERT INTO t (v) VALUES (zeroblob(1048576))", []).unwrap();
    }
    let mut env = rig.env();
    env.files = Arc::new(Tight { full: Arc::new(AtomicU32::new(ROOM)) });
    let keeper = Keeper::start(env, rig.settings.clone(), &rig.path()).unwrap();
    synced(&keeper);
    assert!(rig.objects(Scope::Level(Level::SLOTS))[0].size < 200, "the slot has no page");
    assert!(rig.objects(Scope::Level(Level::SNAPSHOTS))[0].size > 100_000, "its content is in level 9");
    insert(&app, 1);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn the_local_directory_holds_only_the_tail() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 1000);
    let keeper = rig.keep();
    let mut last = synced(&keeper);
    for _ in 0..60 {
        insert(&app, 10);
        let next = synced(&keeper);
        assert_eq!(next, last.next());
        last = next;
    }
    let slots = || {
        std::fs::read_dir(rig.meta())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with("slot-"))
            .count()
    };
    assert!(slots() <= litekeep_core::limits::UNFLUSHED_SLOTS + 1, "{}", slots());
    stopped(keeper);
    assert_eq!(slots(), 0);
    let all: Vec<String> =
        rig.objects(Scope::Level(Level::SLOTS)).iter().map(|e| e.key.to_string()).collect();
    assert!(all.len() as u64 > Txid::FIRST.get() + 59, "{} {all:?}", all.len());
}

#[test]
fn r07_r08_an_image_that_goes_up_slowly_is_one_state_whatever_is_written_and_checkpointed_meanwhile() {
    let rig = Rig::new();
    let path = rig.path();
    let left = AtomicU32::new(8);
    let busy = move || {
        // Each round is itself too large for a slot: it must end some time.
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return;
        }
        let app = crate::rig::app(&path);
        for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
            app.execute_batch(
                "UPDATE t SET v = randomblob(100) WHERE id % 10 = abs(random()) % 10; PRAGMA busy_timeout=5",
            )
            .unwrap();
            app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
            app.busy_timeout(Duration::from_secs(10)).unwrap();
        }
        insert(&app, 100);
    };
    insert(&rig.app(), 60_000);
    let mood = Arc::new(AtomicU32::new(FINE));
    let (inner, asked) = (Arc::clone(&rig.store), Arc::default());
    let store = Arc::new(Moody { inner, mood, asked, meanwhile: Arc::new(busy) });
    let mut rig = Rig { store, ..rig };
    rig.settings.max_slot_bytes = 1 << 20;
    let keeper = rig.keep();
    synced(&keeper);
    // The snapshot alone, as it was made.
    let (restored, at) = rig.restored();
    assert!(at.txid().is_some());
    let check: String = rusqlite::Connection::open(restored)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn slots_that_were_built_behind_a_stream_that_fails_leave_no_hole_in_the_numbers() {
    what_is_built_behind_a_stream_and(DOWN);
}

#[test]
fn an_image_that_is_there_is_confirmed_with_what_it_stated_when_the_slot_behind_it_is_refused() {
    let rig = what_is_built_behind_a_stream_and(NARROW);
    let store = &*rig.store;
    let header = |n| {
        let key = Key::Ltx(Level::SLOTS, TxidRange::single(Txid::new(n).unwrap()));
        Header::parse(&store.read(&key, Some(0..Header::LEN as u64)).unwrap().bytes).unwrap()
    };
    let (announced, confirmed) = (header(1), header(2));
    let of = |header: &Header| (header.commit, header.seal().and_then(|seal| seal.database));
    assert!(of(&announced).1.is_some());
    assert_eq!(of(&confirmed), of(&announced));
}

/// Slots wait behind an image that goes up as a stream, and then the store is like this.
fn what_is_built_behind_a_stream_and(trouble: u32) -> Rig {
    let rig = Rig::new();
    let fill = |app: &rusqlite::Connection, mebibytes: u32| {
        for _ in 0..mebibytes {
            app.execute("INSERT INTO t (v) VALUES (randomblob(1048576))", []).unwrap();
        }
    };
    let first = rig.app();
    insert(&first, 1);
    fill(&first, 60);
    drop(first);
    let (mood, goes_on) = (Arc::new(AtomicU32::new(FINE)), Arc::new(AtomicU32::new(0)));
    let may = Arc::clone(&goes_on);
    let wait = move || {
        while may.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    };
    let (inner, asked) = (Arc::clone(&rig.store), Arc::default());
    let store = Arc::new(Moody { inner, mood: Arc::clone(&mood), asked, meanwhile: Arc::new(wait) });
    let mut rig = Rig { store, ..rig };
    // What is captured at once is a slot; what the database holds is not.
    rig.settings.max_slot_bytes = 110 << 20;
    let app = rig.app();
    let keeper = rig.keep();
    wait_for(&keeper, "the image is announced", || keeper.status().slots == 1);
    // More than is kept pending: it is built behind the announcement.
    fill(&app, 70);
    wait_for(&keeper, "slots are built behind it", || keeper.status().built > Some(Txid::FIRST));
    mood.store(trouble, Ordering::SeqCst);
    goes_on.store(1, Ordering::SeqCst);
    wait_for(&keeper, "the stream or the slot has failed", || keeper.status().health == Health::Troubled);
    mood.store(FINE, Ordering::SeqCst);
    let last = synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
    let names: Vec<u64> = rig
        .objects(Scope::Level(Level::SLOTS))
        .iter()
        .filter_map(|entry| match entry.key {
            Key::Ltx(_, range) => Some(range.max().get()),
            _ => None,
        })
        .collect();
    assert_eq!(names, (1..=last.get()).collect::<Vec<_>>());
    rig
}

#[test]
fn a_slot_that_is_refused_as_too_large_may_be_there_by_a_put_whose_answer_was_lost() {
    let (rig, mood) = moody();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    mood.store(LOSES_AND_NARROWS, Ordering::SeqCst);
    app.execute("INSERT INTO t (v) VALUES (randomblob(3000000))", []).unwrap();
    assert_eq!(synced(&keeper), last.next(), "no image was needed");
    insert(&app, 1);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn an_image_that_waits_for_a_store_which_is_down_does_not_keep_the_wal() {
    let (mut rig, mood) = moody();
    rig.settings.max_slot_bytes = 1 << 20;
    rig.settings.min_checkpoint_pages = 100;
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    mood.store(DOWN, Ordering::SeqCst);
    insert(&app, 20_000);
    wait_for(&keeper, "the image's put has failed", || {
        keeper.status().built > Some(last) && keeper.status().health == Health::Troubled
    });
    // An application that checkpoints by itself: each round is about 2.5 MB of WAL. Some other request may have failed
    // first; once the image's own has, the WAL starts again and again.
    let wal = || std::fs::metadata(rig.dir.path().join("app.db-wal")).unwrap().len();
    wait_for(&keeper, "the WAL grows no more", || {
        let before = wal();
        for _ in 0..10 {
            app.execute_batch("UPDATE t SET v = randomblob(100)").unwrap();
        }
        wal() == before
    });
    // And one that leaves that to the engine.
    app.execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE t SET v = randomblob(100)").unwrap();
    wait_for(&keeper, "the engine back-fills", || {
        let left = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (log, done) = app.query_row("PRAGMA wal_checkpoint(NOOP)", [], left).unwrap();
        log == done
    });
    assert_eq!(keeper.status().durable, Some(last));
    mood.store(FINE, Ordering::SeqCst);
    assert!(synced(&keeper) > last);
    insert(&app, 1);
    synced(&keeper);
    assert_eq!(keeper.status().health, Health::Good);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r55_a_stop_while_an_image_waits_for_the_store_says_what_is_missing_and_the_next_start_ships_it() {
    let (mut rig, mood) = moody();
    rig.settings.max_slot_bytes = 100_000;
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    mood.store(DOWN, Ordering::SeqCst);
    insert(&app, 5000);
    wait_for(&keeper, "the image's put has failed", || {
        keeper.status().built > Some(last) && keeper.status().health == Health::Troubled
    });
    let error = keeper.stop(Duration::from_millis(300)).unwrap_err();
    assert!(matches!(*error, KeepError::Uncaptured { .. }), "{error}");
    mood.store(FINE, Ordering::SeqCst);
    let keeper = rig.keep();
    assert!(synced(&keeper) > last);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn an_image_whose_stream_died_with_the_process_is_never_taken_for_stored() {
    let (mut rig, mood) = moody();
    rig.settings.max_slot_bytes = 100_000;
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    mood.store(DOWN, Ordering::SeqCst);
    insert(&app, 5000);
    wait_for(&keeper, "the image's slot is built", || keeper.status().built > Some(last));
    drop(keeper);
    mood.store(FINE, Ordering::SeqCst);
    let keeper = rig.keep();
    synced(&keeper);
    rig.assert_restores();
    insert(&app, 1);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn a_staged_slot_that_is_gone_or_damaged_leaves_no_hole_in_the_chain() {
    for damage in [false, true] {
        let (rig, mood) = moody();
        let app = rig.app();
        insert(&app, 10);
        let keeper = rig.keep();
        let last = synced(&keeper);
        mood.store(DOWN, Ordering::SeqCst);
        insert(&app, 50);
        wait_for(&keeper, "a slot is staged", || keeper.status().built > Some(last));
        drop(keeper);
        let slot = rig.meta().join(format!("slot-{}", last.next()));
        if damage {
            let mut bytes = std::fs::read(&slot).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&slot, bytes).unwrap();
        } else {
            std::fs::remove_file(&slot).unwrap();
        }
        insert(&app, 1);
        // Once this one has the database the former one's last put is over.
        let keeper = rig.keep();
        mood.store(FINE, Ordering::SeqCst);
        synced(&keeper);
        rig.assert_restores();
        insert(&app, 1);
        synced(&keeper);
        stopped(keeper);
        rig.assert_restores();
    }
}

#[test]
fn a_staged_slot_that_is_cut_while_it_waits_never_counts() {
    let (rig, mood) = moody();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    mood.store(DOWN, Ordering::SeqCst);
    insert(&app, 50);
    wait_for(&keeper, "a slot is staged and refused", || {
        keeper.status().built > Some(last) && keeper.status().health == Health::Troubled
    });
    let slot = rig.meta().join(format!("slot-{}", last.next()));
    let slot = std::fs::OpenOptions::new().write(true).open(slot).unwrap();
    slot.set_len(slot.metadata().unwrap().len() - 1).unwrap();
    mood.store(FINE, Ordering::SeqCst);
    synced(&keeper);
    rig.assert_restores();
    stopped(keeper);
}

#[test]
fn a_slot_that_something_on_the_way_finds_too_large_goes_up_as_an_image_in_parts() {
    let (rig, mood) = moody();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    mood.store(NARROW, Ordering::SeqCst);
    for _ in 0..2 {
        insert(&app, 20_000);
        assert!(synced(&keeper) > last);
        rig.assert_restores();
    }
    insert(&app, 1);
    synced(&keeper);
    assert_eq!(keeper.status().health, Health::Good);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r12_a_foreign_truncate_and_every_writer_get_through_while_the_store_is_down() {
    let (mut rig, mood) = moody();
    rig.settings.max_slot_bytes = 1 << 20;
    rig.settings.min_checkpoint_pages = 1;
    let writer = rig.app();
    insert(&writer, 10);
    let keeper = rig.keep();
    synced(&keeper);
    mood.store(DOWN, Ordering::SeqCst);
    insert(&writer, 20_000);
    wait_for(&keeper, "the engine asks whether the store is back", || {
        keeper.status().trouble.is_some_and(|trouble| trouble.to_string().contains("head moody"))
    });
    // A reader that stays keeps every back-fill from being done, and is none of ours.
    let reader = rig.app();
    reader.execute_batch("BEGIN").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    for n in 0..300 {
        keeper.poke();
        // busy_timeout is 10 s: an error here means that a writer starved.
        writer.execute("UPDATE t SET v = randomblob(100) WHERE id = ?1", [n]).unwrap();
    }
    reader.execute_batch("COMMIT").unwrap();
    // SQLite waits for readers and writers, but not for another checkpoint: one of ours may be in the way at that moment.
    let begun = SystemClock.boot();
    while writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).unwrap() != 0 {
        assert!(SystemClock.boot() - begun < LONG, "no foreign checkpoint got through");
    }
    mood.store(FINE, Ordering::SeqCst);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}
