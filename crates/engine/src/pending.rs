//! Committed pages that are in no slot yet: some only in the WAL, some in the local tail.
//!
//! A page may stay in the WAL for as long as the WAL is protected. Before protection could lapse, what is only there
//! is copied into the *tail*, a plain append-only file of (page number, page) records, and the position that it
//! reaches is saved with it in one step.

use crate::files::{self, File, Files, Open};
use crate::local::{Local, State};
use crate::wal::{Captured, Wal};
use litekeep_core::assess::Position;
use litekeep_formats::{PageNo, PageSize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Where a pending page's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In this frame of the WAL.
    Wal(u32),
    /// At this byte of the tail.
    Tail(u64),
}

/// See the module's text.
pub(crate) struct Pending {
    files: Arc<dyn Files>,
    tail: Option<Arc<dyn File>>,
    tail_end: u64,
    page_size: PageSize,
    pages: BTreeMap<PageNo, Source>,
    commit: u32,
    lowest: u32,
    position: Position,
}

impl Pending {
    /// What the state speaks of: its tail, and nothing of the WAL behind its position.
    pub(crate) fn load(files: Arc<dyn Files>, local: &Local, state: &State) -> io::Result<Self> {
        let mut pending = Self {
            files,
            tail: None,
            tail_end: state.tail,
            page_size: state.page_size,
            pages: BTreeMap::new(),
            commit: state.tail_commit,
            lowest: state.tail_lowest,
            position: state.position,
        };
        if state.tail > 0 {
            let tail = pending.files.open(&local.tail(), Open::Write)?;
            let mut at = 0;
            while at < state.tail {
                let mut number = [0; 4];
                files::read_exact_at(&*tail, &mut number, at)?;
                let page = PageNo::new(u32::from_le_bytes(number)).ok_or(io::ErrorKind::InvalidData)?;
                pending.pages.insert(page, Source::Tail(at + 4));
                at += pending.record();
            }
            pending.pages.retain(|page, _| page.get() <= pending.commit);
            pending.tail = Some(tail);
        }
        Ok(pending)
    }

    fn record(&self) -> u64 {
        4 + u64::from(self.page_size.get())
    }

    /// Behind the last pending commit.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// Pages of the database after the last pending commit.
    pub(crate) fn commit(&self) -> u32 {
        self.commit
    }

    /// The smallest size that any pending commit left.
    pub(crate) fn lowest(&self) -> u32 {
        self.lowest
    }

    /// The pages, ascending.
    pub(crate) fn pages(&self) -> impl Iterator<Item = PageNo> + '_ {
        self.pages.keys().copied()
    }

    /// Whether a page is pending.
    pub(crate) fn contains(&self, page: PageNo) -> bool {
        self.pages.contains_key(&page)
    }

    /// Nothing is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Whether some pages are only in the WAL.
    pub(crate) fn needs_wal(&self) -> bool {
        self.pages.values().any(|source| matches!(source, Source::Wal(_)))
    }

    /// Pages times page size.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.pages.len() as u64 * u64::from(self.page_size.get())
    }

    /// Bytes of the tail.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tail_end
    }

    /// Whether everything pending is in the tail.
    pub(crate) fn is_staged(&self, state: &State) -> bool {
        state.position == self.position && self.pages.values().all(|source| matches!(source, Source::Tail(_)))
    }

    /// Adds committed frames.
    pub(crate) fn absorb(&mut self, captured: Captured) {
        self.pages.extend(captured.pages.into_iter().map(|(page, frame)| (page, Source::Wal(frame))));
        self.commit = captured.commit;
        self.lowest = self.lowest.min(captured.lowest);
        self.pages.retain(|page, _| page.get() <= captured.commit);
        self.position = captured.position;
    }

    /// Nothing is pending behind `position`, for a database of `commit` pages; the tail begins anew.
    pub(crate) fn reset(&mut self, position: Position, commit: u32) {
        self.pages.clear();
        self.page_size = position.page_size;
        self.position = position;
        self.commit = commit;
        self.lowest = commit;
        self.tail_end = 0;
    }

    /// Reads a pending page.
    pub(crate) fn read(&self, page: PageNo, wal: &mut Wal, buf: &mut [u8]) -> io::Result<()> {
        match self.pages.get(&page) {
            Some(Source::Wal(frame)) => wal.page(*frame, self.page_size, buf),
            Some(Source::Tail(at)) => {
                let tail = self.tail.as_ref().ok_or(io::ErrorKind::NotFound)?;
                files::read_exact_at(&**tail, buf, *at)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Copies what is only in the WAL into the tail and makes it durable; the caller then saves the state.
    pub(crate) fn stage(&mut self, local: &Local, wal: &mut Wal) -> io::Result<()> {
        let only_in_wal: Vec<(PageNo, u32)> = self
            .pages
            .iter()
            .filter_map(|(page, source)| match source {
                Source::Wal(frame) => Some((*page, *frame)),
                Source::Tail(_) => None,
            })
            .collect();
        if only_in_wal.is_empty() {
            return Ok(());
        }
        let mut buf = vec![0; self.page_size.bytes()];
        for (page, frame) in only_in_wal {
            wal.page(frame, self.page_size, &mut buf)?;
            self.append(local, page, &buf)?;
        }
        self.sync()
    }

    /// Adds a page that a comparison found, straight into the tail.
    pub(crate) fn append(&mut self, local: &Local, page: PageNo, data: &[u8]) -> io::Result<()> {
        let tail = match &self.tail {
            Some(tail) => Arc::clone(tail),
            None => {
                let tail = self.files.open(&local.tail(), Open::CreateOrTruncate)?;
                self.files.sync_dir(local.dir())?;
                self.tail = Some(Arc::clone(&tail));
                tail
            }
        };
        let mut record = Vec::with_capacity(4 + data.len());
        record.extend_from_slice(&page.get().to_le_bytes());
        record.extend_from_slice(data);
        tail.write_at(&record, self.tail_end)?;
        self.pages.insert(page, Source::Tail(self.tail_end + 4));
        self.tail_end += self.record();
        Ok(())
    }

    /// Makes the tail durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.tail.as_ref().map_or(Ok(()), |tail| tail.sync())
    }

    /// Moves the position forward without new pages (a comparison that found nothing, or was appended).
    pub(crate) fn reached(&mut self, position: Position, commit: u32, lowest: u32) {
        self.position = position;
        self.commit = commit;
        self.lowest = self.lowest.min(lowest);
        self.pages.retain(|page, _| page.get() <= commit);
    }
}
