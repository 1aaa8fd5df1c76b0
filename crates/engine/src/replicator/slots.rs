//! From pending pages to staged slots.

use super::Replicator;
use super::image::Image;
use crate::error::KeepError;
use crate::files::Open;
use crate::image::FileSource;
use crate::local::{State, SumsRecord};
use crate::pending::Pending;
use crate::slot::{self, BuildError, Built, SlotHead, SlotWriter};
use crate::sums::Sums;
use litekeep_core::assess::{BreakReason, Position};
use litekeep_core::limits;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::{DecodeError, Decoder, Marks};
use litekeep_formats::{Checksum, PageNo, PageSize, TimestampMs, Txid};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A slot on the local disk that the replica is not known to hold yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    pub(super) built: Built,
    pub(super) predecessor: Option<Checksum>,
    /// Pages of the database after it, and its rolling checksum.
    pub(super) commit: u32,
    pub(super) database: Option<Checksum>,
    /// It holds no page: its content goes to level 9 as a stream, and dies with the process that reads it.
    pub(super) elsewhere: bool,
    /// Since when, on the boot clock, the oldest of its changes has waited.
    pub(super) since: Duration,
}

impl Replicator {
    /// Builds a slot if it is time; returns when it will be.
    pub(super) fn slot_round(&mut self) -> Result<Duration, KeepError> {
        if self.broken.is_some() {
            return Ok(Duration::MAX);
        }
        self.answer_requests();
        if !self.has_changes_pending() {
            self.flush_sums_if_due(self.staged.is_empty() && self.is_stopping())?;
            return Ok(Duration::MAX);
        }
        let now = self.env.clock.boot();
        let (raw, most) = (self.pending().raw_bytes(), self.settings.max_sync_wal_bytes);
        let full =
            raw >= most.max(limits::SYNC_WAL_BYTES) || self.pending().tail_bytes() >= limits::TAIL_BYTES;
        if !self.staged.is_empty() && !full {
            // What is committed while a put is under way shares the next slot.
            return Ok(Duration::MAX);
        }
        if self.staged.len() >= limits::STAGED_SLOTS || self.staged_bytes() > limits::STAGED_BYTES {
            self.let_go();
            return Ok(Duration::ZERO);
        }
        let due = self.last_slot.map_or(Duration::ZERO, |last| last + self.settings.sync_interval);
        if now < due
            && !full
            && raw < most
            && !self.is_stopping()
            && self.chores.answered == self.shared.asked()
        {
            return Ok(due - now);
        }
        self.build_slot()?;
        self.last_slot = Some(now);
        self.answer_requests();
        Ok(Duration::ZERO)
    }

    /// A time for the next slot: this machine's, but never before the chain's last.
    pub(super) fn timestamp(&self) -> TimestampMs {
        let last = self.state.as_ref().map_or(TimestampMs(i64::MIN), |state| state.timestamp);
        self.env.clock.wall().max(last)
    }

    /// The largest slot that one put carries, bytes.
    pub(super) fn slot_limit(&self) -> u64 {
        self.settings.max_slot_bytes.min(self.env.store.limits().single_put).min(self.put_limit)
    }

    /// Without the oldest: that one is on its way, may be large, and is never let go.
    fn staged_bytes(&self) -> u64 {
        self.staged.iter().skip(1).map(|slot| slot.built.size).sum()
    }

    pub(super) fn has_changes_pending(&mut self) -> bool {
        let commit = self.state().commit;
        let pending = self.pending();
        !pending.is_empty() || pending.commit() != commit
    }

