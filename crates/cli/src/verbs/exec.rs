//! `litekeep replicate -exec`: a command that runs only while its databases are owned, and hands over to a newer instance.
//!
//! The newcomer follows first and claims then. The older instance stops its command, brings the tail up, closes, and keeps
//! looking: until the newcomer says that its command is well. If it gives up, or says nothing for a minute, the older one
//! takes the databases back and starts its command again, so that a bad release is no outage.
//!
//! One thread waits for events and decides; nodes, signals, the command and the probe only tell it what happened.

use super::replicate::{keep_trouble, replicating_to, thread};
use super::{open, ready};
use crate::child::{self, Running};
use crate::config::Database;
use crate::signals;
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::error::KeepError;
use litekeep::files::RealFiles;
use litekeep::jobs::Threads;
use litekeep::node::{self, Application, Left, Node, NodeSettings, Role, Successor};
use litekeep::replicator::{Env, Health};
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::env::Clock;
use litekeep_core::limits;
use litekeep_core::ownership::Times;
use litekeep_formats::Epoch;
use litekeep_store::Store;
use std::io;
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How old a claim must be before another: a command starts and stops in seconds, not in milliseconds. Half of what a
/// successor gets to become well, where that is less.
const TENURE: Duration = Duration::from_secs(30);
/// A command needs some time to end, and the tail some to go up.
pub(super) const LEAST_HAND_OVER: Duration = Duration::from_secs(3);
/// What of that is left for the tail once the command has been killed.
const FOR_THE_TAIL: Duration = Duration::from_secs(2);
/// A successor without an address to ask needs [`UP`] alone, and the start of a program.
pub(super) const LEAST_READY: Duration = Duration::from_secs(10);
/// How long a command must have stayed up to count as well, without an address to ask.
const UP: Duration = Duration::from_secs(5);
/// How often a successor, and the time, are looked at.
const LOOK: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
/// How often an idle owner looks for a claim, and a standby for the next transaction.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the deciding thread hears.
enum Event {
    Signal(i32),
    Child(io::Result<ExitStatus>),
    /// A node may be written to.
    Owned(usize, Option<Epoch>),
    /// A node has a successor: the command must have stopped before it goes on.
    Leaving(usize),
    Left(usize, Left),
    Ended(usize, Option<Arc<KeepError>>),
    Ready,
}

/// Whether the command runs, for the nodes that wait for its end.
#[derive(Default)]
struct Door {
    runs: Mutex<bool>,
    closed: Condvar,
}

impl Door {
    fn runs(&self) -> MutexGuard<'_, bool> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, runs: bool) {
        *self.runs() = runs;
        self.closed.notify_all();
    }
}

/// A node's application: the command, by way of the deciding thread.
struct Doorkeeper {
    index: usize,
    tell: Sender<Event>,
    door: Arc<Door>,
}

impl Doorkeeper {
    fn tell(&self, event: Event) {
        let _ = self.tell.send(event); // nobody listens any more: the process ends
    }
}

impl Application for Doorkeeper {
    fn role(&self, _role: Role) {}

    fn start_writing(&self, epoch: Option<Epoch>) -> Result<(), String> {
        self.tell(Event::Owned(self.index, epoch));
        Ok(())
    }

    fn stop_writing(&self) {
        self.tell(Event::Leaving(self.index));
        let runs = |runs: &mut bool| *runs;
        drop(self.door.closed.wait_while(self.door.runs(), runs).unwrap_or_else(PoisonError::into_inner));
    }

    fn left(&self, how: Left) {
        self.tell(Event::Left(self.index, how));
    }
}

/// One database.
struct Member {
    node: Node,
    store: Arc<dyn Store>,
    database: Database,
    /// It may be written to.
    owned: bool,
    /// The last epoch that was owned.
    epoch: Option<Epoch>,
    ended: bool,
}

