//! The evidence: a table and a verdict for the terminal, JSON for programs, and one HTML page that needs nothing else.

use crate::bucket::checksum;
use crate::clock::{Clock, Ms, date};
use crate::error::DrillError;
use crate::exit;
use crate::expect::{ALWAYS, Row};
use crate::facts::{Container, Facts};
use crate::judge::{Measures, Verdict};
use crate::ledger::Entry;
use crate::litestream::{Figures, Recorded};
use crate::platform::{APP_PLATFORM, SHORT, Timings};
use crate::timeline;
use askama::Template;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// A run and all that was seen.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of the harness.
    pub version: &'static str,
    /// The harness itself, which is also what runs in OracleNet's containers here.
    pub program: Option<Program>,
    /// The older one that was deployed first and rolled back to, if one was given.
    pub previous: Option<Program>,
    /// When the run began, UTC.
    pub began: String,
    /// What ran in the containers.
    pub engine: String,
    /// Where the bucket was.
    pub bucket: String,
    /// Which official program looked at the replica.
    pub official: String,
    /// The platform's times, milliseconds.
    pub timings: Timings,
    /// App Platform's defaults.
    pub app_platform: Timings,
    /// What holds in every scenario.
    pub always: &'static str,
    /// One after the other.
    pub scenarios: Vec<Scenario>,
    /// What Litestream came to in the same place when that was recorded.
    pub litestream: Option<&'static Recorded>,
    /// The command that measures it on this machine, if the program is here.
    pub litestream_here: Option<String>,
    /// What this run wrote into places that others use and could not remove.
    pub left: Vec<String>,
    /// What else is to be said.
    pub notes: Vec<String>,
}

/// A program, by what it is and not by what it says of itself.
#[derive(Debug, Serialize)]
pub struct Program {
    /// Of its file.
    pub sha256: String,
    /// Of its file.
    pub bytes: usize,
}

impl Program {
    /// That of a file, if it can be read.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        let content = std::fs::read(file).ok()?;
        Some(Self { sha256: checksum(&content), bytes: content.len() })
    }
}

/// What `evidence.json` holds: the whole of the run first.
#[derive(Serialize)]
struct Evidence<'a> {
    verdict: String,
    exit_code: u8,
    rpo: String,
    rto: String,
    #[serde(flatten)]
    report: &'a Report,
}

/// A scenario and what became of it.
#[derive(Debug, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What was done.
    pub about: String,
    /// Its row of the table, in words.
    pub expected: String,
    /// When it began, in milliseconds after the run did. All other times of it count from there.
    pub began: Ms,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a scenario.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran, and was judged.
    Judged {
        /// The ledger.
        entries: Vec<Entry>,
        /// What was seen.
        facts: Box<Facts>,
        /// The verdict.
        verdict: Verdict,
    },
    /// It could not even begin.
    Failed {
        /// Why.
        why: String,
    },
    /// It needs something that is not there.
    NotRun {
        /// What.
        why: String,
    },
}

impl Scenario {
    /// A scenario by its row.
    #[must_use]
    pub fn new(row: &Row, began: Ms, outcome: Outcome) -> Self {
        Self { name: row.name.to_owned(), about: row.about.to_owned(), expected: row.words(), began, outcome }
    }

    /// Whether it ran and everything held.
    #[must_use]
    pub fn held(&self) -> bool {
        matches!(&self.outcome, Outcome::Judged { verdict, .. } if verdict.held)
    }

    /// Its result in a word or two.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match &self.outcome {
            Outcome::NotRun { .. } => "not run",
            _ if self.held() => "held",
            Outcome::Judged { verdict, .. } if verdict.violations.is_empty() => "not shown",
            _ => "BROKEN",
        }
    }

    /// Its measures, if it was judged.
    #[must_use]
    pub fn measures(&self) -> Option<&Measures> {
        match &self.outcome {
            Outcome::Judged { verdict, .. } => Some(&verdict.measures),
            _ => None,
        }
    }

    /// What was broken, or why it did not run.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Judged { facts, verdict, .. } => {
                let broken = verdict.violations.iter().map(|it| it.what.clone());
                broken.chain(facts.not_shown.iter().map(|what| format!("not shown: {what}"))).collect()
            }
            Outcome::Failed { why } => vec![why.clone()],
            Outcome::NotRun { why } => vec![format!("not run: {why}")],
        }
    }

    /// One line of progress.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.word().to_owned();
        if let Some(measures) = self.measures() {
            let _ = write!(text, ", {} of {} writes acknowledged", measures.acknowledged, measures.sent);
            let _ = write!(text, ", {} lost, {} restores verified", measures.lost, measures.restores);
        }
        text
    }

    /// The timeline as SVG, if there is one.
    #[must_use]
    pub fn svg(&self) -> String {
        match &self.outcome {
            Outcome::Judged { entries, facts, .. } => timeline::svg(entries, facts),
            _ => String::new(),
        }
    }

    /// Each restore: which container, how much, up to where, in what time, from where.
    #[must_use]
    pub fn restores(&self) -> Vec<String> {
        let containers = self.facts().into_iter().flat_map(|facts| &facts.containers);
        let restored = containers.filter(|container| container.boot.restored.is_some());
        restored.map(|it| format!("{}: {}", it.name, it.restore_words())).collect()
    }

    /// What was seen, if it ran.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match &self.outcome {
            Outcome::Judged { facts, .. } => Some(facts),
            _ => None,
        }
    }
}

