//! Every restore target of the manifest, put together by the simplest thing that could do it: a map of pages.

use crate::support::{LTX_SETS, archive, decode, manifest, sha256};
use litekeep_formats::PageNo;
use litekeep_formats::lz4frame::FrameReader;
use litekeep_formats::source::read_all;
use litekeep_formats::v3::{Generation, SegmentName, SnapshotName};
use litekeep_formats::wal::{WalReader, scan};
use std::collections::BTreeMap;

/// The database that `files`, oldest first, describe.
fn merge(files: &[&[u8]]) -> Vec<u8> {
    let mut pages: BTreeMap<PageNo, Vec<u8>> = BTreeMap::new();
    let mut newest = None;
    for bytes in files {
        let whole = decode(bytes).expect("a good file");
        pages.extend(whole.pages);
        pages.retain(|page, _| page.get() <= whole.header.commit);
        newest = Some(whole.header);
    }
    let header = newest.expect("at least one file");
    let page_size = header.page_size.bytes();
    let mut database = vec![0; page_size * header.commit as usize];
    for (page, data) in pages {
        let at = usize::try_from(page.offset(header.page_size)).expect("small");
        database[at..at + page_size].copy_from_slice(&data);
    }
    database
}

#[test]
fn every_ltx_target_comes_out_byte_for_byte() {
    let manifest = manifest();
    let mut seen = 0;
    for set in LTX_SETS {
        let archive = archive(set);
        for (target, facts) in manifest["sets"][set]["restore"].as_object().expect("targets") {
            let plan = facts["plan"].as_array().expect("a plan");
            let files: Vec<&[u8]> = plan
                .iter()
                .map(|step| archive[&format!("ltx/{}.ltx", step.as_str().expect("text"))].as_slice())
                .collect();
            let database = merge(&files);
            assert_eq!(sha256(&database), facts["sha256"].as_str().expect("text"), "{set} at {target}");
            seen += 1;
        }
    }
    assert_eq!(seen, 58);
}

/// A v0.3 generation's objects: snapshots, and the segments of each WAL in order.
struct Backup {
    snapshots: BTreeMap<u32, Vec<u8>>,
    wals: BTreeMap<u32, Vec<(u64, Vec<u8>)>>,
}

fn backup(generation: &str) -> Backup {
    assert!(Generation::parse(generation).is_some());
    let mut found = Backup { snapshots: BTreeMap::new(), wals: BTreeMap::new() };
    for (path, bytes) in archive("v3-basic") {
        let Some(name) = path.strip_prefix(&format!("generations/{generation}/")) else { continue };
        let content =
            read_all(FrameReader::new(bytes.as_slice()), 1 << 30).expect("good frames").expect("small");
        if let Some(snapshot) = name.strip_prefix("snapshots/").and_then(SnapshotName::parse) {
            found.snapshots.insert(snapshot.index.get(), content);
        } else {
            let name = name.strip_prefix("wal/").and_then(SegmentName::parse).expect("a segment's name");
            found.wals.entry(name.index.get()).or_default().push((name.offset, content));
        }
    }
    for segments in found.wals.values_mut() {
        segments.sort();
    }
    found
}

/// Puts the committed frames of a WAL into a database.
fn apply(database: &mut Vec<u8>, wal: &[u8]) {
    let (header, scanned) = scan(wal).expect("a WAL");
    let last = scanned.last_commit.expect("a commit");
    assert_eq!((scanned.valid_frames, scanned.stopped_by), (last.frame, None), "a segment ends on a commit");
    let (mut reader, _) = WalReader::new(wal).expect("the same WAL");
    let page_size = header.page_size.bytes();
    for _ in 0..last.frame {
        let (frame, data) = reader.next_frame().expect("a slice").expect("counted before");
        let at = usize::try_from(frame.page.offset(header.page_size)).expect("small");
        database.resize(database.len().max(at + page_size), 0);
        database[at..at + page_size].copy_from_slice(data);
    }
    database.truncate(page_size * last.pages as usize);
}

/// Restores from one snapshot, and says what stood after each WAL.
fn replay(backup: &Backup, snapshot: u32) -> BTreeMap<u32, Vec<u8>> {
    let mut database = backup.snapshots[&snapshot].clone();
    let mut after = BTreeMap::new();
    for (expected, (index, segments)) in (snapshot..).zip(backup.wals.range(snapshot..)) {
        assert_eq!(expected, *index, "no gap between WALs");
        let mut wal = Vec::new();
        for (offset, bytes) in segments {
            assert_eq!(*offset, wal.len() as u64, "no gap within a WAL");
            wal.extend_from_slice(bytes);
        }
        apply(&mut database, &wal);
        after.insert(*index, database.clone());
    }
    after
}

#[test]
fn r41_every_v3_target_comes_out_byte_for_byte_from_every_snapshot() {
    let manifest = manifest();
    let mut seen = 0;
    for (generation, facts) in manifest["sets"]["v3-basic"]["restore"].as_object().expect("generations") {
        let backup = backup(generation);
        let latest = facts["latest"]["sha256"].as_str().expect("text");
        assert!(backup.snapshots.len() > 1);
        for snapshot in backup.snapshots.keys() {
            let after = replay(&backup, *snapshot);
            assert_eq!(sha256(after.values().last().expect("a WAL")), latest, "{generation} from {snapshot}");
            for (index, database) in after {
                let expected = &facts["after_index"][format!("{index:08x}")]["sha256"];
                assert_eq!(sha256(&database), expected.as_str().expect("text"), "{generation} after {index}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 11, "{seen} states of both generations");
}
