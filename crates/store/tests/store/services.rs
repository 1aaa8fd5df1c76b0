//! S3 services on a bad day: what is tried again, what is told, and what must never pass for an empty replica.

use crate::support::{TIME, clock, hasty, random, read, s3, settings, slot};
use bytes::Bytes;
use litekeep_core::env::Clock as _;
use litekeep_formats::{Epoch, Level, TimestampMs};
use litekeep_store::location::S3Settings;
use litekeep_store::reader::RangeReader;
use litekeep_store::retry::Policy;
use litekeep_store::s3::S3Store;
use litekeep_store::{Created, EpochRecord, ErrorKind, Key, Scope, Source, Store, StoreError, V3Generation};
use s3test::{Fault, Profile, Rule, Server};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SLOTS: Scope = Scope::Level(Level::SLOTS);

fn answer(status: u16, code: &'static str) -> Fault {
    Fault::Answer { status, code, retry_after: None }
}

fn aws() -> Server {
    Server::start(Profile::Aws).unwrap()
}

/// Every verb that reads, once, on a store that does not try again.
fn reading_verbs(store: &dyn Store) -> [(&'static str, Option<StoreError>); 5] {
    [
        ("list", store.list(&SLOTS).err()),
        ("list v3", store.list(&Scope::V3Snapshots).err()),
        ("head", store.head(&slot(1)).err()),
        ("read", store.read(&slot(1), None).err()),
        ("ranged read", store.read(&slot(1), Some(0..10)).err()),
    ]
}

#[test]
fn r26b_only_a_listing_that_worked_says_empty_and_only_a_missing_key_says_not_found() {
    let rows: [(&str, Fault, ErrorKind); 12] = [
        ("denied", answer(403, "AccessDenied"), ErrorKind::FixConfig),
        ("denied without a word", answer(403, ""), ErrorKind::FixConfig),
        ("wrong key", answer(403, "InvalidAccessKeyId"), ErrorKind::FixConfig),
        ("clock off", answer(403, "RequestTimeTooSkewed"), ErrorKind::FixConfig),
        ("no such bucket", answer(404, "NoSuchBucket"), ErrorKind::FixConfig),
        ("a web server's 404", Fault::Page(404), ErrorKind::FixConfig),
        ("a 404 without a word", answer(404, ""), ErrorKind::FixConfig),
        ("server error", answer(500, "InternalError"), ErrorKind::Retry),
        ("bad gateway", Fault::Page(502), ErrorKind::Retry),
        ("slow down", answer(503, "SlowDown"), ErrorKind::Wait),
        ("too many", answer(429, "TooManyRequests"), ErrorKind::Wait),
        ("reset", Fault::ResetBefore, ErrorKind::Retry),
    ];
    for (name, fault, kind) in rows {
        let server = aws();
        s3(&server, "db").create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
        for method in ["GET", "HEAD"] {
            server.add_rule(Rule::always(method, "", fault.clone()));
        }
        for (verb, error) in reading_verbs(&hasty(&settings(&server, "db"))) {
            let error = error.unwrap_or_else(|| panic!("{name}: {verb} worked"));
            assert_eq!(error.kind, kind, "{name}: {error}");
        }
    }
}

#[test]
fn r26b_an_answer_that_is_no_listing_is_no_empty_listing() {
    let server = aws();
    s3(&server, "db").create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    let store = hasty(&settings(&server, "db"));
    let whole = store.list(&SLOTS).unwrap();
    assert_eq!(whole.len(), 1);
    let faults = (0..120).step_by(7).map(Fault::ShortAnswer).chain([Fault::Page(200), Fault::CutAnswer(50)]);
    for fault in faults {
        server.add_rule(Rule::always("GET", "", fault.clone()));
        let error = store.list(&SLOTS).expect_err("a listing cut short");
        assert_eq!(error.kind, ErrorKind::Retry, "{fault:?}: {error}");
        server.clear_rules();
    }
}

#[test]
fn r26b_a_missing_bucket_and_a_dead_endpoint_are_no_empty_replica() {
    let server = aws();
    let gone = S3Settings { bucket: "nobody".into(), ..settings(&server, "db") };
    for (verb, error) in reading_verbs(&hasty(&gone)) {
        let error = error.unwrap_or_else(|| panic!("{verb} worked"));
        assert_eq!(error.kind, ErrorKind::FixConfig, "{error}");
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    }
    let dead = settings(&server, "db");
    drop(server);
    for (verb, error) in reading_verbs(&hasty(&dead)) {
        assert_eq!(error.unwrap_or_else(|| panic!("{verb} worked")).kind, ErrorKind::Retry);
    }
}

#[test]
fn wrong_keys_are_refused_and_no_error_shows_the_secret() {
    let server = aws();
    let secret = litekeep_store::location::Secret::new("wrongsecretwrongsecret");
    let wrong = S3Settings { secret_access_key: Some(secret), ..settings(&server, "db") };
    assert!(!format!("{wrong:?}").contains("wrongsecret"));
    for (_, error) in reading_verbs(&hasty(&wrong)) {
        let error = error.unwrap();
        assert_eq!(error.kind, ErrorKind::FixConfig, "{error}");
        assert!(!format!("{error} {error:?}").contains("wrongsecret"));
        assert!(error.to_string().contains("s3://test/db/"), "{error}");
    }
}

#[test]
fn passing_trouble_is_tried_again_and_the_error_counts_the_tries() {
    let faults =
        [answer(500, "InternalError"), answer(503, "SlowDown"), Fault::ResetBefore, Fault::Page(502)];
    for fault in faults {
        let server = aws();
        let store = s3(&server, "db");
        for method in ["PUT", "GET", "HEAD", "DELETE"] {
            server.add_rule(Rule::next(method, "", 3, fault.clone()));
        }
        store.put(&slot(1), Bytes::from_static(b"one"), TIME).unwrap();
        assert_eq!(read(&store, slot(1)), b"one");
        assert_eq!(store.head(&slot(1)).unwrap().size, 3);
        assert_eq!(store.list(&SLOTS).unwrap().len(), 1);
        store.delete(&[slot(1)]).unwrap();
        server.add_rule(Rule::always("GET", "", fault));
        let error = store.read(&slot(1), None).unwrap_err();
        assert!(error.attempts >= 5 && error.elapsed > Duration::from_secs(5), "{error}");
    }
}

#[test]
fn r64_retry_after_is_honoured_and_slow_down_costs_few_requests() {
    let server = aws();
    let time = clock();
    let store = S3Store::open(&settings(&server, "db"), time.clone(), random()).unwrap();
    let busy = Fault::Answer { status: 503, code: "SlowDown", retry_after: Some("8") };
    server.add_rule(Rule::next("PUT", "", 2, busy.clone()));
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap(), Created::Yes);
    assert!(time.boot() >= Duration::from_secs(16), "waited {:?}", time.boot());
    assert_eq!(server.take_log().len(), 3);
    server.add_rule(Rule::always("PUT", "", busy));
    let error = store.create(&slot(2), Bytes::from_static(b"x"), TIME).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Wait, "{error}");
    assert!(error.to_string().contains("asked to wait 8 s"), "{error}");
}

