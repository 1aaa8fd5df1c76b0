//! What anybody would try first.

use crate::rig::{LONG, Rig, app, assert_same, insert, stopped, synced};
use litekeep::keeper::Keeper;
use litekeep::replicator::Health;
use litekeep_formats::ltx::Header;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{Key, Scope};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
fn a_database_whose_folder_comes_late_is_told_of_its_changes_like_any_other() {
    let rig = Rig::new();
    let path = rig.dir.path().join("late/deep/app.db");
    let keeper = Keeper::start(rig.env(), rig.settings.clone(), &path).unwrap();
    while keeper.status().health != Health::Waiting {
        std::thread::yield_now();
    }
    assert!(!rig.dir.path().join("late").exists());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let app = app(&path);
    insert(&app, 100);
    synced(&keeper);
    insert(&app, 100);
    synced(&keeper);
    assert_same(&path, &rig.restored().0);
    assert!(!stopped(keeper).polling, "whoever comes late hears of changes all the same");
    // Gone before anybody has seen it: there is nothing to be brought up.
    std::fs::remove_dir_all(rig.dir.path().join("late")).unwrap();
    let keeper = Keeper::start(rig.env(), rig.settings.clone(), &path).unwrap();
    assert!(keeper.stop(LONG).is_ok());
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

#[test]
fn page_checksums_that_are_lost_are_made_anew_also_beside_a_writer_that_does_not_pause() {
    for writes_on in [false, true] {
        let rig = Rig::new();
        let app = rig.app();
        insert(&app, 5_000);
        let keeper = rig.keep();
        synced(&keeper);
        stopped(keeper);
        let kept = std::fs::read_dir(rig.meta()).unwrap().map(|entry| entry.unwrap().path());
        let arrays = kept.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("sums-"));
        assert_eq!(arrays.map(|path| std::fs::remove_file(path).unwrap()).count(), 1);
        let keeper = rig.keep();
        let (path, ends) = (rig.path(), Arc::new(AtomicBool::new(!writes_on)));
        let ended = Arc::clone(&ends);
        let writer = std::thread::spawn(move || {
            let app = crate::rig::app(&path);
            while !ended.load(Ordering::SeqCst) {
                insert(&app, 1);
            }
        });
        let states_it = |txid| {
            let key = Key::Ltx(Level::SLOTS, TxidRange::single(txid));
            let head = rig.store.read(&key, Some(0..Header::LEN as u64)).unwrap();
            Header::parse(&head.bytes).unwrap().seal().unwrap().database.is_some()
        };
        let found = (0..500).any(|_| {
            insert(&app, 1);
            states_it(synced(&keeper))
        });
        assert!(found, "writes on: {writes_on}");
        ends.store(true, Ordering::SeqCst);
        writer.join().unwrap();
        synced(&keeper);
        stopped(keeper);
        rig.assert_restores();
        // They are good for what they are kept for: a broken chain is mended with what differs.
        insert(&app, 1);
        app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let keeper = rig.keep();
        synced(&keeper);
        let status = stopped(keeper);
        assert_eq!(status.images, 0, "writes on: {writes_on}");
        rig.assert_restores();
    }
}
