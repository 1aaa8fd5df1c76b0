//! `litekeep replicate -exec`: a command that runs only while its databases are owned, and hands over to a newer instance.
//!
//! The newcomer follows first and claims then. The older instance stops its command, brings the tail up, closes, and looks on:
//! until the newcomer says that its command is well, and, less often, after that. If that gives up, leaves, or says nothing
//! for a minute, the older one takes the databases back and starts its command again: a bad release is no outage.
//!
//! One thread waits for events and decides; nodes, signals, the command, the probe and the looks at the store only tell it
//! what happened. It never asks a store itself.

mod members;
mod waiting;

use super::door::Door;
use super::lookout::Lookout;
use super::member::Member;
use super::replicate::{Command, keep_trouble, synced, thread};
use super::watch::{self, Seen};
use crate::child::{self, Running};
use crate::config::Config;
use crate::daemon;
use crate::daemon::fleet::Fleet;
use crate::descriptors::{self, Raised};
use crate::signals::{self, Abrupt, Heard, Word};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::error::KeepError;
use litekeep::node::{Left, Role};
use litekeep_core::env::{Clock, Random};
use litekeep_formats::Epoch;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How old a claim must be before another: a command starts and stops in seconds, not in milliseconds. Half of what a
/// successor gets to become well, where that is less.
const TENURE: Duration = Duration::from_secs(30);
/// A command needs some time to end, once the claim was seen, and the tail some to go up.
pub(super) const LEAST_HAND_OVER: Duration = Duration::from_secs(5);
/// What of that is left for the tail once the command has been killed.
const FOR_THE_TAIL: Duration = Duration::from_secs(2);
/// A successor without an address to ask needs [`UP`] alone, and the start of a program.
pub(super) const LEAST_READY: Duration = Duration::from_secs(10);
/// How long a command must have stayed up to count as well, without an address to ask.
const UP: Duration = Duration::from_secs(5);
/// How often a successor is looked at that is not known to be well, and how often one that was.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_WHEN_RETIRED: Duration = Duration::from_secs(4);
/// How long an end waits for those who only look at the replica, and have nothing to bring up.
const LEAVE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
/// How often an idle owner looks for a claim, and a standby for the next transaction.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the deciding thread hears.
pub(super) enum Event {
    Signal(i32),
    Child(io::Result<()>),
    /// A node may be written to.
    Owned(usize, Option<Epoch>),
    /// A node has a successor: the command must have stopped before it goes on.
    Leaving,
    Left(usize, Left),
    Ended(usize, Option<Arc<KeepError>>),
    Ready,
    /// The answer to a look that was asked for in this stage.
    Seen(Stage, Seen),
    /// Whether the databases that are not there are for the command to make.
    Surveyed(Result<(), Trouble>),
}

/// What the command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The databases are followed, then claimed.
    Acquiring,
    /// It runs, since then; whether it is known to be well.
    Up(Duration, bool),
    /// It was told to stop for a successor.
    Stopping,
    /// It has stopped for a successor, then; nobody knows yet whether that one is well.
    Watching(Duration),
    /// The successor is well, or was when last looked at.
    Retired,
    /// All ends.
    Ending,
}

/// Whether databases that are not there are known to be nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survey {
    Due,
    UnderWay,
    Done,
}

struct House {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// It starts and stops none of the databases, and so hears of no end.
    fleet: Arc<Fleet>,
    lookout: Lookout,
    members: Vec<Member>,
    /// How many there were so far: the next one's number.
    kept: usize,
    command: Command,
    child: Option<Running>,
    descriptors: Raised,
    door: Arc<Door>,
    stage: Stage,
    tell: Sender<Event>,
    told: Receiver<Event>,
    passed_on: Vec<i32>,
    signals: Heard,
    /// When the command is killed, because what it commits after a successor's fence is lost. It stays set until it has ended.
    kill_at: Option<Duration>,
    next_look: Duration,
    /// A look is under way.
    looking: bool,
    survey: Survey,
    /// When to say next why the command does not start, while it does not.
    tell_at: Option<Duration>,
    /// How long a successor may take, and how long after its end the databases are taken back. By chance, so that two
    /// instances that took one database each from the other do not do so again and again at the same moment.
    patience: Duration,
    pause: Duration,
    /// When the first look found that there is no successor any more.
    gone: Option<Duration>,
    /// The end came while no command ran: until when it waits for those who own nothing.
    leave_at: Option<Duration>,
    exit: Exit,
    trouble: Option<Trouble>,
}

