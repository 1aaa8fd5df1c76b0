//! stdout for data, stderr for talk. A reader that went away ends neither with a panic.

use crate::log;
use crate::trouble::Trouble;
use serde::Serialize;
use std::io::Write;

/// Writes text to stdout as it stands.
///
/// # Errors
/// stdout takes no more, other than by having been closed by its reader.
pub(crate) fn text(text: &str) -> Result<(), Trouble> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Trouble::new("can't write to stdout").because(&error).hint("is there room where it goes?"))
        }
        _ => Ok(()),
    }
}

/// Writes JSON to stdout, indented by two spaces.
///
/// # Errors
/// See [`text`].
pub(crate) fn json(value: &impl Serialize) -> Result<(), Trouble> {
    let line = serde_json::to_string_pretty(value)
        .map_err(|error| Trouble::new("can't spell the result as JSON").because(&error))?;
    text(&format!("{line}\n"))
}

/// Writes a line to stderr; where log lines are queued, behind them.
pub(crate) fn talk(line: &str) {
    if !log::talk(line) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
