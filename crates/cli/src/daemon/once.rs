//! `-once`: everything into the replicas as it is now, and perhaps a snapshot of each, and retention. Somebody waits for it: it ends within
//! about the time of one verb's tries where nothing gets through, and at once at a signal.

use super::book::Book;
use super::{Event, Once, Run};
use crate::trouble::{Exit, Trouble};
use crate::verbs::replicate::{ONE_TRY, keep_trouble, thread};
use crate::verbs::restore;
use litekeep::error::KeepError;
use litekeep::keeper::Keeper;
use litekeep::replicator::{Health, Status};
use litekeep_core::env::Clock;
use litekeep_formats::{Level, TxidRange};
use litekeep_store::{Entry, Key, Scope, Store};
use std::sync::Arc;
use std::time::Duration;

/// How long trouble without progress is borne.
const PATIENCE: Duration = Duration::from_secs(30);

impl Run {
    /// Waits until every database is in its replica as it is now.
    pub(super) fn sync_once(&mut self, once: Once) {
        self.wait_once(once);
        if self.trouble.is_none() {
            return;
        }
        // What did not get through so far is not tried for as long again; others may end in order.
        for member in self.fleet.members() {
            let well = member.keeper().is_some_and(|keeper| keeper.status().trouble.is_none());
            member.begin_stop(if well { member.last_sync().min(ONE_TRY) } else { Duration::ZERO });
        }
    }

