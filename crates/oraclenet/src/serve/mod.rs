//! `oraclenet serve`: the server, from its flags to its end, and `oraclenet superuser`.
//!
//! Boot is a line of named steps with evidence in the log: restore, open, follow, serve; own and migrate come at the
//! first write, or before serving where there is nothing to follow. A step that fails ends
//! the start with an exit code of its own; nothing is served from a database that was not restored and verified, or
//! positively found to be a first one.

mod boot;
mod commands;
mod listen;
mod log;
mod marker;
mod migrate;
mod node;
mod options;
mod run;
mod superuser;

pub use commands::{COMMANDS, Command};
pub use options::Row;
pub use run::run;
pub use superuser::run as superuser;

use litekeep_core::env::{Clock, Random};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Looks an environment variable up.
pub type Env = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the server is given from outside; `main` collects it.
pub struct World {
    /// The environment.
    pub env: Env,
    /// The folder of the executable.
    pub executable_dir: PathBuf,
    /// The working directory.
    pub directory: PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Jitter and instance ids.
    pub random: Arc<dyn Random>,
}

impl World {
    fn env(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }
}

/// Why the server does not start, or ended.
#[derive(Debug)]
pub struct Trouble {
    /// What the process exits with.
    pub exit: u8,
    /// What happened.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Exit codes beyond those of a restore (`litekeep::restore::exit`).
pub mod exit {
    /// Anything else.
    pub const FAILED: u8 = 1;
    /// The arguments or the environment cannot be used.
    pub const USAGE: u8 = 2;
    /// The last changes did not reach the replica.
    pub const NOT_SYNCED: u8 = 20;
    /// Another writer is at work on the replica.
    pub const FENCED: u8 = 21;
    /// The database and the replica do not belong together.
    pub const BESIDE: u8 = 22;
    /// The store lacks something that is needed.
    pub const UNFIT: u8 = 23;
}

impl Trouble {
    fn new(exit: u8, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    fn usage(what: impl Into<String>) -> Self {
        Self::new(exit::USAGE, what)
    }

    #[must_use]
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it on stderr.
    fn tell(&self) -> ExitCode {
        use std::io::Write as _;
        let mut text = format!("Error: {}\n", self.what);
        if let Some(hint) = &self.hint {
            text.push_str(&format!("Hint: {hint}\n"));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.exit)
    }
}
