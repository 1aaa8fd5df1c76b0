//! `litekeep doctor`: what a replica's store really does, and what follows from it for the user.
//!
//! The store's own answers come from `litekeep_store::probe`; here is what they mean.

use super::interrupt::Interrupt;
use super::named_or_only;
use crate::flags::{self, Parsed};
use crate::log;
use crate::output;
use crate::text::table;
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep_store::probe::{self, Answer, Findings, Question};
use serde::Serialize;
use std::sync::Arc;

/// From so many minutes on services refuse requests (AWS; others follow it).
const CLOCK_LIMIT_MINUTES: u64 = 15;

/// How a guarantee stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    /// It holds.
    Holds,
    /// Nothing is lost by it, but the user should know.
    Warning,
    /// litekeep cannot run safely.
    Broken,
    /// It could not be found out, and litekeep needs it.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Guarantee {
    standing: Standing,
    text: String,
}

#[derive(Serialize)]
struct Report<'a> {
    replica: &'a str,
    safe: bool,
    checks: Vec<Check<'a>>,
    guarantees: &'a [Guarantee],
    clock_ahead_seconds: Option<i64>,
    requests: u32,
    left_behind: &'a [String],
    interrupted: bool,
}

#[derive(Serialize)]
struct Check<'a> {
    name: &'static str,
    answer: &'static str,
    detail: &'a str,
}

/// Asks the store and tells.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let named = named_or_only(world, parsed)?;
    let level = log::level(world.env.get("LOG_LEVEL").unwrap_or_default());
    log::install(log::Settings { level, json: false, stderr: true, source: false }, Arc::clone(&world.clock));
    let location = named.replica.location();
    let interrupt = Interrupt::listen(Arc::clone(&world.clock), move || {
        output::talk(&format!("ended at once; something may be left below {location}/{}/", probe::FOLDER))
    })?;
    let stop = || interrupt.came();
    let (clock, random) = (Arc::clone(&world.clock), Arc::clone(&world.random));
    let findings = probe::probe(&named.replica, clock, random, &stop).map_err(|error| {
        Trouble::new(format!("the replica {} can't be opened", named.replica.location()))
            .because(&error)
            .hint("check its settings and its keys")
    })?;
    let retention = named.database.as_ref().is_none_or(|database| database.settings.retention);
    let guarantees = guarantees(&findings, retention);
    let safe = is_safe(&findings, &guarantees);
    match parsed.on(&flags::JSON) {
        true => output::json(&report(&findings, &guarantees, safe))?,
        false => output::text(&text(&findings, &guarantees, safe))?,
    }
    match (interrupt.exit(), findings.answer(Question::Reach), safe) {
        (Some(exit), _, _) => Ok(exit),
        (None, _, true) => Ok(Exit::OK),
        (None, Answer::No, false) => Err(unreachable(&findings)),
        (None, _, false) => Ok(Exit::UNFIT),
    }
}

/// The table says it too; whoever looks for errors looks at stderr.
fn unreachable(findings: &Findings) -> Trouble {
    Trouble::new(format!("the replica {} can't be reached", findings.location))
        .cause(why_unreached(findings))
        .about_place(findings.unreached, is_directory(findings))
        .exit(super::restore::UNREACHABLE)
}

/// What a directory refuses is a matter of its permissions; it has no keys.
fn is_directory(findings: &Findings) -> bool {
    findings.location.starts_with("file://")
}

fn why_unreached(findings: &Findings) -> &str {
    let row = findings.rows.iter().find(|row| row.question == Question::Reach);
    row.map_or("", |row| row.detail.as_str())
}

fn is_safe(findings: &Findings, guarantees: &[Guarantee]) -> bool {
    let bad = |it: &Guarantee| matches!(it.standing, Standing::Broken | Standing::Unknown);
    !findings.interrupted && !guarantees.iter().any(bad)
}

/// What the answers mean.
fn guarantees(findings: &Findings, retention: bool) -> Vec<Guarantee> {
    let mut found = Vec::new();
    let mut say = |standing, text: &str| found.push(Guarantee { standing, text: text.to_owned() });
    if findings.answer(Question::Reach) == Answer::Yes {
        permissions(findings, retention, &mut say);
        habits(findings, &mut say);
    } else {
        say(Standing::Broken, &format!("nothing can be replicated or restored: {}", why_unreached(findings)));
    }
    clock(findings, &mut say);
    found
}

