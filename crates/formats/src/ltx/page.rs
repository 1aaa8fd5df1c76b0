//! One page as it lies in an LTX file: its frame in both forms, and the order that frames must have.

use super::{Header, LtxError};
use crate::crc::Crc64;
use crate::lz4frame::{self, Failure};
use crate::source::{Fault, Input};
use crate::types::{PageNo, PageSize};
use alloc::vec::Vec;
use lz4_flex::block::CompressTable;

/// Page number and flags, bytes.
pub(super) const FRAME_HEADER: usize = 6;
/// The size field of the block form, bytes.
const SIZE_FIELD: usize = 4;
/// The block form.
const BLOCK: u16 = 1;
/// What a page of stream version 2 shows where version 3 has its flags: the beginning of an LZ4 magic.
const V2_SIGN: u16 = 0x0422;

/// How pages are compressed in a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PageEncoding {
    /// A raw LZ4 block with its size: read by Litestream from 0.5.16 on.
    #[default]
    Block,
    /// An LZ4 frame: read by every Litestream 0.5, for those who want to be able to go back.
    Frame,
}

/// The first six bytes of a frame: a page follows, or the pages end.
pub(super) enum FrameStart {
    End,
    Page(PageNo, u16),
}

pub(super) fn parse_start(bytes: [u8; FRAME_HEADER]) -> Result<FrameStart, LtxError> {
    let [a, b, c, d, e, f] = bytes;
    let (page, flags) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
    match PageNo::new(page) {
        None if flags == 0 => Ok(FrameStart::End),
        None => Err(LtxError::PageFlags { page, flags }),
        Some(_) if flags == V2_SIGN => Err(LtxError::Beta(2)),
        Some(_) if flags & !BLOCK != 0 => Err(LtxError::PageFlags { page, flags }),
        Some(page) => Ok(FrameStart::Page(page, flags)),
    }
}

/// The longest LZ4 block that anybody's compressor makes of `len` bytes, with room to spare.
const fn block_bound(len: usize) -> usize {
    len + len / 8 + 64
}

/// Either side of a failed page.
pub(super) enum PageFailure<E> {
    Source(E),
    Format(LtxError),
}

impl<E> From<LtxError> for PageFailure<E> {
    fn from(error: LtxError) -> Self {
        Self::Format(error)
    }
}

impl<E> From<Fault<E>> for PageFailure<E> {
    fn from(fault: Fault<E>) -> Self {
        match fault {
            Fault::Source(error) => Self::Source(error),
            Fault::Short => Self::Format(LtxError::Short("pages")),
        }
    }
}

/// Reads the data of a page whose first six bytes were read, into a buffer of exactly one page. `crc` gets the
/// size field, if there is one, as it lies in the file.
pub(super) fn read_data<I: Input>(
    input: &mut I,
    (page, flags): (PageNo, u16),
    buf: &mut [u8],
    crc: &mut Crc64,
) -> Result<(), PageFailure<I::Error>> {
    let number = page.get();
    if flags & BLOCK == 0 {
        return lz4frame::read_page(input, buf).map_err(|failure| match failure {
            Failure::Source(error) => PageFailure::Source(error),
            Failure::Frame(lz4frame::Lz4Error::Short) => PageFailure::Format(LtxError::Short("pages")),
            Failure::Frame(error) => PageFailure::Format(LtxError::PageFrame { page: number, error }),
        });
    }
    let field = input.array::<SIZE_FIELD>()?;
    crc.update(&field);
    let size = u32::from_be_bytes(field);
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    if len > block_bound(buf.len()) {
        return Err(LtxError::PageTooLong { page: number, size }.into());
    }
    let block = input.take(len)?;
    match lz4_flex::block::decompress_into(block, buf) {
        Ok(written) if written == buf.len() => Ok(()),
        _ => Err(LtxError::PageData { page: number }.into()),
    }
}

/// Decodes one frame that was found through the page index; `buf` is exactly one page.
///
/// No checksum covers a single frame of the block form: compare its page checksum where one is known.
///
/// # Errors
/// [`LtxError`]; also when the frame does not fill `frame` exactly.
pub fn decode_page_frame(frame: &[u8], page_size: PageSize, buf: &mut [u8]) -> Result<PageNo, LtxError> {
    if buf.len() != page_size.bytes() {
        return Err(LtxError::PageLength { got: buf.len(), expected: page_size.bytes() });
    }
    let mut rest = frame;
    let start = rest.array::<FRAME_HEADER>().map_err(|_| LtxError::Short("pages"))?;
    let FrameStart::Page(page, flags) = parse_start(start)? else {
        return Err(LtxError::IndexMismatch);
    };
    match read_data(&mut rest, (page, flags), buf, &mut Crc64::new()) {
        Ok(()) if rest.is_empty() => Ok(page),
        Ok(()) => Err(LtxError::IndexMismatch),
        Err(PageFailure::Format(error)) => Err(error),
        Err(PageFailure::Source(never)) => match never {},
    }
}

