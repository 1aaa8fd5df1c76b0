//! A foreign checkpointer that has the write lock and waits for our read transaction, while we wait for that lock.

use crate::idle::{AtOnce, Jumping};
use crate::rig::{Rig, app, insert};
use litekeep::files::{File, FileId, Files, Open, RealFiles};
use litekeep::replicator::{Health, Replicator};
use litekeep_core::env::Clock;
use litekeep_core::limits::WRITE_LOCK_TRIES;
use litekeep_formats::TimestampMs;
use rusqlite::Connection;
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A clock that moves when the replicator waits; who sleeps on the way to the write lock runs `meanwhile` first.
struct Hooked {
    clock: Jumping,
    meanwhile: Mutex<Box<dyn FnMut() + Send>>,
}

impl Clock for Hooked {
    fn wall(&self) -> TimestampMs {
        self.clock.wall()
    }
    fn boot(&self) -> Duration {
        self.clock.boot()
    }
    fn sleep(&self, time: Duration) {
        self.clock.pass(time);
        (self.meanwhile.lock().unwrap())();
    }
}

/// The replicator of a rig, driven here, on a clock of its own.
struct Driven {
    replicator: Replicator,
    clock: Arc<Hooked>,
    jobs: AtOnce,
    /// When the replicator wants to look again.
    due: Duration,
}

impl Driven {
    fn new(rig: &Rig) -> Self {
        Self::on(rig, Arc::new(RealFiles))
    }

    fn on(rig: &Rig, files: Arc<dyn Files>) -> Self {
        let clock = Arc::new(Hooked { clock: Jumping::default(), meanwhile: Mutex::new(Box::new(|| {})) });
        let mut env = rig.env();
        env.files = files;
        env.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let jobs = AtOnce::default();
        env.spawner = Arc::new(jobs.clone());
        let replicator = Replicator::open(env, rig.settings.clone(), &rig.path()).unwrap();
        Self { replicator, clock, jobs, due: Duration::ZERO }
    }

    /// Somebody writes to the database's files: the replicator is told, and given time.
    fn hear(&mut self) {
        self.hear_for(Duration::from_secs(1));
    }

    fn hear_for(&mut self, time: Duration) {
        self.replicator.poker()();
        self.due = self.clock.boot();
        self.run(time);
    }

    /// A checkpointer that waits is let through, for somewhat longer than this.
    fn let_through(&mut self) {
        self.hear_for(Duration::from_millis(100));
    }

    fn run(&mut self, time: Duration) {
        let end = self.clock.boot() + time;
        while self.clock.boot() < end {
            if self.clock.boot() >= self.due {
                let wait = self.replicator.step().wait;
                let wait = if self.jobs.ran.swap(false, Ordering::SeqCst) { Duration::ZERO } else { wait };
                self.due = self.clock.boot().saturating_add(wait);
            }
            let pause = self.due.min(end).saturating_sub(self.clock.boot());
            self.clock.clock.pass(pause.max(Duration::from_micros(1)));
        }
    }

    /// How long it takes until a checkpointer is through that began at some time, at most twice as long as we wait for
    /// the write lock.
    fn time_until(&mut self, through: &Checkpointer, began: Duration) -> Duration {
        while !through.is_done() && self.clock.boot() < began + WRITE_LOCK_TRIES * 2 {
            self.run(Duration::from_millis(1));
            through.try_again();
        }
        self.clock.boot() - began
    }
}

/// A checkpoint on a thread of its own, which asks for a lock that it does not get when it is told to.
#[derive(Clone, Default)]
struct Checkpointer {
    turns: Arc<Turns>,
}

#[derive(Default)]
struct Turns {
    asked: AtomicU64,
    allowed: AtomicU64,
    done: AtomicBool,
}

thread_local! {
    static OURS: RefCell<Option<Arc<Turns>>> = const { RefCell::new(None) };
}

/// SQLite's busy handler.
fn wait_for_turn(_: i32) -> bool {
    OURS.with_borrow(|turns| {
        let turns = turns.as_ref().unwrap();
        let turn = turns.asked.fetch_add(1, Ordering::SeqCst);
        while turns.allowed.load(Ordering::SeqCst) <= turn {
            std::thread::yield_now();
        }
    });
    true
}

impl Checkpointer {
    /// Begins, and returns when it has to wait or is through.
    fn begin(path: &Path, mode: &'static str) -> Self {
        let it = Self::default();
        let (turns, path) = (Arc::clone(&it.turns), path.to_owned());
        std::thread::spawn(move || {
            OURS.set(Some(Arc::clone(&turns)));
            let mut other = app(&path);
            other.busy_handler(Some(wait_for_turn)).unwrap();
            other.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
            turns.done.store(true, Ordering::SeqCst);
        });
        it.settle(0);
        it
    }

