//! What a step of the scenario left, as facts that can be compared: exit code, lines of text, log lines by level, message and
//! fields. Times, folders and what is drawn by lot are replaced by names.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that a step left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    Code(String),
    Text {
        stream: &'static str,
        line: String,
    },
    /// Where log lines went, and in which form.
    Form {
        stream: &'static str,
        form: &'static str,
    },
    Line {
        level: String,
        message: String,
    },
    Field {
        message: String,
        name: String,
        value: String,
    },
    /// A series of the page of metrics, its labels in the order of the alphabet.
    Series {
        name: String,
        labels: Vec<(String, String)>,
    },
    Type {
        name: String,
        kind: String,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Text { stream, line } => write!(f, "text {stream}: {line}"),
            Self::Form { stream, form } => write!(f, "log lines on {stream}, {form}"),
            Self::Line { level, message } => write!(f, "log {level} {message}"),
            Self::Field { message, name, value } => write!(f, "field {message}: {name}={value}"),
            Self::Series { name, labels } => write!(f, "series {name} {labels:?}"),
            Self::Type { name, kind } => write!(f, "type {name} {kind}"),
        }
    }
}

/// All that a step left.
#[derive(Debug, Default)]
pub(super) struct Facts(pub(super) BTreeSet<Fact>);

impl Facts {
    /// The facts of a step; each of these paths is called by its name.
    pub(super) fn of_a_step(code: &str, out: &str, err: &str, paths: &[(String, &str)]) -> Self {
        let mut facts = Self::default();
        facts.0.insert(Fact::Code(code.trim().to_owned()));
        for (stream, text) in [("out", out), ("err", err)] {
            for line in text.lines().map(|line| in_words(line, paths)).filter(|line| !line.is_empty()) {
                facts.line(stream, line);
            }
        }
        facts
    }

    /// The facts of a page of metrics: every series with its labels, every type; no values.
    pub(super) fn of_metrics(page: &str, paths: &[(String, &str)]) -> Self {
        let mut facts = Self::default();
        for line in page.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                facts.0.insert(Fact::Type { name: name.to_owned(), kind: kind.to_owned() });
            } else if !line.starts_with('#')
                && let Some((text, _)) = line.rsplit_once(' ')
            {
                let (name, labels) = series(&by_name(text, paths));
                facts.0.insert(Fact::Series { name, labels });
            }
        }
        facts
    }

    fn line(&mut self, stream: &'static str, line: String) {
        let Some(log) = Log::read(&line) else {
            self.0.insert(Fact::Text { stream, line });
            return;
        };
        let message = log.message;
        self.0.insert(Fact::Line { level: log.level, message: message.clone() });
        self.0.insert(Fact::Form { stream, form: log.form });
        let field = |(name, value)| Fact::Field { message: message.clone(), name, value };
        self.0.extend(log.fields.into_iter().map(field));
    }

    /// The facts that the other lacks.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Fact> + 'a {
        self.0.difference(&other.0).cloned()
    }
}

/// The name of a series and its labels.
fn series(text: &str) -> (String, Vec<(String, String)>) {
    let Some((name, labels)) = text.split_once('{') else { return (text.to_owned(), Vec::new()) };
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
    let mut labels: Vec<_> =
        labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
    labels.sort_unstable();
    (name.to_owned(), labels)
}

/// The value of a series, by its name and the end of its `db` label.
pub(super) fn value(page: &str, name: &str, db: &str) -> f64 {
    let mine = |line: &&str| {
        line.rsplit_once(' ').is_some_and(|(text, _)| {
            let (found, labels) = series(text);
            found == name && labels.iter().all(|(label, value)| label != "db" || value.ends_with(db))
        })
    };
    let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).filter(mine).collect();
    assert!(!lines.is_empty(), "no series {name} of {db}");
    let values = lines.iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}

/// A log line in the form of slog's text, or in that of Go's default logger.
struct Log {
    form: &'static str,
    level: String,
    message: String,
    fields: Vec<(String, String)>,
}

impl Log {
    fn read(line: &str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("time=TIME level=") {
            let (level, rest) = rest.split_once(" msg=")?;
            let (message, rest) = quoted(rest);
            return Some(Self { form: "slog", level: level.to_owned(), message, fields: fields(rest) });
        }
        let (level, rest) = line.strip_prefix("DATE ")?.split_once(' ')?;
        let end = rest
            .split_whitespace()
            .take_while(|word| !word.contains('='))
            .map(|word| word.len() + 1)
            .sum::<usize>();
        let message = rest.get(..end.saturating_sub(1)).unwrap_or(rest).to_owned();
        let fields = fields(rest.get(end..).unwrap_or_default());
        Some(Self { form: "Go's own", level: level.to_owned(), message, fields })
    }
}

