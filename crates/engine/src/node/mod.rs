//! One of several instances that share a replica: it follows, owns when asked to, hands over, and follows again.
//!
//! On a platform that starts the new container before it stops the old one, both are nodes. Whoever is asked to write
//! claims the next epoch, waits until the other has brought up what it had accepted, and goes on from there. Nothing is
//! written by a node that does not own; the application is told when it may, and when it must have stopped.

mod acquire;
mod machine;
mod own;
#[cfg(test)]
mod tests;

pub use machine::Machine;

use crate::error::KeepError;
use crate::ownership;
use crate::replicator::{self, Env, Status};
use crate::settings::Settings;
use litekeep_core::env::Clock;
use litekeep_core::ownership::Times;
use litekeep_formats::{Epoch, TimestampMs, Txid};
use litekeep_store::Store;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a wish to own lasts.
pub const WISH: Duration = Duration::from_secs(15);

/// What a node is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Finding out where its file lies on the chain, or following towards the tip for the first time.
    #[default]
    Starting,
    /// Follows the chain. Its copy may be read.
    Standby,
    /// On its way to own: it has claimed, or will.
    Acquiring,
    /// Owns: its application may write.
    Owner,
    /// Its application has stopped writing; the tail is going up.
    Leaving,
    /// It lost its epoch, and brings its file back to what is durable.
    Returning,
    /// It has ended.
    Ended,
}

/// How an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// In order: everything that the application had committed is in the replica, up to this transaction.
    Closed(Option<Txid>),
    /// Not in order: somebody else has written, or it could not be brought up. What was committed and not acknowledged is
    /// not known to be durable; where the chain lacks it, it is undone and kept aside.
    Lost,
}

/// The application's side. All calls come from the node's own thread, one at a time.
pub trait Application: Send + Sync {
    /// The role changed. Must not block.
    fn role(&self, role: Role);

    /// The replica is owned and the file stands at its tip: writes may be taken from now on. What has to be written first
    /// (migrations) is written here.
    ///
    /// # Errors
    /// Why it cannot go on; the node then closes its epoch and ends with that text.
    fn start_writing(&self, epoch: Option<Epoch>) -> Result<(), String>;

    /// Returns once no write is under way, and none begins until the next [`Application::start_writing`].
    fn stop_writing(&self);

    /// Comes after [`Application::stop_writing`], when it is known what became of the last writes.
    fn left(&self, how: Left);
}

/// What became of the epochs above one that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// Nobody has claimed.
    Nobody,
    /// Somebody has, and has not opened yet.
    Claimed,
    /// Somebody has opened: its application is well.
    Opened,
    /// Somebody claimed and left without having opened.
    GaveUp,
    /// Somebody had opened, and has left: nobody writes any more.
    Left,
}

/// Looks what became of the epochs above `epoch`, or of all: the newest one tells.
///
/// An owner that crashed has closed nothing and counts as [`Successor::Opened`]: nothing in the replica tells it from one
/// that is idle. Whoever runs it has to start it again.
///
/// # Errors
/// The store's.
pub fn successor(store: &dyn Store, epoch: Option<Epoch>) -> Result<Successor, KeepError> {
    let epochs = ownership::list_epochs(store, None, None)?;
    let newest = epochs.records.last().filter(|record| epoch.is_none_or(|epoch| record.epoch > epoch));
    Ok(match newest.map(|record| (record.opened, record.closed.is_some())) {
        None => Successor::Nobody,
        Some((false, false)) => Successor::Claimed,
        Some((true, false)) => Successor::Opened,
        Some((false, true)) => Successor::GaveUp,
        Some((true, true)) => Successor::Left,
    })
}

/// How a node behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Of the replication while it owns.
    pub replication: Settings,
    /// The protocol's times.
    pub times: Times,
    /// How often an idle owner looks for a claim above its own, and a standby for the next slot.
    pub look_every: Duration,
    /// The database was made just now, because the replica is empty; the node owns at once, or ends with
    /// [`KeepError::Beside`] if the replica is not empty any more.
    pub fresh: bool,
    /// Go on where the store cannot create only: the user says that there is one writer.
    pub single_writer: bool,
    /// Requests in flight while a state is restored, or while it is behind; 1 works on the node's thread alone.
    pub parallelism: usize,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            replication: Settings::default(),
            times: Times::USUAL,
            look_every: Duration::from_secs(1),
            fresh: false,
            single_writer: false,
            parallelism: crate::restore::PARALLELISM,
        }
    }
}