    fn is_done(&self) -> bool {
        self.turns.done.load(Ordering::SeqCst)
    }

    fn had_to_wait(&self) -> bool {
        self.turns.asked.load(Ordering::SeqCst) > 0
    }

    fn settle(&self, asked: u64) {
        while self.turns.asked.load(Ordering::SeqCst) <= asked && !self.is_done() {
            std::thread::yield_now();
        }
    }

    /// Lets it ask once more; returns when it waits again or is through.
    fn try_again(&self) {
        let allowed = self.turns.allowed.fetch_add(1, Ordering::SeqCst) + 1;
        self.settle(allowed);
    }
}

/// Begins to read: the oldest state that this connection then sees is the newest of now.
fn read(app: &Connection) {
    app.execute_batch("BEGIN").unwrap();
    let _: i64 = app.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
}

fn done(app: &Connection) {
    app.execute_batch("COMMIT").unwrap();
}

#[test]
fn r12_a_checkpointer_that_has_the_lock_we_wait_for_is_let_through() {
    for mode in ["FULL", "RESTART", "TRUNCATE"] {
        let mut rig = Rig::new();
        rig.settings.min_checkpoint_pages = 10;
        let (writer, reader) = (rig.app(), rig.app());
        insert(&writer, 20);
        let mut driven = Driven::new(&rig);
        driven.hear();

        // A reader keeps the back-fill from being done, so that the write lock is needed; a writer has that.
        read(&reader);
        (0..20).for_each(|_| insert(&writer, 1));
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        writer.execute("UPDATE t SET v = randomblob(100)", []).unwrap();
        let begun = Arc::new(Mutex::new(None));
        let (path, checkpointer) = (rig.path(), Arc::clone(&begun));
        let mut before = Some((writer, reader));
        *driven.clock.meanwhile.lock().unwrap() = Box::new(move || {
            let mut begun = checkpointer.lock().unwrap();
            if let Some((writer, reader)) = before.take() {
                done(&writer);
                done(&reader);
                *begun = Some(Checkpointer::begin(&path, mode));
            }
            begun.as_ref().unwrap().try_again();
        });
        let began = driven.clock.boot();
        driven.hear();
        let checkpointer = begun.lock().unwrap().clone().unwrap();
        assert!(checkpointer.had_to_wait(), "{mode}: this is another test");
        let waited = driven.time_until(&checkpointer, began);
        assert!(waited < WRITE_LOCK_TRIES, "{mode} waited for {waited:?}");
        driven.hear();
        rig.assert_restores();
    }
}

#[test]
fn r12_a_checkpointer_that_waits_for_a_read_mark_which_was_renewed_is_let_through() {
    let modes = ["FULL", "RESTART", "TRUNCATE"];
    for (mode, rotations) in modes.into_iter().flat_map(|mode| [(mode, 1), (mode, 2)]) {
        let case = format!("{mode} after {rotations}");
        let rig = Rig::new();
        let (writer, old, new) = (rig.app(), rig.app(), rig.app());
        insert(&writer, 20);
        let mut driven = Driven::new(&rig);
        driven.hear();
        // Which of its two read marks the engine is on differs with the number of its rotations.
        for _ in 0..rotations {
            insert(&writer, 1);
            driven.hear();
        }
        read(&old);
        insert(&writer, 1);
        driven.hear();
        insert(&writer, 1);
        let began = driven.clock.boot();
        let checkpointer = Checkpointer::begin(&rig.path(), mode);
        assert!(checkpointer.had_to_wait(), "{case}: this is another test");
        // The mark that it waits for is renewed, the engine's newer transaction shares it, and nobody else is there.
        done(&old);
        read(&new);
        driven.hear();
        done(&new);
        let waited = driven.time_until(&checkpointer, began);
        assert!(waited < WRITE_LOCK_TRIES, "{case} waited for {waited:?}");
        driven.hear();
        assert_eq!(driven.replicator.status().breaks, 0, "{case}: nothing was committed meanwhile");
        insert(&writer, 1);
        driven.hear();
        rig.assert_restores();
    }
}

/// What goes by while a checkpointer is let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum GoesBy {
    /// The WAL begins anew, and these many commits follow.
    NewLife(u32),
    /// The same, after a commit to the old life that nobody saw.
    CommitBefore(u32),
}

