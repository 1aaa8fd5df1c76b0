//! The control socket: Litestream's paths and JSON over a Unix socket.
//!
//! Who may open the socket may stop backups and read any file that litekeep can read: its mode is its only protection, and
//! it has that mode from its first moment on.

use super::fleet::{Done, Fleet, Refused};
use super::folder::Dismissed;
use super::http::{self, Listener, Listens, Request, Response};
use super::member::{Member, SyncFailed};
use super::phase::Phase;
use crate::config::{Database, Socket, entangled, no_path};
use crate::text::time;
use crate::trouble::Trouble;
use crate::verbs;
use litekeep::error::KeepError;
use litekeep::files::{FileId, Files as _, RealFiles};
use litekeep::replicator::Health;
use litekeep_formats::{TimestampMs, Txid};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is waited for where a request does not say.
const TIMEOUT: u64 = 30;
/// The longest that anybody may wait.
const LONGEST: u64 = 24 * 60 * 60;
/// How long a sync without `wait` looks whether it is done all the same.
const MOMENT: Duration = Duration::from_secs(1);

/// How long a start waits to be taken by whoever listens on the socket.
const TAKEN: Duration = Duration::from_secs(2);

/// How many connections may wait to be taken.
const BACKLOG: i32 = 128;

/// A bound socket; its file goes when this does.
pub(crate) struct Bound {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// The file that is ours.
    file: Option<FileId>,
}

impl Bound {
    /// Binds the socket. One that nobody listens on is replaced.
    ///
    /// # Errors
    /// Something else is at its path, another process listens there, nobody knows whether one does, or the file system says
    /// no.
    pub(crate) fn bind(socket: &Socket) -> io::Result<Self> {
        let path = &socket.path;
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket"));
            }
            Ok(_) => match connect(path, TAKEN) {
                Ok(_) => {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let text = "another process listens there, and takes no connection";
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
                }
                // The system's word that its process is gone; any other trouble is ours, and says nothing about it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = Self::listen(path)?;
        let file = RealFiles.id(path)?;
        let bound = Self { listener: Some(listener), path: path.clone(), file };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(socket.permissions))?;
        Ok(bound)
    }

    /// For nobody at first: between the bind and the chmod anybody could connect. On Linux the file gets the socket's own
    /// mode. Elsewhere it takes the process's mask, which is for all that is created meanwhile.
    fn listen(path: &Path) -> io::Result<UnixListener> {
        use rustix::net::{
            AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let mask = |mode| rustix::process::umask(mode);
        let before = rustix::fs::fchmod(&socket, Mode::empty())
            .err()
            .map(|_| mask(Mode::RWXU | Mode::RWXG | Mode::RWXO));
        let bound = bind(&socket, &SocketAddrUnix::new(path)?);
        before.map(mask);
        bound?;
        listen(&socket, BACKLOG)?;
        Ok(socket.into())
    }

    /// Serves commands from now on.
    ///
    /// # Errors
    /// No thread is to be had.
    pub(crate) fn serve(&mut self, control: Control) -> io::Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let answer = move |request: &Request, listens: Listens<'_>| control.answer(request, listens);
        http::serve("control", Listener::Unix(listener), Arc::new(answer))?;
        tracing::info!(path = %self.path.display(), "control socket listening");
        Ok(())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another process may have put its own there meanwhile.
        if self.file.is_some() && RealFiles.id(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What answers.
pub(crate) struct Control {
    fleet: Arc<Fleet>,
    started: TimestampMs,
    /// The same, on the clock that does not jump.
    since: Duration,
    dismissed: Dismissed,
}

/// Most requests' bodies.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    path: String,
    timeout: Option<u64>,
    wait: bool,
    replica_url: String,
}

/// What `/start`, `/stop` and `/unregister` answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// What was done.
    pub(crate) status: String,
    /// To which database.
    pub(crate) path: String,
    /// Its newest transaction in the replica; 0 if there is none.
    #[serde(default)]
    pub(crate) txid: u64,
}

