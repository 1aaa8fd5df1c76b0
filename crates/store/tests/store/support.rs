//! A clock and randomness for tests, and S3 stores on the in-process server.

use litekeep_core::env::{Clock, Random};
use litekeep_formats::TimestampMs;
use litekeep_store::location::{S3Settings, Secret};
use litekeep_store::retry::Policy;
use litekeep_store::s3::S3Store;
use litekeep_store::{Key, Store, StoreError};
use s3test::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub(crate) use litekeep_store::conformance::slot;

/// Real wall time; waiting is free: it moves only this clock's own time ahead.
#[derive(Default)]
pub(crate) struct TestClock {
    ahead: Mutex<Duration>,
}

impl Clock for TestClock {
    fn wall(&self) -> TimestampMs {
        #[allow(clippy::disallowed_methods, reason = "file times come from this machine's clock")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        TimestampMs(i64::try_from(now.as_millis()).unwrap())
    }
    fn boot(&self) -> Duration {
        *self.ahead.lock().unwrap()
    }
    fn sleep(&self, duration: Duration) {
        *self.ahead.lock().unwrap() += duration;
        std::thread::yield_now();
    }
}

/// A counter, scrambled.
#[derive(Default)]
pub(crate) struct TestRandom(AtomicU64);

impl Random for TestRandom {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ u64::from(std::process::id())
    }
}

pub(crate) fn clock() -> Arc<TestClock> {
    Arc::default()
}

pub(crate) fn random() -> Arc<TestRandom> {
    Arc::default()
}

pub(crate) fn settings(server: &Server, path: &str) -> S3Settings {
    S3Settings {
        endpoint: Some(server.endpoint().into()),
        region: Some(REGION.into()),
        access_key_id: Some(ACCESS_KEY.into()),
        secret_access_key: Some(Secret::new(SECRET_KEY)),
        ..S3Settings::new(BUCKET, path)
    }
}

/// A store with the usual patience, whose waits cost no time.
pub(crate) fn s3(server: &Server, path: &str) -> S3Store {
    S3Store::open(&settings(server, path), clock(), random()).unwrap()
}

/// A store that tries once.
pub(crate) fn hasty(settings: &S3Settings) -> S3Store {
    let policy = Policy { total: Duration::ZERO, ..Policy::default() };
    S3Store::with_policy(settings, clock(), random(), policy).unwrap()
}

pub(crate) fn shared(store: impl Store + 'static) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(store))
}

pub(crate) fn read(store: &dyn Store, key: Key) -> Vec<u8> {
    store.read(&key, None).unwrap().bytes.to_vec()
}

pub(crate) const TIME: TimestampMs = TimestampMs(1_700_000_000_120);
