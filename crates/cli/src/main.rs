//! The `litekeep` command: continuous replication and restore for SQLite, with Litestream's command line.
//!
//! This file collects what the program is given from outside (arguments, environment, clock); everything else takes
//! it as an argument. Data goes to stdout, talk to stderr; `replicate` logs to stdout as Litestream does.
#![forbid(unsafe_code)]

mod child;
mod config;
mod daemon;
mod descriptors;
mod flags;
mod log;
mod output;
mod processes;
mod progress;
mod signals;
mod text;
mod trouble;
mod verbs;
mod world;

use litekeep::clock::{SystemClock, SystemRandom};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use world::World;

// cargo reads `.cargo/config.toml` from the working directory, and so misses it when it is started elsewhere.
const _: () = assert!(
    option_env!("LIBSQLITE3_FLAGS").is_some(),
    "build in the clone: .cargo/config.toml has the flags without which the bundled SQLite lacks what is needed here"
);

#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).map(OsString::into_string).collect();
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    let home = world::home(&String::from_utf8_lossy(&users), rustix::process::getuid().as_raw());
    let world = World {
        args,
        env: env.collect(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::default()),
        directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        home: home.or_else(|| std::env::var_os("HOME").map(Into::into)),
        pid: std::process::id(),
        terminal: std::io::stderr().is_terminal(),
    };
    let exit = verbs::run(&world);
    log::flush();
    ExitCode::from(exit.0)
}
