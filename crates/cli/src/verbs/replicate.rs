//! `litekeep replicate`: databases kept in their replicas until a signal, the end of the command, or trouble that
//! nobody but a person can mend.
//!
//! One thread waits for events and decides; every keeper, the signals and the command have threads of their own that
//! only tell it what happened. Whatever ends the run, the last sync is made, and what it could not bring up decides
//! the exit code.

use super::{exec, open, ready, restore};
use crate::config::{self, Config, Database};
use crate::flags::{self, Flag, Parsed};
use crate::log;
use crate::signals;
use crate::text::{duration, words};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::error::KeepError;
use litekeep::files::RealFiles;
use litekeep::jobs::Threads;
use litekeep::keeper::Keeper;
use litekeep::local;
use litekeep::replicator::{Env, Health};
use litekeep::restore::{Options, Outcome, Skipped};
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, TxidRange};
use litekeep_store::location::{ReplicaUrl, Settings};
use litekeep_store::{Entry, ErrorKind, Key, Scope, Store};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// What "one try" at the end may take at least: a timeout of zero would give up before the first answer.
pub(super) const ONE_TRY: Duration = Duration::from_secs(5);

/// How long `-once` bears trouble without progress.
const ONCE_PATIENCE: Duration = Duration::from_secs(30);

/// What the deciding thread hears.
enum Event {
    Signal(i32),
    Ended(usize, Option<Arc<KeepError>>),
    Synced(Result<(), Trouble>),
}

/// A run, after its start.
struct Run {
    keepers: Vec<Kept>,
    tell: Sender<Event>,
    told: Receiver<Event>,
    /// How many signals came.
    signals: u32,
    /// The first thing that went wrong.
    trouble: Option<Trouble>,
}

/// One database of a run.
struct Kept {
    /// Shared with the thread that waits for a sync; the run holds the last one.
    keeper: Arc<Keeper>,
    store: Arc<dyn Store>,
    database: Database,
    ended: bool,
    /// Its last sync is under way.
    stopping: bool,
}

/// Does what the flags say.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let once = parsed.on(&flags::ONCE);
    let (config, command) = plan(world, parsed)?;
    let level =
        [parsed.given(&flags::LOG_LEVEL), world.env.get("LOG_LEVEL"), config.logging.level.as_deref()];
    let level = log::level(level.into_iter().flatten().next().unwrap_or_default());
    let (json, stderr) = (config.logging.json, config.logging.stderr);
    log::install(log::Settings { level, json, stderr }, Arc::clone(&world.clock));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %level, "litekeep");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for mapped in &config.mapped {
        tracing::info!("{mapped}");
    }
    for database in &config.databases {
        if database.restore_if_missing || parsed.on(&flags::RESTORE_IF_DB_NOT_EXISTS) {
            restore_first(world, database)?;
        }
    }
    if let Some(words) = command {
        let command = exec_command(parsed, words, config.single_writer)?;
        return exec::run(world, config.databases, command);
    }
    let (tell, told) = mpsc::channel();
    let signal = tell.clone();
    signals::listen(move |number| drop(signal.send(Event::Signal(number))))
        .map_err(|error| Trouble::new("can't listen for signals").because(&error))?;
    let mut run = Run { keepers: Vec::new(), tell, told, signals: 0, trouble: None };
    match config.databases.into_iter().try_for_each(|database| run.keep(world, database)) {
        Ok(()) if once => run.sync_once(world, parsed.on(&flags::FORCE_SNAPSHOT)),
        Ok(()) => run.wait(),
        Err(trouble) => run.blame(trouble),
    }
    run.close()
}

