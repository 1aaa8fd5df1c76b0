//! A request budget for one bucket, shared by everything in the process that uses it (R62, R64).
//!
//! Providers slow down or refuse who asks too often, and count a bucket's requests, not a database's. So requests are
//! spaced before they are sent, below what the provider is known to take. Those at the log's front, which release
//! acknowledgements, hardly ever wait for chores: listings, deletions, levels 1 to 9 and whatever a chore asks get what
//! the front leaves, at most a share of everything. Only one that has waited for long is sent in order with the others,
//! or a replica under constant load would never be compacted. Whoever is asked by the store to wait makes all wait.
//!
//! It never drops a request and never changes one. It has no thread: each request waits on its caller's.

use crate::location::Provider;
use litekeep_core::env::Clock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// How long a store that asks for less without saying how long is left alone.
const BREATH: Duration = Duration::from_millis(500);

/// A longer wait that the store asked for is an error at once: its caller has better things to decide than to hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// However long a store asks to be left alone: a quota may be raised, and somebody has to find out.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Of everything, chores get so many quarters.
const CHORES: u32 = 3;

/// How long a chore gives way to the front.
const GIVES_WAY: Duration = Duration::from_secs(10);

/// What a bucket is asked at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    /// `PUT` and `POST`, per second.
    pub(crate) puts: u32,
    /// Requests of every kind, per second.
    pub(crate) requests: u32,
}

impl Rates {
    /// Well below the 150 `PUT`s and 250 requests a second from which DigitalOcean Spaces answers 503.
    pub(crate) const CAREFUL: Self = Self { puts: 80, requests: 160 };
    /// For those who publish limits in the thousands.
    pub(crate) const AMPLE: Self = Self { puts: 1000, requests: 2000 };

    /// What this provider is asked at most; `None` for a store on this machine or in a private network, which has one
    /// user and no meter.
    pub(crate) const fn of(provider: Provider, private: bool) -> Option<Self> {
        match provider {
            Provider::Other if private => None,
            Provider::Aws | Provider::Google | Provider::R2 | Provider::Tigris => Some(Self::AMPLE),
            _ => Some(Self::CAREFUL),
        }
    }
}

/// What a request is, for the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// It writes.
    pub(crate) put: bool,
    /// Acknowledgements wait for it: a slot or an epoch's record.
    pub(crate) front: bool,
}

/// When the next request of a kind may go: one every so often, and a few ahead of that after a rest.
#[derive(Debug)]
struct Lane {
    every: Duration,
    /// How far ahead of the even pace one may be.
    slack: Duration,
    /// When the next one would go at an even pace.
    next: Duration,
}

impl Lane {
    /// So many a second, and after a rest a fifth of a second's worth at once.
    fn new(rate: u32) -> Self {
        let every = Duration::from_secs(1) / rate.max(1);
        Self { every, slack: Duration::from_millis(200).max(every), next: Duration::ZERO }
    }

    /// Takes the next place; returns how long it is until then.
    fn take(&mut self, now: Duration) -> Duration {
        let even = self.next.max(now);
        self.next = even + self.every;
        even.saturating_sub(now + self.slack - self.every)
    }

    /// How long it is until nobody would be ahead of the even pace.
    fn until_even(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }
}

#[derive(Debug)]
struct Lanes {
    puts: Lane,
    requests: Lane,
    chore_puts: Lane,
    chores: Lane,
}

impl Lanes {
    /// Takes the next place among all; returns how long it is until then.
    fn take(&mut self, kind: Kind, now: Duration) -> Duration {
        let puts = if kind.put { self.puts.take(now) } else { Duration::ZERO };
        self.requests.take(now).max(puts)
    }

    /// Takes the next place among chores.
    fn take_chore(&mut self, kind: Kind, now: Duration) -> Duration {
        let puts = if kind.put { self.chore_puts.take(now) } else { Duration::ZERO };
        self.chores.take(now).max(puts)
    }

    /// How long it is until the front leaves something. What it may send ahead after a rest is left to it.
    fn until_left(&self, kind: Kind, now: Duration) -> Duration {
        let puts = if kind.put { self.puts.until_even(now) } else { Duration::ZERO };
        self.requests.until_even(now).max(puts)
    }
}

#[derive(Debug, Default)]
struct State {
    lanes: Option<Lanes>,
    /// The store asked to be left alone until then.
    until: Duration,
    /// How it said so.
    said: String,
}

/// A request that was not sent, because the store asked for a longer rest than anybody waits for here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftAlone {
    /// How long it is until then.
    pub(crate) left: Duration,
    /// How the store said so, perhaps to somebody else.
    pub(crate) said: String,
}