/// What `/sync` answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Synced {
    /// `synced`, `synced_local` or `no_change`.
    pub(crate) status: String,
    /// Which database.
    pub(crate) path: String,
    /// Its newest transaction.
    pub(crate) txid: u64,
    /// The replica's newest transaction.
    pub(crate) replicated_txid: u64,
}

/// What `/info` answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Info {
    /// litekeep's.
    pub(crate) version: String,
    /// Of the process.
    pub(crate) pid: u32,
    /// Since its start.
    pub(crate) uptime_seconds: u64,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// How many databases it has, stopped ones among them.
    pub(crate) database_count: usize,
}

/// What `/list` answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct List {
    /// By path.
    pub(crate) databases: Vec<Summary>,
}

/// One database of the list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The database's.
    pub(crate) path: String,
    /// `replicating`, `open` or `stopped`.
    pub(crate) status: String,
    /// When its replica last took something, or was seen to hold the newest transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_sync_at: Option<String>,
}

/// What goes wrong.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// What.
    pub(crate) error: String,
    /// Why, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<String>,
}

#[derive(Serialize)]
struct Position {
    txid: u64,
}

#[derive(Serialize)]
struct Phases {
    databases: Vec<Phase>,
}

/// A TXID as JSON has it: 0 for none.
pub(super) fn number(txid: Option<Txid>) -> u64 {
    txid.map_or(0, Txid::get)
}

fn json(status: u16, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            Response { status, kind: "application/json", body }
        }
        Err(error) => Response::text(500, format!("{error}\n")),
    }
}

fn failed(status: u16, error: impl Into<String>, details: Option<String>) -> Response {
    json(status, &Failed { error: error.into(), details })
}

fn refused(why: Refused, unknown: u16) -> Response {
    match why {
        Refused::Unknown(path) => failed(unknown, format!("database not found: {}", path.display()), None),
        Refused::NotOpen => failed(409, "database is not open: it was stopped", None),
        Refused::Differs(text) => failed(409, text, None),
        Refused::Unheard => failed(500, "nobody waits for this answer", None),
        Refused::Failed(trouble) => {
            let (what, why) = trouble.parts();
            failed(500, what, why)
        }
    }
}

impl Control {
    /// Takes commands for this fleet; what is unregistered is noted as dismissed.
    pub(crate) fn new(fleet: &Arc<Fleet>, dismissed: Dismissed) -> Self {
        let clock = fleet.clock();
        let (started, since) = (clock.wall(), clock.boot());
        Self { fleet: Arc::clone(fleet), started, since, dismissed }
    }

    fn answer(&self, request: &Request, listens: Listens<'_>) -> Response {
        match (request.method().as_str(), request.uri().path()) {
            ("GET", "/info") => self.info(),
            ("GET", "/list") => self.list(),
            ("GET", "/txid") => self.txid(request),
            ("GET", "/debug/sync-status") => self.phases(request),
            ("POST", "/start") => self.with_body(request, |asked, path| self.start(asked, path, listens)),
            ("POST", "/stop") => self.with_body(request, |asked, path| self.stop(asked, path, listens)),
            ("POST", "/sync") => self.with_body(request, |asked, path| self.sync(asked, path, listens)),
            ("POST", "/register") => self.with_body(request, |asked, path| self.register(asked, path)),
            ("POST", "/unregister") => {
                self.with_body(request, |asked, path| self.unregister(asked, path, listens))
            }
            (
                _,
                "/info" | "/list" | "/txid" | "/debug/sync-status" | "/start" | "/stop" | "/sync"
                | "/register" | "/unregister",
            ) => failed(405, "method not allowed", None),
            _ => failed(404, "there is no such path", None),
        }
    }

    fn with_body(&self, request: &Request, work: impl FnOnce(&Asked, &Path) -> Response) -> Response {
        let asked: Asked = match serde_json::from_slice(request.body()) {
            Ok(asked) => asked,
            Err(error) => return failed(400, "invalid request body", Some(error.to_string())),
        };
        if asked.path.is_empty() {
            return failed(400, "path required", None);
        }
        match no_path(&asked.path) {
            None => work(&asked, &self.fleet.world().path(&asked.path)),
            Some(why) => failed(400, format!("path: {why}"), None),
        }
    }

