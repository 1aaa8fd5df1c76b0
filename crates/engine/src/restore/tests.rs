use super::forge::{Chain, Meddler, level_key, range, slot_key, txid};
use super::*;
use crate::files::RealFiles;
use bytes::Bytes;
use litekeep_formats::ltx::Marks;
use litekeep_formats::{ByteSource, Epoch, Level};
use litekeep_store::{EpochRecord, ErrorKind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tempfile::TempDir;

fn env(chain: &Chain, store: Arc<dyn Store>) -> RestoreEnv {
    RestoreEnv { store, files: Arc::new(RealFiles), clock: chain.clock.clone(), vfs: None }
}

struct Bench {
    dir: TempDir,
    options: Options,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options::new(dir.path().join("deep/er/app.db"));
        Self { dir, options }
    }

    fn target(mut self, target: Target) -> Self {
        self.options.target = target;
        self
    }

    fn run(&self, chain: &Chain) -> Result<Box<Restored>, RestoreError> {
        self.run_on(chain, Arc::new(chain.store.clone()))
    }

    fn run_on(&self, chain: &Chain, store: Arc<dyn Store>) -> Result<Box<Restored>, RestoreError> {
        match restore(&env(chain, store), &self.options, &mut |_| {})? {
            Outcome::Restored(restored) => Ok(restored),
            other => panic!("{other:?}"),
        }
    }

    fn output(&self) -> Vec<u8> {
        std::fs::read(&self.options.output).expect("the restored database")
    }

    /// Every file under the directory but the database.
    fn leftovers(&self) -> Vec<String> {
        fn walk(dir: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() { walk(&path, found) } else { found.push(path.display().to_string()) }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), &mut found);
        found.retain(|path| !path.ends_with("app.db"));
        found
    }
}

#[test]
fn every_txid_of_a_sealed_chain_comes_back_byte_for_byte() {
    for (page_size, slots) in [(512, 23), (4096, 9), (65536, 4)] {
        let mut chain = Chain::new();
        chain.page_size = PageSize::new(page_size).expect("a page size");
        chain.run(slots);
        chain.snapshot();
        chain.run(4);
        for parallelism in [1, 8] {
            for (id, expected) in &chain.states {
                let mut bench = Bench::new().target(Target::Txid(txid(*id)));
                bench.options.parallelism = parallelism;
                let restored = bench.run(&chain).expect("restored");
                assert!(bench.output() == *expected, "txid {id}, pages of {page_size}");
                assert_eq!(restored.integrity, Integrity::Sealed);
                assert_eq!(restored.txid(), Some(txid(*id)));
                assert_eq!(bench.leftovers(), [""; 0]);
            }
        }
    }
}

#[test]
fn what_the_replicator_needs_to_go_on_is_handed_over() {
    let mut chain = Chain::new();
    chain.run(9);
    let mut bench = Bench::new();
    bench.options.state_dir = Some(bench.dir.path().join(".app.db-litekeep"));
    let restored = bench.run(&chain).expect("restored");
    let end = restored.chain.expect("an LTX chain");
    assert_eq!(end.slot, chain.last);
    assert_eq!(end.database, chain.database());
    assert_eq!((end.txid, end.timestamp), (txid(9), chain.clock.wall()));
    let sums = std::fs::read(restored.sums.expect("an array")).expect("readable");
    assert_eq!(sums.len(), chain.commit as usize * 8);
    for (number, data) in &chain.pages {
        let page = litekeep_formats::PageNo::new(*number).expect("not zero");
        let at = (*number as usize - 1) * 8;
        let sum = litekeep_formats::crc::page_checksum(page, data);
        assert_eq!(sums[at..at + 8], sum.get().to_le_bytes(), "page {number}");
    }
    chain.snapshot();
    let end = Bench::new().run(&chain).expect("restored").chain.expect("an LTX chain");
    assert_eq!(end.slot, chain.last, "also when a snapshot made the slot needless");
}

#[test]
fn a_time_selects_by_the_files_own_times_and_asks_few() {
    let mut chain = Chain::new();
    chain.run(600);
    let store = Arc::new(Meddler::new(chain.store.clone()).like_s3());
    let wanted = TimestampMs(1_000_000 + 421_000); // slot 421's own time: strictly before it
    let bench = Bench::new().target(Target::Timestamp(wanted));
    let restored = bench.run_on(&chain, store.clone()).expect("restored");
    assert_eq!(restored.txid(), Some(txid(420)));
    assert!(bench.output() == chain.states[&420]);
    let heads = store.heads.load(Ordering::SeqCst);
    assert!(heads <= 300, "R46: {heads} questions for 600 files");
}

