//! `DIFFERENCES.md`: its rows, and that each is shown by a case. Never decides what a row should say.

use super::common::repository;
use super::scenario::{Step, parse};
use std::collections::BTreeSet;

/// Key of a row, and whether cases of the scenarios show it (else the row names the test that does).
pub(crate) fn rows() -> Vec<(String, bool)> {
    let file = repository().join("crates/oraclenet/DIFFERENCES.md");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    rows_of(&text)
}

fn rows_of(text: &str) -> Vec<(String, bool)> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, _, _, _, cases] = cells[..] else { panic!("a row has five cells: {line}") };
        assert!(!cases.is_empty(), "nothing shows the row {key}");
        rows.push((key.trim_matches('`').to_owned(), cases.contains(".requests")));
    }
    rows
}

/// Every row is named by a case, every name is a row, and every case that differs says what is answered here.
pub(crate) fn check(scenarios: &[(&str, &str)]) {
    let rows = rows();
    let known: BTreeSet<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
    let expected: BTreeSet<&str> =
        rows.iter().filter(|(_, shown)| *shown).map(|(key, _)| key.as_str()).collect();
    assert_eq!(known.len(), rows.len(), "two rows have the same key");
    let steps: Vec<Step> = scenarios.iter().flat_map(|(file, text)| parse(file, text)).collect();
    let mut named = BTreeSet::new();
    for step in &steps {
        let Step::Ask(case) = step else { continue };
        match (&case.differs, &case.here) {
            (Some(key), Some(_)) => {
                assert!(named.insert(key.as_str()) | known.contains(key.as_str()), "{key}")
            }
            (None, None) => {}
            _ => panic!("{}: `differs` and `here` go together", case.origin),
        }
    }
    assert_eq!(named, expected, "rows of DIFFERENCES.md on the right, names in the scenarios on the left");
}

#[test]
fn rows_are_read_from_the_table() {
    let text = "| rule | PocketBase | here | why | cases |\n|---|---|---|---|---|\n\
                | `a` | x | y | z | votes.requests |\n| `b` | x | y | z | `some_test` |\n";
    assert_eq!(rows_of(text), [("a".to_owned(), true), ("b".to_owned(), false)]);
}
