//! Keys with the segment `.` or `..`, as Litestream writes them for a replica whose URL names no path: they reach the
//! service as they are spelled, and fail in the words of any other key.

use crate::support::{TIME, clock, hasty, random, read, settings, shared, slot};
use bytes::Bytes;
use litekeep_formats::Level;
use litekeep_store::conformance::{Effort, check};
use litekeep_store::location::S3Settings;
use litekeep_store::s3::S3Store;
use litekeep_store::{Created, ErrorKind, Scope, Store as _};
use s3test::{Fault, Profile, Rule, Server};
use std::net::TcpListener;

fn below(path: &str, settings: S3Settings) -> S3Settings {
    S3Settings { path: path.into(), ..settings }
}

fn open(settings: &S3Settings) -> S3Store {
    S3Store::open(settings, clock(), random()).unwrap()
}

#[test]
fn the_contract_is_kept_below_a_path_with_dots() {
    let server = Server::start(Profile::Aws).unwrap();
    server.set_page(7);
    let make = |name: &str| shared(open(&below(&format!("./a b/ü~+&/../{name}"), settings(&server, ""))));
    check(&make, Effort::default()).unwrap();
    assert_eq!(server.uploads(), 0, "unfinished uploads are left behind");
    let log = server.take_log();
    for request in &log {
        let target = request.target.as_str();
        let spelled = target.starts_with("/test/./a%20b/%C3%BC~%2B%26/../rule-");
        // v0.3 cleaned every path.
        let of_v3 = target.starts_with("/test/a%20b/rule-") && target.contains("/generations/");
        assert!(target.starts_with("/test?") || spelled || of_v3, "{target}");
        assert!(request.header("user-agent").unwrap().starts_with("litekeep/"), "{request:?}");
        assert_eq!(request.header("transfer-encoding"), None, "{request:?}");
    }
    assert!(log.iter().any(|request| request.target.contains("partNumber=2")), "no upload was in parts");
}

#[test]
fn a_path_with_dots_is_a_place_of_its_own() {
    let paths = [".", "./a", "a/.", "a/../b", "..", "../a", "a", "b"];
    for sign_payload in [true, false] {
        let server = Server::start(Profile::Aws).unwrap();
        let stores =
            paths.map(|path| open(&below(path, S3Settings { sign_payload, ..settings(&server, "") })));
        for (store, path) in stores.iter().zip(paths) {
            assert!(store.list(&Scope::Level(Level::SLOTS)).unwrap().is_empty(), "{path}");
            assert_eq!(store.create(&slot(1), Bytes::from(path), TIME).unwrap(), Created::Yes, "{path}");
            assert_eq!(store.create(&slot(1), Bytes::new(), TIME).unwrap(), Created::Exists, "{path}");
        }
        let mut keys = paths.map(|path| format!("{path}/0000/0000000000000001-0000000000000001.ltx"));
        keys.sort();
        assert_eq!(server.keys(), keys);
        for (store, path) in stores.iter().zip(paths) {
            assert_eq!(store.list(&Scope::Level(Level::SLOTS)).unwrap()[0].key, slot(1), "{path}");
            assert_eq!(read(store, slot(1)), path.as_bytes());
            store.delete(&[slot(1)]).unwrap();
        }
        assert!(server.keys().is_empty());
    }
}

/// What a store says that can't read an object, and whose move it is; its path is told as `PATH`.
fn told(path: &str, settings: S3Settings) -> (ErrorKind, String) {
    let store = hasty(&below(path, settings));
    let error = store.read(&slot(1), None).unwrap_err();
    (error.kind, error.to_string().replace(&format!("{path}/0000"), "PATH/0000"))
}

/// Both kinds of keys fail with the same words, which hold these.
fn alike(settings: &S3Settings, words: &str) {
    let (plain, (kind, text)) = (told("a", settings.clone()), told("./a", settings.clone()));
    // A body that reqwest has not received itself is one layer deeper in it.
    let text = text.replace("request or response body error: ", "");
    assert_eq!((kind, text.as_str()), (plain.0, plain.1.as_str()));
    assert!(text.contains(words), "{text}");
}

#[test]
fn a_key_with_dots_fails_in_the_words_of_any_other_key() {
    let server = Server::start(Profile::Aws).unwrap();
    let answer = |status, code| Fault::Answer { status, code, retry_after: None };
    for (fault, words) in [
        (Fault::ResetBefore, "error sending request"),
        (Fault::CutAnswer(600_000), "error decoding response body"),
        (Fault::Page(502), "502"),
        (answer(403, "AccessDenied"), "AccessDenied"),
        (answer(404, "NoSuchKey"), "NoSuchKey"),
    ] {
        for path in ["a", "./a"] {
            let store = open(&below(path, settings(&server, "")));
            store.put(&slot(1), vec![7; 1 << 20].into(), TIME).unwrap();
        }
        server.add_rule(Rule::always("GET", "", fault));
        alike(&settings(&server, ""), words);
        server.clear_rules();
    }

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = Some(format!("http://{nobody}"));
    alike(&S3Settings { endpoint, ..settings(&server, "") }, "tcp connect error");
    let stranger = Server::start_tls(Profile::Aws).unwrap();
    alike(&settings(&stranger, ""), "certificate");
}

#[test]
fn a_service_that_refuses_dots_is_told_as_that() {
    let server = Server::start(Profile::Aws).unwrap();
    for (status, code, about_dots) in [
        (400, "XMinioInvalidResourceName", true),
        (400, "", true),
        (400, "InvalidURI", true),
        (301, "", true),
        (403, "SignatureDoesNotMatch", true),
        (403, "AccessDenied", false),
        (404, "NoSuchBucket", false),
    ] {
        server.add_rule(Rule::always("GET", "", Fault::Answer { status, code, retry_after: None }));
        let (kind, text) = told("./a", settings(&server, ""));
        assert_eq!(kind, ErrorKind::FixConfig, "{text}");
        assert_eq!(text.contains("some services refuse"), about_dots, "{text}");
        if code != "XMinioInvalidResourceName" {
            let (_, text) = told("a", settings(&server, ""));
            assert!(!text.contains("some services refuse"), "{text}");
        }
        server.clear_rules();
    }
}
