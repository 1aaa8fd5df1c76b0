//! Parking: a database that nobody writes to costs two descriptors and no connection.
//!
//! After a while without a change everything is captured, durable and back-filled; then the connections are closed, and
//! with them the protection of the WAL. What is left is the watch over the directory, and a look at the files' facts once
//! a minute. Whatever happens to them, or is asked for, ends it: the connections are opened, protection begins, and *then*
//! the WAL is assessed as at a start. Where it is not the one that was left, the pages are compared, so nothing that
//! slipped by is missed. Chores go on meanwhile; they need the store only.

use super::{Replicator, Stopping};
use crate::error::KeepError;
use crate::files::{FileId, Stamp, with_suffix};
use crate::sqlite::is_busy;
use litekeep_core::assess::{Advance, BreakReason, Resume};
use litekeep_core::limits;
use std::time::Duration;

/// The memory of it, on the boot clock.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// Since when nothing has been taken or asked for.
    since: Option<Duration>,
    parked: Option<Parked>,
    /// Protection lapsed, and the WAL was not assessed since; the file that was open before.
    lapsed: Option<Option<FileId>>,
}

/// What was left behind.
#[derive(Debug)]
struct Parked {
    files: [Option<Stamp>; 2],
    look_at: Duration,
    /// A look found a change of which nobody had told.
    noticed: bool,
}

/// The last event, and whatever of ours may bring one (the back-fill), must be this old: an event ends parking, and what
/// ends with an event of its own would go on for ever.
const SETTLE: Duration = Duration::from_millis(100);

/// How long the event of a change that a look has found may be on its way.
const GRACE: Duration = Duration::from_millis(200);

/// What a file system may count times in: a write changes the time of a file that was not written to for so long.
const COARSE: Duration = Duration::from_secs(5);

impl Replicator {
    /// Whether it is parked.
    pub(super) fn is_parked(&self) -> bool {
        self.parking.parked.is_some()
    }

    /// Something was taken, or asked for.
    pub(super) fn not_idle(&mut self, now: Duration) {
        self.parking.since = Some(now);
    }

    /// How long until nothing has happened for long enough; `None` where this database is not parked at all.
    fn idle_left(&mut self, now: Duration) -> Option<Duration> {
        // Who owns together with others looks for them all the time.
        let least = self.settings.park_after.filter(|_| self.settings.look_every.is_none())?;
        let since = match self.parking.since {
            Some(since) => since,
            None => {
                // This clock last: whatever time passes between the two must not count as idle.
                let age = self.age();
                *self.parking.since.insert(self.env.clock.boot().saturating_sub(age))
            }
        };
        // The end of it may cost a look at every page, which must be little beside the time that it lasted.
        let bytes = self
            .pending
            .as_ref()
            .map_or(0, |pending| u64::from(pending.commit()) * u64::from(pending.position().page_size.get()));
        let idle = least.max(Duration::from_secs(bytes / limits::PARK_BYTES_A_SECOND));
        Some((since + idle).saturating_sub(now))
    }

    /// For how long nobody had written when this began, as the file system tells it: of a thousand databases most are not
    /// written to, and a start must not keep them all open for a minute. Only when to park depends on it.
    fn age(&self) -> Duration {
        let now = Duration::from_millis(u64::try_from(self.env.clock.wall().0).unwrap_or(0));
        let Ok([database, wal]) = self.stamps() else { return Duration::ZERO };
        // An empty WAL was made by whoever opened the database last, as like as not by us.
        let written = wal.filter(|wal| wal.len > 0).or(database).and_then(|file| file.modified);
        written.map_or(Duration::ZERO, |written| now.saturating_sub(written))
    }

    /// Whether a checkpoint is all that parking waits for.
    pub(super) fn back_fill_to_park(&mut self, now: Duration) -> bool {
        self.idle_left(now).is_some_and(|left| left.is_zero()) && self.is_at_rest()
    }

    /// Parks if it is time; returns when it will be.
    pub(super) fn park_round(&mut self) -> Result<Duration, KeepError> {
        let now = self.env.clock.boot();
        let Some(left) = self.idle_left(now) else { return Ok(Duration::MAX) };
        let settled = self.timing.last_poke().max(self.last_wrote()) + SETTLE;
        let left = left.max(settled.saturating_sub(now));
        if !left.is_zero() {
            return Ok(left);
        }
        if !self.is_at_rest() || self.edge.is_none() {
            return Ok(Duration::MAX);
        }
        self.flush_sums_if_due(true)?;
        // The files' facts first: what happens after them is seen by the index, or differs from them later.
        let Ok(files) = self.stamps() else { return Ok(limits::IDLE_LOOK) };
        let facts = match self.facts_now() {
            Err(KeepError::Sqlite { error, .. }) if is_busy(&error) => return Ok(SETTLE),
            facts => facts?,
        };
        let taken = (self.env.decisions.advance)(&facts, self.pending().position()) == Advance::Nothing;
        if !taken || !facts.all_backfilled() {
            return Ok(Duration::MAX);
        }
        // A commit that hangs in its fsync: it becomes visible without a write to any file.
        if self.is_written_past(&facts)? {
            return Ok(limits::IDLE_LOOK);
        }
        if !self.stage()? {
            return Ok(Duration::ZERO);
        }
        self.edge = None;
        self.wal.close();
        self.pending().close();
        self.parking.lapsed = Some(self.timing.file);
        let look_at = now + self.first_look();
        self.parking.parked = Some(Parked { files, look_at, noticed: false });
        self.shared.update(|status| status.parkings += 1);
        tracing::debug!(db = %self.path.display(), "parked");
        Ok(Duration::ZERO)
    }