#[test]
fn empty_wiped_and_unreachable_are_three_things() {
    let chain = Chain::new();
    let bench = Bench::new();
    let error = bench.run(&chain).expect_err("nothing there");
    assert!(matches!(&error, RestoreError::Empty(empty) if empty.location == "memory" && !empty.claimed));

    let epoch = Epoch::new(3).expect("not zero");
    chain.put(Key::Epoch(epoch, EpochRecord::Claim), Bytes::from_static(b"{}"));
    let error = bench.run(&chain).expect_err("nothing there");
    assert!(
        matches!(&error, RestoreError::Empty(empty) if empty.claimed),
        "a claim alone is no data: {error}"
    );

    chain.put(Key::Epoch(epoch, EpochRecord::Open), Bytes::from_static(b"{}"));
    let error = bench.run(&chain).expect_err("wiped");
    assert!(matches!(&error, RestoreError::Wiped { epoch: found, .. } if *found == epoch), "{error}");

    for kind in [ErrorKind::FixConfig, ErrorKind::Retry, ErrorKind::Wait, ErrorKind::NotFound] {
        // R26b: any failing listing, also of a scope that would be empty, must not look like an empty replica.
        for scope in ["From(Level(0))", "Epochs", "V3Snapshots"] {
            let store = Meddler::new(chain.store.clone())
                .on(move |verb, about| (verb == "list" && about == scope).then_some(kind));
            let error = bench.run_on(&chain, Arc::new(store)).expect_err("unreachable");
            assert!(matches!(error, RestoreError::Unreachable(_)), "{scope} {kind:?}: {error}");
            assert_eq!(error.exit_code(), exit::UNREACHABLE);
        }
    }
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn an_empty_replica_is_skipped_only_when_asked_and_a_wiped_one_never() {
    let chain = Chain::new();
    let mut bench = Bench::new();
    bench.options.if_replica_exists = true;
    let outcome = restore(&env(&chain, Arc::new(chain.store.clone())), &bench.options, &mut |_| {});
    assert!(matches!(outcome, Ok(Outcome::Skipped(Skipped::ReplicaEmpty(_)))));
    let epoch = Epoch::new(1).expect("not zero");
    chain.put(Key::Epoch(epoch, EpochRecord::Closed), Bytes::from_static(b"{}"));
    let error = bench.run(&chain).expect_err("wiped");
    assert_eq!(error.exit_code(), exit::WIPED);
}

#[test]
fn an_existing_database_is_kept_refused_or_replaced_as_asked() {
    let mut chain = Chain::new();
    chain.run(3);
    let mut bench = Bench::new();
    let output = bench.options.output.clone();
    std::fs::create_dir_all(output.parent().expect("a parent")).expect("made");
    std::fs::write(&output, b"").expect("written");
    bench.run(&chain).expect("an empty file may be replaced");
    assert!(bench.output() == chain.states[&3]);

    std::fs::write(&output, b"precious").expect("written");
    let error = bench.run(&chain).expect_err("something is there");
    assert!(matches!(&error, RestoreError::OutputExists(paths) if *paths == [output.clone()]), "{error}");
    bench.options.if_db_not_exists = true;
    let outcome = restore(&env(&chain, Arc::new(chain.store.clone())), &bench.options, &mut |_| {});
    assert!(matches!(outcome, Ok(Outcome::Skipped(Skipped::DatabaseExists(_)))));
    bench.options.if_db_not_exists = false;
    bench.options.force = true;
    // -force keeps the old one until the new one stands: a failing restore changes nothing.
    let broken = Meddler::new(chain.store.clone()).on(|verb, _| (verb == "read").then_some(ErrorKind::Retry));
    bench.run_on(&chain, Arc::new(broken)).expect_err("unreachable");
    assert_eq!(bench.output(), b"precious");
    bench.run(&chain).expect("replaced");
    assert!(bench.output() == chain.states[&3]);
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn r48_stale_side_files_are_refused_and_with_force_never_meet_the_new_database() {
    let mut chain = Chain::new();
    chain.run(3);
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut bench = Bench::new();
        let output = bench.options.output.clone();
        std::fs::create_dir_all(output.parent().expect("a parent")).expect("made");
        let stale = crate::files::with_suffix(&output, suffix);
        std::fs::write(&stale, b"stale").expect("written");
        let error = bench.run(&chain).expect_err("refused");
        assert!(matches!(&error, RestoreError::OutputExists(paths) if *paths == [stale.clone()]), "{error}");
        bench.options.force = true;
        bench.run(&chain).expect("replaced");
        assert!(!stale.exists(), "{suffix}");
    }
}

/// A file system that notes, at each change of a name, whether a database and a `-wal` of different lives would lie
/// side by side after a crash right there.
struct Watch {
    output: PathBuf,
    old: Vec<u8>,
    old_rows: u32,
    seen: Mutex<Vec<String>>,
}

impl Watch {
    fn look(&self, what: &str) {
        if std::thread::panicking() {
            return; // the draft cleans up after a failed assertion
        }
        let wal = crate::files::with_suffix(&self.output, "-wal");
        let wal_has_frames = std::fs::metadata(&wal).is_ok_and(|m| m.len() > 0);
        let now = std::fs::read(&self.output).expect("the target always holds a database");
        let is_old = now[..100] == self.old[..100] || now.len() == self.old.len();
        assert!(is_old || !wal_has_frames, "{what}: the new database beside the old -wal");
        if is_old {
            // A crash now: the copy must still hold every committed row.
            let copy = self.output.with_extension("copy");
            std::fs::copy(&self.output, &copy).expect("copied");
            if wal.exists() {
                std::fs::copy(&wal, crate::files::with_suffix(&copy, "-wal")).expect("copied");
            }
            let db = rusqlite::Connection::open(&copy).expect("opens");
            let rows: u32 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("whole");
            assert_eq!(rows, self.old_rows, "{what}: the old database without its -wal");
            drop(db);
            std::fs::remove_file(&copy).expect("removed");
        }
        self.seen.lock().expect("not poisoned").push(what.to_owned());
    }
}

impl Files for Watch {
    fn open(&self, path: &Path, how: crate::files::Open) -> std::io::Result<Arc<dyn crate::files::File>> {
        RealFiles.open(path, how)
    }
    fn id(&self, path: &Path) -> std::io::Result<Option<crate::files::FileId>> {
        RealFiles.id(path)
    }
    fn len(&self, path: &Path) -> std::io::Result<Option<u64>> {
        RealFiles.len(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.look("before the rename");
        RealFiles.rename(from, to)?;
        self.look("after the rename");
        Ok(())
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.look(&format!("before removing {}", path.display()));
        RealFiles.remove(path)?;
        self.look(&format!("after removing {}", path.display()));
        Ok(())
    }
    fn create_dir(&self, path: &Path) -> std::io::Result<()> {
        RealFiles.create_dir(path)
    }
    fn list(&self, path: &Path) -> std::io::Result<Vec<String>> {
        RealFiles.list(path)
    }
    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        RealFiles.sync_dir(path)
    }
}

#[test]
fn r48_force_brings_the_old_database_to_rest_before_its_wal_goes() {
    let mut chain = Chain::new();
    chain.run(5);
    let mut bench = Bench::new();
    bench.options.force = true;
    let output = bench.options.output.clone();
    std::fs::create_dir_all(output.parent().expect("a parent")).expect("made");
    // A database whose rows lie in the -wal only, as a killed process leaves it.
    let scratch = bench.dir.path().join("scratch.db");
    let db = rusqlite::Connection::open(&scratch).expect("opens");
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x);")
        .expect("made");
    for n in 0..50 {
        db.execute("INSERT INTO t VALUES(?1)", [n]).expect("inserted");
    }
    std::fs::copy(&scratch, &output).expect("copied");
    std::fs::copy(bench.dir.path().join("scratch.db-wal"), crate::files::with_suffix(&output, "-wal"))
        .expect("copied");
    drop(db);
    std::fs::remove_file(&scratch).expect("removed");
    let old = std::fs::read(&output).expect("readable");
    let watch = Arc::new(Watch { output: output.clone(), old, old_rows: 50, seen: Mutex::default() });
    let env = RestoreEnv { files: watch.clone(), ..env(&chain, Arc::new(chain.store.clone())) };
    restore(&env, &bench.options, &mut |_| {}).expect("restored");
    assert!(bench.output() == chain.states[&5]);
    assert_eq!(bench.leftovers(), [""; 0]);
    assert!(watch.seen.lock().expect("not poisoned").len() >= 6, "the watch saw the swap");
}