type Say<'a> = dyn FnMut(Standing, &str) + 'a;

/// One that is needed: what it means when the answer is yes, and when it is no.
fn needed(findings: &Findings, question: Question, yes: &str, no: &str, say: &mut Say<'_>) {
    match findings.answer(question) {
        Answer::Yes => say(Standing::Holds, yes),
        Answer::No => say(Standing::Broken, no),
        Answer::Unknown => say(Standing::Unknown, &format!("not known: whether {yes}")),
    }
}

fn permissions(findings: &Findings, retention: bool, say: &mut Say<'_>) {
    let (allow, objects) = match is_directory(findings) {
        true => ("let this user", "files"),
        false => ("allow these keys to", "objects"),
    };
    needed(
        findings,
        Question::List,
        "a restore can find what is there",
        &format!("a restore cannot see what is there: {allow} list"),
        say,
    );
    needed(
        findings,
        Question::Read,
        "a restore can read what is there",
        &format!("a restore cannot read: {allow} read {objects}"),
        say,
    );
    needed(
        findings,
        Question::Write,
        "changes can be replicated",
        &format!("changes cannot be replicated: {allow} write {objects}"),
        say,
    );
    needed(
        findings,
        Question::CreateOnly,
        "two instances cannot overwrite each other",
        "two instances can overwrite each other: let one alone write here (-exec then needs -single-writer)",
        say,
    );
    if retention {
        needed(
            findings,
            Question::Delete,
            "retention can delete",
            &format!(
                "retention cannot delete: the replica grows without end; {allow} delete {objects}, or switch retention off"
            ),
            say,
        );
    } else if findings.answer(Question::Delete) == Answer::No {
        say(Standing::Holds, "nothing can be deleted here, and retention is switched off");
    }
    if findings.keeps_versions {
        let text = "the bucket keeps older versions: what retention deletes goes on costing until a lifecycle rule \
                    removes it";
        say(Standing::Warning, text);
    }
}

fn habits(findings: &Findings, say: &mut Say<'_>) {
    if findings.answer(Question::ListAfterPut) == Answer::No {
        let text = "listings lag behind: litekeep asks by name where that matters, other tools may not see the newest";
        say(Standing::Warning, text);
    }
    if findings.answer(Question::Ranges) == Answer::No {
        say(Standing::Warning, "no ranged reads: a restore of large files reads parts of them several times");
    }
}

fn clock(findings: &Findings, say: &mut Say<'_>) {
    let Some(ahead) = findings.clock_ahead_ms else { return };
    let minutes = ahead.unsigned_abs() / 60_000;
    match minutes {
        0 => say(Standing::Holds, "the clocks agree"),
        1..CLOCK_LIMIT_MINUTES => say(
            Standing::Warning,
            &format!(
                "clock is {minutes} minutes off: set it, from {CLOCK_LIMIT_MINUTES} minutes on requests are refused"
            ),
        ),
        _ => say(
            Standing::Broken,
            &format!("clock is {minutes} minutes off: requests will be refused; set this machine's clock"),
        ),
    }
}

fn report<'a>(findings: &'a Findings, guarantees: &'a [Guarantee], safe: bool) -> Report<'a> {
    let check = |row: &'a probe::Finding| Check {
        name: row.question.name(),
        answer: word(row.answer),
        detail: &row.detail,
    };
    Report {
        replica: &findings.location,
        safe,
        checks: findings.rows.iter().map(check).collect(),
        guarantees,
        clock_ahead_seconds: findings.clock_ahead_ms.map(|ms| ms / 1000),
        requests: findings.requests,
        left_behind: &findings.left,
        interrupted: findings.interrupted,
    }
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Unknown => "unknown",
    }
}

