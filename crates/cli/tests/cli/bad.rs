//! What people get wrong: one message each that says what, where and what to do; nothing is changed by it.

use crate::restore::{digest, make_database};
use crate::util::{Dir, Seen};
use s3test::{ACCESS_KEY, BUCKET, Profile, SECRET_KEY, Server};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// A directory with a database in WAL mode, its configuration, and a bucket.
struct Scene {
    dir: Dir,
    programs: Dir,
    server: Server,
    bucket: &'static str,
    key: &'static str,
    secret: &'static str,
    /// What stands in the configuration before the databases.
    head: &'static str,
}

impl Scene {
    fn new() -> Self {
        let (dir, server) = (Dir::new(), Server::start(Profile::Aws).expect("started"));
        make_database(&dir.path("a.db"));
        let link = rusqlite::Connection::open(dir.path("a.db")).expect("opened");
        link.execute_batch("PRAGMA journal_mode=WAL").expect("changed");
        drop(link);
        fs::create_dir(dir.path("out")).expect("made");
        fs::set_permissions(dir.path("out"), fs::Permissions::from_mode(0o777)).expect("set");
        let (key, secret) = (ACCESS_KEY, SECRET_KEY);
        Self { dir, programs: Dir::new(), server, bucket: BUCKET, key, secret, head: "" }
    }

    /// Puts something else where the database is.
    fn instead(&self, put: impl FnOnce(&std::path::Path)) {
        fs::remove_file(self.dir.path("a.db")).expect("removed");
        put(&self.dir.path("a.db"));
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.dir.path(name), fs::Permissions::from_mode(mode)).expect("set");
    }

    fn configure(&self) {
        let (head, bucket, endpoint) = (self.head, self.bucket, self.server.endpoint());
        let replica = format!("url: s3://{bucket}/p\n      endpoint: {endpoint}\n      region: us-east-1");
        let text = format!("{head}dbs:\n  - path: a.db\n    replica:\n      {replica}\n");
        self.dir.write("l.yml", text);
    }

    /// Runs this, which must end with this code and change nothing, here or in the bucket.
    #[track_caller]
    fn run(&self, args: &[&str], code: i32) -> Seen {
        let before = self.everything();
        let command = self.dir.litekeep(args).env("AWS_ACCESS_KEY_ID", self.key);
        let seen = command.env("AWS_SECRET_ACCESS_KEY", self.secret).of_nobody(&self.programs).exits(code);
        assert_eq!(self.everything(), before, "something was changed{}", seen.all());
        assert!(self.server.keys().is_empty(), "something went into the bucket{}", seen.all());
        seen.never_says(self.secret)
    }

    /// Every file with its content's digest, but for the lock in the folder of our own.
    fn everything(&self) -> BTreeMap<String, String> {
        let files = self.dir.files(".").into_iter().filter(|name| name != ".a.db-litekeep/lock");
        files.map(|name| (name.clone(), digest(&self.dir.path(&name)))).collect()
    }
}

/// Once: what a bucket refuses may be put right while a daemon runs, so that one says it and goes on asking.
const REPLICATE: &[&str] = &["replicate", "-config", "l.yml", "-once"];
const RESTORE: &[&str] = &["restore", "-config", "l.yml", "-o", "out/b.db", "a.db"];
const RESTORE_THERE: &[&str] = &["restore", "-config", "l.yml", "a.db"];

/// One message on stderr, `Error:` with at most one `Cause:` and one `Hint:`, that holds all of these words.
#[track_caller]
fn says(name: &str, seen: &Seen, words: &[&str]) {
    let text = seen.err();
    let beginnings: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    let shapes: [&[&str]; 4] =
        [&["Error:"], &["Error:", "Hint:"], &["Error:", "Cause:"], &["Error:", "Cause:", "Hint:"]];
    assert!(shapes.contains(&&beginnings[..]), "{name}: not one message{}", seen.all());
    for word in words {
        assert!(text.contains(word), "{name}: the message lacks {word:?}{}", seen.all());
    }
}