/// Runs a command over its databases until it, or a signal, or trouble ends it.
pub(super) fn run(world: &World, config: &Config, command: Command, abrupt: Abrupt) -> Result<Exit, Trouble> {
    let (tell, told) = mpsc::channel();
    let signal = tell.clone();
    signals::listen_to_all(move |number| drop(signal.send(Event::Signal(number))))
        .map_err(|error| Trouble::new("can't listen for signals").because(&error))?;
    drop(abrupt);
    let descriptors = descriptors::raise();
    let fleet = Fleet::new(Arc::new(world.clone()), |_| {});
    let (databases, lookout) = Lookout::begin(config, &fleet)?;
    let mut house = House {
        fleet,
        lookout,
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        members: Vec::new(),
        kept: 0,
        command,
        child: None,
        descriptors,
        door: Arc::default(),
        stage: Stage::Acquiring,
        tell,
        told,
        passed_on: Vec::new(),
        signals: Heard::default(),
        kill_at: None,
        next_look: Duration::ZERO,
        looking: false,
        survey: Survey::Due,
        tell_at: None,
        patience: Duration::ZERO,
        pause: Duration::ZERO,
        gone: None,
        leave_at: None,
        exit: Exit::OK,
        trouble: None,
    };
    let begun = databases.into_iter().try_for_each(|database| {
        // The command makes it, then.
        let fresh = !database.path.exists();
        house.keep(database, fresh)
    });
    let _beside = begun.is_ok().then(|| daemon::beside(config, &house.fleet));
    if let Err(trouble) = begun {
        house.blame(trouble);
        house.end(None);
    }
    house.live()
}

