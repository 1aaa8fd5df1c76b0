//! What a follower hands over to a replicator: the file as it is, and nothing left to compare. How many questions it
//! takes to come to the tip, and how many of them are under way at a time.

use super::{Followed, Follower, Manner};
use crate::clock::{SystemClock, SystemRandom};
use crate::files::{Files, RealFiles};
use crate::jobs::Threads;
use crate::keeper::Keeper;
use crate::local::{directory, record_restored};
use crate::replicator::Env;
use crate::restore::forge::Meddler;
use crate::restore::{Options, Outcome, RestoreEnv, restore};
use crate::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_formats::ltx::{Decoder, Header};
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};
use litekeep_store::memory::MemoryStore;
use litekeep_store::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Source, Store, StoreError, Upload,
};
use rusqlite::Connection;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn env(store: &Arc<dyn Store>) -> Env {
    Env {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::default()),
        files: Arc::new(RealFiles),
        vfs: None,
        store: Arc::clone(store),
        spawner: Arc::new(Threads),
        decisions: Decisions::RIGHT,
    }
}

fn restored(store: &Arc<dyn Store>, to: &Path) {
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let env = RestoreEnv { store: Arc::clone(store), files: Arc::clone(&files), clock, vfs: None };
    let options = Options { state_dir: Some(directory(to, None)), ..Options::new(to) };
    let Ok(Outcome::Restored(restored)) = restore(&env, &options, &mut |_| {}) else {
        panic!("not restored");
    };
    let record = restored.record(store.location()).expect("a chain");
    record_restored(&files, to, None, &record).expect("recorded");
}

fn slot(store: &Arc<dyn Store>, txid: Txid) -> (Header, usize) {
    let chunk = store.read(&Key::Ltx(Level::SLOTS, TxidRange::single(txid)), None).expect("it is there");
    let mut decoder = Decoder::new(&chunk.bytes[..]).expect("a slot");
    let header = *decoder.header();
    let mut page = vec![0; header.page_size.bytes()];
    let pages = std::iter::from_fn(|| decoder.next_page(&mut page).expect("whole")).count();
    (header, pages)
}

/// The owner changes sides again and again; whoever takes over builds on the last slot, from the frame where the
/// follower ended, and ships only what the application writes.
#[test]
fn what_is_handed_over_is_gone_on_with_and_nothing_is_compared_or_shipped_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock));
    let settings = Settings { sync_interval: Duration::from_millis(5), ..Settings::default() };
    let paths = [dir.path().join("a.db"), dir.path().join("b.db")];
    let connect = |path: &Path| {
        let app = Connection::open(path).expect("opened");
        app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0").expect("in WAL mode");
        app
    };
    let mut apps = vec![connect(&paths[0])];
    apps[0].execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, v)").expect("made");
    let mut keeper = Keeper::start(env(&store), settings.clone(), &paths[0]).expect("started");
    keeper.sync(LONG).expect("synced");
    restored(&store, &paths[1]);
    apps.push(connect(&paths[1]));
    for turn in 0..4 {
        let (owner, other) = (turn % 2, (turn + 1) % 2);
        let manner = Manner { parallelism: 1, ..Manner::default() };
        let mut follower = Follower::open(env(&store), &settings, manner, &paths[other]).expect("opened");
        // What the other one wrote as it took over.
        let missed = usize::from(turn > 0);
        for _ in 0..missed {
            let step = follower.step().expect("a step");
            assert!(matches!(step, Followed::Applied(_)), "turn {turn}: {step:?}");
        }
        assert_eq!(follower.step().expect("a step"), Followed::AtTip, "turn {turn}");
        for _ in 0..2 {
            apps[owner]
                .execute_batch("INSERT INTO t (v) SELECT randomblob(900) FROM (VALUES (1), (2), (3))")
                .expect("written");
            let newest = keeper.sync(LONG).expect("synced").expect("something");
            assert_eq!(follower.step().expect("a step"), Followed::Applied(newest), "turn {turn}");
            assert!(follower.seen.is_some(), "our own commit is no reason to read the file again");
        }
        let newest = keeper.stop(LONG).expect("stopped").expect("something");
        drop(follower.into_local().expect("handed over"));
        keeper = Keeper::start(env(&store), settings.clone(), &paths[other]).expect("started");
        assert_eq!(keeper.sync(LONG).expect("synced"), Some(newest), "turn {turn}: nothing went up");
        apps[other].execute_batch("INSERT INTO t (v) VALUES (1)").expect("written");
        let txid = keeper.sync(LONG).expect("synced").expect("something");
        assert_eq!(txid, newest.next());
        let (header, pages) = slot(&store, txid);
        assert!(pages < 4, "turn {turn}: {pages} pages");
        let sealed = header.seal().and_then(|seal| seal.database);
        assert!(sealed.is_some(), "turn {turn}: the checksums of all pages were handed over");
    }
}

