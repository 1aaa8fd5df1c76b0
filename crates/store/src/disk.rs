//! The few file system calls a directory replica is made of, as a trait, so that tests can fail each of them, watch
//! their order, and cut the power between any two.
//!
//! [`RealDisk`] is the operating system. It never follows a rule of its own: durability is the caller's sequence of
//! [`DiskFile::sync`] and [`Disk::sync_dir`].

use bytes::Bytes;
use litekeep_formats::TimestampMs;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: never data of ours.
    Other,
}

/// A file's properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// See [`Kind`].
    pub kind: Kind,
    /// Bytes.
    pub len: u64,
    /// Modification time, nanoseconds since the Unix epoch.
    pub mtime_ns: i128,
    /// Device and inode: the file's identity.
    pub identity: (u64, u64),
}

impl Stat {
    /// Modification time to the millisecond, rounded down.
    pub fn modified(&self) -> TimestampMs {
        TimestampMs(i64::try_from(self.mtime_ns.div_euclid(1_000_000)).unwrap_or(i64::MAX))
    }
}

/// A file being written.
pub trait DiskFile: Send {
    /// Appends all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Sets the modification time.
    fn set_modified(&mut self, at: TimestampMs) -> io::Result<()>;
    /// Makes content and times durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes an exclusive advisory lock that ends with this value; `false` when someone else holds it.
    fn try_lock(&mut self) -> io::Result<bool>;
    /// Size, times and identity.
    fn stat(&self) -> io::Result<Stat>;
}

/// File system calls by path.
pub trait Disk: Send + Sync {
    /// Creates a file that must not exist, for writing (mode 0600).
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that is there, for writing, without changing its content.
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The same, creating it if need be (mode 0600).
    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file a second name; fails if that exists.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames; fails if the new name exists, or where the file system can't promise that.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates one directory (mode 0700); its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no particular order; those that are not UTF-8 are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// A path's properties, symbolic links followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// `len` bytes from `offset`, fewer at the file's end, with the properties of the very file that was read.
    fn read(&self, path: &Path, offset: u64, len: u64) -> io::Result<(Stat, Bytes)>;
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile(File);

/// One read call's share of a large read, bytes: memory grows with what is there, not with what was asked for.
const READ_STEP: u64 = 1 << 20;

fn stat_of(meta: &std::fs::Metadata) -> Stat {
    let kind = match meta.file_type() {
        t if t.is_file() => Kind::File,
        t if t.is_dir() => Kind::Directory,
        _ => Kind::Other,
    };
    let mtime_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Stat { kind, len: meta.len(), mtime_ns, identity: (meta.dev(), meta.ino()) }
}

fn writable() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

impl Disk for RealDisk {
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(writable().create_new(true).open(path)?)))
    }

    fn open_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(writable().open(path)?)))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(writable().create(true).truncate(false).open(path)?)))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::mkdir(path, Mode::RWXU)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(rustix::fs::fsync(dir)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat_of(&std::fs::metadata(path)?))
    }

    fn read(&self, path: &Path, offset: u64, len: u64) -> io::Result<(Stat, Bytes)> {
        let file = File::open(path)?;
        let stat = stat_of(&file.metadata()?);
        let end = offset.saturating_add(len).min(stat.len);
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let step = usize::try_from((end - at).min(READ_STEP)).unwrap_or(usize::MAX);
            let old = bytes.len();
            bytes.resize(old + step, 0);
            let got = file.read_at(&mut bytes[old..], at)?;
            bytes.truncate(old + got);
            if got == 0 {
                break;
            }
            at += got as u64;
        }
        Ok((stat, Bytes::from(bytes)))
    }
}

impl DiskFile for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn set_modified(&mut self, at: TimestampMs) -> io::Result<()> {
        let time = Timespec { tv_sec: at.0.div_euclid(1000), tv_nsec: at.0.rem_euclid(1000) * 1_000_000 };
        Ok(rustix::fs::futimens(&self.0, &Timestamps { last_access: time, last_modification: time })?)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        match rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&self.0.metadata()?))
    }
}
