//! What a record may hold, field by field, with PocketBase's codes and words.

use super::formats;
use crate::db::rows::{self, Record};
use crate::http::error::{ApiError, FieldErrors, field_error, field_error_with};
use crate::schema::{Collection, Field, FieldKind, Schema};
use rusqlite::Connection;
use serde_json::{Value, json};

/// PocketBase's limit where a text field has none of its own, in characters.
const DEFAULT_TEXT: usize = 5000;

/// "Cannot be blank."
pub(super) fn required() -> Value {
    field_error("validation_required", "Cannot be blank.")
}

/// "Values don't match."
pub(super) fn mismatch() -> Value {
    field_error("validation_values_mismatch", "Values don't match.")
}

/// Checks every field; `password` is the new plain one, if there is one.
///
/// # Errors
/// SQLite's, when relations are looked up.
pub(super) fn record(
    connection: &Connection,
    schema: &Schema,
    collection: &Collection,
    record: &Record,
    password: Option<&str>,
) -> Result<FieldErrors, ApiError> {
    let mut errors = FieldErrors::new();
    for field in &collection.fields {
        let value = record.get(field.name).unwrap_or(&Value::Null);
        let problem = match (&field.kind, password) {
            (FieldKind::Password, Some(password)) => new_password(password),
            (FieldKind::Password, None) => None,
            _ => check(connection, schema, field, value)?,
        };
        if let Some(problem) = problem {
            errors.insert(field.name.to_owned(), problem);
        }
    }
    Ok(errors)
}

fn new_password(password: &str) -> Option<Value> {
    match password {
        "" => Some(required()),
        password if password.chars().count() < 8 => {
            Some(field_error("validation_min_text_constraint", "Must be at least 8 character(s)"))
        }
        password if password.len() > 71 => {
            Some(field_error("validation_max_text_constraint", "Must be less than 71 character(s)"))
        }
        _ => None,
    }
}

fn check(
    connection: &Connection,
    schema: &Schema,
    field: &Field,
    value: &Value,
) -> Result<Option<Value>, ApiError> {
    let content = value.as_str().unwrap_or_default();
    let problem = match &field.kind {
        FieldKind::Number { min, max } => number(field, value.as_f64().unwrap_or(0.0), *min, *max),
        FieldKind::Relation { collection, .. } => {
            return relation(connection, schema.get(collection), field, value);
        }
        FieldKind::Bool | FieldKind::Autodate { .. } | FieldKind::File | FieldKind::Password => None,
        _ if content.is_empty() => field.required.then(required),
        FieldKind::Id => {
            text(content, 15, 15, content.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()))
        }
        FieldKind::TokenKey => text(content, 30, 60, true),
        FieldKind::Text { min, max, pattern } => {
            let max = if *max == 0 { DEFAULT_TEXT } else { *max };
            text(content, *min, max, pattern.is_none_or(|pattern| pattern.matches(content)))
        }
        FieldKind::Email if !formats::is_email(content) => {
            Some(field_error("validation_is_email", "Must be a valid email address"))
        }
        FieldKind::Url if !formats::is_url(content) => {
            Some(field_error("validation_invalid_url", "Must be a valid url"))
        }
        FieldKind::Select { values, .. } => (!values.contains(&content)).then(|| {
            let message = format!("Invalid value {content}");
            field_error_with("validation_invalid_value", &message, json!({ "value": content }))
        }),
        FieldKind::Email | FieldKind::Url | FieldKind::Date => None,
    };
    Ok(problem)
}

fn text(content: &str, min: usize, max: usize, fits: bool) -> Option<Value> {
    let length = content.chars().count();
    if length < min {
        let message = format!("Must be at least {min} character(s)");
        Some(field_error_with("validation_min_text_constraint", &message, json!({ "min": min })))
    } else if length > max {
        let message = format!("Must be no more than {max} character(s)");
        Some(field_error_with("validation_max_text_constraint", &message, json!({ "max": max })))
    } else if fits {
        None
    } else {
        Some(field_error("validation_invalid_format", "Invalid value format"))
    }
}

fn number(field: &Field, value: f64, min: Option<f64>, max: Option<f64>) -> Option<Value> {
    if value == 0.0 && field.required {
        return Some(required());
    }
    if let Some(min) = min.filter(|min| value < *min) {
        return Some(field_error(
            "validation_min_number_constraint",
            &format!("Must be larger than {min:.6}"),
        ));
    }
    let max = max.filter(|max| value > *max)?;
    Some(field_error("validation_max_number_constraint", &format!("Must be less than {max:.6}")))
}

fn relation(
    connection: &Connection,
    target: &Collection,
    field: &Field,
    value: &Value,
) -> Result<Option<Value>, ApiError> {
    let ids: Vec<&str> = match value {
        Value::Array(ids) => ids.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().filter(|id| !id.is_empty()).collect(),
    };
    if ids.is_empty() {
        return Ok(field.required.then(required));
    }
    for id in ids {
        if rows::find(connection, target, "id = ?1", &[&id])?.is_none() {
            let message = "Failed to find all relation records with the provided ids";
            return Ok(Some(field_error("validation_missing_rel_records", message)));
        }
    }
    Ok(None)
}
