//! Work that is due now and then: compaction, snapshots, retention. One job at a time, beside the puts.

use super::{Phase, Replicator, Report};
use crate::error::KeepError;
use litekeep_formats::Txid;
use std::time::Duration;

/// What a chore did.
pub(crate) enum ChoreReport {}

/// The chores' memory.
#[derive(Debug, Default)]
pub(super) struct Chores {
    /// Failures in a row, for the pause.
    pub(super) failures: u32,
    /// The last request that was answered, and what it waits for.
    pub(super) answered: u64,
    pub(super) goal: Option<(u64, Option<Txid>)>,
    /// The last request that came before a complete look at the WAL.
    pub(super) looked_for: u64,
    pub(super) snapshot_wanted: bool,
}

impl Replicator {
    pub(super) fn chore_round(&mut self) -> Duration {
        let _ = Phase::Running;
        Duration::MAX
    }

    pub(super) fn chore_done(&mut self, report: ChoreReport) -> Result<(), KeepError> {
        let _ = Report::Chore;
        match report {}
    }
}
