//! The gate: an answer waits here until the replica has what it speaks of; many share one put.
//!
//! One thread asks the engine for "everything up to now" and releases all who had committed before it asked. While it
//! waits, others gather, and share the next question. When this server gives up its epoch, whoever still waits is
//! answered by what became of the epoch: all of them durable, or none of them known.

use super::writer::Change;
use crate::limits;
use litekeep::error::KeepError;
use litekeep::node::{Left, Node};
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
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

/// The node that keeps the replica, as the database needs it.
pub trait Replica: Send + Sync {
    /// Asks for ownership, and returns at once; see [`Node::ask_to_own`].
    fn ask_to_own(&self);

    /// Whether the local copy lacks nothing that was acknowledged elsewhere before; see [`Node::holds`].
    fn holds(&self) -> bool;

    /// Waits until the local copy has reached the end of the chain; see [`Node::look`].
    ///
    /// # Errors
    /// Not within `limit` ([`KeepError::Timeout`]), or never ([`KeepError::Ended`]).
    fn look(&self, limit: Duration) -> Result<Option<Txid>, KeepError>;

    /// Returns once everything that was committed before the call is in the replica, with its newest transaction.
    ///
    /// # Errors
    /// Not within `limit` ([`KeepError::Timeout`]), not now ([`KeepError::NotOwner`]), or never ([`KeepError::Ended`]).
    fn sync(&self, limit: Duration) -> Result<Option<Txid>, KeepError>;
}

impl Replica for Node {
    fn ask_to_own(&self) {
        Self::ask_to_own(self);
    }

    fn holds(&self) -> bool {
        Self::holds(self)
    }

    fn look(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        Self::look(self, limit)
    }

    fn sync(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        Self::sync(self, limit)
    }
}

/// Hears of changes, in the order of their commits, once they are durable.
pub(crate) type Listener = Box<dyn Fn(Vec<Change>) + Send + Sync>;

/// See the module's text.
pub struct Gate {
    inner: Mutex<Inner>,
    arrived: Condvar,
    /// Held while waiters are taken out and told, so that they are told in order.
    telling: Mutex<()>,
    listener: OnceLock<Listener>,
    clock: Arc<dyn Clock>,
}

struct Inner {
    waiting: Vec<Waiter>,
    way: Way,
    /// Counts the epochs that this server has left.
    left: u64,
    /// The engine has said that it owns no more; what becomes of those who wait is not known yet.
    leaving: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing to wait for: everybody passes.
    Free,
    /// This server owns: everybody waits.
    Held,
    /// It does not: nobody can have committed anything.
    Shut,
    /// It never will again.
    Closed,
}

struct Waiter {
    tell: oneshot::Sender<Option<Txid>>,
    changes: Vec<Change>,
    /// Since boot.
    since: Duration,
}

impl Gate {
    /// A gate that lets everybody pass: there is no replica, or nobody waits for it.
    pub fn free(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::new(Way::Free, clock)
    }

    /// A gate before a replica that is not owned yet.
    pub fn shut(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::new(Way::Shut, clock)
    }

    fn new(way: Way, clock: Arc<dyn Clock>) -> Arc<Self> {
        let inner = Inner { waiting: Vec::new(), way, left: 0, leaving: false };
        let (arrived, telling) = (Condvar::new(), Mutex::new(()));
        Arc::new(Self { inner: Mutex::new(inner), arrived, telling, listener: OnceLock::new(), clock })
    }

    /// Begins to ask `replica` for those who wait.
    pub fn ask(self: &Arc<Self>, replica: Arc<dyn Replica>) {
        let ours = Arc::clone(self);
        let thread = std::thread::Builder::new().name("gate".to_owned());
        if let Err(error) = thread.spawn(move || ours.run(&*replica)) {
            tracing::error!(%error, "cannot start the gate's thread"); // every write will be `unknown`
            self.close();
        }
    }

    /// Who hears of changes. Only the first call counts.
    pub fn listen(&self, listener: Listener) {
        let _ = self.listener.set(listener);
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
        if inner.way == Way::Closed {
            return Err("replication has ended");
        }
        let oldest = inner.waiting.first().map(|waiter| self.clock.boot().saturating_sub(waiter.since));
        if inner.waiting.len() >= limits::GATE_WAITING || oldest.is_some_and(|age| age > patience) {
            return Err("the replica takes nothing at the moment");
        }
        Ok(())
    }

