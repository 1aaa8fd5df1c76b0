//! Each single step that a slot takes on the local disk fails once, and then the disk is well again.

use crate::faults::{DOWN, FINE, moody, wait_for};
use crate::rig::{LONG, insert, stopped, synced};
use litekeep::files::{File, FileId, Files, Open, RealFiles};
use litekeep::keeper::Keeper;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Counts down with each change under a directory; the change that finds 1 fails, and only that.
#[derive(Clone)]
pub(crate) struct FailsOnce {
    pub(crate) dir: PathBuf,
    pub(crate) left: Arc<AtomicI64>,
}

impl FailsOnce {
    fn change(&self, path: &Path) -> io::Result<()> {
        if path.starts_with(&self.dir) && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

struct CountedFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    disk: FailsOnce,
}

impl File for CountedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change(&self.path)?;
        self.inner.write_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(&self.path)?;
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.change(&self.path)?;
        self.inner.sync()
    }
    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}

impl Files for FailsOnce {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        self.change(path)?;
        let inner = RealFiles.open(path, how)?;
        Ok(Arc::new(CountedFile { inner, path: path.to_owned(), disk: self.clone() }))
    }
    fn id(&self, path: &Path) -> io::Result<Option<FileId>> {
        RealFiles.id(path)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        RealFiles.len(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(to)?;
        RealFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(path)?;
        RealFiles.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFiles.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(path)?;
        RealFiles.sync_dir(path)
    }
}

/// What is built while a step fails.
#[derive(Debug, Clone, Copy)]
enum Scene {
    /// The first slot there is.
    First,
    /// A slot of some pages.
    Pages,
    /// An image that is too large for a slot.
    Stream,
    /// The same while the store is down, and the application lets frames of the WAL go that nobody holds.
    Away,
}

/// Fails the step with this number; returns whether there was one.
fn fail(scene: Scene, number: i64) -> bool {
    let (mut rig, mood) = moody();
    let large = matches!(scene, Scene::Stream | Scene::Away);
    if large {
        rig.settings.max_slot_bytes = 100_000;
    }
    let left = Arc::new(AtomicI64::new(0));
    let mut env = rig.env();
    env.files = Arc::new(FailsOnce { dir: rig.meta(), left: Arc::clone(&left) });
    let keeper = Keeper::start(env, rig.settings.clone(), &rig.path()).unwrap();
    if !matches!(scene, Scene::First) {
        insert(&rig.app(), 10);
        synced(&keeper);
    }
    left.store(number, Ordering::SeqCst);
    let app = rig.app();
    if matches!(scene, Scene::Away) {
        mood.store(DOWN, Ordering::SeqCst);
        insert(&app, 3000);
        wait_for(&keeper, "the engine asks whether the store is back", || {
            keeper.status().trouble.is_some_and(|trouble| trouble.to_string().contains("head moody"))
        });
        app.execute_batch("UPDATE t SET v = randomblob(100)").unwrap();
        app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        // Small enough for a slot that lacks everything before it.
        app.execute_batch("UPDATE t SET v = randomblob(100) WHERE id = 1").unwrap();
        mood.store(FINE, Ordering::SeqCst);
    } else {
        insert(&app, if large { 3000 } else { 20 });
    }
    drop(app);
    synced(&keeper);
    let failed = left.load(Ordering::SeqCst) <= 0;
    rig.assert_restores();
    for _ in 0..2 {
        insert(&rig.app(), 5);
        synced(&keeper);
        rig.assert_restores();
    }
    stopped(keeper);
    let keeper = rig.keep();
    insert(&rig.app(), 5);
    synced(&keeper);
    rig.assert_restores();
    keeper.stop(LONG).unwrap();
    failed
}

#[test]
fn whichever_step_on_the_local_disk_fails_what_is_acknowledged_restores() {
    let scenes = [(Scene::First, 12), (Scene::Pages, 10), (Scene::Stream, 12), (Scene::Away, 12)];
    for (scene, at_least) in scenes {
        let mut met = 0;
        for first in (1..).step_by(12) {
            // A failure costs a pause of a second, so they are waited for side by side.
            let failed: Vec<bool> = std::thread::scope(|scope| {
                let runs: Vec<_> =
                    (first..first + 12).map(|number| scope.spawn(move || fail(scene, number))).collect();
                let ended = runs.into_iter().zip(first..);
                ended
                    .map(|(run, number)| run.join().unwrap_or_else(|_| panic!("{scene:?}, step {number}")))
                    .collect()
            });
            met += failed.iter().filter(|failed| **failed).count();
            if failed.contains(&false) {
                break;
            }
        }
        assert!(met >= at_least, "{scene:?}: only {met} steps failed");
    }
}
