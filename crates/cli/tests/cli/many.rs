//! Many databases of one daemon.

use crate::daemon::{ask, execute, insert, restored, wait_for};
use crate::restore::make_database;
use crate::util::Dir;
use rustix::process::Signal;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DATABASES: usize = 60;

/// Descriptors of the daemon itself: its streams and socket, signals, file notification.
const MORE: usize = 24;

/// Threads of the daemon itself: workers, the watch, the socket, signals, the directory.
const THREADS: usize = 14;

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("read").count()
}

/// What the system says of a process's memory, kB.
fn memory(process: &Path, name: &str) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).expect("read");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A database that nobody has written to for long.
fn old_database(path: &Path) {
    make_database(path);
    execute(path, "PRAGMA journal_mode=WAL");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    File::options().write(true).open(path).and_then(|file| file.set_modified(long_ago)).expect("dated");
}

/// A database that was idle for long before the daemon began is parked as soon as it is in its replica.
#[test]
fn r68_databases_that_nobody_writes_to_cost_the_daemon_two_descriptors_each_and_no_thread() {
    let dir = Dir::new();
    std::fs::create_dir(dir.path("data")).expect("made");
    let paths: Vec<PathBuf> = (0..DATABASES).map(|n| dir.path(&format!("data/{n}.db"))).collect();
    paths.iter().for_each(|path| old_database(path));
    dir.write(
        "l.yml",
        "socket:\n  enabled: true\n  path: l.sock\ndbs:\n  - dir: data\n    pattern: '*.db'\n    replica:\n      path: r\n",
    );
    let mut running = dir.litekeep(["replicate", "-config", "l.yml"]).starts();
    running.until("control socket listening");
    let process = PathBuf::from(format!("/proc/{}", ask(&dir, &["info"])["pid"]));
    let parked = || {
        let (descriptors, threads) = (entries(&process.join("fd")), entries(&process.join("task")));
        (descriptors <= 2 * DATABASES + MORE && threads <= THREADS).then_some(())
    };
    let in_replica = || {
        let first = |n: usize| dir.path(&format!("r/{n}.db/ltx/0/0000000000000001-0000000000000001.ltx"));
        (0..DATABASES).all(|n| first(n).exists()).then_some(())
    };
    wait_for("replica of each", in_replica);
    wait_for("rest", parked);
    // What the start took is given back: glibc would hold all of it.
    let given_back = || (3 * memory(&process, "VmRSS:") < 2 * memory(&process, "VmHWM:")).then_some(());
    if cfg!(target_env = "gnu") {
        wait_for("memory given back", given_back);
    }
    let written = [3, 17, 59];
    for n in written {
        insert(&paths[n], 2);
        // Turned away where the daemon was quicker, and protects the WAL.
        execute(&paths[n], "PRAGMA wal_checkpoint(TRUNCATE)");
        insert(&paths[n], 3);
    }
    for n in written {
        ask(&dir, &["sync", "-wait", &format!("data/{n}.db")]);
    }
    running.signal(Signal::TERM);
    running.ends(0);
    for n in 0..8 {
        let (n, all) = if let Some(n) = written.get(n) { (*n, &[1, 2, 3][..]) } else { (n * 7, &[1][..]) };
        assert_eq!(restored(&dir, &format!("r/{n}.db")), all, "database {n}");
    }
}
