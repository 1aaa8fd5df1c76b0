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
        Ok(Self { writer, readers: Arc::new(readers), gate, beats, ack_timeout })
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
        let sent = self.writer.send(Box::new(move |connection, gate| {
            let mut changes = Vec::new();
            let result = writer::in_transaction(connection, |connection| work(connection, &mut changes));
            let result = result.map(|value| (value, gate.enter(changes)));
            let _ = tell.send(result); // whoever asked has gone: the commit stands all the same
        }));
        sent.map_err(WriteError::NotApplied)?;
        let (value, durable) = match told.await {
            Ok(Ok(committed)) => committed,
            Ok(Err(refusal)) => return Err(WriteError::Refused(refusal)),
            Err(_) => return Err(WriteError::Unknown),
        };
        match tokio::time::timeout(self.ack_timeout, durable).await {
            Ok(Ok(txid)) => Ok(Written { value, txid }),
            Ok(Err(_)) | Err(_) => Err(WriteError::Unknown),
        }
    }

    /// The presence that is kept in memory.
    pub fn beats(&self) -> &Beats {
        &self.beats
    }

    /// The gate.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Takes no further write, and returns when the last one, and the presence, are written down.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}
