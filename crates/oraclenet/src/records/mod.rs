//! The record service: list, view, create, update, delete for every collection, driven by the schema.
//!
//! It works on a connection that somebody else opened (and, for changes, began a transaction on), knows who asks and
//! nothing of HTTP, and answers with JSON or with an [`ApiError`]. Order of checks and words are PocketBase's.

mod batch;
mod expand;
mod fields;
pub mod formats;
mod hooks;
mod input;
mod json;
mod list;
#[cfg(test)]
mod properties;
mod references;
mod rule;
mod url;
mod validate;
mod votes;
mod write;

pub use batch::{Batch, PasswordWork};
pub use fields::{check_fields, pick};
use input::text as value_text;
pub use json::{member, public};
pub use list::{ListQuery, list, show_one, view};
pub use rule::{holds, passes, still_signed_in};
pub use votes::{Target, check_vote, switched, vote, voted, voter};
pub use write::{
    Passwords, Prepared, WalletAccount, account_is_there, check_create, check_delete, check_for_wallet,
    check_update, create, create_for_wallet, delete, id_is_taken, update,
};

use crate::db::Change;
use crate::db::rows::{self, Record};
use crate::filter::{Access, RequestInfo};
use crate::http::error::ApiError;
use crate::random::Source;
use crate::schema::{Collection, Schema};
use chrono::{DateTime, Utc};
use std::borrow::Cow;
use std::sync::Arc;

/// What every operation knows of its request.
#[derive(Clone)]
pub struct Context {
    /// The collections.
    pub schema: Arc<Schema>,
    /// Who asks, and what.
    pub request: RequestInfo,
    /// When.
    pub now: DateTime<Utc>,
    /// For ids and token keys.
    pub source: Arc<dyn Source>,
}

impl Context {
    /// Whether a superuser asks.
    pub fn is_superuser(&self) -> bool {
        self.request.auth.as_ref().is_some_and(|auth| auth.collection == "_superusers")
    }

    /// Whose a new record of an oracle's is: the caller, unless it comes from another collection of accounts. There,
    /// everybody may register, under any id.
    pub fn owner(&self) -> Option<&str> {
        let auth = self.request.auth.as_ref();
        let acts = auth.filter(|auth| matches!(auth.collection.as_str(), "oracles" | "_superusers"));
        acts.map(|auth| rows::text(&auth.record, "id"))
    }

    /// The request as the rules of a collection may know it. They compare ids and nothing else, and an id says who
    /// somebody is only within one collection: accounts of another one than the rules speak of are guests to them.
    pub fn request_for(&self, collection: &Collection) -> Cow<'_, RequestInfo> {
        let stranger = match (&self.request.auth, collection.accounts()) {
            (Some(auth), Some(accounts)) => auth.collection != accounts && !self.is_superuser(),
            _ => false,
        };
        if stranger {
            Cow::Owned(RequestInfo { auth: None, ..self.request.clone() })
        } else {
            Cow::Borrowed(&self.request)
        }
    }

    /// Whether the caller is this very account.
    pub fn is_self(&self, collection: &Collection, record: &Record) -> bool {
        self.request.auth.as_ref().is_some_and(|auth| {
            auth.collection == collection.name && rows::text(&auth.record, "id") == rows::text(record, "id")
        })
    }

    /// Whose filters and sorts the caller's are.
    pub fn access(&self) -> Access {
        if self.is_superuser() { Access::Superuser } else { Access::Client }
    }

    /// The time as the database keeps it.
    pub fn stamp(&self) -> String {
        crate::time::format(self.now)
    }

    /// A collection by name or id, whatever the case of the name.
    ///
    /// # Errors
    /// 404 in PocketBase's words.
    pub fn collection(&self, name: &str) -> Result<&Collection, ApiError> {
        let lower = name.to_lowercase();
        let found = self.schema.find(name).or_else(|| self.schema.find(&lower));
        found.ok_or_else(|| ApiError::new(404, "Missing collection context."))
    }
}

/// Notes a change for those who listen.
fn note(changes: &mut Vec<Change>, collection: &Collection, action: &'static str, record: &Record) {
    changes.push(Change { collection: collection.name, action, record: record.clone() });
}

/// A key of a body as text, whatever scalar it is.
pub fn body_text(body: &Record, name: &str) -> String {
    body.get(name).map(value_text).unwrap_or_default()
}
