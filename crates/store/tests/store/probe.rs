//! What a probe says of every kind of service, and that it leaves nothing behind.

use crate::support::{clock, random, settings};
use litekeep_store::Settings;
use litekeep_store::location::Secret;
use litekeep_store::probe::{Answer, Findings, Question, probe};
use s3test::{Fault, Profile, Rule, Server};
use std::cell::Cell;
use std::path::Path;

const GO_ON: &dyn Fn() -> bool = &|| false;

fn ask(server: &Server, stop: &dyn Fn() -> bool) -> Findings {
    let settings = Settings::S3(Box::new(settings(server, "a/replica")));
    probe(&settings, clock(), random(), stop).unwrap()
}

fn ask_directory(path: &Path) -> Findings {
    probe(&Settings::Directory(path.into()), clock(), random(), GO_ON).unwrap()
}

/// The names of the questions that were answered so.
fn named(findings: &Findings, answer: Answer) -> Vec<&'static str> {
    findings.rows.iter().filter(|row| row.answer == answer).map(|row| row.question.name()).collect()
}

fn detail(findings: &Findings, question: Question) -> &str {
    &findings.rows.iter().find(|row| row.question == question).unwrap().detail
}

fn denied(method: &'static str, part: &'static str) -> Rule {
    Rule::always(method, part, Fault::Answer { status: 403, code: "AccessDenied", retry_after: None })
}

#[test]
fn each_kind_of_service_is_known_by_its_answers_and_nothing_is_left_there() {
    for (profile, no) in [
        (Profile::Aws, &["if_match_unquoted"] as &[&str]),
        (Profile::EqualParts, &["if_match_unquoted", "conditional_delete"]),
        (Profile::Ceph, &["if_match_quoted", "conditional_multipart", "conditional_delete"]),
        (
            Profile::IgnoresConditions,
            &["create_only", "if_match_kept", "conditional_multipart", "conditional_delete"],
        ),
        (
            Profile::RefusesConditions,
            &[
                "create_only",
                "if_match_quoted",
                "if_match_unquoted",
                "if_match_kept",
                "conditional_multipart",
                "conditional_delete",
            ],
        ),
    ] {
        let server = Server::start(profile).unwrap();
        let found = ask(&server, GO_ON);
        assert_eq!(named(&found, Answer::No), no, "{profile:?}: {found:#?}");
        assert_eq!(named(&found, Answer::Unknown), [""; 0], "{profile:?}: {found:#?}");
        assert_eq!((found.left.len(), found.interrupted), (0, false), "{profile:?}: {found:#?}");
        assert_eq!((server.keys(), server.uploads()), (vec![], 0), "{profile:?}");
        assert!(found.requests as usize == server.take_log().len(), "{profile:?}: {found:#?}");
        assert!(found.clock_ahead_ms.is_some_and(|ms| ms.abs() < 5000), "{profile:?}: {found:#?}");
    }
}

#[test]
fn a_condition_is_told_by_what_became_of_it() {
    for (profile, text) in [
        (Profile::IgnoresConditions, "ignored: the object was replaced all the same"),
        (Profile::RefusesConditions, "refused: "),
        (Profile::Ceph, "kept: a second put of the name is refused"),
    ] {
        let server = Server::start(profile).unwrap();
        let found = ask(&server, GO_ON);
        assert!(detail(&found, Question::CreateOnly).starts_with(text), "{profile:?}: {found:#?}");
    }
}

#[test]
fn each_permission_is_told_for_itself_and_what_could_not_be_removed_is_named() {
    for (rule, question, left) in [
        (denied("GET", "list-type"), Question::List, 0),
        (denied("GET", "/object"), Question::Read, 0),
        (denied("PUT", "/object"), Question::Write, 0),
        (denied("DELETE", "/object"), Question::Delete, 1),
    ] {
        let server = Server::start(Profile::Ceph).unwrap();
        server.add_rule(rule);
        let found = ask(&server, GO_ON);
        for other in [Question::Reach, Question::List, Question::Read, Question::Write, Question::Delete] {
            let expected = if other == question { Answer::No } else { Answer::Yes };
            assert_eq!(found.answer(other), expected, "{question:?} {other:?}: {found:#?}");
        }
        assert!(detail(&found, question).contains("AccessDenied"), "{found:#?}");
        assert_eq!((server.keys().len(), found.left.len()), (left, left), "{question:?}: {found:#?}");
        for (key, named) in server.keys().iter().zip(&found.left) {
            assert_eq!(*named, format!("s3://test/{key}"));
        }
    }
    let server = Server::start(Profile::Aws).unwrap();
    for method in ["PUT", "DELETE", "GET"] {
        server.add_rule(denied(method, ""));
    }
    let found = ask(&server, GO_ON);
    assert_eq!(named(&found, Answer::No), ["list", "write", "delete"], "{found:#?}");
    assert_eq!(found.answer(Question::Read), Answer::Unknown, "{found:#?}");
    assert!(found.left.is_empty(), "{found:#?}");
}

#[test]
fn a_delete_that_is_answered_and_not_done_is_told_and_the_object_is_named() {
    let server = Server::start(Profile::Ceph).unwrap();
    let done = Fault::Answer { status: 204, code: "", retry_after: None };
    server.add_rule(Rule::always("DELETE", "/object", done));
    let found = ask(&server, GO_ON);
    assert_eq!(found.answer(Question::Delete), Answer::No, "{found:#?}");
    let keys: Vec<String> = server.keys().iter().map(|key| format!("s3://test/{key}")).collect();
    assert_eq!((keys.len(), &found.left), (1, &keys), "{found:#?}");
}

