//! The store's contract and its failures, on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests: helpers, too, may stop the test and talk"
)]
#![allow(clippy::cast_possible_truncation, reason = "patterns of bytes from counters")]

mod support;

mod backends;
mod ceph;
mod disk;
mod dots;
mod location;
mod probe;
mod services;
