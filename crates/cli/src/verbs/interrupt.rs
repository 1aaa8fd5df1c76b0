//! A first signal asks for an orderly end, a second one ends the program.

use crate::output;
use crate::signals;
use crate::trouble::{Exit, Trouble};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The first signal that came, if one did.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// Listens from now on. `first` and `second` are called with each of the two, on the listener's thread.
    ///
    /// # Errors
    /// The operating system takes no handler.
    pub(crate) fn listen(
        first: impl Fn() + Send + 'static,
        second: impl Fn() + Send + 'static,
    ) -> Result<Self, Trouble> {
        let interrupt = Self::default();
        let heard = interrupt.clone();
        signals::listen(move |signal| {
            if heard.0.swap(signal, Ordering::Relaxed) == 0 {
                output::talk(&format!("{} received, ending", signals::name(signal)));
                first();
            } else {
                second();
                std::process::exit(128 + signal);
            }
        })
        .map_err(|error| Trouble::new("can't listen for signals").because(&error))?;
        Ok(interrupt)
    }

    /// Whether to end.
    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// What the process ends with because of the signal, as a shell says it.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let signal = self.0.load(Ordering::Relaxed);
        (signal != 0).then(|| Exit(u8::try_from(128 + signal).unwrap_or(Exit::FAILED.0)))
    }
}
