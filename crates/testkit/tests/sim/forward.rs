use litekeep::error::KeepErrorKind;
use litekeep::follow::{Followed, Follower, Manner};
use litekeep::jobs::{Job, Spawner};
use litekeep::local;
use litekeep::replicator::{Env, Replicator, Status};
use litekeep::restore::{Options, Outcome, RestoreEnv, restore};
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_store::Store;
use litekeep_store::memory::MemoryStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use testkit::clock::SimClock;
use testkit::disk::vfs::{SeededSqlite, Vfs};
use testkit::disk::{Call, Disk, Fault, Process, Trap};
use testkit::random::SeededRandom;

pub(crate) const DATABASE: &str = "/data/app.db";

/// Nothing is merged meanwhile, so that whoever follows goes slot by slot.
fn settings() -> Settings {
    Settings { levels: vec![Duration::from_secs(3600)], ..Settings::default() }
}

/// Runs each job at once.
struct AtOnce;

impl Spawner for AtOnce {
    fn spawn(&self, _: &str, job: Job) {
        job();
    }
}

pub(crate) struct Scene {
    clock: SimClock,
    store: Arc<dyn Store>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let clock = SimClock::new();
        Self { store: Arc::new(MemoryStore::new(Arc::new(clock.clone()))), clock }
    }

    pub(crate) fn disk(&self, seed: u64) -> Disk {
        let disk = Disk::new(self.clock.clone(), seed);
        disk.place("/data/here", b"").unwrap();
        disk
    }

    /// An application that runs this and leaves.
    pub(crate) fn app<T>(&self, disk: &Disk, act: impl FnOnce(&rusqlite::Connection) -> T) -> T {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let app = vfs.open(DATABASE).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL").unwrap();
        act(&app)
    }

    fn env(&self, process: &Process, vfs: &Vfs, seed: u64) -> Env {
        Env {
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(SeededRandom::new(seed)),
            files: Arc::new(process.clone()),
            vfs: Some(vfs.name().to_owned()),
            store: Arc::clone(&self.store),
            spawner: Arc::new(AtOnce),
            decisions: Decisions::RIGHT,
        }
    }

    /// A follower that comes to the tip, back to the chain first where the file holds what that lacks; what failed is tried
    /// again where it may pass. Returns what it said was kept aside.
    fn follower(&self, disk: &Disk, seed: u64) -> Result<Option<PathBuf>, String> {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let manner = Manner { parallelism: 1, ..Manner::default() };
        let (mut follower, mut returning, mut kept) = (None, false, None);
        for _ in 0..100 {
            self.clock.advance(Duration::from_secs(1));
            let stepped = match &mut follower {
                None => {
                    let env = self.env(&process, &vfs, seed);
                    let opened = Follower::open(env, &settings(), manner, Path::new(DATABASE));
                    opened.map(|opened| follower = Some(opened)).map(|()| false)
                }
                Some(follower) if returning => follower.bring_back().map(|aside| {
                    (kept, returning) = (aside, false);
                    false
                }),
                Some(follower) => follower.step().map(|followed| {
                    returning = followed == Followed::Ahead;
                    followed == Followed::AtTip
                }),
            };
            match stepped {
                Ok(true) => return Ok(kept),
                Err(error) if error.kind() != KeepErrorKind::Retry => return Err(error.to_string()),
                _ => {}
            }
        }
        Err("it does not come to the tip".to_owned())
    }

    /// An engine that brings everything up and leaves; cut short where the power goes.
    pub(crate) fn engine(&self, disk: &Disk, seed: u64) -> Status {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let env = self.env(&process, &vfs, seed);
        let Ok(mut engine) = Replicator::open(env, settings(), Path::new(DATABASE)) else {
            assert!(disk.is_dead(), "the engine does not open");
            return Status::default();
        };
        engine.set_polling(true);
        let ticket = engine.ask();
        for _ in 0..2000 {
            let step = engine.step();
            if step.ended || disk.is_dead() {
                break;
            }
            if engine.answered(ticket) {
                engine.stop(Duration::from_secs(60));
            }
            self.clock.advance(step.wait.clamp(Duration::from_micros(10), Duration::from_secs(1)));
        }
        engine.status()
    }

    fn restore(&self, disk: &Disk) {
        self.try_to_restore(disk).expect("restored");
    }

    /// As the command does it, with the record for the engine.
    pub(crate) fn try_to_restore(&self, disk: &Disk) -> Result<(), String> {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let env = RestoreEnv {
            store: Arc::clone(&self.store),
            files: Arc::new(process.clone()),
            clock: Arc::new(self.clock.clone()),
            vfs: Some(vfs.name().to_owned()),
        };
        let state_dir = Some(local::directory(Path::new(DATABASE), None));
        let options = Options { parallelism: 1, state_dir, ..Options::new(DATABASE) };
        let restored = match restore(&env, &options, &mut |_| {}) {
            Ok(Outcome::Restored(restored)) => restored,
            other => return Err(format!("{other:?}")),
        };
        let record = restored.record(self.store.location()).unwrap();
        let recorded = local::record_restored(&env.files, Path::new(DATABASE), None, &record);
        recorded.map_err(|error| error.to_string())
    }
}

