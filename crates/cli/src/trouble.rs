//! What went wrong, for the person at the terminal, and what the process ends with.
//!
//! `Error:` says what happened to what, `Cause:` why, `Hint:` what to try. No secret gets here: replica URLs pass
//! through [`without_secrets`].

use std::error::Error;
use std::fmt;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// All is well.
    pub(crate) const OK: Self = Self(0);
    /// Everything that has no code of its own: arguments, configuration, local files.
    pub(crate) const FAILED: Self = Self(1);
    /// The last changes did not reach the replica before the process ended.
    pub(crate) const NOT_SYNCED: Self = Self(20);
    /// Somebody else writes to the replica.
    pub(crate) const FENCED: Self = Self(21);
    /// The local database is not the replica's newest state, nor one that follows it.
    pub(crate) const DIVERGED: Self = Self(22);
    /// The store lacks something that litekeep needs to run safely there.
    pub(crate) const UNFIT: Self = Self(23);
}

/// An error on its way to the terminal.
#[derive(Debug)]
pub(crate) struct Trouble {
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// What the process ends with.
    pub(crate) exit: Exit,
}

impl Trouble {
    /// An error with exit code 1 and nothing to add.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new(), hint: None, exit: Exit::FAILED }
    }

    /// Adds why: an error and all that is under it. A link that only repeats what its parent said is left out.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if !self.causes.last().unwrap_or(&self.what).contains(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds why, as text.
    pub(crate) fn cause(mut self, text: impl Into<String>) -> Self {
        self.causes.push(text.into());
        self
    }

    /// Adds what to try; the last hint stays.
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// Sets what the process ends with.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error: {}", self.what)?;
        for cause in &self.causes {
            write!(f, "\nCause: {cause}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nHint: {hint}"),
            None => Ok(()),
        }
    }
}

/// A replica URL, or what was given in place of one, without what may be a secret: user, password and query.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit('@').next().unwrap_or_default();
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_from_what_to_why_to_what_to_try() {
        let trouble = Trouble::new("can't read a.yml").cause("no such file").hint("look again");
        assert_eq!(trouble.to_string(), "Error: can't read a.yml\nCause: no such file\nHint: look again");
        assert_eq!(Trouble::new("x").to_string(), "Error: x");
    }

    #[test]
    fn a_chain_of_errors_is_told_once() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "list s3://b: {}", self.0)
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let text = Trouble::new("x").because(&Outer(std::io::Error::other("reset"))).to_string();
        assert_eq!(text, "Error: x\nCause: list s3://b: reset");
    }

    #[test]
    fn a_url_loses_its_secrets_and_nothing_else() {
        for (url, shown) in [
            ("s3://b/p", "s3://b/p"),
            ("s3://b", "s3://b"),
            ("s3://key:hush@b/p@q?secret=hush#hush", "s3://b/p@q"),
            ("s3://key:hu@sh@b/p", "s3://b/p"),
            ("file:///a/b", "file:///a/b"),
            ("/a/b?c", "/a/b?c"),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }
}
