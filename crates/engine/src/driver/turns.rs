//! Turns at what keeps a worker for long: a comparison or an image of a large database reads every page of it. So many
//! may go on at once that workers are left for all the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// From which size on a database takes a turn, bytes: a smaller one is read in a fraction of a second.
pub(crate) const LARGE: u64 = 64 << 20;

/// Clones share the turns.
#[derive(Clone)]
pub(crate) struct Turns {
    free: Arc<AtomicUsize>,
}

/// A turn; dropping it ends it.
pub(crate) struct Turn {
    /// `None` for what is small, which needs none.
    free: Option<Arc<AtomicUsize>>,
}

impl Turns {
    pub(crate) fn new(turns: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(turns)) }
    }

    /// A turn at reading so many bytes, if there is one now. What is small always has one.
    pub(crate) fn take_for(&self, bytes: u64) -> Option<Turn> {
        if bytes < LARGE { Some(Turn::unlimited()) } else { self.take() }
    }

    /// A turn, if there is one now.
    fn take(&self) -> Option<Turn> {
        let taken =
            self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1)).ok()?;
        debug_assert!(taken > 0);
        Some(Turn { free: Some(Arc::clone(&self.free)) })
    }
}

impl Turn {
    /// One that is nobody else's loss.
    pub(crate) fn unlimited() -> Self {
        Self { free: None }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(free) = &self.free {
            free.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_turns_as_there_are_and_each_comes_back() {
        let turns = Turns::new(2);
        let first = turns.take();
        let second = turns.clone().take();
        assert!(first.is_some() && second.is_some() && turns.take().is_none());
        drop(first);
        assert!(turns.take().is_some(), "and a turn that is not kept comes back at once");
        let _third = turns.take_for(LARGE);
        assert!(_third.is_some() && turns.take_for(LARGE - 1).is_some(), "what is small needs none");
    }
}
