//! Whether what a configuration calls a database can be one: looked at before anything starts. Reads a header, changes
//! nothing.

use crate::trouble::Trouble;
use litekeep::files::{Files as _, RealFiles};
use litekeep_formats::sqlite::MAGIC;
use rustix::fs::OFlags;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What to try where this user may not read or write.
pub(crate) const AS_WHOM: &str =
    "run litekeep as the user of the application: it reads and writes the database and its folder";

/// What to try where a folder on the way is none.
pub(crate) const NO_FOLDER: &str = "check the path: what must be a folder is none";

/// Where a database's header says who may write it, and what stands there for WAL mode.
const WRITE_VERSION: (usize, u8) = (18, 2);

/// As [`judge`], and says what will be changed about it.
///
/// # Errors
/// See [`judge`].
pub(crate) fn check(database: &Path) -> Result<(), Trouble> {
    if judge(database)? == Journal::Other {
        tracing::warn!(
            db = %database.display(),
            "the database is not in WAL mode: it is changed to that as soon as nobody uses it; `PRAGMA journal_mode=WAL` \
             in the application does it too"
        );
    }
    Ok(())
}

/// How a database keeps what is committed, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    /// It is in WAL mode, or there is nothing yet that could be in another.
    Wal,
    /// It is in another mode.
    Other,
}

/// A file that is not there yet is waited for, and so is one that is empty, or whose folder is not there. Nothing in this
/// process may have it open: closing a file gives up all locks on it.
///
/// # Errors
/// It is there, and no database, or none that may be read and written; or it cannot come to be there.
pub(crate) fn judge(database: &Path) -> Result<Journal, Trouble> {
    let path = database.display();
    let no_file = || Trouble::new(format!("{path} is no regular file")).hint("name the file of the database");
    match fs::metadata(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match RealFiles.real_path(database) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(database, &error)),
                _ => Ok(Journal::Wal),
            };
        }
        Err(error) => return Err(refused(database, &error)),
        Ok(metadata) if metadata.is_dir() => {
            return Err(Trouble::new(format!("{path} is a directory, not a database")).hint(
                "name the file of the database; for all databases of a directory use `dir` in the configuration",
            ));
        }
        Ok(metadata) if !metadata.is_file() => return Err(no_file()),
        Ok(_) => {}
    }
    let mut both = OpenOptions::new();
    let head = head(database, both.read(true).write(true)).map_err(|error| refused(database, &error))?;
    let head = head.ok_or_else(no_file)?;
    if head.is_empty() {
        return Ok(Journal::Wal);
    }
    if !head.starts_with(MAGIC) {
        return Err(Trouble::new(format!("{path} is not an SQLite database"))
            .hint("check the path; a database that is encrypted as a whole can't be replicated"));
    }
    let (at, wal) = WRITE_VERSION;
    let other = head.get(at).is_some_and(|version| *version != wal);
    Ok(if other { Journal::Other } else { Journal::Wal })
}

fn refused(database: &Path, error: &io::Error) -> Trouble {
    let hint = if error.kind() == io::ErrorKind::NotADirectory { NO_FOLDER } else { AS_WHOM };
    Trouble::new(format!("can't open {}", database.display())).because(error).hint(hint)
}

/// Whether a file begins as a database; what is no file does not. Nothing in this process may have it open: closing a file
/// gives up all locks on it.
///
/// # Errors
/// It cannot be read.
pub(crate) fn is_database(path: &Path) -> io::Result<bool> {
    let head = head(path, OpenOptions::new().read(true))?;
    Ok(head.is_some_and(|head| head.starts_with(MAGIC)))
}

/// The first bytes of a regular file; `None` of anything else. What it is, is asked of what was opened: a pipe may have come
/// to the path since somebody looked, and to open that would wait for its other end, for ever.
fn head(path: &Path, options: &mut OpenOptions) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut head = Vec::new();
    file.take(100).read_to_end(&mut head)?;
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn what_became_a_pipe_since_it_was_found_is_no_database_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("a.db");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).expect("made");
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || drop(tell.send(is_database(&pipe))));
        // Without a writer it would wait for ever.
        let found = told.recv_timeout(Duration::from_secs(20)).expect("an answer");
        assert!(!found.expect("looked into"));
    }

    #[test]
    fn a_database_is_known_by_how_it_begins() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        for (bytes, is) in [
            (&b"SQLite format 3\0"[..], true),
            (b"SQLite format 3\0 and more", true),
            (b"SQLite format 3", false),
            (b"SQLite format 4\0", false),
            (b"", false),
        ] {
            fs::write(&path, bytes).expect("written");
            assert_eq!(is_database(&path).expect("read"), is, "{bytes:?}");
        }
    }
}
