//! A clock that stands still until somebody waits on it.

use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// 2026-01-01 00:00:00 UTC, where every simulation begins.
pub const START: TimestampMs = TimestampMs(1_767_225_600_000);

/// Simulated time; clones share it. Sleeping moves it on at once.
#[derive(Debug, Clone)]
pub struct SimClock {
    boot: Arc<Mutex<Duration>>,
    skew_ms: Arc<AtomicI64>,
}

impl Default for SimClock {
    fn default() -> Self {
        Self { boot: Arc::new(Mutex::new(Duration::from_secs(1000))), skew_ms: Arc::default() }
    }
}

impl SimClock {
    /// A clock at [`START`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Another machine's clock in the same world: time passes for both alike, but its wall clock jumps alone.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { boot: Arc::clone(&self.boot), skew_ms: Arc::default() }
    }

    fn now(&self) -> MutexGuard<'_, Duration> {
        self.boot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves wall and boot time on.
    pub fn advance(&self, by: Duration) {
        let mut boot = self.now();
        *boot = boot.saturating_add(by);
    }

    /// Moves time on to a moment of boot time; one in the past changes nothing.
    pub fn advance_to(&self, boot: Duration) {
        let mut now = self.now();
        *now = boot.max(*now);
    }

    /// Makes the wall clock jump, back or forth; boot time does not notice.
    pub fn jump_wall(&self, by_ms: i64) {
        self.skew_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall(&self) -> TimestampMs {
        let run = i64::try_from(self.boot().as_millis()).unwrap_or(i64::MAX);
        TimestampMs(START.0.saturating_add(run).saturating_add(self.skew_ms.load(Ordering::Relaxed)))
    }

    fn boot(&self) -> Duration {
        *self.now()
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
        let other = clock.apart();
        assert_eq!((clock.wall().0 - wall.0, other.wall().0 - wall.0), (-8500, 1500));
        assert_eq!(clock.boot() - boot, Duration::from_millis(1500));
    }
}
