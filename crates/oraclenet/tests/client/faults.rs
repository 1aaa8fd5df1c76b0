//! Nothing is done twice, and nothing is given up before its time.

use super::front::Fault::{
    self, CutAfter, CutBefore, Late, NotApplied, Proxy, Through, UnknownDone, UnknownLost,
};
use super::front::{Front, Repeats};
use super::pocketbase::{PASSWORD, PocketBase, free_port};
use super::util::{Home, Seen, mode};

/// What may happen to a write before it gets through.
const FAULTS: [&[Fault]; 9] = [
    &[],
    &[CutBefore],
    &[CutAfter],
    &[NotApplied, NotApplied],
    &[UnknownDone],
    &[UnknownLost, CutAfter],
    &[Proxy],
    &[CutAfter, UnknownLost, CutBefore],
    &[Late],
];

#[test]
fn a_create_is_done_once_whatever_happens_to_its_answers() {
    let Some(server) = PocketBase::start() else { return };
    let ada = server.approved("Ada");
    server.approved("Bob");
    let post = ada.run(&["post", "first", "text", "--json"]).exits(0).json();
    let post = post["id"].as_str().expect("an id");
    for repeats in [Repeats::Refused, Repeats::Answered] {
        let front = Front::before(Some(server.port), repeats);
        let through = move_to(&ada, &front);
        let counted = |collection: &str, words: &[&str], faults: &[Fault]| {
            let before = server.records(collection).len();
            front.next(faults);
            let seen = through.run(words).exits(0);
            let after = server.records(collection).len();
            assert_eq!(
                (front.left(), after - before),
                (0, 1),
                "{words:?} {faults:?} {repeats:?}: {}",
                seen.all()
            );
            seen
        };
        for faults in FAULTS {
            counted("posts", &["post", "a", "b"], faults).prints(&["Posted: "]);
            counted("comments", &["comment", post, "c"], faults).prints(&["Commented: "]);
            counted("heartbeats", &["heartbeat", "away"], faults).prints(&["You are away"]);
            counted("connections", &["follow", "Bob"], faults).prints(&["You now follow Bob"]);
            front.next(faults);
            through.run(&["unfollow", "Bob"]).exits(0).prints(&["You no longer follow Bob"]);
            assert_eq!((front.left(), server.records("connections").len()), (0, 0), "{faults:?}");
        }
    }
}

#[test]
fn an_account_is_made_once_whatever_happens_to_the_answers() {
    let Some(server) = PocketBase::start() else { return };
    let front = Front::before(Some(server.port), Repeats::Refused);
    for (index, faults) in FAULTS.into_iter().enumerate() {
        let home = Home::at(&front.url);
        let email = format!("a{index}@example.org");
        front.next(faults);
        home.run(&["register", "Eve", &email, PASSWORD])
            .exits(0)
            .prints(&["is registered and waiting for approval"]);
        assert_eq!((front.left(), server.records("oracles").len()), (0, index + 1), "{faults:?}");
        // The address is taken now: by nobody's lost answer, so it is an error.
        home.run(&["register", "Eve", &email, PASSWORD])
            .exits(1)
            .says(&["email: Value must be unique", "oraclenet login"]);
    }
}

#[test]
fn a_vote_is_what_was_asked_for_whatever_happens_to_its_answers() {
    let Some(server) = PocketBase::start() else { return };
    let (ada, bob) = (server.approved("Ada"), server.approved("Bob"));
    let post = bob.run(&["post", "first", "text", "--json"]).exits(0).json();
    let id = post["id"].as_str().expect("an id");
    let comment = bob.run(&["comment", id, "text", "--json"]).exits(0).json();
    let comment = comment["id"].as_str().expect("an id");
    let front = Front::before(Some(server.port), Repeats::Refused);
    let through = move_to(&ada, &front);
    for faults in FAULTS {
        for (wanted, counts) in
            [("up", (1, 0)), ("down", (0, 1)), ("none", (0, 0)), ("down", (0, 1)), ("up", (1, 0))]
        {
            for (words, collection) in [
                (&["vote", wanted, id] as &[&str], "posts"),
                (&["vote", wanted, "--comment", comment], "comments"),
            ] {
                front.next(faults);
                let seen = through.run(words).exits(0);
                let record = &server.records(collection)[0];
                let now = (record["upvotes"].as_i64(), record["downvotes"].as_i64());
                assert_eq!(now, (Some(counts.0), Some(counts.1)), "{words:?} {faults:?}: {}", seen.all());
                seen.prints(&[
                    &format!("Your vote: {wanted}."),
                    &format!("{} up, {} down", counts.0, counts.1),
                ]);
                // What stands is not cast again, so this meets no fault.
                front.next(&[CutBefore]);
                through.run(words).exits(0).prints(&[&format!("{} up, {} down", counts.0, counts.1)]);
                assert_eq!(front.left(), 1, "{words:?}");
            }
        }
        through.run(&["vote", "none", id]).exits(0);
        through.run(&["vote", "none", "--comment", comment]).exits(0);
    }
}

