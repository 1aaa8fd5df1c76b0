//! Digests of a database as one of its connections sees it, committed or not.

use super::ledger::Content;
use crate::history::fold;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result};
use std::collections::BTreeSet;

/// The digests of a database's pages.
pub(super) struct Image {
    /// Of every page, ascending, page 1 first.
    pages: Vec<u64>,
    /// Of page 1 without the change counters that SQLite sets as it commits, and without the journal mode.
    first: u64,
}

impl Image {
    /// Reads every page.
    pub(super) fn read(conn: &Connection) -> Result<Self> {
        let mut statement = conn.prepare_cached("SELECT pgno, data FROM sqlite_dbpage ORDER BY pgno")?;
        let mut rows = statement.query([])?;
        let mut image = Self { pages: Vec::new(), first: 0 };
        while let Some(row) = rows.next()? {
            let data = row.get_ref(1)?.as_blob()?;
            image.pages.push(fold(0, data));
            if row.get::<_, i64>(0)? == 1 {
                image.first = without_counters(data);
            }
        }
        Ok(image)
    }

    /// Of every page but those that are free and hold nothing, and but the counters. It is all that a rollback journal
    /// brings back: SQLite does not write the old content of such a page down before it uses it.
    pub(super) fn kept(&self, conn: &Connection) -> Result<u64> {
        let free = free_pages(conn)?;
        let kept = self.pages.iter().enumerate().skip(1).filter(|(index, _)| !free.contains(&(index + 1)));
        Ok(kept.fold(fold(self.pages.len() as u64, &self.first.to_le_bytes()), |digest, (index, page)| {
            fold(fold(digest, &index.to_le_bytes()), &page.to_le_bytes())
        }))
    }

    /// Of a transaction that will commit now: it will leave these pages.
    pub(super) fn prospect(&self) -> Content {
        Content { exact: None, ..self.content() }
    }

    /// Of what is committed.
    pub(super) fn content(&self) -> Content {
        let all = |first: u64| {
            let rest = self.pages.iter().skip(1);
            rest.fold(fold(0, &first.to_le_bytes()), |digest, page| fold(digest, &page.to_le_bytes()))
        };
        let first = self.pages.first().copied().unwrap_or(0);
        Content { exact: Some(all(first)), pages: Some(all(self.first)), ..Content::UNKNOWN }
    }

    /// After the commit: of all pages only the first one's counters are others. Reading every page again for them is
    /// what most of a simulation's time once went into.
    pub(super) fn committed(mut self, conn: &Connection) -> Result<Content> {
        let mut statement = conn.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = 1")?;
        let first: Option<Vec<u8>> = statement.query_row([], |row| row.get(0)).optional()?;
        let Some(data) = first.filter(|data| without_counters(data) == self.first) else {
            return Ok(Self::read(conn)?.content());
        };
        if let Some(digest) = self.pages.first_mut() {
            *digest = fold(0, &data);
        }
        Ok(self.content())
    }
}

/// The leaves of the free list (file format, 1.5). Its trunks hold something: the numbers of these.
fn free_pages(conn: &Connection) -> Result<BTreeSet<usize>> {
    let mut statement = conn.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    let mut page = |number: u32| statement.query_row([number], |row| row.get::<_, Vec<u8>>(0)).optional();
    let field = |page: &[u8], at: usize| {
        let bytes = page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        u32::from_be_bytes(bytes)
    };
    let (mut free, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut next = page(1)?.map_or(0, |first| field(&first, 32));
    while next != 0 && seen.insert(next) {
        let Some(trunk) = page(next)? else { break };
        let leaves = usize::try_from(field(&trunk, 4)).unwrap_or(0).min(trunk.len() / 4);
        free.extend((0..leaves).map(|leaf| usize::try_from(field(&trunk, 8 + leaf * 4)).unwrap_or(0)));
        next = field(&trunk, 0);
    }
    Ok(free)
}

fn without_counters(page: &[u8]) -> u64 {
    let mut page = page.to_vec();
    if page.len() >= 100 {
        page[18..20].fill(0);
        page[24..28].fill(0);
        page[92..100].fill(0);
    }
    fold(0, &page)
}

/// The digest of every row; 0 for a database without tables.
pub(super) fn rows(conn: &Connection) -> Result<u64> {
    let mut tables =
        conn.prepare_cached("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name")?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    let mut digest = NO_ROWS;
    for name in names {
        digest = fold(digest, name.as_bytes());
        let mut statement = conn.prepare(&format!("SELECT * FROM \"{name}\" ORDER BY 1"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                digest = match row.get_ref(column)? {
                    ValueRef::Null => fold(digest, &[0]),
                    ValueRef::Integer(value) => fold(digest, &value.to_le_bytes()),
                    ValueRef::Real(value) => fold(digest, &value.to_le_bytes()),
                    ValueRef::Text(value) | ValueRef::Blob(value) => fold(digest, value),
                };
            }
        }
    }
    Ok(digest)
}

/// What [`rows`] gives for a database without tables.
pub(super) const NO_ROWS: u64 = 0;
