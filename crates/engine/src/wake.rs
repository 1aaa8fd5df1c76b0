//! File notification: who writes to the `-wal` wakes the replicator.
//!
//! Notification is proved at start with a file of our own in the same directory, because some file systems accept a
//! watch and never report anything. Where it does not arrive, the caller polls. Only Linux's inotify is spoken here.

use std::io;
use std::path::Path;

/// Watches a database's directory; dropping it ends the watch.
pub struct Watcher {
    #[cfg(target_os = "linux")]
    inner: linux::Inner,
}

impl Watcher {
    /// Begins to watch, and proves that notification arrives.
    ///
    /// # Errors
    /// Whatever stands in the way; poll instead.
    #[cfg(target_os = "linux")]
    pub fn start(database: &Path, poke: impl Fn() + Send + 'static) -> io::Result<Self> {
        Ok(Self { inner: linux::Inner::start(database, poke)? })
    }

    /// See the Linux version.
    #[cfg(not(target_os = "linux"))]
    pub fn start(_database: &Path, _poke: impl Fn() + Send + 'static) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
impl Drop for Watcher {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::files::{parent, with_suffix};
    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
    use rustix::fd::OwnedFd;
    use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
    use std::ffi::OsStr;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    /// How long the probe's event may take, seconds.
    const PROBE_SECONDS: i64 = 2;

    pub(super) struct Inner {
        end: Arc<OwnedFd>,
        thread: Option<JoinHandle<()>>,
    }

    impl Inner {
        pub(super) fn start(database: &Path, poke: impl Fn() + Send + 'static) -> io::Result<Self> {
            let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let flags = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, parent(database), flags)?;
            prove(&watch, database)?;
            let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let names = names(database);
            let until = Arc::clone(&end);
            let thread = std::thread::Builder::new()
                .name("watch".to_owned())
                .spawn(move || run(&watch, &until, &names, &poke))?;
            Ok(Self { end, thread: Some(thread) })
        }

        pub(super) fn stop(&mut self) {
            // An eventfd takes any write; if it did not, the thread would only live on with the process.
            let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }

    /// The names that matter: the database and its WAL.
    fn names(database: &Path) -> Vec<Vec<u8>> {
        let wal = with_suffix(database, "-wal");
        [database, &wal]
            .iter()
            .filter_map(|path| path.file_name())
            .map(|name| name.as_bytes().to_vec())
            .collect()
    }

    fn run(watch: &OwnedFd, end: &OwnedFd, names: &[Vec<u8>], poke: &dyn Fn()) {
        loop {
            let mut both = [PollFd::new(watch, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            match poll(&mut both, None) {
                Ok(_) if !both[1].revents().is_empty() => return,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if any_event(watch, |name| names.iter().any(|known| known == name)) {
                poke();
            }
        }
    }

    /// Reads all events; whether one of them matters (one that says that events were lost always does).
    fn any_event(watch: &OwnedFd, matters: impl Fn(&[u8]) -> bool) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(watch, &mut buffer);
        let mut any = false;
        while let Ok(event) = reader.next() {
            any |= event.file_name().is_none_or(|name| matters(name.to_bytes()));
        }
        any
    }

    fn prove(watch: &OwnedFd, database: &Path) -> io::Result<()> {
        let mut name = OsStr::new(".").to_owned();
        name.push(database.file_name().unwrap_or_default());
        name.push(format!("-litekeep-probe-{}", std::process::id()));
        let probe = database.with_file_name(&name);
        std::fs::write(&probe, b"1")?;
        let seen = wait_for(watch, name.as_bytes());
        std::fs::remove_file(&probe)?;
        if seen? {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::TimedOut, "no file notification arrives in this directory"))
        }
    }

    fn wait_for(watch: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        let limit = Timespec { tv_sec: PROBE_SECONDS, tv_nsec: 0 };
        // Each round takes events off the queue; other files' events may come first, a busy directory's many.
        for _ in 0..1000 {
            let mut one = [PollFd::new(watch, PollFlags::IN)];
            if poll(&mut one, Some(&limit))? == 0 {
                return Ok(false);
            }
            if any_event(watch, |seen| seen == name) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
