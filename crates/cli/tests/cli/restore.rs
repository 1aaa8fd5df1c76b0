//! `litekeep restore`: outcomes, exit codes, and what is left behind.

use crate::util::{Dir, Seen, fixtures};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

pub(crate) fn url(replica: &Path) -> String {
    format!("file://{}", replica.display())
}

pub(crate) fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest() -> Value {
    let text = fs::read_to_string(fixtures().join("manifest.json")).expect("the manifest");
    serde_json::from_str(&text).expect("JSON")
}

fn json(seen: &Seen) -> Value {
    serde_json::from_str(&seen.out()).unwrap_or_else(|error| panic!("{error}{}", seen.all()))
}

#[test]
fn every_sample_replica_restores_to_the_same_bytes_as_with_litestream() {
    for (name, set) in manifest()["sets"].as_object().expect("sets") {
        if set["restore"]["latest"].is_null() {
            continue;
        }
        let dir = Dir::new();
        let replica = url(&dir.fixture(name));
        for (target, expected) in set["restore"].as_object().expect("targets") {
            let out = format!("{target}.db");
            let mut args = vec!["restore", "-o", &out];
            if target != "latest" {
                args.extend(["-txid", target]);
            }
            args.push(&replica);
            let seen = dir.litekeep(args).exits(0).silent_out().err_has("restore complete");
            assert_eq!(digest(&dir.path(&out)), expected["sha256"], "{name} {target}{}", seen.all());
        }
    }
}

#[test]
fn a_restore_says_what_it_did() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-replicate"));
    let seen = dir
        .litekeep(["restore", "--o=a.db", &replica])
        .exits(0)
        .err_has("level=INFO msg=\"renaming database from temporary location\"")
        .err_has("msg=\"restore complete\"");
    for field in [
        "txid=0000000000000013",
        "bytes=",
        "elapsed=",
        "rate=",
        "verified=integrity_check",
        "replica=file://",
    ] {
        assert!(seen.err().contains(field), "{field}{}", seen.all());
    }
    let report = json(&dir.litekeep(["restore", "-json", "-o", "b.db", &replica]).exits(0));
    assert_eq!(report["outcome"], "restored");
    assert_eq!(report["txid"], "0000000000000013");
    assert_eq!((&report["replica"], &report["location"]), (&"file".into(), &replica.as_str().into()));
    assert_eq!(report["database_bytes"], fs::metadata(dir.path("b.db")).expect("there").len());
    assert!(
        report["duration_ms"].is_u64()
            && report["db_path"].as_str().is_some_and(|path| path.ends_with("/b.db"))
    );
}

#[test]
fn a_restore_says_which_check_sqlite_made_and_whether_a_seal_vouches() {
    let dir = Dir::new();
    let theirs = url(&dir.fixture("v5-replicate"));
    make_database(&dir.path("a.db"));
    let ours = url(&dir.path("r"));
    dir.litekeep(["replicate", "-once", "a.db", &ours]).exits(0);
    for (replica, asked, made, sealed) in [
        (&theirs, "auto", "full", false),
        (&theirs, "none", "none", false),
        (&theirs, "quick", "quick", false),
        (&ours, "auto", "none", true),
        (&ours, "none", "none", true),
        (&ours, "quick", "quick", true),
        (&ours, "full", "full", true),
    ] {
        let args = ["restore", "-force", "-json", "-integrity-check", asked, "-o", "b.db", replica];
        let report = json(&dir.litekeep(args).exits(0));
        assert_eq!(
            (&report["integrity_check"], &report["sealed"]),
            (&made.into(), &sealed.into()),
            "{asked} {report}"
        );
    }
}

#[test]
fn a_v3_backup_restores_by_generation_and_by_time() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v3-basic"));
    let sets = &manifest()["sets"]["v3-basic"]["restore"];
    dir.litekeep(["restore", "-o", "latest.db", &replica]).exits(0).err_has("source=\"v0.3 8492e2dddad4a752");
    for generation in ["8492e2dddad4a752", "f1fb474efcdf47c6"] {
        let out = format!("{generation}.db");
        dir.litekeep(["restore", "-generation", generation, "-o", &out, &replica]).exits(0);
        assert_eq!(digest(&dir.path(&out)), sets[generation]["latest"]["sha256"], "{generation}");
    }
    assert_eq!(digest(&dir.path("latest.db")), sets["8492e2dddad4a752"]["latest"]["sha256"]);
    dir.litekeep(["restore", "-timestamp", "2020-01-01T00:00:00Z", "-o", "x.db", &replica]).exits(15);
    let other = ["restore", "-generation", "0123456789abcdef", "-o", "x.db", &replica];
    dir.litekeep(other).exits(15).err_has("no matching backups found");
    assert!(!dir.path("x.db").exists());
}

