//! A replicator on a thread of its own, with a handle to ask it things.

use crate::error::KeepError;
use crate::replicator::{Env, Replicator, Shared, Status};
use crate::settings::Settings;
use crate::wake::Watcher;
use litekeep_formats::Txid;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Keeps one database in one replica. Dropping it without [`Keeper::stop`] ends the thread without bringing the tail
/// up; the local state stays good for the next start.
pub struct Keeper {
    shared: Arc<Shared>,
    poke: Box<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
    database: PathBuf,
    _watcher: Option<Watcher>,
}

impl Keeper {
    /// Begins to replicate. The database may still be missing; the replica is looked at on the new thread.
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database, [`KeepError::Io`] when its directory is not there.
    pub fn start(env: Env, settings: Settings, database: &Path) -> Result<Self, KeepError> {
        let database = real_path(database)?;
        let mut replicator = Replicator::open(env, settings, &database)?;
        let shared = replicator.shared();
        let poke = replicator.poker();
        let watcher = match Watcher::start(&database, replicator.poker()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(db = %database.display(), %error, "no file notification here: polling");
                None
            }
        };
        replicator.set_polling(watcher.is_none());
        let guard = EndGuard(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("replicate".to_owned())
            .spawn(move || {
                let _guard = guard;
                loop {
                    let step = replicator.step();
                    if step.ended {
                        break;
                    }
                    replicator.wait(step.wait);
                }
            })
            .map_err(|error| KeepError::Io { what: "start a thread for", path: database.clone(), error })?;
        Ok(Self { shared, poke: Box::new(poke), thread: Some(thread), database, _watcher: watcher })
    }

    /// The database, as the engine knows it: an absolute path without symbolic links.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// How things are.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Tells the replicator that something was committed; needed only where file notification is not used.
    pub fn poke(&self) {
        (self.poke)();
    }

    /// Waits until everything that was committed before this call is in the replica; returns the replica's newest
    /// transaction.
    ///
    /// # Errors
    /// [`KeepError::Timeout`]; the work goes on all the same.
    pub fn sync(&self, limit: Duration) -> Result<Option<Txid>, KeepError> {
        let ticket = self.shared.ask();
        (self.poke)();
        self.shared.wait(ticket, limit)
    }

    /// Asks for a snapshot, which is taken as soon as the replica holds everything.
    pub fn snapshot(&self) {
        self.shared.ask_snapshot();
        (self.poke)();
    }

    /// Brings the tail up and ends, within `limit`. Returns the newest transaction in the replica.
    ///
    /// # Errors
    /// [`KeepError::Unsent`] names the transactions that did not make it, [`KeepError::Uncaptured`] says that there
    /// may be changes that no transaction holds yet; both stay on the local disk and go up at the next start. Else
    /// why it had ended before.
    pub fn stop(mut self, limit: Duration) -> Result<Option<Txid>, Arc<KeepError>> {
        self.begin_stop(limit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there is in the status as a failure
        }
        let status = self.shared.status();
        status.failure.map_or(Ok(status.durable), Err)
    }

    /// Begins to stop without waiting for it; a second call with a shorter limit ends it sooner.
    pub fn begin_stop(&self, limit: Duration) {
        self.shared.ask_stop(limit);
        (self.poke)();
    }

    /// A wait for the end, for a thread of its own: returns once it has ended, with why if that was an error.
    pub fn when_ended(&self) -> impl FnOnce() -> Option<Arc<KeepError>> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.wait_ended()
    }

    /// Whether it has ended, by itself or because it was asked to.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.begin_stop(Duration::ZERO);
            let _ = thread.join();
        }
    }
}

/// Marks the replicator as ended also when its thread panics.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ended(Some(Arc::new(KeepError::JobLost("replicate"))));
        }
    }
}

/// SQLite puts the WAL beside the real file: symbolic links are followed here, once.
pub(crate) fn real_path(database: &Path) -> Result<PathBuf, KeepError> {
    let dir = crate::files::parent(database);
    let failed = |error| KeepError::Io { what: "look at", path: dir.to_owned(), error };
    if let Ok(path) = database.canonicalize() {
        return Ok(path);
    }
    let dir = dir.canonicalize().map_err(failed)?;
    Ok(dir.join(database.file_name().unwrap_or_default()))
}
