//! The `restore` command: what it gives, what it refuses, and what it leaves behind.

use crate::harness::{Place, app, ids, image, integrity, litekeep, names, said, wait_for, with_suffix};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

/// A replica with some history: the image of the database after each of its slots, by TXID.
struct History {
    place: Place,
    images: Vec<(String, Vec<u8>)>,
}

fn history() -> Option<History> {
    let place = Place::new();
    let mut app = app(&place.database(), 4096)?;
    let daemon = place.daemon_with("", "", "sync-interval: 20ms");
    let mut images: Vec<(String, Vec<u8>)> = Vec::new();
    for round in 0..8 {
        app.ask(&format!("rows 1 {}", 300 + round * 700));
        app.ask("many 30 300");
        let image = image(&place.database());
        place.wait_for_image();
        let newest = place.level(0).last().expect("there are slots")[..16].to_owned();
        images.push((newest, image));
    }
    drop(app);
    assert!(daemon.end().success());
    Some(History { place, images })
}

fn only_file(history: &History, level: u8, number: usize) -> PathBuf {
    let folder = history.place.replica().join("ltx").join(level.to_string());
    folder.join(&names(&folder)[number])
}

#[test]
fn every_transaction_id_restores_to_what_it_was() {
    let Some(history) = history() else { return };
    for (txid, image) in &history.images {
        let restored = history.place.restored(&["-txid", txid]);
        assert!(fs::read(&restored).expect("read it") == *image, "{txid}");
        let again = history.place.restored(&[&format!("--txid={txid}")]);
        assert!(fs::read(&again).expect("read it") == *image, "{txid}, with two dashes and an equals sign");
    }
    let output = history.place.restore_to(&history.place.path("no.db"), &["-txid", "00000000000fffff"]);
    assert!(!output.status.success() && !history.place.path("no.db").exists(), "{}", said(&output));
}

#[test]
fn r28_every_second_of_the_window_restores() {
    let Some(history) = history() else { return };
    let folder = history.place.replica().join("ltx/0");
    for (txid, image) in &history.images {
        let file = folder.join(format!("{txid}-{txid}.ltx"));
        let time = fs::metadata(file).and_then(|about| about.modified()).expect("its time");
        let since = time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() + 1;
        let restored = history.place.restored(&["-timestamp", &rfc3339(since)]);
        assert!(fs::read(restored).expect("read it") == *image, "{txid}");
    }
}

/// Milliseconds since 1970 as a time of day, by the days of the Gregorian calendar.
pub(crate) fn rfc3339(milliseconds: u128) -> String {
    let link = rusqlite::Connection::open_in_memory().expect("a database in memory");
    let seconds = i64::try_from(milliseconds / 1000).expect("a time");
    let day: String = link
        .query_row("SELECT strftime('%Y-%m-%dT%H:%M:%S', ?1, 'unixepoch')", [seconds], |row| row.get(0))
        .expect("SQLite knows the calendar");
    format!("{day}.{:03}Z", milliseconds % 1000)
}

#[test]
fn r26b_each_way_to_have_no_database_has_a_code_of_its_own_and_only_empty_is_no_error() {
    let Some(history) = history() else { return };
    let place = &history.place;
    let out = place.path("out/app.db");
    let attempt = |url: &str, words: &[&str]| -> Output {
        let mut command = litekeep();
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.arg("restore").args(words).arg("-o").arg(&out).arg(url);
        let output = command.output().expect("start litekeep");
        assert_eq!(leftovers(&place.path("out")), [""; 0], "something was left: {}", said(&output));
        assert_eq!(length(&place.path("out")), 0, "something was left: {}", said(&output));
        output
    };
    let copy = |name: &str| -> (PathBuf, String) {
        let folder = place.path(name);
        copy_tree(&place.replica(), &folder);
        let url = format!("file://{}", folder.display());
        (folder, url)
    };
    let mut codes = BTreeSet::new();

    let empty = place.path("empty");
    fs::create_dir(&empty).expect("make a folder");
    let empty = format!("file://{}", empty.display());
    codes.insert(attempt(&empty, &[]).status.code());
    assert!(attempt(&empty, &["-if-replica-exists"]).status.success());

    let (folder, wiped) = copy("wiped");
    fs::remove_dir_all(folder.join("ltx")).expect("wipe it");
    let (folder, gap) = copy("gap");
    let slots = names(&folder.join("ltx/0"));
    for name in &slots[slots.len() / 2..slots.len() / 2 + 1] {
        for level in 0..9 {
            let _ = fs::remove_file(folder.join(format!("ltx/{level}/{name}")));
        }
    }
    let (folder, damaged) = copy("damaged");
    let victim = folder.join("ltx/0").join(&slots[slots.len() / 2]);
    let mut bytes = fs::read(&victim).expect("read it");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&victim, bytes).expect("damage it");
    let unreachable =
        "s3://bucket/path?endpoint=http://127.0.0.1:1&region=us-east-1&forcePathStyle=true".to_owned();

    for (what, url) in [("wiped", wiped), ("gap", gap), ("damaged", damaged), ("unreachable", unreachable)] {
        for words in [&[][..], &["-if-replica-exists"]] {
            let output = attempt(&url, words);
            assert!(!output.status.success(), "{what} {words:?}: {}", said(&output));
            assert!(!output.stderr.is_empty(), "{what}: it must say what to do");
            codes.insert(output.status.code());
        }
    }
    assert!(codes.len() >= 4, "outcomes share a code: {codes:?}");
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("make a folder");
    for name in names(from) {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy_tree(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copy a file");
        }
    }
}

