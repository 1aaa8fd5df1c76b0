//! Drives the replicators of any number of databases with a few threads.
//!
//! A replicator is stepped by one worker at a time, when its time has come or something came for it: a report of a job,
//! a file event, a request. What blocks for long runs as a job; what blocks for a while in a step (the two seconds of a
//! write lock, a comparison of pages, a sync of the disk) keeps one worker, and the others go on with the rest. For what
//! goes through a large database, at its start or later, there are fewer turns than workers. It knows nothing of what a
//! step does.

mod queue;
mod turns;

pub(crate) use turns::{Turn, Turns};

use crate::error::KeepError;
use crate::keeper::Keeper;
use crate::replicator::{Env, Replicator, Shared};
use crate::settings::Settings;
use crate::wake::Watch;
use litekeep_core::env::Clock;
use queue::{Id, Queue};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Workers of a process with many databases. More than there are cores: they wait for disks and locks.
pub const WORKERS: usize = 4;

/// See the module's text. It lives for as long as one of its keepers does.
pub struct Driver {
    inner: Arc<Inner>,
    workers: Vec<JoinHandle<()>>,
    /// `None` where the system has no notification left.
    watch: Option<Watch>,
    /// At what goes through a large database.
    turns: Turns,
}

struct Inner {
    clock: Arc<dyn Clock>,
    desk: Mutex<Desk>,
    changed: Condvar,
}

#[derive(Default)]
struct Desk {
    queue: Queue,
    members: BTreeMap<Id, Arc<Member>>,
    last: Id,
    /// When workers that sleep will look again by themselves; one entry each.
    alarms: Vec<Duration>,
    closing: bool,
}

/// What is told of an end: by an error, or as it was asked to.
pub(crate) type OnEnd = Box<dyn FnOnce(Option<Arc<KeepError>>) + Send>;

/// One database.
pub(crate) struct Member {
    id: Id,
    replicator: Mutex<Option<Replicator>>,
    shared: Arc<Shared>,
    end: Mutex<End>,
    ended: Condvar,
}

#[derive(Default)]
struct End {
    gone: bool,
    tell: Option<OnEnd>,
}

