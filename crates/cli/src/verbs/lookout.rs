//! `dir` beside a command (`-exec`): the databases that are there at the start, and with `watch` those that the command makes
//! later. Says which they are; who owns them and what the command may do is the business of `exec`.

use crate::config::{Config, Database};
use crate::daemon::fleet::Fleet;
use crate::daemon::folder::{Dismissed, Folder, skipped_as_second};
use crate::daemon::names::{Names, Once};
use crate::trouble::Trouble;
use litekeep::files::{FileId, Files, RealFiles};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks through directories for databases that nobody has taken up.
pub(super) struct Lookout {
    watched: Vec<Folder>,
    /// What the configuration names itself: it is there for good.
    named: Vec<PathBuf>,
    /// What was let go. The next of that name goes on with its history.
    let_go: BTreeSet<PathBuf>,
    next: Duration,
}

impl Lookout {
    /// All databases of the configuration, and a lookout for more.
    ///
    /// # Errors
    /// A directory cannot be read or a database in it not looked into, or a directory holds none and nobody watches it.
    pub(super) fn begin(config: &Config, fleet: &Fleet) -> Result<(Vec<Database>, Self), Trouble> {
        let (mut databases, mut watched) = (config.databases.clone(), Vec::new());
        // What is configured twice, whoever keeps it refuses; of a directory the second name is skipped.
        let (names, mut once) = (Names::of(config), Once::after(&databases));
        for directory in &config.directories {
            let mut folder = Folder::new(directory.clone(), &names, &Dismissed::default())?;
            let mut found = folder.newcomers(fleet)?;
            // What a `path` names already has its own settings.
            found.retain(|database| {
                let first = once.takes(database);
                if !first && databases.iter().all(|other| other.path != database.path) {
                    skipped_as_second(&database.path);
                }
                first
            });
            if found.is_empty() && !folder.is_watched() {
                return Err(folder.holds_none());
            }
            databases.append(&mut found);
            watched.extend(folder.is_watched().then_some(folder));
        }
        let named = config.databases.iter().map(|database| database.path.clone()).collect();
        Ok((databases, Self { watched, named, let_go: BTreeSet::new(), next: Duration::ZERO }))
    }

    /// Whether a database lies in a directory that is watched.
    pub(super) fn watches(&self, database: &Path) -> bool {
        self.watched.iter().any(|folder| folder.holds(database))
    }

    /// Whether a database came by a directory that could be read when it was last looked at: only then does it say something
    /// that the file is not there.
    pub(super) fn sees(&self, database: &Path) -> bool {
        let sees = |folder: &Folder| folder.holds(database) && folder.is_readable();
        self.watched.iter().any(sees) && self.named.iter().all(|named| named != database)
    }

    /// A database is let go.
    pub(super) fn lets_go(&mut self, database: &Path) {
        self.let_go.insert(database.to_owned());
    }

    /// The file of a database that has come to the place of one that was let go, told once.
    pub(super) fn successor(&mut self, database: &Path) -> Option<FileId> {
        self.let_go.take(database).and_then(|path| RealFiles.id(&path).ok().flatten())
    }

    /// What has come since, if it is time to look; at [`Duration::MAX`] for the last time. What cannot be looked at before
    /// that ends no application, and keeps nothing else back; see [`Folder::arrivals`].
    pub(super) fn look(&mut self, now: Duration, fleet: &Fleet) -> Option<(Vec<Database>, Option<Trouble>)> {
        if now < self.next {
            return None;
        }
        self.next = now.saturating_add(EVERY);
        let (mut all, mut first) = (Vec::new(), None);
        for folder in &mut self.watched {
            let (mut found, trouble) = folder.arrivals(fleet, now == Duration::MAX);
            all.append(&mut found);
            first = first.or(trouble);
        }
        Some((all, first))
    }
}
