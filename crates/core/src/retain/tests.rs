use super::*;
use crate::restore::{Search, newest_before, plan_point, points};
use alloc::vec;
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const USUAL: Policy =
    Policy { window: Duration::from_secs(24 * 60 * 60), slots: Some(Duration::from_secs(300)) };

fn file((level, min, max, minutes): (u8, u64, u64, i64)) -> LtxFile {
    let txid = |id| Txid::new(id).expect("not zero");
    LtxFile {
        level: Level::new(level).expect("0 to 9"),
        range: TxidRange::new(txid(min), txid(max)).expect("min <= max"),
        size: 1,
        modified: TimestampMs(minutes * MINUTE),
        timestamp: Some(TimestampMs(minutes * MINUTE)),
    }
}

fn catalog(files: &[(u8, u64, u64, i64)]) -> Catalog {
    files.iter().map(|f| file(*f)).collect()
}

fn shape(plan: &Plan) -> Vec<(u8, u64, u64)> {
    let name = |d: &Deletion| (d.file.level.get(), d.file.range.min().get(), d.file.range.max().get());
    plan.deletions.iter().map(name).collect()
}

#[test]
fn slots_go_when_level_1_has_them_and_they_are_old_enough() {
    let slots = [(0, 1, 1, 0), (0, 2, 2, 1), (0, 3, 3, 2), (0, 4, 4, 3)];
    let check = |name: &str,
                 more: &[(u8, u64, u64, i64)],
                 slots_for: Option<u64>,
                 now: i64,
                 expected: &[(u8, u64, u64)]| {
        let catalog = catalog(&[&slots[..], more].concat());
        let policy = Policy { slots: slots_for.map(Duration::from_secs), ..USUAL };
        let plan = plan(&catalog, &policy, TimestampMs(now * MINUTE));
        assert_eq!(shape(&plan), expected, "{name}");
        assert_eq!(prove(&catalog, &plan), Ok(()), "{name}");
    };
    let level_1 = [(1, 1, 2, 1), (1, 3, 4, 3)];
    check("nothing is compacted", &[], Some(300), 99, &[]);
    check("the newest stays", &level_1, Some(300), 99, &[(0, 3, 3), (0, 2, 2), (0, 1, 1)]);
    check("only what is in level 1", &level_1[..1], Some(300), 99, &[(0, 2, 2), (0, 1, 1)]);
    check("only what is old", &level_1, Some(300), 6, &[(0, 2, 2), (0, 1, 1)]);
    check("R39: none for ever", &level_1, None, 99, &[]);
    check("never before 180 s, whatever is asked", &level_1, Some(1), 2, &[]);
    check("one of a level 1 file's slots is too young", &level_1, Some(1), 3, &[]);
    check("at 180 s", &level_1, Some(1), 4, &[(0, 2, 2), (0, 1, 1)]);
    check(
        "an image whose snapshot stands",
        &[(9, 1, 1, 0), (1, 2, 4, 3)],
        Some(300),
        99,
        &[(0, 3, 3), (0, 2, 2), (0, 1, 1)],
    );
    check("an image without its snapshot", &[(1, 2, 4, 3)], Some(300), 99, &[(0, 3, 3), (0, 2, 2)]);
}

#[test]
fn an_image_that_level_1_passed_over_without_its_snapshot_is_what_the_chain_needs() {
    let catalog = catalog(&[(0, 1, 1, 0), (0, 2, 2, 1), (0, 3, 3, 1), (1, 2, 3, 1)]);
    let plan = plan(&catalog, &USUAL, TimestampMs(99 * MINUTE));
    assert_eq!(shape(&plan), [(0, 2, 2)]);
    assert_eq!(prove(&catalog, &plan), Ok(()));
}

#[test]
fn a_slot_that_came_late_into_a_freed_name_is_removed_when_it_is_old_and_told_from_the_others() {
    // 1 to 4 were merged at minute 4 and deleted; what a dead process had sent as 3 arrived at minute 20.
    let catalog = catalog(&[(0, 3, 3, 20), (0, 5, 5, 5), (0, 6, 6, 6), (1, 1, 4, 4), (1, 5, 6, 6)]);
    let late = |now: i64| {
        let plan = plan(&catalog, &USUAL, TimestampMs(now * MINUTE));
        assert_eq!(prove(&catalog, &plan), Ok(()));
        plan.deletions.iter().map(|d| (d.file.range.max().get(), d.reason)).collect::<Vec<_>>()
    };
    assert_eq!(late(21), []);
    assert_eq!(late(26), [(5, Reason::Compacted), (3, Reason::CameLate)]);
}

