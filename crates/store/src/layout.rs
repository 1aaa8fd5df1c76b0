//! How a replica's objects are spelled: the only place that knows, in both directions.
//!
//! Litestream lays the same files out in two ways, and so do we, byte for byte (`<name>` is `<min>-<max>.ltx`):
//!
//! | layout | LTX file of level 9 | used by |
//! |---|---|---|
//! | [`Layout::Bucket`] | `0009/<name>` | S3 |
//! | [`Layout::Tree`] | `ltx/9/<name>` | directories |
//!
//! Epoch objects (`epochs/`) and v0.3 files (`generations/`) are spelled alike in both. A name is accepted only if
//! it is exactly what we would write for the key it means, so no two names mean the same object.

use crate::{EpochRecord, Key, Scope, V3Generation};
use litekeep_formats::v3::{SegmentName, SnapshotName};
use litekeep_formats::{Epoch, Level, TxidRange};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How many neighbouring replicas [`crate::Store::neighbours`] names at most.
pub const MAX_NEIGHBOURS: usize = 8;

/// How many sibling paths are looked at before a search for neighbours gives up.
pub(crate) const MAX_NEIGHBOURS_PROBED: usize = 32;

/// One of the two spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `%04x/<name>`: S3 and its like.
    Bucket,
    /// `ltx/<level>/<name>`: directories.
    Tree,
}

impl Layout {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Bucket => Self::Tree,
            Self::Tree => Self::Bucket,
        }
    }

    /// Where an object lies, relative to the replica's path.
    pub fn path(self, key: &Key) -> String {
        match key {
            Key::Ltx(level, range) => format!("{}{range}.ltx", self.level(*level)),
            other => other.to_string(),
        }
    }

    /// What the paths of all levels begin with.
    fn levels(self) -> &'static str {
        match self {
            Self::Bucket => "000",
            Self::Tree => "ltx/",
        }
    }

    /// The folder of a level, with its final slash.
    pub(crate) fn level(self, level: Level) -> String {
        match self {
            Self::Bucket => format!("{:04x}/", level.get()),
            Self::Tree => format!("ltx/{level}/"),
        }
    }

    /// The folder that holds a scope, with its final slash. [`Scope::V3Snapshots`] spans all generations, so its
    /// folder is the one that holds those; [`Scope::From`] spans folders, and has what their paths begin with.
    pub fn folder(self, scope: &Scope) -> String {
        match scope {
            Scope::Level(level) => self.level(*level),
            Scope::From(_) => self.levels().into(),
            Scope::OtherLayout(level) => self.other().level(*level),
            Scope::Epochs => "epochs/".into(),
            Scope::V3Snapshots => V3.into(),
            Scope::V3Wal(generation) => format!("generations/{generation}/wal/"),
        }
    }

    /// Whether a path, with whatever stands before it, is at the log's front: a slot or an epoch's record. The one that
    /// closes an epoch is not: nobody waits for it, and at a shutdown all write theirs at once.
    pub(crate) fn is_front(self, path: &str) -> bool {
        if path.ends_with(".closed.json") {
            return false;
        }
        let fronts = [self.level(Level::SLOTS), self.folder(&Scope::Epochs)];
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        fronts.iter().any(|front| format!("/{folder}/").ends_with(&format!("/{front}")))
    }

    /// The key that a path inside a scope means; `None` for anything that we would not have named so.
    pub fn parse(self, scope: &Scope, path: &str) -> Option<Key> {
        let (layout, key) = match scope {
            Scope::Level(level) => (self, parse_ltx(*level, path)?),
            Scope::From(lowest) => {
                let level = Level::all().find(|level| path.starts_with(&self.level(*level)))?;
                (self, parse_ltx(level, path).filter(|_| level >= *lowest)?)
            }
            Scope::OtherLayout(level) => (self.other(), parse_ltx(*level, path)?),
            Scope::Epochs => (self, parse_epoch(path)?),
            Scope::V3Snapshots => (self, parse_v3_snapshot(path)?),
            Scope::V3Wal(generation) => (self, parse_v3_wal(*generation, path)?),
        };
        (layout.path(&key) == path).then_some(key)
    }
}

/// Where v0.3's files lie, with the final slash.
pub(crate) const V3: &str = "generations/";

/// The folder of one v0.3 generation's snapshots.
pub(crate) fn v3_snapshot_folder(generation: V3Generation) -> String {
    format!("generations/{generation}/snapshots/")
}

/// A v0.3 generation's folder name: exactly 16 lower-case hex digits.
pub(crate) fn parse_v3_generation(name: &str) -> Option<V3Generation> {
    let generation = V3Generation(hex(name, 16..=16)?);
    (generation.to_string() == name).then_some(generation)
}