/// A node's state for people and metrics.
#[derive(Debug, Clone, Default)]
pub struct NodeStatus {
    /// See [`Role`].
    pub role: Role,
    /// The epoch that is owned.
    pub epoch: Option<Epoch>,
    /// The newest transaction of the chain that this node's file holds and that is durable.
    pub txid: Option<Txid>,
    /// That transaction's time.
    pub timestamp: Option<TimestampMs>,
    /// When the last look that reached the tip was sent (since boot); `None` before the first.
    pub looked: Option<Duration>,
    /// The replication's own state, while it owns or leaves.
    pub replication: Option<Status>,
    /// The counters of its replications before, and nothing else: each time it owns they begin anew.
    pub past: Status,
    /// Where commits of this node that did not become durable were kept, newest last.
    pub aside: Vec<PathBuf>,
    /// The last trouble, if it has not passed.
    pub trouble: Option<Arc<KeepError>>,
    /// Why it ended, if it did by an error.
    pub failure: Option<Arc<KeepError>>,
}

#[derive(Default)]
struct Inner {
    status: NodeStatus,
    /// Ownership is wanted until then (since boot).
    wanted: Option<Duration>,
    /// Looks that were asked for, and up to which they are done.
    looks_asked: u64,
    looks_done: u64,
    /// The last of those that an owner did, and that it could not do, for its store did not answer.
    looks_good: u64,
    looks_failed: u64,
    stop: Option<Duration>,
    current: Option<Current>,
    woken: bool,
}

impl Inner {
    /// No replicator is at work any more; what it counted is kept.
    fn let_go(&mut self) {
        if let Some(current) = self.current.take() {
            self.status.past = std::mem::take(&mut self.status.past).counting_on(&current.shared.status());
        }
    }
}

/// The replicator at work, as its handles see it.
#[derive(Clone)]
struct Current {
    shared: Arc<replicator::Shared>,
    poke: Arc<dyn Fn() + Send + Sync>,
}

/// Between a node and its handles.
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let value = change(&mut self.inner());
        self.changed.notify_all();
        value
    }

    /// Wakes the node's thread, wherever it waits.
    fn wake(&self) {
        let current = self.update(|inner| {
            inner.woken = true;
            inner.current.clone()
        });
        if let Some(current) = current {
            (current.poke)();
        }
    }

    fn wait(&self, limit: Duration) {
        let quiet = |inner: &mut Inner| !inner.woken;
        let waited = self.changed.wait_timeout_while(self.inner(), limit, quiet);
        waited.unwrap_or_else(PoisonError::into_inner).0.woken = false;
    }

    fn status(&self) -> NodeStatus {
        let inner = self.inner();
        let replication = inner.current.as_ref().map(|current| current.shared.status());
        let mut status = inner.status.clone();
        if let Some(replication) = &replication {
            status.txid = replication.durable.or(status.txid);
            status.epoch = replication.epoch;
        }
        NodeStatus { replication, ..status }
    }

    /// The newest transaction of the chain that the file holds.
    fn txid(&self, inner: &Inner) -> Option<Txid> {
        let durable = inner.current.as_ref().and_then(|current| current.shared.durable());
        durable.or(inner.status.txid)
    }

    /// See [`Node::holds`].
    fn holds(&self, inner: &Inner) -> bool {
        let Some(current) = &inner.current else { return false };
        matches!(inner.status.role, Role::Owner | Role::Leaving)
            && current.shared.alone().holds(self.clock.boot(), self.clock.wall())
    }

    fn ask_to_own(&self) {
        let until = self.clock.boot() + WISH;
        let wake = self.update(|inner| {
            // A wish that an owner kept would take the replica back from whoever is next.
            if inner.status.role == Role::Owner {
                return false;
            }
            inner.wanted.replace(until).is_none()
        });
        if wake {
            self.wake();
        }
    }

    fn ended(&self, error: Option<KeepError>) {
        self.update(|inner| {
            inner.let_go();
            inner.status.role = Role::Ended;
            if inner.status.failure.is_none() {
                inner.status.failure = error.map(Arc::new);
            }
        });
    }
}

