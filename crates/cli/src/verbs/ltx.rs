//! `litekeep ltx`: what LTX files a replica holds.

use super::{named, open};
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::{table, time};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep_formats::{Level, TimestampMs, TxidRange};
use litekeep_store::location::Settings;
use litekeep_store::{Entry, Key, Scope, Store};
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    level: u8,
    min_txid: String,
    max_txid: String,
    size: u64,
    timestamp: String,
}

/// Prints the files of one level or of all.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    levels(parsed)?;
    let named = named(world, parsed)?;
    let store = open(world, &named.replica)?;
    list(parsed, &*store, &named.replica)
}

/// The same of a replica that is open.
pub(super) fn list(parsed: &Parsed, store: &dyn Store, replica: &Settings) -> Result<Exit, Trouble> {
    let mut rows = Vec::new();
    for level in levels(parsed)? {
        let entries = listed(store, &Scope::Level(level), replica)?;
        rows.extend(entries.iter().filter_map(|entry| Some((row(entry)?, written(entry)))));
    }
    if rows.is_empty() {
        // Only with all of it in sight a store tells a place without a replica from another spelling of one.
        listed(store, &Scope::From(Level::SLOTS), replica)?;
    }
    if parsed.on(&flags::JSON) {
        output::json(&rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>())?;
    } else {
        let head = ["level", "min_txid", "max_txid", "size", "created"].map(str::to_owned);
        let cells = rows.into_iter().map(|(row, written)| {
            [row.level.to_string(), row.min_txid, row.max_txid, row.size.to_string(), time::seconds(written)]
        });
        output::text(&table::columns(&std::iter::once(head).chain(cells).collect::<Vec<_>>()))?;
    }
    Ok(Exit::OK)
}

fn listed(store: &dyn Store, scope: &Scope, replica: &Settings) -> Result<Vec<Entry>, Trouble> {
    store.list(scope).map_err(|error| {
        let what = format!("can't list the replica {}", replica.location());
        Trouble::new(what).because(&error).about_store(&error).exit(super::restore::UNREACHABLE)
    })
}

fn levels(parsed: &Parsed) -> Result<Vec<Level>, Trouble> {
    let text = parsed.text(&flags::LEVEL).unwrap_or_default();
    if text == "all" {
        return Ok(Level::all().collect());
    }
    match text.parse().ok().and_then(Level::new) {
        Some(level) => Ok(vec![level]),
        None => Err(Trouble::new(format!("-level: `{text}` is no level")).hint("0 to 9, or all")),
    }
}

fn row(entry: &Entry) -> Option<Row> {
    let Key::Ltx(level, range) = entry.key else { return None };
    Some(Row {
        level: level.get(),
        min_txid: TxidRange::min(range).to_string(),
        max_txid: TxidRange::max(range).to_string(),
        size: entry.size,
        timestamp: time::format(written(entry)),
    })
}

fn written(entry: &Entry) -> TimestampMs {
    entry.timestamp.unwrap_or(entry.modified)
}
