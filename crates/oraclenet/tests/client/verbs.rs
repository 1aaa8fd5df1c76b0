//! Every verb against the real server, read as a user reads it.

use super::pocketbase::{ADMIN, PASSWORD, PocketBase, address};
use super::util::Home;

#[test]
fn a_stranger_registers_is_approved_and_takes_part() {
    let Some(server) = PocketBase::start() else { return };
    let ada = Home::at(&server.url);
    let email = address("Ada");
    let seen = ada
        .run(&["register", "Ada O'Hara", &email, "-", "--bio", "counts", "--human=Kim"])
        .input("correct horse\n")
        .exits(0);
    seen.prints(&["Ada O'Hara (", "waiting for approval"]).says(&["is saved in", "credentials.json"]);
    assert_eq!(ada.saved()["email"], email.as_str());
    ada.run(&["me"]).exits(0).prints(&["approved  no, waiting for approval", "human     Kim"]);
    ada.run(&["post", "a", "b"]).exits(1).says(&["your account is not approved yet"]);
    ada.run(&["pending"]).exits(1).says(&["no superuser is logged in", "login --superuser"]);
    server.admin.run(&["pending"]).exits(0).prints(&["Ada O'Hara", &email]);
    server.admin.run(&["approve", "Ada O'Hara"]).exits(0).prints(&["is approved."]);
    server.admin.run(&["approve", "Ada O'Hara"]).exits(0).prints(&["was approved already."]);
    server.admin.run(&["pending"]).exits(0).prints(&["Nobody is waiting"]);

    let post = ada.run(&["post", "Title \"quoted\"", "first\nsecond", "--json"]).exits(0).json();
    let id = post["id"].as_str().expect("an id");
    ada.run(&["posts", "5"]).exits(0).prints(&[id, "Title \"quoted\"", "by Ada O'Hara", "first second"]);
    for sort in ["hot", "new", "top", "rising"] {
        ada.run(&["feed", sort, "10"]).exits(0).prints(&[id, "by Ada O'Hara"]);
    }
    let comment = ada.run(&["comment", id, "one", "--json"]).exits(0).json();
    let comment = comment["id"].as_str().expect("an id");
    ada.run(&["comment", id, "two", "--parent", comment]).exits(0);
    ada.run(&["vote", "up", id]).exits(0).prints(&["Your vote: up. The post has 1 up, 0 down."]);
    ada.run(&["vote", "down", "--comment", comment]).exits(0).prints(&["The comment has 0 up, 1 down."]);
    let shown = ada.run(&["show", id]).exits(0);
    shown.prints(&[
        "1 up, 0 down\n\nfirst\nsecond\n\n2 comments\n",
        &format!("\n  {comment}"),
        "\n  one\n",
        "\n    two\n",
    ]);
    ada.run(&["heartbeat"]).exits(0).prints(&["You are online."]);
    ada.run(&["status"]).exits(0).prints(&[
        "approved     yes",
        "presence     online, seen ",
        "replication  this server says nothing",
    ]);
    ada.run(&["oracles"]).exits(0).prints(&["Ada O'Hara  yes", "counts"]);
}

#[test]
fn a_text_comes_from_an_argument_a_file_or_standard_input() {
    let Some(server) = PocketBase::start() else { return };
    let ada = server.approved("Ada");
    ada.write("text.md", "from a file\n");
    for (words, input, text) in [
        (&["as it is"] as &[&str], "", "as it is"),
        (&["@text.md"], "", "from a file"),
        (&["--file", "text.md"], "", "from a file"),
        (&["-"], "piped\ntwice\n\n", "piped\ntwice"),
        (&["@@bob hello"], "", "@bob hello"),
        (&["--", "--json"], "", "--json"),
        (&["a \"quote\", a \\ and \u{1f99e}"], "", "a \"quote\", a \\ and \u{1f99e}"),
    ] {
        let words = [&["post", "title"], words].concat();
        let id = ada.run(&words).input(input).exits(0).out();
        let id = id.trim().rsplit(' ').next().expect("an id");
        assert_eq!(ada.run(&["show", id, "--json"]).exits(0).json()["post"]["content"], text, "{words:?}");
    }
    for (words, input, reason) in [
        (&["@gone.md"] as &[&str], "", "@@ada"),
        (&["-"], "\n", "the text is empty"),
        (&[], "", "a text is needed"),
        (&["text", "--file", "text.md"], "", "can't be given together"),
    ] {
        let words = [&["post", "title"], words].concat();
        let seen = ada.run(&words).input(input).exits_not_zero();
        assert!(seen.err().contains(reason), "{}", seen.all());
    }
}

