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
            reader.connection.progress_handler(LOOK_EVERY, Some(move || late.load(Ordering::Relaxed)))?;
            readers.refresh(&mut reader)?;
            let result = query(&reader.connection);
            watch.abort();
            // A handler that says stop would meet whoever is next.
            reader.connection.progress_handler(LOOK_EVERY, None::<fn() -> bool>)?;
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Not begun: the runtime is ending.
                Err(_) => Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
                    Some("the server is ending".to_owned()),
                )
                .into()),
            },
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
    use crate::db::beats::Beat;
    use rusqlite::ErrorCode;

    const BEATS: i64 = 500;

    #[test]
    fn a_query_without_an_end_is_stopped_and_the_connection_serves_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data.db");
        let writer = open::writer(&path).expect("a database");
        writer
            .execute_batch("CREATE TABLE heartbeats (id, oracle, status, created, updated)")
            .expect("the table that the view is made of");
        let time = Duration::from_millis(200);
        let beats = Arc::new(Beats::default());
        let readers = Arc::new(Readers { time, ..Readers::new(path, 1, Arc::clone(&beats)) });
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
            // What the next one has to do first takes longer than one look at the time.
            for number in 0..BEATS {
                let (id, oracle) = (format!("beat{number}"), format!("oracle{number}"));
                let (status, created) = ("online".to_owned(), String::new());
                assert!(beats.beat(Beat { id, oracle, status, created }).is_ok());
            }
            assert_eq!(ask("SELECT count(*) FROM heartbeats").await, Ok(BEATS));
        });
    }
}
