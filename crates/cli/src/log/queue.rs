//! Lines on their way out, written by a thread of their own: a reader that stalls holds up nobody who has something to say.
//! What does not fit meanwhile is dropped, and how much that was is told in its place. It never looks at what a line says.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may wait.
const ROOM: usize = 1 << 20;

/// Spells the line that tells how many are missing.
type Gap = Box<dyn Fn(u64) -> String + Send + Sync>;

/// Lines, with their ends, in the order in which they came.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    gap: Gap,
    room: usize,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    bytes: usize,
    /// Since the last one that was taken.
    dropped: u64,
    /// One has left the queue and is not out yet.
    writing: bool,
}

impl State {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }
}

impl Queue {
    /// An empty one.
    pub(super) fn new(gap: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), gap: Box::new(gap), room: ROOM }
    }

    /// Takes a line, or drops it where there is no room. After one was dropped there has to be half of the room again, or
    /// beside a slow reader every other line would tell of a gap.
    pub(super) fn offer(&self, line: String) {
        let mut state = self.lock();
        let room = if state.dropped > 0 { self.room / 2 } else { self.room };
        if state.bytes.saturating_add(line.len()) > room {
            state.dropped += 1;
            return;
        }
        self.take(&mut state, line);
    }

    /// Takes a line whether there is room or not: the few that are no log.
    pub(super) fn put(&self, line: String) {
        self.take(&mut self.lock(), line);
    }

    fn take(&self, state: &mut State, line: String) {
        self.tell_gap(state);
        state.push(line);
        self.changed.notify_all();
    }

    fn tell_gap(&self, state: &mut State) {
        let dropped = std::mem::take(&mut state.dropped);
        if dropped > 0 {
            state.push((self.gap)(dropped));
        }
    }

    /// Writes for as long as the process runs.
    pub(super) fn write(&self, mut out: impl FnMut(&[u8])) {
        loop {
            out(self.next().as_bytes());
        }
    }

    /// The line before is out; waits for the next one.
    fn next(&self) -> String {
        let mut state = self.lock();
        state.writing = false;
        loop {
            if state.lines.is_empty() {
                self.tell_gap(&mut state);
            }
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return line;
            }
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is out, or until the limit; whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let waits = |state: &mut State| state.writing || !state.lines.is_empty() || state.dropped > 0;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, waits);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn queue(room: usize) -> Queue {
        Queue { room, ..Queue::new(|dropped| format!("({dropped})")) }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_told_in_its_place() {
        let queue = queue(10);
        let offer = |line: &str| queue.offer(line.to_owned());
        let next = || queue.next();
        ["1234", "5678", "abcd", "ef"].into_iter().for_each(offer);
        // "ef" would have fitted, but nothing goes before what was dropped.
        assert_eq!(next(), "1234");
        offer("gh");
        queue.put("more than there is room for".to_owned());
        assert_eq!([next(), next(), next()], ["5678", "(3)", "more than there is room for"]);
        ["12345678901", "ij"].into_iter().for_each(offer);
        assert_eq!([next(), next()], ["(1)", "ij"]);
        offer("12345678901");
        assert_eq!(next(), "(1)", "also where nothing comes after it");
    }

    #[test]
    fn a_flush_waits_for_the_last_line_and_no_longer_than_it_may() {
        let queue = Arc::new(queue(ROOM));
        assert!(queue.flush(Duration::ZERO));
        queue.offer("a".to_owned());
        assert!(!queue.flush(Duration::ZERO));
        queue.next();
        assert!(!queue.flush(Duration::ZERO), "it is not out yet");
        queue.offer("b".to_owned());
        let (tell, told) = std::sync::mpsc::channel();
        let writer = Arc::clone(&queue);
        std::thread::spawn(move || {
            writer.write(|line| tell.send(line.to_owned()).expect("heard"));
        });
        assert!(queue.flush(Duration::from_secs(60)));
        assert_eq!(told.try_recv(), Ok(b"b".to_vec()));
    }
}
