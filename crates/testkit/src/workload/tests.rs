#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::clock::SimClock;
use crate::disk::Trap;
use crate::disk::vfs::SeededSqlite;

const PATH: &str = "/data/app.db";

fn disk(seed: u64) -> Disk {
    let disk = Disk::new(SimClock::new(), seed);
    disk.place("/data/here", b"").unwrap();
    disk
}

/// Runs some actions; `Err` for a finding.
fn work(disk: &Disk, shape: Shape, seed: u64, steps: u64, ledger: &mut Ledger) -> Result<(), String> {
    let mut app = match Application::start(disk, PATH, shape, SeededRandom::new(seed), ledger) {
        Ok(app) => app,
        Err(Trouble::Dead) => return Ok(()),
        Err(trouble) => return Err(format!("{trouble:?}")),
    };
    for _ in 0..steps {
        match app.step(ledger) {
            Ok(()) | Err(Trouble::Later) => {}
            Err(Trouble::Dead) => return Ok(()),
            Err(Trouble::Finding(finding)) => return Err(finding),
            Err(trouble @ Trouble::Failed) => return Err(format!("{trouble:?}")),
        }
    }
    Ok(())
}

#[test]
fn every_shape_writes_and_every_commit_is_told_from_every_other() {
    for seed in 0..40 {
        let _alone = SeededSqlite::new(seed);
        let disk = disk(seed);
        let mut ledger = Ledger::default();
        let shape = Shape::any(&SeededRandom::new(seed));
        work(&disk, shape, seed, 60, &mut ledger).unwrap();
        assert!(ledger.commits().len() > 10, "{shape:?}: {} commits", ledger.commits().len());
        // The first one stands for what may be there before anything was committed.
        assert!(ledger.commits().iter().skip(1).all(|commit| commit.outcome == Outcome::Committed));
        assert_eq!(judge(&disk, PATH, &ledger), Ok(Place::on_the_way(ledger.last())), "{shape:?}");
    }
}

#[test]
fn after_a_power_loss_at_any_moment_the_application_finds_what_it_committed() {
    for seed in 0..60 {
        let _alone = SeededSqlite::new(seed);
        let random = SeededRandom::new(seed);
        let shape = Shape::any(&random);
        let mut disk = disk(seed);
        let mut ledger = Ledger::default();
        for life in 0..4 {
            disk.crash_at(Trap::PowerAt { call: random.below(400) });
            let worked = work(&disk, shape, seed * 10 + life, 40, &mut ledger);
            assert_eq!(worked, Ok(()), "seed {seed}, {shape:?}");
            disk = disk.power_loss(random.below(u64::MAX));
        }
    }
}

#[test]
fn a_file_that_mixes_two_commits_is_nobodys() {
    let _alone = SeededSqlite::new(1);
    let (old, new) = (disk(1), disk(1));
    let mut ledger = Ledger::default();
    work(&old, Shape::PLAIN, 1, 30, &mut Ledger::default()).unwrap();
    work(&new, Shape::PLAIN, 1, 60, &mut ledger).unwrap();
    let image = |disk: &Disk| {
        let vfs = Vfs::new(&disk.process());
        vfs.open(PATH).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        disk.peek(PATH).unwrap()
    };
    let (before, mut mixed) = (image(&old), image(&new));
    let page = (1..before.len().min(mixed.len()) / 4096)
        .rev()
        .map(|page| page * 4096..(page + 1) * 4096)
        .find(|page| before[page.clone()] != mixed[page.clone()])
        .unwrap();
    mixed[page.clone()].copy_from_slice(&before[page]);
    let scratch = disk(2);
    scratch.place(PATH, &mixed).unwrap();
    judge(&scratch, PATH, &ledger).unwrap_err();
}

/// Seed 5316 of the scenario `smoke`, as it then was: the power went before the first commit, and what was left was a
/// database of one page, which an engine takes for one as it must.
#[test]
fn a_power_loss_before_the_first_commit_leaves_nothing_or_a_state_that_the_ledger_knows() {
    let _alone = SeededSqlite::new(1);
    let mut known = 0;
    for call in 0..100 {
        let first = disk(call);
        let mut ledger = Ledger::default();
        first.crash_at(Trap::PowerAt { call });
        let shape = Shape { synced: false, vacuums: true, ..Shape::PLAIN };
        work(&first, shape, 1, 0, &mut ledger).unwrap();
        if !first.is_dead() {
            break;
        }
        let found = first.power_loss(call);
        if found.peek(PATH).is_some_and(|bytes| !bytes.is_empty()) {
            judge(&found, PATH, &ledger).unwrap();
            known += 1;
        }
    }
    assert!(known > 0, "there never was a page");
}
