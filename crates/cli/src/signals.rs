//! SIGINT and SIGTERM as messages.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

/// Calls `tell` with each SIGINT and SIGTERM from now on, on a thread of its own, until the process ends.
///
/// # Errors
/// The operating system's, when it takes no handler.
pub(crate) fn listen(tell: impl Fn(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            tell(signal);
        }
    })?;
    Ok(())
}

/// The name of one of the two.
pub(crate) fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        SIGTERM => "SIGTERM",
        _ => "signal",
    }
}
