use super::*;
use crate::files::RealFiles;
use litekeep_formats::walindex::WalIndexHeader;
use rusqlite::Connection;
use std::path::Path;

/// What the index says, read as a file: nobody but this test has the database open.
fn facts(database: &Path) -> Facts {
    let shm = std::fs::read(files::with_suffix(database, "-shm")).unwrap();
    let index = WalIndexHeader::parse(&shm).unwrap();
    Facts {
        page_size: index.page_size.unwrap(),
        mx_frame: index.mx_frame,
        pages: index.n_page,
        backfilled: index.n_backfill,
        checksum: index.frame_checksum,
        salts: index.salts,
        change: index.i_change,
    }
}

fn opened(database: &Path, psow: u8, page_size: u32) -> Connection {
    let app = Connection::open(format!("file:{}?psow={psow}", database.display())).unwrap();
    app.execute_batch(&format!(
        "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; \
         PRAGMA wal_autocheckpoint=0; CREATE TABLE t (v INTEGER); INSERT INTO t VALUES (0)"
    ))
    .unwrap();
    app
}

#[test]
fn as_many_commits_are_counted_in_a_life_as_its_index_counts() {
    for (psow, page_size) in [(1, 512), (1, 4096), (1, 65536), (0, 512), (0, 1024)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = opened(&path, psow, page_size);
        app.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())).unwrap();
        let before = facts(&path);
        for _ in 0..7 {
            // Each of them changes one and the same page.
            app.execute_batch("UPDATE t SET v = v + 1").unwrap();
        }
        app.execute_batch("BEGIN; CREATE TABLE u (v BLOB); INSERT INTO u VALUES (zeroblob(9000)); COMMIT")
            .unwrap();
        let now = facts(&path);
        let case = format!("psow={psow}, pages of {page_size}");
        assert_ne!(before.salts, now.salts, "{case}: the same life");
        assert_eq!(now.change - before.change, 8, "{case}");
        let mut wal = Wal::new(Arc::new(RealFiles), files::with_suffix(&path, "-wal"));
        assert_eq!(wal.commits(&now, u64::MAX).unwrap(), Some(8), "{case}");
        let sectors = now.mx_frame > 8 * 2 + 9000 / page_size;
        assert_eq!(sectors, psow == 0, "{case}: {} frames", now.mx_frame);

        let end = frame_offset(now.mx_frame + 1, now.page_size);
        assert_eq!(wal.commits(&now, end).unwrap(), Some(8), "{case}");
        assert_eq!(wal.commits(&now, end - 1).unwrap(), None, "{case}: longer than the limit");
        let other = Facts { salts: Salts(1, 2), ..now };
        assert_eq!(wal.commits(&other, end).unwrap(), None, "{case}: another life");
        let past = Facts { mx_frame: now.mx_frame + 1, ..now };
        assert_eq!(wal.commits(&past, u64::MAX).unwrap(), None, "{case}: past the end");
    }
}