impl House {
    /// Hears and decides until all has ended.
    fn live(mut self) -> Result<Exit, Trouble> {
        loop {
            match self.told.recv_timeout(TICK) {
                Ok(event) => self.hear(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if let Err(trouble) = self.tick() {
                self.blame(trouble);
                self.end(None);
            }
            if self.stage == Stage::Ending && self.child.is_none() && self.is_over() {
                break;
            }
        }
        for member in self.members.drain(..).filter(|member| !member.ended) {
            tracing::info!(db = %member.database.path.display(), "this instance owns nothing, and does not wait for the replica");
            thread("left", move || drop(member))?; // which waits; the process does not
        }
        tracing::info!("litekeep shut down");
        match self.trouble {
            // The command's own code says more to whoever started it, and it is not 0 either.
            Some(trouble) if self.exit != Exit::OK => Err(trouble.exit(self.exit)),
            Some(trouble) => Err(trouble),
            None => Ok(self.exit),
        }
    }

    /// A node that asks a store which does not answer is not waited for, if it has nothing to bring up.
    fn is_over(&self) -> bool {
        let leave = self.leave_at.is_some_and(|at| self.clock.boot() >= at);
        self.members.iter().all(|member| member.ended || (leave && member.only_looks()))
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Signal(signal) => self.signalled(signal),
            Event::Child(end) => self.child_ended(end),
            Event::Owned(index, epoch) => {
                let well = matches!(self.stage, Stage::Up(_, true));
                if let Some(member) = self.member(index) {
                    member.epoch = epoch.or(member.epoch);
                    // It was made after the others were confirmed.
                    if well {
                        member.node.confirm();
                    }
                }
            }
            Event::Leaving => {
                self.kill_in_time();
                self.stop_for_successor();
            }
            Event::Left(index, how) => self.left(index, how),
            Event::Ended(index, why) => self.ended(index, why),
            Event::Ready => self.well(),
            Event::Seen(stage, seen) => self.seen(stage, seen),
            Event::Surveyed(Ok(())) => self.survey = Survey::Done,
            Event::Surveyed(Err(trouble)) if self.stage == Stage::Acquiring => {
                self.blame(trouble);
                self.end(None);
            }
            Event::Surveyed(Err(_)) => self.survey = Survey::Due, // given away meanwhile
        }
    }

    /// What is due by the time alone.
    fn tick(&mut self) -> Result<(), Trouble> {
        let now = self.clock.boot();
        self.drop_who_has_gone();
        if self.kill_at.is_some_and(|at| now >= at) {
            tracing::warn!("the command does not end at SIGTERM; killing it, its successor waits");
            self.pass_on(signal_hook::consts::SIGKILL);
            self.kill_at = Some(Duration::MAX);
        }
        match self.stage {
            Stage::Acquiring => {
                self.tell_what_is_waited_for(now);
                self.acquire(now)
            }
            Stage::Up(since, well) => {
                if !well && self.command.ready_url.is_none() && now - since >= UP {
                    self.well();
                }
                self.find_unowned(now);
                self.follow_directories(now)
            }
            Stage::Watching(since) if now - since >= self.patience => {
                self.take_back("the other instance did not become well in time");
                Ok(())
            }
            Stage::Watching(_) | Stage::Retired => self.look(now),
            Stage::Stopping | Stage::Ending => Ok(()),
        }
    }

    /// Once every database is followed, all are claimed; once all are owned, the command starts.
    fn acquire(&mut self, now: Duration) -> Result<(), Trouble> {
        let (mut needed, mut absent, mut missing) = (Vec::new(), Vec::new(), false);
        for member in self.members.iter().filter(|member| !member.leaves()) {
            match (self.door.may(member.index), member.is_absent()) {
                (true, _) => needed.push(member.index),
                (false, true) => absent.push((Arc::clone(&member.store), member.database.path.clone())),
                (false, false) => missing = true,
            }
        }
        if !missing {
            return match self.survey {
                _ if absent.is_empty() => self.start(now, &needed),
                Survey::Done => self.start(now, &needed),
                Survey::UnderWay => Ok(()),
                Survey::Due => {
                    self.survey = Survey::UnderWay;
                    let (tell, clock) = (self.tell.clone(), Arc::clone(&self.clock));
                    thread("survey", move || drop(tell.send(Event::Surveyed(watch::survey(&clock, absent)))))
                }
            };
        }
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK;
        if self.members.iter().all(|member| member.node.status().role != Role::Starting) {
            let unowned = self.members.iter().filter(|member| !self.door.may(member.index));
            unowned.for_each(|member| member.node.ask_to_own());
        }
        Ok(())
    }

    fn start(&mut self, now: Duration, needed: &[usize]) -> Result<(), Trouble> {
        if !self.door.open(needed) {
            return Ok(()); // given away this moment; we hear of it next
        }
        (self.survey, self.tell_at) = (Survey::Due, None);
        let (tell, clock) = (self.tell.clone(), Arc::clone(&self.clock));
        let (words, ended) = (&self.command.words, move |end| drop(tell.send(Event::Child(end))));
        let running = Running::start(words, clock, ended).map_err(|error| {
            self.door.close();
            Trouble::new(format!("can't start the command `{}`", words.first().map_or("", |word| word)))
                .because(&error)
                .hint("check its path and that this user may run it")
        })?;
        self.descriptors.give_back(running.pid());
        self.child = Some(running);
        self.passed_on.clear();
        self.stage = Stage::Up(now, false);
        if let Some(address) = &self.command.ready_url {
            let (tell, door) = (self.tell.clone(), Arc::clone(&self.door));
            let (address, clock) = (address.clone(), Arc::clone(&self.clock));
            thread("ready", move || {
                while door.runs() {
                    if address.answers() {
                        return drop(tell.send(Event::Ready));
                    }
                    clock.sleep(LOOK / 2);
                }
            })?;
        }
        Ok(())
    }

    /// The command is well: whoever looks takes these epochs for good ones.
    fn well(&mut self) {
        let runs = self.child.as_ref().is_some_and(Running::runs);
        if let (Stage::Up(since, false), true) = (self.stage, runs) {
            self.stage = Stage::Up(since, true);
            self.members.iter().for_each(|member| member.node.confirm());
            tracing::info!("the command is up");
        }
    }

    fn stop_for_successor(&mut self) {
        match self.stage {
            Stage::Up(..) => {
                tracing::warn!("another instance takes over: stopping the command");
                self.stage = Stage::Stopping;
                self.pass_on(signal_hook::consts::SIGTERM);
            }
            // Claimed by somebody else before the command had started, or one more of the databases.
            Stage::Acquiring | Stage::Watching(_) | Stage::Retired => self.begin_watch(),
            Stage::Ending => self.terminate(),
            Stage::Stopping => {}
        }
    }

    /// A command that was told to end by another signal may take that for something else.
    fn terminate(&mut self) {
        if !self.passed_on.contains(&signal_hook::consts::SIGTERM) {
            self.pass_on(signal_hook::consts::SIGTERM);
        }
    }

    /// The command gets what time there is before the successor fences. A claim may be a look old when it is seen.
    fn kill_in_time(&mut self) {
        if self.child.is_some() {
            let grace = self.command.hand_over.saturating_sub(FOR_THE_TAIL + LOOK_EVERY);
            self.kill_at.get_or_insert(self.clock.boot() + grace);
        }
    }

    /// What the command writes to a database that is not owned gets nowhere: somebody else may have made it at the same time.
    fn find_unowned(&mut self, now: Duration) {
        let mut stray = false;
        for member in &mut self.members {
            stray |= member.is_stray(now, self.door.may(member.index));
        }
        if stray {
            self.kill_in_time();
            self.stop_for_successor();
        }
    }

    fn begin_watch(&mut self) {
        self.patience = self.command.ready_timeout + self.by_chance(self.command.ready_timeout / 4);
        self.pause = self.by_chance(2 * LOOK);
        (self.gone, self.next_look) = (None, Duration::ZERO);
        self.stage = Stage::Watching(self.clock.boot());
    }

    fn by_chance(&self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.random.next_u64() % most)
    }

