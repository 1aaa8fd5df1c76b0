//! Environment variables in the configuration file, before it is parsed.
//!
//! `$NAME` and `${NAME}` by the rules of Go's `os.Expand`: what is not set becomes nothing, `$PID` is this process,
//! and there is no escape: a `$` before a letter, a digit or one of `*#$@!?-` is always a variable. Such a `$` in a
//! password is a trap that Litestream lays too, so the names that are not set are handed back for a warning.
//! `${NAME:-default}` is a shell's: the default counts where the variable is not set or empty, and may hold variables.

use super::remark::Place;

/// The text after expansion, and the way back to the text before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// What to parse.
    pub(crate) text: String,
    /// Names that are not set and have no default, each with its first place outside comments.
    pub(crate) unset: Vec<(String, Place)>,
    /// Names that were used outside comments, each with its line.
    pub(crate) used: Vec<(String, u64)>,
    /// Where each piece begins: in `text`, in the file, and whether it was copied as it stands.
    pieces: Vec<(usize, usize, bool)>,
    /// The file's text.
    file: String,
}

/// Gives a variable's value, `None` for one that is not set.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Defaults may hold variables with defaults, so many deep; what lies deeper stays as it stands.
const DEPTH: u32 = 8;

/// Expands every variable; `lookup` gives `None` for one that is not set.
pub(crate) fn expand(text: &str, lookup: Lookup<'_>) -> Expanded {
    expand_to(text, lookup, DEPTH)
}

/// The text as Litestream expands it, to which a default is a part of the variable's name: the whole becomes nothing.
pub(crate) fn as_litestream(text: &str, lookup: Lookup<'_>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, len) = name(after, |text| text.find('}'));
        rest = &after[len..];
        match name {
            "" if len == 0 => out.push('$'),
            name if name.is_empty() || name.contains(":-") => {}
            name => out.push_str(&lookup(name).unwrap_or_default()),
        }
    }
    out + rest
}

fn expand_to(text: &str, lookup: Lookup<'_>, depth: u32) -> Expanded {
    let mut out = Expanded { file: text.to_owned(), ..Expanded::default() };
    let Some(depth) = depth.checked_sub(1) else {
        out.text = text.to_owned();
        return out;
    };
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let comment = line.trim_start().starts_with('#');
        out.line(line, at, (!comment).then_some(number), lookup, depth);
        at += line.len();
    }
    out
}

impl Expanded {
    /// One line, which begins at `start` and, unless it is a comment, has this number.
    fn line(&mut self, line: &str, start: usize, number: Option<u64>, lookup: Lookup<'_>, depth: u32) {
        let mut rest = line;
        while let Some(at) = rest.find('$') {
            let from = start + line.len() - rest.len();
            self.pieces.push((self.text.len(), from, true));
            self.text.push_str(&rest[..at]);
            self.pieces.push((self.text.len(), from + at, false));
            let after = &rest[at + 1..];
            let (name, len) = name(after, closing);
            rest = &after[len..];
            match name {
                "" if len == 0 => self.text.push('$'),
                "" => {}
                name => {
                    let column = column(&line[..from + at - start]);
                    let place = number.map(|line| Place { line, column });
                    self.variable(name, place, lookup, depth);
                }
            }
        }
        self.pieces.push((self.text.len(), start + line.len() - rest.len(), true));
        self.text.push_str(rest);
    }

    fn variable(&mut self, name: &str, place: Option<Place>, lookup: Lookup<'_>, depth: u32) {
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        self.used.extend(place.map(|place| (name.to_owned(), place.line)));
        match (lookup(name), default, place) {
            (Some(value), None, _) => self.text.push_str(&value),
            (Some(value), Some(_), _) if !value.is_empty() => self.text.push_str(&value),
            (_, Some(default), place) => {
                let inner = expand_to(default, lookup, depth);
                self.text.push_str(&inner.text);
                for (name, _) in inner.unset {
                    self.missing(&name, place);
                }
            }
            (None, None, place) => self.missing(name, place),
        }
    }

    fn missing(&mut self, name: &str, place: Option<Place>) {
        if let Some(place) = place
            && !self.unset.iter().any(|(known, _)| known == name)
        {
            self.unset.push((name.to_owned(), place));
        }
    }

    /// The place in the file of a place in the expanded text: within what a variable gave, the variable's.
    pub(crate) fn origin(&self, place: Place) -> Place {
        let offset = offset_of(&self.text, place);
        let index = self.pieces.partition_point(|(at, _, _)| *at <= offset);
        match index.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some((at, from, true)) => place_at(&self.file, from + (offset - at)),
            Some((_, from, false)) => place_at(&self.file, *from),
            None => place,
        }
    }
}

/// Bytes before a place.
fn offset_of(text: &str, place: Place) -> usize {
    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text.split_inclusive('\n').take(index(place.line)).map(str::len).sum();
    let column = text[line..].chars().take(index(place.column)).map(char::len_utf8).sum::<usize>();
    line + column
}

