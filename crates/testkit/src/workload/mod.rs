//! An application that writes to a SQLite database as applications do, from a seed, and keeps a ledger of what it
//! committed.
//!
//! One connection writes, vacuums, and changes the journal mode and the page size now and then; a second one reads for
//! long; a tool in a process of its own checkpoints. Errors that any application must live with (busy, disk full, a
//! planned I/O error) end an action or make it leave; a death ends it; everything else is a finding.

mod image;
mod ledger;
pub(crate) mod points;

#[cfg(test)]
mod tests;

pub use ledger::{Commit, Content, Ledger, Outcome, Place};

use crate::disk::vfs::Vfs;
use crate::disk::{Disk, Process};
use crate::random::SeededRandom;
use image::Image;
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
    /// Above so many bytes of content rows are deleted: a scene's cost is mostly its database's size.
    pub limit: u32,
    /// Whether it leaves WAL mode now and then, and comes back with another page size.
    pub modes: bool,
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
            blob: u64::from(page_size).min(16_384) * 3,
            limit: of(&[60_000, 150_000, 400_000]).max(page_size * 8),
            modes: random.chance(1, 3),
        }
    }

    /// A small one from a seed, for many short scenes.
    pub fn small(random: &SeededRandom) -> Self {
        let shape = Self::any(random);
        let page_size = shape.page_size.min(4096);
        Self { page_size, blob: u64::from(page_size) * 3, limit: (page_size * 10).max(20_000), ..shape }
    }

    /// A small, plain one.
    pub const PLAIN: Self = Self {
        page_size: 4096,
        synced: true,
        autocheckpoint: 1000,
        cache: 200,
        vacuums: false,
        blob: 6000,
        limit: 200_000,
        modes: false,
    };
}

/// Why an action did not end well.
#[derive(Debug)]
pub enum Trouble {
    /// The process or its machine is dead.
    Dead,
    /// Somebody holds a lock, the disk is full, or a call failed as planned; nothing was changed.
    Later,
    /// A planned failure left it in doubt whether a commit happened: it gives up, as if it were killed.
    Failed,
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
    Mode,
    Grow,
    Shrink,
}

/// How often each action comes.
const ACTIONS: [(u64, Action); 14] = [
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
    (4, Action::Mode),
    (4, Action::Grow),
];

