//! The store's contract and its failures, on every backend.

mod support;

mod backends;
mod ceph;
mod disk;
mod location;
mod services;
