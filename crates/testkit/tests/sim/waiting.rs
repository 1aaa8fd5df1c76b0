use crate::scene::{Program, Scene, WAL, rows};
use litekeep::replicator::Health;
use litekeep::settings::Settings;
use litekeep_core::env::Clock;
use litekeep_store::ErrorKind;
use rusqlite::Connection;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::disk::{Call, Fault};
use testkit::faulty::{Fault as StoreFault, Plan, Verb};

const INSERT: &str = "INSERT INTO t(body) VALUES (randomblob(500))";

/// An application's connection; the first one makes the table.
fn open(application: &Program) -> Connection {
    let app = application.open();
    app.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA busy_timeout=0; \
         CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body)",
    )
    .unwrap();
    app
}

fn checkpoint(app: &Connection, mode: &str) -> bool {
    app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(0)).unwrap() == 0
}

/// The notification of a commit comes with its bytes, but it is visible only once they are synced, and nothing tells
/// of that moment. Whatever the WAL was before it, it must not lie there until the engine's next look, a minute later.
fn a_slow_commit_is_seen(
    name: &str,
    settings: Settings,
    prepare: impl FnOnce(&mut Connection, &Program, &mut dyn FnMut()),
) {
    let scene = Scene::new();
    let (application, keeper) = (scene.program(), scene.program());
    let mut app = open(&application);
    app.execute(INSERT, []).unwrap();
    let engine = Arc::new(Mutex::new(scene.engine(&keeper, settings)));
    let pass = |time| engine.lock().unwrap().pass(time);
    pass(Duration::from_secs(600));
    prepare(&mut app, &application, &mut || pass(Duration::from_secs(600)));
    let before = engine.lock().unwrap().status().durable;

    // Each write to the WAL wakes the engine, and what the application does next, at last the sync, takes 50 ms.
    let slow = {
        let (engine, disk) = (Arc::clone(&engine), scene.disk.clone());
        let mut seen = disk.peek(WAL);
        move || {
            let now = disk.peek(WAL);
            if now != seen {
                seen = now;
                let mut engine = engine.lock().unwrap();
                engine.poke();
                engine.pass(Duration::from_millis(50));
            }
        }
    };
    application.process.interrupt(Box::new(slow));
    app.execute(INSERT, []).unwrap();
    application.process.interrupt(Box::new(|| ()));
    assert_eq!(engine.lock().unwrap().status().durable, before, "{name}: it was visible too early");

    pass(Duration::from_secs(2));
    assert!(engine.lock().unwrap().status().durable > before, "{name}: the commit lies there unseen");
    assert_eq!(scene.rows_in_replica(), rows(&app), "{name}");
}

#[test]
fn a_commit_in_a_sync_of_fifty_milliseconds_needs_no_second_notification() {
    let never = Settings { checkpoint_interval: None, ..Settings::default() };
    a_slow_commit_is_seen("behind other frames", never.clone(), |_, _, _| ());
    a_slow_commit_is_seen("in a WAL that starts again", Settings::default(), |_, _, _| ());
    a_slow_commit_is_seen("in a WAL that was cut to nothing", Settings::default(), |app, _, pass| {
        assert!(checkpoint(app, "TRUNCATE"));
        pass();
    });
    a_slow_commit_is_seen("by a new writer in such a WAL", Settings::default(), |app, program, pass| {
        assert!(checkpoint(app, "TRUNCATE"));
        pass();
        // It draws salts of its own, which the index does not know before the commit is done.
        *app = open(program);
    });
}

/// Calls `at` when the WAL has changed so many times, before whatever the application does next.
fn at_the_change(
    scene: &Scene,
    number: u32,
    mut at: impl FnMut() + Send + 'static,
) -> Box<dyn FnMut() + Send> {
    let disk = scene.disk.clone();
    let (mut seen, mut changes) = (disk.peek(WAL), 0);
    Box::new(move || {
        let now = disk.peek(WAL);
        if now != seen {
            (seen, changes) = (now, changes + 1);
            if changes == number {
                at();
            }
        }
    })
}

