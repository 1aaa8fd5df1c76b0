//! Where a level lacks a file, told from the listing alone.
//!
//! Three holes are no loss: slots that a higher level holds, whole images that went to level 9 (each has a snapshot that
//! ends with it), and what lies below retention's floor, where a round may be under way or was cut short.

use litekeep_core::restore::{Catalog, LtxFile, hole_above, restore_points};
use litekeep_formats::{Level, Txid, TxidRange};

/// Who still carries what a hole lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    /// Lower levels do, all of it: no state is lost.
    Lower,
    /// Other levels do: states in between are lost, those at the ends are not.
    Coarser,
    /// Nobody does.
    Nobody,
}

/// Transactions that a level should hold and does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Of no level in particular: between what one level holds and what the next one does.
    pub(super) level: Option<Level>,
    pub(super) missing: TxidRange,
    pub(super) carried: Carried,
}

/// All gaps, by level. `floor` is retention's: nothing that ends before it need be there.
pub(super) fn gaps(catalog: &Catalog, floor: Option<Txid>) -> Vec<Gap> {
    let mut found: Vec<Gap> = Vec::new();
    for level in Level::all().filter(|level| *level != Level::SNAPSHOTS) {
        for hole in holes(catalog.level(level)) {
            let Some(hole) = unexcused(catalog, hole, floor) else { continue };
            let carried = carried(catalog, level, hole);
            // Slots are deleted once they are in a higher level.
            if level != Level::SLOTS || carried == Carried::Nobody {
                found.push(Gap { level: Some(level), missing: hole, carried });
            }
        }
    }
    let mut reached = restore_points(catalog).first().copied();
    while let Some(hole) = hole_above(catalog, reached) {
        let known = found.iter().any(|gap| gap.carried == Carried::Nobody && overlap(gap.missing, hole));
        let missing = unexcused(catalog, hole, floor).filter(|_| !known);
        found.extend(missing.map(|missing| Gap { level: None, missing, carried: Carried::Nobody }));
        reached = Some(hole.max());
    }
    found
}

/// Between the files of one level, ascending by where they begin.
fn holes(files: &[LtxFile]) -> Vec<TxidRange> {
    let mut found = Vec::new();
    let mut reached: Option<Txid> = None;
    for file in files {
        if let (Some(reached), Some(last)) = (reached, file.range.min().previous())
            && last > reached
        {
            found.extend(TxidRange::new(reached.next(), last));
        }
        reached = reached.max(Some(file.range.max()));
    }
    found
}

/// What of a hole is one: the part above the floor, unless a snapshot stands for each of its transactions.
fn unexcused(catalog: &Catalog, hole: TxidRange, floor: Option<Txid>) -> Option<TxidRange> {
    let first = floor.map_or(hole.min(), |floor| hole.min().max(floor.next()));
    let hole = TxidRange::new(first, hole.max())?;
    let images = catalog.snapshots().iter().filter(|file| overlap(TxidRange::single(file.range.max()), hole));
    let transactions = hole.max().get() - hole.min().get() + 1;
    (images.count() as u64 != transactions).then_some(hole)
}

fn carried(catalog: &Catalog, level: Level, hole: TxidRange) -> Carried {
    let by = |which: &dyn Fn(Level) -> bool| {
        let mut ranges: Vec<TxidRange> = catalog
            .files()
            .filter(|file| file.level != Level::SNAPSHOTS && file.level != level && which(file.level))
            .map(|file| file.range)
            .filter(|range| overlap(*range, hole))
            .collect();
        ranges.sort_by_key(|&range| range.min());
        let mut next = hole.min();
        for range in ranges {
            if range.min() > next {
                return false;
            }
            next = next.max(range.max().next());
        }
        next > hole.max()
    };
    match (by(&|other| other < level), by(&|_| true)) {
        (true, _) => Carried::Lower,
        (false, true) => Carried::Coarser,
        (false, false) => Carried::Nobody,
    }
}

fn overlap(a: TxidRange, b: TxidRange) -> bool {
    a.min() <= b.max() && b.min() <= a.max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::TimestampMs;

    fn catalog(files: &[(u8, u64, u64)]) -> Catalog {
        let txid = |id| Txid::new(id).expect("not zero");
        let file = |(level, min, max): &(u8, u64, u64)| LtxFile {
            level: Level::new(*level).expect("0 to 9"),
            range: TxidRange::new(txid(*min), txid(*max)).expect("a range"),
            size: 1,
            modified: TimestampMs(0),
            timestamp: None,
        };
        files.iter().map(file).collect()
    }

    #[test]
    fn a_hole_is_a_gap_unless_somebody_stands_for_it() {
        use Carried::{Coarser, Lower, Nobody};
        type Row<'a> = (&'a str, &'a [(u8, u64, u64)], Option<u64>, &'a [(Option<u8>, u64, u64, Carried)]);
        let rows: &[Row<'_>] = &[
            ("whole", &[(0, 1, 1), (0, 2, 2), (1, 1, 2)], None, &[]),
            ("a slot is missing", &[(0, 1, 1), (0, 3, 3)], None, &[(Some(0), 2, 2, Nobody)]),
            ("level 1 holds it", &[(0, 1, 1), (0, 3, 3), (1, 1, 2)], None, &[]),
            ("level 1 holds half", &[(0, 1, 1), (0, 4, 4), (1, 1, 2)], None, &[(Some(0), 2, 3, Nobody)]),
            ("between levels", &[(1, 1, 2), (0, 4, 4)], None, &[(None, 3, 3, Nobody)]),
            ("of level 1", &[(1, 1, 2), (1, 5, 6), (2, 1, 6)], None, &[(Some(1), 3, 4, Coarser)]),
            (
                "of level 2",
                &[(1, 1, 2), (1, 3, 4), (1, 5, 6), (2, 1, 2), (2, 5, 6)],
                None,
                &[(Some(2), 3, 4, Lower)],
            ),
            ("a whole image in level 9", &[(0, 1, 1), (1, 1, 1), (1, 3, 3), (9, 1, 2)], None, &[]),
            ("a later snapshot", &[(1, 1, 1), (1, 4, 4), (9, 1, 4)], None, &[(Some(1), 2, 3, Nobody)]),
            ("two whole images", &[(1, 1, 1), (1, 4, 4), (9, 1, 2), (9, 1, 3)], None, &[]),
            (
                "a snapshot that ends with the hole stands for one of two",
                &[(1, 1, 1), (1, 4, 4), (9, 1, 3)],
                None,
                &[(Some(1), 2, 3, Nobody)],
            ),
            (
                "half of it below the floor",
                &[(1, 1, 1), (1, 5, 5), (9, 1, 2), (9, 1, 5)],
                Some(2),
                &[(Some(1), 3, 4, Nobody)],
            ),
            ("below the floor", &[(1, 1, 1), (1, 4, 4), (9, 1, 4)], Some(4), &[]),
            ("what retention took", &[(1, 5, 6), (0, 7, 7), (9, 1, 4), (9, 1, 6)], None, &[]),
        ];
        for (name, files, floor, expected) in rows {
            let found = gaps(&catalog(files), floor.and_then(Txid::new));
            let found: Vec<_> = found
                .iter()
                .map(|gap| {
                    let range = (gap.missing.min().get(), gap.missing.max().get());
                    (gap.level.map(Level::get), range.0, range.1, gap.carried)
                })
                .collect();
            assert_eq!(found, *expected, "{name}");
        }
    }
}
