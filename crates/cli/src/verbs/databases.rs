//! `litekeep databases`: what the configuration lists, and what its directories hold.

use super::{found, warn};
use crate::config;
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::table;
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    path: String,
    replica: &'static str,
}

/// Prints paths and types of replica.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let config = config::load_without_keys(world, parsed)?;
    warn(&config);
    let rows: Vec<Row> = found::databases(&config)
        .iter()
        .map(|database| Row { path: database.path.display().to_string(), replica: database.replica_type() })
        .collect();
    if parsed.on(&flags::JSON) {
        output::json(&rows)?;
    } else {
        let head = ["path", "replica"].map(str::to_owned);
        let cells = rows.into_iter().map(|row| [row.path, row.replica.to_owned()]);
        output::text(&table::columns(&std::iter::once(head).chain(cells).collect::<Vec<_>>()))?;
    }
    Ok(Exit::OK)
}
