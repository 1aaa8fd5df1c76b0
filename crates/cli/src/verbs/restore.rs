//! `litekeep restore`: a database back from its replica. The work is the engine's; here are its words.
//!
//! stdout carries what was asked for (`-json`, `-dry-run`), stderr everything else.

use super::{follow, named, open, timestamp};
use crate::flags::{self, Parsed};
use crate::log;
use crate::output;
use crate::progress::Bar;
use crate::text::{size, table, time};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::files::{Files, RealFiles};
use litekeep::local;
use litekeep::restore::{
    self as engine, Integrity, IntegrityCheck, Note, Options, Outcome, Planned, Progress, RestoreEnv,
    RestoreError, Restored, Skipped, Source,
};
use litekeep_core::restore::Target;
use litekeep_formats::{Txid, TxidRange};
use litekeep_store::location::Settings;
use litekeep_store::{Key, V3Generation};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The replica cannot be reached or read.
pub(crate) const UNREACHABLE: Exit = Exit(engine::exit::UNREACHABLE);

/// How many downloads at a time may be asked for.
const MAX_PARALLELISM: usize = 64;

/// Does what the flags say.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let interval = follow::interval(parsed)?;
    let mut options = options(parsed)?;
    let named = named(world, parsed)?;
    options.output = match (parsed.given(&flags::OUTPUT), &named.database) {
        (Some(path), _) => world.path(path),
        (None, Some(database)) => database.path.clone(),
        (None, None) => {
            return Err(Trouble::new("-o is required when restoring from a replica URL"));
        }
    };
    if options.output.is_dir() {
        return Err(Trouble::new(format!("cannot restore, {} is a directory", options.output.display()))
            .hint("name the file that the database is to be, with `-o`")
            .exit(Exit(engine::exit::OUTPUT)));
    }
    let settings = named
        .database
        .filter(|database| database.path == options.output)
        .map(|database| database.settings)
        .unwrap_or_default();
    let meta = settings.meta_path.clone();
    options.state_dir = Some(local::directory(&options.output, meta.as_deref()));
    let level = log::level(world.env.get("LOG_LEVEL").unwrap_or_default());
    log::install(log::Settings { level, json: false, stderr: true }, Arc::clone(&world.clock));
    if let Some(interval) = interval {
        return follow(world, &named.replica, &options, &settings, interval);
    }
    let started = world.clock.boot();
    let outcome = perform(world, &named.replica, &options)?;
    let elapsed = world.clock.boot().saturating_sub(started);
    tell(parsed, &named.replica, &options, outcome, elapsed)?;
    Ok(Exit::OK)
}

/// Restores, unless the database is known already, and goes on with what is written.
fn follow(
    world: &World,
    replica: &Settings,
    options: &Options,
    settings: &litekeep::settings::Settings,
    interval: Duration,
) -> Result<Exit, Trouble> {
    let (path, location) = (options.output.display(), open(world, replica)?.location());
    let known =
        options.state_dir.as_deref().is_some_and(|dir| follow::is_known(&location, &options.output, dir));
    if known && !options.force {
        tracing::info!(%path, "the database is known; going on with it");
        return follow::run(world, replica, options, settings, interval);
    }
    match perform(world, replica, options)? {
        Outcome::Restored(restored) if restored.chain.is_none() => {
            Err(Trouble::new(format!("{location} is a v0.3 backup: there is nothing to follow"))
                .cause(format!("{path} was restored")))
        }
        Outcome::Restored(_) => follow::run(world, replica, options, settings, interval),
        Outcome::Skipped(Skipped::DatabaseExists(_)) => {
            tracing::info!(%path, "database already exists, skipping");
            Ok(Exit::OK)
        }
        Outcome::Skipped(Skipped::ReplicaEmpty(_)) | Outcome::Planned(_) => {
            tracing::info!(replica = %location, "no matching backups found");
            Ok(Exit::OK)
        }
    }
}

