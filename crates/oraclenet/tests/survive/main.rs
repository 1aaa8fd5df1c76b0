//! What was answered with 2xx survives: kills at any moment, wiped disks, stores on a bad day. And what cannot be
//! brought back is never a fresh start.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "child processes and deadlines are real here")]

#[path = "../common/mod.rs"]
mod common;
mod hand_over;
mod hostile;
mod refuse;
mod rig;
mod wallet;

use common::wait_for;
use rig::{Place, Running, id, start, try_call};
use s3test::{Fault, Rule};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const POSTS: &str = "/api/collections/posts/records";

/// What was answered with 2xx: the id of each post, and its title.
type Ledger = Arc<Mutex<BTreeMap<String, String>>>;

/// Posts until `enough` were answered and somebody pulls the plug.
struct Writers {
    threads: Vec<std::thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Writers {
    fn begin(address: SocketAddr, token: &str, round: usize, ledger: &Ledger) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let thread = |writer: usize| {
            let (token, ledger) = (token.to_owned(), Arc::clone(ledger));
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                for number in 0.. {
                    let (id, title) = (id(round * 10 + writer, number), format!("{round}/{writer}/{number}"));
                    let body = json!({ "id": id, "title": title, "content": "x" });
                    match try_call(address, "POST", POSTS, &token, &body) {
                        Some(reply) if reply.status == 200 => {
                            assert!(reply.header("x-replicated-txid").is_some(), "{reply:?}");
                            ledger.lock().unwrap().insert(id, title);
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
                        None => return, // the plug was pulled
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        };
        let threads = (0..4).map(thread).collect();
        Self { threads, stop, answered }
    }

    fn wait(&self, enough: usize) {
        wait_for("posts to be answered", || (self.answered.load(Ordering::Relaxed) >= enough).then_some(()));
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer"));
    }
}

/// Every post of the ledger is there, with its title, once.
fn check(server: &Running, ledger: &Ledger) {
    let ledger = ledger.lock().unwrap();
    let mut found = BTreeMap::new();
    for page in 1.. {
        let target = format!("{POSTS}?perPage=1000&page={page}&fields=id,title&skipTotal=1");
        let items = server.call("GET", &target, "", &Value::Null).body["items"].take();
        let items = items.as_array().cloned().unwrap_or_default();
        for item in &items {
            let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            assert!(found.insert(text("id"), text("title")).is_none(), "twice: {item}");
        }
        if items.len() < 1000 {
            break;
        }
    }
    let lost: Vec<_> = ledger.iter().filter(|(id, title)| found.get(*id) != Some(title)).collect();
    assert!(lost.is_empty(), "{} of {} answered posts are lost: {lost:?}", lost.len(), ledger.len());
}

fn wipe(data: &Path) {
    std::fs::remove_dir_all(data).expect("wipe the disk");
}

/// Kill under load, wipe (or not), start again, three times; then an orderly end.
fn kill_and_come_back(place: &Place, wiped: bool, trouble: impl Fn()) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pb_data");
    let ledger = Ledger::default();
    let mut server = start(&data, place, &[]).unwrap();
    let (_, token) = server.oracle("ada");
    for round in 0..3 {
        let writers = Writers::begin(server.address, &token, round, &ledger);
        trouble();
        writers.wait(25);
        server.kill();
        writers.end();
        if wiped {
            wipe(&data);
        }
        server = start(&data, place, &[]).unwrap();
        assert_eq!(server.said().contains("renaming database from temporary location"), wiped);
        check(&server, &ledger);
    }
    let writers = Writers::begin(server.address, &token, 3, &ledger);
    writers.wait(10);
    server.terminate();
    writers.end();
    assert_eq!(server.ended().code(), Some(0), "{}", server.said());
    wipe(&data);
    let server = start(&data, place, &["--require-backup"]).unwrap();
    check(&server, &ledger);
    let me = server.call("GET", "/api/oracles/me", &token, &Value::Null);
    assert_eq!((me.status, &me.body["name"]), (200, &json!("ada")), "the token is good after all that");
}

#[test]
fn every_2xx_survives_kills_and_wiped_disks_with_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    kill_and_come_back(&Place::directory(&folder.path().join("bucket")), true, || {});
}

#[test]
fn every_2xx_survives_kills_with_the_disk_kept() {
    let folder = tempfile::tempdir().unwrap();
    kill_and_come_back(&Place::directory(&folder.path().join("bucket")), false, || {});
}

#[test]
fn every_2xx_survives_kills_and_wiped_disks_with_a_bucket_on_a_bad_day() {
    let (place, bucket) = Place::in_process();
    kill_and_come_back(&place, true, || {
        for fault in [
            Fault::ResetAfter,
            Fault::Answer { status: 503, code: "SlowDown", retry_after: None },
            Fault::ResetBefore,
            Fault::DoneButFailed,
        ] {
            bucket.add_rule(Rule { skip: 2, ..Rule::next("PUT", "", 2, fault) });
        }
    });
}

#[test]
fn every_2xx_survives_kills_and_wiped_disks_with_ceph() {
    let Some(bucket) = testkit::peers::Bucket::real() else { return };
    let path = format!("oraclenet-{}", std::process::id());
    kill_and_come_back(&Place::bucket(&bucket, &path), true, || {});
}

#[test]
fn while_the_bucket_is_away_writes_are_503_reads_work_and_a_repeat_makes_no_double() {
    let (place, bucket) = Place::in_process();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pb_data");
    let server = start(&data, &place, &["--ack-timeout", "1", "--hand-over", "0.1"]).unwrap();
    let (oracle, token) = server.oracle("ada");
    let (_, bob) = server.oracle("bob");
    let voted = id(1, 9);
    let body = json!({ "id": voted, "title": "T", "content": "C" });
    wait_for("a post", || (server.call("POST", POSTS, &token, &body).status == 200).then_some(()));
    bucket.add_rule(Rule::always(
        "PUT",
        "",
        Fault::Answer { status: 503, code: "SlowDown", retry_after: None },
    ));
    let account = json!({ "id": id(1, 3), "name": "Eve", "email": "eve@x.io", "password": "12345678",
        "passwordConfirm": "12345678" });
    let vote = format!("/api/posts/{voted}/upvote");
    let requests = [
        (POSTS, &token, json!({ "id": id(1, 1), "title": "T", "content": "C" })),
        (&*vote, &bob, Value::Null),
        (POSTS, &bob, json!({ "title": "As the SDK sends it", "content": "without an id" })),
        ("/api/collections/connections/records", &bob, json!({ "id": id(1, 2), "following": oracle })),
        ("/api/collections/oracles/records", &String::new(), account),
    ];
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        for (target, who, body) in &requests {
            let reply = server.call("POST", target, who, body);
            assert_eq!(reply.status, 503, "{reply:?}");
            assert!(reply.header("retry-after").is_some());
            outcomes.push(reply.body["data"]["outcome"].as_str().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(outcomes[..2], ["unknown", "unknown"], "committed here, and not in the replica");
    // What is committed only piles up while the bucket is away, so after a while nothing is taken any more.
    assert_eq!(outcomes[10..], ["not_applied"; 5]);
    assert_eq!(server.call("GET", "/api/feed", "", &Value::Null).status, 200);
    let refused = server.call("POST", POSTS, &token, &json!({ "title": "" }));
    assert_eq!(refused.status, 400, "what is refused needs no replica");
    let heartbeat =
        server.call("POST", "/api/collections/heartbeats/records", &token, &json!({ "status": "online" }));
    assert_eq!(heartbeat.status, 200, "presence lives in memory");
    bucket.clear_rules();
    for (target, who, body) in &requests {
        let repeat = || (server.call("POST", target, who, body).status == 200).then_some(());
        wait_for("the repeat to go through", repeat);
    }
    let counts = |server: &Running| {
        ["posts", "connections", "oracles", "votes"].map(|name| {
            let target = format!("/api/collections/{name}/records?perPage=1");
            server.call("GET", &target, "", &Value::Null).body["totalItems"].as_i64().unwrap()
        })
    };
    assert_eq!(counts(&server), [3, 1, 3, 1]);
    server.kill();
    wipe(&data);
    assert_eq!(counts(&start(&data, &place, &[]).unwrap()), [3, 1, 3, 1]);
}

#[test]
fn presence_survives_an_orderly_end_and_rides_along_with_the_next_write() {
    let folder = tempfile::tempdir().unwrap();
    let (data, place) = (folder.path().join("pb_data"), Place::directory(&folder.path().join("bucket")));
    let beat = |server: &Running, token: &str, status: &str| {
        let body = json!({ "status": status });
        assert_eq!(server.call("POST", "/api/collections/heartbeats/records", token, &body).status, 200);
        let here = server.call("GET", "/api/oracles/presence", "", &Value::Null);
        assert_eq!(here.body["items"][0]["status"], json!(status), "seen at once");
    };
    let server = start(&data, &place, &[]).unwrap();
    let (_, token) = server.oracle("ada");
    beat(&server, &token, "online");
    beat(&server, &token, "away");
    let rows = server.call("GET", "/api/collections/heartbeats/records", "", &Value::Null);
    assert_eq!(rows.body["totalItems"], json!(1), "one row an oracle: {rows:?}");
    assert_eq!(server.stop().code(), Some(0));
    wipe(&data);
    let server = start(&data, &place, &[]).unwrap();
    let here = server.call("GET", "/api/oracles/presence", "", &Value::Null);
    assert_eq!(here.body["items"][0]["status"], json!("away"));
    beat(&server, &token, "online");
    // The second write's slot holds the heartbeat: it was written down right behind the first.
    for number in 0..2 {
        let body = json!({ "id": id(7, number), "title": "T", "content": "C" });
        assert_eq!(server.call("POST", POSTS, &token, &body).status, 200);
    }
    server.kill();
    wipe(&data);
    let server = start(&data, &place, &[]).unwrap();
    let here = server.call("GET", "/api/oracles/presence", "", &Value::Null);
    assert_eq!(here.body["items"][0]["status"], json!("online"));
}

#[test]
fn a_superuser_made_by_command_while_the_server_runs_survives_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (data, place) = (folder.path().join("pb_data"), Place::directory(&folder.path().join("bucket")));
    let superuser = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_oraclenet"));
        command.env_remove("ORACLENET_REPLICA_URL");
        command.arg("superuser").args(words).arg("--dir").arg(&data).output().unwrap()
    };
    let server = start(&data, &place, &[]).unwrap();
    let output = superuser(&["upsert", "second@test.local", "abcdefgh1"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout)
            .contains("Successfully saved superuser \"second@test.local\"!")
    );
    let token = server.sign_in("_superusers", "second@test.local", "abcdefgh1");
    // A gated write behind it: what is before it in the log is in the replica too.
    server.oracle("ada");
    server.kill();
    wipe(&data);
    let output = superuser(&["upsert", "third@test.local", "abcdefgh1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("start the server first"), "{output:?}");
    assert!(!data.join("data.db").exists(), "a database was made beside the replica");
    let _ = std::fs::remove_dir_all(&data);
    let server = start(&data, &place, &[]).unwrap();
    server.sign_in("_superusers", "second@test.local", "abcdefgh1");
    let told = server.call("GET", "/api/replication", &token, &Value::Null).body;
    assert_eq!(told["place"], json!("same disk"));
    assert_eq!(told["lastRestore"]["from"], json!(place.url));
    assert_eq!((&told["role"], &told["epoch"]), (&json!("standby"), &Value::Null), "nothing was written yet");
    assert_eq!(told["createOnly"], Value::Null, "a standby has not asked the store");
    assert!(server.said().contains("standby: following the replica"), "{}", server.said());
    // The first write.
    server.oracle("bob");
    let told = server.call("GET", "/api/replication", &token, &Value::Null).body;
    let epoch = format!("epoch={}", told["epoch"].as_str().unwrap());
    let said = server.said();
    let owning = said.lines().find(|line| line.contains("owning the replica")).unwrap();
    assert!(owning.contains(&epoch), "{owning}: {epoch}");
    let public = server.call("GET", "/api/replication", "", &Value::Null).body;
    assert_eq!(public["createOnly"], json!(true), "of an owner, whose store protects it");
    let keys: Vec<&String> = public.as_object().unwrap().keys().collect();
    let wanted = ["createOnly", "durability", "epoch", "lag", "looked", "place", "role", "state", "txid"];
    assert_eq!(keys, wanted);
}

#[test]
fn without_a_replica_a_superuser_may_come_before_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pb_data");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_oraclenet"));
    command.args(["superuser", "create", "first@test.local", "abcdefgh1", "--replica", "none", "--dir"]);
    let output = command.arg(&data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let server = start(&data, &Place { url: "none".to_owned(), env: Vec::new() }, &[]).unwrap();
    server.sign_in("_superusers", "first@test.local", "abcdefgh1");
    assert_eq!(server.call("GET", "/api/health", "", &Value::Null).status, 200);
}
