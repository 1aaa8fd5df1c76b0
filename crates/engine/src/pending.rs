//! Committed pages that are in no slot yet: some only in the WAL, some in the local tail.
//!
//! A page may stay in the WAL for as long as the WAL is protected. Before protection could lapse, what is only there
//! is copied into the *tail*, a file that only grows, and closed by a *mark* that says which position it reaches: pages
//! and position become durable by one fsync. What counts of a tail is what its last whole mark covers.
//!
//! ```text
//! page   4 bytes page number, little-endian; the page
//! mark   4 zero bytes; salts 4+4; frame 4; frame checksum 4+4; pages of the database 4; their least number 4; CRC 8
//! ```
//!
//! The CRC covers the tail's life (a random number in the state), and every byte of the tail before it but for earlier
//! CRCs: one that covers its own value is the same for whatever came before. So a torn mark does not count, nor does
//! one whose pages are torn, nor what an earlier tail left behind in the same file.

use crate::files::{self, File, Files, Open};
use crate::local::{Local, State};
use crate::wal::{Captured, Wal};
use litekeep_core::assess::Position;
use litekeep_core::limits;
use litekeep_formats::crc::Crc64;
use litekeep_formats::{PageNo, PageSize, Salts, WalChecksum};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Bytes of a page's number, and of what a mark says before its CRC.
const NUMBER: usize = 4;
const MARK: usize = NUMBER + 28;

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
    /// Where the tail goes on, and the CRC of its life and of everything before that.
    tail_end: u64,
    crc: Crc64,
    /// What a restart would find: the position and the end of the last mark.
    marked: (Position, u64),
    page_size: PageSize,
    pages: BTreeMap<PageNo, Source>,
    commit: u32,
    lowest: u32,
    position: Position,
}

fn begun(life: u64) -> Crc64 {
    let mut crc = Crc64::new();
    crc.update(&life.to_le_bytes());
    crc
}

