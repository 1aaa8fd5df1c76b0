//! What a `replicate -exec` asks the stores by itself, away from the thread that decides: a store that is out of reach must
//! not keep a signal waiting.

use super::restore;
use crate::trouble::{Exit, Trouble};
use litekeep::files::RealFiles;
use litekeep::node::{self, Successor};
use litekeep::restore::{self as engine, Options, Outcome, RestoreEnv};
use litekeep_core::env::Clock;
use litekeep_formats::Epoch;
use litekeep_store::Store;
use std::path::PathBuf;
use std::sync::Arc;

/// What became of whoever took over, all databases together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its command is well.
    Well,
    /// That is not known yet.
    Open,
    /// It runs no command, for this reason.
    Gone(&'static str),
}

/// Looks past the last epoch of each database that was owned here.
pub(super) fn successor(databases: &[(Arc<dyn Store>, Option<Epoch>)]) -> Seen {
    let found = databases.iter().map(|(store, epoch)| {
        let found = node::successor(&**store, *epoch)
            .inspect_err(|error| tracing::warn!(%error, "cannot see whether the other instance is well"));
        (found.ok(), *epoch)
    });
    judge(found)
}

fn judge(found: impl Iterator<Item = (Option<Successor>, Option<Epoch>)>) -> Seen {
    let (mut opened, mut open) = (false, false);
    for found in found {
        match found {
            (Some(Successor::Opened), _) => opened = true,
            (Some(Successor::GaveUp), _) => return Seen::Gone("the other instance gave up"),
            (Some(Successor::Left), _) => return Seen::Gone("the other instance has left"),
            // Nobody has made that database yet.
            (Some(Successor::Nobody), None) => {}
            (Some(Successor::Claimed | Successor::Nobody) | None, _) => open = true,
        }
    }
    if opened && !open { Seen::Well } else { Seen::Open }
}

/// Whether the replicas of databases that are not there are confirmed empty, so that the command may make them.
///
/// # Errors
/// One is not, or cannot be asked; as a restore would say it.
pub(super) fn survey(clock: &Arc<dyn Clock>, absent: Vec<(Arc<dyn Store>, PathBuf)>) -> Result<(), Trouble> {
    for (store, path) in absent {
        let env = RestoreEnv { store, files: Arc::new(RealFiles), clock: Arc::clone(clock), vfs: None };
        let options = Options { dry_run: true, if_replica_exists: true, ..Options::new(&path) };
        let found = engine::restore(&env, &options, &mut |_| {}).map_err(|error| restore::trouble(&error))?;
        if let Outcome::Planned(_) | Outcome::Restored(_) = found {
            return Err(Trouble::new(format!("{} is not there, and its replica holds one", path.display()))
                .cause("the command would make another beside it")
                .hint("restore it first; -restore-if-db-not-exists does so at every start")
                .exit(Exit::DIVERGED));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_well_where_every_database_is_and_gone_where_one_is() {
        use Successor::{Claimed, GaveUp, Left, Nobody, Opened};
        let ours = Some(Epoch::FIRST);
        let check = |found: &[(Option<Successor>, Option<Epoch>)], wanted: Option<Seen>| match (
            judge(found.iter().copied()),
            wanted,
        ) {
            (Seen::Gone(_), None) => {}
            (seen, wanted) => assert_eq!(Some(seen), wanted, "{found:?}"),
        };
        check(&[(Some(Opened), ours)], Some(Seen::Well));
        check(&[(Some(Opened), ours), (Some(Opened), None)], Some(Seen::Well));
        check(&[(Some(Opened), ours), (Some(Nobody), None)], Some(Seen::Well));
        check(&[(Some(Opened), ours), (Some(Nobody), ours)], Some(Seen::Open));
        check(&[(Some(Opened), ours), (Some(Claimed), ours)], Some(Seen::Open));
        check(&[(Some(Opened), ours), (None, ours)], Some(Seen::Open));
        check(&[(Some(Nobody), None)], Some(Seen::Open));
        check(&[(Some(Opened), ours), (Some(GaveUp), ours)], None);
        check(&[(Some(Claimed), ours), (Some(Left), None)], None);
    }
}