/// What to replicate and what to run meanwhile.
fn plan(world: &World, parsed: &Parsed) -> Result<(Config, Option<Vec<String>>), Trouble> {
    let config = match &parsed.operands[..] {
        [] => config::load(world, parsed)?,
        [_] => return Err(Trouble::new("a DB_PATH needs a replica URL after it")),
        [path, url] => {
            if parsed.given(&flags::CONFIG).is_some() {
                return Err(Trouble::new("a replica URL and -config can't be given together"));
            }
            if ReplicaUrl::is_url(path) && !path.starts_with("sqlite") {
                return Err(Trouble::new("the database's path comes first, then the replica URL"));
            }
            Config {
                databases: vec![Database::of(world.path(path), super::replica_url(world, url)?)],
                ..Config::default()
            }
        }
        [_, _, ..] => {
            return Err(Trouble::new("a database has one replica: several replica URLs are not supported"));
        }
    };
    let command = parsed.given(&flags::EXEC).map(str::to_owned).or_else(|| config.exec.clone());
    if parsed.on(&flags::FORCE_SNAPSHOT) && !parsed.on(&flags::ONCE) {
        return Err(Trouble::new("-force-snapshot needs -once"));
    }
    if parsed.on(&flags::ONCE) && command.is_some() {
        return Err(Trouble::new(
            "-once and a command (-exec, or `exec` of the configuration) can't be given together",
        ));
    }
    let command = command
        .map(|line| {
            words::split(&line).map_err(|why| Trouble::new("the command of -exec can't be run").cause(why))
        })
        .transpose()?;
    if config.databases.is_empty() {
        return Err(Trouble::new("there is no database to replicate").hint("list them under `dbs:`"));
    }
    Ok((config, command))
}

/// What the flags say of the command.
fn exec_command(parsed: &Parsed, words: Vec<String>, single_writer: bool) -> Result<exec::Command, Trouble> {
    let ready_url = parsed.given(&flags::READY_URL).map(ready::Address::parse).transpose()?;
    let time = |flag: &'static Flag, least: Duration| {
        let text = parsed.text(flag).unwrap_or_default();
        let wrong = |why: String| Trouble::new(format!("-{}: `{text}`: {why}", flag.name));
        let time = duration::parse(text).map_err(wrong)?;
        if time < least { Err(wrong(format!("it takes {least:?} at least"))) } else { Ok(time) }
    };
    Ok(exec::Command {
        words,
        ready_url,
        hand_over: time(&flags::HAND_OVER, exec::LEAST_HAND_OVER)?,
        ready_timeout: time(&flags::READY_TIMEOUT, exec::LEAST_READY)?,
        single_writer: parsed.on(&flags::SINGLE_WRITER) || single_writer,
    })
}

/// Restores a database that is not there. Only a replica that is confirmed empty lets it start fresh (R26b).
fn restore_first(world: &World, database: &Database) -> Result<(), Trouble> {
    let path = database.path.display();
    if database.path.exists() {
        tracing::info!(%path, "database exists, skipping restore");
        return Ok(());
    }
    tracing::info!(%path, "attempting restore before replication");
    let state_dir = local::directory(&database.path, database.settings.meta_path.as_deref());
    let options = Options {
        if_db_not_exists: true,
        if_replica_exists: true,
        state_dir: Some(state_dir),
        ..Options::new(&database.path)
    };
    match restore::perform(world, &database.replica, &options)? {
        Outcome::Restored(_) | Outcome::Planned(_) => tracing::info!(%path, "restore completed"),
        Outcome::Skipped(Skipped::DatabaseExists(_)) => {
            tracing::info!(%path, "database exists, skipping restore")
        }
        Outcome::Skipped(Skipped::ReplicaEmpty(_)) => {
            tracing::info!(%path, "no matching backups found");
            tracing::info!(%path, "no backup found, starting fresh");
        }
    }
    Ok(())
}

impl Run {
    /// Begins to replicate a database.
    fn keep(&mut self, world: &World, database: Database) -> Result<(), Trouble> {
        let store = open(world, &database.replica)?;
        let env = Env {
            clock: Arc::clone(&world.clock),
            random: Arc::clone(&world.random),
            files: Arc::new(RealFiles),
            vfs: None,
            store: Arc::clone(&store),
            spawner: Arc::new(Threads),
            decisions: Decisions::RIGHT,
        };
        let keeper = Keeper::start(env, database.settings.clone(), &database.path).map_err(|error| {
            let what = format!("can't replicate {}", database.path.display());
            keep_trouble(&what, &error)
        })?;
        replicating_to(&database);
        let ended = keeper.when_ended();
        let (tell, index) = (self.tell.clone(), self.keepers.len());
        let keeper = Arc::new(keeper);
        self.keepers.push(Kept { keeper, store, database, ended: false, stopping: false });
        thread("ended", move || drop(tell.send(Event::Ended(index, ended()))))
    }

