//! inotify, shared by the databases of a process.

use crate::files::{parent, with_suffix};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the probe's event may take.
const PROBE: Duration = Duration::from_secs(2);

/// How long to leave the system alone when it can't say what happened.
const PAUSE: Duration = Duration::from_secs(1);

type Poke = Arc<dyn Fn() + Send + Sync>;

/// A name in a directory: the kernel's number of the directory's watch, never used twice, and the name.
type Name = (i32, Vec<u8>);

/// The instance, and the thread that reads its events.
pub(super) struct Hub {
    shared: Arc<Shared>,
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    watch: OwnedFd,
    seats: Mutex<Seats>,
}

/// Who is told of what.
#[derive(Default)]
struct Seats {
    by_name: BTreeMap<Name, Vec<(u64, Poke)>>,
    next: u64,
    probes: Probes,
}

/// What probes have shown of file systems, by device.
#[derive(Default)]
struct Probes {
    /// On these nothing arrives: trying again in each directory would cost two seconds each.
    silent: BTreeSet<u64>,
    /// On these something has arrived.
    heard: BTreeSet<u64>,
    /// Here one was missed, and none was heard since. The machine may just have been slow.
    missed: BTreeMap<u64, PathBuf>,
}

impl Probes {
    /// One probe may be late where others arrived; a second directory's can't be by accident.
    fn note(&mut self, device: u64, directory: &Path, arrived: bool) {
        if arrived {
            self.heard.insert(device);
            self.missed.remove(&device);
            return;
        }
        let elsewhere = self.missed.get(&device).is_some_and(|missed| missed != directory);
        if elsewhere || !self.heard.contains(&device) {
            self.silent.insert(device);
        }
        self.missed.insert(device, directory.to_owned());
    }
}

/// A place among those who are told; dropping it gives it up.
pub(super) struct Seat {
    hub: Arc<Hub>,
    id: u64,
    descriptor: i32,
}

impl Hub {
    pub(super) fn start() -> io::Result<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { watch, seats: Mutex::default() });
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (theirs, until) = (Arc::clone(&shared), Arc::clone(&end));
        let thread =
            std::thread::Builder::new().name("watch".to_owned()).spawn(move || theirs.run(&until))?;
        Ok(Self { shared, end, thread: Some(thread) })
    }

    /// Takes a seat for a database, once notification has been seen to arrive in its directory.
    pub(super) fn seat(hub: &Arc<Self>, database: &Path, poke: Poke) -> io::Result<Seat> {
        let silent =
            || io::Error::new(io::ErrorKind::TimedOut, "no file notification arrives in this directory");
        let device = std::fs::metadata(parent(database))?.dev();
        if hub.shared.seats().probes.silent.contains(&device) {
            return Err(silent());
        }
        let wal = with_suffix(database, "-wal");
        let names = [database, &wal].map(|path| path.file_name().unwrap_or_default().as_bytes().to_vec());
        let seat = Self::sit(hub, database, names.to_vec(), &poke)?;
        let arrived = prove(hub, database)?;
        hub.shared.seats().probes.note(device, parent(database), arrived);
        if arrived { Ok(seat) } else { Err(silent()) }
    }

    fn sit(hub: &Arc<Self>, database: &Path, names: Vec<Vec<u8>>, poke: &Poke) -> io::Result<Seat> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            // The directory's own: its databases are gone from where they are looked for.
            | WatchFlags::MOVE_SELF;
        // Under the lock: nobody gives this directory up in between.
        let mut seats = hub.shared.seats();
        let descriptor = inotify::add_watch(&hub.shared.watch, parent(database), flags)?;
        let id = seats.next;
        seats.next += 1;
        for name in names {
            seats.by_name.entry((descriptor, name)).or_default().push((id, Arc::clone(poke)));
        }
        Ok(Seat { hub: Arc::clone(hub), id, descriptor })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // An eventfd takes any write; if it did not, the thread would only live on with the process.
        let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.hub.shared.seats();
        let here = (self.descriptor, Vec::new())..(self.descriptor.saturating_add(1), Vec::new());
        for (_, seated) in seats.by_name.range_mut(here.clone()) {
            seated.retain(|(id, _)| *id != self.id);
        }
        let empty: Vec<_> = seats
            .by_name
            .range(here.clone())
            .filter(|(_, seated)| seated.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in empty {
            seats.by_name.remove(&name);
        }
        if seats.by_name.range(here).next().is_none() {
            // The directory may be gone, and its watch with it.
            let _ = inotify::remove_watch(&self.hub.shared.watch, self.descriptor);
        }
    }
}

impl Seats {
    /// Everybody, each once.
    fn all(&self) -> BTreeMap<u64, Poke> {
        self.by_name.values().flatten().cloned().collect()
    }
}

impl Shared {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, end: &OwnedFd) {
        loop {
            let mut both = [PollFd::new(&self.watch, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            match poll(&mut both, None) {
                Ok(_) if !both[1].revents().is_empty() => return,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    // Whatever it is, databases must not rest in the belief that they would hear: as good as polling.
                    tracing::warn!(%error, "file notification is disturbed");
                    let all = self.seats().all();
                    all.into_values().for_each(|poke| poke());
                    std::thread::park_timeout(PAUSE);
                    continue;
                }
            }
            for poke in self.read() {
                poke();
            }
        }
    }

