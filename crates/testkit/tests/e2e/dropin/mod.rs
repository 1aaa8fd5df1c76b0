//! The scripts of a Litestream 0.3 user run unchanged, with Litestream 0.3.13 and with litekeep behind the name
//! `litestream`; what each step leaves is taken apart into facts, and the facts that only one of the two has must be rows
//! of [`DIFFERENCES`], which are rows of COMPAT.md.
#![allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

mod differences;
mod facts;

use crate::harness::{app, litekeep, wait_for};
use differences::{DIFFERENCES, Difference, LINES_OF_GENERATIONS, Side};
use facts::Facts;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testkit::peers::{self, Litestream};

/// What the restores of the scenario must bring back, with either program.
const ROWS: [(&str, &str); 5] = [
    ("back", "27\n27\n"),
    ("restored", "27\n27\n27\n27\n"),
    ("restored-moment", "10\n10\n"),
    ("after-service-rows", "38\n"),
    ("old-rows", "8\n8\n"),
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

/// A machine of its own for one of the programs.
struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// Runs the scenario with this program as `litestream`.
    fn run(folder: &Path, program: &Path, old: &Path) -> Self {
        for name in ["bin", "out", "data"] {
            fs::create_dir_all(folder.join(name)).expect("make a folder");
        }
        symlink(program, folder.join("bin/litestream")).expect("give it the name");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/dropin");
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
        let machine = Self { folder: folder.to_owned() };
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
        Facts::of_a_step(&files[0], &files[1], &files[2], &self.folder.display().to_string())
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

/// The fact and whether it is theirs alone or ours alone, for each fact that only one has.
fn compare(theirs: &Machine, ours: &Machine) -> Vec<(Side, String, String)> {
    let mut found = Vec::new();
    for step in &theirs.steps() {
        let (mut a, mut b) = (theirs.facts(step), ours.facts(step));
        a.keep_fields_of(&b);
        b.keep_fields_of(&a);
        found.extend(a.without(&b).map(|fact| (Side::Theirs, step.clone(), fact)));
        found.extend(b.without(&a).map(|fact| (Side::Ours, step.clone(), fact)));
    }
    let scrape = |machine: &Machine| {
        Facts::of_metrics(&machine.read("metrics"), &machine.folder.display().to_string())
    };
    let (a, b) = (scrape(theirs), scrape(ours));
    found.extend(a.without(&b).map(|fact| (Side::Theirs, "metrics".to_owned(), fact)));
    found.extend(b.without(&a).map(|fact| (Side::Ours, "metrics".to_owned(), fact)));
    found
}

/// Every difference must be in the table, and everything in the table must be seen.
fn judge(found: &[(Side, String, String)]) {
    let mut met = vec![false; DIFFERENCES.len()];
    let mut complaints = Vec::new();
    for (side, step, fact) in found {
        let line = fact.strip_prefix("log INFO ").or_else(|| fact.strip_prefix("log WARN "));
        if *side == Side::Theirs && line.is_some_and(|line| LINES_OF_GENERATIONS.contains(&line)) {
            continue;
        }
        let covers = |row: &Difference| row.side == *side && row.covers(step, fact);
        let rows: Vec<usize> = (0..DIFFERENCES.len()).filter(|at| covers(&DIFFERENCES[*at])).collect();
        if rows.is_empty() {
            complaints.push(format!("{step}: {side:?} alone: {fact}"));
        }
        rows.into_iter().for_each(|at| met[at] = true);
    }
    assert!(complaints.is_empty(), "differences that COMPAT.md does not have:\n{}", complaints.join("\n"));
    let unmet: Vec<_> = DIFFERENCES.iter().zip(met).filter(|(_, met)| !met).map(|(row, _)| row).collect();
    assert!(unmet.is_empty(), "differences that are none any more: {unmet:#?}");
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
    for machine in [&theirs, &ours] {
        for (step, rows) in ROWS {
            let all = machine.facts(step);
            assert_eq!(machine.read(&format!("{step}.out")), rows, "{step}: {all:?}");
        }
    }
    judge(&compare(&theirs, &ours));
}

#[test]
fn every_difference_between_the_two_is_a_row_of_compat() {
    let compat = include_str!("../../../../../COMPAT.md");
    let rows: BTreeSet<&str> =
        compat.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
    let named = DIFFERENCES.iter().map(|row| row.compat).chain([differences::GENERATIONS]);
    for name in named {
        assert!(rows.contains(name), "COMPAT.md has no row that begins with | {name} |");
    }
}

#[test]
fn a_difference_that_is_in_no_table_is_told() {
    let folder = tempfile::tempdir().expect("make a directory");
    let machine = |name: &str, out: &str, code: &str| {
        let machine = Machine { folder: folder.path().join(name) };
        fs::create_dir_all(machine.folder.join("out")).expect("make a folder");
        for (file, text) in [("s.out", out), ("s.err", ""), ("s.code", code), ("metrics", "a 1\n")] {
            fs::write(machine.folder.join("out").join(file), text).expect("write it");
        }
        machine
    };
    let line = "time=2026-11-26T06:59:48.5Z level=INFO msg=\"initialized db\" path=/a\n";
    let same = compare(&machine("a", line, "0\n"), &machine("b", line, "0\n"));
    assert!(same.is_empty(), "{same:?}");
    for (out, code, fact) in [
        (line, "1\n", "code 1"),
        ("", "0\n", "log INFO initialized db"),
        (&line.replace("/a", "/b"), "0\n", "field initialized db path=/b"),
        (&line.replace("INFO", "WARN"), "0\n", "log WARN initialized db"),
        (&format!("{line}more\n"), "0\n", "text out: more"),
    ] {
        let found = compare(&machine("a", line, "0\n"), &machine("b", out, code));
        assert!(found.iter().any(|(_, _, it)| it == fact), "{fact}: {found:?}");
        assert!(std::panic::catch_unwind(|| judge(&found)).is_err(), "{fact}");
    }
}
