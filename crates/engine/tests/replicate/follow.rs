//! A copy is kept at the tip of a chain that a live writer makes.

use crate::faults::{DOWN, FINE, counted, wait_for};
use crate::rig::{LONG, Rig, app, insert, synced};
use crate::single_faults::FailsOnce;
use litekeep::error::{KeepError, KeepErrorKind};
use litekeep::files::{RealFiles, with_suffix};
use litekeep::follow::{Followed, Follower, Manner};
use litekeep::keeper::Keeper;
use litekeep::local::{directory, record_restored};
use litekeep::replicator::Env;
use litekeep::restore::{Options, Outcome, restore};
use litekeep_core::env::Clock;
use litekeep_formats::ltx::{Decoder, Encoder, Header, PageEncoding, Seal};
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{Key, Scope};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A clock that moves when told.
struct Hand(AtomicU64);

impl Hand {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn wall(&self) -> TimestampMs {
        TimestampMs(1_800_000_000_000)
    }
    fn boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
    fn sleep(&self, time: Duration) {
        self.pass(time);
    }
}

/// A writer, and a copy that follows it.
struct Pair {
    rig: Rig,
    clock: Arc<Hand>,
    manner: Manner,
}

impl Pair {
    fn on(rig: Rig) -> Self {
        let clock = Arc::new(Hand(AtomicU64::new(1_000_000)));
        Self { rig, clock, manner: Manner { parallelism: 1, ..Manner::default() } }
    }

    fn copy(&self) -> PathBuf {
        self.rig.dir.path().join("copy.db")
    }

    /// Restores the copy and records it, as the command does.
    fn restore(&self) {
        let state_dir = directory(&self.copy(), None);
        let options = Options { force: true, state_dir: Some(state_dir), ..Options::new(self.copy()) };
        let Outcome::Restored(restored) = restore(&self.rig.restore_env(), &options, &mut |_| {}).unwrap()
        else {
            panic!("not restored");
        };
        let record = restored.record(self.rig.store.location()).unwrap();
        let files: Arc<dyn litekeep::files::Files> = Arc::new(RealFiles);
        record_restored(&files, &self.copy(), None, &record).unwrap();
    }

    fn follow(&self) -> Follower {
        let mut env = self.rig.env();
        env.clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Follower::open(env, &self.rig.settings, self.manner, &self.copy()).unwrap()
    }

    fn assert_same(&self) {
        assert!(pages(&self.rig.path()) == pages(&self.copy()), "the copy is not what it follows");
    }
}

/// All pages, but for what SQLite counts in page 1 by itself.
fn pages(path: &Path) -> Vec<Vec<u8>> {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut all = connection.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno").unwrap();
    let mut pages: Vec<Vec<u8>> =
        all.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for range in [24..28, 92..100] {
        pages[0][range].fill(0);
    }
    pages
}

/// Steps until the tip; what the steps on the way did.
fn to_tip(follower: &mut Follower) -> Vec<Followed> {
    let mut steps = Vec::new();
    for _ in 0..1000 {
        match follower.step().unwrap() {
            Followed::AtTip => return steps,
            step => steps.push(step),
        }
    }
    panic!("never at the tip: {steps:?}");
}

fn started(rows: u32) -> (Pair, Connection, Keeper) {
    let pair = Pair::on(Rig::new());
    let writer = pair.rig.app();
    insert(&writer, rows);
    let keeper = pair.rig.keep();
    synced(&keeper);
    (pair, writer, keeper)
}

