//! The real Litestreams read what we wrote, and we read what they wrote.

use crate::harness::{Place, app, ids, image, integrity, names, nothing_happens_for, said, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use testkit::peers::{Litestream, Look, Vfs};

const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// Settings under which levels and snapshots appear within seconds.
pub(crate) const BUSY: &str =
    "levels: [{interval: 1s}, {interval: 3s}]\nsnapshot: {interval: 4s, retention: 1h}";

/// What the official reader sees of a replica must be what is in the database, integrity and all.
pub(crate) fn assert_witness(vfs: &Vfs, place: &Place, url: &str, when: &str) {
    let environment: Vec<(&str, &str)> =
        place.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let seen = vfs.look(url, &environment).unwrap_or_else(|reason| panic!("{when}: {reason}"));
    let truth = vfs.look_at_file(&place.database()).expect("read the database itself");
    assert_eq!(seen.tables, truth.tables, "{when}");
    let pages: u32 = rusqlite::Connection::open(place.database())
        .and_then(|link| link.query_row("PRAGMA page_count", [], |row| row.get(0)))
        .expect("count the pages");
    assert!(is_whole(&seen.integrity, pages), "{when}: {} (of {pages} pages)", seen.integrity);
}

/// Whether the extension's integrity check is good. Version 0.5.17 counts pages that a slot after the newest snapshot
/// cut off as part of the file, also in replicas that Litestream wrote itself; so it may miss pages past the end.
fn is_whole(integrity: &str, pages: u32) -> bool {
    let past_the_end = |line: &str| {
        let number = line.strip_prefix("Page ").and_then(|rest| rest.strip_suffix(" is never used"));
        number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number > pages)
    };
    integrity == "ok"
        || integrity
            .strip_prefix("*** in database main ***; ")
            .is_some_and(|rest| rest.split("; ").all(past_the_end))
}

#[test]
fn a_witness_that_misses_a_page_within_the_file_is_heard() {
    let row = |line: &str| format!("*** in database main ***; {line}");
    assert!(is_whole("ok", 3) && is_whole(&row("Page 4 is never used; Page 5 is never used"), 3));
    for line in
        ["Page 3 is never used", "Page 4 is never used; row 1 missing from index", "Tree 2 page 2: bad"]
    {
        assert!(!is_whole(&row(line), 3), "{line}");
    }
}

/// The official 0.5.17 restores it to the very pages that the database has.
pub(crate) fn assert_restores(litestream: &Litestream, place: &Place, when: &str) {
    let out = place.path("official").join("app.db");
    let _ = fs::remove_dir_all(place.path("official"));
    let mut command = litestream.command();
    command.envs(place.environment.iter().map(|(key, value)| (key, value)));
    let output =
        command.arg("restore").arg("-o").arg(&out).arg(&place.url).output().expect("start Litestream");
    assert!(output.status.success(), "{when}: {}", said(&output));
    assert!(fs::read(out).expect("read it") == image(&place.database()), "{when}: other pages");
}

/// The replica without the slots that level 1 covers: what retention leaves of it.
fn after_retention(place: &Place) -> String {
    let folder = place.path("aged");
    let _ = fs::remove_dir_all(&folder);
    let covered = place.level(1).last().expect("level 1 holds something")[17..33].to_owned();
    for (path, _) in place.objects() {
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        let slot = path.parent().is_some_and(|folder| folder.ends_with("ltx/0"));
        if slot && name[..16] <= covered[..] {
            continue;
        }
        let target = folder.join(path.strip_prefix(place.replica()).expect("it lies in the replica"));
        fs::create_dir_all(target.parent().expect("its folder")).expect("make it");
        fs::copy(&path, target).expect("copy it");
    }
    format!("file://{}", folder.display())
}

