//! Keeps a local SQLite file at the tip of a chain that somebody else writes.
//!
//! Slots are read by name, strictly in order, checked as a whole, and written through SQLite in one transaction each;
//! open readers keep their snapshot. Where the chain went on without a slot that is still to be had, the tip is
//! restored beside the file and what differs is written (R34). What the file is about to become is noted before each
//! commit, so that a crash at any point leaves a file that is known to be one state of the chain or the next. One
//! transaction for several slots would save syncs and buy nothing: a small slot takes 2 ms, or 27 ms on a disk that
//! others keep busy (five syncs), and an owner makes the next one in a round trip to the store at the soonest.
//!
//! Never: writes to the replica, writes a page behind SQLite's back, waits for a lock, or overwrites changes that are
//! not the chain's (they are kept aside first, and only when [`Follower::bring_back`] is told to).
//!
//! **Bounds.** At the tip a step asks the store for the next slot's name, once. Behind a slot that was found, for two
//! names at once, then for four and eight ([`Manner::parallelism`] at most), until one is not there: N slots behind cost
//! about N / 8 + 4 round trips and at most seven requests for nothing. The steps between apply what was found, one slot
//! each, and ask for nothing; where a name was missing and a later one was there, it is asked once more, alone. The first
//! 4 MiB of each name asked lie in memory until its turn, 32 MiB at most; what a slot has beyond that is read into a file
//! when its turn comes, a read for each 4 MiB.
//!
//! The listings of all levels (and the next name again) are asked at first, when the last look is older than 30 s by
//! the boot clock, and 30 s after the last slot, then once a minute. Slots stay in the replica for 180 s at least, so a
//! follower that looks more often than that never needs the listings; a gap that should not be there is bridged a
//! minute later at the latest. A jump is a restore.

mod ahead;
mod jump;
mod place;
mod slot;

#[cfg(test)]
pub(crate) mod tests;

use crate::error::KeepError;
use crate::files::FileId;
use crate::forward::Newer;
use crate::local::{self, Local, State};
use crate::replicator::Env;
use crate::restore::{self, Unfinished};
use crate::settings::{Durability, Settings};
use crate::sqlite::{Edge, is_busy};
use crate::sums::Sums;
use crate::survey;
use crate::wal::Wal;
use ahead::Ahead;
use litekeep_core::assess::Facts;
use litekeep_core::follow::Pace;
use litekeep_core::lineage::BesideReason;
use litekeep_formats::{Checksum, Epoch, Level, Txid, TxidRange};
use litekeep_store::{ErrorKind, Key};
use slot::{Found, Ready};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How many slots' page checksums wait in memory until they are written down in one go.
const LAYERS: u32 = 16;

/// How a follower deals with what not every user wants dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Put a new file in the place of the old one where the chain's page size changes. Connections that have the old
    /// file open do not see the new one: not for a process that embeds this. Else that is an error.
    pub replace_file: bool,
    /// Take slots without a seal also behind sealed ones: a Litestream that took the replica over. Else that is a
    /// foreign writer. A chain without any seal is always followed.
    pub unsealed_after_seal: bool,
    /// Requests in flight while a tip is restored, or while it is behind; 1 works on the caller's thread alone.
    pub parallelism: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self { replace_file: false, unsealed_after_seal: false, parallelism: restore::PARALLELISM }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// The file is one slot further: at this transaction.
    Applied(Txid),
    /// The chain had nothing further when the look was sent.
    AtTip,
    /// The file was made this state at once, over transactions that were not read one by one.
    Jumped(Txid),
    /// Somebody keeps the database locked; nothing was lost, step again soon. What was read is kept.
    Busy,
    /// The file holds changes that the chain lacks. Nothing more happens before [`Follower::bring_back`].
    Ahead,
}

/// How the file lies to what is recorded of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// To be found out.
    Unknown,
    /// It is the recorded state.
    At,
    /// It is a state of the chain, and it is not clear which: only a jump leads on from it.
    Unsure,
    /// It is neither.
    Ahead,
}

