//! Starts that must be refused, each with its exit code; the replica is left as it was.

use crate::common::wait_for;
use crate::rig::{Place, begin, start, terminate};
use s3test::{Fault, Profile, Rule};
use std::collections::BTreeMap;
use std::path::Path;

/// A bucket with a good replica of a server, which has ended.
fn filled() -> (Place, s3test::Server, tempfile::TempDir) {
    let (place, bucket) = Place::in_process();
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder.path().join("first"), &place, &[]).unwrap();
    server.oracle("ada");
    assert_eq!(server.stop().code(), Some(0));
    (place, bucket, folder)
}

fn content(bucket: &s3test::Server) -> BTreeMap<String, Vec<u8>> {
    bucket.keys().into_iter().map(|key| (key.clone(), bucket.object(&key).unwrap().to_vec())).collect()
}

/// A start on an empty disk ends with `code`, says `words`, makes no database and changes nothing in the bucket.
fn refused(data: &Path, place: &Place, bucket: &s3test::Server, more: &[&str], code: i32, words: &str) {
    let before = content(bucket);
    let Err(refused) = start(data, place, more) else { panic!("started, though {words}") };
    assert_eq!(refused.code, Some(code), "{}", refused.said);
    assert!(refused.said.contains(words), "{words}: {}", refused.said);
    assert!(!refused.said.contains(s3test::SECRET_KEY), "a secret is told");
    assert!(!data.join("data.db").exists(), "a database was made, though {words}");
    assert_eq!(content(bucket), before, "the replica was changed, though {words}");
}

#[test]
fn r26b_a_restore_that_fails_is_never_a_fresh_start() {
    let (mut place, bucket, folder) = filled();
    let data = folder.path().join("second");
    let answer = |status, code| Fault::Answer { status, code, retry_after: None };
    for (fault, method, part, code, words) in [
        (answer(403, "AccessDenied"), "GET", "", 13, "cannot be reached"),
        (answer(404, "NoSuchBucket"), "GET", "", 13, "cannot be reached"),
        (answer(400, "AuthorizationHeaderMalformed"), "GET", "", 13, "cannot be reached"),
        (Fault::ShortAnswer(100), "GET", "/oraclenet/0009/", 12, "damaged"),
    ] {
        bucket.add_rule(Rule::always(method, part, fault));
        refused(&data, &place, &bucket, &[], code, words);
        bucket.clear_rules();
    }
    place.env[1].1 = "wrong".to_owned();
    refused(&data, &place, &bucket, &[], 13, "cannot be reached");
}

#[test]
fn only_a_confirmed_empty_replica_begins_fresh_and_not_under_require_backup() {
    let (place, bucket) = Place::in_process();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pb_data");
    refused(&data, &place, &bucket, &["--require-backup"], 10, "no matching backups found");
    assert_eq!(start(&data, &place, &[]).unwrap().stop().code(), Some(0));
    // All data gone, the epochs still there: somebody wiped it.
    for key in bucket.keys().into_iter().filter(|key| key.ends_with(".ltx")) {
        assert!(bucket.remove(&key));
    }
    let other = folder.path().join("other");
    refused(&other, &place, &bucket, &[], 11, "was wiped");
}

#[test]
fn r26_a_database_that_is_not_the_replicas_is_refused_and_both_stay() {
    let (place, bucket, folder) = filled();
    let data = folder.path().join("stranger");
    let elsewhere = Place::directory(&folder.path().join("elsewhere"));
    let server = start(&data, &elsewhere, &[]).unwrap();
    server.oracle("eve");
    assert_eq!(server.stop().code(), Some(0));
    let before = content(&bucket);
    let Err(refused) = start(&data, &place, &[]) else {
        panic!("a stranger was taken for the replica's own")
    };
    assert_eq!(refused.code, Some(22), "{}", refused.said);
    assert_eq!(content(&bucket), before);
    assert!(start(&data, &elsewhere, &[]).is_ok(), "the local file is as it was");
}

#[test]
fn what_is_not_a_database_of_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    for (name, make) in [
        (
            "text",
            &(|path: &Path| {
                std::fs::write(path, "not a database, but quite long enough to look like one. ".repeat(20))
                    .unwrap()
            }) as &dyn Fn(&Path),
        ),
        ("foreign", &|path: &Path| {
            rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        }),
        ("empty", &|path: &Path| std::fs::write(path, "").unwrap()),
    ] {
        let data = folder.path().join(name);
        std::fs::create_dir_all(&data).unwrap();
        make(&data.join("data.db"));
        let before = std::fs::read(data.join("data.db")).unwrap();
        let Err(refused) = start(&data, &place, &[]) else { panic!("{name} was served") };
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        assert!(refused.said.contains("cannot open"), "{}", refused.said);
        assert_eq!(std::fs::read(data.join("data.db")).unwrap(), before, "{name} was written to");
    }
}