#[test]
fn a_create_whose_answer_was_lost_is_ours_if_our_bytes_stand() {
    for fault in [Fault::ResetAfter, Fault::DoneButFailed, Fault::CutAnswer(0)] {
        for times in [1, 2, 3] {
            let server = aws();
            let store = s3(&server, "db");
            server.add_rule(Rule::next("PUT", "", times, fault.clone()));
            let created = store.create(&slot(1), Bytes::from_static(b"mine"), TIME).unwrap();
            assert_eq!(created, Created::Yes, "{fault:?} {times} times");
            assert_eq!(read(&store, slot(1)), b"mine");
        }
    }
}

#[test]
fn a_source_is_sent_again_from_its_start_and_compared_piece_by_piece_when_an_answer_was_lost() {
    let body: Bytes = (0..5_000_001_u32).map(|n| (n / 7).to_le_bytes()[0]).collect::<Vec<u8>>().into();
    let source: Arc<dyn Source> = Arc::new(body.clone());
    for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::DoneButFailed, answer(503, "SlowDown")] {
        let server = aws();
        let store = s3(&server, "db");
        server.add_rule(Rule::next("PUT", "", 1, fault.clone()));
        assert_eq!(store.create_from(&slot(1), &source, TIME).unwrap(), Created::Yes, "{fault:?}");
        assert_eq!(read(&store, slot(1)), body, "{fault:?}");
        let mut other = body.to_vec();
        other[4_999_999] ^= 1;
        let other: Arc<dyn Source> = Arc::new(Bytes::from(other));
        server.add_rule(Rule::next("PUT", "", 1, fault.clone()));
        assert_eq!(store.create_from(&slot(1), &other, TIME).unwrap(), Created::Exists, "{fault:?}");
        assert_eq!(read(&store, slot(1)), body, "{fault:?}");
    }
}

