//! Where the data is kept and how that stands, as everybody may know it and as superusers may.
//!
//! It only tells. What it says of the replica is what the engine last confirmed, or what the replica itself answers;
//! never what was tried. The replica's URL is put together from its parts, so no key can be in it.

use crate::db::{Durability, Gate};
use crate::time;
use crate::web::{self, LagRing, LagSample, LastRestore, Place, ReplicationView};
use litekeep::keeper::Keeper;
use litekeep::replicator::Health;
use litekeep_core::env::Clock;
use litekeep_core::restore::points;
use litekeep_formats::TimestampMs;
use litekeep_store::{EpochRecord, Key, Scope, Store};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// How long what the replica answered is believed.
const FRESH: Duration = Duration::from_secs(5);
/// Requests in flight for a look at the replica.
const PARALLEL: usize = 4;

/// A replica and the engine that keeps it.
pub struct Kept {
    /// The engine.
    pub keeper: Arc<Keeper>,
    /// The replica.
    pub store: Arc<dyn Store>,
    /// `s3://bucket/path` or `file:///dir`.
    pub location: String,
}

/// See the module's text.
pub struct Replication {
    kept: Option<Kept>,
    place: Place,
    durability: Durability,
    restore: Option<LastRestore>,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    ring: Mutex<LagRing>,
    /// Since when the engine has had something that the replica lacks (since boot).
    behind: Mutex<Option<Duration>>,
    looks: Looks,
}

/// What the replica last answered; at most one asks it at a time.
#[derive(Default)]
struct Looks {
    known: Mutex<Option<(Duration, Looked)>>,
    asking: Mutex<()>,
}

/// What the replica answered.
#[derive(Debug, Clone, Default, PartialEq)]
struct Looked {
    /// Oldest and newest restorable point: TXID and, where known, time.
    range: Option<[(String, Option<TimestampMs>); 2]>,
    epochs: Vec<Value>,
    trouble: Option<String>,
}

impl Replication {
    /// `restore` is what the database came from at this start.
    pub fn new(
        kept: Option<Kept>,
        place: Place,
        durability: Durability,
        restore: Option<LastRestore>,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (ring, behind, looks) = (Mutex::default(), Mutex::default(), Looks::default());
        Self { kept, place, durability, restore, gate, clock, ring, behind, looks }
    }

    /// Whether writes can be taken: there is no replica, or its engine is at work.
    pub fn is_alive(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| !kept.keeper.ended())
    }

    /// Measures the lag, for the plot; to be called every two seconds.
    pub fn sample(&self) {
        let lag = self.lag();
        let sample =
            LagSample { at: self.clock.wall(), lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX) };
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }

    /// How long the oldest change that the replica lacks has been waiting, as far as it is known: answers that wait, and
    /// transactions that the engine has built and not brought up (of a foreign program, of presence).
    fn lag(&self) -> Duration {
        let now = self.clock.boot();
        let age = |since: Option<Duration>| since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let lacks = self.kept.as_ref().is_some_and(|kept| {
            let status = kept.keeper.status();
            status.built > status.durable
        });
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        *behind = lacks.then(|| behind.unwrap_or(now));
        age(*behind).max(age(self.gate.waiting_since()))
    }

    fn state(&self) -> &'static str {
        match self.kept.as_ref().map(|kept| kept.keeper.status().health) {
            None => "not replicated",
            Some(Health::Starting | Health::Waiting) => "starting",
            Some(Health::Good) => "replicating",
            Some(Health::Troubled) => "troubled",
            Some(Health::Ended) => "ended",
        }
    }

    /// The answer to `GET /api/replication`; `full` is for superusers. Asks the replica then, so it may block.
    pub fn json(&self, full: bool) -> Value {
        let role = if self.is_alive() { "owner" } else { "stopped" };
        let mut told = json!({
            "role": role, "state": self.state(), "lag": self.lag().as_secs_f64(), "place": place(self.place),
            "durability": durability(self.durability),
        });
        let Some(kept) = self.kept.as_ref().filter(|_| full) else { return told };
        let status = kept.keeper.status();
        let looked = self.look(kept);
        let point =
            |(txid, time): &(String, Option<TimestampMs>)| json!({ "txid": txid, "time": time.map(date) });
        let details = json!({
            "replica": kept.location,
            "txid": status.durable.map(|txid| txid.to_string()),
            "localTxid": status.built.map(|txid| txid.to_string()),
            "epoch": status.epoch.map(|epoch| epoch.to_string()),
            "epochs": looked.epochs,
            "range": looked.range.as_ref().map(|[from, to]| json!({ "from": point(from), "to": point(to) })),
            "lastRestore": self.restore.as_ref().map(|it| json!({
                "from": it.from, "txid": format!("{:016x}", it.txid), "bytes": it.bytes,
                "milliseconds": it.millis, "at": date(it.at),
            })),
            "waiting": self.gate.waiting(),
            "trouble": trouble(&status).or(looked.trouble),
        });
        for (name, value) in details.as_object().into_iter().flatten() {
            told[name] = value.clone();
        }
        told
    }

    /// What the status page shows. Asks the replica, so it may block.
    pub fn view(&self) -> (ReplicationView, LagRing) {
        let status = self.kept.as_ref().map(|kept| kept.keeper.status());
        let looked = self.kept.as_ref().map(|kept| self.look(kept));
        let range = looked.as_ref().and_then(|looked| looked.range.as_ref());
        let view = ReplicationView {
            role: if self.is_alive() { "owner" } else { "stopped" }.to_owned(),
            state: self.state().to_owned(),
            place: self.place,
            durability: match self.durability {
                Durability::Replicated => web::Durability::Replicated,
                Durability::Local => web::Durability::Local,
            },
            lag_ms: self.kept.as_ref().map(|_| u64::try_from(self.lag().as_millis()).unwrap_or(u64::MAX)),
            txid: status.as_ref().and_then(|status| status.durable).map(|txid| txid.get()),
            restore: self.restore.clone(),
            range: range.and_then(|[from, to]| Some((from.1?, to.1?))),
            trouble: status.as_ref().and_then(trouble).or_else(|| looked.and_then(|looked| looked.trouble)),
        };
        (view, self.ring.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn look(&self, kept: &Kept) -> Looked {
        self.looks.get(&*self.clock, || ask(&*kept.store))
    }
}

impl Looks {
    /// Asks the replica, at most every few seconds: a page that anybody may reload is no reason to list a bucket. While
    /// one asks, which takes as long as the store does, everybody else gets what is known.
    fn get(&self, clock: &dyn Clock, ask: impl FnOnce() -> Looked) -> Looked {
        if let Some(fresh) = self.known(|at| clock.boot().saturating_sub(at) < FRESH) {
            return fresh;
        }
        let _asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(TryLockError::Poisoned(asking)) => asking.into_inner(), // it guards nothing that could be half done
            Err(TryLockError::WouldBlock) => return self.known(|_| true).unwrap_or_default(),
        };
        let looked = ask();
        let now = clock.boot(); // after the answer: a slow store is not asked without a pause
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, looked.clone()));
        looked
    }

    fn known(&self, good: impl FnOnce(Duration) -> bool) -> Option<Looked> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(at, _)| good(*at)).map(|(_, looked)| looked.clone())
    }
}

