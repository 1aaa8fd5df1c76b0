//! The configuration file, from text to meaning.

use super::*;
use crate::world::tests::world;

const S3: &str = "dbs:\n  - path: /a.db\n    replica:\n      type: s3\n      bucket: b\n      path: p\n";
const KEYS: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hush")];

fn config(text: &str) -> Config {
    parse(&world(KEYS), text, true).unwrap_or_else(|reason| panic!("{reason}:\n{text}"))
}

fn refused(text: &str) -> String {
    parse(&world(KEYS), text, true).map(|config| format!("{config:?}")).expect_err(text)
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
    assert!(!database.restore_if_missing && database.shutdown_timeout == Duration::from_secs(30));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn every_setting_arrives() {
    let config = config(&with(
        "levels:\n  - interval: 10s\n  - interval: 1h\nsnapshot:\n  interval: 12h\n  retention: 720h\n\
         l0-retention: 10m\nretention:\n  enabled: false\nshutdown-sync-timeout: 5s\nexec: app -x\n\
         logging:\n  level: debug\n  type: json\n  stderr: true\n",
        "      sync-interval: 250ms\n      page-encoding: frame\n    meta-path: ~/meta\n    monitor-interval: 2s\n    checkpoint-interval: 5m\n    \
         busy-timeout: 3s\n    min-checkpoint-page-count: 7\n    truncate-page-n: 9\n    \
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
            levels: vec![seconds(10), seconds(3600)],
            snapshot_interval: seconds(12 * 3600),
            snapshot_retention: seconds(720 * 3600),
            l0_retention: Some(seconds(600)),
            retention: false,
            encoding: litekeep_formats::ltx::PageEncoding::Frame,
            meta_path: Some("/work/~/meta".into()),
            ..EngineSettings::default()
        }
    );
    assert_eq!(config.databases[0].shutdown_timeout, seconds(5));
    assert!(config.databases[0].restore_if_missing);
    assert_eq!(config.exec.as_deref(), Some("app -x"));
    assert_eq!(config.logging, Logging { level: Some("debug".into()), json: true, stderr: true });
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn r39_zero_switches_off_or_is_refused_and_never_fires_all_the_time() {
    let tuning = |top: &str, db: &str| config(&with(top, db)).databases[0].settings.clone();
    assert_eq!(tuning("l0-retention: 0", "").l0_retention, None);
    assert_eq!(tuning("l0-retention: 0s", "").l0_retention, None);
    assert_eq!(tuning("", "    checkpoint-interval: 0s\n").checkpoint_interval, None);
    assert_eq!(tuning("", "    truncate-page-n: 0\n").truncate_pages, 121_359);
    let config = config(&with("shutdown-sync-timeout: 0s", ""));
    assert_eq!(config.databases[0].shutdown_timeout, Duration::ZERO);
    for (top, db, key) in [
        ("snapshot:\n  interval: 0s", "", "snapshot: interval"),
        ("snapshot:\n  retention: 0", "", "snapshot: retention"),
        ("levels:\n  - interval: 0s", "", "levels: interval"),
        ("l0-retention-check-interval: 0s", "", "l0-retention-check-interval"),
        ("shutdown-sync-interval: 0s", "", "shutdown-sync-interval"),
        ("", "      sync-interval: 0s\n", "sync-interval"),
        ("", "    monitor-interval: 0s\n", "monitor-interval"),
        ("", "    min-checkpoint-page-count: 0\n", "min-checkpoint-page-count"),
        ("", "    min-checkpoint-page-count: -1\n", "min-checkpoint-page-count"),
        ("snapshot:\n  interval: -1h", "", "negative"),
        ("l0-retention: -1s", "", "negative"),
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
        ("      type: s3\n      bucket: b\n      path: p/q/\n", "s3://b/p/q"),
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
        "access-key-id: top\nsecret-access-key: hush\nregion: eu\nsync-interval: 5s\ndbs:\n  - path: /a.db\n    \
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
            )
        })
        .collect();
    assert_eq!(found, [("top", "eu", 5), ("own", "us", 1)]);
}

#[test]
fn the_environment_fills_in_before_parsing() {
    let env = &[KEYS, &[("BUCKET", "b"), ("DB", "/data/a.db")]].concat();
    let text =
        "dbs:\n  - path: ${DB}\n    replica:\n      type: s3\n      bucket: $BUCKET\n      path: x-$PID\n";
    let config = parse(&world(env), text, true).expect("a configuration");
    assert_eq!(config.databases[0].path, Path::new("/data/a.db"));
    assert_eq!(config.databases[0].replica.location(), "s3://b/x-42");
    let config = parse(&world(env), text, false).expect("a configuration");
    assert_eq!(config.databases[0].replica.location(), "s3://$BUCKET/x-$PID");
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let config = config(&with("# $IGNORED\nregion: $MISSING", ""));
    assert_eq!(config.warnings, ["$MISSING in line 2 is not set and was replaced by nothing"]);
    assert!(
        refused("dbs:\n  - path: /a.db\n    replica:\n      type: s3\n      bucket: $MISSING\n")
            .contains("bucket")
    );
}

#[test]
fn r26b_half_a_pair_of_keys_is_refused() {
    let reason = parse(&world(&[("AWS_ACCESS_KEY_ID", "id")]), S3, true).expect_err("half a pair");
    assert!(reason.contains("AWS_SECRET_ACCESS_KEY"), "{reason}");
}

