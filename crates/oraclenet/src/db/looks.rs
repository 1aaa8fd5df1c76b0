//! Looks before a request is answered: whether something was written elsewhere, so that a 2xx given there is seen here.
//!
//! A standby looks, and so does a server that cannot know whether it still owns: it slept, its store does not answer, or
//! it is handing over. Many share one look. A read is content with one that is a moment old; a store that does not answer
//! makes reads wait once, an owner's only shortly, and while it is away, they are answered from what is here, and looks
//! go on behind them until one comes back. Whoever wants to write is not refused by a copy that may be behind: that takes
//! a look which was sent after the request came ([`Arrival`]), unless it is the owner's.

use super::gate::Replica;
use super::standing::Standing;
use crate::limits;
use litekeep::node::Role;
use litekeep_core::env::Clock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

/// When a request came that may write, and what was seen of the replica since.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// How many looks had been begun before.
    looks: u64,
    /// How long its writer waits at most (since boot).
    until: Duration,
    /// No look that was sent since then has come back: what is here may lack what was acknowledged elsewhere before.
    pub(super) behind: bool,
}

pub(super) struct Looks {
    replica: Option<Arc<dyn Replica>>,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
    /// How long a request waits for an owner's look.
    owner_time: Duration,
    known: Arc<Mutex<Known>>,
    /// Held by the look that is under way.
    flight: Arc<tokio::sync::Mutex<()>>,
}

/// What the last looks came to; times since boot.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// How many were begun, and which of them was the last that was answered.
    begun: u64,
    answered: u64,
    /// When that was sent.
    good: Option<Duration>,
    /// When the last one that was not answered was given up, and whether this server owned then; `None` once one is.
    failed: Option<(Duration, bool)>,
    /// [`Standing::arrivals`] at the last one: what failed on the way to a role says nothing of the store.
    arrivals: u64,
}

