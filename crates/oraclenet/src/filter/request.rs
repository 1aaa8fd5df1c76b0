//! `@request.*`: what a rule may know of the request.
//!
//! Plain values become bound parameters. The caller's own fields, and relations named by the body, are read from
//! the database by a join, so that a rule sees what is stored and not what the client or a stale copy says.

use rusqlite::types::Value as Bound;
use serde_json::Value;

use super::resolver::{Nature, Nulls, Resolved, Resolver, split_modifier};
use super::sql::Sql;
use super::{FilterError, compare};
use crate::schema::{Field, FieldKind};

/// What of the caller is answered without a look into the database.
const PLAIN_AUTH: [&str; 6] =
    ["id", "collectionId", "collectionName", "email", "emailVisibility", "verified"];

/// The operand of `name`, whose parts are `segments`.
pub(super) fn resolve(
    resolver: &mut Resolver<'_>,
    name: &str,
    segments: &[&str],
) -> Result<Resolved, FilterError> {
    match segments {
        [_, "auth", rest @ ..] => auth(resolver, rest),
        [_, "body", first, rest @ ..] => body(resolver, first, rest, &segments[1..]),
        [_, rest @ ..] if !rest.is_empty() => fixed(resolver, rest),
        _ => Err(FilterError::unknown(name)),
    }
}

/// The caller; everything of a guest is NULL.
fn auth(resolver: &mut Resolver<'_>, segments: &[&str]) -> Result<Resolved, FilterError> {
    let Some(auth) = &resolver.request.auth else { return Ok(Resolved::null()) };
    if let [only] = segments
        && PLAIN_AUTH.contains(only)
    {
        let value = match *only {
            "collectionName" => Value::from(auth.collection.as_str()),
            "collectionId" => {
                resolver.schema.find(&auth.collection).map_or(Value::Null, |it| Value::from(it.id.as_str()))
            }
            field => auth.record.get(field).cloned().unwrap_or_default(),
        };
        return Ok(sent(&value));
    }
    let id = auth.record.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let collection = auth.collection.clone();
    let mut walk = resolver.start_at("@auth", &collection, |alias| {
        Sql::of("{} = {}", &[&Sql::column(alias, "id"), &Sql::value(id.clone())])
    })?;
    resolver.follow(&mut walk, segments)
}

fn body(
    resolver: &mut Resolver<'_>,
    first: &str,
    rest: &[&str],
    path: &[&str],
) -> Result<Resolved, FilterError> {
    let (name, modifier) = split_modifier(first)?;
    let collection = resolver.collection;
    let Some(field) = collection.field(name) else { return fixed(resolver, path) };
    if let (FieldKind::Relation { collection, .. }, false) = (&field.kind, rest.is_empty()) {
        return body_relation(resolver, field, collection, rest);
    }
    let value = resolver.request.body.get(name);
    let listed =
        matches!(field.kind, FieldKind::Select { .. } | FieldKind::Relation { .. } | FieldKind::File);
    match modifier {
        Some("lower") if rest.is_empty() => Ok(lower(value)),
        Some("changed") if rest.is_empty() => changed(resolver, field),
        Some("length" | "each") if rest.is_empty() && !listed => {
            Err(FilterError::malformed(format!("{first:?} of a field with a single value")))
        }
        Some("length") if rest.is_empty() => Ok(length(value)),
        Some("each") if rest.is_empty() => each(resolver, field, value),
        _ => fixed(resolver, path),
    }
}

/// `@request.body.author.name`: the record that the body points to.
fn body_relation(
    resolver: &mut Resolver<'_>,
    field: &Field,
    collection: &str,
    rest: &[&str],
) -> Result<Resolved, FilterError> {
    let ids: Vec<Sql> = ids(resolver.request.body.get(field.name)).into_iter().map(Sql::value).collect();
    if ids.is_empty() {
        return Ok(Resolved::null());
    }
    let ids = Sql::join(&ids, ", ");
    let mut walk = resolver.start_at(&format!("@body {}", field.name), collection, |alias| {
        Sql::of("{} IN ({})", &[&Sql::column(alias, "id"), &ids])
    })?;
    resolver.follow(&mut walk, rest)
}

/// The distinct ids in a body's value: a text, a list, or a list written as text.
fn ids(value: Option<&Value>) -> Vec<String> {
    let listed = match value {
        Some(Value::Array(items)) => items.iter().map(text_of).collect(),
        Some(Value::String(text)) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).unwrap_or_default()
        }
        Some(other) => vec![text_of(other)],
        None => vec![],
    };
    let mut distinct = Vec::new();
    for id in listed {
        if !id.is_empty() && !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    distinct
}

