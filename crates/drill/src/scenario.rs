//! The scenarios: what is done to the system, in order. Each leaves a ledger and facts; the judge does the rest.
//!
//! A step that cannot be carried out is a trouble among the facts, and the witnesses look all the same.

use crate::bucket::{self, Bucket, Place};
use crate::clock::{Clock, Ms};
use crate::container::Container;
use crate::engine::{Engine, Release};
use crate::error::DrillError;
use crate::expect::{Failures, Row};
use crate::facts::{self, Facts, Listings, Refusal, Seen};
use crate::ledger::{Entry, Ledger};
use crate::load::{self, Account, Load, Pen};
use crate::platform::{Platform, Timings};
use crate::shown::shown;
use crate::wire::Weather;
use crate::witness::{self, Official};
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::Duration;

/// Writes that must be answered before anything is done to the system.
const WARM: usize = 20;
/// How long that may take.
const WARM_LIMIT: Ms = 20_000;
/// Load before and after what is done.
const LEAD: Ms = 1_000;
/// How long each piece to or from a slow bucket waits: with it a put takes about a third of a second.
const SLOW: Duration = Duration::from_millis(150);
/// How long the bucket is away.
const OUTAGE: Ms = 8_000;
/// The server's patience in that scenario, seconds: shorter than the outage, so that clients see it.
const OUTAGE_PATIENCE: &str = "4";
/// How long two containers serve at once.
const TOGETHER: Ms = 6_000;
/// Writes of the straggler.
const LATE: u64 = 5;
/// The API and the file, at least.
const WITNESSES: usize = 2;
/// How long a start that must be refused may take.
const REFUSAL: Ms = 90_000;

/// What a run has for all its scenarios.
pub struct World {
    /// What is tested.
    pub engine: Engine,
    /// The bucket under it.
    pub bucket: Bucket,
    /// The official reader, where there is one.
    pub official: Option<Official>,
    /// Where evidence goes.
    pub out: PathBuf,
    /// What is deployed.
    pub release: Release,
    /// What is rolled back to.
    pub previous: Release,
    /// The platform's times.
    pub timings: Timings,
    /// How many writers.
    pub writers: usize,
    /// Between two writes of one.
    pub pace: Duration,
}

/// A scenario that is under way.
struct Stage<'a> {
    world: &'a World,
    clock: Clock,
    row: &'a Row,
    folder: PathBuf,
    place: Place,
    platform: Platform,
    ledger: Ledger,
    pen: Pen,
    accounts: Vec<Account>,
    loads: Vec<Load>,
    facts: Facts,
}

/// Runs one scenario; all its times are by this clock, which is at zero.
///
/// # Errors
/// It could not begin: there is nothing to judge.
pub async fn run(world: &World, row: &Row, clock: Clock) -> Result<(Vec<Entry>, Facts), DrillError> {
    let mut stage = Stage::begin(world, row, clock).await?;
    let done = match row.name {
        "redeploy" => stage.redeploy().await,
        "rollback" => stage.rollback().await,
        "crash" => stage.killed(false).await,
        "wipe" => stage.killed(true).await,
        "slow-bucket" => stage.slow_bucket().await,
        "bucket-outage" => stage.bucket_outage().await,
        "straggler" => stage.straggler().await,
        "two-at-once" => stage.two_at_once().await,
        "fresh-over-backup" => stage.fresh_over_backup().await,
        "wrong-key" => stage.wrong_key().await,
        other => Err(DrillError::usage(format!("there is no scenario {other}"))),
    };
    if let Err(error) = done {
        stage.facts.troubles.push(error.to_string());
    }
    stage.world.bucket.weather(Weather::Fair);
    stage.world.bucket.deny_listing(false);
    stage.end().await
}

