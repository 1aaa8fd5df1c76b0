//! The scripts of a Litestream 0.3 user run unchanged, with Litestream 0.3.13 and with litekeep behind the name
//! `litestream`; what each step leaves is taken apart into facts, and the facts that only one of the two has must be in the
//! tables of COMPAT.md, which are read here. What they restore, and what their metrics say of the same thing, is compared.
#![allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

mod compat;
mod differences;
mod facts;
mod judge;
mod reference;
mod values;

use crate::harness::{app, litekeep, wait_for};
use differences::{DIFFERENCES, Side};
use facts::Facts;
use judge::Found;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testkit::peers::{self, Litestream};

/// How many rows the restores of the scenario must bring back, with either program.
const ROWS: [(&str, &[usize]); 5] = [
    ("back", &[27, 27]),
    ("restored", &[27, 27, 27, 27]),
    ("restored-moment", &[10, 10]),
    ("after-service-rows", &[38]),
    ("old-rows", &[8, 8]),
];

/// The shell that runs the scenario; what it has started goes with it.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let group = rustix::process::Pid::from_child(&self.0);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// Where the scenario and its configuration lie.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/dropin")
}

/// A machine of its own for one of the programs.
struct Machine {
    folder: PathBuf,
    /// The backup that both are given.
    old: PathBuf,
}

impl Machine {
    /// Runs the scenario with this program as `litestream`.
    fn run(folder: &Path, program: &Path, old: &Path) -> Self {
        for name in ["bin", "out", "data"] {
            fs::create_dir_all(folder.join(name)).expect("make a folder");
        }
        symlink(program, folder.join("bin/litestream")).expect("give it the name");
        let source = source();
        let bucket = s3test::Server::start(s3test::Profile::Aws).expect("a bucket");
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
        let mut script = peers::clean(Path::new("sh"));
        script.arg(source.join("scenario.sh")).current_dir(folder);
        script.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.join("bin").display()));
        script.env("PYTHON", peers::python().expect("it was here a moment ago"));
        script.env("LITESTREAM_CONFIG", source.join("litestream.yml")).env("HERE", &source);
        script.env("OUT", folder.join("out")).env("DATA", folder.join("data"));
        script.env("BACKUP", folder.join("backup")).env("OLD", old).env("METRICS_PORT", port.to_string());
        script.env("ENDPOINT", bucket.endpoint()).env("BUCKET", s3test::BUCKET).env("PREFIX", "two");
        script.env("LITESTREAM_ACCESS_KEY_ID", s3test::ACCESS_KEY);
        script.env("LITESTREAM_SECRET_ACCESS_KEY", s3test::SECRET_KEY);
        let log = fs::File::create(folder.join("log")).expect("make a file");
        script.stdin(Stdio::null()).stdout(log.try_clone().expect("share it")).stderr(log);
        let mut script = Script(script.process_group(0).spawn().expect("start sh"));
        let machine = Self { folder: folder.to_owned(), old: old.to_owned() };
        let mut done = BTreeSet::new();
        // Each step has its time; how many there are is the scenario's affair.
        while wait_for(&|| format!("a step after {done:?}, of {}", program.display()), || {
            let ended = script.0.try_wait().expect("ask for its end").is_some();
            (ended || machine.steps().len() > done.len()).then_some(!ended)
        }) {
            done = machine.steps();
        }
        assert!(!bucket.keys().is_empty(), "nothing went into the bucket");
        let log = fs::read_to_string(folder.join("log")).expect("read it");
        assert!(log.is_empty(), "the script itself met with trouble: {log}");
        machine
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join("out").join(file)).unwrap_or_else(|why| panic!("{file}: {why}"))
    }

    fn steps(&self) -> BTreeSet<String> {
        let names = crate::harness::names(&self.folder.join("out"));
        names.iter().filter_map(|name| name.strip_suffix(".code")).map(str::to_owned).collect()
    }

    fn facts(&self, step: &str) -> Facts {
        let files = ["code", "out", "err"].map(|kind| self.read(&format!("{step}.{kind}")));
        Facts::of_a_step(&files[0], &files[1], &files[2], &self.paths())
    }

    fn metrics(&self) -> Facts {
        Facts::of_metrics(&self.read("metrics"), &self.paths())
    }

    /// The paths that differ from run to run, and what they are called.
    fn paths(&self) -> [(String, &'static str); 3] {
        [(&self.folder, "$PLACE"), (&self.old, "$OLD"), (&source(), "$HERE")]
            .map(|(path, name)| (path.display().to_string(), name))
    }
}

/// A backup that Litestream 0.3.13 made: eight rows in two segments.
fn old_backup(litestream: &Litestream, folder: &Path) -> Option<PathBuf> {
    fs::create_dir_all(folder).expect("make a folder");
    let (database, replica) = (folder.join("a.db"), folder.join("replica"));
    let url = format!("file://{}", replica.display());
    let mut app = app(&database, 4096)?;
    app.ask("rows 7 100");
    let process = litestream.replicate(&database, &url, &folder.join("log"));
    let restored = folder.join("restored.db");
    for rows in [7, 8] {
        wait_for(&|| format!("{rows} rows in the old backup"), || {
            let _ = fs::remove_file(&restored);
            let there = litestream.restore(&[], &restored, &url).status.success()
                && crate::harness::ids(&restored).len() == rows;
            there.then_some(())
        });
        if rows == 7 {
            app.ask("rows 1 100");
        }
    }
    process.end();
    Some(replica)
}

