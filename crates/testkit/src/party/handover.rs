//! One hand-over by a script: the first machine owns and goes on writing, the second begins to write, and at one planned
//! point of one of them comes trouble. Run for every point, and for every pair of points.

use super::world::{Turn, World, empty_disk};
use super::{Report, Scenario};
use crate::disk;
use crate::disk::Trap;
use crate::disk::vfs::SeededSqlite;
use crate::faulty::{Fault, Plan, Verb, Weather};
use crate::sim::Finding;
use litekeep::node::Role;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use std::time::Duration;

/// Turns that the two write through, and the time that passes in each.
const TURNS: u64 = 40;
const TURN: Duration = Duration::from_millis(250);

/// What goes wrong with a machine, counted from when the second one begins to write.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Its power goes at this changing call to its disk; the disk is kept as it is found, or wiped.
    Power {
        /// How many calls come first.
        call: u64,
        /// Whether the machine comes back with an empty disk.
        wiped: bool,
    },
    /// A call to its disk fails, or several.
    Disk(disk::Fault),
    /// A request to the bucket meets trouble.
    Request {
        /// Of these alone; `None`: of any.
        verb: Option<Verb>,
        /// How many requests come first.
        skip: u64,
        /// The trouble.
        fault: Fault,
    },
    /// It stands still after so many steps, for longer than the protocol waits for anybody.
    Sleep {
        /// How many steps come first.
        steps: u64,
    },
}

/// How long a machine that sleeps does: past tenure, hand-over and reuse horizon.
const SLEEP: Duration = Duration::from_secs(70);

/// What of a plan is still to come.
#[derive(Default)]
pub(super) struct Plans {
    /// Steps until a machine stands still.
    sleeps: Vec<(usize, u64)>,
    /// Machines whose disk is lost with their power.
    wiped: Vec<usize>,
    /// Until when each stands still.
    asleep: Vec<(usize, Duration)>,
}

fn scenario(seed: u64, decisions: Decisions) -> Scenario {
    let quiet = Scenario::plain(seed);
    Scenario { members: 2, turns: 0, weather: Weather::CLEAR, deaths: 0, sleeps: 0, decisions, ..quiet }
}

/// Plays the script.
///
/// # Errors
/// [`Finding`], the first one.
pub fn hand_over(
    seed: u64,
    troubles: &[(usize, Trouble)],
    decisions: Decisions,
) -> Result<Report, Box<Finding>> {
    let _alone = SeededSqlite::new(seed);
    let mut world = World::new(&scenario(seed, decisions));
    match world.play(troubles) {
        Ok(()) => Ok(world.report()),
        Err(what) => Err(Box::new(Finding {
            seed,
            what: format!("{troubles:?}: {what}"),
            trail: world.trail(),
            replay: "one of the sweeps of tests/sim/handover.rs".to_owned(),
        })),
    }
}

impl World {
    fn play(&mut self, troubles: &[(usize, Trouble)]) -> Turn {
        self.rest_of(0)?;
        while self.members[1].status().is_none_or(|status| status.role != Role::Standby) {
            self.settle_turn()?;
            self.clock.advance(TURN);
        }
        for (at, trouble) in troubles {
            self.arm(*at, trouble);
        }
        for _ in 0..TURNS {
            for at in 0..self.members.len() {
                self.count_steps(at);
                self.write(at)?;
            }
            self.settle_turn()?;
            self.clock.advance(TURN);
        }
        self.report.met += self.members.iter().map(|member| member.disk.failures()).sum::<u64>();
        let records = self.members.iter().flat_map(|member| member.store.records());
        self.report.met += records.filter(|record| record.fault.is_some()).count() as u64;
        self.plans.sleeps.clear();
        self.come_to_rest()?;
        self.last_judgement()
    }

    fn arm(&mut self, at: usize, trouble: &Trouble) {
        let member = &self.members[at];
        match trouble {
            Trouble::Power { call, wiped } => {
                member.disk.crash_at(Trap::PowerAt { call: *call });
                if *wiped {
                    self.plans.wiped.push(at);
                }
            }
            Trouble::Disk(fault) => member.disk.inject(fault.clone()),
            Trouble::Request { verb, skip, fault } => {
                member.store.plan(Plan {
                    verb: *verb,
                    object: String::new(),
                    skip: *skip,
                    times: 1,
                    fault: *fault,
                });
            }
            Trouble::Sleep { steps } => self.plans.sleeps.push((at, *steps)),
        }
    }

    /// Whether a machine falls asleep now, or wakes.
    fn count_steps(&mut self, at: usize) {
        let now = self.clock.boot();
        let mut fell_asleep = false;
        self.plans.sleeps.retain_mut(|(who, left)| {
            fell_asleep |= *who == at && *left == 0;
            *left = left.saturating_sub(u64::from(*who == at));
            *who != at || !fell_asleep
        });
        if fell_asleep {
            self.note(format!("member {at} falls asleep"));
            self.report.met += 1;
            self.members[at].asleep = u64::MAX;
            self.plans.asleep.push((at, now + SLEEP));
        }
        let awake: Vec<usize> =
            self.plans.asleep.extract_if(.., |(_, until)| *until <= now).map(|(who, _)| who).collect();
        awake.into_iter().for_each(|who| self.members[who].asleep = 0);
    }

    /// Sees whether a machine lost its power; `true` if so.
    pub(super) fn mourn(&mut self, at: usize) -> bool {
        if !self.members[at].disk.is_dead() {
            return false;
        }
        let by_chance = self.scenario.power_losses > 0 && self.random.chance(1, 3);
        let wiped = by_chance || self.plans.wiped.contains(&at);
        self.note(format!("member {at} loses its power{}", if wiped { ", and its disk" } else { "" }));
        self.report.deaths += 1;
        self.report.power_losses += 1;
        let seed = self.random.below(u64::MAX);
        let member = &mut self.members[at];
        member.kill();
        let disk = if wiped { empty_disk(&member.clock, seed) } else { member.disk.power_loss(seed) };
        member.replace_disk(disk);
        true
    }
}