/// Restores, with a progress bar where a person looks on, and log lines of the steps.
///
/// # Errors
/// What the engine says, with its exit code and its hint.
pub(crate) fn perform(world: &World, replica: &Settings, options: &Options) -> Result<Outcome, Trouble> {
    let env = RestoreEnv {
        store: open(world, replica)?,
        files: Arc::new(RealFiles),
        clock: Arc::clone(&world.clock),
        vfs: None,
    };
    let bar = Bar::new(world.terminal);
    let result = engine::restore(&env, options, &mut |progress| step(&bar, options, progress));
    bar.clear();
    let outcome = result.map_err(|error| trouble(&error))?;
    if let Outcome::Restored(restored) = &outcome {
        summary(restored, &replica.location());
        record(&env.store.location(), options, restored);
    }
    Ok(outcome)
}

/// An error of the engine, for people.
pub(super) fn trouble(error: &RestoreError) -> Trouble {
    let text = error.to_string();
    let trouble = Trouble::new(&*text).because(error).exit(Exit(error.exit_code()));
    match error {
        // The store has said what to check, and knows it better.
        RestoreError::Unreachable(_) if text.contains("(check ") || text.contains("clock is off") => trouble,
        _ => trouble.hint(error.hint()),
    }
}

fn step(bar: &Bar, options: &Options, progress: Progress) {
    match progress {
        Progress::Planned(planned) => {
            let (path, replica) = (options.output.display(), &planned.location);
            let (files, bytes) = (planned.objects.len(), planned.bytes);
            bar.aside(|| tracing::info!(%path, %replica, files, bytes, "restoring database"));
            bar.set(0, bytes);
        }
        Progress::Fetched { bytes, total } => bar.set(bytes, total),
        Progress::Replanning { why } => bar.aside(|| tracing::warn!(%why, "planning again")),
        Progress::Checking => bar.aside(|| tracing::info!("checking the restored database")),
        Progress::Placing => {
            bar.clear();
            let path = options.output.display();
            tracing::info!(%path, "renaming database from temporary location");
        }
    }
}

/// The one line that says what came back, from where, and how fast.
fn summary(restored: &Restored, replica: &str) {
    for note in &restored.notes {
        match note {
            Note::WentAround(what) => {
                tracing::warn!(%what, "an object of the replica is no good; another way was taken")
            }
            Note::Unsealed(files) => {
                tracing::info!(files, "files without a seal were read: they were not written by litekeep");
            }
            Note::NotCheckable(tables) => tracing::warn!(
                tables = %tables.join(", "),
                "SQLite could not check these tables: they need functions of the application"
            ),
            Note::NewerV3 { time: newest } => tracing::warn!(
                newest = %time::format(*newest),
                "newer v0.3 files lie beside the chain: does an old Litestream still write there? \
                 -generation restores them"
            ),
        }
    }
    let seconds = restored.elapsed.as_secs_f64();
    let source = match restored.source {
        Source::Ltx => "ltx".to_owned(),
        Source::V3 { generation, index } => format!("v0.3 {generation}/{index:08x}"),
    };
    tracing::info!(
        path = %restored.output.display(),
        %replica,
        %source,
        txid = %restored.txid().map_or_else(String::new, |txid| txid.to_string()),
        timestamp = %time::format(restored.timestamp),
        age = %format_args!("{:.1}s", restored.age.as_secs_f64()),
        bytes = restored.bytes,
        database_bytes = restored.database_bytes,
        elapsed = %format_args!("{seconds:.3}s"),
        rate = %format_args!("{}/s", size::human(rate(restored.bytes, restored.elapsed))),
        verified = verified(restored.integrity),
        "restore complete"
    );
}

/// Leaves word for the replicator, so that it goes on with the same chain and uploads nothing that is there. Without
/// it the next start compares content, which is slower and no less right: so trouble here is a warning.
fn record(replica: &str, options: &Options, restored: &Restored) {
    let (Some(dir), Some(sums)) = (&options.state_dir, &restored.sums) else { return };
    let result = note_state(replica, dir, restored);
    let _ = RealFiles.remove(sums);
    if let Err(error) = result {
        tracing::warn!(%error, "the restored state could not be recorded; the next start will compare content");
    }
}

