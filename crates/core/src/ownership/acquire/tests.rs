//! A newcomer's ways as tables: at this time it asks for this, and hears that.

use super::super::Claimed;
use super::*;
use alloc::vec;
use alloc::vec::Vec;
use litekeep_formats::TimestampMs;

const TIMES: Times = Times {
    tenure: Duration::from_secs(2),
    hand_over: Duration::from_secs(5),
    horizon: Duration::from_secs(60),
};

fn at(ms: u64) -> Moment {
    let store = i64::try_from(ms).expect("small");
    Moment { boot: Duration::from_millis(ms), store: Some(TimestampMs(store)) }
}

fn epoch(n: u64) -> Epoch {
    Epoch::new(n).expect("not zero")
}

fn txid(n: u64) -> Txid {
    Txid::new(n).expect("not zero")
}

fn open(n: u64) -> Claimed {
    Claimed { epoch: epoch(n), at: Some(TimestampMs(0)), opened: true, closed: None, gone: false }
}

fn claim(n: u64, at: i64) -> Claimed {
    Claimed { at: Some(TimestampMs(at)), opened: false, ..open(n) }
}

fn closed(n: u64, txid: u64) -> Claimed {
    Claimed { closed: Some(txid), ..open(n) }
}

fn tip(n: u64, sealed: u64) -> Heard {
    Heard::CaughtUp { tip: Txid::new(n), epoch: Epoch::new(sealed) }
}

fn listed(records: &[Claimed]) -> Heard {
    Heard::Epochs(Epochs { records: records.to_vec(), sealed: None })
}

fn free() -> Heard {
    Heard::Looked(Look::default())
}

fn taken() -> Heard {
    Heard::Looked(Look { taken: true, ..Look::default() })
}

fn higher(n: u64) -> Heard {
    Heard::Looked(Look { higher: Some(epoch(n)), ..Look::default() })
}

/// At this time it wants that; and then it hears this, in answer to a question of the same moment.
type Step = (u64, Do, Heard);

/// Up to the claim of epoch 2 at 10 s, where epoch 1 has an owner and the chain ends at 7.
fn until_claimed() -> Vec<Step> {
    vec![
        (10_000, Do::CatchUp, tip(7, 1)),
        (10_000, Do::ListEpochs, listed(&[open(1)])),
        (10_000, Do::Claim(epoch(2)), Heard::Claimed(true)),
    ]
}

/// From there until the hand-over time has passed and the old owner has not closed.
fn until_fence() -> Vec<Step> {
    let mut steps = until_claimed();
    steps.extend([
        (10_000, Do::ListEpochs, listed(&[open(1), claim(2, 10_000)])),
        (15_000, Do::CatchUp, tip(7, 1)),
        (15_000, Do::ListEpochs, listed(&[open(1), claim(2, 10_000)])),
        (15_000, Do::Prove(txid(8)), free()),
    ]);
    steps
}

fn check(name: &str, before: Vec<Step>, steps: Vec<Step>, end: (u64, Do)) {
    let mut acquire = Acquire::new(TIMES, at(10_000).boot);
    for (number, (time, wants, heard)) in before.into_iter().chain(steps).enumerate() {
        assert_eq!(acquire.next(&at(time)), wants, "{name}, step {}", number + 1);
        acquire.hear(heard, at(time), &at(time));
    }
    assert_eq!(acquire.next(&at(end.0)), end.1, "{name}, at the end");
}

#[test]
fn a_newcomer_owns_what_was_closed_at_the_end_of_the_chain() {
    let both = |txid| listed(&[closed(1, txid), claim(2, 10_000)]);
    check(
        "the owner puts its tail, closes, and is followed",
        until_claimed(),
        vec![
            (10_000, Do::ListEpochs, listed(&[open(1), claim(2, 10_000)])),
            (10_000, Do::CatchUp, tip(7, 1)),
            (10_000, Do::Wait(POLL), tip(7, 1)),
            (10_100, Do::ListEpochs, both(9)),
            (10_100, Do::CatchUp, tip(9, 1)),
            (10_100, Do::ListEpochs, both(9)),
            (10_100, Do::Prove(txid(10)), free()),
        ],
        (10_200, Do::Own(epoch(2), at(10_100))),
    );
    check(
        "it had closed before",
        until_claimed(),
        vec![(10_000, Do::ListEpochs, both(7)), (10_050, Do::Prove(txid(8)), free())],
        (10_100, Do::Own(epoch(2), at(10_050))),
    );
    check(
        "the chain goes on before the proof",
        until_claimed(),
        vec![
            (10_000, Do::ListEpochs, both(7)),
            (10_050, Do::Prove(txid(8)), taken()),
            (10_060, Do::CatchUp, tip(8, 1)),
            (10_160, Do::Prove(txid(9)), free()),
        ],
        (10_170, Do::Own(epoch(2), at(10_160))),
    );
}

