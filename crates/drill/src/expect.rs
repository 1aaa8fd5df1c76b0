//! The table of expectations: one row a scenario. What holds for all stands in [`ALWAYS`]; the judge reads both.

use crate::clock::Ms;

/// Holds in every scenario, for any row.
pub const ALWAYS: &str = "0 acknowledged writes lost, 0 applied twice, 0 restores unverified; \
all witnesses see the same, counters and integrity_check agree";

/// Which failures a client that never retries may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failures {
    /// None at all.
    None,
    /// Each a 503 with `Retry-After` or a cut connection, under way at some time between the beginning of the
    /// disturbance and the first success after its end; that success comes within this time.
    InWindow(Ms),
}

/// A scenario and what must come out.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is done.
    pub about: &'static str,
    /// What clients may see.
    pub failures: Failures,
    /// How many starts must be refused, with the bucket left as it is.
    pub refusals: usize,
    /// Whether it needs a bucket that can be slowed, cut off or told to deny.
    pub disturbs: bool,
}

/// How long after a disturbance a write may be the first to succeed again. The hand-over waits 5 s for the closing
/// record of an owner that is gone, and a claim younger than 2 s is left alone.
const RECOVERY: Ms = 10_000;

/// All scenarios, in the order in which they run.
pub const TABLE: [Row; 10] = [
    row("redeploy", "a rolling deploy under load", Failures::None),
    row("rollback", "a deploy, and at once the former release again", Failures::None),
    row("crash", "SIGKILL, started again on the same disk", Failures::InWindow(RECOVERY)),
    row("wipe", "SIGKILL and the disk is lost", Failures::InWindow(RECOVERY)),
    Row {
        disturbs: true,
        ..row("slow-bucket", "every request to the bucket is slow, and a deploy", Failures::None)
    },
    Row {
        disturbs: true,
        ..row("bucket-outage", "the bucket cannot be reached for a while", Failures::InWindow(RECOVERY))
    },
    row(
        "straggler",
        "the old container sleeps through a deploy, then writes late",
        Failures::InWindow(RECOVERY),
    ),
    row("two-at-once", "two containers get traffic in turns, both with writes", Failures::None),
    Row {
        refusals: 2,
        ..row("fresh-over-backup", "a backup that cannot be restored is no fresh start", Failures::None)
    },
    Row { refusals: 1, disturbs: true, ..row("wrong-key", "a start with a wrong secret", Failures::None) },
];

const fn row(name: &'static str, about: &'static str, failures: Failures) -> Row {
    Row { name, about, failures, refusals: 0, disturbs: false }
}

/// The row of a scenario.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

impl Row {
    /// The row in words, for the report.
    #[must_use]
    pub fn words(&self) -> String {
        let failures = match self.failures {
            Failures::None => "no request answered >= 500 or cut".to_owned(),
            Failures::InWindow(ms) => format!(
                "failures only while disturbed, each a 503 with Retry-After or a cut connection; success within {} s after",
                ms / 1000
            ),
        };
        if self.refusals == 0 {
            return failures;
        }
        format!(
            "{} refused with the right exit code, the bucket unchanged; {failures}",
            match self.refusals {
                1 => "1 start is".to_owned(),
                more => format!("{more} starts are"),
            }
        )
    }
}
