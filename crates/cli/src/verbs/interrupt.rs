//! A first signal asks for an orderly end, a second one ends the program.

use crate::output;
use crate::signals::{self, Heard, Word};
use crate::trouble::{Exit, Trouble};
use litekeep_core::env::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The first signal that came, if one did.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// Listens from now on. `second` is called on the listener's thread, before the second one ends the process.
    ///
    /// # Errors
    /// The operating system takes no handler.
    pub(crate) fn listen(clock: Arc<dyn Clock>, second: impl Fn() + Send + 'static) -> Result<Self, Trouble> {
        let interrupt = Self::default();
        let (first, mut heard) = (interrupt.clone(), Heard::default());
        signals::listen(move |signal| match heard.take(clock.boot()) {
            Word::First => {
                first.0.store(signal, Ordering::Relaxed);
                output::talk(&format!("{} received, ending", signals::name(signal)));
            }
            Word::Echo => {}
            Word::Second => {
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
