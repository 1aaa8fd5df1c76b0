//! What people get wrong: one line each that says what, where and what to do; nothing is changed by it.

use crate::daemon::wait_for;
use crate::restore::{digest, make_database};
use crate::util::{Dir, Seen, TestCommand};
use rustix::process::Signal;
use s3test::{ACCESS_KEY, BUCKET, Profile, SECRET_KEY, Server};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
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

    fn command(&self, args: &[&str]) -> TestCommand {
        let (verb, rest) = args.split_first().expect("a verb");
        let command = self.dir.litekeep([&[*verb], CONFIG, rest].concat()).env("AWS_ACCESS_KEY_ID", self.key);
        command.env("AWS_SECRET_ACCESS_KEY", self.secret).of_nobody(&self.programs)
    }

    /// Runs this, which must end with this code and change nothing, here or in the bucket.
    #[track_caller]
    fn run(&self, args: &[&str], code: i32) -> Seen {
        let before = self.everything();
        let seen = self.command(args).exits(code);
        self.is_as(&before, &seen);
        seen.never_says(self.secret)
    }

    #[track_caller]
    fn is_as(&self, before: &BTreeMap<String, String>, seen: &Seen) {
        assert_eq!(&self.everything(), before, "something was changed{}", seen.all());
        assert!(self.server.keys().is_empty(), "something went into the bucket{}", seen.all());
    }

    /// Every file with its content's digest, but for the lock in the folder of our own.
    fn everything(&self) -> BTreeMap<String, String> {
        let files = self.dir.files(".").into_iter().filter(|name| name != ".a.db-litekeep/lock");
        files.map(|name| (name.clone(), digest(&self.dir.path(&name)))).collect()
    }
}

const CONFIG: &[&str] = &["-config", "l.yml"];
const DAEMON: &[&str] = &["replicate"];
const ONCE: &[&str] = &["replicate", "-once"];
/// The command would leave a trace.
const EXEC: &[&str] = &["replicate", "-exec", "touch out/ran"];
const RESTORE: &[&str] = &["restore", "-o", "out/b.db", "a.db"];
const RESTORE_THERE: &[&str] = &["restore", "a.db"];
const DOCTOR: &[&str] = &["doctor"];
const VERIFY: &[&str] = &["verify"];
const USAGE: &[&str] = &["usage"];
const LTX: &[&str] = &["ltx", "a.db"];
const STATUS: &[&str] = &["status"];

/// All that ask a bucket and end by themselves.
const ASKERS: &[&[&str]] = &[ONCE, EXEC, RESTORE, DOCTOR, VERIFY, USAGE, LTX];
const REPLICATORS: &[&[&str]] = &[DAEMON, ONCE, EXEC];
const EVERYBODY: &[&[&str]] =
    &[DAEMON, ONCE, EXEC, RESTORE, DOCTOR, VERIFY, USAGE, LTX, STATUS, &["databases"], &["config", "check"]];

/// One line on stderr besides those of the log, `Error: ...`, that holds all of these words.
#[track_caller]
fn says(name: &str, seen: &Seen, words: &[&str]) {
    let text = seen.err();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("time=")).collect();
    let [line] = lines[..] else { panic!("{name}: not one line{}", seen.all()) };
    assert!(line.starts_with("Error: "), "{name}: no error{}", seen.all());
    for word in words {
        assert!(line.contains(word), "{name}: the line lacks {word:?}{}", seen.all());
    }
    for panic in ["panicked", "RUST_BACKTRACE"] {
        assert!(!seen.err().contains(panic) && !seen.out().contains(panic), "{name}{}", seen.all());
    }
}

/// What is wrong, the commands that it is wrong for, their exit code and the words of their line.
type Row = (&'static str, fn(&mut Scene), &'static [&'static [&'static str]], i32, &'static [&'static str]);

