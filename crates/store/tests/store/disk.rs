//! Directories: what is durable when, disks that fail, and what crashed writers leave.

use crate::support::{TIME, TestClock, clock, random, read, slot};
use bytes::Bytes;
use litekeep_core::env::Clock;
use litekeep_formats::{Level, TimestampMs};
use litekeep_store::directory::DirectoryStore;
use litekeep_store::disk::{Disk, DiskFile, Kind, RealDisk, Stat};
use litekeep_store::{Created, ErrorKind, Scope, Store};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SLOTS: Scope = Scope::Level(Level::SLOTS);

/// The real disk, which notes every changing call and fails those it is told to.
#[derive(Clone, Default)]
struct Watched {
    calls: Arc<Mutex<Vec<String>>>,
    /// Calls that begin so fail with this error code.
    faults: Arc<Mutex<Vec<(&'static str, i32)>>>,
    /// What is opened was renamed just before.
    swift: bool,
}

impl Watched {
    fn note(&self, call: &str, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if name.ends_with(".tmp") { "TMP".into() } else { name };
        self.calls.lock().unwrap().push(format!("{call} {name}"));
        match self.faults.lock().unwrap().iter().find(|(prefix, _)| call == *prefix) {
            Some((_, code)) => Err(io::Error::from_raw_os_error(*code)),
            None => Ok(()),
        }
    }

    fn fail(&self, call: &'static str, code: i32) {
        self.faults.lock().unwrap().push((call, code));
    }

    fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn store(&self, base: &Path) -> DirectoryStore {
        DirectoryStore::on(Arc::new(self.clone()), base, clock(), random())
    }
}

struct WatchedFile(Box<dyn DiskFile>, Watched);

impl Disk for Watched {
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.note("create", path)?;
        Ok(Box::new(WatchedFile(RealDisk.create_file(path)?, self.clone())))
    }
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.note("open", path)?;
        if self.swift {
            RealDisk.rename(path, &path.with_extension("renamed"))?;
        }
        RealDisk.open_file(path)
    }
    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.note("open", path)?;
        RealDisk.open_or_create(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("link", to)?;
        RealDisk.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", to)?;
        RealDisk.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename-new", to)?;
        RealDisk.rename_new(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path)?;
        RealDisk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.note("mkdir", path)?;
        RealDisk.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note("sync-dir", path)?;
        RealDisk.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        RealDisk.stat(path)
    }
    fn read(&self, path: &Path, offset: u64, len: u64) -> io::Result<(Stat, Bytes)> {
        self.note("read", path)?;
        RealDisk.read(path, offset, len)
    }
}

impl DiskFile for WatchedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1.note("write", Path::new("x.tmp"))?;
        self.0.write(bytes)
    }
    fn set_modified(&mut self, at: TimestampMs) -> io::Result<()> {
        self.1.note("touch", Path::new("x.tmp"))?;
        self.0.set_modified(at)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.1.note("sync", Path::new("x.tmp"))?;
        self.0.sync()
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        self.0.try_lock()
    }
    fn stat(&self) -> io::Result<Stat> {
        self.0.stat()
    }
}

/// A clock that really waits: the holder of a lock needs time to let it go.
struct Patient;

impl Clock for Patient {
    fn wall(&self) -> TimestampMs {
        TestClock::default().wall()
    }
    fn boot(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, duration: Duration) {
        #[allow(clippy::disallowed_methods, reason = "threads of this test hold a real lock")]
        std::thread::sleep(duration);
    }
}

fn files(base: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![base.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

const NAME: &str = "0000000000000001-0000000000000001.ltx";

#[test]
fn r59_content_is_durable_before_its_name_and_the_name_before_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Watched::default();
    let store = disk.store(&dir.path().join("r"));
    let tmp = dir.path().file_name().unwrap().to_string_lossy().to_string();
    store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    let link = format!("link {NAME}");
    let wanted = [
        // Each new folder is durable in its parent before anything is put into it.
        "mkdir r",
        &format!("sync-dir {tmp}"),
        "mkdir ltx",
        "sync-dir r",
        "mkdir 0",
        "sync-dir ltx",
        "create TMP",
        "write TMP",
        "touch TMP",
        "sync TMP",
        &link,
        "sync-dir 0",
        "remove TMP",
    ];
    assert_eq!(disk.take(), wanted);
    store.put(&slot(1), Bytes::from_static(b"y"), TIME).unwrap();
    let rename = format!("rename {NAME}");
    assert_eq!(disk.take(), ["create TMP", "write TMP", "touch TMP", "sync TMP", &rename, "sync-dir 0"]);
    let mut upload = store.upload(&slot(1), TIME).unwrap();
    upload.write(b"z").unwrap();
    upload.finish().unwrap();
    assert_eq!(disk.take(), ["create TMP", "write TMP", "touch TMP", "sync TMP", &rename, "sync-dir 0"]);
    // What a loser is told exists is made durable, too.
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"q"), TIME).unwrap(), Created::Exists);
    assert!(disk.take().contains(&"sync-dir 0".to_string()));
}