/// See the module's text.
pub struct Follower {
    env: Env,
    settings: Settings,
    manner: Manner,
    database: PathBuf,
    local: Local,
    wal: Wal,
    edge: Option<Edge>,
    /// The database file that the connections have open.
    file: Option<FileId>,
    /// What is recorded.
    state: Option<State>,
    sums: Option<Sums>,
    layers: u32,
    place: Place,
    /// The file is from before a loss of power, and lacks what the replica had from it.
    fell_back: bool,
    /// The chain went on past the recorded state, and may do so without it.
    passed: bool,
    /// The WAL when `place` was found out, or left so by a commit of our own.
    seen: Option<Facts>,
    /// The recorded state was found in the replica.
    met: bool,
    epoch: Option<Epoch>,
    /// The last name behind the tip, where an image was announced there that does not count.
    unfinished: Option<Unfinished>,
    ready: Option<Ready>,
    /// What was read behind it.
    ahead: Ahead,
    newer: Option<Newer>,
    /// Changes that were kept aside, and what the file held then.
    aside: Option<(PathBuf, Checksum)>,
    pace: Pace,
    looked_at: Option<Duration>,
}

impl Follower {
    /// Takes the local state directory of a database file. Neither the file nor the replica is touched before the
    /// first step, which finds out where the file lies on the chain (it reads the whole file once).
    ///
    /// # Errors
    /// [`KeepError::Local`] when another engine has this database, or the directory cannot be made.
    pub fn open(env: Env, settings: &Settings, manner: Manner, database: &Path) -> Result<Self, KeepError> {
        let dir = local::directory(database, settings.meta_path.as_deref());
        let local = Local::open(&env.files, database, dir)?;
        Self::with_local(env, settings, manner, database, local)
    }

    /// The same with the directory's lock taken already.
    pub(crate) fn with_local(
        env: Env,
        settings: &Settings,
        manner: Manner,
        database: &Path,
        local: Local,
    ) -> Result<Self, KeepError> {
        let wal = Wal::new(Arc::clone(&env.files), crate::files::with_suffix(database, "-wal"));
        let mut follower = Self {
            env,
            settings: settings.clone(),
            manner,
            database: database.to_owned(),
            local,
            wal,
            edge: None,
            file: None,
            state: None,
            sums: None,
            layers: 0,
            place: Place::Unknown,
            fell_back: false,
            passed: false,
            seen: None,
            met: false,
            epoch: None,
            unfinished: None,
            ready: None,
            ahead: Ahead::default(),
            newer: None,
            aside: None,
            pace: Pace::default(),
            looked_at: None,
        };
        follower.state = follower.recorded()?;
        Ok(follower)
    }

    /// At most one look at the replica, and at most one slot applied. Blocks for a bounded number of store verbs, for no lock
    /// and no time.
    ///
    /// # Errors
    /// The store's, which may pass. [`KeepError::Fenced`] names a slot of a foreign writer, an error of kind
    /// *damaged* a slot that is no good: nothing of it was applied. [`KeepError::Wiped`] and [`KeepError::Emptied`]
    /// when the replica holds nothing any more, [`KeepError::PageSize`] where a new file would be needed.
    pub fn step(&mut self) -> Result<Followed, KeepError> {
        match self.look() {
            Err(KeepError::Sqlite { error, .. }) if is_busy(&error) => Ok(Followed::Busy),
            other => other,
        }
    }

    /// The newest transaction that the file is known to be at; `None` where nothing is recorded of the file. Its
    /// checksums are the chain's: SQLite counts in page 1 by itself, so the file's own may differ there.
    pub fn tip(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The last name that the chain has used, as far as the last look saw.
    pub(crate) fn chain_end(&self) -> Option<Txid> {
        self.past_tip().map(|last| last.txid).or(self.state.as_ref().map(|state| state.txid))
    }

    /// The chain is known to go on from here, whatever the last listing showed: the next look lists again.
    pub(crate) fn doubt_tip(&mut self) {
        self.pace.doubt();
    }

    /// The newest epoch seen on the chain; `None` while nothing carried a seal.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch.max(self.past_tip().and_then(|last| last.epoch))
    }

    /// What stands behind the tip and does not count: who goes on from here does so behind that.
    pub(crate) fn past_tip(&self) -> Option<Unfinished> {
        self.unfinished.filter(|last| self.state.as_ref().is_some_and(|state| state.txid < last.txid))
    }

    /// The state directory, whose lock it holds.
    pub(crate) fn local(&self) -> &Local {
        &self.local
    }

    /// Whether the next step begins with a look of its own. Else it goes on with what the last look found, and if that
    /// leads to the tip, then to the tip as it was when that look was sent.
    pub(crate) fn will_look(&self) -> bool {
        let known = self.state.as_ref().is_some_and(|state| self.ahead.knows(state.txid.next()));
        self.ready.is_none() && !known
    }