fn note_state(replica: &str, dir: &Path, restored: &Restored) -> Result<(), local::LocalError> {
    let Some(record) = restored.record(replica.to_owned()) else { return Ok(()) };
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    local::record_restored(&files, &restored.output, Some(dir), &record)
}

/// Bytes a second.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

fn verified(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::Sealed => "seal",
        Integrity::Checked => "integrity_check",
        Integrity::Unchecked => "no",
    }
}

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    db_path: String,
    replica: String,
    txid: String,
    timestamp: Option<String>,
    duration_ms: u64,
    bytes: u64,
    database_bytes: u64,
    integrity_check: &'static str,
}

impl Report {
    fn new(outcome: &'static str, replica: &Settings, options: &Options, elapsed: Duration) -> Self {
        Self {
            outcome,
            db_path: options.output.display().to_string(),
            replica: replica.location(),
            txid: String::new(),
            timestamp: None,
            duration_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            bytes: 0,
            database_bytes: 0,
            integrity_check: "none",
        }
    }
}

/// Says how it ended: in the log, and as data where that was asked for.
fn tell(
    parsed: &Parsed,
    replica: &Settings,
    options: &Options,
    outcome: Outcome,
    elapsed: Duration,
) -> Result<(), Trouble> {
    let report = match outcome {
        Outcome::Planned(planned) => return tell_plan(parsed, options, &planned),
        Outcome::Skipped(Skipped::DatabaseExists(path)) => {
            tracing::info!(path = %path.display(), "database already exists, skipping");
            Report::new("database exists", replica, options, elapsed)
        }
        Outcome::Skipped(Skipped::ReplicaEmpty(empty)) => {
            tracing::info!(replica = %empty.location, "no matching backups found");
            Report::new("replica empty", replica, options, elapsed)
        }
        Outcome::Restored(restored) => Report {
            txid: restored.txid().map_or_else(String::new, |txid| txid.to_string()),
            timestamp: Some(time::format(restored.timestamp)),
            bytes: restored.bytes,
            database_bytes: restored.database_bytes,
            integrity_check: match restored.integrity {
                Integrity::Sealed => "sealed",
                Integrity::Checked => "ok",
                Integrity::Unchecked => "none",
            },
            ..Report::new("restored", replica, options, elapsed)
        },
    };
    if parsed.on(&flags::JSON) { output::json(&report) } else { Ok(()) }
}

#[derive(Serialize)]
struct PlanReport {
    source: &'static str,
    target_path: String,
    replica: String,
    min_txid: String,
    max_txid: String,
    files: Vec<PlanFile>,
}

#[derive(Serialize)]
struct PlanFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<u8>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_txid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_txid: Option<String>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
}

fn tell_plan(parsed: &Parsed, options: &Options, planned: &Planned) -> Result<(), Trouble> {
    let time_of = |key: &Key| {
        let file = planned.files.iter().find(|file| Key::Ltx(file.level, file.range) == *key)?;
        Some(time::format(file.time()))
    };
    let files: Vec<PlanFile> = planned
        .objects
        .iter()
        .map(|(key, size)| match key {
            Key::Ltx(level, range) => PlanFile {
                level: Some(level.get()),
                name: format!("{range}.ltx"),
                min_txid: Some(TxidRange::min(*range).to_string()),
                max_txid: Some(TxidRange::max(*range).to_string()),
                size: *size,
                timestamp: time_of(key),
            },
            other => PlanFile {
                level: None,
                name: other.to_string(),
                min_txid: None,
                max_txid: None,
                size: *size,
                timestamp: None,
            },
        })
        .collect();
    if parsed.on(&flags::JSON) {
        let first = files.first().and_then(|file| file.min_txid.clone());
        return output::json(&PlanReport {
            source: match planned.source {
                Source::Ltx => "ltx",
                Source::V3 { .. } => "v0.3",
            },
            target_path: options.output.display().to_string(),
            replica: planned.location.clone(),
            min_txid: first.unwrap_or_default(),
            max_txid: planned.txid.map_or_else(String::new, |txid| txid.to_string()),
            files,
        });
    }
    let head = ["level", "name", "size", "created"].map(str::to_owned);
    let cells = files.into_iter().map(|file| {
        let level = file.level.map_or("-".to_owned(), |level| level.to_string());
        [level, file.name, file.size.to_string(), file.timestamp.unwrap_or("-".to_owned())]
    });
    output::text(&table::columns(&std::iter::once(head).chain(cells).collect::<Vec<_>>()))
}

