//! Where the file lies: read once as a whole when following begins, and again only when somebody else was at it.
//!
//! A file counts as a state of the chain by its content, or, where the last owner's record ends exactly where the WAL
//! ends, by its place in the WAL. Anything else may hold changes that nobody else has.

use super::{Follower, Place};
use crate::error::KeepError;
use crate::local::{State, SumsRecord, content};
use crate::pending::Pending;
use crate::restore;
use crate::slot::BuildError;
use crate::sqlite::{Edge, Scan, is_busy};
use crate::sums::{Sums, SumsWriter};
use crate::survey;
use litekeep_core::assess::{self, Advance, Facts, Position, Resume};
use litekeep_core::retain;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::wal::frame_len;
use litekeep_formats::{Checksum, Level, PageNo, Txid, TxidRange};
use std::sync::Arc;

/// What one reading of the whole file gave.
struct Scanned {
    /// Of all pages but the first.
    others: Checksum,
    /// The first page's checksum, and its part of the content.
    first: Checksum,
    content: Checksum,
    pages: u32,
    /// The array of page checksums that was written meanwhile, all but page 1.
    begun: Txid,
    writer: SumsWriter,
}

impl Scanned {
    fn database(&self) -> Checksum {
        self.others.toggle(self.first)
    }
}

impl Follower {
    /// Makes sure that it is known where the file lies; `false` while somebody keeps it locked.
    pub(super) fn find_place(&mut self) -> Result<bool, KeepError> {
        if self.place == Place::Ahead {
            return Ok(true);
        }
        if !self.connect()? {
            return Ok(false);
        }
        let Some(facts) = self.edge().facts().map_err(self.sqlite())? else { return Ok(false) };
        if self.place != Place::Unknown && self.is_seen(&facts) {
            self.seen = Some(facts);
            if facts.mx_frame == 0
                && let Some(state) = &mut self.state
            {
                // Only checkpointed and cut off since: the change counter of the index says so.
                state.stands_at(Position::behind(&facts));
            }
            return Ok(true);
        }
        self.judge()
    }

    /// Opens the connections; `false` while somebody holds a lock that forbids it.
    fn connect(&mut self) -> Result<bool, KeepError> {
        let id = self.env.files.id(&self.database).map_err(|error| self.lost(error))?;
        if id.is_none() {
            self.edge = None;
            return Err(self.lost(std::io::ErrorKind::NotFound.into()));
        }
        if self.edge.is_some() && self.file != id {
            self.edge = None;
            self.place = Place::Unknown;
        }
        if self.edge.is_none() {
            match Edge::open(&self.database, self.env.vfs.as_deref()) {
                Ok(edge) => self.edge = Some(edge),
                Err(error) if is_busy(&error) => return Ok(false),
                Err(error) => return Err(self.sqlite()(error)),
            }
            self.file = id;
            self.place = Place::Unknown;
        }
        Ok(true)
    }

    fn lost(&self, error: std::io::Error) -> KeepError {
        KeepError::Io { what: "look at", path: self.database.clone(), error }
    }

    pub(super) fn edge(&self) -> &Edge {
        self.edge.as_ref().expect("BUG: the connections are open")
    }

    /// Whether nothing was committed since the WAL was last seen; checkpoints do not count.
    pub(super) fn is_seen(&self, facts: &Facts) -> bool {
        self.seen.as_ref().is_some_and(|seen| {
            let same_end =
                (facts.mx_frame, facts.salts, facts.checksum) == (seen.mx_frame, seen.salts, seen.checksum);
            (facts.change, facts.page_size) == (seen.change, seen.page_size)
                && (same_end || facts.mx_frame == 0)
        })
    }

    /// The recorded state, if it is about this file and this replica.
    pub(super) fn recorded(&self) -> Result<Option<State>, KeepError> {
        let io = self.io("read the state in");
        let state = crate::local::peek(&*self.env.files, self.local.dir()).map_err(&io)?;
        self.about_us(state)
    }

    fn about_us(&self, state: Option<State>) -> Result<Option<State>, KeepError> {
        let id = self.env.files.id(&self.database).map_err(|error| self.lost(error))?;
        let replica = self.env.store.location();
        Ok(state.filter(|state| Some(state.file) == id && state.replica == replica))
    }

