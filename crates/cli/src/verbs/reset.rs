//! `litekeep reset`: the local state of a database, gone. Never touches the database or its replica, nor a file in the
//! state's directory that litekeep did not make.

use super::{found, warn};
use crate::config;
use crate::config::local_state;
use crate::daemon::verdict;
use crate::flags::{self, Parsed};
use crate::output;
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::files::{File, Files, Open, RealFiles};
use litekeep::local;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Serialize)]
struct Report {
    database: String,
    directory: String,
    dry_run: bool,
    removed: Vec<String>,
}

/// Removes what this machine knows of a database.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let (database, directory) = place(world, parsed)?;
    if !database.is_file() {
        let what = format!("database does not exist: {}", database.display());
        return Err(Trouble::new(what).hint("a reset needs the database file's path"));
    }
    let dry_run = parsed.on(&flags::RESET_DRY_RUN);
    let can_not = |error: std::io::Error| {
        Trouble::new(format!("can't reset {}", directory.display()))
            .because(&error)
            .hint("run this as the user that runs litekeep")
    };
    let found = || if directory.is_dir() { ours(&directory) } else { Ok(Vec::new()) };
    let held = directory.join(local::LOCK).exists() || !found().map_err(can_not)?.is_empty();
    let _lock = if held && !dry_run { Some(lock(&directory)?) } else { None };
    let names = found().map_err(can_not)?;
    if !names.is_empty() && !dry_run {
        for name in &names {
            RealFiles.remove(&directory.join(name)).map_err(can_not)?;
        }
        RealFiles.sync_dir(&directory).map_err(can_not)?;
    }
    tell(
        parsed,
        &Report {
            database: database.display().to_string(),
            directory: directory.display().to_string(),
            dry_run,
            removed: names.iter().map(|name| directory.join(name).display().to_string()).collect(),
        },
    )
}

/// The database, and the directory of its state.
fn place(world: &World, parsed: &Parsed) -> Result<(PathBuf, PathBuf), Trouble> {
    let Some(operand) = parsed.operands.first() else {
        return Err(Trouble::new("database path required").hint("litekeep reset /path/to/db"));
    };
    let path = world.path(operand);
    let mut meta = None;
    if parsed.given(&flags::CONFIG).is_some() {
        let config = config::load_without_keys(world, parsed)?;
        warn(&config);
        let Some(database) = found::at(&config, &path) else {
            return Err(Trouble::new(format!("database not found in config: {}", path.display()))
                .hint("`litekeep databases` lists them"));
        };
        meta = database.settings.meta_path;
    }
    let directory = local_state(&path, meta.as_deref());
    Ok((path, directory))
}

/// What litekeep made there and a reset removes, the state first. Who had the directory stays on record: that one is
/// gone, whatever becomes of the state.
fn ours(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = RealFiles.list(directory)?;
    names.retain(|name| local::is_record(name) || name == verdict::FILE);
    // It goes first, because everything else counts only as far as it says.
    names.sort_by_key(|name| (name != local::STATE, name.clone()));
    Ok(names)
}

fn lock(directory: &Path) -> Result<Arc<dyn File>, Trouble> {
    let path = directory.join(local::LOCK);
    let can_not = |error| {
        Trouble::new(format!("can't lock {}", path.display()))
            .because(&error)
            .hint("run this as the user that runs litekeep")
    };
    let file = RealFiles.open(&path, Open::CreateOrKeep).map_err(can_not)?;
    if file.try_lock().map_err(can_not)? {
        return Ok(file);
    }
    Err(Trouble::new(format!("a running litekeep replicates this database (lock {})", path.display()))
        .hint("stop it first; nothing was removed"))
}

fn tell(parsed: &Parsed, report: &Report) -> Result<Exit, Trouble> {
    if parsed.on(&flags::JSON) {
        return output::json(report).map(|()| Exit::OK);
    }
    let Report { database, directory, dry_run, removed } = report;
    let mut text = match (&removed[..], dry_run) {
        ([], _) => format!("No local state to reset for: {database}\n(looked in {directory})\n"),
        (_, true) => {
            format!("Dry run: local state would be reset for: {database}\nFiles that would be removed:\n")
        }
        (_, false) => format!("Reset local state for: {database}\nRemoved:\n"),
    };
    for path in removed {
        text.push_str(&format!("  {path}\n"));
    }
    match (&removed[..], dry_run) {
        ([], _) => {}
        (_, true) => text.push_str("No files were removed.\n"),
        (_, false) => {
            text.push_str(
                "Reset complete. The next replicate compares the database with its replica anew.\n",
            );
        }
    }
    output::text(&text).map(|()| Exit::OK)
}