    /// Everything is in the replica, nothing is under way, and nothing is asked for.
    fn is_at_rest(&mut self) -> bool {
        let state = self.state.as_ref().map(|state| state.txid);
        let comparable = self.sums.as_ref().map(super::Sums::txid) == state;
        state.is_some()
            && state == self.counted()
            && comparable
            && self.broken.is_none()
            && self.stopping == Stopping::No
            && !self.term.leaving
            && (self.staged.is_empty() && self.putting.is_none())
            && (self.image.is_none() && !self.image_busy)
            && self.shared.asked() == self.chores.answered
            && !self.timing.expects()
            && !self.has_changes_pending()
    }

    /// Of many that were parked together, each has its own minute.
    fn first_look(&self) -> Duration {
        let spread = u64::try_from(self.look_pause().as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.env.random.next_u64() % spread)
    }

    fn look_pause(&self) -> Duration {
        if self.timing.polling { self.settings.monitor_interval } else { limits::IDLE_LOOK }
    }

    fn stamps(&self) -> std::io::Result<[Option<Stamp>; 2]> {
        let files = &self.env.files;
        Ok([files.stamp(&self.path)?, files.stamp(&with_suffix(&self.path, "-wal"))?])
    }

    /// A round while parked; `None` once that has ended.
    pub(super) fn parked_round(&mut self) -> Option<Duration> {
        let now = self.env.clock.boot();
        let wanted = self.broken.is_some()
            || self.stopping != Stopping::No
            || self.shared.asked() != self.chores.answered
            || self.was_told(now)
            || self.changed_unseen(now);
        if wanted {
            tracing::debug!(db = %self.path.display(), "not parked any more");
            self.parking.parked = None;
            self.not_idle(now);
            return None;
        }
        let look_at = self.parking.parked.as_ref().map_or(now, |parked| parked.look_at);
        Some(look_at.saturating_sub(now).min(self.chore_round()).min(self.look_round()))
    }

    /// Whether there is an event to follow. One that overflowed the system's queue is told to all: whoever's files are the
    /// same since long ago stays parked, and looks once more.
    fn was_told(&mut self, now: Duration) -> bool {
        if !self.timing.expects() {
            return false;
        }
        let wall = Duration::from_millis(u64::try_from(self.env.clock.wall().0).unwrap_or(0));
        let long_ago = |file: &Stamp| file.modified.is_some_and(|at| wall.saturating_sub(at) >= COARSE);
        let stamps = self.stamps();
        let Some(parked) = &mut self.parking.parked else { return true };
        let same = stamps.is_ok_and(|files| {
            Stamp::all_same(&files, &parked.files) && files.iter().flatten().all(long_ago)
        });
        if same {
            parked.look_at = now + GRACE;
            self.timing.forget_event();
        }
        !same
    }

    /// The safety net under notification, and what polling comes to for a database that is parked.
    fn changed_unseen(&mut self, now: Duration) -> bool {
        let (pause, stamps) = (self.look_pause(), self.stamps_if_due(now));
        let Some(parked) = &mut self.parking.parked else { return false };
        match stamps {
            None => false,
            Some(Ok(files)) if Stamp::all_same(&files, &parked.files) => {
                (parked.look_at, parked.noticed) = (now + pause, false);
                false
            }
            Some(_) if !self.timing.polling && !parked.noticed => {
                (parked.look_at, parked.noticed) = (now + GRACE, true);
                false
            }
            Some(_) => {
                if !self.timing.polling && parked.files.iter().flatten().all(Stamp::is_dated) {
                    self.notification_failed();
                }
                true
            }
        }
    }

    fn stamps_if_due(&self, now: Duration) -> Option<std::io::Result<[Option<Stamp>; 2]>> {
        let due = self.parking.parked.as_ref().is_some_and(|parked| now >= parked.look_at);
        due.then(|| self.stamps())
    }

    /// Protection has begun again after it had lapsed: may capture go on from where it was?
    pub(super) fn assess_anew(&mut self) -> Result<(), KeepError> {
        let Some(file) = self.parking.lapsed else { return Ok(()) };
        if self.broken.is_none() {
            if file != self.timing.file {
                self.broken = Some(BreakReason::FileReplaced);
            } else if let (_, Resume::Break(reason)) = self.may_resume()? {
                self.broken = Some(reason);
            }
        }
        self.parking.lapsed = None;
        Ok(())
    }
}