/// The flags that shape a restore; its output path comes later.
fn options(parsed: &Parsed) -> Result<Options, Trouble> {
    let wrong = |flag: &flags::Flag, why: &str| {
        let text = parsed.given(flag).unwrap_or_default();
        Trouble::new(format!("-{}: `{text}` is not {why}", flag.name))
    };
    let txid = match parsed.given(&flags::TXID) {
        Some(text) => Some(
            Txid::parse_hex(text).ok_or_else(|| wrong(&flags::TXID, "a transaction id of 16 hex digits"))?,
        ),
        None => None,
    };
    let target = match (txid, timestamp(parsed, &flags::TIMESTAMP)?) {
        (Some(_), Some(_)) => return Err(Trouble::new("-txid and -timestamp can't both be given")),
        (Some(txid), None) => Target::Txid(txid),
        (None, Some(time)) => Target::Timestamp(time),
        (None, None) => Target::Latest,
    };
    let generation = match parsed.given(&flags::GENERATION) {
        Some(text) if text.len() == 16 => u64::from_str_radix(text, 16).ok().map(V3Generation),
        _ => None,
    };
    if generation.is_none() && parsed.given(&flags::GENERATION).is_some() {
        return Err(wrong(&flags::GENERATION, "a generation of 16 hex digits"));
    }
    if generation.is_some() && txid.is_some() {
        return Err(Trouble::new(
            "-txid names a state of an LTX chain, -generation a v0.3 backup: give one of them",
        ));
    }
    let v3_index = v3_index(parsed)?;
    let parallelism = parsed.text(&flags::PARALLELISM).and_then(|text| text.parse().ok());
    let integrity = match parsed.text(&flags::INTEGRITY_CHECK) {
        Some("auto") => IntegrityCheck::Auto,
        Some("none") => IntegrityCheck::None,
        Some("quick") => IntegrityCheck::Quick,
        Some("full") => IntegrityCheck::Full,
        _ => return Err(wrong(&flags::INTEGRITY_CHECK, "auto, none, quick or full")),
    };
    Ok(Options {
        target,
        generation,
        v3_index,
        force: parsed.on(&flags::FORCE),
        if_db_not_exists: parsed.on(&flags::IF_DB_NOT_EXISTS),
        if_replica_exists: parsed.on(&flags::IF_REPLICA_EXISTS),
        dry_run: parsed.on(&flags::DRY_RUN),
        integrity,
        parallelism: parallelism
            .filter(|count| (1..=MAX_PARALLELISM).contains(count))
            .ok_or_else(|| wrong(&flags::PARALLELISM, "a number from 1 to 64"))?,
        ..Options::new(PathBuf::new())
    })
}

/// 0.3's `-index`, with the rules that it had there.
fn v3_index(parsed: &Parsed) -> Result<Option<u32>, Trouble> {
    let Some(text) = parsed.given(&flags::INDEX) else { return Ok(None) };
    if parsed.given(&flags::GENERATION).is_none() {
        return Err(Trouble::new(
            "-index needs -generation: it names a WAL of one generation of a v0.3 backup",
        ));
    }
    if parsed.given(&flags::TIMESTAMP).is_some() {
        return Err(Trouble::new("-index and -timestamp can't both be given"));
    }
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let index = u32::from_str_radix(text, 16).ok().filter(|_| hex);
    let wrong = || Trouble::new(format!("-index: `{text}` is not the number of a WAL, up to 8 hex digits"));
    index.map(Some).ok_or_else(wrong)
}
