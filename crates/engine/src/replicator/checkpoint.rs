//! Keeps the WAL bounded without losing a frame. Under the write lock lie SQLite's own two fsyncs (WAL, database) and,
//! if something was committed since the staging before the lock, the copy of that into the tail with one fsync.
//!
//! Mostly no write lock is needed at all: hand protection on to a newer read transaction, back-fill what the older
//! one kept back, repeat. Only writers that never pause make the last step necessary.

use super::{Act, Last, Replicator};
use crate::error::KeepError;
use crate::sqlite::Checkpointed;
use litekeep_core::assess::Facts;
use litekeep_core::limits;
use std::time::Duration;

/// When to try again.
#[derive(Debug, Default)]
pub(super) struct Timing {
    not_before: Duration,
    failures: u32,
    last: Duration,
    /// The write lock was tried for in vain: not again before this time.
    lock_not_before: Duration,
    /// When files were written to last.
    wrote: Duration,
}

/// How long a foreign checkpointer is given before we try again: without and with the write lock.
const PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE_LOCKED: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_micros(200);

/// While somebody else has the write lock: how often protection is handed on.
const STEP_ASIDE: Duration = Duration::from_millis(1);

impl Replicator {
    /// Checkpoints if it is time; returns when it will be.
    pub(super) fn checkpoint_round(&mut self, facts: &Facts, now: Duration) -> Result<Duration, KeepError> {
        let on_mark_zero = self.edge().held_since().is_some_and(|began| began.all_backfilled());
        let done = facts.mx_frame == 0 || (facts.all_backfilled() && on_mark_zero);
        if done {
            self.checkpointing.last = now;
            self.shrink(facts, now)?;
            return Ok(Duration::MAX);
        }
        let to_park = self.back_fill_to_park(now);
        let due = match self.settings.checkpoint_interval {
            _ if facts.mx_frame >= self.settings.min_checkpoint_pages => Duration::ZERO,
            _ if to_park => Duration::ZERO,
            Some(interval) => self.checkpointing.last + interval,
            None => return Ok(Duration::MAX),
        };
        let at = due.max(self.checkpointing.not_before);
        if now < at {
            return Ok(at - now);
        }
        let began = self.env.clock.boot();
        let tried = self.checkpoint();
        self.checkpointing.wrote = self.env.clock.boot();
        let took = self.checkpointing.wrote.saturating_sub(began);
        let last = Last { act: Act::Checkpoint, began, ended: self.checkpointing.wrote };
        self.shared.update(|status| {
            status.checkpoints.add(tried.is_ok(), took);
            status.last = Some(last);
        });
        Ok(self.checkpoint_tried(tried?, now))
    }

    /// Notes how an attempt went; returns when the next may be made.
    pub(super) fn checkpoint_tried(&mut self, left: u32, now: Duration) -> Duration {
        let timing = &mut self.checkpointing;
        if left == 0 {
            (timing.failures, timing.last) = (0, now);
            return Duration::ZERO;
        }
        // A reader that stays: trying on would only take the write lock again and again.
        let pause = Duration::from_millis(4 << timing.failures.min(5)).min(Duration::from_millis(100));
        timing.failures = timing.failures.saturating_add(1);
        if timing.failures == 100 {
            tracing::warn!(db = %self.path.display(), frames = left,
                "a long read transaction of the application keeps the WAL from being checkpointed; it grows");
        }
        timing.not_before = now + if timing.failures > 100 { Duration::from_secs(1) } else { pause };
        timing.not_before - now
    }

    /// When files were written to last, of which a notification may be on its way.
    pub(super) fn last_wrote(&self) -> Duration {
        self.checkpointing.wrote
    }

    /// When the next attempt may be made.
    pub(super) fn checkpoint_not_before(&self) -> Duration {
        self.checkpointing.not_before
    }

    /// One whole attempt; returns how many frames are left un-back-filled (0: the next writer restarts the WAL).
    fn checkpoint(&mut self) -> Result<u32, KeepError> {
        let mut left = u32::MAX;
        for _ in 0..5 {
            if !self.rotate()? || !self.passive(PATIENCE)? {
                return Ok(left);
            }
            let facts = self.facts_now()?;
            let now_left = facts.mx_frame.saturating_sub(facts.backfilled);
            if now_left == 0 {
                self.rotate()?;
                let facts = self.facts_now()?;
                return Ok(facts.mx_frame.saturating_sub(facts.backfilled));
            }
            if now_left < 128 || u64::from(now_left) * 10 > u64::from(left) * 7 {
                left = now_left;
                break;
            }
            left = now_left;
        }
        self.checkpoint_locked(left)
    }

