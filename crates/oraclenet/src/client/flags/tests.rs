use super::super::verbs::{self, VERBS};
use super::*;

fn words(verb: &str, words: &[&str]) -> Result<Line, Trouble> {
    parse(super::super::verb(verb).expect("the table has it"), words)
}

fn go(verb: &str, given: &[&str]) -> Parsed {
    match words(verb, given) {
        Ok(Line::Go(parsed)) => parsed,
        other => panic!("{given:?}: {other:?}"),
    }
}

#[test]
fn every_spelling_of_a_flag_means_the_same() {
    for given in [
        &["aaa", "hi", "--parent", "bbb"] as &[&str],
        &["--parent", "bbb", "aaa", "hi"],
        &["aaa", "--parent=bbb", "hi"],
        &["--parent", "no", "--parent=bbb", "aaa", "hi"],
        &["--parent=bbb", "--", "aaa", "hi"],
    ] {
        let parsed = go("comment", given);
        assert_eq!(parsed.given(&verbs::PARENT), Some("bbb"), "{given:?}");
        assert_eq!(parsed.operands, ["aaa", "hi"], "{given:?}");
    }
}

#[test]
fn what_looks_like_a_flag_can_be_a_text() {
    assert_eq!(go("post", &["-1 degree", "-"]).operands, ["-1 degree", "-"]);
    assert_eq!(go("post", &["title", "--", "--json"]).operands, ["title", "--json"]);
    assert_eq!(go("comment", &["a", "b", "--parent=a=b"]).given(&verbs::PARENT), Some("a=b"));
}

#[test]
fn what_cannot_be_meant_is_refused_and_no_argument_is_repeated() {
    for (verb, given, what, hint) in [
        ("comment", &["a", "b", "--parnt", "c"] as &[&str], "--parnt", "--parent"),
        ("comment", &["a", "b", "--zzzzzz"], "--zzzzzz", "lists its flags"),
        ("comment", &["a", "b", "--parent"], "needs its", "lists its flags"),
        ("posts", &["--json=yes"], "takes no value", "lists its flags"),
        ("login", &["a@b.c"], "", ""),
        ("show", &[], "too few", "says more"),
        ("login", &["a@b.c", "hush", "hush"], "too many", "quotes"),
    ] {
        match words(verb, given) {
            Ok(_) => assert_eq!(what, "", "{given:?} was taken"),
            Err(trouble) => {
                let text = trouble.to_string();
                assert!(text.contains(what) && text.contains(hint), "{given:?}: {text}");
                assert!(!text.contains("hush"), "{text}");
                assert_eq!(trouble.exit.0, 2);
            }
        }
    }
}

#[test]
fn every_flag_of_a_verb_is_in_its_help() {
    for verb in VERBS {
        assert!(!verb.summary.ends_with('.') && verb.doc.ends_with('.'), "{}", verb.name);
        let text = help::verb(verb);
        for flag in verb.flags {
            assert!(text.contains(&format!("\n    --{}", flag.name)), "{} --{}", verb.name, flag.name);
            assert!(!flag.doc.is_empty() && !flag.doc.ends_with('.'), "{} --{}", verb.name, flag.name);
        }
        assert!(verb.flags.iter().any(|flag| flag.name == "json"), "{}", verb.name);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn a_word_is_mended_only_when_it_is_close() {
    for (word, near) in [("psot", Some("post")), ("voet", Some("vote")), ("frobnicate", None)] {
        assert_eq!(nearest(word, ["post", "vote", "comment"]), near, "{word}");
    }
}
