//! A container: a process in a group and a folder of its own, with its log in a file.
//!
//! It is judged by its exit code, its log and its port. It is killed with all its children when dropped.

use crate::api::Api;
use crate::clock::{Clock, Ms};
use crate::error::DrillError;
use crate::facts::{self, End, Why};
use crate::proxy::Backend;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often a container is asked for its role.
const SAMPLE: Duration = Duration::from_millis(200);
/// How long that may take before it counts as silent.
const SILENT: Duration = Duration::from_secs(1);

/// A running container, or one that has ended.
pub struct Container {
    /// What is known of it so far.
    pub facts: facts::Container,
    /// Its disk.
    pub disk: PathBuf,
    /// Where it listens, once it said so.
    pub backend: Option<Backend>,
    /// What `/api/replication` told of its restore, once it has been asked.
    pub told: Option<JoinHandle<Option<facts::Restored>>>,
    child: Child,
    log: PathBuf,
    roles: Arc<Mutex<Vec<(Ms, String)>>>,
    sampler: Option<JoinHandle<()>>,
}

impl Container {
    /// Starts `command`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        mut command: Command,
        facts: facts::Container,
        disk: &Path,
        log: &Path,
    ) -> Result<Self, DrillError> {
        let failed = |error: std::io::Error| DrillError::machine(format!("container {}", facts.name), &error);
        let file = File::create(log).map_err(failed)?;
        command.stdout(file.try_clone().map_err(failed)?).stderr(file).process_group(0);
        let child = command.spawn().map_err(failed)?;
        Ok(Self {
            facts,
            disk: disk.to_owned(),
            backend: None,
            told: None,
            child,
            log: log.to_owned(),
            roles: Arc::default(),
            sampler: None,
        })
    }

    /// All that it said.
    #[must_use]
    pub fn said(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its last words, short.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(2).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Looks for the line that says where it listens.
    pub fn look_for_address(&mut self, clock: Clock) -> Option<SocketAddr> {
        if let Some(backend) = &self.backend {
            return Some(backend.address);
        }
        let said = self.said();
        let line = said.lines().find_map(|line| line.split_once("Server started at http://"))?.1;
        let address: SocketAddr = line.split_whitespace().next()?.parse().ok()?;
        self.backend = Some(Backend::new(address));
        self.sampler = Some(tokio::spawn(sample(address, clock, Arc::clone(&self.roles))));
        Some(address)
    }

    /// Whether it runs; notes its end.
    pub fn runs(&mut self, clock: Clock) -> bool {
        if self.facts.end.is_some() {
            return false;
        }
        let Ok(Some(status)) = self.child.try_wait() else { return true };
        let sent = |name: &str| self.facts.signals.iter().any(|(_, signal)| signal == name);
        let why = match (sent("SIGKILL"), sent("SIGTERM")) {
            (true, true) => Why::Overdue,
            (true, false) => Why::Killed,
            (false, true) => Why::Asked,
            (false, false) => Why::Itself,
        };
        self.facts.end = Some(End { at: clock.ms(), code: status.code(), signal: status.signal(), why });
        if let Some(sampler) = self.sampler.take() {
            sampler.abort();
        }
        false
    }

    /// Sends a signal: SIGTERM to its first process, as a platform does, all others to all of them.
    pub fn signal(&mut self, signal: Signal, name: &str, clock: Clock) {
        if !self.runs(clock) {
            return;
        }
        self.facts.signals.push((clock.ms(), name.to_owned()));
        let pid = Pid::from_child(&self.child);
        let _ =
            if signal == Signal::TERM { kill_process(pid, signal) } else { kill_process_group(pid, signal) };
    }

    /// A client of this container, past the router.
    ///
    /// # Errors
    /// It has not said where it listens.
    pub fn api(&self) -> Result<Api, DrillError> {
        let backend = self
            .backend
            .as_ref()
            .ok_or_else(|| DrillError::system(format!("{} does not listen", self.facts.name)))?;
        Api::new(&format!("http://{}", backend.address))
    }

    /// The facts, with the roles that were seen.
    #[must_use]
    pub fn known(&self) -> facts::Container {
        let mut known = self.facts.clone();
        known.roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(sampler) = self.sampler.take() {
            sampler.abort();
        }
        if self.facts.end.is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Notes each change of a container's role.
async fn sample(address: SocketAddr, clock: Clock, roles: Arc<Mutex<Vec<(Ms, String)>>>) {
    let Ok(api) = Api::new(&format!("http://{address}")) else { return };
    loop {
        match tokio::time::timeout(SILENT, api.get("/api/replication", "")).await {
            Err(_) => note(&roles, clock.ms(), "silent"),
            Ok(Ok(told)) => note(&roles, clock.ms(), told["role"].as_str().unwrap_or("unknown")),
            Ok(Err(_)) => {} // it is on its way out, or has no such route
        }
        tokio::time::sleep(SAMPLE).await;
    }
}

fn note(roles: &Mutex<Vec<(Ms, String)>>, at: Ms, role: &str) {
    let mut roles = roles.lock().unwrap_or_else(PoisonError::into_inner);
    if roles.last().is_none_or(|(_, last)| *last != role) {
        roles.push((at, role.to_owned()));
    }
}