#[test]
fn r52_a_forced_restore_that_fails_leaves_the_old_database() {
    let Some(history) = history() else { return };
    let target = history.place.restored(&[]);
    fs::write(only_file(&history, 0, 0), b"not an LTX file").expect("damage it");
    for level in 1..=9 {
        let _ = fs::remove_dir_all(history.place.replica().join(format!("ltx/{level}")));
    }
    let before = fs::read(&target).expect("read it");
    let output = history.place.restore_to(&target, &["-force"]);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(fs::read(&target).expect("it is still there") == before);
    assert_eq!(leftovers(target.parent().expect("its folder")), [""; 0]);
}

#[test]
fn a_database_that_is_there_is_not_touched_without_force() {
    let Some(history) = history() else { return };
    let place = &history.place;
    let target = place.path("target.db");
    fs::write(&target, b"mine").expect("write it");
    assert!(!place.restore_to(&target, &[]).status.success());
    assert!(place.restore_to(&target, &["-if-db-not-exists"]).status.success());
    assert_eq!(fs::read(&target).expect("read it"), b"mine");
    let output = place.restore_to(&target, &["-force"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::read(&target).expect("read it") == history.images.last().expect("some").1);
}

#[test]
fn r48_sidecars_of_an_older_database_do_not_get_into_the_new_one() {
    let Some(history) = history() else { return };
    let place = &history.place;
    for suffix in ["-wal", "-shm", "-journal"] {
        let target = place.path(&format!("with{suffix}.db"));
        // The WAL of another database, with committed frames that SQLite would apply.
        let stale = with_suffix(&target, suffix);
        let wal = with_suffix(&place.database(), "-wal");
        fs::copy(if wal.exists() { wal } else { place.database() }, &stale).expect("leave a sidecar");
        let output = place.restore_to(&target, &[]);
        assert!(!output.status.success() && !target.exists(), "{suffix}: {}", said(&output));
        assert!(stale.exists(), "{suffix}: what it refused to overwrite must stay");
        let output = place.restore_to(&target, &["-force"]);
        assert!(output.status.success(), "{suffix}: {}", said(&output));
        assert!(!stale.exists(), "{suffix} is still there");
        assert!(fs::read(&target).expect("read it") == history.images.last().expect("some").1, "{suffix}");
    }
}

#[test]
fn r49_the_folder_of_the_database_is_made() {
    let Some(history) = history() else { return };
    let target = history.place.path("a/b/c/app.db");
    let output = history.place.restore_to(&target, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(integrity(&target), "ok");
}

#[test]
fn r50_files_in_the_layout_of_another_backend_are_named() {
    let Some(history) = history() else { return };
    let other = history.place.path("copied");
    for level in 0..=9 {
        let from = history.place.replica().join(format!("ltx/{level}"));
        if from.exists() {
            copy_tree(&from, &other.join(format!("{level:04x}")));
        }
    }
    let mut command = litekeep();
    command.arg("restore").arg("-if-replica-exists").arg("-o").arg(history.place.path("no.db"));
    let output = command.arg(format!("file://{}", other.display())).output().expect("start litekeep");
    assert!(!output.status.success(), "it would start afresh over a backup: {}", said(&output));
    assert!(said(&output).contains("layout"), "{}", said(&output));
}

#[test]
fn r45_twenty_restores_killed_or_failed_leave_nothing_behind() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    app.ask("many 20000 1500");
    place.wait_for_image();
    app.close();
    assert!(daemon.end().success());
    let image = image(&place.database());
    let folder = place.path("fresh");
    fs::create_dir(&folder).expect("make a disk");
    let target = folder.join("app.db");
    let used = || names(&folder).iter().map(|name| length(&folder.join(name))).sum::<u64>();
    let mut interrupted = 0;
    for _ in 0..20 {
        let mut command = place.litekeep();
        command.arg("restore").arg("-o").arg(&target).arg(&place.url);
        let mut child = command.spawn().expect("start litekeep");
        // Killed once it has begun to write.
        wait_for(&"the restore to write, or to end", || {
            let ended = child.try_wait().expect("ask for its end").is_some();
            (ended || used() > 0).then_some(())
        });
        child.kill().expect("kill it");
        interrupted += usize::from(!child.wait().expect("it ends").success());
        let _ = fs::remove_file(&target);
        assert!(used() <= 2 * image.len() as u64, "the disk fills up: {:?}", names(&folder));
    }
    assert!(interrupted > 0, "no restore was interrupted: the test shows nothing");
    let output = place.restore_to(&target, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::read(&target).expect("read it") == image);
    assert_eq!(leftovers(&folder), [""; 0]);
    assert_eq!(ids(&target).len(), 20000);
}

/// What lies in a folder besides the database and its local state.
fn leftovers(folder: &std::path::Path) -> Vec<String> {
    names(folder)
        .into_iter()
        .filter(|name| !["app.db", ".app.db-litekeep"].contains(&name.as_str()))
        .collect()
}

fn length(path: &std::path::Path) -> u64 {
    // A folder of temporary files counts with what is in it.
    if path.is_dir() {
        return names(path).iter().map(|name| length(&path.join(name))).sum();
    }
    fs::metadata(path).map_or(0, |about| about.len())
}