#[test]
fn r48_a_database_that_is_open_is_not_swapped_away() {
    let mut chain = Chain::new();
    chain.run(3);
    let mut bench = Bench::new();
    bench.options.force = true;
    let output = bench.options.output.clone();
    std::fs::create_dir_all(output.parent().expect("a parent")).expect("made");
    let db = rusqlite::Connection::open(&output).expect("opens");
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").expect("made");
    let error = bench.run(&chain).expect_err("it is open, though idle");
    assert!(matches!(error, RestoreError::OutputBusy(_)), "{error}");
    assert_eq!(error.exit_code(), exit::OUTPUT);
    let rows: u32 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("still whole");
    assert_eq!(rows, 1);
    drop(db);
    bench.run(&chain).expect("closed now");
    assert!(bench.output() == chain.states[&3]);
}

#[test]
fn two_restores_of_one_file_do_not_meet() {
    let mut chain = Chain::new();
    chain.run(3);
    let bench = Arc::new(Bench::new());
    let second = Arc::new(Mutex::new(None));
    let (inner, other, answer) = (chain.store.clone(), Arc::clone(&bench), Arc::clone(&second));
    let clock = chain.clock.clone();
    let begun = AtomicBool::new(false);
    let store = Meddler::new(chain.store.clone()).on(move |verb, _| {
        if verb == "read" && !begun.swap(true, Ordering::SeqCst) {
            let env = RestoreEnv {
                store: Arc::new(inner.clone()),
                files: Arc::new(RealFiles),
                clock: clock.clone(),
                vfs: None,
            };
            let result = restore(&env, &other.options, &mut |_| {}).map(drop);
            *answer.lock().expect("not poisoned") = Some(result);
        }
        None
    });
    bench.run_on(&chain, Arc::new(store)).expect("the first one finishes");
    let second = second.lock().expect("not poisoned").take().expect("it ran");
    assert!(matches!(second, Err(RestoreError::OutputBusy(_))), "{second:?}");
    assert!(bench.output() == chain.states[&3]);
}

#[test]
fn r45_failing_twenty_times_leaves_nothing() {
    let mut chain = Chain::new();
    chain.run(12);
    let mut bench = Bench::new();
    bench.options.state_dir = Some(bench.dir.path().join("state"));
    let reads = Arc::new(AtomicU32::new(0));
    for round in 0..20 {
        let (reads, stop) = (Arc::clone(&reads), round % 7);
        reads.store(0, Ordering::SeqCst);
        let store = Meddler::new(chain.store.clone()).on(move |verb, _| {
            let fails = verb == "read" && reads.fetch_add(1, Ordering::SeqCst) >= stop;
            fails.then_some(ErrorKind::Retry)
        });
        bench.run_on(&chain, Arc::new(store)).expect_err("cut off");
        assert_eq!(bench.leftovers(), [""; 0], "round {round}");
    }
    // A killed process leaves its draft; the next restore takes it over.
    let draft = output::temporary(&bench.options.output);
    std::fs::write(&draft, vec![7; 100_000]).expect("written");
    std::fs::write(crate::files::with_suffix(&draft, "-spill"), b"x").expect("written");
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&12]);
    assert_eq!(bench.leftovers().len(), 1, "only the page checksums: {:?}", bench.leftovers());
}

#[test]
fn r44_an_object_cut_off_anywhere_is_never_taken_for_a_whole_one() {
    let mut chain = Chain::new();
    chain.slot(9, &(1..=9).map(|page| (page, 1)).collect::<Vec<_>>());
    chain.run(2);
    let key = slot_key(2);
    let whole = chain.object(&key);
    for cut in 0..whole.len() {
        chain.put(key, whole.slice(..cut));
        let bench = Bench::new();
        let error = bench.run(&chain).expect_err("slot 2 is cut");
        assert_eq!(error.exit_code(), exit::DAMAGED, "{cut}: {error}");
        assert!(error.to_string().contains("0000000000000002-0000000000000002"), "{cut}: {error}");
        assert!(!bench.options.output.exists() && bench.leftovers().is_empty(), "{cut}");
    }
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_or_does_no_harm() {
    let mut chain = Chain::new();
    chain.run(4);
    let key = slot_key(3);
    let whole = chain.object(&key);
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        chain.put(key, bytes.into());
        let bench = Bench::new();
        // Compressed bytes can differ without a different page; everything else must be found.
        match bench.run(&chain) {
            Ok(_) => assert!(bench.output() == chain.states[&4], "byte {at}"),
            Err(error) => assert_eq!(error.exit_code(), exit::DAMAGED, "byte {at}: {error}"),
        }
    }
}

#[test]
fn a_damaged_file_is_gone_around_where_another_way_leads_to_the_same_state() {
    let mut chain = Chain::new();
    chain.run(6);
    chain.snapshot();
    chain.run(2);
    let key = level_key(9, 1, 6);
    let mut bytes = chain.object(&key).to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    chain.put(key, bytes.into());
    let bench = Bench::new();
    let restored = bench.run(&chain).expect("the slots lead there as well");
    assert!(bench.output() == chain.states[&8]);
    assert!(
        matches!(&restored.notes[..], [Note::WentAround(text)] if text.contains("level 9")),
        "{:?}",
        restored.notes
    );
    chain.remove(&[slot_key(4)]);
    let error = Bench::new().run(&chain).expect_err("no way around any more");
    assert!(
        matches!(&error, RestoreError::Damaged { what, nearest, .. }
        if what.contains("level 9") && nearest.before == Some(txid(3))),
        "{error:?}"
    );
}

