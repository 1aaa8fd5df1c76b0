//! A machine comes back after others went on: what it built, and nobody may have, is never overwritten without a word; what
//! the chain holds is no reason to stop. So it is wherever its disk was when its engine began.

use crate::faults::{DOWN, FINE, LOSES_ANSWERS, moody, wait_for};
use crate::idle::Jumping;
use crate::replica::{Disk, refused, slot};
use crate::rig::{LONG, Rig, insert, stopped, synced};
use litekeep::clock::SystemClock;
use litekeep::error::KeepError;
use litekeep::files::RealFiles;
use litekeep::jobs::{Job, Spawner};
use litekeep::local::peek;
use litekeep::replicator::{Env, Replicator};
use litekeep_core::env::Clock;
use litekeep_core::lineage::BesideReason;
use litekeep_core::ownership::Times;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{Key, Scope};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a machine's last slot fared before it was killed, and whether the others' retention came past it.
struct Case {
    name: &'static str,
    mood: u32,
    freed: bool,
    expected: Option<BesideReason>,
}

const CASES: [Case; 5] = [
    Case {
        name: "never put, and their slot has its number",
        mood: DOWN,
        freed: false,
        expected: Some(BesideReason::OtherSlot),
    },
    Case {
        name: "never put, and their slot of its number is deleted",
        mood: DOWN,
        freed: true,
        expected: Some(BesideReason::BothWentOn),
    },
    Case { name: "put, and the answer lost", mood: LOSES_ANSWERS, freed: false, expected: None },
    Case { name: "put", mood: FINE, freed: false, expected: None },
    Case { name: "put, and deleted since", mood: FINE, freed: true, expected: None },
];

fn built(rig: &Rig) -> Option<Txid> {
    peek(&RealFiles, &rig.meta()).unwrap().map(|state| state.txid)
}

/// The machine commits a row and is killed once that is in a slot, which met its fate. Returns the slot's number.
fn dies(rig: &Rig, set_mood: impl Fn(), is_over: impl Fn(&Replicator, Txid) -> bool) -> Txid {
    let mut replicator = Replicator::open(rig.env(), rig.settings.clone(), &rig.path()).unwrap();
    let begun = SystemClock.boot();
    let mut run = |until: &dyn Fn(&Replicator) -> bool| {
        while !until(&replicator) {
            replicator.poker()();
            let step = replicator.step();
            assert!(!step.ended && SystemClock.boot() - begun < LONG, "{:?}", replicator.status());
            std::thread::yield_now();
        }
    };
    run(&|replicator| replicator.status().epoch.is_some());
    let before = built(rig);
    set_mood();
    let app = rig.app();
    app.execute_batch("INSERT INTO t (v) VALUES ('ours')").unwrap();
    run(&|_| built(rig) > before);
    let ours = built(rig).unwrap();
    run(&|replicator| is_over(replicator, ours));
    drop(replicator);
    ours
}

fn count(rig: &Rig, what: &str) -> u32 {
    rig.app().query_row("SELECT count(*) FROM t WHERE v = ?1", [what], |row| row.get(0)).unwrap()
}

/// Others went on from what the machine had before its last slot. Gives its disk, and that slot's number.
fn left_behind(case: &Case) -> (Rig, Arc<AtomicU32>, Disk, Txid) {
    let (mut rig, mood) = moody();
    rig.settings.times =
        Times { tenure: Duration::from_millis(20), hand_over: Duration::from_millis(100), ..Times::USUAL };
    insert(&rig.app(), 20);
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    let base = Disk::of(&rig, "base");

    let bucket = Arc::clone(&rig.store);
    let ours = dies(
        &rig,
        || mood.store(case.mood, Ordering::SeqCst),
        |replicator, ours| match case.mood {
            FINE => replicator.status().durable == Some(ours),
            LOSES_ANSWERS => bucket.head(&slot(ours.get())).is_ok(),
            _ => true,
        },
    );
    let disk = Disk::of(&rig, "ours");
    mood.store(FINE, Ordering::SeqCst);

    base.put_back(&rig);
    let keeper = rig.keep();
    synced(&keeper);
    for _ in 0..2 {
        rig.app().execute_batch("INSERT INTO t (v) VALUES ('theirs')").unwrap();
        assert!(synced(&keeper) > ours, "{}", case.name);
    }
    if case.freed {
        free(&rig, &keeper, ours);
    }
    stopped(keeper);
    (rig, mood, disk, ours)
}

