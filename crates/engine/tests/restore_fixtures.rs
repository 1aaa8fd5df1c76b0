//! Every restore target of every replica in `fixtures/`, written by real Litestream, byte for byte.

use litekeep::clock::{SystemClock, SystemRandom};
use litekeep::files::RealFiles;
use litekeep::restore::{
    Integrity, Options, Outcome, RestoreEnv, RestoreError, Restored, Source, exit, restore,
};
use litekeep_core::restore::Target;
use litekeep_formats::{TimestampMs, Txid};
use litekeep_store::V3Generation;
use litekeep_store::directory::DirectoryStore;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// One fixture, unpacked, with the times it was written at.
struct Fixture {
    dir: TempDir,
    replica: PathBuf,
    manifest: Value,
}

impl Fixture {
    fn unpack(set: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let archive = fixtures().join(format!("{set}.tar.gz"));
        let status = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(dir.path()).status();
        assert!(status.expect("tar runs").success(), "{set} is unpacked");
        let text = std::fs::read_to_string(fixtures().join("manifest.json")).expect("the manifest");
        let manifest: Value = serde_json::from_str(&text).expect("JSON");
        let manifest = manifest["sets"][set].clone();
        let replica = dir.path().join(set).join("replica");
        for (name, facts) in manifest["files"].as_object().expect("files") {
            let file =
                std::fs::File::options().write(true).open(replica.join(name)).expect("listed and there");
            let nanos = facts["mtime_ns"].as_u64().expect("a time");
            file.set_modified(UNIX_EPOCH + Duration::from_nanos(nanos)).expect("dated");
        }
        Self { dir, replica, manifest }
    }

    fn env(&self) -> RestoreEnv {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom::default()));
        RestoreEnv {
            store: Arc::new(DirectoryStore::new(&self.replica, clock.clone(), random)),
            files: Arc::new(RealFiles),
            clock,
            vfs: None,
        }
    }

    fn restore(&self, change: impl FnOnce(&mut Options)) -> Result<(Vec<u8>, Box<Restored>), RestoreError> {
        let out = tempfile::tempdir_in(self.dir.path()).expect("a directory");
        let mut options = Options::new(out.path().join("restored.db"));
        change(&mut options);
        match restore(&self.env(), &options, &mut |_| {})? {
            Outcome::Restored(restored) => {
                let names: Vec<_> = std::fs::read_dir(out.path()).expect("readable").collect();
                assert_eq!(names.len(), 1, "only the database is left: {names:?}");
                Ok((std::fs::read(&options.output).expect("restored"), restored))
            }
            other => panic!("{other:?}"),
        }
    }
}

/// SHA-256 by the system's own tool, as the manifest has it.
fn sha256(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("content");
    std::fs::write(&path, bytes).expect("written");
    let output = Command::new("sha256sum").arg(&path).output().expect("sha256sum runs");
    String::from_utf8_lossy(&output.stdout).chars().take(64).collect()
}

fn check(bytes: &[u8], expected: &Value, what: &str) {
    assert_eq!(bytes.len() as u64, expected["bytes"].as_u64().expect("a size"), "{what}");
    assert_eq!(sha256(bytes), expected["sha256"].as_str().expect("a hash"), "{what}");
}

const LTX_SETS: [&str; 5] =
    ["v5-replicate", "v5-legacy-frame", "v5-vfs-0.5.17", "v5-page1024", "v5-page65536"];

#[test]
fn every_target_of_every_ltx_fixture_is_byte_identical() {
    for set in LTX_SETS {
        let fixture = Fixture::unpack(set);
        let mut targets = 0;
        for (target, expected) in fixture.manifest["restore"].as_object().expect("targets") {
            let wanted = match target.as_str() {
                "latest" => Target::Latest,
                hex => match Txid::parse_hex(hex) {
                    Some(txid) => Target::Txid(txid),
                    None => continue,
                },
            };
            let (bytes, restored) = fixture.restore(|options| options.target = wanted).expect("restored");
            check(&bytes, expected, &format!("{set} {target}"));
            assert_eq!(restored.integrity, Integrity::Checked, "no seal: SQLite has checked it");
            targets += 1;
        }
        assert!(targets >= 4, "{set}: only {targets} targets in the manifest");
    }
}

#[test]
fn every_time_of_every_ltx_fixture_gives_the_newest_state_before_it() {
    for set in LTX_SETS {
        let fixture = Fixture::unpack(set);
        let files = fixture.manifest["files"].as_object().expect("files");
        // The time of each TXID: that of the lowest level that ends there.
        let mut ends: Vec<(i64, u64, u64)> = Vec::new();
        for (name, facts) in files {
            let Some((level, range)) = name.strip_prefix("ltx/").and_then(|name| name.split_once('/')) else {
                continue;
            };
            let max = u64::from_str_radix(&range[17..33], 16).expect("hex");
            let time = i64::try_from(facts["mtime_ns"].as_u64().expect("a time") / 1_000_000).expect("fits");
            ends.push((time, level.parse().expect("a level"), max));
        }
        for (time, ..) in &ends {
            for wanted in [*time, *time + 1] {
                let lowest =
                    |max: u64| ends.iter().filter(|e| e.2 == max).min_by_key(|e| e.1).expect("one").0;
                let expected = ends.iter().map(|e| e.2).filter(|max| lowest(*max) < wanted).max();
                let target = Target::Timestamp(TimestampMs(wanted));
                match (fixture.restore(|options| options.target = target), expected) {
                    (Ok((bytes, _)), Some(max)) => {
                        let expected = &fixture.manifest["restore"][format!("{max:016x}")];
                        check(&bytes, expected, &format!("{set} at {wanted}"));
                    }
                    (Err(error), None) => assert_eq!(error.exit_code(), exit::NOT_AVAILABLE, "{error}"),
                    (found, expected) => panic!("{set} at {wanted}: {found:?}, expected {expected:?}"),
                }
            }
        }
    }
}

