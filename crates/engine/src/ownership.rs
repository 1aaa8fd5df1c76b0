//! Epoch records: small create-only JSON objects that say who intends to own the replica, who does, and who left; and the
//! looks that prove who stands at the chain's end.
//!
//! The claim is also the probe of the store: it is created twice, and the second create must be refused. What the answers
//! mean is decided in `core`.

use crate::error::KeepError;
use crate::settings::Durability;
use crate::survey;
use bytes::Bytes;
use litekeep_core::env::Clock;
use litekeep_core::limits;
use litekeep_core::ownership::{Claimed, Epochs, Look, Moment};
use litekeep_core::restore::LtxFile;
use litekeep_formats::{Epoch, Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{Created, EpochRecord, ErrorKind, Failure, Key, Scope, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An epoch's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Its number.
    pub(crate) epoch: u64,
    /// The random id of the instance that wrote it.
    pub(crate) owner: String,
    /// A claim: the TXID behind which it wants to go on. Opened or closed: the first or last TXID of the epoch.
    pub(crate) txid: u64,
    /// What its owner tells its clients: `replicated` (an answer means it is in the bucket) or `local`.
    pub(crate) durability: String,
}

impl Record {
    fn spell(&self) -> Bytes {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        Bytes::from(text)
    }
}

/// Who writes a record.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    /// The random id of the instance.
    pub(crate) id: String,
    /// What its answers mean.
    pub(crate) durability: Durability,
}

impl Author {
    fn record(&self, epoch: Epoch, txid: u64) -> Record {
        let durability = self.durability.as_str().to_owned();
        Record { epoch: epoch.get(), owner: self.id.clone(), txid, durability }
    }
}

/// What a claim gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The claim is ours, and the store creates only.
    Made,
    /// Somebody else has claimed this number.
    Taken,
    /// The store replaces objects when told to create them only: nobody can own anything here.
    NoCreateOnly,
}

/// Now, on this machine's clock and on the store's.
pub(crate) fn moment(clock: &dyn Clock, store: &dyn Store) -> Moment {
    Moment { boot: clock.boot(), store: store.server_time() }
}