#[test]
fn r27_the_snapshot_before_the_window_stays_and_one_more() {
    let day = 24 * 60;
    let files: Vec<(u8, u64, u64, i64)> = (1..=6_i64)
        .flat_map(|n| {
            let end = u64::try_from(n).expect("small") * 10;
            [
                (9, 1, end, n * day),
                (3, end - 9, end, n * day),
                (1, end - 9, end - 5, n * day - 30),
                (1, end - 4, end, n * day),
            ]
        })
        .chain([(0, 61, 61, 6 * day + 1)])
        .collect();
    let catalog = catalog(&files);
    let plan = plan(&catalog, &USUAL, TimestampMs(6 * DAY + 100 * MINUTE));
    assert_eq!(prove(&catalog, &plan), Ok(()));
    let kept = catalog.without(&plan.deletions.iter().map(|d| d.file.id()).collect::<Vec<_>>());
    let snapshots: Vec<u64> = kept.snapshots().iter().map(|f| f.range.max().get()).collect();
    // The window begins on day 5, after snapshot 50; a restore planned before that may still hold 40.
    assert_eq!(snapshots, [40, 50, 60]);
    assert!(kept.files().filter(|f| f.level.get() < 9).all(|f| f.range.max().get() >= 40));
    let points: Vec<u64> = restore_points(&kept).into_iter().map(Txid::get).collect();
    assert_eq!(points, [40, 45, 50, 55, 60, 61]);
}

#[test]
fn one_snapshot_always_stays_however_old() {
    let catalog = catalog(&[(9, 1, 5, 0), (9, 1, 9, 1), (0, 9, 9, 1)]);
    let plan = plan(&catalog, &USUAL, TimestampMs(99 * DAY));
    assert!(shape(&plan).is_empty());
    let catalog = super::tests::catalog(&[(9, 1, 5, 0), (9, 1, 7, 1), (9, 1, 9, 1), (0, 9, 9, 1)]);
    let plan = super::plan(&catalog, &USUAL, TimestampMs(99 * DAY));
    assert_eq!(shape(&plan), [(9, 1, 5)], "the one before the newest may be in use");
}

#[test]
fn the_proof_refuses_a_plan_that_loses_what_is_promised() {
    let catalog = catalog(&[(9, 1, 5, 0), (1, 6, 8, 1), (0, 8, 8, 1), (0, 9, 9, 1)]);
    let right = plan(&catalog, &USUAL, TimestampMs(9 * MINUTE));
    assert_eq!(prove(&catalog, &right), Ok(()));
    for (lost, expected) in [((9, 1, 5, 0), 5), ((1, 6, 8, 1), 8), ((0, 9, 9, 1), 9)] {
        let mut wrong = right.clone();
        wrong.deletions.push(Deletion { file: file(lost), reason: Reason::BeforeWindow });
        let expected = Txid::new(expected).expect("not zero");
        assert_eq!(prove(&catalog, &wrong), Err(Lost(expected)));
    }
}

/// A replica's history: slots at intervals, compaction after so many of them, snapshots now and then, retention at
/// some moments. Returns the catalogue after each step with its time.
#[derive(Debug, Clone)]
struct History {
    gaps: Vec<u8>,
    fold: (usize, usize),
    snapshot_every: usize,
    retain_every: usize,
    window_minutes: u8,
    images: Vec<bool>,
}

fn histories() -> impl Strategy<Value = History> {
    (
        prop::collection::vec(1_u8..20, 20..90),
        (2_usize..6, 2_usize..4),
        3_usize..30,
        1_usize..9,
        1_u8..120,
        prop::collection::vec(prop::bool::weighted(0.05), 90),
    )
        .prop_map(|(gaps, fold, snapshot_every, retain_every, window_minutes, images)| History {
            gaps,
            fold,
            snapshot_every,
            retain_every,
            window_minutes,
            images,
        })
}

