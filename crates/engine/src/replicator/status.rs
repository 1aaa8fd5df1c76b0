//! What the outside sees of a replicator, and what it may ask.

use crate::error::KeepError;
use crate::files::FileId;
use litekeep_core::assess::BreakReason;
use litekeep_core::ownership::Alone;
use litekeep_formats::{Epoch, Txid};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often somebody who waits is asked whether he still wants to know.
const STILL_WANTED: Duration = Duration::from_millis(500);

/// How many different troubles are kept apart.
const MOST_TOLD: usize = 64;

/// How a replicator is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Looking at the replica, comparing, claiming.
    #[default]
    Starting,
    /// There is no database file yet.
    Waiting,
    /// Everything goes up as it should.
    Good,
    /// Something is in the way; the last error says what. It is tried again.
    Troubled,
    /// It has ended.
    Ended,
}

/// How often something was done, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// How often, failures among them.
    pub count: u64,
    /// How often it failed.
    pub failures: u64,
    /// All of it together.
    pub time: Duration,
}

impl Work {
    /// Notes one more.
    pub(super) fn add(&mut self, ok: bool, time: Duration) {
        self.count += 1;
        self.failures += u64::from(!ok);
        self.time += time;
    }
}

/// What is done to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Its WAL is looked at, and what is new is taken and built into slots.
    Sync,
    /// Its WAL is brought back into its file.
    Checkpoint,
}

/// The last thing that was done to a database; times on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// What.
    pub act: Act,
    /// When it began.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
}

/// A replicator's state for people and metrics.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// See [`Health`].
    pub health: Health,
    /// The newest transaction that was built from the database.
    pub built: Option<Txid>,
    /// The newest transaction that the replica holds.
    pub durable: Option<Txid>,
    /// Since when, on the boot clock, the oldest change waits that the replica lacks, or nobody can tell whether it lacks
    /// one; `None` while it has everything.
    pub behind_since: Option<Duration>,
    /// The epoch that is owned; `None` also where the store cannot create only.
    pub epoch: Option<Epoch>,
    /// The database file that is open, by whatever name it has now.
    pub file: Option<FileId>,
    /// How long nobody else can have written to the replica, so that what the database holds lacks nothing that was
    /// acknowledged elsewhere.
    pub alone: Alone,
    /// Whether the store refuses to replace what is to be created only.
    pub create_only: bool,
    /// Whether changes are found by polling, not by file notification.
    pub polling: bool,
    /// Whether it is parked: nobody wrote for a while, and the connections are closed until somebody does.
    pub parked: bool,
    /// How often it was parked so far.
    pub parkings: u64,
    /// Changes that only the safety net under file notification found.
    pub missed_notifications: u64,
    /// Slots that went up.
    pub slots: u64,
    /// Frames committed in the WAL now.
    pub wal_frames: u32,
    /// The WAL up to the newest committed frame, bytes: what a reader of it would have to read.
    pub wal_size: u64,
    /// How far of that was taken, bytes.
    pub captured_to: u64,
    /// Rounds of looking at the WAL, taking what is new and building slots of it; one that found nothing new counts as
    /// well. What is put off because SQLite is busy is no round yet.
    pub syncs: Work,
    /// The last round, or the last checkpoint if that was later.
    pub last: Option<Last>,
    /// Bytes of WAL frames that were taken so far.
    pub captured_bytes: u64,
    /// Checkpoints so far; one that leaves frames behind, because somebody reads or writes, counts as well.
    pub checkpoints: Work,
    /// How often trouble was met: each try counts.
    pub troubles: u64,
    /// How often the chain of WAL frames was broken and mended by comparing pages.
    pub breaks: u64,
    /// Why pages are compared, or a whole image is shipped, while that lasts.
    pub broken: Option<BreakReason>,
    /// Whether a whole image is on its way.
    pub imaging: bool,
    /// How often a whole image was shipped.
    pub images: u64,
    /// How often compaction, or the making of a snapshot, found a hole in the replica, a file that is no good, or that its
    /// own result would be: nothing is made of such files.
    pub bad_sources: u64,
    /// The last trouble, if it has not passed.
    pub trouble: Option<Arc<KeepError>>,
    /// Why retention could not delete, if its last round failed.
    pub retention: Option<Arc<KeepError>>,
    /// What came of the retention that [`crate::keeper::Keeper::enforce_retention`] asked for last: how many objects went.
    pub enforced: Option<Result<usize, Arc<KeepError>>>,
    /// Why it ended, if it did by an error.
    pub failure: Option<Arc<KeepError>>,
}

