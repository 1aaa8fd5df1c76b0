//! What was seen of the system under test, as plain values: containers, what they said at their start, what witnesses
//! read, what the bucket held. Nothing here judges.

use crate::clock::Ms;
use serde::Serialize;

/// All that was seen in one scenario, next to its ledger.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// Where the replica lies, as containers name it: no restore may come from elsewhere.
    pub replica: String,
    /// When the writers began and ended.
    pub load: (Ms, Ms),
    /// What was done to the system, in order.
    pub events: Vec<Event>,
    /// When the disturbance began and ended, for scenarios that have one.
    pub disturbed: Option<(Ms, Ms)>,
    /// From when to when no container could reach the bucket.
    pub cut_off: Option<(Ms, Ms)>,
    /// The writer that spoke to a container which had lost its traffic.
    pub straggler: Option<String>,
    /// Every container that was started.
    pub containers: Vec<Container>,
    /// What those who looked afterwards saw: the API first.
    pub seen: Vec<Seen>,
    /// How many of those there must be.
    pub witnesses: usize,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
    /// What this scenario is there to show and could not, through no fault of the system.
    pub not_shown: Vec<String>,
    /// Starts that had to be refused.
    pub refusals: Vec<Refusal>,
    /// What could not be done; the scenario did not run as it should.
    pub troubles: Vec<String>,
}

/// Something that was done to the system, or that the platform did.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// When.
    pub at: Ms,
    /// What, in a few words.
    pub what: String,
}

/// One container, from its start to its end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Container {
    /// `c1`, `c2`, in the order of their starts.
    pub name: String,
    /// Which release it runs.
    pub release: String,
    /// Whether its disk was empty at the start.
    pub fresh: bool,
    /// When it was started.
    pub started: Ms,
    /// When the health gate let it through.
    pub healthy: Option<Ms>,
    /// When it got traffic, and when it got none any more.
    pub traffic: Vec<(Ms, Option<Ms>)>,
    /// Signals that it was sent.
    pub signals: Vec<(Ms, String)>,
    /// How it ended.
    pub end: Option<End>,
    /// Whether it was asked, as a superuser, where its database came from.
    pub asked: bool,
    /// What it said at its start.
    pub boot: Boot,
    /// What `/api/replication` called it, each time that changed.
    pub roles: Vec<(Ms, String)>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// When.
    pub at: Ms,
    /// The exit code; nothing after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it ended, as the platform knows it.
    pub why: Why,
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It was asked to, by SIGTERM, and did so in time.
    Asked,
    /// It was asked to and did not: SIGKILL after the grace time.
    Overdue,
    /// The scenario killed it.
    Killed,
    /// It ended by itself.
    Itself,
}

/// What a container said about where its database came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// `restore complete`, with its numbers.
    pub restored: Option<Restored>,
    /// `renaming database from temporary location`: the restored file was put in place.
    pub placed: bool,
    /// `no matching backups found`: the replica is empty, a first start.
    pub empty: bool,
    /// `database exists, skipping restore`.
    pub kept: bool,
    /// The lines of the log that say so.
    pub lines: Vec<String>,
    /// `lastRestore` of `/api/replication`, where it could be asked.
    pub told: Option<Restored>,
}

/// The numbers of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// From where.
    pub from: String,
    /// The last transaction in it.
    pub txid: String,
    /// Bytes that were fetched.
    pub bytes: u64,
    /// How long it took.
    pub milliseconds: u64,
}

/// What one witness read after the scenario.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// Who read, and what.
    pub by: String,
    /// All posts of this scenario, in any order.
    pub posts: Vec<Post>,
    /// All votes of this scenario: who, for which post.
    pub votes: Vec<(String, String)>,
    /// The counters of accounts: id and karma.
    pub karma: Vec<(String, i64)>,
    /// How many posts and votes the system itself says there are.
    pub totals: Option<(u64, u64)>,
    /// The answer of `PRAGMA integrity_check`, where it was a file.
    pub integrity: Option<String>,
}

/// A post as a witness saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Post {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its author's id.
    pub author: String,
    /// Its counter of votes.
    pub upvotes: i64,
}

/// A start that must not succeed.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// Which.
    pub what: String,
    /// The exit code that is right.
    pub wanted: i32,
    /// The exit code that came; nothing if it did not end by itself.
    pub code: Option<i32>,
    /// Whether a health check succeeded.
    pub served: bool,
    /// Its last words.
    pub said: String,
    /// The bucket around it.
    pub bucket: Listings,
}

/// An object's key and a checksum of its content.
pub type Listing = Vec<(String, String)>;

/// A bucket before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listings {
    /// Before.
    pub before: Listing,
    /// After.
    pub after: Listing,
}
