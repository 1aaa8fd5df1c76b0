//! Looks whether the replicas still hold what they took (R66): a HEAD of the newest object, soon after it was put and once
//! a minute while nothing happens, and whether the newest state can be restored from what the replica has listed. Once
//! something was found missing, only a listing of all levels takes that back. Only where somebody reads the result.

use super::book::{Book, ReadBack};
use super::fleet::Fleet;
use crate::trouble::Trouble;
use crate::verbs::replicate::thread;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{ErrorKind, Key, Scope, Store, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How old a look may be.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// How soon what is new is looked for, at most so often.
const SOON: Duration = Duration::from_secs(15);
/// Between two rounds, and between two looks of one round: a thousand databases are no burst.
const PAUSE: Duration = Duration::from_millis(500);
const BREATH: Duration = Duration::from_millis(20);

/// Looks from now on, on a thread of its own.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn start(fleet: &Arc<Fleet>) -> Result<(), Trouble> {
    let fleet = Arc::clone(fleet);
    thread("read back", move || {
        let mut looked: BTreeMap<PathBuf, Duration> = BTreeMap::new();
        loop {
            let members = fleet.members();
            looked.retain(|path, _| members.iter().any(|member| member.database.path == *path));
            for member in members {
                let clock = &**fleet.clock();
                let view = member.view(clock);
                let (true, Some(durable)) = (view.running && !view.standby, view.status.durable) else {
                    continue;
                };
                let path = &member.database.path;
                let before = looked.get(path).map(|at| clock.boot().saturating_sub(*at));
                let seen = member.book.last_read_back().filter(|_| member.book.what_is_lost().is_none());
                let new = seen.is_none_or(|seen| seen.txid < durable);
                if before.is_none_or(|before| before >= if new { SOON } else { EVERY }) {
                    // An error is in the member's book.
                    if let Ok(Some(missing)) = look(&*member.store, &member.book, durable, clock) {
                        tracing::error!(db = %path.display(), "{missing}");
                    }
                    looked.insert(path.clone(), clock.boot());
                    clock.sleep(BREATH);
                }
            }
            fleet.clock().sleep(PAUSE);
        }
    })
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
            found => matches!(found, Some(Ok(_))),
        };
        if held && (listed || book.what_is_lost().is_none()) && book.restores(durable) {
            book.read_back(ReadBack { wall: clock.wall(), boot: clock.boot(), txid: durable });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::meter::Metered;
    use bytes::Bytes;
    use litekeep::clock::SystemClock;
    use litekeep_formats::TimestampMs;
    use litekeep_store::memory::MemoryStore;

    fn key(level: u8, min: u64, max: u64) -> Key {
        let txid = |txid| Txid::new(txid).expect("a TXID");
        let range = TxidRange::new(txid(min), txid(max)).expect("a range");
        Key::Ltx(Level::new(level).expect("a level"), range)
    }

    #[test]
    fn r66_what_was_found_missing_stays_so_until_a_listing_shows_a_whole_chain() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let book = Arc::new(Book::default());
        let inner = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let store = Metered::new(Arc::clone(&inner) as Arc<dyn Store>, Arc::clone(&book), Arc::clone(&clock));
        let put = |key: Key| store.put(&key, Bytes::from_static(b"x"), TimestampMs(1)).expect("written");
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
        assert_eq!(book.last_read_back().map(|seen| seen.txid), Txid::new(5));
    }
}
