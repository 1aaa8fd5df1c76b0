//! One restore from beginning to end.

mod unfinished;

use super::apply::{Applied, ApplyError, Flaw, apply, key};
use super::fetch::Budget;
use super::look::{self, Look};
use super::output::{self, Draft};
use super::v3::replay;
use super::verify::{self, IntegrityCheck, Verdict};
use super::{
    ChainEnd, Empty, Integrity, Note, Options, Outcome, Planned, Progress, RestoreEnv, RestoreError,
    Restored, Skipped, Source, limits,
};
use crate::files::{self, File, Open};
use litekeep_core::limits as core_limits;
use litekeep_core::restore::{
    self as core, Catalog, Choice, LtxFile, NoPlan, Plan, Sides, Target, choose, nearest, plan_latest,
    plan_point, plan_txid, v3,
};
use litekeep_formats::{Checksum, Level, PageSize, TimestampMs, TxidRange};
use litekeep_store::{ErrorKind, Key, Scope, Store, StoreError, V3Generation};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use unfinished::Passed;

/// Restores a database.
///
/// # Errors
/// [`RestoreError`]; whatever stood at the target then still does, and nothing else is left behind.
pub fn restore(
    env: &RestoreEnv,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, RestoreError> {
    let started = env.clock.boot();
    if !options.dry_run {
        let standing = output::standing(&*env.files, &options.output)
            .map_err(|cause| RestoreError::local("looking at", &options.output, cause))?;
        if standing.database && options.if_db_not_exists {
            return Ok(Outcome::Skipped(Skipped::DatabaseExists(options.output.clone())));
        }
        if !standing.occupied.is_empty() && !options.force {
            return Err(RestoreError::OutputExists(standing.occupied));
        }
    }
    let (notes, bad, passed, unlisted) = Default::default();
    let mut run = Run { env, options, progress, notes, bad, passed, unlisted, needed: None };
    match run.go(started) {
        Ok(outcome) => Ok(outcome),
        // Files in another layout are a doubt: whoever starts afresh here has a backup that he does not see (R50).
        Err(RestoreError::Empty(empty)) if options.if_replica_exists && empty.other_layout == 0 => {
            Ok(Outcome::Skipped(Skipped::ReplicaEmpty(empty)))
        }
        Err(error) => {
            run.clean();
            Err(error)
        }
    }
}

struct Run<'a> {
    env: &'a RestoreEnv,
    options: &'a Options,
    progress: &'a mut dyn FnMut(Progress),
    notes: Vec<Note>,
    /// Files that turned out bad.
    bad: Vec<(LtxFile, Flaw)>,
    /// Slots that are no states: they announce an image that was never finished, or go on without it.
    passed: Vec<(Level, TxidRange)>,
    /// Images that were announced, and are there, and no listing shows (R60).
    unlisted: Vec<LtxFile>,
    /// Bytes of the database, once a file has told.
    needed: Option<u64>,
}

/// What is going to be laid over each other.
enum Way {
    /// With what is listed and counts.
    Ltx(Plan, Catalog),
    V3(v3::Plan),
}

/// What an attempt brought.
enum Attempt {
    Done(Made),
    Again(String),
}

/// A database in its draft.
struct Made {
    chain: Option<ChainEnd>,
    sealed: bool,
    timestamp: TimestampMs,
    bytes: u64,
    database_bytes: u64,
    page_size: Option<PageSize>,
    sums: Option<PathBuf>,
}

