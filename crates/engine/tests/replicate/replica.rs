//! What may have happened to the replica, and to the file, before a start.

use crate::rig::{LONG, Rig, insert, stopped, synced};
use litekeep::files::RealFiles;
use litekeep::local::peek;

use litekeep::clock::SystemClock;
use litekeep::error::{KeepError, KeepErrorKind};
use litekeep::replicator::{Health, Replicator, Status};
use litekeep_core::env::Clock as _;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::memory::MemoryStore;
use litekeep_store::{Key, Scope};
use std::sync::Arc;

pub(crate) fn slot(txid: u64) -> Key {
    Key::Ltx(Level::SLOTS, TxidRange::single(Txid::new(txid).unwrap()))
}

/// Starts, waits for the end by an error, and gives it.
pub(crate) fn refused(rig: &Rig) -> std::sync::Arc<KeepError> {
    let keeper = rig.keep();
    let _ = keeper.sync(LONG);
    let Status { health, failure, .. } = keeper.status();
    assert_eq!(health, Health::Ended);
    failure.unwrap()
}

#[test]
fn r20_a_restored_file_without_any_local_state_goes_on_if_it_equals_the_replica() {
    let rig = Rig::new();
    insert(&rig.app(), 100);
    let keeper = rig.keep();
    let last = synced(&keeper);
    keeper.stop(LONG).unwrap();
    let (restored, _) = rig.restored();
    std::fs::remove_dir_all(rig.meta()).unwrap();
    std::fs::rename(restored, rig.path()).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix));
    }
    let keeper = rig.keep();
    assert_eq!(synced(&keeper), last, "nothing was uploaded");
    insert(&rig.app(), 1);
    assert_eq!(synced(&keeper), last.next());
    assert_eq!(keeper.status().images, 0);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r26_a_fresh_file_never_goes_over_a_good_replica() {
    let rig = Rig::new();
    insert(&rig.app(), 100);
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    std::fs::remove_dir_all(rig.meta()).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix));
    }
    insert(&rig.app(), 3);
    let before = rig.objects(Scope::Level(Level::SLOTS));
    let error = refused(&rig);
    assert!(matches!(*error, KeepError::Beside { .. }), "{error}");
    assert_eq!(rig.objects(Scope::Level(Level::SLOTS)), before);
}

#[test]
fn r24_a_second_writer_is_stopped_by_the_slot_that_is_taken_and_told_by_whom() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    let last = synced(&keeper);
    let foreign = rig.store.read(&slot(last.get()), None).unwrap().bytes;
    rig.store.put(&slot(last.next().get()), foreign, litekeep_formats::TimestampMs(0)).unwrap();
    insert(&app, 1);
    let _ = keeper.sync(LONG);
    let failure = keeper.status().failure.unwrap();
    assert_eq!(failure.kind(), KeepErrorKind::Fenced);
    assert!(failure.to_string().contains("owner"), "{failure}");
}

/// Two plain daemons, each with an application and a database of its own, and nothing in the replica yet.
#[test]
fn r24_of_two_that_begin_at_once_on_an_empty_replica_one_goes_on() {
    for round in 0..4 {
        let one = Rig::new();
        let two = Rig::on(Arc::clone(&one.store));
        let rigs = [one, two];
        let apps = [rigs[0].app(), rigs[1].app()];
        for (app, rows) in apps.iter().zip([10, 20]) {
            insert(app, rows);
        }
        let [one, two] = [rigs[0].keep(), rigs[1].keep()];
        // Their applications go on writing meanwhile.
        let ended = loop {
            apps.iter().for_each(|app| insert(app, 1));
            match (one.sync(LONG), two.sync(LONG)) {
                (Ok(_), Ok(_)) => {}
                (first, _) => break usize::from(first.is_ok()),
            }
        };
        let (late, other) = if ended == 0 { (one, two) } else { (two, one) };
        let failure = late.status().failure.unwrap();
        assert!(matches!(*failure, KeepError::Beside { .. }), "round {round}: {failure}");
        let before = synced(&other);
        insert(&apps[1 - ended], 1);
        assert!(synced(&other) > before, "round {round}");
        stopped(other);
        rigs[1 - ended].assert_restores();
    }
}