/// Whether these names, found directly under a path, show that a replica lies there.
pub(crate) fn is_replica<'a>(folders: impl IntoIterator<Item = &'a str>) -> bool {
    folders.into_iter().any(|name| {
        matches!(name, "ltx" | "generations" | "epochs")
            || Level::all().any(|level| Layout::Bucket.level(level).trim_end_matches('/') == name)
    })
}

fn parse_ltx(level: Level, path: &str) -> Option<Key> {
    let (_, name) = path.rsplit_once('/')?;
    Some(Key::Ltx(level, TxidRange::parse_file_name(name)?))
}

fn parse_epoch(path: &str) -> Option<Key> {
    let stem = path.strip_prefix("epochs/")?.strip_suffix(".json")?;
    let (number, record) = match stem.split_once('.') {
        None => (stem, EpochRecord::Claim),
        Some((number, "open")) => (number, EpochRecord::Open),
        Some((number, "closed")) => (number, EpochRecord::Closed),
        Some(_) => return None,
    };
    Some(Key::Epoch(Epoch::new(hex(number, 8..=16)?)?, record))
}

fn parse_v3_snapshot(path: &str) -> Option<Key> {
    let (generation, name) = path.strip_prefix("generations/")?.split_once("/snapshots/")?;
    let index = SnapshotName::parse(name)?.index.get();
    Some(Key::V3Snapshot(parse_v3_generation(generation)?, index))
}

fn parse_v3_wal(generation: V3Generation, path: &str) -> Option<Key> {
    // 0.3 itself reads 8 digits of offset only, yet writes more past 4 GiB; skipping those lost data (R40).
    let name = SegmentName::parse(path.rsplit_once('/')?.1)?;
    Some(Key::V3Wal(generation, name.index.get(), name.offset))
}

/// Names of v0.3 segments that have more digits than they need, as a listing showed them: read under the name they
/// have, though a key does not hold it (R40).
#[derive(Debug, Default)]
pub(crate) struct Spellings(Mutex<BTreeMap<Key, String>>);

impl Spellings {
    /// [`Layout::parse`], and odd spellings of v0.3 segments, which are kept in mind.
    pub(crate) fn parse(&self, layout: Layout, scope: &Scope, path: &str) -> Option<Key> {
        let mut odd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = layout.parse(scope, path) {
            odd.remove(&key);
            return Some(key);
        }
        let Scope::V3Wal(generation) = scope else { return None };
        let key = parse_v3_wal(*generation, path)?;
        let inside = path.strip_prefix(&layout.folder(scope)).is_some_and(|name| !name.contains('/'));
        inside.then(|| odd.insert(key, path.to_string()))?;
        Some(key)
    }

    /// [`Layout::path`], or the odd spelling under which the object was listed.
    pub(crate) fn path(&self, layout: Layout, key: &Key) -> String {
        let odd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        odd.get(key).cloned().unwrap_or_else(|| layout.path(key))
    }
}

