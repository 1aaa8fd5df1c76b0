//! One database's replicator: a state machine that is driven step by step.
//!
//! A step never waits for the store: what blocks runs as a job and comes back as a report. Its way through the data
//! is straight: facts about the WAL -> verdict -> pending pages -> slot on the local disk -> create-only put ->
//! durable. Whatever breaks the chain of frames leads to one and the same answer: compare pages, ship what differs.

mod anew;
mod aside;
mod away;
mod capture;
mod checkpoint;
mod chores;
mod claim;
mod folder;
mod forward;
mod image;
mod mend;
mod park;
mod put;
mod slots;
mod start;
mod status;
mod takeover;
mod tenancy;

pub use status::{Act, Health, Last, Status, Work};

pub(crate) use claim::closed_without;
pub(crate) use status::Shared;

use crate::driver::Turns;
use crate::error::KeepError;
use crate::jobs::{Job, JobKind, Mailbox, Reporter, Spawner};
use crate::local::{Local, State};
use crate::pending::Pending;
use crate::restore::Unfinished;
use crate::settings::Settings;
use crate::sqlite::Edge;
use crate::sums::Sums;
use crate::wake::{Watch, Watcher};
use crate::wal::Wal;
use litekeep_core::assess::BreakReason;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::{Clock, Random};
use litekeep_core::limits;
use litekeep_core::lineage::{Fate, RemoteTip};
use litekeep_core::ownership::{EpochFacts, Look, Moment, Tenancy};
use litekeep_core::restore::{Catalog, LtxFile};
use litekeep_formats::{Epoch, Txid};
use litekeep_store::{EpochRecord, ErrorKind, Store};
use slots::Staged;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Everything the engine takes from the world.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter and instance ids.
    pub random: Arc<dyn Random>,
    /// Local files.
    pub files: Arc<dyn crate::files::Files>,
    /// The SQLite VFS to open databases with; the default one if `None`.
    pub vfs: Option<String>,
    /// The replica.
    pub store: Arc<dyn Store>,
    /// Runs jobs.
    pub spawner: Arc<dyn Spawner>,
    /// The verdict functions.
    pub decisions: Decisions,
}

/// What somebody who took an epoch leaves to the replicator.
pub(crate) struct Entry {
    pub(crate) local: Local,
    /// The id in the claim.
    pub(crate) owner: String,
    /// `None` where the store cannot create only.
    pub(crate) tenancy: Option<Tenancy>,
    /// A slot of the epoch is there already: the fence.
    pub(crate) opened: bool,
}

/// What a step asks of its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Call again after this long at the latest; earlier when somebody pokes.
    pub wait: Duration,
    /// The replicator has ended: it was stopped, or it failed for good. See [`Replicator::status`].
    pub ended: bool,
}

/// What jobs report.
pub(crate) enum Report {
    Surveyed(Result<crate::survey::Survey, KeepError>),
    Forward(RemoteTip, Result<forward::Newer, KeepError>),
    Found(Moment, Result<claim::Found, KeepError>),
    ClaimAbove(Result<Option<Epoch>, KeepError>),
    Proved(tenancy::Asked, Result<Look, KeepError>),
    Compared(RemoteTip, Result<forward::Newer, KeepError>),
    Put(Txid, Result<put::PutOutcome, KeepError>),
    ImageUp(Txid, Result<LtxFile, KeepError>),
    Back(Result<(), KeepError>),
    Recorded(EpochRecord, Result<(), KeepError>),
    Removed(Result<Vec<Txid>, KeepError>),
    Chore(chores::ChoreReport),
}

/// Where the replicator is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is known yet, or the last look at the replica failed; look (again) at this time.
    Look(Duration),
    /// A job is looking at the replica.
    Looking,
    /// The replica was looked at; somebody keeps the database locked. Try to open it again at this time.
    Locked(Duration),
    /// There is no database file yet, or not even its folder.
    Absent,
    /// A job compares the replica's newest state with the local file.
    Comparing,
    /// On the way to an epoch; go on at this time. `MAX`: a job is on it.
    Claiming(Duration),
    /// Replicating.
    Running,
    /// Stopped or failed.
    Ended,
}

