//! One of several instances that share a replica: it follows, owns when asked to, hands over, and follows again.
//!
//! On a platform that starts the new container before it stops the old one, both are nodes. Whoever is asked to write
//! claims the next epoch, waits until the other has brought up what it had accepted, and goes on from there. Nothing is
//! written by a node that does not own; the application is told when it may, and when it must have stopped.

use crate::error::KeepError;
use crate::replicator::{Env, Status};
use crate::settings::Settings;
use litekeep_core::ownership::Times;
use litekeep_formats::{Epoch, TimestampMs, Txid};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    /// Somebody else has written. What was committed and not acknowledged is undone, and kept aside.
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
    /// Where commits of this node that did not become durable were kept, newest last.
    pub aside: Vec<PathBuf>,
    /// The last trouble, if it has not passed.
    pub trouble: Option<Arc<KeepError>>,
    /// Why it ended, if it did by an error.
    pub failure: Option<Arc<KeepError>>,
}

/// A handle to a running node.
pub struct Node {
    status: std::sync::Mutex<NodeStatus>,
}

impl Node {
    /// Starts the node's thread. The database must be there.
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database.
    pub fn start(
        env: Env,
        settings: NodeSettings,
        database: &Path,
        application: Arc<dyn Application>,
    ) -> Result<Self, KeepError> {
        drop((env, settings, database.to_owned(), application));
        Ok(Self { status: std::sync::Mutex::default() })
    }

    /// How things are.
    pub fn status(&self) -> NodeStatus {
        self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Asks for ownership; returns at once. Repeating it while it owns or is on its way costs nothing.
    pub fn ask_to_own(&self) {}

    /// Waits until a look that was sent after this call has reached the tip; an owner is always there. Returns the
    /// tip's transaction.
    ///
    /// # Errors
    /// [`KeepError::Timeout`], [`KeepError::Ended`].
    pub fn look(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        Err(KeepError::Timeout(limit.as_secs_f64()))
    }

    /// Waits until everything that was committed before this call is in the replica; only while it owns or leaves.
    ///
    /// # Errors
    /// [`KeepError::Timeout`], [`KeepError::NotOwner`], [`KeepError::Ended`].
    pub fn sync(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        Err(KeepError::Timeout(limit.as_secs_f64()))
    }

    /// Begins to end: an owner stops writing, brings its tail up and closes its epoch, all within `limit`.
    pub fn begin_stop(&self, limit: Duration) {
        let _ = limit;
    }

    /// A wait for the end, for a thread of its own: returns once it has ended, with why if that was an error.
    pub fn when_ended(&self) -> impl FnOnce() -> Option<Arc<KeepError>> + Send + 'static {
        || None
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        false
    }
}
