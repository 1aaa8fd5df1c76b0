//! The second simulation: two or three machines on one bucket, each a node (`litekeep::node`) with an application that
//! wants to write now and then. Machines are wiped, killed, put to sleep and cut off; puts arrive long after they were
//! sent, also after their sender's death.
//!
//! The judge knows nothing of the protocol. Every row carries the digest of the row before it, so what a restore gives is one
//! line of history or is found out to be a mix; every row that was acknowledged must be in it, and none twice.

pub mod handover;
mod judge;
mod member;
mod world;
pub mod wrong;

use crate::disk::vfs::SeededSqlite;
use crate::faulty::Weather;
use crate::random::SeededRandom;
use crate::sim::{BucketFlaw, Finding};
use litekeep_core::decisions::Decisions;
use std::fmt;
use world::World;

/// What happens, besides what the seed decides.
#[derive(Clone)]
pub struct Scenario {
    /// Decides everything else.
    pub seed: u64,
    /// How many machines.
    pub members: usize,
    /// Turns of everybody together before it all comes to rest.
    pub turns: u64,
    /// The store's behaviour until then.
    pub weather: Weather,
    /// In so many of a thousand turns: a process is killed or its machine wiped.
    pub deaths: u64,
    /// In so many of a thousand turns: a machine sleeps, or is cut off from the store, for longer than the protocol
    /// waits, or one of its next creates is.
    pub sleeps: u64,
    /// The engine's verdicts.
    pub decisions: Decisions,
    /// How it takes the bucket.
    pub bucket: BucketFlaw,
    /// Whether an application goes on writing when it is told to stop: a wrong one.
    pub writes_on: bool,
    /// Whether everything committed counts as acknowledged when an epoch ends, however it ends: a wrong one.
    pub believes_all: bool,
}

impl Scenario {
    /// Some of everything.
    pub fn any(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0003_0000);
        let some = |of: &[u64]| random.pick(of).copied().unwrap_or(0);
        let held_back = some(&[0, 20, 60]);
        let weather = if random.chance(1, 2) { Weather::CLEAR } else { Weather::STORM };
        let members = if random.chance(1, 4) { 3 } else { 2 };
        let turns = some(&[150, 300, 600]);
        let (deaths, sleeps) = (some(&[0, 5, 15]), some(&[0, 5, 15]));
        Self {
            seed,
            members,
            turns,
            weather: Weather { held_back, truncated: some(&[0, 0, 20]), ..weather },
            deaths,
            sleeps,
            decisions: Decisions::RIGHT,
            bucket: BucketFlaw::None,
            writes_on: false,
            believes_all: false,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Digest of everything that reached the disks and the store, in order.
    pub history: u64,
    /// Rows committed.
    pub commits: u64,
    /// Rows acknowledged.
    pub acknowledged: u64,
    /// Times that somebody began to own.
    pub terms: u64,
    /// Times that an owner closed its epoch.
    pub closed: u64,
    /// Times that an owner was fenced.
    pub lost: u64,
    /// Processes killed and machines wiped.
    pub deaths: u64,
    /// Creates whose answer came, or that arrived, only after the protocol's times.
    pub late: u64,
    /// Slots deleted.
    pub freed: u64,
    /// Restores that were judged.
    pub restores: u64,
    /// Planned troubles of a script that were met.
    pub met: u64,
}

impl Report {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.acknowledged += other.acknowledged;
        self.terms += other.terms;
        self.closed += other.closed;
        self.lost += other.lost;
        self.deaths += other.deaths;
        self.late += other.late;
        self.freed += other.freed;
        self.restores += other.restores;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, acknowledged, terms, closed, lost, deaths, late, freed, restores, .. } = self;
        write!(
            f,
            "commits={commits} acknowledgements={acknowledged} terms={terms} closed={closed} lost={lost} "
        )?;
        write!(f, "deaths={deaths} late={late} freed={freed} restores={restores}")
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
            replay: replay(scenario.seed),
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
    Err(Box::new(Finding { seed: scenario.seed, what, trail: Vec::new(), replay: replay(scenario.seed) }))
}

fn replay(seed: u64) -> String {
    format!("--scenario party --from {seed}")
}
