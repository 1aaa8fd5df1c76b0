//! SQLite's write-ahead log: header, frames, the running checksum, and the scan to the last commit.
//!
//! A WAL file is a 32-byte header and then frames of 24 bytes and a page. Its length says nothing: after a
//! restart SQLite writes over the old frames from the front. What counts is the chain of checksums and the salts,
//! and even a whole chain is only what *was written*: whether it was committed, the WAL index knows
//! (`crate::walindex`), so a live WAL is never read past its `mx_frame`.
//!
//! ```text
//! header  magic u32 · version u32 · page size u32 · sequence u32 · salt u32 u32 · checksum u32 u32
//! frame   page u32 · pages after commit u32 (0: none) · salt u32 u32 · checksum u32 u32 · page bytes
//! ```
//! All big-endian; only the words under the checksum are read in the order that the magic says.

use crate::fields::{Fields, Writer};
use crate::source::{Buffered, ByteSource, Fault, Input};
use crate::types::{PageNo, PageSize, Salts, WalChecksum};

/// The only version SQLite has written.
const VERSION: u32 = 3_007_000;
/// Checksum words are little-endian; with the lowest bit set, big-endian.
const MAGIC: u32 = 0x377f_0682;

/// Why bytes are not a WAL header or not the next frame of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Fewer bytes than the header or the frame has.
    #[error("the WAL ends in the middle of a header or frame")]
    Short,
    /// Not a WAL's first four bytes.
    #[error("not a WAL: its magic is {0:08x}")]
    Magic(u32),
    /// A version that no SQLite writes.
    #[error("WAL version {0} is not known")]
    Version(u32),
    /// Not a power of two from 512 to 65536.
    #[error("a WAL cannot have pages of {0} bytes")]
    PageSize(u32),
    /// A frame for page 0.
    #[error("a WAL frame for page 0")]
    PageZero,
    /// The salts are another life's: an old frame that the WAL has not reached again.
    #[error("a WAL frame of another life of the file (its salts differ)")]
    Salts,
    /// The running checksum does not fit: torn, never finished, or damaged.
    #[error("a WAL checksum does not match")]
    Checksum,
    /// More frames than a WAL can number.
    #[error("more WAL frames than can be numbered")]
    TooLong,
}

/// The source failed, or the bytes are no WAL.
#[derive(Debug, thiserror::Error)]
pub enum WalReadError<E> {
    /// The source's own error.
    #[error("reading a WAL: {0}")]
    Source(E),
    /// See [`WalError`].
    #[error(transparent)]
    Format(#[from] WalError),
}

impl<E> From<Fault<E>> for WalReadError<E> {
    fn from(fault: Fault<E>) -> Self {
        match fault {
            Fault::Source(error) => Self::Source(error),
            Fault::Short => Self::Format(WalError::Short),
        }
    }
}

/// Continues a WAL checksum over `bytes`, two words at a time. A rest under 8 bytes is not covered.
pub fn wal_checksum(big_endian: bool, seed: WalChecksum, bytes: &[u8]) -> WalChecksum {
    let sum = |seed: WalChecksum, word: fn([u8; 4]) -> u32| {
        let WalChecksum(mut s0, mut s1) = seed;
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            s0 = s0.wrapping_add(word([a, b, c, d])).wrapping_add(s1);
            s1 = s1.wrapping_add(word([e, f, g, h])).wrapping_add(s0);
        }
        WalChecksum(s0, s1)
    };
    if big_endian { sum(seed, u32::from_be_bytes) } else { sum(seed, u32::from_le_bytes) }
}

/// Bytes of one frame: header and page.
pub const fn frame_len(page_size: PageSize) -> usize {
    FrameHeader::LEN + page_size.bytes()
}

/// Where frame `number` (1 is the first) begins in the file. The end of frame n is the beginning of n + 1.
pub const fn frame_offset(number: u32, page_size: PageSize) -> u64 {
    WalHeader::LEN as u64 + (number as u64).saturating_sub(1) * frame_len(page_size) as u64
}

/// The first 32 bytes of a WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Whether checksums read words big-endian.
    pub big_endian_checksum: bool,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// Counts checkpoints; says nothing about identity.
    pub sequence: u32,
    /// Names this life of the WAL.
    pub salts: Salts,
    /// Of the 24 bytes before it; the seed of the first frame.
    pub checksum: WalChecksum,
}

impl WalHeader {
    /// Bytes.
    pub const LEN: usize = 32;

    /// A header with its checksum worked out.
    pub fn new(big_endian_checksum: bool, page_size: PageSize, sequence: u32, salts: Salts) -> Self {
        let mut header =
            Self { big_endian_checksum, page_size, sequence, salts, checksum: WalChecksum::default() };
        header.checksum = checksum_of(big_endian_checksum, WalChecksum::default(), &header.write(), 24);
        header
    }

