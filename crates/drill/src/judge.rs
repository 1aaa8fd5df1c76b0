//! The judge: a pure function from the ledger, the facts and a row of the table to a verdict.
//!
//! It never asks the system anything and never forgives: what is not allowed by the row is a violation, and what was
//! not seen counts as not proven.

use crate::clock::Ms;
use crate::expect::{FRESH, Failures, Row};
use crate::facts::{Container, Facts, Listings, Restored, Seen, Why};
use crate::ledger::{Answer, Deed, Entry};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How many examples of one kind are named.
const EXAMPLES: usize = 5;
/// So long after the bucket was cut off the last answer from it may still come to a writer's request.
const CUT_OFF: Ms = 50;

/// What kind of promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An acknowledged write is not there, or was acknowledged when no bucket could have it.
    Lost,
    /// A write took effect twice, or under another content.
    Twice,
    /// Something is there that nobody wrote.
    Phantom,
    /// Counters or totals do not add up.
    Counters,
    /// A witness found damage, or witnesses disagree.
    Witness,
    /// A container served, and it was not seen where its data came from.
    Unverified,
    /// A read was answered, without a post that it must find.
    Stale,
    /// A client saw a failure that the row does not allow.
    Failure,
    /// A disturbance lasted too long, or no write succeeded soon enough after it.
    Late,
    /// A container ended in a way that it should not.
    Ended,
    /// A start that had to be refused was not, or not with the right exit code.
    Refusal,
    /// A refused start changed the bucket.
    Bucket,
    /// The scenario could not be carried out, or proved nothing.
    NotRun,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// What was seen.
    pub what: String,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Measures {
    /// Writes sent.
    pub sent: usize,
    /// Answered with 2xx.
    pub acknowledged: usize,
    /// Answered otherwise.
    pub refused: usize,
    /// Cut: it is not known whether they took effect.
    pub cut: usize,
    /// Not acknowledged, and there all the same; that is allowed.
    pub unknown_there: usize,
    /// RPO: acknowledged writes that some witness does not see.
    pub lost: usize,
    /// Sent and acknowledged while the bucket could not be reached: lost, had the disk gone then.
    pub unbacked: usize,
    /// Applied twice.
    pub twice: usize,
    /// Containers whose restore was not verified.
    pub unverified: usize,
    /// Reads of acknowledged posts.
    pub reads: usize,
    /// Of them, those that should have found theirs and did not.
    pub stale: usize,
    /// The same inside the window of the row's disturbance, where it is counted only.
    pub stale_inside: usize,
    /// Failures that the row does not allow.
    pub forbidden: usize,
    /// RTO: the longest time without a write succeeding, in milliseconds.
    pub longest_gap: Ms,
    /// From the end of the disturbance to the first success, in milliseconds.
    pub recovery: Option<Ms>,
    /// Restores that were seen and verified.
    pub restores: usize,
}

/// What became of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Nothing was broken, and everything was shown.
    pub held: bool,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// What was counted.
    pub measures: Measures,
}

/// Judges one scenario.
#[must_use]
pub fn judge(entries: &[Entry], facts: &Facts, row: &Row) -> Verdict {
    let mut case = Case { entries, facts, row, violations: Vec::new(), measures: Measures::default() };
    case.ran();
    case.count();
    case.writes();
    case.unbacked();
    case.witnesses();
    case.late();
    case.failures();
    case.reads();
    case.containers();
    case.refusals();
    let Case { mut violations, measures, .. } = case;
    violations.sort_by_key(|violation| violation.kind);
    Verdict { held: violations.is_empty() && facts.not_shown.is_empty(), violations, measures }
}

struct Case<'a> {
    entries: &'a [Entry],
    facts: &'a Facts,
    row: &'a Row,
    violations: Vec<Violation>,
    measures: Measures,
}

