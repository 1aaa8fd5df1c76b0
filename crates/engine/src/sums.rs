//! The page checksums of the last slot: what the bucket is known to hold, 8 bytes a page.
//!
//! They give every slot's seal its database checksum without reading the database, and turn a broken WAL chain into a
//! comparison instead of a full upload. On disk lies an array for one slot (the *base*); each later slot that is still
//! kept locally is a layer in memory, rebuilt from its file after a crash. A layer goes into the base before its file
//! is deleted, and writing it twice does no harm.

use crate::files::{File, Files, Open};
use crate::local::SumsRecord;
use litekeep_formats::{Checksum, PageNo, PageSize, Txid};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one entry: the checksum, little-endian; page `n` at `(n - 1) * 8`.
const ENTRY: u64 = 8;

/// How the name of an array begins.
pub(crate) const PREFIX: &str = "sums-";

/// Where the array of a base lies: its name carries the slot that it was begun for.
pub(crate) fn path(dir: &Path, begun: Txid) -> PathBuf {
    dir.join(format!("{PREFIX}{begun}"))
}

/// The checksums a slot brought.
#[derive(Debug)]
struct Layer {
    txid: Txid,
    commit: u32,
    pages: BTreeMap<PageNo, Checksum>,
}

/// See the module's text.
pub(crate) struct Sums {
    file: Arc<dyn File>,
    page_size: PageSize,
    base: Txid,
    base_commit: u32,
    layers: VecDeque<Layer>,
}

impl Sums {
    /// Opens the array that stands for a database of `commit` pages after slot `flushed`.
    pub(crate) fn open(
        files: &dyn Files,
        dir: &Path,
        record: &SumsRecord,
        page_size: PageSize,
    ) -> io::Result<Self> {
        let commit = record.commit;
        let file = files.open(&path(dir, record.begun), Open::Write)?;
        if file.len()? < u64::from(commit) * ENTRY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the page checksums are cut short"));
        }
        Ok(Self { file, page_size, base: record.flushed, base_commit: commit, layers: VecDeque::new() })
    }

    /// The slot that the newest layer stands for.
    pub(crate) fn txid(&self) -> Txid {
        self.layers.back().map_or(self.base, |layer| layer.txid)
    }

    /// Pages of the database that the newest layer stands for.
    pub(crate) fn commit(&self) -> u32 {
        self.layers.back().map_or(self.base_commit, |layer| layer.commit)
    }

    /// The checksum of a page; `None` for a page the database does not have, and for the lock page.
    pub(crate) fn get(&self, page: PageNo) -> io::Result<Option<Checksum>> {
        if page.get() > self.commit() || page == self.page_size.lock_page() {
            return Ok(None);
        }
        for layer in self.layers.iter().rev() {
            if let Some(sum) = layer.pages.get(&page) {
                return Ok(Some(*sum));
            }
            if page.get() > layer.commit {
                return Ok(None);
            }
        }
        if page.get() > self.base_commit {
            return Ok(None);
        }
        let mut field = [0; 8];
        crate::files::read_exact_at(&*self.file, &mut field, u64::from(page.get() - 1) * ENTRY)?;
        Ok(Checksum::from_stored(u64::from_le_bytes(field)))
    }

    /// Adds a slot's checksums.
    pub(crate) fn push(&mut self, txid: Txid, commit: u32, pages: BTreeMap<PageNo, Checksum>) {
        self.layers.push_back(Layer { txid, commit, pages });
    }

    /// Forgets the layers of slots past `txid`, which were let go.
    pub(crate) fn truncate(&mut self, txid: Txid) {
        while self.layers.back().is_some_and(|layer| layer.txid > txid) {
            self.layers.pop_back();
        }
    }

    /// Writes the layers up to `txid` into the array and makes it durable. Returns the base's page count; the caller
    /// records it with `txid` and may delete those slots' files only after that.
    pub(crate) fn flush(&mut self, txid: Txid) -> io::Result<u32> {
        let count = self.layers.iter().take_while(|layer| layer.txid <= txid).count();
        let mut merged: BTreeMap<PageNo, Checksum> = BTreeMap::new();
        for layer in self.layers.iter().take(count) {
            merged.retain(|page, _| page.get() <= layer.commit);
            merged.extend(&layer.pages);
        }
        write_runs(&*self.file, &merged)?;
        self.file.sync()?;
        for layer in self.layers.drain(..count) {
            (self.base, self.base_commit) = (layer.txid, layer.commit);
        }
        Ok(self.base_commit)
    }
}

