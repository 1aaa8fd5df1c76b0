//! `litekeep ltx`, and `generations`, `snapshots` and `wal` of a v0.3 backup.

use crate::util::Dir;
use serde_json::Value;

#[test]
fn the_files_of_a_level_are_listed() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-replicate");
    let url = format!("file://{}", replica.display());
    let seen = dir.litekeep(["ltx", &url]).exits(0);
    assert_eq!(
        seen.out().split_whitespace().take(5).collect::<Vec<_>>(),
        ["level", "min_txid", "max_txid", "size", "created"]
    );
    // the columns are 0.5.17's
    let first = "level  min_txid          max_txid          size  created\n\
                 0      0000000000000001  0000000000000001  613   2026-11-23T08:47:29Z\n";
    assert!(seen.out().starts_with(first), "{}", seen.all());
    let seen = dir.litekeep(["ltx", "-json", "-level", "all", &url]).exits(0);
    let rows: Vec<Value> = serde_json::from_str(&seen.out()).expect("JSON");
    assert_eq!(rows.len(), dir.files("v5-replicate/replica").len(), "{}", seen.all());
    for row in rows {
        let name = format!(
            "ltx/{}/{}-{}.ltx",
            row["level"],
            row["min_txid"].as_str().expect("text"),
            row["max_txid"].as_str().expect("text")
        );
        let size =
            std::fs::metadata(replica.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}")).len();
        assert_eq!(row["size"], size, "{name}");
        assert!(row["timestamp"].as_str().is_some_and(|time| time.starts_with("2026-")), "{row}");
    }
}

#[test]
fn a_level_without_files_is_an_empty_list() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-page1024");
    let url = format!("file://{}", replica.display());
    let seen = dir.litekeep(["wal", "-json", "-level", "8", &url]).exits(0);
    assert_eq!(seen.out(), "[]\n");
    seen.err_has("Warning: 'wal' command is deprecated, please use 'ltx' instead");
}

#[test]
fn r26b_a_replica_that_cannot_be_reached_is_never_an_empty_list() {
    let dir = Dir::new();
    dir.write("file", "");
    let url = format!("file://{}/below", dir.path("file").display());
    dir.litekeep(["ltx", "-json", &url]).exits(13).err_has("Error: can't list").silent_out();
}

/// The fixture of 0.3.13 as a configured database, whose file is a minute and a second newer than the backup's end.
fn v3() -> Dir {
    let dir = Dir::new();
    dir.fixture("v3-basic");
    let database = std::fs::File::create(dir.path("a.db")).expect("made");
    let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_424_160 + 61);
    database.set_modified(end).expect("set");
    dir.write(
        "l.yml",
        "dbs:\n  - path: a.db\n    replicas:\n      - path: v3-basic/replica\n        name: main\n      - path: none\n",
    );
    dir
}

#[test]
fn a_v0_3_backup_is_listed_in_the_columns_of_0_3() {
    let dir = v3();
    let url = format!("file://{}", dir.path("v3-basic/replica").display());
    assert_eq!(
        dir.litekeep(["snapshots", &url]).exits(0).out(),
        "replica  generation        index  size  created\n\
         file     8492e2dddad4a752  0      5776  2026-11-23T08:55:56Z\n\
         file     8492e2dddad4a752  5      4890  2026-11-23T08:56:00Z\n\
         file     f1fb474efcdf47c6  0      505   2026-11-23T08:55:47Z\n\
         file     f1fb474efcdf47c6  2      3098  2026-11-23T08:55:51Z\n\
         file     f1fb474efcdf47c6  4      5776  2026-11-23T08:55:55Z\n"
    );
    let of_main = ["-config", "l.yml", "-replica", "main", "a.db"];
    assert_eq!(
        dir.litekeep(["generations"].iter().chain(&of_main)).exits(0).out(),
        "name  generation        lag   start                 end\n\
         main  8492e2dddad4a752  1m1s  2026-11-23T08:55:56Z  2026-11-23T08:56:00Z\n\
         main  f1fb474efcdf47c6  1m6s  2026-11-23T08:55:47Z  2026-11-23T08:55:55Z\n"
    );
    let wal = dir.litekeep(["wal", "-generation", "8492e2dddad4a752", &url]).exits(0);
    let first = "replica  generation        index  offset  size  created\n\
                 file     8492e2dddad4a752  0      0       119   2026-11-23T08:55:56Z\n\
                 file     8492e2dddad4a752  0      4152    6195  2026-11-23T08:55:58Z\n";
    assert!(wal.out().starts_with(first), "{}", wal.all());
    let segments = |args: &[&str]| -> Vec<Value> {
        serde_json::from_str(&dir.litekeep(["wal", "-json"].iter().chain(args)).exits(0).out()).expect("JSON")
    };
    let files = dir.files("v3-basic/replica");
    let there =
        |part: &str| files.iter().filter(|file| file.contains(part) && file.contains("/wal/")).count();
    assert_eq!(segments(&[&url]).len(), there(""));
    assert_eq!(segments(&["-generation", "8492e2dddad4a752", &url]).len(), there("8492e2dddad4a752"));
    assert_eq!(segments(&["-generation", "0000000000000000", &url]), Vec::<Value>::new());
    assert_eq!(segments(&[&url])[1]["offset"], 4152);
}

#[test]
fn a_replica_without_a_v0_3_backup_has_an_empty_list() {
    let dir = Dir::new();
    let url = format!("file://{}", dir.fixture("v5-replicate").display());
    for verb in ["generations", "snapshots"] {
        assert_eq!(dir.litekeep([verb, "-json", &url]).exits(0).out(), "[]\n");
    }
    dir.write("file", "");
    let url = format!("file://{}/below", dir.path("file").display());
    for verb in ["generations", "snapshots", "wal"] {
        dir.litekeep([verb, &url]).exits(13).err_has("Error: can't list").silent_out();
    }
}
