//! A good case holds, and each kind of violation is seen where it is the only thing that is wrong.

use super::*;
use crate::clock::Clock;
use crate::exit;
use crate::expect::{TABLE, find};
use crate::facts::{Boot, End, Post, Refusal, Restored};
use crate::report::{Outcome, Report, Scenario};

/// One scenario's ledger and facts, in which everything is right.
#[derive(Clone)]
struct Good {
    entries: Vec<Entry>,
    facts: Facts,
}

fn post(number: u64, sent: Ms, answer: Answer) -> Entry {
    let deed = Deed::Post { id: format!("p{number}"), title: format!("title {number}") };
    Entry { writer: "w0".to_owned(), deed, sent, answer: Some((sent + 10, answer)) }
}

fn vote(oracle: &str, number: u64, sent: Ms) -> Entry {
    let deed = Deed::Vote { oracle: oracle.to_owned(), post: format!("p{number}") };
    Entry { writer: "w1".to_owned(), deed, sent, answer: Some((sent + 10, Answer::Acknowledged)) }
}

fn read(number: u64, sent: Ms, answer: Answer) -> Entry {
    let deed = Deed::Read { post: format!("p{number}") };
    Entry { writer: "w0".to_owned(), deed, sent, answer: Some((sent + 5, answer)) }
}

fn unavailable(retry_after: bool) -> Answer {
    Answer::Refused { status: 503, retry_after, said: String::new() }
}

fn seen(by: &str, integrity: Option<&str>) -> Seen {
    let post = |number: u64, upvotes| Post {
        id: format!("p{number}"),
        title: format!("title {number}"),
        author: "ada".to_owned(),
        upvotes,
    };
    Seen {
        by: by.to_owned(),
        posts: vec![post(1, 1), post(2, 0), post(3, 0)],
        votes: vec![("bob".to_owned(), "p1".to_owned())],
        karma: vec![("ada".to_owned(), 1), ("bob".to_owned(), 0)],
        totals: integrity.is_none().then_some((3, 1)),
        integrity: integrity.map(str::to_owned),
    }
}

fn container(name: &str, boot: Boot) -> Container {
    Container {
        name: name.to_owned(),
        fresh: true,
        asked: true,
        healthy: Some(1),
        end: Some(End { at: 9_000, code: Some(0), signal: None, why: Why::Asked }),
        boot,
        ..Container::default()
    }
}

fn restored() -> Restored {
    Restored { from: "s3://b/p".to_owned(), txid: "05".to_owned(), bytes: 100, milliseconds: 3 }
}

/// Two containers, three posts and a vote, a disturbance from 1000 to 2000, success again at 3000.
fn good() -> Good {
    let first = container("c1", Boot { empty: true, ..Boot::default() });
    let second = container(
        "c2",
        Boot { restored: Some(restored()), placed: true, told: Some(restored()), ..Boot::default() },
    );
    let entries = vec![
        post(1, 100, Answer::Acknowledged),
        vote("bob", 1, 200),
        post(2, 300, Answer::Acknowledged),
        post(3, 2_990, Answer::Acknowledged),
        read(2, 510, Answer::Found),
    ];
    let facts = Facts {
        replica: "s3://b/p".to_owned(),
        load: (0, 4_000),
        disturbed: Some((1_000, 2_000)),
        containers: vec![first, second],
        seen: vec![seen("the API", None), seen("SQLite", Some("ok"))],
        witnesses: 2,
        ..Facts::default()
    };
    Good { entries, facts }
}

/// A good case for a row: with the refusals that the row wants.
fn good_for(row: &Row) -> Good {
    let mut good = good();
    let listing = vec![("0000/1.ltx".to_owned(), "sum".to_owned())];
    let bucket = Listings { before: listing.clone(), after: listing };
    let what = "a start".to_owned();
    let refusal = Refusal { what, wanted: 13, code: Some(13), served: false, said: String::new(), bucket };
    good.facts.refusals = vec![refusal; row.refusals];
    good
}

fn kinds(good: &Good, row: &Row) -> BTreeSet<Kind> {
    judge(&good.entries, &good.facts, row).violations.into_iter().map(|violation| violation.kind).collect()
}

