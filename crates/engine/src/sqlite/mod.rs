//! The engine's four connections to one database, and the protection of its WAL.
//!
//! Two reading connections take turns in holding a read transaction (`rotate`), so that the WAL cannot be restarted
//! before what it holds was captured. `ctl` checkpoints and asks for facts; `lock` takes the write lock for the last
//! step of a checkpoint. No connection ever waits for a lock while another one holds something: `busy_timeout` is 0
//! everywhere, and whoever is turned away tries again later.
//!
//! Nothing is ever written to the database, no tables, no rows, but for one thing: an older state of the chain is brought
//! forward, in one transaction; by following, slot by slot.

mod raw;
mod scan;

pub(crate) use scan::Scan;

use litekeep_core::assess::Facts;
use litekeep_formats::walindex::WalIndexHeader;
use litekeep_formats::{PageNo, PageSize};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::path::Path;

/// What SQLite answered.
pub(crate) type SqliteResult<T> = Result<T, rusqlite::Error>;

/// Whether an error only means that somebody holds a lock.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// How a passive checkpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checkpointed {
    /// It ran; some frames may be left because of a reader.
    Ran,
    /// Somebody else holds the checkpoint lock; nothing was done.
    Busy,
}

/// See the module's text.
pub(crate) struct Edge {
    hold: Reader,
    next: Reader,
    ctl: Connection,
    lock: Connection,
}

/// A connection that is in a read transaction, or not.
struct Reader {
    connection: Connection,
    open: bool,
    /// The frames that were visible, and whether all were back-filled, when the transaction began.
    began: Option<Facts>,
}

