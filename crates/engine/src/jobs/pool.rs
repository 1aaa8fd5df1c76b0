//! A bounded pool of threads for the jobs of many databases.
//!
//! Threads come with the work, up to a limit, and go when there has been none for a while. Whose replicas lie in one
//! place share a [`Lane`]; lanes are served in turn, and each leaves room for others, so that a place which does not
//! answer keeps only its own jobs waiting. Within a lane jobs run in the order in which they came. Long jobs and chores
//! have limits of their own, or the snapshots of a few large databases would keep every other one's slots waiting. It
//! never runs more than its limits say, whatever is asked for.

use super::{Job, JobKind, Spawner};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many jobs run at once: each is mostly a request that waits for its answer.
pub(super) const THREADS: usize = 32;

/// How many of them may be long.
pub(super) const LONG: usize = 8;

/// How many may be chores, which nobody waits for.
pub(super) const CHORES: usize = 4;

/// After so many short jobs of a lane comes one that is to come last: a stream of puts may never end.
const TURNS: usize = 8;

/// How long a thread waits for work before it goes.
const REST: Duration = Duration::from_secs(2);

/// See the module's text. Dropping it and its lanes lets what was asked for be done.
pub struct Pool {
    shared: Arc<Shared>,
}

/// The pool for those whose replicas lie in one place.
struct Lane {
    pool: Arc<Pool>,
    place: String,
}

struct Shared {
    work: Mutex<Work>,
    arrived: Condvar,
}

#[derive(Default)]
struct Work {
    /// Whose turn is next comes first. None for a place without jobs.
    places: VecDeque<Place>,
    threads: usize,
    idle: usize,
    closing: bool,
}

/// So many of each kind, by [`JobKind`].
type Counts = [usize; 4];

#[derive(Default)]
struct Place {
    name: String,
    waiting: [VecDeque<Job>; 4],
    running: Counts,
    /// Short jobs since one that is to come last.
    short: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { work: Mutex::default(), arrived: Condvar::new() }) }
    }
}

impl Pool {
    /// The pool for the jobs of those whose replicas lie in `place`: the same bucket, say.
    pub fn lane(self: &Arc<Self>, place: &str) -> Arc<dyn Spawner> {
        Arc::new(Lane { pool: Arc::clone(self), place: place.to_owned() })
    }

    fn push(&self, place: &str, name: &str, kind: JobKind, job: Job) {
        let mut work = self.shared.work();
        work.place(place).waiting[kind as usize].push_back(job);
        if !work.any() {
            // Whoever makes room takes it.
            return;
        }
        if work.idle >= work.waiting() || work.threads == THREADS {
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
                let lost = std::mem::take(&mut work.places);
                drop(work);
                drop(lost);
            }
        }
    }
}

impl Spawner for Pool {
    fn spawn(&self, name: &str, job: Job) {
        self.spawn_as(JobKind::Short, name, job);
    }

    fn spawn_as(&self, kind: JobKind, name: &str, job: Job) {
        self.push("", name, kind, job);
    }
}

impl Spawner for Lane {
    fn spawn(&self, name: &str, job: Job) {
        self.spawn_as(JobKind::Short, name, job);
    }

