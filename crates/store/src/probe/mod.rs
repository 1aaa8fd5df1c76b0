//! Asks a store what it really does, with objects of its own below the replica's path.
//!
//! Everything is tried under `litekeep-doctor/<random>/`, a name that no reader of a replica looks at, and removed again;
//! what could not be removed is named. Nothing that belongs to the replica is read, changed or deleted.

mod directory;

use crate::location::Settings;
use crate::retry::Policy;
use crate::s3::S3Store;
use crate::{ErrorKind, StoreError};
use litekeep_core::env::{Clock, Random};
use std::sync::Arc;
use std::time::Duration;

/// The folder in the replica's path under which every probe has its own.
pub const FOLDER: &str = "litekeep-doctor";

/// A probe is worth less patience than a replica: somebody waits for the table.
const PATIENCE: Policy = Policy {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(2),
    total: Duration::from_secs(8),
    answer: Duration::from_secs(15),
};

/// One thing that a store can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Does it answer, and take our keys for this bucket?
    Reach,
    /// May we list?
    List,
    /// May we write?
    Write,
    /// May we read?
    Read,
    /// May we delete?
    Delete,
    /// Is a create-only put (`If-None-Match: *`) of a taken name refused?
    CreateOnly,
    /// Does `If-Match` with the right ETag in its quotes let a put through?
    IfMatchQuoted,
    /// Does `If-Match` with the right ETag without its quotes?
    IfMatchUnquoted,
    /// Is a put with a wrong `If-Match` refused?
    IfMatchKept,
    /// Is the completion of a multipart upload with `If-None-Match: *` refused where the name is taken?
    ConditionalMultipart,
    /// Is a delete with a wrong `If-Match` refused?
    ConditionalDelete,
    /// Does a listing show what was put before it?
    ListAfterPut,
    /// Does a ranged read give the range alone?
    Ranges,
    /// Do its clock and ours agree?
    Clock,
}

impl Question {
    /// All, in the order of the table.
    pub const ALL: [Self; 14] = [
        Self::Reach,
        Self::List,
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::CreateOnly,
        Self::ListAfterPut,
        Self::Ranges,
        Self::Clock,
        Self::IfMatchQuoted,
        Self::IfMatchUnquoted,
        Self::IfMatchKept,
        Self::ConditionalMultipart,
        Self::ConditionalDelete,
    ];

    /// Its name in data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reach => "reach",
            Self::List => "list",
            Self::Write => "write",
            Self::Read => "read",
            Self::Delete => "delete",
            Self::CreateOnly => "create_only",
            Self::IfMatchQuoted => "if_match_quoted",
            Self::IfMatchUnquoted => "if_match_unquoted",
            Self::IfMatchKept => "if_match_kept",
            Self::ConditionalMultipart => "conditional_multipart",
            Self::ConditionalDelete => "conditional_delete",
            Self::ListAfterPut => "list_after_put",
            Self::Ranges => "ranges",
            Self::Clock => "clock",
        }
    }

    /// Whether a directory can be asked that.
    pub const fn suits_directory(self) -> bool {
        !matches!(
            self,
            Self::IfMatchQuoted
                | Self::IfMatchUnquoted
                | Self::IfMatchKept
                | Self::ConditionalMultipart
                | Self::ConditionalDelete
                | Self::Clock
        )
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// It could not be asked, or its answer says neither.
    Unknown,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was asked.
    pub question: Question,
    /// The short answer.
    pub answer: Answer,
    /// What was seen, for people.
    pub detail: String,
}

/// Everything that a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Where; no secrets.
    pub location: String,
    /// One row for each question that suits the store, in [`Question::ALL`]'s order.
    pub rows: Vec<Finding>,
    /// How far our clock is ahead of the store's, milliseconds; to about a second, since that is what `Date` tells.
    pub clock_ahead_ms: Option<i64>,
    /// Whether the bucket keeps what is deleted or replaced as older versions.
    pub keeps_versions: bool,
    /// What would help where it was not reached.
    pub unreached: ErrorKind,
    /// Requests sent, retries included.
    pub requests: u32,
    /// What the probe made and could not remove.
    pub left: Vec<String>,
    /// It was told to stop before the end.
    pub interrupted: bool,
}

impl Findings {
    /// The short answer to a question; unknown for one that does not suit the store.
    pub fn answer(&self, question: Question) -> Answer {
        self.rows.iter().find(|row| row.question == question).map_or(Answer::Unknown, |row| row.answer)
    }
}

/// Asks everything. `stop` is looked at before each request; once it says so, what was made is removed and that is all.
///
/// # Errors
/// The settings cannot be used. Whatever the store answers is a finding, not an error.
pub fn probe(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    stop: &dyn Fn() -> bool,
) -> Result<Findings, StoreError> {
    let folder = format!("{FOLDER}/{:016x}", random.next_u64());
    match settings {
        Settings::Directory(path) => Ok(directory::probe(path, &folder, &clock, &random, stop)),
        Settings::S3(settings) => {
            let store = S3Store::with_policy(settings, clock, random, PATIENCE)?;
            Ok(store.probe(&folder, stop))
        }
    }
}

/// Rows as they come, and what they are made from in the end.
#[derive(Debug, Default)]
pub(crate) struct Rows(Vec<Finding>);

impl Rows {
    /// The first answer to a question stays.
    pub(crate) fn tell(&mut self, question: Question, answer: Answer, detail: impl Into<String>) {
        if self.get(question).is_none() {
            self.0.push(Finding { question, answer, detail: detail.into() });
        }
    }

    pub(crate) fn get(&self, question: Question) -> Option<Answer> {
        self.0.iter().find(|row| row.question == question).map(|row| row.answer)
    }

    /// In the table's order; what was not answered says why.
    pub(crate) fn finish(self, suits: impl Fn(Question) -> bool, why_not: &str) -> Vec<Finding> {
        let row = |question| {
            let found = self.0.iter().find(|row| row.question == question).cloned();
            let unasked = || Finding { question, answer: Answer::Unknown, detail: why_not.to_owned() };
            found.unwrap_or_else(unasked)
        };
        Question::ALL.into_iter().filter(|question| suits(*question)).map(row).collect()
    }
}
