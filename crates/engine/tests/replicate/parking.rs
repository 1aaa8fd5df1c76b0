//! Databases that nobody writes to are parked, and whatever happens to one meanwhile is not missed.

use crate::rig::{LONG, Rig, app, insert, stopped, synced};
use litekeep::clock::SystemClock;
use litekeep::keeper::Keeper;
use litekeep::replicator::{Replicator, Status};
use litekeep_core::assess::Resume;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_formats::Level;
use litekeep_store::Scope;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.settings.park_after = Some(Duration::from_millis(50));
    rig
}

/// Several times as long as a database must be idle here to be parked.
const REST: Duration = Duration::from_millis(400);

/// Waits without asking the keeper for anything: that would end what is waited for.
fn wait_for(keeper: &Keeper, what: &str, seen: impl Fn() -> bool) {
    let end = SystemClock.boot() + LONG;
    while !seen() {
        assert!(SystemClock.boot() < end, "not seen: {what}: {:?}", keeper.status());
        SystemClock.sleep(Duration::from_millis(1));
    }
}

fn parked(keeper: &Keeper) {
    wait_for(keeper, "it is parked", || keeper.status().parked);
}

/// The files of the rig that this process has open.
fn open_files(dir: &Path) -> Vec<PathBuf> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok())
        .filter(|target| target.starts_with(dir))
        .collect()
}

fn slots(rig: &Rig) -> usize {
    rig.objects(Scope::Level(Level::SLOTS)).len()
}

#[test]
fn r68_a_database_that_nobody_writes_to_costs_two_descriptors_and_its_next_write_is_replicated() {
    let rig = rig();
    {
        let app = rig.app();
        // The last one to close would tidy up what is to be tidied up by parking.
        app.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        insert(&app, 100);
    }
    let keeper = rig.keep();
    let before = synced(&keeper);
    for round in 0..3 {
        parked(&keeper);
        // Its own back-fill is told of as well, and is no reason to look again and back-fill again.
        let (checkpoints, rested) = (keeper.status().checkpoints.count, SystemClock.boot() + REST);
        wait_for(&keeper, "time has passed", || SystemClock.boot() > rested);
        let status = keeper.status();
        assert!(status.parked && status.checkpoints.count == checkpoints, "round {round}: {status:?}");
        let open = open_files(rig.dir.path());
        assert!(open.len() <= 2 && open.iter().all(|path| path.starts_with(rig.meta())), "{open:?}");
        // Everything is in the database file itself.
        let alone = rig.dir.path().join("alone.db");
        std::fs::copy(rig.path(), &alone).unwrap();
        let rows: u32 = app(&alone).query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 100 + round);
        std::fs::remove_file(&alone).unwrap();
        // Nobody asks for this one: the file event alone tells.
        let durable = keeper.status().durable;
        insert(&rig.app(), 1);
        wait_for(&keeper, "the write is in the replica", || keeper.status().durable > durable);
    }
    let status = stopped(keeper);
    assert_eq!((status.images, status.missed_notifications), (1, 0), "{status:?}");
    assert!(status.durable > Some(before));
    rig.assert_restores();
}

#[test]
fn a_sync_of_a_parked_database_makes_no_object_and_a_stop_ends_it_in_order() {
    let rig = rig();
    insert(&rig.app(), 100);
    let keeper = rig.keep();
    let txid = synced(&keeper);
    parked(&keeper);
    let before = slots(&rig);
    assert_eq!(synced(&keeper), txid);
    parked(&keeper);
    stopped(keeper);
    assert_eq!(slots(&rig), before, "nothing was written, nothing goes up");
    let keeper = rig.keep();
    assert_eq!(synced(&keeper), txid, "and the next start goes on from there");
    assert_eq!(stopped(keeper).images, 0);
}

#[test]
fn a_snapshot_of_a_parked_database_is_made_and_it_is_parked_again() {
    let rig = rig();
    let app = rig.app();
    insert(&app, 10);
    let keeper = rig.keep();
    synced(&keeper);
    insert(&app, 10);
    let txid = synced(&keeper);
    parked(&keeper);
    keeper.snapshot();
    // The poke that goes with it is a reason to look at the database as well: it is parked again then.
    let newest = || rig.objects(Scope::Level(Level::SNAPSHOTS)).iter().filter_map(entry_max).max();
    wait_for(&keeper, "the snapshot is there", || newest() == Some(txid));
    parked(&keeper);
    stopped(keeper);
}

fn entry_max(entry: &litekeep_store::Entry) -> Option<litekeep_formats::Txid> {
    match entry.key {
        litekeep_store::Key::Ltx(_, range) => Some(range.max()),
        _ => None,
    }
}