    fn spawn_as(&self, kind: JobKind, name: &str, job: Job) {
        self.pool.push(&self.place, name, kind, job);
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
            if let Some((place, kind, job)) = work.take() {
                drop(work);
                // A job that panics has reported its loss on the way; the thread is good for the next.
                let _ = catch_unwind(AssertUnwindSafe(job));
                work = self.work();
                work.ended(&place, kind);
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
    fn place(&mut self, name: &str) -> &mut Place {
        let known = self.places.iter().position(|place| place.name == name);
        let at = known.unwrap_or_else(|| {
            self.places.push_back(Place { name: name.to_owned(), ..Place::default() });
            self.places.len() - 1
        });
        &mut self.places[at]
    }

    fn waiting(&self) -> usize {
        self.places.iter().flat_map(|place| &place.waiting).map(VecDeque::len).sum()
    }

    fn running(&self) -> Counts {
        let mut all = Counts::default();
        for place in &self.places {
            all.iter_mut().zip(place.running).for_each(|(all, running)| *all += running);
        }
        all
    }

    /// Whether a job may begin now.
    fn any(&self) -> bool {
        let all = self.running();
        self.places.iter().any(|place| place.next(&all).is_some())
    }

    /// The next job, with its place and kind.
    fn take(&mut self) -> Option<(String, JobKind, Job)> {
        let all = self.running();
        let at = self.places.iter().position(|place| place.next(&all).is_some())?;
        let mut place = self.places.remove(at)?;
        let taken = place.take(&all).map(|(kind, job)| (place.name.clone(), kind, job));
        self.places.push_back(place);
        taken
    }

    fn ended(&mut self, name: &str, kind: JobKind) {
        let Some(at) = self.places.iter().position(|place| place.name == name) else { return };
        let place = &mut self.places[at];
        place.running[kind as usize] -= 1;
        if place.running == Counts::default() && place.waiting.iter().all(VecDeque::is_empty) {
            self.places.remove(at);
        }
    }
}

impl Place {
    /// What it may begin now. The long ones go first, being few: a stream of short ones never ends.
    fn next(&self, all: &Counts) -> Option<JobKind> {
        use JobKind::{Chore, Last, Long, Short};
        if !leaves_room(self.running.iter().sum(), all.iter().sum(), THREADS) {
            return None;
        }
        let order = if self.short < TURNS { [Long, Chore, Short, Last] } else { [Long, Chore, Last, Short] };
        order.into_iter().find(|kind| {
            let (ours, all) = (self.running[*kind as usize], all[*kind as usize]);
            let allowed = match kind {
                Long => leaves_room(ours, all, LONG),
                Chore => leaves_room(ours, all, CHORES),
                Short | Last => true,
            };
            allowed && !self.waiting[*kind as usize].is_empty()
        })
    }

    fn take(&mut self, all: &Counts) -> Option<(JobKind, Job)> {
        let kind = self.next(all)?;
        let job = self.waiting[kind as usize].pop_front()?;
        self.running[kind as usize] += 1;
        match kind {
            JobKind::Short => self.short += 1,
            JobKind::Last => self.short = 0,
            JobKind::Long | JobKind::Chore => {}
        }
        Some((kind, job))
    }
}

/// Whether one more of a place's jobs leaves room for other places: it has at most twice as many as are free. One
/// alone gets two thirds; a second one two thirds of what is left, and so on.
fn leaves_room(ours: usize, all: usize, limit: usize) -> bool {
    ours < 2 * limit.saturating_sub(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    const LIMIT: Duration = Duration::from_secs(30);

    /// How many threads a place gets that has them to itself.
    const ALONE: usize = 22;

    /// Jobs that have begun and end when this is dropped.
    type Held = std::sync::mpsc::Sender<()>;

    /// Has so many jobs begun as may be, none of which ends; returns the ends of all.
    fn hold(spawner: &dyn Spawner, kind: JobKind, count: usize, begin: usize) -> Vec<Held> {
        let (began, beginnings) = channel();
        let ends = (0..count).map(|_| {
            let (end, ended) = channel::<()>();
            let began = began.clone();
            let job = move || {
                let _ = began.send(());
                let _ = ended.recv();
            };
            spawner.spawn_as(kind, "held", Box::new(job));
            end
        });
        let ends = ends.collect();
        (0..begin).for_each(|_| beginnings.recv_timeout(LIMIT).unwrap());
        ends
    }

    #[test]
    fn places_that_do_not_answer_keep_no_other_place_waiting() {
        let pool = Arc::new(Pool::default());
        let held: Vec<_> = [("bad", ALONE), ("worse", 7)]
            .map(|(place, begin)| hold(&*pool.lane(place), JobKind::Short, 1000, begin))
            .into();
        for kind in [JobKind::Short, JobKind::Long, JobKind::Chore, JobKind::Last] {
            let (done, all) = channel();
            pool.lane("good").spawn_as(kind, "good", Box::new(move || done.send(()).unwrap()));
            all.recv_timeout(LIMIT).expect("the job of another place runs");
        }
        drop(held);
    }

    #[test]
    fn chores_and_long_jobs_leave_room_for_each_other_and_for_other_places() {
        let pool = Arc::new(Pool::default());
        let bad = pool.lane("bad");
        let held = [hold(&*bad, JobKind::Chore, 100, 3), hold(&*bad, JobKind::Long, 100, 6)];
        for kind in [JobKind::Short, JobKind::Long, JobKind::Chore] {
            let (done, all) = channel();
            pool.lane("good").spawn_as(kind, "good", Box::new(move || done.send(()).unwrap()));
            all.recv_timeout(LIMIT).expect("the job of another place runs");
        }
        drop(held);
    }

    #[test]
    fn what_is_to_come_last_comes_behind_puts_that_were_asked_for_later_but_not_behind_all_for_ever() {
        let pool = Pool::default();
        let mut held = hold(&pool, JobKind::Short, ALONE, ALONE);
        let (done, all) = channel();
        for (kind, count) in [(JobKind::Last, 3), (JobKind::Short, 2 * TURNS)] {
            for _ in 0..count {
                let done = done.clone();
                pool.spawn_as(kind, "job", Box::new(move || done.send(kind).unwrap()));
            }
        }
        // The count of short ones begins anew with the first that comes last.
        pool.shared.work().place("").short = 0;
        drop(held.pop());
        let order: Vec<_> = (0..3 + 2 * TURNS).map(|_| all.recv_timeout(LIMIT).unwrap()).collect();
        let lasts = order.iter().enumerate().filter(|(_, kind)| **kind == JobKind::Last);
        let lasts: Vec<_> = lasts.map(|(at, _)| at).collect();
        assert_eq!(lasts, [TURNS, 2 * TURNS + 1, 2 * TURNS + 2], "{order:?}");
    }

    #[test]
    fn a_thousand_jobs_run_on_a_bounded_number_of_threads() {
        let pool = Pool::default();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (done, all) = channel();
        // The first ones wait for each other, so that every thread a place may have is there.
        let together = Arc::new(Barrier::new(ALONE));
        for n in 0..1000 {
            let (now, most, done, together) =
                (Arc::clone(&now), Arc::clone(&most), done.clone(), Arc::clone(&together));
            let job = move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if n < ALONE {
                    together.wait();
                }
                now.fetch_sub(1, Ordering::SeqCst);
                done.send(()).unwrap();
            };
            pool.spawn("job", Box::new(job));
        }
        (0..1000).for_each(|_| all.recv_timeout(LIMIT).unwrap());
        assert_eq!(most.load(Ordering::SeqCst), ALONE);
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
            pool.spawn_as(JobKind::Long, "long", Box::new(job));
            ends.push(end);
        }
        let (done, all) = channel();
        pool.spawn("short", Box::new(move || done.send(()).unwrap()));
        all.recv_timeout(LIMIT).unwrap();
        assert!(beginnings.try_iter().count() <= LONG);
        // Each that ends makes room for the next, in order.
        for (n, end) in ends.into_iter().enumerate() {
            drop(end);
            if n + 6 < THREADS {
                assert!(beginnings.recv_timeout(LIMIT).unwrap() < THREADS);
            }
        }
    }

    #[test]
    fn a_job_that_panics_costs_no_thread_and_no_turn() {
        let pool = Pool::default();
        let (done, all) = channel();
        for _ in 0..LONG + THREADS {
            pool.spawn_as(JobKind::Long, "bad", Box::new(|| panic!("on purpose")));
        }
        pool.spawn_as(JobKind::Long, "good", Box::new(move || done.send(()).unwrap()));
        all.recv_timeout(LIMIT).unwrap();
        assert!(pool.shared.work().threads <= THREADS);
    }
}
