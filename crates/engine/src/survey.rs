//! Looks at a replica before anything is written to it: what lies in every level, how its chain ends, who claimed it.

use crate::error::KeepError;
use crate::local::Newest;
use crate::restore::{self, Unfinished};
use litekeep_core::limits;
use litekeep_core::lineage::{Fate, RemoteTip};
use litekeep_core::ownership::EpochFacts;
use litekeep_core::restore::{Catalog, LtxFile, Target, plan_latest};
use litekeep_core::retain;
use litekeep_formats::ltx::{Header, Trailer, WalSpan};
use litekeep_formats::{Epoch, Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{Chunk, EpochRecord, ErrorKind, Failure, Key, Scope, Store, StoreError};
use std::ops::Range;

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Survey {
    pub(crate) catalog: Catalog,
    /// The newest state that counts.
    pub(crate) tip: Option<RemoteTip>,
    /// The newest name, where an image was announced past the tip and not finished.
    pub(crate) unfinished: Option<Unfinished>,
    pub(crate) epochs: EpochFacts,
    /// The newest state cannot be restored: an object is missing (R32).
    pub(crate) hole: bool,
    /// What became of the newest slot that was built here: [`fate`].
    pub(crate) fate: Fate,
}

/// Lists everything and reads the ends of the newest files.
pub(crate) fn survey(store: &dyn Store) -> Result<Survey, KeepError> {
    let catalog = list_all(store)?;
    let mut epochs = epoch_facts(store)?;
    let ended = restore::ended(store, &catalog, 1)?;
    let mut tip = match ended.at {
        Some(txid) => Some(read_tip(store, &catalog, txid)?.ok_or_else(|| moved(store))?),
        None => None,
    };
    if let (Some(tip), Some(last)) = (&mut tip, ended.unfinished) {
        // Whoever announced there was the last to own, or whoever fenced it.
        tip.epoch = tip.epoch.max(last.epoch);
    }
    let seals = [Level::SLOTS, Level::SNAPSHOTS]
        .iter()
        .filter_map(|level| catalog.level(*level).iter().max_by_key(|file| file.range.max()));
    for file in seals {
        let epoch = read_ends(store, file)?.and_then(|(header, _)| header.seal()).map(|seal| seal.epoch);
        epochs.newest_seal = epochs.newest_seal.max(epoch);
    }
    let bare = |tip: &RemoteTip| {
        let slot = catalog.level(Level::SLOTS).iter().find(|slot| slot.range.max() == tip.txid);
        // Without a seal there is no mark; a file of this size has no page.
        tip.epoch.is_none() && slot.is_some_and(|slot| slot.size <= limits::BARE_BYTES)
    };
    let without = tip.filter(bare).map(|tip| restore::has_image(store, tip.txid)).transpose()? == Some(false);
    let plan = plan_latest(&catalog.up_to(ended.at));
    let hole = ended.missing || without || (plan.is_err() && ended.at.is_some());
    Ok(Survey { catalog, tip, unfinished: ended.unfinished, epochs, hole, fate: Fate::Held })
}

/// What became of the newest slot that was built here, where the chain has gone on past it.
pub(crate) fn fate(store: &dyn Store, survey: &Survey, newest: Option<&Newest>) -> Result<Fate, KeepError> {
    let passed = |newest: &&Newest| survey.tip.is_some_and(|tip| tip.txid > newest.txid);
    let Some(newest) = newest.filter(passed) else { return Ok(Fate::Held) };
    let range = TxidRange::single(newest.txid);
    let listed = survey.catalog.level(Level::SLOTS).iter().find(|slot| slot.range == range);
    // One that came into a freed name is no part of the chain, whoever sent it (docs/model.md, rule 9).
    let late = listed.is_some_and(|slot| retain::came_late(&survey.catalog, slot));
    // One that is damaged tells as little as one that is gone; whoever needs it says so.
    let found = match read_ends(store, &slot_file(newest.txid)) {
        Err(error) if error.kind() == ErrorKind::DataDamaged => None,
        found => found?,
    };
    if let Some((header, trailer)) = found.filter(|_| !late) {
        if newest.slot.is_some_and(|ours| ours != trailer.file) {
            return Ok(Fate::Other);
        }
        // An image of our own that was announced, never finished, and passed; or of which nobody can tell any more.
        let alone = header.content_is_elsewhere()
            && (!restore::passed(store, &[newest.txid])?.is_empty() || is_untold(store, survey, newest)?);
        return Ok(if alone { Fate::Unknown } else { Fate::Held });
    }
    if newest.unheard && !is_merged(store, &survey.catalog, newest)? {
        return Ok(Fate::Unknown);
    }
    Ok(Fate::Held)
}

/// Whether what says that an image of ours counts is gone, and was never heard here.
fn is_untold(store: &dyn Store, survey: &Survey, newest: &Newest) -> Result<bool, StoreError> {
    Ok(newest.unheard
        && read_ends(store, &slot_file(newest.txid.next()))?.is_none()
        && !is_merged(store, &survey.catalog, newest)?)
}

/// Whether a file that was merged shows that it was made with this slot: it ends with it, and in the same state; or it
/// begins behind it, and names it. Of what is merged in the middle nothing is left that tells.
fn is_merged(store: &dyn Store, catalog: &Catalog, newest: &Newest) -> Result<bool, StoreError> {
    for file in catalog.files().filter(|file| file.level != Level::SLOTS) {
        let ends = file.range.max() == newest.txid && newest.database.is_some();
        let follows = file.range.min() == newest.txid.next() && newest.slot.is_some();
        if (ends || follows)
            && let Some(seal) = read_ends(store, file)?.and_then(|(header, _)| header.seal())
            && ((ends && seal.database == newest.database) || (follows && seal.predecessor == newest.slot))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A slot, as far as its name tells.
pub(crate) fn slot_file(txid: Txid) -> LtxFile {
    LtxFile {
        level: Level::SLOTS,
        range: TxidRange::single(txid),
        size: 0,
        modified: TimestampMs(0),
        timestamp: None,
    }
}

/// What was listed went on while it was read.
fn moved(store: &dyn Store) -> StoreError {
    let what = Failure::Text("the newest file went away while it was read".to_owned());
    StoreError::new(ErrorKind::Retry, "read", store.location(), what)
}

/// The LTX files of all levels, and what a listing that lags does not show yet (R60).
pub(crate) fn list_all(store: &dyn Store) -> Result<Catalog, StoreError> {
    let mut catalog = restore::catalog(store)?;
    restore::fill_in(store, &mut catalog, Target::Latest)?;
    restore::fill_holes(store, &mut catalog)?;
    restore::read_ahead(store, &mut catalog)?;
    Ok(catalog)
}

/// The same, by someone who knows of files: what of them is not listed is asked for by its name before it counts as gone.
pub(crate) fn list_again(store: &dyn Store, known: &Catalog) -> Result<Catalog, StoreError> {
    let mut catalog = restore::catalog(store)?;
    let unlisted: Vec<LtxFile> =
        known.files().filter(|file| !catalog.contains(file.level, file.range)).copied().collect();
    for file in unlisted {
        match store.head(&Key::Ltx(file.level, file.range)) {
            Ok(_) => catalog.insert(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    restore::read_ahead(store, &mut catalog)?;
    Ok(catalog)
}

pub(crate) fn epoch_facts(store: &dyn Store) -> Result<EpochFacts, StoreError> {
    let mut facts = EpochFacts::default();
    for entry in store.list(&Scope::Epochs)? {
        if let Key::Epoch(epoch, record) = entry.key {
            facts.newest_record = facts.newest_record.max(Some(epoch));
            facts.any_opened |= record != EpochRecord::Claim;
        }
    }
    Ok(facts)
}

/// The file that ends the chain: the slot where it is there, else whatever covers that TXID.
pub(crate) fn read_tip(
    store: &dyn Store,
    catalog: &Catalog,
    txid: Txid,
) -> Result<Option<RemoteTip>, StoreError> {
    let mut ends: Vec<&LtxFile> = catalog.files().filter(|file| file.range.max() == txid).collect();
    ends.sort_by_key(|file| file.level);
    for file in ends {
        let Some((header, trailer)) = read_ends(store, file)? else { continue };
        let seal = header.seal();
        let is_slot = file.level == Level::SLOTS && file.range.min() == txid;
        return Ok(Some(RemoteTip {
            txid,
            slot: is_slot.then_some(trailer.file),
            database: seal.and_then(|seal| seal.database).or(trailer.post_apply),
            epoch: seal.map(|seal| seal.epoch),
            page_size: header.page_size,
            commit: header.commit,
            timestamp: header.timestamp,
            wal: if is_slot { header.wal } else { WalSpan::default() },
        }));
    }
    Ok(None)
}

/// Reads a range of an object. A transfer that ended early is one to try again: it says nothing of the object.
pub(crate) fn read_range(store: &dyn Store, key: &Key, range: Range<u64>) -> Result<Chunk, StoreError> {
    let chunk = store.read(key, Some(range.clone()))?;
    let (came, promised) = (chunk.bytes.len() as u64, range.end.min(chunk.total).saturating_sub(range.start));
    if came == promised {
        return Ok(chunk);
    }
    let what = Failure::Text(format!("{came} bytes came where {promised} were announced"));
    Err(StoreError::new(ErrorKind::Retry, "read", format!("{}: {key}", store.location()), what))
}

/// Header and trailer of a file; `None` if it is gone by now.
pub(crate) fn read_ends(store: &dyn Store, file: &LtxFile) -> Result<Option<(Header, Trailer)>, StoreError> {
    let key = Key::Ltx(file.level, file.range);
    let damaged = |what: &str| {
        StoreError::new(
            ErrorKind::DataDamaged,
            "read",
            format!("{}: {key}", store.location()),
            Failure::Text(what.to_owned()),
        )
    };
    let head = match read_range(store, &key, 0..Header::LEN as u64) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let header = Header::parse(&head.bytes).map_err(|error| damaged(&error.to_string()))?;
    let end = head.total;
    let begin = end.checked_sub(Trailer::LEN as u64).ok_or_else(|| damaged("shorter than its trailer"))?;
    let tail = match read_range(store, &key, begin..end) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let trailer = Trailer::parse(&tail.bytes, &header).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some((header, trailer)))
}

/// Who wrote a slot, as far as the bucket tells.
pub(crate) fn who_wrote(store: &dyn Store, txid: Txid) -> String {
    match read_ends(store, &slot_file(txid)) {
        Ok(Some((header, _))) => match header.seal() {
            Some(seal) => format!("epoch {}, {}", seal.epoch, owner(store, seal.epoch)),
            None => "a file without a seal, as Litestream writes it".to_owned(),
        },
        Ok(None) => "the slot is gone again".to_owned(),
        Err(error) => format!("unknown ({error})"),
    }
}

fn owner(store: &dyn Store, epoch: Epoch) -> String {
    match crate::ownership::read_record(store, epoch, EpochRecord::Claim) {
        Ok(Some(claim)) => format!("owner {}", claim.owner),
        Ok(None) => "whose claim is gone".to_owned(),
        Err(error) => format!("whose claim cannot be read ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::forge::{Chain, level_key, range, slot_key, txid};
    use litekeep_formats::Checksum;
    use litekeep_formats::ltx::{Marks, Seal};

    /// Slots 1 to 6, of which the fourth is `newest`; and where the slots up to the fifth are deleted, a level 1 file over
    /// this range, merged from 1 on or from behind the fourth.
    fn chain_with(merged: Option<(u64, u64)>) -> (Chain, Newest) {
        let mut chain = Chain::new();
        let (mut newest, mut file) = (None, None);
        for at in 1..=6 {
            let before = chain.last;
            chain.run(1);
            if at == 4 {
                let (slot, database) = (chain.last, Some(chain.database()));
                newest = Some(Newest { txid: txid(4), slot, database, unheard: true });
            }
            if let Some((min, max)) = merged.filter(|(_, max)| *max == at) {
                let mut header = chain.header(range(min, max), Marks::NONE);
                let seal = header.seal().expect("sealed");
                let predecessor = if min == at { before } else { None };
                header.set_seal(&Seal { predecessor, ..seal });
                let pages: Vec<u32> = chain.pages.keys().copied().collect();
                file = Some((level_key(1, min, max), chain.file(&header, &pages).0));
            }
        }
        if let Some((key, bytes)) = file {
            chain.put(key, bytes);
            chain.remove(&(1..=5).map(slot_key).collect::<Vec<_>>());
        }
        (chain, newest.expect("six slots"))
    }

    #[test]
    fn a_slot_s_fate_is_told_by_its_name_by_an_answer_or_by_what_it_was_merged_into() {
        type Change = fn(&mut Newest);
        let same: Change = |_| {};
        let other: Change = |newest| {
            (newest.slot, newest.database) = (Some(Checksum::from_crc(1)), Some(Checksum::from_crc(2)));
        };
        let heard: Change = |newest| newest.unheard = false;
        let at_tip: Change = |newest| newest.txid = txid(6);
        let rows = [
            ("it is there", None, same, Fate::Held),
            ("another one is there", None, other, Fate::Other),
            ("the chain has not gone on", None, at_tip, Fate::Held),
            ("a file ends with it", Some((1, 4)), same, Fate::Held),
            ("a file ends with another one", Some((1, 4)), other, Fate::Unknown),
            ("a file begins behind it", Some((5, 5)), same, Fate::Held),
            ("a file begins behind another one", Some((5, 5)), other, Fate::Unknown),
            ("it lies within a file", Some((1, 5)), same, Fate::Unknown),
            ("it lies within a file, and its put was answered", Some((1, 5)), heard, Fate::Held),
        ];
        for (name, merged, change, expected) in rows {
            let (chain, mut newest) = chain_with(merged);
            change(&mut newest);
            let seen = survey(&chain.store).expect("looked at");
            assert_eq!(fate(&chain.store, &seen, Some(&newest)).expect("asked"), expected, "{name}");
        }
    }
}
