//! Nodes that are wrong on purpose: each breaks one rule of the hand-over, and a restore must show it, by a row that is
//! missing, a mix of histories or a row that stands there twice, within the number of seeds that stands beside it. An
//! application that goes on writing is undone by the engine; it shows by never owning again.

use super::Scenario;
use crate::sim::{BucketFlaw, FilesFlaw};
use litekeep_core::decisions::Decisions;
use std::time::Duration;

/// What a restore may show of a broken rule.
const SIGNS: &[&str] = &["acknowledged and are not there", "a mix of histories", "stands there twice"];

/// A wrong node.
#[derive(Clone, Copy)]
pub struct Variant {
    /// What people call it.
    pub name: &'static str,
    /// What it does, and what that costs.
    pub why: &'static str,
    /// How many seeds may pass, from 0 on, before one of them finds it out.
    pub seeds: u64,
    /// How its mistake shows: what is found must say one of these.
    pub expects: &'static [&'static str],
    scene: fn(u64) -> Scenario,
    spoil: fn(&mut Scenario),
}

impl Variant {
    /// The scenario with wrong nodes in it.
    pub fn scenario(&self, seed: u64) -> Scenario {
        let mut scenario = self.right(seed);
        (self.spoil)(&mut scenario);
        scenario
    }

    /// The same scenario with right ones.
    pub fn right(&self, seed: u64) -> Scenario {
        (self.scene)(seed)
    }
}

/// Machines that die and sleep.
fn busy(seed: u64) -> Scenario {
    Scenario { deaths: 15, sleeps: 15, turns: 300, ..Scenario::plain(seed) }
}

/// Believes in images that are only announced.
fn counts_what_is_announced() -> Variant {
    Variant {
        name: "counts-what-is-announced",
        why: "takes a streamed image for stored before a slot behind its announcement keeps others from going on without",
        seeds: 40,
        // What it takes for stored opens its epoch as well.
        expects: &["Wiped", "acknowledged and are not there", "a mix of histories"],
        scene: |seed| Scenario { turns: 300, ..Scenario::streams(seed) },
        spoil: |scenario| {
            scenario.decisions = Decisions { confirm_images: false, ..Decisions::RIGHT };
        },
    }
}

/// Gives up what it committed.
fn drops_asides() -> Variant {
    Variant {
        name: "drops-asides",
        why: "makes its file the chain's state and keeps nothing of what the chain lacks",
        seeds: 20,
        expects: &["dropped in silence"],
        scene: busy,
        spoil: |scenario| scenario.files = FilesFlaw::DropsAsides,
    }
}

/// Does not doubt that it owns.
fn trusts_itself() -> Variant {
    Variant {
        name: "trusts-itself",
        why: "takes its file for the newest until it sees a claim, however long ago it looked for one",
        seeds: 40,
        expects: &["takes its file for the newest"],
        scene: busy,
        spoil: |scenario| {
            scenario.decisions = Decisions { alone_for: |_| Duration::MAX, ..Decisions::RIGHT };
        },
    }
}

/// All of them.
pub fn variants() -> Vec<Variant> {
    vec![
        Variant {
            name: "writes-on",
            why: "an application that goes on writing after it was told to stop",
            seeds: 40,
            // What it writes is undone each time, so that nothing is lost by it but its own turn.
            expects: &["gets no acknowledgement", "acknowledged and are not there", "a mix of histories"],
            scene: busy,
            spoil: |scenario| scenario.writes_on = true,
        },
        Variant {
            name: "believes-all",
            why: "takes everything that was committed for acknowledged when its epoch was lost",
            seeds: 40,
            expects: SIGNS,
            scene: busy,
            spoil: |scenario| scenario.believes_all = true,
        },
        Variant {
            name: "overwrites",
            why: "puts slots without asking whether the name is free, so the log locks nobody out",
            seeds: 80,
            expects: SIGNS,
            scene: busy,
            spoil: |scenario| scenario.decisions = Decisions { create_only: false, ..Decisions::RIGHT },
        },
        Variant {
            name: "refused-is-mine",
            why: "R24: takes every name that is taken for one that it took itself",
            seeds: 40,
            expects: SIGNS,
            scene: busy,
            spoil: |scenario| scenario.bucket = BucketFlaw::RefusedIsMine,
        },
        Variant {
            name: "acknowledges-early",
            why: "calls a slot durable when its put was sent",
            seeds: 40,
            expects: SIGNS,
            scene: busy,
            spoil: |scenario| {
                scenario.decisions = Decisions { durable_after_put: false, ..Decisions::RIGHT };
            },
        },
        counts_what_is_announced(),
        drops_asides(),
        trusts_itself(),
        Variant {
            name: "reuses-freed-names",
            why: "believes that a name is the chain's next however old its proof is: it was used, and freed by retention",
            seeds: 150,
            expects: SIGNS,
            scene: Scenario::sleepers,
            spoil: |scenario| scenario.horizon = Some(Duration::MAX),
        },
        Variant {
            name: "frees-too-soon",
            why: "retention that lets slots go before the horizon of every sleeper has passed",
            seeds: 20,
            expects: &["was deleted at an age"],
            scene: Scenario::sleepers,
            spoil: |scenario| scenario.bucket = BucketFlaw::FreesTooSoon,
        },
    ]
}
