//! What applications and other processes do to a database and its WAL.

use crate::rig::{LONG, Rig, app, insert, stopped, synced};
use litekeep::clock::SystemClock;
use litekeep_core::env::Clock as _;
use litekeep_formats::wal::{FrameChain, FrameHeader, WalHeader, frame_len};
use litekeep_formats::{Level, PageNo};
use litekeep_store::Scope;
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MODES: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];

fn checkpoint(app: &Connection, mode: &str) -> (i64, i64, i64) {
    app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })
    .unwrap()
}

#[test]
fn r01_changes_while_nobody_watched_are_shipped_whatever_checkpoint_came_between() {
    for mode in MODES {
        let rig = Rig::new();
        let app = rig.app();
        insert(&app, 50);
        let keeper = rig.keep();
        synced(&keeper);
        stopped(keeper);
        insert(&app, 5);
        checkpoint(&app, mode);
        insert(&app, 1);
        let keeper = rig.keep();
        synced(&keeper);
        stopped(keeper);
        rig.assert_restores();
    }
}

#[test]
fn r01_the_old_last_frame_still_in_place_proves_nothing() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 500);
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    for _ in 0..5 {
        insert(&app, 1);
    }
    checkpoint(&app, "PASSIVE");
    app.execute("UPDATE t SET v = x'00' WHERE id = 1", []).unwrap();
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r04_a_wal_that_restarts_and_grows_to_the_same_size_hides_nothing() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 50);
    let keeper = rig.keep();
    synced(&keeper);
    for (round, mode) in (0u32..20).zip(MODES.into_iter().cycle()) {
        app.execute("UPDATE t SET v = randomblob(100) WHERE id = 1 + ?1 % 50", [round]).unwrap();
        checkpoint(&app, mode);
        app.execute("UPDATE t SET v = randomblob(100) WHERE id = 1 + ?1 % 50", [round + 7]).unwrap();
        synced(&keeper);
        rig.assert_restores();
    }
    assert_eq!(keeper.status().images, 1);
    stopped(keeper);
}

#[test]
fn r06_a_writer_that_never_pauses_against_restores() {
    let rig = Rig::new();
    let mut settings = litekeep::settings::Settings { min_checkpoint_pages: 50, ..rig.settings.clone() };
    settings.sync_interval = Duration::from_millis(5);
    let rig = Rig { settings, ..rig };
    let first = rig.app();
    insert(&first, 200);
    let keeper = rig.keep();
    synced(&keeper);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let app = app(&rig.path());
            let mut n = 0u32;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                app.execute_batch(
                    "BEGIN IMMEDIATE; UPDATE t SET v = randomblob(100) WHERE id % 7 = abs(random()) % 7; \
                     INSERT INTO t (v) VALUES (randomblob(300)); COMMIT",
                )
                .unwrap();
                if n.is_multiple_of(50) {
                    app.execute_batch("DELETE FROM t WHERE id > 400").unwrap();
                }
            }
        });
        for _ in 0..15 {
            synced(&keeper);
            let (path, _) = rig.restored();
            let check: String = Connection::open(&path)
                .unwrap()
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(check, "ok");
        }
        stop.store(true, Ordering::Relaxed);
    });
    synced(&keeper);
    let status = stopped(keeper);
    assert_eq!((status.breaks, status.images), (0, 1), "the chain never broke");
    rig.assert_restores();
}

#[test]
fn r10_no_image_is_shipped_for_a_checkpoint() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 1000);
    let keeper = rig.keep();
    synced(&keeper);
    for mode in MODES {
        insert(&app, 10);
        checkpoint(&app, mode);
        insert(&app, 10);
        synced(&keeper);
    }
    let status = stopped(keeper);
    assert_eq!((status.breaks, status.images), (0, 1));
    let slots = rig.objects(Scope::Level(Level::SLOTS));
    assert!(slots[1..].iter().all(|slot| slot.size < slots[0].size / 2), "{slots:?}");
}

