//! Between the nodes and the command: who may be written to, and whether the command runs.
//!
//! A node that gives its database away waits here until the command has ended; the command starts only while nobody has.

use super::exec::Event;
use litekeep::node::{Application, Left, Role};
use litekeep_formats::Epoch;
use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Inside {
    /// The command runs, or is about to.
    runs: bool,
    /// The databases that may be written to.
    may: BTreeSet<usize>,
    /// Those that were let go: the command has removed them, and need not have ended.
    gone: BTreeSet<usize>,
}

/// One for all databases of a command.
#[derive(Default)]
pub(super) struct Door {
    inside: Mutex<Inside>,
    closed: Condvar,
}

impl Door {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the command runs.
    pub(super) fn runs(&self) -> bool {
        self.inside().runs
    }

    /// Whether a database may be written to.
    pub(super) fn may(&self, index: usize) -> bool {
        self.inside().may.contains(&index)
    }

    /// Lets the command start, unless one of these databases has been given away meanwhile.
    pub(super) fn open(&self, needed: &[usize]) -> bool {
        let mut inside = self.inside();
        inside.runs = needed.iter().all(|index| inside.may.contains(index));
        inside.runs
    }

    /// The command has ended.
    pub(super) fn close(&self) {
        self.inside().runs = false;
        self.closed.notify_all();
    }

    /// A database may not be written to any more. Says nothing of the command.
    pub(super) fn forget(&self, index: usize) {
        self.inside().may.remove(&index);
    }

    /// The command has removed a database: whoever gives it away need not wait for its end.
    pub(super) fn let_go(&self, index: usize) {
        self.inside().gone.insert(index);
    }

    /// Nobody has this number any more.
    pub(super) fn strike(&self, index: usize) {
        self.inside().gone.remove(&index);
    }

    fn has_gone(&self, index: usize) -> bool {
        self.inside().gone.contains(&index)
    }

    fn wait(&self) {
        let runs = |inside: &mut Inside| inside.runs;
        drop(self.closed.wait_while(self.inside(), runs).unwrap_or_else(PoisonError::into_inner));
    }
}

/// A node's application: the command, by way of the deciding thread.
pub(super) struct Doorkeeper {
    pub(super) index: usize,
    pub(super) tell: Sender<Event>,
    pub(super) door: Arc<Door>,
}

impl Doorkeeper {
    fn tell(&self, event: Event) {
        let _ = self.tell.send(event); // nobody listens any more: the process ends
    }
}

impl Application for Doorkeeper {
    fn role(&self, _role: Role) {}

    fn start_writing(&self, epoch: Option<Epoch>) -> Result<(), String> {
        self.door.inside().may.insert(self.index);
        self.tell(Event::Owned(self.index, epoch));
        Ok(())
    }

    fn stop_writing(&self) {
        self.door.forget(self.index);
        if self.door.has_gone(self.index) {
            return;
        }
        self.tell(Event::Leaving);
        self.door.wait();
    }

    fn left(&self, how: Left) {
        self.tell(Event::Left(self.index, how));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_door_opens_only_while_every_database_that_is_there_may_be_written_to() {
        let (tell, told) = mpsc::channel();
        let door = Arc::new(Door::default());
        let keeper = |index| Doorkeeper { index, tell: tell.clone(), door: Arc::clone(&door) };
        let (a, b) = (keeper(0), keeper(1));
        assert!(door.open(&[]), "both are for the command to make");
        door.close();
        assert!(!door.open(&[0]));
        a.start_writing(None).expect("told");
        b.start_writing(None).expect("told");
        assert!(door.open(&[0, 1]) && door.runs());
        door.close();
        // Nobody runs: it does not wait, and its event still lies unread when the deciding thread tries.
        a.stop_writing();
        assert!(!door.open(&[0, 1]) && !door.runs());
        assert!(door.open(&[1]));
        let waits = std::thread::spawn(move || b.stop_writing());
        while !matches!(told.recv().expect("told"), Event::Leaving if !door.may(1)) {}
        door.close();
        waits.join().expect("it goes on once the command has ended");
        // One that was let go neither waits for the command nor has it end.
        a.start_writing(None).expect("told");
        assert!(door.open(&[0]));
        told.try_iter().for_each(drop);
        door.let_go(0);
        a.stop_writing();
        assert!(door.runs() && !door.may(0) && told.try_recv().is_err());
    }
}
