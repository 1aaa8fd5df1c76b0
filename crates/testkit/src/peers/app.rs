//! An application in another language with another SQLite: a Python process that does as it is told, line by line.
//!
//! It opens and closes as often as told to, checkpoints as it likes, and can be killed at any moment. It knows nothing
//! of litekeep.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// What the application answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Rows of the last statement, values joined by `|`, rows by `;`.
    Rows(String),
    /// What SQLite said.
    Failed(String),
}

/// A running application.
pub struct App {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl App {
    /// Starts it on a database that may not exist yet. `None` if there is no Python.
    ///
    /// # Panics
    /// If it cannot be started, or in a strict run without Python.
    #[must_use]
    pub fn start(database: &Path) -> Option<Self> {
        let python = super::find(super::PYTHON)?;
        let mut command = super::clean(&python);
        command.arg("-u").arg("-c").arg(include_str!("app.py")).arg(database);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start the application");
        let to = child.stdin.take().expect("BUG: its input is a pipe");
        let from = BufReader::new(child.stdout.take().expect("BUG: its output is a pipe"));
        Some(Self { child, to, from })
    }

    /// Runs one statement outside any transaction of its own; it must succeed. Gives rows as text.
    ///
    /// # Panics
    /// If the statement fails or the application is gone.
    pub fn sql(&mut self, statement: &str) -> String {
        match self.ask(&format!("sql {}", statement.replace('\n', " "))) {
            Reply::Rows(rows) => rows,
            Reply::Failed(reason) => panic!("{statement}: {reason}"),
        }
    }

    /// One line of the protocol (see `app.py`) and its answer.
    ///
    /// # Panics
    /// If the application is gone.
    pub fn ask(&mut self, line: &str) -> Reply {
        self.tell(line);
        self.hear().unwrap_or_else(|| panic!("the application ended while it was told: {line}"))
    }

    /// One line of the protocol, without waiting for the answer.
    ///
    /// # Panics
    /// If the application is gone.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").and_then(|()| self.to.flush()).expect("the application listens");
    }

    /// The next answer; `None` once the application is gone.
    pub fn hear(&mut self) -> Option<Reply> {
        let mut line = String::new();
        self.from.read_line(&mut line).ok().filter(|&count| count > 0)?;
        let line = line.trim_end_matches('\n');
        Some(match line.strip_prefix("ok ") {
            Some(rows) => Reply::Rows(rows.to_owned()),
            None => Reply::Failed(line.strip_prefix("err ").unwrap_or(line).to_owned()),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would: SIGKILL.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn kill(mut self) {
        self.child.kill().expect("kill the application");
        self.child.wait().expect("the application ends");
    }

    /// Lets it close its connection and end.
    ///
    /// # Panics
    /// If it does not end well.
    pub fn close(mut self) {
        self.tell("quit");
        assert!(self.child.wait().expect("the application ends").success());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
