//! `litekeep replicate`: databases kept in their replicas until a signal, the end of the command, or trouble that
//! nobody but a person can mend.
//!
//! This file reads what is asked for and restores what is missing; the databases themselves are the daemon's business, or
//! with a command, that of `exec`.

use super::{abrupt, destination, elsewhere, exec, input, ready, restore};
use crate::config::local_state;
use crate::config::{self, Config, Database};
use crate::daemon;
use crate::flags::{self, Flag, Parsed};
use crate::log;
use crate::text::{duration, words};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::error::{KeepError, KeepErrorKind};
use litekeep::local::LocalError;
use litekeep::restore::{Options, Outcome, Skipped};
use litekeep_formats::Txid;
use litekeep_store::ErrorKind;
use litekeep_store::location::Settings;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What "one try" at the end may take at least: a timeout of zero would give up before the first answer.
pub(crate) const ONE_TRY: Duration = Duration::from_secs(5);

/// Does what the flags say.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let abrupt = abrupt()?;
    let once = parsed.on(&flags::ONCE);
    let (config, command) = plan(world, parsed)?;
    let level =
        [parsed.given(&flags::LOG_LEVEL), world.env.get("LOG_LEVEL"), config.logging.level.as_deref()];
    let level = log::level(level.into_iter().flatten().next().unwrap_or_default());
    let config::Logging { json, stderr, source, .. } = config.logging;
    log::install_queued(log::Settings { level, json, stderr, source }, Arc::clone(&world.clock));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %level, "litekeep");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for mapped in &config.mapped {
        tracing::info!("{mapped}");
    }
    if parsed.on(&flags::RESTORE_IF_DB_NOT_EXISTS) && !config.directories.is_empty() {
        tracing::warn!(
            "-{} has no effect on the databases of a directory: {}",
            flags::RESTORE_IF_DB_NOT_EXISTS.name,
            config::NOT_RESTORED
        );
    }
    for database in &config.databases {
        input::check(&database.path)?;
    }
    for database in &config.databases {
        if database.restore_if_missing || parsed.on(&flags::RESTORE_IF_DB_NOT_EXISTS) {
            restore_first(world, database)?;
        } else {
            elsewhere::fresh(world, database)?;
        }
    }
    if let Some(words) = command {
        let command = exec_command(parsed, words, config.single_writer)?;
        return exec::run(world, &config, command, abrupt);
    }
    let once = once.then(|| daemon::Once {
        snapshot: parsed.on(&flags::FORCE_SNAPSHOT),
        retention: parsed.on(&flags::ENFORCE_RETENTION),
    });
    daemon::run(world, config, once, abrupt)
}

/// What to replicate and what to run meanwhile.
fn plan(world: &World, parsed: &Parsed) -> Result<(Config, Option<Vec<String>>), Trouble> {
    let config = match &parsed.operands[..] {
        [] => config::load_to_replicate(world, parsed)?,
        [path] => {
            return Err(Trouble::new(format!("must specify at least one replica URL for {path}")).hint(
                "litekeep replicate /path/to/db s3://BUCKET/PATH; what is in a configuration needs neither",
            ));
        }
        [path, url] => {
            if parsed.given(&flags::CONFIG).is_some() {
                return Err(Trouble::new("cannot specify a replica URL and the -config flag")
                    .hint("leave one of them away"));
            }
            if config::address(path).is_some() && !path.starts_with("sqlite") {
                return Err(Trouble::new("the database's path comes first, then the replica URL")
                    .hint("litekeep replicate /path/to/db s3://BUCKET/PATH"));
            }
            let database = Database::of(world.path(path), super::replica_url(world, url)?);
            if let Some(why) = config::entangled(&database) {
                return Err(Trouble::new(why));
            }
            Config { databases: vec![database], ..Config::default() }
        }
        [_, _, ..] => {
            return Err(Trouble::new("multiple replicas on a single database are no longer supported")
                .hint("give one replica URL; the bucket's own replication makes a second copy"));
        }
    };
    let command = parsed.given(&flags::EXEC).map(str::to_owned).or_else(|| config.exec.clone());
    for flag in [&flags::FORCE_SNAPSHOT, &flags::ENFORCE_RETENTION] {
        if parsed.on(flag) && !parsed.on(&flags::ONCE) {
            let what = format!("cannot specify -{} flag without -once", flag.name);
            return Err(Trouble::new(what).hint("give both"));
        }
    }
    if parsed.on(&flags::ONCE) && command.is_some() {
        return Err(Trouble::new(
            "cannot specify -once flag with -exec, or with `exec` in the configuration",
        )
        .hint("leave one of them away"));
    }
    let command = command
        .map(|line| {
            words::split(&line).map_err(|why| {
                Trouble::new("the command of -exec can't be run")
                    .cause(why)
                    .hint("quote it as a shell would; what needs a shell goes to `sh -c '...'`")
            })
        })
        .transpose()?;
    Ok((config, command))
}

/// What the flags of `-exec` say.
pub(super) struct Command {
    pub(super) words: Vec<String>,
    pub(super) ready_url: Option<ready::Address>,
    pub(super) hand_over: Duration,
    /// How long a successor may take until it says that its command is well.
    pub(super) ready_timeout: Duration,
    pub(super) single_writer: bool,
}