#[test]
fn an_owner_that_does_not_close_is_fenced_after_the_hand_over_time() {
    let fence = (15_010, Do::Fence(epoch(2), txid(8)), Heard::Fenced(true));
    check("dead", until_fence(), vec![fence], (15_020, Do::Own(epoch(2), at(15_010))));
    check(
        "a late write stands in the fence's name",
        until_fence(),
        vec![
            (15_010, Do::Fence(epoch(2), txid(8)), Heard::Fenced(false)),
            (15_020, Do::CatchUp, tip(8, 1)),
            (15_020, Do::Prove(txid(9)), free()),
            (15_030, Do::Fence(epoch(2), txid(9)), Heard::Fenced(true)),
        ],
        (15_040, Do::Own(epoch(2), at(15_030))),
    );
    check(
        "a former life of this machine is not waited for",
        vec![
            (10_000, Do::CatchUp, tip(7, 1)),
            (
                10_000,
                Do::ListEpochs,
                listed(&[Claimed { gone: true, at: Some(TimestampMs(9_999)), ..open(1) }]),
            ),
            (10_000, Do::Claim(epoch(2)), Heard::Claimed(true)),
        ],
        vec![
            (10_000, Do::ListEpochs, listed(&[Claimed { gone: true, ..open(1) }, claim(2, 10_000)])),
            (10_000, Do::Prove(txid(8)), free()),
            (10_010, Do::Fence(epoch(2), txid(8)), Heard::Fenced(true)),
        ],
        (10_020, Do::Own(epoch(2), at(10_010))),
    );
    check(
        "an empty chain has nothing to stand on: its first slot is the fence",
        vec![
            (10_000, Do::CatchUp, tip(0, 0)),
            (10_000, Do::ListEpochs, listed(&[claim(1, 0)])),
            (10_000, Do::Claim(epoch(2)), Heard::Claimed(true)),
        ],
        vec![
            (15_000, Do::ListEpochs, listed(&[claim(1, 0), claim(2, 10_000)])),
            (15_000, Do::Prove(txid(1)), free()),
        ],
        (15_100, Do::Own(epoch(2), at(15_000))),
    );
}

#[test]
fn a_fence_counts_by_the_age_of_the_proof_when_its_answer_arrives() {
    for (name, answered, stage) in [
        ("just inside the horizon", at(74_999), Do::Own(epoch(2), at(15_010))),
        ("at the horizon", at(75_000), Do::Prove(txid(8))),
        ("only the store's clock tells", Moment { boot: at(15_020).boot, ..at(75_000) }, Do::Prove(txid(8))),
    ] {
        let mut acquire = Acquire::new(TIMES, at(10_000).boot);
        for (time, wants, heard) in until_fence() {
            assert_eq!(acquire.next(&at(time)), wants, "{name}");
            acquire.hear(heard, at(time), &at(time));
        }
        acquire.hear(Heard::Fenced(true), at(15_010), &answered);
        assert_eq!(acquire.next(&answered), stage, "{name}");
        if stage == Do::Prove(txid(8)) {
            let covered = Look { taken: true, covered: Some(txid(8)), ..Look::default() };
            let mut used = acquire.clone();
            used.hear(Heard::Looked(covered), at(76_000), &at(76_001));
            let gave_up = Do::GiveUp { ours: Some(epoch(2)), theirs: None };
            assert_eq!(used.next(&at(76_001)), gave_up, "{name}, and the name was used before");
            acquire.hear(taken(), at(76_000), &at(76_001));
            assert_eq!(acquire.next(&at(76_001)), Do::Own(epoch(2), at(76_000)), "{name}, and it is ours");
        }
    }
}

