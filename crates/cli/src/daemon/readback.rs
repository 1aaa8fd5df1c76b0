//! Looks whether the replicas still hold what they took (R66): a HEAD of the newest object, soon after it was put and once
//! a minute while nothing happens. Only where somebody reads the result.

use super::book::ReadBack;
use super::fleet::{Fleet, Member};
use crate::trouble::Trouble;
use crate::verbs::replicate::thread;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{ErrorKind, Key, Scope, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How old a look may be.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// How soon what is new is looked for, at most so often.
const SOON: Duration = Duration::from_secs(15);
/// Between two rounds, and between two looks of one round: a thousand databases are no burst.
const PAUSE: Duration = Duration::from_millis(500);
const BREATH: Duration = Duration::from_millis(20);

/// Looks from now on, on a thread of its own.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn start(fleet: &Arc<Fleet>) -> Result<(), Trouble> {
    let fleet = Arc::clone(fleet);
    thread("read back", move || {
        let mut looked: BTreeMap<PathBuf, Duration> = BTreeMap::new();
        loop {
            let members = fleet.members();
            looked.retain(|path, _| members.iter().any(|member| member.database.path == *path));
            for member in members {
                let clock = &**fleet.clock();
                let view = member.view(clock);
                let (true, Some(durable)) = (view.running && !view.standby, view.status.durable) else {
                    continue;
                };
                let path = &member.database.path;
                let before = looked.get(path).map(|at| clock.boot().saturating_sub(*at));
                let new = member.book.last_read_back().is_none_or(|seen| seen.txid < durable);
                if before.is_none_or(|before| before >= if new { SOON } else { EVERY }) {
                    // An error is in the member's book.
                    let _ = look(&member, durable, clock);
                    looked.insert(path.clone(), clock.boot());
                    clock.sleep(BREATH);
                }
            }
            fleet.clock().sleep(PAUSE);
        }
    })
}

/// Looks for a transaction in a replica.
fn look(member: &Member, durable: Txid, clock: &dyn Clock) -> Result<(), StoreError> {
    let has = |key: &Key| matches!(key, Key::Ltx(_, range) if TxidRange::max(*range) >= durable);
    // What was merged and deleted meanwhile is in a higher level: the second round knows, it has listed them.
    for listed in [false, true] {
        if let Some(newest) = member.book.newest().filter(has) {
            match member.store.head(&newest) {
                Ok(_) => {
                    let (wall, boot) = (clock.wall(), clock.boot());
                    member.book.read_back(ReadBack { wall, boot, txid: durable });
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if !listed {
            member.store.list(&Scope::From(Level::SLOTS))?;
        }
    }
    tracing::error!(db = %member.database.path.display(), txid = %durable, "the replica does not hold what it had taken");
    member.book.lost(durable);
    Ok(())
}
