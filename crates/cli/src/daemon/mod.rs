//! The daemon: the set of databases, and those who look after it while it runs.
//!
//! One thread waits for events and decides when the run is over; keepers, signals, the control socket, the pages that are
//! served and the watch over directories have threads of their own, and change the [`Fleet`] or only read it. Whatever ends
//! the run, the last sync of every database is made, and what it could not bring up decides the exit code.

mod book;
pub(crate) mod control;
pub(crate) mod fleet;
pub(crate) mod folder;
pub(crate) mod guest;
mod health;
mod heartbeat;
mod http;
mod member;
mod memory;
mod meter;
mod metrics;
pub(crate) mod names;
mod once;
mod page;
mod phase;
mod readback;
mod served;
pub(crate) mod verdict;
pub(crate) mod verifier;

use crate::config::{Config, Socket};
use crate::signals::{self, Abrupt, Heard, Word};
use crate::trouble::{Exit, Trouble};
use crate::verbs::replicate::{keep_trouble, synced, thread};
use crate::world::World;
use control::{Bound, Control};
use fleet::{Ended, Fleet, Refused};
use folder::{Dismissed, Folder};
use names::Names;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use verifier::Verifier;

/// What the deciding thread hears.
enum Event {
    Signal(i32),
    Ended(Ended),
    Synced(Result<(), Trouble>),
}

/// A run, after its start.
struct Run {
    fleet: Arc<Fleet>,
    tell: Sender<Event>,
    told: Receiver<Event>,
    /// Which signals came.
    signals: Heard,
    /// How many ends were told.
    ends: usize,
    /// Databases may come by themselves.
    watches: bool,
    /// What kept the run from going on.
    trouble: Option<Trouble>,
    /// Databases whose last end was an error, in the order of these ends.
    failed: Vec<(PathBuf, Trouble)>,
}

/// What is done once all is in the replicas, where nothing is replicated on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Once {
    /// A snapshot of each.
    pub(crate) snapshot: bool,
    /// Chores that are due, and retention.
    pub(crate) retention: bool,
}

/// Replicates until a signal, or until every database has failed; with `once`, until all is in the replicas, and what it says
/// is done. What ended litekeep at once until now is heard in order from here on.
pub(crate) fn run(
    world: &World,
    mut config: Config,
    once: Option<Once>,
    abrupt: Abrupt,
) -> Result<Exit, Trouble> {
    let (tell, told) = mpsc::channel();
    let signal = tell.clone();
    signals::listen(move |number| drop(signal.send(Event::Signal(number))))
        .map_err(|error| Trouble::new("can't listen for signals").because(&error))?;
    drop(abrupt);
    let ended = tell.clone();
    let fleet = Fleet::new(Arc::new(world.clone()), move |it| drop(ended.send(Event::Ended(it))));
    let mut run = Run {
        fleet,
        tell,
        told,
        signals: Heard::default(),
        ends: 0,
        watches: false,
        trouble: None,
        failed: Vec::new(),
    };
    let directories = config.directories.iter_mut().map(|directory| &mut directory.template);
    for database in config.databases.iter_mut().chain(directories) {
        // One bucket that refuses must not end the others, nor itself: it may let in again. `-once` has somebody waiting.
        database.settings.outlast_refusal = once.is_none();
    }
    // Before there is any keeper: the socket's mode may be set by way of the process.
    let socket = if once.is_none() { bind(&config) } else { None };
    match (run.take_up(&mut config), once) {
        (Ok(_), Some(once)) => run.sync_once(once),
        (Ok(folders), None) => {
            run.watches = folders.folders.iter().any(Folder::is_watched);
            // The socket goes before the last sync: whoever asks from now on hears that nobody listens.
            let _attended = attend(&config, folders, socket, &run.fleet);
            run.wait();
        }
        (Err(trouble), _) => run.blame(trouble),
    }
    run.close()
}

/// The directories, and what was taken off the list by hand.
struct Folders {
    folders: Vec<Folder>,
    dismissed: Dismissed,
}

/// Starts all who look after the databases. Backups go on without them, as in Litestream.
fn attend(
    config: &Config,
    folders: Folders,
    socket: Option<Bound>,
    fleet: &Arc<Fleet>,
) -> (Option<Bound>, Option<Verifier>) {
    let verifier = show(config, fleet, folders.folders.iter().any(Folder::is_verified));
    told(memory::start(fleet));
    for folder in folders.folders.into_iter().filter(Folder::is_unsettled) {
        told(folder.watch(fleet));
    }
    (socket.map(|bound| serve_control(bound, fleet, folders.dismissed)), verifier)
}

