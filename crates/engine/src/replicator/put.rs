//! Staged slots go into the replica, one at a time, each created and never replaced.

use super::mend::Oldest;
use super::{Phase, Replicator, Report, Stopping};
use crate::error::KeepError;
use crate::files::{File, Files, Open};
use crate::jobs::JobKind;
use crate::ownership::{self, Author};
use crate::restore::{self, Unfinished};
use crate::slot::Built;
use crate::survey;
use litekeep_core::limits;
use litekeep_core::ownership::Alone;
use litekeep_core::restore::LtxFile;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::{Created, EpochRecord, ErrorKind, Key, Source, Store, body};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a database may be without its name while somebody puts another file there.
const MOVED_WITHIN: Duration = Duration::from_millis(300);

/// How many names behind an announcement are looked after: each takes a failed image, or a hand-over.
const MOST_PASSED: usize = 100;

/// How a put ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    /// The slot is in the replica, and it is ours.
    Durable,
    /// The name was taken by somebody else.
    Taken(String),
}

impl Replicator {
    /// Sends the oldest staged slot, unless one is on its way.
    pub(super) fn start_put(&mut self) -> Result<(), KeepError> {
        let now = self.env.clock.boot();
        if self.putting.is_some() || now < self.next_put {
            return Ok(());
        }
        let Some(slot) = self.staged.front() else { return Ok(()) };
        let built = slot.built;
        self.putting = Some(built.txid);
        self.sending(built.txid);
        let (env, path, create_only) =
            (self.env.clone(), self.local.slot(built.txid), self.chain.create_only);
        let announced = self.chain.announced().filter(|announced| announced.next() == built.txid);
        if !self.env.decisions.durable_after_put {
            self.mark_durable(built);
        }
        self.spawn(
            "put",
            move |reporter| {
                let result = put(&*env.store, &*env.files, &path, built, create_only);
                if let (Ok(PutOutcome::Taken(_)), Some(announced)) = (&result, announced) {
                    // Whoever went on without it made it a state that never counted. That is their affair as well.
                    let _ = remove_passed(&*env.store, &[announced]);
                }
                reporter.report(Report::Put(built.txid, result));
            },
            Report::Put(built.txid, Err(KeepError::JobLost("put"))),
        );
        Ok(())
    }

    /// When the next put may be tried.
    pub(super) fn put_wait(&self) -> Duration {
        if self.staged.is_empty() || self.putting.is_some() {
            return Duration::MAX;
        }
        self.next_put.saturating_sub(self.env.clock.boot())
    }

    pub(super) fn put_answered(
        &mut self,
        txid: Txid,
        result: Result<PutOutcome, KeepError>,
    ) -> Result<(), KeepError> {
        // The answer about a slot that was let go meanwhile is nobody's.
        if self.phase == Phase::Ended || self.putting != Some(txid) {
            return Ok(());
        }
        match result {
            Ok(PutOutcome::Durable) => {
                self.put_failures = 0;
                self.shared.update(|status| {
                    status.trouble = None;
                    status.slots += 1;
                });
                if self.staged.front().is_none_or(|slot| slot.built.txid != txid) {
                    self.putting = None;
                    return Ok(());
                }
                self.slot_is_ours(txid)
            }
            Ok(PutOutcome::Taken(by)) => {
                Err(KeepError::Fenced { txid, replica: self.env.store.location(), by })
            }
            Err(error) => {
                self.put_again_later();
                self.give_up_front(&error)?;
                self.give_up_stream(txid);
                Err(error)
            }
        }
    }

    /// The oldest slot counts as the chain's next.
    pub(super) fn slot_is_up(&mut self, txid: Txid) -> Result<(), KeepError> {
        self.term.unfenced = false;
        if self.image_slot_is_up(txid)? { self.front_is_durable() } else { Ok(()) }
    }

