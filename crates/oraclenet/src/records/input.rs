//! Bodies onto records: each value becomes what its field can hold, and modifiers are applied.

use crate::db::rows::{self, Record};
use crate::random::{self, Source};
use crate::schema::{Collection, Field, FieldKind, Managed};
use serde_json::Value;

/// Sets on `record` what `body` says, for a caller who is a superuser or not. Keys that are no fields, and fields that
/// the caller cannot set, are left alone. Modifiers have been [resolved].
pub(super) fn apply(collection: &Collection, record: &mut Record, body: &Record, superuser: bool) {
    for field in collection.fields.iter().filter(|field| may_set(field, superuser)) {
        if let Some(value) = body.get(field.name) {
            record.insert(field.name.to_owned(), coerce(field, value));
        }
    }
}

/// The body with each modifier (`author+`) replaced by the field and what it comes to for `record`, so that rules see
/// under its name whatever a request would change. `None` if there are no modifiers.
pub(super) fn resolved(
    collection: &Collection,
    record: &Record,
    body: &Record,
    source: &dyn Source,
) -> Option<Record> {
    let mut resolved = None;
    for field in &collection.fields {
        let name = field.name;
        for (key, modify) in [
            (format!("+{name}"), Modify::Prepend),
            (format!("{name}+"), Modify::Add),
            (format!("{name}-"), Modify::Remove),
            (format!("{name}:autogenerate"), Modify::Generate),
        ] {
            let Some(operand) = body.get(&key).filter(|_| has_modifier(field, modify)) else { continue };
            let into = resolved.get_or_insert_with(|| body.clone());
            let current = match into.get(name) {
                Some(value) => coerce(field, value),
                None => record.get(name).cloned().unwrap_or(Value::Null),
            };
            into.remove(&key);
            let value = match modify {
                Modify::Generate => Value::String(text(operand) + &generated(field, source)),
                modify => modified(field, &current, operand, modify),
            };
            into.insert(name.to_owned(), value);
        }
    }
    resolved
}

fn may_set(field: &Field, superuser: bool) -> bool {
    let by_kind = match field.kind {
        FieldKind::Autodate { .. } | FieldKind::Password | FieldKind::File => false,
        FieldKind::TokenKey => superuser,
        _ => true,
    };
    let by_owner = match field.managed {
        Managed::No => true,
        Managed::BySuperusers => superuser,
        Managed::ByServer => false,
    };
    by_kind && by_owner
}

/// What a field keeps of a value.
pub(super) fn coerce(field: &Field, value: &Value) -> Value {
    match &field.kind {
        FieldKind::Bool => Value::Bool(match value {
            Value::Bool(flag) => *flag,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"),
            _ => false,
        }),
        FieldKind::Number { .. } => rows::real(number(value)),
        FieldKind::Select { .. } | FieldKind::Relation { .. } if field.is_multiple() => {
            let mut texts = Vec::new();
            for text in several(value) {
                if !text.is_empty() && !texts.contains(&text) {
                    texts.push(text);
                }
            }
            Value::from(texts)
        }
        FieldKind::Select { .. } | FieldKind::Relation { .. } => {
            Value::String(several(value).pop().unwrap_or_default())
        }
        _ => Value::String(text(value)),
    }
}

/// A scalar as text, numbers without an exponent as Go writes them; what is no scalar is nothing.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| format!("{}", number.as_f64().unwrap_or(0.0)), |whole| whole.to_string()),
        _ => String::new(),
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap_or(0.0),
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::String(text) => text.parse().ok().filter(|number: &f64| number.is_finite()).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// The texts of a list, or of a text that holds one, or one.
fn several(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        Value::String(text) if text.starts_with('[') => match serde_json::from_str(text) {
            Ok(Value::Array(values)) => values.iter().map(self::text).collect(),
            _ => vec![text.clone()],
        },
        Value::Null => Vec::new(),
        value => vec![text(value)],
    }
}

#[derive(Clone, Copy)]
enum Modify {
    Prepend,
    Add,
    Remove,
    /// The operand is the beginning of a value that the server makes up.
    Generate,
}

fn has_modifier(field: &Field, modify: Modify) -> bool {
    match field.kind {
        FieldKind::Number { .. } => matches!(modify, Modify::Add | Modify::Remove),
        FieldKind::Select { .. } | FieldKind::Relation { .. } => !matches!(modify, Modify::Generate),
        FieldKind::Text { .. } | FieldKind::Id | FieldKind::TokenKey => matches!(modify, Modify::Generate),
        _ => false,
    }
}

/// What the server makes up for a field: nothing, but for ids and token keys.
fn generated(field: &Field, source: &dyn Source) -> String {
    match field.kind {
        FieldKind::Id => random::record_id(source),
        FieldKind::TokenKey => random::token_key(source),
        _ => String::new(),
    }
}

