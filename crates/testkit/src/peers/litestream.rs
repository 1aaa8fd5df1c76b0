//! Official Litestream programs: 0.3.13, 0.5.15 (the last that knows LZ4 frames only) and 0.5.17.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// One version of Litestream.
#[derive(Debug, Clone)]
pub struct Litestream {
    program: PathBuf,
}

impl Litestream {
    /// 0.3.13. `None` if it is not here.
    #[must_use]
    pub fn v0_3_13() -> Option<Self> {
        super::find(super::LITESTREAM_0_3_13).map(|program| Self { program })
    }

    /// 0.5.15, which refuses pages that are not LZ4 frames. `None` if it is not here.
    #[must_use]
    pub fn v0_5_15() -> Option<Self> {
        super::find(super::LITESTREAM_0_5_15).map(|program| Self { program })
    }

    /// 0.5.17. `None` if it is not here.
    #[must_use]
    pub fn v0_5_17() -> Option<Self> {
        super::find(super::LITESTREAM_0_5_17).map(|program| Self { program })
    }

    /// A command of it.
    #[must_use]
    pub fn command(&self) -> Command {
        super::clean(&self.program)
    }

    /// `replicate DATABASE URL`, running until it is dropped or told to end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn replicate(&self, database: &Path, url: &str, log: &Path) -> Replicating {
        let file = std::fs::File::create(log).expect("make a log file");
        let again = file.try_clone().expect("share the log file");
        let mut command = self.command();
        command.arg("replicate").arg(database).arg(url).stdin(Stdio::null()).stdout(file).stderr(again);
        Replicating { child: command.spawn().expect("start Litestream") }
    }

    /// `restore` with these further words.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn restore(&self, words: &[&str], out: &Path, url: &str) -> Output {
        let mut command = self.command();
        command.arg("restore").args(words).arg("-o").arg(out).arg(url);
        command.output().expect("start Litestream")
    }
}

/// A Litestream that replicates. Killed when dropped.
pub struct Replicating {
    child: Child,
}

impl Replicating {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn end(mut self) {
        super::terminate(self.child.id());
        self.child.wait().expect("Litestream ends");
    }
}

impl Drop for Replicating {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
