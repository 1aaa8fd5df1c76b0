//! Compaction, snapshots and what an idle database costs.

#![allow(clippy::disallowed_methods, reason = "real threads are waited for in real time")]

use crate::rig::{LONG, Rig, insert, stopped, synced};
use litekeep_formats::Level;
use litekeep_store::{Key, Scope};
use std::time::{Duration, Instant};

fn level(n: u8) -> Scope {
    Scope::Level(Level::new(n).unwrap())
}

fn quick(rig: &mut Rig) {
    rig.settings.levels = vec![Duration::from_millis(40), Duration::from_millis(150)];
    rig.settings.snapshot_interval = Duration::from_millis(400);
}

/// Writes until `seen` is true of the replica. How many commits that takes is the machine's affair: chores come by time.
fn write_until(rig: &Rig, keeper: &litekeep::keeper::Keeper, seen: impl Fn() -> bool) {
    let app = rig.app();
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        insert(&app, 3);
        synced(keeper);
        if seen() {
            return;
        }
    }
    panic!("never seen: {:?}", keeper.status());
}

#[test]
fn levels_and_snapshots_come_and_every_state_of_them_restores() {
    let mut rig = Rig::new();
    quick(&mut rig);
    insert(&rig.app(), 100);
    let keeper = rig.keep();
    synced(&keeper);
    write_until(&rig, &keeper, || rig.objects(level(2)).len() > 1 && rig.objects(level(9)).len() > 1);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
    // Without slots and without level 9, the levels must do.
    let first = rig.objects(level(9))[0].key;
    for scope in [level(0), level(9)] {
        let mut keys: Vec<Key> = rig.objects(scope).iter().map(|entry| entry.key).collect();
        keys.retain(|key| *key != first);
        keys.pop_if(|_| scope == level(0));
        rig.store.delete(&keys).unwrap();
    }
    let keeper = rig.keep();
    synced(&keeper);
    keeper.stop(LONG).unwrap();
    rig.assert_restores();
}

#[test]
fn r36_an_image_is_in_its_slot_and_in_level_9_and_nowhere_else() {
    let mut rig = Rig::new();
    quick(&mut rig);
    insert(&rig.app(), 20_000);
    let keeper = rig.keep();
    synced(&keeper);
    write_until(&rig, &keeper, || rig.objects(level(2)).len() > 1);
    stopped(keeper);
    let image = rig.objects(level(0))[0].size;
    for n in 1..=2 {
        assert!(rig.objects(level(n)).iter().all(|entry| entry.size < image / 2), "level {n}");
    }
    assert!(!rig.objects(level(9)).is_empty());
    rig.assert_restores();
}

#[test]
fn r32_a_slot_that_vanishes_before_it_is_compacted_is_mended_while_running() {
    let mut rig = Rig::new();
    rig.settings.levels = vec![Duration::from_secs(1)];
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    synced(&keeper);
    insert(&app, 1);
    let lost = synced(&keeper);
    insert(&app, 1);
    synced(&keeper);
    assert_eq!(keeper.status().bad_sources, 0);
    rig.store.delete(&[Key::Ltx(Level::SLOTS, litekeep_formats::TxidRange::single(lost))]).unwrap();
    write_until(&rig, &keeper, || keeper.status().images > 1);
    assert!(keeper.status().bad_sources >= 1, "{:?}", keeper.status());
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn pages_go_as_lz4_frames_into_every_level_when_that_is_asked_for() {
    let mut rig = Rig::new();
    quick(&mut rig);
    rig.settings.encoding = litekeep_formats::ltx::PageEncoding::Frame;
    insert(&rig.app(), 100);
    let keeper = rig.keep();
    synced(&keeper);
    write_until(&rig, &keeper, || rig.objects(level(2)).len() > 1 && rig.objects(level(9)).len() > 1);
    stopped(keeper);
    for n in [0, 1, 2, 9] {
        for entry in rig.objects(level(n)) {
            let bytes = rig.store.read(&entry.key, None).unwrap().bytes;
            // The first page's flags (offset 104) are 0, and an LZ4 frame's magic follows.
            assert_eq!(bytes[104..110], [0, 0, 0x04, 0x22, 0x4d, 0x18], "{}", entry.key);
        }
    }
    rig.assert_restores();
}
