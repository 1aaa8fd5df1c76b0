//! A running `litekeep replicate`: its control socket, what it serves, and the directories that it watches.

use crate::restore::{make_database, url};
use crate::scrape::{Scrape, get};
use crate::util::{Dir, Running, Seen};
use rustix::process::Signal;
use s3test::{ACCESS_KEY, BUCKET, Fault, Profile, REGION, Rule, SECRET_KEY, Server};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs one statement.
pub(crate) fn execute(database: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(database).expect("opened");
    connection.busy_timeout(Duration::from_secs(10)).expect("set");
    connection.execute_batch(sql).expect("executed");
}

pub(crate) fn insert(database: &Path, value: i64) {
    execute(database, &format!("INSERT INTO t VALUES ({value})"));
}

/// What `t` holds after a restore from a replica in the test's directory.
pub(crate) fn restored(dir: &Dir, replica: &str) -> Vec<i64> {
    let out = dir.path("restored.db");
    dir.litekeep(["restore", "-force", "-o", "restored.db", &url(&dir.path(replica))]).exits(0);
    let connection = rusqlite::Connection::open(out).expect("opened");
    let mut rows = connection.prepare("SELECT x FROM t ORDER BY x").expect("prepared");
    rows.query_map([], |row| row.get(0)).expect("queried").collect::<Result<_, _>>().expect("read")
}

/// Tries until there is something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    wait_until_ok(|| look().ok_or_else(|| what.to_owned()))
}

/// Tries until it is so; what was lacking at last is told.
#[allow(clippy::disallowed_methods, reason = "a test's deadline")]
#[track_caller]
fn wait_until_ok<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Ok(found) => return found,
            Err(lacking) if Instant::now() >= deadline => panic!("no {lacking}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A daemon with `a.db` (which holds 1), replicated to `r`, and a control socket.
pub(crate) fn daemon(more: &str) -> (Dir, Running) {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    dir.write(
        "l.yml",
        format!(
            "socket:\n  enabled: true\n  path: l.sock\n{more}dbs:\n  - path: a.db\n    replica:\n      path: r\n"
        ),
    );
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("control socket listening");
    (dir, running)
}

pub(crate) fn end(mut running: Running) -> Seen {
    running.signal(Signal::TERM);
    running.ends(0)
}

/// A command of the daemon, as JSON.
#[track_caller]
pub(crate) fn ask(dir: &Dir, args: &[&str]) -> Value {
    let seen = dir.litekeep(args.iter().copied().chain(["-json", "-socket", "l.sock"])).exits(0);
    serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all()))
}