/// An owner that sleeps with a staged slot may find its number compacted and deleted when it wakes, and nothing tells
/// whether that was its own slot or another's.
#[test]
fn a_slot_that_may_still_be_staged_is_not_taken_for_the_chains() {
    let dir = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let paths = [dir.path().join("a.db"), dir.path().join("b.db")];
    let write = |path: &Path| {
        let app = Connection::open(path).expect("opened");
        app.execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t (v); INSERT INTO t VALUES (1)",
        )
        .expect("written");
        let keeper = Keeper::start(env(&store), Settings::default(), path).expect("started");
        let newest = keeper.sync(LONG).expect("synced").expect("something");
        keeper.stop(LONG).expect("stopped");
        newest
    };
    let ours = write(&paths[0]);
    restored(&store, &paths[1]);
    assert!(write(&paths[1]) > ours, "another one goes on");
    store.delete(&[Key::Ltx(Level::SLOTS, TxidRange::single(ours))]).expect("deleted");
    let meets = || {
        let mut follower =
            Follower::open(env(&store), &Settings::default(), Manner::default(), &paths[0]).expect("opened");
        assert!(follower.find_place().expect("looked at"));
        follower.meet().expect("asked")
    };
    assert!(meets(), "nothing is staged: it was confirmed");
    let meta = directory(&paths[0], None);
    std::fs::write(meta.join(format!("slot-{ours}")), b"its bytes").expect("staged");
    assert!(meets(), "its put was answered");
    std::fs::remove_file(meta.join("held")).expect("no answer was heard");
    assert!(!meets());
}

#[test]
fn r60_an_image_that_the_listing_shows_without_its_announcement_is_no_state_to_jump_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let memory = MemoryStore::new(Arc::new(SystemClock));
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    let settings = Settings { max_slot_bytes: 100_000, ..Settings::default() };
    let (live, copy) = (dir.path().join("live.db"), dir.path().join("copy.db"));
    let app = Connection::open(&live).expect("opened");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (v)").expect("made");
    let keeper = Keeper::start(env(&store), settings.clone(), &live).expect("started");
    let from = keeper.sync(LONG).expect("synced").expect("a slot");
    restored(&store, &copy);
    app.execute_batch("INSERT INTO t VALUES (randomblob(300000))").expect("written");
    let counts = keeper.sync(LONG).expect("synced").expect("a slot");
    keeper.stop(LONG).expect("stopped");
    let slot = |txid| Key::Ltx(Level::SLOTS, TxidRange::single(txid));
    assert_eq!(counts, from.next().next(), "the announcement, and what says that the image is there");
    store.delete(&[slot(counts)]).expect("deleted");
    for unlisted in [vec![slot(from.next())], vec![slot(from.next()), slot(from)]] {
        let lags: Arc<dyn Store> = Arc::new(Meddler::new(memory.clone()).without(unlisted.clone()));
        let mut follower = Follower::open(env(&lags), &settings, Manner::default(), &copy).expect("opened");
        for _ in 0..3 {
            assert_eq!(follower.step().expect("a step"), Followed::AtTip, "without {unlisted:?}");
        }
    }
}

