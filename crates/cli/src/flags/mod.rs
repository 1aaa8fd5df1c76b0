//! The one table of verbs and flags: parsing, help and dispatch are made from it.

pub(crate) mod completion;
pub(crate) mod help;
pub(crate) mod man;
pub(crate) mod parse;

pub(crate) use parse::{Line, Parsed, parse};

use crate::trouble::{Exit, Trouble};
use crate::verbs;
use crate::world::World;

/// One flag, as parsing and help need it.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Without its dash.
    pub(crate) name: &'static str,
    /// What its value is called; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    /// What it means when it is not given.
    pub(crate) default: Option<&'static str>,
    /// `''` is as if it were not given: scripts write `-o "$OUT"`, and Litestream takes it so of these.
    pub(crate) empty_is_absent: bool,
    /// What it does; no full stop at the end.
    pub(crate) doc: &'static str,
}

impl Flag {
    const fn switch(name: &'static str, doc: &'static str) -> Self {
        Self { name, value: None, default: None, empty_is_absent: false, doc }
    }

    const fn taking(name: &'static str, value: &'static str, doc: &'static str) -> Self {
        Self { name, value: Some(value), default: None, empty_is_absent: false, doc }
    }

    /// A text, of which Go's programs can't tell an empty one from none.
    const fn text(name: &'static str, value: &'static str, doc: &'static str) -> Self {
        Self { empty_is_absent: true, ..Self::taking(name, value, doc) }
    }

    const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }
}

/// One command of the program.
#[derive(Debug)]
pub(crate) struct Verb {
    /// What it is called by.
    pub(crate) name: &'static str,
    /// What it is called by as well.
    pub(crate) aliases: &'static [&'static str],
    /// What may follow its flags, one line of usage each.
    pub(crate) operands: &'static [&'static str],
    /// At most so many operands.
    pub(crate) max_operands: usize,
    /// One line for the overview.
    pub(crate) summary: &'static str,
    /// The head of its help.
    pub(crate) doc: &'static str,
    /// Its flags, in the order of its help.
    pub(crate) flags: &'static [&'static Flag],
    /// Does it.
    pub(crate) run: fn(&World, &Parsed) -> Result<Exit, Trouble>,
}

pub(crate) static CONFIG: Flag = Flag::text(
    "config",
    "PATH",
    "the configuration file; without it $LITESTREAM_CONFIG, else /etc/litestream.yml",
);
pub(crate) static NO_EXPAND_ENV: Flag = Flag::switch(
    "no-expand-env",
    "take $NAME, ${NAME} and ${NAME:-DEFAULT} in the configuration file as they stand",
);
pub(crate) static FIRST_REPLICA: Flag = Flag::switch(
    "first-replica",
    "of several `replicas` of a database use the first; without it that is an error",
);
pub(crate) static REPLICA: Flag =
    Flag::text("replica", "NAME", "of several `replicas` of a database use the one of this name or type");
pub(crate) static JSON: Flag = Flag::switch("json", "print JSON on stdout");

pub(crate) static EXEC: Flag = Flag::text(
    "exec",
    "COMMAND",
    "run a command while replicating and end with it, with its exit code; signals are passed on,\n\
     and the last sync is made whatever the command's end was",
);
pub(crate) static READY_URL: Flag = Flag::text(
    "ready-url",
    "URL",
    "with -exec: the command is well once this http address answers with a 2xx, not once it has\n\
     stayed up for 5 s",
);
pub(crate) static HAND_OVER: Flag = Flag::taking(
    "hand-over",
    "DURATION",
    "with -exec: how long an older instance may take to stop its command and bring its changes up;\n\
     an instance that was asked to leave kills its command 3 s before that",
)
.or("10s");
pub(crate) static READY_TIMEOUT: Flag = Flag::taking(
    "ready-timeout",
    "DURATION",
    "with -exec: how long a newer instance may take until its command is well; then this one takes the\n\
     databases back and starts its own command again",
)
.or("60s");
pub(crate) static SINGLE_WRITER: Flag = Flag::switch(
    "single-writer",
    "with -exec: go on where the store cannot create only; you say that nobody else writes (in the\n\
     configuration: single-writer: true)",
);
pub(crate) static ONCE: Flag = Flag::switch("once", "replicate what is there and exit");
pub(crate) static FORCE_SNAPSHOT: Flag =
    Flag::switch("force-snapshot", "with -once: have a snapshot of what is there as well");
