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
    assert!(total.slots > 1200, "{total:?}");
}

#[test]
fn a_seed_repeats_its_history_to_the_byte() {
    all((1000..1060).map(Scenario::bulk).chain((1000..1020).map(Scenario::smoke)), run_twice);
}
