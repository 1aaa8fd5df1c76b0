//! `litekeep verify`: is everything in a replica whole, and does it give back the database? The walk is the engine's;
//! here are its words.

use super::{Named, named_or_only, open};
use crate::config::local_state;
use crate::daemon::verifier;
use crate::flags::{self, Parsed};
use crate::log;
use crate::output;
use crate::progress::Bar;
use crate::signals;
use crate::text::{size, table, time};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::files::RealFiles;
use litekeep::inspect::{self, Compared, Issue, Kind, Original, Trial, Verified};
use litekeep::restore::{self as engine, Note, Progress, RestoreEnv};
use litekeep::settings::Settings as EngineSettings;
use litekeep_core::retain::Policy;
use litekeep_store::layout::Layout;
use litekeep_store::location::Settings;
use litekeep_store::{Key, Store};
use serde::Serialize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Objects are missing or no good.
const DAMAGED: Exit = Exit(engine::exit::DAMAGED);

/// How many reads at a time may be asked for.
const MAX_PARALLELISM: usize = 64;

#[derive(Serialize)]
struct Report<'a> {
    replica: &'a str,
    outcome: &'static str,
    newest_txid: Option<String>,
    restorable_txid: Option<String>,
    timestamp: Option<String>,
    database_checksum: Option<String>,
    epoch: Option<u64>,
    levels: Vec<LevelRow>,
    v3: Option<V3Row>,
    issues: Vec<IssueRow>,
    read: Read,
    restore: Option<RestoreRow>,
    restore_error: Option<String>,
}

#[derive(Serialize)]
struct LevelRow {
    level: u8,
    files: usize,
    bytes: u64,
    min_txid: String,
    max_txid: String,
    sound: usize,
    sealed: usize,
    bad: usize,
}

#[derive(Serialize)]
struct V3Row {
    snapshots: usize,
    bytes: u64,
    newest: Option<String>,
}

#[derive(Serialize)]
struct IssueRow {
    kind: &'static str,
    damage: bool,
    object: Option<String>,
    what: String,
    advice: String,
}

#[derive(Serialize)]
struct Read {
    objects: usize,
    bytes: u64,
    requests: u64,
    elapsed_ms: u64,
}

#[derive(Serialize)]
struct RestoreRow {
    source: &'static str,
    txid: Option<String>,
    database_bytes: u64,
    pages: u32,
    integrity_check: &'static str,
    database_checksum: Option<String>,
    sealed: bool,
    not_checked: Vec<String>,
    /// `same`, `differs`, `elsewhere`, `no database`, `unreadable`; none without a database path.
    local: Option<&'static str>,
    detail: Option<String>,
    elapsed_ms: u64,
}

/// Walks, restores if asked to, and tells.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let parallelism = parallelism(parsed)?;
    if parsed.given(&flags::SCRATCH).is_some() && !parsed.on(&flags::RESTORE) {
        return Err(Trouble::new("-scratch goes with -restore").hint("give both"));
    }
    let named = named_or_only(world, parsed)?;
    let level = log::level(world.env.get("LOG_LEVEL").unwrap_or_default());
    log::install(log::Settings { level, json: false, stderr: true, source: false }, Arc::clone(&world.clock));
    let store = open(world, &named.replica)?;
    let settings = named.database.as_ref().map_or_else(EngineSettings::default, |it| it.settings.clone());
    let options = inspect::Options {
        parallelism,
        policy: Policy { window: settings.snapshot_retention, slots: settings.l0_retention },
    };
    let started = world.clock.boot();
    let bar = Bar::named(world.terminal, "reading");
    let verified = inspect::verify(Arc::clone(&store), &world.clock, &options, &mut |done, total| {
        bar.set(done, total);
    });
    bar.clear();
    let verified = verified.map_err(|error| super::restore::trouble(&error))?;
    let elapsed = world.clock.boot().saturating_sub(started);
    let restored = parsed
        .on(&flags::RESTORE)
        .then(|| restore(world, parsed, &named, &store, (&settings, parallelism)))
        .transpose();
    let report = report(&verified, &named.replica, elapsed, restored.as_ref().map(Option::as_ref));
    match parsed.on(&flags::JSON) {
        true => output::json(&report)?,
        false => output::text(&text(&report))?,
    }
    match (verified.damage(), restored) {
        (Some(_), _) => Ok(DAMAGED),
        (None, Ok(Some(trial))) if trial.has_diverged() => Ok(Exit::DIVERGED),
        (None, Ok(_)) => Ok(Exit::OK),
        (None, Err(trouble)) => Err(trouble),
    }
}

