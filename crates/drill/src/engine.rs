//! What runs in a container: the command, and what its log says of where the database came from.
//!
//! It knows programs by their arguments, their environment and their words only.

use crate::bucket::Place;
use crate::error::DrillError;
use crate::facts::{Boot, Restored};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The account that approves others; made by the server from its environment.
pub const SUPERUSER: (&str, &str) = ("prove@oraclenet.local", "a-password-for-the-proof");

/// The system under test.
#[derive(Debug, Clone)]
pub enum Engine {
    /// `oraclenet serve`.
    OracleNet,
    /// Litestream 0.3.13 beside an application that writes to SQLite: restore, then `replicate -exec`.
    Litestream(PathBuf),
    /// That application alone. It keeps no promise, and shows that the judge sees it.
    None,
}

/// A release: a program under a name.
#[derive(Debug, Clone)]
pub struct Release {
    /// For the report.
    pub name: String,
    /// The `oraclenet` executable.
    pub program: PathBuf,
    /// More flags of `serve`.
    pub flags: Vec<String>,
}

impl Engine {
    /// Its name on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::OracleNet => "oraclenet",
            Self::Litestream(_) => "litestream",
            Self::None => "none",
        }
    }

    /// The command of a container on `disk`, with nothing in its environment but what it is given.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn command(&self, release: &Release, disk: &Path, place: &Place) -> Result<Command, DrillError> {
        let mut command = match self {
            Self::OracleNet => {
                let mut command = Command::new(&release.program);
                command.args(["serve", "--http", "127.0.0.1:0", "--rate-limits", "off", "--dir"]);
                command.arg(disk.join("pb_data")).args(["--replica", &place.url]).args(&release.flags);
                command
            }
            Self::Litestream(litestream) => beside_litestream(litestream, release, disk, place)?,
            Self::None => alone(release, disk)?,
        };
        command.env_clear().envs(place.environment.iter().map(|(name, value)| (name, value)));
        command
            .env("ORACLENET_SUPERUSER_EMAIL", SUPERUSER.0)
            .env("ORACLENET_SUPERUSER_PASSWORD", SUPERUSER.1);
        command.current_dir(disk).stdin(Stdio::null());
        Ok(command)
    }

    /// Where a container's database lies.
    #[must_use]
    pub fn database(&self, disk: &Path) -> PathBuf {
        disk.join("pb_data").join("data.db")
    }

    /// What a log says of the start.
    #[must_use]
    pub fn boot(&self, log: &str) -> Boot {
        let mut boot = Boot::default();
        for line in log.lines() {
            if line.contains("no matching backups found") {
                boot.empty = true;
            } else if line.contains("renaming database from temporary location") {
                boot.placed = true;
            } else if line.contains("database exists, skipping restore")
                || line.contains("database already exists")
            {
                boot.kept = true;
            } else if line.contains("restore complete") {
                boot.restored = Some(numbers(line));
            } else {
                continue;
            }
            boot.lines.push(line.to_owned());
        }
        boot
    }
}

/// The numbers of `restore complete replica=.. txid=.. bytes=.. milliseconds=..`.
fn numbers(line: &str) -> Restored {
    let field = |name: &str| {
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    Restored {
        from: field("replica"),
        txid: field("txid"),
        bytes: field("bytes").parse().unwrap_or(0),
        milliseconds: field("milliseconds").parse().unwrap_or(0),
    }
}

/// What the original's `run.sh` does, without its mistake: a restore that fails ends the start.
fn beside_litestream(
    litestream: &Path,
    release: &Release,
    disk: &Path,
    place: &Place,
) -> Result<Command, DrillError> {
    let data = disk.join("pb_data");
    let database = data.join("data.db");
    let config = disk.join("litestream.yml");
    let yaml = configuration(&database, &place.url);
    let written = std::fs::create_dir_all(&data).and_then(|()| std::fs::write(&config, yaml));
    written.map_err(|error| DrillError::machine(config.display().to_string(), &error))?;
    let script = "set -e\n\
        \"$1\" restore -config \"$2\" -if-db-not-exists -if-replica-exists \"$3\"\n\
        exec \"$1\" replicate -config \"$2\" -exec \"$4 prove --serve-plain $5\"\n";
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg("run.sh");
    command.args([
        litestream,
        config.as_path(),
        database.as_path(),
        release.program.as_path(),
        data.as_path(),
    ]);
    Ok(command)
}

fn alone(release: &Release, disk: &Path) -> Result<Command, DrillError> {
    let data = disk.join("pb_data");
    let made = std::fs::create_dir_all(&data);
    made.map_err(|error| DrillError::machine(data.display().to_string(), &error))?;
    let mut command = Command::new(&release.program);
    command.args(["prove", "--serve-plain"]).arg(data);
    Ok(command)
}

/// A `litestream.yml` for 0.3.13.
fn configuration(database: &Path, url: &str) -> String {
    let mut yaml = format!("dbs:\n  - path: {}\n    replicas:\n", database.display());
    let Some(rest) = url.strip_prefix("s3://") else {
        let _ = writeln!(yaml, "      - type: file\n        path: {}", url.trim_start_matches("file://"));
        let _ = writeln!(yaml, "        sync-interval: 1s");
        return yaml;
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, path) = place.split_once('/').unwrap_or((place, ""));
    let _ = writeln!(yaml, "      - type: s3\n        bucket: {bucket}\n        path: {path}");
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("endpoint", value)) => drop(writeln!(yaml, "        endpoint: {value}")),
            Some(("region", value)) => drop(writeln!(yaml, "        region: {value}")),
            Some(("forcePathStyle", value)) => drop(writeln!(yaml, "        force-path-style: {value}")),
            _ => {}
        }
    }
    let _ = writeln!(yaml, "        sync-interval: 1s");
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_shows_where_the_database_came_from() {
        let log = "2026 INFO x: restoring database replica=s3://b/p files=3 bytes=100\n\
                   2026 INFO x: renaming database from temporary location\n\
                   2026 INFO x: restore complete replica=s3://b/p txid=0000000000000005 bytes=24065 milliseconds=24 age_seconds=1\n";
        let boot = Engine::OracleNet.boot(log);
        let restored = boot.restored.expect("a restore");
        assert!(boot.placed && !boot.empty && !boot.kept);
        assert_eq!(
            (restored.txid.as_str(), restored.bytes, restored.milliseconds),
            ("0000000000000005", 24065, 24)
        );
        assert_eq!(restored.from, "s3://b/p");
        assert_eq!(boot.lines.len(), 2);
        assert!(Engine::OracleNet.boot("INFO no matching backups found replica=x").empty);
        assert!(Engine::OracleNet.boot("INFO database exists, skipping restore path=x").kept);
        assert_eq!(Engine::OracleNet.boot("INFO started"), Boot::default());
    }
}
