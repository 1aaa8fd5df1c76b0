use super::*;
use alloc::vec;

fn snapshot(generation: u64, index: u32, time: i64) -> Snapshot {
    Snapshot { generation, index, size: 100, time: TimestampMs(time) }
}

fn segment(index: u32, offset: u64, time: i64) -> Segment {
    Segment { index, offset, size: 10, time: TimestampMs(time) }
}

/// Generation 1: snapshots 0 @10 and 2 @50; WALs 0 @20,30; 1 @40; 2 @60,70. Generation 2: snapshot 0 @100, WAL 0 @110.
fn two() -> Vec<Generation> {
    vec![
        Generation {
            id: 1,
            snapshots: vec![snapshot(1, 0, 10), snapshot(1, 2, 50)],
            segments: vec![
                segment(0, 0, 20),
                segment(0, 4152, 30),
                segment(1, 0, 40),
                segment(2, 0, 60),
                segment(2, 0x1_1a6b_fa58, 70),
            ],
        },
        Generation { id: 2, snapshots: vec![snapshot(2, 0, 100)], segments: vec![segment(0, 0, 110)] },
    ]
}

/// Generation, snapshot, and each WAL with its number of segments.
type Shape = (u64, u32, Vec<(u32, usize)>);

fn shape(plan: Result<Plan, NoPlan>) -> Result<Shape, NoPlan> {
    plan.map(|plan| {
        let wals = plan.wals.iter().map(|wal| (wal[0].index, wal.len())).collect();
        (plan.snapshot.generation, plan.snapshot.index, wals)
    })
}

#[test]
fn targets_choose_generation_snapshot_and_segments_as_0_3_13_does() {
    let time = |ms| Target::Timestamp(TimestampMs(ms));
    for (name, generation, target, expected) in [
        ("latest is the newest generation", None, Target::Latest, Ok((2, 0, vec![(0, 1)]))),
        ("a named generation", Some(1), Target::Latest, Ok((1, 2, vec![(2, 2)]))),
        ("a time inside the first", None, time(40), Ok((1, 0, vec![(0, 2), (1, 1)]))),
        ("a time between two segments", None, time(25), Ok((1, 0, vec![(0, 1)]))),
        ("just the snapshot", None, time(15), Ok((1, 0, vec![]))),
        ("the later snapshot", None, time(55), Ok((1, 2, vec![]))),
        ("between the generations", None, time(90), Ok((1, 2, vec![(2, 2)]))),
        ("past everything", None, time(999), Ok((2, 0, vec![(0, 1)]))),
        ("before everything", None, time(9), Err(NoPlan::NothingBefore)),
        ("an index", Some(1), Target::Index(1), Ok((1, 0, vec![(0, 2), (1, 1)]))),
        (
            "an index that is not there",
            Some(1),
            Target::Index(7),
            Err(NoPlan::IndexNotAvailable { generation: 1, wanted: 7, last: 2 }),
        ),
        ("a generation that is not there", Some(9), Target::Latest, Err(NoPlan::NoSnapshot)),
    ] {
        assert_eq!(shape(plan(&two(), generation, target)), expected, "{name}");
    }
}

#[test]
fn an_older_generation_that_got_later_wal_wins_as_in_0_3_13() {
    let mut all = two();
    all[0].segments.push(segment(3, 0, 500));
    assert_eq!(shape(plan(&all, None, Target::Latest)), Ok((1, 2, vec![(2, 2), (3, 1)])));
}

#[test]
fn r42_what_is_missing_is_named() {
    let check = |name: &str, remove: (u32, u64), expected: NoPlan| {
        let mut all = two();
        all[0].snapshots.pop();
        all[0].segments.retain(|s| (s.index, s.offset) != remove);
        let found = plan(&all, Some(1), Target::Latest);
        assert_eq!(found, Err(expected), "{name}");
        assert!(expected.is_gap(), "{name}");
    };
    check(
        "the first segment of the first WAL",
        (0, 0),
        NoPlan::FirstSegmentMissing { generation: 1, index: 0, offset: 4152 },
    );
    check("a whole WAL", (1, 0), NoPlan::IndexMissing { generation: 1, missing: 1, found: 2 });
    check(
        "the first segment of the last WAL (R40: the other one's offset has nine digits)",
        (2, 0),
        NoPlan::FirstSegmentMissing { generation: 1, index: 2, offset: 0x1_1a6b_fa58 },
    );
}

#[test]
fn r42_the_first_wal_after_a_snapshot_may_not_be_missing() {
    let mut all = two();
    all[0].snapshots.pop();
    all[0].segments.retain(|s| s.index != 0);
    assert_eq!(
        plan(&all, Some(1), Target::Latest),
        Err(NoPlan::IndexMissing { generation: 1, missing: 0, found: 1 })
    );
}

#[test]
fn r40_segments_with_more_than_eight_hex_digits_come_in_their_numeric_order() {
    let mut all = two();
    let gib = 1 << 30;
    all[1].segments =
        [9 * gib, 0, gib, 0x1_1a6b_fa58, 3 * gib].map(|offset| segment(0, offset, 110)).to_vec();
    let plan = plan(&all, None, Target::Latest).expect("planned");
    let offsets: Vec<u64> = plan.wals[0].iter().map(|segment| segment.offset).collect();
    assert_eq!(offsets, [0, gib, 3 * gib, 0x1_1a6b_fa58, 9 * gib]);
}
