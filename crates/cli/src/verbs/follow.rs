//! `litekeep restore -f`: after the restore, the database follows its replica until a signal.
//!
//! Trouble of the store is told once and outlasted; what no waiting mends ends it, with the codes of `restore`.

use super::{open, replicate};
use crate::flags::{self, Parsed};
use crate::signals::{self, Abrupt, Heard, Word};
use crate::text::duration;
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::error::{KeepError, KeepErrorKind};
use litekeep::files::{Files, RealFiles};
use litekeep::follow::{Followed, Follower, Manner};
use litekeep::jobs::Threads;
use litekeep::local;
use litekeep::replicator::Env;
use litekeep::restore::Options;
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_store::location::Settings as Replica;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// Flags that make no sense together, and an interval of zero.
const MISUSE: Exit = Exit(2);

/// How long a database that somebody keeps locked is left alone.
const BUSY: Duration = Duration::from_millis(10);

/// The longest pause while the store does not answer.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause between two looks, or `None` where nothing is to be followed.
///
/// # Errors
/// The flags contradict each other.
pub(crate) fn interval(parsed: &Parsed) -> Result<Option<Duration>, Trouble> {
    if !parsed.on(&flags::FOLLOW) {
        return Ok(None);
    }
    for flag in [&flags::TXID, &flags::TIMESTAMP, &flags::GENERATION] {
        if parsed.given(flag).is_some() {
            let what = format!("-f goes on with what is written, -{} names an earlier state", flag.name);
            return Err(Trouble::new(what).hint("give one of them").exit(MISUSE));
        }
    }
    for flag in [&flags::DRY_RUN, &flags::JSON] {
        if parsed.on(flag) {
            return Err(Trouble::new(format!("-f and -{} can't be given together", flag.name))
                .hint("give one of them")
                .exit(MISUSE));
        }
    }
    let text = parsed.text(&flags::FOLLOW_INTERVAL).unwrap_or_default();
    let wrong = |why: String| {
        Trouble::new(format!("-follow-interval: `{text}`: {why}")).hint("such as 1s").exit(MISUSE)
    };
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err(wrong("a pause is needed between two looks".to_owned())),
        Ok(interval) => Ok(Some(interval)),
        Err(why) => Err(wrong(why)),
    }
}

/// Whether the database is there, and is one that this replica was restored to or that followed it before.
pub(crate) fn is_known(replica: &str, database: &Path, state_dir: &Path) -> bool {
    let id = RealFiles.id(database).ok().flatten();
    let state = local::peek(&RealFiles, state_dir).ok().flatten();
    let next = local::peek_next(&RealFiles, state_dir).ok().flatten();
    let ours = |state: local::State| Some(state.file) == id && state.replica == replica;
    id.is_some() && [state, next].into_iter().flatten().any(ours)
}

/// Follows until a signal.
///
/// # Errors
/// What no waiting mends.
pub(crate) fn run(
    world: &World,
    replica: &Replica,
    options: &Options,
    settings: &Settings,
    interval: Duration,
    abrupt: Abrupt,
) -> Result<Exit, Trouble> {
    let env = Env {
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        files: Arc::new(RealFiles),
        vfs: None,
        store: open(world, replica)?,
        spawner: Arc::new(Threads),
        decisions: Decisions::RIGHT,
    };
    let settings = Settings { meta_path: options.state_dir.clone(), ..settings.clone() };
    let manner = Manner { replace_file: true, unsealed_after_seal: true, parallelism: options.parallelism };
    let path = options.output.display();
    let what = format!("{path} can't follow its replica any further");
    let mut follower = Follower::open(env, &settings, manner, &options.output)
        .map_err(|error| replicate::keep_trouble(&what, &error))?;
    let (tell, told) = mpsc::channel();
    let (mut heard, clock) = (Heard::default(), Arc::clone(&world.clock));
    signals::listen(move |signal| match heard.take(clock.boot()) {
        Word::First => drop(tell.send(signal)),
        Word::Echo => {}
        Word::Second => {
            // A step may wait long for a store that is out of reach; the next start goes on from wherever it is.
            tracing::warn!(signal = signals::name(signal), "second signal received, ending at once");
            std::process::exit(128 + signal);
        }
    })
    .map_err(|error| Trouble::new("can't listen for signals").because(&error))?;
    drop(abrupt);
    tracing::info!(%path, replica = %replica.location(), interval = ?interval, "following");
    let signal =
        Loop { world, told, interval, failures: 0, well: false }.run(&mut follower).map_err(|error| {
            match error {
                Some(error) => replicate::keep_trouble(&what, &error),
                None => Trouble::new(what.as_str())
                    .cause("it holds changes that the replica lacks")
                    .hint("move it away, or replace it with -force")
                    .exit(Exit::DIVERGED),
            }
        })?;
    tracing::info!(signal = signals::name(signal), "signal received, litekeep shutting down");
    if let Err(error) = follower.close() {
        tracing::warn!(%path, %error, "the database was not brought to rest; the next start goes on from it all the same");
    }
    Ok(Exit::OK)
}

struct Loop<'a> {
    world: &'a World,
    told: Receiver<i32>,
    interval: Duration,
    /// In a row.
    failures: u32,
    /// It has worked before.
    well: bool,
}

impl Loop<'_> {
    /// Returns the signal that ended it; the error, or `None` for a file that went its own way.
    fn run(mut self, follower: &mut Follower) -> Result<i32, Option<KeepError>> {
        loop {
            let pause = match follower.step() {
                Ok(Followed::Ahead) => return Err(None),
                Ok(step) => self.went_well(step, follower),
                Err(error) => self.outlast(error)?,
            };
            match self.told.recv_timeout(pause) {
                Ok(signal) => return Ok(signal),
                Err(_) => continue,
            }
        }
    }

    fn went_well(&mut self, step: Followed, follower: &Follower) -> Duration {
        if self.failures > 0 && step != Followed::Busy {
            tracing::info!("the replica answers again");
            self.failures = 0;
        }
        self.well |= step != Followed::Busy;
        match step {
            Followed::Applied(txid) => {
                let timestamp = follower.tip().map(|tip| tip.timestamp.0);
                tracing::debug!(%txid, timestamp, "applied");
                Duration::ZERO
            }
            Followed::Jumped(_) => Duration::ZERO,
            Followed::Busy => BUSY,
            Followed::AtTip | Followed::Ahead => self.interval,
        }
    }

    /// The pause after a failure that may pass: twice the last one, with jitter; told at the first of them.
    fn outlast(&mut self, error: KeepError) -> Result<Duration, Option<KeepError>> {
        let passes = match error.kind() {
            KeepErrorKind::Retry => true,
            // At the start a person is still looking; later a key that expired may be renewed.
            KeepErrorKind::FixConfig => self.well,
            KeepErrorKind::DataDamaged | KeepErrorKind::Fenced | KeepErrorKind::Bug => false,
        };
        if !passes {
            return Err(Some(error));
        }
        if self.failures == 0 {
            tracing::warn!(%error, "can't follow at the moment; trying again");
        }
        let full = self.interval.max(BUSY).saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        Ok(half + Duration::from_micros(self.world.random.next_u64() % spread))
    }
}
