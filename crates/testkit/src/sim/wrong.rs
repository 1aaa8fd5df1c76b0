//! Engines that are wrong on purpose: each does one thing as somebody once did, and the checker must notice, within the
//! number of seeds that stands beside it.

use super::{BucketFlaw, Crash, Fate, FilesFlaw, Flaws, PromiseFlaw, Scenario};
use crate::faulty::Weather;
use crate::workload::Shape;
use litekeep_core::agenda::{self, Settled};
use litekeep_core::assess::{self, Advance, Facts, Position, Resume};
use litekeep_core::decisions::{Decisions, Handover};

/// A wrong engine.
#[derive(Clone, Copy)]
pub struct Variant {
    /// What people call it.
    pub name: &'static str,
    /// What it does, and what that costs.
    pub why: &'static str,
    /// How many seeds may pass, from 0 on, before one of them finds it out.
    pub seeds: u64,
    /// How its mistake shows: what is found must say one of these.
    pub expects: &'static [&'static str],
    flaws: Flaws,
    scene: fn(u64) -> Scenario,
}

impl Variant {
    /// The scenario that goes for it, with the wrong engine in it.
    pub fn scenario(&self, seed: u64) -> Scenario {
        Scenario { flaws: self.flaws, ..self.right(seed) }
    }

    /// The same scenario with the right engine. (To see it again: `--wrong NAME --right`.)
    pub fn right(&self, seed: u64) -> Scenario {
        Scenario { name: self.name, ..(self.scene)(seed) }
    }
}

/// Much work between the engine's calls and many checkpoints: for mistakes about the life of the WAL.
fn busy(seed: u64) -> Scenario {
    Scenario {
        shape: Some(Shape { autocheckpoint: 7, cache: 5, limit: 100_000, ..Shape::PLAIN }),
        weather: Weather::CLEAR,
        crash: Crash::Never,
        interrupts: Some(30),
        ..Scenario::smoke(seed)
    }
}

/// A WAL that may begin anew with each commit: for mistakes about what keeps it.
fn crowded(seed: u64) -> Scenario {
    let shape = Shape { autocheckpoint: 1, cache: 5, limit: 100_000, ..Shape::PLAIN };
    Scenario { shape: Some(shape), interrupts: Some(8), ..busy(seed) }
}

/// Processes that die and stay down for a while: for mistakes about the start.
fn restless(seed: u64) -> Scenario {
    Scenario { turns: 1500, kills: 1, ..busy(seed) }
}

/// Power losses that leave the disk: for mistakes about what is durable.
fn brittle(seed: u64) -> Scenario {
    Scenario { turns: 800, crash: Crash::Times(6), disk: Fate::Survives, ..busy(seed) }
}

/// Wiped disks, and puts that arrive after their sender's death: for mistakes about names in the store.
fn late(seed: u64) -> Scenario {
    let shape = Shape { autocheckpoint: 7, cache: 5, limit: 20_000, blob: 3000, ..Shape::PLAIN };
    Scenario {
        shape: Some(shape),
        turns: 1500,
        weather: Weather { held_back: 150, ..Weather::CLEAR },
        crash: Crash::Times(6),
        disk: Fate::Wiped,
        ..busy(seed)
    }
}

/// Writers that die at a commit while the engine keeps the index alive: for mistakes about what is committed.
fn deadly(seed: u64) -> Scenario {
    let shape = Shape { autocheckpoint: 0, cache: 5, limit: 40_000, ..Shape::PLAIN };
    Scenario { shape: Some(shape), turns: 600, kills: 40, ..busy(seed) }
}

/// A store in bad weather, and a wiped disk: for mistakes about answers.
fn stormy(seed: u64) -> Scenario {
    let shape = Shape { limit: 60_000, ..Shape::PLAIN };
    Scenario { shape: Some(shape), crash: Crash::Times(3), disk: Fate::Wiped, ..Scenario::smoke(seed) }
}

/// Listings that lag, and wiped disks: for mistakes about what is there.
fn lagging(seed: u64) -> Scenario {
    Scenario { weather: Weather { stale: 300, ..Weather::CLEAR }, ..late(seed) }
}

/// Much time, and a wall clock that jumps: for mistakes about retention and compaction.
fn old(seed: u64) -> Scenario {
    let shape = Shape { limit: 40_000, ..Shape::PLAIN };
    Scenario { turns: 600, clock_jumps: 20, shape: Some(shape), crash: Crash::Never, ..stormy(seed) }
}

