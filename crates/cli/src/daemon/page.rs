//! Prometheus' text format: every family once, with its help and its type, and every label escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows, from the start of the process on.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by upper bound, their sum and their number.
    Histogram,
}

impl Kind {
    /// As the format spells it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric with all its labels.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its samples are.
    pub(crate) kind: Kind,
    /// The names of its labels, as they are read by people.
    pub(crate) labels: &'static str,
    /// What it means, in one line.
    pub(crate) help: &'static str,
}

/// Labels with their values.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Samples by family.
#[derive(Debug, Default)]
pub(crate) struct Page(BTreeMap<&'static str, String>);

impl Page {
    /// Adds a sample.
    pub(crate) fn add(&mut self, family: &Family, labels: Labels<'_>, value: f64) {
        self.line(family, "", labels, value);
    }

    /// Adds a histogram: counts for each bound and one more above them, and the sum.
    pub(crate) fn histogram(
        &mut self,
        family: &Family,
        labels: Labels<'_>,
        bounds: &[&str],
        counts: &[u64],
        sum: f64,
    ) {
        let mut total = 0;
        for (bound, count) in bounds.iter().copied().chain(["+Inf"]).zip(counts) {
            total += count;
            let all: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
            self.line(family, "_bucket", &all, float(total));
        }
        self.line(family, "_sum", labels, sum);
        self.line(family, "_count", labels, float(total));
    }

    fn line(&mut self, family: &Family, suffix: &str, labels: Labels<'_>, value: f64) {
        let declared = family.labels.split(',').filter(|name| !name.is_empty());
        let used = labels.iter().map(|(name, _)| *name).filter(|name| *name != "le");
        debug_assert!(declared.eq(used), "BUG: {} has the labels {labels:?}", family.name);
        let out = self.0.entry(family.name).or_default();
        let mut shown = String::new();
        for (name, value) in labels {
            let comma = if shown.is_empty() { "" } else { "," };
            let _ = write!(shown, "{comma}{name}=\"{}\"", escaped(value));
        }
        let braces = if shown.is_empty() { String::new() } else { format!("{{{shown}}}") };
        let _ = writeln!(out, "{}{suffix}{braces} {value}", family.name);
    }

    /// The page, in the order of `families`; those without a sample are left out.
    pub(crate) fn text(&self, families: &[&Family]) -> String {
        let mut out = String::new();
        for family in families {
            let Some(lines) = self.0.get(family.name) else { continue };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ =
                writeln!(out, "# HELP {} {help}\n# TYPE {} {}", family.name, family.name, family.kind.name());
            out.push_str(lines);
        }
        out
    }
}

/// A count as a sample's value; exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "samples are floating point numbers")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    static GAUGE: Family = Family { name: "g", kind: Kind::Gauge, labels: "db", help: "a \\ gauge" };
    static TIMES: Family = Family { name: "t", kind: Kind::Histogram, labels: "op", help: "times" };

    static BARE: Family = Family { name: "b", kind: Kind::Counter, labels: "", help: "bare" };

    #[test]
    fn a_family_is_described_once_and_its_labels_are_escaped() {
        let mut page = Page::default();
        page.histogram(&TIMES, &[("op", "x")], &["0.1", "1"], &[2, 0, 1], 3.5);
        page.add(&GAUGE, &[("db", "/a \"b\"\\c\nd")], 1.5);
        page.add(&BARE, &[], 1e15);
        assert_eq!(
            page.text(&[&GAUGE, &BARE, &TIMES]),
            "# HELP g a \\\\ gauge\n# TYPE g gauge\ng{db=\"/a \\\"b\\\"\\\\c\\nd\"} 1.5\n\
             # HELP b bare\n# TYPE b counter\nb 1000000000000000\n\
             # HELP t times\n# TYPE t histogram\nt_bucket{op=\"x\",le=\"0.1\"} 2\nt_bucket{op=\"x\",le=\"1\"} 2\n\
             t_bucket{op=\"x\",le=\"+Inf\"} 3\nt_sum{op=\"x\"} 3.5\nt_count{op=\"x\"} 3\n"
        );
    }
}
