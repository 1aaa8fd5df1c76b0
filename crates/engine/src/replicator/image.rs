//! Shipping the whole database: the first slot of a chain, another page size, nothing to compare with, or too much
//! for one slot.

use super::mend::Oldest;
use super::start::position_of;
use super::{Replicator, Report};
use crate::error::{KeepError, is_no_room};
use crate::image;
use crate::jobs::{JobKind, Reporter};
use crate::local::SumsRecord;
use crate::slot::{self, BuildError, Built, SlotHead, SlotWriter};
use crate::sqlite::Scan;
use crate::sums::{Sums, SumsWriter};
use litekeep_core::assess::{BreakReason, Position};
use litekeep_core::limits;
use litekeep_core::restore::LtxFile;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::Marks;
use litekeep_formats::{Checksum, PageSize, Txid};
use std::sync::Arc;

/// An image that is not in level 9 yet.
pub(super) enum Image {
    /// The slot with this number holds every page.
    Slot(Txid),
    /// The slot is empty; the content is what this read transaction shows.
    Stream(Box<(SlotHead, Scan)>),
}

/// Checksums of every page after a slot.
pub(super) struct NewSums {
    /// Of the database.
    pub(super) database: Checksum,
    pub(super) record: SumsRecord,
    pub(super) sums: Sums,
}

impl Image {
    pub(super) fn txid(&self) -> Txid {
        match self {
            Self::Slot(txid) => *txid,
            Self::Stream(stream) => stream.0.txid,
        }
    }
}

impl super::Chain {
    /// The number of the image that is yet to be confirmed.
    pub(super) fn announced(&self) -> Option<Txid> {
        self.announced.map(|slot| slot.built.txid)
    }
}

