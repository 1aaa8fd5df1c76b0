//! The simulation as a gate: many seeds, every crash point of a short scene, and engines that are wrong on purpose.
//!
//! Thousands of seeds: `cargo xtask sim --seeds 5000`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod everywhere;
mod forward;
mod handover;
mod party;
mod record;
mod restore;
mod scene;
mod smoke;
mod waiting;
mod wrong;
