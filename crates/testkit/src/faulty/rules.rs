//! Rules of the replica's format that no fault excuses.

use crate::history::fold;
use bytes::Bytes;
use litekeep_formats::ltx::Header;
use litekeep_formats::{Epoch, Level};
use litekeep_store::Key;
use std::collections::HashMap;

/// A slot's name stays taken at least this long, by the store's clock: the late put of a process that slept must not
/// find it free.
const SLOT_LIFE_MS: i64 = 180_000;

#[derive(Debug, Default)]
pub(super) struct Rules {
    /// A slot's bytes by its name and the epoch in its seal: once sent, they never change.
    sent: HashMap<(Key, u64), (u64, usize)>,
    broken: Vec<String>,
}

fn written_once(key: &Key) -> bool {
    matches!(key, Key::Ltx(Level::SLOTS, _) | Key::Epoch(..))
}

impl Rules {
    pub(super) fn broken(&self) -> &[String] {
        &self.broken
    }

    pub(super) fn creates(&mut self, key: &Key, body: &Bytes) {
        let Some(epoch) = Header::parse(body).ok().and_then(|header| Epoch::new(header.node_id)) else {
            return;
        };
        let this = (fold(0, body), body.len());
        if !matches!(key, Key::Ltx(Level::SLOTS, _)) {
            return;
        }
        let first = *self.sent.entry((*key, epoch.get())).or_insert(this);
        if first != this {
            let (before, now) = (first.1, this.1);
            self.broken
                .push(format!("{key} was sent with two contents in epoch {epoch}: {before} and {now} bytes"));
        }
    }

    pub(super) fn puts(&mut self, key: &Key, body: &Bytes, there: Option<&Bytes>) {
        if let Some(there) = there
            && written_once(key)
            && there != body
        {
            self.broken.push(format!("{key} was overwritten with other bytes"));
        }
    }

    pub(super) fn deletes(&mut self, key: &Key, age_ms: i64) {
        if matches!(key, Key::Ltx(Level::SLOTS, _)) && age_ms < SLOT_LIFE_MS {
            self.broken.push(format!("{key} was deleted at an age of {age_ms} ms"));
        }
    }
}
