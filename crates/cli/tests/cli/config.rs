//! The configuration file, as commands use it.

use crate::util::Dir;

#[test]
fn a_tilde_is_the_home_that_the_system_has_for_the_user_and_else_the_variables() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs:\n  - path: ~/a.db\n    replica:\n      path: /r/a\n");
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = rustix::process::getuid().as_raw().to_string();
    let home = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|user| user[2] == uid);
    let home = home.map_or("/elsewhere", |user| user[5]);
    dir.litekeep(["databases", "-config", "l.yml"])
        .env("HOME", "/elsewhere")
        .exits(0)
        .out_has(&format!("{}/a.db ", home.trim_end_matches('/')));
}

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
    if !std::path::Path::new("/etc/litestream.yml").exists() {
        dir.litekeep(["databases"]).exits(1).err_has("config file not found: /etc/litestream.yml");
    }
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

    // Nothing but keys is missing, which is the code of a replica that is out of reach; with another mistake it is not.
    let url = "s3://b/p?endpoint=http://127.0.0.1:1";
    let without_keys = format!("dbs:\n  - path: /a.db\n    replica:\n      url: {url}\n");
    for (more, code) in [("", 13), ("adr: 1\n", 1)] {
        dir.write("l.yml", format!("{more}{without_keys}"));
        check(&[]).exits(code).silent_out().err_has("no credentials for s3://b/p: set AWS_ACCESS_KEY_ID");
        check(&["-json"]).exits(code).out_has("\"ok\": false");
    }
    dir.write("l.yml", without_keys);
    check(&[]).env("AWS_ACCESS_KEY_ID", "key").exits(13).err_has("AWS_SECRET_ACCESS_KEY is not");

    dir.write("l.yml", "adr: 1\nmcp-addr: ':1'\n");
    check(&[]).exits(1).silent_out().err_has("l.yml:1:1: adr").err_has("l.yml:2:11: mcp-addr");
    let json: serde_json::Value = serde_json::from_str(&check(&["-json"]).exits(1).out()).expect("JSON");
    assert_eq!((&json["ok"], json["problems"].as_array().map(Vec::len)), (&false.into(), Some(2)));
    dir.litekeep(["databases", "-config", "l.yml"])
        .exits(1)
        .err_has("`litekeep config check` lists this and 1 more");
}

#[test]
fn a_check_shows_a_command_as_the_file_has_it() {
    let dir = Dir::new();
    let dbs = "dbs:\n  - path: /a.db\n    replica:\n      path: /r\n";
    for (exec, shown) in [
        ("exec: app --password ${DB_PASSWORD}", "app --password ${DB_PASSWORD}"),
        ("exec: >-\n  app\n  $DB_PASSWORD", "app $DB_PASSWORD"),
        ("exec: app -v", "app -v"),
        // There is no such key until it is expanded.
        ("${NONE}exec: app $DB_PASSWORD", "(hidden)"),
    ] {
        dir.write("l.yml", format!("{exec}\n{dbs}"));
        dir.litekeep(["config", "check", "-config", "l.yml"])
            .env("DB_PASSWORD", "hush")
            .exits(0)
            .never_says("hush")
            .out_has(shown);
    }
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
    for verb in [&["verify"] as &[&str], &["usage"], &["doctor"]] {
        run(verb).exits(1).silent_out().err_has("-first-replica");
        for operand in [&[] as &[&str], &["a.db"]] {
            let shown = |flag: &[&str]| run(&[verb, flag, operand].concat()).exits_any().all();
            let (first, second) = (shown(&["-first-replica"]), shown(&["-replica", "second"]));
            assert!(first.contains("/one") && !first.contains("/two"), "{first}");
            assert!(second.contains("/two") && !second.contains("/one"), "{second}");
        }
    }
    for verb in [&["ltx", "a.db"] as &[&str], &["verify"], &["doctor", "a.db"]] {
        run(&[verb, &["-replica", "third"]].concat())
            .exits(1)
            .err_has("none of these replicas is called third: they are file, second");
    }
    dir.write("l.yml", "dbs:\n  - path: a.db\n    replica:\n      path: one\n");
    for verb in [&["ltx", "a.db"] as &[&str], &["usage"], &["usage", "a.db"]] {
        run(&[verb, &["-replica", "s3"]].concat()).exits(1).err_has("replica \"s3\" not found for database");
    }
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
fn every_command_that_reads_the_file_minds_no_expand_env_and_first_replica() {
    let dir = Dir::new();
    dir.write(
        "l.yml",
        "dbs:\n  - path: $DATA\n    replicas:\n      - path: one\n      - name: second\n        path: two\n",
    );
    for verb in [
        &["replicate", "-once"] as &[&str],
        &["restore", "-dry-run", "$DATA"],
        &["ltx", "$DATA"],
        &["wal", "$DATA"],
        &["generations", "$DATA"],
        &["snapshots", "$DATA"],
        &["databases"],
        &["status"],
        &["reset", "-dry-run", "$DATA"],
        &["config", "check"],
        &["doctor", "$DATA"],
        &["verify", "$DATA"],
        &["usage", "$DATA"],
    ] {
        let told = |flags: &[&str]| {
            let args = [&["-config", "l.yml"], flags].concat();
            let (name, rest) = verb.split_first().expect("a verb");
            dir.litekeep([&[*name], &args[..], rest].concat()).exits_any().all()
        };
        let (unset, several) = ("$DATA is not set", "multiple replicas on a single database");
        for (flags, parts) in [
            (&[] as &[&str], [true, true]),
            (&["-no-expand-env"], [false, true]),
            (&["-first-replica"], [true, false]),
            (&["-no-expand-env", "-first-replica"], [false, false]),
        ] {
            let seen = told(flags);
            let found = [seen.contains(unset), seen.contains(several)];
            // What is not set is an error of its own, behind which the replicas may not be looked at.
            let found = if parts[0] { [found[0], parts[1]] } else { found };
            assert_eq!(found, parts, "{verb:?} {flags:?}: {seen}");
        }
    }
}

#[test]
fn replicating_no_database_at_all_is_an_error() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs:\n");
    dir.litekeep(["replicate", "-config", "l.yml", "-exec", "touch ran"]).exits(1).err_has("no database");
    assert_eq!(dir.files("."), ["l.yml"], "a command never runs without its backup");
}

