//! Whatever a user of Litestream may know by name has a row in COMPAT.md, and the row a verdict. That the tests exist that the
//! rows name is checked by `cargo xtask tidy`.

use super::compat::{self, Row};
use std::collections::BTreeSet;

const NAMES: &str = include_str!("reference.txt");

/// What may be said of something of Litestream's; and of what Litestream does not have.
const VERDICTS: [&str; 6] = ["same", "better", "refused", "not there", "no effect", "only here"];

/// The headings under which commands are listed with their flags.
const COMMANDS: &str = "Commands and flags";

/// The names that have no row under their heading.
fn missing(names: &str, rows: &[Row]) -> Vec<String> {
    let (mut section, mut found) = ("", Vec::new());
    for line in names.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
            continue;
        }
        let cells = rows.iter().filter(|row| row.section == section && row.cell("verdict").is_some());
        let cells: Vec<BTreeSet<String>> =
            cells.map(|row| compat::codes(&row.what).into_iter().collect()).collect();
        let mut words = line.split(' ').filter(|_| section == COMMANDS);
        let first = words.next().unwrap_or(line);
        let has = |names: &[&str]| cells.iter().any(|cell| names.iter().all(|name| cell.contains(*name)));
        if !has(&[first]) {
            found.push(format!("{section}: {first}"));
        }
        let flags = words.filter(|flag| !has(&[first, flag]));
        found.extend(flags.map(|flag| format!("{section}: {first} {flag}")));
    }
    found
}

/// Rows whose verdict is none, or that do not say how or why.
fn unjudged(rows: &[Row]) -> Vec<String> {
    let wrong = |row: &&Row| {
        let verdict = row.cell("verdict").unwrap_or_default();
        let reason = row.cell("how").is_some_and(|how| !how.is_empty());
        !VERDICTS.contains(&verdict) || !reason && !matches!(verdict, "same" | "only here")
    };
    let judged = rows.iter().filter(|row| row.cell("verdict").is_some());
    judged.filter(wrong).map(|row| format!("{}: {}", row.section, row.what)).collect()
}

#[test]
fn every_name_that_litestream_has_is_judged_in_compat() {
    let rows = compat::rows();
    let missing = missing(NAMES, &rows);
    assert!(missing.is_empty(), "COMPAT.md has no row with a verdict for:\n{}", missing.join("\n"));
    let unjudged = unjudged(&rows);
    assert!(
        unjudged.is_empty(),
        "rows of COMPAT.md without {VERDICTS:?}, or without how:\n{}",
        unjudged.join("\n")
    );
}

#[test]
fn a_name_without_a_row_and_a_row_without_a_verdict_are_told() {
    let table = "## Commands and flags\n| what | verdict | how |\n|---|---|---|\n| `a` with `-b` | same | |\n| `c` | better | |\n\
                 | `d` | fine | x |\n\n## Other\n| what | verdict | how |\n|---|---|---|\n| `e f` | not there | x |\n";
    let rows = compat::of(table);
    let names = "# text\n## Commands and flags\na -b -x\nc\nd -b\nz\n\n## Other\ne f\na\n";
    let expected =
        ["Commands and flags: a -x", "Commands and flags: d -b", "Commands and flags: z", "Other: a"];
    assert_eq!(missing(names, &rows), expected);
    assert_eq!(unjudged(&rows), ["Commands and flags: `c`", "Commands and flags: `d`"]);
}
