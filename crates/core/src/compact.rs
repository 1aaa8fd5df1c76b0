//! Which files of a level are merged into one of the next.
//!
//! A unit is bounded, and each one that is done stays done (R35). Whole images are not merged upwards level after
//! level (R36): they become a snapshot of level 9, and the levels have a hole there that this snapshot bridges, which
//! Litestream's readers accept (tried with 0.5.17).

use crate::restore::{Catalog, LtxFile};
use alloc::vec::Vec;
use litekeep_formats::{Level, Txid, TxidRange};

/// How much one unit may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files at most.
    pub inputs: usize,
    /// Bytes at most; a single larger file is a unit of its own.
    pub bytes: u64,
}

impl Limits {
    /// What the engine uses: few enough inputs to read them all at once, little enough to lose by a crash.
    pub const USUAL: Self = Self { inputs: 256, bytes: 1 << 30 };
}

/// Files of one level that become one file of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Where the result goes.
    pub to: Level,
    /// Ascending, each beginning at or below the end of the one before plus one.
    pub inputs: Vec<LtxFile>,
}

impl Unit {
    /// What the result covers.
    pub fn range(&self) -> Option<TxidRange> {
        TxidRange::new(self.inputs.first()?.range.min(), self.inputs.last()?.range.max())
    }
}

/// The next thing to do for a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Everything of the source level is in the next one.
    Nothing,
    /// Merge these.
    Unit(Unit),
    /// These TXIDs are in neither level and no snapshot bridges them: compaction stops until a snapshot does (R32).
    Hole(TxidRange),
}

/// The next unit from `from` upwards: what Litestream takes too, all files past the destination's newest TXID, but
/// bounded. `bridged` are the ends of whole images whose snapshot stands: they are passed over.
pub fn next_unit(catalog: &Catalog, from: Level, limits: Limits, bridged: &[Txid]) -> Next {
    let Some(to) = Level::new(from.get() + 1).filter(|to| *to < Level::SNAPSHOTS) else {
        return Next::Nothing;
    };
    let mut sources: Vec<LtxFile> = catalog.level(from).to_vec();
    // Of files that begin alike the one that reaches furthest serves for all (R31).
    sources.sort_by_key(|file| (file.range.min(), core::cmp::Reverse(file.range.max())));
    let mut reached = catalog.level(to).iter().map(|file| file.range.max().get()).max().unwrap_or(0);
    let (mut inputs, mut bytes): (Vec<LtxFile>, u64) = (Vec::new(), 0);
    for file in sources {
        if file.range.max().get() <= reached {
            continue;
        }
        if let Some(missing) = between(reached, file.range) {
            if !inputs.is_empty() {
                break;
            }
            if !is_bridged(catalog, missing) {
                return Next::Hole(missing);
            }
        }
        if bridged.contains(&file.range.max()) {
            if !inputs.is_empty() {
                break;
            }
            reached = file.range.max().get();
            continue;
        }
        bytes = bytes.saturating_add(file.size);
        if !inputs.is_empty() && (inputs.len() >= limits.inputs || bytes > limits.bytes) {
            break;
        }
        reached = file.range.max().get();
        inputs.push(file);
    }
    if inputs.is_empty() { Next::Nothing } else { Next::Unit(Unit { to, inputs }) }
}

/// What lies between a state and a file that begins past it.
fn between(reached: u64, range: TxidRange) -> Option<TxidRange> {
    TxidRange::new(Txid::new(reached + 1)?, range.min().previous()?)
}

