//! Decisions of the engine: facts in, verdicts and plans out. No clock, no I/O, no async.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod agenda;
pub mod assess;
pub mod compact;
pub mod decisions;
pub mod env;
pub mod follow;
pub mod limits;
pub mod lineage;
pub mod ownership;
pub mod restore;
pub mod retain;
