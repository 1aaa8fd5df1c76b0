//! The command that runs while we replicate, and whoever it leaves behind.
//!
//! Its end is told once nobody of its process group writes any more: a last sync that begins sooner says "done" of a database
//! that somebody still writes to. Who has left the group, as a daemon does, is nobody's to end.

use crate::processes;
use litekeep_core::env::Clock;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What is left of the group once its first process has ended is told this, and has so long to end.
const REST: [(Signal, Duration); 2] =
    [(Signal::TERM, Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(1))];
const LOOK: Duration = Duration::from_millis(20);

/// A running child, in a process group of its own. It inherits environment, stdout and stderr. Until it is reaped
/// nobody else can get its number, so that no signal hits a stranger.
pub(crate) struct Running {
    pid: Pid,
    child: Child,
}

impl Running {
    /// Starts a command and calls `ended` once when it and its group have ended, on a thread of its own; [`Running::reap`]
    /// it then.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(crate) fn start(
        words: &[String],
        clock: Arc<dyn Clock>,
        ended: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<Self> {
        let (program, args) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // Nothing to read, as with Litestream: from a terminal it could not, in a group that is not in its foreground, and
        // would be stopped for trying; from a script's loop it would take what is not its own.
        let child = Command::new(program).args(args).stdin(Stdio::null()).process_group(0).spawn()?;
        let running = Self { pid: Pid::from_child(&child), child };
        let pid = running.pid;
        let waiter = std::thread::Builder::new().name("child".to_owned()).spawn(move || {
            let end = wait(pid);
            end_the_rest(pid, &*clock);
            ended(end);
        });
        if let Err(error) = waiter {
            let _ = running.reap();
            return Err(error);
        }
        Ok(running)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Passes a signal on: SIGINT to all of its group, as a terminal does, because a shell waits for whom it runs;
    /// SIGKILL too; any other to the first process, as Litestream does. Nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: i32) {
        let _ = match Signal::from_named_raw(signal) {
            Some(signal @ (Signal::INT | Signal::KILL)) => kill_process_group(self.pid, signal),
            Some(signal) => kill_process(self.pid, signal),
            None => Ok(()),
        };
    }

    /// Whether its first process has not ended; others of its group may live on for a while.
    pub(crate) fn runs(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(rustix::process::waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// How it ended. Whoever of its group is there still is killed.
    pub(crate) fn reap(mut self) -> io::Result<ExitStatus> {
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.child.wait()
    }
}

/// Waits for its end without reaping it. As the first process of a container we are given whoever has lost its parent, and
/// take those ends while it runs: nobody else does, and each would keep its number for ever.
fn wait(pid: Pid) -> io::Result<()> {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let mut adopts = rustix::process::getpid().is_init();
    loop {
        let who = if adopts { WaitId::All } else { WaitId::Pid(pid) };
        match rustix::process::waitid(who, ended) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) if !adopts => return Ok(()),
            Ok(_) => {}
        }
        if rustix::process::waitid(WaitId::Pid(pid), ended | WaitIdOptions::NOHANG)?.is_some() {
            return Ok(());
        }
        // Whom we can't see we can't take, and would be told of again at once.
        adopts = processes::reap_all_but(pid);
    }
}

/// Ends whoever is left of the group. Until this is over the group's first process is not reaped, and its number is nobody
/// else's.
fn end_the_rest(group: Pid, clock: &dyn Clock) {
    for (signal, patience) in REST {
        let processes = processes::alive(group);
        if processes == 0 {
            return;
        }
        let told = if signal == Signal::KILL { "SIGKILL" } else { "SIGTERM" };
        tracing::warn!(processes, "the command has ended and left processes behind: they are told {told}");
        let _ = kill_process_group(group, signal);
        let until = clock.boot() + patience;
        while processes::alive(group) > 0 && clock.boot() < until {
            clock.sleep(LOOK);
        }
    }
}

/// The exit code that stands for a child's end: its own, or 128 and the number of the signal that ended it. A child
/// that was ended by a signal that we passed on did as it was told: 0. SIGKILL is no such signal: whoever needs it did not.
pub(crate) fn exit_code(status: ExitStatus, passed_on: &[i32]) -> u8 {
    const KILL: i32 = Signal::KILL.as_raw();
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) if signal != KILL && passed_on.contains(&signal) => 0,
        (None, Some(signal)) => u8::try_from(signal.saturating_add(128)).unwrap_or(1),
        (None, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::clock::SystemClock;
    use std::sync::mpsc;

    fn start(line: &[&str]) -> (Running, mpsc::Receiver<io::Result<()>>) {
        let words: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let (tell, told) = mpsc::channel();
        let ended = move |end| tell.send(end).expect("the test listens");
        (Running::start(&words, Arc::new(SystemClock), ended).expect("started"), told)
    }

    fn end_of(line: &[&str], signal: Option<i32>) -> ExitStatus {
        let (running, told) = start(line);
        if let Some(signal) = signal {
            running.signal(signal);
        }
        told.recv().expect("an end").expect("it can be waited for");
        running.signal(15);
        running.reap().expect("a status")
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
    fn whoever_had_to_be_killed_did_not_do_as_it_was_told() {
        let status = end_of(&["sleep", "600"], Some(9));
        assert_eq!(exit_code(status, &[15, 9]), 128 + 9);
    }

    #[test]
    fn what_outlives_the_first_process_is_ended_with_its_group_before_the_end_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("run").success());
        let pipe = pipe.display();
        // The second is deaf to SIGTERM.
        for (line, told_of_it) in [
            (
                format!(
                    "exec 3> {pipe}; (trap 'echo told >&3; exit' TERM; echo up >&3; while :; do sleep 0.01; done) & read up < {pipe}.up"
                ),
                true,
            ),
            (format!("trap '' TERM; exec 3> {pipe}; sleep 600 & echo up >&3; read up < {pipe}.up"), false),
        ] {
            let up = format!("{pipe}.up");
            let _ = std::fs::remove_file(&up);
            assert!(Command::new("mkfifo").arg(&up).status().expect("run").success());
            let (running, told) = start(&["sh", "-c", &line]);
            let mut held =
                io::BufReader::new(std::fs::File::open(pipe.to_string()).expect("somebody writes there"));
            let mut first = String::new();
            io::BufRead::read_line(&mut held, &mut first).expect("read");
            std::fs::write(&up, "now end\n").expect("written");
            told.recv().expect("an end").expect("it can be waited for");
            // Nobody holds it any more, and nobody was killed by the reaping.
            let mut rest = String::new();
            io::Read::read_to_string(&mut held, &mut rest).expect("read until nobody holds it");
            assert_eq!((first.as_str(), rest.contains("told")), ("up\n", told_of_it), "{rest}");
            assert!(running.reap().expect("a status").success());
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error() {
        let clock = || Arc::new(SystemClock);
        assert!(Running::start(&["/no/such/program".to_owned()], clock(), |_| ()).is_err());
        assert!(Running::start(&[], clock(), |_| ()).is_err());
    }
}
