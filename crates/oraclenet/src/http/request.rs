//! From an HTTP request to what the services take: who asks, the query, the body.

use super::client_address::{ClientKey, Forwarded, client_address};
use super::error::ApiError;
use super::rate_limit::{Asked, Caller, Verdict};
use super::state::AppState;
use super::{answer, body, query};
use crate::auth::token;
use crate::db::rows::{self, Record};
use crate::db::{Arrival, WriteError};
use crate::filter::{AuthRecord, RequestInfo};
use crate::records::Context;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request};
use rusqlite::Connection;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// A request whose head has been looked at.
pub struct Incoming {
    /// Everything but the body.
    pub parts: Parts,
    /// The body, unread. (A body cannot be shared between threads, and the rest of a request is.)
    body: Mutex<Body>,
    /// The query's parameters, the last of each name.
    pub query: Record,
    /// Who asks.
    pub auth: Option<AuthRecord>,
    /// The token that says so.
    pub token: Option<String>,
    /// Where it comes from.
    pub address: IpAddr,
    /// When it came, if it may write.
    pub arrival: Option<Arrival>,
}

impl Incoming {
    /// Looks at the head: the address, the token's owner.
    ///
    /// # Errors
    /// The database's.
    pub async fn of(state: &AppState, request: Request<Body>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let address = address(state, &parts);
        let query = query::parse(parts.uri.query().unwrap_or_default());
        let token = token_of(&parts.headers).map(str::to_owned);
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let arrival = if reads { None } else { Some(state.db.arrive().await) };
        let auth = match &token {
            Some(token) => authenticate(state, token, arrival).await?,
            None => None,
        };
        let token = token.filter(|_| auth.is_some());
        Ok(Self { parts, body: Mutex::new(body), query, auth, token, address, arrival })
    }

    /// Counts the request to this decoded path, and refuses it if there were too many.
    ///
    /// # Errors
    /// 429.
    pub fn limit(&self, state: &AppState, path: &str, action: Option<(&str, &str)>) -> Result<(), ApiError> {
        let key = ClientKey::from(self.address);
        let caller = match &self.auth {
            Some(auth) if auth.collection == "_superusers" => Caller::Superuser,
            Some(auth) => Caller::Account {
                collection: auth.collection.clone(),
                id: rows::text(&auth.record, "id").to_owned(),
            },
            None => Caller::Guest(key),
        };
        let asked = Asked { action, path };
        let mut limits = state.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match limits.check(&caller, key, asked, state.clock.boot()) {
            Verdict::Allowed => Ok(()),
            Verdict::Limited { retry_after } => Err(ApiError::too_many(Some(retry_after.as_secs().max(1)))),
        }
    }

    /// A parameter of the query.
    pub fn param(&self, name: &str) -> &str {
        rows::text(&self.query, name)
    }

    /// Reads the body and makes the context of the operation.
    ///
    /// # Errors
    /// 400 and 413 for a body that cannot be read.
    pub async fn context(&mut self, state: &AppState) -> Result<Context, ApiError> {
        let taken = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        let body = body::read(&self.parts.headers, taken).await?;
        Ok(self.context_with(state, body))
    }

    /// The context of an operation with this body.
    pub fn context_with(&self, state: &AppState, body: Record) -> Context {
        let request = RequestInfo {
            context: "default",
            method: self.parts.method.to_string(),
            headers: headers(&self.parts.headers),
            query: self.query.clone(),
            body,
            auth: self.auth.clone(),
        };
        let now = crate::time::now(&*state.clock);
        Context { schema: Arc::clone(&state.schema), request, now, source: Arc::clone(&state.source) }
    }
}

/// The token of an `Authorization` header, with or without `Bearer `.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let token = text.strip_prefix("Bearer ").unwrap_or(text.trim_start());
    (!token.is_empty() && !token.starts_with(' ')).then_some(token)
}

/// Whose token it is. A token that is not good is no token: the request goes on as a guest's. For a request that may
/// write that is not said by a copy that may be behind: the account may have been made elsewhere a moment ago.
///
/// # Errors
/// The database's; 503 where it cannot be known in time whether the token is good.
pub async fn authenticate(
    state: &AppState,
    token: &str,
    arrival: Option<Arrival>,
) -> Result<Option<AuthRecord>, ApiError> {
    let Some(unverified) = token::peek(token) else { return Ok(None) };
    let Some(collection) =
        state.schema.find(&unverified.collection_id).filter(|it| it.id == unverified.collection_id)
    else {
        return Ok(None);
    };
    let Some(options) = &collection.auth else { return Ok(None) };
    let (schema, name) = (Arc::clone(&state.schema), collection.name);
    let (token, secret) = (token.to_owned(), options.token_secret.clone());
    let now = crate::time::now(&*state.clock).timestamp();
    let opens = move |connection: &Connection| {
        let record = rows::find(connection, schema.get(name), "id = ?1", &[&unverified.id])?;
        let opened = record.filter(|record| {
            let key = token::Key::new(rows::text(record, "tokenKey"), &secret);
            key.and_then(|key| token::verify(&token, &key, now)).is_some()
        });
        opened.ok_or_else(|| ApiError::unauthorized("The token is not good"))
    };
    match state.db.check(arrival, opens).await {
        Ok(record) => Ok(Some(AuthRecord { collection: name.to_owned(), record })),
        Err(WriteError::Refused(error)) if error.status == 401 => Ok(None),
        Err(error) => Err(answer::not_written(error)),
    }
}

/// The client's address, through proxies that are trusted.
fn address(state: &AppState, parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
    let all =
        |name: &str| parts.headers.get_all(name).iter().map(|value| value.as_bytes()).collect::<Vec<_>>();
    let (connecting, forwarded_for) = (all("do-connecting-ip"), all("x-forwarded-for"));
    let connecting = if state.config.connecting_ip { &connecting[..] } else { &[] };
    client_address(peer, &state.config.trusted, &Forwarded { connecting, forwarded_for: &forwarded_for })
}

/// Headers as rules see them: small letters, `_` for `-`.
fn headers(headers: &HeaderMap) -> Record {
    let readable = headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().replace('-', "_"), Value::from(value)))
    });
    readable.collect()
}
