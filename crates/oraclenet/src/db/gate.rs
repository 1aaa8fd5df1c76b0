//! The gate: an answer waits here until the replica has what it speaks of; many share one put.
//!
//! One thread asks the engine for "everything up to now" and releases all who had committed before it asked. While it
//! waits, others gather, and share the next question.

use super::writer::Change;
use crate::limits;
use litekeep::error::KeepError;
use litekeep::keeper::Keeper;
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long one question to the engine may take before it is asked again; the waiting itself has no end here, those
/// who wait have their own.
const PATIENCE: Duration = Duration::from_secs(5);

/// When an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once the replica has it.
    Replicated,
    /// Once it is committed on this disk.
    Local,
}

/// Where the gate asks.
pub trait Replica: Send + Sync {
    /// Returns once everything that was committed before the call is in the replica, with its newest transaction.
    ///
    /// # Errors
    /// Not within `limit` ([`KeepError::Timeout`]), or never ([`KeepError::Ended`]).
    fn sync(&self, limit: Duration) -> Result<Option<Txid>, KeepError>;
}

impl Replica for Keeper {
    fn sync(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        Keeper::sync(self, limit)
    }
}

/// Hears of changes, in the order of their commits, once they are durable.
pub(crate) type Listener = Box<dyn Fn(Vec<Change>) + Send + Sync>;

/// See the module's text.
pub struct Gate {
    inner: Mutex<Inner>,
    arrived: Condvar,
    listener: Listener,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<Waiter>,
    /// No replica to wait for: everybody passes.
    open: bool,
    closed: bool,
}

struct Waiter {
    tell: oneshot::Sender<Option<Txid>>,
    changes: Vec<Change>,
    /// Since boot.
    since: Duration,
}

impl Gate {
    /// A gate before `replica`; with none, or under [`Durability::Local`], everybody passes at once.
    pub fn start(
        replica: Option<Arc<dyn Replica>>,
        durability: Durability,
        clock: Arc<dyn Clock>,
        listener: Listener,
    ) -> Arc<Self> {
        let replica = replica.filter(|_| durability == Durability::Replicated);
        let inner = Inner { open: replica.is_none(), ..Inner::default() };
        let gate = Arc::new(Self { inner: Mutex::new(inner), arrived: Condvar::new(), listener, clock });
        if let Some(replica) = replica {
            let ours = Arc::clone(&gate);
            let thread = std::thread::Builder::new().name("gate".to_owned());
            if let Err(error) = thread.spawn(move || ours.run(&*replica)) {
                tracing::error!(%error, "cannot start the gate's thread"); // every write will be `unknown`
                gate.close();
            }
        }
        gate
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another commit may come to wait here. While the replica takes nothing, what is committed only piles up,
    /// in memory and in the WAL, and its answers are `unknown`; to refuse is more honest, and bounded.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admits(&self, patience: Duration) -> Result<(), &'static str> {
        let inner = self.inner();
        if inner.closed {
            return Err("replication has ended");
        }
        let oldest = inner.waiting.first().map(|waiter| self.clock.boot().saturating_sub(waiter.since));
        if inner.waiting.len() >= limits::GATE_WAITING || oldest.is_some_and(|age| age > patience) {
            return Err("the replica takes nothing at the moment");
        }
        Ok(())
    }

    /// Called by the writer right after a commit, in the order of commits. What is returned gives the replica's newest
    /// transaction, or an error when that will never be known. Also for who only wants to know that what was there
    /// before is durable.
    pub(super) fn enter(&self, changes: Vec<Change>) -> oneshot::Receiver<Option<Txid>> {
        let (tell, told) = oneshot::channel();
        let waiter = Waiter { tell, changes, since: self.clock.boot() };
        let mut inner = self.inner();
        if inner.open {
            drop(inner);
            self.release(waiter, None);
        } else if !inner.closed {
            inner.waiting.push(waiter);
            drop(inner);
            self.arrived.notify_one();
        }
        told
    }

