//! A replica in a directory, laid out as Litestream lays it out (`<dir>/ltx/<level>/<min>-<max>.ltx`).
//!
//! A file appears under its name whole and durable, or not at all: it is written under a temporary name beside its
//! place, given its time, fsynced, then linked (create-only) or renamed (replace), and the directory is fsynced before
//! the answer (R59). Temporary names end in `.tmp`, which every reader ignores; each is locked while its writer lives,
//! so cleaning up after a crash can't hit a writer that is still at it.
//!
//! A directory that does not exist is an empty replica; one that cannot be read, or a file in its place, is an error.

use crate::body::{self, Source};
use crate::disk::{Disk, DiskFile, Kind, RealDisk, Stat};
use crate::layout::{self, Layout, Spellings};
use crate::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Store, StoreError, Upload, Version,
};
use bytes::Bytes;
use litekeep_core::env::{Clock, Random};
use litekeep_formats::{Level, TimestampMs};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Age a temporary file must have before it may be taken for a dead writer's, besides being unlocked.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// Middle of our temporary files' names, `<name>.lk<random>.tmp`; others' (Litestream's `<name>.tmp`) are left alone.
const TEMPORARY_MARK: &str = ".lk";

/// Held while a file is created on a file system that has neither hard links nor exclusive renames.
const CREATE_LOCK: &str = ".litekeep-create.lock";

/// Random names that are tried for a temporary file.
const NAME_TRIES: u32 = 64;

/// How often the create lock is tried, and how long apart.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The largest object taken in one piece, bytes; the same as S3's, so that both are used alike.
const SINGLE_PUT: u64 = 5 << 30;

/// A replica in a directory.
#[derive(Clone)]
pub struct DirectoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    base: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Folders whose stale temporary files this process has looked for.
    swept: Mutex<BTreeSet<PathBuf>>,
    spellings: Spellings,
}

impl DirectoryStore {
    /// The replica at `base`, which need not exist yet; it is made by the first write.
    pub fn new(base: impl Into<PathBuf>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self::on(Arc::new(RealDisk), base, clock, random)
    }

    /// The same over another file system, for tests and the simulation.
    pub fn on(
        disk: Arc<dyn Disk>,
        base: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let (swept, spellings) = (Mutex::default(), Spellings::default());
        let shared = Shared { base: base.into(), disk, clock, random, swept, spellings };
        Self { shared: Arc::new(shared) }
    }
}

