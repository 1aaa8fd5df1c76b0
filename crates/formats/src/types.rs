//! The words every layer speaks: page numbers, sizes, TXIDs, levels, checksums, times.
//!
//! Each is a newtype that can only hold a legal value; what comes from outside is parsed here and nowhere else.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

/// A 1-based SQLite page number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(NonZeroU32);

impl PageNo {
    /// Page 1, which carries the database header.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// `None` for 0, which is no page.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number itself, 1 or more.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Byte offset of the page in a database file.
    pub const fn offset(self, page_size: PageSize) -> u64 {
        (self.0.get() as u64 - 1) * page_size.get() as u64
    }
}

impl fmt::Display for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A database's page size in bytes: a power of two from 512 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The greatest page size SQLite knows, bytes.
    pub const MAX: Self = Self(65536);

    /// `None` unless `bytes` is a power of two from 512 to 65536.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 512 && bytes <= 65536 { Some(Self(bytes)) } else { None }
    }

    /// From the 16-bit field of the database header, where 1 stands for 65536.
    pub const fn from_db_header(field: u16) -> Option<Self> {
        if field == 1 { Some(Self::MAX) } else { Self::new(field as u32) }
    }

    /// Bytes.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes, for lengths and indexes.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The page that holds SQLite's lock bytes at 1 GiB; it carries no data and is stored nowhere.
    pub const fn lock_page(self) -> PageNo {
        match PageNo::new(0x4000_0000 / self.0 + 1) {
            Some(page) => page,
            None => PageNo::FIRST,
        }
    }
}

/// A transaction id of the chain: 1 or more, consecutive. Shown as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(NonZeroU64);

impl Txid {
    /// The first slot of every chain.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// `None` for 0.
    pub const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The id itself.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The one after it; saturates at `u64::MAX`, which no chain reaches.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before it; `None` for the first.
    pub const fn previous(self) -> Option<Self> {
        Self::new(self.0.get() - 1)
    }

    /// Exactly 16 lower- or upper-case hex digits, not all zero.
    pub fn parse_hex(text: &str) -> Option<Self> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        Self::new(u64::from_str_radix(text, 16).ok()?)
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An inclusive range of TXIDs: what one LTX file covers, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxidRange {
    min: Txid,
    max: Txid,
}

impl TxidRange {
    /// `None` when `max < min`.
    pub fn new(min: Txid, max: Txid) -> Option<Self> {
        (min <= max).then_some(Self { min, max })
    }

    /// The range of a slot.
    pub const fn single(txid: Txid) -> Self {
        Self { min: txid, max: txid }
    }

    /// First TXID covered.
    pub const fn min(self) -> Txid {
        self.min
    }

    /// Last TXID covered.
    pub const fn max(self) -> Txid {
        self.max
    }

    /// A range that begins at TXID 1 holds the whole database (an LTX snapshot).
    pub fn is_snapshot(self) -> bool {
        self.min == Txid::FIRST
    }

    /// `<min>-<max>.ltx`, 16 lower-case hex digits each; anything else is not an LTX file's name.
    pub fn parse_file_name(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".ltx")?;
        let (min, max) = stem.split_once('-')?;
        if stem.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        Self::new(Txid::parse_hex(min)?, Txid::parse_hex(max)?)
    }
}

impl fmt::Display for TxidRange {
    /// `<min>-<max>`, the file name without its `.ltx`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// A level of the replica: 0 slots, 1..=8 compacted, 9 snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Slots: one file a transaction id.
    pub const SLOTS: Self = Self(0);
    /// Snapshots: files that begin at TXID 1.
    pub const SNAPSHOTS: Self = Self(9);

    /// `None` above 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= 9 { Some(Self(level)) } else { None }
    }

    /// 0..=9.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// All ten, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=9).map(Self)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A CRC-64/GO-ISO checksum as LTX stores it: bit 63 is always set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(u64);

impl Checksum {
    const FLAG: u64 = 1 << 63;

    /// The rolling checksum of a database without pages.
    pub const EMPTY: Self = Self(Self::FLAG);

    /// From a CRC value; sets bit 63.
    pub const fn from_crc(crc: u64) -> Self {
        Self(crc | Self::FLAG)
    }

    /// From a stored field: `None` when bit 63 is clear (absent, or damaged).
    pub const fn from_stored(field: u64) -> Option<Self> {
        if field & Self::FLAG != 0 { Some(Self(field)) } else { None }
    }

    /// As stored, bit 63 set.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Adds or removes (the same operation) one page's checksum to or from a rolling database checksum.
    #[must_use]
    pub const fn toggle(self, page: Self) -> Self {
        Self((self.0 ^ page.0) | Self::FLAG)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimestampMs(pub i64);

/// The number of an ownership claim, stamped into each seal; 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(NonZeroU64);

impl Epoch {
    /// The first claim of a replica.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// `None` for 0, which Litestream writes and which means "no seal".
    pub const fn new(epoch: u64) -> Option<Self> {
        match NonZeroU64::new(epoch) {
            Some(epoch) => Some(Self(epoch)),
            None => None,
        }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The next claim's number; saturates at `u64::MAX`, which damaged-record limits keep out of reach.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    /// Eight hex digits at least, as in `epochs/<%08x>.json`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The pair of salts that names one life of a WAL; raw header bytes read as big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Salts(pub u32, pub u32);

/// The running WAL checksum pair after a header or frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WalChecksum(pub u32, pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_page_lies_at_one_gibibyte_for_every_page_size() {
        for (size, page) in [(512, 2_097_153), (4096, 262_145), (65536, 16_385)] {
            assert_eq!(PageSize::new(size).map(|s| s.lock_page().get()), Some(page));
        }
    }

    #[test]
    fn only_ltx_names_are_ltx_names() {
        let good = "000000000000000a-000000000000000b.ltx";
        let range = TxidRange::parse_file_name(good).expect("a legal name");
        assert_eq!((range.min().get(), range.max().get()), (10, 11));
        assert_eq!(std::format!("{range}.ltx"), good);
        for bad in [
            "000000000000000A-000000000000000b.ltx",
            "000000000000000b-000000000000000a.ltx",
            "0000000000000000-000000000000000a.ltx",
            "000000000000000a-000000000000000b.ltx.tmp",
            "a-b.ltx",
            "+00000000000000a-000000000000000b.ltx",
            "",
        ] {
            assert_eq!(TxidRange::parse_file_name(bad), None, "{bad}");
        }
    }
}