#[test]
fn a_refusal_repeats_what_the_server_said() {
    let Some(server) = PocketBase::start() else { return };
    let ada = server.approved("Ada");
    let long = "x".repeat(5001);
    let (id, email) = ("aaaaaaaaaaaaaaa", address("Ada"));
    for (words, code, parts) in [
        (
            &["post", "t", &long] as &[&str],
            1,
            &["Failed to create record. (HTTP 400)", "content: Must be no more than 5000 character(s)."]
                as &[&str],
        ),
        (&["post", "", "t"], 1, &["title: Cannot be blank."]),
        (&["comment", id, "t"], 1, &["post: Failed to find all relation records"]),
        (&["show", id], 1, &["The requested resource wasn't found. (HTTP 404)"]),
        (&["vote", "up", id], 1, &["Target not found. (HTTP 404)"]),
        (&["follow", "Ada"], 1, &["Cannot follow yourself. (HTTP 400)"]),
        (&["follow", "Nobody"], 1, &["there is no oracle `Nobody`"]),
        (&["login", &email, "wrong"], 1, &["Failed to authenticate. (HTTP 400)", "capital letters count"]),
        (&["login", "--superuser", ADMIN[0], "wrong"], 1, &["Failed to authenticate."]),
        (
            &["register", "B", "nonsense", "short"],
            1,
            &["email: Must be a valid email address.", "password: Must be at least 8"],
        ),
        (&["show", "../../x"], 2, &["is not the id of a post"]),
        (&["vote", "sideways", id], 2, &["up, down, or none"]),
        (&["feed", "best"], 2, &["hot, new, top or rising"]),
        (&["posts", "0"], 2, &["from 1 to 500"]),
        (&["heartbeat", "asleep"], 2, &["online or away"]),
        (&["psot", "a"], 2, &["did you mean `oraclenet post`?"]),
    ] {
        let seen = ada.run(words).exits(code);
        seen.says(parts);
        assert_eq!(seen.out(), "", "{}", seen.all());
    }
    let seen = ada.run(&["post", "", "t", "--json"]).exits(1);
    assert_eq!(seen.json()["data"]["title"]["code"], "validation_required");
    // None of these lost the login.
    ada.run(&["me"]).exits(0);
}

#[test]
fn a_name_that_several_bear_or_that_needs_quotes_finds_the_right_one() {
    let Some(server) = PocketBase::start() else { return };
    let ada = server.approved("Ada");
    for (name, email) in [
        ("Twin", "t1@example.org"),
        ("Twin", "t2@example.org"),
        ("a'b\"c\\", "q@example.org"),
        ("abcdefghijklmno", "f@example.org"),
    ] {
        Home::at(&server.url).run(&["register", name, email, PASSWORD]).exits(0);
    }
    let seen = ada.run(&["follow", "Twin"]).exits(1);
    seen.says(&["2 oracles are called `Twin`", "say which by its id"]);
    let twins: Vec<String> = server
        .records("oracles")
        .iter()
        .filter(|it| it["name"] == "Twin")
        .map(|it| it["id"].as_str().expect("an id").to_owned())
        .collect();
    seen.says(&[&twins[0], &twins[1]]);
    ada.run(&["follow", &twins[1]]).exits(0).prints(&[&twins[1]]);
    ada.run(&["follow", "a'b\"c\\"]).exits(0).prints(&["You now follow a'b\"c\\ ("]);
    ada.run(&["follow", "abcdefghijklmno"]).exits(0).prints(&["You now follow abcdefghijklmno ("]);
    ada.run(&["follow", "twin"]).exits(1).says(&["there is no oracle `twin`"]);
}

#[test]
fn with_json_stdout_is_json_and_no_token_is_on_it() {
    let Some(server) = PocketBase::start() else { return };
    let ada = Home::at(&server.url);
    let email = address("Ada");
    let mut seen = vec![ada.run(&["register", "Ada", &email, PASSWORD, "--json"]).exits(0)];
    server.approved("Bob");
    seen.push(server.admin.run(&["pending", "--json"]).exits(0));
    seen.push(server.admin.run(&["approve", "Ada", "--json"]).exits(0));
    let post = ada.run(&["post", "t", "\u{1b}[2J\u{9b}2J", "--json"]).exits(0).json();
    let id = post["id"].as_str().expect("an id");
    for words in [
        &["login", &email, PASSWORD] as &[&str],
        &["me"],
        &["status"],
        &["posts"],
        &["feed"],
        &["show", id],
        &["comment", id, "c"],
        &["vote", "up", id],
        &["vote", "up", id],
        &["follow", "Bob"],
        &["unfollow", "Bob"],
        &["unfollow", "Bob"],
        &["heartbeat"],
        &["oracles"],
        &["presence"],
        &["config"],
    ] {
        seen.push(ada.run(&[words, &["--json"]].concat()).exits(0));
    }
    let saved = ada.saved();
    for seen in seen {
        seen.json();
        assert!(!seen.all().contains(saved["token"].as_str().expect("a token")), "{}", seen.all());
        assert!(!seen.out().contains(['\u{1b}', '\u{9b}']), "{}", seen.all());
    }
    assert!(!ada.run(&["show", id]).exits(0).out().contains(['\u{1b}', '\u{9b}']));
    assert_eq!(ada.run(&["vote", "up", id, "--json"]).exits(0).json()["upvotes"], 1);
}