/// Serves metrics and health, sends heartbeats, and verifies replicas, where that is asked for: `coming` databases may ask for
/// it as well. What comes back is held for as long as replicas are to be verified.
fn show(config: &Config, fleet: &Arc<Fleet>, coming: bool) -> Option<Verifier> {
    if let Some(addr) = &config.addr
        && let Err(error) = served::start(addr, fleet)
    {
        tracing::error!(addr, %error, "can't serve metrics, going on without");
    }
    look_after(config, fleet, coming)
}

/// All of that but what is served.
fn look_after(config: &Config, fleet: &Arc<Fleet>, coming: bool) -> Option<Verifier> {
    let verified = coming || fleet.members().iter().any(|member| member.database.validation.is_some());
    let verifier = verified.then(|| told(verifier::start(fleet))).flatten();
    if config.addr.is_some() || config.heartbeat.is_some() {
        told(readback::start(fleet));
    }
    if let Some(heartbeat) = &config.heartbeat {
        told(heartbeat::start(heartbeat.clone(), fleet));
    }
    verifier
}

fn told<T>(result: Result<T, Trouble>) -> Option<T> {
    result.inspect_err(|trouble| tracing::error!("{trouble}")).ok()
}

/// What attends to a command's databases; the socket goes with it.
pub(crate) struct Beside {
    place: Arc<Mutex<Place>>,
    _verifier: Option<Verifier>,
}

/// A command's socket, and whether it is not wanted any more.
#[derive(Default)]
struct Place {
    bound: Option<Bound>,
    closed: bool,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        (place.bound, place.closed) = (None, true);
    }
}

/// Looks after the databases of a command, and serves what is asked for beside it. The instance before may be on this host
/// and still have the socket and the address: both are tried again until they can be had.
pub(crate) fn beside(config: &Config, fleet: &Arc<Fleet>) -> Beside {
    fleet.close("the databases of a command (-exec) are given at its start");
    let coming = config.directories.iter().any(|directory| directory.template.validation.is_some());
    let verifier = look_after(config, fleet, coming);
    let place = Arc::<Mutex<Place>>::default();
    let mut due = Due {
        addr: config.addr.clone(),
        socket: config.socket.enabled.then(|| config.socket.clone()),
        fleet: Arc::clone(fleet),
        place: Arc::clone(&place),
    };
    if !due.try_again(true) {
        told(thread("serve", move || {
            while !due.try_again(false) {
                due.fleet.clock().sleep(Duration::from_secs(1));
            }
        }));
    }
    Beside { place, _verifier: verifier }
}

/// What is to be served and could not be so far.
struct Due {
    addr: Option<String>,
    socket: Option<Socket>,
    fleet: Arc<Fleet>,
    place: Arc<Mutex<Place>>,
}

impl Due {
    /// Whether there is nothing left to try.
    fn try_again(&mut self, tell: bool) -> bool {
        if let Some(addr) = &self.addr {
            match served::start(addr, &self.fleet) {
                Ok(()) => self.addr = None,
                Err(error) if tell => tracing::error!(addr, %error, "can't serve metrics yet, trying again"),
                Err(_) => {}
            }
        }
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.closed {
            return true;
        }
        if let Some(socket) = &self.socket {
            let path = socket.path.display();
            match Bound::bind(socket) {
                Ok(bound) => {
                    place.bound = Some(serve_control(bound, &self.fleet, Dismissed::default()));
                    self.socket = None;
                }
                Err(error) if tell => {
                    tracing::error!(%path, %error, "can't bind the control socket yet, trying again");
                }
                Err(_) => {}
            }
        }
        self.addr.is_none() && self.socket.is_none()
    }
}

/// The control socket, if one is asked for. Backups go on without it, as in Litestream.
fn bind(config: &Config) -> Option<Bound> {
    if !config.socket.enabled {
        return None;
    }
    let path = config.socket.path.display();
    let failed = |error: &std::io::Error| {
        tracing::error!(%path, %error, "can't bind the control socket, going on without");
    };
    Bound::bind(&config.socket).inspect_err(failed).ok()
}

fn serve_control(mut bound: Bound, fleet: &Arc<Fleet>, dismissed: Dismissed) -> Bound {
    if let Err(error) = bound.serve(Control::new(fleet, dismissed)) {
        tracing::error!(%error, "can't serve the control socket, going on without");
    }
    bound
}