#[test]
fn a_good_case_holds_in_every_row() {
    for row in TABLE {
        let good = good_for(&row);
        let verdict = judge(&good.entries, &good.facts, &row);
        assert_eq!(verdict.violations, [], "{}", row.name);
        assert!(verdict.held);
        let measures = verdict.measures;
        assert_eq!((measures.sent, measures.acknowledged, measures.lost, measures.restores), (4, 4, 0, 1));
        assert_eq!((measures.longest_gap, measures.recovery), (2_690, Some(1_000)), "from 310 to 3000");
    }
}

/// The row, what is wrong, how it must be called, and how it comes about.
type Case = (&'static str, &'static str, Kind, fn(&mut Good));

/// Writes that are not there, there twice, or there without having been sent.
const LOST_OR_WRONG: &[Case] = &[
    ("redeploy", "an acknowledged post that nobody sees", Kind::Lost, |it| {
        it.entries.push(post(4, 400, Answer::Acknowledged));
    }),
    ("redeploy", "an acknowledged vote that nobody sees", Kind::Lost, |it| {
        it.entries.push(vote("eve", 2, 400));
    }),
    ("crash", "a post that is there under another title", Kind::Twice, |it| {
        it.facts.seen.iter_mut().for_each(|seen| seen.posts[0].title = "other".to_owned());
    }),
    ("wipe", "a title that is there under two ids", Kind::Twice, |it| {
        it.entries.push(post(4, 1_500, Answer::Cut(String::new())));
        for seen in &mut it.facts.seen {
            let again = Post { id: "p4".to_owned(), title: "title 4".to_owned(), ..seen.posts[1].clone() };
            seen.posts.push(again.clone());
            seen.totals = seen.totals.map(|(posts, votes)| (posts + 2, votes));
            seen.posts.push(again);
        }
    }),
    ("redeploy", "a post that nobody wrote", Kind::Phantom, |it| {
        for seen in &mut it.facts.seen {
            let more = Post { id: "x".to_owned(), title: "x".to_owned(), ..seen.posts[1].clone() };
            seen.posts.push(more);
            seen.totals = seen.totals.map(|(posts, votes)| (posts + 1, votes));
        }
    }),
    ("straggler", "an acknowledgement to the straggler that is not kept", Kind::Lost, |it| {
        it.facts.straggler = Some("late".to_owned());
        let entry = post(4, 3_500, Answer::Acknowledged);
        it.entries.push(Entry { writer: "late".to_owned(), ..entry });
    }),
];

/// Said yes to, with nothing in the bucket.
const UNBACKED: &[Case] = &[
    ("bucket-outage", "a write that was acknowledged while the bucket was away", Kind::Lost, |it| {
        it.facts.cut_off = Some((150, 311));
    }),
    ("bucket-outage", "the same, sent at the first moment that counts", Kind::Lost, |it| {
        it.facts.cut_off = Some((250, 311));
    }),
];

/// Counters that do not add up, witnesses that disagree.
const NOT_THE_SAME: &[Case] = &[
    ("redeploy", "a post whose counter is not its votes", Kind::Counters, |it| {
        it.facts.seen.iter_mut().for_each(|seen| seen.posts[0].upvotes = 2);
    }),
    ("redeploy", "an account whose karma is not its votes", Kind::Counters, |it| {
        it.facts.seen[0].karma[0].1 = 2;
    }),
    ("redeploy", "totals that are not the number of records", Kind::Counters, |it| {
        it.facts.seen[0].totals = Some((4, 1));
    }),
    ("redeploy", "a damaged file", Kind::Witness, |it| {
        it.facts.seen[1].integrity = Some("row 3 missing from index".to_owned());
    }),
    ("wipe", "an unknown post that one witness sees and the other does not", Kind::Witness, |it| {
        it.entries.push(post(4, 1_500, Answer::Cut(String::new())));
        let more =
            Post { id: "p4".to_owned(), title: "title 4".to_owned(), ..it.facts.seen[1].posts[1].clone() };
        it.facts.seen[1].posts.push(more);
    }),
];

