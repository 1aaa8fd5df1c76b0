//! What happened, as a digest that two runs can compare and a short tail that a person can read.

use std::collections::VecDeque;

const SHOWN: usize = 64;

/// A growing record of events.
#[derive(Debug, Clone, Default)]
pub struct History {
    digest: u64,
    count: u64,
    last: VecDeque<String>,
}

impl History {
    /// Adds an event and the bytes that belong to it.
    pub fn note(&mut self, event: String, bytes: &[u8]) {
        let mut digest = fold(self.digest, event.as_bytes());
        digest = fold(digest, bytes);
        self.digest = digest;
        self.count += 1;
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }

    /// Equal for equal events in equal order.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many events.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The newest events, oldest first.
    pub fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}

/// Adds bytes to a running 64-bit digest; for comparing, not for keeping.
pub fn fold(digest: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let seed = digest ^ 0xcbf2_9ce4_8422_2325 ^ (bytes.len() as u64);
    // Four lanes, so that the multiplications need not wait for one another.
    let mut lanes = [seed, seed.rotate_left(16), seed.rotate_left(32), seed.rotate_left(48)];
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            *lane = (*lane ^ word).wrapping_mul(PRIME).rotate_left(29);
        }
    }
    let mut hash = lanes.iter().fold(seed, |hash, lane| (hash ^ lane).wrapping_mul(PRIME).rotate_left(29));
    for byte in chunks.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_bytes_both_count() {
        let digest = |events: &[(&str, &[u8])]| {
            let mut history = History::default();
            for (event, bytes) in events {
                history.note((*event).to_owned(), bytes);
            }
            history.digest()
        };
        assert_eq!(digest(&[("a", b"1"), ("b", b"2")]), digest(&[("a", b"1"), ("b", b"2")]));
        assert_ne!(digest(&[("a", b"1"), ("b", b"2")]), digest(&[("b", b"2"), ("a", b"1")]));
        assert_ne!(digest(&[("a", b"1")]), digest(&[("a", b"2")]));
    }
}
