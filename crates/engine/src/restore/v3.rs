//! Restores a v0.3 backup: the snapshot as it is, then the WALs replayed into it, without SQLite.
//!
//! A WAL is applied as a checkpoint would: all frames up to its last commit, then the file gets the size that commit
//! says. Segments are read one after another (R42) and must join without a hole, and every frame's checksum and salts
//! must fit: a backup's WAL has no torn end as a live one may.

use crate::files::{File, read_exact_at};
use crate::restore::apply::ApplyError;
use crate::restore::fetch::{Budget, FetchError, Fetched, Object, ObjectReader, fetch};
use crate::restore::limits;
use litekeep_core::restore::v3::{Plan, Segment, Snapshot};
use litekeep_formats::lz4frame::{FrameReader, Lz4Error, ReadError};
use litekeep_formats::sqlite::DatabaseHeader;
use litekeep_formats::wal::{WalError, WalReadError, WalReader};
use litekeep_formats::{ByteSource, PageNo, PageSize};
use litekeep_store::{Key, Store, V3Generation};
use std::io;
use std::sync::Arc;

/// Why a v0.3 backup could not be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum V3Error {
    /// Bytes could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// This object is no good.
    #[error("{key}: {what}")]
    Bad {
        /// Which.
        key: Key,
        /// What is wrong with it.
        what: V3Flaw,
    },
    /// The local disk.
    #[error(transparent)]
    Local(#[from] io::Error),
}

impl From<V3Error> for ApplyError {
    fn from(error: V3Error) -> Self {
        match error {
            V3Error::Fetch(error) => Self::Fetch(error),
            V3Error::Local(error) => Self::Local(error),
            V3Error::Bad { .. } => Self::V3(error.to_string()),
        }
    }
}

/// What can be wrong with a v0.3 object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum V3Flaw {
    /// The compression.
    #[error(transparent)]
    Compression(#[from] Lz4Error),
    /// The WAL's header or frames.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Segments do not join.
    #[error(
        "it begins at offset {found:x} where the segments before it end at {end:x}: a segment is missing"
    )]
    Offset {
        /// Where it should begin.
        end: u64,
        /// Where it begins.
        found: u64,
    },
    /// The snapshot.
    #[error("{len} bytes are no whole number of {page_size}-byte pages")]
    Length {
        /// Bytes.
        len: u64,
        /// By its header.
        page_size: u32,
    },
    /// The snapshot.
    #[error("it does not begin as a SQLite database does")]
    Header,
    /// The WAL and the snapshot disagree.
    #[error("its pages have {wal} bytes, the database's {database}")]
    PageSize {
        /// The WAL's.
        wal: u32,
        /// The snapshot's.
        database: u32,
    },
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Bytes of the database.
    pub(crate) len: u64,
    /// By the database or the WAL; `None` for an empty database.
    pub(crate) page_size: Option<PageSize>,
}

/// Carries out a plan into `image`; `spill` is made when a transaction outgrows memory. `tick` is told the compressed
/// bytes that were read so far.
pub(crate) fn replay(
    store: &dyn Store,
    plan: &Plan,
    budget: Budget,
    image: Arc<dyn File>,
    spill: &dyn Fn() -> io::Result<Arc<dyn File>>,
    tick: &mut dyn FnMut(u64),
) -> Result<Replayed, V3Error> {
    let generation = V3Generation(plan.snapshot.generation);
    let base = Object { key: Key::V3Snapshot(generation, plan.snapshot.index), size: plan.snapshot.size };
    let segments = plan.wals.iter().flatten();
    let objects: Vec<Object> = std::iter::once(base)
        .chain(segments.map(|s| Object { key: Key::V3Wal(generation, s.index, s.offset), size: s.size }))
        .collect();
    fetch(store, &objects, budget, |fetched| {
        let mut replay = Replay { image, page_size: None, len: 0, pending: Pending::new(spill) };
        replay.snapshot(fetched.open(0), &plan.snapshot, &mut || tick(fetched.consumed()))?;
        let mut first = 1;
        for wal in &plan.wals {
            let mut source = Segments::new(fetched, &objects, wal, first);
            replay.wal(&mut source, objects[first].key)?;
            tick(fetched.consumed());
            first += wal.len();
        }
        replay.image.sync()?;
        Ok(Replayed { len: replay.len, page_size: replay.page_size })
    })
}

