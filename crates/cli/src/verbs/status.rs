//! `litekeep status`: what this machine knows of the databases, and what their replicas hold as far as they say so now,
//! never what was tried (R66). Asks no running litekeep but for the names of its databases and opens none with SQLite, so it
//! disturbs nobody.

use super::held::{self, Answer, Instead, Told};
use super::{found, timeout, warn};
use crate::config::local_state;
use crate::config::{self, Database};
use crate::daemon::verdict;
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::{size, table, time};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::files::{Files, RealFiles, with_suffix};
use litekeep::inspect::Held;
use litekeep::local::{self, State};
use litekeep::noted;
use litekeep_formats::Txid;
use rustix::fs::Access;
use serde::Serialize;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The first four are Litestream's, which has the size of the WAL as text.
#[derive(Default, Serialize)]
struct Row {
    database: String,
    status: &'static str,
    local_txid: String,
    wal_size: String,
    wal_bytes: u64,
    #[serde(flatten)]
    replica: Replica,
    /// Whether the store refuses to replace what is to be created only, as it was found at the last start.
    create_only: Option<bool>,
    /// The newest restore that was verified, and what went wrong with the last verification by interval.
    verified_txid: Option<String>,
    verified_at: Option<String>,
    verification_error: Option<String>,
}

/// What the replica holds.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Replica {
    /// The newest transaction that a restore from it reaches; none if it holds none, or nobody knows.
    replica_txid: Option<String>,
    /// When it said so; none if it was not asked, or did not answer.
    confirmed_at: Option<String>,
    /// How many transactions of the local state are not among what it holds.
    replica_behind: Option<u64>,
    /// What is wrong with it, or why nobody knows.
    replica_problem: Option<String>,
}

/// Prints one line for each database, or for the one that is named.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let local = parsed.on(&flags::LOCAL);
    let config = if local { config::load_without_keys(world, parsed) } else { config::load(world, parsed) }?;
    warn(&config);
    let limit = Duration::from_secs(timeout(parsed, &flags::REPLICA_TIMEOUT)?);
    let wanted = parsed.operands.first().map(|path| world.path(path));
    let databases = match wanted {
        None => found::databases(&config),
        Some(path) => vec![found::at(&config, &path).ok_or_else(|| {
            Trouble::new(format!("database not found in config: {}", path.display()))
                .hint("`litekeep databases` lists them")
        })?],
    };
    // Before the replicas are asked: what is taken meanwhile is not held against them.
    let mut rows: Vec<(Row, Option<Txid>)> = databases.iter().map(look).collect();
    if !local {
        let replicas = databases.iter().map(|database| database.replica.clone()).collect();
        for ((row, local), answer) in rows.iter_mut().zip(held::ask(world, replicas, limit)?) {
            row.replica = told(answer, *local);
        }
    }
    let rows = rows.into_iter().map(|(row, _)| row);
    if parsed.on(&flags::JSON) {
        output::json(&rows.collect::<Vec<_>>())?;
    } else {
        output::text(&table::columns(
            &std::iter::once(HEAD.map(str::to_owned)).chain(rows.map(cells)).collect::<Vec<_>>(),
        ))?;
    }
    Ok(Exit::OK)
}

const HEAD: [&str; 9] = [
    "database",
    "status",
    "local txid",
    "wal size",
    "replica txid",
    "confirmed",
    "create only",
    "verified",
    "problem",
];

fn cells(row: Row) -> [String; 9] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let create_only = row.create_only.map_or("-", |kept| if kept { "yes" } else { "no" });
    let verified = match (row.verification_error, row.verified_at) {
        (Some(why), _) => format!("FAILED: {why}"),
        (None, at) => or_none(at),
    };
    let Replica { replica_txid, confirmed_at, replica_problem, .. } = row.replica;
    let (replica, confirmed, problem) =
        (or_none(replica_txid), or_none(confirmed_at), or_none(replica_problem));
    let create_only = create_only.to_owned();
    let status = row.status.to_owned();
    [row.database, status, row.local_txid, row.wal_size, replica, confirmed, create_only, verified, problem]
}

/// What an answer comes to, where the local state is at this transaction.
fn told(answer: Answer, local: Option<Txid>) -> Replica {
    let Told { held: Held { newest, restorable }, instead, at } = match answer {
        Ok(told) => told,
        Err(why) => {
            return Replica { replica_problem: Some(format!("unknown: {why}")), ..Replica::default() };
        }
    };
    let number = |txid: Option<Txid>| txid.map_or(0, Txid::get);
    let problem = match (newest, restorable) {
        (Some(newest), None) => {
            Some(format!("objects are missing or cut short: {newest} is there, and nothing can be restored"))
        }
        (Some(newest), Some(reached)) if reached < newest => Some(format!(
            "objects are missing or cut short: {newest} is there, and a restore reaches {reached}"
        )),
        (Some(_), Some(_)) => None,
        (None, _) => match instead {
            Instead { opened: Some(epoch), v3 } => {
                let beside = if v3 { "; a v0.3 backup lies beside it" } else { "" };
                Some(format!("wiped: epoch {epoch} was opened and no data is left{beside}"))
            }
            Instead { v3: true, .. } => Some("a v0.3 backup, and no transaction since".to_owned()),
            _ => local.map(|_| "the replica holds no transaction".to_owned()),
        },
    };
    Replica {
        replica_txid: restorable.map(|txid| txid.to_string()),
        confirmed_at: Some(time::format(at)),
        replica_behind: local.map(|local| local.get().saturating_sub(number(restorable))),
        replica_problem: problem,
    }
}

