//! One database of the fleet: whether it is replicated, by whom, and how that goes.
//!
//! It waits for nobody but a keeper's end or a sync, and starts nothing: the fleet does that.

use super::book::Book;
use super::guest::Guest;
use crate::config::Database;
use crate::verbs::replicate::ONE_TRY;
use litekeep::error::KeepError;
use litekeep::keeper::Keeper;
use litekeep::replicator::{Health, Status};
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use litekeep_store::Store;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often somebody who waits is asked whether that is still so.
const STILL_WANTED: Duration = Duration::from_millis(500);

/// One database.
pub(crate) struct Member {
    /// As it was configured.
    pub(crate) database: Database,
    /// Its replica; every answer is in the book.
    pub(crate) store: Arc<dyn Store>,
    /// What the replica answered.
    pub(crate) book: Arc<Book>,
    life: Mutex<Life>,
    changed: Condvar,
    /// It was let go: its file is gone, and nobody waits for its last changes.
    gone: AtomicBool,
}

/// Why a sync was not done.
pub(crate) enum SyncFailed {
    /// Nobody replicates it now.
    NotOpen,
    /// The engine's word.
    Keep(KeepError),
}

/// Whether a database is replicated.
enum Life {
    Running {
        keeper: Arc<Keeper>,
        /// What the keepers before it counted.
        before: Box<Status>,
        stopping: bool,
        /// It goes off the list once it has ended well.
        leaves: bool,
    },
    Stopped {
        last: Box<Status>,
        asked: bool,
    },
    /// Somebody else replicates it; it is only shown here.
    Guest(Arc<dyn Guest>),
}

/// How a member is doing.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The engine's own words; of one that is stopped, the last.
    pub(crate) status: Status,
    /// It has a keeper.
    pub(crate) running: bool,
    /// It has none because somebody asked for that, and its last changes are in the replica.
    pub(crate) stopped: bool,
    /// Another instance has the replica to itself.
    pub(crate) standby: bool,
    /// For how long the replica has lacked something that was committed; `None` where nobody wants it to be there.
    pub(crate) lag: Option<Duration>,
}

impl View {
    /// As Litestream calls it.
    pub(crate) fn state(&self) -> &'static str {
        match (self.running, self.status.health) {
            _ if self.standby => "standby",
            (false, _) => "stopped",
            (true, Health::Waiting) => "open",
            (true, _) => "replicating",
        }
    }
}

impl Member {
    /// Nobody replicates it yet.
    pub(super) fn new(database: Database, store: Arc<dyn Store>, book: Arc<Book>) -> Self {
        let life = Mutex::new(Life::Stopped { last: Box::default(), asked: true });
        Self { database, store, book, life, changed: Condvar::new(), gone: AtomicBool::new(false) }
    }

