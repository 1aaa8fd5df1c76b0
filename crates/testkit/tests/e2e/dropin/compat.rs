//! COMPAT.md as tables that tests can ask: what is not in them is no allowed difference.

use std::collections::{BTreeMap, BTreeSet};

const COMPAT: &str = include_str!("../../../../../COMPAT.md");

/// A row of a table.
#[derive(Debug)]
pub(super) struct Row {
    /// The heading above it.
    pub(super) section: String,
    cells: BTreeMap<String, String>,
    /// Its first cell.
    pub(super) what: String,
}

impl Row {
    /// The cell of a column; `None` if the table has none of that name.
    pub(super) fn cell(&self, column: &str) -> Option<&str> {
        self.cells.get(column).map(String::as_str)
    }

    /// What stands as code in a column.
    pub(super) fn codes(&self, column: &str) -> BTreeSet<String> {
        codes(self.cell(column).unwrap_or_default()).into_iter().collect()
    }

    /// Whether the row tells of something that not every run brings.
    pub(super) fn at_times(&self) -> bool {
        self.cell("when").is_some_and(|when| when.starts_with("at times"))
    }
}

/// Every row of COMPAT.md.
pub(super) fn rows() -> Vec<Row> {
    of(COMPAT)
}

/// Every row below this heading.
pub(super) fn rows_of(section: &str) -> Vec<Row> {
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.section == section).collect();
    assert!(!rows.is_empty(), "COMPAT.md has no table below the heading {section}");
    rows
}

/// The rows of this text.
pub(super) fn of(text: &str) -> Vec<Row> {
    let (mut section, mut head, mut found) = (String::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with('#') {
            section = line.trim_start_matches('#').trim().to_owned();
        }
        let Some(cells) = line.strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else {
            head.clear();
            continue;
        };
        let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().to_owned()).collect();
        if head.is_empty() {
            head = cells;
        } else if !cells[0].starts_with("--") {
            assert_eq!(head.len(), cells.len(), "COMPAT.md: a row with too few or too many cells: {line}");
            let what = cells[0].clone();
            let cells = head.iter().cloned().zip(cells).collect();
            found.push(Row { section: section.clone(), cells, what });
        }
    }
    found
}

/// What stands between backquotes, single or double ones.
pub(super) fn codes(mut cell: &str) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((_, rest)) = cell.split_once('`') {
        let (code, rest) = match rest.strip_prefix('`') {
            Some(rest) => rest.split_once("``"),
            None => rest.split_once('`'),
        }
        .unwrap_or((rest, ""));
        found.push(code.trim().to_owned());
        cell = rest;
    }
    found
}

#[test]
fn a_table_is_read_with_its_heading_its_columns_and_its_code() {
    let text = "# A\n\n## B c\n\n| what | when |\n|---|---|\n| `a` and `` `b` c `` | at times: x |\n\n| d | e |\n|---|---|\n| f | g |\n";
    let rows = of(text);
    let [first, second] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(
        (first.section.as_str(), codes(&first.what)),
        ("B c", vec!["a".to_owned(), "`b` c".to_owned()])
    );
    assert_eq!((first.at_times(), second.at_times()), (true, false));
    assert_eq!((second.cell("e"), second.cell("when")), (Some("g"), None));
}