fn slot(txid: Txid) -> Key {
    Key::Ltx(Level::SLOTS, TxidRange::single(txid))
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_live_writer_is_followed_whatever_it_writes_and_open_readers_keep_their_snapshot() {
    let (pair, writer, keeper) = started(500);
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    for (name, sql) in [
        ("a row", "INSERT INTO t (v) VALUES (1)"),
        ("growth", "INSERT INTO t (v) SELECT randomblob(500) FROM t, t LIMIT 5000"),
        ("a schema", "CREATE TABLE u (a, b); CREATE INDEX i ON u (a); ALTER TABLE t ADD COLUMN w"),
        ("only page 1", "PRAGMA user_version = 7"),
        ("a slot that does not fit into one read", "INSERT INTO u SELECT randomblob(12000000), 1"),
        ("many pages freed", "DELETE FROM u; DELETE FROM t WHERE id > 100"),
        ("shrinking", "VACUUM"),
        ("growth again", "INSERT INTO t (v) SELECT randomblob(500) FROM t, t LIMIT 300"),
    ] {
        let reader = app(&pair.copy());
        reader.execute_batch("BEGIN").unwrap();
        let seen = count(&reader);
        let from = follower.tip().unwrap().txid;
        writer.execute_batch(sql).unwrap();
        let to = synced(&keeper);
        let applied: Vec<Followed> =
            (from.get() + 1..=to.get()).map(|txid| Followed::Applied(Txid::new(txid).unwrap())).collect();
        assert!(!applied.is_empty(), "{name}");
        assert_eq!(to_tip(&mut follower), applied, "{name}");
        assert_eq!(count(&reader), seen, "{name}: the reader's snapshot");
        drop(reader);
        pair.assert_same();
        assert_eq!(follower.tip().unwrap().database, sealed(&pair, to), "{name}");
        assert_eq!(follower.epoch().map(litekeep_formats::Epoch::get), Some(1));
        assert_eq!(follower.looked_at(), Some(pair.clock.boot()));
    }
    follower.close().unwrap();
    let len = std::fs::metadata(pair.copy()).unwrap().len();
    assert_eq!(len, pages(&pair.copy()).len() as u64 * 4096, "what was cut off is no longer in the file");
}

/// What a slot's seal says of the database.
fn sealed(pair: &Pair, txid: Txid) -> Option<litekeep_formats::Checksum> {
    let bytes = pair.rig.store.read(&slot(txid), None).unwrap().bytes;
    Header::parse(&bytes).unwrap().seal().unwrap().database
}

#[test]
fn r34_slots_that_are_gone_are_jumped_over() {
    let (pair, writer, keeper) = started(100);
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    for round in 0..3 {
        let from = follower.tip().unwrap().txid;
        for _ in 0..3 {
            insert(&writer, 50);
            synced(&keeper);
        }
        let newest = snapshot_of(&pair, &keeper);
        let gone: Vec<Key> =
            (from.get() + 1..newest.get()).map(|txid| slot(Txid::new(txid).unwrap())).collect();
        pair.rig.store.delete(&gone).unwrap();
        // Just after a look that reached the tip, a missing slot is the tip.
        assert_eq!(follower.step().unwrap(), Followed::AtTip, "{round}");
        pair.clock.pass(Duration::from_secs(61));
        assert_eq!(to_tip(&mut follower), [Followed::Jumped(newest)], "{round}");
        pair.assert_same();
        insert(&writer, 1);
        let next = synced(&keeper);
        assert_eq!(to_tip(&mut follower), [Followed::Applied(next)], "{round}: and slot by slot again");
        pair.assert_same();
    }
}

/// Waits until a snapshot of everything is there; returns what it covers.
fn snapshot_of(pair: &Pair, keeper: &Keeper) -> Txid {
    let newest = synced(keeper);
    keeper.snapshot();
    wait_for(keeper, "a snapshot", || {
        let whole = TxidRange::new(Txid::FIRST, newest).unwrap();
        pair.rig.store.head(&Key::Ltx(Level::SNAPSHOTS, whole)).is_ok()
    });
    newest
}

#[test]
fn an_idle_follower_asks_once_a_look_and_lists_once_a_minute() {
    let (rig, _, asked) = counted();
    let pair = Pair::on(rig);
    insert(&pair.rig.app(), 10);
    let keeper = pair.rig.keep();
    synced(&keeper);
    keeper.stop(LONG).unwrap();
    pair.restore();
    let mut follower = pair.follow();
    to_tip(&mut follower);
    let mut costs = Vec::new();
    for _ in 0..180 {
        pair.clock.pass(Duration::from_secs(1));
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(follower.step().unwrap(), Followed::AtTip);
        costs.push(asked.load(Ordering::SeqCst) - before);
    }
    let (single, more): (Vec<u32>, Vec<u32>) = costs.into_iter().partition(|cost| *cost == 1);
    assert_eq!(
        (single.len(), more.as_slice()),
        (177, [2, 2, 2].as_slice()),
        "all levels in one listing, three times"
    );
}

#[test]
fn r24_a_slot_that_does_not_fit_is_named_and_nothing_of_it_is_applied() {
    type Change = fn(&mut Header);
    let rows: [(&str, Change, KeepErrorKind); 4] = [
        ("another predecessor", |header| reseal(header, |seal| seal.predecessor = seal.database), {
            KeepErrorKind::Fenced
        }),
        ("another database", |header| reseal(header, |seal| seal.database = seal.predecessor), {
            KeepErrorKind::Fenced
        }),
        ("no seal", |header| (header.node_id, header.reserved) = (0, [0; 20]), KeepErrorKind::Fenced),
        ("R05: it lacks a page that it adds", |header| header.commit += 1, KeepErrorKind::DataDamaged),
    ];
    let (pair, writer, keeper) = started(100);
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    let before = pages(&pair.copy());
    insert(&writer, 5);
    let txid = synced(&keeper);
    let good = pair.rig.store.read(&slot(txid), None).unwrap().bytes;
    for (name, change, kind) in rows {
        pair.rig.store.put(&slot(txid), forged(&good, change).into(), TimestampMs(0)).unwrap();
        let error = follower.step().unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(&txid.to_string()), "{name}: {error}");
        assert!(pages(&pair.copy()) == before, "{name}");
    }
    let mut torn = good.to_vec();
    torn[200] ^= 1;
    pair.rig.store.put(&slot(txid), torn.into(), TimestampMs(0)).unwrap();
    assert_eq!(follower.step().unwrap_err().kind(), KeepErrorKind::DataDamaged);
    pair.rig.store.put(&slot(txid), good, TimestampMs(0)).unwrap();
    assert_eq!(to_tip(&mut follower), [Followed::Applied(txid)]);
    pair.assert_same();
}

