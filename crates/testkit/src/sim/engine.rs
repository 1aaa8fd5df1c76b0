//! The engine under simulation: one process with its replicator, whose jobs wait in a queue until the simulation
//! picks one.

use super::Scenario;
use super::kept::KeepsFrames;
use crate::disk::vfs::Vfs;
use crate::disk::{Disk, Process};
use crate::faulty::FaultyStore;
use crate::random::SeededRandom;
use litekeep::error::KeepError;
use litekeep::jobs::{Job, Spawner};
use litekeep::replicator::{Env, Health, Replicator, Status};
use litekeep::settings::Settings;
use litekeep_core::env::Clock;
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
    /// Starts on a disk.
    pub(super) fn start(
        disk: &Disk,
        store: &FaultyStore,
        random: &SeededRandom,
        settings: Settings,
        scenario: &Scenario,
        database: &str,
    ) -> Result<Self, KeepError> {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let queue = Queue::default();
        let env = Env {
            clock: Arc::new(disk.clock().clone()),
            random: Arc::new(random.fork("engine")),
            files: if scenario.keeps_frames {
                Arc::new(KeepsFrames::new(process.clone()))
            } else {
                Arc::new(process.clone())
            },
            vfs: Some(vfs.name().to_owned()),
            store: Arc::new(store.clone()),
            spawner: Arc::new(queue.clone()),
            decisions: scenario.decisions,
        };
        let mut replicator = Replicator::open(env, settings, Path::new(database))?;
        replicator.set_polling(random.chance(1, 2));
        Ok(Self { replicator, queue, process, _vfs: vfs, due: Duration::ZERO })
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
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
