//! One machine of the party: its disk, its clock, its node, and the application in the same process.

use super::judge;
use crate::clock::SimClock;
use crate::disk::vfs::Vfs;
use crate::disk::{Disk, Process};
use crate::faulty::FaultyStore;
use crate::history::fold;
use crate::random::SeededRandom;
use crate::sim::{BucketFlaw, FilesFlaw, bucket, files};
use litekeep::error::KeepError;
use litekeep::jobs::{Job, Spawner};
use litekeep::node::{Application, Left, Machine, NodeSettings, NodeStatus, Role};
use litekeep::replicator::Env;
use litekeep_core::decisions::Decisions;
use litekeep_formats::Epoch;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) const DIRECTORY: &str = "/data";
pub(super) const DATABASE: &str = "/data/app.db";

/// Jobs that wait to be run.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<Vec<Job>>>);

impl Spawner for Queue {
    fn spawn(&self, _name: &str, job: Job) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(job);
    }
}

/// A row that was committed and waits for its acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) id: i64,
    /// The node's ticket.
    ticket: Option<u64>,
}

/// What the application knows.
#[derive(Default)]
pub(super) struct Desk {
    /// Whether it may write.
    pub(super) may: bool,
    pub(super) waiting: Vec<Waiting>,
    /// Acknowledged since this was last taken.
    pub(super) acknowledged: Vec<i64>,
    pub(super) terms: u64,
    pub(super) closed: u64,
    pub(super) lost: u64,
    writes_on: bool,
    believes_all: bool,
}

#[derive(Clone, Default)]
pub(super) struct SharedDesk(Arc<Mutex<Desk>>);

impl SharedDesk {
    pub(super) fn get(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Application for SharedDesk {
    fn role(&self, _role: Role) {}

    fn start_writing(&self, _epoch: Option<Epoch>) -> Result<(), String> {
        let mut desk = self.get();
        desk.may = true;
        desk.terms += 1;
        Ok(())
    }

    fn stop_writing(&self) {
        let mut desk = self.get();
        desk.may = desk.writes_on;
    }

    fn left(&self, how: Left) {
        let mut desk = self.get();
        let waiting: Vec<i64> = desk.waiting.drain(..).map(|waiting| waiting.id).collect();
        if matches!(how, Left::Closed(_)) || desk.believes_all {
            desk.acknowledged.extend(waiting);
        }
        match how {
            Left::Closed(_) => desk.closed += 1,
            Left::Lost => desk.lost += 1,
        }
    }
}

/// What runs on a machine.
pub(super) struct Running {
    // Connections close before their VFS goes.
    connection: Option<Connection>,
    reader: Option<Reader>,
    node: Machine,
    queue: Queue,
    process: Process,
    vfs: Vfs,
    due: Duration,
}

/// A transaction that reads for long.
struct Reader {
    connection: Connection,
    line: judge::Line,
    turns: u64,
}

/// See the module's text.
pub(super) struct Member {
    pub(super) disk: Disk,
    pub(super) clock: SimClock,
    pub(super) store: FaultyStore,
    pub(super) desk: SharedDesk,
    pub(super) running: Option<Running>,
    /// The rows that were committed here, and that neither a wiped disk nor the power took.
    pub(super) own: BTreeSet<i64>,
    /// Whether the file was made to begin the chain, and nothing of it was acknowledged since.
    pub(super) to_begin: bool,
    /// Turns for which nothing happens here.
    pub(super) asleep: u64,
    /// Turns for which the store does not answer.
    pub(super) cut_off: u64,
    /// Turns for which the disk stays full.
    pub(super) full_for: u64,
    /// Digest of what happened on its former disks.
    pub(super) past: u64,
}

/// What starts a node.
pub(super) struct Start<'a> {
    pub(super) random: &'a SeededRandom,
    pub(super) settings: NodeSettings,
    pub(super) decisions: Decisions,
    pub(super) bucket: BucketFlaw,
    pub(super) files: FilesFlaw,
    pub(super) writes_on: bool,
    pub(super) believes_all: bool,
}

impl Member {
    /// Starts the node on the database that is there. It knows nothing of a former life but what is on the disk.
    pub(super) fn start(&mut self, start: Start<'_>) -> Result<(), KeepError> {
        let process = self.disk.process();
        let vfs = Vfs::new(&process);
        let queue = Queue::default();
        self.desk = SharedDesk::default();
        {
            let mut desk = self.desk.get();
            (desk.writes_on, desk.believes_all) = (start.writes_on, start.believes_all);
        }
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(start.random.fork("node")),
            files: files(process.clone(), start.files),
            vfs: Some(vfs.name().to_owned()),
            store: bucket(Arc::new(self.store.clone()), start.bucket, Arc::new(self.clock.clone())),
            spawner: Arc::new(queue.clone()),
            decisions: start.decisions,
        };
        let node = Machine::new(env, start.settings, Path::new(DATABASE), Arc::new(self.desk.clone()))?;
        self.running =
            Some(Running { connection: None, reader: None, node, queue, process, vfs, due: Duration::ZERO });
        Ok(())
    }

    /// The process ends without a word.
    pub(super) fn kill(&mut self) {
        if let Some(running) = &self.running {
            running.process.kill();
        }
        self.running = None;
    }

    /// The machine goes on with this disk, and what was committed on the former one is no longer its own.
    pub(super) fn replace_disk(&mut self, disk: Disk) {
        self.past = fold(self.past, &self.disk.history().to_le_bytes());
        self.own.clear();
        self.disk = disk;
    }

