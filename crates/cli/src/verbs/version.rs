//! `litekeep version`

use crate::flags::{self, Parsed};
use crate::output;
use crate::trouble::{Exit, Trouble};
use crate::world::World;

/// Prints the version.
pub(crate) fn run(_: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let version = env!("CARGO_PKG_VERSION");
    let text = if parsed.on(&flags::VERBOSE) {
        let (sqlite, os, arch) = (litekeep::sqlite_version(), std::env::consts::OS, std::env::consts::ARCH);
        format!("Version:     {version}\nSQLite:      {sqlite}\nOS/Arch:     {os}/{arch}\n")
    } else {
        format!("{version}\n")
    };
    output::text(&text)?;
    Ok(Exit::OK)
}
