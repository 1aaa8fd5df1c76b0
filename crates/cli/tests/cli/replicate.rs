//! `litekeep replicate`: how it starts, and how it ends.

use crate::daemon;
use crate::restore::{make_database, not_empty, url};
use crate::util::{Dir, TestCommand};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Inserts a row into `t`.
fn insert(database: &Path, value: i64) {
    let connection = rusqlite::Connection::open(database).expect("opened");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("set");
    connection.execute("INSERT INTO t VALUES (?1)", [value]).expect("inserted");
}

/// What `t` holds after a restore from `r`.
fn restored(dir: &Dir) -> Vec<i64> {
    let out = dir.path("restored.db");
    dir.litekeep(["restore", "-force", "-o", "restored.db", &url(&dir.path("r"))]).exits(0);
    values(&out)
}

/// What `t` holds.
fn values(database: &Path) -> Vec<i64> {
    let connection = rusqlite::Connection::open(database).expect("opened");
    let mut rows = connection.prepare("SELECT x FROM t ORDER BY x").expect("prepared");
    rows.query_map([], |row| row.get(0)).expect("queried").collect::<Result<_, _>>().expect("read")
}

/// A directory with a database `a.db` that holds 1.
fn with_database() -> Dir {
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    dir
}

/// What an application goes on after.
const SURVIVED: [Signal; 5] = [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH];

/// Not a test but an application, when it is told to be one: says that it is there, waits for SIGINT or SIGTERM if asked to,
/// and tells the others that came; inserts a row and ends with the exit code it was told.
#[test]
fn a_flag_that_restores_no_database_of_a_directory_says_so() {
    let dir = Dir::new();
    fs::create_dir(dir.path("d")).expect("made");
    make_database(&dir.path("d/a.db"));
    let warning = "-restore-if-db-not-exists has no effect on the databases of a directory";
    for (flag, key) in [(true, "false"), (false, "false"), (true, "true")] {
        let key = format!("    restore-if-db-not-exists: {key}\n");
        dir.write(
            "l.yml",
            format!("dbs:\n  - dir: d\n    pattern: '*.db'\n{key}    replica:\n      path: r\n"),
        );
        let flag = flag.then_some("-restore-if-db-not-exists");
        let args = ["replicate", "-once", "-config", "l.yml"].into_iter().chain(flag);
        let seen = dir.litekeep(args).exits(0);
        assert_eq!(seen.all().contains(warning), flag.is_some(), "{}", seen.all());
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a program of its own, told by its environment what to do")]
fn application() {
    let Ok(orders) = std::env::var("LITEKEEP_TEST_APPLICATION") else { return };
    let [database, value, wait, code] = orders.split(',').collect::<Vec<_>>()[..] else { panic!("{orders}") };
    let heard = [SURVIVED.as_slice(), &[Signal::INT, Signal::TERM]].concat();
    let mut signals =
        signal_hook::iterator::Signals::new(heard.into_iter().map(Signal::as_raw)).expect("a handler");
    println!("application is there");
    if wait == "wait" {
        for signal in signals.forever() {
            println!("application was sent {signal}");
            if signal == Signal::TERM.as_raw() || signal == Signal::INT.as_raw() {
                break;
            }
        }
    }
    if value == "make" {
        make_database(Path::new(database));
    } else if let Ok(value) = value.parse() {
        insert(Path::new(database), value);
    }
    std::process::exit(code.parse().expect("a number"));
}

/// `litekeep replicate -exec` with that application.
fn with_application(dir: &Dir, value: &str, wait: &str, code: i32) -> TestCommand {
    let orders = format!("{},{value},{wait},{code}", dir.path("a.db").display());
    dir.litekeep(["replicate", "-exec", &the_application(), "a.db", &url(&dir.path("r"))])
        .env("LITEKEEP_TEST_APPLICATION", &orders)
}

pub(crate) fn the_application() -> String {
    let program = std::env::current_exe().expect("this program");
    format!("'{}' --exact replicate::application --nocapture", program.display())
}

/// The same, which writes `d/a.db`; the configuration has the directory `d`.
fn with_directory(dir: &Dir, watch: bool, orders: &str) -> TestCommand {
    fs::create_dir_all(dir.path("d")).expect("made");
    dir.write(
        "l.yml",
        format!("dbs:\n  - dir: d\n    pattern: '*.db'\n    watch: {watch}\n    replica:\n      path: r\n"),
    );
    let orders = format!("{},{orders}", dir.path("d/a.db").display());
    let command = dir.litekeep(["replicate", "-config", "l.yml", "-exec", &the_application()]);
    command.env("LITEKEEP_TEST_APPLICATION", &orders)
}

#[test]
fn the_databases_of_a_directory_are_replicated_beside_a_command() {
    let dir = Dir::new();
    fs::create_dir(dir.path("d")).expect("made");
    for name in ["a.db", "b.db"] {
        make_database(&dir.path("d").join(name));
    }
    dir.write("d/diary.db", "Dear diary");
    with_directory(&dir, false, "2,go,3").exits(3);
    assert_eq!(daemon::restored(&dir, "r/a.db"), [1, 2]);
    assert_eq!(daemon::restored(&dir, "r/b.db"), [1]);
    assert!(!dir.path("r/diary.db").exists());
}

#[test]
fn what_a_command_makes_in_a_watched_directory_is_replicated_and_r54_synced_when_it_ends_at_once() {
    let dir = Dir::new();
    let mut running = with_directory(&dir, true, "make,go,0").starts();
    running.until("application is there");
    running.ends(0);
    assert_eq!(daemon::restored(&dir, "r/a.db"), [1]);

    let mut running = with_directory(&dir, true, "2,wait,0").starts();
    running.until("application is there");
    // One after the other: two that come at once are owned in either order.
    for name in ["b.db", "c.db"] {
        let path = dir.path("d").join(name);
        make_database(&path);
        running.until(&format!("msg=\"initialized db\" path={}", path.display()));
    }
    // One that the command removes is no failure.
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.path(&format!("d/c.db{end}")));
    }
    running.until("the database file was replaced or removed").signal(Signal::TERM);
    running.ends(0).out_has("replication ended, the database is gone");
    assert_eq!(daemon::restored(&dir, "r/a.db"), [1, 2]);
    assert_eq!(daemon::restored(&dir, "r/b.db"), [1]);
}