    /// When the last look that reached the tip was *sent*, by the boot clock.
    pub fn looked_at(&self) -> Option<Duration> {
        self.looked_at
    }

    /// Ends following and hands the file over to a replicator: what is recorded then is the file as it is, up to the
    /// last frame of the WAL, and the checksums of all its pages.
    ///
    /// # Errors
    /// [`KeepError::Beside`] when the file is not a state of the chain; the local disk's and SQLite's.
    pub(crate) fn into_local(mut self) -> Result<Local, KeepError> {
        self.settle()?;
        Ok(self.local)
    }

    /// Leaves the file at rest: all in the database file, as far as nobody else is reading, and everything recorded.
    ///
    /// # Errors
    /// [`KeepError::Beside`] when the file is not a state of the chain; the local disk's and SQLite's.
    pub fn close(mut self) -> Result<(), KeepError> {
        if self.find_place()? && self.place == Place::At {
            self.shrink_wal()?;
        }
        let io = self.io("leave the file at rest in");
        let database = self.database.clone();
        self.into_local()?.end_work(&database).map_err(io)
    }

    /// Whether a file that is [`Followed::Ahead`] must not become the newest state: the power took commits from it that
    /// the replica may hold and whose writer was told so (`Durability::Replicated`), or the chain went on without it.
    pub(crate) fn must_return(&self) -> bool {
        self.passed || (self.fell_back && self.settings.durability == Durability::Replicated)
    }

    /// Whether the replica is past the recorded state: what a file that is [`Followed::Ahead`] holds can never follow that.
    pub(crate) fn is_passed(&mut self) -> Result<bool, KeepError> {
        let Some(here) = self.state.as_ref().map(|state| state.txid) else { return Ok(false) };
        Ok(self.counted()?.is_some_and(|newest| newest > here))
    }

    /// The local state that [`Follower::settle`] left. The file is not looked at again: no connection has been open since,
    /// so that SQLite would read the WAL anew, up to whatever frames it finds valid by now.
    pub(crate) fn settled(self) -> Local {
        debug_assert!(self.edge.is_none());
        self.local
    }

    /// What [`Follower::into_local`] does and may fail at; may be repeated.
    pub(crate) fn settle(&mut self) -> Result<(), KeepError> {
        if !self.find_place()? {
            return Err(self.sqlite()(busy()));
        }
        if self.place != Place::At {
            return Err(self.beside(BesideReason::BothWentOn));
        }
        self.ready = None;
        self.ahead.clear();
        self.newer = None;
        self.flush()?;
        let io = self.io("save the state in");
        let Some(state) = &self.state else { return Ok(()) };
        self.local.save(state).map_err(&io)?;
        self.local.forget_slots().map_err(&io)?;
        self.local.tidy(state).map_err(&io)?;
        self.edge = None;
        Ok(())
    }

    fn look(&mut self) -> Result<Followed, KeepError> {
        if !self.find_place()? {
            return Ok(Followed::Busy);
        }
        if self.place == Place::Ahead || (!self.met && !self.meet()?) {
            self.place = Place::Ahead;
            return Ok(Followed::Ahead);
        }
        if self.local.power_lost() {
            // Behind the last frame that the power left there may be later ones. The next slot, if it is of a commit that
            // was made here, writes the frame between them as it was, and SQLite would find those valid again.
            if self.place == Place::At {
                self.shrink_wal()?;
            }
            self.local.forget_work().map_err(self.io("note the work in"))?;
        }
        if self.place == Place::Unsure {
            return self.leave_unsure();
        }
        if self.newer.is_some() {
            return self.jump(self.newer.as_ref().and_then(Newer::txid));
        }
        if self.ready.is_none() {
            let (next, now) = (self.at().txid.next(), self.env.clock.boot());
            // After a long sleep the name may have been used, freed and taken by something late (docs/model.md, rule 9).
            if self.pace.is_stale(now) && self.covered(next)? {
                return match self.counted()?.filter(|target| *target >= next) {
                    None => self.listed_tip(now),
                    target => self.jump(target),
                };
            }
            let (found, sent) = self.find(next)?;
            match found {
                Found::Slot(ready) => self.ready = Some(*ready),
                Found::Elsewhere => return self.jump_to_image(next, sent),
                Found::OtherPages => return self.jump(Some(next)),
                Found::Nothing => return self.nothing_next(sent),
            }
            self.pace.progress(sent);
        }
        self.apply()
    }

