//! A thousand databases in one process: what they cost, and that none of them is forgotten. Alone in its process, since
//! it counts what the process has.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(target_os = "linux")]

use litekeep::clock::{SystemClock, SystemRandom};
use litekeep::driver::{Driver, WORKERS};
use litekeep::files::RealFiles;
use litekeep::jobs::{Job, JobKind, Pool, Spawner};
use litekeep::keeper::Keeper;
use litekeep::replicator::Env;
use litekeep::restore::{Options, Outcome, RestoreEnv, restore};
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_store::Store;
use litekeep_store::memory::MemoryStore;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const DATABASES: usize = 1000;

/// Jobs that may run at once, and the threads of the test itself.
const MORE_THREADS: usize = 32 + 3;

/// Descriptors of the process itself: its streams, the directory that is read to count them, one inotify, its end.
const MORE_DESCRIPTORS: usize = 16;

/// At most as often as this a tenth of them is raced for: until a write and a TRUNCATE have come in both orders.
const ROUNDS: usize = 10;

const LONG: Duration = Duration::from_secs(120);

fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let end = SystemClock.boot() + LONG;
    while !seen() {
        assert!(SystemClock.boot() < end, "not seen: {what}");
        SystemClock.sleep(Duration::from_millis(5));
    }
}

fn entries(dir: &str) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn threads() -> usize {
    entries("/proc/self/task")
}

fn descriptors() -> usize {
    entries("/proc/self/fd")
}

/// Resident memory, megabytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

/// As many descriptors as the system allows: before they are parked, databases take a dozen each.
fn lift_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

struct One {
    path: PathBuf,
    store: Arc<dyn Store>,
    keeper: Option<Keeper>,
}

impl One {
    fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().unwrap()
    }

    fn app(&self) -> Connection {
        let app = Connection::open(&self.path).unwrap();
        app.busy_timeout(Duration::from_secs(10)).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL").unwrap();
        app
    }

    fn restored(&self, to: &Path) -> Vec<(i64, i64)> {
        let env = RestoreEnv {
            store: Arc::clone(&self.store),
            files: Arc::new(RealFiles),
            clock: Arc::new(SystemClock),
            vfs: None,
        };
        let options = Options { force: true, ..Options::new(to) };
        assert!(matches!(restore(&env, &options, &mut |_| {}), Ok(Outcome::Restored(_))));
        rows(&Connection::open(to).unwrap())
    }
}

