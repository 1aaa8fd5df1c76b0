//! The database under a node that a test plays: roles change, writes wait, come through, or are told that they did not.

use super::*;
use litekeep::clock::SystemClock;
use litekeep::error::KeepError;
use litekeep::node::{Application as _, Left};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, mpsc};
use testkit::clock::SimClock;

/// How long a test waits for what must come.
const LONG: Duration = Duration::from_secs(30);

type Looked = Result<Option<Txid>, KeepError>;

/// A node that does what the test says.
struct Fake {
    asked: AtomicUsize,
    looks: AtomicUsize,
    /// Whether nobody else can have written.
    holds: AtomicBool,
    /// What a look answers; without a sender any more, at once.
    look: Mutex<mpsc::Receiver<Looked>>,
    /// Whether the replica takes what it is given.
    syncs: AtomicBool,
}

impl Replica for Fake {
    fn ask_to_own(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    fn holds(&self) -> bool {
        self.holds.load(Ordering::SeqCst)
    }

    fn look(&self, _limit: Duration) -> Looked {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.look.lock().unwrap().recv().unwrap_or(Ok(None))
    }

    fn sync(&self, _limit: Duration) -> Looked {
        std::thread::yield_now();
        if self.syncs.load(Ordering::SeqCst) { Ok(None) } else { Err(KeepError::NotOwner) }
    }
}

struct Rig {
    db: Db,
    owning: Owning,
    fake: Arc<Fake>,
    clock: SimClock,
    answer_look: mpsc::Sender<Looked>,
    dir: tempfile::TempDir,
}

impl Rig {
    /// A standby.
    fn new(ack_timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.db");
        let connection = open::writer(&path).unwrap();
        open::use_wal(&connection).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE oracles (id TEXT PRIMARY KEY);
                 INSERT INTO oracles VALUES ('ada');
                 CREATE TABLE heartbeats (id TEXT PRIMARY KEY, oracle TEXT, status TEXT, created TEXT, updated TEXT);",
            )
            .unwrap();
        let (answer_look, look) = mpsc::channel();
        let clock = SimClock::new();
        let (asked, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (holds, syncs) = (AtomicBool::new(false), AtomicBool::new(true));
        let fake = Arc::new(Fake { asked, looks, holds, look: Mutex::new(look), syncs });
        let standing = Arc::new(Standing::starting());
        let gate = Gate::shut(Arc::new(SystemClock));
        let replica: Arc<dyn Replica> = Arc::clone(&fake) as _;
        gate.ask(Arc::clone(&replica));
        let owning = Owning {
            standing: Arc::clone(&standing),
            gate: Arc::clone(&gate),
            before: Box::new(|_| Ok(())),
            after: Box::new(|| ()),
        };
        owning.role(Role::Standby);
        let keeping = Keeping { standing, gate, replica: Some(replica), clock: Arc::new(clock.clone()) };
        let db = Db::start(&path, keeping, ack_timeout).unwrap();
        Self { db, owning, fake, clock, answer_look, dir }
    }

    fn own(&self) {
        self.owning.role(Role::Acquiring);
        self.owning.start_writing(None).unwrap();
        self.owning.role(Role::Owner);
        self.fake.holds.store(true, Ordering::SeqCst);
    }

    fn stop_writing(&self) {
        self.owning.stop_writing();
        self.owning.role(Role::Leaving);
    }

    fn leave(&self, how: Left) {
        self.stop_writing();
        self.fake.holds.store(false, Ordering::SeqCst);
        self.owning.left(how);
        self.owning.role(Role::Standby);
    }

    fn asked(&self) -> usize {
        self.fake.asked.load(Ordering::SeqCst)
    }

    async fn until_asked(&self) {
        let asked = async {
            while self.asked() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, asked).await.expect("nobody asked for the ownership");
    }