    /// Called by the writer right after a commit, in the order of commits. What is returned gives the replica's newest
    /// transaction, or an error when that will never be known.
    pub(super) fn enter(&self, changes: Vec<Change>) -> oneshot::Receiver<Option<Txid>> {
        let (tell, told) = oneshot::channel();
        let waiter = Waiter { tell, changes, since: self.clock.boot() };
        let mut inner = self.inner();
        match inner.way {
            Way::Free => {
                drop(inner);
                self.release(waiter, None);
            }
            Way::Held => {
                inner.waiting.push(waiter);
                drop(inner);
                self.arrived.notify_one();
            }
            Way::Shut | Way::Closed => {}
        }
        told
    }

    /// For who only wants to know that what was there before is durable; `None` when nobody waits here, since nothing
    /// is owned.
    pub(super) fn follow(&self) -> Option<oneshot::Receiver<Option<Txid>>> {
        let owned = self.inner().way != Way::Shut;
        // Shut in between, it is an error in the receiver: not known.
        owned.then(|| self.enter(Vec::new()))
    }

    /// This server owns from now on.
    pub(super) fn hold(&self) {
        let mut inner = self.inner();
        if inner.way == Way::Shut {
            inner.way = Way::Held;
        }
    }

    /// This server owns no more: answers those who wait.
    pub(super) fn left(&self, how: Left) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.inner();
        if inner.way != Way::Held {
            return;
        }
        inner.way = Way::Shut;
        inner.left += 1;
        inner.leaving = false;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        match how {
            Left::Closed(txid) => waiting.into_iter().for_each(|waiter| self.release(waiter, txid)),
            Left::Lost => drop(waiting),
        }
    }

    /// Lets nobody pass any more: those who wait are told that it will not be known.
    pub fn close(&self) {
        let mut inner = self.inner();
        inner.way = Way::Closed;
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
        while let Some((count, left)) = self.wait() {
            let synced = replica.sync(PATIENCE);
            let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
            let mut inner = self.inner();
            if inner.left != left {
                continue; // those were answered when the epoch was left; who waits now came later
            }
            match synced {
                Ok(txid) => {
                    let count = count.min(inner.waiting.len());
                    let through: Vec<Waiter> = inner.waiting.drain(..count).collect();
                    drop(inner);
                    through.into_iter().for_each(|waiter| self.release(waiter, txid));
                }
                Err(KeepError::Timeout(_)) => {}
                Err(KeepError::NotOwner) => inner.leaving = true,
                Err(_) => {
                    drop(inner);
                    return self.close();
                }
            }
        }
    }

    /// Waits for somebody to wait for; how many there are then, and in which epoch; or `None` at the end.
    fn wait(&self) -> Option<(usize, u64)> {
        let quiet =
            |inner: &mut Inner| (inner.waiting.is_empty() || inner.leaving) && inner.way != Way::Closed;
        let inner = self.arrived.wait_while(self.inner(), quiet).unwrap_or_else(PoisonError::into_inner);
        (inner.way != Way::Closed).then_some((inner.waiting.len(), inner.left))
    }

    fn release(&self, waiter: Waiter, txid: Option<Txid>) {
        let _ = waiter.tell.send(txid); // it may have given up waiting
        if let Some(listener) = self.listener.get()
            && !waiter.changes.is_empty()
        {
            listener(waiter.changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::clock::SystemClock;
    use std::sync::mpsc;

    type Synced = Result<Option<Txid>, KeepError>;

    /// Says when it is asked, and waits for what to answer.
    struct Answers(mpsc::Sender<()>, Mutex<mpsc::Receiver<Synced>>);

    impl Replica for Answers {
        fn ask_to_own(&self) {}

        fn holds(&self) -> bool {
            true
        }

        fn look(&self, _limit: Duration) -> Synced {
            Ok(None)
        }

        fn sync(&self, _limit: Duration) -> Synced {
            let _ = self.0.send(()); // most tests do not listen
            self.1.lock().unwrap().recv().unwrap_or(Err(KeepError::Ended(None)))
        }
    }

    struct Rig {
        gate: Arc<Gate>,
        asked: mpsc::Receiver<()>,
        answer: mpsc::Sender<Synced>,
        heard: mpsc::Receiver<usize>,
    }

    fn rig() -> Rig {
        let ((ask, asked), (answer, answers), (hear, heard)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let gate = Gate::shut(Arc::new(SystemClock));
        gate.listen(Box::new(move |changes: Vec<Change>| {
            let _ = hear.send(changes.len()); // some tests do not listen
        }));
        gate.ask(Arc::new(Answers(ask, Mutex::new(answers))));
        gate.hold();
        Rig { gate, asked, answer, heard }
    }

    fn change() -> Vec<Change> {
        vec![Change { collection: "posts", action: "create", record: serde_json::Map::new() }]
    }

    #[test]
    fn nobody_passes_before_the_replica_has_it_and_a_slow_replica_is_asked_again() {
        let Rig { gate, answer, heard, .. } = rig();
        let mut first = gate.enter(change());
        assert!(first.try_recv().is_err());
        answer.send(Err(KeepError::Timeout(5.0))).unwrap();
        answer.send(Ok(Some(Txid::FIRST))).unwrap();
        assert_eq!(heard.recv().unwrap(), 1);
        assert_eq!(first.try_recv(), Ok(Some(Txid::FIRST)));
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn a_replication_that_ended_answers_nobody_that_it_is_durable() {
        let Rig { gate, answer, heard, .. } = rig();
        let waiting = gate.enter(change());
        answer.send(Err(KeepError::Ended(None))).unwrap();
        assert!(waiting.blocking_recv().is_err());
        assert!(gate.enter(change()).blocking_recv().is_err());
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn without_a_replica_everybody_passes_at_once() {
        let gate = Gate::free(Arc::new(SystemClock));
        assert_eq!(gate.enter(Vec::new()).try_recv(), Ok(None));
        gate.left(Left::Lost);
        assert_eq!(gate.enter(Vec::new()).try_recv(), Ok(None));
    }

    #[test]
    fn who_waits_when_an_epoch_is_left_hears_what_became_of_it_and_the_next_epoch_begins_anew() {
        for (how, told, events) in
            [(Left::Closed(Some(Txid::FIRST)), Ok(Some(Txid::FIRST)), 1), (Left::Lost, Err(()), 0)]
        {
            let Rig { gate, asked, answer, heard } = rig();
            let waiting = gate.enter(change());
            asked.recv().unwrap();
            answer.send(Err(KeepError::NotOwner)).unwrap();
            gate.left(how);
            assert_eq!(waiting.blocking_recv().map_err(drop), told, "{how:?}");
            assert_eq!(heard.try_iter().count(), events, "{how:?}");
            assert!(gate.follow().is_none(), "nothing is owned, so there is nothing to wait for");
            assert!(gate.enter(change()).blocking_recv().is_err(), "nobody can have committed");
            gate.hold();
            let next = gate.enter(change());
            asked.recv().unwrap();
            answer.send(Ok(None)).unwrap();
            assert_eq!(next.blocking_recv(), Ok(None), "{how:?}");
        }
    }

    #[test]
    fn an_answer_that_comes_after_the_epoch_was_left_releases_nobody_of_the_next() {
        let Rig { gate, asked, answer, .. } = rig();
        let before = gate.enter(change());
        asked.recv().unwrap();
        gate.left(Left::Lost);
        assert!(before.blocking_recv().is_err());
        gate.hold();
        let mut after = gate.enter(change());
        answer.send(Ok(Some(Txid::FIRST))).unwrap();
        asked.recv().unwrap(); // it asks again, for the one who came later
        assert!(after.try_recv().is_err(), "released by the answer to an older question");
        answer.send(Ok(Some(Txid::FIRST.next()))).unwrap();
        assert_eq!(after.blocking_recv(), Ok(Some(Txid::FIRST.next())));
    }

    #[test]
    fn an_engine_that_does_not_own_is_not_asked_again_until_it_is_known_what_became_of_the_epoch() {
        let Rig { gate, asked, answer, .. } = rig();
        let waiting = gate.enter(change());
        asked.recv().unwrap();
        answer.send(Err(KeepError::NotOwner)).unwrap();
        while !gate.inner().leaving {
            std::thread::yield_now();
        }
        assert!(asked.try_recv().is_err());
        gate.left(Left::Closed(None));
        assert_eq!(waiting.blocking_recv(), Ok(None));
    }
}
