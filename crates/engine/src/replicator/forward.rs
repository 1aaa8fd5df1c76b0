//! An older state of the chain is brought forward: through SQLite itself, in one transaction, so that whoever has
//! the file open sees the old state or the new one, and nothing is written behind SQLite's back.

use super::{Env, Phase, Replicator, Report};
use crate::error::KeepError;
use crate::files::Open;
use crate::local::{RestoredRecord, content, record_state};
use crate::restore::{Options, Outcome, RestoreEnv, RestoreError, Restored, restore};
use crate::slot::BuildError;
use litekeep_core::limits;
use litekeep_core::lineage::RemoteTip;
use litekeep_core::restore::Target;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::{Checksum, PageNo};
use litekeep_store::{ErrorKind, Failure, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The replica's newest state, restored beside the database.
#[derive(Debug)]
pub(crate) struct Newer {
    restored: Box<Restored>,
    path: PathBuf,
}

impl Newer {
    /// Where it lies, for a short while.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is; `None` for a v0.3 backup, which is no chain.
    pub(super) fn record(&self, replica: String) -> Option<RestoredRecord> {
        self.restored.record(replica)
    }
}

/// Restores the replica's state `tip` to `into`, with its page checksums beside it.
pub(super) fn restore_tip(
    env: &Env,
    tip: &RemoteTip,
    into: &Path,
    state_dir: Option<&Path>,
) -> Result<Newer, KeepError> {
    let restore_env = RestoreEnv {
        store: Arc::clone(&env.store),
        files: Arc::clone(&env.files),
        clock: Arc::clone(&env.clock),
        vfs: env.vfs.clone(),
    };
    let options = Options {
        target: Target::Txid(tip.txid),
        force: true,
        state_dir: state_dir.map(Path::to_owned),
        ..Options::new(into)
    };
    let because = |kind, what: String| {
        let cause = Failure::Text(format!("its newest state cannot be restored: {what}"));
        KeepError::from(StoreError::new(kind, "read", env.store.location(), cause))
    };
    let unusable = |what| because(ErrorKind::DataDamaged, what);
    match restore(&restore_env, &options, &mut |_| {}) {
        Ok(Outcome::Restored(restored)) => Ok(Newer { restored, path: into.to_owned() }),
        Ok(_) => Err(unusable("nothing was there".to_owned())),
        // What may pass is tried again: a store that does not answer, a disk that is full.
        Err(RestoreError::Unreachable(error)) => Err(KeepError::Store(*error)),
        Err(RestoreError::Local { path, cause: error, .. }) => {
            Err(KeepError::Io { what: "compare with the replica in", path, error })
        }
        Err(error @ RestoreError::Unsettled { .. }) => Err(because(ErrorKind::Retry, error.to_string())),
        Err(error) => Err(unusable(error.to_string())),
    }
}

impl Replicator {
    /// Sends a job to restore the tip beside the database.
    pub(super) fn bring_forward(&mut self, tip: RemoteTip) {
        tracing::info!(db = %self.path.display(), to = %tip.txid, "the database is an older state of the replica; \
            bringing it forward");
        self.phase = Phase::Comparing;
        let env = self.env.clone();
        let dir = self.local.dir().to_owned();
        self.spawn(
            "forward",
            move |reporter| {
                let newer = restore_tip(&env, &tip, &dir.join("forward.tmp"), Some(&dir));
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
        self.env.files.remove(&newer.path).map_err(self.io("remove a restored file in"))?;
        if !written? {
            return self.database_is_locked();
        }
        let Some(record) = newer.record(self.env.store.location()) else {
            return Err(self.behind(Some(tip)));
        };
        let tail = self.env.random.next_u64();
        let forward = target.into_iter().collect();
        let state = record_state(&self.local, &*self.env.files, &self.path, &record, tail, forward)
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
        let io = self.io("read a restored file in");
        let file = self.env.files.open(&newer.path, Open::Read).map_err(&io)?;
        let mut first = vec![0; record.page_size.bytes()];
        crate::files::read_exact_at(&*file, &mut first, 0).map_err(&io)?;
        let first_page = PageNo::FIRST;
        let target =
            record.database.toggle(page_checksum(first_page, &first)).toggle(content(first_page, &first));
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
        let page_size = state.page_size;
        let (mut old, mut old_content) = (Checksum::EMPTY, Checksum::EMPTY);
        let file =
            self.env.files.open(&newer.path, Open::Read).map_err(self.io("read a restored file in"))?;
        let pages = newer.restored.pages;
        let mut buf = vec![0; page_size.bytes()];
        let edge = self.edge();
        let same_size = newer.restored.page_size == Some(page_size);
        scan.for_each(|page, data| {
            old = old.toggle(page_checksum(page, data));
            old_content = old_content.toggle(content(page, data));
            if page.get() > pages || !same_size {
                return Ok::<_, BuildError>(());
            }
            crate::files::read_exact_at(&*file, &mut buf, page.offset(page_size))?;
            if buf != data {
                edge.write_page(page, &buf)?;
            }
            Ok(())
        })
        .map_err(self.build_failed(newer.restored.txid().unwrap_or(state.txid)))?;
        let known = Some(old) == state.database || state.forward.contains(&old_content);
        if !known || !same_size {
            return Err(self.behind(None));
        }
        for number in scan.pages().map_err(self.sqlite())? + 1..=pages {
            let Some(page) = PageNo::new(number).filter(|page| *page != page_size.lock_page()) else {
                continue;
            };
            crate::files::read_exact_at(&*file, &mut buf, page.offset(page_size))
                .map_err(self.io("read a restored file in"))?;
            edge.write_page(page, &buf).map_err(self.sqlite())?;
        }
        edge.cut_after(pages).map_err(self.sqlite())
    }
}
