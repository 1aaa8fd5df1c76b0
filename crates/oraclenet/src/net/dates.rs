//! PocketBase's dates: `2026-02-01 09:30:00.000Z`, always UTC, always milliseconds, so that text order is time order.

use chrono::{DateTime, NaiveDateTime};
use litekeep_formats::TimestampMs;

const FORM: &str = "%Y-%m-%d %H:%M:%S%.3fZ";
const HOUR_MS: f64 = 3_600_000.0;

/// The text that PocketBase keeps for a moment; nothing for one that no calendar knows.
pub fn format(at: TimestampMs) -> String {
    DateTime::from_timestamp_millis(at.0).map(|at| at.format(FORM).to_string()).unwrap_or_default()
}

/// The moment that such a text means; `None` for an unset date and for anything else.
pub fn parse(text: &str) -> Option<TimestampMs> {
    let parsed = NaiveDateTime::parse_from_str(text, FORM).ok()?;
    Some(TimestampMs(parsed.and_utc().timestamp_millis()))
}

/// Hours from `created` to `now`. An unset date is as old as time; one from a clock ahead of ours counts as new,
/// so that a wrong clock does not pin a post to the top.
pub fn age_hours(created: &str, now: TimestampMs) -> f64 {
    let created = parse(created).unwrap_or(TimestampMs(0));
    #[expect(clippy::cast_precision_loss, reason = "2^53 milliseconds are 285,000 years")]
    let age = now.0.saturating_sub(created.0).max(0) as f64;
    age / HOUR_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_written_as_pocketbase_keeps_them() {
        for (text, at) in [
            ("1970-01-01 00:00:00.000Z", 0),
            ("2026-02-01 09:30:00.007Z", 1_769_938_200_007),
            ("2027-12-31 23:59:59.999Z", 1_830_297_599_999),
        ] {
            assert_eq!(parse(text), Some(TimestampMs(at)), "{text}");
            assert_eq!(format(TimestampMs(at)), text);
        }
        for text in ["", "2026-02-01", "2026-02-01T09:30:00.000Z", "2026-13-01 00:00:00.000Z", "x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn ages_are_hours_and_never_below_zero() {
        let now = TimestampMs(7_200_000);
        for (created, hours) in [
            ("1970-01-01 00:00:00.000Z", 2.0),
            ("1970-01-01 01:30:00.000Z", 0.5),
            ("1970-01-01 09:00:00.000Z", 0.0),
            ("", 2.0),
        ] {
            assert!((age_hours(created, now) - hours).abs() < 1e-12, "{created}");
        }
    }
}
