//! Looks whether the replicas still hold what they took (R66): a HEAD of the newest object, soon after it was put and once
//! a minute while nothing happens, and whether the newest state can be restored from what the replica has listed. With it
//! reads and listings that were refused are tried again. Once something was found missing, only a listing of all levels takes
//! that back. A restore that the engine made meanwhile and noted is taken up as well. Only where somebody reads the result.

use super::book::{Book, Operation, ReadBack};
use super::fleet::Fleet;
use super::member::Member;
use super::verifier::state_dir;
use crate::trouble::Trouble;
use crate::verbs::replicate::thread;
use litekeep::files::RealFiles;
use litekeep::noted;
use litekeep_core::env::Clock;
use litekeep_formats::ltx::Header;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{ErrorKind, Key, Scope, Store, StoreError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// How old a look may be.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// How soon what is new is looked for, at most so often.
const SOON: Duration = Duration::from_secs(15);
/// Between two rounds, and between two looks of one round: a thousand databases are no burst.
const PAUSE: Duration = Duration::from_millis(500);
const BREATH: Duration = Duration::from_millis(20);
/// Looks at the same time: a store that is slow to answer keeps none of the others' waiting. Half of them, at most, at
/// replicas whose last look failed, each after a pause that grows.
const LOOKS: usize = 8;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whose turn it is.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// When the last look ended.
    ended: Option<Duration>,
    /// How many failed, one after the other.
    failures: u32,
    busy: bool,
}

impl Turn {
    /// `new`: the newest transaction was not seen in the replica yet.
    fn is_due(&self, new: bool, now: Duration) -> bool {
        let pause = match self.failures {
            0 if new => SOON,
            0 => EVERY,
            failures => PAUSE.saturating_mul(2u32.saturating_pow(failures)).min(LONGEST_PAUSE),
        };
        !self.busy && self.ended.is_none_or(|ended| now.saturating_sub(ended) >= pause)
    }
}

/// All turns, and who tells that a look has ended.
struct Looks {
    turns: BTreeMap<PathBuf, Turn>,
    tell: Sender<(PathBuf, bool)>,
    told: Receiver<(PathBuf, bool)>,
    fleet: Arc<Fleet>,
}

/// Looks from now on, on threads of its own.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn start(fleet: &Arc<Fleet>) -> Result<(), Trouble> {
    let (tell, told) = mpsc::channel();
    let mut looks = Looks { turns: BTreeMap::new(), tell, told, fleet: Arc::clone(fleet) };
    thread("read back", move || {
        loop {
            looks.round();
            looks.fleet.clock().sleep(PAUSE);
        }
    })
}

impl Looks {
    fn round(&mut self) {
        let members = self.fleet.members();
        self.turns.retain(|path, turn| turn.busy || self.fleet.find(path).is_ok());
        for member in members {
            while let Ok((path, failed)) = self.told.try_recv() {
                self.ended(&path, failed);
            }
            let clock = Arc::clone(self.fleet.clock());
            let view = member.view(&*clock);
            let (true, Some(durable)) = (view.running && !view.standby, view.status.durable) else {
                continue;
            };
            let seen = member.book.last_read_back().filter(|_| member.book.what_is_lost().is_none());
            let new = seen.is_none_or(|seen| seen.txid < durable);
            let turn = self.turns.entry(member.database.path.clone()).or_default();
            let (due, fails) = (turn.is_due(new, clock.boot()), turn.failures > 0);
            if !due || (fails && self.busy(true) >= LOOKS / 2) {
                continue;
            }
            // Room is made by whoever ends first: the round goes on where it was.
            while self.busy(false) >= LOOKS {
                let Ok((path, failed)) = self.told.recv() else { return };
                self.ended(&path, failed);
            }
            self.begin(member, durable);
            clock.sleep(BREATH);
        }
    }

    fn busy(&self, failing: bool) -> usize {
        self.turns.values().filter(|turn| turn.busy && (!failing || turn.failures > 0)).count()
    }

