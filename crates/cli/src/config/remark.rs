//! A place in the configuration file, and what is said about it.

use serde_saphyr::{Location, Spanned};
use std::fmt;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The line.
    pub(crate) line: u64,
    /// The column, in characters.
    pub(crate) column: u64,
}

impl Place {
    /// Where a value is written; for an alias, where the alias is.
    pub(crate) fn of<T>(value: &Spanned<T>) -> Self {
        value.referenced.into()
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One line for whoever wrote the file: what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remark {
    /// Where; `None` where no place is to blame.
    pub(crate) place: Option<Place>,
    /// What, without a full stop.
    pub(crate) text: String,
}

impl Remark {
    /// `FILE:LINE:COLUMN: text`, as editors understand it.
    pub(crate) fn shown(&self, file: &str) -> String {
        match self.place {
            Some(place) => format!("{file}:{place}: {}", self.text),
            None => format!("{file}: {}", self.text),
        }
    }
}
