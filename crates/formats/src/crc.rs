//! CRC-64/GO-ISO, the one checksum of LTX, and the page checksum made of it.
//!
//! Reflected, polynomial 0x1B, all ones in and out. A page's checksum covers its number and its bytes, so a page
//! that is whole but in the wrong place does not pass.
//!
//! With the feature `fast-crc` (the default) the work is done by `crc-fast`, 8 GB/s and more; without it by a table
//! of 32 KiB, 2 GB/s.

use crate::types::{Checksum, PageNo};

/// A running CRC-64/GO-ISO.
#[derive(Clone)]
pub struct Crc64(engine::State);

impl Crc64 {
    /// The CRC of nothing yet.
    pub fn new() -> Self {
        Self(engine::State::new())
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of everything added so far.
    pub fn value(&self) -> u64 {
        self.0.value()
    }
}

#[cfg(feature = "fast-crc")]
mod engine {
    use crc_fast::{CrcAlgorithm, Digest};

    #[derive(Clone)]
    pub(super) struct State(Digest);

    impl State {
        pub(super) fn new() -> Self {
            Self(Digest::new(CrcAlgorithm::Crc64GoIso))
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub(super) fn value(&self) -> u64 {
            self.0.finalize()
        }
    }
}

#[cfg(not(feature = "fast-crc"))]
use table as engine;

/// Sixteen bytes a step through sixteen tables.
#[cfg(any(test, not(feature = "fast-crc")))]
mod table {
    /// Polynomial 0x1B, bits reversed.
    const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;

    /// `TABLES[n][b]`: what byte b does to the CRC when n more bytes follow it.
    static TABLES: [[u64; 256]; 16] = tables();

    #[allow(clippy::large_stack_arrays, reason = "runs in the compiler")]
    const fn tables() -> [[u64; 256]; 16] {
        let mut tables = [[0; 256]; 16];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u64;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            tables[0][byte] = crc;
            byte += 1;
        }
        let mut distance = 1;
        while distance < 16 {
            let mut byte = 0;
            while byte < 256 {
                let before = tables[distance - 1][byte];
                tables[distance][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
                byte += 1;
            }
            distance += 1;
        }
        tables
    }

    /// Entry `byte` of table `distance`; both are in range by their types and the callers' constants.
    fn entry(distance: usize, byte: u8) -> u64 {
        TABLES[distance & 15][usize::from(byte)]
    }

    #[derive(Clone)]
    pub(super) struct State(u64);

    impl State {
        pub(super) const fn new() -> Self {
            Self(u64::MAX)
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            let mut crc = self.0;
            let (chunks, rest) = bytes.as_chunks::<16>();
            for [a, b, c, d, e, f, g, h, tail @ ..] in chunks {
                let head = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) ^ crc;
                let [a, b, c, d, e, f, g, h] = head.to_le_bytes();
                let [i, j, k, l, m, n, o, p] = *tail;
                crc = entry(15, a) ^ entry(14, b) ^ entry(13, c) ^ entry(12, d);
                crc ^= entry(11, e) ^ entry(10, f) ^ entry(9, g) ^ entry(8, h);
                crc ^= entry(7, i) ^ entry(6, j) ^ entry(5, k) ^ entry(4, l);
                crc ^= entry(3, m) ^ entry(2, n) ^ entry(1, o) ^ entry(0, p);
            }
            for byte in rest {
                crc = (crc >> 8) ^ entry(0, crc.to_le_bytes()[0] ^ byte);
            }
            self.0 = crc;
        }

        pub(super) const fn value(&self) -> u64 {
            !self.0
        }
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Crc64({:016x})", self.value())
    }
}

/// The checksum of one page: CRC of the page number (4 bytes, big-endian) and the page's bytes.
pub fn page_checksum(page: PageNo, data: &[u8]) -> Checksum {
    let mut crc = Crc64::new();
    crc.update(&page.get().to_be_bytes());
    crc.update(data);
    Checksum::from_crc(crc.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// Bit by bit, from the definition.
    fn slow(bytes: &[u8]) -> u64 {
        let mut crc = u64::MAX;
        for byte in bytes {
            crc ^= u64::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xd800_0000_0000_0000 } else { crc >> 1 };
            }
        }
        !crc
    }

    fn fast(bytes: &[u8]) -> u64 {
        let mut crc = Crc64::new();
        crc.update(bytes);
        crc.value()
    }

    fn by_table(bytes: &[u8], split: usize) -> u64 {
        let mut crc = table::State::new();
        crc.update(&bytes[..split]);
        crc.update(&bytes[split..]);
        crc.value()
    }

    #[test]
    fn check_values_are_those_of_the_catalogue() {
        assert_eq!(fast(b"123456789"), 0xb909_56c7_75a4_1001);
        assert_eq!(fast(b""), 0);
    }

    #[test]
    fn a_page_checksum_covers_number_and_bytes() {
        let page = PageNo::FIRST;
        assert_eq!(page_checksum(page, &[0; 512]).get(), 0xefb1_f44f_ecd9_9000);
        assert_eq!(page_checksum(page, &[0; 4096]).get(), 0xd932_8f59_2d9e_733d);
    }

    #[test]
    fn every_length_and_every_split_gives_the_definition() {
        let bytes: vec::Vec<u8> = (0..700u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in 0..bytes.len() {
            assert_eq!(fast(&bytes[..length]), slow(&bytes[..length]), "length {length}");
            assert_eq!(
                by_table(&bytes[..length], length / 3),
                slow(&bytes[..length]),
                "table, length {length}"
            );
        }
        for split in 0..bytes.len() {
            let mut crc = Crc64::new();
            crc.update(&bytes[..split]);
            crc.update(&bytes[split..]);
            assert_eq!(crc.value(), slow(&bytes), "split {split}");
        }
    }
}
