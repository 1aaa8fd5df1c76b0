//! Where a restored database really goes: to the file that links lead to, on the volume that they chose, and never over
//! anything that is no file. Looks only; what it finds is replaced, if at all, by the restore.

use crate::trouble::{Exit, Trouble};
use litekeep::restore as engine;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// As many links as Linux follows.
const MOST_LINKS: u32 = 40;

/// Follows links, also one to a file that is not there yet.
///
/// # Errors
/// It leads to something that is no regular file, in a circle, or out of reach.
pub(super) fn of(path: &Path) -> Result<PathBuf, Trouble> {
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        let kind = match fs::symlink_metadata(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(at),
            // a parent that is no directory is the restore's own error
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(at),
            Err(error) => return Err(refused(path, "can't be looked at").because(&error)),
            Ok(metadata) => metadata.file_type(),
        };
        if !kind.is_symlink() {
            return if kind.is_file() { Ok(at) } else { Err(no_file(&at, kind)) };
        }
        let link = fs::read_link(&at).map_err(|error| refused(path, "can't be followed").because(&error))?;
        // `..` in a link is meant from where its folder really is
        let folder = match at.parent() {
            Some(folder) if link.is_relative() => {
                folder.canonicalize().map_err(|error| refused(path, "can't be followed").because(&error))?
            }
            _ => PathBuf::new(),
        };
        at = folder.join(link);
    }
    Err(refused(path, "is a link that leads in a circle"))
}

fn no_file(path: &Path, kind: FileType) -> Trouble {
    refused(
        path,
        match kind {
            kind if kind.is_dir() => "is a directory",
            kind if kind.is_fifo() => "is a FIFO",
            kind if kind.is_socket() => "is a socket",
            kind if kind.is_block_device() || kind.is_char_device() => "is a device",
            _ => "is no regular file",
        },
    )
}

fn refused(path: &Path, what: &str) -> Trouble {
    Trouble::new(format!("cannot restore, {} {what}", path.display()))
        .hint("name the file that the database is to be, with `-o`")
        .exit(Exit(engine::exit::OUTPUT))
}
