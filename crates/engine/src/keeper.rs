//! A handle to a database that is being replicated, to ask it things.

use crate::driver::{Driver, Member, OnEnd};
use crate::error::KeepError;
use crate::replicator::{Env, Shared, Status};
use crate::settings::Settings;
use litekeep_formats::Txid;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Keeps one database in one replica. Dropping it without [`Keeper::stop`] ends that without bringing the tail up; the
/// local state stays good for the next start.
pub struct Keeper {
    shared: Arc<Shared>,
    poke: Box<dyn Fn() + Send + Sync>,
    member: Arc<Member>,
    driver: Arc<Driver>,
    database: PathBuf,
}

impl Keeper {
    /// Begins to replicate a database by itself, on a thread of its own; [`Driver::keep`] is for many. The database may
    /// still be missing, and so may its folder; the replica is looked at on the new thread.
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database, [`KeepError::Io`] when its folder is out of reach.
    pub fn start(env: Env, settings: Settings, database: &Path) -> Result<Self, KeepError> {
        let no_thread =
            |error| KeepError::Io { what: "start a thread for", path: database.to_owned(), error };
        let driver = Driver::with_workers(Arc::clone(&env.clock), 1).map_err(no_thread)?;
        driver.keep(env, settings, database)
    }

    pub(crate) fn of(
        driver: Arc<Driver>,
        member: Arc<Member>,
        shared: Arc<Shared>,
        poke: Box<dyn Fn() + Send + Sync>,
        database: PathBuf,
    ) -> Self {
        Self { shared, poke, member, driver, database }
    }

    /// The database, as the engine knew it at the start: an absolute path without symbolic links, if its folder was there.
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
        self.sync_while(limit, &|| true)
    }

    /// As [`Keeper::sync`], for as long as somebody wants to know: `wanted` is asked twice a second.
    ///
    /// # Errors
    /// [`KeepError::Timeout`], also if it is wanted no more; the work goes on all the same.
    pub fn sync_while(&self, limit: Duration, wanted: &dyn Fn() -> bool) -> Result<Option<Txid>, KeepError> {
        let ticket = self.shared.ask();
        (self.poke)();
        self.shared.wait_while(ticket, limit, wanted)
    }

    /// Asks for a snapshot, which is taken as soon as the replica holds everything.
    pub fn snapshot(&self) {
        self.shared.ask_snapshot();
        (self.poke)();
    }

    /// Asks that whatever chore is due now be done, and then retention be enforced: [`Status::enforced`] tells when, and what
    /// came of it.
    pub fn enforce_retention(&self) {
        self.shared.ask_retention();
        (self.poke)();
    }

    /// Brings the tail up and ends, within `limit`. Returns the newest transaction in the replica.
    ///
    /// # Errors
    /// [`KeepError::Unsent`] names the transactions that did not make it, [`KeepError::Uncaptured`] says that there
    /// may be changes that no transaction holds yet; both stay on the local disk and go up at the next start. Else
    /// why it had ended before.
    pub fn stop(self, limit: Duration) -> Result<Option<Txid>, Arc<KeepError>> {
        self.begin_stop(limit);
        self.member.wait_gone();
        let status = self.shared.status();
        status.failure.map_or(Ok(status.durable), Err)
    }

    /// Begins to stop without waiting for it; a second call with a shorter limit ends it sooner.
    pub fn begin_stop(&self, limit: Duration) {
        self.shared.ask_stop(limit);
        (self.poke)();
        self.driver.hurry(&self.member);
    }

    /// Calls `tell` once it has ended and everything of it is closed, with why if that was an error: on the thread that
    /// found out, which must not be kept, or at once if it has ended before.
    pub fn when_ended(&self, tell: impl FnOnce(Option<Arc<KeepError>>) + Send + 'static) {
        let tell: OnEnd = Box::new(tell);
        self.member.when_gone(tell);
    }

    /// Whether it has ended, by itself or because it was asked to.
    pub fn ended(&self) -> bool {
        self.member.is_gone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.member.is_gone() {
            self.begin_stop(Duration::ZERO);
            self.member.wait_gone();
        }
    }
}
