//! v0.3 backups made from real SQLite WALs; SQLite's own checkpoint is the oracle.

use super::super::forge::StillClock;
use super::super::*;
use crate::files::RealFiles;
use bytes::Bytes;
use litekeep_formats::lz4frame;
use litekeep_formats::wal::{FrameHeader, WalHeader};
use litekeep_store::memory::MemoryStore;
use rusqlite::Connection;
use std::path::Path;

const GENERATION: V3Generation = V3Generation(0xabcd);

/// A backup and what SQLite makes of each of its WALs.
struct Backup {
    store: MemoryStore,
    clock: Arc<StillClock>,
    after: Vec<Vec<u8>>,
    segments: Vec<Key>,
}

fn compress(bytes: &[u8]) -> Bytes {
    let mut table = Default::default();
    let mut out = Vec::new();
    for piece in bytes.chunks(60_000) {
        lz4frame::write_page(piece, &mut table, &mut out).expect("compressed");
    }
    out.into()
}

/// Where a WAL may be cut: behind every `step`-th frame.
fn cuts(wal: &[u8], step: usize) -> Vec<usize> {
    let page = WalHeader::parse(wal).expect("a WAL").page_size.bytes();
    (WalHeader::LEN..wal.len()).step_by((FrameHeader::LEN + page) * step).skip(1).chain([wal.len()]).collect()
}

fn transactions(db: &Connection, round: u32) {
    for n in 0..12_u32 {
        db.execute_batch("BEGIN").expect("begun");
        for m in 0..8_u32 {
            let text = "x".repeat(((round * 131 + n * 17 + m * 71) % 900) as usize);
            db.execute("INSERT INTO t(x) VALUES(?1)", [text]).expect("inserted");
        }
        db.execute("DELETE FROM t WHERE id % 3 = ?1", [n % 3]).expect("deleted");
        db.execute_batch(if n % 5 == 4 { "ROLLBACK" } else { "COMMIT" }).expect("ended");
    }
    if round == 1 {
        db.execute_batch("DELETE FROM t WHERE id % 2; VACUUM").expect("shrunk");
    }
}

fn backup(page_size: u32, frames_a_segment: usize) -> Backup {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    let db = Connection::open(&path).expect("opens");
    db.execute_batch(&format!(
        "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=5;
         CREATE TABLE t(id INTEGER PRIMARY KEY, x); PRAGMA wal_checkpoint(TRUNCATE)"
    ))
    .expect("made");
    let clock = StillClock::at(1_000);
    let store = MemoryStore::new(clock.clone());
    let put = |key, bytes: &[u8]| store.put(&key, compress(bytes), clock.wall()).expect("put");
    put(Key::V3Snapshot(GENERATION, 0), &std::fs::read(&path).expect("readable"));
    let (mut after, mut segments) = (Vec::new(), Vec::new());
    for index in 0..4 {
        clock.set(1_000 * (i64::from(index) + 2));
        transactions(&db, index);
        let wal = std::fs::read(wal_of(&path)).expect("a WAL");
        let mut offset = 0;
        for end in cuts(&wal, frames_a_segment) {
            let key = Key::V3Wal(GENERATION, index, offset as u64);
            put(key, &wal[offset..end]);
            segments.push(key);
            offset = end;
        }
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpointed");
        after.push(std::fs::read(&path).expect("readable"));
    }
    Backup { store, clock, after, segments }
}

fn wal_of(path: &Path) -> PathBuf {
    crate::files::with_suffix(path, "-wal")
}

fn bring_back(backup: &Backup, change: impl FnOnce(&mut Options)) -> Result<Vec<u8>, RestoreError> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(dir.path().join("db"));
    change(&mut options);
    let env = RestoreEnv {
        store: Arc::new(backup.store.clone()),
        files: Arc::new(RealFiles),
        clock: backup.clock.clone(),
        vfs: None,
    };
    let outcome = restore(&env, &options, &mut |_| {});
    let left = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(left, usize::from(outcome.is_ok()), "nothing but the database is left");
    match outcome? {
        Outcome::Restored(_) => Ok(std::fs::read(&options.output).expect("readable")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn r41_every_wal_of_a_backup_gives_what_sqlites_own_checkpoint_gives() {
    for (page_size, frames_a_segment) in [(512, 1), (512, 7), (4096, 3), (65536, 2)] {
        let backup = backup(page_size, frames_a_segment);
        for (index, expected) in (0_u32..).zip(&backup.after) {
            let found = bring_back(&backup, |options| options.v3_index = Some(index)).expect("restored");
            assert!(found == *expected, "page size {page_size}, WAL {index}");
            let time = TimestampMs(1_000 * (i64::from(index) + 2));
            let target = Target::Timestamp(time);
            let found = bring_back(&backup, |options| options.target = target).expect("restored");
            assert!(found == *expected, "page size {page_size}, at {time:?}");
        }
        let found = bring_back(&backup, |_| ()).expect("restored");
        assert!(found == backup.after[3], "page size {page_size}, latest");
    }
}

#[test]
fn r42_any_missing_segment_is_noticed() {
    let backup = backup(512, 20);
    assert!(backup.segments.len() > 12);
    let last_of_each = |key: &Key| {
        let Key::V3Wal(_, index, offset) = key else { return false };
        !backup.segments.iter().any(|k| matches!(k, Key::V3Wal(_, i, o) if i == index && o > offset))
    };
    for missing in backup.segments.iter().filter(|key| !last_of_each(key)) {
        let body = backup.store.read(missing, None).expect("there").bytes;
        backup.store.delete(&[*missing]).expect("deleted");
        let error = bring_back(&backup, |_| ()).expect_err("a piece is missing");
        assert_eq!(error.exit_code(), exit::DAMAGED, "{missing}: {error}");
        backup.store.put(missing, body, TimestampMs(1)).expect("put");
    }
    bring_back(&backup, |_| ()).expect("whole again");
}

#[test]
fn r40_a_segment_past_four_gibibytes_is_not_passed_over_in_silence() {
    let backup = backup(512, 20);
    // The end of the last WAL lies under a name of nine digits; what comes before it is not there.
    let key = Key::V3Wal(GENERATION, 3, 0x1_1a6b_fa58);
    backup.store.put(&key, compress(&[0; 536]), TimestampMs(9_000)).expect("put");
    let error = bring_back(&backup, |_| ()).expect_err("there is a hole before it");
    assert!(error.to_string().contains("00000003_11a6bfa58"), "{error}");
    assert_eq!(error.exit_code(), exit::DAMAGED);
}

#[test]
fn a_wal_whose_content_was_changed_is_refused() {
    let backup = backup(512, 20);
    for key in [backup.segments[0], backup.segments[2], backup.segments[backup.segments.len() - 1]] {
        let body = backup.store.read(&key, None).expect("there").bytes;
        let Key::V3Wal(_, index, _) = key else { panic!("a segment") };
        let mut reader = lz4frame::FrameReader::new(&body[..]);
        let mut content = Vec::new();
        while let Some(block) = reader.next_block().expect("whole") {
            content.extend_from_slice(block);
        }
        let middle = content.len() / 2;
        content[middle] ^= 1;
        backup.store.put(&key, compress(&content), TimestampMs(1)).expect("put");
        let error = bring_back(&backup, |_| ()).expect_err("a checksum of the WAL does not fit");
        assert_eq!(error.exit_code(), exit::DAMAGED, "WAL {index}: {error}");
        backup.store.put(&key, body, TimestampMs(1)).expect("put");
    }
}
