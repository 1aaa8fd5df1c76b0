//! The platform: App Platform's rules for containers, with times of its own.
//!
//! A container gets a fresh directory. A new one starts while the old one runs, gets traffic once its health check has
//! succeeded often enough, and then the old one is drained, asked to end, and killed if it does not. A container that
//! dies by itself is replaced. The platform never looks into what it runs.

use crate::api::Api;
use crate::bucket::Place;
use crate::clock::{Clock, Ms};
use crate::container::Container;
use crate::engine::{Engine, Release};
use crate::error::DrillError;
use crate::facts::{self, Event, Restored};
use crate::proxy::Proxy;
use reqwest::Method;
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the platform waits for what, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Timings {
    /// Between two health checks.
    pub period: Ms,
    /// Checks that must succeed in a row before traffic comes.
    pub successes: u32,
    /// A container that is not healthy by then is given up.
    pub patience: Ms,
    /// From the switch of traffic to SIGTERM.
    pub drain: Ms,
    /// From SIGTERM to SIGKILL.
    pub grace: Ms,
}

/// App Platform's defaults; its containers overlap for about two minutes.
pub const APP_PLATFORM: Timings =
    Timings { period: 10_000, successes: 1, patience: 90_000, drain: 15_000, grace: 120_000 };

/// The same shape in seconds. The success threshold is higher, so that one lucky answer is not health.
pub const SHORT: Timings =
    Timings { period: 250, successes: 2, patience: 40_000, drain: 1_000, grace: 20_000 };

/// How often children and logs are looked at.
const LOOK: Duration = Duration::from_millis(25);

/// See the module's text.
pub struct Platform {
    /// The address for clients.
    pub proxy: Proxy,
    /// All containers, in the order of their starts.
    pub containers: Vec<Container>,
    /// Which of them have traffic.
    pub serving: Vec<usize>,
    /// What was done, for the timeline.
    pub events: Vec<Event>,
    /// A superuser's token, once there is one: with it, new containers are asked for their restore.
    pub token: String,
    engine: Engine,
    place: Place,
    folder: PathBuf,
    timings: Timings,
    clock: Clock,
}

impl Platform {
    /// A platform with nothing on it.
    ///
    /// # Errors
    /// No port is free.
    pub async fn new(
        engine: Engine,
        place: Place,
        folder: &Path,
        timings: Timings,
        clock: Clock,
    ) -> Result<Self, DrillError> {
        Ok(Self {
            proxy: Proxy::start().await?,
            containers: Vec::new(),
            serving: Vec::new(),
            events: Vec::new(),
            token: String::new(),
            engine,
            place,
            folder: folder.to_owned(),
            timings,
            clock,
        })
    }

