//! A node on its way to an epoch: what `core` asks for is asked of the store, one question at a time, while the follower
//! keeps the file at the chain's end.

use super::Role;
use super::machine::{Looked, Machine, Stage};
use crate::error::KeepError;
use crate::follow::Follower;
use crate::local::State;
use crate::ownership::{self, Author, Claim};
use crate::replicator::{Entry, closed_without};
use crate::slot::{self, SlotHead};
use litekeep_core::ownership::{Acquire, Do, Heard, Moment, Tenancy};
use litekeep_formats::ltx::{Marks, WalSpan};
use litekeep_formats::{Epoch, Level, Txid, TxidRange};
use litekeep_store::{Created, EpochRecord, Key};
use std::time::Duration;

impl Machine {
    /// One question on the way to an epoch.
    pub(super) fn acquire(
        &mut self,
        follower: Box<Follower>,
        mut acquire: Box<Acquire>,
    ) -> Result<(Stage, Duration), KeepError> {
        let now = self.now();
        if now.boot < self.not_before {
            return Ok((Stage::Acquiring(follower, acquire), self.not_before - now.boot));
        }
        if self.stop_asked() || (acquire.epoch().is_none() && !self.wishes_to_own()) {
            self.close_unopened(acquire.epoch().filter(|_| !acquire.is_fencing()), &follower);
            self.role(Role::Standby);
            return Ok((Stage::Following(follower), Duration::ZERO));
        }
        let heard = match acquire.next(&now) {
            Do::CatchUp => return self.catch_up(follower, acquire, now),
            // Whoever reads meanwhile gets his look.
            Do::Wait(_) if self.is_asked_to_look() => return self.catch_up(follower, acquire, now),
            Do::Wait(wait) => return Ok((Stage::Acquiring(follower, acquire), wait)),
            Do::Own(epoch, proof) => {
                self.doubted = false;
                return self.enter(follower, acquire, Tenancy::new(self.settings.times, epoch, proof));
            }
            Do::GiveUp { ours, theirs } => {
                tracing::info!(?ours, ?theirs, "somebody else has claimed; following");
                self.close_unopened(ours, &follower);
                self.role(Role::Standby);
                return Ok((Stage::Following(follower), Duration::ZERO));
            }
            Do::Damaged(epoch) => {
                return Err(KeepError::EpochDamaged { epoch, replica: self.env.store.location() });
            }
            // A listing that lags hides the files that a sleeper's next slots went into: it is asked once more.
            Do::Lost { .. } if !std::mem::replace(&mut self.doubted, true) => {
                let mut follower = follower;
                follower.doubt_tip();
                self.close_unopened(acquire.epoch(), &follower);
                self.role(Role::Standby);
                return Ok((Stage::Following(follower), Duration::ZERO));
            }
            Do::Lost { epoch, closed, tip } => {
                return Err(closed_without(&*self.env.store, epoch, closed, tip));
            }
            question => self.ask_store(question, &acquire, &follower),
        };
        match heard {
            Ok(Some(heard)) => {
                self.went_well();
                acquire.hear(heard, now, &self.now());
                Ok((Stage::Acquiring(follower, acquire), Duration::ZERO))
            }
            // Nothing is exclusive here, and the user said that nobody else writes.
            Ok(None) => self.enter_unprotected(*follower),
            Err(error) => {
                let pause = self.pause(error)?;
                Ok((Stage::Acquiring(follower, acquire), pause))
            }
        }
    }

    /// Puts a question to the store; `None` when it turns out to create nothing exclusively, and that is accepted.
    pub(super) fn ask_store(
        &self,
        question: Do,
        acquire: &Acquire,
        follower: &Follower,
    ) -> Result<Option<Heard>, KeepError> {
        let store = &*self.env.store;
        let heard = match question {
            Do::ListEpochs => {
                let sealed = follower.epoch();
                Heard::Epochs(ownership::list_epochs(store, sealed, follower.local().former())?)
            }
            Do::Claim(epoch) => {
                let io = |error| KeepError::Io {
                    what: "note the owner beside",
                    path: self.database.clone(),
                    error,
                };
                follower.local().set_owner(&self.owner).map_err(io)?;
                follower.local().begin_work().map_err(io)?;
                let from = follower.tip().map(|state| state.txid);
                match ownership::claim(store, epoch, &self.author(), from, self.env.clock.wall())? {
                    Claim::Made => Heard::Claimed(true),
                    Claim::Taken => Heard::Claimed(false),
                    Claim::NoCreateOnly if self.settings.single_writer => return Ok(None),
                    Claim::NoCreateOnly => return Err(KeepError::NoCreateOnly(store.location())),
                }
            }
            Do::Prove(n) => {
                let epoch = acquire.epoch().unwrap_or(Epoch::FIRST);
                Heard::Looked(ownership::look(store, epoch, n)?)
            }
            Do::Fence(epoch, n) => Heard::Fenced(self.fence(epoch, n, follower)?),
            _ => return Ok(None), // the others are no questions
        };
        Ok(Some(heard))
    }

