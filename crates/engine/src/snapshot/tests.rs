use super::*;
use crate::restore::catalog;
use crate::restore::forge::{Chain, Meddler, level_key, slot_key, txid};
use litekeep_formats::PageSize;
use litekeep_formats::ltx::PageEncoding;
use litekeep_formats::ltx::{Decoder, Marks};

/// The database in a level 9 file.
fn content(chain: &Chain, key: &Key) -> Vec<u8> {
    let bytes = chain.object(key);
    let mut decoder = Decoder::new(&bytes[..]).expect("readable");
    let header = *decoder.header();
    let size = header.page_size.bytes();
    let mut database = vec![0; header.commit as usize * size];
    let mut page = vec![0; size];
    while let Some(number) = decoder.next_page(&mut page).expect("whole") {
        let at = (number.get() as usize - 1) * size;
        database[at..at + size].copy_from_slice(&page);
    }
    decoder.finish().expect("verified");
    database
}

fn listed(chain: &Chain) -> Catalog {
    catalog(&chain.store).expect("listed")
}

#[test]
fn a_snapshot_is_the_database_of_its_position_with_that_positions_time_and_seal() {
    let mut chain = Chain::new();
    chain.run(17);
    for at in [1, 5, 17] {
        snapshot(&chain.store, &listed(&chain), txid(at), None, PageEncoding::Block).expect("made");
        let key = level_key(9, 1, at);
        assert!(content(&chain, &key) == chain.states[&at], "{at}");
        let (bytes, slot) = (chain.object(&key), chain.object(&slot_key(at)));
        let header = *Decoder::new(&bytes[..]).expect("readable").header();
        let slot = *Decoder::new(&slot[..]).expect("readable").header();
        assert_eq!(header.timestamp, slot.timestamp);
        let (seal, of_slot) = (header.seal().expect("sealed"), slot.seal().expect("sealed"));
        assert_eq!((seal.database, seal.epoch, seal.predecessor), (of_slot.database, of_slot.epoch, None));
        let again =
            snapshot(&chain.store, &listed(&chain), txid(at), None, PageEncoding::Block).expect("there");
        assert!(matches!(again, Snapshot::There(there) if there == key));
    }
}

#[test]
fn r67_more_inputs_than_can_be_read_at_once_go_by_way_of_snapshots_in_between() {
    let mut chain = Chain::new();
    chain.run(60);
    snapshot_by(&chain.store, &listed(&chain), (txid(60), Some(chain.database())), PageEncoding::Block, 8)
        .expect("made");
    assert!(content(&chain, &level_key(9, 1, 60)) == chain.states[&60]);
    // 60 slots, eight at a time, and from the second time on one of the eight is what the time before made.
    let ends: Vec<u64> = listed(&chain).snapshots().iter().map(|file| file.range.max().get()).collect();
    assert_eq!(ends, [8, 15, 22, 29, 36, 43, 50, 57, 60]);
    for file in listed(&chain).snapshots() {
        let end = file.range.max().get();
        assert!(content(&chain, &level_key(9, 1, end)) == chain.states[&end], "the one in between, {end}");
    }
}

#[test]
fn a_snapshot_that_does_not_give_the_sealed_checksum_never_becomes_visible() {
    let mut chain = Chain::new();
    chain.run(6);
    let wrong = Some(Checksum::from_crc(12345));
    let error = snapshot(&chain.store, &listed(&chain), txid(6), wrong, PageEncoding::Block)
        .expect_err("not that database");
    assert!(
        matches!(error, SnapshotError::Merge(MergeError::Wrong(crate::restore::Flaw::Database { .. }))),
        "{error}"
    );
    assert!(listed(&chain).snapshots().is_empty());
    // The same by the seal: a slot that claims another database than its pages make.
    let commit = chain.commit;
    chain.change(commit, &[(1, 88), (2, 88)]);
    chain.put_slot(&[1], Marks::NONE);
    snapshot(&chain.store, &listed(&chain), txid(7), None, PageEncoding::Block).expect_err("page 2 is stale");
    assert!(listed(&chain).snapshots().is_empty());
}

#[test]
fn a_position_behind_a_hole_or_without_its_content_has_no_snapshot() {
    let mut chain = Chain::new();
    chain.run(6);
    chain.remove(&[slot_key(3)]);
    let error = snapshot(&chain.store, &listed(&chain), txid(6), None, PageEncoding::Block)
        .expect_err("slot 3 is missing");
    assert!(matches!(error, SnapshotError::NoPlan(NoPlan::Gap { .. })), "{error}");
}

#[test]
fn what_lies_before_a_whole_image_is_not_needed_for_a_snapshot() {
    let mut chain = Chain::new();
    chain.run(6);
    chain.page_size = PageSize::new(2048).expect("a page size");
    chain.pages.clear();
    chain.image(5, &(1..=5).map(|page| (page, 3)).collect::<Vec<_>>());
    chain.run(2);
    snapshot(&chain.store, &listed(&chain), txid(9), None, PageEncoding::Block)
        .expect("another page size before it");
    assert!(content(&chain, &level_key(9, 1, 9)) == chain.states[&9]);
}

#[test]
fn r67_a_large_snapshot_is_read_through_a_window_and_goes_up_in_parts() {
    let mut chain = Chain::new();
    chain.page_size = PageSize::MAX;
    for page in 1..=200 {
        let mut state = u64::from(page).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let noise = (0..65536).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        chain.pages.insert(page, noise.collect());
    }
    chain.commit = 200;
    let pages: Vec<u32> = (1..=200).collect();
    chain.put_slot(&pages, Marks::FULL_IMAGE);
    chain.slot(200, &[(7, 7)]);
    let store = Meddler::new(chain.store.clone());
    let made = snapshot(&store, &listed(&chain), txid(2), None, PageEncoding::Block).expect("made");
    let largest = store.largest_read.load(std::sync::atomic::Ordering::SeqCst);
    assert!(largest <= 8 << 20, "{largest} bytes of one object at once");
    assert!(matches!(made, Snapshot::Made(made) if made.size > 12 << 20 && made.pages == 200));
    assert!(content(&chain, &level_key(9, 1, 2)) == chain.states[&2]);
}
