//! Databases whose folder the application makes: not there yet, as a file that is not there yet, and never made by litekeep.

use crate::daemon::{ask, end, insert, restored, started, wait_for};
use crate::replicate::the_application;
use crate::restore::{make_database, not_empty, url};
use crate::scrape::get;
use crate::util::{Dir, TestCommand};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

/// `a.db`, which is there, and one that comes: `soon.db` beside it and `late/deep/b.db`, with the local states where they are
/// usually, and that of `late/c.db` in a folder of its own there.
fn coming() -> Dir {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let database = |path: &str, more: &str, replica: &str| {
        format!("  - path: {path}\n{more}    replica:\n      path: {replica}\n")
    };
    let databases = [
        database("a.db", "", "ra"),
        database("soon.db", "", "rs"),
        database("late/deep/b.db", "", "rb"),
        database("late/c.db", "    meta-path: late/state/c\n", "rc"),
    ];
    let head = "addr: 127.0.0.1:0\nsocket:\n  enabled: true\n  path: l.sock\ndbs:\n";
    dir.write("l.yml", format!("{head}{}", databases.concat()));
    dir
}

/// What is told of one database, but for its names and the time.
fn told(all: &Value, dir: &Dir, name: &str) -> Value {
    let path = dir.path(name).display().to_string();
    let is_it = |entry: &&Value| ["path", "db", "database"].iter().any(|key| entry[key] == path.as_str());
    let mut entry = all.as_array().expect("a list").iter().find(is_it).expect("it is in the list").clone();
    let fields = entry.as_object_mut().expect("an object");
    // Paths have a slash, times a colon.
    fields.retain(|_, value| {
        value.as_str().is_none_or(|text| !text.contains(['/', ':'])) && !value.is_number()
    });
    assert!(!fields.is_empty(), "nothing is told of {name}");
    entry
}

#[test]
fn a_database_whose_folder_is_not_there_yet_is_waited_for_as_a_file_is_and_the_others_go_on_meanwhile() {
    let dir = coming();
    dir.litekeep(["config", "check", "-config", "l.yml"]).exits(0);
    let (mut running, addr) = started(&dir);
    insert(&dir.path("a.db"), 2);
    ask(&dir, &["sync", "-wait", &dir.path("a.db").display().to_string()]);
    assert_eq!(restored(&dir, "ra"), [1, 2]);
    let list = wait_for("list in which all wait", || {
        let list = ask(&dir, &["list"]);
        (list["databases"].to_string().matches("\"open\"").count() == 3).then_some(list)
    });
    let health: Value = serde_json::from_str(&get(&addr, "/health").1).expect("JSON");
    let status = dir.litekeep(["status", "-json", "-config", "l.yml"]).exits_any();
    let status: Value = serde_json::from_str(&status.out()).expect("JSON");
    for all in [&list["databases"], &health["databases"], &status] {
        let (soon, late) = (told(all, &dir, "soon.db"), told(all, &dir, "late/deep/b.db"));
        assert_eq!(soon, late, "{all}");
    }
    assert!(!dir.path("late").exists(), "nobody but the application makes its folder");

    // The folder first, and the file at any time after it.
    fs::create_dir_all(dir.path("late/deep")).expect("made");
    make_database(&dir.path("late/c.db"));
    wait_for("replica of c.db", || dir.path("rc/ltx").exists().then_some(()));
    make_database(&dir.path("late/deep/b.db"));
    wait_for("replica of b.db", || dir.path("rb/ltx").exists().then_some(()));
    for (name, replica) in [("late/deep/b.db", "rb"), ("late/c.db", "rc")] {
        insert(&dir.path(name), 2);
        ask(&dir, &["sync", "-wait", &dir.path(name).display().to_string()]);
        assert_eq!(restored(&dir, replica), [1, 2], "{name}");
    }
    assert!(dir.path("late/state/c/state").exists() && dir.path("late/deep/.b.db-litekeep/state").exists());
    running.signal(Signal::TERM);
    let seen = running.ends(0).out_has("waiting for the folder of the database to be made");
    assert!(!seen.all().contains("level=ERROR"), "{}", seen.all());
}