fn rows(of: &Connection) -> Vec<(i64, i64)> {
    let mut all = of.prepare("SELECT id, v FROM t ORDER BY id").unwrap();
    let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Counts the databases that are on their way from nothing to replicating, by the jobs that ask for the replica.
struct Counted {
    pool: Arc<Pool>,
    looking: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Spawner for Counted {
    fn spawn(&self, name: &str, job: Job) {
        if name != "survey" {
            return self.pool.spawn(name, job);
        }
        self.most.fetch_max(self.looking.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let looking = Arc::clone(&self.looking);
        let counted = move || {
            // Before the report, which lets the next one begin.
            looking.fetch_sub(1, Ordering::SeqCst);
            job();
        };
        self.pool.spawn(name, Box::new(counted));
    }

    fn spawn_as(&self, kind: JobKind, name: &str, job: Job) {
        if kind == JobKind::Short { self.spawn(name, job) } else { self.pool.spawn_as(kind, name, job) }
    }
}

fn begin(dir: &Path, driver: &Arc<Driver>, spawner: &Arc<Counted>) -> Vec<One> {
    let settings = Settings {
        sync_interval: Duration::from_millis(10),
        park_after: Some(Duration::from_millis(300)),
        ..Settings::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let begin = |n: usize| {
        let folder = dir.join(format!("{:02}", n % 50));
        std::fs::create_dir_all(&folder).unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let mut one = One { path: folder.join(format!("{n}.db")), store, keeper: None };
        one.app()
            .execute_batch(&format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, {n})"
            ))
            .unwrap();
        let env = Env {
            clock: Arc::clone(&clock),
            random: Arc::new(SystemRandom::default()),
            files: Arc::new(RealFiles),
            vfs: None,
            store: Arc::clone(&one.store),
            spawner: Arc::clone(spawner) as Arc<dyn Spawner>,
            decisions: Decisions::RIGHT,
        };
        one.keeper = Some(driver.keep(env, settings.clone(), &one.path).unwrap());
        one
    };
    (0..DATABASES).map(begin).collect()
}

/// The most that the process had while it was looked at.
#[derive(Default)]
struct Peak {
    threads: usize,
    descriptors: usize,
}

impl Peak {
    /// Waits until everything is in the replicas, and every database parked.
    fn until_parked(&mut self, what: &str, all: &[One]) {
        wait_for(what, || {
            self.threads = self.threads.max(threads());
            self.descriptors = self.descriptors.max(descriptors());
            all.iter().all(|one| {
                let status = one.keeper().status();
                status.parked && status.durable.is_some() && status.durable == status.built
            })
        });
    }
}

/// How a write and a TRUNCATE in the same instant came out.
#[derive(Debug, Default)]
struct Orders {
    write_first: usize,
    truncate_first: usize,
    /// The replicator was quicker, and protects the WAL.
    turned_away: usize,
}

impl Orders {
    /// What the TRUNCATE answered, and what lies in the WAL after both.
    fn count(&mut self, busy: bool, wal: u64) {
        match (busy, wal) {
            (true, _) => self.turned_away += 1,
            (false, 0) => self.write_first += 1,
            (false, _) => self.truncate_first += 1,
        }
    }

    fn both(&self) -> bool {
        self.write_first > 0 && self.truncate_first > 0
    }
}

/// Writes to each of these parked databases, and takes its WAL away in the same instant: two connections on two threads, which
/// are let go at once. Then each is written to once more.
fn race(all: &[One], chosen: &[usize], peak: &mut Peak, orders: &mut Orders) {
    let open = |n: &usize| {
        let app = all[*n].app();
        rows(&app);
        app
    };
    let writers: Vec<Connection> = chosen.iter().map(open).collect();
    let others: Vec<Connection> = chosen.iter().map(open).collect();
    peak.until_parked("the applications are connected, and all is parked", all);
    let start = Barrier::new(2);
    // Whoever has the shorter way is let go a little later in every second race, by ever more.
    let late = |race: usize| (0..race * 200).for_each(|_| std::hint::spin_loop());
    let write = || {
        for ((race, n), app) in chosen.iter().enumerate().zip(&writers) {
            let mut insert = app.prepare("INSERT INTO t VALUES (2, ?1)").unwrap();
            start.wait();
            late(if race % 2 == 0 { race } else { 0 });
            insert.execute([i64::try_from(*n).unwrap()]).unwrap();
            start.wait();
            // Until the other has looked at the WAL.
            start.wait();
        }
        writers
    };
    let writers = std::thread::scope(|scope| {
        let writer = scope.spawn(write);
        for ((race, n), other) in chosen.iter().enumerate().zip(&others) {
            let mut truncate = other.prepare("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            start.wait();
            late(if race % 2 == 1 { race } else { 0 });
            let busy: i64 = truncate.query_row([], |row| row.get(0)).unwrap();
            start.wait();
            let wal = PathBuf::from(format!("{}-wal", all[*n].path.display()));
            orders.count(busy != 0, std::fs::metadata(wal).map_or(0, |wal| wal.len()));
            start.wait();
        }
        writer.join().unwrap()
    });
    for (n, app) in chosen.iter().zip(writers) {
        app.execute("INSERT INTO t VALUES (3, ?1)", [i64::try_from(*n).unwrap()]).unwrap();
    }
}

#[test]
fn r68_r69_a_thousand_databases_share_threads_and_cost_two_descriptors_each_once_parked() {
    lift_limits();
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let driver = Driver::start(Arc::new(SystemClock)).unwrap();
    let spawner = Arc::new(Counted { pool: Arc::default(), looking: Arc::default(), most: Arc::default() });
    let began = SystemClock.boot();
    let mut all = begin(dir.path(), &driver, &spawner);
    let mut peak = Peak::default();
    peak.until_parked("all are in their replicas, and parked", &all);
    let started = SystemClock.boot() - began;
    let opened = spawner.most.load(Ordering::SeqCst);
    assert!(opened <= 10, "{opened} opened at once");
    assert!(peak.threads <= WORKERS + 1 + MORE_THREADS, "{} threads", peak.threads);
    wait_for("the threads of the jobs are gone", || threads() <= WORKERS + 1 + 3);
    let (threads_parked, descriptors_parked, resident) = (threads(), descriptors(), resident());
    assert!(descriptors_parked <= 2 * DATABASES + MORE_DESCRIPTORS, "{descriptors_parked} descriptors");

    // Others in every round, until both orders have occurred.
    let (mut written, mut orders) = (Vec::new(), Orders::default());
    for round in 0..ROUNDS {
        let chosen: Vec<usize> = (round..DATABASES).step_by(ROUNDS).collect();
        race(&all, &chosen, &mut peak, &mut orders);
        written.extend(chosen);
        if orders.both() {
            break;
        }
    }
    assert!(orders.both(), "{orders:?}");
    for n in &written {
        all[*n].keeper().sync(LONG).unwrap();
    }
    peak.until_parked("they are parked again", &all);
    assert!(descriptors() <= 2 * DATABASES + MORE_DESCRIPTORS);
    let to = dir.path().join("restored");
    let untouched = (0..DATABASES).step_by(7).filter(|n| !written.contains(n));
    for n in written.iter().copied().chain(untouched) {
        let v = i64::try_from(n).unwrap();
        let ids = if written.contains(&n) { 1..=3 } else { 1..=1 };
        assert_eq!(all[n].restored(&to), ids.map(|id| (id, v)).collect::<Vec<_>>(), "database {n}");
    }
    let missed: u64 = all.iter().map(|one| one.keeper().status().missed_notifications).sum();
    assert_eq!(missed, 0, "changes that no notification told of");

    // All at once.
    all.iter().for_each(|one| one.keeper().begin_stop(LONG));
    for one in &mut all {
        one.keeper.take().unwrap().stop(LONG).unwrap();
    }
    assert!(descriptors() <= MORE_DESCRIPTORS, "{} descriptors are left", descriptors());
    eprintln!(
        "{DATABASES} databases: parked after {started:?}; at most {} threads, {} descriptors; parked {threads_parked} \
         threads, {descriptors_parked} descriptors, {resident} MB resident; {orders:?}",
        peak.threads, peak.descriptors
    );
}
