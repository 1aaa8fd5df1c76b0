//! SQLite's locks between connections: the five levels of a database file and the eight bytes of a WAL's index; and
//! the memory that index lives in.

use super::state::HandleId;
use super::vfs::Region;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How far a connection has locked a database file; the numbers are SQLite's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

impl Level {
    pub(super) fn from_sqlite(level: i32) -> Self {
        [Self::None, Self::Shared, Self::Reserved, Self::Pending]
            .get(usize::try_from(level).unwrap_or(0))
            .copied()
            .unwrap_or(Self::Exclusive)
    }
}

/// Locks on one file.
#[derive(Debug, Default)]
pub(super) struct FileLocks {
    levels: BTreeMap<HandleId, Level>,
    advisory: Option<HandleId>,
}

impl FileLocks {
    pub(super) fn level(&self, id: HandleId) -> Level {
        self.levels.get(&id).copied().unwrap_or(Level::None)
    }

    fn highest_other(&self, id: HandleId) -> Level {
        self.levels.iter().filter(|(other, _)| **other != id).map(|(_, l)| *l).max().unwrap_or(Level::None)
    }

    /// Raises a lock; `false` if another connection stands in the way. As in SQLite, a connection that wants the file
    /// for itself keeps new readers out from the moment it asks.
    pub(super) fn lock(&mut self, id: HandleId, want: Level) -> bool {
        let (have, others) = (self.level(id), self.highest_other(id));
        if have >= want {
            return true;
        }
        let free = match want {
            Level::None | Level::Shared => others < Level::Pending,
            Level::Reserved => others < Level::Reserved,
            Level::Pending | Level::Exclusive => {
                if others >= Level::Reserved {
                    return false;
                }
                self.levels.insert(id, Level::Pending);
                others == Level::None
            }
        };
        if free {
            self.levels.insert(id, want);
        }
        free
    }

    pub(super) fn unlock(&mut self, id: HandleId, to: Level) {
        if to == Level::None {
            self.levels.remove(&id);
        } else if self.level(id) > to {
            self.levels.insert(id, to);
        }
    }

    pub(super) fn reserved(&self) -> bool {
        self.levels.values().any(|level| *level >= Level::Reserved)
    }

    pub(super) fn try_advisory(&mut self, id: HandleId) -> bool {
        *self.advisory.get_or_insert(id) == id
    }

    pub(super) fn release(&mut self, id: HandleId) {
        self.levels.remove(&id);
        if self.advisory == Some(id) {
            self.advisory = None;
        }
    }
}

/// A kind of lock on bytes of a WAL's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteLock {
    Shared,
    Exclusive,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    shared: u8,
    exclusive: u8,
}

#[derive(Debug, Default)]
struct Index {
    regions: Vec<Arc<Region>>,
    held: BTreeMap<HandleId, Held>,
}

/// One WAL's index: memory that several connections map, with its locks. It ends with its last mapping.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    index: Arc<Mutex<Index>>,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.index, &other.index)
    }

    pub(super) fn join(&self, id: HandleId) {
        self.index().held.entry(id).or_default();
    }

    /// Ends a mapping and its locks; `false` if there was none.
    pub(super) fn leave(&self, id: HandleId) -> bool {
        self.index().held.remove(&id).is_some()
    }

    pub(super) fn in_use(&self) -> bool {
        !self.index().held.is_empty()
    }

    /// A region; made with zeros, as all before it, if `extend`.
    pub(super) fn region(&self, number: usize, size: usize, extend: bool) -> Option<Arc<Region>> {
        let mut index = self.index();
        while extend && index.regions.len() <= number {
            index.regions.push(Arc::new(Region::new(size)));
        }
        index.regions.get(number).cloned()
    }

    pub(super) fn lock(&self, id: HandleId, mask: u8, how: ByteLock) -> bool {
        let mut index = self.index();
        let blocked = index.held.iter().filter(|(other, _)| **other != id).any(|(_, held)| match how {
            ByteLock::Shared => held.exclusive & mask != 0,
            ByteLock::Exclusive => (held.exclusive | held.shared) & mask != 0,
        });
        if blocked {
            return false;
        }
        let held = index.held.entry(id).or_default();
        match how {
            ByteLock::Shared => held.shared |= mask,
            ByteLock::Exclusive => held.exclusive |= mask,
        }
        true
    }

    pub(super) fn unlock(&self, id: HandleId, mask: u8) {
        if let Some(held) = self.index().held.get_mut(&id) {
            held.shared &= !mask;
            held.exclusive &= !mask;
        }
    }

    pub(super) fn image(&self) -> Vec<Vec<u8>> {
        self.index().regions.iter().map(|region| region.copy()).collect()
    }

    pub(super) fn restore(&self, image: &[Vec<u8>]) {
        for (region, bytes) in self.index().regions.iter().zip(image) {
            region.overwrite(bytes);
        }
    }
}