#[test]
fn r57_r59_whatever_call_fails_nothing_half_made_is_named_and_the_next_try_works() {
    const ENOSPC: i32 = 28;
    const EIO: i32 = 5;
    for (code, kind) in [(ENOSPC, ErrorKind::FixConfig), (EIO, ErrorKind::Retry)] {
        for call in ["mkdir", "create", "write", "touch", "sync", "link", "rename", "sync-dir"] {
            let dir = tempfile::tempdir().unwrap();
            let disk = Watched::default();
            let store = disk.store(&dir.path().join("r"));
            disk.fail(call, code);
            let body = Bytes::from_static(b"whole");
            let results = [
                store.create(&slot(1), body.clone(), TIME).map(drop),
                store.put(&slot(2), body.clone(), TIME),
                store.upload(&slot(3), TIME).and_then(|mut upload| {
                    upload.write(&body)?;
                    upload.finish()
                }),
            ];
            let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
            assert!(!failed.is_empty(), "{call}");
            for error in failed {
                assert_eq!(error.kind, kind, "{call}: {error}");
                assert_eq!(
                    error.to_string().contains("the replica's disk is full"),
                    code == ENOSPC,
                    "{error}"
                );
            }
            disk.heal();
            for entry in store.list(&SLOTS).unwrap() {
                assert_eq!(read(&store, entry.key), b"whole", "{call}");
            }
            assert!(!files(dir.path()).iter().any(|path| path.to_string_lossy().ends_with(".tmp")), "{call}");
            for n in 1..=3 {
                store.put(&slot(n), body.clone(), TIME).unwrap();
            }
        }
    }
}

#[test]
fn without_hard_links_a_create_is_still_create_only() {
    const EPERM: i32 = 1;
    const EINVAL: i32 = 22;
    const ENOSYS: i32 = 38;
    // vfat and the like have exclusive renames; some FUSE file systems have neither.
    for faults in [
        &[("link", EPERM)][..],
        &[("link", EPERM), ("rename-new", EINVAL)],
        &[("link", ENOSYS), ("rename-new", ENOSYS)],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Watched::default();
        faults.iter().for_each(|(call, code)| disk.fail(call, *code));
        let store = || DirectoryStore::on(Arc::new(disk.clone()), dir.path(), Arc::new(Patient), random());
        let stores: Vec<_> = (0..8).map(|_| store()).collect();
        let winners = std::thread::scope(|scope| {
            let racers: Vec<_> = stores
                .iter()
                .enumerate()
                .map(|(n, store)| {
                    scope.spawn(move || store.create(&slot(1), Bytes::from(vec![n as u8]), TIME).unwrap())
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
        });
        let won: Vec<_> = (0..8).filter(|n| winners[*n] == Created::Yes).collect();
        assert_eq!(won.len(), 1, "{faults:?}");
        assert_eq!(read(&stores[0], slot(1)), [won[0] as u8]);
        assert_eq!(stores[0].list(&SLOTS).unwrap().len(), 1);
        assert!(!files(dir.path()).iter().any(|path| path.to_string_lossy().ends_with(".tmp")));
    }
}

#[test]
fn a_file_system_that_lost_the_links_answer_does_not_make_us_lose_our_own_slot() {
    /// Links, then says that the name exists, as NFS may after a repeated call.
    #[derive(Clone)]
    struct Nfs(Watched);
    impl Disk for Nfs {
        fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.link(from, to)?;
            Err(io::ErrorKind::AlreadyExists.into())
        }
        fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.0.create_file(path)
        }
        fn open_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.0.open_file(path)
        }
        fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.0.open_or_create(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.rename_new(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.0.remove(path)
        }
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            self.0.create_dir(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.0.sync_dir(path)
        }
        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            self.0.list(path)
        }
        fn stat(&self, path: &Path) -> io::Result<Stat> {
            self.0.stat(path)
        }
        fn read(&self, path: &Path, offset: u64, len: u64) -> io::Result<(Stat, Bytes)> {
            self.0.read(path, offset, len)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::on(Arc::new(Nfs(Watched::default())), dir.path(), clock(), random());
    assert_eq!(store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap(), Created::Yes);
}

#[test]
fn r26b_a_missing_directory_is_empty_but_a_file_or_a_locked_door_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| DirectoryStore::new(path, clock(), random());
    assert!(open(&dir.path().join("nowhere/at/all")).list(&SLOTS).unwrap().is_empty());
    let file = dir.path().join("file");
    std::fs::write(&file, b"I am a file").unwrap();
    for path in [file.clone(), file.join("below")] {
        for error in [
            open(&path).list(&SLOTS).map(drop).unwrap_err(),
            open(&path).list(&Scope::V3Snapshots).map(drop).unwrap_err(),
            open(&path).create(&slot(1), Bytes::new(), TIME).map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::FixConfig, "{error}");
        }
    }
    // Nobody is kept out of anything when these tests run as root; then only the classification is checked below.
    let locked = dir.path().join("locked");
    open(&locked).create(&slot(1), Bytes::new(), TIME).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    let listed = open(&locked).list(&SLOTS);
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).unwrap();
    match listed {
        Err(error) => assert_eq!(error.kind, ErrorKind::FixConfig, "{error}"),
        Ok(entries) => assert_eq!(entries.len(), 1, "a directory that could be read after all"),
    }
}

