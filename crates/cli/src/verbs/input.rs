//! Whether what a configuration calls a database can be one: looked at before anything starts. Reads a header, changes
//! nothing.

use crate::trouble::Trouble;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// What to try where this user may not read or write.
pub(crate) const AS_WHOM: &str =
    "run litekeep as the user of the application: it reads and writes the database and its folder";

/// What every SQLite database begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where a database's header says who may write it, and what stands there for WAL mode.
const WRITE_VERSION: (usize, u8) = (18, 2);

/// A file that is not there yet is waited for, and so is one that is empty.
///
/// # Errors
/// It is there, and no database, or none that may be read and written.
pub(crate) fn check(database: &Path) -> Result<(), Trouble> {
    let path = database.display();
    let metadata = match fs::metadata(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(database, &error)),
        Ok(metadata) => metadata,
    };
    if metadata.is_dir() {
        return Err(Trouble::new(format!("{path} is a directory, not a database")).hint(
            "name the file of the database; for all databases of a directory use `dir` in the configuration",
        ));
    }
    if !metadata.is_file() {
        return Err(Trouble::new(format!("{path} is no regular file")).hint("name the file of the database"));
    }
    let head = head(database).map_err(|error| refused(database, &error))?;
    if head.is_empty() {
        return Ok(());
    }
    if !head.starts_with(MAGIC) {
        return Err(Trouble::new(format!("{path} is not an SQLite database"))
            .hint("check the path; a database that is encrypted as a whole can't be replicated"));
    }
    let (at, wal) = WRITE_VERSION;
    if head.get(at).is_some_and(|version| *version != wal) {
        tracing::warn!(
            db = %path,
            "the database is not in WAL mode: it is changed to that as soon as nobody uses it; `PRAGMA journal_mode=WAL` \
             in the application does it too"
        );
    }
    Ok(())
}

/// The first bytes. Nothing in this process has the database open yet: closing a file gives up all locks on it.
fn head(database: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    OpenOptions::new().read(true).write(true).open(database)?.take(100).read_to_end(&mut head)?;
    Ok(head)
}

fn refused(database: &Path, error: &io::Error) -> Trouble {
    Trouble::new(format!("can't open {}", database.display())).because(error).hint(AS_WHOM)
}