/// Two commits may come with one notification, and the look that finds the first be over while the second is in its sync.
#[test]
fn a_commit_that_is_found_does_not_hide_the_next_which_is_in_its_sync() {
    let scene = Scene::new();
    let (application, keeper) = (scene.program(), scene.program());
    let app = open(&application);
    app.execute(INSERT, []).unwrap();
    let settings = Settings { checkpoint_interval: None, ..Settings::default() };
    let engine = Arc::new(Mutex::new(scene.engine(&keeper, settings)));
    let pass = |time| engine.lock().unwrap().pass(time);
    pass(Duration::from_secs(600));

    // Nobody tells of the first commit, nor of any of the second's writes but the last, behind which comes the sync.
    let before = scene.disk.peek(WAL).map_or(0, |wal| wal.len());
    app.execute(INSERT, []).unwrap();
    let frames = (scene.disk.peek(WAL).map_or(0, |wal| wal.len()) - before) / (24 + 4096);
    let found = Arc::new(Mutex::new(None));
    let look = {
        let (engine, found) = (Arc::clone(&engine), Arc::clone(&found));
        move || {
            let mut engine = engine.lock().unwrap();
            let before = engine.status().captured_bytes;
            engine.poke();
            engine.pass(Duration::from_millis(50));
            *found.lock().unwrap() = Some(engine.status().captured_bytes - before);
        }
    };
    application.process.interrupt(at_the_change(&scene, 2 * u32::try_from(frames).unwrap(), look));
    app.execute(INSERT, []).unwrap();
    application.process.interrupt(Box::new(|| ()));
    assert!(found.lock().unwrap().is_some_and(|bytes| bytes > 0), "the first commit was to be found");
    assert_ne!(scene.rows_in_replica(), rows(&app), "the second was visible too early");

    pass(Duration::from_secs(2));
    assert_eq!(scene.rows_in_replica(), rows(&app), "the second lies there unseen");
}

#[test]
fn commits_share_a_slot_up_to_the_limit_and_what_is_past_it_does_not_wait() {
    const BODY: &str = "INSERT INTO t(body) VALUES (randomblob(20000))";
    for (limit, slots) in [(1, 4), (45_000, 2), (64 << 20, 1), (u64::MAX, 1)] {
        let scene = Scene::new();
        let (application, keeper) = (scene.program(), scene.program());
        let app = open(&application);
        let settings =
            Settings { max_sync_wal_bytes: limit, checkpoint_interval: None, ..Settings::default() };
        let mut engine = scene.engine(&keeper, settings);
        engine.pass(Duration::from_secs(600));
        // Protection that began with an empty WAL is renewed first, which takes all that there is.
        app.execute(INSERT, []).unwrap();
        engine.poke();
        engine.pass(Duration::from_secs(10));
        let before = scene.slots_in_replica();
        for _ in 0..4 {
            app.execute(BODY, []).unwrap();
        }
        engine.poke();
        engine.pass(Duration::from_millis(500));
        assert_eq!(scene.slots_in_replica() - before, slots, "{limit} bytes");
        assert_eq!(scene.rows_in_replica(), rows(&app));
    }
}

/// A store that refuses everything from here on.
fn refuses(scene: &Scene) {
    let fault = StoreFault::Refused(ErrorKind::Retry);
    scene.store.plan(Plan { verb: None, object: String::new(), skip: 0, times: u64::MAX, fault });
}

#[test]
fn r55_a_stop_tries_again_after_pauses_as_short_as_is_set() {
    for (longest, tries) in [(100, 200..=400), (500, 40..=80), (5000, 6..=11)] {
        let scene = Scene::new();
        let (application, keeper) = (scene.program(), scene.program());
        let app = open(&application);
        let settings = Settings { shutdown_retry: Duration::from_millis(longest), ..Settings::default() };
        let mut engine = scene.engine(&keeper, settings);
        engine.pass(Duration::from_secs(600));
        refuses(&scene);
        app.execute(INSERT, []).unwrap();
        engine.poke();
        // The pauses of a running engine are a minute by now.
        engine.pass(Duration::from_secs(600));
        let creates = || scene.store.records().iter().filter(|record| record.verb == Verb::Create).count();
        let before = creates();
        engine.replicator.stop(Duration::from_secs(20));
        engine.poke();
        engine.pass(Duration::from_secs(21));
        assert_eq!(engine.status().health, Health::Ended);
        let count = creates() - before;
        assert!(tries.contains(&count), "{count} tries in 20 s, {longest} ms");
    }
}

#[test]
fn r55_a_stop_ends_the_pause_of_a_start_that_failed() {
    // The pause is 30 to 60 s by now: most of these moments are far from its end.
    for moment in [600, 607, 614, 621, 628, 635] {
        let scene = Scene::new();
        let (application, keeper) = (scene.program(), scene.program());
        let app = open(&application);
        app.execute(INSERT, []).unwrap();
        refuses(&scene);
        let mut engine = scene.engine(&keeper, Settings::default());
        engine.pass(Duration::from_secs(moment));
        scene.store.forget_plans();
        engine.replicator.stop(Duration::from_secs(5));
        engine.poke();
        engine.pass(Duration::from_secs(5));
        assert_eq!(engine.status().health, Health::Ended);
        assert_eq!(scene.rows_in_replica(), rows(&app), "{moment}");
    }
}

