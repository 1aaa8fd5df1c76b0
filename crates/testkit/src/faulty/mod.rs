//! A store that misbehaves on purpose, around any other store.
//!
//! Faults are drawn from a seed ([`Weather`]) or planned one by one ([`Plan`]). Every operation is recorded, so that
//! two runs can be compared, and every broken rule of the format (a slot written twice, deleted too early) is noted.
//!
//! It stands where the retries have already been made: an error here is one that they could not help.

mod plan;
mod rules;

#[cfg(test)]
mod tests;

pub use plan::{Fault, Plan, Verb, Weather};

use crate::clock::SimClock;
use crate::disk::Disk;
use crate::history::{History, fold};
use crate::random::SeededRandom;
use bytes::Bytes;
use litekeep_core::env::Clock;
use litekeep_formats::TimestampMs;
use litekeep_store::body::read_all;
use litekeep_store::{
    Chunk, Created, Entry, ErrorKind, Failure, Head, Key, Limits, Scope, Source, Store, StoreError, Upload,
};
use plan::Planner;
use rules::Rules;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One operation as it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it began.
    pub at: Duration,
    /// What was asked.
    pub verb: Verb,
    /// Of which object or scope.
    pub object: String,
    /// What was answered.
    pub answer: String,
    /// The trouble it met.
    pub fault: Option<Fault>,
}

/// A write that the network holds back.
#[derive(Debug)]
struct Late {
    due: Duration,
    key: Key,
    body: Bytes,
    timestamp: TimestampMs,
    create: bool,
}

/// What belongs to the bucket, by whichever way it is reached.
#[derive(Debug, Default)]
struct Bucket {
    rules: Rules,
    late: Vec<Late>,
}

struct State {
    planner: Planner,
    /// Of the machine that asks: once it is dead, nothing is asked any more.
    disk: Option<Disk>,
    history: History,
    records: Vec<Record>,
    /// What a lagging listing would show: the newest listing but one.
    listings: HashMap<Scope, (Vec<Entry>, Vec<Entry>)>,
}

/// A store with faults; clones share them. Implements [`Store`].
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    clock: SimClock,
    bucket: Arc<Mutex<Bucket>>,
    state: Arc<Mutex<State>>,
}

impl FaultyStore {
    /// A store that behaves until it is told otherwise.
    pub fn new(inner: Arc<dyn Store>, clock: SimClock, random: SeededRandom) -> Self {
        let state = State {
            planner: Planner::new(random),
            disk: None,
            history: History::default(),
            records: Vec::new(),
            listings: HashMap::new(),
        };
        Self { inner, clock, bucket: Arc::default(), state: Arc::new(Mutex::new(state)) }
    }

