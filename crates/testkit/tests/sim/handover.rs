use litekeep_core::decisions::Decisions;
use litekeep_store::ErrorKind;
use std::time::Duration;
use testkit::disk::{self, Call};
use testkit::faulty::Fault;
use testkit::party::handover::{Trouble, hand_over};

const MEMBERS: [usize; 2] = [0, 1];

/// A hand-over with trouble at point n of one machine, for every n, until it comes too late to be met.
fn everywhere(what: &str, least: usize, trouble: impl Fn(u64) -> Trouble) {
    for member in MEMBERS {
        let (mut findings, mut places) = (Vec::new(), 0);
        for n in 0..1000 {
            match hand_over(1, &[(member, trouble(n))], Decisions::RIGHT) {
                Ok(report) if report.met + report.deaths == 0 => break,
                Ok(_) => {}
                Err(finding) => findings.push(format!("{finding}")),
            }
            places += 1;
        }
        assert!(places >= least, "{what}, member {member}: only {places} places");
        assert!(
            findings.is_empty(),
            "{} findings in {places} places\n{}",
            findings.len(),
            findings.join("\n")
        );
    }
}

#[test]
fn a_power_loss_at_every_call_of_a_hand_over_loses_nothing_acknowledged() {
    for wiped in [false, true] {
        everywhere(&format!("power, wiped: {wiped}"), 100, |call| Trouble::Power { call, wiped });
    }
}

#[test]
fn a_failure_of_every_call_of_a_hand_over_loses_nothing_acknowledged() {
    for (call, error, least) in [
        (Call::Write, std::io::ErrorKind::Other, 50),
        (Call::Write, std::io::ErrorKind::StorageFull, 50),
        (Call::Sync, std::io::ErrorKind::Other, 20),
    ] {
        let fault = |skip| disk::Fault { call, path: "litekeep".to_owned(), skip, times: 1, error };
        everywhere(&format!("{call:?} {error:?}"), least, |n| Trouble::Disk(fault(n)));
    }
}

#[test]
fn trouble_with_every_request_of_a_hand_over_loses_nothing_acknowledged() {
    let late = Duration::from_secs(90);
    for fault in
        [Fault::Refused(ErrorKind::Retry), Fault::LostAnswer, Fault::HeldBack(late), Fault::Slow(late)]
    {
        everywhere(&format!("{fault:?}"), 30, |skip| Trouble::Request { skip, fault });
    }
}

#[test]
fn two_writers_that_stand_still_at_every_pair_of_points_lose_nothing_acknowledged() {
    let mut findings = Vec::new();
    let mut pairs = 0;
    for first in 0..40 {
        for second in 0..40 {
            let sleeps = [(0, Trouble::Sleep { steps: first }), (1, Trouble::Sleep { steps: second })];
            match hand_over(1, &sleeps, Decisions::RIGHT) {
                Ok(report) => pairs += u64::from(report.met == 2),
                Err(finding) => findings.push(finding.to_string()),
            }
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
    assert_eq!(pairs, 1600);
}
