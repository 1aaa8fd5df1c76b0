//! `replicate -exec` on a platform that starts the new container before it stops the old one.

use crate::harness::{Place, litekeep, wait_for};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use testkit::peers;

/// The shortest times that are taken.
const TIMES: [&str; 4] = ["-ready-timeout", "10s", "-hand-over", "5s"];

/// Writes rows until SIGTERM, unless it is deaf, and notes each that was committed.
const WRITER: &str = r#"
import signal, sqlite3, sys, time
database, name, notes = sys.argv[1:4]
going = [True]
signal.signal(signal.SIGTERM, lambda *_: going.clear() if sys.argv[4:] != ["deaf"] else None)
link = sqlite3.connect(database, isolation_level=None, timeout=10)
link.execute("PRAGMA journal_mode=WAL")
link.execute("CREATE TABLE IF NOT EXISTS t (v TEXT PRIMARY KEY)")
n = 0
with open(notes, "a") as file:
    while going:
        n += 1
        row = "%s-%s-%d" % (name, time.time(), n)
        link.execute("INSERT INTO t VALUES (?)", (row,))
        file.write(row + "\n")
        file.flush()
        time.sleep(0.02)
"#;

/// A container: a folder of its own, and litekeep over a command in it.
struct Container {
    name: &'static str,
    folder: PathBuf,
    child: Child,
}