/// Claims an epoch.
pub(crate) fn claim(
    store: &dyn Store,
    epoch: Epoch,
    author: &Author,
    from: Option<Txid>,
    now: TimestampMs,
) -> Result<Claim, KeepError> {
    let record = author.record(epoch, from.map_or(0, Txid::get));
    let key = Key::Epoch(epoch, EpochRecord::Claim);
    match store.create(&key, record.spell(), now) {
        Ok(Created::Yes) => {}
        // An earlier question of ours may have been answered to nobody.
        Ok(Created::Exists) => {
            let ours = read_record(store, epoch, EpochRecord::Claim)?.is_some_and(|it| it.owner == author.id);
            return Ok(if ours { Claim::Made } else { Claim::Taken });
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(Claim::NoCreateOnly),
        Err(error) => return Err(error.into()),
    }
    Ok(if refuses_another(store, epoch, &record, now)? { Claim::Made } else { Claim::NoCreateOnly })
}

/// Whether the store keeps the claim that is there when another one is created in its place. Not the same bytes: a store
/// that answers "mine" to a repeat of them would not be found out. They mean the same, so that nothing is lost if it does.
fn refuses_another(
    store: &dyn Store,
    epoch: Epoch,
    record: &Record,
    now: TimestampMs,
) -> Result<bool, StoreError> {
    let mut probe = record.spell().to_vec();
    probe.push(b'\n');
    let created = store.create(&Key::Epoch(epoch, EpochRecord::Claim), Bytes::from(probe), now)?;
    Ok(created == Created::Exists)
}

/// Whether one can own here, asked by a standby that has not claimed anything: with the newest claim of all. `None` where
/// that cannot be told: nobody ever claimed, say.
pub(crate) fn creates_only(store: &dyn Store, now: TimestampMs) -> Result<Option<bool>, StoreError> {
    let claims = store.list(&Scope::Epochs)?.into_iter().filter_map(|entry| match entry.key {
        Key::Epoch(epoch, EpochRecord::Claim) => Some(epoch),
        _ => None,
    });
    let Some(newest) = claims.max() else { return Ok(None) };
    let asked = read_record(store, newest, EpochRecord::Claim)
        .and_then(|record| record.map(|record| refuses_another(store, newest, &record, now)).transpose());
    match asked {
        Err(error) => match error.kind() {
            ErrorKind::Unsupported => Ok(Some(false)),
            // A record by a later version, or a key that may only read: one can follow all the same.
            ErrorKind::DataDamaged | ErrorKind::FixConfig => Ok(None),
            _ => Err(error),
        },
        answer => answer,
    }
}

/// Every epoch that has a record. What the closing ones say is read where it matters: from the newest opened epoch on.
/// `former` is the owner that this machine was before, which cannot run any more.
pub(crate) fn list_epochs(
    store: &dyn Store,
    sealed: Option<Epoch>,
    former: Option<&str>,
) -> Result<Epochs, KeepError> {
    let mut known: BTreeMap<Epoch, Claimed> = BTreeMap::new();
    for entry in store.list(&Scope::Epochs)? {
        let Key::Epoch(epoch, record) = entry.key else { continue };
        let blank = Claimed { epoch, at: None, opened: false, closed: None, gone: false };
        let claimed = known.entry(epoch).or_insert(blank);
        match record {
            EpochRecord::Claim => claimed.at = Some(entry.modified),
            EpochRecord::Open => claimed.opened = true,
            EpochRecord::Closed => claimed.closed = Some(0),
        }
    }
    let opened = known.values().filter(|claimed| claimed.opened).map(|claimed| claimed.epoch).max();
    for (epoch, claimed) in &mut known {
        if opened.is_some_and(|opened| *epoch < opened) {
            continue;
        }
        if claimed.closed.is_some() {
            let record = read_record(store, *epoch, EpochRecord::Closed)?;
            claimed.closed = record.map(|record| record.txid);
        } else if let Some(former) = former {
            let record = read_record(store, *epoch, EpochRecord::Claim)?;
            claimed.gone = record.is_some_and(|record| record.owner == former);
        }
    }
    Ok(Epochs { records: known.into_values().collect(), sealed })
}

/// Whether there is a claim above `epoch`: claims follow each other by one.
pub(crate) fn higher_claim(store: &dyn Store, epoch: Epoch) -> Result<Option<Epoch>, StoreError> {
    let next = epoch.next();
    Ok(is_there(store, &Key::Epoch(next, EpochRecord::Claim))?.then_some(next))
}

/// Whether an object is there, which it mostly is not. Its first byte is read: a bucket that answers a HEAD with 404 has to be
/// asked a second time, for that has no body to tell a missing key from a missing bucket.
fn is_there(store: &dyn Store, key: &Key) -> Result<bool, StoreError> {
    match store.read(key, Some(0..1)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Looks whether `n` is the chain's next name, for the owner (to be) of `epoch`.
pub(crate) fn look(store: &dyn Store, epoch: Epoch, n: Txid) -> Result<Look, StoreError> {
    let taken = is_there(store, &Key::Ltx(Level::SLOTS, TxidRange::single(n)))?;
    let mut covered = None;
    let merged = Level::new(Level::SLOTS.get() + 1).unwrap_or(Level::SNAPSHOTS);
    for entry in store.list(&Scope::From(merged))? {
        if let Key::Ltx(_, range) = entry.key {
            covered = covered.max(Some(range.max()));
        }
    }
    Ok(Look { higher: higher_claim(store, epoch)?, taken, covered })
}

/// Writes an `open` or `closed` record; one that is there already is left as it is.
pub(crate) fn write_record(
    store: &dyn Store,
    epoch: Epoch,
    kind: EpochRecord,
    author: &Author,
    txid: Txid,
    now: TimestampMs,
) -> Result<(), StoreError> {
    let record = author.record(epoch, txid.get());
    store.create(&Key::Epoch(epoch, kind), record.spell(), now).map(drop)
}

/// Reads a record; `None` if there is none.
pub(crate) fn read_record(
    store: &dyn Store,
    epoch: Epoch,
    kind: EpochRecord,
) -> Result<Option<Record>, StoreError> {
    let key = Key::Epoch(epoch, kind);
    let chunk = match survey::read_range(store, &key, 0..limits::EPOCH_RECORD_BYTES + 1) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let record = (chunk.total <= limits::EPOCH_RECORD_BYTES)
        .then(|| serde_json::from_slice::<Record>(&chunk.bytes).ok())
        .flatten()
        .filter(|record| record.epoch == epoch.get());
    record.map(Some).ok_or_else(|| {
        let what = Failure::Text("not an epoch record".to_owned());
        StoreError::new(ErrorKind::DataDamaged, "read", format!("{}: {key}", store.location()), what)
    })
}

/// Whether the slot `n` that stands in the replica is the file with this size and checksum. `Err(Retry)` while it cannot be
/// read: that means not yet, never not there.
pub(crate) fn is_ours(
    store: &dyn Store,
    n: Txid,
    size: u64,
    file: litekeep_formats::Checksum,
) -> Result<bool, StoreError> {
    let slot = LtxFile {
        level: Level::SLOTS,
        range: TxidRange::single(n),
        size,
        modified: TimestampMs(0),
        timestamp: None,
    };
    match survey::read_ends(store, &slot)? {
        Some((_, trailer)) => Ok(trailer.file == file),
        None => Err(StoreError::new(
            ErrorKind::Retry,
            "create",
            format!("{}: slot {n}", store.location()),
            Failure::Text("the name is taken, but cannot be read yet".to_owned()),
        )),
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use litekeep_store::memory::MemoryStore;
    use std::sync::Arc;

    fn author(id: &str) -> Author {
        Author { id: id.to_owned(), durability: Durability::Replicated }
    }

    #[test]
    fn a_claim_is_exclusive_and_its_owner_knows_it_again() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let claim_as = |owner: &str| {
            claim(&store, Epoch::FIRST, &author(owner), None, TimestampMs(0)).expect("an answer")
        };
        assert_eq!(claim_as("a"), Claim::Made);
        assert_eq!(claim_as("b"), Claim::Taken);
        assert_eq!(claim_as("a"), Claim::Made, "an answer that was lost");
        let record = read_record(&store, Epoch::FIRST, EpochRecord::Claim).expect("read");
        assert_eq!(record.map(|record| record.owner).as_deref(), Some("a"), "the probe changed nothing");
        assert_eq!(higher_claim(&store, Epoch::FIRST).expect("looked"), None);
    }

    #[test]
    fn a_former_life_of_this_machine_is_gone_and_closing_records_are_read() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let (one, two) = (Epoch::FIRST, Epoch::FIRST.next());
        let txid = Txid::new(7).expect("not zero");
        for (epoch, owner) in [(one, "a"), (two, "b")] {
            claim(&store, epoch, &author(owner), None, TimestampMs(0)).expect("claimed");
        }
        let list = || {
            let epochs = list_epochs(&store, None, Some("b")).expect("listed");
            epochs.records.iter().map(|it| (it.opened, it.closed, it.gone)).collect::<Vec<_>>()
        };
        assert_eq!(list(), [(false, None, false), (false, None, true)]);
        write_record(&store, one, EpochRecord::Closed, &author("a"), txid, TimestampMs(0)).expect("written");
        assert_eq!(list(), [(false, Some(7), false), (false, None, true)]);
    }

    #[test]
    fn a_record_past_the_limit_or_with_other_fields_is_damaged() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let good = Record { epoch: 1, owner: "x".into(), txid: 0, durability: "local".into() };
        let padded = |length: usize| {
            let mut text = good.spell().to_vec();
            text.resize(length, b' ');
            text
        };
        let limit = usize::try_from(limits::EPOCH_RECORD_BYTES).expect("small");
        let rows: [(&str, Vec<u8>, bool); 4] = [
            ("at the limit", padded(limit), true),
            ("one past it", padded(limit + 1), false),
            (
                "an unknown field",
                br#"{"epoch":1,"owner":"x","txid":0,"durability":"local","x":1}"#.to_vec(),
                false,
            ),
            ("another epoch's", br#"{"epoch":2,"owner":"x","txid":0,"durability":"local"}"#.to_vec(), false),
        ];
        for (name, text, readable) in rows {
            store
                .put(&Key::Epoch(Epoch::FIRST, EpochRecord::Claim), text.into(), TimestampMs(0))
                .expect("put");
            let read = read_record(&store, Epoch::FIRST, EpochRecord::Claim);
            assert_eq!(read.is_ok(), readable, "{name}");
        }
    }
}
