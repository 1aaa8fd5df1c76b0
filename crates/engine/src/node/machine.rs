//! A node, step by step: what it follows with, what it acquires with, what it replicates with, and the ways between.
//!
//! Everything that reads or writes the store outside of replication runs on the caller's thread, one question at a time
//! where [`NodeSettings::parallelism`] is 1, so that a simulation decides what comes between two of them.

use super::{Application, NodeSettings, NodeStatus, Role, Shared};
use crate::error::{KeepError, KeepErrorKind};
use crate::follow::{Followed, Follower, Manner};
use crate::ownership::{self, moment};
use crate::replicator::{Env, Replicator, Step};
use crate::restore;
use litekeep_core::ownership::{Acquire, Moment};
use litekeep_formats::Txid;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How soon a database that somebody keeps locked is tried again.
pub(super) const BUSY: Duration = Duration::from_millis(5);

pub(super) enum Stage {
    /// The follower is to be opened at this time.
    Open(Duration),
    Following(Box<Follower>),
    Acquiring(Box<Follower>, Box<Acquire>),
    Owning(Box<Owning>),
    /// It lost its epoch, or holds what the chain lacks while the chain went on: its file goes back to the chain.
    Returning(Box<Follower>),
    Ended,
}

pub(super) struct Owning {
    pub(super) replicator: Replicator,
    /// The application writes, or may.
    pub(super) writing: bool,
    pub(super) leaving: bool,
    /// The file came from the chain, so that it can go back there.
    pub(super) from_chain: bool,
    /// The looks that had been asked for when the one that is waited for was, and since when.
    pub(super) look: Option<(u64, Duration)>,
}

/// See the module's text.
pub struct Machine {
    pub(super) env: Env,
    pub(super) settings: NodeSettings,
    pub(super) database: PathBuf,
    pub(super) application: Arc<dyn Application>,
    pub(super) owner: String,
    pub(super) stage: Stage,
    pub(super) shared: Arc<Shared>,
    /// Nothing before this time, after a failure; and how many there were in a row.
    pub(super) not_before: Duration,
    pub(super) failures: u32,
    /// What the chain's end was when following began; reached, it is a standby. `None` until it was looked at.
    pub(super) target: Option<Option<Txid>>,
    pub(super) standing: bool,
    /// It has been a standby or an owner once.
    pub(super) stood: bool,
    /// Why the last epoch was lost, until the file is back on the chain.
    pub(super) lost: Option<Arc<KeepError>>,
    /// The looks that had been asked for when the follower's last one was sent.
    pub(super) asked: u64,
    /// When to look next without being asked.
    pub(super) next_look: Duration,
    pub(super) ending: bool,
    /// The chain seemed to lack what a closing record speaks of, and the listings were asked again for it.
    pub(super) doubted: bool,
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
            target: None,
            standing: false,
            stood: false,
            lost: None,
            asked: 0,
            next_look: Duration::ZERO,
            ending: false,
            doubted: false,
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

