//! Times as RFC 3339, in and out: UTC with milliseconds out, any offset in.

use chrono::{DateTime, SecondsFormat, Utc};
use litekeep_formats::TimestampMs;

/// `2026-11-23T08:40:08.123Z`.
pub(crate) fn format(time: TimestampMs) -> String {
    DateTime::<Utc>::from_timestamp_millis(time.0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `2026-11-23T08:40:08Z`: as Litestream's tables have it.
pub(crate) fn seconds(time: TimestampMs) -> String {
    DateTime::<Utc>::from_timestamp_millis(time.0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Reads `2026-11-23T08:40:08[.fraction](Z|+hh:mm|-hh:mm)`. What is finer than a millisecond is cut.
pub(crate) fn parse(text: &str) -> Option<TimestampMs> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| TimestampMs(time.timestamp_millis()))
}

/// A time of our JSON, as Litestream's texts have it.
pub(crate) fn whole_seconds(at: &str) -> String {
    parse(at).map_or_else(|| at.to_owned(), seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_offsets_are_read_and_utc_is_written() {
        for (text, same) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
            ("2026-11-23T08:40:08.1Z", "2026-11-23T08:40:08.100Z"),
            ("2026-11-23T08:40:08.123456789Z", "2026-11-23T08:40:08.123Z"),
            ("2026-11-23T10:40:08+02:00", "2026-11-23T08:40:08.000Z"),
            ("2026-11-22T22:10:08-10:30", "2026-11-23T08:40:08.000Z"),
            ("2000-02-29T12:00:00Z", "2000-02-29T12:00:00.000Z"),
        ] {
            assert_eq!(parse(text).map(format), Some(same.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "2026-11-23", "2026-11-23T08:40:08", "2026-02-29T00:00:00Z", "yesterday", "1795423208"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
