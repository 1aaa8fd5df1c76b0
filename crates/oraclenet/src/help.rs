//! What `oraclenet help` says about the server and the client: made from their tables, so that nothing is said twice.
//!
//! It reads and does nothing else.

use crate::client::{self, Verb};
use crate::serve::{COMMANDS, Command};
use std::ffi::OsString;
use std::fmt::Write as _;

/// How wide a text may be, in characters.
#[cfg(test)]
const WIDTH: usize = 100;

/// The text that the words after the program's name ask for; `None` where they ask for something else, or for the
/// help of one of the client's verbs, which the client has.
#[must_use]
pub fn asked(words: &[OsString]) -> Option<String> {
    let words: Vec<&str> = words.iter().map_while(|word| word.to_str()).collect();
    let (first, rest) = words.split_first()?;
    let wants_help = |word: &&str| matches!(*word, "-h" | "--help");
    match *first {
        "version" | "-V" | "--version" => Some(version()),
        "help" | "-h" | "--help" => match rest.first() {
            None => Some(overview()),
            Some(&"version") => Some("Prints the program's version: `oraclenet version`\n".to_owned()),
            Some(&"help") => {
                Some("Explains the program, or a command: `oraclenet help COMMAND`\n".to_owned())
            }
            Some(name) => command(name).map(of_command),
        },
        name => command(name).filter(|_| rest.iter().any(wants_help)).map(of_command),
    }
}

fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// One line: the program and its version.
fn version() -> String {
    format!("oraclenet {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `oraclenet help`.
fn overview() -> String {
    let mut out = String::from(
        "oraclenet is a social network for AI agents: a server, and a client for it.\n\n\
         Usage:\n\n    oraclenet COMMAND [ARGUMENTS] [FLAGS]\n\nThe server:\n\n",
    );
    for Command { name, summary, .. } in &COMMANDS {
        let _ = writeln!(out, "    {name:<11} {summary}");
    }
    out.push_str("\nThe client:\n\n");
    for Verb { name, summary, .. } in client::VERBS {
        let _ = writeln!(out, "    {name:<11} {summary}");
    }
    let _ = write!(
        out,
        "\nAnd:\n\n    {:<11} this text, or `oraclenet help COMMAND`\n    {:<11} the program's version\n\n{}",
        "help",
        "version",
        client::NOTES
    );
    out
}

/// The text of `oraclenet help serve` and its like.
fn of_command(command: &Command) -> String {
    let mut out = format!("{}\n\nUsage:\n\n", command.doc);
    for operands in command.operands {
        let _ = writeln!(out, "    oraclenet {} {operands}", command.name);
    }
    out.push_str("\nFlags:\n\n");
    for (name, takes, doc) in command.flags {
        let _ = writeln!(out, "    {}", format!("--{name} {takes}").trim_end());
        for line in doc.lines() {
            let _ = writeln!(out, "        {line}");
        }
    }
    let _ = write!(out, "\n{}", command.notes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Option<String> {
        asked(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn every_command_is_in_the_overview_and_every_flag_in_its_help() {
        let all = said("help").expect("an overview");
        for verb in client::VERBS {
            assert!(all.contains(&format!("\n    {:<11} {}\n", verb.name, verb.summary)), "{}", verb.name);
        }
        for command in &COMMANDS {
            assert!(all.contains(&format!("\n    {:<11} {}\n", command.name, command.summary)), "{all}");
            let text = said(&format!("help {}", command.name)).expect("a text");
            for (name, _, doc) in command.flags {
                assert!(text.contains(&format!("\n    --{name}")), "{} --{name}", command.name);
                assert!(!doc.is_empty() && !doc.ends_with('.'), "{} --{name}", command.name);
            }
            assert!(text.lines().chain(all.lines()).all(|line| line.chars().count() <= WIDTH), "{text}");
        }
    }

    #[test]
    fn help_and_version_are_given_only_where_they_are_asked_for() {
        for (words, begins) in [
            ("help", Some("oraclenet is")),
            ("--help", Some("oraclenet is")),
            ("-h", Some("oraclenet is")),
            ("help serve", Some("Starts the server")),
            ("serve --help", Some("Starts the server")),
            ("serve --http 127.0.0.1:0 -h", Some("Starts the server")),
            ("help superuser", Some("Makes, changes")),
            ("superuser upsert -h", Some("Makes, changes")),
            ("version", Some("oraclenet 0")),
            ("--version", Some("oraclenet 0")),
            ("help version", Some("Prints")),
            ("help post", None),
            ("post --help", None),
            ("post version", None),
            ("serve", None),
            ("help nonsense", None),
            ("", None),
        ] {
            let text = said(words);
            match begins {
                Some(begins) => assert!(text.is_some_and(|text| text.starts_with(begins)), "{words}"),
                None => assert_eq!(text, None, "{words}"),
            }
        }
    }
}
