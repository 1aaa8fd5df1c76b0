//! Engines that are wrong on purpose: each decides one thing as somebody once did, and the checker must notice.

use super::{Crash, Fate, FilesFlaw, Flaws, Scenario};
use crate::faulty::Weather;
use crate::workload::Shape;
use litekeep_core::assess::{Advance, Facts, Position, Resume};
use litekeep_core::decisions::{Decisions, Handover};

/// A wrong engine.
#[derive(Clone, Copy)]
pub struct Variant {
    /// What people call it.
    pub name: &'static str,
    /// What it does, and what that costs.
    pub why: &'static str,
    /// A scenario that goes for it, with the wrong decision in it.
    pub scenario: fn(u64) -> Scenario,
}

/// Much work between the engine's calls and many checkpoints: for mistakes about the life of the WAL.
fn busy(seed: u64, decisions: Decisions) -> Scenario {
    Scenario {
        shape: Some(Shape { autocheckpoint: 7, cache: 5, ..Shape::PLAIN }),
        weather: Weather::CLEAR,
        crash: Crash::Never,
        interrupts: Some(30),
        flaws: Flaws { decisions, ..Flaws::NONE },
        ..Scenario::smoke(seed)
    }
}

/// Processes that die and stay down for a while: for mistakes about the start.
fn restless(seed: u64, decisions: Decisions) -> Scenario {
    Scenario { turns: 1500, kills: true, ..busy(seed, decisions) }
}

/// Power losses that leave the disk: for mistakes about what is durable.
fn brittle(seed: u64, decisions: Decisions) -> Scenario {
    Scenario { turns: 800, crash: Crash::Times(6), disk: Fate::Survives, ..busy(seed, decisions) }
}

/// Wiped disks, and puts that arrive after their sender's death: for mistakes about names in the store.
fn late(seed: u64, decisions: Decisions) -> Scenario {
    Scenario {
        turns: 1200,
        weather: Weather { held_back: 150, ..Weather::CLEAR },
        crash: Crash::Times(6),
        disk: Fate::Wiped,
        ..busy(seed, decisions)
    }
}

/// Writers that die at a commit while the engine keeps the index alive: for mistakes about what is committed.
fn deadly(seed: u64, decisions: Decisions) -> Scenario {
    let shape = Shape { autocheckpoint: 0, cache: 5, ..Shape::PLAIN };
    Scenario { shape: Some(shape), ..restless(seed, decisions) }
}

const RIGHT: Decisions = Decisions::RIGHT;

/// All of them.
pub fn variants() -> Vec<Variant> {
    vec![
        Variant {
            name: "gap",
            why: "ends the old read transaction before the new one begins: the WAL restarts in between",
            scenario: |seed| busy(seed, Decisions { handover: Handover::Gap, ..RIGHT }),
        },
        Variant {
            name: "nocap",
            why: "hands protection over without taking what was committed meanwhile",
            scenario: |seed| busy(seed, Decisions { handover: Handover::Blind, ..RIGHT }),
        },
        Variant {
            name: "always-survives",
            why: "believes that frames it has not taken outlive the end of its read transaction",
            scenario: |seed| busy(seed, Decisions { survives_release: |_, _| true, ..RIGHT }),
        },
        Variant {
            name: "trust-restart",
            why: "after a downtime, takes a WAL with other salts for the next life of the one it knew",
            scenario: |seed| restless(seed, Decisions { resume: |_, _, _| Resume::Intact, ..RIGHT }),
        },
        Variant {
            name: "same-size",
            why: "R04: takes a WAL that is no longer than before for unchanged",
            scenario: |seed| busy(seed, Decisions { advance: same_size, ..RIGHT }),
        },
        Variant {
            name: "chain-only",
            why: "believes every commit to which the checksums lead, whatever the index of the WAL says",
            scenario: |seed| deadly(seed, Decisions { committed: |_, chain| chain(), ..RIGHT }),
        },
        Variant {
            name: "keep-uncommitted-frames",
            why: "keeps pages that it read before their transaction committed; SQLite writes over such frames",
            scenario: |seed| Scenario {
                flaws: Flaws { files: FilesFlaw::KeepsFrames, ..Flaws::NONE },
                ..busy(seed, RIGHT)
            },
        },
        Variant {
            name: "drop-before-stage",
            why: "lets WAL frames go before their copies are on the disk",
            scenario: |seed| brittle(seed, Decisions { stage_before_release: false, ..RIGHT }),
        },
        Variant {
            name: "ack-before-put",
            why: "calls a slot durable when its put was sent",
            scenario: |seed| {
                let decisions = Decisions { durable_after_put: false, ..RIGHT };
                Scenario { flaws: Flaws { decisions, ..Flaws::NONE }, ..Scenario::smoke(seed) }
            },
        },
        Variant {
            name: "overwrite-slot",
            why: "puts slots without asking whether the name is free",
            scenario: |seed| late(seed, Decisions { create_only: false, ..RIGHT }),
        },
    ]
}

fn same_size(facts: &Facts, position: &Position) -> Advance {
    if facts.mx_frame <= position.frame { Advance::Nothing } else { (RIGHT.advance)(facts, position) }
}
