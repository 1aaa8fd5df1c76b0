//! The start: look at the replica, compare it with the local file, claim an epoch. Nothing is written to the replica
//! before the file is known to be on its chain.

use super::capture::NO_TURN;
use super::{Phase, Replicator, Report, Stopping};
use crate::error::KeepError;
use crate::files::FileId;
use crate::local::State;
use crate::pending::Pending;
use crate::sqlite::{Edge, Scan, is_busy};
use crate::sums::Sums;
use crate::survey::{self, Survey};
use litekeep_core::assess::{Advance, BreakReason, Facts, Position, Resume};
use litekeep_core::lineage::{self, BesideReason, Lineage, LocalRecord, RemoteTip};
use litekeep_core::ownership::is_wiped;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::{Checksum, Epoch, PageNo, Txid};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a job before looking whether a stop was asked for. Reports wake earlier.
const JOB_WAIT: Duration = Duration::from_secs(60);

impl Replicator {
    /// Sends a job to look at the replica.
    pub(super) fn look(&mut self, at: Duration) -> Result<Duration, KeepError> {
        let Some(left) = self.time_left()? else { return Ok(Duration::MAX) };
        let now = self.env.clock.boot();
        if now < at {
            return Ok(left.min(at - now));
        }
        self.phase = Phase::Looking;
        let (store, wait) = (Arc::clone(&self.env.store), left.min(JOB_WAIT));
        let id = self.env.files.id(&self.path).map_err(self.io("look at the database for"))?;
        // Stays so where this look fails: what comes before the next may have come to another place.
        self.late |= id.is_none() || !self.local.is_taken();
        let newest = self.local.newest(&store.location(), id).map_err(self.io("read the state in"))?;
        self.spawn(
            "survey",
            move |reporter| {
                let survey = survey::survey(&*store).and_then(|survey| {
                    let fate = survey::fate(&*store, &survey, newest.as_ref())?;
                    Ok(Survey { fate, ..survey })
                });
                reporter.report(Report::Surveyed(survey));
            },
            Report::Surveyed(Err(KeepError::JobLost("survey"))),
        );
        // A store that does not answer keeps the job for longer than a stop may take.
        Ok(wait)
    }

    pub(super) fn wait_for_job(&mut self) -> Result<Duration, KeepError> {
        if let Some(report) = self.unread.take() {
            self.take_restored(report)?;
            if self.unread.is_none() {
                return Ok(Duration::ZERO);
            }
        }
        let limit = if self.unread.is_some() { NO_TURN } else { Duration::MAX };
        Ok(self.time_left()?.unwrap_or(Duration::MAX).min(limit))
    }

    /// How long there is to get going. A stop that comes before is no reason to leave at once: what was written until
    /// then still goes up within its time (a command that ends before the replica has answered, #436), and if it
    /// could not, that is said. `None` once ended, because there is nothing to bring up.
    pub(super) fn time_left(&mut self) -> Result<Option<Duration>, KeepError> {
        let (Stopping::Until(deadline) | Stopping::Closing(deadline)) = self.stopping else {
            return Ok(Some(JOB_WAIT));
        };
        // One that cannot be looked at may be there. Why it cannot, whoever goes on from here meets at his own pace.
        if matches!(self.database_is_there(), Ok(false)) {
            self.end(None);
            return Ok(None);
        }
        let left = deadline.saturating_sub(self.env.clock.boot());
        if left.is_zero() { Err(self.unfinished()) } else { Ok(Some(left)) }
    }

    pub(super) fn surveyed(&mut self, result: Result<Survey, KeepError>) -> Result<(), KeepError> {
        if self.phase != Phase::Looking {
            return Ok(());
        }
        let survey = result?;
        self.chores.failures = 0;
        self.chain.durable = survey.catalog.newest();
        self.chain.catalog = survey.catalog;
        self.chain.epochs = survey.epochs;
        self.chain.hole = survey.hole;
        self.chain.unfinished = survey.unfinished;
        self.broken = None;
        let there = self.database_is_there()?;
        if !there {
            let path = self.path.display();
            if self.local.is_taken() {
                tracing::info!(db = %path, "waiting for the database to be created");
            } else {
                tracing::info!(db = %path, "waiting for the folder of the database to be made");
            }
        }
        // What came meanwhile has a state that nobody asked the replica about.
        if !there || self.late {
            self.phase = Phase::Absent;
            return Ok(());
        }
        self.tip = survey.tip;
        self.chain.fate = survey.fate;
        self.meet(survey.tip)
    }

