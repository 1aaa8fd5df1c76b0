//! The ownership protocol, searched: the real state machines in a world of crashes, pauses and lost answers.

mod model;

use model::rules::{Bounds, Wrong};
use model::search::{Limits, search};
use model::world::Model;

fn run(wrong: Option<Wrong>, bounds: Bounds, states: usize) {
    let model = Model { bounds, wrong };
    let begun = std::time::Instant::now();
    let out = search(&model, Limits { states, every: wrong.is_none().then_some(101) });
    println!("{wrong:?} {} states depth {} complete {} asked {} slowest {} {:?}", out.states, out.depth, out.complete, out.asked, out.slowest, begun.elapsed());
    if let Some(trace) = out.found {
        println!("{}", trace.text(&model));
    }
}

#[test]
fn probe() {
    for wrong in Wrong::ALL {
        run(Some(wrong), Bounds { time: 5, slots: 2, ..Bounds::SMALL }, 8_000_000);
    }
}

#[test]
fn right() {
    run(None, Bounds { time: 5, slots: 2, ..Bounds::SMALL }, 12_000_000);
}
