//! stdout for data, stderr for talk, and nothing on either that a terminal would take for a command.

use super::World;
use super::trouble::Trouble;
use serde_json::Value;
use std::io::Write;

/// Writes text to stdout as it stands.
///
/// # Errors
/// stdout takes no more, other than by having been closed by its reader.
pub(crate) fn text(world: &World, text: &str) -> Result<(), Trouble> {
    let mut stdout = world.stdout.borrow_mut();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Trouble::new("can't write to stdout").cause(error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Writes JSON to stdout, indented by two spaces.
///
/// # Errors
/// See [`text`].
pub(crate) fn json(world: &World, value: &Value) -> Result<(), Trouble> {
    text(world, &format!("{}\n", escaped(&format!("{value:#}"))))
}

/// Writes JSON to stdout in one line.
///
/// # Errors
/// See [`text`].
pub(crate) fn json_line(world: &World, value: &Value) -> Result<(), Trouble> {
    text(world, &format!("{}\n", escaped(&value.to_string())))
}

/// Writes a line to stderr.
pub(crate) fn talk(world: &World, line: &str) {
    let mut stderr = world.stderr.borrow_mut();
    let _ = writeln!(stderr, "{line}").and_then(|()| stderr.flush());
}

/// The control characters that JSON lets stand as they are and that some terminals obey, spelled out. In JSON they can
/// only be inside strings.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A text that others wrote, safe on a terminal: control characters but line feed and tab, and those that turn the
/// direction of writing, are replaced.
pub(crate) fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let keep = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || turns(c));
    text.replace("\r\n", "\n").chars().map(|c| if keep(c) { c } else { '\u{fffd}' }).collect()
}

/// The same in one line, at most so many characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let flat = printable(text).split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(most) {
        Some(_) => flat.chars().take(most.saturating_sub(1)).chain(['\u{2026}']).collect(),
        None => flat,
    }
}

/// Lays rows out in columns two spaces apart, the first row being the head; ends with a line feed.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Every line of a text moved to the right.
pub(crate) fn indented(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    let lines = text.lines().map(|line| format!("{space}{line}").trim_end().to_owned() + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_reaches_the_terminal_as_a_command() {
        for (text, shown) in [
            ("plain\n\ttext é 🦞", "plain\n\ttext é 🦞"),
            ("a\u{1b}]0;owned\u{7}b", "a\u{fffd}]0;owned\u{fffd}b"),
            ("a\rb", "a\u{fffd}b"),
            ("a\r\nb", "a\nb"),
            ("a\u{9b}2Jb", "a\u{fffd}2Jb"),
            ("\u{202e}cod.exe", "\u{fffd}cod.exe"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
        assert_eq!(escaped("{\"a\":\"\u{9b}2J\u{7f}é\"}"), "{\"a\":\"\\u009b2J\\u007fé\"}");
    }

    #[test]
    fn a_line_is_cut_with_a_sign_of_it() {
        for (text, most, shown) in [("abc", 3, "abc"), ("abcd", 3, "ab\u{2026}"), ("a\n  b", 9, "a b")] {
            assert_eq!(one_line(text, most), shown);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["id", "name"], ["abc", "Ada"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "id   name\nabc  Ada\n");
        assert_eq!(columns::<1>(&[]), "");
        assert_eq!(indented("a\n\nb", 2), "  a\n\n  b\n");
    }
}
