//! What a database costs that nobody writes to, and clocks that go wrong.

use crate::rig::{Rig, insert, stopped, synced};
use bytes::Bytes;
use litekeep::clock::SystemClock;
use litekeep::replicator::{Replicator, Work};
use litekeep_core::env::Clock;
use litekeep_core::limits::IDLE_LOOK;
use litekeep_formats::{Level, TimestampMs};
use litekeep_store::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Scope, Source, Store, StoreError, Upload,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A clock that only moves when the replicator waits.
#[derive(Default)]
pub(crate) struct Jumping {
    micros: AtomicI64,
}

impl Jumping {
    pub(crate) fn pass(&self, time: Duration) {
        self.micros.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Jumping {
    fn wall(&self) -> TimestampMs {
        TimestampMs(1_800_000_000_000 + self.micros.load(Ordering::SeqCst) / 1000)
    }
    fn boot(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.micros.load(Ordering::SeqCst)).unwrap())
    }
    fn sleep(&self, time: Duration) {
        self.pass(time);
    }
}

/// Runs each job at once, on the caller's thread. Its report is there then, and the replicator is not left waiting for it.
#[derive(Clone, Default)]
pub(crate) struct AtOnce {
    pub(crate) ran: Arc<AtomicBool>,
}

impl litekeep::jobs::Spawner for AtOnce {
    fn spawn(&self, _name: &str, job: litekeep::jobs::Job) {
        job();
        self.ran.store(true, Ordering::SeqCst);
    }
}

/// A store that counts requests as a bucket would: a listing is one for each thousand objects.
struct Counting {
    inner: Arc<dyn Store>,
    /// It cannot create only.
    refuses: bool,
    asked: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counting {
    fn note(&self, verb: &'static str, requests: usize) {
        *self.asked.lock().unwrap().entry(verb).or_default() += requests as u64;
    }

    fn take(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Store for Counting {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        let entries = self.inner.list(scope)?;
        self.note("list", entries.len().div_ceil(1000).max(1));
        Ok(entries)
    }
    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.note("head", 1);
        self.inner.head(key)
    }
    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        self.note("get", 1);
        self.inner.read(key, range)
    }
    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        self.note("put", 1);
        if self.refuses {
            let what = Failure::Text("no create-only put".to_owned());
            return Err(StoreError::new(ErrorKind::Unsupported, "create", "it", what));
        }
        self.inner.create(key, body, timestamp)
    }
    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        self.note("put", 1);
        self.inner.create_from(key, source, timestamp)
    }
    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        self.note("put", 1);
        self.inner.put(key, body, timestamp)
    }
    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        self.note("put", 1);
        self.inner.upload(key, timestamp)
    }
    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.note("delete", keys.len());
        self.inner.delete(keys)
    }
    fn server_time(&self) -> Option<TimestampMs> {
        self.inner.server_time()
    }
    fn limits(&self) -> litekeep_store::Limits {
        self.inner.limits()
    }
    fn location(&self) -> String {
        self.inner.location()
    }
}

/// A replicator whose time only passes while it waits.
struct Simulated {
    clock: Arc<Jumping>,
    jobs: AtOnce,
    store: Arc<Counting>,
    rig: Rig,
    replicator: Replicator,
}