#[test]
fn a_damaged_newest_slot_is_an_error_and_not_an_older_state() {
    let mut chain = Chain::new();
    chain.run(5);
    let mut bytes = chain.object(&slot_key(5)).to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    chain.put(slot_key(5), bytes.into());
    for target in [Target::Latest, Target::Timestamp(TimestampMs(i64::MAX)), Target::Txid(txid(5))] {
        let error = Bench::new().target(target).run(&chain).expect_err("the newest slot is damaged");
        let RestoreError::Damaged { nearest, .. } = &error else { panic!("{error:?}") };
        assert_eq!(nearest.before, Some(txid(4)), "{target:?}");
    }
}

#[test]
fn a_hole_names_what_is_missing_and_where_one_can_go() {
    let mut chain = Chain::new();
    chain.run(9);
    chain.remove(&[slot_key(6)]);
    let error = Bench::new().run(&chain).expect_err("slot 6 is missing");
    let RestoreError::Gap { missing, nearest, .. } = &error else { panic!("{error:?}") };
    assert!(missing.contains("0000000000000006-0000000000000006"), "{missing}");
    assert_eq!(nearest.before, Some(txid(5)));
    assert_eq!(error.exit_code(), exit::DAMAGED);
    let bench = Bench::new().target(Target::Txid(txid(5)));
    bench.run(&chain).expect("the named point can be restored");
    assert!(bench.output() == chain.states[&5]);
}

/// A store whose listings do not show these objects yet.
struct Stale(litekeep_store::memory::MemoryStore, Vec<Key>);

impl Store for Stale {
    fn list(
        &self,
        scope: &litekeep_store::Scope,
    ) -> Result<Vec<litekeep_store::Entry>, litekeep_store::StoreError> {
        let mut entries = self.0.list(scope)?;
        entries.retain(|entry| !self.1.contains(&entry.key));
        Ok(entries)
    }
    fn head(&self, key: &Key) -> Result<litekeep_store::Head, litekeep_store::StoreError> {
        self.0.head(key)
    }
    fn read(
        &self,
        key: &Key,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<litekeep_store::Chunk, litekeep_store::StoreError> {
        self.0.read(key, range)
    }
    fn create(
        &self,
        key: &Key,
        body: Bytes,
        timestamp: TimestampMs,
    ) -> Result<litekeep_store::Created, litekeep_store::StoreError> {
        self.0.create(key, body, timestamp)
    }
    fn create_from(
        &self,
        key: &Key,
        source: &Arc<dyn litekeep_store::Source>,
        timestamp: TimestampMs,
    ) -> Result<litekeep_store::Created, litekeep_store::StoreError> {
        self.0.create_from(key, source, timestamp)
    }
    fn put(&self, key: &Key, body: Bytes, timestamp: TimestampMs) -> Result<(), litekeep_store::StoreError> {
        self.0.put(key, body, timestamp)
    }
    fn upload(
        &self,
        key: &Key,
        timestamp: TimestampMs,
    ) -> Result<Box<dyn litekeep_store::Upload>, litekeep_store::StoreError> {
        self.0.upload(key, timestamp)
    }
    fn delete(&self, keys: &[Key]) -> Result<(), litekeep_store::StoreError> {
        self.0.delete(keys)
    }
    fn server_time(&self) -> Option<TimestampMs> {
        self.0.server_time()
    }
    fn limits(&self) -> litekeep_store::Limits {
        self.0.limits()
    }
    fn location(&self) -> String {
        self.0.location()
    }
}

#[test]
fn r60_a_slot_that_the_listing_does_not_show_yet_is_found_by_name() {
    let mut chain = Chain::new();
    chain.run(9);
    // The last row lists nothing at all: a chain that has just begun is neither empty nor wiped.
    let all = (1..=9).map(slot_key).collect();
    for hidden in [vec![slot_key(9)], vec![slot_key(8), slot_key(9)], vec![slot_key(4), slot_key(5)], all] {
        let bench = Bench::new();
        let restored = bench.run_on(&chain, Arc::new(Stale(chain.store.clone(), hidden))).expect("found");
        assert_eq!(restored.txid(), Some(txid(9)));
        assert!(bench.output() == chain.states[&9]);
    }
}

#[test]
fn r27_retention_under_a_running_restore_leads_to_a_new_plan() {
    let mut chain = Chain::new();
    chain.run(8);
    let inner = chain.store.clone();
    // Between plan and fetch the slots become a snapshot and are deleted.
    let snapshot = {
        let mut other = Chain::new();
        other.run(8);
        other.snapshot();
        other.object(&level_key(9, 1, 8))
    };
    let done = AtomicBool::new(false);
    let store = Meddler::new(chain.store.clone()).on(move |verb, _| {
        if verb == "read" && !done.swap(true, Ordering::SeqCst) {
            let key = level_key(9, 1, 8);
            inner.put(&key, snapshot.clone(), TimestampMs(0)).expect("put");
            inner.delete(&(1..=8).map(slot_key).collect::<Vec<_>>()).expect("deleted");
        }
        None
    });
    let bench = Bench::new();
    bench.run_on(&chain, Arc::new(store)).expect("planned again");
    assert!(bench.output() == chain.states[&8]);
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn r27_an_object_that_changes_while_it_is_read_is_not_mixed() {
    let mut chain = Chain::new();
    chain.page_size = PageSize::MAX;
    for page in 1..=160 {
        // Pages that do not compress, so that the file spans several ranges.
        let mut data = vec![0; 65536];
        let mut state = u64::from(page).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in &mut data {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[0];
        }
        chain.pages.insert(page, data);
    }
    chain.commit = 160;
    let pages: Vec<u32> = (1..=160).collect();
    chain.put_slot(&pages, Marks::FULL_IMAGE);
    let before = chain.object(&slot_key(1));
    let (inner, reads) = (chain.store.clone(), AtomicU32::new(0));
    let store = Meddler::new(chain.store.clone()).on(move |verb, _| {
        if verb == "read" && reads.fetch_add(1, Ordering::SeqCst) == 1 {
            inner
                .put(&slot_key(1), before.clone(), TimestampMs(0))
                .expect("put: same bytes, another version");
        }
        None
    });
    let mut bench = Bench::new();
    bench.options.parallelism = 1;
    let mut again = 0;
    let env = env(&chain, Arc::new(store));
    restore(&env, &bench.options, &mut |step| {
        again += u32::from(matches!(step, Progress::Replanning { .. }));
    })
    .expect("restored");
    assert_eq!(again, 1, "the other version was noticed");
    assert!(bench.output() == chain.states[&1]);
}

#[test]
fn r67_a_restore_asks_for_ranges_and_never_for_more_than_its_budget() {
    let mut chain = Chain::new();
    chain.run(300);
    let store = Arc::new(Meddler::new(chain.store.clone()));
    let mut bench = Bench::new();
    bench.options.parallelism = 3;
    bench.run_on(&chain, store.clone()).expect("restored");
    assert!(bench.output() == chain.states[&300]);
    assert!(store.most_in_flight.load(Ordering::SeqCst) <= 3);
    assert!(store.largest_read.load(Ordering::SeqCst) <= limits::CHUNK_BYTES);
}

#[test]
fn r67_a_reader_that_is_slow_is_not_run_ahead_of_by_more_than_the_budget() {
    const OBJECTS: u64 = 200;
    const AHEAD: u64 = 5;
    let mut chain = Chain::new();
    chain.run(OBJECTS);
    let entries = chain.store.list(&litekeep_store::Scope::Level(Level::SLOTS)).expect("listed");
    let sizes = || entries.iter().map(|entry| entry.size);
    let (smallest, largest) = (sizes().min().expect("slots"), sizes().max().expect("slots"));
    let budget = fetch::Budget { parallelism: 4, chunk: largest, bytes: largest * AHEAD };
    let most = budget.bytes / smallest;
    assert!(most < OBJECTS / 4, "{most} of {OBJECTS} fit: the test would show nothing");
    let objects: Vec<_> =
        entries.iter().map(|entry| fetch::Object { key: entry.key, size: entry.size }).collect();
    let store = Meddler::new(chain.store.clone());
    fetch::fetch(&store, &objects, budget, |fetched| {
        for (index, done) in (0..objects.len()).zip(0..) {
            // As far ahead as they may; whoever would go further does it now.
            while store.reads.load(Ordering::SeqCst) < (done + AHEAD).min(OBJECTS) {
                std::thread::yield_now();
            }
            for _ in 0..20 {
                std::thread::yield_now();
            }
            let ahead = store.reads.load(Ordering::SeqCst) - done;
            assert!(ahead <= most, "{ahead} objects were asked for, {most} fit into the budget");
            let mut reader = fetched.open(index);
            let mut bytes = [0; 4096];
            while reader.read(&mut bytes).expect("readable") > 0 {}
        }
    });
}

#[test]
fn a_slot_whose_content_lies_in_level_9_needs_that_file() {
    let mut chain = Chain::new();
    chain.run(4);
    chain.change(6, &[(1, 9), (2, 9), (3, 9), (4, 9), (5, 9), (6, 9)]);
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
    chain.snapshot();
    chain.run(2);
    let bench = Bench::new();
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&7]);
    chain.remove(&[level_key(9, 1, 5)]);
    let error = Bench::new().run(&chain).expect_err("its content is gone");
    let RestoreError::Damaged { what, nearest, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("0000000000000005") && what.contains("level 9"), "{what}");
    assert_eq!(nearest.before, Some(txid(4)));
}