    /// Parses and verifies; bytes past the header are ignored.
    ///
    /// # Errors
    /// Everything but [`WalError::Salts`] and the frame errors. SQLite takes a WAL with a bad header for an empty one.
    pub fn parse(bytes: &[u8]) -> Result<Self, WalError> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk().ok_or(WalError::Short)?;
        let mut fields = Fields::new(bytes);
        let mut next = || fields.u32_be().ok_or(WalError::Short);
        let magic = next()?;
        if magic & !1 != MAGIC {
            return Err(WalError::Magic(magic));
        }
        let version = next()?;
        if version != VERSION {
            return Err(WalError::Version(version));
        }
        let size = next()?;
        let page_size = PageSize::new(size).ok_or(WalError::PageSize(size))?;
        let header = Self {
            big_endian_checksum: magic & 1 == 1,
            page_size,
            sequence: next()?,
            salts: Salts(next()?, next()?),
            checksum: WalChecksum(next()?, next()?),
        };
        let sum = checksum_of(header.big_endian_checksum, WalChecksum::default(), bytes, 24);
        if sum != header.checksum {
            return Err(WalError::Checksum);
        }
        Ok(header)
    }

    /// As stored, with the checksum of the field.
    pub fn write(&self) -> [u8; Self::LEN] {
        Writer::new()
            .u32_be(MAGIC | u32::from(self.big_endian_checksum))
            .u32_be(VERSION)
            .u32_be(self.page_size.get())
            .u32_be(self.sequence)
            .u32_be(self.salts.0)
            .u32_be(self.salts.1)
            .u32_be(self.checksum.0)
            .u32_be(self.checksum.1)
            .finish()
    }
}

/// The checksum over the first `len` of `bytes`.
fn checksum_of(big_endian: bool, seed: WalChecksum, bytes: &[u8], len: usize) -> WalChecksum {
    wal_checksum(big_endian, seed, bytes.get(..len).unwrap_or(bytes))
}

/// The 24 bytes before a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The page that follows.
    pub page: PageNo,
    /// Pages of the database after the commit that this frame ends; 0 when it ends none.
    pub commit: u32,
    /// The WAL header's salts, if the frame is of this life.
    pub salts: Salts,
    /// Running checksum up to and with this frame.
    pub checksum: WalChecksum,
}

impl FrameHeader {
    /// Bytes.
    pub const LEN: usize = 24;

    /// Parses without verifying: that takes the frame before ([`FrameChain`]).
    ///
    /// # Errors
    /// [`WalError::Short`], [`WalError::PageZero`].
    pub fn parse(bytes: &[u8]) -> Result<Self, WalError> {
        let mut fields = Fields::new(bytes.get(..Self::LEN).ok_or(WalError::Short)?);
        let mut next = || fields.u32_be().ok_or(WalError::Short);
        Ok(Self {
            page: PageNo::new(next()?).ok_or(WalError::PageZero)?,
            commit: next()?,
            salts: Salts(next()?, next()?),
            checksum: WalChecksum(next()?, next()?),
        })
    }

    /// As stored.
    pub fn write(&self) -> [u8; Self::LEN] {
        Writer::new()
            .u32_be(self.page.get())
            .u32_be(self.commit)
            .u32_be(self.salts.0)
            .u32_be(self.salts.1)
            .u32_be(self.checksum.0)
            .u32_be(self.checksum.1)
            .finish()
    }

    /// Whether a transaction ends with this frame.
    pub const fn is_commit(&self) -> bool {
        self.commit != 0
    }
}

/// The running verifier of a WAL: each frame must continue the checksum of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameChain {
    big_endian: bool,
    page_size: PageSize,
    salts: Salts,
    checksum: WalChecksum,
}

impl FrameChain {
    /// From the beginning of the WAL.
    pub const fn begin(header: &WalHeader) -> Self {
        Self::resume(header.big_endian_checksum, header.page_size, header.salts, header.checksum)
    }

    /// From behind a frame whose checksum is known.
    pub const fn resume(big_endian: bool, page_size: PageSize, salts: Salts, checksum: WalChecksum) -> Self {
        Self { big_endian, page_size, salts, checksum }
    }

    /// Checks `frame` (header and page) and moves past it. A frame that does not fit changes nothing.
    ///
    /// # Errors
    /// [`WalError::Short`] for any other length than [`frame_len`], [`WalError::PageZero`], [`WalError::Salts`],
    /// [`WalError::Checksum`]: each of them ends the valid part of a WAL.
    pub fn next(&mut self, frame: &[u8]) -> Result<FrameHeader, WalError> {
        let (start, page) = frame.split_at_checked(FrameHeader::LEN).ok_or(WalError::Short)?;
        if page.len() != self.page_size.bytes() {
            return Err(WalError::Short);
        }
        let header = FrameHeader::parse(start)?;
        if header.salts != self.salts {
            return Err(WalError::Salts);
        }
        if self.after(start, page) != header.checksum {
            return Err(WalError::Checksum);
        }
        self.checksum = header.checksum;
        Ok(header)
    }

    /// The header that makes `data` the next frame; the chain moves past it.
    pub fn append(&mut self, page: PageNo, commit: u32, data: &[u8]) -> FrameHeader {
        let mut header = FrameHeader { page, commit, salts: self.salts, checksum: self.checksum };
        header.checksum = self.after(&header.write(), data);
        self.checksum = header.checksum;
        header
    }

