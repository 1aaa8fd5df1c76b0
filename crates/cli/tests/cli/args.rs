//! Arguments, help, and errors about them.

use crate::util::Dir;

const NONE: [&str; 0] = [];

#[test]
fn no_arguments_are_answered_with_the_usage_and_exit_code_1() {
    Dir::new().litekeep(NONE).exits(1).out_has("Usage:").out_has("replicate").out_has("restore");
}

#[test]
fn help_is_no_error() {
    let dir = Dir::new();
    for args in [&["help"] as &[&str], &["-h"], &["--help"], &["-help"]] {
        dir.litekeep(args).exits(0).out_has("Commands:");
    }
    for args in
        [&["restore", "-h"] as &[&str], &["restore", "--help"], &["help", "restore"], &["restore", "x", "-h"]]
    {
        dir.litekeep(args).exits(0).out_has("-if-replica-exists").out_has("-txid HEX");
    }
    dir.litekeep(["help", "replicate"]).exits(0).out_has("-exec COMMAND");
    dir.litekeep(["wal", "-h"]).exits(0).out_has("litekeep ltx [flags] DB_PATH");
}

#[test]
fn an_unknown_command_names_the_nearest() {
    let dir = Dir::new();
    dir.litekeep(["replciate"])
        .exits(1)
        .err_has("Error: litekeep replciate: unknown command")
        .err_has("replicate`?");
    dir.litekeep(["frobnicate"]).exits(1).err_has("`litekeep help` lists");
    dir.litekeep(["help", "frobnicate"]).exits(1).err_has("unknown command");
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    let dir = Dir::new();
    dir.litekeep(["restore", "--if-replica-exist", "x"])
        .exits(1)
        .err_has("Error: flag provided but not defined: -if-replica-exist")
        .err_has("Hint: did you mean -if-replica-exists?");
    dir.litekeep(["restore", "-g", "x"]).exits(1).err_has("not defined: -g");
}

#[test]
fn a_version_is_printed() {
    let dir = Dir::new();
    assert_eq!(dir.litekeep(["version"]).exits(0).out(), format!("{}\n", env!("CARGO_PKG_VERSION")));
    dir.litekeep(["version", "-verbose"]).exits(0).out_has("SQLite 3.");
}

#[test]
fn what_a_command_cannot_do_without_is_asked_for() {
    let dir = Dir::new();
    for (args, part) in [
        (&["restore"] as &[&str], "database path or a replica URL"),
        (&["restore", "file:///r"], "-o"),
        (&["restore", "-config", "c.yml", "-o", "x", "file:///r"], "-config can't be given together"),
        (&["restore", "-o", "x", "-txid", "12", "file:///r"], "16 hex digits"),
        (&["restore", "-o", "x", "-timestamp", "yesterday", "file:///r"], "not a time"),
        (
            &[
                "restore",
                "-o",
                "x",
                "-txid",
                "0000000000000001",
                "-timestamp",
                "2026-01-01T00:00:00Z",
                "file:///r",
            ],
            "both",
        ),
        (&["restore", "-o", "x", "-integrity-check", "some", "file:///r"], "auto, none, quick or full"),
        (&["restore", "-o", "x", "-parallelism", "0", "file:///r"], "-parallelism"),
        (&["restore", "-o", "x", "-generation", "zz", "file:///r"], "16 hex digits"),
        (&["ltx"], "database path or a replica URL"),
        (&["ltx", "-level", "10", "file:///r"], "no level"),
        (&["replicate", "x.db"], "replica URL"),
        (&["replicate", "x.db", "file:///r", "file:///q"], "one replica"),
        (&["replicate", "-config", "c.yml", "x.db", "file:///r"], "-config"),
        (&["replicate", "-once", "-exec", "true", "x.db", "file:///r"], "-once"),
        (&["replicate", "-force-snapshot", "x.db", "file:///r"], "-once"),
        (&["replicate", "-exec", "a | b", "x.db", "file:///r"], "sh -c"),
        (&["databases", "x"], "too many arguments"),
    ] {
        dir.litekeep(args).exits(1).err_has("Error: ").err_has(part).silent_out();
    }
    assert_eq!(dir.files("."), Vec::<String>::new(), "an argument error leaves nothing behind");
}

#[test]
fn replicas_of_other_kinds_are_refused_by_name() {
    let dir = Dir::new();
    for url in ["gs://b/p", "abs://b/p", "sftp://h/p", "nats://h/p", "webdav://h/p", "gopher://h"] {
        let scheme = url.split(':').next().expect("a scheme");
        dir.litekeep(["restore", "-o", "x", url]).exits(1).err_has(scheme).silent_out();
    }
}

#[test]
fn a_replica_url_never_shows_its_secrets() {
    let dir = Dir::new();
    for url in
        ["s3://key:hush@bucket/path", "s3://bucket/path?secretAccessKey=hush", "gs://u:hush@b/p?token=hush"]
    {
        for args in [&["restore", "-o", "x", url] as &[&str], &["ltx", url], &["replicate", "x.db", url]] {
            dir.litekeep(args).exits(1).err_has("Error: ").never_says("hush");
        }
    }
    dir.litekeep(["restore", "a", "s3://key:hush@bucket/path"]).exits(1).never_says("hush");
}

#[test]
fn r26b_half_a_pair_of_keys_is_refused_before_anything_else() {
    Dir::new()
        .litekeep(["restore", "-if-replica-exists", "-o", "x", "s3://bucket/path"])
        .env("AWS_ACCESS_KEY_ID", "id")
        .exits(1)
        .err_has("AWS_SECRET_ACCESS_KEY");
}

#[test]
fn an_argument_that_is_not_utf_8_is_refused_and_not_mended() {
    use std::os::unix::ffi::OsStrExt;
    let dir = Dir::new();
    let name = std::ffi::OsStr::from_bytes(b"a\xff.db");
    dir.litekeep(["restore".as_ref(), "-o".as_ref(), name, "file:///r".as_ref()])
        .exits(1)
        .err_has("is not UTF-8");
    assert_eq!(dir.files("."), Vec::<String>::new());
}