/// What the command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The databases are followed, then claimed.
    Acquiring,
    /// It runs, since then; whether it is known to be well.
    Up(Duration, bool),
    /// It was told to stop for a successor, then; whether it was killed since.
    Stopping(Duration, bool),
    /// It has stopped for a successor, then; nobody knows yet whether that one is well.
    Watching(Duration),
    /// The successor is well.
    Retired,
    /// All ends.
    Ending,
}

/// What the flags say of the command.
pub(super) struct Command {
    pub(super) words: Vec<String>,
    pub(super) ready_url: Option<ready::Address>,
    pub(super) hand_over: Duration,
    /// How long a successor may take until it says that its command is well.
    pub(super) ready_timeout: Duration,
    pub(super) single_writer: bool,
}

struct House {
    clock: Arc<dyn Clock>,
    members: Vec<Member>,
    command: Command,
    child: Option<Running>,
    door: Arc<Door>,
    stage: Stage,
    tell: Sender<Event>,
    told: Receiver<Event>,
    passed_on: Vec<i32>,
    signals: u32,
    next_look: Duration,
    exit: Exit,
    trouble: Option<Trouble>,
}

/// Runs a command over its databases until it, or a signal, or trouble ends it.
pub(super) fn run(world: &World, databases: Vec<Database>, command: Command) -> Result<Exit, Trouble> {
    let (tell, told) = mpsc::channel();
    let signal = tell.clone();
    signals::listen(move |number| drop(signal.send(Event::Signal(number))))
        .map_err(|error| Trouble::new("can't listen for signals").because(&error))?;
    let mut house = House {
        clock: Arc::clone(&world.clock),
        members: Vec::new(),
        command,
        child: None,
        door: Arc::default(),
        stage: Stage::Acquiring,
        tell,
        told,
        passed_on: Vec::new(),
        signals: 0,
        next_look: Duration::ZERO,
        exit: Exit::OK,
        trouble: None,
    };
    let begun = databases.into_iter().try_for_each(|database| house.keep(world, database));
    if let Err(trouble) = begun {
        house.blame(trouble);
        house.end(None);
    }
    house.live()
}