    /// The last step, with the write lock: nothing can be committed between the copy of the tail and the back-fill.
    fn checkpoint_locked(&mut self, left: u32) -> Result<u32, KeepError> {
        // Most of the copying before the lock: under it only what was committed since. Behind a long backlog a round
        // takes only a slot's worth, so the rest is taken here.
        if self.env.clock.boot() < self.checkpointing.lock_not_before {
            return Ok(left);
        }
        let facts = self.facts_now()?;
        while self.take_once(&facts)? {}
        if self.broken.is_some() {
            return Ok(left);
        }
        if !self.stage()? {
            return Ok(left);
        }
        let io = self.io("stage changes in");
        let (pending, local) = (self.pending.as_mut(), &self.local);
        pending.map(|pending| pending.tail(local)).transpose().map_err(io)?;
        if !self.take_write_lock()? {
            return Ok(left);
        }
        let result = self.while_locked(left);
        self.edge().write_unlock();
        result
    }

    /// Tries for the write lock for a while; SQLite's own way of waiting backs off too far to get in between. Who has
    /// it may be a foreign checkpointer that waits for our read transaction, and then each would wait for the other
    /// (R12): protection is handed on meanwhile.
    pub(super) fn take_write_lock(&mut self) -> Result<bool, KeepError> {
        let now = self.env.clock.boot();
        let (deadline, mut aside) = (now + limits::WRITE_LOCK_TRIES, now + STEP_ASIDE);
        while !self.edge().try_write_lock().map_err(self.sqlite())? {
            let now = self.env.clock.boot();
            if now >= deadline {
                // One long transaction has it. Whoever steps this database steps others as well.
                self.checkpointing.lock_not_before = now + limits::WRITE_LOCK_TRIES;
                return Ok(false);
            }
            if now >= aside {
                let turned_away = match self.stands_in_the_way()? {
                    true => !self.rotate()?,
                    false => self.checkpointer_waits()?,
                };
                if turned_away {
                    return Ok(false);
                }
                aside = now + STEP_ASIDE;
            }
            self.env.clock.sleep(Duration::from_micros(50));
        }
        Ok(true)
    }

    fn while_locked(&mut self, left: u32) -> Result<u32, KeepError> {
        if !self.rotate()? || !self.passive(PATIENCE_LOCKED)? {
            return Ok(left);
        }
        let facts = self.facts_now()?;
        let left = facts.mx_frame.saturating_sub(facts.backfilled);
        if left == 0 {
            self.rotate()?;
        }
        Ok(left)
    }

    /// A passive checkpoint; `false` when somebody else kept the checkpoint lock for all of `patience`.
    fn passive(&mut self, patience: Duration) -> Result<bool, KeepError> {
        let deadline = self.env.clock.boot() + patience;
        loop {
            if self.edge().checkpoint().map_err(self.sqlite())? == Checkpointed::Ran {
                return Ok(true);
            }
            if self.env.clock.boot() >= deadline {
                return Ok(false);
            }
            self.env.clock.sleep(RETRY);
        }
    }

    /// Cuts a large WAL file to nothing while the database is idle. It can lose nothing: it succeeds only if nothing
    /// was committed since everything was taken.
    fn shrink(&mut self, facts: &Facts, now: Duration) -> Result<(), KeepError> {
        let frame = u64::try_from(litekeep_formats::wal::frame_len(facts.page_size)).unwrap_or(u64::MAX);
        let large = u64::from(self.settings.truncate_pages).saturating_mul(frame);
        if self.settings.truncate_pages == 0 || !self.timing.quiet(now) || facts.mx_frame == 0 {
            return Ok(());
        }
        let path = crate::files::with_suffix(&self.path, "-wal");
        let len = self.env.files.len(&path).map_err(self.io("look at the WAL beside"))?;
        let taken = self.pending().position().frame == facts.mx_frame;
        if len.is_some_and(|len| len >= large) && taken && self.broken.is_none() && self.stage()? {
            self.edge().checkpoint_truncate().map_err(self.sqlite())?;
            self.checkpointing.wrote = self.env.clock.boot();
        }
        Ok(())
    }
}
