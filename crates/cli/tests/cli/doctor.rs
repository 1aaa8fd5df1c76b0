//! `litekeep doctor`: tables, guarantees, exit codes, and that it leaves nothing behind.

use crate::restore::url;
use crate::util::{Dir, Seen, TestCommand};
use rustix::process::Signal;
use s3test::{ACCESS_KEY, Fault, Profile, Rule, SECRET_KEY, Server};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

fn doctor(dir: &Dir, server: &Server, flags: &[&str]) -> TestCommand {
    let url = format!("s3://test/a/replica?endpoint={}&region=us-east-1", server.endpoint());
    dir.litekeep(["doctor", &url].iter().chain(flags))
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

fn json(seen: &Seen) -> Value {
    serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all()))
}

fn denied(method: &'static str, part: &'static str) -> Rule {
    Rule::always(method, part, Fault::Answer { status: 403, code: "AccessDenied", retry_after: None })
}

#[test]
fn each_kind_of_store_gets_its_verdict_and_its_exit_code() {
    let dir = Dir::new();
    for (profile, code, part) in [
        (Profile::Aws, 0, "ok    two instances cannot overwrite each other"),
        (Profile::EqualParts, 0, "litekeep can run safely here"),
        (Profile::Ceph, 0, "if_match_quoted        no"),
        (Profile::IgnoresConditions, 23, "NO    two instances can overwrite each other"),
        (Profile::RefusesConditions, 23, "litekeep cannot run safely here"),
    ] {
        let server = Server::start(profile).expect("started");
        doctor(&dir, &server, &[]).exits(code).out_has(part);
        assert!(server.keys().is_empty() && server.uploads() == 0, "{profile:?}: {:?}", server.keys());
    }
}

#[test]
fn r63_a_permission_that_is_missing_is_named_with_what_it_means() {
    let dir = Dir::new();
    for (rule, part, left) in [
        (denied("GET", "list-type"), "allow these keys to list", 0),
        (denied("GET", "/object"), "allow these keys to read", 0),
        (denied("PUT", "/object"), "allow these keys to write", 0),
        (denied("DELETE", "/object"), "retention cannot delete", 1),
    ] {
        let server = Server::start(Profile::Ceph).expect("started");
        server.add_rule(rule);
        let seen = doctor(&dir, &server, &[]).exits(23).out_has(part);
        assert_eq!(server.keys().len(), left, "{part}{}", seen.all());
        for key in server.keys() {
            seen.out().find(&format!("left behind: s3://test/{key}")).expect("what is left is named");
            assert!(key.contains("litekeep-doctor"), "{key}");
        }
    }
}

#[test]
fn a_retention_that_is_switched_off_needs_no_permission_to_delete() {
    let dir = Dir::new();
    let server = Server::start(Profile::Aws).expect("started");
    server.add_rule(denied("DELETE", "/object"));
    let file = |retention: bool| {
        format!(
            "dbs:\n  - path: a.db\n    replica:\n      url: s3://test/r\n      endpoint: {}\n      region: us-east-1\n      \
             access-key-id: {ACCESS_KEY}\n      secret-access-key: {SECRET_KEY}\nretention:\n  enabled: {retention}\n",
            server.endpoint()
        )
    };
    for (retention, code) in [(true, 23), (false, 0)] {
        dir.write("l.yml", file(retention));
        for args in [vec!["doctor", "-config", "l.yml"], vec!["doctor", "a.db", "-config=l.yml"]] {
            dir.litekeep(args).exits(code).out_has("s3://test/r").never_says(SECRET_KEY);
        }
    }
}

#[test]
fn a_store_that_does_not_know_us_is_out_of_reach() {
    let dir = Dir::new();
    let server = Server::start(Profile::Aws).expect("started");
    doctor(&dir, &server, &[])
        .env("AWS_SECRET_ACCESS_KEY", "hush")
        .exits(13)
        .out_has(
            "nothing can be replicated or restored: 403 SignatureDoesNotMatch (check the secret access key",
        )
        .never_says("hush");
    server.skew_clock(61 * 60_000 + 30_000);
    doctor(&dir, &server, &[]).exits(23).out_has("clock is 61 minutes off: requests will be refused");
    server.refuse_skew(true);
    doctor(&dir, &server, &[])
        .exits(13)
        .out_has("RequestTimeTooSkewed")
        .out_has("clock is 61 minutes off: requests will be refused");
    dir.litekeep(["doctor", "s3://other/r?endpoint=http://127.0.0.1:9"])
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "hush")
        .exits(13)
        .out_has("reach")
        .err_has("; check the endpoint and the network, and try again");
    let server = Server::start(Profile::Aws).expect("started");
    let busy = Fault::Answer { status: 429, code: "TooManyRequests", retry_after: None };
    server.add_rule(Rule { method: None, part: "", skip: 0, times: u32::MAX, fault: busy });
    doctor(&dir, &server, &[]).exits(13).err_has("429 TooManyRequests").err_has(", and try again");
}