/// A clock that moves when told.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn wall(&self) -> TimestampMs {
        TimestampMs(1_800_000_000_000)
    }
    fn boot(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
    fn sleep(&self, _: Duration) {}
}

/// What is told of a name instead of what is there.
#[derive(Debug, Clone, Copy)]
enum Lie {
    Missing,
    Fails,
    Torn,
}

/// A distant store: no question about a slot is answered before all of its wave are there. Each wave takes a second.
pub(crate) struct Waves {
    inner: MemoryStore,
    clock: Arc<Hand>,
    state: Mutex<Wave>,
    changed: Condvar,
}

#[derive(Default)]
struct Wave {
    /// How many questions make up the waves that are to come.
    expected: VecDeque<usize>,
    /// How many of this one are there, and how many waves are over.
    here: usize,
    over: u64,
    /// No wave is answered.
    held: bool,
    /// How often something else is told of a slot.
    lies: BTreeMap<Txid, (Lie, u32)>,
}

impl Waves {
    fn new() -> Arc<Self> {
        let clock = Arc::new(Hand(AtomicU64::new(1000)));
        let inner = MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
        Arc::new(Self { inner, clock, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The waves that are to come; `held`: not answered before [`Waves::release`].
    pub(crate) fn expect(&self, waves: &[usize], held: bool) {
        let mut state = self.state.lock().unwrap();
        state.expected = waves.iter().copied().collect();
        state.held = held;
    }

    /// Lets this wave be answered; `held`: and not the next one.
    pub(crate) fn release(&self, held: bool) {
        let mut state = self.state.lock().unwrap();
        state.held = false;
        self.answer(&mut state);
        state.held = held;
    }

    /// More waves, after those that are to come.
    pub(crate) fn expect_then(&self, waves: &[usize]) {
        self.state.lock().unwrap().expected.extend(waves);
    }

    /// Waits until all of a wave are there, and not answered.
    pub(crate) fn until_held(&self) {
        let waits = |state: &mut Wave| Some(&state.here) != state.expected.front();
        let waited = self.changed.wait_timeout_while(self.state.lock().unwrap(), LONG, waits).unwrap();
        assert!(!waited.1.timed_out(), "the wave did not come");
    }

    /// The waves that did not come.
    pub(crate) fn left(&self) -> Vec<usize> {
        self.state.lock().unwrap().expected.iter().copied().collect()
    }

    fn answer(&self, state: &mut Wave) {
        if !state.held && state.expected.front() == Some(&state.here) {
            state.expected.pop_front();
            (state.here, state.over) = (0, state.over + 1);
            self.clock.0.fetch_add(1, Ordering::SeqCst);
        }
        self.changed.notify_all();
    }

    /// Waits until the wave that this question belongs to is complete; what is told instead.
    fn gather(&self, txid: Txid) -> Option<Lie> {
        let mut state = self.state.lock().unwrap();
        let Some(&width) = state.expected.front() else {
            panic!("asked for {txid}, and nothing was expected")
        };
        let over = state.over;
        state.here += 1;
        assert!(state.here <= width, "more than {width} questions at once");
        self.answer(&mut state);
        let waits = |state: &mut Wave| state.over == over;
        let (mut state, waited) = self.changed.wait_timeout_while(state, LONG, waits).unwrap();
        assert!(!waited.timed_out(), "{} of {width} questions came at once", state.here);
        state.lies.get_mut(&txid).filter(|(_, times)| *times > 0).map(|(lie, times)| {
            *times -= 1;
            *lie
        })
    }
}

impl Store for Waves {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        self.inner.list(scope)
    }
    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.inner.head(key)
    }
    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        let front = range == Some(0..crate::restore::CHUNK_BYTES);
        // As it is when it is asked, however long the answer takes.
        let answer = self.inner.read(key, range);
        let lie = match key {
            Key::Ltx(Level::SLOTS, txid) if front => self.gather(TxidRange::max(*txid)),
            _ => None,
        };
        let told = |kind| Err(StoreError::new(kind, "read", "waves", Failure::Text("told so".into())));
        match lie {
            None => answer,
            Some(Lie::Missing) => told(ErrorKind::NotFound),
            Some(Lie::Fails) => told(ErrorKind::Retry),
            Some(Lie::Torn) => answer.map(|chunk| {
                let mut bytes = chunk.bytes.to_vec();
                bytes[100] ^= 1;
                Chunk { bytes: bytes.into(), ..chunk }
            }),
        }
    }
    fn create(&self, key: &Key, body: bytes::Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        self.inner.create(key, body, timestamp)
    }
    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        self.inner.create_from(key, source, timestamp)
    }
    fn put(&self, key: &Key, body: bytes::Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        self.inner.put(key, body, timestamp)
    }
    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        self.inner.upload(key, timestamp)
    }
    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
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

