//! Two servers on one replica: the data changes hands, and every answer stays true.

use crate::common::wait_for;
use crate::rig::{Place, Reply, Running, id, start, try_call};
use crate::{Ledger, POSTS, check};
use s3test::{Fault, Rule};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a server says of itself to a superuser.
fn told(server: &Running) -> Value {
    let token = server.sign_in("_superusers", crate::common::ADMIN.0, crate::common::ADMIN.1);
    server.call("GET", "/api/replication", &token, &Value::Null).body
}

fn role(server: &Running) -> String {
    let told = server.call("GET", "/api/replication", "", &Value::Null).body;
    told["role"].as_str().unwrap_or_default().to_owned()
}

fn until_role(server: &Running, wanted: &str) {
    wait_for(wanted, || (role(server) == wanted).then_some(()));
}

fn post(server: &Running, token: &str, id: &str, ledger: &Ledger) -> Reply {
    let reply = server.call("POST", POSTS, token, &json!({ "id": id, "title": id, "content": "x" }));
    if reply.status == 200 {
        ledger.lock().unwrap().insert(id.to_owned(), id.to_owned());
    }
    reply
}

/// Two servers on one place, and an oracle's token that both take. The first owns.
struct Pair {
    first: Running,
    second: Running,
    token: String,
    ledger: Ledger,
    folder: tempfile::TempDir,
}

fn pair(place: &Place, more: &[&str]) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let first = start(&folder.path().join("first"), place, more).unwrap();
    let (_, token) = first.oracle("ada");
    let second = start(&folder.path().join("second"), place, more).unwrap();
    assert_eq!((role(&first).as_str(), role(&second).as_str()), ("owner", "standby"));
    assert_eq!(second.call("GET", "/api/health", "", &Value::Null).status, 200, "healthy before it owns");
    Pair { first, second, token, ledger: Ledger::default(), folder }
}

/// Posts without a pause, to a server that may be another one a moment later.
struct Load {
    threads: Vec<std::thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    target: Arc<Mutex<SocketAddr>>,
}

