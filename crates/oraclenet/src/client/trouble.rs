//! What went wrong, for the person at the terminal, and what the process ends with.
//!
//! `Error:` says what happened to what, `Cause:` why, `Hint:` what to try. Passwords and tokens never get here.

use super::output::printable;
use std::fmt;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// All is well.
    pub(crate) const OK: Self = Self(0);
    /// The server refused, or something on this machine failed.
    pub(crate) const FAILED: Self = Self(1);
    /// The arguments make no sense.
    pub(crate) const USAGE: Self = Self(2);
    /// The server could not be reached, or could not do it at the moment.
    pub(crate) const UNREACHABLE: Self = Self(3);
}

/// An error on its way to the terminal.
#[derive(Debug)]
pub(crate) struct Trouble {
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// The HTTP status of the answer that is behind it.
    pub(crate) status: Option<u16>,
}

impl Trouble {
    /// An error with exit code 1 and nothing to add.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new(), hint: None, exit: Exit::FAILED, status: None }
    }

    /// The arguments make no sense: exit code 2.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::USAGE, ..Self::new(what) }
    }

    /// The server is out of reach or out of order: exit code 3.
    pub(crate) fn unreachable(what: impl Into<String>) -> Self {
        Self { exit: Exit::UNREACHABLE, ..Self::new(what) }
    }

    /// Whether nobody has said why yet.
    pub(crate) fn unexplained(&self) -> bool {
        self.causes.is_empty()
    }

    /// Adds why, as text.
    pub(crate) fn cause(mut self, text: impl Into<String>) -> Self {
        self.causes.push(text.into());
        self
    }

    /// Adds what to try; the first hint is the nearest to what happened and stays.
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint.get_or_insert(text.into());
        self
    }

    /// Notes the status of the answer.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
}

impl fmt::Display for Trouble {
    /// What servers and files said is in it, so nothing that a terminal would obey gets through.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error: {}", printable(&self.what))?;
        for cause in &self.causes {
            write!(f, "\nCause: {}", printable(cause))?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nHint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_from_what_to_why_to_what_to_try() {
        let trouble = Trouble::new("no").cause("a\u{1b}[2Jb").hint("first").hint("second");
        assert_eq!(trouble.to_string(), "Error: no\nCause: a\u{fffd}[2Jb\nHint: first");
        assert_eq!(Trouble::usage("x").exit, Exit(2));
        assert_eq!(Trouble::unreachable("x").exit, Exit(3));
    }
}
