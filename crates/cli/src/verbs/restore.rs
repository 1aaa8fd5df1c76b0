//! `litekeep restore`: a database back from its replica. The work is the engine's; here are its words.
//!
//! stdout carries what was asked for (`-json`, `-dry-run`), stderr everything else.

use super::{abrupt, destination, elsewhere, follow, named, named_without_keys, open, timestamp};
use crate::config::{Database, Elsewhere, no_path, replica_type};
use crate::daemon::verdict;
use crate::flags::{self, Parsed};
use crate::log;
use crate::output;
use crate::progress::Bar;
use crate::signals::Abrupt;
use crate::text::{size, table, time, whole};
use crate::trouble::{Exit, Trouble, without_secrets};
use crate::world::World;
use litekeep::files::{Files, RealFiles};
use litekeep::local;
use litekeep::restore::{
    self as engine, Integrity, IntegrityCheck, Note, Options, Outcome, Planned, Progress, RestoreEnv,
    RestoreError, Restored, Skipped, Source,
};
use litekeep_core::restore::Target;
use litekeep_formats::{TimestampMs, Txid, TxidRange};
use litekeep_store::location::Settings;
use litekeep_store::{Key, V3Generation};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The replica cannot be reached or read.
pub(crate) const UNREACHABLE: Exit = Exit(engine::exit::UNREACHABLE);

const USAGE: &str = "`litekeep restore -h` lists the flags";

/// How many downloads there are at a time at the most.
const MAX_PARALLELISM: usize = 64;

/// Does what the flags say.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let abrupt = abrupt()?;
    let interval = follow::interval(parsed)?;
    let (downloads, clamped) = parallelism(parsed)?;
    let mut options = options(parsed)?;
    options.parallelism = downloads;
    let (named, keys) = match named(world, parsed) {
        // Where the database is there already, nothing is asked of the replica: an application starts without keys too.
        Err(trouble) if trouble.exit == UNREACHABLE && options.if_db_not_exists && interval.is_none() => {
            (named_without_keys(world, parsed)?, Err(trouble))
        }
        named => (named?, Ok(())),
    };
    let asked = output(world, parsed, named.database.as_ref())?;
    options.output = destination::of(&asked)?;
    let aside = named.database.as_ref().and_then(|database| database.elsewhere.clone());
    let settings = named
        .database
        .filter(|database| database.path == asked)
        .map(|database| database.settings)
        .unwrap_or_default();
    let meta = settings.meta_path.clone();
    options.state_dir = Some(local::directory(&options.output, meta.as_deref()));
    let level = log::level(world.env.get("LOG_LEVEL").unwrap_or_default());
    log::install(log::Settings { level, json: false, stderr: true, source: false }, Arc::clone(&world.clock));
    if let Some(count) = parsed.given(&flags::PARALLELISM).filter(|_| clamped) {
        tracing::warn!(
            parallelism = options.parallelism,
            "-parallelism {count} is more than there can be, or none"
        );
    }
    if let Some(interval) = interval {
        return follow(world, (&named.replica, aside.as_ref()), &options, &settings, interval, abrupt);
    }
    let started = world.clock.boot();
    let outcome = match keys {
        Ok(()) => elsewhere::perform(world, &named.replica, aside.as_ref(), &options)?,
        Err(trouble) if options.dry_run || !options.output.exists() => return Err(trouble),
        Err(_) => Outcome::Skipped(Skipped::DatabaseExists(options.output.clone())),
    };
    let elapsed = world.clock.boot().saturating_sub(started);
    tell(parsed, &named.replica, &options, outcome, elapsed)?;
    Ok(Exit::OK)
}

/// Where the database goes, as it was named.
fn output(world: &World, parsed: &Parsed, database: Option<&Database>) -> Result<PathBuf, Trouble> {
    match (parsed.given(&flags::OUTPUT), database) {
        (Some(path), _) => match no_path(path) {
            None => Ok(world.path(path)),
            Some(why) => Err(Trouble::new(format!("-o: {why}"))
                .hint("restore to a file here; another replica is `litekeep replicate`'s to make")),
        },
        (None, Some(database)) => Ok(database.path.clone()),
        (None, None) => Err(Trouble::new("-o is required when restoring from a replica URL")
            .hint("litekeep restore -o /path/to/db s3://BUCKET/PATH")),
    }
}