/// Restores without evidence.
const NOT_SHOWN: &[Case] = &[
    ("wipe", "a container that serves without a restore", Kind::Unverified, |it| {
        it.facts.containers[1].boot = Boot::default();
    }),
    ("wipe", "a container that began empty", Kind::Unverified, |it| {
        it.facts.containers[1].boot.empty = true;
    }),
    ("redeploy", "a restore without a TXID", Kind::Unverified, |it| {
        it.facts.containers[1].boot.restored = Some(Restored { txid: String::new(), ..restored() });
    }),
    ("redeploy", "a restore that was not put in place", Kind::Unverified, |it| {
        it.facts.containers[1].boot.placed = false;
    }),
    ("redeploy", "a log and an API that tell of two restores", Kind::Unverified, |it| {
        it.facts.containers[1].boot.told = Some(Restored { bytes: 1, ..restored() });
    }),
    ("straggler", "a log and an API that tell of two places", Kind::Unverified, |it| {
        it.facts.containers[1].boot.told = Some(Restored { from: "s3://b/q".to_owned(), ..restored() });
    }),
    ("redeploy", "a restore from another place", Kind::Unverified, |it| {
        let other = Restored { from: "s3://b/q".to_owned(), ..restored() };
        let boot = &mut it.facts.containers[1].boot;
        (boot.restored, boot.told) = (Some(other.clone()), Some(other));
    }),
    ("wipe", "a restore of which a superuser was told nothing", Kind::Unverified, |it| {
        it.facts.containers[1].boot.told = None;
    }),
    ("crash", "a kept disk that nobody spoke of", Kind::Unverified, |it| {
        it.facts.containers[1].fresh = false;
        it.facts.containers[1].boot = Boot::default();
    }),
];

/// Failures that clients must not see.
const FAILED: &[Case] = &[
    ("redeploy", "a read that does not find a post acknowledged 200 ms before", Kind::Stale, |it| {
        it.entries.push(read(2, 510, Answer::Missing));
    }),
    ("crash", "a read before the window that does not find its post", Kind::Stale, |it| {
        it.entries.push(read(2, 994, Answer::Missing));
    }),
    ("wipe", "a read after the first success that does not find its post", Kind::Stale, |it| {
        it.entries.push(read(2, 3_001, Answer::Missing));
    }),
    (
        "straggler",
        "the same of the first post that was acknowledged after the disturbance",
        Kind::Stale,
        |it| {
            it.entries.push(read(3, 3_200, Answer::Missing));
        },
    ),
    ("bucket-outage", "a read that is cut after the first success", Kind::Failure, |it| {
        it.entries.push(read(2, 3_001, Answer::Cut(String::new())));
    }),
    ("crash", "a read that is answered 500 inside the window", Kind::Failure, |it| {
        let answer = Answer::Refused { status: 500, retry_after: true, said: String::new() };
        it.entries.push(read(2, 1_500, answer));
    }),
    ("wrong-key", "a read that does not find its post where nothing is disturbed", Kind::Stale, |it| {
        it.entries.push(read(2, 1_500, Answer::Missing));
    }),
    ("two-at-once", "a read that is cut", Kind::Failure, |it| {
        it.entries.push(read(2, 400, Answer::Cut(String::new())));
    }),
    ("slow-bucket", "a read that is answered 503", Kind::Failure, |it| {
        it.entries.push(read(2, 400, unavailable(true)));
    }),
    ("rollback", "a read that is never answered", Kind::Failure, |it| {
        it.entries.push(Entry { answer: None, ..read(2, 400, Answer::Found) });
    }),
    ("redeploy", "a 503 where no failure is allowed", Kind::Failure, |it| {
        it.entries.push(post(4, 1_500, unavailable(true)));
    }),
    ("two-at-once", "a cut connection where no failure is allowed", Kind::Failure, |it| {
        it.entries.push(post(4, 1_500, Answer::Cut(String::new())));
    }),
    ("crash", "a cut connection before the window", Kind::Failure, |it| {
        it.entries.push(post(4, 500, Answer::Cut(String::new())));
    }),
    ("crash", "a 503 after the first success", Kind::Failure, |it| {
        it.entries.push(post(4, 3_100, unavailable(true)));
    }),
    ("crash", "a 503 without Retry-After inside the window", Kind::Failure, |it| {
        it.entries.push(post(4, 1_500, unavailable(false)));
    }),
    ("crash", "a 500 inside the window", Kind::Failure, |it| {
        let answer = Answer::Refused { status: 500, retry_after: true, said: String::new() };
        it.entries.push(post(4, 1_500, answer));
    }),
    ("crash", "a 400 inside the window", Kind::Failure, |it| {
        let answer = Answer::Refused { status: 400, retry_after: false, said: String::new() };
        it.entries.push(post(4, 1_500, answer));
    }),
    ("redeploy", "a request that was never answered", Kind::Failure, |it| {
        it.entries.push(Entry { answer: None, ..post(4, 3_500, Answer::Acknowledged) });
    }),
    ("straggler", "a 500 to the straggler", Kind::Failure, |it| {
        it.facts.straggler = Some("late".to_owned());
        let answer = Answer::Refused { status: 500, retry_after: true, said: String::new() };
        it.entries.push(Entry { writer: "late".to_owned(), ..post(4, 3_500, answer) });
    }),
    ("wipe", "a first success that comes too late", Kind::Late, |it| {
        it.entries[3] = post(3, 12_001, Answer::Acknowledged);
    }),
    ("crash", "a start that takes too long", Kind::Late, |it| {
        it.facts.disturbed = Some((1_000, 6_001));
        it.entries[3] = post(3, 6_001, Answer::Acknowledged);
    }),
    ("wipe", "a restore that takes too long", Kind::Late, |it| {
        it.facts.disturbed = Some((1_000, 11_001));
        it.entries[3] = post(3, 11_001, Answer::Acknowledged);
    }),
    ("straggler", "a new container that takes too long", Kind::Late, |it| {
        it.facts.disturbed = Some((1_000, 11_001));
        it.entries[3] = post(3, 11_001, Answer::Acknowledged);
    }),
    ("wipe", "no success after the disturbance", Kind::Late, |it| {
        it.entries[3] = post(3, 500, Answer::Acknowledged);
    }),
];

