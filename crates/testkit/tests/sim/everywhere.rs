use litekeep_store::ErrorKind;
use testkit::disk::{self, Call};
use testkit::faulty;
use testkit::sim::{Fate, Report, Scenario, run};

/// Runs a scene with its trouble at call n, for every n, until the trouble comes too late to be met.
fn everywhere(what: &str, least: usize, scene: impl Fn(u64) -> Scenario, met: impl Fn(&Report) -> bool) {
    let (mut findings, mut places) = (Vec::new(), 0);
    for n in 0..1000 {
        match run(&scene(n)) {
            Ok(report) if !met(&report) => break,
            Ok(_) => {}
            Err(finding) => findings.push(format!("{what} {n}: {finding}")),
        }
        places += 1;
    }
    assert!(places >= least, "{what}: only {places} places");
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
        (Call::Read, "-wal", Other, 20),
    ] {
        let fault = |skip| disk::Fault { call, path: path.to_owned(), skip, times: 1, error };
        // Reads are many, and alike.
        let step = if path == "-wal" { 5 } else { 1 };
        let scene = |n| Scenario::failing(fault(n * step));
        everywhere(&format!("{call:?} of {path:?} fails as {error:?}, call"), least, scene, |report| {
            report.met > 0
        });
    }
}

/// Puts, compaction, snapshots and retention, and each request of theirs.
#[test]
fn trouble_with_every_single_request_to_the_bucket_loses_nothing_acknowledged() {
    for fault in [faulty::Fault::Refused(ErrorKind::Retry), faulty::Fault::LostAnswer] {
        let plan = |skip| faulty::Plan { verb: None, object: String::new(), skip, times: 1, fault };
        let scene = |n| Scenario::troubled(plan(n));
        everywhere(&format!("{fault:?} at request"), 10, scene, |report| report.met > 0);
    }
}
