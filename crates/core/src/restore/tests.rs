use super::*;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec;
use litekeep_formats::Level;
use proptest::prelude::*;

/// `level:min-max` or `level:txid`, with `@time` when it matters.
fn file(text: &str) -> LtxFile {
    let (name, time) = text.split_once('@').unwrap_or((text, "0"));
    let (level, range) = name.split_once(':').expect("level:range");
    let (min, max) = range.split_once('-').unwrap_or((range, range));
    let txid = |text: &str| Txid::new(text.parse().expect("a number")).expect("not zero");
    LtxFile {
        level: Level::new(level.parse().expect("a level")).expect("0 to 9"),
        range: TxidRange::new(txid(min), txid(max)).expect("min <= max"),
        size: 1,
        modified: TimestampMs(time.parse().expect("a time")),
        timestamp: None,
    }
}

fn catalog(text: &str) -> Catalog {
    text.split_whitespace().map(file).collect()
}

fn show(plan: Result<Plan, NoPlan>) -> Result<String, String> {
    plan.map(|plan| {
        let files = plan.files.iter().map(|file| {
            alloc::format!("{}:{}-{}", file.level, file.range.min().get(), file.range.max().get())
        });
        files.collect::<Vec<_>>().join(" ")
    })
    .map_err(|no| no.to_string())
}

fn txid(id: u64) -> Txid {
    Txid::new(id).expect("not zero")
}

#[test]
fn the_newest_state_is_planned_or_the_hole_is_named() {
    let hex = |id: u64| alloc::format!("{id:016x}");
    for (files, expected) in [
        ("0:1", Ok("0:1-1")),
        ("9:1-5 0:6", Ok("9:1-5 0:6-6")),
        ("9:1-5 9:1-8 0:6 0:7 0:8 0:9", Ok("9:1-8 0:9-9")),
        ("0:1 0:2 0:3 1:1-3", Ok("1:1-3")),
        ("9:1-4 1:1-6 1:7-9 2:1-9 0:9 0:10", Ok("2:1-9 0:10-10")),
        ("9:1-1 1:2-5 0:6", Ok("9:1-1 1:2-5 0:6-6")),
        ("9:1-3 1:2-5 0:6", Ok("9:1-3 1:2-5 0:6-6")),
        ("9:1-2 1:3-9 1:3-6 1:7-12", Ok("9:1-2 1:3-9 1:7-12")),
        ("9:1-4 0:6", Err((5, 5, Some(4)))),
        ("0:2 0:3", Err((1, 1, None))),
        ("0:1 0:2 0:4 0:5 0:9", Err((3, 3, Some(2)))),
        ("9:1-12 2:7-18 0:1 0:2 0:3", Ok("9:1-12 2:7-18")),
    ] {
        let expected = match expected {
            Ok(plan) => Ok(String::from(plan)),
            Err((first, last, before)) => Err(match before {
                Some(before) => alloc::format!(
                    "non-contiguous ltx files: none covers {}-{}; the nearest restorable point is -txid {}",
                    hex(first),
                    hex(last),
                    hex(before)
                ),
                None => {
                    alloc::format!(
                        "non-contiguous ltx files: none covers {}-{}; nothing can be restored",
                        hex(first),
                        hex(last)
                    )
                }
            }),
        };
        assert_eq!(show(plan_latest(&catalog(files))), expected, "{files}");
    }
    assert_eq!(plan_latest(&Catalog::default()), Err(NoPlan::Empty));
}

