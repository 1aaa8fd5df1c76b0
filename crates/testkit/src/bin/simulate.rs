//! Runs many simulations: `cargo run -p testkit --bin simulate -- --seeds 5000 --from 0`.
//!
//! Options: `--seeds N`, `--from N`, `--scenario smoke|long|survives|wiped` (the last two: the short scene with a
//! power loss at call `--from` and the following ones, after which the disk is kept or wiped), `--wrong NAME` (a deliberately wrong engine, which must
//! be found out), `--right` (the right engine in the wrong one's scenario), `--twice` (each seed twice, with equal histories).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

use std::process::ExitCode;
use testkit::party;
use testkit::sim::{self, Fate, Flaws, Report, Scenario, wrong};

struct Args {
    seeds: u64,
    from: u64,
    scenario: String,
    twice: bool,
    right: bool,
    wrong: Option<String>,
}

fn args() -> Result<Args, String> {
    let mut args =
        Args { seeds: 200, from: 0, scenario: "smoke".to_owned(), twice: false, right: false, wrong: None };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or(format!("{name} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        match name.as_str() {
            "--seeds" => args.seeds = number(value()?)?,
            "--from" => args.from = number(value()?)?,
            "--scenario" => args.scenario = value()?,
            "--wrong" => args.wrong = Some(value()?),
            "--right" => args.right = true,
            "--twice" => args.twice = true,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    match args().and_then(|args| simulate(&args)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(findings) => {
            eprintln!("{findings} findings");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn simulate(args: &Args) -> Result<u64, String> {
    let variant = match &args.wrong {
        None => None,
        Some(name) => {
            let found = wrong::variants().into_iter().find(|variant| variant.name == name);
            Some(found.ok_or_else(|| format!("no wrong engine is called {name}"))?)
        }
    };
    if args.scenario == "party" {
        return Ok(gather(args));
    }
    let mut total = Report::default();
    let mut findings = 0;
    for seed in args.from..args.from + args.seeds {
        let mut scenario = match &variant {
            Some(variant) => (variant.scenario)(seed),
            None => match args.scenario.as_str() {
                "smoke" => Scenario::smoke(seed),
                "bulk" => Scenario::bulk(seed),
                "long" => Scenario::long(seed),
                "survives" => Scenario::short(seed, Fate::Survives),
                "wiped" => Scenario::short(seed, Fate::Wiped),
                other => return Err(format!("no scenario is called {other}")),
            },
        };
        if args.right {
            scenario.flaws = Flaws::NONE;
        }
        let result = if args.twice { sim::run_twice(&scenario) } else { sim::run(&scenario) };
        match result {
            Ok(report) => total.add(&report),
            Err(finding) => {
                findings += 1;
                println!("{finding}");
            }
        }
    }
    println!("{total:#?}");
    Ok(findings)
}

/// Several nodes on one bucket.
fn gather(args: &Args) -> u64 {
    let mut total = party::Report::default();
    let mut findings = 0;
    for seed in args.from..args.from + args.seeds {
        let scenario = party::Scenario::any(seed);
        let result = if args.twice { party::run_twice(&scenario) } else { party::run(&scenario) };
        match result {
            Ok(report) => total.add(&report),
            Err(finding) => {
                findings += 1;
                println!("{finding}");
            }
        }
    }
    println!("{total:#?}");
    findings
}
