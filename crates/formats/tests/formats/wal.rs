//! The WAL: real ones from the v0.3 fixtures, made ones in both byte orders, and their ends.

use crate::support::{Seeded, archive, page, size};
use litekeep_formats::lz4frame::FrameReader;
use litekeep_formats::source::read_all;
use litekeep_formats::wal::{
    Commit, FrameChain, FrameHeader, Scan, WalError, WalHeader, WalReadError, WalReader, frame_len,
    frame_offset, scan, scan_from, wal_checksum,
};
use litekeep_formats::{PageSize, Salts, WalChecksum};
use proptest::prelude::*;

/// A WAL under construction.
struct Made {
    header: WalHeader,
    chain: FrameChain,
    bytes: Vec<u8>,
}

impl Made {
    fn new(big_endian: bool, page_size: PageSize, salts: Salts) -> Self {
        let header = WalHeader::new(big_endian, page_size, 0, salts);
        Self { header, chain: FrameChain::begin(&header), bytes: header.write().to_vec() }
    }

    fn frame(&mut self, number: u32, commit: u32, fill: u8) -> FrameHeader {
        let data = vec![fill; self.header.page_size.bytes()];
        let header = self.chain.append(page(number), commit, &data);
        self.bytes.extend(header.write());
        self.bytes.extend(data);
        header
    }

    fn scan(&self) -> Scan {
        scan(self.bytes.as_slice()).expect("a good header").1
    }
}

/// Five frames: commits at 2 and 4, and one frame of a transaction that is not finished.
fn five(big_endian: bool) -> (Made, FrameHeader) {
    let mut wal = Made::new(big_endian, size(1024), Salts(1, 2));
    wal.frame(1, 0, 1);
    wal.frame(2, 2, 2);
    wal.frame(1, 0, 3);
    let commit = wal.frame(3, 3, 4);
    wal.frame(2, 0, 5);
    (wal, commit)
}

#[test]
fn the_last_commit_is_found_in_both_byte_orders() {
    for big_endian in [false, true] {
        let (wal, last) = five(big_endian);
        let commit = Commit { frame: 4, pages: 3, checksum: last.checksum };
        let expected = Scan { valid_frames: 5, last_commit: Some(commit), stopped_by: None };
        assert_eq!(wal.scan(), expected);
        assert_eq!(WalHeader::parse(&wal.bytes), Ok(wal.header));
        assert_eq!(wal.bytes[3], if big_endian { 0x83 } else { 0x82 });
    }
}

#[test]
fn reading_goes_on_behind_any_frame() {
    for big_endian in [false, true] {
        let (wal, last) = five(big_endian);
        let (mut reader, header) = WalReader::new(wal.bytes.as_slice()).expect("a good header");
        for number in 1..=5u32 {
            reader.next_frame().expect("a slice").expect("five frames");
            let start = usize::try_from(frame_offset(number + 1, header.page_size)).expect("small");
            let rest = scan_from(&wal.bytes[start..], reader.chain(), number).expect("a slice");
            assert_eq!(rest.valid_frames, 5);
            let seen = rest.last_commit.map(|commit| (commit.frame, commit.checksum));
            assert_eq!(seen, (number < 4).then_some((4, last.checksum)), "behind frame {number}");
        }
        assert!(reader.next_frame().expect("a slice").is_none());
    }
}

#[test]
fn frames_of_the_life_before_end_the_wal_by_their_salts() {
    let (old, _) = five(false);
    let mut new = Made::new(false, size(1024), Salts(2, 99));
    new.frame(1, 7, 9);
    let mut bytes = new.bytes.clone();
    bytes.extend_from_slice(&old.bytes[new.bytes.len()..]);
    let (_, scanned) = scan(bytes.as_slice()).expect("a good header");
    assert_eq!((scanned.valid_frames, scanned.stopped_by), (1, Some(WalError::Salts)));
    assert_eq!(scanned.last_commit.map(|commit| commit.pages), Some(7));
}

#[test]
fn a_chain_that_was_overwritten_from_some_frame_on_ends_there() {
    // A writer died after writing frames 2 to 4; the next one wrote another frame 2. The old frame 3 still has the
    // right salts, but its checksum continues a frame that is no longer there.
    let mut died = Made::new(false, size(512), Salts(5, 5));
    died.frame(1, 1, 1);
    let mut lives = Made { header: died.header, chain: died.chain, bytes: died.bytes.clone() };
    died.frame(2, 0, 2);
    died.frame(3, 0, 3);
    died.frame(4, 4, 4);
    lives.frame(2, 2, 7);
    let mut bytes = lives.bytes.clone();
    bytes.extend_from_slice(&died.bytes[lives.bytes.len()..]);
    let (_, scanned) = scan(bytes.as_slice()).expect("a good header");
    assert_eq!((scanned.valid_frames, scanned.stopped_by), (2, Some(WalError::Checksum)));
    assert_eq!(scanned.last_commit.map(|commit| commit.pages), Some(2));
}

