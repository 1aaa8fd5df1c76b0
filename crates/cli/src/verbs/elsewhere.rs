//! Before "no backup" is believed and something starts fresh: a look where Litestream's backup lies, where a default of a
//! variable makes that another place. Looks only, and only where the database's own replica is empty.

use super::restore;
use crate::config::{Database, Elsewhere};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::restore::{Options, Outcome, Skipped, exit};
use litekeep_store::location::Settings;

/// As [`restore::perform`], but that a replica is not empty whose backup lies elsewhere.
///
/// # Errors
/// As there, and where a backup lies at the other place.
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
        look(world, replica, elsewhere, options)?;
    }
    outcome
}

/// Before somebody makes a database that is not restored first.
///
/// # Errors
/// Its replica is empty, and a backup lies at the other place.
pub(super) fn fresh(world: &World, database: &Database) -> Result<(), Trouble> {
    let Some(elsewhere) = database.elsewhere.as_ref().filter(|_| !database.path.exists()) else {
        return Ok(());
    };
    let options = planning(&Options::new(database.path.clone()));
    match restore::perform(world, &database.replica, &options) {
        Ok(Outcome::Skipped(Skipped::ReplicaEmpty(_))) => look(world, &database.replica, elsewhere, &options),
        // what else is there, or in the way, whoever begins finds for itself
        _ => Ok(()),
    }
}

fn look(world: &World, replica: &Settings, elsewhere: &Elsewhere, options: &Options) -> Result<(), Trouble> {
    tracing::warn!("{}", elsewhere.warning);
    let Some(there) = &elsewhere.replica else { return Ok(()) };
    match restore::perform(world, there, &planning(options)) {
        Ok(Outcome::Planned(planned)) => {
            Err(Trouble::new(format!("no matching backups found at {}", replica.location()))
                .hint(format!("a replica lies at {}", planned.location))
                .exit(Exit(exit::EMPTY)))
        }
        // a place that cannot be read is no backup, and the warning names it
        _ => Ok(()),
    }
}

/// The newest state of whatever is there, and nothing is restored.
fn planning(options: &Options) -> Options {
    Options { dry_run: true, if_replica_exists: true, ..Options::new(options.output.clone()) }
}
