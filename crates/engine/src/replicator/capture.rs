//! Looking at the WAL, taking what is new, and keeping the WAL from being restarted before it was taken.

use super::{Act, Last, Phase, Replicator, Stopping};
use crate::error::KeepError;
use crate::files::{FileId, with_suffix};
use crate::pending::Pending;
use crate::sqlite::{Edge, Scan, is_busy};
use crate::wal::CaptureError;
use litekeep_core::assess::{Advance, BreakReason, Facts, Position};
use litekeep_core::decisions::Handover;
use litekeep_core::limits;
use litekeep_formats::wal;
use std::ops::ControlFlow;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// When the last things happened, on the boot clock.
#[derive(Debug, Default)]
pub(super) struct Timing {
    pub(super) polling: bool,
    /// The database file that the connections have open.
    pub(super) file: Option<FileId>,
    /// What they have open beside it.
    pub(super) companions: Companions,
    /// The application may have connections that write to the database past the WAL that is there.
    past_the_wal: bool,
    /// Since when an event waits for its commit to become visible, and the pause before the next look.
    event: Option<(Duration, Duration)>,
    /// When the round began, and whether it has looked at the WAL.
    round: (Duration, bool),
    last_look: Duration,
    last_change: Duration,
    last_poke: Duration,
    idle: bool,
    /// Since when something waits to get into a slot.
    unbuilt: Option<Duration>,
    /// Since when the database was seen to be without its name, by a stop.
    pub(super) gone: Option<Duration>,
    /// The page checksums could not be made anew: not again before this time.
    pub(super) sums_not_before: Duration,
    /// See [`Replicator::aside_round`].
    pub(super) aside: Option<super::aside::Aside>,
    /// No checkpointer is let through before this time.
    pub(super) aside_not_before: Duration,
}

impl Timing {
    pub(super) fn poke(&mut self, now: Duration) {
        self.last_poke = now;
        self.event = Some((now, limits::EVENT_POLL_PAUSE));
    }

    pub(super) fn begin_round(&mut self, now: Duration) {
        self.round = (now, false);
    }

    pub(super) fn last_poke(&self) -> Duration {
        self.last_poke
    }

    /// Whether an event waits for its commit.
    pub(super) fn expects(&self) -> bool {
        self.event.is_some()
    }

    /// It was told for nothing.
    pub(super) fn forget_event(&mut self) {
        self.event = None;
    }

    /// Nothing was committed for a while.
    pub(super) fn quiet(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_change) >= limits::QUIET
    }
}

/// The WAL and its index, as files.
pub(super) type Companions = [Option<FileId>; 2];

/// Under load: the least time between two looks.
const COALESCE: Duration = Duration::from_millis(1);

/// How long to wait for a turn at going through a large database.
pub(super) const NO_TURN: Duration = Duration::from_millis(100);

impl Replicator {
    /// One look at the database; returns when to look again.
    pub(super) fn capture_round(&mut self) -> Result<Duration, KeepError> {
        let now = self.env.clock.boot();
        let since_change = now.saturating_sub(self.timing.last_change);
        if since_change < COALESCE
            && self.stopping == Stopping::No
            && self.shared.asked() == self.chores.answered
        {
            return Ok(COALESCE - since_change);
        }
        if !self.follow_file()? {
            if self.edge.is_none() && self.timing.file.is_none() && self.staged.is_empty() {
                // Whatever kept the file from being read is of no matter now that there is none.
                self.shared.passed();
            }
            return Ok(self.settings.monitor_interval);
        }
        let taken = match self.aside_round(now)? {
            ControlFlow::Break(wait) => return Ok(wait),
            ControlFlow::Continue(taken) => taken,
        };
        if !self.open_edge()? {
            return Ok(Duration::from_millis(10));
        }
        self.assess_anew()?;
        if self.is_stopping() && std::mem::take(&mut self.timing.past_the_wal) {
            self.broken.get_or_insert(BreakReason::WalReplaced);
        }
        if let Some(reason) = self.broken
            && !self.mend(reason)?
        {
            // Pages will be compared: until then there is nothing that protection would be good for.
            self.edge_mut().end_hold();
            return Ok(NO_TURN);
        }
        let asked = self.shared.asked();
        let changed = self.take_new_frames()? || taken;
        let facts = self.facts_now()?;
        let position = *self.pending().position();
        if self.broken.is_none() && (self.env.decisions.advance)(&facts, &position) == Advance::Nothing {
            self.chores.looked_for = asked;
        }
        self.note_look(now, changed, &facts)?;
        let rotated = self.keep_aside(&facts, now)?;
        if self.timing.aside.is_some() {
            return Ok(rotated);
        }
        let checkpoint_due = self.checkpoint_round(&facts, now)?.min(rotated);
        if self.staged.is_empty() && self.broken.is_none() {
            // Nothing waits for the store, and the database can be read: whatever it was, it has passed.
            self.shared.passed();
        }
        Ok(self.next_look(now, &facts)?.min(checkpoint_due))
    }

