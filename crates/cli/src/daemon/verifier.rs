//! `validation: interval`: what `litekeep verify -restore` does, by itself: every file of the chain is read, the newest
//! state is restored into a scratch place, checked, and compared with the database where both are at the same
//! transaction.
//!
//! One replica at a time, on one thread, with few requests under way; it reads the database in short transactions, and
//! takes no room that the disk would miss.

use super::fleet::Fleet;
use super::member::Member;
use super::verdict::{self, Verdict};
use crate::config::Database;
use crate::config::local_state;
use crate::trouble::Trouble;
use crate::verbs::replicate::thread;
use crate::verbs::verify::object;
use litekeep::files::{Files as _, RealFiles};
use litekeep::inspect::{self, Original, Trial, Verified};
use litekeep::local;
use litekeep::restore::{RestoreEnv, RestoreError};
use litekeep_core::env::Clock;
use litekeep_core::retain::Policy;
use litekeep_formats::Txid;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(1);
/// The first one of a database that none is known of begins so long after it came at the latest, however long the
/// interval: a container that is replaced every day is verified all the same, and one that dies at once reads nothing.
const FIRST: Duration = Duration::from_secs(10 * 60);
/// When one that failed, or could not be carried out, is tried again at the latest.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// Requests under way.
const PARALLELISM: usize = 2;
/// What must be left on the disk beside the restored copy, bytes; a quarter of the copy if that is more.
const RESERVE: u64 = 64 << 20;
/// The scratch folder in the local state's directory, and how that of `litekeep verify` begins; no watched directory takes up
/// what lies in a folder of this name.
pub(crate) const SCRATCH: &str = ".litekeep-restore-verify";

/// The scratch folder that is in use, and whether the work is over.
#[derive(Default)]
struct Desk {
    scratch: Option<PathBuf>,
    closed: bool,
}

/// Verifies until it is dropped, which takes away what lies in the scratch place.
pub(crate) struct Verifier(Arc<Mutex<Desk>>);

