//! Environment variables in the configuration file, before it is parsed, by the rules of Go's `os.Expand`.
//!
//! `$NAME` and `${NAME}`; what is not set becomes nothing; `$PID` is this process. There is no escape: a `$` before
//! a letter, a digit or one of `*#$@!?-` is always a variable. Such a `$` in a password is a trap that Litestream
//! lays too, so the names that are not set are handed back for a warning.

/// The text after expansion.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// What to parse.
    pub(crate) text: String,
    /// Names that are not set, each with the line of its first use outside comments.
    pub(crate) unset: Vec<(String, usize)>,
}

/// Expands every variable; `lookup` gives `None` for one that is not set.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Expanded {
    let mut out = Expanded { text: String::with_capacity(text.len()), unset: Vec::new() };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let comment = line.trim_start().starts_with('#');
        let mut rest = line;
        while let Some(at) = rest.find('$') {
            out.text.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (name, len) = name(after);
            rest = &after[len..];
            match name {
                "" if len == 0 => out.text.push('$'),
                "" => {}
                name => match lookup(name) {
                    Some(value) => out.text.push_str(&value),
                    None if comment || out.unset.iter().any(|(known, _)| known == name) => {}
                    None => out.unset.push((name.to_owned(), number + 1)),
                },
            }
        }
        out.text.push_str(rest);
    }
    out
}

/// The name that follows a `$`, and how many bytes it takes. A name that is empty but takes bytes is bad syntax,
/// which vanishes; one that takes none leaves the `$` alone.
fn name(text: &str) -> (&str, usize) {
    let special = |c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9');
    let Some(first) = text.chars().next() else { return ("", 0) };
    if first == '{' {
        return match text.find('}') {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Expanded {
        expand(text, |name| match name {
            "HOME" => Some("/home/ada".to_owned()),
            "A_1" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("$HOME".to_owned()),
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
    fn names_that_are_not_set_are_told_once_and_not_for_comments() {
        let text = "# $IN_COMMENT\nkey: ${MISSING}\nother: $MISSING $EMPTY\n  # $X\npass: pa$5word";
        assert_eq!(expanded(text).unset, [("MISSING".to_owned(), 2), ("5".to_owned(), 5)]);
    }
}
