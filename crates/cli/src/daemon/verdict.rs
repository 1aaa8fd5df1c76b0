//! What the last verification of a replica came to, kept beside the database's local state: a restart forgets neither
//! a replica that was found bad nor when it was looked at.

use crate::text::time;
use litekeep::files::{self, RealFiles};
use litekeep::noted;
use litekeep_formats::{TimestampMs, Txid};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The file, in the local state's directory.
pub(crate) const FILE: &str = "verified";
/// Its largest size, bytes: a sentence and three words.
const LIMIT: u64 = 64 << 10;

/// What a verification came to that could be carried out, and the newest good restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The replica, without secrets.
    pub(crate) replica: String,
    /// When the last verification ended, by this machine's clock; `None` if there was none, but a restore that was good.
    pub(crate) at: Option<TimestampMs>,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    /// The newest restore that was good: which state, and when it was verified.
    pub(crate) good: Option<(Txid, TimestampMs)>,
}

impl Verdict {
    /// Nothing is known.
    pub(super) fn none(replica: &str) -> Self {
        Self { replica: replica.to_owned(), at: None, failure: None, good: None }
    }

    /// The same with a restore that was good, if it is newer.
    pub(super) fn with(self, restored: (Txid, TimestampMs)) -> Self {
        let good = self.good.filter(|(_, at)| *at >= restored.1).or(Some(restored));
        Self { good, ..self }
    }
}

#[derive(Serialize, Deserialize)]
struct Spelled {
    replica: String,
    at: Option<String>,
    failure: Option<String>,
    verified_txid: Option<String>,
    verified_at: Option<String>,
}

/// The last verdict on this replica, and the newest good restore, be it one that the engine made by itself; `None` where
/// there is none, or none that is understood.
pub(crate) fn read(state_dir: &Path, replica: &str) -> Option<Verdict> {
    let (written, noted) = (written(state_dir, replica), noted::restored(&RealFiles, state_dir, replica));
    let Some(noted) = noted else { return written };
    let before = written.unwrap_or_else(|| Verdict::none(replica));
    Some(before.with(noted))
}

fn written(state_dir: &Path, replica: &str) -> Option<Verdict> {
    let text = files::read_small(&RealFiles, &state_dir.join(FILE), LIMIT).ok().flatten()?;
    let spelled: Spelled = serde_json::from_slice(&text).ok()?;
    let good = spelled.verified_txid.as_deref().and_then(Txid::parse_hex);
    let verdict = Verdict {
        at: spelled.at.as_deref().and_then(time::parse),
        failure: spelled.failure,
        good: good.zip(spelled.verified_at.as_deref().and_then(time::parse)),
        replica: spelled.replica,
    };
    (verdict.replica == replica).then_some(verdict)
}

/// Writes it down in place of the one before.
///
/// # Errors
/// The file system's.
pub(crate) fn write(state_dir: &Path, verdict: &Verdict) -> io::Result<()> {
    let spelled = Spelled {
        replica: verdict.replica.clone(),
        at: verdict.at.map(time::format),
        failure: verdict.failure.clone(),
        verified_txid: verdict.good.map(|(txid, _)| txid.to_string()),
        verified_at: verdict.good.map(|(_, at)| time::format(at)),
    };
    let mut text = serde_json::to_vec_pretty(&spelled)?;
    text.push(b'\n');
    files::replace(&RealFiles, &state_dir.join(FILE), &text)
}

/// Notes a restore that was good. It says nothing of the files that it did not need: what the last verification came to
/// stays, and the next one is due as if this had not been.
///
/// # Errors
/// The file system's.
pub(crate) fn restored(state_dir: &Path, replica: &str, txid: Txid, at: TimestampMs) -> io::Result<()> {
    let before = written(state_dir, replica).unwrap_or_else(|| Verdict::none(replica));
    write(state_dir, &Verdict { good: Some((txid, at)), ..before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_as_it_was_written_and_counts_for_its_replica_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(dir.path(), "s3://b/a"), None);
        let good = Txid::new(7).map(|txid| (txid, TimestampMs(1_800_000_000_123)));
        for (failure, good) in [(None, good), (Some("a gap".to_owned()), good), (Some("x".to_owned()), None)]
        {
            for at in [None, Some(TimestampMs(1_800_000_100_456))] {
                let verdict = Verdict { replica: "s3://b/a".to_owned(), at, failure: failure.clone(), good };
                write(dir.path(), &verdict).expect("written");
                assert_eq!(read(dir.path(), "s3://b/a"), Some(verdict));
                assert_eq!(read(dir.path(), "s3://b/c"), None);
            }
        }
    }

    #[test]
    fn a_restore_is_noted_beside_what_the_last_verification_found_and_does_not_stand_for_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let replica = "s3://b/a";
        let txid = |txid| Txid::new(txid).expect("a TXID");
        restored(dir.path(), replica, txid(3), TimestampMs(5)).expect("noted");
        let noted = Verdict {
            replica: replica.to_owned(),
            at: None,
            failure: None,
            good: Some((txid(3), TimestampMs(5))),
        };
        assert_eq!(read(dir.path(), replica), Some(noted.clone()));
        let found = Verdict { at: Some(TimestampMs(7)), failure: Some("a gap".to_owned()), ..noted };
        write(dir.path(), &found).expect("written");
        restored(dir.path(), replica, txid(4), TimestampMs(9)).expect("noted");
        let wanted = Verdict { good: Some((txid(4), TimestampMs(9))), ..found };
        assert_eq!(read(dir.path(), replica), Some(wanted));
    }
}
