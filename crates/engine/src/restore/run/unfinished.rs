//! What a restore makes of images that were announced and not finished, or that came when others had gone on without
//! them: they are no states, and never were.

use super::{Run, Way};
use crate::merge::is_whole;
use crate::restore::ending::{doubtful, ended, find_image, image, passed};
use crate::restore::look::{self, Look};
use crate::restore::{Note, RestoreError};
use litekeep_core::limits;
use litekeep_core::restore::{Catalog, LtxFile, Point, Target, points};
use litekeep_formats::ltx::Header;
use litekeep_formats::{Level, Txid, TxidRange};
use std::borrow::Cow;

/// Images that others went on without, as long as they lie there.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// From each one's announcement to the last of the slots without pages behind it.
    runs: Vec<TxidRange>,
    /// These slots, and the images.
    files: Vec<(Level, TxidRange)>,
}

impl Passed {
    fn holds(&self, txid: Txid) -> bool {
        self.runs.iter().any(|&run| run.min() <= txid && txid <= run.max())
    }

    /// Whether nothing but these files ends there.
    pub(super) fn is_no_state(&self, catalog: &Catalog, txid: Txid) -> bool {
        self.holds(txid) && self.left_for(catalog, txid).files().all(|file| file.range.max() != txid)
    }

    /// What a state can be made of. What follows such an image begins with another one, and is planned right across it.
    pub(super) fn left_for<'a>(&self, catalog: &'a Catalog, txid: Txid) -> Cow<'a, Catalog> {
        if self.holds(txid) { Cow::Owned(catalog.without(&self.files)) } else { Cow::Borrowed(catalog) }
    }

    /// All candidates of a search by time. Among these slots a state is only what was merged without the image.
    pub(super) fn points(&self, catalog: &Catalog) -> Vec<Point> {
        let mut found = points(catalog);
        if !self.runs.is_empty() {
            let merged = points(&catalog.without(&self.files)).into_iter();
            found.retain(|point| !self.holds(point.txid));
            found.extend(merged.filter(|point| point.restorable && self.holds(point.txid)));
            found.sort_by_key(|point| point.txid);
        }
        found
    }
}

impl Run<'_> {
    /// An image that was announced and not finished is no state, and nothing of it was confirmed.
    pub(super) fn leave_unfinished(&mut self, look: &mut Look) -> Result<(), RestoreError> {
        let ended = ended(self.store(), &look.catalog, self.options.parallelism)?;
        self.notes.retain(|note| !matches!(note, Note::Unfinished(_)));
        if let Some(last) = ended.unfinished {
            self.notes.push(Note::Unfinished(last.txid));
            look.catalog = look.catalog.up_to(ended.at);
        }
        Ok(())
    }

    /// An image that others went on without may still lie there, until their owner removes it.
    pub(super) fn passed_images(&self, catalog: &Catalog) -> Result<Passed, RestoreError> {
        let mut all = Passed::default();
        if self.options.target == Target::Latest {
            return Ok(all);
        }
        for txid in passed(self.store(), &doubtful(catalog))? {
            let (last, _) = self.run_behind(catalog, txid)?;
            all.runs.extend(TxidRange::new(txid, last));
            all.files.extend(image(txid).map(|range| (Level::SNAPSHOTS, range)));
        }
        let in_run = |slot: &&LtxFile| all.holds(slot.range.max());
        all.files
            .extend(catalog.level(Level::SLOTS).iter().filter(in_run).map(LtxFile::id).collect::<Vec<_>>());
        Ok(all)
    }

    /// Whether what this slot announces was never finished. It is no state then, nor are the slots without pages behind it.
    pub(super) fn was_passed(&mut self, way: &Way, file: &LtxFile) -> Result<bool, RestoreError> {
        let Way::Ltx(_, catalog) = way else { return Ok(false) };
        let (last, next) = self.run_behind(catalog, file.range.max())?;
        let alone = last == file.range.max();
        // Pages right behind it are laid over it, unless they are all there are.
        if alone && next.is_some_and(|header| !header.content_is_elsewhere() && !is_whole(&header)) {
            return Ok(false);
        }
        let ended = ended(self.store(), &catalog.up_to(Some(last)), self.options.parallelism)?;
        let passed = ended.at.is_none_or(|at| at < file.range.max());
        if passed {
            // All of them at once: an owner that died at each of its images leaves many.
            let above =
                |slot: &&LtxFile| ended.at.is_none_or(|at| slot.range.min() > at) && slot.range.max() <= last;
            self.passed.extend(catalog.level(Level::SLOTS).iter().filter(above).map(LtxFile::id));
        }
        Ok(passed)
    }

    /// Whether what this slot announces is there all the same, and was not laid under it.
    pub(super) fn finds_image(&mut self, file: &LtxFile) -> Result<bool, RestoreError> {
        let found = find_image(self.store(), file.range.max())?;
        let news = found.filter(|image| self.unlisted.iter().all(|known| known.id() != image.id()));
        self.unlisted.extend(news);
        Ok(news.is_some())
    }

    /// The last of the slots right behind this one that neither hold pages nor announce any; and the header of the one
    /// behind those.
    fn run_behind(&self, catalog: &Catalog, first: Txid) -> Result<(Txid, Option<Header>), RestoreError> {
        let mut last = first;
        for slot in catalog.level(Level::SLOTS).iter().filter(|slot| slot.range.min() > first) {
            let follows = slot.range == TxidRange::single(last.next());
            let Some(header) = look::header(self.store(), slot)?.filter(|_| follows) else { break };
            if slot.size > limits::BARE_BYTES || header.content_is_elsewhere() {
                return Ok((last, Some(header)));
            }
            last = slot.range.max();
        }
        Ok((last, None))
    }
}