/// Bytes over the socket, as any client may send them; status and body of the answer.
fn raw(dir: &Dir, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(dir.path("l.sock")).expect("connected");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

fn post(dir: &Dir, path: &str, body: &str) -> (u16, Value) {
    let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (status, body) = raw(dir, &request);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[test]
fn a_running_daemon_tells_who_it_is_and_what_it_has() {
    let (dir, running) = daemon("");
    let path = dir.path("a.db").display().to_string();
    let info = ask(&dir, &["info"]);
    assert_eq!(info["database_count"], 1);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        info["pid"].is_u64() && info["uptime_seconds"].is_u64() && info["started_at"].is_string(),
        "{info}"
    );
    let text = dir.litekeep(["info", "-socket", "l.sock"]).exits(0).out();
    let labels: Vec<_> = text.lines().skip(1).map(|line| line.split_at(line.len().min(14))).collect();
    assert_eq!(text.lines().next(), Some(concat!("litekeep ", env!("CARGO_PKG_VERSION"))), "{text}");
    assert_eq!(
        labels.iter().map(|(label, _)| *label).collect::<Vec<_>>(),
        ["  PID:        ", "  Uptime:     ", "  Started at: ", "  Databases:  "],
        "{text}"
    );
    let pid = info["pid"].to_string();
    assert_eq!((labels[0].1, labels[3].1), (pid.as_str(), "1"), "{text}");
    assert!(labels[1].1.ends_with('s') && labels[2].1.len() == "2026-11-26T14:18:49Z".len(), "{text}");
    make_database(&dir.path("never.db"));
    ask(&dir, &["sync", "-wait", "a.db"]);
    let list = ask(&dir, &["list"]);
    assert_eq!(list["databases"][0]["path"], path.as_str());
    assert_eq!(list["databases"][0]["status"], "replicating");
    assert!(list["databases"][0]["last_sync_at"].is_string(), "{list}");
    let at = list["databases"][0]["last_sync_at"].as_str().and_then(|at| at.get(..10)).expect("a time");
    let line = format!("{path} [replicating] (last sync: {at}");
    let text = dir.litekeep(["list", "-socket", "l.sock"]).exits(0).out_has(&line);
    assert!(text.out().ends_with("Z)\n"), "{}", text.all());
    // Nobody listens at the end of it.
    let dead = url(&dir.path("no/such"));
    dir.write("no", "");
    ask(&dir, &["register", "-replica", &dead, "never.db"]);
    let line = format!("{} [replicating] (last sync: never)\n", dir.path("never.db").display());
    dir.litekeep(["list", "-socket", "l.sock"]).exits(0).out_has(&line);
    dir.litekeep(["unregister", "-timeout", "1", "-socket", "l.sock", "never.db"]).exits_not(0);
    ask(&dir, &["unregister", "never.db"]);
    let mode = fs::metadata(dir.path("l.sock")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let target = format!("GET /txid?path={path} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(raw(&dir, &target), (200, "{\"txid\":1}\n".to_owned()));
    let (status, phases) = raw(&dir, "GET /debug/sync-status HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(status == 200 && phases.contains("\"phase\":\"good\""), "{phases}");
    let phases: Value = serde_json::from_str(&phases).expect("JSON");
    let phase = &phases["databases"][0];
    assert_eq!(phase["active"], false, "{phase}");
    assert!(["sync", "checkpoint"].iter().any(|known| phase["operation"] == *known), "{phase}");
    assert_eq!(phase["last_synced_wal_offset"], phase["wal_size"], "{phase}");
    assert!(phase["started_at"].is_string() && phase["elapsed_seconds"].is_f64(), "{phase}");
    let of =
        |path: &str| raw(&dir, &format!("GET /debug/sync-status?path={path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!((of(&path).0, of("/no.db").0), (200, 404));
    end(running);
    assert!(!dir.path("l.sock").exists());
}

#[test]
fn a_sync_that_waits_is_in_the_bucket_and_writes_nothing_where_nothing_changed() {
    let (dir, running) = daemon("");
    for value in 2..5 {
        insert(&dir.path("a.db"), value);
        let synced = ask(&dir, &["sync", "-wait", "-timeout", "60", "a.db"]);
        assert_eq!(synced["txid"], synced["replica_txid"]);
        assert!(synced["duration_ms"].is_u64() && synced.get("status").is_none(), "{synced}");
        assert_eq!(restored(&dir, "r"), (1..=value).collect::<Vec<_>>());
    }
    let before = dir.files("r");
    let path = dir.path("a.db").display().to_string();
    let (status, synced) = post(&dir, "/sync", &format!("{{\"path\":\"{path}\",\"wait\":true}}"));
    assert_eq!((status, synced["status"].as_str()), (200, Some("no_change")), "{synced}");
    assert_eq!(dir.files("r"), before);
    insert(&dir.path("a.db"), 9);
    let synced = ask(&dir, &["sync", "a.db"]);
    assert!(synced["txid"].is_u64() && synced.get("replica_txid").is_none(), "{synced}");
    end(running);
}

#[test]
fn a_sync_that_does_not_wait_is_answered_while_the_store_takes_nothing() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, running, _) = served(&server, "");
    let body = format!("{{\"path\":\"{}\"}}", dir.path("a.db").display());
    ask(&dir, &["sync", "-wait", "a.db"]);
    server.add_rule(everything(Fault::ResetBefore));
    insert(&dir.path("a.db"), 2);
    let (status, local) = post(&dir, "/sync", &body);
    assert_eq!((status, &local["status"]), (200, &"synced_local".into()), "{local}");
    assert!(local["txid"].as_u64() > local["replicated_txid"].as_u64(), "{local}");
    server.clear_rules();
    ask(&dir, &["sync", "-wait", "a.db"]);
    end(running);
}

#[test]
fn a_database_is_stopped_and_started_without_the_others() {
    let (dir, running) = daemon("");
    insert(&dir.path("a.db"), 2);
    let stopped = ask(&dir, &["stop", "a.db"]);
    assert_eq!((&stopped["status"], &stopped["state"]), (&"stopped".into(), &"stopped".into()));
    assert!(stopped["txid"].as_u64() >= Some(1), "{stopped}");
    assert_eq!(restored(&dir, "r"), [1, 2]);
    assert_eq!(ask(&dir, &["stop", "a.db"])["status"], "already_stopped");
    assert_eq!(ask(&dir, &["list"])["databases"][0]["status"], "stopped");
    dir.litekeep(["sync", "-wait", "a.db", "-socket", "l.sock"]).exits(1).err_has("sync failed: ");
    insert(&dir.path("a.db"), 3);
    assert_eq!(restored(&dir, "r"), [1, 2]);
    let started = ask(&dir, &["start", "a.db"]);
    assert_eq!((&started["status"], &started["state"]), (&"started".into(), &"running".into()));
    assert_eq!(ask(&dir, &["start", "a.db"])["status"], "already_running");
    ask(&dir, &["sync", "-wait", "a.db"]);
    assert_eq!(restored(&dir, "r"), [1, 2, 3]);
    for (verb, status) in
        [("start", "already_running"), ("stop", "stopped"), ("stop", "already_stopped"), ("start", "started")]
    {
        let seen = dir.litekeep([verb, "a.db", "-socket", "l.sock"]).exits(0);
        drop(seen.out_has(&format!("status: {status}\ndb_path: ")));
    }
    end(running);
}

#[test]
fn r39_a_requests_timeout_of_0_is_the_default_which_is_told_and_off_is_none() {
    let (dir, mut running) = daemon("");
    let path = dir.path("a.db").display().to_string();
    let body = |timeout: &str| format!("{{\"path\": \"{path}\", \"wait\": true, \"timeout\": {timeout}}}");
    for (verb, status) in [("/sync", "no_change"), ("/stop", "stopped"), ("/start", "started")] {
        for timeout in ["\"off\"", "-1", "\"0\"", "1.5"] {
            assert_eq!(post(&dir, verb, &body(timeout)).0, 400, "{verb}: {timeout}");
        }
        if verb == "/sync" {
            ask(&dir, &["sync", "-wait", "a.db"]);
        }
        let (code, answer) = post(&dir, verb, &body("0"));
        assert_eq!((code, answer["status"].as_str()), (200, Some(status)), "{answer}");
        running
            .until("msg=\"a request's timeout of 0 is taken as the default, as in Litestream\" timeout=30");
    }
    end(running);
}

#[test]
fn a_database_comes_and_goes_while_the_daemon_runs() {
    let (dir, running) = daemon("");
    make_database(&dir.path("b.db"));
    let (replica, other) = (url(&dir.path("q")), url(&dir.path("z")));
    let registered = ask(&dir, &["register", "-replica", &replica, "b.db"]);
    assert_eq!(
        (&registered["status"], &registered["replica"]),
        (&"registered".into(), &replica.as_str().into())
    );
    assert_eq!(ask(&dir, &["register", "-replica", &replica, "b.db"])["status"], "already_registered");
    let register = |replica: &str, path: &str| {
        dir.litekeep(["register", "-replica", replica, path, "-socket", "l.sock"]).exits(1)
    };
    register(&other, "b.db").err_has("is replicated to");
    register(&replica, "c.db").err_has("is the replica of");
    register("gopher://x", "c.db").err_has("register failed: ");
    dir.litekeep(["register", "b.db", "-socket", "l.sock"]).exits(1).err_has("-replica is required");
    insert(&dir.path("b.db"), 2);
    dir.litekeep(["unregister", "-dry-run", "b.db", "-socket", "l.sock"])
        .exits(0)
        .out_has("Dry run: unregister request preview\n")
        .out_has("No unregister request was sent.\n");
    let gone = ask(&dir, &["unregister", "b.db"]);
    assert_eq!(gone["status"], "unregistered");
    assert!(gone["final_txid"].as_u64() >= Some(1), "{gone}");
    assert_eq!(restored(&dir, "q"), [1, 2]);
    assert_eq!(ask(&dir, &["unregister", "b.db"])["status"], "already_unregistered");
    let again = dir.litekeep(["unregister", "b.db", "-socket", "l.sock"]).exits(0);
    drop(again.out_has("status: already_unregistered\n"));
    assert_eq!(ask(&dir, &["info"])["database_count"], 1);
    end(running);
}

#[test]
fn a_replica_is_the_same_by_its_place_alone_however_it_is_reached() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, running, _) = served(&server, "");
    let endpoint = server.endpoint();
    let register =
        |url: &str, path: &str| dir.litekeep(["register", "-replica", url, path, "-socket", "l.sock"]);
    // The key prefix of a.db, with other settings.
    let same = format!("s3://{BUCKET}/a?endpoint={endpoint}&region={REGION}&part-size=64MB");
    register(&same, "a.db").exits(0).out_has("status: already registered");
    make_database(&dir.path("b.db"));
    register(&same, "b.db").exits(1).err_has("is the replica of");
    // A bucket of the same name elsewhere.
    let other = format!("s3://{BUCKET}/a?endpoint=http://127.0.0.1:1&region={REGION}");
    register(&other, "a.db").exits(1).err_has("is replicated to").err_has("127.0.0.1:1");
    end(running);
}

#[test]
fn a_request_that_cannot_be_met_is_answered_with_its_status() {
    let (dir, running) = daemon("");
    for (path, body, wanted) in [
        ("/start", "{\"path\":\"/no.db\"}", 500),
        ("/stop", "{\"path\":\"/no.db\"}", 500),
        ("/sync", "{\"path\":\"/no.db\"}", 404),
        ("/sync", "{}", 400),
        ("/sync", "[", 400),
        ("/register", "{\"path\":\"/no.db\"}", 400),
        ("/unregister", "{\"path\":\"/no.db\"}", 200),
        ("/info", "{}", 405),
        ("/debug/pprof/", "{}", 404),
    ] {
        let (status, answer) = post(&dir, path, body);
        assert_eq!(status, wanted, "{path} {body}: {answer}");
        assert_eq!(answer["error"].is_string(), wanted != 200, "{path} {body}: {answer}");
        let unknown = ["/start", "/stop", "/sync"].contains(&path) && body.contains("/no.db");
        assert_eq!(answer["error"] == "database not found: /no.db", unknown, "{path} {body}: {answer}");
    }
    // Nothing was taken from a file that is not there yet.
    ask(&dir, &["register", "-replica", &url(&dir.path("q")), "late.db"]);
    let (status, answer) =
        post(&dir, "/sync", &format!("{{\"path\":\"{}\"}}", dir.path("late.db").display()));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().is_some_and(|it| it.ends_with("is not open yet")), "{answer}");
    assert_eq!(raw(&dir, "GET /txid?path=/no.db HTTP/1.1\r\n\r\n").0, 404);
    assert_eq!(raw(&dir, "GET /txid HTTP/1.1\r\n\r\n").0, 400);
    end(running);
}

#[test]
fn a_replica_is_registered_where_the_command_was_given() {
    let (dir, running) = daemon("");
    let (there, socket) = (Dir::new(), dir.path("l.sock").display().to_string());
    make_database(&there.path("b.db"));
    let args = ["register", "-replica", "./q", "b.db", "-socket", &socket, "-json"];
    let told: Value = serde_json::from_str(&there.litekeep(args).exits(0).out()).expect("JSON");
    assert_eq!(told["replica"], there.path("q").display().to_string());
    there.litekeep(["unregister", "b.db", "-socket", &socket]).exits(0);
    assert_eq!(restored(&there, "q"), [1]);
    assert!(!dir.path("q").exists());
    end(running);
}

