//! Randomness that a seed repeats exactly.

use litekeep_core::env::Random;
use std::sync::atomic::{AtomicU64, Ordering};

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A SplitMix64 sequence; shared by reference, so every user moves it on.
#[derive(Debug)]
pub struct SeededRandom {
    state: AtomicU64,
}

impl SeededRandom {
    /// The sequence that belongs to a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(mix(seed)) }
    }

    /// An independent sequence, itself fixed by this one's seed and position and by `label`.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        let named = label.bytes().fold(self.next_u64(), |hash, byte| mix(hash ^ u64::from(byte)));
        Self::new(named)
    }

    /// A number from 0 to `bound - 1`; 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// An index into something `len` long; 0 for nothing.
    pub fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True in `times` of `of` cases.
    pub fn chance(&self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }

    /// One of several; `None` only for an empty slice.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// Fills a buffer.
    pub fn fill(&self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        let state = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mix(state)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(random: &SeededRandom) -> Vec<u64> {
        (0..8).map(|_| random.next_u64()).collect()
    }

    #[test]
    fn a_seed_repeats_its_sequence_and_another_seed_does_not() {
        assert_eq!(first(&SeededRandom::new(7)), first(&SeededRandom::new(7)));
        assert_ne!(first(&SeededRandom::new(7)), first(&SeededRandom::new(8)));
    }

    #[test]
    fn forks_of_different_labels_differ() {
        let (a, b) = (SeededRandom::new(7), SeededRandom::new(7));
        assert_ne!(first(&a.fork("disk")), first(&b.fork("store")));
    }
}