/// Ends that a platform must not see.
const ENDED: &[Case] = &[
    ("redeploy", "a container that ends by itself", Kind::Ended, |it| {
        let end = End { at: 2, code: Some(21), signal: None, why: Why::Itself };
        it.facts.containers[0].end = Some(end);
    }),
    ("redeploy", "a container that ends by itself, and well", Kind::Ended, |it| {
        it.facts.containers[0].end = Some(End { at: 2, code: Some(0), signal: None, why: Why::Itself });
    }),
    ("redeploy", "an orderly end with an exit code", Kind::Ended, |it| {
        it.facts.containers[0].end = Some(End { at: 2, code: Some(20), signal: None, why: Why::Asked });
    }),
    ("redeploy", "an end that took longer than the grace time", Kind::Ended, |it| {
        let end = End { at: 2, code: None, signal: Some(9), why: Why::Overdue };
        it.facts.containers[0].end = Some(end);
    }),
    ("redeploy", "a container that never became healthy", Kind::Ended, |it| {
        it.facts.containers[1].healthy = None;
    }),
];

/// Refusals that were none, and runs that show nothing.
const REFUSED: &[Case] = &[
    ("wrong-key", "a refusal with another exit code", Kind::Refusal, |it| {
        it.facts.refusals[0].code = Some(1);
    }),
    ("wrong-key", "a refusal that did not end", Kind::Refusal, |it| {
        it.facts.refusals[0].code = None;
    }),
    ("fresh-over-backup", "a start that served", Kind::Refusal, |it| {
        it.facts.refusals[1].served = true;
    }),
    ("wrong-key", "an object that changed", Kind::Bucket, |it| {
        it.facts.refusals[0].bucket.after[0].1 = "another".to_owned();
    }),
    ("wrong-key", "an object that went", Kind::Bucket, |it| it.facts.refusals[0].bucket.after.clear()),
    ("fresh-over-backup", "an object that came", Kind::Bucket, |it| {
        it.facts.refusals[0].bucket.after.push(("epochs/2.json".to_owned(), "sum".to_owned()));
    }),
    ("wrong-key", "a bucket in which nothing was at stake", Kind::NotRun, |it| {
        it.facts.refusals[0].bucket = Listings::default();
    }),
    ("fresh-over-backup", "a start that was not tried", Kind::NotRun, |it| {
        it.facts.refusals.pop();
    }),
    ("redeploy", "nothing was read", Kind::NotRun, |it| drop(it.entries.pop())),
    ("crash", "a disturbance that did not take place", Kind::NotRun, |it| it.facts.disturbed = None),
    ("redeploy", "one witness only", Kind::NotRun, |it| {
        it.facts.seen.pop();
    }),
    ("redeploy", "a step that could not be done", Kind::NotRun, |it| {
        it.facts.troubles.push("no container has traffic".to_owned());
    }),
    ("redeploy", "nothing was acknowledged, so nothing was shown", Kind::NotRun, |it| {
        it.entries.clear();
        for seen in &mut it.facts.seen {
            (seen.posts, seen.votes) = (Vec::new(), Vec::new());
            seen.karma = Vec::new();
            seen.totals = seen.totals.map(|_| (0, 0));
        }
    }),
];

