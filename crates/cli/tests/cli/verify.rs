//! `litekeep verify`: what it finds, what it says to do, its exit codes, and that it leaves nothing behind.

use crate::restore::url;
use crate::util::{Dir, Seen};
use rusqlite::Connection;
use s3test::{ACCESS_KEY, Fault, Profile, Rule, SECRET_KEY, Server};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn json(seen: &Seen) -> Value {
    serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all()))
}

const SAMPLES: [&str; 5] =
    ["v5-replicate", "v5-page1024", "v5-page65536", "v5-legacy-frame", "v5-vfs-0.5.17"];

#[test]
fn every_sample_replica_is_sound_and_gives_its_database_back() {
    for name in SAMPLES {
        let dir = Dir::new();
        let replica = dir.fixture(name);
        let files = dir.files(".");
        let seen = dir.litekeep(["verify", "-restore", "-json", "-scratch", ".", &url(&replica)]).exits(0);
        let report = json(&seen);
        assert_eq!(report["outcome"], "sound", "{name}: {report}");
        assert_eq!(report["newest_txid"], report["restorable_txid"], "{name}: {report}");
        assert_eq!(
            report["read"]["objects"],
            dir.files(&format!("{name}/replica")).len(),
            "{name}: {report}"
        );
        assert_eq!(report["restore"]["integrity_check"], "ok", "{name}: {report}");
        assert_eq!(report["restore"]["txid"], report["newest_txid"], "{name}: {report}");
        assert_eq!(dir.files("."), files, "{name}: nothing is left behind");
    }
    let dir = Dir::new();
    let replica = url(&dir.fixture("v3-basic"));
    dir.litekeep(["verify", "-restore", &replica])
        .exits(0)
        .out_has("v0.3: 5 snapshots")
        .out_has("integrity_check ok");
}

#[test]
fn every_file_that_is_broken_is_named() {
    let sample = Dir::new();
    sample.fixture("v5-replicate");
    for name in sample.files("v5-replicate/replica") {
        let dir = Dir::new();
        let replica = dir.fixture("v5-replicate");
        let path = replica.join(&name);
        let whole = fs::read(&path).expect("read");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (how, bytes) in [("flipped", &flipped[..]), ("truncated", &whole[..whole.len() - 1])] {
            fs::write(&path, bytes).expect("written");
            let seen = dir.litekeep(["verify", "-json", &url(&replica)]).exits(12);
            let report = json(&seen);
            assert_eq!(report["outcome"], "damaged", "{name} {how}: {report}");
            let issues = report["issues"].as_array().expect("issues");
            assert_eq!(issues[0]["object"], name, "{name} {how}: {report}");
            assert_eq!(
                (&issues[0]["kind"], issues.len()),
                (&Value::from("damaged"), 1),
                "{name} {how}: {report}"
            );
            assert!(issues[0]["advice"].as_str().is_some_and(|text| text.contains("litekeep ")), "{report}");
        }
    }
}

#[test]
fn r32_a_hole_is_told_with_what_can_still_be_restored() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-replicate");
    let level_1 = dir.files("v5-replicate/replica/ltx/1");
    let lost = replica.join("ltx/1").join(&level_1[1]);
    // The sample is older than the window that retention keeps: what lies below its first snapshot need not be there.
    let kept = fs::read(&lost).expect("read");
    fs::remove_file(&lost).expect("removed");
    dir.litekeep(["verify", &url(&replica)]).exits(0).out_has("sound");
    fs::write(&lost, kept).expect("written");
    fs::remove_file(replica.join("ltx/1").join(&level_1[2])).expect("removed");
    dir.litekeep(["verify", &url(&replica)])
        .exits(12)
        .out_has("gap: level 1 lacks transactions")
        .out_has("what to do: the newest state can be restored all the same")
        .out_has("can be restored");
    // The newest slot's only neighbour below: nothing carries it.
    let dir = Dir::new();
    let replica = dir.fixture("v5-page1024");
    let slots = dir.files("v5-page1024/replica/ltx/0");
    for level in 1..=9 {
        let _ = fs::remove_dir_all(replica.join(format!("ltx/{level}")));
    }
    fs::remove_file(replica.join("ltx/0").join(&slots[1])).expect("removed");
    let report = json(&dir.litekeep(["verify", "-json", "-restore", &url(&replica)]).exits(12));
    assert_eq!(report["restorable_txid"], "0000000000000001", "{report}");
    assert_eq!(report["issues"][0]["kind"], "gap", "{report}");
    assert!(report["restore_error"].as_str().is_some_and(|text| text.contains("gap")), "{report}");
    assert!(
        report["issues"][0]["advice"].as_str().is_some_and(|text| text.contains("-txid 0000000000000001"))
    );
}

