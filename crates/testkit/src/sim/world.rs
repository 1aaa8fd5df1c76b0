//! One simulated machine, its bucket and its operator, turn by turn.

use super::desk::{Desk, SharedDesk};
use super::engine::Engine;
use super::intervals::settings;
use super::{Crash, Fate, Report, Scenario};
use crate::clock::SimClock;
use crate::disk::vfs::Vfs;
use crate::disk::{Disk, Trap};
use crate::faulty::{FaultyStore, Verb, Weather};
use crate::history::{History, fold};
use crate::random::SeededRandom;
use crate::workload::{Ledger, Place, Shape, judge};
use litekeep::error::KeepError;
use litekeep::local::{self, LocalError};
use litekeep::restore::{Options, Outcome, RestoreEnv, RestoreError, Restored, Skipped, restore};
use litekeep::settings::Settings;
use litekeep_core::env::Clock;
use litekeep_core::restore::Target;
use litekeep_formats::{Level, Txid};
use litekeep_store::memory::MemoryStore;
use litekeep_store::{Key, Scope};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DIRECTORY: &str = "/data";
const DATABASE: &str = "/data/app.db";
const STATE: &str = "/data/.app.db-litekeep";

/// How often the application may come between the calls of one turn of the engine: a writer that never pauses could
/// keep it busy for ever.
const INTERRUPTIONS: u64 = 12;

/// How many events of each kind a finding shows.
const TRAIL: usize = 30;

/// Turns that everything may take to come to rest once all trouble is over.
const REST: u64 = 20_000;

pub(super) struct World {
    scenario: Scenario,
    random: SeededRandom,
    clock: SimClock,
    disk: Disk,
    store: FaultyStore,
    shape: Shape,
    settings: Settings,
    desk: SharedDesk,
    engine: Option<Engine>,
    interrupts: u64,
    /// Turns for which the engine, the application stay down.
    engine_rests: u64,
    app_rests: u64,
    /// The newest commit that the engine has said is in the replica.
    acknowledged: Option<usize>,
    /// A question to the engine, and what was committed when it was asked.
    question: Option<(u64, usize)>,
    crashes_left: u64,
    report: Report,
    turns: History,
    past: u64,
}