/// A chain of `states` slots, then `announced` images whose content is in level 9 or not, and perhaps one who went on.
fn announced(states: u64, announced: &[bool], passed: bool) -> Chain {
    let mut chain = Chain::new();
    chain.run(states);
    for there in announced {
        let (pages, commit) = (chain.pages.clone(), chain.commit);
        chain.change(6, &[(1, 9), (2, 9), (3, 9), (4, 9), (5, 9), (6, 9)]);
        chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
        if *there {
            chain.snapshot();
        }
        if passed {
            (chain.pages, chain.commit, chain.epoch) = (pages, commit, Some(2));
            chain.put_slot(&[], Marks::NONE);
        }
    }
    chain
}

#[test]
fn an_image_that_was_announced_and_never_finished_is_passed_over() {
    let rows = [
        ("its writer died", announced(4, &[false], false)),
        ("and the one after it", announced(4, &[false, false], false)),
        ("it is there, and nothing was said of it", announced(4, &[true], false)),
        ("somebody went on without it", announced(4, &[false], true)),
        ("it came late", announced(4, &[true], true)),
    ];
    for (name, chain) in rows {
        for target in [Target::Latest, Target::Timestamp(TimestampMs(i64::MAX)), Target::Txid(txid(4))] {
            let bench = Bench::new().target(target);
            let restored = bench.run(&chain).unwrap_or_else(|error| panic!("{name}, {target:?}: {error}"));
            assert!(bench.output() == chain.states[&4], "{name}, {target:?}");
            let end = restored.chain.expect("a chain");
            assert_eq!((end.txid, end.newest), (txid(4), txid(4)), "{name}, {target:?}");
            assert!(matches!(restored.notes[..], [Note::Unfinished(_)]), "{name}: {:?}", restored.notes);
        }
        let error = Bench::new().target(Target::Txid(txid(5))).run(&chain).expect_err(name);
        assert!(matches!(error, RestoreError::NotAvailable { .. }), "{name}: {error:?}");
    }
}

/// What a restore, a start, a follower and a verification make of a replica whose listings do not show some of it.
fn made_of(chain: &Chain, unlisted: &[Key]) -> Result<(Vec<u8>, String), RestoreError> {
    let store: Arc<dyn Store> = Arc::new(Meddler::new(chain.store.clone()).without(unlisted.to_vec()));
    let bench = Bench::new();
    let restored = bench.run_on(chain, Arc::clone(&store))?;
    // Where the chain ends is what a start fences behind, and what a follower jumps to.
    let seen = crate::survey::survey(&*store).expect("looked at");
    let end = (restored.txid(), seen.tip.map(|tip| tip.txid), seen.unfinished, seen.hole);
    let clock: Arc<dyn Clock> = chain.clock.clone();
    let policy = litekeep_core::retain::Policy { window: Duration::from_secs(86_400), slots: None };
    let options = crate::inspect::Options { parallelism: 1, policy };
    let verified = crate::inspect::verify(store, &clock, &options, &mut |_, _| {})?;
    let kinds: Vec<_> = verified.issues.iter().map(|issue| issue.kind).collect();
    Ok((bench.output(), format!("{end:?}, verified to {:?}, {kinds:?}", verified.restorable)))
}

