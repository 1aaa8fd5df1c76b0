//! What `/debug/sync-status` tells of one database: what is done to it, or was last, by the engine's own words. It asks
//! nobody.

use super::control::number;
use super::member::View;
use crate::text::time;
use litekeep::replicator::Act;
use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;
use serde::Serialize;
use std::time::Duration;

/// One database of `/debug/sync-status`: Litestream's fields, which leave out what is empty or 0 as there. Its three about
/// those who wait for its executor are never there: nobody waits for one here.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Phase {
    path: String,
    /// Something that was taken is on its way to the replica.
    active: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    operation: &'static str,
    /// The engine's word for how it is doing; Litestream's are the steps of its own code.
    phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    /// Of the operation; while active, for how long the oldest change has waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_seconds: Option<f64>,
    #[serde(skip_serializing_if = "is_zero")]
    txid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    wal_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    last_synced_wal_offset: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshotting: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    checkpoint_mode: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    /// Ours, and always there: the newest transaction that the replica has taken.
    replica_txid: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Phase {
    /// How a database is doing, at this time on both clocks.
    pub(super) fn of(path: String, view: &View, clock: &dyn Clock) -> Self {
        let (wall, boot) = (clock.wall(), clock.boot());
        let status = &view.status;
        let ago = |then: Duration| boot.saturating_sub(then);
        let at = |then: Duration| {
            let ago = i64::try_from(ago(then).as_millis()).unwrap_or(i64::MAX);
            time::format(TimestampMs(wall.0.saturating_sub(ago)))
        };
        let active = view.running && status.built != status.durable;
        let (operation, checkpoint_mode) = match status.last.map(|last| last.act) {
            None => ("", ""),
            // What is on its way is a sync's, whatever was done to the file since.
            Some(Act::Checkpoint) if !active => ("checkpoint", "PASSIVE"),
            Some(Act::Sync | Act::Checkpoint) => ("sync", ""),
        };
        let waits = status.behind_since.filter(|_| active);
        let began = waits.or(status.last.map(|last| last.began));
        let elapsed = match (waits, status.last) {
            (Some(since), _) => Some(ago(since)),
            (None, last) => last.map(|last| last.ended.saturating_sub(last.began)),
        };
        let error = status.failure.as_ref().or(status.trouble.as_ref());
        Self {
            path,
            active,
            operation,
            phase: match view.state() {
                state @ ("standby" | "stopped") => state.to_owned(),
                _ => format!("{:?}", status.health).to_lowercase(),
            },
            started_at: began.map(at),
            updated_at: status.last.map(|last| at(last.ended)),
            elapsed_seconds: elapsed.map(|elapsed| elapsed.as_secs_f64()),
            txid: number(status.built),
            wal_size: status.wal_size,
            last_synced_wal_offset: status.captured_to,
            snapshotting: status.imaging,
            checkpoint_mode,
            reason: status.broken.map_or_else(String::new, |reason| reason.to_string()),
            error: error.map_or_else(String::new, |error| error.to_string()),
            replica_txid: number(status.durable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::replicator::{Health, Last, Status};
    use litekeep_core::assess::BreakReason;
    use litekeep_formats::Txid;
    use serde_json::{Value, json};

    /// 50 s after the machine's start, 100 s after 1970.
    struct Still;

    impl Clock for Still {
        fn wall(&self) -> TimestampMs {
            TimestampMs(100_000)
        }

        fn boot(&self) -> Duration {
            Duration::from_secs(50)
        }

        fn sleep(&self, _: Duration) {}
    }

    #[track_caller]
    fn check(status: Status, wanted: Value) {
        let view = View { status, running: true, stopped: false, standby: false, lag: None };
        let phase = Phase::of("/a.db".to_owned(), &view, &Still);
        assert_eq!(serde_json::to_value(phase).expect("JSON"), wanted);
    }

    #[test]
    fn what_is_on_its_way_is_a_sync_else_the_last_operation_is_told() {
        let second = Duration::from_secs;
        let txid = Txid::new;
        let last = |act| Some(Last { act, began: second(40), ended: second(42) });
        let good = Status { health: Health::Good, ..Status::default() };
        check(good.clone(), json!({"path": "/a.db", "active": false, "phase": "good", "replica_txid": 0}));
        let synced = Status {
            built: txid(3),
            durable: txid(3),
            last: last(Act::Checkpoint),
            wal_size: 64,
            captured_to: 32,
            ..good
        };
        check(
            synced.clone(),
            json!({
                "path": "/a.db", "active": false, "operation": "checkpoint", "checkpoint_mode": "PASSIVE",
                "phase": "good", "started_at": "1970-01-01T00:01:30.000Z",
                "updated_at": "1970-01-01T00:01:32.000Z", "elapsed_seconds": 2.0, "txid": 3,
                "replica_txid": 3, "wal_size": 64, "last_synced_wal_offset": 32,
            }),
        );
        let behind = Status {
            built: txid(4),
            behind_since: Some(second(45)),
            imaging: true,
            broken: Some(BreakReason::FileReplaced),
            ..synced
        };
        check(
            behind,
            json!({
                "path": "/a.db", "active": true, "operation": "sync", "phase": "good",
                "started_at": "1970-01-01T00:01:35.000Z", "updated_at": "1970-01-01T00:01:32.000Z",
                "elapsed_seconds": 5.0, "txid": 4, "replica_txid": 3, "wal_size": 64,
                "last_synced_wal_offset": 32, "snapshotting": true,
                "reason": "the database file was replaced",
            }),
        );
    }

    #[test]
    fn what_another_instance_replicates_is_a_standby_in_every_list() {
        for (health, running, standby, phase, state) in [
            (Health::Starting, true, false, "starting", "replicating"),
            (Health::Waiting, true, false, "waiting", "open"),
            (Health::Troubled, true, false, "troubled", "replicating"),
            (Health::Good, true, true, "standby", "standby"),
            (Health::Ended, false, false, "stopped", "stopped"),
        ] {
            let status = Status { health, ..Status::default() };
            let view = View { status, running, stopped: false, standby, lag: None };
            assert_eq!(view.state(), state, "{health:?}");
            assert_eq!(Phase::of(String::new(), &view, &Still).phase, phase, "{health:?}");
        }
    }
}