/// What is wrong, and the command, its exit code and the words of its message.
type Row = (&'static str, fn(&mut Scene), &'static [&'static str], i32, &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "bucket",
        |it| it.bucket = "tset",
        RESTORE,
        13,
        &["s3://tset/p", "NoSuchBucket", "check the bucket's name"],
    ),
    (
        "bucket",
        |it| it.bucket = "tset",
        REPLICATE,
        13,
        &["s3://tset/p", "NoSuchBucket", "check the bucket's name"],
    ),
    (
        "key",
        |it| it.key = "nobody",
        RESTORE,
        13,
        &["s3://test/p", "InvalidAccessKeyId", "check the access key id"],
    ),
    (
        "key",
        |it| it.key = "nobody",
        REPLICATE,
        13,
        &["s3://test/p", "InvalidAccessKeyId", "check the access key id"],
    ),
    (
        "secret",
        |it| it.secret = "hush",
        RESTORE,
        13,
        &["s3://test/p", "SignatureDoesNotMatch", "check the secret"],
    ),
    (
        "secret",
        |it| it.secret = "hush",
        REPLICATE,
        13,
        &["s3://test/p", "SignatureDoesNotMatch", "check the secret"],
    ),
    (
        "region",
        |it| it.server.mind_region("eu-1"),
        RESTORE,
        13,
        &["s3://test/p", "expecting 'eu-1'", "check the region"],
    ),
    (
        "region",
        |it| it.server.mind_region("eu-1"),
        REPLICATE,
        13,
        &["s3://test/p", "expecting 'eu-1'", "check the region"],
    ),
    (
        "clock",
        an_hour_off,
        RESTORE,
        13,
        &["s3://test/p", "RequestTimeTooSkewed", "clock is off by more than 15 minutes; set it"],
    ),
    (
        "clock",
        an_hour_off,
        REPLICATE,
        13,
        &["s3://test/p", "RequestTimeTooSkewed", "clock is off by more than 15 minutes; set it"],
    ),
    (
        "unreadable database",
        |it| it.mode("a.db", 0),
        REPLICATE,
        1,
        &["a.db", "Permission denied", "as the user of the application"],
    ),
    (
        "read-only database",
        |it| it.mode("a.db", 0o444),
        REPLICATE,
        1,
        &["a.db", "Permission denied", "as the user of the application"],
    ),
    (
        "unreadable configuration",
        |it| it.mode("l.yml", 0),
        REPLICATE,
        1,
        &["l.yml", "Permission denied", "Hint: "],
    ),
    (
        "unreadable configuration",
        |it| it.mode("l.yml", 0),
        RESTORE,
        1,
        &["l.yml", "Permission denied", "Hint: "],
    ),
    (
        "directory",
        a_directory,
        REPLICATE,
        1,
        &["a.db is a directory, not a database", "name the file of the database"],
    ),
    ("directory", a_directory, RESTORE_THERE, 14, &["a.db is a directory", "`-o`"]),
    (
        "no database",
        |it| it.instead(|path| fs::write(path, "Dear diary, ".repeat(99)).expect("written")),
        REPLICATE,
        1,
        &["a.db is not an SQLite database", "check the path"],
    ),
    (
        "no database",
        |it| it.instead(|path| fs::write(path, "Dear diary, ".repeat(99)).expect("written")),
        RESTORE_THERE,
        14,
        &["a.db", "already exists", "`-o`"],
    ),
    (
        "tab",
        |it| drop(it.dir.write("l.yml", "dbs:\n\t- path: a.db\n")),
        REPLICATE,
        1,
        &["l.yml:2:", "a tab", "indent with spaces"],
    ),
    (
        "tab",
        |it| drop(it.dir.write("l.yml", "dbs:\n\t- path: a.db\n")),
        RESTORE,
        1,
        &["l.yml:2:", "a tab", "indent with spaces"],
    ),
];

fn an_hour_off(scene: &mut Scene) {
    scene.server.skew_clock(3_600_000);
    scene.server.refuse_skew(true);
}

fn a_directory(scene: &mut Scene) {
    scene.instead(|path| fs::create_dir(path).expect("made"));
    scene.dir.write("a.db/precious", "what somebody keeps there");
}

#[test]
fn what_people_get_wrong_is_told_in_one_message_with_place_and_way_out_and_changes_nothing() {
    for (name, spoil, args, code, words) in ROWS {
        let mut scene = Scene::new();
        scene.configure();
        spoil(&mut scene);
        if scene.bucket != BUCKET {
            scene.configure();
        }
        says(&format!("{name}, {}", args[0]), &scene.run(args, *code), words);
    }
}

#[test]
fn no_flag_makes_a_restore_replace_a_directory() {
    let mut scene = Scene::new();
    scene.configure();
    a_directory(&mut scene);
    for flag in ["-force", "-if-db-not-exists", "-if-replica-exists"] {
        let seen = scene.run(&["restore", "-config", "l.yml", flag, "a.db"], 14);
        says(flag, &seen, &["a.db is a directory"]);
    }
}

#[test]
fn a_database_that_is_not_in_wal_mode_is_named_and_changed_to_it_as_litestream_does() {
    let scene = Scene::new();
    scene.instead(make_database);
    scene.configure();
    let replicate = || {
        let command = scene.dir.litekeep(["replicate", "-config", "l.yml", "-once"]);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).exits(0)
    };
    let told = "level=WARN msg=\"the database is not in WAL mode: it is changed to that";
    let seen = replicate().out_has(told);
    assert_eq!(seen.out().matches(told).count(), 1, "{}", seen.all());
    let link = rusqlite::Connection::open(scene.dir.path("a.db")).expect("opened");
    let mode: String = link.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("read");
    assert_eq!(mode, "wal");
    assert!(!replicate().out().contains("WAL mode"));
}