impl Driver {
    /// Begins, without a database.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(clock: Arc<dyn Clock>) -> io::Result<Arc<Self>> {
        Self::with_workers(clock, WORKERS)
    }

    pub(crate) fn with_workers(clock: Arc<dyn Clock>, workers: usize) -> io::Result<Arc<Self>> {
        let watch =
            Watch::start().inspect_err(|error| tracing::warn!(%error, "no file notification here")).ok();
        let inner = Arc::new(Inner { clock, desk: Mutex::default(), changed: Condvar::new() });
        let turns = Turns::new((workers / 2).max(1));
        let mut driver = Self { inner, workers: Vec::new(), watch, turns };
        for _ in 0..workers {
            let inner = Arc::clone(&driver.inner);
            let worker = std::thread::Builder::new().name("replicate".to_owned());
            driver.workers.push(worker.spawn(move || inner.work())?);
        }
        Ok(Arc::new(driver))
    }

    /// Begins to replicate a database. It may still be missing, and so may its folder; the replica is looked at by the workers.
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database, [`KeepError::Io`] when its folder is out of reach.
    pub fn keep(
        self: &Arc<Self>,
        env: Env,
        settings: Settings,
        database: &Path,
    ) -> Result<Keeper, KeepError> {
        let mut replicator = Replicator::open(env, settings, database)?;
        let (shared, poke) = (replicator.shared(), replicator.poker());
        replicator.watch_with(self.watch.clone());
        replicator.take_turns(self.turns.clone());
        let database = replicator.database().to_owned();
        let member = self.seat(replicator, &shared);
        Ok(Keeper::of(Arc::clone(self), member, shared, Box::new(poke), database))
    }

    fn seat(&self, replicator: Replicator, shared: &Arc<Shared>) -> Arc<Member> {
        let mut desk = self.inner.desk();
        desk.last += 1;
        let id = desk.last;
        let inner = Arc::downgrade(&self.inner);
        replicator.wake_with(move || {
            if let Some(inner) = Weak::upgrade(&inner) {
                inner.poke(|queue| queue.poke(id));
            }
        });
        let member = Arc::new(Member {
            id,
            replicator: Mutex::new(Some(replicator)),
            shared: Arc::clone(shared),
            end: Mutex::default(),
            ended: Condvar::new(),
        });
        desk.members.insert(id, Arc::clone(&member));
        desk.queue.add(id);
        drop(desk);
        self.inner.changed.notify_one();
        member
    }

    /// A stop was asked for.
    pub(crate) fn hurry(&self, member: &Member) {
        self.inner.poke(|queue| queue.hurry(member.id));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.inner.desk().closing = true;
        self.inner.changed.notify_all();
        for worker in self.workers.drain(..) {
            // The last keeper may have been dropped by what a worker tells of an end.
            if worker.thread().id() != std::thread::current().id() {
                let _ = worker.join();
            }
        }
    }
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poke(&self, change: impl FnOnce(&mut Queue)) {
        let mut desk = self.desk();
        change(&mut desk.queue);
        drop(desk);
        self.changed.notify_one();
    }

    fn work(&self) {
        while let Some(member) = self.next() {
            let step = member.step();
            let mut desk = self.desk();
            match step {
                Some((wait, opening)) => {
                    let due = self.clock.boot().saturating_add(wait);
                    desk.queue.give_back(member.id, due, opening);
                }
                None => {
                    desk.queue.remove(member.id);
                    desk.members.remove(&member.id);
                    drop(desk);
                    member.gone();
                }
            }
        }
    }

    /// Waits for somebody whose turn it is.
    fn next(&self) -> Option<Arc<Member>> {
        let mut desk = self.desk();
        loop {
            if desk.closing {
                return None;
            }
            if let Some(id) = desk.queue.take(self.clock.boot()) {
                let member = desk.members.get(&id).cloned();
                // Another worker looks after the rest, however long this step takes.
                if desk.uncovered().is_some() {
                    self.changed.notify_one();
                }
                if member.is_some() {
                    return member;
                }
                continue;
            }
            desk = self.sleep(desk);
        }
    }

    /// One of the sleeping workers has an alarm set for the next time; the others sleep until they are called.
    fn sleep<'a>(&self, mut desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        let Some(due) = desk.uncovered() else {
            return self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        };
        desk.alarms.push(due);
        let limit = due.saturating_sub(self.clock.boot());
        let (mut desk, _) = self.changed.wait_timeout(desk, limit).unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = desk.alarms.iter().position(|alarm| *alarm == due) {
            desk.alarms.swap_remove(at);
        }
        desk
    }
}

impl Desk {
    /// When somebody is due whom no sleeping worker wakes up for.
    fn uncovered(&self) -> Option<Duration> {
        self.queue.next_due().filter(|due| self.alarms.iter().all(|alarm| alarm > due))
    }
}

impl Member {
    /// One step; how long to wait then, and whether it is still being opened. `None` once it has ended.
    fn step(&self) -> Option<(Duration, bool)> {
        let mut slot = self.replicator.lock().unwrap_or_else(PoisonError::into_inner);
        let replicator = slot.as_mut()?;
        let stepped = catch_unwind(AssertUnwindSafe(|| (replicator.step(), replicator.opens())));
        match stepped {
            Ok((step, opening)) if !step.ended => return Some((step.wait, opening)),
            Ok(_) => {}
            Err(_) => self.shared.ended(Some(Arc::new(KeepError::JobLost("replicate")))),
        }
        *slot = None;
        None
    }

    /// The replicator is dropped, and its lock with it.
    fn gone(&self) {
        let mut end = self.end();
        end.gone = true;
        let tell = end.tell.take();
        drop(end);
        self.ended.notify_all();
        if let Some(tell) = tell {
            tell(self.shared.status().failure);
        }
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.end().gone
    }

    pub(crate) fn wait_gone(&self) {
        drop(self.ended.wait_while(self.end(), |end| !end.gone));
    }

    pub(crate) fn when_gone(&self, tell: OnEnd) {
        let mut end = self.end();
        if !end.gone {
            end.tell = Some(tell);
            return;
        }
        drop(end);
        tell(self.shared.status().failure);
    }
}