#[test]
fn a_replica_among_the_files_of_the_local_state_is_not_registered() {
    let (dir, running) = daemon("");
    make_database(&dir.path("b.db"));
    for (replica, why) in [
        (".b.db-litekeep", "the replica lies where the local state in "),
        (".b.db-litekeep/tail/r", "the replica lies where the local state in "),
        ("b.db", "the replica's `path` is the database itself"),
    ] {
        dir.litekeep(["register", "-replica", replica, "b.db", "-socket", "l.sock"]).exits(1).err_has(why);
        let body = serde_json::json!({"path": dir.path("b.db"), "replica_url": dir.path(replica)});
        assert_eq!(post(&dir, "/register", &body.to_string()).0, 400, "{replica}");
    }
    assert!(!dir.path(".b.db-litekeep").exists());
    end(running);
}

#[test]
fn what_can_be_no_database_is_not_registered_and_one_that_cannot_be_sent_is_answered_in_time() {
    let (dir, running) = daemon("");
    fs::create_dir(dir.path("d")).expect("made");
    dir.write("text", "this is no database, though it is long enough");
    std::os::unix::fs::symlink(dir.path("a.db"), dir.path("same.db")).expect("linked");
    let replica = url(&dir.path("q"));
    for (path, why) in [
        ("d", "is a directory, not a database"),
        ("text", "is not an SQLite database"),
        ("same.db", "it is the same file as "),
        ("s3://test/p", "a path belongs here, not a URL; s3://test/p is a replica's `url`"),
        ("file:///data/a.db", "a path belongs here, not a URL: write /data/a.db"),
    ] {
        dir.litekeep(["register", "-replica", &replica, path, "-socket", "l.sock"]).exits(1).err_has(why);
        let wanted = if path == "same.db" { 409 } else { 400 };
        let path = if path.contains("://") { path.to_owned() } else { dir.path(path).display().to_string() };
        let body = serde_json::json!({"path": path, "replica_url": replica}).to_string();
        assert_eq!(post(&dir, "/register", &body).0, wanted, "{path}");
    }
    let (path, q) = (dir.path("late.db").display().to_string(), &replica);
    let (status, answer) =
        post(&dir, "/register", &format!("{{\"path\":\"{path}\",\"replica_url\":\"{q}\"}}"));
    // Litestream's two, and that nothing of it is in the replica yet.
    assert_eq!((status, answer), (200, serde_json::json!({"status": "registered", "path": path, "txid": 0})));
    ask(&dir, &["unregister", "late.db"]);
    assert_eq!(ask(&dir, &["info"])["database_count"], 1);
    let made = |name: &&String| name.contains("d-litekeep") || name.contains("s3:");
    assert_eq!(dir.files(".").iter().filter(made).count(), 0);
    end(running);
}

#[test]
fn a_daemon_that_does_not_answer_is_told_with_the_time_that_it_had() {
    let dir = Dir::new();
    // It takes connections, and nobody answers.
    let _mute = std::os::unix::net::UnixListener::bind(dir.path("l.sock")).expect("bound");
    for (args, told) in [
        (&["info"][..], "no answer within 1 s; whoever listens at"),
        (&["list"], "no answer within 1 s; whoever listens at"),
        (&["sync", "a.db"], "no answer within 1 s, nor in the 3 s"),
    ] {
        dir.litekeep(args.iter().chain(&["-timeout", "1", "-socket", "l.sock"])).exits(1).err_has(told);
    }
}

#[test]
fn a_daemon_that_takes_no_connection_keeps_nobody_waiting() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let path = dir.path("l.sock");
    let stopped = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    bind(&stopped, &SocketAddrUnix::new(&path).expect("an address")).expect("bound");
    listen(&stopped, 0).expect("listening");
    let _waits = std::os::unix::net::UnixStream::connect(&path).expect("the one that it lets wait");
    let list = dir.litekeep(["list", "-timeout", "1", "-socket", "l.sock"]).starts().ends_anyhow();
    list.err_has("no answer within 1 s; whoever listens at");
    // Nor a start: somebody has the socket, and backups go on without it.
    dir.write(
        "l.yml",
        "socket:\n  enabled: true\n  path: l.sock\ndbs:\n  - path: a.db\n    replica:\n      path: r\n",
    );
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("can't bind the control socket, going on without").until("replicating to");
    running.signal(Signal::TERM);
    running.ends(0);
}

#[test]
fn the_counters_of_a_database_go_on_when_it_is_stopped_and_started() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, running, addr) = served(&server, "");
    // The first one goes up as an image.
    ask(&dir, &["sync", "-wait", "a.db"]);
    insert(&dir.path("a.db"), 2);
    ask(&dir, &["sync", "-wait", "a.db"]);
    let db = dir.path("a.db").display().to_string();
    let counters = || {
        let scrape = Scrape::of(&addr);
        [
            "litekeep_images_total",
            "litestream_total_wal_bytes",
            "litestream_sync_count",
            "litestream_sync_seconds",
        ]
        .map(|name| scrape.value(&format!("{name}{{db=\"{db}\"}}")))
    };
    let mut before = counters();
    assert!(before.iter().all(|count| *count > 0.0), "{before:?}");
    for round in 0..2 {
        for verb in ["stop", "start"] {
            ask(&dir, &[verb, "a.db"]);
            let now = counters();
            assert!(
                now.iter().zip(before).all(|(now, before)| *now >= before),
                "{round} {verb}: {before:?} {now:?}"
            );
            before = now;
        }
        insert(&dir.path("a.db"), 10 + round);
        ask(&dir, &["sync", "-wait", "a.db"]);
        let now = counters();
        assert!(now[1] > before[1] && now[2] > before[2], "{round}: {before:?} {now:?}");
    }
    end(running);
}

#[test]
fn checkpoints_are_counted_with_the_time_that_they_took() {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    dir.write(
        "l.yml",
        "addr: 127.0.0.1:0\ndbs:\n  - path: a.db\n    min-checkpoint-page-count: 1\n    replica:\n      path: r\n",
    );
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("serving metrics on").until("snapshot complete");
    let labels = format!("{{db=\"{}\",mode=\"PASSIVE\"}}", dir.path("a.db").display());
    insert(&dir.path("a.db"), 2);
    let counted = wait_for("a checkpoint", || {
        let scrape = Scrape::of(&address(&running));
        (scrape.value(&format!("litestream_checkpoint_count{labels}")) > 0.0).then_some(scrape)
    });
    assert!(counted.value(&format!("litestream_checkpoint_seconds{labels}")) > 0.0);
    assert_eq!(counted.value(&format!("litestream_checkpoint_error_count{labels}")), 0.0);
    end(running);
}

#[test]
fn where_no_daemon_listens_that_is_said() {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    for verb in ["info", "list", "start", "stop", "sync", "unregister"] {
        let database = (verb != "info" && verb != "list").then_some("a.db");
        dir.litekeep([verb, "-socket", "l.sock"].into_iter().chain(database))
            .exits(1)
            .silent_out()
            .err_has("failed to connect to control socket")
            .err_has("socket: {enabled: true}");
    }
    if !Path::new("/var/run/litestream.sock").exists() {
        dir.litekeep(["info"]).exits(1).err_has("/var/run/litestream.sock");
    }
    dir.litekeep(["sync", "-socket", "l.sock"]).exits(1).err_has("database path required");
    dir.litekeep(["sync", "-timeout", "0", "a.db"]).exits(1).err_has("timeout must be greater than 0");
}