    /// Whether the oldest staged slot can never go up, for this reason. What it held is only in the database then.
    pub(super) fn give_up_front(&mut self, why: &KeepError) -> Result<bool, KeepError> {
        match why {
            KeepError::Io { error, .. } if error.kind() == io::ErrorKind::InvalidData => {
                self.mend_chain(Oldest::IsNot)?;
                Ok(true)
            }
            KeepError::Store(store) if store.kind() == ErrorKind::TooLarge => self.refused_as_too_large(),
            _ => Ok(false),
        }
    }

    /// The way to the store takes less than the store says it does: smaller slots from here on, and an image now, which
    /// goes up in parts. A slot that no way should refuse is a matter for a person.
    fn refused_as_too_large(&mut self) -> Result<bool, KeepError> {
        let size = self.staged.front().map_or(0, |slot| slot.built.size);
        if size < limits::LEAST_PUT_LIMIT {
            return Ok(false);
        }
        self.put_limit = size / 2;
        tracing::warn!(db = %self.path.display(), bytes = size, "a slot was refused as too large; an image takes its place, \
            and slots stay below half of that");
        self.next_put = self.env.clock.boot();
        self.mend_chain(Oldest::IsNot)?;
        Ok(true)
    }

    /// The oldest staged slot is put once more, after a pause.
    pub(super) fn put_again_later(&mut self) {
        self.putting = None;
        self.next_put = self.env.clock.boot() + self.backoff(self.put_failures);
        self.put_failures = self.put_failures.saturating_add(1);
    }

    /// The oldest staged slot is in the replica, with all its content.
    pub(super) fn front_is_durable(&mut self) -> Result<(), KeepError> {
        self.putting = None;
        self.forget_questions();
        let Some(slot) = self.staged.pop_front() else { return Ok(()) };
        let txid = slot.built.txid;
        self.unflushed.push_back(txid);
        self.mark_durable(slot.built);
        self.open_epoch(txid);
        self.flush_sums_if_due(false)
    }

    fn mark_durable(&mut self, built: Built) {
        self.chain.durable = self.chain.durable.max(Some(built.txid));
        self.chain.announced.take_if(|announced| announced.built.txid < built.txid);
        // An image that is only announced does not count yet.
        if self.chain.announced() != Some(built.txid)
            && let Err(error) = self.local.note_held(built.txid, built.file)
        {
            tracing::debug!(db = %self.path.display(), %error, "what the replica has could not be noted");
        }
        if self.chain.announced.is_none()
            && let Some(last) = self.chain.unfinished.take_if(|last| last.txid < built.txid)
        {
            self.remove_passed_images(last);
        }
        self.chain.catalog.insert(LtxFile {
            level: Level::SLOTS,
            range: TxidRange::single(built.txid),
            size: built.size,
            modified: self.env.store.server_time().unwrap_or_else(|| self.env.clock.wall()),
            timestamp: Some(built.timestamp),
        });
        tracing::debug!(db = %self.path.display(), txid = %built.txid, bytes = built.size, "ltx file uploaded");
        self.answer_requests();
    }

    /// What was announced behind the tip was passed for good. Where it is in level 9 by now, it is a state of somebody
    /// else's that never counted.
    fn remove_passed_images(&self, last: Unfinished) {
        let all = std::iter::successors(Some(last.txid), |txid| txid.previous());
        let announced: Vec<Txid> = all.take_while(|txid| *txid >= last.first).take(MOST_PASSED).collect();
        self.remove_images(announced);
    }

    /// The same of what former owners passed and did not come to remove.
    pub(super) fn remove_former_passed_images(&self) {
        let doubtful = restore::doubtful(&self.chain.catalog);
        if !doubtful.is_empty() {
            self.remove_images(doubtful);
        }
    }

    fn remove_images(&self, announced: Vec<Txid>) {
        if !self.chain.create_only {
            return;
        }
        let store = Arc::clone(&self.env.store);
        self.spawn(
            "remove images",
            move |reporter| reporter.report(Report::Removed(remove_passed(&*store, &announced))),
            Report::Removed(Err(KeepError::JobLost("remove images"))),
        );
    }

