use testkit::sim::{Report, Scenario, run_twice};

/// One writer, one crash, a faulty store: every restore is exactly one committed state, at or past everything that was
/// acknowledged, and a seed repeats its history to the byte.
#[test]
fn two_hundred_seeds_lose_nothing_and_repeat_their_histories() {
    let mut total = Report::default();
    let mut findings = Vec::new();
    for seed in 0..200 {
        match run_twice(&Scenario::smoke(seed)) {
            Ok(report) => {
                total.commits += report.commits;
                total.acknowledgements += report.acknowledgements;
                total.crashes += report.crashes;
                total.restores += report.restores;
                total.slots += report.slots;
            }
            Err(finding) => findings.push(finding.to_string()),
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
    // A simulation in which nothing happens finds nothing.
    assert!(total.commits > 10_000 && total.acknowledgements > 300, "{total:?}");
    assert!(total.crashes > 150 && total.restores > 500 && total.slots > 800, "{total:?}");
}