/// It ended with a slot that stands nowhere: a change of its own, whether the name still shows whose it is or not.
#[test]
fn r24_what_a_fenced_owner_had_built_is_not_overwritten_by_its_next_start() {
    for merged_away in [false, true] {
        let (one, app) = owned();
        let keeper = one.keep();
        let last = synced(&keeper);
        let two = Rig::on(Arc::clone(&one.store));
        std::fs::copy(one.restored().0, two.path()).unwrap();
        let successor = two.keep();
        synced(&successor);
        insert(&app, 1);
        let _ = keeper.sync(LONG);
        assert_eq!(keeper.status().failure.unwrap().kind(), KeepErrorKind::Fenced);
        assert!(keeper.status().built > Some(last));
        drop(keeper);
        let theirs = two.app();
        while synced(&successor) < last.next().next() {
            insert(&theirs, 1);
        }
        successor.snapshot();
        while one.objects(Scope::Level(Level::SNAPSHOTS)).len() < 2 {
            insert(&theirs, 1);
            synced(&successor);
        }
        stopped(successor);
        if merged_away {
            one.store.delete(&[slot(last.next().get())]).unwrap();
        }
        let count = || -> u32 { app.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap() };
        let before = count();
        let error = refused(&one);
        assert!(matches!(*error, KeepError::Beside { .. }), "{error}");
        assert_eq!((before, count()), (11, 11));
    }
}

fn owned() -> (Rig, rusqlite::Connection) {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    (rig, app)
}

#[test]
fn r32_a_replica_that_lost_a_confirmed_object_is_mended_by_an_image() {
    for lost in [2, 3] {
        let rig = Rig::new();
        let app = rig.app();
        insert(&app, 10);
        let keeper = rig.keep();
        synced(&keeper);
        for _ in 0..2 {
            insert(&app, 1);
            synced(&keeper);
        }
        stopped(keeper);
        rig.store.delete(&[slot(lost)]).unwrap();
        let keeper = rig.keep();
        synced(&keeper);
        insert(&app, 1);
        synced(&keeper);
        stopped(keeper);
        rig.assert_restores();
    }
}

#[test]
fn r22_a_stale_file_with_changes_of_its_own_stops_the_start() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    let state = std::fs::read(rig.meta().join("state")).unwrap();
    let keeper = rig.keep();
    insert(&app, 1);
    synced(&keeper);
    stopped(keeper);
    std::fs::write(rig.meta().join("state"), state).unwrap();
    insert(&app, 1);
    let error = refused(&rig);
    assert!(matches!(*error, KeepError::Beside { .. }), "{error}");
}

#[test]
fn a_wiped_replica_stops_a_fresh_file_and_is_mended_by_the_file_it_came_from() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    synced(&keeper);
    insert(&app, 10);
    let last = synced(&keeper);
    stopped(keeper);
    for level in Level::all() {
        let keys: Vec<Key> = rig.objects(Scope::Level(level)).iter().map(|entry| entry.key).collect();
        rig.store.delete(&keys).unwrap();
    }
    let keeper = rig.keep();
    assert_eq!(synced(&keeper), last.next());
    stopped(keeper);
    rig.assert_restores();

    for level in Level::all() {
        let keys: Vec<Key> = rig.objects(Scope::Level(level)).iter().map(|entry| entry.key).collect();
        rig.store.delete(&keys).unwrap();
    }
    std::fs::remove_dir_all(rig.meta()).unwrap();
    let error = refused(&rig);
    assert!(matches!(*error, KeepError::Wiped { .. }), "{error}");
}

#[test]
fn a_transaction_past_the_slot_limit_goes_to_level_9_as_a_stream() {
    let mut rig = Rig::new();
    rig.settings.max_slot_bytes = 100_000;
    let app = rig.app();
    insert(&app, 5000);
    let keeper = rig.keep();
    synced(&keeper);
    rig.assert_restores();
    insert(&app, 10);
    synced(&keeper);
    rig.assert_restores();
    insert(&app, 5000);
    synced(&keeper);
    insert(&app, 1);
    synced(&keeper);
    assert_eq!(keeper.status().images, 2);
    stopped(keeper);
    rig.assert_restores();
    for entry in rig.objects(Scope::Level(Level::SLOTS)) {
        assert!(entry.size < 100_000, "{entry:?}");
    }
}

