//! Work that blocks (the store, mostly) runs as jobs beside the replicator, and comes back as reports.
//!
//! The replicator is a state machine: it never waits for a job. Who runs the jobs, and in which order they finish, is
//! the [`Spawner`]'s business: threads in production (one for each job, or a [`Pool`] for many databases), a seeded queue in
//! a simulation.

mod pool;

pub use pool::Pool;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A piece of blocking work.
pub type Job = Box<dyn FnOnce() + Send>;

/// What a job is, for who decides which one runs when there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// A few requests.
    Short,
    /// A start or an image goes through a whole database: it may take hours, and replication waits for it.
    Long,
    /// It may take as long, and nobody waits for it.
    Chore,
    /// A last word of one that ends: the changes of others go first.
    Last,
}

/// Runs jobs.
pub trait Spawner: Send + Sync {
    /// Runs `job` some time soon, beside the caller. `name` is for people.
    fn spawn(&self, name: &str, job: Job);

    /// The same, told what it is.
    fn spawn_as(&self, kind: JobKind, name: &str, job: Job) {
        let _ = kind;
        self.spawn(name, job);
    }
}

/// A thread for each job: jobs are few, long and blocking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Threads;

impl Spawner for Threads {
    fn spawn(&self, name: &str, job: Job) {
        let builder = std::thread::Builder::new().name(name.to_owned());
        if let Err(error) = builder.spawn(job) {
            // The job is gone with its closure, which reports that as it is dropped (`Reporter`).
            tracing::error!(%error, job = name, "cannot start a thread");
        }
    }
}

/// Where reports and wake-ups arrive. Clones share it.
pub(crate) struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    inbox: Mutex<Inbox<T>>,
    arrived: Condvar,
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Inbox<T> {
    messages: VecDeque<T>,
    poked: bool,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        let inbox = Mutex::new(Inbox { messages: VecDeque::new(), poked: false });
        Self { shared: Arc::new(Shared { inbox, arrived: Condvar::new(), waker: OnceLock::new() }) }
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox<T>> {
        self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to tell of everything that arrives, beside those who wait for it. The first one stays.
    pub(crate) fn wake_with(&self, waker: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.waker.set(Box::new(waker));
    }

    fn wake(&self) {
        self.shared.arrived.notify_all();
        if let Some(waker) = self.shared.waker.get() {
            waker();
        }
    }

    /// Delivers a message.
    pub(crate) fn send(&self, message: T) {
        self.inbox().messages.push_back(message);
        self.wake();
    }

    /// Wakes the receiver without a message.
    pub(crate) fn poke(&self) {
        if !std::mem::replace(&mut self.inbox().poked, true) {
            self.wake();
        }
    }

    /// Takes what has arrived; the second value tells whether somebody poked since the last call.
    pub(crate) fn take(&self) -> (VecDeque<T>, bool) {
        let mut inbox = self.inbox();
        (std::mem::take(&mut inbox.messages), std::mem::take(&mut inbox.poked))
    }

    /// Waits until something arrives, or for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let inbox = self.inbox();
        if inbox.messages.is_empty() && !inbox.poked {
            let _ = self.shared.arrived.wait_timeout(inbox, limit);
        }
    }
}

/// Sends exactly one report for a job, also when the job panics or is dropped without having run.
pub(crate) struct Reporter<T> {
    mailbox: Mailbox<T>,
    otherwise: Option<T>,
}

impl<T> Reporter<T> {
    /// `otherwise` is reported if the job ends without a report of its own.
    pub(crate) fn new(mailbox: &Mailbox<T>, otherwise: T) -> Self {
        Self { mailbox: mailbox.clone(), otherwise: Some(otherwise) }
    }

    pub(crate) fn report(mut self, report: T) {
        self.otherwise = None;
        self.mailbox.send(report);
    }
}

impl<T> Drop for Reporter<T> {
    fn drop(&mut self) {
        if let Some(report) = self.otherwise.take() {
            self.mailbox.send(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_never_ran_is_reported_all_the_same() {
        let mailbox = Mailbox::new();
        drop(Reporter::new(&mailbox, "lost"));
        Reporter::new(&mailbox, "lost").report("done");
        assert_eq!(mailbox.take().0, ["lost", "done"]);
    }
}
