//! Databases of the fleet that somebody else replicates: the nodes beside a command. They are looked at and synced here,
//! and never started, stopped or kept.

use litekeep::error::KeepError;
use litekeep::node::{Node, NodeStatus, Role};
use litekeep::replicator::{Health, Status};
use litekeep_formats::Txid;
use std::sync::Weak;
use std::time::Duration;

/// A database that somebody else replicates.
pub(crate) trait Guest: Send + Sync {
    /// How it is.
    fn shown(&self) -> Shown;
    /// Waits until everything that was committed before is in the replica, for as long as that is wanted.
    fn sync_while(&self, limit: Duration, wanted: &dyn Fn() -> bool) -> Result<Option<Txid>, KeepError>;
}

/// How a database is doing that somebody else replicates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// The engine's own words.
    pub(crate) status: Status,
    /// It follows another instance, which has the replica to itself.
    pub(crate) standby: bool,
}

impl From<NodeStatus> for Shown {
    /// A node's replication or, while another instance owns, how far it follows. What was counted before goes on counting.
    fn from(node: NodeStatus) -> Self {
        let standby = node.replication.is_none();
        let followed = Status {
            health: if node.role == Role::Starting { Health::Starting } else { Health::Good },
            built: node.txid,
            durable: node.txid,
            ..Status::default()
        };
        let mut status = node.replication.unwrap_or(followed).counting_on(&node.past);
        if node.role == Role::Ended {
            status.health = Health::Ended;
        }
        status.trouble = status.trouble.or(node.trouble);
        status.failure = status.failure.or(node.failure);
        Self { status, standby }
    }
}

/// A node that is looked at. Its thread is joined when its owner lets it go, whoever looks.
pub(crate) struct Watched(pub(crate) Weak<Node>);

impl Guest for Watched {
    fn shown(&self) -> Shown {
        self.0.upgrade().map_or_else(Shown::default, |node| Shown::from(node.status()))
    }

    fn sync_while(&self, limit: Duration, wanted: &dyn Fn() -> bool) -> Result<Option<Txid>, KeepError> {
        self.0.upgrade().ok_or(KeepError::Ended(None))?.sync_while(limit, wanted)
    }
}
