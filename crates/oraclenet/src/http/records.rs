//! `/api/collections/{collection}/records`.

use super::answer;
use super::doubts::{Asked, Doubt};
use super::error::ApiError;
use super::request::Incoming;
use super::state::AppState;
use crate::auth::password::{Refused, Stored};
use crate::db::rows::{self, Record};
use crate::db::{Beat, Change, Db, Written};
use crate::random;
use crate::records::{self, Context, ListQuery, Passwords, Prepared};
use crate::schema::Collection;
use axum::body::Body;
use axum::http::Response;
use rusqlite::Connection;
use serde_json::Value;
use std::sync::Arc;

type Answer = Result<Response<Body>, ApiError>;

/// `GET ..`
///
/// # Errors
/// As [`records::list`].
pub async fn list(state: &Arc<AppState>, incoming: Incoming, collection: &str) -> Answer {
    let context = incoming.context_with(state, Record::new());
    let name = context.collection(collection)?.name;
    let asked = ListQuery::parse(&incoming.query)?;
    let page = state
        .db
        .read(move |connection| records::list(connection, &context, context.schema.get(name), &asked))
        .await?;
    answer::picked(&incoming, page, true)
}

/// `GET ../{id}`
///
/// # Errors
/// As [`records::view`].
pub async fn view(state: &Arc<AppState>, incoming: Incoming, collection: &str, id: &str) -> Answer {
    let context = incoming.context_with(state, Record::new());
    let name = context.collection(collection)?.name;
    let (id, expand) = (id.to_owned(), incoming.param("expand").to_owned());
    let record = state
        .db
        .read(move |connection| records::view(connection, &context, context.schema.get(name), &id, &expand))
        .await?;
    answer::picked(&incoming, record, false)
}

/// `POST ..`
///
/// # Errors
/// As [`records::create`]; 429 and 503.
pub async fn create(state: &Arc<AppState>, mut incoming: Incoming, collection: &str) -> Answer {
    let name = written_collection(state, collection)?;
    records::check_fields(incoming.param("fields"))?;
    let mut context = incoming.context(state).await?;
    let doubt = named_by_the_server(state, &mut context, name);
    // Refused before anything is hashed, queued or owned.
    let (checking, seen) = (context.clone(), state.db.seen());
    let check = move |connection: &Connection| {
        records::check_create(connection, &checking, checking.schema.get(name))
    };
    let prepared = state.db.check(incoming.arrival, check).await.map_err(answer::not_written)?;
    let mut passwords = Passwords::default();
    let made = match prepared {
        Prepared::New(record) if name == "heartbeats" => {
            return heartbeat(state, &incoming, &context, record).await;
        }
        Prepared::New(_) => {
            passwords.new_hash = new_hash(state, &context).await?;
            None
        }
        Prepared::Account(record) => {
            // It tells whether the password is right, as a login does.
            incoming.limit(state, "", Some((name, "auth")))?;
            if opened(state, &context, "password", &record).await?.is_none() {
                let there = records::account_is_there();
                return Err(answer::not_written(Db::refuse(incoming.arrival, there)));
            }
            Some(record)
        }
        Prepared::Existing(record) => Some(record),
    };
    let shown = context.clone();
    let written = match made {
        // It came before, perhaps with an unknown outcome: nothing is written, and it is told once it is durable.
        Some(record) => state.db.settled(seen).await.map(|txid| Written { value: record, txid }),
        None => {
            let create = move |connection: &Connection, changes: &mut Vec<Change>| {
                records::still_signed_in(connection, &context)?;
                records::create(connection, &context, context.schema.get(name), &passwords, changes)
            };
            state.db.write(create).await
        }
    };
    if let Some((doubt, id)) = doubt {
        state.doubts.settle(doubt, Asked { what: id, ..Asked::default() }, &written);
    }
    let written = answer::written(written)?;
    let value = show(state, &incoming, shown, name, written.value).await?;
    committed(&incoming, value, written.txid)
}

