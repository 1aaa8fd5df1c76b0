//! The disk itself is proved: SQLite's own promises hold on it exactly as far as SQLite syncs, and no further.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::vfs::{SeededSqlite, Vfs};
use super::*;
use litekeep::files::{self, Files, Open};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

fn disk(seed: u64) -> Disk {
    Disk::new(SimClock::new(), seed)
}

fn settle(conn: &Connection, journal: &str, synchronous: &str) -> rusqlite::Result<()> {
    conn.query_row(&format!("PRAGMA journal_mode={journal}"), [], |_| Ok(()))?;
    conn.execute_batch(&format!("PRAGMA synchronous={synchronous}; PRAGMA cache_size=5"))
}

/// Commits numbered rows until the power goes; returns the last number that was acknowledged.
fn commit_until_dead(disk: &Disk, journal: &str, synchronous: &str) -> i64 {
    let process = disk.process();
    let vfs = Vfs::new(&process);
    let mut acknowledged = 0;
    let mut work = || -> rusqlite::Result<()> {
        let mut conn = vfs.open("/data/app.db")?;
        settle(&conn, journal, synchronous)?;
        conn.execute_batch("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, x BLOB)")?;
        for number in 1..=12_i64 {
            let tx = conn.transaction()?;
            tx.execute("INSERT INTO t VALUES(?1, randomblob(?2))", params![number, 100 * number * number])?;
            tx.execute("DELETE FROM t WHERE n < ?1 - 6", [number])?;
            tx.commit()?;
            acknowledged = number;
            if number % 4 == 0 && journal == "WAL" {
                conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            }
        }
        Ok(())
    };
    if let Err(error) = work() {
        assert!(disk.is_dead(), "{error}");
    }
    acknowledged
}

/// What SQLite finds: the greatest number, or what it calls the database.
fn found(disk: &Disk) -> Result<i64, String> {
    let vfs = Vfs::new(&disk.process());
    let conn = vfs.open("/data/app.db").map_err(|e| e.to_string())?;
    let check: String =
        conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    if check != "ok" {
        return Err(check);
    }
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|e| e.to_string())?;
    if tables == 0 {
        return Ok(0);
    }
    conn.query_row("SELECT coalesce(max(n), 0) FROM t", [], |row| row.get(0)).map_err(|e| e.to_string())
}

/// Cuts the power at every call of the scene, several times each, and counts what SQLite lost or broke.
fn crash_everywhere(journal: &str, synchronous: &str) -> (u64, u64) {
    let scene = |trap: Option<u64>| {
        let disk = disk(1);
        disk.place("/data/here", b"").unwrap();
        if let Some(call) = trap {
            disk.crash_at(Trap::PowerAt { call });
        }
        let acknowledged = commit_until_dead(&disk, journal, synchronous);
        (disk, acknowledged)
    };
    let calls = scene(None).0.calls();
    let mut broken = 0;
    for call in 0..calls {
        let (dead, acknowledged) = scene(Some(call));
        assert!(dead.is_dead());
        for seed in 0..6 {
            match found(&dead.power_loss(seed * 1000 + call)) {
                // A commit may be durable although its process died before it could say so.
                Ok(number) if number == acknowledged || number == acknowledged + 1 => {}
                _ => broken += 1,
            }
        }
    }
    (calls, broken)
}

#[test]
fn sqlite_keeps_every_acknowledged_commit_as_far_as_it_syncs_and_no_further() {
    let _alone = SeededSqlite::new(1);
    for (journal, synchronous, sound) in [
        ("WAL", "FULL", true),
        ("DELETE", "EXTRA", true),
        ("WAL", "NORMAL", false),
        ("WAL", "OFF", false),
        ("DELETE", "OFF", false),
    ] {
        let (calls, broken) = crash_everywhere(journal, synchronous);
        assert!(calls > 50, "{journal} {synchronous}: only {calls} calls");
        assert_eq!(broken == 0, sound, "{journal} {synchronous}: {broken} broken in {calls} x 6 crashes");
    }
}