#[test]
fn r22_a_stale_file_without_changes_of_its_own_is_brought_forward() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 300);
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    drop(app);
    // The disk as it was: the database without a WAL, and the local state, which the first run left.
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    let old = std::fs::read(rig.path()).unwrap();
    let meta = rig.dir.path().join("meta-then");
    copy_dir(&rig.meta(), &meta);
    let app = rig.app();
    let keeper = rig.keep();
    insert(&app, 2000);
    app.execute_batch("DELETE FROM t WHERE id < 100").unwrap();
    let last = synced(&keeper);
    stopped(keeper);
    drop(app);
    std::fs::write(rig.path(), old).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix));
    }
    std::fs::remove_dir_all(rig.meta()).unwrap();
    copy_dir(&meta, &rig.meta());

    let keeper = rig.keep();
    let rows: u32 = {
        assert!(synced(&keeper) >= last);
        rig.app().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows, 2201);
    assert_eq!(keeper.status().images, 0);
    stopped(keeper);
    rig.assert_restores();
}

/// What a machine's disk holds of a database.
pub(crate) struct Disk {
    database: Vec<u8>,
    wal: Option<Vec<u8>>,
    meta: std::path::PathBuf,
}

impl Disk {
    pub(crate) fn of(rig: &Rig, name: &str) -> Self {
        let meta = rig.dir.path().join(name);
        copy_dir(&rig.meta(), &meta);
        let wal = std::fs::read(litekeep::files::with_suffix(&rig.path(), "-wal")).ok();
        Self { database: std::fs::read(rig.path()).unwrap(), wal, meta }
    }

    /// The file stays the one that the state speaks of.
    pub(crate) fn put_back(&self, rig: &Rig) {
        std::fs::write(rig.path(), &self.database).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix));
        }
        if let Some(wal) = &self.wal {
            std::fs::write(litekeep::files::with_suffix(&rig.path(), "-wal"), wal).unwrap();
        }
        std::fs::remove_dir_all(rig.meta()).unwrap();
        copy_dir(&self.meta, &rig.meta());
    }
}

#[test]
fn r22_a_file_that_was_brought_forward_when_the_power_went_is_still_an_older_state_of_the_chain() {
    let rig = Rig::new();
    let run = |rows: u32| {
        let keeper = rig.keep();
        // What is written before the file was brought forward would be a change of its own.
        if rig.path().exists() {
            synced(&keeper);
        }
        let app = rig.app();
        insert(&app, rows);
        let last = synced(&keeper);
        stopped(keeper);
        last
    };
    run(300);
    let ours = Disk::of(&rig, "ours");
    // More than one commit: else the counter that SQLite writes by itself is the one that stood there.
    run(250);
    let last = run(250);
    let theirs = Disk::of(&rig, "theirs");

    ours.put_back(&rig);
    let mut replicator = Replicator::open(rig.env(), rig.settings.clone(), &rig.path()).unwrap();
    let begun = SystemClock.boot();
    while peek(&RealFiles, &rig.meta()).unwrap().is_none_or(|state| state.txid < last) {
        let step = replicator.step();
        assert!(!step.ended && SystemClock.boot() - begun < LONG, "{:?}", replicator.status());
        std::thread::yield_now();
    }
    drop(replicator);
    let ours = Disk::of(&rig, "ours-forward");

    theirs.put_back(&rig);
    run(50);
    ours.put_back(&rig);
    run(1);
    let rows: u32 = rig.app().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 851);
    rig.assert_restores();
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn r21_an_earlier_state_that_was_restored_on_purpose_becomes_the_newest() {
    use litekeep::restore::{Options, Outcome, restore};
    for writes_first in [false, true] {
        let rig = Rig::new();
        let app = rig.app();
        insert(&app, 100);
        let keeper = rig.keep();
        let chosen = synced(&keeper);
        app.execute_batch("DELETE FROM t").unwrap();
        let newest = synced(&keeper);
        stopped(keeper);
        drop(app);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix));
        }
        let options = Options {
            target: litekeep_core::restore::Target::Txid(chosen),
            state_dir: Some(rig.meta()),
            ..Options::new(rig.path())
        };
        let Outcome::Restored(restored) = restore(&rig.restore_env(), &options, &mut |_| {}).unwrap() else {
            panic!("not restored")
        };
        let files: std::sync::Arc<dyn litekeep::files::Files> =
            std::sync::Arc::new(litekeep::files::RealFiles);
        let record = restored.record(rig.store.location()).unwrap();
        litekeep::local::record_restored(&files, &rig.path(), None, &record).unwrap();
        if writes_first {
            insert(&rig.app(), 5);
        }
        let keeper = rig.keep();
        assert_eq!(synced(&keeper), newest.next());
        insert(&rig.app(), 5);
        synced(&keeper);
        stopped(keeper);
        rig.assert_restores();
        let rows: u32 = rig.app().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 105 + 5 * u32::from(writes_first));
    }
}

