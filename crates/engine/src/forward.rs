//! An older state of a chain is brought forward: the newer one is restored beside the database, and what differs is
//! written through SQLite itself, in one transaction, so that whoever has the file open sees the old state or the new
//! one. Nothing is written behind SQLite's back, and nothing is decided here: whether the file may be changed at all
//! is the caller's to say, before it commits.

use crate::error::KeepError;
use crate::files::{self, Files, Open};
use crate::local::{RestoredRecord, content};
use crate::noted;
use crate::replicator::Env;
use crate::restore::{Integrity, Options, Outcome, RestoreEnv, RestoreError, Restored, restore};
use crate::slot::BuildError;
use crate::sqlite::{Edge, Scan};
use litekeep_core::restore::Target;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::{Checksum, PageNo, PageSize, Txid};
use litekeep_store::{ErrorKind, Failure, StoreError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A newer state of the chain, restored beside the database.
#[derive(Debug)]
pub(crate) struct Newer {
    restored: Box<Restored>,
    path: PathBuf,
}

/// What stood in the database before a newer state was laid over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before {
    /// The rolling checksum of its pages.
    pub(crate) database: Checksum,
    /// The same without what SQLite counts in page 1 by itself.
    pub(crate) content: Checksum,
    /// Whether anything was written over it.
    pub(crate) changed: bool,
}

impl Newer {
    /// Where it lies, for a short while.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its transaction; `None` for a v0.3 backup, which is no chain.
    pub(crate) fn txid(&self) -> Option<Txid> {
        self.restored.txid()
    }

    /// Bytes of its pages; `None` for an empty v0.3 database.
    pub(crate) fn page_size(&self) -> Option<PageSize> {
        self.restored.page_size
    }

    /// Everything that was found out about it.
    pub(crate) fn restored(&self) -> &Restored {
        &self.restored
    }

    /// What it is; `None` for a v0.3 backup. Nobody chose it over a later one: what came while it was restored is to
    /// be followed, not to be taken back (R21 is for people).
    pub(crate) fn record(&self, replica: String) -> Option<RestoredRecord> {
        let record = self.restored.record(replica)?;
        Some(RestoredRecord { newest: record.txid, ..record })
    }

    /// The content of a database that it was laid over.
    pub(crate) fn content(&self, files: &dyn Files, record: &RestoredRecord) -> io::Result<Checksum> {
        let file = files.open(&self.path, Open::Read)?;
        let mut first = vec![0; record.page_size.bytes()];
        files::read_exact_at(&*file, &mut first, 0)?;
        let page = PageNo::FIRST;
        Ok(record.database.toggle(page_checksum(page, &first)).toggle(content(page, &first)))
    }

    /// Writes what differs into the transaction that `edge` has begun, of which `scan` shows the state before. Both
    /// have pages of the same size. What stood there comes back for the caller to judge before the commit.
    pub(crate) fn lay_over(&self, files: &dyn Files, edge: &Edge, scan: &Scan) -> Result<Before, BuildError> {
        let page_size = scan.page_size();
        let file = files.open(&self.path, Open::Read)?;
        let pages = self.restored.pages;
        let mut before = Before { database: Checksum::EMPTY, content: Checksum::EMPTY, changed: false };
        let mut buf = vec![0; page_size.bytes()];
        scan.for_each(|page, data| {
            before.database = before.database.toggle(page_checksum(page, data));
            before.content = before.content.toggle(content(page, data));
            if page.get() > pages {
                return Ok::<_, BuildError>(());
            }
            files::read_exact_at(&*file, &mut buf, page.offset(page_size))?;
            if buf != data {
                edge.write_page(page, &buf)?;
                before.changed = true;
            }
            Ok(())
        })?;
        let old_pages = scan.pages()?;
        before.changed |= old_pages != pages;
        for number in old_pages + 1..=pages {
            let Some(page) = PageNo::new(number).filter(|page| *page != page_size.lock_page()) else {
                continue;
            };
            files::read_exact_at(&*file, &mut buf, page.offset(page_size))?;
            edge.write_page(page, &buf)?;
        }
        edge.cut_after(pages)?;
        Ok(before)
    }
}

/// What a restore beside a database, or in its place, is told.
pub(crate) fn options(txid: Txid, into: &Path, state_dir: Option<&Path>) -> Options {
    Options {
        target: Target::Txid(txid),
        force: true,
        state_dir: state_dir.map(Path::to_owned),
        ..Options::new(into)
    }
}

/// Restores state `txid` of the replica, with its page checksums beside it where a state directory is given.
///
/// # Errors
/// The store's own where it did not answer: that passes. Anything else is damage.
pub(crate) fn restore_state(env: &Env, txid: Txid, options: &Options) -> Result<Newer, KeepError> {
    let restore_env = RestoreEnv {
        store: Arc::clone(&env.store),
        files: Arc::clone(&env.files),
        clock: Arc::clone(&env.clock),
        vfs: env.vfs.clone(),
    };
    let fail = |kind: ErrorKind, what: String| {
        let cause = Failure::Text(format!("its state at transaction {txid} cannot be restored: {what}"));
        KeepError::from(StoreError::new(kind, "read", env.store.location(), cause))
    };
    let options = &Options { is_whole: env.decisions.is_whole, ..options.clone() };
    match restore(&restore_env, options, &mut |_| {}) {
        Ok(Outcome::Restored(restored)) => {
            note(env, options.state_dir.as_deref(), &restored)?;
            Ok(Newer { restored, path: options.output.clone() })
        }
        Ok(_) => Err(fail(ErrorKind::DataDamaged, "nothing was there".to_owned())),
        Err(RestoreError::Unreachable(error)) => Err((*error).into()),
        Err(RestoreError::Local { operation: what, path, cause: error, .. }) => {
            Err(KeepError::Io { what, path, error })
        }
        Err(RestoreError::OutputBusy(what) | RestoreError::Sqlite(what)) => Err(KeepError::Io {
            what: "restore to",
            path: options.output.clone(),
            error: io::Error::new(io::ErrorKind::ResourceBusy, what),
        }),
        // Whoever asks for it has seen it by its name: a listing lags, or it was merged meanwhile.
        Err(error @ (RestoreError::Unsettled { .. } | RestoreError::NotAvailable { .. })) => {
            Err(fail(ErrorKind::Retry, error.to_string()))
        }
        Err(error) => Err(fail(ErrorKind::DataDamaged, error.to_string())),
    }
}

/// For people: this state was restored from the replica, and is good. A disk that does not take that is heard of: what is
/// made of the state is written to the same directory.
fn note(env: &Env, state_dir: Option<&Path>, restored: &Restored) -> Result<(), KeepError> {
    let (Some(dir), Some(txid)) = (state_dir, restored.txid()) else { return Ok(()) };
    if restored.integrity == Integrity::Unchecked {
        return Ok(());
    }
    let (replica, at) = (env.store.location(), env.clock.wall());
    noted::note_restored(&*env.files, dir, &replica, (txid, at)).map_err(|error| KeepError::Io {
        what: "note a restore in",
        path: dir.to_owned(),
        error,
    })
}
