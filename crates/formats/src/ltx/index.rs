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

/// The index of one file, in memory: 20 bytes or so a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageIndex {
    entries: Vec<(PageNo, FrameSpan)>,
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
        let mut rest = bytes;
        let mut entries: Vec<(PageNo, FrameSpan)> = Vec::new();
        let mut end = Header::LEN as u64;
        let mut last = 0;
        loop {
            let number = u32::try_from(take_varint(&mut rest)?).map_err(|_| LtxError::Index)?;
            let Some(page) = PageNo::new(number) else { break };
            let span = FrameSpan { offset: take_varint(&mut rest)?, len: take_varint(&mut rest)? };
            if number <= last || span.offset != end || span.len < FRAME_HEADER as u64 {
                return Err(LtxError::Index);
            }
            end = span.offset.checked_add(span.len).ok_or(LtxError::Index)?;
            last = number;
            entries.push((page, span));
        }
        if rest.is_empty() { Ok(Self { entries }) } else { Err(LtxError::Index) }
    }

    /// Where `page` lies, if the file holds it.
    pub fn get(&self, page: PageNo) -> Option<FrameSpan> {
        let at = self.entries.binary_search_by_key(&page, |entry| entry.0).ok()?;
        self.entries.get(at).map(|entry| entry.1)
    }

    /// All pages in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (PageNo, FrameSpan)> + '_ {
        self.entries.iter().copied()
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
        self.entries.last().map_or(Header::LEN as u64, |entry| entry.1.end())
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