#[test]
fn a_v3_backup_restores_to_the_end_of_each_wal_that_is_named() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v3-basic"));
    let sets = &manifest()["sets"]["v3-basic"]["restore"];
    for (generation, set) in sets.as_object().expect("generations") {
        for (index, expected) in set["after_index"].as_object().expect("indexes") {
            let out = format!("{generation}-{index}.db");
            let index = ["-index", index.trim_start_matches('0')];
            let index = if index[1].is_empty() { ["-index", "0"] } else { index };
            let args = ["restore", "-generation", generation, index[0], index[1], "-o", &out, &replica];
            dir.litekeep(args).exits(0);
            assert_eq!(digest(&dir.path(&out)), expected["sha256"], "{out}");
        }
    }
    for (flags, why) in [
        (&["-index", "1"][..], "-index needs -generation"),
        (&["-generation", "8492e2dddad4a752", "-index", "+1"], "is not the number of a WAL"),
        (&["-generation", "8492e2dddad4a752", "-index", "123456789"], "is not the number of a WAL"),
        (
            &["-generation", "8492e2dddad4a752", "-index", "1", "-timestamp", "2020-01-01T00:00:00Z"],
            "-index and -timestamp can't both be given",
        ),
    ] {
        let args = ["restore"].iter().chain(flags).copied().chain(["-o", "x.db", replica.as_str()]);
        dir.litekeep(args).exits(1).err_has(why);
    }
    let missing = ["restore", "-generation", "8492e2dddad4a752", "-index", "77", "-o", "x.db", &replica];
    dir.litekeep(missing).exits_not(0).err_has("`litekeep wal`").never_says("litekeep ltx");
    assert!(!dir.path("x.db").exists());
}

#[test]
fn an_empty_replica_is_its_own_outcome() {
    let dir = Dir::new();
    fs::create_dir(dir.path("r")).expect("made");
    let replica = url(&dir.path("r"));
    dir.litekeep(["restore", "-o", "a.db", &replica])
        .exits(10)
        .err_has("Error: no matching backups found at file://")
        .err_has("; no matching backup files available: nothing was ever replicated to this path\n")
        .silent_out();
    dir.litekeep(["restore", "-if-replica-exists", "-o", "a.db", &replica])
        .exits(0)
        .err_has("level=INFO msg=\"no matching backups found\"");
    let seen = dir.litekeep(["restore", "-if-replica-exists", "-json", "-o", "a.db", &replica]).exits(0);
    assert_eq!(json(&seen)["outcome"], "replica empty");
    assert_eq!(dir.files("."), Vec::<String>::new());
}

#[test]
fn a_time_that_is_still_to_come_means_the_newest_state() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-replicate"));
    dir.litekeep(["restore", "-o", "newest.db", &replica]).exits(0);
    dir.litekeep(["restore", "-timestamp", "2999-01-01T00:00:00Z", "-o", "later.db", &replica]).exits(0);
    assert_eq!(digest(&dir.path("later.db")), digest(&dir.path("newest.db")));
}

#[test]
fn an_empty_replica_names_its_neighbours() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-page1024");
    let beside = url(&replica.with_file_name("replcia"));
    fs::create_dir(replica.with_file_name("replcia")).expect("made");
    dir.litekeep(["restore", "-o", "a.db", &beside])
        .exits(10)
        .err_has("a replica lies at")
        .err_has("/replica");
    // What Litestream keeps beside a database looks like a replica, and is no backup.
    let dir = Dir::new();
    let local = dir.path(".p.db-litestream");
    fs::rename(dir.fixture("v5-page1024"), &local).expect("moved");
    dir.litekeep(["restore", "-o", "a.db", &url(&dir.path("r"))])
        .exits(10)
        .err_has("nothing was ever replicated to this path")
        .never_says("a replica lies at");
}

