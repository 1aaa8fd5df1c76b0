//! The ownership protocol, searched: the real state machines in a world of crashes, pauses and lost answers.

mod model;

use model::rules::{Bounds, Wrong};
use model::search::{Limits, search};
use model::world::Model;

#[test]
fn probe() {
    let bounds = Bounds::SMALL;
    let model = Model { bounds, wrong: None };
    let begun = std::time::Instant::now();
    let out = search(&model, Limits { states: 3_000_000, every: Some(101) });
    println!("{} states depth {} complete {} asked {} slowest {} {:?}", out.states, out.depth, out.complete, out.asked, out.slowest, begun.elapsed());
    if let Some(trace) = out.found {
        panic!("{}", trace.text(&model));
    }
    let _ = Wrong::ALL;
}
