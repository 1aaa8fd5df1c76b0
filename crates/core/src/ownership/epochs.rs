//! Epochs: who claims, who opened, which number is next. (Handing over between two live owners is not decided here.)

use crate::limits::EPOCH_LEAP;
use litekeep_formats::Epoch;

/// What the bucket shows of epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpochFacts {
    /// Greatest epoch of any record object.
    pub newest_record: Option<Epoch>,
    /// Greatest epoch in the seals of the newest slots and snapshots.
    pub newest_seal: Option<Epoch>,
    /// Whether any epoch was ever opened or closed.
    pub any_opened: bool,
}

/// Which epoch to claim next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextEpoch {
    /// This one.
    Claim(Epoch),
    /// A record lies absurdly far above every seal: not to be believed.
    Damaged(Epoch),
}

/// The epoch after the greatest that records and seals show, so that neither a lifecycle rule that removes records nor
/// an unfinished claim can send epochs backwards.
pub fn next_epoch(facts: &EpochFacts) -> NextEpoch {
    let sealed = facts.newest_seal.map_or(0, Epoch::get);
    match facts.newest_record {
        Some(record) if record.get() > sealed.saturating_add(EPOCH_LEAP) => NextEpoch::Damaged(record),
        record => {
            let greatest = record.map_or(0, Epoch::get).max(sealed);
            NextEpoch::Claim(Epoch::new(greatest).map_or(Epoch::FIRST, Epoch::next))
        }
    }
}

/// Whether the replica was wiped: somebody owned it, and no level holds anything. Claims alone are unfinished first
/// starts.
pub fn is_wiped(facts: &EpochFacts, any_data: bool) -> bool {
    facts.any_opened && !any_data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(n: u64) -> Option<Epoch> {
        Epoch::new(n)
    }

    #[test]
    fn the_next_epoch_is_past_every_record_and_every_seal() {
        let claim = |n| NextEpoch::Claim(Epoch::new(n).expect("not zero"));
        let rows = [
            ("a first start", None, None, claim(1)),
            ("records gone, seals left", None, epoch(7), claim(8)),
            ("twenty claims that died", epoch(20), None, claim(21)),
            ("at the leap", epoch(EPOCH_LEAP), None, claim(EPOCH_LEAP + 1)),
            ("one past the leap", epoch(EPOCH_LEAP + 1), None, {
                NextEpoch::Damaged(Epoch::new(EPOCH_LEAP + 1).expect("not zero"))
            }),
            ("the leap counts from the seals", epoch(EPOCH_LEAP + 5), epoch(5), claim(EPOCH_LEAP + 6)),
        ];
        for (name, newest_record, newest_seal, expected) in rows {
            let facts = EpochFacts { newest_record, newest_seal, any_opened: false };
            assert_eq!(next_epoch(&facts), expected, "{name}");
        }
    }

    #[test]
    fn claims_alone_are_not_a_wiped_replica() {
        let claimed = EpochFacts { newest_record: epoch(3), ..EpochFacts::default() };
        let opened = EpochFacts { any_opened: true, ..claimed };
        assert!(!is_wiped(&claimed, false));
        assert!(is_wiped(&opened, false));
        assert!(!is_wiped(&opened, true));
    }
}
