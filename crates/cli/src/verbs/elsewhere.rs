//! Before "no backup" is believed and something starts fresh: a look where Litestream's backup lies, where a default of a
//! variable makes that another place. Looks only, and only where the database's own replica is empty.

use super::restore;
use crate::config::{Database, Elsewhere};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::files::RealFiles;
use litekeep::restore::{Options, Outcome, RestoreEnv, RestoreError, Skipped, exit};
use litekeep_store::location::{self, Settings};
use litekeep_store::retry::Policy;
use litekeep_store::{Failure, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// As [`restore::perform`], but that a replica is not empty whose backup lies elsewhere.
///
/// # Errors
/// As there, and where a backup lies at the other place, or that cannot be told.
pub(super) fn perform(
    world: &World,
    replica: &Settings,
    elsewhere: Option<&Elsewhere>,
    options: &Options,
) -> Result<Outcome, Trouble> {
    let outcome = restore::perform(world, replica, options);
    let empty = match &outcome {
        Ok(outcome) => matches!(outcome, Outcome::Skipped(Skipped::ReplicaEmpty(_))),
        Err(trouble) => trouble.exit == Exit(exit::EMPTY),
    };
    if let (true, Some(elsewhere)) = (empty, elsewhere) {
        look(world, (replica, Own::Empty), elsewhere, options)?;
    }
    outcome
}

/// Before somebody makes a database that is not restored first. Other databases wait for the answer: its own replica is not
/// asked for long.
///
/// # Errors
/// A backup lies at the other place, or that cannot be told, and none is known to lie in its own replica.
pub(super) fn fresh(world: &World, database: &Database) -> Result<(), Trouble> {
    const SHORT: Policy = Policy {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(1),
        total: Duration::from_secs(3),
        answer: Duration::from_secs(3),
    };
    let Some(elsewhere) = database.elsewhere.as_ref().filter(|_| !database.path.exists()) else {
        return Ok(());
    };
    let options = planning(&Options::new(database.path.clone()));
    let own = match plan(world, &database.replica, &options, SHORT) {
        Ok(Outcome::Skipped(Skipped::ReplicaEmpty(_))) => Own::Empty,
        // Whoever begins asks it again; if it turns out to be empty then, nobody looks elsewhere any more.
        Err(RestoreError::Unreachable(_) | RestoreError::Unsettled { .. }) => Own::Unknown,
        // what else is there, or in the way, whoever begins finds for itself
        _ => return Ok(()),
    };
    look(world, (&database.replica, own), elsewhere, &options)
}

/// What is known of the database's own replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Empty,
    /// It did not answer, or refused.
    Unknown,
}

fn look(
    world: &World,
    (replica, own): (&Settings, Own),
    elsewhere: &Elsewhere,
    options: &Options,
) -> Result<(), Trouble> {
    tracing::warn!("{}", elsewhere.warning);
    let Some(there) = &elsewhere.replica else { return Ok(()) };
    match plan(world, there, &planning(options), Policy::default()) {
        Ok(Outcome::Planned(planned)) => {
            let found = match own {
                Own::Empty => "no matching backups found",
                Own::Unknown => "it cannot be told whether there are backups",
            };
            Err(Trouble::new(format!("{found} at {}", replica.location()))
                .hint(format!("a replica lies at {}", planned.location))
                .exit(if own == Own::Empty { Exit(exit::EMPTY) } else { restore::UNREACHABLE }))
        }
        Err(RestoreError::Unreachable(error)) if is_no_place(&error, own) => Ok(()),
        Err(error) => Err(restore::trouble(&error)),
        Ok(_) => Ok(()),
    }
}

/// Whether there is no such bucket, or it keeps the keys out that its own replica takes: a place that Litestream's expansion
/// made by accident, and no backup can be in it. The store's answer begins with its status.
fn is_no_place(error: &StoreError, own: Own) -> bool {
    let Failure::Text(answer) = &error.cause else { return false };
    let refused = answer.starts_with("403 ") || answer.starts_with("HTTP status 403");
    answer.starts_with("404 NoSuchBucket") || (refused && own == Own::Empty)
}

/// What would be restored, without a word.
fn plan(
    world: &World,
    replica: &Settings,
    options: &Options,
    policy: Policy,
) -> Result<Outcome, RestoreError> {
    let (clock, random) = (Arc::clone(&world.clock), Arc::clone(&world.random));
    let env = RestoreEnv {
        store: location::open_with(replica, policy, clock, random)?,
        files: Arc::new(RealFiles),
        clock: Arc::clone(&world.clock),
        vfs: None,
    };
    litekeep::restore::restore(&env, options, &mut |_| {})
}

/// The newest state of whatever is there, and nothing is restored.
fn planning(options: &Options) -> Options {
    Options { dry_run: true, if_replica_exists: true, ..Options::new(options.output.clone()) }
}
