//! Log lines in Litestream's shape, so that what people grep for stays where it was:
//! `time=2026-11-23T08:40:08.123Z level=INFO msg="initialized db" path=/data/app.db`.
//!
//! Lines of our own crates show from the chosen level on, those of others only from WARN on: a client library's
//! debug output is nobody's business and may hold what must not be shown.

mod queue;

use crate::text::{duration, time};
use litekeep_core::env::Clock;
use queue::Queue;
use serde_json::Value;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// What is logged, how, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// From which level on.
    pub(crate) level: Level,
    /// One JSON object a line in place of `k=v`.
    pub(crate) json: bool,
    /// To stderr in place of stdout.
    pub(crate) stderr: bool,
    /// Each line names the place in the program that it comes from, as `source`.
    pub(crate) source: bool,
}

/// A level by name; what is not known is `info`, as in Litestream.
pub(crate) fn level(name: &str) -> Level {
    match name.to_ascii_lowercase().as_str() {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "warn" | "warning" => Level::WARN,
        "error" => Level::ERROR,
        _ => Level::INFO,
    }
}

/// Whether a level has this name.
pub(crate) fn is_level(name: &str) -> bool {
    let names = ["trace", "debug", "info", "warn", "warning", "error"];
    names.contains(&name.to_ascii_lowercase().as_str())
}

/// Sends all log lines of this process where the settings say. Only the first call counts.
pub(crate) fn install(settings: Settings, clock: Arc<dyn Clock>) {
    let lines = Lines { settings, clock, write: out };
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
}

/// How long something waits for the lines before it.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What is logged, on its way out, once [`install_queued`] was called; with whether it goes to stderr.
static QUEUE: OnceLock<(Arc<Queue>, bool)> = OnceLock::new();

/// What [`talk`] says where the log goes to stdout: whoever reads only stderr reads it all the same.
static TALK: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

/// As [`install`], for what must go on whatever becomes of its log: nobody ever waits for the reader.
pub(crate) fn install_queued(settings: Settings, clock: Arc<dyn Clock>) {
    let wall = Arc::clone(&clock);
    let gap = move |dropped| gap(settings, &time::format(wall.wall()), dropped);
    let stdout = io::stdout();
    let started = if settings.stderr { start("log", &io::stderr(), gap) } else { start("log", &stdout, gap) };
    let Ok(queue) = started else { return install(settings, clock) };
    let _ = QUEUE.set((Arc::clone(&queue), settings.stderr));
    let write = move |_: &Settings, line: &str| queue.offer(line.to_owned());
    let lines = Lines { settings, clock, write };
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
}