impl Run<'_> {
    fn store(&self) -> &dyn Store {
        &*self.env.store
    }

    fn location(&self) -> String {
        self.store().location()
    }

    fn go(&mut self, started: Duration) -> Result<Outcome, RestoreError> {
        let mut last = String::new();
        let mut draft = None;
        for attempt in 0..limits::PLANS {
            if attempt > 0 {
                (self.progress)(Progress::Replanning { why: last.clone() });
            }
            let way = match self.plan() {
                Err(
                    RestoreError::Gap { missing: what, .. } | RestoreError::NotAvailable { why: what, .. },
                ) if self.bad.is_empty() && attempt + 1 < limits::LOOKS => {
                    last = what;
                    self.env.clock.sleep(limits::REPLAN_PAUSE);
                    continue;
                }
                way => way?,
            };
            let planned = self.planned(&way);
            if self.options.dry_run {
                return Ok(Outcome::Planned(planned));
            }
            let (source, bytes) = (planned.source, planned.bytes);
            (self.progress)(Progress::Planned(planned));
            let draft_now = match draft.take() {
                Some(draft) => draft,
                None => Draft::begin(&self.env.files, &self.options.output)
                    .map_err(|error| RestoreError::output(&self.options.output, error))?,
            };
            match self.attempt(&way, &draft_now, bytes)? {
                Attempt::Done(made) => return self.settle(made, source, draft_now, started),
                Attempt::Again(why) => last = why,
            }
            draft = Some(draft_now);
            self.env.clock.sleep(limits::REPLAN_PAUSE);
        }
        Err(RestoreError::Unsettled { attempts: limits::PLANS, last })
    }

    /// Looks at the replica and chooses what to restore from what.
    fn plan(&mut self) -> Result<Way, RestoreError> {
        let parallelism = self.options.parallelism;
        let mut look = look::look(self.store(), parallelism)?;
        // Before "nothing is there" is believed, the first slot is asked for by name.
        let nothing = look.catalog.is_empty() && self.options.generation.is_none();
        look::fill_in(self.store(), &mut look.catalog, self.options.target)?;
        look::fill_holes(self.store(), &mut look.catalog)?;
        self.unlisted.iter().for_each(|file| look.catalog.insert(*file));
        let bare = |file: &LtxFile| file.level == Level::SLOTS && file.size <= core_limits::BARE_BYTES;
        let newest = look.catalog.newest();
        // Whether an announcement counts, the slot behind it says.
        let announced = look.catalog.files().any(|file| bare(file) && Some(file.range.max()) == newest);
        if nothing || announced || (self.options.target == Target::Latest && !look.catalog.is_empty()) {
            look::read_ahead(self.store(), &mut look.catalog)?;
        }
        look.catalog = look.catalog.without(&self.passed);
        self.leave_unfinished(&mut look)?;
        if look.catalog.is_empty() && self.options.generation.is_none() {
            self.refuse_nothing(&look)?;
        }
        let listed = look.catalog.clone();
        let bad: Vec<(Level, TxidRange)> = self.bad.iter().map(|(file, _)| file.id()).collect();
        look.catalog = look.catalog.without(&bad);
        let generations = self.generations(&look, !listed.is_empty())?;
        let passed = self.passed_images(&listed)?;
        let found = self.found_by_time(&listed, &passed)?;
        if let Some(generations) = generations
            && self.choose_v3(&look, &generations, found.as_ref())?
        {
            return self.plan_v3(&generations);
        }
        self.note_newer_v3(&look);
        let plan = match self.options.target {
            Target::Latest => plan_latest(&look.catalog).and_then(|plan| match listed.newest() {
                // A bad newest file must not make an older state pass for the newest.
                Some(newest) if newest > plan.txid => Err(NoPlan::Gap {
                    missing: TxidRange::new(plan.txid.next(), newest).unwrap_or(TxidRange::single(newest)),
                    nearest: core::Nearest { before: Some(plan.txid), after: None },
                }),
                _ => Ok(plan),
            }),
            Target::Txid(wanted)
                if self.passed.contains(&(Level::SLOTS, TxidRange::single(wanted)))
                    || passed.is_no_state(&look.catalog, wanted) =>
            {
                Err(NoPlan::TxidNotAvailable { wanted, nearest: nearest(&look.catalog, wanted) })
            }
            Target::Txid(txid) => plan_txid(&passed.left_for(&look.catalog, txid), txid),
            Target::Timestamp(_) => match found {
                // Found among all files, so that a bad one does not silently give an older state.
                Some(point) if point.restorable => {
                    plan_txid(&passed.left_for(&look.catalog, point.txid), point.txid)
                }
                found => plan_point(&listed, found.as_ref()),
            },
        };
        match plan {
            Ok(plan) => Ok(Way::Ltx(plan, look.catalog)),
            Err(error) => Err(self.no_way(&look.catalog, error)),
        }
    }

    /// Nothing in any level: empty, wiped, or a v0.3 backup alone.
    fn refuse_nothing(&self, look: &Look) -> Result<(), RestoreError> {
        let v3_beside = !look.v3_snapshots.is_empty();
        if let Some(epoch) = look.opened {
            return Err(RestoreError::Wiped { location: self.location(), epoch, v3_beside });
        }
        if v3_beside {
            return Ok(());
        }
        let scopes: Vec<Scope> = Level::all().map(Scope::OtherLayout).collect();
        let store = &*self.env.store;
        let other = look::each(self.options.parallelism, &scopes, |scope| store.list(scope))?;
        Err(RestoreError::Empty(Empty {
            location: self.location(),
            neighbours: self.store().neighbours()?.into_iter().filter(|it| !is_local_state(it)).collect(),
            other_layout: other.iter().map(Vec::len).sum(),
            claimed: look.claimed,
        }))
    }

    /// The v0.3 side, as far as it can matter.
    fn generations(&self, look: &Look, ltx: bool) -> Result<Option<Vec<v3::Generation>>, RestoreError> {
        let asked = self.options.generation.is_some() || self.options.v3_index.is_some();
        if look.v3_snapshots.is_empty() && !asked {
            return Ok(None);
        }
        let matters = match self.options.target {
            Target::Txid(_) => asked,
            Target::Timestamp(_) => true,
            Target::Latest => asked || !ltx || !look::is_sealed(self.store(), look)?,
        };
        if !asked && !matters {
            return Ok(None);
        }
        let only = self.options.generation;
        Ok(Some(look::generations(self.store(), &look.v3_snapshots, only, self.options.parallelism)?))
    }

    fn found_by_time(&self, catalog: &Catalog, passed: &Passed) -> Result<Option<core::Point>, RestoreError> {
        let Target::Timestamp(wanted) = self.options.target else { return Ok(None) };
        let points = passed.points(catalog);
        let found = look::search(self.store(), &points, wanted, self.options.parallelism)?;
        Ok(found.map(|at| points[at]))
    }

    fn choose_v3(
        &self,
        look: &Look,
        generations: &[v3::Generation],
        found: Option<&core::Point>,
    ) -> Result<bool, RestoreError> {
        if self.options.generation.is_some() || self.options.v3_index.is_some() {
            return Ok(true);
        }
        let before = |time: TimestampMs| match self.options.target {
            Target::Timestamp(wanted) => time <= wanted,
            _ => true,
        };
        let snapshot = look.catalog.snapshots().iter().map(LtxFile::time).filter(|time| before(*time)).max();
        let sides = Sides {
            ltx: !look.catalog.is_empty(),
            sealed: look::is_sealed(self.store(), look)?,
            ltx_newest: look.catalog.newest_time(),
            ltx_before: found.and_then(|point| snapshot.or(Some(point.file.time()))),
            v3_newest: generations.iter().filter_map(v3::Generation::updated).max(),
            v3_before: look.v3_snapshots.iter().map(|s| s.time).filter(|time| before(*time)).max(),
        };
        Ok(choose(self.options.target, &sides) == Choice::V3)
    }

    fn plan_v3(&self, generations: &[v3::Generation]) -> Result<Way, RestoreError> {
        let target = match (self.options.v3_index, self.options.target) {
            (Some(index), _) => v3::Target::Index(index),
            (None, Target::Timestamp(wanted)) => v3::Target::Timestamp(wanted),
            (None, _) => v3::Target::Latest,
        };
        v3::plan(generations, self.options.generation.map(|generation| generation.0), target)
            .map(Way::V3)
            .map_err(|error| RestoreError::no_v3_plan(self.location(), error))
    }

    fn note_newer_v3(&mut self, look: &Look) {
        let newest = look.v3_snapshots.iter().map(|snapshot| snapshot.time).max();
        if let Some(time) = newest
            && Some(time) > look.catalog.newest_time()
            && self.options.target == Target::Latest
        {
            self.notes.retain(|note| !matches!(note, Note::NewerV3 { .. }));
            self.notes.push(Note::NewerV3 { time });
        }
    }

    /// No plan is left: because of files that turned out bad, or from the beginning.
    fn no_way(&self, catalog: &Catalog, error: NoPlan) -> RestoreError {
        let Some((file, flaw)) = self.bad.first() else {
            return RestoreError::no_plan(self.location(), error);
        };
        RestoreError::Damaged {
            location: self.location(),
            what: format!("{}: {flaw}", key(file)),
            nearest: match error {
                NoPlan::Gap { nearest, .. } | NoPlan::TxidNotAvailable { nearest, .. } => nearest,
                NoPlan::TimeNotAvailable { nearest } => nearest,
                NoPlan::Empty => nearest(catalog, file.range.max()),
            },
        }
    }

    fn planned(&self, way: &Way) -> Planned {
        let location = self.location();
        match way {
            Way::Ltx(plan, _) => Planned {
                location,
                source: Source::Ltx,
                objects: plan.files.iter().map(|file| (key(file), file.size)).collect(),
                files: plan.files.clone(),
                txid: Some(plan.txid),
                bytes: plan.bytes(),
            },
            Way::V3(plan) => {
                let generation = V3Generation(plan.snapshot.generation);
                let base = (Key::V3Snapshot(generation, plan.snapshot.index), plan.snapshot.size);
                let wals = plan.wals.iter().flatten();
                Planned {
                    location,
                    source: Source::V3 { generation, index: plan.index() },
                    objects: std::iter::once(base)
                        .chain(wals.map(|s| (Key::V3Wal(generation, s.index, s.offset), s.size)))
                        .collect(),
                    files: Vec::new(),
                    txid: None,
                    bytes: plan.bytes(),
                }
            }
        }
    }

    fn attempt(&mut self, way: &Way, draft: &Draft, total: u64) -> Result<Attempt, RestoreError> {
        let result = match way {
            Way::Ltx(plan, catalog) => self.apply_ltx(plan, catalog, draft, total),
            Way::V3(plan) => self.replay_v3(plan, draft, total),
        };
        let error = match result {
            Ok(made) => return Ok(Attempt::Done(made)),
            Err(error) => error,
        };
        match error {
            ApplyError::Fetch(error) if error.is_moved() => Ok(Attempt::Again(error.to_string())),
            ApplyError::Fetch(super::FetchError::Store(error)) if error.kind() == ErrorKind::DataDamaged => {
                Err(self.wrong(way, error.to_string()))
            }
            ApplyError::Fetch(super::FetchError::Store(error)) => Err(error.into()),
            ApplyError::Fetch(error) => Err(RestoreError::Unsettled { attempts: 1, last: error.to_string() }),
            ApplyError::Bad { file, what: Flaw::ContentElsewhere }
                if self.was_passed(way, &file)? || self.finds_image(&file)? =>
            {
                Ok(Attempt::Again(format!("{}: an image that was not finished, or not listed", key(&file))))
            }
            ApplyError::Bad { file, what } => {
                let text = format!("{}: {what}", key(&file));
                self.notes.push(Note::WentAround(text.clone()));
                self.bad.push((file, what));
                Ok(Attempt::Again(text))
            }
            ApplyError::Wrong(flaw) => Err(self.wrong(way, flaw.to_string())),
            ApplyError::V3(what) => Err(self.wrong(way, what)),
            ApplyError::Local(cause) => Err(RestoreError::Local {
                operation: "writing",
                path: draft.path().to_owned(),
                needed: self.needed,
                cause,
            }),
        }
    }

    /// The objects are whole and do not make a sound database.
    fn wrong(&self, way: &Way, what: String) -> RestoreError {
        let nearest = match way {
            Way::Ltx(plan, catalog) => nearest(catalog, plan.txid),
            Way::V3(_) => core::Nearest::default(),
        };
        RestoreError::Damaged { location: self.location(), what, nearest }
    }

    fn apply_ltx(
        &mut self,
        plan: &Plan,
        catalog: &Catalog,
        draft: &Draft,
        total: u64,
    ) -> Result<Made, ApplyError> {
        let sums = self.sums()?;
        let target = (draft.emptied()?, sums.as_ref().map(|(_, file)| Arc::clone(file)));
        let budget = Budget::of(self.options.parallelism);
        let (progress, needed) = (&mut *self.progress, &mut self.needed);
        let is_whole = self.options.is_whole;
        let applied = apply(&*self.env.store, plan, budget, target, is_whole, &mut |bytes, database| {
            *needed = Some(database);
            progress(Progress::Fetched { bytes, total });
        })?;
        if applied.unsealed > 0 {
            self.notes.push(Note::Unsealed(applied.unsealed));
        }
        Ok(Made {
            chain: Some(ChainEnd {
                txid: plan.txid,
                newest: catalog.newest().unwrap_or(plan.txid),
                slot: self.slot_checksum(plan, catalog, &applied).map_err(super::FetchError::Store)?,
                seal: applied.seal,
                database: applied.database,
                timestamp: applied.timestamp,
            }),
            sealed: applied.sealed,
            timestamp: applied.timestamp,
            bytes: applied.bytes,
            database_bytes: u64::from(applied.commit) * u64::from(applied.page_size.get()),
            page_size: Some(applied.page_size),
            sums: sums.map(|(path, _)| path),
        })
    }

    /// The file checksum of the newest slot: from what was read, or from the slot's last bytes if it is still there.
    fn slot_checksum(
        &self,
        plan: &Plan,
        catalog: &Catalog,
        applied: &Applied,
    ) -> Result<Option<Checksum>, StoreError> {
        let range = TxidRange::single(plan.txid);
        if plan.files.last().is_some_and(|file| file.id() == (Level::SLOTS, range)) {
            return Ok(Some(applied.file));
        }
        look::file_checksum(self.store(), catalog, Level::SLOTS, range)
    }

    fn replay_v3(&mut self, plan: &v3::Plan, draft: &Draft, total: u64) -> Result<Made, ApplyError> {
        let env = self.env;
        let spill_path = draft.spill();
        let spill = || env.files.open(&spill_path, Open::CreateOrTruncate);
        let budget = Budget::of(self.options.parallelism);
        let progress = &mut *self.progress;
        let result = replay(&*env.store, plan, budget, draft.emptied()?, &spill, &mut |bytes| {
            progress(Progress::Fetched { bytes, total });
        });
        env.files.remove(&spill_path)?;
        let replayed = result?;
        Ok(Made {
            chain: None,
            sealed: false,
            timestamp: plan.time(),
            bytes: total,
            database_bytes: replayed.len,
            page_size: replayed.page_size,
            sums: None,
        })
    }

    /// A new array for the page checksums, if they are wanted.
    fn sums(&self) -> io::Result<Option<(PathBuf, Arc<dyn File>)>> {
        let Some(path) = self.sums_path() else { return Ok(None) };
        self.env.files.create_dir(files::parent(&path))?;
        let file = self.env.files.open(&path, Open::CreateOrTruncate)?;
        Ok(Some((path, file)))
    }

    /// One name, so that a crashed restore leaves at most one such file.
    fn sums_path(&self) -> Option<PathBuf> {
        self.options.state_dir.as_ref().map(|dir| dir.join("sums.restoring"))
    }

    /// Takes back what a restore that failed has made beside its draft.
    fn clean(&self) {
        if let Some(path) = self.sums_path()
            && let Err(error) = self.env.files.remove(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the page checksums");
        }
    }

    /// Verifies the draft and puts it in place.
    fn settle(
        &mut self,
        made: Made,
        source: Source,
        draft: Draft,
        started: Duration,
    ) -> Result<Outcome, RestoreError> {
        let integrity = self.verify(&made, draft.path())?;
        (self.progress)(Progress::Placing);
        let output = &self.options.output;
        draft
            .place(output, self.options.force, self.env.vfs.as_deref())
            .map_err(|error| RestoreError::output(output, error))?;
        let age = self.env.clock.wall().0.saturating_sub(made.timestamp.0);
        let page = made.page_size.map_or(1, |size| u64::from(size.get()));
        Ok(Outcome::Restored(Box::new(Restored {
            output: output.clone(),
            source,
            timestamp: made.timestamp,
            age: Duration::from_millis(u64::try_from(age).unwrap_or(0)),
            bytes: made.bytes,
            database_bytes: made.database_bytes,
            page_size: made.page_size,
            pages: u32::try_from(made.database_bytes / page).unwrap_or(u32::MAX),
            elapsed: self.env.clock.boot().saturating_sub(started),
            integrity,
            notes: std::mem::take(&mut self.notes),
            chain: made.chain,
            sums: made.sums,
        })))
    }

    fn verify(&mut self, made: &Made, path: &Path) -> Result<Integrity, RestoreError> {
        let quick = match self.options.integrity {
            IntegrityCheck::Auto if made.sealed => return Ok(Integrity::Sealed),
            IntegrityCheck::None if made.sealed => return Ok(Integrity::Sealed),
            IntegrityCheck::None => return Ok(Integrity::Unchecked),
            IntegrityCheck::Quick => true,
            IntegrityCheck::Auto | IntegrityCheck::Full => false,
        };
        (self.progress)(Progress::Checking);
        match verify::check(path, self.env.vfs.as_deref(), quick) {
            Verdict::Ok(skipped) => {
                if !skipped.is_empty() {
                    self.notes.push(Note::NotCheckable(skipped));
                }
                Ok(if made.sealed { Integrity::Sealed } else { Integrity::Checked })
            }
            Verdict::Damaged(finding) => Err(RestoreError::Damaged {
                location: self.location(),
                what: format!("the database that its files make is damaged: {finding}"),
                nearest: core::Nearest::default(),
            }),
            Verdict::Unable(error) => {
                Err(RestoreError::Sqlite(format!("SQLite cannot check the restored database: {error}")))
            }
        }
    }
}

/// Whether a neighbour is what Litestream keeps beside a database: it looks like a replica, and is a cache of a few files.
fn is_local_state(location: &str) -> bool {
    let name = location.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    name.starts_with('.') && name.ends_with("-litestream")
}