    /// Somebody holds a lock that keeps us from reading. The replica is not asked again meanwhile.
    pub(super) fn database_is_locked(&mut self) -> Result<(), KeepError> {
        let pause = self.backoff(self.chores.failures);
        self.phase = Phase::Locked(self.env.clock.boot() + pause);
        self.chores.failures = self.chores.failures.saturating_add(1);
        if self.chores.failures > 3 {
            let error = self.sqlite()(super::capture::busy());
            self.shared.trouble(&self.path, &Arc::new(error));
        }
        Ok(())
    }

    pub(super) fn try_to_open(&mut self, at: Duration) -> Result<Duration, KeepError> {
        let Some(left) = self.time_left()? else { return Ok(Duration::MAX) };
        let now = self.env.clock.boot();
        if now < at {
            return Ok(left.min(at - now));
        }
        self.phase = Phase::Looking;
        self.meet(self.tip)?;
        Ok(Duration::ZERO)
    }

    /// A file that SQLite has written something to, in a folder that is ours to work in.
    pub(super) fn database_is_there(&mut self) -> Result<bool, KeepError> {
        let taken = self.local.is_taken() || self.move_in_late()?;
        Ok(taken && self.file_len()?.is_some_and(|len| len > 0))
    }

    /// Nothing is left at the path: not even something to look at again.
    pub(super) fn is_file_gone(&self) -> Result<bool, KeepError> {
        Ok(self.file_len()?.is_none())
    }

    pub(super) fn file_len(&self) -> Result<Option<u64>, KeepError> {
        self.env.files.len(&self.path).map_err(|error| KeepError::Io {
            what: "look at",
            path: self.path.clone(),
            error,
        })
    }

    /// The local file meets the replica's tip.
    fn meet(&mut self, tip: Option<RemoteTip>) -> Result<(), KeepError> {
        // Whether every page has to be looked at is known only on the way.
        let Some(_turn) = self.turn_for_all()? else {
            self.phase = Phase::Locked(self.env.clock.boot() + NO_TURN);
            return Ok(());
        };
        if !self.open_edge()? {
            return self.database_is_locked();
        }
        self.load_record()?;
        if tip.is_none() {
            self.forget_what_never_counted()?;
        }
        let record = self.local_record(tip.as_ref())?;
        // Slots that announce what never came are no data.
        let any_data = tip.is_some();
        let wiped = is_wiped(&self.chain.epochs, any_data);
        match lineage::compare(record.as_ref(), tip.as_ref()) {
            Lineage::Begin if wiped => Err(KeepError::Wiped {
                replica: self.env.store.location(),
                epoch: self.chain.epochs.newest_record.unwrap_or(Epoch::FIRST),
            }),
            Lineage::Begin => {
                self.broken = Some(BreakReason::NoPosition);
                self.claim()
            }
            Lineage::Continue => self.claim(),
            Lineage::Mend => {
                self.chain.hole = true;
                self.claim()
            }
            Lineage::Compare => match tip {
                Some(tip) => self.compare_with(tip),
                None => self.claim(),
            },
            Lineage::Ancestor => match tip {
                Some(tip) => {
                    self.bring_forward(tip);
                    Ok(())
                }
                None => self.claim(),
            },
            Lineage::Rewind => match tip {
                Some(tip) => self.rewind(tip),
                None => self.claim(),
            },
            Lineage::Beside(reason) => Err(self.beside(tip, reason)),
        }
    }

    /// Somebody restored an earlier state on purpose (R21): what the file holds follows the replica's newest state,
    /// as a whole image. The states in between stay in the replica's history.
    fn rewind(&mut self, tip: RemoteTip) -> Result<(), KeepError> {
        let Some(state) = self.state.clone() else { return self.claim() };
        tracing::warn!(db = %self.path.display(), chosen = %state.txid, newest = %tip.txid,
            "the database was restored to an earlier state; it becomes the replica's newest");
        self.adopt(State {
            txid: tip.txid,
            slot: tip.slot,
            database: None,
            timestamp: state.timestamp.max(tip.timestamp),
            position: Position::before_any_frame(state.page_size),
            captured: None,
            tail: self.env.random.next_u64(),
            rewound_from: None,
            content: None,
            forward: Vec::new(),
            sums: None,
            ..state
        })?;
        self.broken = Some(BreakReason::NoPosition);
        self.claim()
    }