    /// Notices that the path means another file now (R17); `false` while there is none.
    pub(super) fn follow_file(&mut self) -> Result<bool, KeepError> {
        let id = self.env.files.id(&self.path).map_err(|error| KeepError::Io {
            what: "look at",
            path: self.path.clone(),
            error,
        })?;
        // Where trouble had the connections closed, one that is there is met when they are opened; that it is gone is told here.
        let known = self.timing.file.filter(|_| self.edge.is_some() || id.is_none());
        if known.is_some() && id != known {
            tracing::warn!(db = %self.path.display(), "the database file was replaced or removed");
            self.edge = None;
            self.broken = Some(BreakReason::FileReplaced);
            self.timing.file = id.and(known);
        }
        if self.edge.is_some() && self.companions()? != self.timing.companions {
            // SQLite goes on in files without a name, and whoever opens the database now does not see those. From there it may
            // be back-filled into the database, of which no frame tells.
            tracing::error!(db = %self.path.display(), "the -wal or the -shm of the database was removed or replaced while it \
                was in use; what is committed through connections from before is not seen, and may be lost: restart the \
                application, and litekeep after it");
            self.edge = None;
            self.timing.past_the_wal = true;
            self.broken = Some(BreakReason::WalReplaced);
        }
        Ok(id.is_some()
            && (self.edge.is_some() || self.env.files.len(&self.path).is_ok_and(|len| len > Some(0))))
    }

    /// What lies beside the database under the names that SQLite gives it. A simulated disk keeps the index in memory.
    pub(super) fn companions(&self) -> Result<Companions, KeepError> {
        let id = |suffix| match &self.env.vfs {
            Some(_) => Ok(None),
            None => self.env.files.id(&with_suffix(&self.path, suffix)),
        };
        let ids = id("-wal").and_then(|wal| Ok([wal, id("-shm")?]));
        ids.map_err(self.io("look at the WAL beside"))
    }

    /// The facts, or "busy" while a writer is in the middle of changing them.
    pub(super) fn facts_now(&mut self) -> Result<Facts, KeepError> {
        let index = self.edge().facts().map_err(self.sqlite())?.ok_or_else(|| self.sqlite()(busy()))?;
        let (wal, position) = (&mut self.wal, self.pending.as_ref().map(Pending::position));
        let mut chain = || position.and_then(|it| wal.chain_end(&index, it).ok()).unwrap_or(index);
        Ok((self.env.decisions.committed)(&index, &mut chain))
    }

    pub(super) fn edge(&self) -> &Edge {
        self.edge.as_ref().expect("BUG: the connections are open")
    }

    pub(super) fn edge_mut(&mut self) -> &mut Edge {
        self.edge.as_mut().expect("BUG: the connections are open")
    }

    pub(super) fn scan(&self) -> Result<Option<Scan>, KeepError> {
        self.edge().scan(&self.path, self.env.vfs.as_deref()).map_err(self.sqlite())
    }

    /// Takes the frames that are committed now; `false` if none was new. A writer that never pauses must not keep
    /// us here: what it commits meanwhile is the next round's (R13).
    fn take_new_frames(&mut self) -> Result<bool, KeepError> {
        let facts = self.facts_now()?;
        let mut changed = false;
        // Enough for one slot is enough; the rest stays in the WAL, which we hold.
        while self.pending().raw_bytes() < self.settings.max_sync_wal_bytes && self.take_once(&facts)? {
            changed = true;
        }
        Ok(changed)
    }