fn reseal(header: &mut Header, change: fn(&mut Seal)) {
    let mut seal = header.seal().unwrap();
    change(&mut seal);
    header.set_seal(&seal);
}

/// The same pages under another header.
fn forged(good: &[u8], change: fn(&mut Header)) -> Vec<u8> {
    let mut decoder = Decoder::new(good).unwrap();
    let mut header = *decoder.header();
    change(&mut header);
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&header, PageEncoding::Block, &mut out).unwrap();
    let mut page = vec![0; header.page_size.bytes()];
    while let Some(number) = decoder.next_page(&mut page).unwrap() {
        encoder.page(number, &page, &mut out).unwrap();
    }
    encoder.finish(None, &mut out).unwrap();
    out
}

#[test]
fn changes_of_its_own_stop_it_and_are_kept_aside_on_the_way_back() {
    let (pair, writer, keeper) = started(100);
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    assert_eq!(follower.bring_back().unwrap(), None, "there is nothing to bring back");
    for round in 1..3 {
        let own = app(&pair.copy());
        own.execute_batch("INSERT INTO t (v) VALUES ('our own')").unwrap();
        let kept = count(&own);
        insert(&writer, 20);
        let newest = synced(&keeper);
        assert_eq!(follower.step().unwrap(), Followed::Ahead);
        assert_eq!(follower.step().unwrap(), Followed::Ahead, "nothing happens by itself");
        assert_eq!(count(&own), kept);
        let aside = follower.bring_back().unwrap().unwrap();
        let lone = Connection::open(&aside).unwrap();
        assert_eq!(count(&lone), kept, "{round}: {}", aside.display());
        let ours: i64 =
            lone.query_row("SELECT count(*) FROM t WHERE v = 'our own'", [], |row| row.get(0)).unwrap();
        assert_eq!(ours, 1);
        assert_eq!(follower.tip().unwrap().txid, newest);
        pair.assert_same();
        insert(&writer, 1);
        let next = synced(&keeper);
        assert_eq!(to_tip(&mut follower), [Followed::Applied(next)], "{round}");
        pair.assert_same();
    }
}

