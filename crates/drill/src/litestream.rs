//! Litestream 0.3.13, for comparison: what it came to in the same place when that was recorded, and how to measure it
//! again.
//!
//! The figures are of one run of another day and are always shown as that. `docs/proof.md` shows the same run; a test
//! keeps both the same.

use crate::error::DrillError;
use crate::expect::{Row, TABLE};
use crate::run::{ANSWER, in_path, version};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The version that is compared with.
const VERSION: &str = "0.3.13";

/// A run that was recorded.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Of what.
    pub version: &'static str,
    /// The day.
    pub on: &'static str,
    /// The commit of the harness.
    pub commit: &'static str,
    /// The machine and the build.
    pub machine: &'static str,
    /// One for each scenario.
    pub scenarios: [Figures; 10],
}

/// What a scenario came to then.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The scenario.
    pub name: &'static str,
    /// The verdict.
    pub verdict: &'static str,
    /// Writes that were answered with 2xx.
    pub acknowledged: u32,
    /// Of them, those that were gone.
    pub lost: u32,
    /// Of them, those that were acknowledged while no bucket could be reached.
    pub unbacked: u32,
    /// Reads that should have found their post and did not; nothing where the judge did not look then.
    pub stale: Option<u32>,
}

/// The one record.
pub const RECORDED: Recorded = Recorded {
    version: VERSION,
    on: "2026-11-26",
    commit: "a8d15c4",
    machine: "two cores, shared with other work, a debug build, the bucket in the same process",
    scenarios: [
        figures("redeploy", "BROKEN", 396, 112, Some(20)),
        figures("rollback", "BROKEN", 530, 136, Some(47)),
        figures("crash", "held", 264, 0, None),
        figures("wipe", "BROKEN", 345, 64, None),
        figures("slow-bucket", "BROKEN", 812, 228, Some(24)),
        Figures { unbacked: 627, ..figures("bucket-outage", "BROKEN", 891, 0, None) },
        figures("straggler", "BROKEN", 453, 73, None),
        figures("two-at-once", "BROKEN", 578, 538, Some(240)),
        figures("fresh-over-backup", "BROKEN", 100, 0, None),
        figures("wrong-key", "BROKEN", 100, 0, None),
    ],
};

const fn figures(
    name: &'static str,
    verdict: &'static str,
    acknowledged: u32,
    lost: u32,
    stale: Option<u32>,
) -> Figures {
    Figures { name, verdict, acknowledged, lost, unbacked: 0, stale }
}

impl Recorded {
    /// Of when and where the figures are.
    #[must_use]
    pub fn label(&self) -> String {
        let Self { version, on, commit, machine, .. } = self;
        format!(
            "Litestream {version}, recorded {on} at commit {commit} ({machine}), not measured in this run"
        )
    }
}

impl Figures {
    /// For a table.
    #[must_use]
    pub fn stale_words(&self) -> String {
        self.stale.map_or_else(|| "-".to_owned(), |stale| stale.to_string())
    }
}

/// Where the program may be: where the user says, else in the PATH or in the cache of this repository's tests. Nothing is run.
#[must_use]
pub fn candidates(env: &dyn Fn(&str) -> Option<String>, given: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(program) = given {
        return vec![program];
    }
    let caches = env("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| Some(PathBuf::from(env("HOME")?).join(".cache")));
    let cached = caches.map(|caches| caches.join("litekeep-tests/peers/litestream-0.3.13/litestream"));
    let cached = cached.filter(|file| file.is_file());
    in_path(env, "litestream").into_iter().chain(cached).collect()
}

/// The program, asked for its version.
///
/// # Errors
/// What the user says, or all that was found, is something else. `None`: nothing was found.
pub fn find(
    env: &dyn Fn(&str) -> Option<String>,
    given: Option<PathBuf>,
) -> Result<Option<PathBuf>, DrillError> {
    let found = candidates(env, given);
    let mut wrong = None;
    for program in found {
        match version(&program) {
            Some(said) if said.contains(VERSION) => return Ok(Some(program)),
            Some(other) => {
                let what = format!("{} is Litestream {other}, not {VERSION}", program.display());
                wrong = wrong.or(Some(what));
            }
            None => {
                wrong = wrong
                    .or(Some(format!("{} does not say its version within {ANSWER:?}", program.display())))
            }
        }
    }
    wrong.map_or(Ok(None), |what| Err(DrillError::usage(what)))
}

/// What to type to measure the same scenarios with that program here.
#[must_use]
pub fn command(program: &Path, rows: &[Row]) -> String {
    let program = program.display().to_string().replace('\'', "'\\''");
    let named = rows.iter().filter(|_| rows.len() < TABLE.len());
    let named: String = named.map(|row| format!(" {}", row.name)).collect();
    format!("oraclenet prove --engine litestream --litestream '{program}'{named}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_the_one_of_the_documentation() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(folder.join("../../docs/proof.md")).unwrap();
        let (before, table) = text.split_once("Litestream 0.3.13: verdict |").unwrap();
        let rows: Vec<Vec<&str>> =
            table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>()).collect();
        for it in &RECORDED.scenarios {
            let name = format!("`{}`", it.name);
            let row = rows.iter().find(|row| row.get(1) == Some(&name.as_str())).unwrap();
            let lost = match it.unbacked {
                0 => it.lost.to_string(),
                unbacked => format!("{} ({unbacked} without a bucket)", it.lost),
            };
            let wanted = [it.verdict, &it.acknowledged.to_string(), &lost, &it.stale_words()];
            assert_eq!(row[9..13], wanted, "{name}");
        }
        let intro = before.split_once("## Results").unwrap().1.replace('\n', " ").to_lowercase();
        for part in [RECORDED.on, RECORDED.commit, RECORDED.machine] {
            assert!(intro.contains(part), "{part}: {intro}");
        }
        assert!(TABLE.iter().zip(&RECORDED.scenarios).all(|(row, it)| row.name == it.name));
    }

    #[test]
    fn the_command_names_the_scenarios_of_the_run() {
        let program = Path::new("/opt/it's/litestream");
        let all = "oraclenet prove --engine litestream --litestream '/opt/it'\\''s/litestream'";
        assert_eq!(command(program, &TABLE), all);
        assert_eq!(command(program, &TABLE[..2]), format!("{all} redeploy rollback"));
    }
}
