//! The one thread that writes. Jobs come from a bounded queue and run one after the other, each in a transaction, and
//! only while this server may write.

use super::beats::{Beats, Due};
use super::gate::Gate;
use super::standing::Standing;
use crate::limits;
use crate::net::presence::WINDOW_MS;
use crate::time;
use litekeep_core::env::Clock;
use litekeep_formats::Txid;
use rusqlite::Connection;
use serde_json::{Map, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Something that happened to a record, for those who listen.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The collection's name.
    pub collection: &'static str,
    /// `create`, `update` or `delete`.
    pub action: &'static str,
    /// The record: as it is now, or as it was before it was deleted. Every column, also the hidden ones.
    pub record: Map<String, Value>,
}

/// What the thread runs: with the connection, or with nothing while this server may not write.
pub(super) type Job = Box<dyn FnOnce(Option<&Connection>) + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    queue: Arc<Mutex<Option<SyncSender<Job>>>>,
    ended: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        standing: Arc<Standing>,
        gate: Arc<Gate>,
        beats: Arc<Beats>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (queue, jobs) = sync_channel(limits::WRITE_QUEUE);
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("writer".to_owned());
        let spawned = thread.spawn(move || {
            let mut presence = Presence { beats: &beats, gate: &gate, clock: &*clock, underway: None };
            run(&connection, &jobs, &standing, &mut presence);
            drop(connection);
            let _ = tell.send(());
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot start the writing thread"); // the queue is closed, every write says so
        }
        Self { queue: Arc::new(Mutex::new(Some(queue))), ended: Arc::new(Mutex::new(Some(ended))) }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// Why it was not taken; it has not run and will not.
    pub(super) fn send(&self, job: Job) -> Result<(), &'static str> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return Err("the server is stopping") };
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => "too many writes are waiting",
            TrySendError::Disconnected(_) => "the writing thread has ended",
        })
    }

    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _ = ended.await; // a panic there drops the sender, which is an end too
        }
    }
}

fn run(connection: &Connection, jobs: &Receiver<Job>, standing: &Standing, presence: &mut Presence<'_>) {
    loop {
        match jobs.recv_timeout(limits::BEATS_AT_LATEST) {
            Ok(job) => {
                // Kept until the job has entered the gate, so that who withdraws the permit finds all commits there.
                let writing = standing.begin();
                // The transaction was rolled back by its drop, and whoever waits hears that nobody knows.
                let _ = catch_unwind(AssertUnwindSafe(|| job(writing.as_ref().map(|_| connection))));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // The presence rides along with whatever is written anyway, at the latest once a minute. It
        // never asks for ownership.
        if presence.is_settled() {
            presence.write(connection, standing);
        }
    }
    presence.write(connection, standing);
}

/// Writes heartbeats down, and forgets them only when they are durable: until then they may be undone.
struct Presence<'a> {
    beats: &'a Beats,
    gate: &'a Gate,
    clock: &'a dyn Clock,
    underway: Option<(Due, oneshot::Receiver<Option<Txid>>)>,
}

impl Presence<'_> {
    /// Whether it is known what became of the last ones.
    fn is_settled(&mut self) -> bool {
        let Some((due, durable)) = &mut self.underway else { return true };
        match durable.try_recv() {
            Ok(_) => self.beats.written(due),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Closed) => {} // undone, perhaps: they are written again
        }
        self.underway = None;
        true
    }

    fn write(&mut self, connection: &Connection, standing: &Standing) {
        let Some(_writing) = standing.begin() else {
            let oldest = time::now(self.clock) - chrono::Duration::milliseconds(WINDOW_MS);
            return self.beats.expire(&time::format(oldest));
        };
        let Some(due) = self.beats.take_due() else { return };
        match in_transaction(connection, |connection| due.write(connection)) {
            Ok(()) => self.underway = Some((due, self.gate.enter(Vec::new()))),
            Err(error) => {
                tracing::warn!(%error, "the presence could not be written down, trying again later")
            }
        }
    }
}

/// Runs `work` in an immediate transaction, which is rolled back when it refuses or panics.
pub(super) fn in_transaction<T, E: From<rusqlite::Error>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}
