//! `dir`: the databases of a directory, found at the start and, with `watch`, as they come and go.
//!
//! A directory is looked through once a second rather than watched by the system: it works on every file system, and a
//! thousand names take a millisecond. What is opened to be looked into is never a file that a keeper has open.

use super::fleet::{Done, Fleet, Refused};
use super::names::Names;
use crate::config::{Config, Database, Directory};
use crate::text::glob::Glob;
use crate::trouble::Trouble;
use crate::verbs::input;
use crate::verbs::replicate::thread;
use litekeep_store::location::Settings;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Between two looks; more where a look takes long: at most a twentieth of a core.
const EVERY: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;

/// Between two tries of a file that could not be taken up, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Files of directories that are looked through which somebody took off the list by hand: they are not taken up again while
/// they are there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dismissed(Arc<Dismissal>);

#[derive(Debug, Default)]
struct Dismissal {
    directories: Vec<PathBuf>,
    files: Mutex<BTreeSet<PathBuf>>,
}

impl Dismissed {
    /// None so far, of the directories of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let directories = config.directories.iter().map(|it| it.path.clone()).collect();
        Self(Arc::new(Dismissal { directories, files: Mutex::default() }))
    }

    fn files(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a file that could be found again; `true` if it was not noted before. No more is held than is on the
    /// disk, whatever is asked for.
    pub(crate) fn add(&self, path: &Path) -> bool {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let found = self.0.directories.iter().any(|it| path.starts_with(it)) && is_there(path);
        let mut files = self.files();
        files.retain(|path| !is_gone(path));
        found && files.insert(path.to_owned())
    }

    /// It stays on the list after all.
    pub(crate) fn take_back(&self, path: &Path) {
        self.files().remove(path);
    }

    pub(super) fn holds(&self, path: &Path) -> bool {
        self.files().contains(path)
    }

    fn forget(&self, gone: impl Fn(&Path) -> bool) {
        self.files().retain(|path| !gone(path));
    }
}

/// A directory that is looked through.
pub(crate) struct Folder {
    directory: Directory,
    pattern: Glob,
    /// What was taken up from here.
    taken: BTreeSet<PathBuf>,
    /// What of that is gone, and how long its last changes may take.
    leaving: BTreeMap<PathBuf, Duration>,
    /// What is no database, with the file's size and time then: it is looked into again when they change.
    passed: BTreeMap<PathBuf, (u64, Option<SystemTime>)>,
    /// What could not be taken up so far.
    trials: BTreeMap<PathBuf, Trial>,
    /// Directories below that cannot be read.
    unread: BTreeSet<PathBuf>,
    /// The directory itself could be read when it was last looked at.
    readable: bool,
    /// Links to files that have a name of their own.
    links: BTreeSet<PathBuf>,
    dismissed: Dismissed,
    names: Names,
}

/// What a walk comes by.
#[derive(Default)]
struct Walk {
    files: Vec<PathBuf>,
    links: Vec<PathBuf>,
    unread: BTreeMap<PathBuf, io::Error>,
}

/// A file that could not be taken up: it is tried again whether it changes or not, for what was in the way may have gone.
struct Trial {
    why: String,
    next: Duration,
    pause: Duration,
}

/// Why a file was not taken up.
enum Failed {
    /// Nobody knows what it is.
    Unread(Trouble),
    /// It is a database, and cannot be replicated.
    Unkept(Trouble),
    /// It is replicated by another name.
    Elsewhere,
}

impl Folder {
    /// Nothing is looked at yet.
    ///
    /// # Errors
    /// The pattern is none.
    pub(crate) fn new(directory: Directory, names: &Names, dismissed: &Dismissed) -> Result<Self, Trouble> {
        let pattern = Glob::parse(&directory.pattern).map_err(|why| {
            Trouble::new(format!("pattern `{}`: {why}", directory.pattern)).hint("such as '*.db'")
        })?;
        let (names, dismissed) = (names.clone(), dismissed.clone());
        Ok(Self {
            directory,
            pattern,
            taken: BTreeSet::new(),
            leaving: BTreeMap::new(),
            passed: BTreeMap::new(),
            trials: BTreeMap::new(),
            unread: BTreeSet::new(),
            readable: true,
            links: BTreeSet::new(),
            dismissed,
            names,
        })
    }

