use litekeep_store::ErrorKind;
use testkit::disk::{self, Call};
use testkit::faulty::{Fault, Plan, Verb};
use testkit::sim::{Fate, Report, Scenario, run};

/// Places that no scene has.
const CAP: u64 = 1000;

/// Runs a scene with its trouble at call n, for every n, until the trouble comes too late to be met.
fn everywhere(what: &str, least: u64, scene: impl Fn(u64) -> Scenario, met: impl Fn(&Report) -> bool) {
    let (mut findings, mut places) = (Vec::new(), 0);
    for n in 0..CAP {
        match run(&scene(n)) {
            Ok(report) if !met(&report) => break,
            Ok(_) => {}
            Err(finding) => findings.push(format!("{what} {n}: {finding}")),
        }
        places += 1;
    }
    assert!((least..CAP).contains(&places), "{what}: {places} places");
    assert!(findings.is_empty(), "{} findings in {places} places\n{}", findings.len(), findings.join("\n"));
}

/// R59: the power goes at call n to the disk, for every n of a short scene, with the disk kept and with it wiped.
#[test]
fn r59_a_power_loss_at_every_single_call_loses_nothing_acknowledged() {
    for disk in [Fate::Survives, Fate::Wiped] {
        let scene = |n| Scenario::short(n, disk);
        everywhere(&format!("power loss, {disk:?}, at call"), 100, scene, |report| report.crashes > 0);
    }
}

#[test]
fn a_failure_of_every_single_call_to_the_disk_loses_nothing_acknowledged() {
    use std::io::ErrorKind::{Other, StorageFull};
    for (call, path, error, least) in [
        (Call::Write, "", Other, 50),
        (Call::Write, "", StorageFull, 50),
        (Call::Sync, "", Other, 10),
        (Call::Truncate, "", Other, 1),
        (Call::Create, "", Other, 3),
        (Call::Rename, "", Other, 1),
        // The application is SQLite, which survives neither of these two.
        (Call::Remove, "litekeep", Other, 0),
        (Call::SyncDir, "litekeep", Other, 2),
        (Call::Read, "litekeep", Other, 3),
        (Call::Read, "-wal", Other, 80),
    ] {
        let fault = |skip| disk::Fault { call, path: path.to_owned(), skip, times: 1, error };
        let scene = |n| Scenario::failing(fault(n));
        everywhere(&format!("{call:?} of {path:?} fails as {error:?}, call"), least, scene, |report| {
            report.met > 0
        });
    }
}

/// Puts, compaction, snapshots and retention, and each request of theirs.
#[test]
fn trouble_with_every_single_request_to_the_bucket_loses_nothing_acknowledged() {
    use Fault::{LostAnswer, Refused, Truncated};
    for (fault, verb, least) in
        [(Refused(ErrorKind::Retry), None, 100), (LostAnswer, None, 100), (Truncated, Some(Verb::Read), 15)]
    {
        let plan = |skip| Plan { verb, object: String::new(), skip, times: 1, fault };
        let scene = |n| Scenario::troubled(plan(n));
        everywhere(&format!("{fault:?} at request"), least, scene, |report| report.met > 0);
    }
}

/// Chores run in memory, so that no call to the disk comes between two of their requests.
#[test]
fn a_power_loss_at_every_single_request_loses_nothing_acknowledged() {
    let all = run(&Scenario::unplugged(u64::MAX, false, Fate::Survives)).unwrap();
    assert!(all.compactions >= 3 && all.snapshots >= 2, "{all}");
    assert!(all.deletions >= 3 && all.checkpoints >= 3, "{all}");
    for (disk, happens) in
        [(Fate::Survives, false), (Fate::Survives, true), (Fate::Wiped, false), (Fate::Wiped, true)]
    {
        let scene = |n| Scenario::unplugged(n, happens, disk);
        everywhere(
            &format!("power loss, {disk:?}, the request happens: {happens}, at"),
            100,
            scene,
            |report| report.crashes > 0,
        );
    }
}
