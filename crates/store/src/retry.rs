//! Trying again: how often, how long, and what an error says afterwards.
//!
//! One loop for every verb of a remote store. Waits grow and are jittered, a store's own `Retry-After` is honoured, and
//! nobody waits for another try past [`Policy::total`]: who called has better things to decide than to hang. The last try may
//! take its own time, at most what the budget makes it wait and [`Policy::answer`].

use crate::{ErrorKind, Failure, StoreError};
use litekeep_core::env::{Clock, Random};
use std::time::Duration;

/// After how long it is said aloud that a request goes on without success: its error comes only when all tries are over.
const ALOUD: Duration = Duration::from_secs(3);

/// How patiently one verb is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The first wait, before jitter.
    pub first: Duration,
    /// The longest wait the loop chooses by itself.
    pub longest: Duration,
    /// No wait for another try ends later than this after the first one began.
    pub total: Duration,
    /// How long an answer may take to begin, and to go on once begun; sending a body adds to the former.
    pub answer: Duration,
}

impl Default for Policy {
    /// Waits of 0.1 s doubling to 5 s, 30 s in all; 30 s for an answer.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            total: Duration::from_secs(30),
            answer: Duration::from_secs(30),
        }
    }
}

/// One try's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// Whose move it is; only [`ErrorKind::Retry`] and [`ErrorKind::Wait`] are tried again.
    pub kind: ErrorKind,
    /// What went wrong, without secrets.
    pub text: String,
    /// How long the store asked to be left alone.
    pub after: Option<Duration>,
    /// Whether the store may have done it all the same.
    pub ambiguous: bool,
}

impl Setback {
    /// A failure of which it is certain that nothing was changed.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), after: None, ambiguous: false }
    }
}

/// What a verb is about, for its error.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The verb.
    pub operation: &'static str,
    /// The object, with its location.
    pub object: &'a str,
}

/// Clock, randomness and policy of one store.
pub struct Retrier<'a> {
    /// Waiting and elapsed time.
    pub clock: &'a dyn Clock,
    /// Jitter.
    pub random: &'a dyn Random,
    /// See [`Policy`].
    pub policy: Policy,
}

impl Retrier<'_> {
    /// Calls `attempt` with the try's number, from 1, until it succeeds, fails for good, or time is up.
    pub fn run<T>(
        &self,
        about: About<'_>,
        mut attempt: impl FnMut(u32) -> Result<T, Setback>,
    ) -> Result<T, StoreError> {
        let began = self.clock.boot();
        let (mut tries, mut told) = (0_u32, false);
        loop {
            tries = tries.saturating_add(1);
            let setback = match attempt(tries) {
                Ok(value) => return Ok(value),
                Err(setback) => setback,
            };
            let wait = self.wait(tries, &setback);
            let elapsed = self.clock.boot().saturating_sub(began);
            let again = matches!(setback.kind, ErrorKind::Retry | ErrorKind::Wait);
            if !again || elapsed.saturating_add(wait) > self.policy.total {
                return Err(finished(about, setback, tries, elapsed));
            }
            let (operation, object, error) = (about.operation, about.object, &*setback.text);
            if elapsed >= ALOUD && !std::mem::replace(&mut told, true) {
                tracing::warn!(operation, object, tries, error, "a request has no success yet, trying again");
            } else {
                tracing::debug!(operation, object, tries, error, "trying again");
            }
            self.clock.sleep(wait);
        }
    }

    /// Doubling with jitter (half of it to all of it), but never sooner than the store asked.
    fn wait(&self, tries: u32, setback: &Setback) -> Duration {
        let doubled = self.policy.first.saturating_mul(1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX));
        let ceiling = doubled.min(self.policy.longest);
        let share = u32::try_from(self.random.next_u64() >> 48).unwrap_or(0); // 0..65536
        let jittered = ceiling / 2 + ceiling.saturating_mul(share) / 131_072;
        setback.after.map_or(jittered, |after| after.max(jittered))
    }
}

