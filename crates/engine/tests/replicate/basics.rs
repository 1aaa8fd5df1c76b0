//! What anybody would try first.

use crate::rig::{LONG, Rig, insert, stopped, synced};
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{Key, Scope};

#[test]
fn a_database_goes_to_the_replica_and_comes_back() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    synced(&keeper);
    rig.assert_restores();
    for rows in [1, 10, 3000] {
        insert(&app, rows);
        synced(&keeper);
        rig.assert_restores();
    }
    app.execute_batch("DELETE FROM t WHERE id % 3 = 0; VACUUM").unwrap();
    synced(&keeper);
    rig.assert_restores();
    stopped(keeper);
}

#[test]
fn slots_are_consecutive_and_a_restart_uploads_nothing() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    synced(&keeper);
    insert(&app, 10);
    let last = synced(&keeper);
    keeper.stop(LONG).unwrap();
    let before = rig.objects(Scope::Level(Level::SLOTS));
    assert_eq!(before.len() as u64, last.get());

    let keeper = rig.keep();
    assert_eq!(synced(&keeper), last);
    assert_eq!(rig.objects(Scope::Level(Level::SLOTS)), before);
    insert(&app, 1);
    assert_eq!(synced(&keeper), last.next());
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r02_a_large_existing_database_is_there_from_the_first_slot_on() {
    const RAW: u64 = 200_000 * 100;
    // An image that one slot carries, and one that goes to level 9 as a stream.
    for (max_slot_bytes, level, slots) in [(u64::MAX, 0, 1), (RAW / 10, 9, 2)] {
        let mut rig = Rig::new();
        rig.settings.max_slot_bytes = max_slot_bytes;
        let app = rig.app();
        insert(&app, 200_000);
        app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let keeper = rig.keep();
        // Behind a stream, a slot says that it is there.
        assert_eq!(synced(&keeper).get(), slots);
        // Number 1 itself stands, though a restore could do with its copy in level 9; and the content is in the replica
        // by the time that the engine calls it durable.
        let level = Level::new(level).unwrap();
        let first = Key::Ltx(level, TxidRange::single(Txid::FIRST));
        let object = rig.objects(Scope::Level(level)).into_iter().find(|object| object.key == first);
        assert!(object.as_ref().is_some_and(|object| object.size > RAW), "{first}: {object:?}");
        assert_eq!(rig.objects(Scope::Level(Level::SLOTS)).len() as u64, slots);
        rig.assert_restores();
        insert(&app, 1);
        synced(&keeper);
        stopped(keeper);
        rig.assert_restores();
    }
}

#[test]
fn a_database_that_somebody_keeps_locked_is_waited_for_without_asking_the_replica_again() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    app.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let keeper = rig.keep();
    while keeper.status().trouble.is_none() {
        let _ = keeper.sync(std::time::Duration::from_millis(5));
    }
    assert!(keeper.status().trouble.unwrap().to_string().contains("locked"));
    app.execute_batch("ROLLBACK; PRAGMA locking_mode=NORMAL; PRAGMA journal_mode=WAL").unwrap();
    insert(&app, 1);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}