/// A source that can be read whole this often, and then ends before its length.
struct Cut {
    whole: usize,
    begun: AtomicUsize,
}

impl Source for Cut {
    fn len(&self) -> u64 {
        3 << 20
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        if offset == 0 {
            self.begun.fetch_add(1, Ordering::SeqCst);
        }
        let cut = self.begun.load(Ordering::SeqCst) > self.whole;
        let end: u64 = if cut { 2 << 20 } else { 3 << 20 };
        let left = end.saturating_sub(offset).min(buf.len() as u64);
        Ok(usize::try_from(left).unwrap())
    }
}

#[test]
fn a_source_that_ends_early_makes_no_object() {
    // Cut while it is hashed, and cut while it is sent.
    for whole in [0, 1] {
        let server = aws();
        let store = s3(&server, "db");
        let source: Arc<dyn Source> = Arc::new(Cut { whole, begun: AtomicUsize::new(0) });
        let error = store.create_from(&slot(1), &source, TIME).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Retry, "{whole}: {error}");
        assert_eq!(store.list(&SLOTS).unwrap(), [], "{whole}");
    }
}

#[test]
fn a_create_whose_answer_was_lost_is_not_ours_if_others_stand_there() {
    let server = aws();
    let store = s3(&server, "db");
    s3(&server, "db").create(&slot(1), Bytes::from_static(b"theirs"), TIME).unwrap();
    server.add_rule(Rule::next("PUT", "", 1, Fault::ResetAfter));
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"mine"), TIME).unwrap(), Created::Exists);
    assert_eq!(read(&store, slot(1)), b"theirs");
}

#[test]
fn a_create_that_is_refused_but_not_readable_yet_is_asked_again() {
    let server = aws();
    let store = s3(&server, "db");
    server.add_rule(Rule::next("PUT", "", 1, Fault::ResetAfter));
    server.add_rule(Rule::next("GET", "", 2, answer(404, "NoSuchKey")));
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"mine"), TIME).unwrap(), Created::Yes);
}

#[test]
fn a_create_that_never_got_an_answer_is_looked_at_once_more_at_the_end() {
    let server = aws();
    server.add_rule(Rule::always("PUT", "", Fault::ResetAfter));
    let store = hasty(&settings(&server, "db"));
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"mine"), TIME).unwrap(), Created::Yes);
    server.add_rule(Rule::always("GET", "", Fault::ResetBefore));
    let error = store.create(&slot(2), Bytes::from_static(b"mine"), TIME).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry, "{error}");
}

#[test]
fn a_conflict_under_way_is_asked_again_and_then_decided() {
    let server = aws();
    let store = s3(&server, "db");
    server.add_rule(Rule::next("PUT", "", 2, answer(409, "ConditionalRequestConflict")));
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"mine"), TIME).unwrap(), Created::Yes);
    server.add_rule(Rule::next("PUT", "", 2, answer(409, "ConditionalRequestConflict")));
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"mine"), TIME).unwrap(), Created::Exists);
}

#[test]
fn r43_a_download_that_keeps_breaking_off_arrives_whole() {
    let server = aws();
    let store = s3(&server, "db");
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n >> 3) as u8).collect();
    store.put(&slot(1), body.clone().into(), TIME).unwrap();
    for (nth, fault) in [
        (1, Fault::CutAnswer(10_000)),
        (3, Fault::ResetBefore),
        (5, answer(503, "SlowDown")),
        (7, answer(429, "")),
        (9, Fault::CutAnswer(0)),
    ] {
        server.add_rule(Rule { method: Some("GET"), part: "", skip: nth, times: 2, fault });
    }
    let mut got = Vec::new();
    RangeReader::new(&store, slot(1)).with_piece(32 << 10).read_to_end(&mut got).unwrap();
    assert!(got == body);
}