#[test]
fn r12_a_foreign_truncate_with_a_long_busy_timeout_gets_through_and_fails_no_writer() {
    let rig = Rig::new();
    let writer = rig.app();
    insert(&writer, 500);
    let keeper = rig.keep();
    synced(&keeper);
    let (stop, through) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| {
            let other = app(&rig.path());
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let (busy, ..) = checkpoint(&other, "TRUNCATE");
                done += i64::from(busy == 0);
                through.store(done > 0, Ordering::Relaxed);
            }
            done
        });
        // The other one may need longer to begin than all these writes take: it must get through while they go on.
        let begun = SystemClock.boot();
        for n in 0.. {
            if n >= 200 && (through.load(Ordering::Relaxed) || SystemClock.boot() - begun > LONG) {
                break;
            }
            // busy_timeout is 10 s: an error here means that a writer starved.
            writer.execute("UPDATE t SET v = randomblob(100) WHERE id = ?1", [n]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(handle.join().unwrap() > 0, "no foreign checkpoint ever got through");
    });
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r13_the_wal_stays_bounded_under_load_and_shrinks_after_a_reader_left() {
    let rig = Rig::new();
    let app_a = rig.app();
    app_a.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
    insert(&app_a, 500);
    let keeper = rig.keep();
    synced(&keeper);
    let wal = rig.dir.path().join("app.db-wal");
    let churn = |rounds: u32| {
        for n in 0..rounds {
            app_a.execute("UPDATE t SET v = randomblob(100) WHERE id % 50 = ?1 % 50", [n]).unwrap();
        }
    };
    churn(10_000);
    let bounded = std::fs::metadata(&wal).unwrap().len();
    // About 14 pages a round: more than 570 MB were written.
    assert!(bounded < 285 << 20, "{bounded} bytes of WAL: not bounded by half of what was written");
    let reader = rig.app();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    churn(500);
    synced(&keeper);
    reader.execute_batch("COMMIT").unwrap();
    churn(10_000);
    synced(&keeper);
    let after = std::fs::metadata(&wal).unwrap().len();
    assert!(after < 570 << 20, "{after} bytes of WAL: not bounded by half of what was written");
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r14_shrinking_by_vacuum_and_drop_is_followed() {
    for page_size in [512, 1024, 4096, 65536] {
        let rig = Rig::new();
        let app = Connection::open(rig.path()).unwrap();
        app.execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL"
        ))
        .unwrap();
        insert(&app, 3000);
        let keeper = rig.keep();
        synced(&keeper);
        app.execute_batch("DELETE FROM t WHERE id > 1000; PRAGMA incremental_vacuum(20)").unwrap();
        synced(&keeper);
        rig.assert_restores();
        app.execute_batch("VACUUM").unwrap();
        synced(&keeper);
        rig.assert_restores();
        insert(&app, 2000);
        app.execute_batch("DROP TABLE t; VACUUM").unwrap();
        insert(&app, 10);
        synced(&keeper);
        let status = stopped(keeper);
        assert_eq!((status.breaks, status.images), (0, 1), "page size {page_size}");
        rig.assert_restores();
    }
}

#[test]
fn r15_another_page_size_while_nobody_watched_is_a_new_image() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 300);
    let keeper = rig.keep();
    synced(&keeper);
    stopped(keeper);
    app.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL")
        .unwrap();
    insert(&app, 3);
    let keeper = rig.keep();
    synced(&keeper);
    insert(&app, 3);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r17_a_database_file_that_is_replaced_under_the_replicator_is_followed() {
    let rig = Rig::new();
    let old = rig.app();
    insert(&old, 300);
    let keeper = rig.keep();
    synced(&keeper);
    drop(old);
    let side = rig.dir.path().join("side.db");
    let new = Connection::open(&side).unwrap();
    insert(&new, 40);
    drop(new);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(litekeep::files::with_suffix(&rig.path(), suffix));
    }
    std::fs::rename(&side, rig.path()).unwrap();
    let app = rig.app();
    insert(&app, 1);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

#[test]
fn r18_an_application_that_opens_and_closes_for_each_query_breaks_nothing() {
    let rig = Rig::new();
    insert(&rig.app(), 100);
    let keeper = rig.keep();
    synced(&keeper);
    for _ in 0..30 {
        insert(&rig.app(), 1);
    }
    synced(&keeper);
    let status = stopped(keeper);
    assert_eq!(status.breaks, 0);
    rig.assert_restores();
}

#[test]
fn r05_a_transaction_that_grows_the_database_by_free_pages_ships_them() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    synced(&keeper);
    // A table that is filled and dropped in one transaction grows the database by pages that are free at its end. The
    // SQLite that is built in writes them to the WAL; the next test is about those that it does not write.
    app.execute_batch(
        "BEGIN; CREATE TABLE big (v BLOB); INSERT INTO big VALUES (zeroblob(3000000)); DROP TABLE big; \
         INSERT INTO t (v) VALUES (zeroblob(10)); COMMIT",
    )
    .unwrap();
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}

