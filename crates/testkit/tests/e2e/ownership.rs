//! Claims: an intention that died is not in the way, a slot that somebody else wrote stops us.

use crate::harness::{Place, app, ids, names, said};
use std::fs;

/// A database so large that its first slot takes a while, and a replica that is claimed and nothing else.
fn claimed_and_dead(place: &Place, kills: usize) -> Option<()> {
    let mut app = app(&place.database(), 4096)?;
    app.ask("many 8000 1000");
    app.close();
    let epochs = place.replica().join("epochs");
    let mut between = 0;
    for _ in 0..kills {
        let before = names(&epochs).len();
        let daemon = place.daemon();
        // No pause between the looks: the moment is short.
        crate::harness::spin_until("a claim", || names(&epochs).len() > before);
        daemon.kill();
        between += usize::from(place.level(0).is_empty());
        if !place.level(0).is_empty() {
            fs::remove_dir_all(place.replica().join("ltx")).expect("take the slot away again");
            for name in names(&epochs).iter().filter(|name| name.contains("open")) {
                fs::remove_file(epochs.join(name)).expect("take the opening away again");
            }
        }
    }
    assert!(
        between * 2 > kills,
        "only {between} of {kills} kills met the moment between claim and first slot"
    );
    Some(())
}

#[test]
fn a_claim_that_died_before_its_first_slot_is_no_obstacle() {
    let place = Place::new();
    if claimed_and_dead(&place, 20).is_none() {
        return;
    }
    // Claims alone are unfinished first starts: the replica is empty, and says so.
    let output = place.restore_to(&place.path("none.db"), &["-if-replica-exists"]);
    assert!(output.status.success() && !place.path("none.db").exists(), "{}", said(&output));
    let output = place.restore_to(&place.path("none.db"), &[]);
    assert!(!output.status.success() && !place.path("none.db").exists(), "{}", said(&output));
    let _daemon = place.daemon();
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored).len(), 8000);
}

#[test]
fn r24_a_slot_that_is_taken_stops_the_daemon_which_says_by_whom() {
    let place = Place::new();
    let Some(mut first) = app(&place.database(), 4096) else { return };
    let mut daemon = place.daemon();
    first.ask("rows 10 100");
    place.wait_for_image();
    // A second container, restored from the same replica, that writes as well.
    let other = place.path("other");
    fs::create_dir(&other).expect("make a disk");
    assert!(place.restore_to(&other.join("app.db"), &[]).status.success());
    let Some(mut second) = app(&other.join("app.db"), 4096) else { return };
    let mut command = place.litekeep();
    command.arg("replicate").arg(other.join("app.db")).arg(&place.url);
    let mut newcomer = crate::harness::Daemon::start(command, place.path("other.log"));
    // What is written before it claims, while the first one goes on, is a file beside the replica: another end.
    crate::harness::spin_until("the second one to claim", || newcomer.log().contains("initialized db"));
    second.ask("rows 3 100");
    crate::harness::wait_for(&"one of the two to stop", || {
        first.ask("rows 1 100");
        second.ask("rows 1 100");
        (!daemon.is_running() || !newcomer.is_running()).then_some(())
    });
    let both = daemon.is_running() && newcomer.is_running();
    assert!(!both);
    let (loser, log) =
        if daemon.is_running() { (newcomer.ended(), newcomer.log()) } else { (daemon.ended(), daemon.log()) };
    assert_eq!(loser.code(), Some(21), "{log}");
    assert!(log.contains("epoch"), "it must say by whom: {log}");
}
