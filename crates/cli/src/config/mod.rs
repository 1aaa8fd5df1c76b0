//! From `litestream.yml`, or two arguments, to what the engine and the store are told.
//!
//! What Litestream 0.3 and 0.5 take, this takes. What would not be done is never taken in silence: a key that no
//! Litestream had, and whatever asks for a protection that is not there, is an error; a key without effect is a warning;
//! a key of 0.3 that goes by another name today is mapped, and that is told.

mod address;
mod effective;
mod elsewhere;
mod expand;
mod holder;
mod legacy;
mod notes;
mod origin;
mod ready;
mod remark;
mod replica;
mod resolve;
pub(crate) mod unknown;
mod yaml;

pub(crate) use address::{address, no_path};
pub(crate) use effective::{Setting, global_settings, settings_of, settings_of_directory};
pub(crate) use elsewhere::Elsewhere;
pub(crate) use origin::{Origin, Origins};
pub(crate) use ready::entangled;
pub(crate) use resolve::{NOT_RESTORED, same_place};

use crate::flags::{self, Parsed};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use expand::Expanded;
use litekeep::settings::Settings as EngineSettings;
use litekeep_store::location::{Secret, Settings};
use notes::{Notes, said};
use remark::Remark;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is looked for when nobody says where.
const DEFAULT_PATH: &str = "/etc/litestream.yml";

/// How long the last sync is tried at the end where nobody says how long.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long snapshots are kept where they are kept for ever: longer than anybody waits, short enough to add to a date.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// Everything a command may want to know.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    /// The command to run while replicating.
    pub(crate) exec: Option<String>,
    /// The same as the file has it, before variables are expanded, whose values may be secrets; `None` where that is not known.
    pub(crate) exec_as_written: Option<String>,
    /// With a command: go on where a store cannot create only; the user says that nobody else writes.
    pub(crate) single_writer: bool,
    /// Where log lines go and which.
    pub(crate) logging: Logging,
    /// Where metrics are served: `host:port` or `:port`.
    pub(crate) addr: Option<String>,
    /// The control socket.
    pub(crate) socket: Socket,
    /// What is told that all is well.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// The databases, in the file's order.
    pub(crate) databases: Vec<Database>,
    /// The directories of databases, in the file's order.
    pub(crate) directories: Vec<Directory>,
    /// What the reader should know: keys that have no effect.
    pub(crate) warnings: Vec<String>,
    /// Keys of v0.3 and what each was taken as.
    pub(crate) mapped: Vec<String>,
    /// Variables of the environment, each with the line that it is used in.
    pub(crate) variables: Vec<(String, u64)>,
    /// Where the settings come from that belong to no database.
    pub(crate) origins: Origins,
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
    /// `logging.source`.
    pub(crate) source: bool,
}

/// `socket`: whether, where and for whom commands are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Off unless asked for.
    pub(crate) enabled: bool,
    /// The socket's path.
    pub(crate) path: PathBuf,
    /// Its mode.
    pub(crate) permissions: u32,
}

impl Default for Socket {
    fn default() -> Self {
        Self { enabled: false, path: PathBuf::from("/var/run/litestream.sock"), permissions: 0o600 }
    }
}

/// `heartbeat-url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// What is asked for; such addresses often hold a token.
    pub(crate) url: Secret,
    /// How often.
    pub(crate) interval: Duration,
}

/// One database and its replica.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Database {
    /// The file, absolute.
    pub(crate) path: PathBuf,
    /// Where its replica lies.
    pub(crate) replica: Settings,
    /// What the replica is called: its `name`, else its type.
    pub(crate) replica_name: String,
    /// Restore it first if it is not there.
    pub(crate) restore_if_missing: bool,
    /// How it is replicated, and where its local state goes.
    pub(crate) settings: EngineSettings,
    /// How long the last sync is tried at the end; zero is one try.
    pub(crate) shutdown_timeout: Duration,
    /// How often the replica is verified; `None` never.
    pub(crate) validation: Option<Duration>,
    /// Where Litestream's replica lies, if a default makes that another place.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// Where the settings come from.
    pub(crate) origins: Origins,
}

impl Database {
    /// A database that nothing else is said of.
    pub(crate) fn of(path: PathBuf, replica: Settings) -> Self {
        Self {
            path,
            replica_name: replica_type(&replica).to_owned(),
            replica,
            restore_if_missing: false,
            settings: EngineSettings::default(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            validation: None,
            elsewhere: None,
            origins: Origins::default(),
        }
    }

    /// `file` or `s3`.
    pub(crate) fn replica_type(&self) -> &'static str {
        replica_type(&self.replica)
    }
}

