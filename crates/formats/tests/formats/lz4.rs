//! LZ4 frames: `lz4_flex`'s own frame writer and reader as the oracle, frames that it does not write built by hand.

use crate::support::{Drip, Seeded, all_ltx, archive};
use litekeep_formats::lz4frame::{FrameReader, Lz4Error, ReadError, Xxh32, write_page};
use litekeep_formats::source::read_all;
use lz4_flex::block::CompressTable;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use std::io::{Read, Write};

fn read(bytes: &[u8]) -> Result<Vec<u8>, Lz4Error> {
    match read_all(FrameReader::new(bytes), 1 << 30) {
        Ok(content) => Ok(content.expect("below the limit")),
        Err(ReadError::Format(error)) => Err(error),
        Err(ReadError::Source(never)) => match never {},
    }
}

fn oracle(info: FrameInfo, content: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

/// A frame by hand: descriptor, then (stored, bytes) blocks, with the checksums that the flags ask for.
fn by_hand(flags: u8, block_code: u8, blocks: &[(bool, Vec<u8>)], content: &[u8]) -> Vec<u8> {
    let mut descriptor = vec![flags, block_code << 4];
    if flags & 8 != 0 {
        descriptor.extend((content.len() as u64).to_le_bytes());
    }
    if flags & 1 != 0 {
        descriptor.extend(0xd1c7_0001u32.to_le_bytes());
    }
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18];
    frame.extend(&descriptor);
    frame.push(Xxh32::of(&descriptor).to_le_bytes()[1]);
    for (stored, bytes) in blocks {
        let size = u32::try_from(bytes.len()).expect("small") | u32::from(*stored) << 31;
        frame.extend(size.to_le_bytes());
        frame.extend(bytes);
        if flags & 0x10 != 0 {
            frame.extend(Xxh32::of(bytes).to_le_bytes());
        }
    }
    frame.extend([0; 4]);
    if flags & 4 != 0 {
        frame.extend(Xxh32::of(content).to_le_bytes());
    }
    frame
}

#[test]
fn frames_of_every_kind_are_read() {
    let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
    for (case, block_size) in sizes.into_iter().enumerate() {
        for options in 0..16u32 {
            let mut random = Seeded(u64::from(options) << 8 | case as u64);
            let length = [0, 1, 70_000, 300_000, 5_000_000][random.below(5)];
            let content = random.bytes(length);
            let mut info = FrameInfo::new()
                .block_size(block_size)
                .block_checksums(options & 1 != 0)
                .content_checksum(options & 2 != 0)
                .block_mode(if options & 4 != 0 { BlockMode::Linked } else { BlockMode::Independent });
            if options & 8 != 0 {
                info = info.content_size(Some(length as u64));
            }
            let frame = oracle(info, &content);
            assert!(read(&frame).expect("a good frame") == content, "options {options}, {length} bytes");
        }
    }
}

#[test]
fn a_snapshot_of_many_blocks_arrives_however_it_is_cut_up() {
    let content = Seeded(7).bytes(9 << 20);
    let frame = oracle(FrameInfo::new().block_size(BlockSize::Max4MB).content_checksum(true), &content);
    for step in [1021, 65_537] {
        let mut reader = FrameReader::new(Drip { bytes: &frame, step, fail_at: usize::MAX });
        let mut all = Vec::new();
        let mut blocks = 0;
        while let Some(piece) = reader.next_block().expect("a good frame") {
            assert!(piece.len() <= 4 << 20);
            all.extend_from_slice(piece);
            blocks += 1;
        }
        assert_eq!(blocks, 3);
        assert!(all == content);
        assert!(reader.next_block().expect("still at the end").is_none());
    }
}

#[test]
fn what_litestream_0_3_wrote_is_what_lz4_flex_reads() {
    for (name, bytes) in archive("v3-basic") {
        assert_eq!(bytes[..7], [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9], "{name}");
        let mut theirs = Vec::new();
        FrameDecoder::new(bytes.as_slice()).read_to_end(&mut theirs).expect("a good frame");
        assert!(read(&bytes).expect("a good frame") == theirs, "{name}");
    }
}

#[test]
fn frames_follow_one_another_and_skippable_ones_are_passed_over() {
    let one = oracle(FrameInfo::new(), b"one");
    let two = oracle(FrameInfo::new(), b"two");
    let skip = [[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0].as_slice(), b"abc"].concat();
    assert_eq!(read(&[one.clone(), two.clone()].concat()), Ok(b"onetwo".to_vec()));
    let mixed = [skip.clone(), one.clone(), skip.clone(), two, skip.clone()].concat();
    assert_eq!(read(&mixed), Ok(b"onetwo".to_vec()));
    assert_eq!(read(&skip), Err(Lz4Error::Short), "a backup object holds at least one frame");
    assert_eq!(read(&[one, b"tail".to_vec()].concat()), Err(Lz4Error::Magic(0x7461_696c)));
}

