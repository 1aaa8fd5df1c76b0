//! `litekeep info`, `list`, `start`, `stop`, `sync`, `register`, `unregister`: what a running `litekeep replicate` is asked
//! over its control socket. They touch no database and no replica themselves.

use crate::config::{address, no_path};
use crate::daemon::control::{self, Changed, Info, List, Patience, Summary, Synced};
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::{duration, time};
use crate::trouble::{Exit, Trouble, without_secrets};
use crate::world::World;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// What the other side needs on top of what it was told to take.
const GRACE: Duration = Duration::from_secs(3);

/// What all of them are told.
struct Line {
    /// As it was given.
    shown: String,
    socket: PathBuf,
    timeout: u64,
    json: bool,
    /// The database, absolute.
    path: String,
}

impl Line {
    fn of(world: &World, parsed: &Parsed, timeout: &flags::Flag) -> Result<Self, Trouble> {
        let timeout = super::timeout(parsed, timeout)?;
        let shown = parsed.text(&flags::SOCKET).unwrap_or_default().to_owned();
        let path = match parsed.operands.first() {
            None => PathBuf::new(),
            Some(path) => match no_path(path) {
                None => world.path(path),
                Some(why) => return Err(Trouble::new(format!("the database: {why}"))),
            },
        };
        Ok(Self {
            socket: world.path(&shown),
            shown,
            timeout,
            json: parsed.on(&flags::JSON),
            path: path.display().to_string(),
        })
    }

    /// The same for a verb that needs a database.
    fn of_database(world: &World, parsed: &Parsed, verb: &str) -> Result<Self, Trouble> {
        if parsed.operands.is_empty() {
            let trouble = Trouble::new("database path required");
            return Err(trouble.hint(format!("litekeep {verb} /path/to/db")));
        }
        Self::of(world, parsed, &flags::TIMEOUT)
    }

    fn ask<A: for<'de> Deserialize<'de>>(
        &self,
        verb: &str,
        method: &str,
        body: &impl Serialize,
    ) -> Result<A, Trouble> {
        // A look is answered at once; the others wait for the database, on the other side.
        let grace = if method == "GET" { Duration::ZERO } else { GRACE };
        control::ask(
            &self.socket,
            verb,
            method,
            body,
            Patience { limit: Duration::from_secs(self.timeout), grace },
        )
    }

    /// Prints rows of a name and a value, or the same as JSON.
    fn print(&self, value: &impl Serialize, rows: &[(&str, String)]) -> Result<Exit, Trouble> {
        if self.json {
            output::json(value)?;
        } else {
            let lines: String = rows.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            output::text(&lines)?;
        }
        Ok(Exit::OK)
    }
}

/// Tells which daemon it is.
pub(crate) fn info(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let line = Line::of(world, parsed, &flags::SHORT_TIMEOUT)?;
    let info: Info = line.ask("info", "GET", &json!({}))?;
    if line.json {
        output::json(&info)?;
        return Ok(Exit::OK);
    }
    let Info { version, pid, uptime_seconds, started_at, database_count } = &info;
    let (uptime, started) =
        (duration::go(Duration::from_secs(*uptime_seconds)), time::whole_seconds(started_at));
    output::text(&format!(
        "litekeep {version}\n  PID:        {pid}\n  Uptime:     {uptime}\n  Started at: {started}\n  \
         Databases:  {database_count}\n"
    ))?;
    Ok(Exit::OK)
}

/// Lists the daemon's databases.
pub(crate) fn list(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let line = Line::of(world, parsed, &flags::SHORT_TIMEOUT)?;
    let list: List = line.ask("list", "GET", &json!({}))?;
    if line.json {
        output::json(&list)?;
        return Ok(Exit::OK);
    }
    if list.databases.is_empty() {
        output::text("No databases configured\n")?;
    }
    for Summary { path, status, last_sync_at } in list.databases {
        let last = last_sync_at.map_or_else(|| "never".to_owned(), |at| time::whole_seconds(&at));
        output::text(&format!("{path} [{status}] (last sync: {last})\n"))?;
    }
    Ok(Exit::OK)
}

#[derive(Serialize)]
struct State<'a> {
    status: &'a str,
    db_path: &'a str,
    state: &'a str,
    txid: u64,
    socket: &'a str,
}

/// Starts a database that was stopped.
pub(crate) fn start(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    if parsed.operands.is_empty() {
        output::talk(
            "Note: `litekeep start` is for one database of a running daemon; `litekeep replicate` starts the daemon.",
        );
    }
    change(&Line::of_database(world, parsed, "start")?, "start", "running")
}

/// Stops a database after its last sync.
pub(crate) fn stop(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    change(&Line::of_database(world, parsed, "stop")?, "stop", "stopped")
}

