//! How long an owner knows that nobody else has written, without asking: what it may say to a reader.
//!
//! It is the one place where the times of two machines must be alike: nobody's hand-over may take less time than ours. A
//! reader may be shown something old where they are not; no write depends on it.

use core::time::Duration;
use litekeep_formats::TimestampMs;

/// What an owner's looks for a claim above its own have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alone {
    /// Others may have written.
    #[default]
    Unknown,
    /// A question found no claim above ours. Whoever claimed after it was sent waits for our closing record, and nobody
    /// writes before `lasts` has passed, unless we close.
    Since {
        /// When it was sent, since boot.
        boot: Duration,
        /// The same by the wall clock: a machine that stood still may count only there.
        wall: TimestampMs,
        /// The time of a hand-over.
        lasts: Duration,
    },
    /// No claim can be asked for: the store creates nothing exclusively, and nothing but the user knows of a second writer.
    Always,
}

impl Alone {
    /// Whether nobody else can have written until now. Time has passed by the clock that moved further.
    pub fn holds(&self, now_boot: Duration, now_wall: TimestampMs) -> bool {
        match *self {
            Self::Unknown => false,
            Self::Since { boot, wall, lasts } => {
                let by_wall = u64::try_from(now_wall.0.saturating_sub(wall.0)).unwrap_or(0);
                now_boot.saturating_sub(boot).max(Duration::from_millis(by_wall)) < lasts
            }
            Self::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_writes_before_the_hand_over_time_after_a_look_that_found_no_claim() {
        let (boot, wall, lasts) = (Duration::from_secs(100), TimestampMs(1_000_000), Duration::from_secs(5));
        let alone = Alone::Since { boot, wall, lasts };
        for (what, boot_ms, wall_ms, holds) in [
            ("at once", 0, 0, true),
            ("just inside", 4_999, 4_999, true),
            ("over", 5_000, 5_000, false),
            ("only the wall clock went on: the machine stood still", 3, 60_000, false),
            ("the wall clock was set back", 4_000, -600_000, true),
            ("the wall clock was set back, and the time is over", 6_000, -600_000, false),
        ] {
            let now = (boot + Duration::from_millis(boot_ms), TimestampMs(wall.0 + wall_ms));
            assert_eq!(alone.holds(now.0, now.1), holds, "{what}");
            assert!(!Alone::Unknown.holds(now.0, now.1) && Alone::Always.holds(now.0, now.1), "{what}");
        }
    }
}
