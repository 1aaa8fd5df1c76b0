//! Several LTX files as one, page by page in ascending order, in bounded memory.
//!
//! The newest input that has a page wins; pages past the last input's end are dropped. Every input is read to its end
//! and verified: its own checksums, its place in the chain by the seals, and that it carries all pages by which the
//! database grew (R05: compacting a gap makes it permanent). What the merge gave must not be made visible before
//! `Merge::finish` has said so.

use crate::restore::{FetchError, Flaw, Object, Ranged, check_header, key, neighbours};
use crate::survey::read_range;
use bytes::Bytes;
use litekeep_core::limits;
use litekeep_core::restore::LtxFile;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::{
    DecodeError, Decoder, Encoder, Header, LtxError, Marks, PageEncoding, Seal, Trailer, WalSpan,
};
use litekeep_formats::{Checksum, Level, PageNo, PageSize, TxidRange};
use litekeep_store::{Created, ErrorKind, Key, Store, StoreError, Upload};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What all inputs together read ahead, bytes.
const READ_AHEAD: u64 = 64 << 20;
/// What one input reads ahead at least and at most, bytes: fewer make too many requests.
const WINDOW: std::ops::RangeInclusive<u64> = (128 << 10)..=(8 << 20);
/// Results up to this size are created in one put, larger ones go up in parts, bytes.
const SINGLE_PUT: usize = 8 << 20;

/// Why files could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Bytes could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The result could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An input is no good.
    #[error("{key}: {what}")]
    Bad {
        /// Which.
        key: Key,
        /// What is wrong with it.
        what: Flaw,
    },
    /// An input does not carry all pages by which the database grew.
    #[error("{key}: the database grew from {from} to {to} pages, and not all of the new ones are in it")]
    Growth {
        /// Which.
        key: Key,
        /// Pages before.
        from: u32,
        /// Pages after.
        to: u32,
    },
    /// The inputs do not join.
    #[error("{newer} does not join what is before it")]
    Apart {
        /// The one past the hole.
        newer: Key,
    },
    /// The result is not what it should be.
    #[error("{0}")]
    Wrong(Flaw),
    /// There is another file of that name.
    #[error("{0} exists already and has another content")]
    Exists(Key),
    /// No input.
    #[error("nothing to merge")]
    Nothing,
}

/// What the merge begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// A state that is not among the inputs; its page count where known.
    State(Option<u32>),
    /// Nothing: the inputs make a whole database. Those before the last whole image are left out.
    Nothing,
}

struct Input<'a> {
    file: LtxFile,
    header: Header,
    decoder: Option<Decoder<Ranged<'a>>>,
    trailer: Option<Trailer>,
    page: Vec<u8>,
    /// Where the unbroken run of pages that ends at `last` begins.
    run: u32,
    last: u32,
}

impl Input<'_> {
    fn bad(&self, what: impl Into<Flaw>) -> MergeError {
        MergeError::Bad { key: key(&self.file), what: what.into() }
    }

    fn failed(&self, error: DecodeError<FetchError>) -> MergeError {
        match error {
            DecodeError::Source(error) => error.into(),
            DecodeError::Format(error) => self.bad(error),
        }
    }

    /// Reads the next page; verifies the file and lets its buffers go when there is none.
    fn advance(&mut self) -> Result<Option<PageNo>, MergeError> {
        let Some(mut decoder) = self.decoder.take() else { return Ok(None) };
        let next = decoder.next_page(&mut self.page).map_err(|error| self.failed(error))?;
        match next {
            Some(page) => {
                let lock = self.header.page_size.lock_page().get();
                let number = page.get();
                let follows = number == self.last + 1 || (number == self.last + 2 && lock == self.last + 1);
                if !follows || self.last == 0 {
                    self.run = number;
                }
                self.last = number;
                self.decoder = Some(decoder);
            }
            None => {
                self.trailer = Some(decoder.finish().map_err(|error| self.failed(error))?);
                self.page = Vec::new();
            }
        }
        Ok(next)
    }

    /// Whether every page past `before` up to the file's commit is in it, the lock page aside.
    fn carries_growth(&self, before: u32) -> bool {
        let lock = self.header.page_size.lock_page().get();
        carries_growth((before, self.header.commit), (self.run, self.last), lock)
    }
}

/// `run` is the unbroken run of pages at the file's end, which may step over the lock page.
fn carries_growth((before, commit): (u32, u32), run: (u32, u32), lock: u32) -> bool {
    if commit <= before {
        return true;
    }
    let first = if before + 1 == lock { lock.saturating_add(1) } else { before + 1 };
    let end = if commit == lock { lock - 1 } else { commit };
    first > end || (run.1 == end && run.0 <= first)
}

