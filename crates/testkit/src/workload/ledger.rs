//! What was committed, in order, so that a restored file can be judged: is it exactly one of these states, and which?

use super::image::{self, Image};
use crate::history::fold;
use rusqlite::Connection;

/// A database's content, as far as it can be known without reading it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Digest of every byte; `None` for a commit whose answer never came.
    pub exact: Option<u64>,
    /// Digest of every byte but the change counters and the journal mode in page 1; `None` where a commit moves pages by
    /// itself.
    pub pages: Option<u64>,
    /// Digest of every row; known only where the pages are not.
    pub rows: Option<u64>,
    /// Digest of every page that holds something; known of what a rollback journal may bring back.
    pub kept: Option<u64>,
}

impl Content {
    /// Nothing is known.
    pub(super) const UNKNOWN: Self = Self { exact: None, pages: None, rows: None, kept: None };

    /// What is known of a commit that moves pages by itself, before its answer.
    pub fn of_rows(rows: u64) -> Self {
        Self { rows: Some(rows), ..Self::UNKNOWN }
    }

    /// A database in which nothing was made yet: nothing, or a page without a table.
    pub fn unborn() -> Self {
        Self::of_rows(image::NO_ROWS)
    }
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

/// A way that was left again: what came after commit `fork` and was lost with a disk.
#[derive(Debug, Clone)]
struct Branch {
    fork: Option<usize>,
    commits: Vec<Commit>,
}

/// Where in the ledger a state stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The newest commit of the way that was taken that this state holds.
    pub at: Option<usize>,
    /// The way that it holds more of, though it was left: which, and how far.
    left: Option<(usize, usize)>,
}

impl Place {
    /// A state on the way that was taken.
    pub fn on_the_way(at: Option<usize>) -> Self {
        Self { at, left: None }
    }
}

