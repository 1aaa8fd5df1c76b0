//! `expand`: related records inside a record, forward by a relation field, backward by `comments_via_post`.
//!
//! Each path is walked on its own, for all records of an answer together: one query a step. A path that meets a name
//! that is not there expands nothing at all; one that finds no records leaves an empty `expand`. An answer never grows
//! past `limits::EXPANDED` records: there and back along a relation would multiply them at each step.

use super::{Context, public, rule};
use crate::db::rows::{self, Record};
use crate::http::error::ApiError;
use crate::limits;
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

/// One answer's expansion.
struct Expansion<'a> {
    connection: &'a Connection,
    context: &'a Context,
    /// Records that may still be shown.
    left: usize,
}

/// What is expanded of each record: `None` where no path applied.
///
/// # Errors
/// 400: too many records; SQLite's.
pub(super) fn expand(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    records: &[Record],
    paths: &str,
) -> Result<Vec<Option<Record>>, ApiError> {
    let mut expansion = Expansion { connection, context, left: limits::EXPANDED };
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
        if let Some(found) = expansion.walk(collection, records, &names, 1)? {
            expansion.left -= found.iter().map(weight).sum::<usize>();
            for (into, found) in expanded.iter_mut().zip(found) {
                merge(into.get_or_insert_with(Map::new), found);
            }
        }
    }
    Ok(expanded)
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

impl Expansion<'_> {
    /// Follows `names` from each of `records`; `None` when a name is not there.
    fn walk(
        &self,
        collection: &Collection,
        records: &[Record],
        names: &[&str],
        level: usize,
    ) -> Result<Option<Vec<Record>>, ApiError> {
        let Some((name, rest)) = names.split_first() else {
            return Ok(Some(vec![Map::new(); records.len()]));
        };
        let Some(step) = step(self.context, collection, name) else { return Ok(None) };
        if step.target.rules.view.is_none() && !self.context.is_superuser() {
            return Ok(None);
        }
        let related = self.related(&step, records)?;
        let deeper = if rest.is_empty() || related.is_empty() || level == DEPTH {
            None
        } else {
            match self.walk(step.target, &related, rest, level + 1)? {
                Some(deeper) => Some(deeper),
                None => return Ok(None),
            }
        };
        let shown = related.iter().enumerate().map(|(at, record)| {
            let mut shown = public(self.context, step.target, record);
            if let Some(deeper) = &deeper {
                shown.insert("expand".to_owned(), deeper[at].clone().into());
            }
            shown
        });
        Ok(Some(self.distribute(&step, name, records, &related, shown.collect())?))
    }

    /// Gives each record those that are related to it.
    fn distribute(
        &self,
        step: &Step<'_>,
        name: &str,
        records: &[Record],
        related: &[Record],
        shown: Vec<Record>,
    ) -> Result<Vec<Record>, ApiError> {
        let key = if step.backward { step.field } else { "id" };
        let mut by_key: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, record) in related.iter().enumerate() {
            by_key.entry(rows::text(record, key)).or_default().push(at);
        }
        let own = if step.backward { "id" } else { step.field };
        let weights: Vec<usize> = shown.iter().map(|record| 1 + weight_within(record)).collect();
        let shown_of = |record: &Record| {
            let found = by_key.get(rows::text(record, own))?;
            Some(found.iter().take(if step.many { BACKWARD } else { 1 }))
        };
        let total: usize = records.iter().filter_map(shown_of).flatten().map(|at| weights[*at]).sum();
        if total > self.left {
            return Err(too_many());
        }
        let give = |record: &Record| {
            let mut out = Map::new();
            let Some(found) = shown_of(record) else { return out };
            let mut values = found.map(|at| Value::Object(shown[*at].clone()));
            let value = if step.many { values.collect() } else { values.next().unwrap_or(Value::Null) };
            out.insert(name.to_owned(), value);
            out
        };
        Ok(records.iter().map(give).collect())
    }

    /// The records that a step leads to, each once, those only that the caller may see.
    fn related(&self, step: &Step<'_>, records: &[Record]) -> Result<Vec<Record>, ApiError> {
        let (own, key) = if step.backward { ("id", step.field) } else { (step.field, "id") };
        let ids: Vec<&str> =
            records.iter().map(|record| rows::text(record, own)).filter(|id| !id.is_empty()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let table = step.target.name;
        let text = format!(
            "SELECT {} FROM (SELECT *, rowid AS __row, row_number() OVER (PARTITION BY \"{key}\" ORDER BY rowid) AS __nth
               FROM \"{table}\" WHERE \"{key}\" IN (SELECT value FROM json_each(?1))) AS \"{table}\"
             WHERE __nth <= {BACKWARD} ORDER BY __row LIMIT {}",
            rows::columns(step.target),
            self.left + 1
        );
        let mut statement = self.connection.prepare(&text)?;
        let found =
            statement.query_map([Value::from(ids).to_string()], |row| rows::record(step.target, row))?;
        let found = found.collect::<Result<Vec<Record>, _>>()?;
        if found.len() > self.left {
            return Err(too_many());
        }
        let mut seen = Vec::new();
        for record in found {
            if rule::passes(self.connection, self.context, step.target, step.target.rules.view, &record)? {
                seen.push(record);
            }
        }
        Ok(seen)
    }
}

/// The records in what is expanded, and in what is expanded of them.
fn weight(relations: &Record) -> usize {
    let records = relations.values().flat_map(|value| match value {
        Value::Array(records) => records.iter(),
        record => std::slice::from_ref(record).iter(),
    });
    records.filter_map(Value::as_object).map(|record| 1 + weight_within(record)).sum()
}

fn weight_within(record: &Record) -> usize {
    record.get("expand").and_then(Value::as_object).map_or(0, weight)
}

fn too_many() -> ApiError {
    ApiError::bad_request("Too many related records to expand: ask for fewer records or relations at a time")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::RequestInfo;
    use crate::net::sample;
    use crate::random::Source;
    use crate::schema::{Schema, collections};
    use std::sync::Arc;

    struct Zeros;
    impl Source for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    #[test]
    fn an_expansion_that_multiplies_is_refused_before_it_is_made() {
        let connection = sample::database();
        sample::oracle(&connection, "ada", true);
        for number in 0..100 {
            sample::post(&connection, &format!("post{number}"), "ada", number, (0.0, 0.0));
        }
        let context = Context {
            schema: Arc::new(Schema::new(collections())),
            request: RequestInfo::default(),
            now: crate::time::at(sample::NOON),
            source: Arc::new(Zeros),
        };
        let oracles = context.schema.get("oracles");
        let ada = rows::find(&connection, oracles, "id = 'ada'", &[]).expect("a query").expect("ada");
        let there_and_back = |steps: usize| ["posts_via_author", "author"].repeat(steps).join(".");
        for (paths, shown) in [
            ("posts_via_author".to_owned(), Some(100)),
            ("posts_via_author.author".to_owned(), Some(200)),
            (there_and_back(2), None),
            (there_and_back(3), None),
            ("posts_via_author.author.posts_via_author".to_owned(), None),
        ] {
            let found = expand(&connection, &context, oracles, std::slice::from_ref(&ada), &paths);
            match (found, shown) {
                (Ok(found), Some(shown)) => {
                    assert_eq!(found[0].as_ref().map(weight), Some(shown), "{paths}");
                }
                (Err(error), None) => assert_eq!(error.status, 400, "{paths}"),
                (found, _) => panic!("{paths}: {found:?}"),
            }
        }
    }
}
