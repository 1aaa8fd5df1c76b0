//! The steps before the first request, each with its evidence: restore, open, own, migrate.
//!
//! A restore that fails ends the start. Only a replica that was positively found empty lets a new database be made.

use super::options::{Options, Replica};
use super::{Trouble, World, exit};
use crate::auth::password;
use crate::db::adopt::{self, AdoptError, Found, Superuser};
use crate::db::{open, tables};
use crate::random::{self, Source};
use crate::schema::Schema;
use crate::time;
use crate::web::{LastRestore, Place};
use litekeep::error::{KeepError, KeepErrorKind};
use litekeep::files::{Files, RealFiles};
use litekeep::jobs::Threads;
use litekeep::keeper::Keeper;
use litekeep::replicator::Env;
use litekeep::restore::{self, Note, Outcome, Progress, RestoreEnv, RestoreError, Restored, Skipped};
use litekeep::{local, settings};
use litekeep_core::decisions::Decisions;
use litekeep_formats::Txid;
use litekeep_store::location::{self, ReplicaUrl};
use litekeep_store::{ErrorKind, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::watch;

/// How long the replica may be in trouble before the start is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long the engine may take to end when the start is given up; what it began stays good for the next start.
const GIVE_UP: Duration = Duration::from_secs(5);
/// How soon a signal is noticed.
const NOTICE: Duration = Duration::from_millis(100);
/// The least time between two slots: answers wait for them, so it only bounds the rate of requests.
const SYNC_INTERVAL: Duration = Duration::from_millis(10);

/// The replica, opened.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) location: String,
    pub(super) place: Place,
}

/// What the boot leaves to the server.
pub(super) struct Booted {
    pub(super) database: PathBuf,
    pub(super) schema: Schema,
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) replica: Option<Opened>,
    pub(super) restore: Option<LastRestore>,
}

/// Says whether a signal has asked for the end.
pub(super) type Stopped = watch::Receiver<bool>;

/// All steps; `None` when a signal ended them. Nothing was accepted by then, so nothing can be lost.
pub(super) fn boot(
    world: &World,
    options: &Options,
    source: &Arc<dyn Source>,
    stopped: &Stopped,
) -> Result<Option<Booted>, Trouble> {
    std::fs::create_dir_all(&options.dir).map_err(|error| {
        Trouble::new(exit::FAILED, format!("cannot make the folder {}: {error}", options.dir.display()))
    })?;
    let database = options.dir.join("data.db");
    let replica = open_replica(world, options)?;
    let mut restored = None;
    if let Some(opened) = &replica {
        let Some(step) = restore_step(world, options, opened, &database, stopped)? else { return Ok(None) };
        restored = step.0;
    }
    if !is_there(&database)? {
        create(world, &database, &**source)?;
    }
    let found = open_step(&database, &**source)?;
    let mut keeper = None;
    if let Some(opened) = &replica {
        let Some(owner) = own_step(world, opened, &database, stopped)? else { return Ok(None) };
        keeper = Some(owner);
    }
    migrate_step(world, &database, &found, &**source)?;
    Ok(Some(Booted { database, schema: found.schema, keeper, replica, restore: restored }))
}

/// Whether a file is there. One that cannot be looked at is not one that is not there.
pub(super) fn is_there(path: &Path) -> Result<bool, Trouble> {
    path.try_exists().map_err(|error| {
        Trouble::new(exit::FAILED, format!("cannot look at {}: {error}", path.display()))
            .hint("the user that runs this program must be able to read it")
    })
}

/// Does `work` on a thread of its own; `None` when a signal came first. The work then ends with the process, as it
/// would at a kill, so it has to be fit for that.
fn unless_stopped<T: Send + 'static>(
    stopped: &Stopped,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, Trouble> {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::Builder::new().name("boot".to_owned());
    let spawned = thread.spawn(move || {
        let _ = tell.send(work()); // nobody hears it after a signal
    });
    spawned.map_err(|error| Trouble::new(exit::FAILED, format!("no thread: {error}")))?;
    loop {
        match told.recv_timeout(NOTICE) {
            Ok(done) => return Ok(Some(done)),
            Err(RecvTimeoutError::Timeout) if *stopped.borrow() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Trouble::new(exit::FAILED, "the start failed; what happened is said above"));
            }
        }
    }
}

