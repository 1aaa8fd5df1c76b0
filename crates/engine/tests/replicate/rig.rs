//! A directory with a database, an application's connection, a replica in memory, and a keeper between them.

use litekeep::clock::{SystemClock, SystemRandom};
use litekeep::files::RealFiles;
use litekeep::jobs::Threads;
use litekeep::keeper::Keeper;
use litekeep::replicator::{Env, Status};
use litekeep::restore::{Options, Outcome, RestoreEnv, Restored, restore};
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use litekeep_store::memory::MemoryStore;
use litekeep_store::{Entry, Scope, Store};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a loaded machine; no test waits for it to pass.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settings: Settings,
    pub(crate) decisions: Decisions,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Self::on(Arc::new(MemoryStore::new(clock)))
    }

    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        let settings = Settings { sync_interval: Duration::from_millis(10), ..Settings::default() };
        Self { dir: tempfile::tempdir().unwrap(), store, settings, decisions: Decisions::RIGHT }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.dir.path().join(".app.db-litekeep")
    }

    pub(crate) fn env(&self) -> Env {
        Env {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::default()),
            files: Arc::new(RealFiles),
            vfs: None,
            store: Arc::clone(&self.store),
            spawner: Arc::new(Threads),
            decisions: self.decisions,
        }
    }

    pub(crate) fn keep(&self) -> Keeper {
        Keeper::start(self.env(), self.settings.clone(), &self.path()).unwrap()
    }

    /// An application's connection.
    pub(crate) fn app(&self) -> Connection {
        app(&self.path())
    }

    /// What a restore of the newest state gives.
    pub(crate) fn restored(&self) -> (PathBuf, Box<Restored>) {
        let to = self.dir.path().join(format!("restored-{}.db", SystemClock.wall().0));
        let outcome =
            restore(&self.restore_env(), &Options { force: true, ..Options::new(&to) }, &mut |_| {}).unwrap();
        match outcome {
            Outcome::Restored(restored) => (to, restored),
            other => panic!("not restored: {other:?}"),
        }
    }

    pub(crate) fn restore_env(&self) -> RestoreEnv {
        RestoreEnv {
            store: Arc::clone(&self.store),
            files: Arc::new(RealFiles),
            clock: Arc::new(SystemClock),
            vfs: None,
        }
    }

    /// The restored database must equal the live one, byte for byte as SQLite serialises it.
    pub(crate) fn assert_restores(&self) {
        let (restored, _) = self.restored();
        assert_same(&self.path(), &restored);
    }

    pub(crate) fn objects(&self, scope: Scope) -> Vec<Entry> {
        self.store.list(&scope).unwrap()
    }
}

pub(crate) fn app(path: &Path) -> Connection {
    let app = Connection::open(path).unwrap();
    app.busy_timeout(Duration::from_secs(10)).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL").unwrap();
    app
}

pub(crate) fn assert_same(live: &Path, restored: &Path) {
    let (live, restored) = (serialized(live), serialized(restored));
    assert_eq!(live.len(), restored.len(), "another size");
    if let Some(at) = live.iter().zip(&restored).position(|(a, b)| a != b) {
        panic!("byte {at} differs");
    }
}

fn serialized(path: &Path) -> Vec<u8> {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    connection
        .query_row(
            "SELECT group_concat(hex(data), '') FROM (SELECT data FROM sqlite_dbpage ORDER BY pgno)",
            [],
            |row| row.get::<_, String>(0),
        )
        .unwrap()
        .into_bytes()
}

pub(crate) fn synced(keeper: &Keeper) -> Txid {
    match keeper.sync(LONG) {
        Ok(Some(txid)) => {
            assert!(keeper.status().failure.is_none(), "{:?}", keeper.status());
            txid
        }
        other => panic!("not synced: {other:?}, {:?}", keeper.status()),
    }
}

pub(crate) fn stopped(keeper: Keeper) -> Status {
    let status = keeper.status();
    keeper.stop(LONG).unwrap();
    status
}

/// Fills a table with `rows` rows of about 100 bytes.
pub(crate) fn insert(app: &Connection, rows: u32) {
    app.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v BLOB)").unwrap();
    app.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
         INSERT INTO t (v) SELECT randomblob(100) FROM n",
        [rows],
    )
    .unwrap();
}
