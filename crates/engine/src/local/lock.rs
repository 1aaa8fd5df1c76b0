//! Who works with a database holds its locks: that of the local state's directory, and that beside the database. Locks are
//! files, and stay; nothing here removes one.

use super::{LOCK, LocalError, at, directory};
use crate::files::{File, Files, Open};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A lock that is held, and where it lies.
pub(super) struct Lock {
    path: PathBuf,
    file: Arc<dyn File>,
}

impl Lock {
    /// Whether it still lies where the next engine would look for it.
    pub(super) fn is_in_place(&self, files: &dyn Files) -> io::Result<bool> {
        Ok(files.id(&self.path)? == Some(self.file.id()?))
    }
}

pub(super) fn take_lock(files: &dyn Files, dir: &Path) -> Result<Lock, LocalError> {
    let path = dir.join(LOCK);
    let file = files.open(&path, Open::CreateOrKeep).map_err(at(&path))?;
    if file.try_lock().map_err(at(&path))? { Ok(Lock { path, file }) } else { Err(LocalError::Locked(path)) }
}

/// The lock in the usual directory beside the database's real name, whatever name it was given by and wherever its state
/// lies: two engines on one file would else not meet (R19). The database file itself is never opened for it: closing it
/// would end SQLite's locks in this process. `None` where `dir` is that directory, or where none can be had: that is no
/// reason not to replicate.
pub(super) fn guard(files: &dyn Files, database: &Path, dir: &Path) -> Result<Option<Lock>, LocalError> {
    let usual = match files.real_path(database) {
        Ok(real) => directory(&real, None),
        // The directory above is not there yet, and is not ours to make.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(database)(error)),
    };
    if usual == dir {
        return Ok(None);
    }
    let taken = || {
        files.create_dir(&usual).map_err(at(&usual))?;
        if files.id(&usual).map_err(at(&usual))? == files.id(dir).map_err(at(dir))? {
            return Ok(None);
        }
        take_lock(files, &usual).map(Some)
    };
    match taken() {
        Err(error @ LocalError::Io { .. }) => {
            tracing::warn!(path = %usual.display(), %error, "no lock can be put beside the database: a second litekeep \
                with another state directory would not be noticed");
            Ok(None)
        }
        taken => taken,
    }
}
