//! A simulated world, turn by turn: a machine, the bucket, and the operator who brings the machine back.

use super::engine::Engine;
use super::intervals::settings;
use super::machine::{DATABASE, Machine, WAL, empty_disk};
use super::{Crash, Fate, PromiseFlaw, Report, Scenario, trouble};
use crate::clock::SimClock;
use crate::disk::Trap;
use crate::faulty::{FaultyStore, Verb};
use crate::history::{History, fold};
use crate::random::SeededRandom;
use crate::workload::{Place, Shape};
use litekeep::error::KeepError;
use litekeep::settings::Settings;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, Txid};
use litekeep_store::memory::MemoryStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many events of each kind a finding shows.
const TRAIL: usize = 30;

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) random: SeededRandom,
    /// The time of everything, and the bucket's wall clock.
    pub(super) clock: SimClock,
    pub(super) store: FaultyStore,
    pub(super) settings: Settings,
    pub(super) machine: Machine,
    pub(super) interrupts: u64,
    /// The newest commit that the engine has said is in the replica.
    pub(super) acknowledged: Option<usize>,
    /// The bytes that each restore point gave when it was last looked at, as a digest.
    pub(super) proven: BTreeMap<Txid, u64>,
    /// A restore left no record for the engine, since the disk failed: it may find nothing to go on from.
    pub(super) unrecorded: bool,
    pub(super) crashes_left: u64,
    pub(super) report: Report,
    turns: History,
}