/// A replica in which a bit goes wrong, and nothing else: for mistakes about what is read.
fn rotten(seed: u64) -> Scenario {
    let shape = Shape { limit: 40_000, ..Shape::PLAIN };
    Scenario {
        shape: Some(shape),
        turns: 400,
        rot: 100,
        weather: Weather::CLEAR,
        crash: Crash::Never,
        ..Scenario::smoke(seed)
    }
}

/// An hour of which nothing is asked.
fn idle(seed: u64) -> Scenario {
    Scenario { turns: 120, idle: true, crash: Crash::Never, ..stormy(seed) }
}

/// A disk that is full now and then, and processes that die.
fn cramped(seed: u64) -> Scenario {
    Scenario { disk_trouble: 60, crash: Crash::Times(4), disk: Fate::Survives, turns: 600, ..busy(seed) }
}

const RIGHT: Decisions = Decisions::RIGHT;

/// Pages that are not those of a commit.
const PAGES: &[&str] = &["no commit is", "integrity_check", "the pages give"];
/// A database that is none, or not the one that was committed.
const ROTTEN: &[&str] = &["no commit is", "integrity_check", "the pages give", "malformed", "not a database"];
/// Less than was acknowledged.
const LOST: &[&str] = &["was acknowledged", "has a gap"];
/// The one or the other, as it comes.
const BOTH: &[&str] = &["no commit is", "integrity_check", "the pages give", "was acknowledged", "has a gap"];
/// A file whose record did not outlive the power.
const FORGOTTEN: &[&str] = &["does not continue", "no commit is", "integrity_check", "the pages give"];
/// Less than was acknowledged, or a start that takes another way.
const ASTRAY: &[&str] = &["was acknowledged", "has a gap", "does not continue"];
/// Work without a cause.
const RESTLESS: &[&str] = &["jobs while nothing happens", "requests in an idle hour"];
/// A slot that is gone before its time.
const TOO_SOON: &[&str] = &["was deleted at an age", "has a gap"];

type Scene = fn(u64) -> Scenario;

fn decides(
    name: &'static str,
    seeds: u64,
    decisions: Decisions,
    scene: Scene,
    expects: &'static [&'static str],
    why: &'static str,
) -> Variant {
    Variant { name, why, seeds, expects, flaws: Flaws { decisions, ..Flaws::NONE }, scene }
}

fn bucket(
    name: &'static str,
    seeds: u64,
    bucket: BucketFlaw,
    scene: Scene,
    expects: &'static [&'static str],
    why: &'static str,
) -> Variant {
    Variant { name, why, seeds, expects, flaws: Flaws { bucket, ..Flaws::NONE }, scene }
}

fn files(
    name: &'static str,
    seeds: u64,
    files: FilesFlaw,
    scene: Scene,
    expects: &'static [&'static str],
    why: &'static str,
) -> Variant {
    Variant { name, why, seeds, expects, flaws: Flaws { files, ..Flaws::NONE }, scene }
}

fn promises(
    name: &'static str,
    seeds: u64,
    promise: PromiseFlaw,
    scene: Scene,
    expects: &'static [&'static str],
    why: &'static str,
) -> Variant {
    Variant { name, why, seeds, expects, flaws: Flaws { promise, ..Flaws::NONE }, scene }
}

/// All of them.
pub fn variants() -> Vec<Variant> {
    [
        about_the_wal(),
        about_frames(),
        about_slots(),
        about_the_bucket(),
        about_what_is_deleted(),
        about_restores(),
    ]
    .concat()
}

fn about_the_wal() -> Vec<Variant> {
    let gap = Decisions { handover: Handover::Gap, ..RIGHT };
    let nocap = Decisions { handover: Handover::Blind, ..RIGHT };
    let always_survives = Decisions { survives_release: |_, _| true, ..RIGHT };
    let trust_restart = Decisions { resume: |_, _, _| Resume::Intact, ..RIGHT };
    let same_size = Decisions { advance: same_size, ..RIGHT };
    let chain_only = Decisions { committed: |_, chain| chain(), ..RIGHT };
    vec![
        decides(
            "gap",
            20,
            gap,
            crowded,
            PAGES,
            "ends the old read transaction before the new one begins: the WAL restarts in between",
        ),
        decides(
            "nocap",
            40,
            nocap,
            busy,
            PAGES,
            "hands protection over without taking what was committed meanwhile",
        ),
        decides(
            "always-survives",
            40,
            always_survives,
            busy,
            PAGES,
            "believes that frames it has not taken outlive the end of its read transaction",
        ),
        decides(
            "trust-restart",
            20,
            trust_restart,
            restless,
            PAGES,
            "after a downtime, takes a WAL with other salts for the next life of the one it knew",
        ),
        decides(
            "same-size",
            20,
            same_size,
            busy,
            BOTH,
            "R04: takes a WAL that is no longer than before for unchanged",
        ),
        decides(
            "chain-only",
            100,
            chain_only,
            deadly,
            BOTH,
            "believes every commit to which the checksums lead, whatever the index of the WAL says",
        ),
    ]
}