type Turn = Result<(), String>;

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let random = SeededRandom::new(scenario.seed);
        let clock = SimClock::new();
        let disk = empty_disk(&clock, scenario.seed);
        let replica = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let store = FaultyStore::new(replica, clock.clone(), random.fork("store"));
        let shape = scenario.shape.unwrap_or_else(|| Shape::any(&random.fork("shape")));
        let settings = settings(&random.fork("settings"));
        let interrupts =
            scenario.interrupts.unwrap_or_else(|| random.pick(&[0, 1000, 200, 50, 15]).copied().unwrap_or(0));
        let desk = SharedDesk::new(Desk::new(shape, random.fork("desk")));
        let crashes_left = match scenario.crash {
            Crash::Never => 0,
            Crash::Times(times) => times,
            Crash::At(_) => 1,
        };
        Self {
            scenario: scenario.clone(),
            random,
            clock,
            disk,
            store,
            shape,
            settings,
            desk,
            engine: None,
            interrupts,
            engine_rests: 0,
            app_rests: 0,
            acknowledged: None,
            question: None,
            crashes_left,
            report: Report::default(),
            turns: History::default(),
            past: 0,
        }
    }

    pub(super) fn report(&self) -> Report {
        let parts = [
            self.past,
            self.disk.history(),
            self.store.history(),
            self.desk.get().ledger.digest(),
            self.turns.digest(),
        ];
        let history = parts.iter().fold(0, |digest, part| fold(digest, &part.to_le_bytes()));
        Report { history, commits: self.desk.get().commits, ..self.report.clone() }
    }

    /// The newest events of each kind, for a person.
    pub(super) fn trail(&self) -> Vec<String> {
        let newest = |mut lines: Vec<String>| lines.split_off(lines.len().saturating_sub(TRAIL));
        let mut trail = vec![format!("{:?}", self.shape), format!("{:?}", self.settings)];
        trail.extend(self.autopsy());
        trail.extend(newest(self.turns.last()));
        trail.extend(newest(self.disk.last_calls()));
        let asked = self.store.records().into_iter().filter(|record| record.verb != Verb::List);
        trail.extend(newest(asked.map(|record| format!("{record:?}")).collect()));
        trail
    }

    /// Which commit each transaction of the replica holds.
    fn autopsy(&self) -> Vec<String> {
        let fair = FaultyStore::new(Arc::clone(self.store.inner()), self.clock.clone(), SeededRandom::new(1));
        let ledger = self.ledger();
        let look = |txid: Txid| {
            let scratch = empty_disk(&self.clock, 1);
            let process = scratch.process();
            let vfs = Vfs::new(&process);
            let env = RestoreEnv {
                store: Arc::new(fair.clone()),
                files: Arc::new(process.clone()),
                clock: Arc::new(self.clock.clone()),
                vfs: Some(vfs.name().to_owned()),
            };
            let options = Options { target: Target::Txid(txid), ..options() };
            let found = restore(&env, &options, &mut |_| {}).map_err(|error| error.to_string());
            let found = found.and_then(|_| judge(&scratch, DATABASE, &ledger));
            let shown =
                format!("{found:?}").lines().next().unwrap_or_default().chars().take(160).collect::<String>();
            format!("transaction {txid}: {shown}")
        };
        let slots = self.store.inner().list(&Scope::Level(Level::SLOTS)).unwrap_or_default();
        let newest = slots.iter().filter_map(|entry| match entry.key {
            Key::Ltx(_, range) => Some(range.max().get()),
            _ => None,
        });
        let newest = newest.max().unwrap_or(0);
        (newest.saturating_sub(TRAIL as u64)..=newest).filter_map(Txid::new).map(look).collect()
    }

    fn note(&mut self, what: impl Into<String>) {
        let what = format!("{} ms: {}", self.clock.boot().as_millis(), what.into());
        self.turns.note(what, &[]);
    }

    pub(super) fn run(&mut self) -> Turn {
        self.store.set_weather(self.scenario.weather);
        self.set_trap();
        for _ in 0..self.scenario.turns {
            self.turn()?;
        }
        self.come_to_rest()?;
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
        self.disk.crash_at(Trap::PowerAt { call });
    }

    fn turn(&mut self) -> Turn {
        match self.random.below(100) {
            0..30 => self.app_turn(),
            30..65 => self.engine_turn()?,
            65..83 => self.job_turn(),
            83..89 => self.clock.advance(Duration::from_millis(self.random.between(1, 2000))),
            89..96 => self.sleep_until_due(),
            96..97 => self.clock.advance(Duration::from_secs(self.random.between(1, 600))),
            97..98 => self.spot_check()?,
            98..99 if self.scenario.kills => self.kill_someone(),
            _ => self.ask(),
        }
        self.clock.advance(Duration::from_micros(self.random.between(10, 3000)));
        self.mourn()
    }

    fn app_turn(&mut self) {
        if self.app_rests > 0 {
            return;
        }
        let mut desk = self.desk.get();
        if desk.app.is_some() {
            desk.act();
            return;
        }
        let before = desk.ledger.last();
        desk.open(&self.disk, DATABASE);
        let after = desk.ledger.last();
        drop(desk);
        self.note("the application starts");
        if after < before && !self.shape.synced {
            // Without syncs the application itself goes back in time.
            self.acknowledged = self.acknowledged.min(after);
            self.question = None;
        }
    }

    fn ledger(&self) -> Ledger {
        self.desk.get().ledger.clone()
    }

    fn last_commit(&self) -> Option<usize> {
        self.desk.get().ledger.last()
    }

    fn app_runs(&self) -> bool {
        self.desk.get().app.is_some()
    }

    fn stop_app(&mut self) {
        self.desk.get().app = None;
    }

    fn engine_turn(&mut self) -> Turn {
        if self.engine_rests > 0 {
            return Ok(());
        }
        let Some(engine) = &mut self.engine else { return self.start_engine() };
        if engine.due() > self.clock.boot() && !self.random.chance(1, 10) {
            return Ok(());
        }
        self.desk.get().interruptions = INTERRUPTIONS;
        let running = engine.step();
        if !self.disk.is_dead() && engine.process().alive() {
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
        let settings = self.settings.clone();
        match Engine::start(&self.disk, &self.store, &random, settings, &self.scenario, DATABASE) {
            Ok(engine) => {
                if self.interrupts > 0 {
                    let random = self.random.fork("interruptions");
                    engine.process().interrupt(self.desk.interruption(random, self.interrupts));
                }
                self.desk.get().poke = Some(engine.poker());
                self.engine = Some(engine);
            }
            Err(error) if self.disk.is_dead() => self.note(format!("which fails: {error}")),
            Err(error) => return Err(format!("the engine does not start: {error}")),
        }
        Ok(())
    }

    /// An engine that ends by itself has met another history. That can only be a late put of its own former life;
    /// the operator restores.
    fn engine_ended(&mut self) -> Turn {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let status = engine.status();
        self.count(&engine);
        drop(engine);
        let Some(failure) = status.failure else { return Ok(()) };
        let late_puts = self.scenario.weather.held_back > 0;
        let excused = match &*failure {
            KeepError::Fenced { .. } | KeepError::Beside { .. } | KeepError::Behind { .. } => {
                late_puts || !self.shape.synced
            }
            _ => false,
        };
        if !excused {
            return Err(format!("the engine ended: {failure}"));
        }
        self.note(format!("the engine ended: {failure}; the operator restores"));
        self.report.stops += 1;
        self.stop_app();
        self.bring_back()
    }

    fn count(&mut self, engine: &Engine) {
        let status = engine.status();
        self.report.slots += status.slots;
        self.report.breaks += status.breaks;
    }

    fn job_turn(&mut self) {
        if let Some(engine) = &mut self.engine {
            self.desk.get().interruptions = INTERRUPTIONS;
            engine.run_job(&self.random);
        }
    }

    fn sleep_until_due(&mut self) {
        if let Some(engine) = &self.engine
            && engine.due() < Duration::MAX
        {
            self.clock.advance_to(engine.due());
        }
    }

    /// Asks the engine for a promise.
    fn ask(&mut self) {
        let last = self.desk.get().ledger.last_confirmed();
        if let (Some(engine), Some(last), None) = (&mut self.engine, last, self.question) {
            self.question = Some((engine.ask(), last));
        }
    }

    /// Hears whether the promise was given.
    fn hear(&mut self) {
        if let (Some(engine), Some((ticket, commit))) = (&self.engine, self.question)
            && engine.answered(ticket)
        {
            self.question = None;
            self.acknowledged = self.acknowledged.max(Some(commit));
            self.report.acknowledgements += 1;
            self.note(format!("commit {commit} is acknowledged"));
        }
    }

    fn kill_someone(&mut self) {
        if self.crashes_left > 0 {
            return;
        }
        let app = self.desk.get().app.as_ref().map(|app| app.process().pid());
        let engine = self.engine.as_ref().map(|engine| engine.process().pid());
        let one = if self.random.chance(1, 3) { app.or(engine) } else { engine.or(app) };
        if let Some(pid) = one {
            self.disk.crash_at(Trap::KillAt { pid, call: self.random.below(60) });
        }
    }

    /// Sees who died, and what an application should not have seen.
    fn mourn(&mut self) -> Turn {
        (self.engine_rests, self.app_rests) =
            (self.engine_rests.saturating_sub(1), self.app_rests.saturating_sub(1));
        if self.disk.is_dead() {
            return self.after_power_loss();
        }
        let (finding, poked) = {
            let mut desk = self.desk.get();
            (desk.finding.take(), std::mem::take(&mut desk.poked))
        };
        if let Some(finding) = finding {
            return Err(format!("the application: {finding}"));
        }
        if let Some(engine) = self.engine.as_mut().filter(|_| poked) {
            engine.hurry();
        }
        let app_died = std::mem::take(&mut self.desk.get().died);
        if app_died {
            self.note("the application was killed");
            self.report.kills += 1;
            self.app_rests = self.downtime();
        }
        if let Some(engine) = self.engine.take_if(|engine| !engine.process().alive()) {
            self.note("the engine was killed");
            self.report.kills += 1;
            self.question = None;
            self.count(&engine);
            self.engine_rests = self.downtime();
        }
        Ok(())
    }

    /// How many turns a process stays down.
    fn downtime(&self) -> u64 {
        self.random.pick(&[0, 0, 5, 30, 100]).copied().unwrap_or(0)
    }

    fn after_power_loss(&mut self) -> Turn {
        self.report.crashes += 1;
        self.crashes_left = self.crashes_left.saturating_sub(1);
        self.question = None;
        self.stop_app();
        if let Some(engine) = self.engine.take() {
            self.count(&engine);
        }
        {
            let mut desk = self.desk.get();
            (desk.finding, desk.died) = (None, false);
        }
        (self.engine_rests, self.app_rests) = (self.downtime(), self.downtime());
        self.past = fold(self.past, &self.disk.history().to_le_bytes());
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
            self.disk = self.disk.power_loss(self.random.below(u64::MAX));
        }
        self.set_trap();
        Ok(())
    }

    /// A new disk, and on it what the replica gives.
    fn bring_back(&mut self) -> Turn {
        self.engine = None;
        self.question = None;
        self.past = fold(self.past, &self.disk.history().to_le_bytes());
        self.disk = empty_disk(&self.clock, self.random.below(u64::MAX));
        let disk = self.disk.clone();
        let found = self.restore_patiently(&disk)?;
        let last = self.last_commit();
        self.note(format!("restored commit {found:?} of {last:?}, acknowledged {:?}", self.acknowledged));
        let ledger = &mut self.desk.get().ledger;
        ledger.go_back(found);
        Ok(())
    }

    /// Restores in whatever weather there is, and at last in fair weather; judges what came of it.
    fn restore_patiently(&mut self, disk: &Disk) -> Result<Place, String> {
        let weather = self.scenario.weather;
        for attempt in 0..8 {
            if attempt == 6 {
                self.store.set_weather(Weather::CLEAR);
            }
            match self.restore(&self.store.clone(), disk) {
                Ok(found) => {
                    self.store.set_weather(weather);
                    return Ok(found);
                }
                Err(RestoreError::Unreachable(_) | RestoreError::Unsettled { .. }) if attempt < 6 => {}
                // A read that stays short looks like a damaged file.
                Err(RestoreError::Damaged { .. } | RestoreError::Gap { .. })
                    if attempt < 6 && weather.truncated > 0 => {}
                Err(error) => return Err(format!("restore: {error}")),
            }
            self.clock.advance(Duration::from_secs(5));
        }
        Err("restore does not come to an end in fair weather".to_owned())
    }

    /// One restore; the commit that it gave, none for a replica that was never written. What it leaves for the
    /// engine's next start is recorded, as the command does it.
    fn restore(&mut self, store: &FaultyStore, disk: &Disk) -> Result<Place, RestoreError> {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let env = RestoreEnv {
            store: Arc::new(store.clone()),
            files: Arc::new(process.clone()),
            clock: Arc::new(self.clock.clone()),
            vfs: Some(vfs.name().to_owned()),
        };
        let options = Options { state_dir: Some(local::directory(Path::new(DATABASE), None)), ..options() };
        let outcome = restore(&env, &options, &mut |_| {})?;
        self.report.restores += 1;
        let finding = |what: String| RestoreError::Sqlite(what);
        if let Outcome::Restored(restored) = &outcome {
            record(&env, restored).map_err(|error| finding(error.to_string()))?;
        }
        process.kill();
        let ours = |path: &str| path == DATABASE || path == "/data/here" || path.starts_with(STATE);
        let left: Vec<_> = disk.tree().into_iter().filter(|(path, _)| !ours(path)).collect();
        if !left.is_empty() {
            return Err(finding(format!("a restore left {left:?} behind")));
        }
        match outcome {
            Outcome::Restored(_) => {
                let found = judge(disk, DATABASE, &self.ledger()).map_err(finding)?;
                if found.at < self.acknowledged {
                    let promised = self.acknowledged;
                    return Err(finding(format!("{found:?} came back where {promised:?} was acknowledged")));
                }
                Ok(found)
            }
            Outcome::Skipped(Skipped::ReplicaEmpty(_)) if self.acknowledged.is_none() => {
                Ok(Place::on_the_way(None))
            }
            other => Err(finding(format!("{other:?} where {:?} was acknowledged", self.acknowledged))),
        }
    }

    /// Restores beside everything, from the replica as it is now.
    fn spot_check(&mut self) -> Turn {
        let scratch = empty_disk(&self.clock, 1);
        let fair = FaultyStore::new(Arc::clone(self.store.inner()), self.clock.clone(), SeededRandom::new(1));
        self.restore(&fair, &scratch).map(drop).map_err(|error| format!("spot check: {error}"))
    }

    /// All trouble ends, the application pauses, and the engine brings everything up.
    fn come_to_rest(&mut self) -> Turn {
        self.disk.heal();
        self.crashes_left = 0;
        self.scenario.weather = Weather { held_back: self.scenario.weather.held_back, ..Weather::CLEAR };
        self.store.heal();
        (self.engine_rests, self.app_rests) = (0, 0);
        for _ in 0..100 {
            if self.app_runs() {
                break;
            }
            self.app_turn();
            self.mourn()?;
        }
        self.interrupts = 0;
        if let Some(engine) = &self.engine {
            engine.process().interrupt(Box::new(|| ()));
        }
        self.question = None;
        for _ in 0..REST {
            self.ask();
            if !self.engine.as_ref().is_some_and(Engine::has_jobs) {
                self.sleep_until_due();
            }
            self.engine_turn()?;
            self.job_turn();
            self.mourn()?;
            if self.engine.is_some() && self.app_runs() && self.acknowledged == self.last_commit() {
                return Ok(());
            }
            if !self.app_runs() {
                self.app_turn();
            }
        }
        let status = self.engine.as_ref().map(Engine::status);
        Err(format!("no rest: {:?} of {:?} acknowledged, {status:?}", self.acknowledged, self.last_commit()))
    }

    /// The engine leaves in order; then everything that was committed must come back, and every rule must hold.
    fn last_judgement(&mut self) -> Turn {
        self.stop_app();
        if let Some(engine) = &mut self.engine {
            engine.stop(Duration::from_secs(60));
        }
        for _ in 0..REST {
            let Some(engine) = &mut self.engine else { break };
            if engine.ended() {
                break;
            }
            self.clock.advance_to(engine.due().min(self.clock.boot() + Duration::from_millis(100)));
            engine.step();
            engine.run_job(&self.random);
        }
        let Some(engine) = self.engine.take() else { return Err("the engine is gone".to_owned()) };
        let status = engine.status();
        self.count(&engine);
        if !engine.ended() || status.failure.is_some() {
            return Err(format!("the engine does not stop in order: {status:?}"));
        }
        drop(engine);
        let scratch = empty_disk(&self.clock, 2);
        let found = self.restore_patiently(&scratch)?;
        if found != Place::on_the_way(self.last_commit()) {
            return Err(format!(
                "{found:?} came back after an orderly stop, {:?} was committed",
                self.last_commit()
            ));
        }
        let broken: Vec<_> = self.store.violations().into_iter().chain(self.disk.violations()).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }
}

fn options() -> Options {
    Options { parallelism: 1, if_replica_exists: true, ..Options::new(DATABASE) }
}

/// Leaves word for the engine, as the command does after a restore.
fn record(env: &RestoreEnv, restored: &Restored) -> Result<(), LocalError> {
    let Some(record) = restored.record(env.store.location()) else { return Ok(()) };
    local::record_restored(&env.files, &restored.output, None, &record)
}

fn empty_disk(clock: &SimClock, seed: u64) -> Disk {
    let disk = Disk::new(clock.clone(), seed);
    // The operator's part: the directory that the database lives in.
    let placed = disk.place(format!("{DIRECTORY}/here"), b"");
    debug_assert!(placed.is_ok());
    disk
}
