//! Looks at a replica without being its writer: is everything whole, and what does it cost?
//!
//! Reads only, and nothing but the replica (`compare` reads the database as well). Whether what it finds is bad for
//! the user's next restore is said here; in which words and with which exit code, the command says.

mod compare;
mod count;
mod gaps;
mod held;
mod trial;
mod usage;
mod verify;
mod walk;

#[cfg(test)]
mod tests;

pub use compare::{Compared, Original, compare};
pub use count::Counted;
pub use held::{Held, held};
pub use trial::{Trial, trial};
pub use usage::{LevelUsage, Requests, Usage, V3Usage, usage};
pub use verify::{Issue, Kind, LevelCheck, Options, V3Beside, Verified, verify};