#[test]
fn a_replica_that_is_given_as_an_argument_lies_no_less_apart_from_the_local_state() {
    let dir = Dir::new();
    crate::restore::make_database(&dir.path("a.db"));
    let before = dir.files(".");
    for (replica, why) in [
        (".a.db-litekeep", "the replica lies where the local state in "),
        (".a.db-litekeep/tail/r", "the replica lies where the local state in "),
        ("./a.db", "the replica's `path` is the database itself"),
    ] {
        dir.litekeep(["replicate", "-once", "a.db", replica]).exits(1).err_has(why);
        assert_eq!(dir.files("."), before, "{replica}");
    }
}

/// A check refuses this file with these words and its place, and `replicate` does in the same words.
#[track_caller]
fn refuses(dir: &Dir, text: &str, shown: &str) {
    dir.write("l.yml", text);
    let check = dir.litekeep(["config", "check", "-config", "l.yml"]).exits(1).silent_out().err_has(shown);
    let replicate = dir.litekeep(["replicate", "-config", "l.yml"]).exits(1).silent_out();
    assert_eq!(replicate.err(), check.err(), "{text}");
}

#[test]
fn what_is_no_database_on_the_disk_is_refused_by_a_check_as_by_replicate() {
    let dir = Dir::new();
    dir.write("diary", "Dear diary, this is no database");
    std::fs::create_dir(dir.path("there")).expect("made");
    std::os::unix::fs::symlink("none", dir.path("link")).expect("linked");
    for (path, shown) in [
        ("there", "there is a directory, not a database; name the file"),
        ("diary", "diary is not an SQLite database; check the path"),
        ("diary/a.db", "Not a directory (os error 20); check the path"),
        ("link/a.db", "link is a link that leads nowhere; check the path"),
    ] {
        refuses(&dir, &format!("dbs: [{{path: {path}, replica: {{path: r}}}}]"), shown);
        dir.litekeep(["config", "check", "-config", "l.yml"]).exits(1).err_has("l.yml:1:14: path: ");
    }
    assert_eq!(dir.files("."), ["diary", "l.yml", "link"]);
}

#[test]
fn what_replicate_refuses_at_once_a_check_refuses_in_the_same_words() {
    let dir = Dir::new();
    dir.write("file", "");
    dir.write(".q.db-litekeep", "");
    let db = "dbs: [{path: p.db, replica: {path: r}}]\n";
    for (text, shown) in [
        (format!("exec: 'a \"b'\n{db}"), "l.yml:1:7: exec: a \" is never closed"),
        (format!("exec: app | tee y\n{db}"), "l.yml:1:7: exec: `|` needs a shell: sh -c '...'"),
        (
            "dbs: [{dir: nodir, pattern: '*', replica: {path: r}}]".into(),
            "l.yml:1:13: dir: can't read the directory",
        ),
        ("dbs:\n".into(), "l.yml: there is no database to replicate: list them under `dbs:`"),
        (
            "dbs: [{path: p.db, meta-path: file, replica: {path: r}}]".into(),
            "l.yml:1:31: meta-path: the local state goes into",
        ),
        ("dbs: [{path: q.db, replica: {path: r}}]".into(), "l.yml:1:14: path: the local state goes into"),
        (
            "dbs: [{dir: ., pattern: '*', meta-dir: file, replica: {path: r}}]".into(),
            "l.yml:1:40: meta-dir: the local state goes into",
        ),
        (
            "dbs: [{path: p.db, meta-path: r, replica: {path: r}}]".into(),
            "l.yml:1:14: the replica lies where the local state in ",
        ),
        (
            "dbs: [{path: p.db, replica: {path: .p.db-litekeep/tail/r}}]".into(),
            "l.yml:1:14: the replica lies where the local state in ",
        ),
        (
            "dbs: [{path: p.db, replica: {path: p.db}}]".into(),
            "l.yml:1:14: the replica's `path` is the database itself",
        ),
        (
            "dbs: [{dir: ., pattern: '*', meta-dir: r, replica: {path: r}}]".into(),
            "l.yml:1:40: meta-dir: the replica lies in the same directory",
        ),
        (
            "dbs: [{path: p.db, replica: {path: 's3://b/p'}}]".into(),
            "l.yml:1:36: replica path cannot be a url",
        ),
    ] {
        refuses(&dir, &text, shown);
    }
    let left = ["file", "l.yml", ".q.db-litekeep"].map(str::to_owned);
    assert!(dir.files(".").iter().all(|name| left.contains(name)), "{:?}", dir.files("."));
}