#[test]
fn keys_without_effect_are_named_with_their_line() {
    for (top, db, parts) in [
        ("adr: x", "", &["adr in line 1 is not known", "did you mean addr?"] as &[&str]),
        ("addr: ':9090'", "", &["addr in line 1", "no effect"]),
        ("mcp-addr: ':1'", "", &["mcp-addr"]),
        ("heartbeat-url: http://x", "", &["heartbeat-url"]),
        ("socket:\n  enabled: true", "", &["socket in line 2"]),
        ("logging:\n  source: true", "", &["logging: source"]),
        ("validation:\n  interval: 1h", "", &["validation: interval"]),
        ("l0-retention-check-interval: 1m", "", &["l0-retention-check-interval"]),
        ("shutdown-sync-interval: 1s", "", &["shutdown-sync-interval"]),
        ("snapshot:\n  intervall: 1h", "", &["intervall in line 2", "did you mean interval?"]),
        ("", "      retention: 168h\n", &["retention in line 6", "Litestream 0.3"]),
        ("", "      snapshot-interval: 1h\n", &["snapshot-interval in line 6", "Litestream 0.3"]),
        ("", "      validation-interval: 1h\n", &["validation-interval"]),
        ("", "      bucket: b\n", &["bucket", "type is file"]),
        ("", "      sftp-user: x\n", &["sftp-user in line 6 is not known in a replica"]),
        ("", "      host: x\n", &["host in line 6"]),
        ("", "    max-checkpoint-page-count: 10000\n", &["max-checkpoint-page-count"]),
        ("", "    max-sync-wal-bytes: 0\n", &["max-sync-wal-bytes in line 6", "64 MiB"]),
        ("", "    wal-size: 1\n", &["wal-size in line 6 is not known in a database"]),
        (
            "snapshot:\n  interval: 1h",
            "    snapshot:\n      interval: 2h\n",
            &["snapshot in line", "whole file"],
        ),
    ] {
        let config = config(&with(top, db));
        assert_eq!(config.warnings.len(), 1, "{top}{db}: {:?}", config.warnings);
        for part in parts {
            assert!(config.warnings[0].contains(part), "{part}: {}", config.warnings[0]);
        }
    }
}

#[test]
fn keys_that_change_nothing_are_taken_in_silence() {
    for (top, db) in [
        ("verify-compaction: true", ""),
        ("", "    max-sync-wal-bytes: 64MiB\n    busy-timeout: 5s\n"),
        ("socket:\n  enabled: false\n  path: /s\n  permissions: 0600", ""),
        ("logging:\n  level: info\n  type: text\n  stderr: false\n  source: false", ""),
        ("require-content-md5: false", ""),
        ("age:\n  identities: []\n  recipients:", ""),
        ("", "      auto-recover: true\n      max-sync-ltx-files: 256\n      name: x\n"),
    ] {
        assert_eq!(config(&with(top, db)).warnings, Vec::<String>::new(), "{top}{db}");
    }
}

#[test]
fn a_databases_own_snapshot_settings_count_where_the_file_has_none() {
    let config = config(&with("", "    snapshot:\n      interval: 1h\n      retention: 48h\n"));
    let tuning = &config.databases[0].settings;
    assert_eq!(tuning.snapshot_interval, Duration::from_secs(3600));
    assert_eq!(tuning.snapshot_retention, Duration::from_secs(48 * 3600));
}

#[test]
fn what_would_be_believed_and_is_not_done_is_an_error() {
    for (text, part) in [
        (format!("{S3}      sse-customer-key: hush\n"), "sse-customer"),
        (format!("sse-customer-algorithm: AES256\n{S3}"), "sse-customer"),
        (format!("{S3}      age:\n        recipients:\n          - age1hush\n"), "age encryption (line"),
        ("dbs:\n  - dir: /d\n    pattern: '*.db'\n    replica:\n      path: /r\n".into(), "`dir`"),
        (
            "dbs:\n  - path: /a\n    replicas:\n      - path: /r\n      - path: /q\n".into(),
            "several replicas",
        ),
        (
            "dbs:\n  - path: /a\n    replica:\n      path: /r\n    replicas:\n      - path: /q\n".into(),
            "not both",
        ),
        ("dbs:\n  - path: /a\n".into(), "needs a `replica`"),
        ("dbs:\n  - replica:\n      path: /r\n".into(), "needs a `path`"),
        ("dbs:\n  - path: /a\n    replica:\n      type: sftp\n      path: /r\n".into(), "type sftp"),
        ("dbs:\n  - path: /a\n    replica:\n      type: ftp\n".into(), "`ftp`"),
        ("dbs:\n  - path: /a\n    replica:\n      url: gs://b/p\n".into(), "gs://"),
        ("dbs:\n  - path: /a\n    replica:\n      url: s3://b/p\n      path: p\n".into(), "not both"),
        ("dbs:\n  - path: /a\n    replica:\n      url: s3://b/p\n      bucket: b\n".into(), "not both"),
        ("dbs:\n  - path: /a\n    replica:\n      type: s3\n".into(), "needs a `bucket`"),
        ("dbs:\n  - path: /a\n    replica:\n      type: file\n".into(), "needs a `path`"),
        (format!("{S3}      part-size: 1MB\n"), "part-size in line 7"),
        (with(&format!("levels:{}", "\n  - interval: 1s".repeat(9)), ""), "9 levels"),
        (with("levels:\n  - {}", ""), "without interval"),
        (with("", "  - path: /a.db\n    replica:\n      path: /q\n"), "listed twice"),
        (with("", "  - path: /b.db\n    replica:\n      path: /r\n"), "same replica"),
        ("dbs:\n  - path: /a\n    replica:\n      url: s3://id:hush@b/p\n".into(), "must not hold keys"),
    ] {
        let reason = refused(&text);
        assert!(reason.contains(part) && !reason.contains("hush"), "{text}: {reason}");
    }
}

#[test]
fn a_configuration_shows_no_secret() {
    let config = config(&format!("{S3}      access-key-id: a\n      secret-access-key: hush\n"));
    assert!(!format!("{config:?}").contains("hush"));
}
