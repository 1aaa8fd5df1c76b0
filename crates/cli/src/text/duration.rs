//! Durations as Go writes them: `1h30m`, `500ms`, `1.5h`; no days, no sign (nothing here may be negative).

use std::time::Duration;

/// Parses `([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)` one or more times, or a plain `0`.
///
/// # Errors
/// What is wrong with it, for the reader.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total: u128 = 0;
    let refuse = || format!("`{text}` is not a duration such as 30s, 1h30m or 500ms");
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let scale = scale(unit).ok_or_else(|| match unit {
            "" => format!("`{text}` has no unit: ms, s, m or h"),
            "d" | "w" => format!("`{text}`: the largest unit is h (24h is a day)"),
            _ => refuse(),
        })?;
        let nanos = nanos(number, scale).ok_or_else(refuse)?;
        total = total.checked_add(nanos).ok_or_else(refuse)?;
        rest = after;
    }
    // Go's own limit: 63 bits of nanoseconds, 292 years.
    match i64::try_from(total) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Err(_) => Err(format!("`{text}` is longer than 292 years")),
    }
}

/// Nanoseconds of one unit.
fn scale(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

/// A decimal number times `scale`, cut to whole nanoseconds.
fn nanos(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        total = total.checked_add(u128::from(digit - b'0').checked_mul(unit)?)?;
    }
    Some(total)
}

/// A time between nothing and a second, in one unit.
fn below_a_second(time: Duration, microseconds: &str) -> Option<String> {
    let nanos = time.subsec_nanos();
    if time.as_secs() > 0 || nanos == 0 {
        return None;
    }
    let (unit, scale) = match nanos {
        1_000_000.. => ("ms", 1_000_000),
        1_000.. => (microseconds, 1_000),
        _ => ("ns", 1),
    };
    Some(format!("{}{unit}", f64::from(nanos) / f64::from(scale)))
}

/// A duration as [`parse`] reads it, in the largest units that fit: `24h`, `1h30m`, `1.5s`, `250ms`.
pub(crate) fn format(time: Duration) -> String {
    let (secs, nanos) = (time.as_secs(), time.subsec_nanos());
    if let Some(short) = below_a_second(time, "us") {
        return short;
    }
    let mut out = String::new();
    for (count, unit) in [(secs / 3600, "h"), (secs / 60 % 60, "m")] {
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
        }
    }
    let fraction = format!("{nanos:09}");
    match fraction.trim_end_matches('0') {
        "" if !out.is_empty() && secs % 60 == 0 => {}
        "" => out.push_str(&format!("{}s", secs % 60)),
        fraction => out.push_str(&format!("{}.{fraction}s", secs % 60)),
    }
    out
}

/// A duration as Go's `String` spells it, every unit below the largest one as well: `24h0m0s`, `1m0s`, `1.5s`, `250ms`.
pub(crate) fn go(time: Duration) -> String {
    let (secs, nanos) = (time.as_secs(), time.subsec_nanos());
    if let Some(short) = below_a_second(time, "\u{b5}s") {
        return short;
    }
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    match (hours, minutes) {
        (0, 0) => format!("{secs}{fraction}s"),
        (0, _) => format!("{minutes}m{secs}{fraction}s"),
        _ => format!("{hours}h{minutes}m{secs}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("1s", 1000),
            ("+1s", 1000),
            ("1.5h", 5_400_000),
            ("1h30m", 5_400_000),
            ("1h30m0.25s", 5_400_250),
            (".5s", 500),
            ("5.s", 5000),
            ("1000us", 1),
            ("1000\u{b5}s", 1),
            ("1000000ns", 1),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "not a duration"),
            ("10", "no unit"),
            ("1h30", "no unit"),
            ("1d", "24h is a day"),
            ("-1s", "negative"),
            ("1..5s", "not a duration"),
            (".s", "not a duration"),
            ("s", "not a duration"),
            ("1 s", "not a duration"),
            ("1S", "not a duration"),
            ("3000000h", "292 years"),
            ("99999999999999999999999999999999999999999h", "not a duration"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_duration_in_the_log_is_spelled_as_go_spells_it() {
        for (text, shown) in [
            ("0", "0s"),
            ("1ns", "1ns"),
            ("1500ns", "1.5\u{b5}s"),
            ("1500us", "1.5ms"),
            ("500ms", "500ms"),
            ("1s", "1s"),
            ("1500ms", "1.5s"),
            ("60s", "1m0s"),
            ("15m", "15m0s"),
            ("59s", "59s"),
            ("3605s", "1h0m5s"),
            ("24h", "24h0m0s"),
            ("90061s", "25h1m1s"),
            ("1h0.25s", "1h0m0.25s"),
        ] {
            let time = parse(text).expect(text);
            assert_eq!(go(time), shown, "{text}");
            assert_eq!(parse(shown), Ok(time), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back_as_the_same() {
        for (text, shown) in [
            ("0", "0s"),
            ("250ms", "250ms"),
            ("1500us", "1.5ms"),
            ("7ns", "7ns"),
            ("1s", "1s"),
            ("90s", "1m30s"),
            ("1.25s", "1.25s"),
            ("24h", "24h"),
            ("1h0m5s", "1h5s"),
            ("60m0.5s", "1h0.5s"),
        ] {
            let time = parse(text).expect(text);
            assert_eq!(format(time), shown, "{text}");
            assert_eq!(parse(shown), Ok(time), "{text}");
        }
    }
}
