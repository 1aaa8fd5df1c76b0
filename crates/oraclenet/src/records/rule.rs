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
    let request = context.request_for(collection);
    let mut compiler = Compiler::new(&context.schema, collection, &request, context.now);
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

/// Looks again, within the caller's transaction, at the account that the request's token was checked against before
/// it: removed meanwhile, or with a new token key (its password was changed), it may do nothing any more.
///
/// # Errors
/// 401; SQLite's.
pub fn still_signed_in(connection: &Connection, context: &Context) -> Result<(), ApiError> {
    let Some(auth) = &context.request.auth else { return Ok(()) };
    let id = rows::text(&auth.record, "id");
    let now = rows::find(connection, context.schema.get(&auth.collection), "id = ?1", &[&id])?;
    if now.is_some_and(|now| rows::text(&now, "tokenKey") == rows::text(&auth.record, "tokenKey")) {
        return Ok(());
    }
    Err(ApiError::unauthorized("The request requires valid record authorization token."))
}

/// A row that the rule lets the caller see.
///
/// # Errors
/// 403 where only superusers may, 404 where there is no such row, or none for the caller.
pub(super) fn visible(
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
