//! The clocks of a run: milliseconds since its beginning, or since that of a scenario, and the time of day for the
//! report.
//!
//! It never decides anything; whoever judges is given numbers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the run, or the scenario, began.
pub type Ms = u64;

/// A running clock; copies tell the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    began: Duration,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place of this crate that looks at a clock")]
    pub fn start() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), began }
    }

    /// One that is at zero again, of the same run: a scenario's.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place of this crate that looks at a clock")]
    pub fn anew(&self) -> Self {
        Self { start: Instant::now(), ..*self }
    }

    /// Now.
    #[must_use]
    pub fn ms(&self) -> Ms {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds since 1970 at which the run began.
    #[must_use]
    pub fn began(&self) -> u64 {
        self.began.as_secs()
    }

    /// Seconds since 1970, now, by the run's own clock: what a signature is dated by.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.began.as_secs() + self.start.elapsed().as_secs()
    }

    /// A number that another run hardly has: it names what this run writes.
    #[must_use]
    pub fn mark(&self) -> u64 {
        u64::try_from(self.began.as_micros()).unwrap_or(u64::MAX)
    }
}

/// `2026-02-01T12:00:00Z` from seconds since 1970: eras of 400 years, years that begin in March.
#[must_use]
pub fn date(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day % 3600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_769_904_000, "2026-02-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
