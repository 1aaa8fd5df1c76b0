//! A node that owns: the application writes, until somebody claims or an end is asked for; and the way back of one that lost.

use super::machine::{BUSY, Machine, Owning, Stage};
use super::{Current, Left, Role};
use crate::error::KeepError;
use crate::follow::Follower;
use crate::replicator::{Entry, Replicator};
use crate::settings::Settings;
use crate::wake::Watch;
use std::sync::Arc;
use std::time::Duration;

/// How long an owner that hands over tries to bring its tail up: until somebody fences it, which is much sooner.
const UNTIL_FENCED: Duration = Duration::from_secs(24 * 60 * 60);

impl Machine {
    pub(super) fn replicate(
        &mut self,
        entry: Entry,
        from_chain: bool,
    ) -> Result<(Stage, Duration), KeepError> {
        let settings: Settings = self.settings.replication.clone();
        let replicator = Replicator::enter(self.env.clone(), settings, &self.database, entry);
        Ok((self.owning(replicator, from_chain), Duration::ZERO))
    }

    /// Replicates a file that does not come from the chain, or is past it: the replicator compares, and claims by itself.
    pub(super) fn begin_alone(&mut self, from_chain: bool) -> Result<Stage, KeepError> {
        self.role(Role::Acquiring);
        let settings: Settings = self.settings.replication.clone();
        let replicator = Replicator::open(self.env.clone(), settings, &self.database)?;
        Ok(self.owning(replicator, from_chain))
    }

    pub(super) fn owning(&mut self, mut replicator: Replicator, from_chain: bool) -> Stage {
        let poke: Arc<dyn Fn() + Send + Sync> = Arc::new(replicator.poker());
        let current = Current { shared: replicator.shared(), poke };
        self.shared.update(|inner| inner.current = Some(current));
        let watch = match &self.env.vfs {
            None => Watch::start()
                .inspect_err(|error| tracing::warn!(%error, "no file notification here: polling"))
                .ok(),
            // A simulated disk notifies by itself.
            Some(_) => None,
        };
        replicator.watch_with(watch);
        let owning = Owning { replicator, writing: false, leaving: false, from_chain, look: None };
        Stage::Owning(Box::new(owning))
    }

    /// An owner's step.
    pub(super) fn own(&mut self, mut owning: Box<Owning>) -> Result<(Stage, Duration), KeepError> {
        if let Some(limit) = self.shared.update(|inner| inner.stop.take()) {
            self.ending = true;
            self.leave(&mut owning, limit);
        }
        self.begin_look(&mut owning);
        let step = owning.replicator.step();
        if step.ended {
            return self.owned(owning);
        }
        self.end_look(&mut owning);
        if owning.replicator.successor().is_some() && !owning.leaving {
            self.leave(&mut owning, UNTIL_FENCED);
            return Ok((Stage::Owning(owning), Duration::ZERO));
        }
        if owning.replicator.is_running() && !owning.writing && !owning.leaving {
            self.begin_writing(&mut owning)?;
            return Ok((Stage::Owning(owning), Duration::ZERO));
        }
        let next_look = owning.look.is_none() && self.is_asked_to_look();
        let wait = if next_look { Duration::ZERO } else { step.wait };
        Ok((Stage::Owning(owning), wait))
    }

    /// Somebody asks whether the file still has everything: that takes a look for a claim above ours.
    fn begin_look(&self, owning: &mut Owning) {
        if owning.look.is_none() && self.is_asked_to_look() {
            owning.look = Some((self.shared.inner().looks_asked, self.env.clock.boot()));
            owning.replicator.want_look();
        }
    }

    /// A look that finds a claim answers nobody: they are served once this is a standby that has reached the tip.
    fn end_look(&self, owning: &mut Owning) {
        let Some((asked, since)) = owning.look else { return };
        let Some(found_none) = owning.replicator.looked_since(since) else { return };
        owning.look = None;
        self.shared.update(|inner| {
            inner.looks_done = asked;
            let told = if found_none { &mut inner.looks_good } else { &mut inner.looks_failed };
            *told = asked;
        });
    }

    pub(super) fn begin_writing(&mut self, owning: &mut Owning) -> Result<(), KeepError> {
        let epoch = owning.replicator.status().epoch;
        owning.writing = true;
        self.shared.update(|inner| {
            inner.status.epoch = epoch;
            inner.wanted = None;
        });
        match self.application.start_writing(epoch) {
            Ok(()) => {
                self.role(Role::Owner);
                Ok(())
            }
            Err(why) => {
                self.shared.update(|inner| {
                    inner.status.failure = Some(Arc::new(KeepError::Application(why)));
                });
                self.ending = true;
                self.leave(owning, self.settings.times.hand_over);
                Ok(())
            }
        }
    }

