//! A stopwatch for the stages of `ci`.
#![allow(clippy::disallowed_methods, reason = "the one place of xtask that reads a clock")]

use std::time::Instant;

/// Measures seconds since it was started.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