/// What only one of the two has, for each step and the page of metrics.
fn compare(theirs: &Machine, ours: &Machine) -> Vec<Found> {
    let mut found = Vec::new();
    let mut both = |step: &str, a: &Facts, b: &Facts| {
        found.extend(a.without(b).map(|fact| (Side::Theirs, step.to_owned(), fact)));
        found.extend(b.without(a).map(|fact| (Side::Ours, step.to_owned(), fact)));
    };
    for step in &theirs.steps() {
        both(step, &theirs.facts(step), &ours.facts(step));
    }
    both("metrics", &theirs.metrics(), &ours.metrics());
    found
}

#[test]
fn the_scripts_of_a_litestream_0_3_user_run_with_the_differences_of_compat_and_no_others() {
    let Some(litestream) = Litestream::v0_3_13() else { return };
    let folder = tempfile::tempdir().expect("make a directory");
    let Some(old) = old_backup(&litestream, &folder.path().join("old")) else { return };
    let program = |command: Command| PathBuf::from(command.get_program());
    let theirs = Machine::run(&folder.path().join("a"), &program(litestream.command()), &old);
    let ours = Machine::run(&folder.path().join("b"), &program(litekeep()), &old);
    assert_eq!(theirs.steps(), ours.steps());
    values::content(&theirs, &ours);
    values::listings(&theirs, &ours);
    values::errors(&theirs, &ours);
    values::metrics(&theirs, &ours);
    let complaints = judge::complaints(&compare(&theirs, &ours));
    assert!(complaints.is_empty(), "differences that COMPAT.md does not have so:\n{}", complaints.join("\n"));
}

#[test]
fn every_difference_between_the_two_is_a_row_of_compat() {
    let rows: BTreeSet<String> = compat::rows().into_iter().map(|row| row.what).collect();
    let words = differences::OTHER_WORDS.iter().map(|(_, _, row)| *row);
    for name in DIFFERENCES.iter().map(|row| row.compat).chain(words).chain([differences::ERRORS]) {
        assert!(rows.contains(name), "COMPAT.md has no row that begins with | {name} |");
    }
}

#[test]
fn a_difference_that_is_in_no_table_is_told() {
    let folder = tempfile::tempdir().expect("make a directory");
    let machine = |name: &str, out: &str, code: &str, metrics: &str| {
        let machine = Machine { folder: folder.path().join(name), old: folder.path().join("old") };
        fs::create_dir_all(machine.folder.join("out")).expect("make a folder");
        for (file, text) in [("s.out", out), ("s.err", ""), ("s.code", code), ("metrics", metrics)] {
            fs::write(machine.folder.join("out").join(file), text).expect("write it");
        }
        machine
    };
    let line = "time=2026-11-26T06:59:48.5Z level=INFO msg=\"initialized db\" path=/a\n";
    let same = compare(&machine("a", line, "0\n", "a 1\n"), &machine("b", line, "0\n", "a 2\n"));
    assert!(same.is_empty(), "{same:?}");
    let more = |text: &str| format!("{line}time=2026-11-26T06:59:49Z level=INFO msg={text}\n");
    for (out, code, metrics, fact) in [
        (line, "1\n", "a 1\n", "code 1"),
        ("", "0\n", "a 1\n", "log INFO initialized db"),
        (&line.replace("/a", "/b"), "0\n", "a 1\n", "field initialized db: path=/b"),
        (&line.replace("INFO", "WARN"), "0\n", "a 1\n", "log WARN initialized db"),
        (&format!("{line}more\n"), "0\n", "a 1\n", "text out: more"),
        (&more("news"), "0\n", "a 1\n", "log INFO news"),
        (&more("\"restore complete\" news=1"), "0\n", "a 1\n", "field restore complete: news=1"),
        (line, "0\n", "litekeep_news 1\n", "series litekeep_news []"),
        (line, "0\n", "litekeep_healthy{news=\"1\"} 1\n", "series litekeep_healthy [(\"news\", \"1\")]"),
    ] {
        let found = compare(&machine("a", line, "0\n", "a 1\n"), &machine("b", out, code, metrics));
        assert!(found.iter().any(|(_, _, it)| it.to_string() == fact), "{fact}: {found:?}");
        let complaints = judge::complaints(&found);
        assert!(
            complaints.iter().any(|it| it.starts_with("s: ") || it.starts_with("metrics: ")),
            "{fact}: {complaints:?}"
        );
        assert!(
            complaints.iter().any(|it| it.ends_with(&format!("alone: {fact}"))),
            "{fact}: {complaints:?}"
        );
    }
}
