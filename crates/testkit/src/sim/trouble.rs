//! What goes wrong on a machine besides deaths: a disk that is full or fails single calls, a wall clock that jumps.

use super::Scenario;
use super::machine::Machine;
use crate::disk::{Call, Disk, Fault};
use crate::random::SeededRandom;
use std::io::ErrorKind;

/// Every kind of call that can fail, and as what.
const FAILURES: [(Call, ErrorKind); 9] = [
    (Call::Read, ErrorKind::Other),
    (Call::Read, ErrorKind::UnexpectedEof),
    (Call::Write, ErrorKind::Other),
    (Call::Truncate, ErrorKind::Other),
    (Call::Sync, ErrorKind::Other),
    (Call::Create, ErrorKind::Other),
    (Call::Rename, ErrorKind::Other),
    (Call::Remove, ErrorKind::Other),
    (Call::SyncDir, ErrorKind::Other),
];

/// Whose calls: the database's, the WAL's, the engine's own, anybody's.
const PATHS: [&str; 4] = ["/data/app.db", "/data/app.db-wal", "litekeep", ""];

/// A turn's trouble, if any; says what for the trail.
pub(super) fn turn(machine: &mut Machine, scenario: &Scenario, random: &SeededRandom) -> Option<String> {
    if machine.full_for > 0 {
        machine.full_for -= 1;
        if machine.full_for == 0 {
            machine.disk.set_capacity(None);
            return Some("there is room on the disk again".to_owned());
        }
    }
    if random.chance(scenario.clock_jumps, 1000) {
        let by = i64::try_from(random.below(1_200_000)).unwrap_or(0) - 600_000;
        machine.clock.jump_wall(by);
        return Some(format!("the wall clock jumps by {by} ms"));
    }
    if !random.chance(scenario.disk_trouble, 1000) {
        return None;
    }
    if random.chance(1, 3) {
        machine.disk.set_capacity(Some(machine.disk.used() + random.below(20_000)));
        machine.full_for = random.between(5, 60);
        return Some(format!("the disk is nearly full for {} turns", machine.full_for));
    }
    let fault = fail_one(&machine.disk, random, random.below(10));
    Some(format!("a call to the disk will fail: {fault:?}"))
}

/// Makes a call fail, after `skip` of its kind.
pub(crate) fn fail_one(disk: &Disk, random: &SeededRandom, skip: u64) -> Fault {
    let (call, error) = random.pick(&FAILURES).copied().unwrap_or((Call::Write, ErrorKind::Other));
    let mut path = random.pick(&PATHS).copied().unwrap_or_default().to_owned();
    if matches!(call, Call::SyncDir | Call::Remove) {
        // SQLite does not look whether a directory was synced, or its WAL removed as it left that mode (what
        // `sqlite3WalClose` is told by `xDelete` it does not read), and does not survive these two: a file that says it
        // is not in WAL mode, beside a WAL that is written to.
        PATHS[2].clone_into(&mut path);
    }
    let fault = Fault { call, path, skip, times: random.between(1, 3), error };
    disk.inject(fault.clone());
    fault
}
