//! What an engine that is wrong on purpose does otherwise: a verdict, or what it believes of its files, of the bucket,
//! and of the answers that it gives.
//!
//! The wrong verdicts are values of the engine's own [`Decisions`]; everything else is a decorator between the right
//! engine and the simulated world. Production code knows nothing of any of it.

mod bucket;
mod files;

pub(crate) use bucket::bucket;
pub(crate) use files::files;

use litekeep_core::decisions::Decisions;

/// All that may be wrong about an engine.
#[derive(Clone, Copy)]
pub struct Flaws {
    /// Its verdicts.
    pub decisions: Decisions,
    /// How it takes its files.
    pub files: FilesFlaw,
    /// How it takes the bucket.
    pub bucket: BucketFlaw,
    /// When it says that everything is in the replica.
    pub promise: PromiseFlaw,
}

impl Flaws {
    /// The right engine.
    pub const NONE: Self = Self {
        decisions: Decisions::RIGHT,
        files: FilesFlaw::None,
        bucket: BucketFlaw::None,
        promise: PromiseFlaw::None,
    };
}

/// A mistake about files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesFlaw {
    /// None.
    None,
    /// Keeps pages that it read before their transaction committed; SQLite writes over such frames.
    KeepsFrames,
    /// Takes the first version of a page in the WAL for the last one.
    FirstVersion,
    /// Never syncs what it writes.
    NeverSyncs,
    /// Takes a full disk's refusal for a success.
    FullIsWritten,
    /// Drops what it keeps aside.
    DropsAsides,
}

/// A mistake about the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketFlaw {
    /// None.
    None,
    /// A name that is taken was taken by itself.
    RefusedIsMine,
    /// No answer to the put of a slot is a good answer.
    SilenceIsConsent,
    /// The sources of a merged file are deleted before it is there.
    DeletesSourcesFirst,
    /// Retention deletes the slot behind the last one that may go, too.
    DeletesOneTooMany,
    /// Ages are by this machine's clock (R65).
    OwnClock,
    /// Slots are three minutes older than they are.
    FreesTooSoon,
    /// What the last listing did not show is not there (R60).
    ListIsTruth,
}

/// A mistake about answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromiseFlaw {
    /// None.
    None,
    /// Everything is in the replica once a slot was built since it was asked.
    Built,
    /// Everything is in the replica if everything was that it knew of when it was asked.
    Hasty,
}