#[test]
fn a_folder_that_goes_before_its_database_has_come_is_waited_for_again() {
    let dir = Dir::new();
    let mut running = dir.litekeep(["replicate", "d/a.db", &url(&dir.path("r"))]).starts();
    running.until("waiting for the folder of the database to be made");
    for _ in 0..2 {
        fs::create_dir(dir.path("d")).expect("made");
        wait_for("local state", || dir.path("d/.a.db-litekeep/lock").exists().then_some(()));
        // What litekeep writes there meanwhile may be in the way of one try.
        wait_for("end of the folder", || fs::remove_dir_all(dir.path("d")).ok());
    }
    // It is there before anybody has seen that it was not.
    fs::create_dir(dir.path("d")).expect("made");
    make_database(&dir.path("d/a.db"));
    let seen = {
        running.until("initialized db");
        end(running)
    };
    assert!(!seen.all().contains("level=ERROR"), "{}", seen.all());
    assert_eq!(restored(&dir, "r"), [1]);
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_is_followed_once_it_is() {
    let dir = Dir::new();
    fs::create_dir(dir.path("there")).expect("made");
    std::os::unix::fs::symlink("there/real.db", dir.path("a.db")).expect("linked");
    let mut running = dir.litekeep(["replicate", "a.db", &url(&dir.path("r"))]).starts();
    running.until("waiting for the database to be created");
    // SQLite puts what belongs to it beside the file, not beside the link.
    make_database(&dir.path("a.db"));
    let application = rusqlite::Connection::open(dir.path("a.db")).expect("opened");
    running.until("initialized db");
    application.execute_batch("INSERT INTO t VALUES (2)").expect("inserted");
    assert!(!end(running).all().contains("level=ERROR"));
    assert_eq!(restored(&dir, "r"), [1, 2]);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long it took")]
fn a_folder_that_comes_shut_is_told_and_tried_again_and_keeps_no_end_waiting() {
    for opened in [true, false] {
        let (dir, programs) = (Dir::new(), Dir::new());
        let head = "shutdown-sync-timeout: 2s\n";
        dir.write("l.yml", format!("{head}dbs:\n  - path: d/a.db\n    replica:\n      path: r\n"));
        let command = dir.litekeep(["replicate", "-config", "l.yml"]).of_nobody(&programs);
        let mut running = command.starts();
        running.until("waiting for the folder of the database to be made");
        fs::DirBuilder::new().mode(0o000).create(dir.path("d")).expect("made");
        running.until("replication is in trouble, trying again");
        let began = Instant::now();
        if opened {
            fs::set_permissions(dir.path("d"), fs::Permissions::from_mode(0o777)).expect("opened");
            running.until("waiting for the database to be created");
            assert!(dir.path("d/.a.db-litekeep/lock").exists());
        }
        running.signal(Signal::TERM);
        // Whether there is a database in there, nobody can tell.
        let seen = running.ends(if opened { 0 } else { 20 }).out_has("Permission denied");
        // What is in the way is met in two places: each is told once.
        let out = seen.out();
        let troubles: Vec<_> = out.lines().filter_map(|line| line.split_once("in trouble")).collect();
        let different: std::collections::BTreeSet<_> = troubles.iter().map(|(_, what)| what).collect();
        assert!(different.len() == troubles.len() && troubles.len() <= 2, "{}", seen.all());
        assert!(began.elapsed() < Duration::from_secs(20), "{}", seen.all());
    }
}

/// `replicate -exec` with a command line of a shell, over `sub/deep/a.db` and `r`; `APP` makes the database and ends.
fn with_shell(dir: &Dir, line: &str, flags: &[&str]) -> TestCommand {
    let line = format!("sh -c \"{}\"", line.replace("APP", &the_application()));
    let replica = url(&dir.path("r"));
    let args = [&["replicate", "-exec", &line], flags, &["sub/deep/a.db", &replica]].concat();
    let orders = format!("{},make,go,0", dir.path("sub/deep/a.db").display());
    dir.litekeep(args).env("LITEKEEP_TEST_APPLICATION", &orders)
}

#[test]
fn a_command_makes_the_folder_of_its_database_and_r54_what_it_wrote_is_synced_when_it_ends_at_once() {
    for flags in [&[][..], &["-restore-if-db-not-exists"]] {
        let dir = Dir::new();
        let line = "[ ! -e sub ] && mkdir -p sub/deep && exec APP";
        let seen = with_shell(&dir, line, flags).exits(0).out_has("initialized db");
        assert_eq!(restored(&dir, "r"), [1], "{}", seen.all());
    }
    // As long as nobody makes it, there is nothing to be replicated, and nothing to be said.
    let dir = Dir::new();
    let seen = with_shell(&dir, "exit 3", &[]).exits(3);
    assert!(!dir.path("sub").exists() && !seen.all().contains("Error"), "{}", seen.all());
}

#[test]
fn r26b_no_command_makes_a_database_in_a_new_folder_beside_a_replica_that_is_not_empty() {
    for (name, code, dir) in not_empty() {
        for flags in [&[][..], &["-restore-if-db-not-exists"]] {
            let seen = with_shell(&dir, "touch ran", flags).exits(code).err_has("Error: ");
            // A restore has made the folder, perhaps, before it failed.
            let made =
                if flags.is_empty() { dir.path("sub").exists() } else { dir.path("sub/deep/a.db").exists() };
            assert!(!dir.path("ran").exists() && !made, "{name}{}", seen.all());
        }
    }
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    dir.litekeep(["replicate", "-once", "a.db", &url(&dir.path("r"))]).exits(0);
    with_shell(&dir, "touch ran", &[]).exits(22).err_has("is not there, and its replica holds one");
    assert!(!dir.path("ran").exists() && !dir.path("sub").exists());
    // What is restored has its folder.
    with_shell(&dir, "[ -e sub/deep/a.db ]", &["-restore-if-db-not-exists"])
        .exits(0)
        .out_has("restore completed");
}

#[test]
fn a_folder_that_is_a_link_to_nowhere_is_an_error_and_not_waited_for() {
    let dir = Dir::new();
    std::os::unix::fs::symlink("none", dir.path("link")).expect("linked");
    let replica = url(&dir.path("r"));
    for more in [&[][..], &["-once"], &["-exec", "touch ran"]] {
        for database in ["link/a.db", "link/deep/a.db"] {
            let args = [&["replicate"], more, &[database, &replica]].concat();
            let seen = dir.litekeep(args).exits(1).err_has("link is a link that leads nowhere");
            seen.err_has("what must be a folder is none");
        }
    }
    assert_eq!(dir.files("."), ["link"]);
}
