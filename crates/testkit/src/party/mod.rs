//! The second simulation: two or three machines on one bucket, each a node (`litekeep::node`) with an application that
//! wants to write now and then. Machines are wiped, killed, put to sleep and cut off; puts arrive long after they were
//! sent, also after their sender's death.
//!
//! The judge knows nothing of the protocol. Every row carries the digest of the row before it, so what a restore gives is one
//! line of history or is found out to be a mix; every row that was acknowledged must be in it, and none twice. A row that
//! was not, and that the history lacks at the end, must lie aside on the machine that committed it.

pub mod handover;
mod judge;
mod member;
mod rest;
mod trouble;
mod world;
pub mod wrong;

use crate::disk::vfs::SeededSqlite;
use crate::faulty::Weather;
use crate::random::SeededRandom;
use crate::sim::{BucketFlaw, FilesFlaw, Finding};
use litekeep_core::decisions::Decisions;
use std::fmt;
use std::time::Duration;
use world::World;

/// What happens, besides what the seed decides.
#[derive(Clone)]
pub struct Scenario {
    /// Decides everything else.
    pub seed: u64,
    /// What people call it.
    pub name: &'static str,
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
    /// In so many of a thousand turns a machine's wall clock jumps by up to ten minutes.
    pub clock_jumps: u64,
    /// In so many of a thousand turns an application begins to read for long, or writes its database anew.
    pub odd_work: u64,
    /// In so many of a thousand turns a machine's disk begins to be full, or to fail calls.
    pub disk_trouble: u64,
    /// In so many of a thousand turns a machine's power goes, at one of its next calls to the disk.
    pub power_losses: u64,
    /// In so many of a hundred turns nobody is on time, besides the usual one.
    pub leaps: u64,
    /// Slots go as soon as they may.
    pub slots_go_early: bool,
    /// What one put carries, if it is little: images go up as streams then.
    pub max_slot_bytes: Option<u64>,
    /// Whether everybody is idle at the end, and what they ask for then is counted.
    pub idle: bool,
    /// How many restore points are restored at the end.
    pub points: usize,
    /// How old a proof may be, if not as old as the protocol says: a wrong one.
    pub horizon: Option<Duration>,
    /// The engine's verdicts.
    pub decisions: Decisions,
    /// How it takes the bucket.
    pub bucket: BucketFlaw,
    /// How it takes the local disk.
    pub files: FilesFlaw,
    /// Whether an application goes on writing when it is told to stop: a wrong one.
    pub writes_on: bool,
    /// Whether everything committed counts as acknowledged when an epoch ends, however it ends: a wrong one.
    pub believes_all: bool,
}

impl Scenario {
    /// Some of everything.
    pub fn any(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0004_0000);
        let some = |of: &[u64]| random.pick(of).copied().unwrap_or(0);
        Self {
            clock_jumps: some(&[0, 0, 10]),
            odd_work: some(&[0, 0, 30]),
            disk_trouble: some(&[0, 0, 10]),
            power_losses: some(&[0, 0, 10]),
            idle: random.chance(1, 12),
            points: if random.chance(1, 8) { usize::MAX } else { 4 },
            ..Self::plain(seed)
        }
    }

    /// Every kind of trouble, and all of it often: machines that have hardly come back when their disk fails again.
    pub fn worst(seed: u64) -> Self {
        let some = Self::any(seed);
        Self {
            deaths: some.deaths.max(5),
            sleeps: some.sleeps.max(5),
            clock_jumps: 10,
            odd_work: 30,
            disk_trouble: 20,
            power_losses: 20,
            name: "worst",
            ..some
        }
    }

    /// Images that no slot can carry, in all of that.
    pub fn streams(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0005_0000);
        let max_slot_bytes = random.pick(&[4_000, 20_000, 60_000]).copied();
        let some = if random.chance(1, 3) { Self::worst(seed) } else { Self::any(seed) };
        Self { name: "party-streams", max_slot_bytes, deaths: some.deaths.max(5), ..some }
    }

    /// Machines that sleep, and time that passes, beyond the life of a slot; and slots that go as soon as they may.
    pub fn sleepers(seed: u64) -> Self {
        let weather = Weather::CLEAR;
        Self {
            weather,
            deaths: 0,
            sleeps: 40,
            leaps: 6,
            turns: 600,
            slots_go_early: true,
            ..Self::plain(seed)
        }
    }

    /// Machines that die, sleep and are cut off, and nothing else.
    pub(super) fn plain(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x0003_0000);
        let some = |of: &[u64]| random.pick(of).copied().unwrap_or(0);
        let held_back = some(&[0, 20, 60]);
        let weather = if random.chance(1, 2) { Weather::CLEAR } else { Weather::STORM };
        let members = if random.chance(1, 4) { 3 } else { 2 };
        let turns = some(&[150, 300, 600]);
        let (deaths, sleeps) = (some(&[0, 5, 15]), some(&[0, 5, 15]));
        Self {
            seed,
            name: "party",
            max_slot_bytes: None,
            members,
            turns,
            weather: Weather { held_back, truncated: some(&[0, 0, 20]), ..weather },
            deaths,
            sleeps,
            clock_jumps: 0,
            odd_work: 0,
            disk_trouble: 0,
            power_losses: 0,
            leaps: 0,
            slots_go_early: false,
            idle: false,
            points: 0,
            horizon: None,
            decisions: Decisions::RIGHT,
            bucket: BucketFlaw::None,
            files: FilesFlaw::None,
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
    /// Other restore points that were judged.
    pub points: u64,
    /// Times that a disk, a clock or an application's odd work gave trouble.
    pub troubles: u64,
    /// Machines that lost their power.
    pub power_losses: u64,
    /// Idle times in which nothing but looks was asked.
    pub idle: u64,
    /// Rows that the history lacks and that lie aside.
    pub asides: u64,
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
        self.points += other.points;
        self.troubles += other.troubles;
        self.power_losses += other.power_losses;
        self.idle += other.idle;
        self.asides += other.asides;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, acknowledged, terms, closed, lost, deaths, late, freed, restores, .. } = self;
        write!(
            f,
            "commits={commits} acknowledgements={acknowledged} terms={terms} closed={closed} lost={lost} "
        )?;
        write!(f, "deaths={deaths} late={late} freed={freed} restores={restores} ")?;
        let Self { points, troubles, power_losses, idle, asides, .. } = self;
        write!(
            f,
            "points={points} troubles={troubles} power_losses={power_losses} idle={idle} asides={asides}"
        )
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
            replay: replay(scenario),
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
    Err(Box::new(Finding { seed: scenario.seed, what, trail: Vec::new(), replay: replay(scenario) }))
}

fn replay(scenario: &Scenario) -> String {
    format!("--scenario {} --from {}", scenario.name, scenario.seed)
}
