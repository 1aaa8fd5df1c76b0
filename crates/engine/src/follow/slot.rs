//! One slot: read by its name, checked as a whole, written in one transaction.
//!
//! It is decoded twice. The first time gives the checksums that its seal is compared with, and nothing is written;
//! the second time comes from memory, or from a local file where the slot is large.

use super::ahead::Seen;
use super::{Followed, Follower, Place, slot_key};
use crate::error::KeepError;
use crate::files::Open;
use crate::image::FileSource;
use crate::local::{State, content};
use crate::restore::{CHUNK_BYTES, FetchError, Flaw, Ranged};
use crate::slot::{BuildError, database_after};
use crate::survey;
use bytes::Bytes;
use litekeep_core::assess::{Facts, Position};
use litekeep_core::follow::{Known, fits};
use litekeep_formats::crc::page_checksum;
use litekeep_formats::ltx::{DecodeError, Decoder, Header, Trailer};
use litekeep_formats::{ByteSource, Checksum, PageNo, Txid, TxidRange};
use litekeep_store::{Chunk, ErrorKind, Failure, StoreError};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What the next name stands for.
pub(super) enum Found {
    /// Nothing, as yet.
    Nothing,
    /// A slot that goes on from here.
    Slot(Box<Ready>),
    /// A slot that goes on from here, whose content is a file of level 9.
    Elsewhere,
    /// A slot with pages of another size, which SQLite cannot take in place.
    OtherPages,
}

/// A slot that was checked and waits to be written.
pub(super) struct Ready {
    body: Body,
    next: State,
    pages: BTreeMap<PageNo, Checksum>,
    epoch: Option<litekeep_formats::Epoch>,
    noted: bool,
}

/// A whole slot, where it can be read again.
#[derive(Clone)]
enum Body {
    Memory(Bytes),
    File(PathBuf),
}

/// What decoding a slot gave.
struct Decoded {
    header: Header,
    trailer: Trailer,
    pages: BTreeMap<PageNo, Checksum>,
    /// Page 1's part of the content.
    first: Option<Checksum>,
}

enum Source {
    Memory(Bytes),
    File(FileSource),
}

impl ByteSource for Source {
    type Error = io::Error;

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => {
                let count = bytes.len().min(buf.len());
                buf[..count].copy_from_slice(&bytes.split_to(count));
                Ok(count)
            }
            Self::File(file) => file.read(buf),
        }
    }
}