/// A chain that goes on, and a copy that was restored from it.
pub(crate) struct Chain {
    pub(crate) waves: Arc<Waves>,
    pub(crate) settings: Settings,
    pub(crate) copy: PathBuf,
    writer: Connection,
    keeper: Keeper,
    _dir: tempfile::TempDir,
}

impl Chain {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let waves = Waves::new();
        // The owner and the restore do not ask in waves.
        let straight: Arc<dyn Store> = Arc::new(waves.inner.clone());
        let settings = Settings { sync_interval: Duration::from_millis(5), ..Settings::default() };
        let (path, copy) = (dir.path().join("a.db"), dir.path().join("b.db"));
        let writer = Connection::open(&path).expect("opened");
        writer
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
                 CREATE TABLE t (id INTEGER PRIMARY KEY, v)",
            )
            .expect("made");
        let keeper = Keeper::start(env(&straight), settings.clone(), &path).expect("started");
        keeper.sync(LONG).expect("synced");
        restored(&straight, &copy);
        Self { waves, settings, copy, writer, keeper, _dir: dir }
    }

    /// What the copy's engine runs on.
    pub(crate) fn env(&self) -> Env {
        let asked: Arc<dyn Store> = Arc::clone(&self.waves) as _;
        Env { clock: Arc::clone(&self.waves.clock) as _, ..env(&asked) }
    }

    /// So many slots that the copy lacks.
    pub(crate) fn go_on(&self, slots: u32) -> Vec<Result<Followed, ErrorKind>> {
        let written = (0..slots).map(|_| {
            self.writer.execute_batch("INSERT INTO t (v) VALUES (randomblob(100))").expect("written");
            Ok(Followed::Applied(self.keeper.sync(LONG).expect("synced").expect("something")))
        });
        written.collect()
    }

    fn rows(&self) -> i64 {
        let connection = Connection::open(&self.copy).expect("opened");
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("counted")
    }
}

/// A copy that is behind.
struct Behind {
    follower: Follower,
    chain: Chain,
}

impl Behind {
    fn new(parallelism: usize) -> Self {
        let chain = Chain::new();
        let manner = Manner { parallelism, ..Manner::default() };
        let follower = Follower::open(chain.env(), &chain.settings, manner, &chain.copy).expect("opened");
        let mut behind = Self { follower, chain };
        assert_eq!(behind.steps(&[1]), [Ok(Followed::AtTip)], "just restored");
        behind
    }