impl Case<'_> {
    fn broken(&mut self, kind: Kind, what: impl Into<String>) {
        self.violations.push(Violation { kind, what: what.into() });
    }

    /// A list of offenders as one violation, with a few examples.
    fn offenders(&mut self, kind: Kind, what: &str, offenders: &[String]) {
        if offenders.is_empty() {
            return;
        }
        let examples = offenders.iter().take(EXAMPLES).cloned().collect::<Vec<_>>().join("; ");
        let more = if offenders.len() > EXAMPLES { "; .." } else { "" };
        self.broken(kind, format!("{} {what}: {examples}{more}", offenders.len()));
    }

    /// A run that proves nothing is no proof.
    fn ran(&mut self) {
        for trouble in &self.facts.troubles {
            self.broken(Kind::NotRun, trouble.clone());
        }
        if !self.entries.iter().any(Entry::acknowledged) {
            self.broken(Kind::NotRun, "no write was acknowledged");
        }
        let read = |entry: &Entry| matches!(entry.deed, Deed::Read { .. });
        if !self.entries.iter().any(read) {
            self.broken(Kind::NotRun, "nothing was read");
        }
        let (looked, wanted) = (self.facts.seen.len(), self.facts.witnesses.max(1));
        if looked < wanted {
            self.broken(Kind::NotRun, format!("{looked} of {wanted} witnesses could look"));
        }
        if matches!(self.row.failures, Failures::InWindow { .. }) && self.facts.disturbed.is_none() {
            self.broken(Kind::NotRun, "the disturbance did not take place");
        }
    }

    fn count(&mut self) {
        let measures = &mut self.measures;
        for entry in self.entries {
            if let Deed::Read { .. } = entry.deed {
                measures.reads += 1;
                continue;
            }
            measures.sent += 1;
            match entry.answer {
                Some((_, Answer::Acknowledged)) => measures.acknowledged += 1,
                Some((_, Answer::Refused { .. })) => measures.refused += 1,
                Some((_, Answer::Cut(_) | Answer::Found | Answer::Missing)) | None => measures.cut += 1,
            }
        }
        let (from, to) = self.facts.load;
        let mut successes: Vec<Ms> =
            self.entries.iter().filter(|entry| entry.acknowledged()).map(Entry::ended).collect();
        successes.sort_unstable();
        let inside = successes.iter().copied().filter(|at| (from..=to).contains(at));
        let marks: Vec<Ms> = std::iter::once(from).chain(inside).chain([to]).collect();
        measures.longest_gap =
            marks.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0);
        if let Some((_, end)) = self.facts.disturbed {
            measures.recovery = successes.iter().find(|at| **at >= end).map(|at| at - end);
        }
    }

    /// Each witness is asked for each write.
    fn writes(&mut self) {
        let (mut lost, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for seen in &self.facts.seen {
            let (gone, double, phantom) = compare(self.entries, seen);
            let by = &seen.by;
            self.offenders(Kind::Lost, &format!("acknowledged and not there ({by})"), &gone);
            self.offenders(Kind::Twice, &format!("applied twice or otherwise ({by})"), &double);
            self.offenders(Kind::Phantom, &format!("written by nobody ({by})"), &phantom);
            lost.extend(gone);
            twice.extend(double);
        }
        self.measures.lost = lost.len();
        self.measures.twice = twice.len();
        if let Some(seen) = self.facts.seen.first() {
            let posts: BTreeSet<&str> = seen.posts.iter().map(|post| post.id.as_str()).collect();
            let unknown = self.entries.iter().filter(|entry| !entry.acknowledged());
            let there = unknown
                .filter(|entry| matches!(&entry.deed, Deed::Post { id, .. } if posts.contains(id.as_str())));
            self.measures.unknown_there = there.count();
        }
    }

    /// Whoever says yes while the bucket is away has put nothing there: that the write is there later is luck.
    fn unbacked(&mut self) {
        let Some((from, to)) = self.facts.cut_off else { return };
        let inside =
            |entry: &&Entry| entry.acknowledged() && entry.sent >= from + CUT_OFF && entry.ended() < to;
        let told = |entry: &Entry| format!("{} at {} ms", entry.writer, entry.ended());
        let unbacked: Vec<String> = self.entries.iter().filter(inside).map(told).collect();
        self.measures.unbacked = unbacked.len();
        self.offenders(Kind::Lost, "acknowledged without a bucket", &unbacked);
    }

    fn witnesses(&mut self) {
        for seen in &self.facts.seen {
            let wrong = counters(seen);
            self.offenders(Kind::Counters, &format!("counters do not add up ({})", seen.by), &wrong);
            if let Some(integrity) = seen.integrity.as_ref().filter(|answer| *answer != "ok") {
                self.broken(Kind::Witness, format!("integrity_check of {}: {integrity}", seen.by));
            }
        }
        let contents: Vec<_> = self.facts.seen.iter().map(content).collect();
        for (seen, other) in self.facts.seen.iter().zip(&contents).skip(1) {
            if *other != contents[0] {
                let first = &self.facts.seen[0].by;
                self.broken(Kind::Witness, format!("{} does not see what {first} sees", seen.by));
            }
        }
    }

    /// What a disturbance may take, and what may come after it.
    fn late(&mut self) {
        let Failures::InWindow { disturbed, recovery } = self.row.failures else { return };
        let Some((from, end)) = self.facts.disturbed else { return };
        let took = end.saturating_sub(from);
        if took > disturbed {
            self.broken(Kind::Late, format!("the disturbance took {took} ms, not {disturbed}"));
        }
        match self.measures.recovery {
            None => self.broken(Kind::Late, "no write succeeded after the disturbance"),
            Some(after) if after > recovery => {
                self.broken(Kind::Late, format!("the first success came {after} ms after the disturbance"));
            }
            Some(_) => {}
        }
    }

    /// Whether a request was under way at some time from the beginning of the disturbance to the first write that
    /// succeeded after it.
    fn inside(&self, entry: &Entry) -> bool {
        let Failures::InWindow { .. } = self.row.failures else { return false };
        let Some((from, end)) = self.facts.disturbed else { return false };
        let to = end + self.measures.recovery.unwrap_or(0);
        entry.ended() >= from && entry.sent <= to
    }

    fn failures(&mut self) {
        // A straggler may be told to go away at any time, as long as it is told.
        let late = |entry: &Entry| self.facts.straggler.as_ref() == Some(&entry.writer);
        let (mut outside, mut wrong) = (Vec::new(), Vec::new());
        for entry in self.entries {
            let who = match &entry.deed {
                Deed::Read { post } => format!("{}, a read of {post},", entry.writer),
                Deed::Post { .. } | Deed::Vote { .. } => entry.writer.clone(),
            };
            let told = match &entry.answer {
                Some((_, Answer::Acknowledged | Answer::Found | Answer::Missing)) => continue,
                Some((at, Answer::Refused { status, retry_after, said })) => {
                    let told = format!("{who} at {at} ms: {status} {said}");
                    if *status != 503 || !retry_after {
                        wrong.push(told);
                        continue;
                    }
                    told
                }
                Some((at, Answer::Cut(why))) => format!("{who} at {at} ms: cut, {why}"),
                None => format!("{who} sent at {} ms: no answer to the end", entry.sent),
            };
            if !late(entry) && !self.inside(entry) {
                outside.push(told);
            }
        }
        self.measures.forbidden = outside.len() + wrong.len();
        self.offenders(Kind::Failure, "failed where no failure is allowed", &outside);
        self.offenders(Kind::Failure, "answered with neither 2xx nor 503 and Retry-After", &wrong);
    }

    /// What was acknowledged is shown to whoever asks, by every container that has traffic. Inside the window it is
    /// counted whether that was so.
    fn reads(&mut self) {
        let mut since: BTreeMap<&str, Ms> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.acknowledged()) {
            if let Deed::Post { id, .. } = &entry.deed {
                since.insert(id, entry.ended());
            }
        }
        let (mut stale, mut inside) = (Vec::new(), 0);
        for entry in self.entries {
            let (Deed::Read { post }, Some((_, Answer::Missing))) = (&entry.deed, &entry.answer) else {
                continue;
            };
            let Some(acknowledged) = since.get(post.as_str()).filter(|at| **at + FRESH <= entry.sent) else {
                continue;
            };
            if self.inside(entry) {
                inside += 1;
            } else {
                let (reader, sent, age) = (&entry.writer, entry.sent, entry.sent - acknowledged);
                stale.push(format!(
                    "{reader} of {post}, sent at {sent} ms, {age} ms after its acknowledgement"
                ));
            }
        }
        (self.measures.stale, self.measures.stale_inside) = (stale.len(), inside);
        self.offenders(Kind::Stale, "reads did not find what had been acknowledged", &stale);
    }

    fn containers(&mut self) {
        for (number, container) in self.facts.containers.iter().enumerate() {
            if let Some(end) = &container.end {
                let bad = match end.why {
                    Why::Asked => end.code != Some(0),
                    Why::Overdue | Why::Itself => true,
                    Why::Killed => false,
                };
                if bad {
                    let signal = || format!("signal {}", end.signal.unwrap_or_default());
                    let code = end.code.map_or_else(signal, |code| format!("exit code {code}"));
                    let why = match end.why {
                        Why::Overdue => "did not end in the grace time after SIGTERM",
                        Why::Itself => "ended by itself",
                        Why::Asked | Why::Killed => "ended after SIGTERM",
                    };
                    self.broken(Kind::Ended, format!("{} {why} with {code}", container.name));
                }
            }
            if container.healthy.is_none() {
                self.broken(Kind::Ended, format!("{} never became healthy", container.name));
                continue;
            }
            match restore_of(container, number == 0, &self.facts.replica) {
                Ok(restores) => self.measures.restores += restores,
                Err(why) => {
                    self.measures.unverified += 1;
                    self.broken(Kind::Unverified, format!("{}: {why}", container.name));
                }
            }
        }
    }

    fn refusals(&mut self) {
        if self.facts.refusals.len() != self.row.refusals {
            let (tried, of) = (self.facts.refusals.len(), self.row.refusals);
            self.broken(Kind::NotRun, format!("{tried} of {of} starts that must be refused were tried"));
        }
        for refusal in &self.facts.refusals {
            let (what, wanted) = (&refusal.what, refusal.wanted);
            if refusal.served {
                self.broken(Kind::Refusal, format!("{what}: it served"));
            }
            if refusal.code != Some(wanted) {
                let code = refusal.code.map_or("none".to_owned(), |code| code.to_string());
                self.broken(
                    Kind::Refusal,
                    format!("{what}: exit code {code}, not {wanted}: {}", refusal.said),
                );
            }
        }
        for refusal in &self.facts.refusals {
            if refusal.bucket.before.is_empty() {
                self.broken(Kind::NotRun, format!("{}: the bucket was empty before", refusal.what));
            }
            let changed = changed(&refusal.bucket);
            self.offenders(Kind::Bucket, &format!("objects were changed by {}", refusal.what), &changed);
        }
    }
}

