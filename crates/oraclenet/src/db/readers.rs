//! Reading connections: a few, opened when first needed, each used by one query at a time.

use super::beats::Beats;
use super::open;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

pub(super) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Reader>>,
    beats: Arc<Beats>,
}

/// A connection, and which presence its view shows.
struct Reader {
    connection: Connection,
    beats: u64,
}

impl Readers {
    pub(super) fn new(path: PathBuf, count: usize, beats: Arc<Beats>) -> Self {
        Self {
            path,
            permits: Arc::new(Semaphore::new(count)),
            idle: Mutex::new(Vec::with_capacity(count)),
            beats,
        }
    }

    pub(super) async fn run<T, E>(
        self: Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let readers = Arc::clone(&self);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("BUG: the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit; // until the query has ended, also if nobody waits for it any more
            let mut reader = readers.take()?;
            readers.refresh(&mut reader)?;
            let result = query(&reader.connection);
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn take(&self) -> rusqlite::Result<Reader> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| Ok(Reader { connection: open::reader(&self.path)?, beats: 0 }), Ok)
    }

    /// Shows the reader what is known in memory and not written down yet.
    fn refresh(&self, reader: &mut Reader) -> rusqlite::Result<()> {
        if let Some((version, beats)) = self.beats.since(reader.beats) {
            open::show_beats(&reader.connection, &beats)?;
            reader.beats = version;
        }
        Ok(())
    }
}
