//! A command line as words, by the quoting rules of a shell and nothing else of a shell: no variables, no pipes.

/// Splits a command line. Backslash quotes one character (inside double quotes only `\`, `"`, `$` and a backquote).
///
/// # Errors
/// An open quote, or a character that only a shell could obey: a command that silently lost its second half would
/// be worse than an error.
pub(crate) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => quoted(&mut chars, word.get_or_insert_default(), '\'')?,
            '"' => quoted(&mut chars, word.get_or_insert_default(), '"')?,
            '\\' => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("a backslash at the end quotes nothing".to_owned()),
            },
            ';' | '&' | '|' | '<' | '>' | '`' => {
                return Err(format!("`{c}` needs a shell: sh -c '...'"));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.is_empty() { Err("the command is empty".to_owned()) } else { Ok(words) }
}

fn quoted(chars: &mut std::str::Chars<'_>, word: &mut String, quote: char) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some(next @ ('\\' | '"' | '$' | '`')) => word.push(next),
                Some(next) => word.extend(['\\', next]),
                None => break,
            },
            c => word.push(c),
        }
    }
    Err(format!("a {quote} is never closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_would() {
        for (line, words) in [
            ("app", &["app"] as &[&str]),
            ("  app  -a 'b c' \"d e\" ", &["app", "-a", "b c", "d e"]),
            (r#"sh -c 'a && b | "c"'"#, &["sh", "-c", r#"a && b | "c""#]),
            (r#"a"b"'c'd"#, &["abcd"]),
            ("a '' \"\"", &["a", "", ""]),
            (r"a\ b c\'d", &["a b", "c'd"]),
            (r#""a\"b\n\\""#, &[r#"a"b\n\"#]),
            ("echo $HOME", &["echo", "$HOME"]),
            ("a\tb\nc", &["a", "b", "c"]),
        ] {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
    }

    #[test]
    fn what_only_a_shell_could_do_is_refused() {
        for (line, reason) in [
            ("", "empty"),
            ("  ", "empty"),
            ("a && b", "sh -c"),
            ("a > b", "sh -c"),
            ("a; b", "sh -c"),
            ("a 'b", "never closed"),
            ("a \"b\\", "never closed"),
            ("a \\", "quotes nothing"),
        ] {
            let error = split(line).expect_err(line);
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
