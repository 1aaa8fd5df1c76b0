//! The place of the restored database: a temporary file beside it, and the swap.
//!
//! The temporary file has one name for each target and is locked while its restore lives, so a second restore of the
//! same file is refused and a crashed one leaves at most one file, which the next one takes over (R45). Nothing at the
//! target is touched before the new file is verified and durable. At no point does a new database lie beside an old
//! `-wal`: the old database is first brought to rest, then loses its side files, then is replaced (R48).

use crate::files::{self, File, Files, Open};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What SQLite lays beside a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Where the database is put together.
pub(crate) fn temporary(target: &Path) -> PathBuf {
    files::with_suffix(target, ".litekeep-restore")
}

/// What already stands at a target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// The database file is there (it may be empty).
    pub(crate) database: bool,
    /// What keeps a restore from going there: a database with content, or side files of one.
    pub(crate) occupied: Vec<PathBuf>,
}

/// Looks at a target.
pub(crate) fn standing(files: &dyn Files, target: &Path) -> io::Result<Standing> {
    let len = files.len(target)?;
    let mut occupied = Vec::new();
    if len.is_some_and(|len| len > 0) {
        occupied.push(target.to_owned());
    }
    for suffix in SIDECARS {
        let path = files::with_suffix(target, suffix);
        if files.len(&path)?.is_some() {
            occupied.push(path);
        }
    }
    Ok(Standing { database: len.is_some(), occupied })
}

/// Why there is no place to restore to, or the swap did not happen. Whatever stood at the target still does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// Another restore works on the same target.
    #[error("another restore is writing {}", .0.display())]
    Busy(PathBuf),
    /// SQLite has the old database open.
    #[error("{} is open in another process", .0.display())]
    InUse(PathBuf),
    /// The old database could not be brought to rest.
    #[error("the old database could not be brought to rest: {0}")]
    Unrest(rusqlite::Error),
    /// The local disk.
    #[error(transparent)]
    Local(#[from] io::Error),
}

/// A database being put together. Dropping it removes the temporary file.
pub(crate) struct Draft {
    files: Arc<dyn Files>,
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    placed: bool,
}

impl Draft {
    /// Makes the target's directory (R49) and takes the temporary file, or takes over a dead restore's.
    pub(crate) fn begin(files: &Arc<dyn Files>, target: &Path) -> Result<Self, OutputError> {
        files.create_dir(files::parent(target))?;
        let path = temporary(target);
        loop {
            let file = files.open(&path, Open::CreateOrKeep)?;
            if !file.try_lock()? {
                return Err(OutputError::Busy(target.to_owned()));
            }
            // What was opened may by now be the database: its restore may have ended between opening and locking.
            if files.id(&path)? != Some(file.id()?) {
                continue;
            }
            file.set_len(0)?;
            let draft = Self { files: Arc::clone(files), path, file: Some(file), placed: false };
            draft.files.remove(&draft.spill())?;
            return Ok(draft);
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A second file beside it, for what does not fit into memory.
    pub(crate) fn spill(&self) -> PathBuf {
        files::with_suffix(&self.path, "-spill")
    }

    /// The open file, emptied.
    pub(crate) fn emptied(&self) -> io::Result<Arc<dyn File>> {
        let file = self.file()?;
        file.set_len(0)?;
        Ok(file)
    }

    /// The open file.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn File>> {
        self.file.clone().ok_or_else(|| io::Error::other("BUG: the draft was placed already"))
    }

    /// Puts the verified file in the target's place.
    pub(crate) fn place(mut self, target: &Path, force: bool, vfs: Option<&str>) -> Result<(), OutputError> {
        self.file()?.sync()?;
        let standing = standing(&*self.files, target)?;
        // Held over the swap, so that nobody opens the old database in between.
        let mut rest = None;
        if !standing.occupied.is_empty() {
            if !force {
                let text = format!("{} appeared during the restore", target.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text).into());
            }
            if standing.occupied.iter().any(|path| path == target) {
                rest = bring_to_rest(target, vfs)?;
            }
            for suffix in SIDECARS {
                self.files.remove(&files::with_suffix(target, suffix))?;
            }
            self.files.sync_dir(files::parent(target))?;
        }
        self.files.rename(&self.path, target)?;
        self.placed = true;
        self.files.sync_dir(files::parent(target))?;
        // Closing checkpoints nothing and removes nothing: whatever lies beside the target now is the new one's.
        drop(rest);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed
            && self.file.is_some()
            && let Err(error) = self.files.remove(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the temporary file");
        }
        self.file = None;
    }
}

/// Takes the old database exclusively and moves its WAL into it, so that it stays whole without its side files.
/// `None` if it is no database that SQLite can read: there is then nothing to keep whole.
fn bring_to_rest(target: &Path, vfs: Option<&str>) -> Result<Option<Connection>, OutputError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(target, flags, vfs),
        None => Connection::open_with_flags(target, flags),
    };
    let result = opened.and_then(|connection| {
        connection.busy_timeout(Duration::ZERO)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // With this set before the first access, SQLite takes the file's lock for itself: it is refused while any
        // other connection has the database open in WAL mode, busy or idle.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(connection)
    });
    match result {
        Ok(connection) => Ok(Some(connection)),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Err(OutputError::InUse(target.to_owned()))
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Ok(None),
            _ => Err(OutputError::Unrest(error)),
        },
    }
}
