//! Signals that end a run: SIGINT, SIGTERM and SIGHUP.
//!
//! It names them and ends nothing itself. What is dropped when one comes is the business of whoever waits.

use crate::error::DrillError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its making on, these signals no longer end the process.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> Result<Self, DrillError> {
        let failed = |error: std::io::Error| DrillError::machine("cannot listen for signals", &error);
        let listen = |kind| signal(kind).map_err(failed);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Does `work` to its end, or drops it at the next signal.
    ///
    /// # Errors
    /// Its own, or which signal came.
    pub async fn unless<T>(
        &mut self,
        work: impl Future<Output = Result<T, DrillError>>,
    ) -> Result<T, DrillError> {
        tokio::select! {
            done = work => done,
            name = self.next() => Err(DrillError::system(format!("interrupted by {name}"))),
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