    pub(super) fn beside(&self, tip: Option<RemoteTip>, reason: BesideReason) -> KeepError {
        KeepError::Beside {
            database: self.path.clone(),
            replica: self.env.store.location(),
            tip: tip.map_or(litekeep_formats::Txid::FIRST, |tip| tip.txid),
            reason,
        }
    }

    pub(super) fn behind(&self, tip: Option<RemoteTip>) -> KeepError {
        let first = litekeep_formats::Txid::FIRST;
        KeepError::Behind {
            database: self.path.clone(),
            replica: self.env.store.location(),
            local: self.state.as_ref().map_or(first, |state| state.txid),
            tip: tip.map_or(first, |tip| tip.txid),
        }
    }

    /// Opens the connections and begins protection; `false` while somebody holds a lock that forbids it.
    pub(super) fn open_edge(&mut self) -> Result<bool, KeepError> {
        if !self.connect()? {
            return Ok(false);
        }
        match self.edge_mut().begin_hold() {
            Ok(()) => Ok(true),
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) => Err(self.sqlite()(error)),
        }
    }

    /// Opens the connections; `false` while somebody holds a lock that forbids it, or is removing what lies beside the file.
    pub(super) fn connect(&mut self) -> Result<bool, KeepError> {
        if self.edge.is_some() {
            return Ok(true);
        }
        let before = self.companions()?;
        let edge = match Edge::open(&self.path, self.env.vfs.as_deref()) {
            Ok(edge) => edge,
            Err(error) if is_busy(&error) => return Ok(false),
            Err(error) => return Err(self.sqlite()(error)),
        };
        let file = self.env.files.id(&self.path).map_err(self.io("look at the database for"))?;
        let now = self.companions()?;
        let stayed = |(before, now): (&Option<FileId>, &Option<FileId>)| before.is_none() || before == now;
        let there = self.env.vfs.is_some() || now.iter().all(Option::is_some);
        // Without its name it is not known what was opened.
        if file.is_none() || !there || !before.iter().zip(&now).all(stayed) {
            return Ok(false);
        }
        (self.timing.file, self.timing.companions) = (file, now);
        self.edge = Some(edge);
        Ok(true)
    }

    /// Reads the local state; one about another file or another replica is no record.
    fn load_record(&mut self) -> Result<(), KeepError> {
        let io = self.io("read the state in");
        let Some(mut state) = self.local.load().map_err(&io)? else {
            self.state = None;
            return Ok(());
        };
        let same_replica = state.replica == self.env.store.location();
        let mut same_file = self.timing.file == Some(state.file);
        if let Some(file) =
            self.settings.successor.filter(|file| !same_file && self.timing.file == Some(*file))
            && same_replica
        {
            (same_file, state.file) = (true, file);
            state.give_up_position(self.env.random.next_u64());
            self.local.save(&state).map_err(self.io("save the state in"))?;
            self.broken = Some(BreakReason::FileReplaced);
        }
        if !same_file || !same_replica {
            tracing::warn!(db = %self.path.display(), "the local state is about another {}; it is not used",
                if same_file { "replica" } else { "file" });
            self.state = None;
            return Ok(());
        }
        self.local.tidy(&state).map_err(&io)?;
        self.pending = Some(Pending::load(Arc::clone(&self.env.files), &self.local, &state).map_err(&io)?);
        self.sums = self.load_sums(&state);
        self.load_staged(&state).map_err(&io)?;
        let state = self.back_to_staged(state).map_err(&io)?;
        // Checksums of another slot than the last one built would hide changes from a comparison.
        if self.sums.as_ref().is_some_and(|sums| sums.txid() != state.txid) {
            tracing::warn!(db = %self.path.display(), "the page checksums are not those of the last slot; they are not used");
            self.sums = None;
        }
        self.state = Some(state);
        Ok(())
    }

    /// A first image whose content died before it was up is as good as never built: the chain begins anew.
    fn forget_what_never_counted(&mut self) -> Result<(), KeepError> {
        let io = self.io("read the state in");
        let kept = self.local.staged().map_err(&io)?;
        let known = self.chain.unfinished.is_some() || kept.first() == Some(&Txid::FIRST);
        if self.chain.epochs.any_opened || !self.staged.is_empty() || !known {
            return Ok(());
        }
        self.local.clear().map_err(&io)?;
        self.unflushed.clear();
        (self.state, self.pending, self.sums) = (None, None, None);
        Ok(())
    }

    /// The checksum array of the state; without it, or when it does not fit, the next break costs a whole image.
    fn load_sums(&self, state: &State) -> Option<Sums> {
        let record = state.sums?;
        match Sums::open(&*self.env.files, self.local.dir(), &record, state.page_size) {
            Ok(sums) => Some(sums),
            Err(error) => {
                tracing::warn!(db = %self.path.display(), %error, "the page checksums are not usable");
                None
            }
        }
    }

    /// What the state and the WAL say of the local file.
    fn local_record(&mut self, tip: Option<&RemoteTip>) -> Result<Option<LocalRecord>, KeepError> {
        let Some(state) = self.state.clone() else { return Ok(None) };
        let (facts, resume) = self.may_resume()?;
        if let Resume::Break(reason) = resume {
            self.broken = Some(reason);
        }
        let ahead = match tip {
            // Only a chain that went on without us makes this matter, and then it is worth a look at every page.
            Some(tip) if tip.txid > state.txid => self.has_changes(&facts, resume)?,
            _ => true,
        };
        let at_tip = match tip {
            Some(tip) if tip.txid < state.txid => self.kept_slot(tip.txid)?,
            _ => None,
        };
        Ok(Some(LocalRecord {
            txid: state.txid,
            slot: state.slot,
            database: state.database,
            oldest_staged: self.staged.front().map(|slot| slot.built.txid),
            staged_predecessor: self.staged.front().and_then(|slot| slot.predecessor),
            slot_at_tip: at_tip.map(|slot| slot.built.file),
            database_at_tip: at_tip.and_then(|slot| slot.database),
            fate: self.chain.fate,
            ahead,
            rewound_from: state.rewound_from,
        }))
    }

    /// After a time without protection: may capture go on in this WAL from where it was?
    pub(super) fn may_resume(&mut self) -> Result<(Facts, Resume), KeepError> {
        let facts = self.facts_now()?;
        let position = *self.pending().position();
        let frame =
            self.wal.frame_at(position.frame, position.page_size).map_err(self.io("read the WAL beside"))?;
        Ok((facts, (self.env.decisions.resume)(&facts, frame, &position)))
    }

    fn has_changes(&mut self, facts: &Facts, resume: Resume) -> Result<bool, KeepError> {
        let state = self.state();
        if (state.content.is_some() || !state.forward.is_empty()) && self.was_brought_forward()? {
            return Ok(false);
        }
        if self.has_changes_pending() {
            return Ok(true);
        }
        if resume == Resume::Intact {
            return Ok((self.env.decisions.advance)(facts, self.pending().position()) != Advance::Nothing);
        }
        let Some(known) = self.state().database else { return Ok(true) };
        let Some(scan) = self.scan()? else { return Ok(true) };
        Ok(self.checksum_of(&scan, page_checksum)? != known)
    }

    /// Whether the last run ended between the commit that brings the file forward and the record of it: what is in
    /// the WAL since the state is our own then, and it is done once more.
    fn was_brought_forward(&self) -> Result<bool, KeepError> {
        let Some(scan) = self.scan()? else { return Ok(false) };
        let content = self.checksum_of(&scan, crate::local::content)?;
        Ok(self.state().may_hold(content))
    }

    /// The rolling checksum of everything a scan shows.
    fn checksum_of(&self, scan: &Scan, of: fn(PageNo, &[u8]) -> Checksum) -> Result<Checksum, KeepError> {
        let mut database = Checksum::EMPTY;
        scan.for_each(|page, data| {
            database = database.toggle(of(page, data));
            Ok::<_, rusqlite::Error>(())
        })
        .map_err(self.sqlite())?;
        Ok(database)
    }

    /// Takes a state that was just found out for the truth.
    pub(super) fn adopt(&mut self, state: State) -> Result<(), KeepError> {
        let io = self.io("read the state in");
        self.local.save(&state).map_err(self.io("save the state in"))?;
        self.local.tidy(&state).map_err(&io)?;
        self.pending = Some(Pending::load(Arc::clone(&self.env.files), &self.local, &state).map_err(&io)?);
        self.sums = self.load_sums(&state);
        self.staged.clear();
        self.unflushed.clear();
        self.broken = None;
        self.state = Some(state);
        Ok(())
    }
}

/// The position right behind a state that was read as a whole.
pub(super) fn position_of(facts: &Facts) -> Position {
    Position::behind(facts)
}
