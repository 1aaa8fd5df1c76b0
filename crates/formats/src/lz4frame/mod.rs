//! LZ4 frames: read from any encoder, written in the one form that LTX pages of Litestream 0.5.0-0.5.15 have.
//!
//! The blocks inside are `lz4_flex`'s work, the frame around them is ours: its own frame reader needs `std`.
//!
//! ```text
//! magic 04 22 4d 18 · FLG · BD · [content size u64] · [dictionary id u32] · HC
//! blocks: size u32 (bit 31: stored as it is) · bytes · [xxh32 u32]
//! end: size 0 u32 · [xxh32 of the content u32]
//! FLG  bits 7-6 version 01 · 5 independent blocks · 4 block checksums · 3 content size · 2 content checksum ·
//!      1 zero · 0 dictionary id
//! BD   bit 7 zero · bits 6-4 greatest block 4: 64 KiB, 5: 256 KiB, 6: 1 MiB, 7: 4 MiB · bits 3-0 zero
//! HC   second byte of the xxh32 of FLG to the field before it
//! ```
//! Little-endian throughout.

mod read;
mod xxh32;

pub use read::{FrameReader, ReadError};
pub use xxh32::Xxh32;

use crate::source::{Fault, Input};
use alloc::vec::Vec;
use lz4_flex::block::CompressTable;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// As observed in every page of Litestream 0.5.0-0.5.15: independent blocks of at most 64 KiB, content checksum.
const PAGE_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7];
/// How far back a linked block may refer, bytes.
const WINDOW: usize = 64 * 1024;
/// Bit 31 of a block's size: its bytes are stored, not compressed.
const STORED: u32 = 1 << 31;

/// Why bytes are not a frame that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lz4Error {
    /// The stream ends inside a frame, or before the first one.
    #[error("an LZ4 frame ends too early")]
    Short,
    /// Something else.
    #[error("not an LZ4 frame (it begins with {0:08x})")]
    Magic(u32),
    /// A file that `age` has encrypted.
    #[error("encrypted with age, which is not supported: decrypt it first")]
    AgeEncrypted,
    /// The frame format of before 2013.
    #[error("an LZ4 legacy frame, which is not supported")]
    LegacyFrame,
    /// Version or reserved bits that nobody has defined.
    #[error("LZ4 frame descriptor {flags:02x} {block:02x} is not known")]
    Descriptor {
        /// FLG
        flags: u8,
        /// BD
        block: u8,
    },
    /// The frame needs bytes that it does not carry.
    #[error("an LZ4 frame that needs dictionary {0:08x}")]
    Dictionary(u32),
    /// Header, block or content checksum.
    #[error("an LZ4 {0} checksum does not match")]
    Checksum(&'static str),
    /// A block longer than its descriptor allows.
    #[error("an LZ4 block of {0} bytes is longer than its frame allows")]
    BlockTooLong(u32),
    /// The compressed bytes make no sense, or more than they may.
    #[error("an LZ4 block cannot be decompressed")]
    Block,
    /// The content is longer or shorter than the frame says, or than its place.
    #[error("the content of an LZ4 frame has the wrong length")]
    ContentSize,
}

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Descriptor {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_max: usize,
}

/// A block's size field.
struct Block {
    stored: bool,
    len: usize,
}

/// Either side of a failed parse.
pub(crate) enum Failure<E> {
    Source(E),
    Frame(Lz4Error),
}

impl<E> From<Fault<E>> for Failure<E> {
    fn from(fault: Fault<E>) -> Self {
        match fault {
            Fault::Source(error) => Self::Source(error),
            Fault::Short => Self::Frame(Lz4Error::Short),
        }
    }
}

impl<E> From<Lz4Error> for Failure<E> {
    fn from(error: Lz4Error) -> Self {
        Self::Frame(error)
    }
}

impl Descriptor {
    /// Reads the header behind the magic.
    fn read<I: Input>(input: &mut I) -> Result<Self, Failure<I::Error>> {
        let [flags, block] = input.array::<2>()?;
        let mut hash = Xxh32::new();
        hash.update(&[flags, block]);
        let known = flags & 0b1100_0010 == 0b0100_0000 && block & 0b1000_1111 == 0;
        let block_max = match block >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(Lz4Error::Descriptor { flags, block }.into()),
        };
        if !known {
            return Err(Lz4Error::Descriptor { flags, block }.into());
        }
        let mut content_size = None;
        if flags & 8 != 0 {
            let field = input.array::<8>()?;
            hash.update(&field);
            content_size = Some(u64::from_le_bytes(field));
        }
        let mut dictionary = None;
        if flags & 1 != 0 {
            let field = input.array::<4>()?;
            hash.update(&field);
            dictionary = Some(u32::from_le_bytes(field));
        }
        let [check] = input.array::<1>()?;
        let [_, expected, ..] = hash.value().to_le_bytes();
        if check != expected {
            return Err(Lz4Error::Checksum("header").into());
        }
        if let Some(id) = dictionary {
            return Err(Lz4Error::Dictionary(id).into());
        }
        Ok(Self {
            linked: flags & 0x20 == 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 4 != 0,
            content_size,
            block_max,
        })
    }

    /// The next block's size; `None` at the end mark.
    fn next_block<I: Input>(&self, input: &mut I) -> Result<Option<Block>, Failure<I::Error>> {
        let field = u32::from_le_bytes(input.array::<4>()?);
        if field == 0 {
            return Ok(None);
        }
        let len = (field & !STORED) as usize;
        if len > self.block_max {
            return Err(Lz4Error::BlockTooLong(field & !STORED).into());
        }
        Ok(Some(Block { stored: field & STORED != 0, len }))
    }

    /// Checks a block's own checksum, which follows it, if the frame has them.
    fn check_block<I: Input>(&self, input: &mut I, hash: u32) -> Result<(), Failure<I::Error>> {
        if self.block_checksums && u32::from_le_bytes(input.array::<4>()?) != hash {
            return Err(Lz4Error::Checksum("block").into());
        }
        Ok(())
    }

    /// Checks what follows the end mark.
    fn check_end<I: Input>(
        &self,
        input: &mut I,
        content: &Xxh32,
        length: u64,
    ) -> Result<(), Failure<I::Error>> {
        if self.content_checksum && u32::from_le_bytes(input.array::<4>()?) != content.value() {
            return Err(Lz4Error::Checksum("content").into());
        }
        if self.content_size.is_some_and(|size| size != length) {
            return Err(Lz4Error::ContentSize.into());
        }
        Ok(())
    }
}

