//! Every file of the fixtures against what an independent decoder said about it.

use crate::support::{LTX_SETS, all_ltx, archive, decode, encode, fixtures, manifest, page, sha256};
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::{Decoder, Header, PageEncoding, PageIndex, decode_page_frame};
use litekeep_formats::sqlite::DatabaseHeader;
use litekeep_formats::{Checksum, Salts};
use serde_json::Value;
use std::fs;

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} is a number in {value}"))
}

fn hex(value: &Value) -> u64 {
    let text = value.as_str().expect("hex digits as text");
    u64::from_str_radix(text, 16).expect("hex digits")
}

/// The pages of the index as the manifest writes them: number, flags, offset, length.
fn frames(bytes: &[u8]) -> Vec<[u64; 4]> {
    let tail = &bytes[bytes.len() - PageIndex::TAIL..];
    let place = PageIndex::index_location(tail, bytes.len() as u64).expect("an index");
    let at = usize::try_from(place.start).expect("small")..usize::try_from(place.end).expect("small");
    let index = PageIndex::parse(&bytes[at]).expect("a good index");
    assert_eq!(index.frames_end() + 6, place.start, "the index begins right behind the pages");
    let flags = |offset: u64| {
        let at = usize::try_from(offset).expect("small") + 4;
        u64::from(bytes[at]) << 8 | u64::from(bytes[at + 1])
    };
    index
        .iter()
        .map(|(page, span)| [u64::from(page.get()), flags(span.offset), span.offset, span.len])
        .collect()
}