    /// A restore of the newest state does not need them gone, so this is tried once in an epoch.
    pub(super) fn removed(&mut self, result: Result<Vec<Txid>, KeepError>) {
        match result {
            Ok(ends) => {
                let image = |txid| Some((Level::SNAPSHOTS, restore::image(txid)?));
                let gone: Vec<_> = ends.into_iter().filter_map(image).collect();
                self.chain.catalog = self.chain.catalog.without(&gone);
            }
            Err(error) => {
                tracing::warn!(db = %self.path.display(), %error, "images that never counted could not be removed");
            }
        }
    }

    /// The first durable slot of an epoch opens it, once the application is known to be well where that is asked for.
    pub(super) fn open_epoch(&mut self, txid: Txid) {
        let waits = self.settings.open_when_confirmed && !self.shared.is_confirmed();
        // Whoever finds an opened epoch and nothing that counts has lost something.
        let waits = waits || self.chain.announced.is_some() || self.chain.unfinished.is_some();
        let Some(epoch) = self.chain.epoch.filter(|_| !self.chain.opened && !waits) else { return };
        self.chain.opened = true;
        self.write_epoch_record("open epoch", epoch, EpochRecord::Open, txid);
    }

    /// This instance, as its records name it.
    pub(super) fn author(&self) -> Author {
        Author { id: self.owner.clone(), durability: self.settings.durability }
    }

    pub(super) fn write_epoch_record(
        &self,
        name: &'static str,
        epoch: litekeep_formats::Epoch,
        kind: EpochRecord,
        txid: Txid,
    ) {
        let (store, author, now) = (Arc::clone(&self.env.store), self.author(), self.env.clock.wall());
        // At a shutdown, the last slot of a busy database must not wait behind the last words of all the idle ones.
        let order = if kind == EpochRecord::Closed { JobKind::Last } else { JobKind::Short };
        self.spawn_as(
            order,
            name,
            move |reporter| {
                let result = ownership::write_record(&*store, epoch, kind, &author, txid, now);
                reporter.report(Report::Recorded(kind, result.map_err(KeepError::from)));
            },
            Report::Recorded(kind, Err(KeepError::JobLost(name))),
        );
    }

    pub(super) fn recorded(
        &mut self,
        kind: EpochRecord,
        result: Result<(), KeepError>,
    ) -> Result<(), KeepError> {
        if let Err(error) = result {
            // Only a note for people and for `wiped`; the next epoch writes its own.
            tracing::warn!(db = %self.path.display(), %error, "an epoch record could not be written");
            if kind == EpochRecord::Open && matches!(self.stopping, Stopping::No) {
                self.chain.opened = false;
                self.term.open_not_before = self.env.clock.boot() + self.backoff(2);
                self.term.open_failed = true;
            }
        }
        if kind == EpochRecord::Closed && matches!(self.stopping, Stopping::Closing(_)) {
            self.end(None);
        }
        Ok(())
    }

    /// Finds which of those who wait for everything committed so far to be in the replica may be answered.
    pub(super) fn answer_requests(&mut self) {
        if self.phase != Phase::Running || self.broken.is_some() || self.chain.announced.is_some() {
            return;
        }
        loop {
            if let Some((ticket, goal)) = self.chores.goal {
                if self.chain.durable < goal {
                    return;
                }
                self.chores.goal = None;
                self.chores.answered = ticket;
            }
            // Only a look at the WAL that came after the request makes "everything is built" mean what it says.
            let looked_for = self.chores.looked_for;
            if looked_for == self.chores.answered || self.pending.is_none() || self.has_changes_pending() {
                return;
            }
            self.chores.goal = Some((looked_for, self.state.as_ref().map(|state| state.txid)));
        }
    }

