//! Where the data is kept and how that stands, as everybody may know it and as superusers may.
//!
//! It only tells. What it says of the replica is what the engine last confirmed, or what the replica itself answers;
//! never what was tried. The replica's URL is put together from its parts, so no key can be in it.

use crate::db::{Durability, Gate, Standing};
use crate::time;
use crate::web::{self, LagRing, LagSample, LastRestore, Place, ReplicationView};
use litekeep::node::{Node, NodeStatus, Role};
use litekeep::replicator::Health;
use litekeep_core::env::Clock;
use litekeep_core::limits::EPOCH_RECORD_BYTES;
use litekeep_core::restore::points;
use litekeep_formats::{Epoch, TimestampMs};
use litekeep_store::{EpochRecord, Key, Scope, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// How long what the replica answered is believed.
const FRESH: Duration = Duration::from_secs(5);

/// How many epochs are told, the newest: each claim is read once to learn whose it is.
const EPOCHS: usize = 32;

/// A replica and the node that keeps it.
pub struct Kept {
    /// The node.
    pub node: Arc<Node>,
    /// The replica.
    pub store: Arc<dyn Store>,
    /// `s3://bucket/path` or `file:///dir`.
    pub location: String,
}

/// What was settled at the start.
pub struct Told {
    /// Where the replica is.
    pub place: Place,
    /// When a write is answered.
    pub durability: Durability,
    /// What the database came from.
    pub restore: Option<LastRestore>,
}

/// See the module's text.
pub struct Replication {
    kept: Option<Kept>,
    told: Told,
    standing: Arc<Standing>,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    ring: Mutex<LagRing>,
    /// Since when the engine has had something that the replica lacks (since boot).
    behind: Mutex<Option<Duration>>,
    looks: Looks,
    /// Whose each epoch is. A claim never changes.
    owners: Mutex<BTreeMap<Epoch, Option<String>>>,
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
    /// A view on these.
    pub fn new(
        kept: Option<Kept>,
        told: Told,
        standing: Arc<Standing>,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (ring, behind, looks, owners) =
            (Mutex::default(), Mutex::default(), Looks::default(), Mutex::default());
        Self { kept, told, standing, gate, clock, ring, behind, looks, owners }
    }

    /// Whether what is here is served, and writes could be kept: there is no replica, or its node is at work.
    pub fn is_alive(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| self.standing.now().role != Role::Ended && !kept.node.ended())
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
            let status = kept.node.status();
            status.replication.is_some_and(|status| status.built > status.durable)
        });
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        *behind = lacks.then(|| behind.unwrap_or(now));
        age(*behind).max(age(self.gate.waiting_since()))
    }

    fn state(&self, status: Option<&NodeStatus>) -> &'static str {
        let Some(status) = status else { return "not replicated" };
        let health = status.replication.as_ref().map_or(Health::Starting, |status| status.health);
        match self.standing.now().role {
            Role::Ended => "ended",
            _ if status.trouble.is_some() => "troubled",
            Role::Starting => "starting",
            Role::Standby => "following",
            Role::Acquiring => "taking over",
            Role::Leaving => "handing over",
            Role::Returning => "returning",
            Role::Owner => match health {
                Health::Starting | Health::Waiting => "starting",
                Health::Good => "replicating",
                Health::Troubled => "troubled",
                Health::Ended => "ended",
            },
        }
    }

    /// The answer to `GET /api/replication`; `full` is for superusers. Asks the replica then, so it may block.
    pub fn json(&self, full: bool) -> Value {
        let status = self.kept.as_ref().map(|kept| kept.node.status());
        let mut told = json!({
            "role": role(self.standing.now().role), "state": self.state(status.as_ref()),
            "lag": self.lag().as_secs_f64(), "place": place(self.told.place),
            "durability": durability(self.told.durability),
        });
        let (Some(kept), Some(status)) = (&self.kept, &status) else { return told };
        add(&mut told, &self.public_details(status));
        if full {
            add(&mut told, &self.details(kept, status));
        }
        told
    }

    fn public_details(&self, status: &NodeStatus) -> Value {
        let standby = self.standing.now().role == Role::Standby;
        let looked = status.looked.filter(|_| standby);
        let age = looked.map(|looked| self.clock.boot().saturating_sub(looked).as_secs_f64());
        json!({
            "epoch": status.epoch.map(|epoch| epoch.to_string()),
            "txid": status.txid.map(|txid| txid.to_string()),
            "looked": age,
            "createOnly": self.create_only(status),
        })
    }

    /// Whether the store protects the replica from a second writer: only who owns knows it.
    fn create_only(&self, status: &NodeStatus) -> Option<bool> {
        let owns = matches!(self.standing.now().role, Role::Owner | Role::Leaving);
        status.replication.as_ref().filter(|_| owns).map(|status| status.create_only)
    }

    fn details(&self, kept: &Kept, status: &NodeStatus) -> Value {
        let looked = self.look(kept);
        let point =
            |(txid, time): &(String, Option<TimestampMs>)| json!({ "txid": txid, "time": time.map(date) });
        let built = status.replication.as_ref().and_then(|status| status.built);
        json!({
            "replica": kept.location,
            "localTxid": built.map(|txid| txid.to_string()),
            "epochs": looked.epochs,
            "aside": status.aside.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
            "range": looked.range.as_ref().map(|[from, to]| json!({ "from": point(from), "to": point(to) })),
            "lastRestore": self.told.restore.as_ref().map(|it| json!({
                "from": it.from, "txid": format!("{:016x}", it.txid), "bytes": it.bytes,
                "milliseconds": it.millis, "at": date(it.at),
            })),
            "waiting": self.gate.waiting(),
            "trouble": trouble(status).or(looked.trouble),
        })
    }

    /// What the status page shows. Asks the replica, so it may block.
    pub fn view(&self) -> (ReplicationView, LagRing) {
        let status = self.kept.as_ref().map(|kept| kept.node.status());
        let looked = self.kept.as_ref().map(|kept| self.look(kept));
        let range = looked.as_ref().and_then(|looked| looked.range.as_ref());
        let view = ReplicationView {
            role: self.standing.now().role,
            state: self.state(status.as_ref()).to_owned(),
            place: self.told.place,
            durability: match self.told.durability {
                Durability::Replicated => web::Durability::Replicated,
                Durability::Local => web::Durability::Local,
            },
            lag_ms: self.kept.as_ref().map(|_| u64::try_from(self.lag().as_millis()).unwrap_or(u64::MAX)),
            txid: status.as_ref().and_then(|status| status.txid).map(|txid| txid.get()),
            epoch: status.as_ref().and_then(|status| status.epoch).map(Epoch::get),
            restore: self.told.restore.clone(),
            range: range.and_then(|[from, to]| Some((from.1?, to.1?))),
            trouble: status.as_ref().and_then(trouble).or_else(|| looked.and_then(|looked| looked.trouble)),
        };
        (view, self.ring.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn look(&self, kept: &Kept) -> Looked {
        self.looks.get(&*self.clock, || self.ask(&*kept.store))
    }

    fn ask(&self, store: &dyn Store) -> Looked {
        match (litekeep::restore::catalog(store), store.list(&Scope::Epochs)) {
            (Ok(catalog), Ok(entries)) => {
                let records = entries.into_iter().filter_map(|entry| match entry.key {
                    Key::Epoch(epoch, record) => Some((epoch, record, entry.modified)),
                    _ => None,
                });
                Looked { range: range(store, &catalog), epochs: self.epochs(store, records), trouble: None }
            }
            (Err(error), _) | (_, Err(error)) => {
                Looked { range: None, epochs: Vec::new(), trouble: Some(error.to_string()) }
            }
        }
    }

    /// What became of each epoch, the oldest first.
    fn epochs(
        &self,
        store: &dyn Store,
        records: impl Iterator<Item = (Epoch, EpochRecord, TimestampMs)>,
    ) -> Vec<Value> {
        let mut epochs: BTreeMap<Epoch, [Option<TimestampMs>; 3]> = BTreeMap::new();
        for (epoch, record, at) in records {
            let place = match record {
                EpochRecord::Claim => 0,
                EpochRecord::Open => 1,
                EpochRecord::Closed => 2,
            };
            epochs.entry(epoch).or_default()[place] = Some(at);
        }
        let skipped = epochs.len().saturating_sub(EPOCHS);
        let newest = epochs.into_iter().skip(skipped);
        let told = newest.map(|(epoch, times)| {
            let [claimed, opened, closed] = times.map(|at| at.map(date));
            json!({
                "epoch": epoch.to_string(), "owner": self.owner(store, epoch), "claimed": claimed, "opened": opened,
                "closed": closed,
            })
        });
        told.collect()
    }

    fn owner(&self, store: &dyn Store, epoch: Epoch) -> Option<String> {
        if let Some(known) = self.owners.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch) {
            return known.clone();
        }
        let key = Key::Epoch(epoch, EpochRecord::Claim);
        let read = store.read(&key, Some(0..EPOCH_RECORD_BYTES)).ok()?;
        let record: Option<Value> = serde_json::from_slice(&read.bytes).ok();
        let owner = record.and_then(|record| record["owner"].as_str().map(str::to_owned));
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.insert(epoch, owner.clone());
        while owners.len() > EPOCHS {
            owners.pop_first();
        }
        owner
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

/// Oldest and newest point that can be restored.
fn range(
    store: &dyn Store,
    catalog: &litekeep_core::restore::Catalog,
) -> Option<[(String, Option<TimestampMs>); 2]> {
    let points = points(catalog);
    let mut restorable = points.iter().filter(|point| point.restorable);
    let time = |file: &litekeep_core::restore::LtxFile| {
        let head = store.head(&Key::Ltx(file.level, file.range));
        head.ok().map(|head| head.timestamp)
    };
    let first = restorable.next();
    let last = restorable.next_back().or(first);
    let told = |point: &litekeep_core::restore::Point| (point.txid.to_string(), time(&point.file));
    first.zip(last).map(|(first, last)| [told(first), told(last)])
}

fn add(told: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        told[name] = value.clone();
    }
}

/// The role in one word.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Starting => "starting",
        Role::Standby => "standby",
        Role::Acquiring => "acquiring",
        Role::Owner => "owner",
        Role::Leaving => "leaving",
        Role::Returning => "returning",
        Role::Ended => "ended",
    }
}

fn trouble(status: &NodeStatus) -> Option<String> {
    let replication = status.replication.as_ref().and_then(|status| status.trouble.as_ref());
    let error = status.failure.as_ref().or(status.trouble.as_ref()).or(replication)?;
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
