use super::*;
use crate::files::RealFiles;
use crate::restore::forge::{Chain, Meddler, level_key, range, slot_key, txid};
use crate::restore::{Options, Outcome, RestoreEnv, catalog};
use litekeep_core::restore::Target;
use litekeep_formats::ltx::PageEncoding;
use litekeep_formats::ltx::{Decoder, Marks};
use litekeep_formats::{PageSize, TimestampMs};
use litekeep_store::{ErrorKind, Key};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const FEW: Limits = Limits { inputs: 5, bytes: 1 << 20 };

/// Steps until nothing is left; the kinds of steps taken.
fn compact_all(chain: &Chain, from: u8, limits: Limits) -> Vec<Step> {
    let level = Level::new(from).expect("0 to 9");
    let mut steps = Vec::new();
    loop {
        let listed = catalog(&chain.store).expect("listed");
        match step(&chain.store, &listed, level, limits, PageEncoding::Block).expect("compacts") {
            Step::Nothing => return steps,
            step => steps.push(step),
        }
        assert!(steps.len() < 1000, "compaction ends");
    }
}

fn restored(chain: &Chain, target: Target) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(dir.path().join("db"));
    options.target = target;
    let env = RestoreEnv {
        store: Arc::new(chain.store.clone()),
        files: Arc::new(RealFiles),
        clock: chain.clock.clone(),
        vfs: None,
    };
    match crate::restore::restore(&env, &options, &mut |_| {}).expect("restored") {
        Outcome::Restored(_) => std::fs::read(&options.output).expect("readable"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn compacted_levels_give_the_same_databases_without_their_sources() {
    for page_size in [512, 4096] {
        let mut chain = Chain::new();
        chain.page_size = PageSize::new(page_size).expect("a page size");
        chain.image(3, &[(1, 1), (2, 2), (3, 3)]);
        chain.run(31);
        compact_all(&chain, 0, FEW);
        compact_all(&chain, 1, FEW);
        let slots: Vec<Key> = (1..=32).map(slot_key).collect();
        chain.remove(&slots);
        let listed = catalog(&chain.store).expect("listed");
        for end in listed.files().map(|file| file.range.max()) {
            assert!(restored(&chain, Target::Txid(end)) == chain.states[&end.get()], "{end}");
        }
        let level_1: Vec<Key> = listed
            .level(Level::new(1).expect("a level"))
            .iter()
            .map(|file| Key::Ltx(file.level, file.range))
            .collect();
        chain.remove(&level_1);
        assert!(restored(&chain, Target::Latest) == chain.states[&32]);
    }
}

/// An image's copy in level 9 whose put had no answer, and the same image promoted later: with another encoding, other
/// bytes. Compaction once stood still there for ever, asking each minute (simulation, seed 1768 of `bulk`).
#[test]
fn a_file_of_the_same_content_under_the_wanted_name_is_as_good_and_another_one_is_not() {
    let mut chain = Chain::new();
    chain.image(3, &[(1, 1), (2, 2), (3, 3)]);
    chain.run(2);
    let unaware = catalog(&chain.store).expect("listed");
    let promote = |chain: &Chain, encoding| step(&chain.store, &unaware, Level::SLOTS, FEW, encoding);
    let Ok(Step::Promoted(first)) = promote(&chain, PageEncoding::Block) else { panic!("not promoted") };
    let Ok(Step::Promoted(again)) = promote(&chain, PageEncoding::Frame) else { panic!("not promoted") };
    assert_eq!((again.existed, again.size, again.file), (true, first.size, first.file));
    let mut other = Chain::new();
    other.image(3, &[(1, 7), (2, 8), (3, 9)]);
    compact_all(&other, 0, FEW);
    let bytes = other.object(&level_key(9, 1, 1));
    chain.store.put(&level_key(9, 1, 1), bytes, TimestampMs(0)).expect("put");
    assert!(matches!(promote(&chain, PageEncoding::Block), Err(MergeError::Exists(_))));
}

#[test]
fn r29_times_and_seals_survive_all_levels() {
    let mut chain = Chain::new();
    chain.image(2, &[(1, 1), (2, 1)]);
    chain.run(11);
    let slot_2 =
        Decoder::new(&chain.object(&slot_key(2))[..]).expect("sealed").header().seal().expect("sealed");
    let slot_12 = *Decoder::new(&chain.object(&slot_key(12))[..]).expect("readable").header();
    let later = chain.clock.clone();
    later.set(9_000_000_000);
    compact_all(&chain, 0, FEW);
    compact_all(&chain, 1, FEW);
    let listed = catalog(&chain.store).expect("listed");
    let merged = *listed.level(Level::new(2).expect("a level")).last().expect("compacted");
    assert_eq!(merged.range, range(2, 12));
    let bytes = chain.object(&level_key(2, 2, 12));
    let header = *Decoder::new(&bytes[..]).expect("readable").header();
    assert_eq!(header.timestamp, slot_12.timestamp, "not the time of the compaction");
    assert_eq!(merged.timestamp, Some(slot_12.timestamp), "nor in the store");
    let seal = header.seal().expect("sealed");
    let newest = slot_12.seal().expect("sealed");
    assert_eq!((seal.epoch, seal.database), (newest.epoch, newest.database), "of the last input");
    assert_eq!(seal.predecessor, slot_2.predecessor, "of the first input");
    let before = TimestampMs(slot_12.timestamp.0);
    assert!(restored(&chain, Target::Timestamp(before)) == chain.states[&11], "strictly before slot 12");
}

#[test]
fn r36_a_whole_image_goes_to_level_9_once_and_through_no_other_level() {
    let mut chain = Chain::new();
    chain.image(40, &(1..=40).map(|page| (page, 1)).collect::<Vec<_>>());
    chain.run(4);
    chain.image(44, &(1..=44).map(|page| (page, 2)).collect::<Vec<_>>());
    chain.run(3);
    let steps = compact_all(&chain, 0, FEW);
    let promoted: Vec<Key> = steps
        .iter()
        .filter_map(|step| if let Step::Promoted(made) = step { Some(made.key) } else { None })
        .collect();
    assert_eq!(promoted, [level_key(9, 1, 1), level_key(9, 1, 6)]);
    compact_all(&chain, 1, FEW);
    compact_all(&chain, 2, FEW);
    let listed = catalog(&chain.store).expect("listed");
    for file in listed.files().filter(|file| (1..9).contains(&file.level.get())) {
        assert!(file.range.min().get() > 1 && !(file.range.min()..=file.range.max()).contains(&txid(6)));
        let bytes = chain.object(&Key::Ltx(file.level, file.range));
        let pages = pages_of(&bytes);
        assert!(pages < 40, "{} holds {pages} pages", file.range);
    }
    chain.remove(&(1..=9).map(slot_key).collect::<Vec<_>>());
    for end in [1, 5, 6, 9] {
        assert!(restored(&chain, Target::Txid(txid(end))) == chain.states[&end], "{end}");
    }
}

fn pages_of(bytes: &[u8]) -> u32 {
    let mut decoder = Decoder::new(bytes).expect("readable");
    let mut page = vec![0; decoder.header().page_size.bytes()];
    let mut pages = 0;
    while decoder.next_page(&mut page).expect("whole").is_some() {
        pages += 1;
    }
    pages
}

#[test]
fn content_in_level_9_is_passed_over_and_never_merged() {
    let mut chain = Chain::new();
    chain.run(4);
    chain.change(8, &(1..=8).map(|page| (page, 9)).collect::<Vec<_>>());
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
    let listed = catalog(&chain.store).expect("listed");
    step(&chain.store, &listed, Level::SLOTS, FEW, PageEncoding::Block)
        .expect("slots 1 to 4 are an image and three others");
    // Without its level 9 file there is nothing to do.
    compact_all(&chain, 0, FEW);
    chain.snapshot();
    chain.run(3);
    compact_all(&chain, 0, FEW);
    chain.remove(&(1..=8).map(slot_key).collect::<Vec<_>>());
    assert!(restored(&chain, Target::Latest) == chain.states[&8]);
    assert!(restored(&chain, Target::Txid(txid(5))) == chain.states[&5]);
}

#[test]
fn nothing_is_merged_over_an_image_that_was_lost() {
    let mut chain = Chain::new();
    chain.run(1);
    chain.change(8, &(1..=8).map(|page| (page, 9)).collect::<Vec<_>>());
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
    chain.run(3);
    let stuck = (0..4).find_map(|_| {
        let listed = catalog(&chain.store).expect("listed");
        step(&chain.store, &listed, Level::SLOTS, FEW, PageEncoding::Block).err()
    });
    assert!(matches!(stuck, Some(MergeError::Bad { what: Flaw::ContentElsewhere, .. })), "{stuck:?}");
}

#[test]
fn an_image_that_was_never_finished_is_passed_over() {
    let mut chain = Chain::new();
    chain.run(3);
    let before = chain.pages.clone();
    chain.change(8, &(1..=8).map(|page| (page, 9)).collect::<Vec<_>>());
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
    (chain.pages, chain.commit) = (before.clone(), u32::try_from(before.len()).expect("few"));
    chain.put_slot(&[], Marks::NONE);
    let commit = chain.commit;
    chain.image(commit, &[(1, 7)]);
    chain.run(3);
    compact_all(&chain, 0, FEW);
    let newest = *chain.states.keys().max().expect("states");
    assert!(restored(&chain, Target::Latest) == chain.states[&newest]);
    assert!(restored(&chain, Target::Txid(txid(3))) == chain.states[&3]);
}

#[test]
fn r05_growth_that_no_input_carries_is_never_compacted() {
    for (name, pages) in [("the new pages are missing", vec![1]), ("one is missing", vec![1, 9, 11, 12])] {
        let mut chain = Chain::new();
        chain.image(8, &(1..=8).map(|page| (page, 1)).collect::<Vec<_>>());
        chain.run(1);
        let grown: Vec<(u32, u8)> = (chain.commit + 1..=12).map(|page| (page, 5)).collect();
        chain.change(12, &[&[(1, 5)][..], &grown[..]].concat());
        chain.put_slot(&pages, Marks::NONE);
        let mut result = Ok(Step::Nothing);
        for _ in 0..3 {
            let listed = catalog(&chain.store).expect("listed");
            result = step(&chain.store, &listed, Level::SLOTS, FEW, PageEncoding::Block);
        }
        assert!(
            matches!(&result, Err(MergeError::Growth { key, .. }) if *key == slot_key(3)),
            "{name}: {result:?}"
        );
        let listed = catalog(&chain.store).expect("listed");
        assert!(listed.level(Level::new(1).expect("a level")).is_empty(), "{name}: nothing became visible");
    }
}

#[test]
fn a_damaged_or_foreign_input_is_never_compacted() {
    let base: Vec<(u32, u8)> = (1..=9).map(|page| (page, 1)).collect();
    let chain = || {
        let mut chain = Chain::new();
        chain.image(9, &base);
        chain.slot(9, &[(2, 2)]);
        chain.slot(9, &[(3, 3)]);
        chain.slot(9, &[(4, 4)]);
        chain
    };
    let check = |name: &str, chain: &Chain| {
        let results: Vec<_> = (0..2)
            .map(|_| {
                step(
                    &chain.store,
                    &catalog(&chain.store).expect("listed"),
                    Level::SLOTS,
                    FEW,
                    PageEncoding::Block,
                )
            })
            .collect();
        assert!(matches!(results[1], Err(MergeError::Bad { .. })), "{name}: {results:?}");
    };
    let damaged = chain();
    let mut bytes = damaged.object(&slot_key(3)).to_vec();
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    damaged.put(slot_key(3), bytes.into());
    check("a flipped bit", &damaged);
    let foreign = chain();
    let mut other = Chain::new();
    other.image(9, &base);
    other.slot(9, &[(2, 7)]);
    other.slot(9, &[(3, 7)]);
    foreign.put(slot_key(3), other.object(&slot_key(3)));
    check("a slot of another lineage", &foreign);
    let renamed = chain();
    renamed.put(slot_key(3), renamed.object(&slot_key(4)));
    check("a file under another name", &renamed);
}

#[test]
fn r35_a_unit_that_was_cut_off_is_done_again_and_those_done_stay() {
    let mut chain = Chain::new();
    chain.image(4, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
    chain.run(40);
    let reads = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&reads);
    let store = Meddler::new(chain.store.clone()).on(move |verb, _| {
        let fails = verb == "read" && counter.fetch_add(1, Ordering::SeqCst) % 23 == 22;
        fails.then_some(ErrorKind::Retry)
    });
    let (mut done, mut cut_off) = (0, 0);
    for _ in 0..200 {
        let listed = catalog(&chain.store).expect("listed");
        let before = listed.level(Level::new(1).expect("a level")).len();
        match step(&store, &listed, Level::SLOTS, FEW, PageEncoding::Block) {
            Ok(Step::Nothing) => break,
            Ok(_) => done += 1,
            Err(_) => {
                cut_off += 1;
                let after = catalog(&chain.store).expect("listed");
                assert_eq!(after.level(Level::new(1).expect("a level")).len(), before, "nothing half-made");
            }
        }
    }
    assert!(done >= 8 && cut_off >= 2, "{done} done, {cut_off} cut off");
    chain.remove(&(1..=41).map(slot_key).collect::<Vec<_>>());
    assert!(restored(&chain, Target::Latest) == chain.states[&41]);
}

#[test]
fn a_result_that_stands_already_is_kept_if_equal_and_refused_if_not() {
    let mut chain = Chain::new();
    chain.image(2, &[(1, 1), (2, 1)]);
    chain.run(3);
    let listed = catalog(&chain.store).expect("listed");
    step(&chain.store, &listed, Level::SLOTS, FEW, PageEncoding::Block).expect("promoted");
    let stale = catalog(&chain.store).expect("listed");
    let Ok(Step::Merged(first)) = step(&chain.store, &stale, Level::SLOTS, FEW, PageEncoding::Block) else {
        panic!("not merged")
    };
    let Ok(Step::Merged(second)) = step(&chain.store, &stale, Level::SLOTS, FEW, PageEncoding::Block) else {
        panic!("not merged")
    };
    assert_eq!((first.existed, second.existed, first.file), (false, true, second.file));
    chain.put(first.key, chain.object(&slot_key(2)));
    let error =
        step(&chain.store, &stale, Level::SLOTS, FEW, PageEncoding::Block).expect_err("another content");
    assert!(matches!(error, MergeError::Exists(key) if key == first.key), "{error}");
}

#[test]
fn r32_a_hole_stops_compaction_until_a_snapshot_bridges_it() {
    let mut chain = Chain::new();
    chain.image(2, &[(1, 1), (2, 1)]);
    chain.run(6);
    chain.remove(&[slot_key(4)]);
    let steps = {
        let mut steps = Vec::new();
        loop {
            let listed = catalog(&chain.store).expect("listed");
            match step(&chain.store, &listed, Level::SLOTS, FEW, PageEncoding::Block).expect("compacts") {
                Step::Hole(hole) => {
                    steps.push(hole);
                    break steps;
                }
                Step::Nothing => break steps,
                _ => {}
            }
        }
    };
    assert_eq!(steps, [range(4, 4)]);
    chain.snapshot();
    chain.run(1);
    compact_all(&chain, 0, FEW);
    assert!(restored(&chain, Target::Latest) == chain.states[&8]);
}

#[test]
fn r67_many_inputs_share_one_read_ahead() {
    let mut chain = Chain::new();
    chain.image(2, &[(1, 1), (2, 1)]);
    chain.run(200);
    let store = Meddler::new(chain.store.clone());
    let listed = catalog(&chain.store).expect("listed");
    step(&store, &listed, Level::SLOTS, Limits::USUAL, PageEncoding::Block).expect("promoted");
    let listed = catalog(&chain.store).expect("listed");
    step(&store, &listed, Level::SLOTS, Limits::USUAL, PageEncoding::Block).expect("merged");
    let largest = store.largest_read.load(Ordering::SeqCst);
    assert!(largest <= 8 << 20, "{largest}");
    let reads = store.reads.load(Ordering::SeqCst);
    assert!(reads <= 2 * 201 + 4, "{reads} requests for 201 small slots, looked at twice");
}