    fn begin(&mut self, member: Arc<Member>, durable: Txid) {
        let path = member.database.path.clone();
        let (tell, clock) = (self.tell.clone(), Arc::clone(self.fleet.clock()));
        let told = path.clone();
        let begun = thread("look", move || {
            let replica = member.store.location();
            if let Some(restored) = noted::restored(&RealFiles, &state_dir(&member.database), &replica) {
                member.book.restored(&replica, restored);
            }
            // An error is in the member's book.
            let looked = look(&*member.store, &member.book, durable, &*clock);
            if let Ok(Some(missing)) = &looked {
                tracing::error!(db = %told.display(), "{missing}");
            }
            let _ = tell.send((told, looked.is_err()));
        });
        match begun {
            Ok(()) => self.turns.entry(path).or_default().busy = true,
            Err(_) => self.ended(&path, true),
        }
    }

    fn ended(&mut self, path: &Path, failed: bool) {
        if let Some(turn) = self.turns.get_mut(path) {
            let failures = if failed { turn.failures.saturating_add(1) } else { 0 };
            *turn = Turn { ended: Some(self.fleet.clock().boot()), failures, busy: false };
        }
    }
}

/// Looks for a transaction in a replica; what is missing for it is told once.
fn look(
    store: &dyn Store,
    book: &Book,
    durable: Txid,
    clock: &dyn Clock,
) -> Result<Option<String>, StoreError> {
    let has = |key: &Key| matches!(key, Key::Ltx(_, range) if TxidRange::max(*range) >= durable);
    // What was merged and deleted meanwhile is in a higher level: the second round knows, it has listed them.
    let mut listed = false;
    let missing = loop {
        let held = match book.newest().filter(has).map(|newest| store.head(&newest)) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
            found => matches!(found, Some(Ok(head)) if head.size >= Header::LEN as u64),
        };
        if held && (listed || book.what_is_lost().is_none()) && book.restores(durable) {
            book.read_back(ReadBack { wall: clock.wall(), boot: clock.boot(), txid: durable });
            ask_again(store, book);
            return Ok(None);
        }
        if listed && held {
            break format!(
                "objects are missing in the replica without which transaction {durable} can't be restored"
            );
        }
        if listed {
            break format!("the replica does not hold transaction {durable} any more, which it had taken");
        }
        store.list(&Scope::From(Level::SLOTS))?;
        listed = true;
    };
    Ok(book.lost(&missing).then_some(missing))
}

