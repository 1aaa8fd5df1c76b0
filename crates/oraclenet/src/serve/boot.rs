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
use litekeep_store::location::{self, ReplicaUrl};
use litekeep_store::{ErrorKind, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the replica may be in trouble before the start is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(2);
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

/// All steps.
pub(super) fn boot(world: &World, options: &Options, source: &Arc<dyn Source>) -> Result<Booted, Trouble> {
    std::fs::create_dir_all(&options.dir).map_err(|error| {
        Trouble::new(exit::FAILED, format!("cannot make the folder {}: {error}", options.dir.display()))
    })?;
    let database = options.dir.join("data.db");
    let replica = open_replica(world, options)?;
    let restored = match &replica {
        Some(opened) => restore_step(world, options, opened, &database)?,
        None => None,
    };
    if !database.exists() {
        create(world, &database, &**source)?;
    }
    let found = open_step(&database, &**source)?;
    let keeper = match &replica {
        Some(opened) => Some(own_step(world, opened, &database)?),
        None => None,
    };
    migrate_step(world, &database, &found, &**source)?;
    Ok(Booted { database, schema: found.schema, keeper, replica, restore: restored })
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

/// Brings the database back, unless there is one.
fn restore_step(
    world: &World,
    options: &Options,
    opened: &Opened,
    database: &Path,
) -> Result<Option<LastRestore>, Trouble> {
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
    let outcome = restore::restore(&env, &asked, &mut progress).map_err(|error| refused(&error))?;
    match outcome {
        Outcome::Restored(restored) => {
            record(&opened.store.location(), &state_dir, &restored);
            Ok(Some(evidence(world, opened, &restored)))
        }
        Outcome::Skipped(Skipped::DatabaseExists(path)) => {
            tracing::info!(path = %path.display(), "database exists, skipping restore");
            if options.require_backup {
                backup_is_there(opened)?;
            }
            Ok(None)
        }
        Outcome::Skipped(Skipped::ReplicaEmpty(_)) | Outcome::Planned(_) => {
            tracing::info!(replica = %opened.location, "no matching backups found");
            Ok(None)
        }
    }
}

fn backup_is_there(opened: &Opened) -> Result<(), Trouble> {
    let catalog = restore::catalog(&*opened.store, 1)
        .map_err(|error| Trouble::new(restore::exit::UNREACHABLE, error.to_string()))?;
    if catalog.files().next().is_some() {
        return Ok(());
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

/// A new database, under another name until it is whole.
pub(super) fn create(world: &World, database: &Path, source: &dyn Source) -> Result<(), Trouble> {
    let failed = |error: &dyn std::fmt::Display| {
        Trouble::new(exit::FAILED, format!("cannot make {}: {error}", database.display()))
    };
    let unfinished = database.with_file_name("data.db.new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
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
    tracing::info!(path = %database.display(), "no backup found, starting fresh");
    Ok(())
}

/// Reads what the file is. Writes nothing.
fn open_step(database: &Path, source: &dyn Source) -> Result<Found, Trouble> {
    let found = open::writer(database)
        .map_err(AdoptError::from)
        .and_then(|connection| adopt::look(&connection, &|| random::secret(source)))
        .map_err(|error| {
            Trouble::new(exit::FAILED, format!("cannot open {}: {error}", database.display()))
        })?;
    found.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    tracing::info!(path = %database.display(), "initialized db");
    Ok(found)
}

/// Starts the engine and waits until the replica has what the file holds: then this process owns it.
fn own_step(world: &World, opened: &Opened, database: &Path) -> Result<Arc<Keeper>, Trouble> {
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
    loop {
        match keeper.sync(LOOK) {
            Ok(txid) => {
                let status = keeper.status();
                let epoch = status.epoch.map_or_else(String::new, |epoch| epoch.to_string());
                tracing::info!(txid = %txid.map_or_else(String::new, |txid| txid.to_string()), %epoch, "owning the replica");
                return Ok(Arc::new(keeper));
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
    let transaction = connection.transaction().map_err(|error| failed(&error))?;
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