#[test]
fn r60_whatever_a_listing_does_not_show_yet_of_an_announced_image_it_counts_or_not_as_before() {
    let confirmed = |more| {
        let mut chain = announced(4, &[true], false);
        chain.put_slot(&[], Marks::NONE);
        chain.run(more);
        chain
    };
    let passed = || {
        let mut chain = announced(4, &[true], true);
        chain.image(6, &[(1, 7), (2, 7), (3, 7), (4, 7), (5, 7), (6, 7)]);
        chain.snapshot();
        chain
    };
    let rows = [
        ("nothing was said of it", announced(4, &[true], false)),
        ("nor of the one after it", announced(4, &[true, true], false)),
        ("somebody went on without it", announced(4, &[true], true)),
        ("and has an image of his own", passed()),
        ("it counts", confirmed(0)),
        ("and slots are on it", confirmed(2)),
        ("nothing was said of the very first", announced(0, &[true], false)),
    ];
    let mut wrong = Vec::new();
    for (name, chain) in rows {
        let all = chain.store.list(&litekeep_store::Scope::From(Level::SLOTS)).expect("listed");
        let newer = |key: &Key| matches!(key, Key::Ltx(_, range) if litekeep_formats::TxidRange::max(*range) >= txid(4));
        let young: Vec<Key> =
            all.iter().map(|entry| entry.key).filter(|key| newer(key) || all.len() < 4).collect();
        let right = made_of(&chain, &[]);
        for shown in 0..1_u32 << young.len() {
            let hidden = young.iter().enumerate().filter(|(at, _)| shown >> at & 1 == 0);
            let unlisted: Vec<Key> = hidden.map(|(_, key)| *key).collect();
            let same = match (&right, made_of(&chain, &unlisted)) {
                (Ok(right), Ok(made)) if *right == made => None,
                (Err(RestoreError::Empty(_)), Err(RestoreError::Empty(_))) => None,
                (_, made) => Some(made.map(|made| made.1)),
            };
            wrong.extend(same.map(|made| format!("{name}, without {unlisted:?}: {made:?}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_follows_an_unfinished_image_is_a_whole_one() {
    let mut chain = announced(4, &[true], true);
    chain.image(3, &[(2, 7)]);
    chain.run(2);
    let bench = Bench::new();
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&9]);
}

#[test]
fn what_was_lost_below_an_announcement_is_a_gap_and_no_older_state() {
    for passed in [false, true] {
        let chain = announced(4, &[false], passed);
        chain.remove(&[slot_key(4)]);
        let error = Bench::new().run(&chain).expect_err("slot 4 was acknowledged");
        assert!(matches!(error, RestoreError::Gap { .. } | RestoreError::Damaged { .. }), "{error:?}");
        // Nor for a start, a follower or a status.
        let seen = crate::survey::survey(&chain.store).expect("looked at");
        let held = crate::inspect::held(&chain.store).expect("looked at");
        let newest = Some(txid(if passed { 6 } else { 5 }));
        assert_eq!((seen.tip.map(|tip| tip.txid), seen.hole), (newest, true), "passed: {passed}");
        assert_eq!((held.newest, held.restorable), (newest, Some(txid(3))), "passed: {passed}");
    }
}

#[test]
fn what_was_merged_over_an_unfinished_image_is_no_loss_when_the_slots_below_are_gone() {
    let chain = announced(4, &[true], true);
    let header = chain.header(range(1, 6), Marks::NONE);
    let pages: Vec<u32> = chain.pages.keys().copied().collect();
    let (bytes, _) = chain.file(&header, &pages);
    chain.put(level_key(1, 1, 6), bytes);
    chain.remove(&(1..=4).map(slot_key).collect::<Vec<_>>());
    let seen = crate::survey::survey(&chain.store).expect("looked at");
    assert_eq!((seen.tip.map(|tip| tip.txid), seen.hole), (Some(txid(6)), false));
    let bench = Bench::new();
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&4]);
}

#[test]
fn a_state_whose_seal_says_nothing_of_the_database_is_gone_on_from_all_the_same() {
    let mut chain = Chain::new();
    chain.run(3);
    chain.states_database = false;
    chain.run(1);
    chain.states_database = true;
    let (pages, commit) = (chain.pages.clone(), chain.commit);
    chain.change(6, &[(1, 9), (2, 9), (3, 9), (4, 9), (5, 9), (6, 9)]);
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
    (chain.pages, chain.commit, chain.epoch) = (pages, commit, Some(2));
    chain.put_slot(&[], Marks::NONE);
    let seen = crate::survey::survey(&chain.store).expect("looked at");
    let last = seen.unfinished.map(|last| last.txid);
    assert_eq!((seen.tip.map(|tip| tip.txid), last, seen.hole), (Some(txid(4)), Some(txid(6)), false));
}

#[test]
fn an_image_that_others_went_on_without_is_nobodys_choice_while_it_lies_there() {
    let mut chain = announced(4, &[true], true);
    chain.image(6, &[(1, 7), (2, 7), (3, 7), (4, 7), (5, 7), (6, 7)]);
    for wanted in [5, 6] {
        let error = Bench::new().target(Target::Txid(txid(wanted))).run(&chain).expect_err("no state");
        assert!(matches!(error, RestoreError::NotAvailable { .. }), "{wanted}: {error:?}");
        let at = Target::Timestamp(time_of(&chain, wanted));
        let bench = Bench::new().target(at);
        bench.run(&chain).expect("restored");
        assert!(bench.output() == chain.states[&4], "{wanted}");
    }
    let bench = Bench::new();
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&7]);
}

