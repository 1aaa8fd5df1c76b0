use litekeep_core::decisions::Decisions;
use litekeep_store::ErrorKind;
use std::time::Duration;
use testkit::disk::{self, Call};
use testkit::faulty::{Fault, Verb};
use testkit::party::handover::{Trouble, hand_over};

const MEMBERS: [usize; 2] = [0, 1];

const SEEDS: [u64; 2] = [1, 2];

/// Places that no hand-over has.
const CAP: u64 = 1000;

/// A hand-over with trouble at point n of one machine, for every n, until it comes too late to be met.
fn everywhere(seed: u64, what: &str, least: u64, trouble: impl Fn(u64) -> Trouble) {
    for member in MEMBERS {
        let (mut findings, mut places) = (Vec::new(), 0);
        for n in 0..CAP {
            match hand_over(seed, &[(member, trouble(n))], Decisions::RIGHT) {
                Ok(report) if report.met + report.deaths == 0 => break,
                Ok(_) => {}
                Err(finding) => findings.push(format!("{finding}")),
            }
            places += 1;
        }
        assert!(
            findings.is_empty(),
            "{} findings in {places} places\n{}",
            findings.len(),
            findings.join("\n")
        );
        assert!((least..CAP).contains(&places), "{what}, seed {seed}, member {member}: {places} places");
    }
}

#[test]
fn a_power_loss_at_every_call_of_a_hand_over_loses_nothing_acknowledged() {
    for wiped in [false, true] {
        everywhere(1, &format!("power, wiped: {wiped}"), 100, |call| Trouble::Power { call, wiped });
    }
}

#[test]
fn a_failure_of_every_call_of_a_hand_over_loses_nothing_acknowledged() {
    use std::io::ErrorKind::{Other, StorageFull};
    for (call, path, error, least) in [
        (Call::Write, "litekeep", Other, 30),
        (Call::Write, "litekeep", StorageFull, 30),
        (Call::Sync, "litekeep", Other, 12),
        (Call::Truncate, "", Other, 0),
        (Call::Create, "", Other, 2),
        (Call::Rename, "", Other, 2),
        // The application and the follower are SQLite, which survives neither of these two.
        (Call::Remove, "litekeep", Other, 2),
        (Call::SyncDir, "litekeep", Other, 3),
        (Call::Read, "litekeep", Other, 80),
        (Call::Write, "app.db-wal", Other, 20),
        (Call::Write, "/data/app.db", StorageFull, 20),
        (Call::Sync, "app.db", Other, 3),
    ] {
        let fault = |skip| disk::Fault { call, path: path.to_owned(), skip, times: 1, error };
        everywhere(1, &format!("{call:?} of {path:?} {error:?}"), least, |n| Trouble::Disk(fault(n)));
    }
}

#[test]
fn trouble_with_every_request_of_a_hand_over_loses_nothing_acknowledged() {
    let late = Duration::from_secs(90);
    let any = |fault| (fault, None, 30);
    for seed in SEEDS {
        for (fault, verb, least) in [
            any(Fault::Refused(ErrorKind::Retry)),
            any(Fault::LostAnswer),
            any(Fault::HeldBack(late)),
            any(Fault::Slow(late)),
            (Fault::Truncated, Some(Verb::Read), 20),
        ] {
            everywhere(seed, &format!("{fault:?}"), least, |skip| Trouble::Request { verb, skip, fault });
        }
    }
}

/// The second seed in every third pair.
#[test]
fn two_writers_that_stand_still_at_every_pair_of_points_lose_nothing_acknowledged() {
    let mut findings = Vec::new();
    for (seed, step) in SEEDS.into_iter().zip([1, 3]) {
        let steps = || (0..40).step_by(step);
        let mut pairs = 0;
        for (first, second) in steps().flat_map(|first| steps().map(move |second| (first, second))) {
            let sleeps = [(0, Trouble::Sleep { steps: first }), (1, Trouble::Sleep { steps: second })];
            match hand_over(seed, &sleeps, Decisions::RIGHT) {
                Ok(report) => pairs += usize::from(report.met == 2),
                Err(finding) => findings.push(finding.to_string()),
            }
        }
        assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
        assert_eq!(pairs, steps().count().pow(2), "seed {seed}");
    }
}
