//! The first 100 and the last 16 bytes of an LTX file.

use super::{LtxError, Marks, Seal};
use crate::fields::{Fields, Writer};
use crate::types::{Checksum, PageSize, Salts, TimestampMs, Txid, TxidRange};

const MAGIC: u32 = 0x4c54_5831; // "LTX1", the same in every stream version
const NO_CHECKSUM: u32 = 2;
/// Stream version 1: one LZ4 frame over all pages.
const V1_COMPRESSED: u32 = 1;

/// Which part of which life of the WAL an LTX file was made from; all zero when from none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalSpan {
    /// First byte.
    pub offset: u64,
    /// Bytes; 0 when the offset is 0.
    pub size: u64,
    /// Salts of that life; zero when the offset is 0.
    pub salts: Salts,
}

impl WalSpan {
    fn is_legal(&self) -> bool {
        let nowhere = self.offset == 0 && (self.size != 0 || self.salts != Salts::default());
        i64::try_from(self.offset).is_ok() && i64::try_from(self.size).is_ok() && !nowhere
    }
}

/// The header of an LTX file.
///
/// ```text
///  0 magic "LTX1"      4 flags u32 (2: no checksums)     8 page size u32    12 commit u32 (pages)
/// 16 min TXID u64     24 max TXID u64                   32 time i64 (ms)   40 database checksum before u64
/// 48 WAL offset i64   56 WAL size i64                   64 WAL salts 2 x u32
/// 72 node id u64      80 reserved, 20 bytes
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// No database checksums before and after; what Litestream writes.
    pub no_checksum: bool,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// Pages of the database after this file, the lock page counted.
    pub commit: u32,
    /// Transactions in this file.
    pub range: TxidRange,
    /// Time of the last of them.
    pub timestamp: TimestampMs,
    /// Database checksum before this file; present unless `no_checksum` is set or the range begins at TXID 1.
    pub pre_apply: Option<Checksum>,
    /// The WAL it was made from.
    pub wal: WalSpan,
    /// 0 from Litestream; the epoch in a sealed file.
    pub node_id: u64,
    /// 0 from Litestream; the rest of the seal in a sealed file.
    pub reserved: [u8; 20],
}

impl Header {
    /// Bytes.
    pub const LEN: usize = 100;

