//! `litekeep usage`: what it adds up, and what it says of a replica that is young, empty or out of reach.

use crate::restore::url;
use crate::util::Dir;
use serde_json::Value;
use std::fs;

fn report(dir: &Dir, args: &[&str]) -> Value {
    let seen = dir.litekeep(["usage", "-json"].iter().chain(args)).exits(0);
    serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all()))
}

/// Sizes of a fixture's files below a folder.
fn sizes(dir: &Dir, folder: &str) -> Vec<u64> {
    let files = dir.files(folder);
    files.iter().map(|name| fs::metadata(dir.path(folder).join(name)).expect("there").len()).collect()
}

/// Of the fixture `v5-replicate`: the same files, an hour between one slot and the next, whatever their content says. A
/// directory's times are mtimes.
pub(crate) fn an_hour_apart(dir: &Dir) {
    let replica = dir.path("v5-replicate/replica");
    let base = fs::metadata(replica.join("ltx/0/0000000000000001-0000000000000001.ltx")).expect("there");
    let base = base.modified().expect("a time") - std::time::Duration::from_secs(40 * 3600);
    for name in dir.files("v5-replicate/replica/ltx") {
        let end =
            name.rsplit(['-', '.']).nth(1).and_then(|hex| u64::from_str_radix(hex, 16).ok()).expect("a TXID");
        let file = fs::File::options().write(true).open(replica.join("ltx").join(&name)).expect("opened");
        file.set_modified(base + std::time::Duration::from_secs(end * 3600)).expect("set");
    }
}

#[test]
fn objects_and_bytes_of_each_level_are_those_of_the_listing() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-replicate");
    // A directory's times are those of its files: two days and two hours old.
    dir.write("now", "");
    let now = fs::metadata(dir.path("now")).and_then(|now| now.modified()).expect("a time");
    for name in dir.files("v5-replicate/replica/ltx") {
        let file = fs::File::options().write(true).open(replica.join("ltx").join(&name)).expect("opened");
        file.set_modified(now - std::time::Duration::from_secs(50 * 3600)).expect("set");
    }
    let replica = url(&replica);
    let report = report(&dir, &[&replica]);
    let all = sizes(&dir, "v5-replicate/replica");
    assert_eq!(report["objects"], all.len());
    assert_eq!(report["bytes"], all.iter().sum::<u64>());
    for level in report["levels"].as_array().expect("levels") {
        let sizes = sizes(&dir, &format!("v5-replicate/replica/ltx/{}", level["level"]));
        assert_eq!(level["objects"], sizes.len(), "{level}");
        assert_eq!(level["bytes"], sizes.iter().sum::<u64>(), "{level}");
        let time = |name: &str| level[name].as_str().expect("a time").to_owned();
        assert!(time("oldest") <= time("newest") && time("oldest").starts_with("20"), "{level}");
    }
    // The replica is days old: retention by the default policy would take what is compacted.
    assert!(report["retention_frees_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report}");
    // It was made within a minute, so it tells no rate; the prices hold all the same.
    assert!(report["requests_per_day"].is_null() && report["slots_per_day"].is_null(), "{report}");
    let costs = report["costs"]["per_month"].as_array().expect("costs");
    let spaces = costs.iter().find(|row| row["provider"] == "DigitalOcean Spaces").expect("there");
    assert_eq!(spaces["total"], 5.0, "{report}");
    assert!(costs.iter().all(|row| row["source"].is_string() && row["prices_as_of"].is_string()));
    dir.litekeep(["usage", &replica])
        .exits(0)
        .out_has("retention frees")
        .out_has("USD a month")
        .out_has("2d2h");
}

#[test]
fn rates_come_from_the_replicas_own_times() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-replicate");
    an_hour_apart(&dir);
    let report = report(&dir, &[&url(&replica)]);
    assert_eq!(report["slots_per_day"], 24, "{report}");
    assert_eq!(report["requests_per_day"]["slot_puts"], 24, "{report}");
    // An hour apart, each slot needs a look and a proof: two more, and a listing beside retention's.
    assert_eq!(report["requests_per_day"]["looks"], 24 * 3, "{report}");
    assert_eq!(report["requests_per_day"]["listings"], 24 * 2, "{report}");
    let slots = &report["levels"][0];
    let later: u64 = sizes(&dir, "v5-replicate/replica/ltx/0").iter().skip(1).sum();
    // 18 files in 18 hours.
    assert_eq!(slots["objects_per_day"], 24, "{slots}");
    assert_eq!(slots["bytes_per_day"], (later * 24 + 9) / 18, "{slots}");
}

#[test]
fn a_configuration_decides_what_retention_frees() {
    let dir = Dir::new();
    dir.fixture("v5-replicate");
    let file =
        |more: &str| format!("{more}dbs:\n  - path: a.db\n    replica:\n      path: v5-replicate/replica\n");
    dir.write("l.yml", file("retention:\n  enabled: false\n"));
    let kept = report(&dir, &["-config", "l.yml"]);
    assert_eq!((&kept["retention"], &kept["retention_frees_bytes"]), (&Value::from(false), &Value::from(0)));
    dir.litekeep(["usage", "-config", "l.yml"]).exits(0).out_has("retention is switched off");
    dir.write("l.yml", file(""));
    assert!(report(&dir, &["a.db", "-config", "l.yml"])["retention_frees_bytes"].as_u64() > Some(0));
}

#[test]
fn nothing_is_told_as_nothing_and_a_store_out_of_reach_is_an_error() {
    let dir = Dir::new();
    let empty = report(&dir, &[&url(&dir.path("r"))]);
    assert_eq!((&empty["objects"], &empty["bytes"]), (&Value::from(0), &Value::from(0)));
    dir.litekeep(["usage", &url(&dir.path("r"))])
        .exits(0)
        .out_has("nothing is there: is this the right path?");
    let v3 = dir.fixture("v3-basic");
    let (told, all) = (report(&dir, &[&url(&v3)]), sizes(&dir, "v3-basic/replica"));
    assert_eq!((&told["objects"], &told["v3_snapshots"]), (&all.len().into(), &5.into()), "{told}");
    assert_eq!(told["v3_segments"], all.len() - 5, "{told}");
    let bytes: Value = all.iter().sum::<u64>().into();
    assert_eq!((&told["bytes"], &told["v3_bytes"]), (&bytes, &bytes), "{told}");
    dir.litekeep(["usage", &url(&v3)])
        .exits(0)
        .out_has("of that v0.3: 5 snapshots and 28 WAL segments, 78.8 kB");
    dir.write("file", "x");
    dir.litekeep(["usage", "-json", &url(&dir.path("file/below"))]).exits(13).silent_out();
}
