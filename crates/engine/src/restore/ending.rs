//! How a replica's chain ends: the last slots without pages are read, and [`litekeep_core::restore::ending`] says which
//! of them count.

use super::look;
use crate::merge::went_on_without;
use crate::survey::{read_range, read_tip};
use litekeep_core::limits;
use litekeep_core::restore::{self as core, Bare, Catalog, LtxFile};
use litekeep_core::retain;
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
    /// Something that counts is not there: what the announcement was made behind, or what the last slots state. Nothing is
    /// cut off then.
    pub(crate) missing: bool,
}

/// The slots that do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// The number of the first of them.
    pub(crate) first: Txid,
    /// Of the last.
    pub(crate) txid: Txid,
    /// The last one's file checksum.
    pub(crate) slot: Checksum,
    /// And its epoch.
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
    let counts = |missing| Ended { at: catalog.newest(), unfinished: None, missing };
    let files = bare_files(catalog);
    let read = look::each(parallelism, &files, |file| read_bare(store, file))?;
    // What is below a slot that has no seal, or is gone by now, is not asked about.
    let from = read.iter().rposition(Option::is_none).map_or(0, |at| at + 1);
    let run: Vec<Read> = read.into_iter().skip(from).flatten().collect();
    let bare: Vec<Bare> = run.iter().map(|read| read.bare).collect();
    let (at, stated) = match core::ending(&bare) {
        core::Ending::Newest => return Ok(counts(false)),
        core::Ending::Missing => return Ok(counts(true)),
        core::Ending::Before(at) => (at, None),
        core::Ending::BeforeIf(at, database) => (Some(at), Some(database)),
    };
    let unfinished = run.last().map(|last| Unfinished {
        first: at.map_or(Txid::FIRST, Txid::next),
        txid: last.bare.txid,
        slot: last.slot,
        epoch: last.epoch,
    });
    let below = catalog.up_to(at);
    if below.newest() != at {
        // A merged file may go on over that, and says more than what is left of the slots that it was made of. Else it was
        // lost, since numbers have no holes, and it counted: nobody may take what is below for the newest.
        let spans = |file: &LtxFile| {
            file.level != Level::SNAPSHOTS && Some(file.range.min()) <= at && Some(file.range.max()) > at
        };
        return Ok(counts(!catalog.files().any(spans)));
    }
    // A state that was written without its checksum says nothing against what was stated of it.
    if let (Some(at), Some(stated)) = (at, stated)
        && read_tip(store, &below, at)?
            .and_then(|tip| tip.database)
            .is_some_and(|database| database != stated)
    {
        return Ok(counts(true));
    }
    Ok(Ended { at, unfinished, missing: false })
}

/// Which of these announce an image that others went on without: it never counted.
///
/// # Errors
/// The store's.
pub(crate) fn passed(store: &dyn Store, announced: &[Txid]) -> Result<Vec<Txid>, StoreError> {
    let mut passed = Vec::new();
    for txid in announced {
        let (slot, behind) = (read_header(store, *txid)?, read_header(store, txid.next())?);
        if let (Some((slot, _)), Some((behind, size))) = (slot, behind)
            && slot.content_is_elsewhere()
            && went_on_without(&slot, &behind, size)
        {
            passed.push(*txid);
        }
    }
    Ok(passed)
}

/// Slots without pages that end where an image of level 9 does, and have one behind them: they may announce it.
pub(crate) fn doubtful(catalog: &Catalog) -> Vec<Txid> {
    let whole = |txid| image(txid).is_some_and(|image| catalog.contains(Level::SNAPSHOTS, image));
    let pairs = catalog
        .level(Level::SLOTS)
        .windows(2)
        .filter(|pair| pair[0].range.max().next() == pair[1].range.min());
    pairs
        .filter(|pair| pair[0].size <= limits::BARE_BYTES && whole(pair[0].range.max()))
        // One that came into a name which had been freed announces nothing of this chain.
        .filter(|pair| !retain::came_late(catalog, &pair[0]))
        .map(|pair| pair[0].range.max())
        .collect()
}

/// A slot's header and size; `None` if it is not there, or no LTX file.
fn read_header(store: &dyn Store, txid: Txid) -> Result<Option<(Header, u64)>, StoreError> {
    match read_range(store, &Key::Ltx(Level::SLOTS, TxidRange::single(txid)), 0..Header::LEN as u64) {
        Ok(chunk) => Ok(Header::parse(&chunk.bytes).ok().map(|header| (header, chunk.total))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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

/// The image in level 9 that ends at this transaction, whether a listing shows it or not.
pub(crate) fn find_image(store: &dyn Store, txid: Txid) -> Result<Option<LtxFile>, StoreError> {
    match image(txid) {
        Some(range) => look::by_name(store, Level::SNAPSHOTS, range),
        None => Ok(None),
    }
}

/// Whether there is one.
pub(crate) fn has_image(store: &dyn Store, txid: Txid) -> Result<bool, StoreError> {
    Ok(find_image(store, txid)?.is_some())
}