impl Edge {
    /// Opens the connections; the database must be there and in WAL mode, or become so here.
    ///
    /// # Errors
    /// SQLite's: no database, locked by somebody in exclusive mode, not a database.
    pub(crate) fn open(path: &Path, vfs: Option<&str>) -> SqliteResult<Self> {
        let ctl = connect(path, vfs)?;
        let mode: String = ctl.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            let now = change_to_wal(&ctl)?;
            if !now.eq_ignore_ascii_case("wal") {
                return Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_CANTOPEN),
                    Some(format!("journal mode stays {now}: WAL mode is needed to replicate")),
                ));
            }
        }
        let reader =
            || Ok::<_, rusqlite::Error>(Reader { connection: connect(path, vfs)?, open: false, began: None });
        let lock = connect(path, vfs)?;
        // What it commits, a later state of the chain, must outlive the power before the local state speaks of it.
        lock.execute_batch("PRAGMA synchronous=FULL")?;
        let edge = Self { hold: reader()?, next: reader()?, lock, ctl };
        touch(&edge.ctl)?;
        Ok(edge)
    }

    /// What the WAL index says now, or `None` while a writer is in the middle of changing it.
    ///
    /// # Errors
    /// SQLite's. A header that stays torn (its writer was killed there) is repaired by SQLite's own recovery, which
    /// a read on `ctl` starts; the held read transaction stays.
    pub(crate) fn facts(&self) -> SqliteResult<Option<Facts>> {
        facts(&self.ctl)
    }

    /// Whether a checkpointer is at work that does not back-fill just now: it waits for a reader or a writer, or is
    /// about to begin.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn checkpointer_waits(&self) -> SqliteResult<bool> {
        let free = |lock| {
            raw::is_free(&self.ctl, lock)
                .map_err(|code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
        };
        Ok(!free(raw::Lock::Checkpoint)? && free(raw::Lock::BackFill)?)
    }

    /// Begins protection where there is none yet.
    pub(crate) fn begin_hold(&mut self) -> SqliteResult<()> {
        Self::begin(&self.ctl, &mut self.hold)
    }

    /// Begins to read. What was committed then must be known: with an index that cannot be read it is not begun.
    fn begin(ctl: &Connection, reader: &mut Reader) -> SqliteResult<()> {
        if reader.open {
            return Ok(());
        }
        reader.begin()?;
        match facts(ctl) {
            Ok(Some(facts)) => reader.began = Some(facts),
            other => {
                reader.end();
                return other
                    .and(Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)));
            }
        }
        Ok(())
    }

    /// Ends protection: what is not captured may be lost from the WAL from here on.
    pub(crate) fn end_hold(&mut self) {
        self.hold.end();
    }

    /// Whether a read transaction keeps the WAL from being restarted unseen.
    pub(crate) fn is_protected(&self) -> bool {
        self.hold.open || self.next.open
    }

    /// The facts when the held read transaction began.
    pub(crate) fn held_since(&self) -> Option<Facts> {
        self.hold.began
    }

    /// First half of a rotation: a second read transaction begins while the first still holds.
    pub(crate) fn begin_next(&mut self) -> SqliteResult<()> {
        Self::begin(&self.ctl, &mut self.next)
    }

    /// Second half: the old read transaction ends, the new one is what holds.
    pub(crate) fn finish_rotation(&mut self) {
        std::mem::swap(&mut self.hold, &mut self.next);
        self.next.end();
    }

    /// Gives up a rotation: the old read transaction goes on holding.
    pub(crate) fn abandon_rotation(&mut self) {
        self.next.end();
    }

    /// One passive checkpoint, which waits for nobody.
    pub(crate) fn checkpoint(&self) -> SqliteResult<Checkpointed> {
        self.run_checkpoint("PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// Cuts the WAL file to nothing if nobody is in the way.
    pub(crate) fn checkpoint_truncate(&self) -> SqliteResult<Checkpointed> {
        self.run_checkpoint("PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn run_checkpoint(&self, pragma: &str) -> SqliteResult<Checkpointed> {
        match self.ctl.query_row(pragma, [], |row| row.get::<_, i64>(0)) {
            Ok(0) => Ok(Checkpointed::Ran),
            Ok(_) => Ok(Checkpointed::Busy),
            Err(error) if is_busy(&error) => Ok(Checkpointed::Busy),
            Err(error) => Err(error),
        }
    }

    /// Tries once to take the write lock; `false` if somebody has it.
    pub(crate) fn try_write_lock(&self) -> SqliteResult<bool> {
        match self.lock.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => Ok(true),
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the write lock back.
    pub(crate) fn write_unlock(&self) {
        if !self.lock.is_autocommit() {
            // Nothing was written: there is nothing that a rollback could fail to undo.
            let _ = self.lock.execute_batch("ROLLBACK");
        }
    }

    /// Writes a page inside the transaction that [`Edge::try_write_lock`] began, through SQLite's own page table.
    pub(crate) fn write_page(&self, page: PageNo, data: &[u8]) -> SqliteResult<()> {
        let mut insert = self.lock.prepare_cached("INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, ?2)")?;
        insert.execute((page.get(), data)).map(drop)
    }

    /// Cuts the database off behind `pages`, in the same transaction; nothing happens if it is not longer.
    pub(crate) fn cut_after(&self, pages: u32) -> SqliteResult<()> {
        let now: u32 = self.lock.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        if now > pages {
            let mut cut =
                self.lock.prepare_cached("INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, NULL)")?;
            cut.execute([pages + 1])?;
        }
        Ok(())
    }

    /// Commits that transaction.
    pub(crate) fn commit(&self) -> SqliteResult<()> {
        self.lock.execute_batch("COMMIT")
    }

    /// Begins to read the database as a whole, in a read transaction of its own. Protection goes on meanwhile.
    pub(crate) fn scan(&self, path: &Path, vfs: Option<&str>) -> SqliteResult<Option<Scan>> {
        Scan::begin(self, connect(path, vfs)?)
    }
}

/// See [`Edge::facts`].
fn facts(ctl: &Connection) -> SqliteResult<Option<Facts>> {
    for round in 0..64 {
        if let Some(facts) = facts_once(ctl)? {
            return Ok(Some(facts));
        }
        if round == 40 {
            match touch(ctl) {
                Err(error) if !is_busy(&error) => return Err(error),
                _ => {}
            }
        } else if round > 8 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    Ok(None)
}

fn facts_once(ctl: &Connection) -> SqliteResult<Option<Facts>> {
    let copy = match raw::wal_index(ctl) {
        Ok(copy) => copy,
        Err(ffi::SQLITE_NOTFOUND) => {
            touch(ctl)?;
            return Ok(None);
        }
        Err(code) => return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    };
    let Ok(index) = WalIndexHeader::parse(&copy) else { return Ok(None) };
    // After recovery of an empty WAL the index knows neither page size nor page count.
    let page_size = match index.page_size {
        Some(size) => size,
        None => page_size(ctl)?,
    };
    let pages = if index.mx_frame == 0 { page_count(ctl)? } else { index.n_page };
    Ok(Some(Facts {
        page_size,
        mx_frame: index.mx_frame,
        pages,
        backfilled: index.n_backfill,
        checksum: index.frame_checksum,
        salts: index.salts,
        change: index.i_change,
    }))
}

fn page_size(ctl: &Connection) -> SqliteResult<PageSize> {
    let bytes: u32 = ctl.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    PageSize::new(bytes).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, i64::from(bytes)))
}

fn page_count(ctl: &Connection) -> SqliteResult<u32> {
    ctl.query_row("PRAGMA page_count", [], |row| row.get(0))
}

impl Reader {
    fn begin(&mut self) -> SqliteResult<()> {
        if !self.open {
            self.connection.execute_batch("BEGIN")?;
            if let Err(error) = touch(&self.connection) {
                let _ = self.connection.execute_batch("ROLLBACK");
                return Err(error);
            }
            self.open = true;
        }
        Ok(())
    }

    fn end(&mut self) {
        if self.open {
            // A read transaction: its end cannot fail in a way that matters.
            let _ = self.connection.execute_batch("ROLLBACK");
            self.open = false;
            self.began = None;
        }
    }
}

/// Returns the mode it is in then. SQLite gives that before it commits the change: whoever does not ask on does not hear
/// that the disk was full, and holds a lock on a database in the old mode, in which nobody can write any more.
fn change_to_wal(connection: &Connection) -> SqliteResult<String> {
    let mut statement = connection.prepare("PRAGMA journal_mode=WAL")?;
    let mut rows = statement.query([])?;
    let mut mode = String::new();
    while let Some(row) = rows.next()? {
        mode = row.get(0)?;
    }
    Ok(mode)
}

/// One read, so that the transaction really begins and the index is mapped.
fn touch(connection: &Connection) -> SqliteResult<()> {
    let mut statement = connection.prepare_cached("SELECT rootpage FROM sqlite_schema LIMIT 1")?;
    let mut rows = statement.query([])?;
    rows.next().map(drop)
}

fn connect(path: &Path, vfs: Option<&str>) -> SqliteResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection
        .execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-256")?;
    Ok(connection)
}