#[test]
fn a_denied_directory_call_is_the_persons_move() {
    const EACCES: i32 = 13;
    const EROFS: i32 = 30;
    for code in [EACCES, EROFS] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Watched::default();
        let store = disk.store(dir.path());
        store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
        for call in ["remove", "read", "create"] {
            disk.fail(call, code);
        }
        for error in [
            store.delete(&[slot(1)]).unwrap_err(),
            store.read(&slot(1), None).map(drop).unwrap_err(),
            store.create(&slot(2), Bytes::new(), TIME).map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::FixConfig, "{error}");
        }
    }
}

#[test]
fn litestreams_temporary_files_and_strangers_are_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(dir.path(), clock(), random());
    store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    let folder = dir.path().join("ltx/0");
    for name in [
        "0000000000000002-0000000000000002.ltx.tmp",
        "0000000000000003-0000000000000003.ltx.lk0.tmp",
        "README",
        ".hidden",
        "0000000000000004-0000000000000004.LTX",
    ] {
        std::fs::write(folder.join(name), b"y").unwrap();
    }
    std::fs::create_dir(folder.join("0000000000000005-0000000000000005.ltx")).unwrap();
    assert_eq!(store.list(&SLOTS).unwrap().len(), 1);
}

#[test]
fn what_crashed_writers_left_is_swept_but_never_a_live_writers_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ltx/0");
    std::fs::create_dir_all(&folder).unwrap();
    let name =
        |n: u8| folder.join(format!("000000000000000{n}-000000000000000{n}.ltx.lk00000000000000ff.tmp"));
    let (dead, young, live) = (name(1), name(2), name(3));
    let litestreams = folder.join("0000000000000004-0000000000000004.ltx.tmp");
    for path in [&dead, &young, &live, &litestreams] {
        std::fs::write(path, b"half").unwrap();
    }
    let now: TimestampMs = TestClock::default().wall();
    let mut held = Vec::new();
    for path in [&dead, &live, &litestreams] {
        let mut file = RealDisk.open_file(path).unwrap();
        file.set_modified(TimestampMs(now.0 - 3_600_000)).unwrap();
        if path == &live {
            assert!(file.try_lock().unwrap());
            held.push(file);
        }
    }
    let store = DirectoryStore::new(dir.path(), clock(), random());
    assert!(store.list(&SLOTS).unwrap().is_empty());
    assert!(dead.exists(), "reading sweeps nothing");
    store.create(&slot(9), Bytes::from_static(b"x"), TIME).unwrap();
    let left = [&dead, &young, &live, &litestreams].map(|path| path.exists());
    assert_eq!(left, [false, true, true, true], "dead, young, live, somebody else's");
}

