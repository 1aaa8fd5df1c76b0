//! Reading connections: a few, opened when first needed, each used by one query at a time, for a limited time.

use super::beats::Beats;
use super::open;
use crate::limits;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Instructions of SQLite's machine between two looks at whether the time is up: some tens of microseconds.
const LOOK_EVERY: i32 = 1000;

pub(super) struct Readers {
    path: PathBuf,
    /// How long one query may take.
    time: Duration,
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
            time: limits::READ_TIME,
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
        // A flag of this query's own: an interrupt that comes late would meet the next query on the connection.
        let late = Arc::new(AtomicBool::new(false));
        let (time, flag) = (self.time, Arc::clone(&late));
        let watch = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            flag.store(true, Ordering::Relaxed);
        });
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit; // until the query has ended, also if nobody waits for it any more
            let mut reader = readers.take()?;
            readers.refresh(&mut reader)?;
            reader.connection.progress_handler(LOOK_EVERY, Some(move || late.load(Ordering::Relaxed)))?;
            let result = query(&reader.connection);
            watch.abort();
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

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ErrorCode;

    #[test]
    fn a_query_without_an_end_is_stopped_and_the_connection_serves_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data.db");
        let writer = open::writer(&path).expect("a database");
        writer
            .execute_batch("CREATE TABLE heartbeats (id, oracle, status, created, updated)")
            .expect("the table that the view is made of");
        let time = Duration::from_millis(20);
        let readers = Arc::new(Readers { time, ..Readers::new(path, 1, Arc::new(Beats::default())) });
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let ask = |text: &'static str| {
            let readers = Arc::clone(&readers);
            readers.run(move |connection| connection.query_row(text, [], |row| row.get::<_, i64>(0)))
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let error = ask(endless).await.expect_err("stopped");
            assert_eq!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted), "{error}");
            assert_eq!(ask("SELECT 7").await, Ok(7));
        });
    }
}