#[test]
fn each_violation_is_seen_and_nothing_else() {
    let mut shown = BTreeSet::new();
    for (name, what, kind, harm) in
        [LOST_OR_WRONG, UNBACKED, NOT_THE_SAME, NOT_SHOWN, FAILED, ENDED, REFUSED].concat()
    {
        let row = find(name).expect("a row");
        let mut case = good_for(row);
        harm(&mut case);
        assert_eq!(kinds(&case, row), BTreeSet::from([kind]), "{name}: {what}");
        shown.insert(kind);
    }
    assert_eq!(shown.len(), 13, "a kind of violation has no case");
}

#[test]
fn stale_reads_inside_the_window_are_counted_apart() {
    let row = find("straggler").expect("a row");
    let mut case = good_for(row);
    case.entries.extend([994, 995, 3_000, 3_001].map(|sent| read(2, sent, Answer::Missing)));
    let measures = judge(&case.entries, &case.facts, row).measures;
    assert_eq!((measures.stale, measures.stale_inside, measures.reads), (2, 2, 5));
}

#[test]
fn what_was_not_shown_is_no_violation_and_does_not_hold() {
    let mut case = good();
    case.facts.not_shown.push("no redeploy was seen".to_owned());
    let verdict = judge(&case.entries, &case.facts, &TABLE[0]);
    assert_eq!((verdict.held, verdict.violations.len()), (false, 0));
    let judged = Outcome::Judged { entries: case.entries, facts: Box::new(case.facts), verdict };
    let mut report = Report::new("an engine", "a bucket", "none", Clock::start());
    report.scenarios.push(Scenario::new(&TABLE[0], 0, judged));
    assert_eq!((report.exit_code(), report.scenarios[0].word()), (exit::INCOMPLETE, "not shown"));
    assert!(report.text().contains("redeploy: not shown: no redeploy was seen"), "{}", report.text());
}

