//! One file per verb, and the way from the arguments to it.

pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod databases;
mod destination;
pub(crate) mod doctor;
mod door;
mod elsewhere;
mod exec;
pub(crate) mod follow;
mod found;
mod held;
pub(crate) mod input;
mod interrupt;
mod lookout;
pub(crate) mod ltx;
mod member;
pub(crate) mod papers;
mod ready;
pub(crate) mod replicate;
pub(crate) mod reset;
pub(crate) mod restore;
pub(crate) mod status;
pub(crate) mod usage;
pub(crate) mod v3;
pub(crate) mod verify;
pub(crate) mod version;
mod watch;

use crate::config::{Config, Database, address};
use crate::flags::{self, Flag, Line, Parsed, help};
use crate::output;
use crate::signals::Abrupt;
use crate::text::time;
use crate::trouble::{Exit, Trouble, without_secrets};
use crate::world::World;
use litekeep_formats::TimestampMs;
use litekeep_store::Store;
use litekeep_store::location::{self, ReplicaUrl, Settings};
use std::sync::Arc;

/// Does what the arguments say and tells what the process ends with; errors are written to stderr here.
pub(crate) fn run(world: &World) -> Exit {
    match dispatch(world) {
        Ok(exit) => exit,
        Err(trouble) => {
            output::talk(&format!("Error: {trouble}"));
            trouble.exit
        }
    }
}

fn dispatch(world: &World) -> Result<Exit, Trouble> {
    let args = world.args.as_ref().map_err(|arg| {
        Trouble::new(format!("the argument {} is not UTF-8", arg.display()))
            .hint("rename what it names, or put it into the configuration")
    })?;
    let Some((name, rest)) = args.split_first() else {
        output::text(&help::overview())?;
        return Ok(Exit::FAILED);
    };
    if matches!(name.as_str(), "help" | "-h" | "-help" | "--h" | "--help") {
        let text = match rest.first().map(String::as_str) {
            Some("exit-codes") => help::exit_codes(),
            Some("help") | None => help::overview(),
            Some(name) => help::verb(find(name)?),
        };
        output::text(&text)?;
        return Ok(Exit::OK);
    }
    let verb = find(name)?;
    match flags::parse(verb, rest)? {
        Line::Help => output::text(&help::verb(verb)).map(|()| Exit::OK),
        Line::Go(parsed) => (verb.run)(world, &parsed),
    }
}

/// The verb of a name.
///
/// # Errors
/// There is none; the nearest is named.
pub(crate) fn find(name: &str) -> Result<&'static flags::Verb, Trouble> {
    flags::verb(name).ok_or_else(|| {
        let trouble = Trouble::new(format!("litekeep {name}: unknown command"));
        match flags::nearest(name, flags::VERBS.iter().map(|verb| verb.name)) {
            Some(near) => trouble.hint(format!("did you mean `litekeep {near}`?")),
            None => trouble.hint("`litekeep help` lists the commands"),
        }
    })
}

/// A replica that an operand names, by URL or by the path of a database in the configuration.
pub(crate) struct Named {
    /// The configured database; `None` for a URL.
    pub(crate) database: Option<Database>,
    /// Where the replica lies.
    pub(crate) replica: Settings,
}

impl Named {
    fn configured(database: Database) -> Self {
        Self { replica: database.replica.clone(), database: Some(database) }
    }
}

/// The database, unless another replica of it is wanted than the one that it has.
fn called(database: Database, wanted: Option<&str>) -> Result<Database, Trouble> {
    match wanted.filter(|name| *name != database.replica_name) {
        None => Ok(database),
        Some(name) => {
            let path = database.path.display();
            Err(Trouble::new(format!("replica \"{name}\" not found for database \"{path}\""))
                .hint(format!("its replica is called {}", database.replica_name)))
        }
    }
}

/// Finds the replica that the operand means.
///
/// # Errors
/// The operand is missing or unusable, or the configuration is.
pub(crate) fn named(world: &World, parsed: &Parsed) -> Result<Named, Trouble> {
    named_by(world, parsed, Keys::Needed)
}

/// As [`named`], where nothing is asked of the replica.
///
/// # Errors
/// See [`named`]; not that keys are missing.
pub(crate) fn named_without_keys(world: &World, parsed: &Parsed) -> Result<Named, Trouble> {
    named_by(world, parsed, Keys::NotNeeded)
}

/// Whether a replica's keys must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    Needed,
    NotNeeded,
}

fn named_by(world: &World, parsed: &Parsed, keys: Keys) -> Result<Named, Trouble> {
    let Some(operand) = parsed.operands.first() else {
        return Err(Trouble::new("database path or replica URL required")
            .hint("name a database that `litekeep databases` lists, or a replica such as s3://BUCKET/PATH"));
    };
    if address(operand).is_some() && !operand.starts_with("sqlite") {
        for flag in [&flags::CONFIG, &flags::REPLICA] {
            if parsed.given(flag).is_some() {
                let what = format!("cannot specify a replica URL and the -{} flag", flag.name);
                return Err(Trouble::new(what).hint(format!("leave -{} away: a URL needs none", flag.name)));
            }
        }
        let replica = url_settings(world, operand)?;
        let replica = if keys == Keys::Needed { with_environment(world, operand, replica)? } else { replica };
        return Ok(Named { database: None, replica });
    }
    let config = match keys {
        Keys::Needed => crate::config::load(world, parsed)?,
        Keys::NotNeeded => crate::config::load_without_keys(world, parsed)?,
    };
    warn(&config);
    let path = world.path(operand);
    let known = config.databases.len();
    match found::at(&config, &path) {
        Some(database) => called(database, parsed.given(&flags::REPLICA)).map(Named::configured),
        None => Err(Trouble::new(format!("database not found in config: {}", path.display()))
            .cause(match known {
                1 => "the configuration lists one database, and this is another".to_owned(),
                known => format!("the configuration lists {known} databases, and this is none of them"),
            })
            .hint("`litekeep databases` lists them; a replica URL needs no configuration")),
    }
}