fn open_replica(world: &World, options: &Options) -> Result<Option<Opened>, Trouble> {
    let url = match &options.replica {
        Replica::None => {
            tracing::warn!("the data lives on this disk only and is lost with it: --replica none");
            return Ok(None);
        }
        Replica::Beside(path) => format!("file://{}", path.display()),
        Replica::Url(url) => url.clone(),
    };
    let unusable =
        |error: &dyn std::fmt::Display| Trouble::usage(format!("the replica cannot be used: {error}"));
    let settings = ReplicaUrl::parse(&url).map_err(|error| unusable(&error))?.into_settings();
    let settings = match settings {
        location::Settings::Directory(path) => location::Settings::Directory(world.directory.join(path)),
        settings @ location::Settings::S3(_) => settings,
    };
    let settings = settings.with_environment(&|name| world.env(name)).map_err(|error| unusable(&error))?;
    if let location::Settings::Directory(path) = &settings
        && path.starts_with(&options.dir)
    {
        return Err(Trouble::usage(format!(
            "the replica {} lies inside the database's folder",
            path.display()
        ))
        .hint("whoever wipes that folder wipes both; choose a place outside it"));
    }
    let place = match &settings {
        location::Settings::Directory(path) if same_disk(path, &options.dir) => Place::SameDisk,
        _ => Place::Elsewhere,
    };
    let location = settings.location();
    if place == Place::SameDisk {
        tracing::warn!(replica = %location, "same disk: the data lives only on this machine");
    }
    let store = location::open(&settings, Arc::clone(&world.clock), Arc::clone(&world.random));
    let store = store.map_err(|error| unusable(&error))?;
    Ok(Some(Opened { store, location, place }))
}

/// Whether two paths, which need not exist yet, lie on one file system.
fn same_disk(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device =
        |path: &Path| path.ancestors().find_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.dev());
    device(one).is_some() && device(one) == device(other)
}

/// What a restore came to, if there was anything to restore.
struct Step(Option<LastRestore>);

/// Brings the database back, unless there is one; `None` when a signal came first.
fn restore_step(
    world: &World,
    options: &Options,
    opened: &Opened,
    database: &Path,
    stopped: &Stopped,
) -> Result<Option<Step>, Trouble> {
    let state_dir = local::directory(database, None);
    let asked = restore::Options {
        if_db_not_exists: true,
        if_replica_exists: !options.require_backup,
        state_dir: Some(state_dir.clone()),
        ..restore::Options::new(database)
    };
    let env = RestoreEnv {
        store: Arc::clone(&opened.store),
        files: Arc::new(RealFiles),
        clock: Arc::clone(&world.clock),
        vfs: None,
    };
    // It writes under another name until all is verified, so it may be left at any moment.
    let outcome = unless_stopped(stopped, move || restore::restore(&env, &asked, &mut progress))?;
    let Some(outcome) = outcome else { return Ok(None) };
    match outcome.map_err(|error| refused(&error))? {
        Outcome::Restored(restored) => {
            record(&opened.store.location(), &state_dir, &restored);
            Ok(Some(Step(Some(evidence(world, opened, &restored)))))
        }
        Outcome::Skipped(Skipped::DatabaseExists(path)) => {
            tracing::info!(path = %path.display(), "database exists, skipping restore");
            if !options.require_backup {
                return Ok(Some(Step(None)));
            }
            Ok(backup_is_there(opened, stopped)?.map(|()| Step(None)))
        }
        Outcome::Skipped(Skipped::ReplicaEmpty(_)) | Outcome::Planned(_) => {
            tracing::info!(replica = %opened.location, "no matching backups found");
            Ok(Some(Step(None)))
        }
    }
}

