//! The ownership protocol, searched: the real state machines in a world of crashes, pauses and lost answers.

mod model;

use model::rules::{Bounds, Wrong};
use model::search::{Limits, search};
use model::world::Model;

fn run(name: &str, wrong: Option<Wrong>, bounds: Bounds, states: usize) {
    let model = Model { bounds, wrong };
    let begun = std::time::Instant::now();
    let out = search(&model, Limits { states, every: wrong.is_none().then_some(101) });
    println!(
        "{name} {wrong:?} {} states depth {} complete {} asked {} slowest {} {:?}",
        out.states,
        out.depth,
        out.complete,
        out.asked,
        out.slowest,
        begun.elapsed()
    );
    if let Some(trace) = out.found {
        println!("{}", trace.text(&model));
    }
}

const B: Bounds = Bounds { time: 5, slots: 2, ..Bounds::SMALL };

#[test]
fn probe() {
    for wrong in Wrong::ALL {
        let bounds = match wrong {
            Wrong::OneClock => Bounds { sleeps: 5, ..B },
            Wrong::LevelsFirst => Bounds { atomic_look: false, time: 4, ..B },
            _ => B,
        };
        run("", Some(wrong), bounds, 8_000_000);
    }
}

#[test]
fn right() {
    run("base", None, B, 8_000_000);
    run("t4", None, Bounds { time: 4, ..B }, 8_000_000);
    run("crash", None, Bounds { crashes: 1, ..B }, 8_000_000);
    run("loss", None, Bounds { losses: 1, ..B }, 8_000_000);
    run("sleep", None, Bounds { sleeps: 3, ..B }, 8_000_000);
    run("look", None, Bounds { atomic_look: false, ..B }, 8_000_000);
    run("writes", None, Bounds { writes: 2, time: 4, slots: 3, ..B }, 8_000_000);
    run("three", None, Bounds { instances: 3, epochs: 3, time: 3, slots: 3, ..B }, 8_000_000);
}
