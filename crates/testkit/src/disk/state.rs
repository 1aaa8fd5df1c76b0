//! The disk behind its lock: nodes, names, processes and what they hold.

use super::content::{Content, Fate};
use super::fault::Faults;
use super::locks::{FileLocks, Shared};
use super::names::{Entry, Names, Slot};
use super::{Ino, Pid};
use crate::history::History;
use crate::random::SeededRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

const ROOT: Ino = Ino(1);

/// Number of an open file; never used twice on one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HandleId(pub(super) u64);

/// Through which door a file was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// [`litekeep::files::Files`].
    Raw,
    /// SQLite's main database file.
    Database,
    /// Another file of SQLite's.
    Sqlite,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) content: Content,
    directory: bool,
    pub(super) locks: FileLocks,
    /// The index of a WAL, while a living process has it mapped.
    pub(super) shared: Option<Shared>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    pub(super) ino: Ino,
    pub(super) pid: Pid,
    pub(super) door: Door,
}

/// Shared memory as it was when one of its processes was killed: SQLite's code still runs to its end in this program,
/// and must not be seen to.
#[derive(Debug)]
struct Frozen {
    pid: Pid,
    shared: Shared,
    image: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct State {
    seed: u64,
    pub(super) nodes: BTreeMap<Ino, Node>,
    names: Names,
    pub(super) opened: BTreeMap<HandleId, Opened>,
    frozen: Vec<Frozen>,
    living: BTreeSet<Pid>,
    next: u64,
    /// How often the power was lost before.
    pub(super) lives: u64,
    off: bool,
    pub(super) faults: Faults,
    pub(super) capacity: Option<u64>,
    pub(super) history: History,
    pub(super) violations: Vec<String>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: [(ROOT, Node { directory: true, ..Node::default() })].into(),
            names: Names::default(),
            opened: BTreeMap::new(),
            frozen: Vec::new(),
            living: BTreeSet::new(),
            next: ROOT.0,
            lives: 0,
            off: false,
            faults: Faults::default(),
            capacity: None,
            history: History::default(),
            violations: Vec::new(),
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    // Processes and power.

    pub(super) fn start_process(&mut self) -> Pid {
        let pid = Pid(self.number());
        self.living.insert(pid);
        pid
    }

    pub(super) fn alive(&self, pid: Pid) -> bool {
        self.living.contains(&pid)
    }

    pub(super) fn powered(&self) -> bool {
        !self.off
    }

    pub(super) fn power_off(&mut self) {
        self.off = true;
        for pid in self.living.clone() {
            self.kill(pid);
        }
    }

    pub(super) fn kill(&mut self, pid: Pid) {
        if !self.living.remove(&pid) {
            return;
        }
        let opened: Vec<_> = self.opened.iter().map(|(id, opened)| (*id, *opened)).collect();
        for (id, opened) in opened.iter().filter(|(_, opened)| opened.pid == pid) {
            let Some(node) = self.nodes.get_mut(&opened.ino) else { continue };
            node.locks.release(*id);
            let Some(shared) = node.shared.clone() else { continue };
            if !shared.leave(*id) {
                continue;
            }
            if shared.in_use() {
                let known = self.frozen.iter().any(|f| f.pid == pid && f.shared.same(&shared));
                if !known {
                    self.frozen.push(Frozen { pid, image: shared.image(), shared });
                }
            } else {
                node.shared = None;
            }
        }
    }

    /// The names and durable bytes that the next machine finds.
    pub(super) fn after_power_loss(&self, random: &SeededRandom) -> Self {
        let names = self.names.after_power_loss(random);
        let common = random.chance(1, 2).then(|| Fate::any(random));
        let mut next = Self::new(random.below(u64::MAX));
        let mut reached = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(at) = open.pop() {
            let inside = names.iter().filter(|((dir, _), _)| *dir == at).map(|(_, ino)| *ino);
            open.extend(inside.filter(|ino| reached.insert(*ino)));
        }
        for (ino, node) in self.nodes.iter().filter(|(ino, _)| reached.contains(ino)) {
            let fate = common.unwrap_or_else(|| Fate::any(random));
            let content = Content::durable(node.content.after_power_loss(fate, random));
            next.nodes.insert(*ino, Node { content, directory: node.directory, ..Node::default() });
        }
        next.names =
            Names::durable(names.into_iter().filter(|((dir, _), _)| reached.contains(dir)).collect());
        next.next = self.next;
        next.lives = self.lives + 1;
        next.capacity = self.capacity;
        next.history = self.history.clone();
        next.violations.clone_from(&self.violations);
        next
    }

    // Names.

    pub(super) fn find(&self, path: &Path) -> io::Result<Option<Ino>> {
        let mut at = ROOT;
        for part in parts(path) {
            if !self.is_directory(at) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            match self.names.get(at, &part) {
                Some(ino) => at = ino,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The directory a path's last name is in, and that name.
    pub(super) fn slot(&self, path: &Path) -> io::Result<Slot> {
        let mut parts = parts(path);
        let name = parts.pop().ok_or(io::ErrorKind::IsADirectory)?;
        let dir = self.find(&parts.iter().collect::<std::path::PathBuf>())?.ok_or(io::ErrorKind::NotFound)?;
        if self.is_directory(dir) { Ok((dir, name)) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    pub(super) fn is_directory(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|node| node.directory)
    }

    pub(super) fn make(&mut self, slot: Option<Slot>, directory: bool) -> Ino {
        let ino = Ino(self.number());
        self.nodes.insert(ino, Node { directory, ..Node::default() });
        if let Some(slot) = slot {
            self.names.change(Entry { gone: None, now: Some((slot, ino)) });
        }
        ino
    }

    pub(super) fn unlink(&mut self, slot: Slot) -> io::Result<()> {
        let ino = self.names.get(slot.0, &slot.1).ok_or(io::ErrorKind::NotFound)?;
        if self.is_directory(ino) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.names.change(Entry { gone: Some((slot, ino)), now: None });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: Slot, to: Slot) -> io::Result<()> {
        let ino = self.names.get(from.0, &from.1).ok_or(io::ErrorKind::NotFound)?;
        if let Some(old) = self.names.get(to.0, &to.1)
            && self.is_directory(old) != self.is_directory(ino)
        {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from != to {
            self.names.change(Entry { gone: Some((from, ino)), now: Some((to, ino)) });
        }
        Ok(())
    }

    pub(super) fn sync_names(&mut self, dir: Ino) {
        self.names.sync(dir);
    }

    pub(super) fn list(&self, dir: Ino) -> Vec<String> {
        self.names.list(dir).map(|(name, _)| name.to_owned()).collect()
    }

    // Open files.

    pub(super) fn open(&mut self, ino: Ino, pid: Pid, door: Door) -> HandleId {
        let id = HandleId(self.number());
        self.opened.insert(id, Opened { ino, pid, door });
        id
    }

    pub(super) fn close(&mut self, id: HandleId, path: &str) {
        let Some(closed) = self.opened.remove(&id) else { return };
        self.leave_shared(id, closed);
        if let Some(node) = self.nodes.get_mut(&closed.ino) {
            node.locks.release(id);
        }
        let open_in_sqlite =
            |o: &Opened| o.ino == closed.ino && o.pid == closed.pid && o.door == Door::Database;
        if closed.door == Door::Raw && self.alive(closed.pid) && self.opened.values().any(open_in_sqlite) {
            // Closing any descriptor of a file drops every POSIX lock that the process has on it.
            self.violations.push(format!("{path} was closed while SQLite had it open in the same process"));
        }
        if !self.opened.values().any(|o| o.ino == closed.ino) && !self.names.reachable(closed.ino) {
            self.nodes.remove(&closed.ino);
        }
    }

    /// The end of a mapping: the last living one takes the memory with it.
    pub(super) fn leave_shared(&mut self, id: HandleId, of: Opened) {
        if self.alive(of.pid) {
            if let Some(node) = self.nodes.get_mut(&of.ino)
                && let Some(shared) = node.shared.clone()
                && shared.leave(id)
                && !shared.in_use()
            {
                node.shared = None;
            }
            return;
        }
        for frozen in self.frozen.iter().filter(|frozen| frozen.pid == of.pid) {
            frozen.shared.restore(&frozen.image);
        }
        if !self.opened.values().any(|other| other.pid == of.pid) {
            self.frozen.retain(|frozen| frozen.pid != of.pid);
        }
    }

    /// Whether `more` bytes still fit.
    pub(super) fn room_for(&mut self, pid: Pid, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used().saturating_add(more) > capacity => {
                self.faults.note_failure(pid);
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn used(&self) -> u64 {
        let held: BTreeSet<Ino> = self.opened.values().map(|opened| opened.ino).collect();
        let counts = |ino: &Ino| held.contains(ino) || self.names.linked(*ino);
        self.nodes.iter().filter(|(ino, _)| counts(ino)).map(|(_, node)| node.content.len() as u64).sum()
    }

    // For scenes and judges.

    pub(super) fn flush(&mut self, path: &Path) {
        let node = self.find(path).ok().flatten().and_then(|ino| self.nodes.get_mut(&ino));
        if let Some(node) = node {
            node.content.sync();
        }
        if let Ok((dir, _)) = self.slot(path) {
            self.names.sync(dir);
        }
    }

    pub(super) fn sync_all(&mut self) {
        for (ino, node) in &mut self.nodes {
            node.content.sync();
            self.names.sync(*ino);
        }
    }

    pub(super) fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let ino = self.find(path).ok().flatten()?;
        self.nodes.get(&ino).filter(|node| !node.directory).map(|node| node.content.bytes().to_vec())
    }

    pub(super) fn tree(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        let mut open = vec![(ROOT, String::new())];
        while let Some((dir, path)) = open.pop() {
            for (name, ino) in self.names.list(dir) {
                let path = format!("{path}/{name}");
                match self.nodes.get(&ino) {
                    Some(node) if node.directory => open.push((ino, path)),
                    Some(node) => found.push((path, node.content.len() as u64)),
                    None => {}
                }
            }
        }
        found.sort();
        found
    }

    pub(super) fn place(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut at = ROOT;
        let parts = parts(path);
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            at = match self.names.get(at, part) {
                Some(ino) if last => {
                    self.unlink((at, part.clone()))?;
                    debug_assert!(!self.is_directory(ino));
                    self.make(Some((at, part.clone())), false)
                }
                Some(ino) if self.is_directory(ino) => ino,
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => self.make(Some((at, part.clone())), !last),
            };
        }
        if let Some(node) = self.nodes.get_mut(&at) {
            node.content = Content::durable(bytes.to_vec());
        }
        for dir in self.nodes.keys() {
            self.names.sync(*dir);
        }
        Ok(())
    }
}

/// A path's names from the root; a relative path begins there as well.
fn parts(path: &Path) -> Vec<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts
}