fn write_runs(file: &dyn File, pages: &BTreeMap<PageNo, Checksum>) -> io::Result<()> {
    let mut run: Vec<u8> = Vec::new();
    let mut begins = 0u32;
    for (page, sum) in pages {
        let follows = page.get() - begins == u32::try_from(run.len() / 8).unwrap_or(u32::MAX);
        if (!follows || run.len() >= 1 << 16) && !run.is_empty() {
            file.write_at(&run, u64::from(begins - 1) * ENTRY)?;
            run.clear();
        }
        if run.is_empty() {
            begins = page.get();
        }
        run.extend_from_slice(&sum.get().to_le_bytes());
    }
    if run.is_empty() { Ok(()) } else { file.write_at(&run, u64::from(begins - 1) * ENTRY) }
}

/// Writes a new array, page after page in ascending order.
pub(crate) struct SumsWriter {
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written: u64,
    database: Checksum,
}

impl SumsWriter {
    /// Begins the array of slot `begun`, replacing a half-made one.
    pub(crate) fn create(files: &dyn Files, dir: &Path, begun: Txid) -> io::Result<Self> {
        let file = files.open(&path(dir, begun), Open::CreateOrTruncate)?;
        Ok(Self { file, buffer: Vec::new(), written: 0, database: Checksum::EMPTY })
    }

    /// Adds a page; pages that are left out (the lock page) stay zero.
    pub(crate) fn page(&mut self, page: PageNo, sum: Checksum) -> io::Result<()> {
        let at = u64::from(page.get() - 1) * ENTRY;
        let next = self.written + self.buffer.len() as u64;
        if at != next || self.buffer.len() >= 1 << 16 {
            self.spill()?;
            self.written = at;
        }
        self.buffer.extend_from_slice(&sum.get().to_le_bytes());
        self.database = self.database.toggle(sum);
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(&self.buffer, self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Makes the array durable for a database of `commit` pages; returns the rolling database checksum.
    pub(crate) fn finish(mut self, commit: u32) -> io::Result<Checksum> {
        self.spill()?;
        self.file.set_len(u64::from(commit) * ENTRY)?;
        self.file.sync()?;
        Ok(self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::RealFiles;

    const SIZE: PageSize = PageSize::MAX;

    fn page(n: u32) -> PageNo {
        PageNo::new(n).expect("not zero")
    }

    fn txid(n: u64) -> Txid {
        Txid::new(n).expect("not zero")
    }

    fn sum(n: u64) -> Checksum {
        Checksum::from_crc(n)
    }

    fn record(begun: u64, commit: u32) -> SumsRecord {
        SumsRecord { begun: txid(begun), flushed: txid(begun), commit }
    }

    fn layer(pages: &[(u32, u64)]) -> BTreeMap<PageNo, Checksum> {
        pages.iter().map(|(p, s)| (page(*p), sum(*s))).collect()
    }

    #[test]
    fn layers_shadow_the_base_and_a_shrink_hides_it_for_good() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = SumsWriter::create(&RealFiles, dir.path(), txid(1)).expect("created");
        for n in 1..=4 {
            writer.page(page(n), sum(u64::from(n))).expect("written");
        }
        let database = writer.finish(4).expect("finished");
        assert_eq!(database, (1..=4).fold(Checksum::EMPTY, |all, n| all.toggle(sum(n))));

        let mut sums = Sums::open(&RealFiles, dir.path(), &record(1, 4), SIZE).expect("opened");
        sums.push(txid(2), 2, layer(&[(1, 11)]));
        sums.push(txid(3), 4, layer(&[(3, 33)]));
        let seen = |sums: &Sums| -> Vec<Option<Checksum>> {
            (1..=5).map(|n| sums.get(page(n)).expect("read")).collect()
        };
        let after = vec![Some(sum(11)), Some(sum(2)), Some(sum(33)), None, None];
        assert_eq!(seen(&sums), after, "page 4 was cut off by slot 2 and not written again by slot 3");

        sums.truncate(txid(2));
        assert_eq!(seen(&sums), vec![Some(sum(11)), Some(sum(2)), None, None, None]);
        sums.push(txid(3), 4, layer(&[(3, 33), (4, 44)]));
        assert_eq!(sums.flush(txid(2)).expect("flushed"), 2);
        assert_eq!(sums.get(page(4)).expect("read"), Some(sum(44)));
        assert_eq!(sums.flush(txid(3)).expect("flushed"), 4);

        let again = Sums::open(&RealFiles, dir.path(), &record(1, 4), SIZE).expect("opened");
        assert_eq!(seen(&again), vec![Some(sum(11)), Some(sum(2)), Some(sum(33)), Some(sum(44)), None]);
    }

    #[test]
    fn a_cut_array_is_not_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = SumsWriter::create(&RealFiles, dir.path(), txid(1)).expect("created");
        writer.page(page(1), sum(1)).expect("written");
        writer.finish(1).expect("finished");
        assert!(Sums::open(&RealFiles, dir.path(), &record(1, 2), SIZE).is_err());
    }
}
