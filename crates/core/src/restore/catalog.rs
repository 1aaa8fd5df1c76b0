//! What a replica's listings show: LTX files, sorted.

use alloc::vec::Vec;
use litekeep_formats::{Level, TimestampMs, Txid, TxidRange};

/// One LTX file as its listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LtxFile {
    /// Where it lies.
    pub level: Level,
    /// What its name says it covers.
    pub range: TxidRange,
    /// Bytes.
    pub size: u64,
    /// When the store got it, by the store's clock.
    pub modified: TimestampMs,
    /// The file's own time, where it is known already.
    pub timestamp: Option<TimestampMs>,
}

impl LtxFile {
    /// The best time known without asking: its own, else the store's.
    pub fn time(&self) -> TimestampMs {
        self.timestamp.unwrap_or(self.modified)
    }

    /// What names it.
    pub fn id(&self) -> (Level, TxidRange) {
        (self.level, self.range)
    }
}

/// All LTX files of a replica, by level and then by range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    files: Vec<LtxFile>,
}

impl FromIterator<LtxFile> for Catalog {
    fn from_iter<I: IntoIterator<Item = LtxFile>>(files: I) -> Self {
        let mut files: Vec<LtxFile> = files.into_iter().collect();
        files.sort_by_key(LtxFile::id);
        files.dedup_by_key(|file| file.id());
        Self { files }
    }
}

impl Catalog {
    /// Every file, ascending by level, then by range.
    pub fn files(&self) -> impl DoubleEndedIterator<Item = &LtxFile> {
        self.files.iter()
    }

    /// How many files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// No file at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// One level, ascending by range.
    pub fn level(&self, level: Level) -> &[LtxFile] {
        let start = self.files.partition_point(|file| file.level < level);
        let end = self.files.partition_point(|file| file.level <= level);
        &self.files[start..end]
    }

    /// Level 9, ascending.
    pub fn snapshots(&self) -> &[LtxFile] {
        self.level(Level::SNAPSHOTS)
    }

    /// The greatest TXID that any file names.
    pub fn newest(&self) -> Option<Txid> {
        self.files.iter().map(|file| file.range.max()).max()
    }

    /// The newest time of any file, own or the store's.
    pub fn newest_time(&self) -> Option<TimestampMs> {
        self.files.iter().map(LtxFile::time).max()
    }

    /// Whether such a file is listed.
    pub fn contains(&self, level: Level, range: TxidRange) -> bool {
        self.files.binary_search_by_key(&(level, range), LtxFile::id).is_ok()
    }

    /// The same listing without some files.
    #[must_use]
    pub fn without(&self, ids: &[(Level, TxidRange)]) -> Self {
        Self { files: self.files.iter().filter(|file| !ids.contains(&file.id())).copied().collect() }
    }

    /// The same listing without what reaches past `end`.
    #[must_use]
    pub fn up_to(&self, end: Option<Txid>) -> Self {
        let files = self.files.iter().filter(|file| Some(file.range.max()) <= end);
        Self { files: files.copied().collect() }
    }

    /// The same listing with one more file (found by name where the listing lagged, R60).
    pub fn insert(&mut self, file: LtxFile) {
        match self.files.binary_search_by_key(&file.id(), LtxFile::id) {
            Ok(at) => self.files[at] = file,
            Err(at) => self.files.insert(at, file),
        }
    }
}
