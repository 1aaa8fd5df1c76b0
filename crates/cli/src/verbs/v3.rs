//! `litekeep generations`, `snapshots` and `wal`: what a v0.3 backup holds, in v0.3's columns.

use super::{Named, ltx, named, open, restore};
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::{duration, table, time};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep_formats::{Level, TimestampMs};
use litekeep_store::{Entry, Key, Scope, Store, V3Generation};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A replica that was opened, and what v0.3 calls it.
struct Opened {
    store: Arc<dyn Store>,
    location: String,
    name: String,
    database: Option<std::path::PathBuf>,
}

#[derive(Serialize)]
struct GenerationRow {
    name: String,
    generation: String,
    lag: String,
    start: String,
    end: String,
}

#[derive(Serialize)]
struct SnapshotRow {
    replica: String,
    generation: String,
    index: u32,
    size: u64,
    created: String,
}

#[derive(Serialize)]
struct SegmentRow {
    replica: String,
    generation: String,
    index: u32,
    offset: u64,
    size: u64,
    created: String,
}

/// Prints the generations, with the time that each covers.
pub(crate) fn generations(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let opened = opened(world, named(world, parsed)?)?;
    let snapshots = opened.list(&Scope::V3Snapshots)?;
    let newest = opened.newest(world);
    let mut rows = Vec::new();
    for generation in generations_of(&snapshots) {
        let of_it = |entry: &&Entry| matches!(entry.key, Key::V3Snapshot(id, _) if id == generation);
        let segments = opened.list(&Scope::V3Wal(generation))?;
        let times = snapshots.iter().filter(of_it).chain(&segments).map(|entry| entry.modified);
        let (Some(start), Some(end)) = (times.clone().min(), times.max()) else { continue };
        rows.push(GenerationRow {
            name: opened.name.clone(),
            generation: generation.to_string(),
            lag: lag(newest, end),
            start: time::seconds(start),
            end: time::seconds(end),
        });
    }
    print(parsed, &rows, ["name", "generation", "lag", "start", "end"], |row| {
        [&row.name, &row.generation, &row.lag, &row.start, &row.end].map(Clone::clone)
    })
}

/// Prints the snapshots of all generations.
pub(crate) fn snapshots(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let opened = opened(world, named(world, parsed)?)?;
    let rows: Vec<SnapshotRow> = opened
        .list(&Scope::V3Snapshots)?
        .iter()
        .filter_map(|entry| {
            let Key::V3Snapshot(generation, index) = entry.key else { return None };
            Some(SnapshotRow {
                replica: opened.name.clone(),
                generation: generation.to_string(),
                index,
                size: entry.size,
                created: time::seconds(entry.modified),
            })
        })
        .collect();
    print(parsed, &rows, ["replica", "generation", "index", "size", "created"], |row| {
        let (replica, generation, created) = (&row.replica, &row.generation, &row.created);
        [replica.clone(), generation.clone(), row.index.to_string(), row.size.to_string(), created.clone()]
    })
}

/// Prints the WAL segments, or, of a replica with LTX files, those.
pub(crate) fn wal(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let wanted = generation(parsed)?;
    let named = named(world, parsed)?;
    let location = named.replica.clone();
    let opened = opened(world, named)?;
    let snapshots = opened.list(&Scope::V3Snapshots)?;
    if wanted.is_none() && (snapshots.is_empty() || opened.has_ltx()?) {
        output::talk("Warning: 'wal' command is deprecated, please use 'ltx' instead");
        return ltx::list(parsed, &*opened.store, &location);
    }
    let mut rows = Vec::new();
    for generation in
        generations_of(&snapshots).into_iter().filter(|id| wanted.is_none_or(|only| only == *id))
    {
        rows.extend(opened.list(&Scope::V3Wal(generation))?.iter().filter_map(|entry| {
            let Key::V3Wal(generation, index, offset) = entry.key else { return None };
            Some(SegmentRow {
                replica: opened.name.clone(),
                generation: generation.to_string(),
                index,
                offset,
                size: entry.size,
                created: time::seconds(entry.modified),
            })
        }));
    }
    print(parsed, &rows, ["replica", "generation", "index", "offset", "size", "created"], |row| {
        [
            row.replica.clone(),
            row.generation.clone(),
            row.index.to_string(),
            row.offset.to_string(),
            row.size.to_string(),
            row.created.clone(),
        ]
    })
}