    /// Another way to the same bucket, with faults of its own: what is held back on either arrives whoever asks next,
    /// also after its sender's death, and the rules are those of the bucket.
    #[must_use]
    pub fn other_way(&self, random: SeededRandom) -> Self {
        let bucket = Arc::clone(&self.bucket);
        Self { bucket, ..Self::new(Arc::clone(&self.inner), self.clock.clone(), random) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws faults from the seed from here on.
    pub fn set_weather(&self, weather: Weather) {
        self.state().planner.weather = weather;
    }

    /// Whose requests these are, for [`Fault::PowerGoes`]. While the machine is dead, what its code still asks for never
    /// leaves it.
    pub fn powered_by(&self, disk: Option<Disk>) {
        self.state().disk = disk;
    }

    /// Plans a fault.
    pub fn plan(&self, plan: Plan) {
        self.state().planner.plans.push(plan);
    }

    /// Forgets what was planned.
    pub fn forget_plans(&self) {
        self.state().planner.plans.clear();
    }

    /// Ends all trouble that was not planned; what the network held back arrives now.
    pub fn heal(&self) {
        self.state().planner.weather = Weather::CLEAR;
        for late in &mut self.bucket().late {
            late.due = Duration::ZERO;
        }
        self.deliver();
    }

    /// The store without faults, for the judge.
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    /// Everything that was asked, in order.
    pub fn records(&self) -> Vec<Record> {
        self.state().records.clone()
    }

    /// How many operations there were.
    pub fn count(&self) -> usize {
        self.state().records.len()
    }

    /// A digest of everything that was asked and answered.
    pub fn history(&self) -> u64 {
        self.state().history.digest()
    }

    /// The newest operations, for a person who looks for a difference.
    pub fn last_operations(&self) -> Vec<String> {
        self.state().history.last()
    }

    /// Rules of the format that were broken; empty for an engine that behaves.
    pub fn violations(&self) -> Vec<String> {
        self.bucket().rules.broken().to_vec()
    }

    /// What was held back and is due now arrives, whether somebody asks for something or not.
    pub fn deliver(&self) {
        let now = self.clock.boot();
        let mut due: Vec<Late> = self.bucket().late.extract_if(.., |late| late.due <= now).collect();
        due.sort_by_key(|late| late.due);
        for late in due {
            let written = if late.create {
                self.inner.create(&late.key, late.body, late.timestamp).map(|created| format!("{created:?}"))
            } else {
                self.inner.put(&late.key, late.body, late.timestamp).map(|()| "written".into())
            };
            let answer = written.unwrap_or_else(|error| error.to_string());
            self.state().history.note(format!("late {}: {answer}", late.key), &[]);
        }
    }

    /// Begins an operation: what the network held back arrives, time passes, and perhaps a fault is drawn.
    fn begin(&self, verb: Verb, object: &str) -> Option<Fault> {
        self.deliver();
        let fault = {
            let mut state = self.state();
            if state.disk.as_ref().is_some_and(Disk::is_dead) {
                return Some(Fault::Refused(ErrorKind::Retry));
            }
            let fault = state.planner.draw(verb, object);
            match (fault, &state.disk) {
                (Some(Fault::PowerGoes { .. }), None) => None,
                (Some(Fault::PowerGoes { .. }), Some(disk)) => {
                    disk.cut_power();
                    fault
                }
                _ => fault,
            }
        };
        if let Some(Fault::Slow(by)) = fault {
            self.clock.advance(by);
            self.deliver();
        }
        fault
    }

    fn end<T>(
        &self,
        verb: Verb,
        object: String,
        fault: Option<Fault>,
        answer: Result<T, StoreError>,
        tell: impl FnOnce(&T) -> (String, u64),
    ) -> Result<T, StoreError> {
        let (told, digest) = match &answer {
            Ok(answer) => tell(answer),
            Err(error) => (format!("{:?}: {}", error.kind, error.cause), 0),
        };
        let at = self.clock.boot();
        let mut state = self.state();
        state.history.note(format!("{} ms {verb:?} {object}: {told}", at.as_millis()), &digest.to_le_bytes());
        state.records.push(Record { at, verb, object, answer: told, fault });
        answer
    }

    fn write(
        &self,
        verb: Verb,
        key: &Key,
        fault: Option<Fault>,
        late: Late,
        apply: impl FnOnce() -> Result<Created, StoreError>,
    ) -> Result<Created, StoreError> {
        match fault {
            Some(Fault::Refused(kind)) => Err(trouble(kind, verb, key, "refused")),
            Some(Fault::HeldBack(by)) => {
                let due = self.clock.boot().saturating_add(by);
                self.bucket().late.push(Late { due, ..late });
                Err(trouble(ErrorKind::Retry, verb, key, "no answer"))
            }
            Some(Fault::PowerGoes { happens: false }) => {
                Err(trouble(ErrorKind::Retry, verb, key, "it was never sent"))
            }
            Some(Fault::LostAnswer | Fault::PowerGoes { happens: true }) => {
                apply()?;
                Err(trouble(ErrorKind::Retry, verb, key, "the answer was lost"))
            }
            Some(Fault::Twice(by)) => {
                let due = self.clock.boot().saturating_add(by);
                let answer = apply()?;
                self.bucket().late.push(Late { due, ..late });
                Ok(answer)
            }
            Some(Fault::Repeated) => apply().map(|_| Created::Exists),
            Some(Fault::Vanishes) => {
                let answer = apply()?;
                if answer == Created::Yes {
                    self.inner.delete(&[*key])?;
                }
                Ok(answer)
            }
            _ => apply(),
        }
    }

    fn read_fault(&self, fault: Option<Fault>, key: &Key, chunk: Chunk) -> Result<Chunk, StoreError> {
        match fault {
            Some(Fault::Truncated) if !chunk.bytes.is_empty() => {
                let keep = self.state().planner.random.index(chunk.bytes.len());
                Ok(Chunk { bytes: chunk.bytes.slice(..keep), ..chunk })
            }
            Some(Fault::Flipped) if !chunk.bytes.is_empty() => {
                let mut bytes = chunk.bytes.to_vec();
                let random = &self.state().planner.random;
                let bit = 1 << random.index(8);
                if let Some(byte) = bytes.get_mut(random.index(chunk.bytes.len())) {
                    *byte ^= bit;
                }
                Ok(Chunk { bytes: bytes.into(), ..chunk })
            }
            Some(Fault::LostAnswer | Fault::HeldBack(_) | Fault::PowerGoes { .. }) => {
                Err(trouble(ErrorKind::Retry, Verb::Read, key, "the answer was lost"))
            }
            _ => Ok(chunk),
        }
    }
}

/// An error as the retry layer would give it up.
fn trouble(kind: ErrorKind, verb: Verb, object: impl ToString, why: &str) -> StoreError {
    StoreError::new(kind, verb.name(), object.to_string(), Failure::Text(why.to_owned()))
}

fn refusal(fault: Option<Fault>) -> Option<ErrorKind> {
    match fault {
        Some(Fault::Refused(kind)) => Some(kind),
        Some(Fault::LostAnswer | Fault::HeldBack(_) | Fault::PowerGoes { .. }) => Some(ErrorKind::Retry),
        _ => None,
    }
}

impl Store for FaultyStore {
    fn list(&self, scope: &Scope) -> Result<Vec<Entry>, StoreError> {
        let object = format!("{scope:?}");
        let fault = self.begin(Verb::List, &object);
        let answer = match refusal(fault) {
            Some(kind) => Err(trouble(kind, Verb::List, &object, "refused")),
            None => self.inner.list(scope).map(|fresh| {
                let mut state = self.state();
                let (older, newer) = state.listings.entry(*scope).or_default();
                if *newer != fresh {
                    *older = std::mem::replace(newer, fresh.clone());
                }
                if fault == Some(Fault::Stale) { older.clone() } else { fresh }
            }),
        };
        self.end(Verb::List, object, fault, answer, |entries| {
            let names: Vec<_> = entries.iter().map(|entry| entry.key.to_string()).collect();
            (format!("{} entries", names.len()), fold(0, names.concat().as_bytes()))
        })
    }

    fn head(&self, key: &Key) -> Result<Head, StoreError> {
        let fault = self.begin(Verb::Head, &key.to_string());
        let answer = match refusal(fault) {
            Some(kind) => Err(trouble(kind, Verb::Head, key, "refused")),
            None => self.inner.head(key),
        };
        self.end(Verb::Head, key.to_string(), fault, answer, |head| (format!("{} bytes", head.size), 0))
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Chunk, StoreError> {
        let object = match &range {
            Some(range) => format!("{key} {range:?}"),
            None => key.to_string(),
        };
        let fault = self.begin(Verb::Read, &object);
        let answer = match refusal(fault) {
            Some(kind) => Err(trouble(kind, Verb::Read, key, "refused")),
            None => self.inner.read(key, range).and_then(|chunk| self.read_fault(fault, key, chunk)),
        };
        self.end(Verb::Read, object, fault, answer, |chunk| {
            (format!("{} of {} bytes", chunk.bytes.len(), chunk.total), fold(0, &chunk.bytes))
        })
    }

    fn create(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<Created, StoreError> {
        let object = format!("{key} ({} bytes)", body.len());
        let fault = self.begin(Verb::Create, &object);
        let digest = fold(0, &body);
        self.bucket().rules.creates(key, &body);
        let late = Late { due: Duration::ZERO, key: *key, body: body.clone(), timestamp, create: true };
        let answer = self.write(Verb::Create, key, fault, late, || self.inner.create(key, body, timestamp));
        self.end(Verb::Create, object, fault, answer, |created| (format!("{created:?}"), digest))
    }

    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn Source>,
        timestamp: TimestampMs,
    ) -> Result<Created, StoreError> {
        let body = read_all(&**source);
        let body = body.map_err(|error| trouble(ErrorKind::Retry, Verb::Create, key, &error.to_string()))?;
        self.create(key, body, timestamp)
    }

    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), StoreError> {
        let object = format!("{key} ({} bytes)", body.len());
        let fault = self.begin(Verb::Put, &object);
        let digest = fold(0, &body);
        let there = self.inner.read(key, None).ok();
        self.bucket().rules.puts(key, &body, there.as_ref().map(|chunk| &chunk.bytes));
        let late = Late { due: Duration::ZERO, key: *key, body: body.clone(), timestamp, create: false };
        let answer = self.write(Verb::Put, key, fault, late, || {
            self.inner.put(key, body, timestamp).map(|()| Created::Yes)
        });
        self.end(Verb::Put, object, fault, answer.map(drop), |()| ("written".into(), digest))
    }

    fn upload(&self, key: &Key, timestamp: TimestampMs) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(FaultyUpload { store: self.clone(), key: *key, timestamp, body: Vec::new() }))
    }

    fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
        let object = names.join(", ");
        let fault = self.begin(Verb::Delete, &object);
        let now = self.inner.server_time().unwrap_or(self.clock.wall());
        for key in keys {
            if let Ok(head) = self.inner.head(key) {
                self.bucket().rules.deletes(key, now.0.saturating_sub(head.modified.0));
            }
        }
        let answer = match fault {
            Some(Fault::Refused(kind)) => Err(trouble(kind, Verb::Delete, &object, "refused")),
            Some(Fault::PowerGoes { happens: false }) => {
                Err(trouble(ErrorKind::Retry, Verb::Delete, &object, "it was never sent"))
            }
            Some(Fault::LostAnswer | Fault::HeldBack(_) | Fault::PowerGoes { happens: true }) => self
                .inner
                .delete(keys)
                .and_then(|()| Err(trouble(ErrorKind::Retry, Verb::Delete, &object, "the answer was lost"))),
            _ => self.inner.delete(keys),
        };
        self.end(Verb::Delete, object, fault, answer, |()| ("deleted".into(), 0))
    }

    fn server_time(&self) -> Option<TimestampMs> {
        self.inner.server_time()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn location(&self) -> String {
        format!("{} (faulty)", self.inner.location())
    }
}

/// A large object: it meets its fault when it is finished.
struct FaultyUpload {
    store: FaultyStore,
    key: Key,
    timestamp: TimestampMs,
    body: Vec<u8>,
}

impl Upload for FaultyUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        self.store.put(&self.key, Bytes::from(self.body), self.timestamp)
    }
}