impl Load {
    /// `patient`: 503 with `not_applied` is an answer, too.
    fn begin(
        writers: std::ops::Range<usize>,
        target: SocketAddr,
        (token, patient): (&str, bool),
        ledger: &Ledger,
    ) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let target = Arc::new(Mutex::new(target));
        let thread = |writer: usize| {
            let (token, ledger, target) = (token.to_owned(), Arc::clone(ledger), Arc::clone(&target));
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                for number in 0.. {
                    let id = id(writer, number);
                    let body = json!({ "id": id, "title": id, "content": "x" });
                    let address = *target.lock().unwrap();
                    let reply = try_call(address, "POST", POSTS, &token, &body).expect("an answer");
                    if reply.status == 200 {
                        ledger.lock().unwrap().insert(id.clone(), id);
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert!(patient && reply.status == 503, "{reply:?}");
                        assert_eq!(reply.body["data"]["outcome"], json!("not_applied"), "{reply:?}");
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        };
        Self { threads: writers.map(thread).collect(), stop, answered, target }
    }

    /// Waits for so many more answers.
    fn more(&self, count: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        wait_for("answers", || {
            let ended = self.threads.iter().any(std::thread::JoinHandle::is_finished);
            assert!(!ended, "a writer got an answer that is no 200");
            (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    fn turn_to(&self, server: &Running) {
        *self.target.lock().unwrap() = server.address;
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer"));
    }
}

#[test]
fn the_data_changes_hands_under_load_and_no_request_notices() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let Pair { folder: _folder, first, second, token, ledger } = pair(&place, &["--hand-over", "5"]);
    let load = Load::begin(0..4, first.address, (&token, false), &ledger);
    load.more(50);
    load.turn_to(&second);
    load.more(50);
    assert_eq!(role(&second), "owner");
    load.turn_to(&first);
    load.more(50);
    assert_eq!(role(&first), "owner");
    load.end();
    // Both at once: they take turns. Who waits too long for his is told that nothing was changed.
    let load = Load::begin(10..14, first.address, (&token, true), &ledger);
    let other = Load::begin(14..18, second.address, (&token, true), &ledger);
    for _ in 0..2 {
        other.more(20);
        load.more(20);
    }
    load.end();
    other.end();
    for server in [&first, &second] {
        let all = ledger.lock().unwrap().len();
        wait_for("the standby to follow", || {
            let target = format!("{POSTS}?perPage=1");
            let total = server.call("GET", &target, "", &Value::Null).body["totalItems"].as_u64();
            (total >= Some(all as u64)).then_some(())
        });
        check(server, &ledger);
    }
    let epochs = told(&first)["epochs"].as_array().cloned().unwrap_or_default();
    assert!(epochs.len() >= 4, "{epochs:?}");
    let closed = epochs.iter().filter(|epoch| epoch["closed"].is_string() && epoch["owner"].is_string());
    assert!(closed.count() >= 3, "{epochs:?}");
}

#[test]
fn an_owner_that_is_killed_while_a_standby_waits_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let Pair { folder: _folder, first, second, token, ledger } = pair(&place, &["--hand-over", "1"]);
    let writers = crate::Writers::begin(first.address, &token, 1, &ledger);
    writers.wait(25);
    let (address, waiting_token) = (second.address, token.clone());
    let waiting = std::thread::spawn(move || {
        let body = json!({ "id": id(9, 9), "title": id(9, 9), "content": "x" });
        try_call(address, "POST", POSTS, &waiting_token, &body).expect("an answer")
    });
    wait_for("the standby to ask", || second.said().contains("asking for the ownership").then_some(()));
    first.kill();
    writers.end();
    let reply = waiting.join().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    ledger.lock().unwrap().insert(id(9, 9), id(9, 9));
    check(&second, &ledger);
    assert_eq!(second.stop().code(), Some(0));
}

#[test]
fn r25_an_owner_that_slept_through_its_succession_answers_truthfully_and_follows() {
    let (place, bucket) = Place::in_process();
    let Pair { folder, first, second, token, ledger } =
        pair(&place, &["--hand-over", "1", "--ack-timeout", "3"]);
    assert_eq!(post(&first, &token, &id(1, 1), &ledger).status, 200);
    // Committed there, and not in the bucket.
    let away = Fault::Answer { status: 503, code: "SlowDown", retry_after: None };
    bucket.add_rule(Rule::always("PUT", "", away));
    let doubtful = post(&first, &token, &id(1, 2), &ledger);
    assert_eq!(
        (doubtful.status, &doubtful.body["data"]["outcome"]),
        (503, &json!("unknown")),
        "{doubtful:?}"
    );
    first.signal(rustix::process::Signal::STOP);
    bucket.clear_rules();
    wait_for("the succession", || (post(&second, &token, &id(2, 1), &ledger).status == 200).then_some(()));
    first.signal(rustix::process::Signal::CONT);
    // From its first answer on it shows what the other one wrote, though nobody has told it yet that there is another.
    let theirs = first.call("GET", &format!("{POSTS}/{}", id(2, 1)), "", &Value::Null);
    assert_eq!(theirs.status, 200, "{theirs:?}");
    until_role(&first, "standby");
    let aside = told(&first)["aside"].as_array().cloned().unwrap_or_default();
    assert_eq!(aside.len(), 1, "{}", first.said());
    let aside = Path::new(aside[0].as_str().unwrap()).to_owned();
    assert!(aside.starts_with(folder.path().canonicalize().unwrap()) && aside.exists(), "{aside:?}");
    assert!(first.said().contains(aside.to_str().unwrap()), "{}", first.said());
    let target = format!("{POSTS}/{}", id(1, 2));
    for server in [&first, &second] {
        assert_eq!(server.call("GET", &target, "", &Value::Null).status, 404, "what was undone is not shown");
    }
    // The same request again is the one that counts, and the first owner takes it: it claims again.
    wait_for("the repeat", || (post(&first, &token, &id(1, 2), &ledger).status == 200).then_some(()));
    assert_eq!(role(&first), "owner");
    until_role(&second, "standby");
    for server in [&first, &second] {
        check(server, &ledger);
    }
}

#[test]
fn an_owner_that_ends_in_order_hands_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    // Longer than any test waits: only a closing record lets the other one in.
    let more = ["--hand-over", "200", "--ack-timeout", "300"];
    let Pair { folder: _folder, first, second, token, ledger } = pair(&place, &more);
    assert_eq!(post(&first, &token, &id(1, 1), &ledger).status, 200);
    assert_eq!(first.stop().code(), Some(0));
    assert_eq!(post(&second, &token, &id(2, 1), &ledger).status, 200);
    check(&second, &ledger);
    let epochs = told(&second)["epochs"].as_array().cloned().unwrap_or_default();
    assert!(epochs.iter().rev().nth(1).is_some_and(|before| before["closed"].is_string()), "{epochs:?}");
}

#[test]
fn rubbish_does_not_move_the_data_and_a_standby_reads_what_the_owner_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let Pair { folder: _folder, first, second, token, ledger } = pair(&place, &[]);
    let epoch = told(&first)["epoch"].clone();
    for number in 0..20 {
        assert_eq!(post(&first, &token, &id(1, number), &ledger).status, 200);
        // A read looks first, if the last look was more than a moment ago: this one is soon seen.
        let target = format!("{POSTS}/{}", id(1, number));
        wait_for("the post at the standby", || {
            (second.call("GET", &target, "", &Value::Null).status == 200).then_some(())
        });
        let empty = json!({ "title": "", "content": "" });
        assert_eq!(second.call("POST", POSTS, &token, &empty).status, 400);
        assert_eq!(second.call("POST", POSTS, "", &json!({ "title": "T", "content": "C" })).status, 400);
        let beat = json!({ "status": "online" });
        assert_eq!(second.call("POST", "/api/collections/heartbeats/records", &token, &beat).status, 200);
        second.sign_in("oracles", "ada@x.io", "12345678");
    }
    assert_eq!((role(&first).as_str(), role(&second).as_str()), ("owner", "standby"));
    assert_eq!(told(&first)["epoch"], epoch);
    assert_eq!(second.stop().code(), Some(0));
}

#[test]
fn those_who_listen_are_sent_away_when_the_data_changes_hands() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let Pair { folder: _folder, first, second, token, ledger } = pair(&place, &[]);
    let mut events = crate::common::http::Events::open(first.address);
    assert_eq!(events.next_within(crate::common::DEADLINE).unwrap().event, "PB_CONNECT");
    assert_eq!(post(&second, &token, &id(2, 1), &ledger).status, 200);
    assert_eq!(events.next_within(crate::common::DEADLINE), None, "the stream has ended");
    assert!(first.said().contains("sent away"), "{}", first.said());
}