    /// Takes up what is there at the start.
    ///
    /// # Errors
    /// The directory cannot be read, a database in it cannot be replicated, or it holds none and nobody watches it. A file
    /// that cannot be read may be none: it is told, and tried again.
    pub(crate) fn begin(&mut self, fleet: &Arc<Fleet>) -> Result<(), Trouble> {
        let found = self.all()?;
        for path in found {
            match self.take(fleet, &path) {
                Ok(()) => {}
                Err(Failed::Unkept(why)) => return Err(why),
                Err(why) => self.put_off(fleet, &path, why),
            }
        }
        let any = !(self.taken.is_empty() && self.trials.is_empty() && self.links.is_empty());
        if !any && !self.directory.watch {
            return Err(self.holds_none());
        }
        Ok(())
    }

    /// Its databases that nobody has taken up, for a command that owns them itself.
    ///
    /// # Errors
    /// The directory cannot be read, or a file in it not be looked into: it may be a database.
    pub(crate) fn newcomers(&mut self, fleet: &Fleet) -> Result<Vec<Database>, Trouble> {
        let found = self.all()?;
        let (databases, trouble) = self.sift_all(fleet, &found, |_, _| true);
        trouble.map_or(Ok(databases), Err)
    }

    /// The same while the command runs: the directory, or a file in it, that cannot be looked at is told, shown and tried
    /// again. With `last` nothing is tried again: then the directory is a trouble, and a file that nobody was told of. So is
    /// always a database that has no name for its replica. The others count all the same.
    pub(crate) fn arrivals(&mut self, fleet: &Fleet, last: bool) -> (Vec<Database>, Option<Trouble>) {
        if last {
            self.trials.values_mut().for_each(|trial| trial.next = Duration::ZERO);
        }
        let found = match (last, self.readable(fleet)) {
            (_, Some(found)) => found,
            (false, None) => return (Vec::new(), None),
            (true, None) => match self.all() {
                Ok(found) => found,
                Err(trouble) => return (Vec::new(), Some(trouble)),
            },
        };
        let arrived = self.sift_all(fleet, &found, |this, path| last && !this.trials.contains_key(path));
        self.forget_gone(fleet);
        arrived
    }

    /// What of these is a database that nobody has taken up. What cannot be looked into is an error, or put off.
    fn sift_all(
        &mut self,
        fleet: &Fleet,
        found: &[PathBuf],
        is_error: impl Fn(&Self, &Path) -> bool,
    ) -> (Vec<Database>, Option<Trouble>) {
        let (mut databases, mut trouble) = (Vec::new(), None);
        for path in found {
            match self.sift(fleet, path) {
                Ok(false) => {}
                Ok(true) => {
                    self.settle(fleet, path);
                    match database_at(&self.directory, path) {
                        Some(database) => databases.push(database),
                        None => drop(trouble.get_or_insert_with(|| no_name(path))),
                    }
                }
                Err(Failed::Unread(why)) if is_error(self, path) => {
                    let hint =
                        "run litekeep as the user of the application, or choose a `pattern` without it";
                    trouble.get_or_insert(why.hint(hint));
                }
                Err(why) => self.put_off(fleet, path, why),
            }
        }
        (databases, trouble)
    }

