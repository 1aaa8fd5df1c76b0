//! Chores go on beside the puts, one at a time: compaction, snapshots, retention. When each is due, `agenda` says.

use super::mend::Oldest;
use super::{Phase, Replicator, Report};
use crate::compactor::{self, Step};
use crate::error::{KeepError, KeepErrorKind};
use crate::jobs::JobKind;
use crate::merge::{Made, MergeError};
use crate::ownership;
use crate::pruner::{self, PruneError};
use crate::restore::{self, FetchError};
use crate::snapshot::{self, Snapshot, SnapshotError};
use crate::survey;
use litekeep_core::agenda::{Chore, Schedule, Settled};
use litekeep_core::compact::Limits;
use litekeep_core::limits;
use litekeep_core::restore::{Catalog, LtxFile, plan_latest};
use litekeep_core::retain::{Policy, Reason};
use litekeep_formats::ltx::PageEncoding;
use litekeep_formats::{Checksum, Epoch, Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{ErrorKind, Key, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// What a chore changed in the replica.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    made: Vec<LtxFile>,
    gone: Vec<(Level, TxidRange)>,
    /// Something is missing in the replica; this is what it holds now.
    hole: Option<Catalog>,
    /// This file is there and no good.
    bad: Option<(Level, TxidRange)>,
}

/// A chore that ended.
pub(crate) struct ChoreReport {
    chore: Chore,
    result: Result<Changed, KeepError>,
}

/// The chores' memory.
#[derive(Debug, Default)]
pub(super) struct Chores {
    /// Failures in a row, for the pause.
    pub(super) failures: u32,
    /// The last request that was answered, and what the next one waits for.
    pub(super) answered: u64,
    pub(super) goal: Option<(u64, Option<Txid>)>,
    /// The last request that came before a complete look at the WAL.
    pub(super) looked_for: u64,
    pub(super) snapshot_wanted: bool,
    enforce: Option<Enforce>,
    busy: bool,
    /// What was durable when the chore that is under way began.
    durable_then: Option<Txid>,
    /// Files that are no good, and count as missing.
    bad: Vec<(Level, TxidRange)>,
    /// How many looks in a row could not make the newest state from what they found.
    holes: u32,
    settled: Settled,
    not_before: Duration,
    prune_not_before: Duration,
    prune_failures: u32,
}

/// Retention that somebody asked for and waits for: what is due by then is done before it, for what it lets go depends on
/// what was compacted.
#[derive(Debug)]
struct Enforce {
    by: TimestampMs,
    /// Objects that went.
    deleted: usize,
    /// The last round of retention is under way.
    last: bool,
}

impl Replicator {
    /// Somebody asks that retention be enforced now.
    pub(super) fn enforce_retention(&mut self) {
        self.chores.enforce = Some(Enforce { by: self.store_time(), deleted: 0, last: false });
    }

    /// The clock that dates the files.
    fn store_time(&self) -> TimestampMs {
        self.env.store.server_time().unwrap_or_else(|| self.env.clock.wall())
    }

    /// Tells whoever asked for retention how it ended.
    fn enforced(&mut self, result: Result<usize, Arc<KeepError>>) {
        self.chores.enforce = None;
        self.shared.update(|status| status.enforced = Some(result));
    }

    /// The last round of a retention that was asked for. It is begun whatever its pauses say: somebody waits for it.
    fn last_of_retention(&mut self) -> Duration {
        match &mut self.chores.enforce {
            Some(enforce) if self.settings.retention => {
                enforce.last = true;
                self.begin_chore(Chore::Prune);
                Duration::MAX
            }
            _ => {
                self.enforced(Ok(0));
                Duration::ZERO
            }
        }
    }

    /// Begins the next chore if it is due; returns when it will be.
    pub(super) fn chore_round(&mut self) -> Duration {
        let now = self.env.clock.boot();
        if self.chores.busy
            || self.is_stopping()
            || self.term.leaving
            || self.chain.durable.is_none()
            || self.image.is_some()
            || self.image_busy
        {
            return Duration::MAX;
        }
        if now < self.chores.not_before {
            return self.chores.not_before - now;
        }
        if std::mem::take(&mut self.chores.snapshot_wanted) {
            self.begin_chore(Chore::Snapshot);
            return Duration::MAX;
        }
        let time = self.store_time();
        let pause = self.chores.prune_not_before.saturating_sub(now).as_millis();
        let pause = i64::try_from(pause).unwrap_or(i64::MAX);
        self.chores.settled.no_prune_before = Some(TimestampMs(time.0.saturating_add(pause)));
        let next = (self.env.decisions.agenda)(&self.chain.catalog, &self.schedule(), &self.chores.settled);
        let by = self.chores.enforce.as_ref().map(|enforce| enforce.by);
        if by.is_some_and(|by| next.is_none_or(|(_, due)| due > by)) {
            return self.last_of_retention();
        }
        let Some((chore, due)) = next else {
            return Duration::MAX;
        };
        let wait = Duration::from_millis(u64::try_from(due.0.saturating_sub(time.0)).unwrap_or(0));
        if wait > Duration::ZERO {
            return wait;
        }
        self.begin_chore(chore);
        Duration::MAX
    }

    fn schedule(&self) -> Schedule {
        let settings = &self.settings;
        Schedule {
            levels: settings.levels.clone(),
            snapshots: settings.snapshot_interval,
            policy: settings.retention.then(|| self.policy()),
            gather: settings.gather,
            shared: self.is_shared(),
        }
    }

    /// Whether others have owned before.
    fn is_shared(&self) -> bool {
        self.term.tenancy.is_some_and(|tenancy| tenancy.epoch() > Epoch::FIRST)
    }

    fn policy(&self) -> Policy {
        Policy { window: self.settings.snapshot_retention, slots: self.settings.l0_retention }
    }

    fn begin_chore(&mut self, chore: Chore) {
        self.chores.busy = true;
        self.chores.durable_then = self.chain.durable;
        let store = self.env.store.for_chores().unwrap_or_else(|| Arc::clone(&self.env.store));
        let newest = self.state.as_ref().filter(|state| Some(state.txid) == self.chain.durable);
        let round = Round {
            catalog: self.chain.catalog.clone(),
            policy: self.policy(),
            encoding: self.settings.encoding,
            at: self.chain.durable.unwrap_or(Txid::FIRST),
            expected: newest.and_then(|state| state.database),
            epoch: self.term.tenancy.map(|tenancy| tenancy.epoch()),
        };
        let clock = Arc::clone(&self.env.clock);
        // Retention goes through listings, not through databases.
        let kind = if chore == Chore::Prune { JobKind::Short } else { JobKind::Chore };
        self.spawn_as(
            kind,
            "chore",
            move |reporter| {
                let result = do_chore(&*store, chore, &round, clock.wall());
                reporter.report(Report::Chore(ChoreReport { chore, result }));
            },
            Report::Chore(ChoreReport { chore, result: Err(KeepError::JobLost("chore")) }),
        );
    }

    pub(super) fn chore_done(&mut self, report: ChoreReport) -> Result<(), KeepError> {
        self.chores.busy = false;
        if self.phase != Phase::Running {
            return Ok(());
        }
        let now = self.env.clock.boot();
        let ChoreReport { chore, result } = report;
        let changed = match result {
            Ok(changed) => changed,
            Err(error) if chore == Chore::Prune => {
                let error = Arc::new(error);
                self.prune_failed(&error, now);
                self.enforcing_failed(&error);
                return Ok(());
            }
            Err(error) => {
                let error = Arc::new(error);
                self.chores.not_before = now + self.backoff(self.chores.failures.saturating_add(2));
                self.chores.failures = self.chores.failures.saturating_add(1);
                // One that was asked for is due by nothing but that.
                self.chores.snapshot_wanted |= chore == Chore::Snapshot;
                let bad = u64::from(matches!(*error, KeepError::Build { .. }));
                self.shared.update(|status| status.bad_sources += bad);
                tracing::warn!(db = %self.path.display(), ?chore, %error, "a chore failed; trying it again later");
                self.enforcing_failed(&error);
                // Replication itself goes on: nothing here is worth ending it.
                return Ok(());
            }
        };
        self.chores.failures = 0;
        if let Some(catalog) = changed.hole {
            self.shared.update(|status| status.bad_sources += 1);
            let known = |bad: &_| self.chores.bad.contains(bad);
            self.chores.bad.extend(changed.bad.filter(|bad| !known(bad)));
            self.hole_found(&catalog, now)?;
            self.chores.snapshot_wanted |= chore == Chore::Snapshot && self.chores.holes > 0;
            return Ok(());
        }
        self.settle_chore(chore, &changed, now);
        self.chain.catalog = self.chain.catalog.without(&changed.gone);
        for file in changed.made {
            self.chain.catalog.insert(file);
        }
        if let Some(enforce) = self.chores.enforce.as_mut().filter(|_| chore == Chore::Prune) {
            enforce.deleted += changed.gone.len();
            let (last, deleted) = (enforce.last, enforce.deleted);
            if last {
                self.enforced(Ok(deleted));
            }
        }
        Ok(())
    }

    /// Whoever asked for retention does not wait for another try.
    fn enforcing_failed(&mut self, error: &Arc<KeepError>) {
        if self.chores.enforce.is_some() {
            self.enforced(Err(Arc::clone(error)));
        }
    }

    /// Retention could not do its part. Nothing else waits for it; what a person must change is said once (R63).
    fn prune_failed(&mut self, error: &Arc<KeepError>, now: Duration) {
        self.chores.prune_failures = self.chores.prune_failures.saturating_add(1);
        self.chores.prune_not_before = now + self.backoff(self.chores.prune_failures.saturating_add(1));
        let (db, mut known) = (self.path.display(), false);
        self.shared.update(|status| {
            known = status.retention.as_ref().is_some_and(|before| before.kind() == error.kind());
            status.retention = Some(Arc::clone(error));
        });
        if known {
            tracing::debug!(%db, %error, "retention failed again");
        } else if error.kind() == KeepErrorKind::FixConfig {
            tracing::error!(%db, %error, "retention is refused: nothing is deleted, and the replica grows");
        } else {
            tracing::warn!(%db, %error, "retention failed; trying it again later");
        }
    }

    fn pruned(&mut self, now: Duration) {
        self.chores.prune_failures = 0;
        self.chores.prune_not_before = now + limits::PRUNE_PAUSE;
        let mut before = None;
        self.shared.update(|status| before = status.retention.take());
        if before.is_some_and(|before| before.kind() == KeepErrorKind::FixConfig) {
            tracing::info!(db = %self.path.display(), "retention is let delete again");
        }
    }

    /// The replica lost what it had confirmed (R32). Where the newest state can still be restored, a snapshot of it
    /// bridges the hole; else only the database itself has what is missing.
    fn hole_found(&mut self, catalog: &Catalog, now: Duration) -> Result<(), KeepError> {
        let mut catalog = catalog.without(&self.chores.bad);
        let complete = catalog.newest() >= self.chores.durable_then;
        // What went up since the listing was taken.
        let listed = catalog.newest();
        for file in self.chain.catalog.files().filter(|file| Some(file.range.min()) > listed) {
            catalog.insert(*file);
        }
        let restorable = complete && plan_latest(&catalog).is_ok();
        self.chores.holes = if restorable { 0 } else { self.chores.holes.saturating_add(1) };
        if !restorable && self.chores.holes < restore::LOOKS {
            // A whole image is dear, and a listing that lags passes: the same chore looks again.
            self.chores.not_before = now + self.backoff(2);
            return Ok(());
        }
        self.chores.holes = 0;
        self.chain.catalog = catalog;
        self.chores.not_before = now + self.backoff(6);
        if restorable {
            tracing::warn!(db = %self.path.display(), "the replica lost a file; bridging it with a snapshot");
            self.chores.snapshot_wanted = true;
            return Ok(());
        }
        tracing::warn!(db = %self.path.display(), "the replica lost what it had confirmed; mending it with a whole image");
        self.mend_chain(Oldest::MayBeThere)
    }

    /// A chore that found nothing to do is not asked again before something changes.
    fn settle_chore(&mut self, chore: Chore, changed: &Changed, now: Duration) {
        match chore {
            Chore::Compact(level) if changed.made.is_empty() => {
                let newest = self.chain.catalog.level(level).iter().map(|file| file.range.max()).max();
                self.chores.settled.levels.retain(|(settled, _)| *settled != level);
                self.chores.settled.levels.extend(newest.map(|newest| (level, newest)));
            }
            Chore::Prune => {
                self.pruned(now);
                let time = self.store_time();
                self.chores.settled.pruned =
                    changed.gone.is_empty().then_some((self.chain.catalog.len(), time));
            }
            Chore::Compact(_) | Chore::Snapshot | Chore::Refresh => {}
        }
    }
}

/// What a chore goes by: all of it as it was when the chore began.
struct Round {
    catalog: Catalog,
    policy: Policy,
    encoding: PageEncoding,
    /// The newest transaction of the replica, and the checksum of the database after it.
    at: Txid,
    expected: Option<Checksum>,
    /// The epoch that is owned.
    epoch: Option<Epoch>,
}

fn do_chore(store: &dyn Store, chore: Chore, round: &Round, now: TimestampMs) -> Result<Changed, KeepError> {
    let Round { catalog, at, expected, encoding, .. } = round;
    match chore {
        Chore::Compact(from) => compact(store, catalog, from, *encoding, now),
        Chore::Snapshot => match snapshot::snapshot(store, catalog, *at, *expected, *encoding) {
            Ok(Snapshot::Made(made)) => made_one(store, &made, now),
            Ok(Snapshot::There(_)) => Ok(Changed::default()),
            Err(SnapshotError::NoPlan(error)) => {
                tracing::warn!(%error, "no snapshot can be made from what the replica holds");
                hole(store, catalog)
            }
            Err(SnapshotError::Merge(error)) => merge_failed(store, catalog, error, *at),
        },
        Chore::Refresh => refresh(store, catalog, now),
        Chore::Prune => prune(store, round),
    }
}

/// One round of retention. It is the owner's, and an owner that slept may have been followed by another.
fn prune(store: &dyn Store, round: &Round) -> Result<Changed, KeepError> {
    let policy = &round.policy;
    let due = pruner::due(store, &round.catalog, policy);
    if due.deletions.is_empty() && round.epoch.is_none_or(|epoch| epoch == Epoch::FIRST) {
        return Ok(Changed::default());
    }
    if let Some(epoch) = round.epoch
        && ownership::higher_claim(store, epoch)?.is_some()
    {
        return Ok(Changed::default());
    }
    // A round that failed half-way, or somebody else, may have deleted some of it already.
    let (plan, listed) = pruner::look(store, policy).map_err(prune_failed)?;
    let ids = due.deletions.iter().map(|deletion| deletion.file.id());
    let mut gone: Vec<_> = ids.filter(|(level, range)| !listed.contains(*level, *range)).collect();
    let deleted = pruner::carry_out(store, &plan).map_err(prune_failed)?;
    tracing::debug!(deleted, "retention enforced");
    let late = plan.deletions.iter().filter(|deletion| deletion.reason == Reason::CameLate).count();
    if late > 0 {
        tracing::warn!(
            slots = late,
            "removed slots that had arrived late, in names that were free again; they were \
             never a part of the chain"
        );
    }
    gone.extend(plan.deletions.iter().map(|deletion| deletion.file.id()));
    Ok(Changed { gone, ..Changed::default() })
}

fn compact(
    store: &dyn Store,
    catalog: &Catalog,
    from: Level,
    encoding: PageEncoding,
    now: TimestampMs,
) -> Result<Changed, KeepError> {
    match compactor::step(store, catalog, from, Limits::USUAL, encoding) {
        Ok(Step::Nothing) => Ok(Changed::default()),
        Ok(Step::Merged(made) | Step::Promoted(made)) => made_one(store, &made, now),
        Ok(Step::Hole(_)) => hole(store, catalog),
        Err(error) => merge_failed(store, catalog, error, catalog.newest().unwrap_or(Txid::FIRST)),
    }
}

/// A file that is listed and cannot be read, or is no good, is a hole as well; anything else passes or is reported.
fn merge_failed(
    store: &dyn Store,
    catalog: &Catalog,
    error: MergeError,
    at: Txid,
) -> Result<Changed, KeepError> {
    let bad = match &error {
        MergeError::Store(error) | MergeError::Fetch(FetchError::Store(error))
            if error.kind() == ErrorKind::NotFound =>
        {
            None
        }
        MergeError::Bad { key: Key::Ltx(level, range), .. }
        | MergeError::Growth { key: Key::Ltx(level, range), .. } => Some((*level, *range)),
        _ => {
            return Err(match error {
                MergeError::Store(error) | MergeError::Fetch(FetchError::Store(error)) => error.into(),
                error => KeepError::Build { txid: at, error: error.to_string() },
            });
        }
    };
    tracing::warn!(%error, "a file of the replica is gone or damaged");
    Ok(Changed { bad, ..hole(store, catalog)? })
}

/// What the replica holds now, looked at afresh.
fn hole(store: &dyn Store, known: &Catalog) -> Result<Changed, KeepError> {
    Ok(Changed { hole: Some(survey::list_again(store, known)?), ..Changed::default() })
}

fn prune_failed(error: PruneError) -> KeepError {
    match error {
        PruneError::Store(error) => error.into(),
        PruneError::Lost(lost) => KeepError::Build { txid: lost.0, error: lost.to_string() },
    }
}

fn made_one(store: &dyn Store, made: &Made, now: TimestampMs) -> Result<Changed, KeepError> {
    let Key::Ltx(level, range) = made.key else { return Ok(Changed::default()) };
    let head = store.head(&made.key)?;
    tracing::info!(%level, txid.min = %range.min(), txid.max = %range.max(), size = made.size, "compaction complete");
    let modified = if head.modified.0 == 0 { now } else { head.modified };
    let file = LtxFile { level, range, size: made.size, modified, timestamp: Some(head.timestamp) };
    Ok(Changed { made: vec![file], ..Changed::default() })
}

/// How much of a snapshot is in memory while it is written anew, bytes.
const REFRESH_PIECE: u64 = 8 << 20;

/// Writes the newest snapshot anew, byte for byte.
fn refresh(store: &dyn Store, catalog: &Catalog, now: TimestampMs) -> Result<Changed, KeepError> {
    let Some(file) = catalog.snapshots().iter().max_by_key(|file| file.range.max()) else {
        return Ok(Changed::default());
    };
    let key = Key::Ltx(file.level, file.range);
    let head = store.head(&key)?;
    let mut upload = store.upload(&key, head.timestamp)?;
    let mut at = 0;
    while at < head.size {
        let piece = store.read(&key, Some(at..at + REFRESH_PIECE))?;
        if piece.version != head.version || piece.bytes.is_empty() {
            let what = litekeep_store::Failure::Text("it changed while it was read".to_owned());
            return Err(StoreError::new(
                ErrorKind::Retry,
                "read",
                format!("{}: {key}", store.location()),
                what,
            )
            .into());
        }
        upload.write(&piece.bytes)?;
        at += piece.bytes.len() as u64;
    }
    upload.finish()?;
    let modified = store.server_time().unwrap_or(now);
    Ok(Changed { made: vec![LtxFile { modified, ..*file }], ..Changed::default() })
}
