//! The table of expectations: one row a scenario. What holds for all stands in [`ALWAYS`]; the judge reads both.

use crate::clock::Ms;

/// Holds in every scenario, for any row.
pub const ALWAYS: &str = "0 acknowledged writes lost, 0 applied twice, 0 restores unverified; \
all witnesses see the same, counters and integrity_check agree";

/// Which failures a client that never retries may see. Reads are judged like writes; and outside the window each read
/// that is answered finds a post that was acknowledged [`FRESH`] before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failures {
    /// None at all.
    None,
    /// Each a 503 with `Retry-After` or a cut connection, under way at some time between the beginning of the
    /// disturbance and the first success after its end.
    InWindow {
        /// How long the disturbance may last: what the system needs to be fit for traffic again is part of it.
        disturbed: Ms,
        /// How long after its end the first success may come.
        recovery: Ms,
    },
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

/// From SIGKILL to traffic for a container that finds its own disk: a start and the health gate.
const RESTART: Failures = Failures::InWindow { disturbed: 5_000, recovery: RECOVERY };

/// The same on an empty disk: a restore as well.
const RESTORE: Failures = Failures::InWindow { disturbed: 10_000, recovery: RECOVERY };

/// The scenario's own doing, and nothing that the system could make longer.
const OUTAGE: Failures = Failures::InWindow { disturbed: 10_000, recovery: RECOVERY };

/// A standby answers a read from what it had seen of the replica up to so long before.
pub const FRESH: Ms = 200;

/// All scenarios, in the order in which they run.
pub const TABLE: [Row; 10] = [
    smooth("redeploy", "a rolling deploy under load"),
    smooth("rollback", "a deploy, and at once the former release again"),
    row("crash", "SIGKILL, started again on the same disk", RESTART),
    row("wipe", "SIGKILL and the disk is lost", RESTORE),
    Row { disturbs: true, ..smooth("slow-bucket", "every request to the bucket is slow, and a deploy") },
    Row { disturbs: true, ..row("bucket-outage", "the bucket cannot be reached for a while", OUTAGE) },
    row("straggler", "the old container sleeps through a deploy, then writes late", RESTORE),
    smooth("two-at-once", "two containers get traffic in turns, both with writes"),
    Row {
        refusals: 2,
        ..row("fresh-over-backup", "a backup that cannot be restored is no fresh start", Failures::None)
    },
    Row { refusals: 1, disturbs: true, ..row("wrong-key", "a start with a wrong secret", Failures::None) },
];

const fn row(name: &'static str, about: &'static str, failures: Failures) -> Row {
    Row { name, about, failures, refusals: 0, disturbs: false }
}

/// A scenario of which clients must notice nothing.
const fn smooth(name: &'static str, about: &'static str) -> Row {
    row(name, about, Failures::None)
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
            Failures::None => format!(
                "no write and no read refused or cut, and each post is found {FRESH} ms after its acknowledgement"
            ),
            Failures::InWindow { disturbed, recovery } => format!(
                "disturbed for at most {} s; failures only then, each a 503 with Retry-After or a cut connection; \
                 success within {} s after; before and after that each post is found {FRESH} ms after its \
                 acknowledgement",
                disturbed / 1000,
                recovery / 1000
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