    /// The databases that it holds now, and what cannot be looked into. For a process that has none of them open: a descriptor
    /// that is closed would take SQLite's locks with it.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn held(&mut self) -> Result<Vec<Database>, Trouble> {
        let mut found = self.all()?;
        found.retain(|path| match input::is_database(path) {
            Ok(is_one) => is_one,
            Err(error) => error.kind() != io::ErrorKind::NotFound, // gone meanwhile
        });
        Ok(found.iter().filter_map(|path| database_at(&self.directory, path)).collect())
    }

    fn all(&mut self) -> Result<Vec<PathBuf>, Trouble> {
        self.candidates().map_err(|error| {
            Trouble::new(format!("can't read the directory {}", self.directory.path.display()))
                .because(&error)
                .hint("check `dir`, and that this user may read it")
        })
    }

    /// Whether a path lies in it.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.directory.path)
    }

    /// Whether it could be read when it was last looked at.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// Why it is of no use unless it is watched.
    pub(crate) fn holds_none(&self) -> Trouble {
        let (shown, pattern) = (self.directory.path.display(), &self.directory.pattern);
        Trouble::new(format!("there is no database like {pattern} in {shown}"))
            .hint("with `watch: true` it may be empty at first")
    }

    /// The replicas of its databases are verified by interval.
    pub(crate) fn is_verified(&self) -> bool {
        self.directory.template.validation.is_some()
    }

    /// Whether it is to be watched.
    pub(crate) fn is_watched(&self) -> bool {
        self.directory.watch
    }

    /// Whether it is to be looked at from now on: it is watched, or something in it could not be taken up yet.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.directory.watch || !self.trials.is_empty()
    }

    /// Looks from now on, on a thread of its own, for as long as it is unsettled.
    ///
    /// # Errors
    /// No thread is to be had.
    pub(crate) fn watch(mut self, fleet: &Arc<Fleet>) -> Result<(), Trouble> {
        let fleet = Arc::clone(fleet);
        thread("watch", move || {
            while self.is_unsettled() {
                let began = fleet.clock().boot();
                if let Some(found) = self.readable(&fleet) {
                    self.look(&fleet, &found);
                }
                let took = fleet.clock().boot().saturating_sub(began);
                fleet.clock().sleep(EVERY.max(took * SHARE));
            }
        })
    }

    /// What it holds, unless it cannot be read: that says nothing about the databases in it, and they stay. It is told once,
    /// and shown while it lasts, for nobody knows what comes meanwhile.
    fn readable(&mut self, fleet: &Fleet) -> Option<Vec<PathBuf>> {
        let found = self.candidates();
        let dir = &self.directory.path;
        match &found {
            Err(error) if self.readable => {
                tracing::error!(dir = %dir.display(), %error, "can't read the directory, trying again");
                fleet.note_missing(dir, Some(format!("can't read the directory: {error}")));
            }
            Ok(_) if !self.readable => fleet.note_missing(dir, None),
            Ok(_) | Err(_) => {}
        }
        self.readable = found.is_ok();
        found.ok()
    }

    /// Nothing is kept in mind of a file that is gone.
    fn forget_gone(&mut self, fleet: &Fleet) {
        self.passed.retain(|path, _| !is_gone(path));
        let settled: Vec<PathBuf> = self.trials.keys().filter(|path| is_gone(path)).cloned().collect();
        settled.iter().for_each(|path| self.settle(fleet, path));
        self.dismissed.forget(is_gone);
    }

    fn look(&mut self, fleet: &Arc<Fleet>, found: &[PathBuf]) {
        for path in found {
            // Without a watch, what comes later is nobody's wish.
            if !self.directory.watch && !self.trials.contains_key(path) {
                continue;
            }
            if let Err(why) = self.take(fleet, path) {
                self.put_off(fleet, path, why);
            }
        }
        self.forget_gone(fleet);
        for path in self.taken.iter().filter(|path| is_gone(path)) {
            if let (false, Ok(member)) = (self.leaving.contains_key(path), fleet.find(path)) {
                tracing::info!(db = %path.display(), "the database is gone, letting it go");
                self.leaving.insert(path.clone(), fleet.clock().boot() + member.last_sync());
            }
        }
        let taken = &mut self.taken;
        self.leaving.retain(|path, until| {
            // One that was stopped already goes off the list first, and is taken up again by the next look.
            if !is_gone(path) && fleet.find(path).is_ok_and(|member| !member.is_gone()) {
                tracing::info!(db = %path.display(), "the database is there again");
                return false;
            }
            let off = fleet.let_go(path, *until);
            if off {
                taken.remove(path);
            }
            !off
        });
        self.taken
            .retain(|path| self.leaving.contains_key(path) || !is_gone(path) || fleet.find(path).is_ok());
    }

    /// Takes a file up, if it is a database that is not there yet and its time has come.
    fn take(&mut self, fleet: &Arc<Fleet>, path: &Path) -> Result<(), Failed> {
        if self.sift(fleet, path)? { self.add(fleet, path) } else { Ok(()) }
    }

    /// Whether a file is a database that is not there yet, and its time has come.
    fn sift(&mut self, fleet: &Fleet, path: &Path) -> Result<bool, Failed> {
        if self.dismissed.holds(path) || fleet.find(path).is_ok() {
            self.settle(fleet, path);
            return Ok(false);
        }
        if self.trials.get(path).is_some_and(|trial| fleet.clock().boot() < trial.next) {
            return Ok(false);
        }
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(false), // gone meanwhile
            _ => Err(Failed::Unread(cannot(path).because(&error))),
        };
        let stamp = match std::fs::metadata(path) {
            Ok(meta) => (meta.len(), meta.modified().ok()),
            Err(error) => return unread(error),
        };
        let before = self.passed.get(path);
        if before == Some(&stamp) {
            return Ok(false);
        }
        let first = before.is_none();
        match fleet.look_into(path, input::is_database) {
            Some(Ok(true)) => Ok(true),
            Some(Ok(false)) => {
                if first {
                    skipped(path, "it is no SQLite database");
                }
                self.passed.insert(path.to_owned(), stamp);
                self.settle(fleet, path);
                Ok(false)
            }
            Some(Err(error)) => unread(error),
            None => Err(Failed::Elsewhere),
        }
    }

    fn add(&mut self, fleet: &Arc<Fleet>, path: &Path) -> Result<(), Failed> {
        let done = database_at(&self.directory, path).ok_or_else(|| no_name(path)).map_err(Refused::Failed);
        match done.and_then(|database| fleet.add(database)) {
            Ok(done) => {
                self.passed.remove(path);
                self.settle(fleet, path);
                if done == Done::Now {
                    self.taken.insert(path.to_owned());
                }
                Ok(())
            }
            Err(why) => Err(Failed::Unkept(match why {
                Refused::Failed(trouble) => trouble,
                Refused::Differs(text) => cannot(path).cause(text),
                Refused::Unknown(_) | Refused::NotOpen | Refused::Unheard => cannot(path),
            })),
        }
    }

    /// It is tried again after a pause that grows. What is said once is not said again.
    fn put_off(&mut self, fleet: &Fleet, path: &Path, failed: Failed) {
        let trouble = match failed {
            Failed::Unread(trouble) | Failed::Unkept(trouble) => Some(trouble.parts()),
            Failed::Elsewhere => None,
        };
        let why = trouble.as_ref().map_or_else(
            || ELSEWHERE.to_owned(),
            |(what, why)| why.as_ref().map_or_else(|| what.clone(), |why| format!("{what}: {why}")),
        );
        let before = self.trials.get(path);
        if before.is_none_or(|trial| trial.why != why) {
            match &trouble {
                Some(_) => {
                    tracing::error!(db = %path.display(), error = why, "can't take a database up, trying again");
                }
                None => skipped_as_second(path),
            }
        }
        let pause = before.map_or(PAUSE, |trial| (trial.pause * 2).min(LONGEST_PAUSE));
        fleet.note_missing(path, trouble.map(|_| why.clone()));
        self.trials.insert(path.to_owned(), Trial { why, next: fleet.clock().boot() + pause, pause });
    }

    /// There is nothing to try any more.
    fn settle(&mut self, fleet: &Fleet, path: &Path) {
        if self.trials.remove(path).is_some() {
            fleet.note_missing(path, None);
        }
    }

    /// Files whose names are like the pattern, and links to files that have no name of their own here. A directory below that
    /// cannot be read is told once: what is in it may be nobody's business here, and says nothing about the rest.
    fn candidates(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut walk = Walk::default();
        self.walk(&self.directory.path, &mut walk)?;
        for (dir, error) in &walk.unread {
            if !self.unread.contains(dir) {
                tracing::warn!(dir = %dir.display(), %error, "can't read a directory, going on without it");
            }
        }
        self.unread = walk.unread.into_keys().collect();
        let names = self.names.clone();
        let names = LazyCell::new(|| names.resolve());
        let (named, mut found): (Vec<_>, Vec<_>) = walk.links.into_iter().partition(|link| names.has(link));
        for link in named.iter().filter(|link| !self.links.contains(*link)) {
            skipped(link, "it is a link to a file that goes by its own name");
        }
        self.links = named.into_iter().collect();
        found.append(&mut walk.files);
        found.sort();
        Ok(found)
    }

    fn walk(&self, at: &Path, walk: &mut Walk) -> io::Result<()> {
        for entry in std::fs::read_dir(at)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            // Links to directories are not followed: they may lead in a circle.
            if kind.is_dir() {
                if enters(&self.directory, &path) {
                    match self.walk(&path, walk) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            walk.unread.insert(path, error);
                        }
                        Ok(()) | Err(_) => {} // gone meanwhile
                    }
                }
            } else if takes(&self.pattern, &entry.file_name()) && may_be_file(&path) {
                let list = if kind.is_symlink() { &mut walk.links } else { &mut walk.files };
                list.push(path);
            }
        }
        Ok(())
    }
}

