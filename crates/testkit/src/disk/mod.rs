//! A disk in memory that can lose power, and the processes that use it.
//!
//! [`Disk`] keeps what is durable apart from what is only written. [`Disk::power_loss`] gives the disk that a machine
//! finds after the power came back: unsynced writes have vanished, survived, changed their order or torn at sectors,
//! and unsynced creates, renames and unlinks have happened or not. Everything follows from a seed, and every call is
//! counted, so that a crash can be placed at each of them in turn ([`Disk::crash_at`]).
//!
//! A [`Process`] is one program on that machine: it has its own open files, SQLite connections (through a VFS of its
//! own, see [`vfs`]) and locks, and can be killed without loss of what it wrote.
//!
//! It never touches the real file system, and knows nothing about SQLite's formats.

mod content;
mod fault;
mod files;
mod locks;
mod names;
mod state;
pub mod vfs;

#[cfg(test)]
mod tests;

pub use content::SECTOR;
pub use fault::{Call, Fault, Trap};

use crate::clock::SimClock;
use crate::random::SeededRandom;
use state::State;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of a file or directory; never used twice on one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ino(u64);

/// Number of a process on one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(u64);

/// A machine's disk; clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    clock: SimClock,
    interruption: Arc<Mutex<Option<(Pid, Interruption)>>>,
}

/// What happens at a process's calls while it waits for them: other processes' work.
pub type Interruption = Box<dyn FnMut() + Send>;

/// One program that uses a disk; clones are the same program. Implements [`litekeep::files::Files`].
#[derive(Clone)]
pub struct Process {
    disk: Disk,
    pid: Pid,
}

impl Disk {
    /// An empty disk.
    pub fn new(clock: SimClock, seed: u64) -> Self {
        Self::from_state(State::new(seed), clock)
    }

    fn from_state(state: State, clock: SimClock) -> Self {
        Self { state: Arc::new(Mutex::new(state)), clock, interruption: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's clock.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Starts a program.
    pub fn process(&self) -> Process {
        Process { disk: self.clone(), pid: self.state().start_process() }
    }

    /// Cuts the power now: every call of every process fails from here on.
    pub fn cut_power(&self) {
        self.state().power_off();
    }

    /// Whether the power is gone, by [`Disk::cut_power`] or by a trap.
    pub fn is_dead(&self) -> bool {
        !self.state().powered()
    }

    /// Cuts the power and returns the disk as it is found afterwards. The old one stays dead.
    #[must_use]
    pub fn power_loss(&self, seed: u64) -> Self {
        let mut state = self.state();
        state.power_off();
        Self::from_state(state.after_power_loss(&SeededRandom::new(seed)), self.clock.clone())
    }

    /// What was written to a file is durable, and so are the names beside it, as some time after its writer was killed.
    pub fn flush(&self, path: impl AsRef<Path>) {
        self.state().flush(path.as_ref());
    }

    /// Everything written so far is durable, as after a clean unmount.
    pub fn sync_all(&self) {
        self.state().sync_all();
    }

    /// Lets the power go, or a process die, at a later call.
    pub fn crash_at(&self, trap: Trap) {
        self.state().faults.set_trap(trap);
    }

    /// Plans a failure of later calls.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.inject(fault);
    }

    /// Forgets every planned crash and failure that has not happened.
    pub fn heal(&self) {
        self.state().faults.heal();
    }

    /// How many calls failed because that was planned, or for want of room.
    pub fn failures(&self) -> u64 {
        self.state().faults.all_failures()
    }

    /// Limits what all files together may hold, bytes; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes that all files hold together.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// How many calls changed or synced something, by every process.
    pub fn calls(&self) -> u64 {
        self.state().faults.calls()
    }

    /// A digest of every changing call so far, with its bytes: equal histories have equal digests.
    pub fn history(&self) -> u64 {
        self.state().history.digest()
    }

    /// The last calls, for a person who looks for a difference.
    pub fn last_calls(&self) -> Vec<String> {
        self.state().history.last()
    }

    /// Things a process did that POSIX punishes in silence; empty for a program that behaves.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// What a file holds now; `None` if nothing is there. For the judge: it neither counts nor fails.
    pub fn peek(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.state().peek(path.as_ref())
    }

    /// Every file's path and length, ascending. For the judge.
    pub fn tree(&self) -> Vec<(String, u64)> {
        self.state().tree()
    }

    /// Puts a durable file on the disk, with its directories. For preparing a scene: it neither counts nor fails.
    ///
    /// # Errors
    /// Where a file stands in a directory's place.
    pub fn place(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.state().place(path.as_ref(), bytes)
    }
}

impl Process {
    /// The machine's disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How many of its calls failed because that was planned, or for want of room.
    pub fn failures(&self) -> u64 {
        self.disk.state().faults.failures(self.pid)
    }

    /// How often it asked for this file to be durable.
    pub fn syncs(&self, path: &str) -> u64 {
        self.disk.state().faults.syncs(self.pid, path)
    }

    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        self.disk.state().alive(self.pid)
    }

    /// Runs `interruption` before each of this process's calls, as a scheduler might run other processes there.
    /// There is one for each disk; it must not use this process.
    pub fn interrupt(&self, interruption: Interruption) {
        *self.disk.interruption.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((self.pid, interruption));
    }

    /// Lets other processes work now, if that is planned for this one.
    fn give_way(&self) {
        let slot = || self.disk.interruption.lock().unwrap_or_else(PoisonError::into_inner);
        // What a dead process's code still tries must not be seen, so nobody may work meanwhile.
        if slot().as_ref().is_none_or(|(pid, _)| *pid != self.pid) || !self.alive() {
            return;
        }
        // Taken out meanwhile: what it does makes calls as well.
        let Some((pid, mut interruption)) = slot().take() else { return };
        interruption();
        slot().get_or_insert((pid, interruption));
    }

    /// Kills it as `SIGKILL` does: its locks are gone, its writes stay. Drop its connections afterwards; whatever
    /// SQLite then tries has no effect.
    pub fn kill(&self) {
        self.disk.state().kill(self.pid);
    }
}

/// What a dead process is told, if it could listen.
fn gone() -> io::Error {
    io::Error::other("the process or its machine is dead")
}
