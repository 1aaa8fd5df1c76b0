//! An application that writes to a SQLite database as applications do, from a seed, and keeps a ledger of what it
//! committed.
//!
//! One connection writes; a tool in a process of its own checkpoints, reads for long and vacuums now and then. Errors
//! that any application must live with (busy, disk full) end an action; a death ends the application; everything else
//! is a finding.

mod image;
mod ledger;

#[cfg(test)]
mod tests;

pub use ledger::{Commit, Content, Ledger, Outcome, Place};

use crate::disk::vfs::Vfs;
use crate::disk::{Disk, Process};
use crate::random::SeededRandom;
use rusqlite::{Connection, ErrorCode, params};

/// What kind of application it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a page.
    pub page_size: u32,
    /// Whether each commit is synced (`synchronous=FULL`); otherwise a power loss may take the newest ones.
    pub synced: bool,
    /// Pages of `wal_autocheckpoint`; 0 for none.
    pub autocheckpoint: u32,
    /// Pages of cache: few of them make a transaction spill into the WAL before it commits.
    pub cache: u32,
    /// `auto_vacuum=INCREMENTAL`.
    pub vacuums: bool,
    /// The greatest blob, bytes.
    pub blob: u64,
}

impl Shape {
    /// A shape from a seed.
    pub fn any(random: &SeededRandom) -> Self {
        let of = |values: &[u32]| random.pick(values).copied().unwrap_or(0);
        let page_size = of(&[512, 1024, 4096, 4096, 4096, 8192, 65536]);
        Self {
            page_size,
            synced: random.chance(3, 4),
            autocheckpoint: of(&[0, 1, 7, 50, 1000]),
            cache: of(&[5, 5, 200]),
            vacuums: random.chance(1, 2),
            blob: u64::from(page_size) * 3,
        }
    }

    /// A small, plain one.
    pub const PLAIN: Self =
        Self { page_size: 4096, synced: true, autocheckpoint: 1000, cache: 200, vacuums: false, blob: 6000 };
}

/// Why an action did not end well.
#[derive(Debug)]
pub enum Trouble {
    /// The process or its machine is dead.
    Dead,
    /// Somebody holds a lock, or the disk is full; nothing was changed.
    Later,
    /// What no application should see.
    Finding(String),
}

/// One action of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Insert,
    Update,
    Delete,
    Big,
    Mixed,
    RollBack,
    Savepoint,
    Table,
    Vacuum,
    Incremental,
    Checkpoint,
    Reader,
}

/// How often each action comes.
const ACTIONS: [(u64, Action); 12] = [
    (30, Action::Insert),
    (15, Action::Update),
    (10, Action::Delete),
    (6, Action::Big),
    (8, Action::Mixed),
    (5, Action::RollBack),
    (6, Action::Savepoint),
    (3, Action::Table),
    (2, Action::Vacuum),
    (4, Action::Incremental),
    (8, Action::Checkpoint),
    (3, Action::Reader),
];

/// A running application.
pub struct Application {
    process: Process,
    tool: Process,
    shape: Shape,
    random: SeededRandom,
    // Connections before the VFS they use.
    writer: Connection,
    reader: Connection,
    foreign: Connection,
    _vfs: Vfs,
    _tool_vfs: Vfs,
}

