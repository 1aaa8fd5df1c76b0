//! The seal: what ties a file to its chain, in header room that Litestream writes as zero and ignores.
//!
//! ```text
//! node id 8          epoch
//! reserved  0 .. 8   database checksum after this file (0: not known)
//!           8 .. 16  file checksum of the file before it (0: none)
//!          16 .. 20  mark: 0x4c4b ("LK") · flags u16
//! ```
//! Big-endian. The file checksum covers all of it.

use crate::fields::{Fields, Writer};
use crate::types::{Checksum, Epoch};

const MARK: u16 = 0x4c4b;

/// What a sealed file says about its place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Whose claim it was written under.
    pub epoch: Epoch,
    /// Rolling checksum of the whole database after this file, if the writer knew it.
    pub database: Option<Checksum>,
    /// File checksum of the slot before, if there was one.
    pub predecessor: Option<Checksum>,
    /// What kind of file it is.
    pub marks: Marks,
}

impl Seal {
    /// `None` when the fields hold no seal: no epoch, no mark, or a checksum without bit 63.
    pub(super) fn read(node_id: u64, reserved: &[u8; 20]) -> Option<Self> {
        let epoch = Epoch::new(node_id)?;
        let mut fields = Fields::new(reserved);
        let database = stored(fields.u64_be()?)?;
        let predecessor = stored(fields.u64_be()?)?;
        if fields.u16_be()? != MARK {
            return None;
        }
        Some(Self { epoch, database, predecessor, marks: Marks(fields.u16_be()?) })
    }

    /// Node id and reserved bytes.
    pub(super) fn write(&self) -> (u64, [u8; 20]) {
        let field = |checksum: Option<Checksum>| checksum.map_or(0, Checksum::get);
        let reserved = Writer::new()
            .u64_be(field(self.database))
            .u64_be(field(self.predecessor))
            .u32_be(u32::from(MARK) << 16 | u32::from(self.marks.0))
            .finish();
        (self.epoch.get(), reserved)
    }
}

/// `None` for a value that no checksum field may hold.
fn stored(field: u64) -> Option<Option<Checksum>> {
    if field == 0 { Some(None) } else { Checksum::from_stored(field).map(Some) }
}

/// Flags of a sealed file. Bits that are not known here are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Marks(u16);

impl Marks {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Holds every page of the database, whatever its first TXID.
    pub const FULL_IMAGE: Self = Self(1);
    /// Holds no page: the image was too large for one put and is the level 9 file of this position.
    pub const CONTENT_IN_LEVEL_9: Self = Self(2);
    /// Holds no page: it only takes the name, so that an older owner cannot.
    pub const FENCE: Self = Self(4);

    /// From the stored bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// As stored.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of `other`'s flags are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
