//! What both programs say of the same thing is the same: what they restore, list, refuse, and count.

use super::differences::OTHER_WORDS;
use super::facts::{Fact, value};
use super::{Machine, ROWS};

/// The bytes of a frame of the WAL, and of the header before them: pages of 4096 bytes.
const FRAME: f64 = 4096.0 + 24.0;
const HEADER: f64 = 32.0;

/// Pages that 0.3.13 adds to a database: two tables.
const PAGES_OF_ITS_OWN: f64 = 2.0;

/// The rows that the application has written by the time of the scrape, each in a transaction of its own that takes one page.
const WRITTEN: f64 = 15.0;

/// Both bring back every row, and the same ones.
pub(super) fn content(theirs: &Machine, ours: &Machine) {
    for (step, rows) in ROWS {
        let (a, b) = (theirs.read(&format!("{step}.out")), ours.read(&format!("{step}.out")));
        let told = format!("{step}: {:?} {:?}", theirs.facts(step), ours.facts(step));
        assert_eq!(a, b, "{told}");
        let counts: Vec<String> = rows.iter().map(|rows| format!("{rows} ok ")).collect();
        assert_eq!(a.lines().count(), counts.len(), "{told}");
        assert!(a.lines().zip(&counts).all(|(line, count)| line.starts_with(count)), "{told}");
    }
}

/// Of a backup of 0.3 both list the same, to the byte; but for `lag`, which grows.
pub(super) fn listings(theirs: &Machine, ours: &Machine) {
    for step in ["old-snapshots", "old-wal", "old-wal-of-one"] {
        let file = format!("{step}.out");
        assert!(theirs.read(&file).lines().count() > 1, "{step} lists nothing");
        assert_eq!(theirs.read(&file), ours.read(&file), "{step}");
    }
    let without_lag = |machine: &Machine| {
        let row = |line: &str| {
            let columns: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(columns.len(), 5, "{line}");
            [0, 1, 3, 4].map(|at| columns[at].clone())
        };
        machine.read("old-generations.out").lines().map(row).collect::<Vec<_>>()
    };
    assert_eq!(without_lag(theirs), without_lag(ours));
    assert_eq!(without_lag(theirs).len(), 2, "a head and one generation");
}

/// What 0.3.13 says of an error, litekeep says in one line with the same words, but where COMPAT.md has others.
pub(super) fn errors(theirs: &Machine, ours: &Machine) {
    let mut told = 0;
    for step in &theirs.steps() {
        let error = theirs.facts(step).0.into_iter().find_map(|fact| match fact {
            Fact::Field { message, name, value } if message == "failed to run" && name == "error" => {
                Some(value)
            }
            _ => None,
        });
        let Some(error) = error else { continue };
        told += 1;
        let other = OTHER_WORDS.iter().find(|(at, _, _)| at == step).map(|(_, words, _)| *words);
        let words = other.unwrap_or(&error);
        let facts = ours.facts(step);
        let lines = facts.0.iter().filter_map(|fact| match fact {
            Fact::Text { stream: "err", line } => Some(line.as_str()),
            _ => None,
        });
        let lines: Vec<&str> = lines.collect();
        let said = matches!(&lines[..], [line] if line.starts_with("Error: ") && line.contains(words));
        assert!(said || words.is_empty(), "{step}: 0.3.13 says `{error}`, litekeep {lines:?}");
        assert!(
            other.is_none() || !lines.iter().any(|line| line.contains(&error)),
            "{step}: {error} is said now"
        );
    }
    assert!(told >= 8, "{told} errors");
}

/// What has one name, or one meaning, in both pages has the same value, or the one that follows from a row of COMPAT.md.
pub(super) fn metrics(theirs: &Machine, ours: &Machine) {
    let pages = [theirs, ours].map(|machine| machine.read("metrics"));
    for db in ["app.db", "two.db"] {
        let both = |name: &str| {
            let [a, b] = [0, 1].map(|at| value(&pages[at], name, db));
            (a, b)
        };
        // Nothing is added to the user's database.
        let (a, b) = both("litestream_db_size");
        assert!(equal(a, b + PAGES_OF_ITS_OWN * 4096.0), "{db}: {a} and {b} bytes");
        // A header and whole frames: those of the application in both, and 0.3.13's own.
        for (name, header) in [("litestream_wal_size", HEADER), ("litestream_total_wal_bytes", 0.0)] {
            let (a, b) = both(name);
            for bytes in [a, b] {
                let frames = (bytes - header) / FRAME;
                assert!(
                    equal(frames, frames.round()) && frames >= WRITTEN,
                    "{db}: {name} {bytes}: {frames} frames"
                );
            }
            assert!(b <= a && a <= 2.0 * b, "{db}: {name} {a} and {b}");
        }
        // Each says by its own measure that the replica has everything.
        let at = value(&pages[0], "litestream_replica_wal_offset", db);
        assert!(equal(at, value(&pages[0], "litestream_wal_size", db)), "{db}: offset {at}");
        let at = value(&pages[1], "litekeep_replica_txid", db);
        assert!(equal(at, value(&pages[1], "litestream_txid", db)), "{db}: transaction {at}");
        let (a, b) = both("litestream_sync_error_count");
        assert!(equal(a, 0.0) && equal(b, 0.0), "{db}: {a} and {b} errors");
        for name in ["litestream_sync_count", "litestream_sync_seconds"] {
            let (a, b) = both(name);
            assert!(a > 0.0 && b > 0.0, "{db}: {name} {a} and {b}");
        }
    }
    let (a, b) = (
        requests(&pages[0], "litestream_replica_operation_bytes"),
        requests(&pages[1], "litestream_replica_operation_bytes"),
    );
    assert!(a <= 4.0 * b && b <= 4.0 * a, "{a} and {b} bytes went into the bucket");
    let (a, b) = (
        requests(&pages[0], "litestream_replica_operation_total"),
        requests(&pages[1], "litestream_replica_operation_total"),
    );
    assert!(a >= 2.0 && b >= 2.0, "{a} and {b} puts into the bucket");
}

/// What was put into the bucket.
fn requests(page: &str, name: &str) -> f64 {
    let puts = page
        .lines()
        .filter(|line| line.starts_with(name) && line.contains("\"PUT\"") && line.contains("\"s3\""));
    let puts: String = puts.map(|line| format!("{line}\n")).collect();
    value(&puts, name, "")
}

/// Both are whole numbers that a float holds exactly.
fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}
