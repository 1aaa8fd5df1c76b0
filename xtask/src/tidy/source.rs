//! Just enough of Rust's syntax to measure it: where comments, literals, functions and test modules begin and end.
//!
//! Not a parser. It blanks what is not code, then counts braces.

/// A function found in a source text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of `fn`, counted from 1.
    pub(crate) line: usize,
    /// From the line of `fn` to that of its last brace.
    pub(crate) lines: usize,
    /// Inside a `#[cfg(test)]` module or marked as a test.
    pub(crate) test: bool,
}

/// The text with comments, strings and character literals replaced by spaces; line ends stay.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !follows_word(bytes, at) => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here + 1 < bytes.len() {
        match &bytes[here..here + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                here += 1;
                continue;
            }
        }
        here += 2;
        if depth == 0 {
            return here;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b'"' => return here + 1,
            _ => here += 1,
        }
    }
    bytes.len()
}

/// `r"..."` and `r#"..."#`; gives `at` back if it is not one.
fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return at;
    }
    let mut here = at + 2 + hashes;
    while here < bytes.len() {
        if bytes[here] == b'"'
            && bytes[here + 1..].iter().take(hashes).filter(|&&byte| byte == b'#').count() == hashes
        {
            return here + 1 + hashes;
        }
        here += 1;
    }
    bytes.len()
}

/// `'x'` and `'\n'`, but not the lifetime `'a`.
fn char_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes.iter().skip(at + 3).position(|&byte| byte == b'\'');
        return close.map_or(at, |length| at + 4 + length);
    }
    // A character is up to four bytes long.
    let close = bytes.iter().skip(at + 2).take(4).position(|&byte| byte == b'\'');
    match close {
        Some(0) => at + 3,
        Some(length) if !bytes[at + 1].is_ascii() => at + 3 + length,
        _ => at,
    }
}

/// Whether the letter at `at` continues a word (`for"` is not a raw string; `br"` is one).
fn follows_word(bytes: &[u8], at: usize) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    at > 0 && is_word(bytes[at - 1]) && !(bytes[at - 1] == b'b' && (at < 2 || !is_word(bytes[at - 2])))
}

/// Where the brace that opens at or after `from` closes: one past it. `None` if a `;` comes first.
fn body(code: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut nested = 0_i32;
    let mut open = from;
    loop {
        match code.get(open)? {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b';' if nested == 0 => return None,
            b'{' if nested == 0 => break,
            _ => {}
        }
        open += 1;
    }
    let mut depth = 0_usize;
    for (length, byte) in code[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some((open, open + length + 1));
        }
    }
    None
}

/// The byte ranges of items marked `#[cfg(test)]`.
pub(crate) fn test_ranges(code: &str) -> Vec<std::ops::Range<usize>> {
    let mark = "#[cfg(test)]";
    let starts = code.match_indices(mark).map(|(start, _)| start);
    starts.filter_map(|start| body(code.as_bytes(), start + mark.len()).map(|(_, end)| start..end)).collect()
}

/// Every function that has a body.
pub(crate) fn functions(text: &str) -> Vec<Function> {
    let code = code_only(text);
    let tests = test_ranges(&code);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if follows_word(code.as_bytes(), at) {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some((_, end)) = body(code.as_bytes(), at + 3) else { continue };
        if name.is_empty() {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let lines = code[at..end].matches('\n').count() + 1;
        let marked = code[..at].trim_end().trim_end_matches("pub").trim_end().ends_with("#[test]");
        let test = marked || tests.iter().any(|range| range.contains(&at));
        found.push(Function { name, line, lines, test });
    }
    found
}

/// How many lines a file has without its test modules.
pub(crate) fn lines_without_tests(text: &str) -> usize {
    let code = code_only(text);
    let tests: usize =
        test_ranges(&code).into_iter().map(|range| code[range].matches('\n').count() + 1).sum();
    text.lines().count().saturating_sub(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_code_is_blanked() {
        let rows = [
            ("a // {", "a     "),
            ("a /* { /* } */ */ b", "a                 b"),
            (r#"a "{\"" b"#, "a       b"),
            ("r#\"}\"\"# b", "        b"),
            ("'{' '\\'' 'x", "         'x"),
            ("fn f<'a>(c: &'a str) {", "fn f<'a>(c: &'a str) {"),
            ("'é' {", "     {"),
            ("for\"x\"", "for   "),
        ];
        for (text, code) in rows {
            assert_eq!(code_only(text), code, "{text}");
        }
    }

    #[test]
    fn functions_are_measured_from_their_name_to_their_brace() {
        let text = "fn a() {\n}\n\ntrait T { fn b(&self); }\n#[cfg(test)]\nmod t {\n  #[test]\n  fn c() { [0; 3]; }\n}\n";
        let rows: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.line, f.lines, f.test)).collect();
        assert_eq!(rows, [("a".to_owned(), 1, 2, false), ("c".to_owned(), 8, 1, true)]);
        assert_eq!(lines_without_tests(text), 4);
    }

    #[test]
    fn an_array_type_in_a_signature_does_not_end_it() {
        let text = "fn a(x: [u8; 4]) -> [u8; 2] {\n\n}\n";
        assert_eq!(functions(text)[0].lines, 3);
    }
}
