//! `validation: interval`: a running daemon restores its replicas and says what came of it.

use crate::daemon::{ask, end, insert, served, started, wait_for, wait_for_health};
use crate::scrape::Scrape;
use crate::util::{Dir, Seen};
use s3test::{ACCESS_KEY, Profile, SECRET_KEY, Server};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const EVERY_SECOND: &str = "validation:\n  interval: 1s\n";

/// How many verifications came to this so far.
fn count(addr: &str, dir: &Dir, status: &str) -> f64 {
    let path = dir.path("a.db").display().to_string();
    let labels = format!("db=\"{path}\",name=\"s3\",status=\"{status}\"");
    Scrape::of(addr).value(&format!("litestream_replica_validation_total{{{labels}}}"))
}

fn shown(dir: &Dir, more: &[&str]) -> Seen {
    dir.litekeep(["status", "-config", "l.yml"].iter().chain(more))
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .exits(0)
}

fn status(dir: &Dir) -> Value {
    let seen = shown(dir, &["-json"]);
    let rows: Value =
        serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all()));
    rows[0].clone()
}

fn scratch(dir: &Dir) -> PathBuf {
    dir.path(".a.db-litekeep/.litekeep-restore-verify")
}

#[test]
fn a_damaged_object_is_found_by_the_schedule_and_raises_health_until_it_is_mended() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, mut running, addr) = served(&server, EVERY_SECOND);
    for value in 2..4 {
        insert(&dir.path("a.db"), value);
        ask(&dir, &["sync", "-wait", "a.db"]);
    }
    running.until("replica verified by a restore");
    wait_for_health(&addr, "", 200, "\"verified_at\": \"20");
    wait_for("a verification of the newest state", || {
        (status(&dir)["verified_txid"]
            == ask(&dir, &["sync", "a.db"])["txid"]
                .as_u64()
                .map_or_else(String::new, |txid| format!("{txid:016x}")))
        .then_some(())
    });
    assert_eq!(status(&dir)["create_only"], true);
    assert!(count(&addr, &dir, "ok") >= 1.0);
    let time =
        format!("litekeep_last_verified_restore_timestamp_seconds{{db=\"{}\"}}", dir.path("a.db").display());
    let verified = Scrape::of(&addr).value(&time);
    assert!(verified > 1e9);

    let slot = server.keys().into_iter().rev().find(|key| key.contains("/0000/")).expect("a slot");
    let whole = server.object(&slot).expect("its bytes").to_vec();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    assert!(server.replace(&slot, damaged.into()));
    let report = wait_for_health(&addr, "", 503, "the last verification failed: ");
    let name = slot.rsplit('/').next().expect("a name");
    assert!(report["databases"][0]["reasons"][0].as_str().is_some_and(|why| why.contains(name)), "{report}");
    assert!(count(&addr, &dir, "error") >= 1.0);
    assert!(status(&dir)["verification_error"].as_str().is_some_and(|why| why.contains(name)));
    shown(&dir, &[]).out_has("FAILED: ");
    // A new start knows of it before it has looked again.
    end(running);
    assert!(status(&dir)["verification_error"].is_string());
    assert!(server.replace(&slot, whole.into()));
    let (running, addr) = started(&dir);
    wait_for_health(&addr, "", 200, "\"ok\"");
    assert_eq!(status(&dir)["verification_error"], Value::Null);
    end(running);
    assert!(!scratch(&dir).exists());
}

#[test]
fn a_verification_that_has_no_room_harms_nobody_and_is_told() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, mut running, addr) = served(&server, EVERY_SECOND);
    running.until("replica verified by a restore");
    // No folder can be made where a file stands.
    wait_for("a moment between two verifications", || {
        (!scratch(&dir).exists() && fs::write(scratch(&dir), "x").is_ok()).then_some(())
    });
    running.until("the replica could not be verified now");
    assert!(count(&addr, &dir, "undone") >= 1.0);
    insert(&dir.path("a.db"), 2);
    ask(&dir, &["sync", "-wait", "a.db"]);
    wait_for_health(&addr, "", 200, "\"ok\"");
    fs::remove_file(scratch(&dir)).expect("removed");
    let good = count(&addr, &dir, "ok");
    wait_for("another verification", || (count(&addr, &dir, "ok") > good).then_some(()));
    end(running);
}
