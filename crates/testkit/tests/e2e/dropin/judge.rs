//! Which difference is allowed, by the tables of COMPAT.md and by [`DIFFERENCES`]. Everything in them must be seen too, but for
//! what COMPAT.md says comes at times.

use super::compat::{self, Row};
use super::differences::{DIFFERENCES, ERROR, Side};
use super::facts::Fact;
use std::collections::{BTreeMap, BTreeSet};

/// A fact that only one has, and the step in which it does.
pub(super) type Found = (Side, String, Fact);

const SIDES: [(Side, &str); 2] = [(Side::Theirs, "only 0.3.13"), (Side::Ours, "only litekeep")];

/// What COMPAT.md lists one by one. The keys are what a difference is looked up by.
pub(super) struct Allowed {
    keys: BTreeMap<String, Mark>,
}

/// What becomes of an allowed difference.
struct Mark {
    at_times: bool,
    seen: bool,
}

impl Allowed {
    pub(super) fn by_compat() -> Self {
        let mut allowed = Self { keys: BTreeMap::new() };
        for row in compat::rows_of("Log lines that only litekeep has") {
            let line = one(&row);
            allowed.add(&row, format!("Ours line {line}"));
            let message = line.split_once(' ').map_or(line.as_str(), |(_, message)| message).to_owned();
            for field in row.codes("fields") {
                allowed.add(&row, format!("Ours field {message}: {field}"));
            }
        }
        for row in compat::rows_of("Log lines that only 0.3.13 has") {
            allowed.add(&row, format!("Theirs line {}", one(&row)));
        }
        for row in compat::rows_of("Fields that only one of them has, in lines of both") {
            for (side, column) in SIDES {
                for field in row.codes(column) {
                    allowed.add(&row, format!("{side:?} field {}: {field}", one(&row)));
                }
            }
        }
        for (side, section) in [
            (Side::Ours, "Metrics that only litekeep has, or has more of"),
            (Side::Theirs, "Metrics that only 0.3.13 has, or has more of"),
        ] {
            for row in compat::rows_of(section) {
                let labels: Vec<String> = row.codes("labels").into_iter().collect();
                allowed.add(&row, format!("{side:?} series {} {labels:?}", one(&row)));
            }
        }
        allowed
    }

    fn add(&mut self, row: &Row, key: String) {
        let mark = Mark { at_times: row.at_times(), seen: false };
        assert!(self.keys.insert(key.clone(), mark).is_none(), "COMPAT.md has this twice: {key}");
    }

    /// Whether COMPAT.md has it; it is seen then.
    fn take(&mut self, key: &str) -> bool {
        self.keys.get_mut(key).is_some_and(|mark| {
            mark.seen = true;
            true
        })
    }

    /// Whether the tables have this fact.
    fn has(&mut self, side: Side, fact: &Fact) -> bool {
        match fact {
            Fact::Line { level, message } => self.take(&format!("{side:?} line {level} {message}")),
            // A line that only 0.3.13 has is listed without its fields.
            Fact::Field { message, name, .. } => {
                self.take(&format!("{side:?} field {message}: {name}"))
                    || side == Side::Theirs && self.has_line(message)
            }
            Fact::Series { name, labels } => {
                let known = |label: &&(String, String)| label.0 != "le";
                let labels: Vec<&String> = labels.iter().filter(known).map(|(name, _)| name).collect();
                let parts = ["_bucket", "_count", "_sum"].map(|part| name.strip_suffix(part).unwrap_or(name));
                let mut names = parts.into_iter().chain([name.as_str(), "go_*"]);
                names.any(|it| {
                    (it != "go_*" || name.starts_with("go_"))
                        && self.take(&format!(
                            "{side:?} series {it} {:?}",
                            if it == "go_*" { Vec::new() } else { labels.clone() }
                        ))
                })
            }
            // The types of what is listed; that they are those of the tables is another test's affair.
            Fact::Type { name, .. } => {
                let begin = format!("{side:?} series {name} ");
                self.keys.keys().any(|key| key.starts_with(&begin))
                    || side == Side::Theirs && name.starts_with("go_")
            }
            Fact::Code(_) | Fact::Text { .. } | Fact::Form { .. } => false,
        }
    }

    fn has_line(&self, message: &str) -> bool {
        let levels = ["INFO", "WARN", "ERROR"];
        levels.iter().any(|level| self.keys.contains_key(&format!("Theirs line {level} {message}")))
    }

    fn unseen(&self) -> impl Iterator<Item = String> + '_ {
        self.keys.iter().filter(|(_, mark)| !mark.seen && !mark.at_times).map(|(key, _)| key.clone())
    }
}

/// What the row is about, under the name that both programs go by in the scenario.
fn one(row: &Row) -> String {
    let codes = compat::codes(&row.what);
    let [only] = &codes[..] else { panic!("COMPAT.md: one of them in a row: {row:?}") };
    // The metrics keep their names.
    if only.starts_with("litekeep_") { only.clone() } else { only.replace("litekeep", "litestream") }
}

/// What is wrong: a difference that no table has, or one of the tables that there was not.
pub(super) fn complaints(found: &[Found]) -> Vec<String> {
    let mut allowed = Allowed::by_compat();
    let mut met = BTreeSet::new();
    let mut complaints = Vec::new();
    // The steps in which 0.3.13 told of an error have one of ours.
    let failed = |fact: &Fact| matches!(fact, Fact::Line { level, .. } if level == "ERROR");
    let failures: BTreeSet<&String> =
        found.iter().filter(|it| it.0 == Side::Theirs && failed(&it.2)).map(|(_, step, _)| step).collect();
    for (side, step, fact) in found {
        let text = fact.to_string();
        let error = text.starts_with(ERROR);
        if *side == Side::Ours && error && failures.contains(step) {
            continue;
        }
        let covers = |at: &usize| DIFFERENCES[*at].covers(*side, step, &text);
        let rows: Vec<usize> = (0..DIFFERENCES.len()).filter(covers).collect();
        if rows.is_empty() && !allowed.has(*side, fact) {
            complaints.push(format!("{step}: {side:?} alone: {fact}"));
        }
        met.extend(rows.into_iter().map(|at| (at, step.as_str())));
    }
    for (at, row) in DIFFERENCES.iter().enumerate() {
        let unmet = row.steps().filter(|step| !met.contains(&(at, *step)));
        complaints.extend(unmet.map(|step| format!("{step}: a difference that is none any more: {row:?}")));
    }
    complaints.extend(allowed.unseen().map(|key| format!("COMPAT.md has what is not so: {key}")));
    complaints
}