    /// Waits for the reason to end: a signal, or trouble with every database.
    fn wait(&mut self) {
        while let Ok(event) = self.told.recv() {
            match event {
                Event::Signal(signal) => {
                    self.signals += 1;
                    let signal = signals::name(signal);
                    tracing::info!(signal, "signal received, litekeep shutting down");
                    return;
                }
                Event::Ended(index, why) => {
                    self.ended(index, why);
                    if self.keepers.iter().all(|kept| kept.ended) {
                        return;
                    }
                }
                Event::Synced(..) => {}
            }
        }
    }

    fn ended(&mut self, index: usize, why: Option<Arc<KeepError>>) {
        let kept = &mut self.keepers[index];
        kept.ended = true;
        let path = kept.database.path.display();
        let Some(error) = why else {
            let txid = kept.keeper.status().durable.map_or_else(String::new, |txid| txid.to_string());
            tracing::info!(db = %path, %txid, "replica sync complete");
            return;
        };
        let what = if kept.stopping {
            format!("the last changes of {path} are not in the replica")
        } else {
            format!("replication of {path} has ended")
        };
        tracing::error!(db = %path, %error, "{}", if kept.stopping { "final sync failed" } else { "replication ended" });
        let trouble = keep_trouble(&what, &error);
        self.blame(trouble);
    }

    /// Keeps the first thing that went wrong; it is what the process ends with.
    fn blame(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
    }

    /// Waits until every database is in its replica as it is now.
    fn sync_once(&mut self, world: &World, snapshot: bool) {
        let mut waiting = self.keepers.len();
        for kept in &self.keepers {
            let (keeper, tell) = (Arc::clone(&kept.keeper), self.tell.clone());
            let path = kept.database.path.clone();
            let (store, clock) = (Arc::clone(&kept.store), Arc::clone(&world.clock));
            let sync = move || {
                let result = synced(&keeper)
                    .map_err(|error| match keeper.status().health {
                        Health::Waiting => {
                            Trouble::new(format!("there is no database at {}", path.display()))
                        }
                        _ => keep_trouble(&format!("can't sync {}", path.display()), &error),
                    })
                    .and_then(|()| if snapshot { snapshotted(&keeper, &*store, &*clock) } else { Ok(()) });
                drop(keeper);
                drop(tell.send(Event::Synced(result)));
            };
            if let Err(trouble) = thread("sync", sync) {
                return self.blame(trouble);
            }
        }
        while waiting > 0 {
            let Ok(event) = self.told.recv() else { return };
            match event {
                Event::Signal(_) => {
                    return self.blame(
                        Trouble::new("a signal came before the sync was done").exit(Exit::NOT_SYNCED),
                    );
                }
                Event::Synced(Ok(())) => waiting -= 1,
                Event::Synced(Err(trouble)) => return self.blame(trouble),
                Event::Ended(index, why) => {
                    self.ended(index, why);
                    return;
                }
            }
        }
    }

    /// The last sync of every database, each within its time; a second signal ends the waiting.
    fn close(mut self) -> Result<Exit, Trouble> {
        for kept in &mut self.keepers {
            kept.stopping = !kept.ended;
            let limit = kept.database.shutdown_timeout;
            kept.keeper.begin_stop(if limit.is_zero() { ONE_TRY } else { limit });
        }
        while self.keepers.iter().any(|kept| !kept.ended) {
            let Ok(event) = self.told.recv() else { break };
            match event {
                Event::Signal(signal) => {
                    self.signals += 1;
                    let signal = signals::name(signal);
                    if self.signals > 1 {
                        tracing::warn!(signal, "second signal received, giving the last sync up");
                        self.keepers.iter().for_each(|kept| kept.keeper.begin_stop(Duration::ZERO));
                    } else {
                        tracing::info!(signal, "signal received, the last sync is under way");
                    }
                }
                Event::Ended(index, why) => self.ended(index, why),
                Event::Synced(..) => {}
            }
        }
        tracing::info!("litekeep shut down");
        self.trouble.map_or(Ok(Exit::OK), Err)
    }
}

