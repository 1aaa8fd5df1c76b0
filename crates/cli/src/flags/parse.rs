//! Arguments to flags and operands, by the table of the verb; knows no flag by name.
//!
//! Go's rules: `-x` and `--x` are the same, `-x=value` and `-x value`, a switch takes its value only after `=`, `--`
//! ends the flags, of a repeated flag the last one counts. Unlike Go's, flags may also follow the operands.

use super::{Flag, Verb, nearest};
use crate::trouble::Trouble;
use std::collections::BTreeMap;

/// What the arguments of one verb say.
#[derive(Debug)]
pub(crate) enum Line {
    /// `-h` was among them.
    Help,
    /// Everything else.
    Go(Parsed),
}

/// Flags by name, and operands in order.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    values: BTreeMap<&'static str, String>,
    /// What is not a flag.
    pub(crate) operands: Vec<String>,
}

impl Parsed {
    /// Whether a switch is on.
    pub(crate) fn on(&self, flag: &Flag) -> bool {
        self.values.get(flag.name).is_some_and(|value| value == "true")
    }

    /// A flag's text where it was given, else its default.
    pub(crate) fn text(&self, flag: &Flag) -> Option<&str> {
        self.given(flag).or(flag.default)
    }

    /// A flag's text only where it was given.
    pub(crate) fn given(&self, flag: &Flag) -> Option<&str> {
        self.values.get(flag.name).map(String::as_str)
    }
}

/// Parses what follows the verb.
///
/// # Errors
/// An unknown flag (naming the nearest one), a missing or illegal value, too many operands.
pub(crate) fn parse(verb: &Verb, args: &[String]) -> Result<Line, Trouble> {
    let mut parsed = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.operands.extend(args.by_ref().cloned());
            break;
        }
        let Some((name, inline)) = as_flag(arg) else {
            parsed.operands.push(arg.clone());
            continue;
        };
        if matches!(name, "h" | "help") {
            return Ok(Line::Help);
        }
        let flag = find(verb, name)?;
        let value = match (flag.value, inline) {
            (None, None) => "true".to_owned(),
            (None, Some(text)) => switch(verb, flag, text)?,
            (Some(_), Some(text)) => text.to_owned(),
            (Some(what), None) => {
                args.next().cloned().ok_or_else(|| usage(verb, format!("flag -{name} needs its {what}")))?
            }
        };
        if flag.empty_is_absent && value.is_empty() {
            parsed.values.remove(flag.name);
        } else {
            parsed.values.insert(flag.name, value);
        }
    }
    if parsed.operands.len() > verb.max_operands {
        let extra = &parsed.operands[verb.max_operands];
        return Err(usage(
            verb,
            format!("too many arguments, from `{}` on", crate::trouble::without_secrets(extra)),
        ));
    }
    Ok(Line::Go(parsed))
}

/// Name and inline value of an argument that is a flag; a lone `-` is an operand.
fn as_flag(arg: &str) -> Option<(&str, Option<&str>)> {
    let body = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    if body.is_empty() {
        return None;
    }
    Some(match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    })
}

/// Flags of a Litestream that are not here: the command, the flag, and what to do instead.
const NOT_HERE: &[(&str, &str, &str)] = &[("restore", "v", "LOG_LEVEL=debug in the environment says more")];

fn find(verb: &Verb, name: &str) -> Result<&'static Flag, Trouble> {
    verb.flags.iter().copied().find(|flag| flag.name == name).ok_or_else(|| {
        let trouble = usage(verb, format!("flag provided but not defined: -{name}"));
        if let Some((_, _, instead)) = NOT_HERE.iter().find(|(of, flag, _)| *of == verb.name && *flag == name)
        {
            return trouble.hint(*instead);
        }
        match nearest(name, verb.flags.iter().map(|flag| flag.name)) {
            Some(near) => trouble.hint(format!("did you mean -{near}?")),
            None => trouble,
        }
    })
}

/// The spellings of a boolean that Go's `strconv.ParseBool` knows.
fn switch(verb: &Verb, flag: &Flag, text: &str) -> Result<String, Trouble> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_owned()),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_owned()),
        _ => Err(usage(verb, format!("invalid value `{text}` for -{}: true or false", flag.name))),
    }
}

