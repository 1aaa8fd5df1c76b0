//! The header of SQLite's WAL index (`-shm`): which frames of the WAL are committed, and how far they are
//! back-filled into the database.
//!
//! Works on a copy of the first 136 bytes that the caller took from the mapping; never touches the file itself
//! (closing any descriptor of it would drop the process's locks).
//!
//! ```text
//!   0  header, copy 1 (48 bytes)        96  frames back-filled u32
//!  48  header, copy 2, must be equal   100  read marks, 5 x u32
//!                                      120  lock bytes
//!                                      128  frames that a checkpoint set out to back-fill u32
//!  header: version u32 · unused u32 · change counter u32 · initialised u8 · big-endian checksums u8 ·
//!          page size u16 (1: 65536) · last committed frame u32 · database pages u32 · that frame's checksum
//!          2 x u32 · salts 2 x u32 (bytes of the WAL header) · checksum of the 40 bytes before 2 x u32
//! ```
//! All in the machine's byte order but for the salts.

use crate::fields::Fields;
use crate::types::{PageSize, Salts, WalChecksum};
use crate::wal::wal_checksum;

const VERSION: u32 = 3_007_000;
/// One copy of the header, bytes.
const HEADER: usize = 48;
/// The part of it under its checksum, bytes.
const CHECKED: usize = 40;

/// Why the index says nothing right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalIndexError {
    /// Fewer than [`WalIndex::LEN`] bytes.
    #[error("the WAL index is shorter than its header")]
    Short,
    /// A writer is between its two copies, or died there: look again, then let SQLite recover it.
    #[error("the two copies of the WAL index header differ")]
    Unequal,
    /// No connection has built it yet.
    #[error("the WAL index is not initialised")]
    NotInitialised,
    /// A version that no SQLite writes.
    #[error("WAL index version {0} is not known")]
    Version(u32),
    /// Both copies are equal and wrong.
    #[error("the checksum of the WAL index header does not match")]
    Checksum,
    /// A page size that SQLite does not have.
    #[error("the WAL index has an impossible page size field {0:#06x}")]
    PageSize(u16),
}

/// Facts about the WAL, as every connection sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalIndex {
    /// Counts commits since the index was made; recovery begins anew from nought.
    pub i_change: u32,
    /// Whether the WAL's checksums read words big-endian.
    pub big_endian_checksum: bool,
    /// Bytes of a page; `None` after recovery of an empty WAL, when SQLite writes 0 here.
    pub page_size: Option<PageSize>,
    /// The last committed frame, 0 when the WAL holds nothing.
    pub mx_frame: u32,
    /// Pages of the database after that frame.
    pub n_page: u32,
    /// Running checksum at that frame.
    pub frame_checksum: WalChecksum,
    /// Salts of the WAL. With `mx_frame` 0 these are *not* those of the next life.
    pub salts: Salts,
    /// Frames known to be in the database file.
    pub n_backfill: u32,
    /// Frames that some checkpoint has begun to back-fill.
    pub n_backfill_attempted: u32,
    /// Read marks; 0xffffffff is unused, slot 0 always 0.
    pub read_marks: [u32; 5],
}

impl WalIndex {
    /// Bytes of the block's front that the header and the checkpoint information take.
    pub const LEN: usize = 136;
}

/// The parser of the index header.
#[derive(Debug, Clone, Copy)]
pub struct WalIndexHeader;

impl WalIndexHeader {
    /// Parses a copy of the first [`WalIndex::LEN`] bytes (more are ignored), in this machine's byte order.
    ///
    /// # Errors
    /// [`WalIndexError`]; the first two can pass by themselves.
    pub fn parse(bytes: &[u8]) -> Result<WalIndex, WalIndexError> {
        let bytes: &[u8; WalIndex::LEN] = bytes.first_chunk().ok_or(WalIndexError::Short)?;
        let (first, rest) = bytes.split_at_checked(HEADER).ok_or(WalIndexError::Short)?;
        let (second, info) = rest.split_at_checked(HEADER).ok_or(WalIndexError::Short)?;
        if first != second {
            return Err(WalIndexError::Unequal);
        }
        let index = Self::copy(first)?;
        Self::checkpoint_info(index, info).ok_or(WalIndexError::Short)
    }

    /// One copy of the header; the checkpoint information is still empty.
    fn copy(header: &[u8]) -> Result<WalIndex, WalIndexError> {
        let raw = Raw::read(header).ok_or(WalIndexError::Short)?;
        if raw.initialised == 0 {
            return Err(WalIndexError::NotInitialised);
        }
        let covered = header.get(..CHECKED).ok_or(WalIndexError::Short)?;
        if wal_checksum(cfg!(target_endian = "big"), WalChecksum::default(), covered) != raw.checksum {
            return Err(WalIndexError::Checksum);
        }
        if raw.version != VERSION {
            return Err(WalIndexError::Version(raw.version));
        }
        let page_size = match raw.page_size {
            0 => None,
            field => Some(PageSize::from_db_header(field).ok_or(WalIndexError::PageSize(field))?),
        };
        Ok(WalIndex { page_size, ..raw.facts })
    }

    fn checkpoint_info(index: WalIndex, info: &[u8]) -> Option<WalIndex> {
        let mut fields = Fields::new(info);
        let n_backfill = fields.u32_native()?;
        let mut read_marks = [0; 5];
        for mark in &mut read_marks {
            *mark = fields.u32_native()?;
        }
        fields.skip(8)?;
        let n_backfill_attempted = fields.u32_native()?;
        Some(WalIndex { n_backfill, n_backfill_attempted, read_marks, ..index })
    }
}

/// The fields of one copy before any of them is believed.
struct Raw {
    version: u32,
    initialised: u8,
    page_size: u16,
    checksum: WalChecksum,
    facts: WalIndex,
}

impl Raw {
    fn read(header: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(header);
        let version = fields.u32_native()?;
        fields.skip(4)?;
        let i_change = fields.u32_native()?;
        let initialised = fields.u8()?;
        let big_endian_checksum = fields.u8()? != 0;
        let page_size = fields.u16_native()?;
        let facts = WalIndex {
            i_change,
            big_endian_checksum,
            page_size: None,
            mx_frame: fields.u32_native()?,
            n_page: fields.u32_native()?,
            frame_checksum: WalChecksum(fields.u32_native()?, fields.u32_native()?),
            salts: Salts(fields.u32_be()?, fields.u32_be()?),
            n_backfill: 0,
            n_backfill_attempted: 0,
            read_marks: [0; 5],
        };
        let checksum = WalChecksum(fields.u32_native()?, fields.u32_native()?);
        Some(Self { version, initialised, page_size, checksum, facts })
    }
}
