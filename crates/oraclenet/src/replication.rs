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
use std::sync::{Arc, Mutex, PoisonError};
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
    looked: Mutex<Option<(Duration, Looked)>>,
}

/// What the replica answered.
#[derive(Debug, Clone)]
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
        let (ring, looked) = (Mutex::default(), Mutex::default());
        Self { kept, place, durability, restore, gate, clock, ring, looked }
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

    /// How long the oldest write that the replica lacks has been waiting.
    fn lag(&self) -> Duration {
        self.gate.waiting_since().map_or(Duration::ZERO, |since| self.clock.boot().saturating_sub(since))
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

    /// Asks the replica, at most every few seconds: a page that anybody may reload is no reason to list a bucket.
    fn look(&self, kept: &Kept) -> Looked {
        let now = self.clock.boot();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, known)) = looked.as_ref().filter(|(at, _)| now.saturating_sub(*at) < FRESH) {
            let _ = at;
            return known.clone();
        }
        let fresh = ask(&*kept.store);
        *looked = Some((now, fresh.clone()));
        fresh
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
