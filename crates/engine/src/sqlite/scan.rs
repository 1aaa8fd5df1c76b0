//! Reads a whole database, page by page, in one read transaction, through SQLite's own page table.
//!
//! Writers go on; the WAL grows by what they write meanwhile. The scan knows the exact WAL frame that it shows, so
//! that capture goes on right behind it.

use super::{Edge, SqliteResult, touch};
use litekeep_core::assess::Facts;
use litekeep_formats::{PageNo, PageSize};
use rusqlite::Connection;

/// A read transaction over the whole database.
pub(crate) struct Scan {
    connection: Connection,
    facts: Facts,
}

impl Scan {
    /// `None` when writers kept changing the index; try again.
    pub(super) fn begin(edge: &Edge, connection: Connection) -> SqliteResult<Option<Self>> {
        for _ in 0..256 {
            let Some(before) = edge.facts()? else { continue };
            connection.execute_batch("BEGIN")?;
            touch(&connection)?;
            // The same change counter before and after: the transaction shows exactly this state.
            if let Some(after) = edge.facts()?
                && (after.change, after.salts, after.mx_frame)
                    == (before.change, before.salts, before.mx_frame)
            {
                return Ok(Some(Self { connection, facts: after }));
            }
            connection.execute_batch("ROLLBACK")?;
        }
        Ok(None)
    }

    /// The state that the scan shows.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Bytes of a page.
    pub(crate) fn page_size(&self) -> PageSize {
        self.facts.page_size
    }

    /// Pages of the database, the lock page included.
    pub(crate) fn pages(&self) -> SqliteResult<u32> {
        self.connection.query_row("PRAGMA page_count", [], |row| row.get(0))
    }

    /// Calls `each` with every page but the lock page, ascending.
    pub(crate) fn for_each<E: From<rusqlite::Error>>(
        &self,
        mut each: impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let lock_page = self.page_size().lock_page();
        let mut statement = self.connection.prepare("SELECT pgno, data FROM sqlite_dbpage('main')")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number: u32 = row.get(0)?;
            let Some(page) = PageNo::new(number).filter(|page| *page != lock_page) else { continue };
            let data = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            each(page, data)?;
        }
        Ok(())
    }

    /// One page; `None` past the end of the database.
    pub(crate) fn page(&self, page: PageNo) -> SqliteResult<Option<Vec<u8>>> {
        let mut statement =
            self.connection.prepare_cached("SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1")?;
        let mut rows = statement.query([page.get()])?;
        match rows.next()? {
            Some(row) => Ok(Some(row.get(0)?)),
            None => Ok(None),
        }
    }
}