    pub(super) fn catch_up(
        &mut self,
        mut follower: Box<Follower>,
        mut acquire: Box<Acquire>,
        now: Moment,
    ) -> Result<(Stage, Duration), KeepError> {
        let wait = match self.look(&mut follower)? {
            Looked::Further => Duration::ZERO,
            Looked::Later(wait) => wait,
            Looked::AtTip => {
                // The names that an unfinished image took are the chain's as well.
                let tip = follower.chain_end();
                acquire.hear(Heard::CaughtUp { tip, epoch: follower.epoch() }, now, &self.now());
                Duration::ZERO
            }
            Looked::Ahead => {
                return Ok((Stage::Returning(follower), Duration::ZERO));
            }
        };
        Ok((Stage::Acquiring(follower, acquire), wait))
    }

    /// Creates the slot without pages that keeps late ones out. `false`: something late stands there.
    pub(super) fn fence(&self, epoch: Epoch, n: Txid, follower: &Follower) -> Result<bool, KeepError> {
        let Some(tip) = follower.tip() else { return Err(KeepError::JobLost("fence")) };
        let before = follower.past_tip().map_or(tip.slot, |last| Some(last.slot));
        let head = SlotHead { predecessor: before, ..fence_head(tip, epoch, n) };
        let (bytes, file) = slot::empty(head, self.settings.replication.encoding)
            .map_err(|error| KeepError::build(n, &error))?;
        let (key, size) = (Key::Ltx(Level::SLOTS, TxidRange::single(n)), bytes.len() as u64);
        match self.env.store.create(&key, bytes, head.timestamp)? {
            Created::Yes => Ok(true),
            Created::Exists => Ok(ownership::is_ours(&*self.env.store, n, size, file)?),
        }
    }

    fn author(&self) -> Author {
        Author { id: self.owner.clone(), durability: self.settings.replication.durability }
    }

    /// A claim that never opened closes with what it had reached, so that nobody waits for it.
    pub(super) fn close_unopened(&self, ours: Option<Epoch>, follower: &Follower) {
        // A file that was not found on the chain yet may hold what the chain does not.
        let (Some(epoch), Some(tip), true) = (ours, follower.tip(), self.standing) else { return };
        let (store, now) = (&*self.env.store, self.env.clock.wall());
        let written =
            ownership::write_record(store, epoch, EpochRecord::Closed, &self.author(), tip.txid, now);
        if let Err(error) = written {
            tracing::warn!(%error, "the closing record of a claim could not be written; the next one waits for it");
        }
    }

    /// The epoch is ours: the follower's last look may lie before the fence, so it goes on to that first.
    pub(super) fn enter(
        &mut self,
        mut follower: Box<Follower>,
        acquire: Box<Acquire>,
        tenancy: Tenancy,
    ) -> Result<(Stage, Duration), KeepError> {
        let _ = follower.step(); // if it does not come to the fence, the replicator brings the file there
        match follower.settle() {
            Ok(()) => {}
            // Changes of its own have come to light, as a step may find them too.
            Err(KeepError::Beside { .. }) => return Ok((Stage::Returning(follower), Duration::ZERO)),
            Err(error) => {
                let pause = self.pause(error)?;
                return Ok((Stage::Acquiring(follower, acquire), pause));
            }
        }
        let opened = follower.epoch() == Some(tenancy.epoch());
        let local = follower.settled();
        let entry = Entry { local, owner: self.owner.clone(), tenancy: Some(tenancy), opened };
        self.replicate(entry, true)
    }

    pub(super) fn enter_unprotected(&mut self, follower: Follower) -> Result<(Stage, Duration), KeepError> {
        let entry =
            Entry { local: follower.into_local()?, owner: self.owner.clone(), tenancy: None, opened: false };
        self.replicate(entry, true)
    }
}

/// The same bytes at each try: only so is an answer that was lost known again.
fn fence_head(tip: &State, epoch: Epoch, txid: Txid) -> SlotHead {
    SlotHead {
        txid,
        epoch: Some(epoch),
        page_size: tip.page_size,
        commit: tip.commit,
        timestamp: tip.timestamp,
        predecessor: tip.slot,
        database: tip.database,
        marks: Marks::NONE,
        wal: WalSpan::default(),
    }
}