impl Application {
    /// Starts on a disk: makes the database, or goes on with the one that is there and settles with the ledger what
    /// became of the last commit.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn start(
        disk: &Disk,
        path: &str,
        shape: Shape,
        random: SeededRandom,
        ledger: &mut Ledger,
    ) -> Result<Self, Trouble> {
        let (process, tool) = (disk.process(), disk.process());
        let sort = |error: rusqlite::Error| sort(&process, &error);
        let (vfs, tool_vfs) = (Vfs::new(&process), Vfs::new(&tool));
        let writer = vfs.open(path).map_err(sort)?;
        writer
            .execute_batch(&format!("PRAGMA page_size={}; PRAGMA synchronous=EXTRA", shape.page_size))
            .map_err(sort)?;
        let empty = writer.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).map_err(sort)? == 0;
        if empty {
            writer
                .execute_batch(&format!("PRAGMA auto_vacuum={}", if shape.vacuums { 2 } else { 0 }))
                .map_err(sort)?;
        }
        let mode: String = writer.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).map_err(sort)?;
        if mode != "wal" {
            return Err(Trouble::Finding(format!("journal mode stays {mode}")));
        }
        settle(&writer, shape).map_err(sort)?;
        let (reader, foreign) = (vfs.open(path).map_err(sort)?, tool_vfs.open(path).map_err(sort)?);
        foreign.execute_batch("PRAGMA wal_autocheckpoint=0").map_err(sort)?;
        for connection in [&writer, &reader, &foreign] {
            connection.busy_timeout(std::time::Duration::ZERO).map_err(sort)?;
        }
        if ledger.commits().is_empty() {
            let content = image::content(&writer).map_err(sort)?;
            ledger.add(Commit { content, outcome: Outcome::Committed, what: "start".to_owned() });
        } else {
            ledger.found(&writer, if shape.synced { 0 } else { usize::MAX / 2 }).map_err(Trouble::Finding)?;
        }
        Ok(Self { process, tool, shape, random, writer, reader, foreign, _vfs: vfs, _tool_vfs: tool_vfs })
    }

    /// Its process, to kill it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The other process on the same database, to kill it.
    pub fn tool(&self) -> &Process {
        &self.tool
    }

    /// Does something; what it committed is in the ledger.
    ///
    /// # Errors
    /// See [`Trouble`]. The application goes on after [`Trouble::Later`].
    pub fn step(&mut self, ledger: &mut Ledger) -> Result<(), Trouble> {
        let action = self.choose();
        let before = ledger.commits().len();
        let result = self.act(action, ledger);
        // A failure leaves no transaction behind.
        if !self.writer.is_autocommit() {
            let _ = self.writer.execute_batch("ROLLBACK");
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                let trouble = sort(&self.process, &error);
                if matches!(trouble, Trouble::Later) && ledger.commits().len() > before {
                    return Err(Trouble::Finding(format!(
                        "{action:?}: {error} after a commit was under way"
                    )));
                }
                Err(match trouble {
                    Trouble::Finding(error) => Trouble::Finding(format!("{action:?}: {error}")),
                    other => other,
                })
            }
        }
    }

    fn choose(&self) -> Action {
        let mut drawn = self.random.below(ACTIONS.iter().map(|(weight, _)| weight).sum());
        for (weight, action) in ACTIONS {
            if drawn < weight {
                return action;
            }
            drawn -= weight;
        }
        Action::Insert
    }

    fn act(&self, action: Action, ledger: &mut Ledger) -> rusqlite::Result<()> {
        match action {
            Action::Insert => self.transaction("insert", ledger, |app| app.insert(app.random.between(1, 8))),
            Action::Update => self.transaction("update", ledger, |app| app.update(app.random.between(1, 5))),
            Action::Delete => self.transaction("delete", ledger, |app| app.delete(app.random.between(1, 10))),
            Action::Big => {
                self.transaction("big insert", ledger, |app| app.insert(app.random.between(20, 60)))
            }
            Action::Mixed => self.transaction("mixed", ledger, |app| {
                app.insert(3)?;
                app.update(2)?;
                app.delete(2)
            }),
            Action::RollBack => {
                self.writer.execute_batch("BEGIN IMMEDIATE")?;
                self.writer.execute_batch(SCHEMA)?;
                self.insert(self.random.between(1, 40))?;
                self.writer.execute_batch("ROLLBACK")
            }
            Action::Savepoint => self.transaction("savepoint", ledger, |app| {
                app.update(2)?;
                app.writer.execute_batch("SAVEPOINT s")?;
                app.insert(30)?;
                app.writer.execute_batch("ROLLBACK TO s; RELEASE s")?;
                app.insert(2)
            }),
            Action::Table => self.transaction("table", ledger, Self::table),
            Action::Vacuum => self.vacuum(ledger),
            Action::Incremental => self.transaction("incremental vacuum", ledger, |app| {
                app.delete(20)?;
                let mut statement = app.writer.prepare("PRAGMA incremental_vacuum(30)")?;
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            }),
            Action::Checkpoint => self.checkpoint(),
            Action::Reader => self.read(),
        }
    }

    /// A write transaction: what it will leave is in the ledger before it commits, as a commit of unknown outcome.
    fn transaction(
        &self,
        what: &str,
        ledger: &mut Ledger,
        write: impl FnOnce(&Self) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        self.writer.execute_batch("BEGIN IMMEDIATE")?;
        self.writer.execute_batch(SCHEMA)?;
        write(self)?;
        let content = image::prospect(&self.writer)?;
        self.commit(what, content, ledger, "COMMIT")
    }

    fn vacuum(&self, ledger: &mut Ledger) -> rusqlite::Result<()> {
        let content = Content { exact: None, pages: None, rows: image::content(&self.writer)?.rows };
        self.commit("vacuum", content, ledger, "VACUUM")
    }

    fn commit(&self, what: &str, content: Content, ledger: &mut Ledger, sql: &str) -> rusqlite::Result<()> {
        let mut commit = Commit { content, outcome: Outcome::Unknown, what: what.to_owned() };
        match self.writer.execute_batch(sql) {
            Ok(()) => {
                commit.outcome = Outcome::Committed;
                // The answer came; a power loss before the next look leaves the prospect as the record.
                if let Ok(content) = image::content(&self.writer) {
                    commit.content = content;
                }
                ledger.add(commit);
                Ok(())
            }
            Err(error) => {
                if matches!(sort(&self.process, &error), Trouble::Dead) {
                    ledger.add(commit);
                }
                Err(error)
            }
        }
    }

    fn insert(&self, rows: u64) -> rusqlite::Result<()> {
        let mut statement = self.writer.prepare_cached("INSERT INTO t(name, body) VALUES(?1, ?2)")?;
        for _ in 0..rows {
            let most = if self.random.chance(1, 6) { self.shape.blob } else { 200 };
            let mut body = vec![0; usize::try_from(self.random.below(most)).unwrap_or(0)];
            self.random.fill(&mut body);
            statement.execute(params![format!("row {}", self.random.below(1000)), body])?;
        }
        Ok(())
    }

    fn update(&self, rows: u64) -> rusqlite::Result<()> {
        let sql = "UPDATE t SET body = zeroblob(length(body)), name = name || '.' WHERE id IN
                   (SELECT id FROM t WHERE id >= ?1 ORDER BY id LIMIT ?2)";
        self.writer.prepare_cached(sql)?.execute([self.any_id()?, i64::try_from(rows).unwrap_or(1)]).map(drop)
    }

    fn delete(&self, rows: u64) -> rusqlite::Result<()> {
        let sql = "DELETE FROM t WHERE id IN (SELECT id FROM t WHERE id >= ?1 ORDER BY id LIMIT ?2)";
        self.writer.prepare_cached(sql)?.execute([self.any_id()?, i64::try_from(rows).unwrap_or(1)]).map(drop)
    }

    fn any_id(&self) -> rusqlite::Result<i64> {
        let last: i64 = self.writer.query_row("SELECT coalesce(max(id), 0) FROM t", [], |row| row.get(0))?;
        Ok(i64::try_from(self.random.below(last.unsigned_abs())).unwrap_or(0))
    }

    fn table(&self) -> rusqlite::Result<()> {
        let number = self.random.below(4);
        let sql = if self.random.chance(1, 3) {
            format!("DROP TABLE IF EXISTS extra{number}")
        } else {
            format!(
                "CREATE TABLE IF NOT EXISTS extra{number}(a, b); INSERT INTO extra{number} SELECT id, name FROM t LIMIT 20"
            )
        };
        self.writer.execute_batch(&sql)
    }

    fn checkpoint(&self) -> rusqlite::Result<()> {
        let modes = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];
        let mode = self.random.pick(&modes).copied().unwrap_or("PASSIVE");
        let connection = if self.random.chance(1, 2) { &self.writer } else { &self.foreign };
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    }

    /// A reader that stays for some actions, or ends.
    fn read(&self) -> rusqlite::Result<()> {
        if self.reader.is_autocommit() {
            self.reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
        } else {
            self.reader.execute_batch("ROLLBACK")
        }
    }
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, name TEXT, body BLOB);
                      CREATE INDEX IF NOT EXISTS t_name ON t(name)";

