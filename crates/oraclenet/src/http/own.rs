//! OracleNet's own routes: info, me, presence, feed, votes, wallets, replication, health.

use super::doubts::{Asked, Doubt};
use super::error::ApiError;
use super::request::Incoming;
use super::state::AppState;
use super::{accounts, answer};
use crate::auth::wallet::{Address, Now, Refusal};
use crate::db::rows::{self, Record};
use crate::db::{Arrival, Change, Db, Written};
use crate::net::feed::{Sort, feed, feed_json, parse_limit};
use crate::net::presence::{presence, presence_json};
use crate::random;
use crate::records::{self, Context, Target, public};
use axum::body::Body;
use axum::http::Response;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

type Answer = Result<Response<Body>, ApiError>;

/// How long the database may take to answer that it is there.
const HEALTH: Duration = Duration::from_secs(1);

/// `GET /api/health`: whether reads are answered and writes could be kept.
///
/// # Errors
/// 400: `fields` cannot be read.
pub async fn health(state: &Arc<AppState>, incoming: &Incoming) -> Answer {
    if let Some(message) = illness(state).await {
        return Ok(answer::json(503, &json!({ "message": message, "code": 503, "data": {} })));
    }
    let data = match accounts::superuser(incoming) {
        Ok(()) => {
            json!({ "canBackup": false, "possibleProxyHeader": "", "realIP": incoming.address.to_string() })
        }
        Err(_) => json!({}),
    };
    answer::picked(incoming, json!({ "message": "API is healthy.", "code": 200, "data": data }), false)
}

async fn illness(state: &Arc<AppState>) -> Option<&'static str> {
    if !state.replication.is_alive() {
        return Some("The replication has ended.");
    }
    // Not after a look: a store that is away makes nobody ill.
    let read = state.db.read_as_is(|connection| connection.query_row("SELECT 1", [], |_| Ok(())));
    match tokio::time::timeout(HEALTH, read).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::error!(%error, "the database does not answer");
            Some("The database cannot be read.")
        }
        Err(_) => Some("The database is too busy to answer."),
    }
}

/// `GET /api/info`
///
/// # Errors
/// 400: `fields` cannot be read.
pub fn info(incoming: &Incoming) -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    let info = json!({ "service": "oraclenet", "status": "ok", "version": version, "build": version });
    answer::picked(incoming, info, false)
}

/// `GET /api/oracles/me`: the caller's record as others see it.
///
/// # Errors
/// 401 for guests.
pub fn me(state: &AppState, incoming: &Incoming) -> Answer {
    let auth = incoming.auth.as_ref().ok_or_else(|| ApiError::unauthorized("Not authenticated"))?;
    let mut context = incoming.context_with(state, Record::new());
    context.request.auth = None;
    let record = public(&context, state.schema.get(&auth.collection), &auth.record);
    answer::picked(incoming, Value::Object(record), false)
}

/// `GET /api/oracles/presence`
///
/// # Errors
/// The database's.
pub async fn here(state: &Arc<AppState>, incoming: Incoming) -> Answer {
    let now = state.clock.wall();
    let found = state.db.read(move |connection| presence(connection, now).map_err(ApiError::from)).await?;
    answer::picked(&incoming, presence_json(&found), false)
}

/// `GET /api/feed` and `GET /api/posts`
///
/// # Errors
/// The database's.
pub async fn feed_of(state: &Arc<AppState>, incoming: Incoming) -> Answer {
    let sort = incoming.param("sort").to_owned();
    let (order, limit, now) = (Sort::parse(&sort), parse_limit(incoming.param("limit")), state.clock.wall());
    let posts = state
        .db
        .read(move |connection| feed(connection, order, limit, 0, now).map_err(ApiError::from))
        .await?;
    answer::picked(&incoming, feed_json(&sort, &posts), false)
}

/// `POST /api/posts/{id}/upvote` and its relatives. A vote switches, so the repetition of one whose outcome was
/// unknown must not switch again: it makes the vote what the first one came to, which may have been undone meanwhile.
///
/// # Errors
/// As [`records::vote`]; 503.
pub async fn vote(state: &Arc<AppState>, incoming: Incoming, target: Target, id: &str, value: i64) -> Answer {
    let context = incoming.context_with(state, Record::new());
    let refused = |error: ApiError| match error.status {
        401 => error, // nobody asks, wherever that is said
        _ => answer::not_written(Db::refuse(incoming.arrival, error)),
    };
    let voter = records::voter(&context).map_err(refused)?;
    let doubt = Doubt::Vote(voter.to_owned(), target, id.to_owned());
    records::check_fields(incoming.param("fields"))?;
    let what = value.to_string();
    let before = state.doubts.recall(&doubt).filter(|before| before.what == what);
    let asked = before.unwrap_or_else(|| Asked { what, ..Asked::default() });
    let (came_to, known) = (Arc::clone(&asked.came_to), asked.came_to.get().copied());
    let (checking, id, seen) = (context.clone(), id.to_owned(), state.db.seen());
    let wanted = id.clone();
    // Refused, or found to be done already, before anything is owned.
    let check = move |connection: &Connection| match known {
        Some(known) => records::voted(connection, &checking, target, &wanted, known),
        None => records::check_vote(connection, &checking, target, &wanted).map(|_| None),
    };
    let written = match state.db.check(incoming.arrival, check).await.map_err(answer::not_written)? {
        Some(value) => state.db.settled(seen).await.map(|txid| Written { value, txid }),
        None => {
            let vote = move |connection: &Connection, changes: &mut Vec<Change>| {
                let value = match came_to.get() {
                    Some(value) => *value,
                    None => records::switched(connection, &context, target, &id, value)?,
                };
                let _ = came_to.set(value); // votes are made one after the other
                records::vote(connection, &context, target, &id, value, changes)
            };
            state.db.write(vote).await
        }
    };
    state.doubts.settle(doubt, asked, &written);
    let written = answer::written(written)?;
    super::records::committed(&incoming, written.value, written.txid)
}

