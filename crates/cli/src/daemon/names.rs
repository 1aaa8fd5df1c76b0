//! By which names the files of a configuration go, so that each is replicated by one. Looks at names and links only, and
//! opens nothing.

use super::folder::{enters, takes};
use crate::config::{Config, Database, Directory};
use crate::text::glob::Glob;
use litekeep::files::{FileId, Files, RealFiles};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// By which names the files of a configuration go: what it names itself, and what a look through its directories finds. A
/// link to such a file is no name of its own: who came by the link first would begin the replica anew at another place.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Named>);

#[derive(Default)]
struct Named {
    paths: Vec<PathBuf>,
    directories: Vec<(Directory, Glob)>,
}

impl Names {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let directories = config.directories.iter();
        // A pattern that is none, whoever looks through its directory tells.
        let known = |it: &Directory| Some((it.clone(), Glob::parse(&it.pattern).ok()?));
        let paths = config.databases.iter().map(|it| it.path.clone()).collect();
        Self(Arc::new(Named { paths, directories: directories.filter_map(known).collect() }))
    }

    /// As the disk has them now.
    pub(super) fn resolve(&self) -> Resolved<'_> {
        let Named { paths, directories } = &*self.0;
        let roots = directories.iter();
        Resolved {
            files: paths.iter().filter_map(|path| path.canonicalize().ok()).collect(),
            roots: roots.filter_map(|(it, like)| Some((it.path.canonicalize().ok()?, it, like))).collect(),
        }
    }
}

/// The names with no link in them.
pub(super) struct Resolved<'a> {
    files: BTreeSet<PathBuf>,
    roots: Vec<(PathBuf, &'a Directory, &'a Glob)>,
}

impl Resolved<'_> {
    /// Whether what a link leads to has a name of its own.
    pub(super) fn has(&self, link: &Path) -> bool {
        let Some(file) = link.canonicalize().ok() else { return false };
        let finds = |(root, directory, pattern): &(PathBuf, &Directory, &Glob)| {
            let Ok(relative) = file.strip_prefix(root) else { return false };
            let mut above = relative.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty());
            relative.file_name().is_some_and(|name| takes(pattern, name))
                && above.all(|it| enters(directory, &directory.path.join(it)))
        };
        self.files.contains(&file) || self.roots.iter().any(finds)
    }
}

/// Takes each database once, by whatever name it comes first.
#[derive(Default)]
pub(crate) struct Once {
    paths: BTreeSet<PathBuf>,
    files: HashSet<FileId>,
}

impl Once {
    /// These come before any other.
    pub(crate) fn after(databases: &[Database]) -> Self {
        let mut once = Self::default();
        for database in databases {
            once.takes(database);
        }
        once
    }

    /// Whether it is the first of its path and of its file.
    pub(crate) fn takes(&mut self, database: &Database) -> bool {
        let file = RealFiles.id(&database.path).ok().flatten();
        self.paths.insert(database.path.clone()) && file.is_none_or(|file| self.files.insert(file))
    }
}
