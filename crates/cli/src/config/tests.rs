//! The configuration file, from text to meaning.

use super::*;
use crate::world::tests::world;

const S3: &str = "dbs:\n  - path: /a.db\n    replica:\n      type: s3\n      bucket: b\n      path: p\n";
const KEYS: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hush")];

fn judged(env: &[(&str, &str)], text: &str, pick: Pick<'_>) -> (Config, Vec<String>) {
    let Judged { config, problems, .. } = parse(&world(env), text, Path::new("f"), true, pick);
    (config, problems)
}

fn config(text: &str) -> Config {
    let (config, problems) = judged(KEYS, text, Pick::Only);
    assert_eq!(problems, Vec::<String>::new(), "{text}");
    config
}

/// What must be mended, as lines.
fn refused(text: &str) -> String {
    let (_, problems) = judged(KEYS, text, Pick::Only);
    assert!(!problems.is_empty(), "it was taken: {text}");
    assert!(problems.iter().all(|problem| !problem.contains('\n')), "{problems:?}");
    problems.join("\n")
}

/// One database with a file replica and these lines among its keys, and these at the top.
fn with(top: &str, db: &str) -> String {
    format!("{top}\ndbs:\n  - path: /a.db\n    replica:\n      path: /r\n{db}")
}

#[test]
fn a_database_without_settings_has_litestreams_defaults() {
    let config = config(&with("", ""));
    let [database] = &config.databases[..] else { panic!("{config:?}") };
    assert_eq!(database.path, Path::new("/a.db"));
    assert_eq!(database.replica, Settings::Directory("/r".into()));
    assert_eq!(database.settings, EngineSettings::default());
    assert_eq!(database.settings.sync_interval, Duration::from_secs(1));
    assert_eq!(database.settings.truncate_pages, 121_359);
    assert_eq!(database.settings.max_sync_wal_bytes, 64 << 20);
    assert_eq!(database.settings.shutdown_retry, Duration::from_millis(500));
    assert!(!database.restore_if_missing && database.shutdown_timeout == Duration::from_secs(30));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn every_setting_arrives() {
    let config = config(&with(
        "levels:\n  - interval: 10s\n  - interval: 1h\nsnapshot:\n  interval: 12h\n  retention: 720h\n\
         l0-retention: 10m\nl0-retention-check-interval: 20s\nretention:\n  enabled: false\nshutdown-sync-timeout: 5s\nshutdown-sync-interval: 2s\nexec: app -x\nsingle-writer: true\n\
         logging:\n  level: debug\n  type: json\n  stderr: true\n  source: true\n",
        "      sync-interval: 250ms\n      page-encoding: frame\n    meta-path: ~/meta\n    monitor-interval: 2s\n    checkpoint-interval: 5m\n    \
         busy-timeout: 3s\n    max-sync-wal-bytes: 1MiB\n    min-checkpoint-page-count: 7\n    truncate-page-n: 9\n    \
         restore-if-db-not-exists: yes\n",
    ));
    let seconds = Duration::from_secs;
    assert_eq!(
        config.databases[0].settings,
        EngineSettings {
            sync_interval: Duration::from_millis(250),
            monitor_interval: seconds(2),
            checkpoint_interval: Some(seconds(300)),
            min_checkpoint_pages: 7,
            truncate_pages: 9,
            max_sync_wal_bytes: 1 << 20,
            shutdown_retry: seconds(2),
            levels: vec![seconds(10), seconds(3600)],
            snapshot_interval: seconds(12 * 3600),
            snapshot_retention: seconds(720 * 3600),
            l0_retention: Some(seconds(600)),
            gather: seconds(20),
            retention: false,
            encoding: litekeep_formats::ltx::PageEncoding::Frame,
            meta_path: Some("/work/~/meta".into()),
            ..EngineSettings::default()
        }
    );
    assert_eq!(config.databases[0].shutdown_timeout, seconds(5));
    assert!(config.databases[0].restore_if_missing);
    assert_eq!(config.exec.as_deref(), Some("app -x"));
    assert!(config.single_writer);
    assert_eq!(
        config.logging,
        Logging { level: Some("debug".into()), json: true, stderr: true, source: true }
    );
    assert_eq!(config.warnings, Vec::<String>::new());
}

/// What a word for a duration comes to: refused with this reason, or taken, with this note (if any) and this row in what
/// `config check` prints.
#[derive(Debug, Clone, Copy)]
enum Comes {
    Refused(&'static str),
    Taken(&'static str, &'static str),
}

use Comes::{Refused, Taken};

const NO_ZERO: Comes = Refused("it must be greater than 0");
const NO_OFF: Comes = Refused("it can't be off");
const IS_OFF: Comes = Taken("", "off");

/// Every key that is a duration, with the lines that give it (at the top, below the database); what 0 is, and what `off` is.
const DURATIONS: &[(&str, [&str; 2], Comes, Comes)] = &[
    ("sync-interval", ["", "      sync-interval: TIME\n"], NO_ZERO, NO_OFF),
    ("sync-interval", ["sync-interval: TIME", ""], NO_ZERO, NO_OFF),
    ("monitor-interval", ["", "    monitor-interval: TIME\n"], NO_ZERO, NO_OFF),
    (
        "checkpoint-interval",
        ["", "    checkpoint-interval: TIME\n"],
        Taken("0 is taken as off, as in Litestream: the size of the WAL alone decides", "off"),
        IS_OFF,
    ),
    // without effect whatever it is, so that it has no row
    (
        "busy-timeout",
        ["", "    busy-timeout: TIME\n"],
        Taken("0 is taken as off, as in Litestream: no lock is ever waited for", ""),
        Taken("", ""),
    ),
    ("levels: interval", ["levels:\n  - interval: TIME", ""], NO_ZERO, NO_OFF),
    ("snapshot: interval", ["snapshot:\n  interval: TIME", ""], NO_ZERO, NO_OFF),
    ("snapshot: interval", ["", "    snapshot:\n      interval: TIME\n"], NO_ZERO, NO_OFF),
    (
        "snapshot: retention",
        ["snapshot:\n  retention: TIME", ""],
        Refused("or `off` to switch it off"),
        IS_OFF,
    ),
    (
        "snapshot: retention",
        ["", "    snapshot:\n      retention: TIME\n"],
        Refused("or `off` to switch it off"),
        IS_OFF,
    ),
    (
        "l0-retention",
        ["l0-retention: TIME", ""],
        Taken("0 is taken as off, as in Litestream: slots are kept for ever", "off"),
        IS_OFF,
    ),
    ("l0-retention-check-interval", ["l0-retention-check-interval: TIME", ""], NO_ZERO, NO_OFF),
    (
        "validation: interval",
        ["validation:\n  interval: TIME", ""],
        Taken("0 is taken as off, as in Litestream: nothing is verified by itself", "off"),
        IS_OFF,
    ),
    (
        "heartbeat-interval",
        ["heartbeat-url: http://x\nheartbeat-interval: TIME", ""],
        Refused("or `off` to switch it off"),
        Taken("", ""),
    ),
    (
        "shutdown-sync-timeout",
        ["shutdown-sync-timeout: TIME", ""],
        Taken("0 is one try, as in Litestream", "0s (one try)"),
        Refused("it can't be off: 0s is one try"),
    ),
    ("shutdown-sync-interval", ["shutdown-sync-interval: TIME", ""], NO_ZERO, NO_OFF),
    // v0.3's
    (
        "retention",
        ["", "      retention: TIME\n"],
        Taken("`snapshot: retention`, off (0 is off, as in Litestream): for ever", ""),
        Taken("`snapshot: retention`, off: for ever", ""),
    ),
    ("retention-check-interval", ["", "      retention-check-interval: TIME\n"], NO_ZERO, NO_OFF),
    (
        "snapshot-interval",
        ["", "      snapshot-interval: TIME\n"],
        Taken(
            "snapshot-interval is off (0 is off, as in Litestream); one is taken every 24h all the same",
            "",
        ),
        Taken("snapshot-interval is off; one is taken every 24h all the same", ""),
    ),
    (
        "validation-interval",
        ["", "      validation-interval: TIME\n"],
        Taken("`validation: interval`, off (0 is off, as in Litestream)", ""),
        Taken("`validation: interval`, off", ""),
    ),
    (
        "validation-interval",
        ["validation-interval: TIME", ""],
        Taken("`validation: interval`, off (0 is off, as in Litestream)", ""),
        Taken("`validation: interval`, off", ""),
    ),
];

#[test]
fn r39_of_every_duration_it_is_told_what_0_and_what_off_is_and_none_fires_all_the_time() {
    for (key, lines, zero, off) in DURATIONS {
        for (word, comes) in [("0", zero), ("0s", zero), ("0h0ms", zero), ("off", off)] {
            let [top, db] = lines.map(|text| text.replace("TIME", word));
            let text = with(&top, &db);
            match comes {
                Refused(reason) => {
                    let told = refused(&text);
                    assert!(told.contains(key) && told.contains(reason), "{key}: {word}: {told}");
                }
                Taken(note, value) => {
                    let config = config(&text);
                    let notes = config.mapped.join("\n");
                    assert!(
                        notes.contains(note) && note.is_empty() == notes.is_empty(),
                        "{key}: {word}: {notes}"
                    );
                    let rows =
                        [global_settings(&config), settings_of(&config.databases[0], &config)].concat();
                    let row = rows.iter().find(|row| row.name == *key);
                    assert_eq!(row.map_or("", |row| &row.value), *value, "{key}: {word}");
                }
            }
        }
    }
}

#[test]
fn r39_no_key_that_is_a_duration_is_missing_in_the_table() {
    // of types of replica that are not built in, and a section
    const NONE: &[&str] = &["reconnect-wait", "timeout", "the file's top: retention"];
    for (section, keys) in unknown::sections() {
        let times = ["interval", "timeout", "retention", "wait"];
        for key in keys.into_iter().filter(|key| times.iter().any(|end| key.ends_with(end))) {
            let known =
                DURATIONS.iter().any(|(known, ..)| *known == key || *known == format!("{section}: {key}"));
            let none = NONE.iter().any(|none| *none == key || *none == format!("{section}: {key}"));
            assert!(known || none, "{key} of {section}");
        }
    }
}

#[test]
fn r39_zero_and_off_have_the_effect_that_is_told() {
    let tuning = |top: &str, db: &str| config(&with(top, db)).databases[0].settings.clone();
    for word in ["0", "off"] {
        assert_eq!(tuning(&format!("l0-retention: {word}"), "").l0_retention, None);
        assert_eq!(tuning("", &format!("    checkpoint-interval: {word}\n")).checkpoint_interval, None);
        assert_eq!(tuning("", &format!("      retention: {word}\n")).snapshot_retention, FOR_EVER);
    }
    assert_eq!(tuning("snapshot:\n  retention: off", "").snapshot_retention, FOR_EVER);
    assert_eq!(tuning("", "    truncate-page-n: 0\n").truncate_pages, 121_359);
    assert_eq!(config("heartbeat-url: http://x\nheartbeat-interval: off\n").heartbeat, None);
    let timeout = config(&with("shutdown-sync-timeout: 0s", "")).databases[0].shutdown_timeout;
    assert_eq!(timeout, Duration::ZERO);
    for (top, db, key) in [
        ("", "    min-checkpoint-page-count: 0\n", "min-checkpoint-page-count"),
        ("", "    min-checkpoint-page-count: -1\n", "min-checkpoint-page-count"),
        ("snapshot:\n  interval: -1h", "", "negative"),
        ("l0-retention: -1s", "", "negative"),
        ("l0-retention: 5", "", "no unit"),
        ("l0-retention: 1d", "", "24h is a day"),
        ("heartbeat-url: http://x\nheartbeat-interval: 59s", "", "1m at least"),
    ] {
        let reason = refused(&with(top, db));
        assert!(reason.contains(key), "{top}{db}: {reason}");
    }
}

#[test]
fn replicas_are_found_by_type_or_url() {
    let replica = |lines: &str| {
        config(&format!("dbs:\n  - path: /a.db\n    replica:\n{lines}")).databases[0].replica.clone()
    };
    for (lines, location) in [
        ("      path: /r\n", "file:///r"),
        ("      type: file\n      path: r\n", "file:///work/r"),
        ("      url: file:///r\n", "file:///r"),
        ("      url: s3://b/p\n", "s3://b/p"),
        ("      type: file\n      url: s3://b/p\n", "s3://b/p"),
        ("      type: s3\n      bucket: b\n", "s3://b"),
        ("      type: s3\n      bucket: b\n      path: p/q/\n", "s3://b/p/q/"),
        ("      type: s3\n      bucket: b\n      name: main\n", "s3://b"),
    ] {
        assert_eq!(replica(lines).location(), location, "{lines}");
    }
    let Settings::S3(s3) = replica(
        "      url: s3://b/p?region=x&forcePathStyle=true\n      region: fra1\n      \
         endpoint: https://fra1.digitaloceanspaces.com\n      force-path-style: false\n      access-key-id: a\n      \
         secret-access-key: s\n      part-size: 8MiB\n      concurrency: 3\n      storage-class: STANDARD_IA\n      \
         sse-kms-key-id: k\n      skip-verify: true\n      sign-payload: false\n",
    ) else {
        panic!("not s3")
    };
    assert_eq!(s3.region.as_deref(), Some("fra1"));
    assert_eq!(s3.endpoint.as_deref(), Some("https://fra1.digitaloceanspaces.com"));
    assert_eq!(s3.force_path_style, Some(false));
    assert_eq!(s3.access_key_id.as_deref(), Some("a"));
    assert_eq!(s3.secret_access_key.as_ref().map(|key| key.expose()), Some("s"));
    assert_eq!((s3.part_size, s3.concurrency), (Some(8 << 20), Some(3)));
    assert_eq!(s3.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(s3.sse_kms_key_id.as_deref(), Some("k"));
    assert!(s3.skip_verify && !s3.sign_payload);
}

#[test]
fn settings_at_the_top_are_every_replicas_default() {
    let config = config(
        "access-key-id: top\nsecret-access-key: hush\nregion: eu\nsync-interval: 5s\nconcurrency: 3\npart-size: 8MiB\ndbs:\n  - path: /a.db\n    \
         replicas:\n      - url: s3://b/a\n  - path: /b.db\n    replica:\n      url: s3://b/b\n      region: us\n      \
         sync-interval: 1s\n      access-key-id: own\n",
    );
    let found: Vec<_> = config
        .databases
        .iter()
        .map(|database| {
            let Settings::S3(s3) = &database.replica else { panic!("not s3") };
            (
                s3.access_key_id.as_deref().expect("an id"),
                s3.region.as_deref().expect("a region"),
                database.settings.sync_interval.as_secs(),
                (s3.concurrency, s3.part_size) == (Some(3), Some(8 << 20)),
            )
        })
        .collect();
    assert_eq!(found, [("top", "eu", 5, true), ("own", "us", 1, true)]);
}

#[test]
fn the_environment_fills_in_before_parsing() {
    let env = &[KEYS, &[("BUCKET", "b"), ("DB", "/data/a.db")]].concat();
    let text =
        "dbs:\n  - path: ${DB}\n    replica:\n      type: s3\n      bucket: $BUCKET\n      path: x-$PID\n";
    let (config, _) = judged(env, text, Pick::Only);
    assert_eq!(config.databases[0].path, Path::new("/data/a.db"));
    assert_eq!(config.databases[0].replica.location(), "s3://b/x-42");
    let raw = |text: &str| parse(&world(env), text, Path::new("f"), false, Pick::Only);
    assert_eq!(raw(&text.replace("$BUCKET", "b")).config.databases[0].replica.location(), "s3://b/x-$PID");
    assert!(raw(text).problems[0].contains("characters no bucket may have"), "no bucket is called $BUCKET");
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let config = config(&with("# $IGNORED\nregion: $MISSING", ""));
    assert_eq!(config.warnings, ["f:2:9: $MISSING is not set and was replaced by nothing"]);
    assert!(
        refused("dbs:\n  - path: /a.db\n    replica:\n      type: s3\n      bucket: $MISSING\n")
            .contains("bucket")
    );
}

#[test]
fn a_default_that_decides_where_a_replica_lies_is_told_with_what_litestream_makes_of_it() {
    let s3 = |path: &str| format!("dbs:\n  - path: /a.db\n    replica:\n      type: s3\n{path}");
    let file = |path: &str| format!("dbs:\n  - path: ${{DB:-/a.db}}\n    replica:\n      {path}\n");
    for (text, place, key, there) in [
        (s3("      bucket: b\n      path: ${P:-mandarin}\n"), "6:13", "path", "at s3://b/;"),
        (
            s3("      bucket: b\n      path: x/${P:-z}/y\n"),
            "6:13",
            "path",
            "at bucket b with path \"x//y\" (no URL means that);",
        ),
        (
            s3("      bucket: ${B:-b}\n      path: p\n"),
            "5:15",
            "bucket",
            "no replica of this, and does not start;",
        ),
        (file("url: ${URL:-s3://b/p}"), "4:12", "url", "no replica of this, and does not start;"),
        (file("url: s3://b/${SET:-p}"), "4:12", "url", "at s3://b/;"),
        (file("path: /x${P:-${SET}}"), "4:13", "path", "at file:///x};"),
        (file("path: \"/r${P:-/x}\""), "4:13", "path", "at file:///r;"),
        ("bucket: b${B:-c}\n".to_owned() + &s3("      path: p\n"), "1:9", "bucket", "at s3://b/p;"),
        (s3("      <<: {bucket: b, path: '${P:-p}'}\n"), "5:11", "path", "at s3://b/;"),
    ] {
        let env = &[KEYS, &[("SET", "/set")]].concat();
        let (config, problems) = judged(env, &text, Pick::Only);
        assert_eq!(problems, [""; 0], "{text}");
        let [warning] = &config.warnings[..] else { panic!("{text}{:?}", config.warnings) };
        assert!(warning.starts_with(&format!("f:{place}: {key}: ")), "{text}{warning}");
        assert!(warning.contains(there), "{text}{warning}");
        let raw = parse(&world(env), &text, Path::new("f"), false, Pick::Only).config;
        assert!(raw.warnings.is_empty(), "{:?}", raw.warnings);
    }
    for text in [
        file("path: /r\n      sync-interval: ${I:-2s}"),
        file("path: /r${P:-}"),
        s3("      bucket: b\n      path: p\n      region: ${R:-r}\n"),
        s3("      bucket: b\n      path: p$P\n").replace("$P", "$SET"),
    ] {
        let (config, problems) = judged(&[KEYS, &[("SET", "/set")]].concat(), &text, Pick::Only);
        assert_eq!((config.warnings, problems), (vec![], vec![]), "{text}");
    }
}

#[test]
fn r26b_half_a_pair_of_keys_is_refused() {
    let (_, reasons) = judged(&[("AWS_ACCESS_KEY_ID", "id")], S3, Pick::Only);
    assert!(reasons[0].starts_with("f:4:7: ") && reasons[0].contains("AWS_SECRET_ACCESS_KEY"), "{reasons:?}");
}

#[test]
fn keys_without_effect_are_named_with_their_place() {
    for (top, db, shown) in [
        ("heartbeat-interval: 5m", "", "f:1:21: heartbeat-interval has no effect: there is no heartbeat-url"),
        ("logging:\n  type: pretty", "", "pretty is taken as text"),
        ("logging:\n  level: loud", "", "`loud` is none of trace"),
        (
            "validation-interval: 1m\nvalidation:\n  interval: 2m",
            "",
            "f:1:22: validation-interval has no effect: validation: interval is given and goes before",
        ),
        ("", "      bucket: b\n", "f:6:15: bucket has no effect: the replica's type is file"),
        ("", "      region: r\n", "region has no effect"),
        ("", "      host: x\n", "f:6:13: host has no effect"),
        ("", "    pattern: x\n", "pattern has no effect: it belongs to a `dir`"),
        ("snapshot:\n  interval: 1h", "    snapshot:\n      interval: 2h\n", "whole file goes before"),
    ] {
        let config = config(&with(top, db));
        assert_eq!(config.warnings.len(), 1, "{top}{db}: {:?}", config.warnings);
        assert!(config.warnings[0].contains(shown), "{shown}: {}", config.warnings[0]);
    }
}

#[test]
fn a_directory_whose_databases_would_have_to_be_known_to_be_restored_is_told() {
    let of = |value: &str| {
        let text = format!(
            "dbs:\n  - dir: /d\n    pattern: '*.db'\n    restore-if-db-not-exists: {value}\n    replica: {{path: /r}}\n"
        );
        config(&text).warnings
    };
    let [warning] = &of("true")[..] else { panic!("{:?}", of("true")) };
    assert!(warning.starts_with("f:4:31: restore-if-db-not-exists has no effect: "), "{warning}");
    assert_eq!(of("false"), [""; 0]);
}

#[test]
fn a_pattern_as_a_path_is_taken_as_it_stands_and_told_unless_a_file_has_that_name() {
    let there = tempfile::tempdir().expect("a directory");
    let file = there.path().join("a*.db");
    std::fs::write(&file, "").expect("written");
    let of = |path: &str| config(&with("", "").replace("/a.db", path)).warnings;
    for path in ["/data/repos/*.fossil", "/data/*/a.db", "/data/a?.db"] {
        let [warning] = &of(path)[..] else { panic!("{path}: {:?}", of(path)) };
        assert!(
            warning.starts_with("f:3:11: path: ") && warning.contains("`dir` and `pattern`"),
            "{warning}"
        );
    }
    for path in ["/data/a.db", "/data/a[1].db", file.to_str().expect("UTF-8")] {
        assert_eq!(of(path), [""; 0], "{path}");
    }
}

#[test]
fn keys_that_change_nothing_are_taken_in_silence() {
    for (top, db) in [
        ("verify-compaction: true", ""),
        ("", "    busy-timeout: 5s\n"),
        ("socket:\n  enabled: false\n  path: /s\n  permissions: 0600", ""),
        ("logging:\n  level: info\n  type: text\n  stderr: false\n  source: false", ""),
        ("require-content-md5: false", ""),
        ("age:\n  identities: []\n  recipients:", ""),
        ("mcp-addr: ''", ""),
        ("x-anything: {a: 1}", ""),
        ("", "      auto-recover: true\n      max-sync-ltx-files: 256\n"),
    ] {
        let config = config(&with(top, db));
        assert_eq!((config.warnings, config.mapped), (vec![], vec![]), "{top}{db}");
    }
}

#[test]
fn a_key_at_the_top_that_holds_what_an_alias_uses_is_taken_and_its_content_checked_where_it_is_merged() {
    let with = |head: &str, used: &str| {
        format!("{head}\ndbs:\n  - path: /a.db\n    replica:\n      <<: {used}\n      path: /r\n")
    };
    for head in [
        "replica_defaults: &replica_defaults\n  sync-interval: 2s",
        "defaults:\n  &replica_defaults\n  sync-interval: 2s",
        "defaults:\n  one: &replica_defaults # of all\n    sync-interval: 2s",
        "defaults: &replica_defaults {sync-interval: 2s}",
        "defaults:\n- &replica_defaults {sync-interval: 2s}",
        "\"defaults\": &replica_defaults\n\n  # of all\n  sync-interval: 2s",
        // No quotes that would hide what is below.
        "x-a: \"c:\\\\\"\ndefaults: &replica_defaults\n  sync-interval: 2s",
        "defaults:\n  a: \"\\\\\\\"\\\\\"\n  b: &replica_defaults\n    sync-interval: 2s",
        "x-a: |\n  a 'b\n\n    \"c\ndefaults: &replica_defaults\n  sync-interval: 2s",
        "defaults:\n  a: &a !!str >-2 # of all\n      'b\n  b: &replica_defaults\n    sync-interval: 2s",
        "defaults:\n- a: |\n   'b\n  b: &replica_defaults\n    sync-interval: 2s",
        "defaults:\n- |\n 'b\n- &replica_defaults\n  sync-interval: 2s",
        "defaults:\n- |\n- a: b |\n  b: &replica_defaults\n    sync-interval: 2s",
    ] {
        let config = config(&with(head, "*replica_defaults"));
        assert_eq!(config.warnings, [""; 0], "{head}");
        assert_eq!(config.databases[0].settings.sync_interval, Duration::from_secs(2), "{head}");
    }
    for (text, shown) in [
        (
            with("defaults: &d\n  sync-interval: 2s", "{}"),
            "f:1:1: defaults is no key of the file's top: `litekeep man config` lists the keys; remove it, or if it holds an \
             anchor, name it x-defaults",
        ),
        (with("defaults: 'a &d'\nx-d: &d {}", "*d"), "f:1:1: defaults is no key of the file's top: "),
        (with("defaults:\n  a: 1 # &d\nx-d: &d {}", "*d"), "f:1:1: defaults is no key of the file's top: "),
        (
            with("defaults:\n  a: |\n    b &d\nx-d: &d {}", "*d"),
            "f:1:1: defaults is no key of the file's top: ",
        ),
        (with("defaults: \"\\\" &d\"\nx-d: &d {}", "*d"), "f:1:1: defaults is no key of the file's top: "),
        (with("defaults: &d {}\nx-d: '*d *d'", "{} # *d"), "f:1:1: defaults is no key of the file's top: "),
        (with("defaults: &d\n  sync-intervall: 2s", "*d"), "f:6:11: sync-intervall is no key of a replica"),
    ] {
        let (_, problems) = judged(KEYS, &text, Pick::Only);
        assert_eq!(problems.len(), 1, "{text}{problems:?}");
        assert!(problems[0].starts_with(shown), "{text}{problems:?}");
    }
}

#[test]
fn a_key_that_no_litestream_had_is_an_error_with_its_place_and_the_key_that_was_meant() {
    for (top, db, shown) in [
        ("adr: x", "", "f:1:1: adr is no key of the file's top: did you mean addr?"),
        ("snapshot:\n  intervall: 1h", "", "f:2:3: intervall is no key of snapshot: did you mean interval?"),
        (
            "snapshot-interval: 1h",
            "",
            "f:1:1: snapshot-interval is no key of the file's top: it is a key of a replica",
        ),
        ("metrics-addr: ':1'", "", "f:1:1: metrics-addr is no key of the file's top: this is `addr`"),
        ("prometheus: ':1'", "", "f:1:1: prometheus is no key of the file's top: this is `addr`"),
        (
            "",
            "    max-wal-size: 1\n",
            "f:6:5: max-wal-size is no key of a database: the WAL's size is bounded by `truncate-page-n`, in pages",
        ),
        (
            "access-log: true",
            "",
            "f:1:1: access-log is no key of the file's top: `litekeep man config` lists",
        ),
        (
            "",
            "    snapshots:\n      interval: 1h\n",
            "f:6:5: snapshots is no key of a database: did you mean snapshot?",
        ),
        (
            "replica:\n  path: /r",
            "",
            "f:1:1: replica is no key of the file's top: it is a key of a database (below `dbs:`)",
        ),
        (
            "replicas:\n  - path: /r",
            "",
            "f:1:1: replicas is no key of the file's top: it is a key of a database (below `dbs:`)",
        ),
        ("", "    sync-intervall: 1s\n", "f:6:5: sync-intervall is no key of a database"),
        ("", "    retention: 1h\n", "f:6:5: retention is no key of a database: it is a key of a replica"),
        ("", "      retension: 24h\n", "f:6:7: retension is no key of a replica: did you mean retention?"),
        ("", "      sftp-user: x\n", "f:6:7: sftp-user is no key of a replica: `litekeep man config` lists"),
        ("", "    wal-size: 1\n", "f:6:5: wal-size is no key of a database"),
        ("", "    snapshot:\n      retain: 1h\n", "f:7:7: retain is no key of snapshot"),
        ("age:\n  keys: 1", "", "f:2:3: keys is no key of age"),
        ("socket:\n  mode: 1", "", "f:2:3: mode is no key of socket"),
        ("logging:\n  format: json", "", "f:2:3: format is no key of logging"),
        ("levels:\n  - interval: 1s\n    size: 1", "", "f:3:5: size is no key of levels"),
    ] {
        let (_, problems) = judged(KEYS, &with(top, db), Pick::Only);
        assert_eq!(problems.len(), 1, "{top}{db}: {problems:?}");
        assert!(problems[0].starts_with(shown), "{top}{db}: {problems:?}");
    }
}

#[test]
fn values_of_a_wrong_kind_are_told_with_their_key_and_place() {
    for (top, db, shown) in [
        (
            "retention:\n  enabled: perhaps",
            "",
            "f:2:12: retention: enabled: `perhaps` is neither true nor false",
        ),
        ("socket:\n  permissions: 600", "", "f:2:16: socket: permissions: `600` is no mode"),
        ("socket:\n  permissions: rw", "", "socket: permissions: `rw` is no mode"),
        ("addr: localhost", "", "f:1:7: addr: `localhost` has no port: write :9090"),
        ("heartbeat-url: ftp://hush", "", "f:1:16: heartbeat-url: it must begin with http://"),
        ("logging:\n  type: xml", "", "f:2:9: logging: type: `xml` is neither text nor json"),
        ("", "    truncate-page-n: many\n", "f:6:22: truncate-page-n: `many` is no whole number"),
        ("", "    max-sync-wal-bytes: 5XB\n", "max-sync-wal-bytes: `5XB` is not a size"),
        ("", "      page-encoding: zip\n", "f:6:22: page-encoding: `zip` is neither block nor frame"),
        ("verify-compaction: 7", "", "verify-compaction: `7` is neither"),
        ("auto-recover: maybe", "", "f:1:15: auto-recover: `maybe` is neither"),
        ("", "      max-sync-ltx-files: many\n", "f:6:27: max-sync-ltx-files: `many` is no whole number"),
    ] {
        let reason = refused(&with(top, db));
        assert!(reason.starts_with(shown) || reason.contains(shown), "{top}{db}: {reason}");
        assert!(!reason.contains("hush"), "{reason}");
    }
}

#[test]
fn a_number_or_a_switch_in_quotes_is_what_it_would_be_without() {
    let lines = "    truncate-page-n: \"1000\"\n    restore-if-db-not-exists: 'true'\n";
    let database = &config(&with("", lines)).databases[0];
    assert_eq!((database.settings.truncate_pages, database.restore_if_missing), (1000, true));
}

#[test]
fn numbers_are_read_as_litestreams_yaml_reads_them_and_an_octal_one_is_never_taken_for_decimal() {
    for (text, pages, bytes) in [
        ("1e6", 1_000_000, 1_000_000),
        ("1.5E+3", 1500, 1500),
        ("1000.0", 1000, 1000),
        ("0x100000", 1 << 20, 1 << 20),
        ("0o17", 15, 15),
        ("0b11", 3, 3),
        ("+5", 5, 5),
        ("1_000", 1000, 1000),
        ("08", 8, 8),
    ] {
        let lines = format!("    truncate-page-n: {text}\n    max-sync-wal-bytes: {text}\n");
        let settings = &config(&with("", &lines)).databases[0].settings;
        assert_eq!((settings.truncate_pages, settings.max_sync_wal_bytes), (pages, bytes), "{text}");
    }
    for key in
        ["truncate-page-n", "min-checkpoint-page-count", "max-checkpoint-page-count", "max-sync-wal-bytes"]
    {
        for (text, shown) in [
            ("0777", "`0777` is 511 to Litestream, which takes a leading 0 for octal, and 777 to others"),
            ("-5", "`-5` is "),
            ("1e30", "`1e30` is "),
            ("1e-1", "`1e-1` is "),
            ("nan", "`nan` is "),
        ] {
            let reason = refused(&with("", &format!("    {key}: {text}\n")));
            assert!(
                reason.starts_with(&format!("f:6:{}: {key}: {shown}", key.len() + 7)),
                "{key} {text}: {reason}"
            );
        }
    }
    let s3 = |lines: &str| config(&format!("{S3}{lines}")).databases[0].replica.clone();
    let Settings::S3(s3) = s3("      concurrency: 0x10\n      part-size: 010MiB\n") else { panic!("not s3") };
    assert_eq!((s3.concurrency, s3.part_size), (Some(16), Some(10 << 20)));
    for (text, mode) in [("0600", 0o600), ("0o600", 0o600), ("0x180", 0o600), ("384", 0o600), ("0", 0)] {
        let config = config(&with(&format!("socket:\n  permissions: {text}"), ""));
        assert_eq!(config.socket.permissions, mode, "{text}");
    }
}

#[test]
fn all_problems_are_told_in_the_files_order() {
    let (_, problems) = judged(KEYS, &with("adr: 1\nmcp-addr: ':1'", "    wal-size: 1\n"), Pick::Only);
    let lines: Vec<_> = problems.iter().map(|problem| problem.split(' ').next().expect("a word")).collect();
    assert_eq!(lines, ["f:1:1:", "f:2:11:", "f:7:5:"]);
}

#[test]
fn settings_of_the_daemon_are_read_in_full() {
    let config = config(&with(
        "addr: ':9090'\nsocket:\n  enabled: yes\n  path: ~/s.sock\n  permissions: 0660\n\
         heartbeat-url: https://example.com/hush\nheartbeat-interval: 2m\nvalidation:\n  interval: 6h",
        "",
    ));
    assert_eq!(config.addr.as_deref(), Some(":9090"));
    assert_eq!(config.socket, Socket { enabled: true, path: "/work/~/s.sock".into(), permissions: 0o660 });
    let heartbeat = config.heartbeat.as_ref().expect("a heartbeat");
    assert_eq!((heartbeat.url.expose(), heartbeat.interval.as_secs()), ("https://example.com/hush", 120));
    assert_eq!(config.databases[0].validation, Some(Duration::from_secs(6 * 3600)));
    assert!(!format!("{config:?}").contains("hush"));
    let none = self::config(&with("heartbeat-url: http://x\nheartbeat-interval: off", ""));
    let socket = Socket { enabled: false, path: "/var/run/litestream.sock".into(), permissions: 0o600 };
    assert_eq!((none.heartbeat, none.addr, none.socket), (None, None, socket));
    let usual = self::config(&with("heartbeat-url: http://x", ""));
    assert_eq!(usual.heartbeat.expect("a heartbeat").interval, Duration::from_secs(300));
}

#[test]
fn a_directory_is_read_with_what_holds_for_its_databases() {
    let text = "dbs:\n  - dir: /d\n    pattern: '*.db'\n    recursive: true\n    watch: yes\n    meta-dir: /m\n    \
                monitor-interval: 5s\n    replica:\n      path: /r\n      sync-interval: 2s\n";
    let (config, problems) = judged(KEYS, text, Pick::Only);
    assert_eq!(problems, [""; 0]);
    let [directory] = &config.directories[..] else { panic!("{config:?}") };
    assert_eq!((directory.path.as_path(), directory.pattern.as_str()), (Path::new("/d"), "*.db"));
    assert_eq!((directory.recursive, directory.watch), (true, true));
    assert_eq!(directory.meta_dir.as_deref(), Some(Path::new("/m")));
    assert_eq!(directory.template.replica, Settings::Directory("/r".into()));
    let settings = &directory.template.settings;
    assert_eq!((settings.monitor_interval.as_secs(), settings.sync_interval.as_secs()), (5, 2));
    for (text, part) in [
        ("dbs:\n  - dir: /d\n    replica: {path: /r}\n", "f:2:5: a `dir` needs a `pattern`"),
        ("dbs:\n  - dir: /d\n    path: /p\n    replica: {path: /r}\n", "a `path` or a `dir`, not both"),
        ("dbs:\n  - dir: /d\n    pattern: x\n    meta-path: /m\n    replica: {path: /r}\n", "`meta-dir`"),
        ("dbs:\n  - path: /d\n    meta-dir: /m\n    replica: {path: /r}\n", "for a `path` it is `meta-path`"),
    ] {
        assert!(refused(text).contains(part), "{text}: {}", refused(text));
    }
}

#[test]
fn what_0_3_says_of_a_replica_has_its_effect_and_is_told() {
    let seconds = Duration::from_secs;
    for (lines, told, effect) in [
        (
            "      retention: 168h\n",
            "f:6:18: retention is taken as this database's `snapshot: retention`, 168h",
            (|s| s.snapshot_retention = Duration::from_secs(168 * 3600)) as fn(&mut EngineSettings),
        ),
        ("      retention: 0\n", "for ever", |s| s.snapshot_retention = FOR_EVER),
        ("      snapshot-interval: 1h\n", "`snapshot: interval`, 1h", |s| {
            s.snapshot_interval = Duration::from_secs(3600);
        }),
        ("      snapshot-interval: 0s\n", "snapshot-interval is off", |_| {}),
        ("      retention-check-interval: 1h\n", "needs no setting", |_| {}),
        ("      name: main\n", "name: `-replica main` selects this replica", |_| {}),
        ("    max-checkpoint-page-count: 10000\n", "taken as truncate-page-n, 10000", |s| {
            s.truncate_pages = 10_000;
        }),
        ("    max-checkpoint-page-count: 0\n", "max-checkpoint-page-count is off", |_| {}),
    ] {
        let config = config(&with("", lines));
        assert_eq!((config.mapped.len(), config.warnings.len()), (1, 0), "{lines}: {:?}", config.mapped);
        assert!(config.mapped[0].contains(told), "{lines}: {:?}", config.mapped);
        let mut wanted = EngineSettings::default();
        effect(&mut wanted);
        assert_eq!(config.databases[0].settings, wanted, "{lines}");
    }
    for (top, db, hours) in [
        ("", "      validation-interval: 6h\n", 6),
        ("validation-interval: 5h", "", 5),
        ("validation-interval: 5h", "      validation-interval: 6h\n", 6),
    ] {
        let config = config(&with(top, db));
        assert_eq!(config.databases[0].validation, Some(seconds(hours * 3600)), "{top}{db}");
        assert_eq!((config.mapped.len(), config.warnings.len()), (1, 0), "{top}{db}");
    }
    let off = config(&with("validation:\n  interval: 0s", "")).databases[0].validation;
    assert_eq!(off, None);
}

#[test]
fn a_whole_file_of_each_version_is_taken() {
    let of_0_3 = "addr: \":9090\"\naccess-key-id: $AWS_ACCESS_KEY_ID\nsecret-access-key: ${AWS_SECRET_ACCESS_KEY}\n\
                  exec: \"app -v\"\nlogging:\n  level: debug\n  type: json\n  stderr: true\ndbs:\n  - path: /a.db\n    \
                  meta-path: /m\n    monitor-interval: 1s\n    checkpoint-interval: 1m\n    busy-timeout: 1s\n    \
                  min-checkpoint-page-count: 1000\n    max-checkpoint-page-count: 10000\n    truncate-page-n: 500000\n    \
                  replicas:\n      - type: s3\n        name: main\n        bucket: b\n        path: p\n        region: r\n        \
                  endpoint: https://h\n        force-path-style: true\n        skip-verify: false\n        sync-interval: 10s\n        \
                  retention: 72h\n        retention-check-interval: 1h\n        snapshot-interval: 4h\n        \
                  validation-interval: 6h\n";
    let config = config(of_0_3);
    let [database] = &config.databases[..] else { panic!("{config:?}") };
    let wanted = EngineSettings {
        sync_interval: Duration::from_secs(10),
        truncate_pages: 500_000,
        snapshot_retention: Duration::from_secs(72 * 3600),
        snapshot_interval: Duration::from_secs(4 * 3600),
        meta_path: Some("/m".into()),
        ..EngineSettings::default()
    };
    assert_eq!(database.settings, wanted);
    assert_eq!(database.validation, Some(Duration::from_secs(6 * 3600)));
    assert_eq!((database.replica_name.as_str(), config.mapped.len()), ("main", 5), "{:?}", config.mapped);

    let of_0_5 = "socket: {enabled: false, path: /s, permissions: 0600}\nlevels:\n  - interval: 30s\n  - interval: 5m\n\
                  snapshot:\n  interval: 30m\n  retention: 168h\nl0-retention: 10m\nl0-retention-check-interval: 30s\n\
                  retention: {enabled: true}\nverify-compaction: true\nshutdown-sync-timeout: 10s\n\
                  shutdown-sync-interval: 1s\ndbs:\n  - path: /a.db\n    max-sync-wal-bytes: 64MiB\n    \
                  restore-if-db-not-exists: true\n    replica:\n      url: s3://b/p\n      region: r\n      sync-interval: 1s\n      \
                  max-sync-ltx-files: 256\n      auto-recover: true\n      sign-payload: true\n      require-content-md5: true\n      \
                  part-size: 0\n      concurrency: 0\n      storage-class: STANDARD\n";
    let config = self::config(of_0_5);
    let [database] = &config.databases[..] else { panic!("{config:?}") };
    let wanted = EngineSettings {
        levels: vec![Duration::from_secs(30), Duration::from_secs(300)],
        snapshot_retention: Duration::from_secs(168 * 3600),
        snapshot_interval: Duration::from_secs(30 * 60),
        l0_retention: Some(Duration::from_secs(600)),
        gather: Duration::from_secs(30),
        shutdown_retry: Duration::from_secs(1),
        ..EngineSettings::default()
    };
    assert_eq!(database.settings, wanted);
    assert!(database.restore_if_missing && database.shutdown_timeout == Duration::from_secs(10));
    let Settings::S3(s3) = &database.replica else { panic!("not s3") };
    assert_eq!((s3.part_size, s3.concurrency), (None, None));
    assert_eq!((config.mapped.len(), config.warnings.len()), (0, 0), "{:?}", config.warnings);
}

#[test]
fn todays_keys_go_before_those_of_0_3() {
    for (top, db, key) in [
        (
            "snapshot:\n  retention: 48h",
            "      retention: 168h\n",
            "retention has no effect: snapshot: retention",
        ),
        ("snapshot:\n  interval: 1h", "      snapshot-interval: 2h\n", "snapshot-interval has no effect"),
        (
            "",
            "    truncate-page-n: 5\n    max-checkpoint-page-count: 6\n",
            "max-checkpoint-page-count has no",
        ),
    ] {
        let config = config(&with(top, db));
        assert_eq!((config.mapped.len(), config.warnings.len()), (0, 1), "{:?}", config.warnings);
        assert!(config.warnings[0].contains(key), "{:?}", config.warnings);
        let settings = &config.databases[0].settings;
        assert!(settings.snapshot_retention.as_secs() != 168 * 3600 && settings.truncate_pages != 6);
    }
}

#[test]
fn snapshot_settings_count_as_in_litestream() {
    let two = |top: &str, a: &str, b: &str| {
        let db = |name: &str, lines: &str| {
            format!("  - path: /{name}.db\n    replica:\n      path: /{name}\n{lines}")
        };
        let config = config(&format!("{top}dbs:\n{}{}", db("a", a), db("b", b)));
        let found = config.databases.iter().map(|db| db.settings.snapshot_retention.as_secs() / 3600);
        found.collect::<Vec<_>>()
    };
    let own = |hours: u32| format!("    snapshot:\n      retention: {hours}h\n");
    // what the file says goes before; what one database says counts for all; where two differ, each its own
    assert_eq!(two("snapshot:\n  retention: 48h\n", &own(72), ""), [48, 48]);
    assert_eq!(two("snapshot:\n  interval: 48h\n", &own(72), ""), [72, 72]);
    assert_eq!(two("", &own(72), ""), [72, 72]);
    assert_eq!(two("", "", &own(72)), [72, 72]);
    assert_eq!(two("", &own(72), &own(72)), [72, 72]);
    assert_eq!(two("", &own(72), &own(96)), [72, 96]);
    assert_eq!(two("", &own(72), "      retention: 12h\n"), [72, 12]);
    assert_eq!(two("", "", ""), [24, 24]);
}

#[test]
fn of_several_replicas_one_must_be_picked() {
    let text =
        "dbs:\n  - path: /a.db\n    replicas:\n      - path: /r\n      - path: /q\n        name: second\n";
    let (_, problems) = judged(KEYS, text, Pick::Only);
    assert!(problems[0].starts_with("f:5:9: ") && problems[0].contains("-first-replica"), "{problems:?}");
    for (pick, location, name) in [
        (Pick::First, "file:///r", "file"),
        (Pick::Named("file"), "file:///r", "file"),
        (Pick::Named("second"), "file:///q", "second"),
    ] {
        let (config, problems) = judged(KEYS, text, pick);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(config.databases[0].replica.location(), location);
        assert_eq!(config.databases[0].replica_name, name);
        let left_out = ["f:5:9: this replica is left out: -first-replica uses the first"];
        assert_eq!(config.warnings, if pick == Pick::First { &left_out[..] } else { &[] });
    }
    let (_, problems) = judged(KEYS, text, Pick::Named("third"));
    assert!(problems[0].contains("none of these replicas is called third"), "{problems:?}");
}

#[test]
fn what_would_be_believed_and_is_not_done_is_an_error() {
    for (text, part) in [
        (format!("{S3}      sse-customer-key: hush\n"), "f:7:25: sse-customer-key: keys of your own"),
        (format!("sse-customer-algorithm: AES256\n{S3}"), "f:1:25: sse-customer-algorithm"),
        (
            format!("{S3}      age:\n        recipients:\n          - age1hush\n"),
            "f:8:9: age: encryption by the client",
        ),
        (format!("mcp-addr: ':1'\n{S3}"), "f:1:11: mcp-addr: there is no MCP server"),
        (format!("{S3}      client-cert: /hush\n"), "f:7:20: client-cert protects nothing here"),
        (format!("host-key: hush\n{S3}"), "f:1:11: host-key protects nothing here"),
        (with("", "      sse-kms-key-id: k\n"), "f:6:23: sse-kms-key-id: a replica of type file"),
        (
            "dbs:\n  - path: /a\n    replica:\n      path: /r\n    replicas:\n      - path: /q\n".into(),
            "not both",
        ),
        ("dbs:\n  - path: /a\n".into(), "f:2:5: a database needs a `replica`"),
        ("dbs:\n  - replica:\n      path: /r\n".into(), "needs a `path`"),
        ("dbs:\n  - path: /a\n    replica:\n      url: s3://b/p\n      path: p\n".into(), "not both"),
        ("dbs:\n  - path: /a\n    replica:\n      url: s3://b/p\n      bucket: b\n".into(), "not both"),
        ("dbs:\n  - path: /a\n    replica:\n      type: s3\n".into(), "needs a `bucket`"),
        ("dbs:\n  - path: /a\n    replica:\n      type: file\n".into(), "needs a `path`"),
        (format!("{S3}      part-size: 1MB\n"), "f:7:18: part-size: S3 takes parts"),
        (with(&format!("levels:{}", "\n  - interval: 1s".repeat(9)), ""), "9 levels"),
        (with("levels:\n  - {}", ""), "a level needs an `interval`"),
        (
            with("", "  - path: /a.db\n    replica:\n      path: /q\n"),
            "f:6:5: /a.db is listed twice: keep one entry for it, with one replica",
        ),
        (with("", "  - path: /b.db\n    replica:\n      path: /r\n"), "the same replica, file:///r"),
        (
            with("", "    meta-path: /m\n  - path: /b.db\n    meta-path: /m\n    replica:\n      path: /q\n"),
            "the same meta-path",
        ),
        (
            format!("{S3}  - path: /b.db\n    replica:\n      url: s3://b/p\n      concurrency: 2\n"),
            "the same replica",
        ),
        ("dbs:\n  - path: /a\n    replica:\n      url: s3://id:hush@b/p\n".into(), "must not hold keys"),
    ] {
        let reason = refused(&text);
        assert!(reason.contains(part) && !reason.contains("hush"), "{text}: {reason}");
    }
}

#[test]
fn replicas_that_are_not_built_in_are_refused_by_type_and_by_url() {
    for name in ["gs", "gcs", "abs", "sftp", "webdav", "webdavs", "nats", "oss", "http", "gopher"] {
        for line in [format!("type: {name}"), format!("url: {name}://hush@host/path")] {
            let text = format!("dbs:\n  - path: /a\n    replica:\n      {line}\n      host: x\n");
            let (_, problems) = judged(KEYS, &text, Pick::Only);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            let column = if line.starts_with('t') { 13 } else { 12 };
            assert!(problems[0].starts_with(&format!("f:4:{column}: ")), "{problems:?}");
            assert!(problems[0].contains(name) && problems[0].to_lowercase().contains("s3"), "{problems:?}");
            assert!(!problems[0].contains("hush"), "{problems:?}");
        }
    }
}

#[test]
fn a_url_where_a_path_or_a_name_belongs_is_never_a_directory() {
    let file = |db: &str| format!("dbs:\n  - {db}\n");
    for (text, shown) in [
        (
            file("{path: p.db, replica: {path: s3://test/x}}"),
            "f:2:34: replica path cannot be a url: write `url: s3://test/x` in its place",
        ),
        (
            file("{path: p.db, replica: {path: 's3:/id:hush@test/x'}}"),
            "write `url: s3://test/x` in its place",
        ),
        (file("{path: p.db, replica: {path: file:///r}}"), "f:2:34: replica path cannot be a url"),
        (file("{path: p.db, replica: {type: file, path: s3://test/x}}"), "replica path cannot be a url"),
        (
            file("{path: p.db, replica: {type: s3, path: s3://test/x}}"),
            "f:2:44: replica path cannot be a url",
        ),
        (
            file("{path: p.db, replica: {type: s3, bucket: b, path: s3://test/x}}"),
            "f:2:55: replica path cannot be a url",
        ),
        (
            file("{path: p.db, replica: {url: 's3:/test/x'}}"),
            "f:2:33: url: two slashes stand behind the scheme: write s3://test/x",
        ),
        (
            file("{path: s3://test/x, replica: {path: r}}"),
            "f:2:12: path: a path belongs here, not a URL; s3://test/x is a replica's `url`",
        ),
        (
            file("{path: file:///a.db, replica: {path: r}}"),
            "f:2:12: path: a path belongs here, not a URL: write /a.db",
        ),
        (file("{dir: 'file:/d', pattern: x, replica: {path: r}}"), "f:2:11: dir: a path belongs here"),
        (file("{path: p.db, meta-path: 's3:/b', replica: {path: r}}"), "meta-path: a path belongs here"),
        (
            file("{dir: d, pattern: x, meta-dir: file:///m, replica: {path: r}}"),
            "f:2:36: meta-dir: a path belongs here, not a URL: write /m",
        ),
        (
            format!(
                "socket: {{path: 'unix:///s', enabled: true}}\n{}",
                file("{path: p, replica: {path: r}}")
            ),
            "f:1:16: socket: path: a path belongs here",
        ),
        (
            file("{path: p.db, replica: {type: s3, bucket: s3://test}}"),
            "f:2:46: bucket: it is the name alone, without scheme and slash: write test",
        ),
        (
            file("{path: p.db, replica: {type: s3, bucket: test/sub, path: x}}"),
            "f:2:46: bucket: it is the name alone, without scheme and slash: write test, and sub into the `path`",
        ),
        (
            format!("bucket: s3://test/sub\n{}", file("{path: p.db, replica: {type: s3}}")),
            "f:1:9: bucket: it is the name alone",
        ),
        (file(r#"{path: "p\0.db", replica: {path: r}}"#), "f:2:12: path: no path holds a NUL character"),
        (file(r#"{path: p.db, replica: {path: "r\0"}}"#), "f:2:34: path: no path holds a NUL character"),
    ] {
        let reason = refused(&text);
        assert!(reason.contains(shown) && !reason.contains("hush"), "{text}: {reason}");
        assert_eq!(reason.lines().count(), 1, "{text}: {reason}");
    }
}

#[test]
fn what_only_resembles_a_url_is_a_path_or_a_bucket() {
    let file = |db: &str| format!("dbs:\n  - {db}\n");
    for (text, path, replica) in [
        (file("{path: 'sqlite:///a.db', replica: {path: './s3:/x'}}"), "/a.db", "file:///work/s3:/x"),
        (file("{path: 'a:b.db', replica: {path: /r}}"), "/work/a:b.db", "file:///r"),
        (
            file("{path: a.db, replica: {type: s3, bucket: 'arn:aws:s3:eu-1:1:accesspoint/a', path: p}}"),
            "/work/a.db",
            "s3://arn:aws:s3:eu-1:1:accesspoint/a/p",
        ),
    ] {
        let database = &config(&text).databases[0];
        assert_eq!((database.path.as_path(), database.replica.location()), (Path::new(path), replica.into()));
    }
}

#[test]
fn what_replicate_could_never_take_is_told_with_its_place() {
    for (text, shown) in [
        (
            "addr: http://localhost:9090\n",
            "f:1:7: addr: `http://localhost:9090` is a URL, not an address: write",
        ),
        ("addr: ::1:9090\n", "f:1:7: addr: `::1:9090` needs brackets"),
        ("dbs: [{dir: /d, pattern: '[', replica: {path: /r}}]", "f:1:26: pattern: `[`: "),
    ] {
        let reason = refused(text);
        assert!(reason.starts_with(shown), "{text}: {reason}");
    }
    let config = config("addr: '[::1]:9090'\n");
    assert_eq!(config.addr.as_deref(), Some("[::1]:9090"));
}

/// Keys of replicas that are not built in: those that protect something, and the others.
const PROTECT: [&str; 15] = [
    "account-key",
    "sas-token",
    "password",
    "key-path",
    "host-key",
    "webdav-password",
    "jwt",
    "seed",
    "creds",
    "nkey",
    "token",
    "tls",
    "root-cas",
    "client-cert",
    "client-key",
];
const ENCRYPT: [&str; 3] = ["sse-customer-algorithm", "sse-customer-key", "sse-customer-key-path"];
const FOREIGN: [&str; 10] = [
    "account-name",
    "host",
    "user",
    "concurrent-writes",
    "webdav-url",
    "webdav-username",
    "username",
    "max-reconnects",
    "reconnect-wait",
    "timeout",
];

#[test]
fn each_key_of_what_is_not_built_in_is_refused_where_it_protects_something_else_named() {
    for key in PROTECT {
        let reason = refused(&with("", &format!("      {key}: hush\n")));
        assert!(reason.contains(&format!(": {key} protects nothing here")), "{key}: {reason}");
        assert!(!reason.contains("hush"), "{reason}");
    }
    for key in ENCRYPT {
        let reason = refused(&with("", &format!("      {key}: hush\n")));
        assert!(
            reason.contains(&format!(": {key}: keys of your own")) && !reason.contains("hush"),
            "{reason}"
        );
    }
    for key in FOREIGN {
        let config = config(&with("", &format!("      {key}: x\n")));
        let [warning] = &config.warnings[..] else { panic!("{key}: {:?}", config.warnings) };
        assert!(
            warning.contains(&format!(": {key} has no effect: it belongs to a type of replica")),
            "{warning}"
        );
    }
}

#[test]
fn an_empty_or_false_value_of_a_key_that_is_not_built_in_asks_for_nothing() {
    for key in PROTECT.iter().chain(&ENCRYPT).chain(&FOREIGN) {
        for value in ["''", "false", "[]", "{}", "~", ""] {
            let config = config(&with("", &format!("      {key}: {value}\n")));
            assert_eq!(config.warnings, [""; 0], "{key}: {value}");
        }
    }
    for value in ["x", "0123", "99999999999999999999999999", "true", "1.5", "[1]", "{a: 1}", "'false'"] {
        let reason = refused(&with("", &format!("      password: {value}\n")));
        assert!(reason.starts_with("f:6:17: password protects nothing here"), "{value}: {reason}");
    }
}

#[test]
fn every_setting_says_where_it_came_from() {
    let text = "region: fra1\ndbs:\n  - path: ${DB:-/a.db}\n    max-checkpoint-page-count: 7\n    replica:\n      \
                url: s3://b/p\n      retention: 1h\n      secret-access-key: $SECRET\n      access-key-id: id\n  \
                - path: /b.db\n    snapshot:\n      interval: 6h\n    replica:\n      url: s3://b/q\n      endpoint: s3.example.com\n";
    let env = &[KEYS, &[("SECRET", "hush"), ("AWS_REGION", "r")]].concat();
    let (config, problems) = judged(env, text, Pick::Only);
    assert_eq!(problems, Vec::<String>::new());
    let shown = |database: usize, name: &str| {
        let settings = settings_of(&config.databases[database], &config);
        let setting = settings.iter().find(|setting| setting.name == name).expect(name);
        (setting.value.clone(), setting.from.clone())
    };
    for (database, name, value, from) in [
        (0, "path", "/a.db", "line 3 ($DB)"),
        (0, "region", "fra1", "line 1"),
        (0, "truncate-page-n", "7", "mapped from max-checkpoint-page-count, line 4"),
        (0, "snapshot: retention", "1h", "mapped from retention, line 7"),
        (0, "snapshot: interval", "6h", "line 12, of another database"),
        (0, "secret-access-key", "(hidden)", "line 8 ($SECRET)"),
        (0, "access-key-id", "(hidden)", "line 9"),
        (0, "sync-interval", "1s", "default"),
        (0, "meta-path", "/.a.db-litekeep", "default"),
        (1, "snapshot: interval", "6h", "line 12"),
        (1, "access-key-id", "(hidden)", "environment: AWS_ACCESS_KEY_ID"),
        (1, "secret-access-key", "(hidden)", "environment: AWS_SECRET_ACCESS_KEY"),
        (1, "endpoint", "s3.example.com", "line 15"),
        (1, "name", "s3", "default"),
    ] {
        assert_eq!(shown(database, name), (value.to_owned(), from.to_owned()), "{name}");
    }
    let (config, _) =
        judged(&[("LOG_LEVEL", "warn")], "logging:\n  level: debug\n  type: json\naddr: :1\n", Pick::Only);
    let top = global_settings(&config);
    let shown: Vec<_> = top
        .iter()
        .filter(|setting| setting.from != "default")
        .map(|setting| (setting.name, setting.value.as_str(), setting.from.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("addr", ":1", "line 4"),
            ("logging: level", "warn", "environment: LOG_LEVEL"),
            ("logging: type", "json", "line 3")
        ]
    );
    let (config, _) = judged(&[("LOG_LEVEL", "loud")], "addr: :1\n", Pick::Only);
    let level = global_settings(&config).into_iter().find(|setting| setting.name == "logging: level");
    assert_eq!(
        level.map(|setting| setting.value).as_deref(),
        Some("info"),
        "what is taken, not what is said"
    );
}

#[test]
fn sizes_and_the_pause_at_the_end_are_shown() {
    for (top, db, size, pause) in [
        ("", "", "67108864", "500ms"),
        ("shutdown-sync-interval: 3s", "    max-sync-wal-bytes: 2MiB\n", "2097152", "3s"),
        ("", "    max-sync-wal-bytes: 0\n", "unlimited", "500ms"),
    ] {
        let config = config(&with(top, db));
        let rows = settings_of(&config.databases[0], &config);
        let of = |name: &str| rows.iter().find(|row| row.name == name).expect(name).value.clone();
        assert_eq!((of("max-sync-wal-bytes"), of("shutdown-sync-interval")), (size.into(), pause.into()));
    }
}

#[test]
fn every_key_that_is_known_is_in_the_table_of_differences() {
    let table = include_str!("../../../../COMPAT.md");
    for (section, keys) in unknown::sections() {
        for key in keys {
            let there = table.contains(&format!("`{key}`")) || table.contains(&format!("`{section}: {key}`"));
            assert!(there, "COMPAT.md lacks {key} of {section}");
        }
    }
}

#[test]
fn no_damage_to_a_file_makes_more_of_it_than_lines_of_problems() {
    let whole = with(
        "addr: ${A:-':1'}\nsocket: {enabled: $B, permissions: 0600}\nsnapshot: &s\n  interval: 1h\nlevels:\n  - interval: 1s",
        "    snapshot:\n      <<: *s\n    truncate-page-n: 5\n  - dir: ~/d\n    pattern: '*'\n    replicas:\n      - url: s3://b/\u{e9}\n",
    );
    let mut random = 0x9e37_79b9_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % 1_000_003).expect("small") % below
    };
    let junk: Vec<char> = "$:-{}[]'\"\t\n &*<#0\u{e9}".chars().collect();
    for round in 0..3000 {
        let mut text: Vec<char> = whole.chars().collect();
        for _ in 0..=next(4) {
            let at = next(text.len().max(1)).min(text.len());
            match next(3) {
                0 if !text.is_empty() => drop(text.remove(at)),
                1 => text.truncate(at),
                _ => text.insert(at, junk[next(junk.len())]),
            }
        }
        let text: String = text.into_iter().collect();
        let (_, problems) = judged(KEYS, &text, Pick::First);
        for problem in problems {
            assert!(problem.starts_with("f:") && !problem.contains('\n'), "{round}: {problem}\n{text}");
        }
    }
}

#[test]
fn a_configuration_shows_no_secret() {
    let config = config(&format!("{S3}      access-key-id: a\n      secret-access-key: hush\n"));
    assert!(!format!("{config:?}").contains("hush"));
}
