//! One database of a command (`-exec`). Holds what is known of it; decides nothing.

use super::replicate::ONE_TRY;
use crate::config::Database;
use litekeep::node::{Node, Role};
use litekeep::replicator::Health;
use litekeep_formats::Epoch;
use litekeep_store::Store;
use std::sync::Arc;
use std::time::Duration;

/// How long a database that the command has made may take until it is owned.
const UNOWNED: Duration = Duration::from_secs(10);

/// One database.
pub(super) struct Member {
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
}

impl Member {
    /// A database that is not there yet is for the command to make.
    pub(super) fn is_absent(&self) -> bool {
        self.node.status().replication.is_some_and(|status| status.health == Health::Waiting)
    }

    /// Whether it is there and was not owned for too long; `owned`: it is now.
    pub(super) fn is_stray(&mut self, now: Duration, owned: bool) -> bool {
        if owned || self.is_absent() {
            self.unowned = None;
            return false;
        }
        now - *self.unowned.get_or_insert(now) >= UNOWNED
    }

    /// It owns nothing, and once it was told to stop it never will.
    pub(super) fn only_looks(&self) -> bool {
        !matches!(self.node.status().role, Role::Owner | Role::Leaving)
    }

    /// The command has removed it, and that is no mistake.
    pub(super) fn is_gone(&self) -> bool {
        self.may_go && !self.database.path.exists()
    }

    /// Begins the last sync. Of a database that is gone only what was taken from it before can go up.
    pub(super) fn begin_stop(&self) {
        let limit = self.database.shutdown_timeout;
        let one_try = limit.is_zero() || self.is_gone();
        self.node.begin_stop(if one_try { ONE_TRY } else { limit });
    }
}