impl Status {
    /// The same, with the counters going on from those of the replications before: one that falls looks like a new process.
    #[must_use]
    pub fn counting_on(mut self, before: &Self) -> Self {
        let work = |now: &mut Work, before: Work| {
            now.count += before.count;
            now.failures += before.failures;
            now.time += before.time;
        };
        work(&mut self.syncs, before.syncs);
        work(&mut self.checkpoints, before.checkpoints);
        self.captured_bytes += before.captured_bytes;
        self.bad_sources += before.bad_sources;
        self.troubles += before.troubles;
        self.missed_notifications += before.missed_notifications;
        self.breaks += before.breaks;
        self.images += before.images;
        self
    }
}

#[derive(Default)]
struct Inner {
    status: Status,
    asked: u64,
    answered: u64,
    snapshots_asked: u64,
    retention_asked: bool,
    stop: Option<Duration>,
    confirmed: bool,
    /// The gist of each trouble that was told since the last time there was none.
    told: BTreeSet<String>,
}

/// Shared between a replicator and its handles.
#[derive(Default)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Shared {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> Status {
        self.inner().status.clone()
    }

    /// See [`Status::durable`].
    pub(crate) fn durable(&self) -> Option<Txid> {
        self.inner().status.durable
    }

    /// See [`Status::alone`].
    pub(crate) fn alone(&self) -> Alone {
        self.inner().status.alone
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.inner().status);
        self.changed.notify_all();
    }

    /// Asks that everything committed so far be brought into the replica; returns a ticket for [`Shared::wait`].
    pub(crate) fn ask(&self) -> u64 {
        let mut inner = self.inner();
        inner.asked += 1;
        inner.asked
    }

    pub(super) fn asked(&self) -> u64 {
        self.inner().asked
    }

    pub(super) fn answered(&self) -> u64 {
        self.inner().answered
    }

    pub(super) fn answer(&self, ticket: u64, durable: Option<Txid>) {
        let mut inner = self.inner();
        inner.answered = ticket;
        inner.status.durable = durable;
        drop(inner);
        self.changed.notify_all();
    }

    /// Asks for a snapshot; returns how many were asked for so far.
    pub(crate) fn ask_snapshot(&self) {
        self.inner().snapshots_asked += 1;
    }

    pub(super) fn take_snapshot_request(&self) -> bool {
        std::mem::take(&mut self.inner().snapshots_asked) > 0
    }

    /// Asks that retention be enforced; what came of it before counts no more.
    pub(crate) fn ask_retention(&self) {
        let mut inner = self.inner();
        inner.retention_asked = true;
        inner.status.enforced = None;
    }

    pub(super) fn take_retention_request(&self) -> bool {
        std::mem::take(&mut self.inner().retention_asked)
    }

    /// The application is well: the epoch may be opened.
    pub(crate) fn confirm(&self) {
        self.inner().confirmed = true;
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.inner().confirmed
    }

    pub(crate) fn ask_stop(&self, limit: Duration) {
        let mut inner = self.inner();
        // One that was not heard yet can only become shorter.
        inner.stop = Some(inner.stop.map_or(limit, |earlier| earlier.min(limit)));
    }

    pub(super) fn take_stop(&self) -> Option<Duration> {
        self.inner().stop.take()
    }

    /// Waits until a ticket is answered, the replicator ended, or `limit` is over.
    pub(crate) fn wait(&self, ticket: u64, limit: Duration) -> Result<Option<Txid>, KeepError> {
        let done = |inner: &mut Inner| inner.answered < ticket && inner.status.health != Health::Ended;
        let (inner, waited) = self
            .changed
            .wait_timeout_while(self.inner(), limit, done)
            .unwrap_or_else(PoisonError::into_inner);
        match (inner.answered >= ticket, waited.timed_out()) {
            (true, _) => Ok(inner.status.durable),
            (false, true) => Err(KeepError::Timeout(limit.as_secs_f64())),
            (false, false) => Err(KeepError::Ended(inner.status.failure.clone())),
        }
    }

    /// As [`Shared::wait`], for as long as the answer is wanted, which is asked now and then.
    pub(crate) fn wait_while(
        &self,
        ticket: u64,
        limit: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Txid>, KeepError> {
        let mut left = limit;
        loop {
            let slice = left.min(STILL_WANTED);
            left -= slice;
            match self.wait(ticket, slice) {
                Err(KeepError::Timeout(_)) if !left.is_zero() && wanted() => {}
                Err(KeepError::Timeout(_)) => return Err(KeepError::Timeout(limit.as_secs_f64())),
                other => return other,
            }
        }
    }

    pub(super) fn trouble(&self, path: &Path, error: &Arc<KeepError>) {
        if self.note(error) {
            tracing::error!(db = %path.display(), %error, "replication is in trouble, trying again");
        }
    }

    /// Notes a trouble; whether it is one that was not told yet.
    fn note(&self, error: &Arc<KeepError>) -> bool {
        let mut inner = self.inner();
        if inner.status.trouble.is_none() || inner.told.len() >= MOST_TOLD {
            inner.told.clear();
        }
        // What is tried in turns fails in turns: each is told once.
        let new = inner.told.insert(error.gist());
        inner.status.trouble = Some(Arc::clone(error));
        inner.status.troubles += 1;
        if inner.status.health != Health::Ended {
            inner.status.health = Health::Troubled;
        }
        drop(inner);
        self.changed.notify_all();
        new
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.inner().status.trouble.is_some()
    }

    /// The last trouble, if there was any, is over.
    pub(super) fn passed(&self) {
        if self.inner().status.trouble.take().is_some() {
            self.changed.notify_all();
        }
    }

    pub(crate) fn ended(&self, error: Option<Arc<KeepError>>) {
        self.update(|status| {
            status.health = Health::Ended;
            status.alone = Alone::Unknown;
            status.failure = error;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_store::{ErrorKind, Failure, StoreError};

    #[test]
    fn a_trouble_is_told_once_however_often_and_long_it_was_tried_and_again_after_it_has_passed() {
        let failed = |verb, attempts| {
            let cause = Failure::Text("connection refused".to_owned());
            let error = StoreError::new(ErrorKind::Retry, verb, "s3://b/x", cause);
            let elapsed = Duration::from_millis(28_000 + u64::from(attempts));
            Arc::new(KeepError::from(StoreError { attempts, elapsed, asked: Some(elapsed), ..error }))
        };
        let shared = Shared::default();
        for (verb, attempts, new) in
            [("list", 14, true), ("list", 15, false), ("create", 3, true), ("list", 16, false)]
        {
            assert_eq!(shared.note(&failed(verb, attempts)), new, "{verb} {attempts}");
        }
        assert_eq!(shared.status().troubles, 4);
        shared.passed();
        assert!(shared.note(&failed("list", 17)), "it is back");
    }

    #[test]
    fn a_stop_that_was_not_heard_yet_only_becomes_shorter() {
        let shared = Shared::default();
        let seconds = Duration::from_secs;
        for (asked, left) in [(30, 30), (5, 5), (30, 5), (0, 0)] {
            shared.ask_stop(seconds(asked));
            assert_eq!(shared.inner().stop, Some(seconds(left)));
        }
    }
}
