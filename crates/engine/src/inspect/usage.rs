//! What a replica takes up, how it grows, what retention will take away, and what its upkeep asks of the store.
//!
//! Everything is told from listings and the times that the files carry; the settings add what is done how often.

use super::count::{Counted, Counting};
use crate::restore::{RestoreError, generations, look};
use crate::settings::Settings;
use litekeep_core::env::Clock;
use litekeep_core::limits;
use litekeep_core::restore::{Catalog, LtxFile, v3};
use litekeep_core::retain::{self, Policy};
use litekeep_formats::{Level, TimestampMs, Txid};
use litekeep_store::{Key, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A day, milliseconds.
const DAY_MS: f64 = 86_400_000.0;

/// The least span of time from which a rate is told: from less it would be noise.
const LEAST_SPAN_MS: i64 = 60_000;

/// Requests that a proof takes beside its listing: for the slot's name and for a higher claim.
const PROOF: f64 = 2.0;

/// Objects on a page of a listing.
const PAGE: u64 = 1000;

/// One level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelUsage {
    /// Which.
    pub level: Level,
    /// Objects.
    pub objects: usize,
    /// Bytes.
    pub bytes: u64,
    /// The own time of the oldest file.
    pub oldest: TimestampMs,
    /// The own time of the newest file.
    pub newest: TimestampMs,
    /// Bytes a day that came to this level between the two; `None` where they are too near to each other.
    pub bytes_per_day: Option<f64>,
    /// Objects a day, likewise.
    pub objects_per_day: Option<f64>,
    /// Objects that the next round of retention takes away.
    pub freed_objects: usize,
    /// Their bytes.
    pub freed_bytes: u64,
}

/// What a v0.3 backup takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct V3Usage {
    /// Snapshots, of all generations.
    pub snapshots: usize,
    /// WAL segments, of the generations that have a snapshot.
    pub segments: usize,
    /// The bytes of both.
    pub bytes: u64,
}

/// Requests a day, estimated.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Requests {
    /// Slots that are put.
    pub slot_puts: f64,
    /// Files of levels 1 and up, and snapshots, that are put.
    pub level_puts: f64,
    /// Looks at names that are not there: two requests each, since the answer to a `HEAD` does not tell a missing object
    /// from a missing bucket.
    pub looks: f64,
    /// Files read again to be merged or made a snapshot.
    pub reads: f64,
    /// Pages of listings, for retention and for proofs that a name is free.
    pub listings: f64,
    /// Objects deleted.
    pub deletes: f64,
}

impl Requests {
    /// What providers bill as puts.
    pub fn puts(&self) -> f64 {
        self.slot_puts + self.level_puts
    }

    /// What providers bill as gets.
    pub fn gets(&self) -> f64 {
        self.looks + self.reads
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Where.
    pub location: String,
    /// The levels that hold anything.
    pub levels: Vec<LevelUsage>,
    /// The v0.3 backup beside them.
    pub v3: V3Usage,
    /// Transactions that reach the replica a day, by the TXIDs and times of the oldest and the newest file.
    pub slots_per_day: Option<f64>,
    /// Bytes by which a snapshot grows a day; negative where it shrinks. Needs two snapshots.
    pub database_bytes_per_day: Option<f64>,
    /// Whether anything is ever taken away.
    pub retention: bool,
    /// See [`Requests`]; `None` where the replica is too young.
    pub requests: Option<Requests>,
    /// What telling this took.
    pub counted: Counted,
}

impl Usage {
    /// All objects of all levels, and of the v0.3 backup.
    pub fn objects(&self) -> usize {
        let levels: usize = self.levels.iter().map(|level| level.objects).sum();
        levels + self.v3.snapshots + self.v3.segments
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).sum::<u64>().saturating_add(self.v3.bytes)
    }

    /// What retention will take away.
    pub fn freed_bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.freed_bytes).sum()
    }
}