#[test]
fn a_socket_of_another_process_is_left_alone_and_a_dead_one_is_replaced() {
    let (dir, running) = daemon("");
    make_database(&dir.path("b.db"));
    let config = |socket: &str| {
        format!(
            "socket:\n  enabled: true\n  path: {socket}\n  permissions: 0660\ndbs:\n  - path: b.db\n    replica:\n      \
             path: q\n"
        )
    };
    dir.write("m.yml", config("l.sock"));
    let mut second = dir.litekeep(["replicate", "-config", "m.yml"]).starts();
    second.until("another process listens there").until("initialized db");
    assert_eq!(ask(&dir, &["list"])["databases"][0]["path"], dir.path("a.db").display().to_string());
    end(second);
    end(running);
    drop(std::os::unix::net::UnixListener::bind(dir.path("dead.sock")).expect("bound"));
    dir.write("m.yml", config("dead.sock"));
    let mut third = dir.litekeep(["replicate", "-config", "m.yml"]).starts();
    third.until("control socket listening");
    let mode = fs::metadata(dir.path("dead.sock")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    end(third);
    dir.write("file.sock", "precious");
    dir.write("m.yml", config("file.sock"));
    let mut fourth = dir.litekeep(["replicate", "-config", "m.yml"]).starts();
    fourth.until("what is there is no socket").until("initialized db");
    end(fourth);
    assert_eq!(fs::read(dir.path("file.sock")).expect("there"), b"precious");
}

#[test]
fn a_connection_that_says_nothing_keeps_nobody_from_being_served() {
    let (dir, running) = daemon("");
    let idle: Vec<_> = (0..8).map(|_| UnixStream::connect(dir.path("l.sock")).expect("connected")).collect();
    assert_eq!(ask(&dir, &["info"])["database_count"], 1);
    drop(idle);
    end(running);
}

/// A daemon with `a.db` in a bucket, its pages at the address that comes back.
pub(crate) fn served(server: &Server, more: &str) -> (Dir, Running, String) {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let endpoint = server.endpoint();
    dir.write(
        "l.yml",
        format!(
            "addr: 127.0.0.1:0\n{more}socket:\n  enabled: true\n  path: l.sock\ndbs:\n  - path: a.db\n    replica:\n      \
             url: s3://{BUCKET}/a\n      endpoint: {endpoint}\n      region: {REGION}\n"
        ),
    );
    let (running, addr) = started(&dir);
    (dir, running, addr)
}

/// The same daemon, once more.
pub(crate) fn started(dir: &Dir) -> (Running, String) {
    let mut running = dir
        .litekeep(["replicate", "-config", "l.yml"])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .starts();
    running.until("serving metrics on").until("control socket listening");
    let addr = address(&running);
    (running, addr)
}

/// Where the pages are served, from the log.
pub(crate) fn address(running: &Running) -> String {
    let line = running.seen().lines().find(|line| line.contains("serving metrics on")).expect("the line");
    let addr = line.split("addr=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    addr.to_owned()
}

/// A rule that strikes every request.
pub(crate) fn everything(fault: Fault) -> Rule {
    Rule { method: None, part: "", skip: 0, times: u32::MAX, fault }
}

pub(crate) fn denied() -> Fault {
    Fault::Answer { status: 403, code: "AccessDenied", retry_after: None }
}

/// The health page, until it has this status and says this.
#[track_caller]
pub(crate) fn wait_for_health(addr: &str, query: &str, status: u16, part: &str) -> Value {
    wait_until_ok(|| {
        let (seen, body) = get(addr, &format!("/health{query}"));
        if seen == status && body.contains(part) {
            return Ok(serde_json::from_str(&body).expect("JSON"));
        }
        Err(format!("{status} with {part:?}, but {seen} with {body}"))
    })
}

/// Puts that are refused: health says so at once, and the counters of requests, not of syncs.
fn what_is_not_permitted_shows(server: &Server, dir: &Dir, addr: &str, before: &Scrape) {
    let path = dir.path("a.db").display().to_string();
    let value = |scrape: &Scrape, name: &str| scrape.value(&format!("{name}{{db=\"{path}\"}}"));
    server.add_rule(Rule::always("PUT", "", denied()));
    insert(&dir.path("a.db"), 4);
    let report = wait_for_health(addr, "?behind=1h", 503, "PUT: ");
    assert_eq!(report["status"], "failing");
    // A put that fails is no failure of a sync, as in Litestream.
    let refused = wait_for("a put that failed", || {
        let page = Scrape::of(addr);
        (value(&page, "litekeep_troubles_total") > value(before, "litekeep_troubles_total")).then_some(page)
    });
    assert_eq!(value(&refused, "litestream_sync_error_count"), 0.0);
    assert_eq!(value(&refused, "litekeep_healthy"), 0.0);
    let series =
        format!("litekeep_replica_requests_total{{db=\"{path}\",operation=\"PUT\",result=\"refused\"}}");
    assert!(refused.value(&series) >= 1.0);
    let errors =
        "litestream_replica_operation_errors_total{replica_type=\"s3\",operation=\"PUT\",code=\"refused\"}";
    assert!(refused.value(errors) >= 1.0);
    server.clear_rules();
    wait_for_health(addr, "", 200, "\"ok\"");
    assert_eq!(value(&Scrape::of(addr), "litekeep_healthy"), 1.0);
}

/// Objects and bytes by level, against what lies in the bucket.
fn levels_are_those_of_the_bucket(server: &Server, scrape: &Scrape, path: &str) {
    let mut levels: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let keys = server.keys();
    for key in keys.iter().filter(|key| key.ends_with(".ltx")) {
        let level = key.split('/').nth(1).map_or("", |level| level.trim_start_matches('0'));
        let (objects, bytes) = levels.entry(level).or_default();
        let size = server.object(key).map_or(0, |object| object.len());
        (*objects, *bytes) = (*objects + 1.0, *bytes + f64::from(u32::try_from(size).expect("small")));
    }
    assert!(!levels.is_empty(), "{keys:?}");
    for (level, (objects, bytes)) in levels {
        let of = format!("{{db=\"{path}\",level=\"{}\"}}", if level.is_empty() { "0" } else { level });
        let told = ["objects", "bytes"].map(|name| scrape.value(&format!("litekeep_replica_{name}{of}")));
        assert_eq!(told, [objects, bytes], "level {level}: {keys:?}");
    }
}

/// What counts a write has gone up from one page to the next.
fn a_write_has_moved(first: &Scrape, second: &Scrape, db: &str) {
    let value = |scrape: &Scrape, name: &str| scrape.value(&format!("{name}{db}"));
    let puts = "litestream_replica_operation_total{replica_type=\"s3\",operation=\"PUT\"}";
    assert!(second.value(puts) > first.value(puts));
    for (of, least) in [("_bytes", 1.0), ("_duration_seconds_count", 1.0), ("_duration_seconds_sum", 0.0)] {
        let series = format!("litestream_replica_operation{of}{{replica_type=\"s3\",operation=\"PUT\"}}");
        assert!(
            second.value(&series) > first.value(&series) && first.value(&series) > least - 1.0,
            "{series}"
        );
    }
    for grown in [
        "litekeep_replica_txid",
        "litestream_wal_size",
        "litestream_sync_count",
        "litestream_sync_seconds",
        "litestream_total_wal_bytes",
        "litekeep_last_success_timestamp_seconds",
        "litekeep_restorable_newest_timestamp_seconds",
    ] {
        assert!(value(second, grown) > value(first, grown), "{grown}");
    }
}

#[test]
fn the_metrics_follow_a_write_an_outage_and_a_permission_that_is_missing() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, running, addr) = served(&server, "");
    let path = dir.path("a.db").display().to_string();
    let db = format!("{{db=\"{path}\"}}");
    ask(&dir, &["sync", "-wait", "a.db"]);
    let value = |scrape: &Scrape, name: &str| scrape.value(&format!("{name}{db}"));
    // The first snapshot goes up behind the slot that it is of.
    let first = wait_for("the first snapshot", || {
        let page = Scrape::of(&addr);
        (value(&page, "litekeep_last_snapshot_timestamp_seconds") > 0.0).then_some(page)
    });
    assert_eq!(value(&first, "litestream_txid"), value(&first, "litekeep_replica_txid"));
    assert!(value(&first, "litestream_txid") >= 1.0);
    assert_eq!(value(&first, "litekeep_create_only"), 1.0);
    assert_eq!(value(&first, "litekeep_healthy"), 1.0);
    assert!(value(&first, "litestream_db_size") > 0.0);
    for nothing in [
        "litekeep_last_verified_restore_timestamp_seconds",
        "litestream_disk_full",
        "litestream_sync_error_count",
        "litestream_compaction_verify_error_count",
        "litekeep_polling",
        "litekeep_chain_breaks_total",
        "litekeep_retention_failing",
    ] {
        assert_eq!(value(&first, nothing), 0.0, "{nothing}");
    }
    levels_are_those_of_the_bucket(&server, &first, &path);
    assert_eq!(first.value("litestream_l0_retention_files_total{db=\"a.db\",status=\"not_compacted\"}"), 1.0);
    assert_eq!(first.value(&format!("litekeep_replica_objects{{db=\"{path}\",level=\"0\"}}")), 1.0);
    assert_eq!(first.value("litekeep_databases{state=\"replicating\"}"), 1.0);
    let oldest = value(&first, "litekeep_restorable_oldest_timestamp_seconds");
    assert!(oldest > 1e9 && oldest <= value(&first, "litekeep_restorable_newest_timestamp_seconds"));
    wait_for_health(&addr, "", 200, "\"read_back_txid\": 1");

    insert(&dir.path("a.db"), 2);
    ask(&dir, &["sync", "-wait", "a.db"]);
    let second = Scrape::of(&addr);
    a_write_has_moved(&first, &second, &db);

    server.add_rule(everything(Fault::ResetBefore));
    insert(&dir.path("a.db"), 3);
    wait_for_health(&addr, "?behind=1s", 503, "the replica is behind by");
    let outage = Scrape::of(&addr);
    assert!(value(&outage, "litekeep_replica_lag_seconds") > 1.0);
    assert!(value(&outage, "litestream_txid") > value(&outage, "litekeep_replica_txid"));
    assert_eq!(get(&addr, "/health?behind=1h").0, 200);
    server.clear_rules();
    wait_for_health(&addr, "?behind=1s", 200, "\"ok\"");

    what_is_not_permitted_shows(&server, &dir, &addr, &second);
    end(running);
}

