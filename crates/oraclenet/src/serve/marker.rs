//! A small file beside the database that says which process serves it, and whether that may write: for other programs
//! of ours on this machine. The server holds a lock on it, so what is left of a dead one counts for nothing.

use super::{Trouble, World, exit};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Beside the database.
const NAME: &str = ".oraclenet-server";
/// Always as many bytes, so that a new text replaces an old one in one write.
const BYTES: usize = 64;
/// How long a server waits for a program that writes to the database while no server runs.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The file, with its lock.
pub(super) struct Marker(File);

/// Who has the database.
pub(super) enum Holder {
    /// A server.
    Server(Serving),
    /// No server; none can start while this is kept.
    Nobody(Marker),
}

/// What a running server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Serving {
    path: PathBuf,
    pub(super) pid: i32,
    pub(super) may_write: bool,
    /// In which numbering of processes `pid` is its.
    namespace: String,
}

impl Marker {
    /// For a server; it may not write yet.
    pub(super) fn take(world: &World, dir: &Path) -> Result<Self, Trouble> {
        let begun = world.clock.boot();
        loop {
            match who(dir)? {
                Holder::Nobody(marker) => {
                    marker.set(false);
                    return Ok(marker);
                }
                Holder::Server(serving) if world.clock.boot().saturating_sub(begun) >= PATIENCE => {
                    let what = format!("{} is served by another process ({})", dir.display(), serving.pid);
                    return Err(
                        Trouble::new(exit::FAILED, what).hint("stop it first, or choose another --dir")
                    );
                }
                Holder::Server(_) => world.clock.sleep(PAUSE),
            }
        }
    }

    /// Says whether this server may write.
    pub(super) fn set(&self, may_write: bool) {
        self.write(std::process::id(), may_write);
    }

    fn write(&self, pid: u32, may_write: bool) {
        let role = if may_write { "owner" } else { "standby" };
        let text = format!("{:<width$}\n", format!("{pid} {role} {}", namespace()), width = BYTES - 1);
        if let Err(error) = self.0.write_all_at(text.as_bytes(), 0) {
            tracing::warn!(%error, "{NAME} cannot be written: `oraclenet superuser` may be refused");
        }
    }
}

/// Looks who has the database of a folder.
pub(super) fn who(dir: &Path) -> Result<Holder, Trouble> {
    let path = dir.join(NAME);
    let failed = |error: &dyn std::fmt::Display| {
        Trouble::new(exit::FAILED, format!("cannot use {}: {error}", path.display()))
    };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {
            // What a dead server left would send others to whoever has its number now.
            let marker = Marker(file);
            marker.write(0, false);
            Ok(Holder::Nobody(marker))
        }
        Err(TryLockError::WouldBlock) => {
            Ok(Holder::Server(Serving::read(&path).map_err(|error| failed(&error))?))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Which numbering of processes this one is in: a container has its own. One sign where the system has no such thing.
fn namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid");
    link.map_or_else(|_| "-".to_owned(), |link| link.to_string_lossy().into_owned())
}

impl Serving {
    /// The number that a signal may be sent to: of a server, and in the numbering of this process.
    pub(super) fn reachable(&self) -> Option<i32> {
        (self.pid > 0 && self.namespace == namespace()).then_some(self.pid)
    }

    fn read(path: &Path) -> std::io::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(BYTES as u64).read_to_string(&mut text)?;
        let mut words = text.split_whitespace();
        let pid = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
        let may_write = words.next() == Some("owner");
        let namespace = words.next().unwrap_or_default().to_owned();
        Ok(Self { path: path.to_owned(), pid, may_write, namespace })
    }

    /// What it says now.
    pub(super) fn again(&self) -> std::io::Result<Self> {
        Self::read(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_counts_while_its_server_lives() {
        let dir = tempfile::tempdir().unwrap();
        let Holder::Nobody(marker) = who(dir.path()).unwrap() else { panic!("nobody runs") };
        for may_write in [false, true, false] {
            marker.set(may_write);
            let Holder::Server(serving) = who(dir.path()).unwrap() else { panic!("it is held") };
            let mine = i32::try_from(std::process::id()).unwrap();
            assert_eq!((serving.pid, serving.may_write), (mine, may_write));
            assert_eq!(serving.again().unwrap(), serving);
            assert_eq!(serving.reachable(), Some(mine));
            assert_eq!(Serving { namespace: "pid:[1]".to_owned(), ..serving }.reachable(), None);
        }
        drop(marker);
        let Holder::Nobody(_command) = who(dir.path()).unwrap() else { panic!("nobody runs any more") };
        let Holder::Server(serving) = who(dir.path()).unwrap() else { panic!("it is held") };
        assert_eq!(
            (serving.pid, serving.may_write, serving.reachable()),
            (0, false, None),
            "the dead one's number"
        );
    }
}
