//! What the engine asks of the world besides files, SQLite and the store: time and randomness.
//!
//! Only the traits live here. The real clock is `litekeep::clock`; tests and the simulation bring their own.

use core::time::Duration;
use litekeep_formats::TimestampMs;

/// Time, and waiting.
pub trait Clock: Send + Sync {
    /// This machine's wall clock; may jump.
    fn wall(&self) -> TimestampMs;

    /// Time since an arbitrary start that also runs while the machine sleeps (`CLOCK_BOOTTIME`); never goes back.
    fn boot(&self) -> Duration;

    /// Waits. A simulation advances its own time instead.
    fn sleep(&self, duration: Duration);
}

/// A source of random numbers: jitter and instance ids, nothing secret.
pub trait Random: Send + Sync {
    /// The next 64 random bits.
    fn next_u64(&self) -> u64;
}
