//! The papers tell the truth: links lead somewhere, a row that names a test names one that exists.

use super::sizes::is_test;
use super::{File, Tree, source};
use std::collections::HashSet;

/// The failures that have to be tests by now (`docs/failures.md`).
const FAILURES: [&str; 69] = [
    "R01", "R02", "R03", "R04", "R05", "R06", "R07", "R08", "R09", "R10", "R11", "R12", "R13", "R14", "R15",
    "R16", "R17", "R18", "R19", "R20", "R21", "R22", "R23", "R24", "R25", "R26", "R26b", "R27", "R28", "R29",
    "R30", "R31", "R32", "R33", "R34", "R35", "R36", "R37", "R38", "R39", "R40", "R41", "R42", "R43", "R44",
    "R45", "R46", "R48", "R49", "R50", "R51", "R52", "R53", "R54", "R55", "R56", "R57", "R58", "R59", "R60",
    "R61", "R62", "R63", "R64", "R65", "R66", "R67", "R68", "R69",
];

/// Links to files and to headings.
pub(super) fn links(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.markdown() {
        for target in targets(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = if path.is_empty() { file.path.clone() } else { join(folder, path) };
            if !tree.root.join(&path).exists() {
                complaints.push(format!("{}: {target} leads nowhere", file.path));
            } else if !anchor.is_empty() && !has_heading(tree, &path, anchor) {
                complaints.push(format!("{}: no heading for {target}", file.path));
            }
        }
    }
    for paper in ["README", "ARCHITECTURE", "COMPAT", "CONTRIBUTING", "CHANGELOG", "SECURITY"] {
        if tree.file(&format!("{paper}.md")).is_none() {
            complaints.push(format!("{paper}.md is missing"));
        }
    }
    complaints
}

/// What stands in the round brackets after square ones, outside code.
fn targets(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        // Every second piece between backquotes is code.
        for prose in line.split('`').step_by(2) {
            let starts = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
            found.extend(starts.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)));
        }
    }
    found
}

fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn has_heading(tree: &Tree, path: &str, anchor: &str) -> bool {
    let Some(file) = tree.file(path) else { return false };
    file.text
        .lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| slug(line.trim_start_matches('#')) == anchor)
}

fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// In every table whose last column is headed `test` or `tests`, each row names at least one, and each exists.
pub(super) fn named_tests(tree: &Tree) -> Vec<String> {
    let known = test_names(tree);
    let mut complaints = Vec::new();
    for file in tree.markdown() {
        for row in rows_with_tests(file) {
            let names = row.tests();
            if names.is_empty() {
                complaints.push(format!("{}:{} names no test", file.path, row.line));
            }
            let unknown = names.into_iter().filter(|name| !known.contains(*name));
            complaints
                .extend(unknown.map(|name| format!("{}:{}: there is no test {name}", file.path, row.line)));
        }
    }
    complaints
}

/// Every failure that has to be a test has a row, and a test that carries its number.
pub(super) fn catalogue(tree: &Tree) -> Vec<String> {
    let path = "docs/failures.md";
    let Some(file) = tree.file(path) else { return vec![format!("{path} is missing")] };
    let rows = rows_with_tests(file);
    let mut complaints = Vec::new();
    for failure in FAILURES {
        let Some(row) = rows.iter().find(|row| row.cells.first().is_some_and(|cell| cell == failure)) else {
            complaints.push(format!("{path}: no row for {failure}"));
            continue;
        };
        let mark = format!("{}_", failure.to_lowercase());
        let carries = |name: &&str| name.starts_with(&mark) || name.contains(&format!("_{mark}"));
        if !row.tests().iter().any(carries) {
            complaints.push(format!("{path}: no test of {failure} carries its number"));
        }
    }
    complaints
}

struct Row {
    line: usize,
    cells: Vec<String>,
}

impl Row {
    /// The names between backquotes in the last cell.
    fn tests(&self) -> Vec<&str> {
        self.cells.last().map(|cell| cell.split('`').skip(1).step_by(2).collect()).unwrap_or_default()
    }
}

fn rows_with_tests(file: &File) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut inside = false;
    for (number, line) in file.text.lines().enumerate() {
        let Some(cells) = line.trim().strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().to_owned()).collect();
        let last = cells.last().map(String::as_str).unwrap_or_default();
        if matches!(last, "test" | "tests") {
            inside = true;
        } else if inside && !cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':'))) {
            rows.push(Row { line: number + 1, cells });
        }
    }
    rows
}

/// Functions marked as tests, also by the macros that make several from one body.
fn test_names(tree: &Tree) -> HashSet<String> {
    let functions = tree.rust().flat_map(|file| {
        let whole = is_test(file);
        let found = source::functions(&file.text).into_iter().filter(move |function| whole || function.test);
        found.map(|function| function.name)
    });
    functions.collect()
}

/// Paths of the machine that a file was written on are of no use to anybody else.
pub(super) fn words(tree: &Tree) -> Vec<String> {
    let never = [
        concat!("/work/", "main"),
        concat!("/work/", "shared"),
        concat!("/work/", ".library"),
        concat!("/tmp/", "plan"),
        concat!("/tmp/", "target-"),
        concat!("../sha", "red"),
    ];
    let mut complaints = Vec::new();
    for file in tree.files.iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(word) = never.iter().find(|word| line.contains(**word)) {
                complaints.push(format!("{}:{} says {word}", file.path, number + 1));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_only() {
        let text = "a [b](c.md) `[d](e)` [f](g.md#h)\n```\n[i](j)\n```\n";
        assert_eq!(targets(text), ["c.md", "g.md#h"]);
    }

    #[test]
    fn a_path_is_taken_from_the_folder_of_its_paper() {
        let rows = [("", "a.md", "a.md"), ("docs", "../a.md", "a.md"), ("docs", "./b/c.md", "docs/b/c.md")];
        for (folder, path, joined) in rows {
            assert_eq!(join(folder, path), joined);
        }
    }

    #[test]
    fn a_heading_becomes_an_anchor() {
        assert_eq!(slug(" A write becomes durable: how?"), "a-write-becomes-durable-how");
    }

    #[test]
    fn rows_are_those_of_tables_with_a_column_of_tests() {
        let text = "| a | test |\n|---|---|\n| b | `c` `d` |\n\n| e | f |\n|---|---|\n| g | h |\n";
        let file = File { path: "x.md".to_owned(), text: text.to_owned() };
        let rows = rows_with_tests(&file);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].line, rows[0].tests()), (3, vec!["c", "d"]));
    }
}