    fn wait_once(&mut self, once: Once) {
        let members = self.fleet.members();
        let mut waiting = members.len();
        for member in members {
            // One that has ended already is told about below.
            let Some(keeper) = member.keeper() else { continue };
            let (tell, path) = (self.tell.clone(), member.database.path.clone());
            let (store, clock) = (Arc::clone(&member.store), Arc::clone(self.fleet.clock()));
            let deletes = member.database.settings.retention;
            if once.retention && !deletes {
                let db = path.display();
                tracing::warn!(%db, "retention is switched off (`retention: enabled`): nothing is deleted");
            }
            let book = Arc::clone(&member.book);
            let sync = move || {
                let result = synced(&keeper, &book)
                    .map_err(|error| match keeper.status().health {
                        Health::Waiting => {
                            Trouble::new(format!("there is no database at {}", path.display())).hint(
                                "check the path; `-restore-if-db-not-exists` restores one that has a replica",
                            )
                        }
                        _ => keep_trouble(&format!("can't sync {}", path.display()), &error),
                    })
                    .and_then(
                        |()| if once.snapshot { snapshotted(&keeper, &*store, &*clock) } else { Ok(()) },
                    )
                    .and_then(|()| if once.retention { enforced(&keeper, &*clock, deletes) } else { Ok(()) });
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
                    self.heard();
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
fn synced(keeper: &Keeper, book: &Book) -> Result<(), Arc<KeepError>> {
    const LOOK: Duration = Duration::from_secs(1);
    let mut patience = Patience::default();
    loop {
        let before = keeper.status();
        match keeper.sync(LOOK) {
            Ok(_) => return keeper.status().failure.map_or(Ok(()), Err),
            Err(KeepError::Timeout(_)) => {}
            Err(KeepError::Ended(Some(failure))) => return Err(failure),
            Err(error) => return Err(Arc::new(error)),
        }
        let now = keeper.status();
        patience.look(&before, &now, LOOK, book.is_putting());
        if now.health == Health::Waiting || patience.is_over() {
            let timeout = Arc::new(KeepError::Timeout(patience.borne.max(LOOK).as_secs_f64()));
            return Err(now.trouble.or(patience.last).unwrap_or(timeout));
        }
    }
}

/// How long trouble was borne, without progress between.
#[derive(Default)]
struct Patience {
    borne: Duration,
    last: Option<Arc<KeepError>>,
}

impl Patience {
    /// Takes up what was seen at the two ends of a wait. While an object is being written, which takes as long as the line
    /// does, only new trouble counts: the store gives a write up by itself, and its error says after what time.
    fn look(&mut self, before: &Status, now: &Status, waited: Duration, putting: bool) {
        if now.built != before.built || now.durable != before.durable {
            *self = Self::default();
            return;
        }
        let met = now.troubles != before.troubles;
        if !met && (putting || now.trouble.is_none()) {
            return;
        }
        self.borne += waited;
        let Some(trouble) = now.trouble.as_ref().filter(|_| met) else { return };
        // The store has borne it for a while before it was told.
        if let KeepError::Store(error) = &**trouble {
            self.borne = self.borne.max(error.elapsed);
        }
        self.last = Some(Arc::clone(trouble));
    }

    fn is_over(&self) -> bool {
        self.borne >= PATIENCE
    }
}

/// Waits until the replica holds a snapshot of what is its newest transaction now: looked for where it has to be. What is
/// written meanwhile is not waited for, or this would never end beside somebody who writes.
fn snapshotted(keeper: &Keeper, store: &dyn Store, clock: &dyn Clock) -> Result<(), Trouble> {
    let Some(newest) = keeper.status().durable else { return Ok(()) };
    keeper.snapshot();
    until(keeper, clock, "the snapshot was not taken", |_| {
        let snapshots = store.list(&Scope::Level(Level::SNAPSHOTS)).map_err(|error| {
            Trouble::new("can't look for the snapshot")
                .because(&error)
                .about_store(&error)
                .exit(restore::UNREACHABLE)
        })?;
        let covers =
            |entry: &Entry| matches!(entry.key, Key::Ltx(_, range) if TxidRange::max(range) >= newest);
        Ok(snapshots.iter().any(covers))
    })
}

/// Waits until the chores that are due now are done, and what retention lets go is deleted, where it deletes.
fn enforced(keeper: &Keeper, clock: &dyn Clock, deletes: bool) -> Result<(), Trouble> {
    if keeper.status().durable.is_none() {
        return Ok(());
    }
    keeper.enforce_retention();
    until(keeper, clock, "retention was not enforced", |status| match &status.enforced {
        Some(Ok(deleted)) => {
            if deletes {
                tracing::info!(db = %keeper.database().display(), deleted, "retention enforced");
            }
            Ok(true)
        }
        Some(Err(error)) => Err(keep_trouble("retention was not enforced", error)),
        None => Ok(false),
    })
}

/// Waits until something is done, for as long as all is well but for a while.
fn until(
    keeper: &Keeper,
    clock: &dyn Clock,
    failure: &str,
    mut is_done: impl FnMut(&Status) -> Result<bool, Trouble>,
) -> Result<(), Trouble> {
    const LOOK: Duration = Duration::from_millis(200);
    let mut waited = Duration::ZERO;
    loop {
        let status = keeper.status();
        if is_done(&status)? {
            return Ok(());
        }
        let stuck = status.health != Health::Good;
        waited = if stuck { waited + LOOK } else { Duration::ZERO };
        if status.health == Health::Ended || waited >= PATIENCE {
            return Err(Trouble::new(failure)
                .hint("the log says what was in the way; run it again")
                .exit(Exit::NOT_SYNCED));
        }
        clock.sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::Txid;
    use litekeep_store::{ErrorKind, Failure, StoreError};

    fn trouble(elapsed: u64) -> Option<Arc<KeepError>> {
        let error =
            StoreError::new(ErrorKind::Retry, "list", "s3://b/x", Failure::Text("refused".to_owned()));
        Some(Arc::new(StoreError { elapsed: Duration::from_secs(elapsed), ..error }.into()))
    }

    #[test]
    fn trouble_without_progress_is_borne_for_about_as_long_as_one_verb_is_tried() {
        let second = Duration::from_secs(1);
        let quiet = Status::default();
        let after = |tried, troubles| Status { trouble: trouble(tried), troubles, ..Status::default() };
        // How long the store had tried when it gave up, and how many looks come after that.
        for (tried, looks) in [(0, 30), (28, 3), (31, 1)] {
            let mut patience = Patience::default();
            for _ in 0..100 {
                patience.look(&quiet, &quiet, second, false);
            }
            assert!(!patience.is_over(), "a start may take its time");
            patience.look(&quiet, &after(tried, 1), second, false);
            for _ in 0..100 {
                patience.look(&after(tried, 1), &after(tried, 1), second, true);
            }
            assert!(tried > 30 || !patience.is_over(), "a write may take its time, whatever was before");
            let mut seen = 1;
            while !patience.is_over() {
                patience.look(&after(tried, 1), &after(tried, 1), second, false);
                seen += 1;
            }
            assert_eq!(seen, looks, "{tried}");
            patience.look(&quiet, &Status { durable: Some(Txid::FIRST), ..after(tried, 2) }, second, false);
            assert!(!patience.is_over(), "it goes on");
        }
        // It flickers where what is asked first succeeds, and then the database cannot be opened: each try counts.
        let mut patience = Patience::default();
        for troubles in 0..30 {
            patience.look(
                &after(0, troubles),
                &Status { troubles: troubles + 1, ..Status::default() },
                second,
                true,
            );
        }
        assert!(patience.is_over());
    }
}