#[test]
fn r43_a_service_without_ranges_is_read_piece_by_piece_all_the_same() {
    let server = aws();
    let store = s3(&server, "db");
    store.put(&slot(1), Bytes::from(vec![7; 50_000]), TIME).unwrap();
    store.put(&slot(1), Bytes::from((0..50_000_u32).map(|n| n as u8).collect::<Vec<_>>()), TIME).unwrap();
    server.add_rule(Rule::always("GET", "", Fault::IgnoreRange));
    let chunk = store.read(&slot(1), Some(300..310)).unwrap();
    assert_eq!(chunk.bytes[..], (300..310_u32).map(|n| n as u8).collect::<Vec<_>>()[..]);
    assert_eq!(chunk.total, 50_000);
}

#[test]
fn r44_an_object_shorter_than_announced_is_damage_at_every_length() {
    let server = aws();
    let store = s3(&server, "db");
    store.put(&slot(1), Bytes::from(vec![7; 400]), TIME).unwrap();
    for bytes in [0, 1, 99, 199] {
        server.add_rule(Rule::always("GET", "", Fault::ShortAnswer(bytes)));
        let error = store.read(&slot(1), Some(100..300)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::DataDamaged, "{bytes}: {error}");
        let mut sink = Vec::new();
        let error = RangeReader::new(&store, slot(1)).read_to_end(&mut sink).unwrap_err();
        let error = litekeep_store::reader::store_error(error).unwrap();
        assert_eq!(error.kind, ErrorKind::DataDamaged, "{bytes}: {error}");
        server.clear_rules();
    }
}

#[test]
fn r44_an_object_replaced_while_it_is_read_is_never_mixed() {
    let server = aws();
    let store = s3(&server, "db");
    store.put(&slot(1), Bytes::from(vec![1; 1000]), TIME).unwrap();
    let mut reader = RangeReader::new(&store, slot(1)).with_piece(100);
    let first = reader.next_piece().unwrap();
    assert_eq!(first.len(), 100);
    store.put(&slot(1), Bytes::from(vec![2; 1000]), TIME).unwrap();
    let error = reader.next_piece().unwrap_err();
    assert!(error.to_string().contains("changed while it was read"), "{error}");
}

#[test]
fn r33_a_listing_of_a_level_is_complete_whatever_the_page() {
    for page in [1, 2, 1000] {
        let server = aws();
        let store = s3(&server, "db");
        for n in 1..=9 {
            store.create(&slot(n), Bytes::from_static(b"x"), TIME).unwrap();
        }
        server.set_page(page);
        server.take_log();
        let keys: Vec<Key> = store.list(&SLOTS).unwrap().iter().map(|entry| entry.key).collect();
        assert_eq!(keys, (1..=9).map(slot).collect::<Vec<_>>());
        assert_eq!(server.take_log().len(), 9_usize.div_ceil(page));
    }
}

#[test]
fn r46_times_of_many_objects_are_asked_together_and_only_once_each() {
    let server = aws();
    let store = s3(&server, "db");
    let keys: Vec<Key> = (1..=200).map(slot).collect();
    for (n, key) in (0..).zip(&keys) {
        store.put(key, Bytes::from_static(b"x"), TimestampMs(TIME.0 + n)).unwrap();
    }
    server.take_log();
    let heads = store.heads(&keys).unwrap();
    assert!((0..).zip(&heads).all(|(n, head)| head.as_ref().unwrap().timestamp.0 == TIME.0 + n));
    assert_eq!(server.take_log().len(), 200);
    // Listing asks for no object's time.
    assert_eq!(store.list(&SLOTS).unwrap().len(), 200);
    assert_eq!(server.take_log().len(), 1);
}

#[test]
fn r60_a_name_is_found_though_listings_lag() {
    let server = aws();
    let store = s3(&server, "db");
    store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    server.freeze_listing(true);
    store.create(&slot(2), Bytes::from_static(b"y"), TIME).unwrap();
    assert_eq!(store.list(&SLOTS).unwrap().len(), 1, "the listing should lag in this test");
    assert_eq!(read(&store, slot(2)), b"y");
    assert_eq!(store.create(&slot(2), Bytes::from_static(b"z"), TIME).unwrap(), Created::Exists);
}

