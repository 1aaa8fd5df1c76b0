//! The programs that the tests ask as witnesses: real Litestreams, a Python with its own SQLite, a real Ceph gateway.
//!
//! They are fetched by scripts and handed to the tests as environment variables. What is missing is named, with the
//! reason; whether that is an error is the caller's decision.

use crate::Machine;
use crate::stage::read;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Program and the variable by which the tests find it.
const FETCHED: [(&str, &str); 4] = [
    ("litestream-0.3.13", "LITEKEEP_TEST_LITESTREAM_0_3_13"),
    ("litestream-0.5.15", "LITEKEEP_TEST_LITESTREAM_0_5_15"),
    ("litestream-0.5.17", "LITEKEEP_TEST_LITESTREAM_0_5_17"),
    ("litestream-vfs-0.5.17", "LITEKEEP_TEST_LITESTREAM_VFS"),
];

/// A Python will do if its SQLite can load an extension: the VFS is one.
const PYTHON_CHECK: &str = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";

/// The witnesses of one run.
pub(crate) struct Peers {
    environment: Vec<(String, String)>,
    missing: Vec<(String, String)>,
}

impl Peers {
    /// Fetches what is not in the cache yet.
    pub(crate) fn fetch(machine: &Machine) -> Self {
        let mut peers = Self { environment: Vec::new(), missing: Vec::new() };
        for (name, variable) in FETCHED {
            let mut script = machine.command(machine.root.join("scripts/fetch-peer"));
            match read(script.arg(&machine.cache).arg(name)) {
                Ok(path) => peers.found(variable, path.trim()),
                Err(reason) => peers.lacks(name, &reason),
            }
        }
        let python = ["/usr/bin/python3", "python3"].into_iter().find(|python| {
            let mut command = Command::new(python);
            command.args(["-c", PYTHON_CHECK]).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        });
        match python {
            Some(python) => peers.found("LITEKEEP_TEST_PYTHON", python),
            None => peers.lacks("python3", "none whose sqlite3 module can load extensions"),
        }
        peers
    }

    /// Waits for the gateway and takes its addresses; what is given back stops it when dropped.
    pub(crate) fn take_gateway(&mut self, mut gateway: Gateway) -> Gateway {
        match gateway.wait() {
            Ok(settings) => {
                for (key, value) in settings {
                    println!("ceph: {key}={}", if key.contains("SECRET") { "..." } else { value.as_str() });
                    self.found(&format!("LITEKEEP_TEST_{key}"), &value);
                }
            }
            Err(reason) => self.lacks("ceph", &reason),
        }
        gateway
    }

    /// The variables for the tests.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// What is missing, and why.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.missing.iter().map(|(what, reason)| (what.as_str(), reason.as_str()))
    }

    fn found(&mut self, variable: &str, value: &str) {
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    fn lacks(&mut self, what: &str, reason: &str) {
        self.missing.push((what.to_owned(), reason.to_owned()));
    }
}

/// A Ceph gateway that is coming up, or up. Stopped when dropped.
pub(crate) struct Gateway {
    script: PathBuf,
    folder: PathBuf,
    child: Result<Child, String>,
}

impl Gateway {
    /// Starts it; the script installs it into the cache if need be.
    pub(crate) fn begin(machine: &Machine) -> Self {
        let script = machine.root.join("scripts/ceph-rgw");
        let folder = machine.cache.join(format!("ceph-{}", std::process::id()));
        let child = free_ports().and_then(|port| {
            let mut command = Command::new(&script);
            command.arg("start").arg(&folder).arg(port.to_string());
            command.env("CEPH_CACHE", machine.cache.join("ceph"));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().map_err(|error| format!("{} could not be started: {error}", script.display()))
        });
        Self { script, folder, child }
    }

    /// Waits until it answers; gives its settings, as `S3_ENDPOINT` and so on.
    fn wait(&mut self) -> Result<Vec<(String, String)>, String> {
        let child = self.child.as_mut().map_err(|reason| reason.clone())?;
        // Not `wait_with_output`: the gateway itself may have kept the pipes, so their end is not the script's end.
        let status = child.wait().map_err(|error| format!("lost the script: {error}"))?;
        if !status.success() {
            let mut words = String::new();
            let heard = child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut words));
            let words = if heard.is_some_and(|heard| heard.is_ok()) { words } else { String::new() };
            return Err(format!(
                "the script ended with {status}: {}",
                words.trim().lines().last().unwrap_or("")
            ));
        }
        let mut words = Vec::new();
        if let Some(mut pipe) = child.stdout.take() {
            let mut piece = [0; 4096];
            let count = pipe.read(&mut piece).map_err(|error| format!("cannot read its answer: {error}"))?;
            words.extend_from_slice(&piece[..count]);
        }
        let text = String::from_utf8_lossy(&words).into_owned();
        let settings = text.lines().filter_map(|line| line.split_once('='));
        Ok(settings.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Ok(child) = &mut self.child {
            // If it is still coming up, it must have finished before it can be stopped.
            let _ = child.wait();
            let _ = Command::new(&self.script).arg("stop").arg(&self.folder).status();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A port that is free, with the one a thousand above it, where the script puts Ceph's monitor.
fn free_ports() -> Result<u16, String> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.map_err(|error| format!("no free port: {error}"))?.port();
        let above = port.checked_add(1000).and_then(|above| TcpListener::bind(("127.0.0.1", above)).ok());
        if above.is_some() {
            return Ok(port);
        }
    }
    Err("found no two free ports".to_owned())
}