/// A handle to a running node. Dropping it ends the node without bringing the tail up.
pub struct Node {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts the node's thread. The folder of the database must be there, unless the database is to be a fresh one.
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database, [`KeepError::Io`] when its folder is not there.
    pub fn start(
        env: Env,
        settings: NodeSettings,
        database: &Path,
        application: Arc<dyn Application>,
    ) -> Result<Self, KeepError> {
        let database = real_path(&env, settings.fresh, database)?;
        let mut machine = Machine::new(env, settings, &database, application)?;
        let shared = machine.shared();
        let guard = EndGuard(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("node".to_owned()).spawn(move || {
            let _guard = guard;
            loop {
                let step = machine.step();
                if step.ended {
                    break;
                }
                machine.wait(step.wait);
            }
        });
        let thread =
            thread.map_err(|error| KeepError::Io { what: "start a thread for", path: database, error })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How things are.
    pub fn status(&self) -> NodeStatus {
        self.shared.status()
    }

    /// Asks for ownership; returns at once. The wish lasts for [`WISH`] after the last time, so that nothing is claimed for
    /// somebody who has gone. Repeating it while it owns or is on its way costs nothing.
    pub fn ask_to_own(&self) {
        self.shared.ask_to_own();
    }

    /// Whether its file lacks nothing that was acknowledged elsewhere before this call: it owns, and whoever would write
    /// instead still has to wait for it. An owner that slept, or whose store does not answer, does not know it, until its
    /// next look.
    pub fn holds(&self) -> bool {
        self.shared.holds(&self.shared.inner())
    }

    /// Waits until the file has what was acknowledged elsewhere before this call: until a look that was sent after it has
    /// reached the tip, or has shown an owner that it still owns. Whoever [holds](Node::holds) is there. Returns the tip's
    /// transaction.
    ///
    /// # Errors
    /// [`KeepError::Timeout`], also earlier for an owner whose store has said that it does not answer; [`KeepError::Ended`].
    pub fn look(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        let ticket = {
            let mut inner = self.shared.inner();
            if self.shared.holds(&inner) {
                return Ok(self.shared.txid(&inner));
            }
            inner.looks_asked += 1;
            inner.looks_asked
        };
        self.shared.wake();
        let waits = |inner: &mut Inner| {
            inner.looks_done < ticket && inner.status.role != Role::Ended && !self.shared.holds(inner)
        };
        let (inner, waited) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.inner(), limit, waits)
            .unwrap_or_else(PoisonError::into_inner);
        let failed = inner.looks_good < ticket && ticket <= inner.looks_failed && !self.shared.holds(&inner);
        match (inner.status.role, waited.timed_out() || failed) {
            (Role::Ended, _) => Err(KeepError::Ended(inner.status.failure.clone())),
            (_, true) => Err(KeepError::Timeout(limit.as_secs_f64())),
            (_, false) => Ok(self.shared.txid(&inner)),
        }
    }

    /// Waits until everything that was committed before this call is in the replica; only while it owns or leaves.
    ///
    /// # Errors
    /// [`KeepError::Timeout`]; [`KeepError::NotOwner`], and then [`Application::left`] tells what became of it;
    /// [`KeepError::Ended`].
    pub fn sync(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        self.sync_while(limit, &|| true)
    }

    /// As [`Node::sync`], for as long as somebody wants to know: `wanted` is asked twice a second.
    ///
    /// # Errors
    /// See [`Node::sync`]; [`KeepError::Timeout`] also if it is wanted no more.
    pub fn sync_while(&self, limit: Duration, wanted: &dyn Fn() -> bool) -> Result<Option<Txid>, KeepError> {
        let (current, role, failure) = {
            let inner = self.shared.inner();
            (inner.current.clone(), inner.status.role, inner.status.failure.clone())
        };
        if role == Role::Ended {
            return Err(KeepError::Ended(failure));
        }
        let Some(current) = current else { return Err(KeepError::NotOwner) };
        let ticket = current.shared.ask();
        (current.poke)();
        match current.shared.wait_while(ticket, limit, wanted) {
            Err(KeepError::Ended(_)) => Err(KeepError::NotOwner),
            other => other,
        }
    }

    /// Tells an owner that its application is well, where [`Settings::open_when_confirmed`] makes it wait for that: from
    /// here on nobody who looks takes this epoch for a failed one.
    pub fn confirm(&self) {
        let current = self.shared.inner().current.clone();
        if let Some(current) = current {
            current.shared.confirm();
            (current.poke)();
        }
    }

    /// Begins to end: an owner stops writing, brings its tail up and closes its epoch, all within `limit`.
    pub fn begin_stop(&self, limit: Duration) {
        self.shared.update(|inner| inner.stop = Some(limit));
        self.shared.wake();
    }

    /// A wait for the end, for a thread of its own: returns once it has ended, with why if that was an error.
    pub fn when_ended(&self) -> impl FnOnce() -> Option<Arc<KeepError>> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let running = |inner: &mut Inner| inner.status.role != Role::Ended;
            let inner =
                shared.changed.wait_while(shared.inner(), running).unwrap_or_else(PoisonError::into_inner);
            inner.status.failure.clone()
        }
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.begin_stop(Duration::ZERO);
            let _ = thread.join();
        }
    }
}

/// SQLite puts the WAL beside the real file: symbolic links are followed here, or for a fresh one by its replicator.
fn real_path(env: &Env, fresh: bool, database: &Path) -> Result<PathBuf, KeepError> {
    match env.files.real_path(database) {
        Err(error) if fresh && error.kind() == io::ErrorKind::NotFound => Ok(database.to_owned()),
        found => found.map_err(|error| KeepError::Io {
            what: "look at",
            path: crate::files::parent(database).to_owned(),
            error,
        }),
    }
}

/// Marks the node as ended also when its thread panics.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ended(Some(KeepError::JobLost("node")));
        }
    }
}
