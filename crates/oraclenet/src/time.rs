//! Dates as PocketBase writes them: `2026-11-25 20:55:13.771Z`, UTC, milliseconds.

use chrono::{DateTime, Utc};
use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;

/// This machine's time.
pub fn now(clock: &dyn Clock) -> DateTime<Utc> {
    at(clock.wall())
}

/// A time of the replica.
pub fn at(time: TimestampMs) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(time.0).unwrap_or_default()
}

/// A time as the database keeps it.
pub fn format(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}

/// Reads what [`format()`] writes.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    chrono::NaiveDateTime::parse_from_str(text.strip_suffix('Z')?, "%Y-%m-%d %H:%M:%S%.f")
        .ok()
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_milliseconds_a_space_and_a_z() {
        let time = at(TimestampMs(1_795_640_113_007));
        assert_eq!(format(time), "2026-11-25 20:55:13.007Z");
        assert_eq!(parse("2026-11-25 20:55:13.007Z"), Some(time));
        assert_eq!(parse("2026-11-25T20:55:13.007Z"), None);
    }
}