#[test]
fn r63_a_denied_delete_is_an_error_that_says_so() {
    let server = aws();
    let store = s3(&server, "db");
    let keys: Vec<Key> = (1..=5).map(slot).collect();
    for key in &keys {
        store.create(key, Bytes::from_static(b"x"), TIME).unwrap();
    }
    server.add_rule(Rule::always("DELETE", "0000000000000003", answer(403, "AccessDenied")));
    let error = store.delete(&keys).unwrap_err();
    assert_eq!((error.kind, error.operation), (ErrorKind::FixConfig, "delete"));
    assert!(error.to_string().contains("may list, read, write and delete"), "{error}");
    assert_eq!(store.list(&SLOTS).unwrap().iter().map(|entry| entry.key).collect::<Vec<_>>(), [slot(3)]);
}

#[test]
fn r65_the_stores_clock_is_told_whatever_ours_says_and_moves_on() {
    for minutes in [-10, 0, 10] {
        let server = aws();
        server.skew_clock(minutes * 60_000);
        let time = clock();
        let store = S3Store::open(&settings(&server, "db"), time.clone(), random()).unwrap();
        assert_eq!(store.server_time(), None);
        store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
        let told = store.server_time().unwrap();
        let apart = told.0 - time.wall().0 - minutes * 60_000;
        assert!(apart.abs() < 20_000, "{minutes} min: {apart} ms");
        time.sleep(Duration::from_secs(60));
        assert_eq!(store.server_time().unwrap().0, told.0 + 60_000);
    }
}

#[test]
fn an_upload_survives_lost_parts_and_a_lost_completion() {
    let faults = [
        ("PUT", "partNumber=2", Fault::ResetAfter),
        ("PUT", "partNumber=1", answer(503, "SlowDown")),
        ("POST", "uploads=", answer(500, "InternalError")),
        ("POST", "uploadId=", Fault::ResetAfter),
        ("POST", "uploadId=", Fault::ErrorInside),
        ("POST", "uploadId=", Fault::DoneButFailed),
    ];
    for (method, part, fault) in faults {
        let server = aws();
        let store = s3(&server, "db");
        server.add_rule(Rule::next(method, part, 1, fault.clone()));
        let mut upload = store.upload(&slot(1), TIME).unwrap();
        let body = vec![9; (17 << 20) + 1];
        upload.write(&body).unwrap();
        upload.finish().unwrap_or_else(|error| panic!("{method} {part} {fault:?}: {error}"));
        assert!(store.read(&slot(1), None).unwrap().bytes == body, "{method} {part} {fault:?}");
        assert_eq!(store.head(&slot(1)).unwrap().timestamp, TIME);
    }
}

#[test]
fn an_upload_that_fails_or_is_dropped_leaves_nothing_behind() {
    let server = aws();
    let store = hasty(&settings(&server, "db"));
    server.add_rule(Rule::always("PUT", "partNumber=2", answer(403, "AccessDenied")));
    let mut upload = store.upload(&slot(1), TIME).unwrap();
    let failed = upload.write(&vec![9; 17 << 20]).and_then(|()| upload.finish());
    assert_eq!(failed.unwrap_err().kind, ErrorKind::FixConfig);
    assert_eq!((server.uploads(), server.keys().len()), (0, 0));
}

#[test]
fn keys_on_the_wire_are_litestreams_to_the_byte() {
    let name = "0000000000000001-0000000000000001.ltx";
    for (path, key) in [("path/to/db", format!("path/to/db/0000/{name}")), ("", format!("/0000/{name}"))] {
        let server = aws();
        let store = s3(&server, path);
        store.create(&slot(1), Bytes::from_static(b"x"), TimestampMs(1_795_423_833_120)).unwrap();
        assert_eq!(server.keys(), [key]);
        assert_eq!(store.list(&SLOTS).unwrap().len(), 1);
        let log = server.take_log();
        assert_eq!(log[0].header("x-amz-meta-litestream-timestamp"), Some("2026-11-23T08:50:33.12Z"));
        assert_eq!(log[0].header("content-type"), Some("application/octet-stream"));
        assert_eq!(log[0].header("if-none-match"), Some("*"));
    }
}

