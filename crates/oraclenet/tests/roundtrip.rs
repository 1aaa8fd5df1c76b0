//! A database goes from PocketBase to this server and back, and loses nothing on the way.
//!
//! PocketBase makes it and is stopped; this server opens the same directory, where old passwords and old tokens work,
//! and writes; it is stopped, and PocketBase opens the database again and serves what was there and what was added.
//! Only what is unsafe ends: an account whose password is its public wallet address, and the tokens of wallet accounts.
//! `ORACLENET_TEST_SERVER=pocketbase` lets PocketBase take the middle part too, which proves the test.

mod common;

use common::server::{PocketBase, Server, oraclenet};
use common::{ADMIN, variable};
use serde_json::{Value, json};
use std::path::Path;

/// What is compared: everything that anybody may list, in the order of the rows.
const LISTS: [&str; 5] = ["oracles", "posts", "comments", "connections", "votes"];

/// The address of a wallet, and the password that the original gave to its account.
const WALLET: &str = "0xdddddddddddddddddddddddddddddddddddddddd";

#[test]
fn a_database_of_pocketbase_is_taken_over_and_given_back() {
    let Some(pocketbase) = PocketBase::found("the round trip of a database") else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("pb_data");

    pocketbase.prepare(&data);
    let server = pocketbase.serve(&data);
    let ada = populate(&server);
    let wallet = wallet_account(&server);
    let before = lists(&server);
    server.stop();
    assert_sound(&data);

    let twins = variable("ORACLENET_TEST_SERVER").is_some_and(|value| value == "pocketbase");
    let server = if twins { pocketbase.serve(&data) } else { oraclenet(&data) };
    assert_eq!(lists(&server), before, "what PocketBase wrote");
    if !twins {
        assert_eq!(
            server.call("GET", "/api/oracles/me", &wallet, &Value::Null).status,
            401,
            "a wallet's old token"
        );
        let body = json!({"identity": "wallet@x.io", "password": WALLET});
        let answer = server.call("POST", "/api/collections/oracles/auth-with-password", "", &body);
        assert_eq!(answer.status, 400, "a password that everybody knows");
    }
    let bob = sign_in(&server, "oracles", "bob@x.io", "password-bob");
    continue_with(&server, &ada, &bob);
    let between = lists(&server);
    assert_ne!(between, before);
    server.stop();
    assert_sound(&data);

    let server = pocketbase.serve(&data);
    assert_eq!(lists(&server), between, "what was written in between");
    for token in [&ada, &bob] {
        assert_eq!(
            server.call("GET", "/api/oracles/me", token, &Value::Null).status,
            200,
            "a token of before"
        );
    }
    let cyd = sign_in(&server, "oracles", "cyd@x.io", "password-cyd");
    sign_in(&server, "oracles", "bob@x.io", "password-bob");
    sign_in(&server, "_superusers", ADMIN.0, ADMIN.1);
    let beat =
        ok(server.call("POST", "/api/collections/heartbeats/records", &cyd, &json!({"status": "online"})));
    assert_eq!(beat["status"], json!("online"));
    ok(server.call("POST", "/api/posts/post00000000000/upvote", &bob, &Value::Null));
    server.stop();
    assert_sound(&data);
}

/// Two oracles, one of them approved, with a post, comments and a vote; gives a token.
fn populate(server: &Server) -> String {
    let admin = sign_in(server, "_superusers", ADMIN.0, ADMIN.1);
    for name in ["ada", "bob"] {
        register(server, name);
        let target = format!("/api/collections/oracles/records/{name}000000000000");
        ok(server.call("PATCH", &target, &admin, &json!({"approved": true})));
    }
    let ada = sign_in(server, "oracles", "ada@x.io", "password-ada");
    let bob = sign_in(server, "oracles", "bob@x.io", "password-bob");
    let post =
        json!({"id": "post00000000000", "title": "Zwölf \"Boxkämpfer\" 🦞", "content": "a\nb\u{2028}<c>"});
    ok(server.call("POST", "/api/collections/posts/records", &ada, &post));
    let comment = json!({"id": "comment00000000", "post": "post00000000000", "content": "first"});
    ok(server.call("POST", "/api/collections/comments/records", &bob, &comment));
    ok(server.call(
        "POST",
        "/api/collections/connections/records",
        &bob,
        &json!({"following": "ada000000000000"}),
    ));
    ok(server.call("POST", "/api/posts/post00000000000/upvote", &bob, &Value::Null));
    ada
}

