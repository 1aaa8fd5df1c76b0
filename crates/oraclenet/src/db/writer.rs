//! The one thread that writes. Jobs come from a bounded queue and run one after the other, each in a transaction.

use super::beats::Beats;
use super::gate::Gate;
use crate::limits;
use rusqlite::Connection;
use serde_json::{Map, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

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

/// What the thread runs.
pub(super) type Job = Box<dyn FnOnce(&Connection, &Gate) + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    queue: Arc<Mutex<Option<SyncSender<Job>>>>,
    ended: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, gate: Arc<Gate>, beats: Arc<Beats>) -> Self {
        let (queue, jobs) = sync_channel(limits::WRITE_QUEUE);
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("writer".to_owned());
        let spawned = thread.spawn(move || {
            run(&connection, &jobs, &gate, &beats);
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

fn run(connection: &Connection, jobs: &Receiver<Job>, gate: &Gate, beats: &Beats) {
    loop {
        match jobs.recv_timeout(limits::BEATS_AT_LATEST) {
            Ok(job) => {
                // The transaction was rolled back by its drop, and whoever waits hears that nobody knows.
                let _ = catch_unwind(AssertUnwindSafe(|| job(connection, gate)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // The presence rides along with whatever is written anyway, at the latest once a minute (DESIGN section 8).
        write_beats(connection, beats);
    }
    write_beats(connection, beats);
}

fn write_beats(connection: &Connection, beats: &Beats) {
    let Some(due) = beats.take_due() else { return };
    let written = in_transaction(connection, |connection| due.write(connection));
    match written {
        Ok(()) => beats.written(&due),
        Err(error) => tracing::warn!(%error, "the presence could not be written down, trying again later"),
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
