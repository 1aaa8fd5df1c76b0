//! The two spellings of time that S3 speaks: RFC 3339 in Litestream's metadata, HTTP dates in headers.

use chrono::{DateTime, Utc};
use litekeep_formats::TimestampMs;

/// UTC with trailing zeros of the fraction trimmed, as Go's `RFC3339Nano` writes it: `2026-11-23T08:50:33.12Z`.
pub(crate) fn format_rfc3339(time: TimestampMs) -> String {
    let whole = DateTime::<Utc>::from_timestamp_millis(time.0).unwrap_or_default();
    let text = whole.format("%Y-%m-%dT%H:%M:%S%.3f").to_string();
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{trimmed}Z")
}

/// Any RFC 3339 time, rounded down to the millisecond.
pub(crate) fn parse_rfc3339(text: &str) -> Option<TimestampMs> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| TimestampMs(time.timestamp_millis()))
}

/// `Mon, 23 Nov 2026 08:50:33 GMT`.
pub(crate) fn parse_http_date(text: &str) -> Option<TimestampMs> {
    DateTime::parse_from_rfc2822(text).ok().map(|time| TimestampMs(time.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let rows = [
            (1_795_423_833_123, "2026-11-23T08:50:33.123Z"),
            (1_795_423_833_120, "2026-11-23T08:50:33.12Z"),
            (1_795_423_833_100, "2026-11-23T08:50:33.1Z"),
            (1_795_423_833_000, "2026-11-23T08:50:33Z"),
            (1_795_423_830_000, "2026-11-23T08:50:30Z"),
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ];
        for (ms, text) in rows {
            assert_eq!(format_rfc3339(TimestampMs(ms)), text);
            assert_eq!(parse_rfc3339(text), Some(TimestampMs(ms)));
        }
    }

    #[test]
    fn times_of_other_writers_are_read_and_nonsense_is_not() {
        assert_eq!(
            parse_rfc3339("2026-11-23T10:50:33.123456789+02:00"),
            Some(TimestampMs(1_795_423_833_123))
        );
        assert_eq!(parse_http_date("Mon, 23 Nov 2026 08:50:33 GMT"), Some(TimestampMs(1_795_423_833_000)));
        for bad in ["", "yesterday", "2026-11-23", "2026-11-23T08:50:33"] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
    }
}