/// What is known of the replica.
struct Chain {
    catalog: Catalog,
    epochs: EpochFacts,
    /// What the last look told of the newest slot that was built here.
    fate: Fate,
    /// The newest transaction that the replica holds.
    durable: Option<Txid>,
    epoch: Option<Epoch>,
    create_only: bool,
    /// The newest state cannot be restored; the next slot must be a whole image.
    hole: bool,
    /// The newest name behind which ours begin, where an image was announced and not finished; until ours count.
    unfinished: Option<Unfinished>,
    /// The newest transaction is an image that level 9 has. It counts once a slot stands behind its announcement.
    announced: Option<Staged>,
    /// Whether the epoch's `open` record is written (or being written).
    opened: bool,
}

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    /// Get the tail up until this time.
    Until(Duration),
    /// The tail is up; the closing record is being written.
    Closing(Duration),
}

/// See the module's text.
pub struct Replicator {
    env: Env,
    settings: Settings,
    /// The database as it was named; its real path is known once its folder is there.
    given: PathBuf,
    path: PathBuf,
    owner: String,
    local: Local,
    /// Tells of changes to files, and of this database's.
    watch: Option<Watch>,
    watcher: Option<Watcher>,
    phase: Phase,
    /// A look found nothing to ask about; nothing that came since is touched before there was another.
    late: bool,
    chain: Chain,
    term: claim::Term,
    /// What the last look at the replica found at the chain's end.
    tip: Option<RemoteTip>,
    state: Option<State>,
    pending: Option<Pending>,
    sums: Option<Sums>,
    wal: Wal,
    edge: Option<Edge>,
    broken: Option<BreakReason>,
    /// Capture pauses until this time: the disk is full, or the database cannot be read.
    paused: Option<Duration>,
    pause: Duration,
    image: Option<image::Image>,
    /// The store does not answer while an image is to be streamed.
    away: Option<away::Away>,
    /// An image's level-9 file is on its way.
    image_busy: bool,
    /// The local disk had no room for the slot of an image.
    no_room: bool,
    staged: VecDeque<Staged>,
    /// What a start dropped of the staged slots began with an announcement, and the next of them was no confirmation.
    announced_alone: bool,
    unflushed: VecDeque<Txid>,
    /// The slot whose put (and, for an image, whose copy in level 9) is under way.
    putting: Option<Txid>,
    next_put: Duration,
    put_failures: u32,
    /// What one put carries as experience has it: less than the store says, where something on the way takes less.
    put_limit: u64,
    last_slot: Option<Duration>,
    timing: capture::Timing,
    checkpointing: checkpoint::Timing,
    parking: park::Parking,
    /// What is shared with the other databases of the process.
    turns: Option<Turns>,
    /// The replica's newest state was restored to compare with, which waits for a turn.
    unread: Option<Report>,
    chores: chores::Chores,
    stopping: Stopping,
    /// The question of a stop: everything that was committed before it.
    last_words: u64,
    mailbox: Mailbox<Report>,
    shared: Arc<Shared>,
}

impl Replicator {
    /// Goes on with an epoch that was taken by whoever calls this, on a file that stands at the chain's end.
    pub(crate) fn enter(env: Env, settings: Settings, database: &Path, entry: Entry) -> Self {
        let mut replicator = Self::with_local(env, settings, database, entry.local, entry.owner);
        replicator.term.entered = Some((entry.tenancy, entry.opened));
        replicator
    }

