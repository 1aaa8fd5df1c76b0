//! Compares two blanked answers and says where they differ. Never decides whether a difference is allowed.

use super::common::http::{Answer, Frame};
use serde_json::{Value, json};

/// The headers that are part of the contract; every other is the server's own affair.
const HEADERS: [&str; 12] = [
    "content-type",
    "location",
    "vary",
    "cache-control",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
];

/// An answer in the form in which it is compared.
pub(crate) fn facts(answer: &Answer, blank: &mut dyn FnMut(&Value) -> Value) -> Value {
    let mut headers = serde_json::Map::new();
    for name in HEADERS {
        if let Some(value) = answer.header(name) {
            headers.insert(name.to_owned(), json!(value));
        }
    }
    let body = match serde_json::from_slice(&answer.body) {
        Ok(value) => blank(&value),
        Err(_) => json!({"<not JSON>": String::from_utf8_lossy(&answer.body)}),
    };
    json!({"status": answer.status, "headers": headers, "body": body})
}

/// A frame in the form in which it is compared.
pub(crate) fn frame_facts(frame: &Frame, client: &str, blank: &mut dyn FnMut(&Value) -> Value) -> Value {
    let hide =
        |text: &str| if client.is_empty() { text.to_owned() } else { text.replace(client, "<client>") };
    let data = match serde_json::from_str(&hide(&frame.data)) {
        Ok(value) => blank(&value),
        Err(_) => json!({"<not JSON>": hide(&frame.data)}),
    };
    json!({"id": hide(&frame.id), "event": frame.event, "data": data})
}

/// The places where two values differ; `"<any>"` on the right stands for anything.
pub(crate) fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", Some(left), Some(right), &mut found);
    found
}

fn walk(path: &str, left: Option<&Value>, right: Option<&Value>, found: &mut Vec<String>) {
    match (left, right) {
        (_, Some(Value::String(any))) if any == "<any>" => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                walk(&format!("{path}/{name}"), a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (index, (left, right)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}/{index}"), Some(left), Some(right), found);
            }
        }
        (left, right) if left == right => {}
        (left, right) => found.push(format!("{path}: {} | {}", shown(left), shown(right))),
    }
}

fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "(absent)".to_owned(), Value::to_string);
    if text.chars().count() <= 300 { text } else { text.chars().take(300).chain("...".chars()).collect() }
}

#[test]
fn a_changed_answer_is_seen() {
    let record = json!({"status": 200, "headers": {"vary": "Origin"}, "body": {"items": [{"id": "a", "n": 1}], "x": ""}});
    let changes: [(&str, Value); 8] = [
        ("/status", json!(400)),
        ("/headers/vary", json!("origin")),
        ("/body/items", json!([])),
        ("/body/items/0/id", json!("b")),
        ("/body/items/0/n", json!("1")),
        ("/body/items/0", json!({"id": "a", "n": 1, "extra": null})),
        ("/body/items/0", json!({"id": "a"})),
        ("/body/x", Value::Null),
    ];
    assert_eq!(differences(&record, &record), Vec::<String>::new());
    for (pointer, value) in changes {
        let mut changed = record.clone();
        *changed.pointer_mut(pointer).expect("a place") = value;
        assert_eq!(differences(&record, &changed).len(), 1, "{pointer}: {changed}");
    }
    let any = json!({"status": 200, "headers": {"vary": "Origin"}, "body": "<any>"});
    assert_eq!(differences(&record, &any), Vec::<String>::new());
}
