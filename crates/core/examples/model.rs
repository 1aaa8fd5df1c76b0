//! The long run of the ownership model: larger worlds than the gate has time for. `--states N` for each, `--trace` to
//! print the counterexamples. Ends with an error if a rule fails, or a broken one is not found.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people talks on the terminal")]

#[path = "../tests/ownership/model/mod.rs"]
mod model;

use model::rules::{Bounds, Wrong};
use model::search::{Limits, Outcome, search};
use model::world::Model;
use std::process::ExitCode;

const LARGE: [(&str, Bounds); 12] = [
    ("two instances", Bounds { time: 5, ..Bounds::BASE }),
    ("two instances, a crash", Bounds { crashes: 1, time: 5, ..Bounds::BASE }),
    ("two instances, a lost answer, one slot", Bounds { losses: 1, slots: 1, time: 5, ..Bounds::BASE }),
    (
        "two instances, one sleeps, one slot",
        Bounds { sleeps_from: Some(0), slots: 1, time: 5, ..Bounds::BASE },
    ),
    (
        "two instances, a look in three requests, one slot",
        Bounds { atomic_look: false, slots: 1, time: 5, ..Bounds::BASE },
    ),
    (
        "two instances, a horizon of two ticks, one slot, eight ticks",
        Bounds { horizon: 2, slots: 1, time: 8, ..Bounds::BASE },
    ),
    ("two instances, two writes each, three slots", Bounds { writes: 2, slots: 3, time: 5, ..Bounds::BASE }),
    ("three instances, three ticks", Bounds { instances: 3, epochs: 3, time: 3, ..Bounds::BASE }),
    (
        "three instances, a crash, three ticks",
        Bounds { instances: 3, epochs: 3, crashes: 1, time: 3, ..Bounds::BASE },
    ),
    (
        "two instances, a crash and a lost answer, one slot, three ticks",
        Bounds { crashes: 1, losses: 1, slots: 1, time: 3, ..Bounds::BASE },
    ),
    (
        "three instances, a crash, one slot, two ticks",
        Bounds { instances: 3, epochs: 3, crashes: 1, slots: 1, time: 2, ..Bounds::BASE },
    ),
    (
        "three instances, a lost answer, one slot, two ticks",
        Bounds { instances: 3, epochs: 3, losses: 1, slots: 1, time: 2, ..Bounds::BASE },
    ),
];

#[allow(clippy::disallowed_methods, reason = "a measurement, printed for people")]
fn timed(model: &Model, limits: Limits) -> (Outcome, f32) {
    let begun = std::time::Instant::now();
    let outcome = search(model, limits);
    (outcome, begun.elapsed().as_secs_f32())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let states = words.iter().position(|word| word == "--states").and_then(|at| words.get(at + 1));
    let states = match states.map_or(Ok(10_000_000), |text| text.replace('_', "").parse()) {
        Ok(states) => states,
        Err(problem) => {
            eprintln!("--states takes a number: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let trace = words.iter().any(|word| word == "--trace");
    let mut good = true;
    println!("| world | states | depth | whole | asked for progress | seconds |\n|---|---|---|---|---|---|");
    for (name, bounds) in LARGE {
        let model = Model { bounds, wrong: None };
        let (outcome, seconds) = timed(&model, Limits { states, every: Some(101) });
        let Outcome { states, depth, complete, asked, slowest, found, .. } = outcome;
        let whole = if complete { "yes" } else { "no" };
        println!("| {name} | {states} | {depth} | {whole} | {asked}, {slowest} ticks | {seconds:.0} |");
        if let Some(found) = found {
            println!("{}", found.text(&model));
            good = false;
        }
    }
    println!("\n| left out | states | counterexample | what breaks |\n|---|---|---|---|");
    for (wrong, bounds, breaks) in Wrong::ALL {
        let model = Model { bounds, wrong: Some(wrong) };
        let outcome = search(&model, Limits { states, every: None });
        let what = outcome.found.as_ref().map_or("nothing", |found| &found.what);
        println!("| {wrong:?} | {} | {} steps | {what} |", outcome.states, outcome.depth);
        good &= what.contains(breaks);
        if let Some(found) = outcome.found.filter(|_| trace) {
            println!("{}", found.text(&model));
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