#[test]
fn r66_a_replica_that_lost_what_it_had_taken_is_not_healthy() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, running, addr) = served(&server, "");
    ask(&dir, &["sync", "-wait", "a.db"]);
    wait_for_health(&addr, "", 200, "\"read_back_txid\": 1");
    insert(&dir.path("a.db"), 2);
    ask(&dir, &["sync", "-wait", "a.db"]);
    // The next look is due 15 s after the one before; whatever the engine remembers, it finds nothing.
    server.keys().iter().for_each(|key| assert!(server.remove(key)));
    let report = wait_for_health(&addr, "", 503, "does not hold transaction");
    assert_eq!(report["databases"][0]["state"], "replicating");
    assert_eq!(value_of_health(&addr, &dir), 0.0);
    end(running);
}

fn value_of_health(addr: &str, dir: &Dir) -> f64 {
    Scrape::of(addr).value(&format!("litekeep_healthy{{db=\"{}\"}}", dir.path("a.db").display()))
}

#[test]
fn a_store_that_ignores_conditions_is_told_in_the_metrics() {
    let server = Server::start(Profile::IgnoresConditions).expect("a server");
    let (dir, running, addr) = served(&server, "");
    ask(&dir, &["sync", "-wait", "a.db"]);
    let db = dir.path("a.db").display().to_string();
    assert_eq!(Scrape::of(&addr).value(&format!("litekeep_create_only{{db=\"{db}\"}}")), 0.0);
    end(running);
}

#[test]
fn only_two_pages_are_served_and_a_taken_address_stops_no_backup() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, running, addr) = served(&server, "");
    for path in ["/", "/debug/pprof/"] {
        assert_eq!(get(&addr, path).0, 404, "{path}");
    }
    assert_eq!(get(&addr, "/health?behind=soon").0, 400);
    for (path, status) in [("/health", 200), ("/metrics", 200), ("/", 404)] {
        let mut stream = std::net::TcpStream::connect(&addr).expect("connected");
        write!(stream, "HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }
    make_database(&dir.path("b.db"));
    dir.write("m.yml", format!("addr: {addr}\ndbs:\n  - path: b.db\n    replica:\n      path: q\n"));
    let mut second = dir.litekeep(["replicate", "-config", "m.yml"]).starts();
    second.until("can't serve metrics, going on without").until("initialized db");
    end(second);
    end(running);
}

#[test]
fn a_last_sync_that_fails_is_answered_as_an_error_and_the_database_stays_on_the_list() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, mut running, addr) = served(&server, "");
    ask(&dir, &["sync", "-wait", "a.db"]);
    server.add_rule(Rule::always("PUT", "", denied()));
    insert(&dir.path("a.db"), 2);
    let fails = |args: &[&str]| {
        dir.litekeep(args.iter().copied().chain(["-timeout", "2", "-socket", "l.sock", "a.db"])).exits(1)
    };
    fails(&["sync", "-wait"]).err_has("sync failed: ");
    fails(&["unregister"]).err_has("unregister failed: the last changes of");
    assert_eq!(ask(&dir, &["list"])["databases"][0]["status"], "stopped");
    // Whoever stopped it, what it could not bring up is missing.
    assert_eq!(get(&addr, "/health").0, 503);
    wait_for_health(&addr, "", 503, "replication has ended: ");
    server.clear_rules();
    assert_eq!(ask(&dir, &["start", "a.db"])["status"], "started");
    ask(&dir, &["sync", "-wait", "a.db"]);
    wait_for_health(&addr, "", 200, "\"ok\"");
    running.signal(Signal::TERM);
    running.ends(0);
}

/// A daemon over the directory `d`, with a control socket, and `more` lines for the directory.
fn over_directory(dir: &Dir, more: &str) -> Running {
    dir.write(
        "l.yml",
        format!(
            "socket:\n  enabled: true\n  path: l.sock\ndbs:\n  - dir: d\n    pattern: '*.db'\n{more}    replica:\n      path: r\n"
        ),
    );
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("control socket listening");
    running
}

/// The databases that the daemon has, without the directory's path.
fn listed(dir: &Dir) -> Vec<String> {
    let list = ask(dir, &["list"]);
    let paths = list["databases"].as_array().expect("a list").iter();
    let top = format!("{}/", dir.path("d").display());
    paths.map(|it| it["path"].as_str().expect("a path").replacen(&top, "", 1)).collect()
}

/// Beside a command it takes a moment until a database is owned.
fn until_replicated(dir: &Dir, name: &str) {
    let path = dir.path("d").join(name).display().to_string();
    wait_for("its replication", || {
        let list = ask(dir, &["list"]);
        let mut rows = list["databases"].as_array().expect("a list").iter();
        rows.any(|row| row["path"] == path.as_str() && row["status"] == "replicating").then_some(())
    });
}

fn make_in_directory(dir: &Dir, name: &str) {
    let path = dir.path("d").join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    make_database(&path);
}

#[test]
fn the_databases_of_a_directory_are_replicated_by_their_paths_in_there() {
    let dir = Dir::new();
    for name in ["a.db", "b.db", "sub/a.db", "c.sqlite"] {
        make_in_directory(&dir, name);
    }
    dir.write("d/text.db", "this is a text, and no database at all");
    dir.write("d/empty.db", "");
    fs::copy(dir.path("d/a.db"), dir.path("d/a.db-wal.db-wal")).expect("copied");
    std::os::unix::fs::symlink(dir.path("d"), dir.path("d/circle")).expect("linked");
    let running = over_directory(&dir, "    recursive: true\n");
    assert_eq!(listed(&dir), ["a.db", "b.db", "sub/a.db"]);
    for name in ["a.db", "b.db", "sub/a.db"] {
        let path = dir.path("d").join(name).display().to_string();
        ask(&dir, &["sync", "-wait", &path]);
        assert_eq!(restored(&dir, &format!("r/{name}")), [1]);
        dir.litekeep(["restore", "-config", "l.yml", "-o", "again.db", "-force", &path]).exits(0);
    }
    let seen = end(running);
    for file in ["text.db", "empty.db"] {
        let lines = seen.out().lines().filter(|it| it.contains(file) && it.contains("is skipped")).count();
        assert_eq!(lines, 1, "{}", seen.all());
    }
    let running = over_directory(&dir, "    meta-dir: m\n");
    assert_eq!(listed(&dir), ["a.db", "b.db"]);
    ask(&dir, &["sync", "-wait", "d/a.db"]);
    assert!(dir.path("m/a.db").is_dir());
    end(running);
}