/// `name=value name="a value"`
fn fields(mut rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, tail)) = rest.trim_start().split_once('=') {
        let (text, tail) = quoted(tail);
        found.push((name.to_owned(), text));
        rest = tail;
    }
    found
}

/// A value, quoted or not, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut escaped = false;
    let end = quoted.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let end = end.map_or(quoted.len(), |(at, _)| at);
    (quoted[..end].to_owned(), quoted.get(end + 1..).unwrap_or_default())
}

/// A line with its columns one space apart, in which what differs from run to run has a name: times, folders, ids of
/// generations, ports, durations, places in the configuration; and the program is called by one name.
fn in_words(line: &str, paths: &[(String, &str)]) -> String {
    let line = by_name(line, paths).replace("litekeep", "litestream");
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    let line = words.join(" ");
    line.strip_prefix("DAY CLOCK ").map_or(line.clone(), |rest| format!("DATE {rest}"))
}

fn by_name(text: &str, paths: &[(String, &str)]) -> String {
    paths.iter().fold(text.to_owned(), |text, (path, name)| text.replace(path, name))
}

fn word(word: &str) -> String {
    if let Some((before, _)) = word.split_once("$HERE/litestream.yml:") {
        return format!("{before}FILE:LINE:COLUMN:");
    }
    let (name, text) = word.split_once('=').filter(|(name, _)| !name.starts_with('"')).unwrap_or(("", word));
    let shown = if is_time(text) {
        "TIME".to_owned()
    } else if text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit()) {
        "GENERATION".to_owned()
    } else if is_duration(text) {
        "DURATION".to_owned()
    } else if is_like(text, "0000/00/00") {
        "DAY".to_owned()
    } else if is_like(text, "00:00:00") {
        "CLOCK".to_owned()
    } else {
        without_port(text)
    };
    if name.is_empty() { shown } else { format!("{name}={shown}") }
}

/// RFC 3339 in UTC, with a fraction or without.
fn is_time(text: &str) -> bool {
    text.get(..19).is_some_and(|head| is_like(head, "0000-00-00T00:00:00")) && text.ends_with('Z')
}

fn is_like(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text
            .chars()
            .zip(shape.chars())
            .all(|(c, like)| if like == '0' { c.is_ascii_digit() } else { c == like })
}

/// As Go writes one: `67h22m31s`, `7.3s`, `-12ms`.
fn is_duration(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with('s')
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'h' | 'm' | 's' | 'µ' | 'n'))
}

fn without_port(text: &str) -> String {
    let Some((head, rest)) = text.split_once("127.0.0.1:") else { return text.to_owned() };
    format!("{head}127.0.0.1:PORT{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn a_step_is_taken_apart_into_facts() {
    let out = "time=2026-11-26T06:59:47.368Z level=INFO msg=\"replicating to\" type=s3 sync-interval=100ms \
               endpoint=http://127.0.0.1:32921\n\
               2026/11/26 06:59:48 ERROR failed to run error=\"a \\\"b\\\" /x/y/c\"\n\
               time=2026-11-26T06:59:48Z level=INFO msg=\"/z/litestream.yml:9:32: a is b\"\n\
               file  3f3bd706c6d512c0  7.3s  2026-11-26T06:59:38Z\n";
    let paths = [("/x/y".to_owned(), "$PLACE"), ("/z".to_owned(), "$HERE")];
    let facts = Facts::of_a_step("1\n", out, "\n", &paths);
    let expected = [
        "code 1",
        "text out: file GENERATION DURATION TIME",
        "log lines on out, Go's own",
        "log lines on out, slog",
        "log ERROR failed to run",
        "log INFO FILE:LINE:COLUMN: a is b",
        "log INFO replicating to",
        "field failed to run: error=a \\\"b\\\" $PLACE/c",
        "field replicating to: endpoint=http://127.0.0.1:PORT",
        "field replicating to: sync-interval=DURATION",
        "field replicating to: type=s3",
    ];
    assert_eq!(facts.0.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[test]
fn a_page_of_metrics_is_taken_apart_into_facts_and_values() {
    let page = "# HELP a b\n# TYPE a gauge\na{db=\"/x/y/1\",c=\"d\"} 7\na{db=\"/x/y/2\",c=\"d\"} 1e3\n";
    let facts = Facts::of_metrics(page, &[("/x/y".to_owned(), "$PLACE")]);
    let expected = [
        "series a [(\"c\", \"d\"), (\"db\", \"$PLACE/1\")]",
        "series a [(\"c\", \"d\"), (\"db\", \"$PLACE/2\")]",
        "type a gauge",
    ];
    assert_eq!(facts.0.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    assert_eq!((value(page, "a", "/1"), value(page, "a", "/2")), (7.0, 1000.0));
}
