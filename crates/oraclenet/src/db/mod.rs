//! The database as the server uses it: one writer, a few readers, and the gate that holds an answer back until the
//! replica has what it speaks of.
//!
//! Nothing here knows HTTP or the collections' rules. Every change goes through [`Db::write`]; what it returns is in
//! the replica, or says that it may not be.

mod beats;
mod gate;
mod readers;
mod writer;

pub mod adopt;
pub mod open;
pub mod rows;
pub mod tables;

pub use beats::{Beat, Beats};
pub use gate::{Durability, Gate, Replica};
pub use writer::Change;

use crate::limits;
use litekeep_formats::Txid;
use readers::Readers;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use writer::Writer;

/// What a write that went well gives back.
#[derive(Debug)]
pub struct Written<T> {
    /// What the closure gave.
    pub value: T,
    /// The replica's newest transaction when the answer was released; `None` where nothing is replicated.
    pub txid: Option<Txid>,
}

/// A write that is not known to be durable.
#[derive(Debug)]
pub enum WriteError<E> {
    /// The closure refused; nothing was changed.
    Refused(E),
    /// Nothing was changed: too many are waiting, or the server stops or does not own the replica.
    NotApplied(&'static str),
    /// Committed here, and not known to be in the replica: it may yet become durable, or be undone.
    Unknown,
}

/// Handles are cheap to clone.
#[derive(Clone)]
pub struct Db {
    writer: Writer,
    readers: Arc<Readers>,
    gate: Arc<Gate>,
    beats: Arc<Beats>,
    ack_timeout: Duration,
    closing: Arc<AtomicBool>,
}

impl Db {
    /// Opens the connections to a database that is there and has its tables.
    ///
    /// # Errors
    /// SQLite's, when the file cannot be opened.
    pub fn start(path: &Path, gate: Arc<Gate>, ack_timeout: Duration) -> rusqlite::Result<Self> {
        let beats = Arc::new(Beats::default());
        let writer = Writer::start(open::writer(path)?, Arc::clone(&gate), Arc::clone(&beats));
        let readers = Readers::new(path.to_owned(), limits::READERS, Arc::clone(&beats));
        Ok(Self { writer, readers: Arc::new(readers), gate, beats, ack_timeout, closing: Arc::default() })
    }

    /// Runs `query` on a reading connection, off the request threads.
    ///
    /// # Errors
    /// The query's own; or SQLite's, when a connection cannot be had.
    pub async fn read<T, E>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        Arc::clone(&self.readers).run(query).await
    }

    /// Runs `work` in a transaction of its own and waits until the replica has it. `work` also names what changed, for
    /// those who listen; they hear of it once it is durable.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection, &mut Vec<Change>) -> Result<T, E> + Send + 'static,
    ) -> Result<Written<T>, WriteError<E>>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let turn = Arc::new(Turn::default());
        let (ours, closing, patience) = (Arc::clone(&turn), Arc::clone(&self.closing), self.ack_timeout * 2);
        let sent = self.writer.send(Box::new(move |connection, gate| {
            let admitted = if closing.load(Ordering::Acquire) {
                Err("the server is stopping")
            } else {
                gate.admits(patience)
            };
            if !ours.begin() {
                return; // whoever asked was told that nothing was changed
            }
            let result = match admitted {
                Err(why) => Err(WriteError::NotApplied(why)),
                Ok(()) => {
                    let mut changes = Vec::new();
                    let result =
                        writer::in_transaction(connection, |connection| work(connection, &mut changes));
                    result.map(|value| (value, gate.enter(changes))).map_err(WriteError::Refused)
                }
            };
            let _ = tell.send(result); // whoever asked has gone: the commit stands all the same
        }));
        sent.map_err(WriteError::NotApplied)?;
        let durable = async {
            let (value, durable) = told.await.map_err(|_| WriteError::Unknown)??;
            let txid = durable.await.map_err(|_| WriteError::Unknown)?;
            Ok(Written { value, txid })
        };
        match tokio::time::timeout(self.ack_timeout, durable).await {
            Ok(result) => result,
            Err(_) if turn.give_up() => Err(WriteError::NotApplied("too many writes are waiting")),
            Err(_) => Err(WriteError::Unknown),
        }
    }

    /// Waits until the replica has everything that a reader may have seen: for an answer that speaks of an earlier write
    /// whose own answer was `unknown`. It always asks: a commit is seen a moment before it comes to the gate.
    ///
    /// # Errors
    /// [`WriteError::Unknown`] when that takes too long, [`WriteError::NotApplied`] when nothing more may wait.
    pub async fn settled<E>(&self) -> Result<Option<Txid>, WriteError<E>> {
        self.gate.admits(self.ack_timeout * 2).map_err(WriteError::NotApplied)?;
        let durable = self.gate.enter(Vec::new());
        match tokio::time::timeout(self.ack_timeout, durable).await {
            Ok(Ok(txid)) => Ok(txid),
            Ok(Err(_)) | Err(_) => Err(WriteError::Unknown),
        }
    }

    /// The presence that is kept in memory.
    pub fn beats(&self) -> &Beats {
        &self.beats
    }

    /// Takes no further write, and returns when the last one, and the presence, are written down.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.writer.close().await;
    }
}

/// Whether a queued write has begun, or whoever asked gave up before: one of the two, never both.
#[derive(Default)]
struct Turn(AtomicU8);

impl Turn {
    const BEGUN: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn begin(&self) -> bool {
        self.0.compare_exchange(0, Self::BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn give_up(&self) -> bool {
        self.0.compare_exchange(0, Self::GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
