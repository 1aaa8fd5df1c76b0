//! What replicas hold now, asked of all of them at the same time. It never hangs: who has not answered by the deadline is
//! left behind, on a thread that ends with the process.

use super::replicate::thread;
use crate::trouble::Trouble;
use crate::world::World;
use litekeep::inspect::{Held, held};
use litekeep::restore::look;
use litekeep_formats::{Epoch, TimestampMs};
use litekeep_store::StoreError;
use litekeep_store::location::{self, Settings};
use litekeep_store::retry::Policy;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Replicas that are asked at the same time.
const AT_ONCE: usize = 16;

/// The longest that anybody may wait, as for the control socket.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What one holds, or why nobody knows.
pub(super) type Answer = Result<Told, String>;

/// What one holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) held: Held,
    /// Looked for where it holds no transaction.
    pub(super) instead: Instead,
    /// When it said so, by this machine's clock.
    pub(super) at: TimestampMs,
}

/// What tells an empty replica from one that is not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Instead {
    /// The newest epoch that was opened: there was data.
    pub(super) opened: Option<Epoch>,
    /// A v0.3 backup.
    pub(super) v3: bool,
}

/// Asks, and waits no longer than `limit` in all, nor than a day; answers come in the order of the replicas.
///
/// # Errors
/// No thread is to be had.
pub(super) fn ask(world: &World, replicas: Vec<Settings>, limit: Duration) -> Result<Vec<Answer>, Trouble> {
    let limit = limit.min(LONGEST);
    let until = world.clock.boot().saturating_add(limit);
    let late = |replica: &Settings| format!("{}: no answer within {limit:?}", replica.location());
    let mut answers: Vec<Answer> = replicas.iter().map(|replica| Err(late(replica))).collect();
    let threads = replicas.len().min(AT_ONCE);
    let queue: Vec<(usize, Settings)> = replicas.into_iter().enumerate().rev().collect();
    let queue = Arc::new(Mutex::new(queue));
    let (tell, told) = mpsc::channel();
    for _ in 0..threads {
        let (world, queue, tell) = (world.clone(), Arc::clone(&queue), tell.clone());
        thread("look", move || {
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            while let Some((at, replica)) = next() {
                let answer = ask_one(&world, &replica, until).map_err(|error| error.to_string());
                if tell.send((at, answer)).is_err() {
                    return;
                }
            }
        })?;
    }
    drop(tell);
    while let Ok((at, answer)) = told.recv_timeout(until.saturating_sub(world.clock.boot())) {
        answers[at] = answer;
    }
    Ok(answers)
}

/// Asks one. Half of the time is for trying again: why it does not answer is then known in the other half. Who says nothing
/// at all is given up by `ask` alone: a limit of the store's own at the same moment would be a race for the reason.
fn ask_one(world: &World, replica: &Settings, until: Duration) -> Result<Told, StoreError> {
    let left = until.saturating_sub(world.clock.boot()).max(Duration::from_millis(1));
    let answer = 2 * left + Duration::from_secs(60);
    let policy = Policy { longest: Duration::from_secs(1), total: left / 2, answer, ..Policy::default() };
    let (clock, random) = (Arc::clone(&world.clock), Arc::clone(&world.random));
    let store = location::open_with(replica, policy, clock, random)?;
    let held = held(&*store)?;
    let instead = if held.newest.is_none() {
        let look = look(&*store, 1)?;
        Instead { opened: look.opened, v3: !look.v3_snapshots.is_empty() }
    } else {
        Instead::default()
    };
    Ok(Told { held, instead, at: world.clock.wall() })
}
