use testkit::sim::{Finding, Report, Scenario, run, run_twice};

fn all(
    scenarios: impl Iterator<Item = Scenario>,
    run: fn(&Scenario) -> Result<Report, Box<Finding>>,
) -> Report {
    let mut total = Report::default();
    let mut findings = Vec::new();
    for scenario in scenarios {
        match run(&scenario) {
            Ok(report) => total.add(&report),
            Err(finding) => findings.push(finding.to_string()),
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
    total
}

/// Whatever happens, every restore is exactly one committed state, at or past everything that was acknowledged.
#[test]
fn four_hundred_seeds_lose_nothing() {
    let total = all((0..300).map(Scenario::bulk).chain((0..100).map(Scenario::smoke)), run);
    // A simulation in which nothing happens finds nothing.
    assert!(total.commits > 15_000 && total.acknowledgements > 500, "{total:?}");
    assert!(total.crashes > 300 && total.kills > 100 && total.troubles > 800, "{total:?}");
    assert!(total.restores > 1000 && total.points > 1500 && total.idle_hours > 15, "{total:?}");
    assert!(total.slots > 1200 && total.parkings > 100, "{total:?}");
}

/// The same with images that no slot can carry.
#[test]
fn images_that_go_up_as_streams_lose_nothing() {
    let total = all((0..100).map(Scenario::streams), run);
    assert!(total.commits > 3000 && total.acknowledgements > 80 && total.points > 250, "{total:?}");
}

#[test]
fn a_seed_repeats_its_history_to_the_byte() {
    all((1000..1060).map(Scenario::bulk).chain((1000..1020).map(Scenario::smoke)), run_twice);
}

/// A scene that found something, and what it was.
type Found = (fn(u64) -> Scenario, u64, &'static str);

/// Seeds that found something, by what it was. Their histories are others by now; the directed tests are `record`,
/// `waiting`, and those of `workload` and `disk`.
#[test]
fn seeds_that_once_found_something_pass() {
    const JOURNAL: &str = "a rollback leaves what free pages were given";
    const UNLINK: &str = "a failing look kept SQLite from removing its WAL";
    const NEVER_SYNCED: &str = "the name of the state directory was never synced";
    const SAME_SNAPSHOT: &str = "a snapshot's put without an answer, made again with other bytes";
    const HALF_RECORDED: &str = "a restore whose record failed, or a birth that was not recorded";
    let found: [Found; 38] = [
        (Scenario::streams, 53, "images one behind the other, and none was said to be there"),
        (Scenario::streams, 67, "a number was left out behind an image that died before its put"),
        (Scenario::streams, 237, "the first slot passed for an image though it only announces one"),
        (Scenario::streams, 430, "a name whose put had no answer was left behind, and a hole after it"),
        (Scenario::streams, 524, "a fence behind an unfinished image had the size of what was announced"),
        (Scenario::streams, 949, "compaction stopped at an image that was never finished"),
        (Scenario::bulk, 110_711, JOURNAL),
        (Scenario::bulk, 200_711, JOURNAL),
        (Scenario::bulk, 202_154, JOURNAL),
        (Scenario::bulk, 203_622, JOURNAL),
        (Scenario::bulk, 306_564, JOURNAL),
        (Scenario::smoke, 301_196, JOURNAL),
        (Scenario::smoke, 301_970, JOURNAL),
        (Scenario::bulk, 110_963, UNLINK),
        (Scenario::bulk, 302_469, UNLINK),
        (Scenario::bulk, 306_010, UNLINK),
        (Scenario::bulk, 302_684, "a VACUUM that was done said that the disk was full"),
        (Scenario::bulk, 321_594, "a VACUUM that had failed came back from the WAL"),
        (Scenario::bulk, 322_156, "a VACUUM that had failed came back from the WAL"),
        (Scenario::bulk, 306_614, "a record that had failed stood all the same"),
        (Scenario::bulk, 310_919, "a change to WAL mode failed unheard"),
        (Scenario::bulk, 1168, NEVER_SYNCED),
        (Scenario::bulk, 1768, SAME_SNAPSHOT),
        (Scenario::bulk, 3695, SAME_SNAPSHOT),
        (Scenario::bulk, 2215, "trouble that had passed was told of until the next commit"),
        (Scenario::bulk, 20_434, "a full disk while the start compared"),
        (Scenario::bulk, 203_977, "a fence whose record failed"),
        (Scenario::bulk, 100_372, "a transaction that was no committed state"),
        (Scenario::bulk, 104_741, "an application that does not sync goes back with its file"),
        (Scenario::bulk, 108_160, "an application that does not sync goes back with its file"),
        (Scenario::bulk, 102_787, HALF_RECORDED),
        (Scenario::bulk, 105_371, HALF_RECORDED),
        (Scenario::bulk, 105_959, HALF_RECORDED),
        (Scenario::bulk, 102_321, HALF_RECORDED),
        (Scenario::bulk, 109_895, "not explained"),
        (Scenario::bulk, 102_711, "not explained"),
        (Scenario::bulk, 1_092_259, "a WAL that was restarting hid what had not been taken"),
        (Scenario::bulk, 313_717, "a journal came back beside a file that was cut since"),
    ];
    for (scenario, seed, why) in found {
        if let Err(finding) = run(&scenario(seed)) {
            panic!("{why}: {finding}");
        }
    }
}
