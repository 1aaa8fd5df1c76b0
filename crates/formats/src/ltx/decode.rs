//! Reading an LTX file as a stream, and believing nothing before its checksums.

use super::index::{self, FrameSpan};
use super::page::{self, FRAME_HEADER, FrameStart, PageFailure, PageOrder};
use super::{DecodeError, Header, LtxError, Trailer};
use crate::crc::{Crc64, page_checksum};
use crate::source::{Buffered, ByteSource, Fault, Input};
use crate::types::{Checksum, PageNo};
use alloc::vec;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pages,
    Ended,
    Failed,
}

/// Reads one file front to back in constant memory: the compressed bytes of a page, and two checksums.
///
/// A page that [`Self::next_page`] hands out is *not yet verified*; the file is good once [`Self::finish`] has said
/// so. What is written from it must not take the place of anything before.
pub struct Decoder<S> {
    input: Buffered<S>,
    header: Header,
    order: PageOrder,
    crc: Crc64,
    /// What the index must be, from the frames seen.
    index_crc: Crc64,
    index_len: u64,
    /// Of the pages of a file that holds them all and has checksums.
    database: Option<Checksum>,
    state: State,
}

impl<S> core::fmt::Debug for Decoder<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Decoder")
            .field("header", &self.header)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<S: ByteSource> Decoder<S> {
    /// Reads the header.
    ///
    /// # Errors
    /// The source's, or those of [`Header::parse`].
    pub fn new(source: S) -> Result<Self, DecodeError<S::Error>> {
        let mut input = Buffered::new(source);
        let bytes = input.array::<{ Header::LEN }>().map_err(|fault| short(fault, "header"))?;
        let header = Header::parse(&bytes)?;
        let mut crc = Crc64::new();
        crc.update(&bytes);
        let whole = !header.no_checksum && header.range.is_snapshot();
        Ok(Self {
            input,
            header,
            order: PageOrder::new(&header),
            crc,
            index_crc: Crc64::new(),
            index_len: 0,
            database: whole.then_some(Checksum::EMPTY),
            state: State::Pages,
        })
    }

    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next page into `buf`, which is exactly one page long; `None` when there are no more.
    ///
    /// # Errors
    /// The source's, or [`LtxError`]; after one the decoder only fails.
    pub fn next_page(&mut self, buf: &mut [u8]) -> Result<Option<PageNo>, DecodeError<S::Error>> {
        let expected = self.header.page_size.bytes();
        if buf.len() != expected {
            return Err(LtxError::PageLength { got: buf.len(), expected }.into());
        }
        match self.state {
            State::Ended => return Ok(None),
            State::Failed => return Err(LtxError::Failed.into()),
            State::Pages => self.state = State::Failed, // until this page has turned out well
        }
        let page = self.read_page(buf).map_err(|failure| match failure {
            PageFailure::Source(error) => DecodeError::Source(error),
            PageFailure::Format(error) => DecodeError::Format(error),
        })?;
        self.state = if page.is_some() { State::Pages } else { State::Ended };
        Ok(page)
    }

    fn read_page(&mut self, buf: &mut [u8]) -> Result<Option<PageNo>, PageFailure<S::Error>> {
        let offset = self.input.consumed();
        let start = self.input.array::<FRAME_HEADER>()?;
        self.crc.update(&start);
        let (page, flags) = match page::parse_start(start)? {
            FrameStart::Page(page, flags) => (page, flags),
            FrameStart::End => {
                self.order.end()?;
                return Ok(None);
            }
        };
        self.order.accept(page)?;
        page::read_data(&mut self.input, (page, flags), buf, &mut self.crc)?;
        self.crc.update(buf);
        self.database = self.database.map(|sum| sum.toggle(page_checksum(page, buf)));
        let span = FrameSpan { offset, len: self.input.consumed() - offset };
        index::entry(page, span, |bytes| {
            self.index_crc.update(bytes);
            self.index_len += bytes.len() as u64;
        });
        Ok(Some(page))
    }

    /// Reads what is left, and verifies the index against the pages, every checksum, and that the file ends.
    ///
    /// # Errors
    /// The source's, or [`LtxError`].
    pub fn finish(mut self) -> Result<Trailer, DecodeError<S::Error>> {
        let mut page = vec![0; self.header.page_size.bytes()];
        while self.next_page(&mut page)?.is_some() {}
        self.check_index()?;
        let bytes = self.input.array::<{ Trailer::LEN }>().map_err(|fault| short(fault, "trailer"))?;
        let trailer = Trailer::parse(&bytes, &self.header)?;
        self.crc.update(bytes.get(..8).unwrap_or(&[]));
        let computed = Checksum::from_crc(self.crc.value());
        if trailer.file != computed {
            return Err(LtxError::FileChecksum { stored: trailer.file, computed }.into());
        }
        if let (Some(stored), Some(computed)) = (trailer.post_apply, self.database)
            && stored != computed
            && !self.header.content_is_elsewhere()
        {
            return Err(LtxError::PostApply { stored, computed }.into());
        }
        if !self.input.at_end().map_err(DecodeError::Source)? {
            return Err(LtxError::Trailing.into());
        }
        Ok(trailer)
    }

    /// Reads the index, as long as the pages say that it is, and its length.
    fn check_index(&mut self) -> Result<(), DecodeError<S::Error>> {
        self.index_crc.update(&[0]);
        let expected = self.index_len + 1;
        let mut stored = Crc64::new();
        let mut left = expected;
        while left > 0 {
            let step = usize::try_from(left.min(16 * 1024)).unwrap_or(1);
            let bytes = self.input.take(step).map_err(|fault| short(fault, "page index"))?;
            stored.update(bytes);
            self.crc.update(bytes);
            left -= step as u64;
        }
        let length = self.input.array::<8>().map_err(|fault| short(fault, "page index"))?;
        self.crc.update(&length);
        if u64::from_be_bytes(length) != expected || stored.value() != self.index_crc.value() {
            return Err(LtxError::IndexMismatch.into());
        }
        Ok(())
    }
}

/// A fault in the named part of the file.
fn short<E>(fault: Fault<E>, part: &'static str) -> DecodeError<E> {
    match fault {
        Fault::Source(error) => DecodeError::Source(error),
        Fault::Short => DecodeError::Format(LtxError::Short(part)),
    }
}
