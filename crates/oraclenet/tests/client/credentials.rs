//! The credentials file: whose it is, what it keeps, and where a token goes.

use super::util::{Home, mode};
use serde_json::json;

const FILE: &str = ".config/oraclenet/credentials.json";

#[test]
fn another_address_keeps_who_you_are_and_drops_the_token_with_a_word() {
    let home = Home::new();
    let saved = json!({"base_url": "http://a.example", "token": "t.o.k", "email": "ada@b.c", "oracle_id": "abcdefghij01234", "theme": 1});
    home.write(FILE, &saved.to_string());
    home.run(&["config", "http://a.example/"]).exits(0);
    assert_eq!(home.saved(), saved, "the same address changes nothing");
    let seen = home.run(&["config", "http://b.example"]).exits(0);
    seen.says(&["belongs to http://a.example and was dropped"])
        .prints(&["http://b.example (saved)", "ada@b.c"]);
    let kept = json!({"base_url": "http://b.example", "token": "", "email": "ada@b.c", "oracle_id": "abcdefghij01234", "theme": 1});
    assert_eq!(home.saved(), kept);
    home.run(&["me"]).exits(1).says(&["not logged in at http://b.example"]);
}

#[test]
fn the_file_is_for_its_owner_alone_and_lies_where_the_environment_says() {
    let home = Home::at("http://a.example");
    assert_eq!((mode(home.credentials()), mode(home.path(".config/oraclenet"))), (0o600, 0o700));
    let elsewhere = home.path("elsewhere");
    let xdg = elsewhere.to_str().expect("UTF-8");
    home.run(&["config", "http://b.example"]).env("XDG_CONFIG_HOME", xdg).exits(0);
    assert_eq!(mode(elsewhere.join("oraclenet/credentials.json")), 0o600);
    assert_eq!(home.saved()["base_url"], "http://a.example");
    // A file that others can read is named, and the next save mends it.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(elsewhere.join("oraclenet/credentials.json"), open).expect("opened");
    let config = |url: &str| home.run(&["config", url]).env("XDG_CONFIG_HOME", xdg).exits(0);
    config("http://c.example").says(&["others can read"]);
    assert!(!config("http://d.example").err().contains("others can read"));
    let left = std::fs::read_dir(elsewhere.join("oraclenet")).expect("listed").count();
    assert_eq!(left, 1, "no file that was written on the way is left");
}

#[test]
fn a_file_behind_a_link_stays_behind_it() {
    let home = Home::at("http://a.example");
    let real = home.path("dotfiles.json");
    std::fs::rename(home.credentials(), &real).expect("moved");
    std::os::unix::fs::symlink(&real, home.credentials()).expect("linked");
    home.run(&["config", "http://b.example"]).exits(0);
    assert!(home.credentials().is_symlink());
    assert_eq!(home.saved()["base_url"], "http://b.example");
}

#[test]
fn a_file_that_makes_no_sense_is_left_alone_and_never_repeated() {
    for (text, reason) in [("{\"token\": \"hush", "not a JSON object"), ("[\"hush\"]", "not a JSON object")] {
        let home = Home::new();
        home.write(FILE, text);
        let seen = home.run(&["config", "http://b.example"]).exits(1);
        seen.says(&[reason, FILE]);
        assert!(!seen.all().contains("hush"), "{}", seen.all());
        assert_eq!(std::fs::read_to_string(home.credentials()).expect("it is there"), text);
    }
}

#[test]
fn a_saved_token_goes_to_no_other_server_and_the_environment_wins() {
    let home = Home::new();
    home.write(FILE, &json!({"base_url": "http://a.example", "token": "t.o.k"}).to_string());
    let seen = home.run(&["config"]).env("ORACLENET_BASE_URL", "http://b.example").exits(0);
    let withheld = "token      saved for http://a.example, not sent to http://b.example";
    seen.prints(&["http://b.example (from ORACLENET_BASE_URL)", withheld]);
    let seen = home.run(&["me"]).env("ORACLENET_BASE_URL", "http://b.example").exits(1);
    seen.says(&["not logged in at http://b.example", "is for http://a.example and is sent nowhere else"]);
    let seen = home.run(&["config"]).env("ORACLENET_TOKEN", "o.t.h").exits(0);
    seen.prints(&["http://a.example (saved)", "from ORACLENET_TOKEN"]);
    let seen = Home::new().run(&["config"]).exits(0);
    seen.prints(&["http://localhost:8090 (the default)"]);
    for (name, value) in [("ORACLENET_BASE_URL", "localhost"), ("ORACLENET_TOKEN", "two words")] {
        assert!(home.run(&["config"]).env(name, value).exits_not_zero().err().contains(name), "{name}");
    }
}
