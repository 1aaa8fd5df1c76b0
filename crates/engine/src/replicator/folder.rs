//! Where the database lies: its folder, which the application may make as late as the file in it, and the local state, which
//! is taken as soon as the folder is there. Never makes the folder.

use super::{Env, Phase, Replicator};
use crate::error::KeepError;
use crate::files::{parent, with_suffix};
use crate::local::{self, Local, LocalError};
use crate::settings::Settings;
use crate::wake::Watch;
use crate::wal::Wal;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks for a folder: nobody tells of one.
const LOOK: Duration = Duration::from_secs(1);

impl Replicator {
    /// Takes the local state directory of a database, unless the database's own folder is not there yet: that is waited for,
    /// as the file is, and made by nobody here. Nothing else is touched before the first step.
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database, or the directory cannot be made; [`KeepError::Io`] when its
    /// folder is out of reach, or cannot be made where its path leads.
    pub fn open(env: Env, settings: Settings, database: &Path) -> Result<Self, KeepError> {
        let dir = local::directory(database, settings.meta_path.as_deref());
        let (local, owner) = (Local::untaken(&env.files, dir), format!("{:016x}", env.random.next_u64()));
        let mut replicator = Self::with_local(env, settings, database, local, owner);
        replicator.move_in()?;
        Ok(replicator)
    }

    /// The database: once its folder is there, an absolute path without links.
    pub(crate) fn database(&self) -> &Path {
        &self.path
    }

    /// Takes the local state where the database is to be; `false` while its folder is not there.
    pub(super) fn move_in(&mut self) -> Result<bool, KeepError> {
        let files = &self.env.files;
        let path = match files.real_path(&self.given) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                let path = parent(&self.given).to_owned();
                return Err(KeepError::Io { what: "look at", path, error });
            }
        };
        let dir = local::directory(&path, self.settings.meta_path.as_deref());
        self.local = Local::open(files, &path, dir)?;
        self.wal = Wal::new(Arc::clone(files), with_suffix(&path, "-wal"));
        self.path = path;
        Ok(true)
    }

    /// The same, where the folder has come later than this engine: what cannot be taken yet (an application that makes a folder
    /// may give it away in the next moment) is tried again.
    pub(super) fn move_in_late(&mut self) -> Result<bool, KeepError> {
        let moved = self.move_in().map_err(|error| match error {
            KeepError::Local(LocalError::Io { path, error }) => {
                KeepError::Io { what: "take the local state", path, error }
            }
            other => other,
        })?;
        if moved {
            self.shared.passed();
            if self.watch.is_some() {
                self.begin_to_watch();
            }
        }
        Ok(moved)
    }

    /// Whether the local state lies where the database is to be: nobody has removed the folder, and no link leads elsewhere now.
    fn is_in_place(&self) -> io::Result<bool> {
        match self.env.files.real_path(&self.given) {
            Ok(path) => Ok(path == self.path && self.local.is_in_place()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// There is no database yet: how long until the next look. A folder that was removed is one that is not there yet.
    pub(super) fn wait_for_database(&mut self) -> Result<Duration, KeepError> {
        let look = self.io("look at the place of");
        if self.local.is_taken() && !self.is_in_place().map_err(&look)? {
            self.local = Local::untaken(&self.env.files, self.local.dir().to_owned());
            self.watcher = None;
        }
        if self.time_left()?.is_none() {
            return Ok(Duration::MAX);
        }
        if self.database_is_there()? {
            // It may have come through a link that led nowhere until now.
            if self.is_in_place().map_err(look)? {
                // What was seen of the replica may be old by now.
                (self.phase, self.late) = (Phase::Look(Duration::ZERO), false);
            }
            return Ok(Duration::ZERO);
        }
        let limit = if self.local.is_taken() { Duration::MAX } else { LOOK };
        Ok(self.settings.monitor_interval.min(limit))
    }

    /// Where changes to files are told; `None` to look for them.
    pub(crate) fn watch_with(&mut self, watch: Option<Watch>) {
        self.watch = watch;
        if self.local.is_taken() {
            self.begin_to_watch();
        }
    }

    fn begin_to_watch(&mut self) {
        let watched = self.watch.as_ref().map(|watch| watch.add(&self.path, self.poker())).transpose();
        self.watcher = watched.unwrap_or_else(|error| {
            tracing::warn!(db = %self.path.display(), %error, "no file notification here: polling");
            None
        });
        self.set_polling(self.watcher.is_none());
    }
}