    /// The rows that lie beside its database.
    pub(super) fn kept_aside(&self) -> Result<BTreeSet<i64>, String> {
        let tree = self.disk.tree().into_iter().map(|(path, _)| path);
        let beside = format!("{DATABASE}-aside-");
        let is_aside = |path: &String| {
            path.starts_with(&beside)
                && !["-wal", "-shm", "-journal"].iter().any(|suffix| path.ends_with(suffix))
        };
        let vfs = Vfs::new(&self.disk.process());
        let mut rows = BTreeSet::new();
        for path in tree.filter(is_aside) {
            let connection = vfs.open(&path).map_err(|error| format!("{path}: {error}"))?;
            rows.extend(judge::read(&connection).map_err(|what| format!("{path}: {what}"))?.ids);
        }
        Ok(rows)
    }

    pub(super) fn status(&self) -> Option<NodeStatus> {
        self.running.as_ref().map(|running| running.node.status())
    }
}

impl Running {
    /// One step of the node, if it is due; `false` once it has ended.
    pub(super) fn step(&mut self, now: Duration, hurry: bool) -> bool {
        if self.due > now && !hurry {
            return true;
        }
        let step = self.node.step();
        self.due = now.saturating_add(step.wait);
        !step.ended
    }

    /// Calls to its disk that were made to fail.
    pub(super) fn failures(&self) -> u64 {
        self.process.failures()
    }

    pub(super) fn due(&self) -> Duration {
        if self.queue.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.due
        } else {
            Duration::ZERO
        }
    }

    /// Runs one of its jobs.
    pub(super) fn run_job(&mut self, random: &SeededRandom) {
        let job = {
            let mut jobs = self.queue.0.lock().unwrap_or_else(PoisonError::into_inner);
            if jobs.is_empty() {
                return;
            }
            let at = random.index(jobs.len());
            jobs.remove(at)
        };
        job();
        self.due = Duration::ZERO;
    }

    /// Whether it says that its file lacks nothing.
    pub(super) fn holds(&self) -> bool {
        self.node.holds()
    }

    /// Asks for ownership, or writes a row if it may; `true` if a row was committed.
    pub(super) fn write(&mut self, desk: &SharedDesk, id: i64, filler: usize) -> Result<bool, String> {
        if !desk.get().may {
            self.node.ask_to_own();
            self.due = Duration::ZERO;
            return Ok(false);
        }
        if self.connection.is_none() {
            let connection = self.vfs.open(DATABASE).map_err(|error| error.to_string())?;
            connection
                .execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=NORMAL")
                .map_err(|error| error.to_string())?;
            self.connection = Some(connection);
        }
        let Some(connection) = &self.connection else { return Ok(false) };
        match judge::append(connection, id, filler) {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                return Ok(false);
            }
            Err(error) => {
                self.connection = None;
                return Err(format!("the application cannot write: {error}"));
            }
        }
        let ticket = self.node.ask();
        desk.get().waiting.push(Waiting { id, ticket });
        self.due = Duration::ZERO;
        Ok(true)
    }

    /// Writes the whole database anew, if it may.
    pub(super) fn vacuum(&mut self, desk: &SharedDesk) -> Result<(), String> {
        let Some(connection) = self.connection.as_ref().filter(|_| desk.get().may) else { return Ok(()) };
        self.due = Duration::ZERO;
        match connection.execute_batch("VACUUM") {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
            Err(error) => {
                self.connection = None;
                Err(format!("the application cannot write anew: {error}"))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Begins to read, for so many turns; whatever the node is.
    pub(super) fn begin_to_read(&mut self, turns: u64) {
        if self.reader.is_some() {
            return;
        }
        let Ok(connection) = self.vfs.open(DATABASE) else { return };
        // It may be refused for a moment; then nobody reads.
        if connection.execute_batch("BEGIN").is_ok()
            && let Ok(line) = judge::read(&connection)
        {
            self.reader = Some(Reader { connection, line, turns });
        }
    }

    /// A turn of the reader; at its end it must still see what it saw.
    pub(super) fn read_on(&mut self) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.turns = reader.turns.saturating_sub(1);
        if reader.turns > 0 {
            return Ok(());
        }
        let Some(Reader { connection, line, .. }) = self.reader.take() else { return Ok(()) };
        match judge::read(&connection) {
            Ok(now) if now == line => Ok(()),
            found => Err(format!("a reader saw {line:?}, and then in the same transaction {found:?}")),
        }
    }

    /// Nobody reads any more.
    pub(super) fn end_reading(&mut self) {
        self.reader = None;
    }

    /// Sees which rows are acknowledged.
    pub(super) fn hear(&self, desk: &SharedDesk) {
        let mut desk = desk.get();
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut desk.waiting)
            .into_iter()
            .partition(|waiting| waiting.ticket.is_some_and(|ticket| self.node.answered(ticket)));
        desk.waiting = waiting;
        desk.acknowledged.extend(done.into_iter().map(|waiting| waiting.id));
    }

    pub(super) fn stop(&mut self, limit: Duration) {
        self.node.stop(limit);
        self.due = Duration::ZERO;
    }

    /// The history in its file.
    pub(super) fn line(&self) -> Result<judge::Line, String> {
        let connection = self.vfs.open(DATABASE).map_err(|error| error.to_string())?;
        judge::read(&connection)
    }
}

/// A file that begins a chain.
pub(super) fn make(disk: &Disk) -> rusqlite::Result<()> {
    let process = disk.process();
    let vfs = Vfs::new(&process);
    let connection = vfs.open(DATABASE)?;
    connection.execute_batch(&format!("PRAGMA journal_mode=WAL; {}", judge::TABLE))?;
    drop(connection);
    disk.sync_all();
    Ok(())
}
