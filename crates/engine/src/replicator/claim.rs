//! From a file that stands on the chain to an epoch that is owned: what `core` asks for is done here, one job at a time.
//!
//! An application may be writing all the while; so whenever the chain turns out to have gone on, the file is compared with
//! it anew, as at the start.

use super::mend::Oldest;
use super::put::{PutOutcome, put};
use super::slots::Staged;
use super::{Phase, Replicator, Report};
use crate::error::KeepError;
use crate::local::State;
use crate::noted;
use crate::ownership::{self, Claim, moment};
use crate::slot::{SlotHead, SlotWriter};
use litekeep_core::assess::{BreakReason, Position};
use litekeep_core::lineage::{BesideReason, RemoteTip};
use litekeep_core::ownership::{Acquire, Alone, Do, Epochs, Heard, Look, Moment, Tenancy};
use litekeep_formats::ltx::{Marks, WalSpan};
use litekeep_formats::{Epoch, Txid};
use litekeep_store::{EpochRecord, ErrorKind, Failure, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a job found out on the way.
#[derive(Debug)]
pub(crate) enum Found {
    Epochs(Epochs),
    Claim(Claim),
    Look(Look),
    Fence(PutOutcome),
}

/// Owning, and the way there.
#[derive(Debug, Default)]
pub(super) struct Term {
    /// Under way; kept while the file is compared anew.
    acquire: Option<Acquire>,
    /// Somebody else's claim was waited for since the file was compared, and nothing is claimed yet.
    waited: bool,
    /// The epoch was taken by whoever began this replicator; whether a slot of it is there.
    pub(super) entered: Option<(Option<Tenancy>, bool)>,
    /// While it is owned, and the store creates only.
    pub(super) tenancy: Option<Tenancy>,
    /// The oldest staged slot was put as the fence.
    fenced: bool,
    /// What the state was before the fence that is on its way; and its slot.
    fence: Option<(Box<State>, Txid)>,
    /// Owned without a fence: as long as no slot of ours is there, a late one of another may be instead.
    pub(super) unfenced: bool,
    /// The epoch could be opened, and the record could not be written; try again then.
    pub(super) open_failed: bool,
    pub(super) open_not_before: Duration,
    /// A claim above ours was seen: hand over.
    pub(super) leaving: bool,
    pub(super) looking: super::tenancy::Looking,
}

impl Replicator {
    /// The file stands at the chain's end, as it was looked at: on to an epoch.
    pub(super) fn claim(&mut self) -> Result<(), KeepError> {
        self.pass_unfinished()?;
        if let Some((tenancy, opened)) = self.term.entered.take() {
            return self.enter_epoch(tenancy, opened);
        }
        let now = self.moment();
        let stand = match (self.staged.front(), &self.state) {
            (Some(slot), _) => Txid::new(slot.built.txid.get() - 1),
            (None, Some(state)) => Some(state.txid),
            (None, None) => self.chain.durable,
        };
        let epoch = self.tip.and_then(|tip| tip.epoch);
        let times = self.settings.times;
        let acquire = self.term.acquire.get_or_insert_with(|| Acquire::new(times, now.boot));
        acquire.hear(Heard::CaughtUp { tip: stand, epoch }, now, &now);
        self.term.waited = false;
        self.phase = Phase::Claiming(Duration::ZERO);
        Ok(())
    }

    /// At the end: a claim that will not open closes, so that nobody waits for it. If this process ends first, it is waited for.
    pub(super) fn close_unopened(&self) {
        let claimed = self.term.acquire.as_ref().filter(|acquire| !acquire.is_fencing());
        let claimed = claimed.and_then(Acquire::epoch);
        if let Some((epoch, tip)) = claimed.zip(self.tip) {
            self.write_epoch_record("close epoch", epoch, EpochRecord::Closed, tip.txid);
        }
    }

    /// An image that was announced and not finished took a name behind the tip, or was never put: numbers go on behind the
    /// last name that is taken. What follows is a whole image, since what was announced may yet come, and nothing may be
    /// laid over that.
    fn pass_unfinished(&mut self) -> Result<(), KeepError> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let (txid, slot) = match (self.chain.unfinished, self.tip) {
            (Some(last), _) => (last.txid, Some(last.slot)),
            (None, Some(tip)) if self.lost_its_stream(tip.txid)? => (tip.txid, tip.slot),
            // The record is of a slot that was let go, and of how many pages there were behind that.
            (None, Some(tip))
                if tip.txid == state.txid
                    && (tip.commit, tip.page_size) != (state.commit, state.page_size) =>
            {
                (tip.txid, tip.slot)
            }
            _ => return Ok(()),
        };
        // Ours are behind the last one, if it was us who announced.
        if self.staged.front().is_some_and(|slot| slot.built.txid <= txid) {
            return Err(self.beside(self.tip, BesideReason::OtherSlot));
        }
        let pages = |tip: RemoteTip| (tip.commit, tip.page_size) == (state.commit, state.page_size);
        if (state.txid, state.slot, state.database) == (txid, slot, None) && self.tip.is_none_or(pages) {
            self.broken = Some(BreakReason::NoPosition);
            return Ok(());
        }
        tracing::warn!(db = %self.path.display(), at = %state.txid, behind = %txid,
            "what was built behind the replica's last transaction is not to be had any more; a whole image goes up");
        let is_tip = |tip: &RemoteTip| tip.txid == state.txid && pages(*tip);
        let state = match self.tip.filter(|tip| !is_tip(tip)) {
            // A fence stands on the tip; one that states what was announced would make that count.
            Some(tip) => State {
                database: None,
                commit: tip.commit,
                page_size: tip.page_size,
                position: Position::before_any_frame(tip.page_size),
                captured: None,
                tail: self.env.random.next_u64(),
                ..state
            },
            None => State { database: state.database.filter(|_| self.tip.is_some()), ..state },
        };
        self.local.forget_slots().map_err(self.io("remove staged slots in"))?;
        self.adopt(State { txid, slot, sums: None, ..state })?;
        self.broken = Some(BreakReason::NoPosition);
        Ok(())
    }

    /// Whether what was staged behind this transaction began with an announcement, which a start drops; and nothing that was
    /// built since says that its image was there.
    fn lost_its_stream(&self, txid: Txid) -> Result<bool, KeepError> {
        let kept = self.local.staged().map_err(self.io("list the slots in"))?;
        let waiting: Vec<Txid> = kept.into_iter().filter(|kept| *kept > txid).collect();
        Ok(self.staged.is_empty() && self.announced_alone && waiting.first() == Some(&txid.next()))
    }

    fn enter_epoch(&mut self, tenancy: Option<Tenancy>, opened: bool) -> Result<(), KeepError> {
        let theirs = self.tip.and_then(|tip| tip.epoch);
        if tenancy.is_some_and(|tenancy| theirs.is_some_and(|theirs| theirs > tenancy.epoch())) {
            return Err(self.superseded(theirs));
        }
        self.own(tenancy)?;
        if let Some(txid) = self.chain.durable.filter(|_| opened) {
            self.open_epoch(txid);
        }
        Ok(())
    }

    /// One step on the way.
    pub(super) fn claim_round(&mut self, at: Duration) -> Result<Duration, KeepError> {
        let Some(left) = self.time_left()? else { return Ok(Duration::MAX) };
        let now = self.moment();
        if now.boot < at {
            return Ok(left.min(at - now.boot));
        }
        let Some(acquire) = &self.term.acquire else { return self.claim().map(|()| Duration::ZERO) };
        let (store, env) = (Arc::clone(&self.env.store), self.env.clone());
        match acquire.next(&now) {
            Do::CatchUp => self.phase = Phase::Look(Duration::ZERO),
            Do::Wait(wait) => {
                self.term.waited |= acquire.epoch().is_none();
                self.phase = Phase::Claiming(now.boot + wait);
            }
            // Whoever was waited for may have begun the chain, and a claim ends him: it is for a file that goes on from there.
            Do::Claim(_) if self.term.waited => self.phase = Phase::Look(Duration::ZERO),
            Do::ListEpochs => {
                let sealed = self.chain.epochs.newest_seal;
                let former = self.local.former().map(str::to_owned);
                self.find("list epochs", now, move || {
                    ownership::list_epochs(&*store, sealed, former.as_deref()).map(Found::Epochs)
                });
            }
            Do::Claim(epoch) => {
                self.local.set_owner(&self.owner).map_err(self.io("note the owner in"))?;
                self.local.begin_work().map_err(self.io("note the work in"))?;
                let (author, from) = (self.author(), self.chain.durable);
                self.find("claim", now, move || {
                    ownership::claim(&*store, epoch, &author, from, env.clock.wall()).map(Found::Claim)
                });
            }
            Do::Prove(n) => {
                let epoch = acquire.epoch().unwrap_or(Epoch::FIRST);
                self.find("prove", now, move || Ok(Found::Look(ownership::look(&*store, epoch, n)?)));
            }
            Do::Fence(epoch, n) => self.fence(epoch, n, now)?,
            Do::Own(epoch, proof) => {
                self.own(Some(Tenancy::new(self.settings.times, epoch, proof)))?;
            }
            Do::GiveUp { theirs, .. } => return Err(self.superseded(theirs)),
            Do::Damaged(epoch) => {
                return Err(KeepError::EpochDamaged { epoch, replica: self.env.store.location() });
            }
            Do::Lost { epoch, closed, tip } => {
                return Err(closed_without(&*self.env.store, epoch, closed, tip));
            }
        }
        Ok(Duration::ZERO)
    }

    /// Sends a job for the next answer.
    fn find(
        &mut self,
        name: &'static str,
        sent: Moment,
        find: impl FnOnce() -> Result<Found, KeepError> + Send + 'static,
    ) {
        self.phase = Phase::Claiming(Duration::MAX);
        self.spawn(
            name,
            move |reporter| reporter.report(Report::Found(sent, find())),
            Report::Found(sent, Err(KeepError::JobLost(name))),
        );
    }

    pub(super) fn found(&mut self, sent: Moment, result: Result<Found, KeepError>) -> Result<(), KeepError> {
        let Phase::Claiming(_) = self.phase else { return Ok(()) };
        let now = self.moment();
        let heard = match result {
            Ok(Found::Epochs(epochs)) => Heard::Epochs(epochs),
            Ok(Found::Claim(Claim::NoCreateOnly)) => return self.own_without_protection(),
            Ok(Found::Claim(claim)) => Heard::Claimed(claim == Claim::Made),
            Ok(Found::Look(look)) => Heard::Looked(look),
            Ok(Found::Fence(outcome)) => {
                let ours = outcome == PutOutcome::Durable;
                if !ours {
                    self.take_fence_back()?;
                }
                Heard::Fenced(ours)
            }
            // The name is free yet; what can stand there is found out by another look.
            Err(error) if self.term.fenced && self.give_up_front(&error)? => {
                (self.term.fenced, self.term.fence) = (false, None);
                self.shared.trouble(&self.path, &Arc::new(error));
                Heard::Fenced(false)
            }
            Err(error) => {
                if error.kind() == crate::error::KeepErrorKind::Retry {
                    self.phase = Phase::Claiming(now.boot + self.backoff(self.chores.failures));
                    self.chores.failures = self.chores.failures.saturating_add(1);
                    self.shared.trouble(&self.path, &Arc::new(error));
                    return Ok(());
                }
                return Err(error);
            }
        };
        self.chores.failures = 0;
        self.phase = Phase::Claiming(Duration::ZERO);
        if let Some(acquire) = &mut self.term.acquire {
            acquire.hear(heard, sent, &now);
        }
        Ok(())
    }

    /// Nobody before us has closed: the next name is taken by a slot without pages, so that nothing late can stand there.
    /// A slot of our own that is waiting for its put does the same.
    fn fence(&mut self, epoch: Epoch, n: Txid, now: Moment) -> Result<(), KeepError> {
        let proof = self.term.acquire.as_ref().and_then(Acquire::proof).unwrap_or(now);
        if self.staged.is_empty() {
            let Some(state) = self.state.clone() else {
                // There is nothing to state: the first slot, an image, is the fence.
                self.term.unfenced = true;
                return self.own(Some(Tenancy::new(self.settings.times, epoch, proof)));
            };
            self.stage_fence(epoch, &state)?;
        }
        let Some(built) = self.staged.front().map(|slot| slot.built) else { return Ok(()) };
        debug_assert!(built.txid == n);
        self.term.fenced = true;
        let (env, path) = (self.env.clone(), self.local.slot(built.txid));
        self.find("fence", now, move || put(&*env.store, &*env.files, &path, built, true).map(Found::Fence));
        Ok(())
    }

    /// Builds the fence and writes down that it exists.
    fn stage_fence(&mut self, epoch: Epoch, before: &State) -> Result<(), KeepError> {
        self.stage_bare(Some(epoch), before)?;
        self.term.fence = Some((Box::new(before.clone()), before.txid.next()));
        Ok(())
    }

    /// Level 9 has the image that the newest slot announces, and nothing was built behind that: the next slot says so. What
    /// is pending stays pending.
    pub(super) fn confirm_image(&mut self) -> Result<(), KeepError> {
        let state = self.state.clone().filter(|state| Some(state.txid) == self.chain.announced());
        match state.filter(|_| self.staged.is_empty()) {
            Some(state) => self.stage_bare(self.chain.epoch, &state),
            None => Ok(()),
        }
    }

    /// Builds a slot without pages behind a state, and writes down that it exists, as with any slot.
    fn stage_bare(&mut self, epoch: Option<Epoch>, before: &State) -> Result<(), KeepError> {
        self.settle_state()?;
        let txid = before.txid.next();
        let head = SlotHead {
            txid,
            epoch,
            page_size: before.page_size,
            commit: before.commit,
            timestamp: self.timestamp(),
            predecessor: before.slot,
            database: before.database,
            marks: Marks::NONE,
            wal: WalSpan::default(),
        };
        let (path, failed) = (self.local.slot(txid), self.build_failed(txid));
        let writer = SlotWriter::create(&*self.env.files, &path, head, self.settings.encoding, u64::MAX);
        let built = writer.and_then(SlotWriter::finish).map_err(failed)?;
        let state = State { txid, slot: Some(built.file), timestamp: built.timestamp, ..before.clone() };
        self.env.files.sync_dir(self.local.dir()).map_err(self.io("make a slot durable in"))?;
        self.local.save(&state).map_err(self.io("save the state in"))?;
        self.state = Some(state);
        if let Some(known) = &mut self.sums {
            known.push(txid, head.commit, BTreeMap::new());
        }
        let (predecessor, commit, database) = (head.predecessor, head.commit, head.database);
        let since = self.env.clock.boot();
        self.staged.push_back(Staged { built, predecessor, commit, database, elsewhere: false, since });
        Ok(())
    }

    /// Somebody's late write stands where the fence should: it is part of the chain, and the fence never was.
    fn take_fence_back(&mut self) -> Result<(), KeepError> {
        self.term.fenced = false;
        let Some((before, txid)) = self.term.fence.take() else { return Ok(()) };
        self.local.save(&before).map_err(self.io("save the state in"))?;
        self.env.files.remove(&self.local.slot(txid)).map_err(self.io("remove a slot in"))?;
        if let Some(known) = &mut self.sums {
            known.truncate(before.txid);
        }
        self.state = Some(*before);
        self.staged.clear();
        Ok(())
    }

    /// Ours, if somebody must be able to lose it: the next step replicates.
    pub(super) fn own(&mut self, tenancy: Option<Tenancy>) -> Result<(), KeepError> {
        self.term.acquire = None;
        // Nothing can stand on an empty chain: there as well, the first slot is the fence.
        self.term.unfenced |= self.chain.durable.is_none();
        self.chain.epoch = tenancy.map(|tenancy| tenancy.epoch());
        self.chain.create_only = tenancy.is_some() && self.env.decisions.create_only;
        self.term.tenancy = tenancy;
        if let Err(error) =
            noted::note_create_only(&*self.env.files, self.local.dir(), self.chain.create_only)
        {
            tracing::warn!(db = %self.path.display(), %error, "`litekeep status` will not tell whether the store creates only");
        }
        tracing::info!(path = %self.path.display(), replica = %self.env.store.location(), owner = %self.owner,
            epoch = %self.chain.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string()), "initialized db");
        self.phase = Phase::Running;
        if self.term.tenancy.is_none() {
            // No claim can be asked for where nothing is created exclusively; each start has said what that means.
            self.shared.update(|status| status.alone = Alone::Always);
        }
        self.term.fence = None;
        if std::mem::take(&mut self.term.fenced) {
            if let (Some(last), Some(fence)) = (&mut self.chain.unfinished, self.staged.front()) {
                last.txid = fence.built.txid;
            }
            self.front_is_durable()?;
        }
        self.remove_former_passed_images();
        if self.chain.unfinished.is_some() && self.state.is_some() {
            self.mend_chain(Oldest::MayBeThere)?;
        } else if self.chain.hole {
            tracing::warn!(db = %self.path.display(), "the replica lacks transactions that it had confirmed; mending \
                it with a whole image");
            self.mend_chain(Oldest::MayBeThere)?;
        }
        self.shared.update(|status| status.trouble = None);
        Ok(())
    }

    fn own_without_protection(&mut self) -> Result<(), KeepError> {
        let replica = self.env.store.location();
        if self.settings.require_create_only {
            return Err(KeepError::NoCreateOnly(replica));
        }
        tracing::warn!(%replica, "this store replaces objects that are to be created only: nothing protects the \
            replica from a second writer, as with Litestream");
        self.own(None)
    }

    /// Somebody claimed above us.
    pub(super) fn superseded(&self, theirs: Option<Epoch>) -> KeepError {
        let by = theirs.map_or_else(|| "an unknown epoch".to_owned(), |epoch| format!("epoch {epoch}"));
        KeepError::Fenced {
            txid: self.chain.durable.map_or(Txid::FIRST, Txid::next),
            replica: self.env.store.location(),
            by: format!("{by}, which was claimed after ours"),
        }
    }

    pub(super) fn moment(&self) -> Moment {
        moment(&*self.env.clock, &*self.env.store)
    }
}

/// What an epoch's owner had confirmed as its last is not there.
pub(crate) fn closed_without(
    store: &dyn litekeep_store::Store,
    epoch: Epoch,
    closed: u64,
    tip: u64,
) -> KeepError {
    let what =
        format!("epoch {epoch} was closed at transaction {closed:016x}, and the chain ends at {tip:016x}");
    StoreError::new(ErrorKind::DataDamaged, "read", store.location(), Failure::Text(what)).into()
}