/// Whether nothing goes by this name. What cannot be looked at may be there.
pub(crate) fn is_gone(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether a directory below counts; never one where replicas and local states lie.
pub(super) fn enters(directory: &Directory, path: &Path) -> bool {
    let replica = match &directory.template.replica {
        Settings::Directory(replica) => Some(replica.as_path()),
        Settings::S3(_) => None,
    };
    let elsewhere = [replica, directory.meta_dir.as_deref()].into_iter().flatten().any(|other| path == other);
    directory.recursive && !elsewhere && !path.file_name().is_some_and(is_ours)
}

/// Whether a file of this name counts.
pub(super) fn takes(pattern: &Glob, name: &OsStr) -> bool {
    !is_ours(name) && !is_side_file(name) && pattern.matches(&name.to_string_lossy())
}

/// Why a file that is another one's second name is skipped.
const ELSEWHERE: &str = "it is replicated by another name";

/// Warns of a file that is another one's second name: of a hard link SQLite knows nothing, and of two links to one file
/// outside nobody said which is the database.
pub(crate) fn skipped_as_second(path: &Path) {
    tracing::warn!(path = %path.display(), why = ELSEWHERE, "a file of the directory is skipped");
}

fn skipped(path: &Path, why: &str) {
    tracing::info!(path = %path.display(), why, "a file of the directory is skipped");
}

/// What cannot be looked at may be one; a link into nothing is none.
fn may_be_file(path: &Path) -> bool {
    path.metadata().map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |meta| meta.is_file())
}

