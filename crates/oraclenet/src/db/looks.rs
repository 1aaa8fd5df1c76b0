//! Looks before a standby's reads: whether something was written elsewhere, so that a 2xx given there is seen here.
//!
//! Many readers share one look. A store that does not answer makes them wait once; while it is away, reads are answered
//! from what is here, and looks go on behind them until one comes back.

use super::gate::Replica;
use super::standing::Standing;
use crate::limits;
use litekeep::node::Role;
use litekeep_core::env::Clock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

pub(super) struct Looks {
    replica: Option<Arc<dyn Replica>>,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Known>>,
    /// Held by the look that is under way.
    flight: Arc<tokio::sync::Mutex<()>>,
}

/// What the last looks came to; times since boot.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// When the last one that was answered was sent.
    good: Option<Duration>,
    /// When the last one that was not answered was given up; `None` once one is.
    failed: Option<Duration>,
    /// [`Standing::arrivals`] at the last one: what failed on the way to a role says nothing of the store.
    arrivals: u64,
}

impl Known {
    /// Whether a reader that came at `now` sees enough.
    fn is_fresh(&self, now: Duration) -> bool {
        self.good.is_some_and(|sent| sent + limits::LOOK_AGE >= now)
    }
}

impl Looks {
    pub(super) fn new(
        replica: Option<Arc<dyn Replica>>,
        standing: Arc<Standing>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { replica, standing, clock, known: Arc::default(), flight: Arc::default() }
    }

    fn known(&self) -> Known {
        let mut known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.arrivals != self.standing.arrivals() {
            known.failed = None;
        }
        known
    }

    /// Returns when the local copy is fresh enough for a reader that came now, or cannot be made so.
    pub(super) async fn fresh(&self) {
        let Some(replica) = &self.replica else { return };
        if matches!(self.standing.now().role, Role::Owner | Role::Leaving) {
            return; // what is written is written here
        }
        let now = self.clock.boot();
        let known = self.known();
        if known.is_fresh(now) {
            return;
        }
        if let Some(failed) = known.failed {
            if failed + limits::LOOK_AGAIN <= now
                && let Ok(flight) = Arc::clone(&self.flight).try_lock_owned()
            {
                drop(self.look(replica, flight)); // nobody waits for it
            }
            return;
        }
        let flight = Arc::clone(&self.flight).lock_owned().await;
        let known = self.known();
        if !known.is_fresh(now) && known.failed.is_none() {
            let _ = self.look(replica, flight).await; // a panic there is in the log; the read goes on
        }
    }

    /// Returns when no look is under way.
    #[cfg(test)]
    pub(super) async fn landed(&self) {
        drop(self.flight.lock().await);
    }

    /// Looks on a thread of its own, which keeps the flight also if nobody waits any more.
    fn look(&self, replica: &Arc<dyn Replica>, flight: OwnedMutexGuard<()>) -> tokio::task::JoinHandle<()> {
        let (replica, clock, known) = (Arc::clone(replica), Arc::clone(&self.clock), Arc::clone(&self.known));
        let standing = Arc::clone(&self.standing);
        tokio::task::spawn_blocking(move || {
            let (sent, arrivals) = (clock.boot(), standing.arrivals());
            let looked = replica.look(limits::LOOK_TIME);
            let now = clock.boot();
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match looked {
                Ok(_) => *known = Known { good: Some(sent), failed: None, arrivals },
                Err(error) => {
                    // On its way to own, a node may be waiting for its turn, which says nothing of the store.
                    let first = known.failed.is_none() || known.arrivals != arrivals;
                    if first && standing.now().role == Role::Standby {
                        tracing::warn!(%error, "the replica does not answer: reads may be behind what others write");
                    }
                    (known.failed, known.arrivals) = (Some(now), arrivals);
                }
            }
            drop((known, flight));
        })
    }
}