/// The start ends without a change here or there, for this reason.
fn assert_refused(
    rig: &Rig,
    ours: Txid,
    expected: BesideReason,
    case: &str,
    start: impl FnOnce() -> Arc<KeepError>,
) {
    let before = rig.objects(Scope::Level(Level::SLOTS));
    let error = start();
    let found = match &*error {
        KeepError::Beside { reason, .. } => Some(*reason),
        _ => None,
    };
    assert_eq!(found, Some(expected), "{case}: {error}");
    assert_eq!((count(rig, "ours"), count(rig, "theirs")), (1, 0), "{case}");
    assert_eq!(built(rig), Some(ours), "{case}");
    assert_eq!(rig.objects(Scope::Level(Level::SLOTS)), before, "{case}");
}

#[test]
fn r23_a_slot_that_nobody_heard_of_is_not_taken_for_the_chain_s_by_its_number() {
    for case in CASES {
        let (rig, _, disk, ours) = left_behind(&case);
        disk.put_back(&rig);
        match case.expected {
            Some(expected) => assert_refused(&rig, ours, expected, case.name, || refused(&rig)),
            None => {
                let keeper = rig.keep();
                synced(&keeper);
                stopped(keeper);
                assert_eq!((count(&rig, "ours"), count(&rig, "theirs")), (1, 2), "{}", case.name);
                rig.assert_restores();
            }
        }
    }
}

/// How a database comes whose engine is there already.
#[derive(Debug, Clone, Copy)]
enum Comes {
    /// With its folder.
    Folder,
    /// With a volume, which is mounted over a folder that was empty.
    Volume,
    /// With a folder that a link has led to all along.
    Link,
}

/// Jobs that run when the test says so.
#[derive(Clone, Default)]
struct Held {
    jobs: Arc<Mutex<Vec<Job>>>,
}

impl Spawner for Held {
    fn spawn(&self, _name: &str, job: Job) {
        self.jobs.lock().unwrap().push(job);
    }
}

impl Held {
    /// Runs what waits, and says how many that were.
    fn run(&self) -> usize {
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        jobs.into_iter().map(|job| job()).count()
    }
}

/// Starts while the database is away, and waits for the end by an error. It comes during the first look at the replica, to
/// which the store has this mood.
fn refused_late(rig: &Rig, comes: Comes, mood: &AtomicU32, first: u32) -> Arc<KeepError> {
    let (away, folder) = (tempfile::tempdir().unwrap(), rig.dir.path());
    let volume = away.path().join("volume");
    std::fs::rename(folder, &volume).unwrap();
    let path = match comes {
        Comes::Folder => rig.path(),
        Comes::Volume => {
            std::fs::create_dir(folder).unwrap();
            rig.path()
        }
        Comes::Link => {
            let link = away.path().join("app.db");
            symlink(rig.path(), &link).unwrap();
            link
        }
    };
    let (clock, jobs) = (Arc::new(Jumping::default()), Held::default());
    let env = Env { clock: Arc::clone(&clock) as _, spawner: Arc::new(jobs.clone()), ..rig.env() };
    let mut replicator = Replicator::open(env, rig.settings.clone(), &path).unwrap();
    replicator.step();
    if let Comes::Volume = comes {
        std::fs::rename(folder, away.path().join("covered")).unwrap();
    }
    std::fs::rename(&volume, folder).unwrap();
    mood.store(first, Ordering::SeqCst);
    assert_eq!(jobs.run(), 1, "it is looking at the replica");
    mood.store(FINE, Ordering::SeqCst);
    for _ in 0..1000 {
        let step = replicator.step();
        if step.ended {
            return replicator.status().failure.unwrap();
        }
        if jobs.run() == 0 {
            clock.pass(step.wait);
        }
    }
    panic!("not refused: {:?}", replicator.status());
}

#[test]
fn r23_a_database_that_comes_while_the_replica_is_looked_at_is_met_like_one_that_was_there() {
    for case in CASES {
        let Some(expected) = case.expected else { continue };
        let (rig, mood, disk, ours) = left_behind(&case);
        for comes in [Comes::Folder, Comes::Volume, Comes::Link] {
            for first in [FINE, DOWN] {
                disk.put_back(&rig);
                let name = format!("{}, {comes:?}, the first look in mood {first}", case.name);
                assert_refused(&rig, ours, expected, &name, || refused_late(&rig, comes, &mood, first));
            }
        }
    }
}

/// Takes a snapshot, and deletes the slots up to this one, as retention does in time.
fn free(rig: &Rig, keeper: &litekeep::keeper::Keeper, last: Txid) {
    let whole = TxidRange::new(Txid::FIRST, synced(keeper)).unwrap();
    keeper.snapshot();
    wait_for(keeper, "a snapshot", || rig.store.head(&Key::Ltx(Level::SNAPSHOTS, whole)).is_ok());
    let slots: Vec<Key> = (1..=last.get()).map(slot).collect();
    rig.store.delete(&slots).unwrap();
}