/// Replicas that are anything but confirmed empty, each with how it fails.
pub(crate) fn not_empty() -> Vec<(&'static str, i32, Dir)> {
    let wiped = Dir::new();
    wiped.write("r/epochs/00000001.json", "{}");
    wiped.write("r/epochs/00000001.open.json", "{}");
    let no_directory = Dir::new();
    no_directory.write("r", "a file where a directory was meant");
    let truncated = Dir::new();
    let replica = truncated.fixture("v5-page1024");
    fs::rename(&replica, truncated.path("r")).expect("moved");
    let slots = fs::read_dir(truncated.path("r/ltx/0")).expect("listed");
    let levels = fs::read_dir(truncated.path("r/ltx/9")).expect("listed");
    for entry in slots.chain(levels) {
        let path = entry.expect("an entry").path();
        let content = fs::read(&path).expect("read");
        fs::write(&path, &content[..content.len() - 1]).expect("cut");
    }
    let gap = Dir::new();
    let replica = gap.fixture("v5-page1024");
    fs::rename(&replica, gap.path("r")).expect("moved");
    fs::remove_dir_all(gap.path("r/ltx/9")).expect("removed");
    fs::remove_file(gap.path("r/ltx/0/0000000000000001-0000000000000001.ltx")).expect("removed");
    for level in ["1", "2", "3"] {
        let _ = fs::remove_dir_all(gap.path(&format!("r/ltx/{level}")));
    }
    let other_layout = Dir::new();
    let replica = other_layout.fixture("v5-page1024");
    fs::create_dir(other_layout.path("r")).expect("made");
    for level in 0..10 {
        let _ =
            fs::rename(replica.join(format!("ltx/{level}")), other_layout.path(&format!("r/{level:04x}")));
    }
    vec![
        ("wiped", 11, wiped),
        ("no directory", 13, no_directory),
        ("truncated", 12, truncated),
        ("gap", 12, gap),
        ("other layout", 12, other_layout),
    ]
}

#[test]
fn what_the_replica_does_not_have_is_told_in_litestreams_words() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-page1024");
    for (flag, value, words) in [
        ("-txid", "00000000000000ff", "transaction not available: 00000000000000ff"),
        ("-timestamp", "2001-01-01T00:00:00Z", "timestamp does not exist"),
    ] {
        dir.litekeep(["restore", "-o", "a.db", flag, value, &url(&replica)]).exits(15).err_has(words);
    }
    let gap = not_empty().into_iter().find(|(name, _, _)| *name == "gap").expect("it is there").2;
    gap.litekeep(["restore", "-o", "a.db", &url(&gap.path("r"))])
        .exits(12)
        .err_has("non-contiguous ltx files");
}

#[test]
fn r26b_whatever_is_not_confirmed_empty_is_an_error_under_every_flag() {
    for (name, code, dir) in not_empty() {
        let before = dir.files(".");
        let replica = url(&dir.path("r"));
        for flags in [&[] as &[&str], &["-if-db-not-exists"], &["-json"], &["-force"]] {
            let args = [&["restore"], flags, &["-o", "a.db", &replica]].concat();
            let seen = dir.litekeep(args).exits(code).err_has("Error: ").err_has("; ").silent_out();
            assert_eq!(dir.files("."), before, "{name}: something was left behind{}", seen.all());
        }
    }
}

#[test]
fn r26b_if_replica_exists_lets_pass_only_what_is_confirmed_empty() {
    for (name, _, dir) in not_empty() {
        let replica = url(&dir.path("r"));
        let seen = dir.litekeep(["restore", "-if-replica-exists", "-o", "a.db", &replica]).exits_not(0);
        assert!(!dir.path("a.db").exists(), "{name}{}", seen.all());
    }
}

#[test]
fn r50_files_in_the_other_layout_are_named() {
    let (_, _, dir) = not_empty().pop().expect("the last one");
    let replica = url(&dir.path("r"));
    dir.litekeep(["restore", "-o", "a.db", &replica]).exits(12).err_has("layout of the other kind of store");
}