#[test]
fn equal_seeds_give_equal_histories_and_images() {
    let run = |seed| {
        let _alone = SeededSqlite::new(seed);
        let disk = disk(seed);
        disk.place("/data/here", b"").unwrap();
        commit_until_dead(&disk, "WAL", "NORMAL");
        let after = disk.power_loss(seed);
        (disk.history(), after.peek("/data/app.db"), after.peek("/data/app.db-wal"))
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

#[test]
fn a_killed_process_loses_nothing_it_wrote_and_leaves_no_lock() {
    let _alone = SeededSqlite::new(3);
    let disk = disk(3);
    let (one, two) = (disk.process(), disk.process());
    let (vfs_one, vfs_two) = (Vfs::new(&one), Vfs::new(&two));
    let first = vfs_one.open("/app.db").unwrap();
    settle(&first, "WAL", "OFF").unwrap();
    first
        .execute_batch("CREATE TABLE t(n); INSERT INTO t VALUES(1); BEGIN IMMEDIATE; INSERT INTO t VALUES(2)")
        .unwrap();
    let second = vfs_two.open("/app.db").unwrap();
    let busy = second.execute("INSERT INTO t VALUES(3)", []).unwrap_err();
    assert_eq!(busy.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    one.kill();
    drop(first);
    second.execute("INSERT INTO t VALUES(3)", []).unwrap();
    let rows: Vec<i64> = second
        .prepare("SELECT n FROM t ORDER BY n")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(rows, [1, 3]);
}

/// Kills a writer at each of its calls and at each memory barrier while a reader keeps the WAL's index alive.
#[test]
fn a_writer_killed_anywhere_leaves_a_whole_commit_to_those_who_share_its_index() {
    let _alone = SeededSqlite::new(4);
    let run = |call: Option<u64>| {
        let disk = disk(4);
        let (writer, reader) = (disk.process(), disk.process());
        let (writer_vfs, reader_vfs) = (Vfs::new(&writer), Vfs::new(&reader));
        let writing = writer_vfs.open("/app.db").unwrap();
        settle(&writing, "WAL", "FULL").unwrap();
        writing.execute_batch("CREATE TABLE t(n)").unwrap();
        let reading = reader_vfs.open("/app.db").unwrap();
        let count = || reading.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(count().unwrap(), 0);
        if let Some(call) = call {
            disk.crash_at(Trap::KillAt { pid: writer.pid(), call });
        }
        let acknowledged = (1..=3).take_while(|n| writing.execute("INSERT INTO t VALUES(?1)", [n]).is_ok());
        let acknowledged = i64::try_from(acknowledged.count()).unwrap();
        let died = !writer.alive();
        drop(writing);
        let seen = count().unwrap();
        assert!((acknowledged..=acknowledged + 1).contains(&seen), "{seen} of {acknowledged} at {call:?}");
        assert_eq!(reading.query_row("PRAGMA quick_check", [], |r| r.get::<_, String>(0)).unwrap(), "ok");
        reading.execute("INSERT INTO t VALUES(9)", []).unwrap();
        assert_eq!(count().unwrap(), seen + 1);
        died
    };
    assert!(!run(None));
    let deaths = (0..).take_while(|call| run(Some(*call))).count();
    assert!(deaths > 15, "only {deaths} moments to die");
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_after_a_crash_at_any_call() {
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for call in 0..5 {
        for seed in 0..40 {
            let disk = disk(seed);
            disk.place("/state/position", b"old").unwrap();
            disk.crash_at(Trap::PowerAt { call });
            let done = files::replace(&disk.process(), Path::new("/state/position"), b"new").is_ok();
            let left = disk.power_loss(seed).peek("/state/position").unwrap();
            assert!(!done || left == b"new");
            *seen.entry(left).or_default() += 1;
        }
    }
    assert_eq!(seen.keys().map(Vec::as_slice).collect::<Vec<_>>(), [b"new", b"old"]);
}

#[test]
fn without_the_sync_of_the_file_a_replacement_can_be_empty() {
    let empty = (0..100).any(|seed| {
        let disk = disk(seed);
        disk.place("/a", b"old").unwrap();
        let process = disk.process();
        process.open(Path::new("/a.tmp"), Open::CreateNew).unwrap().write_at(b"new", 0).unwrap();
        process.rename(Path::new("/a.tmp"), Path::new("/a")).unwrap();
        process.sync_dir(Path::new("/")).unwrap();
        disk.power_loss(seed).peek("/a").unwrap().is_empty()
    });
    assert!(empty);
}

#[test]
fn a_full_disk_refuses_growth_and_serves_everything_else() {
    let _alone = SeededSqlite::new(9);
    let disk = disk(9);
    let process = disk.process();
    let vfs = Vfs::new(&process);
    let conn = vfs.open("/app.db").unwrap();
    settle(&conn, "WAL", "FULL").unwrap();
    conn.execute_batch("CREATE TABLE t(x)").unwrap();
    disk.set_capacity(Some(disk.used() + 20_000));
    let full =
        (0..20).find_map(|_| conn.execute("INSERT INTO t VALUES(randomblob(9000))", []).err()).unwrap();
    assert_eq!(full.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    assert!(conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).is_ok());
    disk.set_capacity(None);
    conn.execute("INSERT INTO t VALUES(randomblob(9000))", []).unwrap();
}

#[test]
fn a_planned_failure_hits_the_call_it_names() {
    let disk = disk(1);
    let process = disk.process();
    let fault = Fault { call: Call::Sync, path: "b".into(), skip: 1, times: 1, error: io::ErrorKind::Other };
    disk.inject(fault);
    let [a, b] = ["/a", "/b"].map(|path| process.open(Path::new(path), Open::CreateNew).unwrap());
    assert!(a.sync().is_ok() && b.sync().is_ok());
    assert!(b.sync().is_err());
    assert!(b.sync().is_ok());
}

#[test]
fn closing_a_database_file_under_sqlite_is_noticed() {
    let _alone = SeededSqlite::new(2);
    let disk = disk(2);
    let process = disk.process();
    let vfs = Vfs::new(&process);
    let early = disk.process();
    let conn = vfs.open("/app.db").unwrap();
    conn.execute_batch("CREATE TABLE t(x)").unwrap();
    drop(early.open(Path::new("/app.db"), Open::Read).unwrap());
    assert_eq!(disk.violations(), Vec::<String>::new());
    drop(process.open(Path::new("/app.db"), Open::Read).unwrap());
    assert_eq!(disk.violations().len(), 1);
}

#[test]
fn an_advisory_lock_ends_with_its_handle_or_its_process() {
    let disk = disk(1);
    let (one, two) = (disk.process(), disk.process());
    let mine = one.open(Path::new("/lock"), Open::CreateOrKeep).unwrap();
    let theirs = two.open(Path::new("/lock"), Open::CreateOrKeep).unwrap();
    assert!(mine.try_lock().unwrap());
    assert!(!theirs.try_lock().unwrap());
    drop(mine);
    assert!(theirs.try_lock().unwrap());
    two.kill();
    assert!(one.open(Path::new("/lock"), Open::Read).unwrap().try_lock().unwrap());
}

/// Seeds 110963, 302469 and 306010 of the scenario `bulk`: what `unlink` finds out for itself is no call of its own that
/// could fail. SQLite ends WAL mode whether its WAL is gone or not, and such a database is damaged with its next commit.
#[test]
fn sqlite_removes_a_file_with_one_call_which_no_failing_read_stops() {
    let disk = disk(1);
    let vfs = Vfs::new(&disk.process());
    let conn = vfs.open("/app.db").unwrap();
    settle(&conn, "WAL", "FULL").unwrap();
    conn.execute_batch("CREATE TABLE t(x)").unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert!(disk.peek("/app.db-wal").is_some());
    let path = "/app.db-wal".to_owned();
    disk.inject(Fault { call: Call::Read, path, skip: 0, times: 100, error: io::ErrorKind::Other });
    drop(conn);
    assert!(disk.peek("/app.db-wal").is_none());
}
