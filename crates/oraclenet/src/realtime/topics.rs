//! What clients ask to hear: the request that says it, and each topic's text.
//!
//! A topic is `posts/*`, `posts/ID` or `posts` (the same as `posts/*`), with the collection's name or id, and perhaps
//! `?options=` with JSON in URL encoding. PocketBase takes any text; one that means nothing never has an event. Stricter
//! than PocketBase: a topic with a control letter has none either, since its name would break the frame.

use super::limits;
use crate::db::Change;
use crate::db::rows::{self, Record};
use crate::http::error::{ApiError, FieldErrors, field_error, field_error_with};
use crate::records::member;
use crate::schema::Schema;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /api/realtime`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Whose stream.
    pub client_id: String,
    /// What it wants from now on.
    pub subscriptions: Vec<String>,
}

impl Subscribe {
    /// Reads the request's body.
    ///
    /// # Errors
    /// 400 in PocketBase's words.
    pub fn parse(body: &Record) -> Result<Self, ApiError> {
        let client_id = match member(body, "clientId") {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            _ => return Err(ApiError::unreadable()),
        };
        let subscriptions: Vec<String> = match member(body, "subscriptions") {
            Value::Null => Vec::new(),
            Value::Array(items) => items.iter().map(subscription).collect::<Result<_, _>>()?,
            _ => return Err(ApiError::unreadable()),
        };
        let mut errors = FieldErrors::new();
        if client_id.is_empty() {
            errors.insert("clientId".to_owned(), field_error("validation_required", "Cannot be blank."));
        } else if client_id.len() > limits::CLIENT_ID_BYTES {
            let max = limits::CLIENT_ID_BYTES;
            let message = format!("The length must be between 1 and {max}");
            let params = json!({ "max": max, "min": 1 });
            let problem = field_error_with("validation_length_out_of_range", &message, params);
            errors.insert("clientId".to_owned(), problem);
        }
        if let Some(problem) = too_much(&subscriptions) {
            errors.insert("subscriptions".to_owned(), problem);
        }
        if errors.is_empty() {
            Ok(Self { client_id, subscriptions })
        } else {
            Err(ApiError::unreadable().with(errors))
        }
    }
}

fn subscription(value: &Value) -> Result<String, ApiError> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(ApiError::unreadable()),
    }
}

fn too_much(subscriptions: &[String]) -> Option<Value> {
    let too_long = |max: usize| {
        let message = format!("The length must be no more than {max}");
        field_error_with("validation_length_too_long", &message, json!({ "max": max, "min": 0 }))
    };
    if subscriptions.len() > limits::SUBSCRIPTIONS {
        return Some(too_long(limits::SUBSCRIPTIONS));
    }
    let long = subscriptions.iter().enumerate().filter(|(_, text)| text.len() > limits::SUBSCRIPTION_BYTES);
    let problems: FieldErrors =
        long.map(|(at, _)| (at.to_string(), too_long(limits::SUBSCRIPTION_BYTES))).collect();
    (!problems.is_empty()).then_some(Value::Object(problems))
}

/// A topic that can have events.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Topic {
    /// The text, which is also the event's name.
    pub text: Arc<str>,
    /// The collection's name.
    pub collection: &'static str,
    /// One record's id; all of them without.
    pub id: Option<String>,
    /// What stands in its options.
    pub options: Options,
}

/// The query and the headers that a topic's events are made as if for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Options {
    /// `expand`, `filter`, `fields`; texts only.
    pub query: Record,
    /// Names in small letters, `_` for `-`; texts only.
    pub headers: Record,
}

impl Topic {
    /// Reads a topic; `None` if it can never have an event.
    pub(super) fn parse(schema: &Schema, text: &str) -> Option<Self> {
        if text.contains(|letter: char| letter.is_ascii_control()) {
            return None;
        }
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let (collection, id) = match path.split_once('/') {
            None | Some((_, "*")) => (path.strip_suffix("/*").unwrap_or(path), None),
            Some((collection, id)) => (collection, Some(id.to_owned())),
        };
        let collection = schema.find(collection)?.name;
        let (query, fragment) = query.split_once('#').unwrap_or((query, ""));
        let options = unescape(fragment).and_then(|_| option_text(query));
        let options = options.map(|text| Options::parse(&text)).unwrap_or_default();
        Some(Self { text: text.into(), collection, id, options })
    }

    /// Whether it is about this change.
    pub(super) fn is_about(&self, change: &Change) -> bool {
        self.collection == change.collection
            && self.id.as_ref().is_none_or(|id| id == rows::text(&change.record, "id"))
    }
}

/// The first `options` of a query; pairs that cannot be read are left out.
fn option_text(query: &str) -> Option<String> {
    query.split('&').filter(|pair| !pair.contains(';')).find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name)?, unescape(value)?);
        (name == "options").then_some(value)
    })
}

/// URL encoding undone; `None` where a `%` has not two hexadecimal digits after it.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

impl Options {
    fn parse(text: &str) -> Self {
        let Ok(Value::Object(parts)) = serde_json::from_str(text) else { return Self::default() };
        let texts = |name: &str, key: fn(&str) -> String| match member(&parts, name) {
            Value::Object(values) => {
                values.iter().map(|(name, value)| (key(name), scalar(value).into())).collect()
            }
            _ => Record::new(),
        };
        Self { query: texts("query", str::to_owned), headers: texts("headers", snake_case) }
    }
}

/// A single value as text; nothing for what is none.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// `X-Token` and `xToken` as `x_token`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for word in name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let mut before = None;
        for letter in word.chars() {
            let starts = letter.is_uppercase() && before.is_some_and(|it: char| !it.is_uppercase());
            if starts || (before.is_none() && !out.is_empty()) {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
            before = Some(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::collections;

    fn parsed(text: &str) -> Option<Topic> {
        Topic::parse(&Schema::new(collections()), text)
    }

    #[test]
    fn topics_name_a_collection_by_name_or_id_and_one_record_or_all() {
        for (text, wanted) in [
            ("posts/*", Some(("posts", None))),
            ("posts", Some(("posts", None))),
            ("pbc_1125843985/*", Some(("posts", None))),
            ("pbc_1125843985", Some(("posts", None))),
            ("posts/q7nev7mgl2uqjbq", Some(("posts", Some("q7nev7mgl2uqjbq")))),
            ("pbc_1125843985/a", Some(("posts", Some("a")))),
            ("posts/a/x", Some(("posts", Some("a/x")))), // no record has such an id
            ("posts/*x", Some(("posts", Some("*x")))),
            ("posts/* ", Some(("posts", Some("* ")))),
            ("posts/%2A", Some(("posts", Some("%2A")))),
            ("posts/*#x", Some(("posts", Some("*#x")))),
            ("posts/", Some(("posts", Some("")))),
            ("posts/*?x", Some(("posts", None))),
            ("posts?y", Some(("posts", None))),
            ("posts/*?", Some(("posts", None))),
            ("POSTS/*", None),
            ("nope/*", None),
            ("", None),
            ("/*", None),
            ("posts/*\n?x", None),
            ("posts/*?x\nevent:y", None),
            ("posts/*?x\ry", None),
        ] {
            let topic = parsed(text);
            let got = topic.as_ref().map(|topic| (topic.collection, topic.id.as_deref()));
            assert_eq!(got, wanted, "{text:?}");
            assert!(topic.is_none_or(|topic| &*topic.text == text));
        }
    }

    #[test]
    fn options_are_read_as_leniently_as_by_pocketbase() {
        let id = json!({ "fields": "id" });
        for (query, wanted) in [
            ("", json!({})),
            ("options=", json!({})),
            ("options=%7B%22query%22%3A%7B%22fields%22%3A%22id%22%7D%7D", id.clone()),
            (r#"options={"query":{"fields":"id"}}"#, id.clone()),
            (r#"a=1&options={"query":{"fields":"id"}}#frag"#, id.clone()),
            (r#"a=1&options={"query":{"fields":"id"}}#%zz"#, json!({})),
            (r#"a;b&options={"query":{"fields":"id"}}"#, id.clone()),
            (r#"%zz&options={"query":{"fields":"id"}}"#, id.clone()),
            (r#"options={"QUERY":{"fields":"id"}}"#, id),
            (r#"options={"query":{"Fields":"id"}}"#, json!({ "Fields": "id" })),
            (r#"options=&options={"query":{"fields":"id"}}"#, json!({})),
            (r#"Options={"query":{"fields":"id"}}"#, json!({})),
            (r#"options={"query":{"fields":"id"}} x"#, json!({})),
            ("options=%zz", json!({})),
            ("options=%7", json!({})),
            ("options=[]", json!({})),
            (r#"options={"query":5}"#, json!({})),
            (r#"options={"query":{"filter":"a+b"}}"#, json!({ "filter": "a b" })),
            (
                r#"options={"query":{"a":1,"b":true,"c":null,"d":["x"],"e":1.5}}"#,
                json!({ "a": "1", "b": "true", "c": "", "d": "", "e": "1.5" }),
            ),
        ] {
            let topic = parsed(&format!("posts/*?{query}")).unwrap();
            assert_eq!(Value::Object(topic.options.query), wanted, "{query}");
        }
    }

    #[test]
    fn names_of_headers_get_small_letters_and_underscores() {
        for (name, wanted) in [
            ("X-Token", "x_token"),
            ("x_token", "x_token"),
            ("xToken", "x_token"),
            ("ABCd", "abcd"),
            ("-a--b-", "a_b"),
        ] {
            let topic = parsed(&format!(r#"posts?options={{"query":5,"headers":{{"{name}":1}}}}"#)).unwrap();
            assert_eq!(Value::Object(topic.options.headers), json!({ wanted: "1" }), "{name}");
        }
    }

    #[test]
    fn the_request_is_refused_in_the_words_of_pocketbase() {
        let required = json!({ "code": "validation_required", "message": "Cannot be blank." });
        let length = |max: usize| {
            let message = format!("The length must be no more than {max}.");
            let params = json!({ "max": max, "min": 0 });
            json!({ "code": "validation_length_too_long", "message": message, "params": params })
        };
        let (at, past) = ("x".repeat(2500), "é".repeat(1251));
        for (body, wanted) in [
            (json!({ "clientId": "c" }), Ok(vec![])),
            (json!({ "ClientID": "c", "subscriptions": ["a", null] }), Ok(vec!["a", ""])),
            (json!({ "clientId": "c", "subscriptions": null }), Ok(vec![])),
            (json!({ "clientId": "c", "subscriptions": [at] }), Ok(vec![at.as_str()])),
            (json!({ "clientId": "c", "subscriptions": vec!["x"; 1000] }), Ok(vec!["x"; 1000])),
            (json!({ "clientId": 5 }), Err(json!({}))),
            (json!({ "clientId": "c", "subscriptions": "x" }), Err(json!({}))),
            (json!({ "clientId": "c", "subscriptions": [5] }), Err(json!({}))),
            (json!({ "clientId": "c", "subscriptions": { "0": "x" } }), Err(json!({}))),
            (json!({}), Err(json!({ "clientId": required }))),
            (
                json!({ "clientId": "", "subscriptions": ["a", past] }),
                Err(json!({ "clientId": required, "subscriptions": { "1": length(2500) } })),
            ),
            (
                json!({ "clientId": "c", "subscriptions": vec![past.as_str(); 1001] }),
                Err(json!({ "subscriptions": length(1000) })),
            ),
            (
                json!({ "clientId": "x".repeat(256) }),
                Err(json!({ "clientId": {
                    "code": "validation_length_out_of_range",
                    "message": "The length must be between 1 and 255.",
                    "params": { "max": 255, "min": 1 },
                } })),
            ),
        ] {
            let got = Subscribe::parse(body.as_object().unwrap());
            let got = got.as_ref().map(|it| it.subscriptions.iter().map(String::as_str).collect::<Vec<_>>());
            let wanted =
                wanted.map_err(|data| ApiError::unreadable().with(data.as_object().unwrap().clone()));
            assert_eq!(got, wanted.as_ref().cloned(), "{body}");
        }
    }
}
