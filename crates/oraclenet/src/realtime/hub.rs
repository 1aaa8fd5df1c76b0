//! The hub: who is connected, what they asked for, and the one task that tells them.
//!
//! Commits come in by [`Hub::publish`], in their order and from a thread that must not wait; [`Hub::run`] looks at one
//! after the other, so every client hears in that order too. A client is dropped when it reads too slowly, and all are
//! when commits come faster than they can be looked at: whoever was dropped knows that it may have missed something,
//! and comes back.

use super::events::{self, Account, Ask, Round, World};
use super::queue::{Event, Queue};
use super::topics::Topic;
use super::{frames, limits};
use crate::db::{Change, Db, rows};
use crate::filter::AuthRecord;
use crate::http::client_address::ClientKey;
use crate::http::error::ApiError;
use crate::random::{self, Source};
use crate::schema::Schema;
use bytes::Bytes;
use futures::{FutureExt as _, Stream};
use litekeep_core::env::Clock;
use rusqlite::Connection;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// A client's name, which the server gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ClientId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// See the module's text.
pub struct Hub {
    schema: Arc<Schema>,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    clients: Arc<Clients>,
    seats: Arc<Mutex<HashMap<ClientKey, usize>>>,
    commits: mpsc::Sender<Commit>,
    inbox: Mutex<Option<mpsc::Receiver<Commit>>>,
    /// How many commits were published.
    published: AtomicU64,
}

/// What one commit changed, and the how-manieth it is.
struct Commit {
    number: u64,
    changes: Vec<Change>,
}

#[derive(Default)]
struct Clients(Mutex<Connected>);

#[derive(Default)]
struct Connected {
    by_id: HashMap<ClientId, Client>,
    subscription_bytes: usize,
    closed: bool,
}

struct Client {
    queue: Arc<Queue>,
    account: Option<Account>,
    subscriptions: Vec<Subscription>,
    /// Of the subscriptions.
    bytes: usize,
    /// When it got its last event, on the clock that never goes back.
    last_event: Duration,
}

struct Subscription {
    topic: Arc<Topic>,
    /// It hears of commits after this one.
    after: u64,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    fn remove(&mut self, id: &ClientId) {
        if let Some(client) = self.by_id.remove(id) {
            self.subscription_bytes -= client.bytes;
            client.queue.close();
        }
    }

    fn remove_all(&mut self) {
        self.by_id.drain().for_each(|(_, client)| client.queue.close());
        self.subscription_bytes = 0;
    }
}

impl Hub {
    /// A hub without clients.
    pub fn new(schema: Arc<Schema>, source: Arc<dyn Source>, clock: Arc<dyn Clock>) -> Self {
        let (commits, inbox) = mpsc::channel(limits::WAITING_COMMITS);
        let inbox = Mutex::new(Some(inbox));
        let published = AtomicU64::new(0);
        Self {
            schema,
            source,
            clock,
            clients: Arc::default(),
            seats: Arc::default(),
            commits,
            inbox,
            published,
        }
    }

    /// A seat for one stream of an address, until it is dropped. `None` when the address has all that one may have; this
    /// machine may have more, for it may be a proxy's.
    pub fn seat(&self, address: IpAddr) -> Option<Seat> {
        let key = ClientKey::from(address);
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(key).or_default();
        if *taken >= limits::OF_ONE && !address.to_canonical().is_loopback() {
            return None;
        }
        *taken += 1;
        Some(Seat { key, seats: Arc::clone(&self.seats) })
    }

    /// A new client, and what it hears: first its own name. `None` if there are too many, or the hub is closed.
    pub fn connect(&self) -> Option<(ClientId, Receiver)> {
        let id = ClientId(random::client_id(&*self.source).into());
        let queue = Arc::new(Queue::default());
        let first = Event { name: frames::CONNECT.into(), data: frames::connect_data(id.as_str()) };
        queue.push(first).ok()?;
        let client = Client {
            queue: Arc::clone(&queue),
            account: None,
            subscriptions: Vec::new(),
            bytes: 0,
            last_event: self.clock.boot(),
        };
        let mut connected = self.clients.lock();
        if connected.closed || connected.by_id.len() >= limits::CLIENTS {
            return None;
        }
        connected.by_id.insert(id.clone(), client);
        drop(connected);
        let receiver = Receiver { id: id.clone(), queue, clients: Arc::clone(&self.clients) };
        Some((id, receiver))
    }

