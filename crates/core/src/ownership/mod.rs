//! Who may write: the log is the lock (the rules: `docs/model.md`).
//!
//! Two state machines without I/O. [`Acquire`] takes a newcomer from its claim to ownership, [`Tenancy`] keeps an owner
//! honest until it leaves. Each says what to do next and is told what came of it. All that they need of a store is
//! create-only puts: a slot that is refused is somebody else's, and no clock of one machine is compared with another's;
//! but for what [`Alone`] lets an owner's readers see.

mod acquire;
mod alone;
mod epochs;
mod tenancy;

pub use acquire::{Acquire, Do, Heard};
pub use alone::Alone;
pub use epochs::{EpochFacts, NextEpoch, is_wiped, next_epoch};
pub use tenancy::{Counted, Tenancy};

use crate::limits;
use alloc::vec::Vec;
use core::time::Duration;
use litekeep_formats::{Epoch, TimestampMs, Txid};

/// A moment on two clocks. Which of them stood still (a machine that slept, a store whose clock was set) does not
/// matter: an age is what the clock says that moved further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Moment {
    /// Since this machine's boot, sleep included.
    pub boot: Duration,
    /// The store's own clock, where it has told one.
    pub store: Option<TimestampMs>,
}

impl Moment {
    /// How long before `now` this was, by the clock that says longer.
    pub fn age(&self, now: &Moment) -> Duration {
        let boot = now.boot.saturating_sub(self.boot);
        let store = match (self.store, now.store) {
            (Some(then), Some(now)) => u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0),
            _ => 0,
        };
        boot.max(Duration::from_millis(store))
    }
}

/// The protocol's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Times {
    /// How old the newest claim must be, by the store's clock, before anybody makes another.
    pub tenure: Duration,
    /// How long a newcomer waits for closing records before it fences.
    pub hand_over: Duration,
    /// How old a proof may be when the answer arrives that counts on it.
    pub horizon: Duration,
}

impl Times {
    /// A server that hands over by itself.
    pub const USUAL: Self =
        Self { tenure: limits::TENURE, hand_over: limits::HAND_OVER, horizon: limits::REUSE_HORIZON };
}

/// What a look at the bucket found about a name `n` that is to be created, or just was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Look {
    /// A claim above one's own.
    pub higher: Option<Epoch>,
    /// Slot `n` is there.
    pub taken: bool,
    /// The greatest TXID at any level above the slots.
    pub covered: Option<Txid>,
}

impl Look {
    /// Whether `n` is the end of the chain: no file of a higher level reaches it, so it cannot be a name that was used
    /// and freed, and nobody claimed after us.
    fn proves(&self, n: Txid, mine: bool) -> bool {
        self.higher.is_none() && (mine || !self.taken) && self.covered.is_none_or(|covered| covered < n)
    }
}

/// One epoch as its records show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claimed {
    /// Its number.
    pub epoch: Epoch,
    /// When its claim was made, by the store's clock; `None` where the claim itself is gone.
    pub at: Option<TimestampMs>,
    /// A slot of it is durable.
    pub opened: bool,
    /// Its owner left, and this was the last transaction it had; zero before any.
    pub closed: Option<u64>,
    /// Its owner cannot run any more: it was this machine's, and we hold its lock.
    pub gone: bool,
}

/// Every epoch that has a record, ascending, and the greatest in the seals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Epochs {
    /// From records.
    pub records: Vec<Claimed>,
    /// From the newest slots and snapshots.
    pub sealed: Option<Epoch>,
}

impl Epochs {
    /// For [`next_epoch`] and [`is_wiped`].
    pub fn facts(&self) -> EpochFacts {
        EpochFacts {
            newest_record: self.records.last().map(|record| record.epoch),
            newest_seal: self.sealed,
            any_opened: self.records.iter().any(|record| record.opened || record.closed.is_some()),
        }
    }

    /// Those below `epoch` whose owners may still have something to finish. Whoever opened an epoch has fenced all that
    /// were before it.
    fn unfinished(&self, epoch: Epoch) -> impl Iterator<Item = &Claimed> {
        let below = move |record: &&Claimed| record.epoch < epoch;
        let opened = self.records.iter().filter(below).filter(|record| record.opened);
        let from = opened.map(|record| record.epoch).max();
        self.records.iter().filter(below).filter(move |record| from.is_none_or(|from| record.epoch >= from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_what_the_clock_says_that_moved_further() {
        let at = |boot, store: i64| Moment {
            boot: Duration::from_secs(boot),
            store: Some(TimestampMs(store * 1000)),
        };
        let blind = Moment { boot: Duration::from_secs(9), store: None };
        for (name, then, now, seconds) in [
            ("both moved", at(1, 1), at(6, 6), 5),
            ("the machine slept without counting", at(1, 1), at(2, 91), 90),
            ("the store's clock was set back", at(1, 100), at(31, 5), 30),
            ("the store has not told", blind, at(10, 500), 1),
        ] {
            assert_eq!(then.age(&now), Duration::from_secs(seconds), "{name}");
        }
    }

    #[test]
    fn a_name_is_proved_only_at_the_end_of_the_chain() {
        let txid = |n| Txid::new(n).expect("not zero");
        let free = Look::default();
        for (name, look, mine, proves) in [
            ("free", free, false, true),
            ("taken", Look { taken: true, ..free }, false, false),
            ("taken by ourselves", Look { taken: true, ..free }, true, true),
            ("covered, so it was used and freed", Look { covered: Some(txid(7)), ..free }, true, false),
            ("what lies before is covered", Look { covered: Some(txid(6)), ..free }, false, true),
            ("somebody claims", Look { higher: Some(Epoch::FIRST), ..free }, true, false),
        ] {
            assert_eq!(look.proves(txid(7), mine), proves, "{name}");
        }
    }
}
