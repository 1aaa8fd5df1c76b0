//! A node, step by step: what it follows with, what it acquires with, what it replicates with, and the ways between.
//!
//! Everything that reads or writes the store outside of replication runs on the caller's thread, one question at a time, so
//! that a simulation decides what comes between two of them.

use super::{Application, Current, Left, NodeSettings, NodeStatus, Role, Shared};
use crate::error::{KeepError, KeepErrorKind};
use crate::follow::{Followed, Follower, Manner};
use crate::local::State;
use crate::ownership::{self, Claim, moment};
use crate::replicator::{Entry, Env, Replicator, Step, closed_without};
use crate::settings::Settings;
use crate::slot::{self, SlotHead};
use crate::wake::Watcher;
use litekeep_core::ownership::{Acquire, Do, Heard, Moment, Tenancy};
use litekeep_formats::ltx::{Marks, WalSpan};
use litekeep_formats::{Epoch, Level, TimestampMs, Txid, TxidRange};
use litekeep_store::{Created, EpochRecord, Key};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long an owner that hands over tries to bring its tail up: until somebody fences it, which is much sooner.
const UNTIL_FENCED: Duration = Duration::from_secs(24 * 60 * 60);

/// How soon a database that somebody keeps locked is tried again.
const BUSY: Duration = Duration::from_millis(5);

enum Stage {
    /// The follower is to be opened at this time.
    Open(Duration),
    Following(Box<Follower>),
    Acquiring(Box<Follower>, Box<Acquire>),
    Owning(Box<Owning>),
    /// It lost its epoch, or holds what the chain lacks while the chain went on: its file goes back to the chain.
    Returning(Box<Follower>),
    Ended,
}

struct Owning {
    replicator: Replicator,
    _watcher: Option<Watcher>,
    /// The application writes, or may.
    writing: bool,
    leaving: bool,
    /// The file came from the chain, so that it can go back there.
    from_chain: bool,
}

/// See the module's text.
pub struct Machine {
    env: Env,
    settings: NodeSettings,
    database: PathBuf,
    application: Arc<dyn Application>,
    owner: String,
    stage: Stage,
    shared: Arc<Shared>,
    /// Nothing before this time, after a failure; and how many there were in a row.
    not_before: Duration,
    failures: u32,
    /// When to look next without being asked.
    next_look: Duration,
    ending: bool,
}

impl Machine {
    /// A node that has done nothing yet.
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database.
    pub fn new(
        env: Env,
        mut settings: NodeSettings,
        database: &Path,
        application: Arc<dyn Application>,
    ) -> Result<Self, KeepError> {
        let replication = &mut settings.replication;
        replication.times = settings.times;
        replication.look_every = Some(settings.look_every);
        replication.require_create_only = !settings.single_writer;
        let shared = Arc::new(Shared {
            inner: super::Mutex::default(),
            changed: super::Condvar::new(),
            clock: Arc::clone(&env.clock),
        });
        let mut machine = Self {
            owner: format!("{:016x}", env.random.next_u64()),
            env,
            settings,
            database: database.to_owned(),
            application,
            stage: Stage::Open(Duration::ZERO),
            shared,
            not_before: Duration::ZERO,
            failures: 0,
            next_look: Duration::ZERO,
            ending: false,
        };
        machine.stage = if machine.settings.fresh {
            machine.begin_alone(false)?
        } else {
            let follower = machine.follower()?;
            // Somebody chose this state over a later one (R21): it is to become the newest, not to be brought forward.
            if follower.tip().is_some_and(|state| state.rewound_from.is_some()) {
                drop(follower);
                machine.begin_alone(false)?
            } else {
                Stage::Following(Box::new(follower))
            }
        };
        Ok(machine)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// How things are.
    pub fn status(&self) -> NodeStatus {
        self.shared.status()
    }

    /// See [`super::Node::ask_to_own`].
    pub fn ask_to_own(&self) {
        self.shared.ask_to_own();
    }

    /// Asks for everything that was committed before to be in the replica; `None` unless it owns or leaves. See
    /// [`Machine::answered`].
    pub fn ask(&self) -> Option<u64> {
        match &self.stage {
            Stage::Owning(owning) => Some(owning.replicator.ask()),
            _ => None,
        }
    }

    /// Whether a ticket of [`Machine::ask`] is answered; tickets of an epoch that is over are not.
    pub fn answered(&self, ticket: u64) -> bool {
        matches!(&self.stage, Stage::Owning(owning) if owning.replicator.answered(ticket))
    }

    /// Asks the node to end within `limit`; step on until it has.
    pub fn stop(&mut self, limit: Duration) {
        self.shared.update(|inner| inner.stop = Some(limit));
    }

    /// Waits until there may be something to do, or for as long as the last step allowed.
    pub(super) fn wait(&self, limit: Duration) {
        match &self.stage {
            Stage::Owning(owning) => owning.replicator.wait(limit),
            _ => self.shared.wait(limit),
        }
    }

    /// Does what is due now.
    pub fn step(&mut self) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let result = match stage {
            Stage::Open(at) => self.open(at),
            Stage::Following(follower) => self.follow(follower),
            Stage::Acquiring(follower, acquire) => self.acquire(follower, acquire),
            Stage::Owning(owning) => self.own(owning),
            Stage::Returning(follower) => self.come_back(follower),
            Stage::Ended => Ok((Stage::Ended, Duration::MAX)),
        };
        let wait = match result {
            Ok((stage, wait)) => {
                self.stage = stage;
                wait
            }
            Err(error) => {
                self.end(Some(error));
                Duration::MAX
            }
        };
        Step { wait, ended: matches!(self.stage, Stage::Ended) }
    }

