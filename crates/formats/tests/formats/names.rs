//! Names of v0.3 backups, and the database header.

use litekeep_formats::sqlite::{DatabaseHeader, DatabaseHeaderError};
use litekeep_formats::v3::{Generation, SegmentName, SnapshotName, WalNumber};

#[test]
fn r40_segments_beyond_8_hex_digits_are_read() {
    for (name, index, offset) in [
        ("00000000_00000000.wal.lz4", 0, 0),
        ("00000002_00001038.wal.lz4", 2, 0x1038),
        ("000012c3_ffffffff.wal.lz4", 0x12c3, 0xffff_ffff),
        ("000012c3_100000000.wal.lz4", 0x12c3, 0x1_0000_0000),
        ("000012c3_11a6bfa58.wal.lz4", 0x12c3, 0x1_1a6b_fa58),
        ("7fffffff_ffffffffffffffff.wal.lz4", 0x7fff_ffff, u64::MAX),
        ("000012c3_0000000000000010.wal.lz4", 0x12c3, 16),
    ] {
        let segment = SegmentName::parse(name).unwrap_or_else(|| panic!("{name} is a segment"));
        assert_eq!((segment.index.get(), segment.offset), (index, offset), "{name}");
        assert_eq!(segment.to_string(), name, "the name comes out as it was read");
    }
}

#[test]
fn segments_sort_by_wal_and_place_and_not_by_their_digits() {
    let mut names: Vec<SegmentName> =
        ["00000001_00000000", "00000000_100000000", "00000000_ffffffff", "00000000_000000000000001f"]
            .iter()
            .filter_map(|stem| SegmentName::parse(&format!("{stem}.wal.lz4")))
            .collect();
    names.sort();
    let places: Vec<(u32, u64)> = names.iter().map(|name| (name.index.get(), name.offset)).collect();
    assert_eq!(places, [(0, 0x1f), (0, 0xffff_ffff), (0, 0x1_0000_0000), (1, 0)]);
}

#[test]
fn what_is_no_segment_is_none() {
    for name in [
        "",
        "00000000_00000000.wal",
        "00000000_0000000.wal.lz4",
        "00000000_00000000000000000.wal.lz4",
        "80000000_00000000.wal.lz4",
        "0000000_00000000.wal.lz4",
        "00000000-00000000.wal.lz4",
        "0000000A_00000000.wal.lz4",
        "00000000_+0000000.wal.lz4",
        "00000000_00000000.wal.lz4.tmp",
    ] {
        assert_eq!(SegmentName::parse(name), None, "{name}");
    }
}

#[test]
fn snapshots_and_generations_have_one_form_each() {
    assert_eq!(SnapshotName::parse("0000000a.snapshot.lz4").map(|name| name.index.get()), Some(10));
    assert_eq!(
        SnapshotName { index: WalNumber::new(10).expect("small") }.to_string(),
        "0000000a.snapshot.lz4"
    );
    for name in ["a.snapshot.lz4", "0000000a.snapshot", "80000000.snapshot.lz4", "0000000a.snapshot.lz4 "] {
        assert_eq!(SnapshotName::parse(name), None, "{name}");
    }
    assert_eq!(
        Generation::parse("8492e2dddad4a752").map(|it| it.to_string()).as_deref(),
        Some("8492e2dddad4a752")
    );
    for name in ["8492e2dddad4a75", "8492e2dddad4a752a", "8492E2dddad4a752", "-492e2dddad4a752"] {
        assert_eq!(Generation::parse(name), None, "{name}");
    }
    assert_eq!(WalNumber::new(0x7fff_ffff).expect("the last").next(), None);
}

#[test]
fn a_database_header_tells_its_page_size_mode_and_whether_its_count_counts() {
    let mut bytes = [0; 100];
    bytes[..16].copy_from_slice(b"SQLite format 3\0");
    bytes[16..18].copy_from_slice(&[0, 1]);
    bytes[18..20].copy_from_slice(&[2, 2]);
    bytes[24..28].copy_from_slice(&[0, 0, 0, 9]);
    bytes[28..32].copy_from_slice(&[0, 0, 1, 0]);
    bytes[60..64].copy_from_slice(&[0, 0, 0, 42]);
    bytes[92..96].copy_from_slice(&[0, 0, 0, 9]);
    let header = DatabaseHeader::parse(&bytes).expect("a header");
    assert_eq!((header.page_size.get(), header.is_wal(), header.user_version), (65536, true, 42));
    assert_eq!((header.page_count, header.page_count_is_valid()), (256, true));
    bytes[95] = 8;
    assert!(!DatabaseHeader::parse(&bytes).expect("a header").page_count_is_valid());
    bytes[17] = 3;
    assert_eq!(DatabaseHeader::parse(&bytes), Err(DatabaseHeaderError::PageSize(3)));
    bytes[0] = b's';
    assert_eq!(DatabaseHeader::parse(&bytes), Err(DatabaseHeaderError::Magic));
    assert_eq!(DatabaseHeader::parse(&bytes[..99]), Err(DatabaseHeaderError::Short));
}
