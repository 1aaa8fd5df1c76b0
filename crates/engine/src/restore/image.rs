//! The database being put together: each page is written once, whichever file is newest for it.
//!
//! One bit a page says what is written already; beside the pages, their checksums go to an array (`sums`) and into
//! the rolling database checksum. Nothing here is trusted until `verify` has said so.

use crate::files::File;
use crate::restore::limits;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::{Checksum, PageNo, PageSize};
use std::io;
use std::sync::Arc;

/// One bit a page, allocated by the block.
#[derive(Default)]
struct Bitmap {
    blocks: Vec<Option<Box<[u64]>>>,
    set: u32,
}

impl Bitmap {
    /// `true` if the bit was clear.
    fn insert(&mut self, page: PageNo) -> bool {
        let at = page.get() - 1;
        let block = (at / limits::BITMAP_BLOCK) as usize;
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, || None);
        }
        let words = (limits::BITMAP_BLOCK / 64) as usize;
        let block = self.blocks[block].get_or_insert_with(|| vec![0; words].into_boxed_slice());
        let (word, bit) = ((at % limits::BITMAP_BLOCK / 64) as usize, at % 64);
        let new = block[word] & 1 << bit == 0;
        block[word] |= 1 << bit;
        self.set += u32::from(new);
        new
    }

    /// The first page that is not in it.
    fn first_clear(&self, commit: u32, skip: PageNo) -> Option<PageNo> {
        let pages = (1..=commit).filter_map(PageNo::new).filter(|page| *page != skip);
        pages.into_iter().find(|page| {
            let at = page.get() - 1;
            let block = self.blocks.get((at / limits::BITMAP_BLOCK) as usize);
            let word = (at % limits::BITMAP_BLOCK / 64) as usize;
            block.and_then(Option::as_ref).is_none_or(|block| block[word] & 1 << (at % 64) == 0)
        })
    }
}

/// Gathers neighbouring writes.
struct Run {
    file: Arc<dyn File>,
    start: u64,
    bytes: Vec<u8>,
}

impl Run {
    fn new(file: Arc<dyn File>) -> Self {
        Self { file, start: 0, bytes: Vec::new() }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let follows = self.start + self.bytes.len() as u64 == offset;
        if !follows || self.bytes.len() + bytes.len() > limits::WRITE_BYTES {
            self.flush()?;
            self.start = offset;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.bytes.is_empty() {
            self.file.write_at(&self.bytes, self.start)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// A database file being written, newest pages first.
pub(crate) struct Image {
    page_size: PageSize,
    commit: u32,
    pages: Run,
    sums: Option<Run>,
    written: Bitmap,
    database: Checksum,
}

impl Image {
    /// An empty one for a database of `commit` pages.
    pub(crate) fn new(
        file: Arc<dyn File>,
        sums: Option<Arc<dyn File>>,
        page_size: PageSize,
        commit: u32,
    ) -> Self {
        Self {
            page_size,
            commit,
            pages: Run::new(file),
            sums: sums.map(Run::new),
            written: Bitmap::default(),
            database: Checksum::EMPTY,
        }
    }

    /// Bytes of a page.
    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Takes a page unless a newer file already brought it, or the database no longer has it.
    pub(crate) fn page(&mut self, page: PageNo, data: &[u8]) -> io::Result<()> {
        if page.get() > self.commit || page == self.page_size.lock_page() || !self.written.insert(page) {
            return Ok(());
        }
        let sum = page_checksum(page, data);
        self.database = self.database.toggle(sum);
        if let Some(sums) = &mut self.sums {
            sums.write(u64::from(page.get() - 1) * 8, &sum.get().to_le_bytes())?;
        }
        self.pages.write(page.offset(self.page_size), data)
    }

    /// How many pages the database has that a file must bring: all but the lock page.
    fn wanted(&self) -> u32 {
        self.commit - u32::from(self.page_size.lock_page().get() <= self.commit)
    }

    /// How many pages are written.
    pub(crate) fn written(&self) -> u32 {
        self.written.set
    }

    /// Whether every page is there.
    pub(crate) fn is_complete(&self) -> bool {
        self.written.set == self.wanted()
    }

    /// The first page that no file brought.
    pub(crate) fn first_missing(&self) -> Option<PageNo> {
        if self.is_complete() {
            return None;
        }
        self.written.first_clear(self.commit, self.page_size.lock_page())
    }

    /// Brings the file to its length and everything to the disk. Returns the rolling database checksum.
    pub(crate) fn finish(mut self) -> io::Result<Checksum> {
        self.pages.flush()?;
        self.pages.file.set_len(u64::from(self.commit) * u64::from(self.page_size.get()))?;
        self.pages.file.sync()?;
        if let Some(sums) = &mut self.sums {
            sums.flush()?;
            sums.file.set_len(u64::from(self.commit) * 8)?;
            sums.file.sync()?;
        }
        Ok(self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Files, Open, RealFiles};

    fn page(number: u32) -> PageNo {
        PageNo::new(number).expect("not zero")
    }

    #[test]
    fn the_first_copy_of_a_page_counts_and_pages_past_the_end_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("image");
        let file = RealFiles.open(&path, Open::CreateNew).expect("a file");
        let size = PageSize::new(512).expect("a page size");
        let mut image = Image::new(file, None, size, 3);
        for (number, byte) in [(2, b'n'), (4, b'x'), (2, b'o'), (1, b'a')] {
            image.page(page(number), &[byte; 512]).expect("written");
        }
        assert_eq!((image.is_complete(), image.first_missing()), (false, Some(page(3))));
        image.page(page(3), &[b'c'; 512]).expect("written");
        assert_eq!((image.is_complete(), image.first_missing(), image.written()), (true, None, 3));
        let expected = [(1, b'a'), (2, b'n'), (3, b'c')]
            .iter()
            .fold(Checksum::EMPTY, |sum, (n, byte)| sum.toggle(page_checksum(page(*n), &[*byte; 512])));
        assert_eq!(image.finish().expect("finished"), expected);
        let content = std::fs::read(&path).expect("readable");
        assert_eq!(content, [[b'a'; 512], [b'n'; 512], [b'c'; 512]].concat());
    }

    #[test]
    fn a_header_that_claims_four_billion_pages_costs_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealFiles.open(&dir.path().join("image"), Open::CreateNew).expect("a file");
        let mut image = Image::new(file, None, PageSize::MAX, u32::MAX);
        image.page(page(1), &vec![1; 65536]).expect("written");
        assert_eq!(image.first_missing(), Some(page(2)));
        assert_eq!(image.written.blocks.len(), 1);
    }

    #[test]
    fn r16_the_lock_page_is_neither_wanted_nor_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("image");
        let file = RealFiles.open(&path, Open::CreateNew).expect("a file");
        // 65536-byte pages: the lock page is 16385. Only its neighbourhood is written here, the rest is a hole.
        let mut image = Image::new(file, None, PageSize::MAX, 16_386);
        for number in (1..=16_386).filter(|number| *number != 16_385) {
            image.written.insert(page(number));
        }
        assert!(image.is_complete());
        image.page(page(16_385), &vec![1; 65536]).expect("taken for nothing");
        image.finish().expect("finished");
        assert_eq!(std::fs::metadata(&path).expect("there").len(), 16_386 * 65_536);
        let mut lock = [1; 512];
        RealFiles.open(&path, Open::Read).expect("there").read_at(&mut lock, 1 << 30).expect("readable");
        assert_eq!(lock, [0; 512]);
    }
}