struct Replay<'a> {
    image: Arc<dyn File>,
    page_size: Option<PageSize>,
    len: u64,
    pending: Pending<'a>,
}

impl Replay<'_> {
    fn snapshot(
        &mut self,
        source: ObjectReader<'_>,
        snapshot: &Snapshot,
        tick: &mut dyn FnMut(),
    ) -> Result<(), V3Error> {
        let key = Key::V3Snapshot(V3Generation(snapshot.generation), snapshot.index);
        let bad = |what| V3Error::Bad { key, what };
        let mut reader = FrameReader::new(source);
        let mut head = Vec::new();
        while let Some(block) = reader.next_block().map_err(|error| unframed(error, key))? {
            let missing = DatabaseHeader::LEN.saturating_sub(head.len()).min(block.len());
            head.extend_from_slice(&block[..missing]);
            self.image.write_at(block, self.len)?;
            self.len += block.len() as u64;
            tick();
        }
        if self.len == 0 {
            return Ok(()); // a database that lies wholly in its WAL
        }
        let header = DatabaseHeader::parse(&head).map_err(|_| bad(V3Flaw::Header))?;
        let page_size = header.page_size.get();
        if !self.len.is_multiple_of(u64::from(page_size)) {
            return Err(bad(V3Flaw::Length { len: self.len, page_size }));
        }
        self.page_size = Some(header.page_size);
        Ok(())
    }

    fn wal(&mut self, source: &mut Segments<'_>, first: Key) -> Result<(), V3Error> {
        let bad = |key, what: WalError| V3Error::Bad { key, what: what.into() };
        let (mut reader, header) = WalReader::new(&mut *source).map_err(|error| match error {
            WalReadError::Source(error) => error,
            WalReadError::Format(error) => bad(first, error),
        })?;
        if let Some(page_size) = self.page_size
            && page_size != header.page_size
        {
            let (wal, database) = (header.page_size.get(), page_size.get());
            return Err(V3Error::Bad { key: first, what: V3Flaw::PageSize { wal, database } });
        }
        self.page_size = Some(header.page_size);
        self.pending.begin(header.page_size);
        while let Some((frame, page)) = reader.next_frame()? {
            self.pending.push(frame.page, page)?;
            if frame.is_commit() {
                self.pending.apply(&*self.image)?;
            }
        }
        let seen = reader.seen();
        if let Some(error) = seen.stopped_by {
            return Err(bad(source.key(), error));
        }
        self.pending.forget()?;
        if let Some(commit) = seen.last_commit {
            self.len = u64::from(commit.pages) * u64::from(header.page_size.get());
            self.image.set_len(self.len)?;
        }
        Ok(())
    }
}

fn unframed(error: ReadError<FetchError>, key: Key) -> V3Error {
    match error {
        ReadError::Source(error) => V3Error::Fetch(error),
        ReadError::Format(error) => V3Error::Bad { key, what: error.into() },
    }
}

/// The segments of one WAL as one stream.
struct Segments<'a> {
    fetched: &'a Fetched<'a>,
    objects: &'a [Object],
    wal: &'a [Segment],
    first: usize,
    at: usize,
    reader: Option<FrameReader<ObjectReader<'a>>>,
    end: u64,
}

impl<'a> Segments<'a> {
    fn new(fetched: &'a Fetched<'a>, objects: &'a [Object], wal: &'a [Segment], first: usize) -> Self {
        Self { fetched, objects, wal, first, at: 0, reader: None, end: 0 }
    }

    /// The segment being read, or the last one.
    fn key(&self) -> Key {
        self.objects[self.first + self.at.min(self.wal.len() - 1)].key
    }
}

impl ByteSource for Segments<'_> {
    type Error = V3Error;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, V3Error> {
        while let Some(segment) = self.wal.get(self.at) {
            let key = self.key();
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None if segment.offset != self.end => {
                    let what = V3Flaw::Offset { end: self.end, found: segment.offset };
                    return Err(V3Error::Bad { key, what });
                }
                none => none.insert(FrameReader::new(self.fetched.open(self.first + self.at))),
            };
            let count = reader.read(buf).map_err(|error| unframed(error, key))?;
            if count > 0 {
                self.end += count as u64;
                return Ok(count);
            }
            self.reader = None;
            self.at += 1;
        }
        Ok(0)
    }
}