impl Replicator {
    /// Builds the slot of an image; its content goes up with it, or behind it as a stream.
    pub(super) fn build_image(&mut self, reason: BreakReason) -> Result<(), KeepError> {
        self.settle_state()?;
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::capture::busy()))?;
        let facts = *scan.facts();
        let commit = scan.pages().map_err(self.sqlite())?;
        if commit == 0 {
            return Err(self.sqlite()(super::capture::busy()));
        }
        let next = self.chain.durable.map_or(Txid::FIRST, Txid::next);
        let txid = self.state.as_ref().map_or(next, |state| state.txid.next().max(next));
        let most = if self.no_room { limits::IMAGE_NEEDS_NO_ROOM } else { limits::IMAGE_RAW_BYTES };
        let large = raw_bytes(commit, facts.page_size) > most.min(self.slot_limit() / 2);
        tracing::info!(db = %self.path.display(), %reason, %txid, pages = commit, "shipping a whole image");
        let NewSums { database, record, sums } = self.write_sums(&scan, txid, commit)?;
        let before = Position::before_any_frame(facts.page_size);
        let head = SlotHead {
            txid,
            epoch: self.chain.epoch,
            page_size: facts.page_size,
            commit,
            timestamp: self.timestamp(),
            predecessor: self.state.as_ref().and_then(|state| state.slot),
            database: Some(database),
            marks: if large { Marks::CONTENT_IN_LEVEL_9 } else { Marks::FULL_IMAGE },
            wal: slot::wal_span(&before, &position_of(&facts)),
        };
        let (head, built) = self.write_image(head, &scan).map_err(self.build_failed(txid))?;
        // Asked again, the disk would only be filled again, and the application is on it as well.
        self.no_room |= !large && head.marks.contains(Marks::CONTENT_IN_LEVEL_9);
        let large = head.marks.contains(Marks::CONTENT_IN_LEVEL_9);
        self.slot_built(head, built, position_of(&facts), Some(record))?;
        self.sums = Some(sums);
        self.image = Some(if large { Image::Stream(Box::new((head, scan))) } else { Image::Slot(txid) });
        self.last_slot = Some(self.env.clock.boot());
        // The array that the last image left is of no use any more.
        self.local.tidy(self.state()).map_err(self.io("remove old checksums in"))?;
        self.shared.update(|status| status.images += 1);
        Ok(())
    }

    /// A new checksum array of everything that the scan shows.
    pub(super) fn write_sums(&self, scan: &Scan, txid: Txid, commit: u32) -> Result<NewSums, KeepError> {
        let io = self.io("write the page checksums in");
        let mut writer = SumsWriter::create(&*self.env.files, self.local.dir(), txid).map_err(&io)?;
        scan.for_each(|page, data| Ok::<_, BuildError>(writer.page(page, page_checksum(page, data))?))
            .map_err(self.build_failed(txid))?;
        let database = writer.finish(commit).map_err(&io)?;
        let record = SumsRecord { begun: txid, flushed: txid, commit };
        let sums = Sums::open(&*self.env.files, self.local.dir(), &record, scan.page_size());
        Ok(NewSums { database, record, sums: sums.map_err(self.io("read the page checksums in"))? })
    }

    /// The slot of an image: with every page, or empty where those go to level 9. That is so too where the local disk has
    /// no room for a large one.
    fn write_image(&self, head: SlotHead, scan: &Scan) -> Result<(SlotHead, Built), BuildError> {
        let empty = SlotHead { marks: Marks::CONTENT_IN_LEVEL_9, ..head };
        if head.marks == empty.marks {
            return Ok((empty, self.write_image_slot(empty, None)?));
        }
        match self.write_image_slot(head, Some(scan)) {
            Ok(built) => Ok((head, built)),
            Err(BuildError::Io(error))
                if is_no_room(&error)
                    && raw_bytes(head.commit, head.page_size) > limits::IMAGE_NEEDS_NO_ROOM =>
            {
                tracing::warn!(db = %self.path.display(), txid = %head.txid, "no room for a whole image; it goes up as a stream");
                // What was written of it goes first: it is what the room went to.
                self.env.files.remove(&self.local.slot(head.txid))?;
                Ok((empty, self.write_image_slot(empty, None)?))
            }
            Err(error) => Err(error),
        }
    }

    fn write_image_slot(&self, head: SlotHead, scan: Option<&Scan>) -> Result<Built, BuildError> {
        let path = self.local.slot(head.txid);
        let (encoding, limit) = (self.settings.encoding, self.slot_limit());
        let mut slot = SlotWriter::create(&*self.env.files, &path, head, encoding, limit)?;
        if let Some(scan) = scan {
            scan.for_each(|page, data| slot.page(page, data))?;
        }
        slot.finish()
    }

    /// The slot of an image is in the replica: its level-9 file is next. Returns whether the slot counts as durable
    /// already; a slot whose content lies in level 9 does so only when that stands.
    pub(super) fn image_slot_is_up(&mut self, txid: Txid) -> Result<bool, KeepError> {
        let Some(image) = self.image.take_if(|image| image.txid() == txid) else {
            // An empty slot that stands for a content which is nowhere must never count.
            let empty = self.staged.front().is_some_and(|slot| slot.built.txid == txid && slot.elsewhere);
            if empty {
                self.mend_chain(Oldest::IsThere)?;
            }
            return Ok(!empty);
        };
        let (env, encoding) = (self.env.clone(), self.settings.encoding);
        let now = self.env.clock.wall();
        let lost = Report::ImageUp(txid, Err(KeepError::JobLost("image")));
        match image {
            Image::Slot(txid) => {
                let path = self.local.slot(txid);
                let slot = match self.env.files.open(&path, crate::files::Open::Read) {
                    Ok(slot) => slot,
                    Err(error) => {
                        // No job runs: the slot is put once more, which finds it to be ours.
                        self.image = Some(Image::Slot(txid));
                        self.put_again_later();
                        return Err(self.io("read the staged slot in")(error));
                    }
                };
                self.image_busy = true;
                let job = move || image::from_slot(&*env.store, Arc::clone(&slot), &path, encoding, now);
                self.spawn("image", move |reporter| reporter.report(Report::ImageUp(txid, job())), lost);
                // Slot 1 is a restore point by itself. A later image may stand behind a hole, which only its copy in
                // level 9 bridges: until that is there, nothing could be restored.
                if txid != Txid::FIRST {
                    self.image = Some(Image::Slot(txid));
                }
                Ok(txid == Txid::FIRST)
            }
            Image::Stream(stream) => {
                self.image_busy = true;
                let path = self.path.clone();
                let job = move || image::from_scan(&*env.store, &stream.1, &path, &stream.0, encoding, now);
                let report = move |reporter: Reporter<Report>| reporter.report(Report::ImageUp(txid, job()));
                self.spawn_as(JobKind::Long, "image", report, lost);
                Ok(false)
            }
        }
    }

    /// The level-9 file of an image stands, or does not.
    pub(super) fn image_answered(
        &mut self,
        txid: Txid,
        result: Result<LtxFile, KeepError>,
    ) -> Result<(), KeepError> {
        self.image_busy = false;
        let waiting = self.staged.front().is_some_and(|slot| slot.built.txid == txid);
        let again = matches!(self.image, Some(Image::Slot(slot)) if slot == txid);
        match result {
            Ok(file) => {
                self.image.take_if(|image| image.txid() == txid);
                tracing::info!(db = %self.path.display(), %txid, size = file.size, "snapshot complete");
                self.chain.catalog.insert(file);
                let announces = self.staged.front().filter(|slot| waiting && slot.elsewhere);
                if self.env.decisions.confirm_images {
                    self.chain.announced = announces.copied().or(self.chain.announced);
                }
                if waiting { self.front_is_durable() } else { Ok(()) }
            }
            Err(error) if waiting && again => {
                // The slot stands and is put once more, which finds it to be ours, and the copy after it.
                self.put_again_later();
                Err(error)
            }
            Err(error) if waiting => {
                // The read transaction is gone with the job: the content must be taken anew, under a new number.
                self.stand_aside()?;
                self.put_failures = self.put_failures.saturating_add(1);
                Err(error)
            }
            Err(error) => {
                // The slot itself holds everything; only the shortcut is missing, and the next snapshot brings it.
                self.chores.snapshot_wanted = true;
                Err(error)
            }
        }
    }
}

/// Bytes of a database of so many pages.
fn raw_bytes(pages: u32, size: PageSize) -> u64 {
    u64::from(pages) * u64::from(size.get())
}