/// Waits until all is in the replica; trouble without progress is borne for a while.
fn synced(keeper: &Keeper) -> Result<(), Arc<KeepError>> {
    const LOOK: Duration = Duration::from_secs(1);
    let mut borne = Duration::ZERO;
    loop {
        let before = keeper.status();
        match keeper.sync(LOOK) {
            Ok(_) => return keeper.status().failure.map_or(Ok(()), Err),
            Err(KeepError::Timeout(_)) => {}
            Err(KeepError::Ended(Some(failure))) => return Err(failure),
            Err(error) => return Err(Arc::new(error)),
        }
        let now = keeper.status();
        let moving = now.built != before.built || now.durable != before.durable;
        let stuck = matches!(now.health, Health::Troubled | Health::Waiting);
        borne = if stuck && !moving { borne + LOOK } else { Duration::ZERO };
        if now.health == Health::Waiting || borne >= ONCE_PATIENCE {
            let timeout = Arc::new(KeepError::Timeout(borne.max(LOOK).as_secs_f64()));
            return Err(now.trouble.unwrap_or(timeout));
        }
    }
}

/// Waits until the replica holds a snapshot of its newest transaction: looked for where it has to be.
fn snapshotted(keeper: &Keeper, store: &dyn Store, clock: &dyn Clock) -> Result<(), Trouble> {
    const LOOK: Duration = Duration::from_millis(200);
    keeper.snapshot();
    let mut waited = Duration::ZERO;
    loop {
        let status = keeper.status();
        let Some(newest) = status.durable else { return Ok(()) };
        let snapshots = store.list(&Scope::Level(Level::SNAPSHOTS)).map_err(|error| {
            Trouble::new("can't look for the snapshot").because(&error).exit(restore::UNREACHABLE)
        })?;
        let covers =
            |entry: &Entry| matches!(entry.key, Key::Ltx(_, range) if TxidRange::max(range) >= newest);
        if snapshots.iter().any(covers) {
            return Ok(());
        }
        let stuck = status.health != Health::Good;
        waited = if stuck { waited + LOOK } else { Duration::ZERO };
        if status.health == Health::Ended || waited >= ONCE_PATIENCE {
            return Err(Trouble::new("the snapshot was not taken").exit(Exit::NOT_SYNCED));
        }
        clock.sleep(LOOK);
    }
}

/// The line that people look for at a start.
pub(super) fn replicating_to(database: &Database) {
    let path = database.path.display();
    let interval = format!("{:?}", database.settings.sync_interval);
    match &database.replica {
        Settings::Directory(directory) => tracing::info!(
            db = %path, r#type = "file", "sync-interval" = interval, path = %directory.display(), "replicating to"
        ),
        Settings::S3(s3) => tracing::info!(
            db = %path,
            r#type = "s3",
            "sync-interval" = interval,
            bucket = s3.bucket,
            path = s3.path,
            region = s3.region.as_deref().unwrap_or_default(),
            endpoint = s3.endpoint.as_deref().unwrap_or_default(),
            "replicating to"
        ),
    }
}

/// An error of the engine, for people, with the exit code that tells its kind.
pub(super) fn keep_trouble(what: &str, error: &KeepError) -> Trouble {
    let exit = match error {
        KeepError::Unsent { .. } | KeepError::Uncaptured { .. } | KeepError::Timeout(_) => Exit::NOT_SYNCED,
        KeepError::Fenced { .. } => Exit::FENCED,
        KeepError::Beside { .. } | KeepError::Behind { .. } | KeepError::PageSize { .. } => Exit::DIVERGED,
        KeepError::Wiped { .. } | KeepError::Emptied { .. } => Exit(litekeep::restore::exit::WIPED),
        KeepError::EpochDamaged { .. } => Exit(litekeep::restore::exit::DAMAGED),
        KeepError::Store(error) if error.kind() == ErrorKind::DataDamaged => {
            Exit(litekeep::restore::exit::DAMAGED)
        }
        KeepError::Store(_) => restore::UNREACHABLE,
        _ => Exit::FAILED,
    };
    let trouble = Trouble::new(what).because(error).exit(exit);
    match error.hint() {
        Some(hint) => trouble.hint(hint),
        None => trouble,
    }
}

pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Trouble> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| Trouble::new("can't start a thread").because(&error))
}