/// Merges `from` into `from + 1` as the compactor does, past bridged holes.
fn fold(catalog: &mut Catalog, from: u8, count: usize, images: &[u64]) {
    use crate::compact::{Limits, Next, next_unit};
    let bridged: Vec<Txid> = images.iter().filter_map(|id| Txid::new(*id)).collect();
    let level = Level::new(from).expect("a level");
    while let Next::Unit(unit) =
        next_unit(catalog, level, Limits { inputs: count, bytes: u64::MAX }, &bridged)
    {
        if unit.inputs.len() < count {
            break;
        }
        let last = unit.inputs[unit.inputs.len() - 1];
        catalog.insert(LtxFile { level: unit.to, range: unit.range().expect("inputs"), ..last });
    }
}

/// Runs a history; `check` sees each retention round.
fn run(history: &History, mut check: impl FnMut(&Catalog, &Plan, &Policy, TimestampMs)) -> Catalog {
    let mut catalog = Catalog::default();
    let mut now = 0;
    let mut images = vec![1];
    let policy = Policy {
        window: Duration::from_secs(u64::from(history.window_minutes) * 60),
        slots: Some(Duration::from_secs(300)),
    };
    for (step, gap) in history.gaps.iter().enumerate() {
        let id = step as u64 + 1;
        now += i64::from(*gap);
        catalog.insert(file((0, id, id, now)));
        if id == 1 || history.images[step] {
            images.push(id);
            catalog.insert(file((9, 1, id, now)));
        }
        fold(&mut catalog, 0, history.fold.0, &images);
        fold(&mut catalog, 1, history.fold.1, &images);
        if step % history.snapshot_every == 0 {
            catalog.insert(file((9, 1, id, now)));
        }
        if step % history.retain_every == 0 {
            let at = TimestampMs(now * MINUTE);
            let plan = plan(&catalog, &policy, at);
            check(&catalog, &plan, &policy, at);
            catalog = catalog.without(&plan.deletions.iter().map(|d| d.file.id()).collect::<Vec<_>>());
        }
    }
    catalog
}

/// The newest point strictly before a time.
fn at(catalog: &Catalog, wanted: i64) -> Option<Txid> {
    let points = points(catalog);
    let times: Vec<_> = points.iter().map(|point| point.file.timestamp).collect();
    match newest_before(&times, TimestampMs(wanted)) {
        Search::Newest(found) => plan_point(catalog, found.map(|at| &points[at])).ok().map(|plan| plan.txid),
        Search::Ask(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_plan_is_proven_and_safe_to_stop_anywhere(history in histories()) {
        run(&history, |catalog, plan, _, _| {
            assert_eq!(prove(catalog, plan), Ok(()));
            for count in (0..=plan.deletions.len()).step_by(1 + plan.deletions.len() / 8) {
                let partly = Plan { deletions: plan.deletions[..count].to_vec(), ..plan.clone() };
                assert_eq!(prove(catalog, &partly), Ok(()), "stopped after {count}");
            }
        });
    }

    #[test]
    fn r30_the_levels_cover_everything_from_the_oldest_snapshot_to_the_newest_slot(history in histories()) {
        let catalog = run(&history, |_, _, _, _| ());
        let newest = Txid::new(history.gaps.len() as u64);
        let points = restore_points(&catalog);
        prop_assert_eq!(points.last().copied(), newest);
        let oldest = catalog.snapshots().first().expect("one always stays").range.max();
        for file in catalog.files().filter(|file| file.range.max() >= oldest) {
            prop_assert!(points.binary_search(&file.range.max()).is_ok(), "{} cannot be restored", file.range);
        }
    }

    #[test]
    fn r28_every_moment_of_the_window_restores_to_what_the_levels_held(history in histories()) {
        run(&history, |catalog, plan, policy, now| {
            let kept = catalog.without(&plan.deletions.iter().map(|d| d.file.id()).collect::<Vec<_>>());
            let window = i64::try_from(policy.window.as_millis()).expect("fits");
            let first = catalog.snapshots().first().expect("one").time().0;
            for minute in 0..=window / MINUTE {
                let wanted = now.0 - window + minute * MINUTE + 1;
                if wanted <= first {
                    continue;
                }
                let (before, after) = (at(catalog, wanted), at(&kept, wanted));
                assert!(after.is_some(), "{wanted} was {before:?} and is gone");
                // Coarser only as far as slots were let go in favour of level 1.
                let boundary = |txid: Txid| catalog.files().any(|f| f.level.get() > 0 && f.range.max() == txid);
                if before.is_some_and(boundary) {
                    assert_eq!(after, before, "{wanted}");
                }
            }
        });
    }
}