    /// Sets what a client wants to hear, and in whose name, in place of what it wanted before. A guest can become an
    /// account; an account stays the same until it is gone or its tokens have ended.
    ///
    /// # Errors
    /// 404 for a client that is not there, 403 for another account, 400 for too many filters, 429 where all
    /// subscriptions together are too long.
    pub fn subscribe(
        &self,
        id: &ClientId,
        subscriptions: &[String],
        auth: Option<&AuthRecord>,
    ) -> Result<(), ApiError> {
        let mut distinct = HashSet::new();
        let topics: Vec<Arc<Topic>> = subscriptions
            .iter()
            .filter(|text| distinct.insert(text.as_str()))
            .filter_map(|text| Topic::parse(&self.schema, text).map(Arc::new))
            .collect();
        let filtered = topics.iter().filter(|topic| !rows::text(&topic.options.query, "filter").is_empty());
        let too_many_filters = filtered.count() > limits::FILTERED;
        let bytes: usize = topics.iter().map(|topic| topic.text.len()).sum();
        let account = auth.map(Account::of);
        let mut connected = self.clients.lock();
        let all = connected.subscription_bytes;
        let Some(client) = connected.by_id.get_mut(id) else {
            return Err(ApiError::new(404, "Missing or invalid client id"));
        };
        if let Some(before) = &client.account
            && !account.as_ref().is_some_and(|now| now.is(before))
        {
            let message = "The current and the previous request authorization don't match";
            return Err(ApiError::forbidden(message));
        }
        if too_many_filters {
            let message = format!("At most {} subscriptions of a client can have a filter", limits::FILTERED);
            return Err(ApiError::bad_request(&message));
        }
        // A subscription that goes on misses nothing of what is on its way.
        let before: HashMap<&str, u64> =
            client.subscriptions.iter().map(|it| (&*it.topic.text, it.after)).collect();
        let now = self.published.load(Ordering::SeqCst);
        let subscriptions = topics.into_iter().map(|topic| {
            let after = before.get(&*topic.text).copied().unwrap_or(now);
            Subscription { topic, after }
        });
        let subscriptions = subscriptions.collect();
        let all = all - client.bytes + bytes;
        if all > limits::ALL_SUBSCRIPTION_BYTES {
            return Err(ApiError::too_many(None));
        }
        (client.account, client.subscriptions, client.bytes) = (account, subscriptions, bytes);
        connected.subscription_bytes = all;
        Ok(())
    }

    /// Takes what a commit changed. Never waits; called in the order of commits.
    pub fn publish(&self, changes: Vec<Change>) {
        let number = self.published.fetch_add(1, Ordering::SeqCst) + 1;
        if self.commits.try_send(Commit { number, changes }).is_err() {
            let mut connected = self.clients.lock();
            if !connected.closed {
                tracing::warn!(
                    clients = connected.by_id.len(),
                    "too many changes at once for realtime: all clients are sent away"
                );
            }
            connected.remove_all();
        }
    }