impl Pending {
    /// What the state speaks of: its tail as far as that is whole, and nothing of the WAL behind.
    pub(crate) fn load(files: Arc<dyn Files>, local: &Local, state: &State) -> io::Result<Self> {
        let mut pending = Self {
            files,
            tail: None,
            tail_end: 0,
            crc: begun(state.tail),
            marked: (state.position, 0),
            page_size: state.page_size,
            pages: BTreeMap::new(),
            commit: state.commit,
            lowest: state.commit,
            position: state.position,
        };
        match pending.files.open(&local.tail(), Open::Write) {
            Ok(tail) => {
                pending.recover(&*tail)?;
                pending.tail = Some(tail).filter(|_| pending.tail_end > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(pending)
    }

    /// Takes the tail up to its last whole mark.
    fn recover(&mut self, tail: &dyn File) -> io::Result<()> {
        let (mut at, mut crc) = (0, self.crc.clone());
        let mut batch = Vec::new();
        let mut buf = vec![0; self.page_size.bytes().max(MARK + 8)];
        while let Some(number) = read(tail, &mut buf[..NUMBER], at)? {
            crc.update(number);
            match PageNo::new(u32::from_le_bytes(number.try_into().unwrap_or_default())) {
                Some(page) => {
                    let Some(data) = read(tail, &mut buf[..self.page_size.bytes()], at + NUMBER as u64)?
                    else {
                        break;
                    };
                    crc.update(data);
                    batch.push((page, Source::Tail(at + NUMBER as u64)));
                    at += self.record();
                }
                None => {
                    let Some(mark) = read(tail, &mut buf[..MARK + 8], at)? else { break };
                    crc.update(&mark[NUMBER..MARK]);
                    if mark[MARK..] != crc.value().to_le_bytes() {
                        break;
                    }
                    at += mark.len() as u64;
                    self.take_mark(mark, &mut batch);
                    (self.tail_end, self.crc) = (at, crc.clone());
                    self.marked = (self.position, at);
                }
            }
        }
        Ok(())
    }

    fn take_mark(&mut self, mark: &[u8], batch: &mut Vec<(PageNo, Source)>) {
        let field = |n: usize| {
            let at = NUMBER + 4 * n;
            u32::from_le_bytes(mark[at..at + 4].try_into().unwrap_or_default())
        };
        self.position = Position {
            page_size: self.page_size,
            salts: Salts(field(0), field(1)),
            frame: field(2),
            checksum: WalChecksum(field(3), field(4)),
        };
        (self.commit, self.lowest) = (field(5), field(6));
        self.pages.extend(batch.drain(..));
        self.pages.retain(|page, _| page.get() <= self.commit);
    }

    fn record(&self) -> u64 {
        NUMBER as u64 + u64::from(self.page_size.get())
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

    /// Whether a restart would find everything pending in the tail.
    pub(crate) fn is_staged(&self) -> bool {
        self.marked == (self.position, self.tail_end)
            && self.pages.values().all(|source| matches!(source, Source::Tail(_)))
    }

    /// Closes the tail's file until it is needed again: nothing may be pending in it.
    pub(crate) fn close(&mut self) {
        debug_assert!(self.pages.is_empty());
        self.tail = None;
    }

    /// Adds committed frames.
    pub(crate) fn absorb(&mut self, captured: Captured) {
        self.pages.extend(captured.pages.into_iter().map(|(page, frame)| (page, Source::Wal(frame))));
        self.commit = captured.commit;
        self.lowest = self.lowest.min(captured.lowest);
        self.pages.retain(|page, _| page.get() <= captured.commit);
        self.position = captured.position;
    }

    /// Nothing is pending behind `position`, for a database of `commit` pages; the tail begins a new life.
    pub(crate) fn reset(&mut self, position: Position, commit: u32, life: u64) {
        self.pages.clear();
        self.page_size = position.page_size;
        self.position = position;
        self.commit = commit;
        self.lowest = commit;
        self.tail_end = 0;
        self.crc = begun(life);
        self.marked = (position, 0);
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

    /// Copies what is only in the WAL into the tail and marks the position, durably, if `stand` says after the copies that
    /// the frames still were what was captured; `false` if not, and nothing of it counts. A wrong engine leaves out the
    /// copies.
    pub(crate) fn stage(
        &mut self,
        local: &Local,
        wal: &mut Wal,
        copies: bool,
        stand: impl Fn(&Position) -> bool,
    ) -> io::Result<bool> {
        let only_in_wal: Vec<(PageNo, u32)> = self
            .pages
            .iter()
            .filter_map(|(page, source)| match source {
                Source::Wal(frame) if copies => Some((*page, *frame)),
                _ => None,
            })
            .collect();
        let mut buf = vec![0; self.page_size.bytes()];
        let mut copied = Vec::with_capacity(only_in_wal.len());
        for (page, frame) in only_in_wal {
            match wal.page(frame, self.page_size, &mut buf) {
                // Cut off, and not for want of a disk.
                Err(_) if !stand(&self.position) => return Ok(false),
                read => read?,
            }
            copied.push((page, self.write(local, page, &buf)?));
        }
        if !copied.is_empty() && !stand(&self.position) {
            return Ok(false);
        }
        self.pages.extend(copied);
        self.mark(local)?;
        Ok(true)
    }

    /// Adds a page, which counts from the next mark on.
    pub(crate) fn append(&mut self, local: &Local, page: PageNo, data: &[u8]) -> io::Result<()> {
        let source = self.write(local, page, data)?;
        self.pages.insert(page, source);
        Ok(())
    }

    fn write(&mut self, local: &Local, page: PageNo, data: &[u8]) -> io::Result<Source> {
        let mut record = Vec::with_capacity(NUMBER + data.len());
        record.extend_from_slice(&page.get().to_le_bytes());
        record.extend_from_slice(data);
        self.tail(local)?.write_at(&record, self.tail_end)?;
        self.crc.update(&record);
        let at = self.tail_end + NUMBER as u64;
        self.tail_end += self.record();
        Ok(Source::Tail(at))
    }

    /// Closes what was added: from here on it counts.
    fn mark(&mut self, local: &Local) -> io::Result<()> {
        let (Position { salts, frame, checksum, .. }, mut crc) = (self.position, self.crc.clone());
        let mut mark = Vec::with_capacity(MARK + 8);
        for field in [0, salts.0, salts.1, frame, checksum.0, checksum.1, self.commit, self.lowest] {
            mark.extend_from_slice(&field.to_le_bytes());
        }
        crc.update(&mark);
        mark.extend_from_slice(&crc.value().to_le_bytes());
        let tail = self.tail(local)?;
        tail.write_at(&mark, self.tail_end)?;
        tail.sync()?;
        self.crc = crc;
        self.tail_end += mark.len() as u64;
        self.marked = (self.position, self.tail_end);
        Ok(())
    }

    /// The tail's file. Made ready beforehand, it costs a mark no more than its own fsync.
    pub(crate) fn tail(&mut self, local: &Local) -> io::Result<Arc<dyn File>> {
        let tail = match &self.tail {
            Some(tail) => Arc::clone(tail),
            None => {
                let tail = self.files.open(&local.tail(), Open::CreateOrKeep)?;
                self.files.sync_dir(local.dir())?;
                Arc::clone(self.tail.insert(tail))
            }
        };
        if self.tail_end == 0 && tail.len()? > limits::TAIL_BYTES {
            tail.set_len(0)?;
        }
        Ok(tail)
    }

    /// Moves the position forward without new pages (a comparison that found nothing, or was appended).
    pub(crate) fn reached(&mut self, position: Position, commit: u32, lowest: u32) {
        self.position = position;
        self.commit = commit;
        self.lowest = self.lowest.min(lowest);
        self.pages.retain(|page, _| page.get() <= commit);
    }
}

/// All of `buf`, or nothing where the file ends before.
fn read<'a>(file: &dyn File, buf: &'a mut [u8], at: u64) -> io::Result<Option<&'a [u8]>> {
    match files::read_exact_at(file, buf, at) {
        Ok(()) => Ok(Some(buf)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::RealFiles;
    use litekeep_formats::TimestampMs;

    const LIFE: u64 = 0x1234_5678_9abc_def0;

    fn size() -> PageSize {
        PageSize::new(512).expect("a page size")
    }

    fn page(n: u32) -> PageNo {
        PageNo::new(n).expect("not zero")
    }

    fn at(frame: u32) -> Position {
        Position { page_size: size(), salts: Salts(1, 2), frame, checksum: WalChecksum(frame, 9) }
    }

    fn state(tail: u64) -> State {
        State {
            file: crate::files::FileId { device: 1, inode: 1 },
            replica: "memory".into(),
            txid: litekeep_formats::Txid::FIRST,
            slot: None,
            database: None,
            commit: 3,
            page_size: size(),
            timestamp: TimestampMs(0),
            position: at(5),
            captured: None,
            tail,
            rewound_from: None,
            content: None,
            forward: Vec::new(),
            sums: None,
        }
    }

    struct Desk {
        _root: tempfile::TempDir,
        files: Arc<dyn Files>,
        local: Local,
    }

    impl Desk {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            let files: Arc<dyn Files> = Arc::new(RealFiles);
            let local =
                Local::open(&files, &root.path().join("app.db"), root.path().join("meta")).expect("opened");
            Self { _root: root, files, local }
        }

        fn load(&self, life: u64) -> Pending {
            Pending::load(Arc::clone(&self.files), &self.local, &state(life)).expect("loaded")
        }

        fn add(&self, pending: &mut Pending, pages: &[u32], frame: u32, commit: u32) {
            for n in pages {
                let data = vec![frame.to_le_bytes()[0]; 512];
                pending.append(&self.local, page(*n), &data).expect("added");
            }
            pending.reached(at(frame), commit, commit);
            pending.mark(&self.local).expect("marked");
        }

        /// Position, pages of the database and their least number, and the pending pages with their first byte.
        fn seen(&self, life: u64) -> (u32, u32, u32, Vec<(u32, u8)>) {
            let pending = self.load(life);
            let mut wal = Wal::new(Arc::clone(&self.files), "/nowhere".into());
            let mut buf = [0; 512];
            let pages = pending.pages().map(|page| {
                pending.read(page, &mut wal, &mut buf).expect("read");
                (page.get(), buf[0])
            });
            let pages = pages.collect();
            (pending.position.frame, pending.commit, pending.lowest, pages)
        }
    }

    #[test]
    fn a_tail_counts_up_to_its_last_whole_mark_wherever_it_is_cut_or_damaged() {
        let desk = Desk::new();
        let mut pending = desk.load(LIFE);
        let nothing = (5, 3, 3, vec![]);
        let first = (7, 3, 3, vec![(1, 7), (3, 7)]);
        let second = (9, 2, 2, vec![(1, 9), (2, 9)]);
        assert_eq!(desk.seen(LIFE), nothing);
        desk.add(&mut pending, &[1, 3], 7, 3);
        assert!(pending.is_staged());
        let one = pending.tail_bytes();
        desk.add(&mut pending, &[1, 2], 9, 2);
        let two = pending.tail_bytes();
        assert_eq!(desk.seen(LIFE), second, "page 3 was cut off");
        let whole = std::fs::read(desk.local.tail()).expect("read");
        let expected = |bytes: u64| match bytes {
            bytes if bytes >= two => &second,
            bytes if bytes >= one => &first,
            _ => &nothing,
        };
        for len in 0..=whole.len() {
            std::fs::write(desk.local.tail(), &whole[..len]).expect("written");
            assert_eq!(desk.seen(LIFE), *expected(len as u64), "cut at {len}");
            let mut damaged = whole.clone();
            if let Some(byte) = damaged.get_mut(len) {
                *byte ^= 0x10;
                std::fs::write(desk.local.tail(), &damaged).expect("written");
                let before = if len as u64 >= one { one } else { 0 };
                assert_eq!(desk.seen(LIFE), *expected(before), "damaged at {len}");
            }
        }
    }

    #[test]
    fn what_an_earlier_life_left_in_the_file_does_not_count_and_the_next_process_goes_on_behind_the_last_mark()
     {
        let desk = Desk::new();
        let mut pending = desk.load(LIFE);
        desk.add(&mut pending, &[1, 2], 7, 3);
        desk.add(&mut pending, &[3], 8, 3);
        pending.reset(at(5), 3, LIFE + 1);
        assert_eq!(desk.seen(LIFE + 1), (5, 3, 3, vec![]));
        // Exactly over the first of the old batches: the old second one follows, whole.
        desk.add(&mut pending, &[2, 1], 10, 3);
        assert_eq!(desk.seen(LIFE + 1), (10, 3, 3, vec![(1, 10), (2, 10)]));
        let mut pending = desk.load(LIFE + 1);
        assert!(pending.is_staged());
        pending.append(&desk.local, page(3), &[77; 512]).expect("added");
        assert!(!pending.is_staged(), "what no mark covers does not count yet");
        assert_eq!(desk.seen(LIFE + 1).0, 10);
        let mut pending = desk.load(LIFE + 1);
        desk.add(&mut pending, &[], 11, 3);
        assert_eq!(desk.seen(LIFE + 1), (11, 3, 3, vec![(1, 10), (2, 10)]));
    }
}