#[test]
fn what_its_writer_renames_while_it_is_swept_does_not_come_back_empty() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ltx/0");
    std::fs::create_dir_all(&folder).unwrap();
    let theirs = folder.join("0000000000000001-0000000000000001.ltx.lk00000000000000ff.tmp");
    std::fs::write(&theirs, b"whole").unwrap();
    let now = TestClock::default().wall();
    RealDisk.open_file(&theirs).unwrap().set_modified(TimestampMs(now.0 - 3_600_000)).unwrap();
    let disk = Watched { swift: true, ..Watched::default() };
    disk.store(dir.path()).create(&slot(9), Bytes::from_static(b"x"), TIME).unwrap();
    assert!(disk.take().contains(&"open TMP".to_owned()), "it was looked at");
    assert!(!theirs.exists());
}

#[test]
fn r50_files_in_a_buckets_layout_are_found_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("0000")).unwrap();
    std::fs::write(dir.path().join("0000").join(NAME), b"x").unwrap();
    let store = DirectoryStore::new(dir.path(), clock(), random());
    assert!(store.list(&SLOTS).unwrap().is_empty());
    assert_eq!(store.list(&Scope::OtherLayout(Level::SLOTS)).unwrap().len(), 1);
}

#[test]
fn neighbours_name_the_directories_beside_above_and_below() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["a.db", "b.db", "c/deep"] {
        let store = DirectoryStore::new(dir.path().join(path), clock(), random());
        store.create(&slot(1), Bytes::from_static(b"x"), TIME).unwrap();
    }
    let named = |path: &str| {
        let store = DirectoryStore::new(dir.path().join(path), clock(), random());
        let prefix = format!("file://{}/", dir.path().display());
        let found = store.neighbours().unwrap();
        found.iter().map(|path| path.strip_prefix(&prefix).unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(named("x.db"), ["a.db", "b.db"]);
    assert_eq!(named("c"), ["a.db", "b.db", "c/deep"]);
    assert_eq!(named("nowhere/at/all"), Vec::<String>::new());
}

#[test]
fn a_stranger_to_files_is_no_object() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("ltx/0").join(NAME)).unwrap();
    let store = DirectoryStore::new(dir.path(), clock(), random());
    assert!(store.list(&SLOTS).unwrap().is_empty());
    assert_eq!(store.head(&slot(1)).unwrap_err().kind, ErrorKind::FixConfig);
    assert_eq!(RealDisk.stat(dir.path()).unwrap().kind, Kind::Directory);
}

#[test]
fn directories_and_files_are_private_to_their_owner() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("r");
    DirectoryStore::new(&base, clock(), random()).create(&slot(1), Bytes::new(), TIME).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&base), mode(&base.join("ltx/0")), mode(&base.join("ltx/0").join(NAME))),
        (0o700, 0o700, 0o600)
    );
}

/// The other half of the next test: creates slots until it is killed, and says so after each answer.
#[test]
fn a_writer_for_the_kill_test() {
    #[allow(clippy::disallowed_methods, reason = "the parent's way to tell this process what it is")]
    let Ok(base) = std::env::var("LITEKEEP_TEST_WRITER") else { return };
    let store = DirectoryStore::new(base, clock(), random());
    for n in 1.. {
        store.create(&slot(n), Bytes::from(vec![n as u8; 200_000]), TIME).unwrap();
        println!("created {n}");
    }
}

#[test]
fn r59_a_writer_killed_anywhere_leaves_whole_slots_and_every_one_it_was_told_of() {
    use std::io::BufRead as _;
    for kills in 1..=6 {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "disk::a_writer_for_the_kill_test", "--nocapture"])
            .env("LITEKEEP_TEST_WRITER", dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut told = lines.filter_map(|line| line.split_once("created ")?.1.parse::<u64>().ok());
        let mut last = told.by_ref().nth(kills * 3).unwrap();
        writer.kill().unwrap();
        writer.wait().unwrap();
        last = told.last().unwrap_or(last);
        let store = DirectoryStore::new(dir.path(), clock(), random());
        let entries = store.list(&SLOTS).unwrap();
        assert!(entries.len() as u64 >= last, "{} of {last}", entries.len());
        for (n, entry) in (1_u64..).zip(&entries) {
            assert_eq!(entry.key, slot(n));
            assert!(read(&store, entry.key) == vec![n as u8; 200_000], "slot {n} is not whole");
        }
    }
}