    /// The next slot is not there: the tip, unless something lies further on.
    fn nothing_next(&mut self, sent: Duration) -> Result<Followed, KeepError> {
        let here = self.at().txid;
        if self.pace.must_list(sent) {
            match self.listed(here)? {
                Listed::Behind => {
                    self.place = Place::Ahead;
                    return Ok(Followed::Ahead);
                }
                Listed::Newest(newest) if newest > here => {
                    // It may have come between the two looks.
                    let (found, sent) = self.find(here.next())?;
                    return match found {
                        Found::Nothing => match self.counted()?.filter(|txid| *txid > here) {
                            None => self.listed_tip(sent),
                            target => self.jump(target),
                        },
                        Found::Slot(ready) => {
                            self.ready = Some(*ready);
                            self.pace.progress(sent);
                            self.apply()
                        }
                        Found::Elsewhere => self.jump_to_image(here.next(), sent),
                        Found::OtherPages => self.jump(Some(here.next())),
                    };
                }
                Listed::Newest(_) => self.pace.listed(sent),
            }
        }
        self.at_tip(sent)
    }

    /// What is listed past our state does not count, or not yet.
    fn listed_tip(&mut self, sent: Duration) -> Result<Followed, KeepError> {
        self.pace.listed(sent);
        self.at_tip(sent)
    }

    fn at_tip(&mut self, sent: Duration) -> Result<Followed, KeepError> {
        self.pace.tip(sent);
        self.looked_at = Some(sent);
        self.keep_wal_small(true)?;
        Ok(Followed::AtTip)
    }

    /// Whether a higher level holds the transaction of that name already.
    fn covered(&self, next: Txid) -> Result<bool, KeepError> {
        let catalog = restore::catalog(&*self.env.store)?;
        Ok(catalog.files().any(|file| file.level != Level::SLOTS && file.range.max() >= next))
    }

    /// What the listings show past our state.
    fn listed(&self, here: Txid) -> Result<Listed, KeepError> {
        let store = &*self.env.store;
        let newest = restore::catalog(store)?.newest();
        match newest {
            Some(newest) if newest >= here => Ok(Listed::Newest(newest)),
            // A listing may lag: the name decides.
            _ => match store.head(&slot_key(here)) {
                Ok(_) => Ok(Listed::Newest(here)),
                Err(error) if error.kind() == ErrorKind::NotFound => match newest {
                    Some(_) => Ok(Listed::Behind),
                    None => Err(self.gone(here)?),
                },
                Err(error) => Err(error.into()),
            },
        }
    }

    /// The error for a replica that holds nothing.
    fn gone(&self, here: Txid) -> Result<KeepError, KeepError> {
        let replica = self.env.store.location();
        let facts = survey::epoch_facts(&*self.env.store)?;
        Ok(match facts.newest_record {
            Some(epoch) if facts.any_opened => KeepError::Wiped { replica, epoch },
            _ => KeepError::Emptied { replica, txid: here },
        })
    }

    fn at(&self) -> &State {
        self.state.as_ref().expect("BUG: a follower that knows its place has a state")
    }

    fn io(&self, what: &'static str) -> impl Fn(io::Error) -> KeepError + 'static {
        let path = self.local.dir().to_owned();
        move |error| KeepError::Io { what, path: path.clone(), error }
    }

    fn sqlite(&self) -> impl Fn(rusqlite::Error) -> KeepError + 'static {
        let path = self.database.clone();
        move |error| KeepError::Sqlite { path: path.clone(), error }
    }

    fn beside(&self, reason: BesideReason) -> KeepError {
        KeepError::Beside {
            database: self.database.clone(),
            replica: self.env.store.location(),
            tip: self.state.as_ref().map_or(Txid::FIRST, |state| state.txid),
            reason,
        }
    }
}

/// See [`Follower::listed`].
enum Listed {
    /// The newest transaction of any level, ours or a later one.
    Newest(Txid),
    /// The chain ends before our state.
    Behind,
}

fn slot_key(txid: Txid) -> Key {
    Key::Ltx(Level::SLOTS, TxidRange::single(txid))
}

/// SQLite's own word for "not now".
fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}