#[test]
fn what_sqlite_left_of_an_older_database_is_not_played_into_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { url: "none".to_owned(), env: Vec::new() };
    for left in ["data.db-wal", "data.db-shm", "data.db-journal"] {
        let data = folder.path().join(left);
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join(left), "old").unwrap();
        let Err(refused) = start(&data, &place, &[]) else { panic!("started beside {left}") };
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        assert!(refused.said.contains(left) && refused.said.contains("move it away"), "{}", refused.said);
        assert!(!data.join("data.db").exists(), "a database was made beside {left}");
        std::fs::remove_file(data.join(left)).unwrap();
        assert!(start(&data, &place, &[]).is_ok(), "without {left} it begins anew");
    }
}

#[test]
fn a_second_start_on_the_same_address_leaves_the_first_its_replica() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(&folder.path().join("bucket"));
    let first = start(&folder.path().join("first"), &place, &[]).unwrap();
    let http = first.address.to_string();
    let Err(refused) = start(&folder.path().join("second"), &place, &["--http", &http]) else {
        panic!("two servers at {http}")
    };
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(refused.said.contains("cannot listen"), "{}", refused.said);
    first.oracle("ada");
    assert_eq!(first.stop().code(), Some(0));
}

#[test]
fn a_start_that_waits_for_its_replica_ends_at_a_signal() {
    let (place, bucket) = Place::in_process();
    let folder = tempfile::tempdir().unwrap();
    let away = Fault::Answer { status: 503, code: "SlowDown", retry_after: None };
    for (method, waits_at) in [("GET", "oraclenet"), ("PUT", "replicating to")] {
        bucket.add_rule(Rule::always(method, "", away.clone()));
        let (mut child, log) = begin(&folder.path().join(method), &place, &[]);
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_for("the boot", || said().contains(waits_at).then_some(()));
        terminate(&child);
        let ended = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0), "{}", said());
        assert!(said().contains("stopped before serving"), "{}", said());
        bucket.clear_rules();
    }
}

#[test]
fn a_store_that_protects_from_nobody_is_refused_unless_the_user_says_that_there_is_one_writer() {
    for profile in [Profile::IgnoresConditions, Profile::RefusesConditions] {
        let (place, bucket) = Place::with_habits(profile);
        let folder = tempfile::tempdir().unwrap();
        let Err(refused) = start(&folder.path().join("first"), &place, &[]) else {
            panic!("{profile:?} was taken")
        };
        assert_eq!(refused.code, Some(23), "{}", refused.said);
        assert!(refused.said.contains("--single-writer"), "{}", refused.said);
        assert!(!bucket.keys().iter().any(|key| key.ends_with(".ltx")), "{:?}", bucket.keys());
        let left = std::fs::read_dir(folder.path().join("first")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".oraclenet-server"], "a database that nobody was served from");
        let mut server = start(&folder.path().join("second"), &place, &["--single-writer"]).unwrap();
        server.oracle("ada");
        let told = server.call("GET", "/api/replication", "", &serde_json::Value::Null).body;
        assert_eq!((&told["role"], &told["createOnly"]), (&"owner".into(), &false.into()), "{told}");
        server.terminate();
        assert_eq!(server.ended().code(), Some(0));
        let said = server.said();
        assert!(said.contains("replica sync complete") && !said.contains("a standby has nothing"), "{said}");
        // As a standby it finds out by the claim of the first one, before anybody is told that it is well.
        if profile == Profile::IgnoresConditions {
            let Err(refused) = start(&folder.path().join("third"), &place, &[]) else {
                panic!("it stands by")
            };
            assert_eq!(refused.code, Some(23), "{}", refused.said);
            assert!(refused.said.contains("--single-writer"), "{}", refused.said);
            continue;
        }
        // Nothing was ever claimed here: it finds out at its first write, and ends rather than write unprotected.
        let mut server = start(&folder.path().join("third"), &place, &[]).unwrap();
        let body = serde_json::json!({ "name": "bob", "email": "bob@x.io", "password": "12345678", "passwordConfirm": "12345678" });
        let reply = server.call("POST", "/api/collections/oracles/records", "", &body);
        assert_eq!(reply.body["data"]["outcome"], "not_applied", "{reply:?}");
        assert_eq!(server.ended().code(), Some(23), "{}", server.said());
        assert!(server.said().contains("--single-writer"), "{}", server.said());
    }
}