/// Threads, and how many of them run.
#[derive(Clone, Default)]
struct Counted {
    running: Arc<(std::sync::Mutex<u32>, std::sync::Condvar)>,
}

impl litekeep::jobs::Spawner for Counted {
    fn spawn(&self, name: &str, job: litekeep::jobs::Job) {
        *self.running.0.lock().unwrap() += 1;
        let running = Arc::clone(&self.running);
        litekeep::jobs::Threads.spawn(
            name,
            Box::new(move || {
                job();
                *running.0.lock().unwrap() -= 1;
                running.1.notify_all();
            }),
        );
    }
}

impl Counted {
    fn wait(&self) {
        drop(self.running.1.wait_while(self.running.0.lock().unwrap(), |running| *running > 0).unwrap());
    }
}

/// The loser of a hand-over: its slots were built and never put, and another one went on under their numbers.
#[test]
fn r24_an_owner_that_lost_keeps_its_staged_slots_aside_and_follows() {
    let (rig, mood, _) = counted();
    let pair = Pair::on(rig);
    let winner = pair.rig.app();
    insert(&winner, 50);
    let keeper = pair.rig.keep();
    synced(&keeper);
    keeper.stop(LONG).unwrap();
    pair.restore();
    let loser = app(&pair.copy());
    let jobs = Counted::default();
    let env = Env { spawner: Arc::new(jobs.clone()), ..pair.rig.env() };
    let keeper = Keeper::start(env, pair.rig.settings.clone(), &pair.copy()).unwrap();
    let common = synced(&keeper);
    mood.store(DOWN, Ordering::SeqCst);
    loser.execute_batch("INSERT INTO t (v) VALUES ('our own')").unwrap();
    wait_for(&keeper, "a slot that waits", || keeper.status().built > Some(common));
    assert!(keeper.stop(Duration::from_millis(1)).is_err());
    // A put that is still on its way would arrive.
    jobs.wait();
    mood.store(FINE, Ordering::SeqCst);
    let keeper = pair.rig.keep();
    insert(&winner, 5);
    let newest = synced(&keeper);
    // The fence has the number of the loser's slot.
    assert!(newest > common, "{newest} behind {common}");
    let mut follower = pair.follow();
    assert_eq!(follower.step().unwrap(), Followed::Ahead);
    let aside = follower.bring_back().unwrap().unwrap();
    let kept = Connection::open(&aside).unwrap();
    let ours: i64 =
        kept.query_row("SELECT count(*) FROM t WHERE v = 'our own'", [], |row| row.get(0)).unwrap();
    assert_eq!(ours, 1);
    pair.assert_same();
    let staged = std::fs::read_dir(directory(&pair.copy(), None)).unwrap().flatten();
    let staged = staged.filter(|entry| entry.file_name().to_string_lossy().starts_with("slot-")).count();
    assert_eq!(staged, 0, "nothing is left that could still go up");
    insert(&winner, 5);
    let next = synced(&keeper);
    assert_eq!(to_tip(&mut follower), [Followed::Applied(next)]);
    pair.assert_same();
}

#[test]
fn another_page_size_is_an_error_or_a_new_file_as_the_caller_wants() {
    let (mut pair, writer, keeper) = started(100);
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    keeper.stop(LONG).unwrap();
    writer
        .execute_batch("PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL")
        .unwrap();
    let keeper = pair.rig.keep();
    let to = synced(&keeper);
    let error = follower.step().unwrap_err();
    assert!(matches!(error, KeepError::PageSize { ours: 4096, theirs: 8192, .. }), "{error}");
    drop(follower);
    pair.manner.replace_file = true;
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower).last(), Some(&Followed::Jumped(to)));
    pair.assert_same();
    insert(&writer, 1);
    let next = synced(&keeper);
    assert_eq!(to_tip(&mut follower), [Followed::Applied(next)]);
    pair.assert_same();
}