/// Looks and computes.
///
/// # Errors
/// The store's. A replica that is empty is all zeros.
pub fn usage(
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    settings: &Settings,
    parallelism: usize,
) -> Result<Usage, RestoreError> {
    let counting = Counting::new(store);
    let look = look(&counting, parallelism)?;
    let now = counting.server_time().unwrap_or_else(|| clock.wall());
    let policy = Policy { window: settings.snapshot_retention, slots: settings.l0_retention };
    let freed = if settings.retention { freed(&look.catalog, &policy, now) } else { BTreeMap::new() };
    let times = times(&counting, &look.catalog)?;
    let level = |level: Level| level_usage(level, look.catalog.level(level), &times, &freed);
    let levels: Vec<LevelUsage> = Level::all().filter_map(level).collect();
    let slots_per_day = slots_per_day(&look.catalog, &times);
    Ok(Usage {
        location: counting.location(),
        requests: slots_per_day.map(|slots| requests(slots, settings, &look.catalog)),
        v3: v3_usage(&generations(&counting, &look.v3_snapshots, None, parallelism)?),
        slots_per_day,
        database_bytes_per_day: database_growth(&look.catalog, &times),
        retention: settings.retention,
        levels,
        counted: counting.counted(),
    })
}

fn v3_usage(generations: &[v3::Generation]) -> V3Usage {
    let mut found = V3Usage::default();
    for generation in generations {
        found.snapshots += generation.snapshots.len();
        found.segments += generation.segments.len();
        let snapshots = generation.snapshots.iter().map(|snapshot| snapshot.size);
        found.bytes += snapshots.chain(generation.segments.iter().map(|segment| segment.size)).sum::<u64>();
    }
    found
}

/// Per level what retention would take away now: objects and bytes. Nothing, if the plan cannot be proven.
fn freed(catalog: &Catalog, policy: &Policy, now: TimestampMs) -> BTreeMap<Level, (usize, u64)> {
    let plan = retain::plan(catalog, policy, now);
    let mut found: BTreeMap<Level, (usize, u64)> = BTreeMap::new();
    if retain::prove(catalog, &plan).is_err() {
        return found;
    }
    for deletion in &plan.deletions {
        let (objects, bytes) = found.entry(deletion.file.level).or_default();
        *objects += 1;
        *bytes = bytes.saturating_add(deletion.file.size);
    }
    found
}

type Times = BTreeMap<(Level, u64, u64), TimestampMs>;

fn id(file: &LtxFile) -> (Level, u64, u64) {
    (file.level, file.range.min().get(), file.range.max().get())
}

/// The own times of the first and the last file of each level: where the listing does not tell them, they are asked for.
fn times(store: &dyn Store, catalog: &Catalog) -> Result<Times, StoreError> {
    let ends = Level::all().flat_map(|level| {
        let files = catalog.level(level);
        [files.first().copied(), files.last().copied()]
    });
    let files: Vec<LtxFile> = ends.flatten().collect();
    let unknown: Vec<&LtxFile> = files.iter().filter(|file| file.timestamp.is_none()).collect();
    let keys: Vec<Key> = unknown.iter().map(|file| Key::Ltx(file.level, file.range)).collect();
    let mut times: Times = files.iter().map(|file| (id(file), file.time())).collect();
    if !keys.is_empty() {
        for (file, head) in unknown.iter().zip(store.heads(&keys)?) {
            times.extend(head.map(|head| (id(file), head.timestamp)));
        }
    }
    Ok(times)
}

fn time_of(file: &LtxFile, times: &Times) -> TimestampMs {
    times.get(&id(file)).copied().unwrap_or_else(|| file.time())
}

fn level_usage(
    level: Level,
    files: &[LtxFile],
    times: &Times,
    freed: &BTreeMap<Level, (usize, u64)>,
) -> Option<LevelUsage> {
    let (first, last) = (files.first()?, files.last()?);
    let (oldest, newest) = (time_of(first, times), time_of(last, times));
    let bytes = total(files);
    // What came after the first file came between the two times.
    let later = files.len() - 1;
    let later_bytes = bytes - first.size;
    let (freed_objects, freed_bytes) = freed.get(&level).copied().unwrap_or_default();
    Some(LevelUsage {
        level,
        objects: files.len(),
        bytes,
        oldest,
        newest,
        bytes_per_day: per_day(later_bytes as f64, oldest, newest),
        objects_per_day: per_day(later as f64, oldest, newest),
        freed_objects,
        freed_bytes,
    })
}

