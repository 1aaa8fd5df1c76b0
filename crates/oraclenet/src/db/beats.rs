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
    /// By oracle; not written down yet. No two have the same id.
    dirty: HashMap<String, Beat>,
    /// Whose each id is.
    ids: HashMap<String, String>,
}

impl Inner {
    fn remove(&mut self, oracle: &str) -> bool {
        let Some(beat) = self.dirty.remove(oracle) else { return false };
        self.ids.remove(&beat.id);
        true
    }
}

/// Why a heartbeat was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many oracles wait to be written down.
    Full,
    /// Another oracle's heartbeat has this id: ids are the clients' choice.
    Taken,
}

impl Refused {
    /// Whether it is the id's fault, and no repetition helps.
    pub fn is_taken(self) -> bool {
        self == Self::Taken
    }
}

/// Heartbeats that are being written.
pub(super) struct Due(Vec<Beat>);

impl Beats {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a heartbeat, in the place of its oracle's last one.
    ///
    /// # Errors
    /// Why it took nothing.
    pub fn beat(&self, beat: Beat) -> Result<(), Refused> {
        let mut inner = self.inner();
        if inner.dirty.len() >= limits::BEATS && !inner.dirty.contains_key(&beat.oracle) {
            return Err(Refused::Full);
        }
        if inner.ids.get(&beat.id).is_some_and(|oracle| *oracle != beat.oracle) {
            return Err(Refused::Taken);
        }
        inner.remove(&beat.oracle);
        inner.version += 1;
        inner.ids.insert(beat.id.clone(), beat.oracle.clone());
        inner.dirty.insert(beat.oracle.clone(), beat);
        Ok(())
    }

    /// Forgets an oracle that was removed.
    pub fn forget(&self, oracle: &str) {
        let mut inner = self.inner();
        if inner.remove(oracle) {
            inner.version += 1;
        }
    }

    /// Forgets what is older than `oldest`, in PocketBase's form: where nothing is written down, nothing else would.
    pub(super) fn expire(&self, oldest: &str) {
        let mut inner = self.inner();
        let Inner { version, dirty, ids } = &mut *inner;
        let before = dirty.len();
        dirty.retain(|_, beat| beat.created.as_str() >= oldest);
        if dirty.len() < before {
            ids.retain(|_, oracle| dirty.contains_key(oracle));
            *version += 1;
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
                inner.remove(&beat.oracle);
            }
        }
        inner.version += 1;
    }
}

impl Due {
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut remove =
            connection.prepare_cached("DELETE FROM main.heartbeats WHERE oracle = ?1 AND created <= ?2")?;
        // A newer row, which another server wrote before it handed over, stays. An account that was deleted meanwhile
        // leaves no row behind. A row that took the id meanwhile (only a batch writes one) costs this heartbeat, whose
        // oracle soon sends the next, and not everybody's.
        let mut insert = connection.prepare_cached(
            "INSERT INTO main.heartbeats (id, oracle, status, created, updated)
             SELECT ?1, ?2, ?3, ?4, ?4 WHERE EXISTS (SELECT 1 FROM main.oracles WHERE id = ?2)
               AND NOT EXISTS (SELECT 1 FROM main.heartbeats WHERE oracle = ?2)
             ON CONFLICT (id) DO NOTHING",
        )?;
        for beat in &self.0 {
            remove.execute([&beat.oracle, &beat.created])?;
            insert.execute([&beat.id, &beat.oracle, &beat.status, &beat.created])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::open;

    fn beat(id: &str, oracle: &str) -> Beat {
        let text = str::to_owned;
        Beat { id: text(id), oracle: text(oracle), status: text("online"), created: text("2026-11-25") }
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE oracles (id TEXT PRIMARY KEY);
                 INSERT INTO oracles VALUES ('ada'), ('bob'), ('cyd');
                 CREATE TABLE heartbeats (id TEXT PRIMARY KEY, oracle TEXT, status TEXT, created TEXT, updated TEXT);",
            )
            .unwrap();
        connection
    }

