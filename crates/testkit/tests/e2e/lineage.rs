//! Histories that branch or overlap, and a history that stands still.

use crate::harness::{Place, app, ids, image, nothing_happens_for, said};
use crate::peers::assert_restores;
use litekeep_formats::ltx::{Decoder, Encoder, Header, PageEncoding};
use litekeep_formats::{PageNo, Txid, TxidRange};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use testkit::peers::Litestream;

#[test]
fn r21_a_database_restored_to_an_older_point_goes_on_from_there_and_the_chain_stays_whole() {
    let Some(official) = Litestream::v0_5_17() else { return };
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon_with("", "", "sync-interval: 20ms");
    for _ in 0..4 {
        app.ask("rows 10 900");
        place.wait_for_image();
    }
    app.kill();
    assert!(daemon.end().success());
    let newest = place.level(0).last().expect("there are slots")[..16].to_owned();
    let before = fs::read(place.restored(&[])).expect("read it");
    let middle = place.level(0)[1][..16].to_owned();
    place.wipe();
    let output = place.restore_to(&place.database(), &["-txid", &middle]);
    assert!(output.status.success(), "{}", said(&output));

    let Some(mut branch) = crate::harness::app(&place.database(), 4096) else { return };
    branch.ask("rows 3 500");
    let daemon = place.daemon();
    place.wait_for_image();
    branch.ask("rows 3 500");
    let head = place.wait_for_image();
    assert!(ids(&head).len() < 40);
    assert!(daemon.end().success());
    assert_restores(&official, &place, "the chosen branch");
    // What it left is still there to be asked for.
    assert!(fs::read(place.restored(&["-txid", &newest])).expect("read it") == before);
}

#[test]
fn r22_a_file_that_nobody_restored_and_that_differs_stops_at_its_start() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon();
    app.ask("rows 10 100");
    place.wait_for_image();
    app.kill();
    assert!(daemon.end().success());
    let chain = fs::read(place.restored(&[])).expect("read it");
    place.wipe();
    let Some(mut stranger) = crate::harness::app(&place.database(), 4096) else { return };
    stranger.ask("rows 3 500");
    let mut refused = place.daemon();
    assert!(!refused.ended().success());
    assert!(fs::read(place.restored(&[])).expect("read it") == chain, "nothing of the chain may change");

    // In a replica of its own it is welcome.
    let url = format!("file://{}", place.path("branch").display());
    let own = place.with_replica(url);
    let daemon = own.daemon();
    own.wait_for_image();
    assert!(daemon.end().success());
}

/// Writes the level-1 file of the slots from `first` to `last`, as a compaction that was interrupted and then ran
/// again with more slots leaves one behind.
fn compact(replica: &Path, first: u64, last: u64) {
    let name = |level: u8, from: u64, to: u64| replica.join(format!("ltx/{level}/{from:016x}-{to:016x}.ltx"));
    let mut pages: BTreeMap<PageNo, Vec<u8>> = BTreeMap::new();
    let mut newest: Option<Header> = None;
    for txid in first..=last {
        let bytes = fs::read(name(0, txid, txid)).expect("read a slot");
        let mut decoder = Decoder::new(&bytes[..]).expect("a slot");
        let mut page = vec![0; decoder.header().page_size.get() as usize];
        while let Some(number) = decoder.next_page(&mut page).expect("its pages") {
            pages.insert(number, page.clone());
        }
        newest = Some(*decoder.header());
    }
    let mut header = newest.expect("there are slots");
    header.range = Txid::new(first)
        .zip(Txid::new(last))
        .and_then(|(from, to)| TxidRange::new(from, to))
        .expect("a range");
    header.wal = litekeep_formats::ltx::WalSpan::default();
    pages.retain(|number, _| number.get() <= header.commit);
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&header, PageEncoding::Block, &mut out).expect("a header");
    for (number, page) in &pages {
        encoder.page(*number, page, &mut out).expect("a page");
    }
    encoder.finish(None, &mut out).expect("a file");
    fs::create_dir_all(replica.join("ltx/1")).expect("make level 1");
    fs::write(name(1, first, last), out).expect("write it");
}

#[test]
fn r31_files_that_overlap_in_one_level_restore_to_the_same_database() {
    let official = Litestream::v0_5_17();
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let daemon = place.daemon_with("levels: [{interval: 1h}]", "", "sync-interval: 20ms");
    for _ in 0..9 {
        app.ask("rows 5 900");
        app.sql("DELETE FROM t WHERE id % 7 = 1");
        place.wait_for_image();
    }
    assert!(daemon.end().success());
    let slots = place.level(0).len() as u64;
    assert!(slots >= 9, "{slots}");
    for (first, last) in [(2, 3), (2, 5), (4, 7), (5, 6), (5, slots - 1)] {
        compact(&place.replica(), first, last);
    }
    for slot in 2..slots {
        fs::remove_file(place.replica().join(format!("ltx/0/{slot:016x}-{slot:016x}.ltx")))
            .expect("remove it");
    }
    assert!(fs::read(place.restored(&[])).expect("ours") == image(&place.database()));
    if let Some(official) = &official {
        assert_restores(official, &place, "overlapping files");
    }
    // And the chain goes on from there.
    let daemon = place.daemon();
    app.ask("rows 5 100");
    place.wait_for_image();
    assert!(daemon.end().success());
}

#[test]
fn r37_an_idle_database_stays_in_its_replica_however_short_the_retention() {
    let place = Place::new();
    let Some(mut app) = app(&place.database(), 4096) else { return };
    let settings = "levels: [{interval: 1s}]\nsnapshot: {interval: 1s, retention: 1s}\nl0-retention: 1s";
    let daemon = place.daemon_with(settings, "", "sync-interval: 20ms");
    app.ask("rows 50 500");
    let restored = place.wait_for_image();
    let rows = ids(&restored);
    nothing_happens_for(6);
    assert_eq!(ids(&place.restored(&[])), rows);
    app.ask("rows 5 500");
    place.wait_for_image();
    assert!(daemon.end().success());
}