#[test]
fn a_superuser_made_by_command_beside_a_standby_is_made_by_the_owner_that_it_becomes() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let pair = pair(&place, &[]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_oraclenet"));
    command.args(["superuser", "upsert", "second@test.local", "abcdefgh1", "--dir"]);
    let output = command.arg(pair.folder.path().join("second")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(role(&pair.second), "owner");
    // Durable, and seen by the other, a moment later: the command itself waits for no replica.
    wait_for("the account at the other server", || {
        let login = json!({ "identity": "second@test.local", "password": "abcdefgh1" });
        let target = "/api/collections/_superusers/auth-with-password";
        (pair.first.call("POST", target, "", &login).status == 200).then_some(())
    });
}

#[test]
fn a_rollback_serves_what_a_later_version_lets_it_serve() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let data = folder.path().join("pb_data");
    let server = start(&data, &place, &[]).unwrap();
    let (_, token) = server.oracle("ada");
    assert_eq!(server.stop().code(), Some(0));
    let mark = |text: &str| {
        let connection = rusqlite::Connection::open(data.join("data.db")).unwrap();
        connection.execute("UPDATE _params SET value = ?1 WHERE id = 'oraclenet'", [text]).unwrap();
    };
    let marked = || -> String {
        let connection = rusqlite::Connection::open(data.join("data.db")).unwrap();
        let text = "SELECT value FROM _params WHERE id = 'oraclenet'";
        connection.query_row(text, [], |row| row.get(0)).unwrap()
    };
    let (served, refused) = (r#"{"schema":2,"compatible":1}"#, r#"{"schema":2,"compatible":2}"#);
    mark(served);
    let server = start(&data, &place, &[]).unwrap();
    assert!(server.said().contains("later version"), "{}", server.said());
    assert_eq!(post(&server, &token, &id(1, 1), &Ledger::default()).status, 200);
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(marked(), served, "nothing is migrated there");
    mark(refused);
    let Err(ended) = start(&data, &place, &[]) else { panic!("served, though it must not be") };
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("later version"), "{}", ended.said);
}