/// What this machine knows, and the transaction that its state is at.
fn look(database: &Database) -> (Row, Option<Txid>) {
    let directory = local_state(&database.path, database.settings.meta_path.as_deref());
    let row = |status, local_txid: Option<String>, wal: Option<u64>| Row {
        database: database.path.display().to_string(),
        status,
        local_txid: local_txid.unwrap_or_else(|| "-".to_owned()),
        wal_size: wal.map_or_else(|| "-".to_owned(), size::short),
        wal_bytes: wal.unwrap_or(0),
        ..Row::default()
    };
    // SQLite has it beside the file itself, wherever a link to that is.
    let real = database.path.canonicalize();
    let wal = with_suffix(real.as_deref().unwrap_or(&database.path), "-wal");
    let wal = RealFiles.len(&wal).map_err(|error| error.to_string());
    let file = usable(&database.path).map_err(|error| error.to_string());
    let state = local::peek(&RealFiles, &directory).map_err(|error| error.to_string());
    match (file, state, wal) {
        (Ok(false), _, _) => (row("no database", None, None), None),
        (Ok(true), Ok(Some(State { txid, replica, .. })), Ok(wal)) => {
            let verdict = verdict::read(&directory, &replica);
            let good = verdict.as_ref().and_then(|verdict| verdict.good);
            let row = Row {
                create_only: noted::create_only(&RealFiles, &directory),
                verified_txid: good.map(|(txid, _)| txid.to_string()),
                verified_at: good.map(|(_, at)| time::seconds(at)),
                verification_error: verdict.and_then(|verdict| verdict.failure),
                ..row("ok", Some(txid.to_string()), Some(wal.unwrap_or(0)))
            };
            (row, Some(txid))
        }
        (Ok(true), Ok(None), Ok(wal)) => (row("not initialized", None, Some(wal.unwrap_or(0))), None),
        (Err(why), _, _) | (_, Err(why), _) | (_, _, Err(why)) => {
            let trouble = Trouble::new(format!("can't look at {}", database.path.display())).cause(why);
            let trouble = trouble.hint("check the path, and run this as the user of the application");
            output::talk(&format!("Warning: {trouble}"));
            (row("error", None, None), None)
        }
    }
}

/// Whether it is there, and if so, a file that this user may read and write; nothing is opened.
fn usable(database: &Path) -> io::Result<bool> {
    match std::fs::metadata(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other("it is no file")),
        Ok(_) => {
            rustix::fs::access(database, Access::READ_OK | Access::WRITE_OK)?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::{Epoch, TimestampMs};

    #[test]
    fn r66_only_what_a_restore_reaches_counts_as_held_and_no_answer_as_nothing() {
        let held = |newest, restorable| {
            let held = Held { newest: Txid::new(newest), restorable: Txid::new(restorable) };
            Ok(Told { held, instead: Instead::default(), at: TimestampMs(0) })
        };
        let instead = |opened, v3| {
            let instead = Instead { opened: Epoch::new(opened), v3 };
            Ok(Told { held: Held::default(), instead, at: TimestampMs(0) })
        };
        for (answer, local, txid, behind, problem) in [
            (held(5, 5), 5, Some("0000000000000005"), Some(0), None),
            (held(6, 6), 5, Some("0000000000000006"), Some(0), None),
            (held(3, 3), 5, Some("0000000000000003"), Some(2), None),
            (held(5, 2), 5, Some("0000000000000002"), Some(3), Some("a restore reaches 0000000000000002")),
            (held(5, 0), 5, None, Some(5), Some("nothing can be restored")),
            (held(0, 0), 5, None, Some(5), Some("holds no transaction")),
            (held(0, 0), 0, None, None, None),
            (instead(1, false), 0, None, None, Some("wiped: epoch 00000001 was opened and no data is left")),
            (instead(3, true), 5, None, Some(5), Some("no data is left; a v0.3 backup lies beside it")),
            (instead(0, true), 0, None, None, Some("a v0.3 backup")),
            (held(2, 2), 0, Some("0000000000000002"), None, None),
            (Err("s3://b: gone".to_owned()), 5, None, None, Some("unknown: s3://b: gone")),
        ] {
            let shown = format!("{answer:?} {local}");
            let asked = answer.is_ok();
            let told = told(answer, Txid::new(local));
            assert_eq!((told.replica_txid.as_deref(), told.replica_behind), (txid, behind), "{shown}");
            assert_eq!(told.confirmed_at.is_some(), asked, "{shown}");
            match (problem, told.replica_problem) {
                (None, None) => {}
                (Some(part), Some(text)) if text.contains(part) => {}
                other => panic!("{shown}: {other:?}"),
            }
        }
    }
}
