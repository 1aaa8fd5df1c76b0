use super::*;
use crate::compactor::{Step, step};
use crate::restore::forge::{Chain, Meddler, level_key, slot_key, txid};
use crate::restore::{RestoreError, catalog};
use crate::settings::Settings;
use crate::snapshot::snapshot;
use bytes::Bytes;
use litekeep_core::compact::Limits;
use litekeep_core::env::Clock;
use litekeep_core::retain::Policy;
use litekeep_formats::ltx::{Marks, PageEncoding};
use litekeep_formats::{Epoch, Level};
use litekeep_store::{EpochRecord, ErrorKind, Key, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const OPTIONS: Options = Options {
    parallelism: 1,
    policy: Policy { window: Duration::from_secs(86_400), slots: Some(Duration::from_secs(300)) },
};

fn verified(chain: &Chain) -> Verified {
    try_verify(chain, Arc::new(chain.store.clone())).expect("walked")
}

fn try_verify(chain: &Chain, store: Arc<dyn Store>) -> Result<Verified, RestoreError> {
    let clock: Arc<dyn Clock> = chain.clock.clone();
    verify(store, &clock, &OPTIONS, &mut |_, _| {})
}

/// 27 slots, the first a whole image that level 9 holds; level 1 holds 2 to 21 by threes, level 2 2 to 18 by nines;
/// snapshots at the 10th and the 27th.
fn tall() -> Chain {
    let mut chain = Chain::new();
    chain.image(3, &[(1, 1), (2, 1), (3, 1)]);
    chain.run(9);
    chain.snapshot();
    chain.run(14);
    let limits = Limits { inputs: 3, bytes: 1 << 20 };
    for (level, units) in [(0, 8), (1, 2)] {
        for _ in 0..units {
            let listed = catalog(&chain.store).expect("listed");
            let level = Level::new(level).expect("a level");
            let made = step(&chain.store, &listed, level, limits, PageEncoding::Block).expect("compacts");
            assert!(!matches!(made, Step::Nothing));
        }
    }
    chain.run(3);
    chain.snapshot();
    chain
}

fn said(found: &Verified) -> Vec<(Kind, Option<String>)> {
    found.issues.iter().map(|issue| (issue.kind, issue.key.map(|key| key.to_string()))).collect()
}

#[test]
fn a_sound_replica_has_no_issue_and_the_report_says_what_was_read() {
    let chain = tall();
    let found = verified(&chain);
    assert_eq!(found.issues, [], "{found:#?}");
    assert_eq!((found.newest, found.restorable), (Some(txid(27)), Some(txid(27))));
    assert_eq!(found.database, Some(chain.database()));
    let levels: Vec<_> =
        found.levels.iter().map(|level| (level.level.get(), level.files, level.sound, level.bad)).collect();
    assert_eq!(levels, [(0, 27, 27, 0), (1, 7, 7, 0), (2, 2, 2, 0), (9, 3, 3, 0)]);
    let bytes: u64 = found.levels.iter().map(|level| level.bytes).sum();
    assert_eq!((found.objects, found.counted.bytes), (39, bytes));
    assert!(found.counted.requests >= 39 + 3, "{found:#?}");
}

#[test]
fn every_kind_of_damage_in_every_level_is_found_and_its_object_is_named() {
    let flip = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 4;
        Bytes::from(bytes)
    };
    for key in [slot_key(26), slot_key(5), level_key(1, 10, 12), level_key(2, 2, 9), level_key(9, 1, 27)] {
        let whole = tall().object(&key);
        let len = whole.len();
        let broken = [
            ("a bit of a page", flip(&whole, len / 2)),
            ("a bit of the seal", flip(&whole, 45)),
            ("a bit of the index", flip(&whole, len - 20)),
            ("a bit of the trailer", flip(&whole, len - 1)),
            ("truncated", whole.slice(..len - 30)),
            ("truncated in its header", whole.slice(..50)),
            ("empty", Bytes::new()),
            ("something behind it", [&whole[..], b"x"].concat().into()),
        ];
        for (how, bytes) in broken {
            let chain = tall();
            chain.put(key, bytes);
            let found = verified(&chain);
            let first = found.damage().unwrap_or_else(|| panic!("{key}, {how}: {found:#?}"));
            assert_eq!((first.kind, first.key), (Kind::Damaged, Some(key)), "{how}: {found:#?}");
            let bad: usize = found.levels.iter().map(|level| level.bad).sum();
            assert_eq!(bad, 1, "{key}, {how}: {found:#?}");
        }
    }
}

