//! A directory of its own for each test, and a command that says all it saw when an expectation fails.

use rustix::process::{Pid, Signal};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Once, mpsc};
use std::time::{Duration, Instant};

/// Whom tests run as that root starts, where what root may do is no answer.
const NOBODY: u32 = 65_534;

/// A temporary directory.
pub(crate) struct Dir(tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, content).expect("written");
        path
    }

    /// All files below a folder, as paths relative to it.
    pub(crate) fn files(&self, name: &str) -> Vec<String> {
        fn walk(root: &Path, at: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(at).expect("listed") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    found.push(path.strip_prefix(root).expect("below").display().to_string());
                }
            }
        }
        let root = self.path(name);
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        found
    }

    /// Unpacks one of the repository's sample replicas and returns its replica folder.
    pub(crate) fn fixture(&self, name: &str) -> PathBuf {
        let archive = fixtures().join(format!("{name}.tar.gz"));
        let file = fs::File::open(&archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        archive.set_preserve_mtime(true);
        archive.unpack(self.0.path()).expect("unpacked");
        self.path(name).join("replica")
    }

    /// A run of `litekeep` in this directory, with nothing of the environment but `PATH`.
    pub(crate) fn litekeep<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> TestCommand {
        self.run(env!("CARGO_BIN_EXE_litekeep"), args)
    }

    /// A run of any program in this directory, as [`Dir::litekeep`].
    pub(crate) fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: I,
    ) -> TestCommand {
        hang_up_is_not_ignored();
        let mut command = Command::new(program);
        command.args(args).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.0.path());
        TestCommand(command)
    }
}

/// Whoever runs the tests may ignore SIGHUP (`nohup`), and every program that they start would do so too. What a process
/// handles itself is back at its default in the programs that it runs.
fn hang_up_is_not_ignored() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let heard = signal_hook::flag::register(Signal::HUP.as_raw(), Arc::default());
        assert!(heard.is_ok(), "SIGHUP can't be handled");
    });
}

/// The repository's sample replicas.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// A run that is still to happen.
pub(crate) struct TestCommand(Command);

