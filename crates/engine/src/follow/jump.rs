//! A later state at once: restored beside the file, and laid over it in one transaction. And the way back of a file
//! that has changes of its own.

use super::{Followed, Follower, Listed, Place};
use crate::error::KeepError;
use crate::files::{self, File, Open};
use crate::forward::{self, Before, Newer, restore_state};
use crate::local::{RestoredRecord, State, record_state};
use crate::restore;
use crate::slot::BuildError;
use crate::sums::Sums;
use crate::survey;
use litekeep_core::assess::Position;
use litekeep_formats::{Checksum, PageSize, Txid};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many files with changes of its own may lie beside a database.
const ASIDES: u32 = 1000;

/// Bytes of two files that are compared at a time.
const COMPARED: usize = 1 << 16;

impl Follower {
    /// The way back of a file that holds changes which the chain lacks: they are kept aside as a SQLite file of their
    /// own, named in the log; then the file is made the chain's tip, through SQLite, in one transaction. Returns the
    /// file that was kept, also if an earlier call kept it; `None` if there was nothing to keep, and stepping on is enough.
    /// Restores the tip.
    ///
    /// # Errors
    /// As [`Follower::step`]; whatever happens, the changes are in one of the two files.
    pub fn bring_back(&mut self) -> Result<Option<PathBuf>, KeepError> {
        if !self.find_place()? {
            return Err(self.sqlite()(super::busy()));
        }
        if self.place != Place::Ahead && (self.met || self.meet()?) {
            // What was kept aside by a call that failed later has gone from the file: nothing stands for it there.
            (self.fell_back, self.passed) = (false, false);
            return Ok(self.aside.take().map(|(path, _)| path));
        }
        let own = self.own_transactions()?;
        let Some(target) = self.counted()? else {
            // Or the very first image, of which nothing was ever confirmed.
            return Err(self.gone(self.state.as_ref().map_or(Txid::FIRST, |state| state.txid))?);
        };
        self.newer = Some(self.restore(target)?);
        let (path, content) = self.keep_aside()?;
        let why = match self.fell_back {
            true => "the power went, and took commits from the database that the replica has",
            false => "the database holds changes that the replica lacks",
        };
        tracing::warn!(db = %self.database.display(), kept = %path.display(), transactions = own,
            "{why}; what it holds is kept aside, and it becomes the replica's newest state");
        self.aside = Some((path.clone(), content));
        self.place = Place::Ahead;
        // The record stays until the file is another: what it is about to become is noted before that is committed.
        (self.state, self.sums, self.ready) = (None, None, None);
        self.ahead.clear();
        match self.jump(Some(target))? {
            Followed::Jumped(_) => {
                self.aside = None;
                (self.fell_back, self.passed) = (false, false);
                Ok(Some(path))
            }
            _ => Err(self.sqlite()(super::busy())),
        }
    }

    /// How many transactions were built here that the chain lacks; changes that are in none yet count as one.
    fn own_transactions(&mut self) -> Result<u64, KeepError> {
        let in_none = match (self.state.clone(), self.seen) {
            (Some(state), Some(facts)) => !self.ends_at(&state, &facts)?,
            _ => true,
        };
        let staged = self.local.staged().map_err(self.io("read the state in"))?;
        let mut own = u64::from(in_none);
        for txid in staged.into_iter().rev() {
            let ours = self.staged_checksum(txid).map_err(self.io("read a slot in"))?;
            let theirs = survey::read_ends(&*self.env.store, &survey::slot_file(txid))?;
            if theirs.is_some_and(|(_, trailer)| Some(trailer.file.get()) == ours) {
                break;
            }
            own += 1;
        }
        Ok(own)
    }

    /// The file checksum of a slot that was built here: its last eight bytes; `None` for what a crash left of one.
    fn staged_checksum(&self, txid: Txid) -> std::io::Result<Option<u64>> {
        let file = self.env.files.open(&self.local.slot(txid), Open::Read)?;
        let mut last = [0; 8];
        match files::read_exact_at(&*file, &mut last, file.len()?.saturating_sub(8)) {
            Ok(()) => Ok(Some(u64::from_be_bytes(last))),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what the file holds into a SQLite file beside it.
    fn keep_aside(&mut self) -> Result<(PathBuf, Checksum), KeepError> {
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::busy()))?;
        let io = self.io("keep changes aside in");
        let draft = self.local.dir().join("aside.tmp");
        let file = self.env.files.open(&draft, Open::CreateOrTruncate).map_err(&io)?;
        let size = scan.page_size();
        let mut content = Checksum::EMPTY;
        scan.for_each(|page, data| {
            content = content.toggle(crate::local::content(page, data));
            Ok::<_, BuildError>(file.write_at(data, page.offset(size))?)
        })
        .map_err(self.walk_failed())?;
        let pages = scan.pages().map_err(self.sqlite())?;
        file.set_len(u64::from(pages) * u64::from(size.get())).map_err(&io)?;
        file.sync().map_err(&io)?;
        if let Some((path, known)) = &self.aside
            && *known == content
        {
            return Ok((path.clone(), content));
        }
        let txid = self.state.as_ref().map_or(Txid::FIRST, |state| state.txid);
        let name = files::with_suffix(&self.database, &format!("-aside-{txid}"));
        let numbered = (1..ASIDES).map(|n| match n {
            1 => name.clone(),
            n => files::with_suffix(&name, &format!("-{n}")),
        });
        for path in numbered {
            if self.env.files.id(&path).map_err(&io)?.is_none() {
                self.env.files.rename(&draft, &path).map_err(&io)?;
            } else if self.are_equal(&*file, &path).map_err(&io)? {
                // A try before this one, perhaps of a former life, came as far as here.
                self.env.files.remove(&draft).map_err(&io)?;
            } else {
                continue;
            }
            self.env.files.sync_dir(files::parent(&path)).map_err(&io)?;
            return Ok((path, content));
        }
        Err(io(std::io::ErrorKind::AlreadyExists.into()))
    }