fn parallelism(parsed: &Parsed) -> Result<usize, Trouble> {
    let text = parsed.text(&flags::PARALLELISM).unwrap_or_default();
    let count = text.parse().ok().filter(|count| (1..=MAX_PARALLELISM).contains(count));
    count.ok_or_else(|| {
        Trouble::new(format!("-parallelism: `{text}` is not a number from 1 to {MAX_PARALLELISM}"))
            .hint("`litekeep verify -h` lists the flags")
    })
}

/// Restores into a scratch folder, compares, and takes the folder away again.
fn restore(
    world: &World,
    parsed: &Parsed,
    named: &Named,
    store: &Arc<dyn Store>,
    (settings, parallelism): (&EngineSettings, usize),
) -> Result<Trial, Trouble> {
    let scratch = Scratch::make(world, parsed, named)?;
    let env = RestoreEnv {
        store: Arc::clone(store),
        files: Arc::new(RealFiles),
        clock: Arc::clone(&world.clock),
        vfs: None,
    };
    let bar = Bar::new(world.terminal);
    let state = named
        .database
        .as_ref()
        .map(|database| (&database.path, local_state(&database.path, settings.meta_path.as_deref())));
    let original =
        state.as_ref().map(|(database, state_dir)| Original { database, state_dir, held_here: false });
    let trial =
        inspect::trial(&env, &scratch.0.join("restored.db"), parallelism, original, &mut |progress| {
            if let Progress::Fetched { bytes, total } = progress {
                bar.set(bytes, total);
            }
        });
    bar.clear();
    trial.map_err(|error| super::restore::trouble(&error))
}

/// A folder that is gone when this is dropped, or when a signal ends the program.
struct Scratch(PathBuf);

impl Scratch {
    /// In the folder that is named, else beside the database, else where temporary files go.
    fn make(world: &World, parsed: &Parsed, named: &Named) -> Result<Self, Trouble> {
        let beside = named.database.as_ref().and_then(|database| database.path.parent());
        let parent = match (parsed.given(&flags::SCRATCH), beside) {
            (Some(path), _) => world.path(path),
            (None, Some(parent)) if parent.is_dir() => parent.to_owned(),
            (None, _) => PathBuf::from(world.env.get("TMPDIR").unwrap_or("/tmp")),
        };
        let path = parent.join(scratch_name(world.random.next_u64()));
        let gone = path.clone();
        signals::listen(move |signal| {
            remove(&gone);
            std::process::exit(128 + signal);
        })
        .map_err(|error| Trouble::new("can't listen for signals").because(&error))?;
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            Trouble::new(format!("can't make a scratch folder in {}", parent.display()))
                .because(&error)
                .hint("-scratch names another place for it")
        })?;
        Ok(Self(path))
    }
}

/// It may lie in a directory whose databases are replicated: a look through one passes by what is named so.
pub(crate) fn scratch_name(random: u64) -> String {
    format!("{}-{random:016x}", verifier::SCRATCH)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            output::talk(&format!("Warning: {} could not be removed: {error}", path.display()));
        }
        _ => {}
    }
}