/// Where the local state of a database lies: beside the file itself, wherever a link to it is, as the engine has it.
pub(crate) fn local_state(database: &Path, meta: Option<&Path>) -> PathBuf {
    let real = if database.is_symlink() { database.canonicalize().ok() } else { None };
    litekeep::local::directory(real.as_deref().unwrap_or(database), meta)
}

/// `dir`: the databases of a directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Directory {
    /// The directory, absolute.
    pub(crate) path: PathBuf,
    /// What a file's name must be like (`*.db`).
    pub(crate) pattern: String,
    /// Whether directories below count.
    pub(crate) recursive: bool,
    /// Whether databases are taken up and let go as they come and go.
    pub(crate) watch: bool,
    /// Where the local states go: a folder each, below this one.
    pub(crate) meta_dir: Option<PathBuf>,
    /// What holds for each database; its path is the directory's, and the databases' replicas lie below its replica, by
    /// their paths relative to the directory.
    pub(crate) template: Database,
}

/// `file` or `s3`.
pub(crate) fn replica_type(settings: &Settings) -> &'static str {
    match settings {
        Settings::Directory(_) => "file",
        Settings::S3(_) => "s3",
    }
}

/// Which of several replicas of a database is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick<'a> {
    /// There may be only one.
    Only,
    /// The first.
    First,
    /// The one of this name.
    Named(&'a str),
}

/// A file that was read and judged.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The file.
    pub(crate) path: PathBuf,
    /// What it means; of use only where there are no problems, or none but with keys.
    pub(crate) config: Config,
    /// What must be mended, in the file's order, each as `FILE:LINE:COLUMN: ...`.
    pub(crate) problems: Vec<String>,
    /// Nothing but keys must be mended.
    lacks_keys: bool,
    /// Variables that are not set; they are among the warnings too.
    unset: Vec<String>,
}

impl Judged {
    /// What whoever needs it ends with.
    pub(crate) fn exit(&self) -> Exit {
        match () {
            () if self.problems.is_empty() => Exit::OK,
            () if self.lacks_keys => Exit(litekeep::restore::exit::UNREACHABLE),
            () => Exit::FAILED,
        }
    }
}

/// Reads the configuration file that the flags, the environment or custom name.
///
/// # Errors
/// The file cannot be read, is not understood, or asks for what litekeep does not do.
pub(crate) fn load(world: &World, parsed: &Parsed) -> Result<Config, Trouble> {
    judge(world, parsed).and_then(sound)
}

/// As [`load`], for what asks no bucket: keys may be missing.
///
/// # Errors
/// See [`load`].
pub(crate) fn load_without_keys(world: &World, parsed: &Parsed) -> Result<Config, Trouble> {
    let judged = judge(world, parsed)?;
    if judged.lacks_keys { Ok(judged.config) } else { sound(judged) }
}

/// As [`load`], for `replicate`.
///
/// # Errors
/// See [`load`], and what could not be begun with.
pub(crate) fn load_to_replicate(world: &World, parsed: &Parsed) -> Result<Config, Trouble> {
    judge_to_replicate(world, parsed).and_then(sound)
}

/// What a file means that has no problems.
fn sound(judged: Judged) -> Result<Config, Trouble> {
    let exit = judged.exit();
    let Some((first, rest)) = judged.problems.split_first() else { return Ok(judged.config) };
    let mut trouble = Trouble::new(first.clone()).exit(exit);
    // what is missing is missing most often because a variable is
    if let Some(unset) = judged.unset.first() {
        trouble = trouble.cause(unset.clone());
    }
    if !rest.is_empty() {
        trouble = trouble.hint(format!("`litekeep config check` lists this and {} more", rest.len()));
    }
    Err(trouble)
}

/// Reads and judges the file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn judge(world: &World, parsed: &Parsed) -> Result<Judged, Trouble> {
    let given = parsed.given(&flags::CONFIG).or_else(|| world.env.get("LITESTREAM_CONFIG"));
    let path = world.path(given.unwrap_or(DEFAULT_PATH));
    let text = read(&path).map_err(|error| unreadable(&path, &error))?;
    let pick = match parsed.given(&flags::REPLICA) {
        Some(name) => Pick::Named(name),
        None if parsed.on(&flags::FIRST_REPLICA) => Pick::First,
        None => Pick::Only,
    };
    Ok(parse(world, &text, &path, !parsed.on(&flags::NO_EXPAND_ENV), pick))
}