#[test]
fn a_replica_that_holds_nothing_any_more_is_no_tip() {
    let (pair, _, keeper) = started(100);
    pair.restore();
    keeper.stop(LONG).unwrap();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    let all: Vec<Key> =
        Level::all().flat_map(|level| pair.rig.objects(Scope::Level(level))).map(|entry| entry.key).collect();
    pair.rig.store.delete(&all).unwrap();
    pair.clock.pass(Duration::from_secs(61));
    let error = follower.step().unwrap_err();
    assert!(matches!(error, KeepError::Wiped { .. }), "{error}");
}

#[test]
fn a_slot_whose_content_lies_in_level_9_is_waited_for_and_then_jumped_to() {
    let mut pair = Pair::on(Rig::new());
    pair.rig.settings.max_slot_bytes = 100_000;
    let writer = pair.rig.app();
    insert(&writer, 10);
    let keeper = pair.rig.keep();
    let from = synced(&keeper);
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    insert(&writer, 3000);
    let txid = synced(&keeper);
    assert_eq!(txid, from.next().next(), "the announcement, and what says that the image is there");
    let says_so = Key::Ltx(Level::SLOTS, TxidRange::single(txid));
    let bytes = pair.rig.store.read(&says_so, None).unwrap().bytes;
    pair.rig.store.delete(&[says_so]).unwrap();
    for _ in 0..3 {
        pair.clock.pass(Duration::from_secs(40));
        assert_eq!(follower.step().unwrap(), Followed::AtTip, "it does not count yet");
    }
    assert_eq!(follower.tip().unwrap().txid, from);
    pair.rig.store.put(&says_so, bytes, TimestampMs(0)).unwrap();
    assert_eq!(follower.step().unwrap(), Followed::Jumped(txid));
    pair.assert_same();
}

#[test]
fn the_wal_of_a_copy_stays_small() {
    let (mut pair, writer, keeper) = started(100);
    pair.rig.settings.min_checkpoint_pages = 100;
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    for _ in 0..20 {
        writer
            .execute_batch("UPDATE t SET v = randomblob(100); INSERT INTO t (v) VALUES (zeroblob(200000))")
            .unwrap();
        synced(&keeper);
        to_tip(&mut follower);
    }
    let len = std::fs::metadata(with_suffix(&pair.copy(), "-wal")).unwrap().len();
    assert!(len < 300 * 4120, "{len} bytes, of about 1,100 frames that were written");
    pair.assert_same();
}

#[test]
fn a_fence_only_moves_the_position() {
    let (pair, _, keeper) = started(100);
    keeper.stop(LONG).unwrap();
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    let tip = follower.tip().unwrap().clone();
    let before = pages(&pair.copy());
    let mut header = {
        let bytes = pair.rig.store.read(&slot(tip.txid), None).unwrap().bytes;
        Header::parse(&bytes).unwrap()
    };
    header.range = TxidRange::single(tip.txid.next());
    let epoch = litekeep_formats::Epoch::new(2).unwrap();
    let marks = litekeep_formats::ltx::Marks::FENCE;
    header.set_seal(&Seal { epoch, database: tip.database, predecessor: tip.slot, marks });
    let mut out = Vec::new();
    let encoder = Encoder::new(&header, PageEncoding::Block, &mut out).unwrap();
    encoder.finish(None, &mut out).unwrap();
    pair.rig.store.put(&slot(tip.txid.next()), out.into(), TimestampMs(0)).unwrap();
    assert_eq!(to_tip(&mut follower), [Followed::Applied(tip.txid.next())]);
    assert_eq!((follower.epoch(), follower.tip().unwrap().database), (Some(epoch), tip.database));
    assert!(pages(&pair.copy()) == before);
    drop(follower);
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    assert_eq!(follower.tip().unwrap().txid, tip.txid.next());
}

