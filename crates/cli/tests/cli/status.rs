//! `litekeep status`: what this machine knows, and what the replicas hold.

use crate::daemon::{ask, denied, end, everything, insert, served, started, wait_for};
use crate::restore::{make_database, url};
use crate::scrape::Scrape;
use crate::util::{Dir, Seen};
use s3test::{ACCESS_KEY, BUCKET, Fault, Profile, REGION, Rule, SECRET_KEY, Server};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn status(dir: &Dir, more: &[&str]) -> Seen {
    dir.litekeep(["status", "-config", "l.yml"].iter().chain(more))
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .exits(0)
}

/// The first row, as JSON.
#[track_caller]
fn row(dir: &Dir, more: &[&str]) -> Value {
    let seen = status(dir, &["-json"].iter().chain(more).copied().collect::<Vec<_>>());
    let rows: Value =
        serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all()));
    rows[0].clone()
}

#[test]
fn a_status_changes_nothing_and_opens_no_database() {
    let dir = Dir::new();
    dir.write(
        "l.yml",
        "dbs:\n  - path: a.db\n    replica:\n      path: r/a\n  - path: b.db\n    replica:\n      path: r/b\n",
    );
    dir.write("b.db", "");
    dir.write("b.db-wal", [0; 32]);
    let seen = status(&dir, &[]).out_has("no database").out_has("not initialized");
    let head = seen.out().lines().next().unwrap_or_default().to_owned();
    let columns: Vec<&str> = head.split("  ").map(str::trim).filter(|name| !name.is_empty()).collect();
    // Litestream's four, and ours behind them.
    let ours = ["replica txid", "confirmed", "create only", "verified", "problem"];
    assert_eq!(columns, [&["database", "status", "local txid", "wal size"] as &[_], &ours].concat());
    status(&dir, &["-json", "b.db"]).out_has("\"wal_size\": \"32 B\"").out_has("\"local_txid\": \"-\"");
    dir.litekeep(["status", "-config", "l.yml", "c.db"]).exits(1).err_has("database not found in config: ");
    dir.litekeep(["status", "-config", "l.yml", "-timeout", "0"]).exits(1).err_has("greater than 0");
    status(&dir, &["-timeout", "18446744073709551615"]).never_says("panicked").never_says("no answer");
    assert_eq!(dir.files("."), ["b.db", "b.db-wal", "l.yml"]);
}

#[test]
fn r66_a_status_says_what_the_bucket_holds_and_not_what_was_tried() {
    let server = Server::start(Profile::Aws).expect("a server");
    // Nothing is merged meanwhile.
    let (dir, running, _) = served(&server, "levels: [{interval: 24h}]\n");
    ask(&dir, &["sync", "-wait", "a.db"]);
    for value in 2..5 {
        insert(&dir.path("a.db"), value);
        ask(&dir, &["sync", "-wait", "a.db"]);
    }
    let whole = row(&dir, &[]);
    let local = whole["local_txid"].as_str().expect("text").to_owned();
    assert_eq!(whole["replica_txid"], local.as_str(), "{whole}");
    assert!(whole["confirmed_at"].as_str().is_some_and(|at| at.starts_with("20")), "{whole}");
    assert_eq!((&whole["replica_behind"], &whole["replica_problem"]), (&0.into(), &Value::Null));
    status(&dir, &[]).out_has(&format!("{local}  20"));

    // A put that was tried, and that the store did not take.
    server.add_rule(Rule::always("PUT", "", denied()));
    insert(&dir.path("a.db"), 5);
    let tried = wait_for("a slot that was built", || {
        let row = row(&dir, &[]);
        (row["local_txid"] != local.as_str()).then_some(row)
    });
    assert_eq!((&tried["replica_txid"], &tried["replica_behind"]), (&local.as_str().into(), &1.into()));
    end_by_force(running);
    server.clear_rules();

    // One that it had taken, and of which only the name is left; then not even that; then one in the middle.
    let slots = || server.keys().into_iter().filter(|key| key.contains("/0000/")).collect::<Vec<_>>();
    let newest = slots().pop().expect("a slot");
    assert!(server.replace(&newest, "".into()));
    let stub = row(&dir, &[]);
    let problem = stub["replica_problem"].as_str().expect("a problem");
    assert!(problem.starts_with(&format!("objects are missing or cut short: {local} is there")), "{stub}");
    assert_eq!(stub["replica_behind"], 2, "{stub}");
    assert!(newest.contains(&local) && server.remove(&newest), "{newest}");
    let lost = row(&dir, &[]);
    assert_eq!(lost["replica_behind"], 2, "{lost}");
    assert_ne!(lost["replica_txid"], local.as_str(), "{lost}");
    let middle = slots().remove(1);
    assert!(server.remove(&middle));
    let broken = row(&dir, &[]);
    let problem = broken["replica_problem"].as_str().expect("a problem");
    assert!(problem.starts_with("objects are missing or cut short: "), "{broken}");
    assert_eq!(broken["replica_txid"], "0000000000000001", "{broken}");
    server.keys().iter().for_each(|key| assert!(server.remove(key)));
    let empty = row(&dir, &[]);
    assert_eq!((&empty["replica_txid"], &empty["status"]), (&Value::Null, &"ok".into()));
    assert_eq!(empty["replica_problem"], "the replica holds no transaction");
    assert!(empty["confirmed_at"].is_string(), "{empty}");
}