/// A running application.
pub struct Application {
    process: Process,
    tool: Process,
    shape: Shape,
    random: SeededRandom,
    path: String,
    // Connections before the VFS they use.
    writer: Connection,
    /// These two only from their first use on, and not while the journal mode changes.
    reader: Option<Connection>,
    foreign: Option<Connection>,
    vfs: Vfs,
    tool_vfs: Vfs,
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
        let (vfs, tool_vfs) = (Vfs::new(&process), Vfs::new(&tool));
        let first = ledger.commits().is_empty();
        let opened = prepare(&vfs, path, shape, ledger);
        let writer = opened.map_err(|error| sort(&process, &error, process.failures() > 0))?;
        let settled = if first {
            let content =
                Image::read(&writer).map(|image| image.content()).map_err(|error| error.to_string());
            content.map(|content| {
                ledger.add(Commit { content, outcome: Outcome::Committed, what: "start".to_owned() });
            })
        } else {
            ledger.found(&writer, if shape.synced { 0 } else { usize::MAX / 2 })
        };
        match settled {
            Ok(()) => {}
            Err(_) if !process.alive() => return Err(Trouble::Dead),
            Err(_) if process.failures() > 0 => return Err(Trouble::Failed),
            Err(finding) => return Err(Trouble::Finding(finding)),
        }
        let path = path.to_owned();
        Ok(Self { process, tool, shape, random, path, writer, reader: None, foreign: None, vfs, tool_vfs })
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
        let before = ledger.last();
        let failures = self.failures();
        let (action, result) = match self.choose() {
            Ok(action @ Action::Mode) => (action, self.change_mode(ledger)),
            Ok(action) => (action, self.open_others().and_then(|()| self.act(action, ledger))),
            Err(error) => (Action::Reader, Err(error)),
        };
        // A failure leaves no transaction behind.
        if !self.writer.is_autocommit() {
            let _ = self.writer.execute_batch("ROLLBACK");
        }
        let Err(error) = result else { return Ok(()) };
        let in_doubt = ledger.last() > before;
        match sort(&self.process, &error, self.failures() > failures) {
            Trouble::Finding(error) => Err(Trouble::Finding(format!("{action:?}: {error}"))),
            Trouble::Later if in_doubt && action == Action::Mode => Err(Trouble::Failed),
            Trouble::Later if in_doubt => {
                Err(Trouble::Finding(format!("{action:?}: {error} after a commit was under way")))
            }
            Trouble::Failed if in_doubt && action != Action::Mode && self.random.chance(1, 2) => {
                // It goes on; SQLite has rolled back, and what comes next takes the place of what failed.
                ledger.go_back(Place::on_the_way(before));
                Err(Trouble::Later)
            }
            Trouble::Failed if !in_doubt => Err(Trouble::Later),
            other => Err(other),
        }
    }

    /// Calls that failed as planned.
    fn failures(&self) -> u64 {
        self.process.failures() + self.tool.failures()
    }

    fn choose(&self) -> rusqlite::Result<Action> {
        let number = |pragma: &str| self.writer.query_row(pragma, [], |row| row.get::<_, u32>(0));
        let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
        if pages.saturating_mul(number("PRAGMA page_size")?) > self.shape.limit && self.random.chance(2, 3) {
            return Ok(Action::Shrink);
        }
        let mut drawn = self.random.below(ACTIONS.iter().map(|(weight, _)| weight).sum());
        for (weight, action) in ACTIONS {
            if drawn < weight {
                return Ok(if action == Action::Mode && !self.shape.modes { Action::Insert } else { action });
            }
            drawn -= weight;
        }
        Ok(Action::Insert)
    }

    fn open_others(&mut self) -> rusqlite::Result<()> {
        if self.reader.is_none() {
            self.reader = Some(patient(self.vfs.open(&self.path)?)?);
        }
        if self.foreign.is_none() {
            let foreign = patient(self.tool_vfs.open(&self.path)?)?;
            foreign.execute_batch("PRAGMA wal_autocheckpoint=0")?;
            self.foreign = Some(foreign);
        }
        Ok(())
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
                to_the_end(&app.writer, "PRAGMA incremental_vacuum(30)")
            }),
            Action::Checkpoint => self.checkpoint(),
            Action::Reader => self.read(),
            // The pages that it adds are free when it commits, and SQLite does not write them (R05).
            Action::Grow => self.transaction("grow", ledger, |app| {
                let last = app.last_id()?;
                app.insert(app.random.between(20, 40))?;
                app.writer.execute("DELETE FROM t WHERE id > ?1", [last]).map(drop)
            }),
            Action::Shrink => self.transaction("shrink", ledger, |app| app.delete(60)),
            // Not with the others open.
            Action::Mode => Ok(()),
        }
    }

    /// Out of WAL mode and back; between the two perhaps a commit, and a VACUUM that changes the page size. Refused
    /// while anybody else has the database open, as an engine has.
    fn change_mode(&mut self, ledger: &mut Ledger) -> rusqlite::Result<()> {
        (self.reader, self.foreign) = (None, None);
        let before = ledger.last();
        // A rollback journal that is not synced away comes back, also beside a file that SQLite has cut since: it removes
        // the journal first, which holds nothing of the pages that go. With less than this, a disk that keeps no order
        // between names and lengths damages the database by SQLite's own doing.
        self.writer.execute_batch("PRAGMA synchronous=EXTRA")?;
        let rows = Content::of_rows(image::rows(&self.writer)?);
        self.commit("journal_mode=DELETE", rows, ledger, "PRAGMA journal_mode=DELETE", None)?;
        let result = self.without_wal(ledger);
        ledger.blur_since(before);
        if result.is_ok() {
            self.writer.execute_batch(synchronous(self.shape))?;
        }
        if result.is_err() && self.process.alive() {
            // Who comes next may find the one mode or the other, and changes it himself.
            let rows = Content::of_rows(image::rows(&self.writer).unwrap_or(image::NO_ROWS));
            let what = "journal mode in doubt".to_owned();
            ledger.add(Commit { content: rows, outcome: Outcome::Unknown, what });
        }
        result
    }

    fn without_wal(&self, ledger: &mut Ledger) -> rusqlite::Result<()> {
        let kept = || Image::read(&self.writer)?.kept(&self.writer);
        if self.random.chance(1, 2) {
            ledger.keep(kept()?);
            self.transaction("insert without WAL", ledger, |app| app.insert(3))?;
        }
        if self.random.chance(1, 2) {
            ledger.keep(kept()?);
            let page_size = self.random.pick(&[512, 1024, 4096, 8192]).copied().unwrap_or(4096);
            self.writer.execute_batch(&format!("PRAGMA page_size={page_size}"))?;
            self.vacuum(ledger)?;
        }
        let rows = Content::of_rows(image::rows(&self.writer)?);
        self.commit("journal_mode=WAL", rows, ledger, "PRAGMA journal_mode=WAL", None)
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
        let image = Image::read(&self.writer)?;
        self.commit(what, image.prospect(), ledger, "COMMIT", Some(image))
    }

    fn vacuum(&self, ledger: &mut Ledger) -> rusqlite::Result<()> {
        let content = Content::of_rows(image::rows(&self.writer)?);
        let before = ledger.last();
        let Err(error) = self.commit("vacuum", content, ledger, "VACUUM", None) else { return Ok(()) };
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        if !self.process.alive() || (ledger.last() == before && !full) {
            return Err(error);
        }
        // It commits the database, and after that the temporary one that it was made from: an error of the second, for
        // which there may be no room, says nothing about the first. Who is told one must look.
        if full {
            ledger.add(Commit { content, outcome: Outcome::Unknown, what: "vacuum".to_owned() });
        }
        let seen = Image::read(&self.writer)?.content();
        let whole = Some(image::rows(&self.writer)?) == content.rows;
        if whole && ledger.settle(seen) {
            return Ok(());
        }
        if whole && full {
            // There was no room for its last frame, so nothing of it can come back.
            ledger.withdraw();
        }
        Err(error)
    }

    /// `image` is what will be there, where that is known before.
    fn commit(
        &self,
        what: &str,
        content: Content,
        ledger: &mut Ledger,
        sql: &str,
        image: Option<Image>,
    ) -> rusqlite::Result<()> {
        let mut commit = Commit { content, outcome: Outcome::Unknown, what: what.to_owned() };
        let failures = self.failures();
        match to_the_end(&self.writer, sql) {
            Ok(()) => {
                commit.outcome = Outcome::Committed;
                let left = match image {
                    Some(image) => image.committed(&self.writer),
                    None => Image::read(&self.writer).map(|image| image.content()),
                };
                // The answer came; a power loss before the next look leaves the prospect as the record.
                if let Ok(content) = left {
                    commit.content = content;
                }
                // A transaction that changed nothing leaves nothing in the WAL either.
                let same =
                    |last: &Commit| content_is_known(last) && last.content.exact == commit.content.exact;
                if !ledger.commits().last().is_some_and(same) {
                    ledger.add(commit);
                }
                Ok(())
            }
            Err(error) => {
                let trouble = sort(&self.process, &error, self.failures() > failures);
                if matches!(trouble, Trouble::Dead | Trouble::Failed) {
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

    fn last_id(&self) -> rusqlite::Result<i64> {
        self.writer.query_row("SELECT coalesce(max(id), 0) FROM t", [], |row| row.get(0))
    }

    fn any_id(&self) -> rusqlite::Result<i64> {
        Ok(i64::try_from(self.random.below(self.last_id()?.unsigned_abs())).unwrap_or(0))
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
        let foreign = self.foreign.as_ref().filter(|_| self.random.chance(1, 2));
        let connection = foreign.unwrap_or(&self.writer);
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    }

    /// A reader that stays for some actions, or ends.
    fn read(&self) -> rusqlite::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        if reader.is_autocommit() {
            reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
        } else {
            reader.execute_batch("ROLLBACK")
        }
    }
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, name TEXT, body BLOB);
                      CREATE INDEX IF NOT EXISTS t_name ON t(name)";

/// The writer's connection, to a database in WAL mode.
fn prepare(vfs: &Vfs, path: &str, shape: Shape, ledger: &mut Ledger) -> rusqlite::Result<Connection> {
    let writer = patient(vfs.open(path)?)?;
    writer.execute_batch(&format!("PRAGMA page_size={}; PRAGMA synchronous=EXTRA", shape.page_size))?;
    if ledger.commits().is_empty() {
        // From here on there may be a page, and whoever comes first finds it.
        let what = "birth".to_owned();
        ledger.add(Commit { content: Content::unborn(), outcome: Outcome::Unknown, what });
    }
    let empty = writer.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? == 0;
    if empty {
        writer.execute_batch(&format!("PRAGMA auto_vacuum={}", if shape.vacuums { 2 } else { 0 }))?;
    }
    to_the_end(&writer, "PRAGMA journal_mode=WAL")?;
    writer.execute_batch(&format!("{}; PRAGMA cache_size={}", synchronous(shape), shape.cache))?;
    writer.query_row(&format!("PRAGMA wal_autocheckpoint={}", shape.autocheckpoint), [], |_| Ok(()))?;
    Ok(writer)
}

fn content_is_known(commit: &Commit) -> bool {
    commit.outcome == Outcome::Committed && commit.content.exact.is_some()
}

/// Some pragmas give a row before they do what may fail: only the last step tells.
fn to_the_end(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// In WAL mode.
fn synchronous(shape: Shape) -> &'static str {
    if shape.synced { "PRAGMA synchronous=FULL" } else { "PRAGMA synchronous=NORMAL" }
}

fn patient(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(std::time::Duration::ZERO)?;
    Ok(connection)
}

/// `failed`: one of its calls was made to fail meanwhile.
fn sort(process: &Process, error: &rusqlite::Error, failed: bool) -> Trouble {
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
        // A read that fails has many names: the schema is "malformed" where it could not be read.
        _ if failed => Trouble::Failed,
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
