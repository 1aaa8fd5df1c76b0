//! Manual pages as roff, made from the table of flags, the table of exit codes and the sections of the configuration.

use super::{Flag, VERBS, Verb};
use crate::config::unknown::sections;
use crate::trouble::{EXIT_OF_A_COMMAND, EXITS};
use std::fmt::Write;

/// `litekeep(1)`: every command with its flags.
pub(crate) fn overview() -> String {
    let mut out = head("litekeep", "replicates SQLite databases continuously, and restores them");
    out.push_str(
        ".SH SYNOPSIS\n.B litekeep\n.I command\n.RI [ flags ]\n.RI [ arguments ]\n.SH DESCRIPTION\n",
    );
    text(
        &mut out,
        "litekeep keeps SQLite databases in a bucket or a directory while they are written to, and restores them to \
         any point in time. It takes the configuration, the commands and the backups of Litestream.\n\n\
         Flags may be written with one dash or two, before or behind the arguments.",
    );
    out.push_str(".SH COMMANDS\n");
    for verb in VERBS {
        let _ = writeln!(out, ".SS litekeep {}", escaped(verb.name));
        synopsis(&mut out, verb);
        out.push_str(".PP\n");
        text(&mut out, verb.doc);
        verb.flags.iter().for_each(|flag| option(&mut out, flag));
    }
    exit_status(&mut out);
    out.push_str(".SH FILES\n.TP\n.I /etc/litestream.yml\nThe configuration file where no other is named.\n");
    out
}

/// `litekeep-VERB(1)`.
pub(crate) fn page(verb: &Verb) -> String {
    let mut out = head(&format!("litekeep-{}", verb.name), verb.summary);
    out.push_str(".SH SYNOPSIS\n");
    synopsis(&mut out, verb);
    out.push_str(".SH DESCRIPTION\n");
    text(&mut out, verb.doc);
    if !verb.aliases.is_empty() {
        let _ = writeln!(out, ".PP\nAlso called: {}", escaped(&verb.aliases.join(", ")));
    }
    if !verb.flags.is_empty() {
        out.push_str(".SH OPTIONS\n");
    }
    verb.flags.iter().for_each(|flag| option(&mut out, flag));
    if verb.name == "config" {
        keys(&mut out);
    }
    exit_status(&mut out);
    out.push_str(".SH SEE ALSO\n.BR litekeep (1)\n");
    out
}

fn head(name: &str, summary: &str) -> String {
    format!(
        ".TH {} 1 \"\" \"litekeep {}\"\n.nh\n.ad l\n.SH NAME\n{} \\- {}\n",
        name.to_ascii_uppercase().replace('-', "\\-"),
        env!("CARGO_PKG_VERSION"),
        escaped(name),
        escaped(summary)
    )
}

fn synopsis(out: &mut String, verb: &Verb) {
    for (at, operands) in verb.operands.iter().enumerate() {
        let line = format!("litekeep {} [flags] {operands}", verb.name);
        let _ = writeln!(out, "{}{}", if at > 0 { ".br\n" } else { "" }, escaped(line.trim_end()));
    }
}

fn option(out: &mut String, flag: &Flag) {
    let _ = write!(out, ".TP\n\\fB\\-{}\\fR", escaped(flag.name));
    if let Some(value) = flag.value {
        let _ = write!(out, " \\fI{}\\fR", escaped(value));
    }
    out.push('\n');
    text(out, flag.doc);
    if let Some(default) = flag.default {
        let _ = writeln!(out, "(default: {})", escaped(default));
    }
}

fn exit_status(out: &mut String) {
    out.push_str(".SH EXIT STATUS\n");
    for exit in EXITS {
        let _ = writeln!(out, ".TP\n.B {}\n{}: {}", exit.code, escaped(exit.name), escaped(exit.meaning));
    }
    out.push_str(".PP\n");
    text(out, EXIT_OF_A_COMMAND);
}

/// The keys that the configuration file may hold.
fn keys(out: &mut String) {
    out.push_str(".SH KEYS\n");
    text(
        out,
        "What each means is in Litestream's documentation; COMPAT.md has the differences. Keys of what is not built in are \
         refused by name, and so is every key that is not listed here.",
    );
    for (section, mut keys) in sections() {
        keys.sort_unstable();
        let _ = writeln!(out, ".TP\n{}\n{}", escaped(section), escaped(&keys.join(", ")));
    }
}

/// Paragraphs, an empty line between two.
fn text(out: &mut String, text: &str) {
    for line in text.lines() {
        match line.trim() {
            "" => out.push_str(".PP\n"),
            line => {
                let _ = writeln!(out, "{}", escaped(line));
            }
        }
    }
}

/// A text of which roff takes nothing for a request or an escape.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_flag_of_the_table_is_in_the_manual() {
        let all = overview();
        for verb in VERBS {
            assert!(all.contains(&format!(".SS litekeep {}\n", verb.name)), "{}", verb.name);
            let page = page(verb);
            for flag in verb.flags {
                let line = format!(".TP\n\\fB\\-{}\\fR", escaped(flag.name));
                assert!(page.contains(&line) && all.contains(&line), "{} -{}", verb.name, flag.name);
            }
            for exit in EXITS {
                assert!(page.contains(&format!(".B {}\n{}", exit.code, escaped(exit.name))), "{}", exit.name);
            }
        }
    }

    #[test]
    fn no_text_is_taken_for_a_request() {
        for page in VERBS.iter().map(page).chain([overview()]) {
            for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
                let request = line[1..].split(' ').next().unwrap_or_default();
                let known = ["TH", "nh", "ad", "SH", "SS", "TP", "PP", "B", "I", "BR", "RI", "br"];
                assert!(known.contains(&request), "{line}");
            }
        }
        assert_eq!(escaped(".x -y \\z"), "\\&.x \\-y \\ez");
    }
}
