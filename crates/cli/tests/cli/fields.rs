//! The names of the fields of every JSON output: Litestream's, as its document of the output of its commands has them, and
//! ours beyond these.

use crate::daemon::{ask, daemon, end, insert};
use crate::restore::{make_database, url};
use crate::usage::an_hour_apart;
use crate::util::{Dir, Running};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// A command with its JSON, Litestream's fields and ours.
struct Output {
    line: &'static str,
    litestream: &'static [&'static str],
    ours: &'static [&'static str],
}

const fn output(
    line: &'static str,
    litestream: &'static [&'static str],
    ours: &'static [&'static str],
) -> Output {
    Output { line, litestream, ours }
}

/// What needs no running litekeep: `a.db` is replicated to `r`, a v0.3 backup lies in `v3`.
const OUTPUTS: &[Output] = &[
    output("databases", &["path", "replica"], &[]),
    output(
        "status",
        &["database", "status", "local_txid", "wal_size"],
        &[
            "wal_bytes",
            "replica_txid",
            "confirmed_at",
            "replica_behind",
            "replica_problem",
            "create_only",
            "verified_txid",
            "verified_at",
            "verification_error",
        ],
    ),
    output("ltx a.db", &["level", "min_txid", "max_txid", "size", "timestamp"], &[]),
    output("wal a.db", &["level", "min_txid", "max_txid", "size", "timestamp"], &[]),
    output(
        "restore -o out.db a.db",
        &["db_path", "replica", "txid", "duration_ms", "integrity_check"],
        &["outcome", "location", "timestamp", "bytes", "database_bytes", "sealed"],
    ),
    output(
        "restore -dry-run -o other.db a.db",
        &[
            "source",
            "target_path",
            "replica",
            "min_txid",
            "max_txid",
            "files",
            "files.level",
            "files.name",
            "files.min_txid",
            "files.max_txid",
            "files.size",
            "files.timestamp",
        ],
        &["format", "location"],
    ),
    // Litestream 0.3 prints tables alone, 0.5 has no such commands; `reset` has no JSON there.
    output("generations v3", &[], &["name", "generation", "lag", "start", "end"]),
    output("snapshots v3", &[], &["replica", "generation", "index", "size", "created"]),
    output("wal v3", &[], &["replica", "generation", "index", "offset", "size", "created"]),
    output("reset -dry-run a.db", &[], &["database", "directory", "dry_run", "removed"]),
];

/// What is asked of a running litekeep, in this order; `b.db` comes and goes.
const OF_A_DAEMON: &[Output] = &[
    output("info", &["version", "pid", "uptime_seconds", "started_at", "database_count"], &[]),
    output("sync a.db", &["db_path", "txid", "duration_ms"], &[]),
    output("sync -wait a.db", &["db_path", "txid", "replica_txid", "duration_ms"], &[]),
    output("list", &["databases", "databases.path", "databases.status", "databases.last_sync_at"], &[]),
    output("stop a.db", &["status", "db_path", "state", "txid", "socket"], &[]),
    output("start a.db", &["status", "db_path", "state", "txid", "socket"], &[]),
    output("register -replica REPLICA b.db", &["status", "db_path", "replica", "socket"], &[]),
    output("unregister b.db", &["status", "db_path", "final_txid", "socket"], &[]),
];

/// Only here: docs/inspect.md tells what they mean. `p` is a replica that is old enough to tell rates; newer v0.3 files lie
/// beside the chain in `r`, and a directory is in the configuration, so that no list is empty.
const OF_OURS: &[Output] = &[
    output(
        "config check",
        &[],
        &[
            "config",
            "ok",
            "problems",
            "warnings",
            "mapped",
            "settings",
            "settings.name",
            "settings.value",
            "settings.from",
            "databases",
            "databases.path",
            "databases.settings",
            "databases.settings.name",
            "databases.settings.value",
            "databases.settings.from",
            "directories",
            "directories.path",
            "directories.settings",
            "directories.settings.name",
            "directories.settings.value",
            "directories.settings.from",
        ],
    ),
    output(
        "doctor a.db",
        &[],
        &[
            "replica",
            "safe",
            "checks",
            "checks.name",
            "checks.answer",
            "checks.detail",
            "guarantees",
            "guarantees.standing",
            "guarantees.text",
            "clock_ahead_seconds",
            "requests",
            "left_behind",
            "interrupted",
        ],
    ),
    output(
        "verify -restore -scratch . a.db",
        &[],
        &[
            "replica",
            "outcome",
            "newest_txid",
            "restorable_txid",
            "timestamp",
            "database_checksum",
            "epoch",
            "levels",
            "levels.level",
            "levels.files",
            "levels.bytes",
            "levels.min_txid",
            "levels.max_txid",
            "levels.sound",
            "levels.sealed",
            "levels.bad",
            "v3",
            "v3.snapshots",
            "v3.bytes",
            "v3.newest",
            "issues",
            "issues.kind",
            "issues.damage",
            "issues.object",
            "issues.what",
            "issues.advice",
            "read",
            "read.objects",
            "read.bytes",
            "read.requests",
            "read.elapsed_ms",
            "restore",
            "restore.source",
            "restore.txid",
            "restore.database_bytes",
            "restore.pages",
            "restore.integrity_check",
            "restore.database_checksum",
            "restore.sealed",
            "restore.not_checked",
            "restore.local",
            "restore.detail",
            "restore.elapsed_ms",
            "restore_error",
        ],
    ),
    output(
        "usage p",
        &[],
        &[
            "replica",
            "objects",
            "bytes",
            "levels",
            "levels.level",
            "levels.objects",
            "levels.bytes",
            "levels.oldest",
            "levels.newest",
            "levels.bytes_per_day",
            "levels.objects_per_day",
            "levels.retention_frees_objects",
            "levels.retention_frees_bytes",
            "v3_snapshots",
            "v3_segments",
            "v3_bytes",
            "slots_per_day",
            "database_bytes_per_day",
            "retention",
            "retention_frees_bytes",
            "requests_per_day",
            "requests_per_day.slot_puts",
            "requests_per_day.level_puts",
            "requests_per_day.looks",
            "requests_per_day.reads",
            "requests_per_day.listings",
            "requests_per_day.deletes",
            "costs",
            "costs.currency",
            "costs.prices_looked_up",
            "costs.note",
            "costs.per_month",
            "costs.per_month.provider",
            "costs.per_month.storage",
            "costs.per_month.requests",
            "costs.per_month.total",
            "costs.per_month.at_least",
            "costs.per_month.prices_as_of",
            "costs.per_month.source",
            "costs.per_month.seen_in",
            "asked",
            "asked.requests",
        ],
    ),
];