/// What a bucket refuses, with the words of it.
type Refusal = (&'static str, fn(&mut Scene), &'static [&'static str]);

const REFUSALS: &[Refusal] = &[
    ("bucket", |it| it.bucket = "tset", &["s3://tset/p", "NoSuchBucket", "check the bucket's name"]),
    ("key", |it| it.key = "nobody", &["s3://test/p", "InvalidAccessKeyId", "check the access key id"]),
    ("secret", |it| it.secret = "hush", &["s3://test/p", "SignatureDoesNotMatch", "check the secret"]),
    ("region", |it| it.server.mind_region("eu-1"), &["s3://test/p", "expecting 'eu-1'", "check the region"]),
    (
        "clock",
        an_hour_off,
        &["s3://test/p", "RequestTimeTooSkewed", "clock is off by more than 15 minutes; set it"],
    ),
];

const ROWS: &[Row] = &[
    (
        "unreadable database",
        |it| it.mode("a.db", 0),
        REPLICATORS,
        1,
        &["a.db", "Permission denied", "as the user of the application"],
    ),
    (
        "read-only database",
        |it| it.mode("a.db", 0o444),
        REPLICATORS,
        1,
        &["a.db", "Permission denied", "as the user of the application"],
    ),
    (
        "local state of somebody else",
        |it| {
            it.dir.write(".a.db-litekeep/lock", "");
            it.mode(".a.db-litekeep", 0);
        },
        REPLICATORS,
        1,
        &[".a.db-litekeep/lock", "Permission denied", "as the user of the application"],
    ),
    (
        "no folder",
        |it| drop(it.dir.write("l.yml", "dbs:\n  - path: none/a.db\n    replica:\n      path: r\n")),
        &[ONCE],
        1,
        &["there is no database at", "none/a.db", "check the path"],
    ),
    (
        "a file in the place of the folder",
        |it| drop(it.dir.write("l.yml", "dbs:\n  - path: a.db/b.db\n    replica:\n      path: r\n")),
        REPLICATORS,
        1,
        &["a.db/b.db", "Not a directory", "what must be a folder is none"],
    ),
    (
        "a folder that nobody may enter",
        |it| {
            it.dir.write("l.yml", "dbs:\n  - path: shut/in/a.db\n    replica:\n      path: r\n");
            fs::create_dir(it.dir.path("shut")).expect("made");
            it.mode("shut", 0);
        },
        REPLICATORS,
        1,
        &["shut/in/a.db", "Permission denied", "as the user of the application"],
    ),
    (
        "unreadable configuration",
        |it| it.mode("l.yml", 0),
        EVERYBODY,
        1,
        &["l.yml", "Permission denied", "; let this user read it"],
    ),
    (
        "unreadable replica",
        |it| {
            it.dir.write("r/ltx/0/0000000000000001-0000000000000001.ltx", "");
            it.mode("r", 0);
            it.dir.write("l.yml", "dbs:\n  - path: a.db\n    replica:\n      path: r\n");
        },
        &[ONCE, EXEC, RESTORE, VERIFY, USAGE, LTX],
        13,
        &["/r", "Permission denied", ": check owner and permissions"],
    ),
    (
        "directory",
        a_directory,
        REPLICATORS,
        1,
        &["a.db is a directory, not a database", "name the file of the database"],
    ),
    ("directory", a_directory, &[RESTORE_THERE], 14, &["a.db is a directory", "`-o`"]),
    ("no database", a_diary, REPLICATORS, 1, &["a.db is not an SQLite database", "check the path"]),
    ("no database", a_diary, &[RESTORE_THERE], 14, &["a.db", "already exists", "`-o`"]),
    (
        "not in WAL mode and read-only",
        |it| {
            it.instead(make_database);
            it.mode("a.db", 0o444);
        },
        REPLICATORS,
        1,
        &["a.db", "Permission denied", "as the user of the application"],
    ),
    (
        "tab",
        |it| drop(it.dir.write("l.yml", "dbs:\n\t- path: a.db\n")),
        EVERYBODY,
        1,
        &["l.yml:2:", "a tab", "indent with spaces"],
    ),
];

/// A scene in which this is wrong.
fn spoilt(spoil: fn(&mut Scene)) -> Scene {
    let mut scene = Scene::new();
    scene.configure();
    spoil(&mut scene);
    if scene.bucket != BUCKET {
        scene.configure();
    }
    scene
}

fn an_hour_off(scene: &mut Scene) {
    scene.server.skew_clock(3_600_000);
    scene.server.refuse_skew(true);
}

fn a_directory(scene: &mut Scene) {
    scene.instead(|path| fs::create_dir(path).expect("made"));
    scene.dir.write("a.db/precious", "what somebody keeps there");
}

fn a_diary(scene: &mut Scene) {
    scene.instead(|path| fs::write(path, "Dear diary, ".repeat(99)).expect("written"));
}

#[test]
fn what_people_get_wrong_is_told_in_one_message_with_place_and_way_out_and_changes_nothing() {
    for (name, spoil, commands, code, words) in ROWS {
        for command in *commands {
            says(&format!("{name}, {command:?}"), &spoilt(*spoil).run(command, *code), words);
        }
    }
}

#[test]
fn what_a_bucket_refuses_is_told_in_one_message_by_everybody_who_asks_it_and_changes_nothing() {
    for (name, spoil, words) in REFUSALS {
        for command in ASKERS {
            says(&format!("{name}, {command:?}"), &spoilt(*spoil).run(command, 13), words);
        }
    }
}

/// What a bucket refuses may be put right while it runs, so that it goes on asking.
#[test]
fn what_a_bucket_refuses_is_one_error_in_the_log_of_a_daemon_which_goes_on_asking_and_changes_nothing() {
    for (name, spoil, words) in REFUSALS {
        let scene = spoilt(*spoil);
        let before = scene.everything();
        let mut daemon = scene.command(DAEMON).starts();
        daemon.until("level=ERROR");
        let line = daemon.seen().lines().last().unwrap_or_default().to_owned();
        for word in *words {
            assert!(line.contains(word), "{name}: the line lacks {word:?}: {line}");
        }
        let mut asked = 0;
        wait_for("request of a second and a third try", || {
            asked += scene.server.take_log().len();
            (asked > 3).then_some(())
        });
        daemon.signal(Signal::TERM).until("signal received");
        // whoever does not wait for the last sync sends another
        daemon.signal(Signal::TERM);
        let seen = daemon.ends_anyhow();
        let out = seen.out();
        let (meanwhile, _) = out.split_once("signal received").expect("it was told");
        assert_eq!(meanwhile.matches("level=ERROR").count(), 1, "{name}{}", seen.all());
        assert!(!seen.all().contains("panicked"), "{name}{}", seen.all());
        scene.is_as(&before, &seen);
    }
}

#[test]
fn keys_that_are_missing_or_no_keys_are_told_in_one_message_before_anything_is_asked() {
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    let nobody = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    let elsewhere = "s3://test/p?endpoint=http://127.0.0.1:1";
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], i32, &'a [&'a str]);
    let rows: [Row<'_>; 6] = [
        (elsewhere, &[], 13, &["no credentials for s3://test/p: set AWS_ACCESS_KEY_ID and"]),
        ("s3://test/p", &[nobody], 13, &["no keys", "gave none", "; set AWS_ACCESS_KEY_ID and"]),
        (
            elsewhere,
            &[(id, "a\n"), (secret, "hush")],
            13,
            &["AWS_ACCESS_KEY_ID ends with a line break; store"],
        ),
        (
            elsewhere,
            &[(id, "a"), (secret, "hush\n")],
            13,
            &["AWS_SECRET_ACCESS_KEY ends with a line break; store"],
        ),
        (
            "s3://test/p?region=us%0Aeast",
            &[(id, "a"), (secret, "hush")],
            1,
            &["the region", "write one such as"],
        ),
        (
            "s3://test/p?endpoint=http://127.0.0.1:99999",
            &[(id, "a"), (secret, "hush")],
            1,
            &["the endpoint's port", "write http://HOST:9000"],
        ),
    ];
    let scene = Scene::new();
    let before = scene.everything();
    for (url, variables, code, words) in rows {
        for command in [
            &["replicate", "-once", "a.db", url][..],
            &["replicate", "-exec", "touch out/ran", "a.db", url],
            &["restore", "-o", "out/b.db", url],
            &["doctor", url],
            &["ltx", url],
        ] {
            let command =
                variables.iter().fold(scene.dir.litekeep(command), |it, (name, value)| it.env(name, value));
            let seen = command.of_nobody(&scene.programs).exits(code);
            says(url, &seen, words);
            let line = seen.err();
            assert!(
                line.matches("; ").count() < 2 || line.contains("no keys"),
                "two hints in a row{}",
                seen.all()
            );
            scene.is_as(&before, &seen.never_says("hush"));
        }
    }
}

