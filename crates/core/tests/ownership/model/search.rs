//! Breadth-first search over hashed states: the first trace that is found is a shortest one.

use super::world::{Action, Model, SITUATIONS, World};
use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

/// What a search came to.
pub(crate) struct Outcome {
    pub(crate) states: usize,
    /// The number of actions on the longest of the shortest ways.
    pub(crate) depth: usize,
    /// Whether nothing was left to visit.
    pub(crate) complete: bool,
    /// How many states were asked whether progress follows, and the longest way there, in ticks.
    pub(crate) asked: usize,
    pub(crate) slowest: usize,
    /// Which of the situations that matter some state was in.
    pub(crate) reached: [bool; SITUATIONS.len()],
    pub(crate) found: Option<Trace>,
}

/// A way from the start to what must not be.
pub(crate) struct Trace {
    pub(crate) what: String,
    pub(crate) actions: Vec<Action>,
}

/// How far to go, and which states are asked for progress: each with a fingerprint that this divides.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) states: usize,
    pub(crate) every: Option<u64>,
}

/// A fingerprint of 64 bits: among ten million states two collide with a chance of one in 400,000.
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(self.0.rotate_left(25) ^ n ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
        let bytes = wide.to_le_bytes();
        let half = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("eight"));
        self.0 = half(0) ^ half(8);
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut fold = Fold(0x2545_f491_4f6c_dd1d);
    world.hash(&mut fold);
    fold.finish()
}

/// Visits every state once, nearest first, until something is wrong, all is seen, or the limit is reached.
pub(crate) fn search(model: &Model, limits: Limits) -> Outcome {
    let start = model.start();
    let mut seen = HashSet::from([fingerprint(&start)]);
    // Where each state came from; the trace is read backwards from it.
    let mut ways: Vec<(u32, Option<Action>)> = vec![(0, None)];
    let reached = [false; SITUATIONS.len()];
    let mut outcome =
        Outcome { states: 1, depth: 0, complete: false, asked: 0, slowest: 0, reached, found: None };
    let mut layer = vec![(0_u32, start)];
    let mut actions = Vec::new();
    while !layer.is_empty() {
        let mut following = Vec::new();
        for (at, world) in layer.drain(..) {
            actions.clear();
            model.actions(&world, &mut actions);
            for action in actions.iter().copied() {
                let mut next = world.clone();
                let mut wrong = model.apply(&mut next, action).and_then(|()| model.check(&next)).err();
                let print = fingerprint(&next);
                let new = wrong.is_some() || seen.insert(print);
                if new && wrong.is_none() && limits.every.is_some_and(|every| print.is_multiple_of(every)) {
                    outcome.asked += 1;
                    match model.progress(&next) {
                        Ok(ticks) => outcome.slowest = outcome.slowest.max(ticks),
                        Err(stuck) => wrong = Some(stuck),
                    }
                }
                if let Some(what) = wrong {
                    let actions = way(&ways, at, action);
                    outcome.depth = actions.len();
                    outcome.states = ways.len();
                    outcome.found = Some(Trace { what, actions });
                    return outcome;
                }
                if new {
                    outcome
                        .reached
                        .iter_mut()
                        .zip(next.situations())
                        .for_each(|(reached, is)| *reached |= is);
                    let number = u32::try_from(ways.len()).expect("a search fits into memory");
                    ways.push((at, Some(action)));
                    following.push((number, next));
                }
            }
            if ways.len() >= limits.states {
                outcome.states = ways.len();
                return outcome;
            }
        }
        outcome.depth += usize::from(!following.is_empty());
        layer = following;
    }
    outcome.states = ways.len();
    outcome.complete = true;
    outcome
}

fn way(ways: &[(u32, Option<Action>)], mut at: u32, last: Action) -> Vec<Action> {
    let mut actions = vec![last];
    while let (before, Some(action)) = ways[at as usize] {
        actions.push(action);
        at = before;
    }
    actions.reverse();
    actions
}

impl Trace {
    /// The way as text: what was done, and what the world was after it where that says something new.
    pub(crate) fn text(&self, model: &Model) -> String {
        let mut world = model.start();
        let mut text = format!("{}\n", self.what);
        let mut shown = String::new();
        for (number, action) in self.actions.iter().enumerate() {
            let end = model.apply(&mut world, *action).err();
            let line = world.to_string();
            let news = if line == shown { "" } else { line.as_str() };
            writeln!(text, "{:3}. t={} {:<22} {news}", number + 1, world.time, format!("{action:?}"))
                .expect("a string takes all");
            if let Some(end) = end {
                writeln!(text, "     {end}").expect("a string takes all");
            }
            shown = line;
        }
        text
    }
}