#[test]
fn a_txid_is_planned_exactly_or_its_neighbours_are_named() {
    let files = "9:1-4 1:5-8 0:9 0:10 0:13 9:1-14";
    for (wanted, expected) in [
        (4, Ok("9:1-4")),
        (8, Ok("9:1-4 1:5-8")),
        (10, Ok("9:1-4 1:5-8 0:9-9 0:10-10")),
        (14, Ok("9:1-14")),
        (2, Err(NoPlan::TxidNotAvailable { wanted: txid(2), nearest: near(0, 4) })),
        (6, Err(NoPlan::TxidNotAvailable { wanted: txid(6), nearest: near(4, 8) })),
        (15, Err(NoPlan::TxidNotAvailable { wanted: txid(15), nearest: near(14, 0) })),
        (13, Err(NoPlan::Gap { missing: range(11, 12), nearest: near(10, 14) })),
    ] {
        let found = plan_txid(&catalog(files), txid(wanted));
        match expected {
            Ok(plan) => assert_eq!(show(found), Ok(plan.into()), "{wanted}"),
            Err(no) => assert_eq!(found, Err(no), "{wanted}"),
        }
    }
}

fn near(before: u64, after: u64) -> Nearest {
    Nearest { before: Txid::new(before), after: Txid::new(after) }
}

fn range(min: u64, max: u64) -> TxidRange {
    TxidRange::new(txid(min), txid(max)).expect("min <= max")
}

/// Runs the search with every time known.
fn at(files: &str, wanted: i64) -> Result<String, String> {
    let catalog = catalog(files);
    let points = points(&catalog);
    let times: Vec<_> = points.iter().map(|point| Some(point.file.time())).collect();
    match newest_before(&times, TimestampMs(wanted)) {
        Search::Newest(found) => show(plan_point(&catalog, found.map(|at| &points[at]))),
        Search::Ask(_) => panic!("every time is known"),
    }
}

#[test]
fn a_time_selects_the_newest_point_strictly_before_it() {
    let files = "0:1@10 0:2@20 0:3@30 9:1-2@25";
    for (wanted, expected) in [
        (11, "0:1-1"),
        (20, "0:1-1"),
        (21, "9:1-2"),
        (30, "9:1-2"),
        (31, "9:1-2 0:3-3"),
        (999, "9:1-2 0:3-3"),
    ] {
        assert_eq!(at(files, wanted), Ok(expected.into()), "{wanted}");
    }
    assert!(at(files, 10).is_err_and(|text| text.contains("timestamp does not exist")), "strictly before");
}

#[test]
fn r28_a_time_inside_a_compacted_file_falls_back_to_its_beginning() {
    // Slots 11..15 are gone by retention, 16..20 not yet; level 1 covers them all.
    let files = "9:1-5@50 1:6-10@100 1:11-20@200 0:16@160 0:17@170 0:20@200";
    assert_eq!(at(files, 165), Ok("9:1-5 1:6-10".into()));
    assert_eq!(at(files, 201), Ok("9:1-5 1:6-10 1:11-20".into()));
}

#[test]
fn a_time_past_a_hole_is_an_error_and_one_before_it_is_not() {
    let files = "9:1-5@50 0:6@60 0:8@80 0:9@90 9:1-10@100";
    assert_eq!(at(files, 75), Ok("9:1-5 0:6-6".into()));
    assert_eq!(at(files, 101), Ok("9:1-10".into()));
    let error = at(files, 95).expect_err("slot 7 is missing");
    assert!(
        error.contains("non-contiguous ltx files: none covers 0000000000000007-0000000000000007"),
        "{error}"
    );
    assert!(error.contains("0000000000000006 and -txid 000000000000000a"), "{error}");
}

#[test]
fn what_retention_left_below_the_oldest_point_is_no_hole() {
    let files = "0:4@40 0:5@50 9:1-5@50 0:6@60";
    let error = at(files, 45).expect_err("before the oldest point");
    assert!(error.contains("timestamp does not exist"), "{error}");
    assert_eq!(
        plan_txid(&catalog(files), txid(4)),
        Err(NoPlan::TxidNotAvailable { wanted: txid(4), nearest: near(0, 5) })
    );
}