    /// See [`super::Node::holds`].
    pub fn holds(&self) -> bool {
        self.shared.holds(&self.shared.inner())
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
        // One that was not heard yet can only become shorter.
        self.shared.update(|inner| inner.stop = Some(inner.stop.map_or(limit, |earlier| earlier.min(limit))));
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

    pub(super) fn end(&mut self, error: Option<KeepError>) {
        self.stage = Stage::Ended;
        self.shared.ended(error);
        self.application.role(Role::Ended);
    }

    fn stand_by(&mut self) {
        (self.standing, self.stood) = (true, true);
        self.role(Role::Standby);
    }

    pub(super) fn role(&self, role: Role) {
        let changed = self.shared.update(|inner| std::mem::replace(&mut inner.status.role, role) != role);
        if changed {
            tracing::info!(db = %self.database.display(), ?role, "role");
            self.application.role(role);
        }
    }

    pub(super) fn now(&self) -> Moment {
        moment(&*self.env.clock, &*self.env.store)
    }

    pub(super) fn wishes_to_own(&self) -> bool {
        let now = self.env.clock.boot();
        self.shared.update(|inner| {
            inner.wanted = inner.wanted.filter(|until| *until > now);
            inner.wanted.is_some()
        })
    }

    pub(super) fn is_asked_to_look(&self) -> bool {
        let inner = self.shared.inner();
        inner.looks_asked > inner.looks_done
    }

    pub(super) fn stop_asked(&self) -> bool {
        self.shared.inner().stop.is_some()
    }

    pub(super) fn follower(&self) -> Result<Follower, KeepError> {
        let manner = Manner { parallelism: self.settings.parallelism, ..Manner::default() };
        Follower::open(self.env.clone(), &self.settings.replication, manner, &self.database)
    }

    /// A pause after a failure that may pass; any other ends the node. Once it has stood by, a key that expired may be
    /// renewed and a truncated answer be whole next time, as an owner takes it.
    pub(super) fn pause(&mut self, error: KeepError) -> Result<Duration, KeepError> {
        let passes = match (error.kind(), &error) {
            (KeepErrorKind::Retry, _) => true,
            (KeepErrorKind::FixConfig | KeepErrorKind::DataDamaged, KeepError::Store(_)) => self.stood,
            _ => false,
        };
        if !passes {
            return Err(error);
        }
        let pause = Duration::from_millis(50).saturating_mul(1 << self.failures.min(7));
        self.failures = self.failures.saturating_add(1);
        self.not_before = self.env.clock.boot() + pause;
        let error = Arc::new(error);
        let known = self.shared.update(|inner| {
            let known = inner.status.trouble.as_ref().is_some_and(|old| old.gist() == error.gist());
            inner.status.trouble = Some(Arc::clone(&error));
            known
        });
        if !known {
            tracing::warn!(db = %self.database.display(), %error, "the replica cannot be asked; trying again");
        }
        Ok(pause)
    }

    pub(super) fn went_well(&mut self) {
        self.failures = 0;
        self.shared.update(|inner| inner.status.trouble = None);
    }

    pub(super) fn open(&mut self, at: Duration) -> Result<(Stage, Duration), KeepError> {
        let now = self.env.clock.boot();
        if self.stop_asked() {
            if self.lost.is_some() {
                let mut follower = self.follower()?;
                return self.end_on_the_way_back(&mut follower);
            }
            self.end(None);
            return Ok((Stage::Ended, Duration::MAX));
        }
        if now < at {
            return Ok((Stage::Open(at), at - now));
        }
        Ok((Stage::Returning(Box::new(self.follower()?)), Duration::ZERO))
    }

    /// A standby's step.
    pub(super) fn follow(&mut self, mut follower: Box<Follower>) -> Result<(Stage, Duration), KeepError> {
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
        if self.standing && self.wishes_to_own() {
            self.role(Role::Acquiring);
            let mut acquire = Acquire::new(self.settings.times, now);
            acquire.stands_at(follower.chain_end());
            return Ok((Stage::Acquiring(follower, Box::new(acquire)), Duration::ZERO));
        }
        if self.target.is_none() {
            match self.first_look() {
                Ok(newest) => self.target = Some(newest),
                Err(error) => {
                    let pause = self.pause(error)?;
                    return Ok((Stage::Following(follower), pause));
                }
            }
        }
        if self.standing && !self.is_asked_to_look() && now < self.next_look {
            return Ok((Stage::Following(follower), self.next_look - now));
        }
        match self.look(&mut follower)? {
            Looked::Ahead => self.is_ahead(follower),
            Looked::Later(wait) => Ok((Stage::Following(follower), wait)),
            Looked::Further => {
                // A busy owner may never let it see the very end; where the end was at the start is enough.
                let tip = follower.tip().map(|state| state.txid);
                if !self.standing && self.target.is_some_and(|target| tip >= target) {
                    self.stand_by();
                }
                Ok((Stage::Following(follower), Duration::ZERO))
            }
            Looked::AtTip => {
                self.stand_by();
                self.next_look = self.env.clock.boot() + self.settings.look_every;
                let wait = if self.wishes_to_own() { Duration::ZERO } else { self.settings.look_every };
                Ok((Stage::Following(follower), wait))
            }
        }
    }

    /// The file holds what the replica lacks: commits of a former life. Where the chain went on without them nobody's
    /// ownership is taken for them.
    fn is_ahead(&mut self, mut follower: Box<Follower>) -> Result<(Stage, Duration), KeepError> {
        let must_return = match follower.must_return() {
            true => Ok(true),
            false => follower.is_passed(),
        };
        match must_return {
            Ok(true) => {
                self.role(Role::Returning);
                Ok((Stage::Returning(follower), Duration::ZERO))
            }
            // Whether they can still go there, the replicator finds out.
            Ok(false) => {
                let from_chain = follower.tip().is_some();
                drop(follower);
                Ok((self.begin_alone(from_chain)?, Duration::ZERO))
            }
            Err(error) => {
                let pause = self.pause(error)?;
                Ok((Stage::Following(follower), pause))
            }
        }
    }

    /// Where the chain ends, and, for a node that has not stood by or owned yet, whether one could own it: better said now
    /// than at the first write.
    fn first_look(&self) -> Result<Option<Txid>, KeepError> {
        let store = &*self.env.store;
        if !self.settings.single_writer
            && !self.stood
            && ownership::creates_only(store, self.env.clock.wall())? == Some(false)
        {
            return Err(KeepError::NoCreateOnly(store.location()));
        }
        Ok(restore::catalog(store)?.newest())
    }

    /// One step of a follower. At the tip, those are served who had asked before the look was sent that reached it.
    pub(super) fn look(&mut self, follower: &mut Follower) -> Result<Looked, KeepError> {
        if follower.will_look() {
            self.asked = self.shared.inner().looks_asked;
        }
        let asked = self.asked;
        let looked = match follower.step() {
            Ok(Followed::Ahead) => return Ok(Looked::Ahead),
            // Nothing is there, and nobody ever opened an epoch: the file is to begin a chain, or began one in a former life
            // that ended before its first slot had arrived.
            Err(KeepError::Emptied { .. }) => return Ok(Looked::Ahead),
            Ok(Followed::Busy) => Looked::Later(BUSY),
            Ok(Followed::Applied(_) | Followed::Jumped(_)) => Looked::Further,
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
}

pub(super) enum Looked {
    AtTip,
    /// One step along the chain.
    Further,
    /// Nothing is known yet; look again then.
    Later(Duration),
    Ahead,
}
