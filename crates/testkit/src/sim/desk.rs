//! The application and its ledger: what works on while the engine waits for a call.

use crate::disk::Disk;
use crate::random::SeededRandom;
use crate::workload::{Application, Ledger, Shape, Trouble};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module's text.
pub(super) struct Desk {
    pub(super) app: Option<Application>,
    pub(super) ledger: Ledger,
    pub(super) shape: Shape,
    pub(super) commits: u64,
    /// Whether the application was killed since this was last cleared.
    pub(super) died: bool,
    /// What the application should never have seen.
    pub(super) finding: Option<String>,
    /// Whom to tell of a commit.
    pub(super) poke: Option<Box<dyn Fn() + Send>>,
    /// How many interruptions of the engine are still allowed until its next turn.
    pub(super) interruptions: u64,
    /// Whether anybody was told since this was last cleared.
    pub(super) poked: bool,
    random: SeededRandom,
}

impl Desk {
    pub(super) fn new(shape: Shape, random: SeededRandom) -> Self {
        Self {
            app: None,
            ledger: Ledger::default(),
            shape,
            commits: 0,
            died: false,
            finding: None,
            poke: None,
            interruptions: 0,
            poked: false,
            random,
        }
    }

    /// Starts the application, if it does not run; says why it did not.
    pub(super) fn open(&mut self, disk: &Disk, path: &str) -> Option<String> {
        if self.app.is_some() {
            return None;
        }
        let random = self.random.fork("application");
        let started = Application::start(disk, path, self.shape, random, &mut self.ledger);
        match started {
            Ok(app) => {
                self.app = Some(app);
                None
            }
            Err(trouble) => {
                let why = format!("{trouble:?}");
                self.note(&Err(trouble));
                Some(why)
            }
        }
    }

    /// The application does something.
    pub(super) fn act(&mut self) {
        let Some(app) = &mut self.app else { return };
        let before = self.ledger.commits().len();
        let result = app.step(&mut self.ledger);
        let made = self.ledger.commits().len().saturating_sub(before);
        self.commits += made as u64;
        if made > 0
            && self.random.chance(9, 10)
            && let Some(poke) = &self.poke
        {
            poke();
            self.poked = true;
        }
        if matches!(result, Err(Trouble::Failed)) {
            app.process().kill();
            app.tool().kill();
        }
        if !app.process().alive() {
            // At once: closing its connections puts shared memory back to what it was when it died.
            self.app = None;
            self.died = true;
        }
        self.note(&result);
    }

    fn note(&mut self, result: &Result<(), Trouble>) {
        if let Err(Trouble::Finding(finding)) = result {
            self.finding.get_or_insert_with(|| finding.clone());
        }
    }
}

/// A desk that the world and an interruption of the engine share.
#[derive(Clone)]
pub(super) struct SharedDesk(Arc<Mutex<Desk>>);

impl SharedDesk {
    pub(super) fn new(desk: Desk) -> Self {
        Self(Arc::new(Mutex::new(desk)))
    }

    pub(super) fn get(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts in one of `of` cases, unless somebody is at the desk.
    pub(super) fn interruption(&self, random: SeededRandom, of: u64) -> Box<dyn FnMut() + Send> {
        let desk = Arc::downgrade(&self.0);
        Box::new(move || {
            if random.chance(1, of)
                && let Some(desk) = desk.upgrade()
                && let Ok(mut desk) = desk.try_lock()
                && desk.interruptions > 0
            {
                desk.interruptions -= 1;
                desk.act();
            }
        })
    }
}
