//! Keeps our read transactions out of foreign checkpointers' way.
//!
//! A checkpointer with a busy handler waits for readers, mostly while it holds the write lock, so whoever stands in its
//! way stops every writer (R12). Mostly it is enough to hand protection on to a newer read transaction. But SQLite reads
//! a read mark once and then waits for its lock, though the mark may be renewed meanwhile by somebody who comes and goes,
//! and shared by our newer read transaction, which is not behind at all. Then only its end helps: what is committed is
//! taken and staged, protection ends for a moment, and afterwards the WAL must show that nothing went by, as at a start.
//! While that lasts no frame is taken.

use super::image::Image;
use super::{Replicator, Stopping};
use crate::error::KeepError;
use litekeep_core::assess::{Facts, Resume};
use litekeep_core::limits;
use std::time::Duration;

/// Between two looks whether the checkpointer went on.
const LOOK: Duration = Duration::from_millis(1);

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
        self.stage()?;
        tracing::debug!(db = %self.path.display(), "a checkpointer is let through");
        self.edge_mut().end_hold();
        self.timing.aside = Some(Aside { until: now + limits::WRITE_LOCK_TRIES, facts });
        Ok(LOOK)
    }

    /// While a checkpointer is let through: when to look again; `None` when protection stands (again). A stop needs
    /// that at once.
    pub(super) fn aside_round(&mut self, now: Duration) -> Result<Option<Duration>, KeepError> {
        let Some(aside) = self.timing.aside.filter(|_| self.edge.is_some()) else {
            self.timing.aside = None;
            return Ok(None);
        };
        let waits = now < aside.until && self.stopping == Stopping::No && {
            let index = self.edge().facts().map_err(self.sqlite())?;
            index.is_some_and(|index| index.backfilled == aside.facts.backfilled)
                && self.checkpointer_waits()?
        };
        if waits || !self.open_edge()? {
            return Ok(Some(LOOK));
        }
        let (facts, resume) = self.may_resume()?;
        if let Resume::Break(reason) = resume
            && !nothing_was_committed(&aside.facts, &facts)
        {
            self.break_chain(reason);
        }
        self.timing.aside = None;
        Ok(None)
    }
}

/// Whether a WAL that was cut to nothing meanwhile held nothing new: each commit counts the index's changes on, and a
/// checkpoint does not. The next life's salts follow from those of the last.
fn nothing_was_committed(before: &Facts, now: &Facts) -> bool {
    now.mx_frame == 0
        && now.change == before.change
        && now.salts.0 == before.salts.0.wrapping_add(1)
        && (now.page_size, now.pages) == (before.page_size, before.pages)
}

/// Whether a read transaction that began so keeps a checkpointer from back-filling what is committed now, or from
/// restarting a WAL that is back-filled.
fn in_the_way(began: &Facts, now: &Facts) -> bool {
    let behind = began.salts != now.salts || began.mx_frame < now.mx_frame;
    behind || (!began.all_backfilled() && now.all_backfilled())
}