#[test]
fn r26b_s3_that_cannot_be_reached_is_no_empty_replica() {
    let dir = Dir::new();
    // Nothing listens on the discard port of the loopback, and the request is refused at once.
    let seen = dir
        .litekeep([
            "restore",
            "-if-replica-exists",
            "-o",
            "a.db",
            "s3://b/p?endpoint=http://127.0.0.1:9&region=x",
        ])
        .env("AWS_ACCESS_KEY_ID", "hush-id")
        .env("AWS_SECRET_ACCESS_KEY", "hush")
        .exits(13)
        .never_says("hush");
    assert!(
        seen.err().contains("Error: the replica cannot be reached") && dir.files(".").is_empty(),
        "{}",
        seen.all()
    );
}

#[test]
fn a_state_that_is_not_there_is_told_from_damage() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-replicate"));
    for flags in [["-txid", "00000000000000ff"], ["-timestamp", "2001-01-01T00:00:00Z"]] {
        let args = ["restore", flags[0], flags[1], "-o", "a.db", &replica];
        dir.litekeep(args).exits(15).err_has("Error: ").silent_out();
        assert!(!dir.path("a.db").exists());
    }
}

#[test]
fn a_database_that_is_there_stays() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-page1024"));
    dir.write("a.db", "old");
    dir.litekeep(["restore", "-o", "a.db", &replica])
        .exits(14)
        .err_has("output path already exists")
        .err_has("-force");
    dir.litekeep(["restore", "-if-db-not-exists", "-o", "a.db", &replica])
        .exits(0)
        .err_has("database already exists, skipping");
    let seen = dir.litekeep(["restore", "-if-db-not-exists", "-json", "-o", "a.db", &replica]).exits(0);
    assert_eq!(json(&seen)["outcome"], "database exists");
    assert_eq!(fs::read(dir.path("a.db")).expect("there"), b"old");
}

#[test]
fn a_restored_database_may_be_read_by_whom_the_umask_lets() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-page1024"));
    for (umask, want) in [("022", 0o644), ("027", 0o640), ("077", 0o600)] {
        let (program, name) = (env!("CARGO_BIN_EXE_litekeep"), format!("{umask}.db"));
        let script = format!("umask {umask}; exec '{program}' restore -o {name} '{replica}'");
        dir.run("sh", ["-c", &script]).exits(0);
        let metadata = fs::metadata(dir.path(&name)).expect("restored");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, want, "{umask}");
    }
}

#[test]
fn a_link_is_followed_to_its_volume_and_stays_a_link() {
    use std::os::unix::fs::symlink;
    let want = &manifest()["sets"]["v5-page1024"]["restore"]["latest"]["sha256"];
    let scene = |target: &str| {
        let dir = Dir::new();
        for folder in ["vol", "links"] {
            fs::create_dir(dir.path(folder)).expect("made");
        }
        symlink(target, dir.path("links/app.db")).expect("linked");
        symlink("links/app.db", dir.path("app.db")).expect("linked");
        let replica = dir.fixture("v5-page1024");
        (dir, replica)
    };
    let there = |dir: &Dir, name: &str| {
        for link in ["app.db", "links/app.db"] {
            assert!(dir.path(link).is_symlink(), "{link} is a link no more");
        }
        assert_eq!(digest(&dir.path(name)), *want);
        assert!(
            !dir.path(".app.db-litekeep").exists(),
            "the state lies beside the file, where SQLite has its WAL"
        );
    };
    for old in [false, true] {
        let (dir, replica) = scene("../vol/real.db");
        if old {
            make_database(&dir.path("vol/real.db"));
            dir.litekeep(["restore", "-o", "app.db", &url(&replica)]).exits(14).err_has("already exists");
        }
        let force = if old { &["-force"] as &[&str] } else { &[] };
        dir.litekeep([&["restore"], force, &["-o", "app.db", &url(&replica)]].concat()).exits(0);
        there(&dir, "vol/real.db");
    }
    let (dir, replica) = scene("../vol/new/real.db");
    dir.litekeep(["restore", "-o", "app.db", &url(&replica)]).exits(0);
    there(&dir, "vol/new/real.db");

    let (dir, replica) = scene("../vol/real.db");
    dir.write("l.yml", format!("dbs: [{{path: app.db, replica: {{path: {}}}}}]", replica.display()));
    let before = dir.files("v5-page1024/replica/ltx/0");
    dir.litekeep(["replicate", "-once", "-restore-if-db-not-exists", "-config", "l.yml"])
        .exits(0)
        .out_has("restore completed");
    let connection = rusqlite::Connection::open(dir.path("vol/real.db")).expect("opened");
    connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).expect("a database");
    assert!(dir.path("app.db").is_symlink() && !dir.path(".app.db-litekeep").exists());
    assert_eq!(dir.files("v5-page1024/replica/ltx/0"), before, "nothing goes up that is there");
}