fn end_by_force(mut running: crate::util::Running) {
    running.signal(rustix::process::Signal::KILL);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's stopwatch")]
fn a_replica_that_does_not_answer_is_unknown_with_the_reason_and_never_waited_for() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, running, _) = served(&server, "");
    ask(&dir, &["sync", "-wait", "a.db"]);
    end(running);
    let unknown = |more: &[&str], part: &str| {
        let row = row(&dir, more);
        let problem = row["replica_problem"].as_str().unwrap_or_else(|| panic!("{row}"));
        assert!(problem.starts_with("unknown: ") && problem.contains(part), "{part}: {row}");
        assert_eq!((&row["replica_txid"], &row["confirmed_at"]), (&Value::Null, &Value::Null));
        assert_eq!((&row["status"], &row["replica_behind"]), (&"ok".into(), &Value::Null));
    };
    server.add_rule(everything(denied()));
    unknown(&[], "AccessDenied");
    server.clear_rules();
    server.add_rule(everything(Fault::ResetBefore));
    unknown(&["-timeout", "2"], "s3://");
    server.take_log();
    let local = row(&dir, &["-local"]);
    assert_eq!((&local["replica_txid"], &local["replica_problem"]), (&Value::Null, &Value::Null));
    assert_eq!(server.take_log().len(), 0, "nobody was asked");

    // A service that takes connections and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = mute.local_addr().expect("an address");
    let config = fs::read_to_string(dir.path("l.yml")).expect("read");
    dir.write("l.yml", config.replace(server.endpoint(), &format!("http://{address}")));
    let began = Instant::now();
    unknown(&["-timeout", "1"], "no answer within 1s");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_replica_without_a_transaction_is_told_apart_from_an_empty_one_also_without_a_local_state() {
    let dir = Dir::new();
    let v3 = dir.fixture("v3-basic");
    make_database(&dir.path("a.db"));
    dir.write("r/wiped/epochs/00000001.json", "{}");
    dir.write("r/wiped/epochs/00000001.open.json", "{}");
    let wiped = "wiped: epoch 00000001 was opened and no data is left".into();
    for (replica, problem) in [
        (dir.path("r/wiped"), wiped),
        (v3, "a v0.3 backup, and no transaction since".into()),
        (dir.path("r/empty"), Value::Null),
    ] {
        dir.write(
            "l.yml",
            format!("dbs:\n  - path: a.db\n    replica:\n      path: {}\n", replica.display()),
        );
        let row = row(&dir, &[]);
        let seen = (&row["status"], &row["replica_txid"], &row["replica_problem"]);
        assert_eq!(seen, (&"not initialized".into(), &Value::Null, &problem), "{}", replica.display());
    }
}

