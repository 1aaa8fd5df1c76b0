//! Replaces what two servers can never have in common: generated ids, the time of day, signatures. Never what a client
//! chose.
//!
//! An id becomes a name by the order in which it first appeared on its server, so that relations can be compared. A
//! date must lie close to now, else it stays as it is and differs. Of a token the header and the claims are compared, with
//! the time it is valid for instead of the time it ends.

use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// The memory of one server's names.
pub(crate) struct Blank {
    chosen: HashSet<String>,
    names: HashMap<String, usize>,
}

impl Blank {
    /// Ids that appear in the text of the requests were chosen by the client and stay.
    pub(crate) fn new(texts: &[&str]) -> Self {
        let words = texts.iter().flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphanumeric()));
        Self { chosen: words.filter(|word| is_id(word)).map(str::to_owned).collect(), names: HashMap::new() }
    }

    /// The value with everything replaced.
    pub(crate) fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.value(item)).collect()),
            Value::Object(members) => self.object(members),
            Value::Number(number) => number_of(number),
            other => other.clone(),
        }
    }

    fn object(&mut self, members: &Map<String, Value>) -> Value {
        let mut names: Vec<&String> = members.keys().collect();
        // By name, whatever order the server chose: the first appearance of an id must not depend on it.
        names.sort();
        let mut blanked = Map::new();
        for name in names {
            blanked.insert(name.clone(), self.value(&members[name]));
        }
        Value::Object(blanked)
    }

    fn text(&mut self, text: &str) -> String {
        if is_id(text) && !self.chosen.contains(text) {
            let next = self.names.len() + 1;
            return format!("<id {}>", *self.names.entry(text.to_owned()).or_insert(next));
        }
        if is_date(text) {
            return if is_recent(text) { "<date>".to_owned() } else { text.to_owned() };
        }
        self.token(text).unwrap_or_else(|| text.to_owned())
    }

    fn token(&mut self, text: &str) -> Option<String> {
        let mut parts = text.split('.');
        let (head, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || signature.is_empty() {
            return None;
        }
        let head: Value = serde_json::from_slice(&decode(head)?).ok()?;
        let mut claims: Value = serde_json::from_slice(&decode(claims)?).ok()?;
        let ends = claims.get("exp")?.as_i64()?;
        // To the minute: the answer is read a moment after the token was made.
        claims["exp"] = json!(format!("in {} minutes", (ends - seconds_now() + 30).div_euclid(60)));
        Some(format!("<token {head} {}>", self.value(&claims)))
    }
}

/// 1 and 1.0 are the same to whoever parses the answer.
fn number_of(number: &serde_json::Number) -> Value {
    match number.as_f64() {
        Some(float) => json!(float),
        None => Value::Number(number.clone()),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 15 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// `2026-02-01 10:20:30.123Z`
fn is_date(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00 00:00:00.000Z";
    text.len() == FORM.len()
        && text
            .bytes()
            .zip(FORM)
            .all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form })
}

/// Within an hour of now: written by the server, not by the request.
fn is_recent(date: &str) -> bool {
    let part = |from: usize, to: usize| date[from..to].parse::<i64>().unwrap_or_default();
    // Days since 1970 by the usual way of counting years from March.
    let (month, day) = (part(5, 7), part(8, 10));
    let year = part(0, 4) - i64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let seconds = days * 86_400 + part(11, 13) * 3_600 + part(14, 16) * 60 + part(17, 19);
    (seconds - seconds_now()).abs() < 3_600
}

#[allow(clippy::disallowed_methods, reason = "two real servers have written the real time")]
fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("before the end of time")
}

/// Base64 in the alphabet for URLs, without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[test]
fn only_what_the_server_made_up_is_blanked() {
    let mut blank = Blank::new(&["POST /x {\"id\":\"chosenbyclient0\"}"]);
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                 eyJjb2xsZWN0aW9uSWQiOiJwYmNfMSIsImV4cCI6MCwiaWQiOiJhYmNkZWZnaGlqa2xtbm8iLCJ0eXBlIjoiYXV0aCJ9.c2ln";
    let rows = [
        (json!("abcdefghijklmno"), json!("<id 1>")),
        (json!("bbbbbbbbbbbbbbb"), json!("<id 2>")),
        (json!(["abcdefghijklmno"]), json!(["<id 1>"])),
        (json!("chosenbyclient0"), json!("chosenbyclient0")),
        (json!("2020-01-01 00:00:00.000Z"), json!("2020-01-01 00:00:00.000Z")),
        (json!("Abcdefghijklmno"), json!("Abcdefghijklmno")),
        (json!(1), json!(1.0)),
        (json!("a.b.c"), json!("a.b.c")),
    ];
    for (given, expected) in rows {
        assert_eq!(blank.value(&given), expected, "{given}");
    }
    let blanked = blank.value(&json!(token));
    let text = blanked.as_str().expect("a text");
    assert!(text.starts_with("<token {\"alg\":\"HS256\"") && text.contains("<id 1>"), "{text}");
    assert!(is_recent("1970-01-01 00:00:00.000Z") == (seconds_now() < 3_600));
}
