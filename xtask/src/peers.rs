//! The programs that the tests ask as witnesses: real Litestreams, a real PocketBase, the official SDKs, a
//! Python with its own SQLite, a browser, a real Ceph gateway.
//!
//! They are fetched by scripts and handed to the tests as environment variables. What is missing is named, with the
//! reason; whether that is an error is the caller's decision.

use crate::Machine;
use crate::stage::read;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Program and the variable by which the tests find it.
const FETCHED: [(&str, &str); 5] = [
    ("litestream-0.3.13", "LITEKEEP_TEST_LITESTREAM_0_3_13"),
    ("litestream-0.5.15", "LITEKEEP_TEST_LITESTREAM_0_5_15"),
    ("litestream-0.5.17", "LITEKEEP_TEST_LITESTREAM_0_5_17"),
    ("litestream-vfs-0.5.17", "LITEKEEP_TEST_LITESTREAM_VFS"),
    ("pocketbase-0.36.1", "LITEKEEP_TEST_POCKETBASE"),
];

/// A Python will do if its SQLite can load an extension: the VFS is one.
const PYTHON_CHECK: &str = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";

/// A browser and its driver, by which the tests find them, under the names that distributions give them.
const BROWSER: [(&str, &str, [&str; 2]); 2] = [
    ("chromedriver", "LITEKEEP_TEST_CHROMEDRIVER", ["/usr/bin/chromedriver", "chromedriver"]),
    ("chromium", "LITEKEEP_TEST_CHROMIUM", ["/usr/bin/chromium", "chromium"]),
];

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
        let mut script = machine.command(machine.root.join("scripts/fetch-sdk"));
        match read(script.arg(&machine.cache)) {
            Ok(path) => peers.found("LITEKEEP_TEST_SDK", path.trim()),
            Err(reason) => peers.lacks("sdk", &reason),
        }
        let python =
            ["/usr/bin/python3", "python3"].into_iter().find(|python| runs(python, &["-c", PYTHON_CHECK]));
        match python {
            Some(python) => peers.found("LITEKEEP_TEST_PYTHON", python),
            None => peers.lacks("python3", "none whose sqlite3 module can load extensions"),
        }
        for (name, variable, places) in BROWSER {
            match places.into_iter().find(|program| runs(program, &["--version"])) {
                Some(program) => peers.found(variable, program),
                None => {
                    peers.lacks(name, "not installed; on Debian: apt-get install chromium chromium-driver")
                }
            }
        }
        peers
    }

    /// Waits for the gateway and takes its settings; what is given back stops it when dropped.
    pub(crate) fn take_gateway(&mut self, mut gateway: Gateway) -> Gateway {
        match gateway.wait() {
            Ok(settings) => self.found("LITEKEEP_TEST_S3", &settings.display().to_string()),
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

/// Whether a program is there and content with these words.
fn runs(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
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
        sweep(machine, &script);
        let child = free_ports().and_then(|port| {
            let explain = |error| format!("{} could not be started: {error}", script.display());
            std::fs::create_dir_all(&machine.cache).map_err(explain)?;
            // Into files and not pipes: the gateway itself keeps what the script had open.
            let settings = File::create(folder.with_extension("env")).map_err(explain)?;
            let log = File::create(folder.with_extension("log")).map_err(explain)?;
            let mut command = Command::new(&script);
            command.arg("start").arg(&folder).arg(port.to_string());
            command.env("CEPH_CACHE", machine.cache.join("ceph"));
            command.stdin(Stdio::null()).stdout(settings).stderr(log).spawn().map_err(explain)
        });
        Self { script, folder, child }
    }

    /// Waits until it answers; gives the file with its settings.
    fn wait(&mut self) -> Result<PathBuf, String> {
        let child = self.child.as_mut().map_err(|reason| reason.clone())?;
        let status = child.wait().map_err(|error| format!("lost the script: {error}"))?;
        if !status.success() {
            let words = std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default();
            return Err(format!(
                "the script ended with {status}: {}",
                words.trim().lines().last().unwrap_or("")
            ));
        }
        Ok(self.folder.with_extension("env"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Ok(child) = &mut self.child {
            // If it is still coming up, it must have finished before it can be stopped.
            let _ = child.wait();
            remove(&self.script, &self.folder);
        }
    }
}

/// Stops a gateway, if it runs, and removes what it kept.
fn remove(script: &Path, folder: &Path) {
    let _ = Command::new(script).arg("stop").arg(folder).status();
    let _ = std::fs::remove_dir_all(folder);
    for kind in ["env", "log"] {
        let _ = std::fs::remove_file(folder.with_extension(kind));
    }
}

/// Does so for those of runs that were killed: each runs on, and keeps some hundred megabytes.
fn sweep(machine: &Machine, script: &Path) {
    let command = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let Ok(own) = command("self") else { return };
    for entry in std::fs::read_dir(&machine.cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("ceph-"));
        let pid = pid.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()));
        if pid.is_some_and(|pid| command(pid).ok().as_ref() != Some(&own)) {
            remove(script, &entry.path());
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
