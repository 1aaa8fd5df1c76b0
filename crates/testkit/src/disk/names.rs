//! Directory entries: as they are now, as they are on the disk, and what a power loss may leave of the difference.
//!
//! Changes of one name keep their order; changes of different names may survive in any combination, except that a
//! rename is one change of two names.

use super::Ino;
use crate::random::SeededRandom;
use std::collections::{BTreeMap, BTreeSet};

/// A name in a directory.
pub(super) type Slot = (Ino, String);

/// What one operation did to names: first `gone`, then `now`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) gone: Option<(Slot, Ino)>,
    pub(super) now: Option<(Slot, Ino)>,
}

impl Entry {
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.gone.iter().chain(&self.now).map(|(slot, _)| slot)
    }

    fn apply(&self, to: &mut BTreeMap<Slot, Ino>) {
        if let Some((slot, ino)) = &self.gone
            && to.get(slot) == Some(ino)
        {
            to.remove(slot);
        }
        if let Some((slot, ino)) = &self.now {
            to.insert(slot.clone(), *ino);
        }
    }
}

/// All directories of a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    now: BTreeMap<Slot, Ino>,
    durable: BTreeMap<Slot, Ino>,
    waiting: Vec<Entry>,
}

impl Names {
    /// Names that are on the disk already.
    pub(super) fn durable(names: BTreeMap<Slot, Ino>) -> Self {
        Self { now: names.clone(), durable: names, waiting: Vec::new() }
    }

    pub(super) fn get(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.now.get(&(dir, name.to_owned())).copied()
    }

    pub(super) fn list(&self, dir: Ino) -> impl Iterator<Item = (&str, Ino)> {
        self.now
            .range((dir, String::new())..)
            .take_while(move |((of, _), _)| *of == dir)
            .map(|((_, name), ino)| (name.as_str(), *ino))
    }

    /// Whether any name leads to it.
    pub(super) fn linked(&self, ino: Ino) -> bool {
        self.now.values().any(|&to| to == ino)
    }

    /// Whether any name leads to it, or may after a power loss.
    pub(super) fn reachable(&self, ino: Ino) -> bool {
        self.linked(ino)
            || self.durable.values().any(|&to| to == ino)
            || self.waiting.iter().any(|entry| entry.now.as_ref().is_some_and(|(_, to)| *to == ino))
    }

    pub(super) fn change(&mut self, entry: Entry) {
        entry.apply(&mut self.now);
        self.waiting.push(entry);
    }

    /// Makes a directory's names durable, and with a rename the other directory's as well.
    pub(super) fn sync(&mut self, dir: Ino) {
        let mut dirs = BTreeSet::from([dir]);
        let mut chosen = vec![false; self.waiting.len()];
        for (index, entry) in self.waiting.iter().enumerate().rev() {
            if entry.slots().any(|(of, _)| dirs.contains(of)) {
                dirs.extend(entry.slots().map(|(of, _)| *of));
                chosen[index] = true;
            }
        }
        let mut left = Vec::new();
        for (entry, chosen) in std::mem::take(&mut self.waiting).into_iter().zip(chosen) {
            if chosen {
                entry.apply(&mut self.durable);
            } else {
                left.push(entry);
            }
        }
        self.waiting = left;
    }

    /// What the disk holds after the power was lost.
    pub(super) fn after_power_loss(&self, random: &SeededRandom) -> BTreeMap<Slot, Ino> {
        let (kept, of) = [(0, 1), (1, 1), (1, 2), (1, 2), (3, 4)][random.index(5)];
        let mut names = self.durable.clone();
        let mut lost = BTreeSet::new();
        for entry in &self.waiting {
            if random.chance(kept, of) && !entry.slots().any(|slot| lost.contains(slot)) {
                entry.apply(&mut names);
            } else {
                lost.extend(entry.slots().cloned());
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str) -> Slot {
        (Ino(1), name.to_owned())
    }

    fn create(name: &str, ino: u64) -> Entry {
        Entry { gone: None, now: Some((slot(name), Ino(ino))) }
    }

    fn rename(from: &str, to: &str, ino: u64) -> Entry {
        Entry { gone: Some((slot(from), Ino(ino))), now: Some((slot(to), Ino(ino))) }
    }

    fn outcomes(names: &Names) -> BTreeSet<String> {
        (0..200)
            .map(|seed| {
                let left = names.after_power_loss(&SeededRandom::new(seed));
                let shown: Vec<_> = left.iter().map(|((_, name), ino)| format!("{name}={}", ino.0)).collect();
                shown.join(" ")
            })
            .collect()
    }

    fn set(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_unsynced_replacement_leaves_the_old_or_the_new_file_never_neither() {
        let mut names = Names::durable([(slot("a"), Ino(2))].into());
        names.change(create("a.tmp", 3));
        names.change(rename("a.tmp", "a", 3));
        assert_eq!(outcomes(&names), set(&["a=2", "a=2 a.tmp=3", "a=3"]));
        names.sync(Ino(1));
        assert_eq!(outcomes(&names), set(&["a=3"]));
    }

    #[test]
    fn names_are_independent_of_one_another() {
        let mut names = Names::default();
        names.change(create("a", 2));
        names.change(create("b", 3));
        assert_eq!(outcomes(&names), set(&["", "a=2", "b=3", "a=2 b=3"]));
    }

    #[test]
    fn an_unsynced_unlink_may_come_undone() {
        let mut names = Names::durable([(slot("a"), Ino(2))].into());
        names.change(Entry { gone: Some((slot("a"), Ino(2))), now: None });
        assert_eq!(names.get(Ino(1), "a"), None);
        assert_eq!(outcomes(&names), set(&["", "a=2"]));
    }

    #[test]
    fn another_directory_is_not_made_durable() {
        let mut names = Names::default();
        names.change(Entry { gone: None, now: Some(((Ino(9), "x".into()), Ino(2))) });
        names.sync(Ino(1));
        assert_eq!(outcomes(&names), set(&["", "x=2"]));
    }
}
