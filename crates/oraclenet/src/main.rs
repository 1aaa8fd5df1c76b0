//! The `oraclenet` command: collects what the program is given from outside and hands it on.
#![forbid(unsafe_code)]

use litekeep::clock::{SystemClock, SystemRandom};
use oraclenet::{client, help, serve};
use std::cell::RefCell;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

// cargo reads `.cargo/config.toml` from the working directory, and so misses it when it is started elsewhere.
const _: () = assert!(
    option_env!("LIBSQLITE3_FLAGS").is_some(),
    "build in the clone: .cargo/config.toml has the flags without which the bundled SQLite lacks what is needed here"
);

#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(text) = help::asked(&words) {
        let _ = std::io::stdout().write_all(text.as_bytes()); // a reader that has seen enough is no failure
        return ExitCode::SUCCESS;
    }
    match words.first().and_then(|word| word.to_str()) {
        Some("serve") => serve::run(&server(), &words[1..]),
        Some("superuser") => serve::superuser(&server(), &words[1..]),
        Some("prove") => prove(&words[1..]),
        _ => {
            let world = client::World {
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
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn server() -> serve::World {
    let executable = std::env::current_exe().ok();
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let executable_dir = executable.and_then(|path| Some(path.parent()?.to_owned()));
    serve::World {
        env: Box::new(|name| std::env::var_os(name)?.into_string().ok()),
        executable_dir: executable_dir.unwrap_or_else(|| directory.clone()),
        directory,
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::default()),
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn prove(words: &[OsString]) -> ExitCode {
    let world = drill::World {
        env: Box::new(|name| std::env::var_os(name)?.into_string().ok()),
        executable: std::env::current_exe().unwrap_or_else(|_| "oraclenet".into()),
        directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
    };
    drill::run(&world, words)
}
