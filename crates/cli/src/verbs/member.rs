//! One database of a command (`-exec`). Holds what is known of it; decides nothing.

use super::replicate::ONE_TRY;
use crate::config::Database;
use crate::daemon::folder::is_gone;
use litekeep::node::{Node, Role};
use litekeep::replicator::Health;
use litekeep_formats::Epoch;
use litekeep_store::Store;
use std::sync::Arc;
use std::time::Duration;

/// How long a database that the command has made may take until it is owned.
const UNOWNED: Duration = Duration::from_secs(10);

/// Whether a database goes as it came. One that is being renamed, or put in another one's place, is there again at the next look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    Stays,
    /// It was not there at the last look.
    Missed,
    /// It is gone; what was taken from it has still to reach the replica.
    Gone,
    /// It was told to stop, and is nobody's business any more.
    Leaves,
}

/// One database.
pub(super) struct Member {
    /// Its number: no other ever has it.
    pub(super) index: usize,
    pub(super) node: Arc<Node>,
    pub(super) store: Arc<dyn Store>,
    pub(super) database: Database,
    /// It lies in a directory that is watched: it may go as it came.
    pub(super) may_go: bool,
    /// The last epoch that was owned.
    pub(super) epoch: Option<Epoch>,
    /// Since when it is there and nevertheless not owned, while the command runs.
    pub(super) unowned: Option<Duration>,
    pub(super) ended: bool,
    going: Going,
}

impl Member {
    /// Nothing is known of it yet.
    pub(super) fn new(
        index: usize,
        node: Arc<Node>,
        store: Arc<dyn Store>,
        database: Database,
        may_go: bool,
    ) -> Self {
        let (epoch, unowned, ended, going) = (None, None, false, Going::Stays);
        Self { index, node, store, database, may_go, epoch, unowned, ended, going }
    }

    /// Looks whether its file is still there. `true` once it is to be stopped: it was not there twice, and what was taken from
    /// it is in the replica.
    pub(super) fn is_to_leave(&mut self) -> bool {
        let path = &self.database.path;
        let before = self.going;
        self.going = match (before, is_gone(path)) {
            (Going::Leaves, _) => Going::Leaves,
            (_, false) => Going::Stays,
            (Going::Stays, true) => Going::Missed,
            (Going::Missed | Going::Gone, true) if self.has_all_in_the_replica() => Going::Leaves,
            (Going::Missed | Going::Gone, true) => Going::Gone,
        };
        match (before, self.going) {
            (Going::Missed, Going::Gone | Going::Leaves) => {
                tracing::info!(db = %path.display(), "the database is gone, letting it go");
            }
            (Going::Gone, Going::Stays) => {
                tracing::info!(db = %path.display(), "the database is there again");
            }
            _ => {}
        }
        before != Going::Leaves && self.going == Going::Leaves
    }

    fn has_all_in_the_replica(&self) -> bool {
        let status = self.node.status().replication;
        status.is_none_or(|status| status.built == status.durable && status.behind_since.is_none())
    }

    /// Whether it was let go.
    pub(super) fn leaves(&self) -> bool {
        self.going == Going::Leaves
    }

    /// A database that is not there yet is for the command to make.
    pub(super) fn is_absent(&self) -> bool {
        self.node.status().replication.is_some_and(|status| status.health == Health::Waiting)
    }

    /// Whether it is there and was not owned for too long; `owned`: it is now.
    pub(super) fn is_stray(&mut self, now: Duration, owned: bool) -> bool {
        if owned || self.is_absent() || self.leaves() {
            self.unowned = None;
            return false;
        }
        now - *self.unowned.get_or_insert(now) >= UNOWNED
    }

    /// It owns nothing, has claimed nothing and has nothing to keep aside; once it was told to stop it never will.
    pub(super) fn only_looks(&self) -> bool {
        matches!(self.node.status().role, Role::Starting | Role::Standby)
    }

    /// The command has removed it, and that is no mistake.
    pub(super) fn is_gone(&self) -> bool {
        self.may_go && is_gone(&self.database.path)
    }

    /// Begins the last sync. Of a database that is gone only what was taken from it before can go up.
    pub(super) fn begin_stop(&self) {
        let limit = self.database.shutdown_timeout;
        let one_try = limit.is_zero() || self.is_gone();
        self.node.begin_stop(if one_try { ONE_TRY } else { limit });
    }
}
