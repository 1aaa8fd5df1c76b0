//! Whole images of a database go straight to level 9, and are not rewritten through the levels (R36).
//!
//! An image of moderate size (`IMAGE_RAW_BYTES`) is a slot with every page; its level-9 file is made from that slot. A
//! larger one, or one that the local disk has no room for, goes from the database to level 9 as a stream, behind an empty
//! slot that took its number.

use crate::error::KeepError;
use crate::files::File;
use crate::slot::SlotHead;
use crate::sqlite::Scan;
use litekeep_core::restore::LtxFile;
use litekeep_formats::ltx::{Decoder, Encoder, Header, Marks, PageEncoding};
use litekeep_formats::{ByteSource, Level, PageNo, TimestampMs, Txid, TxidRange};
use litekeep_store::{Key, Store, Upload};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How much encoded data is handed to the upload at once, bytes.
const SPILL: usize = 1 << 20;

/// A level-9 file on its way up.
struct Level9 {
    upload: Box<dyn Upload>,
    encoder: Encoder,
    out: Vec<u8>,
    written: u64,
    file: LtxFile,
}

impl Level9 {
    /// `header` is that of the slot; its range is widened to begin at TXID 1.
    fn begin(store: &dyn Store, mut header: Header, encoding: PageEncoding) -> Result<Self, KeepError> {
        let txid = header.range.max();
        let range = TxidRange::new(Txid::FIRST, txid).expect("BUG: no TXID lies before the first");
        header.range = range;
        if let Some(mut seal) = header.seal() {
            seal.marks = Marks::FULL_IMAGE;
            header.set_seal(&seal);
        }
        let mut out = Vec::with_capacity(SPILL + (1 << 17));
        let encoder = Encoder::new(&header, encoding, &mut out).map_err(|error| bug(txid, &error))?;
        let upload = store.upload(&Key::Ltx(Level::SNAPSHOTS, range), header.timestamp)?;
        let file = LtxFile {
            level: Level::SNAPSHOTS,
            range,
            size: 0,
            modified: TimestampMs(0),
            timestamp: Some(header.timestamp),
        };
        Ok(Self { upload, encoder, out, written: 0, file })
    }

    fn page(&mut self, page: PageNo, data: &[u8]) -> Result<(), KeepError> {
        self.encoder.page(page, data, &mut self.out).map_err(|error| bug(self.file.range.max(), &error))?;
        if self.out.len() >= SPILL { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), KeepError> {
        self.upload.write(&self.out)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    fn finish(mut self, now: TimestampMs) -> Result<LtxFile, KeepError> {
        let txid = self.file.range.max();
        self.encoder.finish(None, &mut self.out).map_err(|error| bug(txid, &error))?;
        self.upload.write(&self.out)?;
        let size = self.written + self.out.len() as u64;
        self.upload.finish()?;
        Ok(LtxFile { size, modified: now, ..self.file })
    }
}

fn bug(txid: Txid, error: &dyn std::fmt::Display) -> KeepError {
    KeepError::Build { txid, error: error.to_string() }
}

/// The level-9 file of an image that is a slot: the same pages under another name.
pub(crate) fn from_slot(
    store: &dyn Store,
    slot: Arc<dyn File>,
    path: &Path,
    encoding: PageEncoding,
    now: TimestampMs,
) -> Result<LtxFile, KeepError> {
    let read = |error: &dyn std::fmt::Display| KeepError::Io {
        what: "read the staged slot",
        path: path.to_owned(),
        error: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    };
    let mut decoder = Decoder::new(FileSource::new(slot)).map_err(|error| read(&error))?;
    let header = *decoder.header();
    let mut to = Level9::begin(store, header, encoding)?;
    let mut buf = vec![0; header.page_size.bytes()];
    while let Some(page) = decoder.next_page(&mut buf).map_err(|error| read(&error))? {
        to.page(page, &buf)?;
    }
    decoder.finish().map_err(|error| read(&error))?;
    to.finish(store.server_time().unwrap_or(now))
}

/// The level-9 file of an image that is too large for a slot, read from the database while writers go on.
pub(crate) fn from_scan(
    store: &dyn Store,
    scan: &Scan,
    database: &Path,
    head: &SlotHead,
    encoding: PageEncoding,
    now: TimestampMs,
) -> Result<LtxFile, KeepError> {
    let mut to = Level9::begin(store, head.header(), encoding)?;
    scan.for_each(|page, data| to.page(page, data).map_err(Trouble::Keep)).map_err(
        |trouble| match trouble {
            Trouble::Keep(error) => error,
            Trouble::Sqlite(error) => KeepError::Sqlite { path: database.to_owned(), error },
        },
    )?;
    to.finish(store.server_time().unwrap_or(now))
}

/// The page loop meets two kinds.
enum Trouble {
    Sqlite(rusqlite::Error),
    Keep(KeepError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A local file as a source of bytes. It may be unlinked meanwhile.
pub(crate) struct FileSource {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl FileSource {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self { file, at: 0, buffer: Vec::new(), used: 0 }
    }
}

impl ByteSource for FileSource {
    type Error = io::Error;

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            self.buffer.resize(1 << 18, 0);
            let n = self.file.read_at(&mut self.buffer, self.at)?;
            self.buffer.truncate(n);
            self.at += n as u64;
            self.used = 0;
        }
        let n = buf.len().min(self.buffer.len() - self.used);
        buf[..n].copy_from_slice(&self.buffer[self.used..self.used + n]);
        self.used += n;
        Ok(n)
    }
}