impl Container {
    fn database(&self) -> PathBuf {
        self.folder.join("app.db")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn notes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("notes")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a line of its log.
    fn says(&self, what: &str) {
        wait_for(&|| format!("{}: {what}\n{}", self.name, self.log()), || {
            self.log().contains(what).then_some(())
        });
    }

    /// Waits until its command has written more than before.
    fn writes(&self) {
        let before = self.notes().len();
        wait_for(&|| format!("{} writes\n{}", self.name, self.log()), || {
            (self.notes().len() > before + 3).then_some(())
        });
    }

    fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    fn ends(&mut self) -> Option<i32> {
        let status = wait_for(
            &|| {
                format!(
                    "the end of {}\n{}",
                    self.name,
                    fs::read_to_string(self.folder.join("log")).unwrap_or_default()
                )
            },
            || self.child.try_wait().expect("it can be waited for"),
        );
        status.code()
    }
}

impl Drop for Container {
    #[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
    fn drop(&mut self) {
        // The command has a process group of its own, which litekeep alone knows: it is asked before it is killed.
        if let Ok(None) = self.child.try_wait() {
            self.signal(15);
            self.signal(15);
            for _ in 0..50 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Platform {
    place: Place,
    writer: String,
}

impl Platform {
    /// `None` without Python.
    fn new() -> Option<Self> {
        let python = peers::python()?;
        let place = Place::new();
        let script = place.path("writer.py");
        fs::write(&script, WRITER).expect("written");
        Some(Self { writer: format!("{} {}", python.display(), script.display()), place })
    }

    /// Starts a container with a writer, or another command, and further flags.
    fn start(&self, name: &'static str, command: Option<&str>, flags: &[&str]) -> Container {
        let folder = self.place.path(name);
        fs::create_dir(&folder).expect("made");
        let writer = format!("{} app.db {name} notes", self.writer);
        let log = fs::File::create(folder.join("log")).expect("made");
        let mut litekeep = litekeep();
        litekeep.args(["replicate", "-restore-if-db-not-exists", "-exec", command.unwrap_or(&writer)]);
        litekeep.args(TIMES).args(flags).arg(folder.join("app.db")).arg(&self.place.url);
        litekeep.current_dir(&folder);
        litekeep.stdout(log.try_clone().expect("another handle")).stderr(Stdio::from(log));
        Container { name, child: litekeep.spawn().expect("started"), folder }
    }

    /// A writer that does not hear SIGTERM.
    fn deaf(&self, name: &str) -> String {
        format!("{} app.db {name} notes deaf", self.writer)
    }

    /// What the replica gives, in full.
    fn rows(&self) -> Vec<String> {
        let to = self.place.path("judged.db");
        let output = litekeep().args(["restore", "-force", "-o"]).arg(&to).arg(&self.place.url).output();
        let output = output.expect("run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        rows(&to)
    }

    fn holds_all_of(&self, containers: &[&Container]) {
        let there = self.rows();
        for container in containers {
            let notes = container.notes();
            let missing: Vec<_> = notes.iter().filter(|row| !there.contains(row)).collect();
            assert!(
                missing.is_empty(),
                "{} of {} rows of {} are lost",
                missing.len(),
                notes.len(),
                container.name
            );
        }
    }
}

fn rows(path: &Path) -> Vec<String> {
    let link = Connection::open(path).expect("opened");
    let mut statement = link.prepare("SELECT v FROM t").expect("read");
    let rows = statement.query_map([], |row| row.get(0)).expect("read");
    rows.collect::<Result<_, _>>().expect("read")
}

#[test]
fn r23_a_redeploy_hands_over_and_loses_no_committed_row() {
    let Some(platform) = Platform::new() else { return };
    let mut old = platform.start("old", None, &[]);
    // Two that begin at once on an empty replica are another matter (README).
    old.says("the command is up");
    old.writes();
    let mut new = platform.start("new", None, &[]);
    new.writes();
    old.says("handed over");
    new.says("the command is up");
    old.says("this one follows, and can be stopped");
    old.signal(15);
    assert_eq!(old.ends(), Some(0));
    new.signal(15);
    assert_eq!(new.ends(), Some(0));
    platform.holds_all_of(&[&old, &new]);
    assert!(rows(&new.database()).len() == old.notes().len() + new.notes().len(), "nothing is there twice");
}

#[test]
fn a_release_that_exits_at_once_is_no_outage() {
    let Some(platform) = Platform::new() else { return };
    let mut old = platform.start("old", None, &[]);
    old.says("the command is up");
    let mut new = platform.start("new", Some("sh -c 'exit 7'"), &[]);
    assert_eq!(new.ends(), Some(7), "the command's own code");
    old.says("the other instance gave up");
    old.writes();
    old.signal(15);
    assert_eq!(old.ends(), Some(0));
    platform.holds_all_of(&[&old]);
}

#[test]
fn a_release_that_never_becomes_ready_is_no_outage() {
    let Some(platform) = Platform::new() else { return };
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}/health", listener.local_addr().expect("its address"))
    };
    let mut old = platform.start("old", None, &[]);
    old.says("the command is up");
    let mut new = platform.start("new", None, &["-ready-url", &closed]);
    new.writes();
    old.says("did not become well in time");
    old.writes();
    new.says("the other instance is up");
    new.signal(15);
    assert_eq!(new.ends(), Some(0));
    old.signal(15);
    assert_eq!(old.ends(), Some(0));
    platform.holds_all_of(&[&old, &new]);
}

#[test]
fn a_command_that_does_not_stop_is_killed_in_time_also_where_a_signal_comes_between() {
    let Some(platform) = Platform::new() else { return };
    let mut old = platform.start("old", Some(&platform.deaf("old")), &[]);
    // Two that begin at once on an empty replica are another matter (README).
    old.says("the command is up");
    old.writes();
    let mut new = platform.start("new", None, &[]);
    old.says("another instance takes over");
    old.signal(15);
    old.says("the command does not end at SIGTERM");
    assert_eq!(old.ends(), Some(128 + 9));
    new.writes();
    new.signal(15);
    assert_eq!(new.ends(), Some(0));
    platform.holds_all_of(&[&old, &new]);
}

#[test]
fn whoever_was_replaced_takes_back_when_its_successor_is_stopped() {
    let Some(platform) = Platform::new() else { return };
    let mut old = platform.start("old", None, &[]);
    old.says("the command is up");
    let mut new = platform.start("new", None, &[]);
    old.says("this one follows, and can be stopped");
    new.signal(15);
    assert_eq!(new.ends(), Some(0));
    old.says("the other instance has left");
    old.writes();
    old.signal(15);
    assert_eq!(old.ends(), Some(0));
    platform.holds_all_of(&[&old, &new]);
}

#[test]
fn an_idle_command_hands_over_as_a_busy_one_does() {
    let Some(platform) = Platform::new() else { return };
    let mut first = platform.start("first", None, &[]);
    first.writes();
    first.signal(15);
    assert_eq!(first.ends(), Some(0));
    let mut old = platform.start("old", Some("sleep 600"), &[]);
    old.says("the command is up");
    let mut new = platform.start("new", Some("sleep 600"), &[]);
    new.says("the command is up");
    old.says("this one follows, and can be stopped");
    for container in [&mut old, &mut new] {
        container.signal(15);
        assert_eq!(container.ends(), Some(0));
    }
    platform.holds_all_of(&[&first]);
}
