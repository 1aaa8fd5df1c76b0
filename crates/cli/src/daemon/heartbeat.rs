//! `heartbeat-url`: told that all is well for as long as it is. Silence is the alarm.

use super::fleet::Fleet;
use super::health;
use super::member::Member;
use crate::config::Heartbeat;
use crate::trouble::Trouble;
use crate::verbs::replicate::thread;
use litekeep_core::env::Clock;
use litekeep_store::ping::Pinger;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(1);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends heartbeats from now on, on a thread of its own.
///
/// # Errors
/// No thread is to be had, or the certificates that the environment names cannot be read.
pub(crate) fn start(heartbeat: Heartbeat, fleet: &Arc<Fleet>) -> Result<(), Trouble> {
    // AWS_CA_BUNDLE is for buckets: its certificates, in place of the system's, would be none that this address has.
    let bundle = fleet.world().env.get("SSL_CERT_FILE").map(PathBuf::from);
    let pinger = Pinger::new(bundle).map_err(|why| Trouble::new("no heartbeat can be sent").cause(why))?;
    let fleet = Arc::clone(fleet);
    thread("heartbeat", move || {
        // An attempt counts whatever came of it, as in Litestream: an address that is down is not asked every second.
        let mut last: Option<Duration> = None;
        loop {
            let clock = &**fleet.clock();
            let due = last.is_none_or(|at| clock.boot().saturating_sub(at) >= heartbeat.interval);
            if due && fleet.missing().is_empty() && all_well(&fleet.members(), heartbeat.interval, clock) {
                last = Some(clock.boot());
                match pinger.get(heartbeat.url.expose(), LIMIT) {
                    Ok(200..300) => tracing::debug!("heartbeat sent"),
                    Ok(status) => tracing::warn!(status, "the heartbeat was not taken"),
                    Err(error) => tracing::warn!(error, "the heartbeat could not be sent"),
                }
            }
            clock.sleep(LOOK);
        }
    })
}

/// At least one database is replicated, and of each the replica has had everything within the interval, and was seen to.
fn all_well(members: &[Arc<Member>], interval: Duration, clock: &dyn Clock) -> bool {
    let mut any = false;
    for member in members {
        let view = member.view(clock);
        // Somebody's wish, nothing there yet, another instance's business.
        if view.stopped || matches!(view.state(), "open" | "standby") {
            continue;
        }
        let seen = member.book.last_read_back();
        let fresh = seen.is_some_and(|seen| clock.boot().saturating_sub(seen.boot) <= interval);
        if !fresh || !health::reasons(member, &view, interval, clock).is_empty() {
            return false;
        }
        any = true;
    }
    any
}
