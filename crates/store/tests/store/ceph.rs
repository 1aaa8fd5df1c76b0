//! The contract on a real Ceph gateway, the software behind DigitalOcean Spaces and Hetzner.
//!
//! `LITEKEEP_TEST_S3` names a file with the lines that `scripts/ceph-rgw start DIR` prints. Without it the test says
//! that it did not run, and fails under `CI=true`.

use crate::support::{TIME, clock, random, read, shared, slot};
use bytes::Bytes;
use litekeep_formats::Level;
use litekeep_store::conformance::{Effort, check};
use litekeep_store::location::{S3Settings, Secret};
use litekeep_store::probe::{Answer, Findings, Question, probe};
use litekeep_store::s3::S3Store;
use litekeep_store::{Created, ErrorKind, Key, Scope, Settings, Store as _};
use std::collections::BTreeMap;

fn variable(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "the test's own switch")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The gateway's settings; `None` where there is no gateway.
fn gateway(test: &str) -> Option<S3Settings> {
    let Some(file) = variable("LITEKEEP_TEST_S3") else {
        assert_ne!(variable("CI").as_deref(), Some("true"), "{test} must run in CI: set LITEKEEP_TEST_S3");
        eprintln!("not run: {test} (LITEKEEP_TEST_S3 is not set; see scripts/ceph-rgw)");
        return None;
    };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str| values.get(name).unwrap_or_else(|| panic!("{file} has no {name}")).to_string();
    Some(S3Settings {
        endpoint: Some(value("S3_ENDPOINT")),
        region: Some(value("S3_REGION")),
        access_key_id: Some(value("S3_ACCESS_KEY_ID")),
        secret_access_key: Some(Secret::new(value("S3_SECRET_ACCESS_KEY"))),
        ..S3Settings::new(value("S3_BUCKET"), "")
    })
}

/// A path that no earlier run used.
fn fresh() -> String {
    let made = tempfile::tempdir().unwrap();
    format!("run{}", made.path().file_name().unwrap().to_string_lossy())
}

#[test]
fn r61_ceph_keeps_the_contract() {
    let Some(settings) = gateway("ceph conformance") else { return };
    let run = fresh();
    let make = |name: &str| {
        let settings = S3Settings { path: format!("{run}/a b/ü~+&/{name}"), ..settings.clone() };
        shared(S3Store::open(&settings, clock(), random())?)
    };
    // More than one page of a listing, and several rounds of the race.
    check(&make, Effort { objects: 1100, rounds: 6, ..Effort::default() }).unwrap();
}

#[test]
fn ceph_is_known_by_its_answers() {
    let Some(settings) = gateway("ceph probe") else { return };
    let ask = |settings: S3Settings| {
        let settings = S3Settings { path: format!("{}/a b", fresh()), ..settings };
        probe(&Settings::S3(Box::new(settings)), clock(), random(), &|| false).unwrap()
    };
    let refused = |found: &Findings| -> Vec<&str> {
        found.rows.iter().filter(|row| row.answer != Answer::Yes).map(|row| row.question.name()).collect()
    };
    let found = ask(settings.clone());
    assert_eq!(
        refused(&found),
        ["if_match_quoted", "conditional_multipart", "conditional_delete"],
        "{found:#?}"
    );
    assert_eq!(found.left, [""; 0], "{found:#?}");
    let missing = S3Settings { bucket: "nobodys-bucket".into(), ..settings.clone() };
    let wrong = S3Settings { secret_access_key: Some(Secret::new("wrong")), ..settings };
    for (settings, code) in [(missing, "NoSuchBucket"), (wrong, "SignatureDoesNotMatch")] {
        let found = ask(settings);
        assert_eq!(found.answer(Question::Reach), Answer::No, "{found:#?}");
        assert!(found.rows[0].detail.contains(code), "{found:#?}");
    }
}

#[test]
fn r26b_ceph_tells_a_missing_bucket_and_wrong_keys_from_an_empty_replica() {
    let Some(settings) = gateway("ceph outcomes") else { return };
    let missing = S3Settings { bucket: "nobodys-bucket".into(), ..settings.clone() };
    let wrong = S3Settings { secret_access_key: Some(Secret::new("wrong")), ..settings.clone() };
    for (settings, code) in [(missing, "NoSuchBucket"), (wrong, "SignatureDoesNotMatch")] {
        let error = S3Store::open(&settings, clock(), random()).unwrap().list(&Scope::Epochs).unwrap_err();
        assert_eq!(error.kind, ErrorKind::FixConfig, "{error}");
        assert!(error.to_string().contains(code), "{error}");
    }
}

#[test]
fn ceph_takes_keys_that_begin_with_a_slash_as_litestream_writes_them() {
    let Some(settings) = gateway("ceph keys at the top") else { return };
    let settings = S3Settings { path: format!("/{}", fresh()), ..settings };
    let store = S3Store::open(&settings, clock(), random()).unwrap();
    let keys = [slot(1), slot(2)];
    for key in &keys {
        assert_eq!(store.create(key, Bytes::from_static(b"x"), TIME).unwrap(), Created::Yes);
        assert_eq!(store.head(key).unwrap().timestamp, TIME);
    }
    let slots = Scope::Level(Level::SLOTS);
    let listed: Vec<Key> = store.list(&slots).unwrap().iter().map(|entry| entry.key).collect();
    assert_eq!(listed, keys);
    store.delete(&keys).unwrap();
    assert!(store.list(&slots).unwrap().is_empty());
}

#[test]
fn ceph_takes_keys_with_dots_as_they_are_spelled() {
    let Some(settings) = gateway("ceph keys with dots") else { return };
    let run = fresh();
    let at = |path: String| S3Settings { path, ..settings.clone() };
    let make = |name: &str| shared(S3Store::open(&at(format!("./{run}/a b/../{name}")), clock(), random())?);
    check(&make, Effort { objects: 60, rounds: 2, ..Effort::default() }).unwrap();

    let paths = [format!("./{run}"), run.clone(), format!("{run}/x/.."), format!("{run}/.")];
    let stores = paths.map(|path| S3Store::open(&at(path), clock(), random()).unwrap());
    for store in &stores {
        assert!(store.list(&Scope::Level(Level::SLOTS)).unwrap().is_empty(), "{}", store.location());
        assert_eq!(store.create(&slot(1), Bytes::from(store.location()), TIME).unwrap(), Created::Yes);
    }
    for store in &stores {
        assert_eq!(read(store, slot(1)), store.location().as_bytes());
        store.delete(&[slot(1)]).unwrap();
    }
}