/// Keys whose content differs between two listings.
fn changed(bucket: &Listings) -> Vec<String> {
    let before: BTreeMap<_, _> = bucket.before.iter().cloned().collect();
    let after: BTreeMap<_, _> = bucket.after.iter().cloned().collect();
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// Lost, applied twice or otherwise, written by nobody.
fn compare(entries: &[Entry], seen: &Seen) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut lost, mut twice, mut phantom) = (Vec::new(), Vec::new(), Vec::new());
    let mut posts: BTreeMap<&str, &str> = BTreeMap::new();
    let mut titles: BTreeSet<&str> = BTreeSet::new();
    for post in &seen.posts {
        let again = posts.insert(&post.id, &post.title).is_some();
        if again || !titles.insert(&post.title) {
            twice.push(format!("post {} {:?}", post.id, post.title));
        }
    }
    let mut votes: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (oracle, post) in &seen.votes {
        if !votes.insert((oracle, post)) {
            twice.push(format!("vote of {oracle} for {post}"));
        }
    }
    let (mut asked_posts, mut asked_votes) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        match &entry.deed {
            Deed::Post { id, title } => {
                asked_posts.insert(id.as_str());
                match posts.get(id.as_str()) {
                    Some(there) if there != title => {
                        twice.push(format!("post {id} is {there:?}, not {title:?}"))
                    }
                    None if entry.acknowledged() => lost.push(format!("post {id} {title:?}")),
                    _ => {}
                }
            }
            Deed::Read { .. } => {}
            Deed::Vote { oracle, post } => {
                asked_votes.insert((oracle.as_str(), post.as_str()));
                if entry.acknowledged() && !votes.contains(&(oracle.as_str(), post.as_str())) {
                    lost.push(format!("vote of {oracle} for {post}"));
                }
            }
        }
    }
    phantom.extend(posts.keys().filter(|id| !asked_posts.contains(*id)).map(|id| format!("post {id}")));
    let nobody = votes.iter().filter(|vote| !asked_votes.contains(*vote));
    phantom.extend(nobody.map(|(oracle, post)| format!("vote of {oracle} for {post}")));
    (lost, twice, phantom)
}

