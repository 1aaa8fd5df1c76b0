//! The steps before the first request, each with its evidence: restore, open, follow; or own and migrate, where there
//! is nothing to follow.
//!
//! A restore that fails ends the start. Only a replica that was positively found empty lets a new database be made.

use super::marker::Marker;
use super::migrate::{self, Migration};
use super::options::{Options, Replica};
use super::{Trouble, World, exit, node};
use crate::db::adopt::{self, AdoptError, Found};
use crate::db::{Durability, Gate, Keeping, Owning, Standing, open, tables};
use crate::random::{self, Source};
use crate::schema::Schema;
use crate::time;
use crate::web::{LastRestore, Place};
use litekeep::files::{Files, RealFiles};
use litekeep::local;
use litekeep::node::Node;
use litekeep::restore::{self, Note, Outcome, Progress, RestoreEnv, RestoreError, Restored, Skipped};
use litekeep_store::Store;
use litekeep_store::location::{self, LocationError, ReplicaUrl};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::watch;

/// How soon a signal is noticed.
pub(super) const NOTICE: Duration = Duration::from_millis(20);
/// How long a hand-over waits for a command of ours that is writing: a few rows.
const COMMAND: Duration = Duration::from_secs(2);
/// How often the boot begins again because others were faster with an empty replica.
const FRESH_STARTS: usize = 5;

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
    pub(super) keeping: Keeping,
    pub(super) node: Option<Arc<Node>>,
    pub(super) replica: Option<Opened>,
    pub(super) restore: Option<LastRestore>,
    pub(super) marker: Arc<Marker>,
}

/// Says whether a signal has asked for the end.
pub(super) type Stopped = watch::Receiver<bool>;

/// Makes the folder of the database if it is missing, for this user alone: hashes and keys of accounts lie there. One that
/// is there stays as somebody has made it.
pub(super) fn make_folder(dir: &Path) -> Result<(), Trouble> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        Trouble::new(exit::FAILED, format!("cannot make the folder {}: {error}", dir.display()))
    })
}

/// All steps; `None` when a signal ended them. Nothing was accepted by then, so nothing can be lost.
pub(super) fn boot(
    world: &World,
    options: &Options,
    source: &Arc<dyn Source>,
    stopped: &Stopped,
) -> Result<Option<Booted>, Trouble> {
    make_folder(&options.dir)?;
    let marker = Arc::new(Marker::take(world, &options.dir)?);
    let superuser = migrate::first_superuser(world)?;
    let database = options.dir.join("data.db");
    let migration =
        Migration { database, clock: Arc::clone(&world.clock), source: Arc::clone(source), superuser };
    let Some(opened) = open_replica(world, options)? else {
        return alone(world, &marker, migration).map(Some);
    };
    let mut boot = Boot { world, options, stopped, opened, migration, marker };
    for _ in 0..FRESH_STARTS {
        match boot.attempt()? {
            Attempt::Done(booted) => return Ok(Some(booted.into_booted(boot.opened, boot.marker))),
            Attempt::Stopped => return Ok(None),
            Attempt::Overtaken => boot.take_back()?,
        }
    }
    let what = format!("{} was found empty, and then begun by others, again and again", boot.opened.location);
    Err(Trouble::new(exit::BESIDE, what).hint("do several servers begin with this replica at once?"))
}

/// The boot of a server without a replica.
fn alone(world: &World, marker: &Arc<Marker>, migration: Migration) -> Result<Booted, Trouble> {
    let database = migration.database.clone();
    if !is_there(&database)? {
        create(world, &database, &*migration.source)?;
    }
    let found = open_step(&database, &*migration.source)?;
    remark(&database, &found);
    migration.run()?;
    marker.set(true);
    let schema = open_step(&database, &*migration.source)?.schema;
    let (keeping, marker) = (Keeping::alone(Arc::clone(&world.clock)), Arc::clone(marker));
    Ok(Booted { database, schema, keeping, node: None, replica: None, restore: None, marker })
}

/// What the steps share.
struct Boot<'a> {
    world: &'a World,
    options: &'a Options,
    stopped: &'a Stopped,
    opened: Opened,
    migration: Migration,
    marker: Arc<Marker>,
}

/// What came of the steps.
enum Attempt {
    Done(Box<Done>),
    Stopped,
    /// Somebody else has begun the replica since it was found empty.
    Overtaken,
}

