//! What the engine does while it holds the application's write lock.

use crate::rig::{LONG, Rig, insert, stopped, synced};
use litekeep::files::{File, FileId, Files, Open, RealFiles};
use litekeep::keeper::Keeper;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Counts the engine's own fsyncs under the write lock.
#[derive(Clone)]
struct Watched(Arc<Watch>);

struct Watch {
    /// Held by the application for as long as it is in a transaction; then a lock that is taken is the engine's.
    turn: Mutex<()>,
    commits: AtomicU64,
    probe: Mutex<Connection>,
    /// Fsyncs under the lock, by what was committed then: nothing is committed while the lock is held.
    locked: Mutex<BTreeMap<u64, u32>>,
}

impl Watch {
    fn sync(&self) {
        let _turn = self.turn.lock().unwrap();
        let probe = self.probe.lock().unwrap();
        if probe.execute_batch("BEGIN IMMEDIATE").is_ok() {
            probe.execute_batch("ROLLBACK").unwrap();
            return;
        }
        *self.locked.lock().unwrap().entry(self.commits.load(Ordering::SeqCst)).or_default() += 1;
    }

    fn holds(&self) -> Vec<u32> {
        self.locked.lock().unwrap().values().copied().collect()
    }
}

struct WatchedFile(Arc<dyn File>, Watched);

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.0.sync();
        self.0.sync()
    }
    fn id(&self) -> io::Result<FileId> {
        self.0.id()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}

impl Files for Watched {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(WatchedFile(RealFiles.open(path, how)?, self.clone())))
    }
    fn id(&self, path: &Path) -> io::Result<Option<FileId>> {
        RealFiles.id(path)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        RealFiles.len(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFiles.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync();
        RealFiles.sync_dir(path)
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a deadline")]
fn one_fsync_of_the_engine_at_most_while_it_holds_the_write_lock() {
    let mut rig = Rig::new();
    rig.settings.min_checkpoint_pages = 50;
    let app = rig.app();
    insert(&app, 1000);
    let probe = Connection::open(rig.path()).unwrap();
    probe.busy_timeout(std::time::Duration::ZERO).unwrap();
    let (turn, commits, locked) = (Mutex::new(()), AtomicU64::new(0), Mutex::default());
    let watch = Arc::new(Watch { turn, commits, probe: Mutex::new(probe), locked });
    let mut env = rig.env();
    env.files = Arc::new(Watched(Arc::clone(&watch)));
    let keeper = Keeper::start(env, rig.settings.clone(), &rig.path()).unwrap();
    synced(&keeper);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A writer that never pauses: without one the engine never needs the lock.
        let (watch, over) = (&watch, &over);
        let app = rig.app();
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let _turn = watch.turn.lock().unwrap();
                let done = app.execute_batch(
                    "PRAGMA busy_timeout=0; UPDATE t SET v = randomblob(100) WHERE id = 1 + abs(random()) % 1000",
                );
                watch.commits.fetch_add(u64::from(done.is_ok()), Ordering::SeqCst);
            }
        });
        let deadline = Instant::now() + LONG;
        while watch.holds().len() < 20 && Instant::now() < deadline {
            keeper.sync(LONG).unwrap();
        }
        over.store(true, Ordering::SeqCst);
    });
    let holds = watch.holds();
    assert!(holds.len() >= 20, "the lock was hardly ever needed: {holds:?}");
    assert!(holds.iter().all(|fsyncs| *fsyncs <= 1), "fsyncs under one lock: {holds:?}");
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
}
