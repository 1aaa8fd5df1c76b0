//! The command that runs while we replicate.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

/// A running child. It inherits environment, stdin, stdout and stderr.
pub(crate) struct Running {
    pid: Pid,
    /// `None` once it is reaped: its number may mean somebody else by then.
    child: Arc<Mutex<Option<Child>>>,
}

impl Running {
    /// Starts a command and calls `ended` once with its end, on a thread of its own.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(crate) fn start(
        words: &[String],
        ended: impl FnOnce(io::Result<ExitStatus>) + Send + 'static,
    ) -> io::Result<Self> {
        let (program, args) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program).args(args).spawn()?;
        let pid = Pid::from_child(&child);
        let child = Arc::new(Mutex::new(Some(child)));
        let waiter = Arc::clone(&child);
        std::thread::Builder::new().name("child".to_owned()).spawn(move || ended(wait(pid, &waiter)))?;
        Ok(Self { pid, child })
    }

    /// Passes a signal on; nothing happens if the child has ended.
    pub(crate) fn signal(&self, signal: i32) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_some()
            && let Some(signal) = Signal::from_named_raw(signal)
        {
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }
}

/// Waits without reaping first, so that a signal that is passed on meanwhile cannot hit a stranger with the same
/// number.
fn wait(pid: Pid, child: &Mutex<Option<Child>>) -> io::Result<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(error) = rustix::process::waitid(WaitId::Pid(pid), options) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    match child.take() {
        Some(mut child) => child.wait(),
        None => Err(io::ErrorKind::NotFound.into()),
    }
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
        let status = told.recv().expect("an end").expect("a status");
        running.signal(9);
        status
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
    fn a_command_that_is_not_there_is_an_error() {
        assert!(Running::start(&["/no/such/program".to_owned()], |_| ()).is_err());
        assert!(Running::start(&[], |_| ()).is_err());
    }
}