struct Done {
    database: PathBuf,
    schema: Schema,
    keeping: Keeping,
    node: Arc<Node>,
    restore: Option<LastRestore>,
}

impl Done {
    fn into_booted(self, opened: Opened, marker: Arc<Marker>) -> Booted {
        let Self { database, schema, keeping, node, restore } = self;
        Booted { database, schema, keeping, node: Some(node), replica: Some(opened), restore, marker }
    }
}

impl Boot<'_> {
    /// Restore, open, follow, or own where there is nothing to follow.
    fn attempt(&mut self) -> Result<Attempt, Trouble> {
        let (world, database) = (self.world, self.migration.database.clone());
        let state_was_there = is_there(&local::directory(&database, None))?;
        let Some(Step(restore)) = restore_step(world, self.options, &self.opened, &database, self.stopped)?
        else {
            return Ok(Attempt::Stopped);
        };
        let fresh = !is_there(&database)?;
        if fresh {
            create(world, &database, &*self.migration.source)?;
        }
        let found = open_step(&database, &*self.migration.source)?;
        remark(&database, &found);
        // What lacks a table that is read cannot be served before it is brought up.
        let own = fresh || found.plan.changes_tables();
        let clock = Arc::clone(&world.clock);
        let gate = match self.options.durability {
            Durability::Replicated => Gate::shut(Arc::clone(&clock)),
            Durability::Local => Gate::free(Arc::clone(&clock)),
        };
        let standing = Arc::new(Standing::starting());
        let owning = Arc::new(self.owning(&standing, &gate));
        let node = node::start(world, self.options, &self.opened, &database, fresh, owning)?;
        let node = match node::ready(world, node, &standing, (fresh, own), self.stopped) {
            Ok(node::Ready::Yes(node)) => Arc::new(node),
            Ok(node::Ready::Stopped) => return Ok(Attempt::Stopped),
            Ok(node::Ready::Overtaken) => return Ok(Attempt::Overtaken),
            Err(trouble) => {
                // Nothing of it is in the replica, and nobody was served from it.
                if fresh && trouble.exit == exit::UNFIT {
                    self.remove_made(!state_was_there)?;
                }
                return Err(trouble);
            }
        };
        let replica: Arc<dyn crate::db::Replica> = Arc::clone(&node) as _;
        let keeping = Keeping { standing, gate, replica: Some(replica), clock };
        // Once more: the secrets of collections that were missing are those that were written, here or elsewhere. No
        // later change of hands brings others: whoever lacks a collection owns before it gets here.
        let schema = open_step(&database, &*self.migration.source)?.schema;
        Ok(Attempt::Done(Box::new(Done { database, schema, keeping, node, restore })))
    }

    /// What happens at a change of hands.
    fn owning(&self, standing: &Arc<Standing>, gate: &Arc<Gate>) -> Owning {
        let (migration, before, after) =
            (self.migration.clone(), Arc::clone(&self.marker), Arc::clone(&self.marker));
        let database = self.migration.database.clone();
        Owning {
            standing: Arc::clone(standing),
            gate: Arc::clone(gate),
            before: Box::new(move |_| {
                migration.run().map_err(|trouble| trouble.what)?;
                before.set(true);
                Ok(())
            }),
            after: Box::new(move || {
                after.set(false);
                // Whoever has read before that this server owns, and writes, ends first.
                let passed = open::writer(&database).and_then(|connection| {
                    connection.busy_timeout(COMMAND)?;
                    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")
                });
                if let Err(error) = passed {
                    tracing::warn!(%error, "another program holds the database while it is handed over");
                }
            }),
        }
    }

    /// Removes the database that this very start has made, and nothing else: the replica has another one by now.
    fn take_back(&self) -> Result<(), Trouble> {
        tracing::warn!("another server has begun the replica meanwhile: starting again from that");
        self.remove_made(true)
    }

    /// Removes the database that this start has made, and with `state` what the engine keeps beside it.
    fn remove_made(&self, state: bool) -> Result<(), Trouble> {
        let database = &self.migration.database;
        let failed = |path: &Path, error: std::io::Error| {
            Trouble::new(exit::FAILED, format!("cannot remove {}: {error}", path.display()))
        };
        let beside_it = local::directory(database, None);
        if state
            && let Err(error) = std::fs::remove_dir_all(&beside_it)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(&beside_it, error));
        }
        for suffix in ["-wal", "-shm", ""] {
            let path = beside(database, suffix);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(&path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A file beside the database.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    database.with_file_name(name)
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
    // Without keys the replica is as much out of reach as with wrong ones.
    let unkeyed = |error: &LocationError| match error.is_about_keys() {
        true => Trouble { exit: restore::exit::UNREACHABLE, ..unusable(error) },
        false => unusable(error),
    };
    let settings = ReplicaUrl::parse(&url).map_err(|error| unusable(&error))?.into_settings();
    let settings = match settings {
        location::Settings::Directory(path) => location::Settings::Directory(world.directory.join(path)),
        settings @ location::Settings::S3(_) => settings,
    };
    let settings = settings.with_environment(&|name| world.env(name)).map_err(|error| unkeyed(&error))?;
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
    let Some(catalog) = unless_stopped(stopped, move || restore::catalog(&*store))? else {
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
            Note::Unfinished(last) => tracing::warn!(
                %last,
                "the replica ends with an image that was not finished; the state before it is the newest"
            ),
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
    for left in ["-wal", "-shm", "-journal"].map(|suffix| beside(database, suffix)) {
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
    open::look(database)
        .map_err(AdoptError::from)
        .and_then(|connection| adopt::look(&connection, &|| random::secret(source)))
        .map_err(|error| Trouble::new(exit::FAILED, format!("cannot open {}: {error}", database.display())))
}

/// Says what was found.
fn remark(database: &Path, found: &Found) {
    found.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    tracing::info!(path = %database.display(), "initialized db");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::System;
    use litekeep::clock::SystemClock;

    #[test]
    fn the_secret_of_a_collection_that_was_missing_is_the_one_that_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("data.db");
        let world = World {
            env: Box::new(|_| None),
            executable_dir: dir.path().to_owned(),
            directory: dir.path().to_owned(),
            clock: Arc::new(SystemClock),
            random: Arc::new(litekeep::clock::SystemRandom::default()),
        };
        let source: Arc<dyn Source> = Arc::new(System::open().unwrap());
        create(&world, &database, &*source).unwrap();
        let connection = open::writer(&database).unwrap();
        let remove = "DELETE FROM _collections WHERE name = '_superusers'; DROP TABLE _superusers";
        connection.execute_batch(remove).unwrap();
        drop(connection);
        let secret = || {
            let marker = Arc::new(Marker::take(&world, dir.path()).unwrap());
            let (clock, source) = (Arc::clone(&world.clock), Arc::clone(&source));
            let migration = Migration { database: database.clone(), clock, source, superuser: None };
            let booted = alone(&world, &marker, migration).unwrap();
            booted.schema.get("_superusers").auth.as_ref().unwrap().token_secret.clone()
        };
        assert_eq!(secret(), secret(), "the tokens of the first start die at the second");
    }

    #[test]
    fn keys_that_are_missing_have_the_code_of_a_replica_that_is_out_of_reach_and_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let place = "s3://b/p?endpoint=http://127.0.0.1:1";
        for (url, key, code, said) in [
            (
                place,
                None,
                restore::exit::UNREACHABLE,
                "no credentials for s3://b/p: set AWS_ACCESS_KEY_ID and",
            ),
            (place, Some("id"), restore::exit::UNREACHABLE, "AWS_SECRET_ACCESS_KEY is not"),
            ("gopher://b/p", None, exit::USAGE, "the replica cannot be used"),
        ] {
            let world = World {
                env: Box::new(move |name| key.filter(|_| name == "AWS_ACCESS_KEY_ID").map(str::to_owned)),
                executable_dir: dir.path().to_owned(),
                directory: dir.path().to_owned(),
                clock: Arc::new(SystemClock),
                random: Arc::new(litekeep::clock::SystemRandom::default()),
            };
            let words = ["--replica", url].map(std::ffi::OsString::from);
            let options = Options::read(&world, &words).unwrap();
            let trouble = open_replica(&world, &options).err().unwrap();
            assert_eq!(trouble.exit, code, "{}", trouble.what);
            assert!(trouble.what.contains(said), "{}", trouble.what);
        }
    }

    #[test]
    fn the_folder_that_is_made_is_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let (made, there) = (place.path().join("data/pb_data"), place.path().join("there"));
        std::fs::create_dir(&there).unwrap();
        std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (dir, mode) in [(&made, 0o700), (&there, 0o755)] {
            make_folder(dir).unwrap();
            assert_eq!(
                std::fs::metadata(dir).unwrap().permissions().mode() & 0o777,
                mode,
                "{}",
                dir.display()
            );
        }
    }
}
