//! The databases of a running daemon: added, started, stopped, synced and removed while it runs.
//!
//! Each is a [`Member`] with a keeper of its own; one that was stopped stays, without a keeper, until it is removed. All
//! share one driver and one pool for their jobs. Every end of a keeper is told to whoever decides about the whole run;
//! nothing here ends the process.

use super::book::Book;
use super::member::{Member, View, Wait};
use super::meter::Metered;
use super::verdict::{self, Verdict};
use super::verifier;
use crate::config::{Database, same_place};
use crate::trouble::Trouble;
use crate::verbs;
use crate::verbs::replicate::{keep_trouble, replicating_to};
use crate::world::World;
use litekeep::driver::Driver;
use litekeep::error::KeepError;
use litekeep::files::{FileId, Files, RealFiles};
use litekeep::jobs::Pool;
use litekeep::replicator::Env;
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_core::limits::PARK_AFTER;
use litekeep_formats::Txid;
use litekeep_store::Store;
use litekeep_store::location::Settings as Replica;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What an answer may take longer than the last sync that it waits for.
const GRACE: Duration = Duration::from_secs(2);

/// A keeper has ended.
pub(crate) struct Ended {
    /// Whose.
    pub(crate) member: Arc<Member>,
    /// By an error, or as it was asked to.
    pub(crate) why: Option<Arc<KeepError>>,
    /// Somebody had asked for it.
    pub(crate) asked: bool,
    /// Who wanted it off the list did not wait for that.
    pub(crate) leaves: bool,
}

/// What was done, or that there was nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was done now.
    Now,
    /// It was so before.
    Before,
}

/// Why something could not be done.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no such database.
    Unknown(PathBuf),
    /// It has no keeper.
    NotOpen,
    /// It is there, and it is something else.
    Differs(String),
    /// Whoever asked is gone; what was asked for goes on.
    Unheard,
    /// It failed.
    Failed(Trouble),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        Self::Failed(trouble)
    }
}

/// See the module's text.
pub(crate) struct Fleet {
    world: Arc<World>,
    members: Mutex<BTreeMap<PathBuf, Arc<Member>>>,
    /// See [`Fleet::missing`].
    missing: Mutex<BTreeMap<PathBuf, String>>,
    /// Held while databases are added or started, and while a file is looked into that none of them may have open.
    changes: Mutex<Option<&'static str>>,
    tell: Box<dyn Fn(Ended) + Send + Sync>,
    launches: AtomicUsize,
    /// Steps the databases; begun with the first one.
    driver: Mutex<Option<Arc<Driver>>>,
    /// Runs their jobs.
    pool: Arc<Pool>,
}

