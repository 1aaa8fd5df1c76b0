//! Compares a restored database with the one that it is a copy of, page by page, through SQLite.
//!
//! Only reads, a piece at a time, each in a read transaction of its own: one that lasted for the whole of a large database
//! would keep its WAL from being reset for as long, and who checkpoints waiting (R12). So a database that is written to
//! meanwhile is seen at several moments, and no difference counts as certain then. Its application goes on; it may itself
//! wait for a lock, a few seconds at most.

use crate::files::RealFiles;
use crate::local::{self, State};
use litekeep_formats::wal::{WalHeader, frame_len};
use litekeep_formats::{PageNo, Txid};
use rusqlite::{Connection, OpenFlags, Transaction};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where page 1 holds what SQLite counts anew whenever somebody writes: the change counter, the page count's validity
/// and the version of the library that wrote last.
const COUNTED: [std::ops::Range<usize>; 2] = [24..28, 92..100];

/// How long a reader waits for a lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pages that are read in one transaction.
const PIECE: u32 = 1024;

/// How the database and the restored copy lie to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Every page is the same.
    Same {
        /// Pages compared.
        pages: u32,
    },
    /// Pages differ.
    Differs {
        /// How many.
        pages: u32,
        /// The first one.
        first: u32,
        /// The WAL shows that nothing was written past what was replicated; else the database may simply have gone on.
        certain: bool,
    },
    /// The database is at another transaction, or was never replicated to this place: nothing to compare.
    Elsewhere(Option<Txid>),
    /// There is no database.
    NoDatabase,
    /// It could not be read.
    Unreadable(String),
}

/// The database that a copy is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// Its file.
    pub database: &'a Path,
    /// Where its local state lies.
    pub state_dir: &'a Path,
    /// This very process replicates it. Then it is opened in no way that goes past SQLite's own list of locks: a
    /// descriptor closed there would take the locks of all others with it (POSIX).
    pub held_here: bool,
}

/// Compares a database with `copy`, a restore of `txid` from `replica`.
pub fn compare(original: Original<'_>, copy: &Path, replica: &str, txid: Txid) -> Compared {
    let Original { database, state_dir, held_here } = original;
    match database.try_exists() {
        Ok(true) => {}
        Ok(false) => return Compared::NoDatabase,
        Err(error) => return Compared::Unreadable(error.to_string()),
    }
    let here = |state: &State| state.replica == replica && state.txid == txid;
    let state = match local::peek(&RealFiles, state_dir) {
        Ok(Some(state)) if here(&state) => state,
        Ok(state) => return Compared::Elsewhere(state.map(|state| state.txid)),
        Err(error) => return Compared::Unreadable(error.to_string()),
    };
    let certain = wal_is_captured(database, &state);
    let compared = match pages(database, copy, certain, held_here, (PIECE, &mut || {})) {
        Ok(compared) => compared,
        Err(error) => return Compared::Unreadable(error),
    };
    match (compared, local::peek(&RealFiles, state_dir)) {
        // It went on while we looked: its state shows it, or its WAL does already.
        (Compared::Differs { .. }, Ok(Some(now))) if !here(&now) => Compared::Elsewhere(Some(now.txid)),
        (Compared::Differs { pages, first, certain }, _) => {
            Compared::Differs { pages, first, certain: certain && wal_is_captured(database, &state) }
        }
        (compared, _) => compared,
    }
}

/// `piece`: how many pages are read in one transaction, and what is called between two.
fn pages(
    database: &Path,
    copy: &Path,
    mut certain: bool,
    held_here: bool,
    (piece, between): (u32, &mut dyn FnMut()),
) -> Result<Compared, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let connection = open(database, held_here).map_err(|error| text(&error))?;
    let copy = File::open(copy).map_err(|error| text(&error))?;
    let mut tally = Tally { seen: 0, differ: 0, first: 0 };
    let mut version = None;
    let page_size = loop {
        let moment = Moment::begin(&connection).map_err(|error| text(&error))?;
        certain &= *version.get_or_insert(moment.version) == moment.version;
        let to = moment.pages.min(tally.seen.saturating_add(piece));
        moment.compare(to, &copy, &mut tally).map_err(|error| text(&*error))?;
        if tally.seen >= moment.pages {
            break moment.page_size;
        }
        drop(moment);
        between();
    };
    // Pages that only the copy has.
    let expected = copy.metadata().map_err(|error| text(&error))?.len() / page_size.max(1);
    for number in u64::from(tally.seen) + 1..=expected {
        tally.note(u32::try_from(number).unwrap_or(u32::MAX), false);
    }
    Ok(match tally.differ {
        0 => Compared::Same { pages: tally.seen },
        pages => Compared::Differs { pages, first: tally.first, certain },
    })
}

/// The database as it is during one read transaction, which ends when this is dropped.
struct Moment<'a> {
    transaction: Transaction<'a>,
    /// SQLite's word for "nobody else has written since".
    version: u32,
    pages: u32,
    page_size: u64,
}