    /// Reads the whole file and compares it with what is recorded, and with what was about to be.
    fn judge(&mut self) -> Result<bool, KeepError> {
        (self.sums, self.ready, self.seen, self.layers) = (None, None, None, 0);
        self.ahead.clear();
        let recorded = self.recorded()?;
        let next = self.about_us(self.local.intended().map_err(self.io("read the state in"))?)?;
        let Some(scan) = self.scan()? else { return Ok(false) };
        let scanned = self.read_all(&scan, recorded.as_ref())?;
        let facts = *scan.facts();
        drop(scan);
        let of_next = next.filter(|next| next.content == Some(scanned.content));
        let place = match &recorded {
            Some(state) if state.rewound_from.is_some() => Place::Ahead,
            Some(state) => self.place_of(state, &scanned, &facts)?,
            None => Place::Ahead,
        };
        self.seen = Some(facts);
        // Both can be true of one content, behind a slot without pages; the later one is then as good.
        let later = |next: &State| recorded.as_ref().is_none_or(|state| next.txid > state.txid);
        (self.place, self.state) = match of_next {
            Some(next) if place != Place::At || later(&next) => (Place::At, Some(next)),
            _ => (place, recorded),
        };
        self.fell_back = self.place == Place::Ahead && self.local.power_lost() && self.lost_frames(&facts)?;
        self.passed = false;
        if self.place == Place::At {
            self.adopt(scanned, &facts)?;
        }
        Ok(true)
    }

    /// Whether the file is from before what was captured of it: the replica has it, and its writer had not synced it.
    fn lost_frames(&mut self, facts: &Facts) -> Result<bool, KeepError> {
        let Some(state) = self.state.clone().filter(|state| state.rewound_from.is_none()) else {
            return Ok(false);
        };
        let captured = state.captured();
        let frame =
            self.wal.frame_at(captured.frame, state.page_size).map_err(self.io("read the WAL beside"))?;
        Ok(assess::fell_back(facts, frame, &captured))
    }

    /// How the file lies to its record.
    fn place_of(&mut self, state: &State, scanned: &Scanned, facts: &Facts) -> Result<Place, KeepError> {
        if state.database == Some(scanned.database()) {
            return Ok(Place::At);
        }
        // A start of the replicator that did not come to its record leaves the file at a later state.
        if state.forward.contains(&scanned.content) && state.content != Some(scanned.content) {
            return Ok(Place::Unsure);
        }
        if state.content != Some(scanned.content) && !self.ends_at(state, facts)? {
            return Ok(Place::Ahead);
        }
        Ok(if state.database.is_some() { Place::At } else { Place::Unsure })
    }

    /// Whether the last owner's record, its tail included, ends exactly where the WAL ends.
    pub(super) fn ends_at(&mut self, state: &State, facts: &Facts) -> Result<bool, KeepError> {
        let io = self.io("read the state in");
        let pending = Pending::load(Arc::clone(&self.env.files), &self.local, state).map_err(&io)?;
        if !pending.is_empty() || pending.commit() != state.commit {
            return Ok(false);
        }
        let position = *pending.position();
        let frame =
            self.wal.frame_at(position.frame, state.page_size).map_err(self.io("read the WAL beside"))?;
        let decisions = &self.env.decisions;
        Ok((decisions.resume)(facts, frame, &position) == Resume::Intact
            && (decisions.advance)(facts, &position) == Advance::Nothing)
    }

    pub(super) fn scan(&self) -> Result<Option<Scan>, KeepError> {
        self.edge().scan(&self.database, self.env.vfs.as_deref()).map_err(self.sqlite())
    }

