//! How many descriptors this process may have: as many as the system allows it, while a command that it starts gets what it
//! would have had without us. Never opens or closes one.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// The limit before it was raised, and since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raised {
    before: Rlimit,
    now: Rlimit,
}

/// Raises the limit: a database that is written to takes a dozen descriptors, and the usual limit, 1024, is one of old
/// programs. One less than all, so that whoever takes all by himself is told apart from who only inherits.
pub(crate) fn raise() -> Raised {
    let before = getrlimit(Resource::Nofile);
    let most = before.maximum.map(|most| most.saturating_sub(1));
    let more = Rlimit { current: most.max(before.current), ..before };
    if before.current.is_none() || more == before {
        return Raised { before, now: before };
    }
    match setrlimit(Resource::Nofile, more) {
        Ok(()) => Raised { before, now: more },
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            Raised { before, now: before }
        }
    }
}

impl Raised {
    /// Gives a process that was started just now the limit from before: a program that waits with `select` may not have
    /// more. For a moment it has ours, and what it starts in that moment too. What it has set for itself by then stays.
    #[cfg(target_os = "linux")]
    pub(crate) fn give_back(&self, started: Pid) {
        use rustix::process::prlimit;
        if self.now == self.before {
            return;
        }
        let seen = prlimit(Some(started), Resource::Nofile, self.before);
        let set = match seen {
            Ok(seen) if seen != self.now => prlimit(Some(started), Resource::Nofile, seen),
            other => other,
        };
        if let Err(error) = set {
            tracing::debug!(%error, "the command keeps the raised limit of open files");
        }
    }

    /// No other system can do that: it keeps ours.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn give_back(&self, _: Pid) {
        let _ = (self.before, self.now);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::prlimit;

    #[test]
    fn a_process_gets_the_limit_from_before_and_keeps_what_it_has_set_for_itself() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("started");
        let pid = Pid::from_child(&child);
        let limit = |current| Rlimit { current: Some(current), maximum: Some(200) };
        let raised = Raised { before: limit(100), now: limit(199) };
        for (seen, wanted) in [(199, 100), (200, 200), (50, 50)] {
            prlimit(Some(pid), Resource::Nofile, limit(seen)).expect("set");
            raised.give_back(pid);
            let after = prlimit(Some(pid), Resource::Nofile, limit(wanted)).expect("read");
            assert_eq!(after, limit(wanted), "{seen}");
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}
