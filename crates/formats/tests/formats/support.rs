//! The fixtures, and small builders that several families of tests share.

pub(crate) use crate::targets::whole::{Whole, decode, encode};
use litekeep_formats::ltx::{Header, WalSpan};
use litekeep_formats::{ByteSource, PageNo, PageSize, TimestampMs, Txid, TxidRange};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

/// Sets of LTX files with headers and restore targets in the manifest.
pub(crate) const LTX_SETS: [&str; 5] =
    ["v5-replicate", "v5-legacy-frame", "v5-vfs-0.5.17", "v5-page1024", "v5-page65536"];

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

pub(crate) fn manifest() -> Value {
    let text = fs::read(fixtures().join("manifest.json")).expect("the manifest is in the repository");
    serde_json::from_slice(&text).expect("the manifest is JSON")
}

/// The files of one archive, by their path below `<set>/replica/`.
pub(crate) fn archive(set: &str) -> BTreeMap<String, Vec<u8>> {
    let file = fs::File::open(fixtures().join(format!("{set}.tar.gz"))).expect("the archive is there");
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = BTreeMap::new();
    for entry in tar.entries().expect("a tar archive") {
        let mut entry = entry.expect("a whole entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let Some(name) = path.strip_prefix(&format!("{set}/replica/")).map(str::to_owned) else { continue };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("whole content");
        if entry.header().entry_type().is_file() {
            files.insert(name, bytes);
        }
    }
    assert!(!files.is_empty(), "{set} holds files");
    files
}

/// Every LTX file of the fixtures, named.
pub(crate) fn all_ltx() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for set in LTX_SETS {
        all.extend(archive(set).into_iter().map(|(name, bytes)| (format!("{set}/{name}"), bytes)));
    }
    let name = "v5-checksummed/0000000000000001-0000000000000001.ltx";
    all.push((name.to_owned(), fs::read(fixtures().join(name)).expect("the fixture is there")));
    all
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn size(bytes: u32) -> PageSize {
    PageSize::new(bytes).expect("a legal page size")
}

pub(crate) fn page(number: u32) -> PageNo {
    PageNo::new(number).expect("not page 0")
}

pub(crate) fn txids(min: u64, max: u64) -> TxidRange {
    let txid = |id| Txid::new(id).expect("not TXID 0");
    TxidRange::new(txid(min), txid(max)).expect("a range that runs forward")
}

/// A header as Litestream would write it.
pub(crate) fn plain(page_size: PageSize, commit: u32, range: TxidRange) -> Header {
    Header {
        no_checksum: true,
        page_size,
        commit,
        range,
        timestamp: TimestampMs(1_795_000_000_000),
        pre_apply: None,
        wal: WalSpan::default(),
        node_id: 0,
        reserved: [0; 20],
    }
}

/// Hands out `step` bytes a call, and an error from byte `fail_at` on.
#[derive(Debug)]
pub(crate) struct Drip<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) step: usize,
    pub(crate) fail_at: usize,
}

impl ByteSource for Drip<'_> {
    type Error = &'static str;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, &'static str> {
        if self.fail_at == 0 {
            return Err("connection reset");
        }
        let count = buf.len().min(self.step).min(self.fail_at);
        let got = ByteSource::read(&mut self.bytes, &mut buf[..count]).unwrap_or(0);
        self.fail_at -= got;
        Ok(got)
    }
}

/// The same numbers for the same seed, everywhere (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
    }

    /// Bytes that compress a little, a lot or not at all.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let kinds: u64 = [256, 4, 1][self.below(3)];
        (0..len).map(|_| u8::try_from(self.next() % kinds).expect("below 256")).collect()
    }
}
