//! What may differ between Litestream 0.3.13 and litekeep in the scenario, beside the log lines, fields and metrics that
//! COMPAT.md lists one by one; and the row of COMPAT.md that says so.

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
    /// The steps in which it shows, one space apart.
    steps: &'static str,
    /// The fact; with a `*` at its end, how it begins.
    fact: &'static str,
    /// The first cell of its row.
    pub(super) compat: &'static str,
}

impl Difference {
    pub(super) fn steps(&self) -> impl Iterator<Item = &'static str> {
        self.steps.split(' ')
    }

    pub(super) fn covers(&self, side: Side, step: &str, fact: &str) -> bool {
        let same = match self.fact.strip_suffix('*') {
            Some(begin) => fact.starts_with(begin),
            None => fact == self.fact,
        };
        side == self.side && same && self.steps().any(|it| it == step)
    }
}

/// The rows of COMPAT.md that are named more than once.
const CODES: &str = "Exit codes";
const COMMAND: &str = "`-exec`";
pub(super) const ERRORS: &str = "Errors";
const RESTORE_LOG: &str = "The log of `restore`";
const LISTING: &str = "`databases` of 0.3";
const OWN_CHAIN: &str = "`generations`, `snapshots`, `wal` of a replica that litekeep writes";
const HELP: &str = "`help`, `-h`";

/// The steps in which `restore` has something to say: on stdout, as slog does; on stderr, as Go's logger does; on stderr
/// beside what others say on stdout.
const RESTORES: &str = "nothing nothing-in-the-bucket there elsewhere by-name from-the-bucket at-the-moment \
     at-the-moment-in-the-bucket after-service";
const RESTORES_BY_URL: &str = "by-url old-restore old-generation";
const STARTS: &str = "first again";

/// The steps that end with an error: by a log of slog's, by one of Go's.
const FAILURES: &str = "no-backup in-the-way too-early unknown-database";
const FAILURES_AT_ONCE: &str = "unknown-command unknown-flag no-configuration no-url";

/// How an error of ours begins: it is one line.
pub(super) const ERROR: &str = "text err: Error: ";

/// Where the words of 0.3.13's error are not in ours: the step, what ours says instead, and the row.
pub(super) const OTHER_WORDS: [(&str, &str, &str); 2] = [
    ("too-early", "timestamp does not exist", "The error for a time that is too early"),
    ("again", "", COMMAND),
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
    theirs(FAILURES, "log lines on out, slog", ERRORS),
    theirs(FAILURES_AT_ONCE, "log lines on err, Go's own", ERRORS),
    theirs(RESTORES, "log lines on out, slog", RESTORE_LOG),
    theirs(RESTORES_BY_URL, "log lines on err, Go's own", RESTORE_LOG),
    ours(RESTORES, "log lines on err, slog", RESTORE_LOG),
    ours(RESTORES_BY_URL, "log lines on err, slog", RESTORE_LOG),
    ours(STARTS, "log lines on err, slog", RESTORE_LOG),
    ours("too-early", "log lines on err, slog", RESTORE_LOG),
    theirs("version", "text out: v0.3.13", "`version`"),
    ours("version", "text out: *", "`version`"),
    theirs("databases", "text out: path replicas", LISTING),
    theirs("databases", "text out: $PLACE/data/app.db backup", LISTING),
    ours("databases", "text out: path replica", LISTING),
    ours("databases", "text out: $PLACE/data/app.db file", LISTING),
    theirs("generations", "text out: backup GENERATION DURATION TIME TIME", OWN_CHAIN),
    theirs("snapshots", "text out: backup GENERATION 0 *", OWN_CHAIN),
    theirs("wal", "text out: replica generation index offset size created", OWN_CHAIN),
    theirs("wal", "text out: backup GENERATION 0 *", OWN_CHAIN),
    ours("wal", "text out: level min_txid max_txid size created", OWN_CHAIN),
    ours("wal", "text out: 0 GENERATION GENERATION *", OWN_CHAIN),
    ours("wal", "text err: Warning: 'wal' command is deprecated, please use 'ltx' instead", OWN_CHAIN),
    theirs("help help-of-a-command", "code 1", HELP),
    ours("help help-of-a-command", "code 0", HELP),
    theirs("help no-arguments help-of-a-command", "text out: *", HELP),
    ours("help no-arguments help-of-a-command", "text out: *", HELP),
    theirs("unknown-flag", "text out: *", ERRORS),
    theirs("unknown-flag", "text err: flag provided but not defined: -nonsense", ERRORS),
];