/// Lower-case hex digits, as many as allowed.
fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let legal = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if !digits.contains(&text.len()) || !text.bytes().all(legal) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::Txid;

    fn range(min: u64, max: u64) -> TxidRange {
        TxidRange::new(Txid::new(min).unwrap(), Txid::new(max).unwrap()).unwrap()
    }

    fn level(n: u8) -> Level {
        Level::new(n).unwrap()
    }

    #[test]
    fn every_key_is_spelled_as_litestream_spells_it_and_read_back() {
        let epoch = Epoch::new(0x1f).unwrap();
        let generation = V3Generation(0x00ab_cdef_0123_4567);
        let ltx = "0000000000000001-00000000000000ff.ltx";
        let g = "generations/00abcdef01234567";
        let rows = [
            (
                Layout::Bucket,
                Scope::Level(level(0)),
                Key::Ltx(level(0), range(1, 255)),
                format!("0000/{ltx}"),
            ),
            (
                Layout::Bucket,
                Scope::Level(level(9)),
                Key::Ltx(level(9), range(1, 255)),
                format!("0009/{ltx}"),
            ),
            (Layout::Tree, Scope::Level(level(0)), Key::Ltx(level(0), range(1, 255)), format!("ltx/0/{ltx}")),
            (Layout::Tree, Scope::Level(level(9)), Key::Ltx(level(9), range(1, 255)), format!("ltx/9/{ltx}")),
            (
                Layout::Bucket,
                Scope::Epochs,
                Key::Epoch(epoch, EpochRecord::Claim),
                "epochs/0000001f.json".into(),
            ),
            (
                Layout::Tree,
                Scope::Epochs,
                Key::Epoch(epoch, EpochRecord::Open),
                "epochs/0000001f.open.json".into(),
            ),
            (
                Layout::Tree,
                Scope::Epochs,
                Key::Epoch(Epoch::new(0x1_2345_6789).unwrap(), EpochRecord::Closed),
                "epochs/123456789.closed.json".into(),
            ),
            (
                Layout::Bucket,
                Scope::V3Snapshots,
                Key::V3Snapshot(generation, 0x12c3),
                format!("{g}/snapshots/000012c3.snapshot.lz4"),
            ),
            (
                Layout::Tree,
                Scope::V3Wal(generation),
                Key::V3Wal(generation, 1, 0x1038),
                format!("{g}/wal/00000001_00001038.wal.lz4"),
            ),
        ];
        for (layout, scope, key, path) in rows {
            assert_eq!(layout.path(&key), path);
            assert!(path.starts_with(&layout.folder(&scope)), "{path}");
            assert_eq!(layout.parse(&scope, &path), Some(key), "{path}");
        }
    }

    #[test]
    fn r40_v3_segments_past_4_gib_are_names() {
        let generation = V3Generation(7);
        let path = "generations/0000000000000007/wal/000012c3_11a6bfa58.wal.lz4";
        let key = Key::V3Wal(generation, 0x12c3, 0x1_1a6b_fa58);
        assert_eq!(Layout::Bucket.parse(&Scope::V3Wal(generation), path), Some(key));
        assert_eq!(Layout::Bucket.path(&key), path);
    }

    #[test]
    fn names_we_would_not_write_are_no_keys() {
        let generation = V3Generation(7);
        let rows = [
            (Scope::Level(level(0)), "0001/0000000000000001-0000000000000001.ltx"),
            (Scope::Level(level(0)), "0000/0000000000000001-0000000000000001.ltx.tmp"),
            (Scope::Level(level(0)), "0000/deeper/0000000000000001-0000000000000001.ltx"),
            (Scope::Level(level(0)), "ltx/0/0000000000000001-0000000000000001.ltx"),
            (Scope::Level(level(0)), "0000/0000000000000002-0000000000000001.ltx"),
            (Scope::Epochs, "epochs/00000000.json"),
            (Scope::Epochs, "epochs/1f.json"),
            (Scope::Epochs, "epochs/000000001f.json"),
            (Scope::Epochs, "epochs/0000001F.json"),
            (Scope::Epochs, "epochs/0000001f.tmp.json"),
            (Scope::Epochs, "epochs/x/0000001f.json"),
            (Scope::V3Snapshots, "generations/7/snapshots/00000000.snapshot.lz4"),
            (Scope::V3Snapshots, "generations/0000000000000007/snapshots/80000000.snapshot.lz4"),
            (Scope::V3Wal(generation), "generations/0000000000000007/wal/00000000_000000000.wal.lz4"),
            (Scope::V3Wal(generation), "generations/0000000000000008/wal/00000000_00000000.wal.lz4"),
            (Scope::V3Wal(generation), "generations/0000000000000007/wal/00000000_0000000.wal.lz4"),
        ];
        for (scope, path) in rows {
            assert_eq!(Layout::Bucket.parse(&scope, path), None, "{path}");
        }
    }

    #[test]
    fn the_front_is_slots_and_epochs_wherever_the_replica_lies() {
        for (path, front) in [
            ("/0000/0000000000000001-0000000000000001.ltx", true),
            ("a/b/0000/0000000000000001-0000000000000001.ltx", true),
            ("a/epochs/00000001.json", true),
            ("a/epochs/00000001.open.json", true),
            ("a/epochs/00000001.closed.json", false),
            ("a/0001/0000000000000001-0000000000000004.ltx", false),
            ("a/0009/0000000000000001-0000000000000004.ltx", false),
            ("a10000/0000000000000001-0000000000000001.ltx", false),
            ("0000", false),
        ] {
            assert_eq!(Layout::Bucket.is_front(path), front, "{path}");
        }
    }

    #[test]
    fn r50_the_other_layout_is_recognised_as_such() {
        let name = "0000000000000001-0000000000000001.ltx";
        let key = Key::Ltx(level(3), range(1, 1));
        let scope = Scope::OtherLayout(level(3));
        for (layout, folder) in [(Layout::Bucket, "ltx/3/"), (Layout::Tree, "0003/")] {
            assert_eq!(layout.folder(&scope), folder);
            assert_eq!(layout.parse(&scope, &format!("{folder}{name}")), Some(key));
        }
    }
}