fn ask(store: &dyn Store) -> Looked {
    match (litekeep::restore::catalog(store, PARALLEL), store.list(&Scope::Epochs)) {
        (Ok(catalog), Ok(epochs)) => {
            let points = points(&catalog);
            let mut restorable = points.iter().filter(|point| point.restorable);
            let time = |file: &litekeep_core::restore::LtxFile| {
                let head = store.head(&Key::Ltx(file.level, file.range));
                head.ok().map(|head| head.timestamp)
            };
            let first = restorable.next();
            let last = restorable.next_back().or(first);
            let told = |point: &litekeep_core::restore::Point| (point.txid.to_string(), time(&point.file));
            let range = first.zip(last).map(|(first, last)| [told(first), told(last)]);
            let epochs = epochs.into_iter().filter_map(|entry| {
                let Key::Epoch(epoch, record) = entry.key else { return None };
                let what = match record {
                    EpochRecord::Claim => "claimed",
                    EpochRecord::Open => "opened",
                    EpochRecord::Closed => "closed",
                };
                Some(json!({ "epoch": epoch.to_string(), "event": what, "at": date(entry.modified) }))
            });
            Looked { range, epochs: epochs.collect(), trouble: None }
        }
        (Err(error), _) | (_, Err(error)) => {
            Looked { range: None, epochs: Vec::new(), trouble: Some(error.to_string()) }
        }
    }
}

fn trouble(status: &litekeep::replicator::Status) -> Option<String> {
    let error = status.failure.as_ref().or(status.trouble.as_ref())?;
    Some(error.to_string())
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Elsewhere => "elsewhere",
        Place::SameDisk => "same disk",
        Place::Nowhere => "nowhere",
    }
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Replicated => "replicated",
        Durability::Local => "local",
    }
}

fn date(at: TimestampMs) -> String {
    time::format(time::at(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use testkit::clock::SimClock;

    fn looked(text: &str) -> Looked {
        Looked { trouble: Some(text.to_owned()), ..Looked::default() }
    }

    #[test]
    fn one_asks_the_replica_and_nobody_waits_for_it() {
        let (looks, clock) = (Looks::default(), SimClock::new());
        let never = || panic!("asked, though the answer is fresh");
        assert_eq!(looks.get(&clock, || looked("first")), looked("first"));
        assert_eq!(looks.get(&clock, never), looked("first"));
        clock.advance(FRESH);
        std::thread::scope(|scope| {
            let (answer, answers) = mpsc::channel();
            let (begin, begun) = mpsc::channel();
            let (looks, slow) = (&looks, &clock);
            let asking = scope.spawn(move || {
                looks.get(slow, || {
                    begin.send(()).unwrap();
                    answers.recv().unwrap()
                })
            });
            begun.recv().unwrap();
            assert_eq!(looks.get(&clock, never), looked("first"), "while another asks");
            clock.advance(FRESH * 2);
            answer.send(looked("second")).unwrap();
            assert_eq!(asking.join().unwrap(), looked("second"));
        });
        assert_eq!(
            looks.get(&clock, never),
            looked("second"),
            "fresh from the answer, not from the question"
        );
    }
}