#[test]
fn the_official_reader_sees_the_same_rows_at_every_page_size_and_stage() {
    let (Some(vfs), Some(official)) = (Vfs::find(), Litestream::v0_5_17()) else { return };
    for size in PAGE_SIZES {
        let place = Place::new();
        let Some(mut app) = app(&place.database(), size) else { return };
        let daemon = place.daemon_with(BUSY, "min-checkpoint-page-count: 10", "sync-interval: 50ms");
        app.ask("many 100 700");
        place.wait_for_image();
        assert_witness(&vfs, &place, &place.url, &format!("{size}: at first"));

        wait_for(&"levels 1, 2 and a snapshot", || {
            app.ask("rows 2 100");
            (1..=2).chain([9]).all(|level| !place.level(level).is_empty()).then_some(())
        });
        place.wait_for_image();
        assert_witness(&vfs, &place, &place.url, &format!("{size}: with levels and a snapshot"));
        assert_witness(&vfs, &place, &after_retention(&place), &format!("{size}: with old slots gone"));

        daemon.kill();
        app.ask("rows 20 100");
        app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        let _daemon = place.daemon_with(BUSY, "min-checkpoint-page-count: 10", "sync-interval: 50ms");
        place.wait_for_image();
        assert_witness(&vfs, &place, &place.url, &format!("{size}: after a restart"));

        app.sql("DELETE FROM t WHERE id % 2 = 0");
        app.sql("VACUUM");
        place.wait_for_image();
        assert_witness(&vfs, &place, &place.url, &format!("{size}: after VACUUM"));
        assert_restores(&official, &place, &format!("{size}: at last"));
    }
}

#[test]
fn a_replica_begun_by_litestream_0_5_is_taken_over_and_continued() {
    let (Some(older), Some(newer)) = (Litestream::v0_5_15(), Litestream::v0_5_17()) else { return };
    for (litestream, name) in [(older, "0.5.15"), (newer.clone(), "0.5.17")] {
        let place = Place::new();
        let Some(mut app) = app(&place.database(), 4096) else { return };
        app.ask("rows 10 100");
        let theirs = litestream.replicate(&place.database(), &place.url, &place.path("litestream.log"));
        for _ in 0..2 {
            app.ask("rows 30 100");
            place.wait_for_image();
        }
        theirs.end();
        let before = place.objects();
        let last = place.level(0).last().expect("it wrote slots").clone();

        let daemon = place.daemon();
        wait_for(&"the takeover", || daemon.log().contains("initialized db").then_some(()));
        app.ask("rows 30 100");
        let restored = place.wait_for_image();
        assert_eq!((ids(&restored).len(), integrity(&restored).as_str()), (100, "ok"), "{name}");
        assert!(daemon.end().success());
        let after = place.objects();
        assert!(
            before.iter().all(|(path, size)| after.get(path) == Some(size)),
            "{name}: a file of theirs changed"
        );
        assert!(place.level(0).last() > Some(&last), "{name}: the numbers must go on");
        assert_restores(&newer, &place, &format!("taken over from {name}"));
    }
}

/// Litestream stops and the application goes on: with its WAL as it is, or checkpointed away.
fn went_on_without_litestream(checkpoint: bool) -> Option<(Place, testkit::peers::App)> {
    let theirs = Litestream::v0_5_17()?;
    let place = Place::new();
    let mut app = app(&place.database(), 4096)?;
    let process = theirs.replicate(&place.database(), &place.url, &place.path("litestream.log"));
    app.ask("rows 30 100");
    place.wait_for_image();
    process.end();
    app.ask("rows 5 100");
    if checkpoint {
        app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        app.ask("rows 5 100");
    }
    Some((place, app))
}

#[test]
fn a_database_that_its_wal_ties_to_litestreams_last_slot_is_taken_over_under_load() {
    let Some((place, mut app)) = went_on_without_litestream(false) else { return };
    let file = place.path("acknowledged");
    // Nobody begins the WAL anew before the daemon has seen what Litestream took last, however late it comes.
    app.sql("PRAGMA wal_autocheckpoint = 0");
    app.tell(&format!("pour {} 100 0 NONE", file.display()));
    let daemon = place.daemon();
    place.wait_for_rows(200);
    app.tell("stop");
    app.hear().expect("it answers");
    let restored = place.wait_for_image();
    assert_eq!(integrity(&restored), "ok");
    assert!(daemon.end().success());
    assert_restores(
        &Litestream::v0_5_17().expect("it was here a moment ago"),
        &place,
        "taken over under load",
    );
}