#[test]
fn r18_an_application_that_opens_and_closes_between_two_looks_takes_nothing_with_it() {
    let scene = Scene::new();
    let (application, keeper) = (scene.program(), scene.program());
    open(&application).execute(INSERT, []).unwrap();
    let mut engine = scene.engine(&keeper, Settings::default());
    engine.pass(Duration::from_secs(600));
    for query in 2..8 {
        // Opened, written and closed again before the engine is called: were it the last one, the WAL would go with it.
        open(&application).execute(INSERT, []).unwrap();
        engine.poke();
        engine.pass(Duration::from_secs(2));
        assert_eq!(scene.rows_in_replica(), query);
    }
    let status = engine.status();
    assert_eq!((status.breaks, status.images), (0, 1), "{status:?}");
}

/// An application that asks for the write lock at every call of the engine and never waits for it.
struct Impatient {
    app: Connection,
    refused: u32,
}

impl Impatient {
    fn ask(&mut self, sql: &str) {
        if let Err(error) = self.app.execute_batch(sql) {
            assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy), "{error}");
            self.refused += 1;
        }
    }
}

#[test]
fn r12_beside_a_reader_that_never_ends_the_write_lock_is_taken_seldom_and_never_kept() {
    let scene = Scene::new();
    let (application, keeper) = (scene.program(), scene.program());
    let (app, reader) = (open(&application), application.open());
    app.execute(INSERT, []).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(rows(&reader), 1);
    let settings = Settings { min_checkpoint_pages: 10, ..Settings::default() };
    let mut engine = scene.engine(&keeper, settings);
    let impatient = Arc::new(Mutex::new(Impatient { app, refused: 0 }));
    let refused = || impatient.lock().unwrap().refused;
    let at_each_call = Arc::clone(&impatient);
    keeper.process.interrupt(Box::new(move || at_each_call.lock().unwrap().ask("BEGIN IMMEDIATE; ROLLBACK")));

    let (mut taken, end) = (0, scene.clock.boot() + Duration::from_secs(12));
    while scene.clock.boot() < end {
        let before = refused();
        let wait = engine.step().clamp(Duration::from_millis(5), Duration::from_millis(20));
        taken += u32::from(refused() > before);
        scene.clock.advance(wait);
        let before = refused();
        impatient.lock().unwrap().ask(INSERT);
        assert_eq!(refused(), before, "a writer is kept out while the engine waits");
    }
    // The pauses double up to 0.1 s; after a hundred failures it is one attempt a second.
    assert!((20..=110).contains(&taken), "the write lock was taken {taken} times in 12 s");
    assert_eq!(rows(&reader), 1, "the reader sees what it saw");

    // It leaves, and the WAL starts again.
    drop(reader);
    keeper.process.interrupt(Box::new(|| ()));
    engine.pass(Duration::from_secs(5));
    impatient.lock().unwrap().ask(INSERT);
    engine.poke();
    engine.pass(Duration::from_secs(5));
    assert!(engine.status().wal_frames < 10, "{:?}", engine.status());
    assert_eq!(scene.rows_in_replica(), rows(&impatient.lock().unwrap().app));
}

/// An application that came in rollback mode, and an engine whose change to WAL mode meets `fault`.
fn a_change_of_mode_fails(fault: Fault) -> u64 {
    let scene = Scene::new();
    let (application, keeper) = (scene.program(), scene.program());
    let app = application.open();
    app.execute_batch("PRAGMA busy_timeout=0; CREATE TABLE t(id INTEGER PRIMARY KEY, body)").unwrap();
    let shown = format!("{fault:?}");
    scene.disk.inject(fault);
    let mut engine = scene.engine(&keeper, Settings::default());
    let mut work = |seconds| {
        for _ in 0..seconds {
            engine.step();
            scene.clock.advance(Duration::from_secs(1));
        }
    };
    work(60);
    let failures = scene.disk.failures();
    scene.disk.heal();
    work(60);
    assert_eq!(app.execute(INSERT, []), Ok(1), "{shown}");
    work(60);
    assert_eq!(scene.rows_in_replica(), rows(&app), "{shown}");
    failures
}

/// Seed 310919 of the scenario `bulk`: the engine took the database for one in WAL mode and held a read transaction, which
/// in the old mode keeps every writer out.
#[test]
fn an_engine_that_could_not_change_the_journal_mode_tries_again_and_stands_in_nobodys_way() {
    use std::io::ErrorKind::{Other, StorageFull};
    let mut met = 0;
    for (call, error) in [(Call::Write, Other), (Call::Write, StorageFull), (Call::Sync, Other)] {
        for (skip, times) in (0..12).flat_map(|skip| [(skip, 1), (skip, 3)]) {
            let path = "/data/app.db".to_owned();
            met += a_change_of_mode_fails(Fault { call, path, skip, times, error });
        }
    }
    assert!(met > 40, "only {met} failures");
}
