//! What a run would leave behind if it ended now: it is named when a run is interrupted or fails.
//!
//! It removes nothing itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What lies in places that others use; copies share it.
#[derive(Debug, Clone, Default)]
pub struct Left(Arc<Mutex<Things>>);

#[derive(Debug, Default)]
struct Things {
    count: usize,
    named: BTreeMap<usize, String>,
}

impl Left {
    /// From now on this lies there; gives the number to take it off the list by.
    #[must_use]
    pub fn add(&self, what: impl Into<String>) -> usize {
        let mut things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        things.count += 1;
        let number = things.count;
        things.named.insert(number, what.into());
        number
    }

    /// It is gone, all of it.
    pub fn gone(&self, number: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).named.remove(&number);
    }

    /// All of it, in the order in which it came.
    #[must_use]
    pub fn named(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).named.values().cloned().collect()
    }
}