/// How many of the databases that could be meant are named at most.
const CHOICE: usize = 5;

/// As [`named`]; without an operand, the only database of the configuration, which a directory of it may hold.
///
/// # Errors
/// See [`named`], and a configuration of no database or several.
pub(crate) fn named_or_only(world: &World, parsed: &Parsed) -> Result<Named, Trouble> {
    if !parsed.operands.is_empty() {
        return named(world, parsed);
    }
    let config = crate::config::load(world, parsed)?;
    warn(&config);
    let mut databases = found::databases(&config);
    match (databases.len(), databases.pop()) {
        (1, Some(database)) => called(database, parsed.given(&flags::REPLICA)).map(Named::configured),
        (_, None) if config.directories.is_empty() => {
            Err(Trouble::new("the configuration lists no database")
                .hint("list it under `dbs:`, or name a replica such as s3://BUCKET/PATH"))
        }
        (_, None) => Err(Trouble::new("the directories of the configuration hold no database")
            .hint("name one that was there by its path, or a replica such as s3://BUCKET/PATH")),
        (several, Some(last)) => {
            databases.push(last);
            let first = databases.iter().take(CHOICE).map(|it| it.path.display().to_string());
            let names = first.collect::<Vec<_>>().join(", ");
            let more = if several > CHOICE { ", ..." } else { "" };
            Err(Trouble::new("no database is named")
                .cause(format!("the configuration lists {several} databases"))
                .hint(format!("name one that `litekeep databases` lists ({names}{more}), or a replica URL")))
        }
    }
}

/// A replica URL as settings, with what the environment adds.
///
/// # Errors
/// The URL cannot be used, or keys are missing.
pub(crate) fn replica_url(world: &World, url: &str) -> Result<Settings, Trouble> {
    with_environment(world, url, url_settings(world, url)?)
}

/// What a replica URL itself says.
fn url_settings(world: &World, url: &str) -> Result<Settings, Trouble> {
    if let Some(right) = address(url).filter(|_| !ReplicaUrl::is_url(url)) {
        return Err(Trouble::new(format!("two slashes stand behind the scheme of a replica URL: {right}"))
            .hint("a directory is given by its path: /PATH or ./PATH"));
    }
    let settings = ReplicaUrl::parse(url).map_err(|error| unusable(url, &error))?.into_settings();
    Ok(match settings {
        Settings::Directory(path) => Settings::Directory(world.path(&path.to_string_lossy())),
        settings @ Settings::S3(_) => settings,
    })
}

fn with_environment(world: &World, url: &str, settings: Settings) -> Result<Settings, Trouble> {
    settings
        .with_environment(&|name| world.env.get(name).map(str::to_owned))
        .map_err(|error| unusable(url, &error))
}

fn unusable(url: &str, error: &location::LocationError) -> Trouble {
    let exit = if error.is_about_keys() { restore::UNREACHABLE } else { Exit::FAILED };
    // What would be right, the error says itself.
    Trouble::new(format!("the replica {} can't be used", without_secrets(url))).because(error).exit(exit)
}

/// From now on, and until somebody listens, a signal ends this process at once.
fn abrupt() -> Result<Abrupt, Trouble> {
    Abrupt::begin().map_err(|error| Trouble::new("can't listen for signals").because(&error))
}

/// Opens a replica; nothing is asked of it yet.
///
/// # Errors
/// The settings cannot be used.
pub(crate) fn open(world: &World, settings: &Settings) -> Result<Arc<dyn Store>, Trouble> {
    location::open(settings, Arc::clone(&world.clock), Arc::clone(&world.random)).map_err(|error| {
        Trouble::new(format!("the replica {} can't be opened", settings.location()))
            .because(&error)
            .hint("check its settings and its keys")
    })
}

/// Tells what the configuration asks for in vain, on stderr.
pub(crate) fn warn(config: &Config) {
    for warning in &config.warnings {
        output::talk(&format!("Warning: {warning}"));
    }
}

/// A number of seconds that a flag gives.
///
/// # Errors
/// It is none, or 0.
pub(crate) fn timeout(parsed: &Parsed, flag: &Flag) -> Result<u64, Trouble> {
    let text = parsed.text(flag).unwrap_or_default();
    text.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
        Trouble::new(format!("-{}: `{text}`: timeout must be greater than 0", flag.name))
            .hint("it is a number of seconds")
    })
}

/// A time that a flag gives.
///
/// # Errors
/// It is not RFC 3339.
pub(crate) fn timestamp(parsed: &Parsed, flag: &Flag) -> Result<Option<TimestampMs>, Trouble> {
    let Some(text) = parsed.given(flag) else { return Ok(None) };
    time::parse(text).map(Some).ok_or_else(|| {
        Trouble::new(format!(
            "invalid -{}, must specify in ISO 8601 format (e.g. 2000-01-01T00:00:00Z)",
            flag.name
        ))
        .cause(format!("`{text}` is not a time in it"))
        .hint("`litekeep ltx` lists the times that there are")
    })
}