/// How many downloads at a time, and whether another number was asked for: any number is taken, as in Litestream.
fn parallelism(parsed: &Parsed) -> Result<(usize, bool), Trouble> {
    let text = parsed.text(&flags::PARALLELISM).unwrap_or_default();
    let wrong = |why: String| Trouble::new(format!("-parallelism: {why}")).hint(USAGE);
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let number = whole::parse(digits)
        .map_err(wrong)?
        .ok_or_else(|| wrong(format!("`{text}` is not a number, such as 8")))?;
    let asked = if negative { 0 } else { usize::try_from(number).unwrap_or(usize::MAX) };
    let count = asked.clamp(1, MAX_PARALLELISM);
    Ok((count, count != asked))
}

/// Restores, unless the database is known already, and goes on with what is written.
fn follow(
    world: &World,
    (replica, aside): (&Settings, Option<&Elsewhere>),
    options: &Options,
    settings: &litekeep::settings::Settings,
    interval: Duration,
    abrupt: Abrupt,
) -> Result<Exit, Trouble> {
    let (path, location) = (options.output.display(), open(world, replica)?.location());
    let known =
        options.state_dir.as_deref().is_some_and(|dir| follow::is_known(&location, &options.output, dir));
    if known && !options.force {
        tracing::info!(%path, "the database is known; going on with it");
        return follow::run(world, replica, options, settings, interval, abrupt);
    }
    match elsewhere::perform(world, replica, aside, options)? {
        Outcome::Restored(restored) if restored.chain.is_none() => {
            Err(Trouble::new(format!("{location} is a v0.3 backup: there is nothing to follow"))
                .cause(format!("{path} was restored"))
                .hint("leave -f away"))
        }
        Outcome::Restored(_) => follow::run(world, replica, options, settings, interval, abrupt),
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
        record(&env.store.location(), options, restored, world.clock.wall());
    }
    Ok(outcome)
}