/// Appends one frame; `crc` gets what the file checksum covers of it, page included.
pub(super) fn append(
    (page, data): (PageNo, &[u8]),
    encoding: PageEncoding,
    table: &mut CompressTable,
    crc: &mut Crc64,
    out: &mut Vec<u8>,
) -> Result<(), LtxError> {
    let start = out.len();
    let number = page.get();
    let failed = |error| LtxError::PageFrame { page: number, error };
    out.extend_from_slice(&number.to_be_bytes());
    match encoding {
        PageEncoding::Block => {
            out.extend_from_slice(&BLOCK.to_be_bytes());
            out.extend_from_slice(&[0; SIZE_FIELD]);
            let block_at = out.len();
            lz4frame::append_block(data, table, out).map_err(failed)?;
            let size =
                u32::try_from(out.len() - block_at).map_err(|_| LtxError::PageData { page: number })?;
            if let Some(place) = out.get_mut(block_at - SIZE_FIELD..block_at) {
                place.copy_from_slice(&size.to_be_bytes());
            }
            crc.update(out.get(start..block_at).unwrap_or(&[]));
        }
        PageEncoding::Frame => {
            out.extend_from_slice(&0u16.to_be_bytes());
            crc.update(out.get(start..).unwrap_or(&[]));
            lz4frame::write_page(data, table, out).map_err(failed)?;
        }
    }
    crc.update(data);
    Ok(())
}

/// Watches the order of the pages of one file; the same rules for writing and reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageOrder {
    commit: u32,
    lock: PageNo,
    /// Every page must come.
    complete: bool,
    /// None need come, even if every page must.
    may_be_empty: bool,
    last: u32,
}

impl PageOrder {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            commit: header.commit,
            lock: header.page_size.lock_page(),
            complete: header.range.is_snapshot(),
            may_be_empty: header.content_is_elsewhere(),
            last: 0,
        }
    }

    /// Whether `page` may come next; from then on it is the last one.
    pub(super) fn accept(&mut self, page: PageNo) -> Result<(), LtxError> {
        let number = page.get();
        if number <= self.last {
            return Err(LtxError::PageOrder { page: number, after: self.last });
        }
        if number > self.commit {
            return Err(LtxError::PagePastEnd { page: number, commit: self.commit });
        }
        if page == self.lock {
            return Err(LtxError::LockPage(page));
        }
        let expected = self.following();
        if self.complete && number != expected {
            return Err(LtxError::SnapshotGap(expected));
        }
        self.last = number;
        Ok(())
    }

    /// Whether the pages may end here.
    pub(super) fn end(&self) -> Result<(), LtxError> {
        if !self.complete || (self.last == 0 && self.may_be_empty) {
            return Ok(());
        }
        let missing = self.following();
        if missing <= self.commit { Err(LtxError::SnapshotGap(missing)) } else { Ok(()) }
    }

    /// The page after the last one, passing over the lock page.
    fn following(&self) -> u32 {
        let next = self.last.saturating_add(1);
        if next == self.lock.get() { next.saturating_add(1) } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::WalSpan;
    use crate::types::{TimestampMs, Txid, TxidRange};

    fn snapshot(page_size: PageSize, commit: u32) -> PageOrder {
        PageOrder::new(&Header {
            no_checksum: true,
            page_size,
            commit,
            range: TxidRange::single(Txid::FIRST),
            timestamp: TimestampMs(0),
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            reserved: [0; 20],
        })
    }

    #[test]
    fn r16_a_snapshot_around_one_gibibyte_leaves_out_exactly_the_lock_page() {
        for bits in 9..=16 {
            let page_size = PageSize::new(1 << bits).expect("legal");
            let lock = page_size.lock_page().get();
            for commit in [lock - 1, lock, lock + 1, lock + 2] {
                let mut order = snapshot(page_size, commit);
                for number in (1..=commit).filter(|number| *number != lock) {
                    assert!(order.end().is_err(), "page {number} of {commit} is still to come");
                    let page = PageNo::new(number).expect("not 0");
                    assert_eq!(order.accept(page), Ok(()), "{page_size:?}: {number} of {commit}");
                }
                assert_eq!(order.end(), Ok(()), "{page_size:?}: {commit}");
            }
            let mut order = snapshot(page_size, lock + 1);
            order.last = lock - 1;
            let page = page_size.lock_page();
            assert_eq!(order.accept(page), Err(LtxError::LockPage(page)));
        }
    }
}
