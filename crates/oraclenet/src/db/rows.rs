//! Rows as typed JSON, and JSON as what SQLite keeps.

use crate::schema::{Collection, Field, FieldKind};
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Row, ToSql};
use serde_json::{Map, Number, Value};

/// A record: every column of its collection by name, also the hidden ones.
pub type Record = Map<String, Value>;

/// The columns of a collection, qualified and quoted, for a `SELECT`; [`record`] reads what it gives.
pub fn columns(collection: &Collection) -> String {
    let table = collection.name;
    let columns: Vec<String> =
        collection.fields.iter().map(|field| format!("\"{table}\".\"{}\"", field.name)).collect();
    columns.join(", ")
}

/// Reads a row of [`columns`].
///
/// # Errors
/// SQLite's.
pub fn record(collection: &Collection, row: &Row<'_>) -> rusqlite::Result<Record> {
    let mut record = Record::new();
    for (index, field) in collection.fields.iter().enumerate() {
        record.insert(field.name.to_owned(), value(field, row.get_ref(index)?));
    }
    Ok(record)
}

/// A column's content as the field's type; what does not fit is the type's zero, as in PocketBase.
pub fn value(field: &Field, content: ValueRef<'_>) -> Value {
    match &field.kind {
        FieldKind::Bool => Value::Bool(match content {
            ValueRef::Integer(number) => number != 0,
            ValueRef::Real(number) => number != 0.0,
            ValueRef::Text(text) => matches!(text, b"1" | b"true" | b"TRUE" | b"True" | b"t" | b"T"),
            _ => false,
        }),
        FieldKind::Number { .. } => match content {
            ValueRef::Integer(number) => Value::from(number),
            ValueRef::Real(number) => real(number),
            ValueRef::Text(text) => {
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map_or(Value::from(0), real)
            }
            _ => Value::from(0),
        },
        _ if field.is_multiple() => match content {
            ValueRef::Text(text) => serde_json::from_slice(text).unwrap_or_else(|_| Value::Array(Vec::new())),
            _ => Value::Array(Vec::new()),
        },
        _ => Value::String(match content {
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            _ => String::new(),
        }),
    }
}

/// A float as Go writes it into JSON: whole numbers without a fraction.
pub fn real(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "whole, and within 2^53")]
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::from(0), Value::Number)
}

/// A field's value as SQLite keeps it.
pub fn sql(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::Text(String::new()),
        Value::Bool(flag) => Sql::Integer(i64::from(*flag)),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Sql::Real(number.as_f64().unwrap_or(0.0)), Sql::Integer)
        }
        Value::String(text) => Sql::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Sql::Text(value.to_string()),
    }
}

/// One record by a condition on its columns; `condition` is ours, never a client's.
///
/// # Errors
/// SQLite's.
pub fn find(
    connection: &rusqlite::Connection,
    collection: &Collection,
    condition: &str,
    params: &[&dyn ToSql],
) -> rusqlite::Result<Option<Record>> {
    use rusqlite::OptionalExtension as _;
    let table = collection.name;
    let text = format!("SELECT {} FROM \"{table}\" WHERE {condition} LIMIT 1", columns(collection));
    let mut statement = connection.prepare_cached(&text)?;
    statement.query_row(params, |row| record(collection, row)).optional()
}

/// Inserts a record. Every column must be there.
///
/// # Errors
/// SQLite's: a unique index refuses it.
pub fn insert(
    connection: &rusqlite::Connection,
    collection: &Collection,
    record: &Record,
) -> rusqlite::Result<()> {
    let names: Vec<String> = collection.fields.iter().map(|field| format!("\"{}\"", field.name)).collect();
    let places: Vec<String> = (1..=names.len()).map(|index| format!("?{index}")).collect();
    let table = collection.name;
    let text = format!("INSERT INTO main.\"{table}\" ({}) VALUES ({})", names.join(", "), places.join(", "));
    let values = collection.fields.iter().map(|field| sql(record.get(field.name).unwrap_or(&Value::Null)));
    connection.prepare_cached(&text)?.execute(rusqlite::params_from_iter(values)).map(drop)
}

/// Writes every column of a record that is there.
///
/// # Errors
/// SQLite's: a unique index refuses it.
pub fn update(
    connection: &rusqlite::Connection,
    collection: &Collection,
    record: &Record,
) -> rusqlite::Result<()> {
    let fields = || collection.fields.iter().filter(|field| field.name != "id");
    let sets: Vec<String> =
        fields().enumerate().map(|(index, field)| format!("\"{}\" = ?{}", field.name, index + 2)).collect();
    let table = collection.name;
    let text = format!("UPDATE main.\"{table}\" SET {} WHERE id = ?1", sets.join(", "));
    let id = sql(record.get("id").unwrap_or(&Value::Null));
    let values = fields().map(|field| sql(record.get(field.name).unwrap_or(&Value::Null)));
    let values: Vec<Sql> = std::iter::once(id).chain(values).collect();
    connection.prepare_cached(&text)?.execute(rusqlite::params_from_iter(values)).map(drop)
}

/// Removes a record.
///
/// # Errors
/// SQLite's.
pub fn delete(connection: &rusqlite::Connection, collection: &Collection, id: &str) -> rusqlite::Result<()> {
    let text = format!("DELETE FROM main.\"{}\" WHERE id = ?1", collection.name);
    connection.prepare_cached(&text)?.execute([id]).map(drop)
}

/// A text column of a record.
pub fn text<'a>(record: &'a Record, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or_default()
}
