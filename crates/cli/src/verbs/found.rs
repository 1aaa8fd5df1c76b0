//! The databases of a configuration, those of its directories (`dir`) among them: what the directories hold now, and what a
//! running litekeep has of them besides, such as one whose file is gone and whose last changes are on their way. It only
//! looks, and never waits for a daemon that hangs.

use crate::config::{Config, Database};
use crate::daemon::control::{self, List, Patience};
use crate::daemon::folder::{Dismissed, Folder, database_at};
use crate::daemon::names::{Names, Once};
use crate::output;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// A daemon that is well answers in milliseconds.
const LIMIT: Duration = Duration::from_secs(2);

/// All of them, by path those of directories; a file once, by the name that a running litekeep has it by. A directory that
/// cannot be read is told on stderr.
pub(super) fn databases(config: &Config) -> Vec<Database> {
    let mut all = config.databases.clone();
    // What a `path` names has its own settings.
    let (names, running, mut once) = (Names::of(config), running(config), Once::after(&config.databases));
    for directory in &config.directories {
        let folder = Folder::new(directory.clone(), &names, &Dismissed::default());
        let held = folder.and_then(|mut it| it.held()).unwrap_or_else(|trouble| {
            output::talk(&format!("Warning: {trouble}"));
            Vec::new()
        });
        let running = running.iter().filter_map(|path| database_at(directory, Path::new(path)));
        let mut found: Vec<_> = running.chain(held).filter(|database| once.takes(database)).collect();
        found.sort_by(|one, other| one.path.cmp(&other.path));
        all.append(&mut found);
    }
    all
}

/// The one of a path, though it may not be there.
pub(super) fn at(config: &Config, path: &Path) -> Option<Database> {
    let named = config.databases.iter().find(|database| database.path == path).cloned();
    named.or_else(|| config.directories.iter().find_map(|directory| database_at(directory, path)))
}

/// What a running litekeep has, if there is one to be asked.
fn running(config: &Config) -> Vec<String> {
    if !config.socket.enabled || config.directories.is_empty() {
        return Vec::new();
    }
    let list = control::ask::<List>(
        &config.socket.path,
        "list",
        "GET",
        &json!({}),
        Patience { limit: LIMIT, grace: Duration::ZERO },
    );
    list.map_or_else(|_| Vec::new(), |list| list.databases.into_iter().map(|it| it.path).collect())
}
