//! The simulation: the real engine and real SQLite on a disk that loses power and a store that misbehaves, on one
//! thread, from one seed, judged by a ledger.
//!
//! The promise that is checked: whatever happens, a restore gives exactly one state that the application committed,
//! at or past everything that the engine said was in the replica.

mod desk;
mod engine;
mod flaws;
mod intervals;
mod judge;
mod machine;
mod rest;
mod trouble;
mod world;
pub mod wrong;

pub use flaws::{BucketFlaw, FilesFlaw, Flaws, PromiseFlaw};
pub(crate) use flaws::{bucket, files};
pub(crate) use trouble::fail_one;

use crate::disk;
use crate::disk::vfs::SeededSqlite;
use crate::faulty::{Fault, Plan, Weather};
use crate::random::SeededRandom;
use crate::workload::Shape;
use std::fmt;
use world::World;

/// What happens in a simulation, besides what the seed decides.
#[derive(Clone)]
pub struct Scenario {
    /// What people call it.
    pub name: &'static str,
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
    /// In so many of a hundred turns the death of a single process is planned, once the power stays.
    pub kills: u64,
    /// What the machine finds after the power came back.
    pub disk: Fate,
    /// The application acts once in so many of the engine's own calls, 0 for never; from the seed if `None`.
    pub interrupts: Option<u64>,
    /// In so many of a thousand turns the disk begins to be full, or to fail calls.
    pub disk_trouble: u64,
    /// In so many of a thousand turns the machine's wall clock jumps by up to ten minutes.
    pub clock_jumps: u64,
    /// In so many of a hundred spot checks one file of the replica has a wrong bit first.
    pub rot: u64,
    /// What one put carries, if it is little: images go up as streams then.
    pub max_slot_bytes: Option<u64>,
    /// Whether a long idle time comes at the end, and an hour of it is watched.
    pub idle: bool,
    /// A call to the disk that fails, whoever makes it.
    pub failing_call: Option<disk::Fault>,
    /// A request to the bucket that meets trouble.
    pub failing_request: Option<Plan>,
    /// What is wrong about the engine.
    pub flaws: Flaws,
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
    /// What to tell `simulate` to see this again.
    fn replay(&self) -> String {
        let from = match self.crash {
            Crash::At(call) => call,
            _ => self.seed,
        };
        format!("--scenario {} --from {from}", self.name)
    }

    /// One writer, one crash, a store in bad weather.
    pub fn smoke(seed: u64) -> Self {
        Self {
            name: "smoke",
            seed,
            shape: None,
            weather: Weather { held_back: 0, ..Weather::STORM },
            turns: 800,
            crash: Crash::Times(1),
            kills: 0,
            disk: Fate::Either,
            interrupts: None,
            disk_trouble: 0,
            clock_jumps: 0,
            rot: 0,
            max_slot_bytes: None,
            idle: false,
            failing_call: None,
            failing_request: None,
            flaws: Flaws::NONE,
        }
    }

    /// A short scene in fair weather, for placing a power loss at each of its calls in turn.
    pub fn short(call: u64, disk: Fate) -> Self {
        Self {
            name: if disk == Fate::Wiped { "wiped" } else { "survives" },
            shape: Some(Shape { autocheckpoint: 7, cache: 5, blob: 3000, ..Shape::PLAIN }),
            weather: Weather::CLEAR,
            turns: 80,
            crash: Crash::At(call),
            disk,
            interrupts: Some(200),
            ..Self::smoke(11)
        }
    }

    /// Less than half of that scene, with one call to the disk that fails.
    pub fn failing(fault: disk::Fault) -> Self {
        Self { crash: Crash::Never, turns: 60, failing_call: Some(fault), ..Self::short(0, Fate::Survives) }
    }

    /// Such a scene, and a long idle time after it, with one request to the bucket that meets trouble. The seed is one
    /// with puts, compaction, snapshots, retention and checkpoints of the engine's own.
    pub fn troubled(plan: Plan) -> Self {
        Self {
            seed: 2,
            crash: Crash::Never,
            turns: 300,
            idle: true,
            failing_request: Some(plan),
            ..Self::short(0, Fate::Survives)
        }
    }

    /// The same scene, where the power goes at a request of the engine: between two steps of a chore, which itself runs
    /// in memory and makes no call to the disk.
    pub fn unplugged(request: u64, happens: bool, disk: Fate) -> Self {
        let fault = Fault::PowerGoes { happens };
        let plan = Plan { verb: None, object: String::new(), skip: request, times: 1, fault };
        Self { disk, ..Self::troubled(plan) }
    }

