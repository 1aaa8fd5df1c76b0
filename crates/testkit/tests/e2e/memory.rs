//! What the real program takes of memory, by the system's own count (`VmHWM`): the same for any size of the database.

use crate::harness::{Place, litekeep, spin_until};
use std::path::Path;
use std::process::{Command, Stdio};

/// Sizes of the databases, MiB. One goes up as a slot, the other is too large for that (`IMAGE_RAW_BYTES`).
const SMALL: u64 = 100;
pub(crate) const LARGE: u64 = 260;

/// How much more a run may take for the larger one, KiB: the noise of threads and allocator, and a tenth of the
/// difference in size.
const MORE: u64 = 16 << 10;

/// A database of so many MiB that do not compress.
pub(crate) fn make(path: &Path, mebibytes: u64) {
    let link = rusqlite::Connection::open(path).expect("open a database");
    link.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
        .expect("make a table");
    for _ in 0..mebibytes {
        link.execute("INSERT INTO t(body) VALUES (randomblob(1048576))", []).expect("fill it");
    }
    link.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("empty the WAL");
}

/// Runs a command to its good end; gives the most that it had in memory at once, KiB.
fn peak(mut command: Command) -> u64 {
    // Blocks of a megabyte go back to the system when they are freed. By default glibc keeps some of them for each thread,
    // up to 0.1 GB in all, which is not what is counted here.
    command.env("MALLOC_MMAP_THRESHOLD_", "1048576");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start litekeep");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let mut end = None;
    spin_until("litekeep to end", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|it| it.trim().strip_suffix(" kB")).and_then(|it| it.parse().ok());
        most = most.max(kibibytes.unwrap_or(0));
        end = child.try_wait().expect("ask for its end");
        end.is_some()
    });
    assert!(end.is_some_and(|end| end.success()), "it ended with {end:?}");
    assert!(most > 1 << 10, "{most} KiB: the system does not tell");
    most
}

#[test]
fn r67_neither_the_first_upload_nor_a_restore_takes_memory_by_the_size_of_the_database() {
    let peaks = [SMALL, LARGE].map(|mebibytes| {
        let place = Place::new();
        make(&place.database(), mebibytes);
        let mut up = litekeep();
        up.args(["replicate", "-once"]).arg(place.database()).arg(&place.url);
        let up = peak(up);
        assert!(place.objects().values().sum::<u64>() > mebibytes << 20, "it is all there");
        let mut down = litekeep();
        down.args(["restore", "-o"]).arg(place.path("restored.db")).arg(&place.url);
        (up, peak(down))
    });
    let [(small_up, small_down), (large_up, large_down)] = peaks;
    assert!(large_up <= small_up + MORE, "the first upload: {small_up} and {large_up} KiB");
    assert!(large_down <= small_down + MORE, "a restore: {small_down} and {large_down} KiB");
}
