//! Those who look afterwards: the API, SQLite on the container's own file, and the official Litestream on the replica.
//!
//! Each reads everything by itself. None of them repairs, retries or filters what it sees.

use crate::api::Api;
use crate::bucket::Place;
use crate::error::DrillError;
use crate::facts::{Post, Seen};
use crate::load::POSTS;
use crate::run::{ANSWER, in_path, said, version};
use crate::shown::shown;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Entries on a page of a list: the API's limit.
const PAGE: usize = 1000;
/// More pages than that are not read.
const PAGES: usize = 10_000;

/// Time for an official program to read everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// An official program that reads replicas of Litestream 0.5.
#[derive(Debug, Clone)]
pub enum Official {
    /// The VFS extension, and a Python that can load it.
    Vfs {
        /// The interpreter.
        python: PathBuf,
        /// The extension.
        library: PathBuf,
    },
    /// The `litestream` command.
    Program(PathBuf),
}

/// Reads everything over HTTP.
///
/// # Errors
/// A request is not answered with 200.
pub async fn by_api(api: &Api, by: String) -> Result<Seen, DrillError> {
    let (posts, total_posts) = list(api, POSTS, "id,title,author,upvotes").await?;
    let (votes, total_votes) =
        list(api, "/api/collections/votes/records", "id,oracle,target_post,value").await?;
    let (oracles, _) = list(api, "/api/collections/oracles/records", "id,karma").await?;
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    Ok(Seen {
        by,
        posts: posts
            .iter()
            .map(|item| Post {
                id: text(item, "id"),
                title: text(item, "title"),
                author: text(item, "author"),
                upvotes: item["upvotes"].as_i64().unwrap_or(-1),
            })
            .collect(),
        votes: votes.iter().map(|item| (text(item, "oracle"), text(item, "target_post"))).collect(),
        karma: oracles.iter().map(|item| (text(item, "id"), item["karma"].as_i64().unwrap_or(-1))).collect(),
        totals: Some((total_posts, total_votes)),
        integrity: None,
    })
}

/// All items of a collection, and how many it says there are.
async fn list(api: &Api, path: &str, fields: &str) -> Result<(Vec<Value>, u64), DrillError> {
    let mut all = Vec::new();
    let mut total = 0;
    for page in 1..=PAGES {
        let mut told =
            api.get(&format!("{path}?perPage={PAGE}&page={page}&fields={fields}&sort=id"), "").await?;
        total = told["totalItems"].as_u64().unwrap_or(0);
        let Value::Array(items) = told["items"].take() else {
            return Err(DrillError::system(format!("{path}: no items in the answer")));
        };
        let last = items.len() < PAGE;
        all.extend(items);
        if last {
            break;
        }
    }
    Ok((all, total))
}

/// Opens a database file with plain SQLite, on a copy, and reads everything.
///
/// # Errors
/// It cannot be read.
pub fn by_file(database: &Path, by: String) -> Result<Seen, DrillError> {
    let failed = |error: &dyn std::fmt::Display| DrillError::system(format!("{by}: {error}"));
    let copy = database.with_file_name("witness.db");
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if name(database).exists() {
            std::fs::copy(name(database), name(&copy)).map_err(|error| failed(&error))?;
        }
    }
    let seen = read(&copy).map_err(|error| failed(&error))?;
    Ok(Seen { by, ..seen })
}

fn read(database: &Path) -> rusqlite::Result<Seen> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let integrity: Vec<String> = connection
        .prepare("PRAGMA integrity_check")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut posts = connection.prepare("SELECT id, title, author, upvotes FROM posts")?;
    let posts = posts.query_map([], |row| {
        Ok(Post { id: row.get(0)?, title: row.get(1)?, author: row.get(2)?, upvotes: row.get(3)? })
    })?;
    let mut votes = connection.prepare("SELECT oracle, target_post FROM votes WHERE value = 1")?;
    let votes = votes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut karma = connection.prepare("SELECT id, karma FROM oracles")?;
    let karma = karma.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Seen {
        by: String::new(),
        posts: posts.collect::<Result<_, _>>()?,
        votes: votes.collect::<Result<_, _>>()?,
        karma: karma.collect::<Result<_, _>>()?,
        totals: None,
        integrity: Some(integrity.join("; ")),
    })
}

