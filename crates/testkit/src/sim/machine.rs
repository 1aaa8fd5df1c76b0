//! One simulated machine: a disk, a wall clock, an application and an engine on it. It knows nothing of the bucket that
//! its engine writes to, nor of other machines; a world may have several.

use super::desk::{Desk, SharedDesk};
use super::engine::Engine;
use crate::clock::SimClock;
use crate::disk::{Disk, Pid};
use crate::history::fold;
use crate::random::SeededRandom;
use crate::workload::{Ledger, Shape};

pub(super) const DIRECTORY: &str = "/data";
pub(super) const DATABASE: &str = "/data/app.db";
pub(super) const WAL: &str = "/data/app.db-wal";
pub(super) const STATE: &str = "/data/.app.db-litekeep";

/// How often the application may come between the calls of one turn of the engine: a writer that never pauses could
/// keep it busy for ever.
const INTERRUPTIONS: u64 = 12;

/// See the module's text.
pub(super) struct Machine {
    /// Its own wall clock.
    pub(super) clock: SimClock,
    pub(super) disk: Disk,
    pub(super) desk: SharedDesk,
    pub(super) engine: Option<Engine>,
    pub(super) shape: Shape,
    /// Turns for which the engine, the application stay down.
    pub(super) engine_rests: u64,
    pub(super) app_rests: u64,
    /// Turns for which the disk stays full.
    pub(super) full_for: u64,
    /// A question to the engine.
    pub(super) question: Option<Question>,
    /// Digest of what happened on its former disks.
    past: u64,
}

/// What the engine was asked for a promise about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) ticket: u64,
    /// The newest commit then.
    pub(super) commit: usize,
    /// What was built, and what was durable, then.
    pub(super) built: Option<u64>,
    pub(super) durable: Option<u64>,
}

impl Machine {
    /// With an empty disk.
    pub(super) fn new(clock: SimClock, seed: u64, shape: Shape, random: SeededRandom) -> Self {
        Self {
            disk: empty_disk(&clock, seed),
            clock,
            desk: SharedDesk::new(Desk::new(shape, random)),
            engine: None,
            shape,
            engine_rests: 0,
            app_rests: 0,
            full_for: 0,
            question: None,
            past: 0,
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.desk.get().ledger.clone()
    }

    pub(super) fn last_commit(&self) -> Option<usize> {
        self.desk.get().ledger.last()
    }

    pub(super) fn app_runs(&self) -> bool {
        self.desk.get().app.is_some()
    }

    pub(super) fn stop_app(&self) {
        self.desk.get().app = None;
    }

    /// The application's and the engine's process.
    pub(super) fn processes(&self) -> (Option<Pid>, Option<Pid>) {
        let app = self.desk.get().app.as_ref().map(|app| app.process().pid());
        (app, self.engine.as_ref().map(|engine| engine.process().pid()))
    }

    /// The application may come in between again.
    pub(super) fn allow_interruptions(&self) {
        self.desk.get().interruptions = INTERRUPTIONS;
    }

    /// Nobody comes between the engine's calls any more.
    pub(super) fn end_interruptions(&self) {
        if let Some(engine) = &self.engine {
            engine.process().interrupt(Box::new(|| ()));
        }
    }

    /// Asks the engine for a promise about everything that is committed.
    pub(super) fn ask(&mut self) {
        let last = self.desk.get().ledger.last_confirmed();
        // Without syncs only a running application knows how far back a power loss took it.
        if !self.shape.synced && !self.app_runs() {
            return;
        }
        if let (Some(engine), Some(commit), None) = (&mut self.engine, last, self.question) {
            let (built, durable) = engine.reached();
            self.question = Some(Question { ticket: engine.ask(), commit, built, durable });
        }
    }

    pub(super) fn sleep_until_due(&self) {
        if let Some(engine) = &self.engine
            && engine.due() < std::time::Duration::MAX
        {
            self.clock.advance_to(engine.due());
        }
    }

    /// All its trouble ends.
    pub(super) fn heal(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        (self.engine_rests, self.app_rests, self.full_for) = (0, 0, 0);
    }

    /// Puts another disk in; what ran on the old one is gone.
    pub(super) fn put_in(&mut self, disk: Disk) {
        self.past = fold(self.past, &self.disk.history().to_le_bytes());
        self.disk = disk;
        self.full_for = 0;
    }

    /// Digest of everything that happened on it.
    pub(super) fn history(&self) -> u64 {
        let parts = [self.past, self.disk.history(), self.desk.get().ledger.digest()];
        parts.iter().fold(0, |digest, part| fold(digest, &part.to_le_bytes()))
    }
}

pub(super) fn empty_disk(clock: &SimClock, seed: u64) -> Disk {
    let disk = Disk::new(clock.clone(), seed);
    // The operator's part: the directory that the database lives in.
    let placed = disk.place(format!("{DIRECTORY}/here"), b"");
    debug_assert!(placed.is_ok());
    disk
}
