//! The names of the fields of every JSON output: Litestream's, as its document of the output of its commands has them, and
//! ours beyond these.

use crate::daemon::{ask, daemon, end, insert};
use crate::restore::{make_database, url};
use crate::util::{Dir, Running};
use serde_json::Value;
use std::collections::BTreeSet;

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

/// Only here: what their JSON holds is in docs/inspect.md, and `config check` has a test of its own.
const OURS: [&str; 4] = ["config", "doctor", "verify", "usage"];

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
    for output in OUTPUTS {
        let args = args(&dir, output);
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
    let listed = OUTPUTS.iter().chain(OF_A_DAEMON).filter_map(|output| output.line.split(' ').next());
    assert_eq!(verbs, listed.chain(OURS).collect(), "{overview}");
}