#[test]
fn a_time_that_was_never_recorded_is_the_stores_own() {
    let server = aws();
    let store = s3(&server, "db");
    store.put(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    let head = store.head(&slot(1)).unwrap();
    assert_eq!(head.timestamp, TIME);
    server.forget_metadata();
    let head = store.head(&slot(1)).unwrap();
    assert_eq!(head.timestamp, head.modified);
}

#[test]
fn neighbours_name_the_replicas_beside_above_and_below() {
    let server = aws();
    for path in ["backup", "backup/a.db", "backup/b.db", "backup/c.db/deep", "other"] {
        s3(&server, path).create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    }
    let rows: [(&str, &[&str]); 5] = [
        ("backup/x.db", &["s3://test/backup", "s3://test/backup/a.db", "s3://test/backup/b.db"]),
        (
            "backup/c.db",
            &[
                "s3://test/backup",
                "s3://test/backup/a.db",
                "s3://test/backup/b.db",
                "s3://test/backup/c.db/deep",
            ],
        ),
        ("nothing", &["s3://test/backup", "s3://test/other"]),
        ("backup/b.db/", &["s3://test/backup/b.db"]),
        ("", &["s3://test/backup", "s3://test/other"]),
    ];
    for (path, wanted) in rows {
        assert_eq!(s3(&server, path).neighbours().unwrap(), wanted, "{path:?}");
    }
}

/// Paths that are not as clean as they could be, with where 0.3's files lie.
const SPELLINGS: [(&str, &str); 9] = [
    ("", ""),
    (".", ""),
    ("/", ""),
    ("a/b", "a/b/"),
    ("/a/b", "a/b/"),
    ("a/b/", "a/b/"),
    ("./a", "a/"),
    ("a//b", "a/b/"),
    ("x/../a/.", "a/"),
];

#[test]
fn r50_keys_begin_with_the_path_as_it_is_spelled_and_those_of_v0_3_with_what_it_means() {
    for (path, v3) in SPELLINGS {
        let server = aws();
        let store = s3(&server, path);
        let old = Key::V3Snapshot(V3Generation(7), 1);
        for key in [slot(1), old] {
            store.create(&key, Bytes::from_static(b"x"), TIME).unwrap();
            assert_eq!(read(&store, key), b"x", "{path:?}");
        }
        let mut wanted = [
            format!("{path}/0000/0000000000000001-0000000000000001.ltx"),
            format!("{v3}generations/0000000000000007/snapshots/00000001.snapshot.lz4"),
        ];
        wanted.sort();
        assert_eq!(server.keys(), wanted, "{path:?}");
        for scope in [SLOTS, Scope::From(Level::SLOTS), Scope::V3Snapshots] {
            assert_eq!(store.list(&scope).unwrap().len(), 1, "{path:?} {scope:?}");
        }
        store.delete(&[slot(1), old]).unwrap();
        assert_eq!(server.keys(), [""; 0], "{path:?}");
    }
}

#[test]
fn r26b_a_replica_under_another_spelling_of_the_path_is_never_an_empty_one() {
    let all = Scope::From(Level::SLOTS);
    for (there, asked) in [
        ("", "."),
        (".", ""),
        ("/", "."),
        ("a/b", "a/b/"),
        ("a/b", "/a/b"),
        ("a/b", "a//b"),
        ("/a/b", "a/b"),
        ("a/b/", "a/b"),
        ("./a/b", "a/b"),
        ("/a/b/", "a/b"),
        ("./a/b/", "a/b/"),
        ("a//b/c", "a/b/c"),
        ("a/b//c", "a/b/c"),
    ] {
        let server = aws();
        assert!(s3(&server, asked).list(&all).unwrap().is_empty());
        s3(&server, there).create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
        let store = s3(&server, asked);
        for _ in 0..2 {
            let error = store.list(&all).unwrap_err();
            assert_eq!(error.kind, ErrorKind::FixConfig, "{error}");
            let wanted = format!("there is no replica at path {asked:?}, but one at path {there:?}");
            assert!(error.to_string().contains(&wanted), "{error}");
        }
        // What lies there as well is asked for no more.
        store.create(&slot(2), Bytes::from_static(b"x"), TIME).unwrap();
        assert_eq!(store.list(&all).unwrap().len(), 1);
    }
    // Those of v0.3, and one that was wiped, are what was asked for.
    for key in [Key::V3Snapshot(V3Generation(7), 1), Key::Epoch(Epoch::new(1).unwrap(), EpochRecord::Claim)] {
        let server = aws();
        s3(&server, "a/b").create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
        let store = s3(&server, "a/b/");
        store.create(&key, Bytes::from_static(b"x"), TIME).unwrap();
        assert!(store.list(&all).unwrap().is_empty(), "{key}");
    }
}

#[test]
fn keys_that_are_limited_to_their_prefix_begin_a_replica_there_and_get_no_hints() {
    let server = aws();
    s3(&server, "other").create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    let denied = |part| Rule::always("GET", part, answer(403, "AccessDenied"));
    for part in ["prefix=&", "prefix=%2F", "prefix=.%2F", "prefix=teams%2F&", "%2F%2F"] {
        server.add_rule(denied(part));
    }
    let store = s3(&server, "teams/a");
    assert!(store.list(&Scope::From(Level::SLOTS)).unwrap().is_empty());
    assert_eq!(store.neighbours().unwrap(), [""; 0]);
    // What its own place answers counts.
    server.add_rule(denied("prefix=teams%2Fa%2F"));
    assert_eq!(store.list(&Scope::From(Level::SLOTS)).unwrap_err().kind, ErrorKind::FixConfig);
}

#[test]
fn r50_files_in_a_directorys_layout_are_found_in_a_bucket() {
    let server = aws();
    let store = s3(&server, "db");
    store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    assert!(store.list(&Scope::OtherLayout(Level::SLOTS)).unwrap().is_empty());
    server.rename(
        "db/0000/0000000000000001-0000000000000001.ltx",
        "db/ltx/0/0000000000000001-0000000000000001.ltx",
    );
    assert!(store.list(&SLOTS).unwrap().is_empty());
    assert_eq!(store.list(&Scope::OtherLayout(Level::SLOTS)).unwrap().len(), 1);
}

#[test]
fn a_store_can_be_used_from_many_threads_and_from_inside_a_runtime() {
    let server = aws();
    let store = s3(&server, "db");
    std::thread::scope(|scope| {
        for n in 1..=8 {
            let store = store.clone();
            scope.spawn(move || store.create(&slot(n), Bytes::from_static(b"x"), TIME).unwrap());
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async { store.list(&SLOTS).unwrap().len() }), 8);
}

#[test]
fn patience_is_the_callers() {
    let server = aws();
    server.add_rule(Rule::always("GET", "", Fault::ResetBefore));
    let policy = Policy { total: Duration::from_secs(1), ..Policy::default() };
    let store = S3Store::with_policy(&settings(&server, "db"), clock(), random(), policy).unwrap();
    let error = store.list(&SLOTS).unwrap_err();
    assert!(error.elapsed <= Duration::from_secs(1) && error.attempts > 2, "{error}");
}

#[test]
fn tls_trusts_the_named_authority_only_unless_told_to_trust_anybody() {
    let server = Server::start_tls(Profile::Aws).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (bundle, empty) = (dir.path().join("ca.pem"), dir.path().join("empty.pem"));
    std::fs::write(&bundle, s3test::AUTHORITY).unwrap();
    std::fs::write(&empty, "no certificate").unwrap();
    let plain = settings(&server, "db");
    let trusting = S3Settings { ca_bundle: Some(bundle), ..plain.clone() };
    let careless = S3Settings { skip_verify: true, ..plain.clone() };
    let mistaken = S3Settings { ca_bundle: Some(empty), ..plain.clone() };
    for (n, settings) in [(1, trusting), (2, careless)] {
        let store = hasty(&settings);
        assert_eq!(store.create(&slot(n), Bytes::from_static(b"x"), TIME).unwrap(), Created::Yes);
    }
    let error = hasty(&plain).list(&SLOTS).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    let error = S3Store::open(&mistaken, clock(), random()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::FixConfig, "{error}");
}

/// Answers one HTTP request after another with the same JSON; gives what was asked.
fn agent(json: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = std::io::BufReader::new(&stream).lines();
            let request: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let length = json.len();
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
            write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{json}").unwrap();
            let _ = sender.send(request.join("\n"));
        }
    });
    (format!("http://{address}/v1/credentials"), asked)
}

