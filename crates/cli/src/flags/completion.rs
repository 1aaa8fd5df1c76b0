//! Completions for shells, made from the table of flags.

use super::{Flag, VERBS, Verb};
use std::fmt::Write;

/// The names that it is called by: its own, and the one that it has where it stands in for Litestream.
const CALLED: [&str; 2] = ["litekeep", "litestream"];

/// What completes a value or an operand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Values {
    /// Files.
    Files,
    /// These words.
    Words(Vec<&'static str>),
    /// Nothing that anybody could guess.
    Free,
}

/// What a flag's value, or an operand, may be, by how the table spells it.
fn values(spelled: &'static str) -> Values {
    let spelled = spelled.trim_matches(['[', ']']);
    match spelled {
        "COMMAND" => Values::Words(names()),
        _ if spelled.contains("PATH") || spelled.contains("URL") => Values::Files,
        _ if spelled.chars().all(|c| c.is_ascii_lowercase() || c == '|') && !spelled.is_empty() => {
            Values::Words(spelled.split('|').collect())
        }
        _ => Values::Free,
    }
}

/// What completes the value of a flag; `None` for a switch. The command of -exec is no command of ours.
fn of_flag(flag: &Flag) -> Option<Values> {
    match (flag.name, flag.value?) {
        ("exec", _) => Some(Values::Files),
        ("level", _) => Some(Values::Words(vec!["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "all"])),
        ("log-level", _) => Some(Values::Words(vec!["trace", "debug", "info", "warn", "error"])),
        (_, spelled) => Some(values(spelled)),
    }
}

/// What completes an operand of a verb.
fn of_operands(verb: &Verb) -> Values {
    verb.operands
        .iter()
        .map(|spelled| values(spelled))
        .find(|values| *values != Values::Free)
        .unwrap_or(Values::Free)
}

fn names() -> Vec<&'static str> {
    VERBS.iter().map(|verb| verb.name).collect()
}

/// What may stand first: every verb, and `help`.
fn first() -> Vec<&'static str> {
    names().into_iter().chain(["help"]).collect()
}

/// The head of what a flag does, up to where the details begin.
fn summary(flag: &Flag) -> String {
    let line = flag.doc.replace('\n', " ");
    line.split(';').next().unwrap_or_default().trim().to_owned()
}

/// In single quotes, for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A script for bash.
pub(crate) fn bash() -> String {
    let (mut by_flag, mut flags, mut operands) = (String::new(), String::new(), String::new());
    let reply = |words: &str| format!("COMPREPLY=($(compgen -W {} -- \"$cur\"))", quoted(words));
    let action = |values: &Values| match values {
        Values::Files => "COMPREPLY=($(compgen -f -- \"$cur\"))".to_owned(),
        Values::Words(words) => reply(&words.join(" ")),
        Values::Free => ":".to_owned(),
    };
    for verb in VERBS {
        for flag in verb.flags {
            if let Some(values) = of_flag(flag) {
                let _ =
                    writeln!(by_flag, "        {}:{}) {}; return ;;", verb.name, flag.name, action(&values));
            }
        }
        let all: Vec<String> = verb.flags.iter().map(|flag| format!("-{}", flag.name)).collect();
        let _ = writeln!(flags, "        {}) flags={} ;;", verb.name, quoted(&all.join(" ")));
        let _ = writeln!(operands, "        {}) {} ;;", verb.name, action(&of_operands(verb)));
    }
    let (first, verbs) = (reply(&first().join(" ")), reply(&names().join(" ")));
    format!(
        "# bash completions of litekeep: source <(litekeep completion bash)\n\
         _litekeep() {{\n    \
             local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} flag= flags=\n    \
             COMPREPLY=()\n    \
             if ((COMP_CWORD == 1)); then {first}; return; fi\n    \
             if [[ $prev == -* ]]; then flag=${{prev#-}} flag=${{flag#-}}; fi\n    \
             case $verb:$flag in\n{by_flag}    esac\n    \
             if [[ $cur == -* ]]; then\n        \
                 case $verb in\n{flags}        esac\n        \
                 if [[ $cur == --* ]]; then\n            \
                     COMPREPLY=($(compgen -P - -W \"$flags\" -- \"${{cur#-}}\"))\n        \
                 else\n            \
                     COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n        \
                 fi\n        \
                 return\n    \
             fi\n    \
             case $verb in\n        help) {verbs} ;;\n{operands}    esac\n\
         }}\n\
         complete -o filenames -F _litekeep {}\n",
        CALLED.join(" ")
    )
}

/// A script for zsh.
pub(crate) fn zsh() -> String {
    let escaped = |text: &str| text.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    let action = |values: &Values| match values {
        Values::Files => "_files".to_owned(),
        Values::Words(words) => format!("({})", words.join(" ")),
        Values::Free => String::new(),
    };
    let (mut verbs, mut cases) = (String::new(), String::new());
    for verb in VERBS {
        let line = quoted(&format!("{}:{}", verb.name, escaped(verb.summary)));
        let _ = writeln!(verbs, "        {line}");
        let _ = writeln!(cases, "        {})\n            _arguments \\", verb.name);
        for flag in verb.flags {
            let value = of_flag(flag)
                .map(|values| format!(":{}:{}", escaped(flag.value.unwrap_or_default()), action(&values)));
            for dash in ["-", "--"] {
                let value = value.as_deref().unwrap_or_default();
                let spec = format!("{dash}{}[{}]{value}", flag.name, escaped(&summary(flag)));
                let _ = writeln!(cases, "                {} \\", quoted(&spec));
            }
        }
        let operand = format!("*:argument:{}", action(&of_operands(verb)));
        let _ = writeln!(cases, "                {} ;;", quoted(&operand));
    }
    let _ = writeln!(verbs, "        'help:print how a command is used'");
    let _ = writeln!(cases, "        help)\n            _arguments '*:command:({})' ;;", names().join(" "));
    format!(
        "#compdef {called}\n\
         # zsh completions of litekeep: source <(litekeep completion zsh), or a file _litekeep in $fpath\n\
         _litekeep() {{\n    \
             local -a verbs\n    \
             verbs=(\n{verbs}    )\n    \
             if (( CURRENT == 2 )); then _describe command verbs; return; fi\n    \
             local verb=$words[2]\n    \
             shift words\n    \
             (( CURRENT-- ))\n    \
             case $verb in\n{cases}    esac\n\
         }}\n\
         if [[ $funcstack[1] == _litekeep ]]; then _litekeep \"$@\"; else compdef _litekeep {called}; fi\n",
        called = CALLED.join(" ")
    )
}

/// A script for fish.
pub(crate) fn fish() -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut out = String::from(
        "# fish completions of litekeep: litekeep completion fish | source\ncomplete -c litekeep -f\n",
    );
    for verb in VERBS {
        let _ = writeln!(
            out,
            "complete -c litekeep -n __fish_use_subcommand -a {} -d {}",
            verb.name,
            quoted(verb.summary)
        );
        let seen = quoted(&format!("__fish_seen_subcommand_from {}", verb.name));
        for flag in verb.flags {
            let spell = if flag.name.len() == 1 { "-s" } else { "-o" };
            let value = match of_flag(flag) {
                None => String::new(),
                Some(Values::Files) => " -r -F".to_owned(),
                Some(Values::Words(words)) => format!(" -x -a {}", quoted(&words.join(" "))),
                Some(Values::Free) => " -x".to_owned(),
            };
            let about = quoted(&summary(flag));
            let _ = writeln!(
                out,
                "complete -c litekeep -n {seen} {spell} {0} -l {0}{value} -d {about}",
                flag.name
            );
        }
        match of_operands(verb) {
            Values::Files => {
                let _ = writeln!(out, "complete -c litekeep -n {seen} -F");
            }
            Values::Words(words) => {
                let _ = writeln!(out, "complete -c litekeep -n {seen} -a {}", quoted(&words.join(" ")));
            }
            Values::Free => {}
        }
    }
    let _ = writeln!(
        out,
        "complete -c litekeep -n __fish_use_subcommand -a help -d 'print how a command is used'"
    );
    let seen = quoted("__fish_seen_subcommand_from help");
    let _ = writeln!(out, "complete -c litekeep -n {seen} -a {}", quoted(&names().join(" ")));
    for other in &CALLED[1..] {
        let _ = writeln!(out, "complete -c {other} -w litekeep");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_flag_of_the_table_is_in_every_completion() {
        for (shell, script) in [("bash", bash()), ("zsh", zsh()), ("fish", fish())] {
            let words: Vec<&str> = script.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
            for verb in VERBS {
                assert!(words.contains(&verb.name), "{shell}: {}", verb.name);
                for flag in verb.flags {
                    let spelled = format!("-{}", flag.name);
                    let there = words.contains(&spelled.as_str())
                        || script.contains(&format!("-o {}", flag.name))
                        || script.contains(&format!("-s {}", flag.name));
                    assert!(there, "{shell}: {} -{}", verb.name, flag.name);
                }
            }
        }
    }

    #[test]
    fn values_are_completed_by_how_they_are_spelled() {
        for (spelled, expected) in [
            ("PATH", Values::Files),
            ("-o PATH REPLICA_URL", Values::Files),
            ("[DB_PATH]", Values::Files),
            ("auto|none", Values::Words(vec!["auto", "none"])),
            ("check", Values::Words(vec!["check"])),
            ("HEX", Values::Free),
            ("", Values::Free),
        ] {
            assert_eq!(values(spelled), expected, "{spelled}");
        }
        assert!(matches!(values("[COMMAND]"), Values::Words(names) if names.contains(&"restore")));
    }
}
