//! Names in a Litestream 0.3 backup.
//!
//! ```text
//! generations/<16 hex>/snapshots/<index, 8 hex>.snapshot.lz4
//! generations/<16 hex>/wal/<index, 8 hex>_<offset, 8 to 16 hex>.wal.lz4
//! ```
//! A snapshot is the database file; segments of one index, in the order of their offsets, are one WAL file, each
//! ending on a commit. Offsets past 4 GiB have more than eight digits; who reads only eight drops the end of a
//! large database without a word (R40).

use core::fmt;

/// The greatest index that Litestream counts to.
const MAX_INDEX: u32 = 0x7fff_ffff;

/// A generation: one unbroken series of WALs, named at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Exactly 16 lower-case hex digits.
    pub fn parse(name: &str) -> Option<Self> {
        if name.len() != 16 {
            return None;
        }
        hex(name).map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The number of a WAL's life within its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalNumber(u32);

impl WalNumber {
    /// `None` above 0x7fffffff.
    pub const fn new(index: u32) -> Option<Self> {
        if index <= MAX_INDEX { Some(Self(index)) } else { None }
    }

    /// The number itself, from 0 on.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next one; `None` after the last.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    fn parse(digits: &str) -> Option<Self> {
        if digits.len() != 8 {
            return None;
        }
        Self::new(u32::try_from(hex(digits)?).ok()?)
    }
}

impl fmt::Display for WalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The name of a snapshot: the database as it was when this WAL had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName {
    /// The WAL that follows it.
    pub index: WalNumber,
}

impl SnapshotName {
    /// `<index>.snapshot.lz4`; `None` for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        let index = WalNumber::parse(name.strip_suffix(".snapshot.lz4")?)?;
        Some(Self { index })
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.snapshot.lz4", self.index)
    }
}

/// The name of a WAL segment. Orders by WAL, then by place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Which WAL.
    pub index: WalNumber,
    /// First byte of that WAL in this segment.
    pub offset: u64,
    /// Digits that the offset had, so that the name comes out as it was read.
    digits: u8,
}

impl SegmentName {
    /// With as many digits as a writer uses: eight, or more where eight do not do.
    pub const fn new(index: WalNumber, offset: u64) -> Self {
        Self { index, offset, digits: 8 }
    }

    /// `<index>_<offset>.wal.lz4`; `None` for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        let (index, offset) = name.strip_suffix(".wal.lz4")?.split_once('_')?;
        let digits = u8::try_from(offset.len()).ok().filter(|count| (8..=16).contains(count))?;
        Some(Self { index: WalNumber::parse(index)?, offset: hex(offset)?, digits })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:0width$x}.wal.lz4", self.index, self.offset, width = usize::from(self.digits))
    }
}

/// Lower-case hex digits only, no sign, at most 16.
fn hex(digits: &str) -> Option<u64> {
    let legal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.is_empty() || !digits.bytes().all(legal) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