impl Run {
    /// Begins to replicate everything that the configuration names.
    fn take_up(&self, config: &mut Config) -> Result<Folders, Trouble> {
        let (names, dismissed) = (Names::of(config), Dismissed::of(config));
        std::mem::take(&mut config.databases).into_iter().try_for_each(|database| self.keep(database))?;
        let mut folders = Vec::new();
        for directory in std::mem::take(&mut config.directories) {
            let mut folder = Folder::new(directory, &names, &dismissed)?;
            folder.begin(&self.fleet)?;
            folders.push(folder);
        }
        Ok(Folders { folders, dismissed })
    }

    /// Begins to replicate a database.
    fn keep(&self, database: crate::config::Database) -> Result<(), Trouble> {
        let path = database.path.display().to_string();
        match self.fleet.add(database) {
            Ok(_) => Ok(()),
            Err(Refused::Failed(trouble)) => Err(trouble),
            Err(Refused::Differs(why)) => Err(Trouble::new(format!("can't replicate {path}")).cause(why)),
            Err(Refused::Unknown(_) | Refused::NotOpen | Refused::Unheard) => {
                Err(Trouble::new(format!("can't replicate {path}")))
            }
        }
    }

    /// Takes in that a signal came.
    fn heard(&mut self) -> Word {
        self.signals.take(self.fleet.clock().boot())
    }

    /// Waits for the reason to end: a signal, or trouble with every database.
    fn wait(&mut self) {
        while let Ok(event) = self.told.recv() {
            match event {
                Event::Signal(signal) => {
                    self.heard();
                    let signal = signals::name(signal);
                    tracing::info!(signal, "signal received, litekeep shutting down");
                    return;
                }
                Event::Ended(ended) => {
                    let asked = ended.asked;
                    self.ended(&ended);
                    if ended.leaves && ended.why.is_none() && self.fleet.take_off(&ended.member) {
                        tracing::info!(db = %ended.member.database.path.display(), "unregistered");
                    }
                    if !asked && !self.watches && self.all_failed() {
                        return;
                    }
                }
                Event::Synced(..) => {}
            }
        }
    }

    /// There are databases, none is replicated, and nobody wanted that.
    fn all_failed(&self) -> bool {
        let members = self.fleet.members();
        let failed = |path: &PathBuf| self.failed.iter().any(|(failed, _)| failed == path);
        !members.is_empty() && members.iter().all(|it| it.keeper().is_none() && failed(&it.database.path))
    }

    fn ended(&mut self, ended: &Ended) {
        self.ends += 1;
        let member = &ended.member;
        let path = member.database.path.display();
        self.failed.retain(|(failed, _)| *failed != member.database.path);
        if member.is_gone() || !self.fleet.has(member) {
            tracing::info!(db = %path, "replication ended, the database is gone");
            return;
        }
        let Some(error) = &ended.why else {
            let durable = member.view(&**self.fleet.clock()).status.durable;
            synced(&member.database, durable);
            return;
        };
        let (what, event) = if ended.asked {
            (format!("the last changes of {path} are not in the replica"), "final sync failed")
        } else {
            (format!("replication of {path} has ended"), "replication ended")
        };
        tracing::error!(db = %path, %error, "{event}");
        self.failed.push((member.database.path.clone(), keep_trouble(&what, error)));
    }

    /// Keeps the first thing that went wrong; it is what the process ends with.
    fn blame(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
    }

    /// The last sync of every database, each within its time; a second signal, not the echo of the first, ends the waiting.
    fn close(mut self) -> Result<Exit, Trouble> {
        self.fleet.close("litekeep is shutting down");
        let members = self.fleet.members();
        members.iter().for_each(|member| member.begin_stop(member.last_sync()));
        while self.ends < self.fleet.launches() {
            let Ok(event) = self.told.recv() else { break };
            match event {
                Event::Signal(signal) => {
                    let word = self.heard();
                    let signal = signals::name(signal);
                    if word == Word::Second {
                        tracing::warn!(signal, "second signal received, giving the last sync up");
                        members.iter().for_each(|member| member.begin_stop(Duration::ZERO));
                    } else {
                        tracing::info!(signal, "signal received, the last sync is under way");
                    }
                }
                Event::Ended(ended) => self.ended(&ended),
                Event::Synced(..) => {}
            }
        }
        tracing::info!("litekeep shut down");
        let known = |path: &PathBuf| self.fleet.find(path).is_ok();
        let failed = self.failed.into_iter().find(|(path, _)| known(path)).map(|(_, trouble)| trouble);
        self.trouble.or(failed).map_or(Ok(Exit::OK), Err)
    }
}