pub(crate) static ENFORCE_RETENTION: Flag = Flag::switch(
    "enforce-retention",
    "with -once: do the chores that are due, and delete what retention lets go",
);
pub(crate) static LOG_LEVEL: Flag = Flag::text(
    "log-level",
    "LEVEL",
    "trace, debug, info, warn or error; goes before $LOG_LEVEL and the file",
);
pub(crate) static RESTORE_IF_DB_NOT_EXISTS: Flag = Flag::switch(
    "restore-if-db-not-exists",
    "restore a database that is not there before replicating it; starts fresh only where the\n\
     replica is confirmed empty",
);

pub(crate) static OUTPUT: Flag = Flag::text(
    "o",
    "PATH",
    "where the database goes; needed with a REPLICA_URL, else the database's own path",
);
pub(crate) static TXID: Flag =
    Flag::taking("txid", "HEX", "restore up to this transaction id (16 hex digits)");
pub(crate) static TIMESTAMP: Flag =
    Flag::text("timestamp", "TIME", "restore to a point in time (RFC 3339: 2026-11-23T08:00:00Z)");
pub(crate) static PARALLELISM: Flag = Flag::taking("parallelism", "N", "downloads at the same time").or("8");
pub(crate) static IF_DB_NOT_EXISTS: Flag =
    Flag::switch("if-db-not-exists", "succeed without doing anything if the database is there");
pub(crate) static IF_REPLICA_EXISTS: Flag = Flag::switch(
    "if-replica-exists",
    "succeed without doing anything if the replica is confirmed empty; any doubt is an error",
);
pub(crate) static DRY_RUN: Flag = Flag::switch("dry-run", "print what would be read, restore nothing");
pub(crate) static FORCE: Flag =
    Flag::switch("force", "replace a database that is there, once the new one is complete and verified");
pub(crate) static INTEGRITY_CHECK: Flag =
    Flag::taking(
        "integrity-check",
        "auto|none|quick|full",
        "SQLite's own check of the result; auto is a full one where the replica carries no seal to verify against",
    )
    .or("auto");
pub(crate) static FOLLOW: Flag =
    Flag::switch("f", "follow: after the restore go on with what is written to the replica, until a signal");
pub(crate) static FOLLOW_INTERVAL: Flag =
    Flag::taking("follow-interval", "DURATION", "with -f: the pause between two looks at the replica")
        .or("1s");
pub(crate) static GENERATION: Flag =
    Flag::text("generation", "HEX", "restore this generation of a v0.3 backup (16 hex digits)");

pub(crate) static INDEX: Flag = Flag::taking(
    "index",
    "HEX",
    "restore the v0.3 backup of -generation to the end of this WAL (8 hex digits)",
);
pub(crate) static OF_GENERATION: Flag =
    Flag::text("generation", "HEX", "list this generation of a v0.3 backup only (16 hex digits)");
pub(crate) static RESET_DRY_RUN: Flag =
    Flag::switch("dry-run", "print what would be removed, remove nothing");
pub(crate) static RESTORE: Flag = Flag::switch(
    "restore",
    "restore to a scratch place as well, have SQLite check the result, and compare it with the database if\n\
     that is there and at the same transaction",
);
pub(crate) static SCRATCH: Flag = Flag::text(
    "scratch",
    "DIR",
    "with -restore: where the scratch place is made; else beside the database, or in $TMPDIR for a REPLICA_URL",
);

pub(crate) static LEVEL: Flag = Flag::taking("level", "0-9|all", "which level to list").or("0");
pub(crate) static VERBOSE: Flag =
    Flag::switch("verbose", "print the platform and the versions it is made of");

pub(crate) static SOCKET: Flag = Flag::taking("socket", "PATH", "the control socket of the running litekeep")
    .or("/var/run/litestream.sock");