fn text(findings: &Findings, guarantees: &[Guarantee], safe: bool) -> String {
    let head = ["check", "answer", "seen"].map(str::to_owned);
    let rows = findings
        .rows
        .iter()
        .map(|row| [row.question.name().to_owned(), word(row.answer).to_owned(), row.detail.clone()]);
    let mut out = table::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    out.push('\n');
    for guarantee in guarantees {
        let mark = match guarantee.standing {
            Standing::Holds => "ok",
            Standing::Warning => "note",
            Standing::Broken => "NO",
            Standing::Unknown => "?",
        };
        out.push_str(&format!("{mark:<5} {}\n", guarantee.text));
    }
    let verdict = match (findings.interrupted, safe) {
        (true, _) => "interrupted: this is not the whole picture",
        (false, true) => "litekeep can run safely here",
        (false, false) => "litekeep cannot run safely here",
    };
    out.push_str(&format!("\n{}: {verdict}\n", findings.location));
    for left in &findings.left {
        out.push_str(&format!("left behind: {left}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_store::ErrorKind;
    use litekeep_store::probe::Finding;

    /// Everything answered with yes, but for these.
    fn findings(answers: &[(Question, Answer)], clock_ahead_ms: Option<i64>) -> Findings {
        let row = |question| {
            let other = answers.iter().find(|(of, _)| *of == question).map(|(_, answer)| *answer);
            Finding { question, answer: other.unwrap_or(Answer::Yes), detail: "why".into() }
        };
        Findings {
            location: "s3://b/p".into(),
            rows: Question::ALL.into_iter().map(row).collect(),
            clock_ahead_ms,
            keeps_versions: false,
            unreached: ErrorKind::FixConfig,
            requests: 1,
            left: Vec::new(),
            interrupted: false,
        }
    }

    #[test]
    fn what_a_directory_refuses_is_told_in_terms_of_permissions() {
        use Question::{Delete, List, Read, Write};
        let no = [List, Read, Write, Delete].map(|question| (question, Answer::No));
        for (location, allow) in [("s3://b/p", "allow these keys to "), ("file:///r", "let this user ")] {
            let findings = Findings { location: location.to_owned(), ..findings(&no, None) };
            let text = text(&findings, &guarantees(&findings, true), false);
            assert_eq!(text.matches(allow).count(), 4, "{location}: {text}");
            assert_eq!(text.contains("keys"), location.starts_with("s3"), "{location}: {text}");
        }
    }

    #[test]
    fn each_answer_means_something_to_the_user() {
        use Answer::{No, Unknown};
        for (answers, ahead, retention, safe, part) in [
            (&[] as &[(Question, Answer)], 200, true, true, "two instances cannot overwrite each other"),
            (&[], 200, true, true, "retention can delete"),
            (&[(Question::CreateOnly, No)], 0, true, false, "two instances can overwrite each other"),
            (&[(Question::CreateOnly, Unknown)], 0, true, false, "not known: whether two instances cannot"),
            (&[(Question::Delete, No)], 0, true, false, "retention cannot delete"),
            (&[(Question::Delete, No)], 0, false, true, "retention is switched off"),
            (&[(Question::List, No)], 0, true, false, "allow these keys to list"),
            (&[(Question::Read, No)], 0, true, false, "a restore cannot read"),
            (&[(Question::Write, No)], 0, true, false, "changes cannot be replicated"),
            (&[(Question::Reach, No)], 0, true, false, "nothing can be replicated or restored: why"),
            (&[(Question::ListAfterPut, No)], 0, true, true, "listings lag"),
            (&[(Question::Ranges, No)], 0, true, true, "no ranged reads"),
            (
                &[(Question::IfMatchQuoted, No), (Question::ConditionalDelete, No)],
                0,
                true,
                true,
                "can be repl",
            ),
            (&[], 61 * 60_000, true, false, "clock is 61 minutes off: requests will be refused"),
            (&[], -61 * 60_000, true, false, "clock is 61 minutes off: requests will be refused"),
            (&[], 15 * 60_000, true, false, "clock is 15 minutes off"),
            (&[], 15 * 60_000 - 1, true, true, "clock is 14 minutes off: set it"),
            (&[], 60_000 - 1, true, true, "the clocks agree"),
        ] {
            let findings = findings(answers, Some(ahead));
            let found = guarantees(&findings, retention);
            let text = text(&findings, &found, safe);
            assert_eq!(is_safe(&findings, &found), safe, "{answers:?} {ahead}: {text}");
            assert!(text.contains(part), "{answers:?} {ahead}: {text}");
        }
    }
}
