//! `cargo xtask sim`: many simulations, over several processes, in release.
//!
//! SQLite keeps one source of randomness for a process, so seeds run beside each other only in processes of their own.
//! Each takes a stretch of seeds, says what it found, and ends; a process that dies is a finding as well. Nothing about
//! a simulation is known here but the line of totals that it ends with.

use crate::Machine;
use crate::clock::Stopwatch;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many seeds one process takes.
const STRETCH: u64 = 250;

/// What is asked for.
struct Wanted {
    seeds: u64,
    from: u64,
    jobs: u64,
    scenario: String,
}

/// Everything so far.
#[derive(Default)]
struct Totals {
    numbers: BTreeMap<String, u64>,
    order: Vec<String>,
    died: u64,
}

/// Builds, runs, sums up; the exit code is 1 if anything was found.
pub(crate) fn run(machine: &Machine, arguments: &[&str]) -> ExitCode {
    match wanted(arguments).and_then(|wanted| simulate(machine, &wanted)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => crate::fail(&problem),
    }
}

fn wanted(arguments: &[&str]) -> Result<Wanted, String> {
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get() as u64);
    let mut wanted = Wanted { seeds: 2000, from: 0, jobs, scenario: "bulk".to_owned() };
    let mut given = arguments.iter();
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
        match *name {
            "--seeds" => wanted.seeds = number()?,
            "--from" => wanted.from = number()?,
            "--jobs" => wanted.jobs = number()?.max(1),
            "--scenario" => wanted.scenario = (*value).to_owned(),
            other => return Err(format!("sim knows --seeds, --from, --jobs and --scenario, not {other}")),
        }
    }
    Ok(wanted)
}

/// Returns how much was found.
fn simulate(machine: &Machine, wanted: &Wanted) -> Result<u64, String> {
    let build = machine.cargo(["build", "--release", "-p", "testkit", "--bin", "simulate"]).status();
    if !build.is_ok_and(|status| status.success()) {
        return Err("the build failed".to_owned());
    }
    let program = machine.root.join(&machine.target).join("release").join("simulate");
    let clock = Stopwatch::start();
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    std::thread::scope(|scope| {
        for _ in 0..wanted.jobs {
            scope.spawn(|| {
                loop {
                    let done = next.fetch_add(STRETCH, Ordering::Relaxed);
                    if done >= wanted.seeds {
                        return;
                    }
                    let seeds = STRETCH.min(wanted.seeds - done);
                    stretch(&program, &wanted.scenario, wanted.from + done, seeds, &totals);
                    let totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("{} of {} seeds, {} findings", totals.seeds(), wanted.seeds, totals.found());
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{}", totals.summary(clock.seconds()));
    Ok(totals.found())
}

/// One process; what it found is shown at once.
fn stretch(program: &Path, scenario: &str, from: u64, seeds: u64, totals: &Mutex<Totals>) {
    let mut command = Command::new(program);
    command.args(["--scenario", scenario, "--from", &from.to_string(), "--seeds", &seeds.to_string()]);
    let output = command.output();
    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
    let said = output.map_or_else(|error| error.to_string(), |output| told(&output));
    let (findings, line) = said.rsplit_once("totals ").unwrap_or((&said, ""));
    print!("{findings}");
    totals.take(line);
    if line.is_empty() {
        totals.died += 1;
        println!("the process for seeds {from} to {} died", from + seeds - 1);
    }
}

/// What a process said; of one that died also its last words.
fn told(output: &std::process::Output) -> String {
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.contains("totals ") {
        said += &String::from_utf8_lossy(&output.stderr);
    }
    said
}

impl Totals {
    /// Adds a line of `name=number` pairs.
    fn take(&mut self, line: &str) {
        for (name, number) in line.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            if !self.order.iter().any(|known| known == name) {
                self.order.push(name.to_owned());
            }
            *self.numbers.entry(name.to_owned()).or_default() += number.parse::<u64>().unwrap_or(0);
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    fn seeds(&self) -> u64 {
        self.number("seeds")
    }

    fn found(&self) -> u64 {
        self.number("findings") + self.died
    }

    fn summary(&self, seconds: f64) -> String {
        let pairs: Vec<String> = self
            .order
            .iter()
            .map(|name| format!("{} {}", name.replace('_', " "), self.number(name)))
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.seeds() as f64 / seconds.max(0.001);
        format!("{}; {seconds:.0} s, {rate:.1} seeds a second", pairs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_and_a_death_is_a_finding() {
        let mut totals = Totals::default();
        totals.take("seeds=250 findings=1 idle_hours=3\n");
        totals.take("seeds=50 findings=0 idle_hours=4\n");
        totals.died += 1;
        assert_eq!(totals.found(), 2);
        assert_eq!(totals.summary(10.0), "seeds 300, findings 1, idle hours 7; 10 s, 30.0 seeds a second");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(
            wanted(&["--seeds", "7", "--jobs", "0"])
                .is_ok_and(|wanted| wanted.jobs == 1 && wanted.seeds == 7)
        );
        assert!(wanted(&["--seeds"]).is_err());
        assert!(wanted(&["--seeds", "many"]).is_err());
        assert!(wanted(&["--sedes", "7"]).is_err());
    }
}
