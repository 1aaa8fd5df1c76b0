//! Planned trouble: the call at which the power goes, and calls that fail.

use super::Pid;
use std::collections::BTreeMap;
use std::io;

/// A kind of call to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Bytes or properties are read; never counted.
    Read,
    /// A lock is taken, given back or asked for; never counted, and no plan makes it fail: on a local disk none does.
    Lock,
    /// Bytes are written.
    Write,
    /// The length is set.
    Truncate,
    /// A file is made durable.
    Sync,
    /// A file or directory is made.
    Create,
    /// A name changes.
    Rename,
    /// A name is removed.
    Remove,
    /// A directory's names are made durable.
    SyncDir,
    /// SQLite orders its accesses to shared memory: a moment to die between two halves of an index header.
    Barrier,
}

/// Where a crash happens: at the `call`-th changing call from now, 0 being the next one. The call itself fails, and
/// what it would have written is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// The power goes; every process is dead.
    PowerAt {
        /// Changing calls of all processes until then.
        call: u64,
    },
    /// One process is killed.
    KillAt {
        /// Which.
        pid: Pid,
        /// Its own changing calls until then.
        call: u64,
    },
}

/// Calls that will fail.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which calls.
    pub call: Call,
    /// Only of files whose path contains this.
    pub path: String,
    /// How many of them succeed first.
    pub skip: u64,
    /// How many then fail.
    pub times: u64,
    /// As what: `StorageFull` for ENOSPC, `Other` for EIO; `UnexpectedEof` for a read that gives fewer bytes than
    /// there are.
    pub error: io::ErrorKind,
}

/// Who dies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dead {
    Machine,
    Process(Pid),
}

/// Why a call does not happen.
pub(super) enum Stop {
    Error(io::ErrorKind),
    Dies(Dead),
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    trap: Option<Trap>,
    planned: Vec<Fault>,
    calls: u64,
    /// How many calls of each process failed as planned.
    failures: BTreeMap<Pid, u64>,
    /// How often each process asked for a file to be durable.
    syncs: BTreeMap<(Pid, String), u64>,
}

impl Faults {
    pub(super) fn set_trap(&mut self, trap: Trap) {
        self.trap = Some(trap);
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn heal(&mut self) {
        self.trap = None;
        self.planned.clear();
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn failures(&self, pid: Pid) -> u64 {
        self.failures.get(&pid).copied().unwrap_or(0)
    }

    pub(super) fn all_failures(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(super) fn syncs(&self, pid: Pid, path: &str) -> u64 {
        self.syncs.get(&(pid, path.to_owned())).copied().unwrap_or(0)
    }

    pub(super) fn note_failure(&mut self, pid: Pid) {
        *self.failures.entry(pid).or_default() += 1;
    }

    /// Counts a call and says whether it may happen.
    pub(super) fn enter(&mut self, call: Call, pid: Pid, path: &str) -> Result<(), Stop> {
        if !matches!(call, Call::Read | Call::Lock | Call::Barrier) {
            self.calls += 1;
        }
        if call == Call::Sync {
            *self.syncs.entry((pid, path.to_owned())).or_default() += 1;
        }
        if !matches!(call, Call::Read | Call::Lock)
            && let Some(dead) = self.spring(call, pid)
        {
            return Err(Stop::Dies(dead));
        }
        let Some(kind) = self.fail(call, path) else { return Ok(()) };
        self.note_failure(pid);
        Err(Stop::Error(kind))
    }

    fn spring(&mut self, call: Call, pid: Pid) -> Option<Dead> {
        let (left, dead) = match self.trap.as_mut()? {
            // Barriers exist for the death of a process only; to the disk they are nothing.
            Trap::PowerAt { .. } if call == Call::Barrier => return None,
            Trap::PowerAt { call } => (call, Dead::Machine),
            Trap::KillAt { pid: of, .. } if *of != pid => return None,
            Trap::KillAt { pid, call } => (call, Dead::Process(*pid)),
        };
        if *left > 0 {
            *left -= 1;
            return None;
        }
        self.trap = None;
        Some(dead)
    }

    fn fail(&mut self, call: Call, path: &str) -> Option<io::ErrorKind> {
        let fault = self
            .planned
            .iter_mut()
            .find(|fault| fault.call == call && fault.times > 0 && path.contains(&fault.path))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.error)
    }
}