/// The pages of a transaction that has not committed yet: in memory, and past a limit in a file.
struct Pending<'a> {
    page_size: usize,
    memory: Vec<u8>,
    spill: &'a dyn Fn() -> io::Result<Arc<dyn File>>,
    spilled: Option<(Arc<dyn File>, u64)>,
    limit: usize,
}

impl<'a> Pending<'a> {
    fn new(spill: &'a dyn Fn() -> io::Result<Arc<dyn File>>) -> Self {
        Self { page_size: 0, memory: Vec::new(), spill, spilled: None, limit: limits::PENDING_BYTES }
    }

    fn begin(&mut self, page_size: PageSize) {
        self.page_size = page_size.bytes();
    }

    fn push(&mut self, page: PageNo, data: &[u8]) -> io::Result<()> {
        self.memory.extend_from_slice(&page.get().to_be_bytes());
        self.memory.extend_from_slice(data);
        if self.memory.len() < self.limit {
            return Ok(());
        }
        let (file, len) = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(((self.spill)()?, 0)),
        };
        file.write_at(&self.memory, *len)?;
        *len += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    fn apply(&mut self, image: &dyn File) -> io::Result<()> {
        let record = 4 + self.page_size;
        if let Some((file, len)) = &mut self.spilled {
            let mut block = vec![0; record * (limits::WRITE_BYTES / record).max(1)];
            let mut at = 0;
            while at < *len {
                let count = usize::try_from(*len - at).unwrap_or(usize::MAX).min(block.len());
                read_exact_at(&**file, &mut block[..count], at)?;
                write_records(image, &block[..count], record)?;
                at += count as u64;
            }
            *len = 0;
        }
        write_records(image, &self.memory, record)?;
        self.memory.clear();
        Ok(())
    }

    /// What never committed is not part of the database.
    fn forget(&mut self) -> io::Result<()> {
        self.memory.clear();
        match &mut self.spilled {
            Some((file, len)) => {
                *len = 0;
                file.set_len(0)
            }
            None => Ok(()),
        }
    }
}

fn write_records(image: &dyn File, records: &[u8], record: usize) -> io::Result<()> {
    for record in records.chunks_exact(record) {
        let (number, data) = record.split_at(4);
        let number = u32::from_be_bytes([number[0], number[1], number[2], number[3]]);
        let offset = u64::from(number.saturating_sub(1)) * data.len() as u64;
        image.write_at(data, offset)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Files, Open, RealFiles};

    fn fill(number: u32) -> u8 {
        u8::try_from(number).expect("small")
    }

    #[test]
    fn a_transaction_larger_than_memory_is_spilled_and_applied_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let image = RealFiles.open(&dir.path().join("image"), Open::CreateNew).expect("a file");
        let spill = || RealFiles.open(&dir.path().join("spill"), Open::CreateNew);
        let mut pending = Pending::new(&spill);
        pending.begin(PageSize::new(512).expect("a page size"));
        pending.limit = 2000;
        for round in 0..2_u8 {
            for number in 1..=20 {
                pending
                    .push(PageNo::new(number).expect("not zero"), &[fill(number) + round; 512])
                    .expect("kept");
            }
        }
        assert!(pending.spilled.is_some() && pending.memory.len() < 2000);
        assert_eq!(image.len().expect("a length"), 0, "nothing before the commit");
        pending.apply(&*image).expect("applied");
        let mut page = [0; 512];
        for number in 1..=20_u8 {
            image.read_at(&mut page, u64::from(number - 1) * 512).expect("readable");
            assert_eq!(page, [number + 1; 512], "the later copy of page {number}");
        }
        pending.push(PageNo::FIRST, &[99; 512]).expect("kept");
        pending.forget().expect("forgotten");
        pending.apply(&*image).expect("applied");
        image.read_at(&mut page, 0).expect("readable");
        assert_eq!(page, [2; 512], "what never committed is not applied");
    }
}
