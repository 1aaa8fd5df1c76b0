//! The same against S3: a server in this process with the habits of Amazon and of Ceph and with faults on demand, and
//! a real Ceph gateway, the software behind DigitalOcean Spaces.

use crate::harness::{
    Place, acknowledged, app, assert_prefix, ids, image, integrity, nothing_happens_for, said,
};
use crate::peers::{BUSY, assert_restores, assert_witness};
use s3test::{Fault, Profile, Rule, Server};
use std::fs;
use testkit::peers::{Bucket, Litestream, Vfs};

/// The bucket of a server in this process.
fn bucket(server: &Server) -> Bucket {
    Bucket {
        endpoint: server.endpoint().to_owned(),
        access_key_id: s3test::ACCESS_KEY.to_owned(),
        secret_access_key: s3test::SECRET_KEY.to_owned(),
        region: s3test::REGION.to_owned(),
        name: s3test::BUCKET.to_owned(),
    }
}

fn server(profile: Profile) -> (Server, Bucket) {
    let server = Server::start(profile).expect("start an S3 server");
    let bucket = bucket(&server);
    (server, bucket)
}

/// Kills, wiped disks, restores; the chain goes on each time.
fn goes_and_comes_back(bucket: &Bucket) {
    let place = Place::in_bucket(bucket, "kills");
    let mut synced = 0;
    for round in 0..3 {
        let Some(mut app) = app(&place.database(), 4096) else { return };
        let daemon = place.daemon();
        let file = place.path(&format!("acknowledged-{round}"));
        app.tell(&format!("pour {} 200 0 NONE", file.display()));
        place.wait_for_rows(synced + 150);
        daemon.kill();
        app.kill();
        place.wipe();
        place.bring_back();
        let back = ids(&place.database());
        assert_prefix(&back, synced + 150);
        assert_eq!(integrity(&place.database()), "ok");
        let newest = acknowledged(&file).last().copied().unwrap_or_default();
        assert!(back.len() <= usize::try_from(newest + 1).expect("an id"), "rows that nobody wrote");
        synced = back.len();
    }
}

/// The official programs read what we wrote.
fn official_programs_read(bucket: &Bucket, sizes: &[u32]) {
    let (Some(vfs), Some(official)) = (Vfs::find(), Litestream::v0_5_17()) else { return };
    for &size in sizes {
        let place = Place::in_bucket(bucket, "witness");
        let Some(mut app) = app(&place.database(), size) else { return };
        let daemon = place.daemon_with(BUSY, "", "sync-interval: 100ms");
        app.ask("many 100 700");
        place.wait_for_image();
        assert_witness(&vfs, &place, &place.url, &format!("{size}: at first"));
        daemon.kill();
        app.ask("rows 20 100");
        let _daemon = place.daemon_with(BUSY, "", "sync-interval: 100ms");
        app.sql("DELETE FROM t WHERE id % 2 = 0");
        app.sql("VACUUM");
        place.wait_for_image();
        assert_witness(&vfs, &place, &place.url, &format!("{size}: after a restart and VACUUM"));
        assert_restores(&official, &place, &format!("{size}"));
    }
}

const ALL_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

#[test]
fn every_synced_row_comes_back_from_ceph_after_kills_and_a_wiped_disk() {
    let Some(bucket) = Bucket::real() else { return };
    goes_and_comes_back(&bucket);
}

#[test]
fn every_synced_row_comes_back_from_s3_after_kills_and_a_wiped_disk() {
    for profile in [Profile::Aws, Profile::Ceph, Profile::IgnoresConditions] {
        let (_server, bucket) = server(profile);
        goes_and_comes_back(&bucket);
    }
}

#[test]
fn a_store_that_protects_from_nobody_is_refused_before_the_command_runs_unless_there_is_one_writer() {
    let (server, bucket) = server(Profile::IgnoresConditions);
    let place = Place::in_bucket(&bucket, "exec");
    let (database, ran) = (place.database(), place.path("ran"));
    let link = rusqlite::Connection::open(&database).expect("a database");
    link.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
        .expect("rows");
    drop(link);
    let replicate = |flags: &[&str]| {
        let mut command = place.litekeep();
        command.args(["replicate", "-exec", &format!("touch '{}'", ran.display())]).args(flags);
        command.arg(&database).arg(&place.url).output().expect("start litekeep")
    };
    let refused = replicate(&[]);
    assert_eq!(refused.status.code(), Some(23), "{}", said(&refused));
    assert!(said(&refused).contains("nothing would protect it from a second writer"), "{}", said(&refused));
    assert!(said(&refused).contains("`single-writer: true`"), "{}", said(&refused));
    assert!(!ran.exists(), "the command ran: {}", said(&refused));
    assert!(!server.keys().iter().any(|key| key.ends_with(".ltx")), "{:?}", server.keys());
    let taken = replicate(&["-single-writer"]);
    assert_eq!(taken.status.code(), Some(0), "{}", said(&taken));
    assert!(ran.exists(), "{}", said(&taken));
    assert_eq!(ids(&place.restored(&[])), [1, 2]);
}

