//! What waits for one client: bounded in events and bytes. Putting something in never waits; a queue that would be too
//! long is closed, and what was in it is freed at once, not when the client reads again.

use super::limits;
use bytes::Bytes;
use futures::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// An event; its parts are shared between the clients that get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The name.
    pub name: Arc<str>,
    /// JSON.
    pub data: Bytes,
}

/// The queue was too long, or is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; closes the queue if it does not fit.
    pub(super) fn push(&self, event: Event) -> Result<(), Refused> {
        let mut inner = self.inner();
        let bytes = event.name.len() + event.data.len();
        let too_many = inner.events.len() >= limits::WAITING_EVENTS;
        let too_long = !inner.events.is_empty() && inner.bytes + bytes > limits::WAITING_BYTES;
        if inner.closed || too_many || too_long {
            drop(inner);
            self.close();
            return Err(Refused);
        }
        inner.bytes += bytes;
        inner.events.push_back(event);
        drop(inner);
        self.reader.wake();
        Ok(())
    }

    /// Ends the queue; its reader gets nothing more.
    pub(super) fn close(&self) {
        *self.inner() = Inner { closed: true, ..Inner::default() };
        self.reader.wake();
    }

    /// The next event, for the one reader; `None` at the end.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        self.reader.register(context.waker()); // before looking: what is added after the look wakes
        let mut inner = self.inner();
        match inner.events.pop_front() {
            Some(event) => {
                inner.bytes -= event.name.len() + event.data.len();
                Poll::Ready(Some(event))
            }
            None if inner.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Event {
        Event { name: "".into(), data: Bytes::from(vec![b'x'; bytes]) }
    }

    fn read(queue: &Queue) -> Poll<Option<Event>> {
        queue.poll(&Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_queue_takes_what_it_may_and_is_closed_and_emptied_by_one_more() {
        let half = limits::WAITING_BYTES / 2;
        for (sizes, last) in [
            (vec![1; limits::WAITING_EVENTS], 1),
            (vec![half, half], 1),
            (vec![limits::WAITING_BYTES + 1], 0), // a single one may be longer, and then nothing fits beside it
        ] {
            let queue = Queue::default();
            for size in sizes {
                assert_eq!(queue.push(event(size)), Ok(()));
            }
            assert_eq!(queue.push(event(last)), Err(Refused));
            assert_eq!(read(&queue), Poll::Ready(None));
            assert_eq!(queue.push(event(1)), Err(Refused), "closed stays closed");
        }
    }

    #[test]
    fn what_was_read_makes_room() {
        let queue = Queue::default();
        for _ in 0..3 * limits::WAITING_EVENTS {
            assert_eq!(queue.push(event(limits::WAITING_BYTES)), Ok(()));
            assert_eq!(read(&queue), Poll::Ready(Some(event(limits::WAITING_BYTES))));
        }
        assert_eq!(read(&queue), Poll::Pending);
    }
}