fn usage(verb: &Verb, what: impl Into<String>) -> Trouble {
    Trouble::new(what).hint(format!("`litekeep {} -h` lists its flags", verb.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    fn restore(args: &[&str]) -> Result<Line, Trouble> {
        let verb = flags::verb("restore").expect("the table has it");
        parse(verb, &args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    fn go(args: &[&str]) -> Parsed {
        match restore(args) {
            Ok(Line::Go(parsed)) => parsed,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn every_spelling_of_a_flag_means_the_same() {
        for args in [
            &["-o", "out.db", "s3://b"] as &[&str],
            &["--o", "out.db", "s3://b"],
            &["-o=out.db", "s3://b"],
            &["--o=out.db", "s3://b"],
            &["s3://b", "-o", "out.db"],
            &["-o", "first.db", "-o", "out.db", "s3://b"],
            &["-o", "out.db", "--", "s3://b"],
        ] {
            let parsed = go(args);
            assert_eq!(parsed.text(&flags::OUTPUT), Some("out.db"), "{args:?}");
            assert_eq!(parsed.operands, ["s3://b"], "{args:?}");
        }
    }

    #[test]
    fn a_switch_takes_a_value_only_after_an_equals_sign() {
        for (args, on) in [
            (&["-force"] as &[&str], true),
            (&["--force=1"], true),
            (&["-force=T"], true),
            (&["-force=false"], false),
            (&["-force", "-force=0"], false),
            (&[], false),
        ] {
            assert_eq!(go(args).on(&flags::FORCE), on, "{args:?}");
        }
        assert_eq!(go(&["-force", "true"]).operands, ["true"]);
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        let parsed = go(&["-o", "-force", "-txid=", "-timestamp", "a=b", "x"]);
        assert_eq!(parsed.text(&flags::OUTPUT), Some("-force"));
        assert_eq!(parsed.given(&flags::TXID), Some(""));
        assert_eq!(parsed.given(&flags::TIMESTAMP), Some("a=b"));
        assert!(!parsed.on(&flags::FORCE));
        assert_eq!(go(&["-"]).operands, ["-"]);
        assert_eq!(go(&["--", "-force"]).operands, ["-force"]);
    }

    #[test]
    fn an_empty_value_is_as_none_where_litestream_cannot_tell_them_apart() {
        for verb in flags::VERBS {
            for flag in verb.flags.iter().copied().filter(|flag| flag.value.is_some()) {
                // numbers, durations, choices and identifiers that Litestream reads itself, and paths with a default
                let read = ["txid", "integrity-check", "parallelism", "follow-interval", "index", "level"];
                let ours = ["hand-over", "ready-timeout", "timeout", "socket"];
                let kept = read.contains(&flag.name) || ours.contains(&flag.name);
                for spelled in
                    [vec![format!("-{}", flag.name), String::new()], vec![format!("-{}=", flag.name)]]
                {
                    let Ok(Line::Go(parsed)) = parse(verb, &spelled) else { panic!("{spelled:?}") };
                    assert_eq!(parsed.given(flag), kept.then_some(""), "{} {spelled:?}", verb.name);
                    let twice = [vec![format!("-{}=x", flag.name)], spelled].concat();
                    let Ok(Line::Go(parsed)) = parse(verb, &twice) else { panic!("{twice:?}") };
                    assert_eq!(
                        parsed.given(flag),
                        kept.then_some(""),
                        "the last one counts: {} {twice:?}",
                        verb.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_default_counts_only_as_text() {
        let parsed = go(&["x"]);
        assert_eq!(parsed.text(&flags::PARALLELISM), Some("8"));
        assert_eq!(parsed.given(&flags::PARALLELISM), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (args, what, hint) in [
            (&["-forse", "x"] as &[&str], "-forse", "-force"),
            (&["-if-replica-exist", "x"], "-if-replica-exist", "-if-replica-exists"),
            (&["-qqqqqq"], "-qqqqqq", "lists its flags"),
            (&["-o"], "-o needs its", "lists its flags"),
            (&["-force=maybe"], "maybe", "lists its flags"),
            (&["a", "b"], "from `b` on", "lists its flags"),
        ] {
            let error = restore(args).expect_err("an error").to_string();
            assert!(error.contains(what) && error.contains(hint), "{args:?}: {error}");
        }
    }

    #[test]
    fn help_is_asked_for_in_four_spellings_and_never_as_a_value() {
        for arg in ["-h", "--h", "-help", "--help"] {
            assert!(matches!(restore(&["x", arg]), Ok(Line::Help)), "{arg}");
        }
        assert_eq!(go(&["-o", "-h"]).text(&flags::OUTPUT), Some("-h"));
    }
}
