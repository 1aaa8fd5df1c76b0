//! One file's bytes: what a reader sees now, what is durable, and what a power loss may leave of the difference.
//!
//! The unit of survival is the 512-byte sector. A sector comes back as it was after the last sync or after any later
//! write that touched it; the length comes back as it was after the last sync or after any later change.

use crate::random::SeededRandom;
use std::collections::BTreeSet;
use std::ops::Range;

/// Bytes that a disk writes as a whole.
pub const SECTOR: usize = 512;

/// A change that no sync has covered yet.
#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A file's content.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

/// How the unsynced changes of one file fare in a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// All are gone.
    Gone,
    /// All survive.
    Kept,
    /// The first ones survive, the next one is torn.
    Prefix,
    /// Each survives or not, whatever its order.
    Reordered,
    /// Each sector survives or not, whatever its write.
    Torn,
    /// As `Torn`, and what was allocated but never written holds somebody else's old bytes.
    TornOverGarbage,
}

impl Fate {
    const ALL: [Self; 6] =
        [Self::Gone, Self::Kept, Self::Prefix, Self::Reordered, Self::Torn, Self::TornOverGarbage];

    pub(super) fn any(random: &SeededRandom) -> Self {
        random.pick(&Self::ALL).copied().unwrap_or(Self::Gone)
    }
}

impl Content {
    /// A file whose bytes are on the disk already.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), durable: bytes, changes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn read(&self, buf: &mut [u8], at: usize) -> usize {
        let from = self.now.get(at..).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        n
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        apply(&mut self.now, bytes, at);
        self.changes.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.now.resize(len, 0);
        self.changes.push(Change::Length(len));
    }

    /// Everything written so far is durable.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Write { at, bytes } => {
                    for sector in sectors(at, bytes.len()) {
                        copy_sector(&mut self.durable, &self.now, sector);
                    }
                }
                Change::Length(len) => self.durable.resize(len, 0),
            }
        }
        self.durable.resize(self.now.len(), 0);
    }

    /// A sync that failed: as on Linux the cache keeps the bytes, but takes them for written, so that no later sync
    /// brings them to the disk unless they are written again.
    pub(super) fn fail_sync(&mut self) {
        self.changes.clear();
    }

    /// What the disk holds after the power was lost.
    pub(super) fn after_power_loss(&self, fate: Fate, random: &SeededRandom) -> Vec<u8> {
        let count = self.changes.len();
        // The number of changes whose effect on the length survived.
        let sized = match fate {
            Fate::Gone => 0,
            Fate::Kept => count,
            _ => random.index(count + 1),
        };
        let mut survivor = Survivor { image: self.durable.clone(), written: BTreeSet::new() };
        let mut running = self.durable.clone();
        let mut len = self.durable.len();
        for (index, change) in self.changes.iter().enumerate() {
            match change {
                Change::Write { at, bytes } => {
                    apply(&mut running, bytes, *at);
                    let whole = random.chance(1, 2);
                    for sector in sectors(*at, bytes.len()) {
                        let kept = match fate {
                            Fate::Gone => false,
                            Fate::Kept => true,
                            Fate::Prefix => index < sized || (index == sized && random.chance(1, 2)),
                            Fate::Reordered => whole,
                            Fate::Torn | Fate::TornOverGarbage => random.chance(1, 2),
                        };
                        if kept {
                            survivor.keep(&running, sector);
                        }
                    }
                }
                Change::Length(to) => {
                    running.resize(*to, 0);
                    if index < sized {
                        survivor.image.truncate(*to);
                    }
                }
            }
            if index < sized {
                len = running.len();
            }
        }
        survivor.finish(len, self.durable.len(), (fate == Fate::TornOverGarbage).then_some(random))
    }
}

struct Survivor {
    image: Vec<u8>,
    written: BTreeSet<usize>,
}

impl Survivor {
    fn keep(&mut self, running: &[u8], sector: usize) {
        copy_sector(&mut self.image, running, sector);
        self.written.insert(sector);
    }

