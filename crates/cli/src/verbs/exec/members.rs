//! The databases of a command as they come and go: each is kept from its start on, and let go once the command has removed
//! it and what was taken from it is in the replica. Never ends the command: what goes as it came is no trouble.

use super::{Event, House, LOOK_EVERY, Stage, TENURE};
use crate::config::Database;
use crate::daemon::guest::Watched;
use crate::trouble::Trouble;
use crate::verbs::door::Doorkeeper;
use crate::verbs::member::Member;
use crate::verbs::replicate::{keep_trouble, replicating_to, thread};
use litekeep::error::KeepError;
use litekeep::files::RealFiles;
use litekeep::jobs::Threads;
use litekeep::node::{Left, Node, NodeSettings};
use litekeep::replicator::Env;
use litekeep::settings::Settings;
use litekeep_core::decisions::Decisions;
use litekeep_core::limits;
use litekeep_core::ownership::Times;
use std::sync::Arc;
use std::time::Duration;

impl House {
    /// Keeps a database; a fresh one is the command's own.
    pub(super) fn keep(&mut self, database: Database, fresh: bool) -> Result<(), Trouble> {
        let guest = self.fleet.guest(database.clone())?;
        let store = Arc::clone(&guest.store);
        let env = Env {
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            files: Arc::new(RealFiles),
            vfs: None,
            store: Arc::clone(&store),
            spawner: Arc::new(Threads),
            decisions: Decisions::RIGHT,
        };
        let tenure = TENURE.min(self.command.ready_timeout / 2);
        let settings = NodeSettings {
            replication: Settings {
                open_when_confirmed: true,
                successor: self.lookout.successor(&database.path),
                ..database.settings.clone()
            },
            times: Times { tenure, hand_over: self.command.hand_over, horizon: limits::REUSE_HORIZON },
            look_every: LOOK_EVERY,
            fresh,
            single_writer: self.command.single_writer,
            ..NodeSettings::default()
        };
        let index = self.kept;
        self.kept += 1;
        let keeper = Doorkeeper { index, tell: self.tell.clone(), door: Arc::clone(&self.door) };
        let node = Node::start(env, settings, &database.path, Arc::new(keeper))
            .map_err(|error| keep_trouble(&format!("can't replicate {}", database.path.display()), &error))?;
        let node = Arc::new(node);
        guest.entrust(Watched(Arc::downgrade(&node)));
        replicating_to(&database);
        let (ended, tell) = (node.when_ended(), self.tell.clone());
        let may_go = self.lookout.watches(&database.path);
        self.members.push(Member::new(index, node, store, database, may_go));
        thread("ended", move || drop(tell.send(Event::Ended(index, ended()))))
    }

    /// Keeps what the command has made, and lets go what it has removed.
    pub(super) fn follow_directories(&mut self, now: Duration) -> Result<(), Trouble> {
        self.drop_who_has_gone();
        let Some((made, trouble)) = self.lookout.look(now, &self.fleet) else { return Ok(()) };
        for member in &mut self.members {
            if self.lookout.sees(&member.database.path) && member.is_to_leave() {
                self.lookout.lets_go(&member.database.path);
                self.door.let_go(member.index);
                member.begin_stop();
            }
        }
        // Two names of one file may come within one look; the next one tells that the second is skipped.
        let mut made = made.into_iter();
        made.try_for_each(|it| if self.fleet.replicates(&it.path) { Ok(()) } else { self.keep(it, true) })?;
        trouble.map_or(Ok(()), Err)
    }

    /// The member of this number, unless it was let go and has ended.
    pub(super) fn member(&mut self, index: usize) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.index == index)
    }

    /// A member's epoch is over.
    pub(super) fn left(&mut self, index: usize, how: Left) {
        // Of one that is gone, its end tells.
        let Some(member) = self.member(index).filter(|member| !member.leaves()) else { return };
        let path = member.database.path.display();
        match how {
            Left::Closed(_) => tracing::info!(db = %path, "handed over"),
            // Why, is told with its end.
            Left::Lost => {
                tracing::warn!(db = %path, "left before the last changes were known to be in the replica");
            }
        }
    }

    /// Whether it was one that was let go who has ended, and that is nobody else's business. One that is there again is kept
    /// anew by the next look, if there is one.
    pub(super) fn has_gone(&mut self, index: usize, why: Option<&KeepError>) -> bool {
        let is_last = self.stage == Stage::Ending && why.is_some();
        let Some(member) = self.member(index).filter(|member| member.leaves()) else { return false };
        if is_last && !member.is_gone() {
            return false;
        }
        member.ended = true;
        let path = member.database.path.display();
        match why {
            None | Some(KeepError::Gone { .. }) => {
                tracing::info!(db = %path, "replication ended, the database is gone");
            }
            Some(error) => {
                tracing::error!(db = %path, %error, "replication of a database that is gone ended in disorder");
            }
        }
        true
    }

    /// Takes those off the list who were let go and hold nothing any more: only then can the next of that name be kept.
    pub(super) fn drop_who_has_gone(&mut self) {
        let (fleet, door) = (&self.fleet, &self.door);
        self.members.retain(|member| {
            let off = member.leaves() && member.ended && member.node.ended();
            if off {
                fleet.forget_guest(&member.database.path);
                door.strike(member.index);
            }
            !off
        });
    }
}
