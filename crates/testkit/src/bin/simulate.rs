//! Runs many simulations in one process: `cargo run --release -p testkit --bin simulate -- --seeds 5000 --from 0`.
//! `cargo xtask sim` runs several of these beside each other, since SQLite keeps one source of randomness for a process.
//!
//! Options: `--seeds N`, `--from N`, `--scenario party|worst|party-streams|bulk|streams|smoke|long|survives|wiped` (party: several nodes on one
//! bucket; worst: the same with all its troubles at once; the last two: the short scene with a power loss at call `--from`
//! and the following ones, after which the disk is kept or wiped), `--wrong NAME` (a deliberately wrong engine; ends at
//! the first seed that finds it out), `--right` (the right engine in the wrong one's scenario), `--twice` (each seed
//! twice, with equal histories), `--list` (the wrong engines' names), `--trace` (what the engine logs, and every turn of a
//! party, on stderr).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

use std::process::ExitCode;
use testkit::party;
use testkit::sim::{self, Fate, Report, Scenario, wrong};

struct Args {
    seeds: u64,
    from: u64,
    scenario: String,
    twice: bool,
    right: bool,
    wrong: Option<String>,
    list: bool,
}

fn args() -> Result<Args, String> {
    let scenario = "smoke".to_owned();
    let mut args =
        Args { seeds: 200, from: 0, scenario, twice: false, right: false, wrong: None, list: false };
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
            "--list" => args.list = true,
            "--trace" => {
                tracing_subscriber::fmt()
                    .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
                    .with_writer(std::io::stderr)
                    .without_time()
                    .with_target(false)
                    .init();
            }
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
    if args.list {
        wrong::variants().iter().for_each(|variant| println!("{}: {}", variant.name, variant.why));
        for variant in party::wrong::variants() {
            println!("{} (--scenario party): {}", variant.name, variant.why);
        }
        return Ok(0);
    }
    if matches!(args.scenario.as_str(), "party" | "worst" | "party-streams") {
        return gather(args);
    }
    let mut total = Report::default();
    let (mut seeds, mut findings) = (0, 0);
    for seed in args.from..args.from + args.seeds {
        let scenario = scenario(args, seed)?;
        let result = if args.twice { sim::run_twice(&scenario) } else { sim::run(&scenario) };
        seeds += 1;
        match result {
            Ok(report) => total.add(&report),
            Err(finding) => {
                findings += 1;
                println!("{finding}");
            }
        }
        if findings > 0 && args.wrong.is_some() && !args.right {
            break;
        }
    }
    println!("totals seeds={seeds} findings={findings} {total}");
    Ok(findings)
}

/// Several nodes on one bucket.
fn gather(args: &Args) -> Result<u64, String> {
    let variants = party::wrong::variants();
    let find = |name: &String| {
        let found = variants.iter().find(|variant| variant.name == name);
        found.ok_or_else(|| format!("no wrong node is called {name}"))
    };
    let wrong = args.wrong.as_ref().map(find).transpose()?;
    let mut total = party::Report::default();
    let (mut seeds, mut findings) = (0, 0);
    for seed in args.from..args.from + args.seeds {
        let scenario = match wrong {
            Some(variant) if args.right => variant.right(seed),
            Some(variant) => variant.scenario(seed),
            None if args.scenario == "worst" => party::Scenario::worst(seed),
            None if args.scenario == "party-streams" => party::Scenario::streams(seed),
            None => party::Scenario::any(seed),
        };
        let result = if args.twice { party::run_twice(&scenario) } else { party::run(&scenario) };
        seeds += 1;
        match result {
            Ok(report) => total.add(&report),
            Err(finding) => {
                findings += 1;
                println!("{finding}");
            }
        }
        if findings > 0 && wrong.is_some() && !args.right {
            break;
        }
    }
    println!("totals seeds={seeds} findings={findings} {total}");
    Ok(findings)
}

fn scenario(args: &Args, seed: u64) -> Result<Scenario, String> {
    if let Some(name) = &args.wrong {
        let found = wrong::variants().into_iter().find(|variant| variant.name == name);
        let variant = found.ok_or_else(|| format!("no wrong engine is called {name}"))?;
        return Ok(if args.right { variant.right(seed) } else { variant.scenario(seed) });
    }
    Ok(match args.scenario.as_str() {
        "bulk" => Scenario::bulk(seed),
        "smoke" => Scenario::smoke(seed),
        "long" => Scenario::long(seed),
        "streams" => Scenario::streams(seed),
        "survives" => Scenario::short(seed, Fate::Survives),
        "wiped" => Scenario::short(seed, Fate::Wiped),
        other => {
            let variant = wrong::variants().into_iter().find(|variant| variant.name == other);
            variant.ok_or_else(|| format!("no scenario is called {other}"))?.right(seed)
        }
    })
}