/// What the flags say of the command.
fn exec_command(parsed: &Parsed, words: Vec<String>, single_writer: bool) -> Result<Command, Trouble> {
    let ready_url = parsed.given(&flags::READY_URL).map(ready::Address::parse).transpose()?;
    let time = |flag: &'static Flag, least: Duration| {
        let text = parsed.text(flag).unwrap_or_default();
        let wrong = |why: String| {
            let trouble = Trouble::new(format!("-{}: `{text}`: {why}", flag.name));
            trouble.hint(format!("such as {}", flag.default.unwrap_or("30s")))
        };
        let time = duration::parse(text).map_err(wrong)?;
        if time < least { Err(wrong(format!("it takes {least:?} at least"))) } else { Ok(time) }
    };
    Ok(Command {
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
    let output = destination::of(&database.path)?;
    let state_dir = local_state(&output, database.settings.meta_path.as_deref());
    let options = Options {
        if_db_not_exists: true,
        if_replica_exists: true,
        state_dir: Some(state_dir),
        ..Options::new(output)
    };
    match elsewhere::perform(world, &database.replica, database.elsewhere.as_ref(), &options)? {
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

/// The line that people look for at a start.
pub(crate) fn replicating_to(database: &Database) {
    let path = database.path.display();
    let name = &database.replica_name;
    let interval = database.settings.sync_interval.as_nanos();
    match &database.replica {
        Settings::Directory(directory) => tracing::info!(
            db = %path, name, r#type = "file", "sync-interval" = interval, path = %directory.display(), "replicating to"
        ),
        Settings::S3(s3) => tracing::info!(
            db = %path,
            name,
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

/// The last word about a database that ended well.
pub(crate) fn synced(database: &Database, txid: Option<Txid>) {
    let path = database.path.display();
    match txid {
        Some(txid) => tracing::info!(db = %path, %txid, "replica sync complete"),
        None => tracing::info!(db = %path, "nothing was replicated"),
    }
}

/// An error of the engine, for people, with the exit code that tells its kind.
pub(crate) fn keep_trouble(what: &str, error: &KeepError) -> Trouble {
    let exit = match error {
        KeepError::Unsent { .. }
        | KeepError::Uncaptured { .. }
        | KeepError::Gone { .. }
        | KeepError::Timeout(_) => Exit::NOT_SYNCED,
        KeepError::Fenced { .. } => Exit::FENCED,
        KeepError::Beside { .. } | KeepError::Behind { .. } | KeepError::PageSize { .. } => Exit::DIVERGED,
        KeepError::Wiped { .. } | KeepError::Emptied { .. } => Exit(litekeep::restore::exit::WIPED),
        KeepError::NoCreateOnly(_) => Exit::UNFIT,
        KeepError::EpochDamaged { .. } => Exit(litekeep::restore::exit::DAMAGED),
        KeepError::Store(error) if error.kind() == ErrorKind::DataDamaged => {
            Exit(litekeep::restore::exit::DAMAGED)
        }
        KeepError::Store(_) => restore::UNREACHABLE,
        _ => Exit::FAILED,
    };
    let trouble = Trouble::new(what).because(error).exit(exit);
    match (error, error.hint()) {
        (KeepError::NoCreateOnly(_), _) => trouble.hint(
            "choose a store that honours If-None-Match (`litekeep doctor` tells); or if nobody else ever writes there, say so \
             with -single-writer, or with `single-writer: true` in the configuration",
        ),
        (_, Some(hint)) => trouble.hint(hint),
        (KeepError::Store(error), None) => trouble.about_store(error),
        (KeepError::Timeout(_), None) => {
            trouble.hint("what is missing is in the local database: it goes up while litekeep runs there")
        }
        (KeepError::Io { error, .. } | KeepError::Local(LocalError::Io { error, .. }), None) => {
            trouble.hint(about_file(error))
        }
        (_, None) => match (exit, error.kind()) {
            (Exit::NOT_SYNCED, _) => trouble.hint(
                "they are in the local database: start it again while that is there, and they go up",
            ),
            _ if is_held(error) => trouble.hint(
                "another process holds the database: let it end its transaction, or put the database into WAL mode there \
                 (`PRAGMA journal_mode=WAL`), and try again",
            ),
            (_, KeepErrorKind::Retry) => trouble.hint("try again"),
            (_, KeepErrorKind::Bug) => trouble.hint("please report this"),
            _ => trouble,
        },
    }
}

/// What to try where a local file could not be used.
fn about_file(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "check the path: its folder must be there",
        io::ErrorKind::NotADirectory => input::NO_FOLDER,
        io::ErrorKind::PermissionDenied => input::AS_WHOM,
        _ => "try again",
    }
}

/// Whether somebody else's lock is in the way; these are SQLite's own words for its codes 5 and 6.
fn is_held(error: &KeepError) -> bool {
    matches!(error, KeepError::Sqlite { .. }) && error.to_string().contains(" is locked")
}

pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Trouble> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| Trouble::new("can't start a thread").because(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_bucket_in_time_goes_up_by_itself_where_litekeep_runs_on() {
        let trouble = keep_trouble("can't sync a.db", &KeepError::Timeout(3.0));
        assert_eq!(trouble.exit, Exit::NOT_SYNCED);
        assert_eq!(
            trouble.to_string(),
            "can't sync a.db: not in the bucket after 3.0 s; what is missing is in the local database: it goes up while \
             litekeep runs there"
        );
    }
}
