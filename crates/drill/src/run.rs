//! A run from its beginning to its report: which bucket, which witness, one scenario after the other.

use crate::bucket::Bucket;
use crate::clock::{Clock, date};
use crate::engine::{Engine, Release};
use crate::error::DrillError;
use crate::expect::Row;
use crate::left::Left;
use crate::options::{Options, System, Where};
use crate::platform::{APP_PLATFORM, SHORT};
use crate::remote::Remote;
use crate::report::{Outcome, Program, Report, Scenario};
use crate::stop::Signals;
use crate::witness::Official;
use crate::{World, judge, litestream, live, scenario, tell};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How many writers.
const WRITERS: usize = 4;
/// Between two writes of one: with four of them, 80 writes a second are offered.
const PACE: Duration = Duration::from_millis(50);
/// For a program to say its version: one that hangs is not the one that is looked for.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// Runs, reports, and gives the exit code.
///
/// # Errors
/// The run could not be carried out.
pub async fn run(
    world: &World,
    options: &Options,
    left: &Left,
    signals: &mut Signals,
) -> Result<u8, DrillError> {
    let clock = Clock::start();
    let stamp: String = date(clock.began()).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let out = options.out.clone().unwrap_or_else(|| format!("oraclenet-proof-{stamp}"));
    let out = world.directory.join(out);
    std::fs::create_dir_all(&out).map_err(|error| DrillError::machine(out.display().to_string(), &error))?;
    if std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(DrillError::usage(format!(
            "{} is not empty: evidence of two runs must not mix",
            out.display()
        )));
    }
    let report = match &options.place {
        Where::Live { url, redeploy, trail } => {
            live::run(world, (url, redeploy, *trail), &out, clock, left, signals).await?
        }
        // Containers and witnesses must not outlive this process: a signal drops them, and that kills them.
        Where::Here { replica } => {
            signals.unless(here(world, options, (replica.as_deref(), left), &out, clock)).await?
        }
        Where::Plain(_) => return Err(DrillError::usage("--serve-plain is no run")),
    };
    report.write(&out)?;
    let _ = std::io::stdout().write_all(report.text().as_bytes()); // a reader that has seen enough is no failure
    tell(&format!("evidence: {}", out.join("evidence.html").display()));
    Ok(report.exit_code())
}

async fn here(
    world: &World,
    options: &Options,
    (replica, left): (Option<&str>, &Left),
    out: &Path,
    clock: Clock,
) -> Result<Report, DrillError> {
    let (engine, compared) = engine(world, options)?;
    let release =
        |name: &str, program: PathBuf| Release { name: name.to_owned(), program, flags: Vec::new() };
    let previous =
        options.previous.as_ref().map_or_else(|| world.executable.clone(), |path| world.directory.join(path));
    let bucket = match replica {
        None => Bucket::here().await?,
        Some(url) => match url.strip_prefix("file://") {
            // A folder of this run's own: it begins empty, and goes at the end.
            Some(path) => {
                let own = format!("oraclenet-proof-{}", clock.mark());
                Bucket::Directory(world.directory.join(path).join(own))
            }
            None => Bucket::Remote(Remote::open(url, &*world.env, clock).await?),
        },
    };
    let official = match &options.official {
        Some(path) => Some(Official::at(&*world.env, &world.directory.join(path))?),
        None => Official::find(&*world.env),
    };
    let stage = scenario::World {
        engine,
        bucket,
        official,
        out: out.to_owned(),
        release: release("v2", world.executable.clone()),
        previous: release("v1", previous),
        timings: SHORT,
        writers: WRITERS,
        pace: PACE,
    };
    let location = match &stage.bucket {
        Bucket::Here { .. } => "an S3 server in this process, with the habits of Ceph".to_owned(),
        Bucket::Directory(path) => format!("file://{}", path.display()),
        Bucket::Remote(remote) => remote.location(),
    };
    let witness = stage.official.as_ref().map_or("none", Official::name);
    tell(&format!("engine: {}; bucket: {location}; official witness: {witness}", stage.engine.name()));
    tell(&format!("the platform's times, ms: {SHORT:?}; App Platform's defaults: {APP_PLATFORM:?}"));
    let disks = left.add(format!("the containers' disks in {}", out.display()));
    let in_bucket = match &stage.bucket {
        Bucket::Here { .. } => None,
        Bucket::Directory(_) | Bucket::Remote(_) => Some(left.add(format!("all below {location}"))),
    };
    let mut report = Report::new(stage.engine.name(), &location, witness, clock);
    report.program = Program::of(&world.executable);
    report.previous = options.previous.as_ref().and_then(|path| Program::of(&world.directory.join(path)));
    if options.system == System::OracleNet {
        report.litestream = Some(&litestream::RECORDED);
        report.litestream_here = compared.map(|program| litestream::command(&program, &options.rows));
    }
    for row in &options.rows {
        report.scenarios.push(one(&stage, row, clock).await);
    }
    report.left = clear(&stage.bucket).await;
    left.gone(disks);
    if let (Some(number), true) = (in_bucket, report.left.is_empty()) {
        left.gone(number);
    }
    Ok(report)
}