/// `GET /api/replication`: to everybody role, state and lag; to superusers the rest.
///
/// # Errors
/// The store's, as 503.
pub async fn replication(state: &Arc<AppState>, incoming: Incoming) -> Answer {
    let full = accounts::superuser(&incoming).is_ok();
    let shared = Arc::clone(state);
    let view = tokio::task::spawn_blocking(move || shared.replication.json(full)).await;
    answer::picked(&incoming, view.map_err(|error| ApiError::internal(&error))?, false)
}

fn refuse(status: u16, why: &str) -> Response<Body> {
    answer::json(status, &json!({ "success": false, "error": why }))
}

/// `POST /nonce`: what a wallet has to sign.
///
/// # Errors
/// 400 for a body that cannot be read.
pub async fn nonce(state: &Arc<AppState>, mut incoming: Incoming) -> Answer {
    let context = incoming.context(state).await?;
    let address = records::body_text(&context.request.body, "address");
    let Some(address) = Address::parse(&address) else { return Ok(refuse(400, "address required")) };
    let now = Now { boot: state.clock.boot(), wall_ms: state.clock.wall().0 };
    let mut nonces = state.nonces.lock().unwrap_or_else(PoisonError::into_inner);
    match nonces.issue(address, &state.config.public_url, now, &*state.source) {
        Ok(challenge) => Ok(answer::json(
            200,
            &json!({ "success": true, "nonce": challenge.nonce, "message": challenge.message }),
        )),
        Err(full) => Ok(refuse(429, &full.to_string())),
    }
}

/// `POST /verify`: the wallet's answer; signs its oracle in, and makes one if there is none.
///
/// # Errors
/// 400 for a body that cannot be read; 503.
pub async fn verify(state: &Arc<AppState>, mut incoming: Incoming) -> Answer {
    let context = incoming.context(state).await?;
    let text = |name: &str| records::body_text(&context.request.body, name);
    let (address, signature) = (Address::parse(&text("address")), text("signature"));
    let (Some(address), false) = (address, signature.is_empty()) else {
        return Ok(refuse(400, "address and signature required"));
    };
    let now = Now { boot: state.clock.boot(), wall_ms: state.clock.wall().0 };
    let redeemed = {
        let mut nonces = state.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.redeem(&address, &signature, now)
    };
    match redeemed {
        Ok(()) => {}
        Err(error @ Refusal::NoNonce) => return Ok(refuse(400, &error.to_string())),
        Err(error @ Refusal::Signature(_)) => return Ok(refuse(401, &error.to_string())),
    }
    let name = text("name").chars().take(100).collect::<String>();
    let wanted = address.clone();
    let (schema, seen) = (Arc::clone(&state.schema), state.db.seen());
    let found =
        state.db.read(move |connection| by_wallet(connection, schema.get("oracles"), &wanted)).await?;
    let (created, record, txid) = match found {
        // The account may be that of an earlier request whose outcome was unknown.
        Some(record) => (false, record, state.db.settled(seen).await.map_err(answer::not_written)?),
        None => make_oracle(state, context, incoming.arrival, address, name).await?,
    };
    let token = accounts::mint(state, state.schema.get("oracles"), &record, true, 0)?;
    let field = |name: &str| record.get(name).cloned().unwrap_or(Value::Null);
    let oracle = json!({
        "id": field("id"), "name": field("name"), "wallet_address": field("wallet_address"),
        "approved": field("approved"), "karma": field("karma"),
    });
    let told = json!({ "success": true, "created": created, "oracle": oracle, "token": token });
    Ok(answer::replicated(answer::json(200, &told), txid))
}

fn by_wallet(
    connection: &Connection,
    oracles: &crate::schema::Collection,
    address: &Address,
) -> Result<Option<Record>, ApiError> {
    // Of several, which the original allowed, the oldest: it always signed that one in.
    Ok(rows::find(connection, oracles, "wallet_address = ?1 ORDER BY rowid", &[&address.as_str()])?)
}

async fn make_oracle(
    state: &Arc<AppState>,
    context: Context,
    arrival: Option<Arrival>,
    address: Address,
    name: String,
) -> Result<(bool, Record, Option<litekeep_formats::Txid>), ApiError> {
    let short = address.as_str().get(..6).unwrap_or_default();
    let mut account = records::WalletAccount {
        name: if name.trim().is_empty() { format!("Oracle-{short}") } else { name },
        address: address.as_str().to_owned(),
        hash: String::new(),
        approve: state.config.approve_wallets,
    };
    // Refused before anything is hashed or owned.
    let (checking, wanted) = (context.clone(), account.clone());
    let check = move |connection: &Connection| records::check_for_wallet(connection, &checking, &wanted);
    state.db.check(arrival, check).await.map_err(answer::not_written)?;
    // Nobody knows this password: the wallet is the only way in.
    let hash = state.passwords.hash(random::password(&*state.source)).await;
    account.hash = hash.map_err(|_| ApiError::too_many(Some(1)))?;
    let written = state
        .db
        .write(move |connection, changes| {
            let oracles = context.schema.get("oracles");
            if let Some(record) = by_wallet(connection, oracles, &address)? {
                return Ok((false, record));
            }
            records::create_for_wallet(connection, &context, &account, changes).map(|record| (true, record))
        })
        .await;
    let written = answer::written(written)?;
    Ok((written.value.0, written.value.1, written.txid))
}