#[test]
fn the_table_is_data_as_well() {
    let dir = Dir::new();
    let server = Server::start(Profile::Ceph).expect("started");
    let report = json(&doctor(&dir, &server, &["-json"]).exits(0));
    assert_eq!((report["safe"].as_bool(), report["interrupted"].as_bool()), (Some(true), Some(false)));
    assert_eq!(report["replica"], "s3://test/a/replica");
    assert_eq!(report["left_behind"], serde_json::json!([]));
    assert!(report["clock_ahead_seconds"].as_i64().is_some_and(|off| off.abs() < 5), "{report}");
    let answers: Vec<(&str, &str)> = report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .map(|check| (check["name"].as_str().expect("text"), check["answer"].as_str().expect("text")))
        .collect();
    assert_eq!(
        answers,
        [
            ("reach", "yes"),
            ("list", "yes"),
            ("read", "yes"),
            ("write", "yes"),
            ("delete", "yes"),
            ("create_only", "yes"),
            ("list_after_put", "yes"),
            ("ranges", "yes"),
            ("clock", "yes"),
            ("if_match_quoted", "no"),
            ("if_match_unquoted", "yes"),
            ("if_match_kept", "yes"),
            ("conditional_multipart", "no"),
            ("conditional_delete", "no"),
        ]
    );
    let standings = report["guarantees"].as_array().expect("guarantees");
    assert!(standings.iter().all(|it| it["standing"] == "holds" && it["text"].is_string()), "{report}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a deadline for another process")]
fn a_signal_ends_it_with_its_echo_and_what_it_made_is_removed() {
    let dir = Dir::new();
    let server = Server::start(Profile::Aws).expect("started");
    // It looks for its object in the listing several times: long enough for a signal.
    server.freeze_listing(true);
    let mut running = doctor(&dir, &server, &[]).starts();
    let until = Instant::now() + Duration::from_secs(60);
    while server.keys().is_empty() {
        assert!(Instant::now() < until, "nothing was put");
        std::thread::yield_now();
    }
    // `timeout` tells the process and then its group, which is no second word. Of two kinds, for of one kind both might
    // come as one; which of them is heard first is the system's to say.
    running.signal(Signal::INT).signal(Signal::TERM);
    let seen = running.ends_anyhow().out_has("interrupted: this is not the whole picture");
    let first = if seen.err().contains("SIGINT received") { Signal::INT } else { Signal::TERM };
    seen.exited(128 + first.as_raw()).err_has("received, ending").never_says("ended at once");
    assert!(server.keys().is_empty() && server.uploads() == 0, "{:?}", server.keys());
}

#[test]
fn a_directory_is_asked_what_suits_it() {
    let dir = Dir::new();
    fs::create_dir(dir.path("r")).expect("made");
    for name in ["r", "not/there/yet"] {
        let seen = dir.litekeep(["doctor", &url(&dir.path(name))]).exits(0);
        assert!(!seen.out().contains("if_match") && !seen.out().contains("clock"), "{}", seen.all());
    }
    dir.write("file", "x");
    dir.litekeep(["doctor", &url(&dir.path("file"))]).exits(13).out_has("something else than a directory");
    dir.litekeep(["doctor", "file:///proc/litekeep-nobody"])
        .exits(23)
        .out_has("changes cannot be replicated");
    assert_eq!(dir.files("."), ["file"]);
}

#[test]
fn bad_input_gets_one_line_that_says_what_and_what_to_do() {
    let dir = Dir::new();
    dir.write(
        "two.yml",
        "dbs:\n  - path: a.db\n    replica: {path: ra}\n  - path: b.db\n    replica: {path: rb}\n",
    );
    dir.write("none.yml", "dbs:\n");
    for verb in ["doctor", "verify", "usage"] {
        for (args, part) in [
            (
                vec!["-config", "two.yml"],
                "no database is named: the configuration lists 2 databases; name one that",
            ),
            (vec!["-config", "none.yml"], "lists no database"),
            (vec!["c.db", "-config", "two.yml"], "Error: database not found in config: "),
            (vec!["s3://"], "can't be used"),
            (vec!["file:///r", "file:///s"], "too many arguments"),
            (vec!["-jsn"], "did you mean -json?"),
        ] {
            let seen = dir.litekeep([verb].into_iter().chain(args)).exits(1).silent_out().err_has(part);
            let line = seen.err();
            assert!(line.starts_with("Error: ") && line.contains("; "), "{}", seen.all());
            assert_eq!(line.lines().count(), 1, "{}", seen.all());
        }
        dir.litekeep([verb, "-h"]).exits(0).out_has("DB_PATH | REPLICA_URL").out_has("-json");
    }
}
