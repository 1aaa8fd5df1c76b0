//! Whether the replicas are as they should be: by what their stores have and have answered, never by what was tried.

use super::book::Operation;
use super::fleet::Fleet;
use super::http::{self, Request, Response};
use super::member::{Member, View};
use super::readback;
use crate::text::{duration, time};
use litekeep::error::KeepErrorKind;
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use litekeep_store::ErrorKind;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How far behind a replica may be where nobody says how far.
pub(crate) const BEHIND: Duration = Duration::from_secs(60);

/// What is wrong with a database's replica; nothing, if all is well or somebody stopped it.
pub(crate) fn reasons(member: &Member, view: &View, behind: Duration, clock: &dyn Clock) -> Vec<String> {
    let mut reasons = Vec::new();
    if view.stopped {
        return reasons;
    }
    if let Some(failure) = &view.status.failure {
        reasons.push(format!("replication has ended: {failure}"));
    }
    // A person must act, and time makes nothing better (R62, R63): told at once.
    for (operation, setback) in member.book.setbacks() {
        if matches!(setback.kind, ErrorKind::FixConfig | ErrorKind::Wait | ErrorKind::DataDamaged) {
            reasons.push(format!("{}: {}", operation.name(), setback.text));
        }
    }
    let trouble = view.status.trouble.as_ref();
    if let Some(trouble) = trouble.filter(|it| it.kind() != KeepErrorKind::Retry) {
        reasons.push(trouble.to_string());
    }
    // What waits for its interval is as late as somebody wants it to be.
    let wanted = member.database.settings.sync_interval;
    if let Some(lag) = view.lag.filter(|lag| *lag > behind + wanted) {
        let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
        reasons.push(format!("the replica is behind by {:.1} s{why}", lag.as_secs_f64()));
    }
    reasons.extend(member.book.what_is_lost());
    if let Some(why) = member.book.verdict().and_then(|verdict| verdict.failure) {
        reasons.push(format!("the last verification failed: {why}"));
    }
    // Only once it was seen there for the first time; before that it is the lag that tells.
    if let Some(seen) = member.book.last_read_back() {
        let age = clock.boot().saturating_sub(seen.boot);
        if view.running && !view.standby && age > behind + readback::EVERY {
            let last =
                member.book.setbacks().into_iter().find(|(operation, _)| *operation == Operation::Head);
            let why = last.map_or_else(String::new, |(_, setback)| format!(": {}", setback.text));
            reasons.push(format!("nobody has seen the replica for {:.0} s{why}", age.as_secs_f64()));
        }
    }
    let mut told: Vec<String> = Vec::new();
    for reason in reasons {
        if !told.iter().any(|before| before.contains(&reason)) {
            told.push(reason);
        }
    }
    told
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    behind_limit_seconds: f64,
    databases: Vec<Row>,
}

#[derive(Default, Serialize)]
struct Row {
    path: String,
    state: &'static str,
    /// The newest transaction of the database.
    txid: u64,
    /// The newest transaction that the replica has taken.
    replica_txid: u64,
    /// The newest transaction that was seen in the replica, and when.
    read_back_txid: u64,
    read_back_at: Option<String>,
    /// The newest state that was restored and verified (`validation: interval`), and when.
    verified_txid: u64,
    verified_at: Option<String>,
    lag_seconds: Option<f64>,
    create_only: bool,
    reasons: Vec<String>,
}

fn number(txid: Option<Txid>) -> u64 {
    txid.map_or(0, Txid::get)
}

/// Answers `/health`: 200, or 503 with the reasons. `?behind=10s` says how far behind is too far.
pub(crate) fn answer(fleet: &Fleet, request: &Request) -> Response {
    let behind = match http::parameter(request, "behind").as_deref().map(duration::parse) {
        None => BEHIND,
        Some(Ok(behind)) => behind,
        Some(Err(why)) => return Response::text(400, format!("behind: {why}\n")),
    };
    let clock = &**fleet.clock();
    let row = |member: &Arc<Member>| {
        let view = member.view(clock);
        let seen = member.book.last_read_back();
        let good = member.book.verdict().and_then(|verdict| verdict.good);
        Row {
            path: member.database.path.display().to_string(),
            state: view.state(),
            txid: number(view.status.built),
            replica_txid: number(view.status.durable),
            read_back_txid: number(seen.map(|seen| seen.txid)),
            read_back_at: seen.map(|seen| time::format(seen.wall)),
            verified_txid: number(good.map(|(txid, _)| txid)),
            verified_at: good.map(|(_, at)| time::format(at)),
            lag_seconds: view.lag.map(|lag| lag.as_secs_f64()),
            create_only: view.status.create_only,
            reasons: reasons(member, &view, behind, clock),
        }
    };
    let mut databases: Vec<Row> = fleet.members().iter().map(row).collect();
    databases.extend(fleet.missing().into_iter().map(|(path, why)| Row {
        path: path.display().to_string(),
        state: "missing",
        reasons: vec![why],
        ..Row::default()
    }));
    let well = databases.iter().all(|row| row.reasons.is_empty());
    let report = Report {
        status: if well { "ok" } else { "failing" },
        behind_limit_seconds: behind.as_secs_f64(),
        databases,
    };
    let body = serde_json::to_vec_pretty(&report).unwrap_or_default();
    Response { status: if well { 200 } else { 503 }, kind: "application/json", body }
}