#[test]
fn nothing_wiped_and_out_of_reach_are_told_as_restore_tells_them() {
    let dir = Dir::new();
    let replica = url(&dir.path("r"));
    dir.litekeep(["verify", &replica]).exits(10).err_has("no matching backups found").silent_out();
    dir.write("r/epochs/00000001.open.json", "{}");
    dir.litekeep(["verify", &replica]).exits(11).err_has("was wiped").silent_out();
    dir.write("file", "x");
    dir.litekeep(["verify", &url(&dir.path("file/below"))]).exits(13).silent_out();
    dir.litekeep(["verify", "-parallelism", "0", &replica]).exits(1).err_has("a number from 1 to 64");
    dir.litekeep(["verify", "-scratch", "x", &replica]).exits(1).err_has("-scratch goes with -restore");
}

/// A directory with `a.db`, open and in WAL mode, and `l.yml` that replicates it to `r`.
fn replicated(dir: &Dir) -> Connection {
    dir.write("l.yml", "dbs:\n  - path: a.db\n    replica:\n      path: r\n");
    let connection = Connection::open(dir.path("a.db")).expect("opened");
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x);
             WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 2000)
             INSERT INTO t SELECT printf('row %d', i) FROM n;
             PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .expect("made");
    sync(dir, &connection, 1);
    connection
}

fn sync(dir: &Dir, connection: &Connection, value: i64) {
    connection.execute("INSERT INTO t VALUES(?1)", [value]).expect("inserted");
    dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
}

fn local(seen: &Seen) -> String {
    json(seen)["restore"]["local"].as_str().unwrap_or("-").to_owned()
}

#[test]
fn a_restore_is_compared_with_the_database_that_is_there() {
    let dir = Dir::new();
    let connection = replicated(&dir);
    let verify = |code| dir.litekeep(["verify", "a.db", "-restore", "-json", "-config", "l.yml"]).exits(code);
    let files = dir.files(".");
    let seen = verify(0);
    assert_eq!(local(&seen), "same", "{}", seen.all());
    assert_eq!(json(&seen)["restore"]["sealed"], true, "{}", seen.all());
    assert_eq!(dir.files("."), files, "nothing is left behind");
    // Ahead of its replica: that is no fault.
    connection.execute("INSERT INTO t VALUES('ahead')", []).expect("inserted");
    let seen = verify(0);
    assert_eq!(local(&seen), "differs", "{}", seen.all());
    assert!(seen.out().contains("it may have gone on since"), "{}", seen.all());
    sync(&dir, &connection, 2);
    assert_eq!(local(&verify(0)), "same");
    // Somebody else's state, by a restore to an earlier one.
    let state = dir.path(".a.db-litekeep/state");
    let text = fs::read_to_string(&state).expect("read");
    let newest = json(&verify(0))["newest_txid"].as_str().expect("text").to_owned();
    fs::write(&state, text.replace(&newest, "0000000000000001")).expect("written");
    assert_eq!(local(&verify(0)), "elsewhere");
    drop(connection);
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let _ = fs::remove_file(dir.path(name));
    }
    assert_eq!(local(&verify(0)), "no database");
}

#[test]
fn a_database_that_rotted_on_the_disk_is_told_from_one_that_went_on() {
    let dir = Dir::new();
    let connection = replicated(&dir);
    let path = dir.path("a.db");
    let mut bytes = fs::read(&path).expect("read");
    let at = 4096 * 4 + 2000;
    bytes[at] ^= 0xff;
    fs::write(&path, bytes).expect("written");
    let seen = dir.litekeep(["verify", "-restore", "-config", "l.yml"]).exits(22);
    assert!(
        seen.out().contains("the local database: differs (1 pages, the first is page 5"),
        "{}",
        seen.all()
    );
    drop(connection);
}

