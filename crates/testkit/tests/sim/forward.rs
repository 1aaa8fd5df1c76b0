use litekeep::jobs::{Job, Spawner};
use litekeep::local;
use litekeep::replicator::{Env, Replicator, Status};
use litekeep::restore::{Options, Outcome, RestoreEnv, restore};
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_store::Store;
use litekeep_store::memory::MemoryStore;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use testkit::clock::SimClock;
use testkit::disk::vfs::{SeededSqlite, Vfs};
use testkit::disk::{Disk, Trap};
use testkit::random::SeededRandom;

pub(crate) const DATABASE: &str = "/data/app.db";

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

    /// An engine that brings everything up and leaves; cut short where the power goes.
    pub(crate) fn engine(&self, disk: &Disk, seed: u64) -> Status {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(SeededRandom::new(seed)),
            files: Arc::new(process.clone()),
            vfs: Some(vfs.name().to_owned()),
            store: Arc::clone(&self.store),
            spawner: Arc::new(AtOnce),
            decisions: Decisions::RIGHT,
        };
        let Ok(mut engine) = Replicator::open(env, Settings::default(), Path::new(DATABASE)) else {
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

/// R22: a crash between the commit that brings a stale file forward and the record of it must not look like changes of the
/// file's own: at whichever call the power goes, the next start ends where the replica is.
#[test]
fn r22_a_power_loss_at_every_call_while_a_stale_file_is_brought_forward_never_ends_in_a_stop() {
    let _alone = SeededSqlite::new(5);
    let scene = Scene::new();
    let stale = scene.disk(1);
    scene.app(&stale, |app| {
        app.execute_batch(
            "CREATE TABLE t (v BLOB); INSERT INTO t VALUES (randomblob(9000)), (randomblob(99))",
        )
        .unwrap();
    });
    assert!(scene.engine(&stale, 2).failure.is_none());
    stale.sync_all();
    // Another machine takes over, and goes on.
    let other = scene.disk(3);
    scene.restore(&other);
    scene.app(&other, |app| {
        app.execute_batch(
            "DELETE FROM t WHERE length(v) = 99; INSERT INTO t VALUES (randomblob(20000)), (x'77')",
        )
        .unwrap();
    });
    assert!(scene.engine(&other, 4).failure.is_none());
    let (mut findings, mut crashes) = (Vec::new(), 0);
    for call in 0..2000 {
        let disk = stale.power_loss(call);
        disk.crash_at(Trap::PowerAt { call });
        let _ = scene.engine(&disk, 5);
        if !disk.is_dead() {
            break;
        }
        crashes += 1;
        let disk = disk.power_loss(call + 1);
        let status = scene.engine(&disk, 6);
        if let Some(failure) = status.failure {
            findings.push(format!("call {call}: {failure}"));
            continue;
        }
        let seen: String = scene.app(&disk, |app| {
            let sum = "SELECT count(*) || ' rows, ' || sum(length(v)) || ' bytes' FROM t";
            app.query_row(sum, [], |row| row.get(0)).unwrap()
        });
        if seen != "3 rows, 29001 bytes" {
            findings.push(format!("call {call}: {seen}"));
        }
    }
    assert!(crashes > 30, "only {crashes} calls");
    assert!(findings.is_empty(), "{} findings in {crashes} crashes\n{}", findings.len(), findings.join("\n"));
}
