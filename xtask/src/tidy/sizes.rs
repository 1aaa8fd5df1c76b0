//! How long functions and files may be, and the habits of a source file.

use super::source::{functions, lines_without_tests};
use super::{File, Tree};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;

/// What is longer, and why that reads better. `path` is a file, or a file and a function.
const LONGER: [(&str, &str); 0] = [];

/// Functions up to 70 lines, files up to 600, tests apart.
pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut used = Vec::new();
    let mut complain = |what: String, lines: usize, limit: usize| {
        if LONGER.iter().any(|(known, _)| *known == what) {
            used.push(what);
        } else {
            complaints.push(format!("{what} has {lines} lines; the limit is {limit}"));
        }
    };
    for file in tree.rust().filter(|file| !is_test(file)) {
        let lines = lines_without_tests(&file.text);
        if lines > FILE_LINES {
            complain(file.path.clone(), lines, FILE_LINES);
        }
        for function in functions(&file.text).into_iter().filter(|function| !function.test) {
            if function.lines > FUNCTION_LINES {
                complain(format!("{}::{}", file.path, function.name), function.lines, FUNCTION_LINES);
            }
        }
    }
    let stale = LONGER.iter().filter(|(known, _)| !used.iter().any(|what| what == known));
    complaints
        .extend(stale.map(|(known, _)| format!("{known} is not too long any more: take it off the list")));
    complaints
}

/// Headers that say what a file does; no test that nobody runs; nothing left to do.
pub(super) fn habits(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let never = [concat!("#[", "ignore"), concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!(")];
    for file in tree.rust() {
        if !is_test(file) && !file.text.starts_with("//!") && !file.text.starts_with("#!") {
            complaints.push(format!("{} does not begin with a header (`//!`)", file.path));
        }
        for (number, line) in file.text.lines().enumerate() {
            if let Some(word) = never.iter().find(|word| line.contains(**word)) {
                complaints.push(format!("{}:{} says `{word}`", file.path, number + 1));
            }
        }
    }
    complaints
}

/// Whether a whole file is tests.
pub(super) fn is_test(file: &File) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    file.path.contains("/tests/") || name == "tests.rs" || name.ends_with("_tests.rs")
}