impl Simulated {
    fn begin(refuses: bool) -> Self {
        let clock = Arc::new(Jumping::default());
        let inner = Arc::new(litekeep_store::memory::MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let store = Arc::new(Counting { inner, refuses, asked: Mutex::default() });
        let rig = Rig::on(Arc::clone(&store) as Arc<dyn Store>);
        insert(&rig.app(), 100);
        let jobs = AtOnce::default();
        let mut env = rig.env();
        env.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        env.spawner = Arc::new(jobs.clone());
        let replicator = Replicator::open(env, rig.settings.clone(), &rig.path()).unwrap();
        Self { clock, jobs, store, rig, replicator }
    }

    /// Lets time pass; returns how often it woke up.
    fn run(&mut self, time: Duration) -> u32 {
        let (end, mut steps) = (self.clock.boot() + time, 0u32);
        while self.clock.boot() < end {
            let wait = self.replicator.step().wait;
            let wait = if self.jobs.ran.swap(false, Ordering::SeqCst) { Duration::ZERO } else { wait };
            let left = end.saturating_sub(self.clock.boot()).max(Duration::from_micros(1));
            self.clock.pass(wait.clamp(Duration::from_micros(1), IDLE_LOOK).min(left));
            steps += 1;
        }
        steps
    }

    fn syncs(&self) -> Work {
        self.replicator.status().syncs
    }

    /// One write every so often, for so long.
    fn write(&mut self, every: Duration, time: Duration) {
        let app = self.rig.app();
        let end = self.clock.boot() + time;
        while self.clock.boot() < end {
            insert(&app, 1);
            self.replicator.poker()();
            self.run(every);
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Requests of a day, from one hour.
fn a_day(hour: &BTreeMap<&'static str, u64>, verb: &str) -> u64 {
    hour.get(verb).copied().unwrap_or(0) * 24
}

#[test]
fn r62_a_day_of_a_quiet_database_stays_below_a_free_tier() {
    // Backblaze's free tier has 2,500 listings a day, for all that is in the account. It cannot create only, so nobody
    // owns there, and no slot needs a proof; elsewhere a slot that comes a minute after the one before needs one.
    for (refuses, listings) in [(true, 300), (false, 1800)] {
        let mut simulated = Simulated::begin(refuses);
        simulated.run(HOUR);
        simulated.store.take();
        simulated.run(HOUR);
        assert_eq!(simulated.store.take(), BTreeMap::new(), "an idle hour asks nothing");
        simulated.write(MINUTE, HOUR);
        simulated.store.take();
        simulated.write(MINUTE, HOUR);
        let hour = simulated.store.take();
        println!("a write a minute, an hour: {hour:?}");
        assert!(a_day(&hour, "list") <= listings, "{hour:?}");
        // A slot, its part of level 1, and what goes on above them; what is refused to be created is put.
        assert!(a_day(&hour, "put") <= if refuses { 5000 } else { 3300 }, "{hour:?}");
        assert!(hour["delete"] >= 55, "retention keeps up: {hour:?}");
        assert!(hour["get"] + hour["head"] <= 500, "{hour:?}");
    }
}

#[test]
fn r11_an_idle_database_costs_no_object_and_one_wake_up_a_minute() {
    let mut simulated = Simulated::begin(false);
    // Everything that the first slot brings with it: the image's copy in level 9, a look at level 0, a checkpoint.
    simulated.run(10 * MINUTE);
    let objects =
        |rig: &Rig| -> Vec<_> { Level::all().flat_map(|level| rig.objects(Scope::Level(level))).collect() };
    let (before, syncs) = (objects(&simulated.rig), simulated.syncs());
    let steps = simulated.run(HOUR);
    // Each look counts, those that find nothing as well.
    let looks = simulated.syncs().count - syncs.count;
    assert!(u64::from(steps) >= looks && looks >= 58, "{looks} looks in {steps} wake-ups");
    assert_eq!(simulated.syncs().failures, 0);
    assert_eq!(objects(&simulated.rig), before);
    assert!(steps <= 61, "{steps} wake-ups in an hour");
    assert_eq!(before.len(), 2, "the slot and its copy in level 9");
}

/// A wall clock that is off by what is set.
struct Skewed {
    by: AtomicI64,
}

impl Clock for Skewed {
    fn wall(&self) -> TimestampMs {
        TimestampMs(SystemClock.wall().0 + self.by.load(Ordering::SeqCst))
    }
    fn boot(&self) -> Duration {
        SystemClock.boot()
    }
    fn sleep(&self, time: Duration) {
        SystemClock.sleep(time);
    }
}

#[test]
fn r65_timestamps_never_go_back_along_the_chain_whatever_the_clock_does() {
    let rig = Rig::new();
    let app = rig.app();
    for minutes in [0, 10, -10, 3, -20] {
        insert(&app, 10);
        let mut env = rig.env();
        env.clock = Arc::new(Skewed { by: AtomicI64::new(minutes * 60_000) });
        let keeper = litekeep::keeper::Keeper::start(env, rig.settings.clone(), &rig.path()).unwrap();
        synced(&keeper);
        stopped(keeper);
    }
    let times: Vec<_> = rig.objects(Scope::Level(Level::SLOTS)).iter().map(|slot| slot.timestamp).collect();
    assert_eq!(times.len(), 5);
    assert!(times.is_sorted(), "{times:?}");
    rig.assert_restores();
}
