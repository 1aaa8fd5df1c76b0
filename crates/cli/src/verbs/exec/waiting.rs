//! Why a command does not start: before it is known that nobody else writes to the replica, it may not write either. Whoever
//! looks for the application is told so. Decides nothing, and asks nobody.

use super::House;
use std::time::Duration;

/// How long that is the usual course of a start.
const QUIET: Duration = Duration::from_secs(3);
/// How soon it is said again.
const AGAIN: Duration = Duration::from_secs(60);

impl House {
    /// Tells of each database whose replica does not answer, or only with errors, after a while, and then now and then.
    pub(super) fn tell_what_is_waited_for(&mut self, now: Duration) {
        if now < *self.tell_at.get_or_insert(now + QUIET) {
            return;
        }
        for member in self.members.iter().filter(|member| !member.leaves() && !self.door.may(member.index)) {
            let path = &member.database.path;
            let Ok(known) = self.fleet.find(path) else { continue };
            let Some(error) = known.book.why_not_asked() else { continue };
            tracing::warn!(db = %path.display(), error, "the command waits: the replica cannot be asked who owns it");
            self.tell_at = Some(now + AGAIN);
        }
    }
}
