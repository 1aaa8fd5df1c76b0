//! The `oraclenet` command: collects what the program is given from outside and hands it on.
#![forbid(unsafe_code)]

use litekeep::clock::{SystemClock, SystemRandom};
use oraclenet::client::{self, World};
use std::cell::RefCell;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let world = World {
        env: Box::new(|name| std::env::var_os(name)?.into_string().ok()),
        home: std::env::home_dir(),
        stdin: RefCell::new(Box::new(std::io::stdin())),
        stdout: RefCell::new(Box::new(std::io::stdout())),
        stderr: RefCell::new(Box::new(std::io::stderr())),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::default()),
    };
    client::run(&world, &words)
}