#[test]
fn a_standby_of_an_older_version_ends_when_the_owner_makes_the_database_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let Pair { folder, first, mut second, .. } = pair(&place, &[]);
    let connection = rusqlite::Connection::open(folder.path().join("first/data.db")).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let mark = r#"{"schema":2,"compatible":2}"#;
    connection.execute("UPDATE _params SET value = ?1 WHERE id = 'oraclenet'", [mark]).unwrap();
    assert_eq!(second.ended().code(), Some(1), "{}", second.said());
    assert!(second.said().contains("later version"), "{}", second.said());
    drop(first);
}

#[test]
fn of_several_that_find_the_replica_empty_one_begins_it_and_the_others_start_from_that() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let servers: Vec<Running> = std::thread::scope(|scope| {
        let begin = |name: &'static str| {
            let (data, place) = (folder.path().join(name), &place);
            scope.spawn(move || start(&data, place, &[]).unwrap_or_else(|refused| panic!("{refused:?}")))
        };
        let starting: Vec<_> = ["first", "second", "third"].into_iter().map(begin).collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let roles = || servers.iter().map(role).filter(|role| role == "owner").count();
    wait_for("one owner", || (roles() <= 1).then_some(()));
    let (_, token) = servers[0].oracle("ada");
    for server in &servers {
        let me = server.call("GET", "/api/oracles/me", &token, &Value::Null);
        assert_eq!((me.status, &me.body["name"]), (200, &json!("ada")), "one database: {}", server.said());
    }
}

#[test]
fn a_strict_read_waits_for_what_it_shows_and_a_plain_one_does_not() {
    let (place, bucket) = Place::in_process();
    for (more, waits) in [(&["--strict-reads"][..], true), (&[], false)] {
        let folder = tempfile::tempdir().unwrap();
        let more = [&["--ack-timeout", "0.5", "--hand-over", "0.2"], more].concat();
        let server = start(&folder.path().join("pb_data"), &place, &more).unwrap();
        let (_, token) = server.oracle("ada");
        bucket.add_rule(Rule::always(
            "PUT",
            "",
            Fault::Answer { status: 503, code: "SlowDown", retry_after: None },
        ));
        let unknown = post(&server, &token, &id(1, 1), &Ledger::default());
        assert_eq!(unknown.body["data"]["outcome"], json!("unknown"), "{unknown:?}");
        let shown = server.call("GET", &format!("{POSTS}/{}", id(1, 1)), "", &Value::Null);
        assert_eq!(shown.status, if waits { 503 } else { 200 }, "{shown:?}");
        for as_is in ["/api/health", "/api/replication"] {
            assert_eq!(server.call("GET", as_is, "", &Value::Null).status, 200, "{as_is}");
        }
        bucket.clear_rules();
        let target = format!("{POSTS}/{}", id(1, 1));
        wait_for("the read", || (server.call("GET", &target, "", &Value::Null).status == 200).then_some(()));
        drop(server);
        bucket.keys().iter().for_each(|key| assert!(bucket.remove(key)));
    }
}
