//! Reads scenario files: requests as lines of text. Never sends anything.
//!
//! ```text
//! # a comment
//! WHO METHOD TARGET [JSON]        a request; WHO may be several, with commas: one request for each
//!     ? name=value                a query parameter, encoded here
//!     > Name: value               a header
//!     body TYPE: text             a body of any type, with \r \n \t \\ as escapes
//!     | name=value                once more, with this query parameter
//!     | {"a":1}                   once more, with this JSON body
//!     save NAME = POINTER         keeps a value of the answer, as `${NAME}`
//!     differs KEY                 this case differs on purpose: the row KEY of DIFFERENCES.md
//!     here STATUS JSON            what this server answers then; "<any>" stands for anything
//! connect NAME                    opens a stream of events; `${NAME}` is its client id
//! frames NAME N                   the next N events of the stream, in any order
//! quiet NAME                      no event comes any more
//! ```
//!
//! `differs` and `here` belong to the request or `|` line above them. `${x*300}` is x three hundred times. WHO is
//! `guest`, or the name under which a token was saved.

use super::common::http::encode;
use serde_json::Value;

/// One step of a scenario.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask(Box<Case>),
    Connect(String),
    Frames(String, usize),
    Quiet(String),
}

/// One request, and what is known about its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// File and line.
    pub(crate) origin: String,
    pub(crate) who: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Type and text.
    pub(crate) body: Option<(String, String)>,
    /// Name and JSON pointer.
    pub(crate) saves: Vec<(String, String)>,
    pub(crate) differs: Option<String>,
    pub(crate) here: Option<(u16, Option<Value>)>,
}

/// The type of a body that is given as JSON.
pub(crate) const JSON: &str = "application/json";

/// A request line with what follows it.
#[derive(Default)]
struct Block {
    base: Case,
    variants: Vec<Case>,
}

impl Block {
    /// The case to which `differs` and `here` belong.
    fn last(&mut self) -> &mut Case {
        self.variants.last_mut().unwrap_or(&mut self.base)
    }

    fn cases(self) -> Vec<Step> {
        let variants = if self.variants.is_empty() { vec![self.base] } else { self.variants };
        let mut steps = Vec::new();
        for case in variants {
            for who in case.who.split(',') {
                steps.push(Step::Ask(Box::new(Case { who: who.to_owned(), ..case.clone() })));
            }
        }
        steps
    }
}

/// The steps of a file.
pub(crate) fn parse(file: &str, text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut block: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        let origin = format!("{file}.requests:{}", number + 1);
        let indented = line.starts_with(' ');
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if indented {
            let block = block.as_mut().unwrap_or_else(|| panic!("{origin}: belongs to no request"));
            detail(block, line, &origin);
            continue;
        }
        steps.extend(block.take().map(Block::cases).unwrap_or_default());
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["connect", name] => steps.push(Step::Connect(name.to_owned())),
            ["quiet", name] => steps.push(Step::Quiet(name.to_owned())),
            ["frames", name, count] => {
                let count = count.parse().unwrap_or_else(|error| panic!("{origin}: {error}"));
                steps.push(Step::Frames(name.to_owned(), count));
            }
            _ => block = Some(Block { base: request(line, origin), variants: Vec::new() }),
        }
    }
    steps.extend(block.take().map(Block::cases).unwrap_or_default());
    steps
}

fn request(line: &str, origin: String) -> Case {
    let mut words = line.splitn(4, ' ');
    let mut word = |what: &str| words.next().unwrap_or_else(|| panic!("{origin}: no {what}")).to_owned();
    let (who, method, target) = (word("asker"), word("method"), word("target"));
    let body = words.next().map(|body| (JSON.to_owned(), body.to_owned()));
    Case { origin, who, method, target, body, ..Case::default() }
}

