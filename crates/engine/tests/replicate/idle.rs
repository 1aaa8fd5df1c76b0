//! What a database costs that nobody writes to, and clocks that go wrong.

use crate::rig::{Rig, insert, stopped, synced};
use litekeep::clock::SystemClock;
use litekeep::replicator::Replicator;
use litekeep_core::env::Clock;
use litekeep_core::limits::IDLE_LOOK;
use litekeep_formats::{Level, TimestampMs};
use litekeep_store::Scope;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
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

#[test]
fn r11_an_idle_database_costs_no_object_and_one_wake_up_a_minute() {
    let clock = Arc::new(Jumping::default());
    let rig =
        Rig::on(Arc::new(litekeep_store::memory::MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>)));
    insert(&rig.app(), 100);
    let mut env = rig.env();
    env.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let jobs = AtOnce::default();
    env.spawner = Arc::new(jobs.clone());
    let mut replicator = Replicator::open(env, rig.settings.clone(), &rig.path()).unwrap();
    let mut run = |time: Duration| {
        let (end, mut steps) = (clock.boot() + time, 0u32);
        while clock.boot() < end {
            let wait = replicator.step().wait;
            let wait = if jobs.ran.swap(false, Ordering::SeqCst) { Duration::ZERO } else { wait };
            clock.pass(wait.clamp(Duration::from_micros(1), IDLE_LOOK));
            steps += 1;
        }
        steps
    };
    // Everything that the first slot brings with it: the image's copy in level 9, a look at level 0, a checkpoint.
    run(Duration::from_secs(10 * 60));
    let objects =
        |rig: &Rig| -> Vec<_> { Level::all().flat_map(|level| rig.objects(Scope::Level(level))).collect() };
    let before = objects(&rig);
    let steps = run(Duration::from_secs(60 * 60));
    assert_eq!(objects(&rig), before);
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