/// Appends a transaction to a WAL that nobody has open: the database grows by `more` pages that are free again at its
/// end, and of them only the one that lists the others is written, as SQLite is free to do.
fn grow_by_free_pages(database: &Path, more: u32) {
    let path = litekeep::files::with_suffix(database, "-wal");
    let mut wal = std::fs::read(&path).unwrap();
    let header = WalHeader::parse(&wal).unwrap();
    let mut chain = FrameChain::begin(&header);
    let (mut end, mut pages) = (WalHeader::LEN, 0);
    let mut first = std::fs::read(database).unwrap()[..header.page_size.bytes()].to_vec();
    while let Some(frame) = wal.get(end..end + frame_len(header.page_size))
        && let Ok(next) = chain.next(frame)
    {
        pages = next.commit;
        if next.page == PageNo::FIRST {
            first = frame[FrameHeader::LEN..].to_vec();
        }
        end += frame.len();
    }
    assert!(pages > 0, "the WAL does not end with a commit");
    assert_eq!(first[32..40], [0; 8], "there are free pages already");
    let last = pages + more;
    let list = [0].into_iter().chain([more - 1]).chain(pages + 1..last);
    let mut trunk: Vec<u8> = list.flat_map(u32::to_be_bytes).collect();
    trunk.resize(header.page_size.bytes(), 0);
    for (at, value) in [(28, last), (32, last), (36, more)] {
        first[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    wal.truncate(end);
    for (page, commit, data) in [(PageNo::FIRST, 0, first), (PageNo::new(last).unwrap(), last, trunk)] {
        wal.extend(chain.append(page, commit, &data).write());
        wal.extend(data);
    }
    std::fs::write(path, wal).unwrap();
}

#[test]
fn r05_pages_that_a_transaction_added_and_did_not_write_are_shipped_all_the_same() {
    // SQLite itself takes a WAL for damaged from which more than 64 KiB are missing.
    for more in [1, 2, 15] {
        let rig = Rig::new();
        let app = rig.app();
        insert(&app, 10);
        let keeper = rig.keep();
        let last = synced(&keeper);
        insert(&app, 1);
        assert_eq!(synced(&keeper), last.next());
        // Ours are the last connections, which leave the WAL as it is.
        drop(app);
        stopped(keeper);
        grow_by_free_pages(&rig.path(), more);
        let keeper = rig.keep();
        assert_eq!(synced(&keeper), last.next().next());
        let status = stopped(keeper);
        assert_eq!((status.breaks, status.images), (0, 0), "the frames were taken, no page was compared");
        rig.assert_restores();
        let free: u32 = rig.app().query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap();
        assert_eq!(free, more, "SQLite sees the pages");
    }
}

/// Whether an SQLite resets a WAL only when it may: the defect came with 3.7.0 and went with 3.51.3; 3.52.0 was
/// withdrawn.
fn resets_safely(version: i32) -> bool {
    version >= 3_051_003 && version != 3_052_000
}

#[test]
fn r09_the_sqlite_that_is_built_in_does_not_reset_a_wal_under_somebody() {
    let known =
        [(3_040_001, false), (3_051_002, false), (3_051_003, true), (3_052_000, false), (3_053_000, true)];
    for (version, safe) in known {
        assert_eq!(resets_safely(version), safe, "{version}");
    }
    let ours = rusqlite::version_number();
    assert!(resets_safely(ours), "{ours} has the defect");
    // The library that runs is the one whose number is asked for.
    let link = Connection::open_in_memory().unwrap();
    let says: String = link.query_row("SELECT sqlite_version()", [], |row| row.get(0)).unwrap();
    assert_eq!(says, rusqlite::version());
}

#[test]
fn rollbacks_spills_and_savepoints_ship_only_what_was_committed() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 2000);
    app.execute_batch("PRAGMA cache_size=5").unwrap();
    let keeper = rig.keep();
    synced(&keeper);
    for round in 0..10 {
        app.execute_batch(
            "BEGIN; UPDATE t SET v = randomblob(120) WHERE id % 2 = 0; SAVEPOINT s; \
             UPDATE t SET v = randomblob(130); ROLLBACK TO s; DELETE FROM t WHERE id % 97 = 3;",
        )
        .unwrap();
        keeper.poke();
        app.execute_batch(if round % 3 == 0 { "ROLLBACK" } else { "COMMIT" }).unwrap();
        synced(&keeper);
        rig.assert_restores();
    }
    stopped(keeper);
}

#[test]
fn a_chain_goes_on_after_a_stop_in_the_middle_of_everything() {
    let rig = Rig::new();
    let app = rig.app();
    insert(&app, 100);
    for round in 0..10 {
        let keeper = rig.keep();
        insert(&app, 20);
        if round % 2 == 0 {
            synced(&keeper);
        }
        insert(&app, 5);
        drop(keeper);
        if round % 3 == 0 {
            checkpoint(&app, "TRUNCATE");
        }
    }
    let keeper = rig.keep();
    synced(&keeper);
    keeper.stop(LONG).unwrap();
    rig.assert_restores();
}
