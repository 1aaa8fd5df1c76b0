//! Whole numbers as Go reads them: in flags by `strconv.ParseInt` with base 0, and in the configuration by the rules of
//! YAML 1.1 that Litestream's library has. A leading 0 makes a number octal there, which nobody sees in silence here.

/// What a text is by these rules; `None` if it is no whole number, or one that is too large.
///
/// # Errors
/// It means one number to Go and another to most readers.
pub(crate) fn parse(text: &str) -> Result<Option<u64>, String> {
    let plain = text.replace('_', "");
    let plain = plain.strip_prefix('+').unwrap_or(&plain);
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        let (low, high) = (prefix, prefix.to_ascii_uppercase());
        if let Some(digits) = plain.strip_prefix(low).or_else(|| plain.strip_prefix(high.as_str())) {
            return Ok(digits_of(digits, radix));
        }
    }
    let decimal = digits_of(plain, 10);
    // 08 has no octal reading, and is 8 to Litestream as well
    let octal = plain.strip_prefix('0').and_then(|digits| digits_of(digits, 8));
    match (decimal, octal) {
        (Some(decimal), Some(octal)) if decimal != octal => Err(format!(
            "`{text}` is {octal} to Litestream, which takes a leading 0 for octal, and {decimal} to others: write \
             {octal} or {decimal}"
        )),
        _ => Ok(decimal),
    }
}

fn digits_of(text: &str, radix: u32) -> Option<u64> {
    let first = text.chars().next()?;
    first.is_digit(radix).then(|| u64::from_str_radix(text, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("007", Some(7)),
            ("08", Some(8)),
            ("0190", Some(190)),
            ("+5", Some(5)),
            ("1_000", Some(1000)),
            ("0x100000", Some(1 << 20)),
            ("0XfF", Some(255)),
            ("0o17", Some(15)),
            ("0b11", Some(3)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+", None),
            ("++1", None),
            ("-1", None),
            ("0x", None),
            ("0x+1", None),
            ("1e6", None),
            ("many", None),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for (text, octal, decimal) in [("0777", "511", "777"), ("010", "8", "10"), ("00_10", "8", "10")] {
            let reason = parse(text).expect_err(text);
            assert!(reason.contains(octal) && reason.contains(decimal), "{reason}");
        }
    }
}