impl House {
    fn keep(&mut self, world: &World, database: Database) -> Result<(), Trouble> {
        let store = open(world, &database.replica)?;
        let env = Env {
            clock: Arc::clone(&world.clock),
            random: Arc::clone(&world.random),
            files: Arc::new(RealFiles),
            vfs: None,
            store: Arc::clone(&store),
            spawner: Arc::new(Threads),
            decisions: Decisions::RIGHT,
        };
        let tenure = TENURE.min(self.command.ready_timeout / 2);
        let settings = NodeSettings {
            replication: Settings { open_when_confirmed: true, ..database.settings.clone() },
            times: Times { tenure, hand_over: self.command.hand_over, horizon: limits::REUSE_HORIZON },
            look_every: LOOK_EVERY,
            // The command makes it, then.
            fresh: !database.path.exists(),
            single_writer: self.command.single_writer,
            ..NodeSettings::default()
        };
        let index = self.members.len();
        let keeper = Doorkeeper { index, tell: self.tell.clone(), door: Arc::clone(&self.door) };
        let node = Node::start(env, settings, &database.path, Arc::new(keeper))
            .map_err(|error| keep_trouble(&format!("can't replicate {}", database.path.display()), &error))?;
        replicating_to(&database);
        let (ended, tell) = (node.when_ended(), self.tell.clone());
        self.members.push(Member { node, store, database, owned: false, epoch: None, ended: false });
        thread("ended", move || drop(tell.send(Event::Ended(index, ended()))))
    }

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
            if self.stage == Stage::Ending && self.child.is_none() && self.members.iter().all(|it| it.ended) {
                break;
            }
        }
        tracing::info!("litekeep shut down");
        match self.trouble {
            // The command's own code says more to whoever started it, and it is not 0 either.
            Some(trouble) if self.exit != Exit::OK => Err(trouble.exit(self.exit)),
            Some(trouble) => Err(trouble),
            None => Ok(self.exit),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Signal(signal) => self.signalled(signal),
            Event::Child(end) => self.child_ended(end),
            Event::Owned(index, epoch) => {
                let member = &mut self.members[index];
                member.owned = true;
                member.epoch = epoch.or(member.epoch);
            }
            Event::Leaving(index) => {
                self.members[index].owned = false;
                self.stop_for_successor();
            }
            Event::Left(index, how) => {
                let path = self.members[index].database.path.display();
                match how {
                    Left::Closed(_) => tracing::info!(db = %path, "handed over"),
                    Left::Lost => {
                        tracing::warn!(db = %path, "lost to another instance before the last changes were up")
                    }
                }
            }
            Event::Ended(index, why) => self.ended(index, why),
            Event::Ready => self.well(),
        }
    }

    /// What is due by the time alone.
    fn tick(&mut self) -> Result<(), Trouble> {
        let now = self.clock.boot();
        match self.stage {
            Stage::Acquiring => self.acquire(now),
            Stage::Up(since, false) if self.command.ready_url.is_none() && now - since >= UP => {
                self.well();
                Ok(())
            }
            Stage::Stopping(since, false) => {
                if now - since >= self.command.hand_over.saturating_sub(FOR_THE_TAIL) {
                    tracing::warn!("the command does not end at SIGTERM; killing it, its successor waits");
                    self.pass_on(signal_hook::consts::SIGKILL);
                    self.stage = Stage::Stopping(since, true);
                }
                Ok(())
            }
            Stage::Watching(since) => {
                self.watch(since, now);
                Ok(())
            }
            Stage::Up(..) | Stage::Stopping(..) | Stage::Retired | Stage::Ending => Ok(()),
        }
    }

    /// Once every database is followed, all are claimed; once all are owned, the command starts.
    fn acquire(&mut self, now: Duration) -> Result<(), Trouble> {
        // A database that is not there yet is for the command to make.
        let absent = |member: &Member| {
            member.node.status().replication.is_some_and(|status| status.health == Health::Waiting)
        };
        if self.members.iter().all(|member| member.owned || absent(member)) {
            return self.start(now);
        }
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK;
        if self.members.iter().all(|member| member.node.status().role != Role::Starting) {
            self.members.iter().filter(|member| !member.owned).for_each(|member| member.node.ask_to_own());
        }
        Ok(())
    }

    fn start(&mut self, now: Duration) -> Result<(), Trouble> {
        let tell = self.tell.clone();
        self.door.set(true);
        let words = &self.command.words;
        let running =
            Running::start(words, move |end| drop(tell.send(Event::Child(end)))).map_err(|error| {
                self.door.set(false);
                Trouble::new(format!("can't start the command `{}`", words.join(" "))).because(&error)
            })?;
        self.child = Some(running);
        self.passed_on.clear();
        self.stage = Stage::Up(now, false);
        if let Some(address) = &self.command.ready_url {
            let (tell, door) = (self.tell.clone(), Arc::clone(&self.door));
            let (address, clock) = (address.clone(), Arc::clone(&self.clock));
            thread("ready", move || {
                while *door.runs() {
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
        if let Stage::Up(since, false) = self.stage {
            self.stage = Stage::Up(since, true);
            self.members.iter().for_each(|member| member.node.confirm());
            tracing::info!("the command is up");
        }
    }

    fn stop_for_successor(&mut self) {
        match self.stage {
            Stage::Up(..) => {
                tracing::warn!("another instance takes over: stopping the command");
                self.stage = Stage::Stopping(self.clock.boot(), false);
                self.pass_on(signal_hook::consts::SIGTERM);
            }
            // Claimed by somebody else before the command had started.
            Stage::Acquiring => self.stage = Stage::Watching(self.clock.boot()),
            Stage::Stopping(..) | Stage::Watching(_) | Stage::Retired | Stage::Ending => {}
        }
    }

    /// Looks what became of the successor.
    fn watch(&mut self, since: Duration, now: Duration) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        let mut well = true;
        for member in &self.members {
            let Some(epoch) = member.epoch else { continue };
            match node::successor(&*member.store, epoch) {
                Ok(Successor::Opened) => {}
                Ok(Successor::GaveUp) => return self.take_back("the other instance gave up"),
                Ok(Successor::Claimed | Successor::Nobody) => well = false,
                Err(error) => {
                    tracing::warn!(%error, "cannot see whether the other instance is well");
                    well = false;
                }
            }
        }
        if well {
            tracing::info!("the other instance is up; this one follows, and can be stopped");
            self.stage = Stage::Retired;
        } else if now - since >= self.command.ready_timeout {
            self.take_back("the other instance did not become well in time");
        }
    }

    fn take_back(&mut self, why: &str) {
        tracing::warn!("{why}: taking the databases back and starting the command again");
        self.next_look = Duration::ZERO;
        self.stage = Stage::Acquiring;
    }

    fn signalled(&mut self, signal: i32) {
        self.signals += 1;
        let name = signals::name(signal);
        match (self.stage == Stage::Ending, self.child.is_some()) {
            (_, true) => {
                if self.signals == 1 {
                    tracing::info!(signal = name, "signal received, litekeep shutting down");
                }
                self.end(Some(signal));
            }
            (false, false) => {
                tracing::info!(signal = name, "signal received, litekeep shutting down");
                self.end(None);
            }
            (true, false) if self.signals == 1 => {
                tracing::info!(signal = name, "signal received, the last sync is under way");
            }
            (true, false) => {
                tracing::warn!(signal = name, "second signal received, giving the last sync up");
                self.members.iter().for_each(|member| member.node.begin_stop(Duration::ZERO));
            }
        }
    }

    /// Passes the signal on to the command, SIGTERM if it was none; without one, the last syncs begin.
    fn end(&mut self, signal: Option<i32>) {
        self.stage = Stage::Ending;
        if self.child.is_some() {
            self.pass_on(signal.unwrap_or(signal_hook::consts::SIGTERM));
        } else {
            self.stop_nodes();
        }
    }

    fn stop_nodes(&self) {
        for member in &self.members {
            let limit = member.database.shutdown_timeout;
            member.node.begin_stop(if limit.is_zero() { super::replicate::ONE_TRY } else { limit });
        }
    }

    fn pass_on(&mut self, signal: i32) {
        self.passed_on.push(signal);
        if let Some(child) = &self.child {
            child.signal(signal);
        }
    }

    fn child_ended(&mut self, end: io::Result<ExitStatus>) {
        self.child = None;
        self.door.set(false);
        if let Stage::Stopping(..) = self.stage {
            tracing::info!("the command has stopped for the other instance");
            self.next_look = Duration::ZERO;
            self.stage = Stage::Watching(self.clock.boot());
            return;
        }
        match end {
            Ok(status) => {
                tracing::info!(%status, "the command has ended, litekeep shutting down");
                self.exit = Exit(child::exit_code(status, &self.passed_on));
            }
            Err(error) => self.blame(Trouble::new("can't tell how the command ended").because(&error)),
        }
        self.stage = Stage::Ending;
        self.stop_nodes();
    }

    fn ended(&mut self, index: usize, why: Option<Arc<KeepError>>) {
        let ending = self.stage == Stage::Ending;
        let member = &mut self.members[index];
        (member.ended, member.owned) = (true, false);
        let path = member.database.path.display();
        match why {
            None => {
                let txid = member.node.status().txid.map_or_else(String::new, |txid| txid.to_string());
                tracing::info!(db = %path, %txid, "replica sync complete");
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
            }
        }
        if !ending {
            // A command never goes on without its backup.
            self.end(None);
        }
    }

    /// Keeps the first thing that went wrong; it is what the process ends with.
    fn blame(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
    }
}
