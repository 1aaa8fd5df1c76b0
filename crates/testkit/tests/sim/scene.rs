//! One engine and one application on a disk of their own, moved on by hand: for what depends on who comes when.
//! Nothing in it is left to a seed but SQLite's own random numbers.

use litekeep::jobs::{Job, Spawner};
use litekeep::replicator::{Env, Replicator, Status};
use litekeep::restore::{Options, Outcome, RestoreEnv, restore};
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_core::limits::IDLE_LOOK;
use litekeep_formats::Level;
use litekeep_store::memory::MemoryStore;
use litekeep_store::{Scope, Store};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::clock::SimClock;
use testkit::disk::vfs::{SeededSqlite, Vfs};
use testkit::disk::{Disk, Process};
use testkit::faulty::FaultyStore;
use testkit::random::SeededRandom;

pub(crate) const DATABASE: &str = "/data/app.db";
pub(crate) const WAL: &str = "/data/app.db-wal";

/// Runs each job at once, on the caller's thread, and notes that its report is there.
#[derive(Clone, Default)]
struct AtOnce {
    reported: Arc<AtomicBool>,
}

impl Spawner for AtOnce {
    fn spawn(&self, _name: &str, job: Job) {
        job();
        self.reported.store(true, Ordering::Relaxed);
    }
}

/// A program with a way to open databases.
pub(crate) struct Program {
    pub(crate) process: Process,
    vfs: Vfs,
}

impl Program {
    pub(crate) fn open(&self) -> Connection {
        self.vfs.open(DATABASE).unwrap()
    }
}

/// A replicator that is called when it asked to be called, and not before.
pub(crate) struct Engine {
    pub(crate) replicator: Replicator,
    clock: SimClock,
    jobs: AtOnce,
    due: Duration,
}

impl Engine {
    /// One call, whether it is due or not. It is due again at once when a job has reported.
    pub(crate) fn step(&mut self) -> Duration {
        let wait = self.replicator.step().wait;
        let wait = if self.jobs.reported.swap(false, Ordering::Relaxed) { Duration::ZERO } else { wait };
        let wait = wait.clamp(Duration::from_micros(1), IDLE_LOOK);
        self.due = self.clock.boot() + wait;
        wait
    }

    /// Lets it work for so long.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.clock.boot() + time;
        while self.due < end {
            self.clock.advance_to(self.due);
            self.step();
        }
        self.clock.advance_to(end);
    }

    /// The notification of a change.
    pub(crate) fn poke(&mut self) {
        (self.replicator.poker())();
        self.due = self.clock.boot();
    }

    pub(crate) fn status(&self) -> Status {
        self.replicator.status()
    }
}

/// See the module's text.
pub(crate) struct Scene {
    pub(crate) clock: SimClock,
    pub(crate) disk: Disk,
    pub(crate) store: Arc<FaultyStore>,
    _alone: SeededSqlite,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let clock = SimClock::new();
        let alone = SeededSqlite::new(1);
        let bucket = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let store = Arc::new(FaultyStore::new(bucket, clock.clone(), SeededRandom::new(3)));
        Self { disk: empty(&clock), clock, store, _alone: alone }
    }

    pub(crate) fn program(&self) -> Program {
        let process = self.disk.process();
        Program { vfs: Vfs::new(&process), process }
    }

    pub(crate) fn engine(&self, program: &Program, settings: Settings) -> Engine {
        let jobs = AtOnce::default();
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(SeededRandom::new(2)),
            files: Arc::new(program.process.clone()),
            vfs: Some(program.vfs.name().to_owned()),
            store: self.store.clone(),
            spawner: Arc::new(jobs.clone()),
            decisions: Decisions::RIGHT,
        };
        let replicator = Replicator::open(env, settings, Path::new(DATABASE)).unwrap();
        Engine { replicator, clock: self.clock.clone(), jobs, due: Duration::ZERO }
    }

    /// How many slots are in the replica.
    pub(crate) fn slots_in_replica(&self) -> usize {
        self.store.list(&Scope::Level(Level::SLOTS)).unwrap().len()
    }

    /// How many rows of `t` are in the replica, which must give a sound database.
    pub(crate) fn rows_in_replica(&self) -> u32 {
        self.rows_if_any().expect("nothing is in the replica")
    }

    /// The same; `None` for a replica in which there never was anything.
    pub(crate) fn rows_if_any(&self) -> Option<u32> {
        let disk = empty(&self.clock);
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let env = RestoreEnv {
            store: self.store.clone(),
            files: Arc::new(process),
            clock: Arc::new(self.clock.clone()),
            vfs: Some(vfs.name().to_owned()),
        };
        let options = Options { parallelism: 1, if_replica_exists: true, ..Options::new(DATABASE) };
        match restore(&env, &options, &mut |_| {}).unwrap() {
            Outcome::Restored(_) => {}
            Outcome::Skipped(_) => return None,
            other @ Outcome::Planned(_) => panic!("{other:?}"),
        }
        let restored = vfs.open(DATABASE).unwrap();
        let check: String = restored.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        Some(rows(&restored))
    }
}

/// How many rows `t` has.
pub(crate) fn rows(connection: &Connection) -> u32 {
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn empty(clock: &SimClock) -> Disk {
    let disk = Disk::new(clock.clone(), 1);
    disk.place("/data/here", b"").unwrap();
    disk
}
