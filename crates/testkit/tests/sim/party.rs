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