    fn rows(connection: &Connection) -> Vec<(String, String)> {
        let mut statement = connection.prepare("SELECT oracle, id FROM heartbeats ORDER BY oracle").unwrap();
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        found.map(Result::unwrap).collect()
    }

    #[test]
    fn an_id_is_one_oracles_as_long_as_its_heartbeat_waits() {
        let beats = Beats::default();
        for (id, oracle, expected) in [
            ("x", "ada", Ok(())),
            ("x", "bob", Err(Refused::Taken)),
            ("x", "ada", Ok(())),
            ("y", "ada", Ok(())),
            ("x", "bob", Ok(())),
            ("y", "bob", Err(Refused::Taken)),
        ] {
            assert_eq!(beats.beat(beat(id, oracle)), expected, "{id} {oracle}");
        }
        beats.forget("ada");
        assert_eq!(beats.beat(beat("y", "bob")), Ok(()), "ada was removed");
        let due = beats.take_due().unwrap();
        beats.written(&due);
        let inner = beats.inner();
        assert!(
            inner.ids.is_empty() && inner.dirty.is_empty(),
            "an id is not kept longer than its heartbeat"
        );
    }

    #[test]
    fn what_is_too_old_is_forgotten_with_its_id() {
        let beats = Beats::default();
        beats.beat(beat("x", "ada")).unwrap();
        beats.beat(Beat { created: "2026-11-26".to_owned(), ..beat("y", "bob") }).unwrap();
        let (version, _) = beats.since(0).unwrap();
        beats.expire("2026-11-25");
        assert!(beats.since(version).is_none(), "nothing is too old yet");
        beats.expire("2026-11-26");
        let (_, left) = beats.since(version).expect("readers hear of it");
        assert_eq!(left.iter().map(|beat| &*beat.oracle).collect::<Vec<_>>(), ["bob"]);
        assert_eq!(beats.beat(beat("x", "cyd")), Ok(()), "its id is free");
    }

    #[test]
    fn a_heartbeat_with_the_id_of_a_row_does_not_keep_the_others_from_being_written() {
        let connection = database();
        let row = "INSERT INTO heartbeats (id, oracle) VALUES ('x', 'ada')";
        connection.execute(row, []).unwrap();
        Due(vec![beat("x", "bob"), beat("z", "cyd")]).write(&connection).unwrap();
        let pair = |oracle: &str, id: &str| (oracle.to_owned(), id.to_owned());
        assert_eq!(rows(&connection), [pair("ada", "x"), pair("cyd", "z")]);
    }

    #[test]
    fn a_newer_row_of_another_server_stays_and_is_what_readers_see() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.db");
        let writer = open::writer(&path).unwrap();
        writer
            .execute_batch(
                "CREATE TABLE oracles (id TEXT PRIMARY KEY);
                 INSERT INTO oracles VALUES ('ada'), ('bob');
                 CREATE TABLE heartbeats (id TEXT PRIMARY KEY, oracle TEXT, status TEXT, created TEXT, updated TEXT);
                 INSERT INTO heartbeats (id, oracle, created) VALUES ('newer', 'ada', '2026-11-26'), ('older', 'bob', '2026-11-24');",
            )
            .unwrap();
        let beats = [beat("x", "ada"), beat("y", "bob")];
        let reader = open::reader(&path).unwrap();
        open::show_beats(&reader, &beats).unwrap();
        let pair = |oracle: &str, id: &str| (oracle.to_owned(), id.to_owned());
        let wanted = [pair("ada", "newer"), pair("bob", "y")];
        assert_eq!(rows(&reader), wanted);
        Due(beats.to_vec()).write(&writer).unwrap();
        assert_eq!(rows(&writer), wanted);
    }

    #[test]
    fn readers_survive_heartbeats_of_one_id() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.db");
        open::writer(&path)
            .unwrap()
            .execute_batch("CREATE TABLE heartbeats (id, oracle, status, created, updated)")
            .unwrap();
        let reader = open::reader(&path).unwrap();
        open::show_beats(&reader, &[beat("x", "ada"), beat("x", "bob"), beat("y", "cyd")]).unwrap();
        let count: i64 = reader.query_row("SELECT count(*) FROM heartbeats", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2);
    }
}