    /// The newest transaction that nobody can go on without any more.
    pub(super) fn counted(&self) -> Option<Txid> {
        match self.chain.announced() {
            Some(announced) if self.chain.durable == Some(announced) => announced.previous(),
            _ => self.chain.durable,
        }
    }

    /// Wakes who may be answered: last of all in a step, so that the status which they read next is this step's.
    pub(super) fn announce(&self) {
        if self.shared.answered() < self.chores.answered {
            self.shared.answer(self.chores.answered, self.chain.durable);
        }
    }

    /// Numbers may go back: who waits for one waits for what is built next.
    pub(super) fn forget_goal(&mut self) {
        self.chores.goal = None;
        self.chores.looked_for = self.chores.answered;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping != Stopping::No
    }

    /// Whether the database is not there, and was not a moment ago: it may be on the way from one name to another.
    fn stays_gone(&mut self, now: Duration) -> Result<bool, KeepError> {
        let since = self.is_file_gone()?.then(|| self.timing.gone.unwrap_or(now));
        self.timing.gone = since;
        Ok(since.is_some_and(|since| now.saturating_sub(since) >= MOVED_WITHIN))
    }

    /// The end of a run: tail up, epoch closed, state saved.
    pub(super) fn stop_round(&mut self) -> Result<Duration, KeepError> {
        let now = self.env.clock.boot();
        match self.stopping {
            Stopping::No => Ok(Duration::MAX),
            Stopping::Closing(deadline) => {
                if now >= deadline {
                    self.end(None);
                }
                Ok(deadline.saturating_sub(now))
            }
            Stopping::Until(deadline) => {
                // A round that could not look at the WAL knows nothing of what was committed last.
                let looked =
                    self.chores.looked_for >= self.last_words || self.chores.answered >= self.last_words;
                let all_captured =
                    looked && self.broken.is_none() && self.pending.is_some() && !self.has_changes_pending();
                let counts = self.chain.announced.is_none();
                if all_captured && counts && self.staged.is_empty() && self.putting.is_none() {
                    self.close_epoch(deadline)?;
                    return Ok(Duration::ZERO);
                }
                if counts && self.staged.is_empty() && self.putting.is_none() && self.stays_gone(now)? {
                    return Err(KeepError::Gone { database: self.path.clone(), durable: self.chain.durable });
                }
                if now < deadline {
                    let wait = match (self.putting.is_some(), self.pause.is_zero()) {
                        (true, _) => deadline - now,
                        (false, true) => Duration::from_millis(5),
                        // The last round failed: nothing gets better by asking at once.
                        (false, false) => Duration::from_millis(200),
                    };
                    return Ok(wait.min(deadline - now));
                }
                Err(self.unfinished())
            }
        }
    }

    /// Opens the epoch where that had to wait: for the application to be known as well, or for a store that took no record.
    /// An epoch that was owned without a fence, on a chain that holds something, has nobody left below it: an idle one needs no
    /// slot for that.
    pub(super) fn open_round(&mut self, now: Duration) -> Duration {
        let due = self.term.open_not_before;
        let confirmed = self.settings.open_when_confirmed && self.shared.is_confirmed();
        match self.chain.durable.filter(|_| !self.chain.opened && (confirmed || self.term.open_failed)) {
            Some(_) if now < due => due - now,
            Some(txid) => {
                self.open_epoch(txid);
                Duration::MAX
            }
            None => Duration::MAX,
        }
    }

    fn close_epoch(&mut self, deadline: Duration) -> Result<(), KeepError> {
        self.flush_sums_if_due(true)?;
        let last = self.chain.durable;
        match (self.chain.epoch, last) {
            (Some(epoch), Some(txid)) => {
                self.stopping = Stopping::Closing(deadline);
                // Whoever reads the record may write at once.
                self.shared.update(|status| status.alone = Alone::Unknown);
                self.write_epoch_record("close epoch", epoch, EpochRecord::Closed, txid);
            }
            _ => self.end(None),
        }
        Ok(())
    }