impl Container {
    /// A restore in words: what the container said and what it told.
    #[must_use]
    pub fn restore_words(&self) -> String {
        match &self.boot.restored {
            Some(it) => format!(
                "{} bytes up to TXID {} in {} ms from {}",
                it.bytes, it.txid, it.milliseconds, it.from
            ),
            None if self.boot.empty => "a confirmed empty replica".to_owned(),
            None if self.boot.kept => "its own disk".to_owned(),
            None => "nothing was said".to_owned(),
        }
    }

    /// Its end in words.
    #[must_use]
    pub fn end_words(&self) -> String {
        let Some(end) = &self.end else { return "runs".to_owned() };
        let how = match end.code {
            Some(code) => format!("exit code {code}"),
            None => format!("signal {}", end.signal.unwrap_or_default()),
        };
        format!("{how} at {} ms", end.at)
    }
}

#[derive(Template)]
#[template(path = "evidence.html")]
struct Page<'a> {
    report: &'a Report,
    verdict: String,
    rpo: String,
    rto: String,
}

impl Report {
    /// A report without scenarios.
    #[must_use]
    pub fn new(engine: &str, bucket: &str, official: &str, clock: Clock) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            program: None,
            previous: None,
            began: date(clock.began()),
            engine: engine.to_owned(),
            bucket: bucket.to_owned(),
            official: official.to_owned(),
            timings: SHORT,
            app_platform: APP_PLATFORM,
            always: ALWAYS,
            scenarios: Vec::new(),
            litestream: None,
            litestream_here: None,
            left: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// 0 only if every scenario ran and held, and nothing is left behind.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let broken = |it: &&Scenario| it.word() == "BROKEN";
        if self.scenarios.is_empty() || self.scenarios.iter().any(|it| broken(&it)) {
            exit::FAILED
        } else if self.scenarios.iter().all(Scenario::held) && self.left.is_empty() {
            0
        } else {
            exit::INCOMPLETE
        }
    }

    /// The verdict in words.
    #[must_use]
    pub fn verdict(&self) -> String {
        let named = |word: &str| {
            let those = self.scenarios.iter().filter(|it| it.word() == word).map(|it| it.name.as_str());
            those.collect::<Vec<_>>().join(", ")
        };
        let first = match self.exit_code() {
            0 => return format!("everything held, in {} scenarios", self.scenarios.len()),
            exit::INCOMPLETE => "what ran held".to_owned(),
            _ => format!("broken: {}", named("BROKEN")),
        };
        let open = ["not run", "not shown"].map(|word| (word, named(word)));
        let open = open.iter().filter(|(_, names)| !names.is_empty());
        let first = open.fold(first, |text, (word, names)| format!("{text}; {word}: {names}"));
        match self.left.len() {
            0 => first,
            count => format!("{first}; left behind: {count}"),
        }
    }

    /// RPO: acknowledged writes that were lost.
    #[must_use]
    pub fn rpo(&self) -> String {
        let all = self.scenarios.iter().filter_map(Scenario::measures);
        let (mut lost, mut unbacked, mut of) = (0, 0, 0);
        for it in all {
            (lost, unbacked, of) = (lost + it.lost, unbacked + it.unbacked, of + it.acknowledged);
        }
        format!(
            "{lost} of {of} acknowledged writes lost, {unbacked} acknowledged while no bucket could be reached"
        )
    }

    /// RTO: the longest time without a write succeeding.
    #[must_use]
    pub fn rto(&self) -> String {
        let all = self.scenarios.iter().filter_map(|it| Some((it.measures()?.longest_gap, &it.name)));
        all.max().map_or_else(
            || "not measured".to_owned(),
            |(gap, name)| format!("{gap} ms without a write succeeding at the longest ({name})"),
        )
    }

    /// The scenarios that were judged, each with what Litestream came to in it then.
    #[must_use]
    pub fn beside(&self) -> Vec<(&Scenario, &Measures, &'static Figures)> {
        let recorded = self.litestream.map(|it| &it.scenarios[..]).unwrap_or_default();
        let beside = self.scenarios.iter().filter_map(|scenario| {
            let figures = recorded.iter().find(|figures| figures.name == scenario.name)?;
            Some((scenario, scenario.measures()?, figures))
        });
        beside.collect()
    }

    /// The same as text.
    fn beside_text(&self) -> String {
        let (beside, mut out) = (self.beside(), String::new());
        let Some(recorded) = self.litestream.filter(|_| !beside.is_empty()) else { return out };
        let _ = writeln!(
            out,
            "\nbeside it: {}\n{:<18} {:>8} {:>7} {:>5} {:>8} {:>6}    {:>10} {:>7} {:>5} {:>8} {:>6}",
            recorded.label(),
            "scenario",
            "this run",
            "acked",
            "lost",
            "unbacked",
            "stale",
            "Litestream",
            "acked",
            "lost",
            "unbacked",
            "stale"
        );
        for (scenario, own, then) in beside {
            let _ = writeln!(
                out,
                "{:<18} {:>8} {:>7} {:>5} {:>8} {:>6}    {:>10} {:>7} {:>5} {:>8} {:>6}",
                scenario.name,
                scenario.word(),
                own.acknowledged,
                own.lost,
                own.unbacked,
                own.stale,
                then.verdict,
                then.acknowledged,
                then.lost,
                then.unbacked,
                then.stale_words()
            );
        }
        if let Some(command) = &self.litestream_here {
            let _ = writeln!(out, "to measure it here: {command}");
        }
        out.push('\n');
        out
    }

    /// The table and the verdict.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "\n{:<18} {:<8} {:>7} {:>7} {:>5} {:>8} {:>6} {:>10} {:>9} {:>7} {:>6} {:>5} {:>9} {:>11}\n",
            "scenario",
            "verdict",
            "sent",
            "acked",
            "lost",
            "unbacked",
            "twice",
            "unverified",
            "forbidden",
            "failed",
            "reads",
            "stale",
            "in window",
            "longest gap"
        );
        for scenario in &self.scenarios {
            let _ = write!(out, "{:<18} {:<8}", scenario.name, scenario.word());
            if let Some(it) = scenario.measures() {
                let _ = write!(
                    out,
                    " {:>7} {:>7} {:>5} {:>8} {:>6} {:>10} {:>9} {:>7} {:>6} {:>5} {:>9} {:>8} ms",
                    it.sent,
                    it.acknowledged,
                    it.lost,
                    it.unbacked,
                    it.twice,
                    it.unverified,
                    it.forbidden,
                    it.refused + it.cut,
                    it.reads,
                    it.stale,
                    it.stale_inside,
                    it.longest_gap
                );
            }
            out.push('\n');
        }
        out.push_str(&self.beside_text());
        for scenario in &self.scenarios {
            for restore in scenario.restores() {
                let _ = writeln!(out, "restore: {}, {restore}", scenario.name);
            }
        }
        for scenario in self.scenarios.iter().filter(|it| !it.held()) {
            for complaint in scenario.complaints() {
                let _ = writeln!(out, "  {}: {complaint}", scenario.name);
            }
        }
        let notes = self.scenarios.iter().filter_map(Scenario::facts).flat_map(|facts| &facts.notes);
        for note in self.notes.iter().chain(notes) {
            let _ = writeln!(out, "note: {note}");
        }
        for what in &self.left {
            let _ = writeln!(out, "left behind: {what}");
        }
        let _ = writeln!(out, "\nRPO: {}\nRTO: {}\nverdict: {}", self.rpo(), self.rto(), self.verdict());
        out
    }

    /// Writes `evidence.json` and `evidence.html`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), DrillError> {
        let failed = |error: &dyn std::fmt::Display| DrillError::machine(folder.display().to_string(), error);
        let (verdict, rpo, rto) = (self.verdict(), self.rpo(), self.rto());
        let evidence = Evidence { verdict, exit_code: self.exit_code(), rpo, rto, report: self };
        let json = serde_json::to_vec_pretty(&evidence).map_err(|error| failed(&error))?;
        std::fs::write(folder.join("evidence.json"), json).map_err(|error| failed(&error))?;
        let page = Page { report: self, verdict: self.verdict(), rpo: self.rpo(), rto: self.rto() };
        let html = page.render().map_err(|error| failed(&error))?;
        std::fs::write(folder.join("evidence.html"), html).map_err(|error| failed(&error))
    }
}
