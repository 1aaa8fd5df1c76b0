//! A reader of Prometheus' text format that forgives nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Status and body of a page.
#[track_caller]
pub(crate) fn get(addr: &str, target: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).expect("connected");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {addr}\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    assert_eq!(len.parse(), Ok(body.len()));
    (status, body.to_owned())
}

/// One page of metrics.
#[derive(Debug, Default)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Gets the page and reads every line of it.
    #[track_caller]
    pub(crate) fn of(addr: &str) -> Self {
        let (status, text) = get(addr, "/metrics");
        assert_eq!(status, 200, "{text}");
        Self::read(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
    }

    /// The value of a series, with its labels as the page spells them.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut scrape = Self::default();
        let mut known = BTreeSet::new();
        let mut family: Option<(String, String)> = None;
        let mut lines = text.lines();
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(line)?;
                let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
                let kind = kind.ok_or_else(|| format!("no TYPE after the HELP of {name}"))?;
                if !is_name(name) || help.is_empty() || !known.insert(name.to_owned()) {
                    return Err(format!("a wrong or second HELP: {line}"));
                }
                if !matches!(kind, "counter" | "gauge" | "histogram") {
                    return Err(format!("{name} is a {kind}"));
                }
                family = Some((name.to_owned(), kind.to_owned()));
                continue;
            }
            let (name, kind) = family.as_ref().ok_or_else(|| format!("no HELP before {line}"))?;
            let (series, value) = line.rsplit_once(' ').ok_or(line)?;
            let value: f64 = value.parse().map_err(|_| format!("no number: {line}"))?;
            let (sample, labels) = series.split_once('{').unwrap_or((series, ""));
            let suffix =
                sample.strip_prefix(name.as_str()).ok_or_else(|| format!("{line} is not of {name}"))?;
            let right = if kind == "histogram" {
                matches!(suffix, "_bucket" | "_sum" | "_count")
            } else {
                suffix.is_empty()
            };
            if !right || (series.contains('{') && !are_labels(labels)) || !value.is_finite() || value < 0.0 {
                return Err(format!("a wrong sample: {line}"));
            }
            if scrape.0.insert(series.to_owned(), value).is_some() {
                return Err(format!("twice: {series}"));
            }
        }
        scrape.histograms_add_up()?;
        Ok(scrape)
    }

    /// Buckets only grow, and the last one is the count.
    fn histograms_add_up(&self) -> Result<(), String> {
        for (series, value) in &self.0 {
            let Some((head, _)) = series.split_once(",le=\"+Inf\"}") else { continue };
            let count = format!("{}}}", head.replacen("_bucket{", "_count{", 1));
            if self.0.get(&count) != Some(value) {
                return Err(format!("{series} is not {count}"));
            }
            let buckets = self.0.iter().filter(|(other, _)| other.starts_with(&format!("{head},le=")));
            let mut bounds: Vec<(f64, f64)> = buckets
                .map(|(other, count)| {
                    let bound = other.rsplit("le=\"").next().unwrap_or_default().trim_end_matches("\"}");
                    (bound.replace("+Inf", "inf").parse().expect("a bound"), *count)
                })
                .collect();
            bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            if !bounds.windows(2).all(|pair| pair[0].1 <= pair[1].1) {
                return Err(format!("{head} does not grow: {bounds:?}"));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name="value",...}`, each name once, with no escapes but the three that there are.
fn are_labels(mut rest: &str) -> bool {
    let mut names = BTreeSet::new();
    loop {
        let Some((name, value)) = rest.split_once("=\"") else { return false };
        if !is_name(name) || !names.insert(name) {
            return false;
        }
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next() {
                Some((_, '\\')) if !matches!(chars.next(), Some((_, '\\' | '"' | 'n'))) => return false,
                Some((_, '\\')) => {}
                Some((at, '"')) => break at,
                Some(_) => {}
                None => return false,
            }
        };
        match &value[end + 1..] {
            "}" => return true,
            more => match more.strip_prefix(',') {
                Some(more) => rest = more,
                None => return false,
            },
        }
    }
}

#[test]
fn the_reader_of_metrics_refuses_what_the_format_does_not_allow() {
    let good = "# HELP a x\n# TYPE a gauge\na{l=\"v\\\\ \\\"\",m=\"\"} 1.5\na 2\n";
    assert!(Scrape::read(good).is_ok());
    for bad in [
        "a 1\n",
        "# HELP a x\na 1\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a x\n# TYPE a gauge\nb 1\n",
        "# HELP a x\n# TYPE a gauge\na{l=\"\\x\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na{l=\"x\"y} 1\n",
        "# HELP a x\n# TYPE a gauge\na NaN\n",
        "# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n# TYPE a gauge\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{o=\"\",le=\"+Inf\"} 2\na_sum{o=\"\"} 1\na_count{o=\"\"} 1\n",
    ] {
        assert!(Scrape::read(bad).is_err(), "{bad}");
    }
}
