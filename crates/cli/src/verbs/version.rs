//! `litekeep version`

use crate::flags::{self, Parsed};
use crate::output;
use crate::trouble::{Exit, Trouble};
use crate::world::World;

/// Which commit this was built of, where whoever built it said so (`docs/guide/docker.md`).
const COMMIT: Option<&str> = option_env!("LITEKEEP_GIT_COMMIT");

/// Prints the version.
pub(crate) fn run(_: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let version = env!("CARGO_PKG_VERSION");
    let text = if parsed.on(&flags::VERBOSE) {
        let (sqlite, commit) = (litekeep::sqlite_version(), COMMIT.unwrap_or("unknown"));
        let platform = format!("{}/{}", os(std::env::consts::OS), arch(std::env::consts::ARCH));
        format!(
            "Version:     {version}\nSQLite:      {sqlite}\nGit Commit:  {commit}\nOS/Arch:     {platform}\n"
        )
    } else {
        format!("{version}\n")
    };
    output::text(&text)?;
    Ok(Exit::OK)
}

/// As Go calls it, and with it Litestream and the images of Docker.
fn os(name: &str) -> &str {
    if name == "macos" { "darwin" } else { name }
}

/// See [`os`].
fn arch(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_the_names_that_go_gives_them() {
        for (name, wanted) in
            [("x86_64", "amd64"), ("aarch64", "arm64"), ("x86", "386"), ("riscv64", "riscv64")]
        {
            assert_eq!(arch(name), wanted);
        }
        assert_eq!((os("linux"), os("macos")), ("linux", "darwin"));
    }
}