/// What runs in the containers, and a Litestream to compare with, if one is here. That one is not run, only named: nobody
/// asked for it, and whatever has that name in the PATH may do anything.
fn engine(world: &World, options: &Options) -> Result<(Engine, Option<PathBuf>), DrillError> {
    let given = options.program.as_ref().map(|program| world.directory.join(program));
    if options.system == System::Litestream {
        let found = litestream::find(&*world.env, given)?;
        let program = found
            .ok_or_else(|| DrillError::usage("--engine litestream needs --litestream PROGRAM (0.3.13)"))?;
        return Ok((Engine::Litestream(program), None));
    }
    if let Some(program) = given.as_ref().filter(|program| !program.is_file()) {
        return Err(DrillError::usage(format!("{} is no program", program.display())));
    }
    let engine = if options.system == System::None { Engine::None } else { Engine::OracleNet };
    let compared = litestream::candidates(&*world.env, given).into_iter().find(|file| file.is_file());
    Ok((engine, compared))
}

/// Removes what a run wrote into places that others use; names what could not be removed.
async fn clear(bucket: &Bucket) -> Vec<String> {
    match bucket {
        Bucket::Here { .. } => Vec::new(),
        Bucket::Directory(path) => match std::fs::remove_dir_all(path) {
            Ok(()) => Vec::new(),
            // Nobody wrote there: an engine without a replica does not.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => vec![format!("{} could not be removed: {error}", path.display())],
        },
        Bucket::Remote(remote) => match remote.clear().await {
            Ok(left) => left.into_iter().map(|key| format!("still in the bucket: {key}")).collect(),
            Err(error) => vec![format!("{} could not be cleared: {error}", remote.location())],
        },
    }
}

async fn one(stage: &scenario::World, row: &Row, run: Clock) -> Scenario {
    let mut row = *row;
    if row.disturbs && stage.bucket.wire().is_none() {
        let why = "needs a bucket that can be disturbed".to_owned();
        tell(&format!("{:<18} not run: {why}", row.name));
        return Scenario::new(&row, run.ms(), Outcome::NotRun { why });
    }
    if stage.bucket.wire().is_none() {
        row.refusals = row.refusals.min(1); // a directory cannot be told to deny its listing
    }
    tell(&format!("{:<18} {} ..", row.name, row.about));
    let (began, clock) = (run.ms(), run.anew());
    let outcome = match scenario::run(stage, &row, clock).await {
        Ok((entries, facts)) => {
            let verdict = judge::judge(&entries, &facts, &row);
            Outcome::Judged { entries, facts: Box::new(facts), verdict }
        }
        Err(error) => Outcome::Failed { why: error.to_string() },
    };
    let seconds = clock.ms() / 1000;
    let scenario = Scenario::new(&row, began, outcome);
    tell(&format!("{:<18} {} ({seconds} s)", "", scenario.short()));
    if scenario.held() {
        let _ = std::fs::remove_dir_all(stage.out.join(row.name).join("disks")); // kept only where there is something to find
    }
    scenario
}

/// What `PROGRAM version` says, if it says it in time: whatever the user names, or the PATH has, is run by this.
pub(crate) fn version(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("version");
    said(command, ANSWER)
}

/// What a command says on stdout until it closes that; nothing where it says nothing or takes longer. It is killed then.
pub(crate) fn said(mut command: Command, limit: Duration) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().ok()?;
    let (tell, told) = mpsc::channel();
    let mut stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = stdout.as_mut().map(|stdout| stdout.read_to_end(&mut said));
        let _ = tell.send(read.and_then(Result::ok).map(|_| said)); // nobody waits any more
    });
    let said = told.recv_timeout(limit).ok().flatten();
    let _ = child.kill(); // it has ended by itself, as a rule
    let _ = child.wait();
    let said = String::from_utf8_lossy(&said?).trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// A program in the PATH.
pub(crate) fn in_path(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<PathBuf> {
    let path = env("PATH")?;
    path.split(':').map(|folder| Path::new(folder).join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_asked_for_its_version_has_a_limited_time() {
        let asked = |script: &str, limit| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            said(command, limit)
        };
        let (soon, late) = (Duration::from_millis(50), Duration::from_secs(60));
        for (script, limit, wanted) in [
            ("echo v1.2.3", late, Some("v1.2.3")),
            ("true", late, None),
            ("echo v1.2.3; exec >&-; exec sleep 600", late, Some("v1.2.3")),
            ("echo v1.2.3; exec sleep 600", soon, None),
        ] {
            assert_eq!(asked(script, limit).as_deref(), wanted, "{script}");
        }
    }
}