impl TestCommand {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// With this file as its stdin.
    pub(crate) fn reads(mut self, file: &Path) -> Self {
        self.0.stdin(fs::File::open(file).expect("opened"));
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    /// As a user who is not root, if it would be root's: root may read everything. What lies in its
    /// directory becomes that user's, and a copy of the program goes into `place`, for the original may be out of reach.
    pub(crate) fn of_nobody(self, place: &Dir) -> Self {
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        let directory = self.0.get_current_dir().expect("a directory").to_owned();
        for (path, mode) in [(&directory, 0o777), (&place.path("."), 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        }
        for entry in fs::read_dir(&directory).expect("listed") {
            std::os::unix::fs::chown(entry.expect("an entry").path(), Some(NOBODY), None)
                .expect("given away");
        }
        let program = place.path("litekeep");
        if !program.exists() {
            // By another process: one that is forked here while we write would hold the file, and it could not be run.
            let copy = Command::new("cp").arg(self.0.get_program()).arg(&program).status();
            assert!(copy.is_ok_and(|status| status.success()), "the program can't be copied");
        }
        let mut command = Command::new(program);
        command.args(self.0.get_args()).current_dir(directory).env_clear().stdin(Stdio::null());
        command.envs(self.0.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.uid(NOBODY);
        Self(command)
    }

    /// As the first process of a container: what it does not handle it does not hear, and orphans are its own. `None` where
    /// the system lets nobody have that.
    pub(crate) fn pid_1(self) -> Option<Self> {
        let directory = self.0.get_current_dir().expect("a directory");
        let unshare = |user: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(user).args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
            command
        };
        let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
        let allowed = |way: &&&[&str]| unshare(way).arg("true").output().is_ok_and(|it| it.status.success());
        let mut command = unshare(ways.iter().find(allowed)?);
        command.arg(self.0.get_program()).args(self.0.get_args());
        command.current_dir(directory).env_clear().stdin(Stdio::null());
        command.envs(self.0.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Some(Self(command))
    }

    /// Runs it to its end and expects this exit code.
    pub(crate) fn exits(mut self, code: i32) -> Seen {
        let output = self.0.output().expect("started");
        let seen = Seen { command: format!("{:?}", self.0), output };
        assert_eq!(seen.output.status.code(), Some(code), "{}", seen.all());
        seen
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn exits_any(mut self) -> Seen {
        let output = self.0.output().expect("started");
        Seen { command: format!("{:?}", self.0), output }
    }

    /// Runs it to its end and expects any other exit code.
    pub(crate) fn exits_not(mut self, code: i32) -> Seen {
        let output = self.0.output().expect("started");
        let seen = Seen { command: format!("{:?}", self.0), output };
        assert!(seen.output.status.code().is_some_and(|seen| seen != code), "{}", seen.all());
        seen
    }
}

impl TestCommand {
    /// Starts it and lets it run.
    pub(crate) fn starts(mut self) -> Running {
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.runs()
    }
}

impl TestCommand {
    /// Starts it with all that it says going to a reader that takes nothing, whose buffer is full already.
    pub(crate) fn starts_unread(mut self) -> (Running, UnixStream) {
        let (full, reader) = stalled();
        self.0.stderr(full.try_clone().expect("cloned")).stdout(full);
        (self.runs(), reader)
    }

    /// The same, but only for stdout.
    pub(crate) fn starts_unlogged(mut self) -> (Running, UnixStream) {
        let (full, reader) = stalled();
        self.0.stdout(full).stderr(Stdio::piped());
        (self.runs(), reader)
    }

    fn runs(mut self) -> Running {
        let command = format!("{:?}", self.0);
        let mut child = self.0.spawn().expect("started");
        let nothing = || mpsc::channel().1;
        let lines = child.stdout.take().map_or_else(nothing, lines_of);
        let errors = child.stderr.take().map_or_else(nothing, lines_of);
        Running { command, child, lines, seen: String::new(), errors, ended: false }
    }
}

/// A full buffer, and the reader that takes nothing from it.
fn stalled() -> (OwnedFd, UnixStream) {
    let (mut full, reader) = UnixStream::pair().expect("a pair");
    full.set_nonblocking(true).expect("set");
    while full.write(&[b'\n'; 64]).is_ok() {}
    full.set_nonblocking(false).expect("set");
    (full.into(), reader)
}

/// What comes out of a pipe, until nobody holds its other end any more.
fn lines_of(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, lines) = mpsc::channel();
    let pipe = BufReader::new(pipe);
    std::thread::spawn(move || {
        pipe.lines().map_while(Result::ok).try_for_each(|line| tell.send(line + "\n"))
    });
    lines
}

/// A run that goes on; dropped, it is killed with all that it started.
pub(crate) struct Running {
    command: String,
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: String,
    errors: mpsc::Receiver<String>,
    ended: bool,
}

impl Running {
    /// Waits for a line on stdout that holds this.
    #[track_caller]
    pub(crate) fn until(&mut self, part: &str) -> &mut Self {
        self.until_within(part, Duration::from_secs(60))
    }

    /// The same, with at most this long from each line to the next.
    #[track_caller]
    fn until_within(&mut self, part: &str, patience: Duration) -> &mut Self {
        while let Ok(line) = self.lines.recv_timeout(patience) {
            self.seen.push_str(&line);
            if line.contains(part) {
                return self;
            }
        }
        self.fails(&format!("no line with {part:?}"))
    }

    /// Kills it and tells what was seen.
    #[track_caller]
    fn fails(&mut self, what: &str) -> ! {
        self.kill();
        // What is in the pipes still; somebody may hold them whom we did not find.
        let rest = |pipe: &mpsc::Receiver<String>| -> String {
            std::iter::from_fn(|| pipe.recv_timeout(Duration::from_secs(5)).ok()).collect()
        };
        self.seen.push_str(&rest(&self.lines));
        let errors = rest(&self.errors);
        panic!("{what}\n$ {}\nstdout:\n{}\nstderr:\n{errors}", self.command, self.seen);
    }

    /// Ends it and all that it started: a command (`-exec`) has a group of its own, outlives it, and holds the pipes.
    fn kill(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        let pid = Pid::from_child(&self.child);
        // It starts nobody any more while its descendants are looked for.
        let _ = rustix::process::kill_process(pid, Signal::STOP);
        for descendant in descendants(pid.as_raw_pid()) {
            let _ = rustix::process::kill_process(descendant, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How many of its threads have this name.
    pub(crate) fn threads(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|it| it.trim_end() == name).count()
    }

    /// What it has said on stdout so far, as far as somebody waited for it.
    pub(crate) fn seen(&self) -> &str {
        &self.seen
    }

    /// Sends a signal.
    pub(crate) fn signal(&mut self, signal: Signal) -> &mut Self {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("sent");
        self
    }

    /// Sends a signal to the first process that it has started.
    pub(crate) fn signal_its_child(&mut self, signal: Signal) -> &mut Self {
        let child = descendants(Pid::from_child(&self.child).as_raw_pid())[0];
        rustix::process::kill_process(child, signal).expect("sent");
        self
    }

    /// Waits for its end and expects this exit code.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Seen {
        self.ends_anyhow().exited(code)
    }

    /// Waits for its end, for three minutes at most.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "a test's deadline")]
    pub(crate) fn ends_anyhow(mut self) -> Seen {
        let deadline = Instant::now() + Duration::from_secs(180);
        let status = loop {
            match self.child.try_wait().expect("a status") {
                Some(status) => break status,
                None if Instant::now() >= deadline => self.fails("it does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.ended = true;
        self.lines.iter().for_each(|line| self.seen.push_str(&line));
        let stderr: String = self.errors.iter().collect();
        let stdout = std::mem::take(&mut self.seen);
        let output = Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() };
        Seen { command: std::mem::take(&mut self.command), output }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Who was started by this process, and by those in turn, as far as the system has it in `/proc`.
fn descendants(of: i32) -> Vec<Pid> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it, in parentheses, may hold anything.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![of];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    family.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

#[test]
fn a_wait_in_vain_says_what_was_seen_and_leaves_nobody_behind() {
    let dir = Dir::new();
    let pipe = dir.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("run").success());
    crate::restore::make_database(&dir.path("a.db"));
    // Two generations, which ignore a polite end; both hold what litekeep writes to, and the pipe.
    let command = "sh -c 'trap : TERM; echo told >&2; echo ready; exec 3>pipe; sleep 600 & wait; wait'";
    let mut running =
        dir.litekeep(["replicate", "-exec", command, "a.db", &crate::restore::url(&dir.path("r"))]).starts();
    running.until("ready");
    let mut held = fs::File::open(&pipe).expect("opened by the command");
    let wait = || {
        running.until_within("never said", Duration::from_millis(100));
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)).expect_err("in vain");
    let said = panic.downcast_ref::<String>().expect("a message");
    for part in ["no line with \"never said\"", "replicating to", "ready\n", "stderr:\ntold\n"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    held.read_to_end(&mut Vec::new()).expect("read until nobody holds it");
}

/// What a run left behind.
pub(crate) struct Seen {
    command: String,
    output: Output,
}

impl Seen {
    #[track_caller]
    pub(crate) fn exited(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{}", self.all());
        self
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub(crate) fn all(&self) -> String {
        format!(
            "\n$ {}\nexit: {:?}\nstdout:\n{}\nstderr:\n{}",
            self.command,
            self.output.status.code(),
            self.out(),
            self.err()
        )
    }

    #[track_caller]
    pub(crate) fn out_has(self, part: &str) -> Self {
        assert!(self.out().contains(part), "stdout lacks {part:?}{}", self.all());
        self
    }

    #[track_caller]
    pub(crate) fn err_has(self, part: &str) -> Self {
        assert!(self.err().contains(part), "stderr lacks {part:?}{}", self.all());
        self
    }

    #[track_caller]
    pub(crate) fn silent_out(self) -> Self {
        assert!(self.out().is_empty(), "stdout is not empty{}", self.all());
        self
    }

    #[track_caller]
    pub(crate) fn never_says(self, secret: &str) -> Self {
        assert!(
            !self.out().contains(secret) && !self.err().contains(secret),
            "it says {secret:?}{}",
            self.all()
        );
        self
    }
}