pub(crate) static TIMEOUT: Flag = Flag::taking("timeout", "SECONDS", "how long to wait at most").or("30");
pub(crate) static SHORT_TIMEOUT: Flag =
    Flag::taking("timeout", "SECONDS", "how long to wait at most").or("10");
pub(crate) static LOCAL: Flag = Flag::switch("local", "ask no replica");
pub(crate) static REPLICA_TIMEOUT: Flag =
    Flag::taking("timeout", "SECONDS", "how long to wait for the replicas, all together").or("5");
pub(crate) static WAIT: Flag =
    Flag::switch("wait", "wait until the replica has everything that was committed before");
pub(crate) static REPLICA_URL: Flag = Flag::text(
    "replica",
    "URL",
    "where the replica goes, such as s3://bucket/path or file:///backups/db; needed",
);
pub(crate) static UNREGISTER_DRY_RUN: Flag =
    Flag::switch("dry-run", "print what would be done, ask nothing of the daemon");

/// All verbs, in the order of the overview.
pub(crate) static VERBS: &[Verb] = &[
    Verb {
        name: "replicate",
        aliases: &[],
        operands: &["", "DB_PATH REPLICA_URL"],
        max_operands: usize::MAX,
        summary: "keep databases in their replicas, until a signal",
        doc: "Replicates the databases of the configuration file, or the one that is named, until SIGINT or\n\
              SIGTERM. On a signal the last changes go up before it ends; one a second later ends the waiting.\n\n\
              It ends with 0 when everything is in the replica, with 20 if the last changes are not, 21 if somebody\n\
              else writes to the replica, 22 if the local database does not follow from it, 11 if the replica was\n\
              wiped, 12 if it is damaged, 13 if it cannot be reached, 1 for everything else; with -exec, with the\n\
              command's own code if that is not 0.",
        flags: &[
            &CONFIG,
            &NO_EXPAND_ENV,
            &FIRST_REPLICA,
            &EXEC,
            &READY_URL,
            &READY_TIMEOUT,
            &HAND_OVER,
            &SINGLE_WRITER,
            &ONCE,
            &FORCE_SNAPSHOT,
            &ENFORCE_RETENTION,
            &RESTORE_IF_DB_NOT_EXISTS,
            &LOG_LEVEL,
        ],
        run: verbs::replicate::run,
    },
    Verb {
        name: "restore",
        aliases: &[],
        operands: &["DB_PATH", "-o PATH REPLICA_URL"],
        max_operands: 1,
        summary: "bring a database back from its replica",
        doc: "Restores a database. It takes its place only once it is complete and verified; whatever was there\n\
              before stays until then.\n\n\
              It ends with 0 when the database is there (or, by -if-..., when there was nothing to do), with 10 if\n\
              nothing was ever replicated there, 11 if the replica was wiped, 12 if objects are missing or damaged,\n\
              13 if the replica cannot be reached, 14 if the output is there already, 15 if there is no such\n\
              transaction or time, and with 1 for everything else. Only after 10 may an application start fresh.\n\n\
              With -f it goes on until SIGINT or SIGTERM and then ends with 0. A database that was restored from this\n\
              replica or followed it before is taken up where it is. It ends with the codes above, with 21 if a\n\
              transaction does not go on from the one before it, 22 if the database was changed by somebody else, and\n\
              2 if the flags contradict each other.",
        flags: &[
            &OUTPUT,
            &TXID,
            &TIMESTAMP,
            &GENERATION,
            &INDEX,
            &FOLLOW,
            &FOLLOW_INTERVAL,
            &IF_DB_NOT_EXISTS,
            &IF_REPLICA_EXISTS,
            &FORCE,
            &DRY_RUN,
            &INTEGRITY_CHECK,
            &PARALLELISM,
            &JSON,
            &CONFIG,
            &NO_EXPAND_ENV,
            &FIRST_REPLICA,
            &REPLICA,
        ],
        run: verbs::restore::run,
    },
    Verb {
        name: "ltx",
        aliases: &[],
        operands: &["DB_PATH", "REPLICA_URL"],
        max_operands: 1,
        summary: "list the LTX files of a replica",
        doc: "Lists the LTX files of a replica.",
        flags: &[&LEVEL, &JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA, &REPLICA],
        run: verbs::ltx::run,
    },
    Verb {
        name: "wal",
        aliases: &[],
        operands: &["DB_PATH", "REPLICA_URL"],
        max_operands: 1,
        summary: "list the WAL segments of a v0.3 backup",
        doc: "Lists the WAL segments of a v0.3 backup. Of a replica that holds LTX files, and unless -generation is\n\
              given, it lists those, as in Litestream 0.5: `litekeep ltx` is the name for that.",
        flags: &[&OF_GENERATION, &LEVEL, &JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA, &REPLICA],
        run: verbs::v3::wal,
    },
    Verb {
        name: "generations",
        aliases: &[],
        operands: &["DB_PATH", "REPLICA_URL"],
        max_operands: 1,
        summary: "list the generations of a v0.3 backup",
        doc: "Lists the generations of a v0.3 backup, how far each lags behind and the time that it covers.",
        flags: &[&JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA, &REPLICA],
        run: verbs::v3::generations,
    },
    Verb {
        name: "snapshots",
        aliases: &[],
        operands: &["DB_PATH", "REPLICA_URL"],
        max_operands: 1,
        summary: "list the snapshots of a v0.3 backup",
        doc: "Lists the snapshots of a v0.3 backup. Those of LTX files are `litekeep ltx -level 9`.",
        flags: &[&JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA, &REPLICA],
        run: verbs::v3::snapshots,
    },
    Verb {
        name: "databases",
        aliases: &[],
        operands: &[""],
        max_operands: 0,
        summary: "list the databases of the configuration file",
        doc: "Lists the databases of the configuration file. Of a directory (dir) these are what it holds now, and what a\n\
              running litekeep has of it besides, which is asked where the configuration enables its socket.",
        flags: &[&JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA],
        run: verbs::databases::run,
    },
    Verb {
        name: "config",
        aliases: &[],
        operands: &["check"],
        max_operands: 1,
        summary: "check the configuration file and show what it comes to",
        doc: "Reads the configuration file as replicate would, looks whether the folders in it are such, and prints every\n\
              setting of every database: its value and where it came from (a line of the file, a key of Litestream 0.3\n\
              that stands for it, the environment, or the default). Secrets are hidden. Nothing is asked of a replica.\n\n\
              It ends with 0 if replicate would take the file, with 13 if nothing but keys of a bucket is missing, and\n\
              with 1 if it would not; then it lists all that must be mended.",
        flags: &[&JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA],
        run: verbs::config::run,
    },
    Verb {
        name: "status",
        aliases: &[],
        operands: &["[DB_PATH]"],
        max_operands: 1,
        summary: "show the databases' local state and what their replicas hold",
        doc: "Shows what this machine knows of the databases, and what each replica holds now: the newest transaction\n\
              that a restore from it would reach, and when that was seen. What was tried, or held once, does not count.\n\n\
              The replicas are listed, with a few requests each, all at the same time; one that does not answer in time\n\
              is told as unknown, with the reason. Of a directory (dir) the databases are those that `litekeep databases` lists. No\n\
              database is opened; of a directory's files the first bytes are read.",
        flags: &[&LOCAL, &REPLICA_TIMEOUT, &JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA],
        run: verbs::status::run,
    },
    Verb {
        name: "info",
        aliases: &[],
        operands: &[""],
        max_operands: 0,
        summary: "show which litekeep is running",
        doc: "Asks a running `litekeep replicate` over its control socket for its version, its process and its age.",
        flags: &[&SHORT_TIMEOUT, &JSON, &SOCKET],
        run: verbs::control::info,
    },
    Verb {
        name: "list",
        aliases: &[],
        operands: &[""],
        max_operands: 0,
        summary: "list the databases of a running litekeep",
        doc: "Lists the databases of a running `litekeep replicate`: replicating, open (the file is not there yet) or\n\
              stopped, and when the replica last took something or was seen to hold the newest transaction.",
        flags: &[&SHORT_TIMEOUT, &JSON, &SOCKET],
        run: verbs::control::list,
    },
    Verb {
        name: "start",
        aliases: &[],
        operands: &["DB_PATH"],
        max_operands: 1,
        summary: "replicate a database again that was stopped",
        doc: "Starts one database of a running `litekeep replicate` that was stopped, or has ended by an error.",
        flags: &[&TIMEOUT, &JSON, &SOCKET],
        run: verbs::control::start,
    },
    Verb {
        name: "stop",
        aliases: &[],
        operands: &["DB_PATH"],
        max_operands: 1,
        summary: "stop one database of a running litekeep",
        doc: "Makes the last sync of one database of a running `litekeep replicate` and stops it. It ends with 1 if the\n\
              last changes are not in the replica; the database has stopped then too, and they go up at its next start.",
        flags: &[&TIMEOUT, &JSON, &SOCKET],
        run: verbs::control::stop,
    },
    Verb {
        name: "sync",
        aliases: &[],
        operands: &["DB_PATH"],
        max_operands: 1,
        summary: "have a database synced now",
        doc: "Has a running `litekeep replicate` sync a database at once. With -wait it ends with 0 only when the replica\n\
              has everything that was committed before; without, when it is in the replica or on its way. Where nothing\n\
              was committed, nothing is written.",
        flags: &[&WAIT, &TIMEOUT, &JSON, &SOCKET],
        run: verbs::control::sync,
    },
    Verb {
        name: "register",
        aliases: &[],
        operands: &["-replica URL DB_PATH"],
        max_operands: 1,
        summary: "have one more database replicated",
        doc: "Has a running `litekeep replicate` take one more database, until it ends; the configuration file is not\n\
              changed. Keys come from the daemon's environment.",
        flags: &[&REPLICA_URL, &TIMEOUT, &JSON, &SOCKET],
        run: verbs::control::register,
    },
    Verb {
        name: "unregister",
        aliases: &[],
        operands: &["DB_PATH"],
        max_operands: 1,
        summary: "have a database replicated no longer",
        doc: "Makes the last sync of one database of a running `litekeep replicate` and takes it off the list. If the last\n\
              changes are not in the replica it ends with 1 and the database stays on the list, stopped; asked once more,\n\
              it goes all the same.",
        flags: &[&UNREGISTER_DRY_RUN, &TIMEOUT, &JSON, &SOCKET],
        run: verbs::control::unregister,
    },
    Verb {
        name: "reset",
        aliases: &[],
        operands: &["DB_PATH"],
        max_operands: 1,
        summary: "remove the local state of a database",
        doc: "Removes what this machine knows of a database; neither the database nor its replica is touched. The next\n\
              replicate compares the database with the replica anew: changes that the replica lacks are then no longer\n\
              known to follow from it, and `litekeep replicate -once` before the reset brings them up.\n\n\
              It refuses while something replicates the database. The configuration counts only where -config is given.",
        flags: &[&RESET_DRY_RUN, &JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA],
        run: verbs::reset::run,
    },
    Verb {
        name: "completion",
        aliases: &[],
        operands: &["bash|zsh|fish"],
        max_operands: 1,
        summary: "print a shell's completions",
        doc: "Prints completions for a shell: source <(litekeep completion bash), or the same for zsh, or\n\
              litekeep completion fish | source",
        flags: &[],
        run: verbs::papers::completion,
    },
    Verb {
        name: "man",
        aliases: &[],
        operands: &["[COMMAND]"],
        max_operands: 2,
        summary: "print a manual page",
        doc: "Prints the manual page of a command, or of all of them, as roff: litekeep man restore | man -l -",
        flags: &[],
        run: verbs::papers::man,
    },
    Verb {
        name: "doctor",
        aliases: &[],
        operands: &["[DB_PATH | REPLICA_URL]"],
        max_operands: 1,
        summary: "ask a store what it really does, and say what follows from that",
        doc: "Asks the store of a replica what it really does: conditions, permissions, listings, ranges, clock. Everything\n\
              is tried on objects of its own below litekeep-doctor/ in the replica's path, which are removed again; what\n\
              could not be removed is named. Without an operand it takes the only database of the configuration.\n\n\
              It ends with 0 when litekeep can run safely there, with 13 if the store cannot be reached or does not know\n\
              these keys, with 23 if it lacks something that is needed, with 129, 130, 131 or 143 after a signal, and\n\
              with 1 for everything else.",
        flags: &[&JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA, &REPLICA],
        run: verbs::doctor::run,
    },
    Verb {
        name: "verify",
        aliases: &[],
        operands: &["[DB_PATH | REPLICA_URL]"],
        max_operands: 1,
        summary: "walk a replica: is everything in it whole?",
        doc: "Reads every file of a replica and checks its checksums, its seal, its place among the others, and that no\n\
              level has a hole. Reads only. Without an operand it takes the only database of the configuration.\n\n\
              It ends with 0 when everything that is promised is there (warnings included), with 12 if objects are\n\
              missing, damaged or foreign, 10 if nothing was ever replicated there, 11 if the replica was wiped, 13 if it\n\
              cannot be reached, 22 if the database has other pages than its own replica, and 1 for everything else.",
        flags: &[&RESTORE, &SCRATCH, &PARALLELISM, &JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA, &REPLICA],
        run: verbs::verify::run,
    },
    Verb {
        name: "usage",
        aliases: &[],
        operands: &["[DB_PATH | REPLICA_URL]"],
        max_operands: 1,
        summary: "show what a replica takes up, how it grows, and what it costs",
        doc: "Shows objects, bytes and ages of each level, growth and requests a day, what retention will free, and the\n\
              monthly cost at the list prices of providers. Reads listings only, and a few objects' times. Without an\n\
              operand it takes the only database of the configuration; for a REPLICA_URL it counts with the default\n\
              settings.\n\n\
              It ends with 0, with 13 if the replica cannot be reached, and with 1 for everything else.",
        flags: &[&JSON, &CONFIG, &NO_EXPAND_ENV, &FIRST_REPLICA, &REPLICA],
        run: verbs::usage::run,
    },
    Verb {
        name: "version",
        aliases: &[],
        operands: &[""],
        max_operands: 0,
        summary: "print the version",
        doc: "Prints the version.",
        flags: &[&VERBOSE],
        run: verbs::version::run,
    },
];