/// An epoch that nobody confirmed counts for a failed release's: the next instance waits for it, and takes it for gone.
#[test]
#[allow(clippy::disallowed_methods, reason = "a deadline for another process")]
fn what_a_command_makes_once_it_is_well_has_its_epoch_confirmed_too() {
    let dir = Dir::new();
    fs::create_dir(dir.path("d")).expect("made");
    dir.write(
        "l.yml",
        "dbs:\n  - dir: d\n    pattern: '*.db'\n    watch: true\n    replica:\n      path: r\n",
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let ready = format!("http://{}/", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for mut link in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut link, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let _ = std::io::Read::read(&mut link, &mut [0; 1024]);
        }
    });
    let args = ["replicate", "-config", "l.yml", "-ready-url", &ready, "-exec", "sleep 600"];
    let mut running = dir.litekeep(args).starts();
    running.until("the command is up");
    make_database(&dir.path("d/late.db"));
    running.until("initialized db");
    let until = Instant::now() + Duration::from_secs(60);
    while !dir.files("r/late.db/epochs").iter().any(|name| name.contains("open")) {
        assert!(Instant::now() < until, "{:?}", dir.files("r/late.db/epochs"));
        std::thread::yield_now();
    }
    running.signal(Signal::TERM);
    running.ends(0);
}

#[test]
fn a_second_name_of_a_database_in_a_directory_is_skipped_and_disturbs_no_command() {
    let link = |target: &Path, path: &Path| std::os::unix::fs::symlink(target, path).expect("linked");
    let dir = Dir::new();
    let d = |name: &str| dir.path("d").join(name);
    fs::create_dir(dir.path("d")).expect("made");
    make_database(&d("a.db"));
    make_database(&dir.path("out.db"));
    // There at the start: of two links to a file outside the first counts, of a link to one inside the file itself.
    link(&d("a.db"), &d("Z.db"));
    link(&dir.path("out.db"), &d("o1.db"));
    link(&dir.path("out.db"), &d("o2.db"));
    fs::hard_link(d("a.db"), d("b.db")).expect("linked");
    let seen = with_directory(&dir, false, "2,go,3").exits(3);
    for second in ["o2.db", "b.db"] {
        let told = format!(
            "level=WARN msg=\"a file of the directory is skipped\" path={} why=\"it is replicated by another name\"",
            d(second).display()
        );
        assert_eq!(seen.out().matches(&told).count(), 1, "{second}{}", seen.all());
    }
    fs::remove_file(d("b.db")).expect("removed");
    assert_eq!(daemon::restored(&dir, "r/a.db"), [1, 2]);
    assert_eq!(daemon::restored(&dir, "r/o1.db"), [1]);
    for second in ["Z.db", "o2.db", "b.db"] {
        assert!(!dir.path("r").join(second).exists(), "{second}");
    }

    // Made while the command runs, all within one look.
    let mut running = with_directory(&dir, true, "3,wait,0").starts();
    running.until("application is there");
    make_database(&dir.path("draft.db"));
    fs::rename(dir.path("draft.db"), d("n.db")).expect("renamed");
    link(&d("n.db"), &d("latest.db"));
    running.until(&format!("msg=\"initialized db\" path={}", d("n.db").display()));
    make_database(&dir.path("far.db"));
    link(&dir.path("far.db"), &d("p1.db"));
    link(&dir.path("far.db"), &d("p2.db"));
    running.until(&format!("path={} why=\"it is replicated by another name\"", d("p2.db").display()));
    running.signal(Signal::TERM);
    running.ends(0);
    assert_eq!(daemon::restored(&dir, "r/a.db"), [1, 2, 3]);
    assert_eq!(daemon::restored(&dir, "r/n.db"), [1]);
    assert_eq!(daemon::restored(&dir, "r/p1.db"), [1]);
    assert!(!dir.path("r/latest.db").exists() && !dir.path("r/p2.db").exists());
}

/// R26b: what lies in a replica is not written over by a database of the same name.
#[test]
fn r26b_a_database_that_a_command_makes_over_another_ones_replica_ends_it() {
    let dir = Dir::new();
    make_database(&dir.path("old.db"));
    insert(&dir.path("old.db"), 9);
    dir.litekeep(["replicate", "-once", "old.db", &url(&dir.path("r/a.db"))]).exits(0);
    let before = dir.files("r/a.db/ltx");
    let seen = with_directory(&dir, true, "make,go,0").exits_not(0);
    assert_eq!(dir.files("r/a.db/ltx"), before, "{}", seen.all());
}

/// Litestream's backup lies where the default of a variable counts for nothing.
#[test]
fn nothing_starts_fresh_where_a_default_hides_the_backup_of_litestream() {
    let dir = with_database();
    dir.litekeep(["replicate", "-once", "a.db", &url(&dir.path("r"))]).exits(0);
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let _ = fs::remove_file(dir.path(name));
    }
    fs::remove_dir_all(dir.path(".a.db-litekeep")).expect("removed");
    let config = |path: &str| {
        dir.write("l.yml", format!("dbs:\n  - path: a.db\n    replica:\n      path: {path}\n"));
    };
    let warning = "l.yml:4:13: path: ";
    let place = format!("; a replica lies at {}", url(&dir.path("r")));
    config("r${P:-/mandarin}");
    let before = dir.files(".");
    for args in [
        &["restore", "a.db"] as &[&str],
        &["restore", "-if-replica-exists", "a.db"],
        &["replicate", "-restore-if-db-not-exists"],
        &["replicate", "-restore-if-db-not-exists", "-exec", "touch ran"],
        &["replicate", "-exec", "touch ran"],
        &["replicate"],
    ] {
        let (verb, rest) = args.split_first().expect("a verb");
        let args = [verb, "-config", "l.yml"].into_iter().chain(rest.iter().copied());
        let seen =
            dir.litekeep(args).exits(10).err_has("Error: no matching backups found at ").err_has(&place);
        assert!(seen.all().contains(warning), "{}", seen.all());
        assert_eq!(dir.files("."), before, "{}", seen.all());
    }
    // Where nothing lies there either, it is as always, with the warning.
    config("q${P:-/mandarin}");
    let seen = dir.litekeep(["restore", "-if-replica-exists", "-config", "l.yml", "a.db"]).exits(0);
    assert!(
        seen.err().contains("no matching backups found") && seen.err().contains(warning),
        "{}",
        seen.all()
    );
    dir.litekeep(["replicate", "-restore-if-db-not-exists", "-exec", "touch ran", "-config", "l.yml"])
        .exits(0)
        .out_has(warning)
        .out_has("no backup found, starting fresh");
}

