//! Two nodes on one replica: following, handing over, losing, coming back.

#![allow(clippy::disallowed_methods, reason = "real threads are waited for in real time")]

use crate::faults::{DOWN, FINE, HOLDS_THE_LAST_ANSWER, SILENT, TAKES_NO_SLOT, moody_way};
use crate::rig::{LONG, Rig, app};
use litekeep::error::KeepError;
use litekeep::local::{self, record_restored};
use litekeep::node::{Application, Left, Node, NodeSettings, Role};
use litekeep::restore::{Options, Outcome, restore};
use litekeep::settings::Settings;
use litekeep_core::ownership::Times;
use litekeep_formats::{Epoch, Level, Txid};
use litekeep_store::{Scope, Store};
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// An application that writes only while it may.
#[derive(Default)]
struct App {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    path: PathBuf,
    role: Role,
    left: Vec<Left>,
}

impl Application for App {
    fn role(&self, role: Role) {
        self.state.lock().unwrap().role = role;
        self.changed.notify_all();
    }

    fn start_writing(&self, _epoch: Option<Epoch>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap();
        let connection = app(&state.path);
        connection
            .execute_batch("CREATE TABLE IF NOT EXISTS t (v TEXT)")
            .map_err(|error| error.to_string())?;
        state.connection = Some(connection);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    fn stop_writing(&self) {
        self.state.lock().unwrap().connection = None;
    }

    fn left(&self, how: Left) {
        self.state.lock().unwrap().left.push(how);
        self.changed.notify_all();
    }
}

struct Member {
    rig: Rig,
    app: Arc<App>,
    node: Option<Node>,
}

const TIMES: Times = Times {
    tenure: Duration::from_millis(100),
    hand_over: Duration::from_millis(300),
    horizon: Duration::from_secs(60),
};

impl Member {
    /// A fresh machine: what the replica holds is restored; where it is empty, a database is made.
    fn join(store: &Arc<dyn Store>) -> Self {
        Self::join_with(store, TIMES)
    }

    fn join_with(store: &Arc<dyn Store>, times: Times) -> Self {
        let rig = Rig::on(Arc::clone(store));
        let env = rig.restore_env();
        let state_dir = Some(rig.meta());
        let options = Options { if_replica_exists: true, state_dir, ..Options::new(rig.path()) };
        let outcome = restore(&env, &options, &mut |_| {}).unwrap();
        let fresh = !matches!(outcome, Outcome::Restored(_));
        if let Outcome::Restored(restored) = &outcome {
            let record = restored.record(store.location()).unwrap();
            record_restored(&env.files, &rig.path(), Some(&rig.meta()), &record).unwrap();
        }
        if fresh {
            app(&rig.path()).execute_batch("CREATE TABLE t (v TEXT)").unwrap();
        }
        let application = Arc::new(App::default());
        application.state.lock().unwrap().path = rig.path();
        let node = Some(start(&rig, &application, fresh, times));
        Self { rig, app: application, node }
    }