#[test]
fn a_higher_claim_ends_a_newcomers_way_at_every_stage() {
    let gave_up = Do::GiveUp { ours: Some(epoch(2)), theirs: Some(epoch(3)) };
    let three = || listed(&[open(1), claim(2, 10_000), claim(3, 12_000)]);
    let waits = vec![(10_000, Do::ListEpochs, three())];
    check("in the records", until_claimed(), waits, (10_001, gave_up));
    let sealed = Heard::Epochs(Epochs { records: vec![open(1), claim(2, 10_000)], sealed: Some(epoch(3)) });
    check("in a seal", until_claimed(), vec![(10_000, Do::ListEpochs, sealed)], (10_001, gave_up));
    let follows = vec![
        (10_000, Do::ListEpochs, listed(&[open(1), claim(2, 10_000)])),
        (10_100, Do::CatchUp, tip(8, 3)),
    ];
    check("in a slot that was followed", until_claimed(), follows, (10_101, gave_up));
    let proves = vec![
        (10_000, Do::ListEpochs, listed(&[closed(1, 7), claim(2, 10_000)])),
        (10_100, Do::Prove(txid(8)), higher(3)),
    ];
    check("at the proof", until_claimed(), proves, (10_101, gave_up));
    let refused =
        vec![(15_010, Do::Fence(epoch(2), txid(8)), Heard::Fenced(false)), (15_020, Do::CatchUp, tip(8, 3))];
    check("in the fence's name", until_fence(), refused, (15_021, gave_up));
    let late = |heard| {
        let mut acquire = Acquire::new(TIMES, at(10_000).boot);
        until_fence().into_iter().for_each(|(time, _, heard)| acquire.hear(heard, at(time), &at(time)));
        acquire.hear(Heard::Fenced(true), at(15_010), &at(80_000));
        acquire.hear(heard, at(80_000), &at(80_001));
        acquire.next(&at(80_001))
    };
    assert_eq!(late(higher(3)), gave_up, "while a late fence is looked at");
}

#[test]
fn nobody_claims_before_the_newest_claim_has_had_its_tenure() {
    let wait = |ms| Do::Wait(Duration::from_millis(ms));
    for (name, records, next) in [
        ("nobody was here", vec![], Do::Claim(epoch(1))),
        ("young, and not open", vec![claim(1, 9_000)], wait(1_000)),
        (
            "past its tenure, and not open: it may have to wait for others first",
            vec![claim(1, 8_000)],
            wait(100),
        ),
        ("nearly past the hand-over time as well", vec![claim(1, 3_001)], wait(1)),
        ("young, and open", vec![Claimed { at: Some(TimestampMs(8_001)), ..open(1) }], wait(1)),
        (
            "open for its tenure",
            vec![Claimed { at: Some(TimestampMs(8_000)), ..open(1) }],
            Do::Claim(epoch(2)),
        ),
        ("never opened", vec![claim(1, 3_000)], Do::Claim(epoch(2))),
        ("from the future, as the store's clock was set back", vec![claim(1, 99_000)], wait(2_000)),
        ("closed", vec![Claimed { at: Some(TimestampMs(9_999)), ..closed(1, 7) }], Do::Claim(epoch(2))),
        ("a closed one hides no younger claim", vec![closed(1, 7), claim(2, 9_500)], wait(1_500)),
        ("the claim itself is gone", vec![Claimed { at: None, ..open(4) }], Do::Claim(epoch(5))),
        (
            "far above every seal",
            vec![claim(crate::limits::EPOCH_LEAP + 1, 0)],
            Do::Damaged(epoch(crate::limits::EPOCH_LEAP + 1)),
        ),
    ] {
        let steps = vec![(10_000, Do::CatchUp, tip(7, 0)), (10_000, Do::ListEpochs, listed(&records))];
        check(name, vec![], steps, (10_000, next));
    }
    check(
        "from the future, and it has been there for its tenure",
        vec![],
        vec![
            (10_000, Do::CatchUp, tip(7, 0)),
            (10_000, Do::ListEpochs, listed(&[claim(1, 99_000)])),
            (12_000, Do::ListEpochs, listed(&[claim(1, 99_000)])),
            (12_000, Do::Wait(POLL), tip(7, 0)),
            (17_000, Do::ListEpochs, listed(&[claim(1, 99_000)])),
        ],
        (17_000, Do::Claim(epoch(2))),
    );
    check(
        "somebody was faster: their claim has its tenure",
        vec![
            (10_000, Do::CatchUp, tip(7, 1)),
            (10_000, Do::ListEpochs, listed(&[closed(1, 7)])),
            (10_000, Do::Claim(epoch(2)), Heard::Claimed(false)),
        ],
        vec![(10_100, Do::ListEpochs, listed(&[closed(1, 7), claim(2, 10_000)]))],
        (10_500, Do::Wait(Duration::from_millis(1_500))),
    );
}

/// From a first look at 10 s, at a claim of that moment: when the next one is made, and after how many looks.
fn claims(times: Times, opens_at: Option<u64>, closes_at: Option<u64>) -> (u64, usize) {
    let mut acquire = Acquire::new(times, at(10_000).boot);
    acquire.stands_at(Txid::new(7));
    let (mut time, mut looks) = (10_000, 0);
    loop {
        let now = at(time);
        match acquire.next(&now) {
            Do::Wait(pause) => time += u64::try_from(pause.as_millis()).expect("small"),
            Do::ListEpochs => {
                let opened = opens_at.is_some_and(|opens| opens <= time);
                let closed_at = closes_at.filter(|closes| *closes <= time).map(|_| 7);
                let newest = Claimed { opened, closed: closed_at, ..claim(2, 10_000) };
                acquire.hear(listed(&[closed(1, 7), newest]), now, &now);
                looks += 1;
            }
            next => {
                assert_eq!(next, Do::Claim(epoch(3)), "after {looks} looks");
                return (time, looks);
            }
        }
    }
}