    /// Turns everything pending into the next slot.
    fn build_slot(&mut self) -> Result<(), KeepError> {
        self.settle_state()?;
        let look = self.look_for_sums()?;
        if self.broken.is_some() || !self.fill_growth()? {
            return Ok(());
        }
        let txid = self.state().txid.next();
        let pages: Vec<PageNo> = self.pending().pages().collect();
        let (pending, state) = self.parts();
        let page_size = pending.position().page_size;
        let commit = pending.commit();
        let span = slot::wal_span(&state.position, pending.position());
        let failed = self.build_failed(txid);
        let sums = self.sums_of(&pages, page_size).map_err(&failed)?;
        let anew = look.and_then(|look| self.sums_anew(&look, txid));
        let database = match &self.sums {
            None => anew.as_ref().map(|anew| anew.database),
            Some(known) => slot::database_after(known, self.state().database, commit, &sums)
                .map_err(self.io("read the page checksums in"))?,
        };
        let head = SlotHead {
            txid,
            epoch: self.chain.epoch,
            page_size,
            commit,
            timestamp: self.timestamp(),
            predecessor: self.state().slot,
            database,
            marks: Marks::NONE,
            wal: span,
        };
        let built = match self.write_slot(head, &pages) {
            Err(BuildError::TooLarge(_)) => {
                self.env.files.remove(&self.local.slot(txid)).map_err(self.io("remove a slot in"))?;
                // Not in this step: the image of a large database waits for its turn.
                self.broken = Some(BreakReason::TooLarge);
                return Ok(());
            }
            built => built.map_err(&failed)?,
        };
        let position = *self.pending().position();
        self.slot_built(head, built, position, anew.as_ref().map(|anew| anew.record))?;
        match (&mut self.sums, anew) {
            (Some(known), _) => known.push(txid, commit, sums),
            (None, Some(anew)) => {
                tracing::info!(db = %self.path.display(), %txid, "the page checksums were made anew");
                self.sums = Some(anew.sums);
                self.local.tidy(self.state()).map_err(self.io("remove old checksums in"))?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn parts(&mut self) -> (&mut Pending, &State) {
        (
            self.pending.as_mut().expect("BUG: a running replicator has pending pages"),
            self.state.as_ref().expect("BUG: a running replicator has a state"),
        )
    }

    pub(super) fn build_failed(&self, txid: Txid) -> impl Fn(BuildError) -> KeepError + 'static {
        let (io, sqlite) = (self.io("build a slot in"), self.sqlite());
        move |error| match error {
            BuildError::Io(error) => io(error),
            BuildError::Sqlite(error) => sqlite(error),
            error @ (BuildError::Format(_) | BuildError::TooLarge(_)) => KeepError::build(txid, &error),
        }
    }

    fn sums_of(
        &mut self,
        pages: &[PageNo],
        page_size: PageSize,
    ) -> Result<BTreeMap<PageNo, Checksum>, BuildError> {
        let pending = self.pending.as_ref().expect("BUG: a running replicator has pending pages");
        let wal = &mut self.wal;
        slot::page_sums(pages, page_size, |page, buf| Ok(pending.read(page, wal, buf)?))
    }

    fn write_slot(&mut self, head: SlotHead, pages: &[PageNo]) -> Result<Built, BuildError> {
        let path = self.local.slot(head.txid);
        let (encoding, limit) = (self.settings.encoding, self.slot_limit());
        let mut writer = SlotWriter::create(&*self.env.files, &path, head, encoding, limit)?;
        let mut buf = vec![0; head.page_size.bytes()];
        let pending = self.pending.as_ref().expect("BUG: a running replicator has pending pages");
        for page in pages {
            pending.read(*page, &mut self.wal, &mut buf)?;
            writer.page(*page, &buf)?;
        }
        writer.finish()
    }

    /// A file that grows the database carries every page that it adds (R05), also those that SQLite did not bother
    /// to write because they are free. `false`: the chain of frames broke meanwhile, and no slot can be built.
    fn fill_growth(&mut self) -> Result<bool, KeepError> {
        if self.missing_growth().is_empty() {
            return Ok(true);
        }
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::capture::busy()))?;
        // The scan may show commits that are not captured yet, and such a commit may have written one of these pages: what
        // it shows is taken first. A page that is missing then was written by nothing that this slot holds.
        let facts = self.facts_now()?;
        while self.take_once(&facts)? {}
        if self.broken.is_some() {
            return Ok(false);
        }
        let page_size = self.pending().position().page_size;
        let zero = vec![0; page_size.bytes()];
        for page in self.missing_growth() {
            let data = scan.page(page).map_err(self.sqlite())?;
            let io = self.io("stage changes in");
            let (Some(pending), local) = (&mut self.pending, &self.local) else { continue };
            pending.append(local, page, data.as_deref().unwrap_or(&zero)).map_err(io)?;
        }
        Ok(true)
    }