/// Brings that about, with as many looks of ours as there are between two steps: none.
fn while_let_through(rig: &Rig, mode: &'static str, goes_by: GoesBy) -> Driven {
    let case = format!("{mode}, {goes_by:?}");
    let (writer, other) = (rig.app(), rig.app());
    // On several pages: what follows a commit that goes unseen does not bring its pages along.
    insert(&writer, 200);
    let mut driven = Driven::new(rig);
    driven.hear();
    insert(&writer, 1);
    driven.hear();
    // It has the checkpoint lock and waits for a writer; nothing forbids that one to commit.
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commits = match goes_by {
        GoesBy::NewLife(commits) => commits,
        GoesBy::CommitBefore(commits) => {
            writer.execute("UPDATE t SET v = randomblob(100)", []).unwrap();
            commits
        }
    };
    let checkpointer = Checkpointer::begin(&rig.path(), mode);
    assert!(checkpointer.had_to_wait(), "{case}: this is another test");
    driven.let_through();
    done(&writer);
    while !checkpointer.is_done() {
        checkpointer.try_again();
    }
    for _ in 0..commits {
        other.execute("INSERT INTO t (v) VALUES (randomblob(100))", []).unwrap();
    }
    driven.hear();
    let ticket = driven.replicator.ask();
    driven.hear();
    assert!(driven.replicator.answered(ticket), "{case}");
    driven
}

#[test]
fn r12_what_is_committed_while_a_checkpointer_is_let_through_is_found_again() {
    for (mode, commits) in ["FULL", "RESTART", "TRUNCATE"].into_iter().flat_map(|mode| [(mode, 1), (mode, 3)])
    {
        let rig = Rig::new();
        let driven = while_let_through(&rig, mode, GoesBy::CommitBefore(commits));
        rig.assert_restores();
        assert_eq!(driven.replicator.status().breaks, 1, "{mode}: only a comparison can tell");
    }
}

#[test]
fn r10_a_wal_that_began_anew_behind_a_checkpointer_is_captured_without_a_comparison() {
    for (mode, commits) in ["FULL", "RESTART", "TRUNCATE"].into_iter().flat_map(|mode| [(mode, 1), (mode, 3)])
    {
        let rig = Rig::new();
        let driven = while_let_through(&rig, mode, GoesBy::NewLife(commits));
        rig.assert_restores();
        assert_eq!(driven.replicator.status().breaks, 0, "{mode}, {commits}");
    }
}

/// Files on which something happens once: when the engine begins to write, or writes on, one whose name begins so.
#[derive(Clone)]
struct When(&'static str, Meanwhile);

type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl When {
    fn now(&self) {
        let meanwhile = self.1.lock().unwrap().take();
        meanwhile.into_iter().for_each(|meanwhile| meanwhile());
    }
}

struct WhenWritten(Arc<dyn File>, When);

impl File for WhenWritten {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.1.now();
        self.0.write_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn id(&self) -> io::Result<FileId> {
        self.0.id()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}

impl Files for When {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let file = RealFiles.open(path, how)?;
        if how == Open::Read
            || !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(self.0))
        {
            return Ok(file);
        }
        if how != Open::Write {
            self.now();
        }
        Ok(Arc::new(WhenWritten(file, self.clone())))
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
        RealFiles.sync_dir(path)
    }
}

/// Two tables of several pages each.
fn two_tables(app: &Connection) {
    insert(app, 200);
    app.execute_batch("CREATE TABLE u (id INTEGER PRIMARY KEY, v BLOB); INSERT INTO u SELECT id, v FROM t")
        .unwrap();
}

fn write_all(app: &Connection, table: &str) {
    app.execute_batch(&format!("UPDATE {table} SET v = randomblob(100)")).unwrap();
}

/// What a checkpoint of an application leaves: everything is back-filled, and the next commit begins the WAL anew.
fn back_filled(app: &Connection) {
    let left =
        app.query_row("PRAGMA wal_checkpoint", [], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?));
    assert_eq!(left.unwrap(), 0, "this is another test");
}

fn synced_and_restored(rig: &Rig, driven: &mut Driven) {
    let ticket = driven.replicator.ask();
    driven.hear();
    assert!(driven.replicator.answered(ticket));
    rig.assert_restores();
}

/// What an application does while frames are copied that it may begin the WAL anew over.
const OVER_FRAMES: [fn(&Connection); 2] = [
    // As far as the frames that are being read.
    |app| (0..10).for_each(|_| write_all(app, "u")),
    |app| app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap(),
];