    /// Parses the first 100 bytes; more are ignored.
    ///
    /// # Errors
    /// [`LtxError`]; nothing here is covered by a checksum yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, LtxError> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk().ok_or(LtxError::Short("header"))?;
        let mut fields = Fields::new(bytes);
        let mut next_u32 = || fields.u32_be().ok_or(LtxError::Short("header"));
        let magic = next_u32()?;
        if magic != MAGIC {
            return Err(LtxError::Magic(magic));
        }
        let flags = next_u32()?;
        if flags & V1_COMPRESSED != 0 && flags & !(V1_COMPRESSED | NO_CHECKSUM) == 0 {
            return Err(LtxError::Beta(1));
        }
        if flags & !NO_CHECKSUM != 0 {
            return Err(LtxError::Flags(flags));
        }
        let size = next_u32()?;
        let page_size = PageSize::new(size).ok_or(LtxError::PageSize(size))?;
        let commit = next_u32()?;
        let header = Self::rest(flags & NO_CHECKSUM != 0, page_size, commit, fields)?;
        header.validate()?;
        Ok(header)
    }

    fn rest(
        no_checksum: bool,
        page_size: PageSize,
        commit: u32,
        mut fields: Fields<'_>,
    ) -> Result<Self, LtxError> {
        let mut next = || fields.u64_be().ok_or(LtxError::Short("header"));
        let (min, max) = (next()?, next()?);
        let bad_range = LtxError::Range(min, max);
        let range = TxidRange::new(Txid::new(min).ok_or(bad_range)?, Txid::new(max).ok_or(bad_range)?)
            .ok_or(bad_range)?;
        let timestamp = TimestampMs(next()?.cast_signed());
        let pre_apply = optional_checksum("pre-apply", next()?)?;
        let (offset, size) = (next()?, next()?);
        let salts = (fields.u32_be(), fields.u32_be(), fields.u64_be(), fields.take());
        let (Some(salt1), Some(salt2), Some(node_id), Some(reserved)) = salts else {
            return Err(LtxError::Short("header"));
        };
        Ok(Self {
            no_checksum,
            page_size,
            commit,
            range,
            timestamp,
            pre_apply,
            wal: WalSpan { offset, size, salts: Salts(salt1, salt2) },
            node_id,
            reserved,
        })
    }

    /// Whether the fields may stand together.
    ///
    /// # Errors
    /// [`LtxError::ChecksumField`], [`LtxError::WalSpan`], [`LtxError::NoPages`].
    pub fn validate(&self) -> Result<(), LtxError> {
        let may_have = !self.no_checksum && !self.range.is_snapshot();
        if self.pre_apply.is_some() != may_have {
            return Err(LtxError::ChecksumField("pre-apply", self.pre_apply.map_or(0, Checksum::get)));
        }
        if !self.wal.is_legal() {
            return Err(LtxError::WalSpan);
        }
        if self.commit == 0 && self.no_checksum {
            return Err(LtxError::NoPages);
        }
        Ok(())
    }

    /// As stored.
    pub fn write(&self) -> [u8; Self::LEN] {
        Writer::new()
            .u32_be(MAGIC)
            .u32_be(if self.no_checksum { NO_CHECKSUM } else { 0 })
            .u32_be(self.page_size.get())
            .u32_be(self.commit)
            .u64_be(self.range.min().get())
            .u64_be(self.range.max().get())
            .u64_be(self.timestamp.0.cast_unsigned())
            .u64_be(self.pre_apply.map_or(0, Checksum::get))
            .u64_be(self.wal.offset)
            .u64_be(self.wal.size)
            .u32_be(self.wal.salts.0)
            .u32_be(self.wal.salts.1)
            .u64_be(self.node_id)
            .put(&self.reserved)
            .finish()
    }

    /// Our seal, if the file carries one.
    pub fn seal(&self) -> Option<Seal> {
        Seal::read(self.node_id, &self.reserved)
    }

    /// Puts a seal into node id and reserved bytes.
    pub fn set_seal(&mut self, seal: &Seal) {
        (self.node_id, self.reserved) = seal.write();
    }

    /// Whether the file announces an image whose pages are in level 9, and holds none.
    pub fn content_is_elsewhere(&self) -> bool {
        self.seal().is_some_and(|seal| seal.marks.contains(Marks::CONTENT_IN_LEVEL_9))
    }
}

/// The last 16 bytes of an LTX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Database checksum after this file; present exactly when the header does not say `no_checksum`.
    pub post_apply: Option<Checksum>,
    /// Of the whole file, pages decompressed.
    pub file: Checksum,
}

impl Trailer {
    /// Bytes.
    pub const LEN: usize = 16;

    /// Parses the last 16 bytes of the file with this header; verifies nothing but the rules of the fields.
    ///
    /// # Errors
    /// [`LtxError::Short`], [`LtxError::ChecksumField`].
    pub fn parse(bytes: &[u8], header: &Header) -> Result<Self, LtxError> {
        let mut fields = Fields::new(bytes);
        let (Some(post), Some(file)) = (fields.u64_be(), fields.u64_be()) else {
            return Err(LtxError::Short("trailer"));
        };
        let post_apply = optional_checksum("post-apply", post)?;
        if post_apply.is_some() == header.no_checksum {
            return Err(LtxError::ChecksumField("post-apply", post));
        }
        if header.commit == 0 && post_apply != Some(Checksum::EMPTY) {
            return Err(LtxError::ChecksumField("post-apply", post));
        }
        let file = Checksum::from_stored(file).ok_or(LtxError::ChecksumField("file", file))?;
        Ok(Self { post_apply, file })
    }
}

/// 0 is absent; anything else needs bit 63.
fn optional_checksum(name: &'static str, field: u64) -> Result<Option<Checksum>, LtxError> {
    match (field, Checksum::from_stored(field)) {
        (0, _) => Ok(None),
        (_, Some(checksum)) => Ok(Some(checksum)),
        (_, None) => Err(LtxError::ChecksumField(name, field)),
    }
}