impl Official {
    /// What a file is: the extension by its name, else the program.
    ///
    /// # Errors
    /// It is neither, or there is no Python for the extension.
    pub fn at(env: &dyn Fn(&str) -> Option<String>, file: &Path) -> Result<Self, DrillError> {
        let shown = file.display();
        if file.extension().is_some_and(|ending| ending == "so") {
            let needs =
                || DrillError::usage(format!("{shown} needs a python3 whose sqlite3 loads extensions"));
            let python = python(env).ok_or_else(needs)?;
            return Ok(Self::Vfs { python, library: file.to_owned() });
        }
        match version(file) {
            Some(version) if reads_sealed(&version) => Ok(Self::Program(file.to_owned())),
            Some(other) => {
                Err(DrillError::usage(format!("{shown} is {other}, not Litestream 0.5.16 or newer")))
            }
            None => Err(DrillError::usage(format!("{shown} does not say its version within {ANSWER:?}"))),
        }
    }

    /// What is installed: the extension as a package of Python, or in the cache of this repository's tests; else the
    /// program.
    #[must_use]
    pub fn find(env: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let program = || in_path(env, "litestream").and_then(|file| Self::at(env, &file).ok());
        let Some(python) = python(env) else { return program() };
        let asked = "import importlib.util as u; s = u.find_spec('litestream_vfs'); print(s.submodule_search_locations[0])";
        let mut command = std::process::Command::new(&python);
        command.arg("-c").arg(asked).stderr(Stdio::null());
        let package = said(command, ANSWER).map(PathBuf::from);
        let caches = env("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| Some(PathBuf::from(env("HOME")?).join(".cache")));
        let cached = caches.map(|caches| caches.join("litekeep-tests/peers/litestream-vfs-0.5.17"));
        let mut files =
            [package, cached].into_iter().flatten().map(|folder| folder.join("litestream-vfs.so"));
        files.find(|file| file.is_file()).map(|library| Self::Vfs { python, library }).or_else(program)
    }

    /// How it is called in the report.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Vfs { .. } => "the official Litestream VFS",
            Self::Program(_) => "the official Litestream's restore",
        }
    }

    /// Reads everything from the replica.
    ///
    /// # Errors
    /// It cannot, or says that it cannot.
    pub async fn look(&self, place: &Place, folder: &Path) -> Result<Seen, DrillError> {
        let by = self.name().to_owned();
        let mut command;
        let out = folder.join("witness-restore.db");
        match self {
            Self::Vfs { python, library } => {
                command = tokio::process::Command::new(python);
                command.arg("-c").arg(include_str!("look.py")).arg(library);
                command
                    .env_clear()
                    .env("LITESTREAM_REPLICA_URL", &place.url)
                    .env("LITESTREAM_LOG_LEVEL", "ERROR");
            }
            Self::Program(program) => {
                command = tokio::process::Command::new(program);
                command.env_clear().arg("restore").arg("-o").arg(&out).arg(&place.url);
            }
        }
        command.envs(place.environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command.kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .map_err(|_| DrillError::system(format!("{by}: no answer within {} s", PATIENCE.as_secs())))?;
        let output = output.map_err(|error| DrillError::machine(by.clone(), &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or("no word of why").to_owned();
            let last = last.replace(&place.url, &shown(&place.url));
            return Err(DrillError::system(format!("{by}: {}: {last}", output.status)));
        }
        match self {
            Self::Vfs { .. } => parse(&output.stdout, by),
            Self::Program(_) => by_file(&out, by),
        }
    }
}

/// A Python whose SQLite loads extensions; not every build does.
fn python(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let asked = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";
    let loads = |python: &PathBuf| {
        let mut command = std::process::Command::new(python);
        command.arg("-c").arg(asked).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    in_path(env, "python3").into_iter().chain([PathBuf::from("/usr/bin/python3")]).find(loads)
}

/// 0.5.16 is the first that reads our files' pages and follows their chain.
fn reads_sealed(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
        (Some(0), Some(5), patch) => patch.is_some_and(|patch| patch >= 16),
        (Some(major), Some(minor), _) => (major, minor) > (0, 5),
        _ => false,
    }
}

fn parse(json: &[u8], by: String) -> Result<Seen, DrillError> {
    type Rows = (String, Vec<(String, String, String, i64)>, Vec<(String, String)>, Vec<(String, i64)>);
    let mut told: Value =
        serde_json::from_slice(json).map_err(|error| DrillError::system(format!("{by}: {error}")))?;
    let fields = ["integrity", "posts", "votes", "karma"].map(|name| told[name].take());
    let rows: Rows = serde_json::from_value(Value::Array(fields.to_vec()))
        .map_err(|error| DrillError::system(format!("{by}: {error}")))?;
    let (integrity, posts, votes, karma) = rows;
    let posts = posts.into_iter().map(|(id, title, author, upvotes)| Post { id, title, author, upvotes });
    Ok(Seen { by, posts: posts.collect(), votes, karma, totals: None, integrity: Some(integrity) })
}
