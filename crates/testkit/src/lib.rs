//! Test support for the whole house: a disk that loses power, a store that misbehaves, a seeded workload with a ledger,
//! and the simulation that drives the real engine through them.
//!
//! Nothing here is used outside tests. Everything follows from seeds: the same seed gives the same history.
#![deny(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod faulty;
pub mod history;
pub mod party;
pub mod peers;
pub mod random;
pub mod sim;
pub mod workload;