#[test]
fn what_is_no_file_is_never_replaced() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-page1024"));
    fs::create_dir(dir.path("folder")).expect("made");
    let fifo = |name: &str| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, dir.path(name), rustix::fs::FileType::Fifo, mode, 0)
            .expect("made");
    };
    fifo("pipe");
    let _socket = std::os::unix::net::UnixListener::bind(dir.path("socket")).expect("bound");
    for (link, target) in
        [("to-pipe", "pipe"), ("to-folder", "folder"), ("round", "about"), ("about", "round")]
    {
        std::os::unix::fs::symlink(target, dir.path(link)).expect("linked");
    }
    for (name, said) in [
        ("pipe", "pipe is a FIFO"),
        ("to-pipe", "pipe is a FIFO"),
        ("socket", "socket is a socket"),
        ("folder", "folder is a directory"),
        ("to-folder", "folder is a directory"),
        ("round", "round is a link that leads in a circle"),
    ] {
        let kind = |name: &str| fs::symlink_metadata(dir.path(name)).expect("there").file_type();
        let before = kind(name);
        for flags in [&[] as &[&str], &["-force"], &["-if-db-not-exists"], &["-if-replica-exists"]] {
            let args = [&["restore"], flags, &["-o", name, &replica]].concat();
            dir.litekeep(args).exits(14).silent_out().err_has("cannot restore, ").err_has(said);
            assert_eq!(kind(name), before, "{name} {flags:?}");
        }
    }
}

#[test]
fn any_number_of_downloads_may_be_asked_for_and_what_is_made_of_it_is_told() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-page1024"));
    for (text, taken) in
        [("100", Some(64)), ("0", Some(1)), ("-3", Some(1)), ("0x41", Some(64)), ("0x10", None), ("64", None)]
    {
        let flag = format!("-parallelism={text}");
        let seen = dir.litekeep(["restore", "-force", "-o", "a.db", &flag, &replica]).exits(0);
        let told = seen.err().lines().filter(|line| line.contains("-parallelism")).count();
        assert_eq!(told, usize::from(taken.is_some()), "{text}{}", seen.all());
        if let Some(taken) = taken {
            seen.err_has(&format!(" parallelism={taken}"));
        }
    }
}

#[test]
fn r48_side_files_of_another_database_stop_a_restore() {
    for suffix in ["-wal", "-shm", "-journal"] {
        let dir = Dir::new();
        let replica = url(&dir.fixture("v5-page1024"));
        dir.write(&format!("a.db{suffix}"), "stale");
        dir.litekeep(["restore", "-o", "a.db", &replica]).exits(14).err_has(suffix);
        assert!(!dir.path("a.db").exists());
    }
}

#[test]
fn r49_a_directory_that_is_missing_is_made() {
    let dir = Dir::new();
    let replica = url(&dir.fixture("v5-page1024"));
    dir.litekeep(["restore", "-o", "x/y/a.db", &replica]).exits(0);
    assert!(dir.path("x/y/a.db").exists());
}