    fn with_local(env: Env, settings: Settings, database: &Path, local: Local, owner: String) -> Self {
        let wal = Wal::new(Arc::clone(&env.files), crate::files::with_suffix(database, "-wal"));
        Self {
            settings,
            given: database.to_owned(),
            path: database.to_owned(),
            owner,
            local,
            watch: None,
            watcher: None,
            phase: Phase::Look(Duration::ZERO),
            late: false,
            chain: Chain {
                catalog: Catalog::default(),
                epochs: EpochFacts::default(),
                fate: Fate::Held,
                durable: None,
                epoch: None,
                create_only: true,
                opened: false,
                hole: false,
                unfinished: None,
                announced: None,
            },
            term: claim::Term::default(),
            tip: None,
            state: None,
            pending: None,
            sums: None,
            wal,
            edge: None,
            broken: None,
            paused: None,
            pause: Duration::ZERO,
            image: None,
            away: None,
            image_busy: false,
            no_room: false,
            staged: VecDeque::new(),
            announced_alone: false,
            unflushed: VecDeque::new(),
            putting: None,
            next_put: Duration::ZERO,
            put_failures: 0,
            put_limit: u64::MAX,
            last_slot: None,
            timing: capture::Timing::default(),
            checkpointing: checkpoint::Timing::default(),
            parking: park::Parking::default(),
            turns: None,
            unread: None,
            chores: chores::Chores::default(),
            stopping: Stopping::No,
            last_words: 0,
            mailbox: Mailbox::new(),
            shared: Arc::new(Shared::default()),
            env,
        }
    }

    /// Whether it replicates: what is committed from here on goes up.
    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether it is on its way from nothing to replicating, and nothing has stood in the way of that yet.
    pub(crate) fn opens(&self) -> bool {
        match self.phase {
            Phase::Look(_) | Phase::Looking => self.chores.failures == 0,
            Phase::Claiming(_) => true,
            Phase::Running => self.broken.is_some() && self.paused.is_none() && self.away.is_none(),
            // A restore to compare with may take hours, and has its own queue: others start meanwhile.
            Phase::Comparing | Phase::Locked(_) | Phase::Absent | Phase::Ended => false,
        }
    }

    /// Does what is due now.
    pub fn step(&mut self) -> Step {
        let (reports, poked) = self.mailbox.take();
        for report in reports {
            let taken = self.take_report(report);
            self.settle(taken);
        }
        if poked {
            self.timing.poke(self.env.clock.boot());
        }
        self.take_requests();
        let result = match self.phase {
            Phase::Look(at) => self.look(at),
            Phase::Locked(at) => self.try_to_open(at),
            Phase::Absent => self.wait_for_database(),
            Phase::Running => self.run(),
            Phase::Claiming(at) => self.claim_round(at),
            Phase::Looking | Phase::Comparing => self.wait_for_job(),
            Phase::Ended => Ok(Duration::MAX),
        };
        let wait = match result {
            Ok(wait) => wait,
            Err(error) => {
                self.settle(Err(error));
                Duration::ZERO
            }
        };
        self.publish();
        self.announce();
        Step {
            wait: if self.phase == Phase::Ended { Duration::MAX } else { wait },
            ended: self.phase == Phase::Ended,
        }
    }

    /// What the outside may know.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Asks that everything committed so far be brought into the replica; gives a ticket for
    /// [`Replicator::answered`].
    pub fn ask(&self) -> u64 {
        let ticket = self.shared.ask();
        self.mailbox.poke();
        ticket
    }

    /// Whether what a ticket asked for is in the replica.
    pub fn answered(&self, ticket: u64) -> bool {
        self.shared.answered() >= ticket
    }