    fn end(&mut self, error: Option<KeepError>) {
        self.stage = Stage::Ended;
        self.shared.ended(error);
        self.application.role(Role::Ended);
    }

    fn role(&self, role: Role) {
        let changed = self.shared.update(|inner| std::mem::replace(&mut inner.status.role, role) != role);
        if changed {
            tracing::info!(db = %self.database.display(), ?role, "role");
            self.application.role(role);
        }
    }

    fn now(&self) -> Moment {
        moment(&*self.env.clock, &*self.env.store)
    }

    fn wishes_to_own(&self) -> bool {
        let now = self.env.clock.boot();
        self.shared.update(|inner| {
            inner.wanted = inner.wanted.filter(|until| *until > now);
            inner.wanted.is_some()
        })
    }

    fn is_asked_to_look(&self) -> bool {
        let inner = self.shared.inner();
        inner.looks_asked > inner.looks_done
    }

    fn stop_asked(&self) -> bool {
        self.shared.inner().stop.is_some()
    }

    fn follower(&self) -> Result<Follower, KeepError> {
        let manner = Manner { parallelism: self.settings.parallelism, ..Manner::default() };
        Follower::open(self.env.clone(), &self.settings.replication, manner, &self.database)
    }

    /// A pause after a failure that may pass; any other ends the node.
    fn pause(&mut self, error: KeepError) -> Result<Duration, KeepError> {
        if error.kind() != KeepErrorKind::Retry {
            return Err(error);
        }
        let pause = Duration::from_millis(50).saturating_mul(1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        self.not_before = self.env.clock.boot() + pause;
        let text = error.to_string();
        let known = self.shared.update(|inner| {
            let known = inner.status.trouble.as_ref().is_some_and(|old| old.to_string() == text);
            inner.status.trouble = Some(Arc::new(error));
            known
        });
        if !known {
            tracing::warn!(db = %self.database.display(), error = %text, "the replica cannot be asked; trying again");
        }
        Ok(pause)
    }

    fn went_well(&mut self) {
        self.failures = 0;
        self.shared.update(|inner| inner.status.trouble = None);
    }

    fn open(&mut self, at: Duration) -> Result<(Stage, Duration), KeepError> {
        let now = self.env.clock.boot();
        if self.stop_asked() {
            self.end(None);
            return Ok((Stage::Ended, Duration::MAX));
        }
        if now < at {
            return Ok((Stage::Open(at), at - now));
        }
        Ok((Stage::Returning(Box::new(self.follower()?)), Duration::ZERO))
    }

    /// A standby's step.
    fn follow(&mut self, mut follower: Box<Follower>) -> Result<(Stage, Duration), KeepError> {
        if self.stop_asked() {
            let closed = follower.close();
            self.end(None);
            if let Err(error) = closed {
                tracing::debug!(%error, "the follower left work for the next start");
            }
            return Ok((Stage::Ended, Duration::MAX));
        }
        let now = self.env.clock.boot();
        if now < self.not_before {
            return Ok((Stage::Following(follower), self.not_before - now));
        }
        let met = follower.looked_at().is_some();
        if met && self.wishes_to_own() {
            self.role(Role::Acquiring);
            let mut acquire = Acquire::new(self.settings.times, now);
            acquire.stands_at(follower.tip().map(|state| state.txid));
            return Ok((Stage::Acquiring(follower, Box::new(acquire)), Duration::ZERO));
        }
        let asked = self.shared.inner().looks_asked;
        if met && !self.is_asked_to_look() && now < self.next_look {
            return Ok((Stage::Following(follower), self.next_look - now));
        }
        match self.look(&mut follower, asked)? {
            Looked::Ahead => {
                // Commits of a former life that the replica lacks; whether they can still go there, the replicator finds out.
                let from_chain = follower.tip().is_some();
                drop(follower);
                Ok((self.begin_alone(from_chain)?, Duration::ZERO))
            }
            Looked::Later(wait) => Ok((Stage::Following(follower), wait)),
            Looked::AtTip => {
                self.role(Role::Standby);
                self.next_look = self.env.clock.boot() + self.settings.look_every;
                let wait = if self.wishes_to_own() { Duration::ZERO } else { self.settings.look_every };
                Ok((Stage::Following(follower), wait))
            }
        }
    }

    /// One step of a follower; `asked` are the looks that were asked for before it.
    fn look(&mut self, follower: &mut Follower, asked: u64) -> Result<Looked, KeepError> {
        let looked = match follower.step() {
            Ok(Followed::Ahead) => return Ok(Looked::Ahead),
            // Nothing is there, and nobody ever opened an epoch: the file is to begin a chain, or began one in a former life
            // that ended before its first slot had arrived.
            Err(KeepError::Emptied { .. }) => return Ok(Looked::Ahead),
            Ok(Followed::Busy) => Looked::Later(BUSY),
            Ok(Followed::Applied(_) | Followed::Jumped(_)) => Looked::Later(Duration::ZERO),
            Ok(Followed::AtTip) => Looked::AtTip,
            Err(error) => return Ok(Looked::Later(self.pause(error)?)),
        };
        self.went_well();
        let (state, looked_at) = (follower.tip().cloned(), follower.looked_at());
        self.shared.update(|inner| {
            if let Some(state) = state {
                inner.status.txid = Some(state.txid);
                inner.status.timestamp = Some(state.timestamp);
            }
            inner.status.looked = looked_at;
            if matches!(looked, Looked::AtTip) {
                inner.looks_done = asked;
            }
        });
        Ok(looked)
    }

    /// One question on the way to an epoch.
    fn acquire(
        &mut self,
        follower: Box<Follower>,
        mut acquire: Box<Acquire>,
    ) -> Result<(Stage, Duration), KeepError> {
        let now = self.now();
        if now.boot < self.not_before {
            return Ok((Stage::Acquiring(follower, acquire), self.not_before - now.boot));
        }
        if self.stop_asked() || (acquire.epoch().is_none() && !self.wishes_to_own()) {
            self.close_unopened(acquire.epoch(), &follower);
            self.role(Role::Standby);
            return Ok((Stage::Following(follower), Duration::ZERO));
        }
        let heard = match acquire.next(&now) {
            Do::CatchUp => return self.catch_up(follower, acquire, now),
            // Whoever reads meanwhile gets his look.
            Do::Wait(_) if self.is_asked_to_look() => return self.catch_up(follower, acquire, now),
            Do::Wait(wait) => return Ok((Stage::Acquiring(follower, acquire), wait)),
            Do::Own(epoch, proof) => {
                return self.enter(*follower, Tenancy::new(self.settings.times, epoch, proof));
            }
            Do::GiveUp { ours, theirs } => {
                tracing::info!(?ours, ?theirs, "somebody else has claimed; following");
                self.close_unopened(ours, &follower);
                self.role(Role::Standby);
                return Ok((Stage::Following(follower), Duration::ZERO));
            }
            Do::Damaged(epoch) => {
                return Err(KeepError::EpochDamaged { epoch, replica: self.env.store.location() });
            }
            Do::Lost { epoch, closed, tip } => {
                return Err(closed_without(&*self.env.store, epoch, closed, tip));
            }
            question => self.ask_store(question, &acquire, &follower),
        };
        match heard {
            Ok(Some(heard)) => {
                self.went_well();
                acquire.hear(heard, now, &self.now());
                Ok((Stage::Acquiring(follower, acquire), Duration::ZERO))
            }
            // Nothing is exclusive here, and the user said that nobody else writes.
            Ok(None) => self.enter_unprotected(*follower),
            Err(error) => {
                let pause = self.pause(error)?;
                Ok((Stage::Acquiring(follower, acquire), pause))
            }
        }
    }

    /// Puts a question to the store; `None` when it turns out to create nothing exclusively, and that is accepted.
    fn ask_store(
        &self,
        question: Do,
        acquire: &Acquire,
        follower: &Follower,
    ) -> Result<Option<Heard>, KeepError> {
        let store = &*self.env.store;
        let heard = match question {
            Do::ListEpochs => {
                let sealed = follower.epoch();
                Heard::Epochs(ownership::list_epochs(store, sealed, follower.local().former())?)
            }
            Do::Claim(epoch) => {
                let io = |error| KeepError::Io {
                    what: "note the owner beside",
                    path: self.database.clone(),
                    error,
                };
                follower.local().set_owner(&self.owner).map_err(io)?;
                let from = follower.tip().map(|state| state.txid);
                match ownership::claim(store, epoch, &self.owner, from, self.env.clock.wall())? {
                    Claim::Made => Heard::Claimed(true),
                    Claim::Taken => Heard::Claimed(false),
                    Claim::NoCreateOnly if self.settings.single_writer => return Ok(None),
                    Claim::NoCreateOnly => return Err(KeepError::NoCreateOnly(store.location())),
                }
            }
            Do::Prove(n) => {
                let epoch = acquire.epoch().unwrap_or(Epoch::FIRST);
                Heard::Looked(ownership::look(store, epoch, n)?)
            }
            Do::Fence(epoch, n) => Heard::Fenced(self.fence(epoch, n, follower)?),
            _ => return Ok(None), // the others are no questions
        };
        Ok(Some(heard))
    }

    fn catch_up(
        &mut self,
        mut follower: Box<Follower>,
        mut acquire: Box<Acquire>,
        now: Moment,
    ) -> Result<(Stage, Duration), KeepError> {
        let asked = self.shared.inner().looks_asked;
        let wait = match self.look(&mut follower, asked)? {
            Looked::Later(wait) => wait,
            Looked::AtTip => {
                let tip = follower.tip().map(|state| state.txid);
                acquire.hear(Heard::CaughtUp { tip, epoch: follower.epoch() }, now, &self.now());
                Duration::ZERO
            }
            Looked::Ahead => {
                self.close_unopened(acquire.epoch(), &follower);
                return Ok((Stage::Returning(follower), Duration::ZERO));
            }
        };
        Ok((Stage::Acquiring(follower, acquire), wait))
    }

    /// Creates the slot without pages that keeps late ones out. `false`: something late stands there.
    fn fence(&self, epoch: Epoch, n: Txid, follower: &Follower) -> Result<bool, KeepError> {
        let Some(tip) = follower.tip() else { return Err(KeepError::JobLost("fence")) };
        let head = fence_head(tip, epoch, n, self.env.clock.wall());
        let (bytes, file) = slot::empty(head, self.settings.replication.encoding)
            .map_err(|error| KeepError::build(n, &error))?;
        let (key, size) = (Key::Ltx(Level::SLOTS, TxidRange::single(n)), bytes.len() as u64);
        match self.env.store.create(&key, bytes, head.timestamp)? {
            Created::Yes => Ok(true),
            Created::Exists => Ok(ownership::is_ours(&*self.env.store, n, size, file)?),
        }
    }

    /// A claim that never opened closes with what it had reached, so that nobody waits for it.
    fn close_unopened(&self, ours: Option<Epoch>, follower: &Follower) {
        let (Some(epoch), Some(tip)) = (ours, follower.tip()) else { return };
        let (store, now) = (&*self.env.store, self.env.clock.wall());
        let written = ownership::write_record(store, epoch, EpochRecord::Closed, &self.owner, tip.txid, now);
        if let Err(error) = written {
            tracing::warn!(%error, "the closing record of a claim could not be written; the next one waits for it");
        }
    }

    /// The epoch is ours: the follower's last look may lie before the fence, so it goes on to that first.
    fn enter(&mut self, mut follower: Follower, tenancy: Tenancy) -> Result<(Stage, Duration), KeepError> {
        let _ = follower.step();
        let opened = follower.epoch() == Some(tenancy.epoch());
        let local = follower.into_local()?;
        let entry = Entry { local, owner: self.owner.clone(), tenancy: Some(tenancy), opened };
        self.replicate(entry, true)
    }

    fn enter_unprotected(&mut self, follower: Follower) -> Result<(Stage, Duration), KeepError> {
        let entry =
            Entry { local: follower.into_local()?, owner: self.owner.clone(), tenancy: None, opened: false };
        self.replicate(entry, true)
    }

    fn replicate(&mut self, entry: Entry, from_chain: bool) -> Result<(Stage, Duration), KeepError> {
        let settings: Settings = self.settings.replication.clone();
        let replicator = Replicator::enter(self.env.clone(), settings, &self.database, entry);
        Ok((self.owning(replicator, from_chain), Duration::ZERO))
    }

    /// Replicates a file that does not come from the chain, or is past it: the replicator compares, and claims by itself.
    fn begin_alone(&mut self, from_chain: bool) -> Result<Stage, KeepError> {
        self.role(Role::Acquiring);
        let settings: Settings = self.settings.replication.clone();
        let replicator = Replicator::open(self.env.clone(), settings, &self.database)?;
        Ok(self.owning(replicator, from_chain))
    }

    fn owning(&mut self, mut replicator: Replicator, from_chain: bool) -> Stage {
        let poke: Arc<dyn Fn() + Send + Sync> = Arc::new(replicator.poker());
        let current = Current { shared: replicator.shared(), poke };
        self.shared.update(|inner| inner.current = Some(current));
        let watcher = match &self.env.vfs {
            None => Watcher::start(&self.database, replicator.poker())
                .inspect_err(|error| tracing::warn!(%error, "no file notification here: polling"))
                .ok(),
            // A simulated disk notifies by itself.
            Some(_) => None,
        };
        replicator.set_polling(watcher.is_none());
        let owning = Owning { replicator, _watcher: watcher, writing: false, leaving: false, from_chain };
        Stage::Owning(Box::new(owning))
    }

    /// An owner's step.
    fn own(&mut self, mut owning: Box<Owning>) -> Result<(Stage, Duration), KeepError> {
        if let Some(limit) = self.shared.update(|inner| inner.stop.take()) {
            self.ending = true;
            self.leave(&mut owning, limit);
        }
        let step = owning.replicator.step();
        if step.ended {
            return self.owned(owning);
        }
        if owning.replicator.successor().is_some() && !owning.leaving {
            self.leave(&mut owning, UNTIL_FENCED);
            return Ok((Stage::Owning(owning), Duration::ZERO));
        }
        if owning.replicator.is_running() && !owning.writing && !owning.leaving {
            self.begin_writing(&mut owning)?;
            return Ok((Stage::Owning(owning), Duration::ZERO));
        }
        Ok((Stage::Owning(owning), step.wait))
    }

    fn begin_writing(&mut self, owning: &mut Owning) -> Result<(), KeepError> {
        let epoch = owning.replicator.status().epoch;
        owning.writing = true;
        self.shared.update(|inner| {
            inner.status.epoch = epoch;
            inner.wanted = None;
            inner.looks_done = inner.looks_asked;
        });
        match self.application.start_writing(epoch) {
            Ok(()) => {
                self.role(Role::Owner);
                Ok(())
            }
            Err(why) => {
                self.shared.update(|inner| {
                    inner.status.failure = Some(Arc::new(KeepError::Application(why)));
                });
                self.ending = true;
                self.leave(owning, self.settings.times.hand_over);
                Ok(())
            }
        }
    }

    fn leave(&mut self, owning: &mut Owning, limit: Duration) {
        if !owning.leaving {
            owning.leaving = true;
            // A wish from before would take the replica back at once from whoever is next.
            self.shared.update(|inner| inner.wanted = None);
            self.role(Role::Leaving);
            self.application.stop_writing();
        }
        owning.replicator.stop(limit);
    }

    /// The replicator has ended.
    fn owned(&mut self, owning: Box<Owning>) -> Result<(Stage, Duration), KeepError> {
        let status = owning.replicator.status();
        let (from_chain, writing) = (owning.from_chain || owning.writing, owning.writing);
        if !owning.leaving && writing {
            self.shared.update(|inner| inner.wanted = None);
            self.application.stop_writing();
        }
        drop(owning);
        self.shared.update(|inner| {
            inner.current = None;
            inner.status.epoch = None;
            inner.status.txid = status.durable.or(inner.status.txid);
        });
        let lost = status.failure.as_ref().is_some_and(|error| {
            matches!(**error, KeepError::Fenced { .. })
                || (from_chain && matches!(**error, KeepError::Beside { .. } | KeepError::Behind { .. }))
        });
        if writing {
            let how = if status.failure.is_none() { Left::Closed(status.durable) } else { Left::Lost };
            self.application.left(how);
        }
        match status.failure {
            Some(error) if !lost || self.ending => {
                self.stage = Stage::Ended;
                self.shared.update(|inner| {
                    inner.status.failure.get_or_insert(error);
                });
                self.end(None);
                Ok((Stage::Ended, Duration::MAX))
            }
            None if self.ending => {
                self.end(None);
                Ok((Stage::Ended, Duration::MAX))
            }
            failure => {
                if let Some(error) = failure {
                    tracing::warn!(db = %self.database.display(), %error, "the replica was lost to another instance");
                    self.role(Role::Returning);
                }
                Ok((Stage::Open(Duration::ZERO), Duration::ZERO))
            }
        }
    }

    /// Back to the chain, with what it lacks kept aside.
    fn come_back(&mut self, mut follower: Box<Follower>) -> Result<(Stage, Duration), KeepError> {
        if self.stop_asked() {
            self.end(None);
            return Ok((Stage::Ended, Duration::MAX));
        }
        let now = self.env.clock.boot();
        if now < self.not_before {
            return Ok((Stage::Returning(follower), self.not_before - now));
        }
        match follower.bring_back() {
            Ok(aside) => {
                self.went_well();
                if let Some(aside) = aside {
                    self.shared.update(|inner| inner.status.aside.push(aside));
                }
                Ok((Stage::Following(follower), Duration::ZERO))
            }
            Err(KeepError::Sqlite { error, .. }) if crate::sqlite::is_busy(&error) => {
                Ok((Stage::Returning(follower), BUSY))
            }
            // Whoever claimed above us has not written anything yet either: the file may still be the one that begins.
            Err(KeepError::Emptied { .. }) => {
                drop(follower);
                Ok((self.begin_alone(false)?, Duration::ZERO))
            }
            Err(error) => {
                let pause = self.pause(error)?;
                Ok((Stage::Returning(follower), pause))
            }
        }
    }
}

enum Looked {
    AtTip,
    Later(Duration),
    Ahead,
}

fn fence_head(tip: &State, epoch: Epoch, txid: Txid, wall: TimestampMs) -> SlotHead {
    SlotHead {
        txid,
        epoch: Some(epoch),
        page_size: tip.page_size,
        commit: tip.commit,
        timestamp: wall.max(tip.timestamp),
        predecessor: tip.slot,
        database: tip.database,
        marks: Marks::NONE,
        wal: WalSpan::default(),
    }
}
