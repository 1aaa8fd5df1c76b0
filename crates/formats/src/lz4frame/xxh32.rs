//! xxHash, 32 bits, seed 0: the checksum of LZ4 frames.

const P1: u32 = 0x9e37_79b1;
const P2: u32 = 0x85eb_ca77;
const P3: u32 = 0xc2b2_ae3d;
const P4: u32 = 0x27d4_eb2f;
const P5: u32 = 0x1656_67b1;

/// A running xxh32 with seed 0.
#[derive(Debug, Clone)]
pub struct Xxh32 {
    lanes: [u32; 4],
    /// Bytes that do not yet fill a stripe of 16.
    rest: [u8; 16],
    rest_len: usize,
    /// All bytes so far, modulo 2^32 as the algorithm has it.
    total: u32,
    /// Whether a whole stripe was seen.
    long: bool,
}

impl Xxh32 {
    /// The hash of nothing yet.
    pub const fn new() -> Self {
        let lanes = [P1.wrapping_add(P2), P2, 0, 0u32.wrapping_sub(P1)];
        Self { lanes, rest: [0; 16], rest_len: 0, total: 0, long: false }
    }

    /// The hash of `bytes` at once.
    pub fn of(bytes: &[u8]) -> u32 {
        let mut hash = Self::new();
        hash.update(bytes);
        hash.value()
    }

    /// Adds bytes.
    #[allow(clippy::cast_possible_truncation)] // the algorithm counts modulo 2^32
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.total = self.total.wrapping_add(bytes.len() as u32);
        if self.rest_len > 0 {
            let count = bytes.len().min(16 - self.rest_len);
            let (head, tail) = bytes.split_at(count);
            if let Some(place) = self.rest.get_mut(self.rest_len..self.rest_len + count) {
                place.copy_from_slice(head);
            }
            self.rest_len += count;
            bytes = tail;
            if self.rest_len < 16 {
                return;
            }
            let stripe = self.rest;
            self.stripes(&[stripe]);
            self.rest_len = 0;
        }
        let (stripes, rest) = bytes.as_chunks::<16>();
        self.stripes(stripes);
        if let Some(place) = self.rest.get_mut(..rest.len()) {
            place.copy_from_slice(rest);
        }
        self.rest_len = rest.len();
    }

    fn stripes(&mut self, stripes: &[[u8; 16]]) {
        let [mut a, mut b, mut c, mut d] = self.lanes;
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<4>();
            if let [w0, w1, w2, w3] = words {
                a = round(a, *w0);
                b = round(b, *w1);
                c = round(c, *w2);
                d = round(d, *w3);
            }
            self.long = true;
        }
        self.lanes = [a, b, c, d];
    }

    /// The hash of everything added so far.
    pub fn value(&self) -> u32 {
        let [a, b, c, d] = self.lanes;
        let start = if self.long {
            let pairs = a.rotate_left(1).wrapping_add(b.rotate_left(7));
            pairs.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
        } else {
            P5
        };
        let mut hash = start.wrapping_add(self.total);
        let (words, bytes) = self.rest.get(..self.rest_len).unwrap_or(&[]).as_chunks::<4>();
        for word in words {
            let mixed = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(P3));
            hash = mixed.rotate_left(17).wrapping_mul(P4);
        }
        for byte in bytes {
            hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
        }
        hash = (hash ^ (hash >> 15)).wrapping_mul(P2);
        hash = (hash ^ (hash >> 13)).wrapping_mul(P3);
        hash ^ (hash >> 16)
    }
}

impl Default for Xxh32 {
    fn default() -> Self {
        Self::new()
    }
}

fn round(lane: u32, word: [u8; 4]) -> u32 {
    let mixed = lane.wrapping_add(u32::from_le_bytes(word).wrapping_mul(P2));
    mixed.rotate_left(13).wrapping_mul(P1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn published_values_come_out() {
        for (bytes, hash) in [
            (b"".as_slice(), 0x02cc_5d05),
            (b"a", 0x550d_7456),
            (b"abc", 0x32d1_53ff),
            (b"Nobody inspects the spammish repetition", 0xe229_3b2f),
        ] {
            assert_eq!(Xxh32::of(bytes), hash, "{bytes:?}");
        }
    }

    #[test]
    fn every_split_gives_the_same_hash() {
        let bytes: Vec<u8> = (0..200u8).collect();
        for length in 0..bytes.len() {
            let whole = Xxh32::of(&bytes[..length]);
            for split in 0..=length {
                let mut hash = Xxh32::new();
                hash.update(&bytes[..split]);
                hash.update(&bytes[split..length]);
                assert_eq!(hash.value(), whole, "{length} split at {split}");
            }
        }
    }
}