/// Drives a replicator by hand, so that it sees nothing of what happens between two calls.
struct Hand {
    replicator: Replicator,
}

impl Hand {
    fn begin(rig: &Rig) -> Self {
        Self { replicator: Replicator::open(rig.env(), rig.settings.clone(), &rig.path()).unwrap() }
    }

    fn step_until(&mut self, what: &str, done: impl Fn(&Replicator) -> bool) -> Status {
        let end = SystemClock.boot() + LONG;
        while !done(&self.replicator) {
            let step = self.replicator.step();
            assert!(SystemClock.boot() < end, "not reached: {what}: {:?}", self.replicator.status());
            SystemClock.sleep(step.wait.min(Duration::from_millis(2)));
        }
        self.replicator.status()
    }

    fn sync(&mut self) -> Status {
        let ticket = self.replicator.ask();
        self.step_until("synced", |it| it.answered(ticket))
    }

    fn park(&mut self) {
        self.step_until("parked", |it| it.status().parked);
    }
}

#[test]
fn a_commit_that_hangs_in_its_fsync_keeps_its_database_from_being_parked() {
    let rig = rig();
    let app = rig.app();
    insert(&app, 10);
    let mut hand = Hand::begin(&rig);
    hand.sync();
    // The next frame of this life of the WAL is written, and not visible yet.
    let wal = rig.dir.path().join("app.db-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    let (frame, end) =
        (24 + 4096, 32 + usize::try_from(hand.replicator.status().wal_frames).unwrap() * (24 + 4096));
    bytes.resize(end + frame, 0);
    bytes[end + 3] = 1;
    bytes.copy_within(16..24, end + 8);
    std::fs::write(&wal, bytes).unwrap();
    let until = SystemClock.boot() + REST;
    hand.step_until("time has passed", |_| SystemClock.boot() > until);
    assert!(!hand.replicator.status().parked);
}

#[test]
fn an_event_for_nothing_does_not_end_parking() {
    let rig = rig();
    insert(&rig.app(), 10);
    let mut hand = Hand::begin(&rig);
    hand.sync();
    hand.park();
    for name in ["app.db", "app.db-wal"] {
        let file = std::fs::OpenOptions::new().write(true).open(rig.dir.path().join(name));
        let hour_ago = Duration::from_millis(u64::try_from(SystemClock.wall().0).unwrap() - 3_600_000);
        let hour_ago = std::time::UNIX_EPOCH + hour_ago;
        if let Ok(file) = file {
            file.set_modified(hour_ago).unwrap();
        }
    }
    // The files' times are others: that is looked into.
    hand.replicator.poker()();
    hand.step_until("not parked any more", |it| !it.status().parked);
    hand.park();
    let before = hand.replicator.status().parkings;
    for _ in 0..3 {
        hand.replicator.poker()();
        let end = SystemClock.boot() + REST;
        hand.step_until("time has passed", |_| SystemClock.boot() > end);
    }
    let status = hand.replicator.status();
    assert!(status.parked && status.parkings == before, "{status:?}");
    insert(&rig.app(), 1);
    hand.replicator.poker()();
    hand.step_until("the write is in the replica", |it| it.status().durable > status.durable);
}

/// What happens to a parked database, in the same instant in which the replicator wakes up; all the connections that the
/// application has are in the list.
type Happening = fn(&Rig, &mut Vec<Connection>);

const HAPPENINGS: &[(&str, Happening)] = &[
    ("a write", |_, apps| insert(&apps[0], 5)),
    ("a write, a foreign TRUNCATE, a write", |_, apps| {
        insert(&apps[0], 5);
        checkpoint(&apps[1], "TRUNCATE");
        apps[0].execute("UPDATE t SET v = randomblob(90) WHERE id = 200", []).unwrap();
    }),
    ("a write and a foreign TRUNCATE", |_, apps| {
        insert(&apps[0], 5);
        checkpoint(&apps[1], "TRUNCATE");
    }),
    ("writes, a back-fill, a write that begins the WAL anew", |_, apps| {
        (0..5).for_each(|_| insert(&apps[0], 5));
        checkpoint(&apps[1], "RESTART");
        apps[0].execute("UPDATE t SET v = randomblob(90) WHERE id = 200", []).unwrap();
    }),
    ("a reader that keeps the WAL from being begun anew, and a write", |_, apps| {
        apps[1].execute_batch("BEGIN").unwrap();
        let _: i64 = apps[1].query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        insert(&apps[0], 5);
        apps[1].execute_batch("COMMIT").unwrap();
    }),
    ("a write, and the application ends", |_, apps| {
        insert(&apps[0], 5);
        apps.clear();
    }),
    ("the application ends, begins again and writes", |rig, apps| {
        apps.clear();
        apps.push(rig.app());
        insert(&apps[0], 5);
    }),
    ("another journal mode for a while", |_, apps| {
        apps.truncate(1);
        apps[0].execute_batch("PRAGMA journal_mode=DELETE").unwrap();
        insert(&apps[0], 5);
        apps[0].execute_batch("PRAGMA journal_mode=WAL").unwrap();
    }),
    ("rows deleted, a VACUUM", |_, apps| {
        apps[0].execute_batch("DELETE FROM t WHERE id > 100; VACUUM").unwrap();
        checkpoint(&apps[1], "TRUNCATE");
    }),
    ("another file in its place", |rig, apps| {
        apps.clear();
        let other = rig.dir.path().join("other.db");
        std::fs::copy(rig.path(), &other).unwrap();
        insert(&app(&other), 5);
        std::fs::rename(&other, rig.path()).unwrap();
    }),
];

fn checkpoint(app: &Connection, mode: &str) {
    let busy: i64 = app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "nobody holds anything while it is parked");
}

