//! Keeps our read transactions out of foreign checkpointers' way.
//!
//! A checkpointer with a busy handler waits for readers, mostly while it holds the write lock, so whoever stands in its
//! way stops every writer (R12). Mostly it is enough to hand protection on to a newer read transaction. But SQLite reads
//! a read mark once and then waits for its lock, though the mark may be renewed meanwhile by somebody who comes and goes,
//! and shared by our newer read transaction, which is not behind at all. Then only its end helps: what is committed is
//! taken and staged, protection ends for a moment, and afterwards the WAL must show that nothing went by: as at a start,
//! or by its count of commits where it began anew. While that lasts no frame is taken.

use super::image::Image;
use super::{Replicator, Stopping};
use crate::error::KeepError;
use litekeep_core::assess::{Facts, Resume};
use litekeep_core::limits;
use std::ops::ControlFlow;
use std::time::Duration;

/// Between two looks whether the checkpointer went on.
const LOOK: Duration = Duration::from_millis(1);

/// For how long at most one is let through; after that it waits for somebody else, and as long again is everybody's turn.
/// SQLite's own busy handler asks again after 100 ms at the latest.
const TURN: Duration = Duration::from_millis(500);

/// A checkpointer that is let through: until when, and what the index said when protection ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aside {
    until: Duration,
    facts: Facts,
}

impl Replicator {
    /// Rotates, or lets a checkpointer through, where one may be waiting; returns when to look again for that alone.
    pub(super) fn keep_aside(&mut self, facts: &Facts, now: Duration) -> Result<Duration, KeepError> {
        let Some(began) = self.edge().held_since() else { return Ok(Duration::MAX) };
        // On mark 0 nobody can back-fill, and every commit of an application that checkpoints by itself tries to.
        let lingering = began.all_backfilled() && !facts.all_backfilled();
        let quiet = self.timing.quiet(now);
        if lingering || (quiet && in_the_way(&began, facts)) {
            self.rotate()?;
            return Ok(limits::QUIET);
        }
        // What our own stream reads stands in the way all the same.
        let streaming = self.image_busy || matches!(self.image, Some(Image::Stream(_)));
        if quiet && !streaming && !facts.all_backfilled() && self.checkpointer_waits()? {
            let not_yet = self.timing.aside_not_before.saturating_sub(now);
            if self.stopping != Stopping::No || !not_yet.is_zero() {
                return Ok(not_yet.max(LOOK));
            }
            return self.let_through(now);
        }
        Ok(Duration::MAX)
    }

    /// Whether a checkpointer may be waiting for our read transaction because that is too old.
    pub(super) fn stands_in_the_way(&self) -> Result<bool, KeepError> {
        let Some(began) = self.edge().held_since() else { return Ok(false) };
        let facts = self.edge().facts().map_err(self.sqlite())?;
        Ok(facts.is_some_and(|facts| in_the_way(&began, &facts)))
    }

    /// Whether a checkpointer is at work that has not begun to back-fill: it waits for readers, or is about to begin.
    pub(super) fn checkpointer_waits(&self) -> Result<bool, KeepError> {
        self.edge().checkpointer_waits().map_err(self.sqlite())
    }

    /// Ends protection for a moment, when everything was taken.
    fn let_through(&mut self, now: Duration) -> Result<Duration, KeepError> {
        let facts = self.facts_now()?;
        let position = *self.pending().position();
        if self.broken.is_some() || position.salts != facts.salts || position.frame != facts.mx_frame {
            return Ok(LOOK);
        }
        if !self.stage()? {
            return Ok(LOOK);
        }
        tracing::debug!(db = %self.path.display(), "a checkpointer is let through");
        self.edge_mut().end_hold();
        self.timing.aside = Some(Aside { until: now + TURN, facts });
        Ok(LOOK)
    }

    /// While a checkpointer is let through: when to look again. Goes on when protection stands (again), with whether
    /// frames were taken. A stop needs that at once.
    pub(super) fn aside_round(&mut self, now: Duration) -> Result<ControlFlow<Duration, bool>, KeepError> {
        let Some(mut aside) = self.timing.aside.filter(|_| self.edge.is_some()) else {
            self.timing.aside = None;
            return Ok(ControlFlow::Continue(false));
        };
        let index = self.edge().facts().map_err(self.sqlite())?;
        if index.is_some_and(|index| index.change < aside.facts.change) {
            // It was made anew: from nought, nothing is concluded.
            aside.facts.change = 0;
            self.timing.aside = Some(aside);
        }
        let still =
            |index: Facts| (index.salts, index.backfilled) == (aside.facts.salts, aside.facts.backfilled);
        // Protection that stands already was found by a round that could not tell how things are.
        let over = now >= aside.until || self.stopping != Stopping::No || self.edge().is_protected();
        let waits = !over && index.is_some_and(still) && self.checkpointer_waits()?;
        if waits || !self.open_edge()? {
            return Ok(ControlFlow::Break(LOOK));
        }
        let (facts, resume) = self.may_resume()?;
        let taken = match resume {
            Resume::Intact => false,
            // These very frames are taken: on read mark 0 the WAL may begin anew once more.
            Resume::Break(_) if self.nothing_missed(&aside.facts, &facts)? => self.take_once(&facts)?,
            Resume::Break(reason) => {
                self.break_chain(reason);
                false
            }
        };
        // Whatever failed before is tried again: until then nobody may go on as if protection had never ended.
        self.timing.aside = None;
        if now >= aside.until {
            self.timing.aside_not_before = now + TURN;
        }
        Ok(ControlFlow::Continue(taken))
    }

    /// See [`nothing_missed`](litekeep_core::assess::nothing_missed).
    fn nothing_missed(&mut self, before: &Facts, now: &Facts) -> Result<bool, KeepError> {
        let commits = match now.mx_frame {
            0 => Ok(Some(0)),
            _ => self.wal.commits(now, self.settings.max_sync_wal_bytes),
        };
        let commits = commits.map_err(self.io("read the WAL beside"))?;
        Ok((self.env.decisions.nothing_missed)(before, now, commits))
    }
}

/// Whether a read transaction that began so keeps a checkpointer from back-filling what is committed now, or from
/// restarting a WAL that is back-filled.
fn in_the_way(began: &Facts, now: &Facts) -> bool {
    let behind = began.salts != now.salts || began.mx_frame < now.mx_frame;
    behind || (!began.all_backfilled() && now.all_backfilled())
}