#[test]
fn r32_a_missing_file_is_found_in_every_level() {
    for (key, restorable, part) in [
        (slot_key(26), 25, "level 0 lacks transaction 000000000000001a, and so does every other"),
        (level_key(1, 10, 12), 27, "level 1 lacks transactions 000000000000000a-000000000000000c"),
        (level_key(2, 2, 9), 27, ""),
        (level_key(9, 1, 27), 27, ""),
    ] {
        let chain = tall();
        if key == slot_key(26) {
            chain.remove(&[level_key(9, 1, 27)]);
        }
        chain.remove(&[key]);
        let found = verified(&chain);
        assert_eq!(found.restorable, Some(txid(restorable)), "{key}: {found:#?}");
        // The last file of a level is made anew by the next round, and an old snapshot's end by the levels.
        assert_eq!(found.damage().is_some(), !part.is_empty(), "{key}: {found:#?}");
        let text = found.damage().map_or("", |issue| issue.what.as_str());
        assert!(text.contains(part), "{key}: {found:#?}");
    }
    // The base of a chain whose slots are gone.
    let chain = tall();
    let early: Vec<Key> = (1..=21).map(slot_key).collect();
    chain.remove(&early);
    assert_eq!(verified(&chain).issues, []);
    chain.remove(&[level_key(9, 1, 1), level_key(9, 1, 10), level_key(9, 1, 27)]);
    let found = verified(&chain);
    assert_eq!((found.restorable, said(&found)), (None, vec![(Kind::Gap, None)]), "{found:#?}");
}

#[test]
fn a_foreign_slot_and_a_replaced_one_do_not_go_on() {
    // Whether it names a predecessor of its own, and which slot is found not to go on.
    for (epoch, names_another, found_at) in [(2, false, 27), (9, false, 27), (1, true, 26)] {
        let chain = tall();
        let mut other = tall();
        (other.epoch, other.txid) = (Some(epoch), 25);
        if !names_another {
            other.last = None;
        }
        other.change(other.commit, &[(1, 77)]);
        other.put_slot(&[1], Marks::NONE);
        chain.remove(&[level_key(9, 1, 27)]);
        chain.put(slot_key(26), other.object(&slot_key(26)));
        let found = verified(&chain);
        let first = found.damage().unwrap_or_else(|| panic!("{found:#?}"));
        assert_eq!((first.kind, first.key), (Kind::Foreign, Some(slot_key(found_at))), "{found:#?}");
        let older = slot_key(found_at - 1).to_string();
        assert!(first.what.contains(&older), "{found:#?}");
        assert_eq!(found.restorable, Some(txid(found_at - 1)), "{found:#?}");
    }
}

#[test]
fn a_late_slot_in_a_freed_name_is_a_warning() {
    let late = |changes: &[(u32, u8)]| {
        let mut other = tall();
        (other.txid, other.epoch) = (11, Some(2));
        other.change(other.commit, changes);
        other.put_slot(&[1], Marks::NONE);
        other.object(&slot_key(12))
    };
    for gone in [1..=21, 1..=18, 1..=11] {
        let chain = tall();
        let freed: Vec<Key> = gone.clone().map(slot_key).collect();
        chain.remove(&freed);
        chain.clock.sleep(Duration::from_secs(400));
        chain.put(slot_key(12), late(&[(1, 99)]));
        let found = verified(&chain);
        assert_eq!(said(&found), [(Kind::Late, Some(slot_key(12).to_string()))], "{gone:?}: {found:#?}");
        assert!(found.damage().is_none());
    }
}