/// Gives a create without an id one: that which the same create had, if its outcome was unknown.
fn named_by_the_server(
    state: &AppState,
    context: &mut Context,
    collection: &'static str,
) -> Option<(Doubt, String)> {
    if !records::body_text(&context.request.body, "id").is_empty()
        || context.request.body.keys().any(|key| key.starts_with("id:"))
    {
        return None;
    }
    let doubt = Doubt::create(context, collection);
    let before = state.doubts.recall(&doubt).map(|asked| asked.what);
    let id = before.unwrap_or_else(|| random::record_id(&*context.source));
    context.request.body.insert("id".to_owned(), id.clone().into());
    Some((doubt, id))
}

/// `PATCH ../{id}`
///
/// # Errors
/// As [`records::update`]; 429 and 503.
pub async fn update(state: &Arc<AppState>, mut incoming: Incoming, collection: &str, id: &str) -> Answer {
    let name = written_collection(state, collection)?;
    records::check_fields(incoming.param("fields"))?;
    let context = incoming.context(state).await?;
    let (checking, wanted) = (context.clone(), id.to_owned());
    let check = move |connection: &Connection| {
        records::check_update(connection, &checking, checking.schema.get(name), &wanted, None)
    };
    let old = state.db.check(incoming.arrival, check).await.map_err(answer::not_written)?;
    let mut passwords = Passwords::default();
    if context.schema.get(name).is_auth() {
        if !context.is_superuser() && context.request.body.contains_key("oldPassword") {
            passwords.old_opened = opened(state, &context, "oldPassword", &old).await?;
            // Once more with that: a wrong password moves nothing either.
            let (checking, wanted, known) = (context.clone(), id.to_owned(), passwords.clone());
            let check = move |connection: &Connection| {
                let collection = checking.schema.get(name);
                records::check_update(connection, &checking, collection, &wanted, Some(&known))
            };
            state.db.check(incoming.arrival, check).await.map_err(answer::not_written)?;
        }
        passwords.new_hash = new_hash(state, &context).await?;
    }
    let (id, shown) = (id.to_owned(), context.clone());
    let written = state
        .db
        .write(move |connection, changes| {
            records::still_signed_in(connection, &context)?;
            records::update(connection, &context, context.schema.get(name), &id, &passwords, changes)
        })
        .await;
    let written = answer::written(written)?;
    let value = show(state, &incoming, shown, name, written.value).await?;
    committed(&incoming, value, written.txid)
}

/// `DELETE ../{id}`
///
/// # Errors
/// As [`records::delete`]; 503.
pub async fn delete(state: &Arc<AppState>, incoming: Incoming, collection: &str, id: &str) -> Answer {
    let context = incoming.context_with(state, Record::new());
    let name = context.collection(collection)?.name;
    let (checking, wanted, seen) = (context.clone(), id.to_owned(), state.db.seen());
    let check = move |connection: &Connection| {
        records::check_delete(connection, &checking, checking.schema.get(name), &wanted)
    };
    let checked = state.db.check(incoming.arrival, check).await.map_err(answer::not_written);
    if checked.as_ref().is_err_and(|error| error.status == 404) {
        // It may be gone by an earlier request whose outcome was unknown; "gone" is said once that is durable.
        state.db.settled(seen).await.map_err(answer::not_written)?;
    }
    checked?;
    let (id, gone) = (id.to_owned(), id.to_owned());
    let written = state
        .db
        .write(move |connection, changes| {
            records::still_signed_in(connection, &context)?;
            records::delete(connection, &context, context.schema.get(name), &id, changes)
        })
        .await;
    let written = answer::written(written)?;
    if name == "oracles" {
        state.db.beats().forget(&gone);
    }
    Ok(answer::replicated(answer::empty(), written.txid))
}