#[test]
fn a_restore_before_the_start_counts_as_the_last_verified_one() {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let socket = "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\n";
    let dbs = "dbs:\n  - path: a.db\n    restore-if-db-not-exists: true\n    replica:\n      path: r\n";
    dir.write("l.yml", format!("{socket}{dbs}"));
    dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
    assert_eq!(row(&dir, &[])["verified_at"], Value::Null);
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let _ = fs::remove_file(dir.path(name));
    }
    fs::remove_dir_all(dir.path(".a.db-litekeep")).expect("removed");
    let (running, addr) = started(&dir);
    let series =
        format!("litekeep_last_verified_restore_timestamp_seconds{{db=\"{}\"}}", dir.path("a.db").display());
    assert!(Scrape::of(&addr).value(&series) > 1e9);
    end(running);
    let restored = row(&dir, &[]);
    assert_eq!(restored["verified_txid"], "0000000000000001", "{restored}");
    assert!(restored["verified_at"].as_str().is_some_and(|at| at.starts_with("20")), "{restored}");
    assert_eq!(restored["verification_error"], Value::Null);
}

/// A database of its own in `d`, another that its `dir` finds, what is none, and a `dir` that is not there.
fn with_directories(server: &Server) -> Dir {
    let dir = Dir::new();
    let endpoint = server.endpoint();
    let replica = |path: &str| {
        format!(
            "replica:\n      url: s3://{BUCKET}/{path}\n      endpoint: {endpoint}\n      region: {REGION}\n"
        )
    };
    dir.write(
        "l.yml",
        format!(
            "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\ndbs:\n  - path: d/own.db\n    {}  - dir: d\n    \
             pattern: '*.db'\n    watch: true\n    {}  - dir: gone\n    pattern: '*.db'\n    watch: true\n    {}",
            replica("own"), replica("d"), replica("gone"),
        ),
    );
    dir.write("d/text.db", "no database at all");
    dir.write("d/a.txt", "SQLite format 3\0");
    make_database(&dir.path("d/own.db"));
    make_database(&dir.path("d/a.db"));
    dir
}

#[test]
fn the_databases_of_a_directory_are_shown_whether_a_daemon_runs_or_not() {
    let server = Server::start(Profile::Aws).expect("a server");
    let dir = with_directories(&server);
    // Each with its state, and whether its replica has all of it.
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let name = |path: &Value| text(path).rsplit_once('/').expect("a path").1.to_owned();
    let shown = || -> Vec<(String, String, bool)> {
        let seen = status(&dir, &["-json"]).err_has("can't read the directory");
        let rows: Vec<Value> = serde_json::from_str(&seen.out()).expect("JSON");
        let row = |row: &Value| {
            (name(&row["database"]), text(&row["status"]), row["replica_behind"].as_u64() == Some(0))
        };
        rows.iter().map(row).collect()
    };
    let listed = || -> Vec<String> {
        let listed = dir.litekeep(["databases", "-json", "-config", "l.yml"]);
        let listed = listed.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let rows: Vec<Value> = serde_json::from_str(&listed.exits(0).out()).expect("JSON");
        rows.iter().map(|row| name(&row["path"])).collect()
    };
    let rows = |rows: &[(&str, &str, bool)]| -> Vec<(String, String, bool)> {
        rows.iter().map(|(name, status, all)| ((*name).to_owned(), (*status).to_owned(), *all)).collect()
    };
    let becomes = |wanted: &[(&str, &str, bool)]| {
        let wanted = rows(wanted);
        wait_for(&format!("{wanted:?}"), || (shown() == wanted).then_some(()));
    };
    assert_eq!(shown(), rows(&[("own.db", "not initialized", false), ("a.db", "not initialized", false)]));
    assert_eq!(listed(), ["own.db", "a.db"]);
    dir.write("gone/none.txt", "");
    let (running, _) = started(&dir);
    fs::remove_dir_all(dir.path("gone")).expect("removed");
    make_database(&dir.path("d/b.db"));
    becomes(&[("own.db", "ok", true), ("a.db", "ok", true), ("b.db", "ok", true)]);

    // Its file is gone, and its last change is not in the replica yet.
    server.add_rule(Rule::always("PUT", "/b.db/", Fault::ResetBefore));
    insert(&dir.path("d/b.db"), 2);
    wait_for("a change on its way", || {
        let row = row(&dir, &["d/b.db"]);
        (row["replica_behind"] == 1).then_some(())
    });
    for file in ["d/b.db", "d/b.db-wal", "d/b.db-shm"] {
        fs::remove_file(dir.path(file)).expect("removed");
    }
    assert_eq!(shown()[2..], rows(&[("b.db", "no database", false)]));
    assert_eq!(listed(), ["own.db", "a.db", "b.db"]);
    server.clear_rules();
    becomes(&[("own.db", "ok", true), ("a.db", "ok", true)]);
    end(running);
    assert_eq!(shown(), rows(&[("own.db", "ok", true), ("a.db", "ok", true)]));
    assert_eq!(row(&dir, &["d/c.db"])["status"], "no database");
}