    fn are_equal(&self, file: &dyn File, path: &Path) -> std::io::Result<bool> {
        let other = self.env.files.open(path, Open::Read)?;
        let len = file.len()?;
        if other.len()? != len {
            return Ok(false);
        }
        let (mut ours, mut theirs) = (vec![0; COMPARED], vec![0; COMPARED]);
        for at in (0..len).step_by(COMPARED) {
            let count = usize::try_from(len - at).unwrap_or(COMPARED).min(COMPARED);
            files::read_exact_at(file, &mut ours[..count], at)?;
            files::read_exact_at(&*other, &mut theirs[..count], at)?;
            if ours[..count] != theirs[..count] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From a state that nobody can name: to the newest one, whatever it is.
    pub(super) fn leave_unsure(&mut self) -> Result<Followed, KeepError> {
        let here = self.at().txid;
        let Listed::Newest(_) = self.listed(here)? else {
            self.place = Place::Ahead;
            return Ok(Followed::Ahead);
        };
        let target = self.counted()?;
        self.jump(target)
    }

    /// A slot announces an image. Where nothing stands behind it, it does not count (yet), and this is the tip: until
    /// then the name behind the last one is looked at, and nothing is listed but now and then.
    pub(super) fn jump_to_image(&mut self, announced: Txid, sent: Duration) -> Result<Followed, KeepError> {
        let known = self.unfinished.map(|last| last.txid).filter(|last| *last >= announced);
        let next = known.unwrap_or(announced).next();
        let news =
            known.is_none() || survey::read_ends(&*self.env.store, &survey::slot_file(next))?.is_some();
        if news || self.pace.must_list(sent) {
            let here = self.at().txid;
            self.pace.listed(sent);
            let target = self.counted()?.filter(|target| *target > here);
            if target.is_some() {
                return self.jump(target);
            }
        }
        self.at_tip(sent)
    }

    /// The newest state that counts; what follows it is noted.
    pub(super) fn counted(&mut self) -> Result<Option<Txid>, KeepError> {
        let store = &*self.env.store;
        let catalog = survey::list_all(store)?;
        let ended = restore::ended(store, &catalog, self.manner.parallelism)?;
        self.unfinished = ended.unfinished;
        Ok(ended.at)
    }

    /// Makes the file this state of the chain. `None`: there is none to go to yet.
    pub(super) fn jump(&mut self, target: Option<Txid>) -> Result<Followed, KeepError> {
        let Some(target) = target else { return Ok(Followed::AtTip) };
        self.ready = None;
        self.ahead.clear();
        let kept = self.newer.take().filter(|newer| newer.txid() == Some(target));
        let newer = match kept {
            Some(newer) => newer,
            None => self.restore(target)?,
        };
        let record = self.record_of(&newer)?;
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::busy()))?;
        let ours = scan.page_size();
        drop(scan);
        if record.page_size != ours {
            return self.replace(target, ours, record.page_size);
        }
        let content = newer.content(&*self.env.files, &record).map_err(self.io("read a restored file in"))?;
        self.local.intend(&self.state_of(&record, content)?).map_err(self.io("save the state in"))?;
        let Some(before) = self.lock_for_jump()? else {
            self.newer = Some(newer);
            return Ok(Followed::Busy);
        };
        let laid = self.lay_over(&newer);
        self.commit(laid.map(|before| before.changed), before)?;
        self.jumped(&newer, record, content)
    }

    /// What was kept aside and is to be overwritten; not once the file has been found to be another state.
    fn overwritten(&self) -> Option<Checksum> {
        self.aside.as_ref().filter(|_| self.place == Place::Ahead).map(|(_, content)| *content)
    }

    /// Until a file that was kept aside is overwritten, nothing is known of it but what was kept.
    fn lock_for_jump(&mut self) -> Result<Option<litekeep_core::assess::Facts>, KeepError> {
        if self.overwritten().is_some() {
            self.seen = self.edge().facts().map_err(self.sqlite())?;
        }
        self.lock()
    }