fn backup_is_there(opened: &Opened, stopped: &Stopped) -> Result<Option<()>, Trouble> {
    let store = Arc::clone(&opened.store);
    let Some(catalog) = unless_stopped(stopped, move || restore::catalog(&*store, 1))? else {
        return Ok(None);
    };
    let catalog = catalog.map_err(|error| Trouble::new(restore::exit::UNREACHABLE, error.to_string()))?;
    if catalog.files().next().is_some() {
        return Ok(Some(()));
    }
    Err(Trouble::new(restore::exit::EMPTY, format!("no matching backups found at {}", opened.location))
        .hint("--require-backup refuses an empty replica"))
}

fn progress(progress: Progress) {
    match progress {
        Progress::Planned(planned) => {
            let (replica, files, bytes) = (&planned.location, planned.objects.len(), planned.bytes);
            tracing::info!(%replica, files, bytes, "restoring database");
        }
        Progress::Replanning { why } => tracing::warn!(%why, "planning the restore again"),
        Progress::Placing => tracing::info!("renaming database from temporary location"),
        Progress::Fetched { .. } | Progress::Checking => {}
    }
}

fn refused(error: &RestoreError) -> Trouble {
    Trouble::new(error.exit_code(), error.to_string()).hint(error.hint())
}

/// What came back, from where, and how fast.
fn evidence(world: &World, opened: &Opened, restored: &Restored) -> LastRestore {
    for note in &restored.notes {
        match note {
            Note::WentAround(what) => {
                tracing::warn!(%what, "an object of the replica is no good; another way was taken")
            }
            Note::NewerV3 { .. } => tracing::warn!(
                "newer v0.3 files lie beside the chain: does an old Litestream still write there?"
            ),
            Note::Unsealed(files) => tracing::info!(files, "files without a seal were read"),
            Note::NotCheckable(tables) => {
                tracing::warn!(tables = %tables.join(", "), "SQLite could not check these tables")
            }
        }
    }
    let txid = restored.txid().map_or_else(String::new, |txid| txid.to_string());
    let millis = u64::try_from(restored.elapsed.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(replica = %opened.location, %txid, bytes = restored.bytes, milliseconds = millis,
        age_seconds = restored.age.as_secs(), "restore complete");
    if restored.txid().is_none() {
        tracing::info!(
            "this was a backup of Litestream 0.3; it stays as it is, and a chain of this server's own begins beside it"
        );
    }
    LastRestore {
        from: opened.location.clone(),
        txid: restored.txid().map_or(0, |txid| txid.get()),
        bytes: restored.bytes,
        millis,
        at: world.clock.wall(),
    }
}

/// Leaves word for the engine, so that it goes on with the same chain. Without it the next step compares content,
/// which is slower and no less right.
fn record(replica: &str, state_dir: &Path, restored: &Restored) {
    let Some(sums) = &restored.sums else { return };
    if let Some(record) = restored.record(replica.to_owned()) {
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        if let Err(error) = local::record_restored(&files, &restored.output, Some(state_dir), &record) {
            tracing::warn!(%error, "the restored state could not be recorded; its content will be compared");
        }
    }
    let _ = RealFiles.remove(sums); // a temporary file
}

/// A new database, under another name until it is whole. What SQLite left of an older one must not be beside it: the
/// old log would be played into the new file.
pub(super) fn create(world: &World, database: &Path, source: &dyn Source) -> Result<(), Trouble> {
    let failed = |error: &dyn std::fmt::Display| {
        Trouble::new(exit::FAILED, format!("cannot make {}: {error}", database.display()))
    };
    let beside = |suffix: &str| {
        let mut name = database.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        database.with_file_name(name)
    };
    for left in ["-wal", "-shm", "-journal"].map(beside) {
        if is_there(&left)? {
            return Err(failed(&format!("{} of an older database is still there", left.display())).hint(
                "it may hold that database's last changes: put data.db back beside it, or, to begin anew, move it away",
            ));
        }
    }
    let unfinished = database.with_file_name("data.db.new");
    for old in [database.with_file_name("data.db.new-journal"), unfinished.clone()] {
        match std::fs::remove_file(&old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
    }
    let now = time::now(&*world.clock);
    let stamp = time::format(now);
    let schema = adopt::fresh(&|| random::secret(source));
    let made = rusqlite::Connection::open(&unfinished).and_then(|connection| {
        let transaction = connection.unchecked_transaction()?;
        tables::create(&transaction, &schema, &stamp, now.timestamp_micros())?;
        adopt::set_mark(&transaction, &stamp)?;
        transaction.commit()
    });
    made.map_err(|error| failed(&error))?;
    std::fs::File::open(&unfinished).and_then(|file| file.sync_all()).map_err(|error| failed(&error))?;
    std::fs::rename(&unfinished, database).map_err(|error| failed(&error))?;
    let directory = database.parent().unwrap_or(database);
    let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed(&error))?;
    tracing::info!(path = %database.display(), "no backup found, starting fresh");
    Ok(())
}

/// Reads what the file is. Writes nothing: it may be somebody else's, and the replica is not ours yet.
fn open_step(database: &Path, source: &dyn Source) -> Result<Found, Trouble> {
    let found = open::look(database)
        .map_err(AdoptError::from)
        .and_then(|connection| adopt::look(&connection, &|| random::secret(source)))
        .map_err(|error| {
            Trouble::new(exit::FAILED, format!("cannot open {}: {error}", database.display()))
        })?;
    found.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    tracing::info!(path = %database.display(), "initialized db");
    Ok(found)
}

/// Starts the engine and waits until the replica has what the file holds: then this process owns it. `None` when a
/// signal came first.
fn own_step(
    world: &World,
    opened: &Opened,
    database: &Path,
    stopped: &Stopped,
) -> Result<Option<Arc<Keeper>>, Trouble> {
    let env = Env {
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        files: Arc::new(RealFiles),
        vfs: None,
        store: Arc::clone(&opened.store),
        spawner: Arc::new(Threads),
        decisions: Decisions::RIGHT,
    };
    let settings = settings::Settings { sync_interval: SYNC_INTERVAL, ..settings::Settings::default() };
    let keeper = Keeper::start(env, settings, database).map_err(|error| kept(&error))?;
    tracing::info!(replica = %opened.location, "replicating to");
    let mut troubled: Option<Duration> = None;
    while !*stopped.borrow() {
        match keeper.sync(LOOK) {
            Ok(txid) => {
                owned(&keeper, txid);
                return Ok(Some(Arc::new(keeper)));
            }
            Err(KeepError::Timeout(_)) => {
                let now = world.clock.boot();
                let since = *troubled.get_or_insert(now);
                match keeper.status().trouble {
                    Some(error) if now.saturating_sub(since) >= PATIENCE => return Err(kept(&error)),
                    Some(_) => {}
                    None => troubled = None,
                }
            }
            Err(error) => return Err(kept(&error)),
        }
    }
    give_up(keeper);
    Ok(None)
}

/// Says what is owned now. The engine tells its epoch at the end of a step, and answers within one: a second answer
/// comes after that.
fn owned(keeper: &Keeper, txid: Option<Txid>) {
    let told = |what: Option<String>| what.unwrap_or_else(|| "none".to_owned());
    let _ = keeper.sync(LOOK); // only for the line below; trouble shows when it matters
    let epoch = told(keeper.status().epoch.map(|epoch| epoch.to_string()));
    tracing::info!(txid = %told(txid.map(|txid| txid.to_string())), %epoch, "owning the replica");
}

/// Ends the engine, which may be waiting for a store that does not answer: then without waiting for it.
fn give_up(keeper: Keeper) {
    keeper.begin_stop(GIVE_UP);
    let ended = keeper.when_ended();
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::Builder::new().name("ended".to_owned()).spawn(move || {
        let _ = tell.send(ended().is_none());
    });
    if waiting.is_err() || told.recv_timeout(GIVE_UP * 2).is_err() {
        tracing::warn!("the replication did not end in time; it ends with the process");
        std::mem::forget(keeper); // dropping it would wait
    }
}

/// An error of the engine, with its exit code.
pub(super) fn kept(error: &KeepError) -> Trouble {
    let code = match (error, error.kind()) {
        (KeepError::Ended(Some(inner)), _) => return kept(inner),
        (KeepError::Unsent { .. } | KeepError::Uncaptured { .. }, _) => exit::NOT_SYNCED,
        (_, KeepErrorKind::Fenced) => exit::FENCED,
        (KeepError::Wiped { .. }, _) => restore::exit::WIPED,
        (KeepError::Beside { .. } | KeepError::Behind { .. }, _) => exit::BESIDE,
        (KeepError::Store(error), _) if error.kind() == ErrorKind::DataDamaged => restore::exit::DAMAGED,
        (KeepError::Store(_), _) => restore::exit::UNREACHABLE,
        _ => exit::FAILED,
    };
    let trouble = Trouble::new(code, error.to_string());
    match error.hint() {
        Some(hint) => trouble.hint(hint),
        None => trouble,
    }
}

/// Writes what this version needs, and the first superuser. Only the owner gets here.
fn migrate_step(world: &World, database: &Path, found: &Found, source: &dyn Source) -> Result<(), Trouble> {
    let failed = |error: &dyn std::fmt::Display| {
        Trouble::new(exit::FAILED, format!("cannot prepare {}: {error}", database.display()))
    };
    let now = time::format(time::now(&*world.clock));
    let superuser = first_superuser(world)?;
    let mut connection = open::writer(database).map_err(|error| failed(&error))?;
    // Immediate: it reads before it writes, and another process's commit in between would make it fail.
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(|error| failed(&error))?;
    let key = || random::token_key(source);
    if found.plan != adopt::Plan::default() {
        let renewed = adopt::apply(&transaction, found, &now, &key).map_err(|error| failed(&error))?;
        tracing::info!(plan = ?found.plan, "schema brought up to this version");
        if renewed > 0 {
            tracing::warn!(
                accounts = renewed,
                "accounts with a wallet address got a new token key: their tokens end here"
            );
        }
    }
    if let Some((email, password)) = superuser {
        let schema = &found.schema;
        let known = crate::db::rows::find(&transaction, schema.get("_superusers"), "email = ?1", &[&email]);
        if known.map_err(|error| failed(&error))?.is_none() {
            let hash = password::hash_now(&password, source).map_err(|error| failed(&error))?;
            let id = random::record_id(source);
            let account = Superuser { email: &email, password_hash: &hash, id: &id, token_key: &key() };
            adopt::upsert_superuser(&transaction, schema, &account, &now).map_err(|error| failed(&error))?;
            tracing::info!(%email, "created the superuser from the environment");
        }
    }
    transaction.commit().map_err(|error| failed(&error))
}

/// The superuser that the environment names, in this order of names.
fn first_superuser(world: &World) -> Result<Option<(String, String)>, Trouble> {
    for (email, password) in [
        ("ORACLENET_SUPERUSER_EMAIL", "ORACLENET_SUPERUSER_PASSWORD"),
        ("PB_ADMIN_EMAIL", "PB_ADMIN_PASSWORD"),
    ] {
        let file = format!("{password}_FILE");
        let secret = match (world.env(password), world.env(&file)) {
            (Some(secret), _) => Some(secret),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| Trouble::usage(format!("{file}: cannot read {path}: {error}")))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => None,
        };
        match (world.env(email), secret) {
            (Some(address), Some(secret)) => {
                if !crate::records::formats::is_email(&address) {
                    return Err(Trouble::usage(format!("{email} is no e-mail address")));
                }
                if !password::has_good_length(&secret) {
                    return Err(Trouble::usage(format!(
                        "{password} must have 8 characters or more, and 71 bytes at most"
                    )));
                }
                return Ok(Some((address, secret)));
            }
            (None, None) => {}
            (Some(_), None) => return Err(Trouble::usage(format!("{email} is set, and {password} is not"))),
            (None, Some(_)) => return Err(Trouble::usage(format!("{password} is set, and {email} is not"))),
        }
    }
    Ok(None)
}