/// What does not add up: a post's votes, an account's karma, the system's own totals.
fn counters(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut for_post: BTreeMap<&str, i64> = BTreeMap::new();
    for (_, post) in &seen.votes {
        *for_post.entry(post).or_default() += 1;
    }
    let mut for_author: BTreeMap<&str, i64> = BTreeMap::new();
    for post in &seen.posts {
        let votes = for_post.get(post.id.as_str()).copied().unwrap_or(0);
        *for_author.entry(&post.author).or_default() += votes;
        if post.upvotes != votes {
            wrong.push(format!("post {} counts {} votes and has {votes}", post.id, post.upvotes));
        }
    }
    for (oracle, karma) in &seen.karma {
        let votes = for_author.get(oracle.as_str()).copied().unwrap_or(0);
        if *karma != votes {
            wrong.push(format!("account {oracle} has karma {karma} and {votes} votes"));
        }
    }
    if let Some((posts, votes)) = seen.totals
        && (posts, votes) != (seen.posts.len() as u64, seen.votes.len() as u64)
    {
        let (listed, cast) = (seen.posts.len(), seen.votes.len());
        wrong.push(format!("{posts} posts and {votes} votes are said to be there, {listed} and {cast} are"));
    }
    wrong
}

/// What is compared between witnesses.
fn content(seen: &Seen) -> (BTreeSet<&crate::facts::Post>, BTreeSet<&(String, String)>) {
    (seen.posts.iter().collect(), seen.votes.iter().collect())
}

