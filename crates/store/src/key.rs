//! Typed names of a replica's objects. How each is spelled is the layout's business (`layout`), nobody else's.

use litekeep_formats::{Epoch, Level, TxidRange};
use std::fmt;

/// A v0.3 generation: 16 lower-case hex digits, kept as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V3Generation(pub u64);

impl fmt::Display for V3Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which of an epoch's three objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EpochRecord {
    /// `epochs/<%08x>.json`: somebody intends to own.
    Claim,
    /// `.open.json`: the epoch's first slot is durable.
    Open,
    /// `.closed.json`: its owner left, at this TXID.
    Closed,
}

/// One object of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An LTX file.
    Ltx(Level, TxidRange),
    /// An epoch's object.
    Epoch(Epoch, EpochRecord),
    /// A v0.3 snapshot: generation and index.
    V3Snapshot(V3Generation, u32),
    /// A v0.3 WAL segment: generation, index and byte offset in that WAL.
    V3Wal(V3Generation, u32, u64),
}

impl fmt::Display for Key {
    /// For messages; not the object's path (that depends on the backend's layout).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ltx(level, range) => write!(f, "level {level} file {range}.ltx"),
            Self::Epoch(epoch, EpochRecord::Claim) => write!(f, "epochs/{epoch}.json"),
            Self::Epoch(epoch, EpochRecord::Open) => write!(f, "epochs/{epoch}.open.json"),
            Self::Epoch(epoch, EpochRecord::Closed) => write!(f, "epochs/{epoch}.closed.json"),
            Self::V3Snapshot(generation, index) => {
                write!(f, "generations/{generation}/snapshots/{index:08x}.snapshot.lz4")
            }
            Self::V3Wal(generation, index, offset) => {
                write!(f, "generations/{generation}/wal/{index:08x}_{offset:08x}.wal.lz4")
            }
        }
    }
}

/// What to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The LTX files of a level.
    Level(Level),
    /// The LTX files of a level and of all above it, in one listing where the store can do that.
    From(Level),
    /// All epoch objects.
    Epochs,
    /// Every v0.3 snapshot of every generation.
    V3Snapshots,
    /// The WAL segments of one v0.3 generation.
    V3Wal(V3Generation),
    /// LTX files of a level as the *other* backends lay them out (a tree copied between a disk and a bucket).
    OtherLayout(Level),
}