    async fn rows(&self) -> BTreeSet<i64> {
        let rows = self.db.read_as_is(|connection| {
            let mut statement = connection.prepare("SELECT id FROM t")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<BTreeSet<i64>>>()
        });
        rows.await.unwrap()
    }
}

async fn insert(db: &Db, id: i64) -> Result<(), WriteError<rusqlite::Error>> {
    let written =
        db.write(move |connection, _| connection.execute("INSERT INTO t VALUES (?1)", [id]).map(drop));
    written.await.map(|written| written.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_a_standby_asks_for_ownership_and_waits_for_it() {
    let rig = Rig::new(LONG);
    let db = rig.db.clone();
    let first = tokio::spawn(async move { insert(&db, 1).await });
    rig.until_asked().await;
    assert!(rig.rows().await.is_empty(), "written by a standby");
    rig.own();
    assert!(matches!(first.await.unwrap(), Ok(())));
    assert_eq!(rig.rows().await, [1].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_server_does_not_become_the_owner_is_not_applied_and_never_will_be() {
    let rig = Rig::new(Duration::from_millis(50));
    assert!(matches!(insert(&rig.db, 1).await, Err(WriteError::NotApplied(_))));
    assert!(rig.asked() > 0);
    rig.own();
    assert!(matches!(insert(&rig.db, 2).await, Ok(())));
    assert_eq!(rig.rows().await, [2].into());
    rig.leave(Left::Closed(None));
    rig.owning.role(Role::Ended);
    let Err(WriteError::NotApplied(why)) = insert(&rig.db, 3).await else { panic!("taken after the end") };
    assert!(why.contains("ended"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_asks_for_nothing_any_more_and_writes_what_it_owns() {
    let rig = Rig::new(LONG);
    let db = rig.db.clone();
    let waiting = tokio::spawn(async move { insert(&db, 1).await });
    rig.until_asked().await;
    rig.db.stop_asking();
    let stopped = |written| matches!(written, Err(WriteError::NotApplied("the server is stopping")));
    assert!(stopped(tokio::time::timeout(LONG, waiting).await.expect("it is told at once").unwrap()));
    let asked = rig.asked();
    assert!(stopped(insert(&rig.db, 2).await));
    assert_eq!(rig.asked(), asked);
    rig.own();
    insert(&rig.db, 3).await.unwrap();
    assert_eq!(rig.rows().await, BTreeSet::from([3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_writes_wait_for_ownership_and_one_more_is_told_so() {
    let rig = Rig::new(LONG);
    let waiting: Vec<_> = (0..limits::OWNERSHIP_WAITING as i64)
        .map(|id| {
            let db = rig.db.clone();
            tokio::spawn(async move { insert(&db, id).await })
        })
        .collect();
    while rig.asked() < limits::OWNERSHIP_WAITING {
        tokio::task::yield_now().await;
    }
    let Err(WriteError::NotApplied(why)) = insert(&rig.db, -1).await else { panic!("one too many") };
    assert!(why.contains("too many"), "{why}");
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_had_committed_is_answered_by_what_became_of_its_epoch() {
    for (how, told) in [(Left::Closed(None), true), (Left::Lost, false)] {
        let rig = Rig::new(LONG);
        rig.own();
        rig.fake.syncs.store(false, Ordering::SeqCst);
        let seen = rig.db.seen();
        let db = rig.db.clone();
        let waiting = tokio::spawn(async move { insert(&db, 1).await });
        while rig.rows().await.is_empty() {
            tokio::task::yield_now().await;
        }
        // The gate comes right after the commit; who stops the writing has waited for both.
        rig.leave(how);
        let written = waiting.await.unwrap();
        assert_eq!(written.is_ok(), told, "{how:?}: {written:?}");
        assert!(told || matches!(written, Err(WriteError::Unknown)), "{written:?}");
        let settled = rig.db.settled::<()>(seen).await;
        assert_eq!(settled.is_ok(), told, "{how:?}: what was read may be gone: {settled:?}");
        assert!(rig.db.settled::<()>(rig.db.seen()).await.is_ok(), "what is read now is durable");
    }
}

/// Hands change while many write: nothing begins or ends outside an ownership, and each answer is true.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_by_who_has_been_told_to_stop_however_busy() {
    let rig = Rig::new(LONG);
    let may = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..8)
        .map(|writer: i64| {
            let (db, may, done) = (rig.db.clone(), Arc::clone(&may), Arc::clone(&done));
            tokio::spawn(async move {
                for number in 0..100 {
                    let (id, allowed) = (writer * 1000 + number, Arc::clone(&may));
                    let written = db.write(move |connection, _| {
                        assert!(allowed.load(Ordering::SeqCst), "begun by a standby");
                        connection.execute("INSERT INTO t VALUES (?1)", [id])?;
                        std::thread::yield_now();
                        assert!(allowed.load(Ordering::SeqCst), "not waited for");
                        Ok::<_, rusqlite::Error>(())
                    });
                    written.await.expect("it waited for the next ownership");
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut hand_overs = 0;
    while done.load(Ordering::SeqCst) < 800 {
        assert!(
            !writers.iter().all(tokio::task::JoinHandle::is_finished) || done.load(Ordering::SeqCst) == 800
        );
        may.store(true, Ordering::SeqCst);
        rig.own();
        let before = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < (before + 10).min(800) {
            tokio::task::yield_now().await;
        }
        rig.owning.stop_writing();
        may.store(false, Ordering::SeqCst);
        rig.owning.left(Left::Closed(None));
        rig.owning.role(Role::Standby);
        hand_overs += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(hand_overs > 1, "{hand_overs}");
    assert_eq!(rig.rows().await.len(), 800);
}

async fn read(db: &Db) {
    let one = db.read(|connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)));
    assert_eq!(one.await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_a_standby_share_a_look_and_an_owner_looks_only_if_others_may_have_written() {
    let rig = Rig::new(LONG);
    let looks = || rig.fake.looks.load(Ordering::SeqCst);
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let db = rig.db.clone();
            tokio::spawn(async move { read(&db).await })
        })
        .collect();
    while looks() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(readers.iter().all(|reader| !reader.is_finished()), "somebody did not wait for the look");
    rig.answer_look.send(Ok(None)).unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(looks(), 1);
    rig.clock.advance(limits::LOOK_AGE);
    read(&rig.db).await;
    assert_eq!(looks(), 1, "as old as it may be");
    rig.clock.advance(Duration::from_millis(1));
    rig.answer_look.send(Ok(None)).unwrap();
    read(&rig.db).await;
    assert_eq!(looks(), 2);
    rig.own();
    rig.clock.advance(LONG);
    read(&rig.db).await;
    assert_eq!(looks(), 2, "what an owner serves is its own");
    rig.fake.holds.store(false, Ordering::SeqCst);
    for (seen, role) in [(3, Role::Owner), (4, Role::Leaving)] {
        rig.owning.role(role);
        rig.clock.advance(limits::LOOK_AGE * 2);
        rig.answer_look.send(Ok(None)).unwrap();
        read(&rig.db).await;
        assert_eq!(looks(), seen, "{role:?}, and somebody else may write");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_makes_readers_wait_once_and_is_noticed_when_it_is_back() {
    let rig = Rig::new(LONG);
    let looks = || rig.fake.looks.load(Ordering::SeqCst);
    rig.answer_look.send(Err(KeepError::Timeout(1.0))).unwrap();
    read(&rig.db).await;
    read(&rig.db).await;
    assert_eq!(looks(), 1, "it is away, and that is remembered");
    rig.clock.advance(limits::LOOK_AGAIN);
    read(&rig.db).await; // this look has no answer yet, and the read does not wait for it
    while looks() < 2 {
        tokio::task::yield_now().await;
    }
    read(&rig.db).await;
    assert_eq!(looks(), 2);
    rig.answer_look.send(Ok(None)).unwrap();
    let flight = tokio::time::timeout(LONG, rig.db.looks.landed()).await;
    assert!(flight.is_ok());
    read(&rig.db).await;
    assert_eq!(looks(), 2, "fresh again");
    rig.clock.advance(limits::LOOK_AGE * 2);
    rig.answer_look.send(Ok(None)).unwrap();
    read(&rig.db).await;
    assert_eq!(looks(), 3, "reads look again");
    rig.clock.advance(limits::LOOK_AGE * 2);
    rig.answer_look.send(Err(KeepError::Timeout(1.0))).unwrap();
    read(&rig.db).await;
    rig.owning.role(Role::Acquiring);
    rig.owning.role(Role::Standby);
    rig.answer_look.send(Ok(None)).unwrap();
    read(&rig.db).await;
    assert_eq!(looks(), 5, "what failed before a change of role says nothing after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_waits_shortly_for_its_look_and_refuses_by_what_it_has() {
    let rig = Rig::new(Duration::from_millis(40));
    let looks = || rig.fake.looks.load(Ordering::SeqCst);
    rig.own();
    rig.fake.holds.store(false, Ordering::SeqCst);
    read(&rig.db).await; // its store says nothing
    while looks() == 0 {
        tokio::task::yield_now().await;
    }
    read(&rig.db).await;
    let arrival = rig.db.arrive().await;
    let refused = rig.db.check(Some(arrival), |_| Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)).await;
    assert!(matches!(refused, Err(WriteError::Refused(_))), "{refused:?}");
    assert_eq!(looks(), 1, "it is known that the store says nothing");
    rig.answer_look.send(Ok(None)).unwrap();
    assert!(tokio::time::timeout(LONG, rig.db.looks.landed()).await.is_ok());
    // It knows again, and much later it does not: that the store said nothing once is no reason not to ask.
    let rig = Rig::new(LONG);
    let looks = || rig.fake.looks.load(Ordering::SeqCst);
    rig.own();
    rig.fake.holds.store(false, Ordering::SeqCst);
    rig.answer_look.send(Err(KeepError::Timeout(1.0))).unwrap();
    read(&rig.db).await;
    rig.fake.holds.store(true, Ordering::SeqCst);
    read(&rig.db).await;
    rig.fake.holds.store(false, Ordering::SeqCst);
    rig.clock.advance(LONG * 100);
    let db = rig.db.clone();
    let reader = tokio::spawn(async move { read(&db).await });
    while looks() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!reader.is_finished(), "it does not wait for its look");
    rig.answer_look.send(Ok(None)).unwrap();
    reader.await.unwrap();
    // It learns that it owns no more while somebody waits, who waits on as at a standby.
    let rig = Rig::new(LONG);
    rig.own();
    rig.fake.holds.store(false, Ordering::SeqCst);
    let db = rig.db.clone();
    let reader = tokio::spawn(async move { read(&db).await });
    while rig.fake.looks.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    rig.owning.role(Role::Leaving);
    tokio::time::sleep(limits::OWNER_LOOK_TIME * 2).await;
    assert!(!reader.is_finished(), "what it has may be old");
    rig.answer_look.send(Ok(None)).unwrap();
    reader.await.unwrap();
}

/// What the looks come to (at the door, and for a refusal), what the query says the first and the second time, and what
/// is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_may_be_behind_refuses_nothing() {
    let (good, late) = (|| Ok(None), || Err(KeepError::Timeout(1.0)));
    type Row = (&'static str, Vec<Looked>, Vec<bool>, &'static str, usize);
    let rows: Vec<Row> = vec![
        ("it is met, and passes", vec![good()], vec![true], "passed", 1),
        ("it is met, and refuses", vec![good()], vec![false], "refused", 1),
        ("it is behind, and passes", vec![late()], vec![true], "passed", 1),
        ("what was missing came", vec![late(), good()], vec![false, true], "passed", 2),
        (
            "nothing came; the caller is read from before",
            vec![late(), good()],
            vec![false, false],
            "later",
            2,
        ),
        ("it stays behind", vec![late(), late()], vec![false], "later", 2),
    ];
    for (name, looks, says, told, asked) in rows {
        let rig = Rig::new(LONG);
        for look in looks {
            rig.answer_look.send(look).unwrap();
        }
        let arrival = rig.db.arrive().await;
        let says = Arc::new(Mutex::new(VecDeque::from(says)));
        let query = move |_: &Connection| match says.lock().unwrap().pop_front().expect("asked too often") {
            true => Ok(()),
            false => Err(rusqlite::Error::QueryReturnedNoRows),
        };
        let answer = match rig.db.check(Some(arrival), query).await {
            Ok(()) => "passed",
            Err(WriteError::Refused(_)) => "refused",
            Err(WriteError::NotApplied(_)) => "later",
            Err(WriteError::Unknown) => "unknown",
        };
        assert_eq!((answer, rig.fake.looks.load(Ordering::SeqCst)), (told, asked), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_was_sent_before_a_write_came_does_not_show_what_it_wants_to_see() {
    let rig = Rig::new(LONG);
    let looks = || rig.fake.looks.load(Ordering::SeqCst);
    let until = async |count: usize| {
        while looks() < count {
            tokio::task::yield_now().await;
        }
    };
    let db = rig.db.clone();
    let reader = tokio::spawn(async move { read(&db).await });
    until(1).await;
    let db = rig.db.clone();
    let writer = tokio::spawn(async move { db.arrive().await });
    rig.answer_look.send(Ok(None)).unwrap();
    reader.await.unwrap();
    // The clock stands still: for a reader that look would do.
    tokio::time::timeout(LONG, until(2)).await.expect("it looks once more");
    assert!(!writer.is_finished());
    rig.answer_look.send(Ok(None)).unwrap();
    assert!(!writer.await.unwrap().behind);
    rig.own();
    assert!(!rig.db.arrive().await.behind);
    assert_eq!(looks(), 2, "what an owner has is its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_wait_in_memory_for_an_owner_and_ask_for_nothing() {
    let rig = Rig::new(LONG);
    let text = str::to_owned;
    let beat =
        Beat { id: text("b"), oracle: text("ada"), status: text("online"), created: text("2026-11-25") };
    rig.db.beats().beat(beat).unwrap();
    let (seen, written) = ("SELECT count(*) FROM heartbeats", "SELECT count(*) FROM main.heartbeats");
    let count = |text: &'static str| {
        let rows =
            rig.db.read_as_is(move |connection| connection.query_row(text, [], |row| row.get::<_, i64>(0)));
        async move { rows.await.unwrap() }
    };
    assert_eq!((count(seen).await, count(written).await, rig.asked()), (1, 0, 0));
    rig.own();
    insert(&rig.db, 1).await.unwrap();
    while count(written).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(seen).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_that_were_undone_are_written_again_by_the_next_owner() {
    let rig = Rig::new(LONG);
    let text = str::to_owned;
    let beat =
        Beat { id: text("b"), oracle: text("ada"), status: text("online"), created: text("2026-11-25") };
    rig.db.beats().beat(beat).unwrap();
    let written = || {
        let text = "SELECT count(*) FROM main.heartbeats";
        let rows = rig.db.read_as_is(move |it| it.query_row(text, [], |row| row.get::<_, i64>(0)));
        async move { rows.await.unwrap() }
    };
    rig.own();
    rig.fake.syncs.store(false, Ordering::SeqCst);
    let db = rig.db.clone();
    let unknown = tokio::spawn(async move { insert(&db, 1).await });
    while written().await == 0 {
        tokio::task::yield_now().await;
    }
    rig.leave(Left::Lost);
    assert!(matches!(unknown.await.unwrap(), Err(WriteError::Unknown)));
    // The node brings the file back to what is durable.
    let connection = rusqlite::Connection::open(rig.dir.path().join("data.db")).unwrap();
    connection.execute_batch("DELETE FROM heartbeats; DELETE FROM t").unwrap();
    rig.fake.syncs.store(true, Ordering::SeqCst);
    rig.own();
    insert(&rig.db, 2).await.unwrap();
    while written().await == 0 {
        tokio::task::yield_now().await;
    }
}
