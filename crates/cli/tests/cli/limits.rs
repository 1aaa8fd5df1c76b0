//! What a running daemon makes of providers' limits: refusals at the start, quotas, permissions that are missing.

use crate::daemon::{ask, denied, end, everything, execute, insert, served, started, wait_for_health};
use crate::restore::make_database;
use crate::scrape::Scrape;
use crate::util::Dir;
use rustix::process::Signal;
use s3test::{ACCESS_KEY, BUCKET, Fault, Profile, REGION, Rule, SECRET_KEY, Server};

#[test]
fn r62_a_bucket_that_refuses_at_the_start_ends_nobody_and_is_asked_again() {
    let server = Server::start(Profile::Aws).expect("a server");
    server.add_rule(everything(denied()));
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    make_database(&dir.path("b.db"));
    let endpoint = server.endpoint();
    dir.write(
        "l.yml",
        format!(
            "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\ndbs:\n  - path: a.db\n    replica:\n      \
             url: s3://{BUCKET}/a\n      endpoint: {endpoint}\n      region: {REGION}\n  - path: b.db\n    replica:\n      \
             path: r\n"
        ),
    );
    let (running, addr) = started(&dir);
    let report = wait_for_health(&addr, "", 503, "LIST: ");
    let reasons = |name: &str| {
        let rows = report["databases"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["path"].as_str().is_some_and(|path| path.ends_with(name)));
        row.and_then(|row| row["reasons"].as_array()).expect("reasons").len()
    };
    assert_eq!((reasons("a.db"), reasons("b.db")), (1, 0), "{report}");
    insert(&dir.path("b.db"), 2);
    ask(&dir, &["sync", "-wait", "b.db"]);
    dir.litekeep(["sync", "-wait", "-timeout", "1", "a.db", "-socket", "l.sock"]).exits(1);
    server.clear_rules();
    wait_for_health(&addr, "", 200, "\"ok\"");
    ask(&dir, &["sync", "-wait", "a.db"]);
    let seen = end(running);
    let told = seen.out().lines().filter(|line| line.contains("replication is in trouble")).count();
    assert_eq!(told, 1, "said once: {}", seen.all());
}

#[test]
fn r62_a_quota_raises_health_at_once() {
    let server = Server::start(Profile::Aws).expect("a server");
    let (dir, mut running, addr) = served(&server, "");
    ask(&dir, &["sync", "-wait", "a.db"]);
    let quota = Fault::Answer { status: 429, code: "TooManyRequests", retry_after: Some("3600") };
    server.add_rule(Rule::always("PUT", "", quota));
    insert(&dir.path("a.db"), 2);
    wait_for_health(&addr, "?behind=1h", 503, "429 TooManyRequests");
    running.signal(Signal::TERM).until("signal received");
    running.signal(Signal::TERM);
    running.ends(20);
}

#[test]
fn r63_retention_that_may_not_delete_says_so_once_and_when_it_may_again() {
    let server = Server::start(Profile::Aws).expect("a server");
    let settings = "levels: [{interval: 1s}]\nl0-retention: 1s\n";
    let (dir, mut running, addr) = served(&server, settings);
    let failing = format!("litekeep_retention_failing{{db=\"{}\"}}", dir.path("a.db").display());
    for value in 2..5 {
        insert(&dir.path("a.db"), value);
        ask(&dir, &["sync", "-wait", "a.db"]);
    }
    running.until("\"compaction complete\" level=1");
    assert_eq!(Scrape::of(&addr).value(&failing), 0.0);
    server.add_rule(Rule::always("DELETE", "", denied()));
    // Nothing that is younger than three minutes by the bucket's clock is ever deleted.
    server.skew_clock(20 * 60 * 1000);
    insert(&dir.path("a.db"), 5);
    ask(&dir, &["sync", "-wait", "a.db"]);
    running.until("retention is refused");
    wait_for_health(&addr, "", 503, "DELETE: ");
    assert_eq!(Scrape::of(&addr).value(&failing), 1.0);
    execute(&dir.path("a.db"), "DELETE FROM t WHERE x = 5");
    ask(&dir, &["sync", "-wait", "a.db"]);
    server.clear_rules();
    running.until("retention is let delete again");
    wait_for_health(&addr, "", 200, "\"ok\"");
    assert_eq!(Scrape::of(&addr).value(&failing), 0.0);
    let seen = end(running);
    assert_eq!(seen.out().matches("retention is refused").count(), 1, "{}", seen.all());
}

/// Whoever runs it by cron has no `/health` that would say so.
#[test]
fn r63_retention_that_was_asked_for_and_may_not_delete_is_an_error() {
    let server = Server::start(Profile::Aws).expect("a server");
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let endpoint = server.endpoint();
    dir.write(
        "l.yml",
        format!(
            "levels: [{{interval: 1s}}]\nl0-retention: 1s\ndbs:\n  - path: a.db\n    replica:\n      url: s3://{BUCKET}/a\n      \
             endpoint: {endpoint}\n      region: {REGION}\n"
        ),
    );
    let once = |code: i32| {
        let run = dir.litekeep(["replicate", "-once", "-enforce-retention", "-config", "l.yml"]);
        run.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).exits(code)
    };
    for value in 2..5 {
        insert(&dir.path("a.db"), value);
        once(0);
    }
    // Nothing that is younger than three minutes by the bucket's clock is ever deleted.
    server.skew_clock(10 * 60 * 1000);
    server.add_rule(Rule::always("DELETE", "", denied()));
    once(13)
        .err_has("Error: retention was not enforced: ")
        .err_has("delete s3://test/a/")
        .err_has("403 AccessDenied");
    server.clear_rules();
    let seen = once(0).out_has("msg=\"retention enforced\"");
    assert!(!seen.out().contains(" deleted=0"), "{}", seen.all());
}

#[test]
fn r62_a_single_sync_does_not_wait_for_a_bucket_that_refuses() {
    let server = Server::start(Profile::Aws).expect("a server");
    server.add_rule(everything(denied()));
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let url = format!("s3://{BUCKET}/a?endpoint={}&region={REGION}", server.endpoint());
    dir.litekeep(["replicate", "-once", "a.db", &url])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .exits(13)
        .err_has("403 AccessDenied");
}
