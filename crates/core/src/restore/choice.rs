//! LTX chain or v0.3 backup, where both lie under one path.

use super::Target;
use litekeep_formats::TimestampMs;

/// What both sides have to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    /// There are LTX files.
    pub ltx: bool,
    /// A sealed LTX file or an opened epoch exists: this replica belongs to us.
    pub sealed: bool,
    /// The time of the newest LTX file.
    pub ltx_newest: Option<TimestampMs>,
    /// The time of the newest LTX snapshot (or, where there is none, of any restore point) before the wanted time.
    pub ltx_before: Option<TimestampMs>,
    /// The time of the newest v0.3 file.
    pub v3_newest: Option<TimestampMs>,
    /// The time of the newest v0.3 snapshot at or before the wanted time.
    pub v3_before: Option<TimestampMs>,
}

/// Which side is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The LTX chain.
    Ltx,
    /// The v0.3 backup.
    V3,
}

/// A sealed chain wins over v0.3 files whatever their times; a time that only v0.3 reaches selects it. Between two
/// backups of Litestream's own the newer one wins, as with Litestream (formats §3).
pub fn choose(target: Target, sides: &Sides) -> Choice {
    if !sides.ltx {
        return if sides.v3_newest.is_some() { Choice::V3 } else { Choice::Ltx };
    }
    if sides.v3_newest.is_none() {
        return Choice::Ltx;
    }
    let v3_is_newer = match target {
        Target::Txid(_) => false,
        Target::Latest => !sides.sealed && sides.v3_newest > sides.ltx_newest,
        Target::Timestamp(_) if sides.sealed => sides.ltx_before.is_none() && sides.v3_before.is_some(),
        Target::Timestamp(_) => sides.v3_before > sides.ltx_before,
    };
    if v3_is_newer { Choice::V3 } else { Choice::Ltx }
}