    /// The same machine starts again, with what is on its disk.
    fn start_again(&mut self) {
        self.node = None;
        self.node = Some(start(&self.rig, &self.app, false, TIMES));
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// Waits until the application may write.
    fn own(&self) {
        let deadline = Instant::now() + LONG;
        let mut state = self.app.state.lock().unwrap();
        while state.connection.is_none() {
            assert!(Instant::now() < deadline, "no owner: {:?}", self.node().status());
            self.node().ask_to_own();
            state = self.app.changed.wait_timeout(state, Duration::from_millis(20)).unwrap().0;
        }
    }

    /// One row, committed here and no more.
    fn commit(&self, row: &str) {
        let state = self.app.state.lock().unwrap();
        state.connection.as_ref().unwrap().execute("INSERT INTO t VALUES (?1)", [row]).unwrap();
    }

    /// One row, acknowledged by the replica; `false` when the epoch ended before that was known.
    fn write(&self, row: &str) -> bool {
        loop {
            self.own();
            let state = self.app.state.lock().unwrap();
            let Some(connection) = &state.connection else { continue };
            connection.execute("INSERT INTO t VALUES (?1)", [row]).unwrap();
            let before = state.left.len();
            drop(state);
            return match self.node().sync(LONG) {
                Ok(_) => true,
                Err(_) => {
                    let state = self.app.state.lock().unwrap();
                    let ended = |state: &mut State| state.left.len() == before;
                    let state = self.app.changed.wait_timeout_while(state, LONG, ended).unwrap().0;
                    matches!(state.left[before], Left::Closed(_))
                }
            };
        }
    }

    fn rows(&self) -> Vec<String> {
        self.node().look(LONG).unwrap();
        rows(&self.rig.path())
    }

    fn wait_for(&self, role: Role) {
        let state = self.app.state.lock().unwrap();
        let other = |state: &mut State| state.role != role;
        let (state, waited) = self.app.changed.wait_timeout_while(state, LONG, other).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "no {role:?}: {:?}", self.node().status());
    }
}

fn start(rig: &Rig, application: &Arc<App>, fresh: bool, times: Times) -> Node {
    let settings = NodeSettings {
        replication: Settings { sync_interval: Duration::from_millis(5), ..Settings::default() },
        times,
        look_every: Duration::from_millis(50),
        fresh,
        ..NodeSettings::default()
    };
    let application = Arc::clone(application) as Arc<dyn Application>;
    Node::start(rig.env(), settings, &rig.path(), application).unwrap()
}

fn rows(path: &std::path::Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut rows = connection.prepare("SELECT v FROM t ORDER BY v").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn r23_ownership_goes_back_and_forth_and_every_acknowledged_row_is_there_once() {
    let store = Rig::new().store;
    let first = Member::join(&store);
    let mut written = Vec::new();
    let mut write = |member: &Member, row: String| {
        assert!(member.write(&row), "{row}");
        written.push(row);
    };
    write(&first, "0".to_owned());
    let second = Member::join(&store);
    second.wait_for(Role::Standby);
    let counted = |member: &Member| {
        let status = member.node().status();
        let all = status.replication.unwrap_or_default().counting_on(&status.past);
        (all.syncs.count, all.captured_bytes)
    };
    for round in 1..4 {
        for (name, member, other) in [("second", &second, &first), ("first", &first, &second)] {
            let (before, theirs) = (counted(member), counted(other));
            for row in 0..3 {
                write(member, format!("{round} {name} {row}"));
            }
            let after = counted(member);
            assert!(after.0 > before.0 && after.1 > before.1, "it counts anew: {before:?} {after:?}");
            other.wait_for(Role::Standby);
            let now = counted(other);
            assert!(now.0 >= theirs.0 && now.1 >= theirs.1, "a standby forgot: {theirs:?} {now:?}");
            assert_eq!(other.rows(), member.rows(), "{name}");
        }
    }
    written.sort();
    assert_eq!(first.rows(), written);
    for entry in std::fs::read_dir(first.rig.meta()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(local::is_ours(&name), "{name} is in no list");
    }
    let (restored, _) = second.rig.restored();
    assert_eq!(rows(&restored), written);
}

#[test]
fn r25_an_owner_that_was_fenced_answers_truthfully_keeps_aside_what_is_lost_and_follows() {
    let store = Rig::new().store;
    let (way, mood, _) = moody_way(&store);
    let first = Member::join(&way);
    assert!(first.write("kept"));
    let second = Member::join(&store);
    second.wait_for(Role::Standby);
    mood.store(DOWN, Ordering::SeqCst);
    first.commit("lost");
    // Nobody closes: after the hand-over time the second one fences.
    assert!(second.write("after"));
    assert_eq!(first.app.state.lock().unwrap().left, []);
    mood.store(FINE, Ordering::SeqCst);
    first.wait_for(Role::Standby);
    assert_eq!(first.app.state.lock().unwrap().left, [Left::Lost]);
    assert_eq!(first.rows(), ["after", "kept"]);
    let aside = first.node().status().aside;
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(rows(&aside[0]), ["kept", "lost"]);
    assert!(first.write("again"), "it may own again");
    second.wait_for(Role::Standby);
    assert_eq!(second.rows(), ["after", "again", "kept"]);
}

#[test]
fn r25_an_owner_that_ended_before_it_knew_of_its_loss_keeps_it_aside_when_it_starts_again() {
    for leaves in [false, true] {
        let store = Rig::new().store;
        let (way, mood, _) = moody_way(&store);
        let mut first = Member::join(&way);
        assert!(first.write("kept"));
        mood.store(DOWN, Ordering::SeqCst);
        first.commit("lost");
        first.node().begin_stop(Duration::from_millis(300));
        assert!(first.node().when_ended()().is_some(), "its row cannot go up");
        mood.store(FINE, Ordering::SeqCst);
        let second = Member::join(&store);
        assert!(second.write("after"));
        assert!(second.write("and more"));
        if leaves {
            second.node().begin_stop(LONG);
            assert!(second.node().when_ended()().is_none());
        }
        let left = second.app.state.lock().unwrap().left.clone();
        first.start_again();
        first.wait_for(Role::Standby);
        let aside = first.node().status().aside;
        assert_eq!(aside.len(), 1, "{leaves}: {aside:?}");
        assert_eq!(rows(&aside[0]), ["kept", "lost"], "{leaves}");
        assert_eq!(first.rows(), ["after", "and more", "kept"], "{leaves}");
        assert_eq!(first.node().status().role, Role::Standby, "{leaves}: nobody asked it to own");
        assert_eq!(second.app.state.lock().unwrap().left, left, "{leaves}: the owner stays");
    }
}

#[test]
fn r24_two_that_begin_at_once_on_an_empty_replica_do_not_mix() {
    let store = Rig::new().store;
    let one = Member::join(&store);
    let other = Member::join(&store);
    // One of them begins the chain. The other one's file was made for an empty replica: it ends, or finds that it holds the
    // same, and follows; never does it write over what the first one wrote.
    let mut members = [one, other];
    let deadline = Instant::now() + LONG;
    let begun = |member: &Member| matches!(member.node().status().role, Role::Owner | Role::Standby);
    while !members.iter().all(begun) {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            members.iter().map(|it| it.node().status()).collect::<Vec<_>>()
        );
        if let Some(late) = members.iter().position(|member| member.node().ended()) {
            let ended = members[late].node().when_ended()();
            assert!(matches!(ended.as_deref(), Some(KeepError::Beside { .. })), "{ended:?}");
            members[late] = Member::join(&store);
        }
        std::thread::yield_now();
    }
    assert!(members[0].write("one"));
    assert!(members[1].write("other"));
    assert_eq!(members[1].rows(), ["one", "other"]);
    assert_eq!(members[0].rows(), ["one", "other"]);
}

#[test]
fn an_end_in_order_closes_the_epoch_and_the_next_one_does_not_wait() {
    let store = Rig::new().store;
    let first = Member::join(&store);
    assert!(first.write("a"));
    first.node().begin_stop(LONG);
    assert!(first.node().when_ended()().is_none());
    let slots = store.list(&Scope::Level(Level::SLOTS)).unwrap().len();
    assert_eq!(first.app.state.lock().unwrap().left, [Left::Closed(Txid::new(slots as u64))]);
    let second = Member::join(&store);
    second.own();
    assert_eq!(store.list(&Scope::Level(Level::SLOTS)).unwrap().len(), slots, "no fence");
    assert!(second.write("b"));
}

#[test]
fn r25_whoever_has_closed_does_not_take_its_file_for_the_newest() {
    let store = Rig::new().store;
    let (way, mood, _) = moody_way(&store);
    // Longer than the test: only a closing record lets the other one in.
    let times = Times { hand_over: LONG * 2, ..TIMES };
    let first = Member::join_with(&way, times);
    assert!(first.write("a"));
    first.node().look(LONG).unwrap();
    assert!(first.node().holds(), "it owns, and has asked");
    let second = Member::join_with(&store, times);
    second.wait_for(Role::Standby);
    assert!(!second.node().holds(), "a standby never does");
    mood.store(HOLDS_THE_LAST_ANSWER, Ordering::SeqCst);
    assert!(second.write("b"), "the record is there");
    assert_eq!(first.node().status().role, Role::Leaving, "it has not heard that it is");
    assert!(!first.node().holds());
    let looked = first.node().look(Duration::from_millis(50));
    assert!(matches!(looked, Err(KeepError::Timeout(_))), "{looked:?}");
    mood.store(FINE, Ordering::SeqCst);
    assert_eq!(first.rows(), ["a", "b"], "it has looked before it is read");
}

#[test]
fn r25_an_owner_of_an_empty_replica_knows_nothing_until_its_first_slot_keeps_others_out() {
    let store = Rig::new().store;
    let (way, mood, _) = moody_way(&store);
    mood.store(TAKES_NO_SLOT, Ordering::SeqCst);
    let member = Member::join(&way);
    member.own();
    let looked = member.node().look(Duration::from_millis(500));
    assert!(matches!(looked, Err(KeepError::Timeout(_))), "{looked:?}");
    assert!(!member.node().holds(), "whoever claimed before may put the first slot yet");
    mood.store(FINE, Ordering::SeqCst);
    member.node().look(LONG).unwrap();
    assert!(member.write("a"));
}

#[test]
fn r25_an_owner_that_cannot_ask_does_not_know_whether_it_was_succeeded() {
    let store = Rig::new().store;
    let (way, mood, _) = moody_way(&store);
    let member = Member::join(&way);
    assert!(member.write("a"));
    let until = |what: &str, seen: &dyn Fn() -> bool| {
        let deadline = Instant::now() + LONG;
        while !seen() {
            assert!(Instant::now() < deadline, "{what}: {:?}", member.node().status());
            std::thread::yield_now();
        }
    };
    for trouble in [DOWN, SILENT] {
        until("it holds", &|| member.node().holds());
        mood.store(trouble, Ordering::SeqCst);
        until("it holds no more", &|| !member.node().holds());
        assert_eq!(member.node().status().role, Role::Owner, "nobody has succeeded it");
        let limit = if trouble == DOWN { LONG } else { Duration::from_millis(300) };
        let (begun, looked) = (Instant::now(), member.node().look(limit));
        assert!(matches!(looked, Err(KeepError::Timeout(_))), "{trouble}: {looked:?}");
        assert!(begun.elapsed() < LONG, "{trouble}: a store that refuses is not waited for");
        mood.store(FINE, Ordering::SeqCst);
        member.node().look(LONG).unwrap();
    }
    assert!(member.write("b"), "and it owns as before");
}
