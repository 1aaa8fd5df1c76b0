use testkit::sim::wrong::variants;
use testkit::sim::{Flaws, Scenario, run};

/// How many seeds a wrong engine may survive.
const SEEDS: u64 = 400;

/// The checker has teeth: each wrong engine is found out within the gate, under the scenario that goes for it.
#[test]
fn every_wrong_engine_is_found_out() {
    for variant in variants() {
        let caught = (0..SEEDS).find_map(|seed| run(&(variant.scenario)(seed)).err());
        assert!(caught.is_some(), "{} ({}) went unnoticed for {SEEDS} seeds", variant.name, variant.why);
    }
}

/// And it is the wrong decision that is found, not the scenario: the right engine passes all of them.
#[test]
fn the_right_engine_passes_where_the_wrong_ones_fail() {
    let mut findings = Vec::new();
    for variant in variants() {
        for seed in 0..10 {
            let scenario = Scenario { flaws: Flaws::NONE, ..(variant.scenario)(seed) };
            if let Err(finding) = run(&scenario) {
                findings.push(format!("scenario of {}: {finding}", variant.name));
            }
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}