#[test]
fn keys_of_a_role_are_fetched_and_used() {
    use litekeep_store::location::{CredentialSource, RoleSource};
    let json = r#"{"AccessKeyId":"testaccesskey000001","SecretAccessKey":"testsecretkey00000000000000000000001",
        "Token":"session","Expiration":"2100-01-01T00:00:00Z"}"#;
    let (full_uri, asked) = agent(json);
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "let me in").unwrap();
    let server = aws();
    let role = RoleSource::Pod { full_uri, token_file: token.to_str().unwrap().into() };
    let settings = S3Settings {
        access_key_id: None,
        secret_access_key: None,
        credentials: CredentialSource::Role(role),
        ..settings(&server, "db")
    };
    let store = hasty(&settings);
    for n in 1..=3 {
        assert_eq!(store.create(&slot(n), Bytes::from_static(b"x"), TIME).unwrap(), Created::Yes);
    }
    let request = asked.recv().unwrap();
    assert!(request.contains("let me in"), "{request}");
    assert!(asked.try_recv().is_err(), "keys are kept until they expire");
    assert_eq!(server.take_log()[0].header("x-amz-security-token"), Some("session"));
}

#[test]
fn r43_r55_a_service_that_stalls_is_given_up_and_asked_again() {
    let policy = Policy { answer: Duration::from_millis(300), ..Policy::default() };
    for fault in [Fault::Stall, Fault::StallInside(0), Fault::StallInside(10)] {
        let server = aws();
        let store = S3Store::with_policy(&settings(&server, "db"), clock(), random(), policy).unwrap();
        store.put(&slot(1), Bytes::from(vec![7; 100]), TIME).unwrap();
        server.add_rule(Rule::next("GET", "", 2, fault.clone()));
        assert_eq!(store.read(&slot(1), None).unwrap().bytes.len(), 100);
        server.add_rule(Rule::next("PUT", "", 1, Fault::Stall));
        assert_eq!(store.create(&slot(2), Bytes::from_static(b"x"), TIME).unwrap(), Created::Yes);
        server.add_rule(Rule::always("GET", "", fault));
        let patient = Policy { total: Duration::from_millis(100), ..policy };
        let hasty = S3Store::with_policy(&settings(&server, "db"), clock(), random(), patient).unwrap();
        let error = hasty.list(&SLOTS).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Retry, "{error}");
        assert!(error.to_string().contains("0.3 s"), "{error}");
    }
}

