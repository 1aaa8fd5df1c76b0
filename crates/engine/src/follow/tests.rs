//! What a follower hands over to a replicator: the file as it is, and nothing left to compare.

use super::{Followed, Follower, Manner};
use crate::clock::{SystemClock, SystemRandom};
use crate::files::{Files, RealFiles};
use crate::jobs::Threads;
use crate::keeper::Keeper;
use crate::local::{directory, record_restored};
use crate::replicator::Env;
use crate::restore::{Options, Outcome, RestoreEnv, restore};
use crate::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_formats::ltx::{Decoder, Header};
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::memory::MemoryStore;
use litekeep_store::{Key, Store};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn env(store: &Arc<dyn Store>) -> Env {
    Env {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::default()),
        files: Arc::new(RealFiles),
        vfs: None,
        store: Arc::clone(store),
        spawner: Arc::new(Threads),
        decisions: Decisions::RIGHT,
    }
}

fn restored(store: &Arc<dyn Store>, to: &Path) {
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let env = RestoreEnv { store: Arc::clone(store), files: Arc::clone(&files), clock, vfs: None };
    let options = Options { state_dir: Some(directory(to, None)), ..Options::new(to) };
    let Ok(Outcome::Restored(restored)) = restore(&env, &options, &mut |_| {}) else {
        panic!("not restored");
    };
    let record = restored.record(store.location()).expect("a chain");
    record_restored(&files, to, None, &record).expect("recorded");
}

fn slot(store: &Arc<dyn Store>, txid: Txid) -> (Header, usize) {
    let chunk = store.read(&Key::Ltx(Level::SLOTS, TxidRange::single(txid)), None).expect("it is there");
    let mut decoder = Decoder::new(&chunk.bytes[..]).expect("a slot");
    let header = *decoder.header();
    let mut page = vec![0; header.page_size.bytes()];
    let pages = std::iter::from_fn(|| decoder.next_page(&mut page).expect("whole")).count();
    (header, pages)
}

/// The owner changes sides again and again; whoever takes over builds on the last slot, from the frame where the
/// follower ended, and ships only what the application writes.
#[test]
fn what_is_handed_over_is_gone_on_with_and_nothing_is_compared_or_shipped_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock));
    let settings = Settings { sync_interval: Duration::from_millis(5), ..Settings::default() };
    let paths = [dir.path().join("a.db"), dir.path().join("b.db")];
    let connect = |path: &Path| {
        let app = Connection::open(path).expect("opened");
        app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0").expect("in WAL mode");
        app
    };
    let mut apps = vec![connect(&paths[0])];
    apps[0].execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, v)").expect("made");
    let mut keeper = Keeper::start(env(&store), settings.clone(), &paths[0]).expect("started");
    keeper.sync(LONG).expect("synced");
    restored(&store, &paths[1]);
    apps.push(connect(&paths[1]));
    for turn in 0..4 {
        let (owner, other) = (turn % 2, (turn + 1) % 2);
        let manner = Manner { parallelism: 1, ..Manner::default() };
        let mut follower = Follower::open(env(&store), &settings, manner, &paths[other]).expect("opened");
        // What the other one wrote as it took over.
        let missed = usize::from(turn > 0);
        for _ in 0..missed {
            let step = follower.step().expect("a step");
            assert!(matches!(step, Followed::Applied(_)), "turn {turn}: {step:?}");
        }
        assert_eq!(follower.step().expect("a step"), Followed::AtTip, "turn {turn}");
        for _ in 0..2 {
            apps[owner]
                .execute_batch("INSERT INTO t (v) SELECT randomblob(900) FROM (VALUES (1), (2), (3))")
                .expect("written");
            let newest = keeper.sync(LONG).expect("synced").expect("something");
            assert_eq!(follower.step().expect("a step"), Followed::Applied(newest), "turn {turn}");
            assert!(follower.seen.is_some(), "our own commit is no reason to read the file again");
        }
        let newest = keeper.stop(LONG).expect("stopped").expect("something");
        drop(follower.into_local().expect("handed over"));
        keeper = Keeper::start(env(&store), settings.clone(), &paths[other]).expect("started");
        assert_eq!(keeper.sync(LONG).expect("synced"), Some(newest), "turn {turn}: nothing went up");
        apps[other].execute_batch("INSERT INTO t (v) VALUES (1)").expect("written");
        let txid = keeper.sync(LONG).expect("synced").expect("something");
        assert_eq!(txid, newest.next());
        let (header, pages) = slot(&store, txid);
        assert!(pages < 4, "turn {turn}: {pages} pages");
        let sealed = header.seal().and_then(|seal| seal.database);
        assert!(sealed.is_some(), "turn {turn}: the checksums of all pages were handed over");
    }
}
