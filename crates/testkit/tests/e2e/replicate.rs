//! A database goes to its replica while an application writes, and comes back.

use crate::harness::{
    Place, acknowledged, app, assert_prefix, done, ids, image, integrity, names, nothing_happens_for,
    spin_until, wait_for, with_suffix,
};
use std::collections::BTreeSet;
use std::fs;
use testkit::peers::Reply;

const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

#[test]
fn a_database_goes_to_a_directory_and_comes_back() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    app.ask("rows 10 100");
    let daemon = place.daemon();
    app.ask("rows 10 100");
    place.wait_for_image();
    app.ask("many 500 300");
    let restored = place.wait_for_image();
    assert_eq!((ids(&restored).len(), integrity(&restored).as_str()), (520, "ok"));
    assert!(daemon.end().success());
}

#[test]
fn the_database_may_come_after_the_daemon() {
    let place = Place::new();
    let database = place.database();
    let _daemon = place.daemon();
    nothing_happens_for(1);
    let Some(mut app) = app(&database, 4096) else { return };
    app.ask("rows 10 100");
    place.wait_for_image();
}

#[test]
fn r15_every_page_size_goes_and_comes_back() {
    for size in PAGE_SIZES {
        let place = Place::new();
        let Some(mut app) = app(&place.database(), size) else { return };
        let _daemon = place.daemon();
        app.ask("many 200 700");
        place.wait_for_image();
        app.sql("DELETE FROM t WHERE id % 3 = 0");
        app.sql("VACUUM");
        app.ask("rows 20 3000");
        let restored = place.wait_for_image();
        assert_eq!(integrity(&restored), "ok", "{size}");
    }
}

#[test]
fn r15_a_database_that_changes_its_page_size_is_followed() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 1024) else { return };
    let daemon = place.daemon();
    app.ask("many 100 700");
    place.wait_for_image();
    assert!(daemon.end().success());
    app.sql("PRAGMA journal_mode=DELETE");
    app.sql("PRAGMA page_size=8192");
    app.sql("VACUUM");
    app.sql("PRAGMA journal_mode=WAL");
    app.ask("rows 10 100");
    assert_eq!(app.sql("PRAGMA page_size"), "8192");
    let _daemon = place.daemon();
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored).len(), 110);
}

#[test]
fn every_synced_row_comes_back_after_kills_and_a_wiped_disk() {
    let place = Place::new();
    let mut synced = 0;
    for round in 0..4 {
        let Some(mut app) = app(&place.database(), 4096) else { return };
        let daemon = place.daemon();
        let file = place.path(&format!("acknowledged-{round}"));
        app.tell(&format!("pour {} 200 {} TRUNCATE", file.display(), [0, 37, 0, 5][round]));
        place.wait_for_rows(synced + 150);
        // Under load, with what is not synced yet thrown away: the application, the daemon, the disk.
        if round % 2 == 0 {
            daemon.kill();
            app.kill();
        } else {
            app.kill();
            daemon.kill();
        }
        place.wipe();
        place.bring_back();
        let back = ids(&place.database());
        assert_prefix(&back, synced + 150);
        assert_eq!(integrity(&place.database()), "ok");
        let newest = acknowledged(&file).last().copied().unwrap_or_default();
        assert!(back.len() <= usize::try_from(newest + 1).expect("an id"), "rows that nobody wrote");
        synced = back.len();
    }
}

#[test]
fn sigterm_takes_the_tail_along() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    place.wait_for_image();
    for _ in 0..5 {
        app.ask("rows 7 100");
    }
    let image = image(&place.database());
    assert!(daemon.end().success());
    assert!(fs::read(place.restored(&[])).expect("read it") == image, "the tail is missing");
}

#[test]
fn r11_an_idle_database_costs_no_object() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let _daemon =
        place.daemon_with("levels: [{interval: 1s}]", "checkpoint-interval: 1s", "sync-interval: 100ms");
    place.wait_for_image();
    app.ask("rows 50 100");
    place.wait_for_image();
    // What there is may still be compacted once; after that, nothing.
    wait_for(&"level 1 to hold all there is", || {
        let newest = |level| place.level(level).last().and_then(|name| Some(name.get(17..33)?.to_owned()));
        (newest(1).is_some() && newest(1) == newest(0)).then_some(())
    });
    nothing_happens_for(1);
    let before = place.objects();
    nothing_happens_for(4);
    assert_eq!(place.objects(), before);
}