impl Store for DirectoryStore {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        let here = &self.shared;
        let folder = Layout::Tree.folder(scope);
        let fail = |error| here.error("list", &here.base.join(&folder), error);
        let mut folders = vec![folder.clone()];
        if *scope == Scope::V3Snapshots {
            let generations = here.names(&here.base.join(&folder)).map_err(fail)?;
            folders = generations
                .iter()
                .filter_map(|name| layout::parse_v3_generation(name))
                .map(layout::v3_snapshot_folder)
                .collect();
        }
        if let Scope::From(lowest) = scope {
            folders =
                Level::all().filter(|level| level >= lowest).map(|level| Layout::Tree.level(level)).collect();
        }
        let mut entries = Vec::new();
        for folder in folders {
            here.list_folder(scope, &folder, &mut entries).map_err(fail)?;
        }
        entries.sort_unstable_by_key(|entry| entry.key);
        entries.dedup_by_key(|entry| entry.key);
        Ok(entries)
    }

    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        let path = self.shared.path(key);
        let stat = self.shared.disk.stat(&path).and_then(only_files);
        let stat = stat.map_err(|error| self.shared.error("head", &path, error))?;
        let (modified, version) = (stat.modified(), version(&stat));
        Ok(Head { size: stat.len, modified, timestamp: modified, version })
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        let path = self.shared.path(key);
        let fail = |error| self.shared.error("read", &path, error);
        let range = range.unwrap_or(0..u64::MAX);
        let wanted = range.end.saturating_sub(range.start);
        let (stat, bytes) = self.shared.disk.read(&path, range.start, wanted).map_err(fail)?;
        only_files(stat).map_err(fail)?;
        let promised = range.end.min(stat.len).saturating_sub(range.start);
        if bytes.len() as u64 != promised {
            let text = format!("{} bytes came where the file's size promises {promised}", bytes.len());
            return Err(self.shared.fault(ErrorKind::DataDamaged, "read", &path, text));
        }
        Ok(Chunk { bytes, total: stat.len, version: version(&stat) })
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        let source: Arc<dyn Source> = Arc::new(body);
        self.create_from(key, &source, timestamp)
    }

    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        let path = self.shared.path(key);
        let create = || {
            let mut temporary = Temporary::begin(&self.shared, &path)?;
            body::pieces(&**source, |piece| temporary.write(piece))?;
            temporary.create(timestamp)
        };
        create().map_err(|error| self.shared.error("create", &path, error))
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        let path = self.shared.path(key);
        let put = || {
            let mut temporary = Temporary::begin(&self.shared, &path)?;
            temporary.write(&body)?;
            temporary.replace(timestamp)
        };
        put().map_err(|error| self.shared.error("put", &path, error))
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        let path = self.shared.path(key);
        let temporary = Temporary::begin(&self.shared, &path);
        let temporary = temporary.map_err(|error| self.shared.error("upload", &path, error))?;
        Ok(Box::new(DirectoryUpload { temporary, timestamp }))
    }

    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let here = &self.shared;
        let mut changed = BTreeSet::new();
        for key in keys {
            let path = here.path(key);
            match here.disk.remove(&path) {
                Ok(()) => changed.extend(path.parent().map(Path::to_path_buf)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(here.error("delete", &path, error)),
            }
        }
        for folder in changed {
            here.disk.sync_dir(&folder).map_err(|error| here.error("delete", &folder, error))?;
        }
        Ok(())
    }

    fn neighbours(&self) -> Result<Vec<String>, StoreError> {
        let here = &self.shared;
        let parent = here.base.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut candidates = Vec::new();
        if let Some(parent) = parent {
            candidates.push(parent.to_path_buf());
            candidates.extend(here.folders(parent)?);
        }
        candidates.extend(here.folders(&here.base)?);
        candidates.retain(|path| *path != here.base);
        candidates.truncate(layout::MAX_NEIGHBOURS_PROBED);
        let mut found = Vec::new();
        for path in candidates {
            // A neighbour that may not be read is not worth failing for: this is a hint.
            let names = here.names(&path).unwrap_or_default();
            if found.len() < layout::MAX_NEIGHBOURS && layout::is_replica(names.iter().map(String::as_str)) {
                found.push(format!("file://{}", path.display()));
            }
        }
        Ok(found)
    }

    fn server_time(&self) -> Option<TimestampMs> {
        Some(self.shared.clock.wall())
    }

    fn limits(&self) -> Limits {
        Limits { single_put: SINGLE_PUT }
    }

    fn location(&self) -> String {
        format!("file://{}", self.shared.base.display())
    }
}

impl Shared {
    fn path(&self, key: &Key) -> PathBuf {
        self.base.join(self.spellings.path(Layout::Tree, key))
    }