    /// Takes frames once; `false` if none is new. A broken chain is noted and mended in the next round.
    pub(super) fn take_once(&mut self, facts: &Facts) -> Result<bool, KeepError> {
        assert!(self.edge().is_protected(), "BUG: frames are taken that nobody protects");
        let position = *self.pending().position();
        let advance = (self.env.decisions.advance)(facts, &position);
        // A writer that restarts the WAL shows new salts before its first frame, or for good if it fails there.
        let restarting = facts.mx_frame == 0 && facts.salts != position.salts;
        let result = match advance {
            Advance::Nothing if restarting && self.began_behind() => {
                Err(CaptureError::Break(BreakReason::OtherLife))
            }
            Advance::Nothing => return Ok(false),
            Advance::Break(reason) => Err(CaptureError::Break(reason)),
            Advance::Restarted { .. } if self.began_behind() => {
                Err(CaptureError::Break(BreakReason::OtherLife))
            }
            Advance::Append { .. } | Advance::Restarted { .. } => {
                self.wal.capture(advance, facts, &position, self.settings.max_sync_wal_bytes)
            }
        };
        match result {
            // Whoever let the old life go staged it first; if not, its frames are gone.
            Ok(_) if matches!(advance, Advance::Restarted { .. }) && self.pending().needs_wal() => {
                self.break_chain(BreakReason::OtherLife);
                Ok(false)
            }
            Ok(captured) => {
                self.pending().absorb(captured);
                let from = if matches!(advance, Advance::Append { .. }) { position.frame } else { 0 };
                let frames = self.pending().position().frame.saturating_sub(from);
                let bytes = u64::from(frames) * frame_len(facts);
                self.shared.update(|status| status.captured_bytes += bytes);
                Ok(!self.may_be_written_over(from) || self.stage()?)
            }
            Err(CaptureError::Break(reason)) => {
                self.break_chain(reason);
                Ok(false)
            }
            Err(CaptureError::Io(error)) => Err(self.io("read the WAL beside")(error)),
        }
    }

    /// Whether protection began with frames that were not taken yet. On read mark 0 the WAL may restart once, which
    /// loses nothing only where everything before that begin was taken; a start that claims its epoch first has not.
    fn began_behind(&self) -> bool {
        let position = self.pending.as_ref().map(|pending| *pending.position());
        match (self.edge().held_since(), position) {
            (Some(began), Some(position)) => began.salts == position.salts && began.mx_frame > position.frame,
            _ => false,
        }
    }

    /// Notes that frames may be missing: from here on only a comparison of pages can tell.
    pub(super) fn break_chain(&mut self, reason: BreakReason) {
        tracing::warn!(db = %self.path.display(), %reason, "the chain of WAL frames is broken; comparing pages");
        self.broken = Some(reason);
        self.shared.update(|status| status.breaks += 1);
    }

    /// Hands protection from the older read transaction to a newer one. `false` if it could not be done now.
    ///
    /// What is only in the WAL is staged first where the newer one may let the WAL restart.
    pub(super) fn rotate(&mut self) -> Result<bool, KeepError> {
        if self.broken.is_some() {
            return Ok(false);
        }
        if self.env.decisions.handover == Handover::Gap {
            self.edge_mut().end_hold();
        }
        match self.edge_mut().begin_next() {
            Ok(()) => {}
            Err(error) if is_busy(&error) => {
                self.edge_mut().abandon_rotation();
                return Ok(false);
            }
            Err(error) => return Err(self.sqlite()(error)),
        }
        match self.stage_for_release() {
            Ok(true) => {
                self.edge_mut().finish_rotation();
                Ok(true)
            }
            Ok(false) => {
                self.edge_mut().abandon_rotation();
                Ok(false)
            }
            Err(error) => {
                self.edge_mut().abandon_rotation();
                Err(error)
            }
        }
    }

    /// Makes sure that nothing is lost when the older read transaction ends; `false` if that can't be said.
    fn stage_for_release(&mut self) -> Result<bool, KeepError> {
        if self.env.decisions.handover == Handover::Blind {
            return Ok(true);
        }
        let facts = self.facts_now()?;
        let position = *self.pending().position();
        if (self.env.decisions.survives_release)(&facts, &position) {
            return Ok(true);
        }
        while self.take_once(&facts)? {}
        if self.broken.is_some() {
            return Ok(false);
        }
        self.stage()
    }

    /// Whether a writer may write over captured frames at any time: where protection began on read mark 0, those up to
    /// its begin, which were back-filled already. They are staged as soon as they are taken.
    fn may_be_written_over(&self, captured_behind: u32) -> bool {
        let salts = self.pending.as_ref().map(|pending| pending.position().salts);
        self.edge().held_since().is_some_and(|began| {
            began.all_backfilled() && Some(began.salts) == salts && captured_behind < began.mx_frame
        })
    }

