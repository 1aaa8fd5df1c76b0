//! Whose turn it is: a plain value, without threads and clocks.
//!
//! A database is in one place at a time: not begun, ready, under a worker's hands, or waiting for its time. Who is ready
//! gets its turn in order. At most [`OPENING`] are on their way from nothing to replicating, so that a process with many
//! databases does not open them all at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How many databases are opened at once.
pub(super) const OPENING: usize = 10;

/// A database's number in its driver.
pub(super) type Id = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Too many others are being opened.
    Unbegun,
    Ready,
    Waiting(Duration),
    /// A worker has it; `again` if something came for it meanwhile.
    Held {
        again: bool,
    },
}

#[derive(Debug)]
struct Seat {
    place: Place,
    /// It counts among those that are being opened.
    opening: bool,
}

/// See the module's text. Times are those of one clock.
#[derive(Debug, Default)]
pub(super) struct Queue {
    seats: BTreeMap<Id, Seat>,
    ready: VecDeque<Id>,
    waiting: BTreeSet<(Duration, Id)>,
    unbegun: VecDeque<Id>,
    opening: usize,
}

impl Queue {
    /// Takes a database in; it begins once there is room.
    pub(super) fn add(&mut self, id: Id) {
        self.seats.insert(id, Seat { place: Place::Unbegun, opening: false });
        self.unbegun.push_back(id);
        self.begin();
    }

    /// Lets as many begin as there is room for.
    fn begin(&mut self) {
        while self.opening < OPENING {
            let Some(id) = self.unbegun.pop_front() else { return };
            self.begin_one(id);
        }
    }

    fn begin_one(&mut self, id: Id) {
        if let Some(seat) = self.seats.get_mut(&id)
            && seat.place == Place::Unbegun
        {
            (seat.place, seat.opening) = (Place::Ready, true);
            self.opening += 1;
            self.ready.push_back(id);
        }
    }

    /// Something came for it: its turn is next in order. One that has not begun finds it when it does.
    pub(super) fn poke(&mut self, id: Id) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        match &mut seat.place {
            Place::Unbegun | Place::Ready => {}
            Place::Held { again } => *again = true,
            Place::Waiting(due) => {
                self.waiting.remove(&(*due, id));
                seat.place = Place::Ready;
                self.ready.push_back(id);
            }
        }
    }

    /// It is to end: that waits for nobody.
    pub(super) fn hurry(&mut self, id: Id) {
        self.begin_one(id);
        self.poke(id);
    }

    /// The next one to be worked on.
    pub(super) fn take(&mut self, now: Duration) -> Option<Id> {
        while let Some((due, id)) = self.waiting.first().copied().filter(|(due, _)| *due <= now) {
            self.waiting.remove(&(due, id));
            if let Some(seat) = self.seats.get_mut(&id) {
                seat.place = Place::Ready;
                self.ready.push_back(id);
            }
        }
        let id = loop {
            let id = self.ready.pop_front()?;
            if self.seats.contains_key(&id) {
                break id;
            }
        };
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.place = Place::Held { again: false };
        }
        Some(id)
    }

    /// A worker gives it back: it is due then, and still being opened or not.
    pub(super) fn give_back(&mut self, id: Id, due: Duration, opening: bool) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if seat.place == (Place::Held { again: true }) {
            seat.place = Place::Ready;
            self.ready.push_back(id);
        } else {
            seat.place = Place::Waiting(due);
            self.waiting.insert((due, id));
        }
        if seat.opening && !opening {
            seat.opening = false;
            self.opening -= 1;
            self.begin();
        }
    }

    /// It has ended.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(seat) = self.seats.remove(&id) else { return };
        if let Place::Waiting(due) = seat.place {
            self.waiting.remove(&(due, id));
        }
        if seat.opening {
            self.opening -= 1;
            self.begin();
        }
    }

    /// When somebody is to be worked on next; `None` if nobody ever.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if self.ready.is_empty() { self.waiting.first().map(|(due, _)| *due) } else { Some(Duration::ZERO) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Takes all that are due, in order.
    fn turns(queue: &mut Queue, now: u64) -> Vec<Id> {
        std::iter::from_fn(|| queue.take(at(now))).collect()
    }

    fn of(ids: impl IntoIterator<Item = Id>) -> Queue {
        let mut queue = Queue::default();
        ids.into_iter().for_each(|id| queue.add(id));
        queue
    }

    #[test]
    fn who_is_due_gets_its_turn_in_order_and_a_busy_one_goes_to_the_end() {
        let mut queue = of([1, 2, 3]);
        assert_eq!(queue.take(at(0)), Some(1));
        queue.give_back(1, at(0), false);
        assert_eq!(turns(&mut queue, 0), [2, 3, 1], "one that is always due does not push in");
        queue.give_back(3, at(5), false);
        queue.give_back(2, at(7), false);
        queue.give_back(1, at(9), false);
        assert_eq!(queue.next_due(), Some(at(5)));
        assert_eq!(turns(&mut queue, 4), [0; 0]);
        assert_eq!(turns(&mut queue, 8), [3, 2]);
        assert_eq!(queue.next_due(), Some(at(9)));
    }

    #[test]
    fn what_comes_while_a_worker_has_it_is_not_lost() {
        let mut queue = of([1]);
        assert_eq!(queue.take(at(0)), Some(1));
        queue.poke(1);
        assert_eq!(queue.take(at(0)), None, "never two workers on one database");
        queue.give_back(1, at(60_000), false);
        assert_eq!(turns(&mut queue, 0), [1]);
        queue.give_back(1, at(60_000), false);
        assert_eq!(turns(&mut queue, 0), [0; 0]);
        queue.poke(1);
        queue.poke(1);
        assert_eq!(turns(&mut queue, 0), [1], "two pokes are one turn");
    }

    #[test]
    fn r69_at_most_ten_are_opened_at_once_and_all_of_them_in_the_end() {
        let mut queue = of(0..383);
        let mut steps = BTreeMap::<Id, u32>::new();
        while steps.len() < 383 || !queue.unbegun.is_empty() || queue.opening > 0 {
            let now = turns(&mut queue, 0);
            assert!(now.len() <= OPENING && !now.is_empty(), "{now:?}");
            for id in now {
                // Some take a second step to open.
                let count = steps.entry(id).or_default();
                *count += 1;
                let opening = id % 3 == 0 && *count == 1;
                queue.give_back(id, if opening { at(0) } else { at(60_000) }, opening);
            }
        }
        assert_eq!((queue.opening, queue.waiting.len(), queue.unbegun.len()), (0, 383, 0));
    }

    #[test]
    fn one_that_is_to_end_waits_for_no_room_and_leaves_none_taken() {
        let mut queue = of(0..20);
        assert_eq!(turns(&mut queue, 0).len(), OPENING);
        queue.hurry(15);
        assert_eq!(turns(&mut queue, 0), [15]);
        queue.remove(15);
        queue.remove(12);
        for id in 0..10 {
            queue.remove(id);
        }
        assert_eq!(turns(&mut queue, 0), [10, 11, 13, 14, 16, 17, 18, 19]);
        for id in 10..20 {
            queue.remove(id);
        }
        assert_eq!((queue.opening, queue.next_due()), (0, None));
    }
}