#[test]
fn a_restore_that_a_node_makes_by_itself_counts_as_the_last_verified_one() {
    for exec in ["", "exec: sleep 600\n"] {
        let dir = Dir::new();
        make_database(&dir.path("a.db"));
        let replica = url(&dir.path("r"));
        let socket = "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\n";
        dir.write("l.yml", format!("{exec}{socket}dbs:\n  - path: a.db\n    replica:\n      path: r\n"));
        dir.litekeep(["replicate", "-once", "a.db", &replica]).exits(0);
        // Another machine goes on, and its slots are merged.
        dir.litekeep(["restore", "-o", "b.db", &replica]).exits(0);
        insert(&dir.path("b.db"), 2);
        dir.litekeep(["replicate", "-once", "-force-snapshot", "b.db", &replica]).exits(0);
        let slots = dir.files("r").into_iter().filter(|name| name.starts_with("ltx/0/"));
        assert!(slots.map(|name| fs::remove_file(dir.path("r").join(name)).expect("removed")).count() > 1);
        assert_eq!(row(&dir, &[])["verified_at"], Value::Null);
        let (running, addr) = started(&dir);
        wait_for("an owner", || {
            (ask(&dir, &["list"])["databases"][0]["status"] == "replicating").then_some(())
        });
        let path = dir.path("a.db").display().to_string();
        let series = format!("litekeep_last_verified_restore_timestamp_seconds{{db=\"{path}\"}}");
        wait_for("a verified restore", || (Scrape::of(&addr).value(&series) > 1e9).then_some(()));
        end(running);
        let shown = row(&dir, &[]);
        let txid = shown["verified_txid"].as_str().unwrap_or_else(|| panic!("{shown}"));
        assert!(txid > "0000000000000001" && shown["local_txid"].as_str() >= Some(txid), "{shown}");
        assert!(shown["verified_at"].as_str().is_some_and(|at| at.starts_with("20")), "{shown}");
        dir.litekeep(["reset", "a.db"]).exits(0);
        assert_eq!(dir.files(".a.db-litekeep").iter().filter(|name| *name == "restored").count(), 0);
    }
}

#[test]
fn a_database_behind_a_link_has_its_state_beside_the_file_for_every_verb() {
    let dir = Dir::new();
    fs::create_dir(dir.path("volume")).expect("made");
    make_database(&dir.path("volume/real.db"));
    std::os::unix::fs::symlink("volume/real.db", dir.path("link.db")).expect("linked");
    dir.write("l.yml", "dbs:\n  - path: link.db\n    replica:\n      path: r\n");
    dir.litekeep(["replicate", "-config", "l.yml", "-once"]).exits(0);
    assert_eq!(row(&dir, &[])["local_txid"], "0000000000000001");
    let connection = rusqlite::Connection::open(dir.path("link.db")).expect("opened");
    connection.execute_batch("INSERT INTO t VALUES (2)").expect("inserted");
    let wal = fs::metadata(dir.path("volume/real.db-wal")).expect("a WAL").len();
    assert_eq!(row(&dir, &[])["wal_bytes"], wal);
    assert!(wal > 0);
    dir.litekeep(["config", "check", "-config", "l.yml"]).exits(0).out_has("volume/.real.db-litekeep");
    dir.litekeep(["reset", "-config", "l.yml", "link.db"]).exits(0);
    assert!(!dir.path("volume/.real.db-litekeep/state").exists());
    assert_eq!(row(&dir, &[])["local_txid"], "-");
}
