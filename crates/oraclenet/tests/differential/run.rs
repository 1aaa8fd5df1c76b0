//! Plays a scenario against both servers and reports all that differs. Never stops at the first difference.

use super::blank::Blank;
use super::common::http::{Events, Request, send};
use super::common::server::{PocketBase, Server, oraclenet};
use super::common::{DEADLINE, say, variable};
use super::compare::{differences, facts, frame_facts};
use super::scenario::{Case, JSON, Step, encode_marked, fill, parse};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What every scenario begins with: accounts, tokens, a few posts and comments.
pub(crate) const SETUP: &str = include_str!("scenarios/setup.requests");

/// How long an event may take; one that never comes costs this much, and many may be missing.
const FRAME: Duration = Duration::from_secs(20);

/// How many differences are shown in full.
const SHOWN: usize = 25;

/// Plays a file after the setup.
pub(crate) fn check(file: &str, text: &str) {
    let Some(mut pair) = Pair::start(file, &[SETUP, text]) else { return };
    pair.play(parse("setup", SETUP));
    pair.play(parse(file, text));
    pair.conclude("");
}

/// One server with what is remembered of it.
struct Side {
    server: Server,
    variables: HashMap<String, String>,
    streams: HashMap<String, Events>,
    blank: Blank,
}

/// Both servers.
pub(crate) struct Pair {
    reference: Side,
    ours: Side,
    /// Ours is a PocketBase too: nothing may differ, on purpose or not.
    twins: bool,
    /// Prints every answer of the reference: what this server has to say.
    show: bool,
    asked: usize,
    found: Vec<String>,
    _directory: tempfile::TempDir,
}

impl Pair {
    /// Starts both with fresh databases; without a PocketBase the test is left out.
    pub(crate) fn start(test: &str, texts: &[&str]) -> Option<Self> {
        let pocketbase = PocketBase::found(&format!("the differential test of {test}"))?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let twins = variable("ORACLENET_TEST_SERVER").is_some_and(|value| value == "pocketbase");
        let start = |name: &str| {
            let data = directory.path().join(name);
            pocketbase.prepare(&data);
            pocketbase.serve(&data)
        };
        let reference = start("reference");
        let ours = if twins { start("twin") } else { oraclenet(&directory.path().join("ours")) };
        let side = |server: Server| Side {
            server,
            variables: HashMap::from([("broken".to_owned(), "broken".to_owned())]),
            streams: HashMap::new(),
            blank: Blank::new(texts),
        };
        let (reference, ours) = (side(reference), side(ours));
        let show = variable("ORACLENET_TEST_SHOW").is_some();
        Some(Self { reference, ours, twins, show, asked: 0, found: Vec::new(), _directory: directory })
    }

    /// Takes the steps one after the other.
    pub(crate) fn play(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Ask(case) => self.ask(&case),
                Step::Connect(name) => self.both(&format!("connect {name}"), |side| side.connect(&name)),
                Step::Frames(name, count) => {
                    self.both(&format!("frames {name}"), |side| side.frames(&name, count, FRAME));
                }
                // Both have had the time of the whole scenario; what was sent too much has long arrived.
                Step::Quiet(name) => {
                    self.both(&format!("quiet {name}"), |side| {
                        side.frames(&name, 1, Duration::from_millis(500))
                    });
                }
            }
        }
    }

    /// Fails with everything that was found.
    pub(crate) fn conclude(self, replay: &str) {
        let count = self.found.len();
        let shown: Vec<String> = self.found.into_iter().take(SHOWN).collect();
        assert!(
            count == 0,
            "{count} of {} answers differ (PocketBase | here); the first {}:\n\n{}\n{replay}",
            self.asked,
            shown.len(),
            shown.join("\n\n")
        );
        say(&format!("{} answers are equal", self.asked));
    }

    fn both(&mut self, what: &str, act: impl Fn(&mut Side) -> Value) {
        self.asked += 1;
        let (left, right) = (act(&mut self.reference), act(&mut self.ours));
        let found = differences(&left, &right);
        if !found.is_empty() {
            self.found.push(format!("{what}\n  {}", found.join("\n  ")));
        }
    }

    fn ask(&mut self, case: &Case) {
        self.asked += 1;
        let (left, right) = (self.reference.ask(case), self.ours.ask(case));
        if self.show {
            say(&format!("{}\n    {} {}", head_of(case), left["status"], left["body"]));
        }
        let complaint = complaints(case, &left, &right, self.twins);
        if !complaint.is_empty() {
            self.found.push(format!("{}\n  {}", head_of(case), complaint.join("\n  ")));
        }
    }
}

