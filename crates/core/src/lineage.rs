//! Is the local file on the bucket's chain? Compared at start, before anything is claimed or written.
//!
//! The only verdicts that let the engine write are those that prove that the file continues the chain. A file that
//! is merely different stops the start: picking a side would lose the other one (failures R20 to R24, R26).

use core::fmt;
use litekeep_formats::ltx::WalSpan;
use litekeep_formats::{Checksum, Epoch, PageSize, TimestampMs, Txid};

/// What the engine recorded about this very file when it last ran (or restored it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalRecord {
    /// The last slot that was built from this file, or restored into it.
    pub txid: Txid,
    /// That slot's file checksum, where known.
    pub slot: Option<Checksum>,
    /// The rolling database checksum after it, where known.
    pub database: Option<Checksum>,
    /// The oldest slot that is still staged here, waiting for its put.
    pub oldest_staged: Option<Txid>,
    /// The file checksum that the oldest staged slot's seal names as its predecessor's.
    pub staged_predecessor: Option<Checksum>,
    /// The file checksum of the slot that was built here under the tip's number, where that lies below `txid` and the
    /// slot is still kept.
    pub slot_at_tip: Option<Checksum>,
    /// The rolling database checksum after that slot.
    pub database_at_tip: Option<Checksum>,
    /// What became of slot `txid`, where the chain has gone on past it.
    pub fate: Fate,
    /// The file may hold commits past `txid`.
    pub ahead: bool,
    /// An earlier state was restored into it on purpose, when this was the replica's newest.
    pub rewound_from: Option<Txid>,
}

/// What became of the newest slot that the record speaks of. A number says nothing of whose slot it is: what was staged
/// here and never put, or refused, has the number of somebody else's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The chain holds it: it is there, or its put was answered, or what it was merged into shows it.
    Held,
    /// Another slot stands under its number.
    Other,
    /// It may never have been put, and nothing shows that the chain holds it.
    Unknown,
}

/// The bucket's newest state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteTip {
    /// Greatest TXID of any level.
    pub txid: Txid,
    /// The file checksum of slot `txid`, where that slot is there.
    pub slot: Option<Checksum>,
    /// The sealed database checksum at `txid`.
    pub database: Option<Checksum>,
    /// The seal's epoch; `None` for a file by Litestream.
    pub epoch: Option<Epoch>,
    /// Bytes of a page, and how many pages the database has there.
    pub page_size: PageSize,
    /// See `page_size`.
    pub commit: u32,
    /// The tip's own time.
    pub timestamp: TimestampMs,
    /// Which part of which life of the WAL its slot was made from; all zero where that is not known.
    pub wal: WalSpan,
}

/// How the local file and the chain lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lineage {
    /// Nothing is in the bucket: begin a chain.
    Begin,
    /// The file is at the tip or past it by its own doing: go on.
    Continue,
    /// Ours, but the bucket lacks slots that it had confirmed: go on, and mend with a snapshot.
    Mend,
    /// No record; whether the file equals the tip must be found out by comparing content.
    Compare,
    /// The file is an earlier state of the chain, without changes of its own.
    Ancestor,
    /// The file is an earlier state that somebody chose, perhaps with changes on top, and nothing was added to the
    /// chain since: what it holds becomes the chain's next state.
    Rewind,
    /// The file has changes that the chain has not, and the chain has slots that the file has not.
    Beside(BesideReason),
}

/// Why a file is beside the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BesideReason {
    /// Somebody else wrote the slot that we wrote.
    OtherSlot,
    /// The bucket went on without us while this file had changes of its own.
    BothWentOn,
    /// There is no record that this file came from the chain, and its content is not the tip's.
    Unknown,
}

impl fmt::Display for BesideReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherSlot => "another writer put a different transaction under the same number",
            Self::BothWentOn => "the replica went on without this file, and this file has changes of its own",
            Self::Unknown => "nothing shows that this file came from the replica, and its content differs",
        })
    }
}

/// Compares what is known of the file with the bucket's tip.
pub fn compare(local: Option<&LocalRecord>, tip: Option<&RemoteTip>) -> Lineage {
    match (local, tip) {
        (None, None) => Lineage::Begin,
        // Staged, and the power went before the first put: the chain is all here, it only has to go up.
        (Some(local), None) if local.oldest_staged == Some(Txid::FIRST) => Lineage::Continue,
        (Some(_), None) => Lineage::Mend,
        (None, Some(_)) => Lineage::Compare,
        (Some(local), Some(tip)) => compare_both(local, tip),
    }
}

fn compare_both(local: &LocalRecord, tip: &RemoteTip) -> Lineage {
    use core::cmp::Ordering::{Equal, Greater, Less};
    match tip.txid.cmp(&local.txid) {
        Equal => {
            if differ(local.slot, tip.slot) || differ(local.database, tip.database) {
                Lineage::Beside(BesideReason::OtherSlot)
            } else {
                Lineage::Continue
            }
        }
        Less if differ(local.slot_at_tip, tip.slot) || differ(local.database_at_tip, tip.database) => {
            Lineage::Beside(BesideReason::OtherSlot)
        }
        Less => match local.oldest_staged {
            Some(staged) if staged == tip.txid.next() && differ(local.staged_predecessor, tip.slot) => {
                Lineage::Beside(BesideReason::OtherSlot)
            }
            Some(staged) if staged <= tip.txid.next() => Lineage::Continue,
            _ => Lineage::Mend,
        },
        Greater if local.rewound_from == Some(tip.txid) => Lineage::Rewind,
        Greater if local.fate == Fate::Other => Lineage::Beside(BesideReason::OtherSlot),
        Greater if local.ahead || local.fate == Fate::Unknown || local.oldest_staged.is_some() => {
            Lineage::Beside(BesideReason::BothWentOn)
        }
        Greater => Lineage::Ancestor,
    }
}

