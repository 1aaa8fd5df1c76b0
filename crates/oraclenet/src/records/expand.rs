//! `expand`: related records inside a record, forward by a relation field, backward by `comments_via_post`.
//!
//! Each path is walked on its own, for all records of an answer together: one query a step. A path that meets a name
//! that is not there expands nothing at all; one that finds no records leaves an empty `expand`.

use super::{Context, public, rule};
use crate::db::rows::{self, Record};
use crate::http::error::ApiError;
use crate::schema::{Collection, FieldKind};
use rusqlite::Connection;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Relations that one path follows; what is behind them is left out.
const DEPTH: usize = 6;
/// Paths of one request.
const PATHS: usize = 64;
/// Records that a backward relation shows for one record.
const BACKWARD: usize = 1000;

/// A step of a path, as the schema knows it.
struct Step<'a> {
    target: &'a Collection,
    /// The field that holds the relation: of this record, or of the target when `backward`.
    field: &'static str,
    backward: bool,
    /// Several records, as a list.
    many: bool,
}

/// What is expanded of each record: `None` where no path applied.
pub(super) fn expand(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    records: &[Record],
    paths: &str,
) -> Result<Vec<Option<Record>>, ApiError> {
    let mut expanded: Vec<Option<Record>> = vec![None; records.len()];
    let paths: Vec<String> = paths.split(',').take(PATHS).map(|path| path.replace(' ', "")).collect();
    let paths: Vec<&str> = paths.iter().map(|path| path.trim_matches('.')).collect();
    for path in &paths {
        // A longer path says it all, even if it leads nowhere.
        let goes_on = |other: &&str| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        if path.is_empty() || paths.iter().any(goes_on) {
            continue;
        }
        let names: Vec<&str> = path.split('.').collect();
        if let Some(found) = walk(connection, context, collection, records, &names, 1)? {
            for (into, found) in expanded.iter_mut().zip(found) {
                merge(into.get_or_insert_with(Map::new), found);
            }
        }
    }
    Ok(expanded)
}

/// Follows `names` from each of `records`; `None` when a name is not there.
fn walk(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    records: &[Record],
    names: &[&str],
    level: usize,
) -> Result<Option<Vec<Record>>, ApiError> {
    let Some((name, rest)) = names.split_first() else { return Ok(Some(vec![Map::new(); records.len()])) };
    let Some(step) = step(context, collection, name) else { return Ok(None) };
    if step.target.rules.view.is_none() && !context.is_superuser() {
        return Ok(None);
    }
    let related = related(connection, context, &step, records)?;
    let deeper = if rest.is_empty() || related.is_empty() || level == DEPTH {
        None
    } else {
        match walk(connection, context, step.target, &related, rest, level + 1)? {
            Some(deeper) => Some(deeper),
            None => return Ok(None),
        }
    };
    let shown = related.iter().enumerate().map(|(at, record)| {
        let mut shown = public(context, step.target, record);
        if let Some(deeper) = &deeper {
            shown.insert("expand".to_owned(), deeper[at].clone().into());
        }
        shown
    });
    Ok(Some(distribute(&step, name, records, &related, shown.collect())))
}

/// Gives each record those that are related to it.
fn distribute(
    step: &Step<'_>,
    name: &str,
    records: &[Record],
    related: &[Record],
    shown: Vec<Record>,
) -> Vec<Record> {
    let key = if step.backward { step.field } else { "id" };
    let mut by_key: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, record) in related.iter().enumerate() {
        by_key.entry(rows::text(record, key)).or_default().push(at);
    }
    let own = if step.backward { "id" } else { step.field };
    let give = |record: &Record| {
        let mut out = Map::new();
        let Some(found) = by_key.get(rows::text(record, own)) else { return out };
        let values = || found.iter().take(BACKWARD).map(|at| Value::Object(shown[*at].clone()));
        let value = if step.many { values().collect() } else { values().next().unwrap_or(Value::Null) };
        out.insert(name.to_owned(), value);
        out
    };
    records.iter().map(give).collect()
}

/// What a name means for records of `collection`.
fn step<'a>(context: &'a Context, collection: &Collection, name: &str) -> Option<Step<'a>> {
    if let Some(field) = collection.field(name).filter(|field| !field.hidden || context.is_superuser()) {
        let FieldKind::Relation { collection: target, .. } = &field.kind else { return None };
        let target = context.schema.get(target);
        return Some(Step { target, field: field.name, backward: false, many: field.is_multiple() });
    }
    let (target, field) = name.split_once("_via_")?;
    let target = context.schema.find(target)?;
    let field = target.field(field)?;
    let points_here =
        matches!(&field.kind, FieldKind::Relation { collection: back, .. } if *back == collection.name);
    let one = target.indexes.iter().any(|index| index.unique && index.columns == [field.name]);
    points_here.then_some(Step { target, field: field.name, backward: true, many: !one })
}

/// The records that a step leads to, each once, those only that the caller may see.
fn related(
    connection: &Connection,
    context: &Context,
    step: &Step<'_>,
    records: &[Record],
) -> Result<Vec<Record>, ApiError> {
    let (own, key) = if step.backward { ("id", step.field) } else { (step.field, "id") };
    let ids: Vec<&str> =
        records.iter().map(|record| rows::text(record, own)).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let table = step.target.name;
    let text = format!(
        "SELECT {} FROM \"{table}\" WHERE \"{key}\" IN (SELECT value FROM json_each(?1)) ORDER BY rowid",
        rows::columns(step.target)
    );
    let mut statement = connection.prepare_cached(&text)?;
    let found = statement.query_map([Value::from(ids).to_string()], |row| rows::record(step.target, row))?;
    let mut seen = Vec::new();
    for record in found {
        let record = record?;
        if rule::passes(connection, context, step.target, step.target.rules.view, &record)? {
            seen.push(record);
        }
    }
    Ok(seen)
}

/// Adds what another path found to what is there.
fn merge(into: &mut Record, from: Record) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (Some(Value::Array(into)), Value::Array(from)) => {
                for (into, from) in into.iter_mut().zip(from) {
                    if let (Value::Object(into), Value::Object(from)) = (into, from) {
                        merge(into, from);
                    }
                }
            }
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}
