//! The store does not answer while a whole image is to be streamed.
//!
//! The image's read transaction would keep the WAL from being checkpointed for as long as that lasts. So it is given up
//! with the first failure. Until the store answers a small question again, nothing is held or captured, the WAL is only
//! kept small; then the image begins anew, of what the database holds by then.

use super::{Replicator, Report};
use crate::error::KeepError;
use crate::sqlite::is_busy;
use litekeep_core::assess::Facts;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{ErrorKind, Key, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// When to ask the store next.
#[derive(Debug)]
pub(super) struct Away {
    ask_at: Duration,
    asking: bool,
}

impl Replicator {
    /// The announcement of an image could not be put: the stream does not wait for the next try. What announced it does,
    /// under its number, since nobody knows whether the store has it.
    pub(super) fn give_up_stream(&mut self, txid: Txid) {
        if self.staged.front().is_some_and(|slot| slot.built.txid == txid && slot.elsewhere) {
            self.go_away();
            self.let_go();
        }
    }

    /// Whether the oldest staged slot announces what was given up. Before it is known to be in the replica, nothing else
    /// gets a number.
    pub(super) fn announces_nothing(&self) -> bool {
        let Some(slot) = self.staged.front().filter(|slot| slot.elsewhere) else { return false };
        !self.image_busy && self.image.as_ref().is_none_or(|image| image.txid() != slot.built.txid)
    }

    /// Lets everything go until the store answers again.
    pub(super) fn stand_aside(&mut self) -> Result<(), KeepError> {
        self.go_away();
        self.mend_chain()
    }

    fn go_away(&mut self) {
        tracing::warn!(db = %self.path.display(), "the store does not take a whole image now; it begins anew when the \
            store answers again, and holds no WAL until then");
        let now = self.env.clock.boot();
        self.away = Some(Away { ask_at: now + self.backoff(self.put_failures), asking: false });
        if let Some(edge) = &mut self.edge {
            edge.end_hold();
        }
    }

    /// One round without the store; returns when the next is due.
    pub(super) fn away_round(&mut self) -> Result<Duration, KeepError> {
        let now = self.env.clock.boot();
        let Some(away) = &mut self.away else { return Ok(Duration::ZERO) };
        let mut wait = self.settings.monitor_interval;
        if !away.asking {
            wait = wait.min(away.ask_at.saturating_sub(now));
            if now >= away.ask_at {
                away.asking = true;
                self.ask_store();
            }
        }
        self.keep_wal_small()?;
        Ok(wait)
    }

    fn ask_store(&self) {
        let store = Arc::clone(&self.env.store);
        let next = self.chain.durable.map_or(Txid::FIRST, Txid::next);
        self.spawn(
            "ask",
            move |reporter| reporter.report(Report::Back(answers(&*store, next).map_err(KeepError::from))),
            Report::Back(Err(KeepError::JobLost("ask"))),
        );
    }

    pub(super) fn store_is_back(&mut self, result: Result<(), KeepError>) -> Result<(), KeepError> {
        let now = self.env.clock.boot();
        let pause = self.backoff(self.put_failures);
        let Some(away) = &mut self.away else { return Ok(()) };
        match result {
            Ok(()) => {
                assert!(self.broken.is_some(), "BUG: frames went by unseen, and nothing says so");
                self.away = None;
                self.next_put = now;
                Ok(())
            }
            Err(error) => {
                (away.asking, away.ask_at) = (false, now + pause);
                self.put_failures = self.put_failures.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Asks at once: a stop does not wait for a pause to end.
    pub(super) fn ask_store_now(&mut self) {
        let now = self.env.clock.boot();
        if let Some(away) = &mut self.away {
            away.ask_at = now;
        }
    }

    /// Back-fills what is committed. Nothing of ours holds the WAL, so the next writer restarts it.
    fn keep_wal_small(&mut self) -> Result<(), KeepError> {
        let now = self.env.clock.boot();
        if !self.follow_file()? || !self.connect()? || now < self.checkpoint_not_before() {
            return Ok(());
        }
        match self.back_fill() {
            Ok(left) => {
                self.checkpoint_tried(left, now);
                Ok(())
            }
            Err(KeepError::Sqlite { error, .. }) if is_busy(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns how many frames should have been back-filled and are not.
    fn back_fill(&mut self) -> Result<u32, KeepError> {
        let least = self.settings.min_checkpoint_pages;
        let due = |facts: &Facts| facts.mx_frame >= least && !facts.all_backfilled();
        let sqlite = self.sqlite();
        let Some(facts) = self.edge().facts().map_err(&sqlite)? else { return Ok(0) };
        self.shared.update(|status| status.wal_frames = facts.mx_frame);
        if due(&facts) {
            self.edge().checkpoint().map_err(&sqlite)?;
        }
        // A writer that never pauses: what it committed meanwhile is back-filled under its lock.
        let still = self.edge().facts().map_err(&sqlite)?;
        if still.as_ref().is_some_and(due) && self.take_write_lock()? {
            let ran = self.edge().checkpoint();
            self.edge().write_unlock();
            ran.map_err(&sqlite)?;
        }
        let left = self.edge().facts().map_err(&sqlite)?.filter(due);
        Ok(left.map_or(0, |facts| facts.mx_frame.saturating_sub(facts.backfilled)))
    }
}

/// Whether the store answers: by the name of the next slot, which is there or not.
fn answers(store: &dyn Store, next: Txid) -> Result<(), StoreError> {
    match store.head(&Key::Ltx(Level::SLOTS, TxidRange::single(next))) {
        Err(error) if error.kind != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
