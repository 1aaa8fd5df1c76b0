//! The way that `docs/from-pocketbase.md` describes: from the original's Litestream 0.3.13 backup to this server.
//!
//! PocketBase makes the database and Litestream backs it up. This server starts on an empty disk with that replica,
//! restores it, and carries on in a chain of its own beside the old files, which it never touches: the old Litestream
//! can still restore the day of the change. Then the disk is lost once more.

mod common;

use common::server::{PocketBase, Server, oraclenet};
use common::{ADMIN, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use testkit::peers::Litestream;

/// What is compared: everything that anybody may list.
const LISTS: [&str; 5] = ["oracles", "posts", "comments", "connections", "votes"];

/// The address of a wallet, and the password that the original gave to its account.
const WALLET: &str = "0xdddddddddddddddddddddddddddddddddddddddd";

#[test]
fn a_v0_3_backup_of_pocketbase_is_restored_and_carried_on() {
    let Some(pocketbase) = PocketBase::found("the way from a Litestream 0.3.13 backup") else { return };
    let Some(litestream) = Litestream::v0_3_13() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let old_disk = directory.path().join("old");
    // Where the helper lets the server keep the replica of `pb_data`.
    let (data, replica) = (directory.path().join("pb_data"), directory.path().join("pb_data.replica"));
    let url = format!("file://{}", replica.display());

    pocketbase.prepare(&old_disk);
    let server = pocketbase.serve(&old_disk);
    let theirs = litestream.replicate(&old_disk.join("data.db"), &url, &directory.path().join("old.log"));
    let tokens = populate(&server);
    let before = lists(&server);
    let out = directory.path().join("check.db");
    wait_for("Litestream to have everything", || backed_up(&litestream, &out, &url).then_some(()));
    server.stop();
    theirs.end();
    let backup = contents(&replica);
    assert!(backup.keys().all(|path| path.starts_with("generations")), "{:?}", backup.keys());

    let server = oraclenet(&data);
    assert_eq!(lists(&server), before, "what the backup held");
    for line in [
        "restore complete",
        "this was a backup of Litestream 0.3",
        "accounts with a wallet address got a new token key: their tokens end here accounts=1",
    ] {
        assert!(server.said().contains(line), "no {line:?} in\n{}", server.said());
    }
    let me = |server: &Server, token: &str| server.call("GET", "/api/oracles/me", token, &Value::Null).status;
    assert_eq!((me(&server, &tokens.ada), me(&server, &tokens.wallet)), (200, 401), "tokens of before");
    let guess = json!({"identity": "wallet@x.io", "password": WALLET});
    let guessed = server.call("POST", "/api/collections/oracles/auth-with-password", "", &guess);
    assert_eq!(guessed.status, 400, "a password that everybody knows");
    sign_in(&server, "oracles", "ada@x.io", "password-ada");
    sign_in(&server, "_superusers", ADMIN.0, ADMIN.1);

    for number in 0..3 {
        write(&server, &tokens.ada, &json!({"title": format!("since then {number}"), "content": "c"}));
    }
    let since = lists(&server);
    assert_ne!(since, before);
    drop(server); // kill -9
    fs::remove_dir_all(&data).expect("the disk is lost");

    let server = oraclenet(&data);
    assert_eq!(lists(&server), since, "every write that was answered");
    assert!(!server.said().contains("Litestream 0.3"), "now from the chain\n{}", server.said());
    assert_eq!(me(&server, &tokens.ada), 200, "a token of PocketBase");
    write(&server, &tokens.ada, &json!({"title": "and on", "content": "c"}));
    server.stop();

    let now = contents(&replica);
    let kept: BTreeMap<_, _> = now.iter().filter(|(path, _)| path.starts_with("generations")).collect();
    assert_eq!(kept, backup.iter().collect(), "the old backup as it was");
    assert!(now.len() > backup.len(), "a chain beside it");
    going_back(&litestream, &pocketbase, directory.path(), &url, &before);
}

/// The old programs still find the day of the change.
fn going_back(
    litestream: &Litestream,
    pocketbase: &PocketBase,
    place: &Path,
    url: &str,
    before: &[(&str, Value)],
) {
    let data = place.join("back");
    fs::create_dir(&data).expect("a disk");
    let output = litestream.restore(&[], &data.join("data.db"), url);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let server = pocketbase.serve(&data);
    assert_eq!(lists(&server), before, "the day of the change");
}

struct Tokens {
    ada: String,
    wallet: String,
}

/// An approved oracle with a post, a comment and a vote, and an account as the original made it for a wallet.
fn populate(server: &Server) -> Tokens {
    let admin = sign_in(server, "_superusers", ADMIN.0, ADMIN.1);
    register(server, &json!({"id": "ada000000000000", "name": "ada", "email": "ada@x.io"}), "password-ada");
    let target = "/api/collections/oracles/records/ada000000000000";
    ok(server.call("PATCH", target, &admin, &json!({"approved": true})));
    let ada = sign_in(server, "oracles", "ada@x.io", "password-ada");
    let post = json!({"id": "post00000000000", "title": "Zwölf \"Boxkämpfer\" 🦞", "content": "a\nb"});
    write(server, &ada, &post);
    let comment = json!({"post": "post00000000000", "content": "the last thing that was written"});
    let account = json!({"name": "Oracle-0xdddd", "email": "wallet@x.io", "wallet_address": WALLET});
    register(server, &account, WALLET);
    let wallet = sign_in(server, "oracles", "wallet@x.io", WALLET);
    ok(server.call("POST", "/api/posts/post00000000000/upvote", &ada, &Value::Null));
    ok(server.call("POST", "/api/collections/comments/records", &ada, &comment));
    Tokens { ada, wallet }
}

fn register(server: &Server, account: &Value, password: &str) {
    let mut body = account.clone();
    body["password"] = json!(password);
    body["passwordConfirm"] = json!(password);
    ok(server.call("POST", "/api/collections/oracles/records", "", &body));
}

fn write(server: &Server, token: &str, post: &Value) {
    ok(server.call("POST", "/api/collections/posts/records", token, post));
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

/// Whether the backup has the last thing that was written.
fn backed_up(litestream: &Litestream, out: &Path, url: &str) -> bool {
    let _ = fs::remove_file(out);
    if !litestream.restore(&[], out, url).status.success() {
        return false;
    }
    let connection = rusqlite::Connection::open(out).expect("a restored database opens");
    let sql = "SELECT count(*) FROM comments WHERE content = 'the last thing that was written'";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count == 1)
}

/// All files below a folder, by their path in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below it").to_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}
