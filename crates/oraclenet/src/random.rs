//! What must not be guessed: ids, token keys, secrets and nonces, from a source that tests can replace.
//!
//! It never uses a remainder to pick a letter, so every letter is equally likely.

use ring::rand::{SecureRandom, SystemRandom};

/// Letters of record ids.
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Letters of token keys and secrets.
const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Bytes that are asked for at a time.
const DRAW: usize = 64;

/// Where randomness comes from.
pub trait Source: Send + Sync {
    /// Fills `bytes` with bytes that nobody can foresee.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's source.
#[derive(Debug)]
pub struct System(SystemRandom);

/// The operating system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes; nothing can be signed without them")]
pub struct NoRandomness;

impl System {
    /// Opens the source and draws once, so that its absence is found at start and not at the first login.
    pub fn open() -> Result<Self, NoRandomness> {
        let source = SystemRandom::new();
        source.fill(&mut [0; 1]).map_err(|_| NoRandomness)?;
        Ok(Self(source))
    }
}

impl Source for System {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("BUG: the system's source answered at start and does not dry up");
    }
}

/// An id of a record: 15 letters of `[a-z0-9]`, 77 bits.
pub fn record_id(source: &dyn Source) -> String {
    text(source, LOWER, 15)
}

/// A record's half of the key that signs its tokens: 50 letters of `[A-Za-z0-9]`, 297 bits.
pub fn token_key(source: &dyn Source) -> String {
    text(source, ALPHANUMERIC, 50)
}

/// A collection's half of that key: 50 letters of `[A-Za-z0-9]`.
pub fn secret(source: &dyn Source) -> String {
    text(source, ALPHANUMERIC, 50)
}

/// A password for an account that nobody logs in to with one: 50 letters, below bcrypt's limit.
pub fn password(source: &dyn Source) -> String {
    text(source, ALPHANUMERIC, 50)
}

/// The name of a realtime client, which also lets whoever knows it say what that client hears: 40 letters of
/// `[A-Za-z0-9]`, 238 bits.
pub fn client_id(source: &dyn Source) -> String {
    text(source, ALPHANUMERIC, 40)
}

/// A number used once: 128 bits in hexadecimal.
pub fn nonce(source: &dyn Source) -> String {
    let mut bytes = [0; 16];
    source.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `length` letters of an alphabet of at most 256. Bytes past the last whole round of it are drawn again.
fn text(source: &dyn Source, alphabet: &[u8], length: usize) -> String {
    let rounds = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    let mut drawn = [0; DRAW];
    while text.len() < length {
        source.fill(&mut drawn);
        let fair = drawn.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < rounds);
        text.extend(fair.take(length - text.len()).map(|byte| char::from(alphabet[byte % alphabet.len()])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// 0, 1, 2, ... 255, 0, ...
    #[derive(Default)]
    struct Counting(AtomicU8);

    impl Source for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    #[test]
    fn strings_have_their_length_and_their_letters() {
        let source = System::open().expect("a source");
        for (name, make, length, alphabet) in [
            ("record id", record_id as fn(&dyn Source) -> String, 15, LOWER),
            ("token key", token_key, 50, ALPHANUMERIC),
            ("secret", secret, 50, ALPHANUMERIC),
            ("password", password, 50, ALPHANUMERIC),
            ("client id", client_id, 40, ALPHANUMERIC),
            ("nonce", nonce, 32, b"0123456789abcdef"),
        ] {
            let made: HashSet<String> = (0..200).map(|_| make(&source)).collect();
            assert_eq!(made.len(), 200, "{name}: no two are equal");
            for text in made {
                assert_eq!(text.len(), length, "{name}: {text}");
                assert!(text.bytes().all(|byte| alphabet.contains(&byte)), "{name}: {text}");
            }
        }
    }

    #[test]
    fn every_letter_is_equally_likely() {
        for alphabet in [LOWER, ALPHANUMERIC] {
            // All 256 bytes, once each: a remainder alone would favour the first letters.
            let rounds = 256 / alphabet.len();
            let text = text(&Counting::default(), alphabet, rounds * alphabet.len());
            for letter in alphabet {
                let seen = text.bytes().filter(|byte| byte == letter).count();
                assert_eq!(seen, rounds, "{}", char::from(*letter));
            }
        }
    }

    #[test]
    fn bytes_past_the_last_round_are_drawn_again() {
        let source = Counting::default();
        source.0.store(250, Ordering::Relaxed);
        assert_eq!(text(&source, LOWER, 3), "89a", "250 and 251 are letters, 252 to 255 are skipped");
    }
}
