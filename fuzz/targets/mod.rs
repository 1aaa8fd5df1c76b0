//! Bodies of the fuzz targets: any bytes in, no panic, and whatever is accepted must be consistent.
//!
//! Shared by the coverage-guided programs in `fuzz/fuzz_targets` and by the seeded run in
//! `crates/formats/tests/formats/seeded.rs`, which CI repeats with the same inputs each time.

pub(crate) mod whole;

use litekeep_formats::ltx::{Header, PageEncoding, PageIndex, decode_page_frame};
use litekeep_formats::lz4frame::FrameReader;
use litekeep_formats::source::{ByteSource, read_all};
use litekeep_formats::sqlite::DatabaseHeader;
use litekeep_formats::v3::{Generation, SegmentName, SnapshotName};
use litekeep_formats::wal::{self, FrameChain, FrameHeader, WalHeader, WalReader};
use litekeep_formats::walindex::{WalIndex, WalIndexHeader};
use litekeep_formats::{PageNo, TxidRange};
use std::io::Read;
use std::ops::Range;
use whole::{decode, encode};

/// Content of LZ4 frames is read up to here, bytes.
const LIMIT: usize = 64 << 20;

/// A target: its name, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ALL: [Target; 5] = [
    ("ltx_read", ltx_read),
    ("ltx_write", ltx_write),
    ("lz4_frame", lz4_frame),
    ("wal", wal),
    ("small", small),
];

/// Any bytes as an LTX file. One that is accepted must survive a round trip, and its index must lead to its pages.
pub(crate) fn ltx_read(data: &[u8]) {
    page_frame(data);
    let Ok(file) = decode(data) else { return };
    for encoding in [PageEncoding::Block, PageEncoding::Frame] {
        let again = encode(&file.header, encoding, &file.pages, file.trailer.post_apply);
        let read = decode(&again.expect("what was read can be written")).expect("and read again");
        assert_eq!((&read.header, &read.pages), (&file.header, &file.pages));
    }
    let tail = &data[data.len() - PageIndex::TAIL..];
    let place = PageIndex::index_location(tail, data.len() as u64).expect("a good file has an index");
    let index = PageIndex::parse(part(data, place)).expect("a good file has a good index");
    assert_eq!(index.len(), file.pages.len());
    let mut buf = vec![0; file.header.page_size.bytes()];
    for (page, content) in &file.pages {
        let span = index.get(*page).expect("every page is in the index");
        let frame = part(data, span.offset..span.end());
        assert_eq!(decode_page_frame(frame, file.header.page_size, &mut buf), Ok(*page));
        assert_eq!(&buf, content);
    }
}

/// Bytes of an input that lie where its own index says.
fn part(data: &[u8], range: Range<u64>) -> &[u8] {
    let at = |offset: u64| usize::try_from(offset).expect("inside the input");
    &data[at(range.start)..at(range.end)]
}

/// Any bytes as one page's frame, and as an index.
fn page_frame(data: &[u8]) {
    if let Ok(index) = PageIndex::parse(data) {
        assert!(index.iter().zip(index.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1.end() == b.1.offset));
    }
    let Ok(header) = Header::parse(data) else { return };
    assert_eq!(Header::parse(&header.write()), Ok(header));
    if let Some(seal) = header.seal() {
        let mut again = header;
        again.set_seal(&seal);
        assert_eq!(again, header, "a seal is written as it was read");
    }
    let mut buf = vec![0; header.page_size.bytes()];
    let _ = decode_page_frame(&data[Header::LEN..], header.page_size, &mut buf);
}

/// Bytes as instructions: a header, then pages. What the encoder accepts must come back as it was.
pub(crate) fn ltx_write(data: &[u8]) {
    let Some((header, rest)) = data.split_at_checked(Header::LEN) else { return };
    let Ok(header) = Header::parse(header) else { return };
    let page_size = header.page_size.bytes();
    let mut pages = Vec::new();
    let mut number = 0u32;
    for piece in rest.chunks(7).take((64 << 10) / page_size + 3) {
        number = number.saturating_add(u32::from(piece[0] % 4));
        let Some(page) = PageNo::new(number) else { continue };
        pages.push((page, piece.iter().copied().cycle().take(page_size).collect::<Vec<u8>>()));
    }
    for encoding in [PageEncoding::Block, PageEncoding::Frame] {
        let Ok(bytes) = encode(&header, encoding, &pages, None) else { continue };
        let read = decode(&bytes).expect("what was written can be read");
        assert_eq!((&read.header, &read.pages), (&header, &pages));
    }
}

/// Any bytes as LZ4 frames; where `lz4_flex`'s own frame reader accepts them too, both give the same.
pub(crate) fn lz4_frame(data: &[u8]) {
    let Ok(Some(ours)) = read_all(FrameReader::new(data), LIMIT) else { return };
    let mut theirs = Vec::new();
    if lz4_flex::frame::FrameDecoder::new(data).take(LIMIT as u64).read_to_end(&mut theirs).is_ok() {
        assert!(ours.starts_with(&theirs), "the first frame gives what lz4_flex gives");
    }
}

/// Any bytes as a WAL. Reading on from behind any frame finds the same end.
pub(crate) fn wal(data: &[u8]) {
    let _ = FrameHeader::parse(data).map(|header| assert_eq!(header.write()[..], data[..FrameHeader::LEN]));
    let Ok((header, whole)) = wal::scan(data) else { return };
    assert_eq!(WalHeader::parse(&header.write()), Ok(header));
    assert!(whole.last_commit.is_none_or(|commit| commit.frame <= whole.valid_frames && commit.pages > 0));
    let (mut reader, _) = WalReader::new(data).expect("it was scanned");
    while let Ok(Some((frame, page))) = reader.next_frame() {
        assert_eq!(page.len(), header.page_size.bytes());
        let number = reader.seen().valid_frames;
        let chain =
            FrameChain::resume(header.big_endian_checksum, header.page_size, header.salts, frame.checksum);
        assert_eq!(chain, reader.chain());
        let behind = part(data, wal::frame_offset(number + 1, header.page_size)..data.len() as u64);
        let rest = wal::scan_from(behind, chain, number).expect("a slice");
        assert_eq!(rest.valid_frames, whole.valid_frames);
        if whole.last_commit.is_some_and(|commit| commit.frame > number) {
            assert_eq!(rest.last_commit, whole.last_commit);
        }
    }
}

/// The small parsers: headers, names, the WAL index.
pub(crate) fn small(data: &[u8]) {
    if let Ok(index) = WalIndexHeader::parse(data) {
        assert!(data.len() >= WalIndex::LEN && data[..48] == data[48..96]);
        let _ = index;
    }
    let _ = DatabaseHeader::parse(data);
    let mut source = data;
    let mut buf = [0; 3];
    while ByteSource::read(&mut source, &mut buf).expect("a slice") > 0 {}
    let Ok(text) = core::str::from_utf8(data) else { return };
    assert!(Generation::parse(text).is_none_or(|name| name.to_string() == text));
    assert!(SnapshotName::parse(text).is_none_or(|name| name.to_string() == text));
    assert!(SegmentName::parse(text).is_none_or(|name| name.to_string() == text));
    assert!(TxidRange::parse_file_name(text).is_none_or(|range| format!("{range}.ltx") == text));
}
