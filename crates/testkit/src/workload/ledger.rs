//! What was committed, in order, so that a restored file can be judged: is it exactly one of these states, and which?

use super::image;
use crate::history::fold;
use rusqlite::Connection;

/// A database's content, as far as it can be known without reading it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Digest of every byte; `None` for a commit whose answer never came.
    pub exact: Option<u64>,
    /// Digest of every byte but the change counters of page 1; `None` where a commit moves pages by itself.
    pub pages: Option<u64>,
    /// Digest of every row.
    pub rows: u64,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// SQLite said so.
    Committed,
    /// The process died before it could.
    Unknown,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// What it left.
    pub content: Content,
    /// How it ended.
    pub outcome: Outcome,
    /// What was done, for people.
    pub what: String,
}

/// The commits of one database, oldest first. Number 0 is the first.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    commits: Vec<Commit>,
}

impl Ledger {
    /// Everything so far.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// The newest commit's number, whatever its outcome.
    pub fn last(&self) -> Option<usize> {
        self.commits.len().checked_sub(1)
    }

    /// The newest commit that SQLite confirmed.
    pub fn last_confirmed(&self) -> Option<usize> {
        self.commits.iter().rposition(|commit| commit.outcome == Outcome::Committed)
    }

    /// Adds a commit.
    pub fn add(&mut self, commit: Commit) {
        self.commits.push(commit);
    }

    /// A process found the database like this after a crash: a commit whose answer never came has happened after all,
    /// or has not. `lost` newest commits may be missing where the application does not sync.
    ///
    /// # Errors
    /// If it is none of the states that a sound disk may hold.
    pub fn found(&mut self, conn: &Connection, lost: usize) -> Result<(), String> {
        let content = image::content(conn).map_err(|error| error.to_string())?;
        let at = (0..self.commits.len()).rev().find(|&at| matches(&self.commits[at].content, &content));
        let Some(at) = at else {
            return Err(format!("the application found {content:x?}, which nobody committed: {self}"));
        };
        let oldest =
            self.commits.iter().rposition(|commit| commit.outcome == Outcome::Committed).unwrap_or(0);
        if at + lost < oldest {
            return Err(format!("the application found commit {at} and missed {oldest}: {self}"));
        }
        self.commits.truncate(at + 1);
        self.commits[at].content = content;
        self.commits[at].outcome = Outcome::Committed;
        Ok(())
    }

    /// Goes back to a commit: what came after it is lost, and nobody was promised otherwise.
    pub fn go_back(&mut self, to: usize) {
        self.commits.truncate(to + 1);
    }

    /// A digest of all that is recorded.
    pub fn digest(&self) -> u64 {
        self.commits.iter().fold(0, |digest, commit| fold(digest, format!("{commit:?}").as_bytes()))
    }

    /// The newest commit that is exactly this file.
    ///
    /// # Errors
    /// If none is; the text tells which one it resembles.
    pub fn identify(&self, conn: &Connection) -> Result<usize, String> {
        let content = image::content(conn).map_err(|error| error.to_string())?;
        let found = (0..self.commits.len()).rev().find(|&at| matches(&self.commits[at].content, &content));
        found.ok_or_else(|| {
            let alike = self.commits.iter().rposition(|commit| commit.content.rows == content.rows);
            let alike =
                alike.map_or("no commit has its rows".into(), |at| format!("it has the rows of {at}"));
            format!("no commit is {content:x?} ({alike}): {self}")
        })
    }
}

fn matches(recorded: &Content, seen: &Content) -> bool {
    match (recorded.exact, recorded.pages) {
        (Some(_), _) => recorded.exact == seen.exact,
        (None, Some(_)) => recorded.pages == seen.pages,
        (None, None) => recorded.rows == seen.rows,
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let newest = self.commits.len().saturating_sub(6);
        for (number, commit) in self.commits.iter().enumerate().skip(newest) {
            write!(f, "\n  {number}: {} {:?} {:x?}", commit.what, commit.outcome, commit.content.exact)?;
        }
        Ok(())
    }
}
