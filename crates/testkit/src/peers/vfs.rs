//! The official VFS extension: SQLite reading a replica page by page, with nothing of ours in between.
//!
//! One process per look: the extension is a Go library that takes its settings from the environment at its start and
//! cannot be unloaded.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the extension saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The TXID it stands at.
    pub txid: String,
    /// The answer of `PRAGMA integrity_check`.
    pub integrity: String,
    /// Each table with its number of rows and a hash of all its rows in order.
    pub tables: Vec<(String, u64, String)>,
}

/// The extension, 0.5.17.
#[derive(Debug, Clone)]
pub struct Vfs {
    python: PathBuf,
    library: PathBuf,
}

impl Vfs {
    /// `None` if it, or a Python that can load it, is not here.
    #[must_use]
    pub fn find() -> Option<Self> {
        Some(Self { python: super::find(super::PYTHON)?, library: super::find(super::VFS)? })
    }

    /// Opens a replica and reads all of it. `Err` is what it said when it could not.
    ///
    /// # Errors
    /// If it does not open, does not read, or takes longer than a minute (it waits for a first backup for ever).
    pub fn look(&self, url: &str, environment: &[(&str, &str)]) -> Result<Look, String> {
        let mut command = super::clean(&self.python);
        command.arg("-c").arg(include_str!("look.py")).arg(&self.library);
        command.env("LITESTREAM_REPLICA_URL", url).env("LITESTREAM_LOG_LEVEL", "ERROR");
        command.envs(environment.iter().copied());
        read(&mut command)
    }

    /// The same reading of an ordinary database file, for comparison.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn look_at_file(&self, database: &Path) -> Result<Look, String> {
        read(super::clean(&self.python).arg("-c").arg(include_str!("look.py")).arg("-").arg(database))
    }
}

fn read(command: &mut Command) -> Result<Look, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, words.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("look ")).map(str::to_owned);
    let txid = lines.next().ok_or("it did not say its TXID")?;
    let integrity = lines.next().ok_or("it did not say its integrity")?;
    let tables = lines.map(|line| {
        let mut words = line.rsplitn(3, ' ');
        let hash = words.next().unwrap_or_default().to_owned();
        let rows =
            words.next().and_then(|rows| rows.parse().ok()).ok_or("a table without a number of rows")?;
        Ok((words.next().unwrap_or_default().to_owned(), rows, hash))
    });
    Ok(Look { txid, integrity, tables: tables.collect::<Result<_, String>>()? })
}
