//! The databases of a running daemon: added, started, stopped, synced and removed while it runs.
//!
//! Each is a [`Member`] with a keeper of its own; one that was stopped stays, without a keeper, until it is removed. All
//! share one driver and one pool for their jobs. Every end of a keeper is told to whoever decides about the whole run;
//! nothing here ends the process.

use super::book::Book;
use super::guest::Guest;
use super::meter::Metered;
use super::verdict::{self, Verdict};
use super::verifier;
use crate::config::{Database, same_place};
use crate::trouble::Trouble;
use crate::verbs;
use crate::verbs::replicate::{ONE_TRY, keep_trouble, replicating_to};
use crate::world::World;
use litekeep::driver::Driver;
use litekeep::error::KeepError;
use litekeep::files::{FileId, Files, RealFiles};
use litekeep::jobs::Pool;
use litekeep::keeper::Keeper;
use litekeep::replicator::{Env, Health, Status};
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_core::limits::PARK_AFTER;
use litekeep_formats::Txid;
use litekeep_store::Store;
use litekeep_store::location::Settings as Replica;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
}

/// One database.
pub(crate) struct Member {
    /// As it was configured.
    pub(crate) database: Database,
    /// Its replica; every answer is in the book.
    pub(crate) store: Arc<dyn Store>,
    /// What the replica answered.
    pub(crate) book: Arc<Book>,
    life: Mutex<Life>,
    changed: Condvar,
    /// It was let go: its file is gone, and nobody waits for its last changes.
    gone: AtomicBool,
}

/// Why a sync was not done.
pub(crate) enum SyncFailed {
    /// Nobody replicates it now.
    NotOpen,
    /// The engine's word.
    Keep(KeepError),
}

/// Whether a database is replicated.
enum Life {
    Running {
        keeper: Arc<Keeper>,
        stopping: bool,
    },
    Stopped {
        last: Box<Status>,
        asked: bool,
    },
    /// Somebody else replicates it; it is only shown here.
    Guest(Arc<dyn Guest>),
}

/// How a member is doing.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The engine's own words; of one that is stopped, the last.
    pub(crate) status: Status,
    /// It has a keeper.
    pub(crate) running: bool,
    /// It has none because somebody asked for that, and its last changes are in the replica.
    pub(crate) stopped: bool,
    /// Another instance has the replica to itself.
    pub(crate) standby: bool,
    /// For how long the replica has lacked something that was committed; `None` where nobody wants it to be there.
    pub(crate) lag: Option<Duration>,
}

impl View {
    /// As Litestream calls it.
    pub(crate) fn state(&self) -> &'static str {
        match (self.running, self.status.health) {
            _ if self.standby => "standby",
            (false, _) => "stopped",
            (true, Health::Waiting) => "open",
            (true, _) => "replicating",
        }
    }
}

impl Member {
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is now.
    pub(crate) fn view(&self, clock: &dyn Clock) -> View {
        let mut standby = false;
        let (status, running, stopped) = match &*self.life() {
            Life::Running { keeper, .. } => (keeper.status(), true, false),
            Life::Stopped { last, asked } => {
                ((**last).clone(), false, *asked && (last.failure.is_none() || self.is_gone()))
            }
            Life::Guest(guest) => {
                let shown = guest.shown();
                standby = shown.standby;
                let running = shown.status.health != Health::Ended;
                (shown.status, running, false)
            }
        };
        // What another instance replicates is its business.
        let since = status.behind_since.filter(|_| !standby);
        let lag =
            (!stopped).then(|| since.map_or(Duration::ZERO, |since| clock.boot().saturating_sub(since)));
        View { status, running, stopped, standby, lag }
    }

    /// The keeper, while there is one.
    pub(crate) fn keeper(&self) -> Option<Arc<Keeper>> {
        match &*self.life() {
            Life::Running { keeper, .. } => Some(Arc::clone(keeper)),
            Life::Stopped { .. } | Life::Guest(_) => None,
        }
    }

    /// Begins the last sync, if it runs; a second call with a shorter limit ends it sooner.
    pub(crate) fn begin_stop(&self, limit: Duration) {
        if let Life::Running { keeper, stopping } = &mut *self.life() {
            *stopping = true;
            keeper.begin_stop(limit);
        }
    }