#[test]
fn linked_blocks_reach_back_over_block_and_window() {
    let pattern = Seeded(3).bytes(60_000);
    let content = pattern.repeat(4);
    let info = FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB);
    let linked = oracle(info, &content);
    let single = oracle(FrameInfo::new().block_size(BlockSize::Max64KB), &content);
    assert!(linked.len() < single.len(), "the blocks do refer to one another");
    assert!(read(&linked).expect("a good frame") == content);
}

#[test]
fn what_cannot_be_read_says_why() {
    let raw = |content: &[u8]| vec![(true, content.to_vec())];
    let too_long = vec![7; 65_537];
    let good = by_hand(0x7c, 4, &raw(b"hello"), b"hello");
    assert_eq!(read(&good), Ok(b"hello".to_vec()));
    let mut bad_block = good.clone();
    bad_block[20] ^= 1;
    let mut bad_content = by_hand(0x64, 4, &raw(b"hello"), b"hello");
    let end = bad_content.len() - 1;
    bad_content[end] ^= 1;
    let mut bad_header = good.clone();
    bad_header[14] ^= 1;
    for (frame, expected) in [
        (vec![], Lz4Error::Short),
        (b"SQLite format 3\0".to_vec(), Lz4Error::Magic(0x5351_4c69)),
        (b"age-encryption.org/v1\n".to_vec(), Lz4Error::AgeEncrypted),
        (vec![0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0], Lz4Error::LegacyFrame),
        (by_hand(0x61, 4, &raw(b"x"), b"x"), Lz4Error::Dictionary(0xd1c7_0001)),
        (by_hand(0x24, 4, &[], b""), Lz4Error::Descriptor { flags: 0x24, block: 0x40 }),
        (by_hand(0x66, 4, &[], b""), Lz4Error::Descriptor { flags: 0x66, block: 0x40 }),
        (by_hand(0x64, 3, &[], b""), Lz4Error::Descriptor { flags: 0x64, block: 0x30 }),
        (by_hand(0x64, 8, &[], b""), Lz4Error::Descriptor { flags: 0x64, block: 0x80 }),
        (by_hand(0x64, 4, &raw(&too_long), &too_long), Lz4Error::BlockTooLong(65_537)),
        (by_hand(0x6c, 4, &raw(b"hello"), b"hello!"), Lz4Error::Checksum("content")),
        (by_hand(0x68, 4, &raw(b"hello"), b"hello!"), Lz4Error::ContentSize),
        (by_hand(0x64, 4, &[(false, vec![0xf0; 9])], b""), Lz4Error::Block),
        (bad_block, Lz4Error::Checksum("block")),
        (bad_content, Lz4Error::Checksum("content")),
        (bad_header, Lz4Error::Checksum("header")),
    ] {
        assert_eq!(read(&frame), Err(expected), "{frame:02x?}");
    }
}

#[test]
fn r44_a_frame_cut_off_anywhere_is_an_error_and_never_less_content() {
    let content = Seeded(9).bytes(3_000);
    for info in [FrameInfo::new(), FrameInfo::new().content_checksum(true).block_checksums(true)] {
        let frame = oracle(info, &content);
        for cut in 0..frame.len() {
            assert_eq!(read(&frame[..cut]), Err(Lz4Error::Short), "cut at {cut} of {}", frame.len());
        }
    }
}

#[test]
fn pages_are_written_in_the_form_that_litestream_0_5_0_wrote_them() {
    let mut table = CompressTable::default();
    for page_size in [512, 4096, 65_536] {
        for seed in 0..6 {
            let page = Seeded(seed).bytes(page_size);
            let mut frame = Vec::new();
            write_page(&page, &mut table, &mut frame).expect("at most 65536 bytes");
            assert_eq!(frame[..7], [0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7]);
            assert!(read(&frame).expect("a good frame") == page);
            let mut theirs = Vec::new();
            FrameDecoder::new(frame.as_slice()).read_to_end(&mut theirs).expect("a good frame");
            assert!(theirs == page);
            assert!(frame.len() <= 7 + 4 + page_size + 8, "never longer than the page stored as it is");
        }
    }
    let refused = write_page(&vec![0; 65_537], &mut table, &mut Vec::new());
    assert_eq!(refused, Err(Lz4Error::BlockTooLong(65_537)));
}

#[test]
fn the_legacy_fixtures_have_the_descriptor_that_we_write() {
    let mut seen = 0;
    for (name, bytes) in all_ltx() {
        if name.starts_with("v5-legacy-frame/") {
            assert_eq!(bytes[106..113], [0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7], "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 28);
}