    /// Copies what is only in the WAL to the local tail, durably, with the position that it reaches: one fsync. `false` if
    /// a writer wrote over it meanwhile: then the chain of frames is broken.
    pub(super) fn stage(&mut self) -> Result<bool, KeepError> {
        let io = self.io("stage changes in");
        let copies = self.env.decisions.stage_before_release;
        let Some(pending) = self.pending.as_mut().filter(|pending| !pending.is_staged()) else {
            return Ok(true);
        };
        let edge = self.edge.as_ref();
        let stand = |position: &Position| edge.is_some_and(|edge| frames_stand(edge, position));
        if pending.stage(&self.local, &mut self.wal, copies, stand).map_err(io)? {
            return Ok(true);
        }
        self.break_chain(BreakReason::WrittenOver);
        Ok(false)
    }

    fn note_look(&mut self, now: Duration, changed: bool, facts: &Facts) -> Result<(), KeepError> {
        let long_idle =
            self.timing.idle && now.saturating_sub(self.timing.last_look) * 10 >= limits::IDLE_LOOK * 9;
        if changed && long_idle && !self.timing.polling && self.timing.last_poke < self.timing.last_look {
            self.notification_failed();
        }
        if changed {
            self.not_idle(now);
            self.timing.last_change = now;
            // The event may have told of a later commit as well, which is on its way: nothing tells of its end.
            let more = self.is_written_past(facts)?;
            self.timing.event = more.then_some((now, limits::EVENT_POLL_PAUSE));
        }
        (self.timing.last_look, self.timing.round.1) = (now, true);
        let end = |frames: u32| match frames {
            0 => 0,
            frames => wal::frame_offset(frames.saturating_add(1), facts.page_size),
        };
        let position = *self.pending().position();
        let taken = if position.salts == facts.salts { position.frame } else { 0 };
        self.shared.update(|status| {
            (status.wal_frames, status.wal_size) = (facts.mx_frame, end(facts.mx_frame));
            status.captured_to = end(taken);
        });
        Ok(())
    }

    /// Counts the round, if it has looked at the WAL.
    pub(super) fn note_sync(&mut self) {
        if self.timing.round.1 {
            self.count_sync(true);
        }
    }

    fn count_sync(&mut self, ok: bool) {
        let (began, now) = (self.timing.round.0, self.env.clock.boot());
        self.timing.round.1 = false;
        self.shared.update(|status| {
            status.syncs.add(ok, now.saturating_sub(began));
            // A checkpoint is a part of its round, and says more.
            if status.last.as_ref().is_none_or(|last| last.act == Act::Sync || last.began < began) {
                status.last = Some(Last { act: Act::Sync, began, ended: now });
            }
        });
    }

    /// A change was found that nobody had told of.
    pub(super) fn notification_failed(&mut self) {
        tracing::warn!(db = %self.path.display(), "a change came without a file notification; polling from now on");
        self.timing.polling = true;
        self.shared.update(|status| status.missed_notifications += 1);
    }

    /// When to look again: soon while an event's commit is not visible yet or something is left to do, else not
    /// before the next event.
    fn next_look(&mut self, now: Duration, facts: &Facts) -> Result<Duration, KeepError> {
        self.timing.idle = false;
        let more = (self.env.decisions.advance)(facts, self.pending().position()) != Advance::Nothing;
        if self.broken.is_some() || (more && self.staged.is_empty()) {
            return Ok(Duration::ZERO);
        }
        if let Some((since, pause)) = self.timing.event {
            let waited = now.saturating_sub(since);
            if waited < limits::EVENT_POLL {
                let next = (pause * 3 / 2).min(limits::EVENT_POLL_MAX_PAUSE);
                self.timing.event = Some((since, next));
                return Ok(pause);
            }
            if waited < limits::HIDDEN_COMMIT_WATCH && self.is_written_past(facts)? {
                let next = (pause * 2).min(Duration::from_secs(1));
                self.timing.event = Some((since, next));
                return Ok(pause);
            }
            self.timing.event = None;
        }
        if !self.timing.quiet(now) {
            return Ok(limits::QUIET.saturating_sub(now.saturating_sub(self.timing.last_change)));
        }
        if self.timing.polling {
            return Ok(self.settings.monitor_interval);
        }
        self.timing.idle = true;
        Ok(limits::IDLE_LOOK)
    }

    /// Whether a commit is written that is not visible yet: a slow fsync, a writer that was stopped there.
    pub(super) fn is_written_past(&mut self, facts: &Facts) -> Result<bool, KeepError> {
        let past = self.wal.continues_past(facts.mx_frame, facts.salts, facts.page_size);
        past.map_err(self.io("read the WAL beside"))
    }