/// As above, in a bucket, and with the other place, or both, out of reach.
#[test]
fn nothing_starts_fresh_where_it_cannot_be_told_whether_a_default_hides_a_backup() {
    use s3test::{ACCESS_KEY, BUCKET, Fault, Profile, REGION, Rule, SECRET_KEY, Server};
    let server = Server::start(Profile::Aws).expect("started");
    let with_keys = |command: TestCommand| {
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    };
    let dir = Dir::new();
    let config = |bucket: &str| {
        let address = format!("endpoint: {}\n      region: {REGION}", server.endpoint());
        let replica = format!("type: s3\n      bucket: {bucket}\n      path: r${{P:-/new}}\n      {address}");
        dir.write("l.yml", format!("dbs:\n  - path: a.db\n    replica:\n      {replica}\n"));
    };
    let run = |args: &[&str], code| {
        let (verb, rest) = args.split_first().expect("a verb");
        let args = [verb, "-config", "l.yml"].into_iter().chain(rest.iter().copied());
        with_keys(dir.litekeep(args)).exits(code)
    };
    let restores: &[&[&str]] = &[
        &["restore", "-if-replica-exists", "a.db"],
        &["replicate", "-restore-if-db-not-exists", "-exec", "touch ran"],
    ];
    let starts = [restores, &[&["replicate", "-exec", "touch ran"]]].concat();
    let answer = |status, code| Fault::Answer { status, code, retry_after: None };
    // How listings of the other place, and of the one that the file names, are written.
    let (theirs, ours) = ("prefix=r%2F0000", "prefix=r%2Fnew");
    config(BUCKET);
    // Litestream's place answers, and what it says is no "nothing here".
    for (fault, code) in [(answer(400, "InvalidArgument"), 13), (Fault::Page(404), 13)] {
        server.add_rule(Rule::always("GET", theirs, fault));
        for args in &starts {
            run(args, code);
        }
        server.clear_rules();
    }
    // Keys that are let into their own place and not into the other have made nothing there.
    for fault in [answer(403, "AccessDenied"), answer(404, "NoSuchBucket")] {
        server.add_rule(Rule::always("GET", theirs, fault));
        run(restores[0], 0);
        server.clear_rules();
    }
    // Where they are let into neither, nobody knows.
    server.add_rule(daemon::everything(daemon::denied()));
    run(&["replicate", "-exec", "touch ran"], 13);
    server.clear_rules();
    // A backup is there, and nobody can tell what lies at its own place.
    let old = with_database();
    let there = format!("s3://{BUCKET}/r?endpoint={}&region={REGION}", server.endpoint());
    with_keys(old.litekeep(["replicate", "-once", "a.db", &there])).exits(0);
    server.add_rule(Rule::always("GET", ours, answer(503, "SlowDown")));
    run(&["replicate", "-exec", "touch ran"], 13).err_has("; a replica lies at s3://");
    server.clear_rules();
    // It was wiped: that is no empty place either.
    for key in server.keys().iter().filter(|key| key.ends_with(".ltx")) {
        assert!(server.remove(key));
    }
    for args in &starts {
        run(args, 11).err_has(" was wiped");
    }
    assert_eq!(dir.files("."), ["l.yml"]);
}

#[test]
fn once_brings_everything_up_and_ends() {
    let dir = with_database();
    let replica = url(&dir.path("r"));
    dir.litekeep(["replicate", "-once", "a.db", &replica])
        .exits(0)
        .out_has("level=INFO msg=\"replicating to\"")
        .out_has(" type=file sync-interval=1s ")
        .out_has("level=INFO msg=\"initialized db\" path=")
        .out_has("msg=\"litekeep shut down\"");
    assert_eq!(restored(&dir), [1]);
    insert(&dir.path("a.db"), 2);
    dir.litekeep(["replicate", "a.db", &replica, "-once"]).exits(0);
    assert_eq!(restored(&dir), [1, 2]);
}

#[test]
fn once_with_a_forced_snapshot_leaves_one_of_the_newest_state() {
    let dir = with_database();
    let replica = url(&dir.path("r"));
    dir.litekeep(["replicate", "-once", "a.db", &replica]).exits(0);
    insert(&dir.path("a.db"), 2);
    let newest = "0000000000000001-0000000000000002.ltx";
    dir.litekeep(["replicate", "-once", "a.db", &replica]).exits(0);
    assert!(!dir.path("r/ltx/9").join(newest).exists());
    for _ in 0..2 {
        dir.litekeep(["replicate", "-once", "-force-snapshot", "a.db", &replica]).exits(0);
        assert!(dir.path("r/ltx/9").join(newest).exists());
    }
    assert_eq!(restored(&dir), [1, 2]);
}

#[test]
fn once_with_a_forced_snapshot_ends_while_somebody_writes() {
    let dir = with_database();
    dir.write("l.yml", "dbs:\n  - path: a.db\n    replica:\n      path: r\n      sync-interval: 5ms\n");
    let connection = rusqlite::Connection::open(dir.path("a.db")).expect("opened");
    connection.busy_timeout(Duration::from_secs(10)).expect("set");
    connection.pragma_update(None, "journal_mode", "wal").expect("set");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        let writer = scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                connection.execute("INSERT INTO t VALUES (2)", []).expect("inserted");
            }
        });
        let once = dir.litekeep(["replicate", "-once", "-force-snapshot", "-config", "l.yml"]).starts();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| once.ends(0)));
        over.store(true, Ordering::SeqCst);
        writer.join().expect("written");
        ended.expect("it ends");
    });
    assert_ne!(dir.files("r/ltx/9"), [""; 0]);
}

