//! A file without a record meets a replica: a disk that was restored by other means, a local state that was lost, or
//! Litestream's replica, taken over under a running application.
//!
//! Two proofs are accepted. The file *equals* the replica's newest state; or it *continues* it: the WAL still holds
//! the frame at which the newest slot ends, and every page in which file and replica differ was written by a commit
//! behind that frame. Nothing less ties a file to a chain.

use super::forward::{Newer, restore_tip};
use super::start::position_of;
use super::{Phase, Replicator, Report};
use crate::error::KeepError;
use crate::jobs::JobKind;
use crate::local::{State, SumsRecord};
use crate::slot::BuildError;
use crate::sqlite::Scan;
use crate::sums::{self, Sums, SumsWriter};
use crate::wal::{CaptureError, Captured};
use litekeep_core::assess::{Advance, Facts, Position};
use litekeep_core::lineage::{BesideReason, RemoteTip};
use litekeep_formats::crc::page_checksum;
use litekeep_formats::wal::{frame_len, frame_offset};
use litekeep_formats::{Checksum, PageNo};
use std::collections::BTreeSet;

impl Replicator {
    /// Equal content is enough where the tip's checksum is known; else the tip is restored and looked at page by page.
    pub(super) fn compare_with(&mut self, tip: RemoteTip) -> Result<(), KeepError> {
        if let Some(database) = tip.database
            && self.equals(&tip, database)?
        {
            return self.claim();
        }
        tracing::info!(db = %self.path.display(), txid = %tip.txid,
            "no local state ties the database to the replica; comparing it with the replica's newest transaction");
        self.phase = Phase::Comparing;
        let (env, parallelism) = (self.env.clone(), self.settings.restore_parallelism);
        let dir = self.local.dir().to_owned();
        self.spawn_as(
            JobKind::Long,
            "compare",
            move |reporter| {
                let newer = restore_tip(&env, &tip, &dir.join("compare.tmp"), Some(&dir), parallelism);
                reporter.report(Report::Compared(tip, newer));
            },
            Report::Compared(tip, Err(KeepError::JobLost("compare"))),
        );
        Ok(())
    }