/// What is wrong with the answer of this server; nothing when it is as it should be.
fn complaints(case: &Case, reference: &Value, ours: &Value, twins: bool) -> Vec<String> {
    let found = differences(reference, ours);
    let Some(key) = case.differs.as_ref().filter(|_| !twins) else { return found };
    if found.is_empty() {
        return vec![format!("no longer differs: {key}")];
    }
    let (status, body) = case.here.clone().expect("`differs` and `here` go together");
    // Ids that the expectation names were chosen by the case.
    let body = body.map_or(json!("<any>"), |body| Blank::new(&[&body.to_string()]).value(&body));
    let wanted = json!({"status": status, "headers": "<any>", "body": body});
    differences(ours, &wanted).into_iter().map(|line| format!("(here | expected) {line}")).collect()
}

/// A case on one line.
fn head_of(case: &Case) -> String {
    let body = case.body.as_ref().map_or("", |(_, text)| text.as_str());
    let target = encode_marked(&case.target);
    let head = format!("{}: {} {} {target} {body}", case.origin, case.who, case.method);
    head.chars().take(400).collect()
}

impl Side {
    fn ask(&mut self, case: &Case) -> Value {
        let variables = &self.variables;
        let fill = |text: &str| fill(text, &|name| variables.get(name).cloned());
        let mut headers: Vec<(String, String)> =
            case.headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
        if case.who != "guest" {
            headers.push(("Authorization".to_owned(), fill(&format!("${{{}}}", case.who))));
        }
        if let Some((kind, _)) = case.body.as_ref().filter(|(kind, _)| kind != "none") {
            headers.push(("Content-Type".to_owned(), kind.clone()));
        }
        let body = case.body.as_ref().map(|(_, text)| fill(text).into_bytes());
        let target = encode_marked(&fill(&case.target));
        if case.method != "GET" {
            next_millisecond();
        }
        let answer =
            send(self.server.address, &Request { method: case.method.clone(), target, headers, body });
        for (name, pointer) in &case.saves {
            let value = answer.json().pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let value = value.unwrap_or_else(|| {
                let text = String::from_utf8_lossy(&answer.body);
                panic!("{}: no {pointer} in {} {text}\n{}", case.origin, answer.status, self.server.said())
            });
            self.variables.insert(name.clone(), value);
        }
        facts(&answer, &mut |value| self.blank.value(value))
    }

    fn connect(&mut self, name: &str) -> Value {
        let mut stream = Events::open(self.server.address);
        let first = stream.next_within(DEADLINE).expect("the first event");
        let head = facts(&stream.answer, &mut |value| value.clone());
        let event = frame_facts(&first, &first.id, &mut |value| value.clone());
        self.variables.insert(name.to_owned(), first.id);
        self.streams.insert(name.to_owned(), stream);
        json!({"head": head, "event": event})
    }

    /// The next events, sorted: the order in which one change reaches several topics is nobody's promise.
    fn frames(&mut self, name: &str, count: usize, time: Duration) -> Value {
        let stream = self.streams.get_mut(name).unwrap_or_else(|| panic!("{name} was not connected"));
        let mut frames: Vec<_> = (0..count).map_while(|_| stream.next_within(time)).collect();
        frames.sort_by(|a, b| a.event.cmp(&b.event));
        let client = &self.variables[name];
        let blank = &mut self.blank;
        Value::Array(
            frames.iter().map(|frame| frame_facts(frame, client, &mut |value| blank.value(value))).collect(),
        )
    }
}

/// Waits until the clock shows another millisecond, so that no two records are made at the same time: their order by
/// date would be left to chance.
#[allow(clippy::disallowed_methods, reason = "the real clock, which the servers read too")]
fn next_millisecond() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let begun = now();
    while now() == begun {
        std::hint::spin_loop();
    }
}

/// A JSON body for a generated case.
pub(crate) fn json_body(value: &Value) -> Option<(String, String)> {
    Some((JSON.to_owned(), value.to_string()))
}

#[test]
fn a_difference_is_allowed_only_where_and_as_it_is_declared() {
    let answer = |status: u16, n: f64| json!({"status": status, "headers": {}, "body": {"n": n, "id": "<id 1>", "by": "ada000000000000"}});
    let case = |differs: bool| Case {
        differs: differs.then(|| "key".to_owned()),
        here: differs.then(|| (200, Some(json!({"n": 2, "id": "<any>", "by": "ada000000000000"})))),
        ..Case::default()
    };
    // Declared, twins, what is answered here, how many complaints; PocketBase always answers 200 and 1.
    let rows = [
        (false, false, answer(200, 1.0), 0),
        (false, false, answer(200, 2.0), 1),
        (false, false, answer(400, 1.0), 1),
        (true, false, answer(200, 1.0), 1),
        (true, false, answer(200, 2.0), 0),
        (true, false, answer(200, 3.0), 1),
        (true, false, answer(400, 2.0), 1),
        (true, true, answer(200, 1.0), 0),
        (true, true, answer(200, 2.0), 1),
    ];
    for (declared, twins, ours, expected) in rows {
        let found = complaints(&case(declared), &answer(200, 1.0), &ours, twins);
        assert_eq!(found.len(), expected, "{declared} {twins} {ours}: {found:?}");
    }
}