/// A verb by name or alias.
pub(crate) fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name || verb.aliases.contains(&name))
}

/// The known word most like `word`, if one is like it at all: at most a third of its letters differ.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.chars().count() / 3;
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, drop or change between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_two_things() {
        let mut names: Vec<_> = VERBS
            .iter()
            .flat_map(|verb| [verb.name].into_iter().chain(verb.aliases.iter().copied()))
            .collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for verb in VERBS {
            let mut flags: Vec<_> = verb.flags.iter().map(|flag| flag.name).collect();
            flags.sort_unstable();
            assert!(flags.windows(2).all(|pair| pair[0] != pair[1]), "{}: {flags:?}", verb.name);
            assert!(
                verb.flags.iter().all(|flag| flag.value.is_some() || flag.default.is_none()),
                "{}",
                verb.name
            );
        }
    }

    #[test]
    fn every_command_and_flag_is_in_the_table_of_differences() {
        let table = include_str!("../../../../COMPAT.md");
        for verb in VERBS {
            let name = format!("`{}`", verb.name);
            let of_it = |line: &&str| {
                line.starts_with('|') && line.split('|').nth(1).is_some_and(|what| what.contains(&name))
            };
            let rows = table.lines().filter(of_it).collect::<Vec<_>>().join("\n");
            assert!(!rows.is_empty(), "COMPAT.md has no row for {name}");
            for flag in verb.flags {
                assert!(
                    rows.contains(&format!("`-{}`", flag.name)),
                    "COMPAT.md lacks -{} of {name}",
                    flag.name
                );
            }
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["replicate", "restore", "status"];
        for (word, near) in [
            ("replciate", Some("replicate")),
            ("restor", Some("restore")),
            ("snapshots", None),
            ("", None),
            ("statusx", Some("status")),
        ] {
            assert_eq!(nearest(word, known), near, "{word}");
        }
    }

    #[test]
    fn a_distance_counts_single_changes() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abd", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
