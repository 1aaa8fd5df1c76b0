//! A disk that is thrown away: the chain goes on after a restore, and costs nothing that is there already.

use crate::harness::{Place, app, ids, names, said, spin_until};
use crate::memory::{LARGE, make};
use std::fs;

#[test]
fn r20_what_is_written_after_a_restore_is_in_the_next_one() {
    let place = Place::new();
    for round in 1..=4 {
        let Some(mut app) = app(&place.database(), 4096) else { return };
        let daemon = place.daemon();
        app.ask("rows 20 100");
        place.wait_for_rows(round * 20);
        app.kill();
        daemon.kill();
        place.wipe();
        place.bring_back();
        assert_eq!(ids(&place.database()).len(), round * 20);
    }
}

/// The plug is pulled while a first image goes up as a stream, and the disk is lost with it. Nothing of it was confirmed, so
/// this path holds no backup, and the next container begins.
#[test]
fn a_first_image_that_died_on_its_way_is_no_backup_and_in_nobodys_way() {
    let place = Place::new();
    make(&place.database(), LARGE);
    let daemon = place.daemon();
    spin_until("the image to be announced", || !place.level(0).is_empty());
    daemon.kill();
    assert_eq!(place.level(0).len(), 1, "the rest takes longer than a kill: {:?}", place.objects());
    place.wipe();
    let restored = place.restore_to(&place.database(), &[]);
    assert_eq!(restored.status.code(), Some(10), "{}", said(&restored));
    assert!(said(&restored).contains("no matching backups found"), "{}", said(&restored));
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    app.ask("rows 5 100");
    place.wait_for_rows(5);
    app.kill();
    assert!(daemon.end().success());
    place.wipe();
    place.bring_back();
    assert_eq!(ids(&place.database()).len(), 5);
}

#[test]
fn r38_a_redeploy_uploads_nothing_that_is_there() {
    let place = Place::new();
    let Some(mut first) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    first.ask("many 4000 1000");
    place.wait_for_image();
    first.kill();
    assert!(daemon.end().success());
    let large = fs::metadata(place.database()).expect("it is there").len() / 4;
    let before = place.objects();
    for round in 1..=5 {
        place.wipe();
        place.bring_back();
        let Some(mut app) = app(&place.database(), 4096) else { return };
        let daemon = place.daemon();
        app.ask("rows 1 100");
        place.wait_for_image();
        app.kill();
        assert!(daemon.end().success());
        let new: Vec<_> =
            place.objects().into_iter().filter(|(path, _)| !before.contains_key(path)).collect();
        assert!(new.iter().all(|(_, size)| *size < large), "redeploy {round} uploaded {new:?}");
    }
}

#[test]
fn nothing_but_the_database_and_its_own_folder_lies_on_the_disk() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    app.ask("rows 20 100");
    place.wait_for_image();
    assert!(daemon.end().success());
    app.close();
    let names = names(&place.path("disk"));
    let known =
        |name: &String| ["app.db", "app.db-wal", "app.db-shm", ".app.db-litekeep"].contains(&name.as_str());
    assert!(names.iter().all(known), "{names:?}");
    let tables: Vec<String> = {
        let link = rusqlite::Connection::open(place.database()).expect("open it");
        let mut statement = link.prepare("SELECT name FROM sqlite_schema").expect("read the schema");
        let rows = statement.query_map([], |row| row.get(0)).expect("read the schema");
        rows.collect::<Result<_, _>>().expect("read the schema")
    };
    assert_eq!(tables, ["t"], "no table is added to the user's database");
}
