//! LTX files made here: round trips, rules, damage.

use crate::support::{Drip, Seeded, Whole, all_ltx, decode, encode, page, plain, size, txids};
use litekeep_formats::crc::{Crc64, page_checksum};
use litekeep_formats::ltx::{
    DecodeError, Decoder, Encoder, Header, LtxError, Marks, PageEncoding, PageIndex, Seal, WalSpan,
};
use litekeep_formats::{Checksum, Epoch, PageNo, PageSize, Salts, TimestampMs};
use proptest::prelude::*;

const ENCODINGS: [PageEncoding; 2] = [PageEncoding::Block, PageEncoding::Frame];

type Pages = Vec<(PageNo, Vec<u8>)>;

fn seal(marks: Marks) -> Seal {
    Seal {
        epoch: Epoch::new(7).expect("not 0"),
        database: Some(Checksum::from_crc(11)),
        predecessor: Some(Checksum::from_crc(12)),
        marks,
    }
}

/// A good file of three pages that is not a snapshot.
fn three_pages(encoding: PageEncoding) -> (Header, Pages, Vec<u8>) {
    let mut header = plain(size(512), 9, txids(5, 5));
    header.wal = WalSpan { offset: 32, size: 536, salts: Salts(3, 4) };
    header.set_seal(&seal(Marks::NONE));
    let mut random = Seeded(42);
    let pages: Pages = [2, 3, 9].map(|number| (page(number), random.bytes(512))).into();
    let bytes = encode(&header, encoding, &pages, None).expect("a legal file");
    (header, pages, bytes)
}

/// The database checksum of some pages.
fn rolling(pages: &Pages) -> Checksum {
    pages.iter().fold(Checksum::EMPTY, |sum, (page, data)| sum.toggle(page_checksum(*page, data)))
}

/// What a decoder says about `bytes`, with the error kept.
fn error_of(bytes: &[u8]) -> LtxError {
    let run = || -> Result<(), DecodeError<_>> {
        Decoder::new(bytes)?.finish()?;
        Ok(())
    };
    run().expect_err("not a good file").format().expect("a slice does not fail")
}

fn any_page_size() -> impl Strategy<Value = PageSize> {
    (9u32..=16).prop_map(|bits| size(1 << bits))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn what_is_written_is_read_back(
        page_size in any_page_size(),
        seed: u64,
        count in 0usize..20,
        timestamp: i64,
        snapshot: bool,
        checksums: bool,
        legacy: bool,
    ) {
        let mut random = Seeded(seed);
        let mut number = 0;
        let mut pages: Pages = Vec::new();
        for _ in 0..count.max(usize::from(snapshot)) {
            number += if snapshot { 1 } else { 1 + u32::try_from(random.below(1000)).expect("small") };
            pages.push((page(number), random.bytes(page_size.bytes())));
        }
        let commit = if snapshot { number } else { number + 5 };
        let max = if snapshot { 4 } else { 9 };
        let mut header = plain(page_size, commit, txids(if snapshot { 1 } else { 4 }, max));
        header.timestamp = TimestampMs(timestamp);
        header.no_checksum = !checksums;
        header.pre_apply = (checksums && !snapshot).then(|| Checksum::from_crc(seed));
        header.set_seal(&Seal { database: None, ..seal(Marks::FULL_IMAGE.union(Marks::from_bits(0x4000))) });
        let post = checksums.then(|| if snapshot { rolling(&pages) } else { Checksum::from_crc(seed) });
        let encoding = ENCODINGS[usize::from(legacy)];
        let bytes = encode(&header, encoding, &pages, post).expect("a legal file");
        let read = decode(&bytes).expect("a good file");
        prop_assert_eq!(read.header, header);
        prop_assert_eq!(read.trailer.post_apply, post);
        prop_assert!(read.pages == pages);
        let stored = u64::from_be_bytes(*bytes.last_chunk().expect("eight bytes"));
        prop_assert_eq!(read.trailer.file.get(), stored);
    }

    #[test]
    fn a_file_that_arrives_in_pieces_is_the_same_file(step in 1usize..600, legacy: bool) {
        let (header, pages, bytes) = three_pages(ENCODINGS[usize::from(legacy)]);
        let mut decoder = Decoder::new(Drip { bytes: &bytes, step, fail_at: usize::MAX }).expect("a header");
        prop_assert_eq!(decoder.header(), &header);
        let mut buf = vec![0; 512];
        for (number, data) in &pages {
            prop_assert_eq!(decoder.next_page(&mut buf).expect("good"), Some(*number));
            prop_assert!(&buf == data);
        }
        prop_assert_eq!(decoder.next_page(&mut buf).expect("good"), None);
        prop_assert!(decoder.finish().is_ok());
    }
}

