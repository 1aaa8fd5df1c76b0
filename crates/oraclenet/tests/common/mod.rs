//! What the tests against the real PocketBase share: the two servers as child processes, and a plain HTTP client.
//!
//! The client speaks HTTP/1.1 over a socket of its own, because a library would mend what is to be compared: odd
//! paths, unknown methods, header lines, the exact end of a body. Nothing here retries a request.
#![allow(dead_code, reason = "each of the test binaries uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    reason = "child processes are waited for by the real clock, with a deadline"
)]

pub(crate) mod http;
pub(crate) mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The superuser that every server of these tests has.
pub(crate) const ADMIN: (&str, &str) = ("admin@test.local", "testpass123");

/// How long a server may take to come up, a frame to arrive, a child to end.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// A variable of the environment that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The value of a variable that names a witness; without it the test is left out, but never in CI.
pub(crate) fn witness(name: &str, test: &str) -> Option<PathBuf> {
    let found = variable(name).map(PathBuf::from);
    if found.is_none() {
        assert_ne!(variable("CI").as_deref(), Some("true"), "{test} must run in CI: set {name}");
        say(&format!("left out: {test} needs {name}"));
    }
    found
}

/// Asks until there is an answer; panics at the deadline, saying what was waited for.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A word to whoever runs the tests.
#[allow(clippy::print_stderr, reason = "what was left out or seen is said, and tests have no other voice")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