    /// The pages that the pending commits add and do not hold.
    fn missing_growth(&mut self) -> Vec<PageNo> {
        let pending = self.pending();
        let (lowest, commit) = (pending.lowest(), pending.commit());
        let page_size = pending.position().page_size;
        (lowest.saturating_add(1)..=commit)
            .filter_map(PageNo::new)
            .filter(|page| *page != page_size.lock_page() && !pending.contains(*page))
            .collect()
    }

    /// Before a slot is built: a record that failed may stand on the disk all the same, and speaks of a slot with the
    /// number, and of checksums under the name, that will be used again.
    pub(super) fn settle_state(&self) -> Result<(), KeepError> {
        self.local.settle(self.state.as_ref()).map_err(self.io("save the state in"))
    }

    /// Records a slot that stands on the local disk: from here on it never changes. Memory follows the disk: if the
    /// record fails, nothing here speaks of the slot, and its number is given to the next one. The slot stays where the
    /// record may have reached the disk, until that says otherwise.
    pub(super) fn slot_built(
        &mut self,
        head: SlotHead,
        built: Built,
        position: Position,
        sums: Option<SumsRecord>,
    ) -> Result<(), KeepError> {
        let old_sums = self.state.as_ref().and_then(|state| state.sums);
        let state = State {
            file: self.timing.file.expect("BUG: the database is open"),
            replica: self.env.store.location(),
            txid: built.txid,
            slot: Some(built.file),
            database: head.database,
            commit: head.commit,
            page_size: head.page_size,
            timestamp: built.timestamp,
            position,
            captured: None,
            tail: self.env.random.next_u64(),
            rewound_from: None,
            content: None,
            forward: Vec::new(),
            sums: sums.or(old_sums.filter(|_| self.sums.is_some())),
        };
        let first = self.record_slot(&state).inspect_err(|_| {
            if !self.local.in_doubt() {
                let _ = self.env.files.remove(&self.local.slot(built.txid));
            }
        })?;
        match &mut self.pending {
            Some(pending) => pending.reset(position, head.commit, state.tail),
            None => self.pending = first,
        }
        self.state = Some(state);
        let since = self.waited_since();
        self.staged.push_back(Staged {
            built,
            since,
            predecessor: head.predecessor,
            commit: head.commit,
            database: head.database,
            elsewhere: head.marks.contains(Marks::CONTENT_IN_LEVEL_9),
        });
        self.pause = Duration::ZERO;
        tracing::debug!(db = %self.path.display(), txid = %built.txid, pages = head.commit, bytes = built.size, "slot built");
        Ok(())
    }

    /// All that can fail about it; returns the pending pages behind a first slot.
    fn record_slot(&self, state: &State) -> Result<Option<Pending>, KeepError> {
        // The state must never speak of a file whose name a power loss could take back.
        self.env.files.sync_dir(self.local.dir()).map_err(self.io("make a slot durable in"))?;
        let load = || Pending::load(Arc::clone(&self.env.files), &self.local, state);
        let first = self.pending.is_none().then(load).transpose().map_err(self.io("read the state in"))?;
        self.local.save(state).map_err(self.io("save the state in"))?;
        Ok(first)
    }