#[test]
fn a_watched_directory_takes_up_what_comes_and_lets_go_what_goes() {
    let dir = Dir::new();
    fs::create_dir(dir.path("d")).expect("made");
    let mut running = over_directory(&dir, "    watch: true\n    recursive: true\n");
    assert_eq!(listed(&dir), [""; 0]);
    let until = |names: &[&str]| wait_for(&format!("{names:?}"), || (listed(&dir) == names).then_some(()));
    dir.write("d/late.db", "");
    make_in_directory(&dir, "a.db");
    until(&["a.db"]);
    make_in_directory(&dir, "late.db");
    make_in_directory(&dir, "sub/b.db");
    until(&["a.db", "late.db", "sub/b.db"]);
    insert(&dir.path("d/a.db"), 2);
    ask(&dir, &["sync", "-wait", "d/a.db"]);
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.path(&format!("d/a.db{end}")));
    }
    until(&["late.db", "sub/b.db"]);
    assert_eq!(restored(&dir, "r/a.db"), [1, 2]);
    ask(&dir, &["unregister", "d/late.db"]);
    make_in_directory(&dir, "c.db");
    until(&["c.db", "sub/b.db"]);
    running.until("letting it go");
    end(running);
}

#[test]
fn a_link_in_a_directory_never_moves_the_backup_of_a_file_that_has_a_name_of_its_own() {
    let dir = Dir::new();
    let link = |target: &str, path: &str| {
        std::os::unix::fs::symlink(dir.path(target), dir.path(path)).expect("linked");
    };
    make_in_directory(&dir, "z.db");
    make_in_directory(&dir, "sub/y.db");
    make_database(&dir.path("out.db"));
    let more = "    recursive: true\n    watch: true\n";
    let names = ["out.db", "sub/y.db", "z.db"];
    link("out.db", "d/out.db");
    end(over_directory(&dir, more));
    // Each sorts before the name that its file is replicated by.
    link("d/z.db", "d/current.db");
    link("d/sub/y.db", "d/a.db");
    // Where the directory itself is reached by a link as well.
    fs::rename(dir.path("d"), dir.path("volume")).expect("renamed");
    link("volume", "d");
    for once in [true, false] {
        if once {
            dir.litekeep(["replicate", "-config", "l.yml", "-once"]).exits(0);
        }
        let running = over_directory(&dir, more);
        assert_eq!(listed(&dir), names);
        let shown = |args: &[&str]| -> Vec<String> {
            let seen = dir.litekeep(args.iter().copied().chain(["-json", "-config", "l.yml"])).exits(0);
            let rows: Vec<Value> = serde_json::from_str(&seen.out()).expect("JSON");
            let name = |row: &Value| row.get("path").or(row.get("database")).cloned();
            let top = format!("{}/", dir.path("d").display());
            rows.iter()
                .map(|row| name(row).expect("a path").as_str().expect("text").replacen(&top, "", 1))
                .collect()
        };
        let both = || (shown(&["databases"]), shown(&["status", "-local"]));
        assert_eq!(both(), (names.map(str::to_owned).to_vec(), names.map(str::to_owned).to_vec()));
        let seen = end(running);
        assert!(
            seen.out().contains("current.db why=\"it is a link to a file that goes by"),
            "{}",
            seen.all()
        );
        assert_eq!(both(), (names.map(str::to_owned).to_vec(), names.map(str::to_owned).to_vec()));
    }
    assert!(!dir.path("r/current.db").exists() && !dir.path("r/a.db").exists());
    // Of one that is configured by itself the link is not taken up even after it was taken off the list by hand.
    let text = fs::read_to_string(dir.path("l.yml")).expect("read");
    dir.write("l.yml", text.replace("dbs:\n", "dbs:\n  - path: own.db\n    replica:\n      path: own\n"));
    make_database(&dir.path("own.db"));
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("control socket listening");
    ask(&dir, &["unregister", "own.db"]);
    link("own.db", "d/b.db");
    running.until("b.db why=\"it is a link to a file that goes by");
    assert_eq!(listed(&dir), names);
    end(running);
}

#[test]
fn a_database_that_is_renamed_in_a_watched_directory_goes_on_by_its_new_name() {
    let dir = Dir::new();
    make_in_directory(&dir, "a.db");
    let running = over_directory(&dir, "    watch: true\n");
    ask(&dir, &["sync", "-wait", "d/a.db"]);
    for end in ["-wal", "-shm", ""] {
        let _ = fs::rename(dir.path(&format!("d/a.db{end}")), dir.path(&format!("d/b.db{end}")));
    }
    wait_for("the new name", || (listed(&dir) == ["b.db"]).then_some(()));
    insert(&dir.path("d/b.db"), 2);
    ask(&dir, &["sync", "-wait", "d/b.db"]);
    assert_eq!(restored(&dir, "r/b.db"), [1, 2]);
    end(running);
}

#[test]
fn a_database_that_is_there_again_before_it_was_let_go_stays_and_loses_nothing() {
    for command in ["", "exec: sleep 600\n"] {
        is_there_again(command);
    }
}

fn is_there_again(command: &str) {
    let server = Server::start(Profile::Aws).expect("a server");
    let dir = Dir::new();
    make_in_directory(&dir, "a.db");
    let endpoint = server.endpoint();
    dir.write(
        "l.yml",
        format!(
            "{command}addr: 127.0.0.1:0\nshutdown-sync-timeout: 10m\nsocket:\n  enabled: true\n  path: l.sock\ndbs:\n  - dir: d\n    pattern: '*.db'\n    watch: true\n    \
             replica:\n      url: s3://{BUCKET}/r\n      endpoint: {endpoint}\n      region: {REGION}\n"
        ),
    );
    let (mut running, _) = started(&dir);
    until_replicated(&dir, "a.db");
    ask(&dir, &["sync", "-wait", "d/a.db"]);
    server.add_rule(Rule::always("PUT", "", Fault::ResetBefore));
    insert(&dir.path("d/a.db"), 2);
    let path = dir.path("d/a.db").display().to_string();
    let waits = || {
        let (_, phases) = raw(&dir, "GET /debug/sync-status HTTP/1.1\r\nHost: x\r\n\r\n");
        phases.contains("\"active\":true").then_some(())
    };
    wait_for("a slot that waits", waits);
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.path(&format!("d/a.db{end}")));
    }
    running.until("letting it go");
    make_in_directory(&dir, "a.db");
    insert(&dir.path("d/a.db"), 7);
    running.until("the database is there again");
    server.clear_rules();
    ask(&dir, &["sync", "-wait", &path]);
    assert_eq!(listed(&dir), ["a.db"]);
    dir.litekeep(["restore", "-config", "l.yml", "-o", "again.db", &path])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .exits(0);
    let connection = rusqlite::Connection::open(dir.path("again.db")).expect("opened");
    let sum: i64 = connection.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).expect("queried");
    assert_eq!(sum, 8);
    end(running);
}

