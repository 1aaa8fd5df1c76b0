//! Builds one slot: the last version of each page since the slot before, sealed, durable on the local disk.
//!
//! Every page is read twice: once for the checksums that the header's seal needs, once for the encoder. The second
//! reading comes from the page cache, and no slot is ever held in memory while it is built.

use crate::files::{File, Files, Open};
use crate::sums::Sums;
use bytes::Bytes;
use litekeep_core::assess::Position;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::{Encoder, Header, LtxError, Marks, PageEncoding, Seal, Trailer, WalSpan};
use litekeep_formats::wal::frame_offset;
use litekeep_formats::{Checksum, Epoch, PageNo, PageSize, TimestampMs, Txid, TxidRange};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// How much encoded data is collected before it is written, bytes.
const SPILL: usize = 1 << 20;

/// Everything about a slot but its pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotHead {
    pub(crate) txid: Txid,
    /// `None` where the store cannot create only, and so nobody can own anything.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) page_size: PageSize,
    pub(crate) commit: u32,
    pub(crate) timestamp: TimestampMs,
    /// File checksum of the slot before.
    pub(crate) predecessor: Option<Checksum>,
    /// Database checksum after this slot, where known.
    pub(crate) database: Option<Checksum>,
    pub(crate) marks: Marks,
    pub(crate) wal: WalSpan,
}

impl SlotHead {
    pub(crate) fn header(&self) -> Header {
        let mut header = Header {
            no_checksum: true,
            page_size: self.page_size,
            commit: self.commit,
            range: TxidRange::single(self.txid),
            timestamp: self.timestamp,
            pre_apply: None,
            wal: self.wal,
            node_id: 0,
            reserved: [0; 20],
        };
        if let Some(epoch) = self.epoch {
            header.set_seal(&Seal {
                epoch,
                database: self.database,
                predecessor: self.predecessor,
                marks: self.marks,
            });
        }
        header
    }
}

/// A slot that stands on the local disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Built {
    pub(crate) txid: Txid,
    pub(crate) file: Checksum,
    pub(crate) size: u64,
    pub(crate) timestamp: TimestampMs,
}

/// Why a slot could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The local disk, the WAL or the tail.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A page could not be read through SQLite.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The encoder refused: a broken promise of the engine.
    #[error("{0}")]
    Format(#[from] LtxError),
    /// It would not fit into one put.
    #[error("more than {0} bytes, which is the most for one put")]
    TooLarge(u64),
}

/// What the WAL fields of a slot's header say: the span from one position to another, as Litestream resumes by it.
pub(crate) fn wal_span(from: &Position, to: &Position) -> WalSpan {
    if to.frame == 0 || to.salts == Position::UNBORN {
        return WalSpan::default();
    }
    let begin = if from.salts == to.salts {
        frame_offset(from.frame + 1, to.page_size)
    } else {
        frame_offset(1, to.page_size)
    };
    let end = frame_offset(to.frame + 1, to.page_size);
    WalSpan { offset: begin, size: end.saturating_sub(begin), salts: to.salts }
}

/// Checksums of the pages of a slot, and the database checksum that follows from them.
///
/// `before` is the database checksum that `sums` stands for. Pages that the slot cuts off leave the checksum.
pub(crate) fn database_after(
    sums: &Sums,
    before: Option<Checksum>,
    commit: u32,
    pages: &BTreeMap<PageNo, Checksum>,
) -> io::Result<Option<Checksum>> {
    let Some(mut database) = before else { return Ok(None) };
    for (page, sum) in pages {
        if let Some(old) = sums.get(*page)? {
            database = database.toggle(old);
        }
        database = database.toggle(*sum);
    }
    for number in commit + 1..=sums.commit() {
        if let Some(page) = PageNo::new(number)
            && let Some(old) = sums.get(page)?
        {
            database = database.toggle(old);
        }
    }
    Ok(Some(database))
}

/// The checksum of every page that `read` gives, ascending.
pub(crate) fn page_sums(
    pages: &[PageNo],
    page_size: PageSize,
    mut read: impl FnMut(PageNo, &mut [u8]) -> Result<(), BuildError>,
) -> Result<BTreeMap<PageNo, Checksum>, BuildError> {
    let mut buf = vec![0; page_size.bytes()];
    let mut sums = BTreeMap::new();
    for page in pages {
        read(*page, &mut buf)?;
        sums.insert(*page, page_checksum(*page, &buf));
    }
    Ok(sums)
}

/// A slot file that is being written.
pub(crate) struct SlotWriter {
    file: std::sync::Arc<dyn File>,
    encoder: Encoder,
    out: Vec<u8>,
    written: u64,
    /// The largest size, bytes.
    limit: u64,
    head: SlotHead,
}

impl SlotWriter {
    pub(crate) fn create(
        files: &dyn Files,
        path: &Path,
        head: SlotHead,
        encoding: PageEncoding,
        limit: u64,
    ) -> Result<Self, BuildError> {
        let file = files.open(path, Open::CreateOrTruncate)?;
        let mut out = Vec::with_capacity(SPILL + (1 << 17));
        let encoder = Encoder::new(&head.header(), encoding, &mut out)?;
        Ok(Self { file, encoder, out, written: 0, limit, head })
    }

    pub(crate) fn page(&mut self, page: PageNo, data: &[u8]) -> Result<(), BuildError> {
        self.encoder.page(page, data, &mut self.out)?;
        if self.out.len() >= SPILL { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), BuildError> {
        self.file.write_at(&self.out, self.written)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        fits(self.written, self.limit)
    }

    /// Makes the file's content durable; its name is made durable by the caller.
    pub(crate) fn finish(mut self) -> Result<Built, BuildError> {
        let Trailer { file: checksum, .. } = self.encoder.finish(None, &mut self.out)?;
        let size = self.written + self.out.len() as u64;
        fits(size, self.limit)?;
        self.file.write_at(&self.out, self.written)?;
        self.file.set_len(size)?;
        self.file.sync()?;
        Ok(Built { txid: self.head.txid, file: checksum, size, timestamp: self.head.timestamp })
    }
}

/// A whole slot without pages, in memory, and its file checksum.
pub(crate) fn empty(head: SlotHead, encoding: PageEncoding) -> Result<(Bytes, Checksum), BuildError> {
    let mut out = Vec::new();
    let encoder = Encoder::new(&head.header(), encoding, &mut out)?;
    let trailer = encoder.finish(None, &mut out)?;
    Ok((Bytes::from(out), trailer.file))
}

fn fits(size: u64, limit: u64) -> Result<(), BuildError> {
    if size > limit { Err(BuildError::TooLarge(limit)) } else { Ok(()) }
}
