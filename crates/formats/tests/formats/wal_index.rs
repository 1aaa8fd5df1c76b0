//! The WAL index header, built as SQLite lays it out.

use crate::support::size;
use litekeep_formats::wal::wal_checksum;
use litekeep_formats::walindex::{WalIndex, WalIndexError, WalIndexHeader};
use litekeep_formats::{Salts, WalChecksum};

struct Block {
    version: u32,
    initialised: u8,
    page_size: u16,
}

impl Block {
    fn good() -> Self {
        Self { version: 3_007_000, initialised: 1, page_size: 4096 }
    }

    /// The first 136 bytes, checksum included.
    fn bytes(&self) -> Vec<u8> {
        let mut copy = Vec::new();
        for word in [self.version, 0, 77] {
            copy.extend(word.to_ne_bytes());
        }
        copy.extend([self.initialised, 1]);
        copy.extend(self.page_size.to_ne_bytes());
        for word in [14u32, 6, 0xaaaa_0001, 0xbbbb_0002] {
            copy.extend(word.to_ne_bytes());
        }
        copy.extend([0x58, 0x64, 0xdb, 0x71, 0xee, 0x60, 0x45, 0x7c]); // salts, bytes of the WAL header
        let WalChecksum(s0, s1) = wal_checksum(cfg!(target_endian = "big"), WalChecksum::default(), &copy);
        copy.extend(s0.to_ne_bytes());
        copy.extend(s1.to_ne_bytes());
        let mut block = [copy.clone(), copy].concat();
        for word in [9u32, 0, 14, u32::MAX, u32::MAX, u32::MAX, 0, 0, 12, 0] {
            block.extend(word.to_ne_bytes());
        }
        assert_eq!(block.len(), WalIndex::LEN);
        block
    }
}

#[test]
fn every_field_is_where_sqlite_puts_it() {
    let index = WalIndexHeader::parse(&Block::good().bytes()).expect("a good header");
    let expected = WalIndex {
        i_change: 77,
        big_endian_checksum: true,
        page_size: Some(size(4096)),
        mx_frame: 14,
        n_page: 6,
        frame_checksum: WalChecksum(0xaaaa_0001, 0xbbbb_0002),
        salts: Salts(0x5864_db71, 0xee60_457c),
        n_backfill: 9,
        n_backfill_attempted: 12,
        read_marks: [0, 14, u32::MAX, u32::MAX, u32::MAX],
    };
    assert_eq!(index, expected);
}

#[test]
fn page_size_0_after_recovery_of_an_empty_wal_is_no_error_and_1_is_65536() {
    for (field, expected) in [(0, None), (1, Some(size(65536))), (512, Some(size(512)))] {
        let block = Block { page_size: field, ..Block::good() }.bytes();
        assert_eq!(WalIndexHeader::parse(&block).expect("good").page_size, expected);
    }
}

#[test]
fn what_a_reader_must_tell_apart_has_errors_of_its_own() {
    let good = Block::good().bytes();
    let mut torn = good.clone();
    torn[60] ^= 1;
    let mut wrong = good.clone();
    wrong[16] ^= 1;
    wrong[64] ^= 1;
    for (block, expected) in [
        (good[..135].to_vec(), WalIndexError::Short),
        (torn, WalIndexError::Unequal),
        (vec![0; WalIndex::LEN], WalIndexError::NotInitialised),
        (Block { initialised: 0, ..Block::good() }.bytes(), WalIndexError::NotInitialised),
        (wrong, WalIndexError::Checksum),
        (Block { version: 3_007_001, ..Block::good() }.bytes(), WalIndexError::Version(3_007_001)),
        (Block { page_size: 600, ..Block::good() }.bytes(), WalIndexError::PageSize(600)),
    ] {
        assert_eq!(WalIndexHeader::parse(&block), Err(expected));
    }
}

#[test]
fn no_single_changed_byte_of_the_header_passes() {
    let good = Block::good().bytes();
    for at in 0..96 {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        assert!(WalIndexHeader::parse(&bytes).is_err(), "byte {at}");
    }
}