/// See the module's text.
pub(crate) struct Merge<'a> {
    inputs: Vec<Input<'a>>,
    /// The next page of each input; of equal ones the newest first.
    heap: BinaryHeap<Reverse<(PageNo, Reverse<usize>)>>,
    base: Base,
    page: Vec<u8>,
}

impl<'a> Merge<'a> {
    /// Opens all inputs, oldest first.
    pub(crate) fn open(store: &'a dyn Store, files: &[LtxFile], base: Base) -> Result<Self, MergeError> {
        Self::of(Inputs::open(store, files)?, base)
    }

    /// Begins with inputs that are open.
    pub(crate) fn of(Inputs(mut inputs): Inputs<'a>, base: Base) -> Result<Self, MergeError> {
        for pair in inputs.windows(2) {
            if pair[1].file.range.min() > pair[0].file.range.max().next() {
                return Err(MergeError::Apart { newer: key(&pair[1].file) });
            }
        }
        if base == Base::Nothing {
            let whole = inputs.iter().rposition(|input| is_whole(&input.header));
            inputs.drain(..whole.ok_or(MergeError::Nothing)?);
        }
        for input in &inputs {
            check_header(&input.file, &input.header).map_err(|what| input.bad(what))?;
        }
        let newest = inputs.last().ok_or(MergeError::Nothing)?;
        let page_size = newest.header.page_size;
        if let Some(other) = inputs.iter().find(|input| input.header.page_size != page_size) {
            let (older, newer) = (other.header.page_size.get(), page_size.get());
            return Err(other.bad(Flaw::PageSize { older, newer }));
        }
        let page = vec![0; page_size.bytes()];
        let mut merge = Self { inputs, heap: BinaryHeap::new(), base, page };
        for at in 0..merge.inputs.len() {
            merge.advance(at)?;
        }
        Ok(merge)
    }

    fn newest(&self) -> &Input<'a> {
        self.inputs.last().expect("BUG: a merge has inputs")
    }

    /// The result's header: times, size and seal of the newest input, predecessor of the oldest.
    pub(crate) fn header(&self) -> Header {
        let (first, newest) = (&self.inputs[0], self.newest());
        let min = match self.base {
            Base::Nothing => litekeep_formats::Txid::FIRST,
            Base::State(_) => first.file.range.min(),
        };
        let mut header = Header {
            no_checksum: true,
            page_size: newest.header.page_size,
            commit: newest.header.commit,
            range: TxidRange::new(min, newest.file.range.max()).unwrap_or(newest.file.range),
            timestamp: newest.header.timestamp,
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            reserved: [0; 20],
        };
        if let Some(seal) = newest.header.seal() {
            let predecessor = match self.base {
                Base::Nothing => None,
                Base::State(_) => first.header.seal().and_then(|seal| seal.predecessor),
            };
            header.set_seal(&Seal { predecessor, marks: Marks::NONE, ..seal });
        }
        header
    }

    /// What the newest input says that the pages of the whole database give.
    pub(crate) fn sealed(&self) -> Option<Checksum> {
        self.newest().header.seal().and_then(|seal| seal.database)
    }

    fn advance(&mut self, at: usize) -> Result<(), MergeError> {
        if let Some(page) = self.inputs[at].advance()? {
            self.heap.push(Reverse((page, Reverse(at))));
        }
        Ok(())
    }

    /// The next page of the result.
    pub(crate) fn next(&mut self) -> Result<Option<(PageNo, &[u8])>, MergeError> {
        let commit = self.newest().header.commit;
        while let Some(Reverse((page, Reverse(newest)))) = self.heap.pop() {
            // Swapped, not copied: the input's buffer is filled anew anyway.
            std::mem::swap(&mut self.page, &mut self.inputs[newest].page);
            self.advance(newest)?;
            while let Some(Reverse((same, Reverse(older)))) = self.heap.peek().copied()
                && same == page
            {
                self.heap.pop();
                self.advance(older)?;
            }
            if page.get() <= commit {
                return Ok(Some((page, &self.page)));
            }
        }
        Ok(None)
    }

    /// Verifies that every input was whole and in its place.
    pub(crate) fn finish(mut self) -> Result<(), MergeError> {
        while self.next()?.is_some() {}
        let mut before: Option<&Input<'_>> = None;
        for input in &self.inputs {
            let grown_from = match (before, self.base) {
                (Some(older), _) => Some(older.header.commit),
                (None, Base::State(commit)) => commit,
                (None, Base::Nothing) => Some(0),
            };
            if let Some(from) = grown_from
                && !input.carries_growth(from)
            {
                let to = input.header.commit;
                return Err(MergeError::Growth { key: key(&input.file), from, to });
            }
            if let Some(older) = before
                && let Some(trailer) = &older.trailer
            {
                neighbours((&older.file, &older.header, trailer), (&input.file, &input.header))
                    .map_err(|what| older.bad(what))?;
            }
            before = Some(input);
        }
        Ok(())
    }
}