#[test]
fn force_keeps_the_old_file_until_the_new_one_stands() {
    for (name, code, dir) in not_empty() {
        make_database(&dir.path("a.db"));
        let old = digest(&dir.path("a.db"));
        let replica = url(&dir.path("r"));
        for flags in [&["-force"] as &[&str], &["-force", "-if-replica-exists"]] {
            let args = [&["restore"], flags, &["-o", "a.db", &replica]].concat();
            let seen = dir.litekeep(args).exits_not(0);
            assert_eq!(digest(&dir.path("a.db")), old, "{name} ({code}){}", seen.all());
        }
    }
    let dir = Dir::new();
    make_database(&dir.path("a.db"));
    fs::create_dir(dir.path("empty")).expect("made");
    let old = digest(&dir.path("a.db"));
    let empty = url(&dir.path("empty"));
    dir.litekeep(["restore", "-force", "-if-replica-exists", "-o", "a.db", &empty]).exits(0);
    assert_eq!(digest(&dir.path("a.db")), old, "an empty replica replaces nothing");
    let replica = url(&dir.fixture("v5-page1024"));
    dir.litekeep(["restore", "-force", "-o", "a.db", &replica]).exits(0);
    assert_eq!(digest(&dir.path("a.db")), manifest()["sets"]["v5-page1024"]["restore"]["latest"]["sha256"]);
}

pub(crate) fn make_database(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("opened");
    connection.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1)").expect("written");
}

#[test]
fn a_dry_run_prints_the_plan_and_does_nothing() {
    let dir = Dir::new();
    let (replica, v3) = (url(&dir.fixture("v5-replicate")), url(&dir.fixture("v3-basic")));
    let before = dir.files(".");
    // What 0.5.17 prints of this replica, with its place and format between.
    let text = dir.litekeep(["restore", "-dry-run", "-o", "a.db", &replica]).exits(0).out();
    let wanted = format!(
        "Restore plan:\n  source: {replica}\n  target: {}\n  replica: file\n  \
         txid range: 0000000000000001 - 0000000000000013\n  location: {replica}\n  format: ltx\n\nFiles to fetch:\n\
         level  file                                   min_txid          max_txid          size  timestamp\n\
         9      0000000000000001-0000000000000012.ltx  0000000000000001  0000000000000012  3000  2026-11-23T08:47:29Z\n\
         0      0000000000000013-0000000000000013.ltx  0000000000000013  0000000000000013  1110  2026-11-23T08:47:29Z\n",
        dir.path("a.db").display()
    );
    assert_eq!(text, wanted);
    dir.litekeep(["restore", "-dry-run", "-o", "a.db", &v3])
        .exits(0)
        .out_has("  txid range: -\n")
        .out_has("v0.3");
    let plan = json(&dir.litekeep(["restore", "-dry-run", "-json", "-o", "a.db", &replica]).exits(0));
    assert_eq!((&plan["source"], &plan["format"]), (&replica.as_str().into(), &"ltx".into()));
    assert_eq!((&plan["replica"], &plan["max_txid"]), (&"file".into(), &"0000000000000013".into()));
    let files = plan["files"].as_array().expect("files");
    let names: Vec<String> =
        files.iter().map(|f| format!("{}/{}", f["level"], f["name"].as_str().expect("a name"))).collect();
    assert_eq!(
        names,
        ["9/0000000000000001-0000000000000012.ltx", "0/0000000000000013-0000000000000013.ltx"],
        "{plan}"
    );
    let size = fs::metadata(dir.path("v5-replicate/replica/ltx").join(&names[0])).expect("there").len();
    assert_eq!(files[0]["size"], size);
    assert_eq!(dir.files("."), before);
}

#[test]
fn a_configured_database_restores_to_its_own_path_or_elsewhere() {
    let dir = Dir::new();
    let replica = dir.fixture("v5-page1024");
    dir.write(
        "l.yml",
        format!("dbs:\n  - path: data/a.db\n    replica:\n      path: {}\n", replica.display()),
    );
    dir.litekeep(["restore", "-config", "l.yml", "data/a.db"]).exits(0);
    dir.litekeep(["restore", "-config", "l.yml", "-o", "b.db", "data/a.db"]).exits(0);
    assert_eq!(digest(&dir.path("data/a.db")), digest(&dir.path("b.db")));
    dir.litekeep(["restore", "-config", "l.yml", "c.db"]).exits(1).err_has("database not found in config: ");
}

#[test]
fn r45_twenty_failed_restores_leave_nothing() {
    let (_, _, dir) = not_empty().swap_remove(2);
    let before = dir.files(".");
    let replica = url(&dir.path("r"));
    for _ in 0..20 {
        dir.litekeep(["restore", "-o", "out/a.db", &replica]).exits(12);
    }
    assert_eq!(dir.files("."), before);
}
