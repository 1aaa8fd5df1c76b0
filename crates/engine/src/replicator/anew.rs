//! The page checksums, made anew where a crash or a full disk took them: with the next slot, from a read transaction that
//! shows exactly what this slot leads to. Until that succeeds, seals say nothing of the database.
//!
//! A slot is built without them where they cannot be written. A large database is not begun to be read while a stop, a
//! successor, or somebody who asked for everything to be in the replica waits.

use super::Replicator;
use super::image::NewSums;
use super::start::position_of;
use crate::driver::Turn;
use crate::error::KeepError;
use crate::sqlite::Scan;
use litekeep_formats::{PageNo, Txid};
use std::time::Duration;

/// After a try that went through the database in vain.
const PAUSE: Duration = Duration::from_secs(60);

/// A database that is read while somebody waits has so many bytes at most.
const READ_BESIDE_A_REQUEST: u64 = 256 << 20;

/// What a database is read for.
pub(super) struct Look {
    scan: Scan,
    _turn: Turn,
}

impl Replicator {
    /// Begins to read the database, if its checksums are lacking; what it shows is taken into the next slot. `None` if
    /// there is no need, or not now. Taking may find the chain broken.
    pub(super) fn look_for_sums(&mut self) -> Result<Option<Look>, KeepError> {
        if self.sums.is_some() || self.env.clock.boot() < self.timing.sums_not_before {
            return Ok(None);
        }
        let awaited = self.is_stopping() || self.term.leaving || self.shared.asked() != self.chores.answered;
        if awaited && self.file_len()?.is_none_or(|len| len > READ_BESIDE_A_REQUEST) {
            return Ok(None);
        }
        let Some(turn) = self.turn_for_all()? else { return Ok(None) };
        let Some(scan) = self.scan()? else { return Ok(None) };
        let facts = *scan.facts();
        while self.take_once(&facts)? {}
        if self.broken.is_some() || position_of(&facts) != *self.pending().position() {
            return Ok(None);
        }
        // A file that was followed has counters of its own in page 1. The chain gets that page with these checksums.
        if !self.pending().contains(PageNo::FIRST)
            && let Some(data) = scan.page(PageNo::FIRST).map_err(self.sqlite())?
        {
            let io = self.io("stage changes in");
            let (Some(pending), local) = (&mut self.pending, &self.local) else { return Ok(None) };
            pending.append(local, PageNo::FIRST, &data).map_err(io)?;
        }
        Ok(Some(Look { scan, _turn: turn }))
    }

    /// The checksums of what slot `txid` leads to; `None` if what was looked at is not that, or they could not be kept.
    pub(super) fn sums_anew(&mut self, look: &Look, txid: Txid) -> Option<NewSums> {
        if position_of(look.scan.facts()) != *self.pending().position() {
            return None;
        }
        let commit = self.pending().commit();
        let made = self.write_sums(&look.scan, txid, commit);
        if let Err(error) = &made {
            tracing::warn!(db = %self.path.display(), %error, "the page checksums could not be made anew");
            self.timing.sums_not_before = self.env.clock.boot() + PAUSE;
        }
        made.ok()
    }
}