#[test]
fn a_bucket_that_keeps_versions_is_told_and_what_it_keeps_is_named() {
    let server = Server::start(Profile::Aws).unwrap();
    assert!(!ask(&server, GO_ON).keeps_versions);
    server.claim_versions(true);
    let found = ask(&server, GO_ON);
    assert!(found.keeps_versions && found.answer(Question::Delete) == Answer::Yes, "{found:#?}");
    assert!(found.left.len() == 1 && found.left[0].contains("older versions"), "{found:#?}");
}

#[test]
fn who_is_not_known_is_told_so_and_asks_no_more() {
    let server = Server::start(Profile::Aws).unwrap();
    let right = settings(&server, "r");
    let other = |change: &dyn Fn(&mut litekeep_store::location::S3Settings)| {
        let mut wrong = right.clone();
        change(&mut wrong);
        probe(&Settings::S3(Box::new(wrong)), clock(), random(), GO_ON).unwrap()
    };
    let nobody = other(&|it| it.access_key_id = Some("nobody".into()));
    let secret = other(&|it| it.secret_access_key = Some(Secret::new("hush")));
    let bucket = other(&|it| it.bucket = "other".into());
    let endpoint = other(&|it| it.endpoint = Some("http://127.0.0.1:9".into()));
    server.add_rule(Rule::always(
        "GET",
        "list-type",
        Fault::Answer { status: 400, code: "AuthorizationHeaderMalformed", retry_after: None },
    ));
    let region = other(&|it| it.region = Some("nowhere-1".into()));
    for (found, part) in [
        (nobody, "InvalidAccessKeyId"),
        (secret, "check the secret access key and the region"),
        (bucket, "NoSuchBucket"),
        (endpoint, "onnect"),
        (region, "check the region"),
    ] {
        assert_eq!(named(&found, Answer::No), ["reach"], "{part}: {found:#?}");
        assert!(detail(&found, Question::Reach).contains(part), "{part}: {found:#?}");
        assert!(!format!("{found:?}").contains("hush"), "{found:?}");
    }
    assert!(server.keys().is_empty());
}

#[test]
fn r65_a_clock_that_is_off_is_told_whether_the_store_minds_or_not() {
    for (skew_minutes, refuses, text) in [
        (61_i64, false, "this machine's is 61 minutes behind the store's"),
        (-20, false, "this machine's is 20 minutes ahead of the store's"),
        (61, true, "this machine's is 61 minutes behind the store's"),
    ] {
        let server = Server::start(Profile::Aws).unwrap();
        // Half a minute more, so that the second in which it is asked does not matter.
        server.skew_clock(skew_minutes * 60_000 + skew_minutes.signum() * 30_000);
        server.refuse_skew(refuses);
        let found = ask(&server, GO_ON);
        assert_eq!(found.answer(Question::Clock), Answer::No, "{found:#?}");
        assert_eq!(detail(&found, Question::Clock), text, "{found:#?}");
        assert_eq!(found.answer(Question::Reach) == Answer::No, refuses, "{found:#?}");
        assert!(!refuses || detail(&found, Question::Reach).contains("clock is off"), "{found:#?}");
        assert!(server.keys().is_empty());
    }
}

#[test]
fn lost_answers_and_lagging_listings_are_not_taken_for_something_else() {
    let server = Server::start(Profile::Aws).unwrap();
    server.add_rule(Rule::next("PUT", "/object", 1, Fault::ResetAfter));
    let found = ask(&server, GO_ON);
    assert_eq!(found.answer(Question::CreateOnly), Answer::Yes, "{found:#?}");
    assert_eq!(found.answer(Question::Write), Answer::Yes, "{found:#?}");
    server.clear_rules();
    server.freeze_listing(true);
    let found = ask(&server, GO_ON);
    assert_eq!(found.answer(Question::ListAfterPut), Answer::No, "{found:#?}");
    server.add_rule(Rule::always("GET", "/object", Fault::IgnoreRange));
    let found = ask(&server, GO_ON);
    assert_eq!(detail(&found, Question::Ranges), "the whole object comes", "{found:#?}");
    assert!(server.keys().is_empty());
}

#[test]
fn an_interruption_at_any_request_leaves_nothing() {
    let server = Server::start(Profile::Ceph).unwrap();
    let whole = ask(&server, GO_ON).requests;
    for stop_after in 0..whole {
        let asked = Cell::new(0);
        let found = ask(&server, &|| {
            asked.set(asked.get() + 1);
            asked.get() > stop_after
        });
        assert!(found.interrupted && found.left.is_empty(), "{stop_after}: {found:#?}");
        assert_eq!((server.keys(), server.uploads()), (vec![], 0), "{stop_after}");
    }
}

#[test]
fn a_directory_answers_what_suits_it_and_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("there");
    std::fs::create_dir_all(there.join("ltx/0")).unwrap();
    for path in [there.clone(), dir.path().join("not/yet/there")] {
        let found = ask_directory(&path);
        let names: Vec<&str> = found.rows.iter().map(|row| row.question.name()).collect();
        let expected =
            ["reach", "list", "read", "write", "delete", "create_only", "list_after_put", "ranges"];
        assert_eq!(names, expected);
        assert_eq!(named(&found, Answer::Yes), expected, "{found:#?}");
        assert!(found.left.is_empty() && found.clock_ahead_ms.is_none(), "{found:#?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 1);
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let found = ask_directory(&file);
    assert_eq!(named(&found, Answer::No), ["reach"], "{found:#?}");
    // A folder in which nobody makes anything, not even root.
    let found = ask_directory(Path::new("/proc/litekeep-no-such-process"));
    assert_eq!(named(&found, Answer::No), ["write"], "{found:#?}");
    assert!(found.left.is_empty(), "{found:#?}");
}