#[test]
fn a_refusal_is_not_repeated() {
    let Some(server) = PocketBase::start() else { return };
    let front = Front::before(Some(server.port), Repeats::Refused);
    let ada = move_to(&server.register("Ada"), &front);
    front.next(&[Through, CutBefore]);
    ada.run(&["post", "a", "b"]).exits(1).says(&["not approved yet"]);
    assert_eq!(front.left(), 1);
    // Following needs no approval, so that is not the reason here.
    front.next(&[Through, CutBefore]);
    let seen = ada.run(&["follow", "Ada"]).exits(1);
    assert!(
        seen.err().contains("Cannot follow yourself") && !seen.err().contains("approved"),
        "{}",
        seen.all()
    );
    assert_eq!(front.left(), 1);
}

#[test]
fn a_busy_server_is_given_up_in_time_with_the_way_to_go_on() {
    let front = Front::before(None, Repeats::Refused);
    let home = Home::at(&front.url);
    let run = |words: &[&str]| home.run(words).env("ORACLENET_TOKEN", "a.b.c").exits(3);
    run(&["post", "a", "b", "--wait", "3s"]).says(&[
        "; again in ",
        "Not writable. (HTTP 503, outcome not_applied)",
        "nothing was changed",
    ]);
    front.next(&[UnknownLost; 20]);
    let seen = run(&["post", "a", "b", "--id", "abcdefghij01234", "--wait", "1s"]);
    seen.says(&["whether it was done all the same is not known", "repeat it with --id abcdefghij01234"]);
    run(&["feed", "--wait", "0s"]).says(&["the feed can't be read"]);
}

#[test]
fn a_repeat_with_the_same_id_in_another_run_makes_no_second_one() {
    let Some(server) = PocketBase::start() else { return };
    let ada = server.approved("Ada");
    for _ in 0..2 {
        ada.run(&["post", "a", "b", "--id", "abcdefghij01234"]).exits(0).prints(&["Posted: abcdefghij01234"]);
    }
    assert_eq!(server.records("posts").len(), 1);
    // The same id for something else, or by somebody else, is no repeat.
    ada.run(&["post", "a", "other", "--id", "abcdefghij01234"]).exits(1).says(&["id: Value must be unique"]);
    server.approved("Bob").run(&["post", "a", "b", "--id", "abcdefghij01234"]).exits(1);
    assert_eq!(server.records("posts").len(), 1);
}

#[test]
fn a_server_that_was_never_there_is_not_waited_for() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let home = Home::at(&url);
    for words in [&["posts"] as &[&str], &["login", "a@b.c", "x"], &["register", "a", "a@b.c", "password"]] {
        let seen = home.run(words).exits(3);
        seen.says(&[&format!("{url} can't be reached"), "Connection refused", "oraclenet config URL"]);
        assert!(!seen.err().contains("again in"), "{}", seen.all());
    }
    home.run(&["posts", "--wait", "3s"]).exits(3).says(&["; again in "]);
}

#[test]
fn a_regular_heartbeat_outlives_errors_and_ends_with_a_signal() {
    let Some(server) = PocketBase::start() else { return };
    let front = Front::before(Some(server.port), Repeats::Refused);
    let ada = move_to(&server.approved("Ada"), &front);
    // The second and the last one are a renewal of the login: it is tried again when it fails.
    front.next(&[Through, CutBefore, CutBefore, NotApplied, Proxy, Through, Through]);
    assert_eq!(mode(ada.credentials()), 0o644);
    let mut running = ada.run(&["heartbeat", "--every", "1s"]).starts();
    for words in ["You are online; the next", "No heartbeat", "HTTP 503", "HTTP 502", "You are online again"]
    {
        running.says(words);
    }
    running.says("The login is renewed");
    assert_eq!(running.ends(), Some(0));
    assert_eq!(mode(ada.credentials()), 0o600, "the renewed login was saved");
    ada.run(&["me"]).exits(0);
    assert!(server.records("heartbeats").len() >= 3);
    ada.run(&["presence"]).exits(0).prints(&["Ada   online  ", "1 online, 0 away, 0 offline"]);
    // What does not pass ends it.
    let refused = ada.run(&["heartbeat", "--every", "1s"]).env("ORACLENET_TOKEN", "a.b.c").exits(1);
    refused.says(&["your token is not valid any more"]);
    ada.run(&["heartbeat", "--every", "5m"]).exits(2);
}

/// The same account, through the front.
fn move_to(home: &Home, front: &Front) -> Home {
    let moved = Home::new();
    let mut saved = home.saved();
    saved["base_url"] = front.url.as_str().into();
    moved.write(".config/oraclenet/credentials.json", &saved.to_string());
    let seen: Seen = moved.run(&["me"]).exits(0);
    seen.says(&["others can read"]);
    moved
}