/// One that runs now and then, and never else: what it writes is old enough to go when it runs the next time.
#[test]
fn once_with_enforced_retention_does_the_chores_that_are_due_and_deletes_what_is_let_go() {
    let dir = with_database();
    let replica = dir.path("r").display().to_string();
    let config = |more: &str| {
        let dbs = format!("dbs:\n  - path: a.db\n    replica:\n      path: {replica}\n");
        dir.write("l.yml", format!("levels:\n  - interval: 1ms\nsnapshot:\n  interval: 1ms\n{more}{dbs}"));
    };
    let once = |flags: &[&str]| {
        let args = ["replicate", "-once", "-config", "l.yml"].iter().chain(flags);
        dir.litekeep(args).exits(0)
    };
    config("  retention: 24h\n");
    for value in 2..7 {
        insert(&dir.path("a.db"), value);
        once(&["-force-snapshot"]);
    }
    // as if it had lain there for a day
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for name in dir.files("r").iter().filter(|name| name.ends_with(".ltx")) {
        let file = fs::File::options().write(true).open(dir.path("r").join(name)).expect("opened");
        file.set_modified(old).expect("set");
    }
    let before = dir.files("r/ltx");
    config("  retention: 1ms\nretention:\n  enabled: false\n");
    once(&["-enforce-retention"])
        .out_has("retention is switched off (`retention: enabled`): nothing is deleted")
        .never_says("retention enforced");
    assert!(before.iter().all(|name| dir.path("r/ltx").join(name).exists()), "{before:?}");
    config("  retention: 1ms\n");
    once(&["-enforce-retention"]).out_has("msg=\"retention enforced\"").out_has(" deleted=");
    let after = dir.files("r/ltx");
    let gone = |name: &str| before.iter().any(|it| it == name) && !after.iter().any(|it| it == name);
    for name in ["0/0000000000000001-0000000000000001.ltx", "9/0000000000000001-0000000000000002.ltx"] {
        assert!(gone(name), "{name}: {before:?} {after:?}");
    }
    assert_eq!(restored(&dir), [1, 2, 3, 4, 5, 6]);
    // nothing is left to do, and that ends as well
    once(&["-enforce-retention"]).out_has(" deleted=0");
    assert_eq!(restored(&dir), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_reader_of_the_log_that_stalls_holds_up_neither_replication_nor_the_end() {
    let dir = with_database();
    let replica = url(&dir.path("r"));
    let (mut running, _reader) = dir.litekeep(["replicate", "a.db", &replica]).starts_unread();
    daemon::wait_for("first row in the replica", || dir.path("r/ltx/0").exists().then_some(()));
    insert(&dir.path("a.db"), 2);
    running.signal(Signal::TERM);
    running.ends(0);
    assert_eq!(restored(&dir), [1, 2]);
    // What ends at once, and with an error to tell, neither.
    let (running, _reader) = dir.litekeep(["replicate", "-once", "no.db", &replica]).starts_unread();
    running.ends(1);
    // Whoever reads only what goes to stderr reads why.
    let (running, _reader) = dir.litekeep(["replicate", "-once", "no.db", &replica]).starts_unlogged();
    running.ends(1).err_has("there is no database at");
}

#[test]
fn once_without_a_database_is_an_error() {
    let dir = Dir::new();
    dir.litekeep(["replicate", "-once", "a.db", &url(&dir.path("r"))])
        .exits(1)
        .err_has("there is no database at");
    dir.litekeep(["replicate", "-once", "no/such/a.db", &url(&dir.path("r"))])
        .exits(1)
        .err_has("there is no database at");
    assert!(!dir.path("no").exists());
}

#[test]
fn every_database_of_the_configuration_is_replicated() {
    let dir = with_database();
    make_database(&dir.path("b.db"));
    dir.write(
        "l.yml",
        "logging:\n  type: json\ndbs:\n  - path: a.db\n    replica:\n      path: r\n  - path: b.db\n    replica:\n      \
         path: q\n      bucket: bar\n",
    );
    let seen = dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0);
    for line in seen.out().lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            value["time"].is_string() && value["level"].is_string() && value["msg"].is_string(),
            "{line}"
        );
    }
    assert!(seen.out().contains("l.yml:10:15: bucket has no effect"), "{}", seen.all());
    for replica in ["r", "q"] {
        let out = format!("{replica}.db");
        dir.litekeep(["restore", "-o", &out, &url(&dir.path(replica))]).exits(0);
    }
    dir.litekeep(["status", "-config", "l.yml"]).exits(0).out_has(" ok ").out_has(" 0000000000000001 ");
}

#[test]
fn log_lines_go_where_they_are_told_and_hold_their_level() {
    let dir = with_database();
    dir.write(
        "l.yml",
        "logging:\n  stderr: true\n  level: error\ndbs:\n  - path: a.db\n    replica:\n      path: r\n",
    );
    let seen = dir.litekeep(["replicate", "-once", "-config", "l.yml"]).exits(0).silent_out();
    assert_eq!(seen.err(), "");
    let by_environment = dir.litekeep(["replicate", "-once", "-config", "l.yml"]).env("LOG_LEVEL", "info");
    by_environment.exits(0).silent_out().err_has("litekeep shut down");
    let run = dir
        .litekeep(["replicate", "-once", "-log-level", "error", "-config", "l.yml"])
        .env("LOG_LEVEL", "info");
    assert_eq!(run.exits(0).err(), "");
    let by_url = dir.litekeep(["replicate", "-once", "a.db", &url(&dir.path("r"))]).exits(0);
    assert_eq!(by_url.out_has("level=INFO msg=\"litekeep shut down\"").err(), "");
}

#[test]
fn snapshots_compactions_and_uploads_are_told_at_their_levels() {
    let dir = with_database();
    let replica = "levels: [{interval: 1s}]\ndbs:\n  - path: a.db\n    replica:\n      path: r\n";
    dir.write("l.yml", replica);
    let mut running = dir.litekeep(["replicate", "-config", "l.yml", "-log-level", "debug"]).starts();
    running.until("level=DEBUG msg=\"ltx file uploaded\"").until("level=INFO msg=\"snapshot complete\"");
    insert(&dir.path("a.db"), 2);
    running.until("level=INFO msg=\"compaction complete\"").signal(Signal::TERM);
    running.ends(0).out_has("level=INFO msg=\"replica sync complete\"");
}