    /// How long its last sync may take.
    pub(crate) fn last_sync(&self) -> Duration {
        let limit = self.database.shutdown_timeout;
        if limit.is_zero() { ONE_TRY } else { limit }
    }

    /// From now on it is somebody else's.
    pub(crate) fn entrust(&self, guest: impl Guest + 'static) {
        *self.life() = Life::Guest(Arc::new(guest));
    }

    /// Waits until everything that was committed before is in the replica, for as long as that is wanted.
    pub(crate) fn sync_while(
        &self,
        limit: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Txid>, SyncFailed> {
        enum Who {
            Keeper(Arc<Keeper>),
            Guest(Arc<dyn Guest>),
        }
        let who = match &*self.life() {
            Life::Running { keeper, .. } => Who::Keeper(Arc::clone(keeper)),
            Life::Guest(guest) => Who::Guest(Arc::clone(guest)),
            Life::Stopped { .. } => return Err(SyncFailed::NotOpen),
        };
        match who {
            Who::Keeper(keeper) => keeper.sync_while(limit, wanted),
            Who::Guest(guest) => guest.sync_while(limit, wanted),
        }
        .map_err(SyncFailed::Keep)
    }

    /// Whether it was let go.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    fn is_guest(&self) -> bool {
        matches!(&*self.life(), Life::Guest(_))
    }

    /// Its keeper is gone: now, on the boot clock.
    fn ended(&self, now: Duration) -> bool {
        let mut life = self.life();
        let Life::Running { keeper, stopping } = &*life else { return true };
        let (mut last, asked) = (Box::new(keeper.status()), *stopping);
        if !asked {
            // Nobody takes from here on what is committed.
            last.behind_since.get_or_insert(now);
        }
        *life = Life::Stopped { last, asked };
        drop(life);
        self.changed.notify_all();
        asked
    }

