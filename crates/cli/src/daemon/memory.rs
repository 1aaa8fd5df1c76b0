//! Gives memory back to the system once databases were parked: what many took at their start, or while all were written to,
//! would else be held for ever. Looks only at how often they were parked.

use super::fleet::Fleet;
use crate::trouble::Trouble;
use crate::verbs::replicate::thread;
use litekeep::memory;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// Looks from now on, on a thread of its own.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn start(fleet: &Arc<Fleet>) -> Result<(), Trouble> {
    let fleet = Arc::clone(fleet);
    let parkings = move |fleet: &Fleet| -> u64 {
        fleet.members().iter().map(|member| member.view(&**fleet.clock()).status.parkings).sum()
    };
    thread("memory", move || {
        let mut seen = 0;
        loop {
            let now = parkings(&fleet);
            if now > seen {
                memory::give_back();
            }
            seen = now;
            fleet.clock().sleep(EVERY);
        }
    })
}
