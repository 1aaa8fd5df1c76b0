//! The real PocketBase and the server under test as child processes on ports that the system chooses.
//!
//! Both are stopped when dropped. A server's address is known once it listens; nothing is sent before.

use super::http::{Answer, Request, send};
use super::{ADMIN, repository, variable, wait_for, witness};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server, or the address of one that somebody else runs.
pub(crate) struct Server {
    child: Option<Child>,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Sends a request with a JSON body (none for `Null`) and an Authorization header (none when empty).
    pub(crate) fn call(&self, method: &str, target: &str, token: &str, body: &Value) -> Answer {
        let mut headers = Vec::new();
        if !token.is_empty() {
            headers.push(("Authorization".to_owned(), token.to_owned()));
        }
        let body = (!body.is_null()).then(|| body.to_string().into_bytes());
        if body.is_some() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        send(self.address, &Request { method: method.to_owned(), target: target.to_owned(), headers, body })
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_child(&child);
            kill_process(pid, Signal::TERM).expect("the server was asked to end");
            wait_for("the server to end", || child.try_wait().expect("a child"));
        }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The reference: its program, its schema and its hooks.
pub(crate) struct PocketBase {
    program: PathBuf,
}

impl PocketBase {
    /// The one that the tests were given; without one the test is left out, but never in CI.
    pub(crate) fn found(test: &str) -> Option<Self> {
        Some(Self { program: witness("LITEKEEP_TEST_POCKETBASE", test)? })
    }

    /// Creates a database with the schema of the reference and the superuser of the tests.
    pub(crate) fn prepare(&self, data: &Path) {
        let mut command = self.command(data);
        command.args(["superuser", "upsert", ADMIN.0, ADMIN.1]);
        let output = command.output().expect("PocketBase could be started");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("Successfully saved superuser"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Serves a database.
    pub(crate) fn serve(&self, data: &Path) -> Server {
        let mut command = self.command(data);
        command.args(["serve", "--http=127.0.0.1:0", "--hooksWatch=false"]);
        command.arg(format!("--hooksDir={}", fixtures().join("pb_hooks").display()));
        let (mut child, log) = spawn(command, &data.with_extension("log"));
        // It prints the port that it was asked for, which is 0, and not the one that it got.
        let port = wait_for("PocketBase to listen", || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("PocketBase ended with {status}: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            listening_port(child.id())
        });
        let server = Server { child: Some(child), log, address: (Ipv4Addr::LOCALHOST, port).into() };
        wait_for("PocketBase to be healthy", || {
            (server.call("GET", "/api/health", "", &Value::Null).status == 200).then_some(())
        });
        server
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("--dir={}", data.display())).arg("--automigrate=false");
        command.arg(format!("--migrationsDir={}", fixtures().join("pb_migrations").display()));
        command
    }
}

/// The server under test on a database, with a replica beside it.
pub(crate) fn oraclenet(data: &Path) -> Server {
    if let Some(url) = variable("ORACLENET_TEST_SERVER") {
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_socket_addrs();
        let address =
            address.ok().and_then(|mut all| all.next()).unwrap_or_else(|| panic!("not an address: {url}"));
        return Server { child: None, log: PathBuf::new(), address };
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_oraclenet"));
    command.args(["serve", "--http", "127.0.0.1:0", "--rate-limits", "off", "--dir"]).arg(data);
    command.arg("--replica").arg(format!("file://{}", data.with_extension("replica").display()));
    command.env("ORACLENET_SUPERUSER_EMAIL", ADMIN.0).env("ORACLENET_SUPERUSER_PASSWORD", ADMIN.1);
    let (mut child, log) = spawn(command, &data.with_extension("log"));
    let address = wait_for("the server to say where it listens", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if let Some(status) = child.try_wait().expect("a child") {
            panic!("the server ended with {status}: {said}");
        }
        let line = said.lines().find_map(|line| line.split_once("Server started at http://"))?.1;
        line.split_whitespace().next()?.parse().ok()
    });
    Server { child: Some(child), log, address }
}

/// Schema and hooks of the reference.
fn fixtures() -> PathBuf {
    repository().join("fixtures/pocketbase")
}

/// Starts a program with all that it says in one file.
fn spawn(mut command: Command, log: &Path) -> (Child, PathBuf) {
    let file = File::create(log).expect("a log");
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log twice")).stderr(file);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (child, log.to_owned())
}

/// The TCP port on which a process listens, from the tables of the Linux kernel.
fn listening_port(pid: u32) -> Option<u16> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            sockets.push(inode.to_owned());
        }
    }
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        // sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode; state 0A listens.
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let ours = *state == "0A" && sockets.iter().any(|socket| socket == inode);
        let port = local.split_once(':')?.1;
        ours.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    })
}
