//! Whether a rule lets a record pass: always asked of SQLite, with the rule compiled like a filter.

use super::Context;
use crate::db::rows::{self, Record};
use crate::filter::{Access, Compiler};
use crate::http::error::ApiError;
use crate::schema::Collection;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use serde_json::Value;

/// Whether `rule` lets the caller do something with `record`, which need not be a row: a new one, one that is about
/// to be removed, one that was. `None` is for superusers only, who pass every rule.
///
/// # Errors
/// SQLite's; or a rule of ours that does not compile.
pub fn passes(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    rule: Option<&str>,
    record: &Record,
) -> Result<bool, ApiError> {
    let rule = match rule {
        _ if context.is_superuser() => return Ok(true),
        None => return Ok(false),
        Some("") => return Ok(true),
        Some(rule) => rule,
    };
    holds(connection, context, collection, rule, Access::Rule, record)
}

/// Whether an expression is true of `record`, which need not be a row.
///
/// # Errors
/// SQLite's; 400 and 403 for an expression that does not compile.
pub fn holds(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    expression: &str,
    access: Access,
    record: &Record,
) -> Result<bool, ApiError> {
    let mut params: Vec<Sql> = collection
        .fields
        .iter()
        .map(|field| rows::sql(record.get(field.name).unwrap_or(&Value::Null)))
        .collect();
    let columns: Vec<String> = collection
        .fields
        .iter()
        .enumerate()
        .map(|(at, field)| format!("?{} AS \"{}\"", at + 1, field.name))
        .collect();
    let mut compiler = Compiler::new(&context.schema, collection, &context.request, context.now);
    compiler.condition(expression, access)?;
    let query = compiler.finish_after(params.len());
    let table = collection.name;
    let text = format!(
        "WITH \"{table}\" AS (SELECT {}) SELECT 1 FROM \"{table}\" {} WHERE {} LIMIT 1",
        columns.join(", "),
        query.joins,
        query.conditions
    );
    params.extend(query.params);
    let mut statement = connection.prepare_cached(&text)?;
    let found = statement.query_row(params_from_iter(params), |_| Ok(())).optional()?;
    Ok(found.is_some())
}

/// A row that the rule lets the caller see.
///
/// # Errors
/// 403 where only superusers may, 404 where there is no such row, or none for the caller.
pub fn visible(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    rule: Option<&str>,
    id: &str,
) -> Result<Record, ApiError> {
    if rule.is_none() && !context.is_superuser() {
        return Err(ApiError::superusers_only());
    }
    let record = rows::find(connection, collection, "id = ?1", &[&id])?.ok_or_else(ApiError::not_found)?;
    if passes(connection, context, collection, rule, &record)? {
        Ok(record)
    } else {
        Err(ApiError::not_found())
    }
}