impl<'a> Moment<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        let transaction = connection.unchecked_transaction()?;
        let ask = |pragma: &str| transaction.query_row(pragma, [], |row| row.get::<_, u32>(0));
        let (version, pages) = (ask("PRAGMA data_version")?, ask("PRAGMA page_count")?);
        let page_size = u64::from(ask("PRAGMA page_size")?);
        Ok(Self { transaction, version, pages, page_size })
    }

    /// Compares what comes next, up to page `to`.
    fn compare(&self, to: u32, copy: &File, tally: &mut Tally) -> Result<(), Box<dyn std::error::Error>> {
        let mut other = vec![0; usize::try_from(self.page_size).unwrap_or(0)];
        let mut statement =
            self.transaction.prepare_cached("SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1")?;
        for number in tally.seen + 1..=to {
            let mut rows = statement.query([number])?;
            let row = rows.next()?.ok_or("a page is not there")?;
            let data = row.get_ref(0)?.as_blob()?;
            let same = read_page(copy, number, &mut other)? && is_same(number, data, &other);
            tally.note(number, same || is_lock_page(number, self.page_size));
        }
        Ok(())
    }
}

struct Tally {
    seen: u32,
    differ: u32,
    first: u32,
}

impl Tally {
    fn note(&mut self, number: u32, same: bool) {
        self.seen += 1;
        if !same {
            self.differ += 1;
            if self.first == 0 {
                self.first = number;
            }
        }
    }
}

/// `false` where the copy ends before the page.
fn read_page(copy: &File, number: u32, into: &mut [u8]) -> io::Result<bool> {
    let offset = u64::from(number - 1) * into.len() as u64;
    match copy.read_exact_at(into, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

fn is_same(number: u32, data: &[u8], other: &[u8]) -> bool {
    if number != 1 || data.len() != other.len() {
        return data == other;
    }
    let counted = |at: &usize| COUNTED.iter().any(|range| range.contains(at));
    (0..data.len()).filter(|at| !counted(at)).all(|at| data[at] == other[at])
}

fn is_lock_page(number: u32, page_size: u64) -> bool {
    let size = u32::try_from(page_size).ok().and_then(litekeep_formats::PageSize::new);
    size.is_some_and(|size| Some(size.lock_page()) == PageNo::new(number))
}

/// Without a WAL nobody has the file open, and it is read as it lies, so that nothing is made beside it.
fn open(database: &Path, held_here: bool) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let alone = !held_here && !beside(database, "-wal").exists();
    let connection = match alone {
        true => Connection::open_with_flags(crate::restore::immutable_uri(database), flags)?,
        false => Connection::open_with_flags(database, flags - OpenFlags::SQLITE_OPEN_URI)?,
    };
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether the WAL file holds no frame past what was captured. One that is gone says nothing.
fn wal_is_captured(database: &Path, state: &State) -> bool {
    let Ok(wal) = File::open(beside(database, "-wal")) else { return false };
    let mut bytes = [0; WalHeader::LEN];
    let len = wal.metadata().map_or(0, |found| found.len());
    let header = wal.read_exact_at(&mut bytes, 0).ok().and_then(|()| WalHeader::parse(&bytes).ok());
    let Some(header) = header else { return false };
    let frames = (len - WalHeader::LEN as u64) / frame_len(state.page_size) as u64;
    header.salts == state.position.salts && frames <= u64::from(state.position.frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_a_comparison_stands_in_no_checkpoints_way_and_is_certain_only_of_what_stood_still() {
        for (statement, expected) in [
            ("SELECT 1", Compared::Same { pages: 0 }),
            ("UPDATE t SET v = v + 1", Compared::Differs { pages: 0, first: 0, certain: false }),
            ("DELETE FROM t; VACUUM", Compared::Differs { pages: 0, first: 0, certain: false }),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let (path, copy) = (dir.path().join("a.db"), dir.path().join("copy.db"));
            let app = Connection::open(&path).expect("opened");
            app.execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE t (v INTEGER, b BLOB);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
                 INSERT INTO t SELECT i, randomblob(1000) FROM n; PRAGMA wal_checkpoint(TRUNCATE)",
            )
            .expect("written");
            std::fs::copy(&path, &copy).expect("copied");
            let mut calls = 0;
            let mut between = || {
                calls += 1;
                if calls == 3 {
                    app.execute_batch(statement).expect("the application goes on");
                }
                let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
                let busy: i64 = app.query_row(checkpoint, [], |row| row.get(0)).expect("asked");
                assert_eq!(busy, 0, "{statement}");
            };
            let compared = pages(&path, &copy, true, true, (2, &mut between)).expect("compared");
            let plain = match compared {
                Compared::Same { pages } if pages > 20 => Compared::Same { pages: 0 },
                Compared::Differs { pages, first, certain } if pages > 0 && first > 1 => {
                    Compared::Differs { pages: 0, first: 0, certain }
                }
                other => other,
            };
            assert_eq!(plain, expected, "{statement}");
            assert!(calls >= 3, "{statement}");
        }
    }

    #[test]
    fn what_differs_in_a_database_that_stands_still_is_certain_in_however_many_pieces() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, copy) = (dir.path().join("a.db"), dir.path().join("copy.db"));
        let app = Connection::open(&path).expect("opened");
        app.execute_batch(
            "CREATE TABLE t (b BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
             INSERT INTO t SELECT randomblob(1000) FROM n",
        )
        .expect("written");
        let mut bytes = std::fs::read(&path).expect("read");
        let count = u32::try_from(bytes.len() / 4096).expect("few");
        // One page differs, and one more is only in the copy.
        bytes[5 * 4096 + 100] ^= 1;
        bytes.extend([7; 4096]);
        std::fs::write(&copy, &bytes).expect("written");
        for piece in [1, 3, count, PIECE] {
            let compared = pages(&path, &copy, true, true, (piece, &mut || {}));
            assert_eq!(compared, Ok(Compared::Differs { pages: 2, first: 6, certain: true }), "{piece}");
        }
    }
}
