//! Who may hear of a change, and what they hear: rules, filters, expanded relations and chosen fields, each client's own.
//!
//! It works on a connection that reads, some time after the commit: the record is as the change has it, everything
//! around it as it is now. What cannot be answered, a filter that is none, is not an event; PocketBase does the same.

use super::topics::Topic;
use super::{frames, limits};
use crate::db::Change;
use crate::db::rows;
use crate::filter::{AuthRecord, RequestInfo};
use crate::http::error::ApiError;
use crate::random::Source;
use crate::records::{self, Context};
use crate::schema::Schema;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use litekeep_core::env::Clock;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// Whose stream it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Account {
    /// The collection's name.
    pub collection: String,
    /// The record's id.
    pub id: String,
    /// The account's half of the key of its tokens. Another one means that every token from before has ended.
    pub token_key: String,
}

impl Account {
    pub(super) fn of(auth: &AuthRecord) -> Self {
        let text = |name: &str| rows::text(&auth.record, name).to_owned();
        Self { collection: auth.collection.clone(), id: text("id"), token_key: text("tokenKey") }
    }

    /// Whether both are the same account.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.collection == other.collection && self.id == other.id
    }

    /// Whether the change ends this account, or the tokens that it was given.
    pub(super) fn ends_with(&self, change: &Change) -> bool {
        let gone = change.action == "delete" || rows::text(&change.record, "tokenKey") != self.token_key;
        self.is_in(change) && gone
    }

    /// Whether the change is about this account.
    fn is_in(&self, change: &Change) -> bool {
        self.collection == change.collection && self.id == rows::text(&change.record, "id")
    }

    /// The account's record, if it is there and its tokens still are good. One that is just being deleted hears of that.
    fn record(
        &self,
        connection: &Connection,
        schema: &Schema,
        change: &Change,
    ) -> rusqlite::Result<Option<AuthRecord>> {
        let Some(collection) = schema.find(&self.collection) else { return Ok(None) };
        let record = if change.action == "delete" && self.is_in(change) {
            Some(change.record.clone())
        } else {
            rows::find(connection, collection, "id = ?1", &[&self.id])?
        };
        let good = record.filter(|record| rows::text(record, "tokenKey") == self.token_key);
        Ok(good.map(|record| AuthRecord { collection: self.collection.clone(), record }))
    }
}

/// A subscription that a change may concern.
pub(super) struct Ask<T> {
    /// Who asks.
    pub client: T,
    /// In whose name.
    pub account: Option<Account>,
    /// For what.
    pub topic: Arc<Topic>,
}

/// What asking needs besides a connection.
#[derive(Clone)]
pub(super) struct World {
    /// The collections.
    pub schema: Arc<Schema>,
    /// For contexts; nothing is drawn from it.
    pub source: Arc<dyn Source>,
    /// When.
    pub now: DateTime<Utc>,
    /// How long it takes.
    pub clock: Arc<dyn Clock>,
}

/// What one subscription hears of a change, or that nobody knows.
pub(super) type Answer = Result<Option<Bytes>, Failed>;

/// The database did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

/// What some heard of a change, and who is still to be told.
pub(super) struct Round<T> {
    /// In the order of the questions.
    pub heard: Vec<(T, Arc<Topic>, Answer)>,
    /// For another read: this one has taken its time.
    pub rest: Vec<Ask<T>>,
}

/// What those of `asks` hear of the change whom the time of one round is enough for, at least the first.
pub(super) fn answers<T: Clone + Eq + Hash>(
    connection: &Connection,
    world: &World,
    change: &Change,
    asks: Vec<Ask<T>>,
) -> Round<T> {
    let began = world.clock.boot();
    let mut accounts = HashMap::new();
    // Many ask the same in the same name, mostly as guests: one answer serves all.
    let mut known: HashMap<(Option<Account>, Arc<str>), Answer> = HashMap::new();
    // Who is sent away is asked nothing more.
    let mut failed: HashSet<T> = HashSet::new();
    let mut heard = Vec::with_capacity(asks.len());
    let mut asks = asks.into_iter();
    while heard.is_empty() || world.clock.boot().saturating_sub(began) < limits::ROUND {
        let Some(Ask { client, account, topic }) = asks.next() else { break };
        if failed.contains(&client) {
            continue;
        }
        let key = (account, Arc::clone(&topic.text));
        let answer = match known.get(&key) {
            Some(answer) => answer.clone(),
            None => {
                let since = world.clock.boot();
                let answer = resolve(connection, world, change, key.0.as_ref(), &mut accounts)
                    .and_then(|auth| answer(connection, world, change, &topic, auth));
                let answer = in_time(answer, &topic, world.clock.boot().saturating_sub(since));
                known.insert(key, answer.clone());
                answer
            }
        };
        if answer.is_err() {
            failed.insert(client.clone());
        }
        heard.push((client, topic, answer));
    }
    let rest = asks.filter(|ask| !failed.contains(&ask.client)).collect();
    Round { heard, rest }
}