/// What the table holds.
fn rows(scene: &Scene, disk: &Disk) -> String {
    scene.app(disk, |app| {
        let sum = "SELECT count(*) || ' rows, ' || sum(length(v)) || ' bytes' FROM t";
        app.query_row(sum, [], |row| row.get(0)).unwrap()
    })
}

/// A machine whose file is older than the replica: another one took over, and went on to [`THEIRS`].
fn stale(scene: &Scene) -> Disk {
    let stale = scene.disk(1);
    scene.app(&stale, |app| {
        app.execute_batch(
            "CREATE TABLE t (v BLOB); INSERT INTO t VALUES (randomblob(9000)), (randomblob(99))",
        )
        .unwrap();
    });
    assert!(scene.engine(&stale, 2).failure.is_none());
    stale.sync_all();
    let other = scene.disk(3);
    scene.restore(&other);
    // A slot without page 1 first: one with it says itself what that page is, and hides what a follower believed of it.
    for work in [
        "UPDATE t SET v = randomblob(99) WHERE length(v) = 99",
        "DELETE FROM t WHERE length(v) = 99; INSERT INTO t VALUES (randomblob(20000)), (x'77')",
    ] {
        scene.app(&other, |app| app.execute_batch(work).unwrap());
        assert!(scene.engine(&other, 4).failure.is_none());
    }
    stale
}

const THEIRS: &str = "3 rows, 29001 bytes";

/// R22: a crash between the commit that brings a stale file forward and the record of it must not look like changes of the
/// file's own, nor like the state before: at whichever call the power goes, the next start ends where the replica is,
/// whether that is an engine's or a follower's.
#[test]
fn r22_a_power_loss_at_every_call_while_a_stale_file_is_brought_forward_never_ends_in_a_stop() {
    let _alone = SeededSqlite::new(5);
    let scene = Scene::new();
    let stale = stale(&scene);
    let (mut findings, mut crashes) = (Vec::new(), 0);
    for call in 0..2000 {
        let disk = stale.power_loss(call);
        disk.crash_at(Trap::PowerAt { call });
        let _ = scene.engine(&disk, 5);
        if !disk.is_dead() {
            break;
        }
        crashes += 1;
        let (to_follow, to_own) = (disk.power_loss(call + 1), disk.power_loss(call + 1));
        let followed = scene.follower(&to_follow, 6).map_or_else(|why| why, |_| rows(&scene, &to_follow));
        let owned = match scene.engine(&to_own, 6).failure {
            Some(failure) => failure.to_string(),
            None => rows(&scene, &to_own),
        };
        for (who, what) in [("a follower", followed), ("an engine", owned)] {
            if what != THEIRS {
                findings.push(format!("call {call}, then {who}: {what}"));
            }
        }
    }
    assert!(crashes > 30, "only {crashes} calls");
    assert!(findings.is_empty(), "{} findings in {crashes} crashes\n{}", findings.len(), findings.join("\n"));
}

/// A file with a commit that the replica lacks goes back to the chain, whichever call fails on the way: what it held is in
/// one file beside it, and that is said.
#[test]
fn a_failure_of_every_single_call_on_the_way_back_leaves_one_file_aside_and_ends_at_the_tip() {
    let _alone = SeededSqlite::new(6);
    let scene = Scene::new();
    let ours = stale(&scene);
    scene.app(&ours, |app| app.execute_batch("INSERT INTO t VALUES (x'5555')").unwrap());
    ours.sync_all();
    let (mut findings, mut failures) = (Vec::new(), 0);
    for call in [Call::Write, Call::Sync, Call::Create, Call::Rename, Call::Remove, Call::SyncDir] {
        for skip in 0..2000 {
            let disk = ours.power_loss(skip);
            disk.inject(Fault {
                call,
                path: String::new(),
                skip,
                times: 1,
                error: std::io::ErrorKind::Other,
            });
            let kept = scene.follower(&disk, 7);
            if disk.failures() == 0 {
                break;
            }
            failures += 1;
            disk.heal();
            let there = disk.tree().into_iter().map(|(path, _)| path);
            let asides: Vec<PathBuf> =
                there.filter(|path| path.contains("-aside-")).map(PathBuf::from).collect();
            let right = match &kept {
                Ok(Some(kept)) => asides == [kept.clone()] && rows(&scene, &disk) == THEIRS,
                _ => false,
            };
            if !right {
                findings.push(format!("{call:?} {skip}: {kept:?}, beside the file {asides:?}"));
            }
        }
    }
    assert!(failures > 30, "only {failures} calls");
    assert!(findings.is_empty(), "{} of {failures}\n{}", findings.len(), findings.join("\n"));
}