fn about_frames() -> Vec<Variant> {
    vec![
        files(
            "keep-uncommitted-frames",
            60,
            FilesFlaw::KeepsFrames,
            busy,
            PAGES,
            "keeps pages that it read before their transaction committed; SQLite writes over such frames",
        ),
        files(
            "first-version",
            20,
            FilesFlaw::FirstVersion,
            busy,
            PAGES,
            "takes the first version of a page in the WAL for the last one",
        ),
    ]
}

fn about_slots() -> Vec<Variant> {
    let drop_before_stage = Decisions { stage_before_release: false, ..RIGHT };
    let only_new_pages = Decisions { differs: |known, _| known.is_none(), ..RIGHT };
    vec![
        decides(
            "drop-before-stage",
            20,
            drop_before_stage,
            brittle,
            PAGES,
            "lets WAL frames go before their copies are on the disk",
        ),
        decides(
            "only-new-pages",
            20,
            only_new_pages,
            restless,
            PAGES,
            "after a broken chain, ships the pages that are new and not those that differ",
        ),
        files(
            "never-syncs",
            20,
            FilesFlaw::NeverSyncs,
            brittle,
            FORGOTTEN,
            "saves its state and its slots without a sync",
        ),
        files(
            "full-is-written",
            200,
            FilesFlaw::FullIsWritten,
            cramped,
            FORGOTTEN,
            "takes the refusal of a full disk for a success",
        ),
        promises(
            "built-is-durable",
            100,
            PromiseFlaw::Built,
            stormy,
            LOST,
            "acknowledges what is built, not what is put",
        ),
        promises(
            "hasty-answer",
            20,
            PromiseFlaw::Hasty,
            stormy,
            LOST,
            "acknowledges without a look at what was committed since the last one",
        ),
    ]
}

fn about_the_bucket() -> Vec<Variant> {
    let ack_before_put = Decisions { durable_after_put: false, ..RIGHT };
    let never_settled = Decisions {
        agenda: |catalog, schedule, _| agenda::next(catalog, schedule, &Settled::default()),
        ..RIGHT
    };
    vec![
        decides(
            "ack-before-put",
            100,
            ack_before_put,
            stormy,
            LOST,
            "calls a slot durable when its put was sent",
        ),
        decides(
            "never-settled",
            10,
            never_settled,
            idle,
            RESTLESS,
            "looks again and again for something to compact or to delete where nothing has changed",
        ),
        bucket(
            "silence-is-consent",
            200,
            BucketFlaw::SilenceIsConsent,
            stormy,
            LOST,
            "takes the put of a slot that had no answer for done",
        ),
    ]
}

fn about_what_is_deleted() -> Vec<Variant> {
    vec![
        bucket(
            "deletes-sources-first",
            40,
            BucketFlaw::DeletesSourcesFirst,
            old,
            TOO_SOON,
            "deletes what it merges before the merged file is confirmed",
        ),
        bucket(
            "deletes-one-too-many",
            40,
            BucketFlaw::DeletesOneTooMany,
            old,
            TOO_SOON,
            "retention that goes one slot too far, without proving its plan",
        ),
        bucket(
            "own-clock",
            100,
            BucketFlaw::OwnClock,
            old,
            TOO_SOON,
            "R65: reckons ages by this machine's clock, which jumps",
        ),
        bucket(
            "list-is-truth",
            100,
            BucketFlaw::ListIsTruth,
            lagging,
            ASTRAY,
            "R60: what a listing that lags does not show is not there, for a start and for a restore",
        ),
    ]
}

fn about_restores() -> Vec<Variant> {
    let unverified = Decisions { is_whole: |_, _| true, ..RIGHT };
    vec![decides(
        "restores-unverified",
        20,
        unverified,
        rotten,
        ROTTEN,
        "puts a database in place without comparing what it read with the checksums of the files and of the seal",
    )]
}

fn same_size(facts: &Facts, position: &Position) -> Advance {
    if facts.mx_frame <= position.frame { Advance::Nothing } else { assess::advance(facts, position) }
}
