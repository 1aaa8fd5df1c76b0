//! What can be wrong with an LTX file, and whose fault it is.

use crate::lz4frame::Lz4Error;
use crate::types::{Checksum, PageNo};

/// Why bytes are not a good LTX file, or why a file cannot be written that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LtxError {
    /// The file ends too early, in the named part.
    #[error("the LTX file is cut off in its {0}")]
    Short(&'static str),
    /// Something else.
    #[error("not an LTX file: it begins with {0:08x}")]
    Magic(u32),
    /// The form of a beta release of Litestream 0.5 (stream version 1 or 2).
    #[error(
        "an LTX file of stream version {0}, written by a beta of Litestream 0.5 (or by LiteFS); only version 3 can be read"
    )]
    Beta(u8),
    /// Header flags that version 3 does not have.
    #[error("unknown LTX header flags {0:08x}")]
    Flags(u32),
    /// Not a power of two from 512 to 65536.
    #[error("an LTX file cannot have pages of {0} bytes")]
    PageSize(u32),
    /// TXID 0, or a range that runs backwards.
    #[error("impossible TXID range {0:016x}-{1:016x}")]
    Range(u64, u64),
    /// A checksum field that must be there and is not, or the reverse, or lacks bit 63.
    #[error("the {0} checksum field holds {1:016x}, which this kind of file cannot have")]
    ChecksumField(&'static str, u64),
    /// WAL offset, size and salts contradict one another.
    #[error("impossible WAL position in the LTX header")]
    WalSpan,
    /// A database of no pages, which only a checksummed file may state.
    #[error("an LTX file without checksums cannot state a database of no pages")]
    NoPages,
    /// Flags of a page that version 3 does not have.
    #[error("unknown flags {flags:04x} on page {page}")]
    PageFlags {
        /// Page number field.
        page: u32,
        /// Flags field.
        flags: u16,
    },
    /// Pages must come in ascending order.
    #[error("page {page} after page {after}")]
    PageOrder {
        /// The one out of order.
        page: u32,
        /// The one before it, 0 for none.
        after: u32,
    },
    /// A page past the end of the database.
    #[error("page {page} in a database of {commit} pages")]
    PagePastEnd {
        /// The page.
        page: u32,
        /// Pages of the database.
        commit: u32,
    },
    /// The page of SQLite's lock bytes is never stored.
    #[error("page {0} is the lock page, which no LTX file holds")]
    LockPage(PageNo),
    /// A file from TXID 1 must hold every page.
    #[error("a file that begins at TXID 1 lacks page {0}")]
    SnapshotGap(u32),
    /// The page's data is longer than any compressor makes it.
    #[error("page {page} says that it takes {size} bytes")]
    PageTooLong {
        /// The page.
        page: u32,
        /// Size field.
        size: u32,
    },
    /// The page's data does not decompress to one page.
    #[error("page {page} cannot be decompressed to a page")]
    PageData {
        /// The page.
        page: u32,
    },
    /// The page's data, in the older form, is no good LZ4 frame.
    #[error("page {page}: {error}")]
    PageFrame {
        /// The page.
        page: u32,
        /// What is wrong with the frame.
        error: Lz4Error,
    },
    /// The page index is malformed.
    #[error("the page index is malformed")]
    Index,
    /// The page index does not describe the pages that the file holds.
    #[error("the page index does not match the pages of the file")]
    IndexMismatch,
    /// The file's checksum.
    #[error("file checksum is {stored}, its content gives {computed}")]
    FileChecksum {
        /// In the trailer.
        stored: Checksum,
        /// Of what was read.
        computed: Checksum,
    },
    /// The database checksum of a file that holds the whole database.
    #[error("database checksum is {stored}, the pages give {computed}")]
    PostApply {
        /// In the trailer.
        stored: Checksum,
        /// Of the pages.
        computed: Checksum,
    },
    /// Bytes behind the trailer.
    #[error("bytes follow the end of the LTX file")]
    Trailing,
    /// A buffer or page of another length than the file's page size.
    #[error("a page of {got} bytes where the file has pages of {expected}")]
    PageLength {
        /// What the caller gave.
        got: usize,
        /// The file's.
        expected: usize,
    },
    /// Asked again after an error.
    #[error("the file was found to be bad before")]
    Failed,
}

impl LtxError {
    /// Whether the caller did something wrong, rather than the file.
    pub const fn is_misuse(&self) -> bool {
        matches!(self, Self::PageLength { .. } | Self::Failed)
    }
}

/// Reading failed: the source's error, or the file's.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError<E> {
    /// The source's own error.
    #[error("reading an LTX file: {0}")]
    Source(E),
    /// See [`LtxError`].
    #[error(transparent)]
    Format(#[from] LtxError),
}

impl<E> DecodeError<E> {
    /// The file's error, if it is one.
    pub const fn format(&self) -> Option<LtxError> {
        match self {
            Self::Source(_) => None,
            Self::Format(error) => Some(*error),
        }
    }
}