#[test]
fn what_only_replicate_minds_is_no_obstacle_to_a_restore() {
    let dir = Dir::new();
    dir.fixture("v5-page1024");
    let db = "dbs: [{path: p.db, replica: {path: v5-page1024/replica}}, {dir: nodir, pattern: '*', replica: {path: r}}]\n";
    dir.write("l.yml", format!("exec: app | tee y\n{db}"));
    dir.litekeep(["config", "check", "-config", "l.yml"])
        .exits(1)
        .err_has("1:7: exec: ")
        .err_has("dir: can't read");
    dir.litekeep(["databases", "-config", "l.yml"]).exits(0);
    dir.litekeep(["restore", "-config", "l.yml", "p.db"]).exits(0);
    assert!(dir.path("p.db").exists());
    let db = "dbs: [{path: q.db, meta-path: v5-page1024/replica, replica: {path: v5-page1024/replica}}]\n";
    dir.write("l.yml", db);
    dir.litekeep(["restore", "-config", "l.yml", "q.db"]).exits(0);
    assert!(dir.path("q.db").exists());
}

#[test]
fn a_replica_beside_the_local_state_is_kept_and_comes_back() {
    let dir = Dir::new();
    for db in [
        "path: p.db, meta-path: m, replica: {path: m/backup}",
        "path: p.db, replica: {path: .p.db-litekeep/backup}",
        "dir: d, pattern: '*.db', meta-dir: n, replica: {path: n/backup}",
    ] {
        std::fs::create_dir_all(dir.path("d")).expect("made");
        let path = if db.starts_with("dir") { "d/a.db" } else { "p.db" };
        crate::restore::make_database(&dir.path(path));
        dir.write("l.yml", format!("dbs: [{{{db}}}]\n"));
        for _ in 0..2 {
            dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
        }
        dir.litekeep(["restore", "-force", "-config", "l.yml", path]).exits(0);
        std::fs::remove_file(dir.path(path)).expect("removed");
    }
}

#[test]
fn a_command_by_flag_goes_before_one_of_the_file_that_cannot_be_run() {
    let dir = Dir::new();
    dir.write("l.yml", "exec: app | tee y\ndbs: [{path: p.db, replica: {path: r}}]\n");
    dir.litekeep(["replicate", "-config", "l.yml", "-exec", "touch ran"]).exits(0);
    assert!(dir.path("ran").exists());
}

#[test]
fn an_empty_value_of_a_flag_is_as_none_where_litestream_takes_it_so() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-page1024");
    let url = crate::restore::url(&replica);
    let path =
        dir.write("l.yml", format!("dbs: [{{path: p.db, replica: {{path: {}}}}}]\n", replica.display()));
    let run = |args: &[&str]| dir.litekeep(args).env("LITESTREAM_CONFIG", path.to_str().expect("UTF-8"));
    run(&["databases", "-config", ""]).exits(0).out_has("p.db");
    run(&["restore", "-o", "", "p.db"]).exits(0);
    assert!(dir.path("p.db").exists());
    for (name, args) in [
        ("timestamp", &["-timestamp", "", "p.db"] as &[&str]),
        ("replica", &["-replica=", "p.db"]),
        ("generation", &["-generation", "", "p.db"]),
        ("config", &["-config", "", &url]),
    ] {
        let out = format!("{name}.db");
        run(&[&["restore", "-o", &out], args].concat()).exits(0);
        assert!(dir.path(&out).exists(), "{name}");
    }
    run(&["restore", "-o", "", &url]).exits(1).err_has("-o is required when restoring from a replica URL");
    for (flag, part) in [("-txid", "16 hex digits"), ("-integrity-check", "auto, none, quick or full")] {
        run(&["restore", flag, "", "-o", "x.db", "p.db"]).exits(1).err_has(part);
    }
    dir.write("once.yml", "dbs: [{path: p.db, replica: {path: r}}]\n");
    run(&["replicate", "-once", "-exec", "", "-log-level", "", "-config", "once.yml"]).exits(0);
}
