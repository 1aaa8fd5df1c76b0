#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::clock::SimClock;
use crate::disk::vfs::SeededSqlite;
use crate::disk::{Call, Fault, Trap};

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

fn opened(disk: &Disk, shape: Shape, seed: u64, ledger: &mut Ledger) -> Application {
    let mut app = Application::start(disk, PATH, shape, SeededRandom::new(seed), ledger).unwrap();
    app.open_others().unwrap();
    app
}

/// An application that has free pages and leaves WAL mode, and a power loss at call `call` of that; `None` past its end.
fn after_a_death_without_wal(seed: u64, call: u64) -> Option<(Disk, Shape, Ledger)> {
    let shape = Shape { page_size: 512, blob: 3000, modes: true, ..Shape::PLAIN };
    let (first, mut ledger) = (disk(seed), Ledger::default());
    let mut app = opened(&first, shape, seed, &mut ledger);
    for action in [Action::Big, Action::Big, Action::Shrink, Action::Insert] {
        app.act(action, &mut ledger).unwrap();
    }
    app.writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    first.crash_at(Trap::PowerAt { call });
    let ended = app.change_mode(&mut ledger);
    drop(app);
    (ended.is_err() && first.is_dead()).then(|| (first.power_loss(call), shape, ledger))
}

/// Seeds 110711, 200711, 202154, 203622 and 306564 of the scenario `bulk`. SQLite does not write the old content of a
/// free page into the journal before it uses the page, so a rollback leaves there what was written.
#[test]
fn a_rollback_brings_everything_back_but_what_free_pages_held_and_nothing_else_passes_for_one() {
    let (mut rolled_back, mut refused) = (0, 0);
    for seed in 0..12 {
        let _alone = SeededSqlite::new(seed);
        for call in 0..1000 {
            let Some((disk, shape, mut ledger)) = after_a_death_without_wal(seed, call) else { break };
            let mut blind = ledger.clone();
            let random = SeededRandom::new(call);
            drop(Application::start(&disk, PATH, shape, random, &mut ledger).unwrap());
            if ledger.commits().last().unwrap().what != "rolled back" {
                continue;
            }
            rolled_back += 1;
            assert_eq!(judge(&disk, PATH, &ledger), Ok(Place::on_the_way(ledger.last())));
            let vfs = Vfs::new(&disk.process());
            let sql = "UPDATE t SET name = 'nobody''s' WHERE id = (SELECT max(id) FROM t)";
            assert_eq!(vfs.open(PATH).unwrap().execute(sql, []).unwrap(), 1);
            let random = SeededRandom::new(call);
            match Application::start(&disk, PATH, shape, random, &mut blind) {
                Err(Trouble::Finding(_)) => refused += 1,
                other => panic!("seed {seed}, call {call}: {:?}", other.err()),
            }
        }
    }
    assert!(rolled_back > 10 && refused == rolled_back, "{rolled_back} rolled back, {refused} refused");
}

/// Seed 302684 of the scenario `bulk`: VACUUM commits the database, and then has no room for the last pages of the
/// temporary one, and says so.
#[test]
fn a_vacuum_that_says_that_the_disk_is_full_may_have_happened_and_the_ledger_knows() {
    let (mut happened, mut did_not) = (0, 0);
    for skip in 0..80 {
        let _alone = SeededSqlite::new(1);
        let (disk, mut ledger) = (disk(1), Ledger::default());
        let shape = Shape { page_size: 512, cache: 5, blob: 3000, ..Shape::PLAIN };
        let app = opened(&disk, shape, 1, &mut ledger);
        for action in [Action::Big, Action::Delete] {
            app.act(action, &mut ledger).unwrap();
        }
        let before = ledger.last();
        let (path, error) = ("(temporary)".to_owned(), std::io::ErrorKind::StorageFull);
        disk.inject(Fault { call: Call::Write, path, skip, times: 1, error });
        let answer = app.act(Action::Vacuum, &mut ledger);
        if disk.failures() == 0 {
            break;
        }
        assert_eq!(ledger.last() > before, answer.is_ok());
        if answer.is_ok() {
            happened += 1
        } else {
            did_not += 1
        }
        drop(app);
        assert_eq!(judge(&disk, PATH, &ledger), Ok(Place::on_the_way(ledger.last())), "{skip}");
    }
    assert!(happened > 0 && did_not > 0, "{happened} happened, {did_not} did not");
}