impl Drop for Verifier {
    fn drop(&mut self) {
        let mut desk = lock(&self.0);
        desk.closed = true;
        if let Some(scratch) = desk.scratch.take() {
            remove(&scratch);
        }
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Verifies from now on, on a thread of its own.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn start(fleet: &Arc<Fleet>) -> Result<Verifier, Trouble> {
    let desk = Arc::new(Mutex::new(Desk::default()));
    let verifier = Verifier(Arc::clone(&desk));
    let fleet = Arc::clone(fleet);
    let mut due: BTreeMap<PathBuf, Duration> = BTreeMap::new();
    // Before anybody can ask for the health: what was found bad before this start is bad until it is looked at.
    fleet.members().iter().for_each(|member| {
        due_at(member, &mut due, &**fleet.clock());
    });
    thread("verify", move || {
        loop {
            let members = fleet.members();
            due.retain(|path, _| members.iter().any(|member| member.database.path == *path));
            for member in members {
                if lock(&desk).closed {
                    return;
                }
                round(&member, &mut due, &desk, fleet.clock());
            }
            fleet.clock().sleep(LOOK);
        }
    })?;
    Ok(verifier)
}

/// Verifies one replica if that is due.
fn round(member: &Member, due: &mut BTreeMap<PathBuf, Duration>, desk: &Mutex<Desk>, clock: &Arc<dyn Clock>) {
    let Some((interval, at)) = due_at(member, due, &**clock) else { return };
    let view = member.view(&**clock);
    let (true, Some(durable)) = (view.running && !view.standby, view.status.durable) else { return };
    if clock.boot() < at {
        return;
    }
    let (began, before) = (clock.boot(), member.book.verdict());
    let found = verify(member, durable, desk, clock);
    if lock(desk).closed {
        return;
    }
    let next = settle(member, found, before, clock.boot().saturating_sub(began), &**clock);
    due.insert(
        member.database.path.clone(),
        clock.boot() + if next { interval } else { interval.min(AGAIN) },
    );
}

/// The interval, and when the next one is due; `None` where none is wanted.
fn due_at(
    member: &Member,
    due: &mut BTreeMap<PathBuf, Duration>,
    clock: &dyn Clock,
) -> Option<(Duration, Duration)> {
    let interval = member.database.validation?;
    let path = member.database.path.clone();
    Some((interval, *due.entry(path).or_insert_with(|| clock.boot() + first(member, interval, clock))))
}

/// How long after it came a database is verified for the first time; what is known of it from before is taken up.
fn first(member: &Member, interval: Duration, clock: &dyn Clock) -> Duration {
    let database = &member.database;
    let Some(known) = verdict::read(&state_dir(database), &member.store.location()) else {
        return interval.min(FIRST);
    };
    let (at, failed) = (known.at, known.failure.is_some());
    member.book.verified(known);
    let Some(at) = at else { return interval.min(FIRST) };
    let age = clock.wall().0.saturating_sub(at.0);
    let wanted = if failed { interval.min(AGAIN) } else { interval };
    let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
    wanted.saturating_sub(age).max(interval.min(FIRST))
}

pub(crate) fn state_dir(database: &Database) -> PathBuf {
    local_state(&database.path, database.settings.meta_path.as_deref())
}

/// What a verification came to.
enum Found {
    Good(Box<Verified>, Box<Trial>),
    /// The replica is not what it should be.
    Bad(String),
    /// Nobody knows: the store did not answer, there was no room.
    Undone(String),
}

impl From<RestoreError> for Found {
    fn from(error: RestoreError) -> Self {
        let text = error.to_string();
        match error {
            RestoreError::Empty(_)
            | RestoreError::Wiped { .. }
            | RestoreError::Gap { .. }
            | RestoreError::Damaged { .. }
            | RestoreError::NotAvailable { .. } => Self::Bad(text),
            _ => Self::Undone(text),
        }
    }
}

/// Walks and restores; `durable` is what the replica had taken before.
fn verify(member: &Member, durable: Txid, desk: &Mutex<Desk>, clock: &Arc<dyn Clock>) -> Found {
    let database = &member.database;
    let settings = &database.settings;
    let policy = Policy { window: settings.snapshot_retention, slots: settings.l0_retention };
    let options = inspect::Options { parallelism: PARALLELISM, policy };
    let verified = match inspect::verify(Arc::clone(&member.store), clock, &options, &mut |_, _| {}) {
        Ok(verified) => verified,
        Err(error) => return error.into(),
    };
    if let Some(issue) = verified.damage() {
        let name = issue.key.map(|key| format!("{}: ", object(&key, &database.replica)));
        return Found::Bad(format!("{}{}", name.unwrap_or_default(), issue.what));
    }
    let trial = match in_scratch(member, desk, clock) {
        Ok(trial) => trial,
        Err(found) => return found,
    };
    if trial.restored.txid() < Some(durable) {
        let came = trial.restored.txid().map_or_else(|| "nothing".to_owned(), |txid| txid.to_string());
        return Found::Bad(format!(
            "a restore gives {came}, and the replica had taken transaction {durable}"
        ));
    }
    if trial.has_diverged() {
        let what = "a restore differs from the database, though nothing was written to that since".to_owned();
        return Found::Bad(what);
    }
    Found::Good(Box::new(verified), Box::new(trial))
}

/// Restores into the scratch folder and takes it away again.
fn in_scratch(member: &Member, desk: &Mutex<Desk>, clock: &Arc<dyn Clock>) -> Result<Trial, Found> {
    let database = &member.database;
    let state_dir = state_dir(database);
    let scratch = state_dir.join(SCRATCH);
    let undone = |error: std::io::Error| Found::Undone(format!("{}: {error}", scratch.display()));
    // What a killed process left.
    remove(&scratch);
    room(database, &state_dir)?;
    let taken = {
        let mut desk = lock(desk);
        if desk.closed {
            return Err(Found::Undone("litekeep is shutting down".to_owned()));
        }
        desk.scratch = Some(scratch.clone());
        std::fs::DirBuilder::new().mode(0o700).create(&scratch)
    };
    let env = RestoreEnv {
        store: Arc::clone(&member.store),
        files: Arc::new(RealFiles),
        clock: Arc::clone(clock),
        vfs: None,
    };
    let original = Original { database: &database.path, state_dir: &state_dir, held_here: true };
    let trial = taken.map_err(undone).and_then(|()| {
        let output = scratch.join("restored.db");
        inspect::trial(&env, &output, PARALLELISM, Some(original), &mut |_| {}).map_err(Found::from)
    });
    lock(desk).scratch = None;
    remove(&scratch);
    trial
}

/// Whether the copy fits with room to spare: a verification must not fill the disk that the database lives on.
fn room(database: &Database, state_dir: &Path) -> Result<(), Found> {
    let undone = |error: &dyn std::fmt::Display| Found::Undone(format!("{}: {error}", state_dir.display()));
    let file = RealFiles.len(&database.path).map_err(|error| undone(&error))?.unwrap_or(0);
    let state = local::peek(&RealFiles, state_dir).map_err(|error| undone(&error))?;
    let pages = state.map_or(0, |state| u64::from(state.commit) * u64::from(state.page_size.get()));
    let copy = file.max(pages);
    let needed = needed(copy);
    let disk = rustix::fs::statvfs(state_dir).map_err(|error| undone(&error))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        let place = state_dir.display();
        let text = format!("there is too little room in {place}: {free} bytes are free, {needed} are needed");
        return Err(Found::Undone(text));
    }
    Ok(())
}

/// What must be free before a copy of this size is made, bytes.
fn needed(copy: u64) -> u64 {
    copy.saturating_add(RESERVE.max(copy / 4))
}

fn remove(scratch: &Path) {
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %scratch.display(), %error, "a scratch folder could not be removed");
        }
        _ => {}
    }
}

