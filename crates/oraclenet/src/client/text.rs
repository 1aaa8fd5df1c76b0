//! Texts and numbers from arguments, files and standard input, and times in words.

use super::World;
use super::flags::{Flag, Parsed};
use super::trouble::Trouble;
use chrono::NaiveDateTime;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// No text or password that is read is larger, bytes. Servers refuse far less.
const LARGEST: u64 = 1 << 20;

/// The text of a post or comment: the operand itself, `@PATH` for a file, `-` for standard input, `@@...` for a text
/// that begins with `@`; or the file that `file` names. Line ends at its end are dropped.
///
/// # Errors
/// There is none, there are two, or it cannot be read.
pub(crate) fn content(world: &World, parsed: &Parsed, at: usize, file: &Flag) -> Result<String, Trouble> {
    let text = match (parsed.operand(at), parsed.given(file)) {
        (Some(_), Some(_)) => return Err(Trouble::usage("a text and --file can't be given together")),
        (None, None) => {
            return Err(Trouble::usage("a text is needed")
                .hint("give it between quotes, as @FILE, or as - to read standard input"));
        }
        (None, Some(path)) => read_file(path)?,
        (Some("-"), None) => read_stdin(world)?,
        (Some(text), None) => match text.strip_prefix('@') {
            Some(rest) if rest.starts_with('@') => rest.to_owned(),
            Some(path) => read_file(path).map_err(|trouble| {
                trouble.hint("a text that itself begins with @ is written with two: \"@@ada ...\"")
            })?,
            None => text.to_owned(),
        },
    };
    let text = text.trim_end_matches(['\n', '\r']);
    if text.trim().is_empty() {
        return Err(Trouble::usage("the text is empty"));
    }
    Ok(text.to_owned())
}

/// A password: the operand, `-` for the first line of standard input, or the first line of the file that `file` names.
///
/// # Errors
/// There is none, there are two, or it cannot be read.
pub(crate) fn password(world: &World, parsed: &Parsed, at: usize, file: &Flag) -> Result<String, Trouble> {
    let text = match (parsed.operand(at), parsed.given(file)) {
        (Some(_), Some(_)) => {
            return Err(Trouble::usage("a password and --password-file can't be given together"));
        }
        (None, None) => {
            return Err(Trouble::usage("a password is needed")
                .hint("give it as an argument, as - to read standard input, or by --password-file FILE"));
        }
        (Some("-"), None) => read_stdin(world)?,
        (Some(text), None) => text.to_owned(),
        (None, Some(path)) => read_file(path)?,
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Trouble::usage("the password is empty")),
    }
}

fn read_file(path: &str) -> Result<String, Trouble> {
    let what = format!("can't read {path}");
    let file = std::fs::File::open(Path::new(path))
        .map_err(|error| Trouble::new(what.clone()).cause(error.to_string()))?;
    read(what, file)
}

fn read_stdin(world: &World) -> Result<String, Trouble> {
    read("can't read standard input".to_owned(), &mut *world.stdin.borrow_mut())
}

fn read(what: String, from: impl Read) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    let read = from.take(LARGEST + 1).read_to_end(&mut bytes);
    if let Err(error) = read {
        return Err(Trouble::new(what).cause(error.to_string()));
    }
    if bytes.len() as u64 > LARGEST {
        return Err(Trouble::new(what).cause(format!("it is larger than {LARGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Trouble::new(what).cause("it is not UTF-8"))
}

/// A count that an operand gives, between 1 and `most`; `usual` without one.
///
/// # Errors
/// It is no number or out of bounds.
pub(crate) fn number(operand: Option<&str>, usual: u32, most: u32) -> Result<u32, Trouble> {
    let Some(text) = operand else { return Ok(usual) };
    text.parse().ok().filter(|number| (1..=most).contains(number)).ok_or_else(|| {
        Trouble::usage(format!("`{text}` is not a number of rows")).cause(format!("from 1 to {most}"))
    })
}

/// A duration such as `30s`, `2m`, `500ms`, `1h30m`.
///
/// # Errors
/// It is none.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration, Trouble> {
    let refuse =
        || Trouble::usage(format!("--{name}: `{text}` is not a duration")).hint("such as 30s, 2m or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refuse()),
        };
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(refuse)?;
        rest = after;
    }
    Ok(total)
}

/// A duration in the unit that fits: `0.2 s`, `12 s`, `3 min`, `2 h`, `9 d`.
pub(crate) fn spelled(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{:.1} s", duration.as_secs_f64()),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago a server's time (`2026-11-25 20:59:05.192Z`) was; what is no such time comes back as it is.
pub(crate) fn ago(world: &World, time: &str) -> String {
    let Ok(then) = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.fZ") else {
        return time.to_owned();
    };
    let passed = world.clock.wall().0 - then.and_utc().timestamp_millis();
    // The two clocks may differ a little: nothing was written in the future.
    let passed = Duration::from_millis(u64::try_from(passed).unwrap_or(0));
    if passed < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", spelled(passed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_spelled() {
        for (text, millis, words) in [
            ("500ms", 500, "0.5 s"),
            ("30s", 30_000, "30 s"),
            ("2m", 120_000, "2 min"),
            ("1h30m", 5_400_000, "90 min"),
            ("48h", 172_800_000, "2 d"),
        ] {
            let read = duration("every", text).expect(text);
            assert_eq!((read, spelled(read).as_str()), (Duration::from_millis(millis), words), "{text}");
        }
        for text in
            ["", "2", "m", "2d", "-2m", "1.5h", "2 m", "99999999999999999999h", "18446744073709551615h"]
        {
            assert_eq!(duration("every", text).expect_err(text).exit.0, 2, "{text}");
        }
    }

    #[test]
    fn a_number_of_rows_is_one_within_bounds() {
        for (text, seen) in [
            (None, Some(20)),
            (Some("1"), Some(1)),
            (Some("100"), Some(100)),
            (Some("0"), None),
            (Some("101"), None),
            (Some("x"), None),
        ] {
            assert_eq!(number(text, 20, 100).ok(), seen, "{text:?}");
        }
    }
}