/// An error of the engine, for people.
pub(super) fn trouble(error: &RestoreError) -> Trouble {
    let trouble = Trouble::new(error.to_string()).because(error).exit(Exit(error.exit_code()));
    match error {
        RestoreError::Unreachable(error) => trouble.about_store(error),
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
            Note::Unfinished(last) => tracing::warn!(
                %last,
                "the replica ends with an image that was announced and not finished; nothing of it was confirmed, \
                 and the state before it is the newest"
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
fn record(replica: &str, options: &Options, restored: &Restored, now: TimestampMs) {
    let (Some(dir), Some(sums)) = (&options.state_dir, &restored.sums) else { return };
    let result = note_state(replica, dir, restored);
    let _ = RealFiles.remove(sums);
    if let Err(error) = result {
        tracing::warn!(%error, "the restored state could not be recorded; the next start will compare content");
        return;
    }
    // An earlier state says nothing of the newest.
    let vouched = options.target == Target::Latest && restored.integrity != Integrity::Unchecked;
    if let Some(txid) = restored.txid().filter(|_| vouched)
        && let Err(error) = verdict::restored(dir, replica, txid, now)
    {
        tracing::warn!(%error, "the restore could not be noted as the last one that was verified");
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

/// The check that SQLite made, by Litestream's names.
fn checked(asked: IntegrityCheck, integrity: Integrity) -> &'static str {
    match (asked, integrity) {
        (_, Integrity::Unchecked) => "none",
        (IntegrityCheck::Quick, _) => "quick",
        (IntegrityCheck::Full, _) | (_, Integrity::Checked) => "full",
        (IntegrityCheck::Auto | IntegrityCheck::None, Integrity::Sealed) => "none",
    }
}

fn verified(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::Sealed => "seal",
        Integrity::Checked => "integrity_check",
        Integrity::Unchecked => "no",
    }
}

/// Litestream's five, and ours behind them.
#[derive(Serialize)]
struct Report {
    db_path: String,
    /// The replica's type.
    replica: &'static str,
    txid: String,
    duration_ms: u64,
    /// The check that SQLite made: `none`, `quick` or `full`.
    integrity_check: &'static str,
    outcome: &'static str,
    location: String,
    timestamp: Option<String>,
    bytes: u64,
    database_bytes: u64,
    /// The pages give the checksum that the replica is sealed with.
    sealed: bool,
}

impl Report {
    fn new(outcome: &'static str, replica: &Settings, options: &Options, elapsed: Duration) -> Self {
        Self {
            outcome,
            db_path: options.output.display().to_string(),
            replica: replica_type(replica),
            txid: String::new(),
            duration_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            integrity_check: "none",
            location: replica.location(),
            timestamp: None,
            bytes: 0,
            database_bytes: 0,
            sealed: false,
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
        Outcome::Planned(planned) => return tell_plan(parsed, replica, options, &planned),
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
            integrity_check: checked(options.integrity, restored.integrity),
            sealed: restored.integrity == Integrity::Sealed,
            ..Report::new("restored", replica, options, elapsed)
        },
    };
    if parsed.on(&flags::JSON) { output::json(&report) } else { Ok(()) }
}

/// Litestream's six, and ours behind them.
#[derive(Serialize)]
struct PlanReport {
    /// What the restore was told to read, as it was told.
    source: String,
    target_path: String,
    /// The replica's type.
    replica: &'static str,
    min_txid: String,
    max_txid: String,
    files: Vec<PlanFile>,
    /// `ltx` or `v0.3`.
    format: &'static str,
    location: String,
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

fn tell_plan(
    parsed: &Parsed,
    replica: &Settings,
    options: &Options,
    planned: &Planned,
) -> Result<(), Trouble> {
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
    let first = files.first().and_then(|file| file.min_txid.clone());
    let report = PlanReport {
        source: parsed.operands.first().map_or_else(String::new, |operand| without_secrets(operand)),
        target_path: options.output.display().to_string(),
        replica: replica_type(replica),
        min_txid: first.unwrap_or_default(),
        max_txid: planned.txid.map_or_else(String::new, |txid| txid.to_string()),
        files,
        format: match planned.source {
            Source::Ltx => "ltx",
            Source::V3 { .. } => "v0.3",
        },
        location: planned.location.clone(),
    };
    if parsed.on(&flags::JSON) { output::json(&report) } else { output::text(&plan_text(report)) }
}

/// Litestream 0.5's text, and two lines of ours behind its.
fn plan_text(report: PlanReport) -> String {
    let PlanReport { source, target_path, replica, min_txid, max_txid, files, format, location } = report;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let range = match format {
        "ltx" => format!("{min_txid} - {max_txid}"),
        _ => "-".to_owned(),
    };
    let head = ["level", "file", "min_txid", "max_txid", "size", "timestamp"].map(str::to_owned);
    let cells = files.into_iter().map(|file| {
        let PlanFile { level, name, min_txid, max_txid, size, timestamp } = file;
        let (level, at) =
            (level.map(|level| level.to_string()), timestamp.as_deref().map(time::whole_seconds));
        [or_none(level), name, or_none(min_txid), or_none(max_txid), size.to_string(), or_none(at)]
    });
    let table = table::columns(&std::iter::once(head).chain(cells).collect::<Vec<_>>());
    format!(
        "Restore plan:\n  source: {source}\n  target: {target_path}\n  replica: {replica}\n  \
         txid range: {range}\n  location: {location}\n  format: {format}\n\nFiles to fetch:\n{table}"
    )
}

/// The flags that shape a restore; its output path comes later.
fn options(parsed: &Parsed) -> Result<Options, Trouble> {
    let wrong = |flag: &flags::Flag, why: &str| {
        let text = parsed.given(flag).unwrap_or_default();
        Trouble::new(format!("-{}: `{text}` is not {why}", flag.name)).hint(USAGE)
    };
    let txid = match parsed.given(&flags::TXID) {
        Some(text) => Some(
            Txid::parse_hex(text).ok_or_else(|| wrong(&flags::TXID, "a transaction id of 16 hex digits"))?,
        ),
        None => None,
    };
    let target = match (txid, timestamp(parsed, &flags::TIMESTAMP)?) {
        (Some(_), Some(_)) => {
            return Err(Trouble::new("-txid and -timestamp can't both be given").hint("give one of them"));
        }
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
        return Err(Trouble::new("-txid names a state of an LTX chain, -generation one of a v0.3 backup")
            .hint("give one of them"));
    }
    let v3_index = v3_index(parsed)?;
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
        ..Options::new(PathBuf::new())
    })
}

/// 0.3's `-index`, with the rules that it had there.
fn v3_index(parsed: &Parsed) -> Result<Option<u32>, Trouble> {
    let Some(text) = parsed.given(&flags::INDEX) else { return Ok(None) };
    if parsed.given(&flags::GENERATION).is_none() {
        return Err(Trouble::new(
            "-index needs -generation: it names a WAL of one generation of a v0.3 backup",
        )
        .hint("`litekeep wal` lists both"));
    }
    if parsed.given(&flags::TIMESTAMP).is_some() {
        return Err(Trouble::new("-index and -timestamp can't both be given").hint("give one of them"));
    }
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let index = u32::from_str_radix(text, 16).ok().filter(|_| hex);
    let wrong = || {
        Trouble::new(format!("-index: `{text}` is not the number of a WAL, up to 8 hex digits"))
            .hint("`litekeep wal` lists them")
    };
    index.map(Some).ok_or_else(wrong)
}