    fn list_folder(&self, scope: &Scope, folder: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
        let at = self.base.join(folder);
        for name in self.names(&at)? {
            let path = format!("{folder}{name}");
            let Some(key) = self.spellings.parse(Layout::Tree, scope, &path) else { continue };
            let stat = match self.disk.stat(&at.join(&name)) {
                Ok(stat) if stat.kind == Kind::File => stat,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let modified = stat.modified();
            entries.push(Entry { key, size: stat.len, modified, timestamp: Some(modified) });
        }
        Ok(())
    }

    /// The names in a folder; none if it does not exist.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        match self.disk.list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }

    /// The folders in a folder, ascending.
    fn folders(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let names = self.names(folder).map_err(|error| self.error("list", folder, error))?;
        let mut paths: Vec<_> = names.into_iter().map(|name| folder.join(name)).collect();
        paths.sort_unstable();
        paths.retain(|path| self.disk.stat(path).is_ok_and(|stat| stat.kind == Kind::Directory));
        Ok(paths)
    }

    /// Makes a folder and the missing ones above it, each durable in its parent before the next is made.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        match self.disk.stat(folder) {
            Ok(stat) if stat.kind == Kind::Directory => return Ok(()),
            Ok(_) => return Err(Errno::NOTDIR.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        self.make_folder(parent)?;
        match self.disk.create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.disk.sync_dir(parent)
    }

    /// Removes what crashed writers left in a folder, once per folder and process.
    fn sweep(&self, folder: &Path) -> io::Result<()> {
        let fresh = self.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_path_buf());
        if !fresh {
            return Ok(());
        }
        let ours = |name: &String| name.ends_with(".tmp") && name.contains(TEMPORARY_MARK);
        for name in self.names(folder)?.into_iter().filter(ours) {
            let path = folder.join(name);
            // Whatever goes wrong here is no reason to refuse a write.
            if let Err(error) = self.remove_stale(&path) {
                tracing::debug!(path = %path.display(), %error, "a temporary file could not be looked at");
            }
        }
        Ok(())
    }

    fn remove_stale(&self, path: &Path) -> io::Result<()> {
        let before = self.disk.stat(path)?;
        let age = self.clock.wall().0.saturating_sub(before.modified().0);
        // A live writer holds the lock from its first byte; the age covers the moment between open and lock.
        if Duration::from_millis(u64::try_from(age).unwrap_or(0)) < STALE_AFTER {
            return Ok(());
        }
        let mut file = self.disk.open_file(path)?;
        if file.try_lock()? && file.stat()?.identity == before.identity {
            self.disk.remove(path)?;
        }
        Ok(())
    }

    fn error(&self, operation: &'static str, path: &Path, error: io::Error) -> StoreError {
        let kind = classify(&error);
        let cause = match (kind, hint(&error)) {
            (_, Some(hint)) => Failure::Text(format!("{error}: {hint}")),
            (_, None) => Failure::Io(error),
        };
        StoreError::new(kind, operation, format!("file://{}", path.display()), cause)
    }

    fn fault(&self, kind: ErrorKind, operation: &'static str, path: &Path, text: String) -> StoreError {
        StoreError::new(kind, operation, format!("file://{}", path.display()), Failure::Text(text))
    }
}

/// Whose move a file system error is.
pub(crate) fn classify(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as K;
    match error.kind() {
        K::NotFound => ErrorKind::NotFound,
        K::StorageFull
        | K::QuotaExceeded
        | K::FileTooLarge
        | K::PermissionDenied
        | K::ReadOnlyFilesystem
        | K::NotADirectory
        | K::IsADirectory
        | K::InvalidFilename => ErrorKind::FixConfig,
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => ErrorKind::FixConfig,
        K::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Retry,
    }
}

fn hint(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind as K;
    match error.kind() {
        K::StorageFull => Some("the replica's disk is full; free space there, replication goes on by itself"),
        K::QuotaExceeded => Some("the disk quota is used up; raise it or free space"),
        K::PermissionDenied => Some("check owner and permissions of the replica directory"),
        K::ReadOnlyFilesystem => Some("the replica lies on a file system that is mounted read-only"),
        K::NotADirectory => Some("a file stands where the replica needs a directory"),
        K::IsADirectory => Some("a directory stands where the replica has a file"),
        _ => None,
    }
}

fn only_files(stat: Stat) -> io::Result<Stat> {
    if stat.kind == Kind::File { Ok(stat) } else { Err(Errno::ISDIR.into()) }
}

fn version(stat: &Stat) -> Version {
    Version(format!("{}-{}-{}", stat.len, stat.mtime_ns, stat.identity.1))
}

/// A file on its way to its place. Dropped without [`Temporary::create`] or [`Temporary::replace`] it is removed.
struct Temporary {
    shared: Arc<Shared>,
    folder: PathBuf,
    target: PathBuf,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    renamed: bool,
}