    /// The checksum after a frame; only the first 8 bytes of its header are covered.
    fn after(&self, frame_header: &[u8], page: &[u8]) -> WalChecksum {
        let seed = checksum_of(self.big_endian, self.checksum, frame_header, 8);
        wal_checksum(self.big_endian, seed, page)
    }

    /// Checksum of the last frame that was taken, or what the chain began with.
    pub const fn checksum(&self) -> WalChecksum {
        self.checksum
    }

    /// Salts that every frame must carry.
    pub const fn salts(&self) -> Salts {
        self.salts
    }

    /// Bytes of a page.
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }
}

/// A commit frame: the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Its number, 1 is the WAL's first.
    pub frame: u32,
    /// Pages of the database after it.
    pub pages: u32,
    /// Its stored checksum, with which reading can go on behind it.
    pub checksum: WalChecksum,
}

/// How far a WAL is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Frames in the valid chain, committed or not, counted from the WAL's beginning.
    pub valid_frames: u32,
    /// The last commit seen; `None` when the scanned part holds none.
    pub last_commit: Option<Commit>,
    /// What ended the chain; `None` when the stream ended behind a whole frame.
    pub stopped_by: Option<WalError>,
}

/// Reads the frames of a WAL from a stream, one page in memory, to the end of the valid chain.
#[derive(Debug)]
pub struct WalReader<S> {
    input: Buffered<S>,
    chain: FrameChain,
    frame: u32,
    last_commit: Option<Commit>,
    stopped: bool,
    stopped_by: Option<WalError>,
}

impl<S: ByteSource> WalReader<S> {
    /// Reads the header; the source stands at the beginning of the WAL.
    ///
    /// # Errors
    /// The source's, or those of [`WalHeader::parse`].
    pub fn new(source: S) -> Result<(Self, WalHeader), WalReadError<S::Error>> {
        let mut input = Buffered::new(source);
        let header = WalHeader::parse(&input.array::<{ WalHeader::LEN }>()?)?;
        let reader = Self::over(input, FrameChain::begin(&header), 0);
        Ok((reader, header))
    }

    /// Goes on behind frame `frame`, to which `chain` stands; the source stands at [`frame_offset`] of `frame + 1`.
    pub fn resume(source: S, chain: FrameChain, frame: u32) -> Self {
        Self::over(Buffered::new(source), chain, frame)
    }

    fn over(input: Buffered<S>, chain: FrameChain, frame: u32) -> Self {
        Self { input, chain, frame, last_commit: None, stopped: false, stopped_by: None }
    }

    /// The next frame of the valid chain with its page; `None` at its end, and from then on.
    ///
    /// # Errors
    /// Only the source's: bytes that do not fit end a WAL, they do not spoil it.
    pub fn next_frame(&mut self) -> Result<Option<(FrameHeader, &[u8])>, S::Error> {
        if self.stopped || self.input.at_end()? {
            self.stopped = true;
            return Ok(None);
        }
        let bytes = match self.input.take(frame_len(self.chain.page_size)) {
            Ok(bytes) => bytes,
            Err(Fault::Source(error)) => return Err(error),
            Err(Fault::Short) => {
                self.stopped = true;
                self.stopped_by = Some(WalError::Short);
                return Ok(None);
            }
        };
        let number = self.frame.checked_add(1).ok_or(WalError::TooLong);
        match number.and_then(|number| self.chain.next(bytes).map(|header| (number, header))) {
            Ok((number, header)) => {
                self.frame = number;
                if header.is_commit() {
                    let commit = Commit { frame: number, pages: header.commit, checksum: header.checksum };
                    self.last_commit = Some(commit);
                }
                Ok(Some((header, bytes.get(FrameHeader::LEN..).unwrap_or(&[]))))
            }
            Err(error) => {
                self.stopped = true;
                self.stopped_by = Some(error);
                Ok(None)
            }
        }
    }

    /// What has been seen so far.
    pub fn seen(&self) -> Scan {
        Scan { valid_frames: self.frame, last_commit: self.last_commit, stopped_by: self.stopped_by }
    }

    /// Where the chain stands: behind the last frame read.
    pub fn chain(&self) -> FrameChain {
        self.chain
    }
}

/// Scans a whole WAL to its last commit. Of a *live* WAL this is an upper bound only (see the module's head).
///
/// # Errors
/// The source's, or those of [`WalHeader::parse`].
pub fn scan<S: ByteSource>(source: S) -> Result<(WalHeader, Scan), WalReadError<S::Error>> {
    let (mut reader, header) = WalReader::new(source)?;
    while reader.next_frame().map_err(WalReadError::Source)?.is_some() {}
    Ok((header, reader.seen()))
}

/// Scans on behind frame `frame`, to which `chain` stands. The source stands right behind that frame.
///
/// # Errors
/// The source's.
pub fn scan_from<S: ByteSource>(source: S, chain: FrameChain, frame: u32) -> Result<Scan, S::Error> {
    let mut reader = WalReader::resume(source, chain, frame);
    while reader.next_frame()?.is_some() {}
    Ok(reader.seen())
}