/// Why a slot could not be decoded or written.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Decode(#[from] DecodeError<io::Error>),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl Follower {
    /// Looks at slot `txid` by its name, unless the last look told of it. Also says when the look was sent.
    pub(super) fn find(&mut self, txid: Txid) -> Result<(Found, Duration), KeepError> {
        loop {
            if let Some((seen, sent)) = self.ahead.take(txid) {
                let found = match seen {
                    // One that is no good is asked for alone until it is.
                    Seen::Front(front) => self.whole_slot(txid, front).inspect_err(|_| self.ahead.clear())?,
                    Seen::Nothing => Found::Nothing,
                };
                return Ok((found, sent));
            }
            let now = self.env.clock.boot();
            // Once more where it was missing and a later one was there; then it is asked alone, and if it is still
            // missing this is no tip.
            if self.ahead.look(&*self.env.store, txid, self.manner.parallelism, now)? {
                self.pace.doubt();
            }
        }
    }

    /// The slot that begins with this.
    fn whole_slot(&mut self, txid: Txid, front: Chunk) -> Result<Found, KeepError> {
        let Some(body) = self.body(txid, front)? else {
            // It was there: what took its place lies further on.
            self.pace.doubt();
            return Ok(Found::Nothing);
        };
        let decoded = self.decode(&body, |_, _| Ok(())).map_err(|trouble| self.trouble(txid, trouble))?;
        self.check(txid, body, decoded)
    }

    /// The whole slot: a large one goes to a local file, chunk by chunk. `None` if it went away meanwhile.
    fn body(&self, txid: Txid, front: Chunk) -> Result<Option<Body>, KeepError> {
        if front.bytes.len() as u64 == front.total {
            return Ok(Some(Body::Memory(front.bytes)));
        }
        let io = self.io("write a slot in");
        let path = self.local.dir().join("follow-slot.tmp");
        let file = self.env.files.open(&path, Open::CreateOrTruncate).map_err(&io)?;
        let mut source = Ranged::behind(&*self.env.store, slot_key(txid), front, CHUNK_BYTES);
        let mut buf = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let count = match source.read(&mut buf) {
                Ok(0) => return Ok(Some(Body::File(path))),
                Ok(count) => count,
                Err(error) if error.is_moved() => return Ok(None),
                Err(FetchError::Store(error)) => return Err(error.into()),
                Err(error) => return Err(self.damaged(txid, &error)),
            };
            file.write_at(&buf[..count], at).map_err(&io)?;
            at += count as u64;
        }
    }

    /// Reads a whole slot, page by page, and verifies its own checksum.
    fn decode(
        &self,
        body: &Body,
        mut each: impl FnMut(PageNo, &[u8]) -> Result<(), rusqlite::Error>,
    ) -> Result<Decoded, Trouble> {
        let source = match body {
            Body::Memory(bytes) => Source::Memory(bytes.clone()),
            Body::File(path) => {
                let file = self.env.files.open(path, Open::Read).map_err(DecodeError::Source)?;
                Source::File(FileSource::new(file))
            }
        };
        let mut decoder = Decoder::new(source)?;
        let header = *decoder.header();
        let mut buf = vec![0; header.page_size.bytes()];
        let (mut pages, mut first) = (BTreeMap::new(), None);
        while let Some(page) = decoder.next_page(&mut buf)? {
            pages.insert(page, page_checksum(page, &buf));
            if page == PageNo::FIRST {
                first = Some(content(page, &buf));
            }
            each(page, &buf)?;
        }
        let trailer = decoder.finish()?;
        Ok(Decoded { header, trailer, pages, first })
    }

    /// Compares a whole slot with where we are; nothing is written.
    fn check(&mut self, txid: Txid, body: Body, slot: Decoded) -> Result<Found, KeepError> {
        let (header, state) = (&slot.header, self.at());
        if header.range != TxidRange::single(txid) {
            return Err(self.damaged(txid, &Flaw::Name));
        }
        if header.commit == 0 {
            return Err(self.damaged(txid, &Flaw::NoPages));
        }
        let seal = header.seal();
        let elsewhere = header.content_is_elsewhere();
        let other_pages = header.page_size != state.page_size;
        let known = Known {
            slot: state.slot,
            epoch: self.epoch,
            unsealed_after_seal: self.manner.unsealed_after_seal,
        };
        if elsewhere || other_pages {
            // What it makes of the database is checked where that is restored.
            let sealed = seal.and_then(|seal| seal.database);
            let computed = sealed.unwrap_or(Checksum::EMPTY);
            fits(&known, seal.as_ref(), computed, None).map_err(|misfit| self.foreign(txid, &misfit))?;
            return Ok(if elsewhere { Found::Elsewhere } else { Found::OtherPages });
        }
        // A slot that grows the database brings every page that it adds (R05).
        let missing = (state.commit.saturating_add(1)..=header.commit)
            .filter_map(PageNo::new)
            .find(|page| *page != state.page_size.lock_page() && !slot.pages.contains_key(page));
        if let Some(page) = missing {
            return Err(self.damaged(txid, &Flaw::MissingPage(page)));
        }
        let next = self.after(&slot)?;
        let database = next.database.unwrap_or(Checksum::EMPTY);
        fits(&known, seal.as_ref(), database, slot.trailer.post_apply)
            .map_err(|misfit| self.foreign(txid, &misfit))?;
        let epoch = seal.map(|seal| seal.epoch);
        Ok(Found::Slot(Box::new(Ready { body, next, pages: slot.pages, epoch, noted: false })))
    }

    /// The state after a slot: its own word for page 1, whatever SQLite will count there.
    fn after(&self, slot: &Decoded) -> Result<State, KeepError> {
        let io = self.io("read the page checksums in");
        let state = self.at();
        let (Some(sums), Some(before), Some(content)) = (&self.sums, state.database, state.content) else {
            return Err(KeepError::Build {
                txid: slot.header.range.max(),
                error: "a follower that knows its place knows its checksums".to_owned(),
            });
        };
        let after = database_after(sums, Some(before), slot.header.commit, &slot.pages).map_err(&io)?;
        let database = after.unwrap_or(before);
        let old_first = sums.get(PageNo::FIRST).map_err(&io)?.unwrap_or(Checksum::EMPTY);
        let new_first = slot.pages.get(&PageNo::FIRST).copied().unwrap_or(old_first);
        // All but page 1 is the same in the checksum and in the content.
        let first = slot.first.unwrap_or_else(|| content.toggle(before).toggle(old_first));
        Ok(State {
            txid: slot.header.range.max(),
            slot: Some(slot.trailer.file),
            database: Some(database),
            commit: slot.header.commit,
            timestamp: slot.header.timestamp.max(state.timestamp),
            tail: self.env.random.next_u64(),
            content: Some(database.toggle(new_first).toggle(first)),
            forward: Vec::new(),
            ..state.clone()
        })
    }

    /// Writes the slot that is ready.
    pub(super) fn apply(&mut self) -> Result<Followed, KeepError> {
        let Some(mut ready) = self.ready.take() else { return Ok(Followed::Busy) };
        let txid = ready.next.txid;
        if !ready.pages.is_empty() || ready.next.commit != self.at().commit {
            if !ready.noted {
                self.local.intend(&ready.next).map_err(self.io("save the state in"))?;
                ready.noted = true;
            }
            if !self.commit_slot(&ready)? {
                self.ready = Some(ready);
                return Ok(Followed::Busy);
            }
        }
        self.applied(ready)?;
        self.keep_wal_small(false)?;
        Ok(Followed::Applied(txid))
    }

    /// One transaction; `false` while somebody else holds the lock, or has changed the database.
    fn commit_slot(&mut self, ready: &Ready) -> Result<bool, KeepError> {
        let Some(before) = self.lock()? else { return Ok(false) };
        let edge = self.edge();
        let written = self
            .decode(&ready.body, |page, data| edge.write_page(page, data))
            .map_err(|trouble| self.trouble(ready.next.txid, trouble))
            .and_then(|decoded| {
                let same = Some(decoded.trailer.file) == ready.next.slot;
                if same {
                    Ok(())
                } else {
                    Err(self.damaged(ready.next.txid, &"it changed while it was read"))
                }
            })
            .and_then(|()| edge.cut_after(ready.next.commit).map_err(self.sqlite()));
        self.commit(written.map(|()| true), before)?;
        Ok(true)
    }

    /// Takes the write lock of a database that is as it was seen; `None` if that cannot be had now.
    pub(super) fn lock(&mut self) -> Result<Option<Facts>, KeepError> {
        let edge = self.edge();
        if !edge.try_write_lock().map_err(self.sqlite())? {
            return Ok(None);
        }
        match edge.facts() {
            Ok(Some(facts)) if self.is_seen(&facts) => Ok(Some(facts)),
            Ok(other) => {
                edge.write_unlock();
                if other.is_some() {
                    self.place = Place::Unknown;
                }
                Ok(None)
            }
            Err(error) => {
                edge.write_unlock();
                Err(self.sqlite()(error))
            }
        }
    }

    /// Ends the transaction of [`Follower::lock`]: `written` says whether anything was written, or why not everything
    /// was. Notes the WAL as it is behind our own commit; if somebody else's came in between, that is found out anew.
    pub(super) fn commit(
        &mut self,
        written: Result<bool, KeepError>,
        before: Facts,
    ) -> Result<(), KeepError> {
        let edge = self.edge();
        let committed = written.and_then(|written| edge.commit().map(|()| written).map_err(self.sqlite()));
        // A commit that failed may leave its transaction.
        edge.write_unlock();
        let Ok(written) = committed else {
            self.place = Place::Unknown;
            return committed.map(drop);
        };
        let after = self.edge().facts().map_err(self.sqlite())?;
        let own = before.change.wrapping_add(u32::from(written));
        self.seen = after.filter(|after| after.change == own);
        Ok(())
    }

    /// The slot is in the file; now the record says so.
    fn applied(&mut self, ready: Ready) -> Result<(), KeepError> {
        let Ready { mut next, pages, epoch, body, .. } = ready;
        next.stands_at(self.position());
        // Until the record stands, the note of the next state is what counts.
        self.place = Place::Unknown;
        self.local.save(&next).map_err(self.io("save the state in"))?;
        if let Some(sums) = &mut self.sums {
            sums.push(next.txid, next.commit, pages);
            self.layers += 1;
        }
        self.state = Some(next);
        self.epoch = epoch.or(self.epoch);
        self.place = Place::At;
        if self.layers >= super::LAYERS {
            self.flush()?;
        }
        if let Body::File(path) = body {
            self.env.files.remove(&path).map_err(self.io("remove a slot in"))?;
        }
        Ok(())
    }

    /// Where the WAL ends as we left it.
    pub(super) fn position(&self) -> Position {
        let page_size = self.state.as_ref().map(|state| state.page_size);
        match (&self.seen, page_size) {
            (Some(facts), _) => Position::behind(facts),
            (None, Some(page_size)) => Position::before_any_frame(page_size),
            (None, None) => Position::before_any_frame(litekeep_formats::PageSize::MAX),
        }
    }

    fn trouble(&self, txid: Txid, trouble: Trouble) -> KeepError {
        match trouble {
            Trouble::Sqlite(error) => self.sqlite()(error),
            Trouble::Decode(DecodeError::Source(error)) => self.io("read a slot in")(error),
            Trouble::Decode(DecodeError::Format(error)) => self.damaged(txid, &error),
        }
    }

    /// The error for a slot that is no good.
    pub(super) fn damaged(&self, txid: Txid, what: &dyn std::fmt::Display) -> KeepError {
        let object = format!("{}: {}", self.env.store.location(), slot_key(txid));
        let cause = Failure::Text(what.to_string());
        StoreError::new(ErrorKind::DataDamaged, "follow", object, cause).into()
    }

    /// The error for a slot that is whole and does not go on from here.
    fn foreign(&self, txid: Txid, why: &dyn std::fmt::Display) -> KeepError {
        let by = format!("{why} ({})", survey::who_wrote(&*self.env.store, txid));
        KeepError::Fenced { txid, replica: self.env.store.location(), by }
    }

    /// What a page walk met.
    pub(super) fn walk_failed(&self) -> impl Fn(BuildError) -> KeepError + 'static {
        let (io, sqlite) = (self.io("read or write a file in"), self.sqlite());
        move |error| match error {
            BuildError::Io(error) => io(error),
            BuildError::Sqlite(error) => sqlite(error),
            error @ (BuildError::Format(_) | BuildError::TooLarge(_)) => {
                KeepError::build(Txid::FIRST, &error)
            }
        }
    }
}