impl Temporary {
    fn begin(shared: &Arc<Shared>, target: &Path) -> io::Result<Self> {
        let folder = target.parent().ok_or(Errno::INVAL)?.to_path_buf();
        shared.make_folder(&folder)?;
        shared.sweep(&folder)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let named = || folder.join(format!("{name}{TEMPORARY_MARK}{:016x}.tmp", shared.random.next_u64()));
        let (mut path, mut tries) = (named(), 1);
        let file = loop {
            match shared.disk.create_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < NAME_TRIES => {
                    (path, tries) = (named(), tries + 1);
                }
                file => break file?,
            }
        };
        let shared = Arc::clone(shared);
        let mut this = Self { shared, folder, target: target.to_path_buf(), path, file, renamed: false };
        // Without locks (some network file systems) the age alone protects a live writer from the sweep.
        let _ = this.file.try_lock();
        Ok(this)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write(bytes)
    }

    fn seal(&mut self, timestamp: TimestampMs) -> io::Result<()> {
        self.file.set_modified(timestamp)?;
        self.file.sync()
    }

    fn replace(&mut self, timestamp: TimestampMs) -> io::Result<()> {
        self.seal(timestamp)?;
        self.shared.disk.rename(&self.path, &self.target)?;
        self.renamed = true;
        self.shared.disk.sync_dir(&self.folder)
    }

    fn create(&mut self, timestamp: TimestampMs) -> io::Result<Created> {
        self.seal(timestamp)?;
        let mut created = match self.shared.disk.link(&self.path, &self.target) {
            Ok(()) => Ok(Created::Yes),
            Err(error) if lacks_feature(&error) => self.create_without_links(),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
            Err(error) => Err(error),
        }?;
        if created == Created::Exists && self.is_target()? {
            created = Created::Yes; // a network file system repeated the call after losing its answer
        }
        // Also for the loser: what it is told exists must not vanish with the power.
        self.shared.disk.sync_dir(&self.folder)?;
        Ok(created)
    }

    fn is_target(&self) -> io::Result<bool> {
        Ok(self.shared.disk.stat(&self.target)?.identity == self.file.stat()?.identity)
    }

    /// Exclusive rename where the file system has it, else a rename under a lock that every creator takes.
    fn create_without_links(&mut self) -> io::Result<Created> {
        let disk = Arc::clone(&self.shared.disk);
        match disk.rename_new(&self.path, &self.target) {
            Ok(()) => {
                self.renamed = true;
                return Ok(Created::Yes);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Created::Exists),
            Err(error) if lacks_feature(&error) || error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
        let mut lock = disk.open_or_create(&self.folder.join(CREATE_LOCK))?;
        for attempt in 1.. {
            if lock.try_lock()? {
                break;
            }
            if attempt == LOCK_TRIES {
                return Err(Errno::TIMEDOUT.into());
            }
            self.shared.clock.sleep(LOCK_PAUSE);
        }
        match disk.stat(&self.target) {
            Ok(_) => Ok(Created::Exists),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.rename(&self.path, &self.target)?;
                self.renamed = true;
                disk.sync_dir(&self.folder)?;
                Ok(Created::Yes)
            }
            Err(error) => Err(error),
        }
    }
}

/// The ways file systems say "I have no hard links" or "no exclusive rename".
fn lacks_feature(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK].iter().any(|e| code == Some(e.raw_os_error()))
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = self.shared.disk.remove(&self.path); // swept later if this fails
        }
    }
}

struct DirectoryUpload {
    temporary: Temporary,
    timestamp: TimestampMs,
}

impl DirectoryUpload {
    fn error(&self, error: io::Error) -> StoreError {
        self.temporary.shared.error("upload", &self.temporary.target, error)
    }
}

impl Upload for DirectoryUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.temporary.write(bytes).map_err(|error| self.error(error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let timestamp = self.timestamp;
        self.temporary.replace(timestamp).map_err(|error| self.error(error))
    }
}