#[test]
fn a_state_behind_an_image_that_others_went_on_without_is_reached_across_it() {
    // Nothing but slots: the next owner's image is in none of the higher levels yet, and nothing was ever below.
    for states in [0, 4] {
        let mut chain = announced(states, &[true], false);
        let newest = chain.image(6, &[(1, 7), (2, 7), (3, 7), (4, 7), (5, 7), (6, 7)]);
        let bench = Bench::new().target(Target::Txid(txid(newest)));
        bench.run(&chain).expect("restored");
        assert!(bench.output() == chain.states[&newest], "{states}");
        let last = Bench::new().target(Target::Timestamp(TimestampMs(i64::MAX)));
        last.run(&chain).expect("restored");
        assert!(last.output() == chain.states[&newest], "{states}");
    }
}

#[test]
fn a_time_among_many_images_that_died_on_their_way_is_the_state_before_them() {
    let mut chain = announced(4, &[false; 12], true);
    let time = time_of(&chain, chain.txid);
    chain.image(6, &[(1, 7), (2, 7), (3, 7), (4, 7), (5, 7), (6, 7)]);
    let bench = Bench::new().target(Target::Timestamp(time));
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&4]);
}

/// When a slot was made.
fn time_of(chain: &Chain, slot: u64) -> TimestampMs {
    litekeep_formats::ltx::Header::parse(&chain.object(&slot_key(slot))).expect("a header").timestamp
}

#[test]
fn a_first_image_that_was_never_finished_is_no_backup() {
    let error = Bench::new().run(&announced(0, &[false], false)).expect_err("nothing was ever confirmed");
    assert!(matches!(error, RestoreError::Empty(_)), "{error:?}");
    // Who had begun, and has nothing now, has lost it.
    let chain = announced(0, &[false], false);
    let open = Key::Epoch(Epoch::new(1).expect("not zero"), EpochRecord::Open);
    chain.put(open, Bytes::from_static(b"{}"));
    let error = Bench::new().run(&chain).expect_err("it was opened");
    assert!(matches!(error, RestoreError::Wiped { .. }), "{error:?}");
}

#[test]
fn an_image_that_counted_and_is_gone_is_damage() {
    let mut chain = announced(4, &[true], false);
    chain.put_slot(&[], Marks::NONE);
    let bench = Bench::new();
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&6]);
    chain.remove(&[level_key(9, 1, 5)]);
    let error = Bench::new().run(&chain).expect_err("its content is gone");
    assert!(matches!(error, RestoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_fence_is_a_step_without_pages() {
    let mut chain = Chain::new();
    chain.run(4);
    chain.epoch = Some(2);
    chain.put_slot(&[], Marks::FENCE);
    chain.run(2);
    let bench = Bench::new();
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&7]);
    let bench = Bench::new().target(Target::Txid(txid(5)));
    bench.run(&chain).expect("restored");
    assert!(bench.output() == chain.states[&4]);
}

#[test]
fn r15_a_whole_image_with_another_page_size_starts_over() {
    let mut chain = Chain::new();
    chain.run(6);
    chain.page_size = PageSize::new(1024).expect("a page size");
    chain.pages.clear();
    chain.image(3, &[(1, 1), (2, 2), (3, 3)]);
    chain.run(3);
    for (id, expected) in &chain.states {
        let bench = Bench::new().target(Target::Txid(txid(*id)));
        bench.run(&chain).expect("restored");
        assert!(bench.output() == *expected, "txid {id}");
    }
}

#[test]
fn r15_a_page_size_that_changes_without_a_whole_image_is_damage() {
    let mut chain = Chain::new();
    chain.run(6);
    let commit = chain.commit;
    chain.page_size = PageSize::new(1024).expect("a page size");
    chain.pages.clear();
    chain.slot(commit, &[(1, 1)]);
    let error = Bench::new().run(&chain).expect_err("pages are missing");
    assert_eq!(error.exit_code(), exit::DAMAGED, "{error}");
}

#[test]
fn r24_a_slot_of_another_lineage_is_noticed() {
    let first: Vec<(u32, u8)> = (1..=9).map(|page| (page, 1)).collect();
    let mut chain = Chain::new();
    chain.slot(9, &first);
    chain.run(4);
    let mut other = Chain::new();
    other.slot(9, &first);
    other.slot(9, &[(1, 98)]);
    other.slot(9, &[(1, 99), (3, 99)]);
    // The other one's slot 3 in our slot 3's place: both are whole files.
    chain.put(slot_key(3), other.object(&slot_key(3)));
    let error = Bench::new().run(&chain).expect_err("mixed lineages");
    assert!(
        matches!(&error, RestoreError::Damaged { what, .. } if what.contains("built on another")),
        "{error}"
    );
}

#[test]
fn a_lower_epoch_after_a_higher_one_is_a_foreign_writer() {
    let mut chain = Chain::new();
    chain.epoch = Some(7);
    chain.run(3);
    chain.epoch = Some(6);
    chain.run(1);
    let error = Bench::new().run(&chain).expect_err("epochs never go back");
    assert!(
        matches!(&error, RestoreError::Damaged { what, .. } if what.contains("foreign writer")),
        "{error}"
    );
}

#[test]
fn r05_a_page_that_no_file_holds_is_named() {
    let mut chain = Chain::new();
    chain.run(4);
    chain.change(20, &[(1, 5), (20, 5)]);
    chain.put_slot(&[1, 20], Marks::NONE);
    let error = Bench::new().run(&chain).expect_err("growth without pages");
    assert!(
        matches!(&error, RestoreError::Damaged { what, .. } if what.contains("no file holds page")),
        "{error}"
    );
}

#[test]
fn a_sealed_checksum_that_the_pages_do_not_give_is_refused() {
    let mut chain = Chain::new();
    chain.run(4);
    // A slot sealed with the checksum of a page that it does not carry.
    let commit = chain.commit;
    chain.change(commit, &[(1, 77), (2, 77)]);
    chain.put_slot(&[1], Marks::NONE);
    let error = Bench::new().run(&chain).expect_err("page 2 is stale");
    assert!(
        matches!(&error, RestoreError::Damaged { what, .. } if what.contains("database checksum")),
        "{error}"
    );
    assert!(error.hint().contains("0000000000000004"), "{}", error.hint());
}

