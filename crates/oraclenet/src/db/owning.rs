//! The database as its node's application: writes begin when the node owns, and have ended when it leaves.

use super::gate::Gate;
use super::standing::Standing;
use litekeep::node::{Application, Left, Role};
use litekeep_formats::Epoch;
use std::sync::Arc;

/// Does what has to be done at a change of hands; an error ends the node with its text.
pub type Step = Box<dyn Fn(Option<Epoch>) -> Result<(), String> + Send + Sync>;

/// See the module's text.
pub struct Owning {
    /// Who asks whether it may write.
    pub standing: Arc<Standing>,
    /// Where answers wait.
    pub gate: Arc<Gate>,
    /// Brings the database up to this version, before anybody else writes.
    pub before: Step,
    /// Sees to it that no other program of ours writes, once this one does not.
    pub after: Box<dyn Fn() + Send + Sync>,
}

impl Application for Owning {
    fn role(&self, role: Role) {
        self.standing.set_role(role);
        if role == Role::Ended {
            self.gate.close();
        }
    }

    fn start_writing(&self, epoch: Option<Epoch>) -> Result<(), String> {
        (self.before)(epoch)?;
        self.gate.hold();
        self.standing.open();
        Ok(())
    }

    fn stop_writing(&self) {
        self.standing.close();
        (self.after)();
    }

    fn left(&self, how: Left) {
        if how == Left::Lost {
            // Before anybody hears of it, so that what was read until now is not called durable any more.
            self.standing.lost();
        }
        self.gate.left(how);
    }
}