#[test]
fn what_cannot_be_read_in_a_directory_is_told_and_tried_again_and_keeps_nothing_else_back() {
    let (dir, place) = (Dir::new(), Dir::new());
    for name in ["a.db", "shut/b.db", "c.db"] {
        make_in_directory(&dir, name);
    }
    dir.write(
        "l.yml",
        "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\ndbs:\n  - dir: d\n    pattern: '*.db'\n    recursive: \
         true\n    meta-dir: m\n    replica:\n      path: r\n",
    );
    let set = |name: &str, mode| {
        fs::set_permissions(dir.path(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    for (name, mode) in [("d/a.db", 0o666), ("d/c.db", 0), ("d/shut", 0)] {
        set(name, mode);
    }
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).of_nobody(&place).starts();
    running.until("serving metrics on").until("control socket listening");
    let addr = address(&running);
    assert_eq!(listed(&dir), ["a.db"]);
    let report = wait_for_health(&addr, "", 503, "Permission denied");
    let missing = dir.path("d/c.db").display().to_string();
    let row =
        report["databases"].as_array().expect("rows").iter().find(|row| row["path"] == missing.as_str());
    assert_eq!(row.expect("a row")["state"], "missing", "{report}");
    assert_eq!(Scrape::of(&addr).value(&format!("litekeep_healthy{{db=\"{missing}\"}}")), 0.0);
    // Neither size nor time of the file changes.
    set("d/c.db", 0o666);
    wait_for("c.db on the list", || (listed(&dir) == ["a.db", "c.db"]).then_some(()));
    wait_for_health(&addr, "", 200, "\"ok\"");
    set("d/shut", 0o777);
    let seen = end(running);
    for part in ["can't read a directory, going on without it", "can't take a database up, trying again"] {
        assert_eq!(seen.out().lines().filter(|it| it.contains(part)).count(), 1, "{part}{}", seen.all());
    }
}

/// A command that does nothing, over the directory `d`, which is watched.
const BESIDE: &str = "exec: sh -c 'echo ready; exec sleep 600'\naddr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\ndbs:\n  - \
                      dir: d\n    pattern: '*.db'\n    watch: true\n    meta-dir: m\n    replica:\n      path: r\n";

#[test]
fn what_cannot_be_looked_into_while_a_command_runs_is_told_and_tried_again_and_stops_nothing() {
    let (dir, place) = (Dir::new(), Dir::new());
    let set = |name: &str, mode| {
        fs::set_permissions(dir.path(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    make_in_directory(&dir, "a.db");
    set("d/a.db", 0o666);
    make_database(&dir.path("c.db"));
    set("c.db", 0);
    dir.write("l.yml", BESIDE);
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).of_nobody(&place).starts();
    running.until("serving metrics on");
    let addr = address(&running);
    wait_for_health(&addr, "", 200, "\"ok\"");
    fs::rename(dir.path("c.db"), dir.path("d/c.db")).expect("renamed");
    let report = wait_for_health(&addr, "", 503, "can't replicate");
    let rows = report["databases"].as_array().expect("rows");
    let missing = dir.path("d/c.db").display().to_string();
    let row = rows.iter().find(|row| row["path"] == missing.as_str()).expect("a row");
    assert_eq!(row["state"], "missing", "{report}");
    set("d/c.db", 0o666);
    wait_for_health(&addr, "", 200, "\"ok\"");
    assert_eq!(listed(&dir), ["a.db", "c.db"]);
    // The directory itself: what is in it stays.
    set("d", 0);
    wait_for_health(&addr, "", 503, "can't read the directory");
    set("d", 0o777);
    wait_for_health(&addr, "", 200, "\"ok\"");
    assert_eq!(listed(&dir), ["a.db", "c.db"]);
    let seen = end(running);
    for part in ["can't read the directory, trying again", "can't take a database up, trying again"] {
        assert_eq!(seen.out().lines().filter(|it| it.contains(part)).count(), 1, "{part}{}", seen.all());
    }
    drop(seen.never_says("letting it go"));
}

#[test]
fn what_a_command_removes_from_a_watched_directory_is_let_go_and_what_comes_after_is_kept_anew() {
    let dir = Dir::new();
    make_in_directory(&dir, "a.db");
    dir.write("l.yml", BESIDE);
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("control socket listening");
    let until = |names: &[&str]| wait_for(&format!("{names:?}"), || (listed(&dir) == names).then_some(()));
    let nodes = |running: &Running| running.threads("node");
    for (round, value) in [2, 3, 4].into_iter().enumerate() {
        make_database(&dir.path("draft.db"));
        insert(&dir.path("draft.db"), value);
        for end in ["", "-wal", "-shm"] {
            let _ = fs::rename(dir.path(&format!("draft.db{end}")), dir.path(&format!("d/b.db{end}")));
        }
        until(&["a.db", "b.db"]);
        until_replicated(&dir, "b.db");
        insert(&dir.path("d/b.db"), 10 * value);
        ask(&dir, &["sync", "-wait", "d/b.db"]);
        assert_eq!(restored(&dir, "r/b.db"), [1, value, 10 * value], "round {round}");
        assert_eq!(nodes(&running), 2);
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(dir.path(&format!("d/b.db{end}")));
        }
        running.until("letting it go").until("replication ended, the database is gone");
        until(&["a.db"]);
        assert_eq!(restored(&dir, "r/b.db"), [1, value, 10 * value], "round {round}");
        wait_for("an end of its threads", || (nodes(&running) == 1).then_some(()));
    }
    // One that changes its name goes on by the new one.
    for end in ["-wal", "-shm", ""] {
        let _ = fs::rename(dir.path(&format!("d/a.db{end}")), dir.path(&format!("d/c.db{end}")));
    }
    until(&["c.db"]);
    insert(&dir.path("d/c.db"), 5);
    end(running);
    assert_eq!(restored(&dir, "r/c.db"), [1, 5]);
}

#[test]
fn a_directory_that_cannot_be_used_is_told_before_anything_starts() {
    let dir = Dir::new();
    fs::create_dir(dir.path("d")).expect("made");
    for (entry, part) in [
        ("dir: none\n    pattern: '*'", "can't read the directory"),
        ("dir: d\n    pattern: '['", "a [ has no ] that fits"),
        ("dir: d\n    pattern: '*.db'", "there is no database like *.db in"),
    ] {
        dir.write("l.yml", format!("dbs:\n  - {entry}\n    replica:\n      path: r\n"));
        dir.litekeep(["replicate", "-config", "l.yml"]).exits(1).err_has(part);
    }
    dir.write("l.yml", "dbs:\n  - dir: d\n    pattern: '*.db'\n    replica:\n      path: r\n");
    let exec = ["replicate", "-config", "l.yml", "-exec", "true"];
    dir.litekeep(exec).exits(1).err_has("there is no database like *.db in");
    make_in_directory(&dir, "a.db");
    dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
    assert_eq!(restored(&dir, "r/a.db"), [1]);
}

/// Takes GETs and answers each with 200; the requests' first lines come out at the other end.
fn receiver() -> (String, std::sync::mpsc::Receiver<String>) {
    answering("200 OK\r\n".to_owned())
}

/// The same with another answer: its status and headers.
fn answering(head: String) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = std::io::BufReader::new(&stream);
            let mut line = String::new();
            std::io::BufRead::read_line(&mut lines, &mut line).expect("a line");
            let answer = format!("HTTP/1.1 {head}Content-Length: 0\r\nConnection: close\r\n\r\n");
            (&stream).write_all(answer.as_bytes()).expect("answered");
            if tell.send(line.trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    (addr, told)
}

/// As many clients as there are places hang up while they wait, twice.
fn hang_up(dir: &Dir, path: &str) {
    let body = format!("{{\"path\":\"{}\",\"wait\":true,\"timeout\":3600}}", dir.path("a.db").display());
    let request = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for _ in 0..2 {
        // Those of the time before may still have theirs, so that it takes more than there are.
        let mut waiting = Vec::new();
        wait_for(&format!("client of {path} in every place"), || {
            let mut stream = UnixStream::connect(dir.path("l.sock")).expect("connected");
            stream.write_all(request.as_bytes()).expect("sent");
            waiting.push(stream);
            (raw(dir, "GET /info HTTP/1.1\r\n\r\n").0 == 503).then_some(())
        });
        drop(waiting);
        let free = || (raw(dir, "GET /info HTTP/1.1\r\n\r\n").0 == 200).then_some(());
        wait_for(&format!("place free of clients of {path} that hung up"), free);
    }
}

#[test]
fn clients_that_hang_up_while_they_wait_take_nobodys_place_and_what_they_asked_for_is_done() {
    // Each with what comes of it once the bucket takes changes again: the list.
    let waiting = [("/sync", Some("replicating")), ("/stop", Some("stopped")), ("/unregister", None)];
    for (path, comes_to) in waiting {
        let server = Server::start(Profile::Aws).expect("a server");
        server.add_rule(Rule::always("PUT", "", Fault::ResetBefore));
        let (dir, running, _) = served(&server, "");
        hang_up(&dir, path);
        // What is about to end is not "there already", however long its last sync takes.
        for again in ["/start", "/register"].into_iter().filter(|_| path != "/sync") {
            let replica = format!("s3://{BUCKET}/a?endpoint={}&region={REGION}", server.endpoint());
            let body = serde_json::json!({"path": dir.path("a.db"), "replica_url": replica}).to_string();
            let request = format!("POST {again} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let (status, said) = wait_for(&format!("place for {again}"), || {
                let answer = raw(&dir, &request);
                (answer.0 != 503).then_some(answer)
            });
            assert_eq!(status, 409, "{path}, {again}: {said}");
            assert!(said.contains("it is being stopped; try again"), "{path}, {again}: {said}");
        }
        server.clear_rules();
        wait_for(&format!("end of {path}"), || {
            let list = ask(&dir, &["list"]);
            let databases = list["databases"].as_array()?;
            let state = databases.first().map(|database| database["status"].as_str().unwrap_or_default());
            (state == comes_to).then_some(())
        });
        end(running);
        let replica = format!("s3://{BUCKET}/a?endpoint={}&region={REGION}", server.endpoint());
        let restore = dir.litekeep(["restore", "-o", "restored.db", &replica]);
        restore.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).exits(0);
    }
}

#[test]
fn a_heartbeat_is_sent_only_while_the_replica_has_everything() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (beats_at, beats) = receiver();
    server.add_rule(Rule::always("PUT", "", Fault::ResetBefore));
    let more = format!("heartbeat-url: http://{beats_at}/hush-token?x=1\nheartbeat-interval: 24h\n");
    let (_dir, mut running, addr) = served(&server, &more);
    wait_for_health(&addr, "?behind=2s", 503, "the replica is behind by");
    assert!(beats.try_recv().is_err(), "a heartbeat of a replica that has nothing");
    server.clear_rules();
    let line = beats.recv_timeout(Duration::from_secs(60)).expect("a heartbeat");
    assert_eq!(line, "GET /hush-token?x=1 HTTP/1.1");
    // Nobody waits for the next one; that none comes before its time is looked at, however long the machine takes.
    wait_for_health(&addr, "", 200, "\"ok\"");
    assert!(beats.try_recv().is_err(), "a second heartbeat within the interval");
    running.signal(Signal::TERM);
    running.ends(0).never_says("hush");
}