/// Takes everything away that ties the file to the chain, as a takeover from another program finds it.
fn forget(rig: &Rig) {
    std::fs::remove_dir_all(rig.meta()).unwrap();
}

#[test]
fn a_file_that_went_on_while_nobody_watched_is_taken_over_by_what_its_wal_shows() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    synced(&keeper);
    insert(&app, 10);
    let last = synced(&keeper);
    stopped(keeper);
    forget(&rig);
    for _ in 0..3 {
        insert(&app, 400);
    }
    let keeper = rig.keep();
    assert_eq!(synced(&keeper), last.next());
    assert_eq!(keeper.status().images, 0, "the replica's history goes on");
    insert(&app, 1);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn a_file_whose_wal_began_anew_while_nobody_watched_is_not_guessed_about() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 100);
    let keeper = rig.keep();
    synced(&keeper);
    insert(&app, 10);
    synced(&keeper);
    stopped(keeper);
    forget(&rig);
    insert(&app, 1);
    app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    insert(&app, 1);
    let error = refused(&rig);
    assert!(matches!(*error, KeepError::Beside { .. }), "{error}");
}

#[test]
fn a_file_whose_wal_is_gone_and_that_differs_is_not_guessed_about() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 2000);
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    forget(&rig);
    app.execute_batch("UPDATE t SET v = x'11' WHERE id = 1").unwrap();
    drop(app); // the last connection: SQLite checkpoints and removes the WAL
    let error = refused(&rig);
    assert!(matches!(*error, KeepError::Beside { .. }), "{error}");
}

/// One transaction on a store with this single-put limit: the size of its slot, how many images were shipped, and how
/// large the largest level-9 file is.
fn one_transaction(single_put: u64) -> (u64, u64, u64) {
    let rig = Rig::on(Arc::new(MemoryStore::new(Arc::new(SystemClock)).with_single_put(single_put)));
    let app = rig.app();
    // The same bytes each time: random ones do not always take as many when they are compressed.
    app.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB); INSERT INTO t (v) VALUES ('the first')",
    )
    .unwrap();
    let keeper = rig.keep();
    synced(&keeper);
    app.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
         INSERT INTO t (v) SELECT i * 7919 || ' ' || i FROM n",
    )
    .unwrap();
    let last = synced(&keeper);
    let status = stopped(keeper);
    rig.assert_restores();
    let size = |key| rig.store.head(&key).map_or(0, |head| head.size);
    let slot = size(Key::Ltx(Level::SLOTS, TxidRange::single(last)));
    let snapshots = rig.objects(Scope::Level(Level::SNAPSHOTS));
    // The one of the transaction: a slot that says that it is there stands behind it.
    let large = snapshots.into_iter().map(|object| object.size).max().unwrap_or(0);
    (slot, status.images, large)
}

#[test]
fn a_transaction_is_one_slot_up_to_the_store_s_single_put_limit_and_goes_to_level_9_one_byte_past_it() {
    let (size, images, _) = one_transaction(5 << 30);
    assert!(size > 100_000, "{size}");
    assert_eq!(images, 1, "the first slot");
    let (slot, images, snapshot) = one_transaction(size);
    assert_eq!((slot, images), (size, 1), "at the limit");
    assert!(snapshot < 2000, "the first slot's: {snapshot}");
    let (slot, images, snapshot) = one_transaction(size - 1);
    assert_eq!(images, 2, "one past it");
    assert!(slot < 1000 && snapshot >= size, "{slot} {snapshot}");
}