#[test]
fn a_file_that_turned_out_bad_is_planned_around() {
    let all = catalog("9:1-4 9:1-8 1:5-8 0:7 0:8 0:9 2:1-8");
    assert_eq!(show(plan_latest(&all)), Ok("9:1-8 0:9-9".into()));
    let bad = |text: &str| file(text).id();
    assert_eq!(show(plan_latest(&all.without(&[bad("9:1-8")]))), Ok("2:1-8 0:9-9".into()));
    assert_eq!(
        show(plan_latest(&all.without(&[bad("9:1-8"), bad("2:1-8")]))),
        Ok("9:1-4 1:5-8 0:9-9".into())
    );
}

#[test]
fn r46_ten_thousand_files_take_two_rounds_of_questions() {
    let times: Vec<i64> = (0..10_000).map(|i| i * 10).collect();
    for wanted in [0, 5, 50_000, 99_990, 99_991, 1_000_000] {
        let mut known = vec![None; times.len()];
        let (mut rounds, mut asked) = (0, 0);
        let found = loop {
            match newest_before(&known, TimestampMs(wanted)) {
                Search::Newest(found) => break found,
                Search::Ask(which) => {
                    rounds += 1;
                    asked += which.len();
                    assert!(which.len() <= ASK_AT_ONCE);
                    for at in which {
                        assert_eq!(known[at], None, "asked twice");
                        known[at] = Some(TimestampMs(times[at]));
                    }
                }
            }
        };
        assert_eq!(found, times.iter().rposition(|time| *time < wanted), "{wanted}");
        assert!(rounds <= 2 && asked <= 300, "{rounds} rounds, {asked} questions");
    }
}

#[test]
fn a_sealed_chain_wins_over_newer_v3_files_unless_only_they_reach_back() {
    let t = |ms| Some(TimestampMs(ms));
    let both = Sides {
        ltx: true,
        sealed: true,
        ltx_newest: t(100),
        ltx_before: t(100),
        v3_newest: t(200),
        v3_before: t(150),
    };
    let time = Target::Timestamp(TimestampMs(180));
    for (name, target, sides, expected) in [
        ("sealed, v0.3 newer", Target::Latest, both, Choice::Ltx),
        ("unsealed, v0.3 newer", Target::Latest, Sides { sealed: false, ..both }, Choice::V3),
        (
            "unsealed, LTX newer",
            Target::Latest,
            Sides { sealed: false, ltx_newest: t(300), ..both },
            Choice::Ltx,
        ),
        ("a TXID is LTX", Target::Txid(Txid::FIRST), Sides { sealed: false, ..both }, Choice::Ltx),
        ("sealed, by time", time, both, Choice::Ltx),
        ("sealed, a time before the chain began", time, Sides { ltx_before: None, ..both }, Choice::V3),
        ("unsealed, by time", time, Sides { sealed: false, ..both }, Choice::V3),
        ("nothing but v0.3", Target::Latest, Sides { v3_newest: t(1), ..Sides::default() }, Choice::V3),
        ("nothing at all", Target::Latest, Sides::default(), Choice::Ltx),
    ] {
        assert_eq!(choose(target, &sides), expected, "{name}");
    }
}

fn any_catalog() -> impl Strategy<Value = Catalog> {
    let files = prop::collection::vec((0_u8..=9, 1_u64..24, 0_u64..6), 0..24);
    files.prop_map(|files| {
        files
            .into_iter()
            .map(|(level, min, more)| {
                let (min, max) = match level {
                    0 => (min, min),
                    9 => (1, min + more),
                    _ => (min, min + more),
                };
                LtxFile {
                    level: Level::new(level).expect("0 to 9"),
                    range: range(min, max),
                    size: 1,
                    modified: TimestampMs::default(),
                    timestamp: None,
                }
            })
            .collect()
    })
}