/// Files whose headers have been read, oldest first.
pub(crate) struct Inputs<'a>(Vec<Input<'a>>);

impl<'a> Inputs<'a> {
    /// Opens files; of the small ones that reads everything there is.
    pub(crate) fn open(store: &'a dyn Store, files: &[LtxFile]) -> Result<Self, MergeError> {
        let share = READ_AHEAD / (files.len() as u64).max(1);
        let window = share.clamp(*WINDOW.start(), *WINDOW.end());
        let open = |file: &LtxFile| {
            let object = Object { key: key(file), size: file.size };
            let decoder = Decoder::new(Ranged::new(store, object, window)).map_err(|error| match error {
                DecodeError::Source(error) => MergeError::Fetch(error),
                DecodeError::Format(error) => MergeError::Bad { key: key(file), what: error.into() },
            })?;
            let header = *decoder.header();
            let page = vec![0; header.page_size.bytes()];
            Ok(Input { file: *file, header, decoder: Some(decoder), trailer: None, page, run: 0, last: 0 })
        };
        files.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// The first one that is a whole image, or stands for one that lies in level 9.
    pub(crate) fn first_image(&self) -> Option<usize> {
        self.0.iter().position(|input| is_whole(&input.header) || input.header.content_is_elsewhere())
    }

    /// What the first one is; `None` if there is none.
    pub(crate) fn first_kind(&self) -> Option<Kind> {
        self.0.first().map(|input| match input {
            _ if input.header.content_is_elsewhere() => Kind::Announces,
            _ if is_whole(&input.header) => Kind::Image,
            _ if input.file.size <= limits::BARE_BYTES => Kind::Bare,
            _ => Kind::Pages,
        })
    }

    /// Whether the one behind the first, an announcement, goes on without what is announced.
    pub(crate) fn first_was_passed(&self) -> bool {
        let [first, behind, ..] = &self.0[..] else { return false };
        went_on_without(&first.header, &behind.header, behind.file.size)
    }

    /// Drops the first one.
    pub(crate) fn skip_first(&mut self) {
        self.0.remove(0);
    }

    /// Drops all but the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }
}

/// What a file of a chain holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every page.
    Image,
    /// Nothing, and level 9 is to have every page.
    Announces,
    /// Nothing.
    Bare,
    /// Some pages.
    Pages,
}

/// Whether the slot right behind an announcement goes on without what that announces: with an image of its own, or, without
/// pages, from another state.
pub(crate) fn went_on_without(announces: &Header, behind: &Header, size: u64) -> bool {
    let stated = |header: &Header| header.seal().and_then(|seal| seal.database);
    match size <= limits::BARE_BYTES && !behind.content_is_elsewhere() {
        true => stated(behind) != stated(announces),
        false => behind.content_is_elsewhere() || is_whole(behind),
    }
}

/// Whether a file holds the whole database.
pub(crate) fn is_whole(header: &Header) -> bool {
    let marked = header.seal().is_some_and(|seal| seal.marks.contains(Marks::FULL_IMAGE));
    // The very first slot has the range of an image, also where it only announces one.
    (header.range.is_snapshot() || marked) && !header.content_is_elsewhere()
}

/// A file that was made by merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// Pages in it.
    pub pages: u32,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// Its file checksum.
    pub file: Checksum,
    /// It stood there already, with the same content.
    pub existed: bool,
}

/// Merges into one file of `level` and stores it once everything is verified. With `expected`, the result must be a
/// whole database of that checksum.
pub(crate) fn merge_into(
    store: &dyn Store,
    mut merge: Merge<'_>,
    level: Level,
    expected: Option<Checksum>,
    encoding: PageEncoding,
) -> Result<Made, MergeError> {
    let header = merge.header();
    let key = Key::Ltx(level, header.range);
    let mut sink = Sink { store, key, header, buffer: Vec::new(), upload: None, size: 0 };
    let ours = |error: LtxError| MergeError::Wrong(error.into());
    let mut encoder = Encoder::new(&header, encoding, &mut sink.buffer).map_err(ours)?;
    let (mut database, mut pages) = (Checksum::EMPTY, 0);
    while let Some((page, data)) = merge.next()? {
        if expected.is_some() {
            database = database.toggle(page_checksum(page, data));
        }
        encoder.page(page, data, &mut sink.buffer).map_err(ours)?;
        pages += 1;
        sink.spill()?;
    }
    merge.finish()?;
    if let Some(sealed) = expected
        && sealed != database
    {
        return Err(MergeError::Wrong(Flaw::Database { sealed, computed: database }));
    }
    let mut spare = Vec::new();
    std::mem::swap(&mut spare, &mut sink.buffer);
    let trailer = encoder
        .finish_in_parts(None, &mut spare, |part| {
            std::mem::swap(part, &mut sink.buffer);
            let result = sink.spill();
            std::mem::swap(part, &mut sink.buffer);
            result
        })
        .map_err(ours)??;
    std::mem::swap(&mut spare, &mut sink.buffer);
    let (size, file, existed) = sink.finish(trailer.file)?;
    Ok(Made { key, size, pages, page_size: header.page_size, file, existed })
}