/// Says and notes what came of it; `false` if that does not stand for a whole interval.
fn settle(
    member: &Member,
    found: Found,
    before: Option<Verdict>,
    elapsed: Duration,
    clock: &dyn Clock,
) -> bool {
    let db = member.database.path.display();
    let good_before = before.as_ref().and_then(|before| before.good);
    let (replica, now) = (member.store.location(), clock.wall());
    let verdict = match found {
        Found::Good(verified, trial) => {
            let restored = &trial.restored;
            tracing::info!(
                %db,
                txid = restored.txid().map(tracing::field::display),
                objects = verified.objects,
                bytes = verified.counted.bytes,
                elapsed = ?elapsed,
                compared = compared(&trial),
                "replica verified by a restore"
            );
            if before.is_some_and(|before| before.failure.is_some()) {
                tracing::info!(%db, "the replica is good again");
            }
            let good = restored.txid().map(|txid| (txid, now));
            Verdict { replica, at: Some(now), failure: None, good }
        }
        Found::Bad(why) => {
            tracing::error!(%db, error = %why, "the replica does not pass its verification; `litekeep verify` tells all");
            Verdict { replica, at: Some(now), failure: Some(why), good: good_before }
        }
        Found::Undone(why) => {
            if member.book.not_verified(&why) {
                tracing::warn!(%db, error = %why, "the replica could not be verified now, trying again later");
            }
            return false;
        }
    };
    if let Err(error) = verdict::write(&state_dir(&member.database), &verdict) {
        tracing::warn!(%db, %error, "what a verification came to could not be written down");
    }
    let well = verdict.failure.is_none();
    member.book.count_verdict(well);
    member.book.verified(verdict);
    well
}

fn compared(trial: &Trial) -> &'static str {
    use inspect::Compared;
    match trial.compared {
        Some(Compared::Same { .. }) => "same as the database",
        Some(Compared::Elsewhere(_) | Compared::Differs { .. }) => "the database went on meanwhile",
        Some(Compared::NoDatabase) => "there is no database",
        Some(Compared::Unreadable(_)) => "the database could not be read",
        None => "nothing to compare with",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_leaves_a_reserve_on_the_disk_and_more_of_it_beside_a_large_one() {
        for (copy, wanted) in
            [(0, RESERVE), (4096, 4096 + RESERVE), (400 << 20, 500 << 20), (u64::MAX, u64::MAX)]
        {
            assert_eq!(needed(copy), wanted, "{copy}");
        }
    }
}