    pub(super) fn leave(&mut self, owning: &mut Owning, limit: Duration) {
        if !owning.leaving {
            owning.leaving = true;
            // A wish from before would take the replica back at once from whoever is next.
            self.shared.update(|inner| inner.wanted = None);
            self.role(Role::Leaving);
            self.application.stop_writing();
        }
        owning.replicator.stop(limit);
    }

    /// The replicator has ended.
    pub(super) fn owned(&mut self, owning: Box<Owning>) -> Result<(Stage, Duration), KeepError> {
        let status = owning.replicator.status();
        let (from_chain, writing) = (owning.from_chain || owning.writing, owning.writing);
        // Its folder may have come after this node.
        self.database = owning.replicator.database().to_owned();
        if !owning.leaving && writing {
            self.shared.update(|inner| inner.wanted = None);
            self.application.stop_writing();
        }
        drop(owning);
        self.shared.update(|inner| {
            inner.let_go();
            inner.status.epoch = None;
            inner.status.txid = status.durable.or(inner.status.txid);
        });
        let lost = status.failure.as_ref().is_some_and(|error| {
            matches!(**error, KeepError::Fenced { .. })
                || (from_chain && matches!(**error, KeepError::Beside { .. } | KeepError::Behind { .. }))
        });
        if writing {
            let how = if status.failure.is_none() { Left::Closed(status.durable) } else { Left::Lost };
            self.application.left(how);
        }
        match status.failure {
            Some(error) if !lost || self.ending => {
                self.stage = Stage::Ended;
                self.shared.update(|inner| {
                    inner.status.failure.get_or_insert(error);
                });
                self.end(None);
                Ok((Stage::Ended, Duration::MAX))
            }
            None if self.ending => {
                self.end(None);
                Ok((Stage::Ended, Duration::MAX))
            }
            failure => {
                self.stood = true;
                match &failure {
                    Some(error) => {
                        tracing::warn!(db = %self.database.display(), %error, "the replica was lost to another instance");
                        self.role(Role::Returning);
                    }
                    // Its file is the chain's end as it was just now.
                    None => self.role(Role::Standby),
                }
                self.lost = failure;
                Ok((Stage::Open(Duration::ZERO), Duration::ZERO))
            }
        }
    }

    /// What was lost is kept aside even now, if that can be done at once; else the end says why it is not in order.
    pub(super) fn end_on_the_way_back(
        &mut self,
        follower: &mut Follower,
    ) -> Result<(Stage, Duration), KeepError> {
        let lost = self.lost.take();
        let failure = follower.bring_back().err().map(|error| lost.unwrap_or_else(|| Arc::new(error)));
        self.shared.update(|inner| inner.status.failure = failure);
        self.end(None);
        Ok((Stage::Ended, Duration::MAX))
    }

    /// Back to the chain, with what it lacks kept aside.
    pub(super) fn come_back(&mut self, mut follower: Box<Follower>) -> Result<(Stage, Duration), KeepError> {
        if self.stop_asked() {
            return self.end_on_the_way_back(&mut follower);
        }
        let now = self.env.clock.boot();
        if now < self.not_before {
            return Ok((Stage::Returning(follower), self.not_before - now));
        }
        match follower.bring_back() {
            Ok(aside) => {
                self.went_well();
                if let Some(aside) = aside {
                    self.shared.update(|inner| inner.status.aside.push(aside));
                }
                (self.target, self.standing, self.lost) = (None, false, None);
                Ok((Stage::Following(follower), Duration::ZERO))
            }
            Err(KeepError::Sqlite { error, .. }) if crate::sqlite::is_busy(&error) => {
                Ok((Stage::Returning(follower), BUSY))
            }
            // Whoever claimed above us has not written anything yet either: the file may still be the one that begins. If
            // it is not, it comes back here, and is kept aside.
            Err(KeepError::Emptied { .. }) => {
                drop(follower);
                Ok((self.begin_alone(true)?, Duration::ZERO))
            }
            Err(error) => {
                let pause = self.pause(error)?;
                Ok((Stage::Returning(follower), pause))
            }
        }
    }
}
