//! Arguments by a table: one entry for each verb and flag serves parsing and help; knows no verb by name.

use super::World;
use super::trouble::Trouble;
use std::collections::BTreeMap;

/// One flag, as parsing and help need it.
#[derive(Debug)]
pub struct Flag {
    /// Without its dashes.
    pub name: &'static str,
    /// What its value is called; `None` for a switch.
    pub value: Option<&'static str>,
    /// What it does; no full stop at the end.
    pub doc: &'static str,
}

impl Flag {
    pub(crate) const fn switch(name: &'static str, doc: &'static str) -> Self {
        Self { name, value: None, doc }
    }

    pub(crate) const fn taking(name: &'static str, value: &'static str, doc: &'static str) -> Self {
        Self { name, value: Some(value), doc }
    }
}

/// One command of the client.
#[derive(Debug)]
pub struct Verb {
    /// What it is called by.
    pub name: &'static str,
    /// What may follow it, one line of usage each.
    pub operands: &'static [&'static str],
    /// The fewest and the most operands.
    pub(crate) count: (usize, usize),
    /// One line for an overview; no full stop at the end.
    pub summary: &'static str,
    /// The head of its help.
    pub doc: &'static str,
    /// Its flags, in the order of its help.
    pub flags: &'static [&'static Flag],
    /// Does it.
    pub(crate) run: fn(&World, &Parsed) -> Result<(), Trouble>,
}

/// What the arguments of one verb say.
#[derive(Debug)]
pub(crate) enum Line {
    /// `--help` was among them.
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
        self.values.contains_key(flag.name)
    }

    /// A flag's text, where it was given.
    pub(crate) fn given(&self, flag: &Flag) -> Option<&str> {
        self.values.get(flag.name).map(String::as_str)
    }

    /// An operand, where it was given.
    pub(crate) fn operand(&self, at: usize) -> Option<&str> {
        self.operands.get(at).map(String::as_str)
    }
}

/// Parses what follows the verb: `--flag value`, `--flag=value`, in any place; `--` ends the flags, of a repeated flag
/// the last one counts. A lone `-` is an operand.
///
/// # Errors
/// An unknown flag (naming the nearest one), a missing value, too few or too many operands.
pub(crate) fn parse(verb: &Verb, words: &[&str]) -> Result<Line, Trouble> {
    let mut parsed = Parsed::default();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--" {
            parsed.operands.extend(words.by_ref().map(str::to_owned));
            break;
        }
        if matches!(word, "-h" | "--help") {
            return Ok(Line::Help);
        }
        let Some(body) = word.strip_prefix("--") else {
            parsed.operands.push(word.to_owned());
            continue;
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let flag = known(verb, name)?;
        let value = match (flag.value, inline) {
            (None, None) => String::new(),
            (None, Some(_)) => return Err(usage(verb, format!("--{name} takes no value"))),
            (Some(_), Some(value)) => value.to_owned(),
            (Some(what), None) => {
                words.next().ok_or_else(|| usage(verb, format!("--{name} needs its {what}")))?.to_owned()
            }
        };
        parsed.values.insert(flag.name, value);
    }
    count(verb, &parsed)?;
    Ok(Line::Go(parsed))
}

fn known(verb: &Verb, name: &str) -> Result<&'static Flag, Trouble> {
    verb.flags.iter().copied().find(|flag| flag.name == name).ok_or_else(|| {
        let what = format!("oraclenet {} has no flag --{name}", verb.name);
        match nearest(name, verb.flags.iter().map(|flag| flag.name)) {
            Some(near) => Trouble::usage(what).hint(format!("did you mean --{near}?")),
            None => usage(verb, what).hint("an argument that begins with -- goes after a lone `--`"),
        }
    })
}

/// Arguments may be passwords, so none is repeated here.
fn count(verb: &Verb, parsed: &Parsed) -> Result<(), Trouble> {
    let ways: Vec<String> = verb
        .operands
        .iter()
        .map(|way| format!("oraclenet {} {way}", verb.name).trim_end().to_owned())
        .collect();
    let (least, most) = verb.count;
    let what = match parsed.operands.len() {
        few if few < least => "too few arguments",
        many if many > most => "too many arguments",
        _ => return Ok(()),
    };
    let trouble = Trouble::usage(format!("oraclenet {}: {what}", verb.name));
    let trouble = ways.iter().fold(trouble, |trouble, way| trouble.cause(format!("it is `{way}`")));
    Err(match what {
        "too many arguments" => trouble.hint("a text with spaces goes between quotes"),
        _ => trouble.hint(format!("`oraclenet help {}` says more", verb.name)),
    })
}

/// The words make no sense for this verb.
pub(crate) fn usage(verb: &Verb, what: impl Into<String>) -> Trouble {
    Trouble::usage(what).hint(format!("`oraclenet help {}` lists its flags", verb.name))
}

/// The known word most like `word`, if one is like it at all: at most a third of its letters differ.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, drop, change or swap with their neighbour between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                table[i][j] = i + j;
                continue;
            }
            let change = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(table[i - 2][j - 2] + 1);
            }
            table[i][j] = least;
        }
    }
    table[a.len()][b.len()]
}

/// Help texts, made from the table; nothing is said twice.
pub(crate) mod help {
    use super::super::verbs::EXITS;
    use super::{Flag, Verb};
    use std::fmt::Write;

    /// The text of `oraclenet help VERB`.
    pub(crate) fn verb(verb: &Verb) -> String {
        let mut out = format!("{}\n\nUsage:\n\n", verb.doc);
        for operands in verb.operands {
            let line = format!("    oraclenet {} {operands}", verb.name);
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out.push_str("\nFlags:\n\n");
        for flag in verb.flags {
            lines(&mut out, flag);
        }
        let _ = write!(out, "\n{EXITS}");
        out
    }

    fn lines(out: &mut String, flag: &Flag) {
        let _ = write!(out, "    --{}", flag.name);
        if let Some(value) = flag.value {
            let _ = write!(out, " {value}");
        }
        out.push('\n');
        for line in flag.doc.lines() {
            let _ = writeln!(out, "        {line}");
        }
    }
}

#[cfg(test)]
mod tests;
