use testkit::sim::{Fate, Scenario, run};

/// R59: the power goes at call n to the disk, for every n of a short scene, with the disk kept and with it wiped.
#[test]
fn r59_a_power_loss_at_every_single_call_loses_nothing_acknowledged() {
    let mut findings = Vec::new();
    for disk in [Fate::Survives, Fate::Wiped] {
        let mut crashes = 0;
        for call in 0..600 {
            match run(&Scenario::short(call, disk)) {
                Ok(report) if report.crashes == 0 => break,
                Ok(_) => crashes += 1,
                Err(finding) => findings.push(format!("call {call}, {disk:?}: {finding}")),
            }
        }
        assert!(crashes + findings.len() > 100, "only {crashes} calls");
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}
