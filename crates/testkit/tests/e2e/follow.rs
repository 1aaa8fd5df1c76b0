//! `restore -f`: a copy that goes on with what others write, from outside.

use crate::harness::{Daemon, Place, app, done, ids, integrity, litekeep, said, wait_for, with_suffix};
use std::fs;
use std::path::{Path, PathBuf};
use testkit::peers::Litestream;

fn copy(place: &Place) -> PathBuf {
    place.path("copy").join("app.db")
}

/// Begins to follow; stdout goes to a file of its own, which must stay empty.
fn follow(place: &Place, words: &[&str]) -> Daemon {
    let mut command = place.litekeep();
    command.args(["restore", "-f", "-follow-interval", "20ms", "-o"]).arg(copy(place)).arg(&place.url);
    command.args(words);
    let log = place.path("follow.log");
    let begun = || fs::read_to_string(&log).unwrap_or_default().matches("msg=following").count();
    let before = begun();
    let follower = Daemon::start_apart(command, log.clone(), &place.path("follow.out"));
    // A kill before that leaves a file that nobody knows, and it would be refused.
    wait_for(&"the copy to be restored and recorded", || (begun() > before).then_some(()));
    follower
}

fn wait_for_ids(place: &Place, truth: &Path) {
    let wanted = ids(truth);
    wait_for(&"the copy to have every row", || {
        (copy(place).exists() && ids(&copy(place)) == wanted).then_some(())
    });
    assert_eq!(integrity(&copy(place)), "ok");
}

/// A signal and its echo, of two kinds lest both come as one: `timeout` tells a process and then its group.
fn ends_well(place: &Place, follower: Daemon) {
    follower.interrupt();
    let status = follower.end();
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(fs::read_to_string(place.path("follow.out")).expect("read it"), "", "nothing on stdout");
}

#[test]
fn a_copy_follows_until_a_signal_and_goes_on_after_a_kill() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon_with("", "", "sync-interval: 20ms");
    app.ask("rows 50 200");
    place.wait_for_rows(50);
    let mut follower = follow(&place, &[]);
    for round in 1..5 {
        app.ask("rows 20 200");
        done(app.ask("many 30 300"));
        wait_for_ids(&place, &place.database());
        if round == 2 {
            follower.kill();
            app.ask("rows 10 200");
            app.sql("VACUUM");
            // Flags may also come after the operands.
            follower = follow(&place, &["-parallelism", "2"]);
        }
    }
    assert!(follower.log().contains("going on with it"), "the second one took the copy up");
    ends_well(&place, follower);
    assert!(!with_suffix(&copy(&place), "-wal").exists() || len(&with_suffix(&copy(&place), "-wal")) == 0);
    let lone = place.path("lone.db");
    fs::copy(copy(&place), &lone).expect("the file alone is the database");
    assert_eq!(ids(&lone), ids(&place.database()));
    drop(app);
    assert!(daemon.end().success());
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

#[test]
fn r34_a_copy_that_slept_past_deleted_slots_jumps() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon_with("snapshot: {interval: 1s, retention: 1h}", "", "sync-interval: 20ms");
    app.ask("rows 50 200");
    place.wait_for_rows(50);
    let follower = follow(&place, &[]);
    wait_for_ids(&place, &place.database());
    follower.kill();
    let before = place.level(0);
    for round in 1..6 {
        app.ask("rows 20 200");
        place.wait_for_rows(50 + 20 * round);
    }
    drop(app);
    assert!(daemon.end().success());
    let newest = place.level(0).last().expect("there are slots").clone();
    wait_for(&"a snapshot of the newest state", || {
        let covered = place.level(9).last().is_some_and(|name| name[17..] == newest[17..]);
        if !covered {
            assert!(
                place
                    .litekeep()
                    .args(["replicate", "-once", "-force-snapshot"])
                    .arg(place.database())
                    .arg(&place.url)
                    .output()
                    .expect("start litekeep")
                    .status
                    .success()
            );
        }
        covered.then_some(())
    });
    for name in place.level(0).iter().filter(|name| !before.contains(name)) {
        fs::remove_file(place.replica().join("ltx/0").join(name)).expect("delete a slot");
    }
    let follower = follow(&place, &[]);
    wait_for_ids(&place, &place.database());
    // The line comes after the commit that makes the rows seen.
    wait_for(&"a jump is told", || follower.log().contains("jump").then_some(()));
    ends_well(&place, follower);
}

#[test]
fn a_real_litestream_is_followed() {
    let Some(litestream) = Litestream::v0_5_17() else { return };
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    app.ask("rows 50 200");
    let writer = litestream.replicate(&place.database(), &place.url, &place.path("litestream.log"));
    place.wait_for_rows(50);
    let follower = follow(&place, &[]);
    for _ in 1..4 {
        app.ask("rows 20 200");
        done(app.ask("many 30 300"));
        wait_for_ids(&place, &place.database());
    }
    app.sql("DELETE FROM t WHERE id % 3 = 0");
    app.sql("VACUUM");
    wait_for_ids(&place, &place.database());
    ends_well(&place, follower);
    writer.end();
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_code_of_its_own() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    app.ask("rows 10 200");
    place.wait_for_rows(10);
    drop(app);
    assert!(daemon.end().success());
    let stranger = place.path("stranger.db");
    fs::copy(place.database(), &stranger).expect("copy it");
    let rows: [(&str, &[&str], &Path, i32); 6] = [
        ("an earlier transaction", &["-txid", "0000000000000001"], &copy(&place), 2),
        ("an earlier time", &["-timestamp", "2026-01-01T00:00:00Z"], &copy(&place), 2),
        ("a plan only", &["-dry-run"], &copy(&place), 2),
        ("no pause", &["-follow-interval", "0s"], &copy(&place), 2),
        ("a database that it does not know", &[], &stranger, 14),
        ("a pause that is none", &["-follow-interval=soon"], &copy(&place), 2),
    ];
    for (name, words, out, code) in rows {
        let mut command = litekeep();
        let output = command.args(["restore", "-f"]).args(words).arg("-o").arg(out).arg(&place.url).output();
        let output = output.expect("start litekeep");
        assert_eq!(output.status.code(), Some(code), "{name}: {}", said(&output));
        assert!(!copy(&place).exists(), "{name}");
    }
    let mut follower = follow(&place, &[]);
    wait_for_ids(&place, &place.database());
    fs::remove_dir_all(place.replica().join("ltx")).expect("wipe the replica");
    drop(follower);
    follower = follow(&place, &[]);
    assert_eq!(follower.ended().code(), Some(11), "a replica that was wiped ends it");
    assert!(ids(&copy(&place)).len() >= 10, "the copy stays");
}
