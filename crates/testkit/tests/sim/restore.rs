use crate::forward::{DATABASE, Scene};
use std::io::ErrorKind::{Other, StorageFull};
use testkit::disk::vfs::SeededSqlite;
use testkit::disk::{Call, Disk, Fault, Trap};

/// A replica of three slots, the first of them an image.
fn scene() -> Scene {
    let scene = Scene::new();
    let disk = scene.disk(1);
    for rows in 1..=3 {
        scene.app(&disk, |app| {
            let insert =
                "CREATE TABLE IF NOT EXISTS t(v BLOB); INSERT INTO t VALUES (randomblob(9000)), (x'77')";
            app.execute_batch(insert).unwrap();
        });
        assert!(scene.engine(&disk, rows).failure.is_none());
    }
    scene
}

/// The database is there as a whole or not at all; the next attempt brings it, and an engine goes on from there.
fn comes_back(scene: &Scene, disk: &Disk, seed: u64) -> Result<(), String> {
    if disk.peek(DATABASE).is_none() {
        scene.try_to_restore(disk)?;
    }
    let seen: String = scene.app(disk, |app| {
        let sum = "SELECT count(*) || ' rows, ' || sum(length(v)) || ' bytes' FROM t";
        app.query_row(sum, [], |row| row.get(0)).unwrap_or_else(|error| error.to_string())
    });
    if seen != "6 rows, 27003 bytes" {
        return Err(seen);
    }
    match scene.engine(disk, seed).failure {
        Some(failure) => Err(failure.to_string()),
        None => Ok(()),
    }
}

#[test]
fn r59_a_power_loss_at_every_call_of_a_restore_leaves_all_or_nothing() {
    let _alone = SeededSqlite::new(7);
    let scene = scene();
    let (mut findings, mut crashes) = (Vec::new(), 0);
    for call in 0..500 {
        let disk = scene.disk(call);
        disk.crash_at(Trap::PowerAt { call });
        let _ = scene.try_to_restore(&disk);
        if !disk.is_dead() {
            break;
        }
        crashes += 1;
        let disk = disk.power_loss(call);
        findings.extend(comes_back(&scene, &disk, call).err().map(|what| format!("call {call}: {what}")));
    }
    assert!(crashes > 15, "only {crashes} calls");
    assert!(findings.is_empty(), "{} findings in {crashes} crashes\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn a_failure_of_every_call_of_a_restore_leaves_all_or_nothing() {
    let _alone = SeededSqlite::new(7);
    let scene = scene();
    let (mut findings, mut failures) = (Vec::new(), 0);
    for (call, error) in [
        (Call::Write, Other),
        (Call::Write, StorageFull),
        (Call::Truncate, Other),
        (Call::Sync, Other),
        (Call::Create, Other),
        (Call::Rename, Other),
        (Call::Remove, Other),
        (Call::SyncDir, Other),
        (Call::Read, Other),
    ] {
        for skip in 0..500 {
            let disk = scene.disk(skip);
            disk.inject(Fault { call, path: String::new(), skip, times: 1, error });
            let _ = scene.try_to_restore(&disk);
            if disk.failures() == 0 {
                break;
            }
            failures += 1;
            disk.heal();
            let found = comes_back(&scene, &disk, skip).err();
            findings.extend(found.map(|what| format!("{call:?} {skip} fails as {error:?}: {what}")));
        }
    }
    assert!(failures > 50, "only {failures} calls");
    assert!(
        findings.is_empty(),
        "{} findings in {failures} failures\n{}",
        findings.len(),
        findings.join("\n")
    );
}