#[test]
fn every_file_is_what_the_manifest_says() {
    let manifest = manifest();
    let mut seen = 0;
    for (set, files) in manifest["sets"].as_object().expect("sets") {
        let Some(files) = files["files"].as_object() else { continue };
        let archive = archive(set);
        assert_eq!(archive.len(), files.len(), "{set}");
        for (name, facts) in files {
            let bytes = &archive[name];
            assert_eq!(sha256(bytes), facts["sha256"].as_str().expect("text"), "{set}/{name}");
            assert_eq!(bytes.len() as u64, number(facts, "size"), "{set}/{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 108);
}

#[test]
fn every_header_page_and_checksum_decodes_to_what_the_manifest_says() {
    let manifest = manifest();
    let mut seen = 0;
    for set in LTX_SETS {
        let headers = manifest["sets"][set]["headers"].as_object().expect("headers");
        let archive = archive(set);
        assert_eq!(archive.len(), headers.len());
        for (name, facts) in headers {
            let bytes = &archive[name];
            let whole = decode(bytes).unwrap_or_else(|error| panic!("{set}/{name}: {error}"));
            check_header(&whole.header, facts);
            assert_eq!(whole.trailer.file.get(), hex(&facts["file_checksum"]), "{set}/{name}");
            assert_eq!(whole.trailer.post_apply.map_or(0, Checksum::get), number(facts, "post"));
            let listed: Vec<[u64; 4]> = serde_json::from_value(facts["pages"].clone()).expect("pages");
            assert_eq!(frames(bytes), listed, "{set}/{name}");
            let numbers: Vec<u64> = whole.pages.iter().map(|(page, _)| u64::from(page.get())).collect();
            assert_eq!(numbers, listed.iter().map(|page| page[0]).collect::<Vec<_>>());
            if !facts["logical_db_checksum_if_snapshot"].is_null() {
                let sum = whole
                    .pages
                    .iter()
                    .fold(Checksum::EMPTY, |sum, (page, data)| sum.toggle(page_checksum(*page, data)));
                assert_eq!(sum.get(), hex(&facts["logical_db_checksum_if_snapshot"]), "{set}/{name}");
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 75);
}

fn check_header(header: &Header, facts: &Value) {
    assert_eq!(header.no_checksum, number(facts, "flags") == 2);
    assert_eq!(u64::from(header.page_size.get()), number(facts, "page_size"));
    assert_eq!(u64::from(header.commit), number(facts, "commit"));
    assert_eq!(header.range.min().get(), number(facts, "min"));
    assert_eq!(header.range.max().get(), number(facts, "max"));
    assert_eq!(header.timestamp.0, facts["timestamp_ms"].as_i64().expect("a time"));
    assert_eq!(header.pre_apply.map_or(0, Checksum::get), number(facts, "pre"));
    assert_eq!(header.wal.offset, number(facts, "wal_offset"));
    assert_eq!(header.wal.size, number(facts, "wal_size"));
    let Salts(salt1, salt2) = header.wal.salts;
    assert_eq!((u64::from(salt1), u64::from(salt2)), (number(facts, "salt1"), number(facts, "salt2")));
    assert_eq!(header.node_id, number(facts, "node"));
    assert_eq!(header.seal(), None, "Litestream seals nothing");
}

#[test]
fn every_page_is_found_alone_through_the_index() {
    for (name, bytes) in all_ltx() {
        let whole = decode(&bytes).expect("a good file");
        let mut buf = vec![0xee; whole.header.page_size.bytes()];
        for ([number, _, offset, len], (page, data)) in frames(&bytes).into_iter().zip(&whole.pages) {
            assert_eq!(number, u64::from(page.get()));
            let start = usize::try_from(offset).expect("small");
            let frame = &bytes[start..start + usize::try_from(len).expect("small")];
            assert_eq!(
                decode_page_frame(frame, whole.header.page_size, &mut buf).as_ref(),
                Ok(page),
                "{name}"
            );
            assert_eq!(&buf, data, "{name}");
        }
    }
}

#[test]
fn a_file_encoded_again_decodes_to_the_same_in_both_page_forms() {
    for (name, bytes) in all_ltx() {
        let whole = decode(&bytes).expect("a good file");
        for encoding in [PageEncoding::Block, PageEncoding::Frame] {
            let again = encode(&whole.header, encoding, &whole.pages, whole.trailer.post_apply);
            let read = decode(&again.expect("a legal file")).expect("readable");
            assert_eq!((read.header, read.pages), (whole.header, whole.pages.clone()), "{name}");
        }
    }
}

#[test]
fn the_191_byte_file_of_transaction_10_has_every_byte_where_it_belongs() {
    let bytes = &archive("v5-replicate")["ltx/0/000000000000000a-000000000000000a.ltx"];
    assert_eq!(bytes.len(), 191);
    assert_eq!(bytes[..8], [0x4c, 0x54, 0x58, 0x31, 0, 0, 0, 2]);
    assert_eq!(bytes[100..110], [0, 0, 0, 3, 0, 1, 0, 0, 0, 0x2f]);
    assert_eq!(bytes[157..175], [0, 0, 0, 0, 0, 0, 3, 0x64, 0x39, 0, 0, 0, 0, 0, 0, 0, 0, 4]);
    let whole = decode(bytes).expect("a good file");
    assert_eq!(whole.trailer.file.get(), 0x88cc_e5fd_c100_161a);
    assert_eq!(whole.pages[0].0, page(3));
    let expected = "441943d3303dffac8dc93eb485e2c5410514827531dab9c560ff42555995098e";
    assert_eq!(sha256(&whole.pages[0].1), expected);
    assert_eq!(whole.header.write(), bytes[..Header::LEN]);
}

#[test]
fn r51_a_file_with_database_checksums_is_read_and_its_checksum_is_that_of_the_database() {
    let facts = &manifest()["sets"]["v5-checksummed"];
    let folder = fixtures().join("v5-checksummed");
    let bytes = fs::read(folder.join("0000000000000001-0000000000000001.ltx")).expect("the fixture");
    let database = fs::read(folder.join("s.db")).expect("the fixture");
    let whole = decode(&bytes).expect("a good file");
    assert!(!whole.header.no_checksum);
    assert_eq!(whole.trailer.post_apply.map(Checksum::get), Some(hex(&facts["post"])));
    assert_eq!(whole.trailer.file.get(), hex(&facts["file_checksum"]));
    let joined: Vec<u8> = whole.pages.iter().flat_map(|(_, data)| data.clone()).collect();
    assert_eq!(joined, database);
    assert_eq!(sha256(&database), facts["db_sha256"].as_str().expect("text"));
    let header = DatabaseHeader::parse(&database).expect("a database");
    assert_eq!((header.page_size.get(), header.page_count, header.is_wal()), (4096, 10, true));
    assert!(header.page_count_is_valid());
}

#[test]
fn a_decoder_that_reads_no_page_still_verifies_them_all() {
    for (name, bytes) in all_ltx() {
        let decoder = Decoder::new(bytes.as_slice()).expect("a header");
        let trailer = decoder.finish().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(trailer, decode(&bytes).expect("a good file").trailer);
    }
}
