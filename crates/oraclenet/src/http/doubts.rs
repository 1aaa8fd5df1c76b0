//! Requests whose outcome their senders were not told (503 `unknown`), so that a repetition is the same request and no
//! second one: a vote does not switch again, a create without an id of its own gets the id that it had.
//!
//! In memory and bounded: after a restart a create is only safe to repeat if the client chose the id, as ours does.

use crate::db::{WriteError, Written, rows};
use crate::limits;
use crate::records::{Context, Target};
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Which request it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// A vote: by whom, on what.
    Vote(String, Target, String),
    /// A create without an id: where, by whom, the digest of its body.
    Create(&'static str, String, Vec<u8>),
}

impl Doubt {
    /// A create of `collection` with the context's body.
    pub fn create(context: &Context, collection: &'static str) -> Self {
        // The keys of a JSON object are sorted here, so equal bodies have equal texts.
        let body = serde_json::to_vec(&context.request.body).unwrap_or_default();
        let auth = context.request.auth.as_ref();
        let caller = auth.map(|auth| format!("{}/{}", auth.collection, rows::text(&auth.record, "id")));
        Self::Create(collection, caller.unwrap_or_default(), digest(&SHA256, &body).as_ref().to_vec())
    }
}

/// What a request asked for, or was given.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The vote's direction, or the new record's id.
    pub what: String,
    /// What a vote came to, once it has run: a repetition sets the vote to that, which is right whether the first one
    /// was kept or undone.
    pub came_to: Arc<OnceLock<i64>>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Doubts(Mutex<HashMap<Doubt, Asked>>);

impl Doubts {
    /// What the same request had asked for, or been given, when its outcome was unknown.
    pub fn recall(&self, doubt: &Doubt) -> Option<Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(doubt).cloned()
    }

    /// Notes how a request ended: with a doubt, without one, or not at all, which leaves a doubt that there was.
    pub fn settle<T, E>(&self, doubt: Doubt, asked: Asked, written: &Result<Written<T>, WriteError<E>>) {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Err(WriteError::Unknown) if doubts.len() < limits::DOUBTS || doubts.contains_key(&doubt) => {
                doubts.insert(doubt, asked);
            }
            Err(WriteError::Unknown | WriteError::NotApplied(_)) => {}
            Ok(_) | Err(WriteError::Refused(_)) => {
                doubts.remove(&doubt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_kept_until_the_request_has_an_outcome() {
        let (doubts, doubt) = (Doubts::default(), Doubt::Vote("ada".into(), Target::Post, "p".into()));
        let written = || Ok::<_, WriteError<()>>(Written { value: (), txid: None });
        for (result, recalled) in [
            (written(), None),
            (Err(WriteError::NotApplied("busy")), None),
            (Err(WriteError::Unknown), Some("1".to_owned())),
            (Err(WriteError::NotApplied("busy")), Some("1".to_owned())),
            (written(), None),
            (Err(WriteError::Unknown), Some("1".to_owned())),
            (Err(WriteError::Refused(())), None),
        ] {
            let asked = Asked { what: "1".to_owned(), ..Asked::default() };
            doubts.settle(doubt.clone(), asked, &result);
            assert_eq!(doubts.recall(&doubt).map(|asked| asked.what), recalled, "{result:?}");
        }
    }
}