/// The commits of one database, oldest first. Number 0 is the first.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    commits: Vec<Commit>,
    branches: Vec<Branch>,
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
        let content = self.look(conn)?;
        if newest(&self.commits, &content).is_none() {
            // The engine may have brought the file forward, by a put that had been on its way. SQLite wrote it then, and
            // counted that in page 1, so it is known by its pages but for those counters. So is one that was left in
            // another journal mode.
            match self.place(&content).or_else(|| self.place_by(&content, same_pages)) {
                Some(place) if place.at >= self.last_confirmed() || lost > 0 => self.go_back(place),
                _ if self.rolled_back(conn, content, lost)? => return Ok(()),
                _ => {
                    return Err(format!(
                        "the application found {content:x?}, which nobody committed: {self}"
                    ));
                }
            }
        }
        let is_this =
            |commit: &Commit| matches(&commit.content, &content) || same_pages(&commit.content, &content);
        let Some(at) = self.commits.iter().rposition(is_this) else {
            return Err("BUG: found above".to_owned());
        };
        let oldest = self.last_confirmed().unwrap_or(0);
        if at.saturating_add(lost) < oldest {
            return Err(format!("the application found commit {at} and missed {oldest}: {self}"));
        }
        self.leave(Some(at));
        // Where the file's counters are its own now, the replica has those of before: both are this state.
        let exact = content.exact.filter(|_| self.commits[at].content.exact == content.exact);
        self.commits[at].content = Content { exact, rows: None, ..content };
        self.commits[at].outcome = Outcome::Committed;
        Ok(())
    }

    /// A rollback journal was played back: a state before a commit without WAL, but for the pages that are free in it.
    /// Whatever that commit put there stays, and is in no state that anybody committed; it is this one, which comes
    /// after the one that it was to be. `false` for any other difference.
    fn rolled_back(&mut self, conn: &Connection, content: Content, lost: usize) -> Result<bool, String> {
        let kept = Image::read(conn).and_then(|image| image.kept(conn)).map_err(|error| error.to_string())?;
        let Some(at) = self.commits.iter().rposition(|commit| commit.content.kept == Some(kept)) else {
            return Ok(false);
        };
        if at.saturating_add(lost) < self.last_confirmed().unwrap_or(0) {
            return Ok(false);
        }
        self.leave(Some(at));
        let content = Content { rows: None, ..content };
        self.add(Commit { content, outcome: Outcome::Committed, what: "rolled back".to_owned() });
        Ok(true)
    }

    /// What a rollback journal would bring back of the newest commit.
    pub(super) fn keep(&mut self, kept: u64) {
        if let Some(commit) = self.commits.last_mut() {
            commit.content.kept = Some(kept);
        }
    }

    /// The newest commit was answered with an error, and this is the database now: that commit, unless it is what was
    /// there before. Whether it is seen to have happened; if not, its frames may still come back from the WAL.
    pub(super) fn settle(&mut self, seen: Content) -> bool {
        let before = self.commits.len().checked_sub(2).map(|before| &self.commits[before].content);
        if before.is_some_and(|before| matches(before, &seen)) {
            return false;
        }
        if let Some(commit) = self.commits.last_mut() {
            commit.content = seen;
            commit.outcome = Outcome::Committed;
        }
        true
    }

    /// The newest commit never was.
    pub(super) fn withdraw(&mut self) {
        self.commits.pop();
    }

    /// Goes back to a state, or on from one on a way that was left: what else came is lost, and nobody was promised
    /// otherwise.
    pub fn go_back(&mut self, to: Place) {
        let regained = to.left.map(|(branch, commit)| self.branches[branch].commits[..=commit].to_vec());
        self.leave(to.at);
        self.commits.extend(regained.into_iter().flatten());
    }

    /// Keeps what comes after `at` as a way that was left: a put that was on its way may still bring it back.
    fn leave(&mut self, at: Option<usize>) {
        let kept = at.map_or(0, |at| at + 1);
        let left = self.commits.split_off(kept.min(self.commits.len()));
        for branch in self.branches.iter_mut().filter(|branch| branch.fork > at) {
            let common = branch.fork.map_or(0, |fork| fork + 1) - kept;
            let mut commits = left[..common].to_vec();
            commits.append(&mut branch.commits);
            *branch = Branch { fork: at, commits };
        }
        if !left.is_empty() {
            self.branches.push(Branch { fork: at, commits: left });
        }
    }

    /// The counters and the journal mode of what came since `before` are not known: who found another mode than WAL may
    /// have changed it.
    pub fn blur_since(&mut self, before: Option<usize>) {
        for commit in self.commits.iter_mut().skip(before.map_or(0, |at| at + 1)) {
            commit.content.exact = None;
        }
    }

    /// A digest of all that is recorded.
    pub fn digest(&self) -> u64 {
        self.commits.iter().fold(0, |digest, commit| fold(digest, format!("{commit:?}").as_bytes()))
    }

    /// What a connection sees, as far as the commits can be told by it.
    fn look(&self, conn: &Connection) -> Result<Content, String> {
        let told_by_rows = |commit: &Commit| commit.content.pages.is_none();
        let all = || self.commits.iter().chain(self.branches.iter().flat_map(|branch| &branch.commits));
        let read = || {
            let rows = all().any(told_by_rows).then(|| image::rows(conn)).transpose()?;
            Ok(Content { rows, ..Image::read(conn)?.content() })
        };
        read().map_err(|error: rusqlite::Error| error.to_string())
    }

    fn place(&self, content: &Content) -> Option<Place> {
        self.place_by(content, matches)
    }

    fn place_by(&self, content: &Content, is: fn(&Content, &Content) -> bool) -> Option<Place> {
        let newest = |commits: &[Commit]| commits.iter().rposition(|commit| is(&commit.content, content));
        if let Some(at) = newest(&self.commits) {
            return Some(Place::on_the_way(Some(at)));
        }
        let (branch, commit) =
            self.branches.iter().enumerate().find_map(|(n, branch)| Some((n, newest(&branch.commits)?)))?;
        Some(Place { at: self.branches[branch].fork, left: Some((branch, commit)) })
    }

    /// The newest commit that is exactly this file.
    ///
    /// # Errors
    /// If none is; the text tells which one it resembles.
    pub fn identify(&self, conn: &Connection) -> Result<Place, String> {
        let content = self.look(conn)?;
        // A put that had been on its way brings a way back that was left; the engine writes the file forward through
        // SQLite, which counts that in page 1, and ships the page before any application has seen it.
        let brought_back = || self.place_by(&content, same_pages).filter(|place| place.left.is_some());
        if let Some(place) = self.place(&content).or_else(brought_back) {
            return Ok(place);
        }
        let alike = self.commits.iter().rposition(|commit| same_pages(&commit.content, &content));
        let alike = alike.map_or("no commit has its pages".into(), |at| format!("it has the pages of {at}"));
        Err(format!("no commit is {content:x?} ({alike}): {self}"))
    }
}

fn newest(commits: &[Commit], content: &Content) -> Option<usize> {
    commits.iter().rposition(|commit| matches(&commit.content, content))
}

/// The same pages, but for what SQLite counts in the first one.
fn same_pages(recorded: &Content, seen: &Content) -> bool {
    recorded.pages.is_some() && recorded.pages == seen.pages
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
        for branch in &self.branches {
            let what: Vec<_> = branch.commits.iter().map(|commit| &*commit.what).collect();
            write!(f, "\n  left at {:?}: {}", branch.fork, what.join(", "))?;
        }
        Ok(())
    }
}
