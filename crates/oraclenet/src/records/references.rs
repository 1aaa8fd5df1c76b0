//! What points at a record that is about to be removed.

use super::Context;
use crate::http::error::ApiError;
use crate::schema::{Collection, Field, FieldKind};
use rusqlite::{Connection, OptionalExtension as _};

/// Refuses if a required relation points at the record; empties the optional ones.
///
/// Two things go with their owner instead: heartbeats, which are presence and no content, and the votes on what is
/// removed, which mean nothing without it.
///
/// # Errors
/// 400 in PocketBase's words; SQLite's.
pub(super) fn release(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
) -> Result<(), ApiError> {
    match collection.name {
        "oracles" => {
            connection.execute("DELETE FROM main.heartbeats WHERE oracle = ?1", [id])?;
        }
        "posts" => {
            connection.execute("DELETE FROM main.votes WHERE target_post = ?1", [id])?;
        }
        "comments" => {
            connection.execute("DELETE FROM main.votes WHERE target_comment = ?1", [id])?;
        }
        _ => {}
    }
    check(connection, context, collection, id)?;
    for (other, field) in pointing(context, collection).filter(|(_, field)| !field.required) {
        let (table, column) = (other.name, field.name);
        let text = format!("UPDATE main.\"{table}\" SET \"{column}\" = '' WHERE \"{column}\" = ?1");
        connection.prepare_cached(&text)?.execute([id])?;
    }
    Ok(())
}

/// Refuses if a required relation points at the record, of a row that would not go with it.
///
/// # Errors
/// 400 in PocketBase's words; SQLite's.
pub(super) fn check(
    connection: &Connection,
    context: &Context,
    collection: &Collection,
    id: &str,
) -> Result<(), ApiError> {
    for (other, field) in pointing(context, collection).filter(|(_, field)| field.required) {
        let (table, column) = (other.name, field.name);
        if collection.name == "oracles" && table == "heartbeats" {
            continue;
        }
        let text = format!("SELECT 1 FROM main.\"{table}\" WHERE \"{column}\" = ?1 LIMIT 1");
        if connection.prepare_cached(&text)?.query_row([id], |_| Ok(())).optional()?.is_some() {
            return Err(ApiError::bad_request(
                "Failed to delete record. Make sure that the record is not part of a required relation reference.",
            ));
        }
    }
    Ok(())
}

/// Every relation field that leads to a collection.
fn pointing<'a>(
    context: &'a Context,
    target: &'a Collection,
) -> impl Iterator<Item = (&'a Collection, &'a Field)> {
    let leads_here = |field: &&Field| matches!(&field.kind, FieldKind::Relation { collection, .. } if *collection == target.name);
    let all = context.schema.all().iter();
    all.flat_map(move |other| other.fields.iter().filter(leads_here).map(move |field| (other, field)))
}
