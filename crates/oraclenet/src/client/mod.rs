//! The client: `oraclenet` verbs that talk to a server over its API, for people at a terminal, agents and scripts.
//!
//! Data goes to stdout, talk to stderr. It never reads the clock, the environment or a random source but through
//! [`World`], never starts or links the server, and never repeats a request that could take effect twice.

mod api;
mod credentials;
mod flags;
mod http;
mod id;
mod output;
mod retry;
mod text;
mod trouble;
mod verbs;

pub use flags::{Flag, Verb};
pub use verbs::{NOTES, VERBS};

use flags::{Line, help};
use litekeep_core::env::{Clock, Random};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use trouble::{Exit, Trouble};

/// Looks an environment variable up.
pub type Env = Box<dyn Fn(&str) -> Option<String>>;

/// What the client is given from outside; `main` collects it.
pub struct World {
    /// The environment.
    pub env: Env,
    /// The home directory, if there is one.
    pub home: Option<PathBuf>,
    /// Standard input: texts and passwords, where the arguments say so.
    pub stdin: RefCell<Box<dyn Read>>,
    /// Standard output: data.
    pub stdout: RefCell<Box<dyn Write>>,
    /// Standard error: talk.
    pub stderr: RefCell<Box<dyn Write>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers, for the ids of records and for jitter.
    pub random: Arc<dyn Random>,
}

impl World {
    /// A variable that is set and not empty.
    fn env(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for World {
    /// Nothing of what it holds: there are secrets in the environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// A verb of the client by its name.
#[must_use]
pub fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// Does what the words after the program's name say; errors are written to stderr here.
///
/// Ends with 0 when it is done, 1 when it was refused or failed, 2 when the words make no sense, 3 when the server
/// could not be reached or could not take it at the moment.
#[must_use]
pub fn run(world: &World, words: &[OsString]) -> ExitCode {
    let exit = match dispatch(world, words) {
        Ok(()) => Exit::OK,
        Err(trouble) => {
            output::talk(world, &trouble.to_string());
            trouble.exit
        }
    };
    ExitCode::from(exit.0)
}

fn dispatch(world: &World, words: &[OsString]) -> Result<(), Trouble> {
    let not_text = |word: &OsString| Trouble::usage(format!("the argument {} is not UTF-8", word.display()));
    let words: Vec<&str> =
        words.iter().map(|word| word.to_str().ok_or_else(|| not_text(word))).collect::<Result<_, _>>()?;
    let Some((name, rest)) = words.split_first() else {
        return Err(Trouble::usage("a command is needed").hint("`oraclenet help` lists them"));
    };
    if let ("help" | "-h" | "--help", Some(name)) = (*name, rest.first()) {
        return output::text(world, &help::verb(find(name)?));
    }
    let verb = find(name)?;
    match flags::parse(verb, rest)? {
        Line::Help => output::text(world, &help::verb(verb)),
        Line::Go(parsed) => (verb.run)(world, &parsed),
    }
}

fn find(name: &str) -> Result<&'static Verb, Trouble> {
    verb(name).ok_or_else(|| {
        let trouble = Trouble::usage(format!("oraclenet {name}: unknown command"));
        let others = ["serve", "superuser", "help", "version"]; // the program's, which does these itself
        match flags::nearest(name, VERBS.iter().map(|verb| verb.name).chain(others)) {
            Some(near) => trouble.hint(format!("did you mean `oraclenet {near}`?")),
            None => trouble.hint("`oraclenet help` lists the commands"),
        }
    })
}