    /// Waits until it does not run any more; `false` if it still does.
    fn wait_stopped(&self, limit: Duration) -> bool {
        let running = |life: &mut Life| matches!(life, Life::Running { .. });
        let (life, _) = self
            .changed
            .wait_timeout_while(self.life(), limit, running)
            .unwrap_or_else(PoisonError::into_inner);
        !matches!(&*life, Life::Running { .. })
    }
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
    Unknown,
    /// It has no keeper.
    NotOpen,
    /// It is there, and it is something else.
    Differs(String),
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
        self.map().get(path).cloned().ok_or(Refused::Unknown)
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
                Ok(Done::Before)
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
        let never = Life::Stopped { last: Box::default(), asked: true };
        let life = Mutex::new(never);
        Ok(Arc::new(Member {
            database,
            store,
            book,
            life,
            changed: Condvar::new(),
            gone: AtomicBool::new(false),
        }))
    }

    /// Takes in a database that somebody else replicates over this member's store; [`Member::show`] tells how it is.
    pub(crate) fn guest(&self, database: Database) -> Result<Arc<Member>, Trouble> {
        let member = self.open(database)?;
        self.map().insert(member.database.path.clone(), Arc::clone(&member));
        Ok(member)
    }

    /// Starts a database that was stopped.
    pub(crate) fn start(self: &Arc<Self>, path: &Path) -> Result<Done, Refused> {
        let changes = self.changes();
        let member = self.find(path)?;
        if member.keeper().is_some() || member.is_guest() {
            return Ok(Done::Before);
        }
        self.launch(&member, *changes)?;
        Ok(Done::Now)
    }

    /// Makes the last sync and stops; the database stays in the list.
    pub(crate) fn stop(&self, path: &Path, limit: Option<Duration>) -> Result<(Done, Option<Txid>), Refused> {
        let member = self.find(path)?;
        self.halt(&member, limit)
    }

    /// Stops a database and takes it off the list, which keeps it if its last changes did not get into the replica.
    pub(crate) fn remove(
        &self,
        path: &Path,
        limit: Option<Duration>,
    ) -> Result<(Done, Option<Txid>), Refused> {
        let Ok(member) = self.find(path) else { return Ok((Done::Before, None)) };
        let (_, txid) = self.halt(&member, limit)?;
        if self.take_off(&member) {
            Ok((Done::Now, txid))
        } else {
            Err(Refused::Differs(format!("{} was started again meanwhile", path.display())))
        }
    }

    /// Takes this one off the list, not another that has come to its place; `false` if it has a keeper. Only who is on the
    /// list is stopped when the process ends.
    fn take_off(&self, member: &Arc<Member>) -> bool {
        let _changes = self.changes();
        let stopped = matches!(&*member.life(), Life::Stopped { .. });
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
        if (status.built == status.durable || clock.boot() >= until)
            && !member.gone.swap(true, Ordering::SeqCst)
        {
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

    fn halt(&self, member: &Member, limit: Option<Duration>) -> Result<(Done, Option<Txid>), Refused> {
        let clock = self.clock();
        if member.is_guest() {
            let path = member.database.path.display();
            return Err(Refused::Differs(format!("{path} stops with the command (-exec) that uses it")));
        }
        if member.keeper().is_none() {
            return Ok((Done::Before, member.view(&**clock).status.durable));
        }
        let limit = limit.unwrap_or_else(|| member.last_sync());
        member.begin_stop(limit);
        let path = member.database.path.display();
        if !member.wait_stopped(limit + GRACE) {
            let trouble = Trouble::new(format!("{path} has not stopped yet"));
            return Err(trouble.hint("its last sync is under way").into());
        }
        let status = member.view(&**clock).status;
        match status.failure {
            None => Ok((Done::Now, status.durable)),
            Some(error) => {
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

    /// Looks into a file while no keeper can begin to open it; not at all if one of them has it open, by whatever name.
    /// A descriptor of this process that is closed takes SQLite's locks on that file with it.
    pub(crate) fn look_into<T>(&self, path: &Path, look: impl FnOnce(&Path) -> T) -> Option<T> {
        let _changes = self.changes();
        let id = |path: &Path| -> Option<FileId> { RealFiles.id(path).ok().flatten() };
        let wanted = id(path)?;
        // Of a file that was renamed its keeper's path says nothing.
        let open = self.members().iter().any(|member| {
            let opened = member.keeper().and_then(|keeper| keeper.status().file);
            opened == Some(wanted) || id(&member.database.path) == Some(wanted)
        });
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
        member.gone.store(false, Ordering::SeqCst);
        *member.life() = Life::Running { keeper: Arc::clone(&keeper), stopping: false };
        self.launches.fetch_add(1, Ordering::SeqCst);
        let (fleet, watched) = (Arc::clone(self), Arc::clone(member));
        keeper.when_ended(move |why| {
            let asked = watched.ended(fleet.clock().boot());
            (fleet.tell)(Ended { member: watched, why, asked });
        });
        Ok(())
    }

    fn driver(&self, what: &str) -> Result<Arc<Driver>, Trouble> {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = &*driver {
            return Ok(Arc::clone(driver));
        }
        super::more_descriptors();
        let started = Driver::start(Arc::clone(&self.world.clock))
            .map_err(|error| Trouble::new(what).because(&error))?;
        Ok(Arc::clone(driver.insert(started)))
    }
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
        assert_eq!(fleet.add(database()).expect("added"), Done::Now);
        let first = fleet.find(&path).expect("on the list");
        // Whoever asked for its end is late: somebody has started it once more.
        fleet.stop(&path, None).expect("stopped");
        fleet.start(&path).expect("started");
        assert!(!fleet.take_off(&first) && fleet.has(&first));
        fleet.stop(&path, None).expect("stopped");
        assert!(fleet.take_off(&first) && fleet.members().is_empty());
        // Late again: another one has come.
        fleet.add(database()).expect("added");
        let second = fleet.find(&path).expect("on the list");
        assert!(fleet.take_off(&first) && fleet.has(&second));
        fleet.remove(&path, None).expect("removed");
        assert!(fleet.members().is_empty());
        // Every keeper's end was told: whoever waits for them all is not kept waiting.
        assert_eq!(ends.iter().take(fleet.launches()).count(), 3);
    }
}
