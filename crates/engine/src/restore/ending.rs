//! How a replica's chain ends: the last slots without pages are read, and [`litekeep_core::restore::ending`] says which
//! of them count.

use super::look;
use crate::merge::went_on_without;
use crate::survey::{read_range, read_tip};
use litekeep_core::limits;
use litekeep_core::restore::{self as core, Bare, Catalog, LtxFile};
use litekeep_formats::ltx::{Header, Trailer};
use litekeep_formats::{Checksum, Epoch, Level, Txid, TxidRange};
use litekeep_store::{ErrorKind, Key, Store, StoreError};

/// What was found at the end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ended {
    /// The newest state that counts; `None` where none does.
    pub(crate) at: Option<Txid>,
    /// The newest name past it, where an image was announced there and not finished.
    pub(crate) unfinished: Option<Unfinished>,
}

/// The last slot of those that do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) txid: Txid,
    /// Its file checksum.
    pub(crate) slot: Checksum,
    pub(crate) epoch: Option<Epoch>,
}

/// A slot without pages, as it was read.
struct Read {
    bare: Bare,
    slot: Checksum,
    epoch: Option<Epoch>,
}

/// Looks at the end of what is listed. Asks nothing where the newest slot has pages.
///
/// # Errors
/// The store's.
pub(crate) fn ended(store: &dyn Store, catalog: &Catalog, parallelism: usize) -> Result<Ended, StoreError> {
    let newest = catalog.newest();
    let counts = Ended { at: newest, unfinished: None };
    let files = bare_files(catalog);
    let read = look::each(parallelism, &files, |file| read_bare(store, file))?;
    // What is below a slot that has no seal, or is gone by now, is not asked about.
    let from = read.iter().rposition(Option::is_none).map_or(0, |at| at + 1);
    let run: Vec<Read> = read.into_iter().skip(from).flatten().collect();
    let bare: Vec<Bare> = run.iter().map(|read| read.bare).collect();
    let at = match core::ending(&bare) {
        core::Ending::Newest => return Ok(counts),
        core::Ending::Before(at) => at,
        core::Ending::BeforeIf(at, database) => {
            let below = read_tip(store, catalog, at)?.and_then(|tip| tip.database);
            if below != Some(database) {
                return Ok(counts);
            }
            Some(at)
        }
    };
    let last = run.last().map(|last| Unfinished { txid: last.bare.txid, slot: last.slot, epoch: last.epoch });
    Ok(Ended { at, unfinished: last })
}

/// Slots without pages that end where an image of level 9 does, with the slots right behind them: they may announce it.
pub(crate) fn doubtful_images(catalog: &Catalog) -> Vec<(LtxFile, LtxFile)> {
    let whole = |txid| image(txid).is_some_and(|image| catalog.contains(Level::SNAPSHOTS, image));
    let doubtful = |slot: &LtxFile| slot.size <= limits::BARE_BYTES && whole(slot.range.max());
    let pairs = catalog.level(Level::SLOTS).windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(slot, behind)| doubtful(slot) && slot.range.max().next() == behind.range.min()).collect()
}

/// Those of them whose announcement others went on behind: they never counted. Gives their ends.
///
/// # Errors
/// The store's.
pub(crate) fn passed_images(
    store: &dyn Store,
    doubtful: &[(LtxFile, LtxFile)],
) -> Result<Vec<Txid>, StoreError> {
    let mut passed = Vec::new();
    for (slot, behind) in doubtful {
        let (above, below) = (look::header(store, behind)?, look::header(store, slot)?);
        let (Some(above), Some(below)) = (above, below) else { continue };
        if below.content_is_elsewhere() && went_on_without(&below, &above, behind.size) {
            passed.push(slot.range.max());
        }
    }
    Ok(passed)
}

/// The slots without pages that end the chain, ascending and without a gap.
fn bare_files(catalog: &Catalog) -> Vec<LtxFile> {
    let mut next = catalog.newest();
    let mut files: Vec<LtxFile> = catalog
        .level(Level::SLOTS)
        .iter()
        .rev()
        .take_while(|file| {
            let follows = file.size <= limits::BARE_BYTES
                && next.is_some_and(|txid| file.range == TxidRange::single(txid));
            next = file.range.min().previous();
            follows
        })
        .copied()
        .collect();
    files.reverse();
    files
}

/// `None` for a slot that is gone, or that Litestream wrote.
fn read_bare(store: &dyn Store, file: &LtxFile) -> Result<Option<Read>, StoreError> {
    let key = Key::Ltx(file.level, file.range);
    let chunk = match read_range(store, &key, 0..limits::BARE_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // One that is no good is met, and told, by whoever reads it for what it holds.
    let Ok(header) = Header::parse(&chunk.bytes) else { return Ok(None) };
    let end = chunk.bytes.len().saturating_sub(Trailer::LEN);
    let (Ok(trailer), Some(seal)) = (Trailer::parse(&chunk.bytes[end..], &header), header.seal()) else {
        return Ok(None);
    };
    let txid = file.range.max();
    let announces = match header.content_is_elsewhere() {
        true => Some(has_image(store, txid)?),
        false => None,
    };
    let bare = Bare { txid, database: seal.database, announces };
    Ok(Some(Read { bare, slot: trailer.file, epoch: Some(seal.epoch) }))
}

/// What a whole image that ends at this transaction covers.
pub(crate) fn image(txid: Txid) -> Option<TxidRange> {
    TxidRange::new(Txid::FIRST, txid)
}

/// Whether level 9 has the image that ends at this transaction.
fn has_image(store: &dyn Store, txid: Txid) -> Result<bool, StoreError> {
    let Some(range) = image(txid) else { return Ok(false) };
    match store.head(&Key::Ltx(Level::SNAPSHOTS, range)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
