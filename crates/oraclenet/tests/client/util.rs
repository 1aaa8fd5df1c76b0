//! A home of its own for each test, and a command that says all it saw when an expectation fails.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// One account's home directory.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A home whose credentials file names this server.
    pub(crate) fn at(server: &str) -> Self {
        let home = Self::new();
        home.run(&["config", server]).exits(0);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.path(".config/oraclenet/credentials.json")
    }

    pub(crate) fn saved(&self) -> Value {
        let text = std::fs::read_to_string(self.credentials()).expect("the credentials file");
        serde_json::from_str(&text).expect("JSON")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// A run of `oraclenet` with nothing of the environment but this home.
    pub(crate) fn run(&self, words: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oraclenet"));
        command.args(words).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        Run { command, input: String::new() }
    }
}

/// The permission bits of a path.
pub(crate) fn mode(path: PathBuf) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// A run that is still to happen.
pub(crate) struct Run {
    command: Command,
    input: String,
}

impl Run {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn input(mut self, text: &str) -> Self {
        text.clone_into(&mut self.input);
        self
    }

    /// Runs it to its end and expects this exit code.
    pub(crate) fn exits(self, code: i32) -> Seen {
        let seen = self.ends();
        assert_eq!(seen.output.status.code(), Some(code), "{}", seen.all());
        seen
    }

    /// Runs it to its end and expects any other exit code than 0.
    pub(crate) fn exits_not_zero(self) -> Seen {
        let seen = self.ends();
        assert!(seen.output.status.code().is_some_and(|code| code != 0), "{}", seen.all());
        seen
    }

    fn ends(mut self) -> Seen {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("started");
        // A run that does not read its input closes it.
        let _ = child.stdin.take().expect("a pipe").write_all(self.input.as_bytes());
        let output = child.wait_with_output().expect("ended");
        Seen { command: format!("{:?}", self.command), output }
    }

    /// Starts it and lets it run.
    pub(crate) fn starts(mut self) -> Running {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("started");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Running { child, lines, seen: String::new() }
    }
}

/// A run that goes on. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: String,
}

impl Running {
    /// Waits until it says this on stderr.
    pub(crate) fn says(&mut self, words: &str) {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("it never said `{words}`, but:\n{}", self.seen));
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(words) {
                return;
            }
        }
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn ends(mut self) -> Option<i32> {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process id");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("send SIGTERM");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run wrote.
pub(crate) struct Seen {
    command: String,
    output: Output,
}

impl Seen {
    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).expect("UTF-8")
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).expect("UTF-8")
    }

    pub(crate) fn all(&self) -> String {
        format!(
            "{}\n{:?}\nstdout:\n{}\nstderr:\n{}",
            self.command,
            self.output.status,
            self.out(),
            self.err()
        )
    }

    /// stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }

    /// stdout holds each of these.
    pub(crate) fn prints(&self, words: &[&str]) -> &Self {
        let out = self.out();
        words.iter().for_each(|word| assert!(out.contains(word), "no `{word}` on stdout: {}", self.all()));
        self
    }

    /// stderr holds each of these.
    pub(crate) fn says(&self, words: &[&str]) -> &Self {
        let err = self.err();
        words.iter().for_each(|word| assert!(err.contains(word), "no `{word}` on stderr: {}", self.all()));
        self
    }
}
