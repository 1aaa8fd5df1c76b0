//! Files as the engine uses them: a trait, so that a simulation can lose, reorder and tear what was not synced.
//!
//! The database file and its `-shm` are never opened through this trait while SQLite has them open in this process:
//! closing any descriptor of theirs would drop SQLite's POSIX locks. The `-wal` carries no locks and may be.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which file a path means: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
}

/// What can be said of a file without opening it: whoever wrote to it since has changed this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which file it is.
    pub file: FileId,
    /// Length in bytes.
    pub len: u64,
    /// When it was last written to, since 1970; `None` where nobody can tell.
    pub modified: Option<std::time::Duration>,
}

impl Stamp {
    /// Whether none of these files was written to in between. Where that cannot be told, it may have been.
    pub fn all_same(now: &[Option<Self>], then: &[Option<Self>]) -> bool {
        now == then && now.iter().flatten().all(Self::is_dated)
    }

    /// Whether it tells when the file was last written to.
    pub const fn is_dated(&self) -> bool {
        self.modified.is_some()
    }
}

/// How to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, reading only.
    Read,
    /// An existing file, reading and writing.
    Write,
    /// Read and write; made empty if it was not there, kept as it is if it was.
    CreateOrKeep,
    /// A new, empty file; fails with `AlreadyExists` if there is one.
    CreateNew,
    /// Read and write; emptied if it was there.
    CreateOrTruncate,
}

/// An open file. All positions are bytes from the start.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// The file that is open, whatever its path means now.
    fn id(&self) -> io::Result<FileId>;
    /// Takes an exclusive advisory lock that ends with this handle; `false` if somebody else holds it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// A file system.
pub trait Files: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// The file a path means now; `None` if nothing is there.
    fn id(&self, path: &Path) -> io::Result<Option<FileId>>;
    /// Length in bytes; `None` if nothing is there.
    fn len(&self, path: &Path) -> io::Result<Option<u64>>;
    /// See [`Stamp`]; `None` if nothing is there.
    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        let (Some(file), Some(len)) = (self.id(path)?, self.len(path)?) else { return Ok(None) };
        Ok(Some(Stamp { file, len, modified: None }))
    }
    /// Renames within one file system, replacing `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is gone already is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents, mode 0700 for those it makes; existing ones are no error.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, ascending; empty if it is not there.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// The same path without links in it, where that can be told; its last name need not be there, the directory above
    /// must: `NotFound` says that nobody has made that yet, and nothing else does.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    /// Makes the directory's names durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The machine's life: what was written and not synced may be gone once this is another one. `None` where that
    /// cannot be told.
    fn boot_id(&self) -> Option<String> {
        None
    }
}

/// Reads exactly `buf.len()` bytes or fails with `UnexpectedEof`.
///
/// # Errors
/// The file's own, or `UnexpectedEof`.
pub fn read_exact_at(file: &dyn File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        let n = file.read_at(buf, offset)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf = &mut buf[n..];
        offset += n as u64;
    }
    Ok(())
}

/// Writes a small file so that a crash leaves the old or the new content whole: temporary file, sync, rename, sync of
/// the directory.
///
/// # Errors
/// The file system's. Which of the two contents is there then is not known: see [`put_in_place`].
pub fn replace(files: &dyn Files, path: &Path, content: &[u8]) -> io::Result<()> {
    put_in_place(files, &write_beside(files, path, content)?, path)
}

/// The first half of [`replace`]: writes the new content under a name beside `path`, durably, and returns that name.
///
/// # Errors
/// The file system's; what stands at `path` is then untouched.
pub fn write_beside(files: &dyn Files, path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let temporary = with_suffix(path, ".tmp");
    let file = files.open(&temporary, Open::CreateOrTruncate)?;
    file.write_at(content, 0)?;
    file.sync()?;
    Ok(temporary)
}

/// The second half.
///
/// # Errors
/// The file system's. If only the directory could not be synced, `path` has the new content now, and the old or the new
/// one after a power loss.
pub fn put_in_place(files: &dyn Files, temporary: &Path, path: &Path) -> io::Result<()> {
    files.rename(temporary, path)?;
    files.sync_dir(parent(path))
}

/// Reads a whole small file; `None` if it is not there, an error if it is longer than `limit` bytes.
///
/// # Errors
/// The file system's, or `InvalidData` past the limit.
pub fn read_small(files: &dyn Files, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match files.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{len} bytes where {limit} is the limit"),
        ));
    }
    let mut content = vec![0; usize::try_from(len).unwrap_or(0)];
    read_exact_at(&*file, &mut content, 0)?;
    Ok(Some(content))
}

/// The directory that holds `path`; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `path` with `suffix` added to its file name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

struct RealFile(fs::File);

#[cfg(unix)]
impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match std::os::unix::fs::FileExt::read_at(&self.0, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(file_id(&self.0.metadata()?))
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

fn file_id(metadata: &fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    FileId { device: metadata.dev(), inode: metadata.ino() }
}

/// A directory's path without links. One that a link promises and that is not there is another matter than one that is yet
/// to be made: nobody makes it through the link.
fn real_dir(dir: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(dir).map_err(|error| {
        let leads_nowhere = |path: &&Path| path.is_symlink() && !path.exists();
        match dir.ancestors().find(leads_nowhere) {
            Some(link) if error.kind() == io::ErrorKind::NotFound => io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("{} is a link that leads nowhere", link.display()),
            ),
            _ => error,
        }
    })
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Files for RealFiles {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(how != Open::Read);
        match how {
            Open::Read | Open::Write => &mut options,
            Open::CreateOrKeep => options.create(true).truncate(false),
            Open::CreateNew => options.create_new(true),
            Open::CreateOrTruncate => options.create(true).truncate(true),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn id(&self, path: &Path) -> io::Result<Option<FileId>> {
        Ok(found(fs::metadata(path))?.map(|metadata| file_id(&metadata)))
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(found(fs::metadata(path))?.map(|metadata| metadata.len()))
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        let Some(metadata) = found(fs::metadata(path))? else { return Ok(None) };
        let modified =
            metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Some(Stamp { file: file_id(&metadata), len: metadata.len(), modified }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        found(fs::remove_file(path)).map(drop)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let Some(entries) = found(fs::read_dir(path))? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        match found(fs::canonicalize(path))? {
            Some(path) => Ok(path),
            None => Ok(real_dir(parent(path))?.join(path.file_name().unwrap_or_default())),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    /// Linux tells.
    fn boot_id(&self) -> Option<String> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }
}