fn lower(sent: Option<&Value>) -> Resolved {
    let text = sent.map(text_of).unwrap_or_default();
    Resolved::new(Sql::of("LOWER({})", &[&Sql::value(text)]))
}

fn length(sent: Option<&Value>) -> Resolved {
    let count = match sent {
        None | Some(Value::Null) => 0,
        Some(Value::Array(items)) => items.len(),
        Some(_) => 1,
    };
    match count {
        0 => Resolved::literal("0"),
        1 => Resolved::literal("1"),
        more => Resolved::new(Sql::text(more.to_string())),
    }
}

/// Every item that was sent for a field, as a table to join.
fn each(resolver: &mut Resolver<'_>, field: &Field, sent: Option<&Value>) -> Result<Resolved, FilterError> {
    let items = match sent {
        None | Some(Value::Null) => Value::Array(vec![]),
        Some(Value::Array(_)) => sent.cloned().unwrap_or_default(),
        Some(one) => Value::Array(vec![one.clone()]),
    };
    let source = Sql::of("json_each({})", &[&Sql::value(items.to_string())]);
    let alias = resolver.joins.add(&format!("@body each {}", field.name), &source, |_| Sql::text("1"))?;
    Ok(Resolved { nature: Nature::Sent, ..Resolved::new(Sql::column(&alias, "value")) })
}

/// Whether a field was sent, and not as it is stored.
fn changed(resolver: &mut Resolver<'_>, field: &Field) -> Result<Resolved, FilterError> {
    if !resolver.request.body.contains_key(field.name) {
        return Ok(Resolved::literal("0"));
    }
    let sent = fixed(resolver, &["body", field.name])?;
    let stored = Resolved::new(Sql::column(resolver.collection.name, field.name));
    let differs = Sql::of("({})", &[&compare::equality(false, &sent, &stored)]);
    Ok(Resolved { nature: Nature::Outcome, nulls: Nulls::Disabled, ..Resolved::new(differs) })
}

/// A value by its path, of whatever the client sent.
fn fixed(resolver: &Resolver<'_>, path: &[&str]) -> Result<Resolved, FilterError> {
    let Some((last, above)) = path.split_last() else {
        return Err(FilterError::malformed("a path without a field"));
    };
    let (last, modifier) = split_modifier(last)?;
    let found = look_up(resolver, above, last);
    match modifier {
        Some("isset") => return Ok(Resolved::literal(if found.is_some() { "1" } else { "0" })),
        None | Some("lower") => {}
        Some(_) => return Err(FilterError::malformed(format!("the modifier after {last:?}"))),
    }
    let is_number = |field: &Field| matches!(field.kind, FieldKind::Number { .. });
    let operand = match found.unwrap_or_default() {
        // Forms send numbers as text.
        Value::String(text) if resolver.collection.field(last).is_some_and(is_number) => {
            let number = text.parse().map_or(Bound::Text(text), Bound::Real);
            Resolved::new(Sql::value(number))
        }
        value => sent(&value),
    };
    if modifier.is_none() || operand.nature == Nature::Null {
        return Ok(operand);
    }
    Ok(Resolved { sql: Sql::of("LOWER({})", &[&operand.sql]), ..operand })
}

fn look_up(resolver: &Resolver<'_>, above: &[&str], last: &str) -> Option<Value> {
    let request = resolver.request;
    let Some((root, inner)) = above.split_first() else {
        return match last {
            "context" => Some(Value::from(request.context)),
            "method" => Some(Value::from(request.method.as_str())),
            _ => None,
        };
    };
    let map = match *root {
        "headers" => &request.headers,
        "query" => &request.query,
        "body" => &request.body,
        _ => return None,
    };
    let mut keys = inner.iter().chain([&last]);
    let mut value = map.get(*keys.next()?)?;
    for key in keys {
        value = match value {
            Value::Object(fields) => fields.get(*key)?,
            Value::Array(items) => items.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value.clone())
}

/// A JSON value as an operand. JSON's numbers are doubles; lists and objects are their own text.
fn sent(value: &Value) -> Resolved {
    let bound = match value {
        Value::Null => return Resolved::null(),
        Value::Bool(yes) => {
            let bound = Sql::value(Bound::Integer(i64::from(*yes)));
            return Resolved { nature: Nature::Flag(*yes), ..Resolved::new(bound) };
        }
        Value::Number(number) => Bound::Real(number.as_f64().unwrap_or_default()),
        Value::String(text) => Bound::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Bound::Text(value.to_string()),
    };
    Resolved::new(Sql::value(bound))
}

/// A JSON value as text; nothing for what is no single value.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}
