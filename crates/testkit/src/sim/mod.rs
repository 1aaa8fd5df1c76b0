//! The simulation: the real engine and real SQLite on a disk that loses power and a store that misbehaves, on one
//! thread, from one seed, judged by a ledger.
//!
//! The promise that is checked: whatever happens, a restore gives exactly one state that the application committed,
//! at or past everything that the engine said was in the replica.

mod desk;
mod engine;
mod intervals;
mod kept;
mod world;
pub mod wrong;

use crate::disk::vfs::SeededSqlite;
use crate::faulty::Weather;
use crate::random::SeededRandom;
use crate::workload::Shape;
use litekeep_core::decisions::Decisions;
use std::fmt;
use world::World;

/// What happens in a simulation, besides what the seed decides.
#[derive(Clone)]
pub struct Scenario {
    /// Decides everything else.
    pub seed: u64,
    /// The application; from the seed if `None`.
    pub shape: Option<Shape>,
    /// The store's behaviour while the application runs.
    pub weather: Weather,
    /// How many turns the application, the engine and the world take together before it all comes to rest.
    pub turns: u64,
    /// When the power goes.
    pub crash: Crash,
    /// Whether single processes are killed as well.
    pub kills: bool,
    /// What the machine finds after the power came back.
    pub disk: Fate,
    /// The application acts once in so many of the engine's own calls, 0 for never; from the seed if `None`.
    pub interrupts: Option<u64>,
    /// The engine's verdicts.
    pub decisions: Decisions,
    /// Whether the engine reads through files that keep each frame of the WAL as it was when they first saw it.
    pub keeps_frames: bool,
}

/// When the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Never.
    Never,
    /// So many times, at calls that the seed decides.
    Times(u64),
    /// Once, at this changing call to the disk.
    At(u64),
}

/// What a power loss leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The disk, with what was synced and some of what was not.
    Survives,
    /// Nothing: the database is restored from the replica.
    Wiped,
    /// The one or the other.
    Either,
}

impl Scenario {
    /// One writer, one crash, a store in bad weather.
    pub fn smoke(seed: u64) -> Self {
        Self {
            seed,
            shape: None,
            weather: Weather { held_back: 0, ..Weather::STORM },
            turns: 400,
            crash: Crash::Times(1),
            kills: false,
            disk: Fate::Either,
            interrupts: None,
            decisions: Decisions::RIGHT,
            keeps_frames: false,
        }
    }

    /// A short scene in fair weather, for placing a power loss at each of its calls in turn.
    pub fn short(call: u64, disk: Fate) -> Self {
        Self {
            shape: Some(Shape { autocheckpoint: 7, cache: 5, blob: 3000, ..Shape::PLAIN }),
            weather: Weather::CLEAR,
            turns: 150,
            crash: Crash::At(call),
            disk,
            interrupts: Some(200),
            ..Self::smoke(11)
        }
    }

    /// Everything at once, for long runs.
    pub fn long(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0001_0000);
        Self {
            weather: if random.chance(1, 4) { Weather::CLEAR } else { Weather::STORM },
            turns: random.between(200, 3000),
            crash: Crash::Times(random.below(5)),
            kills: random.chance(1, 2),
            ..Self::smoke(seed)
        }
    }
}

/// What a simulation did, for comparing runs and for showing that it did something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Digest of everything that reached the disk, the store and the ledger, in order.
    pub history: u64,
    /// Commits of the application.
    pub commits: u64,
    /// Times that the engine said that everything is in the replica.
    pub acknowledgements: u64,
    /// Power losses.
    pub crashes: u64,
    /// Processes killed.
    pub kills: u64,
    /// Restores that were judged.
    pub restores: u64,
    /// Slots that went up.
    pub slots: u64,
    /// Breaks of the frame chain that were mended.
    pub breaks: u64,
    /// Times that the engine ended because the replica had gone another way (a late put of its former life).
    pub stops: u64,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Where it happened.
    pub seed: u64,
    /// What happened.
    pub what: String,
    /// The last turns and calls.
    pub trail: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        for line in &self.trail {
            writeln!(f, "    {line}")?;
        }
        write!(f, "  replay: cargo run -p testkit --bin simulate -- --from {} --seeds 1", self.seed)
    }
}

/// Runs a scenario to its end.
///
/// # Errors
/// [`Finding`], the first one.
pub fn run(scenario: &Scenario) -> Result<Report, Box<Finding>> {
    let _alone = SeededSqlite::new(scenario.seed);
    let mut world = World::new(scenario);
    match world.run() {
        Ok(()) => Ok(world.report()),
        Err(what) => Err(Box::new(Finding { seed: scenario.seed, what, trail: world.trail() })),
    }
}

/// Runs a scenario twice.
///
/// # Errors
/// [`Finding`], also when the two runs differ.
pub fn run_twice(scenario: &Scenario) -> Result<Report, Box<Finding>> {
    let (first, second) = (run(scenario)?, run(scenario)?);
    if first == second {
        return Ok(first);
    }
    let what = format!("two runs of one seed differ: {first:?} and {second:?}");
    Err(Box::new(Finding { seed: scenario.seed, what, trail: Vec::new() }))
}
