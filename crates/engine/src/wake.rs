//! File notification: who writes to a database or its `-wal` wakes the replicator.
//!
//! One [`Watch`] is enough for any number of databases: one inotify instance, one thread, and one watch for each
//! directory, which the databases in it share. Notification is proved at start with a file of our own in the same
//! directory, because some file systems accept a watch and never report anything; where it does not arrive, the caller
//! polls. Only Linux's inotify is spoken here.

#[cfg(target_os = "linux")]
mod linux;

use std::io;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::Arc;

/// Notification for any number of databases. Clones share it; it ends with the last of them and the last [`Watcher`].
#[derive(Clone)]
pub struct Watch {
    #[cfg(target_os = "linux")]
    hub: Arc<linux::Hub>,
}

/// Watches one database in its directory; dropping it ends that.
pub struct Watcher {
    #[cfg(target_os = "linux")]
    _seat: linux::Seat,
}

impl Watch {
    /// Begins, without a database.
    ///
    /// # Errors
    /// The system has no inotify instance left, or no thread.
    #[cfg(target_os = "linux")]
    pub fn start() -> io::Result<Self> {
        Ok(Self { hub: Arc::new(linux::Hub::start()?) })
    }

    /// See the Linux version.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn start() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Watches a database from now on: `poke` is called, on the one thread of all, for whatever happens to it or its
    /// WAL.
    ///
    /// # Errors
    /// Whatever stands in the way of notification in its directory; poll instead.
    #[cfg(target_os = "linux")]
    pub fn add(&self, database: &Path, poke: impl Fn() + Send + Sync + 'static) -> io::Result<Watcher> {
        Ok(Watcher { _seat: linux::Hub::seat(&self.hub, database, Arc::new(poke))? })
    }

    /// See the Linux version.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn add(&self, _database: &Path, _poke: impl Fn() + Send + Sync + 'static) -> io::Result<Watcher> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
