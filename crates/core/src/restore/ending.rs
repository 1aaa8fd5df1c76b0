//! Which of a chain's last slots count.
//!
//! An image that is too large for a slot is announced by a slot without pages, and goes to level 9 behind that. Whoever
//! announces may die on the way, so an announced image counts only once the slot behind its announcement says so: one
//! without pages that states the same database, or one whose pages are laid over the image. Its writer creates that when
//! level 9 has the image. Whoever goes on without it creates one without pages that states what he goes on from, or
//! nothing, or an image of his own, or the announcement of one. Creating that name decides which of the two it was.
//! What is here is about the slots without pages at the end of a chain.

use litekeep_formats::{Checksum, Txid};

/// A slot without pages at the end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bare {
    /// Its number.
    pub txid: Txid,
    /// The database checksum after it, as it is sealed.
    pub database: Option<Checksum>,
    /// Whether level 9 has the image that it announces; `None` where it announces none.
    pub announces: Option<bool>,
}

/// How a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// At its newest slot.
    Newest,
    /// At this one (`None`: before the first); what lies above was never finished.
    Before(Option<Txid>),
    /// At this one, if its database checksum is that; else something is missing in the replica.
    BeforeIf(Txid, Checksum),
    /// What the newest slots state is nowhere: something is missing in the replica.
    Missing,
}

/// How a chain ends whose last slots are these, ascending and without a gap; before them lies something that has pages,
/// or nothing.
pub fn ending(run: &[Bare]) -> Ending {
    let newest = run.last().map(|slot| slot.txid);
    let mut end = newest;
    // What the slot above states, if it does no announcing of its own; and what the state below has to be.
    let (mut stated, mut needed): (Option<Checksum>, Option<Checksum>) = (None, None);
    for slot in run.iter().rev() {
        let differs =
            |other: Option<Checksum>| other.is_some() && slot.database.is_some() && other != slot.database;
        match slot.announces {
            None if differs(needed) => return Ending::Missing,
            None => {
                stated = slot.database;
                needed = needed.or(slot.database);
            }
            Some(true) if stated.is_some() && stated == slot.database => break,
            Some(_) => {
                end = slot.txid.previous();
                stated = None;
            }
        }
    }
    let reached = run.iter().any(|slot| end.is_none_or(|end| slot.txid > end));
    let is_bare = run.first().is_some_and(|first| end.is_some_and(|end| first.txid <= end));
    match (end, needed) {
        _ if !reached => Ending::Newest,
        // Among the slots themselves everything was compared.
        (Some(_), _) if is_bare => Ending::Before(end),
        (Some(end), Some(needed)) => Ending::BeforeIf(end, needed),
        (None, Some(_)) => Ending::Missing,
        (end, None) => Ending::Before(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn txid(n: u64) -> Txid {
        Txid::new(n).expect("not zero")
    }

    /// `5a` is slot 5 with database `a`; `+` announces an image that is there, `-` one that is not.
    fn run(text: &str) -> Vec<Bare> {
        let one = |word: &str| {
            let (word, announces) = match word.strip_suffix(['+', '-']) {
                Some(rest) => (rest, Some(word.ends_with('+'))),
                None => (word, None),
            };
            let (number, database) = word.split_at(1);
            let database = database.bytes().next().map(|byte| Checksum::from_crc(byte.into()));
            Bare { txid: txid(number.parse().expect("a digit")), database, announces }
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn an_announced_image_counts_once_a_slot_behind_it_says_so() {
        let a = Checksum::from_crc(b'a'.into());
        let rows = [
            ("nothing bare", "", Ending::Newest),
            ("fences alone", "5a 6a", Ending::Newest),
            ("announced", "5b-", Ending::Before(Some(txid(4)))),
            ("there, and nobody said so yet", "5b+", Ending::Before(Some(txid(4)))),
            ("there, and said so", "5b+ 6b", Ending::Newest),
            ("and fences behind", "5b+ 6b 7b 8b", Ending::Newest),
            ("somebody went on without it", "5b- 6a", Ending::BeforeIf(txid(4), a)),
            ("it came late", "5b+ 6a", Ending::BeforeIf(txid(4), a)),
            ("an image of the same database", "5a- 6a", Ending::BeforeIf(txid(4), a)),
            ("without a word on what he goes on from", "5b+ 6", Ending::Before(Some(txid(4)))),
            ("tried again", "5b- 6c-", Ending::Before(Some(txid(4)))),
            ("tried again and done", "5b- 6c+ 7c", Ending::Newest),
            ("tried again by the next one", "5b- 6a 7c-", Ending::BeforeIf(txid(4), a)),
            ("a third went on", "5b- 6a 7c+ 8a", Ending::BeforeIf(txid(4), a)),
            ("behind a fence", "4a 5b-", Ending::Before(Some(txid(4)))),
            ("behind a fence, passed", "4a 5b- 6a", Ending::Before(Some(txid(4)))),
            ("behind one that counts", "3b+ 4b 5c-", Ending::Before(Some(txid(4)))),
            ("the very first", "1b-", Ending::Before(None)),
            ("the very first, twice", "1b- 2c-", Ending::Before(None)),
            ("it was said to be there and is gone", "1b- 2b", Ending::Missing),
            ("fences that disagree", "5a 6b", Ending::Missing),
        ];
        for (name, slots, expected) in rows {
            assert_eq!(ending(&run(slots)), expected, "{name}");
        }
    }
}
