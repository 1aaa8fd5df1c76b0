//! The bucket, the members, and what comes between them, turn by turn.

use super::handover::Plans;
use super::judge::{self, Line};
use super::member::{DATABASE, DIRECTORY, Member, SharedDesk, Start, make};
use super::{Report, Scenario};
use crate::clock::SimClock;
use crate::disk::Disk;
use crate::disk::vfs::Vfs;
use crate::faulty::{Fault, FaultyStore, Plan, Verb, Weather};
use crate::history::{History, fold};
use crate::random::SeededRandom;
use litekeep::error::KeepError;
use litekeep::local;
use litekeep::node::NodeSettings;
use litekeep::restore::{Options, Outcome, RestoreEnv, RestoreError, restore};
use litekeep::settings::{Durability, Settings};
use litekeep_core::env::Clock;
use litekeep_core::ownership::Times;
use litekeep_core::restore::Target;
use litekeep_formats::Level;
use litekeep_store::memory::MemoryStore;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Turns that it may take until somebody who wants to write has an acknowledgement, once all trouble is over.
pub(super) const REST: u64 = 6_000;

/// How many events of each kind a finding shows.
const TRAIL: usize = 40;

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) random: SeededRandom,
    pub(super) clock: SimClock,
    /// The members' ways to it have their trouble; this one has none.
    pub(super) bucket: FaultyStore,
    pub(super) members: Vec<Member>,
    pub(super) acknowledged: BTreeSet<i64>,
    /// Who said that its file lacks nothing while another one acknowledged what it lacks, the first time.
    pub(super) stale: Option<String>,
    next_id: i64,
    pub(super) report: Report,
    pub(super) plans: Plans,
    turns: History,
    pub(super) settings: NodeSettings,
}

