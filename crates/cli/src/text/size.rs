//! Sizes in bytes as Litestream takes them: `5MB` (a thousand thousands), `5MiB` (1024 times 1024), `5242880`.

/// Parses a whole or decimal number and an optional unit, case-insensitive, with or without a space between.
///
/// # Errors
/// What is wrong with it, for the reader.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is not a size such as 5MB, 5MiB or 5242880");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return Err(refuse());
    }
    let scale = scale(unit.trim()).ok_or_else(refuse)?;
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(scale)).ok_or_else(refuse)?;
    let tenths = fraction.parse::<u128>().map_err(|_| refuse())?;
    let part = tenths * u128::from(scale) / 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(9));
    u64::try_from(part).ok().and_then(|part| whole.checked_add(part)).ok_or_else(refuse)
}

/// Bytes of one unit.
fn scale(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000 * 1000,
        "g" | "gb" => 1000 * 1000 * 1000,
        "t" | "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    })
}

/// Bytes for people: `532 B`, `1.2 MB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Bytes as Litestream's `status` shows them: two digits at the least, rounded half to even, `532 B`, `1.2 MB`, `16 kB`.
pub(crate) fn short(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut scale = 1000_u64;
    let mut unit = 0;
    while bytes / scale >= 1000 && unit + 1 < UNITS.len() {
        scale *= 1000;
        unit += 1;
    }
    let tenths = (u128::from(bytes) * 10 + u128::from(scale / 2)) / u128::from(scale);
    match tenths {
        ..100 => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        _ => {
            let (whole, rest) = (tenths / 10, tenths % 10);
            let up = rest > 5 || (rest == 5 && whole % 2 == 1);
            format!("{} {}", whole + u128::from(up), UNITS[unit])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("5242880", 5_242_880),
            ("5MB", 5_000_000),
            ("5mb", 5_000_000),
            ("5 MiB", 5_242_880),
            ("1.5GiB", 1_610_612_736),
            ("64MiB", 64 << 20),
            ("1TB", 1_000_000_000_000),
            ("7b", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MB", "-5MB", "5XB", "5.5.5MB", "5.MB", ".5MB", "99999999999TB", "5 M B", "1e6"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_greatest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_999, "999.9 kB"),
            (1_250_000, "1.2 MB"),
            (5_000_000_000_000, "5.0 TB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn sizes_are_shown_as_litestreams_status_does() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (4152, "4.2 kB"),
            (9_960, "10 kB"),
            (16_512, "16 kB"),
            (12_450, "12 kB"),
            (13_500, "14 kB"),
            (999_499, "1000 kB"),
            (1_250_000, "1.3 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(short(bytes), text, "{bytes}");
        }
    }
}