impl<'a> Stage<'a> {
    /// A first container on an empty replica, accounts, and the writers' pen.
    async fn begin(world: &'a World, row: &'a Row, clock: Clock) -> Result<Self, DrillError> {
        let folder = world.out.join(row.name);
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|error| DrillError::machine(folder.display().to_string(), &error))?;
        let ledger = Ledger::create(&folder.join("ledger.jsonl"), clock);
        let ledger = ledger.map_err(|error| DrillError::machine("the ledger", &error))?;
        let place = world.bucket.place(row.name);
        let engine = world.engine.clone();
        let mut platform = Platform::new(engine, place.clone(), &folder, world.timings, clock).await?;
        let (api, mark) = (platform.api()?, clock.mark());
        let pen = Pen { api, ledger: ledger.clone(), pace: world.pace, mark, posted: Default::default() };
        platform.deploy(&release(world, row, &world.previous)).await?;
        let (accounts, token) = load::register(&pen.api, world.writers).await?;
        platform.token = token;
        let facts = Facts { replica: shown(&place.url), witnesses: WITNESSES, ..Facts::default() };
        Ok(Self {
            world,
            clock,
            row,
            folder,
            place,
            platform,
            ledger,
            pen,
            accounts,
            loads: Vec::new(),
            facts,
        })
    }

    fn now(&self) -> Ms {
        self.clock.ms()
    }

    fn release(&self) -> Release {
        release(self.world, self.row, &self.world.release)
    }

    /// Writers begin, and something is acknowledged before anything is done.
    async fn write(&mut self) -> Result<(), DrillError> {
        self.facts.load.0 = self.now();
        self.loads.push(Load::start(&self.pen, &self.accounts, 0));
        if !load::wait_for(&self.ledger, WARM, self.clock, WARM_LIMIT).await {
            return Err(DrillError::system("the writers got too few answers to begin with"));
        }
        self.platform.pass(LEAD).await;
        Ok(())
    }

    async fn stop_writing(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        for mut load in self.loads.drain(..) {
            load.end().await;
        }
        self.facts.load.1 = self.now();
    }

    async fn redeploy(&mut self) -> Result<(), DrillError> {
        self.write().await?;
        let new = self.release();
        self.platform.deploy(&new).await?;
        self.platform.tend(&new, 2 * LEAD).await
    }

    async fn rollback(&mut self) -> Result<(), DrillError> {
        if self.world.previous.program == self.world.release.program {
            let note = "rolled back to the same program: no older one was given (--previous)";
            self.facts.notes.push(note.to_owned());
        }
        self.write().await?;
        let (new, old) = (self.release(), release(self.world, self.row, &self.world.previous));
        self.platform.deploy(&new).await?;
        self.platform.deploy(&old).await?;
        self.platform.tend(&old, 2 * LEAD).await
    }

    /// SIGKILL, and a new start on the same disk or on an empty one.
    async fn killed(&mut self, wiped: bool) -> Result<(), DrillError> {
        self.write().await?;
        let old = self.serving()?;
        if wiped && self.world.bucket.wire().is_some() {
            // Who answers before the bucket has it still has something to lose when the disk goes.
            self.weather(Weather::Slow(SLOW))?;
            self.platform.pass(LEAD).await;
        } else if wiped {
            let note = "this bucket cannot be slowed: what goes with the disk may all be there already";
            self.facts.notes.push(note.to_owned());
        }
        let from = self.now();
        self.platform.kill(old).await;
        self.platform.pass(0).await;
        if wiped {
            let disk = self.platform.containers[old].disk.clone();
            std::fs::remove_dir_all(&disk)
                .map_err(|error| DrillError::machine(disk.display().to_string(), &error))?;
            self.platform.event("its disk is wiped");
            if self.world.bucket.wire().is_some() {
                self.weather(Weather::Fair)?;
            }
        }
        let new = self
            .platform
            .launch(&release(self.world, self.row, &self.world.previous), (!wiped).then_some(old))?;
        self.platform.gate(new).await?;
        self.platform.route(vec![new]);
        self.disturbed(from);
        self.recover().await
    }

    async fn slow_bucket(&mut self) -> Result<(), DrillError> {
        self.write().await?;
        self.weather(Weather::Slow(SLOW))?;
        self.platform.pass(2 * LEAD).await;
        let new = self.release();
        self.platform.deploy(&new).await?;
        self.platform.tend(&new, 2 * LEAD).await
    }

    async fn bucket_outage(&mut self) -> Result<(), DrillError> {
        self.write().await?;
        let from = self.now();
        self.weather(Weather::Down)?;
        let down = self.now();
        self.platform.pass(OUTAGE).await;
        self.facts.cut_off = Some((down, self.now()));
        self.weather(Weather::Fair)?;
        self.disturbed(from);
        self.recover().await
    }

    /// The old container sleeps from before the deploy until the new one has taken over; then somebody writes to it.
    async fn straggler(&mut self) -> Result<(), DrillError> {
        self.write().await?;
        let old = self.serving()?;
        let from = self.now();
        self.platform.signal(old, Signal::STOP, "SIGSTOP");
        let new = self.platform.add(&self.release()).await?;
        self.platform.route(vec![new]);
        self.disturbed(from);
        // The first writers may all wait for the sleeper; these are clients that come later.
        self.loads.push(Load::start(&self.pen, &self.accounts, 1));
        self.recover().await?;
        self.platform.signal(old, Signal::CONT, "SIGCONT");
        let direct = Pen { api: self.platform.containers[old].api()?, ..self.pen.clone() };
        self.facts.straggler = Some("late".to_owned());
        for count in 0..LATE {
            let deed = direct.post("late", 90, count);
            direct.act("late", &self.accounts[0].token, deed).await;
        }
        self.platform.event("written to the old container");
        self.platform.terminate(old).await;
        self.platform.tend(&self.release(), LEAD).await
    }

    async fn two_at_once(&mut self) -> Result<(), DrillError> {
        self.write().await?;
        let new = self.release();
        let second = self.platform.add(&new).await?;
        let mut both = self.platform.serving.clone();
        both.push(second);
        self.platform.route(both);
        self.platform.tend(&new, TOGETHER).await
    }

    /// A replica whose data is gone, and one that cannot be listed.
    async fn fresh_over_backup(&mut self) -> Result<(), DrillError> {
        self.rest().await?;
        let path = self.row.name;
        self.world.bucket.hide_data(path, true).await?;
        self.platform.event("the replica's data objects are gone");
        let wiped = self.refused("a start over a wiped replica", self.place.clone(), 11).await;
        self.world.bucket.hide_data(path, false).await?;
        self.facts.refusals.push(wiped?);
        if self.world.bucket.wire().is_some() {
            if !self.world.bucket.deny_listing(true) {
                self.weather(Weather::Down)?;
            }
            self.platform.event("the replica cannot be listed");
            let unreachable =
                self.refused("a start that cannot list the replica", self.place.clone(), 13).await;
            self.world.bucket.deny_listing(false);
            self.world.bucket.weather(Weather::Fair);
            self.facts.refusals.push(unreachable?);
        } else {
            let what = "a start that cannot list the replica: a directory cannot be told to deny it";
            self.facts.not_shown.push(what.to_owned());
        }
        self.come_back().await
    }

    async fn wrong_key(&mut self) -> Result<(), DrillError> {
        self.rest().await?;
        let environment = bucket::wrong_secret(&self.place.environment);
        let environment = environment.ok_or_else(|| DrillError::system("this bucket has no keys"))?;
        let place = Place { environment, ..self.place.clone() };
        let refusal = self.refused("a start with a wrong secret", place, 13).await?;
        self.facts.refusals.push(refusal);
        self.come_back().await
    }

    /// Some writes, then an orderly end: what is in the bucket is complete.
    async fn rest(&mut self) -> Result<(), DrillError> {
        self.write().await?;
        self.stop_writing().await;
        let old = self.serving()?;
        self.platform.route(Vec::new());
        self.platform.terminate(old).await;
        Ok(())
    }

    /// The replica is as it was: a start on an empty disk finds everything.
    async fn come_back(&mut self) -> Result<(), DrillError> {
        let new = self.platform.add(&self.release()).await?;
        self.platform.route(vec![new]);
        Ok(())
    }

    /// A start that must not succeed, with the bucket looked at before and after.
    async fn refused(&mut self, what: &str, place: Place, wanted: i32) -> Result<Refusal, DrillError> {
        let (clock, bucket, path) = (self.clock, &self.world.bucket, self.row.name);
        let before = bucket.listing(path).await?;
        let name = format!("refused-{}", self.facts.refusals.len() + 1);
        let disk = self.folder.join("disks").join(&name);
        std::fs::create_dir_all(&disk)
            .map_err(|error| DrillError::machine(disk.display().to_string(), &error))?;
        let command = self.world.engine.command(&self.release(), &disk, &place)?;
        let known = facts::Container { name: name.clone(), ..facts::Container::default() };
        let mut container =
            Container::start(command, known, &disk, &self.folder.join(format!("{name}.log")))?;
        let until = clock.ms() + REFUSAL;
        let mut served = false;
        while container.runs(clock) && clock.ms() < until && !served {
            if container.look_for_address(clock).is_some() {
                served = container.api()?.get("/api/health", "").await.is_ok();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        container.signal(Signal::KILL, "SIGKILL", clock);
        while container.runs(clock) {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let code = container.facts.end.as_ref().and_then(|end| end.code);
        self.platform
            .event(format!("{what}: exit code {}", code.map_or("none".to_owned(), |code| code.to_string())));
        let after = bucket.listing(path).await?;
        let said = container.last_words();
        Ok(Refusal { what: what.to_owned(), wanted, code, served, said, bucket: Listings { before, after } })
    }

    fn serving(&self) -> Result<usize, DrillError> {
        self.platform.serving.first().copied().ok_or_else(|| DrillError::system("no container has traffic"))
    }

    fn weather(&mut self, weather: Weather) -> Result<(), DrillError> {
        if !self.world.bucket.weather(weather) {
            return Err(DrillError::system("this bucket cannot be disturbed"));
        }
        self.platform.event(match weather {
            Weather::Fair => "the bucket is well".to_owned(),
            Weather::Slow(delay) => {
                format!("each piece to and from the bucket waits {} ms", delay.as_millis())
            }
            Weather::Down => "the bucket cannot be reached".to_owned(),
        });
        Ok(())
    }

    /// The disturbance ends now.
    fn disturbed(&mut self, from: Ms) {
        self.facts.disturbed = Some((from, self.now()));
    }

    /// Waits for the first success, as long as the row allows and a little more, and a while after it.
    async fn recover(&mut self) -> Result<(), DrillError> {
        let Failures::InWindow { recovery, .. } = self.row.failures else { return Ok(()) };
        let since = self.facts.disturbed.map_or(0, |(_, end)| end);
        let until = since + recovery + LEAD;
        while self.ledger.first_success(since).is_none() && self.now() < until {
            self.platform.pass(50).await;
        }
        let release = release(self.world, self.row, &self.world.previous);
        self.platform.tend(&release, 2 * LEAD).await
    }

    /// Writers end, witnesses look, containers end, witnesses look again.
    async fn end(mut self) -> Result<(Vec<Entry>, Facts), DrillError> {
        self.stop_writing().await;
        let serving = self.platform.serving.clone();
        for index in &serving {
            let container = &self.platform.containers[*index];
            let by = format!("the API of {}", container.facts.name);
            let seen = match container.api() {
                Ok(api) => witness::by_api(&api, by).await,
                Err(error) => Err(error),
            };
            self.saw(seen);
        }
        self.facts.containers = self.platform.finish().await;
        if let Some(index) = serving.first() {
            let container = &self.platform.containers[*index];
            let file = self.world.engine.database(&container.disk);
            let seen = witness::by_file(&file, format!("SQLite on the file of {}", container.facts.name));
            self.saw(seen);
        }
        if let (Engine::OracleNet, Some(official)) = (&self.world.engine, &self.world.official) {
            let place = self.world.bucket.direct(self.row.name);
            let seen = official.look(&place, &self.folder).await;
            self.saw(seen);
        }
        self.facts.events = std::mem::take(&mut self.platform.events);
        let entries = self.ledger.entries().map_err(|error| DrillError::machine("the ledger", &error))?;
        Ok((entries, self.facts))
    }

    fn saw(&mut self, seen: Result<Seen, DrillError>) {
        match seen {
            Ok(seen) => self.facts.seen.push(seen),
            Err(error) => self.facts.troubles.push(error.to_string()),
        }
    }
}

/// A release with the flags that a scenario needs.
fn release(world: &World, row: &Row, release: &Release) -> Release {
    let mut release = release.clone();
    if row.name == "bucket-outage" && matches!(world.engine, Engine::OracleNet) {
        release.flags.extend(["--ack-timeout".to_owned(), OUTAGE_PATIENCE.to_owned()]);
    }
    release
}