    fn info(&self) -> Response {
        let uptime = self.fleet.clock().boot().saturating_sub(self.since);
        json(
            200,
            &Info {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: self.fleet.world().pid,
                uptime_seconds: uptime.as_secs(),
                started_at: time::format(self.started),
                database_count: self.fleet.members().len(),
            },
        )
    }

    fn list(&self) -> Response {
        let summary = |member: &Arc<Member>| Summary {
            path: member.database.path.display().to_string(),
            status: member.view(&**self.fleet.clock()).state().to_owned(),
            last_sync_at: member.book.last_success().map(time::format),
        };
        json(200, &List { databases: self.fleet.members().iter().map(summary).collect() })
    }

    fn txid(&self, request: &Request) -> Response {
        let Some(path) = http::parameter(request, "path").filter(|path| !path.is_empty()) else {
            return failed(400, "path required", None);
        };
        match self.fleet.find(&self.fleet.world().path(&path)) {
            Ok(member) => {
                let txid = number(member.view(&**self.fleet.clock()).status.built);
                json(200, &Position { txid })
            }
            Err(why) => refused(why, 404),
        }
    }

    fn phases(&self, request: &Request) -> Response {
        let members = match http::parameter(request, "path").filter(|path| !path.is_empty()) {
            None => self.fleet.members(),
            Some(path) => match self.fleet.find(&self.fleet.world().path(&path)) {
                Ok(member) => vec![member],
                Err(why) => return refused(why, 404),
            },
        };
        let clock = &**self.fleet.clock();
        let phase = |member: &Arc<Member>| {
            Phase::of(member.database.path.display().to_string(), &member.view(clock), clock)
        };
        json(200, &Phases { databases: members.iter().map(phase).collect() })
    }

    fn start(&self, asked: &Asked, path: &Path, listens: Listens<'_>) -> Response {
        let done = match self.fleet.start(path) {
            Ok(done) => done,
            Err(why) => return refused(why, 500),
        };
        // The answer tells the transaction that it goes on from; a look at the replica may take its time.
        let txid = self.fleet.find(path).ok().and_then(|member| {
            let keeper = member.keeper()?;
            let until = self.fleet.clock().boot() + seconds(asked.timeout);
            loop {
                let status = keeper.status();
                if status.built.is_some() || status.trouble.is_some() || keeper.ended() {
                    return status.built;
                }
                if status.health != Health::Starting || self.fleet.clock().boot() >= until || !listens() {
                    return None;
                }
                self.fleet.clock().sleep(Duration::from_millis(10));
            }
        });
        changed(if done == Done::Now { "started" } else { "already_running" }, path, txid)
    }

    fn stop(&self, asked: &Asked, path: &Path, listens: Listens<'_>) -> Response {
        match self.fleet.stop(path, seconds(asked.timeout), listens) {
            Ok((Done::Now, txid)) => changed("stopped", path, txid),
            Ok((Done::Before, txid)) => changed("already_stopped", path, txid),
            Err(why) => refused(why, 500),
        }
    }

    fn sync(&self, asked: &Asked, path: &Path, listens: Listens<'_>) -> Response {
        let synced = self.fleet.find(path).and_then(|member| {
            let clock = &**self.fleet.clock();
            let before = member.view(clock).status.durable;
            let done = member.sync_while(if asked.wait { seconds(asked.timeout) } else { MOMENT }, listens);
            let status = member.view(clock).status;
            let name = match done {
                Ok(durable) if durable == before => "no_change",
                Ok(_) => "synced",
                Err(SyncFailed::NotOpen) => return Err(Refused::NotOpen),
                Err(SyncFailed::Keep(KeepError::Timeout(_))) if !asked.wait && status.trouble.is_none() => {
                    // Only then was what was committed before taken, or is about to be.
                    if status.health != Health::Good {
                        return Err(Refused::Differs(format!("{} is not open yet", path.display())));
                    }
                    "synced_local"
                }
                Err(SyncFailed::Keep(error)) => {
                    let what = format!("can't sync {}", path.display());
                    let error = status.failure.or(status.trouble).unwrap_or_else(|| Arc::new(error));
                    return Err(verbs::replicate::keep_trouble(&what, &error).into());
                }
            };
            Ok(Synced {
                status: name.to_owned(),
                path: path.display().to_string(),
                txid: number(status.built),
                replicated_txid: number(status.durable),
            })
        });
        match synced {
            Ok(synced) => json(200, &synced),
            Err(why) => refused(why, 404),
        }
    }