/// How many restores a container's start shows (0 or 1), or why that is not proven.
fn restore_of(container: &Container, first: bool, replica: &str) -> Result<usize, String> {
    let boot = &container.boot;
    match (first, container.fresh) {
        (true, _) if boot.empty && boot.restored.is_none() => Ok(0),
        (true, _) => Err("the first start did not say that the replica is empty".to_owned()),
        (false, false) if boot.kept => Ok(0),
        (false, false) => Err("it did not say that it goes on with its disk".to_owned()),
        (false, true) => {
            if boot.empty || boot.kept {
                return Err("on an empty disk it did not restore".to_owned());
            }
            let Some(restored) = &boot.restored else {
                return Err("no word of a complete restore".to_owned());
            };
            if restored.txid.is_empty() || restored.bytes == 0 || !boot.placed {
                return Err(format!("its restore lacks evidence: {:?}", boot.lines));
            }
            if restored.from != replica {
                return Err(format!("it restored from {}, not {replica}", restored.from));
            }
            let numbers = |of: &Restored| (of.from.clone(), of.txid.clone(), of.bytes);
            match &boot.told {
                Some(told) if numbers(told) != numbers(restored) => {
                    Err(format!("its log and /api/replication differ: {restored:?}, {told:?}"))
                }
                None if container.asked => Err("it told a superuser of no restore".to_owned()),
                _ => Ok(1),
            }
        }
    }
}

#[cfg(test)]
mod tests;
