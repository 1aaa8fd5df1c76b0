//! Engines that are wrong on purpose: each decides one thing as somebody once did, and the checker must notice.

use litekeep_core::assess::{Advance, Resume};
use litekeep_core::decisions::{Decisions, Handover};

/// A wrong engine.
#[derive(Clone, Copy)]
pub struct Variant {
    /// What people call it.
    pub name: &'static str,
    /// What it does, and what that costs.
    pub why: &'static str,
    /// How it decides.
    pub decisions: Decisions,
}

/// All of them.
pub fn variants() -> Vec<Variant> {
    let right = Decisions::RIGHT;
    vec![
        Variant {
            name: "gap",
            why: "ends the old read transaction before the new one begins: the WAL restarts in between",
            decisions: Decisions { handover: Handover::Gap, ..right },
        },
        Variant {
            name: "nocap",
            why: "hands protection over without taking what was committed meanwhile",
            decisions: Decisions { handover: Handover::Blind, ..right },
        },
        Variant {
            name: "always-survives",
            why: "believes that frames it has not taken outlive the end of its read transaction",
            decisions: Decisions { survives_release: |_, _| true, ..right },
        },
        Variant {
            name: "trust-restart",
            why: "after a downtime, takes a WAL with other salts for the next life of the one it knew",
            decisions: Decisions { resume: |_, _, _| Resume::Intact, ..right },
        },
        Variant {
            name: "salts-only",
            why: "compares salts and not frames, so that a WAL that was cut and grown again passes for the same",
            decisions: Decisions {
                resume: |facts, frame, position| match frame {
                    Some((salts, _)) if salts == position.salts && facts.salts == salts => Resume::Intact,
                    _ => (Decisions::RIGHT.resume)(facts, frame, position),
                },
                ..right
            },
        },
        Variant {
            name: "same-size",
            why: "takes a WAL that is no longer than before for unchanged (R04)",
            decisions: Decisions {
                advance: |facts, position| {
                    if facts.mx_frame <= position.frame {
                        return Advance::Nothing;
                    }
                    (Decisions::RIGHT.advance)(facts, position)
                },
                ..right
            },
        },
        Variant {
            name: "drop-before-stage",
            why: "lets WAL frames go before their copies are on the disk",
            decisions: Decisions { stage_before_release: false, ..right },
        },
        Variant {
            name: "ack-before-put",
            why: "calls a slot durable when its put was sent",
            decisions: Decisions { durable_after_put: false, ..right },
        },
        Variant {
            name: "overwrite-slot",
            why: "puts slots without asking whether the name is free",
            decisions: Decisions { create_only: false, ..right },
        },
    ]
}