#[test]
fn r52_an_unsealed_chain_of_a_damaged_database_is_not_put_in_place() {
    let mut chain = Chain::new();
    chain.epoch = None;
    chain.run(4);
    let bench = Bench::new();
    let error = bench.run(&chain).expect_err("made-up pages are no SQLite database");
    assert_eq!(error.exit_code(), exit::DAMAGED, "{error}");
    assert!(!bench.options.output.exists() && bench.leftovers().is_empty());
}

#[test]
fn r53_a_chain_without_its_first_slot_says_so() {
    let mut chain = Chain::new();
    chain.run(4);
    chain.remove(&[slot_key(1)]);
    let error = Bench::new().run(&chain).expect_err("nothing to begin with");
    let RestoreError::Gap { missing, nearest, .. } = &error else { panic!("{error:?}") };
    assert!(missing.contains("0000000000000001-0000000000000001"), "{missing}");
    assert_eq!(*nearest, litekeep_core::restore::Nearest::default());
}

#[test]
fn r20_a_txid_that_is_not_there_names_its_neighbours() {
    let mut chain = Chain::new();
    chain.run(4);
    let error = Bench::new().target(Target::Txid(txid(9))).run(&chain).expect_err("not there yet");
    assert_eq!(error.exit_code(), exit::NOT_AVAILABLE);
    assert!(error.to_string().contains("0000000000000004"), "{error}");
    let time = Target::Timestamp(TimestampMs(5));
    let error = Bench::new().target(time).run(&chain).expect_err("before the first");
    assert_eq!(error.exit_code(), exit::NOT_AVAILABLE);
}

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let mut chain = Chain::new();
    chain.run(4);
    chain.snapshot();
    chain.run(1);
    let mut bench = Bench::new();
    bench.options.dry_run = true;
    let outcome = restore(&env(&chain, Arc::new(chain.store.clone())), &bench.options, &mut |_| {});
    let Ok(Outcome::Planned(planned)) = outcome else { panic!("{outcome:?}") };
    let keys: Vec<Key> = planned.objects.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [Key::Ltx(Level::SNAPSHOTS, range(1, 4)), slot_key(5)]);
    assert_eq!(planned.txid, Some(txid(5)));
    assert!(!bench.options.output.parent().expect("a parent").exists());
}

mod v3;

#[test]
fn r46_ten_thousand_objects_are_planned_by_time_with_a_few_hundred_questions() {
    let mut chain = Chain::new();
    chain.run(1);
    let body = chain.object(&slot_key(1));
    for id in 2..=10_000 {
        let time = TimestampMs(1_000_000 + i64::try_from(id).expect("small") * 1000);
        chain.store.put(&slot_key(id), body.clone(), time).expect("put");
    }
    let store = Arc::new(Meddler::new(chain.store.clone()).like_s3());
    let mut bench = Bench::new().target(Target::Timestamp(TimestampMs(1_000_000 + 7_654_321)));
    bench.options.dry_run = true;
    let outcome = restore(&env(&chain, store.clone()), &bench.options, &mut |_| {});
    let Ok(Outcome::Planned(planned)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(planned.txid, Some(txid(7_654)));
    let (heads, reads) = (store.heads.load(Ordering::SeqCst), store.reads.load(Ordering::SeqCst));
    assert!(heads <= 300 && reads == 0, "{heads} questions, {reads} reads");
}

#[test]
fn a_full_disk_says_how_much_is_needed_and_leaves_nothing() {
    struct Full;
    struct FullFile(Arc<dyn crate::files::File>);
    impl crate::files::File for FullFile {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.0.read_at(buf, offset)
        }
        fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync(&self) -> std::io::Result<()> {
            self.0.sync()
        }
        fn id(&self) -> std::io::Result<crate::files::FileId> {
            self.0.id()
        }
        fn try_lock(&self) -> std::io::Result<bool> {
            self.0.try_lock()
        }
    }
    impl Files for Full {
        fn open(&self, path: &Path, how: crate::files::Open) -> std::io::Result<Arc<dyn crate::files::File>> {
            Ok(Arc::new(FullFile(RealFiles.open(path, how)?)))
        }
        fn id(&self, path: &Path) -> std::io::Result<Option<crate::files::FileId>> {
            RealFiles.id(path)
        }
        fn len(&self, path: &Path) -> std::io::Result<Option<u64>> {
            RealFiles.len(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
            RealFiles.rename(from, to)
        }
        fn remove(&self, path: &Path) -> std::io::Result<()> {
            RealFiles.remove(path)
        }
        fn create_dir(&self, path: &Path) -> std::io::Result<()> {
            RealFiles.create_dir(path)
        }
        fn list(&self, path: &Path) -> std::io::Result<Vec<String>> {
            RealFiles.list(path)
        }
        fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
            RealFiles.sync_dir(path)
        }
    }
    let mut chain = Chain::new();
    chain.run(9);
    let bench = Bench::new();
    let env = RestoreEnv { files: Arc::new(Full), ..env(&chain, Arc::new(chain.store.clone())) };
    let error = restore(&env, &bench.options, &mut |_| {}).expect_err("the disk is full");
    let bytes = u64::from(chain.commit) * 512;
    assert!(error.hint().contains(&format!("needs {bytes} bytes")), "{}", error.hint());
    assert_eq!((error.exit_code(), bench.leftovers()), (exit::FAILED, vec![]));
}

#[test]
fn a_replica_of_ours_wins_over_newer_v3_files_beside_it_and_names_them() {
    let mut chain = Chain::new();
    chain.run(4);
    chain.clock.set(9_000_000);
    let generation = V3Generation(7);
    chain.put(Key::V3Snapshot(generation, 0), Bytes::from_static(b"never read"));
    let bench = Bench::new();
    let restored = bench.run(&chain).expect("the sealed chain");
    assert!(bench.output() == chain.states[&4]);
    assert_eq!(restored.notes, [Note::NewerV3 { time: TimestampMs(9_000_000) }]);
    // Unsealed, Litestream's own rule holds: the newer one wins, and this one is no backup at all.
    let mut foreign = Chain::new();
    foreign.epoch = None;
    foreign.run(4);
    foreign.clock.set(9_000_000);
    foreign.put(Key::V3Snapshot(generation, 0), Bytes::from_static(b"read"));
    let error = Bench::new().run(&foreign).expect_err("the v0.3 side is damaged");
    assert!(error.to_string().contains("snapshots/00000000"), "{error}");
}
