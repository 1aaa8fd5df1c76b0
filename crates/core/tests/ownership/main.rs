//! The ownership protocol, searched: the real state machines in a world of crashes, pauses and lost answers.
//!
//! These worlds are small enough for the gate. Larger ones: `cargo run -p litekeep-core --example model`.

mod model;

use model::rules::{Bounds, Wrong};
use model::search::{Limits, search};
use model::world::{Model, SITUATIONS};

/// Every state of these is visited, and a sample of them asked whether progress follows.
const RIGHT: [(&str, Bounds); 13] = [
    ("two instances", Bounds { time: 5, ..Bounds::BASE }),
    ("a crash", Bounds { crashes: 1, slots: 1, time: 5, ..Bounds::BASE }),
    ("a lost answer", Bounds { losses: 1, slots: 1, time: 3, ..Bounds::BASE }),
    ("a machine that sleeps", Bounds { sleeps_from: Some(1), time: 3, ..Bounds::BASE }),
    ("a look in three requests", Bounds { atomic_look: false, time: 3, ..Bounds::BASE }),
    ("two ticks to hand over", Bounds { hand_over: 2, slots: 1, ..Bounds::BASE }),
    ("a crash and a lost answer", Bounds { crashes: 1, losses: 1, slots: 1, time: 2, ..Bounds::BASE }),
    (
        "a crash, and a machine that sleeps",
        Bounds { crashes: 1, sleeps_from: Some(0), slots: 1, time: 3, ..Bounds::BASE },
    ),
    (
        "a lost answer, and a machine that sleeps",
        Bounds { losses: 1, sleeps_from: Some(0), slots: 1, time: 3, ..Bounds::BASE },
    ),
    ("three instances", Bounds { time: 2, ..THREE }),
    ("three instances and a crash", Bounds { crashes: 1, ..THREE }),
    ("three instances and a lost answer", Bounds { losses: 1, ..THREE }),
    ("three instances, a crash and a lost answer", Bounds { crashes: 1, losses: 1, ..THREE }),
];

const THREE: Bounds = Bounds { instances: 3, epochs: 3, slots: 1, time: 1, ..Bounds::BASE };

#[test]
fn the_rules_hold_in_every_state_of_the_small_worlds() {
    let mut reached = [false; SITUATIONS.len()];
    for (name, bounds) in RIGHT {
        let model = Model { bounds, wrong: None };
        let outcome = search(&model, Limits { states: 3_000_000, every: Some(101) });
        println!(
            "{name}: {} states, depth {}, {} asked for progress: {} ticks at most",
            outcome.states, outcome.depth, outcome.asked, outcome.slowest
        );
        if let Some(trace) = outcome.found {
            panic!("{name}: {}", trace.text(&model));
        }
        assert!(outcome.complete, "{name}: {} states, and more", outcome.states);
        assert!(outcome.asked > 100, "{name}: a sample of {}", outcome.asked);
        reached.iter_mut().zip(outcome.reached).for_each(|(reached, is)| *reached |= is);
    }
    let never: Vec<_> = SITUATIONS.iter().zip(reached).filter(|(_, is)| !is).collect();
    assert!(never.is_empty(), "the worlds never reached {never:?}");
}

#[test]
fn a_world_that_leaves_a_rule_out_is_found_out() {
    for (wrong, bounds, breaks) in Wrong::ALL {
        let model = Model { bounds, wrong: Some(wrong) };
        let outcome = search(&model, Limits { states: 3_000_000, every: None });
        let Some(found) = outcome.found else {
            panic!("{wrong:?}: nothing in {} states, depth {}", outcome.states, outcome.depth);
        };
        println!("{wrong:?}: {} states, a trace of {}: {}", outcome.states, outcome.depth, found.what);
        assert!(
            found.what.contains(breaks),
            "{wrong:?} is to be found by {breaks:?}: {}",
            found.text(&model)
        );
        let right = Model { bounds, wrong: None };
        let outcome = search(&right, Limits { states: 300_000, every: None });
        if let Some(trace) = outcome.found {
            panic!("the rules, where {wrong:?} was searched: {}", trace.text(&right));
        }
    }
}