    /// A short scene with some of everything, for runs of very many seeds: most mistakes need few steps.
    pub fn bulk(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0002_0000);
        let some = |of: &[u64]| random.pick(of).copied().unwrap_or(0);
        let held_back = some(&[0, 0, 20]);
        Self {
            name: "bulk",
            shape: Some(Shape::small(&random)),
            weather: match random.chance(1, 3) {
                true => Weather { held_back, ..Weather::CLEAR },
                false => Weather { held_back, ..Weather::STORM },
            },
            turns: some(&[60, 120, 120, 250, 400]),
            crash: Crash::Times(random.below(4)),
            kills: random.below(2),
            disk_trouble: some(&[0, 0, 10, 40]),
            clock_jumps: some(&[0, 0, 20]),
            idle: random.chance(1, 10),
            ..Self::smoke(seed)
        }
    }

    /// The same with images that no slot can carry.
    pub fn streams(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0006_0000);
        let max_slot_bytes = random.pick(&[4_000, 20_000, 60_000]).copied();
        Self { name: "streams", max_slot_bytes, ..Self::bulk(seed) }
    }

    /// Everything at once, for long runs.
    pub fn long(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0001_0000);
        let weather = if random.chance(1, 4) { Weather::CLEAR } else { Weather::STORM };
        let truncated = if random.chance(1, 2) { 20 } else { 0 };
        Self {
            name: "long",
            weather: Weather { truncated, ..weather },
            turns: random.between(200, 3000),
            crash: Crash::Times(random.below(5)),
            kills: random.below(2),
            disk_trouble: if random.chance(1, 2) { 10 } else { 0 },
            clock_jumps: if random.chance(1, 2) { 5 } else { 0 },
            idle: random.chance(1, 2),
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
    /// Times that the disk or the clock gave trouble.
    pub troubles: u64,
    /// Calls and requests that met planned trouble.
    pub met: u64,
    /// Restores of the newest state that were judged.
    pub restores: u64,
    /// Other restore points that were restored.
    pub points: u64,
    /// Restores that were refused, since a file was not what was stored.
    pub refusals: u64,
    /// Idle hours in which nothing was asked.
    pub idle_hours: u64,
    /// Slots that went up.
    pub slots: u64,
    /// Breaks of the frame chain that were mended.
    pub breaks: u64,
    /// Times that the database was parked.
    pub parkings: u64,
    /// Merged files that went up.
    pub compactions: u64,
    /// Snapshots that went up.
    pub snapshots: u64,
    /// Requests to delete.
    pub deletions: u64,
    /// Checkpoints of the engine's own.
    pub checkpoints: u64,
    /// Times that the engine ended because the replica had gone another way (a late put of its former life).
    pub stops: u64,
}

impl Report {
    /// Adds what another simulation did; the histories do not add up.
    pub fn add(&mut self, other: &Self) {
        self.history = 0;
        self.commits += other.commits;
        self.acknowledgements += other.acknowledgements;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.troubles += other.troubles;
        self.met += other.met;
        self.restores += other.restores;
        self.points += other.points;
        self.refusals += other.refusals;
        self.idle_hours += other.idle_hours;
        self.slots += other.slots;
        self.breaks += other.breaks;
        self.parkings += other.parkings;
        self.compactions += other.compactions;
        self.snapshots += other.snapshots;
        self.deletions += other.deletions;
        self.checkpoints += other.checkpoints;
        self.stops += other.stops;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, acknowledgements, crashes, kills, troubles, restores, points, .. } = self;
        write!(f, "commits={commits} acknowledgements={acknowledgements} crashes={crashes} kills={kills} ")?;
        write!(f, "troubles={troubles} restores={restores} points={points} refusals={} ", self.refusals)?;
        write!(f, "idle_hours={} slots={} ", self.idle_hours, self.slots)?;
        write!(f, "breaks={} parkings={} ", self.breaks, self.parkings)?;
        let Self { compactions, snapshots, deletions, checkpoints, .. } = self;
        write!(f, "compactions={compactions} snapshots={snapshots} deletions={deletions} ")?;
        write!(f, "checkpoints={checkpoints} stops={}", self.stops)
    }
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
    /// What to tell `simulate` to see it again.
    pub replay: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        for line in &self.trail {
            writeln!(f, "    {line}")?;
        }
        write!(f, "  replay: cargo run -p testkit --bin simulate -- {} --seeds 1", self.replay)
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
        Err(what) => Err(Box::new(Finding {
            seed: scenario.seed,
            what,
            trail: world.trail(),
            replay: scenario.replay(),
        })),
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
    Err(Box::new(Finding { seed: scenario.seed, what, trail: Vec::new(), replay: scenario.replay() }))
}
