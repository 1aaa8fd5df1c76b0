//! Help texts, made from the table of flags; nothing is said twice.

use super::{Flag, VERBS, Verb};
use crate::text::table;
use crate::trouble::{EXIT_OF_A_COMMAND, EXITS};
use std::fmt::Write;

/// The text of `litekeep help`.
pub(crate) fn overview() -> String {
    let mut out = String::from(
        "litekeep replicates SQLite databases to a bucket or a directory, continuously, and restores them.\n\n\
         Usage:\n\n    litekeep <command> [flags] [arguments]\n\nCommands:\n\n",
    );
    for verb in VERBS {
        row(&mut out, verb.name, verb.summary);
    }
    row(&mut out, "help", "this text, `litekeep help <command>`, or `litekeep help exit-codes`");
    out.push_str(
        "\nFlags may be written with one dash or two. `litekeep <command> -h` lists those of a command.\n",
    );
    out
}

/// The text of `litekeep <verb> -h`.
pub(crate) fn verb(verb: &Verb) -> String {
    let mut out = format!("{}\n\nUsage:\n\n", verb.doc);
    for operands in verb.operands {
        let line = format!("    litekeep {} [flags] {operands}", verb.name);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if !verb.aliases.is_empty() {
        let _ = writeln!(out, "\nAlso called: {}", verb.aliases.join(", "));
    }
    if !verb.flags.is_empty() {
        out.push_str("\nFlags:\n\n");
    }
    for flag in verb.flags {
        flag_lines(&mut out, flag);
    }
    out
}

/// The text of `litekeep help exit-codes`.
pub(crate) fn exit_codes() -> String {
    let head = ["code", "name", "meaning"].map(str::to_owned);
    let rows =
        EXITS.iter().map(|exit| [exit.code.to_string(), exit.name.to_owned(), exit.meaning.to_owned()]);
    let table = table::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    format!("{table}\n{EXIT_OF_A_COMMAND}\n")
}

fn row(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "    {name:<12} {text}");
}

fn flag_lines(out: &mut String, flag: &Flag) {
    let _ = write!(out, "    -{}", flag.name);
    if let Some(value) = flag.value {
        let _ = write!(out, " {value}");
    }
    out.push('\n');
    for line in flag.doc.lines() {
        let _ = writeln!(out, "        {line}");
    }
    if let Some(default) = flag.default {
        let _ = writeln!(out, "        default: {default}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_the_overview_and_every_flag_in_its_help() {
        let overview = overview();
        for verb in VERBS {
            assert!(overview.contains(verb.name), "{}", verb.name);
            let help = super::verb(verb);
            for flag in verb.flags {
                assert!(help.contains(&format!("\n    -{}", flag.name)), "{} -{}", verb.name, flag.name);
                assert!(!flag.doc.is_empty() && !flag.doc.ends_with('.'), "{} -{}", verb.name, flag.name);
            }
            assert!(!verb.operands.is_empty() && !help.contains("  \n"), "{}: {help}", verb.name);
        }
    }
}
