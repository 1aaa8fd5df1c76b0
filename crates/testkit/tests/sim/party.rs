use testkit::party::wrong::variants;
use testkit::party::{Report, Scenario, run, run_twice};

/// Several nodes on one bucket: whoever owns in turn, every restore is one line of history with every acknowledged row.
#[test]
fn nodes_that_take_turns_lose_nothing_and_mix_nothing() {
    let (mut total, mut findings) = (Report::default(), Vec::new());
    for seed in 0..150 {
        let again = seed % 10 == 0;
        match if again { run_twice } else { run }(&Scenario::any(seed)) {
            Ok(report) => total.add(&report),
            Err(finding) => findings.push(finding.to_string()),
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
    // A party at which nothing happens finds nothing.
    assert!(total.terms > 300 && total.closed > 250 && total.lost > 30, "{total}");
    assert!(total.deaths > 150 && total.late > 60 && total.freed > 40, "{total}");
    assert!(total.troubles > 500 && total.power_losses > 20, "{total}");
    assert!(total.points > 400 && total.idle > 6, "{total}");
}

/// Seeds that found something once, the first eleven a slot's name with two contents in one epoch. Their histories are
/// others by now.
#[test]
fn parties_that_once_found_something_pass() {
    const FOUND: [u64; 21] = [
        196, 226, 375, 468, 595, 722, 753, 759, 823, 925, 1044, 1_001_183, 1_001_270, 1_002_354, 1_004_004,
        1_007_668, 1_008_131, 1_009_369, 1_012_945, 1_013_301, 1_016_408,
    ];
    let findings: Vec<_> = FOUND.iter().filter_map(|seed| run(&Scenario::any(*seed)).err()).collect();
    let told: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{} findings\n{}", told.len(), told.join("\n"));
}

/// Each broken rule of the hand-over shows in its own way, and the right nodes pass the same seeds.
#[test]
fn every_wrong_node_is_found_out_by_what_its_mistake_does() {
    for variant in variants() {
        let shows = |what: &str| variant.expects.iter().any(|sign| what.contains(sign));
        let caught = (0..variant.seeds)
            .find(|seed| run(&variant.scenario(*seed)).is_err_and(|finding| shows(&finding.what)));
        let (name, why, seeds) = (variant.name, variant.why, variant.seeds);
        let Some(caught) = caught else { panic!("{name} ({why}) went unnoticed for {seeds} seeds") };
        for seed in 0..=caught {
            if let Err(finding) = run(&variant.right(seed)) {
                panic!("scenario of {name}: {finding}");
            }
        }
    }
}