#[test]
fn r22_a_database_that_nothing_ties_to_litestreams_last_slot_is_not_guessed_about() {
    let Some((place, _app)) = went_on_without_litestream(true) else { return };
    let before = contents(&place.replica().join("ltx"));
    // It may be a stale disk as well as a newer one.
    let mut daemon = place.daemon();
    assert!(!daemon.ended().success());
    assert!(
        daemon.log().contains("; to keep the replica's history, move"),
        "it must say what to do: {}",
        daemon.log()
    );
    assert!(contents(&place.replica().join("ltx")) == before, "the replica was touched");
}

#[test]
fn a_wiped_disk_may_change_from_litestream_0_5_to_us_and_back() {
    let (Some(theirs), Some(vfs)) = (Litestream::v0_5_17(), Vfs::find()) else { return };
    let place = Place::new();
    let mut rows = 0;
    for round in 0..4 {
        if round > 0 {
            place.bring_back();
        }
        let Some(mut app) = app(&place.database(), 4096) else { return };
        if round % 2 == 0 {
            let process = theirs.replicate(&place.database(), &place.url, &place.path("litestream.log"));
            app.ask("rows 20 100");
            place.wait_for_image();
            process.end();
        } else {
            let daemon = place.daemon();
            app.ask("rows 20 100");
            place.wait_for_image();
            assert!(daemon.end().success());
        }
        rows += 20;
        assert_eq!(ids(&place.restored(&[])).len(), rows, "round {round}");
        assert_witness(&vfs, &place, &place.url, &format!("round {round}"));
        assert_restores(&theirs, &place, &format!("round {round}"));
        app.kill();
        place.wipe();
    }
}

#[test]
fn litestream_0_5_15_reads_what_we_write_when_it_is_asked_for_in_frames() {
    let Some(older) = Litestream::v0_5_15() else { return };
    for (encoding, readable) in [("frame", true), ("block", false)] {
        let place = Place::new();
        let Some(mut app) = app(&place.database(), 4096) else { return };
        let _daemon =
            place.daemon_with(BUSY, "", &format!("page-encoding: {encoding}\n      sync-interval: 50ms"));
        app.ask("many 100 700");
        place.wait_for_image();
        wait_for(&"level 1", || {
            app.ask("rows 2 100");
            (!place.level(1).is_empty()).then_some(())
        });
        place.wait_for_image();
        let out = place.path("older.db");
        let output = older.restore(&[], &out, &place.url);
        assert_eq!(output.status.success(), readable, "{encoding}: {}", said(&output));
        if readable {
            assert!(fs::read(&out).expect("read it") == image(&place.database()), "{encoding}");
        }
    }
}

#[test]
fn the_official_programs_go_on_from_a_replica_that_is_ours() {
    let (Some(litestream), Some(vfs)) = (Litestream::v0_5_17(), Vfs::find()) else { return };
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    app.ask("rows 50 100");
    place.wait_for_image();
    assert!(daemon.end().success());
    let theirs = litestream.replicate(&place.database(), &place.url, &place.path("litestream.log"));
    app.ask("rows 50 100");
    place.wait_for_image();
    theirs.end();
    assert_witness(&vfs, &place, &place.url, "continued by Litestream");
    assert_restores(&litestream, &place, "continued by Litestream");
}

/// Content of every file, by its path in the replica.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).expect("read it"));
        }
    }
    found
}