fn report<'a>(
    verified: &'a Verified,
    replica: &Settings,
    elapsed: Duration,
    restored: Result<Option<&Trial>, &Trouble>,
) -> Report<'a> {
    Report {
        replica: &verified.location,
        outcome: match (verified.damage(), verified.issues.first()) {
            (Some(_), _) => "damaged",
            (None, Some(_)) => "warnings",
            (None, None) => "sound",
        },
        newest_txid: verified.newest.map(|txid| txid.to_string()),
        restorable_txid: verified.restorable.map(|txid| txid.to_string()),
        timestamp: verified.timestamp.map(time::format),
        database_checksum: verified.database.map(|checksum| checksum.to_string()),
        epoch: verified.epoch.map(litekeep_formats::Epoch::get),
        levels: verified.levels.iter().map(level_row).collect(),
        v3: verified.v3.map(|v3| V3Row {
            snapshots: v3.snapshots,
            bytes: v3.bytes,
            newest: v3.newest.map(time::format),
        }),
        issues: verified.issues.iter().map(|issue| issue_row(issue, verified, replica)).collect(),
        read: Read {
            objects: verified.objects,
            bytes: verified.counted.bytes,
            requests: verified.counted.requests,
            elapsed_ms: millis(elapsed),
        },
        restore: restored.ok().flatten().map(restore_row),
        restore_error: restored.err().map(ToString::to_string),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn level_row(level: &inspect::LevelCheck) -> LevelRow {
    LevelRow {
        level: level.level.get(),
        files: level.files,
        bytes: level.bytes,
        min_txid: level.range.min().to_string(),
        max_txid: level.range.max().to_string(),
        sound: level.sound,
        sealed: level.sealed,
        bad: level.bad,
    }
}

fn issue_row(issue: &Issue, verified: &Verified, replica: &Settings) -> IssueRow {
    IssueRow {
        kind: match issue.kind {
            Kind::Damaged => "damaged",
            Kind::Gap => "gap",
            Kind::Foreign => "foreign",
            Kind::Late => "late",
            Kind::Unsealed => "unsealed",
            Kind::Unfinished => "unfinished",
            Kind::NewerV3 => "newer v0.3",
        },
        damage: issue.kind.is_damage(),
        object: issue.key.map(|key| object(&key, replica)),
        what: issue.what.clone(),
        advice: advice(issue.kind, verified),
    }
}

/// The object's path below the replica's.
pub(crate) fn object(key: &Key, replica: &Settings) -> String {
    match replica {
        Settings::Directory(_) => Layout::Tree.path(key),
        Settings::S3(_) => Layout::Bucket.path(key),
    }
}

fn advice(kind: Kind, verified: &Verified) -> String {
    let mend = "where the database still is, `litekeep replicate -once -force-snapshot` puts a whole image behind it";
    match (kind, verified.restorable) {
        (Kind::Late, _) => "nothing: a running litekeep removes it".to_owned(),
        (Kind::Unfinished, _) => "nothing while litekeep runs: it goes on with it".to_owned(),
        (Kind::Unsealed, _) => "let one program alone write here".to_owned(),
        (Kind::NewerV3, _) => "stop the old Litestream, or give it a path of its own".to_owned(),
        (Kind::Gap, Some(txid)) if Some(txid) == verified.newest => {
            "the newest state can be restored all the same; this is told until retention has passed over what is lost"
                .to_owned()
        }
        (_, Some(txid)) if Some(txid) == verified.newest => {
            "the newest state can be restored all the same; a new snapshot makes that independent of what is missing: \
             `litekeep replicate -once -force-snapshot`"
                .to_owned()
        }
        (Kind::Foreign, Some(txid)) => {
            format!("stop all writers but one; `litekeep restore -txid {txid}` gives the last state before it; {mend}")
        }
        (_, Some(txid)) => format!("`litekeep restore -txid {txid}` gives the last whole state; {mend}"),
        (_, None) => format!("no state can be restored from what is here; {mend}, in another path"),
    }
}

fn restore_row(Trial { restored, compared }: &Trial) -> RestoreRow {
    let not_checked = restored.notes.iter().filter_map(|note| match note {
        Note::NotCheckable(tables) => Some(tables.clone()),
        _ => None,
    });
    let (local, detail) = match compared {
        None => (None, None),
        Some(Compared::Same { pages }) => (Some("same"), Some(format!("all {pages} pages"))),
        Some(Compared::Differs { pages, first, certain }) => {
            let why = match certain {
                true => "though nothing was written to it past the replica's newest state",
                false => "it may have gone on since",
            };
            (Some("differs"), Some(format!("{pages} pages, the first is page {first}; {why}")))
        }
        Some(Compared::Elsewhere(Some(txid))) => {
            (Some("elsewhere"), Some(format!("it is at transaction {txid}: nothing to compare")))
        }
        Some(Compared::Elsewhere(None)) => {
            (Some("elsewhere"), Some("nothing here shows at which transaction it is".to_owned()))
        }
        Some(Compared::NoDatabase) => (Some("no database"), None),
        Some(Compared::Unreadable(error)) => (Some("unreadable"), Some(error.clone())),
    };
    RestoreRow {
        source: match restored.source {
            engine::Source::Ltx => "ltx",
            engine::Source::V3 { .. } => "v0.3",
        },
        txid: restored.txid().map(|txid| txid.to_string()),
        database_bytes: restored.database_bytes,
        pages: restored.pages,
        integrity_check: "ok",
        database_checksum: restored.chain.map(|chain| chain.database.to_string()),
        sealed: restored.integrity == engine::Integrity::Sealed,
        not_checked: not_checked.flatten().collect(),
        local,
        detail,
        elapsed_ms: millis(restored.elapsed),
    }
}

fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    if !report.levels.is_empty() {
        let head = ["level", "files", "bytes", "transactions", "sound", "sealed", "bad"].map(str::to_owned);
        let rows = report.levels.iter().map(|level| {
            [
                level.level.to_string(),
                level.files.to_string(),
                size::human(level.bytes),
                format!("{}-{}", level.min_txid, level.max_txid),
                level.sound.to_string(),
                level.sealed.to_string(),
                level.bad.to_string(),
            ]
        });
        out.push_str(&table::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
        out.push('\n');
    }
    if let Some(v3) = &report.v3 {
        out.push_str(&format!("v0.3: {} snapshots, {}\n", v3.snapshots, size::human(v3.bytes)));
    }
    for issue in &report.issues {
        let object = issue.object.as_deref().map_or_else(String::new, |object| format!("{object}: "));
        out.push_str(&format!("{}: {object}{}\n  what to do: {}\n", issue.kind, issue.what, issue.advice));
    }
    out.push_str(&format!("{}: {}\n", report.replica, verdict(report)));
    let read = &report.read;
    out.push_str(&format!(
        "read {} objects, {}, with {} requests in {:.1} s\n",
        read.objects,
        size::human(read.bytes),
        read.requests,
        Duration::from_millis(read.elapsed_ms).as_secs_f64()
    ));
    if let Some(restore) = &report.restore {
        out.push_str(&restore_text(restore));
    }
    if report.restore_error.is_some() {
        out.push_str("the restore to a scratch place failed\n");
    }
    out
}

fn verdict(report: &Report<'_>) -> String {
    let at = |txid: &Option<String>| txid.clone().unwrap_or_else(|| "nothing".to_owned());
    match (report.outcome, &report.newest_txid) {
        ("damaged", _) if report.restorable_txid == report.newest_txid => {
            format!("damaged; the newest state, transaction {}, can be restored", at(&report.newest_txid))
        }
        ("damaged", _) => format!(
            "damaged; it reaches transaction {}, what can be restored is {}",
            at(&report.newest_txid),
            at(&report.restorable_txid)
        ),
        (_, None) => "no LTX files; a v0.3 backup without gaps (-restore reads it)".to_owned(),
        (outcome, Some(txid)) => {
            let time = report.timestamp.as_deref().map_or_else(String::new, |time| format!(" of {time}"));
            let sum = report.database_checksum.as_deref();
            let sum = sum.map_or("not sealed".to_owned(), |sum| format!("database checksum {sum}"));
            let word = if outcome == "sound" { "sound" } else { "sound, with warnings" };
            format!("{word}, up to transaction {txid}{time}, {sum}")
        }
    }
}

fn restore_text(restore: &RestoreRow) -> String {
    let seal = if restore.sealed { "the sealed checksum is right" } else { "no seal to compare with" };
    let mut out = format!(
        "restored {} ({} pages) to a scratch place: integrity_check ok, {seal}\n",
        size::human(restore.database_bytes),
        restore.pages
    );
    if !restore.not_checked.is_empty() {
        out.push_str(&format!(
            "  not checked, they need functions of the application: {}\n",
            restore.not_checked.join(", ")
        ));
    }
    if let Some(local) = restore.local {
        let detail = restore.detail.as_deref().map_or_else(String::new, |detail| format!(" ({detail})"));
        out.push_str(&format!("the local database: {local}{detail}\n"));
    }
    out
}