    /// Tells clients what was published, and sends away those that heard nothing for long, until the hub is closed.
    /// Only the first call does anything.
    pub async fn run(&self, db: Db) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut inbox) = inbox else { return };
        while !self.clients.lock().closed {
            let wait = self.until_somebody_is_idle();
            if let Ok(Some(commit)) = tokio::time::timeout(wait, inbox.recv()).await {
                self.tell(&db, commit).await;
            }
            self.drop_idle();
        }
    }

    /// Ends every stream, and [`Hub::run`]; nobody can connect any more.
    pub fn close(&self) {
        let mut connected = self.clients.lock();
        connected.closed = true;
        connected.remove_all();
        drop(connected);
        self.publish(Vec::new()); // wakes the task
    }

    /// Ends every stream. Whoever comes back may listen again.
    pub fn send_away(&self) {
        let mut connected = self.clients.lock();
        if !connected.by_id.is_empty() {
            tracing::info!(clients = connected.by_id.len(), "those who listen are sent away");
        }
        connected.remove_all();
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.clients.lock().by_id.len()
    }

    async fn tell(&self, db: &Db, commit: Commit) {
        let asked: Vec<(Change, Vec<Ask<ClientId>>)> = {
            let mut connected = self.clients.lock();
            let Commit { number, changes } = commit;
            let with_asks = |change| {
                let asks = connected.asks(number, &change);
                (change, asks)
            };
            let asked: Vec<_> = changes.into_iter().map(with_asks).collect();
            asked.iter().for_each(|(change, _)| connected.end_accounts(change));
            asked
        };
        for (change, asks) in asked {
            let change = Arc::new(change);
            let mut rest = asks;
            while !rest.is_empty() {
                rest = self.tell_some(db, &change, rest).await;
            }
        }
    }

    /// Tells as many as one read is enough for; who is left.
    async fn tell_some(&self, db: &Db, change: &Arc<Change>, asks: Vec<Ask<ClientId>>) -> Vec<Ask<ClientId>> {
        let (schema, source) = (Arc::clone(&self.schema), Arc::clone(&self.source));
        let clock = Arc::clone(&self.clock);
        let world = World { schema, source, now: crate::time::now(&*clock), clock };
        let all: Vec<ClientId> = asks.iter().map(|ask| ask.client.clone()).collect();
        let change = Arc::clone(change);
        let read = move |connection: &Connection| {
            Ok::<_, rusqlite::Error>(events::answers(connection, &world, &change, asks))
        };
        // A panic in a query is for those who asked; everybody else goes on hearing.
        let round = AssertUnwindSafe(db.read(read)).catch_unwind().await;
        let why = match round {
            Ok(Ok(Round { heard, rest })) => {
                let now = self.clock.boot();
                let mut connected = self.clients.lock();
                heard.into_iter().for_each(|(id, topic, answer)| connected.send(&id, &topic, answer, now));
                return rest;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a panic, which is told above".to_owned(),
        };
        tracing::error!(error = %why, "realtime cannot read: those who would have heard are sent away");
        let mut connected = self.clients.lock();
        all.iter().for_each(|id| connected.remove(id));
        Vec::new()
    }

    /// How long it takes until the next client could have been idle for too long.
    fn until_somebody_is_idle(&self) -> Duration {
        let now = self.clock.boot();
        let connected = self.clients.lock();
        let left =
            connected.by_id.values().map(|client| (client.last_event + limits::IDLE).saturating_sub(now));
        left.min().unwrap_or(limits::IDLE)
    }

    fn drop_idle(&self) {
        let now = self.clock.boot();
        let mut connected = self.clients.lock();
        let idle = connected.by_id.iter().filter(|(_, client)| client.last_event + limits::IDLE <= now);
        let idle: Vec<ClientId> = idle.map(|(id, _)| id.clone()).collect();
        idle.iter().for_each(|id| connected.remove(id));
    }
}

impl Connected {
    /// The subscriptions that a change may concern.
    fn asks(&self, commit: u64, change: &Change) -> Vec<Ask<ClientId>> {
        let each = self.by_id.iter().flat_map(|(id, client)| {
            let concerned =
                client.subscriptions.iter().filter(move |it| it.after < commit && it.topic.is_about(change));
            concerned.map(|it| Ask {
                client: id.clone(),
                account: client.account.clone(),
                topic: Arc::clone(&it.topic),
            })
        });
        each.collect()
    }

    /// Makes guests of those whose account, or whose tokens, ended. Stricter than PocketBase, where a stream outlives
    /// the token that opened it.
    fn end_accounts(&mut self, change: &Change) {
        for client in self.by_id.values_mut() {
            if client.account.as_ref().is_some_and(|account| account.ends_with(change)) {
                client.account = None;
            }
        }
    }

    fn send(&mut self, id: &ClientId, topic: &Topic, answer: events::Answer, now: Duration) {
        let Some(client) = self.by_id.get_mut(id) else { return };
        let sent = match answer {
            Ok(None) => return,
            Ok(Some(data)) => client.queue.push(Event { name: Arc::clone(&topic.text), data }).is_ok(),
            Err(events::Failed) => false,
        };
        if sent {
            client.last_event = now;
        } else {
            tracing::info!(
                "a realtime client is sent away: it reads too slowly, or it cannot be told what it asked for"
            );
            self.remove(id);
        }
    }
}

/// See [`Hub::seat`].
pub struct Seat {
    key: ClientKey,
    seats: Arc<Mutex<HashMap<ClientKey, usize>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut taken) = seats.entry(self.key) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// What one client hears: a stream of frames, which ends when the client is sent away. Dropping it disconnects.
pub struct Receiver {
    id: ClientId,
    queue: Arc<Queue>,
    clients: Arc<Clients>,
}

impl Stream for Receiver {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = |event: Event| Ok(frames::frame(self.id.as_str(), &event.name, &event.data));
        self.queue.poll(context).map(|event| event.map(frame))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.clients.lock().remove(&self.id);
    }
}