    fn finish(mut self, len: usize, durable_len: usize, garbage: Option<&SeededRandom>) -> Vec<u8> {
        self.image.resize(len, 0);
        if let Some(random) = garbage {
            let first = durable_len.div_ceil(SECTOR);
            for sector in (first..len.div_ceil(SECTOR)).filter(|sector| !self.written.contains(sector)) {
                random.fill(&mut self.image[span(sector, len)]);
            }
        }
        self.image
    }
}

fn apply(image: &mut Vec<u8>, bytes: &[u8], at: usize) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

fn sectors(at: usize, len: usize) -> Range<usize> {
    if len == 0 { 0..0 } else { at / SECTOR..(at + len).div_ceil(SECTOR) }
}

fn span(sector: usize, len: usize) -> Range<usize> {
    (sector * SECTOR).min(len)..((sector + 1) * SECTOR).min(len)
}

fn copy_sector(to: &mut Vec<u8>, from: &[u8], sector: usize) {
    let span = span(sector, from.len());
    apply(to, &from[span.clone()], span.start);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivors(content: &Content) -> BTreeSet<Vec<u8>> {
        (0..200)
            .map(|seed| {
                let random = SeededRandom::new(seed);
                content.after_power_loss(Fate::any(&random), &random)
            })
            .collect()
    }

    #[test]
    fn what_was_synced_survives_whatever_the_fate() {
        let mut content = Content::default();
        content.write(&[1; 3 * SECTOR], 0);
        content.sync();
        assert_eq!(survivors(&content).len(), 1);
        content.write(&[2; SECTOR], 3 * SECTOR);
        for image in survivors(&content) {
            assert_eq!(image[..3 * SECTOR], [1; 3 * SECTOR]);
        }
    }

    #[test]
    fn an_unsynced_write_may_vanish_survive_or_tear_and_writes_may_reorder() {
        let mut content = Content::durable(vec![0; 4 * SECTOR]);
        content.write(&[1; 2 * SECTOR], 0);
        content.write(&[2; 2 * SECTOR], 2 * SECTOR);
        let firsts: BTreeSet<_> = survivors(&content)
            .iter()
            .map(|image| [0, 1, 2, 3].map(|sector| image[sector * SECTOR]))
            .collect();
        for expected in [[0, 0, 0, 0], [1, 1, 2, 2], [0, 0, 2, 2], [1, 0, 0, 0], [0, 1, 2, 0]] {
            assert!(firsts.contains(&expected), "{expected:?} never happened in {firsts:?}");
        }
    }

    #[test]
    fn a_sector_is_never_torn_inside() {
        let mut content = Content::durable(vec![0; 2 * SECTOR]);
        content.write(&[7; 100], SECTOR - 50);
        for image in survivors(&content) {
            let halves = (image[SECTOR - 50..SECTOR].to_vec(), image[SECTOR..SECTOR + 50].to_vec());
            assert!([vec![0; 50], vec![7; 50]].contains(&halves.0));
            assert!([vec![0; 50], vec![7; 50]].contains(&halves.1));
        }
    }

    #[test]
    fn a_truncation_that_happened_leaves_no_old_bytes_under_a_regrown_end() {
        let mut content = Content::durable(vec![9; 4 * SECTOR]);
        content.set_len(0);
        content.write(&[1; SECTOR], 3 * SECTOR);
        for image in survivors(&content) {
            let untouched = &image[..image.len().min(3 * SECTOR)];
            assert!(untouched.iter().all(|&b| b == 9) || !untouched.contains(&9), "old and cut bytes mixed");
        }
    }

    #[test]
    fn after_a_failed_sync_a_later_one_does_not_bring_the_bytes_back() {
        let mut content = Content::durable(vec![0; SECTOR]);
        content.write(&[5; SECTOR], 0);
        content.fail_sync();
        content.sync();
        assert_eq!(content.bytes(), [5; SECTOR]);
        assert_eq!(survivors(&content).into_iter().collect::<Vec<_>>(), [vec![0; SECTOR]]);
    }
}