    /// Has somebody look what became of the successor.
    fn look(&mut self, now: Duration) -> Result<(), Trouble> {
        if self.looking || now < self.next_look {
            return Ok(());
        }
        self.next_look = now + if self.stage == Stage::Retired { LOOK_WHEN_RETIRED } else { LOOK };
        self.looking = true;
        let databases: Vec<_> =
            self.members.iter().map(|member| (Arc::clone(&member.store), member.epoch)).collect();
        let (stage, tell) = (self.stage, self.tell.clone());
        thread("look", move || drop(tell.send(Event::Seen(stage, watch::successor(&databases)))))
    }

    fn seen(&mut self, stage: Stage, seen: Seen) {
        self.looking = false;
        if stage != self.stage {
            return; // of another successor
        }
        let now = self.clock.boot();
        match seen {
            Seen::Gone(why) if now - *self.gone.get_or_insert(now) >= self.pause => self.take_back(why),
            Seen::Gone(_) => {}
            Seen::Open => self.gone = None,
            Seen::Well => {
                self.gone = None;
                if let Stage::Watching(_) = self.stage {
                    tracing::info!("the other instance is up; this one follows, and can be stopped");
                    // Whoever has handed over more lately goes first.
                    let half = self.command.ready_timeout / 2;
                    self.pause = half + self.by_chance(half / 2);
                    self.stage = Stage::Retired;
                }
            }
        }
    }

    fn take_back(&mut self, why: &str) {
        tracing::warn!("{why}: taking the databases back and starting the command again");
        (self.next_look, self.survey, self.tell_at) = (Duration::ZERO, Survey::Due, None);
        self.stage = Stage::Acquiring;
    }

