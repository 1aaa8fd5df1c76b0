//! A bounded pool of threads for the jobs of many databases.
//!
//! Threads come with the work, up to a limit, and go when there has been none for a while. Jobs run in the order in
//! which they came; a database has one put under way at a time, so none gets more than its turn. Long jobs have a limit
//! of their own, or the snapshots of a few large databases would keep every other one's slots waiting. It never runs
//! more than its limits say, whatever is asked for.

use super::{Job, Spawner};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many jobs run at once: each is mostly a request that waits for its answer.
pub(super) const THREADS: usize = 32;

/// How many of them may be long.
pub(super) const LONG: usize = 8;

/// How long a thread waits for work before it goes.
const REST: Duration = Duration::from_secs(2);

/// See the module's text. Dropping it lets what was asked for be done.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    work: Mutex<Work>,
    arrived: Condvar,
}

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    long: VecDeque<Job>,
    running_long: usize,
    threads: usize,
    idle: usize,
    closing: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { work: Mutex::default(), arrived: Condvar::new() }) }
    }
}

impl Pool {
    fn push(&self, name: &str, job: Job, long: bool) {
        let mut work = self.shared.work();
        if long {
            work.long.push_back(job)
        } else {
            work.jobs.push_back(job)
        }
        let waiting = work.jobs.len() + work.long.len();
        if work.idle >= waiting || work.threads == THREADS {
            self.shared.arrived.notify_one();
            return;
        }
        work.threads += 1;
        drop(work);
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new().name("job".to_owned()).spawn(move || shared.run());
        if let Err(error) = started {
            tracing::error!(%error, job = name, "cannot start a thread");
            let mut work = self.shared.work();
            work.threads -= 1;
            if work.threads == 0 {
                // Nobody would ever come for them; each reports its loss as it is dropped (`Reporter`).
                let lost = (std::mem::take(&mut work.jobs), std::mem::take(&mut work.long));
                drop(work);
                drop(lost);
            }
        }
    }
}

impl Spawner for Pool {
    fn spawn(&self, name: &str, job: Job) {
        self.push(name, job, false);
    }

    fn spawn_long(&self, name: &str, job: Job) {
        self.push(name, job, true);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.work().closing = true;
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut work = self.work();
        loop {
            if let Some((job, long)) = work.take() {
                drop(work);
                // A job that panics has reported its loss on the way; the thread is good for the next.
                let _ = catch_unwind(AssertUnwindSafe(job));
                work = self.work();
                work.running_long -= usize::from(long);
                continue;
            }
            if work.closing {
                break;
            }
            work.idle += 1;
            let (woken, rested) =
                self.arrived.wait_timeout(work, REST).unwrap_or_else(PoisonError::into_inner);
            work = woken;
            work.idle -= 1;
            if rested.timed_out() && !work.any() {
                break;
            }
        }
        work.threads -= 1;
    }
}

impl Work {
    fn any(&self) -> bool {
        !self.jobs.is_empty() || (!self.long.is_empty() && self.running_long < LONG)
    }

    /// The next job, and whether it is a long one. Those go first, being few: a stream of short ones never ends.
    fn take(&mut self) -> Option<(Job, bool)> {
        if self.running_long < LONG
            && let Some(job) = self.long.pop_front()
        {
            self.running_long += 1;
            return Some((job, true));
        }
        Some((self.jobs.pop_front()?, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn a_thousand_jobs_run_on_a_bounded_number_of_threads() {
        let pool = Pool::default();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (done, all) = channel();
        // The first ones wait for each other, so that every thread there may be is there.
        let together = Arc::new(Barrier::new(THREADS));
        for n in 0..1000 {
            let (now, most, done, together) =
                (Arc::clone(&now), Arc::clone(&most), done.clone(), Arc::clone(&together));
            let job = move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if n < THREADS {
                    together.wait();
                }
                now.fetch_sub(1, Ordering::SeqCst);
                done.send(()).unwrap();
            };
            pool.spawn("job", Box::new(job));
        }
        (0..1000).for_each(|_| all.recv_timeout(LIMIT).unwrap());
        assert_eq!(most.load(Ordering::SeqCst), THREADS);
    }

    #[test]
    fn long_jobs_leave_room_for_the_others() {
        let pool = Pool::default();
        let (began, beginnings) = channel();
        let mut ends = Vec::new();
        for n in 0..THREADS {
            let (end, ended) = channel::<()>();
            let began = began.clone();
            let job = move || {
                began.send(n).unwrap();
                let _ = ended.recv();
            };
            pool.spawn_long("long", Box::new(job));
            ends.push(end);
        }
        let (done, all) = channel();
        pool.spawn("short", Box::new(move || done.send(()).unwrap()));
        all.recv_timeout(LIMIT).unwrap();
        assert!(beginnings.try_iter().count() <= LONG);
        // Each that ends makes room for the next, in order.
        for (n, end) in ends.into_iter().enumerate() {
            drop(end);
            if n + LONG < THREADS {
                assert!(beginnings.recv_timeout(LIMIT).unwrap() < THREADS);
            }
        }
    }

    #[test]
    fn a_job_that_panics_costs_no_thread_and_no_turn() {
        let pool = Pool::default();
        let (done, all) = channel();
        for _ in 0..LONG + THREADS {
            pool.spawn_long("bad", Box::new(|| panic!("on purpose")));
        }
        pool.spawn_long("good", Box::new(move || done.send(()).unwrap()));
        all.recv_timeout(LIMIT).unwrap();
        assert!(pool.shared.work().threads <= THREADS);
    }
}
