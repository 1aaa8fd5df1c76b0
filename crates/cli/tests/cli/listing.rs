//! `litekeep ltx`.

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
    assert_eq!(dir.litekeep(["wal", "-json", "-level", "8", &url]).exits(0).out(), "[]\n");
}

#[test]
fn r26b_a_replica_that_cannot_be_reached_is_never_an_empty_list() {
    let dir = Dir::new();
    dir.write("file", "");
    let url = format!("file://{}/below", dir.path("file").display());
    dir.litekeep(["ltx", "-json", &url]).exits(13).err_has("Error: can't list").silent_out();
}
