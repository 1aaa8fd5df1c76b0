//! Restores a replica into a scratch place and compares what came with the database that it is a copy of.
//!
//! Writes nothing but the scratch file; whoever named the place takes it away again.

use super::compare::{Compared, Original, compare};
use crate::restore::{self, IntegrityCheck, Options, Outcome, Progress, RestoreEnv, RestoreError, Restored};
use std::path::Path;

/// What a trial gave.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The copy: its chain's end, and what vouches for it.
    pub restored: Box<Restored>,
    /// How the database lies to it; `None` where none was named, and for a v0.3 backup.
    pub compared: Option<Compared>,
}

impl Trial {
    /// The database and the copy are of the same transaction, nothing was written since, and they differ.
    pub fn has_diverged(&self) -> bool {
        matches!(self.compared, Some(Compared::Differs { certain: true, .. }))
    }
}

/// Restores the newest state into `output` and lets SQLite check all of it; then compares it with `original`.
///
/// # Errors
/// Those of [`restore::restore`].
pub fn trial(
    env: &RestoreEnv,
    output: &Path,
    parallelism: usize,
    original: Option<Original<'_>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Trial, RestoreError> {
    let options = Options { integrity: IntegrityCheck::Full, parallelism, ..Options::new(output) };
    let restored = match restore::restore(env, &options, progress)? {
        Outcome::Restored(restored) => restored,
        Outcome::Skipped(_) | Outcome::Planned(_) => {
            return Err(RestoreError::Sqlite("nothing was restored, though nothing said why".to_owned()));
        }
    };
    let location = env.store.location();
    let compared =
        original.zip(restored.txid()).map(|(original, txid)| compare(original, output, &location, txid));
    Ok(Trial { restored, compared })
}