#[test]
fn a_signal_ends_it_with_everything_in_the_replica() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let dir = with_database();
        let mut running = dir.litekeep(["replicate", "a.db", &url(&dir.path("r"))]).starts();
        running.until("initialized db");
        insert(&dir.path("a.db"), 2);
        // These are for a command, and there is none.
        running.signal(Signal::USR1).signal(Signal::USR2).signal(Signal::WINCH).signal(signal);
        running.ends(0).out_has("signal received, litekeep shutting down").out_has("litekeep shut down");
        assert_eq!(restored(&dir), [1, 2]);
    }
}

#[test]
fn r54_a_command_that_fails_is_synced_all_the_same_and_its_code_is_ours() {
    for code in [0, 7] {
        let dir = with_database();
        with_application(&dir, "2", "go", code).exits(code).out_has("application is there");
        assert_eq!(restored(&dir), [1, 2]);
    }
}

#[test]
fn r54_a_command_that_makes_its_database_and_ends_at_once_is_synced() {
    let dir = Dir::new();
    let mut running = with_application(&dir, "make", "go", 0).starts();
    running.until("application is there");
    running.ends(0);
    assert_eq!(restored(&dir), [1]);
}

#[test]
fn r54_a_command_that_fails_on_its_signal_is_synced_all_the_same() {
    for code in [0, 3] {
        let dir = with_database();
        let mut running = with_application(&dir, "2", "wait", code).starts();
        running.until("application is there").signal(Signal::TERM);
        running.ends(code).out_has("signal received");
        assert_eq!(restored(&dir), [1, 2]);
    }
}

#[test]
fn a_command_that_ends_by_the_signal_it_was_passed_is_no_failure() {
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        let dir = with_database();
        let command = "sh -c 'ulimit -c 0; echo ready; exec sleep 600'";
        let mut running =
            dir.litekeep(["replicate", "-exec", command, "a.db", &url(&dir.path("r"))]).starts();
        running.until("ready").signal(signal);
        running.ends(0);
        assert_eq!(restored(&dir), [1]);
    }
}

#[test]
fn whatever_signal_comes_reaches_the_command_and_leaves_no_command_without_its_backup() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = with_database();
        let mut running = with_application(&dir, "2", "wait", 0).starts();
        running.until("application is there");
        // What it goes on after may come again.
        for other in SURVIVED.into_iter().chain(SURVIVED) {
            running.signal(other).until(&format!("application was sent {}", other.as_raw()));
        }
        assert!(!running.seen().contains("shutting down"), "{}", running.seen());
        running.signal(signal).until(&format!("application was sent {}", signal.as_raw()));
        running.ends(0).out_has("signal received, litekeep shutting down");
        assert_eq!(restored(&dir), [1, 2], "{signal:?}");
    }
}

#[test]
fn a_hang_up_is_no_second_signal_and_none_at_all_where_it_is_ignored() {
    let dir = with_database();
    let mut running = cut_off(&dir, "1s");
    running.signal(Signal::TERM).until("signal received").signal(Signal::HUP).signal(Signal::HUP);
    let seen = running.ends(20).never_says("second signal");
    drop(seen.err_has("the last changes of "));
    let dir = with_database();
    let line = format!(
        "trap '' HUP; exec {} replicate a.db {}",
        env!("CARGO_BIN_EXE_litekeep"),
        url(&dir.path("r"))
    );
    let mut running = dir.run("/bin/sh", ["-c", &line]).starts();
    running.until("initialized db").signal(Signal::HUP).signal(Signal::TERM);
    running.ends(0).never_says("SIGHUP").out_has("signal=SIGTERM");
}

#[test]
fn the_last_sync_has_what_an_application_behind_a_shell_writes_at_its_end() {
    let sh = |line: &str| format!("sh -c \"{}\"", line.replace("APP", &the_application()));
    for (line, signal, code) in [
        // This shell dies of SIGTERM alone, and waits for whom it runs at SIGINT.
        ("APP; true", Some(Signal::TERM), 0),
        ("APP; true", Some(Signal::INT), 0),
        ("APP & until [ -e go ]; do sleep 0.05; done; exit 3", None, 3),
    ] {
        let dir = with_database();
        let orders = format!("{},2,wait,0", dir.path("a.db").display());
        let mut running = dir
            .litekeep(["replicate", "-exec", &sh(line), "a.db", &url(&dir.path("r"))])
            .env("LITEKEEP_TEST_APPLICATION", &orders)
            .starts();
        running.until("application is there");
        match signal {
            Some(signal) => drop(running.signal(signal)),
            None => drop(dir.write("go", "")),
        }
        running.until("application was sent");
        // What litekeep says of it may come later than what the application does.
        let seen = running.ends(code).all();
        assert_eq!(seen.contains("left processes behind"), signal != Some(Signal::INT), "{seen}");
        assert_eq!(restored(&dir), [1, 2], "{line} {signal:?}");
    }
}

#[test]
fn a_command_of_which_only_others_are_left_does_not_count_as_well() {
    let dir = with_database();
    let command = "sh -c \"trap '' TERM; sleep 600 & sleep 1; exit 3\"";
    dir.litekeep(["replicate", "-exec", command, "a.db", &url(&dir.path("r"))])
        .exits(3)
        .out_has("left processes behind: they are told SIGKILL")
        .never_says("the command is up");
}

#[test]
fn a_command_that_dies_of_a_signal_that_was_not_to_end_it_has_failed() {
    let dir = with_database();
    let command = "sh -c 'echo ready; exec sleep 600'";
    let mut running = dir.litekeep(["replicate", "-exec", command, "a.db", &url(&dir.path("r"))]).starts();
    running.until("ready").signal(Signal::USR1);
    running.ends(128 + Signal::USR1.as_raw());
    assert_eq!(restored(&dir), [1]);
}

