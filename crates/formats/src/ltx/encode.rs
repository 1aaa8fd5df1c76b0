//! Writing an LTX file as a stream.

use super::index::{self, FrameSpan};
use super::page::{self, FRAME_HEADER, PageOrder};
use super::{Header, LtxError, PageEncoding, Trailer};
use crate::crc::{Crc64, page_checksum};
use crate::types::{Checksum, PageNo};
use alloc::vec::Vec;
use core::convert::Infallible;
use lz4_flex::block::CompressTable;

/// Writes one file: bytes are appended to a `Vec` that the caller may empty between calls.
///
/// Keeps 2 to 8 bytes a page until the index is written, and nothing else that grows.
pub struct Encoder {
    header: Header,
    encoding: PageEncoding,
    order: PageOrder,
    crc: Crc64,
    table: CompressTable,
    /// Bytes of the file so far.
    offset: u64,
    pages: PageLengths,
    /// Of the pages of a file that holds them all and has checksums.
    database: Option<Checksum>,
}

impl core::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Encoder")
            .field("header", &self.header)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Appends the header.
    ///
    /// # Errors
    /// Those of [`Header::validate`].
    pub fn new(header: &Header, encoding: PageEncoding, out: &mut Vec<u8>) -> Result<Self, LtxError> {
        header.validate()?;
        let bytes = header.write();
        let mut crc = Crc64::new();
        crc.update(&bytes);
        out.extend_from_slice(&bytes);
        let whole = !header.no_checksum && header.range.is_snapshot();
        Ok(Self {
            header: *header,
            encoding,
            order: PageOrder::new(header),
            crc,
            table: CompressTable::default(),
            offset: Header::LEN as u64,
            pages: PageLengths::default(),
            database: whole.then_some(Checksum::EMPTY),
        })
    }

    /// Appends one page. Pages ascend; a file from TXID 1 needs all of them but the lock page.
    ///
    /// # Errors
    /// [`LtxError`] of the order or the length; the page is then not written.
    pub fn page(&mut self, page: PageNo, data: &[u8], out: &mut Vec<u8>) -> Result<(), LtxError> {
        let expected = self.header.page_size.bytes();
        if data.len() != expected {
            return Err(LtxError::PageLength { got: data.len(), expected });
        }
        self.order.accept(page)?;
        let start = out.len();
        page::append((page, data), self.encoding, &mut self.table, &mut self.crc, out)?;
        let len = (out.len() - start) as u64;
        self.pages.push(page, len);
        self.offset += len;
        self.database = self.database.map(|sum| sum.toggle(page_checksum(page, data)));
        Ok(())
    }

    /// Bytes of the file so far.
    pub fn bytes_written(&self) -> u64 {
        self.offset
    }

    /// Appends the end of the pages, the index and the trailer.
    ///
    /// # Errors
    /// [`LtxError::SnapshotGap`]; [`LtxError::ChecksumField`] unless `post_apply` is there exactly for a file with
    /// checksums; [`LtxError::PostApply`] when it is not that of the pages of a whole database.
    pub fn finish(self, post_apply: Option<Checksum>, out: &mut Vec<u8>) -> Result<Trailer, LtxError> {
        match self.finish_in_parts(post_apply, out, |_| Ok::<(), Infallible>(()))? {
            Ok(trailer) => Ok(trailer),
            Err(never) => match never {},
        }
    }

    /// As [`Self::finish`], and calls `flush` whenever `out` holds 64 KiB or more, so that the index of a database
    /// of many millions of pages is never in memory as a whole. What is left in `out` at the end is the caller's.
    ///
    /// # Errors
    /// As [`Self::finish`]; inside, `flush`'s own.
    pub fn finish_in_parts<E>(
        mut self,
        post_apply: Option<Checksum>,
        out: &mut Vec<u8>,
        mut flush: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<Trailer, E>, LtxError> {
        self.order.end()?;
        self.check_post_apply(post_apply)?;
        let mut size = 0u64;
        let crc = &mut self.crc;
        let mut put = |bytes: &[u8], out: &mut Vec<u8>| {
            crc.update(bytes);
            out.extend_from_slice(bytes);
            bytes.len() as u64
        };
        put(&[0; FRAME_HEADER], out);
        for (page, span) in self.pages.spans() {
            let mut bytes = [0; 30];
            let mut used = 0;
            index::entry(page, span, |part| {
                if let Some(place) = bytes.get_mut(used..used + part.len()) {
                    place.copy_from_slice(part);
                    used += part.len();
                }
            });
            size += put(bytes.get(..used).unwrap_or(&[]), out);
            if out.len() >= 64 * 1024
                && let Err(error) = flush(out)
            {
                return Ok(Err(error));
            }
        }
        size += put(&[0], out);
        put(&size.to_be_bytes(), out);
        put(&post_apply.map_or(0, Checksum::get).to_be_bytes(), out);
        let file = Checksum::from_crc(self.crc.value());
        out.extend_from_slice(&file.get().to_be_bytes());
        Ok(Ok(Trailer { post_apply, file }))
    }

    fn check_post_apply(&self, post_apply: Option<Checksum>) -> Result<(), LtxError> {
        let field = post_apply.map_or(0, Checksum::get);
        let deleted = self.header.commit == 0 && post_apply != Some(Checksum::EMPTY);
        if post_apply.is_some() == self.header.no_checksum || deleted {
            return Err(LtxError::ChecksumField("post-apply", field));
        }
        match (post_apply, self.database) {
            (Some(stored), Some(computed)) if stored != computed && !self.header.content_is_elsewhere() => {
                Err(LtxError::PostApply { stored, computed })
            }
            _ => Ok(()),
        }
    }
}

/// Which pages were written and how long their frames are: distance and length as LEB128, in pieces that never
/// move once they are full.
#[derive(Default)]
struct PageLengths {
    full: Vec<Vec<u8>>,
    current: Vec<u8>,
    last: u32,
}

impl PageLengths {
    const PIECE: usize = 64 * 1024;

    fn push(&mut self, page: PageNo, len: u64) {
        if self.current.len() >= Self::PIECE {
            self.full.push(core::mem::take(&mut self.current));
        }
        let mut buf = [0; 10];
        self.current
            .extend_from_slice(index::varint(u64::from(page.get().wrapping_sub(self.last)), &mut buf));
        self.current.extend_from_slice(index::varint(len, &mut buf));
        self.last = page.get();
    }

    /// Every page with the place of its frame.
    fn spans(&self) -> impl Iterator<Item = (PageNo, FrameSpan)> + '_ {
        let mut last = 0u64;
        let mut offset = Header::LEN as u64;
        self.full.iter().chain(core::iter::once(&self.current)).flat_map(|piece| Numbers(piece)).filter_map(
            move |(distance, len)| {
                last += distance;
                let span = FrameSpan { offset, len };
                offset += len;
                Some((PageNo::new(u32::try_from(last).ok()?)?, span))
            },
        )
    }
}

/// Pairs of LEB128 numbers.
struct Numbers<'a>(&'a [u8]);

impl Iterator for Numbers<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        Some((index::take_varint(&mut self.0).ok()?, index::take_varint(&mut self.0).ok()?))
    }
}