fn total(files: &[LtxFile]) -> u64 {
    files.iter().map(|file| file.size).fold(0, u64::saturating_add)
}

/// `None` where the times are too near to each other.
fn per_day(count: f64, from: TimestampMs, to: TimestampMs) -> Option<f64> {
    let span = to.0.saturating_sub(from.0);
    (span >= LEAST_SPAN_MS).then(|| count * DAY_MS / span as f64)
}

/// TXIDs are consecutive and survive compaction: the oldest end that is known and the newest one tell the rate.
fn slots_per_day(catalog: &Catalog, times: &Times) -> Option<f64> {
    let known: Vec<(Txid, TimestampMs)> = catalog
        .files()
        // A snapshot may bear the time of its making.
        .filter(|file| file.level != Level::SNAPSHOTS && times.contains_key(&id(file)))
        .map(|file| (file.range.max(), time_of(file, times)))
        .collect();
    let (first, from) = known.iter().min_by_key(|(txid, _)| *txid)?;
    let (last, to) = known.iter().max_by_key(|(txid, _)| *txid)?;
    per_day((last.get() - first.get()) as f64, *from, *to)
}

fn database_growth(catalog: &Catalog, times: &Times) -> Option<f64> {
    let snapshots = catalog.snapshots();
    let (first, last) = (snapshots.first()?, snapshots.last()?);
    if snapshots.len() < 2 {
        return None;
    }
    per_day(last.size as f64 - first.size as f64, time_of(first, times), time_of(last, times))
}

/// What keeping the replica asks of the store in a day.
///
/// - Slots: as many as came a day so far, one put and (at most) one look for a higher claim each; an instance that hands
///   over looks as often as it is set to. Where slots are more than the reuse horizon apart, each needs a proof that its
///   name is free: a look, and a listing of the levels above.
/// - Level n: one file for each of its intervals, but no more than there are files below it; each file is read once to
///   be merged.
/// - Snapshots: one for each interval, made from the snapshot before and the levels.
/// - Retention: one listing each time that slots have gathered for five minutes, or are many;
///   everything that is put is deleted one day.
fn requests(slots: f64, settings: &Settings, catalog: &Catalog) -> Requests {
    let times_a_day = |interval: Duration| DAY_MS / (interval.as_millis().max(1) as f64);
    let mut merged = Vec::new();
    let mut below = slots;
    for interval in &settings.levels {
        let files = times_a_day(*interval).min(below);
        merged.push(files);
        below = files;
    }
    let snapshots = times_a_day(settings.snapshot_interval).min(slots);
    let level_puts: f64 = merged.iter().sum::<f64>() + snapshots;
    let reads_to_merge: f64 = slots + merged.iter().rev().skip(1).sum::<f64>();
    let highest = merged.last().copied().unwrap_or(slots);
    let pages = pages_of(catalog.len() as u64);
    let gathered = times_a_day(settings.gather.max(limits::PRUNE_PAUSE)).min(slots);
    let rounds = (slots / limits::PRUNE_SLOTS as f64).max(gathered);
    let rounds = if settings.retention && settings.l0_retention.is_some() { rounds } else { 0.0 };
    let proofs = if slots < times_a_day(limits::REUSE_HORIZON) { slots } else { 0.0 };
    let looks = settings.look_every.map_or(slots, |every| slots.max(times_a_day(every)));
    let above = pages_of((catalog.len() - catalog.level(Level::SLOTS).len()) as u64);
    Requests {
        slot_puts: slots,
        level_puts,
        looks: looks + proofs * PROOF,
        reads: reads_to_merge + snapshots + highest,
        listings: rounds * pages as f64 + proofs * above as f64,
        deletes: if settings.retention { slots + level_puts } else { 0.0 },
    }
}

fn pages_of(objects: u64) -> u64 {
    objects.div_ceil(PAGE).max(1)
}
