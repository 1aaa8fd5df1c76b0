//! An older state of the chain is brought forward: through SQLite itself, in one transaction, so that whoever has
//! the file open sees the old state or the new one, and nothing is written behind SQLite's back.

use super::{Env, Phase, Replicator, Report};
use crate::error::KeepError;
pub(super) use crate::forward::Newer;
use crate::forward::{self, restore_state};
use crate::jobs::JobKind;
use crate::local::record_state;
use crate::restore::Options;
use litekeep_core::limits;
use litekeep_core::lineage::RemoteTip;
use litekeep_formats::Checksum;
use std::path::Path;

/// Restores the replica's state `tip` to `into`, with its page checksums beside it.
pub(super) fn restore_tip(
    env: &Env,
    tip: &RemoteTip,
    into: &Path,
    state_dir: Option<&Path>,
    parallelism: usize,
) -> Result<Newer, KeepError> {
    let options = Options { parallelism, ..forward::options(tip.txid, into, state_dir) };
    restore_state(env, tip.txid, &options)
}

impl Replicator {
    /// Sends a job to restore the tip beside the database.
    pub(super) fn bring_forward(&mut self, tip: RemoteTip) {
        tracing::info!(db = %self.path.display(), to = %tip.txid, "the database is an older state of the replica; \
            bringing it forward");
        self.phase = Phase::Comparing;
        let (env, parallelism) = (self.env.clone(), self.settings.restore_parallelism);
        let dir = self.local.dir().to_owned();
        self.spawn_as(
            JobKind::Long,
            "forward",
            move |reporter| {
                let newer = restore_tip(&env, &tip, &dir.join("forward.tmp"), Some(&dir), parallelism);
                reporter.report(Report::Forward(tip, newer));
            },
            Report::Forward(tip, Err(KeepError::JobLost("forward"))),
        );
    }

    pub(super) fn forward_restored(
        &mut self,
        tip: RemoteTip,
        result: Result<Newer, KeepError>,
    ) -> Result<(), KeepError> {
        let newer = result?;
        let target = self.intend(&newer)?;
        let written = self.write_forward(&newer);
        self.env.files.remove(newer.path()).map_err(self.io("remove a restored file in"))?;
        if !written? {
            return self.database_is_locked();
        }
        let Some(record) = newer.record(self.env.store.location()) else {
            return Err(self.behind(Some(tip)));
        };
        let tail = self.env.random.next_u64();
        let state = record_state(&self.local, &*self.env.files, &self.path, &record, tail, target)
            .map_err(self.io("save the state in"))?;
        self.adopt(state)?;
        // SQLite wrote the change counter anew: the first comparison ships that page, and whatever came since.
        self.broken = Some(litekeep_core::assess::BreakReason::NoPosition);
        self.claim()
    }

    /// Writes down what the file is about to become. Between the commit and the new state's record lies a moment in
    /// which the file would else seem to have changes of its own. Returns that content.
    fn intend(&mut self, newer: &Newer) -> Result<Option<Checksum>, KeepError> {
        let Some(record) = newer.record(self.env.store.location()) else { return Ok(None) };
        let target = newer.content(&*self.env.files, &record).map_err(self.io("read a restored file in"))?;
        let Some(state) = &mut self.state else { return Ok(None) };
        if !state.forward.contains(&target) {
            state.forward.push(target);
            let more = state.forward.len().saturating_sub(limits::FORWARD_CONTENTS);
            state.forward.drain(..more);
        }
        self.save()?;
        Ok(Some(target))
    }

    /// One transaction that makes the database the newer state; `false` while somebody else writes. Refuses when the
    /// database is no longer what was compared with the chain.
    fn write_forward(&self, newer: &Newer) -> Result<bool, KeepError> {
        let edge = self.edge();
        if !edge.try_write_lock().map_err(self.sqlite())? {
            return Ok(false);
        }
        let result = self.write_forward_locked(newer);
        if result.is_err() {
            edge.write_unlock();
            return result.map(|()| true);
        }
        if let Err(error) = edge.commit() {
            // A commit that failed may leave its transaction, and the application's writers behind it.
            edge.write_unlock();
            return Err(self.sqlite()(error));
        }
        Ok(true)
    }

    fn write_forward_locked(&self, newer: &Newer) -> Result<(), KeepError> {
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::capture::busy()))?;
        let state = self.state();
        if newer.page_size() != Some(state.page_size) || scan.page_size() != state.page_size {
            return Err(self.behind(None));
        }
        let failed = self.build_failed(newer.txid().unwrap_or(state.txid));
        let before = newer.lay_over(&*self.env.files, self.edge(), &scan).map_err(failed)?;
        if Some(before.database) != state.database && !state.may_hold(before.content) {
            return Err(self.behind(None));
        }
        Ok(())
    }
}
