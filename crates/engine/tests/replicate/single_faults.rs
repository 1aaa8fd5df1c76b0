//! Each single step that a slot takes on the local disk fails once, and then the disk is well again; or everything fails
//! from there on, as for a process that dies.

use crate::faults::{DOWN, FINE, NARROW, moody, narrow, wait_for};
use crate::rig::{LONG, Rig, assert_same, insert, stopped, synced};
use litekeep::files::{File, FileId, Files, Open, RealFiles};
use litekeep::keeper::Keeper;
use litekeep::replicator::Env;
use litekeep::restore::{Options, restore};
use litekeep_core::limits::BARE_BYTES;
use litekeep_core::restore::Target;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::Key;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Counts down with each change under a directory; the change that finds 1 fails, and only that.
#[derive(Clone)]
pub(crate) struct FailsOnce {
    pub(crate) dir: PathBuf,
    pub(crate) left: Arc<AtomicI64>,
    /// And every one after it.
    pub(crate) for_good: bool,
}

impl FailsOnce {
    fn change(&self, path: &Path) -> io::Result<()> {
        if !path.starts_with(&self.dir) {
            return Ok(());
        }
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left == 1 || (self.for_good && left < 1) {
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
    env.files = Arc::new(FailsOnce { dir: rig.meta(), left: Arc::clone(&left), for_good: false });
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

/// What does not come to count.
#[derive(Debug, Clone, Copy)]
enum Lost {
    /// A slot of some pages, which is refused as too large.
    Pages,
    /// A slot with every page, the same.
    Image,
    /// An image that goes up as a stream.
    Stream,
}

/// Dies at the local change with this number after a slot was refused, or a stream begun; returns whether there was one
/// before what takes its place, or says that it is there, was up.
fn dies(lost: Lost, number: i64) -> bool {
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let dies = Arc::clone(&left);
    let (mut rig, mood) = narrow(move || {
        let first = |left| (left > i64::MAX / 2).then_some(number);
        let _ = dies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, first);
    });
    if matches!(lost, Lost::Stream) {
        rig.settings.max_slot_bytes = 100_000;
    }
    let disk = FailsOnce { dir: rig.meta(), left: Arc::clone(&left), for_good: true };
    let keep = || {
        let env = Env { files: Arc::new(disk.clone()), ..rig.env() };
        Keeper::start(env, rig.settings.clone(), &rig.path()).unwrap()
    };
    // About 130 bytes each: more than the store takes at once.
    let rows = if matches!(lost, Lost::Stream) { 3000 } else { 12_000 };
    let app = rig.app();
    insert(&app, 10);
    let mut keeper = keep();
    let last = synced(&keeper);
    let before = restored_at(&rig, last);
    if matches!(lost, Lost::Image) {
        // Without its checksums there is nothing to compare with.
        stopped(keeper);
        for name in RealFiles.list(&rig.meta()).unwrap().iter().filter(|name| name.starts_with("sums-")) {
            std::fs::remove_file(rig.meta().join(name)).unwrap();
        }
        insert(&app, rows);
        app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        mood.store(NARROW, Ordering::SeqCst);
        keeper = keep();
    } else {
        mood.store(NARROW, Ordering::SeqCst);
        insert(&app, rows);
    }
    // The name of the refused slot, or of the one behind the announcement.
    let decides = if matches!(lost, Lost::Stream) { last.next().next() } else { last.next() };
    let name = Key::Ltx(Level::SLOTS, TxidRange::single(decides));
    let died = || left.load(Ordering::SeqCst) < 1;
    let taken = || rig.store.head(&name).is_ok();
    wait_for(&keeper, "it died, or the name is taken", || died() || taken());
    drop(keeper);
    let died = !taken();
    if died {
        let (restored, _) = rig.restored();
        assert_same(&before, &restored);
    }
    let keeper = rig.keep();
    synced(&keeper);
    rig.assert_restores();
    if died {
        // What keeps late ones out holds no page: it is the state before it.
        assert!(rig.store.head(&name).unwrap().size <= BARE_BYTES);
    }
    if died && !matches!(lost, Lost::Stream) {
        assert_same(&before, &restored_at(&rig, decides));
    }
    insert(&app, 5);
    synced(&keeper);
    stopped(keeper);
    rig.assert_restores();
    died
}

/// A restore of this state.
fn restored_at(rig: &Rig, txid: Txid) -> PathBuf {
    let to = rig.dir.path().join(format!("at-{txid}.db"));
    let options = Options { target: Target::Txid(txid), ..Options::new(&to) };
    restore(&rig.restore_env(), &options, &mut |_| {}).unwrap();
    to
}

#[test]
fn wherever_it_dies_with_what_does_not_come_to_count_the_state_before_it_is_the_newest() {
    for lost in [Lost::Pages, Lost::Image, Lost::Stream] {
        let mut met = 0;
        for first in (1..).step_by(8) {
            let died: Vec<bool> = std::thread::scope(|scope| {
                let runs: Vec<_> =
                    (first..first + 8).map(|number| scope.spawn(move || dies(lost, number))).collect();
                let ended = runs.into_iter().zip(first..);
                ended
                    .map(|(run, number)| run.join().unwrap_or_else(|_| panic!("{lost:?}, change {number}")))
                    .collect()
            });
            met += died.iter().filter(|died| **died).count();
            if died.contains(&false) {
                break;
            }
        }
        assert!(met >= 6, "{lost:?}: only {met} local changes");
    }
}
