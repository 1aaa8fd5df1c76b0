//! Following a chain: does this slot go on from where we are, and when is it time to look whether the chain went on
//! without the slot that we wait for? Facts in, verdicts out.

use crate::limits;
use core::fmt;
use core::time::Duration;
use litekeep_formats::ltx::Seal;
use litekeep_formats::{Checksum, Epoch};

/// Where the follower is on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The file checksum of the last slot, where known.
    pub slot: Option<Checksum>,
    /// The newest epoch seen on the chain; `None` while nothing carried a seal.
    pub epoch: Option<Epoch>,
    /// Whether a slot without a seal may follow one with a seal: a Litestream that took the replica over.
    pub unsealed_after_seal: bool,
}

/// Why a slot does not go on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It was built on another slot than the one before it.
    Predecessor,
    /// Its epoch lies below one seen before.
    Epoch {
        /// Of the slot.
        slot: Epoch,
        /// Seen before.
        seen: Epoch,
    },
    /// It carries no seal, and the chain does.
    Unsealed,
    /// What it makes of the database is not what it says.
    Database {
        /// As sealed.
        sealed: Checksum,
        /// As its pages give.
        computed: Checksum,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predecessor => f.write_str("it was built on another transaction than the one before it"),
            Self::Epoch { slot, seen } => {
                write!(f, "its epoch {slot} lies below {seen}, which was there before")
            }
            Self::Unsealed => f.write_str("it carries no seal, and those before it do"),
            Self::Database { sealed, computed } => {
                write!(f, "it seals the database as {sealed}, its pages give {computed}")
            }
        }
    }
}

/// Whether the next slot goes on from where the follower is (docs/model.md, rule 9). `database` is what its pages make of
/// the database, `stated` what its trailer says of that (files with checksums, as LiteFS writes them).
///
/// # Errors
/// The first rule that it breaks.
pub fn fits(
    known: &Known,
    seal: Option<&Seal>,
    database: Checksum,
    stated: Option<Checksum>,
) -> Result<(), Misfit> {
    match (seal, known.epoch) {
        (None, Some(_)) if !known.unsealed_after_seal => return Err(Misfit::Unsealed),
        (Some(seal), Some(seen)) if seal.epoch < seen => {
            return Err(Misfit::Epoch { slot: seal.epoch, seen });
        }
        _ => {}
    }
    if let (Some(named), Some(slot)) = (seal.and_then(|seal| seal.predecessor), known.slot)
        && named != slot
    {
        return Err(Misfit::Predecessor);
    }
    let sealed = [seal.and_then(|seal| seal.database), stated];
    match sealed.into_iter().flatten().find(|sealed| *sealed != database) {
        Some(sealed) => Err(Misfit::Database { sealed, computed: database }),
        None => Ok(()),
    }
}

/// How long a missing slot alone tells that the chain ends: far below the least age of a slot in the replica
/// ([`crate::limits::SLOT_MIN_AGE`]), so that none can have come and gone in between.
pub const FRESH: Duration = Duration::from_secs(30);

/// The longest pause between two looks at the listings while nothing changes: by so much a gap that should not be
/// there (slots deleted early, or lost) is bridged at the latest.
pub const LISTED: Duration = Duration::from_secs(60);

/// When the listings are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// When the last look that found a slot or the tip was sent.
    seen: Option<Duration>,
    /// When to list next, and after which pause.
    list: Option<(Duration, Duration)>,
}

impl Pace {
    /// A slot was found by a look sent at `now`.
    pub fn progress(&mut self, now: Duration) {
        self.seen = Some(now);
        self.list = Some((now + FRESH, FRESH));
    }

    /// Whether the last look was so long ago that the next name may not be what it seems: what was created after it can
    /// have been deleted, and the name been taken again.
    pub fn is_stale(&self, now: Duration) -> bool {
        let safe = limits::SLOT_MIN_AGE.saturating_sub(limits::REUSE_HORIZON);
        self.seen.is_some_and(|seen| now.saturating_sub(seen) > safe)
    }

