//! What a step of the scenario left, as facts that can be compared: exit code, lines of text, log lines by level, message and
//! fields. Times, folders and what is drawn by lot are replaced by names.

use std::collections::BTreeSet;

/// Facts, and the messages of the log lines among them.
#[derive(Debug, Default)]
pub(super) struct Facts {
    facts: BTreeSet<String>,
    messages: BTreeSet<String>,
}

impl Facts {
    /// The facts of a step that ran in this folder.
    pub(super) fn of_a_step(code: &str, out: &str, err: &str, folder: &str) -> Self {
        let mut facts = Self::default();
        facts.facts.insert(format!("code {}", code.trim()));
        for (stream, text) in [("out", out), ("err", err)] {
            for line in text.lines().map(|line| in_words(line, folder)).filter(|line| !line.is_empty()) {
                facts.line(stream, &line);
            }
        }
        facts
    }

    /// The facts of a page of metrics: every series with its labels, every type; no values.
    pub(super) fn of_metrics(page: &str, folder: &str) -> Self {
        let lines = page.lines().filter_map(|line| match line.strip_prefix("# TYPE ") {
            Some(kind) => Some(format!("type {kind}")),
            None if line.starts_with('#') => None,
            None => Some(format!("series {}", series(&line.rsplit_once(' ')?.0.replace(folder, "$PLACE")))),
        });
        Self { facts: lines.collect(), messages: BTreeSet::new() }
    }

    fn line(&mut self, stream: &str, line: &str) {
        let Some(log) = Log::read(line) else {
            self.facts.insert(format!("text {stream}: {line}"));
            return;
        };
        self.facts.insert(format!("log {} {}", log.level, log.message));
        self.facts.insert(format!("log lines on {stream}, {}", log.form));
        let fields = log.fields.iter().map(|(name, value)| format!("field {} {name}={value}", log.message));
        self.facts.extend(fields);
        self.messages.insert(log.message);
    }

    /// Drops the fields of messages that the other does not have at all.
    pub(super) fn keep_fields_of(&mut self, other: &Self) {
        let alone: Vec<&String> = self.messages.difference(&other.messages).collect();
        self.facts.retain(|fact| {
            let of = |message: &&String| {
                fact.strip_prefix("field ").is_some_and(|it| it.starts_with(message.as_str()))
            };
            !alone.iter().any(of)
        });
    }

    /// The facts that the other lacks.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = String> + 'a {
        self.facts.difference(&other.facts).cloned()
    }
}

/// A series with its labels in the order of the alphabet.
fn series(text: &str) -> String {
    let Some((name, labels)) = text.split_once('{') else { return text.to_owned() };
    let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
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
            let (message, rest) = value(rest);
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
        let (text, tail) = value(tail);
        found.push((name.to_owned(), text));
        rest = tail;
    }
    found
}

/// A value, quoted or not, and what follows it.
fn value(text: &str) -> (String, &str) {
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

/// A line with its columns one space apart, in which what differs from run to run has a name: times, the folder, ids of
/// generations, ports, durations; and the program is called by one name.
fn in_words(line: &str, folder: &str) -> String {
    let line = line.replace(folder, "$PLACE").replace("litekeep", "litestream");
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    let line = words.join(" ");
    line.strip_prefix("DAY CLOCK ").map_or(line.clone(), |rest| format!("DATE {rest}"))
}

fn word(word: &str) -> String {
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
               2026/11/26 06:59:48 ERROR failed to run error=\"a \\\"b\\\" /tmp/x/c\"\n\
               file  3f3bd706c6d512c0  7.3s  2026-11-26T06:59:38Z\n";
    let facts = Facts::of_a_step("1\n", out, "\n", "/tmp/x");
    let expected = [
        "code 1",
        "field failed to run error=a \\\"b\\\" $PLACE/c",
        "field replicating to endpoint=http://127.0.0.1:PORT",
        "field replicating to sync-interval=DURATION",
        "field replicating to type=s3",
        "log ERROR failed to run",
        "log INFO replicating to",
        "log lines on out, Go's own",
        "log lines on out, slog",
        "text out: file GENERATION DURATION TIME",
    ];
    assert_eq!(facts.facts.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