fn cannot(path: &Path) -> Trouble {
    Trouble::new(format!("can't replicate {}", path.display()))
}

fn no_name(path: &Path) -> Trouble {
    cannot(path).cause("its name is not UTF-8, which a replica's path must be").hint("rename it")
}

/// litekeep's own names, and Litestream's.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let own = |end: &str| name.ends_with(end) || name.contains(&format!("{end}-"));
    name.contains(".litekeep-restore") || (name.starts_with('.') && (own("-litekeep") || own("-litestream")))
}

/// What SQLite puts beside a database.
fn is_side_file(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["-wal", "-shm", "-journal"].iter().any(|end| name.ends_with(end))
}

/// What holds for a database in a directory: its replica and its local state lie below those of the directory, by its path
/// in there. `None` if it does not lie there, or its path is not UTF-8.
pub(crate) fn database_at(directory: &Directory, path: &Path) -> Option<Database> {
    let relative = path.strip_prefix(&directory.path).ok()?;
    let name = relative.to_str().filter(|name| !name.is_empty())?;
    let mut database = directory.template.clone();
    database.path = path.to_owned();
    match &mut database.replica {
        Settings::Directory(replica) => *replica = replica.join(relative),
        Settings::S3(s3) => s3.path = s3.below(name),
    }
    database.settings.meta_path = directory.meta_dir.as_ref().map(|dir| dir.join(relative));
    Some(database)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::daemon::verifier;
    use crate::verbs::verify::scratch_name;
    use litekeep_store::location::S3Settings;

    #[test]
    fn a_database_of_a_directory_has_its_place_by_its_path_in_there() {
        let directory = |replica, meta_dir: Option<&str>| Directory {
            path: "/data".into(),
            pattern: "*".to_owned(),
            recursive: true,
            watch: false,
            meta_dir: meta_dir.map(PathBuf::from),
            template: Database::of("/data".into(), replica),
        };
        let at = |directory: &Directory, path: &str| {
            let database = database_at(directory, Path::new(path))?;
            Some((database.replica.location(), database.settings.meta_path))
        };
        let files = directory(Settings::Directory("/backup".into()), Some("/meta"));
        assert_eq!(
            at(&files, "/data/a/b.db"),
            Some(("file:///backup/a/b.db".to_owned(), Some("/meta/a/b.db".into())))
        );
        assert_eq!(at(&files, "/other/b.db"), None);
        assert_eq!(at(&files, "/data"), None);
        for (path, wanted) in [("p", "s3://b/p/a.db"), ("", "s3://b/a.db"), (".", "s3://b/a.db")] {
            let s3 = directory(Settings::S3(Box::new(S3Settings::new("b", path))), None);
            assert_eq!(at(&s3, "/data/a.db"), Some((wanted.to_owned(), None)));
        }
    }

    /// Looked through, with a replica beside it.
    pub(crate) fn directory(path: &Path) -> Directory {
        Directory {
            path: path.to_owned(),
            pattern: "*".to_owned(),
            recursive: true,
            watch: true,
            meta_dir: None,
            template: Database::of(path.to_owned(), Settings::Directory(path.with_extension("r"))),
        }
    }

    #[test]
    fn only_a_file_that_a_look_could_find_is_noted_as_dismissed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (dir.path().join("d"), dir.path().join("b.db"));
        std::fs::create_dir(&inside).expect("made");
        let [there, again, none] = ["a.db", "c.db", "none.db"].map(|name| inside.join(name));
        for path in [&there, &again, &outside] {
            std::fs::write(path, "").expect("written");
        }
        let config = Config { directories: vec![directory(&inside)], ..Config::default() };
        let dismissed = Dismissed::of(&config);
        for (path, noted) in [(&there, true), (&again, true), (&none, false), (&outside, false)] {
            assert_eq!((dismissed.add(path), dismissed.holds(path)), (noted, noted), "{}", path.display());
        }
        assert!(!dismissed.add(&there), "it was noted before");
        std::fs::remove_file(&there).expect("removed");
        dismissed.take_back(&again);
        dismissed.add(&none);
        assert_eq!(*dismissed.files(), BTreeSet::new());
    }

    #[test]
    fn whatever_is_restored_into_beside_a_database_is_no_database_of_its_directory() {
        for name in [verifier::SCRATCH.to_owned(), scratch_name(0), scratch_name(u64::MAX)] {
            assert!(is_ours(OsStr::new(&name)), "{name}");
        }
    }

    #[test]
    fn names_of_ours_and_of_sqlite_are_known() {
        for (name, ours, side) in [
            ("a.db", false, false),
            ("a.db-wal", false, true),
            ("a.db-shm", false, true),
            ("a.db-journal", false, true),
            (".a.db-litekeep", true, false),
            (".a.db-litekeep-probe-7", true, false),
            (".a.db-litestream", true, false),
            ("a.db.litekeep-restore", true, false),
            (".hidden.db", false, false),
            ("a-litekeep", false, false),
        ] {
            assert_eq!((is_ours(OsStr::new(name)), is_side_file(OsStr::new(name))), (ours, side), "{name}");
        }
    }
}