/// Where a result goes: kept whole while it is small, else a large upload that stays invisible until it is finished.
struct Sink<'a> {
    store: &'a dyn Store,
    key: Key,
    header: Header,
    buffer: Vec<u8>,
    upload: Option<Box<dyn Upload>>,
    size: u64,
}

impl Sink<'_> {
    fn spill(&mut self) -> Result<(), StoreError> {
        if self.buffer.len() < SINGLE_PUT {
            return Ok(());
        }
        if self.upload.is_none() {
            self.upload = Some(self.store.upload(&self.key, self.header.timestamp)?);
        }
        if let Some(upload) = &mut self.upload {
            upload.write(&self.buffer)?;
        }
        self.size += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the file visible. Returns its size, its checksum, and whether it stood there already.
    fn finish(mut self, file: Checksum) -> Result<(u64, Checksum, bool), MergeError> {
        self.size += self.buffer.len() as u64;
        if let Some(mut upload) = self.upload {
            upload.write(&self.buffer)?;
            upload.finish()?;
            return Ok((self.size, file, false));
        }
        let body = Bytes::from(std::mem::take(&mut self.buffer));
        match self.store.create(&self.key, body.clone(), self.header.timestamp) {
            Ok(Created::Yes) => Ok((self.size, file, false)),
            Ok(Created::Exists) => self.other(file),
            // Where nobody can own, slots are put as well. What is replaced here can only be an equal.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.store.put(&self.key, body, self.header.timestamp)?;
                Ok((self.size, file, false))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What stands under the name already: the same file, or one that was made of the same content in another way (the
    /// copy of an image, another encoding).
    fn other(&self, file: Checksum) -> Result<(u64, Checksum, bool), MergeError> {
        let head = read_range(self.store, &self.key, 0..Header::LEN as u64)?;
        let tail = read_range(self.store, &self.key, head.total.saturating_sub(8)..head.total)?;
        let there = tail.bytes[..].try_into().ok().map(u64::from_be_bytes).and_then(Checksum::from_stored);
        match (there, Header::parse(&head.bytes)) {
            (Some(there), _) if there == file && head.total == self.size => Ok((self.size, file, true)),
            (Some(there), Ok(header)) if same_state(&header, &self.header) => Ok((head.total, there, true)),
            _ => Err(MergeError::Exists(self.key)),
        }
    }
}

/// Whether two files of one name lead to the same state of the database, from the same one.
fn same_state(a: &Header, b: &Header) -> bool {
    let (Some(of_a), Some(of_b)) = (a.seal(), b.seal()) else { return false };
    let from = |seal: Seal| seal.predecessor.filter(|_| !a.range.is_snapshot());
    (a.range, a.commit, a.page_size) == (b.range, b.commit, b.page_size)
        && of_a.database.is_some()
        && of_a.database == of_b.database
        && from(of_a) == from(of_b)
}

#[cfg(test)]
mod tests {
    use super::carries_growth;

    #[test]
    fn r16_growth_is_carried_with_or_without_the_lock_page_in_its_way() {
        for (name, growth, run, expected) in [
            ("no growth", (9, 9), (0, 0), true),
            ("shrinking", (9, 4), (0, 0), true),
            ("all new pages", (9, 12), (10, 12), true),
            ("more than the new pages", (9, 12), (3, 12), true),
            ("the first new one is missing", (9, 12), (11, 12), false),
            ("the last new one is missing", (9, 12), (10, 11), false),
            ("no page at all", (9, 12), (0, 0), false),
            ("only the lock page is new", (99, 100), (0, 0), true),
            ("up to the lock page", (97, 100), (98, 99), true),
            ("across the lock page", (97, 103), (98, 103), true),
            ("from the lock page on", (99, 102), (101, 102), true),
            ("behind the lock page", (100, 102), (101, 102), true),
            ("across it, one missing", (97, 103), (99, 103), false),
            ("the largest database", (u32::MAX, u32::MAX), (0, 0), true),
        ] {
            assert_eq!(carries_growth(growth, run, 100), expected, "{name}");
        }
    }
}