    fn register(&self, asked: &Asked, path: &Path) -> Response {
        if asked.replica_url.is_empty() {
            return failed(400, "replica_url required", None);
        }
        let replica = match verbs::replica_url(self.fleet.world(), &asked.replica_url) {
            Ok(replica) => replica,
            Err(trouble) => {
                let (what, why) = trouble.parts();
                return failed(400, what, why);
            }
        };
        let mut database = Database::of(path.to_owned(), replica);
        if let Some(why) = entangled(&database) {
            return failed(400, why, None);
        }
        // What is open here already was looked at before; closing it once more would give its locks up.
        if let Some(Err(trouble)) = self.fleet.look_into(path, verbs::input::check) {
            let (what, why) = trouble.parts();
            return failed(400, what, why);
        }
        database.settings.outlast_refusal = true;
        match self.fleet.add(database) {
            Ok(Done::Now) => changed("registered", path, None),
            Ok(Done::Before) => changed("already_registered", path, None),
            Err(why) => refused(why, 500),
        }
    }

    fn unregister(&self, asked: &Asked, path: &Path, listens: Listens<'_>) -> Response {
        // Before it goes: else a look at its directory in between would take it up again.
        let noted = self.dismissed.add(path);
        match self.fleet.remove(path, seconds(asked.timeout), listens) {
            Ok((Done::Now, txid)) => changed("unregistered", path, txid),
            Ok((Done::Before, _)) => changed("already_unregistered", path, None),
            Err(why) => {
                // Whoever does not wait for it any more has it go all the same.
                if noted && !matches!(why, Refused::Unheard) {
                    self.dismissed.take_back(path);
                }
                refused(why, 500)
            }
        }
    }
}

fn changed(status: &str, path: &Path, txid: Option<Txid>) -> Response {
    let path = path.display().to_string();
    json(200, &Changed { status: status.to_owned(), path, txid: number(txid) })
}

/// 0 is the default, as in Litestream, whose requests can't tell it from nothing; here it is told.
fn seconds(timeout: Option<u64>) -> Duration {
    if timeout == Some(0) {
        tracing::info!(
            timeout = TIMEOUT,
            "a request's timeout of 0 is taken as the default, as in Litestream"
        );
    }
    Duration::from_secs(timeout.filter(|seconds| *seconds > 0).unwrap_or(TIMEOUT).min(LONGEST))
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// What the other side was told to take, or may take.
    pub(crate) limit: Duration,
    /// What it needs on top, to say that it was not enough.
    pub(crate) grace: Duration,
}

impl Patience {
    /// What came of it.
    fn in_vain(self) -> Trouble {
        let Self { limit, grace } = self;
        let more = if grace.is_zero() {
            String::new()
        } else {
            format!(", nor in the {} s that it may take to say so", grace.as_secs())
        };
        Trouble::new(format!("no answer within {} s{more}", limit.as_secs()))
    }
}

