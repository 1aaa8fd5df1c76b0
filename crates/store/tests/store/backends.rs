//! The conformance suite on every backend that needs no other program.

use crate::support::{TIME, clock, random, read, s3, shared};
use litekeep_store::conformance::{Effort, check};
use litekeep_store::directory::DirectoryStore;
use litekeep_store::memory::MemoryStore;
use litekeep_store::{Key, Scope, Store, V3Generation};
use s3test::{Profile, Server};

fn on_server(profile: Profile) -> Result<(), String> {
    let server = Server::start(profile).unwrap();
    server.set_page(7);
    let outcome = check(&|name| shared(s3(&server, &format!("a b/ü~+&/{name}"))), Effort::default());
    let log = server.take_log();
    for request in &log {
        assert_plain(request);
    }
    assert_eq!(server.uploads(), 0, "unfinished uploads are left behind");
    outcome.map_err(|broken| broken.to_string())
}

/// R61: nothing that some service rejects or misunderstands.
fn assert_plain(request: &s3test::Request) {
    for name in [
        "content-encoding",
        "x-amz-trailer",
        "x-amz-decoded-content-length",
        "x-amz-sdk-checksum-algorithm",
        "transfer-encoding",
        "expect",
        "if-match",
        "accept-encoding",
    ] {
        assert_eq!(request.header(name), None, "{request:?}");
    }
    let digest = request.header("x-amz-content-sha256").unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{request:?}");
    assert!(request.header("user-agent").unwrap().starts_with("litekeep/"), "{request:?}");
    if matches!(request.method.as_str(), "PUT" | "POST") {
        assert!(request.header("content-length").is_some(), "{request:?}");
    }
}

#[test]
fn memory_keeps_the_contract() {
    let made = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let make = |name: &str| {
        let store =
            made.lock().unwrap().entry(name.to_string()).or_insert_with(|| MemoryStore::new(clock())).clone();
        shared(store)
    };
    check(&make, Effort::default()).unwrap();
}

#[test]
fn a_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| shared(DirectoryStore::new(dir.path().join(name), clock(), random()));
    check(&make, Effort::default()).unwrap();
}

#[test]
fn r61_aws_keeps_the_contract_with_plain_requests_only() {
    on_server(Profile::Aws).unwrap();
}

#[test]
fn r61_ceph_and_spaces_keep_the_contract() {
    on_server(Profile::Ceph).unwrap();
}

#[test]
fn r61_r2_keeps_the_contract_with_parts_of_one_size() {
    on_server(Profile::EqualParts).unwrap();
}

#[test]
fn a_store_that_ignores_conditions_is_found_out() {
    let broken = on_server(Profile::IgnoresConditions).unwrap_err();
    assert_eq!(broken, "a create is refused where something stands: a second create was accepted");
}

#[test]
fn a_store_that_refuses_conditions_says_so_in_words() {
    let broken = on_server(Profile::RefusesConditions).unwrap_err();
    assert!(broken.contains("this store knows no create-only put"), "{broken}");
}

#[test]
fn r40_segments_with_more_digits_than_they_need_are_listed_and_read() {
    let generation = V3Generation(0xfeed);
    let folder = "generations/000000000000feed/wal";
    let names =
        ["00000000_00000000.wal.lz4", "00000000_000001038.wal.lz4", "00000001_0000000000000000.wal.lz4"];
    let keys = [(0, 0), (0, 0x1038), (1, 0)].map(|(index, offset)| Key::V3Wal(generation, index, offset));

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    let server = Server::start(Profile::Aws).unwrap();
    let bucket = s3(&server, "db");
    for (n, name) in (0..).zip(names) {
        std::fs::write(dir.path().join(folder).join(name), name).unwrap();
        let stand_in = Key::V3Snapshot(V3Generation(1), n);
        bucket.put(&stand_in, name.into(), TIME).unwrap();
        let from = format!("db/generations/0000000000000001/snapshots/{n:08x}.snapshot.lz4");
        assert!(server.rename(&from, &format!("db/{folder}/{name}")));
    }
    let directory = DirectoryStore::new(dir.path(), clock(), random());
    for store in [&directory as &dyn Store, &bucket] {
        let listed: Vec<Key> =
            store.list(&Scope::V3Wal(generation)).unwrap().iter().map(|entry| entry.key).collect();
        assert_eq!(listed, keys);
        for (key, name) in keys.iter().zip(names) {
            assert_eq!(read(store, *key), name.as_bytes());
        }
    }
}