    /// Whether the file is the state with this checksum; if so it is adopted.
    fn equals(&mut self, tip: &RemoteTip, database: Checksum) -> Result<bool, KeepError> {
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::capture::busy()))?;
        let io = self.io("write the page checksums in");
        self.local.clear().map_err(&io)?;
        let mut writer = SumsWriter::create(&*self.env.files, self.local.dir(), tip.txid).map_err(&io)?;
        scan.for_each(|page, data| Ok::<_, BuildError>(writer.page(page, page_checksum(page, data))?))
            .map_err(self.build_failed(tip.txid))?;
        let commit = scan.pages().map_err(self.sqlite())?;
        if writer.finish(commit).map_err(&io)? != database {
            return Ok(false);
        }
        tracing::info!(db = %self.path.display(), txid = %tip.txid, "the database equals the replica's newest transaction");
        let position = position_of(scan.facts());
        self.adopt(self.state_at(tip, database, commit, position))?;
        Ok(true)
    }

    /// What was restored is laid beside the database, or over it, once there is a turn for that.
    pub(super) fn take_restored(&mut self, restored: Report) -> Result<(), KeepError> {
        let Some(_turn) = self.turn_for_all()? else {
            self.unread = Some(restored);
            return Ok(());
        };
        match restored {
            Report::Compared(tip, newer) => self.compared(tip, newer),
            Report::Forward(tip, newer) => self.forward_restored(tip, newer),
            other => self.take_report(other),
        }
    }

    fn compared(&mut self, tip: RemoteTip, result: Result<Newer, KeepError>) -> Result<(), KeepError> {
        let newer = result?;
        if self.phase != Phase::Comparing {
            return Ok(());
        }
        self.env.files.remove(newer.path()).map_err(self.io("remove a restored file in"))?;
        let Some(record) = newer.record(self.env.store.location()) else {
            return Err(self.beside(Some(tip), BesideReason::Unknown));
        };
        let Some(scan) = self.scan()? else { return self.database_is_locked() };
        let io = self.io("write the page checksums in");
        self.local.clear().map_err(&io)?;
        // Only the array takes its name here. The state that would make it count is saved once the proof is there.
        let (files, dir) = (&*self.env.files, self.local.dir());
        files.rename(&record.sums, &sums::path(dir, tip.txid)).map_err(&io)?;
        let begun = SumsRecord { begun: tip.txid, flushed: tip.txid, commit: record.commit };
        let known = Sums::open(files, dir, &begun, record.page_size).map_err(&io)?;
        let position =
            if scan.page_size() == record.page_size { self.continues(&tip, &known, &scan)? } else { None };
        let Some(position) = position else { return Err(self.beside(Some(tip), BesideReason::Unknown)) };
        tracing::info!(db = %self.path.display(), txid = %tip.txid, "the database continues the replica's newest transaction");
        let tip = RemoteTip { slot: tip.slot.or(record.slot), ..tip };
        self.adopt(self.state_at(&tip, record.database, record.commit, position))?;
        self.claim()
    }

    /// The position from which the file goes on from the tip: where it ends, if the file equals it; the tip's own
    /// end in the WAL, if every difference was committed behind that; `None` without a proof.
    fn continues(
        &mut self,
        tip: &RemoteTip,
        known: &Sums,
        scan: &Scan,
    ) -> Result<Option<Position>, KeepError> {
        let mut differ: BTreeSet<PageNo> = BTreeSet::new();
        scan.for_each(|page, data| {
            if known.get(page)? != Some(page_checksum(page, data)) {
                differ.insert(page);
            }
            Ok::<_, BuildError>(())
        })
        .map_err(self.build_failed(tip.txid))?;
        let commit = scan.pages().map_err(self.sqlite())?;
        let facts = *scan.facts();
        if differ.is_empty() && commit == known.commit() {
            return Ok(Some(position_of(&facts)));
        }
        let Some((end, behind)) = self.committed_behind(tip, &facts)? else { return Ok(None) };
        let explained = |page: &PageNo| page.get() > known.commit() || behind.pages.contains_key(page);
        Ok((behind.commit == commit && differ.iter().all(explained)).then_some(end))
    }

    /// Where the tip ends in the WAL as it is now, and what was committed behind that; `None` where the WAL has another
    /// life or nothing behind.
    fn committed_behind(
        &mut self,
        tip: &RemoteTip,
        facts: &Facts,
    ) -> Result<Option<(Position, Captured)>, KeepError> {
        let size = facts.page_size;
        let frames =
            (tip.wal.offset + tip.wal.size).saturating_sub(frame_offset(1, size)) / frame_len(size) as u64;
        let frame = u32::try_from(frames).unwrap_or(u32::MAX);
        if tip.wal.salts != facts.salts || frame == 0 || frame >= facts.mx_frame {
            return Ok(None);
        }
        let stored = self.wal.frame_at(frame, size).map_err(self.io("read the WAL beside"))?;
        let Some((salts, checksum)) = stored.filter(|(salts, _)| *salts == facts.salts) else {
            return Ok(None);
        };
        let end = Position { page_size: size, salts, frame, checksum };
        let advance = Advance::Append { from: frame + 1, to: facts.mx_frame };
        match self.wal.capture(advance, facts, &end, u64::MAX) {
            Ok(captured) => Ok(Some((end, captured))),
            Err(CaptureError::Break(_)) => Ok(None),
            Err(CaptureError::Io(error)) => Err(self.io("read the WAL beside")(error)),
        }
    }

    /// The state of a file that stands at the tip, with a checksum array that was begun for it.
    fn state_at(&self, tip: &RemoteTip, database: Checksum, commit: u32, position: Position) -> State {
        State {
            file: self.timing.file.expect("BUG: the database is open"),
            replica: self.env.store.location(),
            txid: tip.txid,
            slot: tip.slot,
            database: Some(database),
            commit,
            page_size: position.page_size,
            timestamp: tip.timestamp,
            position,
            captured: None,
            tail: self.env.random.next_u64(),
            rewound_from: None,
            content: None,
            forward: Vec::new(),
            sums: Some(SumsRecord { begun: tip.txid, flushed: tip.txid, commit }),
        }
    }
}