    /// Whoever notices that the database may have changed calls this; any thread may.
    pub fn poker(&self) -> impl Fn() + Send + Sync + Clone + 'static {
        let mailbox = self.mailbox.clone();
        move || mailbox.poke()
    }

    /// Waits until there may be something to do, or for as long as the last step allowed.
    pub(crate) fn wait(&self, limit: Duration) {
        self.mailbox.wait(limit);
    }

    /// Whom to tell that there may be something to do.
    pub(crate) fn wake_with(&self, waker: impl Fn() + Send + Sync + 'static) {
        self.mailbox.wake_with(waker);
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What goes through the whole of a large database waits for a turn from here on.
    pub(crate) fn take_turns(&mut self, turns: Turns) {
        self.turns = Some(turns);
    }

    /// Whether file notification is not to be relied on from here on.
    pub fn set_polling(&mut self, polling: bool) {
        self.timing.polling = polling || self.settings.always_poll;
    }

    /// Asks the replicator to bring the tail up and end, within `limit`; a second call can only shorten that. Step on
    /// until it has ended.
    pub fn stop(&mut self, limit: Duration) {
        let deadline = self.env.clock.boot().saturating_add(limit);
        if self.stopping == Stopping::No {
            // Its time is short, and a pause after failures may be longer than that.
            self.next_put = self.env.clock.boot();
            self.last_words = self.shared.ask();
            self.ask_store_now();
            if let Phase::Look(at) | Phase::Locked(at) = &mut self.phase {
                *at = self.env.clock.boot();
            }
        }
        self.stopping = match self.stopping {
            Stopping::No => Stopping::Until(deadline),
            Stopping::Until(earlier) => Stopping::Until(earlier.min(deadline)),
            Stopping::Closing(earlier) => Stopping::Closing(earlier.min(deadline)),
        };
        self.mailbox.poke();
    }

    fn take_report(&mut self, report: Report) -> Result<(), KeepError> {
        match report {
            Report::Surveyed(result) => self.surveyed(result),
            restored @ (Report::Compared(..) | Report::Forward(..)) => self.take_restored(restored),
            Report::Found(sent, result) => self.found(sent, result),
            Report::ClaimAbove(result) => self.claim_above(result),
            Report::Proved(asked, result) => self.proved(asked, result),
            Report::Put(txid, result) => self.put_answered(txid, result),
            Report::ImageUp(txid, result) => self.image_answered(txid, result),
            Report::Back(result) => self.store_is_back(result),
            Report::Recorded(kind, result) => self.recorded(kind, result),
            Report::Removed(result) => {
                self.removed(result);
                Ok(())
            }
            Report::Chore(report) => self.chore_done(report),
        }
    }

    /// One round while replicating.
    fn run(&mut self) -> Result<Duration, KeepError> {
        let now = self.env.clock.boot();
        self.timing.begin_round(now);
        // The record says which transaction was the last: nothing may follow it.
        if let Stopping::Closing(_) = self.stopping {
            return self.stop_round();
        }
        if let Some(until) = self.paused {
            if now < until && self.stopping == Stopping::No {
                self.start_put()?;
                return Ok(self.look_round().min(until - now));
            }
            self.paused = None;
        }
        if self.away.is_some() {
            let due = match self.away_round() {
                Ok(wait) => wait,
                Err(error) => self.pause_for(error)?,
            };
            return Ok(self.stop_round()?.min(due));
        }
        if self.is_parked()
            && let Some(wait) = self.parked_round()
        {
            return Ok(wait);
        }
        let captured = self.confirm_image().and_then(|()| self.capture_round());
        let look_again = match captured {
            Ok(wait) => wait,
            Err(error) => self.pause_for(error)?,
        };
        if self.timing.aside.is_some() {
            self.note_sync();
            // Nothing is protected: no frame may be taken, and a slot is built of frames.
            self.start_put()?;
            return Ok(look_again.min(self.look_round()).min(self.stop_round()?));
        }
        let slot_due = match self.slot_round() {
            Ok(wait) => wait,
            Err(error) => self.pause_for(error)?,
        };
        self.note_sync();
        self.start_put()?;
        let chore_due = self.chore_round();
        let put_due = self.put_wait();
        let look_due = self.look_round();
        let stop_due = self.stop_round()?;
        let park_due = match self.park_round() {
            Ok(wait) => wait,
            Err(error) => self.pause_for(error)?,
        };
        Ok([look_again, slot_due, chore_due, put_due, look_due, stop_due, park_due]
            .into_iter()
            .min()
            .unwrap_or(limits::IDLE_LOOK))
    }

    fn spawn(
        &self,
        name: &'static str,
        job: impl FnOnce(Reporter<Report>) + Send + 'static,
        otherwise: Report,
    ) {
        self.spawn_as(JobKind::Short, name, job, otherwise);
    }

    fn spawn_as(
        &self,
        kind: JobKind,
        name: &'static str,
        job: impl FnOnce(Reporter<Report>) + Send + 'static,
        otherwise: Report,
    ) {
        self.env.spawner.spawn_as(kind, name, self.job(job, otherwise));
    }

    fn job(&self, job: impl FnOnce(Reporter<Report>) + Send + 'static, otherwise: Report) -> Job {
        let reporter = Reporter::new(&self.mailbox, otherwise);
        Box::new(move || job(reporter))
    }

    /// Records what went wrong; what cannot pass by itself ends the replicator.
    fn settle(&mut self, result: Result<(), KeepError>) {
        use crate::error::KeepErrorKind as Kind;
        let Err(error) = result else { return };
        let fatal = match error.kind() {
            Kind::Retry => matches!(
                error,
                KeepError::Unsent { .. } | KeepError::Uncaptured { .. } | KeepError::Gone { .. }
            ),
            // Before anything runs a person is still looking; later, a key that expired may be renewed.
            Kind::FixConfig => self.phase != Phase::Running && !self.outlasts(&error),
            // A truncated answer of the store may be whole next time; only a start must not go on from it.
            Kind::DataDamaged => self.phase != Phase::Running || !matches!(error, KeepError::Store(_)),
            Kind::Fenced | Kind::Bug => true,
        };
        if fatal {
            self.end(Some(error));
        } else {
            let error = Arc::new(error);
            if self.phase != Phase::Running && self.phase != Phase::Ended {
                self.phase = Phase::Look(self.env.clock.boot() + self.backoff(self.chores.failures));
                self.chores.failures = self.chores.failures.saturating_add(1);
            }
            self.shared.trouble(&self.path, &error);
        }
    }

    /// Whether a refusal of the store is waited out although nothing runs yet.
    fn outlasts(&self, error: &KeepError) -> bool {
        let refused = matches!(error, KeepError::Store(error) if error.kind() == ErrorKind::FixConfig);
        refused && self.settings.outlast_refusal
    }

    /// Ends for good: connections close, nothing is checkpointed, the local state stays.
    fn end(&mut self, error: Option<KeepError>) {
        self.announce();
        self.close_unopened();
        self.edge = None;
        if error.is_none()
            && self.phase == Phase::Running
            && let Err(error) = self.local.end_work(&self.path)
        {
            tracing::debug!(db = %self.path.display(), %error, "the file could not be made durable at the end");
        }
        self.phase = Phase::Ended;
        // Who cannot hand over has lost the replica, however orderly it left.
        let lost = self.term.leaving && self.settings.look_every.is_none();
        let error = error.or_else(|| lost.then(|| self.superseded(self.successor())));
        self.shared.ended(error.map(Arc::new));
    }

    /// A pause after `failures` failures in a row: 0.5 s doubling to 60 s, or to what a stop allows, with jitter.
    fn backoff(&self, failures: u32) -> Duration {
        let most = if self.is_stopping() { self.settings.shutdown_retry } else { Duration::from_secs(60) };
        let full = Duration::from_millis(500).saturating_mul(1 << failures.min(7)).min(most);
        let half = full / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(self.env.random.next_u64() % spread)
    }

    fn io(&self, what: &'static str) -> impl Fn(io::Error) -> KeepError + 'static {
        let path = self.local.dir().to_owned();
        move |error| KeepError::Io { what, path: path.clone(), error }
    }

    fn sqlite(&self) -> impl Fn(rusqlite::Error) -> KeepError + 'static {
        let path = self.path.clone();
        move |error| KeepError::Sqlite { path: path.clone(), error }
    }

    fn state(&self) -> &State {
        self.state.as_ref().expect("BUG: a running replicator has a state")
    }

    fn pending(&mut self) -> &mut Pending {
        self.pending.as_mut().expect("BUG: a running replicator has pending pages")
    }

    fn save(&self) -> Result<(), KeepError> {
        match &self.state {
            Some(state) => self.local.save(state).map_err(self.io("save the state in")),
            None => Ok(()),
        }
    }
}
