//! The page index: where in the file each page lies.

use super::page::FRAME_HEADER;
use super::{Header, LtxError, Trailer};
use crate::types::PageNo;
use alloc::vec::Vec;
use core::ops::Range;

/// The longest LEB128 number of 64 bits, bytes.
const VARINT_MAX: usize = 10;

/// Where a page's frame lies: header, size field and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSpan {
    /// From the beginning of the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl FrameSpan {
    /// The byte after the frame.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// One page of the index; frames never come near 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    page: PageNo,
    len: u32,
    offset: u64,
}

impl Entry {
    fn span(&self) -> FrameSpan {
        FrameSpan { offset: self.offset, len: u64::from(self.len) }
    }
}

/// The index of one file, in memory: 16 bytes a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageIndex {
    entries: Vec<Entry>,
}

/// Reads the entries of an index one after another from its bytes, so that nobody needs them all in memory.
#[derive(Debug, Clone)]
pub struct IndexEntries<'a> {
    rest: &'a [u8],
    end: u64,
    last: u32,
    done: bool,
}

impl<'a> IndexEntries<'a> {
    /// Over the bytes at [`PageIndex::index_location`], to the closing zero.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, end: Header::LEN as u64, last: 0, done: false }
    }

    fn read(&mut self) -> Result<Option<(PageNo, FrameSpan)>, LtxError> {
        let number = u32::try_from(take_varint(&mut self.rest)?).map_err(|_| LtxError::Index)?;
        let Some(page) = PageNo::new(number) else {
            return if self.rest.is_empty() { Ok(None) } else { Err(LtxError::Index) };
        };
        let span = FrameSpan { offset: take_varint(&mut self.rest)?, len: take_varint(&mut self.rest)? };
        let short = span.len < FRAME_HEADER as u64 || span.len > u64::from(u32::MAX);
        if number <= self.last || span.offset != self.end || short {
            return Err(LtxError::Index);
        }
        self.end = span.offset.checked_add(span.len).ok_or(LtxError::Index)?;
        self.last = number;
        Ok(Some((page, span)))
    }
}

impl Iterator for IndexEntries<'_> {
    type Item = Result<(PageNo, FrameSpan), LtxError>;

    /// An error is the last item: pages must ascend, and frames follow one another from the end of the header on.
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl PageIndex {
    /// Bytes at the end of a file that lead to its index: the index's length and the trailer.
    pub const TAIL: usize = 8 + Trailer::LEN;

    /// Where the index lies in a file of `file_len` bytes that ends with `tail`.
    ///
    /// # Errors
    /// [`LtxError::Short`] for a tail of another length than [`Self::TAIL`], [`LtxError::Index`] when the length
    /// cannot be right.
    pub fn index_location(tail: &[u8], file_len: u64) -> Result<Range<u64>, LtxError> {
        let field: &[u8; 8] = tail.first_chunk().ok_or(LtxError::Short("page index"))?;
        if tail.len() != Self::TAIL {
            return Err(LtxError::Short("page index"));
        }
        let size = u64::from_be_bytes(*field);
        let end = file_len.checked_sub(Self::TAIL as u64).ok_or(LtxError::Short("page index"))?;
        let start = end.checked_sub(size).ok_or(LtxError::Index)?;
        let least = (Header::LEN + FRAME_HEADER) as u64;
        if size == 0 || start < least {
            return Err(LtxError::Index);
        }
        Ok(start..end)
    }

    /// Parses the bytes at [`Self::index_location`], to the closing zero.
    ///
    /// # Errors
    /// [`LtxError::Index`] unless pages ascend and frames follow one another from the end of the header on.
    pub fn parse(bytes: &[u8]) -> Result<Self, LtxError> {
        let entry = |(page, span): (PageNo, FrameSpan)| {
            let len = u32::try_from(span.len).map_err(|_| LtxError::Index)?;
            Ok(Entry { page, len, offset: span.offset })
        };
        let entries = IndexEntries::new(bytes).map(|item| item.and_then(entry)).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// Where `page` lies, if the file holds it.
    pub fn get(&self, page: PageNo) -> Option<FrameSpan> {
        let at = self.entries.binary_search_by_key(&page, |entry| entry.page).ok()?;
        self.entries.get(at).map(Entry::span)
    }

    /// All pages in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (PageNo, FrameSpan)> + '_ {
        self.entries.iter().map(|entry| (entry.page, entry.span()))
    }

    /// Pages in the file.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the file holds no page.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the frames end; six zero bytes later the index must begin.
    pub fn frames_end(&self) -> u64 {
        self.entries.last().map_or(Header::LEN as u64, |entry| entry.span().end())
    }
}

/// Writes an unsigned LEB128 number to the front of a buffer and gives that part.
pub(super) fn varint(mut value: u64, buf: &mut [u8; VARINT_MAX]) -> &[u8] {
    let mut len = 0;
    for byte in buf.iter_mut() {
        len += 1;
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            *byte = low;
            break;
        }
        *byte = low | 0x80;
    }
    buf.get(..len).unwrap_or(&[])
}

/// Calls `write` with the three numbers of an entry, encoded.
pub(super) fn entry(page: PageNo, span: FrameSpan, mut write: impl FnMut(&[u8])) {
    let mut buf = [0; VARINT_MAX];
    write(varint(u64::from(page.get()), &mut buf));
    write(varint(span.offset, &mut buf));
    write(varint(span.len, &mut buf));
}

/// Takes an unsigned LEB128 number of at most 64 bits from the front.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, LtxError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(LtxError::Index)?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if shift == 63 && low > 1 {
            return Err(LtxError::Index);
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(LtxError::Index)
}