    /// Lets nobody pass any more: those who wait are told that it will not be known.
    pub fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        inner.waiting.clear();
        drop(inner);
        self.arrived.notify_all();
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.inner().waiting.len()
    }

    /// Since when the first of them waits (since boot).
    pub fn waiting_since(&self) -> Option<Duration> {
        self.inner().waiting.first().map(|waiter| waiter.since)
    }

    fn run(&self, replica: &dyn Replica) {
        while let Some(count) = self.wait() {
            match replica.sync(PATIENCE) {
                Ok(txid) => {
                    let mut inner = self.inner();
                    let count = count.min(inner.waiting.len());
                    let through: Vec<Waiter> = inner.waiting.drain(..count).collect();
                    drop(inner);
                    through.into_iter().for_each(|waiter| self.release(waiter, txid));
                }
                Err(KeepError::Timeout(_)) => {}
                Err(_) => return self.close(),
            }
        }
    }

    /// Waits for somebody to wait for; how many there are then, or `None` at the end.
    fn wait(&self) -> Option<usize> {
        let quiet = |inner: &mut Inner| inner.waiting.is_empty() && !inner.closed;
        let inner = self.arrived.wait_while(self.inner(), quiet).unwrap_or_else(PoisonError::into_inner);
        (!inner.closed).then_some(inner.waiting.len())
    }

    fn release(&self, waiter: Waiter, txid: Option<Txid>) {
        let _ = waiter.tell.send(txid); // it may have given up waiting
        if !waiter.changes.is_empty() {
            (self.listener)(waiter.changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::clock::SystemClock;
    use std::sync::mpsc;

    struct Answers(Mutex<mpsc::Receiver<Result<Option<Txid>, KeepError>>>);

    impl Replica for Answers {
        fn sync(&self, _limit: Duration) -> Result<Option<Txid>, KeepError> {
            let answers = self.0.lock().unwrap();
            answers.recv().unwrap_or(Err(KeepError::Ended(None)))
        }
    }

    type Synced = Result<Option<Txid>, KeepError>;

    fn gate() -> (Arc<Gate>, mpsc::Sender<Synced>, mpsc::Receiver<usize>) {
        let (answer, answers) = mpsc::channel();
        let (heard, hear) = mpsc::channel();
        let listener = Box::new(move |changes: Vec<Change>| heard.send(changes.len()).unwrap());
        let replica: Arc<dyn Replica> = Arc::new(Answers(Mutex::new(answers)));
        (Gate::start(Some(replica), Durability::Replicated, Arc::new(SystemClock), listener), answer, hear)
    }

    fn change() -> Change {
        Change { collection: "posts", action: "create", record: serde_json::Map::new() }
    }

    #[test]
    fn nobody_passes_before_the_replica_has_it_and_a_slow_replica_is_asked_again() {
        let (gate, answer, hear) = gate();
        let mut first = gate.enter(vec![change()]);
        assert!(first.try_recv().is_err());
        answer.send(Err(KeepError::Timeout(5.0))).unwrap();
        answer.send(Ok(Some(Txid::FIRST))).unwrap();
        assert_eq!(hear.recv().unwrap(), 1);
        assert_eq!(first.try_recv(), Ok(Some(Txid::FIRST)));
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn a_replication_that_ended_answers_nobody_that_it_is_durable() {
        let (gate, answer, hear) = gate();
        let waiting = gate.enter(vec![change()]);
        answer.send(Err(KeepError::Ended(None))).unwrap();
        assert!(waiting.blocking_recv().is_err());
        assert!(gate.enter(vec![change()]).blocking_recv().is_err());
        assert!(hear.try_recv().is_err());
    }

    #[test]
    fn without_a_replica_everybody_passes_at_once() {
        let gate = Gate::start(None, Durability::Replicated, Arc::new(SystemClock), Box::new(|_| {}));
        assert_eq!(gate.enter(Vec::new()).try_recv(), Ok(None));
    }
}
