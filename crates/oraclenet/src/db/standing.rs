//! What this server is to its replica at the moment, and whether it may write.
//!
//! The permit is taken for each transaction. Who withdraws it waits until the transaction that is under way has ended;
//! none begins after that, until the permit is given again.

use litekeep::node::Role;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A moment's view, for those who wait for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// What the node is.
    pub role: Role,
    /// Whether writes are taken.
    pub open: bool,
    /// How often they were taken, and then no more.
    pub handed_over: u64,
}

/// See the module's text.
pub struct Standing {
    state: watch::Sender<State>,
    inner: Mutex<Inner>,
    idle: Condvar,
}

#[derive(Default)]
struct Inner {
    open: bool,
    /// A transaction is under way.
    busy: bool,
    /// How often what was committed here was undone.
    losses: u64,
    /// The file may hold what is neither durable nor waited for: before the first look, and while what was lost is
    /// being undone.
    unclear: bool,
    /// How often it became a standby or the owner.
    arrivals: u64,
}

/// The permit, taken for one transaction.
pub(super) struct Writing<'a>(&'a Standing);

/// What may be said of what is read after this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How often this server had lost what it had committed.
    losses: u64,
    /// Nothing was there that may be undone without a further loss.
    clear: bool,
}

impl Standing {
    /// Of a server whose node has just been started: nothing may be written.
    pub fn starting() -> Self {
        Self::new(Role::Starting, false)
    }

    /// Of a server without a replica: nobody else writes.
    pub fn alone() -> Self {
        Self::new(Role::Owner, true)
    }

    fn new(role: Role, open: bool) -> Self {
        let (state, _) = watch::channel(State { role, open, handed_over: 0 });
        let inner = Inner { open, unclear: !open, ..Inner::default() };
        Self { state, inner: Mutex::new(inner), idle: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is now.
    pub fn now(&self) -> State {
        *self.state.borrow()
    }

    /// How it is, and each change of that.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Notes what the node is.
    pub fn set_role(&self, role: Role) {
        if matches!(role, Role::Standby | Role::Owner) {
            let mut inner = self.inner();
            inner.unclear = false;
            inner.arrivals += 1;
        }
        self.state.send_modify(|state| state.role = role);
    }

    /// Lets writes be taken.
    pub fn open(&self) {
        self.inner().open = true;
        self.state.send_modify(|state| state.open = true);
    }

    /// Withdraws the permit; returns once no transaction is under way.
    pub fn close(&self) {
        let mut inner = self.inner();
        inner.open = false;
        self.state.send_modify(|state| {
            state.handed_over += u64::from(state.open);
            state.open = false;
        });
        let idle = self.idle.wait_while(inner, |inner| inner.busy);
        drop(idle.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes the permit for a transaction; `None` if writes are not taken. There is one writer, so it is free.
    pub(super) fn begin(&self) -> Option<Writing<'_>> {
        let mut inner = self.inner();
        if !inner.open {
            return None;
        }
        inner.busy = true;
        Some(Writing(self))
    }

    /// What was committed here and not acknowledged is about to be undone.
    pub(super) fn lost(&self) {
        let mut inner = self.inner();
        inner.losses += 1;
        inner.unclear = true;
    }

    /// How often this server became a standby or the owner.
    pub(super) fn arrivals(&self) -> u64 {
        self.inner().arrivals
    }

    /// To be taken before something is read whose durability is asked for later.
    pub fn seen(&self) -> Seen {
        let inner = self.inner();
        Seen { losses: inner.losses, clear: !inner.unclear }
    }

    /// Whether all that could be read since then is durable, on a server that does not own.
    pub(super) fn is_clear_since(&self, seen: Seen) -> bool {
        let inner = self.inner();
        seen.clear && !inner.unclear && inner.losses == seen.losses
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.inner().busy = false;
        self.0.idle.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    #[test]
    fn who_withdraws_the_permit_waits_for_the_transaction_and_none_begins_after() {
        let standing = Standing::alone();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (begun, begins) = mpsc::channel();
            let (end, ends) = mpsc::channel::<()>();
            let (standing, ended) = (&standing, &ended);
            scope.spawn(move || {
                let writing = standing.begin().expect("it is open");
                begun.send(()).unwrap();
                ends.recv().unwrap();
                ended.store(true, Ordering::SeqCst);
                drop(writing);
            });
            begins.recv().unwrap();
            let closing = scope.spawn(move || {
                standing.close();
                assert!(ended.load(Ordering::SeqCst), "closed under a transaction");
            });
            while standing.now().open {
                std::thread::yield_now();
            }
            assert!(standing.begin().is_none(), "begun after the withdrawal");
            end.send(()).unwrap();
            closing.join().unwrap();
        });
        standing.open();
        assert!(standing.begin().is_some());
    }

    #[test]
    fn what_was_read_before_a_loss_or_while_it_is_undone_is_not_called_durable() {
        let standing = Standing::starting();
        assert!(!standing.is_clear_since(standing.seen()), "before the first look");
        standing.set_role(Role::Standby);
        let before = standing.seen();
        assert!(standing.is_clear_since(before));
        standing.lost();
        standing.set_role(Role::Returning);
        let during = standing.seen();
        assert!(!standing.is_clear_since(before) && !standing.is_clear_since(during));
        standing.set_role(Role::Standby);
        assert!(!standing.is_clear_since(before), "what was seen may be gone");
        assert!(!standing.is_clear_since(during), "what was being undone may have been seen");
        assert!(standing.is_clear_since(standing.seen()));
    }
}
