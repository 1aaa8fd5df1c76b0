//! Stages of a run and what became of them.
//!
//! A report is kept for every stage, also after one has failed: one run shows everything that is wrong.

use crate::clock::Stopwatch;
use std::process::{Command, ExitCode};

/// What a run has done so far.
#[derive(Default)]
pub(crate) struct Report {
    done: Vec<(&'static str, f64, Result<(), String>)>,
    not_run: Vec<String>,
}

impl Report {
    /// Runs one stage and notes its seconds and its outcome.
    pub(crate) fn stage(&mut self, name: &'static str, work: impl FnOnce() -> Result<(), String>) {
        println!("\n==> {name}");
        let watch = Stopwatch::start();
        let outcome = work();
        let seconds = watch.seconds();
        match &outcome {
            Ok(()) => println!("==> {name}: ok, {seconds:.1} s"),
            Err(problem) => println!("==> {name}: FAILED after {seconds:.1} s: {problem}"),
        }
        self.done.push((name, seconds, outcome));
    }

    /// Notes something that this machine could not run, and why.
    pub(crate) fn not_run(&mut self, what: &str, reason: &str) {
        self.not_run.push(format!("{what}: {reason}"));
    }

    /// Prints the summary. Fails if a stage failed, or, in a strict run, if anything was left out.
    pub(crate) fn finish(self, strict: bool) -> ExitCode {
        println!();
        for (name, seconds, outcome) in &self.done {
            println!("{:<8} {seconds:>8.1} s  {}", name, if outcome.is_ok() { "ok" } else { "FAILED" });
        }
        if self.not_run.is_empty() {
            println!("not run: nothing");
        }
        for line in &self.not_run {
            println!("not run: {line}");
        }
        let failed = self.done.iter().any(|(_, _, outcome)| outcome.is_err());
        let incomplete = strict && !self.not_run.is_empty();
        if incomplete {
            println!("CI=true: what gates must run; the lines above say what is missing on this machine");
        }
        if failed || incomplete { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Runs a command to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    println!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` ended with {status}")),
        Err(error) => Err(format!("`{shown}` could not be started: {error}")),
    }
}

/// Runs a command and gives back what it wrote on its standard output.
pub(crate) fn read(command: &mut Command) -> Result<String, String> {
    let shown = show(command);
    let output = command.output().map_err(|error| format!("`{shown}` could not be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.trim().lines().last().unwrap_or("no word of why").to_owned();
    Err(format!("`{shown}` ended with {}: {last}", output.status))
}

fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}