    /// A client of the address for clients.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn api(&self) -> Result<Api, DrillError> {
        Api::new(&format!("http://{}", self.proxy.address))
    }

    /// Notes what was done.
    pub fn event(&mut self, what: impl Into<String>) {
        self.events.push(Event { at: self.clock.ms(), what: what.into() });
    }

    /// A rolling deploy, from the start of the new container to the end of the old one.
    ///
    /// # Errors
    /// The new one did not become healthy: then the old one keeps its traffic.
    pub async fn deploy(&mut self, release: &Release) -> Result<(), DrillError> {
        let old = self.serving.clone();
        let new = self.add(release).await?;
        self.route(vec![new]);
        for old in old {
            self.retire(old).await;
        }
        Ok(())
    }

    /// Starts a container on an empty disk and waits until it is healthy; it gets no traffic yet.
    ///
    /// # Errors
    /// It did not become healthy; it is killed.
    pub async fn add(&mut self, release: &Release) -> Result<usize, DrillError> {
        let new = self.launch(release, None)?;
        self.gate(new).await?;
        Ok(new)
    }

    /// Starts a container, on the disk of another one if so asked.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self, release: &Release, disk_of: Option<usize>) -> Result<usize, DrillError> {
        let number = self.containers.len() + 1;
        let name = format!("c{number}");
        let disk = match disk_of.and_then(|other| self.containers.get(other)) {
            Some(other) => other.disk.clone(),
            None => {
                let disk = self.folder.join("disks").join(&name);
                let made = std::fs::create_dir_all(&disk);
                made.map_err(|error| DrillError::machine(disk.display().to_string(), &error))?;
                disk
            }
        };
        let command = self.engine.command(release, &disk, &self.place)?;
        let known = facts::Container {
            name: name.clone(),
            release: release.name.clone(),
            fresh: disk_of.is_none(),
            started: self.clock.ms(),
            ..facts::Container::default()
        };
        let log = self.folder.join(format!("{name}.log"));
        self.containers.push(Container::start(command, known, &disk, &log)?);
        let on = if disk_of.is_some() { "on the same disk" } else { "on an empty disk" };
        self.event(format!("{name} ({}) starts {on}", release.name));
        Ok(number - 1)
    }

    /// The health gate.
    ///
    /// # Errors
    /// It is not passed in time; the container is killed.
    pub async fn gate(&mut self, index: usize) -> Result<(), DrillError> {
        let until = self.clock.ms() + self.timings.patience;
        let mut successes = 0;
        while successes < self.timings.successes {
            self.note_deaths();
            if !self.containers[index].runs(self.clock) || self.clock.ms() > until {
                let name = self.containers[index].facts.name.clone();
                self.kill(index).await;
                let words = self.containers[index].last_words();
                return Err(DrillError::system(format!("{name} did not become healthy: {words}")));
            }
            let healthy = match self.containers[index].look_for_address(self.clock) {
                None => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Some(_) => {
                    let api = self.containers[index].api()?;
                    let asked = api.send(Method::GET, "/api/health", "", &Value::Null);
                    let asked = tokio::time::timeout(Duration::from_secs(1), asked).await;
                    matches!(asked, Ok(Ok(reply)) if reply.status == 200)
                }
            };
            successes = if healthy { successes + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(self.timings.period)).await;
        }
        let container = &mut self.containers[index];
        container.facts.healthy = Some(self.clock.ms());
        if !self.token.is_empty() {
            container.facts.asked = true;
            container.told = Some(tokio::spawn(told(container.api()?, self.token.clone())));
        }
        let name = container.facts.name.clone();
        self.event(format!("{name} is healthy"));
        Ok(())
    }

    /// Switches traffic.
    pub fn route(&mut self, to: Vec<usize>) {
        let now = self.clock.ms();
        for (index, container) in self.containers.iter_mut().enumerate() {
            let (had, has) = (self.serving.contains(&index), to.contains(&index));
            if had
                && !has
                && let Some(last) = container.facts.traffic.last_mut()
            {
                last.1 = Some(now);
            }
            if has && !had {
                container.facts.traffic.push((now, None));
            }
        }
        self.proxy.route(to.iter().filter_map(|index| self.containers[*index].backend.clone()).collect());
        let names: Vec<&str> = to.iter().map(|index| self.containers[*index].facts.name.as_str()).collect();
        let what = if names.is_empty() {
            "nobody has traffic".to_owned()
        } else {
            format!("traffic to {}", names.join(", "))
        };
        self.serving = to;
        self.event(what);
    }

    /// Drain, SIGTERM, grace, SIGKILL.
    pub async fn retire(&mut self, index: usize) {
        if self.serving.contains(&index) {
            self.route(self.serving.iter().copied().filter(|other| *other != index).collect());
        }
        self.pass(self.timings.drain).await;
        self.terminate(index).await;
    }

    /// SIGTERM, grace, SIGKILL.
    pub async fn terminate(&mut self, index: usize) {
        self.signal(index, Signal::TERM, "SIGTERM");
        let until = self.clock.ms() + self.timings.grace;
        while self.containers[index].runs(self.clock) {
            if self.clock.ms() > until {
                self.kill(index).await;
            }
            tokio::time::sleep(LOOK).await;
        }
        let container = &self.containers[index].facts;
        let code =
            container.end.as_ref().and_then(|end| end.code).map_or("no".to_owned(), |code| code.to_string());
        let what = format!("{} has ended with exit code {code}", container.name);
        self.event(what);
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(&mut self, index: usize) {
        self.signal(index, Signal::KILL, "SIGKILL");
        while self.containers[index].runs(self.clock) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a signal and notes it.
    pub fn signal(&mut self, index: usize, signal: Signal, name: &str) {
        if self.containers[index].runs(self.clock) {
            self.containers[index].signal(signal, name, self.clock);
            let what = format!("{name} to {}", self.containers[index].facts.name);
            self.event(what);
        }
    }

    /// Lets time go by. A container that had traffic and died by itself is noted; `tend` replaces it.
    pub async fn pass(&mut self, ms: Ms) {
        let until = self.clock.ms() + ms;
        while self.clock.ms() < until {
            self.note_deaths();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets time go by and does what a platform does when nobody is left to serve: it starts another container.
    ///
    /// # Errors
    /// That one does not become healthy.
    pub async fn tend(&mut self, release: &Release, ms: Ms) -> Result<(), DrillError> {
        let until = self.clock.ms() + ms;
        while self.clock.ms() < until {
            self.note_deaths();
            if self.serving.is_empty() {
                let new = self.add(release).await?;
                self.route(vec![new]);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Takes traffic from those that have ended.
    fn note_deaths(&mut self) {
        let clock = self.clock;
        let dead: Vec<usize> =
            self.serving.iter().copied().filter(|index| !self.containers[*index].runs(clock)).collect();
        if dead.is_empty() {
            return;
        }
        for index in &dead {
            let facts = &self.containers[*index].facts;
            let code =
                facts.end.as_ref().and_then(|end| end.code).map_or("no".to_owned(), |code| code.to_string());
            let what = format!("{} is gone, exit code {code}", facts.name);
            self.event(what);
        }
        self.route(self.serving.iter().copied().filter(|index| !dead.contains(index)).collect());
    }

    /// Asks all to end, and gives what is known of all containers.
    pub async fn finish(&mut self) -> Vec<facts::Container> {
        self.note_deaths();
        self.route(Vec::new());
        for index in 0..self.containers.len() {
            if self.containers[index].runs(self.clock) {
                self.terminate(index).await;
            }
        }
        let mut known = Vec::new();
        for container in &mut self.containers {
            let boot = self.engine.boot(&container.said());
            let told = match container.told.take() {
                Some(told) => told.await.ok().flatten(),
                None => None,
            };
            let mut facts = container.known();
            facts.boot = facts::Boot { told, ..boot };
            known.push(facts);
        }
        known
    }
}

/// What a container tells a superuser about its restore; nothing if it does not answer.
async fn told(api: Api, token: String) -> Option<Restored> {
    let told = api.get("/api/replication", &token).await.ok()?;
    let last = told["lastRestore"].as_object()?;
    let text = |name: &str| last.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name: &str| last.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(Restored {
        from: text("from"),
        txid: text("txid"),
        bytes: number("bytes"),
        milliseconds: number("milliseconds"),
    })
}