fn change(line: &Line, verb: &str, state: &str) -> Result<Exit, Trouble> {
    let body = json!({"path": line.path, "timeout": line.timeout});
    let Changed { status, path, txid } = line.ask(verb, "POST", &body)?;
    let value = State { status: &status, db_path: &path, state, txid, socket: &line.shown };
    let rows = [
        ("status", status.clone()),
        ("db_path", path.clone()),
        ("state", state.to_owned()),
        ("txid", txid.to_string()),
        ("socket", line.shown.clone()),
    ];
    line.print(&value, &rows)
}

#[derive(Serialize)]
struct Sync<'a> {
    db_path: &'a str,
    txid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica_txid: Option<u64>,
    duration_ms: u128,
}

/// Syncs a database; with `-wait` it is in the bucket then.
pub(crate) fn sync(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let line = Line::of_database(world, parsed, "sync")?;
    let wait = parsed.on(&flags::WAIT);
    let body = json!({"path": line.path, "wait": wait, "timeout": line.timeout});
    let began = world.clock.boot();
    let synced: Synced = line.ask("sync", "POST", &body)?;
    let duration_ms = world.clock.boot().saturating_sub(began).as_millis();
    let replica_txid = wait.then_some(synced.replicated_txid);
    let mut rows = vec![("db_path", synced.path.clone()), ("txid", synced.txid.to_string())];
    rows.extend(replica_txid.map(|txid| ("replica_txid", txid.to_string())));
    rows.push(("duration_ms", duration_ms.to_string()));
    line.print(&Sync { db_path: &synced.path, txid: synced.txid, replica_txid, duration_ms }, &rows)
}

#[derive(Serialize)]
struct Registered<'a> {
    status: &'a str,
    db_path: &'a str,
    replica: &'a str,
    socket: &'a str,
}

/// Has a database replicated until the daemon ends.
pub(crate) fn register(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let line = Line::of_database(world, parsed, "register -replica s3://bucket/path")?;
    let Some(url) = parsed.given(&flags::REPLICA_URL).filter(|url| !url.is_empty()) else {
        let trouble = Trouble::new("-replica is required");
        return Err(trouble.hint("litekeep register -replica s3://bucket/path /path/to/db"));
    };
    let url = replica(world, url);
    let body = json!({"path": line.path, "replica_url": url});
    let Changed { status, path, .. } = line.ask("register", "POST", &body)?;
    let replica = without_secrets(&url);
    let value = Registered { status: &status, db_path: &path, replica: &replica, socket: &line.shown };
    let rows = [
        ("status", status.replace('_', " ")),
        ("db_path", path.clone()),
        ("replica", replica.clone()),
        ("socket", line.shown.clone()),
    ];
    line.print(&value, &rows)
}

/// A replica in a directory by its absolute path: the daemon has another working directory, and maybe another home. A URL
/// means the same to both.
fn replica(world: &World, given: &str) -> String {
    match address(given) {
        Some(_) => given.to_owned(),
        None => world.path(given).display().to_string(),
    }
}

#[derive(Serialize)]
struct Unregistered<'a> {
    status: &'a str,
    db_path: &'a str,
    final_txid: u64,
    socket: &'a str,
}

/// Stops a database after its last sync and takes it off the daemon's list.
pub(crate) fn unregister(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let line = Line::of_database(world, parsed, "unregister")?;
    if parsed.on(&flags::UNREGISTER_DRY_RUN) {
        let Line { path, shown, timeout, .. } = &line;
        output::text(&format!(
            "Dry run: unregister request preview\n  database: {path}\n  socket: {shown}\n  \
             replicas: the one that the daemon has for it\n  final sync: made before the command ends\n  \
             timeout: {timeout}s\nNo unregister request was sent.\n"
        ))?;
        return Ok(Exit::OK);
    }
    let body = json!({"path": line.path, "timeout": line.timeout});
    let Changed { status, path, txid } = line.ask("unregister", "POST", &body)?;
    let value = Unregistered { status: &status, db_path: &path, final_txid: txid, socket: &line.shown };
    let rows = [
        ("status", status.clone()),
        ("db_path", path.clone()),
        ("final_txid", txid.to_string()),
        ("socket", line.shown.clone()),
    ];
    line.print(&value, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::world;

    #[test]
    fn a_replica_that_is_no_url_is_a_path_of_the_commands_own() {
        let world = world(&[("HOME", "/home/ada")]);
        for (given, sent) in [
            ("./backup", "/work/backup"),
            ("../a%20b", "/a%20b"),
            ("~/backup", "/home/ada/backup"),
            ("/backup", "/backup"),
            ("file:///backup", "file:///backup"),
            ("s3://b/p?region=r", "s3://b/p?region=r"),
            ("s3:/b/p", "s3:/b/p"),
            ("gopher://x", "gopher://x"),
        ] {
            assert_eq!(replica(&world, given), sent, "{given}");
        }
    }
}
