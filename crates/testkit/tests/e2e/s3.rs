//! The same against a real Ceph gateway, the software behind DigitalOcean Spaces.

use crate::harness::{Place, acknowledged, app, assert_prefix, ids, integrity, said};
use crate::peers::{BUSY, assert_restores, assert_witness};
use std::fs;
use testkit::peers::{Bucket, Litestream, Vfs};

#[test]
fn every_synced_row_comes_back_from_ceph_after_kills_and_a_wiped_disk() {
    let Some(bucket) = Bucket::from_environment() else { return };
    let place = Place::in_bucket(&bucket, "kills");
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
        assert!(
            back.len()
                <= usize::try_from(acknowledged(&file).last().copied().unwrap_or(0) + 1).expect("an id")
        );
        synced = back.len();
    }
}

#[test]
fn the_official_reader_sees_the_same_rows_on_ceph_at_every_page_size() {
    let Some(bucket) = Bucket::from_environment() else { return };
    let (Some(vfs), Some(official)) = (Vfs::find(), Litestream::v0_5_17()) else { return };
    for size in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
        let mut place = Place::in_bucket(&bucket, "witness");
        // The extension reads LITESTREAM_S3_ENDPOINT or the URL; the command reads AWS_*. Both get both.
        place.environment.push(("AWS_REGION".to_owned(), bucket.region.clone()));
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
        assert_restores(&official, &place, &format!("{size} on Ceph"));
    }
}

#[test]
fn r26b_wrong_keys_or_a_missing_bucket_are_never_an_empty_replica() {
    let Some(bucket) = Bucket::from_environment() else { return };
    let place = Place::in_bucket(&bucket, "empty");
    let out = place.path("out.db");
    let attempt = |place: &Place| place.restore_to(&out, &["-if-replica-exists"]);
    let output = attempt(&place);
    assert!(output.status.success(), "an empty prefix is empty: {}", said(&output));
    let mut wrong = Place::in_bucket(&bucket, "empty");
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