/// See the module's text.
pub(crate) struct Budget {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Budget {
    /// `None` paces nothing; whatever the store asks for is honoured all the same.
    pub(crate) fn new(rates: Option<Rates>, clock: Arc<dyn Clock>) -> Self {
        let lanes = rates.map(|rates| Lanes {
            puts: Lane::new(rates.puts),
            requests: Lane::new(rates.requests),
            chore_puts: Lane::new(rates.puts * CHORES / 4),
            chores: Lane::new(rates.requests * CHORES / 4),
        });
        Self { clock, state: Mutex::new(State { lanes, ..State::default() }) }
    }

    /// The budget of a bucket: the same one for all who are there at the same time.
    pub(crate) fn shared(bucket: &str, rates: Option<Rates>, clock: &Arc<dyn Clock>) -> Arc<Self> {
        // By bucket and for the whole process, because that is how providers count. It is the one thing that stores
        // share; none of them is told more by it than when to send.
        static BUDGETS: OnceLock<Mutex<BTreeMap<String, Weak<Budget>>>> = OnceLock::new();
        let mut budgets = BUDGETS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        budgets.retain(|_, budget| budget.strong_count() > 0);
        if let Some(known) = budgets.get(bucket).and_then(Weak::upgrade) {
            return known;
        }
        let budget = Arc::new(Self::new(rates, Arc::clone(clock)));
        budgets.insert(bucket.to_owned(), Arc::downgrade(&budget));
        budget
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request may go.
    ///
    /// # Errors
    /// The store asked to be left alone for longer than anybody waits here.
    pub(crate) fn admit(&self, kind: Kind) -> Result<(), LeftAlone> {
        let until = self.clock.boot() + PATIENCE;
        loop {
            self.left_alone(until)?;
            if kind.front {
                self.pause(|lanes, now| lanes.take(kind, now));
            } else {
                self.pause(|lanes, now| lanes.take_chore(kind, now));
                self.give_way(kind);
            }
            // Somebody may have been told meanwhile; and who has rested with others does not go at once with all of them.
            if self.state().until <= self.clock.boot() {
                return Ok(());
            }
        }
    }

    /// Waits until the front leaves a place for a chore, and takes it.
    fn give_way(&self, kind: Kind) {
        let until = self.clock.boot() + GIVES_WAY;
        let mut taken = false;
        while !taken {
            self.pause(|lanes, now| {
                let wait = lanes.until_left(kind, now);
                taken = wait.is_zero() || now >= until;
                if taken { lanes.take(kind, now) } else { wait }
            });
            taken |= self.state().lanes.is_none();
        }
    }

    fn pause(&self, take: impl FnOnce(&mut Lanes, Duration) -> Duration) {
        let now = self.clock.boot();
        let wait = self.state().lanes.as_mut().map_or(Duration::ZERO, |lanes| take(lanes, now));
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }

    /// Waits for as long as the store asked for, and until then at most; it may ask for more meanwhile.
    fn left_alone(&self, until: Duration) -> Result<(), LeftAlone> {
        loop {
            let now = self.clock.boot();
            let state = self.state();
            let left = state.until.saturating_sub(now);
            if !left.is_zero() && now + left > until {
                return Err(LeftAlone { left, said: state.said.clone() });
            }
            drop(state);
            if left.is_zero() {
                return Ok(());
            }
            self.clock.sleep(left);
        }
    }

    /// The store asked for less in these words, perhaps with a time.
    pub(crate) fn asked_for_less(&self, after: Option<Duration>, said: String) {
        let until = self.clock.boot().saturating_add(after.unwrap_or(BREATH).min(LONGEST));
        let mut state = self.state();
        if until >= state.until {
            (state.until, state.said) = (until, said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::TimestampMs;
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Passes when somebody sleeps.
    #[derive(Default)]
    struct Passing(Mutex<Duration>);

    impl Clock for Passing {
        fn wall(&self) -> TimestampMs {
            TimestampMs(0)
        }
        fn boot(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    /// Passes when all of so many callers sleep, to when the first of them wakes up.
    struct Together(Mutex<Sleepers>, Condvar);

    struct Sleepers {
        now: Duration,
        due: Vec<Duration>,
        callers: usize,
    }

    impl Together {
        fn of(callers: usize) -> Arc<Self> {
            let sleepers = Sleepers { now: Duration::ZERO, due: Vec::new(), callers };
            Arc::new(Self(Mutex::new(sleepers), Condvar::new()))
        }

        fn leave(&self) {
            self.0.lock().unwrap().callers -= 1;
            self.1.notify_all();
        }
    }

    impl Clock for Together {
        fn wall(&self) -> TimestampMs {
            TimestampMs(0)
        }
        fn boot(&self) -> Duration {
            self.0.lock().unwrap().now
        }
        fn sleep(&self, time: Duration) {
            let mut state = self.0.lock().unwrap();
            let due = state.now + time;
            state.due.push(due);
            loop {
                let first = state.due.iter().copied().min().unwrap();
                if state.due.len() == state.callers && first > state.now {
                    state.now = first;
                    self.1.notify_all();
                }
                if state.now >= due {
                    let at = state.due.iter().position(|it| *it == due).unwrap();
                    state.due.swap_remove(at);
                    return;
                }
                state = self.1.wait(state).unwrap();
            }
        }
    }

    const SLOT: Kind = Kind { put: true, front: true };
    const LIST: Kind = Kind { put: false, front: false };
    const MERGED: Kind = Kind { put: true, front: false };

    fn budget(rates: Option<Rates>) -> (Arc<Passing>, Budget) {
        let clock = Arc::new(Passing::default());
        (Arc::clone(&clock), Budget::new(rates, clock))
    }

    /// When each of these was sent, one after the other without a pause.
    fn sent(clock: &Passing, budget: &Budget, kind: Kind, count: usize) -> Vec<Duration> {
        (0..count)
            .map(|_| {
                budget.admit(kind).unwrap();
                clock.boot()
            })
            .collect()
    }

    /// The most that were sent within any second.
    fn most(times: &[Duration]) -> usize {
        let within = |from: Duration| {
            times.iter().filter(|at| (from..from + Duration::from_secs(1)).contains(*at)).count()
        };
        times.iter().map(|at| within(*at)).max().unwrap_or(0)
    }

    #[test]
    fn r64_no_second_holds_more_than_spaces_takes_and_chores_leave_room_for_the_front() {
        for (kind, limit, least) in [(SLOT, 100, 78), (LIST, 160, 118), (MERGED, 80, 58)] {
            let (clock, budget) = budget(Some(Rates::CAREFUL));
            let times = sent(&clock, &budget, kind, 1000);
            assert!(most(&times) <= limit, "{kind:?}: {} in a second", most(&times));
            let rate = 1000.0 / times.last().unwrap().as_secs_f64();
            assert!(rate >= f64::from(least), "{kind:?}: {rate} a second");
        }
    }

    #[test]
    fn a_put_that_releases_acknowledgements_does_not_wait_behind_chores() {
        let (clock, budget) = budget(Some(Rates::CAREFUL));
        for _ in 0..20 {
            sent(&clock, &budget, MERGED, 20);
            let before = clock.boot();
            budget.admit(SLOT).unwrap();
            assert_eq!(clock.boot(), before);
        }
    }

    #[test]
    fn however_many_chores_there_are_the_front_gets_what_it_asks_for_and_chores_the_rest() {
        let (fronts, chores) = (4, 12);
        // (what the front pauses after each slot, what it takes for a hundred slots of each of its callers; ms)
        for (pause, limit) in [(0, 5_100), (100, 10_500)] {
            let clock = Together::of(fronts + chores);
            let budget = Budget::new(Some(Rates::CAREFUL), Arc::clone(&clock) as Arc<dyn Clock>);
            let ended = AtomicUsize::new(0);
            let (took, merged) = std::thread::scope(|scope| {
                let front = |_| {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            budget.admit(SLOT).unwrap();
                            clock.sleep(Duration::from_millis(pause));
                        }
                        ended.fetch_add(1, Ordering::SeqCst);
                        let now = clock.boot();
                        clock.leave();
                        now
                    })
                };
                let chore = |_| {
                    scope.spawn(|| {
                        let mut count = 0;
                        while ended.load(Ordering::SeqCst) < fronts {
                            budget.admit(MERGED).unwrap();
                            count += 1;
                        }
                        clock.leave();
                        count
                    })
                };
                let front: Vec<_> = (0..fronts).map(front).collect();
                let chore: Vec<_> = (0..chores).map(chore).collect();
                let took = front.into_iter().map(|it| it.join().unwrap()).max().unwrap();
                (took, chore.into_iter().map(|it| it.join().unwrap()).sum::<usize>())
            });
            assert!(took <= Duration::from_millis(limit), "{pause}: {took:?}, {merged} chores");
            assert!(pause == 0 || merged > 300, "{pause}: {merged} chores in {took:?}");
        }
    }

    #[test]
    fn a_chore_does_not_wait_for_a_front_that_never_rests() {
        let clock = Together::of(2);
        let budget = Budget::new(Some(Rates::CAREFUL), Arc::clone(&clock) as Arc<dyn Clock>);
        let ended = AtomicUsize::new(0);
        let after = std::thread::scope(|scope| {
            scope.spawn(|| {
                while ended.load(Ordering::SeqCst) == 0 {
                    budget.admit(SLOT).unwrap();
                }
                clock.leave();
            });
            let chore = scope.spawn(|| {
                (0..3).for_each(|_| budget.admit(MERGED).unwrap());
                ended.fetch_add(1, Ordering::SeqCst);
                let now = clock.boot();
                clock.leave();
                now
            });
            chore.join().unwrap()
        });
        assert!(after <= 3 * GIVES_WAY + Duration::from_secs(1), "{after:?}");
    }

    #[test]
    fn a_slow_trickle_never_waits() {
        let (clock, budget) = budget(Some(Rates::CAREFUL));
        for _ in 0..100 {
            let before = clock.boot();
            budget.admit(MERGED).unwrap();
            assert_eq!(clock.boot(), before);
            clock.sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn r64_what_the_store_asks_of_one_holds_for_all() {
        for rates in [None, Some(Rates::CAREFUL)] {
            let (clock, budget) = budget(rates);
            budget.asked_for_less(Some(Duration::from_secs(7)), "seven".into());
            budget.asked_for_less(None, "a breath".into());
            budget.admit(SLOT).unwrap();
            assert_eq!(clock.boot(), Duration::from_secs(7));
            let refused = |left, said: &str| Err(LeftAlone { left, said: said.into() });
            budget.asked_for_less(Some(PATIENCE + Duration::from_secs(1)), "long".into());
            budget.asked_for_less(Some(PATIENCE), "shorter".into());
            assert_eq!(budget.admit(LIST), refused(PATIENCE + Duration::from_secs(1), "long"));
            assert_eq!(clock.boot(), Duration::from_secs(7), "nobody hangs");
            budget.asked_for_less(Some(Duration::from_secs(86_400)), "a day".into());
            assert_eq!(budget.admit(LIST), refused(LONGEST, "a day"));
        }
    }

    #[test]
    fn r64_who_rests_already_hears_of_a_longer_rest_and_all_go_on_one_after_the_other() {
        const CALLERS: usize = 120;
        let clock = Together::of(CALLERS + 1);
        let budget = Budget::new(Some(Rates::CAREFUL), Arc::clone(&clock) as Arc<dyn Clock>);
        budget.asked_for_less(Some(Duration::from_secs(1)), "one".into());
        let mut times = std::thread::scope(|scope| {
            let caller = |_| {
                scope.spawn(|| {
                    budget.admit(SLOT).unwrap();
                    let now = clock.boot();
                    clock.leave();
                    now
                })
            };
            let callers: Vec<_> = (0..CALLERS).map(caller).collect();
            clock.sleep(Duration::from_millis(500));
            budget.asked_for_less(Some(Duration::from_secs(3)), "three".into());
            clock.leave();
            callers.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        });
        times.sort();
        assert!(times[0] >= Duration::from_millis(3_500), "{:?}", times[0]);
        assert!(most(&times) <= 100, "{} in a second", most(&times));
    }

    /// Passes when somebody sleeps, and each time the store asks for more.
    #[derive(Default)]
    struct Asking(Passing, OnceLock<Weak<Budget>>);

    impl Clock for Asking {
        fn wall(&self) -> TimestampMs {
            self.0.wall()
        }
        fn boot(&self) -> Duration {
            self.0.boot()
        }
        fn sleep(&self, time: Duration) {
            self.0.sleep(time);
            let budget = self.1.get().and_then(Weak::upgrade).unwrap();
            budget.asked_for_less(Some(Duration::from_secs(20)), "and again".into());
        }
    }

    #[test]
    fn a_store_that_asks_for_more_again_and_again_keeps_nobody_for_longer_than_anybody_waits() {
        let clock = Arc::new(Asking::default());
        let budget = Arc::new(Budget::new(Some(Rates::CAREFUL), Arc::clone(&clock) as Arc<dyn Clock>));
        clock.1.set(Arc::downgrade(&budget)).unwrap();
        budget.asked_for_less(Some(Duration::from_secs(20)), "first".into());
        assert_eq!(budget.admit(SLOT).unwrap_err().said, "and again");
        assert!(clock.boot() <= PATIENCE, "{:?}", clock.boot());
    }

    #[test]
    fn a_bucket_has_one_budget_as_long_as_somebody_uses_it() {
        let clock: Arc<dyn Clock> = Arc::new(Passing::default());
        let of = |bucket| Budget::shared(bucket, None, &clock);
        let first = of("http://budget.test/one");
        assert!(Arc::ptr_eq(&first, &of("http://budget.test/one")));
        assert!(!Arc::ptr_eq(&first, &of("http://budget.test/two")));
        first.asked_for_less(Some(Duration::from_secs(9)), String::new());
        drop(first);
        assert_eq!(of("http://budget.test/one").state().until, Duration::ZERO);
    }
}
