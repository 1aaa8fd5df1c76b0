//! The engine under simulation: one process with its replicator, whose jobs wait in a queue until the simulation
//! picks one.

use super::flaws::{Flaws, bucket, files};
use super::machine::DATABASE;
use crate::disk::Process;
use crate::disk::vfs::Vfs;
use crate::faulty::FaultyStore;
use crate::random::SeededRandom;
use litekeep::error::KeepError;
use litekeep::jobs::{Job, Spawner};
use litekeep::replicator::{Env, Health, Replicator, Status};
use litekeep::settings::Settings;
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Jobs that wait to be run.
#[derive(Clone, Default)]
struct Queue {
    jobs: Arc<Mutex<Vec<(String, Job)>>>,
}

impl Queue {
    fn take_any(&self, random: &SeededRandom) -> Option<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_empty() {
            return None;
        }
        let at = random.index(jobs.len());
        Some(jobs.remove(at).1)
    }

    fn is_empty(&self) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Spawner for Queue {
    fn spawn(&self, name: &str, job: Job) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), job));
    }
}

/// A running engine.
pub(super) struct Engine {
    // The replicator's connections close before their VFS goes.
    replicator: Replicator,
    queue: Queue,
    process: Process,
    _vfs: Vfs,
    due: Duration,
}

impl Engine {
    /// Starts as a process of a machine.
    pub(super) fn start(
        process: Process,
        store: &FaultyStore,
        random: &SeededRandom,
        settings: Settings,
        flaws: &Flaws,
    ) -> Result<Self, KeepError> {
        let vfs = Vfs::new(&process);
        let queue = Queue::default();
        let clock = Arc::new(process.disk().clock().clone());
        let env = Env {
            clock: clock.clone(),
            random: Arc::new(random.fork("engine")),
            files: files(process.clone(), flaws.files),
            vfs: Some(vfs.name().to_owned()),
            store: bucket(Arc::new(store.clone()), flaws.bucket, clock),
            spawner: Arc::new(queue.clone()),
            decisions: flaws.decisions,
        };
        let mut replicator = Replicator::open(env, settings, Path::new(DATABASE))?;
        replicator.set_polling(random.chance(1, 2));
        Ok(Self { replicator, queue, process, _vfs: vfs, due: Duration::ZERO })
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// How often it brought the WAL into the database: each time it makes the file durable.
    pub(super) fn checkpoints(&self) -> u64 {
        self.process.syncs(DATABASE)
    }

    /// One step; `false` once it has ended.
    pub(super) fn step(&mut self) -> bool {
        let step = self.replicator.step();
        self.due = self.process.disk().clock().boot().saturating_add(step.wait);
        !step.ended
    }

    /// When it wants to be called again.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Runs one of its jobs; `false` if there is none.
    pub(super) fn run_job(&mut self, random: &SeededRandom) -> bool {
        let Some(job) = self.queue.take_any(random) else { return false };
        job();
        self.due = Duration::ZERO;
        true
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The file notification.
    pub(super) fn poker(&self) -> Box<dyn Fn() + Send> {
        Box::new(self.replicator.poker())
    }

    /// It is called soon, whatever it said.
    pub(super) fn hurry(&mut self) {
        self.due = Duration::ZERO;
    }

    /// From here on it learns of changes by notification.
    pub(super) fn notified(&mut self) {
        self.replicator.set_polling(false);
        self.due = Duration::ZERO;
    }

    /// The newest transactions that were built, and that the replica holds.
    pub(super) fn reached(&self) -> (Option<u64>, Option<u64>) {
        let status = self.replicator.status();
        (status.built.map(Txid::get), status.durable.map(Txid::get))
    }

    pub(super) fn ask(&mut self) -> u64 {
        let ticket = self.replicator.ask();
        self.due = Duration::ZERO;
        ticket
    }

    pub(super) fn answered(&self, ticket: u64) -> bool {
        self.replicator.answered(ticket)
    }

    pub(super) fn stop(&mut self, limit: Duration) {
        self.replicator.stop(limit);
        self.due = Duration::ZERO;
    }

    pub(super) fn status(&self) -> Status {
        self.replicator.status()
    }

    pub(super) fn ended(&self) -> bool {
        self.replicator.status().health == Health::Ended
    }
}
