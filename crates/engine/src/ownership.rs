//! Epoch records: small create-only JSON objects that say who intends to own the replica, who does, and who left.
//!
//! The claim is also the probe of the store: it is created twice, and the second create must be refused.

use crate::error::KeepError;
use bytes::Bytes;
use litekeep_core::limits;
use litekeep_core::ownership::{EpochFacts, NextEpoch, next_epoch};
use litekeep_formats::{Epoch, TimestampMs, Txid};
use litekeep_store::{Created, EpochRecord, ErrorKind, Failure, Key, Store, StoreError};
use serde::{Deserialize, Serialize};

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

/// What a claim gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The epoch is ours, and the store creates only.
    Owned(Epoch),
    /// The store replaces objects when told to create them only: nobody can own anything here.
    NoCreateOnly,
}

/// Claims the next epoch. Somebody who claims the same number at the same time makes us take the one after.
pub(crate) fn claim(
    store: &dyn Store,
    facts: &EpochFacts,
    owner: &str,
    from: Option<Txid>,
    now: TimestampMs,
) -> Result<Claim, KeepError> {
    let mut epoch = match next_epoch(facts) {
        NextEpoch::Claim(epoch) => epoch,
        NextEpoch::Damaged(epoch) => {
            return Err(KeepError::EpochDamaged { epoch, replica: store.location() });
        }
    };
    loop {
        let record = Record {
            epoch: epoch.get(),
            owner: owner.to_owned(),
            txid: from.map_or(0, Txid::get),
            durability: "local".to_owned(),
        };
        let key = Key::Epoch(epoch, EpochRecord::Claim);
        match store.create(&key, record.spell(), now) {
            Ok(Created::Yes) => {}
            Ok(Created::Exists) => {
                epoch = epoch.next();
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(Claim::NoCreateOnly),
            Err(error) => return Err(error.into()),
        }
        // Not the same bytes: a store that answers "mine" to a repeat of them would not be found out.
        let mut probe = record.spell().to_vec();
        probe.push(b'\n');
        return match store.create(&key, Bytes::from(probe), now)? {
            Created::Exists => Ok(Claim::Owned(epoch)),
            Created::Yes => Ok(Claim::NoCreateOnly),
        };
    }
}

/// Writes an `open` or `closed` record; one that is there already is left as it is.
pub(crate) fn write_record(
    store: &dyn Store,
    epoch: Epoch,
    kind: EpochRecord,
    owner: &str,
    txid: Txid,
    now: TimestampMs,
) -> Result<(), StoreError> {
    let record = Record {
        epoch: epoch.get(),
        owner: owner.to_owned(),
        txid: txid.get(),
        durability: "local".to_owned(),
    };
    store.create(&Key::Epoch(epoch, kind), record.spell(), now).map(drop)
}

/// Reads a claim; `None` if there is none.
pub(crate) fn read_claim(store: &dyn Store, epoch: Epoch) -> Result<Option<Record>, StoreError> {
    let key = Key::Epoch(epoch, EpochRecord::Claim);
    let chunk = match store.read(&key, Some(0..limits::EPOCH_RECORD_BYTES + 1)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use litekeep_store::memory::MemoryStore;
    use std::sync::Arc;

    #[test]
    fn a_claim_is_exclusive_and_takes_the_next_free_number() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let claim_as = |owner: &str| {
            claim(&store, &EpochFacts::default(), owner, None, TimestampMs(0)).expect("claimed")
        };
        assert_eq!(claim_as("a"), Claim::Owned(Epoch::FIRST));
        assert_eq!(claim_as("b"), Claim::Owned(Epoch::FIRST.next()), "the same facts, a moment later");
        let owner = |epoch| read_claim(&store, epoch).expect("read").map(|record| record.owner);
        assert_eq!(owner(Epoch::FIRST).as_deref(), Some("a"), "the probe changed nothing");
        assert_eq!(owner(Epoch::FIRST.next()).as_deref(), Some("b"));
        assert_eq!(owner(Epoch::FIRST.next().next()), None);
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
            assert_eq!(read_claim(&store, Epoch::FIRST).is_ok(), readable, "{name}");
        }
    }
}