#[test]
fn a_merged_file_of_another_history_states_another_database() {
    for key in [level_key(1, 10, 12), level_key(2, 2, 9), level_key(9, 1, 10)] {
        let Key::Ltx(_, covered) = key else { panic!("{key}") };
        let chain = tall();
        let mut other = tall();
        other.change(other.commit, &[(1, 123)]);
        let pages: Vec<u32> = other.pages.keys().copied().collect();
        let header = other.header(covered, Marks::NONE);
        chain.put(key, other.file(&header, &pages).0);
        let found = verified(&chain);
        assert_eq!(said(&found), [(Kind::Foreign, Some(key.to_string()))], "{found:#?}");
        assert_eq!(found.restorable, Some(txid(27)), "{found:#?}");
    }
}

#[test]
fn v3_files_beside_the_chain_are_told_and_newer_ones_are_a_warning() {
    let chain = tall();
    let snapshot = |index| Key::V3Snapshot(litekeep_store::V3Generation(7), index);
    let put = |index, ms| {
        chain.clock.set(ms);
        chain.put(snapshot(index), Bytes::from_static(b"v0.3"));
    };
    let now = chain.clock.wall().0;
    put(0, now - 10_000);
    let found = verified(&chain);
    assert_eq!(
        (found.issues.len(), found.v3.map(|v3| (v3.snapshots, v3.bytes))),
        (0, Some((1, 4))),
        "{found:#?}"
    );
    put(1, now + 10_000);
    let found = verified(&chain);
    assert_eq!(said(&found), [(Kind::NewerV3, Some(snapshot(1).to_string()))], "{found:#?}");
}

#[test]
fn content_in_level_9_must_be_there_unless_it_is_on_its_way() {
    let mut chain = Chain::new();
    chain.image(3, &[(1, 1), (2, 1), (3, 1)]);
    chain.change(3, &[(2, 9)]);
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9.union(Marks::FULL_IMAGE));
    let found = verified(&chain);
    assert_eq!(said(&found), [(Kind::Unfinished, Some(slot_key(2).to_string()))], "{found:#?}");
    assert_eq!((found.newest, found.restorable), (Some(txid(1)), Some(txid(1))), "{found:#?}");
    let mut finished = chain;
    finished.snapshot();
    // It counts once a slot stands behind it.
    assert_eq!(verified(&finished).restorable, Some(txid(1)));
    finished.run(1);
    assert_eq!(verified(&finished).issues, []);
    finished.remove(&[level_key(9, 1, 2)]);
    let found = verified(&finished);
    assert_eq!(said(&found)[0], (Kind::Damaged, Some(slot_key(2).to_string())), "{found:#?}");
}

#[test]
fn an_image_that_was_passed_is_no_damage() {
    let mut chain = Chain::new();
    chain.image(3, &[(1, 1), (2, 1), (3, 1)]);
    let before = chain.pages.clone();
    chain.change(3, &[(2, 9)]);
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
    (chain.pages, chain.epoch) = (before, Some(2));
    chain.put_slot(&[], Marks::FENCE);
    let found = verified(&chain);
    assert_eq!(said(&found), [(Kind::Unfinished, Some(slot_key(3).to_string()))], "{found:#?}");
    assert_eq!(found.restorable, Some(txid(1)), "{found:#?}");
    chain.image(3, &[(1, 1), (2, 1), (3, 4)]);
    let found = verified(&chain);
    assert!(found.issues.iter().all(|issue| !issue.kind.is_damage()), "{found:#?}");
    assert_eq!(found.restorable, Some(txid(4)), "{found:#?}");
}

#[test]
fn the_end_of_the_chain_is_known_by_the_closing_record() {
    let chain = tall();
    let epoch = Epoch::new(1).expect("not zero");
    let record =
        |txid| format!("{{\"epoch\":1,\"owner\":\"a\",\"txid\":{txid},\"durability\":\"replicated\"}}\n");
    let key = Key::Epoch(epoch, EpochRecord::Closed);
    for (text, kind) in
        [(record(27), None), (record(28), Some(Kind::Gap)), ("{}".into(), Some(Kind::Damaged))]
    {
        chain.put(key, text.clone().into());
        let found = verified(&chain);
        assert_eq!(found.damage().map(|issue| issue.kind), kind, "{text}: {found:#?}");
    }
}