/// The name of the collection that a create or update is for.
fn written_collection(state: &AppState, name: &str) -> Result<&'static str, ApiError> {
    let found = named(state, name).map(|collection| collection.name);
    found.ok_or_else(|| ApiError::new(404, "Missing or invalid collection context."))
}

/// Presence lives in memory and rides along with the next slot.
async fn heartbeat(state: &Arc<AppState>, incoming: &Incoming, context: &Context, record: Record) -> Answer {
    let text = |name: &str| rows::text(&record, name).to_owned();
    let beat =
        Beat { id: text("id"), oracle: text("oracle"), status: text("status"), created: text("created") };
    if let Err(refused) = state.db.beats().beat(beat) {
        return Err(if refused.is_taken() {
            records::id_is_taken()
        } else {
            ApiError::unavailable("not_applied", "Too many oracles are here. Try again", 60)
        });
    }
    let changes = vec![Change { collection: "heartbeats", action: "create", record: record.clone() }];
    state.hub.publish(changes);
    let shown = show(state, incoming, context.clone(), "heartbeats", record).await?;
    answer::picked(incoming, shown, false)
}

/// What was written, with the relations that the caller wants, which are read afterwards: nobody else can write while a
/// transaction lasts. A relation that cannot be shown is left out, since the write stands.
async fn show(
    state: &AppState,
    incoming: &Incoming,
    context: Context,
    collection: &'static str,
    record: Record,
) -> Result<Value, ApiError> {
    let expand = incoming.param("expand").to_owned();
    state
        .db
        .read(move |connection| {
            let collection = context.schema.get(collection);
            records::show_one(connection, &context, collection, record.clone(), &expand)
                .or_else(|_| records::show_one(connection, &context, collection, record, ""))
        })
        .await
}

/// The hash of the body's password.
async fn new_hash(state: &AppState, context: &Context) -> Result<Option<String>, ApiError> {
    let password = records::body_text(&context.request.body, "password");
    if password.is_empty() {
        return Ok(None);
    }
    hashed(state, password).await
}

/// The hash of a new password, in its turn.
///
/// # Errors
/// 429: too many are waiting.
pub async fn hashed(state: &AppState, password: String) -> Result<Option<String>, ApiError> {
    match state.passwords.hash(password).await {
        Ok(hash) => Ok(Some(hash)),
        Err(Refused::Busy) => Err(ApiError::too_many(Some(1))),
        Err(error @ Refused::TooLong) => Err(ApiError::bad_request(&error.to_string())),
    }
}

/// The stored hash of an account, if the body's password opens it.
async fn opened(
    state: &AppState,
    context: &Context,
    name: &str,
    account: &Record,
) -> Result<Option<String>, ApiError> {
    let password = records::body_text(&context.request.body, name);
    let text = |name: &str| rows::text(account, name).to_owned();
    opened_by(state, password, Stored { hash: text("password"), wallet_address: text("wallet_address") })
        .await
}

/// The stored hash, if the password opens it, in its turn.
///
/// # Errors
/// 429: too many are waiting.
pub async fn opened_by(
    state: &AppState,
    password: String,
    stored: Stored,
) -> Result<Option<String>, ApiError> {
    let hash = stored.hash.clone();
    match state.passwords.verify(password, Some(stored)).await {
        Ok(right) => Ok(right.then_some(hash)),
        Err(_) => Err(ApiError::too_many(Some(1))),
    }
}

/// The collection of a path, for rate limits.
pub fn named<'a>(state: &'a AppState, name: &str) -> Option<&'a Collection> {
    state.schema.find(name).or_else(|| state.schema.find(&name.to_lowercase()))
}

/// A JSON answer that also tells where the write is.
pub fn committed(incoming: &Incoming, value: Value, txid: Option<litekeep_formats::Txid>) -> Answer {
    Ok(answer::replicated(answer::picked(incoming, value, false)?, txid))
}
