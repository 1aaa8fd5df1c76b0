//! `cargo xtask ci`: what gates, in the order in which a mistake is cheapest to find.
//!
//! It never installs system software; `.ci/run` does that on a bare machine and then calls this.

use crate::peers::{Gateway, Peers};
use crate::stage::{self, Report};
use crate::{Machine, tidy};
use std::process::ExitCode;

const STAGES: [&str; 5] = ["fmt", "tidy", "clippy", "docs", "tests"];

/// Runs the stages named, or all of them, and prints what became of them.
pub(crate) fn run(machine: &Machine, named: &[&str]) -> ExitCode {
    if let Some(name) = named.iter().find(|name| !STAGES.contains(name)) {
        eprintln!("xtask: no such stage: {name}; there are {}", STAGES.join(", "));
        return ExitCode::FAILURE;
    }
    let wanted = |name: &str| named.is_empty() || named.contains(&name);
    let mut report = Report::default();
    // The gateway takes a minute to come up; it does so while the compiler works.
    let gateway = wanted("tests").then(|| Gateway::begin(machine));
    if wanted("fmt") {
        report.stage("fmt", || stage::run(&mut machine.cargo(["fmt", "--all", "--", "--check"])));
    }
    if wanted("tidy") {
        report.stage("tidy", || tidy::check(machine));
    }
    if wanted("clippy") {
        let words = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        report.stage("clippy", || stage::run(&mut machine.cargo(words)));
    }
    if wanted("docs") {
        let words = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"];
        report.stage("docs", || stage::run(machine.cargo(words).env("RUSTDOCFLAGS", "-D warnings")));
    }
    if let Some(gateway) = gateway {
        tests(machine, gateway, &mut report);
    }
    report.finish(machine.strict)
}

/// The tests last, so that their results are the last thing on the screen.
fn tests(machine: &Machine, gateway: Gateway, report: &mut Report) {
    let mut peers = Peers::fetch(machine);
    report.stage("build", || {
        stage::run(&mut machine.cargo(["build", "--workspace", "--all-targets", "--locked"]))
    });
    let gateway = peers.take_gateway(gateway);
    report.stage("tests", || {
        let mut command = machine.cargo(["test", "--workspace", "--locked", "--no-fail-fast"]);
        command.envs(peers.environment()).env("LITEKEEP_TEST_BIN", machine.built("litekeep"));
        stage::run(&mut command)
    });
    drop(gateway);
    for (what, reason) in peers.missing() {
        report.not_run(what, reason);
    }
}
