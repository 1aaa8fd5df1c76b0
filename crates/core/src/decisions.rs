//! The verdict functions as one value.
//!
//! The engine never calls `assess` directly but through this value, so that the tests can put a deliberately wrong
//! variant in its place and show that the checker catches it. Production code uses [`Decisions::RIGHT`] only.

use crate::agenda::{self, Chore, Schedule, Settled};
use crate::assess::{self, Advance, Facts, FrameAt, Position, Resume};
use crate::restore::Catalog;
use core::time::Duration;
use litekeep_formats::{Checksum, TimestampMs};

/// In which order the two reading connections hand over the protection of the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// Begin the new one, capture, end the old one. The only right one.
    Overlap,
    /// End the old one first: a gap in which the WAL may restart.
    Gap,
    /// Overlap, but without looking at what was committed in between.
    Blind,
}

/// What the engine asks before it acts.
#[derive(Clone, Copy)]
pub struct Decisions {
    /// See [`assess::advance`].
    pub advance: fn(&Facts, &Position) -> Advance,
    /// See [`assess::resume`].
    pub resume: fn(&Facts, FrameAt, &Position) -> Resume,
    /// See [`assess::nothing_missed`].
    pub nothing_missed: fn(&Facts, &Facts, Option<u32>) -> bool,
    /// See [`assess::survives_release`].
    pub survives_release: fn(&Facts, &Position) -> bool,
    /// See [`Handover`].
    pub handover: Handover,
    /// What counts as committed: what the index of the WAL says. The other argument tells, for who believes it, how
    /// far the chain of checksums goes; a writer killed at its commit leaves a whole chain to a commit that never was.
    pub committed: fn(&Facts, &mut dyn FnMut() -> Facts) -> Facts,
    /// Whether a slot is waited for until the store has it, before it counts as durable.
    pub durable_after_put: bool,
    /// Whether a streamed image counts only once a slot stands behind its announcement.
    pub confirm_images: bool,
    /// Whether slots are created (never replacing one) where the store can do that.
    pub create_only: bool,
    /// How long nobody else writes after a question that found no claim, by the time of a hand-over.
    pub alone_for: fn(Duration) -> Duration,
    /// Whether the local state is synced before the WAL frames that it stands for are let go.
    pub stage_before_release: bool,
    /// Whether a page differs from what the replica has of it (`None`: nothing), when a broken chain is mended.
    pub differs: fn(Option<Checksum>, Checksum) -> bool,
    /// Whether what a restore has read, or made, is what the checksum says that was stated for it (the first one).
    pub is_whole: fn(Checksum, Checksum) -> bool,
    /// See [`agenda::next`].
    pub agenda: fn(&Catalog, &Schedule, &Settled) -> Option<(Chore, TimestampMs)>,
}

impl Decisions {
    /// What production runs.
    pub const RIGHT: Self = Self {
        advance: assess::advance,
        resume: assess::resume,
        nothing_missed: assess::nothing_missed,
        survives_release: assess::survives_release,
        handover: Handover::Overlap,
        committed: |index, _chain| *index,
        durable_after_put: true,
        confirm_images: true,
        create_only: true,
        alone_for: |hand_over| hand_over,
        stage_before_release: true,
        differs: |known, found| known != Some(found),
        is_whole: |stated, found| stated == found,
        agenda: agenda::next,
    };
}
