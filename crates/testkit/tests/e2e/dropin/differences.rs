//! What may differ between Litestream 0.3.13 and litekeep in the scenario, and the row of COMPAT.md that says so.

/// Who has a fact that the other lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Theirs,
    Ours,
}

/// One difference.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) side: Side,
    /// The steps in which it shows, one space apart; all of them if empty.
    steps: &'static str,
    /// How the fact begins.
    fact: &'static str,
    /// The first cell of its row.
    pub(super) compat: &'static str,
}

impl Difference {
    pub(super) fn covers(&self, step: &str, fact: &str) -> bool {
        (self.steps.is_empty() || self.steps.split(' ').any(|it| it == step)) && fact.starts_with(self.fact)
    }
}

/// The rows of COMPAT.md that are named more than once.
const CODES: &str = "Exit codes";
const COMMAND: &str = "`-exec`";
const ERRORS: &str = "Errors";
const RESTORE_LOG: &str = "The log of `restore`";
const OWN_LINES: &str = "Log lines and fields of its own";
const OWN_CHAIN: &str = "`generations`, `snapshots`, `wal` of a replica that litekeep writes";
const HELP: &str = "`help`, `-h`";
const GONE_METRICS: &str = "`litestream_compaction_verify_error_count`, `go_*`, `promhttp_*`; 0.3's `litestream_shadow_wal_*`, \
     `litestream_replica_wal_*`";
const VALIDATION: &str = "0.3's `litestream_replica_validation_total`";
pub(super) const GENERATIONS: &str = "Log lines of generations, snapshots and WAL segments";

/// 0.3.13's lines about what litekeep does not have. Which of them a run brings depends on its pace.
pub(super) const LINES_OF_GENERATIONS: &[&str] = &[
    "sync: new generation",
    "write snapshot",
    "snapshot written",
    "write wal segment",
    "wal segment written",
    "restoring snapshot",
    "restoring wal files",
    "downloaded wal",
    "applied wal",
    "snapshot only, finalizing database",
    "init: cannot determine last wal position, clearing generation",
];

const fn theirs(steps: &'static str, fact: &'static str, compat: &'static str) -> Difference {
    Difference { side: Side::Theirs, steps, fact, compat }
}

const fn ours(steps: &'static str, fact: &'static str, compat: &'static str) -> Difference {
    Difference { side: Side::Ours, steps, fact, compat }
}

/// Every one of them shows in each run.
pub(super) const DIFFERENCES: &[Difference] = &[
    theirs("no-backup in-the-way too-early", "code 1", CODES),
    ours("no-backup", "code 10", CODES),
    ours("in-the-way", "code 14", CODES),
    ours("too-early", "code 15", CODES),
    theirs("again", "code 1", COMMAND),
    ours("again", "code 3", COMMAND),
    theirs("", "log ERROR failed to run", ERRORS),
    ours("", "text err: Error: ", ERRORS),
    theirs("", "log lines on out, slog", RESTORE_LOG),
    theirs("", "log lines on err, Go's own", RESTORE_LOG),
    ours("", "log lines on err, slog", RESTORE_LOG),
    theirs("", "field renaming database from temporary location ", RESTORE_LOG),
    ours("", "log INFO ", OWN_LINES),
    ours("", "field ", OWN_LINES),
    ours("too-early", "log WARN planning again", OWN_LINES),
    theirs("", "field litestream version=", "`version`"),
    theirs("version", "text out: v0.3.13", "`version`"),
    ours("version", "text out: ", "`version`"),
    theirs("databases", "text out: ", "`databases` of 0.3"),
    ours("databases", "text out: ", "`databases` of 0.3"),
    theirs("generations snapshots wal", "text out: ", OWN_CHAIN),
    ours("wal", "text out: ", OWN_CHAIN),
    ours("wal", "text err: Warning: ", OWN_CHAIN),
    theirs("help help-of-a-command", "code 1", HELP),
    ours("help help-of-a-command", "code 0", HELP),
    theirs("help no-arguments help-of-a-command unknown-flag", "text ", HELP),
    ours("help no-arguments help-of-a-command", "text out: ", HELP),
    theirs("metrics", "series litestream_shadow_wal_", GONE_METRICS),
    theirs("metrics", "series litestream_replica_wal_", GONE_METRICS),
    theirs("metrics", "series litestream_replica_validation_total", VALIDATION),
    theirs("metrics", "type litestream_shadow_wal_", GONE_METRICS),
    theirs("metrics", "type litestream_replica_wal_", GONE_METRICS),
    theirs("metrics", "series go_", GONE_METRICS),
    theirs("metrics", "type go_", GONE_METRICS),
    theirs("metrics", "series promhttp_", GONE_METRICS),
    theirs("metrics", "type promhttp_", GONE_METRICS),
    theirs("metrics", "series process_", GONE_METRICS),
    theirs("metrics", "type process_", GONE_METRICS),
    ours("metrics", "series lit", "Metrics that 0.3 did not have"),
    ours("metrics", "type lit", "Metrics that 0.3 did not have"),
];