/// An answer that took too long is a failure where the client made it so, and where it is "nothing": it may have been
/// interrupted, and an event must not be missed in silence.
fn in_time(answer: Answer, topic: &Topic, took: Duration) -> Answer {
    let own = ["filter", "expand"].iter().any(|name| !rows::text(&topic.options.query, name).is_empty());
    match answer {
        Ok(None) if took >= limits::ASK_TIME => Err(Failed),
        Ok(Some(_)) if took >= limits::ASK_TIME && own => Err(Failed),
        answer => answer,
    }
}

/// The record of an account, looked up once.
fn resolve(
    connection: &Connection,
    world: &World,
    change: &Change,
    account: Option<&Account>,
    known: &mut HashMap<Account, Option<AuthRecord>>,
) -> Result<Option<AuthRecord>, Failed> {
    let Some(account) = account else { return Ok(None) };
    if let Some(auth) = known.get(account) {
        return Ok(auth.clone());
    }
    let auth = account.record(connection, &world.schema, change).map_err(|error| {
        tracing::error!(%error, "realtime cannot read an account");
        Failed
    })?;
    known.insert(account.clone(), auth.clone());
    Ok(auth)
}

/// What one subscription hears of the change.
fn answer(
    connection: &Connection,
    world: &World,
    change: &Change,
    topic: &Topic,
    auth: Option<AuthRecord>,
) -> Answer {
    let collection = world.schema.get(change.collection);
    let request = RequestInfo {
        context: "realtime",
        method: "GET".to_owned(),
        headers: topic.options.headers.clone(),
        query: topic.options.query.clone(),
        body: rows::Record::new(),
        auth,
    };
    let (schema, source) = (Arc::clone(&world.schema), Arc::clone(&world.source));
    let context = Context { schema, request, now: world.now, source };
    let option = |name: &str| rows::text(&topic.options.query, name);
    let rule = if topic.id.is_some() { collection.rules.view } else { collection.rules.list };
    let (record, filter) = (&change.record, option("filter"));
    let mut concerns = known(records::passes(connection, &context, collection, rule, record))?;
    if concerns == Some(true) && !filter.is_empty() {
        let access = context.access();
        concerns = known(records::holds(connection, &context, collection, filter, access, record))?;
    }
    if concerns != Some(true) {
        return Ok(None);
    }
    let shown = records::show_one(connection, &context, collection, record.clone(), option("expand"));
    let shown = known(shown)?.map(|shown| pick(shown, option("fields")));
    Ok(shown.map(|shown| frames::change_data(&shown, change.action)))
}

/// A refusal is no answer to wait for: `None`. Only a failure of the database is one.
fn known<T>(result: Result<T, ApiError>) -> Result<Option<T>, Failed> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status < 500 => Ok(None),
        Err(_) => Err(Failed),
    }
}

/// The chosen fields; all of them where the choice cannot be read.
fn pick(shown: Value, fields: &str) -> Value {
    if fields.is_empty() {
        return shown;
    }
    records::pick(shown.clone(), fields, false).unwrap_or(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_a_failure_where_it_may_hide_an_event() {
        let schema = Schema::new(crate::schema::collections());
        let plain = "posts/*";
        let filtered = "posts/*?options=%7B%22query%22%3A%7B%22filter%22%3A%22score%3E1%22%7D%7D";
        let event = || Ok(Some(Bytes::from_static(b"{}")));
        let nothing = || Ok(None);
        let (slow, quick) = (limits::ASK_TIME, limits::ASK_TIME - Duration::from_nanos(1));
        for (text, answer, took, wanted) in [
            (plain, event(), slow, event()),
            (plain, nothing(), slow, Err(Failed)),
            (plain, nothing(), quick, nothing()),
            (filtered, event(), slow, Err(Failed)),
            (filtered, event(), quick, event()),
            (filtered, nothing(), slow, Err(Failed)),
            (filtered, Err(Failed), quick, Err(Failed)),
        ] {
            let topic = Topic::parse(&schema, text).unwrap();
            assert_eq!(in_time(answer, &topic, took), wanted, "{text} {took:?}");
        }
    }
}