#[test]
fn beside_a_command_litekeep_takes_the_descriptors_it_may_have_and_the_command_keeps_its_own_limit() {
    let dir = with_database();
    let wait = "until [ $(ulimit -Sn) = 200 ]; do sleep 0.1; done";
    dir.write("app", format!("grep 'open files' /proc/$PPID/limits\n{wait}\necho ready\nexec sleep 600\n"));
    let line = format!(
        "ulimit -n 300; ulimit -Sn 200; exec {} replicate -exec 'sh app' a.db {}",
        env!("CARGO_BIN_EXE_litekeep"),
        url(&dir.path("r"))
    );
    let mut running = dir.run("/bin/sh", ["-c", &line]).starts();
    running.until("Max open files");
    let limits = running.seen().lines().last().expect("a line").split_whitespace();
    let limits: Vec<u64> = limits.filter_map(|word| word.parse().ok()).collect();
    assert!(limits[0] > 290 && limits[1] == 300, "{limits:?}");
    running.until("ready").signal(Signal::TERM);
    running.ends(0);
}

#[test]
fn a_configuration_of_no_database_is_an_error_unless_some_may_come() {
    let dir = Dir::new();
    dir.write("l.yml", "dbs: []\n");
    dir.litekeep(["replicate", "-config", "l.yml"]).exits(1).err_has("there is no database to replicate");
    dir.write("l.yml", "socket:\n  enabled: true\n  path: l.sock\ndbs: []\n");
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("control socket listening").signal(Signal::TERM);
    running.ends(0);
}

#[test]
fn one_file_that_is_listed_twice_is_told_by_both_its_names() {
    let dir = with_database();
    std::os::unix::fs::symlink(dir.path("a.db"), dir.path("link.db")).expect("linked");
    fs::hard_link(dir.path("a.db"), dir.path("hard.db")).expect("linked");
    for other in ["link.db", "hard.db"] {
        let of = |path: &str| format!("  - path: {path}\n    replica:\n      path: r/{path}\n");
        dir.write("l.yml", format!("dbs:\n{}{}", of("a.db"), of(other)));
        for more in [&["-once"][..], &[], &["-exec", "touch ran"]] {
            dir.litekeep(["replicate", "-config", "l.yml"].iter().chain(more))
                .exits(1)
                .err_has(&format!("can't replicate {}: it is the same file as ", dir.path(other).display()))
                .err_has("list each file once");
        }
    }
    assert!(!dir.path("ran").exists());
}

#[test]
fn a_command_has_nothing_to_read_whatever_litekeep_could() {
    let dir = with_database();
    dir.write("names", "one\ntwo\n");
    let seen = dir
        .litekeep(["replicate", "-exec", "sh -c 'cat; echo end'", "a.db", &url(&dir.path("r"))])
        .reads(&dir.path("names"))
        .exits(0)
        .out_has("end");
    assert!(!seen.out().contains("one"), "it read what was not its own{}", seen.all());
}

#[test]
fn a_command_that_cannot_be_started_is_an_error() {
    let dir = with_database();
    dir.litekeep(["replicate", "-exec", "/no/such/program", "a.db", &url(&dir.path("r"))])
        .exits(1)
        .err_has("can't start the command");
    let command = "/no/such/app --password hush";
    dir.litekeep(["replicate", "-exec", command, "a.db", &url(&dir.path("r"))])
        .exits(1)
        .err_has("can't start the command `/no/such/app`: ")
        .never_says("hush");
}

/// A running daemon whose replica has just gone away, with a row that cannot go up.
fn cut_off(dir: &Dir, timeout: &str) -> crate::util::Running {
    let config = "dbs:\n  - path: a.db\n    replica:\n      path: r\n      sync-interval: 10ms\n";
    dir.write("l.yml", format!("shutdown-sync-timeout: {timeout}\n{config}"));
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("initialized db");
    while dir.litekeep(["ltx", "-json", &url(&dir.path("r"))]).exits(0).out() == "[]\n" {
        std::thread::yield_now();
    }
    fs::rename(dir.path("r"), dir.path("gone")).expect("moved");
    dir.write("r", "a file where the replica was");
    insert(&dir.path("a.db"), 2);
    running
}

#[test]
fn r55_changes_that_do_not_reach_the_replica_are_named_and_change_the_exit_code() {
    let dir = with_database();
    let mut running = cut_off(&dir, "1s");
    running.signal(Signal::TERM);
    running
        .ends(20)
        .out_has("msg=\"final sync failed\"")
        .err_has("Error: the last changes of ")
        .err_has("0000000000000002");
    fs::remove_file(dir.path("r")).expect("removed");
    fs::rename(dir.path("gone"), dir.path("r")).expect("moved back");
    dir.litekeep(["replicate", "-once", "a.db", &url(&dir.path("r"))]).exits(0);
    assert_eq!(restored(&dir), [1, 2], "what stayed behind goes up at the next start");
}

#[test]
fn r55_a_second_signal_ends_the_waiting() {
    let dir = with_database();
    let mut running = cut_off(&dir, "10m");
    insist(&mut running);
    running.ends(20);
}

#[test]
fn r55_the_echo_of_a_signal_does_not_cut_the_last_sync_short() {
    let dir = with_database();
    let mut running = cut_off(&dir, "1s");
    // As from `timeout`, or from a terminal and the wrapper in it; of two kinds, so that they do not become one.
    running.signal(Signal::TERM).signal(Signal::INT);
    running.ends(20).out_has("the last sync is under way").never_says("second signal");
}

/// Sends signals until one counts as the second.
fn insist(running: &mut crate::util::Running) {
    while !running.seen().contains("second signal received") {
        running.signal(Signal::TERM).until("signal received");
    }
}