#[test]
fn whoever_holds_the_write_lock_is_waited_for_in_steps() {
    let (pair, writer, keeper) = started(100);
    pair.restore();
    let mut follower = pair.follow();
    assert_eq!(to_tip(&mut follower), []);
    let other = app(&pair.copy());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    insert(&writer, 5);
    let txid = synced(&keeper);
    for _ in 0..3 {
        assert_eq!(follower.step().unwrap(), Followed::Busy);
    }
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(follower.step().unwrap(), Followed::Applied(txid));
    pair.assert_same();
}

/// What a follower is at when it dies.
#[derive(Debug, Clone, Copy)]
enum Scene {
    /// It opens a file that was just restored.
    Begins,
    /// It applies a slot.
    Slot,
    /// It jumps.
    Jump,
    /// It brings a file back that has changes of its own.
    Back,
    /// It ends.
    Ends,
}

/// Dies at the local change with this number; returns whether there was one.
fn dies(scene: Scene, number: i64) -> bool {
    let (pair, writer, keeper) = started(100);
    pair.restore();
    let left = Arc::new(AtomicI64::new(0));
    let mut env = pair.rig.env();
    env.clock = Arc::clone(&pair.clock) as Arc<dyn Clock>;
    env.files =
        Arc::new(FailsOnce { dir: directory(&pair.copy(), None), left: Arc::clone(&left), for_good: false });
    let mut follower = Follower::open(env, &pair.rig.settings, pair.manner, &pair.copy()).unwrap();
    if !matches!(scene, Scene::Begins) {
        assert_eq!(to_tip(&mut follower), []);
    }
    insert(&writer, 300);
    synced(&keeper);
    if matches!(scene, Scene::Jump) {
        let from = follower.tip().unwrap().txid;
        insert(&writer, 3);
        snapshot_of(&pair, &keeper);
        pair.rig.store.delete(&[slot(from.next())]).unwrap();
        pair.clock.pass(Duration::from_secs(61));
    }
    if matches!(scene, Scene::Back) {
        app(&pair.copy()).execute_batch("INSERT INTO t (v) VALUES ('our own')").unwrap();
        assert_eq!(follower.step().unwrap(), Followed::Ahead);
    }
    left.store(number, Ordering::SeqCst);
    let ended = match scene {
        Scene::Back => follower.bring_back().map(drop),
        Scene::Begins | Scene::Slot | Scene::Jump | Scene::Ends => follower.step().map(drop),
    };
    let ended = match scene {
        Scene::Ends => ended.and(follower.close()),
        _ => {
            drop(follower);
            ended
        }
    };
    let died = left.load(Ordering::SeqCst) <= 0;
    assert_eq!(ended.is_err(), died, "{ended:?}");
    let mut follower = pair.follow();
    if matches!(scene, Scene::Back) && follower.step().unwrap() == Followed::Ahead {
        follower.bring_back().unwrap();
    }
    to_tip(&mut follower);
    pair.assert_same();
    assert_eq!(follower.tip().unwrap().txid, synced(&keeper));
    for _ in 0..2 {
        insert(&writer, 5);
        let next = synced(&keeper);
        assert_eq!(to_tip(&mut follower), [Followed::Applied(next)]);
        pair.assert_same();
    }
    died
}

#[test]
fn wherever_it_dies_it_goes_on() {
    for (scene, at_least) in
        [(Scene::Begins, 8), (Scene::Slot, 6), (Scene::Jump, 12), (Scene::Back, 12), (Scene::Ends, 8)]
    {
        let mut met = 0;
        for first in (1..).step_by(8) {
            let died: Vec<bool> = std::thread::scope(|scope| {
                let runs: Vec<_> =
                    (first..first + 8).map(|number| scope.spawn(move || dies(scene, number))).collect();
                let ended = runs.into_iter().zip(first..);
                ended
                    .map(|(run, number)| run.join().unwrap_or_else(|_| panic!("{scene:?}, change {number}")))
                    .collect()
            });
            met += died.iter().filter(|died| **died).count();
            if died.contains(&false) {
                break;
            }
        }
        assert!(met >= at_least, "{scene:?}: only {met} local changes");
    }
}
