//! `litekeep version`

use crate::flags::{self, Parsed};
use crate::output;
use crate::trouble::{Exit, Trouble};
use crate::world::World;

/// Prints the version.
pub(crate) fn run(_: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let mut text = format!("{}\n", env!("CARGO_PKG_VERSION"));
    if parsed.on(&flags::VERBOSE) {
        text.push_str(&format!(
            "SQLite {}\n{}/{}\n",
            litekeep::sqlite_version(),
            std::env::consts::OS,
            std::env::consts::ARCH
        ));
    }
    output::text(&text)?;
    Ok(Exit::OK)
}