    /// Capture cannot go on now: a full disk, an unreadable file. What is staged and was sent stays, the rest is let
    /// go and found again by comparing pages. Errors that cannot pass are handed on.
    pub(super) fn pause_for(&mut self, error: KeepError) -> Result<Duration, KeepError> {
        match &error {
            KeepError::Sqlite { error, .. } if is_busy(error) => return Ok(Duration::from_millis(5)),
            KeepError::Sqlite { .. } | KeepError::Io { .. } => {}
            _ => return Err(error),
        }
        self.count_sync(false);
        self.shared.trouble(&self.path, &std::sync::Arc::new(error));
        self.let_go();
        self.edge = None;
        self.pause = (self.pause * 2).clamp(Duration::from_secs(1), Duration::from_secs(30));
        self.paused = Some(self.env.clock.boot() + self.pause);
        Ok(self.pause)
    }

    /// What the outside asks for.
    pub(super) fn take_requests(&mut self) {
        if let Some(limit) = self.shared.take_stop() {
            self.stop(limit);
        }
        if self.shared.take_snapshot_request() {
            self.chores.snapshot_wanted = true;
        }
        if self.shared.take_retention_request() {
            self.enforce_retention();
        }
    }

    /// Since when what goes into the slot that is being built has waited; from here on the slot itself waits.
    pub(super) fn waited_since(&mut self) -> Duration {
        self.timing.unbuilt.take().unwrap_or_else(|| self.env.clock.boot())
    }

    /// What waits in slots that are let go waits to get into others.
    pub(super) fn unbuild(&mut self, oldest: usize) {
        if let Some(slot) = self.staged.get(oldest) {
            self.timing.unbuilt = Some(slot.since);
        }
    }

    /// Since when the oldest change waits that the replica lacks.
    fn behind_since(&mut self) -> Option<Duration> {
        let unknown = match self.phase {
            // Without a file there is nothing to compare.
            Phase::Running => self.broken.is_some() && self.edge.is_some(),
            Phase::Absent | Phase::Ended => false,
            Phase::Look(_) | Phase::Locked(_) | Phase::Looking | Phase::Comparing | Phase::Claiming(_) => {
                true
            }
        };
        let ended = self.phase == Phase::Ended;
        let ours = self.pending.as_ref().zip(self.state.as_ref());
        let unbuilt =
            ours.is_some_and(|(pending, state)| !pending.is_empty() || pending.commit() != state.commit);
        if unknown || unbuilt || self.shared.is_troubled() {
            self.timing.unbuilt.get_or_insert(self.env.clock.boot());
        } else if !ended {
            self.timing.unbuilt = None;
        }
        self.staged.front().map(|slot| slot.since).into_iter().chain(self.timing.unbuilt).min()
    }

    /// Tells the outside how things are.
    pub(super) fn publish(&mut self) {
        use super::Health;
        let health = match self.phase {
            Phase::Look(_) | Phase::Locked(_) | Phase::Looking | Phase::Comparing | Phase::Claiming(_) => {
                Health::Starting
            }
            Phase::Absent => Health::Waiting,
            Phase::Running => Health::Good,
            Phase::Ended => Health::Ended,
        };
        let (built, durable) = (self.state.as_ref().map(|state| state.txid), self.counted());
        let (epoch, create_only, polling) = (self.chain.epoch, self.chain.create_only, self.timing.polling);
        let parked = self.is_parked();
        let behind_since = self.behind_since();
        let file = self.timing.file.filter(|_| self.edge.is_some());
        let (broken, imaging) = (self.broken, self.image.is_some() || self.image_busy);
        self.shared.update(|status| {
            status.health = match (&status.trouble, health) {
                (Some(_), Health::Starting | Health::Good) => Health::Troubled,
                (_, health) => health,
            };
            (status.built, status.durable, status.behind_since) = (built, durable, behind_since);
            (status.epoch, status.create_only, status.polling) = (epoch, create_only, polling);
            (status.parked, status.file) = (parked, file);
            if broken.is_some() || !imaging {
                status.broken = broken;
            }
            status.imaging = imaging;
        });
    }
}

/// Whether the frames that were just read again are those that were captured: before a writer writes over a frame, or cuts
/// the file, the index shows other salts. One that cannot be read says nothing for them.
fn frames_stand(edge: &Edge, position: &Position) -> bool {
    fence(Ordering::SeqCst);
    matches!(edge.facts(), Ok(Some(facts)) if facts.salts == position.salts)
}

/// Bytes of one WAL frame.
fn frame_len(facts: &Facts) -> u64 {
    wal::frame_len(facts.page_size) as u64
}

/// SQLite's own word for "not now".
pub(super) fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}
