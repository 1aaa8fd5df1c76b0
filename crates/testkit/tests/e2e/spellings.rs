//! Every way to spell a replica's place in a bucket, as users' configurations have them: litekeep finds what Litestream put
//! there, and Litestream what litekeep puts.

use crate::harness::{ids, litekeep, said, wait_for};
use s3test::{Profile, Server};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use testkit::peers::{self, Litestream};

/// A replica's lines in the configuration, for the bucket of `s3test`, with what 0.5's keys begin with.
const FORMS: [(&str, &str); 10] = [
    ("bucket: test", "/0000/"),
    ("bucket: test|path: .", "./0000/"),
    ("bucket: test|path: /", "//0000/"),
    ("bucket: test|path: /a/b", "/a/b/0000/"),
    ("bucket: test|path: a/b/", "a/b//0000/"),
    ("bucket: test|path: ./a", "./a/0000/"),
    ("bucket: test|path: a//b", "a//b/0000/"),
    ("url: s3://test", "./0000/"),
    ("url: s3://test/", "/0000/"),
    ("url: s3://test/a/b/", "a/b/0000/"),
];

struct Disk {
    folder: tempfile::TempDir,
    server: Server,
}

impl Disk {
    /// A disk with a database of three rows, and a configuration.
    fn new(form: &str) -> Self {
        let folder = tempfile::tempdir().expect("make a directory");
        let server = Server::start(Profile::Aws).expect("start an S3 server");
        let this = Self { folder, server };
        let lines = form.replace('|', "\n        ");
        let config = format!(
            "dbs:\n  - path: {}\n    replicas:\n      - type: s3\n        {lines}\n        endpoint: {}\n        \
             region: us-east-1\n        force-path-style: true\n        access-key-id: {}\n        secret-access-key: {}\n",
            this.database().display(),
            this.server.endpoint(),
            s3test::ACCESS_KEY,
            s3test::SECRET_KEY,
        );
        // A URL names the type by itself.
        let config = if form.starts_with("url") { config.replace("type: s3\n        ", "") } else { config };
        fs::write(this.config(), config).expect("written");
        this.add("CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)");
        this
    }

    fn database(&self) -> PathBuf {
        let disk = self.folder.path().join("disk");
        fs::create_dir_all(&disk).expect("make the disk");
        disk.join("app.db")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("litestream.yml")
    }

    fn add(&self, statements: &str) {
        let link = rusqlite::Connection::open(self.database()).expect("a database");
        link.pragma_update(None, "journal_mode", "wal").expect("set");
        link.execute_batch(statements).expect("rows");
    }

    /// Runs a command with the configuration to its end, which must be a good one.
    fn runs(&self, mut program: Command, words: &[&str], rest: &[PathBuf]) {
        let command = program.args(words).arg("-config").arg(self.config()).args(rest);
        let output = command.output().expect("started");
        assert!(output.status.success(), "{command:?}: {}\n{:?}", said(&output), self.server.keys());
    }

    /// Wipes the disk and restores.
    fn comes_back(&self, program: Command, rows: &[i64], what: &str) {
        fs::remove_dir_all(self.folder.path().join("disk")).expect("wipe the disk");
        let database = self.database();
        self.runs(program, &["restore", "-if-replica-exists"], std::slice::from_ref(&database));
        assert!(database.exists(), "{what}: nothing came back of {:?}", self.server.keys());
        assert_eq!(ids(&database), rows, "{what}");
    }
}

#[test]
fn r50_a_replica_of_litestream_0_5_is_found_and_carried_on_however_its_place_is_spelled() {
    let Some(official) = Litestream::v0_5_17() else { return };
    for (form, keys) in FORMS {
        let disk = Disk::new(form);
        disk.runs(official.command(), &["replicate", "-once"], &[]);
        let found = disk.server.keys();
        assert!(found.iter().all(|key| key.starts_with(keys.trim_end_matches("0000/"))), "{form}: {found:?}");
        disk.comes_back(litekeep(), &[1, 2, 3], form);
        disk.add("INSERT INTO t VALUES (4)");
        disk.runs(litekeep(), &["replicate", "-once"], &[]);
        disk.comes_back(official.command(), &[1, 2, 3, 4], form);
    }
}

#[test]
fn r50_a_backup_of_litestream_0_3_is_found_however_its_place_is_spelled() {
    let Some(old) = Litestream::v0_3_13() else { return };
    for form in ["bucket: test", "bucket: test|path: ./a", "bucket: test|path: a/b/", "url: s3://test"] {
        let disk = Disk::new(form);
        let log = fs::File::create(disk.folder.path().join("log")).expect("a log");
        let mut command = old.command();
        command.args(["replicate", "-config"]).arg(disk.config()).stdin(Stdio::null());
        let mut running = command.stdout(log).spawn().expect("started");
        wait_for(&"a snapshot", || {
            let keys = disk.server.keys();
            keys.iter().any(|key| key.ends_with(".snapshot.lz4")).then_some(())
        });
        peers::terminate(running.id());
        running.wait().expect("it ends");
        disk.comes_back(litekeep(), &[1, 2, 3], form);
        disk.add("INSERT INTO t VALUES (4)");
        disk.runs(litekeep(), &["replicate", "-once"], &[]);
        disk.comes_back(litekeep(), &[1, 2, 3, 4], form);
    }
}

#[test]
fn r26b_nothing_starts_afresh_beside_a_replica_under_another_spelling() {
    let disk = Disk::new("bucket: test");
    disk.runs(litekeep(), &["replicate", "-once"], &[]);
    fs::remove_dir_all(disk.folder.path().join("disk")).expect("wipe the disk");
    let config = fs::read_to_string(disk.config()).expect("read");
    fs::write(disk.config(), config.replace("bucket: test", "bucket: test\n        path: ."))
        .expect("written");
    let ran = disk.folder.path().join("ran");
    let exec = format!("touch {}", ran.display());
    for words in
        [&["restore", "-if-replica-exists"][..], &["replicate", "-restore-if-db-not-exists", "-exec", &exec]]
    {
        let mut command = litekeep();
        command.args(words).arg("-config").arg(disk.config());
        if words[0] == "restore" {
            command.arg(disk.database());
        }
        let output = command.output().expect("started");
        assert_eq!(output.status.code(), Some(13), "{words:?}: {}", said(&output));
        let why = r#"no replica at path ".", but one at path """#;
        assert!(said(&output).contains(why), "{words:?}: {}", said(&output));
        assert!(!disk.database().exists() && !ran.exists(), "{words:?}: {}", said(&output));
    }
}