#[test]
fn r55_the_first_signal_does_not_cut_the_last_sync_short_after_a_command_has_ended() {
    let dir = with_database();
    let command = "sh -c 'until [ -e go ]; do sleep 0.05; done'";
    let mut running = dir.litekeep(["replicate", "-exec", command, "a.db", &url(&dir.path("r"))]).starts();
    running.until("initialized db");
    // The replica is away from here on.
    fs::rename(dir.path("r"), dir.path("away")).expect("moved");
    dir.write("r", "");
    insert(&dir.path("a.db"), 2);
    dir.write("go", "");
    running.until("subprocess exited").signal(Signal::TERM);
    running.until("the last sync is under way");
    insist(&mut running);
    running.ends(20).err_has("the last changes of ");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long it took")]
fn a_command_that_removes_its_database_is_told_so_at_once() {
    let dir = with_database();
    let command = "sh -c 'until [ -e go ]; do sleep 0.05; done; rm a.db*'";
    let mut running = dir.litekeep(["replicate", "-exec", command, "a.db", &url(&dir.path("r"))]).starts();
    running.until("initialized db");
    while dir.litekeep(["ltx", "-json", &url(&dir.path("r"))]).exits(0).out() == "[]\n" {
        std::thread::yield_now();
    }
    dir.write("go", "");
    running.until("subprocess exited");
    let began = Instant::now();
    let seen = running.ends(20).err_has("a.db is gone").err_has("restore");
    assert!(began.elapsed() < Duration::from_secs(15), "{}", seen.all());
    for wrong in ["another instance", "they are in the local database"] {
        assert!(!seen.all().contains(wrong), "{}", seen.all());
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long it took")]
fn a_single_sync_that_gets_nowhere_ends_promptly_at_a_signal() {
    let dir = Dir::new();
    dir.write("a.db", [b"SQLite format 3\0".as_slice(), &[0x5a; 8176]].concat());
    let mut running = dir.litekeep(["replicate", "-once", "a.db", &url(&dir.path("r"))]).starts();
    running.until("trying again").signal(Signal::TERM);
    let began = Instant::now();
    let seen = running.ends(20).err_has("a signal came before the sync was done");
    assert!(began.elapsed() < Duration::from_secs(15), "{}", seen.all());
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long it took")]
fn a_command_that_was_not_started_yet_keeps_no_signal_waiting_for_a_store_that_does_not_answer() {
    let dir = with_database();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("its address"));
    let replica = format!("s3://bucket/path?endpoint={endpoint}&region=us-east-1");
    let keys = [("LITESTREAM_ACCESS_KEY_ID", "a"), ("LITESTREAM_SECRET_ACCESS_KEY", "b")];
    let litekeep = dir.litekeep(["replicate", "-exec", "true", "a.db", &replica]);
    let mut running = keys.iter().fold(litekeep, |it, (name, key)| it.env(name, key)).starts();
    // It has asked.
    let _asked = silent.accept().expect("a connection");
    running.signal(Signal::TERM);
    let began = Instant::now();
    running.ends(0).out_has("does not wait for the replica");
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_command_that_waits_for_a_replica_that_cannot_be_asked_is_told_with_its_database_and_the_error() {
    use s3test::{ACCESS_KEY, BUCKET, Fault, Profile, REGION, SECRET_KEY, Server};
    let server = Server::start(Profile::Aws).expect("started");
    // One that is there, and one that is for the command to make.
    for there in [true, false] {
        let dir = if there { with_database() } else { Dir::new() };
        server.add_rule(daemon::everything(Fault::ResetBefore));
        let replica = format!("s3://{BUCKET}/{there}?endpoint={}&region={REGION}", server.endpoint());
        let mut running = dir
            .litekeep(["replicate", "-exec", "touch ran", "a.db", &replica])
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .starts();
        let words = "level=WARN msg=\"the command waits: the replica cannot be asked who owns it\"";
        running.until(words);
        let line = running.seen().lines().last().unwrap_or_default().to_owned();
        assert!(line.contains("a.db ") && line.contains(" error="), "{line}");
        assert!(!dir.path("ran").exists());
        server.clear_rules();
        let seen = running.ends(0);
        assert!(dir.path("ran").exists());
        assert_eq!(seen.out().matches(words).count(), 1, "{}", seen.all());
    }
}

/// Somebody tidies up, or puts another file in the database's place by hand, while all goes on.
#[test]
fn what_lies_beside_a_database_may_be_removed_by_hand_and_what_is_committed_then_is_replicated() {
    let new = Dir::new();
    make_database(&new.path("new.db"));
    insert(&new.path("new.db"), 7);
    for (name, replaced, removed) in [
        ("the index", false, &["-shm"][..]),
        ("the WAL", false, &["-wal"]),
        ("both", false, &["-wal", "-shm"]),
        ("after another database was moved there", true, &["-wal", "-shm"]),
    ] {
        let dir = with_database();
        let database = dir.path("a.db");
        let mut running = dir.litekeep(["replicate", "a.db", &url(&dir.path("r"))]).starts();
        running.until("snapshot complete");
        insert(&database, 2);
        if replaced {
            fs::copy(new.path("new.db"), dir.path("new.db")).expect("copied");
            fs::rename(dir.path("new.db"), &database).expect("moved");
            running.until("the database file was replaced");
        }
        for suffix in removed {
            fs::remove_file(format!("{}{suffix}", database.display())).expect("removed");
        }
        // Until the daemon has let go of the old ones, a new connection may be refused.
        insert_in_time(&database, 3);
        // A WAL that is gone may be missed sooner, by a read; and after a move both may be gone before they were opened.
        if removed == ["-shm"] {
            running.until("was removed or replaced while it was in use");
        }
        insert_in_time(&database, 4);
        running.signal(Signal::TERM);
        running.ends(0);
        let there = values(&database);
        assert!(there.ends_with(&[3, 4]) || there == [1, 3, 4, 7], "{name}: {there:?}");
        assert_eq!(restored(&dir), there, "{name}");
    }
}

/// A connection from before goes on in a WAL without a name, and writes from there into the database: no frame tells of it.
#[test]
fn what_a_connection_from_before_writes_past_a_new_wal_is_found_at_the_end() {
    let dir = with_database();
    let database = dir.path("a.db");
    let mut running = dir.litekeep(["replicate", "a.db", &url(&dir.path("r"))]).starts();
    running.until("snapshot complete");
    insert(&database, 2);
    let old = rusqlite::Connection::open(&database).expect("opened");
    old.query_row("SELECT count(*) FROM t", [], |_| Ok(())).expect("read");
    for suffix in ["-shm", "-wal"] {
        fs::remove_file(format!("{}{suffix}", database.display())).expect("removed");
    }
    // It has files of its own again.
    running.until("compared the database with the replica's last state");
    old.execute("INSERT INTO t VALUES (3)", []).expect("inserted");
    let left: i64 = old
        .query_row("PRAGMA wal_checkpoint", [], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
        .expect("run");
    assert_eq!(left, 0, "it is in the database");
    running.signal(Signal::TERM);
    running.ends(0);
    assert!(restored(&dir).ends_with(&[3]), "{:?}", restored(&dir));
}

/// As [`insert`], tried again for a while.
#[allow(clippy::disallowed_methods, reason = "a deadline")]
fn insert_in_time(database: &Path, value: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let connection = rusqlite::Connection::open(database).expect("opened");
        match connection.execute("INSERT INTO t VALUES (?1)", [value]) {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn r56_a_timeout_of_zero_is_one_try() {
    let dir = with_database();
    dir.write("l.yml", "shutdown-sync-timeout: 0\ndbs:\n  - path: a.db\n    replica:\n      path: r\n");
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("initialized db");
    insert(&dir.path("a.db"), 2);
    running.signal(Signal::TERM);
    running.ends(0);
    assert_eq!(restored(&dir), [1, 2]);
}

#[test]
fn r26b_a_missing_database_starts_fresh_only_over_a_replica_that_is_confirmed_empty() {
    for (name, code, dir) in not_empty() {
        let replica = url(&dir.path("r"));
        let before = dir.files(".");
        let args = ["replicate", "-restore-if-db-not-exists", "-exec", "touch ran", "a.db", &replica];
        let seen = dir.litekeep(args).exits(code).err_has("Error: ");
        assert_eq!(dir.files("."), before, "{name}{}", seen.all());
    }
    let dir = with_database();
    dir.litekeep(["replicate", "-once", "a.db", &url(&dir.path("r"))]).exits(0);
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let _ = fs::remove_file(dir.path(name));
    }
    fs::remove_dir_all(dir.path(".a.db-litekeep")).expect("removed");
    let slots = dir.files("r/ltx");
    dir.litekeep(["replicate", "-restore-if-db-not-exists", "-once", "a.db", &url(&dir.path("r"))])
        .exits(0)
        .out_has("attempting restore before replication")
        .out_has("restore completed");
    assert_eq!(dir.files("r/ltx"), slots, "a restored database uploads nothing that is there");
    dir.litekeep(["replicate", "-restore-if-db-not-exists", "-once", "a.db", &url(&dir.path("r"))])
        .exits(0)
        .out_has("database exists, skipping restore");
    let empty = Dir::new();
    empty
        .litekeep([
            "replicate",
            "-restore-if-db-not-exists",
            "-exec",
            "touch ran",
            "a.db",
            &url(&empty.path("r")),
        ])
        .exits(0)
        .out_has("no matching backups found")
        .out_has("no backup found, starting fresh");
    assert!(empty.path("ran").exists());
}

#[test]
fn a_signal_during_a_restore_ends_it_and_nothing_is_begun_behind_it_also_as_pid_1() {
    for args in [
        &["restore", "-o", "a.db"][..],
        &["restore", "-f", "-o", "a.db"],
        &["replicate", "-restore-if-db-not-exists", "a.db"],
        &["replicate", "-restore-if-db-not-exists", "-exec", "touch ran", "a.db"],
    ] {
        for (signal, first) in [(Signal::TERM, false), (Signal::INT, false), (Signal::TERM, true)] {
            let dir = Dir::new();
            let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
            let endpoint = silent.local_addr().expect("an address");
            let command = dir.litekeep(args).arg(format!("s3://b/p?endpoint=http://{endpoint}&region=x"));
            let command = command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "key");
            let Some(command) = (if first { command.pid_1() } else { Some(command) }) else { continue };
            let mut running = command.starts();
            let _asked = silent.accept().expect("it asks");
            if first {
                running.signal_its_child(signal)
            } else {
                running.signal(signal)
            };
            running.ends(128 + signal.as_raw());
            assert_eq!(dir.files("."), Vec::<String>::new(), "{args:?}");
        }
    }
}

#[test]
fn as_pid_1_it_takes_the_ends_of_orphans_and_never_that_of_its_command() {
    let dir = with_database();
    let script = "orphan=$(sh -c 'true & echo $!'); echo \"orphan $orphan\"; while [ -e /proc/$orphan ]; do sleep 0.01; done; \
                  echo taken; exit 3";
    dir.write("orphan.sh", script);
    let command = dir.litekeep(["replicate", "-exec", "sh orphan.sh", "a.db", &url(&dir.path("r"))]);
    let Some(command) = command.pid_1() else { return };
    let mut running = command.starts();
    running.until("taken");
    running.ends(3);
}

#[test]
fn r26b_no_command_makes_a_database_beside_a_replica_that_is_not_empty() {
    for (name, code, dir) in not_empty() {
        let seen = dir.litekeep(["replicate", "-exec", "touch ran", "a.db", &url(&dir.path("r"))]);
        let seen = seen.exits(code).err_has("Error: ");
        assert!(!dir.path("ran").exists(), "{name}{}", seen.all());
    }
}

#[test]
fn a_database_that_is_not_the_replicas_is_refused_and_its_command_ended() {
    let dir = with_database();
    let replica = url(&dir.fixture("v5-page1024"));
    let args = ["replicate", "-exec", "sleep 600", "a.db", &replica];
    dir.litekeep(args)
        .exits(22)
        .err_has("does not continue the replica")
        .err_has("; to keep the replica's history, move");
}

#[test]
fn a_second_daemon_on_the_same_database_is_refused() {
    let dir = with_database();
    let replica = url(&dir.path("r"));
    let mut running = dir.litekeep(["replicate", "a.db", &replica]).starts();
    running.until("initialized db");
    dir.litekeep(["replicate", "-once", "a.db", &replica])
        .exits(1)
        .err_has("another litekeep replicates this database");
    running.signal(Signal::TERM);
    running.ends(0);
}

#[test]
fn r55_a_replica_that_was_never_reached_is_no_success_and_secrets_are_in_no_log_line() {
    let dir = with_database();
    let mut running = dir
        .litekeep([
            "replicate",
            "-log-level",
            "trace",
            "a.db",
            "s3://b/p?endpoint=http://127.0.0.1:9&region=x",
        ])
        .env("AWS_ACCESS_KEY_ID", "hush-id")
        .env("AWS_SECRET_ACCESS_KEY", "hush")
        .starts();
    running.until("a request has no success yet").signal(Signal::TERM);
    running.until("signal received").signal(Signal::TERM);
    running.ends(20).never_says("hush").err_has("the last changes of ");
}