#[test]
fn a_source_that_fails_is_not_taken_for_a_short_file() {
    let (_, _, bytes) = three_pages(PageEncoding::Block);
    for fail_at in 0..=bytes.len() {
        let source = Drip { bytes: &bytes, step: 50, fail_at };
        let result = Decoder::new(source).and_then(Decoder::finish);
        assert!(matches!(result, Err(DecodeError::Source("connection reset"))), "at {fail_at}: {result:?}");
    }
}

#[test]
fn r44_a_file_cut_off_at_any_byte_is_an_error_that_says_so() {
    for encoding in ENCODINGS {
        let (_, _, bytes) = three_pages(encoding);
        for cut in 0..bytes.len() {
            assert!(matches!(error_of(&bytes[..cut]), LtxError::Short(_)), "cut at {cut}");
        }
    }
    for (name, bytes) in all_ltx() {
        for cut in (0..bytes.len()).step_by(bytes.len() / 97 + 1) {
            assert!(matches!(error_of(&bytes[..cut]), LtxError::Short(_)), "{name} cut at {cut}");
        }
    }
}

#[test]
fn r44_a_cut_file_has_no_index_that_fits() {
    let fits = |bytes: &[u8]| -> Option<usize> {
        let tail = bytes.get(bytes.len().checked_sub(PageIndex::TAIL)?..)?;
        let place = PageIndex::index_location(tail, bytes.len() as u64).ok()?;
        let range = usize::try_from(place.start).ok()?..usize::try_from(place.end).ok()?;
        let index = PageIndex::parse(&bytes[range]).ok()?;
        (index.frames_end() + 6 == place.start).then(|| index.len())
    };
    for encoding in ENCODINGS {
        let (_, pages, bytes) = three_pages(encoding);
        assert_eq!(fits(&bytes), Some(pages.len()));
        for cut in 0..bytes.len() {
            assert_eq!(fits(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}

#[test]
fn r03_the_flag_that_every_litestream_file_carries_is_written_and_read() {
    let (header, _, bytes) = three_pages(PageEncoding::Block);
    assert!(header.no_checksum);
    assert_eq!(bytes[4..8], [0, 0, 0, 2]);
    assert_eq!(decode(&bytes).expect("good").trailer.post_apply, None);
}

#[test]
fn bytes_behind_the_trailer_are_an_error() {
    let (_, _, mut bytes) = three_pages(PageEncoding::Block);
    bytes.push(0);
    assert_eq!(error_of(&bytes), LtxError::Trailing);
}

#[test]
fn any_changed_byte_is_found_or_changes_nothing() {
    let whole = |bytes: &[u8]| -> Option<Whole> { decode(bytes).ok() };
    for encoding in ENCODINGS {
        let (_, _, bytes) = three_pages(encoding);
        let good = whole(&bytes);
        let mut harmless = 0;
        for at in 0..bytes.len() {
            for change in [1u8, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= change;
                if let Some(read) = whole(&damaged) {
                    assert_eq!(Some(&read), good.as_ref(), "byte {at} changed by {change:02x}");
                    harmless += 1;
                }
            }
        }
        assert!(harmless < bytes.len() / 10, "{harmless} changes made no difference");
    }
}

#[test]
fn r16_the_lock_page_is_counted_but_never_stored() {
    for bits in 9..=16 {
        let page_size = size(1 << bits);
        let lock = (1 << (30 - bits)) + 1;
        let header = plain(page_size, lock + 1, txids(2, 2));
        let data = vec![7; page_size.bytes()];
        let stored = encode(&header, PageEncoding::Block, &[(page(lock), data.clone())], None);
        assert_eq!(stored, Err(LtxError::LockPage(page(lock)).to_string()));
        let around: Pages = vec![(page(lock - 1), data.clone()), (page(lock + 1), data)];
        let bytes = encode(&header, PageEncoding::Block, &around, None).expect("a legal file");
        assert_eq!(decode(&bytes).expect("good").pages, around);
    }
}

#[test]
fn pages_out_of_place_are_refused_by_writer_and_reader_alike() {
    let data = vec![1; 512];
    let cases: [(u32, u64, &[u32], LtxError); 6] = [
        (9, 2, &[3, 3], LtxError::PageOrder { page: 3, after: 3 }),
        (9, 2, &[3, 2], LtxError::PageOrder { page: 2, after: 3 }),
        (9, 2, &[10], LtxError::PagePastEnd { page: 10, commit: 9 }),
        (3, 1, &[2], LtxError::SnapshotGap(1)),
        (3, 1, &[1, 3], LtxError::SnapshotGap(2)),
        (3, 1, &[1, 2], LtxError::SnapshotGap(3)),
    ];
    for (commit, min, numbers, expected) in cases {
        let header = plain(size(512), commit, txids(min, 5));
        let pages: Pages = numbers.iter().map(|number| (page(*number), data.clone())).collect();
        assert_eq!(encode(&header, PageEncoding::Block, &pages, None), Err(expected.to_string()));
        // The same pages in a file whose header allows them, under the header that does not.
        let lax = plain(size(512), 100, txids(2, 5));
        let mut sorted = pages.clone();
        sorted.sort();
        sorted.dedup();
        if sorted == pages {
            let mut bytes = encode(&lax, PageEncoding::Block, &pages, None).expect("legal there");
            bytes[..Header::LEN].copy_from_slice(&header.write());
            assert_eq!(error_of(&bytes), expected);
        }
    }
}

#[test]
fn only_a_seal_that_says_where_the_pages_are_lets_a_first_file_be_empty() {
    let mut header = plain(size(4096), 3, txids(1, 1));
    header.set_seal(&seal(Marks::FENCE));
    let refused = encode(&header, PageEncoding::Block, &[], None);
    assert_eq!(refused, Err(LtxError::SnapshotGap(1).to_string()));
    header.set_seal(&seal(Marks::CONTENT_IN_LEVEL_9));
    let bytes = encode(&header, PageEncoding::Block, &[], None).expect("a legal file");
    assert_eq!(decode(&bytes).expect("good").header, header);
    let some = encode(&header, PageEncoding::Block, &[(page(1), vec![0; 4096])], None);
    assert_eq!(some, Err(LtxError::SnapshotGap(2).to_string()), "all pages or none");
}

#[test]
fn a_fence_has_131_bytes() {
    let mut header = plain(size(4096), 12, txids(19, 19));
    header.set_seal(&seal(Marks::FENCE));
    let bytes = encode(&header, PageEncoding::Block, &[], None).expect("a legal file");
    assert_eq!(bytes.len(), 131);
    assert_eq!(decode(&bytes).expect("good").header.seal(), Some(seal(Marks::FENCE)));
}

#[test]
fn a_seal_lies_in_node_id_and_reserved_bytes_and_nowhere_else() {
    let mut header = plain(size(4096), 12, txids(19, 19));
    let plain_bytes = header.write();
    header.set_seal(&seal(Marks::FULL_IMAGE.union(Marks::FENCE)));
    let bytes = header.write();
    assert_eq!(bytes[..72], plain_bytes[..72]);
    assert_eq!(bytes[72..80], 7u64.to_be_bytes());
    assert_eq!(bytes[80..88], [0x80, 0, 0, 0, 0, 0, 0, 11]);
    assert_eq!(bytes[88..96], [0x80, 0, 0, 0, 0, 0, 0, 12]);
    assert_eq!(bytes[96..100], [0x4c, 0x4b, 0, 5]);
    let read = Header::parse(&bytes).expect("legal").seal().expect("sealed");
    assert_eq!(read, seal(Marks::FULL_IMAGE.union(Marks::FENCE)));
    assert!(read.marks.contains(Marks::FENCE) && !read.marks.contains(Marks::CONTENT_IN_LEVEL_9));
    for (at, byte) in [(79, 0), (96, 0x4d), (97, 0), (80, 0), (88, 0x7f)] {
        let mut other = bytes;
        other[at] = byte;
        assert_eq!(Header::parse(&other).expect("legal").seal(), None, "byte {at}");
    }
}

#[test]
fn betas_of_litestream_0_5_are_named() {
    let (_, _, mut bytes) = three_pages(PageEncoding::Frame);
    let mut first = bytes.clone();
    first[7] |= 1;
    assert_eq!(error_of(&first), LtxError::Beta(1));
    // Stream version 2 has no flags behind the page number: the LZ4 frame begins there.
    bytes.drain(104..106);
    assert_eq!(error_of(&bytes), LtxError::Beta(2));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let good = plain(size(4096), 12, txids(19, 19));
    let bytes = |change: fn(&mut Header)| {
        let mut header = good;
        change(&mut header);
        (header.validate(), Header::parse(&header.write()))
    };
    let sum = Checksum::from_crc(1);
    let field = LtxError::ChecksumField("pre-apply", sum.get());
    for (result, expected) in [
        (bytes(|header| header.pre_apply = Some(Checksum::from_crc(1))), field),
        (bytes(|header| header.no_checksum = false), LtxError::ChecksumField("pre-apply", 0)),
        (bytes(|header| header.wal.size = 1), LtxError::WalSpan),
        (bytes(|header| header.wal.salts = Salts(0, 1)), LtxError::WalSpan),
        (bytes(|header| header.wal.offset = 1 << 63), LtxError::WalSpan),
        (bytes(|header| header.commit = 0), LtxError::NoPages),
    ] {
        assert_eq!(result.0, Err(expected));
        assert_eq!(result.1, Err(expected));
    }
    let raw = |at: usize, field: &[u8]| {
        let mut bytes = good.write();
        bytes[at..at + field.len()].copy_from_slice(field);
        Header::parse(&bytes)
    };
    assert_eq!(raw(0, b"LTX2"), Err(LtxError::Magic(0x4c54_5832)));
    assert_eq!(raw(4, &[0, 0, 0, 4]), Err(LtxError::Flags(4)));
    assert_eq!(raw(8, &[0, 0, 0, 0]), Err(LtxError::PageSize(0)));
    assert_eq!(raw(8, &[0, 2, 0, 0]), Err(LtxError::PageSize(131_072)));
    assert_eq!(raw(16, &[0; 8]), Err(LtxError::Range(0, 19)));
    assert_eq!(raw(16, &20u64.to_be_bytes()), Err(LtxError::Range(20, 19)));
    assert_eq!(raw(40, &5u64.to_be_bytes()), Err(LtxError::ChecksumField("pre-apply", 5)));
}

#[test]
fn r51_a_database_checksum_must_be_there_exactly_where_the_header_has_one_and_must_be_right() {
    let data: Pages = vec![(page(1), vec![1; 512]), (page(2), vec![2; 512])];
    let mut header = plain(size(512), 2, txids(1, 3));
    let (right, wrong) = (rolling(&data), Checksum::from_crc(1));
    let refused = encode(&header, PageEncoding::Block, &data, Some(right));
    assert_eq!(refused, Err(LtxError::ChecksumField("post-apply", right.get()).to_string()));
    header.no_checksum = false;
    let refused = encode(&header, PageEncoding::Block, &data, None);
    assert_eq!(refused, Err(LtxError::ChecksumField("post-apply", 0).to_string()));
    let refused = encode(&header, PageEncoding::Block, &data, Some(wrong));
    assert_eq!(refused, Err(LtxError::PostApply { stored: wrong, computed: right }.to_string()));
    let bytes = encode(&header, PageEncoding::Block, &data, Some(right)).expect("a legal file");
    assert_eq!(decode(&bytes).expect("good").trailer.post_apply, Some(right));
}

#[test]
fn a_database_of_no_pages_can_only_be_stated_with_its_checksum() {
    let mut header = plain(size(512), 0, txids(4, 4));
    header.no_checksum = false;
    header.pre_apply = Some(Checksum::from_crc(5));
    let bytes = encode(&header, PageEncoding::Block, &[], Some(Checksum::EMPTY)).expect("a legal file");
    assert_eq!(decode(&bytes).expect("good").trailer.post_apply, Some(Checksum::EMPTY));
    assert!(encode(&header, PageEncoding::Block, &[], Some(Checksum::from_crc(5))).is_err());
}

#[test]
fn a_page_that_does_not_decompress_to_a_page_is_refused() {
    let header = plain(size(512), 9, txids(5, 5));
    let with_frame = |frame: &[u8]| [header.write().as_slice(), frame, &[0; 64]].concat();
    let short = lz4_flex::block::compress(&[1; 511]);
    let long = lz4_flex::block::compress(&[1; 513]);
    for block in [short, long, vec![], vec![0xff; 20]] {
        let mut frame = vec![0, 0, 0, 2, 0, 1, 0, 0, 0, u8::try_from(block.len()).expect("small")];
        frame.extend(block);
        assert_eq!(error_of(&with_frame(&frame)), LtxError::PageData { page: 2 });
    }
    let huge = [0, 0, 0, 2, 0, 1, 0xff, 0xff, 0xff, 0xff];
    let expected = LtxError::PageTooLong { page: 2, size: u32::MAX };
    assert_eq!(error_of(&with_frame(&huge)), expected, "before anything of that size is made");
    let flags = [0, 0, 0, 2, 0, 2];
    assert_eq!(error_of(&with_frame(&flags)), LtxError::PageFlags { page: 2, flags: 2 });
    let zero = [0, 0, 0, 0, 0, 1];
    assert_eq!(error_of(&with_frame(&zero)), LtxError::PageFlags { page: 0, flags: 1 });
}

/// The file checksum as somebody with the same mistake would have written it; pages in the block form.
fn with_its_own_checksum(bytes: &mut [u8], pages: &Pages) {
    let mut crc = Crc64::new();
    crc.update(&bytes[..Header::LEN]);
    let mut at = Header::LEN;
    for (_, data) in pages {
        let len = u32::from_be_bytes([bytes[at + 6], bytes[at + 7], bytes[at + 8], bytes[at + 9]]);
        crc.update(&bytes[at..at + 10]);
        crc.update(data);
        at += 10 + usize::try_from(len).expect("small");
    }
    let end = bytes.len() - 8;
    crc.update(&bytes[at..end]);
    bytes[end..].copy_from_slice(&Checksum::from_crc(crc.value()).get().to_be_bytes());
}

#[test]
fn r51_a_wrong_database_checksum_is_found_even_under_a_good_file_checksum() {
    let data: Pages = vec![(page(1), vec![1; 512]), (page(2), vec![2; 512])];
    let mut header = plain(size(512), 2, txids(1, 3));
    header.no_checksum = false;
    let computed = rolling(&data);
    let mut bytes = encode(&header, PageEncoding::Block, &data, Some(computed)).expect("a legal file");
    with_its_own_checksum(&mut bytes, &data);
    assert!(decode(&bytes).is_ok(), "nothing was changed yet");
    let field = bytes.len() - 16;
    bytes[field + 7] ^= 1;
    with_its_own_checksum(&mut bytes, &data);
    let stored = Checksum::from_crc(computed.get() ^ 1);
    assert_eq!(error_of(&bytes), LtxError::PostApply { stored, computed });
    bytes[field] ^= 0x80;
    with_its_own_checksum(&mut bytes, &data);
    let field = stored.get() ^ 1 << 63;
    assert_eq!(error_of(&bytes), LtxError::ChecksumField("post-apply", field));
}

#[test]
fn an_index_that_leads_elsewhere_is_found_even_under_a_good_file_checksum() {
    let (_, pages, bytes) = three_pages(PageEncoding::Block);
    let tail = &bytes[bytes.len() - PageIndex::TAIL..];
    let place = PageIndex::index_location(tail, bytes.len() as u64).expect("an index");
    let start = usize::try_from(place.start).expect("small");
    let mut wrong = bytes.clone();
    wrong[start + 1] ^= 1;
    with_its_own_checksum(&mut wrong, &pages);
    assert_eq!(error_of(&wrong), LtxError::IndexMismatch);
}

#[test]
fn an_index_is_only_found_where_one_can_be() {
    let tail = |size: u64| [size.to_be_bytes().as_slice(), &[0; 16]].concat();
    assert_eq!(PageIndex::index_location(&tail(1), 131), Ok(106..107));
    for (bytes, len, expected) in [
        (tail(0), 131, LtxError::Index),
        (tail(2), 131, LtxError::Index),
        (tail(u64::MAX), u64::MAX, LtxError::Index),
        (tail(1), 10, LtxError::Short("page index")),
        (tail(1)[1..].to_vec(), 131, LtxError::Short("page index")),
        (vec![], 0, LtxError::Short("page index")),
    ] {
        assert_eq!(PageIndex::index_location(&bytes, len), Err(expected));
    }
    for bytes in [
        [].as_slice(),
        &[1],
        &[1, 100, 20],
        &[1, 99, 20, 0],
        &[1, 100, 5, 0],
        &[2, 100, 20, 1, 120, 20, 0],
        &[1, 100, 20, 2, 121, 20, 0],
        &[1, 100, 20, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        &[0x80, 0x80, 0x80, 0x80, 0x10, 100, 20, 0],
    ] {
        assert_eq!(PageIndex::parse(bytes), Err(LtxError::Index), "{bytes:?}");
    }
    assert_eq!(PageIndex::parse(&[1, 100, 20, 2, 120, 20, 0]).expect("good").frames_end(), 140);
}

#[test]
fn a_decoder_that_has_failed_stays_failed() {
    let (_, _, mut bytes) = three_pages(PageEncoding::Block);
    bytes[104] = 9;
    let mut decoder = Decoder::new(bytes.as_slice()).expect("a header");
    let mut buf = vec![0; 512];
    assert!(decoder.next_page(&mut buf).is_err());
    let again = decoder.next_page(&mut buf).expect_err("still").format();
    assert_eq!(again, Some(LtxError::Failed));
    assert_eq!(decoder.finish().expect_err("still").format(), Some(LtxError::Failed));
    assert!(LtxError::Failed.is_misuse());
}

#[test]
fn an_index_written_in_parts_is_the_same_file() {
    let header = plain(size(512), 40_000, txids(5, 5));
    let data = vec![3; 512];
    let mut whole = Vec::new();
    let mut parts: Vec<u8> = Vec::new();
    let mut first = Encoder::new(&header, PageEncoding::Block, &mut whole).expect("legal");
    let mut out = Vec::new();
    let mut second = Encoder::new(&header, PageEncoding::Block, &mut out).expect("legal");
    for number in 1..=30_000 {
        first.page(page(number), &data, &mut whole).expect("in order");
        second.page(page(number), &data, &mut out).expect("in order");
        parts.append(&mut out);
    }
    first.finish(None, &mut whole).expect("legal");
    let mut flushed = 0;
    let trailer = second.finish_in_parts(None, &mut out, |out| {
        assert!(out.len() < 65 * 1024);
        parts.append(out);
        flushed += 1;
        Ok::<(), ()>(())
    });
    parts.append(&mut out);
    assert!(trailer.expect("legal").is_ok() && flushed > 1);
    assert!(whole == parts);
    assert!(Decoder::new(whole.as_slice()).expect("a header").finish().is_ok());
}