    /// Reads the file, and writes the checksums of its pages into a new array beside the one that counts.
    fn read_all(&self, scan: &Scan, recorded: Option<&State>) -> Result<Scanned, KeepError> {
        let io = self.io("write the page checksums in");
        let txid = recorded.map_or(Txid::FIRST, |state| state.txid);
        let taken = recorded.and_then(|state| state.sums).map(|record| record.begun);
        let begun = if taken == Some(txid) { txid.next() } else { txid };
        let mut writer = SumsWriter::create(&*self.env.files, self.local.dir(), begun).map_err(&io)?;
        let (mut others, mut first, mut all) = (Checksum::EMPTY, Checksum::EMPTY, Checksum::EMPTY);
        scan.for_each(|page, data| {
            let sum = page_checksum(page, data);
            all = all.toggle(content(page, data));
            if page == PageNo::FIRST {
                first = sum;
            } else {
                others = others.toggle(sum);
                writer.page(page, sum)?;
            }
            Ok::<_, BuildError>(())
        })
        .map_err(self.walk_failed())?;
        let pages = scan.pages().map_err(self.sqlite())?;
        Ok(Scanned { others, first, content: all, pages, begun, writer })
    }

    /// Takes the file for the state that it was found to be: page 1 counts with the checksum that the chain gave it.
    fn adopt(&mut self, mut scanned: Scanned, facts: &Facts) -> Result<(), KeepError> {
        let io = self.io("write the page checksums in");
        let Some(mut state) = self.state.take() else { return Ok(()) };
        self.place = Place::Unknown;
        let first = state.database.map_or(scanned.first, |database| database.toggle(scanned.others));
        scanned.writer.page(PageNo::FIRST, first).map_err(&io)?;
        state.database = Some(scanned.writer.finish(scanned.pages).map_err(&io)?);
        self.env.files.sync_dir(self.local.dir()).map_err(&io)?;
        let record = SumsRecord { begun: scanned.begun, flushed: state.txid, commit: scanned.pages };
        state.sums = Some(record);
        (state.content, state.forward) = (Some(scanned.content), Vec::new());
        state.stands_at(Position::behind(facts));
        state.tail = self.env.random.next_u64();
        self.local.save(&state).map_err(self.io("save the state in"))?;
        self.sums =
            Some(Sums::open(&*self.env.files, self.local.dir(), &record, state.page_size).map_err(&io)?);
        self.state = Some(state);
        self.place = Place::At;
        Ok(())
    }

    /// Whether the recorded state is in the replica.
    pub(super) fn meet(&mut self) -> Result<bool, KeepError> {
        let Some(state) = self.state.as_ref() else { return Ok(false) };
        let (txid, ours, state_database) = (state.txid, state.slot, state.database);
        let found = survey::read_ends(&*self.env.store, &survey::slot_file(txid))?;
        let others = found.is_some_and(|(_, trailer)| ours.is_some_and(|ours| ours != trailer.file));
        // What came into a name that had been freed says nothing of ours (docs/model.md, rule 9).
        let late = others && self.came_late(txid)?;
        match found.filter(|_| !late) {
            Some((header, trailer)) => {
                if others {
                    // Refused, or never put: the chain went on from the one before with somebody else's.
                    self.passed = true;
                    return Ok(false);
                }
                // Only what may have been sent late can have arrived late: a plain start need not list for it.
                if self.is_unheard()? && self.came_late(txid)? {
                    self.passed = true;
                    return Ok(false);
                }
                if header.content_is_elsewhere() {
                    // An image of our own: its content was never up, or others went on without it.
                    let went_on = !restore::passed(&*self.env.store, &[txid])?.is_empty();
                    if went_on || self.counted()?.is_none_or(|end| end < txid) {
                        self.passed = went_on || self.unfinished.is_some_and(|last| last.txid > txid);
                        return Ok(false);
                    }
                    // What said whether it counts is gone, and we never heard that it did.
                    if self.is_unheard()? && self.is_gone(txid.next())? {
                        self.passed = true;
                        return Ok(false);
                    }
                    let states = header.seal().and_then(|seal| seal.database);
                    if states.is_some() && state_database.is_some() && states != state_database {
                        // The record was to go on without that image, which counted after all: the file is the state before.
                        self.is_before_its_record()?;
                    }
                }
                self.epoch = self.epoch.max(header.seal().map(|seal| seal.epoch));
                if let Some(state) = &mut self.state {
                    state.slot = Some(trailer.file);
                }
            }
            None => {
                // Compacted and deleted, or never there: a slot of our own that may still be staged is not known to be
                // in the chain, and what it holds is not to be written over without a word.
                let staged = self.is_unheard()?;
                match self.listed(txid)? {
                    super::Listed::Behind => return Ok(false),
                    super::Listed::Newest(newest) if staged => {
                        self.passed = newest > txid;
                        return Ok(false);
                    }
                    super::Listed::Newest(_) => {}
                }
            }
        }
        self.met = true;
        Ok(true)
    }

