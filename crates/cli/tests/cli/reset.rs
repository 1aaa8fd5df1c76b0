//! `litekeep reset`.

use crate::util::Dir;
use rustix::process::Signal;

/// A database in WAL mode with one row.
fn database(dir: &Dir) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(dir.path("a.db")).expect("opened");
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (v); INSERT INTO t VALUES (1);").expect("made");
    db
}

#[test]
fn a_reset_removes_the_state_and_the_next_start_compares_anew() {
    let dir = Dir::new();
    let db = database(&dir);
    let url = format!("file://{}", dir.path("r").display());
    let once = || dir.litekeep(["replicate", "-once", "a.db", &url]);
    once().exits(0);
    dir.write(".a.db-litekeep/notes.txt", "not litekeep's");
    let slots = dir.files("r");
    let state = dir.path(".a.db-litekeep/state").canonicalize().expect("a state").display().to_string();

    dir.litekeep(["reset", "-dry-run", "a.db"]).exits(0).out_has("would be removed").out_has(&state);
    assert!(dir.path(".a.db-litekeep/state").exists());
    dir.litekeep(["reset", "a.db"])
        .exits(0)
        .out_has("Removed:")
        .out_has(&state)
        .out_has("compares the database");
    let left = dir.files(".a.db-litekeep");
    assert!(left.iter().all(|name| ["lock", "owner", "notes.txt"].contains(&name.as_str())), "{left:?}");
    dir.litekeep(["reset", "a.db"]).exits(0).out_has("No local state to reset");
    let rows: i64 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, 1, "the database is not touched");

    once().exits(0);
    let slots_of =
        |files: Vec<String>| files.into_iter().filter(|file| file.starts_with("ltx/0/")).collect::<Vec<_>>();
    assert_eq!(slots_of(dir.files("r")), slots_of(slots), "the same content needs no new slot");
    db.execute_batch("INSERT INTO t VALUES (2)").expect("written");
    once().exits(0);
    dir.litekeep(["restore", "-o", "b.db", &url]).exits(0);
    let copy = rusqlite::Connection::open(dir.path("b.db")).expect("opened");
    let rows: i64 = copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, 2);
}

#[test]
fn a_reset_refuses_while_something_replicates_the_database() {
    let dir = Dir::new();
    let _db = database(&dir);
    let url = format!("file://{}", dir.path("r").display());
    let mut running = dir.litekeep(["replicate", "a.db", &url]).starts();
    running.until("snapshot complete");
    let before = dir.files(".a.db-litekeep");
    dir.litekeep(["reset", "a.db"])
        .exits(1)
        .silent_out()
        .err_has("a running litekeep")
        .err_has("nothing was removed");
    assert!(before.contains(&"state".to_owned()), "{before:?}");
    assert!(dir.path(".a.db-litekeep/state").exists());
    running.signal(Signal::TERM);
    running.ends(0);
    dir.litekeep(["reset", "-json", "a.db"]).exits(0).out_has("\"dry_run\": false").out_has("/state\"");
}

#[test]
fn a_reset_follows_the_configuration_only_where_it_is_named() {
    let dir = Dir::new();
    let _db = database(&dir);
    dir.write("l.yml", "dbs:\n  - path: a.db\n    meta-path: meta\n    replica:\n      path: r\n");
    dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
    dir.litekeep(["reset", "a.db"]).exits(0).out_has("No local state");
    dir.litekeep(["reset", "-config", "l.yml", "b.db"]).exits(1).err_has("database not found in config: ");
    dir.litekeep(["reset", "-config", "l.yml", "a.db"]).exits(0).out_has("/meta/state");
    dir.litekeep(["reset", "none.db"]).exits(1).err_has("database does not exist: ").silent_out();
}

#[test]
fn a_reset_through_a_link_refuses_while_something_replicates_the_file_by_another_name() {
    let dir = Dir::new();
    let _db = database(&dir);
    std::fs::create_dir(dir.path("links")).expect("made");
    std::os::unix::fs::symlink(dir.path("a.db"), dir.path("links/b.db")).expect("linked");
    let names = ["a.db", "links/b.db"];
    for (name, other) in [(names[0], names[1]), (names[1], names[0])] {
        dir.write("l.yml", format!("dbs:\n  - path: {name}\n    replica:\n      path: r\n"));
        let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
        running.until("initialized db");
        for path in [name, other] {
            let seen = dir.litekeep(["reset", path]).exits(1).silent_out();
            seen.err_has("a running litekeep replicates this database");
        }
        dir.litekeep(["reset", "-config", "l.yml", name]).exits(1).err_has("a running litekeep");
        running.signal(Signal::TERM);
        running.ends(0);
        dir.litekeep(["reset", other]).exits(0).out_has("/.a.db-litekeep/state");
    }
}

#[test]
fn a_database_of_a_directory_is_reset_by_its_path_and_the_only_one_needs_no_name() {
    let dir = Dir::new();
    let db = database(&dir);
    std::fs::create_dir(dir.path("d")).expect("made");
    let of = |more: &str| {
        format!("dbs:\n  - dir: d\n    pattern: '*.db'\n{more}    meta-dir: m\n    replica:\n      path: r\n")
    };
    dir.write("l.yml", of("    watch: true\n"));
    for verb in ["usage", "verify", "doctor"] {
        let seen = dir.litekeep([verb, "-config", "l.yml"]).exits(1).silent_out();
        seen.err_has("Error: the directories of the configuration hold no database; ");
    }
    let copy = |name: &str| std::fs::copy(dir.path("a.db"), dir.path("d").join(name)).expect("copied");
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpointed");
    copy("a.db");
    dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
    for verb in ["usage", "verify", "doctor"] {
        dir.litekeep([verb, "-config", "l.yml"]).exits(0);
    }
    dir.litekeep(["reset", "-config", "l.yml", "a.db"]).exits(1).err_has("database not found in config: ");
    dir.litekeep(["reset", "-config", "l.yml", "d/none.db"]).exits(1).err_has("database does not exist: ");
    dir.litekeep(["reset", "-config", "l.yml", "d/a.db"]).exits(0).out_has("/m/a.db/state");
    for name in ["b.db", "c.db", "e.db", "f.db", "g.db"] {
        copy(name);
    }
    let d = |name: &str| dir.path("d").join(name).display().to_string();
    let names = ["a.db", "b.db", "c.db", "e.db", "f.db"].map(d).join(", ");
    for verb in ["usage", "verify", "doctor"] {
        let seen = dir.litekeep([verb, "-config", "l.yml"]).exits(1).silent_out();
        seen.err_has("no database is named: the configuration lists 6 databases; name one that")
            .err_has(&format!("({names}, ...), or a replica URL"));
    }
}