/// Every state that any sequence of files leads to, by brute force.
fn reachable(catalog: &Catalog) -> BTreeSet<u64> {
    let mut states = BTreeSet::from([0]);
    loop {
        let more: BTreeSet<u64> = catalog
            .files()
            .filter(|f| states.iter().any(|s| f.range.min().get() <= s + 1 && f.range.max().get() > *s))
            .map(|f| f.range.max().get())
            .filter(|max| !states.contains(max))
            .collect();
        if more.is_empty() {
            states.remove(&0);
            return states;
        }
        states.extend(more);
    }
}

proptest! {
    #[test]
    fn restore_points_are_what_brute_force_reaches(catalog in any_catalog()) {
        let points: BTreeSet<u64> = restore_points(&catalog).into_iter().map(Txid::get).collect();
        prop_assert_eq!(points, reachable(&catalog));
    }

    #[test]
    fn every_restore_point_has_a_contiguous_plan(catalog in any_catalog()) {
        for point in restore_points(&catalog) {
            let plan = plan_txid(&catalog, point).expect("a restore point has a plan");
            let mut state = 0;
            for file in &plan.files {
                prop_assert!(file.range.min().get() <= state + 1 && file.range.max().get() > state);
                state = file.range.max().get();
            }
            prop_assert_eq!(state, point.get());
            prop_assert!(plan.files[0].range.is_snapshot());
        }
    }

    #[test]
    fn latest_is_the_newest_state_or_an_error(catalog in any_catalog()) {
        let newest = catalog.newest();
        match plan_latest(&catalog) {
            Ok(plan) => prop_assert_eq!(Some(plan.txid), newest),
            Err(NoPlan::Empty) => prop_assert!(catalog.is_empty()),
            Err(NoPlan::Gap { missing, nearest }) => {
                let covers = |f: &LtxFile| f.level != Level::SNAPSHOTS
                    && f.range.min() <= missing.min() && f.range.max() >= missing.min();
                prop_assert!(!catalog.files().any(covers), "{} is covered", missing);
                prop_assert_eq!(nearest.before, restore_points(&catalog).last().copied());
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn any_other_txid_is_refused_with_its_neighbours(catalog in any_catalog(), wanted in 1_u64..30) {
        let points = restore_points(&catalog);
        prop_assume!(points.binary_search(&txid(wanted)).is_err() && !catalog.is_empty());
        let near = match plan_txid(&catalog, txid(wanted)) {
            Err(NoPlan::Gap { nearest, .. } | NoPlan::TxidNotAvailable { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        prop_assert!(near.before.is_none_or(|before| before < txid(wanted) && points.contains(&before)));
        prop_assert!(near.after.is_none_or(|after| after > txid(wanted) && points.contains(&after)));
    }

    #[test]
    fn a_search_by_time_is_exact_where_times_never_go_back(
        steps in prop::collection::vec(0_i64..4, 0..1200), wanted in 0_i64..2500,
    ) {
        let times: Vec<i64> = steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
        let mut known = vec![None; times.len()];
        let found = loop {
            match newest_before(&known, TimestampMs(wanted)) {
                Search::Newest(found) => break found,
                Search::Ask(which) => which.into_iter().for_each(|at| known[at] = Some(TimestampMs(times[at]))),
            }
        };
        prop_assert_eq!(found, times.iter().rposition(|time| *time < wanted));
    }

    #[test]
    fn where_times_go_back_the_answer_still_lies_before_and_its_successor_does_not(
        times in prop::collection::vec(0_i64..100, 0..1200), wanted in 0_i64..101,
    ) {
        let mut known = vec![None; times.len()];
        let found = loop {
            match newest_before(&known, TimestampMs(wanted)) {
                Search::Newest(found) => break found,
                Search::Ask(which) => which.into_iter().for_each(|at| known[at] = Some(TimestampMs(times[at]))),
            }
        };
        prop_assert!(found.is_none_or(|at| times[at] < wanted));
        let next = found.map_or(0, |at| at + 1);
        prop_assert!(times.get(next).is_none_or(|time| *time >= wanted));
    }
}
