//! `-once`: everything into the replicas as it is now, and perhaps a snapshot of each.

use super::{Event, Run};
use crate::trouble::{Exit, Trouble};
use crate::verbs::replicate::{keep_trouble, thread};
use crate::verbs::restore;
use litekeep::error::KeepError;
use litekeep::keeper::Keeper;
use litekeep::replicator::Health;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, TxidRange};
use litekeep_store::{Entry, Key, Scope, Store};
use std::sync::Arc;
use std::time::Duration;

/// How long trouble without progress is borne.
const PATIENCE: Duration = Duration::from_secs(30);

impl Run {
    /// Waits until every database is in its replica as it is now.
    pub(super) fn sync_once(&mut self, snapshot: bool) {
        let members = self.fleet.members();
        let mut waiting = members.len();
        for member in members {
            // One that has ended already is told about below.
            let Some(keeper) = member.keeper() else { continue };
            let (tell, path) = (self.tell.clone(), member.database.path.clone());
            let (store, clock) = (Arc::clone(&member.store), Arc::clone(self.fleet.clock()));
            let sync = move || {
                let result = synced(&keeper)
                    .map_err(|error| match keeper.status().health {
                        Health::Waiting => {
                            Trouble::new(format!("there is no database at {}", path.display())).hint(
                                "check the path; `-restore-if-db-not-exists` restores one that has a replica",
                            )
                        }
                        _ => keep_trouble(&format!("can't sync {}", path.display()), &error),
                    })
                    .and_then(|()| if snapshot { snapshotted(&keeper, &*store, &*clock) } else { Ok(()) });
                drop(keeper);
                drop(tell.send(Event::Synced(result)));
            };
            if let Err(trouble) = thread("sync", sync) {
                return self.blame(trouble);
            }
        }
        while waiting > 0 {
            let Ok(event) = self.told.recv() else { return };
            match event {
                Event::Signal(_) => {
                    return self.blame(
                        Trouble::new("a signal came before the sync was done")
                            .hint("run it again: it goes on from there")
                            .exit(Exit::NOT_SYNCED),
                    );
                }
                Event::Synced(Ok(())) => waiting -= 1,
                Event::Synced(Err(trouble)) => return self.blame(trouble),
                Event::Ended(ended) => {
                    self.ended(&ended);
                    return;
                }
            }
        }
    }
}

/// Waits until all is in the replica; trouble without progress is borne for a while.
fn synced(keeper: &Keeper) -> Result<(), Arc<KeepError>> {
    const LOOK: Duration = Duration::from_secs(1);
    let mut borne = Duration::ZERO;
    loop {
        let before = keeper.status();
        match keeper.sync(LOOK) {
            Ok(_) => return keeper.status().failure.map_or(Ok(()), Err),
            Err(KeepError::Timeout(_)) => {}
            Err(KeepError::Ended(Some(failure))) => return Err(failure),
            Err(error) => return Err(Arc::new(error)),
        }
        let now = keeper.status();
        let moving = now.built != before.built || now.durable != before.durable;
        let stuck = matches!(now.health, Health::Troubled | Health::Waiting);
        borne = if stuck && !moving { borne + LOOK } else { Duration::ZERO };
        if now.health == Health::Waiting || borne >= PATIENCE {
            let timeout = Arc::new(KeepError::Timeout(borne.max(LOOK).as_secs_f64()));
            return Err(now.trouble.unwrap_or(timeout));
        }
    }
}

/// Waits until the replica holds a snapshot of its newest transaction: looked for where it has to be.
fn snapshotted(keeper: &Keeper, store: &dyn Store, clock: &dyn Clock) -> Result<(), Trouble> {
    const LOOK: Duration = Duration::from_millis(200);
    keeper.snapshot();
    let mut waited = Duration::ZERO;
    loop {
        let status = keeper.status();
        let Some(newest) = status.durable else { return Ok(()) };
        let snapshots = store.list(&Scope::Level(Level::SNAPSHOTS)).map_err(|error| {
            Trouble::new("can't look for the snapshot")
                .because(&error)
                .about_store(error.kind())
                .exit(restore::UNREACHABLE)
        })?;
        let covers =
            |entry: &Entry| matches!(entry.key, Key::Ltx(_, range) if TxidRange::max(range) >= newest);
        if snapshots.iter().any(covers) {
            return Ok(());
        }
        let stuck = status.health != Health::Good;
        waited = if stuck { waited + LOOK } else { Duration::ZERO };
        if status.health == Health::Ended || waited >= PATIENCE {
            return Err(Trouble::new("the snapshot was not taken")
                .hint("the log says what was in the way; run it again")
                .exit(Exit::NOT_SYNCED));
        }
        clock.sleep(LOOK);
    }
}
