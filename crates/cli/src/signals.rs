//! Signals as messages: those that end litekeep, and those that are for a command alone. SIGKILL and what the system sends
//! for a fault are nobody's to take.

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A terminal that goes away, and whoever wants a dump, ends litekeep in order too: dead at once it would leave its last
/// changes behind, and a command without its backup.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// These mean what a command makes of them; without one they mean nothing, as in Litestream.
const FOR_A_COMMAND: [i32; 3] = [SIGUSR1, SIGUSR2, SIGWINCH];

/// What comes sooner after the first is its echo: `timeout` tells a process and then its group, and a wrapper passes on what
/// the terminal has sent to all of them already.
const ECHO: Duration = Duration::from_secs(1);

/// What one more signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// To end.
    First,
    /// The same, once more.
    Echo,
    /// Not to wait any longer.
    Second,
}

/// The signals that have come to end a run.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    first: Option<Duration>,
}

impl Heard {
    /// Takes in one that is heard now, on the boot clock.
    pub(crate) fn take(&mut self, now: Duration) -> Word {
        match self.first {
            None => {
                self.first = Some(now);
                Word::First
            }
            Some(first) if now.saturating_sub(first) < ECHO => Word::Echo,
            Some(_) => Word::Second,
        }
    }
}

/// As long as this is there, a signal that ends litekeep ends it at once, with 128 and its number: for work that may be cut off
/// anywhere, as a restore, which puts nothing in place before all is there. Without it the first process of a container would
/// not hear the signal, and it would be forgotten by whatever comes next: that one listens before it lets this go.
#[derive(Debug)]
pub(crate) struct Abrupt(Arc<AtomicBool>);

impl Abrupt {
    /// Begins.
    ///
    /// # Errors
    /// The operating system's, when it takes no handler.
    pub(crate) fn begin() -> io::Result<Self> {
        let on = Arc::new(AtomicBool::new(true));
        for signal in ending() {
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&on))?;
        }
        Ok(Self(on))
    }
}

impl Drop for Abrupt {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Calls `tell` with each signal that ends litekeep from now on, on a thread of its own, until the process ends. The others
/// are taken, and nothing happens.
///
/// # Errors
/// The operating system's, when it takes no handler.
pub(crate) fn listen(mut tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut ending = false;
    listen_to_all(move |signal| {
        // A terminal that goes away says so more than once, and systemd says it behind SIGTERM: nobody is impatient.
        if ends(signal) && !(signal == SIGHUP && ending) {
            ending = true;
            tell(signal);
        }
    })
}

/// The same with every signal that comes, those that are for a command among them.
///
/// # Errors
/// See [`listen`].
pub(crate) fn listen_to_all(tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(ending().chain(FOR_A_COMMAND))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || signals.forever().for_each(tell))?;
    Ok(())
}

/// Those that end litekeep here.
fn ending() -> impl Iterator<Item = i32> {
    // `nohup` has it ignored: then it stays so.
    let hang_up = !is_ignored(SIGHUP);
    ENDING.into_iter().filter(move |signal| *signal != SIGHUP || hang_up)
}

/// Whether a signal ends litekeep.
pub(crate) fn ends(signal: i32) -> bool {
    ENDING.contains(&signal)
}

/// Whether a command may take it for something else than its end: to read its configuration again, or to dump its threads.
pub(crate) fn may_be_survived(signal: i32) -> bool {
    matches!(signal, SIGHUP | SIGQUIT)
}

/// Whether this process was started with a signal ignored. Linux tells; elsewhere it is taken for not ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// The name of one of those that end litekeep.
pub(crate) fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "SIGHUP",
        SIGINT => "SIGINT",
        SIGQUIT => "SIGQUIT",
        SIGTERM => "SIGTERM",
        _ => "signal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_counts_once_a_second_has_passed_since_the_first() {
        let mut heard = Heard::default();
        for (millis, word) in [
            (5000, Word::First),
            (5000, Word::Echo),
            (5999, Word::Echo),
            (6000, Word::Second),
            (6001, Word::Second),
        ] {
            assert_eq!(heard.take(Duration::from_millis(millis)), word, "{millis}");
        }
    }
}
