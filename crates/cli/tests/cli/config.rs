//! The configuration file, as commands use it.

use crate::util::Dir;

#[test]
fn the_configuration_is_found_by_flag_and_by_environment() {
    let dir = Dir::new();
    let file = dir.write("l.yml", "dbs:\n  - path: /data/a.db\n    replica:\n      path: /r/a\n");
    let path = file.to_str().expect("UTF-8");
    for run in [
        dir.litekeep(["databases", "-config", "l.yml"]),
        dir.litekeep(["databases", "--config=l.yml"]),
        dir.litekeep(["databases"]).env("LITESTREAM_CONFIG", path),
        dir.litekeep(["databases", "-config", "l.yml"]).env("LITESTREAM_CONFIG", "/not/this/one"),
    ] {
        assert_eq!(run.exits(0).out(), "path        replica\n/data/a.db  file\n");
    }
    dir.litekeep(["databases", "-config", "none.yml"]).exits(1).err_has("none.yml").err_has("Hint: ");
}

#[test]
fn databases_are_listed_as_json() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs:\n  - path: a.db\n    replica:\n      url: s3://b/p\n");
    let seen = dir
        .litekeep(["databases", "-config", "l.yml", "-json"])
        .env("LITESTREAM_ACCESS_KEY_ID", "id")
        .env("LITESTREAM_SECRET_ACCESS_KEY", "hush")
        .exits(0)
        .never_says("hush");
    let rows: serde_json::Value = serde_json::from_str(&seen.out()).expect("JSON");
    let path = dir.path("a.db").canonicalize().unwrap_or_else(|_| dir.path("a.db"));
    assert_eq!(rows, serde_json::json!([{"path": path, "replica": "s3"}]));
    dir.write("empty.yml", "dbs:\n");
    assert_eq!(dir.litekeep(["databases", "-config", "empty.yml", "-json"]).exits(0).out(), "[]\n");
}

#[test]
fn a_key_that_is_not_known_is_named_and_stops_nothing() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs:\n  - path: /a.db\n    replica:\n      path: /r\n      retension: 24h\n");
    dir.litekeep(["databases", "-config", "l.yml"]).exits(0).err_has(
        "Warning: retension in line 5 is not known in a replica and has no effect; did you mean retention?",
    );
}

#[test]
fn an_error_in_the_file_is_told_with_its_line_and_without_its_secrets() {
    let dir = Dir::new();
    for (text, part) in [
        ("secret-access-key: hush\ndbs: [\n", "can't be used"),
        (
            "dbs:\n  - path: /a.db\n    replica:\n      type: s3\n      secret-access-key: hush\n",
            "needs a `bucket`",
        ),
        ("secret-access-key: \"hush\n", "line 1"),
        ("dbs:\n  - path: /a.db\n    replica:\n      url: s3://id:hush@b/p\n", "must not hold keys"),
        ("snapshot:\n  interval: 0s\n", "snapshot: interval in line 2"),
    ] {
        dir.write("l.yml", text);
        dir.litekeep(["databases", "-config", "l.yml"])
            .exits(1)
            .err_has("l.yml")
            .err_has(part)
            .never_says("hush");
    }
}

#[test]
fn the_environment_is_expanded_unless_that_is_switched_off() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs:\n  - path: $DATA/a.db\n    replica:\n      path: /r/${NAME}\n");
    dir.litekeep(["databases", "-config", "l.yml"])
        .env("DATA", "/data")
        .exits(0)
        .out_has("/data/a.db")
        .err_has("$NAME in line 4 is not set");
    dir.litekeep(["databases", "-no-expand-env", "-config", "l.yml"])
        .env("DATA", "/data")
        .exits(0)
        .out_has("$DATA/a.db");
}

#[test]
fn a_status_asks_nobody_and_opens_nothing() {
    let dir = Dir::new();
    dir.write(
        "l.yml",
        "dbs:\n  - path: a.db\n    replica:\n      path: r/a\n  - path: b.db\n    replica:\n      path: r/b\n",
    );
    dir.write("b.db", "");
    dir.write("b.db-wal", [0; 32]);
    let seen = dir
        .litekeep(["status", "-config", "l.yml"])
        .exits(0)
        .out_has("no database")
        .out_has("not initialized");
    assert!(seen.out().lines().next().is_some_and(|head| head.starts_with("database ")), "{}", seen.all());
    dir.litekeep(["status", "-config", "l.yml", "-json", "b.db"]).exits(0).out_has("\"wal_size\": 32");
    dir.litekeep(["status", "-config", "l.yml", "c.db"]).exits(1).err_has("not in the configuration");
    assert_eq!(dir.files("."), ["b.db", "b.db-wal", "l.yml"]);
}

#[test]
fn replicating_no_database_at_all_is_an_error() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs:\n");
    dir.litekeep(["replicate", "-config", "l.yml", "-exec", "touch ran"]).exits(1).err_has("no database");
    assert_eq!(dir.files("."), ["l.yml"], "a command never runs without its backup");
}