/// A queue and its thread. It writes past the locks of stdout and stderr: a stalled write would hold them.
fn start(
    name: &str,
    to: &impl AsFd,
    gap: impl Fn(u64) -> String + Send + Sync + 'static,
) -> io::Result<Arc<Queue>> {
    let mut out = File::from(to.as_fd().try_clone_to_owned()?);
    let queue = Arc::new(Queue::new(gap));
    let writes = Arc::clone(&queue);
    let write = move || {
        writes.write(|line| {
            // A reader that went away is no reason to stop replicating.
            let _ = out.write_all(line);
        });
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(write)?;
    Ok(queue)
}

/// The line that tells how many are missing.
fn gap(settings: Settings, time: &str, dropped: u64) -> String {
    let fields = Fields(vec![("dropped", Value::from(dropped).into())]);
    spelled(settings, time, Level::WARN, "log lines are missing here, they were not read in time", &fields)
}

/// A line for stderr that is no log, behind the log lines that are read by then; false where lines are not queued.
pub(crate) fn talk(line: &str) -> bool {
    let Some((log, stderr)) = QUEUE.get() else { return false };
    let talk = if *stderr {
        Some(log)
    } else {
        log.flush(LAST_LINES);
        TALK.get_or_init(|| start("talk", &io::stderr(), |_| String::new()).ok()).as_ref()
    };
    talk.map(|talk| talk.put(format!("{line}\n"))).is_some()
}

/// Waits a short while for the last lines, before the process ends.
pub(crate) fn flush() {
    let talk = TALK.get().and_then(Option::as_ref);
    for queue in QUEUE.get().map(|(log, _)| log).into_iter().chain(talk) {
        queue.flush(LAST_LINES);
    }
}

/// A reader that went away is no reason to stop.
fn out(settings: &Settings, line: &str) {
    let _ = if settings.stderr {
        io::stderr().write_all(line.as_bytes())
    } else {
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
    };
}

struct Lines<W> {
    settings: Settings,
    clock: Arc<dyn Clock>,
    write: W,
}

/// Name and value of each field, in order. What is recorded as `u128` (`Duration::as_nanos`) is a duration: text in Go's
/// spelling, a number of nanoseconds in JSON, as slog has it.
#[derive(Debug, Clone, Default)]
struct Fields(Vec<(&'static str, Logged)>);

/// A field's value.
#[derive(Debug, Clone)]
enum Logged {
    Plain(Value),
    Time(Duration),
}

impl From<Value> for Logged {
    fn from(value: Value) -> Self {
        Self::Plain(value)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), Value::String(format!("{value:?}")).into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), Value::String(value.to_owned()).into()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.push((field.name(), Value::String(value.to_string()).into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), Value::from(value).into()));
    }

    fn record_u128(&mut self, field: &Field, nanos: u128) {
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.0.push((field.name(), Logged::Time(time)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), Value::from(value).into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push((field.name(), Value::from(value).into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), Value::Bool(value).into()));
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&Settings, &str) + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = metadata.target().starts_with("litekeep");
        *metadata.level() <= if ours { self.settings.level } else { self.settings.level.min(Level::WARN) }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.0.extend(fields.0.iter().cloned());
            }
        }
        event.record(&mut all);
        let place = event.metadata();
        if let (true, Some(file), Some(line)) = (self.settings.source, place.file(), place.line()) {
            // slog puts it before the message's fields
            all.0.insert(0, ("source", Value::String(format!("{file}:{line}")).into()));
        }
        let mut message = String::new();
        all.0.retain(|(name, value)| match (name, value) {
            (&"message", Logged::Plain(Value::String(text))) => {
                message.clone_from(text);
                false
            }
            _ => true,
        });
        let time = time::format(self.clock.wall());
        let level = *event.metadata().level();
        (self.write)(&self.settings, &spelled(self.settings, &time, level, &message, &all));
    }
}

fn spelled(settings: Settings, time: &str, level: Level, message: &str, fields: &Fields) -> String {
    if settings.json {
        json_line(time, level, message, fields)
    } else {
        text_line(time, level, message, fields)
    }
}

/// One JSON object: time, level and message first. A field that has one of their names keeps its value as `name_`.
fn json_line(time: &str, level: Level, message: &str, fields: &Fields) -> String {
    let head = [("time", Value::from(time)), ("level", level.as_str().into()), ("msg", message.into())];
    let mut line = String::new();
    let fields = fields.0.iter().map(|(name, value)| match value {
        Logged::Plain(value) => (*name, value.clone()),
        // Go's own limit: 63 bits of nanoseconds, which no setting passes
        Logged::Time(time) => (*name, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).into()),
    });
    for (at, (name, value)) in head.iter().cloned().chain(fields).enumerate() {
        let taken = at >= head.len() && head.iter().any(|(known, _)| *known == name);
        let name = Value::from(if taken { format!("{name}_") } else { name.to_owned() });
        let _ = write!(line, "{}{name}:{value}", if at == 0 { '{' } else { ',' });
    }
    line.push_str("}\n");
    line
}

fn text_line(time: &str, level: Level, message: &str, fields: &Fields) -> String {
    let mut line = format!("time={time} level={level} msg=");
    push_value(&mut line, message);
    for (name, value) in &fields.0 {
        let _ = write!(line, " {name}=");
        match value {
            Logged::Plain(Value::String(text)) => push_value(&mut line, text),
            Logged::Time(time) => push_value(&mut line, &duration::go(*time)),
            Logged::Plain(other) => {
                let _ = write!(line, "{other}");
            }
        }
    }
    line.push('\n');
    line
}