/// The loser of a hand-over begins to look milliseconds before the winner opens; it waited the longer time out then.
#[test]
fn who_saw_a_claim_before_it_opened_waits_no_longer_than_its_tenure() {
    let exec = Times { tenure: Duration::from_secs(30), hand_over: Duration::from_secs(10), ..TIMES };
    let patient = Times { hand_over: Duration::from_secs(600), ..TIMES };
    for (name, times, opens_at, claimed) in [
        ("opened at the first look", TIMES, Some(10_000), (12_000, 2)),
        ("opens 10 ms after it", TIMES, Some(10_010), (12_000, 2)),
        ("opens just after its tenure", TIMES, Some(12_001), (12_100, 3)),
        ("opens long after its tenure", TIMES, Some(14_950), (15_000, 32)),
        ("never opens", TIMES, None, (17_000, 52)),
        ("opens at once, where tenure is long", exec, Some(10_010), (40_000, 16)),
        ("never opens, where tenure is long", exec, None, (50_000, 66)),
        ("never opens, where much time is given to hand over", patient, None, (612_000, 52)),
    ] {
        assert_eq!(claims(times, opens_at, None), claimed, "{name}");
    }
    assert_eq!(claims(exec, Some(10_000), Some(15_000)), (16_000, 4), "who leaves early is not waited for");
}

#[test]
fn a_closing_record_ahead_of_the_chain_is_waited_for_and_then_lost() {
    let ahead = || listed(&[closed(1, 9), claim(2, 10_000)]);
    let lost = Do::Lost { epoch: epoch(1), closed: 9, tip: 8 };
    check(
        "it never comes",
        until_claimed(),
        vec![
            (10_000, Do::ListEpochs, ahead()),
            (10_000, Do::CatchUp, tip(8, 1)),
            (10_000, Do::ListEpochs, ahead()),
            (10_000, Do::CatchUp, tip(8, 1)),
            (10_000, Do::Wait(POLL), tip(8, 1)),
            (15_000, Do::ListEpochs, ahead()),
        ],
        (15_000, lost),
    );
    check(
        "the record is read after the hand-over time: the chain is followed once more first",
        until_claimed(),
        vec![
            (16_000, Do::ListEpochs, ahead()),
            (16_000, Do::CatchUp, tip(9, 1)),
            (16_000, Do::ListEpochs, ahead()),
            (16_000, Do::Prove(txid(10)), free()),
        ],
        (16_001, Do::Own(epoch(2), at(16_000))),
    );
    let never = Claimed { opened: false, ..closed(2, 7) };
    let three = || listed(&[closed(1, 9), never, claim(3, 10_000)]);
    check(
        "a newer epoch that never opened closed at less",
        vec![
            (10_000, Do::CatchUp, tip(7, 1)),
            (10_000, Do::ListEpochs, listed(&[closed(1, 9), never])),
            (10_000, Do::Claim(epoch(3)), Heard::Claimed(true)),
        ],
        vec![
            (10_000, Do::ListEpochs, three()),
            (10_000, Do::CatchUp, tip(8, 1)),
            (15_000, Do::ListEpochs, three()),
        ],
        (15_000, lost),
    );
}

#[test]
fn only_epochs_from_the_newest_opened_one_on_are_waited_for() {
    let wait = Do::CatchUp;
    for (name, records, next) in [
        ("an old one without an end, fenced by the next", vec![open(1), closed(2, 7)], Do::Prove(txid(8))),
        ("a claim between that never opened", vec![closed(1, 7), claim(2, 0)], wait),
        ("a claim below one that opened", vec![claim(1, 0), closed(2, 7)], Do::Prove(txid(8))),
        ("two open", vec![open(1), open(2)], wait),
        ("nobody opened", vec![claim(1, 0), claim(2, 0)], wait),
    ] {
        let mut all = records.clone();
        all.push(claim(3, 10_000));
        let before = vec![
            (10_000, Do::CatchUp, tip(7, 1)),
            (10_000, Do::ListEpochs, listed(&records)),
            (10_000, Do::Claim(epoch(3)), Heard::Claimed(true)),
        ];
        check(name, before, vec![(10_000, Do::ListEpochs, listed(&all))], (10_000, next));
    }
}