/// The place of a byte.
fn place_at(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let lines = u64::try_from(before.matches('\n').count()).unwrap_or(u64::MAX);
    Place { line: lines.saturating_add(1), column: column(&before[line..]) }
}

/// The column of what follows `before` in its line.
fn column(before: &str) -> u64 {
    u64::try_from(before.chars().count()).unwrap_or(u64::MAX).saturating_add(1)
}

/// The name that follows a `$`, with its default, and how many bytes it takes. A name that is empty but takes bytes is
/// bad syntax, which vanishes; one that takes none leaves the `$` alone. `closing` tells where a brace closes.
fn name(text: &str, closing: impl Fn(&str) -> Option<usize>) -> (&str, usize) {
    let special = |c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9');
    let Some(first) = text.chars().next() else { return ("", 0) };
    if first == '{' {
        return match closing(text) {
            Some(end) => (&text[1..end], end + 1),
            None => ("", 1),
        };
    }
    if special(first) {
        return (&text[..1], 1);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (&text[..end], end)
}

/// Where the brace closes that `text` begins with. Only a default may hold others.
fn closing(text: &str) -> Option<usize> {
    let first = text.find('}')?;
    if !text[..first].contains(":-") {
        return Some(first);
    }
    let mut open = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 1 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Expanded {
        expand(text, &|name| match name {
            "HOME" => Some("/home/ada".to_owned()),
            "A_1" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("$HOME".to_owned()),
            "LINES" => Some("a\nb".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_expanded_as_go_does_it() {
        for (text, expected) in [
            ("a: $HOME/x", "a: /home/ada/x"),
            ("a: ${HOME}x", "a: /home/adax"),
            ("$A_1-$A_1", "one-one"),
            ("$NOT_SET.", "."),
            ("${NOT_SET}.", "."),
            ("$EMPTY.", "."),
            ("$NESTED", "$HOME"),
            ("${}x", "x"),
            ("${HOME", "HOME"),
            ("5 $ x", "5 $ x"),
            ("$", "$"),
            ("$.", "$."),
            ("a$1b", "ab"),
            ("$$HOME", "HOME"),
            ("$\u{e9}", "$\u{e9}"),
            ("", ""),
            ("no variables\n", "no variables\n"),
        ] {
            assert_eq!(expanded(text).text, expected, "{text}");
        }
    }

    #[test]
    fn a_default_counts_where_a_variable_is_not_set_or_empty() {
        for (text, expected) in [
            ("${NOT_SET:-x}.", "x."),
            ("${EMPTY:-x}.", "x."),
            ("${A_1:-x}.", "one."),
            ("${NOT_SET:-}.", "."),
            ("${NOT_SET:-$HOME/db}.", "/home/ada/db."),
            ("${NOT_SET:-${A_1}-${EMPTY:-y}}.", "one-y."),
            ("${NOT_SET:-a:-b}", "a:-b"),
            ("${NOT_SET:-x", "NOT_SET:-x"),
            ("${NOT_SET-x}", ""),
        ] {
            assert_eq!(expanded(text).text, expected, "{text}");
        }
        let deep = |depth| format!("{}x{}", "${N:-".repeat(depth), "}".repeat(depth));
        assert_eq!(expanded(&deep(7)).text, "x");
        assert_eq!(expanded(&deep(8)).text, "x");
        assert_eq!(expanded(&deep(9)).text, "${N:-x}");
        assert_eq!(expanded(&deep(100_000)).text.len(), 6 * (100_000 - 8) + 1);
        assert_eq!(expanded("${X:-1} ${Y:-$Z}").unset, [("Z".to_owned(), Place { line: 1, column: 9 })]);
    }

    #[test]
    fn names_that_are_not_set_are_told_once_and_not_for_comments() {
        let text = "# $IN_COMMENT\nkey: ${MISSING}\nother: $MISSING $EMPTY\n  # $X\npass: pa$5word";
        let at = |line, column| Place { line, column };
        let unset = expanded(text).unset;
        assert_eq!(unset, [("MISSING".to_owned(), at(2, 6)), ("5".to_owned(), at(5, 9))]);
    }

    #[test]
    fn a_place_is_told_as_it_is_in_the_file() {
        let text = "a: {b: $HOME, c: 1}\nd: $LINES\n\u{e9}: ${HOME} x\n";
        let expanded = expanded(text);
        assert_eq!(expanded.text, "a: {b: /home/ada, c: 1}\nd: a\nb\n\u{e9}: /home/ada x\n");
        for (line, column, expected) in [
            (1, 1, (1, 1)),
            (1, 10, (1, 8)),
            (1, 19, (1, 15)),
            (2, 4, (2, 4)),
            (3, 1, (2, 4)),
            (4, 1, (3, 1)),
            (4, 4, (3, 4)),
            (4, 14, (3, 12)),
            (5, 1, (4, 1)),
        ] {
            let place = expanded.origin(Place { line, column });
            assert_eq!((place.line, place.column), expected, "{line}:{column}");
        }
    }
}