    fn lay_over(&self, newer: &Newer) -> Result<Before, KeepError> {
        let scan = self.scan()?.ok_or_else(|| self.sqlite()(super::busy()))?;
        let before = newer.lay_over(&*self.env.files, self.edge(), &scan).map_err(self.walk_failed())?;
        let expected = match (self.overwritten(), &self.state) {
            (Some(kept), _) => before.content == kept,
            (None, Some(state)) => {
                state.content == Some(before.content)
                    || state.database == Some(before.database)
                    || self.place == Place::Unsure
            }
            (None, None) => false,
        };
        // What is to be overwritten must be what was looked at.
        if expected { Ok(before) } else { Err(self.sqlite()(super::busy())) }
    }

    fn jumped(
        &mut self,
        newer: &Newer,
        record: RestoredRecord,
        content: Checksum,
    ) -> Result<Followed, KeepError> {
        let io = self.io("save the state in");
        let from = self.state.as_ref().map(|state| state.txid.to_string()).unwrap_or_default();
        self.place = Place::Unknown;
        self.env.files.remove(newer.path()).map_err(&io)?;
        let tail = self.env.random.next_u64();
        let content = Some(content);
        let mut state = record_state(&self.local, &*self.env.files, &self.database, &record, tail, content)
            .map_err(&io)?;
        state.stands_at(self.position());
        self.local.save(&state).map_err(&io)?;
        let sums =
            state.sums.map(|record| Sums::open(&*self.env.files, self.local.dir(), &record, state.page_size));
        (self.sums, self.layers) = (sums.transpose().map_err(&io)?, 0);
        let seal = newer.restored().chain.as_ref().and_then(|chain| chain.seal);
        self.epoch = self.epoch.max(seal.map(|seal| seal.epoch));
        self.state = Some(state);
        (self.place, self.met) = (Place::At, true);
        self.pace.progress(self.env.clock.boot());
        tracing::info!(db = %self.database.display(), %from, to = %record.txid, "followed the replica by a jump");
        self.keep_wal_small(false)?;
        Ok(Followed::Jumped(record.txid))
    }

    fn restore(&mut self, target: Txid) -> Result<Newer, KeepError> {
        let dir = self.local.dir().to_owned();
        let mut options = forward::options(target, &dir.join("follow.tmp"), Some(&dir));
        options.parallelism = self.manner.parallelism;
        restore_state(&self.env, target, &options)
    }

    /// What was restored, as a state that the file is to be on its way with: nothing was chosen by a person.
    fn record_of(&self, newer: &Newer) -> Result<RestoredRecord, KeepError> {
        let record = newer.record(self.env.store.location());
        let record = record.ok_or_else(|| self.damaged(Txid::FIRST, &"the replica is no chain any more"))?;
        Ok(RestoredRecord { newest: record.txid, ..record })
    }

    fn state_of(&self, record: &RestoredRecord, content: Checksum) -> Result<State, KeepError> {
        let file = self.file.ok_or_else(|| self.io("look at")(std::io::ErrorKind::NotFound.into()))?;
        Ok(State {
            file,
            replica: record.replica.clone(),
            txid: record.txid,
            slot: record.slot,
            database: Some(record.database),
            commit: record.commit,
            page_size: record.page_size,
            timestamp: record.timestamp,
            position: Position::before_any_frame(record.page_size),
            captured: None,
            tail: 0,
            rewound_from: None,
            content: Some(content),
            forward: Vec::new(),
            sums: None,
        })
    }

    /// Pages of another size: a new file takes the place of the old one, where that is wanted.
    fn replace(&mut self, target: Txid, ours: PageSize, theirs: PageSize) -> Result<Followed, KeepError> {
        if !self.manner.replace_file || self.overwritten().is_some() {
            return Err(KeepError::PageSize {
                database: self.database.clone(),
                replica: self.env.store.location(),
                txid: target,
                ours: ours.get(),
                theirs: theirs.get(),
            });
        }
        tracing::warn!(db = %self.database.display(), from = ours.get(), to = theirs.get(), txid = %target,
            "the page size changed: a new file takes the database's place; who has it open must open it again");
        self.edge = None;
        self.place = Place::Unknown;
        let dir = self.local.dir().to_owned();
        let mut options = forward::options(target, &self.database, Some(&dir));
        options.parallelism = self.manner.parallelism;
        let newer = restore_state(&self.env, target, &options)?;
        let record = self.record_of(&newer)?;
        let tail = self.env.random.next_u64();
        let state = record_state(&self.local, &*self.env.files, &self.database, &record, tail, None)
            .map_err(self.io("save the state in"))?;
        let seal = newer.restored().chain.as_ref().and_then(|chain| chain.seal);
        self.epoch = self.epoch.max(seal.map(|seal| seal.epoch));
        self.state = Some(state);
        Ok(Followed::Jumped(target))
    }
}