#[test]
fn the_official_programs_read_our_replicas_on_ceph_at_every_page_size() {
    let Some(bucket) = Bucket::real() else { return };
    official_programs_read(&bucket, &ALL_SIZES);
}

#[test]
fn the_official_programs_read_our_replicas_on_s3() {
    let (_server, bucket) = server(Profile::Aws);
    official_programs_read(&bucket, &[1024, 4096, 65536]);
}

/// Keys that are wrong and a bucket that is not there, beside a prefix that is empty.
fn only_empty_is_empty(bucket: &Bucket) {
    let place = Place::in_bucket(bucket, "empty");
    let out = place.path("out.db");
    let attempt = |place: &Place| place.restore_to(&out, &["-if-replica-exists"]);
    let output = attempt(&place);
    assert!(output.status.success(), "an empty prefix is empty: {}", said(&output));
    let mut wrong = Place::in_bucket(bucket, "empty");
    wrong.environment[1].1 = "not-the-secret".to_owned();
    let missing = Place::in_bucket(&Bucket { name: "no-such-bucket".to_owned(), ..bucket.clone() }, "empty");
    for (what, place) in [("wrong keys", wrong), ("a missing bucket", missing)] {
        let output = attempt(&place);
        assert!(!output.status.success(), "{what}: {}", said(&output));
        assert!(
            !said(&output).contains(&bucket.secret_access_key) && !said(&output).contains("not-the-secret")
        );
        let mut daemon = place.daemon_with("", "restore-if-db-not-exists: true", "");
        assert!(!daemon.ended().success(), "{what}: it would start afresh");
        assert!(!fs::exists(place.database()).expect("look"), "{what}");
    }
}

#[test]
fn r26b_wrong_keys_or_a_missing_bucket_are_never_an_empty_replica() {
    let (_server, in_process) = server(Profile::Aws);
    only_empty_is_empty(&in_process);
    let Some(real) = Bucket::real() else { return };
    only_empty_is_empty(&real);
}

#[test]
fn r11_an_idle_database_costs_no_request() {
    let (server, bucket) = server(Profile::Aws);
    let place = Place::in_bucket(&bucket, "idle");
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let _daemon = place.daemon_with("", "", "sync-interval: 50ms");
    app.ask("rows 20 100");
    place.wait_for_image();
    nothing_happens_for(1);
    server.take_log();
    nothing_happens_for(4);
    let log = server.take_log();
    assert!(log.is_empty(), "{} requests of an idle database, the first: {:?}", log.len(), log.first());
}

#[test]
fn r55_a_store_that_throttles_during_shutdown_gets_the_tail_all_the_same() {
    let (server, bucket) = server(Profile::Aws);
    let place = Place::in_bucket(&bucket, "throttled");
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    place.wait_for_image();
    let fault = Fault::Answer { status: 429, code: "SlowDown", retry_after: Some("1") };
    server.add_rule(Rule::next("PUT", "", 3, fault));
    app.ask("rows 7 100");
    let image = image(&place.database());
    assert!(daemon.end().success());
    server.clear_rules();
    assert!(fs::read(place.restored(&[])).expect("read it") == image, "the tail is missing");
}

#[test]
fn r55_a_tail_that_does_not_get_there_changes_the_exit_code_and_is_named() {
    let (server, bucket) = server(Profile::Aws);
    let place = Place::in_bucket(&bucket, "refused");
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon_with("shutdown-sync-timeout: 2s", "", "");
    place.wait_for_image();
    let synced = ids(&place.restored(&[])).len();
    server.add_rule(Rule::always(
        "PUT",
        "",
        Fault::Answer { status: 503, code: "SlowDown", retry_after: None },
    ));
    app.ask("rows 7 100");
    let log = place.path("daemon.log");
    let status = daemon.end();
    let log = fs::read_to_string(log).expect("read the log");
    assert!(!status.success() && status.code().is_some_and(|code| code != 1), "{status}: {log}");
    assert!(log.contains("0000000000000002"), "it must name the TXIDs that did not make it: {log}");
    server.clear_rules();
    assert_eq!(ids(&place.restored(&[])).len(), synced);
    // Nothing is lost on the disk: the next start puts what is still there.
    let daemon = place.daemon();
    place.wait_for_image();
    assert!(daemon.end().success());
}
