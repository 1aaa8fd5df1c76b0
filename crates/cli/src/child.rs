//! The command that runs while we replicate.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running child, in a process group of its own. It inherits environment, stdout and stderr. Until it is reaped
/// nobody else can get its number, so that no signal hits a stranger.
pub(crate) struct Running {
    pid: Pid,
    child: Child,
}

impl Running {
    /// Starts a command and calls `ended` once when it has ended, on a thread of its own; [`Running::reap`] it then.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(crate) fn start(
        words: &[String],
        ended: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<Self> {
        let (program, args) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // Nothing to read, as with Litestream: from a terminal it could not, in a group that is not in its foreground, and
        // would be stopped for trying; from a script's loop it would take what is not its own.
        let child = Command::new(program).args(args).stdin(Stdio::null()).process_group(0).spawn()?;
        let running = Self { pid: Pid::from_child(&child), child };
        let pid = running.pid;
        let waiter = std::thread::Builder::new().name("child".to_owned()).spawn(move || ended(wait(pid)));
        if let Err(error) = waiter {
            let _ = running.reap(true);
            return Err(error);
        }
        Ok(running)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Passes a signal on, SIGKILL to all of its group; nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: i32) {
        match Signal::from_named_raw(signal) {
            Some(Signal::KILL) => self.kill_group(),
            Some(signal) => drop(rustix::process::kill_process(self.pid, signal)),
            None => {}
        }
    }

    /// How it ended. With `rest`, whatever of its group outlives it is killed: `sh run.sh` may have left somebody who
    /// writes on.
    pub(crate) fn reap(mut self, rest: bool) -> io::Result<ExitStatus> {
        if rest {
            self.kill_group();
        }
        self.child.wait()
    }

    fn kill_group(&self) {
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }
}

/// Waits without reaping.
fn wait(pid: Pid) -> io::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(error) = rustix::process::waitid(WaitId::Pid(pid), options) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    Ok(())
}

/// The exit code that stands for a child's end: its own, or 128 and the number of the signal that ended it. A child
/// that was ended by a signal that we passed on did as it was told: 0.
pub(crate) fn exit_code(status: ExitStatus, passed_on: &[i32]) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) if passed_on.contains(&signal) => 0,
        (None, Some(signal)) => u8::try_from(signal.saturating_add(128)).unwrap_or(1),
        (None, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn end_of(line: &[&str], signal: Option<i32>) -> ExitStatus {
        let words: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let (tell, told) = mpsc::channel();
        let running =
            Running::start(&words, move |end| tell.send(end).expect("the test listens")).expect("started");
        if let Some(signal) = signal {
            running.signal(signal);
        }
        told.recv().expect("an end").expect("it can be waited for");
        running.signal(15);
        running.reap(false).expect("a status")
    }

    #[test]
    fn a_childs_exit_code_is_ours() {
        for code in [0, 3, 255] {
            let status = end_of(&["sh", "-c", &format!("exit {code}")], None);
            assert_eq!(exit_code(status, &[]), code);
        }
    }

    #[test]
    fn a_signal_is_passed_on_and_its_end_tells_whether_it_was_ours() {
        let status = end_of(&["sleep", "600"], Some(15));
        assert_eq!(exit_code(status, &[15]), 0);
        assert_eq!(exit_code(status, &[2]), 128 + 15);
    }

    #[test]
    fn what_outlives_the_first_process_is_killed_with_its_group() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("run").success());
        let line = format!("sleep 600 > {} &", pipe.display());
        let (tell, told) = mpsc::channel();
        let words = ["sh", "-c", &line].map(str::to_owned);
        let running =
            Running::start(&words, move |end| tell.send(end).expect("the test listens")).expect("started");
        let mut held = std::fs::File::open(&pipe).expect("somebody writes there");
        told.recv().expect("an end").expect("it can be waited for");
        assert!(running.reap(true).expect("a status").success());
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut held, &mut read).expect("read until nobody holds it");
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error() {
        assert!(Running::start(&["/no/such/program".to_owned()], |_| ()).is_err());
        assert!(Running::start(&[], |_| ()).is_err());
    }
}
