//! When the chain of WAL frames is broken, or was never there: compare pages, ship what differs.

use super::Replicator;
use super::slots::Staged;
use super::start::position_of;
use crate::driver::{Turn, Turns};
use crate::error::KeepError;
use crate::slot::BuildError;
use litekeep_core::assess::BreakReason;
use litekeep_core::limits;
use litekeep_formats::crc::page_checksum;

/// What is known of the oldest staged slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oldest {
    /// The replica has it, under its number.
    IsThere,
    /// The replica has it not, and will not get it.
    IsNot,
    /// It was sent, perhaps: it is sent until that is known.
    MayBeThere,
}

impl Replicator {
    /// Finds out what the slots lack, and makes it pending; a whole image where there is nothing to compare with. `false`
    /// if that has to wait.
    pub(super) fn mend(&mut self, reason: BreakReason) -> Result<bool, KeepError> {
        if self.announces_nothing() {
            return Ok(false);
        }
        let facts = self.facts_now()?;
        let bytes = u64::from(facts.pages) * u64::from(facts.page_size.get());
        let Some(_turn) = self.turn_for(bytes) else { return Ok(false) };
        let comparable = self.sums.is_some()
            && self.state.as_ref().is_some_and(|state| state.page_size == facts.page_size)
            && !matches!(reason, BreakReason::PageSize | BreakReason::TooLarge);
        if !comparable || !self.compare_pages()? {
            self.build_image(reason)?;
        }
        self.broken = None;
        self.refresh_file_id()?;
        Ok(true)
    }

    /// A turn at going through so much of a database, which is kept until that is done; `None` if there is none yet.
    fn turn_for(&self, bytes: u64) -> Option<Turn> {
        self.turns.as_ref().map_or_else(|| Some(Turn::unlimited()), |turns: &Turns| turns.take_for(bytes))
    }

    /// A turn at going through the file; `None` if there is none yet.
    pub(super) fn turn_for_all(&self) -> Result<Option<Turn>, KeepError> {
        let len = self.env.files.len(&self.path).map_err(self.io("look at the database for"))?;
        Ok(self.turn_for(len.unwrap_or(0)))
    }

    /// A file that took the old one's place is the one that the state speaks of from now on.
    fn refresh_file_id(&mut self) -> Result<(), KeepError> {
        let (Some(file), Some(state)) = (self.timing.file, &mut self.state) else { return Ok(()) };
        if state.file != file {
            state.file = file;
            self.save()?;
        }
        Ok(())
    }

    /// Makes every page pending whose checksum is not the known one; `false` if that is too much for one slot.
    fn compare_pages(&mut self) -> Result<bool, KeepError> {
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::capture::busy()))?;
        let facts = *scan.facts();
        let commit = scan.pages().map_err(self.sqlite())?;
        self.forget_tail()?;
        let failed = self.build_failed(self.state().txid.next());
        let mut changed = 0u64;
        let page_size = u64::from(facts.page_size.get());
        let worth_it = limits::COMPARED_BYTES.max(u64::from(commit) * page_size / 8);
        let limit = worth_it.min(self.slot_limit()) / page_size;
        let (Some(pending), Some(sums)) = (&mut self.pending, &self.sums) else { return Ok(false) };
        let (local, differs) = (&self.local, self.env.decisions.differs);
        scan.for_each(|page, data| {
            if changed > limit || !differs(sums.get(page)?, page_checksum(page, data)) {
                return Ok::<_, BuildError>(());
            }
            changed += 1;
            Ok(pending.append(local, page, data)?)
        })
        .map_err(&failed)?;
        if changed > limit {
            self.forget_tail()?;
            return Ok(false);
        }
        let lowest = commit.min(self.state().commit);
        self.pending().reached(position_of(&facts), commit, lowest);
        tracing::info!(db = %self.path.display(), pages = changed, "compared the database with the replica's last state");
        self.stage()
    }

    /// The tail is about to be written anew: what stands in it must not count any more.
    fn forget_tail(&mut self) -> Result<(), KeepError> {
        let Some(state) = &mut self.state else { return Ok(()) };
        state.give_up_position(self.env.random.next_u64());
        let (position, commit, tail) = (state.position, state.commit, state.tail);
        if let Some(pending) = &mut self.pending {
            pending.reset(position, commit, tail);
        }
        self.save()
    }

    /// The next slot is a whole image, and a snapshot of it begins the chain anew: the replica lost what it had confirmed, or
    /// what is staged cannot be sent. Numbers go on behind the last one that the replica may have: they have no holes, or
    /// what was lost could not be told from what never was.
    pub(super) fn mend_chain(&mut self, oldest: Oldest) -> Result<(), KeepError> {
        // Memory first: whatever fails below, nothing may be captured before the image.
        self.broken = Some(BreakReason::NoPosition);
        self.forget_questions();
        self.image = None;
        self.forget_goal();
        self.sums = None;
        let front = self.staged.front().copied();
        let stays = oldest == Oldest::MayBeThere && front.is_some();
        if !stays {
            self.putting = None;
        }
        self.staged.truncate(usize::from(stays));
        self.unflushed.clear();
        match front {
            Some(slot) if oldest == Oldest::IsNot => self.back_before(slot)?,
            Some(slot) => self.back_to(slot),
            None => self.forget_sums(),
        }
        // Then the state: checksums that the slots' files brought up to date are worthless without them.
        self.save()?;
        let kept = self.staged.front().map(|slot| slot.built.txid);
        let io = self.io("remove staged slots in");
        let staged = self.local.staged().map_err(&io)?;
        staged
            .into_iter()
            .filter(|txid| Some(*txid) != kept)
            .try_for_each(|txid| self.env.files.remove(&self.local.slot(txid)).map_err(&io))
    }

    fn forget_sums(&mut self) {
        if let Some(state) = &mut self.state {
            state.sums = None;
        }
    }

    /// What the slots behind this one held is only in the database again.
    fn back_to(&mut self, slot: Staged) {
        let tail = self.env.random.next_u64();
        let Some(state) = &mut self.state else { return };
        (state.txid, state.slot) = (slot.built.txid, Some(slot.built.file));
        (state.commit, state.database) = (slot.commit, slot.database);
        (state.timestamp, state.sums) = (slot.built.timestamp, None);
        self.give_up_position(tail);
    }

    /// The same of what this one held. How many pages there were before it is known again once the replica was looked at.
    fn back_before(&mut self, slot: Staged) -> Result<(), KeepError> {
        let Some(before) = slot.built.txid.previous() else {
            (self.state, self.pending) = (None, None);
            return self.local.clear().map_err(self.io("begin anew in"));
        };
        let tail = self.env.random.next_u64();
        // Of an image that is yet to be confirmed everything is known, and that slot has to say it.
        let announced = self.chain.announced.filter(|announced| announced.built.txid == before);
        let Some(state) = &mut self.state else { return Ok(()) };
        (state.txid, state.slot, state.database, state.sums) = (before, slot.predecessor, None, None);
        if let Some(announced) = announced {
            (state.commit, state.database) = (announced.commit, announced.database);
        }
        self.give_up_position(tail);
        Ok(())
    }

    /// What is pending was never staged: a comparison finds it again.
    pub(super) fn give_up_position(&mut self, tail: u64) {
        let Some(state) = &mut self.state else { return };
        state.give_up_position(tail);
        let (position, commit) = (state.position, state.commit);
        if let Some(pending) = &mut self.pending {
            pending.reset(position, commit, tail);
        }
    }
}