/// Both known, and not the same.
fn differ(a: Option<Checksum>, b: Option<Checksum>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txid(n: u64) -> Txid {
        Txid::new(n).expect("not zero")
    }

    fn local(n: u64, slot: u64, staged: Option<u64>, ahead: bool) -> LocalRecord {
        LocalRecord {
            txid: txid(n),
            slot: Some(Checksum::from_crc(slot)),
            database: None,
            oldest_staged: staged.map(txid),
            staged_predecessor: Some(Checksum::from_crc(2)),
            slot_at_tip: None,
            database_at_tip: None,
            fate: Fate::Held,
            ahead,
            rewound_from: None,
        }
    }

    fn rewound(from: u64) -> LocalRecord {
        LocalRecord { rewound_from: Some(txid(from)), ..local(5, 1, None, true) }
    }

    fn met(fate: Fate) -> LocalRecord {
        LocalRecord { fate, ..local(5, 1, None, false) }
    }

    fn kept_at_tip(slot: u64, database: u64) -> LocalRecord {
        LocalRecord {
            slot_at_tip: Some(Checksum::from_crc(slot)),
            database_at_tip: Some(Checksum::from_crc(database)),
            ..local(9, 1, None, true)
        }
    }

    fn tip(n: u64, slot: u64) -> RemoteTip {
        RemoteTip {
            txid: txid(n),
            slot: Some(Checksum::from_crc(slot)),
            database: None,
            epoch: Epoch::new(1),
            page_size: PageSize::MAX,
            commit: 1,
            timestamp: TimestampMs(0),
            wal: WalSpan::default(),
        }
    }

    #[test]
    fn every_relation_of_file_and_chain() {
        let rows = [
            ("a new database", None, None, Lineage::Begin),
            ("R26: a fresh file over a good backup", None, Some(tip(9, 1)), Lineage::Compare),
            ("a plain restart", Some(local(9, 1, None, true)), Some(tip(9, 1)), Lineage::Continue),
            ("R24: our number, their slot", Some(local(9, 1, None, false)), Some(tip(9, 2)), {
                Lineage::Beside(BesideReason::OtherSlot)
            }),
            ("staged slots wait", Some(local(9, 1, Some(8), true)), Some(tip(7, 2)), Lineage::Continue),
            ("staged on top of another writer's slot", Some(local(9, 1, Some(8), true)), Some(tip(7, 3)), {
                Lineage::Beside(BesideReason::OtherSlot)
            }),
            ("R32: a confirmed slot is gone", Some(local(9, 1, None, false)), Some(tip(7, 2)), Lineage::Mend),
            (
                "R32: a hole below the staged",
                Some(local(9, 1, Some(9), false)),
                Some(tip(7, 2)),
                Lineage::Mend,
            ),
            ("a crash before the first put", Some(local(2, 1, Some(1), false)), None, Lineage::Continue),
            ("everything is gone", Some(local(9, 1, None, false)), None, Lineage::Mend),
            (
                "R22: a stale file without changes",
                Some(local(5, 1, None, false)),
                Some(tip(7, 2)),
                Lineage::Ancestor,
            ),
            ("R22: a stale file with changes", Some(local(5, 1, None, true)), Some(tip(7, 2)), {
                Lineage::Beside(BesideReason::BothWentOn)
            }),
            (
                "our slot lies in the chain below its tip",
                Some(met(Fate::Held)),
                Some(tip(7, 2)),
                Lineage::Ancestor,
            ),
            ("R24: our number below the tip, their slot", Some(met(Fate::Other)), Some(tip(7, 2)), {
                Lineage::Beside(BesideReason::OtherSlot)
            }),
            ("R23: never put perhaps, its name freed since", Some(met(Fate::Unknown)), Some(tip(7, 2)), {
                Lineage::Beside(BesideReason::BothWentOn)
            }),
            (
                "a hole among the staged, above our own",
                Some(kept_at_tip(2, 3)),
                Some(tip(7, 2)),
                Lineage::Mend,
            ),
            ("R24: a hole among the staged, above theirs", Some(kept_at_tip(4, 3)), Some(tip(7, 2)), {
                Lineage::Beside(BesideReason::OtherSlot)
            }),
            (
                "R24: the same, and their slot's name was freed",
                Some(kept_at_tip(2, 3)),
                Some(RemoteTip { slot: None, database: Some(Checksum::from_crc(4)), ..tip(7, 2) }),
                Lineage::Beside(BesideReason::OtherSlot),
            ),
            ("R21: an earlier state was chosen", Some(rewound(7)), Some(tip(7, 2)), Lineage::Rewind),
            ("R21: chosen, but the chain went on since", Some(rewound(6)), Some(tip(7, 2)), {
                Lineage::Beside(BesideReason::BothWentOn)
            }),
            ("R23: staged here, gone on there", Some(local(5, 1, Some(5), false)), Some(tip(7, 2)), {
                Lineage::Beside(BesideReason::BothWentOn)
            }),
        ];
        for (name, local, tip, expected) in rows {
            assert_eq!(compare(local.as_ref(), tip.as_ref()), expected, "{name}");
        }
    }
}