#[test]
fn r41_every_target_of_the_v3_fixture_is_byte_identical_with_0_3_13() {
    let fixture = Fixture::unpack("v3-basic");
    let mut targets = 0;
    for (name, expected) in fixture.manifest["restore"].as_object().expect("generations") {
        let id = V3Generation(u64::from_str_radix(name, 16).expect("hex"));
        let (bytes, restored) = fixture.restore(|options| options.generation = Some(id)).expect("restored");
        check(&bytes, &expected["latest"], name);
        assert!(matches!(restored.source, Source::V3 { generation, .. } if generation == id));
        assert_eq!(restored.integrity, Integrity::Checked);
        for (index, expected) in expected["after_index"].as_object().expect("indexes") {
            let wanted = u32::from_str_radix(index, 16).expect("hex");
            let (bytes, _) = fixture
                .restore(|options| {
                    options.generation = Some(id);
                    options.v3_index = Some(wanted);
                })
                .expect("restored");
            check(&bytes, expected, &format!("{name} after {index}"));
            targets += 1;
        }
    }
    assert!(targets >= 8, "only {targets} targets in the manifest");
    let (bytes, _) = fixture.restore(|_| ()).expect("restored");
    check(&bytes, &fixture.manifest["restore"]["8492e2dddad4a752"]["latest"], "the newest generation");
}

#[test]
fn r42_a_v3_backup_with_a_piece_missing_is_refused() {
    let generation = "generations/f1fb474efcdf47c6";
    for missing in [
        "wal/00000000_00000000.wal.lz4",
        "wal/00000002_000060b0.wal.lz4",
        "wal/00000003_00000000.wal.lz4",
        "wal/00000001_00001038.wal.lz4",
    ] {
        let fixture = Fixture::unpack("v3-basic");
        let path = fixture.replica.join(generation);
        for snapshot in ["00000002", "00000004"] {
            std::fs::remove_file(path.join(format!("snapshots/{snapshot}.snapshot.lz4"))).expect("there");
        }
        std::fs::remove_file(path.join(missing)).expect("there");
        let id = Some(V3Generation(0xf1fb_474e_fcdf_47c6));
        let error = fixture.restore(|options| options.generation = id).expect_err("a piece is missing");
        assert_eq!(error.exit_code(), exit::DAMAGED, "{missing}: {error}");
    }
}

#[test]
fn r44_a_v3_object_that_is_cut_off_is_refused() {
    let name = "generations/8492e2dddad4a752/wal/00000003_00001038.wal.lz4";
    for part in [0, 1, 50, 99] {
        let fixture = Fixture::unpack("v3-basic");
        std::fs::remove_file(
            fixture.replica.join("generations/8492e2dddad4a752/snapshots/00000005.snapshot.lz4"),
        )
        .expect("there");
        let path = fixture.replica.join(name);
        let bytes = std::fs::read(&path).expect("readable");
        std::fs::write(&path, &bytes[..bytes.len() * part / 100]).expect("written");
        let id = Some(V3Generation(0x8492_e2dd_dad4_a752));
        let error = fixture.restore(|options| options.generation = id).expect_err("cut off");
        assert_eq!(error.exit_code(), exit::DAMAGED, "{part} %: {error}");
    }
}

#[test]
fn r51_a_checksummed_file_is_restored_and_its_checksum_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let level = dir.path().join("ltx/0");
    std::fs::create_dir_all(&level).expect("made");
    let name = "0000000000000001-0000000000000001.ltx";
    std::fs::copy(fixtures().join("v5-checksummed").join(name), level.join(name)).expect("copied");
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom::default()));
    let env = RestoreEnv {
        store: Arc::new(DirectoryStore::new(dir.path(), clock.clone(), random)),
        files: Arc::new(RealFiles),
        clock,
        vfs: None,
    };
    let options = Options::new(dir.path().join("out.db"));
    let Ok(Outcome::Restored(restored)) = restore(&env, &options, &mut |_| {}) else {
        panic!("not restored")
    };
    assert_eq!(restored.integrity, Integrity::Sealed, "by the trailer's own checksum");
    let expected = std::fs::read(fixtures().join("v5-checksummed/s.db")).expect("readable");
    assert!(std::fs::read(&options.output).expect("restored") == expected);
}

#[test]
fn r50_a_tree_in_the_other_layout_is_said_to_be_one() {
    let fixture = Fixture::unpack("v5-replicate");
    std::fs::rename(fixture.replica.join("ltx/0"), fixture.replica.join("0000")).expect("renamed");
    std::fs::remove_dir_all(fixture.replica.join("ltx")).expect("removed");
    let error = fixture.restore(|_| ()).expect_err("nothing in this layout");
    let RestoreError::Empty(empty) = &error else { panic!("{error:?}") };
    assert_eq!(empty.other_layout, 19);
    assert!(error.hint().contains("layout"), "{}", error.hint());
}
