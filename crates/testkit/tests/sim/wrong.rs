use testkit::sim::wrong::variants;
use testkit::sim::{Report, run};

/// The checker has teeth: each wrong engine is found out within its number of seeds, under the scenario that goes for it
/// and by what its mistake does; the right one passes the same seed.
#[test]
fn every_wrong_engine_is_found_out() {
    let variants = variants();
    assert!(variants.len() >= 20, "{} wrong engines", variants.len());
    let mut wrong = Vec::new();
    for variant in variants {
        let shows = |what: &str| variant.expects.iter().any(|sign| what.contains(sign));
        let (name, why, seeds) = (variant.name, variant.why, variant.seeds);
        let caught =
            (0..seeds).find(|seed| run(&variant.scenario(*seed)).is_err_and(|finding| shows(&finding.what)));
        let Some(caught) = caught else {
            wrong.push(format!("{name} ({why}) went unnoticed for {seeds} seeds"));
            continue;
        };
        if let Err(finding) = run(&variant.right(caught)) {
            wrong.push(format!("the right engine in the scenario of {name}: {}", finding.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// And it is the mistake that is found, not the scenario: the right engine passes all of them.
#[test]
fn the_right_engine_passes_where_the_wrong_ones_fail() {
    let (mut total, mut findings) = (Report::default(), Vec::new());
    for variant in variants() {
        for seed in 0..8 {
            match run(&variant.right(seed)) {
                Ok(report) => total.add(&report),
                Err(finding) => findings.push(format!("scenario of {}: {finding}", variant.name)),
            }
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
    // What is read wrong is not put in place.
    assert!(total.refusals > 5, "{total}");
}
