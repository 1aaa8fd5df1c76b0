//! Lists and single records.

use super::expand::expand;
use super::rule::visible;
use super::{Context, public};
use crate::db::rows::{self, Record};
use crate::filter::{Access, Compiler, check_client};
use crate::http::error::ApiError;
use crate::schema::Collection;
use rusqlite::{Connection, params_from_iter};
use serde_json::{Value, json};

/// Records on a page, unless the caller says.
const PER_PAGE: i64 = 30;
/// Records on a page at most.
const MAX_PER_PAGE: i64 = 1000;

/// What a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// From 1.
    pub page: i64,
    /// At most 1000.
    pub per_page: i64,
    /// An expression, or nothing.
    pub filter: String,
    /// Fields, or nothing.
    pub sort: String,
    /// Relations to show.
    pub expand: String,
    /// Leave out the counting.
    pub skip_total: bool,
}

impl ListQuery {
    /// Reads the query's parameters.
    ///
    /// # Errors
    /// 400: a number that is none.
    pub fn parse(query: &Record) -> Result<Self, ApiError> {
        let text = |name: &str| rows::text(query, name).to_owned();
        let number = |name: &str| match rows::text(query, name) {
            "" => Ok(0),
            text => text.parse::<i64>().map_err(|_| ApiError::unreadable()),
        };
        let skip_total = match rows::text(query, "skipTotal") {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            _ => return Err(ApiError::unreadable()),
        };
        let per_page = match number("perPage")? {
            given if given <= 0 => PER_PAGE,
            given => given.min(MAX_PER_PAGE),
        };
        let page = number("page")?.max(1);
        Ok(Self {
            page,
            per_page,
            filter: text("filter"),
            sort: text("sort"),
            expand: text("expand"),
            skip_total,
        })
    }
}

/// A page of records, as PocketBase shows it.
///
/// # Errors
/// 400 and 403 as PocketBase gives them; SQLite's.
pub fn list(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    asked: &ListQuery,
) -> Result<Value, ApiError> {
    let rule = match collection.rules.list {
        None if !context.is_superuser() => return Err(ApiError::superusers_only()),
        rule => rule.unwrap_or(""),
    };
    let access = context.access();
    if access == Access::Client {
        check_client(&asked.filter, &asked.sort)?;
    }
    let request = context.request_for(collection);
    let mut compiler = Compiler::new(&context.schema, collection, &request, context.now);
    if !context.is_superuser() {
        compiler.condition(rule, Access::Rule)?;
    }
    compiler.condition(&asked.filter, access)?;
    compiler.sort(&asked.sort, access)?;
    let query = compiler.finish();
    let table = collection.name;
    let source = format!(
        "FROM \"{table}\" {}{}",
        query.joins,
        if query.conditions.is_empty() { String::new() } else { format!(" WHERE {}", query.conditions) }
    );
    let (total, pages) = if asked.skip_total {
        (-1, -1)
    } else {
        let distinct = if query.distinct { "DISTINCT " } else { "" };
        let text = format!("SELECT count({distinct}\"{table}\".\"id\") {source}");
        let total: i64 =
            connection.prepare_cached(&text)?.query_row(params_from_iter(&query.params), |row| row.get(0))?;
        (total, (total + asked.per_page - 1) / asked.per_page)
    };
    let order = match query.order.as_str() {
        "" => format!("\"{table}\".rowid"),
        order => format!("{order}, \"{table}\".rowid"),
    };
    let distinct = if query.distinct { "DISTINCT " } else { "" };
    let offset = (asked.page - 1).saturating_mul(asked.per_page);
    let text = format!(
        "SELECT {distinct}{} {source} ORDER BY {order} LIMIT {} OFFSET {offset}",
        rows::columns(collection),
        asked.per_page
    );
    let mut statement = connection.prepare(&text)?;
    let found = statement.query_map(params_from_iter(&query.params), |row| rows::record(collection, row))?;
    let found = found.collect::<Result<Vec<Record>, _>>()?;
    let items = show(connection, context, collection, found, &asked.expand)?;
    Ok(json!({
        "items": items, "page": asked.page, "perPage": asked.per_page, "totalItems": total, "totalPages": pages,
    }))
}

/// One record.
///
/// # Errors
/// 403 and 404 as PocketBase gives them; SQLite's.
pub fn view(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
    expand: &str,
) -> Result<Value, ApiError> {
    let record = visible(connection, context, collection, collection.rules.view, id)?;
    show_one(connection, context, collection, record, expand)
}

/// One record as the caller sees it, with its relations.
///
/// # Errors
/// SQLite's.
pub fn show_one(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    record: Record,
    expand: &str,
) -> Result<Value, ApiError> {
    let mut shown = show(connection, context, collection, vec![record], expand)?;
    Ok(shown.pop().unwrap_or(Value::Null))
}

fn show(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    records: Vec<Record>,
    paths: &str,
) -> Result<Vec<Value>, ApiError> {
    let expanded = expand(connection, context, collection, &records, paths)?;
    let shown = records.iter().zip(expanded).map(|(record, relations)| {
        let mut shown = public(context, collection, record);
        if let Some(relations) = relations {
            shown.insert("expand".to_owned(), relations.into());
        }
        Value::Object(shown)
    });
    Ok(shown.collect())
}
