//! `oraclenet prove`: shows that nothing is lost, without a person.
//!
//! It stands outside the system under test: it knows it by HTTP, signals, exit codes, logs, objects in a bucket and
//! files that plain SQLite opens, and links nothing of it. A platform ([`platform`]) runs containers by App Platform's
//! rules, writers ([`load`]) keep a ledger ([`ledger`]) of every write and its answer, scenarios ([`scenario`]) do harm,
//! witnesses ([`witness`]) look afterwards, and a pure function ([`judge`]) compares all that with one table
//! ([`expect`]).

pub mod api;
pub mod bucket;
pub mod clock;
pub mod container;
pub mod engine;
pub mod error;
pub mod expect;
pub mod facts;
pub mod judge;
pub mod ledger;
pub mod left;
pub mod litestream;
pub mod live;
pub mod load;
pub mod options;
pub mod plain;
pub mod platform;
pub mod proxy;
pub mod remote;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shown;
pub mod stop;
pub mod timeline;
pub mod wire;
pub mod witness;

use error::{DrillError, Kind};
use left::Left;
use options::{Options, Where};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use stop::Signals;

/// Looks an environment variable up.
pub type Env = Box<dyn Fn(&str) -> Option<String>>;

/// What a run is given from outside.
pub struct World {
    /// The environment.
    pub env: Env,
    /// The `oraclenet` executable: what containers run.
    pub executable: PathBuf,
    /// The working directory.
    pub directory: PathBuf,
}

/// Exit codes.
pub mod exit {
    /// Something did not hold, or the run could not be carried out.
    pub const FAILED: u8 = 1;
    /// The arguments or the environment make no sense.
    pub const USAGE: u8 = 2;
    /// What could be run held, and something could not be run, not be shown, or not be removed.
    pub const INCOMPLETE: u8 = 3;
}

/// Runs the verb with the words after it.
#[must_use]
pub fn run(world: &World, words: &[OsString]) -> ExitCode {
    match prove(world, words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&format!("Error: {error}"));
            ExitCode::from(if error.kind() == Kind::Usage { exit::USAGE } else { exit::FAILED })
        }
    }
}

fn prove(world: &World, words: &[OsString]) -> Result<u8, DrillError> {
    let options = Options::read(words)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| DrillError::machine("no runtime", &error))?;
    runtime.block_on(async {
        if let Where::Plain(directory) = &options.place {
            let served = plain::serve(&world.directory.join(directory)).await;
            return served.map(|()| 0).map_err(|error| DrillError::machine(directory.clone(), &error));
        }
        let (mut signals, left) = (Signals::listen()?, Left::default());
        let done = run::run(world, &options, &left, &mut signals).await;
        if done.is_err() {
            left.named().iter().for_each(|what| tell(&format!("left behind: {what}")));
        }
        done
    })
}

/// Progress and errors, for people.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}"); // nobody reads it: no reason to stop
}