#[test]
fn what_asks_no_bucket_needs_no_keys() {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    let replica = "s3://test/p?endpoint=http://127.0.0.1:1";
    let s3 = "type: s3, bucket: test, endpoint: 'http://127.0.0.1:1', access-key-id: $KEY, secret-access-key: $SECRET";
    let database = |name: &str| format!("  - {{path: {name}, replica: {{{s3}, path: {name}}}}}\n");
    dir.write("l.yml", format!("dbs:\n{}{}", database("a.db"), database("b.db")));
    for half in ["", "half a pair"] {
        let run = |args: &[&str]| dir.litekeep(args).env("KEY", half);
        let listed = run(&["databases", "-config", "l.yml"]).exits(0).out();
        let cells: Vec<_> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        let (a, b) = (dir.path("a.db"), dir.path("b.db"));
        let path = |path: &std::path::Path| path.display().to_string();
        assert_eq!(cells, [["path", "replica"], [&path(&a), "s3"], [&path(&b), "s3"]]);
        run(&["status", "-local", "-config", "l.yml"]).exits(0).out_has("not initialized");
        run(&["reset", "-config", "l.yml", "a.db"]).exits(0);

        // An application that has its database begins, with keys or without.
        let before = std::fs::read(&a).expect("read");
        for operands in [&["-config", "l.yml", "a.db"][..], &["-config", "l.yml", "-o", "a.db", "b.db"]] {
            let args = [&["restore", "-if-db-not-exists", "-if-replica-exists"], operands].concat();
            run(&args).exits(0).err_has("msg=\"database already exists, skipping\"").silent_out();
        }
        run(&["restore", "-if-db-not-exists", "-json", "-o", "a.db", replica])
            .exits(0)
            .out_has("database exists");
        assert_eq!(std::fs::read(&a).expect("read"), before);

        // One that has none is told what is missing, as ever.
        for args in [
            &["restore", "-if-db-not-exists", "-if-replica-exists", "-config", "l.yml", "b.db"][..],
            &["restore", "-if-db-not-exists", "-dry-run", "-config", "l.yml", "a.db"],
            &["restore", "-if-db-not-exists", "-f", "-config", "l.yml", "a.db"],
            &["restore", "-config", "l.yml", "a.db"],
            &["restore", "-if-db-not-exists", "-o", "b.db", replica],
            &["status", "-config", "l.yml"],
            &["replicate", "-once", "-config", "l.yml"],
        ] {
            let seen = run(args).exits(13);
            let words =
                ["no credentials for s3://test/", "access-key-id is set but secret-access-key is not"];
            assert!(words.iter().any(|words| seen.err().contains(words)), "{}", seen.all());
        }
        assert!(!b.exists());
    }
}