    fn signalled(&mut self, signal: i32) {
        if !signals::ends(signal) {
            // Not noted as passed on: a command that knows nothing of it, and dies of it, did not do as it was told.
            self.child.iter().for_each(|child| child.signal(signal));
            return;
        }
        match self.stage {
            // What it means is the command's to say; if it ends, all does.
            Stage::Up(..) if signals::may_be_survived(signal) => return self.pass_on(signal),
            // A terminal that goes away says so more than once, and systemd says it behind SIGTERM.
            Stage::Ending if signal == signal_hook::consts::SIGHUP => return,
            _ => {}
        }
        let word = self.signals.take(self.clock.boot());
        let name = signals::name(signal);
        match word {
            _ if self.child.is_some() || self.stage != Stage::Ending => {
                if word == Word::First {
                    tracing::info!(signal = name, "signal received, litekeep shutting down");
                }
                self.end(Some(signal));
            }
            Word::First | Word::Echo => {
                tracing::info!(signal = name, "signal received, the last sync is under way");
            }
            Word::Second => {
                tracing::warn!(signal = name, "second signal received, giving the last sync up");
                self.members.iter().for_each(|member| member.node.begin_stop(Duration::ZERO));
            }
        }
    }

    /// Passes the signal on to the command, SIGTERM if it was none; without one, the last syncs begin.
    fn end(&mut self, signal: Option<i32>) {
        let runs = matches!(self.stage, Stage::Up(..) | Stage::Stopping | Stage::Ending);
        self.stage = Stage::Ending;
        if self.child.is_some() {
            self.pass_on(signal.unwrap_or(signal_hook::consts::SIGTERM));
        } else {
            self.leave_at = self.leave_at.or((!runs).then(|| self.clock.boot() + LEAVE));
            self.stop_nodes();
        }
    }

    fn stop_nodes(&self) {
        self.members.iter().for_each(Member::begin_stop);
    }

    fn pass_on(&mut self, signal: i32) {
        self.passed_on.push(signal);
        if let Some(child) = &self.child {
            child.signal(signal);
        }
    }

    fn child_ended(&mut self, end: io::Result<()>) {
        let Some(child) = self.child.take() else { return };
        let end = end.and_then(|()| child.reap());
        self.kill_at = None;
        self.door.close();
        if self.stage == Stage::Stopping {
            tracing::info!("the command has stopped for the other instance");
            return self.begin_watch();
        }
        match end {
            Ok(status) => {
                tracing::info!(%status, "subprocess exited, litekeep shutting down");
                self.exit = Exit(child::exit_code(status, &self.passed_on));
            }
            Err(error) => self.blame(Trouble::new("can't tell how the command ended").because(&error)),
        }
        self.follow_directories(Duration::MAX).unwrap_or_else(|trouble| self.blame(trouble));
        self.stage = Stage::Ending;
        self.stop_nodes();
    }

    fn ended(&mut self, index: usize, why: Option<Arc<KeepError>>) {
        if self.has_gone(index, why.as_deref()) {
            return;
        }
        let ending = self.stage == Stage::Ending;
        let Some(member) = self.members.iter_mut().find(|member| member.index == index) else { return };
        member.ended = true;
        self.door.forget(index);
        let path = member.database.path.display();
        match why {
            None => {
                synced(&member.database, member.node.status().txid);
            }
            Some(_) if ending && member.is_gone() => {
                tracing::info!(db = %path, "replication ended, the database is gone");
            }
            Some(error) => {
                let what = if ending {
                    format!("the last changes of {path} are not in the replica")
                } else {
                    format!("replication of {path} has ended")
                };
                let event = if ending { "final sync failed" } else { "replication ended" };
                tracing::error!(db = %path, %error, "{event}");
                self.blame(keep_trouble(&what, &error));
                self.kill_in_time();
            }
        }
        // A command never goes on without its backup.
        if !ending {
            self.end(None);
        } else if self.kill_at.is_some() {
            self.terminate();
        }
    }

    /// Keeps the first thing that went wrong; it is what the process ends with.
    fn blame(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
    }
}