pub(super) type Turn = Result<(), String>;

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let random = SeededRandom::new(scenario.seed);
        let clock = SimClock::new();
        let memory = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let bucket = FaultyStore::new(memory, clock.clone(), SeededRandom::new(1));
        let members = (0..scenario.members).map(|number| {
            let own = clock.apart();
            own.jump_wall(i64::try_from(random.below(1_200_000)).unwrap_or(0) - 600_000);
            Member {
                disk: empty_disk(&own, scenario.seed + number as u64),
                store: bucket.other_way(random.fork("way")),
                clock: own,
                desk: SharedDesk::default(),
                running: None,
                own: BTreeSet::new(),
                to_begin: false,
                asleep: 0,
                cut_off: 0,
                full_for: 0,
                past: 0,
            }
        });
        let members = members.collect();
        let mut settings = settings(&random.fork("settings"));
        settings.times.horizon = scenario.horizon.unwrap_or(settings.times.horizon);
        if scenario.idle {
            // Hours are watched, look by look.
            settings.look_every = Duration::from_secs(1);
        }
        if let Some(most) = scenario.max_slot_bytes {
            settings.replication.max_slot_bytes = most;
        }
        if scenario.slots_go_early {
            settings.replication.levels = vec![Duration::from_secs(1), Duration::from_secs(10)];
            settings.replication.l0_retention = Some(Duration::ZERO);
        }
        Self {
            scenario: scenario.clone(),
            clock,
            bucket,
            members,
            acknowledged: BTreeSet::new(),
            stale: None,
            next_id: 1,
            report: Report::default(),
            plans: Plans::default(),
            turns: History::default(),
            settings,
            random,
        }
    }

    pub(super) fn report(&self) -> Report {
        let parts = self
            .members
            .iter()
            .flat_map(|member| [member.past, member.disk.history(), member.store.history()]);
        let history = parts.chain([self.turns.digest()]);
        let history = history.fold(0, |digest, part| fold(digest, &part.to_le_bytes()));
        Report { history, freed: self.freed(), ..self.report.clone() }
    }

    /// How many slots the members deleted.
    fn freed(&self) -> u64 {
        let slots = format!("level {} file", Level::SLOTS);
        let records = self.members.iter().flat_map(|member| member.store.records());
        let deletes = records.filter(|record| record.verb == Verb::Delete && record.answer == "deleted");
        deletes.map(|record| record.object.matches(&slots).count() as u64).sum()
    }

    pub(super) fn trail(&self) -> Vec<String> {
        let newest = |mut lines: Vec<String>| lines.split_off(lines.len().saturating_sub(TRAIL));
        let mut trail = newest(self.turns.last());
        for (number, member) in self.members.iter().enumerate() {
            trail.push(format!("member {number}: {:?}", member.status()));
            trail.extend(newest(
                member.store.records().iter().map(|record| format!("{number} {record:?}")).collect(),
            ));
        }
        trail
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        let what = format!("{} ms: {}", self.clock.boot().as_millis(), what.into());
        tracing::debug!("{what}");
        self.turns.note(what, &[]);
    }

    pub(super) fn run(&mut self) -> Turn {
        self.set_weather(self.scenario.weather);
        for _ in 0..self.scenario.turns {
            self.turn()?;
        }
        self.come_to_rest()?;
        if self.scenario.idle {
            self.stay_idle()?;
        }
        self.last_judgement()
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.members.iter().for_each(|member| member.store.set_weather(weather));
    }

    fn turn(&mut self) -> Turn {
        let at = self.random.index(self.members.len());
        let trouble = self.random.below(1000);
        if trouble < self.scenario.deaths {
            self.death(at);
        } else if trouble < self.scenario.deaths + self.scenario.sleeps {
            self.sleep(at);
        } else {
            match self.random.below(100) {
                0..18 => self.write(at)?,
                18..58 => self.step(at)?,
                58..80 => self.job(at),
                80..95 => self.pass_time(),
                95..97 => self.spot_check()?,
                97 => self.leap(),
                _ => self.clock.advance(Duration::from_millis(self.random.between(1, 3000))),
            }
        }
        self.clock.advance(Duration::from_micros(self.random.between(10, 3000)));
        self.bucket.deliver();
        if self.scenario.leaps > 0 && self.random.chance(self.scenario.leaps, 100) {
            self.leap();
        }
        self.trouble(at)?;
        self.count_down()
    }

    /// Nobody is on time: past the hand-over, the reuse horizon (60 s), the life of a slot (180 s).
    fn leap(&mut self) {
        let by = Duration::from_secs(self.random.between(1, 300));
        self.note(format!("{} s pass", by.as_secs()));
        self.clock.advance(by);
    }

    fn count_down(&mut self) -> Turn {
        let weather = self.scenario.weather;
        for member in &mut self.members {
            member.asleep = member.asleep.saturating_sub(1);
            if member.cut_off == 1 {
                member.store.set_weather(weather);
            }
            member.cut_off = member.cut_off.saturating_sub(1);
            if member.full_for == 1 {
                member.disk.set_capacity(None);
            }
            member.full_for = member.full_for.saturating_sub(1);
        }
        (0..self.members.len()).try_for_each(|at| self.read_on(at))
    }

    /// A process dies, with or without its disk.
    fn death(&mut self, at: usize) {
        let wiped = self.random.chance(2, 3);
        self.note(format!("member {at} dies{}", if wiped { ", and its disk with it" } else { "" }));
        self.report.deaths += 1;
        let seed = self.random.below(u64::MAX);
        let member = &mut self.members[at];
        member.kill();
        if wiped {
            member.replace_disk(empty_disk(&member.clock, seed));
        }
    }

    /// A machine stands still, or has no way to the store, or one of its next creates is under way for very long.
    fn sleep(&mut self, at: usize) {
        if self.random.chance(1, 3) {
            return self.hold_one(at);
        }
        let turns = self.random.between(20, 150);
        let cut_off = self.random.chance(1, 2);
        self.note(format!("member {at} {} for {turns} turns", if cut_off { "is cut off" } else { "sleeps" }));
        let member = &mut self.members[at];
        if cut_off {
            member.cut_off = turns;
            member.store.set_weather(Weather { refused: 1000, ..Weather::CLEAR });
        } else {
            member.asleep = turns;
        }
    }

    fn hold_one(&mut self, at: usize) {
        let by = Duration::from_secs(self.random.between(5, 400));
        let fault = if self.random.chance(1, 2) { Fault::HeldBack(by) } else { Fault::Slow(by) };
        self.note(format!("member {at}: a create will meet {fault:?}"));
        self.report.late += 1;
        let (verb, skip) = (Some(Verb::Create), self.random.below(3));
        self.members[at].store.plan(Plan { verb, object: String::new(), skip, times: 1, fault });
    }

    pub(super) fn write(&mut self, at: usize) -> Turn {
        let filler = self.random.pick(&[10, 100, 3000, 9000]).copied().unwrap_or(10);
        let id = self.next_id;
        let member = &mut self.members[at];
        let Some(running) = member.running.as_mut().filter(|_| member.asleep == 0) else { return Ok(()) };
        let failures = running.failures();
        match running.write(&member.desk, id, filler) {
            Ok(false) => {}
            Ok(true) => {
                self.next_id += 1;
                self.report.commits += 1;
                member.own.insert(id);
                self.note(format!("member {at} commits {id}"));
            }
            Err(error) => {
                let failed = running.failures() > failures;
                // It may be there all the same.
                self.next_id += 1;
                if !self.mourn(at) && !failed {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, at: usize) -> Turn {
        let hurry = self.random.chance(1, 10);
        let now = self.clock.boot();
        let member = &mut self.members[at];
        if member.asleep > 0 {
            return Ok(());
        }
        let Some(running) = &mut member.running else { return self.join(at) };
        let goes_on = tracing::info_span!("member", at).in_scope(|| running.step(now, hurry));
        if self.mourn(at) {
            return Ok(());
        }
        self.hear(at);
        if goes_on { Ok(()) } else { self.ended(at) }
    }

    pub(super) fn hear(&mut self, at: usize) {
        let member = &mut self.members[at];
        if let Some(running) = &member.running {
            running.hear(&member.desk);
        }
        let mut desk = member.desk.get();
        let acknowledged = std::mem::take(&mut desk.acknowledged);
        member.to_begin &= acknowledged.is_empty();
        self.report.terms += std::mem::take(&mut desk.terms);
        self.report.closed += std::mem::take(&mut desk.closed);
        self.report.lost += std::mem::take(&mut desk.lost);
        drop(desk);
        if !acknowledged.is_empty() {
            self.report.acknowledged += acknowledged.len() as u64;
            self.note(format!("member {at} acknowledges {acknowledged:?}"));
            self.look_for_stale(at, &acknowledged);
            self.acknowledged.extend(acknowledged);
        }
    }

    /// Whoever says that nobody else can have written has what was acknowledged now; who sleeps would say so as well.
    fn look_for_stale(&mut self, at: usize, acknowledged: &[i64]) {
        for (other, member) in self.members.iter().enumerate() {
            let holds = member.running.as_ref().filter(|running| other != at && running.holds());
            let Some(line) = holds.and_then(|running| running.line().ok()) else { continue };
            if let Some(id) = acknowledged.iter().find(|id| !line.ids.contains(id)) {
                let ms = self.clock.boot().as_millis();
                let found = format!(
                    "{ms} ms: member {at} acknowledges {id}, and member {other} takes its file for the newest"
                );
                self.stale.get_or_insert(found);
            }
        }
    }

    pub(super) fn job(&mut self, at: usize) {
        let random = self.random.fork("job");
        let member = &mut self.members[at];
        if let Some(running) = member.running.as_mut().filter(|_| member.asleep == 0) {
            tracing::info_span!("member", at).in_scope(|| running.run_job(&random));
        }
        self.mourn(at);
    }

    /// Until somebody has something to do.
    pub(super) fn pass_time(&mut self) {
        let awake = self.members.iter().filter(|member| member.asleep == 0);
        let due = awake.filter_map(|member| member.running.as_ref()).map(|running| running.due()).min();
        if let Some(due) = due.filter(|due| *due < Duration::MAX) {
            self.clock.advance_to(due);
        }
    }

    /// A node that ends by itself: only one whose file was made to begin a chain, came too late, and was never owned.
    fn ended(&mut self, at: usize) -> Turn {
        let member = &mut self.members[at];
        let failure = member.status().and_then(|status| status.failure);
        let late = member.to_begin && matches!(failure.as_deref(), Some(KeepError::Beside { .. }));
        let failed = member.running.as_ref().is_some_and(|running| running.failures() > 0)
            && matches!(
                failure.as_deref(),
                Some(
                    KeepError::Io { .. }
                        | KeepError::Sqlite { .. }
                        | KeepError::Build { .. }
                        | KeepError::Local(_)
                )
            );
        member.kill();
        if failed {
            self.note(format!("member {at} ends by a failure of its disk: {failure:?}"));
            return Ok(());
        }
        if !late {
            return Err(format!("member {at} ended: {failure:?}"));
        }
        let seed = self.random.below(u64::MAX);
        let member = &mut self.members[at];
        member.replace_disk(empty_disk(&member.clock, seed));
        self.note(format!("member {at} came too late to begin, and begins again"));
        Ok(())
    }

    /// Whether a restore, or a first file, came to nothing by the machine's disk, so that the operator begins again with an
    /// empty one.
    fn disk_failed(&mut self, at: usize, failures: u64) -> bool {
        if !self.mourn(at) && self.members[at].disk.failures() == failures {
            return false;
        }
        self.note(format!("member {at} is to begin again, since its disk failed"));
        let seed = self.random.below(u64::MAX);
        let member = &mut self.members[at];
        member.replace_disk(empty_disk(&member.clock, seed));
        true
    }

    /// Restores, or begins, and starts the node.
    fn join(&mut self, at: usize) -> Turn {
        let there = self.members[at].disk.peek(DATABASE).is_some();
        let mut fresh = false;
        if !there {
            let member = &self.members[at];
            let failures = member.disk.failures();
            match bring(&member.disk, &member.store, &member.clock, Target::Latest) {
                Ok(Some(line)) => self.judge(&line)?,
                Ok(None) => match make(&member.disk) {
                    Ok(()) => fresh = true,
                    Err(_) if self.disk_failed(at, failures) => return Ok(()),
                    Err(error) => return Err(error.to_string()),
                },
                Err(_) if self.disk_failed(at, failures) => return Ok(()),
                Err(RestoreError::Unreachable(_) | RestoreError::Unsettled { .. }) => return Ok(()),
                // A read that stays short looks like a damaged file, as long as it does.
                Err(RestoreError::Damaged { .. } | RestoreError::Gap { .. })
                    if self.scenario.weather.truncated > 0 =>
                {
                    return Ok(());
                }
                Err(error) => return Err(format!("member {at} cannot restore: {error}")),
            }
        }
        if !there {
            self.members[at].to_begin = fresh;
        }
        self.note(format!("member {at} joins{}", if fresh { ", to begin" } else { "" }));
        let random = self.random.fork("member");
        let start = Start {
            random: &random,
            settings: NodeSettings { fresh, ..self.settings.clone() },
            decisions: self.scenario.decisions,
            bucket: self.scenario.bucket,
            files: self.scenario.files,
            writes_on: self.scenario.writes_on,
            believes_all: self.scenario.believes_all,
        };
        let failures = self.members[at].disk.failures();
        match self.members[at].start(start) {
            Err(_) if self.mourn(at) || self.members[at].disk.failures() > failures => Ok(()),
            other => other.map_err(|error| format!("member {at} does not start: {error}")),
        }
    }

    /// A restore from the bucket as it is now.
    pub(super) fn spot_check(&mut self) -> Turn {
        let scratch = empty_disk(&self.clock, 1);
        match bring(&scratch, &self.bucket, &self.clock, Target::Latest) {
            Ok(Some(line)) => self.judge(&line),
            Ok(None) if self.acknowledged.is_empty() => Ok(()),
            Ok(None) => Err(format!("the replica is empty; {:?} were acknowledged", self.acknowledged)),
            Err(error) => Err(format!("spot check: {error}")),
        }
    }

    /// A restored history holds everything acknowledged.
    fn judge(&mut self, line: &Line) -> Turn {
        self.report.restores += 1;
        let there: BTreeSet<i64> = line.ids.iter().copied().collect();
        let missing: Vec<_> = self.acknowledged.difference(&there).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("{missing:?} were acknowledged and are not there; the history is {:?}", line.ids))
    }

    /// A member gets its acknowledgement.
    pub(super) fn rest_of(&mut self, at: usize) -> Turn {
        self.note(format!("member {at} writes at rest"));
        let before = self.next_id;
        let mut wrote = false;
        let mut turns = 0;
        while !(wrote && self.acknowledged.range(before..).next().is_some()) {
            turns += 1;
            if turns > REST {
                return Err(format!("member {at} gets no acknowledgement: {:?}", self.members[at].status()));
            }
            // One row of its own; it is written again if it was undone.
            if !wrote || self.members[at].desk.get().waiting.is_empty() {
                wrote = self.next_id > before;
                self.write(at)?;
            }
            self.settle_turn()?;
        }
        Ok(())
    }

    pub(super) fn settle_turn(&mut self) -> Turn {
        for at in 0..self.members.len() {
            self.step(at)?;
            self.job(at);
        }
        self.pass_time();
        self.clock.advance(Duration::from_millis(1));
        self.bucket.deliver();
        Ok(())
    }
}

/// Restores as the command does, records it for the node, and reads what came; `None`: there is nothing yet.
pub(super) fn bring(
    disk: &Disk,
    store: &FaultyStore,
    clock: &SimClock,
    target: Target,
) -> Result<Option<Line>, RestoreError> {
    let process = disk.process();
    let vfs = Vfs::new(&process);
    let env = RestoreEnv {
        store: Arc::new(store.clone()),
        files: Arc::new(process.clone()),
        clock: Arc::new(clock.clone()),
        vfs: Some(vfs.name().to_owned()),
    };
    let state_dir = Some(local::directory(Path::new(DATABASE), None));
    let options =
        Options { parallelism: 1, if_replica_exists: true, state_dir, target, ..Options::new(DATABASE) };
    let Outcome::Restored(restored) = restore(&env, &options, &mut |_| {})? else { return Ok(None) };
    let wrong = |what: String| RestoreError::Sqlite(what);
    if let Some(record) = restored.record(env.store.location()) {
        local::record_restored(&env.files, &restored.output, None, &record)
            .map_err(|error| wrong(error.to_string()))?;
    }
    let connection = vfs.open(DATABASE).map_err(|error| wrong(error.to_string()))?;
    let line = judge::read(&connection).map_err(wrong)?;
    drop(connection);
    disk.sync_all();
    Ok(Some(line))
}

fn settings(random: &SeededRandom) -> NodeSettings {
    let some = |of: &[u64]| Duration::from_millis(random.pick(of).copied().unwrap_or(0));
    NodeSettings {
        replication: Settings {
            sync_interval: some(&[0, 10, 1000]),
            levels: vec![some(&[1000, 5000, 30_000]), some(&[10_000, 60_000])],
            restore_parallelism: 1,
            // At once: whatever retention may delete too early is to be found out.
            gather: Duration::ZERO,
            l0_retention: Some(some(&[0, 60_000])),
            durability: Durability::Replicated,
            ..Settings::default()
        },
        times: Times { tenure: some(&[500, 2000]), hand_over: some(&[100, 1000, 5000]), ..Times::USUAL },
        look_every: some(&[100, 1000]),
        parallelism: 1,
        ..NodeSettings::default()
    }
}

pub(super) fn empty_disk(clock: &SimClock, seed: u64) -> Disk {
    let disk = Disk::new(clock.clone(), seed);
    let placed = disk.place(format!("{DIRECTORY}/here"), b"");
    debug_assert!(placed.is_ok());
    disk
}