#[test]
fn a_daemon_without_keys_says_so_once() {
    let scene = Scene::new();
    // A machine without a role.
    let machine = TcpListener::bind("127.0.0.1:0").expect("bound");
    let endpoint = format!("http://{}", machine.local_addr().expect("an address"));
    let command = scene.dir.litekeep(["replicate", "a.db", "s3://test/p"]);
    let mut daemon = command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint).starts();
    let answer = move || {
        let (mut asker, _) = machine.accept().expect("asked");
        let mut asked = [0; 1024];
        let read = asker.read(&mut asked).expect("read");
        assert!(read > 0);
        asker
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .expect("told");
    };
    (0..4).for_each(|_| answer());
    std::thread::spawn(move || {
        loop {
            answer()
        }
    });
    daemon.until("level=ERROR").signal(Signal::TERM).until("signal received").signal(Signal::TERM);
    let seen = daemon.ends(20).out_has("; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    assert_eq!(seen.out().matches("trying again").count(), 1, "{}", seen.all());
}

#[test]
fn no_flag_makes_a_restore_replace_a_directory() {
    let mut scene = Scene::new();
    scene.configure();
    a_directory(&mut scene);
    for flag in ["-force", "-if-db-not-exists", "-if-replica-exists"] {
        let seen = scene.run(&["restore", flag, "a.db"], 14);
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

/// Nothing in this process may open the file meanwhile: to close it would take the lock with it.
#[test]
fn a_database_whose_rollback_journal_is_in_use_is_one_error_and_is_changed_once_it_is_free() {
    let scene = Scene::new();
    scene.instead(make_database);
    scene.configure();
    let holder = rusqlite::Connection::open(scene.dir.path("a.db")).expect("opened");
    holder.execute_batch("BEGIN EXCLUSIVE").expect("begun");
    let command = scene.dir.litekeep(["replicate", "-config", "l.yml"]);
    let command = command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let mut daemon = command.starts();
    daemon.until("level=WARN msg=\"the database is not in WAL mode").until("level=ERROR");
    let line = daemon.seen().lines().last().unwrap_or_default().to_owned();
    assert!(line.contains("a.db") && line.contains("database is locked"), "{line}");
    let mode: String = holder.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("read");
    assert_eq!((mode.as_str(), scene.server.keys()), ("delete", Vec::new()));
    holder.execute_batch("ROLLBACK").expect("ended");
    daemon.until("msg=\"initialized db\"").signal(Signal::TERM);
    let seen = daemon.ends(0);
    assert_eq!(seen.out().matches("level=ERROR").count(), 1, "{}", seen.all());
    assert_eq!(seen.err(), "");
}

#[test]
fn a_status_says_why_it_cannot_tell() {
    type Spoil = fn(&mut Scene);
    for (spoil, why) in
        [((|it| it.mode("a.db", 0)) as Spoil, "Permission denied"), (a_directory, "it is no file")]
    {
        let seen = spoilt(spoil).run(STATUS, 0).out_has("a.db  error  ");
        let line = seen.err();
        assert!(line.starts_with("Warning: can't look at ") && line.lines().count() == 1, "{}", seen.all());
        assert!(line.contains(why) && line.contains("; check the path"), "{}", seen.all());
    }
}