#[test]
fn r12_no_writer_fails_while_somebody_reads_for_long() {
    let place = Place::new();
    let database = place.database();
    let Some(mut writer) = app(&database, 4096) else { return };
    let Some(mut reader) = app(&database, 4096) else { return };
    let _daemon = place.daemon_with("", "min-checkpoint-page-count: 20", "sync-interval: 50ms");
    writer.ask("rows 10 100");
    place.wait_for_image();
    writer.sql("PRAGMA busy_timeout=5000");
    reader.sql("BEGIN");
    reader.sql("SELECT count(*) FROM t");
    for _ in 0..15 {
        done(writer.ask("rows 100 1000"));
    }
    assert_eq!(reader.sql("SELECT count(*) FROM t"), "10", "its snapshot stays");
    reader.sql("COMMIT");
    done(writer.ask("rows 100 1000"));
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored).len(), 1610);
}

#[test]
fn r13_the_wal_starts_again_and_again_while_an_application_writes_without_a_pause() {
    let place = Place::new();
    let database = place.database();
    let Some(mut writer) = app(&database, 4096) else { return };
    let Some(mut reader) = app(&database, 4096) else { return };
    // The application leaves all checkpoints to litekeep.
    writer.sql("PRAGMA wal_autocheckpoint=0");
    let _daemon = place.daemon_with("", "min-checkpoint-page-count: 200", "sync-interval: 50ms");
    reader.sql("BEGIN");
    reader.sql("SELECT count(*) FROM t");
    done(writer.ask("rows 1000 1000"));
    reader.sql("COMMIT");
    // Each life of the WAL has salts of its own; each begins again at the start of the file.
    let wal = with_suffix(&database, "-wal");
    let mut lives = BTreeSet::new();
    wait_for(&"the WAL to start again five times", || {
        done(writer.ask("rows 200 1000"));
        lives.insert(fs::read(&wal).ok()?.get(16..24)?.to_vec());
        (lives.len() > 5).then_some(())
    });
    place.wait_for_image();
}

#[test]
fn r14_a_database_that_shrinks_is_followed() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    app.sql("PRAGMA auto_vacuum=INCREMENTAL");
    app.sql("VACUUM");
    let _daemon = place.daemon();
    app.ask("many 2000 500");
    app.sql("CREATE TABLE u AS SELECT * FROM t");
    place.wait_for_image();
    for step in ["DROP TABLE u", "PRAGMA incremental_vacuum(20)", "DELETE FROM t WHERE id > 900", "VACUUM"] {
        app.sql(step);
        let restored = place.wait_for_image();
        assert_eq!(integrity(&restored), "ok", "{step}");
        app.ask("rows 3 400");
        place.wait_for_image();
    }
}

#[test]
fn r17_a_file_put_in_the_place_of_the_database_is_noticed() {
    let place = Place::new();
    let database = place.database();
    let Some(mut old) = app(&database, 4096) else { return };
    let mut daemon = place.daemon();
    old.ask("many 300 300");
    place.wait_for_image();
    old.close();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(&database, suffix));
    }
    let Some(mut new) = app(&database, 4096) else { return };
    new.sql("CREATE TABLE other(x)");
    new.ask("rows 5 100");
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored), [1, 2, 3, 4, 5]);
    assert!(daemon.is_running());
}

#[test]
fn r18_an_application_that_opens_and_closes_for_every_query_is_followed() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    app.ask("close");
    let _daemon = place.daemon();
    done(app.ask("each 150 100"));
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored).len(), 150);
    done(app.ask("each 50 100"));
    place.wait_for_image();
}

#[test]
fn r19_a_second_daemon_on_the_same_file_stops() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let mut first = place.daemon();
    app.ask("rows 10 100");
    place.wait_for_image();
    let mut second = place.daemon();
    assert!(!second.ended().success());
    app.ask("rows 10 100");
    place.wait_for_image();
    assert!(first.is_running());
}

#[test]
fn a_transaction_that_was_rolled_back_is_nowhere() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    // With a cache of ten pages the transaction spills into the WAL before its end.
    app.sql("PRAGMA cache_size=10");
    let _daemon = place.daemon();
    app.ask("rows 5 100");
    app.sql("BEGIN");
    app.ask("rows 500 1000");
    place.wait_for_rows(5);
    app.sql("ROLLBACK");
    assert!(matches!(app.ask("rows 1 100"), Reply::Rows(_)));
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored).len(), 6);
}

#[test]
fn the_first_slot_of_a_large_database_is_all_there_or_not_at_all() {
    let place = Place::new();
    {
        let link = rusqlite::Connection::open(place.database()).expect("open a database");
        link.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            .expect("make a table");
        for _ in 0..70 {
            link.execute("INSERT INTO t(body) VALUES (randomblob(1048576))", []).expect("fill it");
        }
    }
    let first = place.replica().join("ltx/0");
    let daemon = place.daemon();
    spin_until("the first slot", || names(&first).iter().any(|name| name.ends_with(".ltx")));
    // Its copy in level 9 has hardly begun.
    daemon.kill();
    place.wipe();
    let restored = place.restored(&[]);
    assert_eq!((ids(&restored).len(), integrity(&restored).as_str()), (70, "ok"));
}