    /// Nobody can name the file's state, now or after another look at it.
    fn is_before_its_record(&mut self) -> Result<(), KeepError> {
        self.place = Place::Unsure;
        let Some(state) = &mut self.state else { return Ok(()) };
        state.database = None;
        self.local.save(state).map_err(self.io("save the state in"))
    }

    /// Whether the slot of the recorded state was built here, and its put was never answered.
    fn is_unheard(&self) -> Result<bool, KeepError> {
        let Some(state) = &self.state else { return Ok(false) };
        self.local.is_unheard(state.txid, state.slot).map_err(self.io("list the slots in"))
    }

    fn is_gone(&self, slot: Txid) -> Result<bool, KeepError> {
        Ok(survey::read_ends(&*self.env.store, &survey::slot_file(slot))?.is_none())
    }

    /// Whether the slot came into a name that had been freed: one that was sent before this machine slept, say. It is
    /// ours then, and no part of the chain.
    fn came_late(&self, txid: Txid) -> Result<bool, KeepError> {
        let catalog = restore::catalog(&*self.env.store)?;
        let slot = catalog.level(Level::SLOTS).iter().find(|file| file.range == TxidRange::single(txid));
        Ok(slot.is_some_and(|slot| retain::came_late(&catalog, slot)))
    }

    /// Brings the checksums of what was applied into the array.
    pub(super) fn flush(&mut self) -> Result<(), KeepError> {
        let io = self.io("write the page checksums in");
        self.layers = 0;
        let (Some(sums), Some(state)) = (&mut self.sums, &mut self.state) else { return Ok(()) };
        if let Some(record) = state.sums.as_mut().filter(|record| record.flushed < state.txid) {
            // The record on the disk is past what the array counts for: until the next one, it does not count.
            record.commit = sums.flush(state.txid).map_err(io)?;
            record.flushed = state.txid;
        }
        Ok(())
    }

    /// Back-fills a WAL that has grown, and when idle cuts a large one to nothing.
    pub(super) fn keep_wal_small(&mut self, idle: bool) -> Result<(), KeepError> {
        let Some(facts) = self.seen else { return Ok(()) };
        if facts.mx_frame < self.settings.min_checkpoint_pages.max(1) {
            return Ok(());
        }
        if !facts.all_backfilled() {
            self.edge().checkpoint().map_err(self.sqlite())?;
        }
        if idle && self.settings.truncate_pages > 0 {
            let frame = u64::try_from(frame_len(facts.page_size)).unwrap_or(u64::MAX);
            let large = u64::from(self.settings.truncate_pages).saturating_mul(frame);
            let path = crate::files::with_suffix(&self.database, "-wal");
            let len = self.env.files.len(&path).map_err(self.io("look at the WAL beside"))?;
            if len.is_some_and(|len| len >= large) {
                return self.shrink_wal();
            }
        }
        Ok(())
    }

    /// Cuts the WAL to nothing if nobody is in the way. A read transaction from before sees to it that no commit is
    /// taken along unseen.
    pub(super) fn shrink_wal(&mut self) -> Result<(), KeepError> {
        let sqlite = self.sqlite();
        self.edge().checkpoint().map_err(&sqlite)?;
        let Some(edge) = &mut self.edge else { return Ok(()) };
        let held = edge.begin_hold().and_then(|()| edge.facts());
        let cut = match held {
            Ok(Some(facts)) if self.is_seen(&facts) => self.edge().checkpoint_truncate().map(drop),
            Ok(_) => Ok(()),
            Err(error) if is_busy(&error) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(edge) = &mut self.edge {
            edge.end_hold();
        }
        cut.map_err(sqlite)
    }
}
