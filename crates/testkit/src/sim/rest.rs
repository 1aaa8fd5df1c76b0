//! The end of a scene: trouble ends, and everything that was promised must hold without it. The lag goes to nothing,
//! an idle engine asks the bucket for nothing, and what it leaves behind in order is everything that was committed.

use super::machine::empty_disk;
use super::world::{Turn, World};
use crate::faulty::Weather;
use litekeep::replicator::Health;
use litekeep_core::env::Clock;
use std::time::Duration;

/// Turns, and time, that everything may take to come to rest once all trouble is over.
const REST: u64 = 20_000;
const REST_TIME: Duration = Duration::from_secs(15 * 60);

/// Jobs that everything may take that is due while nothing happens: compaction, snapshots, retention, and their retries.
const JOBS: u64 = 2000;

const HOUR: Duration = Duration::from_secs(3600);

impl World {
    /// All trouble ends, the application pauses, and the engine brings everything up.
    pub(super) fn come_to_rest(&mut self) -> Turn {
        self.machine.heal();
        self.crashes_left = 0;
        (self.scenario.disk_trouble, self.scenario.clock_jumps) = (0, 0);
        self.scenario.weather = Weather { held_back: self.scenario.weather.held_back, ..Weather::CLEAR };
        self.store.heal();
        self.start_app()?;
        self.interrupts = 0;
        self.machine.end_interruptions();
        self.machine.question = None;
        let end = self.clock.boot() + REST_TIME;
        for _ in 0..REST {
            if self.clock.boot() > end {
                break;
            }
            self.machine.ask();
            if !self.machine.engine.as_ref().is_some_and(super::engine::Engine::has_jobs) {
                self.machine.sleep_until_due();
            }
            self.engine_turn()?;
            self.job_turn();
            self.mourn()?;
            if self.at_rest() {
                return Ok(());
            }
            if !self.machine.app_runs() {
                self.app_turn();
            }
        }
        let status = self.machine.engine.as_ref().map(super::engine::Engine::status);
        let last = self.machine.last_commit();
        Err(format!("no rest: {:?} of {last:?} acknowledged, {status:?}", self.acknowledged))
    }

    /// Nothing is left to do, and nothing is wrong.
    fn at_rest(&self) -> bool {
        let Some(engine) = self.machine.engine.as_ref().filter(|_| self.machine.app_runs()) else {
            return false;
        };
        let status = engine.status();
        self.acknowledged == self.machine.last_commit()
            && status.built == status.durable
            && status.health == Health::Good
    }

    /// The application writes nothing for so long that every chore that is due was done; in the hour after that the
    /// bucket is asked for nothing.
    pub(super) fn stay_idle(&mut self) -> Turn {
        let settings = &self.settings;
        let levels: Duration = settings.levels.iter().sum();
        let kept = settings.snapshot_retention + settings.l0_retention.unwrap_or_default();
        // Files may be dated by a clock that was ahead.
        let settled = settings.snapshot_interval + levels + kept + HOUR;
        loop {
            if let Some(engine) = &mut self.machine.engine {
                engine.notified();
            }
            if self.let_pass(settled)? {
                break;
            }
            self.come_to_rest()?;
        }
        let before = self.store.count();
        if !self.let_pass(HOUR)? {
            return Err("the power went in an idle hour".to_owned());
        }
        let asked = self.store.records().split_off(before);
        self.report.idle_hours += 1;
        match asked.as_slice() {
            [] => self.check_many_points(),
            [first, ..] => Err(format!("{} requests in an idle hour, first {first:?}", asked.len())),
        }
    }

    /// The engine is called when it asked to be, and not before. `false` if the power went meanwhile.
    fn let_pass(&mut self, time: Duration) -> Result<bool, String> {
        let end = self.clock.boot() + time;
        let mut jobs = 0;
        while let Some(engine) = &mut self.machine.engine {
            if jobs > JOBS {
                return Err(format!("{jobs} jobs while nothing happens: {:?}", engine.status()));
            }
            if engine.has_jobs() {
                jobs += 1;
            }
            let worked = engine.run_job(&self.random);
            if self.machine.disk.is_dead() {
                self.mourn()?;
                return Ok(false);
            }
            if worked {
                continue;
            }
            let Some(engine) = &mut self.machine.engine else { break };
            if engine.due() >= end {
                break;
            }
            self.clock.advance_to(engine.due().max(self.clock.boot() + Duration::from_micros(1)));
            let goes_on = engine.step();
            let status = engine.status();
            if self.machine.disk.is_dead() {
                self.mourn()?;
                return Ok(false);
            }
            if !goes_on {
                return Err(format!("the engine ended while nothing happened: {status:?}"));
            }
            self.mourn()?;
        }
        self.clock.advance_to(end);
        Ok(true)
    }

    /// A late put may have brought the file forward under an application that wrote nothing since: what is there now is
    /// found by the next one that starts.
    fn look_at_the_file(&mut self) -> Turn {
        self.machine.stop_app();
        self.start_app()
    }

    /// The application starts, or tries to: the engine may be in its way for a while.
    fn start_app(&mut self) -> Turn {
        for _ in 0..100 {
            if self.machine.app_runs() {
                break;
            }
            self.app_turn();
            self.mourn()?;
        }
        Ok(())
    }

    /// The engine leaves in order; then everything that was committed must come back, and every rule must hold.
    pub(super) fn last_judgement(&mut self) -> Turn {
        if self.scenario.weather.held_back > 0 {
            self.look_at_the_file()?;
        }
        self.machine.stop_app();
        if let Some(engine) = &mut self.machine.engine {
            engine.stop(Duration::from_secs(60));
        }
        for _ in 0..REST {
            let Some(engine) = &mut self.machine.engine else { break };
            if engine.ended() {
                break;
            }
            self.clock.advance_to(engine.due().min(self.clock.boot() + Duration::from_millis(100)));
            engine.step();
            engine.run_job(&self.random);
        }
        if self.machine.disk.is_dead() {
            // It leaves once more.
            self.mourn()?;
            self.come_to_rest()?;
            return self.last_judgement();
        }
        let Some(engine) = self.machine.engine.take() else { return Err("the engine is gone".to_owned()) };
        let status = engine.status();
        self.count(&engine);
        if !engine.ended() || status.failure.is_some() {
            return Err(format!("the engine does not stop in order: {status:?}"));
        }
        drop(engine);
        // What is asked from here on, another machine asks.
        self.store.powered_by(None);
        let scratch = empty_disk(&self.clock, 2);
        let found = self.restore_patiently(&scratch)?;
        if found != self.newest() {
            let last = self.machine.last_commit();
            return Err(format!("{found:?} came back after an orderly stop, {last:?} was committed"));
        }
        self.check_many_points()?;
        self.count_requests();
        let broken: Vec<_> =
            self.store.violations().into_iter().chain(self.machine.disk.violations()).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }
}