#[test]
fn a_wal_cut_anywhere_keeps_the_commits_before_the_cut() {
    let (wal, _) = five(false);
    let frame = frame_len(size(1024));
    for cut in 0..wal.bytes.len() {
        let result = scan(&wal.bytes[..cut]);
        if cut < WalHeader::LEN {
            assert!(matches!(result, Err(WalReadError::Format(WalError::Short))), "cut at {cut}");
            continue;
        }
        let scanned = result.expect("a good header").1;
        let whole = (cut - WalHeader::LEN) / frame;
        assert_eq!(scanned.valid_frames as usize, whole, "cut at {cut}");
        let commit = scanned.last_commit.map_or(0, |commit| commit.frame);
        assert_eq!(commit, [0, 0, 2, 2, 4][whole], "cut at {cut}");
        let ragged = !(cut - WalHeader::LEN).is_multiple_of(frame);
        assert_eq!(scanned.stopped_by, ragged.then_some(WalError::Short));
    }
}

#[test]
fn no_changed_bit_is_taken_for_a_frame() {
    let (wal, _) = five(false);
    let start = usize::try_from(frame_offset(3, size(1024))).expect("small");
    for at in start..start + frame_len(size(1024)) {
        let mut bytes = wal.bytes.clone();
        bytes[at] ^= 0x10;
        let scanned = scan(bytes.as_slice()).expect("a good header").1;
        assert_eq!(scanned.valid_frames, 2, "byte {at}");
        assert!(matches!(
            scanned.stopped_by,
            Some(WalError::Checksum | WalError::Salts | WalError::PageZero)
        ));
    }
}

#[test]
fn a_frame_that_does_not_fit_leaves_the_chain_where_it_was() {
    let (wal, _) = five(true);
    let mut chain = FrameChain::begin(&wal.header);
    let before = chain;
    let frame = &wal.bytes[WalHeader::LEN..WalHeader::LEN + frame_len(size(1024))];
    let mut other = frame.to_vec();
    other[500] ^= 1;
    assert_eq!(chain.next(&other), Err(WalError::Checksum));
    assert_eq!(chain.next(&frame[..frame.len() - 1]), Err(WalError::Short));
    assert_eq!(chain, before);
    let header = chain.next(frame).expect("the right frame");
    assert_eq!((header.page, chain.checksum()), (page(1), header.checksum));
}

#[test]
fn a_header_with_one_wrong_thing_says_which() {
    let good = WalHeader::new(false, size(4096), 3, Salts(1, 2)).write();
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        WalHeader::parse(&bytes)
    };
    assert_eq!(with(0, 0), Err(WalError::Magic(0x007f_0682)));
    assert_eq!(with(7, 1), Err(WalError::Version(0x002d_e201)));
    assert_eq!(with(10, 0), Err(WalError::PageSize(0)));
    assert_eq!(with(15, 9), Err(WalError::Checksum));
    assert_eq!(with(3, 0x83), Err(WalError::Checksum), "the other byte order");
    assert_eq!(WalHeader::parse(&good[..31]), Err(WalError::Short));
    let largest = WalHeader::new(true, PageSize::MAX, 0, Salts(0, 0));
    assert_eq!(WalHeader::parse(&largest.write()), Ok(largest));
}

#[test]
fn real_wals_are_valid_to_their_end_and_end_on_a_commit() {
    let mut seen = 0;
    for (name, bytes) in archive("v3-basic") {
        if !name.ends_with("_00000000.wal.lz4") {
            continue;
        }
        let wal = read_all(FrameReader::new(bytes.as_slice()), 1 << 20).expect("good").expect("small");
        let (header, scanned) = scan(wal.as_slice()).expect("a WAL");
        assert!(!header.big_endian_checksum);
        assert_eq!(
            header,
            WalHeader { checksum: header.checksum, ..WalHeader::parse(&header.write()).expect("same") }
        );
        assert_eq!(scanned.stopped_by, None, "{name}");
        assert_eq!(scanned.last_commit.map(|commit| commit.frame), Some(scanned.valid_frames), "{name}");
        seen += 1;
    }
    assert!(seen >= 10);
}

/// The checksum word by word, as SQLite's documentation defines it.
fn slow(big_endian: bool, WalChecksum(mut s0, mut s1): WalChecksum, bytes: &[u8]) -> WalChecksum {
    let word = |at: usize| {
        let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    let mut at = 0;
    while at + 8 <= bytes.len() {
        s0 = s0.wrapping_add(word(at)).wrapping_add(s1);
        s1 = s1.wrapping_add(word(at + 4)).wrapping_add(s0);
        at += 8;
    }
    WalChecksum(s0, s1)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_checksum_is_the_definition(seed: u64, units in 0usize..600, s0: u32, s1: u32, big_endian: bool) {
        let bytes = Seeded(seed).bytes(units * 8);
        let start = WalChecksum(s0, s1);
        prop_assert_eq!(wal_checksum(big_endian, start, &bytes), slow(big_endian, start, &bytes));
        let (head, tail) = bytes.split_at(units / 2 * 8);
        let middle = wal_checksum(big_endian, start, head);
        prop_assert_eq!(wal_checksum(big_endian, middle, tail), slow(big_endian, start, &bytes));
    }
}
