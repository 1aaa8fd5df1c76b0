//! A clock that stands still until somebody waits on it.

use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// 2026-01-01 00:00:00 UTC, where every simulation begins.
pub const START: TimestampMs = TimestampMs(1_767_225_600_000);

#[derive(Debug)]
struct Times {
    boot: Duration,
    skew_ms: i64,
}

/// Simulated time; clones share it. Sleeping moves it on at once.
#[derive(Debug, Clone)]
pub struct SimClock {
    times: Arc<Mutex<Times>>,
}

impl Default for SimClock {
    fn default() -> Self {
        Self { times: Arc::new(Mutex::new(Times { boot: Duration::from_secs(1000), skew_ms: 0 })) }
    }
}

impl SimClock {
    /// A clock at [`START`].
    pub fn new() -> Self {
        Self::default()
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves wall and boot time on.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times();
        times.boot = times.boot.saturating_add(by);
    }

    /// Moves time on to a moment of boot time; one in the past changes nothing.
    pub fn advance_to(&self, boot: Duration) {
        let mut times = self.times();
        times.boot = times.boot.max(boot);
    }

    /// Makes the wall clock jump, back or forth; boot time does not notice.
    pub fn jump_wall(&self, by_ms: i64) {
        let mut times = self.times();
        times.skew_ms = times.skew_ms.saturating_add(by_ms);
    }
}

impl Clock for SimClock {
    fn wall(&self) -> TimestampMs {
        let times = self.times();
        let run = i64::try_from(times.boot.as_millis()).unwrap_or(i64::MAX);
        TimestampMs(START.0.saturating_add(run).saturating_add(times.skew_ms))
    }

    fn boot(&self) -> Duration {
        self.times().boot
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_moves_both_clocks_and_a_jump_only_the_wall() {
        let clock = SimClock::new();
        let (wall, boot) = (clock.wall(), clock.boot());
        clock.sleep(Duration::from_millis(1500));
        assert_eq!((clock.wall().0 - wall.0, clock.boot() - boot), (1500, Duration::from_millis(1500)));
        clock.jump_wall(-10_000);
        assert_eq!(clock.wall().0 - wall.0, -8500);
        assert_eq!(clock.boot() - boot, Duration::from_millis(1500));
    }
}
