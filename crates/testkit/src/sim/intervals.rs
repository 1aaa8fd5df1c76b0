//! The engine's settings in a simulation.

use crate::random::SeededRandom;
use litekeep::settings::Settings;
use std::time::Duration;

/// Intervals short enough that everything happens in a short run.
pub(super) fn settings(random: &SeededRandom) -> Settings {
    let seconds = |values: &[u64]| Duration::from_secs(random.pick(values).copied().unwrap_or(1));
    Settings {
        sync_interval: Duration::from_millis(random.pick(&[0, 50, 1000]).copied().unwrap_or(0)),
        min_checkpoint_pages: random.pick(&[3, 20, 200, 1000]).copied().unwrap_or(20),
        checkpoint_interval: random.chance(3, 4).then(|| seconds(&[1, 60])),
        truncate_pages: random.pick(&[0, 10, 100_000]).copied().unwrap_or(0),
        levels: vec![seconds(&[5, 30]), seconds(&[60, 300])],
        snapshot_interval: seconds(&[60, 600, 86_400]),
        snapshot_retention: seconds(&[120, 3600]),
        l0_retention: Some(seconds(&[1, 300])),
        // At once: whatever retention may delete too early is to be found out.
        gather: Duration::ZERO,
        restore_parallelism: 1,
        park_after: random
            .pick(&[None, Some(0), Some(2), Some(30)])
            .copied()
            .flatten()
            .map(Duration::from_secs),
        ..Settings::default()
    }
}