#[test]
fn r64_a_bucket_that_asks_for_less_is_left_alone_by_every_replica_in_it() {
    let (server, other) = (aws(), aws());
    let time = clock();
    let policy = Policy { total: Duration::ZERO, ..Policy::default() };
    let open = |server: &Server, path: &str| {
        S3Store::with_policy(&settings(server, path), time.clone(), random(), policy).unwrap()
    };
    let (one, two, elsewhere) = (open(&server, "one"), open(&server, "two"), open(&other, "one"));
    let slow = |seconds| Fault::Answer { status: 503, code: "SlowDown", retry_after: Some(seconds) };
    server.add_rule(Rule::next("PUT", "", 1, slow("7")));
    let refused = one.put(&slot(1), Bytes::from_static(b"x"), TIME).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Wait);
    elsewhere.list(&SLOTS).unwrap();
    assert_eq!(time.boot(), Duration::ZERO, "another bucket is none of its business");
    two.list(&SLOTS).unwrap();
    assert_eq!(time.boot(), Duration::from_secs(7));
    // A wait that nobody waits out is told, and nothing is sent meanwhile.
    server.add_rule(Rule::next("PUT", "", 1, slow("120")));
    one.put(&slot(1), Bytes::from_static(b"x"), TIME).unwrap_err();
    server.take_log();
    let left_alone = two.list(&SLOTS).unwrap_err();
    assert_eq!((left_alone.kind, server.take_log().len()), (ErrorKind::Wait, 0));
    let told = left_alone.to_string();
    // Whoever reads it may have sent nothing that was refused: the provider's own words are what he can search for.
    assert!(told.contains("503 SlowDown") && told.contains("the store asked to wait 120 s"), "{told}");
}