/// How long it is remembered that the store did not answer, if nobody asks it again: a look that goes on behind the reads
/// has been answered or given up by then.
const FAILED_FOR: Duration =
    limits::LOOK_TIME.saturating_add(limits::LOOK_AGAIN).saturating_add(limits::LOOK_AGAIN);

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
        ack_timeout: Duration,
    ) -> Self {
        let owner_time = limits::OWNER_LOOK_TIME.min(ack_timeout / 4);
        Self { replica, standing, clock, owner_time, known: Arc::default(), flight: Arc::default() }
    }

    fn is_owner(&self) -> bool {
        self.standing.now().role == Role::Owner
    }

    fn known(&self) -> Known {
        let mut known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, arrived) = (self.clock.boot(), known.arrivals != self.standing.arrivals());
        // A server that owned waited less than one that knows that others write.
        known.failed = known
            .failed
            .filter(|(at, owned)| !arrived && *at + FAILED_FOR > now && (!owned || self.is_owner()));
        known
    }

    /// Whether what others write need not be looked for: nobody but this server can have written until now.
    fn holds(&self) -> bool {
        self.replica.as_ref().is_none_or(|replica| replica.holds())
    }

    /// Returns when the local copy is fresh enough for a reader that came now, or cannot be made so.
    pub(super) async fn fresh(&self) {
        let now = self.clock.boot();
        self.soon(|known| known.is_fresh(now)).await;
    }

    /// A request that may write comes now; its writer waits for `patience`. Returns when a look that was sent since then
    /// has come back, or as soon as a read would not wait any more.
    pub(super) async fn arrive(&self, patience: Duration) -> Arrival {
        let (looks, until) = (self.known().begun, self.clock.boot() + patience);
        let arrival = Arrival { looks, until, behind: false };
        self.soon(|known| known.answered > looks).await;
        // An owner whose store does not answer most likely is alone: what it lacks, nobody has.
        Arrival { behind: !self.is_met(&arrival) && !self.is_owner(), ..arrival }
    }

    fn is_met(&self, arrival: &Arrival) -> bool {
        self.holds() || self.known().answered > arrival.looks
    }

    /// Waits for such a look as long as the writer does; whether one came back.
    pub(super) async fn meet(&self, arrival: &Arrival) -> bool {
        let Some(replica) = &self.replica else { return true };
        let left = arrival.until.saturating_sub(self.clock.boot());
        let look = async {
            let flight = Arc::clone(&self.flight).lock_owned().await;
            if !self.is_met(arrival) {
                let _ = self.look(replica, flight, left).await; // a panic there is in the log; it was not answered
            }
        };
        if !self.is_met(arrival) {
            let _ = timeout(left, look).await; // whether it came to anything is asked next
        }
        self.is_met(arrival)
    }

    /// Returns when `enough` is known, or cannot be soon.
    async fn soon(&self, enough: impl Fn(&Known) -> bool) {
        let Some(replica) = &self.replica else { return };
        let known = self.known();
        if enough(&known) || self.holds() {
            return;
        }
        if let Some(failed) = known.failed {
            if failed.0 + limits::LOOK_AGAIN <= self.clock.boot()
                && let Ok(flight) = Arc::clone(&self.flight).try_lock_owned()
            {
                drop(self.look(replica, flight, limits::LOOK_TIME)); // nobody waits for it
            }
            return;
        }
        let look = async {
            let flight = Arc::clone(&self.flight).lock_owned().await;
            let known = self.known();
            if !enough(&known) && known.failed.is_none() {
                let _ = self.look(replica, flight, limits::LOOK_TIME).await; // a panic there is in the log
            }
        };
        tokio::pin!(look);
        if self.is_owner() {
            if timeout(self.owner_time, &mut look).await.is_ok() {
                return;
            }
            if self.known().answered != known.answered || self.holds() {
                return;
            }
            // It may have learned meanwhile that it owns no more, and then it is to show what the next one wrote.
            if self.is_owner() {
                let (now, arrivals) = (self.clock.boot(), self.standing.arrivals());
                return failed(
                    &self.known,
                    &self.standing,
                    (now, arrivals),
                    &"it was asked, and says nothing",
                );
            }
        }
        let _ = timeout(limits::LOOK_TIME, look).await; // whoever has the flight notes how it ends
    }

    /// Returns when no look is under way.
    #[cfg(test)]
    pub(super) async fn landed(&self) {
        drop(self.flight.lock().await);
    }

    /// Looks on a thread of its own, which keeps the flight also if nobody waits any more.
    fn look(
        &self,
        replica: &Arc<dyn Replica>,
        flight: OwnedMutexGuard<()>,
        limit: Duration,
    ) -> tokio::task::JoinHandle<()> {
        let (replica, clock, known) = (Arc::clone(replica), Arc::clone(&self.clock), Arc::clone(&self.known));
        let standing = Arc::clone(&self.standing);
        tokio::task::spawn_blocking(move || {
            let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
            let (sent, arrivals, number) = (clock.boot(), standing.arrivals(), {
                let mut known = lock();
                known.begun += 1;
                known.begun
            });
            let looked = replica.look(limit);
            let now = clock.boot();
            match looked {
                Ok(_) => {
                    let mut known = lock();
                    *known = Known { answered: number, good: Some(sent), failed: None, arrivals, ..*known };
                }
                Err(error) => failed(&known, &standing, (now, arrivals), &error),
            }
            drop(flight);
        })
    }
}

/// Notes at `now`, after so many arrivals, that the replica does not answer.
fn failed(
    known: &Mutex<Known>,
    standing: &Standing,
    (now, arrivals): (Duration, u64),
    why: &dyn std::fmt::Display,
) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    // On its way to own, a node may be waiting for its turn, which says nothing of the store.
    let first = known.failed.is_none_or(|(at, _)| at + FAILED_FOR <= now) || known.arrivals != arrivals;
    let role = standing.now().role;
    if first && matches!(role, Role::Standby | Role::Owner) {
        tracing::warn!(error = %why, "the replica does not answer: reads may be behind what others write");
    }
    (known.failed, known.arrivals) = (Some((now, role == Role::Owner)), arrivals);
}