#[test]
fn files_without_a_seal_behind_sealed_ones_are_a_warning() {
    let mut chain = tall();
    chain.epoch = None;
    chain.run(2);
    let found = verified(&chain);
    assert_eq!(said(&found), [(Kind::Unsealed, Some(slot_key(28).to_string()))], "{found:#?}");
    assert_eq!(found.restorable, Some(txid(29)));
}

#[test]
fn a_replica_that_goes_on_while_it_is_read_is_not_damaged() {
    // Retention takes slots that were listed; a file that stays listed and cannot be read is another matter.
    for (listed, damaged) in [(false, false), (true, true)] {
        let chain = tall();
        let store = chain.store.clone();
        let meddler = Meddler::new(chain.store.clone()).on(move |verb, about| {
            let struck = verb == "read" && about == slot_key(3).to_string();
            if struck && !listed {
                store.delete(&[slot_key(3)]).expect("deleted");
            }
            struck.then_some(ErrorKind::NotFound)
        });
        let found = try_verify(&chain, Arc::new(meddler)).expect("walked");
        assert_eq!(found.damage().is_some(), damaged, "{found:#?}");
    }
}

#[test]
fn slots_that_are_merged_and_taken_away_while_they_are_read_are_no_gap() {
    let chain = tall();
    chain.remove(&[level_key(9, 1, 27)]);
    let store = chain.store.clone();
    let meddler = Meddler::new(chain.store.clone()).on(move |verb, about| {
        if verb == "read" && about == slot_key(22).to_string() {
            let listed = catalog(&store).expect("listed");
            let made = step(&store, &listed, Level::SLOTS, Limits::USUAL, PageEncoding::Block);
            assert!(matches!(made, Ok(Step::Merged(_) | Step::Nothing)), "{made:?}");
            store.delete(&(22..=26).map(slot_key).collect::<Vec<_>>()).expect("deleted");
        }
        None
    });
    let found = try_verify(&chain, Arc::new(meddler)).expect("walked");
    assert_eq!((&found.issues[..], found.restorable), (&[][..], Some(txid(27))), "{found:#?}");
}

#[test]
fn reads_are_parallel_in_bounded_pieces_and_a_store_that_fails_is_no_damage() {
    let mut chain = Chain::new();
    chain.page_size = litekeep_formats::PageSize::MAX;
    chain.image(3, &[(1, 1), (2, 1), (3, 1)]);
    chain.run(40);
    let meddler = Arc::new(Meddler::new(chain.store.clone()).like_s3());
    let clock: Arc<dyn Clock> = chain.clock.clone();
    let options = Options { parallelism: 4, ..OPTIONS };
    let found = verify(Arc::clone(&meddler) as Arc<dyn Store>, &clock, &options, &mut |_, _| {});
    assert_eq!(found.expect("walked").issues, []);
    assert!(meddler.largest_read.load(Ordering::SeqCst) <= crate::restore::CHUNK_BYTES);
    assert!(meddler.most_in_flight.load(Ordering::SeqCst) <= 4);
    let failing = Meddler::new(chain.store.clone())
        .on(|verb, about| (verb == "read" && about.contains("level 0")).then_some(ErrorKind::FixConfig));
    let error = try_verify(&chain, Arc::new(failing)).expect_err("out of reach");
    assert!(matches!(error, RestoreError::Unreachable(_)), "{error:?}");
    let nothing = Chain::new();
    let error = try_verify(&nothing, Arc::new(nothing.store.clone())).expect_err("nothing there");
    assert!(matches!(error, RestoreError::Empty(_)), "{error:?}");
}

/// A slot every ten seconds for three hours, merged every minute and every ten, with a snapshot an hour.
fn lived() -> Chain {
    let mut chain = Chain::new();
    chain.image(3, &[(1, 1), (2, 1), (3, 1)]);
    for round in 0..180 {
        for _ in 0..6 {
            chain.clock.sleep(Duration::from_secs(9));
            chain.run(1);
        }
        for (level, every) in [(0, 1), (1, 10)] {
            if round % every == every - 1 {
                let listed = catalog(&chain.store).expect("listed");
                let level = Level::new(level).expect("a level");
                step(&chain.store, &listed, level, Limits::USUAL, PageEncoding::Block).expect("compacts");
            }
        }
        if round % 60 == 59 {
            let listed = catalog(&chain.store).expect("listed");
            snapshot(&chain.store, &listed, txid(chain.txid), None, PageEncoding::Block).expect("made");
        }
    }
    chain
}