fn modified(field: &Field, current: &Value, operand: &Value, modify: Modify) -> Value {
    match (&field.kind, modify) {
        (FieldKind::Number { .. }, Modify::Add) => rows::real(number(current) + number(operand)),
        (FieldKind::Number { .. }, Modify::Remove) => rows::real(number(current) - number(operand)),
        (FieldKind::Select { .. } | FieldKind::Relation { .. }, Modify::Remove) => {
            let gone = several(operand);
            let left = several(current).into_iter().filter(|value| !gone.contains(value));
            coerce(field, &left.map(Value::from).collect())
        }
        (FieldKind::Select { .. } | FieldKind::Relation { .. }, _) => {
            let (mut first, mut last) = (several(current), several(operand));
            if matches!(modify, Modify::Prepend) {
                std::mem::swap(&mut first, &mut last);
            }
            let all = first.into_iter().chain(last).filter(|text| !text.is_empty());
            coerce(field, &all.map(Value::from).collect())
        }
        _ => current.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Schema, collections};
    use serde_json::json;

    struct Zeros;
    impl Source for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    #[test]
    fn values_become_what_their_fields_hold() {
        let schema = Schema::new(collections());
        for (collection, field, given, kept) in [
            ("posts", "title", json!(true), json!("true")),
            ("posts", "title", json!(1.5), json!("1.5")),
            ("posts", "title", json!(1e21), json!("1000000000000000000000")),
            ("posts", "title", json!(1e-7), json!("0.0000001")),
            ("posts", "title", json!(null), json!("")),
            ("posts", "title", json!(["a"]), json!("")),
            ("votes", "value", json!("7"), json!(7)),
            ("votes", "value", json!("abc"), json!(0)),
            ("votes", "value", json!(true), json!(1)),
            ("votes", "value", json!([3]), json!(0)),
            ("votes", "value", json!(-0.0), json!(0)),
            ("votes", "value", json!(1.5), json!(1.5)),
            ("oracles", "approved", json!("yes"), json!(false)),
            ("oracles", "approved", json!("true"), json!(true)),
            ("heartbeats", "status", json!(["away", "online"]), json!("online")),
            ("heartbeats", "status", json!(5), json!("5")),
            ("comments", "parent", json!(["a", "b"]), json!("b")),
            ("comments", "parent", json!(null), json!("")),
        ] {
            let field = schema.get(collection).field(field).unwrap();
            assert_eq!(coerce(field, &given), kept, "{}: {given}", field.name);
        }
    }

    #[test]
    fn modifiers_come_after_the_value_and_only_where_they_have_a_meaning() {
        let schema = Schema::new(collections());
        let votes = schema.get("votes");
        let mut record = Record::new();
        record.insert("target_post".to_owned(), json!("a"));
        let body = json!({ "value": 10, "value+": "5", "target_post+": "b", "target_type+": "x", "nope": 1 });
        let body = resolved(votes, &record, body.as_object().unwrap(), &Zeros).expect("modifiers");
        apply(votes, &mut record, &body, false);
        assert_eq!(
            record,
            *json!({ "value": 15, "target_post": "b", "target_type": "x" }).as_object().unwrap()
        );
        let posts = schema.get("posts");
        let mut record = json!({ "title": "T", "upvotes": 1, "author": "a" }).as_object().unwrap().clone();
        let body = json!({ "title+": "x", "upvotes": 9, "upvotes+": 9, "author-": "a", "created": "2020" });
        let body = resolved(posts, &record, body.as_object().unwrap(), &Zeros).expect("modifiers");
        assert_eq!(body["author"], json!(""), "a rule that asks whether the author was sent must see it");
        apply(posts, &mut record, &body, true);
        assert_eq!(record, *json!({ "title": "T", "upvotes": 1, "author": "" }).as_object().unwrap());
        assert_eq!(resolved(posts, &record, json!({ "title+": "x" }).as_object().unwrap(), &Zeros), None);
        let body = json!({ "title:autogenerate": "x", "id:autogenerate": "", "author:autogenerate": "y" });
        let body = resolved(posts, &Record::new(), body.as_object().unwrap(), &Zeros).expect("modifiers");
        assert_eq!(body["title"], json!("x"));
        assert_eq!(body["id"].as_str().map(str::len), Some(15));
        assert_eq!(body.get("author"), None);
        let beats = schema.get("heartbeats");
        let body = json!({ "+status": "away" });
        let body = resolved(beats, &Record::new(), body.as_object().unwrap(), &Zeros).expect("a modifier");
        assert_eq!(body, *json!({ "status": "away" }).as_object().unwrap());
    }
}