pub(super) type Turn = Result<(), String>;

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let random = SeededRandom::new(scenario.seed);
        let clock = SimClock::new();
        let replica = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let store = FaultyStore::new(replica, clock.clone(), random.fork("store"));
        let shape = scenario.shape.unwrap_or_else(|| Shape::any(&random.fork("shape")));
        let mut settings = settings(&random.fork("settings"));
        settings.max_slot_bytes = scenario.max_slot_bytes.unwrap_or(settings.max_slot_bytes);
        let interrupts =
            scenario.interrupts.unwrap_or_else(|| random.pick(&[0, 1000, 200, 50, 15]).copied().unwrap_or(0));
        let machine = Machine::new(clock.apart(), scenario.seed, shape, random.fork("desk"));
        let crashes_left = match scenario.crash {
            Crash::Never => 0,
            Crash::Times(times) => times,
            Crash::At(_) => 1,
        };
        Self {
            scenario: scenario.clone(),
            random,
            clock,
            store,
            settings,
            machine,
            interrupts,
            acknowledged: None,
            proven: BTreeMap::new(),
            unrecorded: false,
            crashes_left,
            report: Report::default(),
            turns: History::default(),
        }
    }

    pub(super) fn report(&self) -> Report {
        let parts = [self.machine.history(), self.store.history(), self.turns.digest()];
        let history = parts.iter().fold(0, |digest, part| fold(digest, &part.to_le_bytes()));
        Report { history, commits: self.machine.desk.get().commits, ..self.report.clone() }
    }

    /// The newest events of each kind, for a person.
    pub(super) fn trail(&self) -> Vec<String> {
        let newest = |mut lines: Vec<String>| lines.split_off(lines.len().saturating_sub(TRAIL));
        let mut trail = vec![format!("{:?}", self.machine.shape), format!("{:?}", self.settings)];
        trail.extend(self.autopsy(TRAIL as u64));
        trail.extend(newest(self.turns.last()));
        trail.extend(newest(self.machine.disk.last_calls()));
        let asked = self.store.records().into_iter().filter(|record| record.verb != Verb::List);
        trail.extend(newest(asked.map(|record| format!("{record:?}")).collect()));
        trail
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        let what = format!("{} ms: {}", self.clock.boot().as_millis(), what.into());
        self.turns.note(what, &[]);
    }

    pub(super) fn run(&mut self) -> Turn {
        self.store.set_weather(self.scenario.weather);
        if let Some(fault) = self.scenario.failing_call.take() {
            self.machine.disk.inject(fault);
        }
        if let Some(plan) = self.scenario.failing_request.take() {
            self.store.powered_by(Some(self.machine.disk.clone()));
            self.store.plan(plan);
        }
        self.set_trap();
        for _ in 0..self.scenario.turns {
            self.turn()?;
        }
        self.come_to_rest()?;
        if self.scenario.idle {
            self.stay_idle()?;
        }
        self.last_judgement()
    }

    /// Plans the next crash.
    fn set_trap(&mut self) {
        if self.crashes_left == 0 {
            return;
        }
        let call = match self.scenario.crash {
            Crash::Never => return,
            Crash::Times(_) => self.random.below(600),
            Crash::At(call) => call,
        };
        self.machine.disk.crash_at(Trap::PowerAt { call });
    }

    fn turn(&mut self) -> Turn {
        match self.random.below(100) {
            0..30 => self.app_turn(),
            30..65 => self.engine_turn()?,
            65..83 => self.job_turn(),
            83..89 => self.clock.advance(Duration::from_millis(self.random.between(1, 2000))),
            89..96 => self.machine.sleep_until_due(),
            96..97 => self.clock.advance(Duration::from_secs(self.random.between(1, 600))),
            97..98 => self.spot_check()?,
            _ => self.machine.ask(),
        }
        self.clock.advance(Duration::from_micros(self.random.between(10, 3000)));
        if self.random.chance(self.scenario.kills, 100) {
            self.kill_someone();
        }
        if let Some(what) = trouble::turn(&mut self.machine, &self.scenario, &self.random) {
            self.report.troubles += 1;
            self.note(what);
        }
        self.mourn()
    }

    pub(super) fn app_turn(&mut self) {
        if self.machine.app_rests > 0 {
            return;
        }
        let mut desk = self.machine.desk.get();
        if desk.app.is_some() {
            desk.act();
            return;
        }
        let before = desk.ledger.last();
        let refused = desk.open(&self.machine.disk, DATABASE);
        let after = desk.ledger.last();
        drop(desk);
        self.note(
            refused.map_or("the application starts".to_owned(), |why| format!("it does not start: {why}")),
        );
        if after < before && !self.machine.shape.synced {
            // Without syncs the application itself goes back in time.
            self.acknowledged = self.acknowledged.min(after);
            self.machine.question = None;
        }
    }

    pub(super) fn engine_turn(&mut self) -> Turn {
        if self.machine.engine_rests > 0 {
            return Ok(());
        }
        self.machine.allow_interruptions();
        let Some(engine) = &mut self.machine.engine else { return self.start_engine() };
        if engine.due() > self.clock.boot() && !self.random.chance(1, 10) {
            return Ok(());
        }
        let running = engine.step();
        if !self.machine.disk.is_dead() && engine.process().alive() {
            self.hear();
            if !running {
                return self.engine_ended();
            }
        }
        Ok(())
    }

    fn start_engine(&mut self) -> Turn {
        self.note("the engine starts");
        let random = self.random.fork("engine");
        let process = self.machine.disk.process();
        let settings = self.settings.clone();
        match Engine::start(process.clone(), &self.store, &random, settings, &self.scenario.flaws) {
            Ok(engine) => {
                if self.interrupts > 0 {
                    let random = self.random.fork("interruptions");
                    process.interrupt(self.machine.desk.interruption(random, self.interrupts));
                }
                self.machine.desk.get().poke = Some(engine.poker());
                self.machine.engine = Some(engine);
            }
            Err(error) if self.machine.disk.is_dead() || process.failures() > 0 => {
                self.note(format!("which fails: {error}"));
                self.machine.engine_rests = self.downtime();
            }
            Err(error) => return Err(format!("the engine does not start: {error}")),
        }
        Ok(())
    }

    /// An engine that ends by itself has met another history. That can only be a late put of its own former life;
    /// the operator restores.
    fn engine_ended(&mut self) -> Turn {
        let Some(engine) = self.machine.engine.take() else { return Ok(()) };
        let status = engine.status();
        self.count(&engine);
        drop(engine);
        let Some(failure) = status.failure else { return Ok(()) };
        let late_puts = self.scenario.weather.held_back > 0;
        let excused = match &*failure {
            KeepError::Fenced { .. } | KeepError::Beside { .. } | KeepError::Behind { .. } => {
                late_puts || !self.machine.shape.synced || self.unrecorded
            }
            _ => false,
        };
        if !excused {
            return Err(format!("the engine ended: {failure}"));
        }
        self.note(format!("the engine ended: {failure}; the operator restores"));
        self.report.stops += 1;
        self.machine.stop_app();
        self.bring_back()
    }

    pub(super) fn count(&mut self, engine: &Engine) {
        let status = engine.status();
        self.report.slots += status.slots;
        self.report.breaks += status.breaks;
        self.report.parkings += status.parkings;
        self.report.checkpoints += engine.checkpoints();
    }

    /// What the engines did in the bucket besides slots, and what met trouble.
    pub(super) fn count_requests(&mut self) {
        let report = &mut self.report;
        report.met = self.machine.disk.failures();
        for record in self.store.records() {
            report.met += u64::from(record.fault.is_some());
            let level = |level: Level| record.object.starts_with(&format!("level {level} file"));
            match record.verb {
                Verb::Put | Verb::Create if matches!(&*record.answer, "written" | "Yes") => {
                    let snapshot = level(Level::SNAPSHOTS);
                    let merged = !snapshot && !level(Level::SLOTS) && record.object.starts_with("level");
                    report.snapshots += u64::from(snapshot);
                    report.compactions += u64::from(merged);
                }
                Verb::Delete => report.deletions += u64::from(record.answer == "deleted"),
                _ => {}
            }
        }
    }

    pub(super) fn job_turn(&mut self) {
        self.machine.allow_interruptions();
        if let Some(engine) = &mut self.machine.engine {
            engine.run_job(&self.random);
        }
    }

    /// Hears whether the promise was given.
    fn hear(&mut self) {
        let (Some(engine), Some(question)) = (&self.machine.engine, self.machine.question) else { return };
        let (built, _) = engine.reached();
        let given = match self.scenario.flaws.promise {
            PromiseFlaw::None => engine.answered(question.ticket),
            PromiseFlaw::Built => built > question.built,
            PromiseFlaw::Hasty => {
                let seems_done = question.built.is_some() && question.built == question.durable;
                seems_done || engine.answered(question.ticket)
            }
        };
        if given {
            self.machine.question = None;
            self.acknowledged = self.acknowledged.max(Some(question.commit));
            self.report.acknowledgements += 1;
            self.note(format!("commit {} is acknowledged", question.commit));
        }
    }

    fn kill_someone(&mut self) {
        if self.crashes_left > 0 {
            return;
        }
        let (app, engine) = self.machine.processes();
        let one = if self.random.chance(1, 3) { app.or(engine) } else { engine.or(app) };
        if let Some(pid) = one {
            self.machine.disk.crash_at(Trap::KillAt { pid, call: self.random.below(60) });
        }
    }

    /// Sees who died, and what an application should not have seen.
    pub(super) fn mourn(&mut self) -> Turn {
        let machine = &mut self.machine;
        (machine.engine_rests, machine.app_rests) =
            (machine.engine_rests.saturating_sub(1), machine.app_rests.saturating_sub(1));
        if machine.disk.is_dead() {
            return self.after_power_loss();
        }
        let (finding, poked, died) = {
            let mut desk = machine.desk.get();
            (desk.finding.take(), std::mem::take(&mut desk.poked), std::mem::take(&mut desk.died))
        };
        if let Some(finding) = finding {
            return Err(format!("the application: {finding}"));
        }
        if let Some(engine) = machine.engine.as_mut().filter(|_| poked) {
            engine.hurry();
        }
        if died {
            self.note("the application was killed");
            self.report.kills += 1;
            // A commit that the next one finds is durable only once the operating system has written it.
            for path in [DATABASE, WAL] {
                self.machine.disk.flush(path);
            }
            self.machine.app_rests = self.downtime();
        }
        if let Some(engine) = self.machine.engine.take_if(|engine| !engine.process().alive()) {
            self.note("the engine was killed");
            self.report.kills += 1;
            self.machine.question = None;
            self.count(&engine);
            self.machine.engine_rests = self.downtime();
        }
        Ok(())
    }

    /// How many turns a process stays down.
    fn downtime(&self) -> u64 {
        self.random.pick(&[0, 0, 5, 30, 100]).copied().unwrap_or(0)
    }

    fn after_power_loss(&mut self) -> Turn {
        self.report.crashes += 1;
        self.store.powered_by(None);
        self.crashes_left = self.crashes_left.saturating_sub(1);
        self.machine.question = None;
        self.machine.stop_app();
        if let Some(engine) = self.machine.engine.take() {
            self.count(&engine);
        }
        {
            let mut desk = self.machine.desk.get();
            (desk.finding, desk.died) = (None, false);
        }
        (self.machine.engine_rests, self.machine.app_rests) = (self.downtime(), self.downtime());
        let wiped = match self.scenario.disk {
            Fate::Survives => false,
            Fate::Wiped => true,
            Fate::Either => self.random.chance(1, 2),
        };
        let down = self.random.pick(&[100, 3000, 90_000]).copied().unwrap_or(100);
        self.clock.advance(Duration::from_millis(self.random.below(down)));
        if wiped {
            self.note("power loss; the disk is wiped");
            self.bring_back()?;
        } else {
            self.note("power loss; the disk survives");
            let disk = self.machine.disk.power_loss(self.random.below(u64::MAX));
            disk.set_capacity(None);
            self.machine.put_in(disk);
            if !self.machine.shape.synced {
                // The file itself may have gone back, and the engine follows it; how far, the application finds out.
                self.acknowledged = None;
            }
        }
        self.set_trap();
        Ok(())
    }

    /// A new disk, and on it what the replica gives.
    fn bring_back(&mut self) -> Turn {
        self.machine.engine = None;
        self.machine.question = None;
        self.machine.put_in(empty_disk(&self.machine.clock, self.random.below(u64::MAX)));
        let disk = self.machine.disk.clone();
        if self.random.chance(self.scenario.disk_trouble, 60) {
            let fault = trouble::fail_one(&disk, &self.random, self.random.below(40));
            self.note(format!("a call of the restore will fail: {fault:?}"));
        }
        let found = self.restore_patiently(&disk)?;
        let last = self.machine.last_commit();
        self.note(format!("restored commit {found:?} of {last:?}, acknowledged {:?}", self.acknowledged));
        self.machine.desk.get().ledger.go_back(found);
        Ok(())
    }

    /// Where the newest commit stands.
    pub(super) fn newest(&self) -> Place {
        Place::on_the_way(self.machine.last_commit())
    }
}
