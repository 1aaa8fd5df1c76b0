//! A machine comes back after others went on: what it built, and nobody may have, is never overwritten without a word; what
//! the chain holds is no reason to stop.

use crate::faults::{DOWN, FINE, LOSES_ANSWERS, moody, wait_for};
use crate::replica::{Disk, refused, slot};
use crate::rig::{LONG, Rig, insert, stopped, synced};
use litekeep::clock::SystemClock;
use litekeep::error::KeepError;
use litekeep::files::RealFiles;
use litekeep::local::peek;
use litekeep::replicator::Replicator;
use litekeep_core::env::Clock;
use litekeep_core::lineage::BesideReason;
use litekeep_core::ownership::Times;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{Key, Scope};
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

#[test]
fn r23_a_slot_that_nobody_heard_of_is_not_taken_for_the_chain_s_by_its_number() {
    for case in CASES {
        let (mut rig, mood) = moody();
        rig.settings.times = Times {
            tenure: Duration::from_millis(20),
            hand_over: Duration::from_millis(100),
            ..Times::USUAL
        };
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

        disk.put_back(&rig);
        let before = rig.objects(Scope::Level(Level::SLOTS));
        match case.expected {
            Some(expected) => {
                let error = refused(&rig);
                let found = match &*error {
                    KeepError::Beside { reason, .. } => Some(*reason),
                    _ => None,
                };
                assert_eq!(found, Some(expected), "{}: {error}", case.name);
                assert_eq!((count(&rig, "ours"), count(&rig, "theirs")), (1, 0), "{}", case.name);
                assert_eq!(built(&rig), Some(ours), "{}", case.name);
                assert_eq!(rig.objects(Scope::Level(Level::SLOTS)), before, "{}", case.name);
            }
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

/// Takes a snapshot, and deletes the slots up to this one, as retention does in time.
fn free(rig: &Rig, keeper: &litekeep::keeper::Keeper, last: Txid) {
    let whole = TxidRange::new(Txid::FIRST, synced(keeper)).unwrap();
    keeper.snapshot();
    wait_for(keeper, "a snapshot", || rig.store.head(&Key::Ltx(Level::SNAPSHOTS, whole)).is_ok());
    let slots: Vec<Key> = (1..=last.get()).map(slot).collect();
    rig.store.delete(&slots).unwrap();
}