    /// Steps to the tip or a failure, asking in these waves.
    fn steps(&mut self, waves: &[usize]) -> Vec<Result<Followed, ErrorKind>> {
        self.chain.waves.expect(waves, false);
        let (mut steps, mut looks) = (Vec::new(), 0);
        while !matches!(steps.last(), Some(Ok(Followed::AtTip) | Err(_))) {
            looks += usize::from(self.follower.will_look());
            steps.push(self.follower.step().map_err(|error| match error {
                crate::error::KeepError::Store(error) => error.kind(),
                error => panic!("{error}"),
            }));
        }
        let left = self.chain.waves.left();
        assert!(left.is_empty(), "not asked: {left:?} of {waves:?}");
        assert!(looks <= waves.len(), "{looks} steps said that they would look, in {waves:?}");
        steps
    }
}

#[test]
fn who_is_behind_asks_for_more_and_more_names_at_once_and_for_one_at_the_tip() {
    for (slots, parallelism, waves) in [
        (0, 8, &[1][..]),
        (1, 8, &[1, 2]),
        (2, 8, &[1, 2]),
        (3, 8, &[1, 2, 4]),
        (20, 8, &[1, 2, 4, 8, 8]),
        (20, 64, &[1, 2, 4, 8, 8]),
        (4, 3, &[1, 2, 3]),
        (4, 1, &[1, 1, 1, 1, 1]),
    ] {
        let told = format!("{slots} behind, {parallelism} at a time");
        let mut behind = Behind::new(parallelism);
        let mut expected = behind.chain.go_on(slots);
        let begun = behind.chain.waves.clock.boot();
        expected.push(Ok(Followed::AtTip));
        assert_eq!(behind.steps(waves), expected, "{told}");
        let last = Duration::from_secs(waves.len() as u64 - 1);
        assert_eq!(behind.follower.looked_at(), Some(begun + last), "{told}: when the last wave was sent");
        assert_eq!(behind.chain.rows(), i64::from(slots), "{told}");
        assert_eq!(behind.steps(&[1]), [Ok(Followed::AtTip)], "{told}: idle again");
    }
}

/// Seven behind; of one name something else is told. The third wave asks for the fourth to the seventh.
#[test]
fn nothing_behind_a_missing_slot_counts_and_what_lies_before_it_is_kept() {
    for (name, of, lie, times, waves, reached, then, again) in [
        ("a hole", 5, Lie::Missing, 2, &[1, 2, 4, 1][..], 4, Ok(Followed::AtTip), &[1, 2, 4][..]),
        ("it comes between", 5, Lie::Missing, 1, &[1, 2, 4, 1, 2, 4], 7, Ok(Followed::AtTip), &[1]),
        ("the first of a wave does", 4, Lie::Missing, 1, &[1, 2, 4, 1, 2, 4], 7, Ok(Followed::AtTip), &[1]),
        ("no answer", 5, Lie::Fails, 2, &[1, 2, 4, 1], 4, Err(ErrorKind::Retry), &[1, 2, 4]),
        ("no answer, once", 5, Lie::Fails, 1, &[1, 2, 4, 1, 2, 4], 7, Ok(Followed::AtTip), &[1]),
        ("torn", 5, Lie::Torn, 1, &[1, 2, 4], 4, Err(ErrorKind::DataDamaged), &[1, 2, 4]),
        ("no answer of the first", 4, Lie::Fails, 1, &[1, 2, 4], 3, Err(ErrorKind::Retry), &[1, 2, 4]),
    ] {
        let mut behind = Behind::new(8);
        let slots = behind.chain.go_on(7);
        let Ok(Followed::Applied(told_wrong)) = slots[of - 1] else { panic!("{slots:?}") };
        behind.chain.waves.state.lock().unwrap().lies.insert(told_wrong, (lie, times));
        let expected: Vec<_> = slots[..reached].iter().copied().chain([then]).collect();
        assert_eq!(behind.steps(waves), expected, "{name}");
        let expected: Vec<_> = slots[reached..].iter().copied().chain([Ok(Followed::AtTip)]).collect();
        assert_eq!(behind.steps(again), expected, "{name}: and then");
        assert_eq!(behind.chain.rows(), 7, "{name}");
    }
}