#[test]
fn usage_is_told_from_the_replica_and_what_retention_frees_is_what_it_then_takes() {
    let chain = lived();
    let settings = Settings {
        levels: vec![Duration::from_secs(60), Duration::from_secs(600)],
        snapshot_interval: Duration::from_secs(3600),
        snapshot_retention: Duration::from_secs(1800),
        ..Settings::default()
    };
    let look = |settings: &Settings| {
        let store = Meddler::new(chain.store.clone()).like_s3();
        usage(Arc::new(store), &*chain.clock, settings, 1).expect("told")
    };
    let found = look(&settings);
    let near = |seen: Option<f64>, expected: f64, what: &str| {
        let seen = seen.unwrap_or_else(|| panic!("{what}: {found:#?}"));
        assert!((seen / expected - 1.0).abs() < 0.05, "{what}: {seen}, not {expected}: {found:#?}");
    };
    // Ten seconds a slot.
    near(found.slots_per_day, 8640.0, "slots");
    let level = |number: u8| *found.levels.iter().find(|level| level.level.get() == number).expect("there");
    near(level(1).objects_per_day, 1440.0, "level 1");
    near(level(2).objects_per_day, 144.0, "level 2");
    near(level(9).objects_per_day, 24.0, "snapshots");
    let requests = found.requests.expect("old enough");
    near(Some(requests.slot_puts), 8640.0, "puts of slots");
    near(Some(requests.level_puts), 1440.0 + 144.0 + 24.0, "puts of levels");
    near(Some(requests.looks), 8640.0, "looks");
    // One each five minutes, and more than a thousand files are two pages.
    near(Some(requests.listings), 288.0 * 2.0, "listings");
    near(Some(requests.reads), 8640.0 + 1440.0 + 24.0 + 144.0, "reads");
    assert_eq!(found.bytes(), store_bytes(&chain));
    let policy = Policy { window: settings.snapshot_retention, slots: settings.l0_retention };
    let (plan, _) = crate::pruner::look(&chain.store, &policy).expect("planned");
    let gone: usize = found.levels.iter().map(|level| level.freed_objects).sum();
    assert_eq!(gone, plan.deletions.len());
    let before = store_bytes(&chain);
    crate::pruner::carry_out(&chain.store, &plan).expect("deleted");
    assert!(found.freed_bytes() > 0);
    assert_eq!(before - store_bytes(&chain), found.freed_bytes());
    let kept = look(&Settings { retention: false, ..settings.clone() });
    let requests = kept.requests.expect("old enough");
    assert_eq!((kept.freed_bytes(), requests.deletes, requests.listings), (0, 0.0, 0.0));
    // Who hands over looks every second.
    let hands_over = look(&Settings { look_every: Some(Duration::from_secs(1)), ..settings });
    near(hands_over.requests.map(|requests| requests.looks), 86_400.0, "looks of one that hands over");
}

#[test]
fn a_replica_of_one_moment_tells_no_rate_and_an_empty_one_is_all_zeros() {
    let mut chain = Chain::new();
    let look = |chain: &Chain| {
        let store = Arc::new(chain.store.clone());
        usage(store, &*chain.clock, &Settings::default(), 1).expect("told")
    };
    let found = look(&chain);
    assert_eq!((found.objects(), found.bytes(), found.requests), (0, 0, None));
    chain.image(3, &[(1, 1), (2, 1), (3, 1)]);
    let found = look(&chain);
    assert_eq!((found.objects(), found.slots_per_day, found.requests), (1, None, None));
}

/// Bytes of all LTX files.
fn store_bytes(chain: &Chain) -> u64 {
    catalog(&chain.store).expect("listed").files().map(|file| file.size).sum()
}