#[test]
fn a_heartbeat_that_nobody_takes_is_told_without_its_address() {
    let server = Server::start(Profile::Aws).expect("a server");
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let more = format!("heartbeat-url: http://{closed}/hush-token\n");
    let (_dir, mut running, _) = served(&server, &more);
    running.until("the heartbeat could not be sent");
    end(running).never_says("hush");
}

#[test]
fn a_heartbeat_goes_to_its_own_address_alone() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (elsewhere, taken) = receiver();
    let (beats_at, beats) = answering(format!("302 Found\r\nLocation: http://{elsewhere}/\r\n"));
    let (_dir, mut running, _) = served(&server, &format!("heartbeat-url: http://{beats_at}/hush-token\n"));
    running.until("msg=\"the heartbeat was not taken\" status=302");
    assert!(beats.try_recv().is_ok() && taken.try_recv().is_err(), "a redirect was followed");
    end(running).never_says("hush");
}

#[test]
fn a_command_has_its_address_and_socket_once_the_instance_before_is_gone() {
    let dir = Dir::new();
    for (name, database) in [("l.yml", "a.db"), ("m.yml", "b.db")] {
        make_database(&dir.path(database));
        dir.write(
            name,
            format!(
                "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\nexec: sleep 600\ndbs:\n  - path: {database}\n    \
                 replica:\n      path: r-{database}\n"
            ),
        );
    }
    let mut first = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    first.until("serving metrics on").until("control socket listening");
    let addr = address(&first);
    let config = fs::read_to_string(dir.path("m.yml")).expect("read").replace("127.0.0.1:0", &addr);
    dir.write("m.yml", config);
    let mut second = dir.litekeep(["replicate", "-config", "m.yml"]).starts();
    second
        .until("can't serve metrics yet, trying again")
        .until("can't bind the control socket yet, trying again");
    let database = |name: &str| dir.path(name).display().to_string();
    assert_eq!(ask(&dir, &["list"])["databases"][0]["path"], database("a.db"));
    end(first);
    let listed = || {
        let stream = UnixStream::connect(dir.path("l.sock")).ok();
        stream.map(|_| ask(&dir, &["list"])["databases"][0]["path"].clone())
    };
    assert_eq!(wait_for("the socket of the second", listed), database("b.db"));
    wait_for("the page of the second", || {
        std::net::TcpStream::connect(&addr).is_ok().then(|| get(&addr, "/health").0)
    });
    end(second);
    assert!(!dir.path("l.sock").exists());
}

#[test]
fn a_command_has_metrics_health_and_a_socket_beside_it() {
    let server = Server::start(Profile::Aws).expect("a server");
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let endpoint = server.endpoint();
    dir.write(
        "l.yml",
        format!(
            "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\nexec: sh -c 'echo ready; exec sleep 600'\ndbs:\n  - path: a.db\n    replica:\n      \
             url: s3://{BUCKET}/a\n      endpoint: {endpoint}\n      region: {REGION}\n"
        ),
    );
    let start = || {
        let daemon = dir.litekeep(["replicate", "-config", "l.yml"]);
        let keys = daemon.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        keys.starts()
    };
    let mut running = start();
    running.until("serving metrics on");
    let addr = address(&running);
    // What the command says may overtake the log.
    if !running.seen().contains("ready") {
        running.until("ready");
    }
    let db = format!("{{db=\"{}\"}}", dir.path("a.db").display());
    let caught_up = |least: f64| {
        let page = Scrape::of(&addr);
        let txid = page.value(&format!("litekeep_replica_txid{db}"));
        (txid >= least && txid == page.value(&format!("litestream_txid{db}"))).then_some(page)
    };
    // The command may run before the first image is made: what it writes then is in that, and no transaction of its own.
    wait_for("first transaction in the replica", || caught_up(1.0));
    insert(&dir.path("a.db"), 2);
    let page = wait_for("second transaction in the replica", || caught_up(2.0));
    assert_eq!(page.value(&format!("litekeep_create_only{db}")), 1.0);
    assert_eq!(page.value("litekeep_databases{state=\"replicating\"}"), 1.0);
    wait_for_health(&addr, "", 200, "\"read_back_txid\": ");
    insert(&dir.path("a.db"), 7);
    let synced = ask(&dir, &["sync", "-wait", "a.db"]);
    assert!(
        synced["replica_txid"].as_u64() >= Some(3) && synced["txid"] == synced["replica_txid"],
        "{synced}"
    );
    assert_eq!(ask(&dir, &["list"])["databases"][0]["status"], "replicating");
    assert_eq!(ask(&dir, &["start", "a.db"])["status"], "already_running");
    let refused = |args: &[&str]| dir.litekeep(args.iter().copied().chain(["-socket", "l.sock"])).exits(1);
    refused(&["stop", "a.db"]).err_has("stops with the command (-exec)");
    refused(&["register", "-replica", &url(&dir.path("q")), "b.db"]).err_has("are given at its start");
    server.add_rule(Rule::always("PUT", "", denied()));
    insert(&dir.path("a.db"), 3);
    wait_for_health(&addr, "?behind=1h", 503, "PUT: ");
    server.clear_rules();
    wait_for_health(&addr, "", 200, "\"ok\"");
    end(running);
}
