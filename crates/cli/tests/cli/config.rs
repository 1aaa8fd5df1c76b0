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
    dir.litekeep(["databases", "-config", "none.yml"])
        .exits(1)
        .err_has("none.yml")
        .err_has("; name it by -config");
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
fn a_key_that_is_not_known_is_an_error_that_names_the_one_that_was_meant() {
    let dir = Dir::new();
    let file =
        dir.write("l.yml", "dbs:\n  - path: /a.db\n    replica:\n      path: /r\n      retension: 24h\n");
    let file = file.canonicalize().expect("there");
    for verb in
        [&["databases"] as &[&str], &["status"], &["replicate"], &["ltx", "/a.db"], &["config", "check"]]
    {
        let said = format!(
            "Error: {}:5:7: retension is no key of a replica: did you mean retention?\n",
            file.display()
        );
        let args = verb.iter().chain(&["-config", "l.yml"]);
        let seen = dir.litekeep(args).exits(1).silent_out();
        assert_eq!(seen.err(), said);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_what_to_do() {
    let dir = Dir::new();
    dir.write("folder/l.yml", "");
    dir.write("latin.yml", b"exec: caf\xe9\n");
    dir.write("tab.yml", "dbs:\n\t- path: hush\n");
    dir.write("twice.yml", "exec: a\nexec: hush\n");
    dir.write("long.yml", "#".repeat((1 << 20) + 1));
    for (name, parts) in [
        ("none.yml", ["config file not found: ", "; name it by -config"]),
        ("folder", ["can't read the configuration file", "; name the file in it"]),
        ("latin.yml", ["can't read the configuration file", "; save it as UTF-8"]),
        ("long.yml", ["can't read the configuration file", "longer than 1048576 bytes; "]),
        ("tab.yml", ["tab.yml:2:2: a tab", "indent with spaces"]),
        ("twice.yml", ["twice.yml:2:1: exec stands here a second time", "keep one"]),
    ] {
        let seen = dir.litekeep(["databases", "-config", name]).exits(1).silent_out().never_says("hush");
        parts.into_iter().fold(seen, |seen, part| seen.err_has(part)).err_has(name);
    }
}

#[test]
fn a_check_prints_every_setting_and_where_it_came_from() {
    let dir = Dir::new();
    dir.write(
        "l.yml",
        "addr: ${ADDR:-':9090'}\ndbs:\n  - path: /a.db\n    replica:\n      url: s3://b/p\n      retention: 48h\n      \
         secret-access-key: hush\n      access-key-id: key\n",
    );
    let check = |args: &[&str]| dir.litekeep(["config", "check", "-config", "l.yml"].iter().chain(args));
    let seen =
        check(&[]).exits(0).never_says("hush").err_has("Note: ").err_has("l.yml:6:18: retention is taken");
    for row in [
        ["addr", ":9090", "line 1 ($ADDR)"],
        ["snapshot: retention", "48h", "mapped from retention, line 6"],
        ["secret-access-key", "(hidden)", "line 7"],
        ["sync-interval", "1s", "default"],
    ] {
        let there = seen
            .out()
            .lines()
            .any(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).eq(row));
        assert!(there, "{row:?}{}", seen.all());
    }
    let json: serde_json::Value =
        serde_json::from_str(&check(&["-json"]).exits(0).never_says("hush").out()).expect("JSON");
    assert_eq!((&json["ok"], &json["problems"]), (&true.into(), &serde_json::json!([])));
    let settings = json["databases"][0]["settings"].as_array().expect("a list");
    let wanted = serde_json::json!({"name": "sync-interval", "value": "1s", "from": "default"});
    assert!(settings.contains(&wanted), "{settings:?}");

    dir.write("l.yml", "adr: 1\nmcp-addr: ':1'\n");
    check(&[]).exits(1).silent_out().err_has("l.yml:1:1: adr").err_has("l.yml:2:11: mcp-addr");
    let json: serde_json::Value = serde_json::from_str(&check(&["-json"]).exits(1).out()).expect("JSON");
    assert_eq!((&json["ok"], json["problems"].as_array().map(Vec::len)), (&false.into(), Some(2)));
    dir.litekeep(["databases", "-config", "l.yml"])
        .exits(1)
        .err_has("`litekeep config check` lists this and 1 more");
}

#[test]
fn of_several_replicas_the_first_is_used_only_if_that_is_said() {
    let dir = Dir::new();
    dir.write(
        "l.yml",
        "dbs:\n  - path: a.db\n    replicas:\n      - path: one\n      - name: second\n        path: two\n",
    );
    let run = |args: &[&str]| dir.litekeep(args.iter().chain(&["-config", "l.yml"]));
    for verb in [&["databases"] as &[&str], &["replicate"], &["restore", "a.db"], &["config", "check"]] {
        run(verb)
            .exits(1)
            .silent_out()
            .err_has("l.yml:5:9: multiple replicas on a single database are no longer supported")
            .err_has("-first-replica");
    }
    run(&["databases", "-first-replica"]).exits(0).out_has("file");
    run(&["restore", "-first-replica", "-dry-run", "a.db"]).exits(10).err_has("/one");
    run(&["restore", "-replica", "second", "-dry-run", "a.db"]).exits(10).err_has("/two");
    run(&["ltx", "-replica", "third", "a.db"]).exits(1).err_has("none of these replicas is called third");
    dir.write("l.yml", "dbs:\n  - path: a.db\n    replica:\n      path: one\n");
    run(&["ltx", "-replica", "s3", "a.db"]).exits(1).err_has("replica \"s3\" not found for database");
}

#[test]
fn what_0_3_says_is_mapped_and_the_log_tells_it() {
    let dir = Dir::new();
    dir.write(
        "l.yml",
        "dbs:\n  - path: a.db\n    max-checkpoint-page-count: 10000\n    replicas:\n      - path: r\n        name: main\n        \
         retention: 72h\n        snapshot-interval: 12h\n        validation-interval: 6h\n        retention-check-interval: 1h\n",
    );
    let seen = dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits_not(0);
    for key in ["max-checkpoint-page-count", "name", "retention", "snapshot-interval", "validation-interval"]
    {
        let told = |line: &str| line.contains("level=INFO") && line.contains(&format!(": {key}"));
        assert_eq!(
            seen.out().lines().filter(|line| told(line)).count(),
            1 + usize::from(key == "retention"),
            "{key}{}",
            seen.all()
        );
    }
    dir.litekeep(["databases", "-config", "l.yml"]).exits(0).out_has("file");
}

#[test]
fn an_error_in_the_file_is_told_with_its_line_and_without_its_secrets() {
    let dir = Dir::new();
    for (text, part) in [
        ("secret-access-key: hush\ndbs: [\n", "l.yml:2:6: this is no YAML"),
        (
            "dbs:\n  - path: /a.db\n    replica:\n      type: s3\n      secret-access-key: hush\n",
            "needs a `bucket`",
        ),
        ("secret-access-key: \"hush\n", "l.yml:1:20: a quote"),
        ("dbs:\n  - path: /a.db\n    replica:\n      url: s3://id:hush@b/p\n", "must not hold keys"),
        ("snapshot:\n  interval: 0s\n", "l.yml:2:13: snapshot: interval: it must be greater than 0"),
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
        .err_has("l.yml:4:16: $NAME is not set");
    dir.litekeep(["databases", "-no-expand-env", "-config", "l.yml"])
        .env("DATA", "/data")
        .exits(0)
        .out_has("$DATA/a.db");
    dir.write("l.yml", "dbs:\n  - path: $DATA\n    replica:\n      path: /r\n");
    dir.litekeep(["databases", "-config", "l.yml"])
        .exits(1)
        .err_has("l.yml:2:5: a database needs a `path`")
        .err_has("l.yml:2:11: $DATA is not set");
    dir.write("l.yml", "dbs:\n  - path: ${DATA:-/data}/a.db\n    replica:\n      path: /r\n");
    dir.litekeep(["databases", "-config", "l.yml"]).exits(0).out_has("/data/a.db");
}

#[test]
fn replicating_no_database_at_all_is_an_error() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs:\n");
    dir.litekeep(["replicate", "-config", "l.yml", "-exec", "touch ran"]).exits(1).err_has("no database");
    assert_eq!(dir.files("."), ["l.yml"], "a command never runs without its backup");
}