/// A value as Go's slog writes it: quoted where it is empty or holds a space, a quote, `=` or a control character.
fn push_value(line: &mut String, text: &str) {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '"' && c != '=' && c != '\\';
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(text);
        return;
    }
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            '\r' => line.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::TimestampMs;
    use std::sync::Mutex;

    struct Noon;

    impl Clock for Noon {
        fn wall(&self) -> TimestampMs {
            time::parse("2026-11-23T12:00:00.5Z").expect("a time")
        }

        fn boot(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep(&self, _: Duration) {}
    }

    /// What `work` logs.
    fn logged(level: Level, json: bool, work: impl FnOnce()) -> String {
        logged_by(Settings { level, json, stderr: false, source: false }, work)
    }

    fn logged_by(settings: Settings, work: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&lines);
        let write = move |_: &Settings, line: &str| sink.lock().expect("one thread").push_str(line);
        let layer = Lines { settings, clock: Arc::new(Noon), write };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        std::mem::take(&mut *lines.lock().expect("one thread"))
    }

    #[test]
    fn a_line_has_litestreams_shape() {
        let text = logged(Level::INFO, false, || {
            tracing::info!(target: "litekeep", path = "/data/app.db", pages = 3, ok = true, "initialized db");
            tracing::warn!(target: "litekeep", reason = "a \"b\"=c\n", empty = "", "odd");
        });
        assert_eq!(
            text,
            "time=2026-11-23T12:00:00.500Z level=INFO msg=\"initialized db\" path=/data/app.db pages=3 ok=true\n\
             time=2026-11-23T12:00:00.500Z level=WARN msg=odd reason=\"a \\\"b\\\"=c\\n\" empty=\"\"\n"
        );
    }

    #[test]
    fn a_json_line_has_the_same_fields() {
        let text =
            logged(Level::INFO, true, || tracing::info!(target: "litekeep", txid = 7, db = "a", "sync"));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let expected = serde_json::json!(
            {"time": "2026-11-23T12:00:00.500Z", "level": "INFO", "msg": "sync", "txid": 7, "db": "a"}
        );
        assert_eq!(value, expected);
    }

    #[test]
    fn a_duration_is_gos_text_and_in_json_a_number_of_nanoseconds_as_in_litestream() {
        let time = Duration::from_secs(60);
        let text = |json| {
            logged(Level::INFO, json, || {
                tracing::info!(target: "litekeep", interval = time.as_nanos(), "m");
            })
        };
        assert!(text(false).ends_with(" interval=1m0s\n"), "{}", text(false));
        assert!(text(true).ends_with(",\"interval\":60000000000}\n"), "{}", text(true));
    }

    #[test]
    fn a_line_names_its_source_where_that_is_asked_for() {
        let line = line!() + 3;
        for json in [false, true] {
            let settings = Settings { level: Level::INFO, json, stderr: false, source: true };
            let text = logged_by(settings, || tracing::info!(target: "litekeep", x = 1, "m"));
            let place = format!("{}:{line}", file!());
            let wanted =
                if json { format!("\"source\":\"{place}\"") } else { format!("msg=m source={place} x=1") };
            assert!(text.contains(&wanted), "{text}");
        }
    }

    #[test]
    fn the_fields_of_spans_come_first_from_the_outside_in() {
        let text = logged(Level::INFO, false, || {
            let outer =
                tracing::info_span!(target: "litekeep", "outer", db = "a.db", late = tracing::field::Empty);
            let _outer = outer.enter();
            outer.record("late", 1);
            let _inner = tracing::info_span!(target: "litekeep", "inner", replica = "s3").entered();
            tracing::info!(target: "litekeep", x = 2, "m");
        });
        assert!(text.ends_with("msg=m db=a.db late=1 replica=s3 x=2\n"), "{text}");
    }

    #[test]
    fn levels_are_held_and_other_crates_are_heard_only_when_they_warn() {
        let all = || {
            tracing::error!(target: "litekeep::x", "our error");
            tracing::info!(target: "litekeep_store", "our info");
            tracing::debug!(target: "litekeep", "our debug");
            tracing::warn!(target: "hyper", "their warning");
            tracing::info!(target: "hyper", "their info");
        };
        for (level, expected) in [
            (Level::ERROR, &["our error"] as &[&str]),
            (Level::INFO, &["our error", "our info", "their warning"]),
            (Level::TRACE, &["our error", "our info", "our debug", "their warning"]),
        ] {
            let text = logged(level, false, all);
            for message in ["our error", "our info", "our debug", "their warning", "their info"] {
                assert_eq!(text.contains(message), expected.contains(&message), "{level}: {message}");
            }
        }
    }

    #[test]
    fn an_unknown_level_is_info() {
        for (name, expected) in [
            ("DEBUG", Level::DEBUG),
            ("warn", Level::WARN),
            ("warning", Level::WARN),
            ("loud", Level::INFO),
            ("", Level::INFO),
        ] {
            assert_eq!(level(name), expected, "{name}");
        }
    }
}