/// Reads and judges the file as `replicate` does before anything starts.
///
/// # Errors
/// It cannot be read.
pub(crate) fn judge_to_replicate(world: &World, parsed: &Parsed) -> Result<Judged, Trouble> {
    let mut judged = judge(world, parsed)?;
    // what a file with problems comes to is not all that is in it
    if judged.problems.is_empty() {
        let shown = judged.path.display().to_string();
        let remarks = ready::judge(&judged.config, parsed.given(&flags::EXEC).is_none());
        judged.problems = remarks.iter().map(|remark| remark.shown(&shown)).collect();
    }
    Ok(judged)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    use std::io::ErrorKind;
    if error.kind() == ErrorKind::NotFound {
        return Trouble::new(format!("config file not found: {}", path.display()))
            .hint("name it by -config, or give DB_PATH and REPLICA_URL");
    }
    let trouble =
        Trouble::new(format!("can't read the configuration file {}", path.display())).because(error);
    match error.kind() {
        ErrorKind::IsADirectory => trouble.hint("name the file in it by -config"),
        ErrorKind::PermissionDenied => trouble.hint("let this user read it (chmod, chown)"),
        ErrorKind::InvalidData => trouble.hint("save it as UTF-8 text"),
        ErrorKind::FileTooLarge => trouble.hint("is it a configuration file?"),
        _ => trouble.hint("name another by -config"),
    }
}

/// Judges a configuration file's text; `path` is what the file is called in what is said about it.
fn parse(world: &World, text: &str, path: &Path, expand_env: bool, pick: Pick<'_>) -> Judged {
    let mut notes = Notes::default();
    let lookup = |name: &str| match name {
        "PID" => Some(world.pid.to_string()),
        name => world.env.raw(name).map(str::to_owned),
    };
    let expanded = expand_env.then(|| expand::expand(text, &lookup));
    let defaults = expand_env && text.contains(":-");
    let theirs = defaults.then(|| yaml::parse(&expand::as_litestream(text, &lookup)).ok()).flatten();
    let mut config = match yaml::parse(expanded.as_ref().map_or(text, |expanded| &expanded.text)) {
        Ok(file) => resolve::resolve(world, &file, theirs.as_ref(), pick, &mut notes),
        Err(problem) => {
            notes.problems.push(problem);
            Config::default()
        }
    };
    config.exec_as_written = match &expanded {
        // What is expanded need be no YAML before.
        Some(_) => yaml::parse(text).ok().and_then(|file| said(file.exec.as_ref())),
        None => config.exec.clone(),
    };
    let unset = match &expanded {
        Some(expanded) => bring_back(expanded, &mut config, &mut notes),
        None => Vec::new(),
    };
    // a setting at the file's top may be judged once for each database
    for remarks in [&mut notes.problems, &mut notes.warnings, &mut notes.mapped] {
        remarks.sort();
        remarks.dedup();
    }
    let shown = path.display().to_string();
    let say = |remarks: &[Remark]| remarks.iter().map(|remark| remark.shown(&shown)).collect::<Vec<_>>();
    config.warnings = say(&notes.warnings);
    for elsewhere in databases(&mut config).filter_map(|database| database.elsewhere.as_mut()) {
        elsewhere.warning = elsewhere.remark.shown(&shown);
    }
    config.mapped = say(&notes.mapped);
    let (lacks_keys, problems) = (notes.lacks_keys(), say(&notes.problems));
    Judged { path: path.to_owned(), config, problems, lacks_keys, unset: say(&unset) }
}

/// Every database, and what holds for those of a directory.
fn databases(config: &mut Config) -> impl Iterator<Item = &mut Database> {
    let templates = config.directories.iter_mut().map(|directory| &mut directory.template);
    config.databases.iter_mut().chain(templates)
}

/// Makes places in the expanded text places in the file, and adds what is to be said about variables: it is returned too.
fn bring_back(expanded: &Expanded, config: &mut Config, notes: &mut Notes) -> Vec<Remark> {
    notes.places(|place| expanded.origin(place));
    config.variables = expanded.used.clone();
    config.origins.places(|place| expanded.origin(place));
    for database in databases(config) {
        database.origins.places(|place| expanded.origin(place));
        if let Some(elsewhere) = &mut database.elsewhere {
            elsewhere.remark.place = elsewhere.remark.place.map(|place| expanded.origin(place));
        }
    }
    let unset: Vec<Remark> = expanded
        .unset
        .iter()
        .map(|(name, place)| Remark {
            place: Some(*place),
            text: format!("${name} is not set and was replaced by nothing"),
        })
        .collect();
    notes.warnings.extend(unset.iter().cloned());
    unset
}

fn read(path: &Path) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    let mut text = String::new();
    if file.take(yaml::MAX_FILE + 1).read_to_string(&mut text)? as u64 > yaml::MAX_FILE {
        let reason = format!("it is longer than {} bytes", yaml::MAX_FILE);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