fn finished(about: About<'_>, setback: Setback, attempts: u32, elapsed: Duration) -> StoreError {
    let error = StoreError::new(setback.kind, about.operation, about.object, Failure::Text(setback.text));
    StoreError { attempts, elapsed, asked: setback.after, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::TimestampMs;
    use std::sync::Mutex;

    #[derive(Default)]
    struct World {
        now: Mutex<Duration>,
        slept: Mutex<Vec<Duration>>,
    }

    impl Clock for World {
        fn wall(&self) -> TimestampMs {
            TimestampMs(0)
        }
        fn boot(&self) -> Duration {
            *self.now.lock().unwrap()
        }
        fn sleep(&self, duration: Duration) {
            *self.now.lock().unwrap() += duration;
            self.slept.lock().unwrap().push(duration);
        }
    }

    struct Always(u64);

    impl Random for Always {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    fn run(
        random: u64,
        mut attempt: impl FnMut(u32) -> Result<u32, Setback>,
    ) -> (Result<u32, StoreError>, World) {
        let world = World::default();
        let retrier = Retrier { clock: &world, random: &Always(random), policy: Policy::default() };
        let about = About { operation: "create", object: "s3://b/x" };
        let result = retrier.run(about, &mut attempt);
        (result, world)
    }

    #[test]
    fn waits_double_from_a_tenth_of_a_second_and_are_jittered_down_to_half() {
        for (random, share) in [(0, 0.5), (u64::MAX, 1.0)] {
            let (result, world) =
                run(random, |n| if n < 9 { Err(Setback::new(ErrorKind::Retry, "reset")) } else { Ok(n) });
            assert_eq!(result.unwrap(), 9);
            let slept: Vec<f64> = world.slept.lock().unwrap().iter().map(Duration::as_secs_f64).collect();
            for (wait, full) in slept.iter().zip([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]) {
                assert!((wait - full * share).abs() < 0.001, "{slept:?}");
            }
        }
    }

    #[test]
    fn an_error_tells_tries_and_time_and_no_try_begins_after_the_limit() {
        let (result, world) = run(u64::MAX, |_| Err(Setback::new(ErrorKind::Retry, "reset")));
        let error = result.unwrap_err();
        assert!(*world.now.lock().unwrap() <= Policy::default().total);
        assert_eq!((error.kind, error.attempts), (ErrorKind::Retry, 11));
        assert_eq!(error.to_string(), "create s3://b/x: reset (tried 11 times in 26.3 s)");
        assert_eq!(error.gist(), "create s3://b/x: reset");
    }

    #[test]
    fn r64_a_store_that_asks_to_wait_is_left_alone_that_long() {
        let asked =
            Setback { after: Some(Duration::from_secs(7)), ..Setback::new(ErrorKind::Wait, "503 SlowDown") };
        let (result, world) = run(0, |n| if n == 1 { Err(asked.clone()) } else { Ok(n) });
        assert_eq!(result.unwrap(), 2);
        assert_eq!(*world.slept.lock().unwrap(), [Duration::from_secs(7)]);
    }

    #[test]
    fn a_wait_past_the_limit_is_not_waited_out_but_told() {
        let asked = Setback { after: Some(Duration::from_secs(120)), ..Setback::new(ErrorKind::Wait, "429") };
        let (result, world) = run(0, |_| Err(asked.clone()));
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind, error.attempts, error.gist()),
            (ErrorKind::Wait, 1, "create s3://b/x: 429".into())
        );
        assert!(error.to_string().contains("asked to wait 120 s"), "{error}");
        assert!(world.slept.lock().unwrap().is_empty());
    }

    #[test]
    fn what_a_person_must_fix_is_tried_once() {
        for kind in [
            ErrorKind::FixConfig,
            ErrorKind::NotFound,
            ErrorKind::DataDamaged,
            ErrorKind::Unsupported,
            ErrorKind::TooLarge,
            ErrorKind::Bug,
        ] {
            let (result, _) = run(0, |_| Err(Setback::new(kind, "no")));
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.attempts), (kind, 1));
        }
    }
}
