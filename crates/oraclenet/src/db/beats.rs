//! Presence: the last heartbeat of each oracle, in memory until it rides along with a slot.
//!
//! An oracle has one row: a newer heartbeat takes the place of the older ones. Readers see what is in memory through
//! a view (`open::reader`), so every query answers as if it had been written.

use crate::limits;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A heartbeat, as its row will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The row's id.
    pub id: String,
    /// Whose it is.
    pub oracle: String,
    /// `online` or `away`.
    pub status: String,
    /// When, in PocketBase's form.
    pub created: String,
}

/// See the module's text.
#[derive(Default)]
pub struct Beats {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Counts every change.
    version: u64,
    /// By oracle; not written down yet.
    dirty: HashMap<String, Beat>,
}

/// Heartbeats that are being written.
pub(super) struct Due(Vec<Beat>);

impl Beats {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a heartbeat. Returns false, and takes nothing, when too many oracles wait to be written down.
    #[must_use]
    pub fn beat(&self, beat: Beat) -> bool {
        let mut inner = self.inner();
        if inner.dirty.len() >= limits::BEATS && !inner.dirty.contains_key(&beat.oracle) {
            return false;
        }
        inner.version += 1;
        inner.dirty.insert(beat.oracle.clone(), beat);
        true
    }

    /// Forgets an oracle that was removed.
    pub fn forget(&self, oracle: &str) {
        let mut inner = self.inner();
        if inner.dirty.remove(oracle).is_some() {
            inner.version += 1;
        }
    }

    /// What is in memory, if it changed since `version`.
    pub(super) fn since(&self, version: u64) -> Option<(u64, Vec<Beat>)> {
        let inner = self.inner();
        (inner.version != version).then(|| (inner.version, inner.dirty.values().cloned().collect()))
    }

    pub(super) fn take_due(&self) -> Option<Due> {
        let inner = self.inner();
        (!inner.dirty.is_empty()).then(|| Due(inner.dirty.values().cloned().collect()))
    }

    /// These are rows now; newer ones of the same oracles stay.
    pub(super) fn written(&self, due: &Due) {
        let mut inner = self.inner();
        for beat in &due.0 {
            if inner.dirty.get(&beat.oracle) == Some(beat) {
                inner.dirty.remove(&beat.oracle);
            }
        }
        inner.version += 1;
    }
}

impl Due {
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut remove = connection.prepare_cached("DELETE FROM main.heartbeats WHERE oracle = ?1")?;
        // An account that was deleted meanwhile leaves no row behind.
        let mut insert = connection.prepare_cached(
            "INSERT INTO main.heartbeats (id, oracle, status, created, updated)
             SELECT ?1, ?2, ?3, ?4, ?4 WHERE EXISTS (SELECT 1 FROM main.oracles WHERE id = ?2)",
        )?;
        for beat in &self.0 {
            remove.execute([&beat.oracle])?;
            insert.execute([&beat.id, &beat.oracle, &beat.status, &beat.created])?;
        }
        Ok(())
    }
}
