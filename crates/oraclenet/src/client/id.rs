//! The id of a record: 15 characters of a-z and 0-9, chosen by the client so that a repeated create is recognised.

use super::trouble::Trouble;
use litekeep_core::env::Random;
use std::fmt;

/// Length of an id, characters.
const LENGTH: usize = 15;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A record's id; safe in a path and in a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Id(String);

impl Id {
    /// An id, or nothing if the text is none.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let right = text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte));
        right.then(|| Self(text.to_owned()))
    }

    /// An id that an argument gives; `what` names whose it is.
    ///
    /// # Errors
    /// The text is none.
    pub(crate) fn parse(what: &str, text: &str) -> Result<Self, Trouble> {
        Self::of(text).ok_or_else(|| {
            Trouble::usage(format!("`{text}` is not the id of a {what}"))
                .cause("an id has 15 characters, a-z and 0-9")
                .hint("`oraclenet posts` and `oraclenet show` print the ids of posts and comments")
        })
    }

    /// A new one: 77 bits, so that two never meet.
    pub(crate) fn new(random: &dyn Random) -> Self {
        let letter = |_| {
            // 36 divides 2^64 with a remainder too small to matter.
            let at = usize::try_from(random.next_u64() % ALPHABET.len() as u64).unwrap_or(0);
            char::from(ALPHABET[at])
        };
        Self((0..LENGTH).map(letter).collect())
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::clock::SystemRandom;

    #[test]
    fn a_new_id_is_an_id_and_no_other_one() {
        let random = SystemRandom::default();
        let mut ids: Vec<String> = (0..1000).map(|_| Id::new(&random).0).collect();
        assert!(ids.iter().all(|id| Id::of(id).is_some()), "{ids:?}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn what_is_no_id_never_gets_into_a_path() {
        for text in [
            "",
            "..",
            "aaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaA",
            "aaaaaaa/aaaaaaa",
            "aaaaaaaaaaaaaé",
        ] {
            assert_eq!(Id::of(text), None, "{text}");
        }
        assert!(Id::of("abcdefghij01234").is_some());
    }
}