/// Whether a snapshot stands for the end of a hole, or for something past it.
fn is_bridged(catalog: &Catalog, hole: TxidRange) -> bool {
    catalog.snapshots().iter().any(|file| file.range.max() >= hole.max())
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::TimestampMs;
    use proptest::prelude::*;

    fn file((level, min, max, size): (u8, u64, u64, u64)) -> LtxFile {
        let txid = |id| Txid::new(id).expect("not zero");
        LtxFile {
            level: Level::new(level).expect("0 to 9"),
            range: TxidRange::new(txid(min), txid(max)).expect("min <= max"),
            size,
            modified: TimestampMs(0),
            timestamp: None,
        }
    }

    fn catalog(files: &[(u8, u64, u64)]) -> Catalog {
        files.iter().map(|(level, min, max)| file((*level, *min, *max, 10))).collect()
    }

    fn range(min: u64, max: u64) -> TxidRange {
        file((0, min, max, 0)).range
    }

    fn shape(next: Next) -> Result<Vec<(u64, u64)>, Option<TxidRange>> {
        match next {
            Next::Unit(unit) => {
                Ok(unit.inputs.iter().map(|f| (f.range.min().get(), f.range.max().get())).collect())
            }
            Next::Hole(hole) => Err(Some(hole)),
            Next::Nothing => Err(None),
        }
    }

    #[test]
    fn a_unit_is_everything_past_the_next_level_up_to_its_bounds() {
        let check =
            |name: &str, files: &[(u8, u64, u64)], from, limits: (usize, u64), bridged: &[u64], expected| {
                let bridged: Vec<Txid> = bridged.iter().filter_map(|id| Txid::new(*id)).collect();
                let limits = Limits { inputs: limits.0, bytes: limits.1 };
                let from = Level::new(from).expect("0 to 9");
                assert_eq!(shape(next_unit(&catalog(files), from, limits, &bridged)), expected, "{name}");
            };
        let many = (100, 1000);
        let slots = [(0, 1, 1), (0, 2, 2), (0, 3, 3)];
        check("all slots", &slots, 0, many, &[], Ok(alloc::vec![(1, 1), (2, 2), (3, 3)]));
        check("no more than two", &slots, 0, (2, 1000), &[], Ok(alloc::vec![(1, 1), (2, 2)]));
        check("no more than 25 bytes", &slots, 0, (9, 25), &[], Ok(alloc::vec![(1, 1), (2, 2)]));
        check("one that is too large alone", &slots, 0, (9, 5), &[], Ok(alloc::vec![(1, 1)]));
        check("done", &[(0, 1, 1), (0, 2, 2), (1, 1, 2)], 0, many, &[], Err(None));
        check(
            "the rest",
            &[(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 1, 2)],
            0,
            many,
            &[],
            Ok(alloc::vec![(3, 3)]),
        );
        check("an image whose snapshot stands", &slots, 0, many, &[1], Ok(alloc::vec![(2, 2), (3, 3)]));
        check("an image ends a unit", &slots, 0, many, &[2], Ok(alloc::vec![(1, 1)]));
        check("a hole", &[(0, 1, 1), (0, 4, 4), (1, 1, 1)], 0, many, &[], Err(Some(range(2, 3))));
        check("a hole ends a unit", &[(0, 1, 1), (0, 4, 4)], 0, many, &[], Ok(alloc::vec![(1, 1)]));
        check(
            "a bridged hole",
            &[(0, 4, 4), (0, 5, 5), (1, 1, 1), (9, 1, 3)],
            0,
            many,
            &[],
            Ok(alloc::vec![(4, 4), (5, 5)]),
        );
        check("from level 1", &[(1, 1, 4), (1, 5, 9), (2, 1, 4)], 1, many, &[], Ok(alloc::vec![(5, 9)]));
        check(
            "R31: overlapping",
            &[(1, 1, 4), (1, 1, 6), (1, 5, 8)],
            1,
            many,
            &[],
            Ok(alloc::vec![(1, 6), (5, 8)]),
        );
        check("never into level 9", &[(8, 1, 4)], 8, many, &[], Err(None));
    }

    proptest! {
        #[test]
        fn r35_units_one_after_another_end_and_cover_every_slot(
            count in 1_u64..400, inputs in 1_usize..20, bytes in 1_u64..500, sizes in prop::collection::vec(1_u64..100, 400),
        ) {
            let mut catalog: Catalog = (1..=count)
                .zip(sizes)
                .map(|(id, size)| file((0, id, id, size)))
                .collect();
            let limits = Limits { inputs, bytes };
            let mut reached = 0;
            let mut units = 0;
            while let Next::Unit(unit) = next_unit(&catalog, Level::SLOTS, limits, &[]) {
                let size: u64 = unit.inputs.iter().map(|f| f.size).sum();
                prop_assert!(unit.inputs.len() <= inputs && (unit.inputs.len() == 1 || size <= bytes));
                let range = unit.range().expect("inputs");
                prop_assert_eq!(range.min().get(), reached + 1);
                reached = range.max().get();
                catalog.insert(LtxFile { level: unit.to, range, size, ..unit.inputs[0] });
                units += 1;
                prop_assert!(units <= count);
            }
            prop_assert_eq!(reached, count);
        }
    }
}
