//! `litekeep status`: what this machine knows of the databases. Asks neither a replica nor a running litekeep, and
//! opens no database file, so it disturbs nobody.

use super::warn;
use crate::config::{self, Database};
use crate::daemon::verdict;
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::{size, table, time};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::files::{Files, RealFiles, with_suffix};
use litekeep::{local, noted};
use serde::Serialize;

/// The first four are Litestream's, which has the size of the WAL as text.
#[derive(Default, Serialize)]
struct Row {
    database: String,
    status: &'static str,
    local_txid: String,
    wal_size: String,
    wal_bytes: u64,
    /// Whether the store refuses to replace what is to be created only, as it was found at the last start.
    create_only: Option<bool>,
    /// The newest restore that was verified by interval, and what went wrong with the last one.
    verified_txid: Option<String>,
    verified_at: Option<String>,
    verification_error: Option<String>,
}

/// Prints one line for each database, or for the one that is named.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let config = config::load(world, parsed)?;
    warn(&config);
    let wanted = parsed.operands.first().map(|path| world.path(path));
    let rows: Vec<Row> = config
        .databases
        .iter()
        .filter(|database| wanted.as_ref().is_none_or(|path| *path == database.path))
        .map(look)
        .collect();
    if let (Some(path), []) = (wanted, &rows[..]) {
        return Err(Trouble::new(format!("database not found in config: {}", path.display()))
            .hint("`litekeep databases` lists them"));
    }
    if parsed.on(&flags::JSON) {
        output::json(&rows)?;
    } else {
        let head =
            ["database", "status", "local txid", "wal size", "create only", "verified"].map(str::to_owned);
        let cells = rows.into_iter().map(cells);
        output::text(&table::columns(&std::iter::once(head).chain(cells).collect::<Vec<_>>()))?;
    }
    Ok(Exit::OK)
}

fn cells(row: Row) -> [String; 6] {
    let create_only = row.create_only.map_or("-", |kept| if kept { "yes" } else { "no" });
    let verified = match (row.verification_error, row.verified_at) {
        (Some(why), _) => format!("FAILED: {why}"),
        (None, at) => at.unwrap_or_else(|| "-".to_owned()),
    };
    [row.database, row.status.to_owned(), row.local_txid, row.wal_size, create_only.to_owned(), verified]
}

fn look(database: &Database) -> Row {
    let directory = local::directory(&database.path, database.settings.meta_path.as_deref());
    let row = |status, local_txid: Option<String>, wal: Option<u64>| Row {
        database: database.path.display().to_string(),
        status,
        local_txid: local_txid.unwrap_or_else(|| "-".to_owned()),
        wal_size: wal.map_or_else(|| "-".to_owned(), size::short),
        wal_bytes: wal.unwrap_or(0),
        ..Row::default()
    };
    let wal = RealFiles.len(&with_suffix(&database.path, "-wal"));
    match (RealFiles.id(&database.path), local::peek(&RealFiles, &directory), wal) {
        (Ok(None), _, _) => row("no database", None, None),
        (Ok(Some(_)), Ok(Some(state)), Ok(wal)) => {
            let verdict = verdict::read(&directory, &state.replica);
            let good = verdict.as_ref().and_then(|verdict| verdict.good);
            Row {
                create_only: noted::create_only(&RealFiles, &directory),
                verified_txid: good.map(|(txid, _)| txid.to_string()),
                verified_at: good.map(|(_, at)| time::seconds(at)),
                verification_error: verdict.and_then(|verdict| verdict.failure),
                ..row("ok", Some(state.txid.to_string()), Some(wal.unwrap_or(0)))
            }
        }
        (Ok(Some(_)), Ok(None), Ok(wal)) => row("not initialized", None, Some(wal.unwrap_or(0))),
        _ => row("error", None, None),
    }
}