#[test]
fn a_slot_of_another_chain_is_foreign() {
    let (ours, other) = (Dir::new(), Dir::new());
    for (dir, first) in [(&ours, 10), (&other, 20)] {
        let connection = replicated(dir);
        (0..4).for_each(|n| sync(dir, &connection, first + n));
    }
    let slots = ours.files("r/ltx/0");
    let slot = Path::new("r/ltx/0").join(&slots[2]);
    assert!(slots.len() > 3, "{slots:?}");
    // As somebody does who writes to the same path without knowing of us. The snapshots know better.
    fs::remove_dir_all(ours.path("r/ltx/9")).expect("removed");
    ours.litekeep(["verify", "-config", "l.yml"]).exits(0).out_has("sound");
    fs::copy(other.path("").join(&slot), ours.path("").join(&slot)).expect("copied");
    ours.litekeep(["verify", "-config", "l.yml"])
        .exits(12)
        .out_has("foreign: ltx/0/")
        .out_has("it does not go on from level 0 file")
        .out_has("stop all writers but one");
}

#[test]
fn a_bucket_is_walked_as_a_directory_is() {
    let dir = Dir::new();
    let server = Server::start(Profile::Ceph).expect("started");
    let file = format!(
        "dbs:\n  - path: a.db\n    replica:\n      url: s3://test/p\n      endpoint: {}\n      region: us-east-1\n      \
         access-key-id: {ACCESS_KEY}\n      secret-access-key: {SECRET_KEY}\n",
        server.endpoint()
    );
    let connection = replicated(&dir);
    dir.write("l.yml", file);
    fs::remove_dir_all(dir.path(".a.db-litekeep")).expect("removed");
    (0..4).for_each(|n| sync(&dir, &connection, n));
    let verify = |code| dir.litekeep(["verify", "-restore", "-config", "l.yml"]).exits(code);
    verify(0).out_has("the local database: same").out_has("s3://test/p: sound").never_says(SECRET_KEY);
    let report = dir.litekeep(["usage", "-json", "-config", "l.yml"]).exits(0);
    assert_eq!(json(&report)["objects"], server.keys().iter().filter(|key| key.ends_with(".ltx")).count());
    let slots: Vec<String> = server.keys().into_iter().filter(|key| key.contains("/0000/")).collect();
    assert!(slots.len() > 3, "{slots:?}");
    server.keys().iter().filter(|key| key.contains("/0009/")).for_each(|key| assert!(server.remove(key)));
    assert!(server.remove(&slots[2]));
    verify(12).out_has("gap: level 0 lacks transaction 0");
    assert!(server.rename(&slots[1], &slots[2]));
    let name = slots[2].strip_prefix("p/").expect("below the replica's path");
    verify(12).out_has(&format!("damaged: {name}: its header does not cover"));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a deadline for another process")]
fn a_signal_in_the_middle_of_a_restore_leaves_no_scratch_place() {
    let dir = Dir::new();
    let server = Server::start(Profile::Aws).expect("started");
    let connection = replicated(&dir);
    let file = fs::read_to_string(dir.path("l.yml")).expect("read");
    let bucket = format!("url: 's3://test/p?endpoint={}&region=us-east-1'", server.endpoint());
    dir.write("l.yml", file.replace("path: r", &bucket));
    fs::remove_dir_all(dir.path(".a.db-litekeep")).expect("removed");
    let keyed = |command: crate::util::TestCommand| {
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    };
    keyed(dir.litekeep(["replicate", "-once", "-force-snapshot", "-config", "l.yml"])).exits(0);
    // The walk reads the snapshot, the restore waits for it in vain.
    let stall = Rule { method: Some("GET"), part: "/0009/", skip: 1, times: u32::MAX, fault: Fault::Stall };
    server.add_rule(stall);
    let files = dir.files(".");
    let mut running = keyed(dir.litekeep(["verify", "-restore", "-config", "l.yml"])).starts();
    let until = Instant::now() + Duration::from_secs(60);
    while dir.files(".") == files {
        assert!(Instant::now() < until, "no scratch place was made");
        std::thread::yield_now();
    }
    running.signal(rustix::process::Signal::TERM);
    running.ends(143);
    assert_eq!(dir.files("."), files);
    drop(connection);
}

#[test]
fn a_replica_is_sound_while_it_is_written() {
    let dir = Dir::new();
    let connection = replicated(&dir);
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("initialized db");
    for n in 0..5 {
        connection.execute("INSERT INTO t VALUES(?1)", [n]).expect("inserted");
        let seen = dir.litekeep(["verify", "-restore", "-config", "l.yml"]).exits(0);
        assert!(!seen.out().contains("damaged"), "{}", seen.all());
    }
    running.signal(rustix::process::Signal::TERM);
    running.ends(0);
}