    /// This keeper replicates it from now on.
    pub(super) fn begin(&self, keeper: Arc<Keeper>) {
        self.gone.store(false, Ordering::SeqCst);
        let mut life = self.life();
        let before = match &*life {
            Life::Stopped { last, .. } => last.clone(),
            Life::Running { .. } | Life::Guest(_) => Box::default(),
        };
        *life = Life::Running { keeper, before, stopping: false, leaves: false };
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is now.
    pub(crate) fn view(&self, clock: &dyn Clock) -> View {
        let mut standby = false;
        let (status, running, stopped) = match &*self.life() {
            Life::Running { keeper, before, .. } => (keeper.status().counting_on(before), true, false),
            Life::Stopped { last, asked } => {
                ((**last).clone(), false, *asked && (last.failure.is_none() || self.is_gone()))
            }
            Life::Guest(guest) => {
                let shown = guest.shown();
                standby = shown.standby;
                let running = shown.status.health != Health::Ended;
                (shown.status, running, false)
            }
        };
        // What another instance replicates is its business.
        let since = status.behind_since.filter(|_| !standby);
        let lag =
            (!stopped).then(|| since.map_or(Duration::ZERO, |since| clock.boot().saturating_sub(since)));
        View { status, running, stopped, standby, lag }
    }

    /// The keeper, while there is one.
    pub(crate) fn keeper(&self) -> Option<Arc<Keeper>> {
        match &*self.life() {
            Life::Running { keeper, .. } => Some(Arc::clone(keeper)),
            Life::Stopped { .. } | Life::Guest(_) => None,
        }
    }

    /// Begins the last sync, if it runs; a second call with a shorter limit ends it sooner.
    pub(crate) fn begin_stop(&self, limit: Duration) {
        if let Life::Running { keeper, stopping, .. } = &mut *self.life() {
            *stopping = true;
            keeper.begin_stop(limit);
        }
    }

    /// How long its last sync may take.
    pub(crate) fn last_sync(&self) -> Duration {
        let limit = self.database.shutdown_timeout;
        if limit.is_zero() { ONE_TRY } else { limit }
    }

    /// From now on it is somebody else's.
    pub(crate) fn entrust(&self, guest: impl Guest + 'static) {
        *self.life() = Life::Guest(Arc::new(guest));
    }

    /// Waits until everything that was committed before is in the replica, for as long as that is wanted.
    pub(crate) fn sync_while(
        &self,
        limit: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Txid>, SyncFailed> {
        enum Who {
            Keeper(Arc<Keeper>),
            Guest(Arc<dyn Guest>),
        }
        let who = match &*self.life() {
            Life::Running { keeper, .. } => Who::Keeper(Arc::clone(keeper)),
            Life::Guest(guest) => Who::Guest(Arc::clone(guest)),
            Life::Stopped { .. } => return Err(SyncFailed::NotOpen),
        };
        match who {
            Who::Keeper(keeper) => keeper.sync_while(limit, wanted),
            Who::Guest(guest) => guest.sync_while(limit, wanted),
        }
        .map_err(SyncFailed::Keep)
    }

    /// Whether it was let go.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Lets it go; `false` if it was before.
    pub(super) fn let_go(&self) -> bool {
        !self.gone.swap(true, Ordering::SeqCst)
    }

    /// Whether its last sync was asked for and goes on.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(&*self.life(), Life::Running { stopping: true, .. })
    }

    /// Whether nobody replicates it.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(&*self.life(), Life::Stopped { .. })
    }

    /// Whether somebody else does.
    pub(super) fn is_guest(&self) -> bool {
        matches!(&*self.life(), Life::Guest(_))
    }

    /// Its keeper is gone: now, on the boot clock. Whether that was asked for, and whether it is to go off the list.
    pub(super) fn ended(&self, now: Duration) -> (bool, bool) {
        let mut life = self.life();
        let Life::Running { keeper, before, stopping, leaves } = &*life else { return (true, false) };
        let last = keeper.status().counting_on(before);
        let (mut last, asked, leaves) = (Box::new(last), *stopping, *leaves);
        if !asked {
            // Nobody takes from here on what is committed.
            last.behind_since.get_or_insert(now);
        }
        *life = Life::Stopped { last, asked };
        drop(life);
        self.changed.notify_all();
        (asked, leaves)
    }

    /// Waits until it does not run any more, for as long as that is wanted.
    pub(super) fn wait_stopped(&self, limit: Duration, wanted: &dyn Fn() -> bool) -> Wait {
        let running = |life: &mut Life| matches!(life, Life::Running { .. });
        let mut left = limit;
        loop {
            let slice = left.min(STILL_WANTED);
            left -= slice;
            let (life, _) = self
                .changed
                .wait_timeout_while(self.life(), slice, running)
                .unwrap_or_else(PoisonError::into_inner);
            let stopped = !matches!(&*life, Life::Running { .. });
            drop(life);
            match () {
                () if stopped => return Wait::Stopped,
                () if left.is_zero() => return Wait::TooLong,
                () if !wanted() => return Wait::GivenUp,
                () => {}
            }
        }
    }

    /// Has it go off the list once it has ended well; `false` if it does not run any more.
    pub(super) fn let_leave(&self) -> bool {
        match &mut *self.life() {
            Life::Running { leaves, .. } => {
                *leaves = true;
                true
            }
            Life::Stopped { .. } | Life::Guest(_) => false,
        }
    }
}

/// How a wait for an end came out.
pub(super) enum Wait {
    /// It does not run any more.
    Stopped,
    /// It still runs.
    TooLong,
    /// Nobody wants to know any more.
    GivenUp,
}