    /// Names what did not make it.
    pub(super) fn unfinished(&mut self) -> KeepError {
        let why =
            self.shared.status().trouble.map_or_else(|| "time ran out".to_owned(), |error| error.to_string());
        // What only announces an image is not what is missing.
        match (self.staged.front().filter(|slot| !slot.elsewhere), self.staged.back()) {
            (Some(from), Some(to)) => KeepError::Unsent {
                from: from.built.txid,
                to: to.built.txid,
                replica: self.env.store.location(),
                why,
            },
            _ => KeepError::Uncaptured { database: self.path.clone(), why },
        }
    }
}

/// Removes the images that these slots announce, as far as others went on without them; gives their ends.
fn remove_passed(store: &dyn Store, announced: &[Txid]) -> Result<Vec<Txid>, KeepError> {
    let passed = restore::passed(store, announced)?;
    let key = |txid: &Txid| restore::image(*txid).map(|range| Key::Ltx(Level::SNAPSHOTS, range));
    let keys: Vec<Key> = passed.iter().filter_map(key).collect();
    for batch in keys.chunks(MOST_PASSED) {
        store.delete(batch)?;
    }
    Ok(passed)
}

/// A staged slot as the store reads it: it may be larger than memory, and is read anew for each try.
struct Slot {
    file: Arc<dyn File>,
    len: u64,
}

impl Source for Slot {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
}

/// Creates (or, where nothing can be owned, puts) a staged slot.
pub(super) fn put(
    store: &dyn Store,
    files: &dyn Files,
    path: &Path,
    built: Built,
    create_only: bool,
) -> Result<PutOutcome, KeepError> {
    let key = Key::Ltx(Level::SLOTS, TxidRange::single(built.txid));
    let read = |error| KeepError::Io { what: "read the staged slot", path: path.to_owned(), error };
    let file = files.open(path, Open::Read).map_err(read)?;
    match whole(&*file, &built) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return unless_there(store, built, read(error));
        }
        other => other.map_err(read)?,
    }
    let slot = Slot { len: built.size, file };
    if !create_only {
        let mut upload = store.upload(&key, built.timestamp)?;
        let mut at = 0;
        while at < slot.len {
            let piece = body::piece(&slot, at).map_err(read)?;
            upload.write(&piece)?;
            at += piece.len() as u64;
        }
        upload.finish()?;
        return Ok(PutOutcome::Durable);
    }
    let source: Arc<dyn Source> = Arc::new(slot);
    match store.create_from(&key, &source, built.timestamp) {
        Ok(Created::Yes) => Ok(PutOutcome::Durable),
        Ok(Created::Exists) => whose(store, built),
        Err(error) if error.kind() == ErrorKind::TooLarge => unless_there(store, built, error.into()),
        Err(error) => Err(error.into()),
    }
}

/// The slot can't be sent, for this reason. It may be there all the same: by an earlier put, whose answer was lost.
fn unless_there(store: &dyn Store, built: Built, why: KeepError) -> Result<PutOutcome, KeepError> {
    match store.head(&Key::Ltx(Level::SLOTS, TxidRange::single(built.txid))) {
        Ok(_) => whose(store, built),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(why),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file still ends as it was built: a slot that was cut since must not go up short and count.
fn whole(file: &dyn File, built: &Built) -> io::Result<()> {
    let mut end = [0; 8];
    let same = file.len()? == built.size && {
        crate::files::read_exact_at(file, &mut end, built.size.saturating_sub(8))?;
        u64::from_be_bytes(end) == built.file.get()
    };
    if same { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "not the slot that was built")) }
}

/// A name that is taken may be taken by ourselves: an earlier create whose answer was lost.
fn whose(store: &dyn Store, built: Built) -> Result<PutOutcome, KeepError> {
    if ownership::is_ours(store, built.txid, built.size, built.file)? {
        return Ok(PutOutcome::Durable);
    }
    Ok(PutOutcome::Taken(survey::who_wrote(store, built.txid)))
}