/// Puts a block's content at the front of `out`; `before` is what earlier blocks of a linked frame gave.
fn decode_block(block: &Block, bytes: &[u8], before: &[u8], out: &mut [u8]) -> Result<usize, Lz4Error> {
    if block.stored {
        out.get_mut(..bytes.len()).ok_or(Lz4Error::ContentSize)?.copy_from_slice(bytes);
        return Ok(bytes.len());
    }
    if before.is_empty() {
        lz4_flex::block::decompress_into(bytes, out).map_err(|_| Lz4Error::Block)
    } else {
        lz4_flex::block::decompress_into_with_dict(bytes, out, before).map_err(|_| Lz4Error::Block)
    }
}

/// Decodes exactly one frame, which must fill `out` exactly: the older form of an LTX page.
pub(crate) fn read_page<I: Input>(input: &mut I, out: &mut [u8]) -> Result<(), Failure<I::Error>> {
    let magic = input.array::<4>()?;
    if magic != MAGIC {
        return Err(Lz4Error::Magic(u32::from_be_bytes(magic)).into());
    }
    let descriptor = Descriptor::read(input)?;
    let mut content = Xxh32::new();
    let mut filled = 0;
    while let Some(block) = descriptor.next_block(input)? {
        let (before, place) = out.split_at_mut_checked(filled).ok_or(Lz4Error::ContentSize)?;
        let before = if descriptor.linked { tail(before) } else { &[] };
        let bytes = input.take(block.len)?;
        let hash = if descriptor.block_checksums { Xxh32::of(bytes) } else { 0 };
        let room = place.len().min(descriptor.block_max);
        let place = place.get_mut(..room).ok_or(Lz4Error::ContentSize)?;
        let count = decode_block(&block, bytes, before, place)?;
        descriptor.check_block(input, hash)?;
        if descriptor.content_checksum {
            content.update(place.get(..count).ok_or(Lz4Error::ContentSize)?);
        }
        filled += count;
    }
    descriptor.check_end(input, &content, filled as u64)?;
    if filled == out.len() { Ok(()) } else { Err(Lz4Error::ContentSize.into()) }
}

/// The last bytes that a linked block may refer to.
fn tail(bytes: &[u8]) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(WINDOW)..).unwrap_or(bytes)
}

/// Appends `page` (at most 65536 bytes) as one frame in the form of Litestream 0.5.0-0.5.15.
///
/// # Errors
/// [`Lz4Error::BlockTooLong`] for a longer one.
pub fn write_page(page: &[u8], table: &mut CompressTable, out: &mut Vec<u8>) -> Result<(), Lz4Error> {
    let len = u32::try_from(page.len()).map_err(|_| Lz4Error::BlockTooLong(u32::MAX))?;
    if page.len() > 64 << 10 {
        return Err(Lz4Error::BlockTooLong(len));
    }
    out.extend_from_slice(&PAGE_HEADER);
    let size_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let block_at = out.len();
    append_block(page, table, out)?;
    let compressed = out.len() - block_at;
    let mut field = u32::try_from(compressed).map_err(|_| Lz4Error::BlockTooLong(u32::MAX))?;
    if field >= len {
        out.truncate(block_at);
        out.extend_from_slice(page);
        field = len | STORED;
    }
    if let Some(place) = out.get_mut(size_at..block_at) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&Xxh32::of(page).to_le_bytes());
    Ok(())
}

/// Appends `data` as one raw LZ4 block and says nothing about its length.
pub(crate) fn append_block(
    data: &[u8],
    table: &mut CompressTable,
    out: &mut Vec<u8>,
) -> Result<(), Lz4Error> {
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(data.len()), 0);
    let room = out.get_mut(start..).ok_or(Lz4Error::Block)?;
    let written =
        lz4_flex::block::compress_into_with_table(data, room, table).map_err(|_| Lz4Error::Block)?;
    out.truncate(start + written);
    Ok(())
}
