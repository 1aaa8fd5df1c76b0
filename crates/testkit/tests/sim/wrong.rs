use testkit::sim::run;
use testkit::sim::wrong::variants;

/// The checker has teeth: each wrong engine is found out within its number of seeds, under the scenario that goes for it.
#[test]
fn every_wrong_engine_is_found_out() {
    let variants = variants();
    assert!(variants.len() >= 20, "{} wrong engines", variants.len());
    for variant in variants {
        let caught = (0..variant.seeds).find_map(|seed| run(&variant.scenario(seed)).err());
        let (name, why, seeds) = (variant.name, variant.why, variant.seeds);
        assert!(caught.is_some(), "{name} ({why}) went unnoticed for {seeds} seeds");
    }
}

/// And it is the mistake that is found, not the scenario: the right engine passes all of them.
#[test]
fn the_right_engine_passes_where_the_wrong_ones_fail() {
    let mut findings = Vec::new();
    for variant in variants() {
        for seed in 0..8 {
            if let Err(finding) = run(&variant.right(seed)) {
                findings.push(format!("scenario of {}: {finding}", variant.name));
            }
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}