/// The names of all fields, those of objects within behind the name of what they are in.
fn names(value: &Value, within: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| names(value, within, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = if within.is_empty() { name.clone() } else { format!("{within}.{name}") };
                names(value, &name, found);
                found.insert(name);
            }
        }
        _ => {}
    }
}

#[track_caller]
fn check(output: &Output, value: &Value) {
    let mut found = BTreeSet::new();
    names(value, "", &mut found);
    let wanted: BTreeSet<String> =
        output.litestream.iter().chain(output.ours).map(|name| (*name).to_owned()).collect();
    assert_eq!(found, wanted, "{}: {value:#}", output.line);
}

fn args(dir: &Dir, output: &Output) -> Vec<String> {
    let mut args: Vec<String> = output.line.split(' ').map(str::to_owned).collect();
    for arg in &mut args {
        match arg.as_str() {
            "REPLICA" => *arg = url(&dir.path("q")),
            "v3" => *arg = url(&dir.path("v3-basic/replica")),
            "p" => *arg = url(&dir.path("v5-replicate/replica")),
            _ => {}
        }
    }
    args
}

#[test]
fn every_json_output_has_litestreams_fields_and_those_of_ours_that_are_listed() {
    let (dir, running): (Dir, Running) = daemon("");
    dir.fixture("v3-basic");
    make_database(&dir.path("b.db"));
    insert(&dir.path("a.db"), 2);
    for output in OF_A_DAEMON {
        let args = args(&dir, output);
        check(output, &ask(&dir, &args.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    end(running);
    check_all(&dir, OUTPUTS);
}

#[test]
fn every_json_output_that_only_litekeep_has_keeps_its_fields() {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    dir.write("l.yml", "dbs:\n  - path: a.db\n    replica:\n      path: r\n");
    dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
    dir.fixture("v3-basic");
    fs::rename(dir.path("v3-basic/replica/generations"), dir.path("r/generations")).expect("moved");
    let dated = dir.files("r/generations");
    dir.write("now", "");
    let now = fs::metadata(dir.path("now")).and_then(|now| now.modified()).expect("a time");
    for name in dated {
        let file = fs::File::options().write(true).open(dir.path("r/generations").join(name));
        file.and_then(|file| file.set_modified(now)).expect("set");
    }
    dir.fixture("v5-replicate");
    an_hour_apart(&dir);
    dir.write(
        "l.yml",
        "dbs:\n  - path: a.db\n    replica:\n      path: r\n  - dir: many\n    pattern: '*.db'\n    watch: true\n    replica:\n      \
         path: q\n",
    );
    fs::create_dir(dir.path("many")).expect("made");
    check_all(&dir, OF_OURS);
}

fn check_all(dir: &Dir, outputs: &[Output]) {
    for output in outputs {
        let args = args(dir, output);
        let is_url = args.last().is_some_and(|arg| arg.starts_with("file://"));
        let config: &[&str] = if is_url { &[] } else { &["-config", "l.yml"] };
        let more = config.iter().chain(&["-json"]).map(|arg| (*arg).to_owned());
        let seen = dir.litekeep(args.into_iter().chain(more)).exits(0);
        check(
            output,
            &serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all())),
        );
    }
}

#[test]
fn no_command_that_prints_json_is_left_out() {
    let dir = Dir::new();
    let overview = dir.litekeep(["help"]).exits(0).out();
    let verbs: BTreeSet<&str> = overview
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split(' ').next())
        .filter(|verb| !["", "help", "litekeep"].contains(verb))
        .filter(|verb| dir.litekeep(["help", verb]).exits(0).out().contains("-json"))
        .collect();
    let listed = OUTPUTS.iter().chain(OF_A_DAEMON).chain(OF_OURS);
    assert_eq!(verbs, listed.filter_map(|output| output.line.split(' ').next()).collect(), "{overview}");
}
