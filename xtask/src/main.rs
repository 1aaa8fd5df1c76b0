//! `cargo xtask`: the commands of the house.
//!
//! Reads the environment and the arguments, and hands them on; decides nothing itself. Nothing here is linked into
//! what users run.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people talks on the terminal")]

mod ci;
mod clock;
mod peers;
mod sim;
mod stage;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

  ci [STAGE..]   everything that gates: fmt, tidy, clippy, docs, tests (or only the stages named);
                 with CI=true it is an error if something could not be run
  tidy           only the rules of the house
  sim [--seeds N] [--from K] [--scenario S] [--jobs J]
                 many simulations beside each other, in release; exit code 1 if one finds something
  demo           replicate, kill, wipe, restore, compare: the proof on one screen
  help           this
";

/// What the commands need to know of the machine, read once.
pub(crate) struct Machine {
    /// The root of the repository.
    pub(crate) root: PathBuf,
    /// The cargo that runs us.
    pub(crate) cargo: PathBuf,
    /// Where cargo builds to.
    pub(crate) target: PathBuf,
    /// Where downloaded peers are kept between runs.
    pub(crate) cache: PathBuf,
    /// `CI=true`: nothing may be left out.
    pub(crate) strict: bool,
}

impl Machine {
    #[allow(clippy::disallowed_methods, reason = "main.rs is where the environment is read")]
    fn read() -> Result<Self, String> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().ok_or("xtask has no parent folder")?.to_path_buf();
        let caches = var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")));
        Ok(Self {
            cargo: var("CARGO").unwrap_or_else(|| PathBuf::from("cargo")),
            target: var("CARGO_TARGET_DIR").unwrap_or_else(|| root.join("target")),
            cache: caches.unwrap_or_else(|| root.join(".cache")).join("litekeep-tests"),
            strict: var("CI").is_some_and(|value| value.as_os_str() == "true"),
            root,
        })
    }

    /// A program that a debug build makes.
    pub(crate) fn built(&self, name: &str) -> PathBuf {
        self.root.join(&self.target).join("debug").join(name)
    }

    /// A command that runs in the root of the repository.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Cargo in the root of the repository.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(&self.cargo);
        command.args(arguments);
        command
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let machine = match Machine::read() {
        Ok(machine) => machine,
        Err(problem) => return fail(&problem),
    };
    match words.as_slice() {
        ["ci", stages @ ..] => ci::run(&machine, stages),
        ["tidy"] => ci::run(&machine, &["tidy"]),
        ["sim", rest @ ..] => sim::run(&machine, rest),
        ["demo", rest @ ..] => demo(&machine, rest),
        [] | ["help" | "-h" | "--help"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => fail(&format!("no such command: {}\n\n{USAGE}", words.join(" "))),
    }
}

/// The demonstration needs SQLite, so it is a program of its own: xtask itself stays quick to build.
fn demo(machine: &Machine, rest: &[&str]) -> ExitCode {
    let build =
        machine.cargo(["build", "--release", "-p", "litekeep-cli", "-p", "testkit", "--bins"]).status();
    if !build.is_ok_and(|status| status.success()) {
        return fail("the build failed");
    }
    let release = machine.root.join(&machine.target).join("release");
    let status =
        machine.command(release.join("litekeep-demo")).arg(release.join("litekeep")).args(rest).status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("xtask: {problem}");
    ExitCode::FAILURE
}