    /// Reads all events; who is to be told of them, each once.
    fn read(&self) -> Vec<Poke> {
        let mut told: BTreeMap<u64, Poke> = BTreeMap::new();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.watch, &mut buffer);
        while let Ok(event) = reader.next() {
            let seats = self.seats();
            let tell: Vec<_> = if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                // What was lost may have been anybody's.
                seats.all().into_iter().collect()
            } else if let Some(name) = event.file_name() {
                let name = (event.wd(), name.to_bytes().to_vec());
                seats.by_name.get(&name).into_iter().flatten().cloned().collect()
            } else {
                // The directory itself: moved away, or gone.
                let here = (event.wd(), Vec::new())..(event.wd().saturating_add(1), Vec::new());
                seats.by_name.range(here).flat_map(|(_, seated)| seated).cloned().collect()
            };
            told.extend(tell);
        }
        told.into_values().collect()
    }
}

/// Whether an event of a file of our own arrives.
fn prove(hub: &Arc<Hub>, database: &Path) -> io::Result<bool> {
    let mut name = OsStr::new(".").to_owned();
    name.push(database.file_name().unwrap_or_default());
    name.push(format!("-litekeep-probe-{}", std::process::id()));
    let probe = database.with_file_name(&name);
    let (seen, events) = sync_channel(1);
    let poke: Poke = Arc::new(move || {
        // A full channel holds what is waited for already.
        let _ = seen.try_send(());
    });
    let _seat = Hub::sit(hub, database, vec![name.as_bytes().to_vec()], &poke)?;
    std::fs::write(&probe, b"1")?;
    let arrived = events.recv_timeout(PROBE);
    std::fs::remove_file(&probe)?;
    Ok(arrived != Err(RecvTimeoutError::Timeout))
}

#[cfg(test)]
mod tests {
    use super::super::Watch;
    use super::Probes;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(30);

    fn watched(watch: &Watch, path: &Path) -> (super::super::Watcher, Receiver<()>) {
        let (seen, events) = channel();
        let poke = move || {
            let _ = seen.send(());
        };
        (watch.add(path, poke).expect("watched"), events)
    }

    #[test]
    fn databases_of_one_directory_share_its_watch_and_each_hears_of_its_own_files_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let watch = Watch::start().expect("started");
        let [a, b] = ["a.db", "b.db"].map(|name| dir.path().join(name));
        let (seat_a, heard_a) = watched(&watch, &a);
        let (_seat_b, heard_b) = watched(&watch, &b);
        std::fs::write(dir.path().join("a.db-wal"), b"1").expect("written");
        heard_a.recv_timeout(LIMIT).expect("told");
        // Events come in order: what `a` was told of, `b` would have been told of by now.
        std::fs::write(&b, b"1").expect("written");
        heard_b.recv_timeout(LIMIT).expect("told");
        drop(seat_a);
        while heard_a.try_recv().is_ok() || heard_b.try_recv().is_ok() {}
        std::fs::write(dir.path().join("a.db-wal"), b"2").expect("written");
        std::fs::write(dir.path().join("b.db-wal"), b"2").expect("written");
        heard_b.recv_timeout(LIMIT).expect("told, though another database of the directory was given up");
        assert!(heard_a.try_recv().is_err(), "a database that was given up is told of nothing");
    }

    #[test]
    fn a_directory_that_goes_away_wakes_its_databases() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        let watch = Watch::start().expect("started");
        let (_seat, heard) = watched(&watch, &inner.join("a.db"));
        std::fs::remove_dir(&inner).expect("removed");
        heard.recv_timeout(LIMIT).expect("told");
    }

    #[test]
    fn a_directory_that_is_moved_away_wakes_its_databases() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        let watch = Watch::start().expect("started");
        let (_seat, heard) = watched(&watch, &inner.join("a.db"));
        std::fs::rename(&inner, dir.path().join("moved")).expect("moved");
        heard.recv_timeout(LIMIT).expect("told");
    }

    #[test]
    fn one_late_probe_does_not_make_a_file_system_silent_where_others_arrived() {
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        for (probes, silent) in [
            (&[(a, false)][..], true),
            (&[(a, true), (b, false)], false),
            (&[(a, true), (b, false), (b, false)], false),
            (&[(a, true), (b, false), (a, false)], true),
            (&[(a, true), (b, false), (a, true), (b, false)], false),
        ] {
            let mut seen = Probes::default();
            probes.iter().for_each(|(directory, arrived)| seen.note(7, directory, *arrived));
            assert_eq!(seen.silent.contains(&7), silent, "{probes:?}");
            assert!(!seen.silent.contains(&8));
        }
    }

    #[test]
    fn a_thousand_databases_take_one_instance_and_one_thread() {
        let dir = tempfile::tempdir().expect("a directory");
        let watch = Watch::start().expect("started");
        let descriptors = || std::fs::read_dir("/proc/self/fd").expect("read").count();
        let before = descriptors();
        let seats: Vec<_> = (0..1000).map(|n| watched(&watch, &dir.path().join(format!("{n}.db")))).collect();
        // Other tests of this process open files as well.
        assert!(descriptors() < before + 500);
        std::fs::write(dir.path().join("777.db-wal"), b"1").expect("written");
        seats[777].1.recv_timeout(LIMIT).expect("told");
    }
}