/// Whether what a restore gives is the database, after this happened to it while it was parked.
fn check(decisions: Decisions, happening: Happening) -> Result<Status, String> {
    let mut rig = rig();
    rig.decisions = decisions;
    let mut apps = vec![rig.app(), rig.app()];
    insert(&apps[0], 300);
    let mut hand = Hand::begin(&rig);
    hand.sync();
    hand.park();
    happening(&rig, &mut apps);
    let status = hand.sync();
    let (restored, _) = rig.restored();
    // What a wrong engine leaves may not be readable at all.
    let same = rows(&restored).is_ok_and(|restored| restored == rows(&rig.path()).unwrap());
    if same { Ok(status) } else { Err("another database was restored".to_owned()) }
}

fn rows(path: &Path) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let app = Connection::open(path)?;
    let mut all = app.prepare("SELECT id, v FROM t ORDER BY id")?;
    all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

#[test]
fn r68_whatever_happens_to_a_parked_database_is_found() {
    for (what, happening) in HAPPENINGS {
        let status = check(Decisions::RIGHT, *happening).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(status.images, 1, "{what}: only the pages that differ go up");
    }
}

/// The wrong variant: after a time without protection the WAL is believed to be the one that was left.
#[test]
fn a_replicator_that_trusts_what_it_finds_after_parking_is_caught() {
    let trusting = Decisions { resume: |_, _, _| Resume::Intact, ..Decisions::RIGHT };
    let caught: Vec<&str> = HAPPENINGS
        .iter()
        .filter(|(_, happening)| check(trusting, *happening).is_err())
        .map(|(what, _)| *what)
        .collect();
    for what in ["a write, a foreign TRUNCATE, a write", "a write and a foreign TRUNCATE"] {
        assert!(caught.contains(&what), "{caught:?}");
    }
}

#[test]
fn where_no_notification_arrives_a_parked_database_is_looked_at_all_the_same() {
    let mut rig = rig();
    rig.settings.monitor_interval = Duration::from_millis(20);
    rig.settings.always_poll = true;
    let apps = [rig.app(), rig.app()];
    insert(&apps[0], 100);
    let mut hand = Hand::begin(&rig);
    hand.replicator.set_polling(true);
    hand.sync();
    for _ in 0..3 {
        hand.park();
        let before = hand.replicator.status().durable;
        insert(&apps[0], 1);
        checkpoint(&apps[1], "TRUNCATE");
        hand.step_until("the change is seen and in the replica", |it| it.status().durable > before);
    }
    rig.assert_restores();
}

#[test]
fn a_large_database_is_idle_for_longer_before_it_is_parked_and_others_keep_it_open() {
    let mut rig = rig();
    let app = rig.app();
    // A second for every two megabytes, from when it was last written to as the file says, which is told in steps.
    app.execute_batch("CREATE TABLE big (v BLOB); INSERT INTO big VALUES (zeroblob(3000000))").unwrap();
    let written = std::fs::metadata(rig.dir.path().join("app.db-wal")).unwrap().modified().unwrap();
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let mut hand = Hand::begin(&rig);
    hand.sync();
    hand.park();
    // Two clocks, of which one may be set right meanwhile: a millisecond or two.
    let idle = u128::try_from(SystemClock.wall().0).unwrap() - written;
    assert!(idle >= 990, "{idle} ms");
    drop(hand);
    // Whoever hands over keeps looking at everything.
    rig.settings.look_every = Some(Duration::from_millis(20));
    let mut hand = Hand::begin(&rig);
    hand.sync();
    let end = SystemClock.boot() + Duration::from_secs(3);
    hand.step_until("time has passed", |it| it.status().parked || SystemClock.boot() > end);
    assert!(!hand.replicator.status().parked);
}
