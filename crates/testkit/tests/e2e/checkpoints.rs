//! Checkpoints that others make: while litekeep is down, while it runs, between a copy and a checkpoint of its own.

use crate::harness::{Place, acknowledged, app, assert_prefix, done, ids, integrity};

const MODES: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];

#[test]
fn r01_checkpoints_of_every_mode_while_the_daemon_is_down() {
    for mode in MODES {
        let place = Place::new();
        let Some(mut app) = app(&place.database(), 4096) else { return };
        for round in 0..3 {
            let daemon = place.daemon();
            app.ask("rows 40 200");
            if round == 0 {
                place.wait_for_image();
            }
            daemon.kill();
            app.ask("rows 30 200");
            app.sql(&format!("PRAGMA wal_checkpoint({mode})"));
            app.ask("rows 20 200");
        }
        let _daemon = place.daemon();
        let restored = place.wait_for_image();
        assert_eq!((ids(&restored).len(), integrity(&restored).as_str()), (270, "ok"), "{mode}");
    }
}

#[test]
fn r01_the_application_closes_its_database_while_the_daemon_is_down() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    app.ask("rows 40 200");
    place.wait_for_image();
    daemon.kill();
    app.ask("rows 30 200");
    // The last connection to close checkpoints and deletes the WAL.
    app.ask("close");
    app.ask("rows 5 200");
    app.ask("close");
    let _daemon = place.daemon();
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored).len(), 75);
}

#[test]
fn r04_a_wal_that_starts_again_and_ends_at_the_same_size_is_not_taken_for_unchanged() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let _daemon = place.daemon_with("", "min-checkpoint-page-count: 4", "sync-interval: 20ms");
    for round in 1..=12 {
        app.ask("rows 5 100");
        app.sql(&format!("PRAGMA wal_checkpoint({})", MODES[round % 4]));
        app.ask("rows 5 100");
        let restored = place.wait_for_image();
        assert_eq!(ids(&restored).len(), round * 10);
    }
}

#[test]
fn r04_the_same_while_the_daemon_is_down() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    for round in 1..=4 {
        let daemon = place.daemon();
        place.wait_for_image();
        app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        app.ask("rows 5 100");
        place.wait_for_image();
        daemon.kill();
        app.sql("PRAGMA wal_checkpoint(RESTART)");
        app.ask("rows 5 100");
        let _daemon = place.daemon();
        let restored = place.wait_for_image();
        assert_eq!(ids(&restored).len(), round * 10);
    }
}

#[test]
fn r06_every_restore_during_a_write_load_with_checkpoints_is_a_state_that_was() {
    let place = Place::new();
    let database = place.database();
    let Some(mut app) = app(&database, 4096) else { return };
    let _daemon =
        place.daemon_with("levels: [{interval: 1s}]", "min-checkpoint-page-count: 10", "sync-interval: 20ms");
    let file = place.path("acknowledged");
    app.tell(&format!("pour {} 300 23 PASSIVE", file.display()));
    let mut before = 0;
    for round in 0..20 {
        let restored = place.wait_for_restore("a newer state", |it| ids(it).len() > before);
        assert_eq!(integrity(&restored), "ok", "restore {round}");
        let back = ids(&restored);
        assert_prefix(&back, before);
        before = back.len();
    }
    app.tell("stop");
    done(app.hear().expect("it answers"));
    let restored = place.wait_for_image();
    assert_eq!(ids(&restored), acknowledged(&file));
}

#[test]
fn r09_a_foreign_checkpointer_in_a_process_of_its_own_harms_nobody() {
    let place = Place::new();
    let database = place.database();
    let Some(mut writer) = app(&database, 4096) else { return };
    let Some(mut keeper) = app(&database, 4096) else { return };
    let _daemon = place.daemon_with("", "min-checkpoint-page-count: 10", "sync-interval: 20ms");
    let file = place.path("acknowledged");
    writer.tell(&format!("pour {} 300 0 NONE", file.display()));
    for round in 0..120 {
        keeper.ask(&format!("sql PRAGMA wal_checkpoint({})", MODES[round % 4]));
    }
    writer.tell("stop");
    done(writer.hear().expect("it answers"));
    let restored = place.wait_for_image();
    assert_eq!((ids(&restored), integrity(&restored).as_str()), (acknowledged(&file), "ok"));
}