/// One indented line.
fn detail(block: &mut Block, line: &str, origin: &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let two = |separator: char| {
        let (left, right) =
            rest.split_once(separator).unwrap_or_else(|| panic!("{origin}: no {separator:?}"));
        (left.trim().to_owned(), right.trim().to_owned())
    };
    match word {
        "?" => {
            let (name, value) = rest.split_once('=').unwrap_or_else(|| panic!("{origin}: no '='"));
            add_parameter(block.last(), name, value);
        }
        ">" => block.last().headers.push(two(':')),
        "body" => {
            let (kind, text) = rest.split_once(": ").unwrap_or_else(|| (rest.trim_end_matches(':'), ""));
            block.last().body = Some((kind.to_owned(), unescape(text)));
        }
        "|" => {
            let mut case =
                Case { origin: origin.to_owned(), differs: None, here: None, ..block.base.clone() };
            if rest.starts_with(['{', '[']) {
                case.body = Some((JSON.to_owned(), rest.to_owned()));
            } else {
                let (name, value) = rest.split_once('=').unwrap_or_else(|| panic!("{origin}: no '='"));
                add_parameter(&mut case, name, value);
            }
            block.variants.push(case);
        }
        "save" => block.last().saves.push(two('=')),
        "differs" => block.last().differs = Some(rest.to_owned()),
        "here" => {
            let (status, json) = rest.split_once(' ').unwrap_or((rest, ""));
            let status = status.parse().unwrap_or_else(|error| panic!("{origin}: {error}"));
            let json = (!json.is_empty())
                .then(|| serde_json::from_str(json).unwrap_or_else(|error| panic!("{origin}: {error}")));
            block.last().here = Some((status, json));
        }
        _ => panic!("{origin}: what is {word:?}?"),
    }
}

/// The value stays as it is written until `${...}` has been filled in; then it is encoded.
fn add_parameter(case: &mut Case, name: &str, value: &str) {
    let joint = if case.target.contains('?') { '&' } else { '?' };
    case.target.push_str(&format!("{joint}{name}={ENCODE}{}{ENCODE}", unescape(value)));
}

/// Marks what is yet to be encoded; no scenario has it in its text.
const ENCODE: char = '\u{1}';

/// Encodes what was marked.
pub(crate) fn encode_marked(target: &str) -> String {
    let parts = target.split(ENCODE).enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { encode(part) } else { part.to_owned() }).collect()
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = match (letter, letters.peek()) {
            ('\\', Some('r')) => '\r',
            ('\\', Some('n')) => '\n',
            ('\\', Some('t')) => '\t',
            ('\\', Some('\\')) => '\\',
            _ => {
                plain.push(letter);
                continue;
            }
        };
        letters.next();
        plain.push(escaped);
    }
    plain
}

/// Fills in `${name}` from the variables and `${text*count}` by itself.
pub(crate) fn fill(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inner, behind) = after.split_once('}').unwrap_or_else(|| panic!("not closed: {text:?}"));
        filled.push_str(before);
        match inner.rsplit_once('*').and_then(|(piece, count)| Some((piece, count.parse().ok()?))) {
            Some((piece, count)) => filled.push_str(&piece.repeat(count)),
            None => {
                filled.push_str(&variable(inner).unwrap_or_else(|| panic!("nothing was saved as {inner:?}")))
            }
        }
        rest = behind;
    }
    filled + rest
}

#[test]
fn a_scenario_is_read_as_it_is_explained() {
    let steps = parse(
        "x",
        "# no\nguest,ada GET /a?b=1\n  ? filter=x = \"${y*2}\"\n  | sort=-a\n  differs k\n  here 200 {\"a\":1}\n\
         ada POST /b {\"c\": 1}\n  > X: y\n  save t = /token\nconnect s\nframes s 2\nquiet s\n",
    );
    let shown: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Ask(case) => format!(
                "{} {} {} {} {:?} {:?}",
                case.origin,
                case.who,
                case.method,
                encode_marked(&fill(&case.target, &|_| None)),
                case.body,
                case.differs
            ),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "x.requests:4 guest GET /a?b=1&filter=x%20%3D%20%22yy%22&sort=-a None Some(\"k\")",
            "x.requests:4 ada GET /a?b=1&filter=x%20%3D%20%22yy%22&sort=-a None Some(\"k\")",
            "x.requests:7 ada POST /b Some((\"application/json\", \"{\\\"c\\\": 1}\")) None",
            "Connect(\"s\")",
            "Frames(\"s\", 2)",
            "Quiet(\"s\")"
        ]
    );
}