#[test]
fn frames_that_are_written_over_while_they_are_copied_at_a_start_do_not_count() {
    for over in OVER_FRAMES {
        let rig = Rig::new();
        let app = rig.app();
        two_tables(&app);
        let mut driven = Driven::new(&rig);
        driven.hear();
        drop(driven);
        write_all(&app, "t");
        back_filled(&app);
        let meanwhile: Meanwhile = Arc::default();
        let mut driven = Driven::on(&rig, Arc::new(When("tail", Arc::clone(&meanwhile))));
        *meanwhile.lock().unwrap() = Some(Box::new(move || over(&app)));
        driven.hear();
        assert!(meanwhile.lock().unwrap().is_none(), "this is another test");
        synced_and_restored(&rig, &mut driven);
        let status = driven.replicator.status();
        assert_eq!((status.breaks, status.troubles), (1, 0), "{status:?}");
    }
}

/// A checkpointer is let through; what follows begins the WAL anew, and is back-filled before anybody looks.
fn back_filled_anew(driven: &mut Driven, rig: &Rig, writer: &Connection) {
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let checkpointer = Checkpointer::begin(&rig.path(), "FULL");
    assert!(checkpointer.had_to_wait(), "this is another test");
    driven.let_through();
    done(writer);
    while !checkpointer.is_done() {
        checkpointer.try_again();
    }
    write_all(writer, "t");
    back_filled(writer);
}

#[test]
fn frames_that_are_written_over_while_they_are_copied_behind_a_checkpointer_do_not_count() {
    for over in OVER_FRAMES {
        let rig = Rig::new();
        let app = rig.app();
        two_tables(&app);
        let meanwhile: Meanwhile = Arc::default();
        let mut driven = Driven::on(&rig, Arc::new(When("tail", Arc::clone(&meanwhile))));
        driven.hear();
        write_all(&app, "t");
        driven.hear();
        back_filled_anew(&mut driven, &rig, &app);
        *meanwhile.lock().unwrap() = Some(Box::new(move || over(&app)));
        driven.hear();
        assert!(meanwhile.lock().unwrap().is_none(), "this is another test");
        synced_and_restored(&rig, &mut driven);
        let status = driven.replicator.status();
        assert_eq!((status.breaks, status.troubles), (1, 0), "{status:?}");
    }
}

#[test]
fn r10_frames_that_may_be_written_over_are_copied_at_once_and_nothing_is_compared_for_them() {
    let mut rig = Rig::new();
    rig.settings.sync_interval = Duration::from_secs(3600);
    let app = rig.app();
    two_tables(&app);
    let mut driven = Driven::new(&rig);
    driven.hear();
    write_all(&app, "t");
    driven.hear();
    back_filled_anew(&mut driven, &rig, &app);
    driven.hear();
    assert_eq!(driven.replicator.status().slots, 1, "this is another test");
    OVER_FRAMES[0](&app);
    driven.hear();
    synced_and_restored(&rig, &mut driven);
    assert_eq!(driven.replicator.status().breaks, 0);
}

#[test]
fn r12_a_checkpointer_that_waits_for_somebody_else_keeps_neither_a_slot_nor_a_stop_waiting() {
    for stops in [false, true] {
        let mut rig = Rig::new();
        rig.settings.sync_interval = Duration::from_secs(3600);
        let (writer, reader) = (rig.app(), rig.app());
        insert(&writer, 20);
        let mut driven = Driven::new(&rig);
        driven.hear();
        read(&reader);
        insert(&writer, 1);
        driven.hear();
        assert_eq!(driven.replicator.status().slots, 1, "this is another test");
        let checkpointer = Checkpointer::begin(&rig.path(), "FULL");
        assert!(checkpointer.had_to_wait(), "this is another test");
        driven.hear();
        let ticket = driven.replicator.ask();
        if stops {
            driven.replicator.stop(Duration::from_secs(10));
        }
        driven.hear();
        assert!(!checkpointer.is_done(), "this is another test");
        assert!(driven.replicator.answered(ticket), "stops: {stops}");
        let status = driven.replicator.status();
        assert_eq!((status.slots, status.health == Health::Ended), (2, stops), "{status:?}");
        assert!(status.failure.is_none(), "{status:?}");
        done(&reader);
        let began = driven.clock.boot();
        driven.time_until(&checkpointer, began);
        assert!(checkpointer.is_done(), "stops: {stops}");
        rig.assert_restores();
    }
}

#[test]
fn a_replicator_that_does_not_count_the_commits_of_a_new_life_is_caught() {
    let mut rig = Rig::new();
    rig.decisions.nothing_missed = |_, _, _| true;
    while_let_through(&rig, "RESTART", GoesBy::CommitBefore(1));
    let (restored, _) = rig.restored();
    let content = |path: &Path| -> String {
        let sql = "SELECT group_concat(hex(v)) FROM t";
        Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert!(content(&rig.path()) != content(&restored), "nothing was lost");
}