impl Opened {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, Trouble> {
        self.store.list(scope).map_err(|error| {
            let what = format!("can't list the replica {}", self.location);
            Trouble::new(what).because(&error).about_store(&error).exit(restore::UNREACHABLE)
        })
    }

    fn has_ltx(&self) -> Result<bool, Trouble> {
        for level in Level::all() {
            if !self.list(&Scope::Level(level))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a lag is measured from: the last change of the database or its WAL, else now.
    fn newest(&self, world: &World) -> TimestampMs {
        let changed = |path: &std::path::Path| {
            let modified = std::fs::metadata(path).ok()?.modified().ok()?;
            let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
            i64::try_from(since.as_millis()).ok().map(TimestampMs)
        };
        let wal = |path: &std::path::Path| litekeep::files::with_suffix(path, "-wal");
        let database = self.database.as_deref();
        let newest = database.and_then(|path| changed(path).max(changed(&wal(path))));
        newest.unwrap_or_else(|| world.clock.wall())
    }
}

fn opened(world: &World, named: Named) -> Result<Opened, Trouble> {
    let by_type = crate::config::replica_type(&named.replica).to_owned();
    Ok(Opened {
        store: open(world, &named.replica)?,
        location: named.replica.location(),
        name: named.database.as_ref().map_or(by_type, |database| database.replica_name.clone()),
        database: named.database.map(|database| database.path),
    })
}

fn generation(parsed: &Parsed) -> Result<Option<V3Generation>, Trouble> {
    let Some(text) = parsed.given(&flags::OF_GENERATION) else { return Ok(None) };
    match u64::from_str_radix(text, 16) {
        Ok(id) if text.len() == 16 => Ok(Some(V3Generation(id))),
        _ => Err(Trouble::new(format!("-generation: `{text}` is not a generation of 16 hex digits"))
            .hint("`litekeep generations` lists them")),
    }
}

fn generations_of(snapshots: &[Entry]) -> BTreeSet<V3Generation> {
    let id = |entry: &Entry| match entry.key {
        Key::V3Snapshot(generation, _) => Some(generation),
        _ => None,
    };
    snapshots.iter().filter_map(id).collect()
}

/// A time between two, as 0.3 writes it: Go's way, cut to what means something: `67h22m31s`, `7.3s`, `-12ms`.
fn lag(newest: TimestampMs, end: TimestampMs) -> String {
    let (sign, all) = (if newest < end { "-" } else { "" }, newest.0.abs_diff(end.0));
    let ms = match all {
        0..=1_000 => all,
        1_001..=10_000 => all - all % 100,
        _ => all - all % 1_000,
    };
    sign.to_owned() + &duration::go(Duration::from_millis(ms))
}

fn print<T: Serialize, const N: usize>(
    parsed: &Parsed,
    rows: &[T],
    head: [&str; N],
    cells: impl Fn(&T) -> [String; N],
) -> Result<Exit, Trouble> {
    if parsed.on(&flags::JSON) {
        return output::json(&rows).map(|()| Exit::OK);
    }
    let table: Vec<[String; N]> =
        std::iter::once(head.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    output::text(&table::columns(&table)).map(|()| Exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_told_as_go_tells_a_duration() {
        for (ms, text) in [
            (0, "0s"),
            (12, "12ms"),
            (-12, "-12ms"),
            (1000, "1s"),
            (7345, "7.3s"),
            (7045, "7s"),
            (13_800, "13s"),
            (59_999, "59s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (242_551_000, "67h22m31s"),
            (-61_000, "-1m1s"),
        ] {
            assert_eq!(lag(TimestampMs(ms), TimestampMs(0)), text);
        }
    }
}