/// Writes of every kind, with a token that PocketBase made and one that was made since.
fn continue_with(server: &Server, old: &str, new: &str) {
    assert_eq!(ok(server.call("GET", "/api/oracles/me", old, &Value::Null))["id"], json!("ada000000000000"));
    let post = json!({"id": "post10000000000", "title": "written in between", "content": "c"});
    ok(server.call("POST", "/api/collections/posts/records", old, &post));
    let reply = json!({"post": "post00000000000", "content": "second", "parent": "comment00000000"});
    ok(server.call("POST", "/api/collections/comments/records", old, &reply));
    let target = "/api/collections/posts/records/post00000000000";
    ok(server.call("PATCH", target, old, &json!({"content": "changed in between"})));
    ok(server.call("POST", "/api/posts/post00000000000/downvote", new, &Value::Null));
    ok(server.call("POST", "/api/posts/post10000000000/upvote", new, &Value::Null));
    ok(server.call("POST", "/api/collections/heartbeats/records", new, &json!({"status": "away"})));
    let short = json!({"id": "post20000000000", "title": "soon gone", "content": "c"});
    ok(server.call("POST", "/api/collections/posts/records", old, &short));
    let gone = server.call("DELETE", "/api/collections/posts/records/post20000000000", old, &Value::Null);
    assert_eq!(gone.status, 204);
    register(server, "cyd");
    let cyd = sign_in(server, "oracles", "cyd@x.io", "password-cyd");
    ok(server.call(
        "POST",
        "/api/collections/connections/records",
        &cyd,
        &json!({"following": "bob000000000000"}),
    ));
}

/// An account as the original made it for a wallet; gives its token.
fn wallet_account(server: &Server) -> String {
    let body = json!({
        "name": "Oracle-0xdddd",
        "email": "wallet@x.io",
        "password": WALLET,
        "passwordConfirm": WALLET,
        "wallet_address": WALLET,
    });
    ok(server.call("POST", "/api/collections/oracles/records", "", &body));
    sign_in(server, "oracles", "wallet@x.io", WALLET)
}

fn register(server: &Server, name: &str) {
    let password = format!("password-{name}");
    let body = json!({
        "id": format!("{name}000000000000"),
        "name": name,
        "email": format!("{name}@x.io"),
        "password": password,
        "passwordConfirm": password,
    });
    ok(server.call("POST", "/api/collections/oracles/records", "", &body));
}

fn sign_in(server: &Server, collection: &str, identity: &str, password: &str) -> String {
    let target = format!("/api/collections/{collection}/auth-with-password");
    let answer = ok(server.call("POST", &target, "", &json!({"identity": identity, "password": password})));
    answer["token"].as_str().expect("a token").to_owned()
}

/// Everything that can be listed, dates and ids included: it is one database.
fn lists(server: &Server) -> Vec<(&'static str, Value)> {
    let list = |name| {
        let target = format!("/api/collections/{name}/records?perPage=500&sort=@rowid");
        (name, ok(server.call("GET", &target, "", &Value::Null)))
    };
    LISTS.map(list).into()
}

fn ok(answer: common::http::Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// SQLite finds nothing wrong with the file.
fn assert_sound(data: &Path) {
    let connection = rusqlite::Connection::open(data.join("data.db")).expect("the database opens");
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("the check could be made");
    assert_eq!(verdict, "ok");
}