#[test]
fn r23_a_v0_3_backup_beside_ours_is_untouched_and_never_chosen_because_it_is_newer() {
    let Some(old) = Litestream::v0_3_13() else { return };
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    app.ask("rows 10 100");
    let generations = place.replica().join("generations");
    let theirs = old.replicate(&place.database(), &place.url, &place.path("litestream.log"));
    place.wait_for_restore("the v0.3 backup", |it| ids(it).len() == 10);
    theirs.end();
    let before = contents(&generations);
    assert!(!before.is_empty());

    let daemon = place.daemon();
    app.ask("rows 10 100");
    place.wait_for_rows(20);
    assert!(daemon.end().success());
    assert!(contents(&generations) == before, "the v0.3 backup was touched");

    // An old container that lives on writes v0.3 files that are newer than our slots.
    let other = place.path("other/app.db");
    fs::create_dir(place.path("other")).expect("make a disk");
    let Some(mut stray) = crate::harness::app(&other, 4096) else { return };
    stray.ask("rows 3 100");
    let theirs = old.replicate(&other, &place.url, &place.path("litestream.log"));
    wait_for(&"a second generation", || {
        (names(&generations).len() == 2 && contents(&generations).len() > before.len() + 1).then_some(())
    });
    stray.ask("rows 3 100");
    nothing_happens_for(2);
    theirs.end();

    let out = place.path("chosen.db");
    let output = place.restore_to(&out, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(ids(&out).len(), 20, "the sealed chain is the one");
    assert!(said(&output).contains("generation"), "newer v0.3 files must be named: {}", said(&output));
    let stray_generation = names(&generations)
        .into_iter()
        .find(|name| {
            !before.keys().any(|path| path.components().any(|part| part.as_os_str() == name.as_str()))
        })
        .expect("the stray one");
    let chosen = place.restored(&["-generation", &stray_generation]);
    assert_eq!(ids(&chosen).len(), 6, "but it can be asked for");
}

#[test]
fn what_litestream_0_3_wrote_restores_to_what_it_restores_itself() {
    let Some(old) = Litestream::v0_3_13() else { return };
    for size in [1024, 4096] {
        let place = Place::new();
        let Some(mut app) = app(&place.database(), size) else { return };
        app.ask("rows 10 100");
        let mut theirs = old.replicate(&place.database(), &place.url, &place.path("litestream.log"));
        let mut times = Vec::new();
        for round in 0..5 {
            app.ask("rows 20 500");
            app.ask("many 200 500");
            if round == 2 {
                app.sql("DELETE FROM t WHERE id % 2 = 0");
                app.sql("VACUUM");
            }
            let rows = ids(&place.database()).len();
            place.wait_for_restore("the rows of this round", |it| ids(it).len() == rows);
            nothing_happens_for(1);
            times.push(now());
            nothing_happens_for(1);
            // 0.3.13 knows only times between the first and the last file of a generation.
            app.ask("rows 1 100");
            let rows = ids(&place.database()).len();
            place.wait_for_restore("one row more", |it| ids(it).len() == rows);
            if round == 3 {
                // A second generation, begun by a restart on a database that went on without it.
                theirs.end();
                app.ask("rows 5 100");
                app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
                app.ask("rows 5 100");
                theirs = old.replicate(&place.database(), &place.url, &place.path("litestream.log"));
            }
        }
        theirs.end();
        let mut compared = 0;
        let cases: Vec<Vec<&str>> =
            std::iter::once(Vec::new()).chain(times.iter().map(|time| vec!["-timestamp", time])).collect();
        for words in cases {
            let out = place.path("theirs").join("app.db");
            let _ = fs::remove_dir_all(place.path("theirs"));
            let output = old.restore(&words, &out, &place.url);
            assert!(output.status.success(), "{size} {words:?}: {}", said(&output));
            let ours = place.restored(&words);
            assert!(fs::read(&ours).expect("ours") == fs::read(&out).expect("theirs"), "{size} {words:?}");
            compared += 1;
        }
        assert_eq!(compared, 6);
    }
}

#[allow(clippy::disallowed_methods, reason = "the peers know no other clock")]
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    crate::restore::rfc3339(since.as_millis())
}

#[test]
fn what_the_witness_would_say_of_a_hole_is_not_ok() {
    let Some(vfs) = Vfs::find() else { return };
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon_with("", "", "sync-interval: 20ms");
    for _ in 0..4 {
        app.ask("rows 5 100");
        place.wait_for_image();
    }
    assert!(daemon.end().success());
    let slots = place.level(0);
    fs::remove_file(place.replica().join("ltx/0").join(&slots[slots.len() / 2])).expect("make a hole");
    let seen: Result<Look, String> = vfs.look(&place.url, &[]);
    assert!(seen.is_err(), "a witness that sees no hole is none: {seen:?}");
}
