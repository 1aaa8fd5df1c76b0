//! From `litestream.yml`, or two arguments, to what the engine and the store are told.
//!
//! What Litestream takes, this takes. A key that it would ignore in silence is named in a warning; a key that asks
//! for something litekeep does not do is a warning where nothing is lost by that, and an error where somebody would
//! believe in a protection that is not there.

pub(crate) mod expand;
mod resolve;
mod yaml;

use crate::flags::{self, Parsed};
use crate::trouble::Trouble;
use crate::world::World;
use litekeep::settings::Settings as EngineSettings;
use litekeep_store::location::Settings;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is looked for when nobody says where.
const DEFAULT_PATH: &str = "/etc/litestream.yml";

/// Everything a command may want to know.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    /// The command to run while replicating.
    pub(crate) exec: Option<String>,
    /// Where log lines go and which.
    pub(crate) logging: Logging,
    /// The databases, in the file's order.
    pub(crate) databases: Vec<Database>,
    /// What the reader should know: keys that are not known or have no effect.
    pub(crate) warnings: Vec<String>,
}

/// Log settings of the file; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Logging {
    /// `logging.level`.
    pub(crate) level: Option<String>,
    /// `logging.type` is `json`.
    pub(crate) json: bool,
    /// `logging.stderr`.
    pub(crate) stderr: bool,
}

/// One database and its replica.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Database {
    /// The file, absolute.
    pub(crate) path: PathBuf,
    /// Where its replica lies.
    pub(crate) replica: Settings,
    /// Restore it first if it is not there.
    pub(crate) restore_if_missing: bool,
    /// How it is replicated, and where its local state goes.
    pub(crate) settings: EngineSettings,
    /// How long the last sync is tried at the end; zero is one try.
    pub(crate) shutdown_timeout: Duration,
}

impl Database {
    /// `file` or `s3`.
    pub(crate) fn replica_type(&self) -> &'static str {
        replica_type(&self.replica)
    }
}

/// `file` or `s3`.
pub(crate) fn replica_type(settings: &Settings) -> &'static str {
    match settings {
        Settings::Directory(_) => "file",
        Settings::S3(_) => "s3",
    }
}

/// How long the last sync is tried at the end where nobody says how long.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the configuration file that the flags, the environment or custom name.
///
/// # Errors
/// The file cannot be read, is not understood, or asks for what litekeep does not do.
pub(crate) fn load(world: &World, parsed: &Parsed) -> Result<Config, Trouble> {
    let given = parsed.given(&flags::CONFIG).or_else(|| world.env.get("LITESTREAM_CONFIG"));
    let path = world.path(given.unwrap_or(DEFAULT_PATH));
    let text = read(&path).map_err(|error| {
        let trouble =
            Trouble::new(format!("can't read the configuration file {}", path.display())).because(&error);
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                trouble.hint("name it by -config, or give DB_PATH and REPLICA_URL")
            }
            _ => trouble,
        }
    })?;
    let in_file = |reason: String| {
        Trouble::new(format!("the configuration file {} can't be used", path.display())).cause(reason)
    };
    parse(world, &text, !parsed.on(&flags::NO_EXPAND_ENV)).map_err(in_file)
}

/// Parses a configuration file's text.
///
/// # Errors
/// What is wrong with it, with its line where one is to blame.
fn parse(world: &World, text: &str, expand_env: bool) -> Result<Config, String> {
    let mut warnings = Vec::new();
    let text = if expand_env {
        let pid = world.pid.to_string();
        let expanded = expand::expand(text, |name| match name {
            "PID" => Some(pid.clone()),
            name => world.env.raw(name).map(str::to_owned),
        });
        for (name, line) in &expanded.unset {
            warnings.push(format!("${name} in line {line} is not set and was replaced by nothing"));
        }
        expanded.text
    } else {
        text.to_owned()
    };
    resolve::resolve(world, yaml::parse(&text)?, warnings)
}

fn read(path: &Path) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    let mut text = String::new();
    if file.take(yaml::MAX_FILE + 1).read_to_string(&mut text)? as u64 > yaml::MAX_FILE {
        let reason = format!("it is longer than {} bytes", yaml::MAX_FILE);
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