/// Asks the daemon behind a socket.
///
/// # Errors
/// Nobody listens there, there is no answer in time, or it is an error.
pub(crate) fn ask<A: for<'de> Deserialize<'de>>(
    socket: &Path,
    verb: &str,
    method: &str,
    body: &impl Serialize,
    patience: Patience,
) -> Result<A, Trouble> {
    let failed_to = |error: &io::Error| {
        let what = format!("failed to connect to control socket {}", socket.display());
        let trouble = Trouble::new(what).because(error);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => trouble.hint(
                "no `litekeep replicate` listens there: its configuration needs `socket: {enabled: true}`, and -socket its \
                 path",
            ),
            io::ErrorKind::PermissionDenied => {
                trouble.hint("run this as the user that runs litekeep, or set `socket: permissions`")
            }
            _ => trouble.hint("-socket names the socket of the `litekeep replicate` that is meant"),
        }
    };
    let body = serde_json::to_vec(body)
        .map_err(|error| Trouble::new("can't spell the request as JSON").because(&error))?;
    let limit = patience.limit.saturating_add(patience.grace);
    let asked =
        connect(socket, limit).and_then(|stream| http::ask(stream, method, &format!("/{verb}"), body, limit));
    let (status, answer) = asked.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => patience.in_vain().hint(format!(
            "whoever listens at {} is busy, stopped, or hangs; -timeout gives it more time",
            socket.display()
        )),
        _ => failed_to(&error),
    })?;
    if status == 200 {
        return serde_json::from_slice(&answer)
            .map_err(|error| Trouble::new(format!("{verb}: the answer can't be read")).because(&error));
    }
    Err(match serde_json::from_slice::<Failed>(&answer) {
        Ok(Failed { error, details: Some(details) }) => {
            Trouble::new(format!("{verb} failed: {error}")).cause(details)
        }
        Ok(Failed { error, details: None }) => {
            Trouble::new(format!("{verb} failed: {error}")).hint("`litekeep list` shows what the daemon has")
        }
        Err(_) => Trouble::new(format!("{verb} failed: {}", String::from_utf8_lossy(&answer).trim())),
    })
}

/// Connects within a time, else it is [`io::ErrorKind::WouldBlock`]: who listens and takes nobody, such as a stopped process,
/// lets all wait who come after its backlog. Linux holds a connect to the limit of sends; elsewhere it is refused at once.
fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let address = SocketAddrUnix::new(path)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit.min(Duration::from_secs(LONGEST))))?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::daemon::folder::tests::directory;
    use crate::daemon::guest::Watched;
    use crate::world::tests::world;
    use std::os::unix::net::UnixDatagram;
    use std::sync::Weak;

    #[test]
    fn what_stays_on_the_list_is_not_noted_as_dismissed() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = directory(dir.path());
        let [guest, other] = ["a.db", "b.db"].map(|name| dir.path().join(name));
        for path in [&guest, &other] {
            std::fs::write(path, "").expect("written");
        }
        let fleet = Fleet::new(Arc::new(world(&[])), |_| {});
        // A command uses it: only that can stop it.
        let taken = fleet.guest(Database { path: guest.clone(), ..folder.template.clone() });
        taken.expect("taken in").entrust(Watched(Weak::new()));
        let dismissed = Dismissed::of(&Config { directories: vec![folder], ..Config::default() });
        let control = Control::new(&fleet, dismissed.clone());
        for (path, status, noted) in [(&guest, 409, false), (&other, 200, true)] {
            let response = control.unregister(&Asked::default(), path, &|| true);
            assert_eq!((response.status, dismissed.holds(path)), (status, noted), "{}", path.display());
        }
    }

    fn socket(path: &Path) -> Socket {
        Socket { enabled: true, path: path.to_owned(), permissions: 0o600 }
    }

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("l.sock");
        let is_there = || path.symlink_metadata().is_ok();
        // It is alive, though nobody can connect to it in this way.
        let alive = UnixDatagram::bind(&path).expect("bound");
        Bound::bind(&socket(&path)).err().expect("an error");
        assert!(is_there());
        drop(alive);
        std::fs::remove_file(&path).expect("removed");
        drop(UnixListener::bind(&path).expect("bound"));
        drop(Bound::bind(&socket(&path)).expect("a dead one is replaced"));
        assert!(!is_there());
    }

    #[test]
    fn a_socket_that_another_process_has_put_there_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("l.sock");
        let ours = Bound::bind(&socket(&path)).expect("bound");
        std::fs::rename(&path, dir.path().join("aside")).expect("renamed");
        let theirs = Bound::bind(&socket(&path)).expect("bound");
        drop(ours);
        UnixStream::connect(&path).expect("it is still there");
        drop(theirs);
        assert!(path.symlink_metadata().is_err());
    }

    #[test]
    fn a_socket_is_for_nobody_until_it_has_its_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("l.sock");
        let _listener = Bound::listen(&path).expect("bound");
        assert_eq!(path.symlink_metadata().expect("a file").permissions().mode() & 0o777, 0);
    }
}