/// Asks once more for what was refused: of a quiet database nobody else does, and that a person has mended it would show
/// with the next write only. What comes of it is in the book. Nothing is written or deleted for that.
fn ask_again(store: &dyn Store, book: &Book) {
    let refused = |kind| matches!(kind, ErrorKind::FixConfig | ErrorKind::Wait);
    for (operation, _) in book.setbacks().into_iter().filter(|(_, setback)| refused(setback.kind)) {
        match (operation, book.newest()) {
            (Operation::Get, Some(newest)) => drop(store.read(&newest, Some(0..Header::LEN as u64))),
            (Operation::List, _) => drop(store.list(&Scope::Level(Level::SNAPSHOTS))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::book::Cost;
    use crate::daemon::meter::Metered;
    use bytes::Bytes;
    use litekeep::clock::SystemClock;
    use litekeep_formats::TimestampMs;
    use litekeep_store::Failure;
    use litekeep_store::memory::MemoryStore;

    #[test]
    fn a_look_is_due_soon_for_what_is_new_and_later_and_later_where_it_fails() {
        let seconds = Duration::from_secs;
        let turn = |failures, busy| Turn { ended: Some(seconds(100)), failures, busy };
        for (turn, new, after, due) in [
            (Turn::default(), false, seconds(0), true),
            (turn(0, false), true, seconds(14), false),
            (turn(0, false), true, seconds(15), true),
            (turn(0, false), false, seconds(59), false),
            (turn(0, false), false, seconds(60), true),
            (turn(0, true), false, seconds(60), false),
            (turn(1, false), true, seconds(1), true),
            (turn(4, false), true, seconds(7), false),
            (turn(4, false), false, seconds(8), true),
            (turn(u32::MAX, false), false, seconds(29), false),
            (turn(u32::MAX, false), false, seconds(30), true),
        ] {
            assert_eq!(turn.is_due(new, seconds(100) + after), due, "{turn:?} {new} {after:?}");
        }
    }

    fn key(level: u8, min: u64, max: u64) -> Key {
        let txid = |txid| Txid::new(txid).expect("a TXID");
        let range = TxidRange::new(txid(min), txid(max)).expect("a range");
        Key::Ltx(Level::new(level).expect("a level"), range)
    }

    #[test]
    fn what_was_refused_is_asked_again_with_each_look_and_what_is_damaged_is_not() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let book = Arc::new(Book::default());
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let store = Metered::new(inner, Arc::clone(&book), Arc::clone(&clock));
        store.put(&key(0, 1, 1), Bytes::from_static(&[b'x'; Header::LEN]), TimestampMs(1)).expect("written");
        for (operation, kind, stays) in [
            (Operation::Get, ErrorKind::FixConfig, false),
            (Operation::Get, ErrorKind::Wait, false),
            (Operation::Get, ErrorKind::DataDamaged, true),
            (Operation::List, ErrorKind::FixConfig, false),
            (Operation::Delete, ErrorKind::FixConfig, true),
        ] {
            let error = StoreError::new(kind, "read", "x", Failure::Text("no".to_owned()));
            book.answered(operation, Err(&error), Cost::default());
            assert_eq!(look(&store, &book, Txid::new(1).expect("a TXID"), &*clock).expect("a look"), None);
            let known = book.setbacks().iter().any(|(of, _)| *of == operation);
            assert_eq!(known, stays, "{operation:?} {kind:?}");
            book.answered(operation, Ok("ok"), Cost::default());
        }
    }

    #[test]
    fn r66_what_was_found_missing_stays_so_until_a_listing_shows_a_whole_chain() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let book = Arc::new(Book::default());
        let inner = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let store = Metered::new(Arc::clone(&inner) as Arc<dyn Store>, Arc::clone(&book), Arc::clone(&clock));
        let put = |key: Key| {
            store.put(&key, Bytes::from_static(&[b'x'; Header::LEN]), TimestampMs(1)).expect("written")
        };
        let look = |txid| {
            look(&store, &book, Txid::new(txid).expect("a TXID"), &*clock).expect("a look");
            book.what_is_lost()
        };
        put(key(0, 1, 1));
        assert_eq!(look(1), None);
        put(key(0, 2, 2));
        put(key(0, 3, 3));
        assert_eq!(look(3), None);
        // Behind the book's back: the newest object is there, and is of no use.
        inner.delete(&[key(0, 2, 2)]).expect("deleted");
        store.list(&Scope::Level(Level::SLOTS)).expect("listed");
        let lost = look(3).expect("a loss");
        assert!(lost.contains("can't be restored"), "{lost}");
        put(key(0, 4, 4));
        assert!(look(4).expect("still a loss").contains("can't be restored"));
        inner.delete(&[key(0, 4, 4)]).expect("deleted");
        assert!(look(4).expect("a loss").contains("does not hold"));
        // The next commit is taken, and mends nothing; nor does what the book alone knows.
        put(key(9, 1, 4));
        inner.delete(&[key(9, 1, 4)]).expect("deleted");
        put(key(0, 5, 5));
        assert!(look(5).is_some());
        assert_eq!(book.last_read_back().map(|seen| seen.txid), Txid::new(3));
        put(key(9, 1, 5));
        assert_eq!(look(5), None);
        // There by its name, and too small to be a file: as if it were not there.
        for level in [0, 9] {
            let (key, stub) = (key(level, if level == 9 { 1 } else { 5 }, 5), Bytes::from_static(b"x"));
            inner.delete(&[key]).expect("deleted");
            inner.put(&key, stub, TimestampMs(1)).expect("written");
        }
        assert!(look(5).expect("a loss").contains("does not hold"));
        assert_eq!(book.last_read_back().map(|seen| seen.txid), Txid::new(5));
    }
}