    /// The next slot is not there. Whether the listings must be asked before that counts as the end of the chain.
    pub fn must_list(&self, now: Duration) -> bool {
        let stale = self.seen.is_none_or(|seen| now.saturating_sub(seen) > FRESH);
        stale || self.list.is_none_or(|(at, _)| now >= at)
    }

    /// The listings were asked, and showed nothing further.
    pub fn listed(&mut self, now: Duration) {
        let pause = self.list.map_or(FRESH, |(_, pause)| (pause * 2).min(LISTED));
        self.list = Some((now + pause, pause));
    }

    /// Somebody knows that the chain goes on: the next missing slot is no end before the listings were asked again.
    pub fn doubt(&mut self) {
        self.list = None;
    }

    /// The chain ends here, as seen by a look sent at `now`.
    pub fn tip(&mut self, now: Duration) {
        self.seen = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::ltx::Marks;
    use std::vec::Vec;

    fn sum(n: u64) -> Checksum {
        Checksum::from_crc(n)
    }

    fn epoch(n: u64) -> Epoch {
        Epoch::new(n).expect("not zero")
    }

    fn seal(of: u64, predecessor: Option<u64>, database: Option<u64>) -> Option<Seal> {
        let (predecessor, database) = (predecessor.map(sum), database.map(sum));
        Some(Seal { epoch: epoch(of), predecessor, database, marks: Marks::NONE })
    }

    #[test]
    fn a_slot_goes_on_from_the_one_before_it_or_breaks_a_rule() {
        let known = |epoch| Known { slot: Some(sum(1)), epoch, unsealed_after_seal: false };
        let sealed = known(Some(epoch(3)));
        let taken_over = Known { unsealed_after_seal: true, ..sealed };
        let wrong = Misfit::Database { sealed: sum(8), computed: sum(7) };
        let rows = [
            ("the next one", sealed, seal(3, Some(1), Some(7)), None, Ok(())),
            ("of a later owner", sealed, seal(4, Some(1), Some(7)), None, Ok(())),
            ("its writer knew no database checksum", sealed, seal(3, Some(1), None), None, Ok(())),
            ("no slot is known here", Known { slot: None, ..sealed }, seal(3, Some(2), None), None, Ok(())),
            ("R24: built on another slot", sealed, seal(3, Some(2), Some(7)), None, Err(Misfit::Predecessor)),
            ("an owner that was left behind", sealed, seal(2, Some(1), Some(7)), None, {
                Err(Misfit::Epoch { slot: epoch(2), seen: epoch(3) })
            }),
            ("another database", sealed, seal(3, Some(1), Some(8)), None, Err(wrong)),
            ("another database by its trailer", known(None), None, Some(sum(8)), Err(wrong)),
            ("Litestream's chain", known(None), None, None, Ok(())),
            ("the first sealed one", known(None), seal(1, Some(1), Some(7)), None, Ok(())),
            ("Litestream in our chain", sealed, None, None, Err(Misfit::Unsealed)),
            ("Litestream took our chain over", taken_over, None, None, Ok(())),
        ];
        for (name, known, seal, stated, expected) in rows {
            assert_eq!(fits(&known, seal.as_ref(), sum(7), stated), expected, "{name}");
        }
    }

    #[test]
    fn r34_the_listings_are_asked_at_first_after_a_sleep_and_once_a_minute() {
        let at = Duration::from_secs;
        let mut pace = Pace::default();
        assert!(pace.must_list(at(100)), "at first");
        pace.listed(at(100));
        pace.tip(at(100));
        let mut asked = Vec::new();
        for second in 101..400 {
            if pace.must_list(at(second)) {
                asked.push(second);
                pace.listed(at(second));
            }
            pace.tip(at(second));
        }
        assert_eq!(asked, [130, 190, 250, 310, 370], "a missing slot is the tip in between");
        assert!(!pace.must_list(at(429)) && pace.must_list(at(430)), "just awake, and after a sleep past it");
        pace.progress(at(500));
        assert!(!pace.must_list(at(529)) && pace.must_list(at(530)));
    }
}
