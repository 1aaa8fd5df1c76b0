//! Runners of the real programs that serve as witnesses: official Litestreams, the official VFS extension, and a
//! Python that brings an SQLite of its own.
//!
//! `cargo xtask ci` fetches them and names them in the environment; a plain `cargo test` finds those that an earlier
//! run left in the cache. A test that lacks its witness says so and ends, unless `CI` is `true`, where that is a
//! failure. Nothing here is fetched or installed.

mod app;
mod litestream;
mod vfs;

pub use app::{App, Reply};
pub use litestream::Litestream;
pub use vfs::{Look, Vfs};

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// The variable by which the environment names the witness, and where it is without one: in the cache of the fetching
/// script, or at an absolute path.
const PYTHON: (&str, &str) = ("LITEKEEP_TEST_PYTHON", "/usr/bin/python3");
const VFS: (&str, &str) = ("LITEKEEP_TEST_LITESTREAM_VFS", "peers/litestream-vfs-0.5.17/litestream-vfs.so");
const LITESTREAM_0_3_13: (&str, &str) =
    ("LITEKEEP_TEST_LITESTREAM_0_3_13", "peers/litestream-0.3.13/litestream");
const LITESTREAM_0_5_15: (&str, &str) =
    ("LITEKEEP_TEST_LITESTREAM_0_5_15", "peers/litestream-0.5.15/litestream");
const LITESTREAM_0_5_17: (&str, &str) =
    ("LITEKEEP_TEST_LITESTREAM_0_5_17", "peers/litestream-0.5.17/litestream");

/// An S3 service with a bucket for tests.
#[derive(Clone)]
pub struct Bucket {
    /// `http://host:port`.
    pub endpoint: String,
    /// Access key.
    pub access_key_id: String,
    /// Secret key.
    pub secret_access_key: String,
    /// Region.
    pub region: String,
    /// Name of the bucket, which exists.
    pub name: String,
}

impl Bucket {
    /// The real gateway that `cargo xtask ci` starts, by the file that `LITEKEEP_TEST_S3` names; `None` without it.
    ///
    /// # Panics
    /// If the file says too little, and under `CI=true` without it.
    #[must_use]
    pub fn real() -> Option<Self> {
        let name = "LITEKEEP_TEST_S3";
        let Some(file) = variable(name) else { return missing(name) };
        let text = std::fs::read_to_string(file).expect("read the settings of the gateway");
        let get = |key: &str| {
            let found = text.lines().filter_map(|line| line.split_once('=')).find(|(it, _)| *it == key);
            found.unwrap_or_else(|| panic!("the gateway did not say its {key}")).1.to_owned()
        };
        Some(Self {
            endpoint: get("S3_ENDPOINT"),
            access_key_id: get("S3_ACCESS_KEY_ID"),
            secret_access_key: get("S3_SECRET_ACCESS_KEY"),
            region: get("S3_REGION"),
            name: get("S3_BUCKET"),
        })
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place of testkit that reads the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A Python with its own SQLite; `None` if there is none.
///
/// # Panics
/// Under `CI=true` without one.
#[must_use]
pub fn python() -> Option<PathBuf> {
    find(PYTHON)
}

/// Where a witness is; `None`, with a word on stderr, if it is not there.
fn find((name, cached): (&str, &str)) -> Option<PathBuf> {
    let found = variable(name).map(PathBuf::from).or_else(|| {
        let caches = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
        Some(caches.join("litekeep-tests").join(cached)).filter(|path| path.exists())
    });
    found.or_else(|| missing(name))
}

#[allow(clippy::print_stderr, reason = "a test that leaves something out says so")]
fn missing<T>(name: &str) -> Option<T> {
    assert!(
        variable("CI").is_none_or(|value| value != "true"),
        "{name} is not set, and under CI=true nothing may be left out"
    );
    eprintln!("not run: {name} is not set; `cargo xtask ci` sets it");
    None
}

/// SIGTERM to a process that this one started and has not waited for yet.
///
/// # Panics
/// If the system refuses.
pub fn terminate(process: u32) {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("send SIGTERM");
}

/// A command whose environment holds no settings of the person who runs the tests.
#[must_use]
pub fn clean(program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    for name in ["AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        command.env_remove(name);
    }
    for name in ["LITESTREAM_CONFIG", "LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY", "LOG_LEVEL"]
    {
        command.env_remove(name);
    }
    command
}
