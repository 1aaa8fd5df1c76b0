//! Why a run could not be carried out. What the system under test did wrong is never an error here: that is a verdict.

use std::fmt;

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The arguments or the environment: whoever called.
    Usage,
    /// This machine refused something: a file, a port, a process.
    Machine,
    /// The system under test did not do what the harness needs before it can measure anything.
    System,
}

/// A run or a scenario that could not be carried out.
#[derive(Debug, Clone)]
pub struct DrillError {
    kind: Kind,
    what: String,
}

impl DrillError {
    /// The arguments make no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, what: what.into() }
    }

    /// The system under test did not do what was needed.
    pub fn system(what: impl Into<String>) -> Self {
        Self { kind: Kind::System, what: what.into() }
    }

    /// Something was refused by this machine; `what` says what was tried.
    pub fn machine(what: impl Into<String>, cause: &dyn fmt::Display) -> Self {
        Self { kind: Kind::Machine, what: format!("{}: {cause}", what.into()) }
    }

    /// Whose move it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for DrillError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for DrillError {}