impl Fleet {
    /// No databases yet; `tell` hears of every end.
    pub(crate) fn new(world: Arc<World>, tell: impl Fn(Ended) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            world,
            members: Mutex::default(),
            missing: Mutex::default(),
            changes: Mutex::default(),
            tell: Box::new(tell),
            launches: AtomicUsize::new(0),
            driver: Mutex::default(),
            pool: Arc::default(),
        })
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world that it lives in.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.world.clock
    }

    /// All databases, by path.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.map().values().cloned().collect()
    }

    /// The database of a path.
    pub(crate) fn find(&self, path: &Path) -> Result<Arc<Member>, Refused> {
        self.map().get(path).cloned().ok_or_else(|| Refused::Unknown(path.to_owned()))
    }

    /// What is to be replicated and could not be taken up so far, and why.
    pub(crate) fn missing(&self) -> BTreeMap<PathBuf, String> {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let members = self.map();
        missing.retain(|path, _| !members.contains_key(path));
        missing
    }

    /// Notes why something is missing, or that it is not.
    pub(crate) fn note_missing(&self, path: &Path, why: Option<String>) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => missing.insert(path.to_owned(), why),
            None => missing.remove(path),
        };
    }

    /// Begins to replicate a database. One that is there already must have the same replica.
    pub(crate) fn add(self: &Arc<Self>, database: Database) -> Result<Done, Refused> {
        let changes = self.changes();
        let taken = self.map().get(&database.path).cloned();
        if let Some(member) = taken {
            let (ours, theirs) = (&member.database.replica, &database.replica);
            return if same_place(ours, theirs) {
                stays(&member)
            } else {
                let (ours, theirs, path) = (place(ours), place(theirs), database.path.display());
                Err(Refused::Differs(format!("{path} is replicated to {ours}, not to {theirs}")))
            };
        }
        let taken = |it: &&Arc<Member>| same_place(&it.database.replica, &database.replica);
        if let Some(other) = self.members().iter().find(taken) {
            let (location, path) = (place(&database.replica), other.database.path.display());
            return Err(Refused::Differs(format!("{location} is the replica of {path} already")));
        }
        if let Some(why) = self.same_file(&database.path) {
            return Err(Refused::Differs(why));
        }
        let member = self.open(database)?;
        // Before its first keeper, whose end may be told at once.
        let path = member.database.path.clone();
        self.map().insert(path.clone(), Arc::clone(&member));
        self.launch(&member, *changes).inspect_err(|_| drop(self.map().remove(&path)))?;
        Ok(Done::Now)
    }

    fn open(&self, database: Database) -> Result<Arc<Member>, Trouble> {
        let inner = verbs::open(&self.world, &database.replica)?;
        let book = Arc::new(Book::default());
        let clock = Arc::clone(&self.world.clock);
        let store: Arc<dyn Store> = Arc::new(Metered::new(inner, Arc::clone(&book), clock));
        // A verdict is for whoever verifies: nobody else would ever take back that it failed.
        if database.validation.is_none()
            && let Some(known) = verdict::read(&verifier::state_dir(&database), &store.location())
        {
            book.verified(Verdict { failure: None, ..known });
        }
        Ok(Arc::new(Member::new(database, store, book)))
    }

    /// Why a database can't be taken in beside those that are here: two that replicate one file undo each other's work.
    fn same_file(&self, path: &Path) -> Option<String> {
        let file = file_id(path)?;
        let same = self.members().into_iter().find(|member| self.has_file(member, file))?;
        let other = same.database.path.display();
        Some(format!(
            "it is the same file as {other}, which is replicated already; list each file once, by one name"
        ))
    }

    /// Whether whoever replicates a member has this file open, or comes by it next. Of a file that was renamed the path says
    /// nothing.
    fn has_file(&self, member: &Member, file: FileId) -> bool {
        let View { running, status, .. } = member.view(&**self.clock());
        (running && status.file == Some(file)) || file_id(&member.database.path) == Some(file)
    }

    /// Whether the file of this path is replicated, by whatever name.
    pub(crate) fn replicates(&self, path: &Path) -> bool {
        self.same_file(path).is_some()
    }

    /// Takes in a database that somebody else replicates over this member's store; [`Member::show`] tells how it is.
    pub(crate) fn guest(&self, database: Database) -> Result<Arc<Member>, Trouble> {
        if let Some(why) = self.same_file(&database.path) {
            let what = format!("can't replicate {}", database.path.display());
            return Err(Trouble::new(what).cause(why));
        }
        let member = self.open(database)?;
        self.map().insert(member.database.path.clone(), Arc::clone(&member));
        Ok(member)
    }

    /// A guest is not replicated any more.
    pub(crate) fn forget_guest(&self, path: &Path) {
        let mut members = self.map();
        if members.get(path).is_some_and(|member| member.is_guest()) {
            members.remove(path);
        }
    }

    /// Starts a database that was stopped.
    pub(crate) fn start(self: &Arc<Self>, path: &Path) -> Result<Done, Refused> {
        let changes = self.changes();
        let member = self.find(path)?;
        if member.keeper().is_some() || member.is_guest() {
            return stays(&member);
        }
        self.launch(&member, *changes)?;
        Ok(Done::Now)
    }

    /// Makes the last sync, within its time, and stops; the database stays in the list. All goes on if nobody wants to know
    /// any more.
    pub(crate) fn stop(
        &self,
        path: &Path,
        limit: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(Done, Option<Txid>), Refused> {
        let member = self.find(path)?;
        self.halt(&member, limit, wanted)
    }

    /// The same, and takes it off the list, which keeps it if its last changes did not get into the replica.
    pub(crate) fn remove(
        &self,
        path: &Path,
        limit: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(Done, Option<Txid>), Refused> {
        let Ok(member) = self.find(path) else { return Ok((Done::Before, None)) };
        let halted = match self.halt(&member, limit, wanted) {
            // Unless it ended just now.
            Err(Refused::Unheard) if !member.let_leave() => self.halted(&member),
            other => other,
        };
        let (_, txid) = halted?;
        if self.take_off(&member) {
            Ok((Done::Now, txid))
        } else {
            Err(Refused::Differs(format!("{} was started again meanwhile", path.display())))
        }
    }

    /// Takes this one off the list, not another that has come to its place; `false` if it has a keeper. Only who is on the
    /// list is stopped when the process ends.
    pub(super) fn take_off(&self, member: &Arc<Member>) -> bool {
        let _changes = self.changes();
        let stopped = member.is_stopped();
        if stopped && self.has(member) {
            self.map().remove(&member.database.path);
        }
        stopped
    }

    /// Takes a database off the list whose file is gone, by one step; `true` once it is off. What was taken from it has until
    /// then, on the boot clock, to reach the replica; more cannot come.
    pub(crate) fn let_go(&self, path: &Path, until: Duration) -> bool {
        let Ok(member) = self.find(path) else { return true };
        let clock = &**self.clock();
        let View { running, status, .. } = member.view(clock);
        if !running {
            return self.take_off(&member);
        }
        if (status.built == status.durable || clock.boot() >= until) && member.let_go() {
            if status.behind_since.is_some() {
                tracing::error!(db = %path.display(), "the last changes of a database that is gone are not in the replica");
            }
            member.begin_stop(Duration::ZERO);
        }
        false
    }

    /// Whether this is one of its databases, and not one that is gone.
    pub(crate) fn has(&self, member: &Arc<Member>) -> bool {
        self.map().get(&member.database.path).is_some_and(|known| Arc::ptr_eq(known, member))
    }

    fn halt(
        &self,
        member: &Member,
        limit: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(Done, Option<Txid>), Refused> {
        let clock = self.clock();
        if member.is_guest() {
            let path = member.database.path.display();
            return Err(Refused::Differs(format!("{path} stops with the command (-exec) that uses it")));
        }
        if member.keeper().is_none() {
            return Ok((Done::Before, member.view(&**clock).status.durable));
        }
        member.begin_stop(limit);
        let path = member.database.path.display();
        match member.wait_stopped(limit + GRACE, wanted) {
            Wait::Stopped => {}
            Wait::GivenUp => return Err(Refused::Unheard),
            Wait::TooLong => {
                let trouble = Trouble::new(format!("{path} has not stopped yet"));
                return Err(trouble.hint("its last sync is under way").into());
            }
        }
        self.halted(member)
    }

    /// How the end of one that was stopped came out.
    fn halted(&self, member: &Member) -> Result<(Done, Option<Txid>), Refused> {
        let status = member.view(&**self.clock()).status;
        match status.failure {
            None => Ok((Done::Now, status.durable)),
            Some(error) => {
                let path = member.database.path.display();
                Err(keep_trouble(&format!("the last changes of {path} are not in the replica"), &error)
                    .into())
            }
        }
    }

    /// How many keepers there were so far: as many ends are, or will be, told.
    pub(crate) fn launches(&self) -> usize {
        self.launches.load(Ordering::SeqCst)
    }

    /// Nothing is added or started from now on, and this is why.
    pub(crate) fn close(&self, why: &'static str) {
        *self.changes() = Some(why);
    }

    /// Looks into a file while no keeper can begin to open it; not at all if a member has it open, by whatever name.
    /// A descriptor of this process that is closed takes SQLite's locks on that file with it.
    pub(crate) fn look_into<T>(&self, path: &Path, look: impl FnOnce(&Path) -> T) -> Option<T> {
        let _changes = self.changes();
        let wanted = file_id(path)?;
        let open = self.members().iter().any(|member| self.has_file(member, wanted));
        (!open).then(|| look(path))
    }

    fn changes(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(self: &Arc<Self>, member: &Arc<Member>, closed: Option<&'static str>) -> Result<(), Refused> {
        let path = &member.database.path;
        let what = format!("can't replicate {}", path.display());
        if let Some(why) = closed {
            return Err(Trouble::new(what).cause(why).into());
        }
        let env = Env {
            clock: Arc::clone(&self.world.clock),
            random: Arc::clone(&self.world.random),
            files: Arc::new(RealFiles),
            vfs: None,
            store: Arc::clone(&member.store),
            spawner: self.pool.lane(&member.database.replica.place()),
            decisions: Decisions::RIGHT,
        };
        let settings = Settings { park_after: Some(PARK_AFTER), ..member.database.settings.clone() };
        let keeper =
            self.driver(&what)?.keep(env, settings, path).map_err(|error| keep_trouble(&what, &error))?;
        replicating_to(&member.database);
        let keeper = Arc::new(keeper);
        member.begin(Arc::clone(&keeper));
        self.launches.fetch_add(1, Ordering::SeqCst);
        let (fleet, watched) = (Arc::clone(self), Arc::clone(member));
        keeper.when_ended(move |why| {
            let (asked, leaves) = watched.ended(fleet.clock().boot());
            (fleet.tell)(Ended { member: watched, why, asked, leaves });
        });
        Ok(())
    }

    fn driver(&self, what: &str) -> Result<Arc<Driver>, Trouble> {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = &*driver {
            return Ok(Arc::clone(driver));
        }
        crate::descriptors::raise();
        let started = Driver::start(Arc::clone(&self.world.clock))
            .map_err(|error| Trouble::new(what).because(&error))?;
        Ok(Arc::clone(driver.insert(started)))
    }
}

/// That a database is here already; one that is about to end is not: whoever relies on it would lose its backup unheard.
fn stays(member: &Member) -> Result<Done, Refused> {
    if member.is_stopping() {
        let path = member.database.path.display();
        return Err(Refused::Differs(format!("{path}: it is being stopped; try again")));
    }
    Ok(Done::Before)
}

fn file_id(path: &Path) -> Option<FileId> {
    RealFiles.id(path).ok().flatten()
}

/// Where a replica lies, without secrets.
fn place(replica: &Replica) -> String {
    match replica {
        Replica::S3(s3) => match &s3.endpoint {
            Some(endpoint) => format!("{} at {endpoint}", replica.location()),
            None => replica.location(),
        },
        Replica::Directory(_) => replica.location(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::guest::{Guest, Shown};
    use crate::verbs::replicate::ONE_TRY;
    use crate::world::tests::world;
    use std::sync::mpsc;

    #[test]
    fn only_a_database_without_a_keeper_goes_and_never_one_that_came_to_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        let (tell, ends) = mpsc::channel();
        let fleet = Fleet::new(Arc::new(world(&[])), move |ended: Ended| {
            drop(tell.send(ended.member.database.path.clone()))
        });
        let database = || Database::of(path.clone(), Replica::Directory(dir.path().join("r")));
        let stop = |path| fleet.stop(path, ONE_TRY, &|| true);
        assert_eq!(fleet.add(database()).expect("added"), Done::Now);
        let first = fleet.find(&path).expect("on the list");
        // Whoever asked for its end is late: somebody has started it once more.
        stop(&path).expect("stopped");
        fleet.start(&path).expect("started");
        assert!(!fleet.take_off(&first) && fleet.has(&first));
        stop(&path).expect("stopped");
        assert!(fleet.take_off(&first) && fleet.members().is_empty());
        // Late again: another one has come.
        fleet.add(database()).expect("added");
        let second = fleet.find(&path).expect("on the list");
        assert!(fleet.take_off(&first) && fleet.has(&second));
        fleet.remove(&path, ONE_TRY, &|| true).expect("removed");
        assert!(fleet.members().is_empty());
        // Every keeper's end was told: whoever waits for them all is not kept waiting.
        assert_eq!(ends.iter().take(fleet.launches()).count(), 3);
    }

    /// Somebody who has a file open.
    struct Holder(Option<FileId>);

    impl Guest for Holder {
        fn shown(&self) -> Shown {
            let mut shown = Shown::default();
            shown.status.file = self.0;
            shown
        }

        fn sync_while(&self, _: Duration, _: &dyn Fn() -> bool) -> Result<Option<Txid>, KeepError> {
            Err(KeepError::NotOwner)
        }
    }

    #[test]
    fn a_file_that_a_guest_has_open_is_known_by_its_new_name_and_never_opened_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (old, new) = (dir.path().join("a.db"), dir.path().join("b.db"));
        std::fs::write(&old, "").expect("written");
        let fleet = Fleet::new(Arc::new(world(&[])), |_| {});
        let member = fleet
            .guest(Database::of(old.clone(), Replica::Directory(dir.path().join("r"))))
            .expect("taken in");
        member.entrust(Holder(file_id(&old)));
        std::fs::rename(&old, &new).expect("renamed");
        assert!(fleet.look_into(&new, |_| ()).is_none());
        assert!(fleet.replicates(&new));
        // Once it has let go of it, it is anybody's.
        member.entrust(Holder(None));
        assert!(fleet.look_into(&new, |_| ()).is_some());
        assert!(!fleet.replicates(&new));
    }
}