#[test]
fn the_evidence_has_each_restore_the_whole_verdict_and_what_litestream_came_to_then() {
    let case = good();
    let verdict = judge(&case.entries, &case.facts, &TABLE[0]);
    let judged = Outcome::Judged { entries: case.entries, facts: Box::new(case.facts), verdict };
    let mut report = Report::new("oraclenet", "a bucket", "none", Clock::start());
    report.scenarios.push(Scenario::new(&TABLE[0], 7_000, judged));
    assert!(!report.text().contains("Litestream"), "{}", report.text());
    report.litestream = Some(&crate::litestream::RECORDED);
    report.litestream_here = Some("oraclenet prove here".to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    report.write(folder.path()).expect("written");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a file");
    let evidence: serde_json::Value = serde_json::from_str(&read("evidence.json")).expect("JSON");
    assert_eq!((&evidence["verdict"], &evidence["exit_code"]), (&report.verdict().into(), &0.into()));
    assert_eq!((&evidence["rpo"], &evidence["rto"]), (&report.rpo().into(), &report.rto().into()));
    assert_eq!(evidence["scenarios"][0]["began"], 7_000);
    assert_eq!(evidence["litestream"]["scenarios"][0]["lost"], 112);
    let (label, restore) = (crate::litestream::RECORDED.label(), &report.scenarios[0].restores()[0]);
    assert!(restore.contains(" bytes up to TXID ") && restore.contains(" ms from "), "{restore}");
    for (place, text) in [("terminal", report.text()), ("page", read("evidence.html"))] {
        for part in
            [label.as_str(), "oraclenet prove here", "112", restore.split_once(": ").expect("a name").1]
        {
            assert!(text.contains(part), "{part} is not in the {place}: {text}");
        }
    }
}

#[test]
fn what_is_allowed_is_no_violation() {
    type Mildness = fn(&mut Good);
    let rows: &[(&str, &str, Mildness)] = &[
        ("redeploy", "a read that does not find a post acknowledged less than 200 ms before", |it| {
            it.entries.push(read(2, 509, Answer::Missing));
        }),
        ("crash", "a read that is cut inside the window", |it| {
            it.entries.push(read(2, 1_500, Answer::Cut(String::new())));
        }),
        ("wipe", "a read that is told 503 before the first success", |it| {
            it.entries.push(read(2, 3_000, unavailable(true)));
        }),
        ("straggler", "a read before the first success that does not find a post: it is counted", |it| {
            it.entries.push(read(2, 3_000, Answer::Missing));
        }),
        ("bucket-outage", "a read that was under way when the disturbance began", |it| {
            it.entries.push(read(2, 995, Answer::Missing));
        }),
        ("crash", "a 503 with Retry-After inside the window", |it| {
            it.entries.push(post(4, 1_500, unavailable(true)));
        }),
        ("wipe", "a cut connection that began before the window", |it| {
            let entry = post(4, 900, Answer::Cut(String::new()));
            it.entries.push(Entry { answer: Some((1_000, Answer::Cut(String::new()))), ..entry });
        }),
        ("bucket-outage", "a write that was sent just before the bucket was away", |it| {
            it.facts.cut_off = Some((251, 311));
        }),
        ("bucket-outage", "a write that ended when the bucket was back", |it| {
            it.facts.cut_off = Some((250, 310));
        }),
        ("bucket-outage", "a 503 before the first success", |it| {
            it.entries.push(post(4, 2_999, unavailable(true)));
        }),
        ("straggler", "a 503 to the straggler at any time", |it| {
            it.facts.straggler = Some("late".to_owned());
            it.entries.push(Entry { writer: "late".to_owned(), ..post(4, 3_900, unavailable(true)) });
        }),
        ("crash", "a write without an answer that is there after all", |it| {
            it.entries.push(post(4, 1_500, Answer::Cut(String::new())));
            for seen in &mut it.facts.seen {
                let more = Post { id: "p4".to_owned(), title: "title 4".to_owned(), ..seen.posts[1].clone() };
                seen.posts.push(more);
                seen.totals = seen.totals.map(|(posts, votes)| (posts + 1, votes));
            }
        }),
        ("wipe", "a restore that takes as long as it may", |it| {
            it.facts.disturbed = Some((1_000, 11_000));
            it.entries[3] = post(3, 11_000, Answer::Acknowledged);
        }),
        ("wipe", "a restore of which nobody was asked", |it| {
            it.facts.containers[1].boot.told = None;
            it.facts.containers[1].asked = false;
        }),
        ("crash", "a container that the scenario killed", |it| {
            it.facts.containers[0].end = Some(End { at: 2, code: None, signal: Some(9), why: Why::Killed });
        }),
    ];
    for (name, what, mild) in rows {
        let row = find(name).expect("a row");
        let mut case = good_for(row);
        mild(&mut case);
        assert_eq!(kinds(&case, row), BTreeSet::new(), "{name}: {what}");
    }
}