fn settle(conn: &Connection, shape: Shape) -> rusqlite::Result<()> {
    let synchronous = if shape.synced { "FULL" } else { "NORMAL" };
    conn.execute_batch(&format!("PRAGMA synchronous={synchronous}; PRAGMA cache_size={}", shape.cache))?;
    conn.query_row(&format!("PRAGMA wal_autocheckpoint={}", shape.autocheckpoint), [], |_| Ok(()))
}

fn sort(process: &Process, error: &rusqlite::Error) -> Trouble {
    if !process.alive() {
        return Trouble::Dead;
    }
    match error.sqlite_error_code() {
        // The last one: somebody stays in the middle of a change to the WAL's index for ten seconds.
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::FileLockingProtocolFailed,
        ) => Trouble::Later,
        _ => Trouble::Finding(error.to_string()),
    }
}

/// Opens a database file of a disk and tells which commit of the ledger it is.
///
/// # Errors
/// If SQLite cannot read it, finds it damaged, or nobody ever committed it.
pub fn judge(disk: &Disk, path: &str, ledger: &Ledger) -> Result<Place, String> {
    let process = disk.process();
    let vfs = Vfs::new(&process);
    let conn = vfs.open(path).map_err(|error| error.to_string())?;
    let check: String = conn
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(|error| format!("integrity_check: {error}"))?;
    if check != "ok" {
        return Err(format!("integrity_check: {check}"));
    }
    ledger.identify(&conn)
}