    /// Slots whose files are there when a run begins. Those that wait for their put count only if they are whole and follow
    /// each other up to the last one built; a hole among them would be a hole in the chain. Of those that the replica
    /// has, the checksums that are not in the array yet become layers again; what else is left of them means nothing,
    /// and goes with the next flush.
    pub(super) fn load_staged(&mut self, state: &State) -> io::Result<()> {
        self.staged.clear();
        self.unflushed.clear();
        let (durable, waiting): (Vec<_>, Vec<_>) =
            self.local.staged()?.into_iter().partition(|txid| self.is_durable(*txid));
        self.announced_alone = false;
        self.load_layers(&durable, state)?;
        self.unflushed.extend(durable);
        for txid in waiting {
            let consecutive = self.staged.back().is_none_or(|last| last.built.txid.next() == txid);
            match self.load_slot(txid) {
                Ok((staged, _)) if staged.elsewhere => {
                    let confirmed = self.load_slot(txid.next()).is_ok_and(|(next, pages)| {
                        pages.is_empty() && !next.elsewhere && next.predecessor == Some(staged.built.file)
                    });
                    self.announced_alone = self.staged.is_empty() && !confirmed;
                    // Slots before it wait for their put, so nothing from here on was sent.
                    if !self.staged.is_empty() && !confirmed {
                        return Ok(());
                    }
                    return self.drop_staged("its content was to go up as a stream");
                }
                Ok((staged, sums)) if consecutive => {
                    if let Some(known) = &mut self.sums {
                        known.push(txid, staged.commit, sums);
                    }
                    self.staged.push_back(staged);
                }
                Ok(_) => return self.drop_staged("a staged slot is missing"),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return self.drop_staged(&error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        let Some(last) = self.staged.back() else { return Ok(()) };
        if last.built.txid != state.txid {
            return self.drop_staged("the last staged slot is missing");
        }
        // A record that could not be made durable may have been followed by another slot with the same number.
        if state.slot != Some(last.built.file) {
            return self.drop_staged("the last staged slot is not the one that the state speaks of");
        }
        Ok(())
    }

    /// What was staged behind these slots died with a stream, and was never sent: the state is theirs, and what it held is
    /// only in the database again.
    pub(super) fn back_to_staged(&mut self, mut state: State) -> io::Result<State> {
        let Some(last) = self.staged.back().copied().filter(|last| last.built.txid < state.txid) else {
            return Ok(state);
        };
        tracing::warn!(db = %self.path.display(), from = %state.txid, to = %last.built.txid,
            "staged slots of an image whose stream died are let go; what they held is compared and shipped later");
        (state.txid, state.slot) = (last.built.txid, Some(last.built.file));
        (state.commit, state.database, state.timestamp) = (last.commit, last.database, last.built.timestamp);
        (self.sums, state.sums) = (None, None);
        state.give_up_position(self.env.random.next_u64());
        self.local.save(&state)?;
        self.local.tidy(&state)?;
        self.pending = Some(Pending::load(Arc::clone(&self.env.files), &self.local, &state)?);
        Ok(state)
    }

    /// The array's checksums, and over them those of the durable slots that are not in it yet. If one of these is missing
    /// or is no slot, nothing tells the checksums of the pages.
    fn load_layers(&mut self, durable: &[Txid], state: &State) -> io::Result<()> {
        let Some(base) = self.sums.as_ref().map(Sums::txid) else { return Ok(()) };
        for txid in durable.iter().copied().filter(|txid| *txid > base) {
            let Some(known) = self.sums.as_ref().map(Sums::txid) else { return Ok(()) };
            let loaded = match self.load_slot(txid) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
                loaded => Some(loaded?),
            };
            let right = |staged: &Staged| {
                let told = (txid != state.txid).then_some(staged.built.file).or(state.slot);
                known.next() == txid && !staged.elsewhere && told == Some(staged.built.file)
            };
            match (loaded.filter(|(staged, _)| right(staged)), &mut self.sums) {
                (Some((staged, sums)), Some(known)) => known.push(txid, staged.commit, sums),
                _ => {
                    tracing::warn!(db = %self.path.display(), %txid, "a slot is missing whose checksums no array has");
                    self.sums = None;
                }
            }
        }
        Ok(())
    }

    fn is_durable(&self, txid: Txid) -> bool {
        self.chain.durable.is_some_and(|durable| txid <= durable)
    }

    /// A slot that was built here, if it is still kept and is whole.
    pub(super) fn kept_slot(&self, txid: Txid) -> Result<Option<Staged>, KeepError> {
        match self.load_slot(txid) {
            Ok((slot, _)) => Ok(Some(slot)),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
                Ok(None)
            }
            Err(error) => Err(self.io("read a slot in")(error)),
        }
    }

    /// Staged slots that cannot go up are as good as lost: the start compares what the replica holds with the state.
    fn drop_staged(&mut self, why: &str) -> io::Result<()> {
        tracing::warn!(db = %self.path.display(), why, "the staged slots are not usable");
        self.staged.clear();
        self.sums = None;
        Ok(())
    }

    /// A slot's file as it was staged, and the checksums of its pages.
    fn load_slot(&self, txid: Txid) -> io::Result<(Staged, BTreeMap<PageNo, Checksum>)> {
        let path = self.local.slot(txid);
        let size = self.env.files.len(&path)?.unwrap_or(0);
        let file = self.env.files.open(&path, Open::Read)?;
        let mut decoder = Decoder::new(FileSource::new(file)).map_err(damaged)?;
        let header = *decoder.header();
        let mut buf = vec![0; header.page_size.bytes()];
        let mut sums = BTreeMap::new();
        while let Some(page) = decoder.next_page(&mut buf).map_err(damaged)? {
            sums.insert(page, page_checksum(page, &buf));
        }
        let trailer = decoder.finish().map_err(damaged)?;
        let seal = header.seal();
        let staged = Staged {
            built: Built { txid, file: trailer.file, size, timestamp: header.timestamp },
            predecessor: seal.and_then(|seal| seal.predecessor),
            commit: header.commit,
            database: seal.and_then(|seal| seal.database),
            // A fence has no page either, and is whole; without a seal there is no mark, and no page means the image.
            // When an earlier run took it nobody knows any more.
            since: self.env.clock.boot(),
            elsewhere: seal.map_or(sums.is_empty(), |seal| seal.marks.contains(Marks::CONTENT_IN_LEVEL_9)),
        };
        Ok((staged, sums))
    }

    /// Lets go of everything that was not sent: the slots behind the oldest, the tail, the hold on the WAL. What the
    /// replica lacks is found again by comparing pages.
    pub(super) fn let_go(&mut self) {
        if let Some(edge) = &mut self.edge {
            edge.end_hold();
        }
        self.broken.get_or_insert(BreakReason::LetGo);
        self.forget_goal();
        self.unbuild(1);
        if matches!(self.image, Some(Image::Stream(_))) {
            // Its read transaction would keep the WAL from ever being checkpointed. What announced it is put all the same:
            // numbers have no holes.
            self.image = None;
            self.sums = None;
        }
        let tail = self.env.random.next_u64();
        let Some(state) = &mut self.state else { return };
        if self.sums.is_none() {
            state.sums = None;
        }
        if self.staged.len() > 1 {
            tracing::warn!(db = %self.path.display(), slots = self.staged.len() - 1,
                "letting go of staged slots; what they held is compared and shipped later");
            let gone: Vec<Txid> = self.staged.drain(1..).map(|slot| slot.built.txid).collect();
            let front = self.staged[0];
            state.txid = front.built.txid;
            state.slot = Some(front.built.file);
            state.database = front.database;
            state.commit = front.commit;
            state.timestamp = front.built.timestamp;
            match (&mut self.sums, state.sums) {
                (Some(sums), Some(record)) if record.flushed <= front.built.txid => {
                    sums.truncate(front.built.txid)
                }
                _ => (self.sums, state.sums) = (None, None),
            }
            state.give_up_position(tail);
            // The state first. On a full disk that may need the room which the slots take; then it is tried once more,
            // and a crash in between finds staged slots that do not reach the state, which count for nothing.
            let saved = self.local.save(state).is_ok();
            for txid in gone {
                let _ = self.env.files.remove(&self.local.slot(txid));
            }
            if !saved && let Err(error) = self.local.save(state) {
                tracing::warn!(db = %self.path.display(), %error, "the local state could not be saved");
            }
        }
        self.give_up_position(tail);
    }

    /// Brings the checksums of durable slots into the array, and removes those slots' files.
    pub(super) fn flush_sums_if_due(&mut self, now: bool) -> Result<(), KeepError> {
        let due = self.unflushed.len() >= limits::UNFLUSHED_SLOTS || (now && !self.unflushed.is_empty());
        let Some(last) = self.unflushed.back().copied().filter(|_| due) else { return Ok(()) };
        let io = self.io("write the page checksums in");
        let (Some(sums), Some(state)) = (&mut self.sums, &mut self.state) else {
            return self.drop_flushed(last);
        };
        if let Some(record) = &mut state.sums
            && record.flushed < last
        {
            record.commit = sums.flush(last).map_err(io)?;
            record.flushed = last;
        }
        self.save()?;
        self.drop_flushed(last)
    }

    fn drop_flushed(&mut self, last: Txid) -> Result<(), KeepError> {
        while self.unflushed.front().is_some_and(|txid| *txid <= last) {
            let txid = self.unflushed.pop_front().expect("BUG: seen above");
            self.env.files.remove(&self.local.slot(txid)).map_err(self.io("remove a durable slot in"))?;
        }
        Ok(())
    }
}

/// A slot that is no slot, or is cut short; any other trouble is the file system's.
fn damaged(error: DecodeError<io::Error>) -> io::Error {
    match error {
        DecodeError::Source(error) if error.kind() != io::ErrorKind::UnexpectedEof => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}
